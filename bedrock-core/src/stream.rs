//! The events of `ConverseStream`, and the way from events to a response ([`Collector`]) and back
//! ([`ConverseResponse::into_events`](crate::ConverseResponse::into_events)).
//!
//! The order is: `messageStart`; for each block of content, one after the other and with rising indices, an optional
//! `contentBlockStart`, any number of `contentBlockDelta` and a `contentBlockStop`; `messageStop`; `metadata`. A failure after
//! the stream has begun is an `Err` item, the last one.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::citation::CitationLocation;
use crate::inference::{ConverseTrace, PerformanceConfiguration, ServiceTier, StopReason};
use crate::media::{ErrorBlock, ImageFormat, ImageSource};
use crate::message::Role;
use crate::tool::{ToolResultStatus, ToolUseType};
use crate::usage::{ConverseMetrics, TokenUsage};
use crate::wire::Blob;

mod collect;
mod own;
mod split;

pub use collect::{Collector, ProtocolViolation, collect};
pub use own::converse_stream_owned;

/// One event of a stream. The service's shape `ConverseStreamOutput` has exceptions among its members; here they are the `Err`
/// items of an [`EventStream`](crate::EventStream).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum StreamEvent {
    /// The message begins.
    MessageStart(MessageStartEvent),
    /// A block begins. Text and reasoning usually go without.
    ContentBlockStart(ContentBlockStartEvent),
    /// More of a block.
    ContentBlockDelta(ContentBlockDeltaEvent),
    /// A block is complete.
    ContentBlockStop(ContentBlockStopEvent),
    /// The message is complete.
    MessageStop(MessageStopEvent),
    /// What it cost; the last event.
    Metadata(ConverseStreamMetadataEvent),
}

impl StreamEvent {
    /// The message begins; `role` is the model's.
    pub fn message_start() -> Self {
        Self::MessageStart(MessageStartEvent { role: Role::Assistant })
    }

    /// Block `index` begins.
    pub fn block_start(index: u32, start: ContentBlockStart) -> Self {
        Self::ContentBlockStart(ContentBlockStartEvent { start, content_block_index: index })
    }

    /// More of block `index`.
    pub fn delta(index: u32, delta: ContentBlockDelta) -> Self {
        Self::ContentBlockDelta(ContentBlockDeltaEvent { delta, content_block_index: index })
    }

    /// More text of block `index`.
    pub fn text(index: u32, text: impl Into<String>) -> Self {
        Self::delta(index, ContentBlockDelta::Text(text.into()))
    }

    /// Block `index` is complete.
    pub fn block_stop(index: u32) -> Self {
        Self::ContentBlockStop(ContentBlockStopEvent { content_block_index: index })
    }

    /// The message is complete.
    pub fn message_stop(stop_reason: StopReason) -> Self {
        Self::MessageStop(MessageStopEvent { stop_reason, additional_model_response_fields: None })
    }

    /// What it cost.
    pub fn metadata(usage: TokenUsage, latency_ms: u64) -> Self {
        Self::Metadata(ConverseStreamMetadataEvent {
            usage,
            metrics: ConverseMetrics { latency_ms },
            trace: None,
            performance_config: None,
            service_tier: None,
        })
    }

    /// The member's name on the wire, which is also the `:event-type` of its frame.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::MessageStart(_) => "messageStart",
            Self::ContentBlockStart(_) => "contentBlockStart",
            Self::ContentBlockDelta(_) => "contentBlockDelta",
            Self::ContentBlockStop(_) => "contentBlockStop",
            Self::MessageStop(_) => "messageStop",
            Self::Metadata(_) => "metadata",
        }
    }

    /// The text of a text delta.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::ContentBlockDelta(ContentBlockDeltaEvent { delta: ContentBlockDelta::Text(text), .. }) => Some(text),
            _ => None,
        }
    }
}

/// The message begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageStartEvent {
    /// Who speaks.
    pub role: Role,
}

/// A block begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContentBlockStartEvent {
    /// What begins.
    pub start: ContentBlockStart,
    /// Which block, from 0.
    pub content_block_index: u32,
}

/// What begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ContentBlockStart {
    /// The call of a tool.
    ToolUse(ToolUseBlockStart),
    /// What a tool of the serving side answered.
    ToolResult(ToolResultBlockStart),
    /// A picture.
    Image(ImageBlockStart),
}

/// The call of a tool begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolUseBlockStart {
    /// Name of this call.
    pub tool_use_id: String,
    /// The tool.
    pub name: String,
    /// Who runs it, if not the caller.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<ToolUseType>,
}

/// The answer of a tool of the serving side begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolResultBlockStart {
    /// Name of the call this answers.
    pub tool_use_id: String,
    /// Kind of the tool.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// How the call ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<ToolResultStatus>,
}

/// A picture begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageBlockStart {
    /// How it is encoded.
    pub format: ImageFormat,
}

/// More of a block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContentBlockDeltaEvent {
    /// What is added.
    pub delta: ContentBlockDelta,
    /// To which block, from 0.
    pub content_block_index: u32,
}

/// What is added to a block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ContentBlockDelta {
    /// Text.
    Text(String),
    /// A piece of a tool's input.
    ToolUse(ToolUseBlockDelta),
    /// Parts of a tool's answer.
    ToolResult(Vec<ToolResultBlockDelta>),
    /// Reasoning.
    ReasoningContent(ReasoningContentBlockDelta),
    /// A citation of the text of the same block.
    Citation(CitationsDelta),
    /// A picture.
    Image(ImageBlockDelta),
}

/// A piece of a tool's input.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolUseBlockDelta {
    /// A piece of the JSON text; joined, the pieces of a block parse.
    pub input: String,
}

/// A part of a tool's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ToolResultBlockDelta {
    /// Text.
    Text(String),
    /// Any JSON.
    Json(Value),
}

/// A piece of reasoning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ReasoningContentBlockDelta {
    /// Text.
    Text(String),
    /// Encrypted reasoning.
    RedactedContent(Blob),
    /// The provider's proof that the model wrote the text of this block.
    Signature(String),
}

/// A citation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CitationsDelta {
    /// Title of the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Where the source comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The cited passages, word for word.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_content: Vec<CitationSourceContentDelta>,
    /// Where in the source the passages are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<CitationLocation>,
}

/// A cited passage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CitationSourceContentDelta {
    /// The text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A picture, or why there is none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageBlockDelta {
    /// The picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<ImageSource>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBlock>,
}

/// A block is complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContentBlockStopEvent {
    /// Which block, from 0.
    pub content_block_index: u32,
}

/// The message is complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageStopEvent {
    /// Why the model stopped.
    pub stop_reason: StopReason,
    /// What `additionalModelResponseFieldPaths` found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub additional_model_response_fields: Option<Value>,
}

/// What a stream cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConverseStreamMetadataEvent {
    /// Tokens.
    pub usage: TokenUsage,
    /// Time.
    pub metrics: ConverseMetrics,
    /// What guardrails and routers did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<ConverseTrace>,
    /// Speed or price that was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub performance_config: Option<PerformanceConfiguration>,
    /// Queue that was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<ServiceTier>,
}
