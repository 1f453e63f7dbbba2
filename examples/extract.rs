//! What is in these files? Reads each and prints its text and what it says about itself, one JSON object a file.
//!
//! ```text
//! cargo run --release --example extract -- examples/data/docs/*
//! ```
//!
//! Text, Markdown, HTML, CSV, PDF, Word and Excel files. One that can't be read is a line with `"ok": false` and the reason;
//! the rest goes on, and the status is 0.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bedrock_examples::{Failure, print_json, run};
use bedrock_rag::document::{ExtractOptions, extract_file};
use clap::Parser;
use serde_json::{Value, json};

/// Prints the text of documents as JSON lines.
#[derive(Parser)]
struct Arguments {
    /// The files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Largest file read, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = ExtractOptions::default().max_bytes)]
    max_bytes: u64,
    /// Longest time for one file, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = ExtractOptions::default().max_time.as_secs())]
    max_seconds: u64,
}

fn main() -> ExitCode {
    run(extract)
}

fn extract(arguments: Arguments) -> Result<(), Failure> {
    let options = ExtractOptions {
        max_bytes: arguments.max_bytes,
        max_time: Duration::from_secs(arguments.max_seconds),
        ..ExtractOptions::default()
    };
    for file in arguments.files {
        let start = Instant::now();
        let extracted = extract_file(&file, &options);
        let elapsed_ms = start.elapsed().as_secs_f64() * 1e3;
        let name = file.to_string_lossy();
        match extracted {
            Ok(document) => {
                let mut metadata = document.metadata;
                if let Some(title) = document.title {
                    metadata.insert("title".to_owned(), Value::from(title));
                }
                let headings: Vec<Value> = document
                    .headings
                    .iter()
                    .map(|heading| json!({"level": heading.level, "start": heading.start, "text": heading.text}))
                    .collect();
                print_json(&json!({
                    "file": name,
                    "ok": true,
                    "format": document.format,
                    "text": document.text,
                    "error": null,
                    "metadata": metadata,
                    "headings": headings,
                    "elapsed_ms": elapsed_ms,
                }))?;
            }
            Err(error) => {
                let mut reason = error.to_string();
                let mut cause = std::error::Error::source(&error);
                while let Some(error) = cause {
                    reason = format!("{reason}: {error}");
                    cause = error.source();
                }
                print_json(&json!({
                    "file": name,
                    "ok": false,
                    "format": null,
                    "text": null,
                    "error": reason,
                    "metadata": {},
                    "elapsed_ms": elapsed_ms,
                }))?;
            }
        }
    }
    Ok(())
}
