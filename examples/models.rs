//! Which models there are: those of the catalogue, by the service's filters, and imported ones.
//!
//! ```text
//! cargo run --release --example models -- --by-provider Meta
//! cargo run --release --example models -- --show mistral.mixtral-8x7b-instruct-v0:1
//! ```
//!
//! With `--json` the last line of standard output is a JSON object: `{modelSummaries, importedModels}` as the service writes
//! both, or `{modelDetails}` with `--show`.

use std::process::ExitCode;

use bedrock_core::{InferenceType, ListFoundationModelsRequest, ModelCustomization, ModelModality};
use bedrock_examples::{Failure, print_json, print_line, run};
use bedrock_models::catalog::{self, Entry};
use bedrock_models::import::ModelStore;
use clap::Parser;
use serde_json::json;

/// Lists the models that there are
#[derive(Parser)]
struct Arguments {
    /// Those of this provider
    #[arg(long, value_name = "NAME")]
    by_provider: Option<String>,
    /// TEXT, IMAGE or EMBEDDING
    #[arg(long, value_name = "MODALITY")]
    by_output_modality: Option<String>,
    /// ON_DEMAND or PROVISIONED
    #[arg(long, value_name = "TYPE")]
    by_inference_type: Option<String>,
    /// FINE_TUNING, CONTINUED_PRE_TRAINING or DISTILLATION
    #[arg(long, value_name = "TYPE")]
    by_customization_type: Option<String>,
    /// Only this model, by any of its names
    #[arg(long, value_name = "ID", conflicts_with_all = ["by_provider", "by_output_modality", "by_inference_type", "by_customization_type"])]
    show: Option<String>,
    /// Print a JSON object as the last line
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    run(list)
}

fn list(arguments: Arguments) -> Result<(), Failure> {
    if let Some(id) = &arguments.show {
        let details = catalog::get_foundation_model(id)?;
        return if arguments.json {
            Ok(print_json(&details)?)
        } else {
            let line = catalog::find(id).map(line).unwrap_or_default();
            Ok(print_line(&line)?)
        };
    }
    let request = ListFoundationModelsRequest {
        by_provider: arguments.by_provider,
        by_customization_type: arguments.by_customization_type.as_deref().map(ModelCustomization::from),
        by_output_modality: arguments.by_output_modality.as_deref().map(ModelModality::from),
        by_inference_type: arguments.by_inference_type.as_deref().map(InferenceType::from),
    };
    let models = catalog::list_foundation_models(&request)?;
    let imported = ModelStore::open(None)?.summaries()?;
    if arguments.json {
        let imported = imported.model_summaries;
        return Ok(print_json(&json!({ "modelSummaries": models.model_summaries, "importedModels": imported }))?);
    }
    for model in &models.model_summaries {
        print_line(&catalog::find(&model.model_id).map(line).unwrap_or_default())?;
    }
    for model in &imported.model_summaries {
        let architecture = model.model_architecture.as_deref().unwrap_or_default();
        print_line(&format!("{}\timported\t{architecture}\t{}", model.model_name, model.model_arn))?;
    }
    Ok(())
}

/// Id, provider, title, licence, and what stands between it and an answer.
fn line(entry: &Entry) -> String {
    let state = match (entry.is_supported(), entry.gated) {
        (false, _) => "its family is not supported by this version",
        (true, true) => "the hub asks for an account that has accepted its terms",
        (true, false) => "",
    };
    let id = entry.service_id.unwrap_or(entry.id);
    format!("{id}\t{}\t{}\t{}\t{state}", entry.provider, entry.title, entry.licence)
}
