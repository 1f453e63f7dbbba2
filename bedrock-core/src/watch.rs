//! Sees a call through to its end, whichever way it ends.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;

use crate::error::Error;
use crate::model::EventStream;
use crate::stream::StreamEvent;

/// How a call ended.
pub(crate) enum Ending<'a> {
    Done,
    Failed(&'a Error),
    /// The future or the stream was dropped.
    Cancelled,
}

/// Someone who wants to know what a call gives and how it ends.
pub(crate) trait Watch: Send + Unpin {
    fn event(&mut self, event: &StreamEvent);
    fn end(self, ending: Ending<'_>);
}

/// Tells the watcher of the end exactly once: if nobody else did, that the call was cancelled.
pub(crate) struct Armed<W: Watch>(Option<W>);

impl<W: Watch> Armed<W> {
    pub(crate) fn new(watch: W) -> Self {
        Self(Some(watch))
    }

    pub(crate) fn end(&mut self, ending: Ending<'_>) {
        if let Some(watch) = self.0.take() {
            watch.end(ending);
        }
    }

    pub(crate) fn watch(&mut self) -> Option<&mut W> {
        self.0.as_mut()
    }

    /// Goes on watching the stream of a call that began.
    pub(crate) fn follow<'a>(mut self, began: Result<EventStream<'a>, Error>) -> Result<EventStream<'a>, Error>
    where
        W: 'a,
    {
        match began {
            Ok(stream) => Ok(Box::pin(Watched { stream, armed: self })),
            Err(error) => {
                self.end(Ending::Failed(&error));
                Err(error)
            }
        }
    }
}

impl<W: Watch> Drop for Armed<W> {
    fn drop(&mut self) {
        self.end(Ending::Cancelled);
    }
}

struct Watched<'a, W: Watch> {
    stream: EventStream<'a>,
    armed: Armed<W>,
}

impl<W: Watch> Stream for Watched<'_, W> {
    type Item = Result<StreamEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let item = futures::ready!(this.stream.as_mut().poll_next(context));
        match &item {
            Some(Ok(event)) => {
                if let Some(watch) = this.armed.watch() {
                    watch.event(event);
                }
                // The last event is the end, for callers who do not ask for more.
                if matches!(event, StreamEvent::Metadata(_)) {
                    this.armed.end(Ending::Done);
                }
            }
            Some(Err(error)) => this.armed.end(Ending::Failed(error)),
            None => this.armed.end(Ending::Done),
        }
        Poll::Ready(item)
    }
}
