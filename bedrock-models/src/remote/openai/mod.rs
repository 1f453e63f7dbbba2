//! Servers that speak OpenAI's interface: OpenAI itself, vLLM, the servers of llama.cpp, Ollama, Mistral and many more.

mod answer;
mod embed;
mod request;

use std::time::Instant;

use bedrock_core::{
    BoxFuture, ChatModel, Collector, ContentBlock, ConverseRequest, ConverseResponse, Error, EventStream, Role,
};
use serde_json::{Map, Value};

pub(super) use answer::{Answer, Chunk};
pub use embed::OpenAiEmbedder;
pub(super) use request::{Dialect, Media, body, messages, tool};

use super::ask::{add_fields, check, no_effort, no_tier, refuse, refuse_block, schema};
use super::events::SseReader;
use super::failure::Malformed;
use super::options::RemoteOptions;
use super::runtime::stream;
use super::secret::{Secret, variable};
use super::transport::{Authorization, Call, Transport};
use super::vectors::RemoteEmbedderSpec;

/// OpenAI's own address.
const ADDRESS: &str = "https://api.openai.com/v1";

/// A server that speaks OpenAI's interface.
///
/// ```no_run
/// use bedrock_core::{ChatModel, ConverseRequest};
/// use bedrock_models::remote::OpenAi;
///
/// let model = OpenAi::from_env()?.chat("gpt-4o-mini");
/// println!("{}", model.converse_blocking(&ConverseRequest::new("any").user("Why is the sky blue?"))?.text());
/// # Ok::<(), bedrock_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct OpenAi {
    transport: Transport,
    dialect: Dialect,
    address: String,
}

impl OpenAi {
    /// A server by its base address, such as `http://127.0.0.1:11434/v1`, with a key if it asks for one.
    ///
    /// # Errors
    /// [`Error::Validation`] for an address that is none, that carries a password, or that would show the key on the way.
    pub fn new(address: &str, key: Option<Secret>, options: &RemoteOptions) -> Result<Self, Error> {
        let authorization = key.map_or(Authorization::None, Authorization::Bearer);
        let own = address.starts_with("https://api.openai.com/");
        let max_tokens = if own { "max_completion_tokens" } else { "max_tokens" };
        let dialect = Dialect { max_tokens, stream_options: true, media: Media::All, extras: true };
        Ok(Self { transport: Transport::new(address, authorization, options)?, dialect, address: address.to_owned() })
    }

    /// The server of `OPENAI_BASE_URL` (OpenAI's own, if not set) with the key in `OPENAI_API_KEY`, which only OpenAI itself
    /// needs.
    ///
    /// # Errors
    /// [`Error::AccessDenied`] if OpenAI's key is not set; those of [`OpenAi::new`].
    pub fn from_env() -> Result<Self, Error> {
        let options = RemoteOptions::default();
        match std::env::var("OPENAI_BASE_URL").ok().filter(|address| !address.trim().is_empty()) {
            Some(address) => Self::new(address.trim(), variable("OPENAI_API_KEY").ok(), &options),
            None => Self::new(ADDRESS, Some(variable("OPENAI_API_KEY")?), &options),
        }
    }

    /// A chat model.
    pub fn chat(&self, model: impl Into<String>) -> OpenAiChat {
        OpenAiChat { server: self.clone(), model: model.into() }
    }

    /// A model that continues raw text.
    pub fn completions(&self, model: impl Into<String>) -> OpenAiCompletions {
        OpenAiCompletions { server: self.clone(), model: model.into() }
    }

    /// An embedding model.
    pub fn embedder(&self, model: impl Into<String>, spec: RemoteEmbedderSpec) -> OpenAiEmbedder {
        OpenAiEmbedder::new(self.clone(), model.into(), spec)
    }
}

/// Begins an answer in chunks.
pub(super) async fn chat_stream(
    transport: &Transport,
    path: &str,
    body: &Map<String, Value>,
    request: &ConverseRequest,
) -> Result<EventStream<'static>, Error> {
    let since = Instant::now();
    let response = transport.begin(Call::events(path, body)?).await?;
    let answer = Answer::new(transport.clone(), request.additional_model_response_field_paths.clone(), since);
    stream(transport, response, SseReader::new(transport.limits().event, answer))
}

/// A whole answer.
pub(super) async fn chat_whole(
    transport: &Transport,
    path: &str,
    body: &Map<String, Value>,
    request: &ConverseRequest,
) -> Result<ConverseResponse, Error> {
    let since = Instant::now();
    let chunk: Chunk = transport.json(Call::json(path, body)?, "an answer").await?;
    let mut answer = Answer::new(transport.clone(), request.additional_model_response_field_paths.clone(), since);
    let mut events = Vec::new();
    answer.chunk(chunk, &mut events)?;
    answer.finish(&mut events).map_err(|_| Malformed::Missing { what: "an answer", missing: "a choice" }.whole())?;
    let mut collector = Collector::new();
    events.into_iter().try_for_each(|event| collector.push(event))?;
    collector.finish()
}

/// A chat model behind [`OpenAi`].
///
/// What a request says is translated, or refused as [`Error::Validation`] if the interface has no place for it: cache points, citations,
/// video, files other than PDF and texts, pictures in answers of tools, a last turn of the model's own, reasoning with a signature. Of documents that are
/// texts, the name and the text are sent; a failed tool's answer is marked with `Error: `. Reasoning goes back as `reasoning_content`. `requestMetadata` is
/// for logs and not sent. `additionalModelRequestFields` are sent as they are (`logprobs`, `seed`, …), and the server checks them.
///
/// `stop_sequence` is reported by servers alone that say which it was (vLLM); elsewhere such an answer ends in `end_turn`. Streams report usage if the
/// server does, else zero: [`ChatModel::converse`] asks for a whole answer, which always has it. Log-probabilities are in
/// `additionalModelResponseFields.logprobs`, one entry a token.
#[derive(Debug, Clone)]
pub struct OpenAiChat {
    server: OpenAi,
    model: String,
}

impl ChatModel for OpenAiChat {
    fn converse_stream<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<EventStream<'a>, Error>> {
        Box::pin(async move {
            let body = body(request, &self.model, &self.server.dialect, true)?;
            chat_stream(&self.server.transport, "chat/completions", &body, request).await
        })
    }

    fn converse<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<ConverseResponse, Error>> {
        Box::pin(async move {
            let body = body(request, &self.model, &self.server.dialect, false)?;
            chat_whole(&self.server.transport, "chat/completions", &body, request).await
        })
    }
}

/// A model behind [`OpenAi`] that continues raw text: a request is one turn of the user, of texts alone, and the answer is what follows.
#[derive(Debug, Clone)]
pub struct OpenAiCompletions {
    server: OpenAi,
    model: String,
}

impl OpenAiCompletions {
    fn body(&self, request: &ConverseRequest, stream: bool) -> Result<Map<String, Value>, Error> {
        check(request)?;
        no_effort(request)?;
        no_tier(request)?;
        let ([message], []) = (&request.messages[..], &request.system[..]) else {
            return refuse("messages", "this model continues one text, without system and turns");
        };
        if message.role != Role::User {
            return refuse("messages.0.role", "this model continues a text of the user");
        }
        for (field, set) in
            [("toolConfig", request.tool_config.is_some()), ("outputConfig.textFormat", schema(request)?.is_some())]
        {
            if set {
                return refuse(field, "this model continues raw text");
            }
        }
        let mut prompt = String::new();
        for (index, block) in message.content.iter().enumerate() {
            match block {
                ContentBlock::Text(text) => prompt.push_str(text),
                other => return refuse_block(&format!("messages.0.content.{index}"), other),
            }
        }
        let mut body = Map::new();
        body.insert("model".into(), self.model.clone().into());
        body.insert("prompt".into(), prompt.into());
        let dialect = Dialect { max_tokens: "max_tokens", ..self.server.dialect };
        request::length_and_sampling(&mut body, request, &dialect);
        if stream {
            body.insert("stream".into(), true.into());
            body.insert("stream_options".into(), serde_json::json!({"include_usage": true}));
        }
        add_fields(&mut body, request, &["stream", "stream_options", "stop", "max_tokens", "n", "echo", "suffix"])?;
        Ok(body)
    }
}

impl ChatModel for OpenAiCompletions {
    fn converse_stream<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<EventStream<'a>, Error>> {
        Box::pin(async move {
            let body = self.body(request, true)?;
            chat_stream(&self.server.transport, "completions", &body, request).await
        })
    }

    fn converse<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<ConverseResponse, Error>> {
        Box::pin(async move {
            let body = self.body(request, false)?;
            chat_whole(&self.server.transport, "completions", &body, request).await
        })
    }
}
