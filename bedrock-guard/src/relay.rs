//! A stream whose items an async block produces.
//!
//! The stream of a model borrows the request it answers. A guarded model answers another request than the one it was given
//! (masks are in it), so request and stream have to live in one place: an async block, which may borrow from itself.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bedrock_core::{BoxFuture, Error};
use futures::Stream;

/// Where the async block puts its items.
#[derive(Debug)]
pub(crate) struct Sender<T> {
    queue: Arc<Mutex<VecDeque<T>>>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<T> Sender<T> {
    fn queue(&self) -> std::sync::MutexGuard<'_, VecDeque<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts items in the queue and waits until the reader has taken them all, so that the block never runs ahead.
    pub(crate) async fn send(&self, items: impl IntoIterator<Item = T>) {
        self.queue().extend(items);
        // No waker is kept: the reader polls this block itself as soon as the queue is empty.
        std::future::poll_fn(|_| if self.queue().is_empty() { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}

/// Reads what an async block sends; an error of the block is the last item.
pub(crate) struct Relay<'a, T> {
    sender: Sender<T>,
    work: Option<BoxFuture<'a, Result<(), Error>>>,
}

impl<'a, T> Relay<'a, T> {
    /// `work` is polled whenever the queue is empty and dropped with the relay.
    pub(crate) fn new(work: impl FnOnce(Sender<T>) -> BoxFuture<'a, Result<(), Error>>) -> Self {
        let sender = Sender { queue: Arc::default() };
        Self { work: Some(work(sender.clone())), sender }
    }
}

impl<T> Stream for Relay<'_, T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(item) = self.sender.queue().pop_front() {
            return Poll::Ready(Some(Ok(item)));
        }
        let Some(work) = &mut self.work else { return Poll::Ready(None) };
        let polled = work.as_mut().poll(context);
        if let Poll::Ready(result) = polled {
            self.work = None;
            if let Err(error) = result {
                return Poll::Ready(Some(Err(error)));
            }
        }
        let item = self.sender.queue().pop_front();
        match item {
            Some(item) => Poll::Ready(Some(Ok(item))),
            None if self.work.is_none() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn items_come_one_by_one_and_the_error_last() {
        let relay = Relay::new(|sender| {
            Box::pin(async move {
                sender.send([1, 2]).await;
                sender.send([]).await;
                sender.send([3]).await;
                Err(Error::validation("end"))
            })
        });
        let items: Vec<_> = block_on(relay.map(|item| item.ok()).collect());
        assert_eq!(items, [Some(1), Some(2), Some(3), None]);
    }

    #[test]
    fn the_block_does_not_run_ahead_of_the_reader() {
        let made = Arc::new(Mutex::new(0));
        let count = made.clone();
        let mut relay = Relay::new(|sender| {
            Box::pin(async move {
                for turn in 0..9 {
                    *count.lock().unwrap() += 1;
                    sender.send([turn]).await;
                }
                Ok(())
            })
        });
        block_on(relay.next());
        assert_eq!(*made.lock().unwrap(), 1);
    }
}
