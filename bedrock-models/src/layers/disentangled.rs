//! Disentangled attention (He et al. 2020): content and relative position, each against the other.

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

/// The heads of a layer, and vectors for relative positions.
#[derive(Debug)]
pub(crate) struct DisentangledAttention {
    heads: usize,
    dim: usize,
    scale: f32,
    buckets: PositionBuckets,
    keys: Option<Table>,
    queries: Option<Table>,
}

impl DisentangledAttention {
    /// `keys` are what queries meet (content to position), `queries` what keys meet (position to content), `[buckets, heads · dim]` each.
    pub(crate) fn new(
        run: Run<'_>,
        (heads, dim, scale): (usize, usize, f32),
        buckets: PositionBuckets,
        keys: Option<Tensor<2>>,
        queries: Option<Tensor<2>>,
    ) -> Self {
        let table = |x: Tensor<2>| {
            let [rows, _] = x.dims();
            match run.pool() {
                Some(_) => Table::Kernel(Positions::new(run::values(&run::flex(x)), rows, heads, dim)),
                None => Table::Tensor(x.reshape([rows, heads, dim]).permute([1, 2, 0])),
            }
        };
        Self { heads, dim, scale, buckets, keys: keys.map(table), queries: queries.map(table) }
    }

    /// # Shapes
    /// - `queries`, `keys`, `values`: `[rows, heads · dim]`; returns the same
    pub(crate) fn forward(&self, run: Run<'_>, qkv: [Tensor<2>; 3], sequences: &[Sequence]) -> Tensor<2> {
        let Some(pool) = run.pool() else {
            let rows = sequences.iter().map(|s| self.compose(qkv.clone().map(|x| x.narrow(0, s.first_row, s.tokens))));
            return Tensor::cat(rows.collect(), 0);
        };
        let shape = qkv[0].dims();
        let qkv = qkv.map(run::flex);
        let reach = sequences.iter().map(|sequence| sequence.tokens).max().unwrap_or(0).max(1) as isize;
        let buckets: Vec<usize> = (1 - reach..reach).map(|distance| self.buckets.of(distance)).collect();
        let layer = kernel::Disentangled {
            heads: self.heads,
            dim: self.dim,
            scale: self.scale,
            keys: Table::kernel(self.keys.as_ref()),
            queries: Table::kernel(self.queries.as_ref()),
            buckets: &buckets,
        };
        let sequences: Vec<(usize, usize)> = sequences.iter().map(|s| (s.first_row, s.tokens)).collect();
        let mut out = pool.memory.take(shape[0] * shape[1]);
        kernel::attend(pool, layer, qkv.each_ref().map(run::values), &sequences, &mut out);
        run::from_vec(pool, out, shape)
    }

    /// One sequence by burn's operations.
    fn compose(&self, qkv: [Tensor<2>; 3]) -> Tensor<2> {
        let [rows, width] = qkv[0].dims();
        let [q, k, v] = qkv.map(|x| x.reshape([rows, self.heads, self.dim]).swap_dims(0, 1));
        let device = q.device();
        // `[heads, first, second]`, where the query is the first or the second.
        let picks = |query_first: bool| {
            let pairs = (0..rows as isize).flat_map(|a| (0..rows as isize).map(move |b| (a, b)));
            let distances = pairs.map(|(a, b)| if query_first { a - b } else { b - a });
            let picks: Vec<i64> = distances.map(|distance| self.buckets.of(distance) as i64).collect();
            let picks = Tensor::<2, Int>::from_data(TensorData::new(picks, [rows, rows]), &device);
            picks.unsqueeze::<3>().repeat(&[self.heads, 1, 1])
        };
        let mut scores = q.clone().matmul(k.clone().swap_dims(1, 2));
        if let Some(Table::Tensor(keys)) = &self.keys {
            scores = scores + q.matmul(keys.clone()).gather(2, picks(true));
        }
        if let Some(Table::Tensor(queries)) = &self.queries {
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
