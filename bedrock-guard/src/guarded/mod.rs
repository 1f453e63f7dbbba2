//! `Guarded<M>`: a chat model, tool or retriever whose input and output a guardrail judges.

mod answer;
mod judge;
mod model;
mod retriever;
mod tool;

use bedrock_core::{ChatModel, GuardrailTrace, Tool};

use crate::guardrail::Guardrail;

/// Default of [`Guarded::hold_limit`].
const HOLD_LIMIT: usize = 16 << 10;

/// What happens to content that the guardrail is unable to judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnFailure {
    /// It does not pass: a request is an [`Error::Validation`](bedrock_core::Error::Validation), an answer ends as if it had been blocked.
    #[default]
    Closed,
    /// It passes unjudged.
    Open,
}

/// A chat model, a tool or a [`Retriever`](bedrock_core::Retriever) behind a guardrail: itself one.
///
/// An agent works through these three, so one whose model, tools and knowledge bases are guarded is guarded, whoever wrote it. What goes to a model is judged as
/// input, what a model wrote as output; what neither the user nor the model wrote (documents, passages, what tools answered) is by somebody else: a prompt attack
/// in it is an indirect injection in records and counters.
///
/// # Chat models
/// On the way in: the text of users' turns, documents that are text, search results, guarded content of the instructions, and, unlike the
/// service, what tools answered; pictures too if a content filter is about them ([`GuardrailBuilder::image_classifier`](crate::GuardrailBuilder::image_classifier)). If the request has `guardContent` blocks, these alone are judged of the text, documents and
/// search results; tool results are judged all the same, because nobody who tags their own text has written them. The model sees the
/// masks. If something blocks, the model is not called. Guarded content that is a `grounding_source` counts as written by somebody else, too.
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
/// # Tools
/// For tools that are not all alike, or a model that has no guardrail. The input of a call is judged before the tool sees it (as output), what the tool answers
/// before anybody else does (as input). Neither stops a conversation: in place of what is blocked stands an answer with status `error`, whose text is the message of the
/// guardrail, and a call that is blocked is not made. With a vault, [`unmask_calls`](Self::unmask_calls) gives a tool that may have them the values behind the pseudonyms.
///
/// # Retrievers
/// The query is judged before the search, which looks for the masked text; if something blocks, nothing is found. Of what is found each passage is judged by itself: its text,
/// the columns of a row, what a transcript says, a picture, and the attributes of its document, but not where it lies (location, document, and attributes that begin
/// with `x-amz-bedrock-kb-`). Passages that are blocked, or can't be judged, are left out, the others have masks. `guardrailAction` says whether either happened.
/// A `guardrailConfiguration` of the request must name this guardrail.
///
/// ```
/// use bedrock_core::testing::{Reply, ScriptedModel};
/// use bedrock_core::{ChatModel, ConverseRequest, CreateGuardrailRequest};
/// use bedrock_guard::{Guarded, Guardrail};
///
/// let guardrail = Guardrail::from_json(include_str!("../../../examples/data/guardrail.json"))?;
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
    unmask_calls: bool,
    judge_tools: bool,
}

impl<M> Guarded<M> {
    /// Puts `guardrail` before and behind `model`: a chat model, a tool or a retriever.
    pub fn new(model: M, guardrail: Guardrail) -> Self {
        Self {
            model,
            guardrail,
            on_failure: OnFailure::default(),
            hold_limit: HOLD_LIMIT,
            trace: GuardrailTrace::Disabled,
            unmask_calls: false,
            judge_tools: false,
        }
    }

    /// What happens to content that can't be judged. Default: it does not pass.
    #[must_use]
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = on_failure;
        self
    }

    /// What it is around.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The guardrail.
    pub fn guardrail(&self) -> &Guardrail {
        &self.guardrail
    }
}

impl<M: ChatModel> Guarded<M> {
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

    /// What the model is told of tools (descriptions, and descriptions and titles in their schemas) is judged as input that somebody else has written: for tools of
    /// an MCP server or another stranger, who may put orders for the model there. If something blocks, the model is not called. Default: it is not judged.
    #[must_use]
    pub fn judge_tools(mut self) -> Self {
        self.judge_tools = true;
        self
    }
}

impl<T: Tool> Guarded<T> {
    /// The tool gets the values behind the pseudonyms of the guardrail's [`Vault`](crate::Vault), after the call was judged: for tools that may have them. What the
    /// tool answers gets pseudonyms again. Does nothing without a vault. Default: it does not.
    #[must_use]
    pub fn unmask_calls(mut self) -> Self {
        self.unmask_calls = true;
        self
    }
}

/// What one request asks of the guardrail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mode {
    trace: bool,
    full: bool,
    sync: bool,
}
