//! AI21's Jamba models, whose chat interface is nearly OpenAI's.

use bedrock_core::{BoxFuture, ChatModel, ConverseRequest, ConverseResponse, Error, EventStream};

use super::openai::{Dialect, Media, body, chat_stream, chat_whole};
use super::options::RemoteOptions;
use super::secret::{Secret, variable};
use super::transport::{Authorization, Transport};

/// AI21's own address.
const ADDRESS: &str = "https://api.ai21.com/studio/v1";

const DIALECT: Dialect = Dialect { max_tokens: "max_tokens", stream_options: false, media: Media::None, extras: false };

/// A Jamba model behind AI21's interface. (The older Jurassic-2 is at [`Bedrock::jurassic`](super::Bedrock::jurassic).)
///
/// Texts, documents that are texts, and tools are honoured; pictures, sound, files, JSON schemas, effort, service tiers and cache points
/// are refused as [`Error::Validation`]. A stop sequence ends an answer in `end_turn`, since the interface does not tell.
///
/// ```no_run
/// use bedrock_core::{ChatModel, ConverseRequest};
/// use bedrock_models::remote::Ai21;
///
/// let model = Ai21::from_env("jamba-mini")?;
/// println!("{}", model.converse_blocking(&ConverseRequest::new("any").user("Why is the sky blue?"))?.text());
/// # Ok::<(), bedrock_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Ai21 {
    transport: Transport,
    model: String,
}

impl Ai21 {
    /// A model of the server at `address`, such as `https://api.ai21.com/studio/v1`.
    ///
    /// # Errors
    /// [`Error::Validation`] for an address that is none, that carries a password, or that would show the key on the way.
    pub fn new(address: &str, key: Secret, model: impl Into<String>, options: &RemoteOptions) -> Result<Self, Error> {
        Ok(Self { transport: Transport::new(address, Authorization::Bearer(key), options)?, model: model.into() })
    }

    /// A model of AI21's own server with the key in `AI21_API_KEY`.
    ///
    /// # Errors
    /// [`Error::AccessDenied`] if the key is not set.
    pub fn from_env(model: impl Into<String>) -> Result<Self, Error> {
        Self::new(ADDRESS, variable("AI21_API_KEY")?, model, &RemoteOptions::default())
    }
}

impl ChatModel for Ai21 {
    fn converse_stream<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<EventStream<'a>, Error>> {
        Box::pin(async move {
            let body = body(request, &self.model, &DIALECT, true)?;
            chat_stream(&self.transport, "chat/completions", &body, request).await
        })
    }

    fn converse<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<ConverseResponse, Error>> {
        Box::pin(async move {
            let body = body(request, &self.model, &DIALECT, false)?;
            chat_whole(&self.transport, "chat/completions", &body, request).await
        })
    }
}
