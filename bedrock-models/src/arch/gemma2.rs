//! Gemma 2: norms before and after each part, capped scores and logits, a window in every other layer.
//!
//! Paper: Gemma Team 2024 (<https://arxiv.org/abs/2408.00118>). Reference: HF `modeling_gemma2.py` (transformers 4.44 and 5),
//! llama.cpp's `gemma2` GGUF layout. Checked against: tiny random checkpoints.
//!
//! Deliberate differences: no dropout; keys that left the window stay in memory (they are not attended to).

use std::path::Path;

use burn::Tensor;
use serde::Deserialize;

use super::decoder::{LayerType, Sizes, layer_types, wrong};
use super::family::Configuration;
use super::gguf::Gguf;
use super::{CausalLm, Step};
use crate::error::Error;
use crate::kernels::attention::{Heads, Mask};
use crate::layers::{
    Activation, Attention, Bias, Compute, Embedding, GatedMlp, LayerCache, Linear, Loader, RmsNorm, RopeFields, Rotary,
    Run, Sequence, activation::soft_cap, attention::rotate, norm::add, project,
};

/// The base of the rotation where a file names none.
const THETA: f64 = 10_000.0;

/// `config.json` of `Gemma2ForCausalLM`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(crate) struct Gemma2Config {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    head_dim: usize,
    hidden_activation: Activation,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    tie_word_embeddings: bool,
    #[serde(flatten)]
    rope: RopeFields,
    attention_bias: bool,
    /// Scores are divided by its root.
    query_pre_attn_scalar: f64,
    sliding_window: Option<usize>,
    layer_types: Option<Vec<LayerType>>,
    final_logit_softcapping: Option<f64>,
    attn_logit_softcapping: Option<f64>,
    use_bidirectional_attention: Option<bool>,
    /// Whether norms are stored as differences from 1, as in Hugging Face's files; GGUF's have the 1 added.
    #[serde(skip)]
    norm_offset: f32,
}

impl Default for Gemma2Config {
    fn default() -> Self {
        Self {
            vocab_size: 256_000,
            hidden_size: 2304,
            intermediate_size: 9216,
            num_hidden_layers: 26,
            num_attention_heads: 8,
            num_key_value_heads: 4,
            head_dim: 256,
            hidden_activation: Activation::GeluTanh,
            max_position_embeddings: 8192,
            rms_norm_eps: 1e-6,
            tie_word_embeddings: true,
            rope: RopeFields::default(),
            attention_bias: false,
            query_pre_attn_scalar: 256.0,
            sliding_window: Some(4096),
            layer_types: None,
            final_logit_softcapping: Some(30.0),
            attn_logit_softcapping: Some(50.0),
            use_bidirectional_attention: None,
            norm_offset: 1.0,
        }
    }
}

impl Gemma2Config {
    fn sizes(&self) -> Sizes {
        Sizes {
            hidden: self.hidden_size,
            inner: self.intermediate_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            key_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
            vocabulary: self.vocab_size,
            positions: self.max_position_embeddings,
            window: self.sliding_window,
            eps: self.rms_norm_eps,
        }
    }

    fn heads(&self) -> Heads {
        Heads { scale: 1.0 / self.query_pre_attn_scalar.sqrt() as f32, ..self.sizes().attention_heads() }
    }

    fn validate(&self, path: &Path) -> Result<(), Error> {
        self.sizes().check(path)?;
        for (name, value) in [
            ("query_pre_attn_scalar", Some(self.query_pre_attn_scalar)),
            ("final_logit_softcapping", self.final_logit_softcapping),
            ("attn_logit_softcapping", self.attn_logit_softcapping),
        ] {
            if value.is_some_and(|value| !(value.is_finite() && value > 0.0)) {
                return wrong(path, format!("{name} is {value:?}, not a positive number"));
            }
        }
        if self.use_bidirectional_attention == Some(true) {
            return wrong(path, "use_bidirectional_attention is true: an encoder, no language model".into());
        }
        Ok(())
    }

    /// What each layer's queries see: by default a window in the first layer and every other one after it.
    fn masks(&self, path: &Path) -> Result<Vec<Mask>, Error> {
        let types = layer_types(self.layer_types.as_deref(), self.num_hidden_layers, |i| i % 2 == 0, path)?;
        types.into_iter().map(|layer| layer.mask(self.sliding_window, path)).collect()
    }

    fn norm(&self, loader: &mut Loader, name: &str) -> Result<RmsNorm, Error> {
        loader.rms_norm_from(name, self.hidden_size, self.rms_norm_eps, self.norm_offset)
    }
}

impl Configuration for Gemma2Config {
    const GGUF_NAMES: &'static [(&'static str, &'static str)] = GEMMA_NAMES;

    fn from_gguf(file: &Gguf<'_>) -> Result<Self, Error> {
        let (layers, head_dim) = (file.size("block_count")?, file.head_dim()?);
        Ok(Self {
            vocab_size: file.vocab_size(),
            hidden_size: file.size("embedding_length")?,
            intermediate_size: file.size("feed_forward_length")?,
            num_hidden_layers: layers,
            num_attention_heads: file.size("attention.head_count")?,
            num_key_value_heads: file.size("attention.head_count_kv")?,
            head_dim,
            max_position_embeddings: file.size("context_length")?,
            rms_norm_eps: file.float("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-6),
            tie_word_embeddings: true,
            rope: file.rope()?.into(),
            query_pre_attn_scalar: query_scalar(file, layers == 46)?,
            sliding_window: Some(file.sliding_window()?.unwrap_or(4096)),
            layer_types: Some(file.layer_types(layers, 2)?),
            final_logit_softcapping: Some(file.float("final_logit_softcapping")?.unwrap_or(30.0)),
            attn_logit_softcapping: Some(file.float("attn_logit_softcapping")?.unwrap_or(50.0)),
            norm_offset: 0.0,
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
        let model = Gemma2::take(&mut loader, self, path)?;
        let twice: &[&str] = if self.tie_word_embeddings { &["lm_head.weight"] } else { &[] };
        loader.finish(&[&["*.rotary_emb.inv_freq"], twice].concat())?;
        Ok(Box::new(model))
    }
}

/// Names of the tensors of Gemma 2 and 3: the module's and GGUF's.
pub(super) const GEMMA_NAMES: &[(&str, &str)] = &[
    ("model.embed_tokens", "token_embd"),
    ("model.norm", "output_norm"),
    ("lm_head", "output"),
    ("model.layers", "blk"),
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("post_attention_layernorm", "post_attention_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// `query_pre_attn_scalar`, which GGUF leaves out: the size of a head, but for the largest model that of the hidden state divided by
/// the heads. `attention.scale`, where a file has it, is the factor itself.
pub(super) fn query_scalar(file: &Gguf<'_>, is_largest: bool) -> Result<f64, Error> {
    if let Some(scale) = file.float("attention.scale")? {
        return Ok(scale.powi(-2));
    }
    let (hidden, heads) = (file.size("embedding_length")?, file.size("attention.head_count")?);
    Ok(if is_largest { hidden / heads.max(1) } else { file.head_dim()? } as f64)
}

/// `Gemma2Attention`.
struct Gemma2Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    attention: Attention,
    cap: Option<f32>,
}

impl Gemma2Attention {
    fn load(loader: &mut Loader, name: &str, config: &Gemma2Config, mask: Mask) -> Result<Self, Error> {
        let (hidden, heads) = (config.hidden_size, config.heads());
        let (queries, keys) = (heads.queries * heads.dim, heads.keys * heads.dim);
        let bias = if config.attention_bias { Bias::Present } else { Bias::Absent };
        Ok(Self {
            q_proj: loader.linear(&format!("{name}.q_proj"), queries, hidden, bias)?,
            k_proj: loader.linear(&format!("{name}.k_proj"), keys, hidden, bias)?,
            v_proj: loader.linear(&format!("{name}.v_proj"), keys, hidden, bias)?,
            o_proj: loader.linear(&format!("{name}.o_proj"), hidden, queries, bias)?,
            attention: Attention { heads, mask },
            cap: config.attn_logit_softcapping.map(|cap| cap as f32),
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
        let (q, k) = (rotate(run, q, dim, angles, false), rotate(run, k, dim, angles, false));
        let x = self.attention.forward_capped(run, [q, k, v], self.cap, sequences, caches);
        self.o_proj.forward(run, x)
    }
}

/// `Gemma2DecoderLayer`.
struct Gemma2DecoderLayer {
    input_layernorm: RmsNorm,
    self_attn: Gemma2Attention,
    post_attention_layernorm: RmsNorm,
    pre_feedforward_layernorm: RmsNorm,
    mlp: GatedMlp,
    post_feedforward_layernorm: RmsNorm,
}

impl Gemma2DecoderLayer {
    fn load(loader: &mut Loader, name: &str, config: &Gemma2Config, mask: Mask) -> Result<Self, Error> {
        let (sizes, activation) = ([config.hidden_size, config.intermediate_size], config.hidden_activation);
        Ok(Self {
            input_layernorm: config.norm(loader, &format!("{name}.input_layernorm"))?,
            self_attn: Gemma2Attention::load(loader, &format!("{name}.self_attn"), config, mask)?,
            post_attention_layernorm: config.norm(loader, &format!("{name}.post_attention_layernorm"))?,
            pre_feedforward_layernorm: config.norm(loader, &format!("{name}.pre_feedforward_layernorm"))?,
            mlp: GatedMlp::load(loader, &format!("{name}.mlp"), sizes, activation, Bias::Absent)?,
            post_feedforward_layernorm: config.norm(loader, &format!("{name}.post_feedforward_layernorm"))?,
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
        let h = self.self_attn.forward(run, h, angles, sequences, caches);
        let x = add(run, self.post_attention_layernorm.forward(run, h), x);
        let h = self.pre_feedforward_layernorm.forward(run, x.clone());
        let h = self.mlp.forward(run, h);
        add(run, self.post_feedforward_layernorm.forward(run, h), x)
    }
}

/// `Gemma2ForCausalLM`.
struct Gemma2 {
    embed_tokens: Embedding,
    /// What embeddings are multiplied by.
    embed_scale: f32,
    layers: Vec<Gemma2DecoderLayer>,
    norm: RmsNorm,
    lm_head: Linear,
    cap: Option<f32>,
    rotary: Rotary,
    page_bytes: usize,
}

impl Gemma2 {
    fn take(loader: &mut Loader, config: &Gemma2Config, path: &Path) -> Result<Self, Error> {
        config.validate(path)?;
        let max = config.max_position_embeddings as f64;
        let rotary = Rotary::new(&config.rope.parameters(THETA), config.head_dim, THETA, max)
            .map_err(|source| Error::Rope { path: path.to_path_buf(), source })?;
        let embed_tokens = loader.embedding("model.embed_tokens", config.vocab_size, config.hidden_size)?;
        let masks = config.masks(path)?.into_iter().enumerate();
        let layers = masks
            .map(|(i, mask)| Gemma2DecoderLayer::load(loader, &format!("model.layers.{i}"), config, mask))
            .collect::<Result<Vec<_>, _>>()?;
        let norm = config.norm(loader, "model.norm")?;
        let lm_head = if config.tie_word_embeddings {
            loader.tied("lm_head", &embed_tokens, [config.vocab_size, config.hidden_size])?
        } else {
            loader.linear("lm_head", config.vocab_size, config.hidden_size, Bias::Absent)?
        };
        Ok(Self {
            embed_tokens,
            embed_scale: (config.hidden_size as f64).sqrt() as f32,
            norm,
            lm_head,
            cap: config.final_logit_softcapping.map(|cap| cap as f32),
            rotary,
            page_bytes: loader.page_bytes(layers.len(), config.heads()),
            layers,
        })
    }
}

impl CausalLm for Gemma2 {
    fn hidden(&self, compute: &Compute, step: &mut Step<'_>) -> Option<Tensor<2>> {
        step.renew(&self.rotary, self, compute);
        let run = step.run(compute);
        let angles = step.angles(&self.rotary);
        let angles: Vec<&[f32]> = angles.iter().map(Vec::as_slice).collect();
        let x = self.embed_tokens.forward(run, step.indices()) * self.embed_scale;
        let x = step.through(&self.layers, x, |layer, x, sequences, caches| {
            layer.forward(run, x, &angles, sequences, caches)
        })?;
        Some(self.norm.forward(run, x))
    }

    fn logits(&self, run: Run<'_>, hidden: Tensor<2>) -> Tensor<2> {
        let logits = self.lm_head.forward(run, hidden);
        match self.cap {
            Some(cap) => soft_cap(run, logits, cap),
            None => logits,
        }
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
    fn what_is_absent_is_as_in_the_class_and_null_is_not_absent() {
        let read = |json| serde_json::from_str::<Gemma2Config>(json).unwrap();
        let config = read(r#"{"num_hidden_layers": 3, "sliding_window": 5}"#);
        let (full, sliding) = (Mask::Causal { window: None }, Mask::Causal { window: Some(5) });
        assert_eq!(config.masks(Path::new("")).unwrap(), [sliding, full, sliding]);
        assert_eq!((config.attn_logit_softcapping, config.final_logit_softcapping), (Some(50.0), Some(30.0)));
        assert_eq!((config.heads().scale, config.norm_offset, config.tie_word_embeddings), (1.0 / 16.0, 1.0, true));
        let config = read(r#"{"attn_logit_softcapping": null, "final_logit_softcapping": null}"#);
        assert_eq!((config.attn_logit_softcapping, config.final_logit_softcapping), (None, None));
        config.validate(Path::new("")).unwrap();
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        for json in [
            r#"{"use_bidirectional_attention": true}"#,
            r#"{"query_pre_attn_scalar": 0}"#,
            r#"{"attn_logit_softcapping": -1.0}"#,
            r#"{"num_key_value_heads": 3}"#,
        ] {
            assert!(serde_json::from_str::<Gemma2Config>(json).unwrap().validate(Path::new("")).is_err(), "{json}");
        }
        assert!(serde_json::from_str::<Gemma2Config>(r#"{"hidden_activation": "spiral"}"#).is_err());
    }
}
