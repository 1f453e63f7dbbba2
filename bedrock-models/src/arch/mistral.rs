//! Mistral 7B and its successors: Llama with a sliding window and no biases.
//!
//! Paper: Jiang et al. 2023 (<https://arxiv.org/abs/2310.06825>). Reference: HF `modeling_mistral.py` (transformers 4.44 and 5).
//! Deliberate differences: keys that left the window stay in memory (they are not attended to).

use serde::Deserialize;

use super::llama::LlamaConfig;

/// `config.json` of `MistralForCausalLM`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct MistralConfig {
    #[serde(flatten)]
    llama: LlamaConfig,
    /// Positions that a query sees, its own included; `null`: all.
    #[serde(default = "default_window")]
    sliding_window: Option<usize>,
}

/// What HF takes if the file says nothing, as those of the first Mistral 7B.
fn default_window() -> Option<usize> {
    Some(4096)
}

impl MistralConfig {
    /// The same model in terms of Llama.
    pub(crate) fn into_llama(self) -> LlamaConfig {
        LlamaConfig { sliding_window: self.sliding_window, attention_bias: false, mlp_bias: false, ..self.llama }
    }
}
