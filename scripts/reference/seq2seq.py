"""Makes the conformance fixture of mT5, in settings that published checkpoints do not have.

    pip install torch transformers tokenizers safetensors gguf numpy
    python -P scripts/reference/seq2seq.py bedrock-models/tests/fixtures/conformance

As conformance.py beside it, whose tokenizers, texts and format it uses.
"""

import argparse
import importlib.util
from pathlib import Path

import torch
from tokenizers import processors
from transformers import AutoConfig, AutoModelForSeq2SeqLM

# With -P, files of this folder do not hide the packages that have their names.
spec = importlib.util.spec_from_file_location("conformance", Path(__file__).with_name("conformance.py"))
conformance = importlib.util.module_from_spec(spec)
spec.loader.exec_module(conformance)


@torch.no_grad()
def case(root, name, config, *, seed, notes):
    tokenizer, _ = conformance.unigram(130)
    end = tokenizer.token_to_id("</s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", end)])
    text = conformance.TEXTS[0]
    ids, short = tokenizer.encode(text).ids, tokenizer.encode(conformance.TEXTS[1]).ids
    for attempt in range(200):
        case = conformance.Case(root, name, "seq2seq_lm")
        size = tokenizer.get_vocab_size()
        conformance.write_json(case.folder / "config.json", {"vocab_size": size, "eos_token_id": end} | config)
        conformance.write_json(case.folder / "generation_config.json", {"decoder_start_token_id": 1, "eos_token_id": end})
        conformance.save_tokenizer(case.folder, tokenizer, {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"})
        model = AutoModelForSeq2SeqLM.from_config(AutoConfig.from_pretrained(case.folder), attn_implementation="eager")
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
        conformance.randomize(model, seed + attempt)
        copies = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
        conformance.save_weights(case.folder, model, torch.float32, skip=copies)
        model = AutoModelForSeq2SeqLM.from_pretrained(case.folder, dtype=torch.float32, attn_implementation="eager").eval()
        assert not torch.equal(model.lm_head.weight, model.shared.weight)
        logits = lambda prompt, answer: model(
            input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([answer]), use_cache=False).logits[0]
        answers, margin = [], 1.0
        for prompt in (ids, short):
            answer = [1]
            for _ in range(12):
                last = logits(prompt, answer)[-1]
                top = last.topk(2).values
                margin = min(margin, float((top[0] - top[1]) / last.abs().max()))
                answer.append(int(last.argmax()))
            answers.append(answer[1:])
        if margin >= conformance.MARGIN and not any(end in answer for answer in answers):
            break
    else:
        raise SystemExit("no seed gives clear choices")
    forced = [1] + ids[3:18]
    target = short[:9]
    values = logits(ids, [1] + target[:-1]).double().log_softmax(-1).gather(1, torch.tensor(target)[:, None])[:, 0]
    hidden = model.get_encoder()(input_ids=torch.tensor([ids])).last_hidden_state[0]
    case.finish(
        model={"class": type(model).__name__, "weights_dtype": "float32", "compute_dtype": "float32", "vocab_size": size},
        tolerance={"logits_rel_to_max_abs": 1e-4, "logprob_abs": 1e-3, "tokens": "exact"}, min_greedy_margin_rel=margin,
        encode={"text": text, "input_ids": ids, "last_hidden_state": case.tensor("encode.last_hidden_state", hidden)},
        decode={"input_ids": ids, "decoder_input_ids": forced, "logits": case.tensor("decode.logits", logits(ids, forced))},
        greedy=[{"input_ids": ids, "max_new_tokens": 12, "tokens": answers[0], "text": tokenizer.decode(answers[0])},
                {"input_ids": short, "text_in": conformance.TEXTS[1], "max_new_tokens": 12, "tokens": answers[1]}],
        batch={"input_ids": [ids, short], "decoder_input_ids": forced, "last_logits": case.tensor(
            "batch.last_logits", torch.stack([logits(prompt, forced)[-1] for prompt in (ids, short)]))},
        logprob=[{"input_ids": ids, "target_ids": target, "token_logprobs": values.tolist(), "sum": float(values.sum())}],
        notes=notes)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    case(parser.parse_args().folder, "mt5_silu", {
        "architectures": ["MT5ForConditionalGeneration"], "model_type": "mt5", "d_model": 20, "d_kv": 6, "d_ff": 28,
        "num_layers": 1, "num_decoder_layers": 2, "num_heads": 5, "relative_attention_num_buckets": 10,
        "relative_attention_max_distance": 12, "feed_forward_proj": "gated-silu", "layer_norm_epsilon": 1e-4,
        "decoder_start_token_id": 1, "pad_token_id": 1, "is_encoder_decoder": True}, seed=4000,
        notes="an output layer of its own although the file does not say so; another start token; more heads than fit d_model")


if __name__ == "__main__":
    main()
