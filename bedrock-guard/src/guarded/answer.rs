//! A guarded answer: events of the model in, events for the caller out.

use std::collections::BTreeMap;
use std::time::Instant;

use bedrock_core::{
    CitationsDelta, ContentBlockDelta, ContentBlockDeltaEvent, ContentBlockStart, ContentBlockStartEvent,
    ConverseMetrics, ConverseStreamMetadataEvent, ConverseTrace, Error, GuardrailContentSource,
    GuardrailTraceAssessment, ImageFormat, ReasoningContentBlockDelta, StopReason, StreamEvent, TokenUsage,
    ToolResultBlockDelta, ToolUseBlockDelta,
};

use crate::assess::Action;
use crate::guardrail::Guardrail;
use crate::hold::{Hold, Released};
use crate::picture::Picture;
use crate::policy::grounding::Material;

use super::judge::Judge;
use super::{Guarded, Mode, OnFailure};

/// Bytes of the input of one tool call that are judged; a longer one is a failure to judge.
const TOOL_INPUT_LIMIT: usize = 1 << 20;
/// Why an answer ended.
const MODEL_FAILED: &str = "a model that the guardrail asks failed";

/// A block of the answer that is open.
enum Open<'g> {
    Text(Hold<'g>),
    Reasoning {
        hold: Hold<'g>,
        masked: bool,
    },
    ToolUse {
        start: ContentBlockStartEvent,
        input: String,
    },
    ToolResult(Hold<'g>),
    /// The start waits for the picture: a block that has begun and shows nothing would be a broken answer.
    Image {
        format: ImageFormat,
        start: Option<ContentBlockStartEvent>,
    },
}

/// The way out: events of the model in, events for the caller out. What was judged is recorded once, with the trace; or when it is dropped before, because the caller or the model gave up.
pub(super) struct Output<'g> {
    guardrail: &'g Guardrail,
    on_failure: OnFailure,
    hold_limit: usize,
    mode: Mode,
    started: Instant,
    judge: Judge<'g>,
    open: BTreeMap<u32, Open<'g>>,
    /// Blocks of which something was given out.
    begun: u32,
    /// The block that was begun and not ended.
    unended: Option<u32>,
    /// What the model said, kept for a full trace only.
    raw: String,
    pub(super) blocked: bool,
    pub(super) reason: Option<&'static str>,
    pub(super) trace: GuardrailTraceAssessment,
    recorded: bool,
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        self.record();
    }
}

impl<'g> Output<'g> {
    pub(super) fn new<M>(guarded: &'g Guarded<M>, mode: Mode, started: Instant, material: Material) -> Self {
        let side = guarded.guardrail.side(&GuardrailContentSource::Output);
        let mut judge = Judge::new(side, guarded.on_failure == OnFailure::Open);
        judge.material = material;
        Self {
            guardrail: &guarded.guardrail,
            on_failure: guarded.on_failure,
            hold_limit: guarded.hold_limit,
            mode,
            started,
            judge,
            open: BTreeMap::new(),
            begun: 0,
            unended: None,
            raw: String::new(),
            blocked: false,
            reason: None,
            trace: GuardrailTraceAssessment::default(),
            recorded: false,
        }
    }

    /// Whether there was anything to judge.
    fn has_judged(&self) -> bool {
        self.judge.total > 0 || self.judge.images > 0 || !self.judge.findings.is_empty()
    }

    fn record(&mut self) {
        if self.has_judged() && !std::mem::replace(&mut self.recorded, true) {
            self.judge.record(self.guardrail, self.started);
        }
    }

    /// What the caller sees of one event. After something blocked: the refusal, and nothing more is to be pushed.
    pub(super) async fn push(&mut self, event: StreamEvent) -> Vec<StreamEvent> {
        let mut out = Vec::new();
        self.take(event, &mut out).await;
        if self.blocked {
            // The events of this step were about to be given out together with the match.
            out.clear();
            let message = self.guardrail.blocked_message(&GuardrailContentSource::Output).to_owned();
            return self.refusal(message);
        }
        for event in &out {
            match event {
                StreamEvent::ContentBlockStart(ContentBlockStartEvent { content_block_index: index, .. }) => {
                    (self.begun, self.unended) = (index.saturating_add(1), Some(*index));
                }
                StreamEvent::ContentBlockDelta(ContentBlockDeltaEvent { content_block_index: index, .. }) => {
                    (self.begun, self.unended) = (index.saturating_add(1), Some(*index));
                }
                StreamEvent::ContentBlockStop(_) => self.unended = None,
                _ => {}
            }
        }
        out
    }

    async fn take(&mut self, event: StreamEvent, out: &mut Vec<StreamEvent>) {
        match event {
            StreamEvent::ContentBlockStart(start) => {
                let index = start.content_block_index;
                match &start.start {
                    ContentBlockStart::ToolUse(_) if self.mode.sync => {
                        self.open.insert(index, Open::ToolUse { start, input: String::new() });
                    }
                    ContentBlockStart::ToolUse(_) => {
                        self.open.insert(index, Open::ToolUse { start: start.clone(), input: String::new() });
                        out.push(StreamEvent::ContentBlockStart(start));
                    }
                    ContentBlockStart::ToolResult(_) => {
                        self.open.insert(index, Open::ToolResult(self.hold()));
                        out.push(StreamEvent::ContentBlockStart(start));
                    }
                    ContentBlockStart::Image(image) => {
                        let format = image.format.clone();
                        self.open.insert(index, Open::Image { format, start: Some(start) });
                    }
                    _ => out.push(StreamEvent::ContentBlockStart(start)),
                }
            }
            StreamEvent::ContentBlockDelta(delta) => self.delta(delta.content_block_index, delta.delta, out).await,
            StreamEvent::ContentBlockStop(stop) => {
                let index = stop.content_block_index;
                let empty = match self.open.get(&index) {
                    Some(Open::Text(_)) => Some(StreamEvent::text(index, "")),
                    Some(Open::Reasoning { .. }) => Some(reasoning(index, String::new())),
                    _ => None,
                };
                self.end(index, out).await;
                // Of a block without a character nothing was given out so far, and what has not begun can't end.
                if out.is_empty() && self.unended != Some(index) {
                    out.extend(empty);
                }
                out.push(StreamEvent::ContentBlockStop(stop));
            }
            StreamEvent::Metadata(metadata) => {
                let mut metadata = metadata;
                self.add_trace(&mut metadata);
                out.push(StreamEvent::Metadata(metadata));
            }
            StreamEvent::MessageStop(stop) => {
                // A model that ends its message without ending its blocks has broken the protocol; nothing is lost.
                for index in self.open.keys().copied().collect::<Vec<_>>() {
                    self.end(index, out).await;
                }
                out.push(StreamEvent::MessageStop(stop));
            }
            other => out.push(other),
        }
    }

    fn hold(&self) -> Hold<'g> {
        Hold::new(self.judge.side, self.hold_limit).lenient(self.judge.lenient)
    }

    /// A hold for the text of the answer: an answer that is held against a source waits until it is whole.
    fn text_hold(&self) -> Hold<'g> {
        let Material { source, query } = &self.judge.material;
        if self.judge.side.checks_grounding() && !(source.is_empty() && query.is_empty()) {
            Hold::whole(self.judge.side, self.hold_limit).lenient(self.judge.lenient)
        } else {
            self.hold()
        }
    }

    /// Holds a whole text against its source.
    async fn ground(&mut self, hold: &Hold<'_>) {
        let Some(text) = hold.text() else { return };
        match self.judge.side.ground(&self.judge.material, text).await {
            Ok(findings) => {
                self.judge.findings.extend(findings);
                self.blocked |= self.judge.blocked();
            }
            Err(Error::Validation { .. }) => self.fail("the answer or its source is too long to be checked"),
            Err(_) => self.fail(MODEL_FAILED),
        }
    }

    fn count(&mut self, text: &str) {
        let characters = text.chars().count();
        self.judge.judged.characters += characters;
        self.judge.total += characters;
        if self.mode.full {
            self.raw.push_str(text);
        }
    }

    async fn delta(&mut self, index: u32, delta: ContentBlockDelta, out: &mut Vec<StreamEvent>) {
        match delta {
            ContentBlockDelta::Text(text) => {
                self.count(&text);
                let fresh = self.text_hold();
                let Open::Text(hold) = self.open.entry(index).or_insert(Open::Text(fresh)) else {
                    return self.protocol_violation();
                };
                let released = push(hold, &text, self.on_failure, self.mode.sync).await;
                if let Some(text) = self.settle(released, text) {
                    out.push(StreamEvent::text(index, text));
                }
            }
            ContentBlockDelta::ReasoningContent(ReasoningContentBlockDelta::Text(text)) => {
                self.count(&text);
                let fresh = self.hold();
                let open = self.open.entry(index).or_insert(Open::Reasoning { hold: fresh, masked: false });
                let Open::Reasoning { hold, masked } = open else { return self.protocol_violation() };
                let released = push(hold, &text, self.on_failure, self.mode.sync).await;
                *masked |= released.findings.iter().any(|finding| finding.action == Action::Mask);
                if let Some(text) = self.settle(released, text) {
                    out.push(reasoning(index, text));
                }
            }
            ContentBlockDelta::ReasoningContent(ReasoningContentBlockDelta::Signature(signature)) => {
                // The signature vouches for the text before it. It does not vouch for a masked one.
                let masked = match self.open.get_mut(&index) {
                    Some(Open::Reasoning { hold, masked }) => {
                        let released = hold.finish().await;
                        *masked |= released.findings.iter().any(|finding| finding.action == Action::Mask);
                        let masked = *masked;
                        let fresh = self.hold();
                        self.open.insert(index, Open::Reasoning { hold: fresh, masked });
                        if let Some(text) = self.settle(released, String::new()) {
                            out.push(reasoning(index, text));
                        }
                        masked && self.mode.sync
                    }
                    _ => false,
                };
                if !masked {
                    let delta = ReasoningContentBlockDelta::Signature(signature);
                    out.push(StreamEvent::delta(index, ContentBlockDelta::ReasoningContent(delta)));
                }
            }
            ContentBlockDelta::ToolUse(ToolUseBlockDelta { input: piece }) => {
                self.count(&piece);
                let Some(Open::ToolUse { input, .. }) = self.open.get_mut(&index) else {
                    return self.protocol_violation();
                };
                let open = self.on_failure == OnFailure::Open;
                if input.len() + piece.len() <= TOOL_INPUT_LIMIT || open {
                    input.push_str(&piece);
                } else {
                    self.fail("the input of a tool call is longer than the guardrail judges");
                }
                if !self.mode.sync {
                    out.push(StreamEvent::delta(index, ContentBlockDelta::ToolUse(ToolUseBlockDelta { input: piece })));
                }
            }
            ContentBlockDelta::ToolResult(parts) => {
                let mut kept = Vec::new();
                for part in parts {
                    match part {
                        ToolResultBlockDelta::Text(text) => {
                            self.count(&text);
                            let fresh = self.hold();
                            let Open::ToolResult(hold) = self.open.entry(index).or_insert(Open::ToolResult(fresh))
                            else {
                                return self.protocol_violation();
                            };
                            let released = push(hold, &text, self.on_failure, self.mode.sync).await;
                            if let Some(text) = self.settle(released, text) {
                                kept.push(ToolResultBlockDelta::Text(text));
                            }
                        }
                        ToolResultBlockDelta::Json(mut value) => {
                            // The text before it is complete.
                            if let Some(Open::ToolResult(hold)) = self.open.get_mut(&index) {
                                let fresh = Hold::new(self.judge.side, self.hold_limit).lenient(self.judge.lenient);
                                let released = std::mem::replace(hold, fresh).finish().await;
                                if let Some(text) = self.settle(released, String::new()) {
                                    kept.push(ToolResultBlockDelta::Text(text));
                                }
                            }
                            let given = value.clone();
                            let judged = self.judge.json(&mut value).await;
                            self.note(judged);
                            kept.push(ToolResultBlockDelta::Json(if self.mode.sync { value } else { given }));
                        }
                        other => kept.push(other),
                    }
                }
                if !kept.is_empty() {
                    out.push(StreamEvent::delta(index, ContentBlockDelta::ToolResult(kept)));
                }
            }
            ContentBlockDelta::Citation(mut citation) => {
                let given = citation.clone();
                self.citation(&mut citation).await;
                let citation = if self.mode.sync { citation } else { given };
                out.push(StreamEvent::delta(index, ContentBlockDelta::Citation(citation)));
            }
            ContentBlockDelta::Image(delta) => {
                let Some(Open::Image { format, start }) = self.open.get_mut(&index) else {
                    return self.protocol_violation();
                };
                out.extend(start.take().map(StreamEvent::ContentBlockStart));
                if let Some(source) = &delta.source {
                    match self.judge.picture(Picture::of(format, source)).await {
                        Ok(Err(_)) => self.fail("the answer has a picture that the guardrail can't judge"),
                        judged => self.note(judged.map(drop)),
                    }
                }
                out.push(StreamEvent::delta(index, ContentBlockDelta::Image(delta)));
            }
            other => out.push(StreamEvent::delta(index, other)),
        }
    }

    async fn citation(&mut self, citation: &mut CitationsDelta) {
        let passages = citation.source_content.iter_mut().filter_map(|passage| passage.text.as_mut());
        for text in citation.title.iter_mut().chain(passages) {
            let judged = self.judge.text(text).await;
            self.note(judged);
        }
    }

    /// Takes note of a judgement that was added to the findings, or of its failure.
    fn note(&mut self, judged: Result<(), Error>) {
        self.blocked |= self.judge.blocked();
        if judged.is_err() {
            self.fail(MODEL_FAILED);
        }
    }

    /// Gives out what is left of a block.
    async fn end(&mut self, index: u32, out: &mut Vec<StreamEvent>) {
        match self.open.remove(&index) {
            None => {}
            Some(Open::Image { start, .. }) => out.extend(start.map(StreamEvent::ContentBlockStart)),
            Some(Open::Text(mut hold)) => {
                self.ground(&hold).await;
                if let Some(text) = self.settle(hold.finish().await, String::new()) {
                    out.push(StreamEvent::text(index, text));
                }
            }
            Some(Open::Reasoning { mut hold, .. }) => {
                if let Some(text) = self.settle(hold.finish().await, String::new()) {
                    out.push(reasoning(index, text));
                }
            }
            Some(Open::ToolResult(mut hold)) => {
                if let Some(text) = self.settle(hold.finish().await, String::new()) {
                    let part = vec![ToolResultBlockDelta::Text(text)];
                    out.push(StreamEvent::delta(index, ContentBlockDelta::ToolResult(part)));
                }
            }
            Some(Open::ToolUse { start, input }) => {
                let judged = self.tool_input(&input).await;
                if self.mode.sync {
                    out.push(StreamEvent::ContentBlockStart(start));
                    if !judged.is_empty() {
                        let delta = ContentBlockDelta::ToolUse(ToolUseBlockDelta { input: judged });
                        out.push(StreamEvent::delta(index, delta));
                    }
                }
            }
        }
    }

    /// The input of a tool call with masks. What is no JSON is judged as text.
    async fn tool_input(&mut self, input: &str) -> String {
        let before = self.judge.findings.len();
        let (found, judged) = match serde_json::from_str::<serde_json::Value>(input) {
            Ok(mut value) => {
                let found = self.judge.find_json(&mut value).await;
                (found, value.to_string())
            }
            Err(_) => {
                let found = self.judge.find(input).await;
                let masked = found.as_ref().map(|found| self.judge.side.mask(input, 0..input.len(), found));
                let masked = masked.unwrap_or_default();
                (found, masked)
            }
        };
        let found = found.map(|found| self.judge.findings.extend(found));
        self.note(found);
        let masked = self.judge.findings[before..].iter().any(|finding| finding.action == Action::Mask);
        // What nothing was found in is given out as the model wrote it.
        if masked { judged } else { input.to_owned() }
    }

    /// Takes note of what a hold released. Returns the text to give out, `given` being what came in.
    fn settle(&mut self, released: Released, given: String) -> Option<String> {
        self.blocked |= released.blocked();
        self.judge.findings.extend(released.findings);
        if released.failed {
            self.fail(MODEL_FAILED);
        }
        if released.overflow && self.mode.sync {
            self.fail("more text waits than the guardrail holds back");
        }
        let text = if self.mode.sync { released.text } else { given };
        (!text.is_empty()).then_some(text)
    }

    fn fail(&mut self, why: &'static str) {
        if self.on_failure == OnFailure::Closed {
            self.blocked = true;
            self.reason = Some(why);
        }
    }

    /// A delta that does not fit its block could carry text past the guardrail.
    fn protocol_violation(&mut self) {
        self.blocked = true;
        self.reason = Some("the model sent content that does not fit its block");
    }

    /// The message in place of an answer, and the end.
    pub(super) fn refusal(&mut self, message: String) -> Vec<StreamEvent> {
        let mut out = Vec::new();
        if let Some(index) = self.unended.take() {
            out.push(StreamEvent::block_stop(index));
        }
        let index = self.begun;
        out.push(StreamEvent::text(index, message));
        out.push(StreamEvent::block_stop(index));
        out.push(StreamEvent::message_stop(StopReason::GuardrailIntervened));
        let latency_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut metadata = ConverseStreamMetadataEvent {
            usage: TokenUsage::default(),
            metrics: ConverseMetrics { latency_ms },
            trace: None,
            performance_config: None,
            service_tier: None,
        };
        self.add_trace(&mut metadata);
        out.push(StreamEvent::Metadata(metadata));
        out
    }

    fn add_trace(&mut self, metadata: &mut ConverseStreamMetadataEvent) {
        let masks = self.mode.sync;
        self.record();
        let assessment =
            self.has_judged().then(|| self.judge.assessment(self.guardrail, self.mode, self.started, masks));
        if !self.mode.trace {
            return;
        }
        let mut trace = std::mem::take(&mut self.trace);
        if let Some(assessment) = assessment {
            trace.output_assessments.insert(self.guardrail.id().to_owned(), vec![assessment]);
        }
        if self.mode.full && !self.raw.is_empty() && (self.judge.blocked() || self.judge.masked()) {
            trace.model_output = vec![std::mem::take(&mut self.raw)];
        }
        let reason = match self.reason {
            Some(reason) => reason,
            None if self.judge.blocked() => "Guardrail blocked.",
            None if masks && self.judge.masked() => "Guardrail masked.",
            None => "No action.",
        };
        trace.action_reason = Some(reason.to_owned());
        // A guarded model inside this one has a trace of its own; its guardrail has another id.
        let inner = metadata.trace.get_or_insert_with(ConverseTrace::default);
        match &mut inner.guardrail {
            Some(known) => {
                known.model_output.extend(trace.model_output);
                known.input_assessment.extend(trace.input_assessment);
                known.output_assessments.extend(trace.output_assessments);
                known.action_reason = trace.action_reason;
            }
            empty => *empty = Some(trace),
        }
    }
}

fn reasoning(index: u32, text: String) -> StreamEvent {
    StreamEvent::delta(index, ContentBlockDelta::ReasoningContent(ReasoningContentBlockDelta::Text(text)))
}

/// Text into a hold. If too much waits and failures are open, the hold decides what it has.
async fn push(hold: &mut Hold<'_>, text: &str, on_failure: OnFailure, sync: bool) -> Released {
    let mut released = hold.push(text).await;
    if released.overflow && (on_failure == OnFailure::Open || !sync) {
        let rest = hold.cut().await;
        released.text.push_str(&rest.text);
        released.findings.extend(rest.findings);
        released.overflow = false;
    }
    released
}
