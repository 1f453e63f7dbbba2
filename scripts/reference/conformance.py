"""Makes the conformance fixtures: tiny random models in Hugging Face layout, with what transformers computes from them.

    pip install torch transformers tokenizers safetensors gguf numpy
    python scripts/reference/conformance.py bedrock-models/tests/fixtures/conformance

Each case is written as a downloaded model folder, read back from disk by transformers (PyTorch, CPU, float32, eager
attention), and what it computes goes to expected.json and expected.safetensors. The format is described in
bedrock-models/src/conformance. The weights are random and mean nothing; the texts below were written for this file.
Weights are seeded; the training of the tokenizers breaks ties as it likes, so another run makes other, equally good files.
"""

import argparse
import json
import math
import shutil
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers, Regex
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers import AutoModelForTokenClassification, PreTrainedTokenizerFast, pipeline
from transformers import generation as hf_generation

torch.manual_seed(0)
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)

STORY = (
    "The lighthouse keeper wound the clock at dusk, wrote the wind and the tide in her book, and climbed the stairs with "
    "a can of oil in each hand. Nobody had asked her to count the ships. She counted them anyway, twice, and wrote the "
    "smaller number down. In Tromsø, Anna Berg and the Harbour Board of Bergen had agreed on nothing since 1987; the "
    "letters were kept in a tin box under the bed. When the lamp failed, the keeper's brother, Ole Hansen, rowed out with "
    "a lantern and 12 spare wicks. It wasn't enough. It never was, she said, and laughed, and lit the first of them."
)
CORPUS = [STORY, STORY.lower(), STORY.upper()] + STORY.split(". ") + [
    "Numbers: 0 1 2 3 4 5 6 7 8 9 10 100 1000 3.14 50% $20 #1 a+b=c x*y (z) [w] {v} <u> q/r s\\t \"quoted\" 'single' under_score",
    "Ærlig talt, ål og øl på én gang! Über größere Straßen. Ça va, señor? Žluťoučký kůň. Здравствуй, мир. 日本語の文章です。",
]
TEXTS = [
    "The lighthouse keeper wound the clock at dusk, and the ships went by under the lamp in the wind until the tide turned.",
    "Anna Berg lives in Tromsø.",
    "It wasn't enough: 12 wicks, 50% oil.",
    "日本語の文章です。 Ærlig talt!",
]
MARGIN = 2e-3
VERSIONS = {m.__name__: m.__version__ for m in (torch, transformers, np)}


# --- tokenizers -------------------------------------------------------------------------------------------------------


def byte_level(vocab_size):
    """Byte-level BPE in the manner of Llama 3: begin-of-text before each text."""
    tokenizer = Tokenizer(models.BPE())
    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|begin|>", "<|end|>", "<|turn|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(special), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    begin = tokenizer.token_to_id("<|begin|>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", pair="<|begin|> $A <|begin|>:1 $B:1", special_tokens=[("<|begin|>", begin)]
    )
    return tokenizer, {"bos_token": "<|begin|>", "eos_token": "<|end|>"}


def sentencepiece_bpe(vocab_size, byte_fallback):
    """SentencePiece-like BPE in the manner of Llama 2."""
    special = ["<unk>", "<s>", "</s>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=byte_fallback))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    words = " ".join(CORPUS[:1] + CORPUS[3:-2])
    # Without a pre-tokenizer BPE would merge whole sentences: train on words, each with its mark.
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - (256 if byte_fallback else 0), special_tokens=special, limit_alphabet=60, show_progress=False
    )
    tokenizer.train_from_iterator(words.split(), trainer)
    if byte_fallback:
        state = json.loads(tokenizer.to_str())
        vocab = state["model"]["vocab"]
        bytes_ = {f"<0x{b:02X}>": 3 + b for b in range(256)}
        state["model"]["vocab"] = {
            token: (index if index < 3 else index + 256) for token, index in vocab.items()
        } | bytes_
        tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    return tokenizer, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def wordpiece(vocab_size, lowercase):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=None)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(
        CORPUS[:-1], trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=special, show_progress=False)
    )
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", cls), ("[SEP]", sep)]
    )
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
    return tokenizer, names


def unigram(vocab_size):
    """SentencePiece unigram in the manner of XLM-R."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size - 1, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS[:-1], trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True, normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>",
             "unk_token": "<unk>", "mask_token": "<mask>"}
    return tokenizer, names


def save_tokenizer(folder, tokenizer, names, **more):
    (folder / "tokenizer.json").write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False) + "\n")
    write_json(folder / "tokenizer_config.json", names | more | {"tokenizer_class": "PreTrainedTokenizerFast"})


# --- writing ----------------------------------------------------------------------------------------------------------


def write_json(path, value):
    """One line a key: readable, and not one line a number."""
    lines = (f" {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in value.items()) if isinstance(value, dict) else ()
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n" if lines else json.dumps(value, ensure_ascii=False) + "\n")


class Case:
    """A folder that grows: files of the model first, then the expectations."""

    def __init__(self, root, name, kind):
        self.folder = root / name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.tensors = {}
        self.expected = {"format_version": 1, "set": "repository", "case": name, "kind": kind}

    def tensor(self, name, value):
        value = torch.as_tensor(value).detach().to(torch.float32).contiguous()
        self.tensors[name] = value.clone()
        return {"tensor": name, "shape": list(value.shape)}

    def finish(self, **expected):
        self.expected.update(expected)
        self.expected["versions"] = VERSIONS
        write_json(self.folder / "expected.json", self.expected)
        if self.tensors:
            save_file(self.tensors, self.folder / "expected.safetensors")
        print(self.expected["case"], sum(f.stat().st_size for f in self.folder.rglob("*") if f.is_file()) // 1024, "KiB")


def randomize(model, seed):
    """Weights large enough that every part of the model shows in its output."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            value = 0.1 * noise + (0.0 if name.endswith("bias") else 1.0)
        elif "embed" in name:
            value = 0.8 * noise
        else:
            value = 1.4 * noise / math.sqrt(parameter.shape[1])
        parameter.data.copy_(value)


def save_weights(folder, model, dtype, shards=1, skip=(), prefix=""):
    state = {prefix + name: value.to(dtype).contiguous() for name, value in model.state_dict().items() if name not in skip}
    if shards == 1:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return
    index = {"metadata": {"total_size": sum(v.numel() * v.element_size() for v in state.values())}, "weight_map": {}}
    names = sorted(state)
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: state[name] for name in names[shard::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        index["weight_map"].update({name: file for name in part})
    write_json(folder / "model.safetensors.index.json", index)


# --- language models --------------------------------------------------------------------------------------------------


class Reference:
    """A causal language model read back from its folder."""

    def __init__(self, model):
        self.model = model.eval()
        self.rotary = type(model.model.rotary_emb)

    @torch.no_grad()
    def logits(self, ids):
        # Dynamic scaling keeps the longest length that it has seen; every sequence here stands for itself.
        self.model.model.rotary_emb = self.rotary(config=self.model.config)
        return self.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]

    def greedy(self, ids, count):
        """Tokens and the smallest margin, relative to the largest logit."""
        ids, tokens, margin = list(ids), [], 1.0
        for _ in range(count):
            last = self.logits(ids)[-1]
            top = last.topk(2).values
            margin = min(margin, float((top[0] - top[1]) / last.abs().max()))
            tokens.append(int(last.argmax()))
            ids.append(tokens[-1])
        return tokens, margin


def causal_lm(root, name, config, tokenizer, *, seed, dtype=torch.float32, shards=1, long=24, greedy_long=True, batch=(14, 6),
              ends=(), notes=None):
    tokenizer, names = tokenizer
    new_tokens = 12
    begin, end = tokenizer.token_to_id(names["bos_token"]), tokenizer.token_to_id(names["eos_token"])
    text = TEXTS[0]
    ids = tokenizer.encode(text).ids[:long]
    assert len(ids) == long, (name, len(ids))
    for attempt in range(200):
        case = Case(root, name, "causal_lm")
        config_json = {"vocab_size": tokenizer.get_vocab_size(), "bos_token_id": begin, "eos_token_id": end} | config
        write_json(case.folder / "config.json", config_json)
        write_json(case.folder / "generation_config.json", {"bos_token_id": begin, "eos_token_id": [end, *ends]})
        save_tokenizer(case.folder, tokenizer, names)
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(case.folder), attn_implementation="eager")
        randomize(model, seed + attempt)
        skip = ("lm_head.weight",) if config_json.get("tie_word_embeddings") else ()
        save_weights(case.folder, model, dtype, shards, skip)
        reference = Reference(
            AutoModelForCausalLM.from_pretrained(case.folder, dtype=torch.float32, attn_implementation="eager")
        )
        prompts = [[begin], ids]
        texts = [{}, {"text": text, "truncated_to": long}]
        rows = [ids[:batch[0]], ids[:batch[1]]]
        runs = {(0,): reference.greedy(prompts[0], new_tokens)}
        if greedy_long:
            runs[(1,)] = reference.greedy(ids, new_tokens)
        batched = [reference.greedy(row, new_tokens if greedy_long else 4) for row in rows]
        context = ids[:5]
        likely, likely_margin = reference.greedy(context, 5)
        margin = min([m for _, m in runs.values()] + [m for _, m in batched] + [likely_margin])
        stop_prompt = max(key[0] for key in runs)
        stop_tokens = runs[(stop_prompt,)][0]
        forbidden = {end, *ends}
        all_tokens = [t for tokens, _ in list(runs.values()) + batched for t in tokens]
        # A token in the middle that has not come before will stand for end of text.
        stops = [i for i in range(3, new_tokens - 1) if stop_tokens[i] not in stop_tokens[:i]]
        if margin >= MARGIN and not forbidden & set(all_tokens) and stops:
            break
    else:
        raise SystemExit(f"{name}: no seed gives clear choices")
    stop = stops[0]
    expected = {
        "model": {"class": type(model).__name__, "weights_dtype": str(dtype).removeprefix("torch."),
                  "compute_dtype": "float32", "vocab_size": config_json["vocab_size"]},
        "tolerance": {"logits_rel_to_max_abs": 1e-4, "logprob_abs": 1e-3, "tokens": "exact"},
        "min_greedy_margin_rel": margin,
        "prompts": [
            {"name": label, **text, "input_ids": prompt, "logits": case.tensor(f"prompts.{i}.logits", reference.logits(prompt))}
            for i, (label, text, prompt) in enumerate(zip(("one", "long"), texts, prompts))
        ],
        "greedy": [
            {"prompt": prompt, "max_new_tokens": new_tokens, "tokens": tokens, "text": tokenizer.decode(tokens)}
            for (prompt,), (tokens, _) in runs.items()
        ],
        "eos_stop": {"prompt": stop_prompt, "eos_token_ids": [stop_tokens[stop], end, *ends], "max_new_tokens": new_tokens,
                     "tokens": stop_tokens[: stop + 1]},
        "batch": {"input_ids": rows,
                  "last_logits": case.tensor("batch.last_logits", torch.stack([reference.logits(row)[-1] for row in rows])),
                  "max_new_tokens": new_tokens if greedy_long else 4, "greedy": [tokens for tokens, _ in batched]},
        "logprob": [log_prob(reference, context, continuation) for continuation in (ids[7:12], likely)],
    }
    case.finish(**expected, **({"notes": notes} if notes else {}))


def log_prob(reference, context, continuation):
    logits = reference.logits(context + continuation)[len(context) - 1 : -1].double()
    values = logits.log_softmax(-1).gather(1, torch.tensor(continuation)[:, None])[:, 0]
    return {"context": context, "continuation": continuation, "token_logprobs": values.tolist(), "sum": float(values.sum()),
            "is_greedy": bool((logits.argmax(-1) == torch.tensor(continuation)).all())}


def llama(hidden, heads, keys, inner, **more):
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "intermediate_size": inner,
            "num_hidden_layers": 2, "num_attention_heads": heads, "num_key_value_heads": keys, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "hidden_act": "silu", "max_position_embeddings": 128, "tie_word_embeddings": False} | more


def language_models(root):
    words = sentencepiece_bpe(110, byte_fallback=False)
    f16, bf16 = torch.float16, torch.bfloat16
    config = llama(28, 2, 2, 44)
    del config["num_key_value_heads"], config["rope_theta"]
    causal_lm(root, "llama_default", config, sentencepiece_bpe(370, byte_fallback=True), seed=100, dtype=bf16,
              notes="as old checkpoints: no num_key_value_heads, no rope_theta; byte fallback")
    causal_lm(root, "llama_linear", llama(24, 4, 2, 40, rope_theta=5000.0, rope_scaling={"type": "linear", "factor": 2.5}),
              words, seed=200, dtype=f16, notes="rope type under its older name")
    causal_lm(root, "llama_dynamic", llama(24, 3, 1, 40, max_position_embeddings=18,
                                           rope_scaling={"rope_type": "dynamic", "type": "dynamic", "factor": 3.0}),
              words, seed=300, dtype=bf16, long=24, greedy_long=False, batch=(11, 6),
              notes="prompt 'long' is longer than max_position_embeddings, so the base of its rotation is larger; each "
                    "sequence is computed by itself")
    causal_lm(root, "llama_yarn", llama(32, 4, 2, 40, rope_theta=100.0, rope_scaling={
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 2.0, "beta_slow": 0.5}),
        words, seed=400, dtype=f16)
    causal_lm(root, "llama_yarn_mscale", llama(32, 2, 1, 36, tie_word_embeddings=True, rope_theta=500.0, rope_scaling={
        "rope_type": "yarn", "factor": 6.0, "original_max_position_embeddings": 20, "mscale": 0.8, "mscale_all_dim": 0.4,
        "truncate": False}), words, seed=450, dtype=bf16)
    causal_lm(root, "llama_llama3", llama(32, 4, 1, 48, tie_word_embeddings=True, rope_theta=100.0, rope_scaling={
        "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 3.0,
        "original_max_position_embeddings": 64}), byte_level(290), seed=500, dtype=bf16, ends=(3,),
        notes="byte-level tokenizer; two ids end a text")
    causal_lm(root, "llama_longrope", llama(32, 4, 2, 40, max_position_embeddings=80, rope_scaling={
        "rope_type": "longrope", "original_max_position_embeddings": 18, "short_factor": [1.0, 1.1, 1.3, 1.6],
        "long_factor": [1.2, 1.9, 3.1, 4.4]}), words, seed=600, dtype=f16, greedy_long=True, batch=(5, 4),
        notes="'long' is on long_factor from the start, 'one' stays on short_factor")
    causal_lm(root, "llama_biases_sharded", llama(24, 4, 2, 40, attention_bias=True, mlp_bias=True, head_dim=10,
                                                  rms_norm_eps=1e-3), words, seed=700, dtype=bf16, shards=3)
    config = llama(24, 3, 3, 36)
    del config["rope_theta"]
    causal_lm(root, "llama_new_style", config | {"dtype": "float16", "rope_parameters": {
        "rope_type": "default", "rope_theta": 700.0}}, words, seed=800, dtype=f16,
        notes="rope_parameters and dtype, as transformers 5 writes them")
    mistral = {"architectures": ["MistralForCausalLM"], "model_type": "mistral"}
    causal_lm(root, "mistral_sliding", llama(24, 4, 2, 40) | mistral | {"sliding_window": 7}, words, seed=900)
    causal_lm(root, "mistral_full", llama(24, 4, 2, 40, head_dim=12, rope_theta=1e6) | mistral | {"sliding_window": None},
              words, seed=1000, dtype=bf16, notes="head_dim * heads is not hidden_size")


# --- encoders ---------------------------------------------------------------------------------------------------------


def bert(hidden, heads, inner, **more):
    return {"architectures": ["BertModel"], "model_type": "bert", "hidden_size": hidden, "intermediate_size": inner,
            "num_hidden_layers": 2, "num_attention_heads": heads, "hidden_act": "gelu", "max_position_embeddings": 64,
            "layer_norm_eps": 1e-12, "type_vocab_size": 2, "pad_token_id": 0, "position_embedding_type": "absolute"} | more


def encoder_folder(case, loader, config, tokenizer, seed, dtype=torch.float32, prefix="", **tokenizer_config):
    tokenizer, names = tokenizer
    write_json(case.folder / "config.json", {"vocab_size": tokenizer.get_vocab_size()} | config)
    save_tokenizer(case.folder, tokenizer, names, **tokenizer_config)
    model = loader.from_config(AutoConfig.from_pretrained(case.folder), attn_implementation="eager")
    randomize(model, seed)
    save_weights(case.folder, model, dtype, prefix=prefix)
    loaded, info = loader.from_pretrained(
        case.folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    case.expected["model"] = {"class": type(model).__name__, "weights_dtype": str(dtype).removeprefix("torch."),
                              "compute_dtype": "float32", "vocab_size": tokenizer.get_vocab_size()}
    case.expected["tolerance"] = {"hidden_rel_to_max_abs": 1e-4, "pooled_abs": 1e-4, "logits_rel_to_max_abs": 1e-4}
    return loaded.eval(), Tokenizer.from_str(tokenizer.to_str())


@torch.no_grad()
def text_embedding(root, name, config, tokenizer, pooling, *, seed, max_length=24, prefix="", lowercase=False, dense=None,
                   prompts=None, dtype=torch.float32, stored_prefix="", normalize=True, type_ids=True, notes=None):
    case = Case(root, name, "text_embedding")
    model, tokenizer = encoder_folder(case, AutoModel, config, tokenizer, seed, dtype, stored_prefix)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    (case.folder / "1_Pooling").mkdir()
    flags = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens"}
    write_json(case.folder / "1_Pooling" / "config.json", {"word_embedding_dimension": config["hidden_size"]} | {
        f"pooling_mode_{flag}": pooling == mode for mode, flag in flags.items()})
    layer = None
    if dense:
        layer = torch.nn.Linear(config["hidden_size"], dense)
        randomize(layer, seed + 1)
        folder = case.folder / f"{len(modules)}_Dense"
        folder.mkdir()
        write_json(folder / "config.json", {"in_features": config["hidden_size"], "out_features": dense, "bias": True,
                                            "activation_function": "torch.nn.modules.activation.Tanh"})
        save_file({f"linear.{k}": v.contiguous() for k, v in layer.state_dict().items()}, folder / "model.safetensors")
        modules.append((folder.name, "Dense"))
    if normalize:
        modules.append((f"{len(modules)}_Normalize", "Normalize"))
    write_json(case.folder / "modules.json", [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules)])
    write_json(case.folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": lowercase})
    if prompts:
        write_json(case.folder / "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": None})
    tokenizer.enable_truncation(max_length)
    texts, hiddens, poolers = [], [], []
    for i, text in enumerate([*TEXTS, ""]):
        full = prefix + text
        encoding = tokenizer.encode(full.lower() if lowercase else full)
        inputs = {"input_ids": torch.tensor([encoding.ids])}
        if type_ids:
            inputs["token_type_ids"] = torch.tensor([encoding.type_ids])
        out = model(**inputs)
        hiddens.append(out.last_hidden_state[0])
        poolers.append(out.pooler_output[0])
        texts.append({"text": text, "input_ids": encoding.ids, "token_type_ids": encoding.type_ids if type_ids else None,
                      "last_hidden_state": case.tensor(f"texts.{i}.last_hidden_state", hiddens[-1])})
    pools = {"mean": torch.stack([h.mean(0) for h in hiddens]), "cls": torch.stack([h[0] for h in hiddens]),
             "max": torch.stack([h.max(0).values for h in hiddens])}
    embeddings = pools[pooling]
    if layer is not None:
        embeddings = torch.tanh(layer(embeddings))
    unit = torch.nn.functional.normalize(embeddings, dim=-1)
    if normalize:
        embeddings = unit
    case.finish(
        pooling=pooling, normalize=normalize, max_seq_length=max_length, text_prefix=prefix, texts=texts,
        mean_pooled=case.tensor("mean_pooled", pools["mean"]), cls_pooled=case.tensor("cls_pooled", pools["cls"]),
        embeddings=case.tensor("embeddings", embeddings), cosine=case.tensor("cosine", unit @ unit.T),
        pooler_output=case.tensor("pooler_output", torch.stack(poolers)), **({"notes": notes} if notes else {}))


@torch.no_grad()
def sequence_classification(root, name, config, tokenizer, *, seed, max_length, dtype=torch.float32):
    case = Case(root, name, "sequence_classification")
    model, tokenizer = encoder_folder(
        case, AutoModelForSequenceClassification, config, tokenizer, seed, dtype, model_max_length=max_length + 8)
    tokenizer.enable_truncation(max_length, strategy="longest_first")
    pairs = [(TEXTS[1], TEXTS[0]), (TEXTS[0], STORY), (TEXTS[2], None), (STORY, TEXTS[3]), ("", TEXTS[1])]
    inputs, logits = [], []
    for text, pair in pairs:
        encoding = tokenizer.encode(text, pair) if pair is not None else tokenizer.encode(text)
        ids, types = torch.tensor([encoding.ids]), torch.tensor([encoding.type_ids])
        logits.append(model(input_ids=ids, token_type_ids=types).logits[0])
        inputs.append({"text": text, "text_pair": pair, "input_ids": encoding.ids, "token_type_ids": encoding.type_ids})
    logits = torch.stack(logits)
    sigmoid = logits.shape[1] == 1 or config.get("problem_type") == "multi_label_classification"
    scores = logits.sigmoid() if sigmoid else logits.softmax(-1)
    case.finish(max_length=max_length, inputs=inputs, logits=case.tensor("logits", logits), scores=case.tensor("scores", scores),
                score_function="sigmoid" if sigmoid else "softmax", id2label=config["id2label"])


@torch.no_grad()
def token_classification(root, name, config, tokenizer, *, seed):
    case = Case(root, name, "token_classification")
    names = tokenizer[1]
    model, tokenizer = encoder_folder(case, AutoModelForTokenClassification, config, tokenizer, seed, torch.float16, model_max_length=64)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    inputs = []
    for i, text in enumerate(["When the lamp failed, Ole Hansen rowed out to Bergen.", TEXTS[1], "Ole H. æøå 日本, Bergen-Tromsø!", ""]):
        encoding = tokenizer.encode(text)
        logits = model(input_ids=torch.tensor([encoding.ids]), token_type_ids=torch.tensor([encoding.type_ids])).logits[0]
        entities = {}
        for strategy in ("none", "simple", "first", "average", "max"):
            if not text:
                entities[strategy] = []
                continue
            run = pipeline("token-classification", model=model, tokenizer=fast, aggregation_strategy=strategy)
            entities[strategy] = [
                {k: (float(v) if k == "score" else v if isinstance(v, str) else int(v)) for k, v in entity.items()}
                for entity in run(text)]
        inputs.append({"text": text, "input_ids": encoding.ids, "token_type_ids": encoding.type_ids,
                       "offsets": encoding.offsets, "logits": case.tensor(f"inputs.{i}.logits", logits),
                       "label_ids": logits.argmax(-1).tolist(), "entities": entities})
    case.finish(id2label=config["id2label"], inputs=inputs)


def encoders(root):
    uncased, cased = wordpiece(150, lowercase=True), wordpiece(160, lowercase=False)
    text_embedding(root, "bert_mean", bert(24, 3, 40), uncased, "mean", seed=1100, prefix="passage: ",
                   prompts={"query": "query: ", "document": "passage: "}, notes="the prefix is the folder's prompt for documents")
    text_embedding(root, "bert_cls", bert(20, 2, 32, hidden_act="gelu_new", layer_norm_eps=1e-6), cased, "cls", seed=1200,
                   dtype=torch.float16, stored_prefix="bert.", normalize=False, notes="tensor names begin with bert.; no normalisation")
    text_embedding(root, "bert_max", bert(24, 4, 36), cased, "max", seed=1300, lowercase=True, dense=10, dtype=torch.bfloat16,
                   notes="sentence_bert_config.json says do_lower_case; a dense layer after the pooling")
    roberta = {"type_vocab_size": 1, "layer_norm_eps": 1e-5, "max_position_embeddings": 40, "pad_token_id": 1}
    text_embedding(root, "xlm_roberta_mean", bert(24, 3, 32, architectures=["XLMRobertaModel"], model_type="xlm-roberta", **roberta),
                   unigram(140), "mean", seed=1400, type_ids=False, dtype=torch.bfloat16)
    labels = lambda *names: {"id2label": dict(map(lambda p: (str(p[0]), p[1]), enumerate(names))),
                             "label2id": {n: i for i, n in enumerate(names)}}
    head = {"architectures": ["BertForSequenceClassification"]}
    sequence_classification(root, "bert_cross_encoder", bert(24, 2, 40) | head | labels("LABEL_0"), uncased, seed=1500, max_length=40)
    sequence_classification(root, "bert_labels", bert(24, 4, 32) | head | labels("calm", "breeze", "storm"), cased, seed=1600,
                            max_length=28, dtype=torch.bfloat16)
    sequence_classification(root, "bert_multi_label", bert(16, 2, 24) | head | labels("oil", "wind", "tide") |
                            {"problem_type": "multi_label_classification"}, uncased, seed=1700, max_length=32)
    token_classification(root, "bert_entities", bert(24, 3, 40, architectures=["BertForTokenClassification"]) |
                         labels("O", "B-PER", "I-PER", "B-LOC", "I-LOC"), cased, seed=1800)


# --- sampling, tokenizers, templates ----------------------------------------------------------------------------------


def sampling(root):
    case = Case(root, "sampling", "sampling")
    generator = torch.Generator().manual_seed(1900)
    logits = [3 * torch.randn(30, generator=generator), 2 * torch.randn(200, generator=generator)]
    # Equal logits at the border of top-k.
    logits[0][5] = logits[0][9]
    context = [2, 7, 7, 4, 2, 7, 1, 2, 7]
    processors_ = {
        "repetition_penalty": lambda v: hf_generation.RepetitionPenaltyLogitsProcessor(v),
        "no_repeat_ngram_size": lambda v: hf_generation.NoRepeatNGramLogitsProcessor(v),
        "temperature": lambda v: hf_generation.TemperatureLogitsWarper(v),
        "top_k": lambda v: hf_generation.TopKLogitsWarper(v),
        "top_p": lambda v: hf_generation.TopPLogitsWarper(v),
        "min_p": lambda v: hf_generation.MinPLogitsWarper(v),
        "typical_p": lambda v: hf_generation.TypicalLogitsWarper(v),
        "epsilon_cutoff": lambda v: hf_generation.EpsilonLogitsWarper(v),
        "eta_cutoff": lambda v: hf_generation.EtaLogitsWarper(v),
    }
    parameters = [
        {"top_k": 1}, {"top_k": 7}, {"top_k": 500}, {"top_p": 0.05}, {"top_p": 0.95}, {"min_p": 0.02}, {"min_p": 0.5},
        {"typical_p": 0.3}, {"typical_p": 0.95}, {"temperature": 0.1}, {"temperature": 2.0}, {"repetition_penalty": 1.7},
        {"repetition_penalty": 0.8}, {"epsilon_cutoff": 0.01}, {"eta_cutoff": 0.01}, {"no_repeat_ngram_size": 1},
        {"no_repeat_ngram_size": 2}, {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3, "temperature": 1.2, "top_k": 40,
                                      "top_p": 0.85, "min_p": 0.01, "typical_p": 0.9, "epsilon_cutoff": 0.002, "eta_cutoff": 0.001},
    ]
    tests = []
    for which, vector in enumerate(logits):
        for params in parameters:
            scores, ids = vector[None].clone(), torch.tensor([context])
            for key, make in processors_.items():
                if key in params:
                    scores = make(params[key])(ids, scores)
            scores = scores[0]
            kept = [i for i in range(len(scores)) if torch.isfinite(scores[i])]
            name = f"tests.{len(tests)}"
            tests.append({"logits": which, "params": params, "input_ids": context, "kept": kept,
                          "processed_logits_of_kept": case.tensor(f"{name}.processed", scores[kept]),
                          "probs_of_kept": case.tensor(f"{name}.probs", scores.softmax(-1)[kept])})
    case.finish(logits=[case.tensor(f"logits.{i}", v) for i, v in enumerate(logits)], order=list(processors_), tests=tests,
                tolerance={"kept": "exact", "processed_abs": 1e-4, "probs_abs": 1e-5})


def tokenizer_cases(root):
    case = Case(root, "tokenizers", "tokenizers")
    texts = ["", " ", "  two  spaces ", *TEXTS, "I'll say: DON'T!!! \n\n new\tline\r\n", "12345.678 9,000", "ÆØÅ café naïve",
             "👩‍🚀 astronaut 🏳️‍🌈", "e\u0301 combining", "<s> [CLS] <|begin|> inside </s>", "x" * 40, "\u0000\ufffd\u200b"]
    pair, other = "12 wicks and a lantern, she said.", "Anna Berg and Ole Hansen rowed out at dusk."
    entries = {}
    for name, path in {"bytes": "llama_llama3", "byte_fallback": "llama_default", "pieces": "mistral_full",
                       "uncased": "bert_mean", "cased": "bert_cls", "unigram": "xlm_roberta_mean"}.items():
        tokenizer = Tokenizer.from_file(str(root / path / "tokenizer.json"))
        cases = []
        for text in texts:
            encoding = tokenizer.encode(text)
            plain = tokenizer.encode(text, add_special_tokens=False).ids
            cases.append({"text": text, "ids": encoding.ids, "ids_no_special": plain, "offsets": encoding.offsets,
                          "decoded": tokenizer.decode(plain, skip_special_tokens=False),
                          "decoded_skip_special": tokenizer.decode(encoding.ids, skip_special_tokens=True)})
        both = tokenizer.encode(pair, other)
        entry = {"path": f"../{path}/tokenizer.json", "vocab_size": tokenizer.get_vocab_size(), "cases": cases,
                 "pair": {"text": pair, "text_pair": other, "ids": both.ids, "type_ids": both.type_ids}}
        tokenizer.enable_truncation(9, strategy="longest_first")
        single, both = tokenizer.encode(pair), tokenizer.encode(pair, other)
        entry["truncation"] = {"max_length": 9, "strategy": "longest_first", "single": single.ids, "pair": both.ids,
                               "pair_type_ids": both.type_ids}
        entries[name] = entry
    case.finish(tokenizers=entries)


TEMPLATES = {
    # Turns between markers, tools as JSON, a default system text.
    "turns": (
        "{%- if messages[0]['role'] == 'system' -%}{%- set system = messages[0]['content'] -%}{%- set rest = messages[1:] -%}"
        "{%- else -%}{%- set system = 'You keep the light.' -%}{%- set rest = messages -%}{%- endif -%}\n"
        "{{ bos_token }}<turn>system\n{{ system | trim }}\n"
        "{%- if tools %}\nTools:\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}{% endif %}</turn>\n"
        "{% for m in rest %}\n"
        "    {%- if m.role == 'tool' %}<turn>tool\n{{ m.content }}</turn>\n"
        "    {% elif m.tool_calls is defined and m.tool_calls %}<turn>assistant\n{% for c in m.tool_calls %}"
        "{{ {'name': c.function.name, 'arguments': c.function.arguments} | tojson }}{% if not loop.last %}, {% endif %}"
        "{% endfor %}</turn>\n"
        "    {% else %}<turn>{{ m.role }}\n{{ m.content.strip() }}</turn>\n{% endif %}\n"
        "{%- endfor %}\n"
        "{%- if add_generation_prompt %}<turn>assistant\n{% endif %}"
    ),
    # Strict alternation.
    "strict": (
        "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Turns must alternate, beginning with the user: found ' + m['role']) }}{% endif %}"
        "{% if m['role'] == 'user' %}{{ '[Q] ' + m['content'] + ' [/Q]' }}{% else %}{{ ' ' + m['content'] ~ eos_token }}{% endif %}"
        "{% endfor %}"
    ),
    # A namespace, a macro, loop controls, further variables.
    "controls": (
        "{% macro line(role, text) %}{{ '* ' ~ role.title() ~ ': ' ~ text.replace('\\n', ' ')[:40] }}\n{% endmacro %}"
        "{% set ns = namespace(count=0) %}{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}"
        "{% if ns.count >= (limit | default(3)) %}{% break %}{% endif %}{% set ns.count = ns.count + 1 %}"
        "{% if m.content is string %}{{ line(m.role, m.content) }}{% else %}{% for p in m.content if p.type == 'text' %}"
        "{{ line(m.role, p.text) }}{% endfor %}{% endif %}{% endfor %}{{ ns.count }} of {{ messages | length }}\n"
        "{% if add_generation_prompt %}* Assistant:{% endif %}"
    ),
}


def chat_templates(root):
    case = Case(root, "chat_templates", "chat_templates")
    tokenizer, names = sentencepiece_bpe(110, byte_fallback=False)
    tool = {"type": "function", "function": {"name": "tide", "description": "Height <of> the “tide”", "parameters": {
        "type": "object", "properties": {"hour": {"type": "integer"}}, "required": ["hour"]}}}
    user = lambda text: {"role": "user", "content": text}
    answer = lambda text: {"role": "assistant", "content": text}
    conversations = [
        ("single", [user("Is the lamp lit?")], {}),
        ("system", [{"role": "system", "content": "  Be brief.\n"}, user("Wind?"), answer("North. "), user("Tide?\nNow.")], {}),
        ("no_prompt", [user("Ship?"), answer("None, né ingen.")], {"add_generation_prompt": False}),
        ("tools", [user("Tide at 6?")], {"tools": [tool]}),
        ("tool_round", [user("Tide at 6?"), {"role": "assistant", "content": "", "tool_calls": [
            {"type": "function", "function": {"name": "tide", "arguments": {"hour": 6}}}]}, {"role": "tool", "content": "1.2 m"}],
            {"tools": [tool]}),
        ("twice", [user("One"), user("Two")], {}),
        ("limit", [user("a"), answer("b"), user("c"), answer("d")], {"kwargs": {"limit": 2}}),
    ]
    parts = [("parts", [{"role": "user", "content": [{"type": "text", "text": "See"}, {"type": "text", "text": "this"}]}], {})]
    sources = dict(TEMPLATES)
    sources["by_name"] = [{"name": "default", "template": "plain:{{ messages[0].content }}"},
                          {"name": "tool_use", "template": "tools={{ tools | length }}:{{ messages[0].content }}"}]
    templates = {}
    for name, source in sources.items():
        folder = case.folder / name
        folder.mkdir()
        special = {"bos_token": "<s>", "eos_token": "</s>"}
        if name == "strict":
            (folder / "chat_template.jinja").write_text(source)
            write_json(folder / "tokenizer_config.json", special)
        else:
            write_json(folder / "tokenizer_config.json", special | {"chat_template": source})
        template = {entry["name"]: entry["template"] for entry in source} if isinstance(source, list) else source
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", chat_template=template)
        cases = []
        for label, messages, options in conversations + (parts if name == "controls" else []):
            tools, kwargs = options.get("tools"), options.get("kwargs", {})
            prompt = options.get("add_generation_prompt", True)
            entry = {"name": label, "messages": messages, "tools": tools, "add_generation_prompt": prompt, "kwargs": kwargs}
            try:
                entry["rendered"] = fast.apply_chat_template(
                    messages, tools=tools, tokenize=False, add_generation_prompt=prompt, **kwargs)
            except Exception as error:
                entry |= {"error": str(error), "error_type": type(error).__name__}
            cases.append(entry)
        templates[name] = {"path": name, "special_tokens": special, "cases": cases}
    case.finish(templates=templates)


# --- GGUF -------------------------------------------------------------------------------------------------------------

K_BLOCKS = {"Q2_K": 84, "Q3_K": 110, "Q4_K": 144, "Q5_K": 176, "Q6_K": 210}
# Where the half-precision scales of a block lie.
K_SCALES = {"Q2_K": [(80, 1.0), (82, 0.4)], "Q3_K": [(108, 1.0)], "Q4_K": [(0, 1.0), (2, 0.4)], "Q5_K": [(0, 0.6), (2, 0.4)],
            "Q6_K": [(208, 0.06)]}


def quantize(weight, kind, random):
    """Bytes of a weight; of K-quants, for which there is no encoder here, random blocks of a sensible size."""
    qtype = gguf.GGMLQuantizationType[kind]
    if kind in K_BLOCKS:
        rows, columns = weight.shape
        blocks = random.integers(0, 256, (rows, columns // 256, K_BLOCKS[kind]), dtype=np.uint8)
        for offset, scale in K_SCALES[kind]:
            values = (scale * 0.006 * random.uniform(0.5, 1.5, (rows, columns // 256, 1))).astype(np.float16)
            blocks[:, :, offset : offset + 2] = values.view(np.uint8)
        data = blocks.reshape(rows, -1)
    else:
        data = gguf.quants.quantize(weight, qtype)
    return qtype, data, gguf.quants.dequantize(data, qtype).reshape(weight.shape)


def gguf_cases(root):
    case = Case(root, "gguf", "gguf")
    random = np.random.default_rng(2000)
    ids = [1, 17, 5, 33, 60, 2, 41, 8]
    files = []
    plans = {
        "mixed.gguf": (dict(hidden=64, heads=4, keys=2, inner=96, layers=2, vocab=72), {
            "token_embd": "Q8_0", "attn_q": "Q4_0", "attn_k": "Q4_1", "attn_v": "Q5_0", "attn_output": "Q5_1",
            "ffn_gate": "Q4_1", "ffn_up": "Q8_0", "ffn_down": "BF16", "output": "Q5_0"}, None),
        "k-quants.gguf": (dict(hidden=256, heads=4, keys=1, inner=256, layers=1, vocab=64), {
            "token_embd": "Q6_K", "attn_q": "Q4_K", "attn_k": "Q5_K", "attn_v": "Q6_K", "attn_output": "Q3_K",
            "ffn_gate": "Q2_K", "ffn_up": "Q4_K", "ffn_down": "Q5_K"}, None),
        "scaled.gguf": (dict(hidden=32, heads=2, keys=2, inner=64, layers=1, vocab=64), {
            "token_embd": "F32", "attn_q": "F16", "attn_k": "F16", "attn_v": "F16", "attn_output": "Q8_0",
            "ffn_gate": "Q4_0", "ffn_up": "F16", "ffn_down": "F32"}, 8),
    }
    for number, (file, (shape, kinds, factors)) in enumerate(plans.items()):
        files.append(gguf_file(case, random, number, file, shape, kinds, factors, ids))
    case.finish(input_ids=ids, files=files, tolerance={"logits_rel_to_max_abs": 1e-4},
                notes="rows of attn_q and attn_k are permuted as llama.cpp's converter does; the K-quant blocks are random")


def gguf_file(case, random, number, file, shape, kinds, factors, ids):
    hidden, heads, keys, inner, layers, vocab = (shape[k] for k in ("hidden", "heads", "keys", "inner", "layers", "vocab"))
    dim = hidden // heads
    writer = gguf.GGUFWriter(str(case.folder / file), "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(keys)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(dim)
    writer.add_vocab_size(vocab)
    types, state, stored = {}, {}, {}

    def add(name, hf, rows, columns, kind, permute=None):
        qtype, data, values = quantize((random.standard_normal((rows, columns)) * 1.2 / math.sqrt(columns)).astype(np.float32),
                                       kind, random)
        types[name], stored[name] = kind, values
        writer.add_tensor(name, data, raw_dtype=qtype)
        if permute:
            # llama.cpp has the pairs that are rotated together next to each other; transformers has them half a head apart.
            values = values.reshape(permute, dim // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
        state[hf] = torch.tensor(np.ascontiguousarray(values), dtype=torch.float32)

    def norm(name, hf):
        values = (1 + 0.1 * random.standard_normal(hidden)).astype(np.float32)
        types[name] = "F32"
        writer.add_tensor(name, values)
        state[hf] = torch.tensor(values)

    add("token_embd.weight", "model.embed_tokens.weight", vocab, hidden, kinds["token_embd"])
    if "output" in kinds:
        add("output.weight", "lm_head.weight", vocab, hidden, kinds["output"])
    norm("output_norm.weight", "model.norm.weight")
    if factors:
        values = np.linspace(1.0, factors, dim // 2).astype(np.float32)
        types["rope_freqs.weight"] = "F32"
        writer.add_tensor("rope_freqs.weight", values)
    for layer in range(layers):
        b, m = f"blk.{layer}.", f"model.layers.{layer}."
        norm(b + "attn_norm.weight", m + "input_layernorm.weight")
        norm(b + "ffn_norm.weight", m + "post_attention_layernorm.weight")
        for name, hf, rows, columns, permute in (
            ("attn_q", "self_attn.q_proj", hidden, hidden, heads), ("attn_k", "self_attn.k_proj", keys * dim, hidden, keys),
            ("attn_v", "self_attn.v_proj", keys * dim, hidden, None), ("attn_output", "self_attn.o_proj", hidden, hidden, None),
            ("ffn_gate", "mlp.gate_proj", inner, hidden, None), ("ffn_up", "mlp.up_proj", inner, hidden, None),
            ("ffn_down", "mlp.down_proj", hidden, inner, None),
        ):
            add(f"{b}{name}.weight", f"{m}{hf}.weight", rows, columns, kinds[name], permute)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    config = transformers.LlamaConfig(
        vocab_size=vocab, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=keys, rms_norm_eps=1e-5, max_position_embeddings=64, tie_word_embeddings="output" not in kinds)
    model = transformers.LlamaForCausalLM._from_config(config, attn_implementation="eager").eval()
    missing = model.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys and set(missing.missing_keys) <= {"lm_head.weight"}, missing
    model.tie_weights()
    if factors:
        model.model.rotary_emb.inv_freq /= torch.tensor(np.linspace(1.0, factors, dim // 2).astype(np.float32))
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0]
        tokens, margin, sequence = [], 1.0, list(ids)
        for _ in range(8):
            last = model(input_ids=torch.tensor([sequence])).logits[0, -1]
            top = last.topk(2).values
            margin = min(margin, float((top[0] - top[1]) / last.abs().max()))
            tokens.append(int(last.argmax()))
            sequence.append(tokens[-1])
    return {"file": file, "tensor_types": types, "logits": case.tensor(f"files.{number}.logits", logits),
            "dequantized": {name: case.tensor(f"files.{number}.dequantized.{name}", stored[name][:2])
                            for name in ("token_embd.weight", "blk.0.attn_q.weight", "blk.0.ffn_down.weight")},
            **({"greedy": {"max_new_tokens": 8, "tokens": tokens}} if margin >= 1e-3 else {})}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    root = parser.parse_args().folder
    root.mkdir(parents=True, exist_ok=True)
    language_models(root)
    encoders(root)
    sampling(root)
    tokenizer_cases(root)
    chat_templates(root)
    gguf_cases(root)


if __name__ == "__main__":
    main()
