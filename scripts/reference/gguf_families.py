"""Converts the conformance checkpoints of several families to GGUF with llama.cpp's own converter, without their tokenizers.

    git clone https://github.com/ggml-org/llama.cpp && pip install torch transformers safetensors sentencepiece
    python scripts/reference/gguf_families.py llama.cpp bedrock-models/tests/fixtures

So the layout of these files is the converter's, not ours. What GGUF cannot say of these small models (see CHANGES) is changed in a
copy of their config.json first, and the changed values are what tests/gguf_families.rs compares with.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from safetensors.torch import load_file, save_file

# Fields of config.json whose value a GGUF file has no key for, with the value that readers of GGUF assume.
CHANGES = {
    "qwen2": {},
    "qwen3": {},
    "gemma2": {"query_pre_attn_scalar": 12, "rope_theta": 10000.0},
    "gemma3_text": {"query_pre_attn_scalar": 16},
    "phi3": {},
    "phi3_longrope": {},
    "cohere": {},
    "gpt2": {},
    "mixtral": {},
    "t5_original": {"relative_attention_max_distance": 128},
    "t5_v11": {"relative_attention_max_distance": 128},
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("llama_cpp", type=Path)
    parser.add_argument("fixtures", type=Path)
    arguments = parser.parse_args()
    sys.path[:0] = [str(arguments.llama_cpp), str(arguments.llama_cpp / "gguf-py")]
    import gguf
    from conversion import get_model_class

    out = arguments.fixtures / "gguf_families"
    out.mkdir(exist_ok=True)
    for name, changes in CHANGES.items():
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            shutil.copytree(arguments.fixtures / "conformance" / name, folder, dirs_exist_ok=True)
            for path in folder.glob("expected.*"):
                path.unlink()
            config = json.loads((folder / "config.json").read_text())
            config.update(changes)
            if name == "phi3_longrope":
                config["rope_scaling"]["original_max_position_embeddings"] = config["original_max_position_embeddings"]
            (folder / "config.json").write_text(json.dumps(config))
            if name == "gpt2":
                # The converter does not know the buffers of the causal mask that the original checkpoint has.
                weights = load_file(folder / "model.safetensors")
                weights = {key: value for key, value in weights.items() if not key.endswith(".attn.bias")}
                save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
            kind = get_model_class(config["architectures"][0])

            class WithoutTokenizer(kind):
                model_arch = kind.model_arch

                def set_vocab(self):
                    # What a file has per layer, the converter writes only for some models.
                    if pattern := config.get("sliding_window_pattern"):
                        self.gguf_writer.add_sliding_window_pattern(pattern)

            target = out / f"{name}.gguf"
            model = WithoutTokenizer(folder, gguf.LlamaFileType.ALL_F32, target)
            model.write()
            print(name, target.stat().st_size)


if __name__ == "__main__":
    main()
