"""Writes bedrock-guard/data/background.txt: short harmless texts about everything, against which denied topics are calibrated.

python scripts/background.py DATA > bedrock-guard/data/background.txt

DATA holds the folders prompt-attack (its benign prompts under Apache-2.0 and MIT alone are used), qa-gsm8k (MIT) and retrieval-scitldr
(Apache-2.0). The choice is by hash, so the same data give the same file.
"""
import hashlib
import json
import re
import sys

KINDS = {  # source: how many texts
    "ifeval": 60, "helm-chatgpt-prompts": 70, "self-instruct-user": 60, "self-instruct": 50, "mt-bench": 50, "vicuna-bench": 20,
    "gsm8k": 40,
}


def sentence(text):
    """The first sentence of a text that says something."""
    for part in re.split(r"(?<=[.!?])\s+|\n+", text):
        part = " ".join(part.split())
        if 25 <= len(part) <= 140 and part.isascii():
            return part
    return None


def chosen(texts, count):
    texts = sorted(set(filter(None, map(sentence, texts))), key=lambda text: hashlib.sha256(text.encode()).digest())
    return texts[:count]


data = sys.argv[1]
benign = [json.loads(line) for line in open(f"{data}/prompt-attack/benign.jsonl")]
lines = []
for source, count in KINDS.items():
    texts = [item["text"] for item in benign if item["source"] == source and item["licence"] in ("Apache-2.0", "MIT")]
    lines += chosen(texts, count)
abstracts = [json.loads(line) for line in open(f"{data}/retrieval-scitldr/docs.jsonl")]
lines += chosen([item["text"] for item in abstracts], 20)
print("# Harmless texts about everything: made by scripts/background.py from texts under MIT and Apache-2.0.")
print("\n".join(lines))
