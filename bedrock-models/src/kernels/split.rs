//! Floats as sums of two numbers of 8 significant bits (`bf16`), as products by matrix tiles take them.

use std::arch::x86_64::*;
use std::mem::transmute;

use super::panels::Line;
use super::tile::COLUMNS;

/// 16 high parts of `first`, then of `second`, and the low ones in the same order.
/// Subnormal numbers are zeros here.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn split(first: __m512, second: __m512) -> [__m512i; 2] {
    let high = round(first, second);
    let float = |half| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)));
    let less = |value, half| _mm512_sub_ps(value, float(half));
    let low = round(less(first, _mm512_castsi512_si256(high)), less(second, _mm512_extracti64x4_epi64::<1>(high)));
    [high, low]
}

/// The high parts of [`split`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn round(first: __m512, second: __m512) -> __m512i {
    // SAFETY: vectors of the same size, of which any bits are valid.
    unsafe { transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first)) }
}

/// As [`split`], but of each lane the number of `first` and then that of `second`. Numbers in the middle between two go to the greater, which the units of vectors do in
/// fewer steps; a NaN of which all upper bits are set becomes zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn split_pairs(first: __m512, second: __m512) -> [__m512i; 2] {
    let (half, upper) = (_mm512_set1_epi32(0x8000), _mm512_set1_epi32(0xffff_0000_u32 as i32));
    let up = |value| _mm512_add_epi32(_mm512_castps_si512(value), half);
    let less = |value, upper| up(_mm512_sub_ps(value, _mm512_castsi512_ps(upper)));
    // The upper half of `first`, and that of `second` above it.
    let join = |first, second| _mm512_or_si512(_mm512_srli_epi32::<16>(first), _mm512_and_si512(second, upper));
    let (a, b) = (up(first), up(second));
    let low = join(less(first, _mm512_and_si512(a, upper)), less(second, _mm512_and_si512(b, upper)));
    [join(a, b), low]
}

/// The high parts of [`split_pairs`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn round_pairs(first: __m512, second: __m512) -> __m512i {
    let (half, upper) = (_mm512_set1_epi32(0x8000), _mm512_set1_epi32(0xffff_0000_u32 as i32));
    let up = |value| _mm512_add_epi32(_mm512_castps_si512(value), half);
    _mm512_or_si512(_mm512_srli_epi32::<16>(up(first)), _mm512_and_si512(up(second), upper))
}

pub(super) fn store<const N: usize>(parts: [__m512i; N], to: [&mut Line; N]) {
    for (part, to) in parts.into_iter().zip(to) {
        // SAFETY: 64 bytes, of which any bits are floats.
        to.0 = unsafe { transmute::<__m512i, [f32; COLUMNS]>(part) };
    }
}
