//! Weights of any format as bytes of one scale for 64 columns: what [`grouped`](crate::kernels::grouped) multiplies.

use super::*;
use crate::kernels::grouped::registers;

/// Bits of a quant.
const fn bits(f: u8) -> u32 {
    match format(f) {
        Format::Q8 => 8,
        Format::Q4 | Format::Q4Min | Format::Q4K => 4,
        Format::Q5 | Format::Q5Min | Format::Q5K => 5,
        Format::Q6K => 6,
    }
}

/// How the quants of a block become bytes of a group. Quants less the middle of their range, times `2^(8 - bits)`, fill a byte; a weight is such a byte times `step`, of which each half
/// of the block has its own, and `middle`.
#[derive(Clone, Copy)]
struct Scaling {
    step: [Floats; 2],
    middle: Floats,
    /// The least step with which all weights fit a byte of a group, or that times -1.
    least: Floats,
    /// Zero, or not a number where a scale is not finite.
    odd: Floats,
}

/// # Safety
/// The features; the strip has this block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn scaling<const F: u8>(heads: &[u8], block: usize) -> Scaling {
    let (head_bytes, units) = (const { format(F).head() * LANES }, const { format(F).blocks() });
    // SAFETY: by the contract.
    unsafe {
        let head = heads.as_ptr().add(block / units * head_bytes);
        let [[first, minimum], [second, _]] = scales::<F>(head, block % units, unit::<F>(head));
        let range = const { 1 << bits(F) };
        let times = |d, by: f32| mul(d, splat_float(by));
        let odd = times(add_float(add_float(first, second), minimum), 0.0);
        let step = [first, second].map(|d| times(d, range as f32 / 256.0));
        let (middle, least) = if const { format(F).has_minimum() } {
            let largest = fma(first, splat_float((range - 1) as f32), minimum);
            let bound = _mm512_max_ps(_mm512_abs_ps(minimum), _mm512_abs_ps(largest));
            (fma(first, splat_float((range / 2) as f32), minimum), times(bound, 1.0 / 127.0))
        } else {
            // The step of a block as it is: its weights stay what they are where no other's is larger.
            (_mm512_setzero_ps(), larger(step[0], step[1]))
        };
        Scaling { step, middle, least, odd }
    }
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

/// # Safety
/// As [`super::super::super::regroup`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(in crate::kernels::interleaved) unsafe fn regroup<const F: u8>(
    strips: &[(&[u8], &[u8])],
    blocks: Range<usize>,
    out: *mut u8,
) {
    let block_bytes = const { format(F).registers() * WIDTH };
    for (group, first) in blocks.clone().step_by(2).enumerate() {
        let count = 2.min(blocks.end - first);
        for (strip, (heads, quants)) in strips.iter().enumerate() {
            // SAFETY: by the contract.
            unsafe {
                let register =
                    |at: usize| out.add((group * registers(strips.len()) + at * strips.len() + strip) * WIDTH);
                let scalings = [scaling::<F>(heads, first), scaling::<F>(heads, first + count - 1)];
                let step = larger(scalings[0].least, scalings[1].least);
                let odd = add_float(scalings[0].odd, scalings[1].odd);
                store(register(16).cast(), add_float(step, odd));
                // Steps in one. Of a group of nothing, or so little that this would not be finite, none.
                let some = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(_mm512_abs_ps(step), splat_float(1e-32));
                let inverse = _mm512_maskz_div_ps(some, splat_float(1.0), step);
                for (b, scaling) in scalings.into_iter().enumerate().take(count) {
                    let quants = quants.as_ptr().add((first + b) * block_bytes);
                    for line in 0..block_bytes.div_ceil(WIDTH) {
                        ask_near(quants.wrapping_add(AHEAD + WIDTH * line));
                    }
                    // In 128ths of a step of the group: 256 times a byte, times this, is 2^15 as much.
                    let by = scaling.step.map(|step| both(mul(mul(step, inverse), splat_float(16384.0))));
                    // Half a step, so that what is cut off rounds to the nearest, and the 128 that is zero.
                    let middle = fma(mul(scaling.middle, inverse), splat_float(128.0), splat_float(64.0 + 16384.0));
                    let middle = both(middle);
                    for (g, w) in unpack::<F>(quants).into_iter().enumerate() {
                        let w = match const { bits(F) } {
                            4 => left::<4>(w),
                            5 => left::<3>(w),
                            6 => left::<2>(w),
                            _ => w,
                        };
                        let w = _mm512_xor_si512(w, splat(-128));
                        let to = |bytes| {
                            let steps = _mm512_mulhrs_epi16(bytes, by[g / 4]);
                            _mm512_srli_epi16::<7>(_mm512_adds_epi16(steps, middle))
                        };
                        let (even, odd) = (to(left::<8>(w)), to(_mm512_and_si512(w, _mm512_set1_epi16(-256))));
                        let w = _mm512_or_si512(even, left::<8>(odd));
                        _mm512_store_si512(register(8 * b + g).cast(), w);
                    }
                }
            }
        }
    }
}
