//! A thread on which a model without an engine computes, so that async callers are never blocked.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;

use bedrock_core::BoxFuture;
use futures::channel::oneshot;

use crate::error::Error;

/// Jobs that may wait; one more is refused with a `ThrottlingException`.
const QUEUE: usize = 256;

type Job = Box<dyn FnOnce() + Send>;

/// A thread that runs one job after another. Ends when the last handle is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    jobs: SyncSender<Job>,
}

impl Worker {
    pub(crate) fn start(name: &str) -> Result<Self, Error> {
        let (jobs, queue) = sync_channel::<Job>(QUEUE);
        thread::Builder::new()
            .name(name.to_string())
            .spawn(move || queue.into_iter().for_each(|job| job()))
            .map_err(|source| Error::Thread { source })?;
        Ok(Self { jobs })
    }

    /// Runs `job` on the thread. If the future is dropped before the job begins, it does not begin; `job` gets a function that
    /// says whether the future has been dropped since.
    pub(crate) fn run<'a, T: Send + 'static>(
        &self,
        job: impl FnOnce(&dyn Fn() -> bool) -> Result<T, Error> + Send + 'static,
    ) -> BoxFuture<'a, Result<T, bedrock_core::Error>> {
        let result = self.result(job);
        Box::pin(async move { Ok(result.await?) })
    }

    /// [`run`](Self::run) for callers within this crate.
    pub(crate) fn result<T, J>(&self, job: J) -> impl Future<Output = Result<T, Error>> + Send + use<T, J>
    where
        T: Send + 'static,
        J: FnOnce(&dyn Fn() -> bool) -> Result<T, Error> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let queued = self.jobs.try_send(Box::new(move || {
            if sender.is_canceled() {
                return;
            }
            let result = catch_unwind(AssertUnwindSafe(|| job(&|| sender.is_canceled())));
            // Nobody may be listening any more.
            let _ = sender.send(result.unwrap_or(Err(Error::EngineFailed)));
        }));
        async move {
            match queued {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => return Err(Error::Busy),
                Err(TrySendError::Disconnected(_)) => return Err(Error::EngineStopped),
            }
            receiver.await.unwrap_or(Err(Error::EngineStopped))
        }
    }
}
