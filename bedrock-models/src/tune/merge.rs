//! Adapters merged into their base.

use std::collections::BTreeMap;
use std::path::Path;

use bedrock_core::Sealer;

use serde_json::{Map, Value};

use super::{contrast, head, model};
use crate::adapters;
use crate::arch::llama::gguf_places;
use crate::embed::Settings;
use crate::encoder::ENCODERS;
use crate::error::Error;
use crate::language_model::read_json;
use crate::layers::Adapter;
use crate::weights::{self, Checkpoint, Dtype, GgufFile, StoredTensor, block, gguf_write};

/// Writes a model that answers as `base` does with `adapter`.
///
/// Of a base in Hugging Face layout `output` becomes such a folder: all weights in single precision, the adapter's products added, the other
/// files those of the base. Tensors that the adapter has whole take the place of the base's. An encoder gets the head that comes with an adapter, and its labels. Of a `.gguf` file of the `llama` architecture it becomes a GGUF file: matrices with an adapter in 8 bits (`Q8_0`) if
/// they were in blocks, because what is added is often less than a step of fewer; all else as it is there.
///
/// # Errors
/// [`Error::ConfigValue`] if the base is neither or the adapter no plain LoRA, [`Error::TensorShape`] and
/// [`Error::UnusedTensors`] if the adapter is of another model; unreadable files; [`Error::Write`].
pub fn merge(base: impl AsRef<Path>, adapter: impl AsRef<Path>, output: impl AsRef<Path>) -> Result<(), Error> {
    merge_with(base, adapter, output, None)
}

/// [`merge`] of a base and an adapter that may be sealed, into a folder whose weights are. A GGUF file cannot be.
///
/// # Errors
/// As there; [`Error::ConfigValue`] for a GGUF file with a sealer; [`Error::Seal`] for files of another key or that were changed.
pub fn merge_with(
    base: impl AsRef<Path>,
    adapter: impl AsRef<Path>,
    output: impl AsRef<Path>,
    sealer: Option<&dyn Sealer>,
) -> Result<(), Error> {
    let (base, folder, output) = (base.as_ref(), adapter.as_ref(), output.as_ref());
    let adapter = adapters::open(base, folder, sealer)?;
    match (is_gguf(base), sealer) {
        (true, Some(_)) => {
            Err(Error::ConfigValue { path: base.to_path_buf(), what: "what is merged with it cannot be sealed".into() })
        }
        (true, None) => into_file(base, &adapter, output),
        (false, sealer) => into_folder(base, (folder, &adapter), output, sealer),
    }
}

/// Whether a base is a GGUF file.
pub(super) fn is_gguf(base: &Path) -> bool {
    base.is_file()
}

/// What an adapter adds to a matrix.
struct Delta {
    /// `[r][columns]`
    a: Vec<f32>,
    /// `[rows][r]`
    b: Vec<f32>,
    r: usize,
    scale: f32,
}

impl Delta {
    fn of(adapter: &Adapter, module: &str, rows: usize, columns: usize) -> Result<Option<Self>, Error> {
        let factors = adapter.factors(module, rows, columns)?;
        Ok(factors.map(|(a, b, r)| Self { a, b, r, scale: adapter.scale(module, r) }))
    }

    /// Adds a row to values that lie `stride` apart.
    fn add(&self, row: usize, values: &mut [f32], stride: usize) {
        for (a, b) in self.a.chunks_exact(self.a.len() / self.r).zip(&self.b[row * self.r..]) {
            let b = self.scale * b;
            a.iter().zip(values.iter_mut().step_by(stride)).for_each(|(a, value)| *value += b * a);
        }
    }
}

fn into_folder(
    base: &Path,
    (folder, adapter): (&Path, &Adapter),
    output: &Path,
    sealer: Option<&dyn Sealer>,
) -> Result<(), Error> {
    let layout = model::Layout::of(base)?;
    model::check(base)?;
    let mut checkpoint = Checkpoint::open_with(base, sealer)?;
    let mut config: Value = read_json(&base.join("config.json"))?;
    let is_encoder = config["model_type"].as_str().is_some_and(|family| ENCODERS.contains(&family));
    let own = folder.join("config.json");
    if is_encoder && own.is_file() {
        let own: Map<String, Value> = read_json(&own)?;
        if let Some(config) = config.as_object_mut() {
            config.retain(|key, _| !OF_A_HEAD.contains(&&**key));
            config.extend(own.into_iter().filter(|(key, _)| OF_A_HEAD.contains(&&**key)));
        }
    }
    if is_encoder && adapter.has_wholes() {
        checkpoint = head::with_wholes(checkpoint, adapter, &config, base)?;
    } else {
        put_wholes(adapter, &mut checkpoint, folder)?;
    }
    model::write(
        (output, sealer),
        base,
        &checkpoint,
        |stored| {
            let (Some(module), &[first, second]) = (stored.name.strip_suffix(".weight"), &stored.shape[..]) else {
                return Ok(None);
            };
            let transposed = layout.is_transposed(&stored.name);
            let (rows, columns) = if transposed { (second, first) } else { (first, second) };
            let Some(delta) = Delta::of(adapter, module, rows, columns)? else { return Ok(None) };
            // Checked here, so that it cannot fail while the file is written.
            stored.to_f32()?;
            let stored = stored.clone();
            Ok(Some(Box::new(move || {
                let mut values = stored.to_f32().unwrap_or_default();
                for row in 0..rows {
                    match transposed {
                        true => delta.add(row, &mut values[row..], rows),
                        false => delta.add(row, &mut values[row * columns..][..columns], 1),
                    }
                }
                values
            })))
        },
        || {
            adapter.finish()?;
            if is_encoder { contrast::copy_settings(&Settings::read(base)?, base, output) } else { Ok(()) }
        },
        |written| {
            for key in OF_A_HEAD.iter().filter(|_| is_encoder) {
                written.remove(*key);
                written.extend(config.get(*key).map(|value| (key.to_string(), value.clone())));
            }
            if !is_encoder && adapter.unties() {
                written.insert("tie_word_embeddings".into(), false.into());
            }
        },
    )
}

/// Puts what an adapter has whole in the place of the base's tensors, of which alone it may have some, and an output layer.
fn put_wholes(adapter: &Adapter, checkpoint: &mut Checkpoint, path: &Path) -> Result<(), Error> {
    let before = checkpoint.clone();
    adapter.put_wholes(checkpoint);
    for tensor in checkpoint.iter() {
        match before.get(&tensor.name) {
            Some(stored) => tensor.expect_shape(&stored.shape)?,
            None if adapter.unties() && tensor.name == "lm_head.weight" => {}
            None => {
                let names = vec![tensor.name.clone()];
                return Err(Error::UnusedTensors { path: path.to_path_buf(), names });
            }
        }
    }
    Ok(())
}

/// What a configuration says about a head.
const OF_A_HEAD: [&str; 5] = ["architectures", "id2label", "label2id", "num_labels", "problem_type"];

fn into_file(base: &Path, adapter: &Adapter, output: &Path) -> Result<(), Error> {
    let GgufFile { mut metadata, checkpoint } = GgufFile::open(base)?;
    let places: BTreeMap<_, _> =
        gguf_places(&metadata, &checkpoint)?.into_iter().map(|place| (place.tensor.clone(), place)).collect();
    let tensors: Vec<&StoredTensor> = checkpoint.iter().collect();
    let mut deltas = Vec::with_capacity(tensors.len());
    for tensor in &tensors {
        let place = places.get(&tensor.name).and_then(|place| Some((place, place.name.strip_suffix(".weight")?)));
        let delta = match (place, &tensor.shape[..]) {
            (Some((place, module)), &[rows, columns]) => {
                Delta::of(adapter, module, rows, columns)?.map(|delta| (place, delta))
            }
            _ => None,
        };
        deltas.push(delta);
    }
    adapter.finish()?;
    let plans: Vec<_> = tensors
        .iter()
        .zip(&deltas)
        .map(|(tensor, delta)| {
            let dtype = if delta.is_some() && tensor.dtype.is_block() { Dtype::Q8_0 } else { tensor.dtype };
            gguf_write::TensorPlan { name: tensor.name.clone(), dtype, shape: tensor.shape.clone() }
        })
        .collect();
    if plans.iter().zip(&tensors).any(|(plan, tensor)| plan.dtype != tensor.dtype) {
        // ggml's `LLAMA_FTYPE`: what most of the file is.
        metadata.insert("general.file_type", weights::Value::U32(7));
    }
    gguf_write::write_gguf(output, &metadata, &plans, |index| {
        let (tensor, dtype) = (tensors[index], plans[index].dtype);
        let Some((place, delta)) = &deltas[index] else { return Ok(tensor.data.to_vec()) };
        let columns = tensor.shape[1];
        let mut values = tensor.to_f32()?;
        let mut bytes = Vec::with_capacity(dtype.bytes_for(values.len()).unwrap_or_default());
        for (row, values) in values.chunks_exact_mut(columns).enumerate() {
            delta.add(place.row(row), values, 1);
            bytes.extend(block::quantize(dtype, values)?);
        }
        Ok(bytes)
    })?;
    Ok(())
}
