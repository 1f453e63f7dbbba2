//! The vectors of a knowledge base as it changes: a graph of most of them, the newest beside it, deletions marked.

use std::collections::HashSet;

use super::{Allowed, Flat, Hnsw, HnswSettings, Neighbor};
use crate::Error;

/// When a graph is worth having.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VectorsSettings {
    pub(crate) hnsw: HnswSettings,
    /// Fewer vectors than this are searched one by one, which is exact and at this size as quick.
    pub(crate) graph_from: usize,
}

/// A graph that never changes, and what came and went since it was built.
///
/// Ids are never used twice, and the vector of an id never changes. So an old graph is never wrong, only incomplete.
#[derive(Debug)]
pub(crate) struct Vectors {
    settings: VectorsSettings,
    dimensions: usize,
    graph: Option<Hnsw>,
    deleted: HashSet<u64>,
    recent: Flat,
}

impl Vectors {
    pub(crate) fn new(settings: VectorsSettings, dimensions: usize, graph: Option<Hnsw>) -> Self {
        Self { settings, dimensions, graph, deleted: HashSet::new(), recent: Flat::new(dimensions) }
    }

    pub(crate) fn len(&self) -> usize {
        self.graph.as_ref().map_or(0, Hnsw::len) - self.deleted.len() + self.recent.len()
    }

    pub(crate) fn graph(&self) -> Option<&Hnsw> {
        self.graph.as_ref()
    }

    /// Makes these ids, and no others, the ones that are there. `read` gives the vector of one that is new.
    pub(crate) fn follow(
        &mut self,
        living: &HashSet<u64>,
        read: impl Fn(u64) -> Result<Vec<f32>, Error>,
    ) -> Result<(), Error> {
        let old = self.graph.iter().flat_map(Hnsw::ids).copied().chain(self.recent.rows().map(|(id, _)| id));
        let known: HashSet<u64> = old.collect();
        self.remove(&known.difference(living).copied().collect());
        let mut missing: Vec<u64> = living.difference(&known).copied().collect();
        missing.sort_unstable();
        missing.into_iter().try_for_each(|id| self.insert(id, &read(id)?))
    }

    pub(crate) fn insert(&mut self, id: u64, vector: &[f32]) -> Result<(), Error> {
        self.recent.push(id, vector)
    }

    /// Removes ids, wherever they are.
    pub(crate) fn remove(&mut self, ids: &HashSet<u64>) {
        if ids.is_empty() {
            return;
        }
        self.recent.retain(|id| !ids.contains(&id));
        if let Some(graph) = &self.graph {
            self.deleted.extend(graph.ids().iter().copied().filter(|id| ids.contains(id)));
        }
    }

    /// Whether a new graph would pay: a fiftieth of it has come (which then is put in), or a fifth of it has gone (then it is
    /// built anew).
    pub(crate) fn wants_graph(&self) -> bool {
        let from = self.settings.graph_from;
        match &self.graph {
            None => self.len() >= from,
            Some(graph) => self.is_worn() || self.recent.len() > (graph.len() / 50).max(from / 8),
        }
    }

    /// Whether what is left is too little for a graph.
    pub(crate) fn outlived_graph(&self) -> bool {
        self.graph.is_some() && self.len() < self.settings.graph_from / 2
    }

    /// Whether so many were deleted that walking around them costs more than it should.
    fn is_worn(&self) -> bool {
        self.graph.as_ref().is_some_and(|graph| self.deleted.len() * 5 > graph.len())
    }

    /// Everything in one graph (or, if there is little, without one). `read` gives the vector of an id that is in the graph,
    /// which itself keeps vectors in fewer bits.
    pub(crate) fn rebuilt(&self, read: impl Fn(u64) -> Result<Vec<f32>, Error>) -> Result<Self, Error> {
        let mut fresh = Self::new(self.settings, self.dimensions, None);
        if self.len() < self.settings.graph_from {
            let old = self.graph.iter().flat_map(Hnsw::ids).filter(|&id| !self.deleted.contains(id));
            for &id in old {
                fresh.insert(id, &read(id)?)?;
            }
            for (id, vector) in self.recent.rows() {
                fresh.insert(id, vector)?;
            }
            return Ok(fresh);
        }
        let (mut ids, mut vectors) = (Vec::with_capacity(self.recent.len()), Vec::new());
        vectors.reserve_exact(self.recent.len() * self.dimensions);
        for (id, vector) in self.recent.rows() {
            ids.push(id);
            vectors.extend_from_slice(vector);
        }
        fresh.graph = Some(match &self.graph {
            None => Hnsw::build(self.settings.hnsw, self.dimensions, ids, vectors)?,
            Some(graph) if self.is_worn() => graph.successor(&|id| !self.deleted.contains(&id), ids, vectors)?,
            Some(graph) => {
                fresh.deleted.clone_from(&self.deleted);
                graph.successor(&|_| true, ids, vectors)?
            }
        });
        Ok(fresh)
    }

    /// The `k` nearest, best first. `selective` says that few ids are allowed: every one of them is then looked at, which
    /// is both exact and quicker than walking a graph through what may not be returned.
    pub(crate) fn search(
        &self,
        query: &[f32],
        k: usize,
        allowed: Option<Allowed<'_>>,
        selective: bool,
    ) -> Result<Vec<Neighbor>, Error> {
        let mut found = self.recent.search(query, k, allowed)?;
        if let Some(graph) = &self.graph {
            let living = |id: u64| !self.deleted.contains(&id) && allowed.is_none_or(|allowed| allowed(id));
            let allowed: Option<Allowed<'_>> =
                if self.deleted.is_empty() && allowed.is_none() { None } else { Some(&living) };
            found.extend(if selective {
                graph.search_exact(query, k, allowed)?
            } else {
                graph.search(query, k, self.settings.hnsw.ef_search, allowed)?
            });
        }
        found.sort_by(Neighbor::by_rank);
        found.truncate(k);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// Whatever comes, goes and is rebuilt, the answer is that of a flat index of what is there. (The graph is small
        /// enough here for its search to be exhaustive.)
        #[test]
        fn changes_and_rebuilds_do_not_show(steps in prop::collection::vec((0u8..4, 0u64..40), 1..80)) {
            let settings = VectorsSettings { hnsw: HnswSettings::default(), graph_from: 8 };
            let mut vectors = Vectors::new(settings, 3, None);
            let mut truth = Flat::new(3);
            let mut next = 0;
            let vector = |id: u64| [1.0, (id * 7 % 11) as f32, (id * 5 % 13) as f32 - 6.0];
            for (step, argument) in steps {
                match step {
                    0 | 1 => {
                        vectors.insert(next, &vector(next)).unwrap();
                        truth.push(next, &vector(next)).unwrap();
                        next += 1;
                    }
                    2 => {
                        vectors.remove(&HashSet::from([argument]));
                        truth.retain(|id| id != argument);
                    }
                    _ => vectors = vectors.rebuilt(|id| Ok(vector(id).to_vec())).unwrap(),
                }
                prop_assert_eq!(vectors.len(), truth.len());
                let query = vector(argument);
                let even: Allowed<'_> = &|id| id % 2 == 0;
                for selective in [false, true] {
                    for allowed in [None, Some(even)] {
                        let found = vectors.search(&query, 5, allowed, selective).unwrap();
                        let right = truth.search(&query, 5, allowed).unwrap();
                        prop_assert_eq!(found.len(), right.len());
                        // By similarity, because 16 bits may order what is equally near another way.
                        for (found, right) in found.iter().zip(&right) {
                            prop_assert!((found.similarity - right.similarity).abs() < 5e-5, "{found:?} {right:?}");
                            let only = |id: u64| id == found.id && allowed.is_none_or(|allowed| allowed(id));
                            let own = truth.search(&query, 1, Some(&only)).unwrap();
                            prop_assert!((own[0].similarity - found.similarity).abs() < 5e-5, "{found:?} {own:?}");
                        }
                        let mut ids: Vec<u64> = found.iter().map(|found| found.id).collect();
                        ids.sort_unstable();
                        ids.dedup();
                        prop_assert_eq!(ids.len(), found.len());
                    }
                }
            }
        }
    }
}
