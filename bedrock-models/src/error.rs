//! What can go wrong while a model is loaded, prompted and run.

use std::io;
use std::path::PathBuf;

/// A failure of this crate. Each variant is a situation that a caller can act on, with the facts inside.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened or read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// A file is larger than anything of its kind has reason to be, so it was not read.
    #[error("{path} has {bytes} bytes, more than the {limit} allowed for its kind")]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        bytes: u64,
        /// The largest size that is read, in bytes.
        limit: u64,
    },

    /// A file was read, but its content contradicts its format: truncated, damaged or lying.
    #[error("{path} is malformed: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the offending value.
        reason: String,
    },
}
