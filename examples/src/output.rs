//! Standard output as other programs read it. What people read (progress, hints) goes to standard error.

use std::io::{self, Write};

use serde::Serialize;

/// Prints a value as one line of JSON.
///
/// # Errors
/// Whatever writing to standard output gives; `println!` would panic when the reader has gone.
pub fn print_json(value: &impl Serialize) -> io::Result<()> {
    print_line(&serde_json::to_string(value)?)
}

/// Prints a line.
///
/// # Errors
/// As [`print_json`].
pub fn print_line(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Prints a part of a line, such as a piece of an answer as it comes.
///
/// # Errors
/// As [`print_json`].
pub fn print_part(part: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(part.as_bytes())?;
    out.flush()
}
