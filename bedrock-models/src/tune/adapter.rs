//! Adapters in the layout of PEFT.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use super::learner::Learner;
use super::stored::{self, Lazy, replace};
use super::trainer::Lora;
use crate::error::Error;
use crate::language_model::name_of;
use crate::layers::Parameter;

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
        let name = named(parameter.name());
        // Factors are named as modules, others as tensors.
        let end = if is_factor(name) { ".weight" } else { "" };
        let name = format!("base_model.model.{name}{end}");
        (name, Lazy::f32(parameter.shape(), || parameter.values()))
    });
    stored::write(&folder.join("adapter_model.safetensors"), tensors.collect(), learner.sealer())?;
    let whole = learner.parameters().iter().map(Parameter::name).filter(|name| !is_factor(name));
    // As PEFT finds them: by the last name of what has them all.
    let whole = whole.map(|name| if name.starts_with("classifier.") { "classifier" } else { "pooler" });
    let whole: BTreeSet<&str> = whole.collect();
    let config = json!({
        "peft_type": "LORA", "task_type": task, "base_model_name_or_path": name_of(base), "bias": "none",
        "r": lora.rank, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout, "use_rslora": lora.rank_stabilised,
        "target_modules": lora.targets, "fan_in_fan_out": false, "inference_mode": true, "init_lora_weights": true,
        "modules_to_save": (!whole.is_empty()).then_some(whole),
    });
    replace(&folder.join("adapter_config.json"), format!("{config:#}\n").as_bytes())
}

fn is_factor(name: &str) -> bool {
    name.ends_with(".lora_A") || name.ends_with(".lora_B")
}
