//! The examples are the files beside this folder; this library holds what several of them share: how a program ends,
//! its JSON on the last line, and its peak memory.

mod exit;
mod memory;
mod output;

pub use exit::{Failure, failure, run};
pub use memory::peak_rss_mib;
pub use output::{print_json, print_line, print_part};
