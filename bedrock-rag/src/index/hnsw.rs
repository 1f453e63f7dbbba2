//! Hierarchical navigable small worlds (Malkov & Yashunin 2016): hnsw_rs builds the graph, a flat copy of it answers.
//!
//! Why a copy. hnsw_rs keeps each vector and each list of links in an allocation of its own behind locks, which is right
//! for building on many threads and slow for searching; and its loader trusts the files it reads. Here the finished
//! graph is four arrays, searched without locks, written to a file of our own with a checksum, and believed only when
//! checksum and structure hold. hnsw_rs never touches the disk.
//!
//! A graph does not change once built. New vectors and deletions are kept beside it until it is built anew.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;

use hnsw_rs::prelude::{Distance, Hnsw as Builder};
use pulp::{Simd, WithSimd};
use serde::{Deserialize, Serialize};

use super::distance::{dot, dot_with, normalize, vectorize};
use super::flat::nearest;
use super::{Allowed, Neighbor};
use crate::Error;
use crate::document::panic_message;

/// How a graph is built and searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HnswSettings {
    /// Links a vector gets on each layer (twice as many on the lowest), 2 to 200. Default 16.
    pub m: usize,
    /// Candidates looked at when a vector is put in, 8 to 4,096; more is slower to build and better linked. Default 128.
    pub ef_construction: usize,
    /// Candidates kept in a search (at least as many as results are asked), 1 to 100,000. Default 96.
    pub ef_search: usize,
    /// Whether equal input shall give an equal graph. It is then built on one thread; otherwise on all, where the order
    /// in which threads come by decides among equally good links. (The layers are drawn from a generator with a fixed
    /// seed in both cases; hnsw_rs offers no other.) Default false.
    pub deterministic: bool,
}

impl Default for HnswSettings {
    fn default() -> Self {
        Self { m: 16, ef_construction: 128, ef_search: 96, deterministic: false }
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

/// Links of the vectors of one layer, in one piece: the links of `nodes[i]` are `links[offsets[i]..offsets[i + 1]]`.
#[derive(Debug, Default, PartialEq)]
struct Layer {
    /// Rows that have links here, rising. Empty on the lowest layer, where every row has a place.
    nodes: Vec<u32>,
    offsets: Vec<u32>,
    links: Vec<u32>,
}

impl Layer {
    fn links_of(&self, row: u32) -> &[u32] {
        let place = if self.nodes.is_empty() { Some(row as usize) } else { self.nodes.binary_search(&row).ok() };
        match place {
            Some(place) if place + 1 < self.offsets.len() => {
                &self.links[self.offsets[place] as usize..self.offsets[place + 1] as usize]
            }
            _ => &[],
        }
    }
}

/// A finished graph over normalised vectors.
#[derive(Debug)]
pub struct Hnsw {
    dimensions: usize,
    settings: HnswSettings,
    ids: Vec<u64>,
    vectors: Vec<f32>,
    /// Lowest first; never empty unless there are no vectors.
    layers: Vec<Layer>,
    entry: u32,
    /// Marks of rows seen by a search, kept for the next one.
    visited: Mutex<Vec<Visited>>,
}

/// hnsw_rs's view of our distance.
struct CosineDistance;

impl Distance<f32> for CosineDistance {
    fn eval(&self, a: &[f32], b: &[f32]) -> f32 {
        (1.0 - dot(a, b)).max(0.0)
    }
}

impl Hnsw {
    /// Builds a graph of `ids.len()` vectors that stand one after another in `vectors`. They are normalised.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] when `vectors` is not `ids.len() × dimensions` long, [`Error::BadVector`],
    /// [`Error::BadIndexSetting`] (also for more than 2³² − 1 vectors).
    pub fn build(
        settings: HnswSettings,
        dimensions: usize,
        ids: Vec<u64>,
        mut vectors: Vec<f32>,
    ) -> Result<Self, Error> {
        settings.validate()?;
        let rows = u32::try_from(ids.len()).ok().filter(|&rows| rows < u32::MAX);
        let rows =
            rows.ok_or_else(|| Error::BadIndexSetting(format!("{} vectors are too many for one graph", ids.len())))?;
        if dimensions == 0 || Some(vectors.len()) != ids.len().checked_mul(dimensions) {
            let got = vectors.len().checked_div(ids.len()).unwrap_or(vectors.len());
            return Err(Error::DimensionMismatch { expected: dimensions, got });
        }
        for (index, vector) in vectors.chunks_exact_mut(dimensions).enumerate() {
            normalize(vector, index)?;
        }
        let built = catch_unwind(AssertUnwindSafe(|| link(&settings, dimensions, rows, &vectors)));
        let (layers, entry) = built.map_err(|panic| {
            Error::BadIndexSetting(format!("building the graph failed: {}", panic_message(&*panic)))
        })?;
        Ok(Self { dimensions, settings, ids, vectors, layers, entry, visited: Mutex::default() })
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

    /// The ids, in the order of [`Hnsw::build`].
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// Ids and normalised vectors, in the order of [`Hnsw::build`].
    pub(crate) fn rows(&self) -> impl Iterator<Item = (u64, &[f32])> {
        self.ids.iter().copied().zip(self.vectors.chunks_exact(self.dimensions))
    }

    /// The `k` nearest to `query`, best first, as far as the graph leads to them; ties by id.
    ///
    /// `ef` is the number of candidates kept (at least `k`): more finds more and takes longer. Ids that are not allowed
    /// are walked through but not returned, so a filter that few pass makes a search longer; [`Hnsw::search_exact`]
    /// is then the better choice.
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
        let mut visited = self.lock_visited().pop().unwrap_or_default();
        visited.clear(self.ids.len());
        let found = vectorize(Walk { graph: self, query: &query, ef: ef.max(k), allowed, visited: &mut visited });
        self.lock_visited().push(visited);
        Ok(found.into_iter().take(k).collect())
    }

    /// The `k` nearest to `query` by looking at every vector.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`], [`Error::BadVector`].
    pub fn search_exact(&self, query: &[f32], k: usize, allowed: Option<Allowed<'_>>) -> Result<Vec<Neighbor>, Error> {
        let query = self.checked(query)?;
        Ok(nearest(&query, &self.ids, &self.vectors, k, allowed))
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

    fn checked(&self, query: &[f32]) -> Result<Vec<f32>, Error> {
        if query.len() != self.dimensions {
            return Err(Error::DimensionMismatch { expected: self.dimensions, got: query.len() });
        }
        let mut query = query.to_vec();
        normalize(&mut query, 0)?;
        Ok(query)
    }

    fn lock_visited(&self) -> std::sync::MutexGuard<'_, Vec<Visited>> {
        // What a search that panicked leaves behind is cleared before its next use.
        self.visited.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    #[inline(always)]
    fn vector(&self, row: u32) -> &[f32] {
        let start = row as usize * self.dimensions;
        &self.vectors[start..start + self.dimensions]
    }
}

/// Has hnsw_rs build the graph and copies its links out, row by row.
fn link(settings: &HnswSettings, dimensions: usize, rows: u32, vectors: &[f32]) -> (Vec<Layer>, u32) {
    if rows == 0 {
        return (Vec::new(), 0);
    }
    let builder =
        Builder::<f32, CosineDistance>::new(settings.m, rows as usize, 16, settings.ef_construction, CosineDistance);
    let items: Vec<(&[f32], usize)> = vectors.chunks_exact(dimensions).zip(0..rows as usize).collect();
    if settings.deterministic {
        for item in items {
            builder.insert_slice(item);
        }
    } else {
        // The first ones alone: threads that all start from an empty graph don't see each other.
        let (seed, rest) = items.split_at(items.len().min(256));
        for &item in seed {
            builder.insert_slice(item);
        }
        builder.parallel_insert_slice(&rest.to_vec());
    }
    let points = builder.get_point_indexation();
    let top = points.get_max_level_observed();
    let mut entry = 0;
    // (layer, row, links), to be sorted by layer and row.
    let mut lists: Vec<Vec<(u32, Vec<u32>)>> = vec![Vec::new(); usize::from(top) + 1];
    for point in points {
        let row = point.get_origin_id() as u32;
        let place = point.get_point_id();
        if place.0 == top && place.1 == 0 {
            entry = row;
        }
        for (layer, links) in point.get_neighborhood_id().into_iter().enumerate().take(lists.len()) {
            if layer == 0 || !links.is_empty() {
                let mut links: Vec<u32> = links.into_iter().map(|link| link.d_id as u32).collect();
                links.retain(|&link| link != row);
                lists[layer].push((row, links));
            }
        }
    }
    let layers = lists
        .into_iter()
        .enumerate()
        .map(|(layer, mut lists)| {
            lists.sort_by_key(|&(row, _)| row);
            let mut built = Layer { offsets: vec![0], ..Layer::default() };
            for (row, links) in lists {
                if layer > 0 {
                    built.nodes.push(row);
                }
                built.links.extend(links);
                built.offsets.push(built.links.len() as u32);
            }
            built
        })
        .collect();
    (layers, entry)
}

/// Which rows a search has seen: the number of the search that saw them last, so that clearing is adding one.
#[derive(Debug, Default)]
struct Visited {
    search: u32,
    marks: Vec<u32>,
}

impl Visited {
    fn clear(&mut self, rows: usize) {
        if self.marks.len() != rows || self.search == u32::MAX {
            self.marks.clear();
            self.marks.resize(rows, 0);
            self.search = 0;
        }
        self.search += 1;
    }

    /// Marks a row; whether it was new.
    #[inline(always)]
    fn visit(&mut self, row: u32) -> bool {
        let mark = &mut self.marks[row as usize];
        let new = *mark != self.search;
        *mark = self.search;
        new
    }
}

/// A row and how similar it is, ordered by that.
#[derive(Clone, Copy, PartialEq)]
struct Candidate {
    similarity: f32,
    row: u32,
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.similarity.total_cmp(&other.similarity).then(other.row.cmp(&self.row))
    }
}

/// One search, from the entry down to the lowest layer and there outwards.
struct Walk<'a> {
    graph: &'a Hnsw,
    query: &'a [f32],
    ef: usize,
    allowed: Option<Allowed<'a>>,
    visited: &'a mut Visited,
}

impl WithSimd for Walk<'_> {
    type Output = Vec<Neighbor>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<Neighbor> {
        let Self { graph, query, ef, allowed, visited } = self;
        let similarity = |row: u32| dot_with(simd, query, graph.vector(row));
        let mut current = Candidate { row: graph.entry, similarity: similarity(graph.entry) };
        for layer in graph.layers.iter().skip(1).rev() {
            loop {
                let mut best = current;
                for &row in layer.links_of(current.row) {
                    best = best.max(Candidate { row, similarity: similarity(row) });
                }
                if best.row == current.row {
                    break;
                }
                current = best;
            }
        }
        let Some(lowest) = graph.layers.first() else { return Vec::new() };
        // Only what may be returned counts as found: the walk goes on through rows that a filter keeps out until enough
        // others are found, also where a whole neighbourhood is kept out.
        let passes = |row: u32| allowed.is_none_or(|allowed| allowed(graph.ids[row as usize]));
        let mut found: BinaryHeap<Reverse<Candidate>> = BinaryHeap::with_capacity(ef.min(graph.ids.len()) + 1);
        let mut frontier = BinaryHeap::from([current]);
        visited.visit(current.row);
        if passes(current.row) {
            found.push(Reverse(current));
        }
        // The similarity that a row must exceed to be of interest.
        let bar = |found: &BinaryHeap<Reverse<Candidate>>| {
            if found.len() < ef {
                f32::NEG_INFINITY
            } else {
                found.peek().map_or(f32::NEG_INFINITY, |worst| worst.0.similarity)
            }
        };
        while let Some(candidate) = frontier.pop() {
            if candidate.similarity < bar(&found) {
                break;
            }
            for &row in lowest.links_of(candidate.row) {
                if !visited.visit(row) {
                    continue;
                }
                let next = Candidate { row, similarity: similarity(row) };
                if next.similarity > bar(&found) {
                    frontier.push(next);
                    if passes(row) {
                        found.push(Reverse(next));
                        if found.len() > ef {
                            found.pop();
                        }
                    }
                }
            }
        }
        let mut found: Vec<Neighbor> = found
            .into_iter()
            .map(|Reverse(found)| Neighbor { id: graph.ids[found.row as usize], similarity: found.similarity })
            .collect();
        found.sort_by(Neighbor::by_rank);
        found
    }
}

// The file: everything little-endian, then the BLAKE3 hash of all that comes before it.
//
//   magic 8 · version u32 · tag u64 · dimensions u32 · rows u32 · m u32 · ef_construction u32 · ef_search u32
//   · deterministic u32 · entry u32 · layers u32
//   · per layer: nodes u32, links u32
//   · ids u64×rows · vectors f32×rows×dimensions · per layer: nodes, offsets, links as u32
const MAGIC: &[u8; 8] = b"bedrHNSW";
const VERSION: u32 = 1;
const HASH_BYTES: usize = 32;
const MAX_LAYERS: usize = 64;

impl Hnsw {
    /// Writes the graph with its vectors into a file, whole or not at all: into a file beside it that then takes its
    /// name. `tag` is kept with it, for the caller to know what it belongs to.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn save(&self, path: &Path, tag: u64) -> Result<(), Error> {
        let fail = |source| Error::write(path, source);
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let beside = path.with_file_name(name);
        let mut out = Hashing {
            file: std::io::BufWriter::with_capacity(1 << 20, File::create(&beside).map_err(fail)?),
            hash: blake3::Hasher::new(),
        };
        let written = self.write(&mut out, tag).and_then(|()| {
            let hash = out.hash.finalize();
            out.file.write_all(hash.as_bytes())?;
            out.file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
        });
        let placed = written.and_then(|()| fs::rename(&beside, path));
        if let Err(source) = placed {
            let _ = fs::remove_file(&beside);
            return Err(fail(source));
        }
        sync_folder(path);
        Ok(())
    }

    fn write(&self, out: &mut impl Write, tag: u64) -> std::io::Result<()> {
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&tag.to_le_bytes())?;
        let settings = &self.settings;
        let head = [
            self.dimensions,
            self.ids.len(),
            settings.m,
            settings.ef_construction,
            settings.ef_search,
            usize::from(settings.deterministic),
            self.entry as usize,
            self.layers.len(),
        ];
        for value in head.into_iter().chain(self.layers.iter().flat_map(|layer| [layer.nodes.len(), layer.links.len()]))
        {
            let value =
                u32::try_from(value).map_err(|_| std::io::Error::other("the graph is too large for its file"))?;
            out.write_all(&value.to_le_bytes())?;
        }
        for id in &self.ids {
            out.write_all(&id.to_le_bytes())?;
        }
        for value in &self.vectors {
            out.write_all(&value.to_le_bytes())?;
        }
        for value in self.layers.iter().flat_map(|layer| layer.nodes.iter().chain(&layer.offsets).chain(&layer.links)) {
            out.write_all(&value.to_le_bytes())?;
        }
        Ok(())
    }

    /// Reads a file of [`Hnsw::save`] and its tag.
    ///
    /// The file is not trusted: its length must be what its head says, its hash must fit, and every number in it must
    /// be one that a graph can have.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Damaged`].
    pub fn load(path: &Path) -> Result<(Self, u64), Error> {
        let mut file = File::open(path).map_err(|source| Error::read(path, source))?;
        let length = file.metadata().map_err(|source| Error::read(path, source))?.len();
        let damaged = |reason: &str| Error::damaged(path, reason);
        let mut head = [0; 52];
        file.read_exact(&mut head).map_err(|_| damaged("it is shorter than its head"))?;
        let (magic, numbers) = head.split_at(8);
        if magic != MAGIC {
            return Err(damaged("it is no vector graph"));
        }
        let version = u32_at(numbers, 0);
        if version != VERSION {
            return Err(Error::UnknownVersion { path: path.to_owned(), found: version, supported: VERSION });
        }
        let tag = u64::from_le_bytes(std::array::from_fn(|byte| numbers[4 + byte]));
        let [dimensions, rows, m, ef_construction, ef_search, deterministic, entry, layer_count]: [u32; 8] =
            std::array::from_fn(|index| u32_at(numbers, 12 + 4 * index));
        let layer_count = layer_count as usize;
        if layer_count > MAX_LAYERS {
            return Err(damaged("it has more layers than a graph can have"));
        }
        let mut sizes = vec![0; layer_count * 8];
        file.read_exact(&mut sizes).map_err(|_| damaged("it is shorter than its head"))?;
        let sizes: Vec<(u32, u32)> =
            (0..layer_count).map(|layer| (u32_at(&sizes, layer * 8), u32_at(&sizes, layer * 8 + 4))).collect();
        let offsets_of = |layer: usize, nodes: u32| if layer == 0 { u64::from(rows) + 1 } else { u64::from(nodes) + 1 };
        let numbers_in_layers: u64 = sizes
            .iter()
            .enumerate()
            .map(|(layer, &(nodes, links))| u64::from(nodes) + offsets_of(layer, nodes) + u64::from(links))
            .sum();
        // At most 2³² × 2³² × 4: computed wide, so that no head can make it wrap.
        let expected = 52
            + layer_count as u128 * 8
            + u128::from(rows) * 8
            + u128::from(rows) * u128::from(dimensions) * 4
            + u128::from(numbers_in_layers) * 4
            + HASH_BYTES as u128;
        if u128::from(length) != expected {
            return Err(damaged(&format!("it has {length} bytes where its head says {expected}")));
        }
        // Now the head's sizes are no larger than the file, and memory may be taken by them.
        let mut hasher = blake3::Hasher::new();
        hasher.update(&head);
        for (nodes, links) in &sizes {
            hasher.update(&nodes.to_le_bytes()).update(&links.to_le_bytes());
        }
        let mut source = Source { file, hasher, path };
        let ids = source.numbers(rows as usize, u64::from_le_bytes)?;
        let vectors = source.numbers(rows as usize * dimensions as usize, f32::from_le_bytes)?;
        let mut layers = Vec::with_capacity(layer_count);
        for (layer, &(nodes, links)) in sizes.iter().enumerate() {
            layers.push(Layer {
                nodes: source.numbers(nodes as usize, u32::from_le_bytes)?,
                offsets: source.numbers(offsets_of(layer, nodes) as usize, u32::from_le_bytes)?,
                links: source.numbers(links as usize, u32::from_le_bytes)?,
            });
        }
        let mut hash = [0; HASH_BYTES];
        source.file.read_exact(&mut hash).map_err(|cause| Error::read(path, cause))?;
        if source.hasher.finalize() != hash {
            return Err(damaged("its checksum does not fit"));
        }
        let settings = HnswSettings {
            m: m as usize,
            ef_construction: ef_construction as usize,
            ef_search: ef_search as usize,
            deterministic: deterministic != 0,
        };
        let graph =
            Self { dimensions: dimensions as usize, settings, ids, vectors, layers, entry, visited: Mutex::default() };
        graph.check().map_err(damaged)?;
        Ok((graph, tag))
    }

    /// A hash keeps accidents out; that every link leads to a row is looked at all the same, since a search that trusts
    /// the links would panic on one that doesn't.
    fn check(&self) -> Result<(), &'static str> {
        let rows = self.ids.len() as u32;
        if self.settings.validate().is_err() || self.dimensions == 0 {
            return Err("its settings are out of range");
        }
        if rows == 0 {
            return if self.layers.is_empty() { Ok(()) } else { Err("it has links without vectors") };
        }
        if self.entry >= rows || self.layers.is_empty() || !self.layers[0].nodes.is_empty() {
            return Err("its entry or lowest layer is missing");
        }
        if self.vectors.iter().any(|value| !value.is_finite()) {
            return Err("a vector holds a value that is not finite");
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let rising = layer.nodes.windows(2).all(|pair| pair[0] < pair[1]);
            if !rising || layer.nodes.last().is_some_and(|&row| row >= rows) || (index > 0 && layer.nodes.is_empty()) {
                return Err("the rows of a layer are not in order");
            }
            let ordered = layer.offsets.windows(2).all(|pair| pair[0] <= pair[1]);
            let whole = layer.offsets.first() == Some(&0) && layer.offsets.last() == Some(&(layer.links.len() as u32));
            if !ordered || !whole || layer.links.iter().any(|&link| link >= rows) {
                return Err("a link leads nowhere");
            }
        }
        Ok(())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]))
}

/// Makes a rename last. A folder can't be synchronised on every system, and where it can't the rename is as lasting as
/// it gets.
pub(crate) fn sync_folder(path: &Path) {
    if let Some(folder) = path.parent()
        && let Ok(folder) = File::open(folder)
    {
        let _ = folder.sync_all();
    }
}

struct Hashing<W: Write> {
    file: W,
    hash: blake3::Hasher,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

struct Source<'p> {
    file: File,
    hasher: blake3::Hasher,
    path: &'p Path,
}

impl Source<'_> {
    fn numbers<T, const BYTES: usize>(&mut self, count: usize, from: fn([u8; BYTES]) -> T) -> Result<Vec<T>, Error> {
        let mut numbers = Vec::with_capacity(count);
        let mut buffer = vec![0; (1 << 20).min(count * BYTES)];
        while numbers.len() < count {
            let bytes = buffer.len().min((count - numbers.len()) * BYTES);
            self.file.read_exact(&mut buffer[..bytes]).map_err(|source| Error::read(self.path, source))?;
            self.hasher.update(&buffer[..bytes]);
            numbers.extend(buffer[..bytes].as_chunks::<BYTES>().0.iter().map(|&bytes| from(bytes)));
        }
        Ok(numbers)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::Flat;

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
        for deterministic in [true, false] {
            let settings = HnswSettings { deterministic, ..HnswSettings::default() };
            let graph = Hnsw::build(settings, dimensions, ids.clone(), vectors.clone()).unwrap();
            let whole = recall(&graph, &flat, &queries, dimensions, None);
            assert!(whole > 0.97, "recall {whole}");
            let some: Allowed<'_> = &|id| id % 2 == 0;
            let filtered = recall(&graph, &flat, &queries, dimensions, Some(some));
            assert!(filtered > 0.97, "recall with a filter {filtered}");
            assert_eq!(
                graph.search_exact(&queries[..dimensions], 10, Some(some)).unwrap(),
                flat.search(&queries[..dimensions], 10, Some(some)).unwrap()
            );
        }
    }

    #[test]
    fn deterministic_builds_are_equal() {
        let settings = HnswSettings { deterministic: true, ..HnswSettings::default() };
        let build = || Hnsw::build(settings, 8, (0..500).collect(), clustered(500, 8, 3)).unwrap();
        let (a, b) = (build(), build());
        assert_eq!(a.layers, b.layers);
        assert_eq!(a.entry, b.entry);
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

        #[test]
        fn lying_files_with_a_right_checksum_do_not_panic(at in 0usize..100_000, value in 1u8..) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("graph");
            let graph = Hnsw::build(HnswSettings::default(), 4, (0..60).collect(), clustered(60, 4, 9)).unwrap();
            graph.save(&path, 1).unwrap();
            let mut lying = fs::read(&path).unwrap();
            let body = lying.len() - HASH_BYTES;
            lying[at % body] ^= value;
            let hash = blake3::hash(&lying[..body]);
            lying[body..].copy_from_slice(hash.as_bytes());
            fs::write(&path, &lying).unwrap();
            if let Ok((graph, _)) = Hnsw::load(&path) {
                let _ = graph.search(&vec![1.0; graph.dimensions()], 10, 50, None);
            }
        }
    }
}
