"""Makes the conformance fixtures of encoder families beyond BERT, in settings that published checkpoints seldom have.

    pip install torch transformers tokenizers safetensors gguf numpy
    python -P scripts/reference/encoders.py bedrock-models/tests/fixtures/conformance

As conformance.py beside it, whose tokenizers, texts and format it uses.
"""

import argparse
import importlib.util
import shutil
import tempfile
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification

# With -P, files of this folder do not hide the packages that have their names.
spec = importlib.util.spec_from_file_location("conformance", Path(__file__).with_name("conformance.py"))
conformance = importlib.util.module_from_spec(spec)
spec.loader.exec_module(conformance)
STORY, TEXTS, Case = conformance.STORY, conformance.TEXTS, conformance.Case
randomize, save_tokenizer, write_json = conformance.randomize, conformance.save_tokenizer, conformance.write_json
unigram, wordpiece = conformance.unigram, conformance.wordpiece


def labels(*names):
    return {"id2label": {str(i): name for i, name in enumerate(names)}, "label2id": {n: i for i, n in enumerate(names)}}


def folder(case, loader, config, tokenizer, seed, published=None):
    """Writes a model and reads it back; `published` replaces the configuration afterwards, in another spelling of it."""
    tokenizer, names = tokenizer
    config = {"vocab_size": tokenizer.get_vocab_size()} | config
    write_json(case.folder / "config.json", config)
    save_tokenizer(case.folder, tokenizer, names, model_max_length=64)
    model = loader.from_config(AutoConfig.from_pretrained(case.folder), attn_implementation="eager")
    randomize(model, seed)
    with tempfile.TemporaryDirectory() as saved:
        # Names of tensors as published checkpoints have them.
        model.save_pretrained(saved)
        shutil.copy(Path(saved) / "model.safetensors", case.folder)
    loaded, info = loader.from_pretrained(
        case.folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    for (name, a), b in zip(model.named_parameters(), loaded.parameters()):
        assert torch.equal(a, b), name
    if published:
        write_json(case.folder / "config.json", {"vocab_size": config["vocab_size"]} | published)
    case.expected["model"] = {"class": type(model).__name__, "weights_dtype": "float32", "compute_dtype": "float32",
                              "vocab_size": config["vocab_size"]}
    case.expected["tolerance"] = {"hidden_rel_to_max_abs": 1e-4, "pooled_abs": 1e-4, "logits_rel_to_max_abs": 1e-4}
    return loaded.eval(), type(tokenizer).from_str(tokenizer.to_str())


def inputs_of(encoding, type_ids):
    inputs = {"input_ids": torch.tensor([encoding.ids])}
    return inputs | ({"token_type_ids": torch.tensor([encoding.type_ids])} if type_ids else {})


@torch.no_grad()
def sequences(root, name, config, tokenizer, *, seed, max_length=40, type_ids=False, published=None, notes):
    case = Case(root, name, "sequence_classification")
    model, tokenizer = folder(case, AutoModelForSequenceClassification, config, tokenizer, seed, published)
    tokenizer.enable_truncation(max_length, strategy="longest_first")
    inputs, logits = [], []
    for text, pair in [(TEXTS[1], TEXTS[0]), (TEXTS[2], None), (STORY, TEXTS[3])]:
        encoding = tokenizer.encode(text, pair) if pair is not None else tokenizer.encode(text)
        logits.append(model(**inputs_of(encoding, type_ids)).logits[0])
        inputs.append({"text": text, "text_pair": pair, "input_ids": encoding.ids,
                       "token_type_ids": encoding.type_ids if type_ids else None})
    logits = torch.stack(logits)
    sigmoid = logits.shape[1] == 1
    scores = logits.sigmoid() if sigmoid else logits.softmax(-1)
    case.finish(max_length=max_length, inputs=inputs, logits=case.tensor("logits", logits), scores=case.tensor("scores", scores),
                score_function="sigmoid" if sigmoid else "softmax", id2label=config["id2label"], notes=notes)


@torch.no_grad()
def tokens(root, name, config, tokenizer, *, seed, type_ids=False, notes):
    case = Case(root, name, "token_classification")
    model, tokenizer = folder(case, AutoModelForTokenClassification, config, tokenizer, seed)
    inputs = []
    for i, text in enumerate([TEXTS[1], "Ole Hansen rowed out to Bergen."]):
        encoding = tokenizer.encode(text)
        assert len(encoding.ids) <= config["max_position_embeddings"]
        logits = model(**inputs_of(encoding, type_ids)).logits[0]
        inputs.append({"text": text, "input_ids": encoding.ids, "offsets": encoding.offsets,
                       "logits": case.tensor(f"inputs.{i}.logits", logits), "label_ids": logits.argmax(-1).tolist()})
    case.finish(id2label=config["id2label"], inputs=inputs, notes=notes)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    root = parser.parse_args().folder
    pieces, cased = unigram(120), wordpiece(120, lowercase=False)
    storms, persons = labels("calm", "breeze", "storm"), labels("O", "B-PER", "I-PER")
    sizes = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 3,
             "max_position_embeddings": 48}

    sequences(root, "roberta_cross_encoder", sizes | labels("LABEL_0") | {
        "architectures": ["RobertaForSequenceClassification"], "model_type": "roberta", "type_vocab_size": 1,
        "layer_norm_eps": 1e-5, "pad_token_id": 1, "hidden_act": "gelu"}, pieces, seed=3000,
        notes="the head of RoBERTa: two layers under classifier")
    sequences(root, "mpnet_labels", sizes | storms | {
        "architectures": ["MPNetForSequenceClassification"], "model_type": "mpnet", "hidden_act": "gelu_new",
        "relative_attention_num_buckets": 36, "layer_norm_eps": 1e-6}, pieces, seed=3100,
        notes="more rows of relative positions than buckets")

    modern = sizes | {"model_type": "modernbert", "num_hidden_layers": 4, "pad_token_id": 0, "cls_token_id": 2,
                      "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    del modern["num_attention_heads"]
    sequences(root, "modernbert_labels", modern | storms | {
        "architectures": ["ModernBertForSequenceClassification"], "num_attention_heads": 2, "classifier_pooling": "mean",
        "norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True, "classifier_activation": "relu",
        "hidden_activation": "silu", "local_attention": 7, "norm_eps": 1e-4,
        "layer_types": ["sliding_attention", "full_attention", "full_attention", "sliding_attention"],
        "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 700.0},
                            "sliding_attention": {"rope_type": "default", "rope_theta": 50.0}}}, cased, seed=3200,
        notes="biases everywhere; mean pooling; rope_parameters and layer_types as transformers 5 writes them")
    tokens(root, "modernbert_entities", modern | persons | {
        "architectures": ["ModernBertForTokenClassification"], "num_attention_heads": 3, "local_attention": 4,
        "global_rope_theta": 1000.0, "local_rope_theta": 100.0, "global_attn_every_n_layers": 2}, cased, seed=3300,
        notes="a window of two to each side")

    nomic = sizes | storms | {"architectures": ["NomicBertForSequenceClassification"], "model_type": "nomic_bert",
                              "pad_token_id": 0, "layer_norm_eps": 1e-6}
    sequences(root, "nomic_labels", nomic | {"rope_parameters": {"rope_type": "default", "rope_theta": 300.0}}, cased,
              seed=3400, type_ids=True, published=storms | {
                  "architectures": ["NomicBertForSequenceClassification"], "model_type": "nomic_bert", "n_embd": 24,
                  "n_inner": 32, "n_layer": 2, "n_head": 3, "n_positions": 48, "layer_norm_epsilon": 1e-6,
                  "activation_function": "swiglu", "rotary_emb_base": 300, "rotary_emb_fraction": 1.0,
                  "rotary_emb_interleaved": False, "rotary_emb_scale_base": None, "rotary_scaling_factor": None,
                  "max_trained_positions": 48, "prenorm": False, "qkv_proj_bias": False, "type_vocab_size": 2,
                  "use_rms_norm": False, "parallel_block": False, "causal": False},
              notes="the configuration in the spelling of the checkpoints' own code")

    deberta = sizes | {"model_type": "deberta-v2", "pad_token_id": 0, "relative_attention": True, "layer_norm_eps": 1e-6}
    sequences(root, "deberta_v2_conv", deberta | storms | {
        "architectures": ["DebertaV2ForSequenceClassification"], "pos_att_type": "p2c|c2p", "share_att_key": False,
        "max_relative_positions": 9, "position_buckets": -1, "position_biased_input": True, "type_vocab_size": 2,
        "conv_kernel_size": 5, "conv_act": "gelu", "conv_groups": 2, "embedding_size": 20, "norm_rel_ebd": "none",
        "pooler_hidden_act": "tanh"}, cased, seed=3500, type_ids=True,
        notes="a convolution; projections of their own for positions; absolute positions too; narrow embeddings")
    tokens(root, "deberta_v2_entities", deberta | persons | {
        "architectures": ["DebertaV2ForTokenClassification"], "pos_att_type": ["c2p"], "share_att_key": True,
        "max_relative_positions": 20, "position_buckets": 8, "position_biased_input": False, "type_vocab_size": 0,
        "norm_rel_ebd": "layer_norm"}, cased, seed=3600, notes="content to position only")


if __name__ == "__main__":
    main()
