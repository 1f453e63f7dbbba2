//! Sentence embeddings that learn which texts belong together.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bedrock_core::EmbedPurpose;
use burn::Tensor;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, TensorData};
use serde_json::{Map, Value, json};

use super::data::{Made, read_items};
use super::encoders::{EXTRACTION, TrainedEncoder, largest};
use super::job::Job;
use super::learner::Learner;
use super::metrics::{Measure, Metrics};
use super::optimizer::AdamW;
use super::run::JobOptions;
use super::stored::replace;
use super::task::{Ready, Task};
use super::trainer::{Method, Step};
use crate::arch::text_encoder::{EncoderInput, Purpose};
use crate::embed::{Pooling, Settings};
use crate::error::Error;
use crate::options::LoadOptions;
use crate::tokenizer::Encoding;
use crate::weights::Checkpoint;

/// A text, one that belongs to it and, if there is one, one that does not, as tokens.
#[derive(Debug, Clone)]
pub struct Contrast {
    anchor: Encoding,
    positive: Encoding,
    negative: Option<Encoding>,
}

impl Contrast {
    fn texts(&self) -> impl Iterator<Item = &Encoding> {
        [&self.anchor, &self.positive].into_iter().chain(&self.negative)
    }
}

/// A model of sentence embeddings that is being trained, in all weights or by an adapter: BERT, RoBERTa, XLM-R, MPNet, ModernBERT, nomic-BERT or DeBERTa.
#[derive(Debug)]
pub struct EmbeddingTrainer {
    inner: TrainedEncoder,
    settings: Settings,
    path: PathBuf,
}

impl EmbeddingTrainer {
    /// Loads a folder in Hugging Face layout, with the `sentence-transformers` files if it has them; without, it is pooled by the mean.
    ///
    /// # Errors
    /// As [`Embedder::load`](crate::Embedder::load); [`Error::UnsupportedArchitecture`] for other encoders, [`Error::ConfigValue`] for
    /// layers after the pooling, which are not trained.
    pub fn load(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Self, Error> {
        Self::load_with(path, options, Method::Full)
    }

    /// [`EmbeddingTrainer::load`], to train what the method says. Modules of an adapter are those of the checkpoint, such as `query` and `value` of BERT.
    ///
    /// # Errors
    /// As there; [`Error::InvalidParameter`] for an impossible adapter, [`Error::UnusedTensors`] if no layer has the name of a target.
    pub fn load_with(path: impl AsRef<Path>, options: &LoadOptions, method: Method) -> Result<Self, Error> {
        let path = path.as_ref();
        let settings = Settings::read(path)?;
        if !settings.dense.is_empty() {
            let what = "dense layers after the pooling are not trained".into();
            return Err(Error::ConfigValue { path: path.join("modules.json"), what });
        }
        let mut inner = TrainedEncoder::load(
            path,
            options,
            Purpose::Vectors,
            Checkpoint::open_with(path, options.sealer.as_deref())?,
            (method, Vec::new()),
        )?;
        inner.encoder.limit_tokens(settings.max_seq_length);
        Ok(Self { inner, settings, path: path.to_path_buf() })
    }

    /// Tokens of texts, each with the prompt that the model has for queries (the anchor) or documents, cut to the model's limit.
    ///
    /// # Errors
    /// [`Error::NoTokens`] for a text that is nothing to the tokenizer; those of the tokenizer.
    pub fn encode(&self, anchor: &str, positive: &str, negative: Option<&str>) -> Result<Contrast, Error> {
        let encode = |text: &str, purpose| {
            let encoding = self.settings.encode(&self.inner.encoder, text, purpose)?;
            if encoding.is_empty() { Err(Error::NoTokens) } else { Ok(encoding) }
        };
        Ok(Contrast {
            anchor: encode(anchor, EmbedPurpose::Query)?,
            positive: encode(positive, EmbedPurpose::Document)?,
            negative: negative.map(|text| encode(text, EmbedPurpose::Document)).transpose()?,
        })
    }

    /// Steps made so far.
    pub fn steps(&self) -> u64 {
        self.inner.learner.steps()
    }

    /// Multiple negatives ranking (Henderson et al. 2017): the cross-entropy of each anchor's own positive among all positives and negatives of
    /// its batch, by cosines times `scale`; the mean over anchors, natural logarithm. Each `in_batch` items are a batch.
    ///
    /// # Errors
    /// [`Error::NoTokens`] if there are no items; [`Error::Diverged`].
    pub fn loss(&self, items: &[Contrast], in_batch: usize, scale: f64) -> Result<(f64, Metrics), Error> {
        self.measure(&items.iter().collect::<Vec<_>>(), in_batch, scale, false)
    }

    /// One step of AdamW on [`EmbeddingTrainer::loss`].
    ///
    /// # Errors
    /// As there; nothing has changed then.
    pub fn step(
        &mut self,
        items: &[Contrast],
        in_batch: usize,
        scale: f64,
        settings: &AdamW,
    ) -> Result<(Step, Metrics), Error> {
        let measured = self.measure(&items.iter().collect::<Vec<_>>(), in_batch, scale, true);
        self.inner.learner.step_of(measured, settings)
    }

    fn measure(&self, items: &[&Contrast], in_batch: usize, scale: f64, learn: bool) -> Result<(f64, Metrics), Error> {
        if items.is_empty() {
            return Err(Error::NoTokens);
        }
        let (mut loss, mut right) = (0.0, 0);
        let in_batch = in_batch.max(1);
        for (number, batch) in items.chunks(in_batch).enumerate() {
            // An item has three texts at most.
            let (of_batch, of_right) = self.contrast((3 * number * in_batch, batch), items.len(), scale, learn);
            loss += of_batch;
            right += of_right;
        }
        let accuracy = right as f64 / items.len() as f64;
        Ok((self.inner.learner.finite(loss)?, Metrics::Accuracy { accuracy }))
    }

    /// The sum of a batch's losses as a share of those of `total` items, and how many positives are the nearest.
    fn contrast(&self, (first, batch): (usize, &[&Contrast]), total: usize, scale: f64, learn: bool) -> (f64, usize) {
        let anchors = batch.iter().map(|item| &item.anchor);
        let others = batch.iter().map(|item| &item.positive);
        let negatives = batch.iter().filter_map(|item| item.negative.as_ref());
        let inputs: Vec<&Encoding> = anchors.chain(others).chain(negatives).collect();
        let (count, all, pooling) = (batch.len(), inputs.len(), self.settings.pooling.unwrap_or(Pooling::Mean));
        self.inner.measure((first, &inputs), &|hidden, input| pooled(pooling, hidden, input), learn, |rows| {
            let length = (rows.clone().powf_scalar(2.0).sum_dim(1) + 1e-24).sqrt();
            let rows = rows / length;
            let (anchors, others) = (rows.clone().narrow(0, 0, count), rows.narrow(0, count, all - count));
            let scores = anchors.matmul(others.transpose()) * scale;
            let right = largest(&scores).into_iter().enumerate().filter(|(own, found)| own == found).count();
            let own: Vec<i64> = (0..count as i64).collect();
            let own = Tensor::<2, Int>::from_data(TensorData::new(own, [count, 1]), &scores.device());
            let loss = log_softmax(scores, 1).gather(1, own).sum() * (-1.0 / total as f64);
            (loss, right)
        })
    }

    /// Writes the model as `sentence-transformers` reads it, and [`Embedder::load`](crate::Embedder::load): its weights in single
    /// precision and the other files of the base. Each file is whole or not there. With [`LoadOptions::sealer`] the weights are
    /// `model.safetensors.sealed`. An adapter is written alone, as PEFT reads it beside the model without a head; [`Embedder::load`](crate::Embedder::load) with
    /// [`LoadOptions::adapter`] does, too.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for an adapter that was not new; [`Error::Read`], [`Error::Write`], [`Error::Seal`].
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), Error> {
        let folder = folder.as_ref();
        if self.inner.adapts() {
            return self.inner.save_adapter(folder, EXTRACTION);
        }
        copy_settings(&self.settings, &self.path, folder)?;
        let write = |name: &str, bytes: &[u8]| write_in(folder, Path::new(name), bytes);
        if self.settings.pooling_folder.is_none() {
            let module = |index: usize, path: &str, kind: &str| json!({ "idx": index, "name": index.to_string(), "path": path, "type": format!("sentence_transformers.models.{kind}") });
            let modules = json!([module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling")]);
            let pooling = json!({
                "word_embedding_dimension": self.inner.encoder.network.hidden_size(), "pooling_mode_mean_tokens": true,
                "pooling_mode_cls_token": false, "pooling_mode_max_tokens": false, "pooling_mode_mean_sqrt_len_tokens": false,
            });
            write("1_Pooling/config.json", format!("{pooling:#}\n").as_bytes())?;
            write("modules.json", format!("{modules:#}\n").as_bytes())?;
        }
        self.inner.save(folder, Checkpoint::open_with(&self.path, self.inner.learner.sealer())?, |_| ())
    }
}

/// Writes a file in a folder, whose folders are made.
fn write_in(folder: &Path, name: &Path, bytes: &[u8]) -> Result<(), Error> {
    let path = folder.join(name);
    let parent = path.parent().unwrap_or(folder);
    fs::create_dir_all(parent).map_err(|source| Error::Write { path: parent.to_path_buf(), source })?;
    replace(&path, bytes)
}

/// Copies the `sentence-transformers` files that a model has, with those of layers after the pooling.
///
/// # Errors
/// [`Error::Read`], [`Error::Write`].
pub(super) fn copy_settings(settings: &Settings, from: &Path, to: &Path) -> Result<(), Error> {
    let named = ["modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"].map(PathBuf::from);
    let pooling = settings.pooling_folder.iter().map(|folder| Path::new(folder).join("config.json"));
    let files = ["config.json", "model.safetensors", "model.safetensors.sealed"];
    let dense = settings.dense.iter().flat_map(|folder| files.map(|file| Path::new(folder).join(file)));
    for name in named.into_iter().chain(pooling).chain(dense) {
        let path = from.join(&name);
        if path.is_file() {
            let bytes = fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
            write_in(to, &name, &bytes)?;
        }
    }
    Ok(())
}

/// A row for each text.
///
/// # Shapes
/// - `hidden`: `[rows, width]`; returns `[texts, width]`
fn pooled(pooling: Pooling, hidden: Tensor<2>, input: &EncoderInput) -> Tensor<2> {
    let rows = |of: &dyn Fn(Tensor<2>, usize) -> Tensor<2>| {
        let row = |at: &crate::layers::Sequence| of(hidden.clone().narrow(0, at.first_row, at.tokens), at.tokens);
        Tensor::cat(input.sequences.iter().map(row).collect(), 0)
    };
    match pooling {
        Pooling::Cls => input.first_rows(hidden),
        Pooling::Mean => input.means(&hidden),
        Pooling::Max => rows(&|tokens, _| tokens.max_dim(0)),
        Pooling::MeanSqrtLen => rows(&|tokens, count| tokens.sum_dim(0) / (count as f64).sqrt()),
        Pooling::LastToken => rows(&|tokens, count| tokens.narrow(0, count - 1, 1)),
    }
}

/// A line's object: `{anchor, positive, negative?}`, the anchor also as `query`.
fn texts(mut line: Map<String, Value>) -> Result<[Option<String>; 3], String> {
    let anchor = match (line.remove("anchor"), line.remove("query")) {
        (Some(_), Some(_)) => return Err("a line should have anchor or query, not both".into()),
        (Some(text), None) => ("anchor", Some(text)),
        (None, text) => ("query", text),
    };
    let positive = ("positive", line.remove("positive"));
    if anchor.1.is_none() || positive.1.is_none() {
        return Err("a line should have anchor (or query) and positive".into());
    }
    let text = |(name, value): (&str, Option<Value>)| match value {
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text)),
        Some(Value::String(_)) => Err(format!("{name} is empty")),
        Some(_) => Err(format!("{name} is no text")),
        None => Ok(None),
    };
    Ok([text(anchor)?, text(positive)?, text(("negative", line.remove("negative").filter(|text| !text.is_null())))?])
}

/// Embeddings as what a job learns.
struct Contrasts {
    trainer: EmbeddingTrainer,
    items: Vec<Contrast>,
    validation: Vec<Contrast>,
    in_batch: usize,
    scale: f64,
}

/// A job's model and data.
///
/// # Errors
/// [`Error::TrainingData`], [`Error::Job`] if nothing could be told apart; those of loading.
pub(super) fn ready(job: &Job, options: &JobOptions) -> Result<Ready, Error> {
    let settings = &job.hyper_parameters;
    let most = options.load.max_tokens.unwrap_or(usize::MAX).min(settings.max_sequence_length);
    let load = LoadOptions { max_tokens: Some(most), ..options.load.clone() };
    let trainer = EmbeddingTrainer::load_with(&job.base_model, &load, job.trained()?)?;
    let read = |path: &Path| {
        read_items(path, job.too_long, |line| {
            let [Some(anchor), Some(positive), negative] = (match texts(line) {
                Ok(texts) => texts,
                Err(reason) => return Ok(Err(reason)),
            }) else {
                unreachable!("both were there")
            };
            let item = match trainer.encode(&anchor, &positive, negative.as_deref()) {
                Ok(item) => item,
                Err(Error::NoTokens) => return Ok(Err("a text has no tokens".into())),
                Err(error) => return Err(error),
            };
            let tokens = item.texts().map(Encoding::len).sum();
            let truncated = item.texts().map(|text| text.truncated).max().unwrap_or(0);
            Ok(Ok(Made { item, tokens, truncated, empty: false }))
        })
    };
    let validation = job.validation_data.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let data = read(&job.training_data)?;
    let (in_batch, scale) = (settings.batch_size, settings.scale);
    if in_batch == 1 && data.items.iter().any(|item| item.negative.is_none()) {
        let reason = "2 or more where items have no negative: others of the batch are what an anchor is told from";
        return Err(Error::Job { what: "batchSize".into(), reason: reason.into() });
    }
    let limit = trainer.inner.encoder.max_tokens;
    Ok(Ready::new(data, validation, limit, |items, validation| {
        Box::new(Contrasts { trainer, items, validation, in_batch, scale })
    }))
}

impl Task for Contrasts {
    fn learner(&self) -> &Learner {
        &self.trainer.inner.learner
    }

    fn learner_mut(&mut self) -> &mut Learner {
        &mut self.trainer.inner.learner
    }

    fn tokens(&self, items: &[usize]) -> u64 {
        items.iter().flat_map(|item| self.items[*item].texts()).map(|text| text.len() as u64).sum()
    }

    fn step(&mut self, items: &[usize], settings: &AdamW) -> Result<(Step, Option<Metrics>), Error> {
        let items: Vec<&Contrast> = items.iter().map(|item| &self.items[*item]).collect();
        let measured = self.trainer.measure(&items, self.in_batch, self.scale, true);
        let (step, metrics) = self.trainer.inner.learner.step_of(measured, settings)?;
        Ok((step, Some(metrics)))
    }

    fn measured_at_once(&self) -> usize {
        self.in_batch
    }

    fn validate(&self, items: Range<usize>) -> Result<(Measure, usize), Error> {
        let items: Vec<&Contrast> = self.validation[items].iter().collect();
        let (loss, metrics) = self.trainer.measure(&items, self.in_batch, self.scale, false)?;
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
    fn lines_say_what_belongs_together() {
        let read = |line: Value| {
            let Value::Object(line) = line else { panic!("no object") };
            texts(line)
        };
        let some = |text: &str| Some(text.to_string());
        assert_eq!(read(json!({"anchor": "a", "positive": "b"})).unwrap(), [some("a"), some("b"), None]);
        let line = json!({"query": "a", "positive": "b", "negative": "c", "more": 1});
        assert_eq!(read(line).unwrap(), [some("a"), some("b"), some("c")]);
        for (line, reason) in [
            (json!({"anchor": "a"}), "should have anchor (or query) and positive"),
            (json!({"anchor": "a", "query": "a", "positive": "b"}), "not both"),
            (json!({"query": " ", "positive": "b"}), "query is empty"),
            (json!({"query": "a", "positive": 1}), "positive is no text"),
            (json!({"query": "a", "positive": "b", "negative": ""}), "negative is empty"),
        ] {
            let got = read(line.clone()).unwrap_err();
            assert!(got.contains(reason), "{line}: {got}");
        }
    }

    /// The pooling that is trained is the one that answers.
    #[test]
    fn poolings_are_those_of_answers() {
        let mut input = EncoderInput::default();
        input.push(&[1, 2, 3], &[0, 0, 0]);
        input.push(&[4, 5], &[0, 0]);
        let values: Vec<f32> = (0..20).map(|i| ((i * 7) % 11) as f32 - 5.0).collect();
        let device = LoadOptions::default().compute().device;
        let hidden = Tensor::<2>::from_data(TensorData::new(values.clone(), [5, 4]), &device);
        for pooling in [Pooling::Mean, Pooling::Cls, Pooling::Max, Pooling::MeanSqrtLen, Pooling::LastToken] {
            let mut want = vec![0.0; 8];
            pooling.pool(&values[..12], &mut want[..4]);
            pooling.pool(&values[12..], &mut want[4..]);
            let got = crate::encoder::host(pooled(pooling, hidden.clone(), &input));
            assert!(got.iter().zip(&want).all(|(got, want)| (got - want).abs() < 1e-6), "{pooling:?} {got:?} {want:?}");
        }
    }
}
