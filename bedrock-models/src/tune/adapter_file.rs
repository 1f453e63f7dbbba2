//! Adapters in GGUF files, as llama.cpp has them.

use std::path::Path;

use crate::adapters;
use crate::error::Error;
use crate::weights::{Dtype, Metadata, Value, gguf_write};

/// Writes a LoRA adapter, a folder as PEFT has it or such a file, as a GGUF file that llama.cpp loads beside a GGUF file of `base`: a folder in Hugging Face layout of
/// Llama's or Mistral's family, or a `.gguf` file of the `llama` architecture.
///
/// Factors are in single precision. Scales other than `alpha / r`, or of single modules, are multiplied into them.
///
/// # Errors
/// [`Error::UnsupportedArchitecture`] and [`Error::ConfigValue`] if the base is neither or the adapter no plain LoRA; [`Error::TensorShape`] and
/// [`Error::UnusedTensors`] if the adapter is of another model; [`Error::SealMismatch`] for what is sealed; unreadable files; [`Error::Write`].
pub fn adapter_to_gguf(
    base: impl AsRef<Path>,
    adapter: impl AsRef<Path>,
    output: impl AsRef<Path>,
) -> Result<(), Error> {
    let (base, output) = (base.as_ref(), output.as_ref());
    let adapter = adapters::open(base, adapter.as_ref(), None)?;
    let mut alpha = None;
    let (mut plans, mut values) = (Vec::new(), Vec::new());
    for (place, stored) in adapters::places_of(base, None)? {
        let (Some(module), &[rows, columns]) = (place.name.strip_suffix(".weight"), &stored.shape[..]) else {
            continue;
        };
        let Some((a, b, r)) = adapter.factors(module, rows, columns)? else { continue };
        let scale = f64::from(adapter.scale(module, r));
        let alpha = *alpha.get_or_insert(scale * r as f64);
        let more = scale * r as f64 / alpha;
        // What is there is not rounded without need.
        let more = if (more - 1.0).abs() < 1e-6 { 1.0 } else { more as f32 };
        let ordered: Vec<f32> =
            (0..rows).flat_map(|row| &b[place.row(row) * r..][..r]).map(|value| value * more).collect();
        for (factor, shape, numbers) in [("lora_a", [r, columns], a), ("lora_b", [rows, r], ordered)] {
            let (name, shape) = (format!("{}.{factor}", place.tensor), shape.to_vec());
            plans.push(gguf_write::TensorPlan { name, dtype: Dtype::F32, shape });
            values.push(numbers);
        }
    }
    adapter.finish()?;
    let mut metadata = Metadata::new(output);
    let text = |text: &str| Value::String(text.into());
    for (key, value) in [
        ("general.architecture", text("llama")),
        ("general.type", text("adapter")),
        ("adapter.type", text("lora")),
        ("adapter.lora.alpha", Value::F32(alpha.unwrap_or_default() as f32)),
        ("general.file_type", Value::U32(0)),
        ("general.quantization_version", Value::U32(2)),
    ] {
        metadata.insert(key, value);
    }
    gguf_write::write_gguf(output, &metadata, &plans, |index| {
        Ok(values[index].iter().flat_map(|value| value.to_le_bytes()).collect())
    })?;
    Ok(())
}
