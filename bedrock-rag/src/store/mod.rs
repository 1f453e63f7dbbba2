//! Where documents, chunks and vectors are kept.
//!
//! The store is the truth: indexes are made from it and are made again when they are missing or damaged.

pub(crate) mod graph_file;
mod local;
mod protection;
mod remote;

pub(crate) use local::{Batch, Change, Store, StoreOptions};
pub(crate) use protection::Protection;
pub(crate) use remote::{Candidates, Pending, Remote, Served};

use serde::{Deserialize, Serialize};

use crate::chunk::Chunking;
use crate::document::{Format, Metadata};

/// Format of the store that this version writes. 2: records may be sealed, and revisions are counted.
pub(crate) const FORMAT_VERSION: u32 = 2;

/// The oldest that it reads, and brings up to date when it writes.
const OLDEST_VERSION: u32 = 1;

/// What a knowledge base is: decided when it is created.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) format_version: u32,
    /// The service's kind of id: ten letters and digits.
    pub(crate) id: String,
    /// Drawn once, and kept in the index files too, so that a file of another knowledge base is not mistaken for ours.
    pub(crate) tag: u64,
    pub(crate) embedder: EmbedderRecord,
    pub(crate) chunking: Chunking,
    /// Id of the user's own chunker, which cuts in place of `chunking`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) chunker: Option<String>,
}

/// The embedding model that made the vectors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EmbedderRecord {
    pub(crate) model_id: String,
    pub(crate) identity: String,
    /// Values of a vector as stored, which may be fewer than the model's own.
    pub(crate) dimensions: usize,
}

/// A document as stored. Its chunks have the ids `first_chunk .. first_chunk + chunks`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DocumentRecord {
    pub(crate) uri: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) format: Option<Format>,
    /// BLAKE3 of the content, in hexadecimal.
    pub(crate) content_hash: String,
    /// BLAKE3 of the metadata that came with the document.
    pub(crate) metadata_hash: String,
    /// What the source told this content by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    pub(crate) bytes: u64,
    /// What the document says of itself.
    pub(crate) own_metadata: Metadata,
    /// What came with it; it wins over what the document says.
    pub(crate) metadata: Metadata,
    pub(crate) first_chunk: u64,
    pub(crate) chunks: u64,
    /// Positions of the chunks that have no vector (parents of hierarchical chunking), rising.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) parents: Vec<u64>,
}

impl DocumentRecord {
    pub(crate) fn chunk_ids(&self) -> std::ops::Range<u64> {
        self.first_chunk..self.first_chunk.saturating_add(self.chunks)
    }

    /// Ids of the chunks that have a vector.
    pub(crate) fn vector_ids(&self) -> impl Iterator<Item = u64> {
        self.chunk_ids().filter(|id| self.parents.binary_search(&(id - self.first_chunk)).is_err())
    }

    /// All attributes: its own, then what came with it.
    pub(crate) fn attributes(&self) -> Metadata {
        let mut all = self.own_metadata.clone();
        all.extend(self.metadata.clone());
        all
    }
}

/// A chunk as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChunkRecord {
    pub(crate) document: u64,
    pub(crate) index: u64,
    /// Id of the chunk that is returned in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<u64>,
    pub(crate) tokens: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) headings: Vec<String>,
    /// Page that it begins on, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) page: Option<u64>,
    /// What is searched and read: the document's bytes `start..end`, after the head of the table that they go on with.
    pub(crate) text: String,
}
