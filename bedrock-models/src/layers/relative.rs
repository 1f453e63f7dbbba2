//! Relative positions in buckets: near ones have a value each, far ones share it with their neighbours, on a logarithmic
//! scale (Raffel et al. 2019, <https://arxiv.org/abs/1910.10683>).
//!
//! Reference: HF `T5Attention._relative_position_bucket`, `MPNetEncoder.relative_position_bucket`.

use burn::Tensor;
use burn::tensor::{Device, Int, TensorData};

use super::{Loader, Parameter};
use crate::error::Error;
use crate::kernels::attention::DistanceBias;

/// How distances become buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Buckets {
    /// All of them; half for each side if keys after the query are seen.
    pub(crate) count: usize,
    /// Distances from here on are in the last bucket.
    pub(crate) max_distance: usize,
    /// Whether keys after the query are seen.
    pub(crate) both_sides: bool,
}

impl Buckets {
    /// Buckets of one side.
    fn side(self) -> usize {
        if self.both_sides { self.count / 2 } else { self.count }
    }

    /// What makes a bucket of its own impossible for each distance, if anything.
    pub(crate) fn problem(self) -> Option<String> {
        const MOST: usize = 1 << 16;
        let exact = self.side() / 2;
        if exact == 0 {
            return Some(format!("{} buckets of relative positions are too few", self.count));
        }
        if self.max_distance <= exact || self.max_distance > MOST || self.count > MOST {
            return Some(format!(
                "relative positions have {} buckets up to distance {}; at most {MOST} of either are supported, and a distance beyond {exact}",
                self.count, self.max_distance
            ));
        }
        None
    }

    /// The bucket of a key that is `distance` after the query (before it, if negative).
    pub(crate) fn of(self, distance: isize) -> usize {
        let (side, exact) = (self.side(), self.side() / 2);
        let after = self.both_sides && distance > 0;
        let far = if self.both_sides { distance.unsigned_abs() } else { (-distance.min(0)) as usize };
        let within = if far < exact {
            far
        } else {
            // In single precision, as the original: whole results must not become a little less. The logarithms are
            // rounded from double precision, because those of the standard library differ between systems.
            let log = |x: f64| x.ln() as f32;
            let ratio = (far as f32 / exact as f32) as f64;
            let scaled = log(ratio) / log(self.max_distance as f64 / exact as f64) * (side - exact) as f32;
            (exact + scaled as usize).min(side - 1)
        };
        if after { side + within } else { within }
    }

    /// What is added to scores, from the table `{name}.weight` of `rows` buckets, of which the first `count` are used.
    ///
    /// # Errors
    /// As [`Loader::vector`].
    pub(crate) fn bias(
        self,
        loader: &mut Loader,
        name: &str,
        rows: usize,
        heads: usize,
    ) -> Result<RelativeBias, Error> {
        let (table, trained) = loader.table(&format!("{name}.weight"), &[rows, heads])?;
        let value = |head, distance| table[self.of(distance) * heads + head];
        let kernel = DistanceBias::new(heads, self.max_distance, value);
        Ok(RelativeBias { kernel, trained: trained.map(|table| (table, self)) })
    }
}

/// What is added to scores by head and distance.
#[derive(Debug)]
pub(crate) struct RelativeBias {
    pub(crate) kernel: DistanceBias,
    /// In training: the table `[buckets, heads]`.
    trained: Option<(Parameter, Buckets)>,
}

impl RelativeBias {
    /// What is added to the scores of `keys` keys, the first `before` the first of `queries` queries.
    ///
    /// # Shapes
    /// - returns `[heads, queries, keys]`
    pub(crate) fn scores(
        &self,
        heads: usize,
        [queries, keys]: [usize; 2],
        before: usize,
        device: &Device,
    ) -> Tensor<3> {
        let distances = |query: usize| (0..keys).map(move |key| key as isize - (before + query) as isize);
        let Some((table, buckets)) = &self.trained else {
            let of = |head| (0..queries).flat_map(distances).map(move |distance| self.kernel.at(head, distance));
            let values: Vec<f32> = (0..heads).flat_map(of).collect();
            return Tensor::from_data(TensorData::new(values, [heads, queries, keys]), device);
        };
        let rows: Vec<i64> = (0..queries).flat_map(distances).map(|distance| buckets.of(distance) as i64).collect();
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [queries * keys]), device);
        table.matrix().select(0, rows).transpose().reshape([heads, queries, keys])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_distances_have_a_bucket_each_and_far_ones_share() {
        let buckets = Buckets { count: 32, max_distance: 128, both_sides: true };
        assert_eq!((0..8).map(|d| buckets.of(-d)).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7]);
        // Each doubling of the distance is two buckets: 8, 16, 32, 64 are whole.
        for (distance, bucket) in [(8, 8), (11, 8), (12, 9), (15, 9), (16, 10), (31, 11), (32, 12), (63, 13), (64, 14)]
        {
            assert_eq!(buckets.of(-distance), bucket, "{distance}");
            assert_eq!(buckets.of(distance), 16 + bucket, "{distance}");
        }
        for distance in [91, 127, 128, 100_000] {
            assert_eq!(buckets.of(-distance), 15);
        }
    }

    #[test]
    fn a_decoder_spends_all_buckets_on_the_past() {
        let buckets = Buckets { count: 32, max_distance: 128, both_sides: false };
        assert_eq!((buckets.of(3), buckets.of(0), buckets.of(-15), buckets.of(-16)), (0, 0, 15, 16));
        assert_eq!((buckets.of(-127), buckets.of(-128), buckets.of(-1_000)), (31, 31, 31));
    }

    #[test]
    fn impossible_buckets_are_refused() {
        let problem = |count, max_distance| Buckets { count, max_distance, both_sides: true }.problem();
        assert_eq!(problem(32, 128), None);
        assert!(problem(3, 128).is_some());
        assert!(problem(32, 8).is_some());
        assert!(problem(32, usize::MAX).is_some());
    }
}
