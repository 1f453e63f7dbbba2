//! Activations in blocks of 32 bytes, whose steps are quarters of powers of two.

use std::arch::x86_64::*;
use std::sync::{Mutex, PoisonError};

use super::BLOCK;
use crate::kernels::activation::apart;
use crate::kernels::isa::Isa;
use crate::kernels::panels::Line;
use crate::kernels::pool::Pool;
use crate::kernels::prefetch::lines_near;
use crate::kernels::scratch::Room;

/// The steps of activations from 1 to 2: each is the one before by a quarter of a power of two, so that the largest value of a block is 107 to 127 times its step.
pub(in crate::kernels) const STEPS: [f32; 4] = [1.0, 1.189_207_1, std::f32::consts::SQRT_2, 1.681_792_8];

/// 32 activations: `x[i] ≈ 2^exponent · STEPS[step / 64] · q[i]`, `q` in -127..=127.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(16))]
pub(super) struct Block {
    pub(super) q: [i8; BLOCK],
    /// A whole number; not a number where an activation is not finite.
    pub(super) exponent: f32,
    /// Which step: bytes of the lines before the scales of weights that are multiplied by it.
    pub(super) step: u32,
    /// -128 times the sum of the integers: what takes back that 128 is added to weights.
    pub(super) start: i32,
}

/// Rows of activations, quantised block by block.
pub(super) struct Rows<'a> {
    blocks: usize,
    rows: usize,
    /// Blocks from a row to the next.
    stride: usize,
    /// `[row][block]`, `stride` blocks a row.
    room: Room<'a>,
}

/// Blocks below which the calling thread quantises alone.
const ALONE: usize = 256;

/// Values ahead of what is quantised that are asked for: two pages.
const AHEAD: usize = 2048;

/// Blocks that are quantised together: a register of largest sizes, and one of sums.
const TOGETHER: usize = 16;

/// A size that is taken for zero, whose inverse would not be finite, and all below.
const NOTHING: f32 = 1e-30;

impl<'a> Rows<'a> {
    /// Quantises rows of `columns` values, a multiple of 32. Values that are not finite make their block's exponent no number, so that they reach the result.
    ///
    /// # Panics
    /// If `x` is not whole rows, or there are no such products.
    pub(super) fn new(pool: &'a Pool, isa: Isa, x: &[f32], columns: usize) -> Self {
        assert!(columns > 0 && columns.is_multiple_of(BLOCK) && x.len().is_multiple_of(columns) && super::is_here(isa));
        let (blocks, rows) = (columns / BLOCK, x.len() / columns);
        let stride = if rows > 1 { apart(blocks, size_of::<Block>()) } else { blocks };
        let mut room = pool.scratch.lines((rows * stride * size_of::<Block>()).div_ceil(size_of::<Line>()));
        // SAFETY: a line is aligned more strictly than a block, the room has as many bytes, and any bytes that were written once are blocks.
        let all = unsafe { std::slice::from_raw_parts_mut(room.as_mut_ptr().cast::<Block>(), rows * stride) };
        let quantize = |x: &[f32], to: &mut [Block]| {
            // Rows without a gap are one long row.
            let (run, place) = if stride == blocks { (x.len(), to.len()) } else { (columns, stride) };
            for (x, to) in x.chunks_exact(run).zip(to.chunks_exact_mut(place)) {
                // SAFETY: AVX-512 was detected where its `Isa` was made.
                unsafe { quantize(x, to) };
            }
        };
        if rows * blocks < ALONE {
            quantize(x, all);
        } else {
            let some = rows.div_ceil(4 * pool.threads());
            // Each lock is taken once, by the thread that has the part.
            let parts: Vec<_> = all.chunks_mut(some * stride).map(Mutex::new).collect();
            pool.run(parts.len(), &|part| {
                let mut to = parts[part].lock().unwrap_or_else(PoisonError::into_inner);
                quantize(&x[part * some * columns..][..to.len() / stride * columns], &mut to);
            });
        }
        Self { blocks, rows, stride, room }
    }

    /// Blocks of a row.
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Blocks from a row to the next.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Where a block of a row lies: after it the others.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn at(&self, row: usize, block: usize) -> *const Block {
        assert!(row < self.rows && block < self.blocks);
        self.room.as_ptr().cast::<Block>().wrapping_add(row * self.stride + block)
    }

    #[cfg(test)]
    pub(super) fn row(&self, row: usize) -> &[Block] {
        // SAFETY: a row has so many blocks, which were written.
        unsafe { std::slice::from_raw_parts(self.at(row, 0), self.blocks) }
    }
}

/// Joins the lanes of each of sixteen registers into one lane of a register, in their order: by halves, of two registers at a time.
macro_rules! joined {
    ($all:ident, $join:ident) => {{
        let mut all = $all;
        for i in 0..8 {
            let (a, b) = (all[2 * i], all[2 * i + 1]);
            all[i] = $join(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        }
        for i in 0..4 {
            let (a, b) = (all[2 * i], all[2 * i + 1]);
            all[i] = $join(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
        }
        for i in 0..2 {
            let (a, b) = (all[2 * i], all[2 * i + 1]);
            all[i] = $join(_mm512_shuffle_i32x4::<0b10_00_10_00>(a, b), _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b));
        }
        let (a, b) = (all[0], all[1]);
        $join(_mm512_shuffle_i32x4::<0b10_00_10_00>(a, b), _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b))
    }};
}

/// Quantises blocks that follow one another, to the first of `to`.
///
/// # Safety
/// AVX-512 F, BW, DQ and VL must be there.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn quantize(x: &[f32], to: &mut [Block]) {
    let blocks = x.len() / BLOCK;
    let ((x, x_rest), (to, rest)) = (x.as_chunks(), to[..blocks].as_chunks_mut());
    for (x, to) in x.iter().zip(to) {
        lines_near(x.as_ptr().wrapping_add(AHEAD).cast(), size_of_val(x));
        together(x, to);
    }
    if !rest.is_empty() {
        let mut x = [0.0; TOGETHER * BLOCK];
        let mut to = [Block { q: [0; BLOCK], exponent: 0.0, step: 0, start: 0 }; TOGETHER];
        x[..x_rest.len()].copy_from_slice(x_rest);
        together(&x, &mut to);
        rest.copy_from_slice(&to[..rest.len()]);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn together(x: &[f32; TOGETHER * BLOCK], to: &mut [Block; TOGETHER]) {
    let halves = x.as_chunks::<16>().0;
    let zero = _mm512_setzero_si512();
    // SAFETY: 16 floats.
    let half = |at: usize| unsafe { _mm512_loadu_ps(halves[at].as_ptr()) };
    let mut sizes = [zero; TOGETHER];
    for (block, size) in sizes.iter_mut().enumerate() {
        // The bits of sizes are in their order, and those of numbers that are none, or not finite, above the others.
        let bits = [half(2 * block), half(2 * block + 1)].map(|x| _mm512_castps_si512(_mm512_abs_ps(x)));
        *size = _mm512_max_epi32(bits[0], bits[1]);
    }
    let size = joined!(sizes, _mm512_max_epi32);
    let odd = _mm512_cmpge_epi32_mask(size, _mm512_set1_epi32(f32::INFINITY.to_bits().cast_signed()));
    let size = _mm512_castsi512_ps(size);
    let some = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(size, _mm512_set1_ps(NOTHING));
    // The least step that is enough: as many quarters as the size in 127ths is above its power of two, or the next power.
    let least = _mm512_maskz_div_ps(some, size, _mm512_set1_ps(127.0));
    let fraction = _mm512_maskz_getmant_ps::<_MM_MANT_NORM_1_2, _MM_MANT_SIGN_ZERO>(some, least);
    let mut step = zero;
    for least in STEPS {
        let above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(fraction, _mm512_set1_ps(least));
        step = _mm512_mask_add_epi32(step, above, step, _mm512_set1_epi32(1));
    }
    let next = _mm512_cmpeq_epi32_mask(step, _mm512_set1_epi32(STEPS.len() as i32));
    let step = _mm512_mask_mov_epi32(step, next, zero);
    let exponent = _mm512_maskz_getexp_ps(some, least);
    let exponent = _mm512_mask_add_ps(exponent, next, exponent, _mm512_set1_ps(1.0));
    let inverses =
        _mm512_broadcast_f32x4(_mm_div_ps(_mm_set1_ps(1.0), _mm_setr_ps(STEPS[0], STEPS[1], STEPS[2], STEPS[3])));
    let inverse = _mm512_permutexvar_ps(step, inverses);
    let inverse = _mm512_maskz_scalef_ps(some, inverse, _mm512_sub_ps(_mm512_setzero_ps(), exponent));
    let exponent = _mm512_mask_blend_ps(odd, exponent, _mm512_set1_ps(f32::NAN));
    let inverse = floats(inverse);
    let mut sums = [zero; TOGETHER];
    for (block, sum) in sums.iter_mut().enumerate() {
        let inverse = _mm512_set1_ps(inverse[block]);
        // To the nearest, ties to even.
        let q = [half(2 * block), half(2 * block + 1)].map(|x| _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse)));
        *sum = _mm512_madd_epi16(_mm512_packs_epi32(q[0], q[1]), _mm512_set1_epi16(1));
        for (q, bytes) in q.into_iter().zip(to[block].q.as_chunks_mut::<16>().0) {
            // SAFETY: 16 bytes.
            unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(q)) };
        }
    }
    let sum = joined!(sums, _mm512_add_epi32);
    let start = integers(_mm512_sub_epi32(zero, _mm512_slli_epi32::<7>(sum)));
    let (exponent, step) = (floats(exponent), integers(_mm512_slli_epi32::<6>(step)));
    for (block, to) in to.iter_mut().enumerate() {
        (to.exponent, to.step, to.start) = (exponent[block], step[block].cast_unsigned(), start[block]);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn floats(value: __m512) -> [f32; 16] {
    let mut out = [0.0; 16];
    // SAFETY: 16 floats.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), value) };
    out
}

#[inline]
#[target_feature(enable = "avx512f")]
fn integers(value: __m512i) -> [i32; 16] {
    let mut out = [0; 16];
    // SAFETY: 16 integers.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), value) };
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::isa::isa;

    /// A block, by the definition.
    fn plain(x: &[f32]) -> Block {
        let largest = x.iter().fold(0.0f32, |a, b| a.max(b.abs()));
        let steps = (-140i32..=128).flat_map(|exponent| (0..STEPS.len()).map(move |step| (exponent, step)));
        let size = |(exponent, step): (i32, usize)| 2f64.powi(exponent) * f64::from(STEPS[step]);
        let found = steps.clone().find(|step| f64::from(largest / 127.0) <= size(*step));
        let (exponent, step) = if largest > NOTHING { found.unwrap() } else { (0, 0) };
        let inverse = if largest > NOTHING { 1.0 / STEPS[step] * 2f32.powi(-exponent) } else { 0.0 };
        let mut q = [0; BLOCK];
        q.iter_mut().zip(x).for_each(|(q, x)| *q = (x * inverse).round_ties_even() as i8);
        let start = -128 * q.iter().map(|q| i32::from(*q)).sum::<i32>();
        Block { q, exponent: exponent as f32, step: 64 * step as u32, start }
    }

    #[test]
    fn blocks_are_those_of_the_definition() {
        if !super::super::is_here(isa()) {
            return; // Nothing makes such blocks here.
        }
        // Sizes from zero up, powers of two, and halves of a step.
        let value = |i: usize| {
            let size = [1.0, 1e-3, 0.25, 127.0, 1.0, 0.0, 300.0, 1e-33, 0.7, 107.5, 1e30, 3e-29][i / BLOCK % 12];
            size * if i.is_multiple_of(BLOCK) { 1.0 } else { ((i * 7919 % 1009) as f32 - 504.0) / 508.0 }
        };
        for columns in [32, 64, 96, 512, 544, 608, 1120, 2720] {
            for (rows, threads) in [(1, 1), (40, 3)] {
                let mut x: Vec<f32> = (0..rows * columns).map(value).collect();
                let pool = Pool::new(threads);
                let blocks = Rows::new(&pool, isa(), &x, columns);
                for (row, x) in x.chunks_exact(columns).enumerate() {
                    for (block, x) in blocks.row(row).iter().zip(x.chunks(BLOCK)) {
                        assert_eq!(*block, plain(x), "{columns} {row}");
                        let step = block.exponent.exp2() * STEPS[block.step as usize / 64];
                        for (q, x) in block.q.iter().zip(x) {
                            assert!((f32::from(*q) * step - x).abs() <= 0.5001 * step);
                        }
                    }
                }
                drop(blocks);
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    x[rows * columns - 1] = bad;
                    let blocks = Rows::new(&pool, isa(), &x, columns);
                    let last = blocks.row(rows - 1);
                    assert!(last[last.len() - 1].exponent.is_nan());
                    assert!(last[..last.len() - 1].iter().all(|block| block.exponent.is_finite()));
                }
            }
        }
    }
}
