//! The events of an answer in the service's order, out of pieces that providers name each in their own way.

use bedrock_core::{
    Blob, CitationsDelta, ContentBlockDelta, ContentBlockStart, ReasoningContentBlockDelta, StopReason, StreamEvent,
    ToolUseBlockDelta, ToolUseBlockStart,
};

/// What the open block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Reasoning,
    Redacted,
    Tool,
}

/// Numbers blocks from 0 without gaps, opens and closes them.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    begun: bool,
    index: u32,
    open: Option<Kind>,
}

impl Blocks {
    /// The message begins, if it has not.
    pub(super) fn begin(&mut self, events: &mut Vec<StreamEvent>) {
        if !std::mem::replace(&mut self.begun, true) {
            events.push(StreamEvent::message_start());
        }
    }

    /// More text.
    pub(super) fn text(&mut self, text: &str, events: &mut Vec<StreamEvent>) {
        if !text.is_empty() {
            self.add(Kind::Text, ContentBlockDelta::Text(text.to_owned()), events);
        }
    }

    /// A citation of the text of the open block.
    pub(super) fn citation(&mut self, citation: CitationsDelta, events: &mut Vec<StreamEvent>) {
        self.add(Kind::Text, ContentBlockDelta::Citation(citation), events);
    }

    /// More reasoning.
    pub(super) fn reasoning(&mut self, text: &str, events: &mut Vec<StreamEvent>) {
        if !text.is_empty() {
            let delta = ReasoningContentBlockDelta::Text(text.to_owned());
            self.add(Kind::Reasoning, ContentBlockDelta::ReasoningContent(delta), events);
        }
    }

    /// The proof of the reasoning.
    pub(super) fn signature(&mut self, signature: String, events: &mut Vec<StreamEvent>) {
        let delta = ReasoningContentBlockDelta::Signature(signature);
        self.add(Kind::Reasoning, ContentBlockDelta::ReasoningContent(delta), events);
    }

    /// Reasoning that the provider encrypted: a block of its own.
    pub(super) fn redacted(&mut self, data: Vec<u8>, events: &mut Vec<StreamEvent>) {
        self.close(events);
        let delta = ReasoningContentBlockDelta::RedactedContent(Blob(data));
        self.add(Kind::Redacted, ContentBlockDelta::ReasoningContent(delta), events);
        self.close(events);
    }

    /// A call begins.
    pub(super) fn call(&mut self, tool_use_id: String, name: String, events: &mut Vec<StreamEvent>) {
        self.close(events);
        self.begin(events);
        let start = ContentBlockStart::ToolUse(ToolUseBlockStart { tool_use_id, name, kind: None });
        events.push(StreamEvent::block_start(self.index, start));
        self.open = Some(Kind::Tool);
    }

    /// More of the input of the open call. False if no call is open.
    #[must_use]
    pub(super) fn input(&mut self, input: &str, events: &mut Vec<StreamEvent>) -> bool {
        if self.open != Some(Kind::Tool) {
            return false;
        }
        if !input.is_empty() {
            let delta = ContentBlockDelta::ToolUse(ToolUseBlockDelta { input: input.to_owned() });
            events.push(StreamEvent::delta(self.index, delta));
        }
        true
    }

    /// The open block is complete.
    pub(super) fn close(&mut self, events: &mut Vec<StreamEvent>) {
        if self.open.take().is_some() {
            events.push(StreamEvent::block_stop(self.index));
            self.index += 1;
        }
    }

    /// The message is complete.
    pub(super) fn stop(
        &mut self,
        reason: StopReason,
        additional: Option<serde_json::Value>,
        events: &mut Vec<StreamEvent>,
    ) {
        self.begin(events);
        self.close(events);
        let mut event = StreamEvent::message_stop(reason);
        if let StreamEvent::MessageStop(event) = &mut event {
            event.additional_model_response_fields = additional;
        }
        events.push(event);
    }

    fn add(&mut self, kind: Kind, delta: ContentBlockDelta, events: &mut Vec<StreamEvent>) {
        self.begin(events);
        if self.open != Some(kind) {
            self.close(events);
            self.open = Some(kind);
        }
        events.push(StreamEvent::delta(self.index, delta));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bedrock_core::{Collector, ContentBlock, TokenUsage};

    #[test]
    fn pieces_become_blocks_in_order() {
        let (mut blocks, mut events) = (Blocks::default(), Vec::new());
        assert!(!blocks.input("{}", &mut events));
        blocks.reasoning("hm", &mut events);
        blocks.signature("s".into(), &mut events);
        blocks.redacted(vec![1], &mut events);
        blocks.redacted(vec![2], &mut events);
        blocks.text("", &mut events);
        blocks.text("a", &mut events);
        blocks.text("b", &mut events);
        blocks.call("t1".into(), "f".into(), &mut events);
        assert!(blocks.input("{\"x\":", &mut events) && blocks.input("1}", &mut events));
        blocks.call("t2".into(), "g".into(), &mut events);
        blocks.stop(StopReason::ToolUse, None, &mut events);
        let mut collector = Collector::new();
        events.push(StreamEvent::metadata(TokenUsage::default(), 0));
        events.into_iter().for_each(|event| collector.push(event).unwrap());
        let response = collector.finish().unwrap();
        let kinds: Vec<_> = response.message().content.iter().map(ContentBlock::kind).collect();
        let reasoning = "reasoningContent";
        assert_eq!(kinds, [reasoning, reasoning, reasoning, "text", "toolUse", "toolUse"]);
        assert_eq!(response.text(), "ab");
    }
}
