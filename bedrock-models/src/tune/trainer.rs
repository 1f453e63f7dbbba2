//! A model with parameters that an optimizer changes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::adapter;
use super::loss::{Pass, Sequence};
use super::model;
use super::optimizer::{AdamW, Moments};
use crate::error::Error;
use crate::kernels::Pool;
use crate::kernels::gradient::square_sum;
use crate::language_model::LanguageModel;
use crate::layers::tape::Tape;
use crate::layers::{Adapter, Compute, LoraConfig, Parameter, Parameters};
use crate::options::LoadOptions;

/// Tokens that are run at once, more only where one sequence is longer: so memory does not grow with the batch.
const TOKENS: usize = 1024;

/// What is trained.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Method {
    /// All weights.
    Full,
    /// A new low-rank adapter beside the weights.
    Lora(Lora),
    /// A stored adapter, further: a folder as PEFT writes it.
    Adapter(PathBuf),
}

/// A new adapter (Hu et al. 2021).
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// Rank of the product that is added to a weight.
    pub rank: usize,
    /// The product is multiplied by `alpha / rank`, or `alpha / √rank`.
    pub alpha: f64,
    /// Whether it is the root (Kalajdzievski 2023).
    pub rank_stabilised: bool,
    /// Last names of the modules that get an adapter.
    pub targets: Vec<String>,
    /// The share of a module's input that its adapter does not get to see, drawn anew for each step; not when it answers.
    pub dropout: f32,
    /// Of the random numbers that the adapter starts with.
    pub seed: u64,
}

impl Default for Lora {
    /// Rank 8, alpha 16, on all seven layers of Llama's blocks.
    fn default() -> Self {
        let targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
        let targets = targets.map(String::from).to_vec();
        Self { rank: 8, alpha: 16.0, rank_stabilised: false, targets, dropout: 0.0, seed: 0 }
    }
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Mean cross-entropy of the counted positions before the step, natural logarithm.
    pub loss: f64,
    /// Length of the gradients of all parameters as one vector.
    pub gradient_norm: f64,
}

/// A model that is being trained.
pub struct Trainer {
    model: LanguageModel,
    pool: Arc<Pool>,
    parameters: Vec<Parameter>,
    /// Number of the batch that is learnt from: see [`Parameters::batch`].
    batch: Arc<AtomicU64>,
    moments: Vec<Moments>,
    steps: u64,
    lora: Option<Lora>,
    checkpointing: bool,
}

impl fmt::Debug for Trainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, parameters, steps, .. } = self;
        f.debug_struct("Trainer").field("model", model).field("parameters", parameters).field("steps", steps).finish()
    }
}

impl Trainer {
    /// Loads a folder in Hugging Face layout to be trained, or for an adapter a `.gguf` file of the `llama` architecture. Of the options, those of serving do not matter.
    ///
    /// # Errors
    /// As [`LanguageModel::load`]; [`Error::InvalidParameter`] for an impossible adapter, [`Error::UnusedTensors`] if no layer
    /// has the name of a target, [`Error::PromptWithoutLogits`] for models with an encoder.
    pub fn load(path: impl AsRef<Path>, options: &LoadOptions, method: Method) -> Result<Self, Error> {
        let mut lora = None;
        let adapter = match method {
            Method::Full => None,
            Method::Adapter(folder) => Some(Adapter::open(&folder)?),
            Method::Lora(new) => {
                let wrong = |name, got: String, expected: &str| Error::InvalidParameter {
                    name,
                    got,
                    expected: expected.into(),
                };
                if !(1..=4096).contains(&new.rank) {
                    return Err(wrong("rank", new.rank.to_string(), "1 to 4096"));
                }
                if !new.alpha.is_finite() {
                    return Err(wrong("alpha", new.alpha.to_string(), "a finite number"));
                }
                if !(0.0..1.0).contains(&new.dropout) {
                    return Err(wrong("dropout", new.dropout.to_string(), "0 to 1"));
                }
                let config = LoraConfig::new(new.rank, new.alpha, new.dropout, new.rank_stabilised);
                let adapter = Adapter::new(config, new.targets.clone(), new.seed);
                lora = Some(new);
                Some(adapter)
            }
        };
        let parameters = Arc::new(Parameters::default());
        let plain = options.compute();
        let tape = plain.pool.clone().map(Tape::new);
        let pool = plain.pool.unwrap_or_else(|| Arc::new(Pool::new(options.threads)));
        let compute = Compute {
            device: plain.device.autodiff(),
            pool: None,
            activations: plain.activations,
            adapter: adapter.map(Arc::new),
            parameters: Some(parameters.clone()),
            cancel: plain.cancel,
            tape,
        };
        let model = LanguageModel::load_for(path.as_ref(), options, compute)?;
        if model.has_encoder() {
            return Err(Error::PromptWithoutLogits { path: model.path });
        }
        let (parameters, batch) = (parameters.list(), parameters.batch().clone());
        let moments = parameters.iter().map(|parameter| Moments::new(parameter.len())).collect();
        Ok(Self { model, pool, parameters, batch, moments, steps: 0, lora, checkpointing: false })
    }

    /// The model, which computes with the parameters as they are now.
    pub fn model(&self) -> &LanguageModel {
        &self.model
    }

    /// Names, shapes and values of what is trained, in the order in which the layers were loaded. Weights have the names of the
    /// checkpoint, factors of an adapter `{module}.lora_A` and `{module}.lora_B`.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &[usize], Vec<f32>)> + '_ {
        self.parameters.iter().map(|parameter| (parameter.name(), parameter.shape(), parameter.values()))
    }

    /// Whether the optimizer keeps its two moments in eight bits a value instead of 32: a quarter of the memory, for steps that are a little
    /// less exact.
    pub fn set_compact_moments(&mut self, compact: bool) {
        let moments = std::mem::take(&mut self.moments);
        self.moments = moments.into_iter().map(|moments| moments.compacted(compact)).collect();
    }

    /// Whether activations are computed again on the way back, a layer at a time, instead of kept: memory for a layer's activations instead of
    /// all, for a third more work. The gradients are the same.
    pub fn set_checkpointing(&mut self, checkpointing: bool) {
        self.checkpointing = checkpointing;
    }

    /// Steps made so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Mean cross-entropy of all counted positions, natural logarithm.
    ///
    /// # Errors
    /// As [`LanguageModel::check_tokens`]; [`Error::NoTokens`] if nothing counts; [`Error::Diverged`].
    pub fn loss(&self, batch: &[Sequence]) -> Result<f64, Error> {
        self.mean(batch, false)
    }

    /// One step of AdamW on the mean cross-entropy of all counted positions of the batch.
    ///
    /// # Errors
    /// As [`Trainer::loss`]; nothing has changed then.
    pub fn step(&mut self, batch: &[Sequence], settings: &AdamW) -> Result<Step, Error> {
        let loss = self.mean(batch, true).inspect_err(|_| self.forget())?;
        let square = |parameter: &Parameter| parameter.accumulate(|sums| square_sum(&self.pool, sums));
        let gradient_norm = self.parameters.iter().map(square).sum::<f64>().sqrt();
        if !gradient_norm.is_finite() {
            self.forget();
            return Err(Error::Diverged { loss, steps: self.steps });
        }
        let scale = settings.max_gradient_norm.map_or(1.0, |max| (max / (gradient_norm + 1e-6)).min(1.0));
        self.steps += 1;
        for (parameter, moments) in self.parameters.iter().zip(&mut self.moments) {
            parameter.update(|values, sums| moments.step(&self.pool, settings, self.steps, scale, values, sums));
        }
        Ok(Step { loss, gradient_norm })
    }

    /// Drops gradients of a step that was not made.
    fn forget(&self) {
        self.parameters.iter().for_each(Parameter::clear);
    }

    /// Writes the adapter as PEFT reads it: `adapter_config.json` and `adapter_model.safetensors`, each whole or not at all.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless a new adapter is trained; [`Error::Write`].
    pub fn save_adapter(&self, folder: impl AsRef<Path>) -> Result<(), Error> {
        let Some(lora) = &self.lora else {
            let expected = "a new adapter".into();
            return Err(Error::InvalidParameter { name: "method", got: "another".into(), expected });
        };
        adapter::save(folder.as_ref(), lora, &self.model.path, &self.parameters)
    }

    /// Writes the model with its trained weights as transformers reads it: `model.safetensors` in single precision, `config.json`, and the
    /// base's tokenizer and generation settings. Each file is whole or not there.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless all weights are trained; [`Error::ConfigValue`] if the base is no folder in Hugging Face
    /// layout; [`Error::Read`], [`Error::Write`].
    pub fn save_model(&self, folder: impl AsRef<Path>) -> Result<(), Error> {
        if self.model.compute.adapter.is_some() {
            let expected = "training of all weights".into();
            return Err(Error::InvalidParameter { name: "method", got: "an adapter".into(), expected });
        }
        model::save(folder.as_ref(), &self.model.path, &self.parameters)
    }

    /// What the optimizer has of each parameter.
    pub(super) fn state(&self) -> impl Iterator<Item = (&Parameter, &Moments)> {
        self.parameters.iter().zip(&self.moments)
    }

    /// Goes back or forward to where so many steps had been made. `stored` gives the values of a parameter of a name and shape, and its two
    /// moments, as many.
    ///
    /// # Errors
    /// Those of `stored`. The trainer cannot be used then.
    pub(super) fn restore(
        &mut self,
        steps: u64,
        mut stored: impl FnMut(&str, &[usize]) -> Result<[Vec<f32>; 3], Error>,
    ) -> Result<(), Error> {
        for (parameter, moments) in self.parameters.iter().zip(&mut self.moments) {
            let [values, mean, square] = stored(parameter.name(), parameter.shape())?;
            parameter.set(values);
            moments.set(mean, square);
        }
        self.steps = steps;
        Ok(())
    }

    fn mean(&self, batch: &[Sequence], learn: bool) -> Result<f64, Error> {
        for sequence in batch {
            self.model.check_tokens(sequence.tokens())?;
            if let Some(id) = sequence.labels().find(|label| *label as usize >= self.model.vocab_size()) {
                return Err(Error::TokenOutOfRange { id, vocabulary: self.model.vocab_size() });
            }
        }
        let count: usize = batch.iter().map(Sequence::counted).sum();
        if count == 0 {
            return Err(Error::NoTokens);
        }
        let mut total = 0.0;
        let mut rest = batch;
        while !rest.is_empty() {
            let mut tokens = 0;
            let fitting = rest.iter().take_while(|sequence| {
                tokens += sequence.tokens().len();
                tokens <= TOKENS
            });
            let (together, later) = rest.split_at(fitting.count().max(1));
            let sequences: Vec<&Sequence> = together.iter().collect();
            let learn = learn.then_some(self.parameters.as_slice());
            if learn.is_some() {
                // Numbers that no other part of a batch has, in no step.
                self.batch.store(((self.steps + 1) << 24) + (batch.len() - rest.len()) as u64, Relaxed);
            }
            let (network, compute) = (&*self.model.network, &self.model.compute);
            let pass = Pass { network, compute, learn, again: self.checkpointing };
            total += pass.cross_entropy(&sequences, count);
            rest = later;
        }
        self.batch.store(0, Relaxed);
        if let Some(tape) = &self.model.compute.tape {
            tape.record(false);
        }
        let loss = total / count as f64;
        if loss.is_finite() { Ok(loss) } else { Err(Error::Diverged { loss, steps: self.steps }) }
    }
}
