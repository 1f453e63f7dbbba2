//! Streams over requests that nobody else keeps.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::future::{BoxFuture, poll_fn};
use futures::{FutureExt, Stream, StreamExt};

use super::StreamEvent;
use crate::error::Error;
use crate::inference::ConverseRequest;
use crate::model::{ChatModel, EventStream};

/// Begins an answer to a request that the stream keeps itself.
///
/// [`ChatModel::converse_stream`] borrows the request for as long as the stream lives. Middleware that sends on a changed
/// copy has nobody to borrow it from; this is its way.
///
/// # Errors
/// As [`ChatModel::converse_stream`].
pub fn converse_stream_owned<'a, M>(
    model: &'a M,
    request: ConverseRequest,
) -> BoxFuture<'a, Result<EventStream<'a>, Error>>
where
    M: ChatModel + ?Sized,
{
    Box::pin(async move {
        let slot = Arc::new(Slot::default());
        let out = slot.clone();
        // The future keeps the request and the stream over it, and puts out one item each time that it is polled.
        let work = async move {
            let mut stream = match model.converse_stream(&request).await {
                Ok(stream) => stream,
                Err(error) => return out.put(Item::Refused(error)),
            };
            out.put(Item::Begun);
            pause().await;
            while let Some(event) = stream.next().await {
                out.put(Item::Event(event));
                pause().await;
            }
        };
        let mut owned = Owned { work: Some(work.boxed()), slot };
        match poll_fn(|context| owned.poll_item(context)).await {
            Some(Item::Refused(error)) => Err(error),
            _ => Ok(Box::pin(owned) as EventStream<'a>),
        }
    })
}

enum Item {
    Begun,
    Refused(Error),
    Event(Result<StreamEvent, Error>),
}

/// Where an item passes from the future to the stream around it.
#[derive(Default)]
struct Slot(Mutex<VecDeque<Item>>);

impl Slot {
    fn put(&self, item: Item) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(item);
    }

    fn take(&self) -> Option<Item> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Pending once. Nobody is woken: the stream finds the item in the slot and does not wait.
async fn pause() {
    let mut paused = false;
    poll_fn(|_| if std::mem::replace(&mut paused, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

struct Owned<'a> {
    work: Option<BoxFuture<'a, ()>>,
    slot: Arc<Slot>,
}

impl Owned<'_> {
    fn poll_item(&mut self, context: &mut Context<'_>) -> Poll<Option<Item>> {
        let done = match &mut self.work {
            Some(work) => work.as_mut().poll(context).is_ready(),
            None => return Poll::Ready(None),
        };
        if done {
            self.work = None;
        }
        match self.slot.take() {
            Some(item) => Poll::Ready(Some(item)),
            None if done => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl Stream for Owned<'_> {
    type Item = Result<StreamEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match futures::ready!(self.poll_item(context)) {
            Some(Item::Event(event)) => Poll::Ready(Some(event)),
            Some(Item::Refused(error)) => Poll::Ready(Some(Err(error))),
            Some(Item::Begun) | None => Poll::Ready(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BoxFuture;
    use crate::testing::{Chunking, Reply, ScriptedModel, check_chat_model};
    use futures::executor::block_on;

    /// The smallest middleware that changes the request.
    struct Shouting<M>(M);

    impl<M: ChatModel> ChatModel for Shouting<M> {
        fn converse_stream<'a>(
            &'a self,
            request: &'a ConverseRequest,
        ) -> BoxFuture<'a, Result<EventStream<'a>, Error>> {
            converse_stream_owned(&self.0, request.clone().system("Shout."))
        }
    }

    #[test]
    fn the_stream_keeps_the_request() {
        let model = Shouting(ScriptedModel::answering(|request| {
            assert_eq!(request.system.len(), 1);
            Reply::text("HELLO").chunking(Chunking::Characters(1))
        }));
        let request = ConverseRequest::new("m").user("hi");
        block_on(check_chat_model(&model, &request));
        assert_eq!(model.converse_blocking(&request).expect("answered").text(), "HELLO");
    }

    #[test]
    fn failures_pendings_and_drops_pass_through() {
        let model = ScriptedModel::new([
            Reply::refusal(Error::throttling("later")),
            Reply::text("a").fail_at(1, Error::model_stream_error("gone")),
            Reply::text("a").pend_at(1),
        ]);
        let request = || ConverseRequest::new("m").user("hi");
        block_on(async {
            assert!(matches!(converse_stream_owned(&model, request()).await, Err(Error::Throttling { .. })));
            let events: Vec<_> = converse_stream_owned(&model, request()).await.expect("begins").collect().await;
            assert!(matches!(events[..], [Ok(_), Err(Error::ModelStreamError { .. })]));
            let mut stream = converse_stream_owned(&model, request()).await.expect("begins");
            assert!(stream.next().await.is_some());
            assert!(futures::poll!(stream.next()).is_pending());
            drop(stream);
        });
        assert_eq!(model.cancelled(), 1);
    }
}
