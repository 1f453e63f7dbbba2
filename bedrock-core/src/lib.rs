//! Data types, traits and errors of the Bedrock-shaped API.

pub mod citation;
pub mod classify;
pub mod embed;
pub mod error;
pub mod guardrail;
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
pub mod stream;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tool;
pub mod usage;
mod validate;
mod watch;
mod wire;

pub use citation::*;
pub use classify::*;
pub use embed::*;
pub use error::Error;
pub use guardrail::*;
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
pub use stream::*;
pub use tool::*;
pub use usage::*;
pub use wire::Blob;
