//! Are answers under random JSON schemas valid, all of them?
//!
//! ```text
//! cargo run --release -p bedrock-benches --bin schemas -- --model smollm2-135m-instruct
//! ```
//!
//! Schemas are random, from a seed: objects, arrays, alternatives, references, patterns, bounds; prompts take turns. Half of the answers take the likeliest
//! token each time, half are drawn at temperature 1. Each is checked by a validator that shares no code with what constrains
//! (that of the tests). The last line of standard output is a JSON object; the exit status is 1 if an answer that ended is not valid.
//!
//! - `valid`, `invalid`, `cut`: answers that ended with the end token and are valid, or are not; those that `--max-tokens` cut, because nothing
//!   that conforms was found to fit.
//! - `closed`: those of the valid that the constraint ended. A small model may well go on with a number's digits or a text without bounds; a
//!   penalty on repetitions, as users set it, makes that rare.
//! - `refused`: schemas that the compiler did not take.
//! - `tokens`, `tok_s`: tokens of the answers, and a second of all together, prompts and compiling included.

use std::fs::File;
use std::io::{LineWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
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
    /// The most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_tokens: usize,
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
    Valid { closed: bool },
    Invalid(String),
    Cut,
    Refused(String),
}

#[derive(Default)]
struct Counts {
    all: usize,
    valid: usize,
    closed: usize,
    invalid: usize,
    cut: usize,
    refused: usize,
    tokens: usize,
}

impl Counts {
    fn add(&mut self, outcome: &Outcome, tokens: usize) {
        self.all += 1;
        self.tokens += tokens;
        *match *outcome {
            Outcome::Valid { closed } => {
                self.closed += usize::from(closed);
                &mut self.valid
            }
            Outcome::Invalid(_) => &mut self.invalid,
            Outcome::Cut => &mut self.cut,
            Outcome::Refused(_) => &mut self.refused,
        } += 1;
    }
}

fn schemas(arguments: Arguments) -> Result<(), Failure> {
    if arguments.schemas == 0 || arguments.concurrency == 0 {
        return Err(failure("schemas and concurrency must be at least 1"));
    }
    let mut output = match &arguments.output {
        Some(path) => Some(LineWriter::new(File::create(path)?)),
        None => None,
    };
    let model = LocalChatModel::load(find_model(&arguments.model)?, &arguments.models.options())?;
    let prompt = |text: &&str| Ok(model.prompt(&ConverseRequest::new(model.model().id()).user(*text))?);
    let prompts: Vec<Vec<u32>> = PROMPTS.iter().map(prompt).collect::<Result<_, Failure>>()?;

    let (next, since) = (AtomicU64::new(0), Instant::now());
    let counts = Mutex::new((Counts::default(), &mut output));
    std::thread::scope(|scope| {
        let client = || -> Result<(), Failure> {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= arguments.schemas {
                    return Ok(());
                }
                let schema = schema::random(arguments.models.seed.wrapping_add(index));
                let prompt = &prompts[index as usize % prompts.len()];
                let (outcome, text, tokens) = answer(model.engine(), &schema, prompt, index, arguments.max_tokens)?;
                let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
                let (counts, output) = &mut *counts;
                counts.add(&outcome, tokens);
                if let Outcome::Invalid(why) | Outcome::Refused(why) = &outcome {
                    eprintln!("{why}: {text} under {schema}");
                }
                if let Some(output) = output {
                    let valid = matches!(outcome, Outcome::Valid { .. });
                    writeln!(output, "{}", json!({ "schema": schema, "text": text, "valid": valid }))?;
                }
                if counts.all.is_multiple_of(100) {
                    eprintln!("{} answers", counts.all);
                }
            }
        };
        let clients: Vec<_> = (0..arguments.concurrency).map(|_| scope.spawn(client)).collect();
        clients.into_iter().try_for_each(|client| client.join().map_err(|_| failure("a client panicked"))?)
    })?;
    let seconds = since.elapsed().as_secs_f64();
    let (counts, _) = counts.into_inner().unwrap_or_else(PoisonError::into_inner);
    print_json(&json!({
        "schemas": counts.all,
        "valid": counts.valid,
        "closed": counts.closed,
        "invalid": counts.invalid,
        "cut": counts.cut,
        "refused": counts.refused,
        "tokens": counts.tokens,
        "tok_s": counts.tokens as f64 / seconds,
        "seed": arguments.models.seed,
    }))?;
    if counts.invalid == 0 { Ok(()) } else { Err(failure("not all answers are valid")) }
}

/// Generates an answer and checks it.
fn answer(
    engine: &Engine,
    schema: &Value,
    prompt: &[u32],
    index: u64,
    max_tokens: usize,
) -> Result<(Outcome, String, usize), Error> {
    let temperature = (index % 2) as f32;
    let request = GenerationRequest {
        prompt: prompt.to_vec(),
        sampling: SamplingParams {
            temperature,
            seed: Some(index),
            repetition_penalty: 1.2,
            ..SamplingParams::default()
        },
        max_tokens: Some(max_tokens),
        constraint: Some(Constraint::JsonSchema(schema.clone())),
        ..GenerationRequest::default()
    };
    let generation = match engine.generate(request) {
        Err(Error::Constraint { reason, .. }) => return Ok((Outcome::Refused(reason), String::new(), 0)),
        generation => generation?,
    };
    let (mut text, mut tokens, mut end, mut closed) = (String::new(), 0, None, false);
    for event in generation {
        match event? {
            GenerationEvent::Token { text: part, .. } => {
                text.push_str(&part);
                tokens += 1;
            }
            GenerationEvent::Finished { reason, text: part, usage } => {
                text.push_str(&part);
                end = reason;
                closed = usage.closing_tokens > 0;
            }
            _ => {}
        }
    }
    let outcome = match (end, serde_json::from_str::<Value>(&text)) {
        (Some(FinishReason::EndOfText(_)), Ok(value)) => {
            schema::check(schema, schema, &value).map_or_else(Outcome::Invalid, |()| Outcome::Valid { closed })
        }
        (Some(FinishReason::EndOfText(_)), Err(error)) => Outcome::Invalid(error.to_string()),
        _ => Outcome::Cut,
    };
    Ok((outcome, text, tokens))
}
