//! Weights of any format as bytes of one scale for 32 columns: what [`bytewise`](crate::kernels::bytewise) multiplies.

use super::*;
use crate::kernels::bytewise::registers;
use crate::kernels::quarters::STEPS;

/// Bits of a quant.
const fn bits(f: u8) -> u32 {
    match format(f) {
        Format::Q8 => 8,
        Format::Q4 | Format::Q4Min | Format::Q4K => 4,
        Format::Q5 | Format::Q5Min | Format::Q5K => 5,
        Format::Q6K => 6,
    }
}

/// How the quants of a block that is not plain become bytes. Quants less the middle of their range, times `2^(8 - bits)`, fill a byte; a weight is such a byte times `parts`, of which each half
/// of the block has its own, and `middle`, and is to be a byte times `step`.
#[derive(Clone, Copy)]
struct Scaling {
    parts: [Floats; 2],
    middle: Floats,
    step: Floats,
}

/// # Safety
/// The features.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn scaling<const F: u8>([first, minimum]: [Floats; 2], second: Floats) -> Scaling {
    let range = const { 1 << bits(F) };
    // SAFETY: by the contract.
    unsafe {
        let times = |d, by: f32| mul(d, splat_float(by));
        let parts = [first, second].map(|d| times(d, range as f32 / 256.0));
        if !const { format(F).has_minimum() } {
            // The scale of one half, whose weights stay what they are.
            return Scaling { parts, middle: _mm512_setzero_ps(), step: larger(parts[0], parts[1]) };
        }
        let largest = fma(first, splat_float((range - 1) as f32), minimum);
        let bound = _mm512_max_ps(_mm512_abs_ps(minimum), _mm512_abs_ps(largest));
        let middle = fma(first, splat_float((range / 2) as f32), minimum);
        Scaling { parts, middle, step: even(first, minimum, times(bound, 1.0 / 127.0)) }
    }
}

/// How many parts of a scale are compared.
const PARTS: usize = 4;

/// A step that is a whole part of the scale `d` and at least `fill`: the one of which the minimum is most nearly a multiple. All weights of the block move by what it is off, where a step that fills the
/// byte moves the few levels of a format each its own way, in all blocks much the same. `fill` where there is no such part.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn even(d: Floats, minimum: Floats, fill: Floats) -> Floats {
    const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    const DOWN: i32 = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
    let one = _mm512_set1_ps(1.0);
    // There are at most 16 parts, of which an index is zero: 127 steps are no less than half the levels' range, 7.5 times the scale or more.
    let inverses = _mm512_setr_ps(
        1.0 / 16.0,
        1.0,
        1.0 / 2.0,
        1.0 / 3.0,
        1.0 / 4.0,
        1.0 / 5.0,
        1.0 / 6.0,
        1.0 / 7.0,
        1.0 / 8.0,
        1.0 / 9.0,
        1.0 / 10.0,
        1.0 / 11.0,
        1.0 / 12.0,
        1.0 / 13.0,
        1.0 / 14.0,
        1.0 / 15.0,
    );
    let (most, levels) = (_mm512_div_ps(d, fill), _mm512_div_ps(minimum, d));
    let most = _mm512_roundscale_ps::<DOWN>(_mm512_mul_ps(most, _mm512_set1_ps(1.0 - 1e-6)));
    let (mut least, mut step) = (_mm512_set1_ps(f32::MAX), fill);
    for less in 0..PARTS {
        let parts = _mm512_sub_ps(most, _mm512_set1_ps(less as f32));
        let at = _mm512_mul_ps(levels, parts);
        let part = _mm512_permutexvar_ps(_mm512_cvtps_epi32(parts), inverses);
        let off = _mm512_mul_ps(_mm512_abs_ps(_mm512_sub_ps(at, _mm512_roundscale_ps::<NEAREST>(at))), part);
        let better = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(off, least) & _mm512_cmp_ps_mask::<_CMP_GE_OQ>(parts, one);
        least = _mm512_mask_mov_ps(least, better, off);
        step = _mm512_mask_mul_ps(step, better, d, part);
    }
    step
}

/// Of each two numbers the one of the larger size.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn larger(a: Floats, b: Floats) -> Floats {
    _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(_mm512_abs_ps(b), _mm512_abs_ps(a)), a, b)
}

/// The nearest integers, in both halves of their lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn both(value: Floats) -> Bytes {
    let integers = _mm512_cvtps_epi32(value);
    _mm512_mask_mov_epi16(_mm512_slli_epi32::<16>(integers), 0x5555_5555, integers)
}

/// The quants of a block as bytes of which 128 is zero.
///
/// # Safety
/// The features.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn raised<const F: u8>(quants: [Bytes; 8], Scaling { parts, middle, step }: Scaling) -> [Bytes; 8] {
    // Of a block of nothing, or so little that this would not be finite, none.
    let some = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(_mm512_abs_ps(step), _mm512_set1_ps(1e-32));
    let inverse = _mm512_maskz_div_ps(some, _mm512_set1_ps(1.0), step);
    // SAFETY: by the contract.
    unsafe {
        // In 128ths of a step: 256 times a byte, times this, is 2^15 as much.
        let by = parts.map(|part| both(mul(mul(part, inverse), splat_float(16384.0))));
        // Half a step, so that what is cut off rounds to the nearest, and the 128 that is zero.
        let middle = both(fma(mul(middle, inverse), splat_float(128.0), splat_float(64.0 + 16384.0)));
        let mut g = 0;
        quants.map(|w| {
            let w = match const { bits(F) } {
                4 => left::<4>(w),
                5 => left::<3>(w),
                _ => left::<2>(w),
            };
            let w = _mm512_xor_si512(w, splat(-128));
            let to = |bytes| {
                let steps = _mm512_mulhrs_epi16(bytes, by[g / 4]);
                _mm512_srli_epi16::<7>(_mm512_adds_epi16(steps, middle))
            };
            let (even, odd) = (to(left::<8>(w)), to(_mm512_and_si512(w, _mm512_set1_epi16(-256))));
            g += 1;
            _mm512_or_si512(even, left::<8>(odd))
        })
    }
}

/// # Safety
/// As [`super::super::super::layout`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(in crate::kernels::interleaved) unsafe fn layout<const F: u8>(
    strips: &[(&[u8], &[u8])],
    blocks: Range<usize>,
    out: *mut u8,
) {
    let (block_bytes, head_bytes) = (const { format(F).registers() * WIDTH }, const { format(F).head() * LANES });
    let units = const { format(F).blocks() };
    for (index, block) in blocks.enumerate() {
        for (strip, (heads, quants)) in strips.iter().enumerate() {
            // SAFETY: by the contract.
            unsafe {
                let register = |at: usize| out.add((index * registers(strips.len()) + at) * WIDTH);
                let quants = quants.as_ptr().add(block * block_bytes);
                for line in 0..block_bytes.div_ceil(WIDTH) {
                    ask_near(quants.wrapping_add(AHEAD + WIDTH * line));
                }
                let head = heads.as_ptr().add(block / units * head_bytes);
                let [[d, minimum], [second, _]] = scales::<F>(head, block % units, unit::<F>(head));
                let w = unpack::<F>(quants);
                let (w, scale) = if const { format(F).is_plain() } {
                    // Quants of eight bits are raised already.
                    let zero = splat(const { 128 - (1u8 << (bits(F) - 1)) }.cast_signed());
                    (w.map(|w| _mm512_add_epi8(w, zero)), d)
                } else {
                    let scaling = scaling::<F>([d, minimum], second);
                    // Zero, or not a number where a scale is not finite.
                    let odd = mul(add_float(add_float(d, second), minimum), splat_float(0.0));
                    (raised::<F>(w, scaling), add_float(scaling.step, odd))
                };
                for (g, w) in w.into_iter().enumerate() {
                    _mm512_store_si512(register(g * strips.len() + strip).cast(), w);
                }
                for (step, by) in STEPS.into_iter().enumerate() {
                    let at = 8 * strips.len() + strip * STEPS.len() + step;
                    store(register(at).cast(), mul(scale, splat_float(by)));
                }
            }
        }
    }
}
