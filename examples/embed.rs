//! Turns the lines of a file into vectors.
//!
//! ```text
//! cargo run --release --example embed -- --model all-minilm-l6-v2 --input texts.txt --output vectors.jsonl
//! ```
//!
//! The last line of standard output is a JSON object with counts and speed. `texts_s` and `tokens_s` count the time in the
//! model alone.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bedrock_core::{EmbedPurpose, EmbedRequest, EmbeddingModel};
use bedrock_examples::{Failure, ModelArguments, failure, find_model, peak_rss_mib, print_json, run, timed};
use bedrock_models::Embedder;
use clap::{Parser, ValueEnum};
use serde_json::json;

/// Embeds the lines of a file
#[derive(Parser)]
struct Arguments {
    /// Embedding model: a folder, or a name of the catalogue
    #[arg(long, value_name = "M")]
    model: String,
    /// File with one text a line
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Texts given to the model at once
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch: usize,
    /// Keep so many values of each vector
    #[arg(long, value_name = "N")]
    dimensions: Option<usize>,
    /// Leave vectors at the length that they have
    #[arg(long)]
    no_normalize: bool,
    /// Which of the model's prompts comes before each text, if it has any
    #[arg(long, value_enum, default_value = "none")]
    prompt: Prompt,
    /// Write {index, embedding} to this file, one a line
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Accepted for symmetry: there is always a JSON object
    #[arg(long, hide = true)]
    json: bool,
    #[command(flatten)]
    models: ModelArguments,
}

#[derive(Clone, Copy, ValueEnum)]
enum Prompt {
    None,
    Query,
    Document,
}

fn main() -> ExitCode {
    run(embed)
}

fn embed(arguments: Arguments) -> Result<(), Failure> {
    let lines = open(&arguments.input)?;
    let mut output = match &arguments.output {
        Some(path) => Some(BufWriter::new(File::create(path).map_err(|error| named(path, error))?)),
        None => None,
    };
    let path = find_model(&arguments.model)?;
    let (model, load_s) = timed(|| Embedder::load(&path, &arguments.models.options()))?;
    let purpose = match arguments.prompt {
        Prompt::None => EmbedPurpose::Other,
        Prompt::Query => EmbedPurpose::Query,
        Prompt::Document => EmbedPurpose::Document,
    };

    let (mut texts, mut tokens, mut truncated, mut seconds) = (0, 0, 0, 0.0);
    let mut dims = arguments.dimensions.unwrap_or(model.info().dimensions);
    let mut lines = lines.lines();
    loop {
        let batch = lines.by_ref().take(arguments.batch.max(1)).collect::<Result<Vec<String>, _>>();
        let batch = batch.map_err(|error| named(&arguments.input, error))?;
        if batch.is_empty() {
            break;
        }
        let mut request = EmbedRequest::new(purpose, batch);
        request.truncate = true;
        request.dimensions = arguments.dimensions;
        request.normalize = arguments.no_normalize.then_some(false);
        let (response, took) = timed(|| model.embed_blocking(&request))?;
        seconds += took;
        tokens += response.input_tokens;
        truncated += response.truncated.len();
        for embedding in response.embeddings {
            dims = embedding.len();
            if let Some(output) = &mut output {
                serde_json::to_writer(&mut *output, &json!({"index": texts, "embedding": embedding}))?;
                writeln!(output)?;
            }
            texts += 1;
        }
        if texts % 1024 < arguments.batch {
            eprintln!("{texts} texts");
        }
    }
    if let Some(mut output) = output {
        output.flush()?;
    }
    let rate = |count: f64| if seconds > 0.0 { count / seconds } else { 0.0 };
    Ok(print_json(&json!({
        "texts": texts,
        "tokens": tokens,
        "texts_s": rate(texts as f64),
        "tokens_s": rate(tokens as f64),
        "load_s": load_s,
        "dims": dims,
        "truncated": truncated,
        "peak_rss_mib": peak_rss_mib(),
    }))?)
}

fn open(path: &Path) -> Result<BufReader<File>, Failure> {
    Ok(BufReader::new(File::open(path).map_err(|error| named(path, error))?))
}

fn named(path: &Path, error: std::io::Error) -> Failure {
    failure(format!("{}: {error}", path.display()))
}
