//! Models in Hugging Face layout: with trained weights in the place of the base's.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bedrock_core::Sealer;
use serde_json::{Map, Value, json};

use super::learner::Learner;
use super::stored::{self, Lazy, replace};
use crate::error::Error;
use crate::language_model::{model_type, read_json};
use crate::layers::Parameter;
use crate::weights::{Checkpoint, StoredTensor};

/// Files beside the weights that a model needs to answer, where the base has them.
const FILES: [&str; 13] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "merges.txt",
    "chat_template.jinja",
    "LICENSE",
];

/// What older files of T5 have twice, beside the table that is trained: they would be what it was before.
const COPIES: [&str; 2] = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"];

/// Writes `model.safetensors` in single precision, the files beside it, and last `config.json`, by whose presence a model is known.
///
/// Tensors of the base that are not trained are written as they are there.
///
/// # Errors
/// [`Error::TensorShape`] if parameters have not as many values as in the base, [`Error::UnusedTensors`] if one is no part of it;
/// [`Error::ConfigValue`] unless the base is a folder in Hugging Face layout; [`Error::Read`], [`Error::Write`].
pub(super) fn save(folder: &Path, base: &Path, learner: &Learner) -> Result<(), Error> {
    check(base)?;
    let mut checkpoint = Checkpoint::open_with(base, learner.sealer())?;
    for name in COPIES.iter().filter(|name| learner.parts_of(name).is_empty()) {
        checkpoint.take_optional(name);
    }
    save_as(folder, base, checkpoint, learner, |_| ())
}

/// [`save`] of the base's tensors as they are in `checkpoint`, with changes to its `config.json`.
///
/// # Errors
/// As [`save`].
pub(super) fn save_as(
    folder: &Path,
    base: &Path,
    checkpoint: Checkpoint,
    learner: &Learner,
    edit: impl FnOnce(&mut Map<String, Value>),
) -> Result<(), Error> {
    let layout = Layout::of(base)?;
    let written = RefCell::new(BTreeSet::new());
    write(
        (folder, learner.sealer()),
        base,
        &checkpoint,
        |stored| {
            let parts: Vec<Parameter> = learner.parts_of(&stored.name).into_iter().cloned().collect();
            if parts.is_empty() {
                return Ok(None);
            }
            // Layers may have flattened the shape, not the order.
            let count = parts.iter().map(Parameter::len).sum();
            if stored.elements() != count {
                stored.expect_shape(&[count])?;
            }
            written.borrow_mut().extend(parts.iter().map(|part| part.name().to_string()));
            let transposed = layout.is_transposed(&stored.name);
            let shape = stored.shape.clone();
            Ok(Some(Box::new(move || {
                let values = parts.iter().flat_map(Parameter::values).collect::<Vec<f32>>();
                match (transposed, &shape[..]) {
                    (true, &[rows, columns]) => transpose(&values, rows, columns),
                    _ => values,
                }
            })))
        },
        || {
            let written = written.borrow();
            let names = learner.parameters().iter().map(Parameter::name).filter(|name| !written.contains(*name));
            let names: Vec<String> = names.map(String::from).collect();
            if names.is_empty() { Ok(()) } else { Err(Error::UnusedTensors { path: base.to_path_buf(), names }) }
        },
        edit,
    )
}

/// How a model's matrices lie in its files.
pub(crate) struct Layout {
    family: String,
}

impl Layout {
    pub(crate) fn of(base: &Path) -> Result<Self, Error> {
        let config = base.join("config.json");
        Ok(Self { family: if base.is_dir() { model_type(&config)? } else { String::new() } })
    }

    /// Whether a tensor is a layer's matrix and stored `[in, out]`, as GPT-2's are.
    pub(crate) fn is_transposed(&self, tensor: &str) -> bool {
        let layers = ["c_attn.weight", "c_proj.weight", "c_fc.weight"];
        self.family == "gpt2" && layers.iter().any(|layer| tensor.ends_with(layer))
    }
}

/// `[columns, rows]` to `[rows, columns]`.
pub(crate) fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..rows).flat_map(|row| (0..columns).map(move |column| values[column * rows + row])).collect()
}

/// Makes the values of a tensor.
type Values<'a> = Box<dyn Fn() -> Vec<f32> + 'a>;

/// Whether a model can be made of this base.
///
/// # Errors
/// [`Error::ConfigValue`].
pub(super) fn check(base: &Path) -> Result<(), Error> {
    if base.is_dir() {
        return Ok(());
    }
    let what = "a model in Hugging Face layout can only be made of one".into();
    Err(Error::ConfigValue { path: base.to_path_buf(), what })
}

/// Writes a model, its weights through the sealer, with other values for some of its tensors, those of `checkpoint`. `complete` is asked when all were looked at, before anything is
/// written; `edit` changes its configuration.
pub(super) fn write<'a>(
    (folder, sealer): (&Path, Option<&dyn Sealer>),
    base: &Path,
    checkpoint: &Checkpoint,
    other: impl Fn(&StoredTensor) -> Result<Option<Values<'a>>, Error>,
    complete: impl FnOnce() -> Result<(), Error>,
    edit: impl FnOnce(&mut Map<String, Value>),
) -> Result<(), Error> {
    let mut tensors = Vec::with_capacity(checkpoint.len());
    for stored in checkpoint.iter() {
        let values = match other(stored)? {
            Some(values) => values,
            None => {
                // Checked here, so that it cannot fail while the file is written.
                stored.to_f32()?;
                Box::new(|| stored.to_f32().unwrap_or_default())
            }
        };
        tensors.push((stored.name.clone(), Lazy::f32(&stored.shape, values)));
    }
    complete()?;
    fs::create_dir_all(folder).map_err(|source| Error::Write { path: folder.to_path_buf(), source })?;
    stored::write(&folder.join("model.safetensors"), tensors, sealer)?;
    for name in FILES {
        let from = base.join(name);
        if from.is_file() {
            let bytes = fs::read(&from).map_err(|source| Error::Read { path: from.clone(), source })?;
            replace(&folder.join(name), &bytes)?;
        }
    }
    let mut config: Value = read_json(&base.join("config.json"))?;
    if let Some(config) = config.as_object_mut() {
        for name in ["torch_dtype", "dtype"] {
            if config.contains_key(name) {
                config.insert(name.into(), json!("float32"));
            }
        }
        config.remove("quantization_config");
        edit(config);
    }
    replace(&folder.join("config.json"), format!("{config:#}\n").as_bytes())
}
