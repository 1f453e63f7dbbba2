//! How a program ends: 0 done, 1 the work failed, 2 wrong arguments.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use clap::Parser;

/// Why the work failed: any error; its chain of causes is printed.
pub type Failure = Box<dyn Error + Send + Sync>;

/// A failure that is one sentence.
pub fn failure(message: impl Into<String>) -> Failure {
    message.into().into()
}

/// Reads the arguments, does the work and reports a failure on standard error: one line that says what failed, then its
/// causes, one a line.
///
/// The status is 2 for wrong arguments, 1 for failed work. A reader of standard output that has seen enough, as `head`,
/// is no failure.
pub fn run<A: Parser>(work: impl FnOnce(A) -> Result<(), Failure>) -> ExitCode {
    let arguments = match A::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nobody is left to tell if standard error is closed.
            let _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    match work(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", one_line(&*error));
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  because: {}", one_line(error));
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn one_line(error: &dyn Error) -> String {
    error.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    let mut error = Some(error);
    while let Some(current) = error {
        if current.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            return true;
        }
        error = current.source();
    }
    false
}
