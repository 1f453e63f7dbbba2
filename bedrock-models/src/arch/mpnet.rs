//! MPNet, the encoder of all-mpnet-base-v2: BERT with a bias for relative positions, shared by all layers, and without segments.
//!
//! Paper: Song et al. 2020 (<https://arxiv.org/abs/2004.09297>). Reference: HF `modeling_mpnet.py` (transformers 4.48 and 5).
//! Checked against: tiny random checkpoints.
//!
//! Deliberate differences: no dropout, no padding. The number of buckets is always 32 and padding is token 1, as in HF's code,
//! whatever the configuration says.

use burn::Tensor;
use serde::Deserialize;

use super::text_encoder::{ConfigFile, EncoderInput, Head, Loaded, Purpose, TextEncoder, Transform};
use crate::error::Error;
use crate::kernels::attention::{Heads, Mask};
use crate::layers::loader::Bias;
use crate::layers::relative::{Buckets, RelativeBias};
use crate::layers::{
    Activation, Attention, Embedding, LayerNorm, Linear, Loader, Run, Scratch, Sequence, norm::add, project,
};

/// `config.json` of `MPNetModel`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
struct MpnetConfig {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: Activation,
    max_position_embeddings: usize,
    layer_norm_eps: f64,
    relative_attention_num_buckets: usize,
}

impl Default for MpnetConfig {
    fn default() -> Self {
        Self {
            vocab_size: 30_527,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: Activation::Gelu,
            max_position_embeddings: 512,
            layer_norm_eps: 1e-12,
            relative_attention_num_buckets: 32,
        }
    }
}

/// Position of the first token: positions count from the padding id on.
const FIRST_POSITION: usize = 2;

const BUCKETS: Buckets = Buckets { count: 32, max_distance: 128, both_sides: true };

impl MpnetConfig {
    fn validate(&self, file: &ConfigFile) -> Result<(), Error> {
        file.check_sizes(&[
            ("hidden_size", self.hidden_size, 1 << 16),
            ("intermediate_size", self.intermediate_size, 1 << 18),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 10),
            ("num_attention_heads", self.num_attention_heads, 1 << 10),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 24),
            ("vocab_size", self.vocab_size, 1 << 24),
        ])?;
        file.check_heads(self.hidden_size, self.num_attention_heads)?;
        file.check_eps("layer_norm_eps", self.layer_norm_eps)?;
        if self.max_position_embeddings <= FIRST_POSITION {
            return Err(file.wrong(format!("max_position_embeddings is {}", self.max_position_embeddings)));
        }
        if self.relative_attention_num_buckets < BUCKETS.count {
            return Err(file.wrong(format!(
                "relative_attention_num_buckets is {}, but {} are used",
                self.relative_attention_num_buckets, BUCKETS.count
            )));
        }
        Ok(())
    }
}

/// `MPNetEmbeddings`.
struct MpnetEmbeddings {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    layer_norm: LayerNorm,
}

impl MpnetEmbeddings {
    fn load(loader: &mut Loader, name: &str, config: &MpnetConfig) -> Result<Self, Error> {
        let hidden = config.hidden_size;
        let mut table = |what: &str, rows| loader.embedding(&format!("{name}.{what}_embeddings"), rows, hidden);
        Ok(Self {
            word_embeddings: table("word", config.vocab_size)?,
            position_embeddings: table("position", config.max_position_embeddings)?,
            layer_norm: loader.layer_norm(&format!("{name}.LayerNorm"), hidden, config.layer_norm_eps)?,
        })
    }

    /// # Shapes
    /// - returns `[rows, hidden]`
    fn forward(&self, run: Run<'_>, input: &EncoderInput) -> Tensor<2> {
        let positions: Vec<usize> = input.positions().map(|position| FIRST_POSITION + position).collect();
        let x = self.word_embeddings.forward(run, input.tokens.iter().map(|token| *token as usize));
        let x = add(run, x, self.position_embeddings.forward(run, positions.into_iter()));
        self.layer_norm.forward(run, x)
    }
}

/// `MPNetLayer`: self-attention and feed-forward, each followed by a residual and a normalisation.
struct MpnetLayer {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
    attention: Attention,
    activation: Activation,
}

impl MpnetLayer {
    fn load(loader: &mut Loader, name: &str, config: &MpnetConfig) -> Result<Self, Error> {
        let (hidden, inner, eps) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let mut linear =
            |part: &str, rows, columns| loader.linear(&format!("{name}.{part}"), rows, columns, Bias::Present);
        let q = linear("attention.attn.q", hidden, hidden)?;
        let k = linear("attention.attn.k", hidden, hidden)?;
        let v = linear("attention.attn.v", hidden, hidden)?;
        let o = linear("attention.attn.o", hidden, hidden)?;
        let intermediate = linear("intermediate.dense", inner, hidden)?;
        let output = linear("output.dense", hidden, inner)?;
        let heads = config.num_attention_heads;
        let dim = hidden / heads;
        let heads = Heads { queries: heads, keys: heads, dim, scale: 1.0 / (dim as f32).sqrt() };
        Ok(Self {
            q,
            k,
            v,
            o,
            attention_norm: loader.layer_norm(&format!("{name}.attention.LayerNorm"), hidden, eps)?,
            intermediate,
            output,
            output_norm: loader.layer_norm(&format!("{name}.output.LayerNorm"), hidden, eps)?,
            attention: Attention { heads, mask: Mask::Full },
            activation: config.hidden_act,
        })
    }

    /// # Shapes
    /// - `x`: `[rows, hidden]`; returns the same
    fn forward(
        &self,
        run: Run<'_>,
        x: Tensor<2>,
        bias: &RelativeBias,
        sequences: &[Sequence],
        scratch: &mut Scratch,
    ) -> Tensor<2> {
        let qkv = project(run, [&self.q, &self.k, &self.v], x.clone());
        let h = self.attention.forward_biased(run, qkv, bias, sequences, &mut scratch.next());
        let x = self.attention_norm.forward(run, add(run, self.o.forward(run, h), x));
        let h = self.intermediate.forward_activated(run, x.clone(), self.activation);
        self.output_norm.forward(run, add(run, self.output.forward(run, h), x))
    }
}

/// `MPNetModel`, with its pooler where the checkpoint has one.
struct Mpnet {
    embeddings: MpnetEmbeddings,
    layers: Vec<MpnetLayer>,
    relative_attention_bias: RelativeBias,
    pooler: Option<Transform>,
    config: MpnetConfig,
}

/// Takes the head of `MPNetForSequenceClassification` or `MPNetForTokenClassification`.
pub(crate) fn head(loader: &mut Loader, file: &ConfigFile, purpose: Purpose) -> Result<Option<Head>, Error> {
    let config: MpnetConfig = file.parse()?;
    config.validate(file)?;
    let hidden = config.hidden_size;
    Ok(match purpose {
        Purpose::Vectors => None,
        Purpose::Tokens { labels } => Some(Head::tokens(loader, labels, hidden)?),
        Purpose::Sequence { labels } => {
            let dense = Transform::load(loader, "classifier.dense", hidden, Activation::Tanh)?;
            Some(Head::first(dense, loader.linear("classifier.out_proj", labels, hidden, Bias::Present)?))
        }
    })
}

/// Takes the model.
pub(crate) fn load(loader: &mut Loader, file: &ConfigFile) -> Result<Loaded, Error> {
    let config: MpnetConfig = file.parse()?;
    config.validate(file)?;
    let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
    let prefix = loader.prefix(&["mpnet.", ""], "embeddings.word_embeddings.weight");
    let embeddings = MpnetEmbeddings::load(loader, &format!("{prefix}embeddings"), &config)?;
    let layers = (0..config.num_hidden_layers)
        .map(|i| MpnetLayer::load(loader, &format!("{prefix}encoder.layer.{i}"), &config))
        .collect::<Result<_, _>>()?;
    let table = format!("{prefix}encoder.relative_attention_bias");
    let relative_attention_bias = BUCKETS.bias(loader, &table, config.relative_attention_num_buckets, heads)?;
    let pooler = format!("{prefix}pooler.dense");
    let pooler = if loader.contains(&format!("{pooler}.weight")) {
        Some(Transform::load(loader, &pooler, hidden, Activation::Tanh)?)
    } else {
        None
    };
    let network = Box::new(Mpnet { embeddings, layers, relative_attention_bias, pooler, config });
    Ok(Loaded { network, ignorable: &["*position_ids", "lm_head.*"] })
}

impl TextEncoder for Mpnet {
    fn forward(&self, run: Run<'_>, input: &EncoderInput) -> Tensor<2> {
        let mut scratch = Scratch::new(&input.sequences);
        let bias = &self.relative_attention_bias;
        let x = self.embeddings.forward(run, input);
        self.layers.iter().fold(x, |x, layer| layer.forward(run, x, bias, &input.sequences, &mut scratch))
    }

    fn hidden_size(&self) -> usize {
        self.config.hidden_size
    }

    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    fn max_tokens(&self) -> usize {
        self.config.max_position_embeddings - FIRST_POSITION
    }

    fn pooler(&self) -> Option<&Transform> {
        self.pooler.as_ref()
    }
}
