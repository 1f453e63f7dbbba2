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

    /// A `tokenizer.json` cannot be read as a tokenizer.
    #[error("{} is not a readable tokenizer file", path.display())]
    TokenizerFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// A tokenizer could not turn text into tokens or back.
    #[error("the tokenizer of {} cannot {action} this", path.display())]
    Tokenize {
        /// The file that the tokenizer was read from.
        path: PathBuf,
        /// What it was asked to do.
        action: &'static str,
        /// Why it could not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// A dependency panicked on the content of a file; the panic was caught and the process goes on.
    #[error("cannot {action} with {}: {message}", path.display())]
    DependencyPanic {
        /// The file whose content it was working on.
        path: PathBuf,
        /// What it was asked to do.
        action: &'static str,
        /// The message of the panic.
        message: String,
    },

    /// A parameter has a value that it cannot have.
    #[error("{name} is {got}, but should be {expected}")]
    InvalidParameter {
        /// The parameter.
        name: &'static str,
        /// The value given.
        got: String,
        /// The values allowed.
        expected: String,
    },
}
