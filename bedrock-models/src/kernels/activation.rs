//! Activations quantised per block of 32 to 8 or 16 bits, the left operand of the integer products.

use std::sync::{Mutex, PoisonError};

use super::isa::Isa;
use super::panels::Line;
use super::pool::Pool;
use super::scratch::Room;

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
pub(crate) struct QuantizedRows<'a> {
    columns: usize,
    rows: usize,
    /// Blocks, one after another.
    room: Room<'a>,
}

/// Blocks below which the calling thread quantises alone.
const ALONE: usize = 256;

impl<'a> QuantizedRows<'a> {
    /// Quantises rows of `columns` values, a multiple of 32. Not-finite values make their block's scale not finite, so that
    /// they reach the result instead of vanishing.
    pub(crate) fn new(pool: &'a Pool, isa: Isa, x: &[f32], columns: usize) -> Self {
        assert!(columns > 0 && columns.is_multiple_of(BLOCK) && x.len().is_multiple_of(columns));
        let rows = x.len() / columns;
        let x = x.as_chunks::<BLOCK>().0;
        let mut room = pool.scratch.lines((x.len() * size_of::<Block>()).div_ceil(size_of::<Line>()));
        let blocks = room.as_mut_ptr().cast::<Block>();
        // SAFETY: a line is aligned more strictly than a block, the room has as many bytes, and any bytes that were written once are a block.
        let blocks = unsafe { std::slice::from_raw_parts_mut(blocks, x.len()) };
        if x.len() < ALONE {
            blocks.iter_mut().zip(x).for_each(|(block, x)| *block = Block::new(isa, x));
            return Self { columns, rows, room };
        }
        let size = x.len().div_ceil(4 * pool.threads());
        // Each lock is taken once, by the thread that has the part.
        let parts: Vec<_> = blocks.chunks_mut(size).map(Mutex::new).collect();
        pool.run(parts.len(), &|index| {
            let mut part = parts[index].lock().unwrap_or_else(PoisonError::into_inner);
            part.iter_mut().zip(&x[index * size..]).for_each(|(block, x)| *block = Block::new(isa, x));
        });
        drop(parts);
        Self { columns, rows, room }
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The blocks of a row.
    pub(crate) fn row(&self, row: usize) -> &[Block] {
        &self.from(row)[..self.columns / BLOCK]
    }

    /// The blocks of a row and of those after it.
    pub(crate) fn from(&self, row: usize) -> &[Block] {
        let width = self.columns / BLOCK;
        // SAFETY: as in `new`, which wrote all of them.
        let blocks = unsafe { std::slice::from_raw_parts(self.room.as_ptr().cast::<Block>(), self.rows * width) };
        &blocks[row * width..]
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
            // SAFETY: such an `Isa` is only made where AVX-512 was detected.
            Isa::Avx512 => unsafe { avx512(x) },
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

/// [`block`] of two planes in two registers; equal bit for bit, but for what a block with numbers that are not finite holds beside its scale.
///
/// # Safety
/// AVX-512 F must be there.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512(x: &[f32; BLOCK]) -> Block {
    use std::arch::x86_64::*;
    // SAFETY: two halves of 16 floats.
    let x = unsafe { [_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(BLOCK / 2))] };
    let sizes = x.map(|x| _mm512_abs_ps(x));
    let odd = x.map(|x| _mm512_mul_ps(x, _mm512_setzero_ps()));
    // A number that is none leaves the other operand as the largest.
    let largest = _mm512_reduce_max_ps(_mm512_max_ps(sizes[0], _mm512_max_ps(sizes[1], _mm512_setzero_ps())));
    let finite = _mm512_cmpeq_ps_mask(_mm512_add_ps(odd[0], odd[1]), _mm512_setzero_ps()) == u16::MAX;
    let range = 127.0 * 256.0;
    let scale = if finite { largest / range } else { f32::NAN };
    let inverse = _mm512_set1_ps(if largest > 0.0 { range / largest } else { 0.0 });
    let (mut q, mut low) = ([0i8; BLOCK], [0i8; BLOCK]);
    let mut sums = [0i32; 2];
    for (half, x) in x.into_iter().enumerate() {
        // To the nearest, ties to even.
        let values = _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse));
        sums[half] = _mm512_reduce_add_epi32(values);
        let high = _mm512_srai_epi32::<8>(_mm512_add_epi32(values, _mm512_set1_epi32(128)));
        // SAFETY: 16 bytes of each half.
        unsafe {
            _mm_storeu_si128(q.as_mut_ptr().add(16 * half).cast(), _mm512_cvtepi32_epi8(high));
            _mm_storeu_si128(low.as_mut_ptr().add(16 * half).cast(), _mm512_cvtepi32_epi8(values));
        }
    }
    let sum = scale * sums[0].wrapping_add(sums[1]) as f32;
    Block { q, low, scale, sum, half_sums: sums.map(|sum| scale * sum as f32) }
}

#[cfg(test)]
mod tests {
    use super::super::isa::isa;
    use super::*;

    #[test]
    fn error_is_at_most_half_a_step_and_sums_agree() {
        let x: Vec<f32> = (0..96 * 300).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 91.0).collect();
        let alone = Pool::new(1);
        let plain = QuantizedRows::new(&alone, Isa::Portable, &x, 96);
        for isa in Isa::here() {
            let pool = Pool::new(3);
            let rows = QuantizedRows::new(&pool, isa, &x, 96);
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
                assert_eq!(rows.from(0), plain.from(0));
            }
        }
    }

    #[test]
    fn wider_registers_change_nothing() {
        for isa in Isa::here() {
            let numbers = |i: usize| ((i * 7919 % 1009) as f32 - 504.0) * (i as f32 * 0.37).sin().powi(9);
            for x in (0..200).map(|b| std::array::from_fn(|i| numbers(32 * b + i))) {
                assert_eq!(Block::new(isa, &x), block(isa.planes(), &x), "{isa:?}");
            }
            // Halves of a step go to the even number.
            let ties: [f32; BLOCK] = std::array::from_fn(|i| if i == 0 { 32_512.0 } else { i as f32 - 16.5 });
            assert_eq!(Block::new(isa, &ties), block(isa.planes(), &ties), "{isa:?}");
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
