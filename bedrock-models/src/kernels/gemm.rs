//! Products of activations with stored weights: `y = x · Wᵀ + b`.
//!
//! Many rows at once (prompts, encoders) go through 6 × 16 tiles in `f32`: a panel of 16 weight rows by 256 columns (512 with AVX-512) is decoded once
//! and used by all rows, so the cost of decoding vanishes with the number of rows and no quantised format needs
//! a product of its own; with AVX-512 four panels make tiles of 6 × 64. Where the processor has matrix tiles and the sums are long, those take
//! the same panels ([`amx`]). A decode step instead streams the weights once, against
//! quantised activations where the format has an integer kernel. A [`prompt`] does so too where there are no matrix tiles, but instructions that sum products of
//! bytes: with two bytes an activation they need half the steps of `f32`; with one there are products of their own where vectors are wide ([`bytewise`](super::bytewise)). Which of the two runs is the caller's choice, never a matter of how many
//! rows there happen to be: so a request's numbers do not depend on its company.

use std::cell::RefCell;
use std::ops::Range;

use super::activation::{BLOCK, QuantizedRows};
use super::amx;
#[cfg(target_arch = "x86_64")]
use super::bytewise;
#[cfg(target_arch = "x86_64")]
use super::interleaved::DEPTH;
use super::interleaved::Out;
use super::isa::{Isa, isa};
use super::matrix::{Activations, Matrix, Storage};
use super::panels::{Line, floats, floats_mut};
use super::pool::{Disjoint, Pool};
use super::precision::Precision;
use super::tile::{COLUMNS, ROWS, Start, Tile, WIDE, has_wide, tile_at, wide_at};

/// What is computed with what, so that it is found in a near cache.
#[derive(Clone, Copy)]
struct Blocking {
    /// Columns of the weights decoded at a time.
    depth: usize,
    /// Panels decoded together.
    panels: usize,
    /// Input rows that meet them before the next rows do.
    height: usize,
    /// Bytes of input that meet all weights before the next rows do, where nothing has to be decoded.
    input: usize,
}

impl Blocking {
    const fn of(isa: Isa) -> Self {
        if has_wide(isa) {
            // 512 KiB of weights and 192 of input, in second-level caches of 1 MiB and more. Deeper tiles than a first-level cache holds, because
            // the weights arrive from the second as fast as they are used, and sums are stored and added to half as often.
            Self { depth: 512, panels: 4 * GROUP, height: 16 * ROWS, input: usize::MAX }
        } else {
            // A panel of 16 × 256 floats is half of a first-level cache of 32 KiB; 64 KiB of weights and 160 of input, in a second-level cache of 512 KiB.
            Self { depth: 256, panels: GROUP, height: 26 * ROWS, input: 256 * 1024 }
        }
    }
}

/// Panels side by side that are one tile where tiles are wide.
pub(super) const GROUP: usize = WIDE / COLUMNS;

thread_local! {
    /// Decoded panels of a thread: at most 512 KiB, kept because fresh memory costs more than what is computed with it.
    static DECODED: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// A function of each value of a result, applied while it is in the cache.
pub(crate) type Then = fn(Isa, &mut [f32]);

/// One product of a call.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    pub(crate) weights: &'a Matrix,
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) then: Option<Then>,
}

/// Results of the products of one call, `[rows, weights.rows()]` each, written in parts by several threads.
pub(super) struct Results<'a, const N: usize> {
    products: &'a [Product<'a>; N],
    outs: [Vec<f32>; N],
}

impl<'a, const N: usize> Results<'a, N> {
    pub(super) fn new(pool: &Pool, x: &[f32], rows: usize, products: &'a [Product<'a>; N]) -> Self {
        for product in products {
            assert_eq!(x.len(), rows * product.weights.columns(), "input of another width than {:?}", product.weights);
            assert!(product.bias.is_none_or(|bias| bias.len() == product.weights.rows()));
        }
        let room = |product: Product<'_>| pool.memory.room(rows * product.weights.rows());
        Self { products, outs: products.map(room) }
    }

    pub(super) fn targets(&mut self, rows: usize) -> [(Product<'a>, Disjoint<'_>); N] {
        let mut products = self.products.iter();
        self.outs.each_mut().map(|out| {
            let product = products.next().expect("one product a result");
            let len = rows * product.weights.rows();
            (*product, Disjoint::unwritten(&mut out.spare_capacity_mut()[..len]))
        })
    }

    /// # Safety
    /// Every value of every target must have been written.
    pub(super) unsafe fn finish(mut self, rows: usize) -> [Vec<f32>; N] {
        for (out, product) in self.outs.iter_mut().zip(self.products) {
            // SAFETY: the capacity was asked for in `new`; written by the contract.
            unsafe { out.set_len(rows * product.weights.rows()) };
        }
        self.outs
    }
}

/// A part of a parallel region: some units (panels, strips) of one product, for some of the rows of the input.
pub(super) struct Part {
    pub(super) product: usize,
    pub(super) first: usize,
    pub(super) count: usize,
    rows: Range<usize>,
}

/// The parts of a region, block of rows by block of rows; each is a multiple of `smallest` units, but for the last of a product.
pub(super) fn parts(
    units: impl Iterator<Item = usize>,
    rows: usize,
    height: usize,
    threads: usize,
    smallest: usize,
) -> Vec<Part> {
    let units: Vec<usize> = units.collect();
    // Several parts a thread, so that one that is late delays the end by little.
    let size = (units.iter().sum::<usize>() * rows.div_ceil(height)).div_ceil(threads * 10).next_multiple_of(smallest);
    parts_of(&units, rows, height, |_| size)
}

/// Parts that become smaller, each a part of what a thread has of what is left, so that all threads end together: for threads that take one after another.
#[cfg(target_arch = "x86_64")]
pub(super) fn falling_parts(
    units: impl Iterator<Item = usize>,
    rows: usize,
    threads: usize,
    smallest: usize,
) -> Vec<Part> {
    let units: Vec<usize> = units.collect();
    let mut left: usize = units.iter().sum();
    parts_of(&units, rows, rows, |most| {
        let size = (left / (2 * threads)).max(1).next_multiple_of(smallest);
        left -= size.min(most);
        size
    })
}

/// Parts of the sizes that `size` gives for what a product has left, or of all of that.
fn parts_of(units: &[usize], rows: usize, height: usize, mut size: impl FnMut(usize) -> usize) -> Vec<Part> {
    let mut parts = Vec::new();
    for start in (0..rows).step_by(height) {
        let rows = start..(start + height).min(rows);
        for (product, &units) in units.iter().enumerate() {
            let mut first = 0;
            while first < units {
                let count = size(units - first).min(units - first);
                parts.push(Part { product, first, count, rows: rows.clone() });
                first += count;
            }
        }
    }
    parts
}

/// Products of `rows` rows in `f32`, tile by tile.
///
/// # Panics
/// If the widths disagree.
pub(crate) fn products<const N: usize>(
    pool: &Pool,
    x: &[f32],
    rows: usize,
    products: &[Product<'_>; N],
) -> [Vec<f32>; N] {
    products_of(pool, Precision::F32, x, rows, products)
}

/// [`products`] of numbers of that precision, where the processor has faster products of such.
///
/// # Panics
/// As [`products`].
pub(crate) fn products_of<const N: usize>(
    pool: &Pool,
    precision: Precision,
    x: &[f32],
    rows: usize,
    products: &[Product<'_>; N],
) -> [Vec<f32>; N] {
    let isa = isa();
    let blocking = Blocking::of(isa);
    let mut results = Results::new(pool, x, rows, products);
    let targets = results.targets(rows);
    let width = products.first().map(|product| product.weights.columns());
    if let Some(width) = width.filter(|width| amx::suits(*width, precision)) {
        let left = amx::Left { values: x, stride: width, rows, depth: width, precision };
        let items = targets.each_ref().map(|(Product { weights, bias, then }, out)| {
            let right = match weights.storage() {
                Storage::Tiles(weights) if precision == Precision::F32 => amx::Right::Stored(weights),
                _ => amx::Right::Panels(*weights),
            };
            amx::Product { right, n: weights.rows(), bias: *bias, add: false, then: *then, out }
        });
        // SAFETY: each result is this call's alone.
        unsafe { amx::products(pool, isa, left, &items) };
        // SAFETY: all of each result was written.
        return unsafe { results.finish(rows) };
    }
    // Wide tiles need whole groups of panels.
    let smallest = if has_wide(isa) { GROUP } else { 1 };
    // What is decoded should meet all rows. What lies ready need not, so that the input stays near.
    let ready = products.iter().all(|p| matches!(p.weights.storage(), Storage::Panels(_)));
    let widest = products.iter().map(|p| p.weights.columns()).max().unwrap_or(1);
    let near = (blocking.input / (4 * widest)).clamp(1, rows.max(1)).next_multiple_of(ROWS);
    let block = if ready { near } else { rows.max(1) };
    let panels = products.iter().map(|p| p.weights.rows().div_ceil(COLUMNS));
    let parts = parts(panels, rows, block, pool.threads(), smallest);
    pool.run_in_order(parts.len(), &|part| {
        let part = &parts[part];
        let (product, out) = &targets[part.product];
        DECODED.with_borrow_mut(|decoded| multiply(isa, blocking, x, part, product, out, decoded));
    });
    // SAFETY: the parts cover all columns of all rows, and each writes its own; a matrix has at least one column of input.
    unsafe { results.finish(rows) }
}

/// A part of a product.
fn multiply(
    isa: Isa,
    blocking: Blocking,
    x: &[f32],
    part: &Part,
    product: &Product<'_>,
    out: &Disjoint<'_>,
    decoded: &mut Vec<Line>,
) {
    let &Part { first, count, ref rows, .. } = part;
    let Product { weights, bias, then } = *product;
    let (n, width) = (weights.rows(), weights.columns());
    let stored = match weights.storage() {
        Storage::Panels(stored) => Some(stored),
        _ => {
            let lines = blocking.panels.min(count) * blocking.depth.min(width);
            decoded.resize(lines.max(decoded.len()), Line([0.0; COLUMNS]));
            None
        }
    };
    for group in (first..first + count).step_by(blocking.panels) {
        let panels = group..(group + blocking.panels).min(first + count);
        for start in (0..width).step_by(blocking.depth) {
            let depth = blocking.depth.min(width - start);
            if stored.is_none() {
                for (panel, decoded) in panels.clone().zip(decoded.chunks_exact_mut(depth)) {
                    weights.panel(isa, panel * COLUMNS, start, depth, floats_mut(decoded));
                }
            }
            let at = |panel: usize| match stored {
                Some(stored) => stored.part(panel * COLUMNS, start),
                None => floats(&decoded[(panel - panels.start) * depth..][..depth]),
            };
            for block in rows.clone().step_by(blocking.height) {
                let block = block..(block + blocking.height).min(rows.end);
                for four in panels.clone().step_by(GROUP) {
                    let columns = four * COLUMNS..(four + GROUP).min(panels.end) * COLUMNS;
                    let sides = std::array::from_fn(|i| if four + i < panels.end { at(four + i) } else { &[] });
                    // SAFETY: these columns of these rows belong to this part alone, which has written them when `start` was 0.
                    unsafe {
                        let first = start == 0;
                        tiles(isa, first, x, width, start, depth, block.clone(), columns, &sides, bias, out, n)
                    };
                }
                if let Some(then) = then.filter(|_| start + depth == width) {
                    let columns = panels.start * COLUMNS..(panels.end * COLUMNS).min(n);
                    for row in block {
                        // SAFETY: these columns of this row belong to this part alone, which has written them.
                        then(isa, unsafe { out.slice(row * n + columns.start, columns.len()) });
                    }
                }
            }
        }
    }
}

/// The tiles of a block of rows and up to four panels, which are the weights' columns `start..start + depth`. They add to what is in
/// `out`, or, `first`, to the bias.
///
/// # Safety
/// The `columns` of the rows of `out`, rows of `n`, must be this thread's alone, and initialised unless `first`.
#[allow(clippy::too_many_arguments)]
pub(super) unsafe fn tiles(
    isa: Isa,
    first: bool,
    x: &[f32],
    width: usize,
    start: usize,
    depth: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    panels: &[&[f32]; GROUP],
    bias: Option<&[f32]>,
    out: &Disjoint<'_>,
    n: usize,
) {
    let mut from = [0.0; WIDE];
    if let Some(bias) = bias {
        let lanes = columns.end.min(n) - columns.start;
        from[..lanes].copy_from_slice(&bias[columns.start..columns.start + lanes]);
    }
    if has_wide(isa) && columns.start + WIDE <= n.min(columns.end) {
        let from = first.then_some(&from);
        for row in rows.clone().step_by(ROWS) {
            let height = ROWS.min(rows.end - row);
            let to = out.pointer(row * n + columns.start, (height - 1) * n + WIDE);
            // SAFETY: by the contract; the last row's end was checked by `pointer`.
            unsafe { wide_at(isa, height, depth, &x[row * width + start..], width, *panels, COLUMNS, from, to, n) };
        }
        return;
    }
    for (panel, column) in columns.step_by(COLUMNS).enumerate() {
        let lanes = COLUMNS.min(n - column);
        let from: &[f32; COLUMNS] = from[panel * COLUMNS..][..COLUMNS].try_into().expect("16 floats");
        let from = if first { Start::Row(from) } else { Start::Out };
        for row in rows.clone().step_by(ROWS) {
            let height = ROWS.min(rows.end - row);
            let (a, at) = (&x[row * width + start..], row * n + column);
            let to = out.pointer(at, (height - 1) * n + lanes);
            // SAFETY: by the contract; the last row's end was checked by `pointer`.
            unsafe {
                if lanes == COLUMNS {
                    tile_at(isa, height, depth, a, width, panels[panel], COLUMNS, from, to, n);
                } else {
                    narrow(isa, height, depth, a, width, panels[panel], from, to, n, lanes);
                }
            }
        }
    }
}

/// A tile of which only the first `lanes` columns exist in `out`.
///
/// # Safety
/// As [`tile_at`], for `lanes` floats a row.
#[allow(clippy::too_many_arguments)]
unsafe fn narrow(
    isa: Isa,
    rows: usize,
    depth: usize,
    a: &[f32],
    lda: usize,
    panel: &[f32],
    start: Start<'_>,
    out: *mut f32,
    ldo: usize,
    lanes: usize,
) {
    let mut whole: Tile = [[0.0; COLUMNS]; ROWS];
    // SAFETY: by the contract on `out`; a tile holds 6 rows of 16 floats.
    unsafe {
        if matches!(start, Start::Out) {
            for (r, row) in whole.iter_mut().enumerate().take(rows) {
                out.add(r * ldo).copy_to_nonoverlapping(row.as_mut_ptr(), lanes);
            }
        }
        tile_at(isa, rows, depth, a, lda, panel, COLUMNS, start, whole.as_mut_ptr().cast(), COLUMNS);
        for (r, row) in whole.iter().enumerate().take(rows) {
            out.add(r * ldo).copy_from_nonoverlapping(row.as_ptr(), lanes);
        }
    }
}

/// Bytes of quantised rows that meet all strips of a chunk before the next rows do: half of a second-level cache of 1 MiB.
const ROW_BYTES: usize = 512 * 1024;

/// Products of a prompt's rows, or an encoder's. By matrix tiles where there are any; else by integers, if those of 8 bits are asked for, or have 16, which is as exact as matrix tiles
/// are and faster than `f32`; by [`products`] otherwise. Those of 8 bits are [`bytewise`](super::bytewise) where vectors are wide.
///
/// # Panics
/// If the widths disagree.
pub(crate) fn prompt<const N: usize>(
    pool: &Pool,
    x: &[f32],
    rows: usize,
    activations: Activations,
    products: &[Product<'_>; N],
) -> [Vec<f32>; N] {
    let faster = activations == Activations::Int8 || isa().planes() == 2;
    if !faster || amx::is_here() || !products.iter().all(|product| is_integer(activations, product)) {
        return self::products(pool, x, rows, products);
    }
    #[cfg(target_arch = "x86_64")]
    if activations == Activations::Int8 && bytewise::suits(isa(), rows, products) {
        let mut results = Results::new(pool, x, rows, products);
        let targets = results.targets(rows);
        bytewise::products(pool, isa(), x, rows, &targets);
        // SAFETY: all of each target was written.
        return unsafe { results.finish(rows) };
    }
    stream(pool, x, rows, activations, products)
}

/// Whether this product is computed with quantised activations.
fn is_integer(activations: Activations, product: &Product<'_>) -> bool {
    activations != Activations::Float && matches!(product.weights.storage(), Storage::Interleaved(_))
}

/// Products of `rows` rows that stream each weight once for as many of them as a cache holds: what a decode step does.
///
/// # Panics
/// If the widths disagree.
pub(crate) fn stream<const N: usize>(
    pool: &Pool,
    x: &[f32],
    rows: usize,
    activations: Activations,
    products: &[Product<'_>; N],
) -> [Vec<f32>; N] {
    let isa = isa();
    let mut results = Results::new(pool, x, rows, products);
    if rows == 0 || N == 0 {
        return results.outs;
    }
    let targets = results.targets(rows);
    let width = products[0].weights.columns();
    let integer = |product: &Product<'_>| is_integer(activations, product);
    let planes = activations.planes(isa);
    let quantized = products.iter().any(integer).then(|| QuantizedRows::new(pool, isa, planes, x, width));
    // At least about 32 KiB of weights a chunk, or fewer for more rows: less costs more to hand out than to do.
    let strips = |p: &Product<'_>| p.weights.rows().div_ceil(p.weights.strip());
    let bytes = products.iter().map(|p| p.weights.bytes() / strips(p)).max();
    let smallest = (32 * 1024 / (bytes.unwrap_or(1).max(1) * rows.div_ceil(4))).max(1);
    // Strips in pairs share a block of rows, and then meet some of its columns at a time.
    let in_pairs = |product: &Product<'_>| match product.weights.storage() {
        Storage::Interleaved(interleaved) if integer(product) => interleaved.in_pairs(isa, planes, rows),
        _ => false,
    };
    let smallest = if products.iter().any(in_pairs) { smallest.max(2) } else { smallest };
    let parts = parts(products.iter().map(strips), rows, rows, pool.threads(), smallest);
    let height = |columns: usize| {
        let row_bytes = columns / BLOCK * QuantizedRows::block_bytes(planes);
        (ROW_BYTES / row_bytes.max(1)).next_multiple_of(8).max(8)
    };
    pool.run_in_order(parts.len(), &|part| {
        let &Part { product, first, count, .. } = &parts[part];
        let (product, out) = &targets[product];
        let Product { weights, bias, then } = *product;
        let (n, strip_rows) = (weights.rows(), weights.strip());
        // What the sums of a strip start from, or of several.
        let put_bias = |strip: usize, start: &mut [f32]| {
            if let Some(bias) = bias {
                let rows = strip * strip_rows..(strip * strip_rows + start.len()).min(n);
                start[..rows.len()].copy_from_slice(&bias[rows]);
            }
        };
        let start_of = |strip: usize| {
            let mut start = [0.0; COLUMNS];
            put_bias(strip, &mut start[..strip_rows]);
            start
        };
        match (weights.storage(), &quantized) {
            #[cfg(target_arch = "x86_64")]
            (Storage::Interleaved(interleaved), Some(x)) if in_pairs(product) => {
                let mut start = vec![0.0; count * strip_rows];
                put_bias(first, &mut start);
                let (height, lanes) = (height(width.min(DEPTH)), (count * strip_rows).min(n - first * strip_rows));
                for block in (0..rows).step_by(height) {
                    let block = block..(block + height).min(rows);
                    let at = out.pointer(block.start * n + first * strip_rows, (block.len() - 1) * n + lanes);
                    let out = Out { at, stride: n, lanes, start: &start };
                    // SAFETY: as below.
                    unsafe { interleaved.dot_pairs(isa, first..first + count, x, block, out) };
                }
            }
            (Storage::Interleaved(interleaved), Some(x)) if integer(product) => {
                let height = height(width);
                for block in (0..rows).step_by(height) {
                    let block = block..(block + height).min(rows);
                    for strip in first..first + count {
                        let (lanes, start) = (strip_rows.min(n - strip * strip_rows), start_of(strip));
                        let at = out.pointer(block.start * n + strip * strip_rows, (block.len() - 1) * n + lanes);
                        let out = Out { at, stride: n, lanes, start: &start };
                        // SAFETY: these columns of `out` belong to this chunk alone; `pointer` checked that the last row has them.
                        unsafe { interleaved.dot(isa, strip, x, block.clone(), out) };
                    }
                }
            }
            _ => {
                let mut scratch = vec![0.0; width];
                for strip in first..first + count {
                    let (lanes, start) = (strip_rows.min(n - strip * strip_rows), start_of(strip));
                    let from = strip * strip_rows;
                    // SAFETY: as above.
                    let put = |lane: usize, row: usize, sum: f32| unsafe {
                        out.pointer(row * n + from + lane, 1).write(sum + start[lane]);
                    };
                    if weights.dots(isa, from..from + lanes, x, put) {
                        continue;
                    }
                    for lane in 0..lanes {
                        weights.row(from + lane, &mut scratch);
                        let rows = x.chunks_exact(width).enumerate();
                        rows.for_each(|(row, x)| put(lane, row, super::matrix::dot(isa, &scratch, x)));
                    }
                }
            }
        }
        if let Some(then) = then {
            let columns = first * strip_rows..((first + count) * strip_rows).min(n);
            for row in 0..rows {
                // SAFETY: these columns of this row belong to this chunk alone, which has written them.
                then(isa, unsafe { out.slice(row * n + columns.start, columns.len()) });
            }
        }
    });
    // SAFETY: the strips cover all columns, and each is put for every row.
    unsafe { results.finish(rows) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::{Dtype, StoredTensor};

    fn matrix(dtype: Dtype, rows: usize, columns: usize, seed: u32) -> Matrix {
        let values: Vec<f32> =
            (0..rows * columns).map(|i| ((i as u32 * 2654435761 + seed) >> 16) as f32 / 65536.0 - 0.5).collect();
        let data = match dtype {
            Dtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Dtype::F16 => values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect(),
            Dtype::BF16 => values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect(),
            other => crate::weights::block::quantize(other, &values).unwrap(),
        };
        Matrix::new(StoredTensor {
            name: "w".into(),
            dtype,
            shape: vec![rows, columns],
            data: bytes::Bytes::from(data),
        })
        .unwrap()
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn falling_parts_are_all_units_once() {
        for (units, threads, smallest) in [(vec![512], 2, 3), (vec![128, 1, 7], 3, 3), (vec![5], 8, 1), (vec![], 2, 3)]
        {
            let parts = falling_parts(units.iter().copied(), 9, threads, smallest);
            let all =
                parts.iter().flat_map(|part| (part.first..part.first + part.count).map(|unit| (part.product, unit)));
            let want =
                units.iter().enumerate().flat_map(|(product, units)| (0..*units).map(move |unit| (product, unit)));
            assert!(all.eq(want) && parts.iter().all(|part| part.rows == (0..9)));
            let sizes: Vec<usize> = parts.iter().filter(|part| part.product == 0).map(|part| part.count).collect();
            assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
            assert!(parts.last().is_none_or(|part| part.count <= smallest), "{sizes:?}");
        }
    }

    fn slow(x: &[f32], rows: usize, weights: &Matrix, bias: Option<&[f32]>) -> Vec<f64> {
        let (n, k, w) = (weights.rows(), weights.columns(), weights.to_f32());
        let mut out = Vec::new();
        for r in 0..rows {
            for c in 0..n {
                let dot: f64 = (0..k).map(|i| f64::from(x[r * k + i]) * f64::from(w[c * k + i])).sum();
                out.push(dot + bias.map_or(0.0, |b| f64::from(b[c])));
            }
        }
        out
    }

    fn close(got: &[f32], want: &[f64], bound: f64, what: &str) {
        let largest = want.iter().fold(1e-6f64, |a, b| a.max(b.abs()));
        for (got, want) in got.iter().zip(want) {
            assert!((f64::from(*got) - want).abs() <= bound * largest, "{what}: {got} {want}");
        }
    }

    #[test]
    fn every_type_and_shape_equals_the_plain_product() {
        amx::with_and_without(|| {
            let pool = Pool::new(2);
            for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::Q8_0, Dtype::Q4_0, Dtype::Q4_1] {
                let quantized = matches!(dtype, Dtype::Q8_0 | Dtype::Q4_0 | Dtype::Q4_1);
                for (rows, n, k) in [(1, 1, 32), (1, 40, 64), (5, 17, 96), (7, 50, 544), (13, 16, 256), (170, 70, 96)] {
                    let k = if quantized { k } else { k + 3 };
                    let weights = matrix(dtype, n, k, 7);
                    let bias: Vec<f32> = (0..n).map(|i| i as f32 * 0.01).collect();
                    let x: Vec<f32> = (0..rows * k).map(|i| ((i * 37 % 113) as f32 - 56.0) / 50.0).collect();
                    let want = slow(&x, rows, &weights, Some(&bias));
                    let run = |mode: Option<Activations>, then: Option<Then>| {
                        let product = [Product { weights: &weights, bias: Some(&bias), then }];
                        let [out] = match mode {
                            None => products(&pool, &x, rows, &product),
                            Some(mode) => stream(&pool, &x, rows, mode, &product),
                        };
                        out
                    };
                    close(&run(None, None), &want, 1e-5, &format!("tiles {dtype:?} {rows} {n} {k}"));
                    close(
                        &run(Some(Activations::Float), None),
                        &want,
                        1e-5,
                        &format!("stream {dtype:?} {rows} {n} {k}"),
                    );
                    let bound = if isa().planes() == 2 { 5e-5 } else { 2e-2 };
                    let integer = run(Some(Activations::Quantized), None);
                    close(&integer, &want, bound, &format!("integer {dtype:?} {rows} {n} {k}"));
                    // A prompt is as exact as tiles are, or nearly so, and by tiles where that is asked for.
                    let product = [Product { weights: &weights, bias: Some(&bias), then: None }];
                    let [of_prompt] = prompt(&pool, &x, rows, Activations::Quantized, &product);
                    close(&of_prompt, &want, 5e-5, &format!("prompt {dtype:?} {rows} {n} {k}"));
                    if quantized && isa().planes() == 2 && !amx::is_here() {
                        assert_eq!(of_prompt, integer);
                    }
                    assert_eq!(prompt(&pool, &x, rows, Activations::Float, &product), [run(None, None)]);
                    // Bytes where they are asked for, in prompts as in steps; weights of floats have none.
                    let bytes = run(Some(Activations::Int8), None);
                    close(&bytes, &want, 2e-2, &format!("bytes {dtype:?} {rows} {n} {k}"));
                    assert_eq!(bytes == integer, !quantized || isa().planes() == 1, "bytes {dtype:?} {rows} {n} {k}");
                    let [of_prompt] = prompt(&pool, &x, rows, Activations::Int8, &product);
                    let integer = quantized && !amx::is_here();
                    if integer && isa() == Isa::Avx512 && dtype == Dtype::Q4_1 {
                        close(&of_prompt, &want, 2e-2, &format!("bytewise {dtype:?} {rows} {n} {k}"));
                    } else {
                        assert_eq!(
                            of_prompt,
                            if integer { bytes } else { run(None, None) },
                            "{dtype:?} {rows} {n} {k}"
                        );
                    }
                    let doubled = Product { then: Some(|_, x| x.iter_mut().for_each(|x| *x *= 2.0)), ..product[0] };
                    let [doubled] = prompt(&pool, &x, rows, Activations::Int8, &[doubled]);
                    assert!(doubled.iter().zip(&of_prompt).all(|(doubled, once)| *doubled == 2.0 * once));
                    if dtype == Dtype::F32 {
                        let panels = matrix(dtype, n, k, 7).into_panels();
                        assert_eq!(panels.to_f32(), weights.to_f32());
                        let product = [Product { weights: &panels, bias: Some(&bias), then: None }];
                        assert_eq!(products(&pool, &x, rows, &product), [run(None, None)]);
                        let [streamed] = stream(&pool, &x, rows, Activations::Float, &product);
                        close(&streamed, &want, 1e-5, &format!("stream of panels {rows} {n} {k}"));
                    }
                    for mode in [None, Some(Activations::Float), Some(Activations::Quantized), Some(Activations::Int8)]
                    {
                        let doubled = run(mode, Some(|_, x| x.iter_mut().for_each(|x| *x *= 2.0)));
                        assert!(doubled.iter().zip(run(mode, None)).all(|(doubled, once)| *doubled == 2.0 * once));
                    }
                }
            }
        });
    }

    #[test]
    fn a_row_does_not_depend_on_its_company() {
        amx::with_and_without(|| {
            for threads in [1, 3] {
                let pool = Pool::new(threads);
                for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::Q4_1, Dtype::Q8_0] {
                    let weights = matrix(dtype, 45, 288, 3);
                    let x: Vec<f32> = (0..11 * 288).map(|i| (i as f32 * 0.37).sin()).collect();
                    let all = |mode: Option<Activations>, x: &[f32], rows: usize| {
                        let product = [Product { weights: &weights, bias: None, then: None }];
                        let [out] = match mode {
                            None => products(&pool, x, rows, &product),
                            Some(mode) => stream(&pool, x, rows, mode, &product),
                        };
                        out
                    };
                    let modes = [Activations::Quantized, Activations::Int8, Activations::Float].map(Some);
                    for mode in [None].into_iter().chain(modes) {
                        let together = all(mode, &x, 11);
                        for row in 0..11 {
                            let alone = all(mode, &x[row * 288..][..288], 1);
                            assert_eq!(alone, together[row * 45..][..45], "{dtype:?} {mode:?} row {row}");
                        }
                    }
                }
            }
        });
    }
}
