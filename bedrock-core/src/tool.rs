//! Tools: what the model may call, its calls, and what the tools answer. What runs them is a [`Tool`].

mod run;

pub use run::{FunctionTool, Tool, ToolAnswer, ToolCall};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::citation::SearchResultBlock;
use crate::media::{DocumentBlock, ImageBlock, VideoBlock};
use crate::message::CachePointBlock;
use crate::wire::label;

label! {
    /// Who runs a tool.
    pub enum ToolUseType {
        /// The serving side; the caller does not answer the call.
        ServerToolUse = "server_tool_use",
    }

    /// How a tool's call ended.
    pub enum ToolResultStatus {
        /// It did its work.
        Success = "success",
        /// It failed; the content says why, for the model.
        Error = "error",
    }
}

/// The tools of a request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolConfiguration {
    /// What the model may call; at least one.
    pub tools: Vec<ToolDefinition>,
    /// Whether it must. Default: [`ToolChoice::Auto`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<ToolChoice>,
}

/// One entry of [`ToolConfiguration::tools`]. The service calls this shape `Tool`; that name is kept free for what runs a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ToolDefinition {
    /// A tool that the caller runs.
    ToolSpec(ToolSpecification),
    /// A tool that the serving side runs.
    SystemTool(SystemTool),
    /// All that comes before this point may be cached.
    CachePoint(CachePointBlock),
}

impl From<ToolSpecification> for ToolDefinition {
    fn from(specification: ToolSpecification) -> Self {
        Self::ToolSpec(specification)
    }
}

/// What the model is told about a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolSpecification {
    /// 1–64 ASCII letters, digits, `_` or `-`.
    pub name: String,
    /// What it does and when to use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What its input looks like.
    pub input_schema: ToolInputSchema,
    /// Whether the input must conform to the schema exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
}

impl ToolSpecification {
    /// A tool whose input is described by a JSON schema.
    pub fn new(name: impl Into<String>, description: impl Into<String>, schema: Value) -> Self {
        Self {
            name: name.into(),
            description: Some(description.into()),
            input_schema: ToolInputSchema::Json(schema),
            strict: None,
        }
    }
}

/// How a tool's input is described.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ToolInputSchema {
    /// A JSON schema.
    Json(Value),
}

/// A tool that the serving side runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SystemTool {
    /// Its name: 1–64 ASCII letters, digits, `_` or `-`.
    pub name: String,
}

/// Whether the model must call a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ToolChoice {
    /// It decides.
    Auto {},
    /// It must call one, whichever.
    Any {},
    /// It must call this one.
    Tool(SpecificToolChoice),
}

impl ToolChoice {
    /// The model must call the tool of this name.
    pub fn tool(name: impl Into<String>) -> Self {
        Self::Tool(SpecificToolChoice { name: name.into() })
    }
}

/// The tool that the model must call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpecificToolChoice {
    /// Its name.
    pub name: String,
}

/// The model's call of a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolUseBlock {
    /// Name of this call, repeated by its result: 1–64 ASCII letters, digits, `_`, `.`, `:` or `-`.
    pub tool_use_id: String,
    /// The tool.
    pub name: String,
    /// Its input.
    pub input: Value,
    /// Who runs it, if not the caller.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<ToolUseType>,
}

/// What a tool answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolResultBlock {
    /// Name of the call this answers.
    pub tool_use_id: String,
    /// The answer.
    pub content: Vec<ToolResultContentBlock>,
    /// How the call ended. Default: success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<ToolResultStatus>,
    /// Kind of a tool that the serving side ran.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

impl ToolResultBlock {
    /// A successful answer.
    pub fn new(tool_use_id: impl Into<String>, content: impl Into<ToolResultContentBlock>) -> Self {
        Self { tool_use_id: tool_use_id.into(), content: vec![content.into()], status: None, kind: None }
    }

    /// A failure, in words that help the model to try otherwise.
    pub fn error(tool_use_id: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            tool_use_id: tool_use_id.into(),
            content: vec![ToolResultContentBlock::Text(message.into())],
            status: Some(ToolResultStatus::Error),
            kind: None,
        }
    }
}

/// One part of a tool's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ToolResultContentBlock {
    /// Any JSON.
    Json(Value),
    /// Text.
    Text(String),
    /// A picture.
    Image(ImageBlock),
    /// A document.
    Document(DocumentBlock),
    /// A video.
    Video(VideoBlock),
    /// A passage that a search found.
    SearchResult(SearchResultBlock),
}

impl From<&str> for ToolResultContentBlock {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for ToolResultContentBlock {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Value> for ToolResultContentBlock {
    fn from(value: Value) -> Self {
        Self::Json(value)
    }
}

/// From here on the model may use one more tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolAdditionBlock {
    /// The tool.
    pub tool: ToolReference,
}

/// From here on the model may no longer use a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolRemovalBlock {
    /// The tool.
    pub tool: ToolReference,
}

/// Names a tool inside a conversation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolReference {
    /// Its kind, 1–64 characters.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its name, 1–128 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The server that offers it, 1–128 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}
