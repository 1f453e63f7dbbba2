//! Gemma 3 (text): Gemma 2 without the caps, with normalised queries and keys, and one layer in six that sees all positions and rotates
//! more slowly.
//!
//! Paper: Gemma Team 2025 (<https://arxiv.org/abs/2503.19786>). Reference: HF `modeling_gemma3.py` (transformers 5), llama.cpp's
//! `gemma3` GGUF layout. Checked against: tiny random checkpoints.
//!
//! Deliberate differences: no dropout; no pictures; keys that left the window stay in memory (they are not attended to).

use std::path::Path;

use burn::Tensor;
use serde::Deserialize;

use super::decoder::{LayerType, Sizes, layer_types, wrong};
use super::family::Configuration;
use super::gemma2::{GEMMA_NAMES, query_scalar};
use super::gguf::Gguf;
use super::{CausalLm, Step};
use crate::error::Error;
use crate::kernels::attention::Heads;
use crate::layers::{
    Activation, Attention, Bias, Compute, Embedding, GatedMlp, LayerCache, Linear, Loader, RmsNorm, RopeParameters,
    Rotary, Run, Sequence, activation::soft_cap, attention::rotate, norm::add, project,
};

/// Bases of the rotation where a file names none: of the layers that see all positions, and of the others.
const THETA: f64 = 1_000_000.0;
const LOCAL_THETA: f64 = 10_000.0;

/// `rope_parameters`: one set a type of layer.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RopeByLayer {
    full_attention: Option<RopeParameters>,
    sliding_attention: Option<RopeParameters>,
}

/// `config.json` of `Gemma3ForCausalLM`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(crate) struct Gemma3Config {
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
    rope_parameters: Option<RopeByLayer>,
    /// The older spelling: scaling and base of the layers that see all positions, and the base of the others.
    rope_scaling: Option<RopeParameters>,
    rope_theta: Option<f64>,
    rope_local_base_freq: Option<f64>,
    attention_bias: bool,
    /// Scores are divided by its root.
    query_pre_attn_scalar: f64,
    sliding_window: Option<usize>,
    layer_types: Option<Vec<LayerType>>,
    /// The older spelling: one layer in as many sees all positions.
    sliding_window_pattern: usize,
    final_logit_softcapping: Option<f64>,
    attn_logit_softcapping: Option<f64>,
    use_bidirectional_attention: Option<bool>,
    /// Whether norms are stored as differences from 1, as in Hugging Face's files; GGUF's have the 1 added.
    #[serde(skip)]
    norm_offset: f32,
}

impl Default for Gemma3Config {
    fn default() -> Self {
        Self {
            vocab_size: 262_208,
            hidden_size: 2304,
            intermediate_size: 9216,
            num_hidden_layers: 26,
            num_attention_heads: 8,
            num_key_value_heads: 4,
            head_dim: 256,
            hidden_activation: Activation::GeluTanh,
            max_position_embeddings: 131_072,
            rms_norm_eps: 1e-6,
            tie_word_embeddings: true,
            rope_parameters: None,
            rope_scaling: None,
            rope_theta: None,
            rope_local_base_freq: None,
            attention_bias: false,
            query_pre_attn_scalar: 256.0,
            sliding_window: Some(4096),
            layer_types: None,
            sliding_window_pattern: 6,
            final_logit_softcapping: None,
            attn_logit_softcapping: None,
            use_bidirectional_attention: Some(false),
            norm_offset: 1.0,
        }
    }
}

impl Gemma3Config {
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
        ] {
            if value.is_some_and(|value| !(value.is_finite() && value > 0.0)) {
                return wrong(path, format!("{name} is {value:?}, not a positive number"));
            }
        }
        if self.sliding_window_pattern == 0 {
            return wrong(path, "sliding_window_pattern is 0".into());
        }
        if self.attn_logit_softcapping.is_some() {
            return wrong(path, "attn_logit_softcapping: the original reads it and does not use it".into());
        }
        if self.use_bidirectional_attention == Some(true) {
            return wrong(path, "use_bidirectional_attention is true: an encoder, no language model".into());
        }
        Ok(())
    }

    /// The type of each layer: by default one in six sees all positions, the last of them.
    fn layer_types(&self, path: &Path) -> Result<Vec<LayerType>, Error> {
        let rule = |i: usize| !(i + 1).is_multiple_of(self.sliding_window_pattern);
        layer_types(self.layer_types.as_deref(), self.num_hidden_layers, rule, path)
    }

    /// The rope parameters of a type of layer, in either spelling.
    fn rope(&self, layer: LayerType) -> RopeParameters {
        let given = self.rope_parameters.clone().unwrap_or_default();
        let (given, theta) = match layer {
            LayerType::Full => (self.rope_scaling.clone().or(given.full_attention), self.rope_theta.unwrap_or(THETA)),
            LayerType::Sliding => (given.sliding_attention, self.rope_local_base_freq.unwrap_or(LOCAL_THETA)),
        };
        let mut rope = given.unwrap_or_default();
        rope.rope_theta = rope.rope_theta.or(Some(theta));
        rope
    }

    fn rotary(&self, layer: LayerType, path: &Path) -> Result<Rotary, Error> {
        Rotary::new(&self.rope(layer), self.head_dim, THETA, self.max_position_embeddings as f64)
            .map_err(|source| Error::Rope { path: path.to_path_buf(), source })
    }

    fn norm(&self, loader: &mut Loader, name: &str, len: usize) -> Result<RmsNorm, Error> {
        loader.rms_norm_from(name, len, self.rms_norm_eps, self.norm_offset)
    }
}

impl Configuration for Gemma3Config {
    const GGUF_NAMES: &'static [(&'static str, &'static str)] = GEMMA_NAMES;

    fn from_gguf(file: &Gguf<'_>) -> Result<Self, Error> {
        let (layers, window, rope) = (file.size("block_count")?, file.sliding_window()?, file.rope()?);
        let local = RopeParameters {
            rope_theta: Some(file.float("rope.freq_base_swa")?.unwrap_or(LOCAL_THETA)),
            ..RopeParameters::default()
        };
        Ok(Self {
            vocab_size: file.vocab_size(),
            hidden_size: file.size("embedding_length")?,
            intermediate_size: file.size("feed_forward_length")?,
            num_hidden_layers: layers,
            num_attention_heads: file.size("attention.head_count")?,
            num_key_value_heads: file.size("attention.head_count_kv")?,
            head_dim: file.head_dim()?,
            max_position_embeddings: file.size("context_length")?,
            rms_norm_eps: file.float("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-6),
            tie_word_embeddings: file.is_tied(),
            rope_parameters: Some(RopeByLayer { full_attention: Some(rope), sliding_attention: Some(local) }),
            query_pre_attn_scalar: query_scalar(file, layers == 62)?,
            sliding_window: window,
            layer_types: Some(match window {
                Some(_) => file.layer_types(layers, 6)?,
                None => vec![LayerType::Full; layers.min(1 << 10)],
            }),
            final_logit_softcapping: file.float("final_logit_softcapping")?.filter(|cap| *cap != 0.0),
            norm_offset: 0.0,
            ..Self::default()
        })
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn context(&self) -> usize {
        self.rope(LayerType::Full).context(self.max_position_embeddings)
    }

    fn load(&self, mut loader: Loader, path: &Path) -> Result<Box<dyn CausalLm>, Error> {
        let model = Gemma3::take(&mut loader, self, path)?;
        let twice: &[&str] = if self.tie_word_embeddings { &["lm_head.weight"] } else { &[] };
        loader.finish(&[&["*.rotary_emb.inv_freq"], twice].concat())?;
        Ok(Box::new(model))
    }
}

/// `Gemma3Attention`.
struct Gemma3Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    q_norm: RmsNorm,
    k_norm: RmsNorm,
    attention: Attention,
}

impl Gemma3Attention {
    fn load(loader: &mut Loader, name: &str, config: &Gemma3Config, attention: Attention) -> Result<Self, Error> {
        let (hidden, heads) = (config.hidden_size, attention.heads);
        let (queries, keys) = (heads.queries * heads.dim, heads.keys * heads.dim);
        let bias = if config.attention_bias { Bias::Present } else { Bias::Absent };
        Ok(Self {
            q_proj: loader.linear(&format!("{name}.q_proj"), queries, hidden, bias)?,
            k_proj: loader.linear(&format!("{name}.k_proj"), keys, hidden, bias)?,
            v_proj: loader.linear(&format!("{name}.v_proj"), keys, hidden, bias)?,
            o_proj: loader.linear(&format!("{name}.o_proj"), hidden, queries, bias)?,
            q_norm: config.norm(loader, &format!("{name}.q_norm"), heads.dim)?,
            k_norm: config.norm(loader, &format!("{name}.k_norm"), heads.dim)?,
            attention,
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

/// `Gemma3DecoderLayer`.
struct Gemma3DecoderLayer {
    kind: LayerType,
    input_layernorm: RmsNorm,
    self_attn: Gemma3Attention,
    post_attention_layernorm: RmsNorm,
    pre_feedforward_layernorm: RmsNorm,
    mlp: GatedMlp,
    post_feedforward_layernorm: RmsNorm,
}

impl Gemma3DecoderLayer {
    fn load(
        loader: &mut Loader,
        name: &str,
        config: &Gemma3Config,
        kind: LayerType,
        path: &Path,
    ) -> Result<Self, Error> {
        let (hidden, activation) = (config.hidden_size, config.hidden_activation);
        let sizes = [hidden, config.intermediate_size];
        let attention = Attention { heads: config.heads(), mask: kind.mask(config.sliding_window, path)? };
        let norm = |loader: &mut Loader, part: &str| config.norm(loader, &format!("{name}.{part}"), hidden);
        Ok(Self {
            kind,
            input_layernorm: norm(loader, "input_layernorm")?,
            self_attn: Gemma3Attention::load(loader, &format!("{name}.self_attn"), config, attention)?,
            post_attention_layernorm: norm(loader, "post_attention_layernorm")?,
            pre_feedforward_layernorm: norm(loader, "pre_feedforward_layernorm")?,
            mlp: GatedMlp::load(loader, &format!("{name}.mlp"), sizes, activation, Bias::Absent)?,
            post_feedforward_layernorm: norm(loader, "post_feedforward_layernorm")?,
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

/// `Gemma3ForCausalLM`.
struct Gemma3 {
    embed_tokens: Embedding,
    /// What embeddings are multiplied by.
    embed_scale: f32,
    layers: Vec<Gemma3DecoderLayer>,
    norm: RmsNorm,
    lm_head: Linear,
    cap: Option<f32>,
    rotary: Rotary,
    local_rotary: Rotary,
    page_bytes: usize,
}

impl Gemma3 {
    fn take(loader: &mut Loader, config: &Gemma3Config, path: &Path) -> Result<Self, Error> {
        config.validate(path)?;
        let (rotary, local_rotary) = (config.rotary(LayerType::Full, path)?, config.rotary(LayerType::Sliding, path)?);
        let embed_tokens = loader.embedding("model.embed_tokens", config.vocab_size, config.hidden_size)?;
        let kinds = config.layer_types(path)?.into_iter().enumerate();
        let layers = kinds
            .map(|(i, kind)| Gemma3DecoderLayer::load(loader, &format!("model.layers.{i}"), config, kind, path))
            .collect::<Result<Vec<_>, _>>()?;
        let norm = config.norm(loader, "model.norm", config.hidden_size)?;
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
            local_rotary,
            page_bytes: loader.page_bytes(layers.len(), config.heads()),
            layers,
        })
    }
}

impl CausalLm for Gemma3 {
    fn hidden(&self, compute: &Compute, step: &mut Step<'_>) -> Option<Tensor<2>> {
        step.renew(&self.rotary, self, compute);
        let run = step.run(compute);
        let (full, local) = (step.angles(&self.rotary), step.angles(&self.local_rotary));
        let full: Vec<&[f32]> = full.iter().map(Vec::as_slice).collect();
        let local: Vec<&[f32]> = local.iter().map(Vec::as_slice).collect();
        let x = self.embed_tokens.forward(run, step.indices()) * self.embed_scale;
        let x = step.through(&self.layers, x, |layer, x, sequences, caches| {
            let angles = if layer.kind == LayerType::Full { &full } else { &local };
            layer.forward(run, x, angles, sequences, caches)
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
        !self.rotary.depends_on_length() && !self.local_rotary.depends_on_length()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Gemma3Config {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn one_layer_in_six_sees_everything_unless_the_file_says_otherwise() {
        let types = |json: &str| read(json).layer_types(Path::new("")).unwrap();
        let (full, sliding) = (LayerType::Full, LayerType::Sliding);
        assert_eq!(types(r#"{"num_hidden_layers": 7}"#), [&[sliding; 5][..], &[full, sliding]].concat());
        let two = types(r#"{"num_hidden_layers": 3, "sliding_window_pattern": 2}"#);
        assert_eq!(two, [sliding, full, sliding]);
        let given = types(r#"{"num_hidden_layers": 2, "layer_types": ["full_attention", "sliding_attention"]}"#);
        assert_eq!(given, [full, sliding]);
    }

    #[test]
    fn rope_is_read_in_both_spellings() {
        let check = |json: &str, full: (f64, Option<f64>), local: f64| {
            let config = read(json);
            let rope = config.rope(LayerType::Full);
            assert_eq!((rope.rope_theta.unwrap(), rope.factor), full, "{json}");
            let rope = config.rope(LayerType::Sliding);
            assert_eq!((rope.rope_theta.unwrap(), rope.kind()), (local, "default"), "{json}");
        };
        check("{}", (1e6, None), 1e4);
        let old = r#"{"rope_theta": 5e5, "rope_local_base_freq": 7e3, "rope_scaling": {"rope_type": "linear", "factor": 4.0}}"#;
        check(old, (5e5, Some(4.0)), 7e3);
        let new = r#"{"rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 3e5},
            "sliding_attention": {"rope_type": "default", "rope_theta": 2e3}}}"#;
        check(new, (3e5, Some(8.0)), 2e3);
        check(r#"{"rope_parameters": {"full_attention": null}, "rope_theta": 9e5}"#, (9e5, None), 1e4);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        for json in [
            r#"{"use_bidirectional_attention": true}"#,
            r#"{"sliding_window_pattern": 0}"#,
            r#"{"attn_logit_softcapping": 50.0}"#,
        ] {
            assert!(read(json).validate(Path::new("")).is_err(), "{json}");
        }
        read("{}").validate(Path::new("")).unwrap();
    }
}
