//! From chunks of `chat/completions` and `completions` to events.

use std::time::Instant;

use bedrock_core::{Error, ServiceTier, ServiceTierType, StopReason, StreamEvent, TokenUsage};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::remote::ask::find;
use crate::remote::blocks::Blocks;
use crate::remote::events::SseAnswer;
use crate::remote::failure::{Malformed, words};
use crate::remote::sse::SseEvent;
use crate::remote::transport::Transport;

/// A piece of an answer, or all of it: then `delta` is called `message`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::remote) struct Chunk {
    id: Option<String>,
    created: Option<Value>,
    model: Option<String>,
    system_fingerprint: Option<String>,
    service_tier: Option<String>,
    choices: Option<Vec<Choice>>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Choice {
    index: u32,
    #[serde(alias = "message")]
    delta: Option<Delta>,
    /// Of `completions`.
    text: Option<String>,
    finish_reason: Option<String>,
    /// vLLM's: the stop sequence, if it was one.
    stop_reason: Option<Value>,
    logprobs: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Delta {
    content: Option<String>,
    /// DeepSeek's, vLLM's and llama.cpp's name for it.
    reasoning_content: Option<String>,
    /// OpenRouter's; some servers send both.
    reasoning: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<ToolCall>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ToolCall {
    index: Option<u32>,
    id: Option<String>,
    function: Option<Function>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Function {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Usage {
    prompt_tokens: u32,
    completion_tokens: Option<u32>,
    prompt_tokens_details: Option<PromptTokens>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PromptTokens {
    cached_tokens: Option<u32>,
}

impl Usage {
    /// As the service counts: tokens from the cache are no input tokens.
    fn tokens(&self) -> TokenUsage {
        let cached = self.prompt_tokens_details.as_ref().and_then(|details| details.cached_tokens).unwrap_or(0);
        let cached = cached.min(self.prompt_tokens);
        let mut usage = TokenUsage::new(self.prompt_tokens, self.completion_tokens.unwrap_or(0));
        usage.input_tokens -= cached;
        usage.cache_read_input_tokens = (cached > 0).then_some(cached);
        usage
    }
}

/// An answer as it comes.
pub(in crate::remote) struct Answer {
    transport: Transport,
    blocks: Blocks,
    /// The call that is open.
    call: Option<u32>,
    calls: u32,
    refused: bool,
    finish: Option<(String, Option<String>)>,
    logprobs: Vec<Value>,
    usage: Option<TokenUsage>,
    tier: Option<String>,
    /// What of the answer is the same in all chunks.
    head: Map<String, Value>,
    paths: Vec<String>,
    since: Instant,
}

impl Answer {
    pub(in crate::remote) fn new(transport: Transport, paths: Vec<String>, since: Instant) -> Self {
        Self {
            transport,
            blocks: Blocks::default(),
            call: None,
            calls: 0,
            refused: false,
            finish: None,
            logprobs: Vec::new(),
            usage: None,
            tier: None,
            head: Map::new(),
            paths,
            since,
        }
    }

    /// Takes a chunk.
    pub(in crate::remote) fn chunk(&mut self, chunk: Chunk, events: &mut Vec<StreamEvent>) -> Result<(), Error> {
        if let Some(error) = chunk.error.filter(|error| !error.is_null()) {
            let said = words(&json!({ "error": error })).1.unwrap_or_else(|| "without saying why".into());
            return Err(Error::ModelStreamError {
                message: self.transport.redacted(format!("the server failed within the answer: {said}")),
                original_status_code: None,
                original_message: Some(self.transport.redacted(said)),
            });
        }
        self.blocks.begin(events);
        let head = [("id", chunk.id), ("model", chunk.model), ("system_fingerprint", chunk.system_fingerprint)];
        for (name, value) in head {
            if let Some(value) = value {
                self.head.insert(name.into(), value.into());
            }
        }
        if let Some(created) = chunk.created {
            self.head.insert("created".into(), created);
        }
        self.tier = chunk.service_tier.or(self.tier.take());
        if let Some(usage) = chunk.usage {
            self.usage = Some(usage.tokens());
        }
        // More than one answer is never asked for.
        for choice in chunk.choices.into_iter().flatten().filter(|choice| choice.index == 0) {
            self.choice(choice, events)?;
        }
        Ok(())
    }

    fn choice(&mut self, choice: Choice, events: &mut Vec<StreamEvent>) -> Result<(), Error> {
        let delta = choice.delta.unwrap_or_default();
        if let Some(text) = delta.reasoning_content.or(delta.reasoning) {
            self.blocks.reasoning(&text, events);
        }
        for text in [delta.content, choice.text].into_iter().flatten() {
            self.blocks.text(&text, events);
        }
        if let Some(text) = delta.refusal {
            self.refused = true;
            self.blocks.text(&text, events);
        }
        for (position, call) in (0..).zip(delta.tool_calls.into_iter().flatten()) {
            self.tool_call(call.index.unwrap_or(position), call, events)?;
        }
        if let Some(logprobs) = choice.logprobs {
            self.log(logprobs);
        }
        if let Some(reason) = choice.finish_reason {
            let sequence = choice.stop_reason.as_ref().and_then(Value::as_str).map(str::to_owned);
            self.finish = Some((reason, sequence));
        }
        Ok(())
    }

    fn tool_call(&mut self, index: u32, call: ToolCall, events: &mut Vec<StreamEvent>) -> Result<(), Error> {
        let function = call.function.unwrap_or_default();
        if self.call != Some(index) {
            let missing = |missing| Malformed::Missing { what: "a tool call", missing };
            if index < self.calls {
                // Blocks come one after the other, so a call that was left can't go on.
                return Err(missing("an index above those before it").into());
            }
            let name = function.name.filter(|name| !name.is_empty()).ok_or_else(|| missing("a name"))?;
            let id = call.id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call_{index}"));
            self.blocks.call(id, name, events);
            (self.call, self.calls) = (Some(index), index.saturating_add(1));
        }
        if !self.blocks.input(function.arguments.as_deref().unwrap_or_default(), events) {
            return Err(Malformed::Missing { what: "more of a tool call", missing: "an open one" }.into());
        }
        Ok(())
    }

    /// Keeps log-probabilities: of chats a list under `content`, of completions lists side by side.
    fn log(&mut self, logprobs: Value) {
        let Value::Object(mut fields) = logprobs else { return };
        if let Some(Value::Array(entries)) = fields.remove("content") {
            self.logprobs.extend(entries);
        } else if let Some(Value::Array(tokens)) = fields.remove("tokens") {
            let column = |name: &str, index: usize| fields.get(name).and_then(|list| list.get(index)).cloned();
            for (index, token) in tokens.into_iter().enumerate() {
                let (value, top) = (column("token_logprobs", index), column("top_logprobs", index));
                self.logprobs.push(json!({"token": token, "logprob": value, "top_logprobs": top}));
            }
        }
    }

    /// The answer is complete.
    pub(in crate::remote) fn finish(&mut self, events: &mut Vec<StreamEvent>) -> Result<(), Error> {
        let (reason, sequence) = self.finish.take().ok_or(Malformed::Truncated)?;
        let stop = match reason.as_str() {
            _ if self.refused => StopReason::ContentFiltered,
            "stop" | "tool_calls" | "function_call" if self.calls > 0 => StopReason::ToolUse,
            "stop" if sequence.is_some() => StopReason::StopSequence,
            "stop" | "eos" | "end_turn" => StopReason::EndTurn,
            "length" => StopReason::MaxTokens,
            "content_filter" => StopReason::ContentFiltered,
            other => StopReason::from(other),
        };
        let mut all = std::mem::take(&mut self.head);
        all.insert("choices".into(), json!([{"index": 0, "finish_reason": reason, "stop_reason": sequence}]));
        all.insert("stop_sequence".into(), sequence.into());
        all.insert("service_tier".into(), self.tier.clone().into());
        let mut additional = Map::new();
        find(&self.paths, &all.into(), &mut additional);
        if !self.logprobs.is_empty() {
            additional.insert("logprobs".into(), std::mem::take(&mut self.logprobs).into());
        }
        let additional = (!additional.is_empty()).then_some(additional.into());
        self.blocks.stop(stop, additional, events);
        let latency = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut event = StreamEvent::metadata(self.usage.take().unwrap_or_default(), latency);
        if let StreamEvent::Metadata(event) = &mut event {
            let tier = self.tier.as_deref().map(ServiceTierType::from).filter(ServiceTierType::is_known);
            event.service_tier = tier.map(|kind| ServiceTier { kind });
        }
        events.push(event);
        Ok(())
    }
}

impl SseAnswer for Answer {
    fn event(&mut self, event: SseEvent, events: &mut Vec<StreamEvent>) -> Result<bool, Error> {
        if event.data.trim() == "[DONE]" {
            self.finish(events)?;
            return Ok(true);
        }
        let chunk = serde_json::from_str(&event.data).map_err(Malformed::json("a chunk"))?;
        self.chunk(chunk, events)?;
        Ok(false)
    }

    /// Some servers leave `[DONE]` out.
    fn end(&mut self, events: &mut Vec<StreamEvent>) -> Result<(), Error> {
        self.finish(events)
    }
}
