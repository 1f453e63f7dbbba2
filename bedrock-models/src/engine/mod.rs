//! Serving one loaded model to many callers: a thread of its own, a bounded queue, continuous batching.
//!
//! The engine's thread owns all generations. In each turn it takes new requests in, computes one chunk of one waiting prompt, and
//! then one token for every running generation, in one batch. So a long prompt delays running answers by
//! one chunk at most, and weights are read once for all of them. Because a row's numbers do not depend on its company (see
//! [`kernels`](crate::kernels)), an answer is the same alone and in a batch.

mod request;
mod turn;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use crate::error::Error;
use crate::generate::Constraints;
use crate::language_model::LanguageModel;
use crate::options::EngineOptions;

use request::Waiting;
pub use request::{Generation, GenerationEvent, GenerationRequest, GenerationUsage};
use turn::Turns;

/// The thread that serves a model. Dropping the last handle ends it, and with it what was being generated.
#[derive(Debug, Clone)]
pub struct Engine {
    model: Arc<LanguageModel>,
    constraints: Arc<Constraints>,
    queue: SyncSender<Waiting>,
}

impl Engine {
    /// Starts serving a model.
    ///
    /// # Errors
    /// [`Error::Thread`] if the system refuses a thread.
    pub fn start(model: Arc<LanguageModel>, options: &EngineOptions) -> Result<Self, Error> {
        let (queue, requests) = sync_channel(options.queue.max(1));
        let (served, options) = (model.clone(), options.clone());
        thread::Builder::new()
            .name("bedrock-engine".into())
            .spawn(move || serve(&served, &options, &requests))
            .map_err(|source| Error::Thread { source })?;
        Ok(Self { model, constraints: Arc::default(), queue })
    }

    /// The model that is served.
    pub fn model(&self) -> &Arc<LanguageModel> {
        &self.model
    }

    /// Queues a request. The result is a stream of its tokens; dropping it ends the work within one layer.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`], [`Error::Constraint`] and the errors of [`LanguageModel::check_tokens`] for the request itself;
    /// [`Error::Busy`] if the queue is full.
    pub fn generate(&self, request: GenerationRequest) -> Result<Generation, Error> {
        let (waiting, generation) = Waiting::new(request, &self.model, &self.constraints)?;
        match self.queue.try_send(waiting) {
            Ok(()) => Ok(generation),
            Err(TrySendError::Full(_)) => Err(Error::Busy),
            Err(TrySendError::Disconnected(_)) => Err(Error::EngineStopped),
        }
    }
}

fn serve(model: &LanguageModel, options: &EngineOptions, requests: &Receiver<Waiting>) {
    let mut turns = Turns::new(model, options);
    loop {
        if turns.is_idle() {
            match requests.recv() {
                Ok(request) => turns.admit(request),
                Err(_) => return,
            }
        }
        while turns.has_room()
            && let Ok(request) = requests.try_recv()
        {
            turns.admit(request);
        }
        // A panic below is a bug of ours or of a dependency: it fails the requests that were running, not the process.
        if catch_unwind(AssertUnwindSafe(|| turns.turn())).is_err() {
            turns.fail_all();
        }
    }
}
