//! What does a synchronisation cost beside the embedding model?
//!
//! ```text
//! cargo run --release -p bedrock-benches --bin ingest -- --embedder all-minilm-l6-v2
//! ```
//!
//! Writes a folder of short seeded documents and synchronises it three times: from nothing, unchanged, and with a hundredth of it changed. The
//! last line of standard output is a JSON object.
//!
//! - `ingest_s`, of which `embed_s` inside calls of the embedding model; `embed_share` is their ratio. The limit is 1; 0.9 is asked for.
//! - `resync_s`: nothing has changed. Under 2 is asked for.
//! - `change_s` and `change_share`, its part of `ingest_s`: a hundredth is what the embedding model needs; looking for changes is the rest.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bedrock_core::{BoxFuture, EmbedRequest, EmbedResponse, EmbeddingModel, EmbeddingModelInfo, Error};
use bedrock_examples::{Failure, ModelArguments, failure, find_model, print_json, run};
use bedrock_models::Embedder;
use bedrock_rag::{IngestOptions, KnowledgeBase};
use clap::Parser;
use serde_json::json;

/// Measures what a synchronisation costs beside the embedding model
#[derive(Parser)]
struct Arguments {
    /// Embedding model: a folder, a .gguf file, or a name of the catalogue
    #[arg(long, value_name = "M", default_value = "all-minilm-l6-v2")]
    embedder: String,
    /// Documents
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    documents: usize,
    /// Words of a document
    #[arg(long, value_name = "N", default_value_t = 25)]
    words: usize,
    /// Accepted for symmetry: there is always a JSON object
    #[arg(long, hide = true)]
    json: bool,
    #[command(flatten)]
    models: ModelArguments,
}

/// An embedding model and the time that was spent in it.
struct Timed {
    model: Embedder,
    nanoseconds: AtomicU64,
}

impl EmbeddingModel for Timed {
    fn embed<'a>(&'a self, request: &'a EmbedRequest) -> BoxFuture<'a, Result<EmbedResponse, Error>> {
        Box::pin(async move {
            let began = Instant::now();
            let result = self.model.embed(request).await;
            self.nanoseconds.fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
            result
        })
    }

    fn info(&self) -> EmbeddingModelInfo {
        self.model.info()
    }

    fn count_tokens(&self, text: &str) -> Result<usize, Error> {
        self.model.count_tokens(text)
    }
}

fn main() -> ExitCode {
    run(ingest)
}

fn ingest(arguments: Arguments) -> Result<(), Failure> {
    if arguments.documents < 100 || arguments.words == 0 {
        return Err(failure("there must be at least 100 documents, of at least one word"));
    }
    let model = Embedder::load(find_model(&arguments.embedder)?, &arguments.models.options())?;
    let model = Arc::new(Timed { model, nanoseconds: AtomicU64::new(0) });
    let folder = tempfile::tempdir()?;
    let documents = folder.path().join("documents");
    std::fs::create_dir(&documents)?;
    let write = |n: usize, edition: usize| {
        let path = documents.join(format!("{n:06}.md"));
        std::fs::write(path, text(n, edition, arguments.words))
    };
    (0..arguments.documents).try_for_each(|n| write(n, 0))?;
    let knowledge_base = KnowledgeBase::create(folder.path().join("knowledge.kb"), model.clone())?;
    let options = IngestOptions { delete_missing: true, ..IngestOptions::default() };
    let synchronise = || -> Result<_, Failure> {
        model.nanoseconds.store(0, Ordering::Relaxed);
        let began = Instant::now();
        let report = knowledge_base.ingest_folder_blocking(&documents, &options)?;
        let seconds = began.elapsed().as_secs_f64();
        Ok((seconds, model.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9, report.statistics))
    };
    let (ingest_s, embed_s, first) = synchronise()?;
    let (resync_s, _, unchanged) = synchronise()?;
    (0..arguments.documents).step_by(100).try_for_each(|n| write(n, 1))?;
    let (change_s, change_embed_s, changed) = synchronise()?;
    let complete = first.number_of_new_documents_indexed == arguments.documents as u64
        && unchanged.number_of_documents_skipped == arguments.documents as u64
        && changed.number_of_modified_documents_indexed == arguments.documents.div_ceil(100) as u64;
    if !complete {
        return Err(failure(format!("the statistics are not as they should be: {first:?} {unchanged:?} {changed:?}")));
    }
    let rounded = |x: f64| (x * 1e4).round() / 1e4;
    print_json(&json!({
        "documents": arguments.documents,
        "ingest_s": rounded(ingest_s),
        "embed_s": rounded(embed_s),
        "embed_share": rounded(embed_s / ingest_s),
        "resync_s": rounded(resync_s),
        "change_s": rounded(change_s),
        "change_embed_s": rounded(change_embed_s),
        "change_share": rounded(change_s / ingest_s),
    }))?;
    Ok(())
}

/// Words that a seed draws, after a heading.
fn text(n: usize, edition: usize, words: usize) -> String {
    const WORDS: [&str; 32] = [
        "water", "garden", "letter", "engine", "summer", "market", "bridge", "winter", "island", "teacher", "paper",
        "river", "window", "doctor", "forest", "story", "number", "village", "music", "mountain", "history", "kitchen",
        "morning", "picture", "station", "weather", "country", "question", "animal", "silver", "journey", "answer",
    ];
    let mut state = (n * 2 + edition) as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut text = format!("# Note {n}\n\n");
    for word in 0..words {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(WORDS[(state >> 59) as usize]);
        text.push_str(if word % 12 == 11 || word + 1 == words { ". " } else { " " });
    }
    text
}
