//! Do this crate's models compute what the reference computes?
//!
//! ```text
//! cargo run --release --example conformance -- DIR…
//! ```
//!
//! Every sub-folder of DIR with an `expected.json` is a case: see `bedrock_models::conformance`. A DIR may also hold
//! `smollm2_llamacpp.json` and `minilm_transformers.json`, references for two models of the catalogue. Prints one line a
//! case and a count; the status is 1 if a case failed. What differs is said on standard error.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bedrock_examples::{Failure, ModelArguments, failure, find_model, print_line, run};
use bedrock_models::LoadOptions;
use bedrock_models::conformance::{self, Outcome, Verdict};
use clap::Parser;

#[derive(Parser)]
#[command(about = "Compares models with reference outputs")]
struct Arguments {
    /// Folders with cases
    #[arg(required = true)]
    dirs: Vec<PathBuf>,
    /// The language model that smollm2_llamacpp.json is about
    #[arg(long, default_value = "smollm2-135m-instruct")]
    smollm2: String,
    /// The embedding model that minilm_transformers.json is about
    #[arg(long, default_value = "all-minilm-l6-v2")]
    minilm: String,
    #[command(flatten)]
    models: ModelArguments,
}

fn main() -> ExitCode {
    run(|arguments: Arguments| {
        let mut counts = Counts::default();
        for dir in &arguments.dirs {
            check_dir(dir, &arguments, &mut counts)?;
        }
        let Counts { passed, failed, unsupported } = counts;
        print_line(&format!("{passed} passed, {failed} failed, {unsupported} unsupported"))?;
        match (failed, passed + unsupported) {
            (0, 0) => Err(failure("there are no cases in these folders")),
            (0, _) => Ok(()),
            _ => Err(failure(format!("{failed} cases failed"))),
        }
    })
}

fn check_dir(dir: &Path, arguments: &Arguments, counts: &mut Counts) -> Result<(), Failure> {
    let options = arguments.models.options();
    for case in conformance::cases(dir)? {
        counts.report(&conformance::check(&case, &options))?;
    }
    type Check = fn(&Path, &Path, &LoadOptions) -> Outcome;
    let published: [(&str, &str, Check); 2] = [
        ("smollm2_llamacpp.json", &arguments.smollm2, conformance::check_llama_cpp),
        ("minilm_transformers.json", &arguments.minilm, conformance::check_sentence_transformers),
    ];
    for (file, model, check) in published {
        let file = dir.join(file);
        if file.is_file() {
            counts.report(&check(&file, &find_model(model)?, &options))?;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Counts {
    passed: usize,
    failed: usize,
    unsupported: usize,
}

impl Counts {
    fn report(&mut self, outcome: &Outcome) -> Result<(), Failure> {
        match &outcome.verdict {
            Verdict::Pass => self.passed += 1,
            Verdict::Unsupported { .. } => self.unsupported += 1,
            Verdict::Fail { reasons } => {
                self.failed += 1;
                reasons.iter().for_each(|reason| eprintln!("{}: {reason}", outcome.name));
            }
        }
        Ok(print_line(&outcome.to_string())?)
    }
}
