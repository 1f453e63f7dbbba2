"""Makes the fixture of encoders in training: sentence embeddings and classifiers, as PyTorch computes them.

    pip install torch transformers tokenizers safetensors peft
    python -P scripts/reference/encoder_training.py bedrock-models/tests/fixtures

The models are those of the conformance fixtures, all weights are trained. Embeddings: pairs, of which the last four cases have negatives
too, cosines times 20, cross-entropy with the own positive among all positives and negatives of the batch (sentence-transformers'
MultipleNegativesRankingLoss); also by LoRA adapters of PEFT, whose factors before the first step are stored. Classifiers: cross-entropy. Five full-batch steps. PyTorch on CPU, float32, eager attention, no dropout.
"""

import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from transformers import AutoModel, AutoModelForSequenceClassification

EMBEDDERS = ["bert_mean", "bert_cls", "xlm_roberta_mean", "modernbert_embed", "nomic_embed", "mpnet_embed", "deberta_v2_entities"]
CLASSIFIER_ADAPTERS = {
    "bert_labels": ["query", "value"],
    "modernbert_labels": ["Wqkv"],
    "deberta_v2_nli": ["query_proj", "key_proj", "value_proj"],
    "deberta_v2_conv": ["pos_key_proj", "pos_query_proj", "query_proj", "intermediate.dense"],
}
CLASSIFIERS = ["bert_labels", "modernbert_labels", "deberta_v2_nli", "deberta_v2_conv"]
ADAPTERS = {
    "bert_mean": ["query", "value"],
    "bert_cls": ["query", "key", "intermediate.dense"],
    "xlm_roberta_mean": ["query", "value", "dense"],
    "modernbert_embed": ["Wqkv", "Wo", "Wi"],
    "mpnet_embed": ["q", "v"],
    "deberta_v2_entities": ["query_proj", "key_proj", "value_proj", "dense"],
}
SETTINGS = {"lr": 0.002, "weight_decay": 0.01, "betas": [0.9, 0.999], "eps": 1e-8}
SCALE = 20.0
ROWS = [
    ("the storm", "rain", "a calm day"),
    ("a boat", "the ship", "the keeper"),
    ("the light", "a lamp", "bread"),
    ("maps", "the coast", "a dog"),
]
TEXTS = ["calm", "the sea", "the storm is here", "wind", "the waves"]


def load(loader, folder):
    return loader.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


class Encoder:
    def __init__(self, folder):
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        prompts = folder / "config_sentence_transformers.json"
        prompts = json.loads(prompts.read_text())["prompts"] if prompts.exists() else {}
        self.prompts = {"query": prompts.get("query", ""), "document": prompts.get("document", "")}
        pooling = folder / "1_Pooling/config.json"
        self.cls = pooling.exists() and json.loads(pooling.read_text())["pooling_mode_cls_token"]
        config = json.loads((folder / "config.json").read_text())
        self.types = config["model_type"] in ("bert", "nomic_bert")

    def inputs(self, text):
        encoding = self.tokenizer.encode(text)
        assert len(encoding.ids) <= 24, (text, len(encoding.ids))
        inputs = {"input_ids": torch.tensor([encoding.ids])}
        return inputs | ({"token_type_ids": torch.tensor([encoding.type_ids])} if self.types else {})

    def vector(self, model, text, purpose):
        hidden = model(**self.inputs(self.prompts[purpose] + text)).last_hidden_state[0]
        return hidden[0] if self.cls else hidden.mean(dim=0)


def contrast(encoder, model, rows):
    queries = torch.stack([encoder.vector(model, row["anchor"], "query") for row in rows])
    documents = [row["positive"] for row in rows] + [row["negative"] for row in rows if "negative" in row]
    documents = torch.stack([encoder.vector(model, text, "document") for text in documents])
    normal = torch.nn.functional.normalize
    scores = normal(queries, dim=1) @ normal(documents, dim=1).T * SCALE
    labels = torch.arange(len(rows))
    return torch.nn.functional.cross_entropy(scores, labels), scores.argmax(dim=1) == labels


def classify(encoder, model, rows):
    logits = torch.cat([model(**encoder.inputs(row["text"])).logits for row in rows])
    labels = torch.tensor([model.config.label2id[row["label"]] for row in rows])
    return torch.nn.functional.cross_entropy(logits, labels), logits.argmax(dim=1) == labels


def train(model, measure):
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=SETTINGS["lr"], weight_decay=SETTINGS["weight_decay"],
                                  betas=SETTINGS["betas"], eps=SETTINGS["eps"])
    figures = {"losses": [], "accuracies": []}
    for step in range(6):
        optimizer.zero_grad()
        loss, right = measure()
        figures["losses"].append(float(loss.detach()))
        figures["accuracies"].append(float(right.float().mean()))
        if step == 5:
            return figures
        loss.backward()
        if step == 0:
            squares = sum((p.grad.double() ** 2).sum() for p in parameters if p.grad is not None)
            figures["gradient_norm"] = float(torch.sqrt(squares))
        optimizer.step()


def main(root):
    expected = {"settings": SETTINGS, "scale": SCALE, "embedders": [], "adapters": [], "classifiers": [],
                "classifier_adapters": []}
    out = root / "encoder_training"
    out.mkdir(exist_ok=True)
    for index, case in enumerate(EMBEDDERS):
        folder = root / "conformance" / case
        encoder, model = Encoder(folder), load(AutoModel, folder)
        rows = [dict(zip(("anchor", "positive", "negative"), row if index >= 2 else row[:2])) for row in ROWS]
        figures = train(model, lambda: contrast(encoder, model, rows))
        expected["embedders"].append({"case": case, "rows": rows} | figures)
        print(case, figures)
    for case, targets in ADAPTERS.items():
        folder = root / "conformance" / case
        torch.manual_seed(0)
        config = LoraConfig(task_type="FEATURE_EXTRACTION", r=4, lora_alpha=8, target_modules=targets,
                            init_lora_weights=False)
        encoder, model = Encoder(folder), get_peft_model(load(AutoModel, folder), config).eval()
        model.save_pretrained(out / case)
        (out / case / "README.md").unlink()
        rows = [dict(zip(("anchor", "positive", "negative"), row)) for row in ROWS]
        figures = train(model, lambda: contrast(encoder, model, rows))
        expected["adapters"].append({"case": case, "rows": rows} | figures)
        print(case, figures)
    for case in CLASSIFIERS:
        folder = root / "conformance" / case
        encoder, model = Encoder(folder), load(AutoModelForSequenceClassification, folder)
        names = [model.config.id2label[i] for i in range(model.config.num_labels)]
        rows = [{"text": text, "label": names[i % len(names)]} for i, text in enumerate(TEXTS)]
        figures = train(model, lambda: classify(encoder, model, rows))
        expected["classifiers"].append({"case": case, "rows": rows} | figures)
        print(case, figures)
    for case, targets in CLASSIFIER_ADAPTERS.items():
        folder = root / "conformance" / case
        torch.manual_seed(0)
        config = LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8, target_modules=targets, init_lora_weights=False)
        encoder, model = Encoder(folder), load(AutoModelForSequenceClassification, folder)
        names = [model.config.id2label[i] for i in range(model.config.num_labels)]
        model = get_peft_model(model, config).eval()
        model.save_pretrained(out / case)
        (out / case / "README.md").unlink()
        rows = [{"text": text, "label": names[i % len(names)]} for i, text in enumerate(TEXTS)]
        figures = train(model, lambda: classify(encoder, model, rows))
        expected["classifier_adapters"].append({"case": case, "rows": rows} | figures)
        print(case, figures)
    (out / "expected.json").write_text(json.dumps(expected) + "\n")


main(Path(sys.argv[1]))
