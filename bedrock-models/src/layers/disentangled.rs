//! Disentangled attention (He et al. 2020): content and relative position, each against the other.

use std::collections::BTreeMap;

use burn::Tensor;
use burn::tensor::{Int, TensorData, activation::softmax};

use super::attention::Sequence;
use super::run::{self, Run};
use crate::kernels::disentangled::{self as kernel, Positions};

/// Buckets of relative positions, on a logarithmic scale where they are limited.
///
/// Reference: HF `make_log_bucket_position`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PositionBuckets {
    /// Half of the number of buckets.
    pub(crate) span: usize,
    /// `position_buckets` and `max_relative_positions`, if buckets are limited.
    pub(crate) limited: Option<(usize, usize)>,
}

impl PositionBuckets {
    /// The bucket of a query `distance` after its key.
    pub(crate) fn of(self, distance: isize) -> usize {
        let position = match self.limited {
            Some((buckets, max)) if distance.unsigned_abs() > buckets / 2 => {
                // In single precision, as the original.
                let (middle, log) = (buckets / 2, |x: f64| x.ln() as f32);
                let ratio = f64::from(distance.unsigned_abs() as f32 / middle as f32);
                let whole = f64::from((max - 1) as f32 / middle as f32);
                let steps = (log(ratio) / log(whole) * (middle - 1) as f32).ceil();
                (steps as isize + middle as isize) * distance.signum()
            }
            _ => distance,
        };
        let span = self.span as isize;
        (position + span).clamp(0, 2 * span - 1) as usize
    }

    /// Those of all distances in some sequences, counted from `first` on: see [`kernel::Disentangled::buckets`].
    fn within(self, sequences: &[Sequence], first: usize) -> Vec<usize> {
        let reach = reach(sequences);
        (1 - reach..reach).map(|distance| self.of(distance) - first).collect()
    }

    /// The first and the number of the buckets of all distances in some sequences.
    pub(crate) fn range(self, sequences: &[Sequence]) -> (usize, usize) {
        let reach = reach(sequences);
        let first = self.of(1 - reach);
        (first, self.of(reach - 1) + 1 - first)
    }
}

/// The tokens of the longest sequence.
fn reach(sequences: &[Sequence]) -> isize {
    sequences.iter().map(|sequence| sequence.tokens).max().unwrap_or(0).max(1) as isize
}

/// What is known about positions, as the kernels or burn's operations want it.
#[derive(Debug)]
// Two a layer: its size is nothing beside what it points to.
#[allow(clippy::large_enum_variant)]
enum Table {
    Kernel(Positions),
    /// `[heads, dim, buckets]`
    Tensor(Tensor<3>),
}

/// What queries meet (content to position), and what keys meet (position to content), `[buckets, heads · dim]` each.
pub(crate) type Met = [Option<Tensor<2>>; 2];

/// The heads of a layer, and vectors for relative positions.
#[derive(Debug)]
pub(crate) struct DisentangledAttention {
    heads: usize,
    dim: usize,
    scale: f32,
    buckets: PositionBuckets,
    /// For requests without an adapter, or whose adapter changes nothing here, and for others by its number.
    known: BTreeMap<Option<usize>, [Option<Table>; 2]>,
}

impl DisentangledAttention {
    pub(crate) fn new((heads, dim, scale): (usize, usize, f32), buckets: PositionBuckets) -> Self {
        Self { heads, dim, scale, buckets, known: BTreeMap::new() }
    }

    /// The same with vectors for positions that stay as they are, for requests with an adapter or without.
    pub(crate) fn knowing(mut self, run: Run<'_>, adapter: Option<usize>, positions: Met) -> Self {
        let table = |x: Tensor<2>| {
            let [rows, _] = x.dims();
            match run.pool() {
                Some(_) => Table::Kernel(Positions::new(run::values(&run::flex(x)), rows, self.heads, self.dim)),
                None => Table::Tensor(self.turned(x)),
            }
        };
        let tables = positions.map(|positions| positions.map(table));
        self.known.insert(adapter, tables);
        self
    }

    /// `[heads, dim, buckets]`
    fn turned(&self, positions: Tensor<2>) -> Tensor<3> {
        let [rows, _] = positions.dims();
        positions.reshape([rows, self.heads, self.dim]).permute([1, 2, 0])
    }

    /// # Shapes
    /// - `queries`, `keys`, `values`: `[rows, heads · dim]`; returns the same
    pub(crate) fn forward(&self, run: Run<'_>, qkv: [Tensor<2>; 3], sequences: &[Sequence]) -> Tensor<2> {
        // An encoder's batch is of one request.
        let adapter = run.compute.chosen.as_ref().and_then(|chosen| chosen.of(0));
        let known = self.known.get(&adapter).or_else(|| self.known.get(&None));
        let known = [0, 1].map(|which| known.and_then(|known| known[which].as_ref()));
        let Some(pool) = run.pool() else {
            let known = known.map(|table| match table {
                Some(Table::Tensor(table)) => Some(table.clone()),
                _ => None,
            });
            return self.compose_all(qkv, (0, known), sequences);
        };
        let shape = qkv[0].dims();
        let qkv = qkv.map(run::flex);
        let buckets = self.buckets.within(sequences, 0);
        let [keys, queries] = known.map(Table::kernel);
        let Self { heads, dim, scale, .. } = *self;
        let layer = kernel::Disentangled { heads, dim, scale, keys, queries, buckets: &buckets };
        let sequences: Vec<(usize, usize)> = sequences.iter().map(|s| (s.first_row, s.tokens)).collect();
        let mut out = pool.memory.take(shape[0] * shape[1]);
        kernel::attend(pool, layer, qkv.each_ref().map(run::values), &sequences, &mut out);
        run::from_vec(pool, out, shape)
    }

    /// In training, where vectors for positions change: [`DisentangledAttention::forward`] with those of some buckets, from `first` on, that are all
    /// the sequences' distances have.
    ///
    /// # Panics
    /// Where nothing is trained.
    pub(crate) fn forward_with(
        &self,
        run: Run<'_>,
        qkv: [Tensor<2>; 3],
        (first, positions): (usize, Met),
        sequences: &[Sequence],
    ) -> Tensor<2> {
        assert!(run.pool().is_none(), "positions change in training alone");
        #[cfg(feature = "tune")]
        if let Some(tape) = run.tape() {
            let heads = (self.heads, self.dim, self.scale);
            let rows = sequences.iter().map(|s| (s.first_row, s.tokens)).collect();
            return tape.disentangled(heads, self.buckets.within(sequences, first), qkv, positions, rows);
        }
        let positions = positions.map(|positions| positions.map(|positions| self.turned(positions)));
        self.compose_all(qkv, (first, positions), sequences)
    }

    /// By burn's operations.
    fn compose_all(
        &self,
        qkv: [Tensor<2>; 3],
        (first, known): (usize, [Option<Tensor<3>>; 2]),
        sequences: &[Sequence],
    ) -> Tensor<2> {
        let part = |s: &Sequence| qkv.clone().map(|x| x.narrow(0, s.first_row, s.tokens));
        let rows = sequences.iter().map(|sequence| self.compose(part(sequence), first, &known));
        Tensor::cat(rows.collect(), 0)
    }

    /// One sequence by burn's operations; `known` are `[heads, dim, buckets]`, from bucket `first` on.
    fn compose(&self, qkv: [Tensor<2>; 3], first: usize, known: &[Option<Tensor<3>>; 2]) -> Tensor<2> {
        let [rows, width] = qkv[0].dims();
        let [q, k, v] = qkv.map(|x| x.reshape([rows, self.heads, self.dim]).swap_dims(0, 1));
        let device = q.device();
        // `[heads, first, second]`, where the query is the first or the second.
        let picks = |query_first: bool| {
            let pairs = (0..rows as isize).flat_map(|a| (0..rows as isize).map(move |b| (a, b)));
            let distances = pairs.map(|(a, b)| if query_first { a - b } else { b - a });
            let picks: Vec<i64> = distances.map(|distance| (self.buckets.of(distance) - first) as i64).collect();
            let picks = Tensor::<2, Int>::from_data(TensorData::new(picks, [rows, rows]), &device);
            picks.unsqueeze::<3>().repeat(&[self.heads, 1, 1])
        };
        let mut scores = q.clone().matmul(k.clone().swap_dims(1, 2));
        let [keys, queries] = known;
        if let Some(keys) = keys {
            scores = scores + q.matmul(keys.clone()).gather(2, picks(true));
        }
        if let Some(queries) = queries {
            scores = scores + k.matmul(queries.clone()).gather(2, picks(false)).swap_dims(1, 2);
        }
        softmax(scores * self.scale, 2).matmul(v).swap_dims(0, 1).reshape([rows, width])
    }
}

impl Table {
    fn kernel(table: Option<&Self>) -> Option<&Positions> {
        match table? {
            Self::Kernel(positions) => Some(positions),
            Self::Tensor(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_distances_have_a_bucket_each() {
        let buckets = PositionBuckets { span: 256, limited: Some((256, 512)) };
        for distance in [-128, -127, -1, 0, 1, 127, 128] {
            assert_eq!(buckets.of(distance), (distance + 256) as usize);
        }
        assert_eq!((buckets.of(129), buckets.of(-129)), (256 + 129, 256 - 129));
        assert_eq!((buckets.of(511), buckets.of(-511)), (511, 1));
        assert_eq!((buckets.of(100_000), buckets.of(-100_000)), (511, 0));
    }

    #[test]
    fn without_a_limit_each_distance_is_a_bucket() {
        let buckets = PositionBuckets { span: 3, limited: None };
        assert_eq!((-5..5).map(|d| buckets.of(d)).collect::<Vec<_>>(), [0, 0, 0, 1, 2, 3, 4, 5, 5, 5]);
    }
}
