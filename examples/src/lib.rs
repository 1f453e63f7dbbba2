//! The examples are the files beside this folder; this library holds what several of them share: how a program ends,
//! its JSON on the last line, its peak memory, and how it comes to its model.

mod exit;
mod memory;
mod output;
mod progress;

pub use exit::{Failure, failure, run};
pub use memory::peak_rss_mib;
pub use output::{print_json, print_line, print_part};
pub use progress::{find_model, progress};
