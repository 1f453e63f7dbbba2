//! Mistral 7B and its successors: Llama with a sliding window and no biases.
//!
//! Paper: Jiang et al. 2023 (<https://arxiv.org/abs/2310.06825>). Reference: HF `modeling_mistral.py` (transformers 4.44 and 5).
//! Its GGUF files call themselves `llama`.
//! Deliberate differences: keys that left the window stay in memory (they are not attended to).

use std::path::Path;

use serde::Deserialize;

use super::CausalLm;
use super::family::Configuration;
use super::gguf::{DECODER_NAMES, Gguf};
use super::llama::LlamaConfig;
use crate::error::Error;
use crate::layers::Loader;

/// `config.json` of `MistralForCausalLM`.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "File")]
pub(crate) struct MistralConfig(pub(crate) LlamaConfig);

/// The fields whose defaults differ from Llama's.
#[derive(Deserialize)]
struct File {
    #[serde(flatten)]
    llama: LlamaConfig,
    #[serde(default = "default_key_heads")]
    num_key_value_heads: Option<usize>,
    #[serde(default = "default_positions")]
    max_position_embeddings: usize,
    /// Positions that a query sees, its own included; `null`: all.
    #[serde(default = "default_window")]
    sliding_window: Option<usize>,
}

fn default_key_heads() -> Option<usize> {
    Some(8)
}
fn default_positions() -> usize {
    131_072
}
fn default_window() -> Option<usize> {
    Some(4096)
}

impl From<File> for MistralConfig {
    fn from(file: File) -> Self {
        Self(LlamaConfig {
            num_key_value_heads: file.num_key_value_heads,
            max_position_embeddings: file.max_position_embeddings,
            sliding_window: file.sliding_window,
            attention_bias: false,
            mlp_bias: false,
            ..file.llama
        })
    }
}

impl Configuration for MistralConfig {
    const GGUF_NAMES: &'static [(&'static str, &'static str)] = DECODER_NAMES;

    fn from_gguf(file: &Gguf<'_>) -> Result<Self, Error> {
        LlamaConfig::from_gguf(file).map(Self)
    }

    fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }

    fn context(&self) -> usize {
        self.0.context()
    }

    fn load(&self, loader: Loader, path: &Path) -> Result<Box<dyn CausalLm>, Error> {
        self.0.load(loader, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_is_as_in_the_first_mistral_and_null_is_not_absent() {
        let read = |more: &str| {
            let sizes =
                r#""hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 8"#;
            let config = format!("{{{sizes}, \"vocab_size\": 10, \"attention_bias\": true {more}}}");
            serde_json::from_str::<MistralConfig>(&config).unwrap().0
        };
        let config = read("");
        assert_eq!((config.key_heads(), config.sliding_window), (8, Some(4096)));
        assert_eq!((config.max_position_embeddings, config.attention_bias), (131_072, false));
        let config = read(r#", "sliding_window": null, "num_key_value_heads": null, "max_position_embeddings": 7"#);
        assert_eq!((config.key_heads(), config.sliding_window, config.max_position_embeddings), (8, None, 7));
    }
}
