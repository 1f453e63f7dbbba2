"""Makes the training fixtures of models with an encoder: losses over steps of AdamW, as PyTorch and PEFT compute them.

    pip install torch transformers peft safetensors
    python -P scripts/reference/seq2seq_training.py bedrock-models/tests/fixtures

As training.py beside it, on prompts and answers of random tokens: the encoder reads the prompt, the decoder learns the answer.
"""

import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM

SETTINGS = {"lr": 0.005, "weight_decay": 0.01, "betas": [0.9, 0.999], "eps": 1e-8}
CASES = {
    "t5_original": (["q", "v"], False),
    "t5_v11": (["q", "k", "v", "o", "wi_0", "wi_1", "wo"], True),
    "mt5_silu": (["q", "v", "wo"], False),
}


def load(folder):
    return AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def sequences(vocabulary, seed):
    generator = torch.Generator().manual_seed(seed)
    tokens = lambda length: torch.randint(3, vocabulary, (length,), generator=generator).tolist()
    return [{"prompt": tokens(prompt), "answer": tokens(answer)} for prompt, answer in ((17, 9), (6, 14), (4, 1))]


def logits_of(model, row):
    start = [model.config.decoder_start_token_id]
    return model(input_ids=torch.tensor([row["prompt"]]),
                 decoder_input_ids=torch.tensor([start + row["answer"][:-1]]), use_cache=False).logits[0]


def loss_of(model, rows):
    total, count = 0.0, 0
    for row in rows:
        labels = torch.tensor(row["answer"])
        total = total + torch.nn.functional.cross_entropy(logits_of(model, row), labels, reduction="sum")
        count += len(labels)
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
        losses.append(float(loss.detach()))
        optimizer.step()
    with torch.no_grad():
        losses.append(float(loss_of(model, rows)))
    return {"losses": losses, "gradient_norm": norm}


def main(root):
    out = root / "seq2seq_training"
    for index, (case, (targets, stabilised)) in enumerate(CASES.items()):
        folder = root / "conformance" / case
        torch.manual_seed(index)
        model = load(folder)
        rows = sequences(model.config.vocab_size, index)
        full = train(model, rows)
        config = LoraConfig(r=3, lora_alpha=5, target_modules=targets, use_rslora=stabilised, init_lora_weights=False,
                            task_type="SEQ_2_SEQ_LM")
        model = get_peft_model(load(folder), config).eval()
        model.save_pretrained(out / case)
        (out / case / "README.md").unlink(missing_ok=True)
        with torch.no_grad():
            logits = logits_of(model, rows[0])[-1].tolist()
        lora = train(model, rows)
        figures = {"case": case, "settings": SETTINGS, "sequences": rows, "full": full, "lora": lora, "logits": logits}
        (out / case / "expected.json").write_text(json.dumps(figures) + "\n")
        print(case, full, lora)


main(Path(sys.argv[1]))
