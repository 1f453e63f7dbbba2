//! Writes a GGUF model: of another with fewer bits a weight, or of a folder in Hugging Face layout (Llama, Mistral).
//!
//! ```text
//! cargo run --release --example quantize -- --model model-F16.gguf --to q8_0 --output model-Q8_0.gguf
//! cargo run --release --example quantize -- --model tuned --to f16 --output tuned-F16.gguf
//! cargo run --release --example quantize -- --model base --adapter tuned --output adapter.gguf
//! ```
//!
//! The last line of standard output is a JSON object: `{tensors, quantized, bytes_before, bytes_after, seconds}`; of an adapter, `{seconds}`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use bedrock_examples::{Failure, find_model, print_json, run, timed};
use bedrock_models::quantize::quantize;
use bedrock_models::tune::adapter_to_gguf;
use bedrock_models::weights::Dtype;
use clap::Parser;
use serde_json::json;

/// Writes a GGUF model: with fewer bits a weight, of a folder, or a LoRA adapter
#[derive(Parser)]
struct Arguments {
    /// A .gguf file, a folder of Llama's or Mistral's family, or a name of the catalogue that stands for one
    #[arg(long, value_name = "M")]
    model: String,
    /// Type of the new weights: q8_0, q4_0, q4_1, f16, bf16 or f32
    #[arg(long, value_name = "TYPE", default_value = "q8_0")]
    to: Dtype,
    /// Write this LoRA adapter of the model instead, a folder as PEFT has it, for llama.cpp
    #[arg(long, value_name = "FOLDER")]
    adapter: Option<PathBuf>,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Accepted for symmetry: there is always a JSON object
    #[arg(long, hide = true)]
    json: bool,
}

fn main() -> ExitCode {
    run(write)
}

fn write(arguments: Arguments) -> Result<(), Failure> {
    let source = find_model(&arguments.model)?;
    if let Some(adapter) = &arguments.adapter {
        let ((), seconds) = timed(|| adapter_to_gguf(&source, adapter, &arguments.output))?;
        return Ok(print_json(&json!({ "seconds": seconds }))?);
    }
    let terminal = std::io::stderr().is_terminal();
    let (report, seconds) = timed(|| {
        quantize(&source, &arguments.output, arguments.to, |progress| {
            if terminal {
                eprint!("\r{} of {} tensors", progress.tensors, progress.tensors_total);
            }
            true
        })
    })?;
    if terminal {
        eprintln!();
    }
    Ok(print_json(&json!({
        "tensors": report.tensors,
        "quantized": report.quantized,
        "bytes_before": report.bytes_before,
        "bytes_after": report.bytes_after,
        "seconds": seconds,
    }))?)
}
