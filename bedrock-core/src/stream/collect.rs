//! From events to a response.

use futures::{Stream, StreamExt};
use serde_json::Value;

use super::{
    CitationsDelta, ContentBlockDelta, ContentBlockStart, ConverseStreamMetadataEvent, ImageBlockDelta,
    MessageStopEvent, ReasoningContentBlockDelta, StreamEvent, ToolResultBlockDelta,
};
use crate::citation::{Citation, CitationGeneratedContent, CitationSourceContent, CitationsContentBlock};
use crate::error::Error;
use crate::inference::{ConverseOutput, ConverseResponse, StopReason};
use crate::media::ImageBlock;
use crate::message::{ContentBlock, Message, ReasoningContentBlock, ReasoningTextBlock, Role};
use crate::tool::{ToolResultBlock, ToolResultContentBlock, ToolUseBlock};
use crate::wire::Blob;

/// How the events of a stream contradict the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolViolation {
    /// An event came where it may not.
    #[error("the stream has {got} where {expected} must come")]
    Order {
        /// What came.
        got: &'static str,
        /// What may come there.
        expected: &'static str,
    },
    /// A block's index is not above those before it.
    #[error("content block {got} begins after block {last}; indices must rise")]
    Index {
        /// The index that came.
        got: u32,
        /// The last block before it.
        last: u32,
    },
    /// An event belongs to another block than the one that is open.
    #[error("{event} of content block {got} while block {open} is open")]
    OtherBlock {
        /// What came.
        event: &'static str,
        /// The block it belongs to.
        got: u32,
        /// The block that is open.
        open: u32,
    },
    /// A block is filled with something else than it began with.
    #[error("content block {index} is {block} and can't take {delta}")]
    Mixed {
        /// The block.
        index: u32,
        /// What it is.
        block: &'static str,
        /// What came.
        delta: &'static str,
    },
    /// The joined pieces of a tool's input are not JSON.
    #[error("the input of tool {name:?} in content block {index} is not JSON: {reason}")]
    ToolInput {
        /// The block.
        index: u32,
        /// The tool.
        name: String,
        /// What the parser says.
        reason: String,
    },
    /// A picture ended without a source or an error.
    #[error("content block {index} is a picture without a source")]
    NoImage {
        /// The block.
        index: u32,
    },
    /// The stream ended early.
    #[error("the stream ended where {expected} must come")]
    Truncated {
        /// What must come.
        expected: &'static str,
    },
    /// The answer is larger than the collector takes.
    #[error("the answer exceeds {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
}

/// Joins the events of a stream into the response that `Converse` would have given.
///
/// The order of the events is checked, and the answer's size is bounded ([`Collector::DEFAULT_LIMIT`]). Deltas of text,
/// reasoning and tool input are joined; each part of a tool's answer stays a part of its own. Text with a citation in the
/// same block becomes `citationsContent` with one text. Tool input is parsed when the message stops; no input is `{}`.
/// Where the model stopped for another reason than `tool_use` or `end_turn` (say `max_tokens` in the middle of a
/// call), input that does not parse is kept as a JSON string instead.
#[derive(Debug)]
pub struct Collector {
    place: Place,
    role: Role,
    blocks: Vec<(u32, Partial)>,
    stop: Option<MessageStopEvent>,
    metadata: Option<ConverseStreamMetadataEvent>,
    size: usize,
    limit: usize,
}

/// What the last event was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Beginning,
    Between,
    /// In the block of this index, the last of `blocks`.
    Block(u32),
    Stopped,
    End,
}

impl Place {
    fn expected(self) -> &'static str {
        match self {
            Self::Beginning => "messageStart",
            Self::Between => "a content block or messageStop",
            Self::Block(_) => "contentBlockDelta or contentBlockStop",
            Self::Stopped => "metadata",
            Self::End => "the end",
        }
    }
}

/// A block in the making.
#[derive(Debug)]
enum Partial {
    Text(String),
    Cited { text: Option<String>, citations: Vec<Citation> },
    ToolUse { block: ToolUseBlock, input: String },
    ToolResult(ToolResultBlock),
    Reasoning(ReasoningTextBlock),
    Redacted(Vec<u8>),
    Image { start: super::ImageBlockStart, delta: ImageBlockDelta },
}

impl Partial {
    fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Cited { .. } => "citationsContent",
            Self::ToolUse { .. } => "toolUse",
            Self::ToolResult(_) => "toolResult",
            Self::Reasoning(_) => "reasoningText",
            Self::Redacted(_) => "redactedContent",
            Self::Image { .. } => "image",
        }
    }

    fn begin(start: ContentBlockStart) -> Self {
        match start {
            ContentBlockStart::ToolUse(start) => Self::ToolUse {
                block: ToolUseBlock {
                    tool_use_id: start.tool_use_id,
                    name: start.name,
                    input: Value::Null,
                    kind: start.kind,
                },
                input: String::new(),
            },
            ContentBlockStart::ToolResult(start) => Self::ToolResult(ToolResultBlock {
                tool_use_id: start.tool_use_id,
                content: Vec::new(),
                status: start.status,
                kind: start.kind,
            }),
            ContentBlockStart::Image(start) => Self::Image { start, delta: ImageBlockDelta::default() },
        }
    }

    /// A block that begins with its first delta; tools and pictures must be begun by an event of their own.
    fn begin_with(delta: &ContentBlockDelta) -> Option<Self> {
        match delta {
            ContentBlockDelta::Text(_) => Some(Self::Text(String::new())),
            ContentBlockDelta::Citation(_) => Some(Self::Cited { text: None, citations: Vec::new() }),
            ContentBlockDelta::ReasoningContent(ReasoningContentBlockDelta::RedactedContent(_)) => {
                Some(Self::Redacted(Vec::new()))
            }
            ContentBlockDelta::ReasoningContent(_) => Some(Self::Reasoning(ReasoningTextBlock::default())),
            ContentBlockDelta::ToolUse(_) | ContentBlockDelta::ToolResult(_) | ContentBlockDelta::Image(_) => None,
        }
    }

    fn add(&mut self, index: u32, delta: ContentBlockDelta) -> Result<(), ProtocolViolation> {
        if let (Self::Text(text), ContentBlockDelta::Citation(_)) = (&mut *self, &delta) {
            *self = Self::Cited { text: Some(std::mem::take(text)), citations: Vec::new() };
        }
        match (&mut *self, delta) {
            (Self::Text(text), ContentBlockDelta::Text(more)) => text.push_str(&more),
            (Self::Cited { text, .. }, ContentBlockDelta::Text(more)) => {
                text.get_or_insert_with(String::new).push_str(&more);
            }
            (Self::Cited { citations, .. }, ContentBlockDelta::Citation(citation)) => citations.push(citation.into()),
            (Self::ToolUse { input, .. }, ContentBlockDelta::ToolUse(more)) => input.push_str(&more.input),
            (Self::ToolResult(block), ContentBlockDelta::ToolResult(parts)) => {
                block.content.extend(parts.into_iter().map(ToolResultContentBlock::from));
            }
            (Self::Reasoning(block), ContentBlockDelta::ReasoningContent(delta)) => match delta {
                ReasoningContentBlockDelta::Text(more) => block.text.push_str(&more),
                ReasoningContentBlockDelta::Signature(more) => {
                    block.signature.get_or_insert_with(String::new).push_str(&more);
                }
                ReasoningContentBlockDelta::RedactedContent(_) => {
                    return Err(ProtocolViolation::Mixed { index, block: "reasoningText", delta: "redactedContent" });
                }
            },
            (
                Self::Redacted(bytes),
                ContentBlockDelta::ReasoningContent(ReasoningContentBlockDelta::RedactedContent(more)),
            ) => bytes.extend_from_slice(more.as_bytes()),
            (Self::Image { delta, .. }, ContentBlockDelta::Image(more)) => {
                delta.source = more.source.or(delta.source.take());
                delta.error = more.error.or(delta.error.take());
            }
            (block, delta) => {
                return Err(ProtocolViolation::Mixed { index, block: block.kind(), delta: delta_kind(&delta) });
            }
        }
        Ok(())
    }

    fn finish(self, index: u32, stop: &StopReason) -> Result<ContentBlock, ProtocolViolation> {
        Ok(match self {
            Self::Text(text) => ContentBlock::Text(text),
            Self::Cited { text, citations } => ContentBlock::CitationsContent(CitationsContentBlock {
                content: text.into_iter().map(CitationGeneratedContent::Text).collect(),
                citations,
            }),
            Self::ToolUse { mut block, input } => {
                block.input = if input.trim().is_empty() {
                    Value::Object(serde_json::Map::new())
                } else {
                    match serde_json::from_str(&input) {
                        Ok(value) => value,
                        Err(error) if matches!(stop, StopReason::ToolUse | StopReason::EndTurn) => {
                            return Err(ProtocolViolation::ToolInput {
                                index,
                                name: block.name,
                                reason: error.to_string(),
                            });
                        }
                        Err(_) => Value::String(input),
                    }
                };
                ContentBlock::ToolUse(block)
            }
            Self::ToolResult(block) => ContentBlock::ToolResult(block),
            Self::Reasoning(block) => ContentBlock::ReasoningContent(ReasoningContentBlock::ReasoningText(block)),
            Self::Redacted(bytes) => {
                ContentBlock::ReasoningContent(ReasoningContentBlock::RedactedContent(Blob(bytes)))
            }
            Self::Image { start, delta } => ContentBlock::Image(ImageBlock {
                format: start.format,
                // A picture that could not be made has an error and no bytes.
                source: match (delta.source, &delta.error) {
                    (Some(source), _) => source,
                    (None, Some(_)) => crate::media::ImageSource::Bytes(Blob::default()),
                    (None, None) => return Err(ProtocolViolation::NoImage { index }),
                },
                error: delta.error,
            }),
        })
    }
}

fn delta_kind(delta: &ContentBlockDelta) -> &'static str {
    match delta {
        ContentBlockDelta::Text(_) => "text",
        ContentBlockDelta::ToolUse(_) => "toolUse",
        ContentBlockDelta::ToolResult(_) => "toolResult",
        ContentBlockDelta::ReasoningContent(_) => "reasoningContent",
        ContentBlockDelta::Citation(_) => "citation",
        ContentBlockDelta::Image(_) => "image",
    }
}

impl From<CitationsDelta> for Citation {
    fn from(delta: CitationsDelta) -> Self {
        Self {
            title: delta.title,
            source: delta.source,
            source_content: delta
                .source_content
                .into_iter()
                .filter_map(|passage| passage.text)
                .map(CitationSourceContent::Text)
                .collect(),
            location: delta.location,
        }
    }
}

impl From<ToolResultBlockDelta> for ToolResultContentBlock {
    fn from(delta: ToolResultBlockDelta) -> Self {
        match delta {
            ToolResultBlockDelta::Text(text) => Self::Text(text),
            ToolResultBlockDelta::Json(value) => Self::Json(value),
        }
    }
}

impl Default for Collector {
    fn default() -> Self {
        Self::new()
    }
}

impl Collector {
    /// Bytes of an answer that a collector takes unless told otherwise: 64 MiB, estimated on the events in memory.
    pub const DEFAULT_LIMIT: usize = 64 << 20;

    /// A collector that waits for `messageStart`.
    pub fn new() -> Self {
        Self::with_limit(Self::DEFAULT_LIMIT)
    }

    /// A collector that takes answers up to `limit` bytes.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            place: Place::Beginning,
            role: Role::Assistant,
            blocks: Vec::new(),
            stop: None,
            metadata: None,
            size: 0,
            limit,
        }
    }

    /// Takes the next event. After an error the collector can't be used further.
    ///
    /// # Errors
    /// [`Error::Protocol`] if the event may not come here or makes the answer too large.
    pub fn push(&mut self, event: StreamEvent) -> Result<(), Error> {
        Ok(self.step(event)?)
    }

    fn step(&mut self, event: StreamEvent) -> Result<(), ProtocolViolation> {
        self.size = self.size.saturating_add(weight(&event));
        if self.size > self.limit {
            return Err(ProtocolViolation::TooLarge { limit: self.limit });
        }
        match (self.place, event) {
            (Place::Beginning, StreamEvent::MessageStart(start)) => {
                self.role = start.role;
                self.place = Place::Between;
            }
            (Place::Between, StreamEvent::ContentBlockStart(event)) => {
                self.open(event.content_block_index, Partial::begin(event.start))?;
            }
            (Place::Between, StreamEvent::ContentBlockDelta(event)) => {
                let index = event.content_block_index;
                let block = Partial::begin_with(&event.delta).ok_or(ProtocolViolation::Order {
                    got: "the first contentBlockDelta of a tool or a picture",
                    expected: "contentBlockStart",
                })?;
                self.open(index, block)?;
                self.add(index, event.delta)?;
            }
            (Place::Block(open), StreamEvent::ContentBlockDelta(event)) => {
                let got = event.content_block_index;
                if got != open {
                    return Err(ProtocolViolation::OtherBlock { event: "contentBlockDelta", got, open });
                }
                self.add(open, event.delta)?;
            }
            (Place::Block(open), StreamEvent::ContentBlockStop(event)) => {
                let got = event.content_block_index;
                if got != open {
                    return Err(ProtocolViolation::OtherBlock { event: "contentBlockStop", got, open });
                }
                self.place = Place::Between;
            }
            (Place::Between, StreamEvent::MessageStop(event)) => {
                self.stop = Some(event);
                self.place = Place::Stopped;
            }
            (Place::Stopped, StreamEvent::Metadata(event)) => {
                self.metadata = Some(event);
                self.place = Place::End;
            }
            (place, event) => {
                return Err(ProtocolViolation::Order { got: event.kind(), expected: place.expected() });
            }
        }
        Ok(())
    }

    fn open(&mut self, index: u32, block: Partial) -> Result<(), ProtocolViolation> {
        if let Some((last, _)) = self.blocks.last()
            && index <= *last
        {
            return Err(ProtocolViolation::Index { got: index, last: *last });
        }
        self.blocks.push((index, block));
        self.place = Place::Block(index);
        Ok(())
    }

    fn add(&mut self, index: u32, delta: ContentBlockDelta) -> Result<(), ProtocolViolation> {
        match self.blocks.last_mut() {
            Some((_, block)) => block.add(index, delta),
            None => Ok(()),
        }
    }

    /// The response.
    ///
    /// # Errors
    /// [`Error::Protocol`] if the stream ended early or a tool's input does not parse.
    pub fn finish(self) -> Result<ConverseResponse, Error> {
        let (Place::End, Some(stop), Some(metadata)) = (self.place, self.stop, self.metadata) else {
            return Err(ProtocolViolation::Truncated { expected: self.place.expected() }.into());
        };
        let mut content = Vec::with_capacity(self.blocks.len());
        for (index, block) in self.blocks {
            content.push(block.finish(index, &stop.stop_reason)?);
        }
        Ok(ConverseResponse {
            output: ConverseOutput::Message(Message { role: self.role, content }),
            stop_reason: stop.stop_reason,
            usage: metadata.usage,
            metrics: metadata.metrics,
            additional_model_response_fields: stop.additional_model_response_fields,
            trace: metadata.trace,
            performance_config: metadata.performance_config,
            service_tier: metadata.service_tier,
        })
    }
}

/// Bytes that an event keeps alive, roughly: enough to bound a stream that never ends.
fn weight(event: &StreamEvent) -> usize {
    const EVENT: usize = 64;
    EVENT
        + match event {
            StreamEvent::ContentBlockDelta(event) => match &event.delta {
                ContentBlockDelta::Text(text) => text.len(),
                ContentBlockDelta::ToolUse(delta) => delta.input.len(),
                ContentBlockDelta::ToolResult(parts) => parts
                    .iter()
                    .map(|part| match part {
                        ToolResultBlockDelta::Text(text) => EVENT + text.len(),
                        ToolResultBlockDelta::Json(value) => EVENT + json_weight(value),
                    })
                    .sum(),
                ContentBlockDelta::ReasoningContent(delta) => match delta {
                    ReasoningContentBlockDelta::Text(text) | ReasoningContentBlockDelta::Signature(text) => text.len(),
                    ReasoningContentBlockDelta::RedactedContent(bytes) => bytes.as_bytes().len(),
                },
                ContentBlockDelta::Citation(citation) => {
                    let passages = citation.source_content.iter().map(|passage| &passage.text);
                    [&citation.title, &citation.source]
                        .into_iter()
                        .chain(passages)
                        .map(|text| EVENT + text.as_ref().map_or(0, String::len))
                        .sum()
                }
                ContentBlockDelta::Image(delta) => match &delta.source {
                    Some(crate::media::ImageSource::Bytes(bytes)) => bytes.as_bytes().len(),
                    _ => 0,
                },
            },
            _ => 0,
        }
}

fn json_weight(value: &Value) -> usize {
    match value {
        Value::String(text) => 32 + text.len(),
        Value::Array(items) => 32 + items.iter().map(json_weight).sum::<usize>(),
        Value::Object(fields) => 32 + fields.iter().map(|(key, value)| key.len() + json_weight(value)).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 32,
    }
}

/// Reads a stream to its end and joins the events: see [`Collector`].
///
/// # Errors
/// The stream's own error, or [`Error::Protocol`].
pub async fn collect<S>(mut stream: S) -> Result<ConverseResponse, Error>
where
    S: Stream<Item = Result<StreamEvent, Error>> + Unpin,
{
    let mut collector = Collector::new();
    while let Some(event) = stream.next().await {
        collector.push(event?)?;
    }
    collector.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{ToolUseBlockDelta, ToolUseBlockStart};
    use crate::usage::TokenUsage;

    fn run(events: Vec<StreamEvent>) -> Result<ConverseResponse, ProtocolViolation> {
        let mut collector = Collector::new();
        let result = events.into_iter().try_for_each(|event| collector.push(event)).and_then(|()| collector.finish());
        result.map_err(|error| match error {
            Error::Protocol(violation) => violation,
            other => panic!("{other:?}"),
        })
    }

    fn tool(index: u32) -> StreamEvent {
        let start = ToolUseBlockStart { tool_use_id: "t".into(), name: "clock".into(), kind: None };
        StreamEvent::block_start(index, ContentBlockStart::ToolUse(start))
    }

    fn input(index: u32, input: &str) -> StreamEvent {
        StreamEvent::delta(index, ContentBlockDelta::ToolUse(ToolUseBlockDelta { input: input.into() }))
    }

    fn end(stop: StopReason) -> [StreamEvent; 2] {
        [StreamEvent::message_stop(stop), StreamEvent::metadata(TokenUsage::new(1, 1), 0)]
    }

    fn with_input(pieces: &[&str], stop: StopReason) -> Result<Value, ProtocolViolation> {
        let mut events = vec![StreamEvent::message_start(), tool(0)];
        events.extend(pieces.iter().map(|piece| input(0, piece)));
        events.push(StreamEvent::block_stop(0));
        events.extend(end(stop));
        Ok(run(events)?.message().tool_uses().next().expect("a call").input.clone())
    }

    #[test]
    fn the_pieces_of_a_tool_s_input_are_joined_and_parsed() {
        let value = with_input(&["", "{\"zone\":", " \"U", "TC\"}"], StopReason::ToolUse);
        assert_eq!(value, Ok(serde_json::json!({"zone": "UTC"})));
        assert_eq!(with_input(&[], StopReason::ToolUse), Ok(serde_json::json!({})));
        assert_eq!(with_input(&[" ", ""], StopReason::ToolUse), Ok(serde_json::json!({})));
    }

    #[test]
    fn input_that_was_cut_off_is_kept_as_text() {
        assert!(matches!(
            with_input(&["{\"zone"], StopReason::ToolUse),
            Err(ProtocolViolation::ToolInput { index: 0, ref name, .. }) if name == "clock"
        ));
        assert_eq!(with_input(&["{\"zone"], StopReason::MaxTokens), Ok(serde_json::json!("{\"zone")));
    }

    #[test]
    fn each_violation_is_named() {
        use StreamEvent as E;
        let start = E::message_start;
        let order = |got, expected| Err(ProtocolViolation::Order { got, expected });
        assert_eq!(run(vec![]), Err(ProtocolViolation::Truncated { expected: "messageStart" }));
        assert_eq!(run(vec![E::text(0, "a")]), order("contentBlockDelta", "messageStart"));
        assert_eq!(run(vec![start(), start()]), order("messageStart", "a content block or messageStop"));
        assert_eq!(run(vec![start(), E::block_stop(0)]), order("contentBlockStop", "a content block or messageStop"));
        assert_eq!(
            run(vec![start(), E::text(0, "a"), E::message_stop(StopReason::EndTurn)]),
            order("messageStop", "contentBlockDelta or contentBlockStop")
        );
        assert_eq!(
            run(vec![start(), E::text(0, "a"), E::text(1, "b")]),
            Err(ProtocolViolation::OtherBlock { event: "contentBlockDelta", got: 1, open: 0 })
        );
        assert_eq!(
            run(vec![start(), E::text(3, "a"), E::block_stop(3), E::text(3, "b")]),
            Err(ProtocolViolation::Index { got: 3, last: 3 })
        );
        assert_eq!(
            run(vec![start(), E::text(0, "a"), input(0, "{}")]),
            Err(ProtocolViolation::Mixed { index: 0, block: "text", delta: "toolUse" })
        );
        assert!(matches!(run(vec![start(), input(0, "{}")]), Err(ProtocolViolation::Order { .. })));
        let [stop, metadata] = end(StopReason::EndTurn);
        assert_eq!(run(vec![start(), stop.clone()]), Err(ProtocolViolation::Truncated { expected: "metadata" }));
        assert_eq!(run(vec![start(), stop, metadata.clone(), metadata]), order("metadata", "the end"));
    }

    #[test]
    fn a_block_may_be_left_out() {
        let mut events = vec![StreamEvent::message_start()];
        for index in [0, 2] {
            events.extend([StreamEvent::text(index, "a"), StreamEvent::block_stop(index)]);
        }
        events.extend(end(StopReason::EndTurn));
        assert_eq!(run(events).map(|response| response.message().content.len()), Ok(2));
    }

    #[test]
    fn the_size_is_bounded() {
        let mut collector = Collector::with_limit(1000);
        collector.push(StreamEvent::message_start()).expect("small");
        let error = (0..).find_map(|_| collector.push(StreamEvent::text(0, "x".repeat(50))).err()).expect("bounded");
        assert!(matches!(error, Error::Protocol(ProtocolViolation::TooLarge { limit: 1000 })));
        // Empty deltas count too.
        let mut collector = Collector::with_limit(1000);
        collector.push(StreamEvent::message_start()).expect("small");
        assert!((0..100).any(|_| collector.push(StreamEvent::text(0, "")).is_err()));
    }
}
