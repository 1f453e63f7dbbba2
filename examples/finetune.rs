//! Customizes a model with one's own data: fine-tuning, continued pre-training, distillation or preference tuning of a language model, by an
//! adapter or in all weights; tuning of embedding models and classifiers.
//!
//! ```text
//! cargo run --release --example finetune -- --job job.json
//! ```
//!
//! The job is the body of the service's CreateModelCustomizationJob, with paths for buckets: see `bedrock_models::tune::Job`.
//! Every line of standard output is an event, a JSON object; the last is of type `completed`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use bedrock_examples::{Failure, ModelArguments, find_model, peak_rss_mib, print_json, run};
use bedrock_models::LocalChatModel;
use bedrock_models::tune::{Job, JobEvent, JobOptions, Teacher};
use clap::Parser;
use serde_json::json;

/// Customizes a language model
#[derive(Parser)]
struct Arguments {
    /// The job: a JSON file
    #[arg(long, value_name = "FILE")]
    job: PathBuf,
    /// Go on from the last checkpoint in the job's folder
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    models: ModelArguments,
}

fn main() -> ExitCode {
    run(finetune)
}

fn finetune(arguments: Arguments) -> Result<(), Failure> {
    let mut job = Job::from_file(&arguments.job)?;
    job.validate()?;
    job.base_model = find_model(&job.base_model)?.display().to_string();
    if arguments.models.seed != 0 {
        job.hyper_parameters.seed = arguments.models.seed;
    }
    let options = JobOptions {
        load: arguments.models.options(),
        resume: arguments.resume,
        teacher: teacher(&job, &arguments)?,
        ..JobOptions::default()
    };
    let mut printed = Ok(());
    job.run(&options, |event| {
        // A reader that has gone is no reason to end hours of work, but to be told at the end.
        let shown = shown(event).and_then(|line| Ok(print_json(&line)?));
        if printed.is_ok() {
            printed = shown;
        }
    })?;
    printed
}

/// The model that a distillation's prompts are answered by: as `--model` elsewhere or, if built with the feature `remote`, PROVIDER:MODEL.
fn teacher(job: &Job, arguments: &Arguments) -> Result<Option<Teacher>, Failure> {
    let Some(config) = &job.customization_config else { return Ok(None) };
    let name = &config.distillation_config.teacher_model_config.teacher_model_identifier;
    #[cfg(feature = "remote")]
    if name.contains(':') {
        return Ok(Some(Teacher::new(bedrock_models::remote::chat_model(name)?)));
    }
    let model = LocalChatModel::load(find_model(name)?, &arguments.models.options())?;
    Ok(Some(Teacher::new(Arc::new(model))))
}

fn shown(event: &JobEvent) -> Result<serde_json::Value, Failure> {
    let mut line = serde_json::to_value(event)?;
    if let JobEvent::Completed(_) | JobEvent::Stopped(_) = event {
        line["peak_rss_mib"] = json!(peak_rss_mib());
    }
    Ok(line)
}
