//! `Guarded<M>`: a chat model whose input and output a guardrail judges.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bedrock_core::{
    Blob, BoxFuture, ChatModel, CitationsDelta, ContentBlock, ContentBlockDelta, ContentBlockDeltaEvent,
    ContentBlockStart, ContentBlockStartEvent, ConverseMetrics, ConverseRequest, ConverseResponse,
    ConverseStreamMetadataEvent, ConverseTrace, DocumentBlock, DocumentContentBlock, DocumentFormat, DocumentSource,
    Error, EventStream, GuardrailAssessment, GuardrailContentBlock, GuardrailContentSource, GuardrailImageFormat,
    GuardrailImageSource, GuardrailStreamProcessingMode, GuardrailTrace, GuardrailTraceAssessment, ImageBlock,
    ImageFormat, ReasoningContentBlockDelta, Role, SearchResultBlock, StopReason, StreamEvent, SystemContentBlock,
    TokenUsage, ToolResultBlockDelta, ToolResultContentBlock, ToolUseBlockDelta, collect,
};
use futures::{StreamExt, stream};

use crate::assess::{Action, Finding, Side};
use crate::guardrail::{Guardrail, Judged, coverage, is_guarded, is_source};
use crate::hold::{Hold, Released};
use crate::json;
use crate::picture::{PICTURES, Picture};
use crate::policy::grounding::Material;
use crate::relay::Relay;

/// Default of [`Guarded::hold_limit`].
const HOLD_LIMIT: usize = 16 << 10;
/// Bytes of the input of one tool call that are judged; a longer one is a failure to judge.
const TOOL_INPUT_LIMIT: usize = 1 << 20;
/// Why an answer ended.
const MODEL_FAILED: &str = "a model that the guardrail asks failed";

/// What happens to content that the guardrail is unable to judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnFailure {
    /// It does not pass: a request is an [`Error::Validation`], an answer ends as if it had been blocked.
    #[default]
    Closed,
    /// It passes unjudged.
    Open,
}

/// A chat model behind a guardrail: itself a chat model.
///
/// # What is judged
/// On the way in: the text of users' turns, documents that are text, search results, guarded content of the instructions, and, unlike the
/// service, what tools answered; pictures too if a content filter is about them ([`GuardrailBuilder::image_classifier`](crate::GuardrailBuilder::image_classifier)). If the request has `guardContent` blocks, these alone are judged of the text, documents and
/// search results; tool results are judged all the same, because nobody who tags their own text has written them. The model sees the
/// masks. If something blocks, the model is not called. A prompt attack in a document, a search result, what a tool answered or a guarded
/// `grounding_source` is an indirect injection in records and counters.
///
/// On the way out: text, reasoning, citations, pictures, and, unlike the service, the inputs of tool calls and the answers of tools that the
/// serving side ran.
///
/// Sound and video pass, and pictures where no filter is about them. A document in a format that is not text (PDF, Word, …) can't be judged, nor can a picture that is
/// neither PNG nor JPEG, has more than 4 MiB, lies elsewhere, or is the 21st of a request: see [`OnFailure`].
///
/// # Streams
/// In mode `sync`, the default, text is held back until nothing that may still come can make it part of a match. What is given out is,
/// joined, exactly what masking the whole text gives; prose waits for a word or two. No more than
/// [`hold_limit`](Self::hold_limit) bytes wait: a match that could be longer is a failure to judge. The
/// input of a tool call waits until it is whole, and so does a text that is held against a source. A learned content filter judges
/// pieces of up to 600 bytes, and so much waits while one is switched on; denied topics are looked for in pieces of up to 300 (1,200 where only a judge looks). Where a model is asked
/// (tier `STANDARD`, denied topics, classifiers), a stream waits for it; what it fails to judge is a failure to judge.
///
/// # Grounding
/// What an answer is held against is the guarded content of the request that has the qualifiers `grounding_source` and `query`; a request
/// without has nothing to check. Each text block of the answer is checked by itself; one longer than the service's 5,000
/// characters is a failure to judge.
///
/// In mode `async` text is given out at once and judged behind; masks are not possible (findings that would be masked are reported
/// with action `NONE`), and what blocks ends the stream only after it was shown. As in the service.
///
/// # Blocked answers
/// From the moment something blocks, nothing more of the model is given out, and its stream is dropped, which stops its work. A
/// text block with `blockedOutputsMessaging` follows, and `guardrail_intervened`. What a stream gave out before holds no part of the
/// match. [`converse`](ChatModel::converse) answers with the message alone. Since the model was stopped, the usage of a
/// blocked answer is zero, as that of a blocked request is.
///
/// With a [`Vault`](crate::Vault) masks are pseudonyms that can be taken back: one guarded model for each conversation, around a model that they share.
///
/// Masks do not change the stop reason: callers act on `tool_use` and `max_tokens`. Whether something was masked is in the
/// trace.
///
/// ```
/// use bedrock_core::testing::{Reply, ScriptedModel};
/// use bedrock_core::{ChatModel, ConverseRequest, CreateGuardrailRequest};
/// use bedrock_guard::{Guarded, Guardrail};
///
/// let guardrail = Guardrail::from_json(include_str!("../../examples/data/guardrail.json"))?;
/// let model = Guarded::new(ScriptedModel::new([Reply::text("Write to ada@example.org.")]), guardrail);
/// let answer = model.converse_blocking(&ConverseRequest::new("any").user("My phone is (415) 555-0132. Who can help?"))?;
/// assert_eq!(answer.text(), "Write to {EMAIL}.");
/// assert_eq!(model.model().requests()[0].messages[0].text(), "My phone is {PHONE}. Who can help?");
/// # Ok::<(), bedrock_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Guarded<M> {
    model: M,
    guardrail: Guardrail,
    on_failure: OnFailure,
    hold_limit: usize,
    trace: GuardrailTrace,
}

impl<M> Guarded<M> {
    /// Puts `guardrail` before and behind `model`.
    pub fn new(model: M, guardrail: Guardrail) -> Self {
        Self {
            model,
            guardrail,
            on_failure: OnFailure::default(),
            hold_limit: HOLD_LIMIT,
            trace: GuardrailTrace::Disabled,
        }
    }

    /// What happens to content that can't be judged. Default: it does not pass.
    #[must_use]
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = on_failure;
        self
    }

    /// Bytes of an answer that may wait at most. Default: 16 KiB. A word, a built-in kind of personal data and most
    /// patterns decide within a few hundred; a pattern like `begin.*end` may reach any length.
    #[must_use]
    pub fn hold_limit(mut self, bytes: usize) -> Self {
        self.hold_limit = bytes;
        self
    }

    /// Whether answers carry the findings, if the request does not say. Default: disabled.
    #[must_use]
    pub fn trace(mut self, trace: GuardrailTrace) -> Self {
        self.trace = trace;
        self
    }

    /// The model.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The guardrail.
    pub fn guardrail(&self) -> &Guardrail {
        &self.guardrail
    }
}

/// A request as the model shall see it, and what was found in it.
struct Input<'s> {
    request: ConverseRequest,
    judge: Judge<'s>,
}

/// What one request asks of the guardrail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mode {
    trace: bool,
    full: bool,
    sync: bool,
}

/// Judges one text after the other and remembers what was found.
struct Judge<'s> {
    side: &'s Side,
    /// Whether text passes that a model fails to judge.
    lenient: bool,
    findings: Vec<Finding>,
    /// Whether what is judged now was written by somebody else than the user: attacks in it are indirect.
    third_party: bool,
    judged: Judged,
    /// All characters and pictures there were.
    total: usize,
    images: u32,
    /// Pictures that the classifier was asked about.
    asked: usize,
    /// What an answer is held against.
    material: Material,
}

impl Judge<'_> {
    /// Findings of a text. A model that fails to judge is an error or, if failures are open, finds nothing.
    async fn find(&self, text: &str) -> Result<Vec<Finding>, Error> {
        match self.side.judge(text).await {
            Err(_) if self.lenient => Ok(self.side.judge_at_once(text)),
            found => found,
        }
    }

    async fn text(&mut self, text: &mut String) -> Result<(), Error> {
        let characters = text.chars().count();
        self.judged.characters += characters;
        self.total += characters;
        let found = self.find(text).await?;
        if found.iter().any(|finding| finding.action == Action::Mask) {
            *text = self.side.mask(text, 0..text.len(), &found);
        }
        self.keep(found);
        Ok(())
    }

    fn skip(&mut self, text: &str) {
        self.total += text.chars().count();
    }

    async fn json(&mut self, value: &mut serde_json::Value) -> Result<(), Error> {
        let characters = value.to_string().chars().count();
        self.judged.characters += characters;
        self.total += characters;
        let found = self.find_json(value).await?;
        self.keep(found);
        Ok(())
    }

    fn keep(&mut self, found: Vec<Finding>) {
        let third_party = self.third_party;
        self.findings.extend(found.into_iter().map(|finding| Finding { third_party, ..finding }));
    }

    /// Findings of a value, which has the masks afterwards.
    async fn find_json(&self, value: &mut serde_json::Value) -> Result<Vec<Finding>, Error> {
        json::judge(self.side, value, self.lenient).await
    }

    async fn search_result(&mut self, result: &mut SearchResultBlock) -> Result<(), Error> {
        self.text(&mut result.title).await?;
        for piece in &mut result.content {
            self.text(&mut piece.text).await?;
        }
        Ok(())
    }

    /// Answers why the document can't be judged, if it can't.
    ///
    /// # Errors
    /// Those of the models that are asked.
    async fn document(&mut self, document: &mut DocumentBlock) -> Result<Result<(), String>, Error> {
        if let Some(context) = &mut document.context {
            self.text(context).await?;
        }
        match &mut document.source {
            DocumentSource::Text(text) => self.text(text).await?,
            DocumentSource::Content(pieces) => {
                for piece in pieces {
                    match piece {
                        DocumentContentBlock::Text(text) => self.text(text).await?,
                        _ => return Ok(Err("has a piece that is no text".to_owned())),
                    }
                }
            }
            DocumentSource::Bytes(bytes) => {
                let textual = matches!(
                    document.format,
                    None | Some(DocumentFormat::Txt | DocumentFormat::Md | DocumentFormat::Csv | DocumentFormat::Html)
                );
                let text = if textual { String::from_utf8(bytes.0.clone()).ok() } else { None };
                let Some(mut text) = text else {
                    let format = document.format.as_ref().map_or("unknown", DocumentFormat::as_str);
                    return Ok(Err(format!("is no UTF-8 text (format {format})")));
                };
                self.text(&mut text).await?;
                *bytes = Blob(text.into_bytes());
            }
            _ => return Ok(Err("lies elsewhere".to_owned())),
        }
        Ok(Ok(()))
    }

    /// Answers why the picture can't be judged, if it can't and a filter is about pictures.
    ///
    /// # Errors
    /// Those of the model that is asked.
    async fn picture(&mut self, picture: Result<Picture<'_>, String>) -> Result<Result<(), String>, Error> {
        self.images = self.images.saturating_add(1);
        if !self.side.judges_pictures() {
            return Ok(Ok(()));
        }
        let picture = match picture {
            Ok(_) if self.asked == PICTURES => return Ok(Err(format!("comes after the {PICTURES} that are judged"))),
            Ok(picture) => picture,
            Err(why) => return Ok(Err(why)),
        };
        self.asked += 1;
        match self.side.judge_picture(&picture).await {
            Ok(found) => {
                self.judged.pictures += 1;
                self.findings.extend(found);
            }
            Err(_) if self.lenient => {}
            Err(error) => return Err(error),
        }
        Ok(Ok(()))
    }

    fn assessment(&self, guardrail: &Guardrail, mode: Mode, started: Instant, masks: bool) -> GuardrailAssessment {
        let coverage = coverage(self.judged, self.total, self.images);
        let assessment = self.side.assessment(&self.findings, mode.full, masks);
        guardrail.complete(assessment, &self.side.source, coverage, started)
    }

    fn record(&self, guardrail: &Guardrail, started: Instant) {
        guardrail.record(&self.side.source, &self.findings, self.judged, started);
    }

    fn blocked(&self) -> bool {
        self.findings.iter().any(|finding| finding.action == Action::Block)
    }

    fn masked(&self) -> bool {
        self.findings.iter().any(|finding| finding.action == Action::Mask)
    }
}

impl<M: ChatModel> Guarded<M> {
    fn mode(&self, request: &ConverseRequest) -> Result<Mode, Error> {
        let config = request.guardrail_config.clone().unwrap_or_default();
        self.guardrail.answers_to(config.guardrail_identifier.as_deref(), config.guardrail_version.as_deref())?;
        let trace = config.trace.as_ref().unwrap_or(&self.trace);
        Ok(Mode {
            trace: matches!(trace, GuardrailTrace::Enabled | GuardrailTrace::EnabledFull),
            full: *trace == GuardrailTrace::EnabledFull,
            sync: config.stream_processing_mode != Some(GuardrailStreamProcessingMode::Async),
        })
    }

    /// The request as the model shall see it. Nothing is recorded.
    async fn judge_input(&self, request: &ConverseRequest) -> Result<Input<'_>, Error> {
        let mut request = request.clone();
        request.guardrail_config = None;
        let is_tagged = |block: &ContentBlock| matches!(block, ContentBlock::GuardContent(_));
        let restricted = request.messages.iter().any(|message| message.content.iter().any(is_tagged))
            || request.system.iter().any(|block| matches!(block, SystemContentBlock::GuardContent(_)));
        let side = self.guardrail.side(&GuardrailContentSource::Input);
        let mut judge = Judge {
            side,
            lenient: self.on_failure == OnFailure::Open,
            findings: Vec::new(),
            third_party: false,
            judged: Judged::default(),
            total: 0,
            images: 0,
            asked: 0,
            material: Material::default(),
        };
        let unread = |path: String, what: &str, why: Result<(), String>| match (why, self.on_failure) {
            (Ok(()), _) | (Err(_), OnFailure::Open) => Ok(()),
            (Err(why), OnFailure::Closed) => {
                Err(Error::validation(format!("{path}: the guardrail can't judge {what}, which {why}")))
            }
        };
        let unread_document = |path, document: &DocumentBlock, why| {
            if side.is_empty() { Ok(()) } else { unread(path, &format!("document {:?}", document.name), why) }
        };
        for (turn, message) in request.messages.iter_mut().enumerate() {
            for (index, block) in message.content.iter_mut().enumerate() {
                let path = || format!("messages.{turn}.content.{index}");
                let judged = message.role == Role::User && !restricted;
                judge.third_party = matches!(
                    block,
                    ContentBlock::Document(_) | ContentBlock::SearchResult(_) | ContentBlock::ToolResult(_)
                );
                match block {
                    ContentBlock::Text(text) if judged => judge.text(text).await?,
                    ContentBlock::Text(text) => judge.skip(text),
                    ContentBlock::Document(document) if judged => {
                        let why = judge.document(document).await?;
                        unread_document(path(), document, why)?;
                    }
                    ContentBlock::SearchResult(result) if judged => judge.search_result(result).await?,
                    ContentBlock::Image(image) if judged => {
                        let why = judge.picture(Picture::of(&image.format, &image.source)).await?;
                        unread(path(), "a picture", why)?;
                    }
                    ContentBlock::Image(_) => judge.images += 1,
                    ContentBlock::ToolResult(result) => {
                        for content in &mut result.content {
                            match content {
                                ToolResultContentBlock::Json(value) => judge.json(value).await?,
                                ToolResultContentBlock::Text(text) => judge.text(text).await?,
                                ToolResultContentBlock::Document(document) => {
                                    let why = judge.document(document).await?;
                                    unread_document(path(), document, why)?;
                                }
                                ToolResultContentBlock::SearchResult(result) => judge.search_result(result).await?,
                                ToolResultContentBlock::Image(image) => {
                                    let why = judge.picture(Picture::of(&image.format, &image.source)).await?;
                                    unread(path(), "a picture", why)?;
                                }
                                _ => {}
                            }
                        }
                    }
                    ContentBlock::GuardContent(content) => {
                        match guarded_content(&mut judge, content, |why| unread(path(), "a picture", why)).await? {
                            Some(Plain::Text(text)) => *block = ContentBlock::Text(text),
                            Some(Plain::Image(image)) => *block = ContentBlock::Image(image),
                            None => {
                                return Err(Error::validation(format!("{}: unknown kind of guarded content", path())));
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
        for (index, block) in request.system.iter_mut().enumerate() {
            match block {
                SystemContentBlock::Text(text) => judge.skip(text),
                SystemContentBlock::GuardContent(content) => match guarded_content(&mut judge, content, |why| {
                    unread(format!("system.{index}"), "a picture", why)
                })
                .await?
                {
                    Some(Plain::Text(text)) => *block = SystemContentBlock::Text(text),
                    // A picture can stand in the instructions as guarded content only, so it stays.
                    Some(Plain::Image(_)) => {}
                    None => return Err(Error::validation(format!("system.{index}: unknown kind of guarded content"))),
                },
                _ => {}
            }
        }
        Ok(Input { request, judge })
    }

    /// Begins an answer. `blocked` is set if the answer was blocked.
    async fn begin<'a>(
        &'a self,
        request: &'a ConverseRequest,
        blocked: Arc<AtomicBool>,
    ) -> Result<EventStream<'a>, Error> {
        let started = Instant::now();
        let mode = self.mode(request)?;
        request.validate()?;
        let Input { request: inner, judge } = self.judge_input(request).await?;
        judge.record(&self.guardrail, started);
        let (is_blocked, is_masked) = (judge.blocked(), judge.masked());
        let assessment = judge.assessment(&self.guardrail, mode, started, true);
        let mut output = Output::new(self, mode, started, judge.material);
        output.trace.input_assessment.insert(self.guardrail.id().to_owned(), assessment);
        if is_blocked || is_masked {
            output.reason = Some(if is_blocked { "Guardrail blocked." } else { "Guardrail masked." });
        }
        if is_blocked {
            blocked.store(true, Ordering::Release);
            let message = self.guardrail.blocked_message(&GuardrailContentSource::Input).to_owned();
            let mut events = vec![StreamEvent::message_start()];
            events.extend(output.refusal(message));
            return Ok(stream::iter(events.into_iter().map(Ok)).boxed());
        }
        let mut relay = Relay::new(|sender| {
            Box::pin(async move {
                let mut events = self.model.converse_stream(&inner).await?;
                // The stream has begun: from here on failures are items of it.
                sender.send([None]).await;
                while let Some(event) = events.next().await {
                    let out = output.push(event?).await;
                    let over = output.blocked;
                    if over {
                        // Stops the model before the reader has read the rest.
                        drop(std::mem::replace(&mut events, stream::empty().boxed()));
                        blocked.store(true, Ordering::Release);
                    }
                    sender.send(out.into_iter().map(Some)).await;
                    if over {
                        break;
                    }
                }
                Ok(())
            })
        });
        match relay.next().await {
            Some(Err(error)) => Err(error),
            _ => Ok(relay.filter_map(|event| async move { event.transpose() }).boxed()),
        }
    }
}

enum Plain {
    Text(String),
    Image(ImageBlock),
}

/// Judges guarded content and answers with what the model gets in its place. `unread` is asked about a picture that can't be judged.
async fn guarded_content(
    judge: &mut Judge<'_>,
    content: &mut GuardrailContentBlock,
    unread: impl FnOnce(Result<(), String>) -> Result<(), Error>,
) -> Result<Option<Plain>, Error> {
    judge.material.add(content);
    Ok(match content {
        GuardrailContentBlock::Text(block) => {
            if is_guarded(block) {
                judge.third_party = is_source(block);
                judge.text(&mut block.text).await?;
            } else {
                judge.skip(&block.text);
            }
            Some(Plain::Text(std::mem::take(&mut block.text)))
        }
        GuardrailContentBlock::Image(block) => {
            unread(judge.picture(Picture::of_guarded(block)).await?)?;
            let format = match &block.format {
                GuardrailImageFormat::Png => ImageFormat::Png,
                GuardrailImageFormat::Jpeg => ImageFormat::Jpeg,
                _ => return Ok(None),
            };
            match &block.source {
                GuardrailImageSource::Bytes(bytes) => Some(Plain::Image(ImageBlock::new(format, bytes.0.clone()))),
                _ => None,
            }
        }
        _ => None,
    })
}

impl<M: ChatModel> ChatModel for Guarded<M> {
    fn converse_stream<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<EventStream<'a>, Error>> {
        Box::pin(self.begin(request, Arc::default()))
    }

    fn converse<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<ConverseResponse, Error>> {
        Box::pin(async move {
            let blocked = Arc::new(AtomicBool::new(false));
            // A whole answer is never given out before it is judged, so the mode of streams does not matter.
            let mut request = request.clone();
            if let Some(config) = &mut request.guardrail_config {
                config.stream_processing_mode = None;
            }
            let mut response = collect(self.begin(&request, blocked.clone()).await?).await?;
            if blocked.load(Ordering::Acquire)
                && let bedrock_core::ConverseOutput::Message(message) = &mut response.output
            {
                // The last block is the message in place of the answer.
                message.content.drain(..message.content.len().saturating_sub(1));
            }
            Ok(response)
        })
    }

    fn count_tokens<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<u32, Error>> {
        Box::pin(async move {
            self.mode(request)?;
            request.validate()?;
            let input = self.judge_input(request).await?;
            if input.judge.blocked() { Ok(0) } else { self.model.count_tokens(&input.request).await }
        })
    }
}

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
struct Output<'g> {
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
    blocked: bool,
    reason: Option<&'static str>,
    trace: GuardrailTraceAssessment,
    recorded: bool,
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        self.record();
    }
}

impl<'g> Output<'g> {
    fn new<M>(guarded: &'g Guarded<M>, mode: Mode, started: Instant, material: Material) -> Self {
        let side = guarded.guardrail.side(&GuardrailContentSource::Output);
        Self {
            guardrail: &guarded.guardrail,
            on_failure: guarded.on_failure,
            hold_limit: guarded.hold_limit,
            mode,
            started,
            judge: Judge {
                side,
                lenient: guarded.on_failure == OnFailure::Open,
                findings: Vec::new(),
                third_party: false,
                judged: Judged::default(),
                total: 0,
                images: 0,
                asked: 0,
                material,
            },
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
    async fn push(&mut self, event: StreamEvent) -> Vec<StreamEvent> {
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
    fn refusal(&mut self, message: String) -> Vec<StreamEvent> {
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
