"""Makes the training fixtures: losses of tiny models over steps of AdamW, as PyTorch and PEFT compute them.

    pip install torch transformers peft safetensors sentencepiece
    python -P scripts/reference/training.py bedrock-models/tests/fixtures

The models are those of the conformance fixtures. Each is trained twice, all weights and a LoRA adapter (random, written beside the
figures), on three sequences of random tokens, five full-batch steps. PyTorch on CPU, float32, eager attention.
"""

import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES = {
    "llama_llama3": (LINEAR, True),
    "mistral_sliding": (["q_proj", "v_proj"], False),
    "qwen2": (LINEAR, False),
    "qwen3": (["k_proj", "o_proj", "down_proj"], True),
    "gemma2": (LINEAR, False),
    "gemma3_text": (LINEAR, True),
    "phi3": (["qkv_proj", "o_proj", "gate_up_proj", "down_proj"], False),
    "cohere_qknorm": (LINEAR, False),
    "gpt2": (["c_attn", "c_fc", "c_proj"], False),
    "mixtral": (["q_proj", "k_proj", "v_proj", "o_proj"], False),
}
# Beside the factors: scales of their own, ranks of their own, modules and biases whole. Bases as above.
MORE = {
    "llama_llama3_patterns": ("llama_llama3", LINEAR, {
        "use_rslora": True, "modules_to_save": ["norm"],
        "rank_pattern": {r"layers\.\d+\.mlp\.down_proj": 2, "k_proj": 5},
        "alpha_pattern": {r".*\.0\..*[qv]_proj": 7, "q_proj": 2}}),
    "gpt2_wholes": ("gpt2", ["c_attn"], {"bias": "all", "modules_to_save": ["wte", "mlp.c_proj"]}),
    "phi3_wholes": ("phi3", ["qkv_proj"], {"modules_to_save": ["gate_up_proj", "lm_head"]}),
}
SETTINGS = {"lr": 0.01, "weight_decay": 0.01, "betas": [0.9, 0.999], "eps": 1e-8}


def load(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


def sequences(vocabulary, seed, padding):
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for length, masked in ((19, 0), (12, 5), (7, 2)):
        ids = torch.randint(3, vocabulary, (length,), generator=generator).tolist()
        if padding is not None and padding < vocabulary:
            # Its embedding gets no gradient from here, though the loss counts it.
            ids[4] = padding
        rows.append({"input_ids": ids, "labels": [-100] * masked + ids[masked:]})
    return rows


def loss_of(model, rows):
    total, count = 0.0, 0
    for row in rows:
        logits = model(input_ids=torch.tensor([row["input_ids"]]), use_cache=False).logits[0]
        labels = torch.tensor(row["labels"])[1:]
        total = total + torch.nn.functional.cross_entropy(logits[:-1], labels, ignore_index=-100, reduction="sum")
        count += int((labels >= 0).sum())
    return total / count


def train(model, rows):
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=SETTINGS["lr"], weight_decay=SETTINGS["weight_decay"],
                                  betas=SETTINGS["betas"], eps=SETTINGS["eps"])
    losses, norm = [], None
    for _ in range(5):
        optimizer.zero_grad()
        loss = loss_of(model, rows)
        loss.backward()
        if norm is None:
            norm = float(torch.sqrt(sum((p.grad.double() ** 2).sum() for p in parameters if p.grad is not None)))
        losses.append(float(loss))
        optimizer.step()
    with torch.no_grad():
        losses.append(float(loss_of(model, rows)))
    return {"losses": losses, "gradient_norm": norm}


def main(root):
    out = root / "training"
    cases = {name: (name, targets, {"use_rslora": stabilised}) for name, (targets, stabilised) in CASES.items()} | MORE
    for index, (name, (case, targets, more)) in enumerate(cases.items()):
        if len(sys.argv) > 2 and name not in sys.argv[2:]:
            continue
        folder = root / "conformance" / case
        torch.manual_seed(index)
        model = load(folder)
        rows = sequences(model.config.vocab_size, index, model.config.pad_token_id)
        full = train(model, rows)
        config = LoraConfig(r=3, lora_alpha=5, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM",
                            fan_in_fan_out=case == "gpt2", **more)
        model = get_peft_model(load(folder), config).eval()
        with torch.no_grad():
            for parameter in (p for n, p in model.named_parameters() if p.requires_grad and "lora_" not in n):
                parameter.add_(torch.randn_like(parameter) * 0.05)
        model.save_pretrained(out / name)
        (out / name / "README.md").unlink(missing_ok=True)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([rows[0]["input_ids"]]), use_cache=False).logits[0, -1].tolist()
        lora = train(model, rows)
        figures = {"case": case, "settings": SETTINGS, "sequences": rows, "full": full, "lora": lora, "logits": logits}
        (out / name / "expected.json").write_text(json.dumps(figures) + "\n")
        print(name, full["losses"][0], full["losses"][-1], lora["losses"][-1])


main(Path(sys.argv[1]))
