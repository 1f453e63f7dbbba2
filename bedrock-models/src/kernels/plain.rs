//! Rows of plain numbers: as `f32`, and their inner products with rows of `f32`.

use super::isa::Isa;
use crate::weights::{Dtype, block};

/// Decodes `F32`, `F16` or `BF16`; false, and nothing written, for any other type.
///
/// # Panics
/// If the bytes are not those of as many numbers.
pub(crate) fn widen(isa: Isa, dtype: Dtype, bytes: &[u8], out: &mut [f32]) -> bool {
    if isa == Isa::Portable || !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
        return false;
    }
    let size = dtype.block_bytes();
    assert_eq!(bytes.len(), out.len() * size);
    let whole = out.len() / LANES * LANES;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: such an `Isa` is only made where AVX2 and F16C were detected; `whole` numbers are there.
    unsafe {
        let (from, to) = (bytes.as_ptr(), out.as_mut_ptr());
        match dtype {
            Dtype::F32 => x86::singles(from, to, whole),
            Dtype::F16 => x86::halves(from, to, whole),
            _ => x86::brains(from, to, whole),
        }
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: every aarch64 has NEON; `whole` numbers are there.
    unsafe {
        let (from, to) = (bytes.as_ptr(), out.as_mut_ptr());
        match dtype {
            Dtype::F32 => neon::singles(from, to, whole),
            Dtype::F16 => neon::halves(from, to, whole),
            _ => neon::brains(from, to, whole),
        }
    }
    let (bytes, out) = (&bytes[whole * size..], &mut out[whole..]);
    block::dequantize(dtype, bytes, out).expect("a plain type, lengths checked above");
    true
}

/// The inner products of rows of `F32`, `F16` or `BF16` numbers with rows of `x`, `width` numbers each, without writing them down as floats. `put` has the row of
/// the numbers, that of `x`, and the product, which does not depend on the other rows. False, and nothing put, where there is no such kernel.
///
/// # Panics
/// If the bytes are not those of whole rows.
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, unused_mut))]
pub(crate) fn dots(
    isa: Isa,
    dtype: Dtype,
    bytes: &[u8],
    x: &[f32],
    width: usize,
    mut put: impl FnMut(usize, usize, f32),
) -> bool {
    if !isa.avx2() || !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
        return false;
    }
    let row_bytes = width * dtype.block_bytes();
    let (rows, columns) = (bytes.len() / row_bytes, x.len() / width);
    assert!(bytes.len() == rows * row_bytes && x.len() == columns * width);
    #[cfg(target_arch = "x86_64")]
    {
        let kind = match dtype {
            Dtype::F32 => x86::SINGLES,
            Dtype::F16 => x86::HALVES,
            _ => x86::BRAINS,
        };
        let whole = width / PASS * PASS;
        // What a row has beyond whole passes.
        let mut rest = [0.0; PASS];
        let rest = &mut rest[..width - whole];
        for (row, bytes) in bytes.chunks_exact(row_bytes).enumerate() {
            let end = &bytes[whole * dtype.block_bytes()..];
            block::dequantize(dtype, end, rest).expect("a plain type, lengths checked above");
            let mut column = 0;
            while column < columns {
                let mut put = |c: usize, sum: f32| {
                    let end = &x[(column + c) * width + whole..][..rest.len()];
                    put(row, column + c, sum + rest.iter().zip(end).map(|(a, b)| a * b).sum::<f32>());
                };
                let (from, at) = (bytes.as_ptr(), x[column * width..].as_ptr());
                // SAFETY: such an `Isa` is only made where its instructions were detected; `whole` numbers are there, and in each row of `x`.
                column += unsafe {
                    match columns - column {
                        4.. if isa == Isa::Avx512 => x86::dots::<4>(isa, kind, from, at, width, whole, &mut put),
                        2.. => x86::dots::<2>(isa, kind, from, at, width, whole, &mut put),
                        _ => x86::dots::<1>(isa, kind, from, at, width, whole, &mut put),
                    }
                };
            }
        }
    }
    true
}

/// Numbers multiplied at a time: four registers of the widest.
#[cfg(target_arch = "x86_64")]
const PASS: usize = 64;

/// Numbers decoded at a time: a cache line of the widest.
const LANES: usize = 16;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::super::isa::Isa;
    use super::super::prefetch::{AHEAD, ask_near};
    use super::{LANES, PASS};

    /// Kinds of numbers, as parameters of kernels.
    pub(super) const SINGLES: u8 = 0;
    pub(super) const HALVES: u8 = 1;
    pub(super) const BRAINS: u8 = 2;

    /// Puts the products of a row of numbers with `C` rows of `x`, and returns `C`.
    ///
    /// # Safety
    /// The instructions of `isa`, which has AVX2; `count` numbers, a multiple of 64, at `from` and in each of `C` rows at `x`, `width` floats apart.
    pub(super) unsafe fn dots<const C: usize>(
        isa: Isa,
        kind: u8,
        from: *const u8,
        x: *const f32,
        width: usize,
        count: usize,
        put: &mut impl FnMut(usize, f32),
    ) -> usize {
        // SAFETY: by the contract.
        let sums: [f32; C] = unsafe {
            match (isa, kind) {
                (Isa::Avx512, SINGLES) => avx512::dots::<SINGLES, C>(from, x, width, count),
                (Isa::Avx512, HALVES) => avx512::dots::<HALVES, C>(from, x, width, count),
                (Isa::Avx512, _) => avx512::dots::<BRAINS, C>(from, x, width, count),
                (_, SINGLES) => avx2::dots::<SINGLES, C>(from, x, width, count),
                (_, HALVES) => avx2::dots::<HALVES, C>(from, x, width, count),
                (_, _) => avx2::dots::<BRAINS, C>(from, x, width, count),
            }
        };
        sums.into_iter().enumerate().for_each(|(column, sum)| put(column, sum));
        C
    }

    /// `dots` with registers of `$lanes` floats, on which `zero`, `load`, `widen`, `fma` and `sum` are defined.
    macro_rules! kernel {
        ($features:literal, $lanes:literal) => {
            /// # Safety
            /// As [`super::dots`].
            #[target_feature(enable = $features)]
            pub(super) unsafe fn dots<const KIND: u8, const C: usize>(
                from: *const u8,
                x: *const f32,
                width: usize,
                count: usize,
            ) -> [f32; C] {
                let size = const { if KIND == SINGLES { 4 } else { 2 } };
                // Four a row, so that none waits for itself.
                let mut sums = [[zero(); 4]; C];
                for k in (0..count).step_by(PASS) {
                    for line in (0..PASS * size).step_by(64) {
                        ask_near(from.wrapping_add(k * size + line + AHEAD));
                    }
                    // A number of turns that is known, so that sums stay in registers.
                    for turn in 0..PASS / $lanes {
                        let at = k + turn * $lanes;
                        // SAFETY: a register of numbers from here on, in each of the rows, by the contract.
                        unsafe {
                            let weights = widen::<KIND>(from.add(at * size));
                            for (column, sums) in sums.iter_mut().enumerate() {
                                sums[turn % 4] = fma(weights, load(x.add(column * width + at)), sums[turn % 4]);
                            }
                        }
                    }
                }
                sums.map(|[a, b, c, d]| sum(add(add(a, b), add(c, d))))
            }
        };
    }

    mod avx512 {
        use super::*;

        kernel!("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl", 16);

        #[inline]
        #[target_feature(enable = "avx512f")]
        fn zero() -> __m512 {
            _mm512_setzero_ps()
        }

        /// # Safety
        /// 16 floats.
        #[inline]
        #[target_feature(enable = "avx512f")]
        unsafe fn load(from: *const f32) -> __m512 {
            // SAFETY: by the contract.
            unsafe { _mm512_loadu_ps(from) }
        }

        /// # Safety
        /// 16 numbers.
        #[inline]
        #[target_feature(enable = "avx512f")]
        unsafe fn widen<const KIND: u8>(from: *const u8) -> __m512 {
            // SAFETY: by the contract.
            unsafe {
                match KIND {
                    SINGLES => _mm512_loadu_ps(from.cast()),
                    HALVES => _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())),
                    _ => {
                        let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
                        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
                    }
                }
            }
        }

        #[inline]
        #[target_feature(enable = "avx512f")]
        fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            _mm512_fmadd_ps(a, b, c)
        }

        #[inline]
        #[target_feature(enable = "avx512f")]
        fn add(a: __m512, b: __m512) -> __m512 {
            _mm512_add_ps(a, b)
        }

        #[inline]
        #[target_feature(enable = "avx512f")]
        fn sum(a: __m512) -> f32 {
            _mm512_reduce_add_ps(a)
        }
    }

    mod avx2 {
        use super::*;

        kernel!("avx2,fma,f16c", 8);

        #[inline]
        #[target_feature(enable = "avx2")]
        fn zero() -> __m256 {
            _mm256_setzero_ps()
        }

        /// # Safety
        /// Eight floats.
        #[inline]
        #[target_feature(enable = "avx2")]
        unsafe fn load(from: *const f32) -> __m256 {
            // SAFETY: by the contract.
            unsafe { _mm256_loadu_ps(from) }
        }

        /// # Safety
        /// Eight numbers.
        #[inline]
        #[target_feature(enable = "avx2,f16c")]
        unsafe fn widen<const KIND: u8>(from: *const u8) -> __m256 {
            // SAFETY: by the contract.
            unsafe {
                match KIND {
                    SINGLES => _mm256_loadu_ps(from.cast()),
                    HALVES => _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                    _ => {
                        let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
                        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
                    }
                }
            }
        }

        #[inline]
        #[target_feature(enable = "avx2,fma")]
        fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
            _mm256_fmadd_ps(a, b, c)
        }

        #[inline]
        #[target_feature(enable = "avx2")]
        fn add(a: __m256, b: __m256) -> __m256 {
            _mm256_add_ps(a, b)
        }

        #[inline]
        #[target_feature(enable = "avx2")]
        fn sum(a: __m256) -> f32 {
            let half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
        }
    }

    /// # Safety
    /// AVX2; `count` numbers, a multiple of 16, on both sides.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn singles(from: *const u8, to: *mut f32, count: usize) {
        for k in (0..count).step_by(LANES) {
            let from = from.wrapping_add(4 * k);
            ask_near(from.wrapping_add(AHEAD));
            for half in [0, 8] {
                // SAFETY: eight numbers from here on, by the contract.
                unsafe { _mm256_storeu_ps(to.add(k + half), _mm256_loadu_ps(from.add(4 * half).cast())) };
            }
        }
    }

    /// # Safety
    /// AVX2 and F16C; as [`singles`].
    #[target_feature(enable = "avx2,f16c")]
    pub(super) unsafe fn halves(from: *const u8, to: *mut f32, count: usize) {
        for k in (0..count).step_by(LANES) {
            let from = from.wrapping_add(2 * k);
            ask_near(from.wrapping_add(AHEAD));
            for half in [0, 8] {
                // SAFETY: as above.
                unsafe {
                    _mm256_storeu_ps(to.add(k + half), _mm256_cvtph_ps(_mm_loadu_si128(from.add(2 * half).cast())))
                };
            }
        }
    }

    /// # Safety
    /// As [`singles`].
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn brains(from: *const u8, to: *mut f32, count: usize) {
        for k in (0..count).step_by(LANES) {
            let from = from.wrapping_add(2 * k);
            ask_near(from.wrapping_add(AHEAD));
            for half in [0, 8] {
                // SAFETY: as above.
                unsafe {
                    let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(2 * half).cast()));
                    _mm256_storeu_ps(to.add(k + half), _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits)));
                }
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::*;
    use std::arch::asm;

    /// # Safety
    /// `count` numbers, a multiple of 8, on both sides.
    #[target_feature(enable = "neon")]
    pub(super) unsafe fn singles(from: *const u8, to: *mut f32, count: usize) {
        for k in (0..count).step_by(4) {
            // SAFETY: four numbers from here on, by the contract.
            unsafe { vst1q_f32(to.add(k), vreinterpretq_f32_u8(vld1q_u8(from.add(4 * k)))) };
        }
    }

    /// # Safety
    /// As [`singles`].
    #[target_feature(enable = "neon")]
    pub(super) unsafe fn halves(from: *const u8, to: *mut f32, count: usize) {
        for k in (0..count).step_by(8) {
            // SAFETY: eight numbers from here on, by the contract; the instructions are those of every processor with NEON.
            unsafe {
                let bits = vld1q_u8(from.add(2 * k));
                let (low, high): (float32x4_t, float32x4_t);
                asm!(
                    "fcvtl {low:v}.4s, {bits:v}.4h",
                    "fcvtl2 {high:v}.4s, {bits:v}.8h",
                    low = out(vreg) low,
                    high = lateout(vreg) high,
                    bits = in(vreg) bits,
                    options(pure, nomem, nostack, preserves_flags),
                );
                vst1q_f32(to.add(k), low);
                vst1q_f32(to.add(k + 4), high);
            }
        }
    }

    /// # Safety
    /// As [`singles`].
    #[target_feature(enable = "neon")]
    pub(super) unsafe fn brains(from: *const u8, to: *mut f32, count: usize) {
        for k in (0..count).step_by(8) {
            // SAFETY: as above.
            unsafe {
                let bits = vreinterpretq_u16_u8(vld1q_u8(from.add(2 * k)));
                vst1q_f32(to.add(k), vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(bits))));
                vst1q_f32(to.add(k + 4), vreinterpretq_f32_u32(vshll_high_n_u16::<16>(bits)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_plain_decoder_for_every_length() {
        for isa in Isa::here() {
            for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
                for len in 0..70 {
                    let values: Vec<f32> = (0..len).map(|i| (i as f32 - 30.0) * 0.37).collect();
                    let bytes = block::quantize(dtype, &values).unwrap();
                    let (mut fast, mut plain) = (vec![9.0; len], vec![0.0; len]);
                    block::dequantize(dtype, &bytes, &mut plain).unwrap();
                    assert_eq!(widen(isa, dtype, &bytes, &mut fast), isa != Isa::Portable);
                    if isa != Isa::Portable {
                        assert_eq!(fast, plain, "{dtype} {len}");
                    }
                }
            }
        }
        assert!(!widen(super::super::isa::isa(), Dtype::Q8_0, &[], &mut []));
    }

    #[test]
    fn products_equal_those_of_decoded_numbers_alone_and_together() {
        for isa in Isa::here() {
            for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
                for (width, rows) in [(1, 3), (15, 8), (31, 9), (32, 19), (65, 8), (128, 1), (200, 10), (576, 16)] {
                    let numbers = |salt: usize, len: usize| -> Vec<f32> {
                        (0..len).map(|i| ((i * 7919 + salt * 104729) % 1009) as f32 / 504.0 - 1.0).collect()
                    };
                    let bytes = block::quantize(dtype, &numbers(1, rows * width)).unwrap();
                    let mut weights = vec![0.0; rows * width];
                    block::dequantize(dtype, &bytes, &mut weights).unwrap();
                    let x = numbers(2, 7 * width);
                    let mut together = vec![[f32::NAN; 7]; rows];
                    let there = dots(isa, dtype, &bytes, &x, width, |row, of, sum| together[row][of] = sum);
                    assert_eq!(there, isa.avx2());
                    let pairs = (0..rows).flat_map(|row| (0..7).map(move |of| (row, of))).filter(|_| there);
                    for (row, of) in pairs {
                        let (weights, x) = (&weights[row * width..][..width], &x[of * width..][..width]);
                        let bytes = &bytes[row * width * dtype.block_bytes()..][..width * dtype.block_bytes()];
                        let mut alone = f32::NAN;
                        dots(isa, dtype, bytes, x, width, |_, _, sum| alone = sum);
                        assert_eq!(alone.to_bits(), together[row][of].to_bits(), "{isa:?} {dtype} {width} {row} {of}");
                        let exact: f64 = weights.iter().zip(x).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                        assert!((f64::from(alone) - exact).abs() < 1e-5 * (width as f64).sqrt(), "{alone} {exact}");
                    }
                }
            }
        }
        assert!(!dots(super::super::isa::isa(), Dtype::Q8_0, &[], &[], 1, |_, _, _| unreachable!()));
    }

    #[test]
    fn every_half_precision_number_is_itself() {
        let isa = super::super::isa::isa();
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let mut fast = vec![0.0f32; 1 << 16];
        for dtype in [Dtype::F16, Dtype::BF16] {
            if widen(isa, dtype, &bytes, &mut fast) {
                let mut plain = vec![0.0f32; 1 << 16];
                block::dequantize(dtype, &bytes, &mut plain).unwrap();
                let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
                assert!(fast.iter().zip(&plain).all(same));
            }
        }
    }
}
