//! The examples are the files beside this folder; this library holds what several of them share: arguments about models,
//! how a program ends, its JSON on the last line, its peak memory, and how it comes to its model.

mod encoder;
mod exit;
mod memory;
mod models;
mod output;
mod progress;
pub mod ranking;

pub use encoder::with_encoder;
pub use exit::{Failure, failure, run};
pub use memory::peak_rss_mib;
pub use models::{ModelArguments, timed};
pub use output::{print_json, print_line, print_part};
pub use progress::find_model;

/// The code in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
