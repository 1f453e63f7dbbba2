//! Runs a test suite against a guardrail: which cases pass, behind which disguises it lets more through, and what changed since another version.
//!
//! ```text
//! cargo run --release --example guardrail_suite -- --guardrail examples/data/guardrail.json --suite examples/data/guardrail_suite.jsonl --mutate
//! ```
//!
//! Each line of standard output is a case that failed, has holes or changed; the last line counts. The status is 1 if a case failed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bedrock_examples::{Failure, ModelArguments, failure, print_json, run, with_encoder};
use bedrock_guard::suite::{Mutation, Report, Suite};
use bedrock_guard::{Guardrail, GuardrailVersions};
use clap::Parser;
use serde_json::json;

/// Run a test suite against a guardrail
#[derive(Parser)]
struct Arguments {
    /// The guardrail: a body of CreateGuardrail, or FOLDER:VERSION of a folder of versions
    #[arg(long)]
    guardrail: String,
    /// Cases, one a line: {id?, text, source?, grounding_source?, query?, expect, findings?}; or, in a .toml file, tables [[case]] of these
    #[arg(long, value_name = "FILE")]
    suite: PathBuf,
    /// Another guardrail or version to compare with
    #[arg(long, value_name = "GUARDRAIL")]
    against: Option<String>,
    /// Disguise the texts that the guardrail did something about
    #[arg(long)]
    mutate: bool,
    /// Sentence encoder for filters of tier STANDARD, denied topics and the grounding check: a folder, or a name of the catalogue; default:
    /// all-minilm-l6-v2, without which the grounding check goes by shared words
    #[arg(long, value_name = "M")]
    embedder: Option<String>,
    #[command(flatten)]
    models: ModelArguments,
}

fn main() -> ExitCode {
    run(|arguments: Arguments| {
        let text = std::fs::read_to_string(&arguments.suite)
            .map_err(|error| failure(format!("cannot read {}: {error}", arguments.suite.display())))?;
        let toml = arguments.suite.extension().is_some_and(|extension| extension == "toml");
        let suite = if toml { Suite::from_toml(&text) } else { Suite::from_jsonl(&text) };
        let suite = suite.map_err(|error| failure(format!("{}: {error}", arguments.suite.display())))?;
        let mutations: &[Mutation] = if arguments.mutate { &Mutation::ALL } else { &[] };
        let report = |name: &str| -> Result<Report, Failure> {
            Ok(suite.run_blocking(&guardrail(name, &arguments)?, mutations)?)
        };
        let this = report(&arguments.guardrail)?;
        for outcome in this.outcomes.iter().filter(|outcome| !outcome.passed || !outcome.holes.is_empty()) {
            print_json(&serde_json::to_value(outcome)?)?;
        }
        let mut changed = 0;
        if let Some(name) = &arguments.against {
            for (index, action, before) in this.differences(&report(name)?) {
                changed += 1;
                print_json(&json!({"id": this.outcomes[index].id, "action": action, "before": before}))?;
            }
        }
        let holes = this.outcomes.iter().filter(|outcome| !outcome.holes.is_empty()).count();
        let (cases, passed) = (this.outcomes.len(), this.passed());
        print_json(&json!({
            "cases": cases, "passed": passed, "failed": cases - passed, "with_holes": holes, "changed": changed, "uncovered": this.uncovered,
        }))?;
        if passed < cases { Err(failure(format!("{} of {cases} cases failed", cases - passed))) } else { Ok(()) }
    })
}

fn guardrail(name: &str, arguments: &Arguments) -> Result<Guardrail, Failure> {
    let named = |error| failure(format!("{name}: {error}"));
    let mut builder = match name.rsplit_once(':') {
        Some((folder, version)) if Path::new(folder).is_dir() => {
            GuardrailVersions::open(folder).and_then(|versions| versions.guardrail(version)).map_err(named)?
        }
        _ => {
            let json =
                std::fs::read_to_string(name).map_err(|error| failure(format!("cannot read {name}: {error}")))?;
            Guardrail::builder_from_json(&json).map_err(named)?
        }
    };
    builder = with_encoder(builder, arguments.embedder.as_deref(), &arguments.models)?;
    builder.build_blocking().map_err(named)
}
