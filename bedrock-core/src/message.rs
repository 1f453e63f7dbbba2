//! Messages and the blocks of content they are made of.

use serde::{Deserialize, Serialize};

use crate::citation::{CitationGeneratedContent, CitationsContentBlock, SearchResultBlock};
use crate::guardrail::GuardrailConverseContentBlock;
use crate::media::{AudioBlock, DocumentBlock, ImageBlock, VideoBlock};
use crate::tool::{ToolAdditionBlock, ToolRemovalBlock, ToolResultBlock, ToolUseBlock};
use crate::wire::{Blob, label};

label! {
    /// Who speaks.
    pub enum Role {
        /// The person or program that asks.
        User = "user",
        /// The model.
        Assistant = "assistant",
        /// Instructions given in the middle of a conversation. Instructions for the whole of it belong in
        /// [`ConverseRequest::system`](crate::ConverseRequest::system).
        System = "system",
    }

    /// Kind of a prompt-cache checkpoint.
    pub enum CachePointType {
        /// The only one.
        Default = "default",
    }

    /// How long a prompt-cache checkpoint lives.
    pub enum CacheTtl {
        /// Five minutes.
        FiveMinutes = "5m",
        /// One hour.
        OneHour = "1h",
    }
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub content: Vec<ContentBlock>,
}

impl Message {
    /// A turn of `role`.
    pub fn new(role: Role, content: impl IntoIterator<Item = impl Into<ContentBlock>>) -> Self {
        Self { role, content: content.into_iter().map(Into::into).collect() }
    }

    /// A user's turn with one block, often just text: `Message::user("hi")`.
    pub fn user(content: impl Into<ContentBlock>) -> Self {
        Self { role: Role::User, content: vec![content.into()] }
    }

    /// A turn of the model with one block.
    pub fn assistant(content: impl Into<ContentBlock>) -> Self {
        Self { role: Role::Assistant, content: vec![content.into()] }
    }

    /// The same turn with one block more.
    pub fn with(mut self, content: impl Into<ContentBlock>) -> Self {
        self.content.push(content.into());
        self
    }

    /// The text blocks and the texts that carry citations, joined without a separator. Reasoning, tool calls and media are left out.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for block in &self.content {
            match block {
                ContentBlock::Text(piece) => text.push_str(piece),
                ContentBlock::CitationsContent(block) => {
                    for CitationGeneratedContent::Text(piece) in &block.content {
                        text.push_str(piece);
                    }
                }
                _ => {}
            }
        }
        text
    }

    /// The calls of tools in this turn, in order.
    pub fn tool_uses(&self) -> impl Iterator<Item = &ToolUseBlock> {
        self.content.iter().filter_map(|block| match block {
            ContentBlock::ToolUse(call) => Some(call),
            _ => None,
        })
    }
}

/// One part of a message.
///
/// A member that this version does not know is an error when read: unlike a label, it may be content that the model must see, and to drop
/// it would answer another question than the one asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ContentBlock {
    /// Text.
    Text(String),
    /// A picture.
    Image(ImageBlock),
    /// A document.
    Document(DocumentBlock),
    /// A video.
    Video(VideoBlock),
    /// Sound.
    Audio(AudioBlock),
    /// The model's call of a tool.
    ToolUse(ToolUseBlock),
    /// What a tool answered.
    ToolResult(ToolResultBlock),
    /// Content that the guardrail shall look at. If any block of a conversation is of this kind, the guardrail looks at
    /// these alone.
    GuardContent(GuardrailConverseContentBlock),
    /// All that comes before this point may be cached.
    CachePoint(CachePointBlock),
    /// The model's reasoning before its answer.
    ReasoningContent(ReasoningContentBlock),
    /// Text of the answer, with citations.
    CitationsContent(CitationsContentBlock),
    /// A passage that a search found.
    SearchResult(SearchResultBlock),
    /// From here on the model may use one more tool.
    ToolAddition(ToolAdditionBlock),
    /// From here on the model may no longer use a tool.
    ToolRemoval(ToolRemovalBlock),
}

impl ContentBlock {
    /// The text of a text block.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The member's name on the wire, such as `toolUse`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Image(_) => "image",
            Self::Document(_) => "document",
            Self::Video(_) => "video",
            Self::Audio(_) => "audio",
            Self::ToolUse(_) => "toolUse",
            Self::ToolResult(_) => "toolResult",
            Self::GuardContent(_) => "guardContent",
            Self::CachePoint(_) => "cachePoint",
            Self::ReasoningContent(_) => "reasoningContent",
            Self::CitationsContent(_) => "citationsContent",
            Self::SearchResult(_) => "searchResult",
            Self::ToolAddition(_) => "toolAddition",
            Self::ToolRemoval(_) => "toolRemoval",
        }
    }
}

macro_rules! into_content {
    ($($block:ty => $variant:ident,)*) => {$(
        impl From<$block> for ContentBlock {
            fn from(block: $block) -> Self {
                Self::$variant(block)
            }
        }
    )*};
}
into_content! {
    String => Text,
    ImageBlock => Image,
    DocumentBlock => Document,
    VideoBlock => Video,
    AudioBlock => Audio,
    ToolUseBlock => ToolUse,
    ToolResultBlock => ToolResult,
    GuardrailConverseContentBlock => GuardContent,
    CachePointBlock => CachePoint,
    ReasoningContentBlock => ReasoningContent,
    CitationsContentBlock => CitationsContent,
    SearchResultBlock => SearchResult,
}

impl From<&str> for ContentBlock {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// One part of the instructions that stand above a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum SystemContentBlock {
    /// Text.
    Text(String),
    /// Text or a picture that the guardrail shall look at.
    GuardContent(GuardrailConverseContentBlock),
    /// All that comes before this point may be cached.
    CachePoint(CachePointBlock),
}

impl From<&str> for SystemContentBlock {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for SystemContentBlock {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// A prompt-cache checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CachePointBlock {
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: CachePointType,
    /// How long it lives. Default: the model's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<CacheTtl>,
}

impl Default for CachePointBlock {
    fn default() -> Self {
        Self { kind: CachePointType::Default, ttl: None }
    }
}

/// The model's reasoning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ReasoningContentBlock {
    /// Reasoning that can be read.
    ReasoningText(ReasoningTextBlock),
    /// Reasoning that the provider encrypted.
    RedactedContent(Blob),
}

/// Reasoning that can be read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReasoningTextBlock {
    /// The text.
    pub text: String,
    /// The provider's proof that the model wrote it; sent back unchanged in the next request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_message_reads_well_and_writes_the_wire() {
        let message = Message::user("What is this?").with(ImageBlock::new(crate::ImageFormat::Png, vec![1, 2]));
        assert_eq!(
            serde_json::to_value(&message).unwrap(),
            json!({"role": "user", "content": [
                {"text": "What is this?"}, {"image": {"format": "png", "source": {"bytes": "AQI="}}}]})
        );
        assert_eq!(message.text(), "What is this?");
    }

    #[test]
    fn an_unknown_member_is_refused_and_named() {
        let error = serde_json::from_value::<ContentBlock>(json!({"hologram": {}})).unwrap_err();
        assert!(error.to_string().contains("hologram"), "{error}");
        for wrong in [json!({}), json!({"text": "a", "image": {}}), json!("text"), json!(null)] {
            assert!(serde_json::from_value::<ContentBlock>(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let message: Message =
            serde_json::from_value(json!({"role": "user", "content": [{"text": "a"}], "mood": "good"})).unwrap();
        assert_eq!(message, Message::user("a"));
    }
}
