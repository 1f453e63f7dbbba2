//! Heads of classifiers: layers on an encoder that a base has, gets anew, or gets from an adapter.

use std::path::Path;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde_json::{Map, Value, json};

use crate::classify;
use crate::error::Error;
use crate::layers::Adapter;
use crate::weights::{Checkpoint, Dtype, StoredTensor};

/// The deviation of the numbers that new layers begin with: `initializer_range` of published configurations.
const DEVIATION: f32 = 0.02;
/// The widest hidden state that gets a new head.
const WIDEST: usize = 1 << 13;

/// Encoders that can be given a new head: `model_type`, class of the whole, prefix of the encoder in it, and the two layers of the head,
/// of which the first may be there already.
const HEADS: [(&str, &str, &str, &str, &str); 4] = [
    ("bert", "BertForSequenceClassification", "bert.", "bert.pooler.dense", "classifier"),
    ("roberta", "RobertaForSequenceClassification", "roberta.", "classifier.dense", "classifier.out_proj"),
    ("xlm-roberta", "XLMRobertaForSequenceClassification", "roberta.", "classifier.dense", "classifier.out_proj"),
    ("deberta-v2", "DebertaV2ForSequenceClassification", "deberta.", "pooler.dense", "classifier"),
];

/// Which labels, and where the head comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) labels: Vec<String>,
    /// Of the numbers of a new one; none: the base's.
    seed: Option<u64>,
}

impl Head {
    /// The base's, if it is a classifier that has all of `labels`, otherwise a new one, which `seed` gives numbers to.
    ///
    /// # Errors
    /// [`Error::ConfigValue`] for a configuration with impossible labels.
    pub(super) fn of(
        labels: &[String],
        seed: u64,
        base: &Checkpoint,
        config: &Value,
        path: &Path,
    ) -> Result<Self, Error> {
        let is_head = |stored: &StoredTensor| stored.name.starts_with("classifier.");
        let own = if base.iter().any(is_head) { classify::labels(config, path)? } else { Vec::new() };
        Ok(match own.len() > 1 && labels.iter().all(|label| own.contains(label)) {
            true => Self { labels: own, seed: None },
            false => Self { labels: labels.to_vec(), seed: Some(seed) },
        })
    }

    /// Modules that are trained whole beside an adapter: the last layer, and the first if it is new.
    pub(super) fn whole(&self, base: &Checkpoint, config: &Value) -> Vec<String> {
        let first = HEADS.iter().find(|(kind, ..)| config["model_type"] == *kind).map(|(_, _, _, first, _)| *first);
        let has_pooler = base.iter().any(|stored| stored.name.ends_with("pooler.dense.weight"));
        let new = first.filter(|first| self.seed.is_some() && first.ends_with("pooler.dense") && !has_pooler);
        ["classifier"].into_iter().chain(new).map(String::from).collect()
    }

    /// The tensors of a classifier with this head, given those of the base.
    pub(super) fn put_on(&self, checkpoint: Checkpoint, config: &Value, path: &Path) -> Result<Checkpoint, Error> {
        let Some(seed) = self.seed else { return Ok(checkpoint) };
        let file = path.join("config.json");
        let (mut checkpoint, [first, second]) = without_head(checkpoint, config, path)?;
        let hidden = config["hidden_size"].as_u64().and_then(|hidden| usize::try_from(hidden).ok());
        let Some(hidden) = hidden.filter(|hidden| (1..=WIDEST).contains(hidden)) else {
            let what = format!("hidden_size is {}, outside 1..={WIDEST}", config["hidden_size"]);
            return Err(Error::ConfigValue { path: file, what });
        };
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        for (name, rows) in [(first, hidden), (second, self.labels.len())] {
            if checkpoint.contains(&format!("{name}.weight")) {
                continue;
            }
            let mut add = |part: &str, shape: Vec<usize>, values: Vec<f32>| {
                let data = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into();
                checkpoint.insert(StoredTensor { name: format!("{name}.{part}"), dtype: Dtype::F32, shape, data });
            };
            let weights = (0..rows * hidden).map(|_| DEVIATION * normal(&mut random)).collect();
            add("weight", vec![rows, hidden], weights);
            add("bias", vec![rows], vec![0.0; rows]);
        }
        Ok(checkpoint)
    }

    /// Writes the head into a configuration.
    pub(super) fn describe(&self, config: &mut Map<String, Value>) {
        config.insert("problem_type".into(), "single_label_classification".into());
        if self.seed.is_none() {
            return;
        }
        let class = HEADS.iter().find(|(kind, ..)| config.get("model_type").is_some_and(|found| found == kind));
        config.insert("architectures".into(), json!(class.map(|(_, class, ..)| [class])));
        let ids = self.labels.iter().enumerate();
        let by_id: Map<String, Value> =
            ids.clone().map(|(id, label)| (id.to_string(), label.as_str().into())).collect();
        let by_label: Map<String, Value> = ids.map(|(id, label)| (label.clone(), id.into())).collect();
        config.insert("id2label".into(), by_id.into());
        config.insert("label2id".into(), by_label.into());
        config.remove("num_labels");
    }
}

/// The tensors of a base by their names in the class with a head, without a head, and the names of its two layers, of which the first may be there.
fn without_head(
    mut checkpoint: Checkpoint,
    config: &Value,
    path: &Path,
) -> Result<(Checkpoint, [&'static str; 2]), Error> {
    let found = config["model_type"].as_str().unwrap_or_default();
    let Some((_, _, prefix, first, second)) = HEADS.into_iter().find(|(kind, ..)| *kind == found) else {
        const KINDS: &[&str] = &[HEADS[0].0, HEADS[1].0, HEADS[2].0, HEADS[3].0];
        let (path, found) = (path.join("config.json"), found.into());
        return Err(Error::UnsupportedArchitecture { path, found, supported: KINDS });
    };
    // Other heads, and RoBERTa's pooler, which its classifiers do not have, go; the encoder gets its name in the whole, of which DeBERTa's pooler
    // is a part beside it.
    let bare = !checkpoint.iter().any(|stored| stored.name.starts_with(prefix));
    let names: Vec<String> = checkpoint.iter().map(|stored| stored.name.clone()).collect();
    for name in names {
        let inner = name.strip_prefix(prefix).unwrap_or(&name);
        let others = ["classifier.", "cls.", "lm_head.", "lm_predictions.", "mask_predictions."];
        let is_other = others.iter().any(|head| name.starts_with(head));
        let is_pooler = inner.starts_with("pooler.");
        if is_other || (is_pooler && !first.ends_with("pooler.dense")) || inner.ends_with("position_ids") {
            checkpoint.take_optional(&name);
        } else if bare && (!is_pooler || first.starts_with(prefix)) {
            let tensor = checkpoint.take(&name)?;
            checkpoint.insert(StoredTensor { name: format!("{prefix}{name}"), ..tensor });
        }
    }
    Ok((checkpoint, [first, second]))
}

/// The tensors of a base with those that an adapter has whole, its head, in their place. `config` has the labels.
///
/// # Errors
/// [`Error::MissingTensor`] if a layer of the head is in neither, [`Error::TensorShape`] if there are more or fewer labels;
/// [`Error::UnsupportedArchitecture`] for a base that cannot be given a head.
pub(super) fn with_wholes(
    mut checkpoint: Checkpoint,
    adapter: &Adapter,
    config: &Value,
    path: &Path,
) -> Result<Checkpoint, Error> {
    let mut layers = Vec::new();
    if !checkpoint.iter().any(|stored| stored.name.starts_with("classifier.")) {
        let (renamed, made) = without_head(checkpoint, config, path)?;
        (checkpoint, layers) = (renamed, made.to_vec());
    }
    adapter.put_wholes(&mut checkpoint);
    let mut names = layers.iter().map(|layer| format!("{layer}.weight"));
    if let Some(name) = names.find(|name| !checkpoint.contains(name)) {
        return Err(Error::MissingTensor { path: path.to_path_buf(), name });
    }
    let count = classify::labels(config, path)?.len();
    for name in ["classifier.weight", "classifier.out_proj.weight"] {
        if let Some(stored) = checkpoint.get(name)
            && stored.shape.first() != Some(&count)
        {
            let expected = [&[count], stored.shape.get(1..).unwrap_or_default()].concat();
            return Err(Error::TensorShape { name: name.into(), expected, got: stored.shape.clone() });
        }
    }
    Ok(checkpoint)
}

/// A number of the normal distribution (Box and Muller 1958).
fn normal(random: &mut ChaCha8Rng) -> f32 {
    let mut uniform = || (f64::from(random.next_u32()) + 0.5) / 2f64.powi(32);
    let (radius, angle) = ((-2.0 * uniform().ln()).sqrt(), std::f64::consts::TAU * uniform());
    (radius * angle.cos()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_numbers_are_normal() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let numbers: Vec<f64> = (0..20_000).map(|_| f64::from(normal(&mut random))).collect();
        let mean = |of: &dyn Fn(f64) -> f64| numbers.iter().map(|x| of(*x)).sum::<f64>() / numbers.len() as f64;
        assert!(
            mean(&|x| x).abs() < 0.03
                && (mean(&|x| x * x) - 1.0).abs() < 0.05
                && (mean(&|x| x.powi(4)) - 3.0).abs() < 0.4
        );
    }
}
