//! Classifiers that learn labels of texts.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use burn::Tensor;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, TensorData};
use serde_json::{Map, Value};

use super::data::{Made, read_items};
use super::encoders::{CLASSIFICATION, TrainedEncoder, largest};
use super::head::Head;
use super::job::Job;
use super::learner::Learner;
use super::metrics::{Measure, Metrics};
use super::optimizer::AdamW;
use super::run::JobOptions;
use super::stored::replace;
use super::task::{Ready, Task};
use super::trainer::{Method, Step};
use crate::arch::text_encoder::Purpose;
use crate::error::Error;
use crate::language_model::read_json;
use crate::options::LoadOptions;
use crate::tokenizer::Encoding;
use crate::weights::Checkpoint;

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
        let head = Head::of(labels, seed, &checkpoint, &config, path)?;
        let purpose = Purpose::Sequence { labels: head.labels.len() };
        // What is new is trained, whatever the method.
        let whole = head.whole(&checkpoint, &config);
        let checkpoint = head.put_on(checkpoint, &config, path)?;
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
    use serde_json::json;

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
}
