//! Products of a prompt's rows in bytes: the fastest there are where vectors of 512 bits sum products of bytes.
//!
//! What a block format asks for beside its products, a multiplication by the scales of weights and activations and one more to add every 32 columns, and half as much for a minimum or a scale every 16, is a quarter and more of all
//! multiplications. Here it is one. Steps of activations ([`rows`]) are quarters of powers of two: those from 1 to 2 are in the scales of weights already, of which there is one for each where some
//! are laid out ([`Interleaved::layout`]), and a power of two is put on a sum while others are multiplied. A step is so at most a fifth larger than it had to be, a tenth on average.
//!
//! Weights are bytes of one scale for 32 columns. Those of [`Format::Q8`](super::interleaved::Format), `Q4` and `Q5` are what they were. With a minimum the step is a whole part of the scale, no less than the 127th part of the largest size that they allow, and with two scales that of the larger one:
//! weights move by at most little more than half a step, little beside the steps of their own format.
//!
//! To lay weights out takes as long as some 100 rows gain. Steps of activations are the same elsewhere, so where weights are what they were, the numbers are as well, bit for bit, and few rows meet them as they lie. Where weights move, few rows meet the same bytes as many:
//! the numbers of a row do not depend on how many there are.

pub(super) mod rows;
pub(super) mod tile;

use std::cell::RefCell;
use std::ops::Range;

use self::rows::Rows;
use self::tile::Place;
use super::activation::BLOCK;
use super::gemm::{Part, Product, falling_parts};
use super::interleaved::Interleaved;
use super::isa::Isa;
use super::matrix::Storage;
use super::panels::Line;
use super::pool::{Disjoint, Pool};
use super::quarters::STEPS;
use super::tile::COLUMNS;

/// Strips of 16 rows of weights that are multiplied together.
pub(crate) const STRIPS: usize = 3;

/// Registers of a block of so many strips: `[four columns][strip]` bytes, of which 128 is zero, then `[strip][step]` scales.
pub(crate) const fn registers(strips: usize) -> usize {
    (8 + STEPS.len()) * strips
}

/// Blocks of columns that all rows meet before they meet the next, and triples of strips that are laid out of them at a time: 288 KiB, a third of a second-level cache of 1 MiB.
const DEPTH: usize = 64;
const TRIPLES: usize = 2;

thread_local! {
    /// Where a thread lays out weights.
    static WEIGHTS: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Whether there are such products here.
pub(crate) fn is_here(isa: Isa) -> bool {
    isa == Isa::Avx512
}

/// Rows for which it is worth while to lay out weights that are the same elsewhere.
const MANY: usize = 128;

/// Whether these products of a prompt's rows are made so: where they can be, but for few rows with weights that are the same elsewhere.
pub(super) fn suits(isa: Isa, rows: usize, products: &[Product<'_>]) -> bool {
    let all = |so: fn(&Interleaved) -> bool| {
        let so =
            |product: &Product<'_>| matches!(product.weights.storage(), Storage::Interleaved(weights) if so(weights));
        products.iter().all(so)
    };
    is_here(isa) && all(|_| true) && (rows >= MANY || !all(Interleaved::is_plain))
}

/// Products of rows with weights that are all interleaved, into targets of so many rows each; all of which is written.
///
/// # Panics
/// If the widths disagree, weights are stored otherwise, or such products are not here ([`is_here`]).
pub(super) fn products(pool: &Pool, isa: Isa, x: &[f32], rows: usize, targets: &[(Product<'_>, Disjoint<'_>)]) {
    let Some((first, _)) = targets.first() else { return };
    if rows == 0 {
        return;
    }
    let x = Rows::new(pool, isa, x, first.weights.columns());
    let units = targets.iter().map(|(product, _)| interleaved(product).strips());
    // At least about 32 KiB of weights a part: less costs more to hand out than to do.
    let strip_bytes = first.weights.bytes() / interleaved(first).strips();
    let smallest = (32 * 1024 / (strip_bytes * rows.div_ceil(4))).max(1).next_multiple_of(STRIPS);
    let parts = falling_parts(units, rows, pool.threads(), smallest);
    pool.run(parts.len(), &|part| {
        let &Part { product, first, count, .. } = &parts[part];
        let (product, out) = &targets[product];
        let (n, lane) = (product.weights.rows(), first * COLUMNS);
        let lanes = (count * COLUMNS).min(n - lane);
        let mut start = vec![0.0; count * COLUMNS];
        if let Some(bias) = product.bias {
            start[..lanes].copy_from_slice(&bias[lane..lane + lanes]);
        }
        let to = Place { at: out.pointer(lane, (rows - 1) * n + lanes), stride: n };
        // SAFETY: these columns of `out` belong to this part alone; `pointer` checked that the last row has them.
        unsafe { some(interleaved(product), first..first + count, &x, &start, to, lanes) };
        if let Some(then) = product.then {
            for row in 0..rows {
                // SAFETY: as above; they were written.
                then(isa, unsafe { out.slice(row * n + lane, lanes) });
            }
        }
    });
}

fn interleaved<'a>(product: &Product<'a>) -> &'a Interleaved {
    match product.weights.storage() {
        Storage::Interleaved(weights) => weights,
        _ => panic!("{:?} is not interleaved", product.weights),
    }
}

/// Products of all rows with some strips, which have `lanes` rows of weights, from the sums in `start` on.
///
/// # Safety
/// Of each row so many floats can be written at `to`.
unsafe fn some(weights: &Interleaved, strips: Range<usize>, x: &Rows<'_>, start: &[f32], to: Place, lanes: usize) {
    let lines = DEPTH.min(x.blocks()) * registers(STRIPS);
    WEIGHTS.with_borrow_mut(|room| {
        if room.len() < TRIPLES * lines {
            room.resize(TRIPLES * lines, Line([0.0; COLUMNS]));
        }
        for from in strips.clone().step_by(TRIPLES * STRIPS) {
            let triples = (from..strips.end.min(from + TRIPLES * STRIPS)).step_by(STRIPS);
            let triples = triples.map(|first| first..strips.end.min(first + STRIPS));
            for block in (0..x.blocks()).step_by(DEPTH) {
                let blocks = block..x.blocks().min(block + DEPTH);
                for (strips, room) in triples.clone().zip(room.chunks_exact_mut(lines)) {
                    weights.layout(strips, blocks.clone(), room);
                }
                for first in (0..x.rows()).step_by(tile::ROWS) {
                    let rows = first..x.rows().min(first + tile::ROWS);
                    for (some, room) in triples.clone().zip(room.chunks_exact(lines)) {
                        let lane = (some.start - strips.start) * COLUMNS;
                        let lanes = (some.len() * COLUMNS).min(lanes - lane);
                        let to = Place { at: to.row(first).at.wrapping_add(lane), ..to };
                        let (rows, blocks) = (rows.clone(), blocks.clone());
                        let start = (block == 0).then(|| &start[lane..]);
                        // SAFETY: by the contract; sums that were written unless the blocks are the first.
                        unsafe { tile::products(some.len(), room, x, rows, blocks, start, to, lanes) };
                    }
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::gemm::{Results, stream};
    use crate::kernels::interleaved::random_blocks;
    use crate::kernels::isa::isa;
    use crate::kernels::matrix::{Activations, Matrix};
    use crate::kernels::panels::bytes;
    use crate::weights::{Dtype, StoredTensor};

    const TYPES: [Dtype; 8] =
        [Dtype::Q8_0, Dtype::Q4_0, Dtype::Q4_1, Dtype::Q5_0, Dtype::Q5_1, Dtype::Q4K, Dtype::Q5K, Dtype::Q6K];

    fn matrix(dtype: Dtype, rows: usize, columns: usize) -> Matrix {
        let mut data = random_blocks(dtype, rows, columns);
        for (i, block) in data.chunks_exact_mut(dtype.block_bytes()).enumerate() {
            let scale = if dtype == Dtype::Q6K { &mut block[208..210] } else { &mut block[..2] };
            match i % 11 {
                // Nothing, beside its minimum.
                3 => scale.fill(0),
                // Less than nothing, as it often is where quants have an offset.
                5 | 8 if matches!(dtype, Dtype::Q4_0 | Dtype::Q5_0) => scale[1] |= 0x80,
                _ => {}
            }
        }
        let shape = vec![rows, columns];
        Matrix::new(StoredTensor { name: "w".into(), dtype, shape, data: data.into() }).unwrap()
    }

    /// What a matrix is when it is laid out: `[row][column]`, and of each block the scale.
    fn laid_out(weights: &Matrix) -> (Vec<f64>, Vec<f32>) {
        let (rows, columns) = (weights.rows(), weights.columns());
        let blocks = columns / BLOCK;
        let (mut values, mut scales) = (vec![0.0; rows * columns], vec![0.0; rows * blocks]);
        let Storage::Interleaved(interleaved) = weights.storage() else { panic!("{weights:?}") };
        let mut line = vec![Line([f32::NAN; COLUMNS]); registers(1)];
        for (row, block) in (0..rows).flat_map(|row| (0..blocks).map(move |block| (row, block))) {
            interleaved.layout(row / COLUMNS..row / COLUMNS + 1, block..block + 1, &mut line);
            let all: [f32; STEPS.len()] = std::array::from_fn(|step| line[8 + step].0[row % COLUMNS]);
            let scale = all[0];
            assert!(all.iter().zip(STEPS).all(|(of, step)| of.to_bits() == (scale * step).to_bits() || scale.is_nan()));
            scales[row * blocks + block] = scale;
            for k in 0..BLOCK {
                let byte = bytes(&line)[k / 4 * 64 + row % COLUMNS * 4 + k % 4];
                values[row * columns + block * BLOCK + k] = (f64::from(byte) - 128.0) * f64::from(scale);
            }
        }
        (values, scales)
    }

    fn weights_have_minima(dtype: Dtype) -> bool {
        matches!(dtype, Dtype::Q4_1 | Dtype::Q5_1 | Dtype::Q4K | Dtype::Q5K)
    }

    #[test]
    fn weights_stay_or_move_by_little_more_than_half_a_step() {
        if !is_here(isa()) {
            return; // Nothing is laid out here.
        }
        for dtype in TYPES {
            let columns = if dtype.block_len() == 256 { 768 } else { 352 };
            let weights = matrix(dtype, 37, columns);
            let (values, scales) = laid_out(&weights);
            let plain = weights.to_f32();
            let mut alike = 0;
            for (index, (values, plain)) in values.chunks(BLOCK).zip(plain.chunks(BLOCK)).enumerate() {
                let scale = f64::from(scales[index].abs());
                let largest = plain.iter().fold(0.0f32, |a, b| a.max(b.abs()));
                let moved: Vec<f64> = values.iter().zip(plain).map(|(a, b)| (a - f64::from(*b)).abs()).collect();
                if matches!(dtype, Dtype::Q8_0 | Dtype::Q4_0 | Dtype::Q5_0) {
                    assert!(moved.iter().all(|moved| *moved == 0.0), "{dtype:?} {index}: {moved:?}");
                    continue;
                }
                // A size that scale and minimum allow and no weight has makes steps larger, and so do whole parts of a scale, of which the best moves weights by no more than the least.
                let most = f64::from(largest) / 127.0;
                assert!(
                    dtype == Dtype::Q6K || moved.iter().all(|moved| *moved <= most),
                    "{dtype:?} {index}: {moved:?}"
                );
                assert!(dtype != Dtype::Q6K || scale <= 1.7 * most, "{dtype:?} {index}: {scale} {most}");
                for (moved, value) in moved.iter().zip(values) {
                    // By a whole one where halves of opposite signs have about one step: a byte has no 128.
                    let most = if dtype == Dtype::Q6K && value.abs() == 127.0 * scale { 1.02 } else { 0.52 };
                    assert!(*moved <= most * scale, "{dtype:?} {index}: {value} by {moved} of {scale}");
                }
                let by = values.iter().zip(plain).map(|(a, b)| a - f64::from(*b));
                let (least, most) = by.fold((f64::MAX, f64::MIN), |(a, b), by| (a.min(by), b.max(by)));
                alike += usize::from(most - least <= 1e-3 * scale);
                let stays = |some: &[f64]| some.iter().all(|moved| *moved <= 1e-5 * scale);
                assert!(dtype != Dtype::Q6K || moved.chunks(16).any(stays), "{index}: no weight stays");
            }
            if weights_have_minima(dtype) {
                // Steps are whole parts of the scale, so a block moves as one, unless a part that is not there or the end of a byte is in the way.
                let blocks = 37 * columns / BLOCK;
                assert!(alike * 10 >= blocks * 8, "{dtype:?}: {alike} of {blocks}");
            }
        }
    }

    #[test]
    fn scales_that_are_not_finite_show() {
        if !is_here(isa()) {
            return; // Nothing is laid out here.
        }
        for dtype in TYPES {
            for bad in [half::f16::INFINITY, half::f16::NAN] {
                let mut data = random_blocks(dtype, 1, dtype.block_len());
                let scale = if dtype == Dtype::Q6K { 208 } else { 0 };
                data[scale..scale + 2].copy_from_slice(&bad.to_le_bytes());
                let shape = vec![1, dtype.block_len()];
                let weights = Matrix::new(StoredTensor { name: "w".into(), dtype, shape, data: data.into() }).unwrap();
                assert!(laid_out(&weights).1.iter().all(|scale| !scale.is_finite()), "{dtype:?}");
            }
        }
    }

    #[test]
    fn products_are_those_of_the_bytes_whatever_the_company() {
        if !is_here(isa()) {
            return; // There are no such products here.
        }
        let shapes: [(usize, usize, usize); 6] =
            [(1, 1, 32), (2, 16, 64), (7, 50, 96), (61, 47, 448), (130, 150, 256), (8, 33, 4352)];
        for (dtype, (rows, n, k)) in TYPES.into_iter().flat_map(|dtype| shapes.map(|shape| (dtype, shape))) {
            let k = k.next_multiple_of(dtype.block_len());
            let weights = matrix(dtype, n, k);
            let bias: Vec<f32> = (0..n).map(|i| i as f32 * 0.01).collect();
            let x: Vec<f32> = (0..rows * k).map(|i| ((i * 37 % 113) as f32 - 56.0) / 50.0).collect();
            let pool = Pool::new(2);
            let run = |x: &[f32], rows: usize| {
                let product = [Product { weights: &weights, bias: Some(&bias), then: None }];
                let mut results = Results::new(&pool, x, rows, &product);
                products(&pool, isa(), x, rows, &results.targets(rows));
                // SAFETY: all was written.
                let [out] = unsafe { results.finish(rows) };
                out
            };
            let (w, _) = laid_out(&weights);
            let quantized = Rows::new(&pool, isa(), &x, k);
            let value = |row: usize, column: usize| {
                let block = quantized.row(row)[column / BLOCK];
                let step = f64::from(block.exponent).exp2() * f64::from(STEPS[block.step as usize / 64]);
                f64::from(block.q[column % BLOCK]) * step
            };
            let together = run(&x, rows);
            if interleaved(&Product { weights: &weights, bias: None, then: None }).is_plain() {
                let product = [Product { weights: &weights, bias: Some(&bias), then: None }];
                let [elsewhere] = stream(&pool, &x, rows, Activations::Int8, &product);
                assert_eq!(together, elsewhere, "{dtype:?} {rows} {n} {k}: weights as they lie give other numbers");
            }
            for (row, sums) in together.chunks_exact(n).enumerate() {
                for (column, sum) in sums.iter().enumerate() {
                    let terms: Vec<f64> = (0..k).map(|i| value(row, i) * w[column * k + i]).collect();
                    let (want, size) = (terms.iter().sum::<f64>(), terms.iter().map(|term| term.abs()).sum::<f64>());
                    let got = f64::from(*sum) - f64::from(bias[column]);
                    assert!((got - want).abs() <= 2e-6 * (size + 1.0), "{dtype:?} {rows} {n} {k}: {got} {want}");
                }
                assert_eq!(run(&x[row * k..][..k], 1), sums, "{dtype:?} {rows} {n} {k}: a row depends on its company");
            }
        }
    }
}
