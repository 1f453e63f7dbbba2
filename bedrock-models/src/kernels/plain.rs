//! Rows of plain numbers as `f32`.

use super::isa::Isa;
use crate::weights::{Dtype, block};

/// Bytes ahead of what is read that are asked for: see the kernels of block formats.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 2048;

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

/// Numbers decoded at a time: a cache line of the widest.
const LANES: usize = 16;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{AHEAD, LANES};

    /// # Safety
    /// AVX2; `count` numbers, a multiple of 16, on both sides.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn singles(from: *const u8, to: *mut f32, count: usize) {
        for k in (0..count).step_by(LANES) {
            let from = from.wrapping_add(4 * k);
            _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(AHEAD).cast());
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
            _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(AHEAD).cast());
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
            _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(AHEAD).cast());
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
