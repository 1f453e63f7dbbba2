//! From Cohere's events to the service's.

use std::time::Instant;

use bedrock_core::{Error, StopReason, StreamEvent, TokenUsage};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::remote::ask::find;
use crate::remote::blocks::Blocks;
use crate::remote::events::SseAnswer;
use crate::remote::failure::Malformed;
use crate::remote::sse::SseEvent;
use crate::remote::transport::Transport;

#[derive(Debug, Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    id: Option<String>,
    delta: Option<Delta>,
    logprobs: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
struct Delta {
    message: Option<Message>,
    finish_reason: Option<String>,
    error: Option<String>,
    usage: Option<Usage>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    /// An object in the events of content; a list in `message-start`.
    content: Value,
    tool_plan: Option<String>,
    tool_calls: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Content {
    text: Option<String>,
    thinking: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ToolCall {
    id: Option<String>,
    function: Function,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Function {
    name: Option<String>,
    arguments: Option<String>,
}

/// Numbers come as floats.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Usage {
    tokens: Option<Tokens>,
    billed_units: Option<Tokens>,
    cached_tokens: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tokens {
    input_tokens: Option<f64>,
    output_tokens: Option<f64>,
}

impl Usage {
    fn tokens(self) -> TokenUsage {
        let tokens = self.tokens.or(self.billed_units).unwrap_or_default();
        // Saturates; nothing is negative.
        let number = |value: Option<f64>| value.unwrap_or(0.0) as u32;
        let mut usage = TokenUsage::new(number(tokens.input_tokens), number(tokens.output_tokens));
        let cached = number(self.cached_tokens).min(usage.input_tokens);
        usage.input_tokens -= cached;
        usage.cache_read_input_tokens = (cached > 0).then_some(cached);
        usage
    }
}

/// An answer as it comes.
pub(super) struct Answer {
    transport: Transport,
    blocks: Blocks,
    id: Option<String>,
    logprobs: Vec<Value>,
    paths: Vec<String>,
    since: Instant,
}

impl Answer {
    pub(super) fn new(transport: Transport, paths: Vec<String>, since: Instant) -> Self {
        Self { transport, blocks: Blocks::default(), id: None, logprobs: Vec::new(), paths, since }
    }

    fn content(&mut self, message: Message, events: &mut Vec<StreamEvent>) -> Result<(), Error> {
        let content: Content = serde_json::from_value(message.content).map_err(Malformed::json("content"))?;
        self.blocks.reasoning(content.thinking.as_deref().unwrap_or_default(), events);
        self.blocks.text(content.text.as_deref().unwrap_or_default(), events);
        Ok(())
    }

    fn call(&mut self, message: Message, begins: bool, events: &mut Vec<StreamEvent>) -> Result<(), Error> {
        let call: ToolCall = serde_json::from_value(message.tool_calls).map_err(Malformed::json("a tool call"))?;
        let missing = |missing| Malformed::Missing { what: "a tool call", missing };
        if begins {
            let id = call.id.ok_or_else(|| missing("an id"))?;
            self.blocks.call(id, call.function.name.ok_or_else(|| missing("a name"))?, events);
        }
        if !self.blocks.input(call.function.arguments.as_deref().unwrap_or_default(), events) {
            return Err(missing("a beginning").into());
        }
        Ok(())
    }

    fn finish(&mut self, delta: Delta, events: &mut Vec<StreamEvent>) -> Result<(), Error> {
        let reason = delta.finish_reason.ok_or(Malformed::Truncated)?;
        let stop = match reason.as_str() {
            "COMPLETE" => StopReason::EndTurn,
            "STOP_SEQUENCE" => StopReason::StopSequence,
            "MAX_TOKENS" => StopReason::MaxTokens,
            "TOOL_CALL" => StopReason::ToolUse,
            "ERROR" | "ERROR_TOXIC" | "TIMEOUT" => {
                let said = self.transport.redacted(delta.error.unwrap_or_else(|| reason.clone()));
                return Err(Error::ModelStreamError {
                    message: format!("the server failed within the answer: {said}"),
                    original_status_code: None,
                    original_message: Some(said),
                });
            }
            other => StopReason::from(other),
        };
        let mut additional = Map::new();
        find(&self.paths, &json!({"id": self.id, "finish_reason": reason}), &mut additional);
        if !self.logprobs.is_empty() {
            additional.insert("logprobs".into(), std::mem::take(&mut self.logprobs).into());
        }
        self.blocks.stop(stop, (!additional.is_empty()).then_some(additional.into()), events);
        let latency = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        events.push(StreamEvent::metadata(delta.usage.unwrap_or_default().tokens(), latency));
        Ok(())
    }
}

impl SseAnswer for Answer {
    fn event(&mut self, event: SseEvent, events: &mut Vec<StreamEvent>) -> Result<bool, Error> {
        if event.data.trim() == "[DONE]" {
            return Ok(false);
        }
        let event: Event = serde_json::from_str(&event.data).map_err(Malformed::json("an event"))?;
        let mut delta = event.delta.unwrap_or_default();
        let message = delta.message.take().unwrap_or_default();
        self.logprobs.extend(event.logprobs.filter(|value| !value.is_null()));
        match event.kind.as_str() {
            "message-start" => {
                self.id = event.id;
                self.blocks.begin(events);
            }
            "content-start" => {
                self.blocks.close(events);
                self.content(message, events)?;
            }
            "content-delta" => self.content(message, events)?,
            "content-end" | "tool-call-end" => self.blocks.close(events),
            "tool-plan-delta" => self.blocks.text(message.tool_plan.as_deref().unwrap_or_default(), events),
            "tool-call-start" => self.call(message, true, events)?,
            "tool-call-delta" => self.call(message, false, events)?,
            "message-end" => {
                self.finish(delta, events)?;
                return Ok(true);
            }
            // Citations are switched off; what remains is for debugging.
            _ => {}
        }
        Ok(false)
    }

    fn end(&mut self, _events: &mut Vec<StreamEvent>) -> Result<(), Error> {
        Err(Malformed::Truncated.into())
    }
}
