//! Block-quantised weights in the order in which the kernels stream them.
//!
//! As many rows as a register has 32-bit lanes form a strip: 16 with AVX-512, 4 with NEON, otherwise 8. Of each block of 32 columns a strip holds
//! groups of four columns: four bytes of row 0, four of row 1, … So one register holds four columns of every row of the strip, a broadcast of
//! four activations meets them all, and the sums of the rows grow in the lanes of one accumulator: no horizontal sums, and
//! scales are applied to all rows at once. Quants and scales (heads) lie in two streams, so that no register crosses a cache line.
//!
//! Formats of 4 bits keep columns `k` and `16 + k` of a block in the halves of a byte; a fifth and sixth bit follow in registers of their own:
//!
//! | format | registers of quants a block | head of a strip, an array over its rows each |
//! | --- | --- | --- |
//! | Q8_0 | 8, signed | `f16 d` |
//! | Q4_0, Q4_1 | 4 | `f16 d`, Q4_1: `f16 m` |
//! | Q5_0, Q5_1 | 4 and 1: bit `g + 4 h` of byte `j` belongs to column `16 h + 4 g + j` | as Q4 |
//! | Q4_K, Q5_K | as Q4, Q5 | for 256 columns: `f16 d`, `f16 dmin`, and 8 × (`u8` scale, `u8` minimum) |
//! | Q6_K | 4 and 2: bits `2 g` and `2 g + 1` of byte `j` of register `h` | for 256 columns: `f16 d`, and 8 × 2 × `i8` scale of 16 columns |

mod pack;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod simd;

#[cfg(target_arch = "x86_64")]
use std::cell::RefCell;
use std::ops::Range;

use half::f16;
use rayon::prelude::*;

use super::activation::{BLOCK, QuantizedRows};
use super::isa::{Isa, isa};
use super::panels::{Line, bytes, bytes_mut};
use super::slab::Lines;
use super::tile::COLUMNS;
use crate::weights::Dtype;

/// The block formats that can be interleaved. `weight = d · quant + m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Format {
    Q8,
    /// `m = -8 d`
    Q4,
    Q4Min,
    /// `m = -16 d`
    Q5,
    Q5Min,
    Q4K,
    Q5K,
    /// `m = -32 d`
    Q6K,
}

impl Format {
    const fn of(dtype: Dtype) -> Option<Self> {
        Some(match dtype {
            Dtype::Q8_0 => Format::Q8,
            Dtype::Q4_0 => Format::Q4,
            Dtype::Q4_1 => Format::Q4Min,
            Dtype::Q5_0 => Format::Q5,
            Dtype::Q5_1 => Format::Q5Min,
            Dtype::Q4K => Format::Q4K,
            Dtype::Q5K => Format::Q5K,
            Dtype::Q6K => Format::Q6K,
            _ => return None,
        })
    }

    /// Blocks of 32 columns that share a head: a unit.
    pub(crate) const fn blocks(self) -> usize {
        match self {
            Format::Q4K | Format::Q5K | Format::Q6K => 8,
            _ => 1,
        }
    }

    /// Whether a block has one scale and no minimum.
    #[cfg(target_arch = "x86_64")]
    const fn is_plain(self) -> bool {
        matches!(self, Self::Q8 | Self::Q4 | Self::Q5)
    }

    /// Whether weights have a minimum of their own. Others have an offset of their quants.
    const fn has_minimum(self) -> bool {
        matches!(self, Format::Q4Min | Format::Q5Min | Format::Q4K | Format::Q5K)
    }

    /// Registers of quants a block.
    const fn registers(self) -> usize {
        match self {
            Format::Q4 | Format::Q4Min | Format::Q4K => 4,
            Format::Q5 | Format::Q5Min | Format::Q5K => 5,
            Format::Q6K => 6,
            Format::Q8 => 8,
        }
    }

    /// `f16` numbers of a row in the head of a unit.
    const fn floats(self) -> usize {
        match self {
            Format::Q8 | Format::Q4 | Format::Q5 | Format::Q6K => 1,
            Format::Q4Min | Format::Q5Min | Format::Q4K | Format::Q5K => 2,
        }
    }

    /// Bytes of a row in the head of a unit.
    const fn head(self) -> usize {
        2 * self.floats() + if self.blocks() == 8 { 16 } else { 0 }
    }
}

/// Where the sums of a strip go: for each row of activations `lanes` floats, the first at `at`, rows `stride` floats apart, which nobody
/// else may use meanwhile. Sums start from `start`: zeros, or a bias, of all lanes.
#[derive(Clone, Copy)]
pub(crate) struct Out<'a> {
    pub(crate) at: *mut f32,
    pub(crate) stride: usize,
    pub(crate) lanes: usize,
    pub(crate) start: &'a [f32],
}

/// Columns of a pair of strips that are unpacked at a time, whole units: 20 KiB, so that they stay in a first-level cache with what they meet.
#[cfg(target_arch = "x86_64")]
pub(crate) const DEPTH: usize = 512;

#[cfg(target_arch = "x86_64")]
thread_local! {
    /// Where a thread unpacks pairs of strips.
    static PAIR: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// A weight matrix of `rows` × `columns` in strips.
pub(crate) struct Interleaved {
    format: Format,
    rows: usize,
    columns: usize,
    /// Rows a strip.
    lanes: usize,
    /// `[strip][block][register]`
    quants: Lines,
    /// `[strip][unit]`
    heads: Lines,
}

impl Interleaved {
    /// Whether matrices of this type and width are interleaved.
    pub(crate) fn supports(dtype: Dtype, columns: usize) -> bool {
        columns > 0 && Format::of(dtype).is_some_and(|format| columns.is_multiple_of(format.blocks() * BLOCK))
    }

    /// Repacks `rows` × `columns` weights from file order for this processor; missing rows of the last strip are zeros.
    ///
    /// # Panics
    /// If the format is not supported or `file` has another length than the shape says.
    pub(crate) fn new(dtype: Dtype, rows: usize, columns: usize, file: &[u8]) -> Self {
        Self::with_lanes(isa().lanes(), dtype, rows, columns, file)
    }

    fn with_lanes(lanes: usize, dtype: Dtype, rows: usize, columns: usize, file: &[u8]) -> Self {
        assert!(Self::supports(dtype, columns), "{dtype:?} × {columns} is not interleaved");
        let format = Format::of(dtype).expect("supported");
        let (units, from) = (columns / BLOCK / format.blocks(), dtype.block_bytes());
        assert_eq!(file.len(), rows * units * from);
        let strips = rows.div_ceil(lanes);
        let (strip_heads, strip_quants) =
            (units * format.head() * lanes, units * format.blocks() * format.registers() * 4 * lanes);
        let mut heads = Lines::zeros((strips * strip_heads).div_ceil(size_of::<Line>()));
        let mut quants = Lines::zeros((strips * strip_quants).div_ceil(size_of::<Line>()));
        if strips > 0 {
            let quants = &mut bytes_mut(&mut quants)[..strips * strip_quants];
            let heads = &mut bytes_mut(&mut heads)[..strips * strip_heads];
            let strips = quants.par_chunks_exact_mut(strip_quants).zip(heads.par_chunks_exact_mut(strip_heads));
            strips.zip(file.par_chunks(lanes * units * from)).for_each(|((quants, heads), file)| {
                for (lane, file) in file.chunks_exact(units * from).enumerate() {
                    pack::row(format, file, from, lane, lanes, quants, heads);
                }
            });
        }
        Self { format, rows, columns, lanes, quants, heads }
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.quants) + size_of_val(&*self.heads)
    }

    /// Rows a strip.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes
    }

    pub(crate) fn strips(&self) -> usize {
        self.rows.div_ceil(self.lanes)
    }

    fn block_bytes(&self) -> usize {
        self.format.registers() * 4 * self.lanes
    }

    /// Heads and quants of a strip from column `start` on, the first of a unit.
    fn strip(&self, strip: usize, start: usize) -> (&[u8], &[u8]) {
        let blocks = self.columns / BLOCK;
        let unit = self.format.head() * self.lanes;
        let units = blocks / self.format.blocks();
        let heads = &bytes(&self.heads)[strip * units * unit..(strip + 1) * units * unit];
        let quants = &bytes(&self.quants)[strip * blocks * self.block_bytes()..];
        let quants = &quants[..blocks * self.block_bytes()];
        assert!(start.is_multiple_of(BLOCK * self.format.blocks()));
        (&heads[start / BLOCK / self.format.blocks() * unit..], &quants[start / BLOCK * self.block_bytes()..])
    }

    /// The products of a strip with some rows of activations.
    ///
    /// # Safety
    /// `out` must be valid as [`Out`] says, for as many rows.
    ///
    /// # Panics
    /// If `x` has another width, fewer rows or more bytes an activation than these instructions take.
    pub(crate) unsafe fn dot(&self, isa: Isa, strip: usize, x: &QuantizedRows<'_>, rows: Range<usize>, out: Out<'_>) {
        assert!(x.columns() == self.columns && rows.end <= x.rows() && x.planes() <= isa.planes());
        assert!(out.lanes <= self.lanes && out.start.len() >= self.lanes);
        let (heads, quants) = self.strip(strip, 0);
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        if self.lanes == isa.lanes() && isa != Isa::Portable {
            // SAFETY: an `Isa` is only made where its instructions were detected, and its lanes are those of the strips; the heads and
            // quants are those of a whole strip, as long as a row of `x`, and the rows are in `x`; `out` by the contract.
            return unsafe { simd::dot(isa, self.format, heads, quants, x, rows, out) };
        }
        for (index, row) in rows.enumerate() {
            let mut sums = [0.0; COLUMNS];
            sums[..self.lanes].copy_from_slice(&out.start[..self.lanes]);
            self.dot_portable(heads, quants, x, row, &mut sums[..self.lanes]);
            // SAFETY: by the contract.
            unsafe { out.at.add(index * out.stride).copy_from_nonoverlapping(sums.as_ptr(), out.lanes) };
        }
    }

    /// Whether strips are faster in pairs for so many rows of so many bytes an activation. Activations are read half as often then, which is much where they have one byte; scales of 16 columns are applied to
    /// registers that stay. It takes some rows to outweigh the unpacking.
    pub(crate) fn in_pairs(&self, isa: Isa, planes: usize, rows: usize) -> bool {
        // Minima are as much work again as scales, in pairs as well.
        isa == Isa::Avx512
            && !self.format.has_minimum()
            && if self.format == Format::Q6K { rows >= 32 } else { planes == 1 && rows >= 64 }
    }

    /// As [`dot`](Self::dot) of some strips, `out` being all of them side by side: unpacked two at a time, for all rows.
    ///
    /// # Safety
    /// As there.
    ///
    /// # Panics
    /// As there, and if there are no pairs ([`in_pairs`](Self::in_pairs)).
    #[cfg(target_arch = "x86_64")]
    pub(crate) unsafe fn dot_pairs(
        &self,
        isa: Isa,
        strips: Range<usize>,
        x: &QuantizedRows<'_>,
        rows: Range<usize>,
        out: Out<'_>,
    ) {
        assert!(x.columns() == self.columns && rows.end <= x.rows() && x.planes() <= isa.planes());
        assert!(out.lanes <= strips.len() * self.lanes && out.start.len() >= strips.len() * self.lanes);
        assert!(isa == Isa::Avx512 && self.lanes == isa.lanes() && !self.format.has_minimum());
        let part = |strip: usize, count: usize| {
            let first = (strip - strips.start) * self.lanes;
            let lanes = (count * self.lanes).min(out.lanes - first);
            Out { at: out.at.wrapping_add(first), lanes, start: &out.start[first..], ..out }
        };
        let alone = strips.end - strips.len() % 2;
        PAIR.with_borrow_mut(|room| {
            let bytes = DEPTH / BLOCK * simd::PAIR_REGISTERS * 4 * self.lanes;
            room.resize(bytes / size_of::<Line>(), Line([0.0; COLUMNS]));
            let unpacked = room.as_mut_ptr().cast::<u8>();
            let blocks = self.columns / BLOCK;
            // Some columns of the rows at a time, so that they are near when the next pair meets them.
            for start in (0..blocks).step_by(DEPTH / BLOCK) {
                let blocks = start..(start + DEPTH / BLOCK).min(blocks);
                for first in (strips.start..alone).step_by(2) {
                    let pair = [self.strip(first, 0), self.strip(first + 1, 0)];
                    // SAFETY: AVX-512 was detected where its `Isa` was made; whole strips and as much room as so many blocks take; rows that
                    // are in `x`; `out` by the contract, and written where `start` is not 0.
                    unsafe {
                        simd::unpack_pair(self.format, pair, blocks.clone(), unpacked);
                        simd::dot_pair(self.format, unpacked, blocks.clone(), x, rows.clone(), part(first, 2));
                    }
                }
            }
        });
        for strip in alone..strips.end {
            // SAFETY: by the contract.
            unsafe { self.dot(isa, strip, x, rows.clone(), part(strip, 1)) };
        }
    }

    /// Whether quants are bytes of their block's scale as they are.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn is_plain(&self) -> bool {
        self.format.is_plain()
    }

    /// Lays out some blocks of some strips side by side as bytes of one scale for 32 columns.
    ///
    /// # Panics
    /// If there are no such strips or blocks or `out` is too short, and where [`bytewise`](super::bytewise) products are not.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn layout(&self, strips: Range<usize>, blocks: Range<usize>, out: &mut [Line]) {
        assert!(super::bytewise::is_here(isa()) && self.lanes == COLUMNS && strips.len() <= super::bytewise::STRIPS);
        let some: [_; super::bytewise::STRIPS] =
            std::array::from_fn(|strip| self.strip((strips.start + strip).min(strips.end - 1), 0));
        assert!(!blocks.is_empty() && blocks.end <= self.columns / BLOCK);
        assert!(out.len() >= blocks.len() * super::bytewise::registers(strips.len()));
        // SAFETY: AVX-512 was detected where its `Isa` was made; whole strips, and room for them.
        unsafe { simd::layout(self.format, &some[..strips.len()], blocks, out.as_mut_ptr().cast()) };
    }

    fn dot_portable(&self, heads: &[u8], quants: &[u8], x: &QuantizedRows<'_>, row: usize, out: &mut [f32]) {
        for (lane, out) in out.iter_mut().enumerate() {
            for (b, block) in quants.chunks_exact(self.block_bytes()).enumerate() {
                let x_block = x.block(row, b);
                for half in 0..2 {
                    let columns = 16 * half..16 * (half + 1);
                    let product = |k: usize| self.quant(block, lane, k) * x.integer(row, b * BLOCK + k);
                    let sum: i32 = columns.map(product).sum();
                    let (d, m) = self.scales(heads, b, lane, half);
                    let [all, first] = x_block.raise.map(|raise| raise / -128);
                    let integers = if half == 0 { first } else { all.wrapping_sub(first) };
                    *out += sum as f32 * (d * x_block.scale) + m * (x_block.scale * integers as f32);
                }
            }
        }
    }

    /// Quant `k` of a lane's block as stored, before scale and minimum.
    #[inline(always)]
    fn quant(&self, block: &[u8], lane: usize, k: usize) -> i32 {
        let at = |register: usize| block[(register * self.lanes + lane) * 4 + k % 4];
        let (group, half) = (k % 16 / 4, k / 16);
        let low = at(group) >> (4 * half) & 15;
        let high = match self.format {
            Format::Q8 => return i32::from(at(k / 4) as i8),
            Format::Q4 | Format::Q4Min | Format::Q4K => 0,
            Format::Q5 | Format::Q5Min | Format::Q5K => at(4) >> (group + 4 * half) & 1,
            Format::Q6K => at(4 + half) >> (2 * group) & 3,
        };
        i32::from(low | high << 4)
    }

    /// Scale and minimum of 16 columns of a lane's block: `weight = d · quant + m`.
    #[inline(always)]
    fn scales(&self, heads: &[u8], block: usize, lane: usize, half: usize) -> (f32, f32) {
        let lanes = self.lanes;
        let head = &heads[block / self.format.blocks() * self.format.head() * lanes..];
        let float = |array: usize| {
            let at = 2 * (array * lanes + lane);
            f16::from_le_bytes([head[at], head[at + 1]]).to_f32()
        };
        let byte = |array: usize| head[(2 * self.format.floats() + 2 * (block % 8) + array) * lanes + lane];
        let d = float(0);
        match self.format {
            Format::Q8 => (d, 0.0),
            Format::Q4 => (d, -8.0 * d),
            Format::Q5 => (d, -16.0 * d),
            Format::Q4Min | Format::Q5Min => (d, float(1)),
            Format::Q4K | Format::Q5K => (d * f32::from(byte(0)), -(float(1) * f32::from(byte(1)))),
            Format::Q6K => {
                let d = d * f32::from(byte(half) as i8);
                (d, -32.0 * d)
            }
        }
    }

    /// Decodes a row.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.columns);
        let ((heads, quants), lane) = (self.strip(row / self.lanes, 0), row % self.lanes);
        for (b, (block, out)) in quants.chunks_exact(self.block_bytes()).zip(out.chunks_exact_mut(BLOCK)).enumerate() {
            for (half, out) in out.chunks_exact_mut(16).enumerate() {
                let (d, m) = self.scales(heads, b, lane, half);
                for (k, out) in out.iter_mut().enumerate() {
                    *out = d * self.quant(block, lane, 16 * half + k) as f32 + m;
                }
            }
        }
    }

    /// Decodes rows `first..first + 16`, columns `start..start + depth`, into `out[k·16 + row]`; rows past the last strip are
    /// left as they are.
    ///
    /// # Panics
    /// If `start` or `depth` is not a multiple of a unit's columns, or `out` too short.
    pub(crate) fn panel(&self, isa: Isa, first: usize, start: usize, depth: usize, out: &mut [f32]) {
        assert!(depth.is_multiple_of(BLOCK * self.format.blocks()) && start + depth <= self.columns);
        assert!(out.len() >= depth * COLUMNS && first.is_multiple_of(COLUMNS));
        let strip = first / self.lanes;
        for strip in strip..(strip + COLUMNS / self.lanes).min(self.strips()) {
            let out = &mut out[strip * self.lanes - first..];
            let (heads, quants) = self.strip(strip, start);
            let quants = &quants[..depth / BLOCK * self.block_bytes()];
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            if self.lanes == isa.lanes() && isa != Isa::Portable {
                // SAFETY: as in `dot`; `out` reaches to the last row of lanes, and heads to the last unit.
                unsafe { simd::panel(isa, self.format, heads, quants, out) };
                continue;
            }
            for (b, block) in quants.chunks_exact(self.block_bytes()).enumerate() {
                for (lane, k) in (0..self.lanes).flat_map(|lane| (0..BLOCK).map(move |k| (lane, k))) {
                    let (d, m) = self.scales(heads, b, lane, k / 16);
                    out[(b * BLOCK + k) * COLUMNS + lane] = d * self.quant(block, lane, k) as f32 + m;
                }
            }
        }
    }

    /// Decodes some columns of two strips of 16 rows into matrix tiles, each of 32 columns: 16 lines of the high parts and 16 of the low ones, a line
    /// of two columns of each row. While a pair of tiles is made, `meanwhile(tile, part, tiles)` is called for the pair before: for parts 0 to 15.
    ///
    /// # Panics
    /// If there are no such columns or they are not whole tiles, if `out` has not a line for each, or where there are no matrix tiles.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    pub(crate) fn tiles(
        &self,
        strips: [usize; 2],
        columns: Range<usize>,
        out: [&mut [Line]; 2],
        meanwhile: impl Fn(usize, usize, [*const Line; 2]),
    ) {
        assert!(
            columns.end <= self.columns && columns.start.is_multiple_of(BLOCK) && columns.len().is_multiple_of(BLOCK)
        );
        assert!(out.iter().all(|out| out.len() == columns.len()) && self.lanes == COLUMNS);
        assert!(isa() == Isa::Avx512 && std::arch::is_x86_feature_detected!("avx512bf16"));
        let strips = strips.map(|strip| self.strip(strip, 0));
        let blocks = columns.start / BLOCK..columns.end / BLOCK;
        // SAFETY: the instructions were detected; whole strips, which have these columns, and a line for each.
        unsafe { simd::tiles(self.format, strips, blocks, out.map(|out| out.as_mut_ptr()), meanwhile) };
    }
}

/// Blocks of random quants, with scales of a sensible size.
#[cfg(test)]
pub(super) fn random_blocks(dtype: Dtype, rows: usize, columns: usize) -> Vec<u8> {
    let from = dtype.block_bytes();
    let mut state = 88172645463325252u64;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    let mut bytes: Vec<u8> = (0..rows * columns / dtype.block_len() * from).map(|_| byte()).collect();
    for (i, block) in bytes.chunks_exact_mut(from).enumerate() {
        let d = f16::from_f32(0.01 + (i % 7) as f32 * 0.003).to_le_bytes();
        let m = f16::from_f32(-0.05 + (i % 5) as f32 * 0.02).to_le_bytes();
        match dtype {
            Dtype::Q6K => block[208..210].copy_from_slice(&d),
            Dtype::Q4_1 | Dtype::Q5_1 | Dtype::Q4K | Dtype::Q5K => {
                block[..2].copy_from_slice(&d);
                block[2..4].copy_from_slice(&m);
            }
            _ => block[..2].copy_from_slice(&d),
        }
        if dtype == Dtype::Q8_0 {
            block[2] = 128; // -128, the value that |w| cannot hold as i8
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::pool::Pool;
    use super::*;
    use crate::weights::block;

    const TYPES: [Dtype; 8] =
        [Dtype::Q8_0, Dtype::Q4_0, Dtype::Q4_1, Dtype::Q5_0, Dtype::Q5_1, Dtype::Q4K, Dtype::Q5K, Dtype::Q6K];

    #[test]
    fn rows_panels_and_products_equal_the_plain_decoder() {
        let pool = Pool::new(1);
        for (isa, planes) in Isa::here().into_iter().flat_map(|isa| [(isa, 1), (isa, isa.planes())]) {
            for dtype in TYPES {
                // Of Q8_0 rows of activations lie apart.
                let columns = match dtype.block_len() {
                    256 => 1024,
                    _ if dtype == Dtype::Q8_0 => 2720,
                    _ => 864,
                };
                let (rows, count) = (37, 19);
                let bytes = random_blocks(dtype, rows, columns);
                let mut plain = vec![0.0; rows * columns];
                block::dequantize(dtype, &bytes, &mut plain).unwrap();
                let weights = Interleaved::with_lanes(isa.lanes(), dtype, rows, columns, &bytes);
                let x: Vec<f32> = (0..count * columns).map(|i| ((i * 31 % 107) as f32 - 53.0) / 30.0).collect();
                let x = QuantizedRows::new(&pool, isa, planes, &x, columns);
                let largest = plain.iter().fold(0.0f32, |a, b| a.max(b.abs()));

                let mut row = vec![0.0; columns];
                for (r, plain) in plain.chunks_exact(columns).enumerate() {
                    weights.row(r, &mut row);
                    assert!(row.iter().zip(plain).all(|(a, b)| (a - b).abs() <= 1e-6 * largest), "{dtype:?} {r}");
                }
                for first in (0..rows).step_by(COLUMNS) {
                    let mut panel = vec![0.0; columns * COLUMNS];
                    weights.panel(isa, first, 0, columns, &mut panel);
                    for (r, k) in (first..rows.min(first + COLUMNS)).flat_map(|r| (0..columns).map(move |k| (r, k))) {
                        let (got, want) = (panel[k * COLUMNS + r - first], plain[r * columns + k]);
                        assert!((got - want).abs() <= 1e-6 * largest, "{isa:?} {dtype:?} {r} {k}: {got} {want}");
                    }
                }
                for strip in 0..weights.strips() {
                    let lanes = isa.lanes().min(rows - strip * isa.lanes());
                    let start: [f32; COLUMNS] = std::array::from_fn(|lane| lane as f32 / 8.0);
                    // Rows of 20 floats, of which the strip has the first.
                    let dot = |rows: Range<usize>| {
                        let mut sums = vec![7.0; rows.len() * 20];
                        let out = Out { at: sums.as_mut_ptr(), stride: 20, lanes, start: &start };
                        // SAFETY: at most 16 of 20 floats a row.
                        unsafe { weights.dot(isa, strip, &x, rows, out) };
                        sums
                    };
                    let together = dot(0..count);
                    for (r, together) in together.chunks_exact(20).enumerate() {
                        assert_eq!(dot(r..r + 1), together, "{isa:?} {dtype:?}: a row depends on its company");
                        assert!(together[lanes..].iter().all(|rest| *rest == 7.0));
                        for lane in 0..lanes {
                            let w = &plain[(strip * isa.lanes() + lane) * columns..][..columns];
                            let term = |k: usize| {
                                f64::from(w[k]) * f64::from(x.integer(r, k)) * f64::from(x.block(r, k / BLOCK).scale)
                            };
                            let (want, size): (f64, f64) =
                                ((0..columns).map(term).sum(), (0..columns).map(|k| term(k).abs()).sum());
                            let got = f64::from(together[lane]) - lane as f64 / 8.0;
                            assert!((got - want).abs() <= 2e-6 * (size + 1.0), "{isa:?} {dtype:?} {got} {want} {size}");
                        }
                    }
                }
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn strips_in_pairs_have_the_sums_of_single_ones() {
        let (isa, pool) = (isa(), Pool::new(1));
        if isa != Isa::Avx512 {
            return; // Nothing makes pairs here.
        }
        let types = [Dtype::Q8_0, Dtype::Q4_0, Dtype::Q5_0, Dtype::Q6K];
        for (dtype, planes) in types.into_iter().flat_map(|dtype| [(dtype, 1), (dtype, 2)]) {
            // More columns than are unpacked at once, and a last strip that is not whole.
            let (rows, columns, count) = (77, if dtype.block_len() == 256 { 1024 } else { 2720 }, 79);
            let bytes = random_blocks(dtype, rows, columns);
            let weights = Interleaved::new(dtype, rows, columns, &bytes);
            let x: Vec<f32> = (0..count * columns).map(|i| ((i * 31 % 107) as f32 - 53.0) / 30.0).collect();
            let x = QuantizedRows::new(&pool, isa, planes, &x, columns);
            let start: Vec<f32> = (0..96).map(|lane| lane as f32 / 8.0).collect();
            for (strips, first_row) in [(0..weights.strips(), 0), (1..weights.strips(), 3), (1..2, 0), (2..4, 78)] {
                let lanes = rows.min(strips.end * 16) - strips.start * 16;
                let mut sums = [(); 2].map(|()| vec![7.0; count * 100]);
                let [pairs, singles] =
                    sums.each_mut().map(|sums| Out { at: sums.as_mut_ptr(), stride: 100, lanes, start: &start });
                // SAFETY: at most 80 of 100 floats a row.
                unsafe { weights.dot_pairs(isa, strips.clone(), &x, first_row..count, pairs) };
                for (at, strip) in strips.clone().enumerate() {
                    let (lanes, start) = (16.min(lanes - 16 * at), &start[16 * at..]);
                    let out = Out { at: singles.at.wrapping_add(16 * at), lanes, start, ..singles };
                    // SAFETY: as above.
                    unsafe { weights.dot(isa, strip, &x, first_row..count, out) };
                }
                assert_eq!(sums[0], sums[1], "{dtype:?} {planes} {strips:?}");
            }
        }
    }

    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    #[test]
    fn tiles_are_the_halves_of_panels() {
        if isa() != Isa::Avx512 || !std::arch::is_x86_feature_detected!("avx512bf16") {
            return; // Nothing makes tiles here.
        }
        let rounded = |value: f32| f32::from_bits((value.to_bits() + 0x8000) & 0xffff_0000);
        for dtype in TYPES {
            let weights = Interleaved::new(dtype, 40, 512, &random_blocks(dtype, 40, 512));
            let mut tiles = [0, 1].map(|_| vec![Line([7.0; COLUMNS]); 256]);
            let parts = std::cell::RefCell::new(Vec::new());
            let meanwhile = |tile: usize, part: usize, _: [*const Line; 2]| parts.borrow_mut().push((tile, part));
            weights.tiles([2, 0], 256..512, tiles.each_mut().map(|tiles| &mut tiles[..]), meanwhile);
            assert!(parts.into_inner().into_iter().eq((0..7).flat_map(|tile| (0..16).map(move |part| (tile, part)))));
            for (strip, tiles) in [2, 0].into_iter().zip(&tiles) {
                let mut panel = vec![0.0; 256 * COLUMNS];
                weights.panel(isa(), strip * COLUMNS, 256, 256, &mut panel);
                for (k, lane) in (0..256).flat_map(|k| (0..COLUMNS).map(move |lane| (k, lane))) {
                    let half = |part: usize| {
                        let bits = tiles[k / BLOCK * BLOCK + part * BLOCK / 2 + k % BLOCK / 2].0[lane].to_bits();
                        f32::from_bits(if k % 2 == 0 { bits << 16 } else { bits & 0xffff_0000 })
                    };
                    let value = panel[k * COLUMNS + lane];
                    let high = rounded(value);
                    assert_eq!([half(0), half(1)], [high, rounded(value - high)], "{dtype:?} {k} {lane}");
                }
            }
        }
    }
}
