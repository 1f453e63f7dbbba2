"""llama.cpp on a GGUF file: the figures that ours are compared with.

    python benches/peers/llama_decode.py --model FILE.gguf [--threads 2] [--prefill 512] [--decode 128] [--repeats 5] [--no-extra-buffers]
    python benches/peers/llama_decode.py --model FILE.gguf --sequences 16 [--prefill 256] [--decode 64]
    python benches/peers/llama_decode.py --model FILE.gguf --tokens 504,3575,282 --top 10

Prints one JSON object. The first form: tokens a second of a prefill of pseudo-random tokens, of a decode from an empty
context and of one after the prefill (medians and bests over the repeats; each token of a decode is evaluated by itself,
none is sampled). The second: tokens a second of all sequences together, one token of each a step, after a prefill of
each. The third: the largest logits at the last of the tokens, as `[[id, value], …]`, for teacher forcing.

`rss_mib` is what the process takes at most beyond what Python took before the model was loaded.

Calls llama.cpp's own functions, so that what Python adds is a call a token (some 10 µs).
"""

import argparse
import ctypes
import json
import random
import resource
import statistics
import time

import llama_cpp

SEED = 7


class Model:
    def __init__(self, path, threads, context, extra_buffers, sequences=1):
        llama_cpp.llama_backend_init()
        llama_cpp.llama_log_set(QUIET, None)
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = 0
        parameters.use_extra_bufts = extra_buffers
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), parameters)
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {path}")
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = context
        parameters.n_seq_max = sequences
        parameters.kv_unified = sequences > 1
        # llama.cpp's own default for the width of a prefill step.
        parameters.n_ubatch = min(context, 512)
        parameters.n_threads = parameters.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, parameters)
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def forget(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def evaluate(self, tokens):
        array = (llama_cpp.llama_token * len(tokens))(*tokens)
        if llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(array, len(tokens))):
            raise SystemExit("llama.cpp cannot evaluate the tokens")

    def evaluate_together(self, parts):
        """`parts`: (sequence, first position, tokens) each."""
        count = sum(len(tokens) for _, _, tokens in parts)
        batch = llama_cpp.llama_batch_init(count, 0, 1)
        for sequence, first, tokens in parts:
            for offset, token in enumerate(tokens):
                at = batch.n_tokens
                batch.token[at], batch.pos[at] = token, first + offset
                batch.n_seq_id[at], batch.seq_id[at][0] = 1, sequence
                batch.logits[at] = offset == len(tokens) - 1
                batch.n_tokens += 1
        failed = llama_cpp.llama_decode(self.context, batch)
        llama_cpp.llama_batch_free(batch)
        if failed:
            raise SystemExit("llama.cpp cannot evaluate the batch")

    def logits(self):
        return llama_cpp.llama_get_logits_ith(self.context, -1)[:self.vocabulary]


@llama_cpp.llama_log_callback
def QUIET(_level, _text, _data):
    pass


def seconds(work):
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(model, arguments):
    numbers = random.Random(SEED)
    prompt = [numbers.randrange(model.vocabulary) for _ in range(arguments.prefill)]
    answer = [numbers.randrange(model.vocabulary) for _ in range(arguments.decode)]

    def decode():
        for token in answer:
            model.evaluate([token])

    times = {"prefill": [], "decode": [], "decode_after_prefill": []}
    for repeat in range(arguments.repeats + 1):
        model.forget()
        decode_empty = seconds(decode)
        model.forget()
        prefill = seconds(lambda: model.evaluate(prompt))
        decode_after = seconds(decode)
        if repeat > 0:  # the first run reads the file and warms up
            times["prefill"].append(prefill)
            times["decode"].append(decode_empty)
            times["decode_after_prefill"].append(decode_after)
    counts = {"prefill": len(prompt), "decode": len(answer), "decode_after_prefill": len(answer)}
    result = {}
    for name, values in times.items():
        result[f"{name}_tok_s"] = counts[name] / statistics.median(values)
        result[f"{name}_tok_s_best"] = counts[name] / min(values)
    return result


def measure_together(model, arguments):
    numbers = random.Random(SEED)
    sequences = range(arguments.sequences)
    times = []
    for repeat in range(arguments.repeats + 1):
        model.forget()
        for sequence in sequences:
            model.evaluate_together([(sequence, 0, [numbers.randrange(model.vocabulary) for _ in range(arguments.prefill)])])
        answers = [[numbers.randrange(model.vocabulary) for _ in sequences] for _ in range(arguments.decode)]

        def decode():
            for step, tokens in enumerate(answers):
                model.evaluate_together([(s, arguments.prefill + step, [tokens[s]]) for s in sequences])

        taken = seconds(decode)
        if repeat > 0:
            times.append(taken)
    tokens = arguments.decode * arguments.sequences
    return {"decode_tok_s_total": tokens / statistics.median(times), "decode_tok_s_total_best": tokens / min(times)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prefill", type=int, default=512)
    parser.add_argument("--decode", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sequences", type=int, default=1)
    parser.add_argument("--tokens")
    parser.add_argument("--top", type=int, default=10)
    # llama.cpp 0.3.36 ends with a segmentation fault in its AMX buffers on virtual machines that show AMX but do not run it.
    parser.add_argument("--no-extra-buffers", action="store_true", help="neither AMX nor repacked weights in llama.cpp")
    arguments = parser.parse_args()

    tokens = [int(token) for token in arguments.tokens.split(",")] if arguments.tokens else []
    context = max(arguments.prefill + arguments.decode, len(tokens)) + 1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = Model(arguments.model, arguments.threads, context * arguments.sequences, not arguments.no_extra_buffers,
                  arguments.sequences)
    result = {"llama_cpp_python": llama_cpp.__version__, "threads": arguments.threads,
              "system": ctypes.string_at(llama_cpp.llama_print_system_info()).decode().strip()}
    if tokens:
        model.evaluate(tokens)
        logits = model.logits()
        largest = sorted(range(len(logits)), key=lambda token: -logits[token])[:arguments.top]
        result["logits"] = [[token, logits[token]] for token in largest]
    elif arguments.sequences > 1:
        result |= measure_together(model, arguments)
    else:
        result |= measure(model, arguments)
    result["rss_mib"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps(result))


if __name__ == "__main__":
    main()
