//! Products of activations with stored weights: `y = x · Wᵀ + b`.
//!
//! Many rows at once (prompts, encoders) go through 6 × 16 tiles in `f32`: a panel of 16 weight rows by 256 columns is decoded once
//! and used by all rows, so the cost of decoding vanishes with the number of rows and no quantised format needs
//! a product of its own. A decode step instead streams the weights once, against activations of 8 bits where
//! the format has an integer kernel. Which of the two runs is the caller's choice, never a matter of how many rows
//! there happen to be: so a request's numbers do not depend on its company.

use super::activation::QuantizedRow;
use super::interleaved::STRIP;
use super::isa::isa;
use super::matrix::{Activations, Matrix, Storage};
use super::pool::{Disjoint, Pool};
use super::tile::{COLUMNS, ROWS, tile};

/// Columns of the weights decoded at a time: a panel of 16 × 256 floats is half of a 32 KiB first-level cache.
const DEPTH: usize = 256;

/// Panels decoded together (64 KiB), and input rows that meet them before the next rows do (160 KiB): both stay in a
/// second-level cache of 512 KiB while they are used.
const GROUP: usize = 4;
const HEIGHT: usize = 26 * ROWS;

/// One product of a call: weights, bias, and where `[rows, weights.rows()]` results go.
pub(crate) struct Product<'a> {
    pub(crate) weights: &'a Matrix,
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) out: &'a mut [f32],
}

fn check(x: &[f32], rows: usize, products: &[Product<'_>]) {
    for product in products {
        assert_eq!(x.len(), rows * product.weights.columns(), "input of another width than {:?}", product.weights);
        assert_eq!(product.out.len(), rows * product.weights.rows());
        assert!(product.bias.is_none_or(|bias| bias.len() == product.weights.rows()));
    }
}

/// The parts of one parallel region: for each product, `units` units of work in chunks.
struct Parts {
    /// (product, first unit, units)
    chunks: Vec<(usize, usize, usize)>,
}

impl Parts {
    fn new(units: impl Iterator<Item = usize>, threads: usize, smallest: usize) -> Self {
        let units: Vec<usize> = units.collect();
        let total: usize = units.iter().sum();
        // Several chunks a thread, so that one that is late delays the end by little.
        let size = total.div_ceil(threads * 6).max(smallest);
        let mut chunks = Vec::with_capacity(total / size + units.len());
        for (product, units) in units.into_iter().enumerate() {
            chunks.extend((0..units).step_by(size).map(|start| (product, start, size.min(units - start))));
        }
        Self { chunks }
    }
}

/// Products of `rows` rows in `f32`, tile by tile.
///
/// # Panics
/// If the widths disagree.
pub(crate) fn products(pool: &Pool, x: &[f32], rows: usize, products: &mut [Product<'_>]) {
    check(x, rows, products);
    let isa = isa();
    let targets: Vec<_> = products.iter_mut().map(|p| (p.weights, p.bias, Disjoint::new(p.out))).collect();
    let parts = Parts::new(targets.iter().map(|(w, ..)| w.rows().div_ceil(COLUMNS)), pool.threads(), 1);
    pool.run(parts.chunks.len(), &|chunk| {
        let (product, first, count) = parts.chunks[chunk];
        let (weights, bias, out) = &targets[product];
        let (n, width) = (weights.rows(), weights.columns());
        let mut panels = [0.0f32; GROUP * DEPTH * COLUMNS];
        let mut sums = [[0.0f32; COLUMNS]; ROWS];
        for group in (first..first + count).step_by(GROUP) {
            let columns = group * COLUMNS..((group + GROUP).min(first + count)) * COLUMNS;
            for start in (0..width).step_by(DEPTH) {
                let depth = DEPTH.min(width - start);
                for (column, panel) in columns.clone().step_by(COLUMNS).zip(panels.chunks_exact_mut(DEPTH * COLUMNS)) {
                    weights.panel(isa, column, start, depth, panel);
                }
                for block in (0..rows).step_by(HEIGHT) {
                    for (column, panel) in columns.clone().step_by(COLUMNS).zip(panels.chunks_exact(DEPTH * COLUMNS)) {
                        let columns = column..(column + COLUMNS).min(n);
                        for row in (block..(block + HEIGHT).min(rows)).step_by(ROWS) {
                            let height = ROWS.min(rows - row);
                            tile(isa, height, depth, &x[row * width + start..], width, panel, COLUMNS, &mut sums);
                            for (r, sums) in sums.iter().enumerate().take(height) {
                                // SAFETY: these columns of `out` belong to this chunk alone.
                                let out = unsafe { out.slice((row + r) * n + column, columns.len()) };
                                if start > 0 {
                                    out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
                                } else if let Some(bias) = bias {
                                    let bias = &bias[columns.clone()];
                                    out.iter_mut()
                                        .zip(bias.iter().zip(sums))
                                        .for_each(|(out, (b, sum))| *out = b + sum);
                                } else {
                                    out.copy_from_slice(&sums[..columns.len()]);
                                }
                            }
                        }
                    }
                }
            }
        }
    });
}

/// Products of `rows` rows that stream each weight once: what a decode step does.
///
/// # Panics
/// If the widths disagree.
pub(crate) fn stream(pool: &Pool, x: &[f32], rows: usize, activations: Activations, products: &mut [Product<'_>]) {
    check(x, rows, products);
    if rows == 0 || products.is_empty() {
        return;
    }
    let isa = isa();
    let width = products[0].weights.columns();
    let integer =
        |weights: &Matrix| activations == Activations::Int8 && matches!(weights.storage(), Storage::Interleaved(_));
    let mut quantized = Vec::new();
    if products.iter().any(|p| integer(p.weights)) {
        quantized.resize_with(rows, QuantizedRow::default);
        quantized.iter_mut().zip(x.chunks_exact(width)).for_each(|(q, x)| q.quantize(isa, x));
    }
    let targets: Vec<_> = products.iter_mut().map(|p| (p.weights, p.bias, Disjoint::new(p.out))).collect();
    // At least about 32 KiB of weights a chunk: less costs more to hand out than to do.
    let bytes = targets.iter().map(|(w, ..)| w.bytes() / w.rows().div_ceil(STRIP)).max().unwrap_or(1).max(1);
    let smallest = (32 * 1024 / bytes).max(1);
    let parts = Parts::new(targets.iter().map(|(w, ..)| w.rows().div_ceil(STRIP)), pool.threads(), smallest);
    pool.run(parts.chunks.len(), &|chunk| {
        let (product, first, count) = parts.chunks[chunk];
        let (weights, bias, out) = &targets[product];
        let n = weights.rows();
        let mut scratch = Vec::new();
        for strip in first..first + count {
            let (start, lanes) = (strip * STRIP, STRIP.min(n - strip * STRIP));
            let put = |row: usize, sums: &[f32]| {
                // SAFETY: these eight columns of `out` belong to this chunk alone.
                let out = unsafe { out.slice(row * n + start, lanes) };
                out.copy_from_slice(&sums[..lanes]);
                if let Some(bias) = bias {
                    out.iter_mut().zip(&bias[start..]).for_each(|(out, bias)| *out += bias);
                }
            };
            match weights.storage() {
                Storage::Interleaved(interleaved) if integer(weights) => {
                    for (row, x) in quantized.iter().enumerate() {
                        put(row, &interleaved.strip_dot(isa, strip, x));
                    }
                }
                _ => {
                    let mut sums = vec![[0.0f32; STRIP]; rows];
                    for lane in 0..lanes {
                        scratch.resize(width, 0.0);
                        weights.row(start + lane, &mut scratch);
                        for (sums, x) in sums.iter_mut().zip(x.chunks_exact(width)) {
                            sums[lane] = super::matrix::dot(isa, &scratch, x);
                        }
                    }
                    sums.iter().enumerate().for_each(|(row, sums)| put(row, sums));
                }
            }
        }
    });
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
        let pool = Pool::new(2);
        for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::Q8_0, Dtype::Q4_0, Dtype::Q4_1] {
            let quantized = matches!(dtype, Dtype::Q8_0 | Dtype::Q4_0 | Dtype::Q4_1);
            for (rows, n, k) in [(1, 1, 32), (1, 40, 64), (5, 17, 96), (7, 50, 544), (13, 16, 256)] {
                let k = if quantized { k } else { k + 3 };
                let weights = matrix(dtype, n, k, 7);
                let bias: Vec<f32> = (0..n).map(|i| i as f32 * 0.01).collect();
                let x: Vec<f32> = (0..rows * k).map(|i| ((i * 37 % 113) as f32 - 56.0) / 50.0).collect();
                let want = slow(&x, rows, &weights, Some(&bias));
                let mut out = vec![0.0; rows * n];
                let run = |mode: Option<Activations>, out: &mut [f32]| {
                    let product = Product { weights: &weights, bias: Some(&bias), out };
                    match mode {
                        None => products(&pool, &x, rows, &mut [product]),
                        Some(mode) => stream(&pool, &x, rows, mode, &mut [product]),
                    }
                };
                run(None, &mut out);
                close(&out, &want, 1e-5, &format!("tiles {dtype:?} {rows} {n} {k}"));
                run(Some(Activations::Float), &mut out);
                close(&out, &want, 1e-5, &format!("stream {dtype:?} {rows} {n} {k}"));
                run(Some(Activations::Int8), &mut out);
                close(&out, &want, 2e-2, &format!("integer {dtype:?} {rows} {n} {k}"));
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_company() {
        for threads in [1, 3] {
            let pool = Pool::new(threads);
            for dtype in [Dtype::F32, Dtype::Q4_1] {
                let weights = matrix(dtype, 45, 288, 3);
                let x: Vec<f32> = (0..11 * 288).map(|i| (i as f32 * 0.37).sin()).collect();
                let all = |mode: Option<Activations>, x: &[f32], rows: usize| {
                    let mut out = vec![0.0; rows * 45];
                    let product = Product { weights: &weights, bias: None, out: &mut out };
                    match mode {
                        None => products(&pool, x, rows, &mut [product]),
                        Some(mode) => stream(&pool, x, rows, mode, &mut [product]),
                    }
                    out
                };
                for mode in [None, Some(Activations::Int8), Some(Activations::Float)] {
                    let together = all(mode, &x, 11);
                    for row in 0..11 {
                        let alone = all(mode, &x[row * 288..][..288], 1);
                        assert_eq!(alone, together[row * 45..][..45], "{dtype:?} {mode:?} row {row}");
                    }
                }
            }
        }
    }
}
