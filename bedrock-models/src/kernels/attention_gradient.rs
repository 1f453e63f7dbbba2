//! Attention of whole sequences for training, and its gradients, without ever holding all scores.
//!
//! What is kept of the forward pass is the logarithm of each softmax's sum; backwards, the scores of a block of queries are computed
//! again (Dao 2023). A head of a sequence is one part of the work.

use super::attention::{Heads, Mask};
use super::elementwise::{exp_sum, highest};
use super::gradient::shares;
use super::isa::{Isa, isa};
use super::pool::{Disjoint, Pool};
use super::tile::{COLUMNS, ROWS, Start, WIDE, has_wide, tile_at, wide_at};

/// Queries whose scores are in memory at once, for each thread.
pub(super) const QUERIES: usize = 66;

/// Rows of one sequence, which sees itself alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whole {
    pub(crate) first_row: usize,
    pub(crate) tokens: usize,
}

/// Queries, keys and values, `[rows, heads · dim]` each.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    pub(crate) queries: &'a [f32],
    pub(crate) keys: &'a [f32],
    pub(crate) values: &'a [f32],
}

/// `out[r][c] (+)= Σ_k a[r·lda + k] · b[k·ldb + c]` on this thread, for `n` a multiple of 16.
///
/// # Panics
/// If an operand is too short.
#[allow(clippy::too_many_arguments)]
pub(super) fn product(
    isa: Isa,
    a: &[f32],
    lda: usize,
    b: &[f32],
    ldb: usize,
    size: [usize; 3],
    out: &mut [f32],
    add: bool,
) {
    let [m, k, n] = size;
    assert!(n.is_multiple_of(COLUMNS) && out.len() >= m * n);
    let mut column = 0;
    while column < n {
        let wide = has_wide(isa) && column + WIDE <= n;
        for row in (0..m).step_by(ROWS) {
            let (rows, a) = (ROWS.min(m - row), &a[row * lda..]);
            let b = &b[column..];
            // SAFETY: rows `row..row + rows` of `out`, columns `column..` by the width of the tile, lie inside it; it is initialised.
            unsafe {
                let to = out.as_mut_ptr().add(row * n + column);
                if wide {
                    let sides = [b, &b[COLUMNS..], &b[2 * COLUMNS..], &b[3 * COLUMNS..]];
                    wide_at(isa, rows, k, a, lda, sides, ldb, (!add).then_some(&[0.0; WIDE]), to, n);
                } else {
                    let start = if add { Start::Out } else { Start::Row(&[0.0; COLUMNS]) };
                    tile_at(isa, rows, k, a, lda, b, ldb, start, to, n);
                }
            }
        }
        column += if wide { WIDE } else { COLUMNS };
    }
}

/// A head's rows of a sequence out of `[rows, width]`.
pub(super) struct HeadOf<'a> {
    values: &'a [f32],
    width: usize,
    first: usize,
    dim: usize,
}

impl<'a> HeadOf<'a> {
    pub(super) fn new(values: &'a [f32], heads: usize, dim: usize, head: usize, span: Whole) -> Self {
        let width = heads * dim;
        Self { values, width, first: span.first_row * width + head * dim, dim }
    }

    pub(super) fn row(&self, row: usize) -> &'a [f32] {
        &self.values[self.first + row * self.width..][..self.dim]
    }

    /// `[rows][padded]`, zeros after the head's numbers, times `scale`.
    pub(super) fn copied(&self, rows: usize, padded: usize, scale: f32) -> Vec<f32> {
        let mut out = vec![0.0; rows * padded];
        for (row, out) in out.chunks_exact_mut(padded).enumerate() {
            out.iter_mut().zip(self.row(row)).for_each(|(to, from)| *to = from * scale);
        }
        out
    }

    /// `[dim][padded]`, zeros after the rows.
    pub(super) fn turned(&self, rows: usize, padded: usize) -> Vec<f32> {
        let mut out = vec![0.0; self.dim * padded];
        for row in 0..rows {
            self.row(row).iter().enumerate().for_each(|(i, value)| out[i * padded + row] = *value);
        }
        out
    }
}

/// The columns of scores that any of some queries sees, whole tiles.
fn columns(mask: Mask, first: usize, count: usize, len: usize) -> (usize, usize) {
    let seen = (first..first + count).map(|position| mask.visible(position, len));
    let (begin, end) = seen.fold((len, 0), |(begin, end), (from, to)| (begin.min(from), end.max(to)));
    (begin.min(end) / COLUMNS * COLUMNS, end.next_multiple_of(COLUMNS))
}

fn parts(heads: Heads, spans: &[Whole]) -> Vec<(usize, Whole)> {
    let heads = 0..heads.queries;
    spans.iter().flat_map(|span| heads.clone().map(move |head| (head, *span))).collect()
}

fn check(heads: Heads, inputs: Inputs<'_>, spans: &[Whole]) -> usize {
    let Heads { queries, keys, dim, .. } = heads;
    assert!(keys > 0 && dim > 0 && queries.is_multiple_of(keys));
    let rows = inputs.queries.len() / (queries * dim);
    assert!(inputs.keys.len() == rows * keys * dim && inputs.values.len() == inputs.keys.len());
    let mut next = 0;
    for span in spans {
        assert!(span.first_row >= next && span.first_row + span.tokens <= rows, "rows of two sequences, or of none");
        next = span.first_row + span.tokens;
    }
    rows
}

/// Attention `[rows, queries · dim]`, and the logarithm of each softmax's sum, `[queries][rows]`.
///
/// # Panics
/// If the shapes disagree, or the sequences overlap.
pub(crate) fn forward(
    pool: &Pool,
    heads: Heads,
    mask: Mask,
    inputs: Inputs<'_>,
    spans: &[Whole],
) -> (Vec<f32>, Vec<f32>) {
    let (isa, rows) = (isa(), check(heads, inputs, spans));
    let Heads { queries, keys, dim, scale } = heads;
    let padded = dim.next_multiple_of(COLUMNS);
    let (mut out, mut logs) = (zeros(pool, inputs.queries.len()), vec![0.0; queries * rows]);
    let parts = parts(heads, spans);
    let (to, to_logs) = (Disjoint::new(&mut out), Disjoint::new(&mut logs));
    pool.run(parts.len(), &|part| {
        let (head, span) = parts[part];
        let (len, stride) = (span.tokens, span.tokens.next_multiple_of(COLUMNS));
        let key_head = head * keys / queries;
        let scaled = HeadOf::new(inputs.queries, queries, dim, head, span).copied(len, dim, scale);
        let turned = HeadOf::new(inputs.keys, keys, dim, key_head, span).turned(len, stride);
        let values = HeadOf::new(inputs.values, keys, dim, key_head, span).copied(len, padded, 1.0);
        let mut scores = vec![0.0; QUERIES * stride];
        let mut sums = vec![0.0; QUERIES * padded];
        for first in (0..len).step_by(QUERIES) {
            let count = QUERIES.min(len - first);
            let (begin, end) = columns(mask, first, count, len);
            let width = end - begin;
            product(
                isa,
                &scaled[first * dim..],
                dim,
                &turned[begin..],
                stride,
                [count, dim, width],
                &mut scores,
                false,
            );
            for (row, scores) in scores.chunks_exact_mut(width.max(1)).enumerate().take(count) {
                let (from, to) = mask.visible(first + row, len);
                let (from, to) = (from - begin, to - begin);
                let top = highest(isa, &scores[from..to]);
                let sum = exp_sum(isa, &mut scores[from..to], top);
                scores[from..to].iter_mut().for_each(|share| *share /= sum);
                scores[..from].fill(0.0);
                scores[to..].fill(0.0);
                // SAFETY: one value a head and row.
                unsafe { to_logs.slice(head * rows + span.first_row + first + row, 1)[0] = top + sum.ln() };
            }
            let seen = end.min(len) - begin;
            product(isa, &scores, width, &values[begin * padded..], padded, [count, seen, padded], &mut sums, false);
            for (row, sums) in sums.chunks_exact(padded).enumerate().take(count) {
                let at = (span.first_row + first + row) * queries * dim + head * dim;
                // SAFETY: this head's numbers of this row are written by this part alone.
                unsafe { to.slice(at, dim) }.copy_from_slice(&sums[..dim]);
            }
        }
    });
    (out, logs)
}

/// Zeros, for rows that belong to no sequence too.
pub(super) fn zeros(pool: &Pool, len: usize) -> Vec<f32> {
    let mut zeros = pool.memory.take(len);
    zeros.fill(0.0);
    zeros
}

/// Gradients for queries, keys and values, given that for the result. `out` and `logs` are what [`forward`] said.
///
/// # Panics
/// If the shapes disagree, or the sequences overlap.
#[allow(clippy::too_many_arguments)]
pub(crate) fn backward(
    pool: &Pool,
    heads: Heads,
    mask: Mask,
    inputs: Inputs<'_>,
    spans: &[Whole],
    out: &[f32],
    logs: &[f32],
    gradient: &[f32],
) -> [Vec<f32>; 3] {
    let (isa, rows) = (isa(), check(heads, inputs, spans));
    let Heads { queries, keys, dim, scale } = heads;
    assert!(out.len() == inputs.queries.len() && gradient.len() == out.len() && logs.len() == queries * rows);
    let padded = dim.next_multiple_of(COLUMNS);
    let mut for_queries = zeros(pool, inputs.queries.len());
    // Of each query head by itself: those that share a key head are added up afterwards, in their order.
    let (mut for_keys, mut for_values) = (zeros(pool, rows * queries * dim), zeros(pool, rows * queries * dim));
    let parts = parts(heads, spans);
    let to = [&mut for_queries, &mut for_keys, &mut for_values].map(|out| Disjoint::new(out));
    pool.run(parts.len(), &|part| {
        let (head, span) = parts[part];
        let (len, stride) = (span.tokens, span.tokens.next_multiple_of(COLUMNS));
        let key_head = head * keys / queries;
        let of = |values, heads, head| HeadOf::new(values, heads, dim, head, span);
        let (q, k, v) =
            (of(inputs.queries, queries, head), of(inputs.keys, keys, key_head), of(inputs.values, keys, key_head));
        let (result, dy) = (of(out, queries, head), of(gradient, queries, head));
        let scaled = q.copied(len, dim, scale);
        let plain = dy.copied(len, dim, 1.0);
        let [keys_turned, values_turned] = [&k, &v].map(|head| head.turned(len, stride));
        let key_rows = k.copied(len, padded, scale);
        let (mut shares_of, mut wanted) = (vec![0.0; QUERIES * stride], vec![0.0; QUERIES * stride]);
        let mut for_block = vec![0.0; QUERIES * padded];
        // `[dim][stride]`: their columns are keys.
        let (mut for_k, mut for_v) = (vec![0.0; dim * stride], vec![0.0; dim * stride]);
        let mut turned = vec![0.0; dim * QUERIES];
        let mut sums = vec![0.0; dim * stride];
        for first in (0..len).step_by(QUERIES) {
            let count = QUERIES.min(len - first);
            let (begin, end) = columns(mask, first, count, len);
            let width = end - begin;
            let size = [count, dim, width];
            product(isa, &scaled[first * dim..], dim, &keys_turned[begin..], stride, size, &mut wanted, false);
            for row in 0..count {
                let (from, to) = mask.visible(first + row, len);
                let (from, to) = (from - begin, to - begin);
                let log = logs[head * rows + span.first_row + first + row];
                let (scores, share) = (&wanted[row * width..][..width], &mut shares_of[row * width..][..width]);
                share[from..to].copy_from_slice(&scores[from..to]);
                shares(isa, &mut share[from..to], log, 1.0);
                share[..from].fill(0.0);
                share[to..].fill(0.0);
            }
            product(isa, &plain[first * dim..], dim, &values_turned[begin..], stride, size, &mut wanted, false);
            // Shares that are zero make what is wanted of them zero.
            for row in 0..count {
                let pull: f32 = result.row(first + row).iter().zip(dy.row(first + row)).map(|(a, b)| a * b).sum();
                let share = &shares_of[row * width..][..width];
                let wanted = &mut wanted[row * width..][..width];
                wanted.iter_mut().zip(share).for_each(|(wanted, share)| *wanted = share * (*wanted - pull));
            }
            let seen = end.min(len) - begin;
            let key_rows = &key_rows[begin * padded..];
            product(isa, &wanted, width, key_rows, padded, [count, seen, padded], &mut for_block, false);
            for (row, sums) in for_block.chunks_exact(padded).enumerate().take(count) {
                let at = (span.first_row + first + row) * queries * dim + head * dim;
                // SAFETY: this head's numbers of this row are written by this part alone.
                unsafe { to[0].slice(at, dim) }.copy_from_slice(&sums[..dim]);
            }
            for (left, right, total) in [(&plain, &shares_of, &mut for_v), (&scaled, &wanted, &mut for_k)] {
                for row in 0..count {
                    let from = &left[(first + row) * dim..][..dim];
                    from.iter().enumerate().for_each(|(i, value)| turned[i * count + row] = *value);
                }
                product(isa, &turned, count, right, width, [dim, count, width], &mut sums, false);
                for (total, sums) in total.chunks_exact_mut(stride).zip(sums.chunks_exact(width.max(1))) {
                    total[begin..end].iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
                }
            }
        }
        for (to, from) in to[1..].iter().zip([&for_k, &for_v]) {
            for row in 0..len {
                let at = (span.first_row + row) * queries * dim + head * dim;
                // SAFETY: as above.
                let to = unsafe { to.slice(at, dim) };
                to.iter_mut().enumerate().for_each(|(i, to)| *to = from[i * stride + row]);
            }
        }
    });
    let group = queries / keys;
    let [for_keys, for_values] = [for_keys, for_values].map(|each| {
        if group == 1 {
            return each;
        }
        let mut sums = pool.memory.take(each.len() / group);
        for (sum, heads) in sums.chunks_exact_mut(dim).zip(each.chunks_exact(group * dim)) {
            sum.copy_from_slice(&heads[..dim]);
            for head in heads[dim..].chunks_exact(dim) {
                sum.iter_mut().zip(head).for_each(|(sum, head)| *sum += head);
            }
        }
        pool.memory.give(each);
        sums
    });
    [for_queries, for_keys, for_values]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(len: usize, salt: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 37 + salt * 11) % 101) as f32 / 50.0 - 1.0).collect()
    }

    /// By the definition, in `f64`.
    fn plain(heads: Heads, mask: Mask, [q, k, v]: [&[f32]; 3], spans: &[Whole]) -> Vec<f64> {
        let Heads { queries, keys, dim, scale } = heads;
        let mut out = vec![0.0; q.len()];
        for span in spans {
            for (row, head) in (0..span.tokens).flat_map(|row| (0..queries).map(move |head| (row, head))) {
                let key_head = head / (queries / keys);
                let query = &q[((span.first_row + row) * queries + head) * dim..][..dim];
                let of =
                    |x: &[f32], at: usize, i: usize| f64::from(x[((span.first_row + at) * keys + key_head) * dim + i]);
                let (from, to) = mask.visible(row, span.tokens);
                let score =
                    |at: usize| (0..dim).map(|i| f64::from(query[i]) * of(k, at, i)).sum::<f64>() * f64::from(scale);
                let shares: Vec<f64> = (from..to).map(|at| score(at).exp()).collect();
                let sum: f64 = shares.iter().sum();
                for i in 0..dim {
                    let value = (from..to).zip(&shares).map(|(at, share)| share / sum * of(v, at, i)).sum();
                    out[((span.first_row + row) * queries + head) * dim + i] = value;
                }
            }
        }
        out
    }

    #[test]
    fn attention_and_its_slopes() {
        let spans = [Whole { first_row: 0, tokens: 5 }, Whole { first_row: 5, tokens: 1 }];
        for mask in [Mask::Causal { window: None }, Mask::Causal { window: Some(2) }, Mask::Full, Mask::Around(1)] {
            for (queries, keys, dim) in [(2, 1, 3), (2, 2, 4)] {
                let heads = Heads { queries, keys, dim, scale: 0.7 };
                let x = [numbers(6 * queries * dim, 1), numbers(6 * keys * dim, 2), numbers(6 * keys * dim, 3)];
                let dy = numbers(x[0].len(), 4);
                let pool = Pool::new(2);
                let inputs = Inputs { queries: &x[0], keys: &x[1], values: &x[2] };
                let (out, logs) = forward(&pool, heads, mask, inputs, &spans);
                let want = plain(heads, mask, [&x[0], &x[1], &x[2]], &spans);
                out.iter().zip(&want).for_each(|(a, b)| assert!((f64::from(*a) - b).abs() < 1e-5, "{a} {b}"));
                let got = backward(&pool, heads, mask, inputs, &spans, &out, &logs, &dy);
                let loss = |x: &[Vec<f32>; 3]| -> f64 {
                    let out = plain(heads, mask, [&x[0], &x[1], &x[2]], &spans);
                    out.iter().zip(&dy).map(|(out, dy)| out * f64::from(*dy)).sum()
                };
                for which in 0..3 {
                    for i in 0..x[which].len() {
                        let (mut more, mut less) = (x.clone(), x.clone());
                        more[which][i] += 1.0 / 128.0;
                        less[which][i] -= 1.0 / 128.0;
                        let slope = (loss(&more) - loss(&less)) * 64.0;
                        let value = f64::from(got[which][i]);
                        assert!((value - slope).abs() < 1e-3, "{mask:?} {which} {i}: {value}, not {slope}");
                    }
                }
            }
        }
    }

    /// Longer than a block of queries, on one thread and on three.
    #[test]
    fn long_sequences_on_any_number_of_threads() {
        let heads = Heads { queries: 4, keys: 2, dim: 20, scale: 0.3 };
        let spans = [Whole { first_row: 0, tokens: 150 }, Whole { first_row: 150, tokens: 67 }];
        let x = [numbers(217 * 80, 1), numbers(217 * 40, 2), numbers(217 * 40, 3)];
        let dy = numbers(217 * 80, 5);
        for mask in [Mask::Causal { window: None }, Mask::Causal { window: Some(40) }, Mask::Full] {
            let inputs = Inputs { queries: &x[0], keys: &x[1], values: &x[2] };
            let run = |threads| {
                let pool = Pool::new(threads);
                let (out, logs) = forward(&pool, heads, mask, inputs, &spans);
                let gradients = backward(&pool, heads, mask, inputs, &spans, &out, &logs, &dy);
                (out, gradients)
            };
            let (one, three) = (run(1), run(3));
            assert_eq!(one, three);
            let want = plain(heads, mask, [&x[0], &x[1], &x[2]], &spans);
            one.0.iter().zip(&want).for_each(|(a, b)| assert!((f64::from(*a) - b).abs() < 1e-5, "{a} {b}"));
            // Along a line: the slope is the gradient's share in its direction.
            let along = [numbers(x[0].len(), 7), numbers(x[1].len(), 8), numbers(x[2].len(), 9)];
            let at = |by: f32| {
                let moved: Vec<Vec<f32>> =
                    x.iter().zip(&along).map(|(x, a)| x.iter().zip(a).map(|(x, a)| x + by * a).collect()).collect();
                let out = plain(heads, mask, [&moved[0], &moved[1], &moved[2]], &spans);
                out.iter().zip(&dy).map(|(out, dy)| out * f64::from(*dy)).sum::<f64>()
            };
            let slope = (at(1.0 / 1024.0) - at(-1.0 / 1024.0)) * 512.0;
            let pairs = one.1.iter().flatten().zip(along.iter().flatten());
            let got: f64 = pairs.map(|(gradient, along)| f64::from(*gradient) * f64::from(*along)).sum();
            assert!((got - slope).abs() < 1e-3 * slope.abs().max(1.0), "{mask:?}: {got}, not {slope}");
        }
    }
}
