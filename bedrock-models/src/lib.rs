//! See the crate's description in Cargo.toml.

mod error;

pub use error::Error;
