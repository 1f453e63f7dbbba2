//! Moments in eight bits a value: see [`moments`].

use std::sync::{Mutex, PoisonError};

use crate::kernels::Pool;
use crate::kernels::gradient::AdamStep;
use crate::kernels::moments::{self, BLOCK, Codes};

/// Values that a thread is handed at a time.
const CHUNK: usize = 32 * BLOCK;

/// Running means of a parameter's gradients and of their squares.
pub(super) struct Compact {
    mean: Vec<i8>,
    square: Vec<u8>,
    /// The largest mean and the largest mean square of each block.
    largest: Vec<[f32; 2]>,
}

/// A part of everything that a step changes.
struct Part<'a> {
    values: &'a mut [f32],
    gradients: &'a mut [f32],
    mean: &'a mut [i8],
    square: &'a mut [u8],
    largest: &'a mut [[f32; 2]],
}

impl Compact {
    /// The nearest to these values, as many of both.
    pub(super) fn new(mean: &[f32], square: &[f32]) -> Self {
        let mut new = Self {
            mean: vec![0; mean.len()],
            square: vec![0; mean.len()],
            largest: vec![[0.0; 2]; mean.len().div_ceil(BLOCK)],
        };
        let values = mean.chunks(BLOCK).zip(square.chunks(BLOCK));
        values.zip(codes(&mut new.mean, &mut new.square, &mut new.largest)).for_each(|((mean, square), codes)| {
            moments::encode(mean, square, codes);
        });
        new
    }

    /// Means and mean squares.
    pub(super) fn values(&self) -> [Vec<f32>; 2] {
        let (mut means, mut squares) = (vec![0.0; self.mean.len()], vec![0.0; self.mean.len()]);
        let values = means.chunks_mut(BLOCK).zip(squares.chunks_mut(BLOCK));
        let codes = self.mean.chunks(BLOCK).zip(self.square.chunks(BLOCK)).zip(&self.largest);
        for ((means, squares), ((mean, square), largest)) in values.zip(codes) {
            moments::decode(mean, square, *largest, means, squares);
        }
        [means, squares]
    }

    /// See [`adamw`](crate::kernels::gradient::adamw); `number` is the step's.
    pub(super) fn step(&mut self, pool: &Pool, step: AdamStep, number: u64, values: &mut [f32], gradients: &mut [f32]) {
        assert!(values.len() == self.mean.len() && gradients.len() == values.len());
        let parts = values.chunks_mut(CHUNK).zip(gradients.chunks_mut(CHUNK));
        let codes_of = self.mean.chunks_mut(CHUNK).zip(self.square.chunks_mut(CHUNK));
        let largest = self.largest.chunks_mut(CHUNK / BLOCK);
        let parts: Vec<_> = parts
            .zip(codes_of)
            .zip(largest)
            .map(|(((values, gradients), (mean, square)), largest)| {
                Mutex::new(Some(Part { values, gradients, mean, square, largest }))
            })
            .collect();
        pool.run(parts.len(), &|index| {
            let part = parts[index].lock().unwrap_or_else(PoisonError::into_inner).take();
            let Part { values, gradients, mean, square, largest } = part.expect("a part is handed out once");
            let start = (number as u32).wrapping_mul(0x9e37_79b9) ^ (index as u32).wrapping_mul(0x85eb_ca6b);
            let blocks = values.chunks_mut(BLOCK).zip(gradients.chunks_mut(BLOCK));
            for (block, ((values, gradients), codes)) in blocks.zip(codes(mean, square, largest)).enumerate() {
                // So that each place of the part has a chance of its own.
                let start = start.wrapping_add(((block * BLOCK) as u32).wrapping_mul(0x9e37_79b9));
                moments::step(step, start, values, gradients, codes);
            }
        });
    }
}

/// The codes of each block.
fn codes<'a>(mean: &'a mut [i8], square: &'a mut [u8], largest: &'a mut [[f32; 2]]) -> impl Iterator<Item = Codes<'a>> {
    let codes = mean.chunks_mut(BLOCK).zip(square.chunks_mut(BLOCK)).zip(largest);
    codes.map(|((mean, square), largest)| Codes { mean, square, largest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(len: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 37 % 101) as f32 / 50.0 - 1.0).powi(3)).collect()
    }

    #[test]
    fn what_was_stored_is_stored_the_same_again() {
        let mean = numbers(700);
        let square: Vec<f32> = mean.iter().map(|value| value * value).collect();
        let once = Compact::new(&mean, &square);
        let [means, squares] = once.values();
        for (got, want) in means.iter().zip(&mean) {
            assert!((got - want).abs() <= 0.005 + 0.05 * want.abs(), "{got} {want}");
        }
        for (got, want) in squares.iter().zip(&square) {
            assert!((got - want).abs() <= 1e-4 + 0.05 * want, "{got} {want}");
        }
        let again = Compact::new(&means, &squares);
        assert!(again.mean == once.mean && again.square == once.square && again.largest == once.largest);
    }

    /// Over many steps a mean square that decays by a thousandth a step follows, which rounding to the nearest would not.
    #[test]
    fn small_changes_are_not_lost() {
        let pool = Pool::new(2);
        let len = 2 * CHUNK + 100;
        let step = AdamStep { size: 0.0, keep: 1.0, root: 1.0, betas: [0.9, 0.999], eps: 1e-8, scale: 1.0 };
        let mut moments = Compact::new(&vec![0.0; len], &vec![1.0; len]);
        let mut values = vec![1.0; len];
        for number in 1..=300 {
            // One value a block holds the largest where it is.
            let mut gradients: Vec<f32> = (0..len).map(|i| if i % BLOCK == 0 { 1.0 } else { 0.0 }).collect();
            moments.step(&pool, step, number, &mut values, &mut gradients);
            assert!(gradients.iter().all(|gradient| *gradient == 0.0));
        }
        let [_, squares] = moments.values();
        let rest: Vec<f32> = squares.iter().enumerate().filter(|(i, _)| i % BLOCK != 0).map(|(_, s)| *s).collect();
        let mean = rest.iter().sum::<f32>() / rest.len() as f32;
        assert!((mean - 0.999f32.powi(300)).abs() < 0.03, "{mean}");
        assert!(values.iter().all(|value| *value == 1.0));
    }

    #[test]
    fn the_numbers_do_not_depend_on_the_threads() {
        let run = |threads| {
            let pool = Pool::new(threads);
            let len = 3 * CHUNK + 7;
            let step = AdamStep { size: 0.1, keep: 0.9, root: 0.5, betas: [0.9, 0.999], eps: 1e-8, scale: 0.5 };
            let (mut moments, mut values) = (Compact::new(&vec![0.0; len], &vec![0.0; len]), numbers(len));
            (1..4).for_each(|number| moments.step(&pool, step, number, &mut values, &mut numbers(len)));
            (values, moments.values())
        };
        assert_eq!(run(1), run(3));
    }
}
