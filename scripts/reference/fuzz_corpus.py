"""Makes the seeds of the weight files' fuzz targets: small files, right ones and one for each way of being wrong.

    python3 scripts/reference/fuzz_corpus.py bedrock-models/fuzz/corpus

Needs nothing but Python. Inputs that a fuzzer finds are added beside these by hand.
"""

import json
import struct
import sys
from pathlib import Path

U8, U32, STRING, ARRAY, F64 = 0, 4, 8, 9, 12
F32, Q4_0, Q6_K, TQ2_0 = 0, 2, 14, 35


def text(value):
    value = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(value)) + value


def key(name, kind, value):
    return text(name) + struct.pack("<I", kind) + value


def tensor(name, shape, kind, offset):
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def gguf(keys=(), tensors=(), data=b"", version=3, tensor_count=None, key_count=None):
    counts = (len(tensors) if tensor_count is None else tensor_count, len(keys) if key_count is None else key_count)
    header = b"GGUF" + struct.pack("<IQQ", version, *counts) + b"".join(keys) + b"".join(tensors)
    return header + bytes(-len(header) % 32) + data


def nested(depth):
    return struct.pack("<IQ", ARRAY, 1) * depth + struct.pack("<IQB", U8, 1, 7)


ARCHITECTURE = key("general.architecture", STRING, text("llama"))
TEXTS = struct.pack("<IQ", STRING, 3) + text("a") + text("") + text("ü")

GGUF = {
    "nothing": gguf(),
    "floats": gguf([ARCHITECTURE], [tensor("t", [2, 3], F32, 0)], bytes(24)),
    "blocks": gguf([ARCHITECTURE], [tensor("a", [32], Q4_0, 0), tensor("b", [256, 1], Q6_K, 32),
                                    tensor("c", [256], TQ2_0, 256)], bytes(range(256)) + bytes(66)),
    "values": gguf([key("a", ARRAY, TEXTS), key("b", ARRAY, nested(2)), key("c", F64, struct.pack("<d", 1.5))]),
    "alignment": gguf([key("general.alignment", U32, struct.pack("<I", 8))], [tensor("t", [1], F32, 8)], bytes(16)),
    "alignment-zero": gguf([key("general.alignment", U32, bytes(4))], [tensor("t", [1], F32, 0)], bytes(4)),
    "version-1": gguf(version=1),
    "big-endian": gguf(version=3 << 24),
    "many-keys": gguf([ARCHITECTURE], key_count=1 << 60),
    "many-tensors": gguf(tensor_count=(1 << 64) - 1),
    "long-text": gguf([text("k") + struct.pack("<IQ", STRING, (1 << 64) - 1)]),
    "long-array": gguf([key("k", ARRAY, struct.pack("<IQ", U32, 1 << 62))]),
    "nested": gguf([key("k", ARRAY, nested(9))]),
    "not-utf8": gguf([key("k", STRING, text(b"\xff"))]),
    "unknown-value": gguf([key("k", 13, bytes(8))]),
    "unknown-type": gguf(tensors=[tensor("t", [1], 4, 0)], data=bytes(4)),
    "key-twice": gguf([ARCHITECTURE, ARCHITECTURE]),
    "tensor-twice": gguf(tensors=[tensor("t", [1], F32, 0)] * 2, data=bytes(4)),
    "dimensions": gguf(tensors=[tensor("t", [1] * 5, F32, 0)], data=bytes(4)),
    "shape-overflow": gguf(tensors=[tensor("t", [1 << 32, 1 << 32], F32, 0)], data=bytes(4)),
    "shape-empty": gguf(tensors=[tensor("t", [0, 1 << 63], F32, 0)], data=bytes(4)),
    "half-block": gguf(tensors=[tensor("t", [16, 2], Q4_0, 0)], data=bytes(18)),
    "misaligned": gguf(tensors=[tensor("t", [1], F32, 4)], data=bytes(8)),
    "beyond": gguf(tensors=[tensor("t", [9], F32, 0)], data=bytes(32)),
    "offset-overflow": gguf(tensors=[tensor("t", [9], F32, (1 << 64) - 32)], data=bytes(64)),
}


def safetensors(header, data=b"", length=None):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def described(dtype, shape, start, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


SAFETENSORS = {
    "nothing": safetensors({}),
    "two": safetensors({"__metadata__": {"format": "pt"}, "a": described("F32", [2], 0, 8),
                        "b": described("BF16", [1, 2], 8, 12)}, bytes(12)),
    "scalar": safetensors({"a": described("F64", [], 0, 8)}, bytes(8)),
    "empty-tensor": safetensors({"a": described("F32", [0, 5], 0, 0)}),
    "short": b"\x01\x00",
    "long-header": safetensors({}, length=(1 << 64) - 1),
    "not-json": safetensors(b"{\xff}"),
    "nested": safetensors(b"[" * 300),
    "hole": safetensors({"a": described("U8", [4], 4, 8)}, bytes(8)),
    "overlap": safetensors({"a": described("U8", [4], 0, 4), "b": described("U8", [4], 2, 6)}, bytes(6)),
    "backwards": safetensors({"a": described("U8", [4], 8, 4)}, bytes(8)),
    "shape-overflow": safetensors({"a": described("F32", [1 << 40, 1 << 40], 0, 8)}, bytes(8)),
    "wrap-around": safetensors({f"t{i}": described("U8", [1 << 61], i << 61, i + 1 << 61) for i in range(7)}, bytes(8)),
    "appended": safetensors({"a": described("U8", [4], 0, 4)}, bytes(9)),
    "eight-bit-float": safetensors({"a": described("F8_E4M3", [4], 0, 4)}, bytes(4)),
    "unknown-type": safetensors({"a": described("Q9", [4], 0, 4)}, bytes(4)),
    "key-twice": safetensors(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
                             b'"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}', bytes(2)),
}

if __name__ == "__main__":
    for kind, files in [("gguf", GGUF), ("safetensors", SAFETENSORS)]:
        folder = Path(sys.argv[1]) / kind
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
