//! Generates text with a local language model.
//!
//! ```text
//! cargo run --release --example generate -- --model smollm2-135m-instruct --chat "Why is the sky blue?"
//! ```
//!
//! The text streams to standard output, or with `--json` to standard error; the last line of standard output is a JSON
//! object with the tokens and the speed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bedrock_core::{ConverseRequest, StopReason};
use bedrock_examples::{
    Failure, ModelArguments, failure, find_model, peak_rss_mib, print_json, print_line, print_part, run, timed,
};
use bedrock_models::generate::{Constraint, FinishReason, SamplingParams};
use bedrock_models::{GenerationEvent, GenerationRequest, GenerationUsage, LoadOptions, LocalChatModel};
use clap::Parser;
use serde_json::json;

/// Generates text
#[derive(Parser)]
struct Arguments {
    /// Language model: a folder, a .gguf file, or a name of the catalogue
    #[arg(long, value_name = "M")]
    model: String,
    #[command(flatten)]
    input: Input,
    /// Instructions above the conversation
    #[arg(long, value_name = "TEXT", requires = "chat")]
    system: Option<String>,
    /// Most tokens to generate
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_tokens: usize,
    /// 0 takes the likeliest token each time
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f32,
    /// Sample among the likeliest tokens that together have this probability
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Sample among so many of the likeliest tokens
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// End before this text; may be given several times
    #[arg(long, value_name = "S")]
    stop: Vec<String>,
    /// Answer with JSON that is valid under this schema
    #[arg(long, value_name = "FILE")]
    json_schema: Option<PathBuf>,
    /// Go on after the end of the text
    #[arg(long)]
    ignore_eos: bool,
    /// Report so many of the largest logits after the prompt
    #[arg(long, value_name = "N")]
    logits: Option<usize>,
    /// A LoRA adapter to answer with, a folder
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Nothing but the JSON object on standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    models: ModelArguments,
}

/// One of the three.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Input {
    /// Raw text to continue
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// What the user says, put into the model's chat template
    #[arg(long, value_name = "TEXT")]
    chat: Option<String>,
    /// Token ids to continue
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    tokens: Option<Vec<u32>>,
}

fn main() -> ExitCode {
    run(generate)
}

fn generate(arguments: Arguments) -> Result<(), Failure> {
    let constraint = arguments.json_schema.as_deref().map(json_schema).transpose()?;
    let path = find_model(&arguments.model)?;
    let options = LoadOptions { adapter: arguments.adapter.clone(), ..arguments.models.options() };
    let (model, load_s) = timed(|| LocalChatModel::load(&path, &options))?;
    let prompt = prompt(&model, &arguments)?;

    let sampling = SamplingParams {
        temperature: arguments.temperature,
        top_p: arguments.top_p,
        top_k: arguments.top_k,
        seed: Some(arguments.models.seed),
        ..SamplingParams::default()
    };
    let generation = model.engine().generate(GenerationRequest {
        prompt: prompt.clone(),
        sampling,
        max_tokens: Some(arguments.max_tokens),
        stop_sequences: arguments.stop,
        ignore_end: arguments.ignore_eos,
        constraint,
        ..GenerationRequest::default()
    })?;
    let show = |part: &str| {
        if arguments.json {
            eprint!("{part}");
            return Ok(());
        }
        print_part(part)
    };
    let (mut text, mut ids, mut end) = (String::new(), Vec::new(), None);
    for event in generation {
        let part = match event? {
            GenerationEvent::Token { id, text, .. } => {
                ids.push(id);
                text
            }
            GenerationEvent::Finished { reason, text, usage } => {
                end = Some((stop_reason(reason), usage));
                text
            }
            _ => continue,
        };
        show(&part)?;
        text.push_str(&part);
    }
    let (stop_reason, usage) = end.ok_or_else(|| failure("the model stopped without saying why"))?;
    if arguments.json {
        eprintln!()
    } else {
        print_line("")?
    }

    let mut report = json!({
        "text": text,
        "token_ids": ids,
        "prompt_token_ids": prompt,
        "stop_reason": stop_reason,
        "load_s": load_s,
        "prefill_tok_s": rate(usage.prompt_tokens, usage.prefill.as_secs_f64()),
        "decode_tok_s": decode_rate(&usage),
        "ttft_ms": usage.first_token.as_secs_f64() * 1e3,
        "peak_rss_mib": peak_rss_mib(),
    });
    if let Some(count) = arguments.logits {
        report["logits"] = json!(largest_logits(&model, &prompt, count)?);
    }
    Ok(print_json(&report)?)
}

/// The schema in a file.
fn json_schema(path: &Path) -> Result<Constraint, Failure> {
    let text = fs::read_to_string(path).map_err(|error| failure(format!("cannot read {}: {error}", path.display())))?;
    let schema = serde_json::from_str(&text);
    let schema = schema.map_err(|error| failure(format!("{} is not JSON: {error}", path.display())))?;
    Ok(Constraint::JsonSchema(schema))
}

/// The prompt in tokens.
fn prompt(model: &LocalChatModel, arguments: &Arguments) -> Result<Vec<u32>, Failure> {
    let Input { prompt, chat, tokens } = &arguments.input;
    if let Some(text) = chat {
        let mut request = ConverseRequest::new(model.model().id()).user(text.as_str());
        if let Some(system) = &arguments.system {
            request = request.system(system.as_str());
        }
        return Ok(model.prompt(&request)?);
    }
    match tokens {
        Some(tokens) => Ok(tokens.clone()),
        None => Ok(model.model().tokenizer()?.encode(prompt.as_deref().unwrap_or_default(), true)?),
    }
}

/// The service's name for why a generation ended.
fn stop_reason(reason: Option<FinishReason>) -> StopReason {
    match reason {
        Some(FinishReason::EndOfText(_)) => StopReason::EndTurn,
        Some(FinishReason::StopSequence(_)) => StopReason::StopSequence,
        Some(FinishReason::MaxTokens) => StopReason::MaxTokens,
        None => StopReason::ModelContextWindowExceeded,
    }
}

/// Tokens a second from the first token on: that one belongs to the prompt.
fn decode_rate(usage: &GenerationUsage) -> f64 {
    rate(usage.generated_tokens.saturating_sub(1), usage.decode.as_secs_f64())
}

fn rate(count: usize, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

/// The largest logits after the prompt, with their ids: largest first, lower ids first among equals.
fn largest_logits(model: &LocalChatModel, prompt: &[u32], count: usize) -> Result<Vec<(u32, f32)>, Failure> {
    let logits = model.model().last_logits(&[prompt.to_vec()])?.concat();
    let mut ranked: Vec<(u32, f32)> = (0..).zip(logits).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    ranked.truncate(count);
    Ok(ranked)
}
