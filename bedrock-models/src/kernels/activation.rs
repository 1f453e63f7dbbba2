//! Activations quantised per block of 32 to 8 or 16 bits, the left operand of the integer products.

use std::sync::{Mutex, PoisonError};

use super::isa::Isa;
use super::panels::Line;
use super::pool::Pool;
#[cfg(target_arch = "x86_64")]
use super::prefetch::lines_near;
#[cfg(target_arch = "x86_64")]
use super::quarters;
use super::scratch::Room;

/// Values a block.
pub(crate) const BLOCK: usize = 32;

/// 32 activations: `x[i] ≈ scale · q[i]` or, with two bytes each (planes), `x[i] ≈ scale · (256 q[i] + low[i])`; `q` in -127..=127.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(16))]
pub(crate) struct Block {
    pub(crate) q: [i8; BLOCK],
    pub(crate) scale: f32,
    /// `scale` times the sum of the integers: what a minimum of the weights is multiplied by.
    pub(crate) sum: f32,
    /// -128 times the sums of the integers, of all and of the first half: what takes back a raise of the quants by 128.
    pub(crate) raise: [i32; 2],
}

/// The low bytes of a block's activations.
type Low = [i8; BLOCK];

/// A block of two planes.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
struct Wide {
    block: Block,
    low: Low,
}

/// A block of one plane or two.
trait Record: Copy + Send {
    /// The block, and its low bytes if there are any.
    fn parts(&mut self) -> (&mut Block, Option<&mut Low>);

    /// Quantises blocks in registers of 512 bits.
    ///
    /// # Safety
    /// AVX-512 F, BW, DQ and VL must be there.
    #[cfg(target_arch = "x86_64")]
    unsafe fn avx512(x: &[[f32; BLOCK]], blocks: &mut [Self]);
}

impl Record for Block {
    fn parts(&mut self) -> (&mut Block, Option<&mut Low>) {
        (self, None)
    }

    /// In steps that are quarters of powers of two.
    #[cfg(target_arch = "x86_64")]
    unsafe fn avx512(x: &[[f32; BLOCK]], blocks: &mut [Self]) {
        // SAFETY: by the contract.
        unsafe { quarters::quantize(x.as_flattened(), blocks) };
    }
}

impl Record for Wide {
    fn parts(&mut self) -> (&mut Block, Option<&mut Low>) {
        (&mut self.block, Some(&mut self.low))
    }

    #[cfg(target_arch = "x86_64")]
    unsafe fn avx512(x: &[[f32; BLOCK]], blocks: &mut [Self]) {
        // SAFETY: by the contract.
        unsafe { avx512(x, blocks) };
    }
}

#[cfg(target_arch = "x86_64")]
impl quarters::Record for Block {
    const HALVES: bool = true;

    fn bytes(&mut self) -> &mut [i8; BLOCK] {
        &mut self.q
    }

    fn finish(&mut self, step: quarters::Step, [all, first]: [i32; 2]) {
        (self.scale, self.sum, self.raise) = (step.size, step.size * all as f32, [all, first].map(raise));
    }
}

/// Where a block of `P` planes lies, one after another.
#[derive(Clone, Copy)]
pub(crate) struct At<const P: usize>(*const u8);

impl<const P: usize> At<P> {
    /// So many blocks further.
    #[inline(always)]
    pub(crate) fn add(self, blocks: usize) -> Self {
        Self(self.0.wrapping_add(blocks * const { QuantizedRows::block_bytes(P) }))
    }

    /// # Safety
    /// There must be a block, for as long as the reference.
    #[inline(always)]
    pub(crate) unsafe fn block<'a>(self) -> &'a Block {
        // SAFETY: by the contract.
        unsafe { &*self.0.cast::<Block>() }
    }

    /// Where it lies: its bytes, or the high ones.
    #[inline(always)]
    pub(crate) fn address(self) -> *const u8 {
        self.0
    }

    /// The low bytes from one on, of two planes.
    #[inline(always)]
    pub(crate) fn low(self, from: usize) -> *const i8 {
        self.0.wrapping_add(size_of::<Block>() + from).cast()
    }
}

/// Rows of activations, quantised block by block.
pub(crate) struct QuantizedRows<'a> {
    columns: usize,
    rows: usize,
    /// Blocks from a row to the next.
    stride: usize,
    /// Bytes an activation: 1 or 2.
    planes: usize,
    /// `[row][block]`, `stride` blocks a row.
    room: Room<'a>,
}

/// Blocks below which the calling thread quantises alone.
const ALONE: usize = 256;

impl<'a> QuantizedRows<'a> {
    /// Quantises rows of `columns` values, a multiple of 32, to one byte each or two. Not-finite values make their block's scale not finite, so that
    /// they reach the result instead of vanishing.
    pub(crate) fn new(pool: &'a Pool, isa: Isa, planes: usize, x: &[f32], columns: usize) -> Self {
        assert!(columns > 0 && columns.is_multiple_of(BLOCK) && x.len().is_multiple_of(columns));
        let rows = x.len() / columns;
        let x = x.as_chunks::<BLOCK>().0;
        let (width, bytes) = (columns / BLOCK, Self::block_bytes(planes));
        let stride = if rows > 1 { apart(width, bytes) } else { width };
        let mut room = pool.scratch.lines((rows * stride * bytes).div_ceil(size_of::<Line>()));
        let (at, len) = (room.as_mut_ptr(), rows * stride);
        // SAFETY: a line is aligned more strictly than a block, the room has as many bytes, and any bytes that were written once are blocks.
        unsafe {
            match planes {
                2 => fill(pool, isa, x, width, std::slice::from_raw_parts_mut(at.cast::<Wide>(), len), stride),
                _ => fill(pool, isa, x, width, std::slice::from_raw_parts_mut(at.cast::<Block>(), len), stride),
            }
        }
        Self { columns, rows, stride, planes, room }
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Blocks from a row to the next.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// Bytes an activation: 1 or 2.
    pub(crate) fn planes(&self) -> usize {
        self.planes
    }

    /// Bytes that a block takes.
    pub(crate) const fn block_bytes(planes: usize) -> usize {
        if planes == 2 { size_of::<Wide>() } else { size_of::<Block>() }
    }

    /// Where a row lies; the next [`stride`](Self::stride) blocks after it.
    ///
    /// # Panics
    /// If there is no such row, or not so many planes.
    pub(crate) fn at<const P: usize>(&self, row: usize) -> At<P> {
        assert!(row < self.rows && P == self.planes);
        At(self.room.as_ptr().cast()).add(row * self.stride)
    }

    /// A block of a row.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn block(&self, row: usize, block: usize) -> &Block {
        assert!(block < self.columns / BLOCK);
        // SAFETY: the row has such a block, which was written.
        unsafe {
            match self.planes {
                2 => self.at::<2>(row).add(block).block(),
                _ => self.at::<1>(row).add(block).block(),
            }
        }
    }

    /// The integer of an activation.
    ///
    /// # Panics
    /// If there is no such.
    pub(crate) fn integer(&self, row: usize, column: usize) -> i32 {
        let q = i32::from(self.block(row, column / BLOCK).q[column % BLOCK]);
        match self.planes {
            // SAFETY: a block of two planes has as many low bytes, which were written.
            2 => 256 * q + i32::from(unsafe { *self.at::<2>(row).add(column / BLOCK).low(column % BLOCK) }),
            _ => q,
        }
    }
}

/// Bytes of a way of a first-level cache: lines as far apart, or a multiple of that, compete for a few places.
const WAY: usize = 4096;

/// The least that rows of a few pages may be off a multiple of that: three lines.
const OFF: usize = 192;

/// Blocks from a row of so many to the next, so that the rows that meet weights together do not compete in a first-level cache.
pub(super) fn apart(width: usize, bytes: usize) -> usize {
    let competes = |width: &usize| {
        let off = width * bytes % WAY;
        width * bytes >= WAY - OFF && off.min(WAY - off) < OFF
    };
    (width..).find(|width| !competes(width)).unwrap_or(width)
}

/// Quantises rows of `width` blocks to where rows are `stride` blocks apart, by several threads if they are many.
fn fill<R: Record>(pool: &Pool, isa: Isa, x: &[[f32; BLOCK]], width: usize, to: &mut [R], stride: usize) {
    let rows = |x: &[[f32; BLOCK]], to: &mut [R]| {
        // Rows without a gap are one long row.
        let (run, place) = if stride == width { (x.len().max(1), to.len().max(1)) } else { (width, stride) };
        x.chunks_exact(run).zip(to.chunks_exact_mut(place)).for_each(|(x, to)| quantize(isa, x, &mut to[..run]));
    };
    if x.len() < ALONE {
        return rows(x, to);
    }
    let some = (x.len() / width).div_ceil(4 * pool.threads());
    // Each lock is taken once, by the thread that has the part.
    let parts: Vec<_> = x.chunks(some * width).zip(to.chunks_mut(some * stride).map(Mutex::new)).collect();
    pool.run(parts.len(), &|part| {
        let (x, to) = &parts[part];
        rows(x, &mut to.lock().unwrap_or_else(PoisonError::into_inner));
    });
}

/// Quantises blocks.
fn quantize<R: Record>(isa: Isa, x: &[[f32; BLOCK]], blocks: &mut [R]) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: such an `Isa` is only made where AVX-512 was detected.
        Isa::Avx512 => unsafe { R::avx512(x, blocks) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: such an `Isa` is only made where AVX2 was detected.
        _ if isa.avx2() => unsafe { avx2(x, blocks) },
        _ => plain(x, blocks),
    }
}

#[inline(always)]
fn plain<R: Record>(x: &[[f32; BLOCK]], blocks: &mut [R]) {
    for (to, x) in blocks.iter_mut().zip(x) {
        let (to, low) = to.parts();
        *to = block(x, low);
    }
}

/// 1.5·2²³: a number to which it was added has the nearest integer in its last bits.
const ROUND: f32 = 12_582_912.0;

/// A block of one plane, or of two where there are low bytes to write.
#[inline(always)]
fn block(x: &[f32; BLOCK], low: Option<&mut Low>) -> Block {
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
    let range = if low.is_some() { 127.0 * 256.0 } else { 127.0 };
    let scale = largest / range + odd.iter().sum::<f32>();
    let inverse = if largest > 0.0 { range / largest } else { 0.0 };
    let mut values = [0i32; BLOCK];
    for (value, x) in values.iter_mut().zip(x) {
        // Adding 1.5·2²³ rounds to the nearest integer, ties to even, on any processor, and leaves it in the last bits.
        *value = (x * inverse + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    }
    let sum = |values: &[i32]| values.iter().fold(0i32, |a, b| a.wrapping_add(*b));
    let (first, last) = (sum(&values[..BLOCK / 2]), sum(&values[BLOCK / 2..]));
    let q = match low {
        // The nearest multiple of 256, and what is left: -128..=127.
        Some(low) => {
            *low = values.map(|value| value as i8);
            values.map(|value| (value.wrapping_add(128) >> 8) as i8)
        }
        None => values.map(|value| value as i8),
    };
    let all = first.wrapping_add(last);
    Block { q, scale, sum: scale * all as f32, raise: [all, first].map(raise) }
}

/// What takes back a raise of the quants by 128, of integers with this sum: at most 2²⁷, unless they are of numbers that are not finite.
#[inline(always)]
fn raise(sum: i32) -> i32 {
    sum.wrapping_mul(-128)
}

/// The same code compiled for wider registers; equal bit for bit.
///
/// # Safety
/// AVX2 must be there.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2<R: Record>(x: &[[f32; BLOCK]], blocks: &mut [R]) {
    plain(x, blocks);
}

/// Values ahead of what is quantised that are asked for: two pages.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 2048;

/// [`plain`] with a block of two planes in two registers; equal bit for bit, but for what a block with numbers that are not finite holds beside its scale.
///
/// # Safety
/// AVX-512 F must be there.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512(x: &[[f32; BLOCK]], blocks: &mut [Wide]) {
    for (to, x) in blocks.iter_mut().zip(x) {
        lines_near(x.as_ptr().wrapping_add(AHEAD).cast(), size_of_val(x));
        // SAFETY: by the contract.
        unsafe { avx512_block(x, to) };
    }
}

/// # Safety
/// AVX-512 F must be there.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn avx512_block(x: &[f32; BLOCK], Wide { block, low }: &mut Wide) {
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
    // To the nearest, ties to even.
    let values = x.map(|x| _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse)));
    let [first, last] = values.map(|values| _mm512_reduce_add_epi32(values));
    put(values, low);
    let high = values.map(|values| _mm512_srai_epi32::<8>(_mm512_add_epi32(values, _mm512_set1_epi32(128))));
    put(high, &mut block.q);
    let all = first.wrapping_add(last);
    (block.scale, block.sum, block.raise) = (scale, scale * all as f32, [all, first].map(raise));

    /// The low bytes of 32 integers.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn put(values: [__m512i; 2], to: &mut [i8; BLOCK]) {
        for (values, to) in values.into_iter().zip(to.as_chunks_mut::<16>().0) {
            // SAFETY: 16 bytes.
            unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(values)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::isa::isa;
    use super::*;

    #[test]
    fn rows_that_would_compete_lie_apart_and_are_those_of_single_ones() {
        let pool = Pool::new(3);
        for (planes, columns) in [(1, 8192), (2, 8192), (1, 2720), (2, 1632), (1, 576)] {
            let x: Vec<f32> = (0..7 * columns).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 91.0).collect();
            let rows = QuantizedRows::new(&pool, isa(), planes, &x, columns);
            let bytes = QuantizedRows::block_bytes(planes);
            assert_eq!(rows.stride() > columns / BLOCK, columns != 576);
            assert!((OFF..=WAY - OFF).contains(&(rows.stride() * bytes % WAY)));
            for (row, x) in x.chunks_exact(columns).enumerate() {
                let alone = QuantizedRows::new(&pool, isa(), planes, x, columns);
                assert_eq!(alone.stride(), columns / BLOCK);
                assert!((0..columns / BLOCK).all(|block| rows.block(row, block) == alone.block(0, block)));
                assert!((0..columns).all(|column| rows.integer(row, column) == alone.integer(0, column)));
            }
        }
    }

    #[test]
    fn error_is_at_most_half_a_step_and_sums_agree() {
        let x: Vec<f32> = (0..96 * 300).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 91.0).collect();
        let alone = Pool::new(1);
        for (isa, planes) in Isa::here().into_iter().flat_map(|isa| [(isa, 1), (isa, 2)]) {
            let plain = QuantizedRows::new(&alone, Isa::Portable, planes, &x, 96);
            let pool = Pool::new(3);
            let rows = QuantizedRows::new(&pool, isa, planes, &x, 96);
            assert_eq!(rows.rows(), 300);
            for (index, x) in x.as_chunks::<BLOCK>().0.iter().enumerate() {
                let (row, at) = (index / 3, index % 3);
                let block = rows.block(row, at);
                let integers: [i32; BLOCK] = std::array::from_fn(|i| rows.integer(row, BLOCK * at + i));
                let plain: [i32; BLOCK] = std::array::from_fn(|i| plain.integer(row, BLOCK * at + i));
                // Steps of bytes are others there.
                assert!(integers == plain || isa == Isa::Avx512 && planes == 1, "{isa:?} {planes}");
                for (x, integer) in x.iter().zip(integers) {
                    assert!((x - block.scale * integer as f32).abs() <= 0.5001 * block.scale, "{isa:?} {x} {integer}");
                }
                assert_eq!(block.raise, [&integers[..], &integers[..16]].map(|some| some.iter().sum::<i32>() * -128));
                assert_eq!(block.sum, block.scale * (block.raise[0] / -128) as f32);
            }
        }
    }

    #[test]
    fn wider_registers_change_nothing() {
        for isa in Isa::here() {
            let numbers = |i: usize| ((i * 7919 % 1009) as f32 - 504.0) * (i as f32 * 0.37).sin().powi(9);
            // Halves of a step go to the even number.
            let ties = std::array::from_fn(|i| if i == 0 { 32_512.0 } else { i as f32 - 16.5 });
            let x: Vec<[f32; BLOCK]> =
                (0..200).map(|b| std::array::from_fn(|i| numbers(32 * b + i))).chain([ties]).collect();
            let zero = Block { q: [0; BLOCK], scale: 0.0, sum: 0.0, raise: [0; 2] };
            let mut one = [(); 2].map(|()| vec![zero; x.len()]);
            quantize(isa, &x, &mut one[0]);
            plain(&x, &mut one[1]);
            assert!(one[0] == one[1] || isa == Isa::Avx512, "{isa:?}");
            let mut two = [(); 2].map(|()| vec![Wide { block: zero, low: [0; BLOCK] }; x.len()]);
            quantize(isa, &x, &mut two[0]);
            plain(&x, &mut two[1]);
            assert_eq!(two[0], two[1], "{isa:?}");
        }
    }

    #[test]
    fn zeros_and_infinities() {
        let pool = Pool::new(1);
        let zeros = *QuantizedRows::new(&pool, isa(), 2, &[0.0; 32], 32).block(0, 0);
        assert_eq!((zeros.scale, zeros.sum), (0.0, 0.0));
        for bad in [f32::INFINITY, f32::NAN] {
            let mut x = [1.0; 32];
            x[5] = bad;
            assert!(!QuantizedRows::new(&pool, isa(), 2, &x, 32).block(0, 0).scale.is_finite());
        }
    }
}
