//! What does a JSON schema cost while an answer is generated?
//!
//! ```text
//! cargo run --release -p bedrock-benches --bin structured -- --model smollm2-135m-instruct
//! ```
//!
//! The same model generates the same number of tokens free and under a schema, in turn, so that both see the same machine. The last
//! line of standard output is a JSON object.
//!
//! - `free_tok_s`, `constrained_tok_s`: tokens a second of all requests together, from the first token on; medians of the rounds.
//! - `ratio`: constrained by free, median of the rounds. The limit is 1: masks are computed beside the model.
//! - `first_schema_ms`, `schema_ms`: from a request to the engine's taking it: with the vocabulary to read, and without.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use bedrock_examples::{Failure, ModelArguments, failure, find_model, print_json, run};
use bedrock_models::generate::{Constraint, SamplingParams};
use bedrock_models::{Engine, GenerationEvent, GenerationRequest, LanguageModel};
use clap::Parser;
use serde_json::json;

/// Measures what a JSON schema costs while an answer is generated
#[derive(Parser)]
struct Arguments {
    /// Language model: a folder, a .gguf file, or a name of the catalogue
    #[arg(long, value_name = "M")]
    model: String,
    /// Schema whose values are long enough; default: a list of people
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// Tokens to generate for each request
    #[arg(long, value_name = "D", default_value_t = 128)]
    decode_tokens: usize,
    /// Requests at the same time
    #[arg(long, value_name = "C", default_value_t = 1)]
    concurrency: usize,
    /// Pairs of runs
    #[arg(long, value_name = "R", default_value_t = 7)]
    rounds: usize,
    /// Accepted for symmetry: there is always a JSON object
    #[arg(long, hide = true)]
    json: bool,
    #[command(flatten)]
    models: ModelArguments,
}

fn main() -> ExitCode {
    run(structured)
}

fn structured(arguments: Arguments) -> Result<(), Failure> {
    if arguments.rounds == 0 || arguments.concurrency == 0 || arguments.decode_tokens < 2 {
        return Err(failure("rounds and concurrency must be at least 1, tokens at least 2"));
    }
    let schema = match &arguments.schema {
        Some(path) => serde_json::from_str(&std::fs::read_to_string(path)?)?,
        None => people(),
    };
    let options = arguments.models.options();
    let model = Arc::new(LanguageModel::load(find_model(&arguments.model)?, &options)?);
    let prompt = model.tokenizer()?.encode("Write a list of famous people as JSON:\n", true)?;
    let engine = Engine::start(model, &options.engine)?;
    let request = |constraint: Option<Constraint>| GenerationRequest {
        prompt: prompt.clone(),
        sampling: SamplingParams::greedy(),
        max_tokens: Some(arguments.decode_tokens),
        ignore_end: constraint.is_none(),
        constraint,
        ..GenerationRequest::default()
    };
    let constraint = || Some(Constraint::JsonSchema(schema.clone()));
    let round = |constraint: Option<Constraint>| decode_rate(&engine, &request(constraint), arguments.concurrency);

    let first_schema_ms = queueing_ms(&engine, &request(constraint()))?;
    let schema_ms = queueing_ms(&engine, &request(constraint()))?;
    round(None)?;
    let mut rounds = Vec::new();
    for _ in 0..arguments.rounds {
        rounds.push((round(None)?, round(constraint())?));
    }
    let of = |figure: fn(&(f64, f64)) -> f64| median(rounds.iter().map(figure).collect());
    Ok(print_json(&json!({
        "free_tok_s": of(|(free, _)| *free),
        "constrained_tok_s": of(|(_, constrained)| *constrained),
        "ratio": of(|(free, constrained)| constrained / free),
        "first_schema_ms": first_schema_ms,
        "schema_ms": schema_ms,
        "rounds": rounds,
        "concurrency": arguments.concurrency,
        "decode_tokens": arguments.decode_tokens,
    }))?)
}

/// Values of all kinds, for as many tokens as a model that does not end the list uses; `minItems` would not let an answer be completed.
fn people() -> serde_json::Value {
    let person = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "born": {"type": "integer", "minimum": -800, "maximum": 2030},
            "alive": {"type": "boolean"},
            "field": {"enum": ["science", "music", "politics", "sports"]},
            "works": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
            "height": {"type": "number"},
        },
        "required": ["name", "born", "alive", "field", "works"],
        "additionalProperties": false,
    });
    json!({"type": "array", "items": person, "minItems": 1})
}

/// Milliseconds until the engine has taken a request.
fn queueing_ms(engine: &Engine, request: &GenerationRequest) -> Result<f64, Failure> {
    let since = Instant::now();
    let generation = engine.generate(request.clone())?;
    let taken = since.elapsed();
    drop(generation);
    Ok(taken.as_secs_f64() * 1e3)
}

/// Tokens that an answer under a schema may have fewer than it may: its parts are completed, not cut.
const COMPLETED: usize = 16;

/// Tokens a second of `concurrency` equal requests, from the last one's first token on.
fn decode_rate(engine: &Engine, request: &GenerationRequest, concurrency: usize) -> Result<f64, Failure> {
    let streams = (0..concurrency)
        .map(|_| engine.generate(request.clone()))
        .collect::<Result<Vec<_>, bedrock_models::Error>>()?;
    let (mut tokens, mut longest) = (0, 0f64);
    for stream in streams {
        for event in stream {
            if let GenerationEvent::Finished { usage, .. } = event? {
                // Under a schema it may be completed a few tokens before the last that it may have.
                if usage.generated_tokens + COMPLETED < request.max_tokens.unwrap_or_default() {
                    return Err(failure("the schema's values are too short for so many tokens"));
                }
                tokens += usage.generated_tokens - 1;
                longest = longest.max(usage.decode.as_secs_f64());
            }
        }
    }
    Ok(tokens as f64 / longest)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
