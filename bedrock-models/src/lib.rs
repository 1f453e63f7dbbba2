//! See the crate's description in Cargo.toml.

mod error;
pub mod generate;
mod kernels;
pub mod tokenizer;
pub mod weights;

pub use error::Error;
