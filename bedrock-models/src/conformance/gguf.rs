//! Cases of kind `gguf`: files with quantised weights.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::case::{Case, TensorRef};
use super::causal_lm::check_greedy;
use super::findings::{Findings, Stop, Tolerance};
use crate::error::Error;
use crate::kernels::Activations;
use crate::language_model::LanguageModel;
use crate::options::LoadOptions;
use crate::weights::{GgufFile, StoredTensor, block};

/// What decoding with quantised activations may differ on average from the reference, which computes in single precision.
/// Rounding 32 values with one scale gives about half of this in the two layers of these files; the worst of thousands
/// of logits is four times the average, so it is no sign of anything.
const INT8: f64 = 1e-2;
/// Decoding blocks is exact but for the rounding of one or two products.
const DECODED: Tolerance = Tolerance::Relative(1e-6);

#[derive(Deserialize)]
struct Expected {
    input_ids: Vec<u32>,
    files: Vec<File>,
    blocks: Option<Blocks>,
    #[serde(default)]
    tolerance: Tolerances,
}

#[derive(Deserialize)]
#[serde(default)]
struct Tolerances {
    logits_rel_to_max_abs: f64,
}

impl Default for Tolerances {
    fn default() -> Self {
        Self { logits_rel_to_max_abs: 1e-4 }
    }
}

#[derive(Deserialize)]
struct File {
    file: String,
    #[serde(default)]
    tensor_types: BTreeMap<String, String>,
    logits: TensorRef,
    #[serde(default)]
    dequantized: BTreeMap<String, TensorRef>,
    greedy: Option<Greedy>,
}

#[derive(Deserialize)]
struct Greedy {
    tokens: Vec<u32>,
}

#[derive(Deserialize)]
struct Blocks {
    file: String,
    tensors: BTreeMap<String, TensorRef>,
}

pub(super) fn check(case: &Case, options: &LoadOptions, findings: &mut Findings) -> Result<(), Stop> {
    let expected: Expected = case.expected()?;
    for file in &expected.files {
        check_stored(case, file, findings)?;
        let path = case.folder.join(&file.file);
        let want = case.rows(&file.logits)?;
        let exact = Tolerance::Relative(expected.tolerance.logits_rel_to_max_abs);
        for activations in [Activations::Float, Activations::Quantized, Activations::Int8] {
            let what = format!("logits of {} with {activations:?} activations", file.file);
            let options = LoadOptions { activations, ..options.clone() };
            let model = LanguageModel::load(&path, &options)?;
            let (at_once, prompt) = (format!("{what}, at once,"), model.logits(&expected.input_ids)?);
            if activations == Activations::Int8 {
                findings.close_on_average(at_once, &prompt.concat(), &want.concat(), INT8);
            } else {
                // A prompt is computed as exactly as in full precision, or nearly so.
                findings.close_rows(at_once, &prompt, &want, exact);
            }
            let decoded = model.decode_logits(&expected.input_ids, 1)?;
            let what = format!("{what}, one by one,");
            if activations != Activations::Float {
                findings.close_on_average(what, &decoded.concat(), &want.concat(), INT8);
                continue;
            }
            findings.close_rows(what, &decoded, &want, exact);
            if let Some(greedy) = &file.greedy {
                let what = format!("continuation of {}", file.file);
                check_greedy(&model, &expected.input_ids, &greedy.tokens, &what, findings)?;
            }
        }
    }
    if let Some(blocks) = &expected.blocks {
        let GgufFile { checkpoint, .. } = GgufFile::open(case.folder.join(&blocks.file))?;
        for (name, want) in &blocks.tensors {
            let tensor = checkpoint.get(name).ok_or_else(|| missing(case, &blocks.file, name))?;
            findings.close(format!("values of {name}"), &tensor.to_f32()?, &case.tensor(want)?, DECODED);
        }
    }
    Ok(())
}

/// Compares storage types and the first rows of some tensors.
fn check_stored(case: &Case, file: &File, findings: &mut Findings) -> Result<(), Stop> {
    let GgufFile { checkpoint, .. } = GgufFile::open(case.folder.join(&file.file))?;
    let types: BTreeMap<String, String> =
        checkpoint.iter().map(|tensor| (tensor.name.clone(), tensor.dtype.to_string())).collect();
    if !file.tensor_types.is_empty() {
        findings.same(format!("types of {}", file.file), &types, &file.tensor_types);
    }
    for (name, want) in &file.dequantized {
        let tensor = checkpoint.get(name).ok_or_else(|| missing(case, &file.file, name))?;
        let want = case.tensor(want)?;
        findings.close(
            format!("values of {name} in {}", file.file),
            &first_values(tensor, want.len())?,
            &want,
            DECODED,
        );
    }
    Ok(())
}

/// The first `count` values, which are whole rows.
fn first_values(tensor: &StoredTensor, count: usize) -> Result<Vec<f32>, Error> {
    let (dtype, bytes) = (tensor.dtype, tensor.data.len());
    let wrong = Error::BlockLength { dtype, bytes, elements: count };
    let stored = dtype.bytes_for(count).and_then(|length| tensor.data.get(..length)).ok_or(wrong)?;
    let mut values = vec![0.0; count];
    block::dequantize(dtype, stored, &mut values)?;
    Ok(values)
}

fn missing(case: &Case, file: &str, name: &str) -> Error {
    Error::MissingTensor { path: case.folder.join(file), name: name.to_string() }
}
