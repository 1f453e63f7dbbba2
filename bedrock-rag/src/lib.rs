//! Embedded knowledge bases: documents, chunks, vector search, cited answers.
//!
//! Point a [`KnowledgeBase`] at a folder, give it an embedding model, and ask. Everything happens in this process and
//! stays in one folder: a transactional store, and indexes that are made from it.
//!
//! ```
//! use std::sync::Arc;
//! use bedrock_core::testing::{HashEmbedder, ScriptedModel};
//! use bedrock_rag::{Answerer, IngestOptions, KnowledgeBase, Search, Source};
//!
//! # fn main() -> Result<(), bedrock_rag::Error> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let folder = folder.path();
//! // Any `EmbeddingModel` will do; this one needs no weights.
//! let knowledge_base = KnowledgeBase::create(folder, Arc::new(HashEmbedder::new(256)))?;
//! let documents = [
//!     Source::text("leave.md", "Employees get thirty days of holiday a year."),
//!     Source::text("travel.md", "Flights need approval by a manager."),
//! ];
//! let report = knowledge_base.ingest_blocking(documents, &IngestOptions::default())?;
//! assert_eq!(report.statistics.number_of_new_documents_indexed, 2);
//!
//! // Retrieve …
//! let passages = knowledge_base.search_blocking(&Search::new("How many days of holiday do I get?"))?;
//! assert_eq!(passages[0].uri, "leave.md");
//!
//! // … and generate, with any `ChatModel`; this one says what it is told to.
//! let model = Arc::new(ScriptedModel::new(["Employees get thirty days of holiday."]));
//! let answerer = Answerer::new(Arc::new(knowledge_base), model);
//! let answer = answerer.ask_blocking("How many days of holiday do employees get?")?;
//! let source = &answer.passages[answer.citations[0].passages[0]];
//! assert_eq!(source.uri, "leave.md");
//! # Ok(())
//! # }
//! ```
//!
//! # The way of a document
//!
//! | step | where | what it does |
//! | --- | --- | --- |
//! | read | [`document`] | finds out what a file is by its content, decodes it, makes readable text with headings |
//! | cut | [`chunk`] | packs whole sentences into chunks of so many tokens |
//! | embed | [`bedrock_core::EmbeddingModel`] | turns each chunk into a vector |
//! | keep | `store.redb` | one transaction for a batch of documents; a crash leaves the last one that was committed; encrypted on request |
//! | index | [`mod@index`] | vectors exactly or through an HNSW graph, words through BM25; or both in a database server |
//! | find | [`KnowledgeBase::search`], [`bedrock_core::Retriever`] | by meaning, by words, or both; [`mod@filter`]s on metadata; a reranker |
//! | answer | [`Answerer`] | asks a chat model about what was found, and says which part of the answer rests on which passage |
//!
//! # Features
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `documents` | all of the next four |
//! | `csv` | `.csv`: one small crate |
//! | `office` | `word`: `.docx`, `.doc`, `.rtf`; and `spreadsheet`: `.xlsx`, `.xls`: a dozen small crates |
//! | `pdf` | `.pdf`, through hayro: some 40 crates |
//! | `keyword` | [`SearchMode::Keyword`] and [`SearchMode::Hybrid`], through tantivy |
//! | `postgres`, `redis` | vectors and words in a database server, for [`KnowledgeBaseBuilder::vector_store`]: PostgreSQL with pgvector (some 60 crates), Redis with RediSearch (some 20) |
//! | `qdrant`, `opensearch`, `pinecone` | the same on these, over HTTP (ureq) |
//! | `mongodb`, `mongodb-srv` | the same on MongoDB Atlas, through its own driver (some 90 crates); addresses that begin with `mongodb+srv` (some 40 more) |
//! | `watch` | [`Schedule::on_change`]: some ten small crates |
//! | `s3` | a bucket as a data source, over HTTP: ureq, and those of `word` for XML |
//! | `seal` | `AesGcmSealer` and key rings in `bedrock_core`, for [`KnowledgeBaseBuilder::sealer`] |

pub mod answer;
mod blocking;
pub mod chunk;
mod data_source;
pub mod document;
mod error;
#[cfg(feature = "external")]
// `external` and `http` alone are what stores have in common, without one.
#[cfg_attr(
    not(any(
        feature = "mongodb",
        feature = "opensearch",
        feature = "pinecone",
        feature = "postgres",
        feature = "qdrant",
        feature = "redis",
        feature = "s3"
    )),
    allow(dead_code)
)]
pub mod external;
pub mod filter;
pub mod index;
mod knowledge_base;
mod retrieve;
#[cfg(feature = "s3")]
mod s3;
mod store;
mod sync;

pub use answer::{Answer, AnswerEvent, AnswerOptions, Answerer};
pub use data_source::{DataSource, Reported, Schedule, Synchroniser};
pub use error::Error;
pub use index::rank::Fusion;
pub use knowledge_base::{DocumentSummary, KnowledgeBase, KnowledgeBaseBuilder};
pub use retrieve::{Passage, Search, SearchMode, keys};
#[cfg(feature = "s3")]
pub use s3::S3Bucket;
pub use sync::{
    Cancellation, Content, ContentReader, IngestOptions, IngestionReport, IngestionStatistics, IngestionStatus,
    Progress, Source,
};
