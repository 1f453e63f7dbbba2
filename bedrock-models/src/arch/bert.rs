//! BERT and the encoders of its shape: MiniLM, BGE, E5, and, with shifted positions, RoBERTa and XLM-R.
//!
//! Papers: Devlin et al. 2018 (<https://arxiv.org/abs/1810.04805>), Liu et al. 2019 (<https://arxiv.org/abs/1907.11692>).
//! Reference: HF `modeling_bert.py`, `modeling_roberta.py` (transformers 4.44 and 5). Checked against: tiny random checkpoints, all-MiniLM-L6-v2.
//!
//! Deliberate differences: no dropout, no padding (sequences lie one after another), absolute positions only.

use std::path::Path;

use burn::Tensor;
use burn::tensor::activation::tanh;
use serde::Deserialize;

use crate::error::Error;
use crate::kernels::attention::{Heads, Mask};
use crate::layers::loader::Bias;
use crate::layers::{
    Activation, Attention, Embedding, LayerCache, LayerNorm, Linear, Loader, Run, Sequence, norm::add, project,
};

/// `config.json` of `BertModel`, `RobertaModel` and `XLMRobertaModel`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct BertConfig {
    pub(crate) model_type: String,
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    #[serde(default = "default_activation")]
    pub(crate) hidden_act: Activation,
    pub(crate) max_position_embeddings: usize,
    #[serde(default = "default_eps")]
    pub(crate) layer_norm_eps: f64,
    #[serde(default = "default_types")]
    pub(crate) type_vocab_size: usize,
    pub(crate) vocab_size: usize,
    pub(crate) pad_token_id: Option<usize>,
    pub(crate) position_embedding_type: Option<String>,
}

fn default_activation() -> Activation {
    Activation::Gelu
}
fn default_eps() -> f64 {
    1e-12
}
fn default_types() -> usize {
    2
}

impl BertConfig {
    /// Position of the first token: RoBERTa counts from the padding id on.
    fn first_position(&self) -> usize {
        if self.model_type == "bert" { 0 } else { self.pad_token_id.unwrap_or(1) + 1 }
    }

    /// The most tokens of one input, special ones included.
    pub(crate) fn max_tokens(&self) -> usize {
        self.max_position_embeddings.saturating_sub(self.first_position())
    }

    fn validate(&self, path: &Path) -> Result<(), Error> {
        let wrong = |what: String| Err(Error::ConfigValue { path: path.to_path_buf(), what });
        for (name, value, most) in [
            ("hidden_size", self.hidden_size, 1 << 16),
            ("intermediate_size", self.intermediate_size, 1 << 18),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 10),
            ("num_attention_heads", self.num_attention_heads, 1 << 10),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 24),
            ("type_vocab_size", self.type_vocab_size, 1 << 10),
            ("vocab_size", self.vocab_size, 1 << 24),
        ] {
            if value == 0 || value > most {
                return wrong(format!("{name} is {value}, outside 1..={most}"));
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return wrong(format!(
                "hidden_size ({}) is no multiple of num_attention_heads ({})",
                self.hidden_size, self.num_attention_heads
            ));
        }
        if self.first_position() >= self.max_position_embeddings {
            return wrong(format!("pad_token_id {:?} leaves no position", self.pad_token_id));
        }
        if let Some(other) = self.position_embedding_type.as_deref().filter(|name| *name != "absolute") {
            return wrong(format!("position_embedding_type is {other:?}, only \"absolute\" is supported"));
        }
        Ok(())
    }
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
}

/// `BertEmbeddings`.
struct BertEmbeddings {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    token_type_embeddings: Embedding,
    layer_norm: LayerNorm,
    first_position: usize,
    types: usize,
}

impl BertEmbeddings {
    fn load(loader: &mut Loader, name: &str, config: &BertConfig) -> Result<Self, Error> {
        let hidden = config.hidden_size;
        let mut table = |what: &str, rows| loader.embedding(&format!("{name}.{what}_embeddings"), rows, hidden);
        Ok(Self {
            word_embeddings: table("word", config.vocab_size)?,
            position_embeddings: table("position", config.max_position_embeddings)?,
            token_type_embeddings: table("token_type", config.type_vocab_size)?,
            layer_norm: loader.layer_norm(&format!("{name}.LayerNorm"), hidden, config.layer_norm_eps)?,
            first_position: config.first_position(),
            types: config.type_vocab_size,
        })
    }

    /// # Shapes
    /// - returns `[rows, hidden]`
    fn forward(&self, run: Run<'_>, input: &EncoderInput) -> Tensor<2> {
        let positions: Vec<usize> =
            input.sequences.iter().flat_map(|s| (0..s.tokens).map(|t| self.first_position + t)).collect();
        let x = self.word_embeddings.forward(run, input.tokens.iter().map(|token| *token as usize));
        let x = add(run, x, self.position_embeddings.forward(run, positions.into_iter()));
        // Models with one segment give it to both texts of a pair.
        let types = input.types.iter().map(|segment| (*segment as usize).min(self.types - 1));
        let x = add(run, x, self.token_type_embeddings.forward(run, types));
        self.layer_norm.forward(run, x)
    }
}

/// `BertLayer`: self-attention and feed-forward, each followed by a residual and a normalisation.
struct BertLayer {
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
    attention: Attention,
    activation: Activation,
}

impl BertLayer {
    fn load(loader: &mut Loader, name: &str, config: &BertConfig) -> Result<Self, Error> {
        let (hidden, inner, eps) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let mut linear =
            |part: &str, rows, columns| loader.linear(&format!("{name}.{part}"), rows, columns, Bias::Present);
        let (query, key) =
            (linear("attention.self.query", hidden, hidden)?, linear("attention.self.key", hidden, hidden)?);
        let value = linear("attention.self.value", hidden, hidden)?;
        let attention_output = linear("attention.output.dense", hidden, hidden)?;
        let intermediate = linear("intermediate.dense", inner, hidden)?;
        let output = linear("output.dense", hidden, inner)?;
        let dim = hidden / config.num_attention_heads;
        let heads = config.num_attention_heads;
        let scale = 1.0 / (dim as f32).sqrt();
        Ok(Self {
            query,
            key,
            value,
            attention_output,
            attention_norm: loader.layer_norm(&format!("{name}.attention.output.LayerNorm"), hidden, eps)?,
            intermediate,
            output,
            output_norm: loader.layer_norm(&format!("{name}.output.LayerNorm"), hidden, eps)?,
            attention: Attention { heads: Heads { queries: heads, keys: heads, dim, scale }, mask: Mask::Full },
            activation: config.hidden_act,
        })
    }

    /// # Shapes
    /// - `x`: `[rows, hidden]`; returns the same
    fn forward(&self, run: Run<'_>, x: Tensor<2>, sequences: &[Sequence], caches: &mut [&mut LayerCache]) -> Tensor<2> {
        let [q, k, v] = project(run, [&self.query, &self.key, &self.value], x.clone());
        let h = self.attention.forward(run, q, k, v, sequences, caches);
        let x = self.attention_norm.forward(run, add(run, self.attention_output.forward(run, h), x));
        let h = self.intermediate.forward_activated(run, x.clone(), self.activation);
        self.output_norm.forward(run, add(run, self.output.forward(run, h), x))
    }
}

/// `BertModel`, with its pooler where the checkpoint has one.
pub(crate) struct Bert {
    embeddings: BertEmbeddings,
    layers: Vec<BertLayer>,
    pooler: Option<Linear>,
    pub(crate) config: BertConfig,
}

impl Bert {
    /// `path` is what errors call the configuration.
    pub(crate) fn load(loader: &mut Loader, config: BertConfig, path: &Path) -> Result<Self, Error> {
        config.validate(path)?;
        let prefix = ["bert.", "roberta.", ""]
            .into_iter()
            .find(|prefix| loader.contains(&format!("{prefix}embeddings.word_embeddings.weight")))
            .unwrap_or_default();
        let embeddings = BertEmbeddings::load(loader, &format!("{prefix}embeddings"), &config)?;
        let layers = (0..config.num_hidden_layers)
            .map(|i| BertLayer::load(loader, &format!("{prefix}encoder.layer.{i}"), &config))
            .collect::<Result<_, _>>()?;
        let pooler = format!("{prefix}pooler.dense");
        let pooler = if loader.contains(&format!("{pooler}.weight")) {
            Some(loader.linear(&pooler, config.hidden_size, config.hidden_size, Bias::Present)?)
        } else {
            None
        };
        Ok(Self { embeddings, layers, pooler, config })
    }

    pub(crate) fn has_pooler(&self) -> bool {
        self.pooler.is_some()
    }

    /// The last hidden state.
    ///
    /// # Shapes
    /// - returns `[rows, hidden]`
    ///
    /// # Panics
    /// If a token or a position is outside its table (callers check both).
    pub(crate) fn forward(&self, run: Run<'_>, input: &EncoderInput) -> Tensor<2> {
        let mut x = self.embeddings.forward(run, input);
        // One buffer of keys and values a sequence, used by every layer in turn.
        let mut caches: Vec<LayerCache> = input.sequences.iter().map(|_| LayerCache::default()).collect();
        for layer in &self.layers {
            for cache in &mut caches {
                if matches!(cache, LayerCache::Tensors(..)) {
                    *cache = LayerCache::Empty;
                }
            }
            x = layer.forward(run, x, &input.sequences, &mut caches.iter_mut().collect::<Vec<_>>());
        }
        x
    }

    /// `BertPooler`: `tanh(W · first token + b)`; `None` if the checkpoint has no pooler.
    ///
    /// # Shapes
    /// - `first`: `[texts, hidden]`, the first row of each text; returns the same
    pub(crate) fn pool(&self, run: Run<'_>, first: Tensor<2>) -> Option<Tensor<2>> {
        Some(tanh(self.pooler.as_ref()?.forward(run, first)))
    }
}
