//! Bringing documents into a knowledge base, and keeping it in step with where they come from.
//!
//! A document is known by its address and recognised by a hash of its content and of its metadata: what has not changed
//! is passed over without being parsed, what has is replaced as a whole. Documents are committed in batches; whatever
//! stops an ingestion half way (a kill, a full disk, an error of the model) leaves what was committed, and the
//! next one goes on from there.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bedrock_core::EmbedPurpose;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::blocking::wait;
use crate::chunk::ModelTokens;
use crate::document::Document;
use crate::document::{ExtractOptions, Folder, MAX_SIDECAR_BYTES, Metadata, extract, parse_sidecar, read_bounded};
use crate::knowledge_base::KnowledgeBase;
use crate::store::{Batch, Change, ChunkRecord, DocumentRecord};

/// Chunks collected before they are embedded together.
const EMBED_WINDOW: usize = 256;

/// What is committed together: at most about this many chunks or documents.
const COMMIT_CHUNKS: usize = 1024;
const COMMIT_DOCUMENTS: usize = 256;

/// Failures kept in a report; more are only counted.
const MAX_FAILURES: usize = 1000;

/// A document to bring in.
#[derive(Clone, Debug)]
pub struct Source {
    /// What the document is called where it comes from: its identity, and the place that citations name.
    pub uri: String,
    /// Where its content is.
    pub content: Content,
    /// Attributes that come with it.
    pub metadata: Metadata,
    /// A metadata sidecar to read more attributes from.
    pub sidecar: Option<PathBuf>,
    /// What the source tells this state of the content by, such as an entity tag. If it is what it was, the content is not read
    /// again; if not, or if there is none, the content itself decides whether it has changed.
    pub version: Option<String>,
}

/// The content of a [`Source`].
#[derive(Clone, Debug)]
pub enum Content {
    /// A file, read when its turn comes.
    File(PathBuf),
    /// The bytes of a file.
    Bytes(Vec<u8>),
    /// Text that is text already, whatever its address looks like.
    Text(String),
    /// The bytes of a file, read when its turn comes ([`Content::reader`]).
    Reader(ContentReader),
}

impl Content {
    /// Content that is read when its turn comes, by a function that is given the most bytes it may return; what has more is
    /// [`Error::DocumentTooLarge`]. It is called again should the content be needed again.
    pub fn reader(read: impl Fn(u64) -> Result<Vec<u8>, Error> + Send + Sync + 'static) -> Self {
        Self::Reader(ContentReader(Arc::new(read)))
    }
}

/// Reads content.
#[derive(Clone)]
pub struct ContentReader(ReadContent);

type ReadContent = Arc<dyn Fn(u64) -> Result<Vec<u8>, Error> + Send + Sync>;

impl fmt::Debug for ContentReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentReader").finish_non_exhaustive()
    }
}

impl Source {
    /// Text in memory.
    pub fn text(uri: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(uri, Content::Text(text.into()))
    }

    /// The bytes of a file; `uri` should end in the file's name, for its suffix.
    pub fn bytes(uri: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(uri, Content::Bytes(bytes.into()))
    }

    /// A file.
    pub fn file(uri: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self::new(uri, Content::File(path.into()))
    }

    /// Any content.
    pub fn new(uri: impl Into<String>, content: Content) -> Self {
        Self { uri: uri.into(), content, metadata: Metadata::new(), sidecar: None, version: None }
    }

    /// Adds an attribute.
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }
}

/// Numbers of an ingestion, under the service's names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IngestionStatistics {
    /// Documents looked at.
    pub number_of_documents_scanned: u64,
    /// Documents that were not there before.
    pub number_of_new_documents_indexed: u64,
    /// Documents that were there and had changed.
    pub number_of_modified_documents_indexed: u64,
    /// Documents removed because the source no longer has them.
    pub number_of_documents_deleted: u64,
    /// Documents passed over because nothing had changed.
    pub number_of_documents_skipped: u64,
    /// Documents that could not be read; what was there of them before stays.
    pub number_of_documents_failed: u64,
    /// Metadata sidecars looked at.
    pub number_of_metadata_documents_scanned: u64,
    /// Documents whose attributes alone had changed.
    pub number_of_metadata_documents_modified: u64,
}

/// How an ingestion ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum IngestionStatus {
    /// Every document was looked at.
    #[default]
    Complete,
    /// It was cancelled; what was done until then is kept.
    Stopped,
}

/// What an ingestion did.
#[derive(Debug, Default)]
pub struct IngestionReport {
    /// How it ended.
    pub status: IngestionStatus,
    /// What was counted.
    pub statistics: IngestionStatistics,
    /// Addresses of documents that failed, and why (the first 1,000).
    pub failures: Vec<(String, Error)>,
}

/// Stops an ingestion from outside: give a clone to [`IngestOptions::cancel`].
#[derive(Clone, Debug, Default)]
pub struct Cancellation(Arc<AtomicBool>);

impl Cancellation {
    /// Asks the ingestion to stop; it does after the document at hand.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Is told how far an ingestion has come.
pub type Progress = Arc<dyn Fn(&IngestionStatistics) + Send + Sync>;

/// Settings of one ingestion.
#[derive(Clone, Default)]
pub struct IngestOptions {
    /// Whether documents that the source does not have are removed: the source is then all there is. Default false.
    pub delete_missing: bool,
    /// Limits of reading a document.
    pub extract: ExtractOptions,
    /// Called after each document, and at the end.
    pub progress: Option<Progress>,
    /// Stops the ingestion when cancelled.
    pub cancel: Cancellation,
}

impl fmt::Debug for IngestOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IngestOptions")
            .field("delete_missing", &self.delete_missing)
            .field("extract", &self.extract)
            .field("cancel", &self.cancel)
            .finish_non_exhaustive()
    }
}

/// A document that is cut and waits to be embedded.
struct Prepared {
    record: DocumentRecord,
    /// Chunks, and whether each is searched.
    chunks: Vec<(ChunkRecord, bool)>,
    modified: bool,
}

/// What becomes of one source.
enum Outcome {
    Unchanged,
    MetadataChanged(u64, Box<DocumentRecord>),
    Index(Box<Prepared>),
}

impl KnowledgeBase {
    /// Brings the files of a folder in, by the rules of [`Folder`]; their addresses are their paths below it.
    ///
    /// # Errors
    /// [`Error::Read`] and [`Error::FolderTooLarge`] from the walk, and those of [`KnowledgeBase::ingest`].
    pub async fn ingest_folder(
        &self,
        folder: impl AsRef<Path>,
        options: &IngestOptions,
    ) -> Result<IngestionReport, Error> {
        let files = Folder::new(folder.as_ref()).files()?;
        let sources =
            files.into_iter().map(|file| Source { sidecar: file.sidecar, ..Source::file(file.uri, file.path) });
        self.ingest(sources, options).await
    }

    /// [`KnowledgeBase::ingest_folder`] for callers without an async runtime.
    ///
    /// # Errors
    /// As [`KnowledgeBase::ingest_folder`].
    pub fn ingest_folder_blocking(
        &self,
        folder: impl AsRef<Path>,
        options: &IngestOptions,
    ) -> Result<IngestionReport, Error> {
        futures::executor::block_on(self.ingest_folder(folder, options))
    }

    /// Brings documents in.
    ///
    /// A document that can't be read is counted and reported, and the rest goes on. At most a few hundred chunks wait in
    /// memory beside the document at hand. The report comes back when everything is committed and the vector index is in
    /// order; dropping the future keeps what was committed so far.
    ///
    /// # Errors
    /// [`Error::IngestionRunning`] when another one is; [`Error::Model`] when the embedding model fails, and
    /// [`Error::Store`] or [`Error::Damaged`] from the store: these end the ingestion, and what was committed stays.
    pub async fn ingest<I>(&self, sources: I, options: &IngestOptions) -> Result<IngestionReport, Error>
    where
        I: IntoIterator<Item = Source>,
        I::IntoIter: Send,
    {
        let _running = Running::begin(&self.ingesting)?;
        if let Some(remote) = &self.remote {
            remote.catch_up(&self.store).await?;
        }
        let mut report = IngestionReport::default();
        let mut seen = HashSet::new();
        let mut waiting: Vec<Prepared> = Vec::new();
        let mut waiting_chunks = 0;
        let mut batch = self.store.begin()?;
        for source in sources {
            if options.cancel.is_cancelled() {
                report.status = IngestionStatus::Stopped;
                break;
            }
            let statistics = &mut report.statistics;
            statistics.number_of_documents_scanned += 1;
            statistics.number_of_metadata_documents_scanned += u64::from(source.sidecar.is_some());
            let uri = source.uri.clone();
            let outcome = if seen.insert(uri.clone()) {
                self.prepare(source, options).await
            } else {
                Err(Error::InvalidRequest(format!("the address {uri} was given twice")))
            };
            match outcome {
                Ok(Outcome::Unchanged) => statistics.number_of_documents_skipped += 1,
                Ok(Outcome::MetadataChanged(number, record)) => {
                    batch.update_record(number, *record)?;
                    statistics.number_of_metadata_documents_modified += 1;
                }
                Ok(Outcome::Index(prepared)) => {
                    waiting_chunks += prepared.chunks.len();
                    waiting.push(*prepared);
                }
                // These say that the job can't go on, not that a document is bad.
                Err(error @ (Error::Model { .. } | Error::Store { .. } | Error::Damaged { .. })) => return Err(error),
                Err(error) => {
                    statistics.number_of_documents_failed += 1;
                    if report.failures.len() < MAX_FAILURES {
                        report.failures.push((uri, error));
                    }
                }
            }
            if waiting_chunks >= EMBED_WINDOW || waiting.len() >= EMBED_WINDOW {
                self.put(std::mem::take(&mut waiting), &mut batch, &mut report.statistics).await?;
                waiting_chunks = 0;
            }
            if batch.pending_chunks() >= COMMIT_CHUNKS || batch.pending_documents() >= COMMIT_DOCUMENTS {
                self.commit(batch).await?;
                batch = self.store.begin()?;
            }
            if let Some(progress) = &options.progress {
                progress(&report.statistics);
            }
        }
        self.put(waiting, &mut batch, &mut report.statistics).await?;
        if options.delete_missing && report.status == IngestionStatus::Complete {
            let stored: Vec<String> = self.read_state().documents.values().map(|entry| entry.uri.clone()).collect();
            for uri in stored.into_iter().filter(|uri| !seen.contains(uri)) {
                batch.remove_document(&uri)?;
                report.statistics.number_of_documents_deleted += 1;
            }
        }
        self.commit(batch).await?;
        self.renew_graph()?;
        if let Some(progress) = &options.progress {
            progress(&report.statistics);
        }
        Ok(report)
    }

    /// [`KnowledgeBase::ingest`] for callers without an async runtime.
    ///
    /// # Errors
    /// As [`KnowledgeBase::ingest`].
    pub fn ingest_blocking<I>(&self, sources: I, options: &IngestOptions) -> Result<IngestionReport, Error>
    where
        I: IntoIterator<Item = Source>,
        I::IntoIter: Send,
    {
        futures::executor::block_on(self.ingest(sources, options))
    }

    /// Removes documents by address; returns how many there were.
    ///
    /// # Errors
    /// [`Error::IngestionRunning`], [`Error::Store`], [`Error::Damaged`].
    pub fn delete<'u>(&self, uris: impl IntoIterator<Item = &'u str>) -> Result<u64, Error> {
        let _running = Running::begin(&self.ingesting)?;
        if let Some(remote) = &self.remote {
            wait(remote.catch_up(&self.store))?;
        }
        let mut batch = self.store.begin()?;
        let mut deleted = 0;
        for uri in uris {
            deleted += u64::from(batch.remove_document(uri)?);
        }
        wait(self.commit(batch))?;
        self.renew_graph()?;
        Ok(deleted)
    }

    /// Reads a source, compares it with what is stored, and cuts it if it is new.
    async fn prepare(&self, source: Source, options: &IngestOptions) -> Result<Outcome, Error> {
        let Source { uri, content, mut metadata, sidecar, version } = source;
        if uri.is_empty() || uri.len() > 1825 {
            return Err(Error::InvalidRequest(format!(
                "an address must have 1 to 1825 bytes, this one has {}",
                uri.len()
            )));
        }
        if let Some(path) = sidecar {
            let bytes = read_bounded(&path, MAX_SIDECAR_BYTES)?;
            metadata.extend(parse_sidecar(&path.to_string_lossy(), &bytes)?);
        }
        let metadata_hash = hash_of(&metadata);
        let stored = self.store.document_by_uri(&uri)?;
        let same = |record: &DocumentRecord| version.is_some() && record.version == version;
        if stored.as_ref().is_some_and(|(_, record)| same(record) && record.metadata_hash == metadata_hash) {
            return Ok(Outcome::Unchanged);
        }
        let (bytes, is_text) = match content {
            Content::Reader(reader) => {
                let bytes = (reader.0)(options.extract.max_bytes)?;
                let (length, limit) = (bytes.len() as u64, options.extract.max_bytes);
                if length > limit {
                    return Err(Error::DocumentTooLarge { name: uri, bytes: length, limit });
                }
                (bytes, false)
            }
            Content::File(path) => (read_bounded(&path, options.extract.max_bytes)?, false),
            Content::Bytes(bytes) => (bytes, false),
            Content::Text(text) => (text.into_bytes(), true),
        };
        let content_hash = blake3::hash(&bytes).to_hex().to_string();
        let modified = stored.is_some();
        if let Some((number, mut record)) = stored
            && record.content_hash == content_hash
        {
            // A version that is new for the same content is kept, so that it is not read the next time.
            if record.metadata_hash == metadata_hash && record.version == version {
                return Ok(Outcome::Unchanged);
            }
            record.version = version;
            record.metadata = metadata;
            record.metadata_hash = metadata_hash;
            return Ok(Outcome::MetadataChanged(number, Box::new(record)));
        }
        let length = bytes.len() as u64;
        let document = if is_text {
            Document::from_text(String::from_utf8(bytes).unwrap_or_default())
        } else {
            extract(&uri, &bytes, &options.extract)?
        };
        let counter = ModelTokens(self.embedder.clone());
        let chunks = match &self.chunker {
            Some(chunker) => {
                let chunks = chunker.chunk(&document, &counter, self.embedder.as_ref()).await?;
                crate::chunk::check(&chunks, &document, &chunker.id())?;
                chunks
            }
            None => self.manifest.chunking.chunk(&document, &counter, Some(self.embedder.as_ref())).await?,
        };
        let parents: HashSet<usize> = chunks.iter().filter_map(|chunk| chunk.parent).collect();
        let chunks = chunks
            .iter()
            .map(|chunk| {
                let record = ChunkRecord {
                    document: 0,
                    index: chunk.index as u64,
                    parent: chunk.parent.map(|parent| parent as u64),
                    tokens: chunk.tokens as u64,
                    start: chunk.start as u64,
                    end: chunk.end as u64,
                    headings: document.heading_path(chunk.start).into_iter().map(str::to_owned).collect(),
                    page: document.page(chunk.start).map(|page| page as u64),
                    text: chunk.passage(&document).into_owned(),
                };
                (record, !parents.contains(&chunk.index))
            })
            .collect();
        let record = DocumentRecord {
            uri,
            title: document.title,
            format: document.format,
            content_hash,
            metadata_hash,
            version,
            bytes: length,
            own_metadata: document.metadata,
            metadata,
            first_chunk: 0,
            chunks: 0,
            parents: Vec::new(),
        };
        Ok(Outcome::Index(Box::new(Prepared { record, chunks, modified })))
    }

    /// Embeds what waits and puts it into the transaction.
    async fn put(
        &self,
        waiting: Vec<Prepared>,
        batch: &mut Batch<'_>,
        statistics: &mut IngestionStatistics,
    ) -> Result<(), Error> {
        // Texts of like length are embedded together, so that little is padding.
        let mut order: Vec<(usize, usize)> = Vec::new();
        let mut vectors: Vec<Vec<Option<Vec<f32>>>> = Vec::new();
        for (document, prepared) in waiting.iter().enumerate() {
            vectors.push(vec![None; prepared.chunks.len()]);
            let searched = prepared.chunks.iter().enumerate().filter(|(_, (_, searched))| *searched);
            order.extend(searched.map(|(chunk, _)| (document, chunk)));
        }
        order.sort_by_key(|&(document, chunk)| waiting[document].chunks[chunk].0.tokens);
        for places in order.chunks(self.embed_batch) {
            let texts =
                places.iter().map(|&(document, chunk)| waiting[document].chunks[chunk].0.text.clone()).collect();
            let embedded = self.embed(texts, EmbedPurpose::Document).await?;
            for (&(document, chunk), mut vector) in places.iter().zip(embedded) {
                crate::index::normalize(&mut vector, chunk)?;
                vectors[document][chunk] = Some(vector);
            }
        }
        for (prepared, vectors) in waiting.into_iter().zip(vectors) {
            let chunks = prepared.chunks.into_iter().map(|(chunk, _)| chunk).zip(vectors).collect();
            batch.put_document(prepared.record, chunks)?;
            if prepared.modified {
                statistics.number_of_modified_documents_indexed += 1;
            } else {
                statistics.number_of_new_documents_indexed += 1;
            }
        }
        Ok(())
    }

    /// Commits, and lets searches see it: both or neither, since a search that finds a chunk must be able to read it. Then
    /// tells the vector store, if there is one.
    async fn commit(&self, batch: Batch<'_>) -> Result<(), Error> {
        self.commit_here(batch)?;
        match &self.remote {
            Some(remote) => remote.catch_up(&self.store).await,
            None => Ok(()),
        }
    }

    fn commit_here(&self, batch: Batch<'_>) -> Result<(), Error> {
        let mut state = self.write_state();
        let change: Change = batch.commit(self.remote.is_some())?;
        state.apply(&change, self.remote.is_some())?;
        #[cfg(feature = "keyword")]
        self.update_keywords(&change)?;
        Ok(())
    }
}

fn hash_of(metadata: &Metadata) -> String {
    // Sorted: the order of attributes means nothing.
    let sorted: std::collections::BTreeMap<&String, &serde_json::Value> = metadata.iter().collect();
    blake3::hash(format!("{sorted:?}").as_bytes()).to_hex().to_string()
}

/// Marks that an ingestion runs, until it is dropped.
pub(crate) struct Running<'f>(&'f AtomicBool);

impl<'f> Running<'f> {
    pub(crate) fn begin(flag: &'f AtomicBool) -> Result<Self, Error> {
        if flag.swap(true, Ordering::Acquire) { Err(Error::IngestionRunning) } else { Ok(Self(flag)) }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
