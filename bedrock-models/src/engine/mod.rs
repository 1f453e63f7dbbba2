//! Serving one loaded model to many callers: a thread of its own, a bounded queue, continuous batching.
//!
//! The engine's thread owns all generations. In each turn it takes new requests in, computes one chunk of the waiting prompts, and
//! then one token for every running generation, in one batch. So a long prompt delays running answers by
//! one chunk at most, and weights are read once for all of them. Because a row's numbers do not depend on its company (see
//! [`kernels`](crate::kernels)), an answer is the same alone and in a batch.
//!
//! Prompts that begin alike share the pages of what they have in common: see [`prefix`]. The memory that a request may need at most
//! is set aside before it starts, so that it never has to stop half way; but for requests without a limit of their own, which would
//! keep others waiting for what they hardly ever use: see [`growth`].

mod growth;
mod hold;
mod memory;
mod metrics;
mod prefix;
mod queue;
mod request;
mod running;
mod turn;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::error::Error;
use crate::generate::{Constraints, STACK};
use crate::kernels::page::PAGE;
use crate::language_model::LanguageModel;
use crate::options::{EngineOptions, Speculation};

use hold::Gate;
pub use hold::Hold;
pub use metrics::{EngineMetrics, Latencies};
use queue::Queue;
use request::Waiting;
pub use request::{Generation, GenerationEvent, GenerationRequest, GenerationUsage, Priority};
use turn::{Turns, is_causal_by_token, page_bytes};

/// The thread that serves a model. When the last handle is dropped, it ends with the last answer that is still wanted.
#[derive(Clone)]
pub struct Engine {
    model: Arc<LanguageModel>,
    constraints: Arc<Constraints>,
    draft: Option<Arc<LanguageModel>>,
    options: EngineOptions,
    handle: Arc<Handle>,
}

/// What callers and the thread have in common.
struct Shared {
    queue: Queue,
    gate: Gate,
    metrics: Mutex<EngineMetrics>,
}

/// Closes the queue with the last handle.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.queue.close();
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("model", &self.model).field("options", &self.options).finish_non_exhaustive()
    }
}

impl Engine {
    /// Starts serving a model.
    ///
    /// # Errors
    /// [`Error::Thread`] if the system refuses a thread.
    pub fn start(model: Arc<LanguageModel>, options: &EngineOptions) -> Result<Self, Error> {
        Self::start_with(model, None, options)
    }

    /// Starts serving a model, for which another one guesses ahead as [`Speculation::Draft`](crate::Speculation::Draft) says.
    ///
    /// # Errors
    /// [`Error::ConfigValue`] if they have not the same vocabulary; as [`Engine::start`].
    pub fn start_with_draft(
        model: Arc<LanguageModel>,
        draft: Arc<LanguageModel>,
        options: &EngineOptions,
    ) -> Result<Self, Error> {
        if draft.vocab_size != model.vocab_size {
            let (ours, theirs) = (draft.vocab_size, model.vocab_size);
            let what = format!("a draft model of {ours} tokens cannot guess for a model of {theirs}");
            return Err(Error::ConfigValue { path: draft.path.clone(), what });
        }
        Self::start_with(model, Some(draft), options)
    }

    fn start_with(
        model: Arc<LanguageModel>,
        draft: Option<Arc<LanguageModel>>,
        options: &EngineOptions,
    ) -> Result<Self, Error> {
        // Without a draft there is nothing to guess by, and without need for it the draft is not computed.
        let guesses = matches!(options.speculation, Speculation::Draft { .. }) && is_causal_by_token(&model);
        let draft = draft.filter(|draft| guesses && !draft.has_encoder());
        let mut options = options.clone();
        if draft.is_none() && matches!(options.speculation, Speculation::Draft { .. }) {
            options.speculation = Speculation::Off;
        }
        let queue = Queue::new(options.queue, options.aging);
        let shared = Arc::new(Shared { queue, gate: Gate::default(), metrics: Mutex::default() });
        let handle = Arc::new(Handle(shared.clone()));
        let (served, guesses, limits) = (model.clone(), draft.clone(), options.clone());
        thread::Builder::new()
            .name("bedrock-engine".into())
            // It follows constraints too.
            .stack_size(STACK)
            .spawn(move || serve(&served, guesses.as_deref(), &limits, &Handle(shared).0))
            .map_err(|source| Error::Thread { source })?;
        Ok(Self { model, draft, constraints: Arc::default(), options, handle })
    }

    /// The model that is served.
    pub fn model(&self) -> &Arc<LanguageModel> {
        &self.model
    }

    /// Queues a request. The result is a stream of its tokens; dropping it ends the work within one layer.
    ///
    /// Takes the time that a constraint takes to compile: see [`Engine::queue`] for async callers.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`], [`Error::Constraint`] and the errors of [`LanguageModel::check_tokens`] for the request itself;
    /// [`Error::Busy`] if the queue is full.
    pub fn generate(&self, mut request: GenerationRequest) -> Result<Generation, Error> {
        let constraint = request.constraint.take();
        let (mut waiting, generation) = self.check(request, constraint.is_some())?;
        if let Some(constraint) = constraint {
            waiting.masking = Some(self.constraints.compile(&constraint, self.model.tokenizer()?, waiting.left(0))?);
        }
        self.handle.0.queue.push(waiting)?;
        Ok(generation)
    }

    /// [`Engine::generate`] without blocking the thread that polls: a constraint is compiled on another one meanwhile.
    ///
    /// # Errors
    /// As [`Engine::generate`]; [`Error::Busy`] also if too many constraints wait to be compiled.
    pub async fn queue(&self, mut request: GenerationRequest) -> Result<Generation, Error> {
        let constraint = request.constraint.take();
        let (mut waiting, generation) = self.check(request, constraint.is_some())?;
        if let Some(constraint) = constraint {
            let tokenizer = self.model.tokenizer()?.clone();
            let most = waiting.left(0);
            waiting.masking = Some(self.constraints.compile_beside(constraint, tokenizer, most).await?);
        }
        self.handle.0.queue.push(waiting)?;
        Ok(generation)
    }

    /// Everything about a request but its constraint.
    fn check(&self, request: GenerationRequest, is_constrained: bool) -> Result<(Waiting, Generation), Error> {
        if is_constrained && request.ignore_end {
            return Err(Error::InvalidParameter {
                name: "ignore_end",
                got: "true".into(),
                expected: "false where a constraint says when the text is complete".into(),
            });
        }
        let pages = self.options.cache_bytes / page_bytes(&self.model, self.draft.as_deref());
        // Prompt and answer have pages of their own where an encoder reads the prompt.
        let positions = pages.saturating_sub(usize::from(self.model.has_encoder())).saturating_mul(PAGE);
        Waiting::new(request, &self.model, &self.options, positions)
    }

    /// Keeps the engine from computing until what is returned is dropped, for whoever needs the processor for a moment, or wants
    /// several requests to be taken up together. Requests are queued meanwhile, and deadlines pass, of which callers hear afterwards.
    ///
    /// Returns when the turn that is under way is over: one chunk of a prompt and one token of each answer. [`Engine::metrics`] do
    /// not change until it goes on, but for what is queued and refused.
    pub fn hold(&self) -> Hold {
        Hold::new(self.handle.0.clone())
    }

    /// What it has done so far, and is doing.
    pub fn metrics(&self) -> EngineMetrics {
        let shared = &self.handle.0;
        let mut metrics = shared.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (metrics.queued, metrics.rejected) = shared.queue.counts();
        metrics
    }
}

fn serve(model: &LanguageModel, draft: Option<&LanguageModel>, options: &EngineOptions, shared: &Shared) {
    let mut turns = Turns::new(model, draft, options, shared);
    while !turns.is_idle() || shared.queue.wait() {
        // A panic below is a bug of ours or of a dependency: it fails the requests that were running, not the process.
        shared.gate.pass(|| {
            if catch_unwind(AssertUnwindSafe(|| turns.turn())).is_err() {
                turns.fail_all();
            }
        });
    }
}
