//! nomic-bert, the encoder of nomic-embed-text: BERT with rotary positions, a gated feed-forward, and hardly any biases.
//!
//! Paper: Nussbaum et al. 2024 (<https://arxiv.org/abs/2402.01613>). Reference: HF `modeling_nomic_bert.py` (transformers 5), and the
//! configuration of the checkpoints' own code, whose keys are those of GPT-2 (`n_embd` …). Checked against: tiny random checkpoints.
//!
//! Deliberate differences: no dropout, no padding; normalisation after each block only (`prenorm` is refused).

use burn::Tensor;
use serde::Deserialize;

use super::text_encoder::{ConfigFile, EncoderInput, Head, Loaded, Purpose, TextEncoder, Transform};
use crate::error::Error;
use crate::kernels::attention::{Heads, Mask};
use crate::layers::loader::Bias;
use crate::layers::{
    Activation, Attention, Embedding, LayerNorm, Linear, Loader, RopeParameters, Rotary, Run, Scratch, Sequence,
    activation::project_gated, attention::rotate, norm::add, project,
};

/// `config.json` of `NomicBertModel`, in both spellings.
#[derive(Debug, Clone, Deserialize)]
struct NomicBertConfig {
    #[serde(default = "default_vocabulary")]
    vocab_size: usize,
    hidden_size: Option<usize>,
    n_embd: Option<usize>,
    num_hidden_layers: Option<usize>,
    n_layer: Option<usize>,
    num_attention_heads: Option<usize>,
    n_head: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: Option<usize>,
    n_inner: Option<usize>,
    max_position_embeddings: Option<usize>,
    n_positions: Option<usize>,
    layer_norm_eps: Option<f64>,
    layer_norm_epsilon: Option<f64>,
    #[serde(default = "default_types")]
    type_vocab_size: usize,
    hidden_act: Option<Activation>,
    activation_function: Option<String>,
    rope_parameters: Option<RopeParameters>,
    rope_scaling: Option<RopeParameters>,
    rope_theta: Option<f64>,
    rotary_emb_base: Option<f64>,
    rotary_emb_fraction: Option<f64>,
    #[serde(default)]
    rotary_emb_interleaved: bool,
    rotary_emb_scale_base: Option<f64>,
    /// Stretches positions beyond `max_trained_positions`.
    rotary_scaling_factor: Option<f64>,
    max_trained_positions: Option<f64>,
    #[serde(default)]
    prenorm: bool,
    #[serde(default)]
    parallel_block: bool,
    #[serde(default)]
    use_rms_norm: bool,
    #[serde(default)]
    causal: bool,
}

fn default_vocabulary() -> usize {
    30_528
}
fn default_types() -> usize {
    2
}

/// The same, with defaults, in one spelling.
#[derive(Debug, Clone)]
struct Sizes {
    vocabulary: usize,
    types: usize,
    hidden: usize,
    layers: usize,
    heads: usize,
    dim: usize,
    inner: usize,
    positions: usize,
    eps: f64,
    activation: Activation,
}

impl NomicBertConfig {
    fn sizes(&self, file: &ConfigFile) -> Result<Sizes, Error> {
        for (name, unsupported) in [
            ("prenorm", self.prenorm),
            ("parallel_block", self.parallel_block),
            ("use_rms_norm", self.use_rms_norm),
            ("causal", self.causal),
        ] {
            if unsupported {
                return Err(file.wrong(format!("{name} is true, which is not supported")));
            }
        }
        let hidden = self.hidden_size.or(self.n_embd).unwrap_or(768);
        let heads = self.num_attention_heads.or(self.n_head).unwrap_or(12);
        let sizes = Sizes {
            vocabulary: self.vocab_size,
            types: self.type_vocab_size,
            hidden,
            layers: self.num_hidden_layers.or(self.n_layer).unwrap_or(12),
            heads,
            dim: self.head_dim.unwrap_or(hidden / heads.max(1)),
            inner: self.intermediate_size.or(self.n_inner).unwrap_or(3072),
            positions: self.max_position_embeddings.or(self.n_positions).unwrap_or(2048),
            eps: self.layer_norm_eps.or(self.layer_norm_epsilon).unwrap_or(1e-12),
            activation: match (self.hidden_act, self.activation_function.as_deref()) {
                (Some(activation), _) => activation,
                (None, None | Some("swiglu" | "silu")) => Activation::Silu,
                (None, Some("geglu")) => Activation::Gelu,
                (None, Some(other)) => {
                    return Err(file.wrong(format!("activation_function is {other:?}, only gated ones are supported")));
                }
            },
        };
        file.check_sizes(&[
            ("hidden_size", sizes.hidden, 1 << 16),
            ("intermediate_size", sizes.inner, 1 << 18),
            ("num_hidden_layers", sizes.layers, 1 << 10),
            ("num_attention_heads", sizes.heads, 1 << 10),
            ("head_dim", sizes.dim, 1 << 12),
            ("max_position_embeddings", sizes.positions, 1 << 24),
            ("vocab_size", sizes.vocabulary, 1 << 24),
        ])?;
        if sizes.types > 1 << 10 {
            return Err(file.wrong(format!("type_vocab_size is {}", sizes.types)));
        }
        if !sizes.dim.is_multiple_of(2) {
            return Err(file.wrong(format!("head_dim is {}, not an even number", sizes.dim)));
        }
        file.check_eps("layer_norm_eps", sizes.eps)?;
        Ok(sizes)
    }

    fn rotary(&self, sizes: &Sizes, file: &ConfigFile) -> Result<Rotary, Error> {
        if let Some(base) = self.rotary_emb_scale_base {
            return Err(file.wrong(format!("rotary_emb_scale_base is {base}, which is not supported")));
        }
        let mut parameters = self.rope_parameters.as_ref().or(self.rope_scaling.as_ref()).cloned().unwrap_or_default();
        let mut max = sizes.positions as f64;
        if let Some(factor) = self.rotary_scaling_factor {
            parameters.rope_type = Some("dynamic".into());
            parameters.factor = Some(factor);
            max = self.max_trained_positions.unwrap_or(max);
        }
        parameters.partial_rotary_factor = parameters.partial_rotary_factor.or(self.rotary_emb_fraction);
        let theta = self.rope_theta.or(self.rotary_emb_base).unwrap_or(1000.0);
        let wrong = |source| Error::Rope { path: file.path.clone(), source };
        let mut rotary = Rotary::new(&parameters, sizes.dim, theta, max).map_err(wrong)?;
        rotary.pairs = self.rotary_emb_interleaved;
        Ok(rotary)
    }
}

/// `NomicBertLayer`: self-attention and feed-forward, each followed by a residual and a normalisation.
struct NomicBertLayer {
    query: Linear,
    key: Linear,
    value: Linear,
    out_proj: Linear,
    norm1: LayerNorm,
    /// What is multiplied with the activated gate.
    fc11: Linear,
    /// The gate.
    fc12: Linear,
    fc2: Linear,
    norm2: LayerNorm,
    attention: Attention,
    activation: Activation,
}

impl NomicBertLayer {
    fn load(loader: &mut Loader, name: &str, sizes: &Sizes) -> Result<Self, Error> {
        let (hidden, inner, eps) = (sizes.hidden, sizes.inner, sizes.eps);
        let width = sizes.heads * sizes.dim;
        // Which layers have biases, only one of the two spellings says: as the checkpoint has them.
        let bias = Bias::IfPresent;
        let [query, key, value] = loader.linears(&format!("{name}.attn.Wqkv"), [width; 3], hidden, bias)?;
        let mut linear = |part: &str, rows, columns| loader.linear(&format!("{name}.{part}"), rows, columns, bias);
        let out_proj = linear("attn.out_proj", hidden, width)?;
        let (fc11, fc12) = (linear("mlp.fc11", inner, hidden)?, linear("mlp.fc12", inner, hidden)?);
        let fc2 = linear("mlp.fc2", hidden, inner)?;
        let scale = 1.0 / (sizes.dim as f32).sqrt();
        let heads = Heads { queries: sizes.heads, keys: sizes.heads, dim: sizes.dim, scale };
        Ok(Self {
            query,
            key,
            value,
            out_proj,
            norm1: loader.layer_norm(&format!("{name}.norm1"), hidden, eps)?,
            fc11,
            fc12,
            fc2,
            norm2: loader.layer_norm(&format!("{name}.norm2"), hidden, eps)?,
            attention: Attention { heads, mask: Mask::Full },
            activation: sizes.activation,
        })
    }

    /// # Shapes
    /// - `x`: `[rows, hidden]`; returns the same
    fn forward(
        &self,
        run: Run<'_>,
        x: Tensor<2>,
        (angles, pairs): (&[&[f32]], bool),
        sequences: &[Sequence],
        scratch: &mut Scratch,
    ) -> Tensor<2> {
        let [q, k, v] = project(run, [&self.query, &self.key, &self.value], x.clone());
        let dim = self.attention.heads.dim;
        let (q, k) = (rotate(run, q, dim, angles, pairs), rotate(run, k, dim, angles, pairs));
        let h = self.attention.forward(run, q, k, v, sequences, &mut scratch.next());
        let x = self.norm1.forward(run, add(run, self.out_proj.forward(run, h), x));
        let h = project_gated(run, [&self.fc12, &self.fc11], x.clone(), self.activation);
        self.norm2.forward(run, add(run, self.fc2.forward(run, h), x))
    }
}

/// `NomicBertModel`.
struct NomicBert {
    word_embeddings: Embedding,
    token_type_embeddings: Option<Embedding>,
    emb_ln: LayerNorm,
    layers: Vec<NomicBertLayer>,
    rotary: Rotary,
    pooler: Option<Transform>,
    sizes: Sizes,
}

/// What comes before the names of the encoder's tensors.
fn prefix(loader: &Loader) -> &'static str {
    loader.prefix(&["nomic_bert.", "bert.", ""], "embeddings.word_embeddings.weight")
}

/// Takes the head of `NomicBertForSequenceClassification` or `NomicBertForTokenClassification`.
pub(crate) fn head(loader: &mut Loader, file: &ConfigFile, purpose: Purpose) -> Result<Option<Head>, Error> {
    let config: NomicBertConfig = file.parse()?;
    let hidden = config.sizes(file)?.hidden;
    Ok(match purpose {
        Purpose::Vectors => None,
        Purpose::Tokens { labels } => Some(Head::tokens(loader, labels, hidden)?),
        Purpose::Sequence { labels } => {
            let pooler = format!("{}pooler.dense", prefix(loader));
            let pooler = Transform::load(loader, &pooler, hidden, Activation::Tanh)?;
            Some(Head::first(pooler, loader.linear("classifier", labels, hidden, Bias::Present)?))
        }
    })
}

/// Takes the model.
pub(crate) fn load(loader: &mut Loader, file: &ConfigFile) -> Result<Loaded, Error> {
    let config: NomicBertConfig = file.parse()?;
    let sizes = config.sizes(file)?;
    let (hidden, prefix) = (sizes.hidden, prefix(loader));
    let pooler = format!("{prefix}pooler.dense");
    let words = format!("{prefix}embeddings.word_embeddings");
    let types = format!("{prefix}embeddings.token_type_embeddings");
    let network = Box::new(NomicBert {
        word_embeddings: loader.embedding(&words, sizes.vocabulary, hidden)?,
        token_type_embeddings: match sizes.types {
            0 => None,
            rows => Some(loader.embedding(&types, rows, hidden)?),
        },
        emb_ln: loader.layer_norm(&format!("{prefix}emb_ln"), hidden, sizes.eps)?,
        layers: (0..sizes.layers)
            .map(|i| NomicBertLayer::load(loader, &format!("{prefix}encoder.layers.{i}"), &sizes))
            .collect::<Result<_, _>>()?,
        rotary: config.rotary(&sizes, file)?,
        pooler: match loader.contains(&format!("{pooler}.weight")) {
            true => Some(Transform::load(loader, &pooler, hidden, Activation::Tanh)?),
            false => None,
        },
        sizes,
    });
    Ok(Loaded { network, ignorable: &["cls.*", "*inv_freq", "*position_ids"] })
}

impl TextEncoder for NomicBert {
    fn forward(&self, run: Run<'_>, input: &EncoderInput) -> Tensor<2> {
        let mut scratch = Scratch::new(&input.sequences);
        let angles = input.sequences.iter().flat_map(|s| (0..s.tokens).map(|t| self.rotary.angles(t, s.tokens)));
        let angles: Vec<Vec<f32>> = angles.collect();
        let angles: Vec<&[f32]> = angles.iter().map(Vec::as_slice).collect();
        let mut x = self.word_embeddings.forward(run, input.tokens.iter().map(|token| *token as usize));
        if let Some(table) = &self.token_type_embeddings {
            let types = input.types.iter().map(|segment| (*segment as usize).min(self.sizes.types - 1));
            x = add(run, x, table.forward(run, types));
        }
        let x = self.emb_ln.forward(run, x);
        let rotation = (angles.as_slice(), self.rotary.pairs);
        let layers = self.layers.iter();
        layers.fold(x, |x, layer| layer.forward(run, x, rotation, &input.sequences, &mut scratch))
    }

    fn hidden_size(&self) -> usize {
        self.sizes.hidden
    }

    fn vocab_size(&self) -> usize {
        self.sizes.vocabulary
    }

    fn max_tokens(&self) -> usize {
        self.sizes.positions
    }

    fn pooler(&self) -> Option<&Transform> {
        self.pooler.as_ref()
    }
}
