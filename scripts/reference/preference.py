"""Makes the preference fixture: Direct Preference Optimization of tiny models, as PyTorch and PEFT compute it.

    pip install torch transformers peft safetensors
    python -P scripts/reference/preference.py bedrock-models/tests/fixtures

The models are those of the conformance fixtures, the adapters those of the training fixtures. Each is trained twice, all weights and the
adapter, on three pairs of random tokens, five full-batch steps. The reference is the model without the adapter, before the first step.
PyTorch on CPU, float32, eager attention.
"""

import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

CASES = ["llama_llama3", "qwen2", "gemma2", "gpt2"]
BETA = 0.3
SETTINGS = {"lr": {"full": 0.0003, "lora": 0.002}, "weight_decay": 0.01, "betas": [0.9, 0.999], "eps": 1e-8}


def load(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


def pairs(vocabulary, seed, padding):
    generator = torch.Generator().manual_seed(seed)

    def tokens(length):
        ids = torch.randint(3, vocabulary, (length,), generator=generator).tolist()
        # PyTorch leaves out the embedding gradient of the padding token.
        return [3 if token == padding else token for token in ids]

    lengths = ((5, 7, 4), (3, 2, 9), (8, 3, 3))
    return [{"prompt": tokens(a), "chosen": tokens(b), "rejected": tokens(c)} for a, b, c in lengths]


def log_probability(model, prompt, answer):
    logits = model(input_ids=torch.tensor([prompt + answer]), use_cache=False).logits[0]
    scores = torch.log_softmax(logits[len(prompt) - 1:-1], dim=-1)
    return scores.gather(1, torch.tensor(answer)[:, None]).sum()


def of_pairs(model, rows):
    return torch.stack([torch.stack([log_probability(model, row["prompt"], row[answer])
                                     for answer in ("chosen", "rejected")]) for row in rows])


def measure(model, rows, reference):
    rewards = BETA * (of_pairs(model, rows) - reference)
    margins = rewards[:, 0] - rewards[:, 1]
    loss = -torch.nn.functional.logsigmoid(margins).mean()
    return loss, float(margins.detach().mean()), float((margins > 0).float().mean())


def train(model, rows, reference, method):
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=SETTINGS["lr"][method], weight_decay=SETTINGS["weight_decay"],
                                  betas=SETTINGS["betas"], eps=SETTINGS["eps"])
    losses, margins, accuracies, norm = [], [], [], None
    for step in range(6):
        optimizer.zero_grad()
        loss, margin, accuracy = measure(model, rows, reference)
        losses.append(float(loss.detach()))
        margins.append(margin)
        accuracies.append(accuracy)
        if step == 5:
            break
        loss.backward()
        if norm is None:
            norm = float(torch.sqrt(sum((p.grad.double() ** 2).sum() for p in parameters if p.grad is not None)))
        optimizer.step()
    return {"losses": losses, "margins": margins, "accuracies": accuracies, "gradient_norm": norm}


def main(root):
    cases = []
    for index, case in enumerate(CASES):
        folder = root / "conformance" / case
        torch.manual_seed(index)
        model = load(folder)
        rows = pairs(model.config.vocab_size, 40 + index, model.config.pad_token_id)
        with torch.no_grad():
            reference = of_pairs(model, rows)
        full = train(model, rows, reference, "full")
        model = PeftModel.from_pretrained(load(folder), root / "training" / case, is_trainable=True).eval()
        lora = train(model, rows, reference, "lora")
        cases.append({"case": case, "beta": BETA, "settings": SETTINGS, "pairs": rows,
                      "reference": reference.tolist(), "full": full, "lora": lora})
        print(case, full["losses"], lora["losses"])
    out = root / "preference"
    out.mkdir(exist_ok=True)
    (out / "expected.json").write_text(json.dumps(cases) + "\n")


main(Path(sys.argv[1]))
