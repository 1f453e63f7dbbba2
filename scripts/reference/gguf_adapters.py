"""Writes the adapters of the training fixtures as GGUF files, in the layout of llama.cpp's converter: for families whose rows keep their order.

    pip install gguf safetensors torch
    python -P scripts/reference/gguf_adapters.py bedrock-models/tests/fixtures

The names are those of llama.cpp's own table (`gguf.get_tensor_name_map`). What PEFT divides by the root of the rank is multiplied by it in `adapter.lora.alpha`, of
which readers know nothing else.
"""

import json
import math
import sys
from pathlib import Path

import gguf
from safetensors.torch import load_file

ARCHITECTURES = {
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "gemma2": gguf.MODEL_ARCH.GEMMA2,
    "gemma3_text": gguf.MODEL_ARCH.GEMMA3,
    "phi3": gguf.MODEL_ARCH.PHI3,
}


def main(root):
    out = root / "gguf_adapters"
    out.mkdir(exist_ok=True)
    for case, architecture in ARCHITECTURES.items():
        config = json.loads((root / "training" / case / "adapter_config.json").read_text())
        layers = json.loads((root / "conformance" / case / "config.json").read_text())["num_hidden_layers"]
        names = gguf.get_tensor_name_map(architecture, layers)
        writer = gguf.GGUFWriter(out / f"{case}.gguf", gguf.MODEL_ARCH_NAMES[architecture])
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        alpha = config["lora_alpha"] * (math.sqrt(config["r"]) if config["use_rslora"] else 1)
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
        for name, tensor in load_file(root / "training" / case / "adapter_model.safetensors").items():
            module, factor, _ = name.removeprefix("base_model.model.").rsplit(".", 2)
            target = names.get_name(module)
            writer.add_tensor(f"{target}.weight.{factor.lower()}", tensor.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        print(case, (out / f"{case}.gguf").stat().st_size)


main(Path(sys.argv[1]))
