//! BERT and the encoders of its shape: MiniLM, BGE, E5, and, with shifted positions, RoBERTa and XLM-R.
//!
//! Papers: Devlin et al. 2018 (<https://arxiv.org/abs/1810.04805>), Liu et al. 2019 (<https://arxiv.org/abs/1907.11692>).
//! Reference: HF `modeling_bert.py`, `modeling_roberta.py` (transformers 4.44 and 5). Checked against: tiny random checkpoints, all-MiniLM-L6-v2.
//!
//! Deliberate differences: no dropout, no padding (sequences lie one after another), absolute positions only.

use burn::Tensor;
use serde::Deserialize;

use super::text_encoder::{ConfigFile, EncoderInput, Head, Loaded, Purpose, TextEncoder, Transform};
use crate::error::Error;
use crate::kernels::attention::{Heads, Mask};
use crate::layers::loader::Bias;
use crate::layers::{
    Activation, Attention, Embedding, LayerNorm, Linear, Loader, Run, Scratch, Sequence, norm::add, project,
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
    fn max_tokens(&self) -> usize {
        self.max_position_embeddings.saturating_sub(self.first_position())
    }

    fn validate(&self, file: &ConfigFile) -> Result<(), Error> {
        file.check_sizes(&[
            ("hidden_size", self.hidden_size, 1 << 16),
            ("intermediate_size", self.intermediate_size, 1 << 18),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 10),
            ("num_attention_heads", self.num_attention_heads, 1 << 10),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 24),
            ("type_vocab_size", self.type_vocab_size, 1 << 10),
            ("vocab_size", self.vocab_size, 1 << 24),
        ])?;
        file.check_heads(self.hidden_size, self.num_attention_heads)?;
        file.check_eps("layer_norm_eps", self.layer_norm_eps)?;
        if self.first_position() >= self.max_position_embeddings {
            return Err(file.wrong(format!("pad_token_id {:?} leaves no position", self.pad_token_id)));
        }
        if let Some(other) = self.position_embedding_type.as_deref().filter(|name| *name != "absolute") {
            return Err(file.wrong(format!("position_embedding_type is {other:?}, only \"absolute\" is supported")));
        }
        Ok(())
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
        let positions: Vec<usize> = input.positions().map(|position| self.first_position + position).collect();
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
    fn forward(&self, run: Run<'_>, x: Tensor<2>, sequences: &[Sequence], scratch: &mut Scratch) -> Tensor<2> {
        let [q, k, v] = project(run, [&self.query, &self.key, &self.value], x.clone());
        let h = self.attention.forward(run, q, k, v, sequences, &mut scratch.next());
        let x = self.attention_norm.forward(run, add(run, self.attention_output.forward(run, h), x));
        let h = self.intermediate.forward_activated(run, x.clone(), self.activation);
        self.output_norm.forward(run, add(run, self.output.forward(run, h), x))
    }
}

/// `BertModel`, with its pooler where the checkpoint has one.
struct Bert {
    embeddings: BertEmbeddings,
    layers: Vec<BertLayer>,
    pooler: Option<Transform>,
    config: BertConfig,
}

/// What comes before the names of the encoder's tensors.
fn prefix(loader: &Loader) -> &'static str {
    loader.prefix(&["bert.", "roberta.", ""], "embeddings.word_embeddings.weight")
}

/// Takes the head of `…ForSequenceClassification` or `…ForTokenClassification`.
pub(crate) fn head(loader: &mut Loader, file: &ConfigFile, purpose: Purpose) -> Result<Option<Head>, Error> {
    let config: BertConfig = file.parse()?;
    config.validate(file)?;
    let hidden = config.hidden_size;
    Ok(match purpose {
        Purpose::Vectors => None,
        Purpose::Tokens { labels } => Some(Head::tokens(loader, labels, hidden)?),
        Purpose::Sequence { labels } if config.model_type == "bert" => {
            let pooler = format!("{}pooler.dense", prefix(loader));
            let pooler = Transform::load(loader, &pooler, hidden, Activation::Tanh)?;
            Some(Head::first(pooler, loader.linear("classifier", labels, hidden, Bias::Present)?))
        }
        Purpose::Sequence { labels } => {
            let dense = Transform::load(loader, "classifier.dense", hidden, Activation::Tanh)?;
            Some(Head::first(dense, loader.linear("classifier.out_proj", labels, hidden, Bias::Present)?))
        }
    })
}

/// Takes the model.
pub(crate) fn load(loader: &mut Loader, file: &ConfigFile) -> Result<Loaded, Error> {
    let config: BertConfig = file.parse()?;
    config.validate(file)?;
    let (hidden, prefix) = (config.hidden_size, prefix(loader));
    let pooler = format!("{prefix}pooler.dense");
    let embeddings = BertEmbeddings::load(loader, &format!("{prefix}embeddings"), &config)?;
    let layers = (0..config.num_hidden_layers)
        .map(|i| BertLayer::load(loader, &format!("{prefix}encoder.layer.{i}"), &config))
        .collect::<Result<_, _>>()?;
    let pooler = if loader.contains(&format!("{pooler}.weight")) {
        Some(Transform::load(loader, &pooler, hidden, Activation::Tanh)?)
    } else {
        None
    };
    let network = Box::new(Bert { embeddings, layers, pooler, config });
    Ok(Loaded { network, ignorable: &["*position_ids", "cls.*", "lm_head.*"] })
}

impl TextEncoder for Bert {
    fn forward(&self, run: Run<'_>, input: &EncoderInput) -> Tensor<2> {
        let mut scratch = Scratch::new(&input.sequences);
        let x = self.embeddings.forward(run, input);
        self.layers.iter().fold(x, |x, layer| layer.forward(run, x, &input.sequences, &mut scratch))
    }

    fn forward_layers(&self, run: Run<'_>, input: &EncoderInput) -> Vec<Tensor<2>> {
        let mut scratch = Scratch::new(&input.sequences);
        let mut states = vec![self.embeddings.forward(run, input)];
        for layer in &self.layers {
            let x = states[states.len() - 1].clone();
            states.push(layer.forward(run, x, &input.sequences, &mut scratch));
        }
        states
    }

    fn hidden_size(&self) -> usize {
        self.config.hidden_size
    }

    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    fn max_tokens(&self) -> usize {
        self.config.max_tokens()
    }

    fn pooler(&self) -> Option<&Transform> {
        self.pooler.as_ref()
    }
}
