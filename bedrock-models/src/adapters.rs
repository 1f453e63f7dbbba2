//! Where adapters are read from: folders as PEFT writes them, and GGUF files as llama.cpp has them.
//!
//! A GGUF adapter has the two factors of a tensor under its name in the base's file, `{tensor}.lora_a` (`[r, in]`) and `{tensor}.lora_b` (`[out, r]`), with the rows of the
//! latter in the order of that file, and one `adapter.lora.alpha` for all: what is added is `alpha / r · B · A`. Source: llama.cpp's `src/llama-adapter.cpp`. Of Llama's
//! and Mistral's family rows of queries and keys have another order in the file; of other families that are read all is as in the folder but the names.

use std::collections::BTreeMap;
use std::path::Path;

use bedrock_core::Sealer;

use crate::arch::family::{in_gguf, names_of};
use crate::arch::llama::{Place, gguf_places};
use crate::error::Error;
use crate::export;
use crate::language_model::model_type;
use crate::layers::{Adapter, LoraConfig};
use crate::weights::{Checkpoint, Dtype, GgufFile, Metadata, StoredTensor};

/// Reads an adapter of `base`: a folder, which may be sealed, or a file.
///
/// # Errors
/// As [`Adapter::open`]. Of a file [`Error::Gguf`], [`Error::MissingMetadata`], [`Error::MetadataType`], and [`Error::ConfigValue`] if it is no plain LoRA of a model of
/// a family that is read; [`Error::UnsupportedArchitecture`] and [`Error::ConfigValue`] if the base is none; [`Error::TensorShape`], [`Error::MissingTensor`] and
/// [`Error::UnusedTensors`] if the adapter is of another model.
pub(crate) fn open(base: &Path, adapter: &Path, sealer: Option<&dyn Sealer>) -> Result<Adapter, Error> {
    if adapter.is_file() { read_file(base, adapter, sealer) } else { Adapter::open(adapter, sealer) }
}

/// The tensors that the model of a folder in Hugging Face layout or a GGUF file has there and in such a file, and what is stored of them under the names that it uses.
///
/// # Errors
/// [`Error::UnsupportedArchitecture`] and [`Error::ConfigValue`] unless it is of Llama's or Mistral's family; unreadable files.
pub(crate) fn places_of(base: &Path, sealer: Option<&dyn Sealer>) -> Result<Vec<(Place, StoredTensor)>, Error> {
    let (places, checkpoint) = match base.is_file() {
        true => {
            let GgufFile { metadata, checkpoint } = GgufFile::open(base)?;
            (gguf_places(&metadata, &checkpoint)?, checkpoint)
        }
        false => {
            let config = export::config(base)?;
            config.validate(&base.join("config.json"))?;
            (config.places(), Checkpoint::open_with(base, sealer)?)
        }
    };
    let mut found = Vec::with_capacity(checkpoint.len());
    for place in places {
        let Some(stored) = checkpoint.get(if base.is_file() { &place.tensor } else { &place.name }) else { continue };
        let rows = stored.shape.first().copied().unwrap_or(0);
        if let Some(dim) = place.pairs.filter(|dim| !dim.is_multiple_of(2) || !rows.is_multiple_of(*dim)) {
            return Err(wrong(base, format!("{} has {rows} rows, which are no pairs of heads of {dim}", stored.name)));
        }
        found.push((place, stored.clone()));
    }
    Ok(found)
}

fn read_file(base: &Path, file: &Path, sealer: Option<&dyn Sealer>) -> Result<Adapter, Error> {
    let GgufFile { metadata, mut checkpoint } = GgufFile::open(file)?;
    let alpha = alpha_of(&metadata)?;
    let architecture: &str = metadata.required("general.architecture")?;
    if let Some(names) = names_of(architecture).filter(|_| ORDERED.contains(&architecture)) {
        let found = architecture_of(base)?;
        if found != architecture {
            return Err(wrong(file, format!("it is for {architecture}, not for {found}")));
        }
        if alpha == 0.0 {
            return Err(wrong(file, "adapter.lora.alpha is 0".into()));
        }
        let mut rank = 0;
        for tensor in checkpoint.iter().filter(|tensor| tensor.name.ends_with(".lora_a")) {
            let r = tensor.shape.first().copied().unwrap_or(0);
            if r == 0 {
                return Err(wrong(file, format!("{} has no rows", tensor.name)));
            }
            rank = rank.max(r);
        }
        if rank == 0 {
            return Err(wrong(file, "it has no factors".into()));
        }
        let config = LoraConfig::stored(rank, f64::from(alpha), BTreeMap::new());
        return Ok(Adapter::of(file, config, checkpoint).named_by(names));
    }
    let (mut tensors, mut scales, mut rank) = (Vec::new(), BTreeMap::new(), 0);
    for (place, stored) in places_of(base, sealer)? {
        let (Some(module), &[rows, columns]) = (place.name.strip_suffix(".weight"), &stored.shape[..]) else {
            continue;
        };
        let Some(a) = checkpoint.take_optional(&format!("{}.lora_a", place.tensor)) else { continue };
        let b = checkpoint.take(&format!("{}.lora_b", place.tensor))?;
        let r = a.shape.first().copied().unwrap_or(0);
        a.expect_shape(&[r, columns])?;
        b.expect_shape(&[rows, r])?;
        if r == 0 {
            return Err(wrong(file, format!("{} has no rows", a.name)));
        }
        rank = rank.max(r);
        if alpha == 0.0 {
            // Then nothing is multiplied.
            scales.insert(module.to_string(), r as f64);
        }
        let values = b.to_f32()?;
        let mut ordered = vec![0.0; rows * r];
        for (row, values) in values.chunks_exact(r).enumerate() {
            ordered[place.row(row) * r..][..r].copy_from_slice(values);
        }
        let data = ordered.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into();
        let name = |factor: &str| format!("base_model.model.{module}.{factor}.weight");
        tensors.push(StoredTensor { name: name("lora_A"), ..a });
        tensors.push(StoredTensor { name: name("lora_B"), dtype: Dtype::F32, shape: vec![rows, r], data });
    }
    // What is left is of another model; so is a file that nothing was taken from.
    checkpoint.clone().finish(&[])?;
    if tensors.is_empty() {
        return Err(wrong(file, "it has no factors".into()));
    }
    tensors.into_iter().for_each(|tensor| checkpoint.insert(tensor));
    Ok(Adapter::of(file, LoraConfig::stored(rank, f64::from(alpha), scales), checkpoint))
}

/// Architectures of adapters beside `llama`. GPT-2's own converter turns factors too.
const ORDERED: [&str; 6] = ["qwen2", "qwen3", "gemma2", "gemma3", "phi3", "command-r"];

/// What GGUF files call the architecture of a base, a file or a folder.
fn architecture_of(base: &Path) -> Result<String, Error> {
    if base.is_file() {
        return Ok(GgufFile::open(base)?.metadata.required::<&str>("general.architecture")?.to_string());
    }
    let found = model_type(&base.join("config.json"))?;
    Ok(in_gguf(&found).map_or(found, String::from))
}

/// What factors are multiplied by, before they are divided by their rank; 0: nothing.
fn alpha_of(metadata: &Metadata) -> Result<f32, Error> {
    for (key, expected) in [("general.type", "adapter"), ("adapter.type", "lora"), ("general.architecture", "llama")] {
        let found: &str = metadata.required(key)?;
        let others: &[&str] = if key == "general.architecture" { &ORDERED } else { &[] };
        if found != expected && !others.contains(&found) {
            let expected = [&[expected], others].concat().join(", ");
            return Err(wrong(metadata.path(), format!("{key} is {found:?}, only {expected} is supported")));
        }
    }
    let alpha: f32 = metadata.required("adapter.lora.alpha")?;
    if alpha.is_finite() { Ok(alpha) } else { Err(wrong(metadata.path(), format!("adapter.lora.alpha is {alpha}"))) }
}

fn wrong(path: &Path, what: String) -> Error {
    Error::ConfigValue { path: path.to_path_buf(), what }
}
