//! Where requests are driven: one thread with a small tokio runtime for all providers of the process, so that callers need none.

use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use bedrock_core::{Error, EventStream, StreamEvent};
use futures::channel::mpsc;
use futures::{SinkExt, Stream};
use reqwest::Response;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;

use super::failure::Malformed;
use super::transport::{self, Transport};

/// Events that may wait for a slow reader. The server is not read further then.
const WAITING: usize = 32;

/// How long the end of a complete answer is waited for.
const DRAIN: Duration = Duration::from_secs(2);

static RUNTIME: OnceLock<Handle> = OnceLock::new();

/// The runtime; started by the first provider, and there as long as the process.
fn runtime() -> Result<&'static Handle, Error> {
    if let Some(handle) = RUNTIME.get() {
        return Ok(handle);
    }
    let runtime = Builder::new_current_thread().enable_all().build().map_err(Error::backend)?;
    let handle = runtime.handle().clone();
    // Of two that come first, one runtime wins; the thread of the other ends.
    if RUNTIME.set(handle).is_ok() {
        thread::Builder::new()
            .name("bedrock-remote".into())
            .spawn(move || runtime.block_on(std::future::pending::<()>()))
            .map_err(Error::backend)?;
    }
    RUNTIME.get().ok_or_else(|| Error::internal_server("the thread of remote models did not start"))
}

/// Work on the runtime. It is cancelled when this is dropped.
struct Task<T>(JoinHandle<T>);

impl<T: Send + 'static> Task<T> {
    fn start(work: impl Future<Output = T> + Send + 'static) -> Result<Self, Error> {
        Ok(Self(runtime()?.spawn(work)))
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let done = futures::ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(done.map_err(|_| Error::internal_server("the thread of remote models failed")))
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs `work` on the runtime.
pub(super) async fn run<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    Task::start(work)?.await?
}

/// Makes events out of the bytes of an answer.
pub(super) trait Reader: Send + 'static {
    /// Takes bytes, cut anywhere; adds the events that they complete. True if the answer is complete, whatever else comes.
    fn read(&mut self, bytes: &[u8], events: &mut Vec<StreamEvent>) -> Result<bool, Error>;

    /// No more bytes will come, and the answer was not complete. Adds the last events.
    fn end(&mut self, events: &mut Vec<StreamEvent>) -> Result<(), Error>;
}

/// The events of an answer that has begun.
pub(super) fn stream(
    transport: &Transport,
    response: Response,
    mut reader: impl Reader,
) -> Result<EventStream<'static>, Error> {
    let limits = transport.limits();
    let (mut out, events) = mpsc::channel(WAITING);
    let task = Task::start(async move {
        let failed = match pump(response, &limits, &mut reader, &mut out).await {
            Ok(()) => return,
            Err(error) => error,
        };
        // An error has no receiver if the reader is gone.
        let _ = out.send(Err(failed)).await;
    })?;
    Ok(Box::pin(Events { task: Some(task), events, failed: false }))
}

async fn pump(
    mut response: Response,
    limits: &transport::Limits,
    reader: &mut impl Reader,
    out: &mut mpsc::Sender<Result<StreamEvent, Error>>,
) -> Result<(), Error> {
    let (mut total, mut ready) = (0_usize, Vec::new());
    loop {
        let chunk = limits.next(&mut response).await?;
        let ended = chunk.is_none();
        let read = match chunk {
            Some(bytes) => {
                total = total.saturating_add(bytes.len());
                if total > limits.body {
                    return Err(Malformed::BodyTooLarge { limit: limits.body }.into());
                }
                reader.read(&bytes, &mut ready)
            }
            None => reader.end(&mut ready).map(|()| true),
        };
        // What was complete before a failure is given out.
        for event in ready.drain(..) {
            if out.send(Ok(event)).await.is_err() {
                return Ok(());
            }
        }
        if read? {
            if !ended {
                tokio::spawn(drain(response));
            }
            return Ok(());
        }
    }
}

/// Reads the little that follows a complete answer, so that its connection can serve another; nobody waits for it.
async fn drain(mut response: Response) {
    let rest = async { while let Ok(Some(_)) = response.chunk().await {} };
    let _ = tokio::time::timeout(DRAIN, rest).await;
}

/// Events as they come; dropped, it cancels the request.
struct Events {
    task: Option<Task<()>>,
    events: mpsc::Receiver<Result<StreamEvent, Error>>,
    failed: bool,
}

impl Stream for Events {
    type Item = Result<StreamEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.failed {
            return Poll::Ready(None);
        }
        if let Some(item) = futures::ready!(Pin::new(&mut self.events).poll_next(context)) {
            self.failed = item.is_err();
            return Poll::Ready(Some(item));
        }
        // The task has ended, or panicked and left the answer without an end.
        let Some(task) = &mut self.task else { return Poll::Ready(None) };
        let ended = futures::ready!(Pin::new(task).poll(context));
        self.task = None;
        match ended {
            Ok(()) => Poll::Ready(None),
            Err(error) => {
                self.failed = true;
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}
