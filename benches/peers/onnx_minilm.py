"""all-MiniLM-L6-v2 (or another BERT with mean pooling) in ONNX Runtime, in f32: the figures that ours are compared with.

    python benches/peers/onnx_minilm.py --model FOLDER --input TEXTS [--batch 32] [--threads 2] [--repeats 5]

FOLDER is a Hugging Face folder with model.safetensors and tokenizer.json; TEXTS has one text a line. Prints one JSON
object: texts and tokens a second with and without tokenisation (medians over the repeats), and with --check FILE (JSON
with `sentences` and `embeddings`) the lowest cosine to those.

The graph is written here op by op with ONNX's own LayerNormalization and Gelu, which spares installing PyTorch for an
export; ONNX Runtime then fuses what it can (ORT_ENABLE_ALL). Texts are sorted by length before they are batched, as
sentence-transformers does.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from tokenizers import Tokenizer

OPSET = 20


class Graph:
    """Nodes and weights in the order in which they are computed."""

    def __init__(self, weights):
        self.weights = {name.removeprefix("bert."): tensor.astype(np.float32) for name, tensor in weights.items()
                        if np.issubdtype(tensor.dtype, np.floating)}
        self.nodes, self.initializers, self.used = [], [], {}

    def constant(self, value):
        return self.initializer(f"constant_{len(self.initializers)}", np.asarray(value))

    def initializer(self, name, value):
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def weight(self, name, transpose=False):
        if name not in self.used:
            tensor = self.weights[name]
            self.used[name] = self.initializer(name, tensor.T if transpose else tensor)
        return self.used[name]

    def op(self, kind, *inputs, **attributes):
        output = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def linear(self, x, name):
        return self.op("Add", self.op("MatMul", x, self.weight(f"{name}.weight", transpose=True)),
                       self.weight(f"{name}.bias"))

    def norm(self, x, name, eps):
        return self.op("LayerNormalization", x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"),
                       axis=-1, epsilon=eps)


def build(folder):
    config = json.loads((folder / "config.json").read_text())
    hidden, heads, eps = config["hidden_size"], config["num_attention_heads"], config["layer_norm_eps"]
    size = hidden // heads
    g = Graph(load_file(folder / "model.safetensors"))

    length = g.op("Shape", "input_ids", start=1, end=2)
    positions = g.op("Slice", g.weight("embeddings.position_embeddings.weight"), g.constant(np.array([0])), length)
    x = g.op("Gather", g.weight("embeddings.word_embeddings.weight"), "input_ids")
    x = g.op("Add", x, positions)
    kinds = g.weights["embeddings.token_type_embeddings.weight"][0]
    x = g.op("Add", x, g.constant(kinds))
    x = g.norm(x, "embeddings.LayerNorm", eps)

    mask = g.op("Cast", "attention_mask", to=TensorProto.FLOAT)
    bias = g.op("Mul", g.op("Sub", g.constant(np.float32(1)), mask), g.constant(np.float32(-3.0e38)))
    bias = g.op("Unsqueeze", bias, g.constant(np.array([1, 2])))
    split = g.constant(np.array([0, 0, heads, size]))
    joined = g.constant(np.array([0, 0, hidden]))
    for layer in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{layer}"

        def head(part, perm):
            projected = g.linear(x, f"{name}.attention.self.{part}")
            return g.op("Transpose", g.op("Reshape", projected, split), perm=perm)

        query, key, value = head("query", [0, 2, 1, 3]), head("key", [0, 2, 3, 1]), head("value", [0, 2, 1, 3])
        scores = g.op("Div", g.op("MatMul", query, key), g.constant(np.float32(np.sqrt(size))))
        weights = g.op("Softmax", g.op("Add", scores, bias), axis=-1)
        mixed = g.op("Transpose", g.op("MatMul", weights, value), perm=[0, 2, 1, 3])
        attended = g.linear(g.op("Reshape", mixed, joined), f"{name}.attention.output.dense")
        x = g.norm(g.op("Add", attended, x), f"{name}.attention.output.LayerNorm", eps)
        inner = g.op("Gelu", g.linear(x, f"{name}.intermediate.dense"))
        x = g.norm(g.op("Add", g.linear(inner, f"{name}.output.dense"), x), f"{name}.output.LayerNorm", eps)

    weights = g.op("Unsqueeze", mask, g.constant(np.array([-1])))
    axes = g.constant(np.array([1]))
    total = g.op("ReduceSum", g.op("Mul", x, weights), axes, keepdims=0)
    mean = g.op("Div", total, g.op("ReduceSum", weights, axes, keepdims=0))
    g.nodes.append(helper.make_node("LpNormalization", [mean], ["embeddings"], axis=-1, p=2))

    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
              for name in ("input_ids", "attention_mask")]
    outputs = [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["batch", hidden])]
    model = helper.make_model(helper.make_graph(g.nodes, "bert", inputs, outputs, g.initializers),
                              opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


class Encoder:
    def __init__(self, folder, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(build(folder), options, providers=["CPUExecutionProvider"])
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        limit = 256
        if (folder / "sentence_bert_config.json").exists():
            limit = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
        self.tokenizer.enable_truncation(limit)
        self.tokenizer.no_padding()

    def tokenize(self, texts):
        return [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]

    def embed(self, tokens, batch):
        order = sorted(range(len(tokens)), key=lambda i: -len(tokens[i]))
        rows = [None] * len(tokens)
        for start in range(0, len(order), batch):
            part = order[start:start + batch]
            longest = max(len(tokens[i]) for i in part)
            ids = np.zeros((len(part), longest), np.int64)
            mask = np.zeros_like(ids)
            for row, i in enumerate(part):
                ids[row, :len(tokens[i])] = tokens[i]
                mask[row, :len(tokens[i])] = 1
            [out] = self.session.run(None, {"input_ids": ids, "attention_mask": mask})
            for row, i in enumerate(part):
                rows[i] = out[row]
        return np.stack(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--check", type=Path)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()

    started = time.perf_counter()
    encoder = Encoder(arguments.model, arguments.threads)
    result = {"load_s": time.perf_counter() - started, "onnxruntime": onnxruntime.__version__,
              "threads": arguments.threads, "batch": arguments.batch}
    if arguments.input:
        texts = arguments.input.read_text().splitlines()
        whole, model_only = [], []
        encoder.embed(encoder.tokenize(texts[:arguments.batch]), arguments.batch)
        for _ in range(arguments.repeats):
            started = time.perf_counter()
            tokens = encoder.tokenize(texts)
            tokenized = time.perf_counter()
            encoder.embed(tokens, arguments.batch)
            ended = time.perf_counter()
            whole.append(ended - started)
            model_only.append(ended - tokenized)
        count = sum(map(len, tokens))
        result |= {"texts": len(texts), "tokens": count, "texts_s": len(texts) / statistics.median(whole),
                   "tokens_s": count / statistics.median(whole),
                   "texts_s_without_tokenizer": len(texts) / statistics.median(model_only)}
    if arguments.check:
        expected = json.loads(arguments.check.read_text())
        got = encoder.embed(encoder.tokenize(expected["sentences"]), arguments.batch)
        want = np.asarray(expected["embeddings"], np.float32)
        result["lowest_cosine"] = float((got * want).sum(1).min())
    print(json.dumps(result))


if __name__ == "__main__":
    main()
