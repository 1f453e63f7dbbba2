//! Products by matrix tiles (AMX, Intel servers since 2023), of which a core can do five times those of vectors.
//!
//! The tiles multiply numbers of 8 significant bits (`bf16`) and add in `f32`. So each `f32` is taken as the sum of two of them, and of the four
//! products the three that count are made: `hi·lo + hi·hi + lo·hi`. What is left out is about 2⁻¹⁷ of each product, where `f32` leaves 2⁻²⁴.
//! Where that is exact enough (see [`Precision`]) there are no low parts, and one product is made.
//!
//! Both operands lie ready as tiles of 1 KiB, first the high parts, then the low ones: of the left 16 rows of 32 columns, of the right
//! 16 pairs of rows (of 32) by 16 columns.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod x86;

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Once;

use super::gemm::Then;
use super::interleaved::Interleaved;
use super::isa::Isa;
use super::panels::{Line, floats_mut};
use super::pool::{Disjoint, Pool};
use super::precision::Precision;
use super::slab::Lines;
use super::tile::COLUMNS;

/// Rows of the left operand in a tile.
const ROWS: usize = 16;
/// The inner dimension of a tile.
const DEPTH: usize = 32;
/// Lines of a part of a tile.
const LINES: usize = 16;
/// Rows and columns of a block of four tiles of results.
const SIDE: usize = 2 * ROWS;
/// The inner dimension from which on tiles are worth laying out the operands.
const LEAST: usize = 256;
/// The inner dimension from which on products of rounded numbers are made: a tile's.
const LEAST_ROUNDED: usize = DEPTH;
/// Rows of a panel that are decoded at a time.
const NEAR: usize = 256;
/// Lines of an operand that a thread goes through before the next: 768 KiB of a second-level cache of 2 MiB.
const NEAR_LINES: usize = 12 * 1024;
/// The inner dimension up to which sums are made at once; longer ones in parts, which are added.
const DEEP: usize = 1536;
/// Parts for each thread, so that one that is late delays the end by less.
const PARTS: usize = 2;

thread_local! {
    /// Panels that a thread has laid out: at most 768 KiB, kept because fresh memory costs more than what is computed with it.
    static LAID_OUT: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Whether products of this inner dimension are made by tiles. A property of the weights, never of how many rows there are.
pub(super) fn suits(depth: usize, precision: Precision) -> bool {
    #[cfg(test)]
    if tests::OFF.get() {
        return false;
    }
    let least = match precision {
        Precision::F32 => LEAST,
        Precision::Bf16 => LEAST_ROUNDED,
    };
    depth >= least && is_here()
}

/// Does something on this thread without tiles and, where there are some, once more with them.
#[cfg(test)]
pub(super) fn with_and_without(act: impl Fn()) {
    tests::OFF.set(true);
    act();
    tests::OFF.set(false);
    if is_here() {
        act();
    }
}

/// Whether this processor has tiles and the operating system lets this process use them; looked up once.
pub(super) fn is_here() -> bool {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    {
        static HERE: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
        *HERE.get_or_init(|| super::isa::isa() == Isa::Avx512 && x86::is_here())
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    false
}

/// Lines of a tile with all its parts.
const fn tile(precision: Precision) -> usize {
    match precision {
        Precision::F32 => 2 * LINES,
        Precision::Bf16 => LINES,
    }
}

/// Lines of the tiles of `depth` columns of 16 rows, or of as many rows of a panel.
const fn lines(depth: usize, precision: Precision) -> usize {
    depth.div_ceil(DEPTH) * tile(precision)
}

/// Tiles of the left operand: `count` rows of `depth` values, `stride` values apart, one tile after another along the columns; zeros beyond
/// both.
///
/// # Panics
/// If `x` is too short, there are more rows than a tile has, or `out` has not [`lines`].
fn pack_left(x: &[f32], stride: usize, count: usize, depth: usize, precision: Precision, out: &mut [Line]) {
    assert!(count <= ROWS && out.len() == lines(depth, precision) && is_here());
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    // SAFETY: what splits floats is there where tiles are.
    unsafe {
        x86::pack_left(x, stride, count, depth, precision, out);
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    unreachable!("there are no tiles: {} {stride}", x.len());
}

/// Tiles of the right operand, one after another: `count` rows of 16 values, `stride` values apart; zeros beyond.
///
/// # Panics
/// If `values` is too short, or `out` has not [`lines`].
fn pack_right(values: &[f32], stride: usize, count: usize, precision: Precision, out: &mut [Line]) {
    assert!(out.len() == lines(count, precision) && is_here());
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    // SAFETY: as above.
    unsafe {
        x86::pack_right(values, stride, count, precision, out);
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    unreachable!("there are no tiles: {} {stride}", values.len());
}

/// The left operand of products: `rows` rows of `depth` values, `stride` values apart.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
    pub(super) rows: usize,
    pub(super) depth: usize,
    pub(super) precision: Precision,
}

impl Left<'_> {
    /// Lines of the tiles of 16 rows.
    fn lines(&self) -> usize {
        lines(self.depth, self.precision)
    }

    /// Rows whose tiles stay near a thread, a multiple of 32, if that many are left for each of `parts`.
    fn height(&self, parts: usize) -> usize {
        let most = NEAR_LINES / self.lines() * ROWS / SIDE * SIDE;
        self.rows.div_ceil(parts).next_multiple_of(SIDE).min(most.max(SIDE))
    }

    /// The tiles of the rows from `row` on: `[block of 16 rows][tile]`, zeros beyond the end.
    fn lay_out(&self, row: usize, out: &mut [Line]) {
        for (row, out) in (row..).step_by(ROWS).zip(out.chunks_exact_mut(self.lines())) {
            let values = &self.values[(row * self.stride).min(self.values.len())..];
            let count = self.rows.saturating_sub(row).min(ROWS);
            pack_left(values, self.stride, count, self.depth, self.precision, out);
        }
    }
}

/// The right operand of products.
#[derive(Clone, Copy)]
pub(super) enum Right<'a> {
    /// Laid out once, for all products.
    Stored(&'a Stored),
    /// Laid out now.
    Panels(&'a dyn Panels),
}

/// A right operand of which panels of 16 columns can be had.
pub(super) trait Panels: Sync {
    /// `rows` of 16 columns from `first` on, zeros beyond the end: where they lie, or written to `to`. Rows are asked for from multiples of
    /// 256 on, at most 256.
    fn panel<'a>(&'a self, isa: Isa, first: usize, rows: Range<usize>, to: &'a mut [f32]) -> Panel<'a>;

    /// Weights of which tiles can be had without the floats, any multiple of 32 rows at a time.
    fn interleaved(&self) -> Option<&Interleaved> {
        None
    }
}

/// Rows of 16 values that begin `stride` values apart.
#[derive(Clone, Copy)]
pub(super) struct Panel<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
}

/// Weights laid out once: as large as in `f32`, and exact to 2⁻¹⁷.
pub(crate) struct Stored {
    /// `[panel][tile]`
    tiles: Lines,
    /// The inner dimension.
    depth: usize,
}

impl Stored {
    /// `n` columns of `depth` values; zeros beyond.
    pub(super) fn new(isa: Isa, n: usize, depth: usize, from: &dyn Panels) -> Self {
        let size = lines(depth, Precision::F32);
        let mut tiles = Lines::zeros(n.div_ceil(COLUMNS) * size);
        tiles.chunks_exact_mut(size).enumerate().for_each(|(panel, out)| {
            lay_out(isa, from, panel, 0..depth, Precision::F32, out);
        });
        Self { tiles, depth }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.tiles)
    }

    /// `size` lines of the tiles of a panel from row `start` on; none where there is no such panel.
    fn part(&self, panel: usize, start: usize, size: usize) -> &[Line] {
        let at = panel * lines(self.depth, Precision::F32) + lines(start, Precision::F32);
        self.tiles.get(at..at + size).unwrap_or(&[])
    }

    /// Values `start..start + out.len()` of a column.
    pub(super) fn column(&self, column: usize, start: usize, out: &mut [f32]) {
        let (size, lane) = (lines(self.depth, Precision::F32), column % COLUMNS);
        let panel = &self.tiles[column / COLUMNS * size..][..size];
        for (row, out) in (start..).zip(out) {
            let at = row / DEPTH * 2 * LINES + row % DEPTH / 2;
            let [high, low] = [at, at + LINES].map(|line| {
                let bits = panel[line].0[lane].to_bits();
                f32::from_bits(if row % 2 == 0 { bits << 16 } else { bits & 0xffff_0000 })
            });
            *out = high + low;
        }
    }
}

/// The tiles of a panel of a right operand: rows `depth`, which begin with a multiple of 256.
fn lay_out(isa: Isa, right: &dyn Panels, panel: usize, depth: Range<usize>, precision: Precision, out: &mut [Line]) {
    let mut plain = [0.0; NEAR * COLUMNS];
    for start in depth.clone().step_by(NEAR) {
        let rows = start..(start + NEAR).min(depth.end);
        let out = &mut out[lines(start - depth.start, precision)..][..lines(rows.len(), precision)];
        let plain = &mut plain[..rows.len() * COLUMNS];
        let Panel { values, stride } = right.panel(isa, panel * COLUMNS, rows.clone(), plain);
        pack_right(values, stride, rows.len(), precision, out);
    }
}

/// One product of a left operand: `out = A · B + bias`, or with `add` `out += A · B`, where `out` has `n` columns; `then` is applied to what
/// comes out.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    pub(super) right: Right<'a>,
    pub(super) n: usize,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) add: bool,
    pub(super) then: Option<Then>,
    pub(super) out: &'a Disjoint<'a>,
}

/// Two panels of a right operand, or its last one: 32 columns.
#[derive(Clone, Copy)]
struct Pair<'a> {
    product: &'a Product<'a>,
    first: usize,
}

impl Pair<'_> {
    /// Those that exist.
    fn columns(&self) -> Range<usize> {
        self.first * COLUMNS..((self.first + 2) * COLUMNS).min(self.product.n)
    }
}

fn pairs<'a>(products: &'a [Product<'a>], stored: bool) -> Vec<Pair<'a>> {
    let of_kind = products.iter().filter(|product| matches!(product.right, Right::Stored(_)) == stored);
    let of =
        |product: &'a Product<'a>| (0..product.n.div_ceil(COLUMNS)).step_by(2).map(|first| Pair { product, first });
    of_kind.flat_map(of).collect()
}

/// Products of one left operand with several right ones.
///
/// # Safety
/// Each `out` must be this call's alone, as many rows as the left operand has, and initialised if `add`. All of it is then.
///
/// # Panics
/// If the left operand is too short, or one that is stored is multiplied with another precision.
pub(super) unsafe fn products(pool: &Pool, isa: Isa, left: Left<'_>, products: &[Product<'_>]) {
    let Left { values, stride, rows, depth, precision } = left;
    assert!(rows == 0 || values.len() >= (rows - 1) * stride + depth && stride >= depth, "left operand too short");
    let is_stored = |product: &Product<'_>| matches!(product.right, Right::Stored(_));
    assert!(precision == Precision::F32 || !products.iter().any(is_stored), "what is stored has two parts");
    let part = depth.div_ceil(depth.div_ceil(DEEP).max(1)).next_multiple_of(NEAR);
    for start in (0..depth).step_by(part.max(1)) {
        let end = (start + part).min(depth);
        let ends = end == depth;
        let products: Vec<Product<'_>> = products
            .iter()
            .map(|product| Product { add: product.add || start > 0, then: product.then.filter(|_| ends), ..*product })
            .collect();
        let left = Left { values: values.get(start..).unwrap_or(&[]), depth: end - start, ..left };
        // SAFETY: by the contract; what later parts add to was written by those before.
        unsafe {
            with_stored(pool, isa, left, start, &pairs(&products, true));
            with_panels(pool, isa, left, start, &pairs(&products, false));
        }
    }
}

/// [`products`] with operands that are stored, from row `start` on. A thread lays out a block of rows and goes through all columns with it.
///
/// # Safety
/// As [`products`].
unsafe fn with_stored(pool: &Pool, isa: Isa, left: Left<'_>, start: usize, pairs: &[Pair<'_>]) {
    if pairs.is_empty() || left.rows == 0 {
        return;
    }
    let (size, height) = (left.lines(), left.height(pool.threads()));
    let blocks = left.rows.div_ceil(height);
    let mut room = pool.scratch.lines(left.rows.div_ceil(SIDE) * 2 * size);
    let tiles = Disjoint::new(floats_mut(&mut room));
    let laid_out: Vec<Once> = (0..blocks).map(|_| Once::new()).collect();
    // As few groups of columns as give every thread some parts.
    let group = pairs.len().div_ceil((pool.threads() * PARTS).div_ceil(blocks));
    pool.run(pairs.len().div_ceil(group) * blocks, &|part| {
        let (block, pairs) = (part % blocks, &pairs[part / blocks * group..]);
        let rows = block * height..((block + 1) * height).min(left.rows);
        let (at, count) = (rows.start / ROWS * size, rows.len().div_ceil(SIDE) * 2 * size);
        // SAFETY: the blocks do not overlap, their memory is initialised, and each is laid out once, before anyone reads it.
        laid_out[block].call_once(|| left.lay_out(rows.start, unsafe { tiles.lines(at, count) }));
        // SAFETY: as above.
        let tiles = unsafe { tiles.shared_lines(at, count) };
        let registers = Registers::new(left.precision);
        for pair in &pairs[..group.min(pairs.len())] {
            let Right::Stored(stored) = pair.product.right else { continue };
            let panels = [0, 1].map(|index| stored.part(pair.first + index, start, size));
            // SAFETY: these columns of these rows are this part's alone, and initialised where they are added to.
            unsafe { registers.pair(isa, tiles, rows.clone(), *pair, panels) };
        }
    });
}

/// [`products`] with operands that are not stored, from row `start` on. A thread lays out some panels and goes through all rows with them.
///
/// # Safety
/// As [`products`].
unsafe fn with_panels(pool: &Pool, isa: Isa, left: Left<'_>, start: usize, pairs: &[Pair<'_>]) {
    if pairs.is_empty() || left.rows == 0 {
        return;
    }
    let (size, depth) = (left.lines(), start..start + left.depth);
    let mut tiles = pool.scratch.lines(left.rows.div_ceil(SIDE) * 2 * size);
    let to = Disjoint::new(floats_mut(&mut tiles));
    pool.run(left.rows.div_ceil(SIDE), &|block| {
        // SAFETY: the blocks do not overlap, their memory is initialised.
        left.lay_out(block * SIDE, unsafe { to.lines(block * 2 * size, 2 * size) });
    });
    let group = pairs.len().div_ceil(pool.threads() * PARTS);
    let groups: Vec<&[Pair<'_>]> = pairs.chunks(group).collect();
    // Where there are few columns, some threads lay out the same ones for other rows.
    let parts = (pool.threads() * PARTS).div_ceil(groups.len());
    let (most, height) = (left.rows.div_ceil(parts).next_multiple_of(SIDE), left.height(1));
    // Where all rows stay near, there is nothing to gain from more than one pair of panels at a time.
    let together = if tiles.len() > NEAR_LINES { (NEAR_LINES / (2 * size)).clamp(1, group) } else { 1 };
    pool.run(groups.len() * left.rows.div_ceil(most), &|part| {
        let (pairs, rows) = (groups[part % groups.len()], part / groups.len() * most);
        let rows = rows..(rows + most).min(left.rows);
        LAID_OUT.with_borrow_mut(|panels| {
            let count = together * 2 * size;
            if panels.len() < count {
                panels.resize(count, Line([0.0; COLUMNS]));
            }
            let registers = Registers::new(left.precision);
            for pairs in pairs.chunks(together) {
                let ahead = rows.start..(rows.start + SIDE).min(rows.end);
                for (pair, panels) in pairs.iter().zip(panels.chunks_mut(2 * size)) {
                    let Right::Panels(right) = pair.product.right else { continue };
                    let left = &tiles[rows.start / ROWS * size..][..2 * size];
                    // SAFETY: these columns of these rows are this part's alone, and initialised where they are added to.
                    unsafe { registers.lay_out(isa, left, ahead.clone(), *pair, right, depth.clone(), panels) };
                }
                for row in (ahead.end..rows.end).step_by(height) {
                    let rows = row..(row + height).min(rows.end);
                    let tiles = &tiles[row / ROWS * size..];
                    for (pair, panels) in pairs.iter().zip(panels.chunks(2 * size)) {
                        let panels = [&panels[..size], &panels[size..]];
                        // SAFETY: as above.
                        unsafe { registers.pair(isa, tiles, rows.clone(), *pair, panels) };
                    }
                }
            }
        });
    });
}

/// Multiplies tiles in registers on all threads; returns the operations (two a product) that were done, of products of floats, each of
/// which takes three. None where there are no tiles.
#[cfg(feature = "bench")]
pub(super) fn operations(pool: &Pool) -> Option<f64> {
    const STEPS: usize = 20_000;
    if !is_here() {
        return None;
    }
    let parts = pool.threads() * 16;
    pool.run(parts, &|_| {
        let _registers = Registers::new(Precision::F32);
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        // SAFETY: the registers are laid out.
        unsafe {
            x86::multiply_registers(STEPS)
        };
    });
    Some((parts * STEPS * 4 * ROWS * COLUMNS * DEPTH * 2) as f64 / 3.0)
}

/// The tile registers of this thread, laid out for these products as long as this lives.
struct Registers(Precision);

impl Registers {
    /// # Panics
    /// If there are none: see [`is_here`].
    fn new(precision: Precision) -> Self {
        assert!(is_here());
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        // SAFETY: tiles are there, and the process may use them.
        unsafe {
            x86::lay_out()
        };
        Self(precision)
    }

    /// The results of `rows` in the columns of a pair of panels. `left` has the tiles of these rows.
    ///
    /// # Safety
    /// As [`Registers::block`].
    unsafe fn pair(&self, isa: Isa, left: &[Line], rows: Range<usize>, pair: Pair<'_>, panels: [&[Line]; 2]) {
        let size = panels[0].len();
        // Where a panel is the last, what comes out beside it is not used.
        let right = if pair.columns().len() > COLUMNS { panels } else { [panels[0]; 2] };
        for (row, left) in rows.clone().step_by(SIDE).zip(left.chunks_exact(2 * size)) {
            let (above, below) = left.split_at(size);
            // SAFETY: by the contract.
            unsafe { self.block(isa, row..(row + SIDE).min(rows.end), pair, || self.multiply([above, below], right)) };
        }
    }

    /// As [`Registers::pair`] for at most 32 rows, of panels that are laid out meanwhile: rows `depth` of the right operand, into `panels`. The one keeps the units of
    /// vectors busy, the other those of tiles.
    ///
    /// # Safety
    /// As [`Registers::block`].
    #[allow(clippy::too_many_arguments)]
    unsafe fn lay_out(
        &self,
        isa: Isa,
        left: &[Line],
        rows: Range<usize>,
        pair: Pair<'_>,
        right: &dyn Panels,
        depth: Range<usize>,
        panels: &mut [Line],
    ) {
        let size = lines(depth.len(), self.0);
        let (above, below) = left.split_at(size);
        let (first, second) = panels.split_at_mut(size);
        let both = pair.columns().len() > COLUMNS;
        let multiply = || {
            // Weights in blocks are decoded into tiles of two parts.
            if let (Some(weights), Precision::F32) = (right.interleaved(), self.0) {
                // Where a panel is the last, it is its own neighbour: what comes out beside it is not used.
                let strips = [pair.first, pair.first + usize::from(both)];
                return self.multiply_meanwhile([above, below], weights, strips, depth, [first, second]);
            }
            for start in depth.clone().step_by(NEAR) {
                let part = start..(start + NEAR).min(depth.end);
                let at = lines(start - depth.start, self.0)..lines(part.end - depth.start, self.0);
                lay_out(isa, right, pair.first, part.clone(), self.0, &mut first[at.clone()]);
                if both {
                    lay_out(isa, right, pair.first + 1, part, self.0, &mut second[at.clone()]);
                }
                let right = [&first[at.clone()], if both { &second[at.clone()] } else { &first[at.clone()] }];
                self.multiply([&above[at.clone()], &below[at]], right);
            }
        };
        // SAFETY: by the contract.
        unsafe { self.block(isa, rows, pair, multiply) };
    }

    /// The block of results of `rows`, at most 32, in the columns of a pair; `multiply` adds the products to the sums in the registers.
    ///
    /// # Safety
    /// These columns of these rows must be this thread's alone, and initialised where they are added to.
    unsafe fn block(&self, isa: Isa, rows: Range<usize>, pair: Pair<'_>, multiply: impl FnOnce()) {
        let (Product { n, bias, add, then, out, .. }, columns) = (*pair.product, pair.columns());
        let at = out.pointer(rows.start * n + columns.start, (rows.len() - 1) * n + columns.len());
        let bias = bias.filter(|_| !add).map(|bias| &bias[columns.clone()]);
        if rows.len() == SIDE && columns.len() == SIDE {
            let from = if add { Some((at.cast_const(), n)) } else { bias.map(|row| (row.as_ptr(), 0)) };
            // SAFETY: all 32 rows and columns are there, by the contract; a row that is the same for each has as many columns.
            unsafe { self.sums(from, multiply, at, n) };
        } else {
            let mut whole = [[0.0f32; SIDE]; SIDE];
            for (r, whole) in whole.iter_mut().enumerate().take(rows.len()) {
                if let Some(row) = bias {
                    whole[..columns.len()].copy_from_slice(row);
                } else if add {
                    // SAFETY: inside the block, initialised by the contract.
                    unsafe { at.add(r * n).copy_to_nonoverlapping(whole.as_mut_ptr(), columns.len()) };
                }
            }
            let place: *mut f32 = whole.as_mut_ptr().cast();
            // SAFETY: 32 rows of 32 floats, and a part of them into the block.
            unsafe {
                self.sums(Some((place, SIDE)), multiply, place, SIDE);
                for (r, whole) in whole.iter().enumerate().take(rows.len()) {
                    at.add(r * n).copy_from_nonoverlapping(whole.as_ptr(), columns.len());
                }
            }
        }
        if let Some(then) = then {
            // SAFETY: by the contract, and written now.
            rows.for_each(|row| then(isa, unsafe { out.slice(row * n + columns.start, columns.len()) }));
        }
    }

    /// Four tiles of results, 32 rows by 32 columns, from zeros or what `from` points to, whose rows are as far apart as it says.
    ///
    /// # Safety
    /// The 32 floats of 32 rows, `stride` floats apart from `out` on, must be valid for writing by this thread alone, those of `from` for
    /// reading.
    unsafe fn sums(&self, from: Option<(*const f32, usize)>, multiply: impl FnOnce(), out: *mut f32, stride: usize) {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        // SAFETY: the registers are laid out; `from` and `out` by the contract.
        unsafe {
            x86::begin(from);
            multiply();
            x86::end(out, stride);
        };
        #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
        {
            multiply();
            unreachable!("there are no tiles: {from:?} {out:?} {stride}");
        }
    }

    /// Adds the products of tiles that lie one after another to the sums.
    ///
    /// # Panics
    /// If the operands have not the same number of tiles.
    fn multiply(&self, [a, below]: [&[Line]; 2], [b, beside]: [&[Line]; 2]) {
        let (tiles, size) = (a.len() / tile(self.0), a.len());
        assert!(size == tiles * tile(self.0) && [below, b, beside].iter().all(|tiles| tiles.len() == size));
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        // SAFETY: the registers are laid out; the operands were checked.
        unsafe {
            let operands = [a, below, b, beside].map(|tiles| tiles.as_ptr().cast());
            match self.0 {
                Precision::F32 => x86::multiply(tiles, operands),
                Precision::Bf16 => x86::multiply_rounded(tiles, operands),
            }
        };
    }

    /// Lays out the columns `depth` of two strips, and adds their products with the left operand to the sums: a tile's while the next is laid out.
    ///
    /// # Panics
    /// If the strips have no such columns, or an operand has not as many tiles, of two parts.
    fn multiply_meanwhile(
        &self,
        left: [&[Line]; 2],
        weights: &Interleaved,
        strips: [usize; 2],
        depth: Range<usize>,
        right: [&mut [Line]; 2],
    ) {
        let size = lines(depth.len(), Precision::F32);
        assert!(self.0 == Precision::F32 && left.iter().all(|tiles| tiles.len() == size));
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        {
            let [a, below] = left.map(|tiles| tiles.as_ptr().cast::<u8>());
            let last = (depth.len() / DEPTH).saturating_sub(1) * 2 * LINES;
            let multiply = |tile: usize, part: usize, [b, beside]: [*const Line; 2]| {
                let at = tile * 2 * LINES * size_of::<Line>();
                // SAFETY: the registers are laid out; each operand has this tile, the left ones as was checked.
                unsafe { x86::multiply_part(part, [a.add(at), below.add(at), b.cast(), beside.cast()]) };
            };
            let [first, second] = right;
            weights.tiles(strips, depth, [&mut *first, &mut *second], multiply);
            self.multiply(left.map(|tiles| &tiles[last..]), [&first[last..], &second[last..]]);
        }
        #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
        unreachable!("there are no tiles: {strips:?} {} {}", weights.bytes(), right.len());
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
impl Drop for Registers {
    fn drop(&mut self) {
        // SAFETY: tiles are there; what they hold is not used any more.
        unsafe { x86::release() };
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::isa::isa;
    use super::*;

    thread_local! {
        pub(super) static OFF: Cell<bool> = const { Cell::new(false) };
    }

    fn numbers(len: usize, salt: usize) -> Vec<f32> {
        (0..len).map(|i| (((i * 37 + salt * 11) % 1009) as f32 / 503.0 - 1.0) * 1.234_567).collect()
    }

    /// The nearest number of 8 significant bits, ties to even.
    fn rounded(value: f32) -> f32 {
        half::bf16::from_f32(value).to_f32()
    }

    /// The nearest number of 8 significant bits, the greater of two.
    fn rounded_up(value: f32) -> f32 {
        f32::from_bits((value.to_bits() + 0x8000) & 0xffff_0000)
    }

    /// The parts of 16 values that are every second half of lines of 32.
    fn halves(line: &Line, second: bool) -> [f32; COLUMNS] {
        line.0.map(|pair| f32::from_bits(if second { pair.to_bits() & 0xffff_0000 } else { pair.to_bits() << 16 }))
    }

    fn bits(line: &Line) -> [u32; COLUMNS] {
        line.0.map(f32::to_bits)
    }

    #[test]
    fn tiles_hold_sixteen_bits_in_two_parts() {
        if !is_here() {
            return; // There are no tiles here that could be wrong.
        }
        let mut values = numbers(40 * 37, 3);
        values[..4].copy_from_slice(&[0.0, -0.0, 1e-30, 3e38]);
        // Columns 0 to 36 of 13 rows, 40 apart.
        let mut left = vec![Line([7.0; COLUMNS]); lines(37, Precision::F32)];
        pack_left(&values, 40, 13, 37, Precision::F32, &mut left);
        let mut alone = vec![Line([7.0; COLUMNS]); lines(37, Precision::Bf16)];
        pack_left(&values, 40, 13, 37, Precision::Bf16, &mut alone);
        // Without low parts, the high ones lie one after another.
        let high =
            |tiles: &[Line]| tiles.chunks(2 * LINES).flat_map(|tile| &tile[..LINES]).map(bits).collect::<Vec<_>>();
        assert_eq!(alone.iter().map(bits).collect::<Vec<_>>(), high(&left));
        for (row, column) in (0..ROWS).flat_map(|row| (0..2 * DEPTH).map(move |column| (row, column))) {
            let value = if row < 13 && column < 37 { values[row * 40 + column] } else { 0.0 };
            let line = column / DEPTH * 2 * LINES + row;
            let at = |line: usize| halves(&left[line], column % 2 == 1)[column % DEPTH / 2];
            assert_eq!((at(line), at(line + ROWS)), (rounded(value), rounded(value - rounded(value))));
        }
        // 21 rows of 16 columns, 40 apart. Of two numbers as near the greater is taken.
        let rounded = rounded_up;
        let mut right = vec![Line([7.0; COLUMNS]); 2 * LINES];
        pack_right(&values, 40, 21, Precision::F32, &mut right);
        let mut alone = vec![Line([7.0; COLUMNS]); LINES];
        pack_right(&values, 40, 21, Precision::Bf16, &mut alone);
        assert_eq!(alone.iter().map(bits).collect::<Vec<_>>(), high(&right));
        for (row, column) in (0..DEPTH).flat_map(|row| (0..COLUMNS).map(move |column| (row, column))) {
            let value = if row < 21 { values[row * 40 + column] } else { 0.0 };
            let at = |line: usize| halves(&right[line], row % 2 == 1)[column];
            assert_eq!((at(row / 2), at(DEPTH / 2 + row / 2)), (rounded(value), rounded(value - rounded(value))));
        }
        let odd = [f32::NAN, f32::INFINITY];
        let mut line = vec![Line([0.0; COLUMNS]); 2 * LINES];
        pack_left(&odd, 2, 1, 2, Precision::F32, &mut line);
        assert!(halves(&line[0], false)[0].is_nan() && halves(&line[0], true)[0] == f32::INFINITY);
    }

    struct Plain<'a> {
        values: &'a [f32],
        n: usize,
    }

    impl Panels for Plain<'_> {
        fn panel<'a>(&'a self, _: Isa, first: usize, rows: Range<usize>, to: &'a mut [f32]) -> Panel<'a> {
            for (row, to) in rows.zip(to.chunks_exact_mut(COLUMNS)) {
                let at =
                    |lane: usize| if first + lane < self.n { self.values[row * self.n + first + lane] } else { 0.0 };
                to.iter_mut().enumerate().for_each(|(lane, to)| *to = at(lane));
            }
            Panel { values: to, stride: COLUMNS }
        }
    }

    /// Where there are no tiles, products never come here.
    #[test]
    fn products_are_the_plain_ones_on_any_number_of_threads() {
        if !is_here() {
            assert!(!suits(1 << 20, Precision::F32) && !suits(1 << 20, Precision::Bf16));
            return;
        }
        let shapes = [
            [1, 256, 1],
            [3, 300, 17],
            [32, 256, 32],
            [33, 544, 48],
            [70, 1000, 70],
            [300, 257, 100],
            [40, 3300, 41],
            [50, 40, 33],
        ];
        for ([m, k, n], precision) in
            shapes.into_iter().flat_map(|shape| [Precision::F32, Precision::Bf16].map(|precision| (shape, precision)))
        {
            let (x, w, bias) = (numbers(m * (k + 5), 1), numbers(k * n, 2), numbers(n, 3));
            let right = Plain { values: &w, n };
            let stored = Stored::new(isa(), n, k, &right);
            let mut column = vec![0.0; k - 2];
            stored.column(n - 1, 2, &mut column);
            let near = |(row, value): (usize, &f32)| (value - w[(row + 2) * n + n - 1]).abs() <= 1e-5;
            assert!(column.iter().enumerate().all(near));
            let of = |threads: usize, rows: Range<usize>, right: Right<'_>, bias: Option<&[f32]>, add: bool, then| {
                let pool = Pool::new(threads);
                let (values, stride) = (&x[rows.start * (k + 5)..], k + 5);
                let left = Left { values, stride, rows: rows.len(), depth: k, precision };
                let mut out = vec![if add { 2.0 } else { f32::NAN }; rows.len() * n];
                let target = Disjoint::new(&mut out);
                let product = Product { right, n, bias, add, then, out: &target };
                // SAFETY: the memory is this call's alone, initialised.
                unsafe { products(&pool, isa(), left, &[product]) };
                out
            };
            let run = |threads: usize, rows: Range<usize>, bias: Option<&[f32]>, add: bool, then: Option<Then>| {
                let out = of(threads, rows.clone(), Right::Panels(&right), bias, add, then);
                if precision == Precision::F32 {
                    assert_eq!(of(2, rows, Right::Stored(&stored), bias, add, then), out);
                }
                out
            };
            let (plain, biased, added) = (
                run(1, 0..m, None, false, None),
                run(3, 0..m, Some(&bias), false, None),
                run(2, 0..m, None, true, None),
            );
            // Products of rounded numbers are exact; only the sums are rounded.
            let (left, right, share) = match precision {
                Precision::F32 => (x.clone(), w.clone(), 50_000.0),
                Precision::Bf16 => {
                    (x.iter().copied().map(rounded).collect(), w.iter().copied().map(rounded_up).collect(), 1e6)
                }
            };
            for (row, column) in (0..m).flat_map(|row| (0..n).map(move |column| (row, column))) {
                let terms = (0..k).map(|i| f64::from(left[row * (k + 5) + i]) * f64::from(right[i * n + column]));
                let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
                let at = row * n + column;
                let bound = size / share;
                let off = |got: f32, more: f32| (f64::from(got) - sum - f64::from(more)).abs();
                assert!(
                    off(plain[at], 0.0) <= bound
                        && off(biased[at], bias[column]) <= bound + 1e-6
                        && off(added[at], 2.0) <= bound + 1e-6,
                    "{m} {k} {n} {precision}: {} {sum} {size}",
                    plain[at]
                );
            }
            assert_eq!(run(3, 0..m, None, false, None), plain);
            let doubled = run(2, 0..m, None, false, Some(|_, x| x.iter_mut().for_each(|x| *x *= 2.0)));
            assert!(doubled.iter().zip(&plain).all(|(doubled, once)| *doubled == 2.0 * once));
            // A row does not depend on its company.
            let alone = run(1, m - 1..m, None, false, None);
            assert_eq!(alone, plain[(m - 1) * n..]);
        }
    }
}
