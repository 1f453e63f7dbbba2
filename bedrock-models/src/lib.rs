//! See the crate's description in Cargo.toml.

mod error;
pub mod tokenizer;

pub use error::Error;
