//! Disentangled attention (He et al. 2020): a score is content against content, plus content of the query against the key's relative
//! position, plus content of the key against the query's.
//!
//! `score(q, k) = scale · (Q_q · K_k + Q_q · PK_δ + K_k · PQ_δ)`, where `δ` is the bucket of the distance from `k` to `q`. The products with
//! all buckets are tiles like any other; each score then picks its two.

use super::elementwise::{exp_sum, highest};
use super::isa::{Isa, isa};
use super::pool::{Disjoint, Pool};
use super::tile::{COLUMNS, ROWS, tile};

/// One vector for each bucket and head.
#[derive(Debug)]
pub(crate) struct Positions {
    /// `[heads][dim][stride]`
    values: Vec<f32>,
    pub(super) stride: usize,
    #[cfg(feature = "tune")]
    pub(super) buckets: usize,
}

impl Positions {
    /// Turns `rows`, which are `[buckets, heads · dim]`, into the order of the tiles.
    pub(crate) fn new(rows: &[f32], buckets: usize, heads: usize, dim: usize) -> Self {
        assert_eq!(rows.len(), buckets * heads * dim);
        // A tile may begin at any bucket.
        let stride = (buckets + COLUMNS - 1).next_multiple_of(COLUMNS);
        let mut values = vec![0.0; heads * dim * stride];
        for (bucket, row) in rows.chunks_exact(heads * dim).enumerate() {
            row.iter().enumerate().for_each(|(feature, value)| values[feature * stride + bucket] = *value);
        }
        Self {
            values,
            stride,
            #[cfg(feature = "tune")]
            buckets,
        }
    }

    /// Of one head, from a bucket on.
    pub(super) fn head(&self, head: usize, dim: usize, bucket: usize) -> &[f32] {
        &self.values[head * dim * self.stride + bucket..(head + 1) * dim * self.stride]
    }
}

/// A layer's heads and what they know about positions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disentangled<'a> {
    pub(crate) heads: usize,
    pub(crate) dim: usize,
    pub(crate) scale: f32,
    /// What queries meet: content to position.
    pub(crate) keys: Option<&'a Positions>,
    /// What keys meet: position to content.
    pub(crate) queries: Option<&'a Positions>,
    /// Buckets of the distances from `1 - reach` to `reach - 1` of a query after its key, none less than the one before.
    pub(crate) buckets: &'a [usize],
}

impl Disentangled<'_> {
    /// The bucket of a query `distance` after its key.
    pub(super) fn bucket(&self, distance: isize) -> usize {
        self.buckets[(distance + (self.buckets.len() / 2) as isize) as usize]
    }

    /// The buckets that a query has for each of `rows` keys, from the first key on: distances fall.
    pub(super) fn buckets_of(&self, query: usize, rows: usize) -> impl Iterator<Item = usize> + Clone {
        let from = self.buckets.len() / 2 + query;
        self.buckets[from + 1 - rows..=from].iter().rev().copied()
    }
}

/// Attention of each sequence (first row, rows) to itself.
///
/// `queries`, `keys`, `values` and `out` are `[rows, heads · dim]`.
///
/// # Panics
/// If the shapes disagree, or a sequence is longer than the reach of the buckets.
pub(crate) fn attend(
    pool: &Pool,
    layer: Disentangled<'_>,
    [queries, keys, values]: [&[f32]; 3],
    sequences: &[(usize, usize)],
    out: &mut [f32],
) {
    let width = layer.heads * layer.dim;
    assert!(queries.len() == out.len() && keys.len() == out.len() && values.len() == out.len());
    for (first, rows) in sequences {
        assert!((first + rows) * width <= out.len() && 2 * rows <= layer.buckets.len() + 1, "a sequence too long");
    }
    let isa = isa();
    let out = Disjoint::new(out);
    pool.run(sequences.len() * layer.heads, &|unit| {
        let ((first, rows), head) = (sequences[unit / layer.heads], unit % layer.heads);
        if rows > 0 {
            one_head(isa, layer, [queries, keys, values].map(|x| &x[first * width..]), rows, head, &out, first);
        }
    });
}

/// One head of one sequence, whose rows the inputs begin with.
fn one_head(
    isa: Isa,
    layer: Disentangled<'_>,
    [queries, keys, values]: [&[f32]; 3],
    rows: usize,
    head: usize,
    out: &Disjoint<'_>,
    first: usize,
) {
    let Disentangled { heads, dim, scale, .. } = layer;
    let (width, offset, padded) = (heads * dim, head * dim, dim.next_multiple_of(COLUMNS));
    let mut block = [[0.0f32; COLUMNS]; ROWS];
    let columns = rows.next_multiple_of(COLUMNS);
    let mut transposed = vec![0.0; dim * columns];
    let mut wide = vec![0.0; rows * padded];
    for row in 0..rows {
        let key = &keys[row * width + offset..][..dim];
        key.iter().enumerate().for_each(|(i, key)| transposed[i * columns + row] = *key);
        wide[row * padded..][..dim].copy_from_slice(&values[row * width + offset..][..dim]);
    }
    let values = wide;
    // Only the buckets of distances that this sequence has.
    let reach = rows as isize - 1;
    let least = layer.bucket(-reach);
    let buckets = (layer.bucket(reach) + 1 - least).next_multiple_of(COLUMNS);
    let mut by_key = vec![0.0; if layer.queries.is_some() { rows * buckets } else { 0 }];
    if let Some(positions) = layer.queries {
        let positions = (positions.head(head, dim, least), positions.stride);
        for row in (0..rows).step_by(ROWS) {
            let count = ROWS.min(rows - row);
            for column in (0..buckets).step_by(COLUMNS) {
                let keys = &keys[row * width + offset..];
                tile(isa, count, dim, keys, width, &positions.0[column..], positions.1, &mut block);
                for (r, block) in block.iter().enumerate().take(count) {
                    let to = &mut by_key[(row + r) * buckets + column..][..COLUMNS];
                    to.iter_mut().zip(block).for_each(|(to, value)| *to = value * scale);
                }
            }
        }
    }
    let mut scaled = vec![0.0; ROWS * dim];
    let mut scores = vec![0.0; ROWS * columns];
    let mut by_query = vec![0.0; if layer.keys.is_some() { ROWS * buckets } else { 0 }];
    for row in (0..rows).step_by(ROWS) {
        let count = ROWS.min(rows - row);
        for r in 0..count {
            let query = &queries[(row + r) * width + offset..][..dim];
            scaled[r * dim..][..dim].iter_mut().zip(query).for_each(|(to, from)| *to = from * scale);
        }
        for column in (0..columns).step_by(COLUMNS) {
            tile(isa, count, dim, &scaled, dim, &transposed[column..], columns, &mut block);
            for (r, block) in block.iter().enumerate().take(count) {
                scores[r * columns + column..][..COLUMNS].copy_from_slice(block);
            }
        }
        if let Some(positions) = layer.keys {
            let (values, stride) = (positions.head(head, dim, least), positions.stride);
            for column in (0..buckets).step_by(COLUMNS) {
                tile(isa, count, dim, &scaled, dim, &values[column..], stride, &mut block);
                for (r, block) in block.iter().enumerate().take(count) {
                    by_query[r * buckets + column..][..COLUMNS].copy_from_slice(block);
                }
            }
        }
        let mut totals = [0.0f32; ROWS];
        for r in 0..count {
            let scores = &mut scores[r * columns..][..rows];
            let buckets_of = layer.buckets_of(row + r, rows).map(|bucket| bucket - least);
            if layer.keys.is_some() {
                let by_query = &by_query[r * buckets..][..buckets];
                scores.iter_mut().zip(buckets_of.clone()).for_each(|(score, bucket)| *score += by_query[bucket]);
            }
            if layer.queries.is_some() {
                let by_key = by_key.chunks_exact(buckets);
                for ((score, bucket), by_key) in scores.iter_mut().zip(buckets_of).zip(by_key) {
                    *score += by_key[bucket];
                }
            }
            let largest = highest(isa, scores);
            totals[r] = exp_sum(isa, scores, largest);
        }
        for column in (0..padded).step_by(COLUMNS) {
            tile(isa, count, rows, &scores, columns, &values[column..], padded, &mut block);
            let lanes = COLUMNS.min(dim - column);
            for (r, block) in block.iter().enumerate().take(count) {
                // SAFETY: this head of this row belongs to this unit alone.
                let out = unsafe { out.slice((first + row + r) * width + offset + column, lanes) };
                out.iter_mut().zip(block).for_each(|(out, sum)| *out = sum / totals[r]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(n: usize, seed: u32) -> Vec<f32> {
        let value = |i: u32| ((i + 1).wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(40_503)) >> 8;
        (0..n as u32).map(|i| value(i) as f32 / 8_388_608.0 - 1.0).collect()
    }

    #[test]
    fn equals_the_definition_and_is_free_of_company() {
        let pool = Pool::new(2);
        for (heads, dim) in [(1, 3), (3, 16), (2, 21)] {
            let (width, span) = (heads * dim, 7usize);
            let (pk, pq) = (random(2 * span * width, 4), random(2 * span * width, 5));
            let (tables, reach) = ([&pk, &pq].map(|rows| Positions::new(rows, 2 * span, heads, dim)), 40usize);
            let bucket = |d: isize| (d / 2 + span as isize).clamp(0, 2 * span as isize - 1) as usize;
            let buckets: Vec<usize> = (1 - reach as isize..reach as isize).map(bucket).collect();
            let sequences = [(0, 1), (1, 5), (6, 0), (6, 40), (46, 13)];
            let [q, k, v] = [1, 2, 3].map(|seed| random(59 * width, seed));
            for (keys, queries) in [(false, false), (true, false), (false, true), (true, true)] {
                let layer = Disentangled {
                    heads,
                    dim,
                    scale: 0.3,
                    keys: keys.then_some(&tables[0]),
                    queries: queries.then_some(&tables[1]),
                    buckets: &buckets,
                };
                let mut out = vec![0.0; q.len()];
                attend(&pool, layer, [&q, &k, &v], &sequences, &mut out);
                for (first, rows) in sequences {
                    for (row, head) in (0..rows).flat_map(|row| (0..heads).map(move |head| (row, head))) {
                        let at = |x: &[f32], row: usize, i: usize| f64::from(x[row * width + head * dim + i]);
                        let dot = |a: &[f32], i: usize, b: &[f32], j: usize| -> f64 {
                            (0..dim).map(|d| at(a, i, d) * at(b, j, d)).sum()
                        };
                        let score = |key: usize| {
                            let bucket = bucket(row as isize - key as isize);
                            let mut score = dot(&q, first + row, &k, first + key);
                            score += if keys { dot(&q, first + row, &pk, bucket) } else { 0.0 };
                            score += if queries { dot(&k, first + key, &pq, bucket) } else { 0.0 };
                            (score * f64::from(0.3f32)).exp()
                        };
                        let scores: Vec<f64> = (0..rows).map(score).collect();
                        let total: f64 = scores.iter().sum();
                        for d in 0..dim {
                            let sum: f64 = scores.iter().enumerate().map(|(j, s)| s * at(&v, first + j, d)).sum();
                            let got = at(&out, first + row, d);
                            assert!((got - sum / total).abs() < 2e-5, "{heads} {dim} {keys} {queries} {first} {row}");
                        }
                    }
                    // A sequence alone gives the same bits.
                    let part = first * width..(first + rows) * width;
                    let mut alone = vec![0.0; rows * width];
                    attend(&pool, layer, [&q, &k, &v].map(|x| &x[part.clone()]), &[(0, rows)], &mut alone);
                    assert_eq!(alone, out[part]);
                }
            }
        }
    }
}
