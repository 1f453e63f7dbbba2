//! Measures how well a language model predicts a text.
//!
//! ```text
//! cargo run --release --example perplexity -- --model smollm2-135m-instruct --input text.txt --context 512
//! ```
//!
//! The last line of standard output is a JSON object: tokens that were predicted, the mean of their negative log-probabilities
//! (natural logarithm) and its exponential.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use bedrock_examples::{Failure, ModelArguments, failure, find_model, peak_rss_mib, print_json, run, timed};
use bedrock_models::LanguageModel;
use clap::Parser;
use serde_json::json;

/// The largest text, in bytes.
const MAX_TEXT: u64 = 256 << 20;

/// Measures how well a language model predicts a text
#[derive(Parser)]
struct Arguments {
    /// Language model: a folder, a .gguf file, or a name of the catalogue
    #[arg(long, value_name = "M")]
    model: String,
    /// The text
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Tokens that are looked at together; default: 1024, or what the model can take if that is less
    #[arg(long, value_name = "N")]
    context: Option<usize>,
    /// Tokens from one window to the next; default: the context, so that windows do not overlap
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    /// A LoRA adapter as PEFT writes it, a folder
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Accepted as everywhere: standard output has nothing but the JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    models: ModelArguments,
}

fn main() -> ExitCode {
    run(perplexity)
}

fn perplexity(arguments: Arguments) -> Result<(), Failure> {
    let _ = arguments.json;
    let path = arguments.input.display();
    let cannot_read = |error| failure(format!("cannot read {path}: {error}"));
    if fs::metadata(&arguments.input).map_err(cannot_read)?.len() > MAX_TEXT {
        return Err(failure(format!("{path} has more than {MAX_TEXT} bytes")));
    }
    let text = fs::read_to_string(&arguments.input).map_err(cannot_read)?;
    let mut options = arguments.models.options();
    options.adapter = arguments.adapter;
    let model = LanguageModel::load(find_model(&arguments.model)?, &options)?;
    let tokens = model.tokenizer()?.encode(&text, true)?;
    let context = arguments.context.unwrap_or(model.max_tokens().min(1024));
    let stride = arguments.stride.unwrap_or(context);
    let (found, seconds) = timed(|| model.perplexity(&tokens, context, stride))?;
    let mut report = serde_json::to_value(found)?;
    report["context"] = json!(context);
    report["stride"] = json!(stride);
    report["tokens_s"] = json!(found.tokens as f64 / seconds.max(1e-9));
    report["peak_rss_mib"] = json!(peak_rss_mib());
    Ok(print_json(&report)?)
}
