//! Mixtral: Mistral with experts in place of the feed-forward part.
//!
//! Paper: Jiang et al. 2024 (<https://arxiv.org/abs/2401.04088>). Reference: HF `modeling_mixtral.py` (transformers 4.44 and 5),
//! llama.cpp's GGUF layout, which calls itself `llama` and has the experts of a layer as one tensor. Checked against: tiny random
//! checkpoints.
//!
//! Deliberate differences: no dropout and no jitter, which are for training; keys that left the window stay in memory.

use std::path::Path;

use burn::Tensor;
use serde::Deserialize;

use super::decoder::wrong;
use super::family::Configuration;
use super::gguf::Gguf;
use super::llama::{LlamaAttention, LlamaConfig};
use super::{CausalLm, Step};
use crate::error::Error;
use crate::layers::{
    Bias, Compute, Embedding, Experts, GatedMlp, LayerCache, Linear, Loader, RmsNorm, Rotary, Run, Sequence, norm::add,
};

/// The base of the rotation where a file names none.
const THETA: f64 = 1_000_000.0;

/// `config.json` of `MixtralForCausalLM`.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "File")]
pub(crate) struct MixtralConfig {
    /// All but the experts, whose size is its `intermediate_size`.
    llama: LlamaConfig,
    num_local_experts: usize,
    num_experts_per_tok: usize,
}

/// The fields whose defaults differ from Llama's, or that Llama has not.
#[derive(Deserialize)]
struct File {
    #[serde(flatten)]
    llama: LlamaConfig,
    #[serde(default = "default_key_heads")]
    num_key_value_heads: Option<usize>,
    #[serde(default = "default_positions")]
    max_position_embeddings: usize,
    #[serde(default = "default_eps")]
    rms_norm_eps: f64,
    sliding_window: Option<usize>,
    #[serde(default = "default_experts", alias = "num_experts")]
    num_local_experts: usize,
    #[serde(default = "default_chosen")]
    num_experts_per_tok: usize,
}

fn default_key_heads() -> Option<usize> {
    Some(8)
}
fn default_positions() -> usize {
    131_072
}
fn default_eps() -> f64 {
    1e-5
}
fn default_experts() -> usize {
    8
}
fn default_chosen() -> usize {
    2
}

impl From<File> for MixtralConfig {
    fn from(file: File) -> Self {
        let (num_local_experts, num_experts_per_tok) = (file.num_local_experts, file.num_experts_per_tok);
        let rope = file.llama.rope.parameters(THETA);
        let llama = LlamaConfig {
            num_key_value_heads: file.num_key_value_heads,
            max_position_embeddings: file.max_position_embeddings,
            rms_norm_eps: file.rms_norm_eps,
            sliding_window: file.sliding_window,
            attention_bias: false,
            rope: rope.into(),
            ..file.llama
        };
        Self { llama, num_local_experts, num_experts_per_tok }
    }
}

impl Configuration for MixtralConfig {
    const GGUF_NAMES: &'static [(&'static str, &'static str)] = &[
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
        ("block_sparse_moe.gate", "ffn_gate_inp"),
        ("block_sparse_moe.experts.w1", "ffn_gate_exps"),
        ("block_sparse_moe.experts.w2", "ffn_down_exps"),
        ("block_sparse_moe.experts.w3", "ffn_up_exps"),
    ];

    fn is_in(file: &Gguf<'_>) -> Result<bool, Error> {
        Ok(file.experts()? > 0)
    }

    fn from_gguf(file: &Gguf<'_>) -> Result<Self, Error> {
        Ok(Self {
            llama: LlamaConfig::from_gguf(file)?,
            num_local_experts: file.experts()?,
            num_experts_per_tok: file.size("expert_used_count")?,
        })
    }

    fn vocab_size(&self) -> usize {
        self.llama.vocab_size
    }

    fn context(&self) -> usize {
        self.llama.context()
    }

    fn load(&self, mut loader: Loader, path: &Path) -> Result<Box<dyn CausalLm>, Error> {
        let model = Mixtral::take(&mut loader, self, path)?;
        let twice: &[&str] = if self.llama.tie_word_embeddings { &["lm_head.weight"] } else { &[] };
        loader.finish(&[&["*.rotary_emb.inv_freq"], twice].concat())?;
        Ok(Box::new(model))
    }
}

/// `MixtralSparseMoeBlock`. The experts of a layer may be stored as one tensor a projection.
fn load_experts(loader: &mut Loader, name: &str, config: &MixtralConfig) -> Result<Experts, Error> {
    let (hidden, inner) = (config.llama.hidden_size, config.llama.intermediate_size);
    for (part, rows, columns) in [("w1", inner, hidden), ("w2", hidden, inner), ("w3", inner, hidden)] {
        let merged = format!("{name}.experts.{part}.weight");
        if loader.contains(&merged) {
            let parts: Vec<_> = (0..config.num_local_experts)
                .map(|expert| (format!("{name}.experts.{expert}.{part}.weight"), rows))
                .collect();
            loader.split(&merged, &parts, columns)?;
        }
    }
    let router = loader.linear(&format!("{name}.gate"), config.num_local_experts, hidden, Bias::Absent)?;
    let experts = (0..config.num_local_experts)
        .map(|expert| {
            let parts = ["w1", "w3", "w2"].map(|part| format!("{name}.experts.{expert}.{part}"));
            GatedMlp::load_named(loader, parts, [hidden, inner], config.llama.hidden_act, Bias::Absent)
        })
        .collect::<Result<_, _>>()?;
    Ok(Experts::new(router, experts, config.num_experts_per_tok))
}

/// `MixtralDecoderLayer`.
struct MixtralDecoderLayer {
    input_layernorm: RmsNorm,
    self_attn: LlamaAttention,
    post_attention_layernorm: RmsNorm,
    block_sparse_moe: Experts,
}

impl MixtralDecoderLayer {
    fn load(loader: &mut Loader, name: &str, config: &MixtralConfig) -> Result<Self, Error> {
        let (hidden, eps) = (config.llama.hidden_size, config.llama.rms_norm_eps);
        Ok(Self {
            input_layernorm: loader.rms_norm(&format!("{name}.input_layernorm"), hidden, eps)?,
            self_attn: LlamaAttention::load(loader, &format!("{name}.self_attn"), &config.llama)?,
            post_attention_layernorm: loader.rms_norm(&format!("{name}.post_attention_layernorm"), hidden, eps)?,
            block_sparse_moe: load_experts(loader, &format!("{name}.block_sparse_moe"), config)?,
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
        add(run, self.block_sparse_moe.forward(run, h), x)
    }
}

/// `MixtralForCausalLM`.
struct Mixtral {
    embed_tokens: Embedding,
    layers: Vec<MixtralDecoderLayer>,
    norm: RmsNorm,
    lm_head: Linear,
    rotary: Rotary,
    page_bytes: usize,
}

impl Mixtral {
    fn take(loader: &mut Loader, config: &MixtralConfig, path: &Path) -> Result<Self, Error> {
        let llama = &config.llama;
        llama.validate(path)?;
        let (experts, chosen) = (config.num_local_experts, config.num_experts_per_tok);
        if !(1..=1 << 12).contains(&experts) {
            return wrong(path, format!("num_local_experts is {experts}, outside 1..={}", 1 << 12));
        }
        if !(1..=experts).contains(&chosen) {
            return wrong(path, format!("num_experts_per_tok is {chosen}, outside 1..={experts}"));
        }
        let rotary = llama.rotary(loader, path)?;
        let embed_tokens = loader.embedding("model.embed_tokens", llama.vocab_size, llama.hidden_size)?;
        let layers = (0..llama.num_hidden_layers)
            .map(|i| MixtralDecoderLayer::load(loader, &format!("model.layers.{i}"), config))
            .collect::<Result<Vec<_>, _>>()?;
        let norm = loader.rms_norm("model.norm", llama.hidden_size, llama.rms_norm_eps)?;
        let lm_head = if llama.tie_word_embeddings {
            loader.tied("lm_head", &embed_tokens, [llama.vocab_size, llama.hidden_size])?
        } else {
            loader.linear("lm_head", llama.vocab_size, llama.hidden_size, Bias::Absent)?
        };
        let page_bytes = loader.page_bytes(layers.len(), llama.heads());
        Ok(Self { embed_tokens, layers, norm, lm_head, rotary, page_bytes })
    }
}

impl CausalLm for Mixtral {
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

    #[test]
    fn what_is_absent_is_as_in_the_class() {
        let sizes = r#""hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 8"#;
        let config: MixtralConfig = serde_json::from_str(&format!("{{{sizes}, \"vocab_size\": 10}}")).unwrap();
        assert_eq!((config.num_local_experts, config.num_experts_per_tok), (8, 2));
        let llama = config.llama;
        assert_eq!((llama.rms_norm_eps, llama.max_position_embeddings, llama.sliding_window), (1e-5, 131_072, None));
        assert_eq!(llama.rope.parameters(1.0).rope_theta, Some(THETA));
    }
}
