//! Classifiers that learn labels of texts.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use burn::Tensor;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde_json::{Map, Value, json};

use super::data::{Made, read_items};
use super::encoders::{CLASSIFICATION, TrainedEncoder, largest};
use super::job::Job;
use super::learner::Learner;
use super::metrics::{Measure, Metrics};
use super::optimizer::AdamW;
use super::run::JobOptions;
use super::stored::replace;
use super::task::{Ready, Task};
use super::trainer::{Method, Step};
use crate::arch::text_encoder::Purpose;
use crate::classify;
use crate::error::Error;
use crate::language_model::read_json;
use crate::layers::Adapter;
use crate::options::LoadOptions;
use crate::tokenizer::Encoding;
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

/// A text or pair of texts as tokens, and its label.
#[derive(Debug, Clone)]
pub struct Labelled {
    input: Encoding,
    label: usize,
}

/// A classifier that is being trained, in all weights or by an adapter and a head: BERT, RoBERTa, XLM-R, MPNet, ModernBERT, nomic-BERT or DeBERTa.
#[derive(Debug)]
pub struct ClassifierTrainer {
    inner: TrainedEncoder,
    head: Head,
    path: PathBuf,
}

/// Which labels, and where the head comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Head {
    labels: Vec<String>,
    /// Of the numbers of a new one; none: the base's.
    seed: Option<u64>,
}

impl ClassifierTrainer {
    /// Loads a folder in Hugging Face layout. If it is a classifier that has all of `labels`, it keeps its own; otherwise it gets a new head,
    /// which `seed` gives numbers to. That needs BERT, RoBERTa, XLM-R or DeBERTa.
    ///
    /// # Errors
    /// As [`SequenceClassifier::load`](crate::SequenceClassifier::load); [`Error::UnsupportedArchitecture`] for other encoders;
    /// [`Error::InvalidParameter`] for less than two labels, or two that are the same.
    pub fn load(path: impl AsRef<Path>, options: &LoadOptions, labels: &[String], seed: u64) -> Result<Self, Error> {
        Self::load_with(path, options, labels, seed, Method::Full)
    }

    /// [`ClassifierTrainer::load`], to train what the method says: beside an adapter the head is trained too.
    ///
    /// # Errors
    /// As there; [`Error::InvalidParameter`] for an impossible adapter, [`Error::UnusedTensors`] if no layer has the name of a target.
    pub fn load_with(
        path: impl AsRef<Path>,
        options: &LoadOptions,
        labels: &[String],
        seed: u64,
        method: Method,
    ) -> Result<Self, Error> {
        let path = path.as_ref();
        if labels.len() < 2 || labels.iter().collect::<BTreeSet<_>>().len() < labels.len() {
            let expected = "two or more, all different".into();
            return Err(Error::InvalidParameter { name: "labels", got: labels.join(", "), expected });
        }
        let config: Value = read_json(&path.join("config.json"))?;
        let checkpoint = Checkpoint::open_with(path, options.sealer.as_deref())?;
        let is_head = |stored: &StoredTensor| stored.name.starts_with("classifier.");
        let own = if checkpoint.iter().any(is_head) { classify::labels(&config, path)? } else { Vec::new() };
        let head = match own.len() > 1 && labels.iter().all(|label| own.contains(label)) {
            true => Head { labels: own, seed: None },
            false => Head { labels: labels.to_vec(), seed: Some(seed) },
        };
        let purpose = Purpose::Sequence { labels: head.labels.len() };
        let had = |checkpoint: &Checkpoint, name: &str| checkpoint.iter().any(|stored| stored.name.ends_with(name));
        let (pooler, before) = ("pooler.dense.weight", checkpoint.clone());
        let checkpoint = head.put_on(checkpoint, &config, path)?;
        // What is new is trained, whatever the method.
        let mut whole = vec!["classifier".to_string()];
        if had(&checkpoint, pooler) && !had(&before, pooler) {
            let head = HEADS.iter().find(|(kind, ..)| config["model_type"] == *kind);
            whole.extend(head.map(|(_, _, _, first, _)| first.to_string()));
        }
        drop(before);
        let mut inner = TrainedEncoder::load(path, options, purpose, checkpoint, (method, whole))?;
        inner.encoder.limit_tokens(None);
        Ok(Self { inner, head, path: path.to_path_buf() })
    }

    /// Names of the labels, in the order of the logits.
    pub fn labels(&self) -> &[String] {
        &self.head.labels
    }

    /// Tokens of a text or pair, the longest cut first to the model's limit, with its label.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a label that the model does not have; [`Error::NoTokens`]; those of the tokenizer.
    pub fn encode(&self, text: &str, pair: Option<&str>, label: &str) -> Result<Labelled, Error> {
        let Some(label) = self.head.labels.iter().position(|known| known == label) else {
            let expected = format!("one of {}", self.head.labels.join(", "));
            return Err(Error::InvalidParameter { name: "label", got: label.into(), expected });
        };
        let input = self.inner.encoder.encode(text, pair)?;
        if input.is_empty() { Err(Error::NoTokens) } else { Ok(Labelled { input, label }) }
    }

    /// Steps made so far.
    pub fn steps(&self) -> u64 {
        self.inner.learner.steps()
    }

    /// The cross-entropy of the labels, a mean over the texts, natural logarithm.
    ///
    /// # Errors
    /// [`Error::NoTokens`] if there are no items; [`Error::Diverged`].
    pub fn loss(&self, items: &[Labelled]) -> Result<(f64, Metrics), Error> {
        self.measure(&items.iter().collect::<Vec<_>>(), false)
    }

    /// One step of AdamW on [`ClassifierTrainer::loss`].
    ///
    /// # Errors
    /// As there; nothing has changed then.
    pub fn step(&mut self, items: &[Labelled], settings: &AdamW) -> Result<(Step, Metrics), Error> {
        let measured = self.measure(&items.iter().collect::<Vec<_>>(), true);
        self.inner.learner.step_of(measured, settings)
    }

    fn measure(&self, items: &[&Labelled], learn: bool) -> Result<(f64, Metrics), Error> {
        if items.is_empty() {
            return Err(Error::NoTokens);
        }
        let (inputs, count): (Vec<&Encoding>, _) = (items.iter().map(|item| &item.input).collect(), items.len());
        let logits = |hidden, input: &_| self.inner.encoder.logits(None, hidden, input);
        let (loss, right) = self.inner.measure((0, &inputs), &logits, learn, |logits| {
            let found = largest(&logits).into_iter().zip(items);
            let right = found.filter(|(found, item)| *found == item.label).count();
            let labels: Vec<i64> = items.iter().map(|item| item.label as i64).collect();
            let labels = Tensor::<2, Int>::from_data(TensorData::new(labels, [count, 1]), &logits.device());
            (log_softmax(logits, 1).gather(1, labels).sum() * (-1.0 / count as f64), right)
        });
        let accuracy = right as f64 / count as f64;
        Ok((self.inner.learner.finite(loss)?, Metrics::Accuracy { accuracy }))
    }

    /// Writes the model as transformers reads it, and [`SequenceClassifier::load`](crate::SequenceClassifier::load): its weights in
    /// single precision, labels and the base's tokenizer. Each file is whole or not there. With [`LoadOptions::sealer`] the weights are
    /// `model.safetensors.sealed`; the names of the labels stay readable. An adapter is written alone, as PEFT reads it, with the head, and with a
    /// `config.json` that has the labels; [`SequenceClassifier::load`](crate::SequenceClassifier::load) with [`LoadOptions::adapter`] reads all three.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Write`], [`Error::Seal`].
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), Error> {
        let folder = folder.as_ref();
        let mut config: Value = read_json(&self.path.join("config.json"))?;
        if self.inner.adapts() {
            self.inner.save_adapter(folder, CLASSIFICATION)?;
            if let Some(config) = config.as_object_mut() {
                self.head.describe(config);
            }
            return replace(&folder.join("config.json"), format!("{config:#}\n").as_bytes());
        }
        let base = Checkpoint::open_with(&self.path, self.inner.learner.sealer())?;
        let checkpoint = self.head.put_on(base, &config, &self.path)?;
        self.inner.save(folder, checkpoint, |config| self.head.describe(config))
    }
}

impl Head {
    /// The tensors of a classifier with this head, given those of the base.
    fn put_on(&self, checkpoint: Checkpoint, config: &Value, path: &Path) -> Result<Checkpoint, Error> {
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
    fn describe(&self, config: &mut Map<String, Value>) {
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

/// A line's object: `{text, pair?, label}`, the label a text or a number.
struct Line {
    text: String,
    pair: Option<String>,
    label: String,
}

impl Line {
    fn read(mut line: Map<String, Value>) -> Result<Self, String> {
        let mut text = |name: &str| match line.remove(name) {
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text)),
            Some(Value::String(_)) => Err(format!("{name} is empty")),
            Some(Value::Number(number)) if name == "label" => Ok(Some(number.to_string())),
            None | Some(Value::Null) => Ok(None),
            Some(_) => Err(format!("{name} is no text")),
        };
        match (text("text")?, text("pair")?, text("label")?) {
            (Some(text), pair, Some(label)) => Ok(Self { text, pair, label }),
            _ => Err("a line should have text and label".into()),
        }
    }
}

/// Labels as what a job learns.
struct Labels {
    trainer: ClassifierTrainer,
    items: Vec<Labelled>,
    validation: Vec<Labelled>,
}

/// A job's model and data. The labels are those of the training file, in the order of their letters.
///
/// # Errors
/// [`Error::TrainingData`]; those of loading.
pub(super) fn ready(job: &Job, options: &JobOptions) -> Result<Ready, Error> {
    let settings = &job.hyper_parameters;
    let mut labels = BTreeSet::new();
    read_items(&job.training_data, job.too_long, |line| {
        let label = Line::read(line).map(|line| labels.insert(line.label));
        Ok(label.map(|_| Made { item: (), tokens: 0, truncated: 0, empty: false }))
    })?;
    if labels.len() < 2 {
        let (path, reason) = (job.training_data.clone(), "all lines have the same label".into());
        return Err(Error::TrainingData { path, line: None, reason });
    }
    let labels: Vec<String> = labels.into_iter().collect();
    let most = options.load.max_tokens.unwrap_or(usize::MAX).min(settings.max_sequence_length);
    let load = LoadOptions { max_tokens: Some(most), ..options.load.clone() };
    let trainer = ClassifierTrainer::load_with(&job.base_model, &load, &labels, settings.seed, job.trained()?)?;
    let read = |path: &Path| {
        read_items(path, job.too_long, |line| {
            let item = match Line::read(line) {
                Ok(Line { text, pair, label }) => trainer.encode(&text, pair.as_deref(), &label),
                Err(reason) => return Ok(Err(reason)),
            };
            let item = match item {
                Ok(item) => item,
                Err(Error::NoTokens) => return Ok(Err("the text has no tokens".into())),
                Err(Error::InvalidParameter { got, expected, .. }) => {
                    return Ok(Err(format!("label is {got}, but should be {expected}")));
                }
                Err(error) => return Err(error),
            };
            let (tokens, truncated) = (item.input.len(), item.input.truncated);
            Ok(Ok(Made { item, tokens, truncated, empty: false }))
        })
    };
    let validation = job.validation_data.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let data = read(&job.training_data)?;
    let limit = trainer.inner.encoder.max_tokens;
    Ok(Ready::new(data, validation, limit, |items, validation| Box::new(Labels { trainer, items, validation })))
}

impl Task for Labels {
    fn learner(&self) -> &Learner {
        &self.trainer.inner.learner
    }

    fn learner_mut(&mut self) -> &mut Learner {
        &mut self.trainer.inner.learner
    }

    fn tokens(&self, items: &[usize]) -> u64 {
        items.iter().map(|item| self.items[*item].input.len() as u64).sum()
    }

    fn step(&mut self, items: &[usize], settings: &AdamW) -> Result<(Step, Option<Metrics>), Error> {
        let items: Vec<&Labelled> = items.iter().map(|item| &self.items[*item]).collect();
        let measured = self.trainer.measure(&items, true);
        let (step, metrics) = self.trainer.inner.learner.step_of(measured, settings)?;
        Ok((step, Some(metrics)))
    }

    fn validate(&self, items: Range<usize>) -> Result<(Measure, usize), Error> {
        let items: Vec<&Labelled> = self.validation[items].iter().collect();
        let (loss, metrics) = self.trainer.measure(&items, false)?;
        Ok((Measure { loss, metrics: Some(metrics) }, items.len()))
    }

    fn save(&self, folder: &Path) -> Result<(), Error> {
        self.trainer.save(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_a_text_and_a_label() {
        let read = |line: Value| {
            let Value::Object(line) = line else { panic!("no object") };
            Line::read(line).map(|line| (line.text, line.pair, line.label))
        };
        assert_eq!(read(json!({"text": "a", "label": 1, "x": []})).unwrap(), ("a".into(), None, "1".into()));
        let line = json!({"text": "a", "pair": "b", "label": "c"});
        assert_eq!(read(line).unwrap(), ("a".into(), Some("b".into()), "c".into()));
        for (line, reason) in [
            (json!({"text": "a"}), "should have text and label"),
            (json!({"text": "", "label": "b"}), "text is empty"),
            (json!({"text": 1, "label": "b"}), "text is no text"),
            (json!({"text": "a", "label": ["b"]}), "label is no text"),
        ] {
            let got = read(line.clone()).unwrap_err();
            assert!(got.contains(reason), "{line}: {got}");
        }
    }

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
