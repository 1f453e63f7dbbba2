//! Command R and R+: attention and feed-forward side by side on the same norm, rotation of neighbours, logits scaled.
//!
//! Source: Cohere For AI 2024 (<https://huggingface.co/CohereForAI/c4ai-command-r-v01>). Reference: HF `modeling_cohere.py`
//! (transformers 4.44 and 5), llama.cpp's `command-r` GGUF layout. Checked against: tiny random checkpoints, with and without
//! normalised queries and keys.
//!
//! Deliberate differences: no dropout; the scale is applied before the output layer, which is the same and touches fewer values.

use std::path::Path;

use burn::Tensor;
use serde::Deserialize;

use super::decoder::{Sizes, wrong};
use super::family::Configuration;
use super::gguf::{DECODER_NAMES, Gguf};
use super::{CausalLm, Step};
use crate::error::Error;
use crate::kernels::attention::Mask;
use crate::layers::{
    Activation, Attention, Bias, Compute, Embedding, GatedMlp, LayerCache, LayerNorm, Linear, Loader, RopeFields,
    Rotary, Run, Sequence, attention::rotate, norm::add, project,
};

/// The base of the rotation where a file names none.
const THETA: f64 = 500_000.0;

/// `config.json` of `CohereForCausalLM`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(crate) struct CohereConfig {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    logit_scale: f64,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    hidden_act: Activation,
    max_position_embeddings: usize,
    layer_norm_eps: f64,
    tie_word_embeddings: bool,
    #[serde(flatten)]
    rope: RopeFields,
    attention_bias: bool,
    use_qk_norm: Option<bool>,
}

impl Default for CohereConfig {
    fn default() -> Self {
        Self {
            vocab_size: 256_000,
            hidden_size: 8192,
            intermediate_size: 22_528,
            logit_scale: 0.0625,
            num_hidden_layers: 40,
            num_attention_heads: 64,
            num_key_value_heads: None,
            head_dim: None,
            hidden_act: Activation::Silu,
            max_position_embeddings: 8192,
            layer_norm_eps: 1e-5,
            tie_word_embeddings: true,
            rope: RopeFields::default(),
            attention_bias: false,
            use_qk_norm: Some(false),
        }
    }
}

impl CohereConfig {
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
            window: None,
            eps: self.layer_norm_eps,
        }
    }
}

impl Configuration for CohereConfig {
    const GGUF_NAMES: &'static [(&'static str, &'static str)] = DECODER_NAMES;

    fn from_gguf(file: &Gguf<'_>) -> Result<Self, Error> {
        Ok(Self {
            vocab_size: file.vocab_size(),
            hidden_size: file.size("embedding_length")?,
            intermediate_size: file.size("feed_forward_length")?,
            logit_scale: file.float("logit_scale")?.filter(|scale| *scale != 0.0).unwrap_or(1.0),
            num_hidden_layers: file.size("block_count")?,
            num_attention_heads: file.size("attention.head_count")?,
            num_key_value_heads: file.optional_size("attention.head_count_kv")?,
            head_dim: Some(file.head_dim()?),
            max_position_embeddings: file.size("context_length")?,
            layer_norm_eps: file.float("attention.layer_norm_epsilon")?.unwrap_or(1e-5),
            tie_word_embeddings: file.is_tied(),
            rope: file.rope()?.into(),
            use_qk_norm: Some(file.contains("blk.0.attn_q_norm.weight")),
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
        let model = Cohere::take(&mut loader, self, path)?;
        let twice: &[&str] = if self.tie_word_embeddings { &["lm_head.weight"] } else { &[] };
        loader.finish(&[&["*.rotary_emb.inv_freq"], twice].concat())?;
        Ok(Box::new(model))
    }
}

/// `CohereAttention`.
struct CohereAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    /// Of queries and of keys.
    norms: Option<[LayerNorm; 2]>,
    attention: Attention,
}

impl CohereAttention {
    fn load(loader: &mut Loader, name: &str, config: &CohereConfig) -> Result<Self, Error> {
        let (hidden, heads, eps) = (config.hidden_size, config.sizes().attention_heads(), config.layer_norm_eps);
        let (queries, keys) = (heads.queries * heads.dim, heads.keys * heads.dim);
        let bias = if config.attention_bias { Bias::Present } else { Bias::Absent };
        let norms = match config.use_qk_norm {
            Some(true) => Some([
                loader.head_norm(&format!("{name}.q_norm"), heads.queries, heads.dim, eps)?,
                loader.head_norm(&format!("{name}.k_norm"), heads.keys, heads.dim, eps)?,
            ]),
            _ => None,
        };
        Ok(Self {
            q_proj: loader.linear(&format!("{name}.q_proj"), queries, hidden, bias)?,
            k_proj: loader.linear(&format!("{name}.k_proj"), keys, hidden, bias)?,
            v_proj: loader.linear(&format!("{name}.v_proj"), keys, hidden, bias)?,
            o_proj: loader.linear(&format!("{name}.o_proj"), hidden, queries, bias)?,
            norms,
            attention: Attention { heads, mask: Mask::Causal { window: None } },
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
        let [mut q, mut k, v] = project(run, [&self.q_proj, &self.k_proj, &self.v_proj], x);
        if let Some([q_norm, k_norm]) = &self.norms {
            (q, k) = (q_norm.forward(run, q), k_norm.forward(run, k));
        }
        let dim = self.attention.heads.dim;
        let (q, k) = (rotate(run, q, dim, angles, true), rotate(run, k, dim, angles, true));
        let x = self.attention.forward(run, q, k, v, sequences, caches);
        self.o_proj.forward(run, x)
    }
}

/// `CohereDecoderLayer`.
struct CohereDecoderLayer {
    input_layernorm: LayerNorm,
    self_attn: CohereAttention,
    mlp: GatedMlp,
}

impl CohereDecoderLayer {
    fn load(loader: &mut Loader, name: &str, config: &CohereConfig) -> Result<Self, Error> {
        let (hidden, eps) = (config.hidden_size, config.layer_norm_eps);
        let sizes = [hidden, config.intermediate_size];
        Ok(Self {
            input_layernorm: loader.layer_norm_unbiased(&format!("{name}.input_layernorm"), hidden, eps)?,
            self_attn: CohereAttention::load(loader, &format!("{name}.self_attn"), config)?,
            mlp: GatedMlp::load(loader, &format!("{name}.mlp"), sizes, config.hidden_act, Bias::Absent)?,
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
        let attended = self.self_attn.forward(run, h.clone(), angles, sequences, caches);
        add(run, add(run, attended, self.mlp.forward(run, h)), x)
    }
}

/// `CohereForCausalLM`.
struct Cohere {
    embed_tokens: Embedding,
    layers: Vec<CohereDecoderLayer>,
    norm: LayerNorm,
    lm_head: Linear,
    logit_scale: f32,
    rotary: Rotary,
    page_bytes: usize,
}

impl Cohere {
    fn take(loader: &mut Loader, config: &CohereConfig, path: &Path) -> Result<Self, Error> {
        let sizes = config.sizes();
        sizes.check(path)?;
        if !config.logit_scale.is_finite() {
            return wrong(path, format!("logit_scale is {}", config.logit_scale));
        }
        let max = config.max_position_embeddings as f64;
        let rotary = Rotary::new(&config.rope.parameters(THETA), sizes.head_dim, THETA, max)
            .map_err(|source| Error::Rope { path: path.to_path_buf(), source })?;
        let embed_tokens = loader.embedding("model.embed_tokens", config.vocab_size, config.hidden_size)?;
        let layers = (0..config.num_hidden_layers)
            .map(|i| CohereDecoderLayer::load(loader, &format!("model.layers.{i}"), config))
            .collect::<Result<Vec<_>, _>>()?;
        let norm = loader.layer_norm_unbiased("model.norm", config.hidden_size, config.layer_norm_eps)?;
        let lm_head = if config.tie_word_embeddings {
            loader.tied("lm_head", &embed_tokens, [config.vocab_size, config.hidden_size])?
        } else {
            loader.linear("lm_head", config.vocab_size, config.hidden_size, Bias::Absent)?
        };
        let page_bytes = loader.page_bytes(layers.len(), sizes.attention_heads());
        let logit_scale = config.logit_scale as f32;
        Ok(Self { embed_tokens, layers, norm, lm_head, logit_scale, rotary, page_bytes })
    }
}

impl CausalLm for Cohere {
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
        self.lm_head.forward(run, hidden * self.logit_scale)
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

    #[test]
    fn what_is_absent_is_as_in_the_class() {
        let config: CohereConfig = serde_json::from_str(r#"{"num_attention_heads": 8, "hidden_size": 32}"#).unwrap();
        assert_eq!((config.sizes().key_heads, config.sizes().head_dim), (8, 4));
        assert_eq!((config.logit_scale, config.tie_word_embeddings, config.use_qk_norm), (0.0625, true, Some(false)));
        assert_eq!(config.rope.parameters(THETA).rope_theta, Some(500_000.0));
    }
}
