//! Adapters in the layout of PEFT.

use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use super::trainer::Lora;
use crate::error::Error;
use crate::language_model::name_of;
use crate::layers::Parameter;

/// Writes `adapter_model.safetensors`, then `adapter_config.json`, by whose presence an adapter is known.
pub(super) fn save(folder: &Path, lora: &Lora, base: &Path, parameters: &[Parameter]) -> Result<(), Error> {
    let write = |source| Error::Write { path: folder.to_path_buf(), source };
    std::fs::create_dir_all(folder).map_err(write)?;
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = parameters
        .iter()
        .map(|parameter| {
            let values = parameter.values().iter().flat_map(|value| value.to_le_bytes()).collect();
            (format!("base_model.model.{}.weight", parameter.name()), parameter.shape().to_vec(), values)
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("as many bytes as the shape has");
        (name, view)
    });
    let tensors = safetensors::serialize(views, None).expect("names and lengths are those of the parameters");
    replace(&folder.join("adapter_model.safetensors"), &tensors)?;
    let config = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": name_of(base), "bias": "none",
        "r": lora.rank, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout, "use_rslora": lora.rank_stabilised,
        "target_modules": lora.targets, "fan_in_fan_out": false, "inference_mode": true, "init_lora_weights": true,
    });
    replace(&folder.join("adapter_config.json"), format!("{config:#}\n").as_bytes())
}

/// Writes a file beside its place and moves it there.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let write = |source| Error::Write { path: path.to_path_buf(), source };
    let beside = path.with_extension("part");
    let mut file = std::fs::File::create(&beside).map_err(write)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(write)?;
    std::fs::rename(&beside, path).map_err(write)
}
