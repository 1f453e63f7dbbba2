//! Asks a model behind somebody else's server, and streams its answer.
//!
//! ```text
//! OPENAI_BASE_URL=http://127.0.0.1:8000/v1 \
//!   cargo run --release -p bedrock-examples --features remote --example remote -- --model openai:smollm2 --chat "Why is the sky blue?"
//! ```
//!
//! Addresses and keys come from the environment: `OPENAI_API_KEY`, `ANTHROPIC_API_KEY`, `AWS_REGION` with `AWS_BEARER_TOKEN_BEDROCK` or
//! `AWS_ACCESS_KEY_ID`, `CO_API_KEY`, `AI21_API_KEY`. With `--json` the text goes to standard error, and the last line of standard
//! output is the response as the service writes it.

use std::process::ExitCode;

use bedrock_core::{ChatModel, Collector, ConverseRequest, EmbedRequest, EmbeddingModel};
use bedrock_examples::{Failure, failure, print_json, print_line, print_part, run};
use bedrock_models::remote::{OpenAi, RemoteEmbedderSpec, chat_model};
use clap::Parser;
use futures::StreamExt;
use futures::executor::block_on;

/// Asks a remote model
#[derive(Parser)]
struct Arguments {
    /// openai:NAME, anthropic:NAME, bedrock:ID, cohere:NAME or ai21:NAME
    #[arg(long, value_name = "M")]
    model: String,
    /// What the user says
    #[arg(long, value_name = "TEXT")]
    chat: String,
    /// Instructions above the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Most tokens of the answer
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,
    /// 0 takes the likeliest token each time
    #[arg(long, value_name = "T")]
    temperature: Option<f64>,
    /// End before this text; may be given several times
    #[arg(long, value_name = "S")]
    stop: Vec<String>,
    /// A field that only some models know, as NAME=JSON; may be given several times
    #[arg(long, value_name = "NAME=JSON", value_parser = field)]
    field: Vec<(String, serde_json::Value)>,
    /// Ask for the whole answer at once
    #[arg(long)]
    whole: bool,
    /// Embed the text instead, with an openai: model whose vectors have N values
    #[arg(long, value_name = "N")]
    embed: Option<usize>,
    /// Nothing but the JSON object on standard output
    #[arg(long)]
    json: bool,
}

fn field(text: &str) -> Result<(String, serde_json::Value), String> {
    let (name, value) = text.split_once('=').ok_or("there is no = in it")?;
    Ok((name.to_owned(), serde_json::from_str(value).map_err(|error| error.to_string())?))
}

fn main() -> ExitCode {
    run(ask)
}

fn ask(arguments: Arguments) -> Result<(), Failure> {
    if let Some(dimensions) = arguments.embed {
        return embed(&arguments, dimensions);
    }
    let model = chat_model(&arguments.model)?;
    let mut request = ConverseRequest::new(arguments.model.as_str()).user(arguments.chat.as_str());
    if let Some(system) = &arguments.system {
        request = request.system(system.as_str());
    }
    if let Some(tokens) = arguments.max_tokens {
        request = request.max_tokens(tokens);
    }
    if let Some(temperature) = arguments.temperature {
        request = request.temperature(temperature);
    }
    request = arguments.stop.iter().fold(request, |request, stop| request.stop_sequence(stop.as_str()));
    for (name, value) in &arguments.field {
        request = request.additional_field(name.as_str(), value.clone());
    }
    let show = |part: &str| {
        if arguments.json {
            eprint!("{part}");
            return Ok(());
        }
        print_part(part)
    };
    let response = if arguments.whole {
        let response = model.converse_blocking(&request)?;
        show(&response.text())?;
        response
    } else {
        block_on(async {
            let mut events = model.converse_stream(&request).await?;
            let mut collector = Collector::new();
            while let Some(event) = events.next().await {
                let event = event?;
                show(event.as_text().unwrap_or_default())?;
                collector.push(event)?;
            }
            Ok::<_, Failure>(collector.finish()?)
        })?
    };
    if !arguments.json {
        return Ok(print_line("")?);
    }
    eprintln!();
    Ok(print_json(&serde_json::to_value(&response)?)?)
}

/// The text's vector.
fn embed(arguments: &Arguments, dimensions: usize) -> Result<(), Failure> {
    let name = arguments.model.strip_prefix("openai:").ok_or_else(|| failure("--embed needs an openai: model"))?;
    // Nobody asks how much the model takes, and the server refuses what is too long.
    let model = OpenAi::from_env()?.embedder(name, RemoteEmbedderSpec::new(dimensions, usize::MAX));
    let response = model.embed_blocking(&EmbedRequest::documents([arguments.chat.as_str()]))?;
    Ok(print_json(&serde_json::json!({"embeddings": response.embeddings, "inputTokens": response.input_tokens}))?)
}
