//! What encoders of text share, whatever their architecture: what goes in, what comes out, heads, and the table of families.
//!
//! A family is one file of this folder with a `load` function, and a row of [`FAMILIES`].

use std::path::PathBuf;

use burn::Tensor;
use burn::tensor::{Int, TensorData};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{bert, deberta_v2, modernbert, mpnet, nomic_bert};
use crate::error::Error;
use crate::layers::loader::Bias;
use crate::layers::{Activation, LayerNorm, Linear, Loader, Run, Sequence};

/// A kind of encoder.
pub(crate) struct Family {
    /// `model_type` of `config.json`.
    pub(crate) model_type: &'static str,
    /// The head that a purpose needs. It is taken before the rest, which does without what it took.
    pub(crate) head: fn(&mut Loader, &ConfigFile, Purpose) -> Result<Option<Head>, Error>,
    pub(crate) load: fn(&mut Loader, &ConfigFile) -> Result<Loaded, Error>,
}

/// Every kind of encoder.
pub(crate) const FAMILIES: &[Family] = &[
    Family { model_type: "bert", head: bert::head, load: bert::load },
    Family { model_type: "roberta", head: bert::head, load: bert::load },
    Family { model_type: "xlm-roberta", head: bert::head, load: bert::load },
    Family { model_type: "mpnet", head: mpnet::head, load: mpnet::load },
    Family { model_type: "modernbert", head: modernbert::head, load: modernbert::load },
    Family { model_type: "nomic_bert", head: nomic_bert::head, load: nomic_bert::load },
    Family { model_type: "deberta-v2", head: deberta_v2::head, load: deberta_v2::load },
];

/// A `config.json`, read.
pub(crate) struct ConfigFile {
    pub(crate) path: PathBuf,
    pub(crate) json: Value,
}

impl ConfigFile {
    /// The configuration of an architecture.
    ///
    /// # Errors
    /// [`Error::Config`]
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let wrong = |source| Error::Config { path: self.path.clone(), source };
        serde_json::from_value(self.json.clone()).map_err(wrong)
    }

    /// The error for a value that this crate does not support.
    pub(crate) fn wrong(&self, what: String) -> Error {
        Error::ConfigValue { path: self.path.clone(), what }
    }

    /// Checks `(name, value, most)`: each value must be 1 to `most`.
    ///
    /// # Errors
    /// [`Error::ConfigValue`]
    pub(crate) fn check_sizes(&self, sizes: &[(&str, usize, usize)]) -> Result<(), Error> {
        match sizes.iter().find(|(_, value, most)| *value == 0 || value > most) {
            Some((name, value, most)) => Err(self.wrong(format!("{name} is {value}, outside 1..={most}"))),
            None => Ok(()),
        }
    }

    /// Checks that `hidden` features can be shared among `heads` heads.
    ///
    /// # Errors
    /// [`Error::ConfigValue`]
    pub(crate) fn check_heads(&self, hidden: usize, heads: usize) -> Result<(), Error> {
        if hidden.is_multiple_of(heads) {
            return Ok(());
        }
        Err(self.wrong(format!("hidden_size ({hidden}) is no multiple of num_attention_heads ({heads})")))
    }

    /// Checks what normalisations add to the variance.
    ///
    /// # Errors
    /// [`Error::ConfigValue`]
    pub(crate) fn check_eps(&self, name: &str, eps: f64) -> Result<(), Error> {
        if eps.is_finite() && eps >= 0.0 {
            return Ok(());
        }
        Err(self.wrong(format!("{name} is {eps}")))
    }
}

/// What an encoder is loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Its hidden states.
    Vectors,
    /// Labels of a text or pair.
    Sequence { labels: usize },
    /// Labels of each token.
    Tokens { labels: usize },
}

/// An encoder.
pub(crate) struct Loaded {
    pub(crate) network: Box<dyn TextEncoder>,
    /// Tensors that may be left over in the checkpoint: heads of pre-training, buffers of old exports.
    pub(crate) ignorable: &'static [&'static str],
}

/// Tokens of several texts, one after another.
#[derive(Debug, Default)]
pub(crate) struct EncoderInput {
    pub(crate) tokens: Vec<u32>,
    /// Segment of each token: 0, or 1 for the second text of a pair.
    pub(crate) types: Vec<u32>,
    pub(crate) sequences: Vec<Sequence>,
}

impl EncoderInput {
    pub(crate) fn push(&mut self, tokens: &[u32], types: &[u32]) {
        self.sequences.push(Sequence { first_row: self.tokens.len(), tokens: tokens.len(), position: 0 });
        self.tokens.extend_from_slice(tokens);
        self.types.extend_from_slice(types);
    }

    /// The position of each row in its text.
    pub(crate) fn positions(&self) -> impl Iterator<Item = usize> {
        self.sequences.iter().flat_map(|sequence| 0..sequence.tokens)
    }

    /// The rows of the first token of each text.
    ///
    /// # Shapes
    /// - `hidden`: `[rows, hidden]`; returns `[texts, hidden]`
    pub(crate) fn first_rows(&self, hidden: Tensor<2>) -> Tensor<2> {
        let rows: Vec<i64> = self.sequences.iter().map(|sequence| sequence.first_row as i64).collect();
        let count = rows.len();
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [count]), &hidden.device());
        hidden.select(0, rows)
    }

    /// The mean of the rows of each text.
    ///
    /// # Shapes
    /// - `hidden`: `[rows, hidden]`; returns `[texts, hidden]`
    pub(crate) fn means(&self, hidden: &Tensor<2>) -> Tensor<2> {
        let mean = |sequence: &Sequence| hidden.clone().narrow(0, sequence.first_row, sequence.tokens).mean_dim(0);
        Tensor::cat(self.sequences.iter().map(mean).collect(), 0)
    }
}

/// An encoder: a vector for each token, which depends on all tokens of its text.
pub(crate) trait TextEncoder: Send + Sync {
    /// The last hidden state.
    ///
    /// # Shapes
    /// - returns `[rows, hidden]`
    ///
    /// # Panics
    /// If a token or a position is outside its table (callers check both).
    fn forward(&self, run: Run<'_>, input: &EncoderInput) -> Tensor<2>;

    /// The input of the first layer, then the output of each; none if this encoder does not tell its layers apart.
    ///
    /// # Shapes
    /// - returns `[rows, hidden]` for each
    ///
    /// # Panics
    /// As [`TextEncoder::forward`].
    fn forward_layers(&self, run: Run<'_>, input: &EncoderInput) -> Vec<Tensor<2>> {
        let _ = (run, input);
        Vec::new()
    }

    /// Features of a hidden state.
    fn hidden_size(&self) -> usize;

    /// Token ids must be less.
    fn vocab_size(&self) -> usize;

    /// The most tokens of one input, special ones included.
    fn max_tokens(&self) -> usize;

    /// What the model makes of the first token of a text for tasks about the whole of it, where the checkpoint has it.
    fn pooler(&self) -> Option<&Transform> {
        None
    }
}

/// A layer of a head: fully connected, an activation function and, in some families, a normalisation.
#[derive(Debug)]
pub(crate) struct Transform {
    pub(crate) dense: Linear,
    pub(crate) activation: Activation,
    pub(crate) norm: Option<LayerNorm>,
}

impl Transform {
    /// `{name}.weight` and `{name}.bias`, `size` to `size` features.
    pub(crate) fn load(loader: &mut Loader, name: &str, size: usize, activation: Activation) -> Result<Self, Error> {
        Ok(Self { dense: loader.linear(name, size, size, Bias::Present)?, activation, norm: None })
    }

    /// # Shapes
    /// - `x`: `[rows, features]`; returns the same
    pub(crate) fn forward(&self, run: Run<'_>, x: Tensor<2>) -> Tensor<2> {
        let x = self.dense.forward_activated(run, x, self.activation);
        match &self.norm {
            Some(norm) => norm.forward(run, x),
            None => x,
        }
    }
}

/// Which rows a head reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    /// The first token of each text.
    First,
    /// The mean over each text.
    Mean,
    /// Every token.
    Every,
}

/// From hidden states to labels.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) reads: Reads,
    pub(crate) transform: Option<Transform>,
    pub(crate) output: Linear,
}

impl Head {
    /// The head that most families have on tokens: one layer, `classifier`.
    pub(crate) fn tokens(loader: &mut Loader, labels: usize, hidden: usize) -> Result<Self, Error> {
        let output = loader.linear("classifier", labels, hidden, Bias::Present)?;
        Ok(Self { reads: Reads::Every, transform: None, output })
    }

    /// Two layers on the first token of a text.
    pub(crate) fn first(transform: Transform, output: Linear) -> Self {
        Self { reads: Reads::First, transform: Some(transform), output }
    }

    /// Logits.
    ///
    /// # Shapes
    /// - `hidden`: `[rows, hidden]`
    /// - returns `[texts, labels]`, or `[rows, labels]` if it reads every token
    pub(crate) fn forward(&self, run: Run<'_>, hidden: Tensor<2>, input: &EncoderInput) -> Tensor<2> {
        let x = match self.reads {
            Reads::First => input.first_rows(hidden),
            Reads::Mean => input.means(&hidden),
            Reads::Every => hidden,
        };
        let x = match &self.transform {
            Some(transform) => transform.forward(run, x),
            None => x,
        };
        self.output.forward(run, x)
    }
}
