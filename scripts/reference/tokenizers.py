#!/usr/bin/env python3
"""Makes bedrock-models/tests/fixtures/tokenizers: tiny tokenizers of every kind, the same ones as GGUF metadata, and what
the reference implementations make of difficult texts.

    python -m venv .venv && .venv/bin/pip install tokenizers==0.23.3 transformers==5.23.0 sentencepiece==0.2.3 gguf==0.19.0 protobuf
    .venv/bin/python scripts/reference/tokenizers.py

The corpus is written here, so nothing of the result is anybody else's work.
"""

import json
import sys
import tempfile
from pathlib import Path

# This file must not shadow the package of the same name.
sys.path = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]

import gguf
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

OUT = Path(__file__).resolve().parents[2] / "bedrock-models" / "tests" / "fixtures" / "tokenizers"

CORPUS = [
    "The keeper opened the hive and counted the frames of honey, wax and brood.",
    "In spring the bees fly to the willows; in summer they fly to the lime trees.",
    "She's sure that they'll swarm, but he doesn't think so: it's too cold, isn't it?",
    "On 12 May 2024 there were 42 frames, 7 of them full, weighing 31.5 kg in all.",
    "def weigh(hive):\n    total = 0\n    for frame in hive:\n        total += frame.weight\n    return total",
    "The older keeper had seen hotter summers, lower rivers and larger swarms than these.",
    "Mel, miel, Honig, méz, miód, bal, hunang: every language has its own word for honey.",
    "Őszintén szólva a méhek télen is élnek. Пчёлы летают летом. Les abeilles étaient là.",
    "蜂蜜は甘い。蜂は花から花へ飛ぶ。天气很好，蜜蜂很忙。",
    "https://example.org/hives?id=42&sort=weight#top",
    "counting, counted, counts; opening, opened, opens; flying, flew, flown; weighing, weighed",
] * 4

TEXTS = [
    "", " ", "   ", "a", "honey", " honey", "  two  spaces ", "The keeper's hives aren't empty.", "tab\there\n\n\nnewlines\r\n",
    "0 12 123 1234 12345 3.14 1,000,000", "Héllo wörld ñandú", "e\u0301 vs \u00e9, n\u0303 vs \u00f1", "蜂蜜は甘いABC天气9",
    "Пчёлы гудели", "🍯🐝 👨‍👩‍👧 ❤️", "ｆｕｌｌ ﬁ ™ ½", "nb\u00a0sp zw\u200dj \u2028 sep", "def f(x):\n\treturn {'k': [1, 2]}",
    "▁under▁score", "<s> inline </s> and <unk>", "[CLS] x [SEP] [MASK]", "<|im_start|>user\nHi<|im_end|>\n", "<0x41><0x0A>",
    "UPPER lower MiXeD camelCase", "ooooooooooooooooooooooo", "...!?;--==>>", "\u0000\u0001\u007f", "trailing space ", "ĀāĠ disguised",
    "don't DON'T Don’t", "x" * 120, "天" * 30,
]


def describe(tokenizer):
    cases = []
    for text in TEXTS:
        ids = tokenizer.encode(text)
        plain = tokenizer.encode(text, add_special_tokens=False)
        cases.append({
            "text": text,
            "ids": ids.ids,
            "ids_no_special": plain.ids,
            "offsets": [list(o) for o in ids.offsets],
            "decoded": tokenizer.decode(plain.ids, skip_special_tokens=False),
            "decoded_skip_special": tokenizer.decode(ids.ids),
        })
    first, second = TEXTS[7], TEXTS[9]
    pair = tokenizer.encode(first, second)
    out = {
        "vocab_size": tokenizer.get_vocab_size(),
        "cases": cases,
        "pair": {"text": first, "text_pair": second, "ids": pair.ids, "type_ids": pair.type_ids},
        "truncation": [],
    }
    for length in (4, 9, 16):
        tokenizer.enable_truncation(length)
        single, both = tokenizer.encode(first), tokenizer.encode(first, second)
        out["truncation"].append({"max_length": length, "single": single.ids, "pair": both.ids, "pair_type_ids": both.type_ids})
    tokenizer.no_truncation()
    return out


def save(name, tokenizer, write_metadata, config=None):
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    expected = describe(tokenizer)
    (folder / "expected.json").write_text(json.dumps(expected, ensure_ascii=True, separators=(",", ":")) + "\n")
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    writer = gguf.GGUFWriter(str(folder / "tokenizer.gguf"), "llama")
    write_metadata(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(name, tokenizer.get_vocab_size())


def tokens_of(tokenizer):
    vocab = tokenizer.get_vocab()
    return [token for token, _ in sorted(vocab.items(), key=lambda item: item[1])]


def types_of(tokenizer, tokens):
    T = gguf.TokenType
    added = tokenizer.get_added_tokens_decoder()
    return [T.NORMAL if i not in added else T.CONTROL if added[i].special else T.USER_DEFINED for i in range(len(tokens))]


# ---------------------------------------------------------------------------------------------------------- byte-level BPE

GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
LLAMA3 = (
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
    "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
QWEN2 = LLAMA3.replace("\\p{N}{1,3}", "\\p{N}")
TEKKEN = (
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*"
    "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
DEEPSEEK3 = (
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def byte_level():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


# Pre-tokenizers as in the published tokenizer.json files of each family.
FAMILIES = {
    "gpt-2": (None, [pre_tokenizers.ByteLevel(add_prefix_space=False)], False),
    "smollm": (None, [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)], False),
    "llama-bpe": (None, [split(LLAMA3), byte_level()], True),
    "qwen2": (normalizers.NFC(), [split(QWEN2), byte_level()], False),
    "tekken": (None, [split(TEKKEN), byte_level()], True),
    "command-r": (
        normalizers.NFC(),
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)],
        False,
    ),
    "deepseek-v3": (None, [split("\\p{N}{1,3}"), split("[一-龥\u3040-ゟ゠-ヿ]+"), split(DEEPSEEK3), byte_level()], False),
}


def byte_bpe(pre):
    normalizer, steps, ignore_merges = FAMILIES[pre]
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens(["<s>", "</s>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken("<think>", normalized=False)])
    bos, eos = tokenizer.token_to_id("<s>"), tokenizer.token_to_id("</s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", bos)]
    )

    def metadata(writer):
        tokens = tokens_of(tokenizer)
        merges = json.loads(tokenizer.to_str())["model"]["merges"]
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(tokens)
        writer.add_token_types(types_of(tokenizer, tokens))
        writer.add_token_merges([" ".join(merge) for merge in merges])
        writer.add_bos_token_id(bos)
        writer.add_eos_token_id(eos)
        writer.add_add_bos_token(True)

    save(f"bpe-{pre}", tokenizer, metadata, {"bos_token": "<s>", "eos_token": "</s>"})


# ----------------------------------------------------------------------------------------------------------- SentencePiece

RULES = "\n".join(
    # Code points in hexadecimal: some of NFKC.
    ["A0\t20", "2028\t20", "3000\t20", "2122\t54 4D", "FB01\t66 69", "BD\t31 2044 32", "65 301\tE9", "6E 303\tF1"]
    + [f"{0xFF41 + i:X}\t{0x61 + i:X}" for i in range(26)]
    + ["9\t20", "A\t20", "D\t20"]
)


def sentencepiece_model(kind, folder, **options):
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(line.replace("\n", " ") for line in CORPUS))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / kind), model_type=kind, minloglevel=2, **options
    )
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString((folder / f"{kind}.model").read_bytes())
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{kind}.model"))
    return model, processor


def write_pieces(writer, model, name):
    writer.add_tokenizer_model(name)
    writer.add_token_list([piece.piece for piece in model.pieces])
    writer.add_token_scores([piece.score for piece in model.pieces])
    # The numbers are the same ones.
    writer.add_token_types([gguf.TokenType(piece.type) for piece in model.pieces])


def generate_merges(model):
    """As transformers' converters: every cut of a piece into two, best pieces first, then longer parts."""
    scores = {p.piece: p.score for p in model.pieces if p.type in (1, 4, 5)}
    ids = {p.piece: i for i, p in enumerate(model.pieces)}
    merges = []
    for piece, score in scores.items():
        cuts = [(piece[:i], piece[i:], score) for i in range(1, len(piece)) if piece[:i] in scores and piece[i:] in scores]
        merges.extend(sorted(cuts, key=lambda cut: (ids[cut[0]], ids[cut[1]])))
    merges.sort(key=lambda cut: (cut[2], len(cut[0]), len(cut[1])), reverse=True)
    return [(left, right) for left, right, _ in merges]


def sp_bpe(folder, prefix):
    model, processor = sentencepiece_model(
        "bpe", folder, vocab_size=460, byte_fallback=True, character_coverage=0.98, num_threads=1, normalization_rule_name="identity",
        remove_extra_whitespaces=False, add_dummy_prefix=prefix, split_digits=True, user_defined_symbols=["<think>"],
    )
    merges = generate_merges(model)
    tokenizer = Tokenizer(models.BPE(
        {p.piece: i for i, p in enumerate(model.pieces)}, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True
    ))
    steps = [normalizers.Prepend("▁")] if prefix else []
    tokenizer.normalizer = normalizers.Sequence(steps + [normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()] + ([decoders.Strip(" ", 1, 0)] if prefix else [])
    )
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in ("<unk>", "<s>", "</s>")])
    tokenizer.add_tokens([AddedToken("<think>", normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    # The conversion should not have changed the tokenizer.
    differ = [t for t in TEXTS if "<" not in t and processor.encode(t) != tokenizer.encode(t, add_special_tokens=False).ids]
    print("  differs from sentencepiece on", differ)

    def metadata(writer):
        write_pieces(writer, model, "llama")
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
        writer.add_add_bos_token(True)
        writer.add_add_space_prefix(prefix)

    name = "sentencepiece-bpe" + ("" if prefix else "-no-prefix")
    save(name, tokenizer, metadata, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})


def sp_unigram(folder):
    rules = folder / "rules.tsv"
    rules.write_text(RULES)
    model, processor = sentencepiece_model(
        "unigram", folder, vocab_size=300, normalization_rule_tsv=str(rules), pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
        hard_vocab_limit=False, num_threads=1, user_defined_symbols=["<extra_0>"],
    )
    tokenizer = Tokenizer(models.Unigram([(p.piece, p.score) for p in model.pieces], 2))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap)])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in ("<pad>", "</s>", "<unk>")])
    tokenizer.add_tokens([AddedToken("<extra_0>", normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    differ = [t for t in TEXTS if "<" not in t and processor.encode(t) != tokenizer.encode(t, add_special_tokens=False).ids]
    print("  differs from sentencepiece on", differ)

    def metadata(writer):
        write_pieces(writer, model, "t5")
        writer.add_eos_token_id(1)
        writer.add_pad_token_id(0)
        writer.add_unk_token_id(2)
        writer.add_add_bos_token(False)
        writer.add_add_eos_token(True)
        writer.add_add_space_prefix(True)
        writer.add_remove_extra_whitespaces(True)
        writer.add_precompiled_charsmap(model.normalizer_spec.precompiled_charsmap)

    save("sentencepiece-unigram", tokenizer, metadata, {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"})


# --------------------------------------------------------------------------------------------------------------- WordPiece


def wordpiece(lowercase):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    )
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", cls), ("[SEP]", sep)]
    )

    def metadata(writer):
        tokens = tokens_of(tokenizer)
        types = types_of(tokenizer, tokens)

        def phantom(token, kind):
            if kind == gguf.TokenType.CONTROL:
                return token
            return token[2:] if token.startswith("##") else "▁" + token

        writer.add_tokenizer_model("bert")
        writer.add_token_list([phantom(token, kind) for token, kind in zip(tokens, types)])
        writer.add_token_types(types)
        writer.add_unk_token_id(tokenizer.token_to_id("[UNK]"))
        writer.add_sep_token_id(sep)
        writer.add_pad_token_id(tokenizer.token_to_id("[PAD]"))
        writer.add_mask_token_id(tokenizer.token_to_id("[MASK]"))
        writer.add_bos_token_id(cls)
        if not lowercase:
            writer.add_bool("tokenizer.ggml.normalizer.lowercase", False)

    config = {f"{t}_token": f"[{t.upper()}]" for t in ("pad", "unk", "cls", "sep", "mask")}
    save("wordpiece-" + ("uncased" if lowercase else "cased"), tokenizer, metadata, config)


if __name__ == "__main__":
    for family in FAMILIES:
        byte_bpe(family)
    with tempfile.TemporaryDirectory() as folder:
        sp_bpe(Path(folder), True)
        sp_bpe(Path(folder), False)
        sp_unigram(Path(folder))
    wordpiece(True)
    wordpiece(False)
