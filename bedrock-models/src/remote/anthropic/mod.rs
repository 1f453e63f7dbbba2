//! Anthropic's Messages interface.

mod answer;
mod citation;
mod request;

use std::time::Instant;

use bedrock_core::{BoxFuture, ChatModel, ConverseRequest, Error, EventStream};
use serde::Deserialize;

use super::events::SseReader;
use super::options::RemoteOptions;
use super::runtime::stream;
use super::secret::{Secret, variable};
use super::transport::{Authorization, Call, Transport};
use answer::Answer;
use request::{body, count_body};

/// Anthropic's own address.
const ADDRESS: &str = "https://api.anthropic.com";

/// The version of the interface that is spoken.
const VERSION: &str = "2026-10-21";

/// A chat model behind Anthropic's Messages interface.
///
/// Pictures, PDF and text documents, search results, citations, cache points, tools, JSON schemas, effort, reasoning (asked for with the additional field
/// `thinking`) and a last turn of the model's own are all honoured. `maxTokens`, which the interface must have, is 4,096 if not set.
/// Encrypted reasoning is carried as the bytes of its text. Sound, video, system turns, system tools and service tiers are refused as
/// [`Error::Validation`]. `requestMetadata` is for logs and not sent. A refusal (`refusal`) is the stop reason `content_filtered`.
///
/// ```no_run
/// use bedrock_core::{ChatModel, ConverseRequest};
/// use bedrock_models::remote::Anthropic;
///
/// let model = Anthropic::from_env("claude-haiku-4-5")?;
/// println!("{}", model.converse_blocking(&ConverseRequest::new("any").user("Why is the sky blue?"))?.text());
/// # Ok::<(), bedrock_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Anthropic {
    transport: Transport,
    model: String,
}

#[derive(Deserialize)]
struct Count {
    input_tokens: u32,
}

impl Anthropic {
    /// A model of the server at `address`, such as `https://api.anthropic.com`. The key goes as a bearer token, as Anthropic's own packages send it;
    /// a gateway that wants it as `x-api-key` gets it by [`RemoteOptions::headers`].
    ///
    /// # Errors
    /// [`Error::Validation`] for an address that is none, that carries a password, or that would show the key on the way.
    pub fn new(address: &str, key: Secret, model: impl Into<String>, options: &RemoteOptions) -> Result<Self, Error> {
        let transport = Transport::new(address, Authorization::Bearer(key), options)?;
        Ok(Self { transport, model: model.into() })
    }

    /// A model of the server of `ANTHROPIC_BASE_URL` (Anthropic's own, if not set) with the key in `ANTHROPIC_API_KEY`.
    ///
    /// # Errors
    /// [`Error::AccessDenied`] if the key is not set; those of [`Anthropic::new`].
    pub fn from_env(model: impl Into<String>) -> Result<Self, Error> {
        let address = std::env::var("ANTHROPIC_BASE_URL").ok().filter(|address| !address.trim().is_empty());
        let address = address.as_deref().unwrap_or(ADDRESS);
        Self::new(address, variable("ANTHROPIC_API_KEY")?, model, &RemoteOptions::default())
    }

    fn versioned(call: Call) -> Call {
        Call { headers: vec![("anthropic-version", VERSION.to_owned())], ..call }
    }
}

impl ChatModel for Anthropic {
    fn converse_stream<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<EventStream<'a>, Error>> {
        Box::pin(async move {
            let since = Instant::now();
            let call = Self::versioned(Call::events("v1/messages", &body(request, &self.model)?)?);
            let response = self.transport.begin(call).await?;
            let paths = request.additional_model_response_field_paths.clone();
            let answer = Answer::new(self.transport.clone(), paths, since);
            stream(&self.transport, response, SseReader::new(self.transport.limits().event, answer))
        })
    }

    fn count_tokens<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<u32, Error>> {
        Box::pin(async move {
            let call = Self::versioned(Call::json("v1/messages/count_tokens", &count_body(request, &self.model)?)?);
            Ok(self.transport.json::<Count>(call, "a count").await?.input_tokens)
        })
    }
}
