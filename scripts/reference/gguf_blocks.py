"""Makes the GGUF fixtures of bedrock-models with the reference implementation of the format.

    python3 -m venv venv && venv/bin/pip install gguf==0.19.0 safetensors==0.8.0
    venv/bin/python scripts/reference/gguf_blocks.py bedrock-models/tests/fixtures/gguf

blocks.gguf            a tensor [3, 256] of every storage type the package decodes (and we read), of random blocks
blocks.safetensors     the same tensors decoded by the package, and values encoded by it
v3.gguf, v2.gguf       every type of metadata value and some small tensors; the versions differ in the version number
split-0000?-of-00003.gguf   one model in three files

Everything is seeded: running it again gives the same bytes.
"""

import sys
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, quants
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from safetensors.numpy import save_file

ROWS, COLUMNS = 3, 256

# Where a block of random bytes needs a finite half precision number.
HALF_OFFSETS = {
    Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0],
    Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208],
    Type.IQ4_NL: [0], Type.IQ4_XS: [0], Type.TQ1_0: [52], Type.TQ2_0: [64], Type.MXFP4: [],
}
ENCODED = [Type.Q8_0, Type.Q4_0, Type.Q4_1]
NUMBERS = {
    Type.F32: np.float32, Type.F64: np.float64, Type.F16: np.float16,
    Type.I8: np.int8, Type.I16: np.int16, Type.I32: np.int32, Type.I64: np.int64,
}


def random_blocks(rng, kind):
    block_len, block_bytes = GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (ROWS * COLUMNS // block_len, block_bytes), dtype=np.uint8)
    for offset in HALF_OFFSETS[kind]:
        scales = rng.normal(0, 0.1, len(blocks)).astype("<f2")
        blocks[:, offset:offset + 2] = scales.view(np.uint8).reshape(-1, 2)
    if kind == Type.MXFP4:
        # Every kind of exponent: the two below the normal numbers, ordinary ones; 255 is not a number.
        blocks[:, 0] = rng.integers(100, 140, len(blocks), dtype=np.uint8)
        blocks[0, 0], blocks[1, 0], blocks[2, 0] = 0, 1, 2
    return blocks.reshape(ROWS, COLUMNS // block_len * block_bytes)


def write(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_blocks(folder):
    rng = np.random.default_rng(20)
    writer = GGUFWriter(folder / "blocks.gguf", "none")
    expected = {}
    for kind in HALF_OFFSETS:
        blocks = random_blocks(rng, kind)
        writer.add_tensor(kind.name, blocks, raw_dtype=kind)
        expected[f"decoded.{kind.name}"] = quants.dequantize(blocks, kind).astype(np.float32)
    for kind, dtype in NUMBERS.items():
        if np.issubdtype(dtype, np.integer):
            limits = np.iinfo(dtype)
            numbers = rng.integers(limits.min, limits.max, (ROWS, COLUMNS), dtype=dtype, endpoint=True)
        else:
            numbers = rng.normal(0, 3, (ROWS, COLUMNS)).astype(dtype)
        writer.add_tensor(kind.name, numbers)
        expected[f"decoded.{kind.name}"] = numbers.astype(np.float32)
    values = rng.normal(0, 3, (ROWS, COLUMNS)).astype(np.float32)
    brain = quants.quantize(values, Type.BF16)
    writer.add_tensor("BF16", brain, raw_dtype=Type.BF16)
    expected["decoded.BF16"] = quants.dequantize(brain, Type.BF16)
    write(writer)

    values[0, :32] = 0  # a block of zeros has no scale
    values[0, 32:64] = -1.5  # nor has one of equal values a range
    values[1, :32] = np.linspace(-8, 7.5, 32)  # ties
    expected["values"] = values
    for kind in ENCODED:
        expected[f"encoded.{kind.name}"] = np.ascontiguousarray(quants.quantize(values, kind))
    save_file(expected, folder / "blocks.safetensors")


def add_metadata(writer):
    writer.add_uint8("test.u8", 200)
    writer.add_int8("test.i8", -100)
    writer.add_uint16("test.u16", 60_000)
    writer.add_int16("test.i16", -30_000)
    writer.add_uint32("test.u32", 4_000_000_000)
    writer.add_int32("test.i32", -2_000_000_000)
    writer.add_uint64("test.u64", 1 << 63)
    writer.add_int64("test.i64", -(1 << 62))
    writer.add_float32("test.f32", 0.5)
    writer.add_float64("test.f64", 1e300)
    writer.add_bool("test.bool", True)
    writer.add_string("test.string", "naïve 文 🦀")
    writer.add_array("test.strings", ["a", "", "ü"])
    writer.add_array("test.ints", [-1, 0, 1])
    writer.add_array("test.floats", [0.25, -2.0])
    writer.add_array("test.bools", [True, False])


def small_tensors(rng):
    return {
        "token_embd.weight": rng.normal(0, 1, (5, 8)).astype(np.float32),
        "blk.0.ffn.weight": rng.normal(0, 1, (2, 3, 4)).astype(np.float16),
        "output_norm.weight": rng.normal(0, 1, 8).astype(np.float32),
    }


def make_versions(folder):
    writer = GGUFWriter(folder / "v3.gguf", "test")
    add_metadata(writer)
    writer.add_custom_alignment(64)
    tensors = small_tensors(np.random.default_rng(3))
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    write(writer)
    content = bytearray((folder / "v3.gguf").read_bytes())
    content[4:8] = (2).to_bytes(4, "little")
    (folder / "v2.gguf").write_bytes(content)
    save_file({name: tensor.astype(np.float32) for name, tensor in tensors.items()}, folder / "v3.safetensors")


def make_split(folder):
    writer = GGUFWriter(folder / "split.gguf", "test", split_max_tensors=1)
    add_metadata(writer)
    for name, tensor in small_tensors(np.random.default_rng(3)).items():
        writer.add_tensor(name, tensor)
    write(writer)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    make_blocks(target)
    make_versions(target)
    make_split(target)
