//! From Anthropic's events to the service's.

use std::time::Instant;

use bedrock_core::{CacheDetail, CacheTtl, Error, StopReason, StreamEvent, TokenUsage};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::citation;
use crate::remote::ask::find;
use crate::remote::blocks::Blocks;
use crate::remote::events::SseAnswer;
use crate::remote::failure::{Malformed, words};
use crate::remote::sse::SseEvent;
use crate::remote::transport::Transport;

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event {
    MessageStart {
        message: Message,
    },
    ContentBlockStart {
        content_block: Value,
    },
    ContentBlockDelta {
        delta: Delta,
    },
    ContentBlockStop {},
    MessageDelta {
        delta: Stop,
        usage: Option<Usage>,
    },
    MessageStop {},
    Error {
        error: Value,
    },
    /// `ping`, and what is newer than this version; the documentation asks for it to be passed over.
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
struct Message {
    id: Option<String>,
    model: Option<String>,
    usage: Option<Usage>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block {
    Text { text: String },
    Thinking { thinking: String },
    RedactedThinking { data: String },
    ToolUse { id: String, name: String },
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
enum Delta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "input_json_delta")]
    Input { partial_json: String },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: String },
    #[serde(rename = "signature_delta")]
    Signature { signature: String },
    #[serde(rename = "citations_delta")]
    Citation { citation: Value },
}

#[derive(Debug, Default, Deserialize)]
struct Stop {
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Usage {
    input_tokens: Option<u32>,
    output_tokens: Option<u32>,
    cache_read_input_tokens: Option<u32>,
    cache_creation_input_tokens: Option<u32>,
    cache_creation: Option<CacheCreation>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(default)]
struct CacheCreation {
    ephemeral_5m_input_tokens: u32,
    ephemeral_1h_input_tokens: u32,
}

impl Usage {
    /// What a later report says counts.
    fn update(&mut self, later: Usage) {
        self.input_tokens = later.input_tokens.or(self.input_tokens);
        self.output_tokens = later.output_tokens.or(self.output_tokens);
        self.cache_read_input_tokens = later.cache_read_input_tokens.or(self.cache_read_input_tokens);
        self.cache_creation_input_tokens = later.cache_creation_input_tokens.or(self.cache_creation_input_tokens);
        self.cache_creation = later.cache_creation.or(self.cache_creation);
    }

    fn tokens(&self) -> TokenUsage {
        let mut usage = TokenUsage::new(self.input_tokens.unwrap_or(0), self.output_tokens.unwrap_or(0));
        usage.cache_read_input_tokens = self.cache_read_input_tokens.filter(|tokens| *tokens > 0);
        usage.cache_write_input_tokens = self.cache_creation_input_tokens.filter(|tokens| *tokens > 0);
        for cached in [usage.cache_read_input_tokens, usage.cache_write_input_tokens].into_iter().flatten() {
            usage.total_tokens = usage.total_tokens.saturating_add(cached);
        }
        let created = self.cache_creation.unwrap_or_default();
        let by_time = [
            (CacheTtl::FiveMinutes, created.ephemeral_5m_input_tokens),
            (CacheTtl::OneHour, created.ephemeral_1h_input_tokens),
        ];
        let details = by_time.into_iter().filter(|(_, tokens)| *tokens > 0);
        usage.cache_details = details.map(|(ttl, input_tokens)| CacheDetail { ttl, input_tokens }).collect();
        usage
    }
}

/// An answer as it comes.
pub(super) struct Answer {
    transport: Transport,
    blocks: Blocks,
    head: Map<String, Value>,
    usage: Usage,
    stop: Stop,
    paths: Vec<String>,
    since: Instant,
}

impl Answer {
    pub(super) fn new(transport: Transport, paths: Vec<String>, since: Instant) -> Self {
        let (blocks, head, usage, stop) = (Blocks::default(), Map::new(), Usage::default(), Stop::default());
        Self { transport, blocks, head, usage, stop, paths, since }
    }

    fn start(&mut self, block: Value, events: &mut Vec<StreamEvent>) -> Result<(), Error> {
        self.blocks.close(events);
        match serde_json::from_value(block).map_err(Malformed::json("a content block"))? {
            Block::Text { text } => self.blocks.text(&text, events),
            Block::Thinking { thinking } => self.blocks.reasoning(&thinking, events),
            Block::RedactedThinking { data } => self.blocks.redacted(data.into_bytes(), events),
            Block::ToolUse { id, name } => self.blocks.call(id, name, events),
        }
        Ok(())
    }

    fn delta(&mut self, delta: Delta, events: &mut Vec<StreamEvent>) -> Result<(), Error> {
        match delta {
            Delta::Text { text } => self.blocks.text(&text, events),
            Delta::Thinking { thinking } => self.blocks.reasoning(&thinking, events),
            Delta::Signature { signature } => self.blocks.signature(signature, events),
            Delta::Citation { citation } => {
                let citation = citation::incoming(citation).map_err(Malformed::json("a citation"))?;
                self.blocks.citation(citation, events);
            }
            Delta::Input { partial_json } => {
                if !self.blocks.input(&partial_json, events) {
                    return Err(Malformed::Missing { what: "input of a tool", missing: "a call" }.into());
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self, events: &mut Vec<StreamEvent>) -> Result<(), Error> {
        let stop = std::mem::take(&mut self.stop);
        let reason = stop.stop_reason.ok_or(Malformed::Truncated)?;
        let mut all = std::mem::take(&mut self.head);
        all.insert("stop_reason".into(), reason.clone().into());
        all.insert("stop_sequence".into(), stop.stop_sequence.into());
        let mut additional = Map::new();
        find(&self.paths, &all.into(), &mut additional);
        let reason = match reason.as_str() {
            "refusal" => StopReason::ContentFiltered,
            other => StopReason::from(other),
        };
        self.blocks.stop(reason, (!additional.is_empty()).then_some(additional.into()), events);
        let latency = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        events.push(StreamEvent::metadata(self.usage.tokens(), latency));
        Ok(())
    }
}

impl SseAnswer for Answer {
    fn event(&mut self, event: SseEvent, events: &mut Vec<StreamEvent>) -> Result<bool, Error> {
        match serde_json::from_str(&event.data).map_err(Malformed::json("an event"))? {
            Event::MessageStart { message } => {
                self.blocks.begin(events);
                for (name, value) in [("id", message.id), ("model", message.model)] {
                    self.head.insert(name.into(), value.into());
                }
                self.usage.update(message.usage.unwrap_or_default());
            }
            Event::ContentBlockStart { content_block } => self.start(content_block, events)?,
            Event::ContentBlockDelta { delta } => self.delta(delta, events)?,
            Event::ContentBlockStop {} => self.blocks.close(events),
            Event::MessageDelta { delta, usage } => {
                self.stop = Stop {
                    stop_reason: delta.stop_reason.or(self.stop.stop_reason.take()),
                    stop_sequence: delta.stop_sequence.or(self.stop.stop_sequence.take()),
                };
                self.usage.update(usage.unwrap_or_default());
            }
            Event::MessageStop {} => {
                self.finish(events)?;
                return Ok(true);
            }
            Event::Error { error } => {
                let (kind, said) = (error["type"].as_str().unwrap_or_default(), words(&json!({"error": error})).1);
                let said = self.transport.redacted(said.unwrap_or_else(|| "without saying why".into()));
                let message = format!("the server failed within the answer: {said}");
                return Err(match kind {
                    "overloaded_error" => Error::service_unavailable(message),
                    "rate_limit_error" => Error::throttling(message),
                    "invalid_request_error" => Error::validation(message),
                    _ => Error::ModelStreamError { message, original_status_code: None, original_message: Some(said) },
                });
            }
            Event::Other => {}
        }
        Ok(false)
    }

    fn end(&mut self, _events: &mut Vec<StreamEvent>) -> Result<(), Error> {
        Err(Malformed::Truncated.into())
    }
}
