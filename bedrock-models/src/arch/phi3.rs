//! Phi-3, 3.5 and 4 (dense): Llama whose checkpoints have queries, keys and values as one matrix, and gate and up as another.
//!
//! Paper: Abdin et al. 2024 (<https://arxiv.org/abs/2404.14219>). Reference: HF `modeling_phi3.py` (transformers 4.44 and 5),
//! llama.cpp's `phi3` GGUF layout. Checked against: tiny random checkpoints, with and without `longrope`.
//!
//! Deliberate differences: no dropout; keys that left the window stay in memory (they are not attended to); a window in a GGUF
//! file is honoured, as by Hugging Face, where llama.cpp leaves it out.

use std::path::Path;

use serde::Deserialize;

use super::CausalLm;
use super::family::Configuration;
use super::gguf::Gguf;
use super::llama::{Llama, LlamaConfig};
use crate::error::Error;
use crate::layers::Loader;

/// `config.json` of `Phi3ForCausalLM`, in terms of Llama.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "File")]
pub(crate) struct Phi3Config(LlamaConfig);

/// The fields whose defaults differ from Llama's, or that Llama has not.
#[derive(Deserialize)]
struct File {
    #[serde(flatten)]
    llama: LlamaConfig,
    #[serde(default = "default_eps")]
    rms_norm_eps: f64,
    #[serde(default = "default_positions")]
    max_position_embeddings: usize,
    /// Where it is given, it counts, whatever the rope parameters say.
    #[serde(default = "default_original")]
    original_max_position_embeddings: f64,
    sliding_window: Option<usize>,
}

fn default_eps() -> f64 {
    1e-5
}
fn default_positions() -> usize {
    4096
}
fn default_original() -> f64 {
    4096.0
}

impl From<File> for Phi3Config {
    fn from(file: File) -> Self {
        let mut config = LlamaConfig {
            rms_norm_eps: file.rms_norm_eps,
            max_position_embeddings: file.max_position_embeddings,
            sliding_window: file.sliding_window,
            attention_bias: false,
            mlp_bias: false,
            ..file.llama
        };
        config.rope.original_max_position_embeddings = Some(file.original_max_position_embeddings);
        // Old files call it so.
        config.rope.rename("yarn", "longrope");
        Self(config)
    }
}

impl Configuration for Phi3Config {
    const GGUF_NAMES: &'static [(&'static str, &'static str)] = &[
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers", "blk"),
        ("input_layernorm", "attn_norm"),
        ("self_attn.qkv_proj", "attn_qkv"),
        ("self_attn.o_proj", "attn_output"),
        ("post_attention_layernorm", "ffn_norm"),
        ("mlp.gate_up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];

    fn from_gguf(file: &Gguf<'_>) -> Result<Self, Error> {
        Ok(Self(LlamaConfig { rotate_pairs: false, bias_if_present: false, ..LlamaConfig::from_gguf(file)? }))
    }

    fn vocab_size(&self) -> usize {
        self.0.vocab_size
    }

    fn context(&self) -> usize {
        self.0.context()
    }

    fn load(&self, mut loader: Loader, path: &Path) -> Result<Box<dyn CausalLm>, Error> {
        let config = &self.0;
        config.validate(path)?;
        let (heads, inner) = (config.heads(), config.intermediate_size);
        for i in 0..config.num_hidden_layers {
            let part = |name: &str, rows| (format!("model.layers.{i}.{name}.weight"), rows);
            let (queries, keys) = (heads.queries * heads.dim, heads.keys * heads.dim);
            let [q, k, v] = [("q_proj", queries), ("k_proj", keys), ("v_proj", keys)]
                .map(|(name, rows)| part(&format!("self_attn.{name}"), rows));
            let (qkv, _) = part("self_attn.qkv_proj", 0);
            loader.split(&qkv, &[q, k, v], config.hidden_size)?;
            let (gate_up, _) = part("mlp.gate_up_proj", 0);
            loader.split(&gate_up, &[part("mlp.gate_proj", inner), part("mlp.up_proj", inner)], config.hidden_size)?;
        }
        Ok(Box::new(Llama::load(loader, config, path)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(more: &str) -> LlamaConfig {
        let sizes = r#""hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 8"#;
        serde_json::from_str::<Phi3Config>(&format!("{{{sizes}, \"vocab_size\": 10{more}}}")).unwrap().0
    }

    #[test]
    fn what_is_absent_is_as_in_the_class() {
        let config = read("");
        assert_eq!((config.rms_norm_eps, config.max_position_embeddings, config.sliding_window), (1e-5, 4096, None));
        let rope = config.rope.parameters(1.0);
        assert_eq!((rope.kind(), rope.original_max_position_embeddings), ("default", Some(4096.0)));
    }

    #[test]
    fn older_names_of_the_scaling_are_known() {
        for name in ["su", "yarn", "longrope"] {
            let config = read(&format!(
                r#", "rope_scaling": {{"type": "{name}", "short_factor": [1, 1, 1, 1], "long_factor": [2, 2, 2, 2]}},
                "original_max_position_embeddings": 20, "max_position_embeddings": 80"#
            ));
            let rope = config.rope.parameters(10_000.0);
            assert_eq!(rope.original_max_position_embeddings, Some(20.0));
            let rotary = crate::layers::Rotary::new(&rope, 8, 10_000.0, 80.0).unwrap();
            assert_ne!(rotary.angles(5, 20), rotary.angles(5, 21), "{name}");
        }
    }
}
