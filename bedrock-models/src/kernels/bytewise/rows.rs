//! Activations in blocks of 32 bytes, whose steps are quarters of powers of two.

use std::sync::{Mutex, PoisonError};

use super::BLOCK;
use crate::kernels::activation::apart;
use crate::kernels::isa::Isa;
use crate::kernels::panels::Line;
use crate::kernels::pool::Pool;
use crate::kernels::quarters::{Record, Step, quantize};
use crate::kernels::scratch::Room;

/// 32 activations: `x[i] ≈ 2^exponent · STEPS[step / 64] · q[i]`, `q` in -127..=127.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(16))]
pub(super) struct Block {
    pub(super) q: [i8; BLOCK],
    /// A whole number; not a number where an activation is not finite.
    pub(super) exponent: f32,
    /// Which step: bytes of the lines before the scales of weights that are multiplied by it.
    pub(super) step: u32,
    /// -128 times the sum of the integers: what takes back that 128 is added to weights.
    pub(super) start: i32,
}

impl Record for Block {
    const HALVES: bool = false;

    fn bytes(&mut self) -> &mut [i8; BLOCK] {
        &mut self.q
    }

    fn finish(&mut self, step: Step, [all, _]: [i32; 2]) {
        (self.exponent, self.step, self.start) = (step.power, step.quarter * size_of::<Line>() as u32, -128 * all);
    }
}

/// Rows of activations, quantised block by block.
pub(super) struct Rows<'a> {
    blocks: usize,
    rows: usize,
    /// Blocks from a row to the next.
    stride: usize,
    /// `[row][block]`, `stride` blocks a row.
    room: Room<'a>,
}

/// Blocks below which the calling thread quantises alone.
const ALONE: usize = 256;

impl<'a> Rows<'a> {
    /// Quantises rows of `columns` values, a multiple of 32. Values that are not finite make their block's exponent no number, so that they reach the result.
    ///
    /// # Panics
    /// If `x` is not whole rows, or there are no such products.
    pub(super) fn new(pool: &'a Pool, isa: Isa, x: &[f32], columns: usize) -> Self {
        assert!(columns > 0 && columns.is_multiple_of(BLOCK) && x.len().is_multiple_of(columns) && super::is_here(isa));
        let (blocks, rows) = (columns / BLOCK, x.len() / columns);
        let stride = if rows > 1 { apart(blocks, size_of::<Block>()) } else { blocks };
        let mut room = pool.scratch.lines((rows * stride * size_of::<Block>()).div_ceil(size_of::<Line>()));
        // SAFETY: a line is aligned more strictly than a block, the room has as many bytes, and any bytes that were written once are blocks.
        let all = unsafe { std::slice::from_raw_parts_mut(room.as_mut_ptr().cast::<Block>(), rows * stride) };
        let quantize = |x: &[f32], to: &mut [Block]| {
            // Rows without a gap are one long row.
            let (run, place) = if stride == blocks { (x.len(), to.len()) } else { (columns, stride) };
            for (x, to) in x.chunks_exact(run).zip(to.chunks_exact_mut(place)) {
                // SAFETY: AVX-512 was detected where its `Isa` was made.
                unsafe { quantize(x, to) };
            }
        };
        if rows * blocks < ALONE {
            quantize(x, all);
        } else {
            let some = rows.div_ceil(4 * pool.threads());
            // Each lock is taken once, by the thread that has the part.
            let parts: Vec<_> = all.chunks_mut(some * stride).map(Mutex::new).collect();
            pool.run(parts.len(), &|part| {
                let mut to = parts[part].lock().unwrap_or_else(PoisonError::into_inner);
                quantize(&x[part * some * columns..][..to.len() / stride * columns], &mut to);
            });
        }
        Self { blocks, rows, stride, room }
    }

    /// Blocks of a row.
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Blocks from a row to the next.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Where a block of a row lies: after it the others.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn at(&self, row: usize, block: usize) -> *const Block {
        assert!(row < self.rows && block < self.blocks);
        self.room.as_ptr().cast::<Block>().wrapping_add(row * self.stride + block)
    }

    #[cfg(test)]
    pub(super) fn row(&self, row: usize) -> &[Block] {
        // SAFETY: a row has so many blocks, which were written.
        unsafe { std::slice::from_raw_parts(self.at(row, 0), self.blocks) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::isa::isa;
    use crate::kernels::quarters::{NOTHING, STEPS};

    /// A block, by the definition.
    fn plain(x: &[f32]) -> Block {
        let largest = x.iter().fold(0.0f32, |a, b| a.max(b.abs()));
        let steps = (-140i32..=128).flat_map(|exponent| (0..STEPS.len()).map(move |step| (exponent, step)));
        let size = |(exponent, step): (i32, usize)| 2f64.powi(exponent) * f64::from(STEPS[step]);
        let found = steps.clone().find(|step| f64::from(largest * (1.0 / 127.0)) <= size(*step));
        let (exponent, step) = if largest > NOTHING { found.unwrap() } else { (0, 0) };
        let inverse = if largest > NOTHING { 1.0 / STEPS[step] * 2f32.powi(-exponent) } else { 0.0 };
        let mut q = [0; BLOCK];
        q.iter_mut().zip(x).for_each(|(q, x)| *q = (x * inverse).round_ties_even() as i8);
        let start = -128 * q.iter().map(|q| i32::from(*q)).sum::<i32>();
        Block { q, exponent: exponent as f32, step: 64 * step as u32, start }
    }

    #[test]
    fn blocks_are_those_of_the_definition() {
        if !super::super::is_here(isa()) {
            return; // Nothing makes such blocks here.
        }
        // Sizes from zero up, powers of two, and halves of a step.
        let value = |i: usize| {
            let size = [1.0, 1e-3, 0.25, 127.0, 1.0, 0.0, 300.0, 1e-33, 0.7, 107.5, 1e30, 3e-29][i / BLOCK % 12];
            size * if i.is_multiple_of(BLOCK) { 1.0 } else { ((i * 7919 % 1009) as f32 - 504.0) / 508.0 }
        };
        for columns in [32, 64, 96, 512, 544, 608, 1120, 2720] {
            for (rows, threads) in [(1, 1), (40, 3)] {
                let mut x: Vec<f32> = (0..rows * columns).map(value).collect();
                let pool = Pool::new(threads);
                let blocks = Rows::new(&pool, isa(), &x, columns);
                for (row, x) in x.chunks_exact(columns).enumerate() {
                    for (block, x) in blocks.row(row).iter().zip(x.chunks(BLOCK)) {
                        assert_eq!(*block, plain(x), "{columns} {row}");
                        let step = block.exponent.exp2() * STEPS[block.step as usize / 64];
                        for (q, x) in block.q.iter().zip(x) {
                            assert!((f32::from(*q) * step - x).abs() <= 0.5001 * step);
                        }
                    }
                }
                drop(blocks);
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    x[rows * columns - 1] = bad;
                    let blocks = Rows::new(&pool, isa(), &x, columns);
                    let last = blocks.row(rows - 1);
                    assert!(last[last.len() - 1].exponent.is_nan());
                    assert!(last[..last.len() - 1].iter().all(|block| block.exponent.is_finite()));
                }
            }
        }
    }
}
