//! Qwen3 (dense): Llama with normalised queries and keys, heads of a size of their own, and a window in the later layers if asked for.
//!
//! Paper: Yang et al. 2025 (<https://arxiv.org/abs/2505.09388>). Reference: HF `modeling_qwen3.py` (transformers 5), llama.cpp's
//! `qwen3` GGUF layout. Checked against: tiny random checkpoints.
//!
//! Deliberate differences: no dropout.

use std::path::Path;

use burn::Tensor;
use serde::Deserialize;

use super::decoder::{LayerType, Sizes, layer_types};
use super::family::Configuration;
use super::gguf::{DECODER_NAMES, Gguf};
use super::{CausalLm, Step};
use crate::error::Error;
use crate::kernels::attention::Mask;
use crate::layers::{
    Activation, Attention, Bias, Compute, Embedding, GatedMlp, LayerCache, Linear, Loader, RmsNorm, RopeFields, Rotary,
    Run, Sequence, attention::rotate, norm::add, project,
};

/// The base of the rotation where a file names none.
const THETA: f64 = 10_000.0;

/// `config.json` of `Qwen3ForCausalLM`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(crate) struct Qwen3Config {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    hidden_act: Activation,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    tie_word_embeddings: bool,
    #[serde(flatten)]
    rope: RopeFields,
    attention_bias: bool,
    use_sliding_window: bool,
    sliding_window: Option<usize>,
    /// The first layer that has a window.
    max_window_layers: usize,
    layer_types: Option<Vec<LayerType>>,
}

impl Default for Qwen3Config {
    fn default() -> Self {
        Self {
            vocab_size: 151_936,
            hidden_size: 4096,
            intermediate_size: 22_016,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: Some(32),
            head_dim: Some(128),
            hidden_act: Activation::Silu,
            max_position_embeddings: 32_768,
            rms_norm_eps: 1e-6,
            tie_word_embeddings: false,
            rope: RopeFields::default(),
            attention_bias: false,
            use_sliding_window: false,
            sliding_window: Some(4096),
            max_window_layers: 28,
            layer_types: None,
        }
    }
}

impl Qwen3Config {
    fn sizes(&self) -> Sizes {
        Sizes {
            hidden: self.hidden_size,
            inner: self.intermediate_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            key_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
            head_dim: self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1)),
            vocabulary: self.vocab_size,
            positions: self.max_position_embeddings,
            window: self.window(),
            eps: self.rms_norm_eps,
        }
    }

    /// The window of sliding layers. Files name one that is not to be used.
    fn window(&self) -> Option<usize> {
        self.sliding_window.filter(|_| self.use_sliding_window)
    }

    /// What each layer's queries see.
    fn masks(&self, path: &Path) -> Result<Vec<Mask>, Error> {
        let window = self.window();
        let rule = |layer| window.is_some() && layer >= self.max_window_layers;
        let types = layer_types(self.layer_types.as_deref(), self.num_hidden_layers, rule, path)?;
        types.into_iter().map(|layer| layer.mask(window, path)).collect()
    }
}

impl Configuration for Qwen3Config {
    const GGUF_NAMES: &'static [(&'static str, &'static str)] = DECODER_NAMES;

    fn from_gguf(file: &Gguf<'_>) -> Result<Self, Error> {
        Ok(Self {
            vocab_size: file.vocab_size(),
            hidden_size: file.size("embedding_length")?,
            intermediate_size: file.size("feed_forward_length")?,
            num_hidden_layers: file.size("block_count")?,
            num_attention_heads: file.size("attention.head_count")?,
            num_key_value_heads: file.optional_size("attention.head_count_kv")?,
            head_dim: Some(file.head_dim()?),
            max_position_embeddings: file.size("context_length")?,
            rms_norm_eps: file.float("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-6),
            tie_word_embeddings: file.is_tied(),
            rope: file.rope()?.into(),
            ..Self::default()
        })
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn context(&self) -> usize {
        self.rope.parameters(THETA).context(self.max_position_embeddings)
    }

    fn load(&self, mut loader: Loader, path: &Path) -> Result<Box<dyn CausalLm>, Error> {
        let model = Qwen3::take(&mut loader, self, path)?;
        let twice: &[&str] = if self.tie_word_embeddings { &["lm_head.weight"] } else { &[] };
        loader.finish(&[&["*.rotary_emb.inv_freq"], twice].concat())?;
        Ok(Box::new(model))
    }
}

/// `Qwen3Attention`: queries and keys are normalised head by head before they are rotated.
struct Qwen3Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    q_norm: RmsNorm,
    k_norm: RmsNorm,
    attention: Attention,
}

impl Qwen3Attention {
    fn load(loader: &mut Loader, name: &str, config: &Qwen3Config, mask: Mask) -> Result<Self, Error> {
        let (hidden, heads) = (config.hidden_size, config.sizes().attention_heads());
        let (queries, keys) = (heads.queries * heads.dim, heads.keys * heads.dim);
        let bias = if config.attention_bias { Bias::Present } else { Bias::Absent };
        let eps = config.rms_norm_eps;
        Ok(Self {
            q_proj: loader.linear(&format!("{name}.q_proj"), queries, hidden, bias)?,
            k_proj: loader.linear(&format!("{name}.k_proj"), keys, hidden, bias)?,
            v_proj: loader.linear(&format!("{name}.v_proj"), keys, hidden, bias)?,
            o_proj: loader.linear(&format!("{name}.o_proj"), hidden, queries, bias)?,
            q_norm: loader.rms_norm(&format!("{name}.q_norm"), heads.dim, eps)?,
            k_norm: loader.rms_norm(&format!("{name}.k_norm"), heads.dim, eps)?,
            attention: Attention { heads, mask },
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
        let (q, k) = (self.q_norm.forward_heads(run, q), self.k_norm.forward_heads(run, k));
        let dim = self.attention.heads.dim;
        let (q, k) = (rotate(run, q, dim, angles, false), rotate(run, k, dim, angles, false));
        let x = self.attention.forward(run, q, k, v, sequences, caches);
        self.o_proj.forward(run, x)
    }
}

/// `Qwen3DecoderLayer`.
struct Qwen3DecoderLayer {
    input_layernorm: RmsNorm,
    self_attn: Qwen3Attention,
    post_attention_layernorm: RmsNorm,
    mlp: GatedMlp,
}

impl Qwen3DecoderLayer {
    fn load(loader: &mut Loader, name: &str, config: &Qwen3Config, mask: Mask) -> Result<Self, Error> {
        let (hidden, eps) = (config.hidden_size, config.rms_norm_eps);
        let (sizes, activation) = ([hidden, config.intermediate_size], config.hidden_act);
        Ok(Self {
            input_layernorm: loader.rms_norm(&format!("{name}.input_layernorm"), hidden, eps)?,
            self_attn: Qwen3Attention::load(loader, &format!("{name}.self_attn"), config, mask)?,
            post_attention_layernorm: loader.rms_norm(&format!("{name}.post_attention_layernorm"), hidden, eps)?,
            mlp: GatedMlp::load(loader, &format!("{name}.mlp"), sizes, activation, Bias::Absent)?,
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

/// `Qwen3ForCausalLM`.
struct Qwen3 {
    embed_tokens: Embedding,
    layers: Vec<Qwen3DecoderLayer>,
    norm: RmsNorm,
    lm_head: Linear,
    rotary: Rotary,
    page_bytes: usize,
}

impl Qwen3 {
    fn take(loader: &mut Loader, config: &Qwen3Config, path: &Path) -> Result<Self, Error> {
        let sizes = config.sizes();
        sizes.check(path)?;
        let max = config.max_position_embeddings as f64;
        let rotary = Rotary::new(&config.rope.parameters(THETA), sizes.head_dim, THETA, max)
            .map_err(|source| Error::Rope { path: path.to_path_buf(), source })?;
        let embed_tokens = loader.embedding("model.embed_tokens", config.vocab_size, config.hidden_size)?;
        let masks = config.masks(path)?.into_iter().enumerate();
        let layers = masks
            .map(|(i, mask)| Qwen3DecoderLayer::load(loader, &format!("model.layers.{i}"), config, mask))
            .collect::<Result<Vec<_>, _>>()?;
        let norm = loader.rms_norm("model.norm", config.hidden_size, config.rms_norm_eps)?;
        let lm_head = if config.tie_word_embeddings {
            loader.tied("lm_head", &embed_tokens, [config.vocab_size, config.hidden_size])?
        } else {
            loader.linear("lm_head", config.vocab_size, config.hidden_size, Bias::Absent)?
        };
        let page_bytes = loader.page_bytes(layers.len(), sizes.attention_heads());
        Ok(Self { embed_tokens, layers, norm, lm_head, rotary, page_bytes })
    }
}

impl CausalLm for Qwen3 {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn masks(json: &str) -> Result<Vec<Mask>, Error> {
        serde_json::from_str::<Qwen3Config>(json).unwrap().masks(Path::new("config.json"))
    }

    #[test]
    fn a_window_is_used_only_if_asked_for_and_only_from_a_layer_on() {
        let (full, sliding) = (Mask::Causal { window: None }, Mask::Causal { window: Some(4) });
        let layers = r#""num_hidden_layers": 3, "sliding_window": 4, "max_window_layers": 1"#;
        assert_eq!(masks(&format!("{{{layers}}}")).unwrap(), [full; 3]);
        let on = format!("{layers}, \"use_sliding_window\": true");
        assert_eq!(masks(&format!("{{{on}}}")).unwrap(), [full, sliding, sliding]);
        let types = r#""layer_types": ["sliding_attention", "full_attention", "full_attention"]"#;
        assert_eq!(masks(&format!("{{{on}, {types}}}")).unwrap(), [sliding, full, full]);
        assert!(masks(&format!("{{{layers}, {types}}}")).is_err());
        assert!(masks(r#"{"num_hidden_layers": 2, "layer_types": ["full_attention"]}"#).is_err());
    }

    #[test]
    fn what_is_absent_is_as_in_the_class_and_null_is_not_absent() {
        let config: Qwen3Config = serde_json::from_str("{}").unwrap();
        assert_eq!((config.sizes().key_heads, config.sizes().head_dim), (32, 128));
        assert_eq!(config.rope.parameters(THETA).rope_theta, Some(10_000.0));
        let config: Qwen3Config =
            serde_json::from_str(r#"{"num_key_value_heads": null, "num_attention_heads": 16}"#).unwrap();
        assert_eq!((config.sizes().key_heads, config.sizes().head_dim), (16, 128));
    }
}
