//! Finding the nearest vectors: exactly ([`Flat`]) or through a graph ([`Hnsw`]).
//!
//! Vectors are compared by cosine. They are normalised when they come in, so that a dot product is all that is left.

mod distance;
mod flat;
mod hnsw;
pub(crate) mod id_ranges;
#[cfg(feature = "keyword")]
pub(crate) mod keyword;
pub(crate) mod rank;
mod vectors;

pub(crate) use distance::dot;
pub use distance::normalize;
pub use flat::Flat;

pub(crate) use hnsw::replace_file;
pub use hnsw::{GraphBuilder, Hnsw, HnswSettings, Precision};
pub(crate) use vectors::{Vectors, VectorsSettings};

/// A vector that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbor {
    /// The id it was put in with.
    pub id: u64,
    /// Cosine similarity to the query, −1 to 1, higher is nearer.
    pub similarity: f32,
}

impl Neighbor {
    /// Best first; ties by id, so that every search has one right order.
    pub(crate) fn by_rank(a: &Self, b: &Self) -> std::cmp::Ordering {
        b.similarity.total_cmp(&a.similarity).then(a.id.cmp(&b.id))
    }
}

/// Which ids a search may return.
pub type Allowed<'a> = &'a (dyn Fn(u64) -> bool + Sync);
