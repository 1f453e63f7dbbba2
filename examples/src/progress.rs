//! Finding a model for an example, and telling on standard error how far its download is.
//!
//! By hand rather than with indicatif: one line that is written over is all that is needed, and that crate would change
//! the features of a dependency of burn's, so that burn would be built once for the examples and again for the tests.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bedrock_models::Error;
use bedrock_models::fetch::{FetchOptions, Progress, ProgressCallback, Step, resolve};

/// Shortest time between two states of the line on a terminal.
const REDRAW: Duration = Duration::from_millis(100);

/// Turns the argument of `--model` or `--embedder` into a path: a folder, a `.gguf` file, a name of the catalogue or a
/// hub id. A model that is not on this machine is fetched, with a progress bar on standard error if that is a terminal,
/// and a line a step otherwise.
///
/// # Errors
/// As for [`resolve`].
pub fn find_model(model: &str) -> Result<PathBuf, Error> {
    let mut options = FetchOptions::default();
    options.progress = Some(progress());
    resolve(model, &options)
}

/// Shows the progress of a fetch on standard error.
pub fn progress() -> ProgressCallback {
    let line = Mutex::new(Line::new(io::stderr(), io::stderr().is_terminal()));
    Arc::new(move |progress| {
        // A line that cannot be written is no reason not to fetch.
        if let Ok(mut line) = line.lock() {
            let _ = line.show(progress);
        }
    })
}

/// One line for each step; on a terminal it is redrawn while the step goes on.
struct Line<W> {
    out: W,
    terminal: bool,
    /// What was begun, without the numbers.
    step: String,
    drawn: Option<Instant>,
    open: bool,
}

impl<W: Write> Line<W> {
    fn new(out: W, terminal: bool) -> Self {
        Self { out, terminal, step: String::new(), drawn: None, open: false }
    }

    fn show(&mut self, progress: &Progress<'_>) -> io::Result<()> {
        let what = match progress.step {
            Step::Waiting => "waiting for another process that fetches it".to_string(),
            Step::Downloading { from } => format!("downloading {from}"),
            Step::Unpacking => "unpacking".to_string(),
            Step::Checking => "checking".to_string(),
            Step::Done => return self.end(),
            _ => return Ok(()),
        };
        let step = format!("{}: {what}", progress.model);
        let new = step != self.step;
        if new {
            self.end()?;
            self.step = step;
        }
        if !self.terminal {
            return if new { writeln!(self.out, "{}{}", self.step, size(progress.total)) } else { Ok(()) };
        }
        let complete = progress.total == Some(progress.done);
        if !new && !complete && self.drawn.is_some_and(|drawn| drawn.elapsed() < REDRAW) {
            return Ok(());
        }
        self.drawn = Some(Instant::now());
        self.open = true;
        write!(self.out, "\r{}{}\x1b[K", self.step, amount(progress))?;
        self.out.flush()
    }

    fn end(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.open) { writeln!(self.out) } else { Ok(()) }
    }
}

fn size(total: Option<u64>) -> String {
    total.map(|total| format!(" ({} MB)", megabytes(total))).unwrap_or_default()
}

fn amount(progress: &Progress<'_>) -> String {
    match progress.total {
        Some(total) if total > 0 => {
            // The size of a wheel is an estimate that may be passed.
            let percent = (progress.done * 100 / total).min(100);
            let filled = (percent / 5) as usize;
            format!(" [{}{}] {percent}% of {} MB", "#".repeat(filled), "-".repeat(20 - filled), megabytes(total))
        }
        _ if progress.done > 0 => format!(" {} MB", megabytes(progress.done)),
        _ => String::new(),
    }
}

/// One decimal.
fn megabytes(bytes: u64) -> String {
    format!("{}.{}", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(terminal: bool, events: &[(Step<'static>, u64, Option<u64>)]) -> String {
        let mut line = Line::new(Vec::new(), terminal);
        for &(step, done, total) in events {
            line.show(&Progress::new("tiny", step, done, total)).unwrap();
        }
        String::from_utf8(line.out).unwrap()
    }

    const EVENTS: [(Step<'static>, u64, Option<u64>); 6] = [
        (Step::Downloading { from: "tiny-model 1.0" }, 0, Some(2_500_000)),
        (Step::Downloading { from: "tiny-model 1.0" }, 1_000_000, Some(2_500_000)),
        (Step::Downloading { from: "tiny-model 1.0" }, 2_500_000, Some(2_500_000)),
        (Step::Unpacking, 10, Some(3_000_000)),
        (Step::Unpacking, 3_000_000, Some(3_000_000)),
        (Step::Done, 0, None),
    ];

    #[test]
    fn a_file_gets_a_line_a_step() {
        assert_eq!(shown(false, &EVENTS), "tiny: downloading tiny-model 1.0 (2.5 MB)\ntiny: unpacking (3.0 MB)\n");
    }

    #[test]
    fn a_terminal_gets_a_line_that_is_redrawn_and_ends() {
        let text = shown(true, &EVENTS);
        let lines: Vec<&str> = text.split('\n').collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].ends_with("[####################] 100% of 2.5 MB\x1b[K"), "{text:?}");
        assert!(lines[1].starts_with("\rtiny: unpacking [--------------------] 0% of 3.0 MB\x1b[K"), "{text:?}");
        assert_eq!(lines[2], "");
    }

    #[test]
    fn an_estimate_may_be_passed() {
        let text = shown(true, &[(Step::Downloading { from: "x" }, 30, Some(10))]);
        assert!(text.contains("100%"), "{text:?}");
    }
}
