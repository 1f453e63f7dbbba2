//! Activations as bytes whose steps are quarters of powers of two: what [`bytewise`](super::bytewise) products ask for, and what meets the same weights elsewhere.
//!
//! Sixteen blocks are quantised together, so that what is done once a block is done in the lanes of a register.

use std::arch::x86_64::*;

use super::activation::BLOCK;
use super::prefetch::lines_near;

/// The steps from 1 to 2, each the one before by a quarter of a power of two: the largest value of a block is 107 to 127 times its step.
pub(crate) const STEPS: [f32; 4] = [1.0, 1.189_207_1, std::f32::consts::SQRT_2, 1.681_792_8];

/// A size that is taken for zero, whose inverse would not be finite, and all below.
pub(super) const NOTHING: f32 = 1e-30;

/// Values ahead of what is quantised that are asked for: two pages.
const AHEAD: usize = 2048;

/// Blocks that are quantised together.
const TOGETHER: usize = 16;

/// What integers of a block are multiplied by.
pub(super) struct Step {
    /// `2^power · STEPS[quarter]`, zero for a block of zeros.
    pub(super) size: f32,
    /// A whole number; not a number where a value is not finite, and so is `size`.
    pub(super) power: f32,
    pub(super) quarter: u32,
}

/// A block of 32 bytes.
pub(super) trait Record: Copy {
    /// Whether the sum of the first half is asked for.
    const HALVES: bool;

    fn bytes(&mut self) -> &mut [i8; BLOCK];

    /// The step, and the sums of all bytes and of the first half.
    fn finish(&mut self, step: Step, sums: [i32; 2]);
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
pub(super) unsafe fn quantize<R: Record>(x: &[f32], to: &mut [R]) {
    let blocks = x.len() / BLOCK;
    let ((x, x_rest), (to, rest)) = (x.as_chunks(), to[..blocks].as_chunks_mut());
    for (x, to) in x.iter().zip(to) {
        lines_near(x.as_ptr().wrapping_add(AHEAD).cast(), size_of_val(x));
        together(x, to);
    }
    if !rest.is_empty() {
        let mut x = [0.0; TOGETHER * BLOCK];
        let mut to = [rest[0]; TOGETHER];
        x[..x_rest.len()].copy_from_slice(x_rest);
        together(&x, &mut to);
        rest.copy_from_slice(&to[..rest.len()]);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn together<R: Record>(x: &[f32; TOGETHER * BLOCK], to: &mut [R; TOGETHER]) {
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
    let least = _mm512_maskz_mul_ps(some, size, _mm512_set1_ps(1.0 / 127.0));
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
    let steps = _mm512_broadcast_f32x4(_mm_setr_ps(STEPS[0], STEPS[1], STEPS[2], STEPS[3]));
    let scale = _mm512_permutexvar_ps(step, steps);
    let inverse = _mm512_div_ps(_mm512_set1_ps(1.0), scale);
    let inverse = _mm512_maskz_scalef_ps(some, inverse, _mm512_sub_ps(_mm512_setzero_ps(), exponent));
    let exponent = _mm512_mask_blend_ps(odd, exponent, _mm512_set1_ps(f32::NAN));
    let scale = floats(_mm512_scalef_ps(_mm512_maskz_mov_ps(some | odd, scale), exponent));
    let (inverse, exponent, step) = (floats(inverse), floats(exponent), integers(step));
    let (mut sums, mut firsts) = ([zero; TOGETHER], [zero; TOGETHER]);
    for (block, to) in to.iter_mut().enumerate() {
        let inverse = _mm512_set1_ps(inverse[block]);
        // To the nearest, ties to even.
        let q = [half(2 * block), half(2 * block + 1)].map(|x| _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse)));
        firsts[block] = q[0];
        sums[block] = _mm512_madd_epi16(_mm512_packs_epi32(q[0], q[1]), _mm512_set1_epi16(1));
        for (q, bytes) in q.into_iter().zip(to.bytes().as_chunks_mut::<16>().0) {
            // SAFETY: 16 bytes.
            unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(q)) };
        }
    }
    let all = integers(joined!(sums, _mm512_add_epi32));
    let first = if R::HALVES { integers(joined!(firsts, _mm512_add_epi32)) } else { [0; 16] };
    for (block, to) in to.iter_mut().enumerate() {
        let step = Step { power: exponent[block], quarter: step[block] as u32, size: scale[block] };
        to.finish(step, [all[block], first[block]]);
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
