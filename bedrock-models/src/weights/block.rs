//! Block formats: how quantised weights are packed, and the plain way of decoding them.
//!
//! These functions are the definition that the fast kernels are tested against; they are written to be compared with
//! the layouts, not to be fast. Layouts and arithmetic follow ggml (`ggml-common.h`, `ggml-quants.c`); each function
//! lists its block's bytes in order. `f16` scales are little endian, as everything is; within a byte the low bits come
//! first.

use half::{bf16, f16};

use super::Dtype;
use crate::error::Error;

/// Decodes stored bytes of any type to single precision.
///
/// `bytes` must be `dtype.bytes_for(out.len())` long. Integers and double precision numbers are rounded to the nearest
/// single precision number; everything else is exact up to the rounding of at most three operations.
///
/// # Errors
/// [`Error::BlockLength`] if the lengths do not match.
pub fn dequantize(dtype: Dtype, bytes: &[u8], out: &mut [f32]) -> Result<(), Error> {
    if dtype.bytes_for(out.len()) != Some(bytes.len()) {
        return Err(Error::BlockLength { dtype, bytes: bytes.len(), elements: out.len() });
    }
    match dtype {
        Dtype::F32 => each(bytes, out, |bytes, [out]| *out = f32::from_le_bytes(*bytes)),
        Dtype::F16 => each(bytes, out, |bytes, [out]| *out = f16::from_le_bytes(*bytes).to_f32()),
        Dtype::BF16 => each(bytes, out, |bytes, [out]| *out = bf16::from_le_bytes(*bytes).to_f32()),
        Dtype::F64 => each(bytes, out, |bytes, [out]| *out = f64::from_le_bytes(*bytes) as f32),
        Dtype::Bool => each(bytes, out, |[byte], [out]| *out = f32::from(u8::from(*byte != 0))),
        Dtype::U8 => each(bytes, out, |bytes, [out]| *out = u8::from_le_bytes(*bytes).into()),
        Dtype::I8 => each(bytes, out, |bytes, [out]| *out = i8::from_le_bytes(*bytes).into()),
        Dtype::U16 => each(bytes, out, |bytes, [out]| *out = u16::from_le_bytes(*bytes).into()),
        Dtype::I16 => each(bytes, out, |bytes, [out]| *out = i16::from_le_bytes(*bytes).into()),
        Dtype::U32 => each(bytes, out, |bytes, [out]| *out = u32::from_le_bytes(*bytes) as f32),
        Dtype::I32 => each(bytes, out, |bytes, [out]| *out = i32::from_le_bytes(*bytes) as f32),
        Dtype::U64 => each(bytes, out, |bytes, [out]| *out = u64::from_le_bytes(*bytes) as f32),
        Dtype::I64 => each(bytes, out, |bytes, [out]| *out = i64::from_le_bytes(*bytes) as f32),
        Dtype::Q4_0 => each(bytes, out, q4_0),
        Dtype::Q4_1 => each(bytes, out, q4_1),
        Dtype::Q5_0 => each(bytes, out, q5_0),
        Dtype::Q5_1 => each(bytes, out, q5_1),
        Dtype::Q8_0 => each(bytes, out, q8_0),
        Dtype::Q8_1 => each(bytes, out, q8_1),
        Dtype::Q2K => each(bytes, out, q2_k),
        Dtype::Q3K => each(bytes, out, q3_k),
        Dtype::Q4K => each(bytes, out, q4_k),
        Dtype::Q5K => each(bytes, out, q5_k),
        Dtype::Q6K => each(bytes, out, q6_k),
        Dtype::Q8K => each(bytes, out, q8_k),
        Dtype::Iq4Nl => each(bytes, out, iq4_nl),
        Dtype::Iq4Xs => each(bytes, out, iq4_xs),
        Dtype::Tq1_0 => each(bytes, out, tq1_0),
        Dtype::Tq2_0 => each(bytes, out, tq2_0),
        Dtype::Mxfp4 => each(bytes, out, mxfp4),
    }
    Ok(())
}

/// Encodes values as ggml's reference encoder does: for fixtures and tests, and for quantising on load.
///
/// Only `F32`, `F16`, `BF16`, `Q8_0`, `Q4_0` and `Q4_1` have an encoder.
///
/// # Errors
/// [`Error::Encode`] for other types and for values that do not fill whole blocks.
pub fn quantize(dtype: Dtype, values: &[f32]) -> Result<Vec<u8>, Error> {
    let refused = Error::Encode { dtype, elements: values.len() };
    let Some(length) = dtype.bytes_for(values.len()) else { return Err(refused) };
    let mut bytes = vec![0; length];
    match dtype {
        Dtype::F32 => each_back(values, &mut bytes, |[value], out| *out = value.to_le_bytes()),
        Dtype::F16 => each_back(values, &mut bytes, |[value], out| *out = f16::from_f32(*value).to_le_bytes()),
        Dtype::BF16 => each_back(values, &mut bytes, |[value], out| *out = bf16::from_f32(*value).to_le_bytes()),
        Dtype::Q8_0 => each_back(values, &mut bytes, encode_q8_0),
        Dtype::Q4_0 => each_back(values, &mut bytes, encode_q4_0),
        Dtype::Q4_1 => each_back(values, &mut bytes, encode_q4_1),
        _ => return Err(refused),
    }
    Ok(bytes)
}

/// Runs a decoder over all blocks; the array lengths in its signature are the block's.
fn each<const BYTES: usize, const LEN: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let (outs, _) = out.as_chunks_mut::<LEN>();
    for (block, out) in blocks.iter().zip(outs) {
        decode(block, out);
    }
}

fn each_back<const LEN: usize, const BYTES: usize>(
    values: &[f32],
    bytes: &mut [u8],
    encode: impl Fn(&[f32; LEN], &mut [u8; BYTES]),
) {
    let (values, _) = values.as_chunks::<LEN>();
    let (blocks, _) = bytes.as_chunks_mut::<BYTES>();
    for (values, block) in values.iter().zip(blocks) {
        encode(values, block);
    }
}

/// The half precision number at a byte offset of a block.
fn half_at(block: &[u8], offset: usize) -> f32 {
    f16::from_le_bytes([block[offset], block[offset + 1]]).to_f32()
}

fn low(byte: u8) -> u8 {
    byte & 0x0f
}

fn high(byte: u8) -> u8 {
    byte >> 4
}

/// `f16 d`, 16 bytes of which the low halves are elements 0–15 and the high halves 16–31: `d (q - 8)`.
fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (j, &byte) in block[2..].iter().enumerate() {
        out[j] = (f32::from(low(byte)) - 8.0) * d;
        out[j + 16] = (f32::from(high(byte)) - 8.0) * d;
    }
}

/// `f16 d`, `f16 m`, 16 bytes as in `q4_0`: `d q + m`.
fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for (j, &byte) in block[4..].iter().enumerate() {
        out[j] = f32::from(low(byte)) * d + m;
        out[j + 16] = f32::from(high(byte)) * d + m;
    }
}

/// The fifth bits of a block of 32, one bit an element.
fn fifth_bits(block: &[u8], offset: usize) -> impl Fn(usize) -> u8 {
    let bits = u32::from_le_bytes([block[offset], block[offset + 1], block[offset + 2], block[offset + 3]]);
    move |element| ((bits >> element) as u8 & 1) << 4
}

/// `f16 d`, `u32` fifth bits, 16 bytes as in `q4_0`: `d (q - 16)`.
fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    let fifth = fifth_bits(block, 2);
    for (j, &byte) in block[6..].iter().enumerate() {
        out[j] = (f32::from(low(byte) | fifth(j)) - 16.0) * d;
        out[j + 16] = (f32::from(high(byte) | fifth(j + 16)) - 16.0) * d;
    }
}

/// `f16 d`, `f16 m`, `u32` fifth bits, 16 bytes as in `q4_0`: `d q + m`.
fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    let fifth = fifth_bits(block, 4);
    for (j, &byte) in block[8..].iter().enumerate() {
        out[j] = f32::from(low(byte) | fifth(j)) * d + m;
        out[j + 16] = f32::from(high(byte) | fifth(j + 16)) * d + m;
    }
}

/// `f16 d`, 32 signed bytes: `d q`.
fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (out, &byte) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(byte as i8) * d;
    }
}

/// `f16 d`, `f16` sum of the block (not needed here), 32 signed bytes: `d q`.
fn q8_1(block: &[u8; 36], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (out, &byte) in out.iter_mut().zip(&block[4..]) {
        *out = f32::from(byte as i8) * d;
    }
}

/// `f32 d`, 256 signed bytes, 16 × `i16` sums of 16 (not needed here): `d q`.
fn q8_k(block: &[u8; 292], out: &mut [f32; 256]) {
    let d = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
    for (out, &byte) in out.iter_mut().zip(&block[4..260]) {
        *out = f32::from(byte as i8) * d;
    }
}

/// 16 bytes of scale (low half) and minimum (high half) per 16 elements, 64 bytes of 2-bit numbers, `f16 d`,
/// `f16 dmin`: `d scale q - dmin minimum`.
///
/// Each half of the block (128 elements) has 32 bytes, whose k-th bit pairs are its elements 32 k to 32 k + 31.
fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (scales, quants) = (&block[..16], &block[16..80]);
    let (d, dmin) = (half_at(block, 80), half_at(block, 82));
    for (i, out) in out.iter_mut().enumerate() {
        let (half, k, l) = (i / 128, i % 128 / 32, i % 32);
        let q = (quants[32 * half + l] >> (2 * k)) & 3;
        let scale = scales[i / 16];
        *out = d * f32::from(low(scale)) * f32::from(q) - dmin * f32::from(high(scale));
    }
}

/// 32 bytes of third bits, 64 bytes of the lower two, 12 bytes of 6-bit scales per 16 elements, `f16 d`:
/// `d (scale - 32) (q - 4)`.
///
/// The lower bits lie as in `q2_k`; the third bit of element 32 k + l is bit k of byte l. The 16 scales have their low
/// four bits in bytes 0–7 (low halves the first eight, high halves the last eight), and their upper two bits in bytes
/// 8–11, in the order of the low ones.
fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let (third, quants, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let d = half_at(block, 108);
    let scale = |s: usize| {
        let lower = if s < 8 { low(scales[s]) } else { high(scales[s - 8]) };
        let upper = (scales[8 + s % 4] >> (2 * (s / 4))) & 3;
        f32::from((lower | upper << 4) as i8 - 32)
    };
    for (i, out) in out.iter_mut().enumerate() {
        let (half, k, l) = (i / 128, i % 128 / 32, i % 32);
        let q = (quants[32 * half + l] >> (2 * k)) & 3 | ((third[l] >> (i / 32)) & 1) << 2;
        *out = d * scale(i / 16) * (f32::from(q) - 4.0);
    }
}

/// The 6-bit scale and minimum of 32 elements out of the 12 bytes that `q4_k` and `q5_k` have for eight of each.
///
/// The first four scales and minima are the low six bits of bytes 0–3 and 4–7. The last four have their low four bits
/// in bytes 8–11 (scales in the low halves) and their upper two in the top bits of bytes 0–3 and 4–7.
pub(crate) fn scale_and_minimum(packed: &[u8], s: usize) -> (u8, u8) {
    if s < 4 {
        (packed[s] & 63, packed[s + 4] & 63)
    } else {
        (low(packed[s + 4]) | packed[s - 4] >> 6 << 4, high(packed[s + 4]) | packed[s] >> 6 << 4)
    }
}

/// `f16 d`, `f16 dmin`, 12 bytes of scales and minima per 32 elements, 128 bytes: `d scale q - dmin minimum`.
///
/// Each 32 bytes hold 64 elements, the first 32 in the low halves.
fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (scales, quants) = (&block[4..16], &block[16..]);
    for (i, out) in out.iter_mut().enumerate() {
        let byte = quants[i / 64 * 32 + i % 32];
        let q = if i % 64 < 32 { low(byte) } else { high(byte) };
        let (scale, minimum) = scale_and_minimum(scales, i / 32);
        *out = d * f32::from(scale) * f32::from(q) - dmin * f32::from(minimum);
    }
}

/// As `q4_k` with 32 bytes of fifth bits before the others: bit k of byte l belongs to element 32 k + l.
fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (scales, fifth, quants) = (&block[4..16], &block[16..48], &block[48..]);
    for (i, out) in out.iter_mut().enumerate() {
        let byte = quants[i / 64 * 32 + i % 32];
        let q = if i % 64 < 32 { low(byte) } else { high(byte) };
        let q = q | ((fifth[i % 32] >> (i / 32)) & 1) << 4;
        let (scale, minimum) = scale_and_minimum(scales, i / 32);
        *out = d * f32::from(scale) * f32::from(q) - dmin * f32::from(minimum);
    }
}

/// 128 bytes of low four bits, 64 bytes of upper two, 16 signed bytes of scale per 16 elements, `f16 d`:
/// `d scale (q - 32)`.
///
/// Each half of the block (128 elements) has 64 bytes of low bits, whose low halves are its first 64 elements, and 32
/// bytes of upper bits, whose k-th pairs are its elements 32 k to 32 k + 31.
fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let (lower, upper, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = half_at(block, 208);
    for (i, out) in out.iter_mut().enumerate() {
        let (half, k, l) = (i / 128, i % 128 / 32, i % 32);
        let byte = lower[64 * half + i % 64];
        let four = if i % 128 < 64 { low(byte) } else { high(byte) };
        let two = (upper[32 * half + l] >> (2 * k)) & 3;
        let q = f32::from(four | two << 4) - 32.0;
        *out = d * f32::from(scales[i / 16] as i8) * q;
    }
}

/// The values that the 16 codes of `IQ4_NL` and `IQ4_XS` stand for.
pub(crate) const IQ4_VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// `f16 d`, 16 bytes as in `q4_0`: `d table[q]`.
fn iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (j, &byte) in block[2..].iter().enumerate() {
        out[j] = d * f32::from(IQ4_VALUES[usize::from(low(byte))]);
        out[j + 16] = d * f32::from(IQ4_VALUES[usize::from(high(byte))]);
    }
}

/// `f16 d`, `u16` of the scales' upper two bits, 4 bytes of their low four, eight times 16 bytes as in `q4_0`:
/// `d (scale - 32) table[q]`.
fn iq4_xs(block: &[u8; 136], out: &mut [f32; 256]) {
    let d = half_at(block, 0);
    let upper = u16::from_le_bytes([block[2], block[3]]);
    for (s, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let byte = block[4 + s / 2];
        let lower = if s % 2 == 0 { low(byte) } else { high(byte) };
        let scale = lower | ((upper >> (2 * s)) as u8 & 3) << 4;
        let d = d * (f32::from(scale) - 32.0);
        for (j, &byte) in block[8 + 16 * s..][..16].iter().enumerate() {
            out[j] = d * f32::from(IQ4_VALUES[usize::from(low(byte))]);
            out[j + 16] = d * f32::from(IQ4_VALUES[usize::from(high(byte))]);
        }
    }
}

/// 48 bytes of five ternary digits, 4 bytes of four, `f16 d`: `d (q - 1)`.
///
/// A byte is a fixed-point fraction in base 3: digit n is the integer part of three times the fraction left after
/// multiplying by 3 n times. Runs of 32, 16 and 4 bytes hold 5 × 32, 5 × 16 and 4 × 4 elements, the first digits first.
fn tq1_0(block: &[u8; 54], out: &mut [f32; 256]) {
    let d = half_at(block, 52);
    let mut out = out.iter_mut();
    for (run, digits) in [(&block[..32], 5), (&block[32..48], 5), (&block[48..52], 4)] {
        for digit in 0..digits {
            for &byte in run {
                let fraction = byte.wrapping_mul(3u8.pow(digit));
                let q = (u16::from(fraction) * 3) >> 8;
                if let Some(out) = out.next() {
                    *out = d * (f32::from(q) - 1.0);
                }
            }
        }
    }
}

/// 64 bytes of 2-bit numbers as in `q2_k`, `f16 d`: `d (q - 1)`.
fn tq2_0(block: &[u8; 66], out: &mut [f32; 256]) {
    let d = half_at(block, 64);
    for (i, out) in out.iter_mut().enumerate() {
        let (half, k, l) = (i / 128, i % 128 / 32, i % 32);
        let q = (block[32 * half + l] >> (2 * k)) & 3;
        *out = d * (f32::from(q) - 1.0);
    }
}

/// The values that the 16 codes of MXFP4 stand for, doubled so that they are whole.
const E2M1_DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// One byte of power of two (biased by 127), 16 bytes as in `q4_0`: `2^(e - 127) e2m1[q]`.
fn mxfp4(block: &[u8; 17], out: &mut [f32; 32]) {
    // Half of it, for the doubled table. 2^-128 and 2^-127 are below the normal numbers.
    let d = match block[0] {
        exponent @ 0..2 => f32::from_bits(0x0020_0000 << exponent),
        exponent => f32::from_bits(u32::from(exponent - 1) << 23),
    };
    for (j, &byte) in block[1..].iter().enumerate() {
        out[j] = d * f32::from(E2M1_DOUBLED[usize::from(low(byte))]);
        out[j + 16] = d * f32::from(E2M1_DOUBLED[usize::from(high(byte))]);
    }
}

/// One over a scale, and zero for the scale zero of a block of zeros.
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

fn encode_q8_0(values: &[f32; 32], block: &mut [u8; 34]) {
    let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let d = largest / 127.0;
    block[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    for (value, byte) in values.iter().zip(&mut block[2..]) {
        *byte = (value * inverse(d)).round() as i8 as u8;
    }
}

/// The value farthest from zero becomes -8, whatever its sign: the scale may be negative.
fn encode_q4_0(values: &[f32; 32], block: &mut [u8; 18]) {
    let farthest =
        values.iter().fold(0.0f32, |farthest, &value| if value.abs() > farthest.abs() { value } else { farthest });
    let d = farthest / -8.0;
    block[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    let code = |value: f32| ((value * inverse(d) + 8.5) as u8).min(15);
    for (j, byte) in block[2..].iter_mut().enumerate() {
        *byte = code(values[j]) | code(values[j + 16]) << 4;
    }
}

fn encode_q4_1(values: &[f32; 32], block: &mut [u8; 20]) {
    let smallest = values.iter().fold(f32::INFINITY, |smallest, &value| smallest.min(value));
    let largest = values.iter().fold(f32::NEG_INFINITY, |largest, &value| largest.max(value));
    let d = (largest - smallest) / 15.0;
    block[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    block[2..4].copy_from_slice(&f16::from_f32(smallest).to_le_bytes());
    let code = |value: f32| (((value - smallest) * inverse(d) + 0.5) as u8).min(15);
    for (j, byte) in block[4..].iter_mut().enumerate() {
        *byte = code(values[j]) | code(values[j + 16]) << 4;
    }
}
