//! Encoders in training: texts become rows, rows a loss, and the loss's gradients go back in parts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::Tensor;
use burn::tensor::TensorData;
use serde_json::{Map, Value};

use super::adapter;
use super::learner::{Learner, take, training};
use super::model;
use super::trainer::{Lora, Method};
use crate::arch::text_encoder::{EncoderInput, Purpose};
use crate::encoder::{Encoder, host};
use crate::error::Error;
use crate::layers::{Parameters, inner_name};
use crate::options::LoadOptions;
use crate::tokenizer::Encoding;
use crate::weights::Checkpoint;

/// Tokens that are run at once, more only where one text is longer.
const TOKENS: usize = 1024;

/// PEFT's names of what is done with an encoder.
pub(super) const CLASSIFICATION: &str = "SEQ_CLS";
pub(super) const EXTRACTION: &str = "FEATURE_EXTRACTION";

/// An encoder whose weights, or an adapter beside them, are trained.
#[derive(Debug)]
pub(super) struct TrainedEncoder {
    pub(super) encoder: Encoder,
    pub(super) learner: Learner,
    path: PathBuf,
    /// What a new adapter is.
    lora: Option<Lora>,
}

/// What becomes of the hidden states of some texts: a row for each.
pub(super) type Rows<'a> = &'a dyn Fn(Tensor<2>, &EncoderInput) -> Tensor<2>;

impl TrainedEncoder {
    /// Loads a folder with the tensors of `checkpoint`. Beside a new adapter the modules `whole` are trained.
    ///
    /// # Errors
    /// [`Error::UnsupportedArchitecture`]; those of the method and of loading.
    pub(super) fn load(
        path: &Path,
        options: &LoadOptions,
        purpose: Purpose,
        checkpoint: Checkpoint,
        (method, whole): (Method, Vec<String>),
    ) -> Result<Self, Error> {
        let parameters = Arc::new(Parameters::default());
        let (adapter, lora) = method.adapter(path, options)?;
        let adapter = match lora {
            Some(_) => adapter.map(|adapter| adapter.with_whole(whole)),
            None => adapter,
        };
        let (compute, pool) = training(options, adapter, &parameters);
        let encoder = Encoder::load_for(path, options, purpose, compute, checkpoint)?;
        let mut learner = Learner::new(pool, encoder.compute.tape.clone(), &parameters, options);
        if purpose == Purpose::Vectors {
            // It may be there, but gives nothing to a vector.
            learner = learner.without(is_pooler);
        }
        Ok(Self { encoder, learner, path: path.to_path_buf(), lora })
    }

    /// The loss of inputs, of which none is empty, and with `learn` its gradients, added to the parameters' sums. `rows` says what a batch's
    /// hidden states become; `loss` what all rows, `[inputs, width]`, do, and something more about them.
    ///
    /// If the inputs have too many tokens to be run at once, they are run in parts, without history; what the loss wants of each row is
    /// then brought back through its part, run again (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size"). `first` is the number of the
    /// first input in the step.
    pub(super) fn measure<T>(
        &self,
        (first, inputs): (usize, &[&Encoding]),
        rows: Rows<'_>,
        learn: bool,
        loss: impl FnOnce(Tensor<2>) -> (Tensor<1>, T),
    ) -> (f64, T) {
        let parts = parts(inputs);
        let at_once = learn && parts.len() == 1;
        self.encoder.compute.record(at_once);
        let (mut values, mut kept) = (Vec::new(), None);
        let mut at = first;
        for part in &parts {
            if learn {
                self.learner.learn_from(Some(at));
                at += part.len();
            }
            let out = self.run(part, rows);
            values.extend(host(out.clone().inner()));
            if at_once {
                kept = Some(out);
            }
        }
        let device = &self.encoder.compute.device;
        let shape = [inputs.len(), values.len() / inputs.len()];
        let leaf = Tensor::<2>::from_data(TensorData::new(values, shape), device);
        let leaf = if learn { leaf.require_grad() } else { leaf };
        let (value, more) = loss(leaf.clone());
        let sum = f64::from(host(value.clone().inner())[0]);
        if learn {
            let mut gradients = value.backward();
            let wanted = host(leaf.grad_remove(&mut gradients).expect("the loss depends on the rows"));
            let mut wanted = wanted.as_slice();
            self.encoder.compute.record(true);
            let mut at = first;
            for part in &parts {
                self.learner.learn_from(Some(at));
                at += part.len();
                let out = kept.take().unwrap_or_else(|| self.run(part, rows));
                let (for_part, rest) = wanted.split_at(part.len() * shape[1]);
                let for_part = TensorData::new(for_part.to_vec(), [part.len(), shape[1]]);
                let mut gradients = (out * Tensor::<2>::from_data(for_part, device)).sum().backward();
                take(self.learner.parameters(), &mut gradients);
                wanted = rest;
            }
        }
        self.learner.learn_from(None);
        self.encoder.compute.record(false);
        (sum, more)
    }

    fn run(&self, inputs: &[&Encoding], rows: Rows<'_>) -> Tensor<2> {
        let mut input = EncoderInput::default();
        inputs.iter().for_each(|encoding| input.push(&encoding.ids, &encoding.type_ids));
        rows(self.encoder.network.forward(self.encoder.run(None), &input), &input)
    }

    /// Whether an adapter is trained.
    pub(super) fn adapts(&self) -> bool {
        self.encoder.compute.adapter.is_some()
    }

    /// Writes the adapter as PEFT reads it for the task, of which only classification knows the model with a head.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless it is a new one; [`Error::Write`], [`Error::Seal`].
    pub(super) fn save_adapter(&self, folder: &Path, task: &str) -> Result<(), Error> {
        let Some(lora) = &self.lora else {
            let expected = "a new adapter".into();
            return Err(Error::InvalidParameter { name: "method", got: "another".into(), expected });
        };
        let named: fn(&str) -> &str = if task == CLASSIFICATION { |name| name } else { inner_name };
        adapter::save(folder, lora, (&self.path, task), &self.learner, named)
    }

    /// Writes the model, given what it was loaded from. Heads of pre-training that it does not have are left out.
    ///
    /// # Errors
    /// As [`model::save`].
    pub(super) fn save(
        &self,
        folder: &Path,
        mut checkpoint: Checkpoint,
        edit: impl FnOnce(&mut Map<String, Value>),
    ) -> Result<(), Error> {
        let is_foreign = |name: &String| self.learner.parts_of(name).is_empty() && !is_pooler(name);
        let foreign: Vec<String> = checkpoint.iter().map(|stored| stored.name.clone()).filter(is_foreign).collect();
        for name in foreign {
            checkpoint.take_optional(&name);
        }
        model::save_as(folder, &self.path, checkpoint, &self.learner, edit)
    }
}

fn is_pooler(name: &str) -> bool {
    name.split('.').any(|part| part == "pooler")
}

/// Inputs that are run at once.
fn parts<'a, 'b>(mut inputs: &'a [&'b Encoding]) -> Vec<&'a [&'b Encoding]> {
    let mut parts = Vec::new();
    while !inputs.is_empty() {
        let mut tokens = 0;
        let fitting = inputs.iter().take_while(|input| {
            tokens += input.len();
            tokens <= TOKENS
        });
        let (part, rest) = inputs.split_at(fitting.count().max(1));
        parts.push(part);
        inputs = rest;
    }
    parts
}

/// The numbers of the largest value of each row, the first of equals.
pub(super) fn largest(values: &Tensor<2>) -> Vec<usize> {
    let [_, width] = values.dims();
    let first = |row: &[f32]| (1..row.len()).fold(0, |best, at| if row[at] > row[best] { at } else { best });
    host(values.clone().inner()).chunks_exact(width).map(first).collect()
}
