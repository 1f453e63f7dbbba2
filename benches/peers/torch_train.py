"""What bench `train` measures, with PyTorch and PEFT on the CPU: the same checkpoint, sequence and optimiser. Prints a line of JSON."""

import argparse
import json
import resource
import statistics
import time

import torch
from transformers import AutoModelForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("checkpoint", help="what `train --write` has written")
parser.add_argument("--method", choices=["lora", "full"], default="lora")
parser.add_argument("--tokens", type=int, default=512)
parser.add_argument("--steps", type=int, default=5)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--precision", choices=["f32", "bf16"], default="f32", help="bf16: with torch.autocast")
arguments = parser.parse_args()

torch.set_num_threads(arguments.threads)
model = AutoModelForCausalLM.from_pretrained(arguments.checkpoint, dtype=torch.float32)
vocabulary = model.config.vocab_size
if arguments.method == "lora":
    from peft import LoraConfig, get_peft_model

    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=targets, task_type="CAUSAL_LM"))
model.train()
parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.0)
times = []
for step in range(arguments.steps + 1):
    ids = torch.tensor([[(i * 7919 + step * 104729) % vocabulary for i in range(arguments.tokens)]])
    start = time.perf_counter()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments.precision == "bf16"):
        loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1e9)
    optimizer.step()
    optimizer.zero_grad()
    times.append(time.perf_counter() - start)
median = statistics.median(times[1:])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"method": arguments.method, "precision": arguments.precision, "tokens_s": arguments.tokens / median, "step_s": median,
                  "loss": loss.item(), "peak_rss_mib": peak}))
