//! Answers that are one text: what the families with a `prompt` have in common.

use bedrock_core::{ContentBlock, ContentBlockDelta, ConverseResponse, Error, StopReason, StreamEvent, TokenUsage};
use serde_json::Value;

use super::{Answer, well_formed};

/// How a family writes a text that is complete, a piece of one, and its end.
pub(super) trait TextForm: Send {
    fn whole(&mut self, text: &str, stop: &StopReason, usage: &TokenUsage) -> Value;
    fn piece(&mut self, text: &str) -> Value;
    fn end(&mut self, stop: &StopReason, usage: &TokenUsage) -> Value;
    fn is_streamed(&self) -> bool {
        true
    }
}

/// An answer in such a form.
pub(super) struct TextAnswer<F> {
    form: F,
    stop: Option<StopReason>,
}

impl<F: TextForm + 'static> TextAnswer<F> {
    pub(super) fn boxed(form: F) -> Box<dyn Answer> {
        Box::new(Self { form, stop: None })
    }
}

/// What a body of texts has no room for.
pub(super) fn no_room(kind: &str) -> Error {
    Error::model_error(format!("the model answered with {kind}, for which this form of answer has no room"))
}

impl<F: TextForm> Answer for TextAnswer<F> {
    fn whole(&mut self, response: &ConverseResponse) -> Result<Value, Error> {
        well_formed(&response.stop_reason)?;
        if let Some(block) = response.message().content.iter().find(|block| !is_text(block)) {
            return Err(no_room(block.kind()));
        }
        Ok(self.form.whole(&response.text(), &response.stop_reason, &response.usage))
    }

    fn chunks(&mut self, event: StreamEvent) -> Result<Vec<Value>, Error> {
        Ok(match event {
            StreamEvent::ContentBlockStart(_) => return Err(no_room("a block")),
            StreamEvent::ContentBlockDelta(event) => match event.delta {
                ContentBlockDelta::Text(text) if text.is_empty() => Vec::new(),
                ContentBlockDelta::Text(text) => vec![self.form.piece(&text)],
                // Reasoning and citations belong to texts but are none.
                ContentBlockDelta::Citation(_) | ContentBlockDelta::ReasoningContent(_) => Vec::new(),
                _ => return Err(no_room("a block")),
            },
            StreamEvent::MessageStop(event) => {
                well_formed(&event.stop_reason)?;
                self.stop = Some(event.stop_reason);
                Vec::new()
            }
            StreamEvent::Metadata(event) => {
                let stop = self.stop.take().unwrap_or(StopReason::EndTurn);
                vec![self.form.end(&stop, &event.usage)]
            }
            _ => Vec::new(),
        })
    }

    fn is_streamed(&self) -> bool {
        self.form.is_streamed()
    }
}

fn is_text(block: &ContentBlock) -> bool {
    matches!(block, ContentBlock::Text(_) | ContentBlock::CitationsContent(_) | ContentBlock::ReasoningContent(_))
}
