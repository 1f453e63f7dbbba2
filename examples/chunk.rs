//! How is this document cut? Prints the chunks of a file, one JSON object a chunk.
//!
//! ```text
//! cargo run --release --example chunk -- README.md --strategy fixed:100:20
//! ```
//!
//! Tokens are counted by the embedding model if one is named, and otherwise as words and punctuation marks. `start` and `end`
//! are bytes of the text that the `extract` example prints, and `text` is what lies between them; `head` is the head of the
//! table that a chunk goes on with, which is embedded and found with it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use bedrock_core::EmbeddingModel;
use bedrock_examples::{Failure, ModelArguments, failure, find_model, print_json, run};
use bedrock_models::Embedder;
use bedrock_rag::chunk::{Chunking, CountTokens, ModelTokens, WordCounter};
use bedrock_rag::document::{ExtractOptions, extract_file};
use clap::Parser;
use serde_json::json;

/// Prints the chunks of a document as JSON lines.
#[derive(Parser)]
struct Arguments {
    /// The document
    file: PathBuf,
    /// default, guide, fixed:TOKENS:OVERLAP_PERCENT, hierarchical:PARENT:CHILD:OVERLAP_TOKENS, semantic:MAX:BUFFER:PERCENTILE or none
    #[arg(long, default_value = "default")]
    strategy: Chunking,
    /// Embedding model that counts the tokens, and finds the cuts of `semantic`: a folder, a file or a name of the catalogue
    #[arg(long, value_name = "M")]
    embedder: Option<String>,
    #[command(flatten)]
    model: ModelArguments,
}

fn main() -> ExitCode {
    run(chunk)
}

fn chunk(arguments: Arguments) -> Result<(), Failure> {
    let document = extract_file(&arguments.file, &ExtractOptions::default())?;
    let embedder: Option<Arc<dyn EmbeddingModel>> = match &arguments.embedder {
        Some(model) => Some(Arc::new(Embedder::load(find_model(model)?, &arguments.model.options())?)),
        None => None,
    };
    if arguments.strategy.needs_embedder() && embedder.is_none() {
        return Err(failure("semantic chunking needs --embedder"));
    }
    let counter: Box<dyn CountTokens> = match &embedder {
        Some(embedder) => Box::new(ModelTokens(embedder.clone())),
        None => Box::new(WordCounter),
    };
    let chunks =
        futures::executor::block_on(arguments.strategy.chunk(&document, counter.as_ref(), embedder.as_deref()))?;
    for chunk in &chunks {
        print_json(&json!({
            "index": chunk.index,
            "parent": chunk.parent,
            "tokens": chunk.tokens,
            "start": chunk.start,
            "end": chunk.end,
            "text": chunk.text(&document),
            "head": chunk.head.clone().map(|head| &document.text[head]),
            "headings": document.heading_path(chunk.start),
            "page": document.page(chunk.start),
        }))?;
    }
    Ok(())
}
