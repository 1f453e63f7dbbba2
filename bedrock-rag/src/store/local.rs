//! The embedded store: one redb file, every change a transaction.
//!
//! Why redb and not SQLite: it is Rust all the way (no C compiler, no foreign memory), its pages carry checksums, and a
//! crash at any moment leaves the last committed state by construction (copy on write), without a journal to replay.
//!
//! What keeps a damaged file from doing harm: by default every page's checksum is verified when the file is opened
//! (redb then answers with an error where a plain open may panic); every value is under a [`Protection`], a checksum or a seal
//! over table, key and content; and every call into redb runs behind a guard that turns a panic into [`Error::Damaged`].
//!
//! One process writes, and any number may read meanwhile ([`StoreOptions::read_only`]); what they see of it is whole transactions.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bedrock_core::Sealer;
use redb::{
    ConcurrencyMode, Database, DatabaseError, ReadOnlyDatabase, ReadTransaction, ReadableDatabase, ReadableTable,
    TableDefinition, WriteTransaction,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::protection::Protection;
use super::{ChunkRecord, DocumentRecord, FORMAT_VERSION, Manifest, OLDEST_VERSION, Pending, Served};
use crate::Error;
use crate::document::panic_message;

const META: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("meta");
const DOCUMENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("documents");
const URIS: TableDefinition<'_, &str, u64> = TableDefinition::new("uris");
const CHUNKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("chunks");
const VECTORS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("vectors");

/// Keys of [`META`].
const MANIFEST: u64 = 0;
const COUNTERS: u64 = 1;
/// Of a sealed store alone: the manifest and the key of its names. [`MANIFEST`] then is a [`Head`].
const SECRETS: u64 = 2;
/// Of a store whose vectors are served from elsewhere alone: how far that has come.
const SERVED: u64 = 3;

/// Records sealed anew in one transaction.
const RESEAL_RECORDS: usize = 4096;

/// How the file is opened.
#[derive(Clone)]
pub(crate) struct StoreOptions {
    /// Encrypts what is written.
    pub(crate) sealer: Option<Arc<dyn Sealer>>,
    /// Whether the store is opened beside a process that writes.
    pub(crate) read_only: bool,
    /// Whether every page is verified first, which reads the whole file.
    pub(crate) verify: bool,
    /// Memory for pages, in bytes.
    pub(crate) cache_bytes: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { sealer: None, read_only: false, verify: true, cache_bytes: 64 << 20 }
    }
}

/// The numbers that the next document and chunk get. Numbers are never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Counters {
    next_document: u64,
    next_chunk: u64,
    /// Raised by each transaction that changes documents, for readers to notice.
    #[serde(default)]
    revision: u64,
}

/// What everybody may read of a store.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    format_version: u32,
    #[serde(default)]
    sealed: bool,
    tag: u64,
}

/// What of a sealed store is needed to read the rest.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Secrets {
    manifest: Manifest,
    names: [u8; 32],
}

enum Handle {
    Writer(Database),
    Reader(ReadOnlyDatabase),
}

pub(crate) struct Store {
    path: PathBuf,
    handle: Handle,
    protection: Protection,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Makes a new file.
    pub(crate) fn create(path: &Path, options: &StoreOptions, manifest: &Manifest) -> Result<Self, Error> {
        if path.exists() {
            return Err(Error::AlreadyExists { path: path.to_owned() });
        }
        let database = guarded(path, || builder(options).create(path).map_err(|error| opening(path, error)))?;
        let plain = Self { path: path.to_owned(), handle: Handle::Writer(database), protection: Protection::Checksums };
        let batch = plain.begin()?;
        let head =
            Head { format_version: manifest.format_version, sealed: options.sealer.is_some(), tag: manifest.tag };
        match options.sealer {
            Some(_) => batch.put_json(META, "meta", MANIFEST, &head)?,
            None => batch.put_json(META, "meta", MANIFEST, manifest)?,
        }
        batch.run(|transaction| {
            // Tables exist from the start, so that reading one that is missing means damage.
            transaction.open_table(DOCUMENTS)?;
            transaction.open_table(URIS)?;
            transaction.open_table(CHUNKS)?;
            transaction.open_table(VECTORS)?;
            Ok(())
        })?;
        let Some(sealer) = &options.sealer else {
            batch.put_json(META, "meta", COUNTERS, &Counters::default())?;
            batch.commit(false)?;
            return Ok(plain);
        };
        // One transaction all the same: a store is never without what it takes to read it.
        let transaction = batch.transaction;
        let protection = Protection::sealed(sealer.clone(), manifest.tag, path)?;
        let secrets = Secrets { manifest: manifest.clone(), names: protection.names() };
        let store = Self { protection, ..plain };
        let batch = Batch { store: &store, transaction, change: Change::default(), documents: 0 };
        batch.put_json(META, "meta", SECRETS, &secrets)?;
        batch.put_json(META, "meta", COUNTERS, &Counters::default())?;
        batch.commit(false)?;
        Ok(store)
    }

    /// Opens a file and reads what it says it is. A store of an older format is brought up to this one, unless it is opened
    /// for reading alone.
    pub(crate) fn open(path: &Path, options: &StoreOptions) -> Result<(Self, Manifest), Error> {
        if !path.exists() {
            return Err(Error::NotFound { path: path.parent().unwrap_or(path).to_owned() });
        }
        // redb takes an empty file for a new one.
        if std::fs::metadata(path).map_err(|source| Error::read(path, source))?.len() == 0 {
            return Err(Error::damaged(path, "it is empty"));
        }
        let handle = guarded(path, || {
            let opened = match options.read_only {
                true => builder(options).open_read_only(path).map(Handle::Reader),
                false => builder(options).open(path).map(Handle::Writer),
            };
            opened.map_err(|error| opening(path, error))
        })?;
        let mut store = Self { path: path.to_owned(), handle, protection: Protection::Checksums };
        let bytes = store.get(META, "meta", MANIFEST)?;
        let bytes = bytes.ok_or_else(|| Error::damaged(path, "it has no manifest"))?;
        let head: Head = store.parse("meta", MANIFEST, &bytes)?;
        let found = head.format_version;
        if !(OLDEST_VERSION..=FORMAT_VERSION).contains(&found) {
            return Err(Error::UnknownVersion { path: path.to_owned(), found, supported: FORMAT_VERSION });
        }
        let manifest = match (head.sealed, &options.sealer) {
            (false, None) => store.parse("meta", MANIFEST, &bytes)?,
            (true, Some(sealer)) => {
                store.protection = Protection::sealed(sealer.clone(), head.tag, path)?;
                let bytes = store.get(META, "meta", SECRETS)?;
                let bytes = bytes.ok_or_else(|| Error::damaged(path, "what it takes to open it is missing"))?;
                let Secrets { manifest, names } = store.parse("meta", SECRETS, &bytes)?;
                store.protection.set_names(names);
                manifest
            }
            (sealed, _) => return Err(Error::SealMismatch { path: path.to_owned(), sealed }),
        };
        let manifest = if found < FORMAT_VERSION && !options.read_only { store.migrate(manifest)? } else { manifest };
        Ok((store, manifest))
    }

    /// From format 1, which had no seals and counted no revisions: both are absent there as they are in a new store without them.
    fn migrate(&self, manifest: Manifest) -> Result<Manifest, Error> {
        let manifest = Manifest { format_version: FORMAT_VERSION, ..manifest };
        let batch = self.begin()?;
        batch.put_json(META, "meta", MANIFEST, &manifest)?;
        batch.commit(false)?;
        Ok(manifest)
    }

    /// Seals everything anew with the key that is current; returns how many records. In several transactions: if it is stopped
    /// half way, some records need the older key still, and sealing anew again goes through all of them.
    pub(crate) fn reseal(&self) -> Result<u64, Error> {
        let mut resealed = 0;
        for (table, name) in [(META, "meta"), (DOCUMENTS, "documents"), (CHUNKS, "chunks"), (VECTORS, "vectors")] {
            let mut next = Some(0);
            while let Some(from) = next {
                let batch = self.begin()?;
                let rows = batch.run(|transaction| {
                    let mut rows: Vec<(u64, Vec<u8>)> = Vec::new();
                    for row in transaction.open_table(table)?.range(from..)?.take(RESEAL_RECORDS) {
                        let (key, value) = row?;
                        rows.push((key.value(), value.value().to_vec()));
                    }
                    Ok(rows)
                })?;
                next = rows.last().filter(|_| rows.len() == RESEAL_RECORDS).map(|(key, _)| key + 1);
                for (key, value) in rows {
                    // The head is there to be read without a key.
                    if name == "meta" && key == MANIFEST {
                        continue;
                    }
                    let value = self.protection.renew(&self.path, name, key, &value)?;
                    batch.run(|transaction| {
                        transaction.open_table(table)?.insert(key, value.as_slice())?;
                        Ok(())
                    })?;
                    resealed += 1;
                }
                batch.commit(false)?;
            }
        }
        Ok(resealed)
    }

    /// Rises with every transaction that changes documents, by whatever process.
    pub(crate) fn revision(&self) -> Result<u64, Error> {
        Ok(self.counters()?.revision)
    }

    pub(crate) fn is_read_only(&self) -> bool {
        matches!(self.handle, Handle::Reader(_))
    }

    pub(crate) fn protection(&self) -> &Protection {
        &self.protection
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The document of a URI.
    pub(crate) fn document_by_uri(&self, uri: &str) -> Result<Option<(u64, DocumentRecord)>, Error> {
        let name = self.protection.name(uri);
        let number =
            self.read(|transaction| Ok(transaction.open_table(URIS)?.get(&*name)?.map(|value| value.value())))?;
        let Some(number) = number else { return Ok(None) };
        let document = self.document(number)?;
        if document.uri != uri {
            return Err(Error::damaged(&self.path, format!("document {number} is found under an address not its own")));
        }
        Ok(Some((number, document)))
    }

    /// A document, if it is there.
    pub(crate) fn find_document(&self, number: u64) -> Result<Option<DocumentRecord>, Error> {
        let bytes = self.get(DOCUMENTS, "documents", number)?;
        bytes.map(|bytes| self.parse("documents", number, &bytes)).transpose()
    }

    /// How far the server has come that searches the vectors, if there ever was one.
    pub(crate) fn served(&self) -> Result<Option<Served>, Error> {
        let bytes = self.get(META, "meta", SERVED)?;
        bytes.map(|bytes| self.parse("meta", SERVED, &bytes)).transpose()
    }

    pub(crate) fn set_served(&self, served: &Served) -> Result<(), Error> {
        let batch = self.begin()?;
        batch.put_json(META, "meta", SERVED, served)?;
        batch.commit(false)?;
        Ok(())
    }

    /// The number that the next chunk gets.
    pub(crate) fn next_chunk(&self) -> Result<u64, Error> {
        Ok(self.counters()?.next_chunk)
    }

    pub(crate) fn has_vectors(&self) -> Result<bool, Error> {
        use redb::ReadableTableMetadata;
        self.read(|transaction| Ok(transaction.open_table(VECTORS)?.len()? > 0))
    }

    pub(crate) fn has_chunk(&self, id: u64) -> Result<bool, Error> {
        self.read(|transaction| Ok(transaction.open_table(CHUNKS)?.get(id)?.is_some()))
    }

    /// A document that must be there.
    pub(crate) fn document(&self, number: u64) -> Result<DocumentRecord, Error> {
        let bytes = self.get(DOCUMENTS, "documents", number)?;
        let bytes = bytes.ok_or_else(|| Error::damaged(&self.path, format!("document {number} is missing")))?;
        self.parse("documents", number, &bytes)
    }

    /// Every document, in the order of their numbers.
    pub(crate) fn documents(&self) -> Result<Vec<(u64, DocumentRecord)>, Error> {
        let rows = self.read(|transaction| {
            let mut rows = Vec::new();
            for row in transaction.open_table(DOCUMENTS)?.iter()? {
                let (number, value) = row?;
                rows.push((number.value(), value.value().to_vec()));
            }
            Ok(rows)
        })?;
        rows.into_iter()
            .map(|(number, sealed)| {
                let bytes = self.opened("documents", number, &sealed)?;
                Ok((number, self.parse("documents", number, &bytes)?))
            })
            .collect()
    }

    /// A chunk that must be there.
    pub(crate) fn chunk(&self, id: u64) -> Result<ChunkRecord, Error> {
        let bytes = self.get(CHUNKS, "chunks", id)?;
        let bytes = bytes.ok_or_else(|| Error::damaged(&self.path, format!("chunk {id} is missing")))?;
        self.parse("chunks", id, &bytes)
    }

    /// A vector that must be there.
    pub(crate) fn vector(&self, id: u64) -> Result<Vec<f32>, Error> {
        let bytes = self.get(VECTORS, "vectors", id)?;
        let bytes = bytes.ok_or_else(|| Error::damaged(&self.path, format!("vector {id} is missing")))?;
        let (values, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(Error::damaged(&self.path, format!("vector {id} is cut short")));
        }
        Ok(values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
    }

    /// Reads everything there is and checks that it belongs together: that each document has all of its chunks and
    /// vectors, and that nothing is left of documents that are gone.
    pub(crate) fn check(&self, dimensions: usize) -> Result<(), Error> {
        let damaged = |reason: String| Error::damaged(&self.path, reason);
        let documents = self.documents()?;
        let counters: Counters = self.counters()?;
        let (mut chunks, mut vectors) = (0, 0);
        for (number, document) in &documents {
            if *number >= counters.next_document || document.chunk_ids().end > counters.next_chunk {
                return Err(damaged(format!("document {number} has numbers that were never given out")));
            }
            if self.document_by_uri(&document.uri)?.map(|(found, _)| found) != Some(*number) {
                return Err(damaged(format!("document {number} is not found under its address")));
            }
            for id in document.chunk_ids() {
                let chunk = self.chunk(id)?;
                if chunk.document != *number {
                    return Err(damaged(format!("chunk {id} belongs to document {}, not {number}", chunk.document)));
                }
                chunks += 1;
            }
            for id in document.vector_ids() {
                let got = self.vector(id)?.len();
                if got != dimensions {
                    return Err(damaged(format!("vector {id} has {got} values, not {dimensions}")));
                }
                vectors += 1;
            }
        }
        let rows = self.read(|transaction| {
            use redb::ReadableTableMetadata;
            Ok([
                transaction.open_table(URIS)?.len()?,
                transaction.open_table(CHUNKS)?.len()?,
                transaction.open_table(VECTORS)?.len()?,
            ])
        })?;
        if rows != [documents.len() as u64, chunks, vectors] {
            return Err(damaged("something of deleted documents is left".to_owned()));
        }
        Ok(())
    }

    fn counters(&self) -> Result<Counters, Error> {
        let bytes = self.get(META, "meta", COUNTERS)?;
        let bytes = bytes.ok_or_else(|| Error::damaged(&self.path, "it has no counters"))?;
        self.parse("meta", COUNTERS, &bytes)
    }

    /// Begins a transaction; nothing of it is seen, or survives, until it is committed.
    pub(crate) fn begin(&self) -> Result<Batch<'_>, Error> {
        let Handle::Writer(database) = &self.handle else {
            return Err(Error::ReadOnly { path: self.path.clone() });
        };
        let transaction = guarded(&self.path, || {
            database.begin_write().map_err(|error| stored(&self.path, redb::Error::from(error)))
        })?;
        Ok(Batch { store: self, transaction, change: Change::default(), documents: 0 })
    }

    fn read<T>(&self, read: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, Error> {
        guarded(&self.path, || {
            let transaction = match &self.handle {
                Handle::Writer(database) => database.begin_read(),
                Handle::Reader(database) => database.begin_read(),
            }
            .map_err(redb::Error::from);
            transaction.and_then(|transaction| read(&transaction)).map_err(|error| stored(&self.path, error))
        })
    }

    fn get(
        &self,
        table: TableDefinition<'_, u64, &'static [u8]>,
        name: &str,
        key: u64,
    ) -> Result<Option<Vec<u8>>, Error> {
        let sealed = self.read(|transaction| {
            let table = transaction.open_table(table)?;
            let value = table.get(key)?;
            Ok(value.map(|value| value.value().to_vec()))
        })?;
        sealed.map(|sealed| self.opened(name, key, &sealed)).transpose()
    }

    fn opened(&self, table: &str, key: u64, kept: &[u8]) -> Result<Vec<u8>, Error> {
        self.protection.open(&self.path, table, key, kept)
    }

    fn parse<T: DeserializeOwned>(&self, table: &str, key: u64, bytes: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(bytes)
            .map_err(|error| Error::damaged(&self.path, format!("{table} {key} can't be read: {error}")))
    }
}

/// A transaction under way, and what it will change for the indexes.
pub(crate) struct Batch<'s> {
    store: &'s Store,
    transaction: WriteTransaction,
    change: Change,
    documents: usize,
}

/// A document that a transaction has put in.
#[derive(Debug)]
pub(crate) struct Inserted {
    pub(crate) number: u64,
    pub(crate) document: DocumentRecord,
    /// Texts and vectors of the chunks that are searched, with their ids.
    pub(crate) searched: Vec<(u64, String, Vec<f32>)>,
}

/// What a committed transaction changed.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) inserted: Vec<Inserted>,
    /// Ids of chunks that are gone.
    pub(crate) removed: HashSet<u64>,
    /// Numbers of documents that are gone.
    pub(crate) removed_documents: HashSet<u64>,
    /// Documents whose record has changed.
    pub(crate) updated: Vec<(u64, DocumentRecord)>,
}

impl Batch<'_> {
    /// Chunks waiting to be committed.
    pub(crate) fn pending_chunks(&self) -> usize {
        self.change.inserted.iter().map(|inserted| inserted.searched.len()).sum()
    }

    /// Documents put in, changed or removed since the transaction began.
    pub(crate) fn pending_documents(&self) -> usize {
        self.documents
    }

    fn run<T>(&self, write: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>) -> Result<T, Error> {
        let path = &self.store.path;
        guarded(path, || write(&self.transaction).map_err(|error| stored(path, error)))
    }

    fn put(
        &self,
        table: TableDefinition<'_, u64, &'static [u8]>,
        name: &str,
        key: u64,
        content: &[u8],
    ) -> Result<(), Error> {
        let kept = self.store.protection.seal(&self.store.path, name, key, content)?;
        self.run(|transaction| {
            transaction.open_table(table)?.insert(key, kept.as_slice())?;
            Ok(())
        })
    }

    fn put_json(
        &self,
        table: TableDefinition<'_, u64, &'static [u8]>,
        name: &str,
        key: u64,
        value: &impl Serialize,
    ) -> Result<(), Error> {
        let bytes = serde_json::to_vec(value)
            .map_err(|error| Error::Store { path: self.store.path.clone(), source: Box::new(error) })?;
        self.put(table, name, key, &bytes)
    }

    fn counters(&self) -> Result<Counters, Error> {
        let sealed = self.run(|transaction| {
            let table = transaction.open_table(META)?;
            let value = table.get(COUNTERS)?;
            Ok(value.map(|value| value.value().to_vec()))
        })?;
        let sealed = sealed.ok_or_else(|| Error::damaged(&self.store.path, "it has no counters"))?;
        self.store.parse("meta", COUNTERS, &self.store.opened("meta", COUNTERS, &sealed)?)
    }

    /// Puts a document in, in place of the one of its address if there is one. Each chunk is its record (whose
    /// `document`, and whose `parent` as a position, are made right here) and its vector unless it is a parent.
    pub(crate) fn put_document(
        &mut self,
        mut document: DocumentRecord,
        chunks: Vec<(ChunkRecord, Option<Vec<f32>>)>,
    ) -> Result<(), Error> {
        self.remove_document(&document.uri)?;
        let mut counters = self.counters()?;
        let number = counters.next_document;
        document.first_chunk = counters.next_chunk;
        document.chunks = chunks.len() as u64;
        document.parents =
            chunks.iter().zip(0..).filter(|((_, vector), _)| vector.is_none()).map(|(_, position)| position).collect();
        counters.next_document += 1;
        counters.next_chunk += document.chunks;
        let mut searched = Vec::new();
        for (id, (mut chunk, vector)) in document.chunk_ids().zip(chunks) {
            chunk.document = number;
            chunk.parent = chunk.parent.map(|position| document.first_chunk + position);
            self.put_json(CHUNKS, "chunks", id, &chunk)?;
            if let Some(vector) = vector {
                let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
                self.put(VECTORS, "vectors", id, &bytes)?;
                searched.push((id, chunk.text, vector));
            }
        }
        self.put_json(DOCUMENTS, "documents", number, &document)?;
        self.put_json(META, "meta", COUNTERS, &counters)?;
        self.run(|transaction| {
            transaction.open_table(URIS)?.insert(&*self.store.protection.name(&document.uri), number)?;
            Ok(())
        })?;
        self.change.inserted.push(Inserted { number, document, searched });
        self.documents += 1;
        Ok(())
    }

    /// Replaces a document's record; its chunks stay.
    pub(crate) fn update_record(&mut self, number: u64, document: DocumentRecord) -> Result<(), Error> {
        self.put_json(DOCUMENTS, "documents", number, &document)?;
        self.documents += 1;
        self.change.updated.push((number, document));
        Ok(())
    }

    /// Removes a document with everything of it; whether there was one.
    pub(crate) fn remove_document(&mut self, uri: &str) -> Result<bool, Error> {
        let number = self.run(|transaction| {
            let mut uris = transaction.open_table(URIS)?;
            let number = uris.remove(&*self.store.protection.name(uri))?.map(|value| value.value());
            Ok(number)
        })?;
        let Some(number) = number else { return Ok(false) };
        let sealed = self.run(|transaction| {
            let mut documents = transaction.open_table(DOCUMENTS)?;
            let sealed = documents.remove(number)?.map(|value| value.value().to_vec());
            Ok(sealed)
        })?;
        let sealed = sealed.ok_or_else(|| Error::damaged(&self.store.path, format!("document {number} is missing")))?;
        let bytes = self.store.opened("documents", number, &sealed)?;
        let document: DocumentRecord = self.store.parse("documents", number, &bytes)?;
        self.run(|transaction| {
            let mut chunks = transaction.open_table(CHUNKS)?;
            let mut vectors = transaction.open_table(VECTORS)?;
            for id in document.chunk_ids() {
                chunks.remove(id)?;
                vectors.remove(id)?;
            }
            Ok(())
        })?;
        // A document may have been put in by this very transaction.
        self.change.inserted.retain(|inserted| inserted.number != number);
        self.change.removed.extend(document.chunk_ids());
        self.change.removed_documents.insert(number);
        self.documents += 1;
        Ok(true)
    }

    /// Makes it last, and visible. If the vectors are `served` from elsewhere, what that has to be told is noted.
    pub(crate) fn commit(self, served: bool) -> Result<Change, Error> {
        let path = &self.store.path;
        if self.documents > 0 {
            let counters = self.counters()?;
            self.put_json(META, "meta", COUNTERS, &Counters { revision: counters.revision + 1, ..counters })?;
            if served {
                let change = &self.change;
                let updated = change.updated.iter().map(|(number, _)| *number);
                let documents = change.inserted.iter().map(|inserted| inserted.number).chain(updated).collect();
                let pending = Pending { documents, removed: change.removed.iter().copied().collect() };
                let served = Served { revision: counters.revision, pending: Some(pending) };
                self.put_json(META, "meta", SERVED, &served)?;
            }
        }
        guarded(path, || self.transaction.commit().map_err(|error| stored(path, redb::Error::from(error))))?;
        Ok(self.change)
    }
}

fn builder(options: &StoreOptions) -> redb::Builder {
    let mut builder = Database::builder();
    builder
        .set_cache_size(options.cache_bytes)
        .set_concurrency_mode(ConcurrencyMode::SingleWriter)
        .set_check_integrity_on_open(options.verify);
    builder
}

/// Runs a call into redb; should it panic on what it finds in the file, that is damage.
fn guarded<T>(path: &Path, call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|panic| Err(Error::damaged(path, format!("reading it failed: {}", panic_message(&*panic)))))
}

fn opening(path: &Path, error: DatabaseError) -> Error {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            Error::Locked { path: path.to_owned() }
        }
        other => stored(path, redb::Error::from(other)),
    }
}

fn stored(path: &Path, error: redb::Error) -> Error {
    match error {
        redb::Error::Corrupted(reason) => Error::damaged(path, reason),
        redb::Error::TableDoesNotExist(name) => Error::damaged(path, format!("table {name} is missing")),
        redb::Error::TableTypeMismatch { .. } | redb::Error::TypeDefinitionChanged { .. } => {
            Error::damaged(path, error.to_string())
        }
        redb::Error::Io(source)
            if matches!(source.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof) =>
        {
            Error::damaged(path, source.to_string())
        }
        redb::Error::UpgradeRequired(found) => {
            Error::damaged(path, format!("it has file format {found}, which this version can't read"))
        }
        other => Error::Store { path: path.to_owned(), source: Box::new(other) },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::EmbedderRecord;
    use super::*;
    use crate::chunk::Chunking;

    fn manifest() -> Manifest {
        Manifest {
            format_version: FORMAT_VERSION,
            id: "ABCDEFGHIJ".to_owned(),
            tag: 7,
            embedder: EmbedderRecord { model_id: "m".into(), identity: "i".into(), dimensions: 2 },
            chunking: Chunking::Default,
            chunker: None,
        }
    }

    fn document(uri: &str) -> DocumentRecord {
        DocumentRecord {
            uri: uri.to_owned(),
            title: None,
            format: None,
            content_hash: String::new(),
            metadata_hash: String::new(),
            version: None,
            bytes: 1,
            own_metadata: Default::default(),
            metadata: Default::default(),
            first_chunk: 0,
            chunks: 0,
            parents: Vec::new(),
        }
    }

    fn chunk(index: u64, parent: Option<u64>, vector: Option<Vec<f32>>) -> (ChunkRecord, Option<Vec<f32>>) {
        let text = format!("text of chunk {index}");
        (
            ChunkRecord {
                document: 0,
                index,
                parent,
                tokens: 4,
                start: 0,
                end: 15,
                headings: vec![],
                page: None,
                text,
            },
            vector,
        )
    }

    fn filled(path: &Path, documents: usize) -> Store {
        let store = Store::create(path, &StoreOptions::default(), &manifest()).unwrap();
        let mut batch = store.begin().unwrap();
        for number in 0..documents {
            let chunks = vec![chunk(0, None, None), chunk(1, Some(0), Some(vec![1.0, number as f32]))];
            batch.put_document(document(&format!("doc{number}")), chunks).unwrap();
        }
        batch.commit(false).unwrap();
        store
    }

    #[test]
    fn documents_come_back_change_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = filled(&path, 3);
        store.check(2).unwrap();
        let (number, record) = store.document_by_uri("doc1").unwrap().unwrap();
        assert_eq!((record.first_chunk, record.chunks, record.parents.as_slice()), (2, 2, [0].as_slice()));
        assert_eq!(record.vector_ids().collect::<Vec<_>>(), [3]);
        assert_eq!(store.chunk(3).unwrap().parent, Some(2));
        assert_eq!(store.vector(3).unwrap(), [1.0, 1.0]);

        let mut batch = store.begin().unwrap();
        batch.put_document(document("doc1"), vec![chunk(0, None, Some(vec![5.0, 5.0]))]).unwrap();
        assert!(batch.remove_document("doc0").unwrap());
        assert!(!batch.remove_document("doc0").unwrap());
        let change = batch.commit(false).unwrap();
        assert_eq!(change.removed, HashSet::from([0, 1, 2, 3]));
        assert_eq!(change.inserted[0].searched[0].0, 6);
        assert_ne!(store.document_by_uri("doc1").unwrap().unwrap().0, number, "numbers are not used twice");
        store.check(2).unwrap();

        let batch = {
            let mut batch = store.begin().unwrap();
            batch.put_document(document("never"), vec![]).unwrap();
            batch
        };
        drop(batch);
        assert!(store.document_by_uri("never").unwrap().is_none(), "what is not committed does not exist");
        drop(store);
        let (store, found) = Store::open(&path, &StoreOptions::default()).unwrap();
        assert_eq!(found, manifest());
        store.check(2).unwrap();
        assert_eq!(store.documents().unwrap().len(), 2);
    }

    #[test]
    fn a_second_opening_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = filled(&path, 1);
        assert!(matches!(Store::open(&path, &StoreOptions::default()), Err(Error::Locked { .. })));
        drop(store);
        assert!(Store::open(&path, &StoreOptions::default()).is_ok());
        assert!(matches!(
            Store::create(&path, &StoreOptions::default(), &manifest()),
            Err(Error::AlreadyExists { .. })
        ));
        assert!(matches!(
            Store::open(&folder.path().join("none"), &StoreOptions::default()),
            Err(Error::NotFound { .. })
        ));
    }

    #[test]
    fn another_format_version_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let newer = Manifest { format_version: 99, ..manifest() };
        drop(Store::create(&path, &StoreOptions::default(), &newer).unwrap());
        let error = Store::open(&path, &StoreOptions::default()).unwrap_err();
        assert!(matches!(error, Error::UnknownVersion { found: 99, .. }), "{error}");
    }

    fn sealed() -> StoreOptions {
        StoreOptions { sealer: Some(Arc::new(bedrock_core::testing::ChecksumSealer)), ..StoreOptions::default() }
    }

    #[test]
    fn sealed_stores_hide_addresses_and_refuse_the_wrong_opening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = Store::create(&path, &sealed(), &manifest()).unwrap();
        let mut batch = store.begin().unwrap();
        for uri in ["plain-sight.md", "other.md"] {
            batch.put_document(document(uri), vec![chunk(0, None, Some(vec![1.0, 2.0]))]).unwrap();
        }
        batch.commit(false).unwrap();
        store.check(2).unwrap();
        assert!(store.document_by_uri("plain-sight.md").unwrap().is_some());
        assert!(store.document_by_uri("none.md").unwrap().is_none());
        assert_eq!(store.reseal().unwrap(), 2 + 2 + 2 + 2, "secrets and counters, documents, chunks, vectors");
        let mut batch = store.begin().unwrap();
        assert!(batch.remove_document("other.md").unwrap());
        batch.commit(false).unwrap();
        store.check(2).unwrap();
        drop(store);
        let plain = StoreOptions::default();
        assert!(matches!(Store::open(&path, &plain), Err(Error::SealMismatch { sealed: true, .. })));
        let (store, found) = Store::open(&path, &sealed()).unwrap();
        assert_eq!(found, manifest());
        assert_eq!(store.documents().unwrap().len(), 1);
        drop(store);
        let bytes = std::fs::read(&path).unwrap();
        for word in [&b"plain-sight"[..], b"text of chunk", b"other.md"] {
            assert!(!bytes.windows(word.len()).any(|window| window == word));
        }
        let unsealed = folder.path().join("unsealed");
        drop(filled(&unsealed, 1));
        assert!(matches!(Store::open(&unsealed, &sealed()), Err(Error::SealMismatch { sealed: false, .. })));
    }

    #[test]
    fn readers_see_what_is_committed_beside_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = filled(&path, 2);
        let reading = StoreOptions { read_only: true, ..StoreOptions::default() };
        let readers = [Store::open(&path, &reading).unwrap().0, Store::open(&path, &reading).unwrap().0];
        let before = readers[0].revision().unwrap();
        let mut batch = store.begin().unwrap();
        batch.put_document(document("new"), vec![]).unwrap();
        assert!(readers[0].document_by_uri("new").unwrap().is_none(), "nothing is seen before it is committed");
        batch.commit(false).unwrap();
        for reader in &readers {
            assert_eq!(reader.documents().unwrap().len(), 3);
            assert!(reader.document_by_uri("new").unwrap().is_some());
            assert_eq!(reader.revision().unwrap(), before + 1);
            assert!(matches!(reader.begin(), Err(Error::ReadOnly { .. })));
        }
        assert!(matches!(Store::open(&path, &StoreOptions::default()), Err(Error::Locked { .. })), "one writer");
    }

    /// A store as format 1 wrote it, which knew no revisions and no seals.
    #[test]
    fn older_formats_are_brought_up_to_date() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let old = Manifest { format_version: 1, ..manifest() };
        let store = Store::create(&path, &StoreOptions::default(), &old).unwrap();
        let mut batch = store.begin().unwrap();
        batch.put_document(document("kept"), vec![chunk(0, None, Some(vec![1.0, 2.0]))]).unwrap();
        batch.put_json(META, "meta", COUNTERS, &serde_json::json!({"nextDocument": 1, "nextChunk": 1})).unwrap();
        batch.documents = 0;
        batch.commit(false).unwrap();
        drop(store);
        let reading = StoreOptions { read_only: true, ..StoreOptions::default() };
        let (reader, found) = Store::open(&path, &reading).unwrap();
        assert_eq!(found.format_version, 1, "who only reads changes nothing");
        assert!(reader.document_by_uri("kept").unwrap().is_some());
        drop(reader);
        for _ in 0..2 {
            let (store, found) = Store::open(&path, &StoreOptions::default()).unwrap();
            assert_eq!(found, manifest());
            store.check(2).unwrap();
            assert_eq!(store.document_by_uri("kept").unwrap().unwrap().1.chunks, 1);
        }
        let mut batch = Store::open(&path, &StoreOptions::default()).unwrap().0;
        batch = {
            let mut change = batch.begin().unwrap();
            change.put_document(document("new"), vec![]).unwrap();
            change.commit(false).unwrap();
            batch
        };
        assert_eq!(batch.revision().unwrap(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// A byte of the file is changed, or its end cut off: either that is noticed and named, or it does not matter
        /// (unused space) and everything is there. With and without verification; never a panic out of the store.
        #[test]
        fn damage_is_noticed_or_harmless(at: prop::sample::Index, value in 1u8.., cut: bool, verify: bool) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("store");
            let whole = {
                drop(filled(&path, 20));
                std::fs::read(&path).unwrap()
            };
            let at = at.index(whole.len());
            let mut damaged = whole;
            if cut {
                damaged.truncate(at);
            } else {
                damaged[at] ^= value;
            }
            std::fs::write(&path, &damaged).unwrap();
            let options = StoreOptions { verify, ..StoreOptions::default() };
            let outcome = Store::open(&path, &options).and_then(|(store, _)| {
                store.check(2)?;
                Ok(store.documents()?.len())
            });
            match outcome {
                Ok(documents) => prop_assert!(documents == 20, "silent loss: {documents} of 20 documents"),
                Err(error) => prop_assert!(error.to_string().contains("store"), "{error}"),
            }
        }
    }
}
