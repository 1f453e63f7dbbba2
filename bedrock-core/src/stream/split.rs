//! From a response to events.

use super::{
    CitationSourceContentDelta, CitationsDelta, ContentBlockDelta, ContentBlockStart, ConverseStreamMetadataEvent,
    ImageBlockDelta, ImageBlockStart, MessageStartEvent, MessageStopEvent, ReasoningContentBlockDelta, StreamEvent,
    ToolResultBlockDelta, ToolResultBlockStart, ToolUseBlockDelta, ToolUseBlockStart,
};
use crate::citation::{CitationGeneratedContent, CitationSourceContent};
use crate::error::Error;
use crate::inference::{ConverseOutput, ConverseResponse};
use crate::message::{ContentBlock, ReasoningContentBlock};
use crate::tool::ToolResultContentBlock;

impl ConverseResponse {
    /// The events that a stream of this response has, one delta a piece. Collecting them gives the response back.
    ///
    /// # Errors
    /// [`Error::Validation`] if a block has no form as events: documents, video, sound, guarded content, cache points,
    /// search results and tool changes; media in a tool's answer; citations without any, or of several texts.
    pub fn into_events(self) -> Result<Vec<StreamEvent>, Error> {
        let ConverseOutput::Message(message) = self.output;
        let mut events = vec![StreamEvent::MessageStart(MessageStartEvent { role: message.role })];
        for (index, block) in message.content.into_iter().enumerate() {
            let index = u32::try_from(index).map_err(|_| Error::validation("output.message.content is too long"))?;
            split(index, block, &mut events)?;
            events.push(StreamEvent::block_stop(index));
        }
        events.push(StreamEvent::MessageStop(MessageStopEvent {
            stop_reason: self.stop_reason,
            additional_model_response_fields: self.additional_model_response_fields,
        }));
        events.push(StreamEvent::Metadata(ConverseStreamMetadataEvent {
            usage: self.usage,
            metrics: self.metrics,
            trace: self.trace,
            performance_config: self.performance_config,
            service_tier: self.service_tier,
        }));
        Ok(events)
    }
}

fn split(index: u32, block: ContentBlock, events: &mut Vec<StreamEvent>) -> Result<(), Error> {
    let refuse = |what: &str| {
        Err(Error::validation(format!("output.message.content.{index} can't be streamed: no event carries {what}")))
    };
    match block {
        ContentBlock::Text(text) => events.push(StreamEvent::text(index, text)),
        ContentBlock::ToolUse(block) => {
            let start = ToolUseBlockStart { tool_use_id: block.tool_use_id, name: block.name, kind: block.kind };
            events.push(StreamEvent::block_start(index, ContentBlockStart::ToolUse(start)));
            let input = block.input.to_string();
            events.push(StreamEvent::delta(index, ContentBlockDelta::ToolUse(ToolUseBlockDelta { input })));
        }
        ContentBlock::ToolResult(block) => {
            let mut parts = Vec::with_capacity(block.content.len());
            for part in block.content {
                parts.push(match part {
                    ToolResultContentBlock::Text(text) => ToolResultBlockDelta::Text(text),
                    ToolResultContentBlock::Json(value) => ToolResultBlockDelta::Json(value),
                    _ => return refuse("media or search results of a tool's answer"),
                });
            }
            let start = ToolResultBlockStart { tool_use_id: block.tool_use_id, kind: block.kind, status: block.status };
            events.push(StreamEvent::block_start(index, ContentBlockStart::ToolResult(start)));
            events.push(StreamEvent::delta(index, ContentBlockDelta::ToolResult(parts)));
        }
        ContentBlock::ReasoningContent(block) => {
            let mut push = |delta| {
                events.push(StreamEvent::delta(index, ContentBlockDelta::ReasoningContent(delta)));
            };
            match block {
                ReasoningContentBlock::ReasoningText(block) => {
                    push(ReasoningContentBlockDelta::Text(block.text));
                    if let Some(signature) = block.signature {
                        push(ReasoningContentBlockDelta::Signature(signature));
                    }
                }
                ReasoningContentBlock::RedactedContent(bytes) => {
                    push(ReasoningContentBlockDelta::RedactedContent(bytes));
                }
            }
        }
        ContentBlock::CitationsContent(block) => {
            if block.citations.is_empty() || block.content.len() > 1 {
                return refuse("citations of no or of several texts");
            }
            for CitationGeneratedContent::Text(text) in block.content {
                events.push(StreamEvent::text(index, text));
            }
            for citation in block.citations {
                let source_content = citation
                    .source_content
                    .into_iter()
                    .map(|CitationSourceContent::Text(text)| CitationSourceContentDelta { text: Some(text) })
                    .collect();
                let delta = CitationsDelta {
                    title: citation.title,
                    source: citation.source,
                    source_content,
                    location: citation.location,
                };
                events.push(StreamEvent::delta(index, ContentBlockDelta::Citation(delta)));
            }
        }
        ContentBlock::Image(block) => {
            let start = ContentBlockStart::Image(ImageBlockStart { format: block.format });
            events.push(StreamEvent::block_start(index, start));
            let delta = ImageBlockDelta { source: Some(block.source), error: block.error };
            events.push(StreamEvent::delta(index, ContentBlockDelta::Image(delta)));
        }
        other => return refuse(other.kind()),
    }
    Ok(())
}
