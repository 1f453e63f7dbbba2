//! Doubles of the traits that need no model, and the contract checks that every implementation runs.
//!
//! ```
//! use bedrock_core::testing::{Chunking, Reply, ScriptedModel};
//! use bedrock_core::{ChatModel, ConverseRequest};
//!
//! let model = ScriptedModel::new([Reply::text("Paris.").chunking(Chunking::Characters(2))]);
//! let response = model.converse_blocking(&ConverseRequest::new("any").user("Capital of France?"))?;
//! assert_eq!(response.text(), "Paris.");
//! assert_eq!(model.requests()[0].messages[0].text(), "Capital of France?");
//! # Ok::<(), bedrock_core::Error>(())
//! ```
//!
//! The checks panic, as assertions do, and say which law is broken. They are async so that a model that needs a certain
//! runtime can be checked inside it; others wrap them in `futures::executor::block_on`.

mod check;
mod embedder;
mod image;
mod judge;
mod script;
mod seal;
mod session;
mod sink;
mod store;
mod tool;

#[cfg(feature = "seal")]
pub use check::check_key_provider;
pub use check::{
    check_chat_model, check_classifier, check_embedding_model, check_guardrail, check_image_model, check_reranker,
    check_retriever, check_sealer, check_session_store, check_tool, check_vector_store,
};
pub use embedder::HashEmbedder;
pub use image::GradientPainter;
pub use judge::{KeywordClassifier, ListRetriever, OverlapReranker, WordGuardrail};
pub use script::{Chunking, Reply, ScriptedModel};
pub use seal::ChecksumSealer;
pub use session::MemorySessionStore;
pub use sink::RecordingSink;
pub use store::MemoryVectorStore;
pub use tool::ScriptedTool;

/// Lower-case words of a text: runs of letters and digits.
fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// The share of the words of `query` that `text` has, 0–1.
fn overlap(query: &str, text: &str) -> f32 {
    let wanted: std::collections::BTreeSet<_> = words(query).collect();
    if wanted.is_empty() {
        return 0.0;
    }
    let present: std::collections::BTreeSet<_> = words(text).collect();
    wanted.intersection(&present).count() as f32 / wanted.len() as f32
}
