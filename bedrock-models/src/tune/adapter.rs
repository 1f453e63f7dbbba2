//! Adapters in the layout of PEFT.

use std::path::Path;

use serde_json::json;

use super::learner::Learner;
use super::stored::{self, Lazy, replace};
use super::trainer::Lora;
use crate::error::Error;
use crate::language_model::name_of;

/// Writes `adapter_model.safetensors`, then `adapter_config.json`, by whose presence an adapter is known. `named` gives the names of parameters in
/// the class that PEFT has for the task.
pub(super) fn save(
    folder: &Path,
    lora: &Lora,
    (base, task): (&Path, &str),
    learner: &Learner,
    named: impl Fn(&str) -> &str,
) -> Result<(), Error> {
    std::fs::create_dir_all(folder).map_err(|source| Error::Write { path: folder.to_path_buf(), source })?;
    let tensors = learner.parameters().iter().map(|parameter| {
        let name = format!("base_model.model.{}.weight", named(parameter.name()));
        (name, Lazy::f32(parameter.shape(), || parameter.values()))
    });
    stored::write(&folder.join("adapter_model.safetensors"), tensors.collect(), learner.sealer())?;
    let config = json!({
        "peft_type": "LORA", "task_type": task, "base_model_name_or_path": name_of(base), "bias": "none",
        "r": lora.rank, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout, "use_rslora": lora.rank_stabilised,
        "target_modules": lora.targets, "fan_in_fan_out": false, "inference_mode": true, "init_lora_weights": true,
    });
    replace(&folder.join("adapter_config.json"), format!("{config:#}\n").as_bytes())
}
