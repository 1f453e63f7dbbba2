//! What the model of a folder in Hugging Face layout is in a GGUF file: metadata, and tensors under other names, some with their rows in
//! another order.
//!
//! Keys and names: llama.cpp's `src/llama-arch.cpp` and `conversion/`. Families: Llama, and Mistral without a window.

use std::path::Path;

use crate::arch::family;
use crate::arch::llama::{LlamaConfig, Place};
use crate::arch::mistral::MistralConfig;
use crate::chat_template::ChatTemplate;
use crate::error::Error;
use crate::language_model::{model_type, name_of, optional, read_json};
use crate::options::LoadOptions;
use crate::tokenizer;
use crate::weights::{Array, Checkpoint, Dtype, Metadata, StoredTensor, Survey, Value};

/// Values of `model_type` of folders that a GGUF file is made of.
const FAMILIES: &[&str] = &["llama", "mistral"];
/// The default template's name.
const DEFAULT: &str = "default";

/// A model as a GGUF file has it, its tensors as they are stored.
#[derive(Debug)]
pub(crate) struct Exported {
    pub(crate) metadata: Metadata,
    pub(crate) tensors: Vec<ExportedTensor>,
}

/// A tensor under the name that it gets.
#[derive(Debug)]
pub(crate) struct ExportedTensor {
    pub(crate) tensor: StoredTensor,
    /// Features of a head whose halves are to lie interleaved.
    pairs: Option<usize>,
}

impl From<StoredTensor> for ExportedTensor {
    fn from(tensor: StoredTensor) -> Self {
        Self { tensor, pairs: None }
    }
}

impl ExportedTensor {
    /// The tensor with its rows in the order of the file.
    pub(crate) fn ordered(&self) -> StoredTensor {
        let tensor = self.tensor.clone();
        let (Some(dim), Some(rows)) = (self.pairs, tensor.shape.first().copied()) else { return tensor };
        let bytes = tensor.data.len() / rows.max(1);
        let mut data = Vec::with_capacity(tensor.data.len());
        for row in 0..rows {
            data.extend_from_slice(&tensor.data[unpaired(row, dim) * bytes..][..bytes]);
        }
        StoredTensor { data: data.into(), ..tensor }
    }
}

/// The row of a Hugging Face checkpoint, where halves of a head are rotated together, that is `row` in a GGUF file, where neighbours are.
pub(crate) fn unpaired(row: usize, dim: usize) -> usize {
    row / dim * dim + row % 2 * (dim / 2) + row % dim / 2
}

/// Reads a folder of one of [`FAMILIES`], after a comparison of all its tensors with its configuration.
///
/// # Errors
/// [`Error::UnsupportedArchitecture`], [`Error::ConfigValue`] for what such files cannot say, [`Error::UnknownTokenizer`], [`Error::NoTokenizer`]; what is wrong with the folder.
pub(crate) fn folder(path: &Path) -> Result<Exported, Error> {
    let file = path.join("config.json");
    let config = config(path)?;
    let wrong = |what: String| Error::ConfigValue { path: file.clone(), what };
    let checkpoint = Checkpoint::open(path)?;
    let survey = Survey::default();
    let architecture = model_type(&file)?;
    let compute = LoadOptions { threads: 1, ..LoadOptions::default() }.compute();
    let loaded = family::load_folder(path, checkpoint.clone().surveyed(&survey), &architecture, compute, None);
    drop(survey.end(path, loaded)?);
    if !path.join("tokenizer.json").exists() {
        return Err(Error::NoTokenizer { path: path.to_path_buf() });
    }

    let mut metadata = Metadata::new(path);
    metadata.insert("general.architecture", Value::String("llama".into()));
    metadata.insert("general.type", Value::String("model".into()));
    metadata.insert("general.name", Value::String(name_of(path)));
    config.describe(&mut metadata).map_err(wrong)?;
    tokenizer::describe(path, config.vocab_size, &mut metadata)?;
    if let Some(template) = optional(ChatTemplate::from_folder(path))? {
        let mut others = Vec::new();
        for name in template.names() {
            let source = Value::String(template.source(name).unwrap_or_default().into());
            if name == DEFAULT {
                metadata.insert("tokenizer.chat_template", source);
            } else {
                metadata.insert(format!("tokenizer.chat_template.{name}"), source);
                others.push(name.to_string());
            }
        }
        if !others.is_empty() {
            metadata.insert("tokenizer.chat_templates", Value::Array(Array::String(others)));
        }
    }

    let mut tensors = Vec::with_capacity(checkpoint.len());
    for Place { name, tensor, pairs } in config.places() {
        if let Some(stored) = checkpoint.get(&name) {
            tensors.push(ExportedTensor { tensor: StoredTensor { name: tensor, ..stored.clone() }, pairs });
        }
    }
    if let Some(factors) = config.frequency_factors(&file)? {
        let data = factors.iter().flat_map(|factor| factor.to_le_bytes()).collect::<Vec<u8>>().into();
        let (name, shape) = ("rope_freqs.weight".into(), vec![factors.len()]);
        tensors.push(ExportedTensor { tensor: StoredTensor { name, dtype: Dtype::F32, shape, data }, pairs: None });
    }
    Ok(Exported { metadata, tensors })
}

/// The configuration of a folder of one of [`FAMILIES`].
pub(crate) fn config(path: &Path) -> Result<LlamaConfig, Error> {
    let file = path.join("config.json");
    match &*model_type(&file)? {
        "llama" => read_json(&file),
        "mistral" => Ok(read_json::<MistralConfig>(&file)?.0),
        found => Err(Error::UnsupportedArchitecture { path: file, found: found.into(), supported: FAMILIES }),
    }
}
