//! Exponentials of whole vocabularies.

/// Adding this rounds to an integer and leaves it in the low bits: 1.5 · 2^23.
const ROUND: f32 = 12_582_912.0;

/// ln 2 in two parts: the first has so few bits that its product with an exponent is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// `e^x` for `x` of at most 0, to about 1e-7 of its value; 0 below -87.
///
/// The standard function is a call for each value. This is a polynomial without branches, so that the compiler makes
/// vector instructions of a loop over it. It also gives the same bits on every platform.
#[inline(always)]
pub(super) fn exp_nonpositive(x: f32) -> f32 {
    let clamped = x.max(-88.0);
    // x = n ln 2 + r, |r| <= ln 2 / 2.
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    // e^r by its Taylor polynomial; the next term is below 2^-26.
    let mut p = 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    // 2^n by its bits.
    let exponent = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32) + 127;
    let power = f32::from_bits((exponent.max(0) as u32) << 23);
    if x < -87.0 { 0.0 } else { p * power }
}

/// The largest of the logits, or the position of the first one that is NaN or `+inf`.
///
/// `-inf` is allowed: it is how a token is banned.
pub(super) fn largest(logits: &[f32]) -> Result<f32, usize> {
    const LANES: usize = 16;
    let mut max = [f32::NEG_INFINITY; LANES];
    let mut bad = [false; LANES];
    let mut chunks = logits.chunks_exact(LANES);
    for chunk in &mut chunks {
        for lane in 0..LANES {
            let value = chunk[lane];
            max[lane] = if value > max[lane] { value } else { max[lane] };
            bad[lane] |= is_unusable(value);
        }
    }
    let mut top = max.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let mut any_bad = bad.contains(&true);
    for &value in chunks.remainder() {
        top = top.max(value);
        any_bad |= is_unusable(value);
    }
    if any_bad {
        return Err(logits.iter().position(|&value| is_unusable(value)).unwrap_or_default());
    }
    Ok(top)
}

#[inline(always)]
fn is_unusable(logit: f32) -> bool {
    logit.is_nan() | (logit == f32::INFINITY)
}

/// Values summed up in blocks, so that a position in the sum is found again without going through all of it.
#[derive(Debug, Default)]
pub(super) struct BlockSums {
    sums: Vec<f64>,
}

impl BlockSums {
    const BLOCK: usize = 1024;

    /// Fills `weights` with `e^(logit - max)` and returns their sum.
    pub(super) fn fill(&mut self, logits: &[f32], max: f32, weights: &mut Vec<f32>) -> f64 {
        weights.clear();
        weights.extend(logits.iter().map(|&logit| exp_nonpositive(logit - max)));
        self.sums.clear();
        self.sums.extend(weights.chunks(Self::BLOCK).map(|block| sum(block, 0.0)));
        self.sums.iter().sum()
    }

    /// The first position at which the running sum of the weights exceeds `at`; the last position with any weight if
    /// rounding lets none.
    pub(super) fn find(&self, weights: &[f32], mut at: f64) -> usize {
        for (block, &sum) in self.sums.iter().enumerate() {
            if at < sum || block + 1 == self.sums.len() {
                let start = block * Self::BLOCK;
                let block = &weights[start..weights.len().min(start + Self::BLOCK)];
                for (offset, &weight) in block.iter().enumerate() {
                    at -= f64::from(weight);
                    if at < 0.0 {
                        return start + offset;
                    }
                }
                // Rounding: the sum by lanes was larger than the sum in order.
                if let Some(offset) = block.iter().rposition(|&weight| weight > 0.0) {
                    return start + offset;
                }
            }
            at -= sum;
        }
        weights.iter().rposition(|&weight| weight > 0.0).unwrap_or_default()
    }
}

/// Sum of the values that are at least `bound`.
pub(super) fn sum_above(values: &[f32], bound: f32) -> f64 {
    values.chunks(BlockSums::BLOCK).map(|block| sum(block, bound)).sum()
}

/// Sum of the values from a bound on, with sixteen accumulators, always in the same order.
fn sum(values: &[f32], bound: f32) -> f64 {
    const LANES: usize = 16;
    let mut sums = [0f32; LANES];
    let mut chunks = values.chunks_exact(LANES);
    for chunk in &mut chunks {
        for lane in 0..LANES {
            sums[lane] += if chunk[lane] >= bound { chunk[lane] } else { 0.0 };
        }
    }
    let rest: f64 = chunks.remainder().iter().filter(|&&value| value >= bound).map(|&value| f64::from(value)).sum();
    sums.iter().map(|&value| f64::from(value)).sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_near_the_exact_ones() {
        for step in 0..870_000 {
            let x = -(step as f32) * 1e-4;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp_nonpositive(x)) - exact).abs() / exact;
            assert!(error < 2.5e-7, "e^{x}: {} for {exact}", exp_nonpositive(x));
        }
        assert_eq!(exp_nonpositive(0.0), 1.0);
        assert_eq!(exp_nonpositive(-88.0), 0.0);
        assert_eq!(exp_nonpositive(-1e30), 0.0);
        assert_eq!(exp_nonpositive(f32::NEG_INFINITY), 0.0);
    }

    #[test]
    fn the_first_unusable_logit_is_found() {
        let mut logits = vec![0.5; 50];
        logits[40] = 3.0;
        assert_eq!(largest(&logits), Ok(3.0));
        logits[3] = f32::NEG_INFINITY;
        assert_eq!(largest(&logits), Ok(3.0));
        logits[49] = f32::NAN;
        assert_eq!(largest(&logits), Err(49));
        logits[7] = f32::INFINITY;
        assert_eq!(largest(&logits), Err(7));
        assert_eq!(largest(&[]), Ok(f32::NEG_INFINITY));
    }

    #[test]
    fn positions_in_the_sum_are_found() {
        let logits: Vec<f32> = (0..3000).map(|i| ((i * 7919) % 100) as f32 * 0.1).collect();
        let mut weights = Vec::new();
        let mut blocks = BlockSums::default();
        let total = blocks.fill(&logits, 9.9, &mut weights);
        let mut running = 0.0;
        for (i, &weight) in weights.iter().enumerate() {
            assert_eq!(blocks.find(&weights, running + f64::from(weight) * 0.5), i);
            running += f64::from(weight);
        }
        assert!((running - total).abs() < 1e-3);
        assert_eq!(blocks.find(&weights, total * 2.0), 2999);
    }
}
