//! The events of an answer, made from what the engine generates.

use std::collections::VecDeque;
use std::time::Instant;

use bedrock_core::{
    ContentBlockDelta, ContentBlockStart, ConverseRequest, StopReason, StreamEvent, TokenUsage, ToolUseBlockDelta,
    ToolUseBlockStart,
};
use futures::StreamExt;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::has_cache_point;
use crate::chat_template::letters;
use crate::engine::{Generation, GenerationEvent, GenerationUsage};
use crate::error::Error;
use crate::generate::{FinishReason, TokenLogProb};
use crate::language_model::LanguageModel;
use crate::tool_use::{CallOutcome, CallParser, CallPiece};

/// Names of calls: a hash of all that was said before, so that equal answers have equal ones.
pub(super) struct CallIds {
    hash: Sha256,
}

impl CallIds {
    pub(super) fn new(prompt: &[u32]) -> Self {
        let mut ids = Self { hash: Sha256::new() };
        prompt.iter().for_each(|id| ids.hash.update(id.to_le_bytes()));
        ids
    }

    fn next(&mut self) -> String {
        self.hash.update("call");
        format!("tooluse_{}", letters(&self.hash.clone().finalize(), 22))
    }
}

/// The answer as it is generated.
pub(super) struct Answer<'a> {
    model: &'a LanguageModel,
    request: &'a ConverseRequest,
    generation: Generation,
    ready: VecDeque<StreamEvent>,
    log_probs: Vec<Value>,
    calls: Option<(CallParser, CallIds)>,
    /// The content block that is open or comes next.
    index: u32,
    in_text: bool,
    ended: bool,
    since: Instant,
}

impl<'a> Answer<'a> {
    /// An answer of which nothing has come yet; with tools, what finds their calls.
    pub(super) fn new(
        model: &'a LanguageModel,
        request: &'a ConverseRequest,
        generation: Generation,
        calls: Option<(CallParser, CallIds)>,
        since: Instant,
    ) -> Self {
        Self {
            model,
            request,
            generation,
            ready: VecDeque::from([StreamEvent::message_start()]),
            log_probs: Vec::new(),
            calls,
            index: 0,
            in_text: false,
            ended: false,
            since,
        }
    }

    pub(super) async fn next(&mut self) -> Option<Result<StreamEvent, bedrock_core::Error>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            if self.ended {
                return None;
            }
            match StreamExt::next(&mut self.generation).await {
                Some(Ok(GenerationEvent::Token { id, text, log_prob })) => {
                    if let Some((_, ids)) = &mut self.calls {
                        ids.hash.update(id.to_le_bytes());
                    }
                    if let Some(log_prob) = log_prob {
                        self.log_probs.push(self.log_prob(&log_prob));
                    }
                    self.write(text);
                }
                Some(Ok(GenerationEvent::Finished { reason, text, usage })) => {
                    self.write(text);
                    self.finish(reason, usage);
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Some(Err(error.into()));
                }
                None => {
                    self.ended = true;
                    return Some(Err(Error::EngineStopped.into()));
                }
            }
        }
    }

    fn write(&mut self, text: String) {
        let pieces = match &mut self.calls {
            Some((parser, _)) => parser.push(&text),
            None => vec![CallPiece::Text(text)],
        };
        pieces.into_iter().for_each(|piece| self.emit(piece));
    }

    fn emit(&mut self, piece: CallPiece) {
        match piece {
            CallPiece::Text(text) if text.is_empty() => {}
            CallPiece::Text(text) => {
                self.in_text = true;
                self.ready.push_back(StreamEvent::text(self.index, text));
            }
            CallPiece::Begin(name) => {
                self.end_text();
                let tool_use_id = self.calls.as_mut().map(|(_, ids)| ids.next()).unwrap_or_default();
                let start = ContentBlockStart::ToolUse(ToolUseBlockStart { tool_use_id, name, kind: None });
                self.ready.push_back(StreamEvent::block_start(self.index, start));
            }
            CallPiece::Input(input) => {
                let delta = ContentBlockDelta::ToolUse(ToolUseBlockDelta { input });
                self.ready.push_back(StreamEvent::delta(self.index, delta));
            }
            CallPiece::End => self.end_block(),
        }
    }

    fn end_text(&mut self) {
        if std::mem::take(&mut self.in_text) {
            self.end_block();
        }
    }

    fn end_block(&mut self) {
        self.ready.push_back(StreamEvent::block_stop(self.index));
        self.index += 1;
    }

    fn finish(&mut self, reason: Option<FinishReason>, usage: GenerationUsage) {
        self.ended = true;
        let (pieces, outcome) = match &mut self.calls {
            Some((parser, _)) => parser.finish(),
            None => (Vec::new(), CallOutcome::Text),
        };
        pieces.into_iter().for_each(|piece| self.emit(piece));
        self.end_text();
        let (stop, sequence) = match (reason, outcome) {
            (_, CallOutcome::Malformed) | (Some(FinishReason::EndOfText(_)), CallOutcome::Unfinished) => {
                (StopReason::MalformedToolUse, None)
            }
            (Some(FinishReason::EndOfText(_)), CallOutcome::Calls) => (StopReason::ToolUse, None),
            (Some(FinishReason::EndOfText(_)), CallOutcome::Text) => (StopReason::EndTurn, None),
            (Some(FinishReason::MaxTokens), _) => (StopReason::MaxTokens, None),
            (Some(FinishReason::StopSequence(sequence)), _) => (StopReason::StopSequence, Some(sequence)),
            (None, _) => (StopReason::ModelContextWindowExceeded, None),
        };
        let mut event = StreamEvent::message_stop(stop);
        if let StreamEvent::MessageStop(event) = &mut event {
            event.additional_model_response_fields = self.additional(sequence);
        }
        self.ready.push_back(event);
        let latency = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut event = StreamEvent::metadata(self.tokens(&usage), latency);
        if let StreamEvent::Metadata(event) = &mut event {
            event.service_tier.clone_from(&self.request.service_tier);
        }
        self.ready.push_back(event);
    }

    /// As the service counts: tokens from the cache, and those that a cache point asked to put there, are not input
    /// tokens. Prompts are remembered without a cache point as well, but nobody has asked to be told.
    fn tokens(&self, usage: &GenerationUsage) -> TokenUsage {
        let count = |tokens: usize| u32::try_from(tokens).unwrap_or(u32::MAX);
        let stored = if has_cache_point(self.request) { usage.stored_tokens } else { 0 };
        let mut tokens = TokenUsage::new(count(usage.prompt_tokens), count(usage.generated_tokens));
        tokens.input_tokens = count(usage.prompt_tokens.saturating_sub(usage.cached_tokens + stored));
        tokens.cache_read_input_tokens = (usage.cached_tokens > 0).then_some(count(usage.cached_tokens));
        tokens.cache_write_input_tokens = (stored > 0).then_some(count(stored));
        tokens
    }

    /// Log-probabilities if they were asked for, and what the request's JSON pointers find.
    fn additional(&mut self, sequence: Option<String>) -> Option<Value> {
        let mut fields = Map::new();
        let log_probs = std::mem::take(&mut self.log_probs);
        if !log_probs.is_empty() {
            fields.insert("logprobs".into(), log_probs.into());
        }
        let all = json!({ "stop_sequence": sequence });
        for path in &self.request.additional_model_response_field_paths {
            let name = path.trim_start_matches('/');
            if let Some(found) = all.pointer(path).filter(|_| !name.contains('/')) {
                fields.insert(name.to_string(), found.clone());
            }
        }
        (!fields.is_empty()).then_some(fields.into())
    }

    fn log_prob(&self, log_prob: &TokenLogProb) -> Value {
        let text = |id: u32| self.model.tokenizer().ok().and_then(|tokenizer| tokenizer.decode(&[id], false).ok());
        let entry = |id: u32, value: f32| json!({ "token": text(id), "id": id, "logprob": value });
        let mut value = entry(log_prob.id, log_prob.log_prob);
        value["top_logprobs"] = log_prob.top.iter().map(|(id, value)| entry(*id, *value)).collect();
        value
    }
}
