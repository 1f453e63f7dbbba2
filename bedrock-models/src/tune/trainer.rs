//! A model with parameters that an optimizer changes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::adapter;
use super::learner::{Learner, training};
use super::loss::{Pass, Sequence, Weights};
use super::metrics::Metrics;
use super::model;
use super::optimizer::AdamW;
use super::preference::Preference;
use crate::adapters;
use crate::error::Error;
use crate::kernels::Precision;
use crate::language_model::LanguageModel;
use crate::layers::{Adapter, LoraConfig, Parameters};
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
    /// A stored adapter, further: as [`LoadOptions::adapter`].
    Adapter(PathBuf),
}

impl Method {
    /// The adapter that is trained, if one is, and what a new one is.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for an impossible one; those of reading a stored one.
    pub(super) fn adapter(self, base: &Path, options: &LoadOptions) -> Result<(Option<Adapter>, Option<Lora>), Error> {
        let mut lora = None;
        let adapter = match self {
            Self::Full => None,
            Self::Adapter(stored) => Some(adapters::open(base, &stored, options.sealer.as_deref())?),
            Self::Lora(new) => {
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
        Ok((adapter, lora))
    }
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
    learner: Learner,
    lora: Option<Lora>,
    checkpointing: bool,
}

impl fmt::Debug for Trainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, learner, .. } = self;
        f.debug_struct("Trainer").field("model", model).field("learner", learner).finish_non_exhaustive()
    }
}

impl Trainer {
    /// Loads a folder in Hugging Face layout to be trained, or for an adapter a `.gguf` file of Llama's, Mistral's, Qwen's, Gemma's, Phi-3's, Command R's or GPT-2's family. Of the options, those of serving do not matter.
    ///
    /// # Errors
    /// As [`LanguageModel::load`]; [`Error::InvalidParameter`] for an impossible adapter, [`Error::UnusedTensors`] if no layer
    /// has the name of a target.
    pub fn load(path: impl AsRef<Path>, options: &LoadOptions, method: Method) -> Result<Self, Error> {
        let (adapter, lora) = method.adapter(path.as_ref(), options)?;
        let parameters = Arc::new(Parameters::default());
        let (compute, pool) = training(options, adapter, &parameters);
        let model = LanguageModel::load_for(path.as_ref(), options, compute)?;
        let learner = Learner::new(pool, model.compute.tape.clone(), &parameters, options);
        Ok(Self { model, learner, lora, checkpointing: false })
    }

    /// The model, which computes with the parameters as they are now.
    pub fn model(&self) -> &LanguageModel {
        &self.model
    }

    /// Names, shapes and values of what is trained, in the order in which the layers were loaded. Weights have the names of the
    /// checkpoint, factors of an adapter `{module}.lora_A` and `{module}.lora_B`.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &[usize], Vec<f32>)> + '_ {
        self.learner.parameters().iter().map(|parameter| (parameter.name(), parameter.shape(), parameter.values()))
    }

    /// Whether the optimizer keeps its two moments in eight bits a value instead of 32: a quarter of the memory, for steps that are a little
    /// less exact.
    pub fn set_compact_moments(&mut self, compact: bool) {
        self.learner.set_compact_moments(compact);
    }

    /// What numbers the layers multiply, forward and back: mixed precision. With [`Precision::Bf16`] inputs, weights, factors of an adapter and gradients are rounded
    /// where they go into a product of an inner dimension of at least 32, and nowhere else: weights, sums, attention, norms, the loss and the optimizer
    /// are of 32 bits, as losses and probabilities that are asked for are of such products too.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] where the processor has no matrix tiles (AMX), or the device is another: it would be slower there.
    pub fn set_precision(&mut self, precision: Precision) -> Result<(), Error> {
        self.learner.set_precision(precision)
    }

    /// Whether activations are computed again on the way back, a layer at a time, instead of kept: memory for a layer's activations instead of
    /// all, for a third more work. The gradients are the same. Models with an encoder keep them.
    pub fn set_checkpointing(&mut self, checkpointing: bool) {
        self.checkpointing = checkpointing;
    }

    /// Steps made so far.
    pub fn steps(&self) -> u64 {
        self.learner.steps()
    }

    /// Mean cross-entropy of all counted positions, natural logarithm.
    ///
    /// # Errors
    /// As [`LanguageModel::check_tokens`]; [`Error::NoTokens`] if nothing counts or, of a model with an encoder, a sequence has no prompt;
    /// [`Error::Diverged`].
    pub fn loss(&self, batch: &[Sequence]) -> Result<f64, Error> {
        self.mean(batch, false)
    }

    /// One step of AdamW on the mean cross-entropy of all counted positions of the batch.
    ///
    /// # Errors
    /// As [`Trainer::loss`]; nothing has changed then.
    pub fn step(&mut self, batch: &[Sequence], settings: &AdamW) -> Result<Step, Error> {
        let loss = self.mean(batch, true);
        self.learner.step(loss, settings)
    }

    /// The natural logarithm of the probability that the model gives to the counted positions of each sequence, together.
    ///
    /// # Errors
    /// As [`Trainer::loss`].
    pub fn log_probabilities(&self, sequences: &[Sequence]) -> Result<Vec<f64>, Error> {
        let losses = self.losses(&sequences.iter().collect::<Vec<_>>(), 1, None)?;
        losses.into_iter().map(|loss| Ok(-self.learner.finite(loss)?)).collect()
    }

    /// The loss of Direct Preference Optimization (Rafailov et al. 2023), a mean over the pairs:
    /// `-ln σ(beta · ((ln p(chosen) - ln r(chosen)) - (ln p(rejected) - ln r(rejected))))`, where `r` is the reference's probability. And
    /// how often, and by how much, the right answer is preferred.
    ///
    /// # Errors
    /// As [`Trainer::loss`].
    pub fn preference_loss(&self, pairs: &[Preference], beta: f64) -> Result<(f64, Metrics), Error> {
        self.preferring(pairs, beta, false)
    }

    /// One step of AdamW on [`Trainer::preference_loss`].
    ///
    /// # Errors
    /// As [`Trainer::loss`]; nothing has changed then.
    pub fn preference_step(
        &mut self,
        pairs: &[Preference],
        beta: f64,
        settings: &AdamW,
    ) -> Result<(Step, Metrics), Error> {
        let measured = self.preferring(pairs, beta, true);
        self.learner.step_of(measured, settings)
    }

    /// Writes the adapter as PEFT reads it: `adapter_config.json` and `adapter_model.safetensors`, each whole or not at all. With
    /// [`LoadOptions::sealer`] the latter is `adapter_model.safetensors.sealed`, which only this crate reads.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless a new adapter is trained; [`Error::Write`], [`Error::Seal`].
    pub fn save_adapter(&self, folder: impl AsRef<Path>) -> Result<(), Error> {
        let Some(lora) = &self.lora else {
            let expected = "a new adapter".into();
            return Err(Error::InvalidParameter { name: "method", got: "another".into(), expected });
        };
        let task = if self.model.has_encoder() { "SEQ_2_SEQ_LM" } else { "CAUSAL_LM" };
        adapter::save(folder.as_ref(), lora, (&self.model.path, task), &self.learner, |module| module)
    }

    /// Writes the model with its trained weights as transformers reads it: `model.safetensors` in single precision, `config.json`, and the
    /// base's tokenizer and generation settings. Each file is whole or not there. With [`LoadOptions::sealer`] the weights are
    /// `model.safetensors.sealed`.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless all weights are trained; [`Error::ConfigValue`] if the base is no folder in Hugging Face
    /// layout; [`Error::Read`], [`Error::Write`], [`Error::Seal`].
    pub fn save_model(&self, folder: impl AsRef<Path>) -> Result<(), Error> {
        if self.model.compute.adapter.is_some() {
            let expected = "training of all weights".into();
            return Err(Error::InvalidParameter { name: "method", got: "an adapter".into(), expected });
        }
        model::save(folder.as_ref(), &self.model.path, &self.learner)
    }

    /// What was trained: the adapter, or the model.
    pub(super) fn save(&self, folder: &Path) -> Result<(), Error> {
        if self.lora.is_some() { self.save_adapter(folder) } else { self.save_model(folder) }
    }

    pub(super) fn learner(&self) -> &Learner {
        &self.learner
    }

    pub(super) fn learner_mut(&mut self) -> &mut Learner {
        &mut self.learner
    }

    fn mean(&self, batch: &[Sequence], learn: bool) -> Result<f64, Error> {
        let count = batch.iter().map(Sequence::counted).sum::<usize>();
        let weight = Weights::Same(1.0 / count as f64);
        let losses = self.losses(&batch.iter().collect::<Vec<_>>(), 1, learn.then_some(weight))?;
        self.learner.finite(losses.iter().sum::<f64>() / count as f64)
    }

    fn preferring(&self, pairs: &[Preference], beta: f64, learn: bool) -> Result<(f64, Metrics), Error> {
        let sequences: Vec<&Sequence> = pairs.iter().flat_map(Preference::sequences).collect();
        if let Some(empty) = sequences.iter().find(|sequence| sequence.counted() == 0) {
            self.model.check_tokens(empty.tokens())?;
            return Err(Error::NoTokens);
        }
        let margin = |first: usize, losses: &[f64]| pairs[first / 2].margin(beta, [losses[0], losses[1]]);
        let weigh = |first: usize, losses: &[f64]| {
            let pairs_of = losses.chunks_exact(2).enumerate();
            let weight = |(at, losses)| {
                // The derivative of the pair's loss by its margin, without the sign.
                let slope = 1.0 / (1.0 + margin(first + 2 * at, losses).exp());
                let weight = beta * slope / pairs.len() as f64;
                [weight, -weight]
            };
            pairs_of.flat_map(weight).collect()
        };
        let losses = self.losses(&sequences, 2, learn.then_some(Weights::Each(&weigh)))?;
        let margins = losses.chunks_exact(2).enumerate().map(|(at, losses)| margin(2 * at, losses));
        let margins: Vec<f64> = margins.collect();
        let mean = |of: fn(f64) -> f64| margins.iter().map(|margin| of(*margin)).sum::<f64>() / pairs.len() as f64;
        // ln(1 + e⁻ˣ), of large numbers of either sign too.
        let loss = mean(|margin| (-margin).max(0.0) + (-margin.abs()).exp().ln_1p());
        let metrics = Metrics::Preference {
            reward_margin: mean(|margin| margin),
            reward_accuracy: mean(|margin| f64::from(u8::from(margin > 0.0))),
        };
        Ok((self.learner.finite(loss)?, metrics))
    }

    /// The cross-entropies of the sequences, each the sum over its counted positions, and with `learn` gradients. Sequences are run in
    /// groups of `group`, as many at once as have about [`TOKENS`] tokens.
    fn losses(&self, batch: &[&Sequence], group: usize, learn: Option<Weights<'_>>) -> Result<Vec<f64>, Error> {
        for sequence in batch {
            self.model.check_tokens(sequence.tokens())?;
            if let Some(id) = sequence.labels().find(|label| *label as usize >= self.model.vocab_size()) {
                return Err(Error::TokenOutOfRange { id, vocabulary: self.model.vocab_size() });
            }
        }
        let without_prompt = self.model.has_encoder() && !batch.iter().all(|sequence| sequence.is_answer());
        if without_prompt || batch.iter().all(|sequence| sequence.counted() == 0) {
            return Err(Error::NoTokens);
        }
        let mut losses = Vec::with_capacity(batch.len());
        while losses.len() < batch.len() {
            let rest = &batch[losses.len()..];
            let mut tokens = 0;
            let fitting = rest.chunks(group).take_while(|group| {
                tokens += group.iter().map(|sequence| sequence.tokens().len()).sum::<usize>();
                tokens <= TOKENS
            });
            let together = &rest[..(fitting.count().max(1) * group).min(rest.len())];
            if learn.is_some() {
                self.learner.learn_from(Some(losses.len()));
            }
            let pass = Pass {
                network: &*self.model.network,
                compute: &self.model.compute,
                learn: learn.map(|weights| (self.learner.parameters(), weights)),
                again: self.checkpointing,
                first: losses.len(),
            };
            losses.extend(pass.cross_entropies(together));
        }
        self.learner.learn_from(None);
        self.model.compute.record(false);
        Ok(losses)
    }
}
