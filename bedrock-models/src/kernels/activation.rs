//! Activations quantised per block of 32 to 8 or 16 bits, the left operand of the integer products.

use std::sync::{Mutex, PoisonError};

use super::isa::Isa;
use super::pool::Pool;

/// Values a block.
pub(crate) const BLOCK: usize = 32;

/// 32 activations: `x[i] ≈ scale · q[i]` or, with two bytes each ([`Isa::planes`]), `x[i] ≈ scale · (256 q[i] + low[i])`; `q` in -127..=127.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub(crate) struct Block {
    pub(crate) q: [i8; BLOCK],
    pub(crate) low: [i8; BLOCK],
    pub(crate) scale: f32,
    /// `scale` times the sum of the integers: what a constant offset of the weights is multiplied by.
    pub(crate) sum: f32,
    /// The same of each half, for weights whose offset changes there.
    pub(crate) half_sums: [f32; 2],
}

/// Rows of activations, quantised block by block.
#[derive(Debug)]
pub(crate) struct QuantizedRows {
    columns: usize,
    blocks: Vec<Block>,
}

/// Blocks below which the calling thread quantises alone.
const ALONE: usize = 256;

impl QuantizedRows {
    /// Quantises rows of `columns` values, a multiple of 32. Not-finite values make their block's scale not finite, so that
    /// they reach the result instead of vanishing.
    pub(crate) fn new(pool: &Pool, isa: Isa, x: &[f32], columns: usize) -> Self {
        assert!(columns > 0 && columns.is_multiple_of(BLOCK) && x.len().is_multiple_of(columns));
        let x = x.as_chunks::<BLOCK>().0;
        if x.len() < ALONE {
            return Self { columns, blocks: x.iter().map(|x| Block::new(isa, x)).collect() };
        }
        let mut blocks = Vec::with_capacity(x.len());
        let size = x.len().div_ceil(4 * pool.threads());
        // Each lock is taken once, by the thread that has the part.
        let parts: Vec<_> = blocks.spare_capacity_mut()[..x.len()].chunks_mut(size).map(Mutex::new).collect();
        pool.run(parts.len(), &|index| {
            let mut part = parts[index].lock().unwrap_or_else(PoisonError::into_inner);
            part.iter_mut().zip(&x[index * size..]).for_each(|(block, x)| {
                block.write(Block::new(isa, x));
            });
        });
        drop(parts);
        // SAFETY: the parts cover the first `x.len()` blocks, and each was written.
        unsafe { blocks.set_len(x.len()) };
        Self { columns, blocks }
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn rows(&self) -> usize {
        self.blocks.len() * BLOCK / self.columns
    }

    /// The blocks of a row.
    pub(crate) fn row(&self, row: usize) -> &[Block] {
        &self.from(row)[..self.columns / BLOCK]
    }

    /// The blocks of a row and of those after it.
    pub(crate) fn from(&self, row: usize) -> &[Block] {
        &self.blocks[row * (self.columns / BLOCK)..]
    }
}

impl Block {
    /// The integer of an activation.
    pub(crate) fn integer(&self, isa: Isa, i: usize) -> i32 {
        match isa.planes() {
            2 => 256 * i32::from(self.q[i]) + i32::from(self.low[i]),
            _ => i32::from(self.q[i]),
        }
    }

    fn new(isa: Isa, x: &[f32; BLOCK]) -> Self {
        match isa {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: such an `Isa` is only made where AVX2 was detected.
            _ if isa.avx2() => unsafe { avx2(isa.planes(), x) },
            _ => block(isa.planes(), x),
        }
    }
}

const ROUND: f32 = 12_582_912.0;

#[inline(always)]
fn block(planes: usize, x: &[f32; BLOCK]) -> Block {
    let mut largest = [0.0f32; 8];
    let mut odd = [0.0f32; 8];
    for x in x.as_chunks::<8>().0 {
        for ((largest, odd), x) in largest.iter_mut().zip(&mut odd).zip(x) {
            let size = x.abs();
            *largest = if size > *largest { size } else { *largest };
            // Zero for a finite value, NaN otherwise.
            *odd += x * 0.0;
        }
    }
    let largest = largest.iter().fold(0.0f32, |a, b| a.max(*b));
    let range = if planes == 2 { 127.0 * 256.0 } else { 127.0 };
    let scale = largest / range + odd.iter().sum::<f32>();
    let inverse = if largest > 0.0 { range / largest } else { 0.0 };
    let (mut q, mut low) = ([0i8; BLOCK], [0i8; BLOCK]);
    let mut sums = [0i32; 2];
    let bytes = q.as_chunks_mut::<16>().0.iter_mut().zip(low.as_chunks_mut::<16>().0);
    for ((x, (q, low)), sum) in x.as_chunks::<16>().0.iter().zip(bytes).zip(&mut sums) {
        for ((x, q), low) in x.iter().zip(q).zip(low) {
            // Adding 1.5·2²³ rounds to the nearest integer, ties to even, on any processor, and leaves it in the last bits.
            let value = (x * inverse + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i32;
            *sum = sum.wrapping_add(value);
            if planes == 2 {
                // The nearest multiple of 256, and what is left: -128..=127.
                *q = ((value + 128) >> 8) as i8;
                *low = value as i8;
            } else {
                *q = value as i8;
            }
        }
    }
    let sum = scale * sums[0].wrapping_add(sums[1]) as f32;
    Block { q, low, scale, sum, half_sums: sums.map(|sum| scale * sum as f32) }
}

/// The same code compiled for wider registers; equal bit for bit.
///
/// # Safety
/// AVX2 must be there.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2(planes: usize, x: &[f32; BLOCK]) -> Block {
    block(planes, x)
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
            assert_eq!(rows.rows(), 300);
            for (block, x) in (0..300).flat_map(|r| rows.row(r)).zip(x.as_chunks::<BLOCK>().0) {
                let integers: [i32; BLOCK] = std::array::from_fn(|i| block.integer(isa, i));
                for (x, integer) in x.iter().zip(integers) {
                    assert!((x - block.scale * integer as f32).abs() <= 0.5001 * block.scale, "{isa:?} {x} {integer}");
                }
                for (sum, integers) in block.half_sums.iter().zip(integers.as_chunks::<16>().0) {
                    let want = integers.iter().sum::<i32>() as f32 * block.scale;
                    assert!((sum - want).abs() < 1e-4);
                }
                assert!((block.sum - block.half_sums[0] - block.half_sums[1]).abs() < 1e-4);
            }
            if isa.planes() == 1 {
                assert_eq!(rows.blocks, plain.blocks);
            }
        }
    }

    #[test]
    fn zeros_and_infinities() {
        let pool = Pool::new(1);
        let zeros = QuantizedRows::new(&pool, isa(), &[0.0; 32], 32).row(0)[0];
        assert_eq!((zeros.scale, zeros.sum), (0.0, 0.0));
        for bad in [f32::INFINITY, f32::NAN] {
            let mut x = [1.0; 32];
            x[5] = bad;
            assert!(!QuantizedRows::new(&pool, isa(), &x, 32).row(0)[0].scale.is_finite());
        }
    }
}
