//! Moments of Adam in eight bits a value (Dettmers et al. 2021), block by block.
//!
//! A value is a share of its block's largest, as the square (means) or the fourth power (means of squares) of a whole number: small
//! values keep relative precision.

use super::elementwise::compiled;
use super::gradient::{AdamStep, adam};
use super::isa::{Isa, isa};

/// Values that share a largest.
pub(crate) const BLOCK: usize = 256;

/// Sums and maxima side by side, as in the other kernels.
const LANES: usize = 16;

/// The codes of up to [`BLOCK`] means and mean squares, and the largest of each.
pub(crate) struct Codes<'a> {
    pub(crate) mean: &'a mut [i8],
    pub(crate) square: &'a mut [u8],
    pub(crate) largest: &'a mut [f32; 2],
}

/// The means and mean squares of a block; what is beyond its codes is left as it is.
pub(crate) fn decode(mean: &[i8], square: &[u8], largest: [f32; 2], means: &mut [f32], squares: &mut [f32]) {
    for ((to, to_square), (mean, square)) in means.iter_mut().zip(squares).zip(mean.iter().zip(square)) {
        (*to, *to_square) = (mean_of(*mean, largest[0]), square_of(*square, largest[1]));
    }
}

/// The codes nearest to values.
///
/// # Panics
/// If these are more than a block.
pub(crate) fn encode(means: &[f32], squares: &[f32], codes: Codes<'_>) {
    let roots: Vec<f32> = squares.iter().map(|square| square.sqrt()).collect();
    encode_block(means, &roots, codes, |_| [0.0; 2]);
}

/// A step of Adam on a block: see [`adamw`](super::gradient::adamw). Codes are rounded up or down by chance in proportion to the distance, or
/// a mean that decays by a thousandth a step would never leave its number; chance is a function of `start` and the place.
///
/// # Panics
/// If the lengths differ, or are more than a block.
pub(crate) fn step(step: AdamStep, start: u32, values: &mut [f32], gradients: &mut [f32], codes: Codes<'_>) {
    step_block(isa(), step, start, values, gradients, codes);
}

compiled! {
    fn step_block<FMA>(isa, step: AdamStep, start: u32, values: &mut [f32], gradients: &mut [f32], codes: Codes<'_>) {
        let n = values.len();
        let (mut means, mut roots) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
        let (means, roots) = (&mut means[..n], &mut roots[..n]);
        let (mean, square, largest) = (&codes.mean[..n], &codes.square[..n], *codes.largest);
        let gradients = &mut gradients[..n];
        for i in 0..n {
            let moments = [mean_of(mean[i], largest[0]), square_of(square[i], largest[1])];
            (values[i], means[i], roots[i]) = {
                let (value, [mean, _], root) = adam::<FMA>(step, values[i], gradients[i], moments);
                (value, mean, root)
            };
        }
        gradients.fill(0.0);
        encode_block(means, roots, codes, |at| chances(start, at));
    }
}

#[inline(always)]
fn mean_of(code: i8, largest: f32) -> f32 {
    let share = f32::from(code) * (1.0 / 127.0);
    share * share.abs() * largest
}

#[inline(always)]
fn square_of(code: u8, largest: f32) -> f32 {
    let share = f32::from(code) * (1.0 / 255.0);
    share * share * (share * share) * largest
}

/// `chance(at)` is what is added to the code of a mean and of a mean square before they become the nearest whole numbers: from -1/2 to 1/2.
#[inline(always)]
fn encode_block(means: &[f32], roots: &[f32], codes: Codes<'_>, chance: impl Fn(u32) -> [f32; 2]) {
    let n = means.len();
    let (mean, square, roots) = (&mut codes.mean[..n], &mut codes.square[..n], &roots[..n]);
    let top = [largest(means), largest(roots)];
    *codes.largest = [top[0], top[1] * top[1]];
    let scale = top.map(|top| if top > 0.0 { 1.0 / top } else { 0.0 });
    for i in 0..n {
        let [first, second] = chance(i as u32);
        let code = nearest((root(means[i].abs() * scale[0]) * 127.0 + first).min(127.0));
        mean[i] = (if means[i] < 0.0 { -code } else { code }) as i8;
        square[i] = nearest((root(roots[i] * scale[1]) * 255.0 + second).min(255.0)) as u8;
    }
}

/// The largest absolute value.
#[inline(always)]
fn largest(values: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for values in whole {
        lanes.iter_mut().zip(values).for_each(|(lane, value)| *lane = value.abs().max(*lane));
    }
    rest.iter().chain(&lanes).fold(0.0, |top: f32, value| value.abs().max(top))
}

/// A square root to one part in 200,000, in a quarter of the time of an exact one: the exponent's half as a first guess, and two steps of
/// Newton's.
#[inline(always)]
fn root(x: f32) -> f32 {
    let mut inverse = f32::from_bits(0x5f37_5a86 - (x.to_bits() >> 1));
    for _ in 0..2 {
        inverse *= 1.5 - 0.5 * x * inverse * inverse;
    }
    x * inverse
}

/// The whole number nearest to one of a code's size: a float as large as this has no digits behind the point. A cast would be one instruction
/// for each lane, because of numbers that do not fit.
#[inline(always)]
fn nearest(x: f32) -> i32 {
    const WHOLE: f32 = 8_388_608.0;
    ((x + WHOLE).to_bits() & 0xff) as i32
}

/// Two numbers from -1/2 to 1/2, from a hash (the finaliser of MurmurHash3).
#[inline(always)]
fn chances(start: u32, at: u32) -> [f32; 2] {
    let mut hash = start.wrapping_add(at.wrapping_mul(0x9e37_79b9));
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^= hash >> 16;
    [hash >> 16, hash & 0xffff].map(|half| half as i32 as f32 / 65536.0 - 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_near_enough_for_a_code() {
        assert_eq!(root(0.0), 0.0);
        for i in 1..=100_000 {
            let x = (i as f32 / 100_000.0).powi(4);
            assert!((root(x) - x.sqrt()).abs() <= 6e-6 * x.sqrt(), "{x}");
        }
    }
}
