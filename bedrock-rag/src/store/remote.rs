//! A knowledge base whose vectors are searched by a store of another kind: a database server.
//!
//! The local store stays the truth: documents, chunks, their vectors, the state of synchronisation. What the server has is an index
//! made from it, as the graph is elsewhere. A transaction that changes documents notes, in itself, what the server has to be told;
//! the note is struck out when the server has been told. So whatever stops the process in between, the next opening or ingestion
//! tells it. A server that is new, or has missed transactions (the knowledge base was opened without it), is sent everything.

use std::collections::HashSet;
use std::sync::Arc;

use bedrock_core::{ScoredRecord, TextSearch, VectorRecord, VectorSearch, VectorStore};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{DocumentRecord, Store};
use crate::Error;
use crate::index::Neighbor;
use crate::retrieve::{Search, SearchMode, keys};

/// Records sent, and names deleted, in one call.
const SEND: usize = 256;
const DELETE: usize = 1000;

/// Most results of a store of vectors.
const MOST: usize = 1000;

/// How far the server has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Served {
    /// Revision of the store that it has.
    pub(crate) revision: u64,
    /// What it lacks of the next revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pending: Option<Pending>,
}

/// What the server has to be told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pending {
    /// Numbers of documents that are new or have changed.
    pub(crate) documents: Vec<u64>,
    /// Ids of chunks that are gone.
    pub(crate) removed: Vec<u64>,
}

/// What a search found there: ids of chunks, best first.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    pub(crate) by_meaning: Vec<Neighbor>,
    pub(crate) by_words: Vec<(u64, f32)>,
}

/// The store of vectors, and the names of this knowledge base's records there.
pub(crate) struct Remote {
    store: Arc<dyn VectorStore>,
    prefix: String,
}

fn failed(source: bedrock_core::Error) -> Error {
    Error::VectorStore { source }
}

impl Remote {
    /// # Errors
    /// [`Error::DimensionMismatch`] if its vectors are of another length.
    pub(crate) fn new(store: Arc<dyn VectorStore>, id: &str, dimensions: usize) -> Result<Self, Error> {
        match store.dimensions() {
            got if got != dimensions => Err(Error::DimensionMismatch { expected: dimensions, got }),
            _ => Ok(Self { store, prefix: format!("{id}-") }),
        }
    }

    pub(crate) fn check(&self, mode: SearchMode) -> Result<(), Error> {
        if mode != SearchMode::Vector && !self.store.searches_text() {
            return Err(Error::InvalidRequest(
                "the vector store of this knowledge base finds nothing by words, so there is no keyword or hybrid search"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// In the order of the ids.
    fn name(&self, chunk: u64) -> String {
        format!("{}{chunk:016x}", self.prefix)
    }

    fn chunk(&self, found: &ScoredRecord) -> Result<u64, Error> {
        let id = found.record.id.strip_prefix(&self.prefix).and_then(|id| u64::from_str_radix(id, 16).ok());
        id.ok_or_else(|| {
            failed(bedrock_core::Error::conflict(format!(
                "the vector store holds record {:?}, which is not this knowledge base's",
                found.record.id
            )))
        })
    }

    /// What fits a search: the `depth` nearest and, where words count, as many that have the words.
    pub(crate) async fn candidates(
        &self,
        search: &Search,
        mode: SearchMode,
        query: Option<&[f32]>,
        depth: usize,
    ) -> Result<Candidates, Error> {
        if let Some(filter) = &search.filter {
            crate::filter::validate(filter)?;
        }
        let k = depth.clamp(1, MOST);
        let mut found = Candidates::default();
        if let Some(query) = query {
            let request = VectorSearch { filter: search.filter.clone(), ..VectorSearch::new(query, k) };
            for record in self.store.search(&request).await.map_err(failed)? {
                found.by_meaning.push(Neighbor { id: self.chunk(&record)?, similarity: record.score });
            }
        }
        if mode != SearchMode::Vector {
            let request = TextSearch { filter: search.filter.clone(), ..TextSearch::new(&search.text, k) };
            for record in self.store.search_text(&request).await.map_err(failed)? {
                found.by_words.push((self.chunk(&record)?, record.score));
            }
        }
        Ok(found)
    }

    /// Brings the server to what the local store has.
    pub(crate) async fn catch_up(&self, store: &Store) -> Result<(), Error> {
        let revision = store.revision()?;
        match store.served()? {
            Some(Served { revision: served, pending: Some(pending) }) if served + 1 == revision => {
                self.send(store, &pending).await?;
            }
            Some(Served { revision: served, pending: None }) if served == revision => {
                // An empty server that should not be is another one, or was emptied.
                if self.store.count().await.map_err(failed)? > 0 || !store.has_vectors()? {
                    return Ok(());
                }
                self.send_all(store).await?;
            }
            _ => self.send_all(store).await?,
        }
        store.set_served(&Served { revision, pending: None })
    }

    async fn send_all(&self, store: &Store) -> Result<(), Error> {
        let documents = store.documents()?;
        if self.store.count().await.map_err(failed)? > 0 {
            // Ids are never used twice, so all that was ever given out and is no more can be named.
            let living: HashSet<u64> = documents.iter().flat_map(|(_, record)| record.vector_ids()).collect();
            let gone: Vec<u64> = (0..store.next_chunk()?).filter(|id| !living.contains(id)).collect();
            self.delete(&gone).await?;
        }
        let numbers = documents.into_iter().map(|(number, _)| number).collect();
        self.send(store, &Pending { documents: numbers, removed: Vec::new() }).await
    }

    async fn delete(&self, chunks: &[u64]) -> Result<(), Error> {
        for some in chunks.chunks(DELETE) {
            let names: Vec<String> = some.iter().map(|&chunk| self.name(chunk)).collect();
            self.store.delete(&names).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn send(&self, store: &Store, pending: &Pending) -> Result<(), Error> {
        self.delete(&pending.removed).await?;
        let mut records = Vec::new();
        for &number in &pending.documents {
            // Gone again, in the same transaction.
            let Some(document) = store.find_document(number)? else { continue };
            for id in document.vector_ids() {
                records.push(self.record(store, &document, id)?);
                if records.len() == SEND {
                    self.store.upsert(&records).await.map_err(failed)?;
                    records.clear();
                }
            }
        }
        if records.is_empty() {
            return Ok(());
        }
        self.store.upsert(&records).await.map_err(failed)
    }

    /// A chunk as the server keeps it: with the attributes of its document, and where it is from. NULs, which some servers take
    /// nowhere, become the replacement character; what is read stays in the local store.
    fn record(&self, store: &Store, document: &DocumentRecord, id: u64) -> Result<VectorRecord, Error> {
        let chunk = store.chunk(id)?;
        let mut metadata = Value::Object(document.attributes());
        without_nul(&mut metadata);
        let mut record = VectorRecord::new(self.name(id), store.vector(id)?, chunk.text.replace('\0', "\u{fffd}"));
        if let Value::Object(metadata) = metadata {
            record.metadata.extend(metadata);
        }
        let own = [
            (keys::SOURCE_URI, Some(Value::from(document.uri.replace('\0', "\u{fffd}")))),
            (keys::START, Some(Value::from(chunk.start))),
            (keys::END, Some(Value::from(chunk.end))),
            (keys::PAGE, chunk.page.map(Value::from)),
        ];
        for (key, value) in own {
            if let Some(value) = value {
                record.metadata.insert(key.to_owned(), value);
            }
        }
        Ok(record)
    }
}

fn without_nul(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('\0') => *text = text.replace('\0', "\u{fffd}"),
        Value::Array(values) => values.iter_mut().for_each(without_nul),
        Value::Object(fields) => {
            fields.retain(|key, _| !key.contains('\0'));
            fields.values_mut().for_each(without_nul);
        }
        _ => {}
    }
}
