//! The inner loops: dot products with the instructions of the processor at hand.

use pulp::{Arch, Simd, WithSimd};

use crate::Error;

/// Scales a vector to length 1 in place.
///
/// # Errors
/// [`Error::BadVector`] for a vector of zeros, or with a value that is not finite; `index` is reported in it.
pub fn normalize(vector: &mut [f32], index: usize) -> Result<(), Error> {
    // In f64: the square of a large f32 has no room in an f32.
    let squares: f64 = vector.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    if !squares.is_finite() || squares <= 0.0 {
        return Err(Error::BadVector { index });
    }
    let scale = squares.sqrt().recip();
    for value in vector.iter_mut() {
        *value = (f64::from(*value) * scale) as f32;
    }
    Ok(())
}

/// Runs an operation compiled for this processor's instructions. (Written out instead of [`Arch::dispatch`] because
/// that chooses AVX2 only with a crate feature which burn's own use of pulp doesn't turn on, and one more feature set
/// is one more build of burn.)
pub(super) fn vectorize<O: WithSimd>(operation: O) -> O::Output {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return Simd::vectorize(simd, operation);
    }
    Arch::new().dispatch(operation)
}

/// Dot product of two vectors of one length.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    struct Dot<'a>(&'a [f32], &'a [f32]);
    impl WithSimd for Dot<'_> {
        type Output = f32;
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> f32 {
            dot_with(simd, self.0, self.1)
        }
    }
    vectorize(Dot(a, b))
}

/// [`dot`] inside an operation that is compiled for `S` already. Four sums, because one would wait for itself.
#[inline(always)]
pub(super) fn dot_with<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let length = a.len().min(b.len());
    let (a_wide, a_rest) = S::as_simd_f32s(&a[..length]);
    let (b_wide, b_rest) = S::as_simd_f32s(&b[..length]);
    let mut sums = [simd.splat_f32s(0.0); 4];
    let (a_fours, a_few) = a_wide.as_chunks::<4>();
    let (b_fours, b_few) = b_wide.as_chunks::<4>();
    for (a, b) in a_fours.iter().zip(b_fours) {
        for lane in 0..4 {
            sums[lane] = simd.mul_add_e_f32s(a[lane], b[lane], sums[lane]);
        }
    }
    for (&a, &b) in a_few.iter().zip(b_few) {
        sums[0] = simd.mul_add_e_f32s(a, b, sums[0]);
    }
    let sum = simd.add_f32s(simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3]));
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    simd.reduce_sum_f32s(sum) + rest
}

/// Vectors of bytes are padded with zeros to a multiple of this, which is also a line of the cache.
pub(super) const LINE: usize = 64;

/// What the walk through a graph needs of a processor.
pub(super) trait Kernel: Copy {
    /// Asks for memory that will be read soon.
    fn prefetch<T>(self, memory: &[T]);

    /// Dot product of two vectors of a multiple of [`LINE`] bytes from −127 to 127. Exact up to 133,000 of them.
    fn dot_bytes(self, a: &[i8], b: &[i8]) -> i32;
}

/// Work that is compiled once for every [`Kernel`]; everything on its way must be `#[inline(always)]`. A closure given to an
/// iterator is not: inside one, every instruction becomes a call.
pub(super) trait Job {
    type Output;
    fn run<K: Kernel>(self, kernel: K) -> Self::Output;
}

/// Does a job with the best kernel there is.
pub(super) fn with_kernel<J: Job>(job: J) -> J::Output {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        struct Inside<J>(pulp::x86::V3, J);
        impl<J: Job> pulp::NullaryFnOnce for Inside<J> {
            type Output = J::Output;
            #[inline(always)]
            fn call(self) -> J::Output {
                self.1.run(self.0)
            }
        }
        return simd.vectorize(Inside(simd, job));
    }
    job.run(Portable)
}

#[cfg(target_arch = "x86_64")]
impl Kernel for pulp::x86::V3 {
    #[inline(always)]
    fn prefetch<T>(self, memory: &[T]) {
        // A hint: the processor ignores addresses that can't be read, so pulp can offer it without `unsafe`.
        let start = memory.as_ptr().cast::<i8>();
        for line in 0..size_of_val(memory).div_ceil(LINE) {
            self.sse._mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(start.wrapping_add(line * LINE));
        }
    }

    #[inline(always)]
    fn dot_bytes(self, a: &[i8], b: &[i8]) -> i32 {
        use std::arch::x86_64::__m256i;
        // `maddubs` multiplies unsigned by signed bytes and adds two products in 16 bits, which 2 × 127² fits into: the
        // sign of `a` is moved over to `b`.
        let ones = self.avx._mm256_set1_epi16(1);
        let mut sums = [self.avx._mm256_setzero_si256(); 2];
        for (a, b) in a.as_chunks::<LINE>().0.iter().zip(b.as_chunks::<LINE>().0) {
            let (a, b): ([__m256i; 2], [__m256i; 2]) = (pulp::cast(*a), pulp::cast(*b));
            for half in 0..2 {
                let (amount, signed) =
                    (self.avx2._mm256_abs_epi8(a[half]), self.avx2._mm256_sign_epi8(b[half], a[half]));
                let pairs = self.avx2._mm256_madd_epi16(self.avx2._mm256_maddubs_epi16(amount, signed), ones);
                sums[half] = self.avx2._mm256_add_epi32(sums[half], pairs);
            }
        }
        let sums: [i32; 8] = pulp::cast(self.avx2._mm256_add_epi32(sums[0], sums[1]));
        let [a, b, c, d, e, f, g, h] = sums;
        (a + e) + (b + f) + ((c + g) + (d + h))
    }
}

/// What every processor can do; compilers turn it into vector instructions as far as they know how.
#[derive(Clone, Copy)]
struct Portable;

impl Kernel for Portable {
    fn prefetch<T>(self, _: &[T]) {}

    #[inline(always)]
    fn dot_bytes(self, a: &[i8], b: &[i8]) -> i32 {
        a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn every_kernel_multiplies_bytes_exactly(values in proptest::collection::vec((-127i8.., -127i8..), LINE * 3)) {
            struct Dot<'a>(&'a [i8], &'a [i8]);
            impl Job for Dot<'_> {
                type Output = i32;
                #[inline(always)]
                fn run<K: Kernel>(self, kernel: K) -> i32 {
                    kernel.prefetch(self.1);
                    kernel.dot_bytes(self.0, self.1)
                }
            }
            let (a, b): (Vec<i8>, Vec<i8>) = values.into_iter().unzip();
            let plain: i32 = a.iter().zip(&b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum();
            for blocks in 0..=3 {
                let (a, b) = (&a[..blocks * LINE], &b[..blocks * LINE]);
                proptest::prop_assert_eq!(with_kernel(Dot(a, b)), Dot(a, b).run(Portable));
            }
            proptest::prop_assert_eq!(with_kernel(Dot(&a, &b)), plain);
        }

        #[test]
        fn dot_is_the_plain_sum(values in proptest::collection::vec((-10.0f32..10.0, -10.0f32..10.0), 0..200)) {
            let (a, b): (Vec<f32>, Vec<f32>) = values.into_iter().unzip();
            let plain: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            proptest::prop_assert!((f64::from(dot(&a, &b)) - plain).abs() < 1e-2);
        }
    }

    #[test]
    fn only_vectors_with_a_direction_are_normalised() {
        let mut vector = [3.0, 4.0];
        normalize(&mut vector, 0).unwrap();
        assert_eq!(vector, [0.6, 0.8]);
        let mut huge = [f32::MAX, 0.0];
        normalize(&mut huge, 0).unwrap();
        assert_eq!(huge, [1.0, 0.0]);
        for mut bad in [vec![], vec![0.0; 3], vec![1.0, f32::NAN], vec![f32::INFINITY]] {
            assert!(matches!(normalize(&mut bad, 7), Err(Error::BadVector { index: 7 })));
        }
    }
}
