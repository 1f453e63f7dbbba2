//! Activations quantised to 8 bits per block of 32, the left operand of the integer products.

use super::isa::Isa;

/// Values a block.
pub(crate) const BLOCK: usize = 32;

/// One row of activations: `x[i] ≈ scale[i / 32] · q[i]`, `q` in -127..=127.
#[derive(Debug, Default, Clone)]
pub(crate) struct QuantizedRow {
    pub(crate) q: Vec<i8>,
    pub(crate) scale: Vec<f32>,
    /// `scale · Σ q` of each block: what a constant offset of the weights is multiplied by.
    pub(crate) sum: Vec<f32>,
}

impl QuantizedRow {
    /// Quantises `x`, whose length is a multiple of 32. Not-finite values make their block's scale not finite, so
    /// that they reach the result instead of vanishing.
    pub(crate) fn quantize(&mut self, isa: Isa, x: &[f32]) {
        assert_eq!(x.len() % BLOCK, 0);
        self.q.clear();
        self.q.resize(x.len(), 0);
        self.scale.clear();
        self.sum.clear();
        for (x, q) in x.chunks_exact(BLOCK).zip(self.q.chunks_exact_mut(BLOCK)) {
            let x: &[f32; BLOCK] = x.try_into().expect("chunks of 32");
            let q: &mut [i8; BLOCK] = q.try_into().expect("chunks of 32");
            let (scale, sum) = match isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `Isa::Avx2` is only made where it was detected.
                Isa::Avx2 => unsafe { avx2(x, q) },
                _ => block(x, q),
            };
            self.scale.push(scale);
            self.sum.push(scale * sum as f32);
        }
    }
}

#[inline(always)]
fn block(x: &[f32; BLOCK], q: &mut [i8; BLOCK]) -> (f32, i32) {
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
    let mut sum = 0i32;
    for (x, q) in x.iter().zip(q) {
        // Adding and taking away 1.5·2²³ rounds to the nearest integer, ties to even, on any processor.
        let value = ((x * inverse + 12_582_912.0) - 12_582_912.0) as i32;
        sum += value;
        *q = value as i8;
    }
    (scale, sum)
}

/// The same code compiled for wider registers; equal bit for bit.
///
/// # Safety
/// AVX2 must be there.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2(x: &[f32; BLOCK], q: &mut [i8; BLOCK]) -> (f32, i32) {
    block(x, q)
}

#[cfg(test)]
mod tests {
    use super::super::isa::isa;
    use super::*;

    #[test]
    fn error_is_at_most_half_a_step_and_sums_agree() {
        let x: Vec<f32> = (0..96).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 91.0).collect();
        let mut row = QuantizedRow::default();
        row.quantize(isa(), &x);
        for (i, x) in x.iter().enumerate() {
            let step = row.scale[i / BLOCK];
            assert!((x - step * row.q[i] as f32).abs() <= 0.5001 * step);
        }
        for (b, sum) in row.sum.iter().enumerate() {
            let plain: f32 = row.q[b * BLOCK..][..BLOCK].iter().map(|q| *q as f32).sum();
            assert!((sum - plain * row.scale[b]).abs() < 1e-4);
        }
        let mut plain = QuantizedRow::default();
        plain.quantize(Isa::Portable, &x);
        assert_eq!((&row.q, &row.scale, &row.sum), (&plain.q, &plain.scale, &plain.sum));
    }

    #[test]
    fn zeros_and_infinities() {
        let mut row = QuantizedRow::default();
        row.quantize(isa(), &[0.0; 32]);
        assert_eq!((row.scale[0], row.sum[0]), (0.0, 0.0));
        for bad in [f32::INFINITY, f32::NAN] {
            let mut x = [1.0; 32];
            x[5] = bad;
            row.quantize(isa(), &x);
            assert!(!row.scale[0].is_finite());
        }
    }
}
