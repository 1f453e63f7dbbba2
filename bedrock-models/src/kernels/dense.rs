//! Products of plain `f32` matrices, as gradients need them: `C = A · B`, `A · Bᵀ` and `C += Aᵀ · B`.
//!
//! The tiles are those of [`gemm`](super::gemm). The right operand is packed 64 columns by 256 rows at a time, as those read it. Sums go in
//! the order of the inner dimension, whatever the number of rows or threads. Long ones are made by matrix tiles where there are some ([`amx`]).

use std::ops::Range;

use super::amx;
use super::elementwise::by_rows;
use super::gemm::{GROUP, tiles};
use super::isa::{Isa, isa};
use super::matrix::{Matrix, pack_rows, turn_rows};
use super::panels::{Line, floats_mut};
use super::pool::{Disjoint, Pool};
use super::precision::Precision;
use super::tile::{COLUMNS, ROWS};

/// Rows of the right operand packed at a time: a panel of 16 × 256 floats is half of a first-level cache of 32 KiB.
const DEPTH: usize = 256;

/// Rows of the left operand that meet them before the next do: 160 KiB, in a second-level cache of 512 KiB.
const HEIGHT: usize = 26 * ROWS;

/// Rows below which the work of packing the right operand once more is worth an even load.
const LEAST_ROWS: usize = 96;

/// Rows of weights that are decoded at a time for [`times_weights`], in bytes of `f32`.
const DECODED_BYTES: usize = 2 << 20;

/// Of the inner dimension, what all columns meet before the next is read: so the right operand of a large layer is read in the order in
/// which it lies.
const INNER: usize = 1024;

/// Between rows that are brought near each other: not a multiple of the distance at which addresses share the lines of a cache.
const NEAR: usize = INNER + COLUMNS;

/// Columns of `Aᵀ · B`'s left operand that are turned at a time.
const TURNED: usize = 2048;

/// The right operand of a product with inner dimension `k` and `n` columns.
#[derive(Clone, Copy)]
pub(crate) enum Right<'a> {
    /// `[k][n]`
    Plain(&'a [f32]),
    /// `[n][k]`, of which the transpose is meant.
    Transposed(&'a [f32]),
}

/// The left operand: rows that begin `stride` values apart.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
}

/// Whether products can be of numbers of that precision: the processor has faster ones for all but those of the smallest inner dimensions, which are exact then.
pub(crate) fn can(precision: Precision) -> bool {
    precision == Precision::F32 || amx::is_here()
}

/// `out = A · B`, or `out += A · B`, with `out` `[m][n]` and inner dimension `k`, of numbers of that precision.
///
/// # Panics
/// If an operand is too short.
pub(crate) fn multiply(
    pool: &Pool,
    precision: Precision,
    a: Left<'_>,
    b: Right<'_>,
    [m, k, n]: [usize; 3],
    out: &mut [f32],
    add: bool,
) {
    assert_eq!(out.len(), m * n);
    if m == 0 || n == 0 || k == 0 {
        if !add {
            out.fill(0.0);
        }
        return;
    }
    assert!(a.values.len() >= (m - 1) * a.stride + k && a.stride >= k, "left operand too short");
    let (Right::Plain(values) | Right::Transposed(values)) = b;
    assert!(values.len() >= k * n, "right operand too short");
    let isa = isa();
    if amx::suits(k, precision) {
        let (out, right) = (Disjoint::new(out), Laid { right: b, size: [k, n] });
        let left = amx::Left { values: a.values, stride: a.stride, rows: m, depth: k, precision };
        let right = amx::Right::Panels(&right);
        let product = amx::Product { right, n, bias: None, add, then: None, out: &out };
        // SAFETY: `out` is this call's alone, and was initialised by the caller.
        unsafe { amx::products(pool, isa, left, &[product]) };
        return;
    }
    let groups = n.div_ceil(GROUP * COLUMNS);
    let blocks = (pool.threads() * 6).div_ceil(groups).clamp(1, m.div_ceil(LEAST_ROWS));
    let height = m.div_ceil(blocks).next_multiple_of(ROWS);
    let parts: Vec<(usize, Range<usize>)> = (0..m)
        .step_by(height)
        .flat_map(|row| (0..groups).map(move |group| (group, row..(row + height).min(m))))
        .collect();
    // Rows that lie far apart would meet in the same lines of a cache.
    let mut near = pool.memory.take(if a.stride > 2 * INNER { m * NEAR } else { 0 });
    // What several blocks of rows meet is packed once, for all of them.
    let group_size = GROUP * COLUMNS * k.min(INNER);
    let mut shared = pool.scratch.lines(if blocks > 1 { groups * group_size / COLUMNS } else { 0 });
    let shared = floats_mut(&mut shared);
    let out = Disjoint::new(out);
    for begin in (0..k).step_by(INNER) {
        let end = (begin + INNER).min(k);
        let mut left = Left { values: &a.values[begin..], stride: a.stride };
        if !near.is_empty() {
            by_rows(pool, &mut near, NEAR, |first, near| {
                for (row, near) in near.chunks_exact_mut(NEAR).enumerate() {
                    near[..end - begin].copy_from_slice(&left.values[(first + row) * left.stride..][..end - begin]);
                }
            });
            left = Left { values: &near, stride: NEAR };
        }
        let columns_of =
            |group: usize| group * GROUP * COLUMNS..((group + 1) * GROUP * COLUMNS).min(n.next_multiple_of(COLUMNS));
        by_rows(pool, shared, group_size, |first, shared| {
            for (group, packed) in shared.chunks_exact_mut(group_size).enumerate() {
                pack(isa, b, [k, n], columns_of(first + group), begin, end - begin, packed);
            }
        });
        pool.run(parts.len(), &|part| {
            let (group, rows) = &parts[part];
            let columns = columns_of(*group);
            let mut own = [Line([0.0; COLUMNS]); GROUP * DEPTH];
            for start in (begin..end).step_by(DEPTH) {
                let depth = DEPTH.min(end - start);
                let mut panels = [[].as_slice(); GROUP];
                if shared.is_empty() {
                    let own = floats_mut(&mut own);
                    pack(isa, b, [k, n], columns.clone(), start, depth, own);
                    panels.iter_mut().zip(own.chunks_exact(depth * COLUMNS)).for_each(|(to, panel)| *to = panel);
                } else {
                    let packed = &shared[group * group_size..][..group_size];
                    let panel =
                        packed.chunks_exact((end - begin) * COLUMNS).map(|panel| &panel[(start - begin) * COLUMNS..]);
                    panels.iter_mut().zip(panel).for_each(|(to, panel)| *to = panel);
                }
                for block in rows.clone().step_by(HEIGHT) {
                    let (block, first) = (block..(block + HEIGHT).min(rows.end), start == 0 && !add);
                    // SAFETY: these columns of these rows belong to this part alone, and `out` was initialised by the caller.
                    unsafe {
                        tiles(
                            isa,
                            first,
                            left.values,
                            left.stride,
                            start - begin,
                            depth,
                            block,
                            columns.clone(),
                            &panels,
                            None,
                            &out,
                            n,
                        )
                    };
                }
            }
        });
    }
    pool.memory.give(near);
}

/// A right operand of `[k, n]`, as it lies.
struct Laid<'a> {
    right: Right<'a>,
    size: [usize; 2],
}

impl amx::Panels for Laid<'_> {
    fn panel<'a>(&'a self, isa: Isa, first: usize, rows: Range<usize>, to: &'a mut [f32]) -> amx::Panel<'a> {
        let [k, n] = self.size;
        if let Right::Plain(values) = self.right
            && first + COLUMNS <= n
        {
            return amx::Panel { values: &values[rows.start * n + first..], stride: n };
        }
        let columns = first..(first + COLUMNS).min(n.next_multiple_of(COLUMNS));
        pack(isa, self.right, [k, n], columns, rows.start, rows.len(), to);
        amx::Panel { values: to, stride: COLUMNS }
    }
}

/// `columns` of rows `start..start + depth` of the right operand, in panels of 16 columns and `depth` rows; zeros past its end.
fn pack(
    isa: Isa,
    b: Right<'_>,
    [k, n]: [usize; 2],
    columns: Range<usize>,
    start: usize,
    depth: usize,
    out: &mut [f32],
) {
    match b {
        Right::Plain(values) => {
            // A row of all panels at a time: values that lie side by side.
            for (row, values) in values[start * n..].chunks(n).take(depth).enumerate() {
                for (panel, column) in columns.clone().step_by(COLUMNS).enumerate() {
                    let out = &mut out[(panel * depth + row) * COLUMNS..][..COLUMNS];
                    match values[column..].first_chunk::<COLUMNS>() {
                        // Of a length that the compiler knows: an instruction, not a call.
                        Some(from) => out.copy_from_slice(from),
                        None => {
                            let lanes = n - column;
                            out[..lanes].copy_from_slice(&values[column..]);
                            out[lanes..].fill(0.0);
                        }
                    }
                }
            }
        }
        Right::Transposed(values) => {
            for (panel, column) in out.chunks_exact_mut(depth * COLUMNS).zip(columns.step_by(COLUMNS)) {
                let row = |row: usize| &values[(column + row) * k + start..][..depth];
                pack_rows(isa, COLUMNS.min(n - column), depth, row, panel);
            }
        }
    }
}

/// `out = y · W`, or `out += y · W`: what a layer's gradient is for its input, given that for its output.
///
/// `y` is `[rows][weights.rows()]`, `out` `[rows][weights.columns()]`.
///
/// # Panics
/// If the shapes disagree.
pub(crate) fn times_weights(
    pool: &Pool,
    precision: Precision,
    y: &[f32],
    rows: usize,
    weights: &Matrix,
    out: &mut [f32],
    add: bool,
) {
    let (n, width) = (weights.rows(), weights.columns());
    assert!(y.len() == rows * n && out.len() == rows * width);
    if let Some(values) = weights.floats() {
        let y = Left { values: y, stride: n };
        return multiply(pool, precision, y, Right::Plain(values), [rows, n, width], out, add);
    }
    let size = (DECODED_BYTES / (4 * width)).clamp(1, n).next_multiple_of(DEPTH);
    let mut decoded = pool.memory.take(size.min(n) * width);
    for first in (0..n).step_by(size) {
        let count = size.min(n - first);
        let decoded = &mut decoded[..count * width];
        let part = count.div_ceil(pool.threads() * 4);
        let to = Disjoint::new(decoded);
        pool.run(count.div_ceil(part), &|chunk| {
            let begin = chunk * part;
            let count = part.min(count - begin);
            // SAFETY: the parts do not overlap.
            let to = unsafe { to.slice(begin * width, count * width) };
            to.chunks_exact_mut(width).enumerate().for_each(|(row, to)| weights.row(first + begin + row, to));
        });
        let y = Left { values: &y[first..], stride: n };
        multiply(pool, precision, y, Right::Plain(decoded), [rows, count, width], out, add || first > 0);
    }
    pool.memory.give(decoded);
}

/// `out += yᵀ · x`: what a layer's gradient is for its weights, `y` `[rows][n]` being that for its output and `x` `[rows][width]` its input.
///
/// # Panics
/// If the shapes disagree.
pub(crate) fn times_input(pool: &Pool, precision: Precision, y: &[f32], x: &[f32], rows: usize, out: &mut [f32]) {
    if rows == 0 {
        return;
    }
    let (n, width) = (y.len() / rows, x.len() / rows);
    assert!(y.len() == rows * n && x.len() == rows * width && out.len() == n * width);
    let mut turned = pool.memory.take(TURNED.min(n) * rows);
    for first in (0..n).step_by(TURNED) {
        let count = TURNED.min(n - first);
        let turned = &mut turned[..count * rows];
        turn(pool, &y[first..], n, [rows, count], turned);
        let out = &mut out[first * width..][..count * width];
        let (left, size) = (Left { values: turned, stride: rows }, [count, rows, width]);
        multiply(pool, precision, left, Right::Plain(x), size, out, true);
    }
    pool.memory.give(turned);
}

/// `out[c][r] = values[r · stride + c]`, for `[rows, columns]`.
fn turn(pool: &Pool, values: &[f32], stride: usize, [rows, columns]: [usize; 2], out: &mut [f32]) {
    const SIDE: usize = 32;
    let isa = isa();
    let out = Disjoint::new(out);
    pool.run(columns.div_ceil(SIDE), &|block| {
        let (first, count) = (block * SIDE, SIDE.min(columns - block * SIDE));
        // SAFETY: the blocks of columns are rows of `out` that do not overlap.
        let out = unsafe { out.slice(first * rows, count * rows) };
        turn_rows(isa, rows, |row| &values[row * stride + first..][..count], out);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::{Dtype, StoredTensor};

    fn numbers(len: usize, salt: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 37 + salt * 11) % 101) as f32 / 50.0 - 1.0).collect()
    }

    fn plain(a: &[f32], stride: usize, b: &[f32], [m, k, n]: [usize; 3]) -> Vec<f32> {
        let at =
            |r: usize, c: usize| (0..k).map(|i| f64::from(a[r * stride + i]) * f64::from(b[i * n + c])).sum::<f64>();
        (0..m).flat_map(|r| (0..n).map(move |c| (r, c))).map(|(r, c)| at(r, c) as f32).collect()
    }

    fn turned(values: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
        (0..columns).flat_map(|c| (0..rows).map(move |r| (r, c))).map(|(r, c)| values[r * columns + c]).collect()
    }

    /// Whether sums of `k` products of at most 1 are near enough: matrix tiles leave out 2⁻¹⁶ of each.
    fn close(got: &[f32], want: &[f32], k: usize) {
        assert_eq!(got.len(), want.len());
        let bound = if amx::suits(k, Precision::F32) { k as f32 / 65536.0 } else { 2e-4 };
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() <= bound.max(2e-4 * want.abs()), "{got} {want}");
        }
    }

    const SHAPES: [[usize; 3]; 7] =
        [[1, 1, 1], [3, 5, 2], [6, 16, 64], [7, 300, 70], [200, 17, 130], [33, 520, 16], [100, 8, 257]];

    #[test]
    fn products_are_the_plain_ones_on_any_number_of_threads() {
        amx::with_and_without(|| {
            for threads in [1, 3] {
                let pool = Pool::new(threads);
                for [m, k, n] in SHAPES {
                    let (stride, b) = (k + 3, numbers(k * n, 2));
                    let a = numbers(m * stride, 1);
                    let want = plain(&a, stride, &b, [m, k, n]);
                    let left = Left { values: &a, stride };
                    let mut out = vec![7.0; m * n];
                    multiply(&pool, Precision::F32, left, Right::Plain(&b), [m, k, n], &mut out, false);
                    close(&out, &want, k);
                    let mut same = vec![7.0; m * n];
                    multiply(
                        &pool,
                        Precision::F32,
                        left,
                        Right::Transposed(&turned(&b, [k, n])),
                        [m, k, n],
                        &mut same,
                        false,
                    );
                    assert_eq!(out, same);
                    multiply(&pool, Precision::F32, left, Right::Plain(&b), [m, k, n], &mut out, true);
                    close(&out, &want.iter().map(|value| 2.0 * value).collect::<Vec<_>>(), 2 * k);
                }
            }
        });
    }

    #[test]
    fn gradients_of_a_layer() {
        amx::with_and_without(|| {
            let pool = Pool::new(2);
            for [rows, n, width] in SHAPES {
                let (y, x) = (numbers(rows * n, 3), numbers(rows * width, 5));
                let halves: Vec<half::bf16> = numbers(n * width, 4).into_iter().map(half::bf16::from_f32).collect();
                let w: Vec<f32> = halves.iter().map(|value| value.to_f32()).collect();
                let add = |want: Vec<f32>| want.into_iter().map(|value| value + 1.0).collect::<Vec<_>>();
                // As they lie, one byte beside where they could, and decoded.
                let floats: Vec<u8> = w.iter().flat_map(|value| value.to_le_bytes()).collect();
                let aside = bytes::Bytes::from([&[0], &floats[..]].concat()).slice(1..);
                let halves: Vec<u8> = halves.iter().flat_map(|value| value.to_le_bytes()).collect();
                for (dtype, data) in [(Dtype::F32, floats.into()), (Dtype::F32, aside), (Dtype::BF16, halves.into())] {
                    let tensor = StoredTensor { name: "w".into(), dtype, shape: vec![n, width], data };
                    let matrix = Matrix::new(tensor).unwrap();
                    let mut out = vec![1.0; rows * width];
                    times_weights(&pool, Precision::F32, &y, rows, &matrix, &mut out, true);
                    close(&out, &add(plain(&y, n, &w, [rows, n, width])), n);
                    times_weights(&pool, Precision::F32, &y, rows, &matrix, &mut out, false);
                    close(&out, &plain(&y, n, &w, [rows, n, width]), n);
                }
                let mut out = vec![1.0; n * width];
                times_input(&pool, Precision::F32, &y, &x, rows, &mut out);
                close(&out, &add(plain(&turned(&y, [rows, n]), rows, &x, [n, rows, width])), rows);
            }
        });
    }

    /// Numbers of 8 significant bits are off by at most 2⁻⁹ of them, their products by a little more than 2⁻⁸.
    #[test]
    fn products_of_rounded_numbers_are_near() {
        let (pool, precision) = (Pool::new(2), Precision::Bf16);
        for [m, k, n] in SHAPES {
            let (a, b) = (numbers(m * k, 6), numbers(k * n, 7));
            let [exact, size] = [plain(&a, k, &b, [m, k, n]), {
                let absolute = |values: &[f32]| values.iter().map(|value| value.abs()).collect::<Vec<f32>>();
                plain(&absolute(&a), k, &absolute(&b), [m, k, n])
            }];
            let bytes: Vec<u8> = b.iter().flat_map(|value| value.to_le_bytes()).collect();
            let weights = StoredTensor { name: "w".into(), dtype: Dtype::F32, shape: vec![k, n], data: bytes.into() };
            let weights = Matrix::new(weights).unwrap();
            let (mut out, mut by_weights, mut by_input) = (vec![0.0; m * n], vec![0.0; m * n], vec![0.0; m * n]);
            multiply(&pool, precision, Left { values: &a, stride: k }, Right::Plain(&b), [m, k, n], &mut out, false);
            times_weights(&pool, precision, &a, m, &weights, &mut by_weights, false);
            times_input(&pool, precision, &turned(&a, [m, k]), &b, k, &mut by_input);
            for ((got, exact), size) in out.iter().zip(&exact).zip(&size) {
                assert!((got - exact).abs() <= size * (1.0 / 255.0), "{got} {exact} {size}");
            }
            assert!(out == by_weights && out == by_input);
            // Smaller ones are not rounded, nor are any where nothing would be gained.
            let off = out.iter().zip(&exact).map(|(got, exact)| (got - exact).abs()).fold(0.0, f32::max);
            assert_eq!(off > 1e-3, can(precision) && k >= 32, "{m} {k} {n}: {off}");
        }
    }
}
