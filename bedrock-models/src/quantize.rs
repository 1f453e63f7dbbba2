//! Fewer bits a weight: while a model is loaded, or once and for all into a GGUF file.
//!
//! A decode step reads all weights, so its speed is bounded by their size: 8 bits halve that of half precision at a loss that
//! hardly shows, 4 bits quarter it at one that does in small models.

use std::collections::BTreeSet;
use std::path::Path;

use rayon::prelude::*;

use crate::error::Error;
use crate::export::{self, Exported, ExportedTensor};
use crate::weights::{Checkpoint, Dtype, GgufFile, Metadata, StoredTensor, Value, block, gguf_write};

/// The types that weights can be turned into.
const TARGETS: [Dtype; 6] = [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::Q8_0, Dtype::Q4_0, Dtype::Q4_1];

/// How far [`quantize`] is: after each tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuantizeProgress {
    /// Tensors written.
    pub tensors: usize,
    /// Tensors of the model.
    pub tensors_total: usize,
}

/// What [`quantize`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantizeReport {
    /// Tensors of the model.
    pub tensors: usize,
    /// Those that were encoded anew.
    pub quantized: usize,
    /// Bytes of all weights before.
    pub bytes_before: u64,
    /// Bytes of the file that was written.
    pub bytes_after: u64,
}

/// Writes the model of a GGUF file with weights of another type, into a GGUF file that llama.cpp reads as well; or that of a folder in Hugging
/// Face layout, of Llama's family or Mistral's without a window, with its tokenizer and chat template.
///
/// Matrices whose rows are whole blocks get the type `to`: `Q8_0`, `Q4_0`, `Q4_1`, or plain numbers (`F16`, `BF16`, `F32`). With a
/// block type the embedding table and the output layer get 8 bits, because errors there reach every answer; vectors stay as they are. A source that is quantised itself is decoded
/// first: what it has lost stays lost. Of a folder, vectors become `F32`. `progress` is called after each tensor; returning `false` cancels.
///
/// # Errors
/// [`Error::InvalidParameter`] for another type, [`Error::Cancelled`], and what reading and writing fail with. For a folder
/// [`Error::UnsupportedArchitecture`], [`Error::ConfigValue`] and [`Error::UnknownTokenizer`] for what is not written into such files or cannot be said there,
/// [`Error::Tensors`] for weights that are not as the configuration says, [`Error::NoTokenizer`]. The target appears
/// when it is whole.
pub fn quantize(
    source: impl AsRef<Path>,
    target: impl AsRef<Path>,
    to: Dtype,
    mut progress: impl FnMut(QuantizeProgress) -> bool,
) -> Result<QuantizeReport, Error> {
    check_target(to)?;
    let source = source.as_ref();
    let Exported { mut metadata, tensors } = match source.is_dir() {
        true => export::folder(source)?,
        false => {
            let GgufFile { metadata, checkpoint } = GgufFile::open(source)?;
            Exported { metadata, tensors: checkpoint.iter().cloned().map(ExportedTensor::from).collect() }
        }
    };
    // ggml's `LLAMA_FTYPE`: what most of the file is.
    let file_type = match to {
        Dtype::F32 => 0,
        Dtype::F16 => 1,
        Dtype::BF16 => 32,
        Dtype::Q4_0 => 2,
        Dtype::Q4_1 => 3,
        _ => 7,
    };
    metadata.insert("general.file_type", Value::U32(file_type));
    metadata.insert("general.quantization_version", Value::U32(2));
    let plan = |ExportedTensor { tensor, .. }: &ExportedTensor| {
        let vector = source.is_dir() && tensor.shape.len() == 1;
        let dtype = if vector { Dtype::F32 } else { type_for(tensor, to) };
        gguf_write::TensorPlan { name: tensor.name.clone(), dtype, shape: tensor.shape.clone() }
    };
    let plans: Vec<_> = tensors.iter().map(plan).collect();
    let mut report = QuantizeReport {
        tensors: tensors.len(),
        quantized: tensors.iter().zip(&plans).filter(|(stored, plan)| stored.tensor.dtype != plan.dtype).count(),
        bytes_before: tensors.iter().map(|stored| stored.tensor.data.len() as u64).sum(),
        bytes_after: 0,
    };
    report.bytes_after = gguf_write::write_gguf(target.as_ref(), &metadata, &plans, |index| {
        let bytes = encode(&tensors[index].ordered(), plans[index].dtype)?;
        match progress(QuantizeProgress { tensors: index + 1, tensors_total: tensors.len() }) {
            true => Ok(bytes),
            false => Err(Error::Cancelled),
        }
    })?;
    Ok(report)
}

/// Writes the tensors of a folder in Hugging Face layout into one file, those of `matrices` of plain numbers as
/// [`on_load`] turns them, the others as they are. What GGUF has no type for is left out: no weight is a truth value.
pub(crate) fn quantize_folder(
    folder: &Path,
    target: &Path,
    to: Dtype,
    matrices: &BTreeSet<String>,
    mut progress: impl FnMut(QuantizeProgress) -> bool,
) -> Result<(), Error> {
    check_target(to)?;
    let checkpoint = Checkpoint::open(folder)?;
    let tensors: Vec<&StoredTensor> =
        checkpoint.iter().filter(|tensor| gguf_write::ggml_type(tensor.dtype).is_some()).collect();
    let plan = |tensor: &&StoredTensor| gguf_write::TensorPlan {
        name: tensor.name.clone(),
        dtype: if matrices.contains(&tensor.name) && is_plain(tensor) { type_for(tensor, to) } else { tensor.dtype },
        shape: tensor.shape.clone(),
    };
    let plans: Vec<_> = tensors.iter().map(plan).collect();
    let mut metadata = Metadata::new(target);
    // Whoever takes it for a GGUF model is told that it is none.
    metadata.insert("general.architecture", Value::String("weights of a folder".into()));
    gguf_write::write_gguf(target, &metadata, &plans, |index| {
        let bytes = encode(tensors[index], plans[index].dtype)?;
        match progress(QuantizeProgress { tensors: index + 1, tensors_total: tensors.len() }) {
            true => Ok(bytes),
            false => Err(Error::Cancelled),
        }
    })?;
    Ok(())
}

fn is_plain(tensor: &StoredTensor) -> bool {
    matches!(tensor.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// Whether weights can be turned into that type.
pub(crate) fn check_target(to: Dtype) -> Result<(), Error> {
    if TARGETS.contains(&to) {
        return Ok(());
    }
    Err(Error::InvalidParameter {
        name: "quantize",
        got: to.to_string(),
        expected: TARGETS.map(|target| target.to_string()).join(", "),
    })
}

/// What a tensor becomes: the one place where that is decided, for files and for loading.
fn type_for(tensor: &StoredTensor, to: Dtype) -> Dtype {
    // A third dimension, the outermost, counts experts.
    let [.., rows, columns] = *tensor.shape.as_slice() else { return tensor.dtype };
    if rows < 2 || !columns.is_multiple_of(to.block_len()) {
        return tensor.dtype;
    }
    let name = tensor.name.as_str();
    // Who routes rows to experts is small, and a wrong choice costs more than a wrong weight.
    if name.contains("ffn_gate_inp") || name.ends_with("block_sparse_moe.gate.weight") {
        return tensor.dtype;
    }
    let meets_every_token = ["emb", "wte", "wpe"].iter().any(|part| name.contains(part))
        || matches!(name, "output.weight" | "lm_head.weight");
    if to.is_block() && meets_every_token { Dtype::Q8_0 } else { to }
}

/// A matrix of a model that is being loaded, in blocks if it is of plain numbers and its rows are whole blocks.
pub(crate) fn on_load(tensor: StoredTensor, to: Dtype) -> Result<StoredTensor, Error> {
    let dtype = type_for(&tensor, to);
    if dtype == tensor.dtype || !is_plain(&tensor) {
        return Ok(tensor);
    }
    let data = encode(&tensor, dtype)?.into();
    Ok(StoredTensor { dtype, data, ..tensor })
}

/// The bytes of a tensor in another type, row by row on all cores.
fn encode(tensor: &StoredTensor, to: Dtype) -> Result<Vec<u8>, Error> {
    if tensor.dtype == to {
        return Ok(tensor.data.to_vec());
    }
    let columns = tensor.shape.last().copied().unwrap_or(1);
    let refused = || Error::Encode { dtype: to, elements: columns };
    let from_row = tensor.dtype.bytes_for(columns).filter(|bytes| *bytes > 0).ok_or_else(refused)?;
    let to_row = to.bytes_for(columns).filter(|bytes| *bytes > 0).ok_or_else(refused)?;
    let mut bytes = vec![0; tensor.data.len() / from_row * to_row];
    bytes.par_chunks_exact_mut(to_row).zip(tensor.data.par_chunks_exact(from_row)).try_for_each_init(
        || vec![0.0; columns],
        |values, (to_bytes, from_bytes)| {
            block::dequantize(tensor.dtype, from_bytes, values)?;
            to_bytes.copy_from_slice(&block::quantize(to, values)?);
            Ok(())
        },
    )?;
    Ok(bytes)
}
