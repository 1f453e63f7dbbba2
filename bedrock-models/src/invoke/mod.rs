//! `InvokeModel` and `InvokeModelWithResponseStream`: the bodies of each family of models, as the service takes and gives them,
//! over any [`ChatModel`] or [`EmbeddingModel`].
//!
//! ```
//! use bedrock_core::testing::ScriptedModel;
//! use bedrock_models::invoke::{InvokeFamily, InvokeModel};
//! use std::sync::Arc;
//!
//! # fn main() -> Result<(), bedrock_core::Error> {
//! let model = InvokeModel::new(Arc::new(ScriptedModel::new(["Paris."])), InvokeFamily::Titan);
//! let body = model.invoke_blocking(br#"{"inputText": "What is the capital of France?"}"#)?;
//! let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
//! assert_eq!(body["results"][0]["outputText"], "Paris.");
//! # Ok(())
//! # }
//! ```
//!
//! # Prompts that are texts
//!
//! Llama, Mistral, Titan, Command and Jurassic take a `prompt`, marks of turns and all. A [local](InvokeModel::local) model gets it word for
//! word, without its chat template; marks that are special tokens of the model become these, and a begin-of-text token goes before
//! where the model wants one and the prompt has none. Any other model is asked in turns, which are read from the marks of Llama 2, Llama 3 and
//! Mistral in the prompt; without marks, all of it is one turn of the user.
//!
//! # What is left open
//!
//! Sampling and length that a body does not set have the values that the service documents for the family. A field that is not
//! known, or that the model cannot honour, is a `ValidationException` in the service's words. Counts of tokens are only known when
//! the answer is complete, so chunks before the last have none.

mod ai21;
mod anthropic;
mod cohere;
mod embedding;
mod fields;
mod llama;
mod mistral;
mod prompt;
mod text;
mod titan;
mod turns;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use bedrock_core::{
    BoxFuture, ChatModel, ConverseRequest, ConverseResponse, EmbeddingModel, Error, StopReason, StreamEvent,
    TokenUsage, converse_stream_owned,
};
use futures::executor::block_on;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::LocalChatModel;
use crate::chat_template::letters;
use fields::Fields;

pub use embedding::{EmbeddingFamily, InvokeEmbedding};

/// Whose bodies a chat model answers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InvokeFamily {
    /// Messages of Anthropic Claude.
    Anthropic,
    /// Jamba (`messages`) and Jurassic-2 (`prompt`) of AI21 Labs.
    Ai21,
    /// Command R (`message`) and Command (`prompt`) of Cohere.
    Cohere,
    /// Llama of Meta: `prompt`.
    Llama,
    /// Mistral: `prompt` or `messages`.
    Mistral,
    /// Titan Text of Amazon: `inputText`.
    Titan,
}

impl InvokeFamily {
    /// The family of a model of the service, by its id: `meta.llama3-8b-instruct-v1:0`, also behind the name of a region
    /// (`us.meta…`). None for other ids.
    pub fn of(model_id: &str) -> Option<Self> {
        let id = ["us.", "eu.", "apac.", "global.", "us-gov."].iter().find_map(|region| model_id.strip_prefix(region));
        let (provider, model) = id.unwrap_or(model_id).split_once('.')?;
        Some(match provider {
            "anthropic" => Self::Anthropic,
            "ai21" => Self::Ai21,
            "cohere" if !model.starts_with("embed") && !model.starts_with("rerank") => Self::Cohere,
            "meta" => Self::Llama,
            "mistral" => Self::Mistral,
            "amazon" if model.starts_with("titan-t") => Self::Titan,
            _ => return None,
        })
    }
}

/// Chunks of an answer, each the JSON of what the service puts into the `bytes` of an event `chunk`. An `Err` is the last item.
pub type ChunkStream<'a> = BoxStream<'a, Result<Vec<u8>, Error>>;

/// A chat model that answers to the bodies of a family.
#[derive(Clone)]
pub struct InvokeModel {
    model: Arc<dyn ChatModel>,
    model_id: String,
    family: InvokeFamily,
    raw: bool,
}

impl std::fmt::Debug for InvokeModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InvokeModel")
            .field("model_id", &self.model_id)
            .field("family", &self.family)
            .finish_non_exhaustive()
    }
}

/// A body that was read: what to ask, and how the answer is written.
struct Call {
    request: ConverseRequest,
    answer: Box<dyn Answer>,
}

/// An answer on its way into the form of a family.
trait Answer: Send {
    /// The body of a whole answer.
    fn whole(&mut self, response: &ConverseResponse) -> Result<Value, Error>;

    /// The chunks that an event becomes.
    fn chunks(&mut self, event: StreamEvent) -> Result<Vec<Value>, Error>;

    /// Whether the service streams answers of this form.
    fn is_streamed(&self) -> bool {
        true
    }
}

impl InvokeModel {
    /// Any chat model. Its requests carry an empty model id unless [`InvokeModel::model_id`] gives one.
    pub fn new(model: Arc<dyn ChatModel>, family: InvokeFamily) -> Self {
        Self { model, model_id: String::new(), family, raw: false }
    }

    /// A local model: it gets prompts that are texts word for word.
    pub fn local(model: Arc<LocalChatModel>, family: InvokeFamily) -> Self {
        let model_id = model.model().id().to_string();
        Self { model, model_id, family, raw: true }
    }

    /// The id that requests carry and that bodies with a field for it name.
    #[must_use]
    pub fn model_id(mut self, id: impl Into<String>) -> Self {
        self.model_id = id.into();
        self
    }

    /// The model gets prompts that are texts word for word, through the additional field `raw_prompt` that
    /// [`LocalChatModel`] knows: for one behind guardrails, logs and the like.
    #[must_use]
    pub fn raw_prompts(mut self) -> Self {
        self.raw = true;
        self
    }

    fn read(&self, body: &[u8]) -> Result<Call, Error> {
        let body = Fields::read(body)?;
        let mut call = match self.family {
            InvokeFamily::Anthropic => anthropic::read(body, &self.model_id),
            InvokeFamily::Ai21 => ai21::read(body, self.raw),
            InvokeFamily::Cohere => cohere::read(body, self.raw),
            InvokeFamily::Llama => llama::read(body, self.raw),
            InvokeFamily::Mistral => mistral::read(body, &self.model_id, self.raw),
            InvokeFamily::Titan => titan::read(body, self.raw),
        }?;
        call.request.model_id.clone_from(&self.model_id);
        call.request.validate()?;
        Ok(call)
    }

    /// Answers a body with a body.
    ///
    /// # Errors
    /// [`Error::Validation`] for a body that is not of the family or asks for what the model cannot; [`Error::ModelError`] for
    /// an answer that the family's form has no room for; whatever the model fails with.
    pub fn invoke<'a>(&'a self, body: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, Error>> {
        Box::pin(async move {
            let mut call = self.read(body)?;
            let response = self.model.converse(&call.request).await?;
            let mut body = call.answer.whole(&response)?;
            if response.stop_reason == StopReason::GuardrailIntervened {
                body["amazon-bedrock-guardrailAction"] = "INTERVENED".into();
            }
            serde_json::to_vec(&body).map_err(Error::backend)
        })
    }

    /// [`InvokeModel::invoke`] for callers without an async runtime: blocks the thread until the answer is there.
    ///
    /// # Errors
    /// As [`InvokeModel::invoke`].
    pub fn invoke_blocking(&self, body: &[u8]) -> Result<Vec<u8>, Error> {
        block_on(self.invoke(body))
    }

    /// Answers a body with a stream of chunks. The last has `amazon-bedrock-invocationMetrics`.
    ///
    /// # Errors
    /// As [`InvokeModel::invoke`], and [`Error::Validation`] for Jurassic-2, which the service does not stream. A failure after the first
    /// chunk is an item of the stream.
    pub fn invoke_with_response_stream<'a>(&'a self, body: &'a [u8]) -> BoxFuture<'a, Result<ChunkStream<'a>, Error>> {
        Box::pin(async move {
            let begin = Instant::now();
            let Call { request, mut answer } = self.read(body)?;
            if !answer.is_streamed() {
                return Err(Error::validation("The model is unsupported for streaming"));
            }
            let events = converse_stream_owned(&*self.model, request).await?;
            let mut first_byte = None;
            let chunks = events.map(move |event| {
                let event = event?;
                let intervened = matches!(&event, StreamEvent::MessageStop(stop) if stop.stop_reason == StopReason::GuardrailIntervened);
                let usage = match &event {
                    StreamEvent::Metadata(metadata) => Some(metadata.usage.clone()),
                    _ => None,
                };
                let mut chunks = answer.chunks(event)?;
                let since = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
                if !chunks.is_empty() {
                    first_byte.get_or_insert(since);
                }
                if let Some((usage, last)) = usage.zip(chunks.last_mut()) {
                    last["amazon-bedrock-invocationMetrics"] = json!({
                        "inputTokenCount": all_input_tokens(&usage), "outputTokenCount": usage.output_tokens,
                        "invocationLatency": since, "firstByteLatency": first_byte.unwrap_or(since),
                    });
                }
                if intervened && let Some(last) = chunks.last_mut() {
                    last["amazon-bedrock-guardrailAction"] = "INTERVENED".into();
                }
                let bytes = chunks.iter().map(|chunk| serde_json::to_vec(chunk).map_err(Error::backend));
                bytes.collect::<Result<Vec<_>, Error>>()
            });
            let chunks = chunks.map_ok(|chunks| stream::iter(chunks.into_iter().map(Ok))).try_flatten();
            // Nothing after an error.
            let chunks = chunks.scan(false, |ended, chunk| {
                let go_on = !*ended;
                *ended |= chunk.is_err();
                futures::future::ready(go_on.then_some(chunk))
            });
            Ok(chunks.boxed())
        })
    }
}

/// All tokens of a prompt, whether computed or remembered.
fn all_input_tokens(usage: &TokenUsage) -> u32 {
    let remembered = [usage.cache_read_input_tokens, usage.cache_write_input_tokens];
    remembered.into_iter().flatten().fold(usage.input_tokens, u32::saturating_add)
}

/// Refuses an answer that is no answer: no family has a word for a call that cannot be read.
fn well_formed(stop: &StopReason) -> Result<(), Error> {
    match stop {
        StopReason::MalformedToolUse => Err(Error::model_error("the model's call of a tool is malformed")),
        StopReason::MalformedModelOutput => Err(Error::model_error("the model's answer is malformed")),
        _ => Ok(()),
    }
}

/// Whether an answer ended because there was no room for more.
fn was_cut(stop: &StopReason) -> bool {
    matches!(stop, StopReason::MaxTokens | StopReason::ModelContextWindowExceeded)
}

/// A name that nothing else has.
fn fresh_id(letters_of: usize) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seed = format!("{} {} {}", std::process::id(), since.as_nanos(), COUNT.fetch_add(1, Ordering::Relaxed));
    letters(&Sha256::digest(seed), letters_of)
}

/// The embedding model or chat model that a body of the service names by its model's id.
///
/// # Errors
/// [`Error::Validation`] for an id of no family that has bodies here.
pub fn embedding(model: Arc<dyn EmbeddingModel>, model_id: &str) -> Result<InvokeEmbedding, Error> {
    let unknown = || Error::validation(format!("{model_id:?} names no family of embedding models"));
    Ok(InvokeEmbedding::new(model, EmbeddingFamily::of(model_id).ok_or_else(unknown)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_the_service_name_their_family() {
        for (id, family) in [
            ("meta.llama3-8b-instruct-v1:0", Some(InvokeFamily::Llama)),
            ("us.anthropic.claude-3-5-haiku-20241022-v1:0", Some(InvokeFamily::Anthropic)),
            ("mistral.mixtral-8x7b-instruct-v0:1", Some(InvokeFamily::Mistral)),
            ("cohere.command-r-v1:0", Some(InvokeFamily::Cohere)),
            ("cohere.embed-english-v3", None),
            ("amazon.titan-text-express-v1", Some(InvokeFamily::Titan)),
            ("amazon.titan-tg1-large", Some(InvokeFamily::Titan)),
            ("amazon.titan-embed-text-v1", None),
            ("ai21.jamba-1-5-mini-v1:0", Some(InvokeFamily::Ai21)),
            ("llama", None),
        ] {
            assert_eq!(InvokeFamily::of(id), family, "{id}");
        }
        assert_ne!(fresh_id(24), fresh_id(24));
    }
}
