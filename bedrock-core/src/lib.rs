//! The contract of an embeddable Amazon Bedrock: the data types of its `Converse`-shaped API, the traits that models, stores
//! and guardrails implement, and the errors they give. Nothing here computes, opens a connection or needs a runtime.
//!
//! ```
//! use bedrock_core::testing::ScriptedModel;
//! use bedrock_core::{ChatModel, ConverseRequest, StopReason};
//! use futures::StreamExt;
//!
//! # fn main() -> Result<(), bedrock_core::Error> {
//! // Any model: a local one, a remote one, one behind a guardrail; here one that plays a script.
//! let model = ScriptedModel::new(["Paris.", "Paris."]);
//! let request = ConverseRequest::new("any-model").system("Be brief.").user("What is the capital of France?").max_tokens(16);
//!
//! let response = model.converse_blocking(&request)?;
//! assert_eq!(response.text(), "Paris.");
//! assert_eq!(response.stop_reason, StopReason::EndTurn);
//!
//! // The same as a stream, in any async runtime.
//! futures::executor::block_on(async {
//!     let mut events = model.converse_stream(&request).await?;
//!     let mut text = String::new();
//!     while let Some(event) = events.next().await {
//!         text.push_str(event?.as_text().unwrap_or_default());
//!     }
//!     assert_eq!(text, "Paris.");
//!     Ok(())
//! })
//! # }
//! ```
//!
//! # Tour
//!
//! | question | module |
//! | --- | --- |
//! | what is said | [`message`], [`media`], [`citation`], [`tool`] |
//! | what is asked and answered | [`inference`], [`usage`]; as events: [`stream`] |
//! | what a guardrail is told and finds | [`guardrail`] |
//! | what a knowledge base is asked and answers | [`retrieve`], [`retrieve_and_generate`] |
//! | which models there are | [`catalog`] |
//! | what to implement | models: [`ChatModel`], [`EmbeddingModel`], [`Reranker`], [`TextClassifier`], [`ImageModel`] |
//! | | what they work with: [`Retriever`], [`Guardrail`], [`Tool`] |
//! | | where things are kept: [`VectorStore`], [`SessionStore`], [`InvocationSink`]; encrypted: [`Sealer`] |
//! | what to put around a chat model | [`Logged`], [`Metered`], [`Retried`], [`Routed`]: each is a chat model again |
//! | what goes wrong | [`Error`] |
//! | how to test | `testing` (feature `testing`) |
//!
//! # The types are the wire
//!
//! Every type serialises to exactly the service's JSON, proved against the service's own Python SDK for every member
//! of every shape. So a server is a thin router, and logs are readable by the tools that people have. Three rules:
//!
//! - An optional field that is `None`, or an optional list or map that is empty, is not written.
//! - What is newer than this version: unknown *fields* are ignored; unknown *labels* (values of string enums) are kept word for
//!   word as `Unknown`, so that answers and logs survive a round trip, and are refused in requests by `validate()`; unknown
//!   *members of unions* are errors, because they may be content that a model must see.
//! - Nesting of JSON is bounded at 128 levels (by `serde_json`); the size of a body is for whoever reads it to bound.
//!
//! # Features
//!
//! | feature | default | gives |
//! | --- | --- | --- |
//! | `seal` | no | `AesGcmSealer` and `KeyRing`: encryption at rest with AES-256-GCM. Costs some fifteen small crates, all Rust |
//! | `testing` | no | `testing`: doubles of every trait, and the contract checks that implementations run |

pub mod catalog;
pub mod citation;
pub mod classify;
pub mod embed;
pub mod error;
pub mod guardrail;
pub mod image;
pub mod inference;
pub mod media;
pub mod message;
pub mod meter;
pub mod model;
pub mod record;
pub mod rerank;
pub mod retrieve;
pub mod retrieve_and_generate;
pub mod retry;
pub mod route;
pub mod seal;
pub mod session;
pub mod store;
pub mod stream;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tool;
pub mod usage;
mod validate;
mod watch;
mod wire;

pub use catalog::*;
pub use citation::*;
pub use classify::*;
pub use embed::*;
pub use error::Error;
pub use guardrail::*;
pub use image::*;
pub use inference::*;
pub use media::*;
pub use message::*;
pub use meter::*;
pub use model::*;
pub use record::*;
pub use rerank::*;
pub use retrieve::*;
pub use retry::*;
pub use route::*;
pub use seal::*;
pub use session::*;
pub use store::*;
pub use stream::*;
pub use tool::*;
pub use usage::*;
pub use wire::Blob;
