"""A job of example `finetune`, with PyTorch, transformers and PEFT on the CPU: the same items, batches of the same size, the same optimizer and
schedule; only the order of the items is another. Prints events as the example does.

Loss by token of each batch; sequences of a batch one after the other, so that nothing is padded. With `--save-base FOLDER` it only writes the
weights of a GGUF file as a Hugging Face folder (SmolLM2's); with `--adapter FOLDER` it only prints the validation loss of an adapter.
"""
import argparse
import json
import math
import random
import time

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

parser = argparse.ArgumentParser()
parser.add_argument("folder", help="of the model, or of the GGUF file")
parser.add_argument("--gguf", help="name of the GGUF file in the folder")
parser.add_argument("--job", help="the job: a JSON file")
parser.add_argument("--save-base", metavar="FOLDER")
parser.add_argument("--adapter", metavar="FOLDER", help="of an adapter that the example wrote")
arguments = parser.parse_args()
torch.set_num_threads(2)
source = {"gguf_file": arguments.gguf} if arguments.gguf else {}
tokenizer = AutoTokenizer.from_pretrained(arguments.folder, **source)
model = AutoModelForCausalLM.from_pretrained(arguments.folder, dtype=torch.float32, **source)
if arguments.save_base:
    # Read from a GGUF file, the tokenizer does not split numbers into digits, as SmolLM2's does ("smollm" in llama.cpp).
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    # The weights were expanded: they are plain ones now, though the library still knows where they came from.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(arguments.save_base)
    tokenizer.save_pretrained(arguments.save_base)
    raise SystemExit

job = json.load(open(arguments.job))
settings = {"learningRateWarmupSteps": 0, "weightDecay": 0.0, "gradientAccumulation": 1, **job["hyperParameters"]}
torch.manual_seed(settings["seed"])
if arguments.adapter:
    model = PeftModel.from_pretrained(model, arguments.adapter)
elif job["method"] != "full":
    lora = job["method"]["lora"]
    model = get_peft_model(model, LoraConfig(
        r=lora["r"], lora_alpha=lora["alpha"], lora_dropout=lora["dropout"], target_modules=lora["targets"], task_type="CAUSAL_LM"))
model.train()


def encode(text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def conversations(path):
    """One item a line: tokens, and the labels of the completion."""
    for line in open(path):
        record = json.loads(line)
        messages = [{"role": "user", "content": record["prompt"]}]
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        messages.append({"role": "assistant", "content": record["completion"]})
        whole = tokenizer.apply_chat_template(messages, tokenize=False)
        assert whole.startswith(prompt)
        prompt, completion = encode(prompt), encode(whole[len(prompt):])
        ids, labels = prompt + completion, [-100] * len(prompt) + completion
        yield ids[:settings["maxSequenceLength"]], labels[:settings["maxSequenceLength"]]


def text(path):
    """A document in pieces of the most tokens of an item."""
    ids = encode(open(path).read()) + [tokenizer.eos_token_id]
    for start in range(0, len(ids), settings["maxSequenceLength"]):
        piece = ids[start:start + settings["maxSequenceLength"]]
        if len(piece) > 1:
            yield piece, piece


def loss_sum(ids, labels):
    logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
    return torch.nn.functional.cross_entropy(logits, torch.tensor(labels[1:]), ignore_index=-100, reduction="sum")


def counted(items):
    return sum(sum(label >= 0 for label in labels[1:]) for _, labels in items)


def show(**event):
    print(json.dumps(event), flush=True)


def validate(step):
    model.eval()
    with torch.no_grad():
        loss = sum(loss_sum(*item).item() for item in validation) / counted(validation)
    model.train()
    show(type="validation", step=step, loss=loss, perplexity=math.exp(loss))
    return loss


items = conversations if job["customizationType"] == "FINE_TUNING" else text
training, validation = list(items(job["trainingData"])), list(items(job["validationData"]))
show(type="started", items=len(training), tokens=sum(len(ids) for ids, _ in training), validation_items=len(validation))
validate(0)
if arguments.adapter:
    raise SystemExit
parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
rate, warmup = settings["learningRate"], settings["learningRateWarmupSteps"]
optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=settings["weightDecay"])
size = settings["batchSize"] * settings["gradientAccumulation"]
steps = math.ceil(len(training) / size) * settings["epochCount"]
done, losses, tokens, seconds = 0, [], 0, 0.0
for epoch in range(settings["epochCount"]):
    random.Random(settings["seed"] + epoch).shuffle(training)
    for start in range(0, len(training), size):
        batch, began = training[start:start + size], time.perf_counter()
        total = 0.0
        for item in batch:
            loss = loss_sum(*item) / counted(batch)
            loss.backward()
            total += loss.item()
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, 1.0))
        share = (done + 1) / warmup if done < warmup else (steps - done) / (steps - warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate * share
        optimizer.step()
        optimizer.zero_grad()
        done, seconds = done + 1, seconds + time.perf_counter() - began
        tokens += sum(len(ids) for ids, _ in batch)
        losses.append(total)
        show(type="step", step=done, epoch=epoch + 1, loss=total, gradient_norm=norm, learning_rate=rate * share)
    last = validate(done)
epoch = losses[-(len(losses) // settings["epochCount"]):]
show(type="completed", train_loss=sum(epoch) / len(epoch), validation_loss=last, steps=done, tokens_s=tokens / seconds)
