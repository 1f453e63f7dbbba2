//! Models behind other people's servers, each a [`ChatModel`](bedrock_core::ChatModel) and, where the provider has them, an
//! [`EmbeddingModel`](bedrock_core::EmbeddingModel), a [`Reranker`](bedrock_core::Reranker) or an [`ImageModel`](bedrock_core::ImageModel).
//!
//! A provider is made from an address and a key, or from the environment; the model is the one that it is made for, whatever id a request carries. Callers need
//! no async runtime: one thread drives the requests of all providers. A dropped future or stream cancels its request. What a provider can't honour is a
//! validation error that names the field.
//!
//! Times, attempts, limits and proxies: [`RemoteOptions`]. Keys are [`Secret`]s, which no error, log or `Debug` shows; they go to another machine over
//! `https` alone, and redirects are not followed.

mod ai21;
mod anthropic;
mod ask;
mod bedrock;
mod blocks;
mod clock;
mod cohere;
mod events;
mod failure;
mod frame;
mod name;
mod openai;
mod options;
mod runtime;
mod secret;
mod sign;
mod sse;
mod transport;
mod vectors;

pub use ai21::Ai21;
pub use anthropic::Anthropic;
pub use bedrock::{AwsAuthorization, Bedrock, BedrockChat, BedrockEmbedder, BedrockPainter, BedrockText};
pub use clock::{Clock, SystemClock};
pub use cohere::{Cohere, CohereChat, CohereEmbedder, CohereReranker};
pub use name::chat_model;
pub use openai::{OpenAi, OpenAiChat, OpenAiCompletions, OpenAiEmbedder};
pub use options::{Proxy, RemoteOptions};
pub use secret::Secret;
pub use sign::AwsCredentials;
pub use vectors::RemoteEmbedderSpec;
