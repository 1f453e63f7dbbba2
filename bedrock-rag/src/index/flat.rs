//! Exhaustive search: the obvious slow version that others are measured against, and the fast one for few vectors.

use std::collections::BinaryHeap;

use pulp::{Simd, WithSimd};

use super::distance::{dot_with, normalize, vectorize};
use super::{Allowed, Neighbor};
use crate::Error;

/// Vectors in one piece of memory, searched one by one.
#[derive(Clone, Debug, Default)]
pub struct Flat {
    dimensions: usize,
    ids: Vec<u64>,
    vectors: Vec<f32>,
}

impl Flat {
    /// An empty index of vectors with `dimensions` values.
    pub fn new(dimensions: usize) -> Self {
        Self { dimensions, ..Self::default() }
    }

    /// Vectors in it.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether it holds no vectors.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Adds a vector; it is normalised. Ids are not checked for doubles.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`], [`Error::BadVector`].
    pub fn push(&mut self, id: u64, vector: &[f32]) -> Result<(), Error> {
        if vector.len() != self.dimensions {
            return Err(Error::DimensionMismatch { expected: self.dimensions, got: vector.len() });
        }
        let start = self.vectors.len();
        self.vectors.extend_from_slice(vector);
        let normalised = normalize(&mut self.vectors[start..], self.ids.len());
        if normalised.is_err() {
            self.vectors.truncate(start);
        }
        normalised?;
        self.ids.push(id);
        Ok(())
    }

    /// Keeps the vectors whose id passes, in their order.
    pub(crate) fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        let mut kept = 0;
        for row in 0..self.ids.len() {
            if keep(self.ids[row]) {
                if kept != row {
                    self.ids[kept] = self.ids[row];
                    let from = row * self.dimensions;
                    self.vectors.copy_within(from..from + self.dimensions, kept * self.dimensions);
                }
                kept += 1;
            }
        }
        self.ids.truncate(kept);
        self.vectors.truncate(kept * self.dimensions);
    }

    /// Ids and normalised vectors, in the order they came.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (u64, &[f32])> {
        self.ids.iter().copied().zip(self.vectors.chunks_exact(self.dimensions.max(1)))
    }

    /// The `k` nearest to `query`, best first; ties by id. `query` need not be normalised.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`], [`Error::BadVector`].
    pub fn search(&self, query: &[f32], k: usize, allowed: Option<Allowed<'_>>) -> Result<Vec<Neighbor>, Error> {
        if query.len() != self.dimensions {
            return Err(Error::DimensionMismatch { expected: self.dimensions, got: query.len() });
        }
        let mut query = query.to_vec();
        normalize(&mut query, 0)?;
        Ok(nearest(&query, &self.ids, &self.vectors, k, allowed))
    }
}

/// The `k` rows nearest to a normalised query, best first.
pub(super) fn nearest(
    query: &[f32],
    ids: &[u64],
    vectors: &[f32],
    k: usize,
    allowed: Option<Allowed<'_>>,
) -> Vec<Neighbor> {
    struct Scan<'a> {
        query: &'a [f32],
        ids: &'a [u64],
        vectors: &'a [f32],
        k: usize,
        allowed: Option<Allowed<'a>>,
    }
    impl WithSimd for Scan<'_> {
        type Output = Vec<Neighbor>;
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Vec<Neighbor> {
            let mut best = Best::new(self.k);
            for (&id, vector) in self.ids.iter().zip(self.vectors.chunks_exact(self.query.len().max(1))) {
                if self.allowed.is_none_or(|allowed| allowed(id)) {
                    best.offer(Neighbor { id, similarity: dot_with(simd, self.query, vector) });
                }
            }
            best.into_sorted()
        }
    }
    vectorize(Scan { query, ids, vectors, k, allowed })
}

/// The best `k` of what is offered.
pub(super) struct Best {
    k: usize,
    heap: BinaryHeap<Worst>,
}

/// A neighbour ordered so that the worst is the greatest.
#[derive(PartialEq)]
struct Worst(Neighbor);

impl Eq for Worst {}

impl PartialOrd for Worst {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Worst {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        Neighbor::by_rank(&self.0, &other.0)
    }
}

impl Best {
    pub(super) fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::new() }
    }

    #[inline]
    pub(super) fn offer(&mut self, neighbor: Neighbor) {
        if self.heap.len() < self.k {
            self.heap.push(Worst(neighbor));
        } else if let Some(mut worst) = self.heap.peek_mut()
            && Neighbor::by_rank(&neighbor, &worst.0).is_lt()
        {
            *worst = Worst(neighbor);
        }
    }

    pub(super) fn into_sorted(self) -> Vec<Neighbor> {
        self.heap.into_sorted_vec().into_iter().map(|Worst(neighbor)| neighbor).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nearest_come_first_and_ties_by_id() {
        let mut flat = Flat::new(2);
        for (id, vector) in [(7, [1.0, 0.0]), (3, [2.0, 0.0]), (5, [0.0, 1.0]), (9, [-1.0, 0.0])] {
            flat.push(id, &vector).unwrap();
        }
        let ids = |k, allowed: Option<Allowed<'_>>| -> Vec<u64> {
            flat.search(&[1.0, 0.1], k, allowed).unwrap().into_iter().map(|n| n.id).collect()
        };
        assert_eq!(ids(3, None), [3, 7, 5]);
        assert_eq!(ids(9, None), [3, 7, 5, 9]);
        assert_eq!(ids(9, Some(&|id| id > 4)), [7, 5, 9]);
        assert_eq!(ids(0, None), [0u64; 0]);
        assert!(matches!(flat.search(&[1.0], 1, None), Err(Error::DimensionMismatch { expected: 2, got: 1 })));
        assert!(flat.push(1, &[0.0, 0.0]).is_err());
        assert_eq!(flat.len(), 4);
        flat.retain(|id| id == 9 || id == 3);
        assert_eq!(flat.search(&[-1.0, 0.0], 1, None).unwrap()[0].id, 9);
    }

    proptest! {
        #[test]
        fn best_is_sort_and_cut(similarities in prop::collection::vec(-3i32..3, 0..40), k in 0usize..50) {
            let offered: Vec<Neighbor> = similarities
                .iter()
                .enumerate()
                .map(|(id, &s)| Neighbor { id: id as u64, similarity: s as f32 })
                .collect();
            let mut best = Best::new(k);
            for &neighbor in &offered {
                best.offer(neighbor);
            }
            let mut sorted = offered;
            sorted.sort_by(Neighbor::by_rank);
            sorted.truncate(k);
            prop_assert_eq!(best.into_sorted(), sorted);
        }
    }
}
