//! Hierarchical navigable small worlds (Malkov & Yashunin 2016), flat in memory.
//!
//! Vectors are two arrays of bytes (`codes`), links are arrays of numbers (`layers`); a search (`walk`) reads 8 bits a value and no
//! locks, and what it has found is ranked anew by all 16. The graph is our own work (`build`); hnsw_rs can make the links instead
//! ([`GraphBuilder::HnswRs`]), which takes several times as long.
//!
//! A graph does not change once built. New vectors and deletions are kept beside it until a successor is made of it.

mod build;
mod codes;
mod file;
mod layers;
mod memory;
mod reference;
mod walk;
mod workspace;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};

pub use self::codes::Precision;
pub(crate) use self::file::replace_file;

use self::build::{Construction, Links};
use self::codes::{Codes, Query};
use self::layers::Lowest;
use self::walk::{MAX_ROWS, Scratch, walk, walk_filtered};
use self::workspace::Workspace;
use super::distance::{Job, Kernel, normalize, with_kernel};
use super::flat::Best;
use super::{Allowed, Neighbor};
use crate::Error;
use crate::document::panic_message;

/// Longest vectors: sums of products of bytes have to fit into 32 bits.
const MAX_DIMENSIONS: usize = 1 << 16;

/// Who makes the links of a graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GraphBuilder {
    /// This crate. Equal input gives an equal graph, on any number of threads.
    #[default]
    Own,
    /// The crate hnsw_rs, on all threads: the order in which they come by decides among equally good links.
    HnswRs,
}

/// How a graph is built and searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HnswSettings {
    /// Links a vector gets on each layer (twice as many on the lowest), 2 to 200. Default 16.
    pub m: usize,
    /// Candidates looked at when a vector is put in, 8 to 4,096; more is slower to build and better linked. Default 128.
    pub ef_construction: usize,
    /// Candidates kept in a search (at least as many as results are asked), 1 to 100,000. Default 96.
    pub ef_search: usize,
    /// How exactly vectors are kept. Default [`Precision::Sixteen`].
    pub precision: Precision,
    /// Who makes the links. Default [`GraphBuilder::Own`].
    pub builder: GraphBuilder,
}

impl Default for HnswSettings {
    fn default() -> Self {
        Self {
            m: 16,
            ef_construction: 128,
            ef_search: 96,
            precision: Precision::default(),
            builder: GraphBuilder::default(),
        }
    }
}

impl HnswSettings {
    /// Checks the ranges. (hnsw_rs ends the process for an `m` beyond 256, so nothing unchecked goes there.)
    ///
    /// # Errors
    /// [`Error::BadIndexSetting`].
    pub fn validate(&self) -> Result<(), Error> {
        let within = |name: &str, value: usize, low: usize, high: usize| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(Error::BadIndexSetting(format!("{name} is {value}, it must be {low} to {high}")))
            }
        };
        within("m", self.m, 2, 200)?;
        within("ef_construction", self.ef_construction, 8, 4096)?;
        within("ef_search", self.ef_search, 1, 100_000)
    }
}

/// A finished graph over normalised vectors.
#[derive(Debug)]
pub struct Hnsw {
    dimensions: usize,
    settings: HnswSettings,
    ids: Vec<u64>,
    codes: Codes,
    links: Links,
    workspace: Workspace,
}

impl Hnsw {
    /// Builds a graph of `ids.len()` vectors that stand one after another in `vectors`. They are normalised.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] when `vectors` is not `ids.len() × dimensions` long, [`Error::BadVector`],
    /// [`Error::BadIndexSetting`] (also for more than 2³¹ − 1 vectors or 65,536 dimensions), [`Error::OutOfMemory`].
    pub fn build(settings: HnswSettings, dimensions: usize, ids: Vec<u64>, vectors: Vec<f32>) -> Result<Self, Error> {
        settings.validate()?;
        Self::empty(settings, dimensions)?.successor(&|_| true, ids, vectors)
    }

    fn empty(settings: HnswSettings, dimensions: usize) -> Result<Self, Error> {
        if dimensions == 0 || dimensions > MAX_DIMENSIONS {
            let reason = format!("vectors have {dimensions} dimensions, they must have 1 to {MAX_DIMENSIONS}");
            return Err(Error::BadIndexSetting(reason));
        }
        let (codes, lowest) = (Codes::zeroed(settings.precision, dimensions, 0), Lowest::unlinked(settings.m, 0));
        let links = Links { lowest: lowest.map_err(no_memory)?, upper: Vec::new(), entry: 0 };
        let workspace = Workspace::default();
        Ok(Self { dimensions, settings, ids: Vec::new(), codes: codes.map_err(no_memory)?, links, workspace })
    }

    /// A graph of the vectors of this one whose ids are to be kept, and of others (as in [`Hnsw::build`]).
    ///
    /// When everything is kept the links are taken over too, and the work is that of putting the others in; otherwise all
    /// links are made anew.
    ///
    /// # Errors
    /// As [`Hnsw::build`].
    pub fn successor(&self, keep: Allowed<'_>, ids: Vec<u64>, mut vectors: Vec<f32>) -> Result<Self, Error> {
        let (settings, dimensions) = (self.settings, self.dimensions);
        if Some(vectors.len()) != ids.len().checked_mul(dimensions) {
            let got = vectors.len().checked_div(ids.len()).unwrap_or(vectors.len());
            return Err(Error::DimensionMismatch { expected: dimensions, got });
        }
        for (index, vector) in vectors.chunks_exact_mut(dimensions).enumerate() {
            normalize(vector, index)?;
        }
        let kept: Vec<u32> = (0..).zip(&self.ids).filter(|&(_, &id)| keep(id)).map(|(row, _)| row).collect();
        let rows = kept.len() + ids.len();
        if rows > MAX_ROWS {
            return Err(Error::BadIndexSetting(format!("{rows} vectors are too many for one graph")));
        }
        let mut codes = Codes::zeroed(settings.precision, dimensions, rows).map_err(no_memory)?;
        codes.copy_rows(&self.codes, &kept);
        codes.encode_rows(kept.len(), dimensions, &vectors);
        let mut all: Vec<u64> = kept.iter().map(|&row| self.ids[row as usize]).collect();
        all.extend(ids);
        let workspace = Workspace::default();
        let whole = kept.len() == self.ids.len();
        let link = || -> std::io::Result<Links> {
            if settings.builder == GraphBuilder::HnswRs && kept.is_empty() {
                return reference::link(&settings, dimensions, &vectors);
            }
            let mut links = if whole {
                self.links.grown(rows)?
            } else {
                Links { lowest: Lowest::unlinked(settings.m, rows)?, upper: Vec::new(), entry: 0 }
            };
            let from = if whole { kept.len() as u32 } else { 0 };
            Construction { settings: &settings, codes: &codes, links: &mut links, workspace: &workspace }
                .insert(from, rows as u32);
            Ok(links)
        };
        let links = catch_unwind(AssertUnwindSafe(link)).map_err(|panic| {
            Error::BadIndexSetting(format!("building the graph failed: {}", panic_message(&*panic)))
        })?;
        Ok(Self { dimensions, settings, ids: all, codes, links: links.map_err(no_memory)?, workspace })
    }

    /// Vectors in it.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether it holds no vectors.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Values of a vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// How it was built.
    pub fn settings(&self) -> &HnswSettings {
        &self.settings
    }

    /// The ids, in the order of [`Hnsw::build`].
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// The `k` nearest to `query`, best first, as far as the graph leads to them; ties by id.
    ///
    /// `ef` is the number of candidates kept (at least `k`): more finds more and takes longer. Ids that are not allowed
    /// are walked through but not returned; where so few are allowed that the walk goes on and on, every vector that is
    /// allowed is looked at instead. So `k` results come back whenever there are as many.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`], [`Error::BadVector`].
    pub fn search(
        &self,
        query: &[f32],
        k: usize,
        ef: usize,
        allowed: Option<Allowed<'_>>,
    ) -> Result<Vec<Neighbor>, Error> {
        let query = self.checked(query)?;
        if self.ids.is_empty() || k == 0 {
            return Ok(Vec::new());
        }
        let ef = ef.max(k);
        let search =
            |scratch: &mut Scratch| with_kernel(Search { graph: self, query: &query, k, ef, allowed, scratch });
        Ok(match self.workspace.with(search) {
            Some(found) => found,
            None => with_kernel(Scan { graph: self, query: &query, k, allowed }),
        })
    }

    /// The `k` nearest to `query` by looking at every vector.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`], [`Error::BadVector`].
    pub fn search_exact(&self, query: &[f32], k: usize, allowed: Option<Allowed<'_>>) -> Result<Vec<Neighbor>, Error> {
        let query = self.checked(query)?;
        Ok(with_kernel(Scan { graph: self, query: &query, k, allowed }))
    }

    /// As [`Hnsw::search`] with the `ef_search` of the settings.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`], [`Error::BadVector`].
    pub fn search_default(
        &self,
        query: &[f32],
        k: usize,
        allowed: Option<Allowed<'_>>,
    ) -> Result<Vec<Neighbor>, Error> {
        self.search(query, k, self.settings.ef_search, allowed)
    }

    fn checked(&self, query: &[f32]) -> Result<Query, Error> {
        if query.len() != self.dimensions {
            return Err(Error::DimensionMismatch { expected: self.dimensions, got: query.len() });
        }
        let mut query = query.to_vec();
        normalize(&mut query, 0)?;
        Ok(Query::new(&query))
    }

    #[inline(always)]
    fn neighbor<K: Kernel>(&self, kernel: K, query: &Query, row: u32) -> Neighbor {
        Neighbor { id: self.ids[row as usize], similarity: self.codes.cosine(kernel, query, row) }
    }
}

fn no_memory(source: std::io::Error) -> Error {
    Error::OutOfMemory { what: "the vector graph", source }
}

/// One search through the graph; `None` if few ids are allowed and looking at each is the shorter way.
struct Search<'a> {
    graph: &'a Hnsw,
    query: &'a Query,
    k: usize,
    ef: usize,
    allowed: Option<Allowed<'a>>,
    scratch: &'a mut Scratch,
}

impl Job for Search<'_> {
    type Output = Option<Vec<Neighbor>>;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> Option<Vec<Neighbor>> {
        let Self { graph, query, k, ef, allowed, scratch } = self;
        let Hnsw { codes, links, .. } = graph;
        // From the entry too: every row is reached from there.
        let entries = [links.descend(kernel, codes, &query.high, 0), links.entry_row()];
        match allowed {
            None => walk(kernel, codes, &links.lowest, &query.high, ef, &entries, scratch),
            Some(allowed) => {
                let passes = |row: u32| allowed(graph.ids[row as usize]);
                // Looking at a row costs the walk several times what asking the filter costs a scan.
                let patience = graph.len() / 4 + 4 * ef;
                let lowest = &links.lowest;
                if !walk_filtered(kernel, codes, lowest, &query.high, ef, &entries, patience, passes, scratch)
                    || scratch.found.len() < k
                {
                    return None;
                }
            }
        }
        // What 8 bits rank below this, 16 bits do not lift among the first k.
        let ranked = &scratch.found[..scratch.found.len().min(2 * k + 32)];
        let mut found = Vec::with_capacity(ranked.len());
        for candidate in ranked {
            found.push(graph.neighbor(kernel, query, candidate.place()));
        }
        found.sort_by(Neighbor::by_rank);
        found.truncate(k);
        Some(found)
    }
}

/// A look at every row that is allowed.
struct Scan<'a> {
    graph: &'a Hnsw,
    query: &'a Query,
    k: usize,
    allowed: Option<Allowed<'a>>,
}

impl Job for Scan<'_> {
    type Output = Vec<Neighbor>;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> Vec<Neighbor> {
        let Self { graph, query, k, allowed } = self;
        let mut best = Best::new(k);
        for (row, &id) in (0..).zip(&graph.ids) {
            if allowed.is_none_or(|allowed| allowed(id)) {
                best.offer(graph.neighbor(kernel, query, row));
            }
        }
        best.into_sorted()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::fs;

    use super::*;
    use crate::index::Flat;

    const HASH_BYTES: usize = 32;

    /// Vectors in clusters, as embeddings of documents are.
    pub(crate) fn clustered(rows: usize, dimensions: usize, mut seed: u64) -> Vec<f32> {
        let mut random = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let centres: Vec<f32> = (0..20 * dimensions).map(|_| random()).collect();
        (0..rows)
            .flat_map(|row| {
                let centre = (row % 20) * dimensions;
                (0..dimensions).map(|d| centres[centre + d] + 0.6 * random()).collect::<Vec<_>>()
            })
            .collect()
    }

    fn recall(graph: &Hnsw, flat: &Flat, queries: &[f32], dimensions: usize, allowed: Option<Allowed<'_>>) -> f64 {
        let mut hits = 0;
        let mut wanted = 0;
        for query in queries.chunks_exact(dimensions) {
            let truth = flat.search(query, 10, allowed).unwrap();
            let found = graph.search(query, 10, 100, allowed).unwrap();
            assert!(found.windows(2).all(|pair| Neighbor::by_rank(&pair[0], &pair[1]).is_lt()));
            wanted += truth.len();
            hits += truth.iter().filter(|n| found.iter().any(|f| f.id == n.id)).count();
        }
        hits as f64 / wanted as f64
    }

    #[test]
    fn recall_against_exhaustive_search() {
        let (rows, dimensions) = (3000, 32);
        let vectors = clustered(rows, dimensions, 1);
        let queries = clustered(100, dimensions, 1);
        let mut flat = Flat::new(dimensions);
        for (row, vector) in vectors.chunks_exact(dimensions).enumerate() {
            flat.push(row as u64 * 3, vector).unwrap();
        }
        let ids: Vec<u64> = (0..rows as u64).map(|row| row * 3).collect();
        let builders = [GraphBuilder::Own, GraphBuilder::HnswRs].map(|builder| (builder, Precision::Sixteen));
        for (builder, precision) in builders.into_iter().chain([(GraphBuilder::Own, Precision::Eight)]) {
            let settings = HnswSettings { builder, precision, ..HnswSettings::default() };
            let graph = Hnsw::build(settings, dimensions, ids.clone(), vectors.clone()).unwrap();
            let whole = recall(&graph, &flat, &queries, dimensions, None);
            assert!(whole > 0.97, "recall {whole}");
            let some: Allowed<'_> = &|id| id % 2 == 0;
            let filtered = recall(&graph, &flat, &queries, dimensions, Some(some));
            assert!(filtered > 0.97, "recall with a filter {filtered}");
            // Half a unit of the largest value / 32,512 for each of 32 values: about 7e-6 in the middle, twice that where both vectors err
            // alike because they are one, and rarely three times that.
            let bound = if precision == Precision::Sixteen { 4e-5 } else { 5e-3 };
            for query in queries.chunks_exact(dimensions) {
                let found = graph.search_exact(query, 10, Some(some)).unwrap();
                let truth = flat.search(query, 10, Some(some)).unwrap();
                let near = |(a, b): (&Neighbor, &Neighbor)| (a.similarity - b.similarity).abs() < bound;
                assert!(found.len() == truth.len() && found.iter().zip(&truth).all(near), "{found:?} {truth:?}");
            }
        }
    }

    /// A filter that few pass, far from the query or near it, gets as many as there are, and the right ones.
    #[test]
    fn rare_filters_are_answered_in_full() {
        let (rows, dimensions) = (3000, 16);
        let vectors = clustered(rows, dimensions, 2);
        let mut flat = Flat::new(dimensions);
        for (row, vector) in vectors.chunks_exact(dimensions).enumerate() {
            flat.push(row as u64, vector).unwrap();
        }
        let graph = Hnsw::build(HnswSettings::default(), dimensions, (0..rows as u64).collect(), vectors).unwrap();
        for every in [2, 7, 50, 300, 2999, 5000] {
            let some: Allowed<'_> = &|id| id % every == every - 1;
            for query in clustered(20, dimensions, 2).chunks_exact(dimensions) {
                let found = graph.search(query, 10, 64, Some(some)).unwrap();
                let truth = flat.search(query, 10, Some(some)).unwrap();
                assert_eq!(found.len(), truth.len());
                let hits = truth.iter().filter(|n| found.iter().any(|f| f.id == n.id)).count();
                assert!(hits * 10 >= truth.len() * 8, "{hits} of {} where one of {every} passes", truth.len());
            }
        }
    }

    #[test]
    fn the_graph_does_not_depend_on_the_number_of_threads() {
        let build = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Hnsw::build(HnswSettings::default(), 8, (0..700).collect(), clustered(700, 8, 3)).unwrap())
        };
        let (a, b) = (build(1), build(3));
        assert_eq!(a.links.lowest.links.as_ref(), b.links.lowest.links.as_ref());
        assert_eq!((a.links.upper, a.links.entry), (b.links.upper, b.links.entry));
    }

    /// Hundreds of copies of one vector: all of them are found, and so is what is beside them.
    #[test]
    fn copies_of_one_vector_are_all_reached() {
        let mut vectors = clustered(300, 8, 4);
        for _ in 0..300 {
            vectors.extend_from_within(..8);
        }
        let graph = Hnsw::build(HnswSettings::default(), 8, (0..600).collect(), vectors.clone()).unwrap();
        let found = graph.search(&vectors[..8], 301, 301, None).unwrap();
        assert_eq!(found.iter().filter(|found| found.id == 0 || found.id >= 300).count(), 301);
        assert_eq!(graph.search(&vectors[..8], 600, 600, None).unwrap().len(), 600);
    }

    #[test]
    fn successors_have_what_was_kept_and_what_came() {
        let (dimensions, vectors) = (16, clustered(2000, 16, 6));
        let ids: Vec<u64> = (0..2000).collect();
        let half = Hnsw::build(
            HnswSettings::default(),
            dimensions,
            ids[..1000].to_vec(),
            vectors[..1000 * dimensions].to_vec(),
        );
        let rest = vectors[1000 * dimensions..].to_vec();
        let half = half.unwrap();
        let keeps: [fn(u64) -> bool; 2] = [|_| true, |id| id % 3 > 0];
        for keep in keeps {
            let whole = half.successor(&keep, ids[1000..].to_vec(), rest.clone()).unwrap();
            let mut flat = Flat::new(dimensions);
            for (id, vector) in (0..).zip(vectors.chunks_exact(dimensions)) {
                if id >= 1000 || keep(id) {
                    flat.push(id, vector).unwrap();
                }
            }
            assert_eq!(whole.len(), flat.len());
            let recall = recall(&whole, &flat, &clustered(100, dimensions, 6), dimensions, None);
            assert!(recall > 0.97, "recall {recall}");
        }
    }

    #[test]
    fn saved_and_loaded_answers_alike_and_leaves_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("graph");
        let graph = Hnsw::build(HnswSettings::default(), 8, (0..300).collect(), clustered(300, 8, 5)).unwrap();
        graph.save(&path, 42).unwrap();
        graph.save(&path, 43).unwrap();
        let (loaded, tag) = Hnsw::load(&path).unwrap();
        assert_eq!(tag, 43);
        let query = [0.3, -0.2, 0.1, 0.4, 0.0, 0.0, 0.5, -0.1];
        assert_eq!(graph.search(&query, 10, 50, None).unwrap(), loaded.search(&query, 10, 50, None).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        for rows in [0, 1, 2] {
            let small =
                Hnsw::build(HnswSettings::default(), 8, (0..rows).collect(), clustered(rows as usize, 8, 5)).unwrap();
            small.save(&path, 0).unwrap();
            let (small, _) = Hnsw::load(&path).unwrap();
            assert_eq!(small.search(&query, 5, 10, None).unwrap().len(), rows as usize);
        }
    }

    #[test]
    fn bad_input_is_an_error() {
        let settings = HnswSettings::default();
        assert!(matches!(Hnsw::build(settings, 2, vec![1], vec![0.0; 3]), Err(Error::DimensionMismatch { .. })));
        assert!(matches!(Hnsw::build(settings, 2, vec![1], vec![0.0; 2]), Err(Error::BadVector { index: 0 })));
        assert!(matches!(Hnsw::build(settings, 0, vec![], vec![]), Err(Error::BadIndexSetting(_))));
        let many = HnswSettings { m: 257, ..settings };
        assert!(matches!(Hnsw::build(many, 2, vec![], vec![]), Err(Error::BadIndexSetting(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damaged_files_are_errors(at in 0usize..100_000, value in 1u8.., cut in 0usize..100_000) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("graph");
            let graph = Hnsw::build(HnswSettings::default(), 4, (0..60).collect(), clustered(60, 4, 9)).unwrap();
            graph.save(&path, 1).unwrap();
            let whole = fs::read(&path).unwrap();
            let mut flipped = whole.clone();
            let at = at % flipped.len();
            flipped[at] ^= value;
            fs::write(&path, &flipped).unwrap();
            let error = Hnsw::load(&path).unwrap_err();
            prop_assert!(error.to_string().contains("graph"), "{error}");
            fs::write(&path, &whole[..cut % whole.len()]).unwrap();
            prop_assert!(Hnsw::load(&path).is_err());
        }

        /// With the right hashes of wrong content.
        #[test]
        fn lying_files_with_a_right_checksum_do_not_panic(at in 0usize..100_000, value in 1u8..) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("graph");
            let graph = Hnsw::build(HnswSettings::default(), 4, (0..60).collect(), clustered(60, 4, 9)).unwrap();
            graph.save(&path, 1).unwrap();
            let mut lying = fs::read(&path).unwrap();
            // Every section is shorter than a block, so it has one hash.
            let sections: Vec<usize> = graph.sections().iter().map(|section| section.bytes().len()).collect();
            let body = lying.len() - (sections.len() + 1) * HASH_BYTES;
            lying[at % body] ^= value;
            let mut root = blake3::Hasher::new();
            let mut end = body - sections.iter().sum::<usize>();
            root.update(&lying[..end]);
            for (index, bytes) in sections.iter().enumerate() {
                let hash = blake3::hash(&lying[end..end + bytes]);
                lying[body + index * HASH_BYTES..][..HASH_BYTES].copy_from_slice(hash.as_bytes());
                root.update(hash.as_bytes());
                end += bytes;
            }
            let length = lying.len();
            lying[length - HASH_BYTES..].copy_from_slice(root.finalize().as_bytes());
            fs::write(&path, &lying).unwrap();
            if let Ok((graph, _)) = Hnsw::load(&path) {
                let _ = graph.search(&vec![1.0; graph.dimensions()], 10, 50, None);
                let _ = graph.search(&vec![1.0; graph.dimensions()], 10, 50, Some(&|id| id % 2 == 0));
            }
        }
    }
}
