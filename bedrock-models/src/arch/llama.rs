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

use super::decoder::{Sizes, wrong};
use super::family::Configuration;
use super::gguf::{DECODER_NAMES, Gguf};
use super::{CausalLm, Step};
use crate::error::Error;
use crate::export::unpaired;
use crate::kernels::attention::{Heads, Mask};
use crate::layers::{
    Activation, Attention, Bias, Compute, Embedding, GatedMlp, LayerCache, Linear, Loader, RmsNorm, RopeFields, Rotary,
    Run, Sequence, attention::rotate, norm::add, project,
};
use crate::weights::{Checkpoint, Metadata, Value};

/// The base of the rotation where a file names none.
const THETA: f64 = 10_000.0;

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
    #[serde(flatten)]
    pub(crate) rope: RopeFields,
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

    fn sizes(&self) -> Sizes {
        Sizes {
            hidden: self.hidden_size,
            inner: self.intermediate_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            key_heads: self.key_heads(),
            head_dim: self.head_dim(),
            vocabulary: self.vocab_size,
            positions: self.max_position_embeddings,
            window: self.sliding_window,
            eps: self.rms_norm_eps,
        }
    }

    /// Checks what the layers rely on.
    pub(crate) fn validate(&self, path: &Path) -> Result<(), Error> {
        self.sizes().check(path)?;
        if self.hidden_act != Activation::Silu {
            return wrong(path, format!("hidden_act is {:?}, only silu is supported", self.hidden_act));
        }
        Ok(())
    }

    pub(crate) fn heads(&self) -> Heads {
        self.sizes().attention_heads()
    }

    fn bias(&self, present: bool) -> Bias {
        match (self.bias_if_present, present) {
            (true, _) => Bias::IfPresent,
            (false, true) => Bias::Present,
            (false, false) => Bias::Absent,
        }
    }

    /// Puts the rows of queries and keys into the order of the Hugging Face checkpoint.
    fn unpair(&self, loader: &mut Loader) -> Result<(), Error> {
        let (dim, hidden) = (self.head_dim(), self.hidden_size);
        for layer in 0..self.num_hidden_layers {
            for (name, heads) in [("q_proj", self.num_attention_heads), ("k_proj", self.key_heads())] {
                let name = format!("model.layers.{layer}.self_attn.{name}");
                loader.unpair(&format!("{name}.weight"), &[heads * dim, hidden], dim)?;
                if loader.contains(&format!("{name}.bias")) {
                    loader.unpair(&format!("{name}.bias"), &[heads * dim], dim)?;
                }
            }
        }
        Ok(())
    }

    /// The rotation, with the factors that Llama 3's GGUF files have as a tensor.
    pub(crate) fn rotary(&self, loader: &mut Loader, path: &Path) -> Result<Rotary, Error> {
        let failed = |source| Error::Rope { path: path.to_path_buf(), source };
        let (dim, max) = (self.head_dim(), self.max_position_embeddings as f64);
        let mut rotary = Rotary::new(&self.rope.parameters(THETA), dim, THETA, max).map_err(failed)?;
        rotary.pairs = self.rotate_pairs;
        if self.rotate_pairs && loader.contains("rope_freqs.weight") {
            let factors = loader.vector("rope_freqs.weight", dim / 2)?;
            rotary = rotary.divided(&factors).map_err(failed)?;
        }
        Ok(rotary)
    }
}

/// Where a tensor of a Hugging Face checkpoint is in a GGUF file.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// In the checkpoint.
    pub(crate) name: String,
    /// In the file.
    pub(crate) tensor: String,
    /// Features of a head whose halves lie interleaved in the file.
    pub(crate) pairs: Option<usize>,
}

impl Place {
    /// The row of the checkpoint that is this one of the file: see [`Loader::unpair`].
    pub(crate) fn row(&self, row: usize) -> usize {
        self.pairs.map_or(row, |dim| unpaired(row, dim))
    }
}

impl LlamaConfig {
    /// All tensors that a model may have, present or not.
    pub(crate) fn places(&self) -> Vec<Place> {
        let place = |name: String, pairs| Place { tensor: Self::gguf_name(&name), name, pairs };
        let mut places = vec![place("model.embed_tokens.weight".into(), None)];
        for layer in 0..self.num_hidden_layers {
            let name = |part: &str, kind: &str| format!("model.layers.{layer}.{part}.{kind}");
            for norm in ["input_layernorm", "post_attention_layernorm"] {
                places.push(place(name(norm, "weight"), None));
            }
            let plain = ["self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"];
            for kind in ["weight", "bias"] {
                let paired = ["self_attn.q_proj", "self_attn.k_proj"];
                places.extend(paired.map(|part| place(name(part, kind), Some(self.head_dim()))));
                places.extend(plain.map(|part| place(name(part, kind), None)));
            }
        }
        places.push(place("model.norm.weight".into(), None));
        if !self.tie_word_embeddings {
            places.push(place("lm_head.weight".into(), None));
        }
        places
    }

    /// Writes the sizes into the metadata of a GGUF file.
    ///
    /// # Errors
    /// What such a file cannot say.
    pub(crate) fn describe(&self, metadata: &mut Metadata) -> Result<(), String> {
        let mut number = |key: &str, value: usize| {
            let value = u32::try_from(value).map_err(|_| format!("{key} is {value}"))?;
            metadata.insert(format!("llama.{key}"), Value::U32(value));
            Ok::<(), String>(())
        };
        number("block_count", self.num_hidden_layers)?;
        number("context_length", self.max_position_embeddings)?;
        number("embedding_length", self.hidden_size)?;
        number("feed_forward_length", self.intermediate_size)?;
        number("attention.head_count", self.num_attention_heads)?;
        number("attention.head_count_kv", self.key_heads())?;
        number("attention.key_length", self.head_dim())?;
        number("attention.value_length", self.head_dim())?;
        number("rope.dimension_count", self.head_dim())?;
        number("vocab_size", self.vocab_size)?;
        // Readers of such files know no window.
        if let Some(window) = self.sliding_window.filter(|window| *window < self.max_position_embeddings) {
            return Err(format!("sliding_window is {window}, which a GGUF file of llama cannot say"));
        }
        let rope = self.rope.parameters(THETA);
        let mut float = |key: &str, value: f64| {
            metadata.insert(format!("llama.{key}"), Value::F32(value as f32));
        };
        float("attention.layer_norm_rms_epsilon", self.rms_norm_eps);
        float("rope.freq_base", rope.rope_theta.unwrap_or(THETA));
        if rope.partial_rotary_factor.is_some_and(|share| share != 1.0) {
            return Err("partial_rotary_factor is not 1, which a GGUF file of llama cannot say".into());
        }
        match (rope.kind(), rope.factor) {
            ("default" | "llama3", _) => {}
            ("linear", Some(factor)) => {
                float("rope.scaling.factor", factor);
                metadata.insert("llama.rope.scaling.type", Value::String("linear".into()));
            }
            // Of this type files have the factor alone, on top of which the rest follows.
            ("yarn", Some(factor))
                if rope.attention_factor.is_none() && rope.mscale.is_none() && rope.truncate.unwrap_or(true) =>
            {
                float("rope.scaling.factor", factor);
                for (key, value) in [("fast", rope.beta_fast), ("slow", rope.beta_slow)] {
                    value.into_iter().for_each(|value| float(&format!("rope.scaling.yarn_beta_{key}"), value));
                }
                let original = rope.original_max_position_embeddings.map(|length| length as usize);
                let original = original.unwrap_or(self.max_position_embeddings);
                metadata.insert("llama.rope.scaling.original_context_length", Value::U32(original as u32));
                metadata.insert("llama.rope.scaling.type", Value::String("yarn".into()));
            }
            (kind, _) => return Err(format!("rope type {kind} is not written into GGUF files")),
        }
        Ok(())
    }

    /// What the frequencies of positions are divided by, where that is a tensor of a GGUF file.
    ///
    /// # Errors
    /// [`Error::Rope`].
    pub(crate) fn frequency_factors(&self, path: &Path) -> Result<Option<Vec<f32>>, Error> {
        let rope = self.rope.parameters(THETA);
        if rope.kind() != "llama3" {
            return Ok(None);
        }
        let (dim, max) = (self.head_dim(), self.max_position_embeddings as f64);
        let rotary = Rotary::new(&rope, dim, THETA, max);
        let rotary = rotary.map_err(|source| Error::Rope { path: path.to_path_buf(), source })?;
        Ok(rotary.divisors(rope.rope_theta.unwrap_or(THETA)))
    }
}

/// The tensors of a GGUF file of this family, present or not.
///
/// # Errors
/// [`Error::ConfigValue`] for a file of another family; what its metadata lack.
pub(crate) fn gguf_places(metadata: &Metadata, checkpoint: &Checkpoint) -> Result<Vec<Place>, Error> {
    let file = Gguf::new(metadata, checkpoint)?;
    if file.architecture() != "llama" || !LlamaConfig::is_in(&file)? {
        let found = file.description()?;
        return wrong(metadata.path(), format!("the architecture is {found}; adapters are merged into llama alone"));
    }
    let config = LlamaConfig::from_gguf(&file)?;
    config.validate(metadata.path())?;
    Ok(config.places())
}

impl Configuration for LlamaConfig {
    const GGUF_NAMES: &'static [(&'static str, &'static str)] = DECODER_NAMES;

    /// Mixtral's files have the name too.
    fn is_in(file: &Gguf<'_>) -> Result<bool, Error> {
        Ok(file.experts()? == 0)
    }

    fn from_gguf(file: &Gguf<'_>) -> Result<Self, Error> {
        Ok(Self {
            hidden_size: file.size("embedding_length")?,
            intermediate_size: file.size("feed_forward_length")?,
            num_hidden_layers: file.size("block_count")?,
            num_attention_heads: file.size("attention.head_count")?,
            num_key_value_heads: file.optional_size("attention.head_count_kv")?,
            head_dim: Some(file.head_dim()?),
            rms_norm_eps: file.float("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-5),
            rope: file.rope()?.into(),
            hidden_act: Activation::Silu,
            max_position_embeddings: file.size("context_length")?,
            vocab_size: file.vocab_size(),
            tie_word_embeddings: file.is_tied(),
            attention_bias: false,
            mlp_bias: false,
            sliding_window: file.sliding_window()?,
            rotate_pairs: true,
            bias_if_present: true,
        })
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn context(&self) -> usize {
        self.rope.parameters(THETA).context(self.max_position_embeddings)
    }

    fn load(&self, loader: Loader, path: &Path) -> Result<Box<dyn CausalLm>, Error> {
        Ok(Box::new(Llama::load(loader, self, path)?))
    }
}

/// `LlamaAttention`: grouped-query attention with rotary positions.
pub(crate) struct LlamaAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    attention: Attention,
    rotate_pairs: bool,
}

impl LlamaAttention {
    pub(crate) fn load(loader: &mut Loader, name: &str, config: &LlamaConfig) -> Result<Self, Error> {
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
    pub(crate) fn forward(
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

/// `LlamaDecoderLayer`.
struct LlamaDecoderLayer {
    input_layernorm: RmsNorm,
    self_attn: LlamaAttention,
    post_attention_layernorm: RmsNorm,
    mlp: GatedMlp,
}

impl LlamaDecoderLayer {
    fn load(loader: &mut Loader, name: &str, config: &LlamaConfig) -> Result<Self, Error> {
        let (hidden, eps) = (config.hidden_size, config.rms_norm_eps);
        let (sizes, bias) = ([hidden, config.intermediate_size], config.bias(config.mlp_bias));
        Ok(Self {
            input_layernorm: loader.rms_norm(&format!("{name}.input_layernorm"), hidden, eps)?,
            self_attn: LlamaAttention::load(loader, &format!("{name}.self_attn"), config)?,
            post_attention_layernorm: loader.rms_norm(&format!("{name}.post_attention_layernorm"), hidden, eps)?,
            mlp: GatedMlp::load(loader, &format!("{name}.mlp"), sizes, config.hidden_act, bias)?,
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

impl Llama {
    /// `path` is what errors call the configuration.
    pub(crate) fn load(mut loader: Loader, config: &LlamaConfig, path: &Path) -> Result<Self, Error> {
        let model = Self::take(&mut loader, config, path)?;
        // Old exports hold the rotary frequencies; tied ones may hold the shared table twice.
        let twice: &[&str] = if config.tie_word_embeddings { &["lm_head.weight"] } else { &[] };
        loader.finish(&[&["*.rotary_emb.inv_freq", "rope_factors_*.weight"], twice].concat())?;
        Ok(model)
    }

    fn take(loader: &mut Loader, config: &LlamaConfig, path: &Path) -> Result<Self, Error> {
        config.validate(path)?;
        let mut rotary = config.rotary(loader, path)?;
        let halves = LlamaConfig { rotate_pairs: false, ..config.clone() };
        let config = if config.rotate_pairs && loader.compute().adapts() {
            config.unpair(loader)?;
            rotary.pairs = false;
            &halves
        } else {
            config
        };
        let embed_tokens = loader.embedding("model.embed_tokens", config.vocab_size, config.hidden_size)?;
        let layers = (0..config.num_hidden_layers)
            .map(|i| LlamaDecoderLayer::load(loader, &format!("model.layers.{i}"), config))
            .collect::<Result<_, _>>()?;
        let norm = loader.rms_norm("model.norm", config.hidden_size, config.rms_norm_eps)?;
        let lm_head = if config.tie_word_embeddings {
            loader.tied("lm_head", &embed_tokens, [config.vocab_size, config.hidden_size])?
        } else {
            loader.linear("lm_head", config.vocab_size, config.hidden_size, Bias::Absent)?
        };
        let heads = config.heads();
        let page_bytes = loader.page_bytes(config.num_hidden_layers, heads);
        Ok(Self { embed_tokens, layers, norm, lm_head, rotary, page_bytes })
    }
}

impl CausalLm for Llama {
    fn hidden(&self, compute: &Compute, step: &mut Step<'_>) -> Option<Tensor<2>> {
        step.renew(&self.rotary, self, compute);
        let run = step.run(compute);
        let angles = step.angles(&self.rotary);
        let angles: Vec<&[f32]> = angles.iter().map(Vec::as_slice).collect();
        let x = self.embed_tokens.forward(run, step.indices());
        let x = step.through(&self.layers, x, |layer, x, sequences, caches| {
            layer.forward(run, x, &angles, sequences, caches)
        })?;
        Some(self.norm.forward(run, x))
    }

    fn logits(&self, run: Run<'_>, hidden: Tensor<2>) -> Tensor<2> {
        self.lm_head.forward(run, hidden)
    }

    fn layers(&self) -> usize {
        self.layers.len()
    }

    fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    fn is_causal_by_token(&self) -> bool {
        !self.rotary.depends_on_length()
    }
}
