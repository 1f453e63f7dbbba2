//! The inner loop: dot products with the widest instructions of the processor at hand.

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
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
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

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
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
