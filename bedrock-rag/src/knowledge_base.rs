//! A knowledge base: a folder with a store and the indexes made from it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use bedrock_core::{ChatModel, EmbedPurpose, EmbedRequest, EmbeddingModel, Reranker, Sealer, VectorStore};

use crate::Error;
use crate::blocking::wait;
use crate::chunk::{Chunker, Chunking};
use crate::document::Metadata;
use crate::index::rank::Fusion;
use crate::index::{HnswSettings, Vectors, VectorsSettings};
use crate::retrieve::SearchMode;
use crate::store::{
    Change, DocumentRecord, EmbedderRecord, FORMAT_VERSION, Manifest, Remote, Store, StoreOptions, graph_file,
};
use crate::sync::Running;

const STORE_FILE: &str = "store.redb";
const GRAPH_FILE: &str = "vectors.hnsw";

/// Fewer vectors than this are searched one by one. Exhaustive search of 10,000 × 384 values takes one to two
/// milliseconds, less than embedding the query does.
const GRAPH_FROM: usize = 10_000;

/// Documents, cut into chunks, embedded, searchable, kept in a folder.
///
/// The folder holds `store.redb`, the truth, and `vectors.hnsw`, an index that is made again when it is missing or
/// damaged. It has one writer at a time: a second one is refused. Other processes may read it meanwhile
/// ([`KnowledgeBaseBuilder::read_only`]). With a [`KnowledgeBaseBuilder::sealer`] all of it is encrypted: texts, vectors, addresses,
/// metadata and the index; what stays visible is how many records there are and how long. A knowledge base remembers which embedding model
/// made its vectors and refuses to be opened with another.
///
/// With a [`KnowledgeBaseBuilder::vector_store`] the vectors are searched in a database server instead, and neither they nor words are
/// kept in memory here; the folder stays the truth that the server's table is made from.
///
/// Methods that end in `_blocking` are for callers without an async runtime. The others do their reading, parsing and
/// searching on the thread that polls them and only wait for the embedding model; a long ingestion belongs on a
/// task of its own.
pub struct KnowledgeBase {
    pub(crate) folder: PathBuf,
    pub(crate) store: Store,
    pub(crate) manifest: Manifest,
    pub(crate) embedder: Arc<dyn EmbeddingModel>,
    pub(crate) reranker: Option<(String, Arc<dyn Reranker>)>,
    pub(crate) query_model: Option<Arc<dyn ChatModel>>,
    pub(crate) mode: SearchMode,
    pub(crate) fusion: Fusion,
    pub(crate) embed_batch: usize,
    pub(crate) chunker: Option<Arc<dyn Chunker>>,
    pub(crate) dimensions: Option<usize>,
    /// Where vectors are searched, if not here.
    pub(crate) remote: Option<Remote>,
    pub(crate) state: RwLock<State>,
    #[cfg(feature = "keyword")]
    pub(crate) keyword: std::sync::Mutex<Option<Arc<crate::index::keyword::KeywordIndex>>>,
    pub(crate) ingesting: AtomicBool,
    recovered: Option<String>,
}

/// What is kept in memory: the vectors, and what filters and results need of the documents.
#[derive(Debug)]
pub(crate) struct State {
    /// Empty when they are searched elsewhere.
    pub(crate) vectors: Vectors,
    pub(crate) documents: HashMap<u64, Entry>,
    /// Of the store that this was read from; counts for readers alone.
    revision: u64,
}

/// A document in memory.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) uri: String,
    pub(crate) title: Option<String>,
    pub(crate) attributes: Metadata,
    pub(crate) first_chunk: u64,
    pub(crate) chunks: u64,
    /// Chunks that are searched.
    searched: u64,
}

impl Entry {
    fn new(record: &DocumentRecord) -> Self {
        Self {
            uri: record.uri.clone(),
            title: record.title.clone(),
            attributes: record.attributes(),
            first_chunk: record.first_chunk,
            chunks: record.chunks,
            searched: record.chunks - record.parents.len() as u64,
        }
    }
}

impl State {
    /// Takes over what a transaction has changed; vectors too, unless they are `remote`.
    pub(crate) fn apply(&mut self, change: &Change, remote: bool) -> Result<(), Error> {
        for number in &change.removed_documents {
            self.documents.remove(number);
        }
        self.vectors.remove(&change.removed);
        for inserted in &change.inserted {
            self.documents.insert(inserted.number, Entry::new(&inserted.document));
            for (id, _, vector) in inserted.searched.iter().filter(|_| !remote) {
                self.vectors.insert(*id, vector)?;
            }
        }
        for (number, record) in &change.updated {
            self.documents.insert(*number, Entry::new(record));
        }
        Ok(())
    }
}

impl fmt::Debug for KnowledgeBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KnowledgeBase")
            .field("folder", &self.folder)
            .field("manifest", &self.manifest)
            .finish_non_exhaustive()
    }
}

/// A document in a knowledge base, as [`KnowledgeBase::documents`] lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct DocumentSummary {
    /// Its address: what the source calls it.
    pub uri: String,
    /// Its title, when it names one.
    pub title: Option<String>,
    /// Its attributes.
    pub metadata: Metadata,
    /// Chunks it was cut into.
    pub chunks: u64,
}

/// Settings for creating or opening a [`KnowledgeBase`].
#[must_use]
pub struct KnowledgeBaseBuilder {
    folder: PathBuf,
    embedder: Arc<dyn EmbeddingModel>,
    reranker: Option<(String, Arc<dyn Reranker>)>,
    query_model: Option<Arc<dyn ChatModel>>,
    chunking: Option<Chunking>,
    chunker: Option<Arc<dyn Chunker>>,
    dimensions: Option<usize>,
    hnsw: HnswSettings,
    graph_from: usize,
    mode: SearchMode,
    fusion: Fusion,
    embed_batch: usize,
    store: StoreOptions,
    vector_store: Option<Arc<dyn VectorStore>>,
}

impl fmt::Debug for KnowledgeBaseBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KnowledgeBaseBuilder").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl KnowledgeBaseBuilder {
    /// How documents are cut; decided when the knowledge base is created. Default [`Chunking::Default`].
    pub fn chunking(mut self, chunking: Chunking) -> Self {
        self.chunking = Some(chunking);
        self
    }

    /// Cuts documents by rules of one's own, in place of [`KnowledgeBaseBuilder::chunking`]; decided when the knowledge
    /// base is created, and then needed whenever it is opened.
    pub fn chunker(mut self, chunker: Arc<dyn Chunker>) -> Self {
        self.chunker = Some(chunker);
        self
    }

    /// Values of a vector, for embedding models that offer fewer than all; decided when the knowledge base is created.
    pub fn dimensions(mut self, dimensions: usize) -> Self {
        self.dimensions = Some(dimensions);
        self
    }

    /// How the vector graph is built and searched.
    pub fn hnsw(mut self, settings: HnswSettings) -> Self {
        self.hnsw = settings;
        self
    }

    /// From how many vectors on a graph is used; fewer are searched one by one, which is exact. Default 10,000.
    pub fn graph_from(mut self, vectors: usize) -> Self {
        self.graph_from = vectors.max(1);
        self
    }

    /// How queries are answered unless they say otherwise. Default [`SearchMode::Vector`].
    pub fn search_mode(mut self, mode: SearchMode) -> Self {
        self.mode = mode;
        self
    }

    /// How hybrid search joins its two rankings unless a query says otherwise.
    pub fn fusion(mut self, fusion: Fusion) -> Self {
        self.fusion = fusion;
        self
    }

    /// A model that orders candidates anew, under the id by which requests name it.
    pub fn reranker(mut self, id: impl Into<String>, reranker: Arc<dyn Reranker>) -> Self {
        self.reranker = Some((id.into(), reranker));
        self
    }

    /// A model that derives filters from queries, for searches with an [implicit filter](crate::Search::implicit_filter). (An
    /// [`Answerer`](crate::Answerer) has its own.)
    pub fn query_model(mut self, model: Arc<dyn ChatModel>) -> Self {
        self.query_model = Some(model);
        self
    }

    /// Texts embedded in one call. Default 32.
    pub fn embed_batch(mut self, texts: usize) -> Self {
        self.embed_batch = texts.max(1);
        self
    }

    /// Whether every page of the store is verified when it is opened, which reads it whole. Without it a damaged store
    /// is still noticed, but only when the damaged part is read. Default true.
    pub fn verify(mut self, verify: bool) -> Self {
        self.store.verify = verify;
        self
    }

    /// Memory for pages of the store, in bytes. Default 64 MiB.
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.store.cache_bytes = bytes;
        self
    }

    /// Encrypts everything that is written to disk. Decided when the knowledge base is created; from then on it is opened with a
    /// sealer that has the key. See [`KnowledgeBase::reseal`] for changing keys.
    pub fn sealer(mut self, sealer: Arc<dyn Sealer>) -> Self {
        self.store.sealer = Some(sealer);
        self
    }

    /// Opens for reading alone, beside a process that may write: its changes are seen by the next search. Any number of
    /// processes may read. Default false.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.store.read_only = read_only;
        self
    }

    /// Searches vectors in a store of another kind, a database server of `bedrock_rag::external` for example, which holds this
    /// knowledge base's chunks alone. The folder stays the truth: an existing knowledge base can be opened with a store that is
    /// empty, which is then sent everything, and again without it. Opening sends what the store lacks, and so needs it to answer.
    /// Words are searched there too if it can ([`VectorStore::searches_text`]); if not, keyword and hybrid search are refused.
    /// Searches have at most 1,000 candidates. Texts and attributes go there as they are, so that this can't be had together with
    /// [`KnowledgeBaseBuilder::sealer`].
    pub fn vector_store(mut self, store: Arc<dyn VectorStore>) -> Self {
        self.vector_store = Some(store);
        self
    }

    /// Makes a new knowledge base; the folder is created if need be.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`]; [`Error::ReadOnly`]; [`Error::Write`] and [`Error::Store`] when the folder can't be written;
    /// [`Error::BadChunking`], [`Error::BadIndexSetting`] and [`Error::InvalidRequest`] for settings out of range.
    pub fn create(self) -> Result<KnowledgeBase, Error> {
        self.check()?;
        if self.store.read_only {
            return Err(Error::ReadOnly { path: self.folder.join(STORE_FILE) });
        }
        std::fs::create_dir_all(&self.folder).map_err(|source| Error::write(&self.folder, source))?;
        let info = self.embedder.info();
        let (id, tag) = fresh_id(&self.folder);
        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            id,
            tag,
            embedder: EmbedderRecord {
                model_id: info.model_id,
                identity: info.identity,
                dimensions: self.dimensions.unwrap_or(info.dimensions),
            },
            chunking: self.chunking.unwrap_or_default(),
            chunker: self.chunker.as_ref().map(|chunker| chunker.id()),
        };
        let store = Store::create(&self.folder.join(STORE_FILE), &self.store, &manifest)?;
        // A graph of an earlier knowledge base in this folder is none of this one's.
        let _ = std::fs::remove_file(self.folder.join(GRAPH_FILE));
        self.assemble(store, manifest)
    }

    /// Opens an existing knowledge base. The vector index is loaded, or made again if it is missing or damaged (see
    /// [`KnowledgeBase::recovered`]).
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Locked`], [`Error::Damaged`], [`Error::UnknownVersion`], [`Error::Store`];
    /// [`Error::SealMismatch`] when a sealer is missing or too many, [`Error::Seal`] when it has not the key;
    /// [`Error::EmbedderMismatch`] when another model made the vectors; [`Error::ChunkingMismatch`] when
    /// [`KnowledgeBaseBuilder::chunking`] or [`KnowledgeBaseBuilder::chunker`] is another than the knowledge base was
    /// created with.
    pub fn open(self) -> Result<KnowledgeBase, Error> {
        self.check()?;
        let (store, manifest) = Store::open(&self.folder.join(STORE_FILE), &self.store)?;
        let info = self.embedder.info();
        let dimensions = self.dimensions.unwrap_or(manifest.embedder.dimensions);
        if info.identity != manifest.embedder.identity || dimensions != manifest.embedder.dimensions {
            let stored = &manifest.embedder;
            return Err(Error::EmbedderMismatch {
                stored: format!("{} ({}, {} dimensions)", stored.model_id, stored.identity, stored.dimensions),
                offered: format!("{} ({}, {dimensions} dimensions)", info.model_id, info.identity),
            });
        }
        if let Some(offered) = self.chunking.filter(|&offered| offered != manifest.chunking) {
            let (stored, offered) = (manifest.chunking.to_string(), offered.to_string());
            return Err(Error::ChunkingMismatch { stored, offered });
        }
        let offered = self.chunker.as_ref().map(|chunker| chunker.id());
        if offered != manifest.chunker {
            let own = || manifest.chunking.to_string();
            let (stored, offered) = (manifest.chunker.clone().unwrap_or_else(own), offered.unwrap_or_else(own));
            return Err(Error::ChunkingMismatch { stored, offered });
        }
        self.assemble(store, manifest)
    }

    /// Opens the knowledge base if there is one, and makes it otherwise.
    ///
    /// # Errors
    /// As [`KnowledgeBaseBuilder::open`] and [`KnowledgeBaseBuilder::create`].
    pub fn open_or_create(self) -> Result<KnowledgeBase, Error> {
        if self.folder.join(STORE_FILE).exists() { self.open() } else { self.create() }
    }

    fn check(&self) -> Result<(), Error> {
        self.hnsw.validate()?;
        self.chunking.unwrap_or_default().validate()?;
        if self.vector_store.is_none() {
            self.mode.check()?;
        } else if self.store.sealer.is_some() {
            return Err(Error::InvalidRequest(
                "a knowledge base that is encrypted can't keep its vectors in a vector store, which has to read them"
                    .to_owned(),
            ));
        }
        let most = self.embedder.info().dimensions;
        match self.dimensions {
            Some(dimensions) if dimensions == 0 || dimensions > most => {
                Err(Error::InvalidRequest(format!("dimensions is {dimensions}, it must be 1 to {most}")))
            }
            _ => Ok(()),
        }
    }

    fn assemble(self, store: Store, manifest: Manifest) -> Result<KnowledgeBase, Error> {
        let dimensions = manifest.embedder.dimensions;
        let remote = self.vector_store.map(|store| Remote::new(store, &manifest.id, dimensions)).transpose()?;
        if let Some(remote) = &remote {
            remote.check(self.mode)?;
        }
        let graph_path = self.folder.join(GRAPH_FILE);
        let (graph, mut recovered) = match graph_file::load(&graph_path, store.protection()) {
            _ if remote.is_some() => (None, None),
            Ok((graph, tag)) if tag == manifest.tag && graph.dimensions() == dimensions => {
                // A graph of other settings is as good as none; not so its `ef_search`, which is one of searching.
                let settings = HnswSettings { ef_search: self.hnsw.ef_search, ..*graph.settings() };
                ((settings == self.hnsw).then_some(graph), None)
            }
            Ok(_) => (None, Some(format!("{} belongs to another knowledge base", graph_path.display()))),
            Err(Error::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => (None, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let has_graph = graph.is_some();
        let settings = VectorsSettings { hnsw: self.hnsw, graph_from: self.graph_from };
        let vectors = Vectors::new(settings, dimensions, graph);
        let mut knowledge_base = KnowledgeBase {
            folder: self.folder,
            store,
            dimensions: (manifest.embedder.dimensions != self.embedder.info().dimensions).then_some(dimensions),
            manifest,
            embedder: self.embedder,
            reranker: self.reranker,
            query_model: self.query_model,
            mode: self.mode,
            fusion: self.fusion,
            embed_batch: self.embed_batch,
            chunker: self.chunker,
            remote,
            state: RwLock::new(State { vectors, documents: HashMap::new(), revision: 0 }),
            #[cfg(feature = "keyword")]
            keyword: std::sync::Mutex::new(None),
            ingesting: AtomicBool::new(false),
            recovered: None,
        };
        if let Some(remote) = knowledge_base.remote.as_ref().filter(|_| !knowledge_base.store.is_read_only()) {
            wait(remote.catch_up(&knowledge_base.store))?;
        }
        knowledge_base.follow_store()?;
        if !has_graph && recovered.is_none() && knowledge_base.read_state().vectors.wants_graph() {
            recovered = Some(format!("{} is missing", graph_path.display()));
        }
        knowledge_base.recovered = recovered;
        knowledge_base.renew_graph()?;
        Ok(knowledge_base)
    }
}

impl KnowledgeBase {
    /// Begins to describe a knowledge base in `folder` whose vectors `embedder` makes.
    pub fn builder(folder: impl Into<PathBuf>, embedder: Arc<dyn EmbeddingModel>) -> KnowledgeBaseBuilder {
        KnowledgeBaseBuilder {
            folder: folder.into(),
            embedder,
            reranker: None,
            query_model: None,
            chunking: None,
            chunker: None,
            dimensions: None,
            hnsw: HnswSettings::default(),
            graph_from: GRAPH_FROM,
            mode: SearchMode::default(),
            fusion: Fusion::default(),
            embed_batch: 32,
            store: StoreOptions::default(),
            vector_store: None,
        }
    }

    /// Makes a new knowledge base with default settings.
    ///
    /// # Errors
    /// As [`KnowledgeBaseBuilder::create`].
    pub fn create(folder: impl Into<PathBuf>, embedder: Arc<dyn EmbeddingModel>) -> Result<Self, Error> {
        Self::builder(folder, embedder).create()
    }

    /// Opens a knowledge base with default settings.
    ///
    /// # Errors
    /// As [`KnowledgeBaseBuilder::open`].
    pub fn open(folder: impl Into<PathBuf>, embedder: Arc<dyn EmbeddingModel>) -> Result<Self, Error> {
        Self::builder(folder, embedder).open()
    }

    /// Its id, ten letters and digits, drawn when it was created. Requests name it or leave it empty.
    pub fn id(&self) -> &str {
        &self.manifest.id
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How its documents are cut.
    pub fn chunking(&self) -> Chunking {
        self.manifest.chunking
    }

    /// Why the vector index had to be made again when the knowledge base was opened, if it had to.
    pub fn recovered(&self) -> Option<&str> {
        self.recovered.as_deref()
    }

    /// Documents in it.
    pub fn document_count(&self) -> usize {
        self.read_state().documents.len()
    }

    /// Chunks that are searched.
    pub fn chunk_count(&self) -> usize {
        self.read_state().documents.values().map(|entry| entry.searched as usize).sum()
    }

    /// The documents, sorted by address.
    pub fn documents(&self) -> Vec<DocumentSummary> {
        let state = self.read_state();
        let mut documents: Vec<DocumentSummary> = state
            .documents
            .values()
            .map(|entry| DocumentSummary {
                uri: entry.uri.clone(),
                title: entry.title.clone(),
                metadata: entry.attributes.clone(),
                chunks: entry.chunks,
            })
            .collect();
        documents.sort_by(|a, b| a.uri.cmp(&b.uri));
        documents
    }

    /// Reads the whole store and checks that everything in it belongs together.
    ///
    /// # Errors
    /// [`Error::Damaged`] saying what does not.
    pub fn verify(&self) -> Result<(), Error> {
        self.store.check(self.manifest.embedder.dimensions)
    }

    // A panic while the lock is held leaves state as it was before or after a whole step; both are right.
    pub(crate) fn read_state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write_state(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Builds the vector graph anew if enough has changed, and saves it. Searches go on meanwhile; changes don't.
    pub(crate) fn renew_graph(&self) -> Result<(), Error> {
        let rebuilt = {
            let state = self.read_state();
            if !state.vectors.wants_graph() && !state.vectors.outlived_graph() {
                return Ok(());
            }
            state.vectors.rebuilt(|id| self.store.vector(id))?
        };
        let path = self.folder.join(GRAPH_FILE);
        let saved = match rebuilt.graph() {
            _ if self.store.is_read_only() => Ok(()),
            Some(graph) => graph_file::save(graph, &path, self.manifest.tag, self.store.protection()),
            None => std::fs::remove_file(&path).or_else(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(Error::write(&path, error)),
            }),
        };
        self.write_state().vectors = rebuilt;
        saved
    }

    /// Reads into memory what the store has, again if it changes meanwhile.
    fn follow_store(&self) -> Result<(), Error> {
        for last in [false, false, false, false, true] {
            let revision = self.store.revision()?;
            let followed = self.follow_revision(revision);
            if followed.is_ok() || last || self.store.revision()? == revision {
                return followed;
            }
        }
        Ok(())
    }

    fn follow_revision(&self, revision: u64) -> Result<(), Error> {
        let mut documents = HashMap::new();
        let mut living = HashSet::new();
        for (number, record) in self.store.documents()? {
            living.extend(record.vector_ids());
            documents.insert(number, Entry::new(&record));
        }
        let mut state = self.write_state();
        if self.remote.is_none() {
            state.vectors.follow(&living, |id| self.store.vector(id))?;
        }
        state.documents = documents;
        state.revision = revision;
        Ok(())
    }

    /// For readers: takes over what the writer has changed since the last search.
    pub(crate) fn refresh(&self) -> Result<(), Error> {
        if !self.store.is_read_only() || self.store.revision()? == self.read_state().revision {
            return Ok(());
        }
        self.follow_store()?;
        #[cfg(feature = "keyword")]
        {
            *self.keyword.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        Ok(())
    }

    /// Whether the writer has changed something since [`KnowledgeBase::refresh`].
    pub(crate) fn is_behind(&self) -> Result<bool, Error> {
        Ok(self.store.is_read_only() && self.store.revision()? != self.read_state().revision)
    }

    /// Encrypts everything anew under the key that is current: the change of keys. Returns how many records there were; once
    /// this has returned, older keys are needed no more. Searches go on meanwhile.
    ///
    /// # Errors
    /// [`Error::IngestionRunning`], [`Error::ReadOnly`], [`Error::Seal`]; [`Error::SealMismatch`] if nothing is encrypted.
    pub fn reseal(&self) -> Result<u64, Error> {
        let _running = Running::begin(&self.ingesting)?;
        let records = self.store.reseal()?;
        if let Some(graph) = self.read_state().vectors.graph() {
            let path = self.folder.join(GRAPH_FILE);
            graph_file::save(graph, &path, self.manifest.tag, self.store.protection())?;
        }
        Ok(records)
    }

    /// Embeds texts and checks what comes back.
    pub(crate) async fn embed(&self, texts: Vec<String>, purpose: EmbedPurpose) -> Result<Vec<Vec<f32>>, Error> {
        let wanted = texts.len();
        let request =
            EmbedRequest { inputs: texts, purpose, dimensions: self.dimensions, normalize: Some(true), truncate: true };
        let response =
            self.embedder.embed(&request).await.map_err(|source| Error::Model { role: "embedding", source })?;
        if response.embeddings.len() != wanted {
            let reason = format!("{} vectors for {wanted} texts", response.embeddings.len());
            return Err(Error::Model { role: "embedding", source: bedrock_core::Error::internal_server(reason) });
        }
        let expected = self.manifest.embedder.dimensions;
        match response.embeddings.iter().find(|vector| vector.len() != expected) {
            Some(other) => Err(Error::DimensionMismatch { expected, got: other.len() }),
            None => Ok(response.embeddings),
        }
    }
}

/// An id and a tag that no other knowledge base has: made of the time, the process and the folder.
fn fresh_id(folder: &Path) -> (String, u64) {
    const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let hash = blake3::hash(format!("{now:?} {} {}", std::process::id(), folder.display()).as_bytes());
    let id = hash.as_bytes()[..10].iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect();
    (id, u64::from_le_bytes(std::array::from_fn(|byte| hash.as_bytes()[10 + byte])))
}
