//! Embedded knowledge bases: documents, chunks, vector search, cited answers.

pub mod chunk;
pub mod document;
mod error;
pub mod filter;
pub mod index;
mod knowledge_base;
mod retrieve;
mod store;
mod sync;

pub use error::Error;
pub use knowledge_base::{DocumentSummary, KnowledgeBase, KnowledgeBaseBuilder};
pub use retrieve::{Passage, Search, SearchMode, keys};
pub use sync::{
    Cancellation, Content, IngestOptions, IngestionReport, IngestionStatistics, IngestionStatus, Progress, Source,
};
