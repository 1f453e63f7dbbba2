//! Activations quantised to 8 bits per block of 32, the left operand of the integer products.

use std::sync::{Mutex, PoisonError};

use super::isa::Isa;
use super::pool::Pool;

/// Values a block.
pub(crate) const BLOCK: usize = 32;

/// Rows of activations: `x[i] ≈ scale[i / 32] · q[i]`, `q` in -127..=127.
#[derive(Debug)]
pub(crate) struct QuantizedRows {
    columns: usize,
    q: Vec<i8>,
    scale: Vec<f32>,
    /// `scale · Σ q` of each block: what a constant offset of the weights is multiplied by.
    sum: Vec<f32>,
    /// The same of each half of a block, for weights whose offset changes there.
    half_sums: Vec<f32>,
}

/// Values below which the calling thread quantises alone.
const ALONE: usize = 8 * 1024;

impl QuantizedRows {
    /// Quantises rows of `columns` values, a multiple of 32. Not-finite values make their block's scale not finite, so that
    /// they reach the result instead of vanishing.
    pub(crate) fn new(pool: &Pool, isa: Isa, x: &[f32], columns: usize) -> Self {
        assert!(columns > 0 && columns.is_multiple_of(BLOCK) && x.len().is_multiple_of(columns));
        let blocks = x.len() / BLOCK;
        let mut rows = Self {
            columns,
            q: vec![0; x.len()],
            scale: vec![0.0; blocks],
            sum: vec![0.0; blocks],
            half_sums: vec![0.0; 2 * blocks],
        };
        let size = if x.len() < ALONE { blocks } else { blocks.div_ceil(4 * pool.threads()) };
        let parts: Vec<_> = x
            .chunks(size * BLOCK)
            .zip(rows.q.chunks_mut(size * BLOCK))
            .zip(rows.scale.chunks_mut(size).zip(rows.sum.chunks_mut(size)).zip(rows.half_sums.chunks_mut(2 * size)))
            // Each lock is taken once, by the thread that has the part.
            .map(|part| Mutex::new(Some(part)))
            .collect();
        pool.run(parts.len(), &|index| {
            let part = parts[index].lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(((x, q), ((scale, sum), half_sums))) = part else { return };
            let blocks = x.as_chunks::<BLOCK>().0.iter().zip(q.as_chunks_mut::<BLOCK>().0);
            let scales = scale.iter_mut().zip(sum).zip(half_sums.as_chunks_mut::<2>().0);
            for ((x, q), ((scale, sum), half_sums)) in blocks.zip(scales) {
                let (step, sums) = match isa {
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: such an `Isa` is only made where AVX2 was detected.
                    _ if isa.avx2() => unsafe { avx2(x, q) },
                    _ => block(x, q),
                };
                *scale = step;
                *sum = step * (sums[0] + sums[1]) as f32;
                *half_sums = sums.map(|sum| step * sum as f32);
            }
        });
        rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn rows(&self) -> usize {
        self.q.len() / self.columns
    }

    /// The quantised values of a row.
    pub(crate) fn q(&self, row: usize) -> &[i8] {
        &self.q[row * self.columns..][..self.columns]
    }

    /// The scale of each block of a row.
    pub(crate) fn scale(&self, row: usize) -> &[f32] {
        &self.scale[row * self.columns / BLOCK..][..self.columns / BLOCK]
    }

    /// `scale · Σ q` of each block of a row.
    pub(crate) fn sum(&self, row: usize) -> &[f32] {
        &self.sum[row * self.columns / BLOCK..][..self.columns / BLOCK]
    }

    /// `scale · Σ q` of each half of each block of a row.
    pub(crate) fn half_sums(&self, row: usize) -> &[f32] {
        &self.half_sums[2 * row * self.columns / BLOCK..][..2 * self.columns / BLOCK]
    }
}

/// Scale and the sums of both halves.
#[inline(always)]
fn block(x: &[f32; BLOCK], q: &mut [i8; BLOCK]) -> (f32, [i32; 2]) {
    let mut largest = [0.0f32; 8];
    let mut odd = 0.0f32;
    for x in x.chunks_exact(8) {
        for (largest, x) in largest.iter_mut().zip(x) {
            let size = x.abs();
            *largest = if size > *largest { size } else { *largest };
        }
    }
    for x in x {
        // Zero for a finite value, NaN otherwise.
        odd += x * 0.0;
    }
    let largest = largest.iter().fold(0.0f32, |a, b| a.max(*b));
    let scale = largest / 127.0 + odd;
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    let mut sums = [0i32; 2];
    for ((x, q), sum) in x.as_chunks::<16>().0.iter().zip(q.as_chunks_mut::<16>().0).zip(&mut sums) {
        for (x, q) in x.iter().zip(q) {
            // Adding and taking away 1.5·2²³ rounds to the nearest integer, ties to even, on any processor.
            let value = ((x * inverse + 12_582_912.0) - 12_582_912.0) as i32;
            *sum += value;
            *q = value as i8;
        }
    }
    (scale, sums)
}

/// The same code compiled for wider registers; equal bit for bit.
///
/// # Safety
/// AVX2 must be there.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2(x: &[f32; BLOCK], q: &mut [i8; BLOCK]) -> (f32, [i32; 2]) {
    block(x, q)
}

#[cfg(test)]
mod tests {
    use super::super::isa::isa;
    use super::*;

    #[test]
    fn error_is_at_most_half_a_step_and_sums_agree() {
        let x: Vec<f32> = (0..96 * 300).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 91.0).collect();
        let plain = QuantizedRows::new(&Pool::new(1), Isa::Portable, &x, 96);
        for isa in Isa::here() {
            let rows = QuantizedRows::new(&Pool::new(3), isa, &x, 96);
            for r in 0..300 {
                for (i, x) in x[r * 96..][..96].iter().enumerate() {
                    let step = rows.scale(r)[i / BLOCK];
                    assert!((x - step * f32::from(rows.q(r)[i])).abs() <= 0.5001 * step);
                }
                for (h, sum) in rows.half_sums(r).iter().enumerate() {
                    let want: f32 = rows.q(r)[h * 16..][..16].iter().map(|q| f32::from(*q)).sum();
                    assert!((sum - want * rows.scale(r)[h / 2]).abs() < 1e-4);
                }
                for (sum, halves) in rows.sum(r).iter().zip(rows.half_sums(r).chunks_exact(2)) {
                    assert!((sum - halves[0] - halves[1]).abs() < 1e-4);
                }
            }
            assert_eq!((&rows.q, &rows.scale, &rows.sum), (&plain.q, &plain.scale, &plain.sum));
        }
    }

    #[test]
    fn zeros_and_infinities() {
        let pool = Pool::new(1);
        let rows = QuantizedRows::new(&pool, isa(), &[0.0; 32], 32);
        assert_eq!((rows.scale(0)[0], rows.sum(0)[0]), (0.0, 0.0));
        for bad in [f32::INFINITY, f32::NAN] {
            let mut x = [1.0; 32];
            x[5] = bad;
            assert!(!QuantizedRows::new(&pool, isa(), &x, 32).scale(0)[0].is_finite());
        }
    }
}
