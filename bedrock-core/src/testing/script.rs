//! A chat model that plays a script.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::Stream;
use serde_json::Value;

use super::words;
use crate::error::Error;
use crate::inference::{ConverseRequest, ConverseResponse, StopReason};
use crate::message::{ContentBlock, SystemContentBlock};
use crate::model::{BoxFuture, ChatModel, EventStream};
use crate::stream::{
    ContentBlockDelta, ContentBlockDeltaEvent, ReasoningContentBlockDelta, StreamEvent, ToolUseBlockDelta,
};
use crate::tool::ToolUseBlock;
use crate::usage::TokenUsage;

/// How the text of a reply is cut into deltas. Text, reasoning and the input of tools are cut.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Chunking {
    /// One delta a block.
    #[default]
    Whole,
    /// Deltas of this many characters (at least 1).
    Characters(usize),
    /// Deltas of these numbers of characters, over and over. A zero gives an empty delta; all zeros count as
    /// [`Chunking::Whole`].
    Sizes(Vec<usize>),
}

impl Chunking {
    fn cut(&self, text: &str) -> Vec<String> {
        let sizes: &[usize] = match self {
            Self::Whole => &[],
            Self::Characters(size) => &[(*size).max(1)],
            Self::Sizes(sizes) => sizes,
        };
        if sizes.iter().all(|&size| size == 0) || text.is_empty() {
            return vec![text.to_owned()];
        }
        let mut pieces = Vec::new();
        let mut rest = text.chars().peekable();
        for &size in sizes.iter().cycle() {
            if rest.peek().is_none() {
                break;
            }
            pieces.push(rest.by_ref().take(size).collect());
        }
        pieces
    }

    fn apply(&self, events: Vec<StreamEvent>) -> Vec<StreamEvent> {
        let mut cut = Vec::with_capacity(events.len());
        for event in events {
            let StreamEvent::ContentBlockDelta(ContentBlockDeltaEvent { delta, content_block_index: index }) = event
            else {
                cut.push(event);
                continue;
            };
            let (text, wrap): (String, fn(String) -> ContentBlockDelta) = match delta {
                ContentBlockDelta::Text(text) => (text, ContentBlockDelta::Text),
                ContentBlockDelta::ToolUse(delta) => {
                    (delta.input, |input| ContentBlockDelta::ToolUse(ToolUseBlockDelta { input }))
                }
                ContentBlockDelta::ReasoningContent(ReasoningContentBlockDelta::Text(text)) => {
                    (text, |text| ContentBlockDelta::ReasoningContent(ReasoningContentBlockDelta::Text(text)))
                }
                delta => {
                    cut.push(StreamEvent::delta(index, delta));
                    continue;
                }
            };
            cut.extend(self.cut(&text).into_iter().map(|piece| StreamEvent::delta(index, wrap(piece))));
        }
        cut
    }
}

enum Body {
    Response(Box<ConverseResponse>),
    Events(Vec<StreamEvent>),
    Refusal(Error),
}

/// One reply of a [`ScriptedModel`].
pub struct Reply {
    body: Body,
    chunking: Chunking,
    fail: Option<(usize, Error)>,
    pend: Option<usize>,
}

impl Reply {
    fn new(body: Body) -> Self {
        Self { body, chunking: Chunking::Whole, fail: None, pend: None }
    }

    /// A text and the end of the turn. The usage counts words.
    pub fn text(text: impl Into<String>) -> Self {
        Self::blocks([ContentBlock::Text(text.into())], StopReason::EndTurn)
    }

    /// The call of a tool.
    pub fn tool_use(id: impl Into<String>, name: impl Into<String>, input: impl Into<Value>) -> Self {
        let call = ToolUseBlock { tool_use_id: id.into(), name: name.into(), input: input.into(), kind: None };
        Self::blocks([call], StopReason::ToolUse)
    }

    /// Blocks of content. The usage counts words.
    pub fn blocks(content: impl IntoIterator<Item = impl Into<ContentBlock>>, stop_reason: StopReason) -> Self {
        let mut response = ConverseResponse::new(content, stop_reason, TokenUsage::default());
        response.usage.output_tokens = response.message().content.iter().map(tokens_of_block).sum();
        Self::new(Body::Response(Box::new(response)))
    }

    /// A response, word for word, but for `usage.inputTokens` and `usage.totalTokens` if they are 0.
    pub fn response(response: ConverseResponse) -> Self {
        Self::new(Body::Response(Box::new(response)))
    }

    /// These events, whether they keep to the protocol or not.
    pub fn events(events: impl IntoIterator<Item = StreamEvent>) -> Self {
        Self::new(Body::Events(events.into_iter().collect()))
    }

    /// A failure before the stream begins.
    pub fn refusal(error: Error) -> Self {
        Self::new(Body::Refusal(error))
    }

    /// Cuts the text.
    pub fn chunking(mut self, chunking: Chunking) -> Self {
        self.chunking = chunking;
        self
    }

    /// Ends the stream with `error` after `events` events.
    pub fn fail_at(mut self, events: usize, error: Error) -> Self {
        self.fail = Some((events, error));
        self
    }

    /// Never goes on after `events` events, and wakes nobody: for tests of cancellation.
    pub fn pend_at(mut self, events: usize) -> Self {
        self.pend = Some(events);
        self
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("chunking", &self.chunking)
            .field("fail", &self.fail)
            .field("pend", &self.pend)
            .finish_non_exhaustive()
    }
}

impl From<&str> for Reply {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<ConverseResponse> for Reply {
    fn from(response: ConverseResponse) -> Self {
        Self::response(response)
    }
}

impl From<Error> for Reply {
    fn from(error: Error) -> Self {
        Self::refusal(error)
    }
}

type Script = Box<dyn Fn(&ConverseRequest) -> Reply + Send + Sync>;

/// A chat model that plays a script and remembers what it was asked.
///
/// Requests are validated as by every model; sampling, length and stop sequences are not looked at. A token is a word.
pub struct ScriptedModel {
    script: Script,
    requests: Mutex<Vec<ConverseRequest>>,
    cancelled: Arc<AtomicUsize>,
}

impl ScriptedModel {
    /// Gives one reply a request, in order. Then it fails with [`Error::ModelError`].
    pub fn new(replies: impl IntoIterator<Item = impl Into<Reply>>) -> Self {
        let replies: Mutex<VecDeque<Reply>> = Mutex::new(replies.into_iter().map(Into::into).collect());
        Self::answering(move |_| {
            let next = lock(&replies).pop_front();
            next.unwrap_or_else(|| Reply::refusal(Error::model_error("the script has no more replies")))
        })
    }

    /// Computes each reply from the request, so that equal requests can have equal answers.
    pub fn answering(script: impl Fn(&ConverseRequest) -> Reply + Send + Sync + 'static) -> Self {
        Self { script: Box::new(script), requests: Mutex::default(), cancelled: Arc::default() }
    }

    /// What the model was asked, in order; requests that do not validate included.
    pub fn requests(&self) -> Vec<ConverseRequest> {
        lock(&self.requests).clone()
    }

    /// Streams that were dropped before their last item.
    pub fn cancelled(&self) -> usize {
        self.cancelled.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for ScriptedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedModel").field("requests", &self.requests).finish_non_exhaustive()
    }
}

/// A poisoned lock means that an assertion failed in another thread; the data is fine.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tokens(text: &str) -> u32 {
    words(text).count() as u32
}

fn tokens_of_block(block: &ContentBlock) -> u32 {
    match block {
        ContentBlock::Text(text) => tokens(text),
        other => serde_json::to_string(other).map_or(0, |json| tokens(&json)),
    }
}

fn tokens_of_prompt(request: &ConverseRequest) -> u32 {
    let system = request.system.iter().map(|block| match block {
        SystemContentBlock::Text(text) => tokens(text),
        _ => 1,
    });
    let content = request.messages.iter().flat_map(|message| &message.content).map(tokens_of_block);
    system.chain(content).sum()
}

impl ChatModel for ScriptedModel {
    fn converse_stream<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<EventStream<'a>, Error>> {
        Box::pin(async move {
            lock(&self.requests).push(request.clone());
            request.validate()?;
            let reply = (self.script)(request);
            let events = match reply.body {
                Body::Refusal(error) => return Err(error),
                Body::Events(events) => events,
                Body::Response(mut response) => {
                    let usage = &mut response.usage;
                    if usage.input_tokens == 0 {
                        usage.input_tokens = tokens_of_prompt(request);
                    }
                    if usage.total_tokens == 0 {
                        usage.total_tokens = usage.input_tokens.saturating_add(usage.output_tokens);
                    }
                    response.into_events()?
                }
            };
            let playback = Playback {
                events: reply.chunking.apply(events).into(),
                played: 0,
                fail: reply.fail,
                pend: reply.pend,
                ended: false,
                cancelled: self.cancelled.clone(),
            };
            Ok(Box::pin(playback) as EventStream<'a>)
        })
    }

    fn count_tokens<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<u32, Error>> {
        Box::pin(async move {
            request.validate()?;
            Ok(tokens_of_prompt(request))
        })
    }
}

struct Playback {
    events: VecDeque<StreamEvent>,
    played: usize,
    fail: Option<(usize, Error)>,
    pend: Option<usize>,
    ended: bool,
    cancelled: Arc<AtomicUsize>,
}

impl Stream for Playback {
    type Item = Result<StreamEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.pend == Some(self.played) {
            return Poll::Pending;
        }
        if self.fail.as_ref().is_some_and(|(at, _)| *at == self.played) {
            self.ended = true;
            return Poll::Ready(self.fail.take().map(|(_, error)| Err(error)));
        }
        self.played += 1;
        let next = self.events.pop_front();
        self.ended = self.events.is_empty() && self.fail.is_none() && self.pend.is_none() || next.is_none();
        Poll::Ready(next.map(Ok))
    }
}

impl Drop for Playback {
    fn drop(&mut self) {
        if !self.ended {
            self.cancelled.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;
    use futures::executor::block_on;

    fn texts(model: &ScriptedModel) -> Vec<String> {
        let request = ConverseRequest::new("m").user("go");
        let events = block_on(async { model.converse_stream(&request).await.unwrap().collect::<Vec<_>>().await });
        events.iter().filter_map(|event| event.as_ref().ok()?.as_text().map(str::to_owned)).collect()
    }

    #[test]
    fn chunking_cuts_between_characters() {
        let reply = || Reply::text("añb€c");
        assert_eq!(texts(&ScriptedModel::new([reply()])), ["añb€c"]);
        assert_eq!(texts(&ScriptedModel::new([reply().chunking(Chunking::Characters(2))])), ["añ", "b€", "c"]);
        assert_eq!(texts(&ScriptedModel::new([reply().chunking(Chunking::Sizes(vec![3, 0]))])), ["añb", "", "€c"]);
        assert_eq!(texts(&ScriptedModel::new([reply().chunking(Chunking::Sizes(vec![0]))])), ["añb€c"]);
        assert_eq!(texts(&ScriptedModel::new([Reply::text("").chunking(Chunking::Characters(0))])), [""]);
    }

    #[test]
    fn an_exhausted_script_fails() {
        let model = ScriptedModel::new(["one"]);
        let request = ConverseRequest::new("m").user("go");
        assert_eq!(model.converse_blocking(&request).unwrap().text(), "one");
        assert!(matches!(model.converse_blocking(&request), Err(Error::ModelError { .. })));
        assert_eq!(model.requests().len(), 2);
    }

    #[test]
    fn failing_pending_and_cancelling() {
        let request = ConverseRequest::new("m").user("go");
        let model = ScriptedModel::new([
            Reply::text("abc").fail_at(2, Error::throttling("enough")),
            Reply::text("abc").pend_at(1),
        ]);
        assert!(matches!(model.converse_blocking(&request), Err(Error::Throttling { .. })));
        assert_eq!(model.cancelled(), 0);
        block_on(async {
            let mut stream = model.converse_stream(&request).await.unwrap();
            assert!(matches!(stream.next().await, Some(Ok(StreamEvent::MessageStart(_)))));
            assert!(futures::poll!(stream.next()).is_pending());
        });
        assert_eq!(model.cancelled(), 1);
    }
}
