//! See the crate's description in Cargo.toml.

mod arch;
pub mod catalog;
pub mod chat_template;
mod classify;
mod embed;
mod encoder;
mod engine;
mod error;
pub mod fetch;
pub mod generate;
pub mod kernels;
mod language_model;
mod layers;
mod options;
pub mod tokenizer;
pub mod weights;
mod worker;

pub use classify::{Aggregation, CrossEncoder, Entity, SequenceClassifier, TokenClassifier, TokenLogits};
pub use embed::{Embedder, Pooling};
pub use encoder::ENCODERS;
pub use engine::{Engine, Generation, GenerationEvent, GenerationRequest, GenerationUsage};
pub use error::Error;
pub use language_model::{LANGUAGE_MODELS, LanguageModel};
pub use layers::RopeProblem;
pub use options::{DeviceKind, EngineOptions, LoadOptions};
