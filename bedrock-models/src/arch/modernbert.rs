//! ModernBERT: rotary positions, gated feed-forward, and layers that look around locally between those that see the whole text.
//!
//! Paper: Warner et al. 2024 (<https://arxiv.org/abs/2412.13663>). Reference: HF `modeling_modernbert.py` (transformers 4.48 and 5).
//! Checked against: tiny random checkpoints.
//!
//! Deliberate differences: no dropout, no padding.

use burn::Tensor;
use serde::Deserialize;

use super::text_encoder::{ConfigFile, EncoderInput, Head, Loaded, Purpose, Reads, TextEncoder, Transform};
use crate::error::Error;
use crate::kernels::attention::{Heads, Mask};
use crate::layers::loader::Bias;
use crate::layers::{
    Activation, Attention, Embedding, LayerNorm, Linear, Loader, RopeParameters, Rotary, Run, Scratch, Sequence,
    activation::project_gated, attention::rotate, norm::add, project,
};

/// `config.json` of `ModernBertModel`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
struct ModernBertConfig {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    hidden_activation: Activation,
    max_position_embeddings: usize,
    norm_eps: f64,
    norm_bias: bool,
    attention_bias: bool,
    mlp_bias: bool,
    global_rope_theta: f64,
    /// `null`: as the global one.
    local_rope_theta: Option<f64>,
    rope_scaling: Option<RopeParameters>,
    rope_parameters: Option<RopeByLayer>,
    /// All positions of a local layer's window, before and after together.
    local_attention: Option<usize>,
    /// Half of it, as some files have it.
    sliding_window: Option<usize>,
    /// Every n-th layer sees the whole text, the first included.
    global_attn_every_n_layers: usize,
    layer_types: Option<Vec<LayerType>>,
    classifier_pooling: ClassifierPooling,
    classifier_bias: bool,
    classifier_activation: Activation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LayerType {
    FullAttention,
    SlidingAttention,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct RopeByLayer {
    full_attention: Option<RopeParameters>,
    sliding_attention: Option<RopeParameters>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ClassifierPooling {
    Cls,
    Mean,
}

impl Default for ModernBertConfig {
    fn default() -> Self {
        Self {
            vocab_size: 50_368,
            hidden_size: 768,
            intermediate_size: 1152,
            num_hidden_layers: 22,
            num_attention_heads: 12,
            hidden_activation: Activation::Gelu,
            max_position_embeddings: 8192,
            norm_eps: 1e-5,
            norm_bias: false,
            attention_bias: false,
            mlp_bias: false,
            global_rope_theta: 160_000.0,
            local_rope_theta: Some(10_000.0),
            rope_scaling: None,
            rope_parameters: None,
            local_attention: None,
            sliding_window: None,
            global_attn_every_n_layers: 3,
            layer_types: None,
            classifier_pooling: ClassifierPooling::Cls,
            classifier_bias: false,
            classifier_activation: Activation::Gelu,
        }
    }
}

impl ModernBertConfig {
    fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// How far a token of a local layer sees to either side.
    fn reach(&self) -> usize {
        self.local_attention.map_or(self.sliding_window.unwrap_or(64), |window| window / 2)
    }

    fn layer_type(&self, layer: usize) -> LayerType {
        match &self.layer_types {
            Some(types) => types[layer],
            None if layer.is_multiple_of(self.global_attn_every_n_layers) => LayerType::FullAttention,
            None => LayerType::SlidingAttention,
        }
    }

    fn validate(&self, file: &ConfigFile) -> Result<(), Error> {
        file.check_sizes(&[
            ("hidden_size", self.hidden_size, 1 << 16),
            ("intermediate_size", self.intermediate_size, 1 << 18),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 10),
            ("num_attention_heads", self.num_attention_heads, 1 << 10),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 24),
            ("vocab_size", self.vocab_size, 1 << 24),
            ("global_attn_every_n_layers", self.global_attn_every_n_layers, usize::MAX),
        ])?;
        file.check_heads(self.hidden_size, self.num_attention_heads)?;
        file.check_eps("norm_eps", self.norm_eps)?;
        if !self.head_dim().is_multiple_of(2) {
            return Err(file.wrong(format!("heads have {} features, not an even number", self.head_dim())));
        }
        if let Some(types) = self.layer_types.as_ref().filter(|types| types.len() != self.num_hidden_layers) {
            let (got, want) = (types.len(), self.num_hidden_layers);
            return Err(file.wrong(format!("layer_types has {got} entries for {want} layers")));
        }
        Ok(())
    }

    /// The rotations of layers of a type.
    fn rotary(&self, layer_type: LayerType, file: &ConfigFile) -> Result<Rotary, Error> {
        let by_layer = self.rope_parameters.as_ref();
        let (parameters, theta) = match layer_type {
            LayerType::FullAttention => (by_layer.and_then(|rope| rope.full_attention.as_ref()), None),
            LayerType::SlidingAttention => {
                (by_layer.and_then(|rope| rope.sliding_attention.as_ref()), self.local_rope_theta)
            }
        };
        let parameters = parameters.or(self.rope_scaling.as_ref()).cloned().unwrap_or_default();
        let (theta, max) = (theta.unwrap_or(self.global_rope_theta), self.max_position_embeddings as f64);
        let wrong = |source| Error::Rope { path: file.path.clone(), source };
        Rotary::new(&parameters, self.head_dim(), theta, max).map_err(wrong)
    }

    fn norm(&self, loader: &mut Loader, name: &str) -> Result<LayerNorm, Error> {
        match self.norm_bias {
            true => loader.layer_norm(name, self.hidden_size, self.norm_eps),
            false => loader.layer_norm_unbiased(name, self.hidden_size, self.norm_eps),
        }
    }
}

fn bias(present: bool) -> Bias {
    if present { Bias::Present } else { Bias::Absent }
}

/// Angles of each row, for layers of both types: see [`Rotary::angles`].
struct Angles {
    full: Vec<Vec<f32>>,
    sliding: Vec<Vec<f32>>,
}

/// `ModernBertAttention`.
struct ModernBertAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    attention: Attention,
    layer_type: LayerType,
}

impl ModernBertAttention {
    fn load(loader: &mut Loader, name: &str, config: &ModernBertConfig, layer_type: LayerType) -> Result<Self, Error> {
        let (hidden, bias) = (config.hidden_size, bias(config.attention_bias));
        let [query, key, value] = loader.linears(&format!("{name}.Wqkv"), [hidden; 3], hidden, bias)?;
        let (heads, dim) = (config.num_attention_heads, config.head_dim());
        let heads = Heads { queries: heads, keys: heads, dim, scale: 1.0 / (dim as f32).sqrt() };
        let mask = match layer_type {
            LayerType::FullAttention => Mask::Full,
            LayerType::SlidingAttention => Mask::Around(config.reach()),
        };
        let output = loader.linear(&format!("{name}.Wo"), hidden, hidden, bias)?;
        Ok(Self { query, key, value, output, attention: Attention { heads, mask }, layer_type })
    }

    /// # Shapes
    /// - `x`: `[rows, hidden]`; returns the same
    fn forward(
        &self,
        run: Run<'_>,
        x: Tensor<2>,
        angles: &Angles,
        sequences: &[Sequence],
        scratch: &mut Scratch,
    ) -> Tensor<2> {
        let angles = match self.layer_type {
            LayerType::FullAttention => &angles.full,
            LayerType::SlidingAttention => &angles.sliding,
        };
        let angles: Vec<&[f32]> = angles.iter().map(Vec::as_slice).collect();
        let [q, k, v] = project(run, [&self.query, &self.key, &self.value], x);
        let dim = self.attention.heads.dim;
        let q = rotate(run, q, dim, &angles, false);
        let k = rotate(run, k, dim, &angles, false);
        let x = self.attention.forward(run, q, k, v, sequences, &mut scratch.next());
        self.output.forward(run, x)
    }
}

/// `ModernBertEncoderLayer`: normalisation comes first, except in the first layer, whose input is normalised already.
struct ModernBertLayer {
    attn_norm: Option<LayerNorm>,
    attn: ModernBertAttention,
    mlp_norm: LayerNorm,
    mlp_input: Linear,
    mlp_gate: Linear,
    mlp_output: Linear,
    activation: Activation,
}

impl ModernBertLayer {
    fn load(loader: &mut Loader, name: &str, config: &ModernBertConfig, index: usize) -> Result<Self, Error> {
        let (hidden, inner, bias) = (config.hidden_size, config.intermediate_size, bias(config.mlp_bias));
        let attn_norm = match index {
            0 => None,
            _ => Some(config.norm(loader, &format!("{name}.attn_norm"))?),
        };
        let [mlp_input, mlp_gate] = loader.linears(&format!("{name}.mlp.Wi"), [inner; 2], hidden, bias)?;
        Ok(Self {
            attn_norm,
            attn: ModernBertAttention::load(loader, &format!("{name}.attn"), config, config.layer_type(index))?,
            mlp_norm: config.norm(loader, &format!("{name}.mlp_norm"))?,
            mlp_input,
            mlp_gate,
            mlp_output: loader.linear(&format!("{name}.mlp.Wo"), hidden, inner, bias)?,
            activation: config.hidden_activation,
        })
    }

    /// # Shapes
    /// - `x`: `[rows, hidden]`; returns the same
    fn forward(
        &self,
        run: Run<'_>,
        x: Tensor<2>,
        angles: &Angles,
        sequences: &[Sequence],
        scratch: &mut Scratch,
    ) -> Tensor<2> {
        let h = match &self.attn_norm {
            Some(norm) => norm.forward(run, x.clone()),
            None => x.clone(),
        };
        let x = add(run, self.attn.forward(run, h, angles, sequences, scratch), x);
        let h = self.mlp_norm.forward(run, x.clone());
        let h = project_gated(run, [&self.mlp_input, &self.mlp_gate], h, self.activation);
        add(run, self.mlp_output.forward(run, h), x)
    }
}

/// `ModernBertModel`.
struct ModernBert {
    tok_embeddings: Embedding,
    embeddings_norm: LayerNorm,
    layers: Vec<ModernBertLayer>,
    final_norm: LayerNorm,
    full_rotary: Rotary,
    sliding_rotary: Rotary,
    config: ModernBertConfig,
}

/// `ModernBertPredictionHead` and the classifier on it.
fn head_of(loader: &mut Loader, config: &ModernBertConfig, reads: Reads, labels: usize) -> Result<Head, Error> {
    let hidden = config.hidden_size;
    let dense = loader.linear("head.dense", hidden, hidden, bias(config.classifier_bias))?;
    let norm = Some(config.norm(loader, "head.norm")?);
    let transform = Some(Transform { dense, activation: config.classifier_activation, norm });
    Ok(Head { reads, transform, output: loader.linear("classifier", labels, hidden, Bias::Present)? })
}

/// Takes the head of `ModernBertForSequenceClassification` or `ModernBertForTokenClassification`.
pub(crate) fn head(loader: &mut Loader, file: &ConfigFile, purpose: Purpose) -> Result<Option<Head>, Error> {
    let config: ModernBertConfig = file.parse()?;
    config.validate(file)?;
    let (reads, labels) = match (purpose, config.classifier_pooling) {
        (Purpose::Vectors, _) => return Ok(None),
        (Purpose::Tokens { labels }, _) => (Reads::Every, labels),
        (Purpose::Sequence { labels }, ClassifierPooling::Cls) => (Reads::First, labels),
        (Purpose::Sequence { labels }, ClassifierPooling::Mean) => (Reads::Mean, labels),
    };
    head_of(loader, &config, reads, labels).map(Some)
}

/// Takes the model.
pub(crate) fn load(loader: &mut Loader, file: &ConfigFile) -> Result<Loaded, Error> {
    let config: ModernBertConfig = file.parse()?;
    config.validate(file)?;
    let prefix = loader.prefix(&["model.", ""], "embeddings.tok_embeddings.weight");
    let table = format!("{prefix}embeddings.tok_embeddings");
    let network = Box::new(ModernBert {
        tok_embeddings: loader.embedding(&table, config.vocab_size, config.hidden_size)?,
        embeddings_norm: config.norm(loader, &format!("{prefix}embeddings.norm"))?,
        layers: (0..config.num_hidden_layers)
            .map(|i| ModernBertLayer::load(loader, &format!("{prefix}layers.{i}"), &config, i))
            .collect::<Result<_, _>>()?,
        final_norm: config.norm(loader, &format!("{prefix}final_norm"))?,
        full_rotary: config.rotary(LayerType::FullAttention, file)?,
        sliding_rotary: config.rotary(LayerType::SlidingAttention, file)?,
        config,
    });
    Ok(Loaded { network, ignorable: &["head.*", "decoder.*"] })
}

impl TextEncoder for ModernBert {
    fn forward(&self, run: Run<'_>, input: &EncoderInput) -> Tensor<2> {
        let mut scratch = Scratch::new(&input.sequences);
        let angles = |rotary: &Rotary| {
            let rows = input.sequences.iter().flat_map(|s| (0..s.tokens).map(|t| rotary.angles(t, s.tokens)));
            rows.collect()
        };
        let angles = Angles { full: angles(&self.full_rotary), sliding: angles(&self.sliding_rotary) };
        let x = self.tok_embeddings.forward(run, input.tokens.iter().map(|token| *token as usize));
        let x = self.embeddings_norm.forward(run, x);
        let layers = self.layers.iter();
        let x = layers.fold(x, |x, layer| layer.forward(run, x, &angles, &input.sequences, &mut scratch));
        self.final_norm.forward(run, x)
    }

    fn hidden_size(&self) -> usize {
        self.config.hidden_size
    }

    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    fn max_tokens(&self) -> usize {
        self.config.max_position_embeddings
    }
}
