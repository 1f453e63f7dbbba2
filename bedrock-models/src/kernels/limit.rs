//! What this machine can do at most, measured: the figures beside which those of the kernels stand.

use std::fmt;
use std::hint::black_box;

use super::isa::{Isa, isa};
use super::panels::Line;
use super::pool::Pool;
use super::slab::Lines;

/// Memory to be read, larger than any cache that counts.
pub struct Memory(Lines);

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} bytes)", self.bytes())
    }
}

/// Lines that a thread reads before it claims the next: 256 KiB.
const PART: usize = 4096;

impl Memory {
    /// So many bytes, rounded up, each page of them touched.
    pub fn new(bytes: usize) -> Self {
        let mut lines = Lines::zeros(bytes.div_ceil(size_of::<Line>()).next_multiple_of(PART));
        lines.fill(Line([1.0; 16]));
        Self(lines)
    }

    /// How many bytes they are.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.0)
    }

    /// Reads all of it once, on all threads; with `ahead`, asking for lines early as the kernels do.
    pub fn read(&self, pool: &Pool, ahead: bool) {
        let isa = isa();
        pool.run_in_order(self.0.len() / PART, &|part| {
            let lines = &self.0[part * PART..][..PART];
            black_box(if ahead { sum::<true>(isa, lines) } else { sum::<false>(isa, lines) });
        });
    }
}

fn sum<const AHEAD: bool>(isa: Isa, lines: &[Line]) -> f32 {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: such an `Isa` is only made where AVX-512 was detected; the body is safe but for hints.
        Isa::Avx512 => unsafe { sum_avx512::<AHEAD>(lines) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above, for AVX2.
        _ if isa.avx2() => unsafe { sum_avx2::<AHEAD>(lines) },
        _ => sum_lines::<AHEAD>(lines),
    }
}

#[inline(always)]
fn sum_lines<const AHEAD: bool>(lines: &[Line]) -> f32 {
    let mut sums = [[0.0f32; 16]; 4];
    for lines in lines.as_chunks::<4>().0 {
        #[cfg(target_arch = "x86_64")]
        if AHEAD {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            for line in 0..4 {
                let at = lines.as_ptr().wrapping_add(32 + line);
                // SAFETY: a hint, which reads nothing; SSE is part of x86-64.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
            }
        }
        for (sums, line) in sums.iter_mut().zip(lines) {
            sums.iter_mut().zip(line.0).for_each(|(sum, value)| *sum += value);
        }
    }
    sums.as_flattened().iter().sum()
}

/// # Safety
/// AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn sum_avx2<const AHEAD: bool>(lines: &[Line]) -> f32 {
    sum_lines::<AHEAD>(lines)
}

/// # Safety
/// AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl")]
unsafe fn sum_avx512<const AHEAD: bool>(lines: &[Line]) -> f32 {
    sum_lines::<AHEAD>(lines)
}

/// Steps of a part of a measurement of arithmetic: a few hundred microseconds.
const STEPS: usize = 50_000;

/// Multiplies and adds `f32` in registers on all threads; returns the operations (two a product) that were done.
pub fn float_operations(pool: &Pool) -> f64 {
    let (isa, parts) = (isa(), pool.threads() * 16);
    pool.run(parts, &|_| match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: such an `Isa` is only made where AVX-512 was detected.
        Isa::Avx512 => unsafe { x86::floats_avx512(STEPS) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above, for AVX2 and FMA.
        _ if isa.avx2() => unsafe { x86::floats_avx2(STEPS) },
        _ => {
            black_box(floats(STEPS));
        }
    });
    let per_step = match isa {
        Isa::Avx512 => 12 * 16 * 2,
        _ if isa.avx2() => 12 * 8 * 2,
        _ => 16 * 2,
    };
    (parts * STEPS * per_step) as f64
}

fn floats(steps: usize) -> f32 {
    let (a, b) = black_box((0.5f32, 0.25f32));
    let mut sums = [1.0f32; 16];
    for _ in 0..steps {
        sums.iter_mut().for_each(|sum| *sum = *sum * a + b);
    }
    sums.iter().sum()
}

/// Multiplies bytes and sums the products in registers on all threads, by the instructions that the kernels of block formats use; returns the
/// operations (two a product) that were done. None where they use none of their own.
pub fn byte_operations(pool: &Pool) -> Option<f64> {
    let (isa, parts) = (isa(), pool.threads() * 16);
    let per_step = match isa {
        Isa::Avx512 => 12 * 64 * 2,
        Isa::AvxVnni | Isa::Avx2 => 12 * 32 * 2,
        Isa::Portable | Isa::Neon => return None,
    };
    #[cfg(target_arch = "x86_64")]
    pool.run(parts, &|_| {
        // SAFETY: an `Isa` is only made where its instructions were detected.
        unsafe {
            match isa {
                Isa::Avx512 => x86::bytes_avx512(STEPS),
                Isa::AvxVnni => x86::bytes_avxvnni(STEPS),
                _ => x86::bytes_avx2(STEPS),
            }
        }
    });
    Some((parts * STEPS * per_step) as f64)
}

/// Multiplies tiles in registers on all threads; returns the operations (two a product) of products of floats that were done, or `None`
/// where there are no tiles.
pub fn tile_operations(pool: &Pool) -> Option<f64> {
    super::amx::operations(pool)
}

/// Chains of dependent instructions, as many side by side as hide their latency.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Twelve accumulators to which products of two constants are added. In assembly, because compilers move what is in such a loop from register to
    /// register and through memory.
    macro_rules! chains {
        ($features:literal, $name:ident, $instruction:literal, $register:literal, $a:tt, $b:tt, $constant:ident) => {
            /// # Safety
            /// The features.
            #[target_feature(enable = $features)]
            pub(super) unsafe fn $name(steps: usize, constants: [$constant; 2]) {
                // SAFETY: works on registers alone, all of which are named.
                unsafe {
                    asm!(
                        "vpxor xmm0, xmm0, xmm0",
                        "vpxor xmm1, xmm1, xmm1",
                        "vpxor xmm2, xmm2, xmm2",
                        "vpxor xmm3, xmm3, xmm3",
                        "vpxor xmm4, xmm4, xmm4",
                        "vpxor xmm5, xmm5, xmm5",
                        "vpxor xmm6, xmm6, xmm6",
                        "vpxor xmm7, xmm7, xmm7",
                        "vpxor xmm8, xmm8, xmm8",
                        "vpxor xmm9, xmm9, xmm9",
                        "vpxor xmm10, xmm10, xmm10",
                        "vpxor xmm11, xmm11, xmm11",
                        "2:",
                        concat!($instruction, " ", $register, "0, ", $register, "14, ", $register, "15"),
                        concat!($instruction, " ", $register, "1, ", $register, "14, ", $register, "15"),
                        concat!($instruction, " ", $register, "2, ", $register, "14, ", $register, "15"),
                        concat!($instruction, " ", $register, "3, ", $register, "14, ", $register, "15"),
                        concat!($instruction, " ", $register, "4, ", $register, "14, ", $register, "15"),
                        concat!($instruction, " ", $register, "5, ", $register, "14, ", $register, "15"),
                        concat!($instruction, " ", $register, "6, ", $register, "14, ", $register, "15"),
                        concat!($instruction, " ", $register, "7, ", $register, "14, ", $register, "15"),
                        concat!($instruction, " ", $register, "8, ", $register, "14, ", $register, "15"),
                        concat!($instruction, " ", $register, "9, ", $register, "14, ", $register, "15"),
                        concat!($instruction, " ", $register, "10, ", $register, "14, ", $register, "15"),
                        concat!($instruction, " ", $register, "11, ", $register, "14, ", $register, "15"),
                        "dec {steps}",
                        "jnz 2b",
                        steps = inout(reg) steps.max(1) => _,
                        in($a) constants[0],
                        in($b) constants[1],
                        out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                        out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                        options(nomem, nostack),
                    );
                }
            }
        };
    }

    chains!("avx512f", multiply_512, "vfmadd231ps", "zmm", "zmm14", "zmm15", __m512);
    chains!("avx2,fma", multiply_256, "vfmadd231ps", "ymm", "ymm14", "ymm15", __m256);
    chains!("avx512f,avx512vnni", sum_512, "vpdpbusd", "zmm", "zmm14", "zmm15", __m512i);
    chains!("avx2,avxvnni", sum_256, "{{vex}} vpdpbusd", "ymm", "ymm14", "ymm15", __m256i);

    /// # Safety
    /// AVX-512 F.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn floats_avx512(steps: usize) {
        // SAFETY: by the contract.
        unsafe { multiply_512(steps, [_mm512_set1_ps(0.5), _mm512_set1_ps(0.25)]) }
    }

    /// # Safety
    /// AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn floats_avx2(steps: usize) {
        // SAFETY: by the contract.
        unsafe { multiply_256(steps, [_mm256_set1_ps(0.5), _mm256_set1_ps(0.25)]) }
    }

    /// # Safety
    /// AVX-512 F and VNNI.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) unsafe fn bytes_avx512(steps: usize) {
        // SAFETY: by the contract.
        unsafe { sum_512(steps, [_mm512_set1_epi8(3), _mm512_set1_epi8(-5)]) }
    }

    /// # Safety
    /// AVX2 and AVX-VNNI.
    #[target_feature(enable = "avx2,avxvnni")]
    pub(super) unsafe fn bytes_avxvnni(steps: usize) {
        // SAFETY: by the contract.
        unsafe { sum_256(steps, [_mm256_set1_epi8(3), _mm256_set1_epi8(-5)]) }
    }

    /// # Safety
    /// AVX2.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn bytes_avx2(steps: usize) {
        let (b, ones, c) = black_box((_mm256_set1_epi8(-5), _mm256_set1_epi16(1), _mm256_set1_epi32(7)));
        let mut sums = [_mm256_setzero_si256(); 12];
        for _ in 0..steps {
            sums.iter_mut().for_each(|sum| {
                *sum = _mm256_add_epi32(_mm256_madd_epi16(_mm256_maddubs_epi16(*sum, b), ones), c);
            });
        }
        black_box(sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_counted_is_read_and_computed() {
        let lines: Vec<Line> = (0..PART).map(|i| Line(std::array::from_fn(|lane| (i % 7 * lane) as f32))).collect();
        let want: f32 = lines.iter().flat_map(|line| line.0).sum();
        for isa in Isa::here() {
            assert_eq!((sum::<true>(isa, &lines), sum::<false>(isa, &lines)), (want, want));
        }
        let memory = Memory::new(1);
        assert_eq!(memory.bytes(), PART * 64);
        memory.read(&Pool::new(2), true);
        // The fixed point of x / 2 + 1 / 4.
        assert_eq!(floats(200), 8.0);
        assert!(float_operations(&Pool::new(2)) > 0.0);
        assert_eq!(byte_operations(&Pool::new(2)).is_some(), isa().avx2());
        assert!(tile_operations(&Pool::new(2)).is_none_or(|operations| operations > 0.0));
    }
}
