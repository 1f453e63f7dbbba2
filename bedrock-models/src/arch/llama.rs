//! Llama 2, 3, 3.x and every checkpoint of that shape: SmolLM2, TinyLlama …
//!
//! Papers: Touvron et al. 2023 (<https://arxiv.org/abs/2307.09288>), Grattafiori et al. 2024 (<https://arxiv.org/abs/2407.21783>).
//! Reference: HF `modeling_llama.py` (transformers 4.44 and 5), and llama.cpp's `llama` GGUF layout.
//! Checked against: tiny random checkpoints of every `rope_scaling` type, SmolLM2-135M-Instruct (Q4_1).
//!
//! Deliberate differences: no dropout; `pretraining_tp` is ignored (it only splits the same product); with `dynamic` scaling the
//! length that counts is that of the sequence after the rows of the step, as in HF when the prompt is one step.

use std::path::Path;

use burn::Tensor;
use serde::Deserialize;

use super::{CausalLm, Outputs, Step};
use crate::error::Error;
use crate::kernels::attention::{Heads, Mask, Page};
use crate::layers::loader::Bias;
use crate::layers::{
    Activation, Attention, Compute, Embedding, LayerCache, Linear, Loader, RmsNorm, RopeParameters, Rotary, Run,
    Sequence, activation::swiglu, attention::rotate, norm::add, project,
};
use crate::weights::Metadata;

/// `config.json` of `LlamaForCausalLM`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LlamaConfig {
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) num_key_value_heads: Option<usize>,
    pub(crate) head_dim: Option<usize>,
    #[serde(default = "default_eps")]
    pub(crate) rms_norm_eps: f64,
    #[serde(default = "default_theta")]
    pub(crate) rope_theta: f64,
    pub(crate) rope_scaling: Option<RopeParameters>,
    pub(crate) rope_parameters: Option<RopeParameters>,
    /// Some files have these two beside the rope parameters instead of in them.
    pub(crate) original_max_position_embeddings: Option<f64>,
    pub(crate) partial_rotary_factor: Option<f64>,
    #[serde(default = "default_activation")]
    pub(crate) hidden_act: Activation,
    #[serde(default = "default_positions")]
    pub(crate) max_position_embeddings: usize,
    pub(crate) vocab_size: usize,
    #[serde(default)]
    pub(crate) tie_word_embeddings: bool,
    #[serde(default)]
    pub(crate) attention_bias: bool,
    #[serde(default)]
    pub(crate) mlp_bias: bool,
    /// Not in HF's Llama; set by architectures built on this one.
    #[serde(skip)]
    pub(crate) sliding_window: Option<usize>,
    /// Rotation of neighbours instead of halves: how GGUF orders the rows of q and k.
    #[serde(skip)]
    pub(crate) rotate_pairs: bool,
    /// GGUF does not say which layers have biases.
    #[serde(skip)]
    pub(crate) bias_if_present: bool,
}

fn default_eps() -> f64 {
    1e-6
}
fn default_theta() -> f64 {
    10_000.0
}
fn default_activation() -> Activation {
    Activation::Silu
}
fn default_positions() -> usize {
    2048
}

impl LlamaConfig {
    pub(crate) fn key_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    pub(crate) fn head_dim(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    /// The rope parameters, wherever the file has them.
    fn rope(&self) -> RopeParameters {
        let mut rope = self.rope_parameters.as_ref().or(self.rope_scaling.as_ref()).cloned().unwrap_or_default();
        rope.original_max_position_embeddings =
            self.original_max_position_embeddings.or(rope.original_max_position_embeddings);
        rope.partial_rotary_factor = rope.partial_rotary_factor.or(self.partial_rotary_factor);
        rope
    }

    /// The most tokens of prompt and answer. `dynamic` scaling stretches `max_position_embeddings`; all other types have
    /// the stretched length there already.
    pub(crate) fn context(&self) -> usize {
        let rope = self.rope();
        let stretch = if rope.kind() == "dynamic" { rope.factor.unwrap_or(1.0).max(1.0) } else { 1.0 };
        (self.max_position_embeddings as f64 * stretch) as usize
    }

    /// Checks what the layers rely on, so that nothing below can overflow, divide by zero or panic.
    pub(crate) fn validate(&self, path: &Path) -> Result<(), Error> {
        let wrong = |what: String| Err(Error::ConfigValue { path: path.to_path_buf(), what });
        for (name, value, most) in [
            ("hidden_size", self.hidden_size, 1 << 17),
            ("intermediate_size", self.intermediate_size, 1 << 20),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 10),
            ("num_attention_heads", self.num_attention_heads, 1 << 12),
            ("num_key_value_heads", self.key_heads(), 1 << 12),
            ("head_dim", self.head_dim(), 1 << 12),
            ("vocab_size", self.vocab_size, 1 << 24),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 28),
            ("sliding_window", self.sliding_window.unwrap_or(1), 1 << 28),
        ] {
            if value == 0 || value > most {
                return wrong(format!("{name} is {value}, outside 1..={most}"));
            }
        }
        if !self.num_attention_heads.is_multiple_of(self.key_heads()) {
            return wrong(format!(
                "num_attention_heads ({}) is no multiple of num_key_value_heads ({})",
                self.num_attention_heads,
                self.key_heads()
            ));
        }
        if !self.head_dim().is_multiple_of(2) {
            return wrong(format!("head_dim is {}, not an even number", self.head_dim()));
        }
        if self.hidden_act != Activation::Silu {
            return wrong(format!("hidden_act is {:?}, only silu is supported", self.hidden_act));
        }
        if !(self.rms_norm_eps.is_finite() && self.rms_norm_eps >= 0.0) {
            return wrong(format!("rms_norm_eps is {}", self.rms_norm_eps));
        }
        Ok(())
    }

    /// Reads the metadata of a GGUF file of architecture `llama`.
    pub(crate) fn from_gguf(metadata: &Metadata, vocab_size: usize, tied: bool) -> Result<Self, Error> {
        let size = |key: &str| metadata.required::<u32>(&format!("llama.{key}")).map(|v| v as usize);
        let optional = |key: &str| metadata.optional::<u32>(&format!("llama.{key}")).map(|v| v.map(|v| v as usize));
        let float = |key: &str| metadata.optional::<f32>(&format!("llama.{key}")).map(|v| v.map(f64::from));
        let (hidden_size, heads) = (size("embedding_length")?, size("attention.head_count")?);
        let head_dim = optional("attention.key_length")?.unwrap_or(hidden_size / heads.max(1));
        let rotary_dim = optional("rope.dimension_count")?.unwrap_or(head_dim);
        let scaling = metadata.optional::<&str>("llama.rope.scaling.type")?.filter(|name| *name != "none");
        let rope = RopeParameters {
            rope_type: Some(scaling.unwrap_or("default").to_string()),
            factor: float("rope.scaling.factor")?,
            original_max_position_embeddings: optional("rope.scaling.original_context_length")?.map(|v| v as f64),
            attention_factor: float("rope.scaling.attn_factor")?,
            partial_rotary_factor: Some(rotary_dim as f64 / head_dim.max(1) as f64),
            ..Default::default()
        };
        Ok(Self {
            hidden_size,
            intermediate_size: size("feed_forward_length")?,
            num_hidden_layers: size("block_count")?,
            num_attention_heads: heads,
            num_key_value_heads: optional("attention.head_count_kv")?,
            head_dim: Some(head_dim),
            rms_norm_eps: float("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-5),
            rope_theta: float("rope.freq_base")?.unwrap_or(10_000.0),
            rope_scaling: Some(rope),
            rope_parameters: None,
            original_max_position_embeddings: None,
            partial_rotary_factor: None,
            hidden_act: Activation::Silu,
            max_position_embeddings: size("context_length")?,
            vocab_size,
            tie_word_embeddings: tied,
            attention_bias: false,
            mlp_bias: false,
            sliding_window: optional("attention.sliding_window")?.filter(|window| *window > 0),
            rotate_pairs: true,
            bias_if_present: true,
        })
    }
}

/// From the module's names to those of GGUF.
pub(crate) const GGUF_NAMES: &[(&str, &str)] = &[
    ("model.embed_tokens", "token_embd"),
    ("model.norm", "output_norm"),
    ("lm_head", "output"),
    ("model.layers", "blk"),
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// The GGUF name of a tensor of the module.
pub(crate) fn gguf_name(name: &str) -> String {
    GGUF_NAMES.iter().fold(name.to_string(), |name, (from, to)| name.replacen(from, to, 1))
}

/// `LlamaAttention`: grouped-query attention with rotary positions.
struct LlamaAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    attention: Attention,
    rotate_pairs: bool,
}

impl LlamaAttention {
    fn load(loader: &mut Loader, name: &str, config: &LlamaConfig) -> Result<Self, Error> {
        let (hidden, dim) = (config.hidden_size, config.head_dim());
        let (queries, keys) = (config.num_attention_heads, config.key_heads());
        let bias = config.bias(config.attention_bias);
        Ok(Self {
            q_proj: loader.linear(&format!("{name}.q_proj"), queries * dim, hidden, bias)?,
            k_proj: loader.linear(&format!("{name}.k_proj"), keys * dim, hidden, bias)?,
            v_proj: loader.linear(&format!("{name}.v_proj"), keys * dim, hidden, bias)?,
            o_proj: loader.linear(&format!("{name}.o_proj"), hidden, queries * dim, bias)?,
            attention: Attention { heads: config.heads(), mask: Mask::Causal { window: config.sliding_window } },
            rotate_pairs: config.rotate_pairs,
        })
    }

    /// # Shapes
    /// - `x`: `[rows, hidden]`; returns the same
    fn forward(
        &self,
        run: Run<'_>,
        x: Tensor<2>,
        angles: &[&[f32]],
        sequences: &[Sequence],
        caches: &mut [&mut LayerCache],
    ) -> Tensor<2> {
        let [q, k, v] = project(run, [&self.q_proj, &self.k_proj, &self.v_proj], x);
        let dim = self.attention.heads.dim;
        let q = rotate(run, q, dim, angles, self.rotate_pairs);
        let k = rotate(run, k, dim, angles, self.rotate_pairs);
        let x = self.attention.forward(run, q, k, v, sequences, caches);
        self.o_proj.forward(run, x)
    }
}

/// `LlamaMLP`: SwiGLU.
struct LlamaMlp {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

impl LlamaMlp {
    fn load(loader: &mut Loader, name: &str, config: &LlamaConfig) -> Result<Self, Error> {
        let (hidden, inner, bias) = (config.hidden_size, config.intermediate_size, config.bias(config.mlp_bias));
        Ok(Self {
            gate_proj: loader.linear(&format!("{name}.gate_proj"), inner, hidden, bias)?,
            up_proj: loader.linear(&format!("{name}.up_proj"), inner, hidden, bias)?,
            down_proj: loader.linear(&format!("{name}.down_proj"), hidden, inner, bias)?,
        })
    }

    /// # Shapes
    /// - `x`: `[rows, hidden]`; returns the same
    fn forward(&self, run: Run<'_>, x: Tensor<2>) -> Tensor<2> {
        let [gate, up] = project(run, [&self.gate_proj, &self.up_proj], x);
        self.down_proj.forward(run, swiglu(run, gate, up))
    }
}

/// `LlamaDecoderLayer`.
struct LlamaDecoderLayer {
    input_layernorm: RmsNorm,
    self_attn: LlamaAttention,
    post_attention_layernorm: RmsNorm,
    mlp: LlamaMlp,
}

impl LlamaDecoderLayer {
    fn load(loader: &mut Loader, name: &str, config: &LlamaConfig) -> Result<Self, Error> {
        let (hidden, eps) = (config.hidden_size, config.rms_norm_eps);
        Ok(Self {
            input_layernorm: loader.rms_norm(&format!("{name}.input_layernorm"), hidden, eps)?,
            self_attn: LlamaAttention::load(loader, &format!("{name}.self_attn"), config)?,
            post_attention_layernorm: loader.rms_norm(&format!("{name}.post_attention_layernorm"), hidden, eps)?,
            mlp: LlamaMlp::load(loader, &format!("{name}.mlp"), config)?,
        })
    }

    /// # Shapes
    /// - `x`: `[rows, hidden]`; returns the same
    fn forward(
        &self,
        run: Run<'_>,
        x: Tensor<2>,
        angles: &[&[f32]],
        sequences: &[Sequence],
        caches: &mut [&mut LayerCache],
    ) -> Tensor<2> {
        let h = self.input_layernorm.forward(run, x.clone());
        let x = add(run, self.self_attn.forward(run, h, angles, sequences, caches), x);
        let h = self.post_attention_layernorm.forward(run, x.clone());
        add(run, self.mlp.forward(run, h), x)
    }
}

/// `LlamaForCausalLM`.
pub(crate) struct Llama {
    embed_tokens: Embedding,
    layers: Vec<LlamaDecoderLayer>,
    norm: RmsNorm,
    lm_head: Linear,
    rotary: Rotary,
    page_bytes: usize,
}

impl LlamaConfig {
    fn heads(&self) -> Heads {
        let dim = self.head_dim();
        let scale = 1.0 / (dim as f32).sqrt();
        Heads { queries: self.num_attention_heads, keys: self.key_heads(), dim, scale }
    }

    fn bias(&self, present: bool) -> Bias {
        match (self.bias_if_present, present) {
            (true, _) => Bias::IfPresent,
            (false, true) => Bias::Present,
            (false, false) => Bias::Absent,
        }
    }
}

impl Llama {
    /// `path` is what errors call the configuration.
    pub(crate) fn load(mut loader: Loader, config: &LlamaConfig, path: &Path) -> Result<Self, Error> {
        let model = Self::take(&mut loader, config, path)?;
        // Old exports hold the rotary frequencies; tied ones may hold the shared table twice.
        let twice: &[&str] = if config.tie_word_embeddings { &["lm_head.weight"] } else { &[] };
        loader.finish(&[&["*.rotary_emb.inv_freq"], twice].concat())?;
        Ok(model)
    }

    fn take(loader: &mut Loader, config: &LlamaConfig, path: &Path) -> Result<Self, Error> {
        config.validate(path)?;
        let rope = config.rope();
        let wrong = |source| Error::Rope { path: path.to_path_buf(), source };
        let max = config.max_position_embeddings as f64;
        let mut rotary = Rotary::new(&rope, config.head_dim(), config.rope_theta, max).map_err(wrong)?;
        rotary.pairs = config.rotate_pairs;
        if config.rotate_pairs && loader.contains("rope_freqs.weight") {
            let factors = loader.vector("rope_freqs.weight", config.head_dim() / 2)?;
            rotary = rotary.divided(&factors).map_err(wrong)?;
        }
        let embed_tokens = loader.embedding("model.embed_tokens", config.vocab_size, config.hidden_size)?;
        let layers = (0..config.num_hidden_layers)
            .map(|i| LlamaDecoderLayer::load(loader, &format!("model.layers.{i}"), config))
            .collect::<Result<_, _>>()?;
        let norm = loader.rms_norm("model.norm", config.hidden_size, config.rms_norm_eps)?;
        let lm_head = if config.tie_word_embeddings {
            loader.tied(&embed_tokens)
        } else {
            loader.linear("lm_head", config.vocab_size, config.hidden_size, Bias::Absent)?
        };
        let heads = config.heads();
        let page_bytes = config.num_hidden_layers.saturating_mul(Page::bytes(heads));
        Ok(Self { embed_tokens, layers, norm, lm_head, rotary, page_bytes })
    }
}

impl CausalLm for Llama {
    fn forward(&self, compute: &Compute, step: &mut Step<'_>) -> Option<Tensor<2>> {
        let run = step.run(compute);
        let angles: Vec<Vec<f32>> = step
            .sequences
            .iter()
            .flat_map(|s| (0..s.tokens).map(|t| self.rotary.angles(s.position + t, s.position + s.tokens)))
            .collect();
        let angles: Vec<&[f32]> = angles.iter().map(Vec::as_slice).collect();
        let mut x = self.embed_tokens.forward(run, step.tokens.iter().map(|token| *token as usize));
        for (i, layer) in self.layers.iter().enumerate() {
            if (step.cancelled)() {
                return None;
            }
            let mut caches: Vec<&mut LayerCache> = step.caches.iter_mut().map(|cache| &mut cache.layers[i]).collect();
            x = layer.forward(run, x, &angles, &step.sequences, &mut caches);
        }
        for (cache, sequence) in step.caches.iter_mut().zip(&step.sequences) {
            cache.len += sequence.tokens;
        }
        if step.outputs == Outputs::Nothing {
            return None;
        }
        let x = self.norm.forward(run, step.select(x));
        Some(self.lm_head.forward(run, x))
    }

    fn layers(&self) -> usize {
        self.layers.len()
    }

    fn page_bytes(&self) -> usize {
        self.page_bytes
    }
}
