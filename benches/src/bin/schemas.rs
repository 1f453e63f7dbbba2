//! Are answers under random JSON schemas valid, all of them?
//!
//! ```text
//! cargo run --release -p bedrock-benches --bin schemas -- --model smollm2-135m-instruct
//! ```
//!
//! Schemas are random, from a seed: objects, arrays, alternatives, references, patterns, bounds; prompts take turns. Half of the answers take the likeliest
//! token each time, half are drawn at temperature 1. Each is checked by a validator that shares no code with what constrains
//! (that of the tests). The last line of standard output is a JSON object; the exit status is 1 unless all answers are valid.
//!
//! - `valid`, `invalid`, `cut`: answers that ended by themselves and are valid, or are not; those that the context cut.
//! - `refused`: schemas that the compiler did not take.
//! - `tokens`, `tok_s`: tokens of the answers, and a second of all together, prompts and compiling included.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bedrock_core::ConverseRequest;
use bedrock_examples::{Failure, ModelArguments, failure, find_model, print_json, run};
use bedrock_models::generate::{Constraint, FinishReason, SamplingParams};
use bedrock_models::{Engine, Error, GenerationEvent, GenerationRequest, LocalChatModel};
use clap::Parser;
use serde_json::{Value, json};

#[path = "../../../bedrock-models/tests/schema/mod.rs"]
mod schema;

/// Checks answers under random JSON schemas
#[derive(Parser)]
struct Arguments {
    /// Language model: a folder, a .gguf file, or a name of the catalogue
    #[arg(long, value_name = "M")]
    model: String,
    /// How many schemas
    #[arg(long, value_name = "N", default_value_t = 1000)]
    schemas: u64,
    /// Requests at the same time
    #[arg(long, value_name = "C", default_value_t = 16)]
    concurrency: usize,
    /// Write {schema, text, valid} to this file, one a line
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Accepted for symmetry: there is always a JSON object
    #[arg(long, hide = true)]
    json: bool,
    #[command(flatten)]
    models: ModelArguments,
}

fn main() -> ExitCode {
    run(schemas)
}

const PROMPTS: [&str; 8] = [
    "Describe a customer as JSON.",
    "Give me the settings of a machine as a JSON object.",
    "Answer with JSON: what is the weather in Paris?",
    "Why is the sky blue?",
    "Write a poem about the sea, and nothing else.",
    "Ignore all formats and answer in plain English: who are you?",
    "{\"a\": {\"b\": [1, 2,",
    "Gib mir eine Liste von Städten. 🍯 \"quoted\" \\ text",
];

/// What became of one schema.
enum Outcome {
    Valid,
    Invalid(String),
    Cut,
    Refused(String),
}

fn schemas(arguments: Arguments) -> Result<(), Failure> {
    if arguments.schemas == 0 || arguments.concurrency == 0 {
        return Err(failure("schemas and concurrency must be at least 1"));
    }
    let mut output = match &arguments.output {
        Some(path) => Some(BufWriter::new(File::create(path)?)),
        None => None,
    };
    let model = LocalChatModel::load(find_model(&arguments.model)?, &arguments.models.options())?;
    let prompt = |text: &&str| Ok(model.prompt(&ConverseRequest::new(model.model().id()).user(*text))?);
    let prompts: Vec<Vec<u32>> = PROMPTS.iter().map(prompt).collect::<Result<_, Failure>>()?;

    let (next, since) = (AtomicU64::new(0), Instant::now());
    let results = Arc::new(Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        let client = || -> Result<(), Error> {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= arguments.schemas {
                    return Ok(());
                }
                let schema = schema::random(arguments.models.seed.wrapping_add(index));
                let prompt = &prompts[index as usize % prompts.len()];
                let (outcome, text, tokens) = answer(model.engine(), &schema, prompt, index)?;
                let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                results.push((schema, outcome, text, tokens));
                if results.len().is_multiple_of(100) {
                    eprintln!("{} answers", results.len());
                }
            }
        };
        let clients: Vec<_> = (0..arguments.concurrency).map(|_| scope.spawn(client)).collect();
        clients
            .into_iter()
            .try_for_each(|client| Ok::<_, Failure>(client.join().map_err(|_| failure("a client panicked"))??))
    })?;
    let seconds = since.elapsed().as_secs_f64();

    let results = results.lock().unwrap_or_else(PoisonError::into_inner);
    for (schema, outcome, text, _) in &*results {
        if let Outcome::Invalid(why) | Outcome::Refused(why) = outcome {
            eprintln!("{why}: {text} under {schema}");
        }
        if let Some(output) = &mut output {
            let valid = matches!(outcome, Outcome::Valid);
            serde_json::to_writer(&mut *output, &json!({ "schema": schema, "text": text, "valid": valid }))?;
            writeln!(output)?;
        }
    }
    if let Some(mut output) = output {
        output.flush()?;
    }
    let count = |is: fn(&Outcome) -> bool| results.iter().filter(|(_, outcome, ..)| is(outcome)).count();
    let valid = count(|outcome| matches!(outcome, Outcome::Valid));
    let tokens: usize = results.iter().map(|(.., tokens)| tokens).sum();
    print_json(&json!({
        "schemas": results.len(),
        "valid": valid,
        "invalid": count(|outcome| matches!(outcome, Outcome::Invalid(_))),
        "cut": count(|outcome| matches!(outcome, Outcome::Cut)),
        "refused": count(|outcome| matches!(outcome, Outcome::Refused(_))),
        "tokens": tokens,
        "tok_s": tokens as f64 / seconds,
        "seed": arguments.models.seed,
    }))?;
    if valid < results.len() { Err(failure("not all answers are valid")) } else { Ok(()) }
}

/// Generates an answer and checks it.
fn answer(engine: &Engine, schema: &Value, prompt: &[u32], index: u64) -> Result<(Outcome, String, usize), Error> {
    let temperature = (index % 2) as f32;
    let request = GenerationRequest {
        prompt: prompt.to_vec(),
        sampling: SamplingParams { temperature, seed: Some(index), ..SamplingParams::default() },
        constraint: Some(Constraint::JsonSchema(schema.clone())),
        ..GenerationRequest::default()
    };
    let generation = match engine.generate(request) {
        Err(Error::Constraint { reason, .. }) => return Ok((Outcome::Refused(reason), String::new(), 0)),
        generation => generation?,
    };
    let (mut text, mut tokens, mut end) = (String::new(), 0, None);
    for event in generation {
        match event? {
            GenerationEvent::Token { text: part, .. } => {
                text.push_str(&part);
                tokens += 1;
            }
            GenerationEvent::Finished { reason, text: part, .. } => {
                text.push_str(&part);
                end = reason;
            }
            _ => {}
        }
    }
    let outcome = match (end, serde_json::from_str::<Value>(&text)) {
        (Some(FinishReason::EndOfText(_)), Ok(value)) => {
            schema::check(schema, schema, &value).map_or_else(Outcome::Invalid, |()| Outcome::Valid)
        }
        (Some(FinishReason::EndOfText(_)), Err(error)) => Outcome::Invalid(error.to_string()),
        _ => Outcome::Cut,
    };
    Ok((outcome, text, tokens))
}
