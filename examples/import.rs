//! Imports a model of one's own, and lists, shows and deletes what was imported.
//!
//! ```text
//! cargo run --release --example import -- import path/of/a/model --name my-model
//! cargo run --release --example import -- list
//! cargo run --release --example generate -- --model my-model --chat "Hello"
//! ```
//!
//! With `--json` the last line of standard output is a JSON object: the model for `import` and `show`, `{models, jobs}` for `list`,
//! `{deleted}` for `delete`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use bedrock_examples::{Failure, print_json, print_line, run};
use bedrock_models::import::{ImportOptions, ImportProgress, ImportStep, ImportedModel, ModelStore, Placement};
use bedrock_models::weights::Dtype;
use clap::{Args, Parser, Subcommand};
use serde_json::json;

/// Imports models of one's own
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The folder to keep models in; default: BEDROCK_HOME and so on
    #[arg(long, global = true, value_name = "DIR")]
    home: Option<PathBuf>,
    /// Print a JSON object as the last line
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Check a folder in Hugging Face layout or a .gguf file, and keep it under a name
    Import(Import),
    /// All imported models, and the jobs that imported them
    List,
    /// What is known of a model
    Show {
        /// Its name or ARN
        name: String,
        /// Hash all its files again
        #[arg(long)]
        verify: bool,
    },
    /// Delete a model
    Delete {
        /// Its name or ARN
        name: String,
    },
}

#[derive(Args)]
struct Import {
    /// A folder or a .gguf file
    source: PathBuf,
    /// The name: letters and digits, with single hyphens or underscores between
    #[arg(long)]
    name: String,
    /// Share the files with the source instead of copying them
    #[arg(long)]
    link: bool,
    /// Accept a language model without a chat template
    #[arg(long)]
    without_template: bool,
    /// Put weights into fewer bits: q8_0, q4_0, q4_1, f16, bf16 or f32
    #[arg(long, value_name = "TYPE")]
    quantize: Option<Dtype>,
    /// The licence to record
    #[arg(long)]
    licence: Option<String>,
    /// Where the model comes from, to record instead of the path
    #[arg(long, value_name = "URL")]
    origin: Option<String>,
    /// Replace a model of the same name
    #[arg(long)]
    replace: bool,
}

fn main() -> ExitCode {
    run(main_of)
}

fn main_of(arguments: Arguments) -> Result<(), Failure> {
    let store = ModelStore::open(arguments.home.as_deref())?;
    match arguments.command {
        Command::Import(import) => {
            let model = store.import(&import.source, &import.name, &import.options(), show_progress())?;
            show(&model, arguments.json)
        }
        Command::List => {
            let models = store.list()?;
            if arguments.json {
                return Ok(print_json(&json!({ "models": models, "jobs": store.jobs() }))?);
            }
            models.iter().try_for_each(|model| Ok(print_line(&line(model))?))
        }
        Command::Show { name, verify } => {
            store.path(&name, verify)?;
            show(&store.get(&name)?, arguments.json)
        }
        Command::Delete { name } => {
            store.delete(&name)?;
            if arguments.json { Ok(print_json(&json!({ "deleted": name }))?) } else { Ok(()) }
        }
    }
}

impl Import {
    fn options(&self) -> ImportOptions {
        let mut options = ImportOptions::default();
        options.placement = if self.link { Placement::HardLink } else { Placement::Copy };
        options.without_template = self.without_template;
        options.quantize = self.quantize;
        options.licence.clone_from(&self.licence);
        options.origin.clone_from(&self.origin);
        options.replace = self.replace;
        options
    }
}

/// A line a step on standard error; on a terminal it is written over while the step goes on.
fn show_progress() -> impl FnMut(ImportProgress<'_>) -> bool {
    let terminal = std::io::stderr().is_terminal();
    let mut last = String::new();
    move |progress| {
        let step = match progress.step {
            ImportStep::Looking => "looking at the source".to_string(),
            ImportStep::Waiting => "waiting for another import of that name".to_string(),
            ImportStep::Placing { file } => file.to_string(),
            ImportStep::Quantizing => "putting weights into fewer bits".to_string(),
            ImportStep::CheckingTensors => "comparing tensors with the configuration".to_string(),
            ImportStep::Trying => "loading and trying".to_string(),
            _ => String::new(),
        };
        let new = step != last;
        if terminal && progress.total > 0 {
            eprint!("\r{step} {}%\x1b[K", progress.done * 100 / progress.total);
        } else if new && !step.is_empty() {
            eprintln!("{}{step}", if terminal { "\r\x1b[K" } else { "" });
        }
        last = step;
        true
    }
}

fn show(model: &ImportedModel, json: bool) -> Result<(), Failure> {
    if json {
        return Ok(print_json(model)?);
    }
    Ok(print_line(&serde_json::to_string_pretty(model)?)?)
}

fn line(model: &ImportedModel) -> String {
    format!(
        "{}\t{}\t{:?}\t{} MB\t{}",
        model.name(),
        model.model.model_architecture.as_deref().unwrap_or_default(),
        model.task,
        model.bytes / 1_000_000,
        model.licence.as_deref().unwrap_or("licence unknown")
    )
}
