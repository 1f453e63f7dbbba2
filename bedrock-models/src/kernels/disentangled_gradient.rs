//! Gradients of disentangled attention, without ever holding all scores: those of a block of queries are computed again.
//!
//! A head is one part of the work, and its sequences come one after another: what is learnt about positions is a sum over all of them, which then does
//! not depend on the threads. The gradient of a score goes to the content of both tokens, and to the bucket of their distance; all of a
//! token's scores in a bucket are summed first, so that what buckets get is a product like any other.

use super::attention_gradient::{HeadOf, Inputs, QUERIES, Whole, product, zeros};
use super::disentangled::{Disentangled, Positions};
use super::elementwise::{exp_sum, highest};
use super::isa::{Isa, isa};
use super::pool::{Disjoint, Pool};
use super::tile::COLUMNS;

/// Gradients for queries, keys and values, and for what queries and what keys meet, `[buckets, heads · dim]` (nothing where there is none).
pub(crate) type Gradients = ([Vec<f32>; 3], [Vec<f32>; 2]);

/// Gradients of [`attend`](super::disentangled::attend), given that for its result. `out` is what it said.
///
/// # Panics
/// If the shapes disagree, or a sequence is longer than the reach of the buckets.
pub(crate) fn backward(
    pool: &Pool,
    layer: Disentangled<'_>,
    inputs: Inputs<'_>,
    sequences: &[(usize, usize)],
    out: &[f32],
    gradient: &[f32],
) -> Gradients {
    let (isa, len, Disentangled { heads, dim, .. }) = (isa(), inputs.queries.len(), layer);
    let (width, padded) = (heads * dim, dim.next_multiple_of(COLUMNS));
    assert!(inputs.keys.len() == len && inputs.values.len() == len && out.len() == len && gradient.len() == len);
    let mut next = 0;
    for (first, rows) in sequences {
        assert!(*first >= next && (first + rows) * width <= len, "rows of two sequences, or of none");
        assert!(2 * rows <= layer.buckets.len() + 1, "a sequence too long");
        next = first + rows;
    }
    let tables = [layer.keys, layer.queries];
    let mut found = [(); 3].map(|()| zeros(pool, len));
    let mut learnt = tables.map(|table| vec![0.0; table.map_or(0, |table| table.buckets * width)]);
    let to = found.each_mut().map(|found| Disjoint::new(found));
    let to_tables = learnt.each_mut().map(|learnt| Disjoint::new(learnt));
    pool.run(heads, &|head| {
        let mut sums = tables.map(|table| vec![0.0; table.map_or(0, |table| dim * table.stride)]);
        for (first_row, tokens) in sequences.iter().copied().filter(|(_, tokens)| *tokens > 0) {
            let span = Whole { first_row, tokens };
            let of = |values| HeadOf::new(values, heads, dim, head, span);
            let Inputs { queries, keys, values } = inputs;
            let found =
                of_sequence(isa, layer, head, [queries, keys, values, out, gradient].map(of), tokens, &mut sums);
            for (to, found) in to.iter().zip(found) {
                for (row, found) in found.chunks_exact(padded).enumerate() {
                    // SAFETY: this head's numbers of this row are written by this part alone.
                    unsafe { to.slice((first_row + row) * width + head * dim, dim) }.copy_from_slice(&found[..dim]);
                }
            }
        }
        for ((to, table), sums) in to_tables.iter().zip(tables).zip(sums) {
            let Some(table) = table else { continue };
            for bucket in 0..table.buckets {
                // SAFETY: as above, of this bucket.
                let to = unsafe { to.slice(bucket * width + head * dim, dim) };
                to.iter_mut().enumerate().for_each(|(i, to)| *to = sums[i * table.stride + bucket]);
            }
        }
    });
    (found, learnt)
}

/// Of one head of a sequence of `len` rows: gradients for queries, keys and values, `[len][padded]`; those for the buckets, `[dim][stride]`, are
/// added to `sums`.
fn of_sequence(
    isa: Isa,
    layer: Disentangled<'_>,
    head: usize,
    [q, k, v, out, dy]: [HeadOf<'_>; 5],
    len: usize,
    sums: &mut [Vec<f32>; 2],
) -> [Vec<f32>; 3] {
    let Disentangled { dim, scale, .. } = layer;
    let (padded, columns) = (dim.next_multiple_of(COLUMNS), len.next_multiple_of(COLUMNS));
    let reach = len as isize - 1;
    let least = layer.bucket(-reach);
    let buckets = (layer.bucket(reach) + 1 - least).next_multiple_of(COLUMNS);
    let room = |table: Option<&Positions>, rows: usize| vec![0.0f32; if table.is_some() { rows * buckets } else { 0 }];
    let turned_table = |table: &Positions| {
        let values = table.head(head, dim, least);
        let mut rows = vec![0.0; buckets * padded];
        for (bucket, row) in rows.chunks_exact_mut(padded).enumerate() {
            row[..dim].iter_mut().enumerate().for_each(|(i, to)| *to = values[i * table.stride + bucket] * scale);
        }
        rows
    };
    let [met_by_queries, met_by_keys] = [layer.keys, layer.queries].map(|table| table.map(turned_table));
    let (queries, plain, keys) = (q.copied(len, dim, scale), dy.copied(len, dim, 1.0), k.copied(len, padded, scale));
    let [keys_turned, values_turned] = [&k, &v].map(|head| head.turned(len, columns));
    let (mut by_key, mut for_by_key) = (room(layer.queries, len), room(layer.queries, len));
    if let Some(table) = layer.queries {
        let values = table.head(head, dim, least);
        product(isa, &keys, padded, values, table.stride, [len, dim, buckets], &mut by_key, false);
    }
    let (mut by_query, mut for_by_query) = (room(layer.keys, QUERIES), room(layer.keys, QUERIES));
    let (mut shares, mut wanted) = (vec![0.0; QUERIES * columns], vec![0.0; QUERIES * columns]);
    let mut for_queries = vec![0.0; len * padded];
    // `[dim][columns]`: their columns are keys.
    let (mut for_keys, mut for_values) = (vec![0.0; dim * columns], vec![0.0; dim * columns]);
    let (mut turned, mut for_buckets) = (vec![0.0; dim * QUERIES], vec![0.0; dim * buckets]);
    let add = |sums: &mut [f32], stride: usize, more: &[f32], by: f32| {
        for (sums, more) in sums.chunks_exact_mut(stride).zip(more.chunks_exact(buckets)) {
            sums[least..].iter_mut().zip(more).for_each(|(sum, more)| *sum += by * more);
        }
    };
    for first in (0..len).step_by(QUERIES) {
        let count = QUERIES.min(len - first);
        let block = &queries[first * dim..];
        product(isa, block, dim, &keys_turned, columns, [count, dim, columns], &mut shares, false);
        if let Some(table) = layer.keys {
            let values = table.head(head, dim, least);
            product(isa, block, dim, values, table.stride, [count, dim, buckets], &mut by_query, false);
        }
        for (row, shares) in shares.chunks_exact_mut(columns).enumerate().take(count) {
            shares[len..].fill(0.0);
            let scores = &mut shares[..len];
            let buckets_of = layer.buckets_of(first + row, len).map(|bucket| bucket - least);
            if layer.keys.is_some() {
                let by_query = &by_query[row * buckets..][..buckets];
                scores.iter_mut().zip(buckets_of.clone()).for_each(|(score, bucket)| *score += by_query[bucket]);
            }
            if layer.queries.is_some() {
                let by_key = by_key.chunks_exact(buckets);
                scores.iter_mut().zip(buckets_of).zip(by_key).for_each(|((s, bucket), by_key)| *s += by_key[bucket]);
            }
            let top = highest(isa, scores);
            let sum = exp_sum(isa, scores, top);
            scores.iter_mut().for_each(|share| *share /= sum);
        }
        product(isa, &plain[first * dim..], dim, &values_turned, columns, [count, dim, columns], &mut wanted, false);
        for_by_query.fill(0.0);
        for row in 0..count {
            let pull: f32 = out.row(first + row).iter().zip(dy.row(first + row)).map(|(a, b)| a * b).sum();
            let (share, wanted) = (&shares[row * columns..][..columns], &mut wanted[row * columns..][..columns]);
            wanted.iter_mut().zip(share).for_each(|(wanted, share)| *wanted = share * (*wanted - pull));
            let buckets_of = layer.buckets_of(first + row, len).map(|bucket| bucket - least);
            if layer.keys.is_some() {
                let sums = &mut for_by_query[row * buckets..][..buckets];
                wanted.iter().zip(buckets_of.clone()).for_each(|(wanted, bucket)| sums[bucket] += wanted);
            }
            if layer.queries.is_some() {
                let sums = for_by_key.chunks_exact_mut(buckets);
                wanted.iter().zip(buckets_of).zip(sums).for_each(|((wanted, bucket), sums)| sums[bucket] += wanted);
            }
        }
        let to = &mut for_queries[first * padded..];
        product(isa, &wanted, columns, &keys, padded, [count, len, padded], to, false);
        if let Some(rows) = &met_by_queries {
            product(isa, &for_by_query, buckets, rows, padded, [count, buckets, padded], to, true);
        }
        let mut turn = |rows: &[f32]| {
            for row in 0..count {
                let from = &rows[(first + row) * dim..][..dim];
                from.iter().enumerate().for_each(|(i, value)| turned[i * count + row] = *value);
            }
            turned[..dim * count].to_vec()
        };
        product(isa, &turn(&plain), count, &shares, columns, [dim, count, columns], &mut for_values, true);
        let block = turn(&queries);
        product(isa, &block, count, &wanted, columns, [dim, count, columns], &mut for_keys, true);
        if let Some(table) = layer.keys {
            product(isa, &block, count, &for_by_query, buckets, [dim, count, buckets], &mut for_buckets, false);
            add(&mut sums[0], table.stride, &for_buckets, 1.0);
        }
    }
    let [mut key_rows, mut value_rows] = [(); 2].map(|()| vec![0.0; len * padded]);
    if let (Some(table), Some(rows)) = (layer.queries, &met_by_keys) {
        product(isa, &for_by_key, buckets, rows, padded, [len, buckets, padded], &mut key_rows, false);
        product(isa, &keys_turned, columns, &for_by_key, buckets, [dim, len, buckets], &mut for_buckets, false);
        add(&mut sums[1], table.stride, &for_buckets, scale);
    }
    for (rows, from) in [(&mut key_rows, &for_keys), (&mut value_rows, &for_values)] {
        for (row, to) in rows.chunks_exact_mut(padded).enumerate() {
            to[..dim].iter_mut().enumerate().for_each(|(i, to)| *to += from[i * columns + row]);
        }
    }
    [for_queries, key_rows, value_rows]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::disentangled::attend;

    const SPAN: usize = 7;

    fn numbers(len: usize, salt: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 37 + salt * 11) % 101) as f32 / 50.0 - 1.0).collect()
    }

    /// Neighbours share a bucket, and so do all that are far.
    fn bucket(distance: isize) -> usize {
        (distance / 2 + SPAN as isize).clamp(0, 2 * SPAN as isize - 1) as usize
    }

    /// Some heads, sequences, and which of the two tables there are.
    struct Case {
        heads: usize,
        dim: usize,
        sequences: Vec<(usize, usize)>,
        known: [bool; 2],
    }

    impl Case {
        /// Queries, keys, values, what queries meet and what keys meet.
        fn inputs(&self) -> [Vec<f32>; 5] {
            let (rows, width) = (self.sequences.iter().map(|(_, rows)| rows).sum::<usize>(), self.heads * self.dim);
            let count = |table: usize| if self.known[table] { 2 * SPAN * width } else { 0 };
            let lens = [rows * width, rows * width, rows * width, count(0), count(1)];
            std::array::from_fn(|at| numbers(lens[at], at + 1))
        }

        fn run(&self, threads: usize, [q, k, v, a, b]: &[Vec<f32>; 5], dy: &[f32]) -> (Vec<f32>, Gradients) {
            let pool = Pool::new(threads);
            let tables =
                [a, b].map(|rows| (!rows.is_empty()).then(|| Positions::new(rows, 2 * SPAN, self.heads, self.dim)));
            let reach = 200;
            let buckets: Vec<usize> = (1 - reach..reach).map(bucket).collect();
            let layer = Disentangled {
                heads: self.heads,
                dim: self.dim,
                scale: 0.6,
                keys: tables[0].as_ref(),
                queries: tables[1].as_ref(),
                buckets: &buckets,
            };
            let mut out = vec![0.0; q.len()];
            attend(&pool, layer, [q, k, v], &self.sequences, &mut out);
            let inputs = Inputs { queries: q, keys: k, values: v };
            let gradients = backward(&pool, layer, inputs, &self.sequences, &out, dy);
            (out, gradients)
        }

        /// By the definition, in `f64`: the sum of the results, each times its number in `dy`.
        fn loss(&self, [q, k, v, a, b]: &[Vec<f32>; 5], dy: &[f32]) -> f64 {
            let (width, mut loss) = (self.heads * self.dim, 0.0);
            for (first, rows) in &self.sequences {
                for (row, head) in (0..*rows).flat_map(|row| (0..self.heads).map(move |head| (row, head))) {
                    let at = |x: &[f32], row: usize, i: usize| f64::from(x[row * width + head * self.dim + i]);
                    let dot = |x: &[f32], i: usize, y: &[f32], j: usize| -> f64 {
                        (0..self.dim).map(|d| at(x, i, d) * at(y, j, d)).sum()
                    };
                    let score = |key: usize| {
                        let bucket = bucket(row as isize - key as isize);
                        let mut score = dot(q, first + row, k, first + key);
                        score += if self.known[0] { dot(q, first + row, a, bucket) } else { 0.0 };
                        score += if self.known[1] { dot(k, first + key, b, bucket) } else { 0.0 };
                        score * f64::from(0.6f32)
                    };
                    let scores: Vec<f64> = (0..*rows).map(score).collect();
                    let top = scores.iter().fold(f64::NEG_INFINITY, |top, score| top.max(*score));
                    let shares: Vec<f64> = scores.iter().map(|score| (score - top).exp()).collect();
                    let pull: Vec<f64> = (0..*rows).map(|key| dot(v, first + key, dy, first + row)).collect();
                    let sum: f64 = shares.iter().zip(pull).map(|(share, pull)| share * pull).sum();
                    loss += sum / shares.iter().sum::<f64>();
                }
            }
            loss
        }
    }

    const KNOWN: [[bool; 2]; 4] = [[false, false], [true, false], [false, true], [true, true]];

    #[test]
    fn each_gradient_is_a_slope() {
        for (heads, dim) in [(2, 3), (1, 17)] {
            for known in KNOWN {
                let case = Case { heads, dim, sequences: vec![(0, 5), (5, 0), (5, 1), (6, 3)], known };
                let inputs = case.inputs();
                let dy = numbers(inputs[0].len(), 9);
                let (_, (found, learnt)) = case.run(2, &inputs, &dy);
                for (which, got) in found.iter().chain(&learnt).enumerate() {
                    assert_eq!(got.len(), inputs[which].len());
                    for (i, got) in got.iter().enumerate() {
                        let (mut more, mut less) = (inputs.clone(), inputs.clone());
                        more[which][i] += 1.0 / 128.0;
                        less[which][i] -= 1.0 / 128.0;
                        let slope = (case.loss(&more, &dy) - case.loss(&less, &dy)) * 64.0;
                        let got = f64::from(*got);
                        assert!((got - slope).abs() < 1e-3, "{known:?} {which} {i}: {got}, not {slope}");
                    }
                }
            }
        }
    }

    /// Longer than a block of queries, on one thread and on three.
    #[test]
    fn long_sequences_on_any_number_of_threads() {
        for known in KNOWN {
            let case = Case { heads: 3, dim: 20, sequences: vec![(0, 150), (150, 67)], known };
            let inputs = case.inputs();
            let dy = numbers(inputs[0].len(), 9);
            let one = case.run(1, &inputs, &dy);
            assert_eq!(one, case.run(3, &inputs, &dy));
            let loss: f64 = one.0.iter().zip(&dy).map(|(out, dy)| f64::from(out * dy)).sum();
            assert!((loss - case.loss(&inputs, &dy)).abs() < 1e-3, "{known:?}");
            // Along a line: the slope is the gradient's share in its direction.
            let along: [Vec<f32>; 5] = std::array::from_fn(|at| numbers(inputs[at].len(), 20 + at));
            let at = |by: f32| {
                let moved = |at: usize| inputs[at].iter().zip(&along[at]).map(|(x, along)| x + by * along).collect();
                case.loss(&std::array::from_fn(moved), &dy)
            };
            let slope = (at(1.0 / 1024.0) - at(-1.0 / 1024.0)) * 512.0;
            let (found, learnt) = &one.1;
            let pairs = found.iter().chain(learnt).flatten().zip(along.iter().flatten());
            let got: f64 = pairs.map(|(gradient, along)| f64::from(*gradient) * f64::from(*along)).sum();
            assert!((got - slope).abs() < 1e-3 * slope.abs().max(1.0), "{known:?}: {got}, not {slope}");
        }
    }
}
