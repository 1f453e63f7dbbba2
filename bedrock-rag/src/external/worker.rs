//! Threads that own connections, so that the futures of a store need no runtime and block nobody's.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use bedrock_core::Error;
use futures::channel::oneshot;

/// Calls that wait for a thread; more are refused.
const QUEUE: usize = 64;

type Job<C> = Box<dyn FnOnce(&mut C) + Send>;

/// Threads, each with a connection of its own. They end when this is dropped, after what they are at.
pub(crate) struct Workers<C> {
    jobs: SyncSender<Job<C>>,
}

impl<C> std::fmt::Debug for Workers<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers").finish_non_exhaustive()
    }
}

impl<C: 'static> Workers<C> {
    /// Starts `threads` threads. `connection` makes what a thread owns; it should connect only when it is first used.
    pub(crate) fn start(
        name: &str,
        threads: usize,
        connection: impl Fn() -> C + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let (jobs, waiting) = sync_channel::<Job<C>>(QUEUE);
        let (waiting, connection) = (Arc::new(Mutex::new(waiting)), Arc::new(connection));
        for _ in 0..threads.max(1) {
            let (waiting, connection) = (waiting.clone(), connection.clone());
            let work = move || {
                let mut own = connection();
                while let Some(job) = next(&waiting) {
                    // A panic is the caller's to see (its answer never comes); the connection may be half way through something.
                    if catch_unwind(AssertUnwindSafe(|| job(&mut own))).is_err() {
                        own = connection();
                    }
                }
            };
            std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(Error::backend)?;
        }
        Ok(Self { jobs })
    }

    /// Has a thread do `work`. Once it has begun it goes on to its end, even if nobody waits for it any more.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut C) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let job: Job<C> = Box::new(move |connection| {
            if !answer.is_canceled() {
                let _ = answer.send(work(connection));
            }
        });
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                return Err(Error::throttling(format!("{QUEUE} calls to the store are waiting already")));
            }
            Err(TrySendError::Disconnected(_)) => {
                return Err(Error::internal_server("the threads of the store have ended"));
            }
        }
        answered.await.unwrap_or_else(|_| Err(Error::internal_server("a call to the store failed without an answer")))
    }
}

fn next<C>(waiting: &Mutex<Receiver<Job<C>>>) -> Option<Job<C>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn a_panic_costs_one_call_and_its_connection() {
        let made = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = made.clone();
        let workers =
            Workers::start("test", 1, move || count.fetch_add(1, std::sync::atomic::Ordering::SeqCst)).unwrap();
        assert_eq!(block_on(workers.run(|own| Ok(*own))).unwrap(), 0);
        assert!(
            block_on(workers.run(|_| -> Result<(), Error> { std::panic::panic_any("expected by the test") })).is_err()
        );
        assert_eq!(block_on(workers.run(|own| Ok(*own))).unwrap(), 1, "a new connection");
    }

    #[test]
    fn a_full_queue_is_refused_and_nobody_is_forgotten() {
        let workers = Workers::start("test", 1, || ()).unwrap();
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let (begun, running) = std::sync::mpsc::channel::<()>();
        let first = workers.run(move |()| {
            begun.send(()).unwrap();
            gate.recv().map_err(Error::backend)
        });
        let mut first = Box::pin(first);
        let mut poll = |future: &mut futures::future::BoxFuture<'_, Result<(), Error>>| {
            let waker = futures::task::noop_waker();
            future.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending()
        };
        let mut first: futures::future::BoxFuture<'_, _> = Box::pin(async move { first.as_mut().await });
        assert!(poll(&mut first));
        running.recv().unwrap();
        let mut waiting: Vec<futures::future::BoxFuture<'_, _>> =
            (0..QUEUE).map(|_| Box::pin(workers.run(|()| Ok(()))) as futures::future::BoxFuture<'_, _>).collect();
        assert!(waiting.iter_mut().all(&mut poll));
        assert!(matches!(block_on(workers.run(|()| Ok(()))), Err(Error::Throttling { .. })));
        open.send(()).unwrap();
        block_on(first).unwrap();
        for call in waiting {
            block_on(call).unwrap();
        }
    }
}
