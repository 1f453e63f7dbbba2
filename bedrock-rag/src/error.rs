//! What can go wrong in a knowledge base, as situations a caller can act on.

use std::io;
use std::path::PathBuf;

/// Error of the knowledge base crate.
///
/// Converted into [`bedrock_core::Error`] at the borders that core's traits define: what the caller did wrong becomes
/// a `ValidationException`, what another writer holds a `ConflictException`, the rest an `InternalServerException`
/// whose source is this error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// What was being read.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file or folder could not be written.
    #[error("cannot write {path}", path = path.display())]
    Write {
        /// What was being written.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A document is larger than the limit.
    #[error("{name} has {bytes} bytes, the limit is {limit}")]
    DocumentTooLarge {
        /// Name of the document.
        name: String,
        /// Its size in bytes.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The format of a document is known, but not read: never, or not by this build (see the crate's features).
    #[error("{name} is {format}, which this build does not read")]
    UnsupportedFormat {
        /// Name of the document.
        name: String,
        /// The format found, for people ("a PDF document").
        format: &'static str,
    },
    /// The name of a document promises another format than its content has.
    #[error("{name} is named as {claimed} but its content is {found}")]
    FormatMismatch {
        /// Name of the document.
        name: String,
        /// What the suffix says.
        claimed: &'static str,
        /// What the content says.
        found: &'static str,
    },
    /// A document that should be text holds binary data.
    #[error("{name} is not text: {control} of its first {inspected} characters are control characters")]
    NotText {
        /// Name of the document.
        name: String,
        /// Control characters counted.
        control: usize,
        /// Characters inspected.
        inspected: usize,
    },
    /// A document needs a password.
    #[error("{name} is {format} under a password")]
    EncryptedDocument {
        /// Name of the document.
        name: String,
        /// The format, for people.
        format: &'static str,
    },
    /// A document does not follow its format: it is cut off, damaged or hostile.
    #[error("{name} is not {format} that can be read: {reason}")]
    MalformedDocument {
        /// Name of the document.
        name: String,
        /// The format, for people.
        format: &'static str,
        /// What does not hold.
        reason: String,
    },
    /// A document has more of something than the limit.
    #[error("{name} has more than {limit} {what}")]
    DocumentGrows {
        /// Name of the document.
        name: String,
        /// What grew: `"bytes of text"`, `"bytes unpacked"`, `"pages"` …
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A document was not read within its time.
    #[error("{name} was not read within {limit:?}")]
    DocumentTimedOut {
        /// Name of the document.
        name: String,
        /// The limit.
        limit: std::time::Duration,
    },
    /// Parsers that ran out of their time still run, and no more are started until one ends.
    #[error("{name} was not read: too many parsers have not ended yet")]
    ParsersBusy {
        /// Name of the document.
        name: String,
    },
    /// A parser gave up on a document in a way that it should not have.
    #[error("the {format} parser failed on {name}: {message}")]
    ParserFailed {
        /// Name of the document.
        name: String,
        /// The format being parsed.
        format: &'static str,
        /// What the parser said.
        message: String,
    },
    /// A folder holds more than the walk is willing to visit.
    #[error("{path} holds more than {limit} {what}", path = path.display())]
    FolderTooLarge {
        /// The folder whose walk was given up.
        path: PathBuf,
        /// `"files"` or `"levels of folders"`.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A data source could not be listed, or a document of it not be read.
    #[error("cannot read from {place}")]
    DataSource {
        /// Address of the place or the document.
        place: String,
        /// The cause.
        source: bedrock_core::Error,
    },
    /// A folder can't be watched for changes.
    #[error("cannot watch {path}", path = path.display())]
    Watch {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A metadata sidecar (`name.ext.metadata.json`) is not what it should be.
    #[error("metadata file {name}: {reason}")]
    BadMetadata {
        /// Name of the sidecar file.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A chunking setting is out of range.
    #[error("chunking: {0}")]
    BadChunking(String),
    /// Tokens could not be counted, texts not embedded, results not reranked or no answer generated: the model failed.
    #[error("the {role} model failed")]
    Model {
        /// `"embedding"`, `"chat"`, `"reranking"` or `"guardrail"`.
        role: &'static str,
        /// The model's own error.
        source: bedrock_core::Error,
    },
    /// A vector has another size than the index.
    #[error("embedding has {got} dimensions, index expects {expected}")]
    DimensionMismatch {
        /// Dimensions of the index.
        expected: usize,
        /// Dimensions of the vector.
        got: usize,
    },
    /// A vector holds NaN or infinity, or is all zeros, and so has no direction.
    #[error("embedding {index} has no direction: it is zero or holds a value that is not finite")]
    BadVector {
        /// Position of the vector in its batch.
        index: usize,
    },
    /// An index setting is out of range.
    #[error("index: {0}")]
    BadIndexSetting(String),
    /// There is not enough memory for an index.
    #[error("not enough memory for {what}")]
    OutOfMemory {
        /// What it was needed for.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// An index or store file is damaged.
    #[error("{path} is damaged: {reason}", path = path.display())]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// What does not hold.
        reason: String,
    },
    /// The folder holds no knowledge base.
    #[error("{path} holds no knowledge base", path = path.display())]
    NotFound {
        /// The folder.
        path: PathBuf,
    },
    /// A knowledge base exists where a new one should be created.
    #[error("{path} holds a knowledge base already", path = path.display())]
    AlreadyExists {
        /// The folder.
        path: PathBuf,
    },
    /// Another process, or another part of this one, has the knowledge base open.
    #[error("{path} is open elsewhere; a knowledge base has one writer at a time", path = path.display())]
    Locked {
        /// The store file.
        path: PathBuf,
    },
    /// A change was asked of a knowledge base that is opened for reading alone.
    #[error("{path} is open for reading alone", path = path.display())]
    ReadOnly {
        /// The store file.
        path: PathBuf,
    },
    /// The store is encrypted and was opened without a sealer, or the other way round.
    #[error("{path} is {}", if *sealed { "encrypted: open it with its sealer" } else { "not encrypted: open it without a sealer" }, path = path.display())]
    SealMismatch {
        /// The store file.
        path: PathBuf,
        /// Whether it is encrypted.
        sealed: bool,
    },
    /// Encrypting or decrypting failed: the key is another one or not at hand, or the data was changed.
    #[error("{path} can't be sealed or opened", path = path.display())]
    Seal {
        /// The file.
        path: PathBuf,
        /// Why.
        source: bedrock_core::Error,
    },
    /// The store was written by a version of this crate with another format.
    #[error("{path} has store format {found}, this version reads format {supported}", path = path.display())]
    UnknownVersion {
        /// The store file.
        path: PathBuf,
        /// Version in the file.
        found: u32,
        /// Version this build reads and writes.
        supported: u32,
    },
    /// The knowledge base was built with another embedding model.
    #[error("the knowledge base was embedded with {stored}, which is not the {offered} it is opened with")]
    EmbedderMismatch {
        /// Model id and identity in the store.
        stored: String,
        /// Model id and identity offered.
        offered: String,
    },
    /// The knowledge base was built with other chunking settings than it is opened with.
    #[error("the knowledge base was chunked with {stored}, not {offered}; ingest into a new one to change that")]
    ChunkingMismatch {
        /// Settings in the store.
        stored: String,
        /// Settings offered.
        offered: String,
    },
    /// The store failed for a reason of its own (disk full, input/output).
    #[error("store {path} failed", path = path.display())]
    Store {
        /// The store file.
        path: PathBuf,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The vector store that the knowledge base is searched in failed.
    #[error("the vector store failed")]
    VectorStore {
        /// The store's own error.
        source: bedrock_core::Error,
    },
    /// The keyword index failed.
    #[error("keyword index failed")]
    Keyword {
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A conversation could not be loaded or saved.
    #[error("the session could not be loaded or saved")]
    Session {
        /// The session store's own error.
        source: bedrock_core::Error,
    },
    /// An ingestion is running on this knowledge base already.
    #[error("an ingestion is running already")]
    IngestionRunning,
    /// A request asks for something that this knowledge base can't do, or with values out of range.
    #[error("{0}")]
    InvalidRequest(String),
}

impl Error {
    pub(crate) fn read(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Read { path: path.into(), source }
    }

    pub(crate) fn write(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Write { path: path.into(), source }
    }

    pub(crate) fn damaged(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.into(), reason: reason.into() }
    }
}

impl From<Error> for bedrock_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::DataSource { source, .. } => source,
            Error::Model { source, .. } | Error::VectorStore { source } | Error::Session { source } => source,
            Error::InvalidRequest(_) | Error::BadChunking(_) | Error::BadIndexSetting(_) => {
                Self::validation(error.to_string())
            }
            Error::Locked { .. } | Error::ReadOnly { .. } | Error::IngestionRunning => {
                Self::conflict(error.to_string())
            }
            Error::NotFound { .. } => Self::resource_not_found(error.to_string()),
            other => Self::backend(other),
        }
    }
}
