//! What a call cost.

use serde::{Deserialize, Serialize};

use crate::message::CacheTtl;

/// Tokens of one call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenUsage {
    /// Tokens of the prompt, without those read from or written to the prompt cache.
    pub input_tokens: u32,
    /// Tokens of the answer.
    pub output_tokens: u32,
    /// All of them.
    pub total_tokens: u32,
    /// Tokens of the prompt that came from the prompt cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_read_input_tokens: Option<u32>,
    /// Tokens of the prompt that were put in the prompt cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_input_tokens: Option<u32>,
    /// `cache_write_input_tokens` by lifetime.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cache_details: Vec<CacheDetail>,
}

impl TokenUsage {
    /// A call that used no prompt cache. The total saturates at `u32::MAX`.
    pub fn new(input_tokens: u32, output_tokens: u32) -> Self {
        Self {
            input_tokens,
            output_tokens,
            total_tokens: input_tokens.saturating_add(output_tokens),
            ..Self::default()
        }
    }
}

/// Tokens put in the prompt cache for one lifetime.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CacheDetail {
    /// The lifetime.
    pub ttl: CacheTtl,
    /// How many tokens.
    pub input_tokens: u32,
}

/// How long a call took.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConverseMetrics {
    /// Milliseconds from the request to the end of the answer.
    pub latency_ms: u64,
}
