//! What callers give to the engine and get from it.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::{Stream, StreamExt};

use super::queue::Place;
use crate::error::Error;
use crate::generate::{
    Constraint, FinishReason, Masking, Sampler, SamplingParams, TextStream, TextStreamOptions, TokenLogProb,
};
use crate::language_model::LanguageModel;
use crate::options::EngineOptions;

/// A prompt in tokens and what to do with it.
#[derive(Debug, Clone, Default)]
pub struct GenerationRequest {
    /// The prompt, special tokens included.
    pub prompt: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// The most tokens to generate. Memory for all of them is set aside before the first.
    ///
    /// None: as many as fit in the context, and in the memory of the engine, which is set aside as the answer grows. Where there
    /// is none left, of such answers those that came last are set back: they go on, unchanged, when others are done.
    pub max_tokens: Option<usize>,
    /// Texts that end the generation and are not part of it.
    pub stop_sequences: Vec<String>,
    /// Treat end-of-text tokens as any other, as benchmarks do.
    pub ignore_end: bool,
    /// Special tokens that are shown as text; others are left out.
    pub shown_special: Vec<u32>,
    /// What the text must conform to; excludes `ignore_end`. Where a text that does fits into `max_tokens` and the context, the answer is
    /// completed within them.
    pub constraint: Option<Constraint>,
    /// Report log-probabilities of the chosen and of this many most likely tokens.
    pub log_probs: Option<usize>,
    /// The adapter to answer with: a name of [`LoadOptions::adapters`](crate::LoadOptions::adapters). None: without.
    pub adapter: Option<String>,
    /// Who goes first where not all can.
    pub priority: Priority,
    /// When the answer is of no use any more: the generation ends with [`Error::DeadlineExceeded`], waiting or running.
    pub deadline: Option<Instant>,
}

/// Who goes first where not all can. Running answers are not interrupted for others, but for those without
/// [`max_tokens`](GenerationRequest::max_tokens) where memory runs out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// After all others, the service's tier `flex`.
    Low,
    /// As usual.
    #[default]
    Normal,
    /// Before all others, the service's tier `priority`.
    High,
}

impl Priority {
    /// Steps below the highest.
    pub(super) fn steps_down(self) -> u128 {
        match self {
            Self::High => 0,
            Self::Normal => 1,
            Self::Low => 2,
        }
    }
}

/// One step of a generation.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum GenerationEvent {
    /// A token was chosen.
    Token {
        /// The token; also the one that ends the generation.
        id: u32,
        /// What it adds to the text; empty while text is held back.
        text: String,
        /// Its log-probability, if asked for.
        log_prob: Option<TokenLogProb>,
    },
    /// The generation ended. The last event.
    Finished {
        /// Why; none if the context is full.
        reason: Option<FinishReason>,
        /// Text that was held back.
        text: String,
        /// Counts and times.
        usage: GenerationUsage,
    },
}

/// Counts and times of one generation.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct GenerationUsage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that were not computed, because an earlier prompt began alike.
    pub cached_tokens: usize,
    /// Those of the others that are remembered from now on.
    pub stored_tokens: usize,
    /// Tokens generated, the end token included.
    pub generated_tokens: usize,
    /// Those of them that its constraint chose in the model's place, so that the answer ends within what it may have.
    pub closing_tokens: usize,
    /// From the request to its first step.
    pub queued: Duration,
    /// From its first step to the end of the prompt.
    pub prefill: Duration,
    /// From the request to the first token.
    pub first_token: Duration,
    /// From the first token to the last.
    pub decode: Duration,
}

/// The events of one generation, as a stream or, without a runtime, as an iterator.
#[derive(Debug)]
pub struct Generation {
    events: UnboundedReceiver<Result<GenerationEvent, Error>>,
}

impl Stream for Generation {
    type Item = Result<GenerationEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        self.events.poll_next_unpin(context)
    }
}

impl Iterator for Generation {
    type Item = Result<GenerationEvent, Error>;

    /// Blocks until the next event.
    fn next(&mut self) -> Option<Self::Item> {
        futures::executor::block_on(self.events.next())
    }
}

/// Unbounded as a channel, bounded by the tokens that the request may generate.
pub(super) type Events = UnboundedSender<Result<GenerationEvent, Error>>;

/// Whether a request is still to be answered.
#[derive(Clone)]
pub(super) struct Gone {
    events: Events,
    deadline: Option<Instant>,
}

impl Gone {
    pub(super) fn at(&self, now: Instant) -> bool {
        self.events.is_closed() || self.is_late(now)
    }

    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// A checked request on its way to the engine.
pub(super) struct Waiting {
    pub(super) prompt: Vec<u32>,
    pub(super) sampler: Sampler,
    pub(super) masking: Option<Masking>,
    pub(super) text: TextStream,
    pub(super) log_probs: Option<usize>,
    /// Number of the adapter to answer with.
    pub(super) adapter: Option<usize>,
    /// Prompt and answer together.
    pub(super) max_positions: usize,
    /// Whether the request set no limit itself.
    pub(super) is_open: bool,
    pub(super) priority: Priority,
    pub(super) events: Events,
    pub(super) gone: Gone,
    pub(super) since: Instant,
    /// Set by the queue.
    pub(super) place: Place,
}

impl Waiting {
    /// `positions`: as many as the engine has memory for. The request's constraint is left to be compiled into its masking.
    pub(super) fn new(
        request: GenerationRequest,
        model: &LanguageModel,
        options: &EngineOptions,
        positions: usize,
    ) -> Result<(Self, Generation), Error> {
        model.check_tokens(&request.prompt)?;
        let adapter = request.adapter.as_deref().map(|name| model.adapter_number(name)).transpose()?;
        let text = TextStreamOptions {
            stop_sequences: request.stop_sequences,
            max_tokens: request.max_tokens,
            ignore_end: request.ignore_end,
            keep_special: false,
            shown_special: request.shown_special,
        };
        let sampler = Sampler::new(request.sampling)?;
        let text = TextStream::new(model.tokenizer()?, &text)?;
        let since = Instant::now();
        let latest = options.timeout.and_then(|timeout| since.checked_add(timeout));
        let (events, receiver) = unbounded();
        let most = model.max_tokens;
        let waiting = Self {
            max_positions: match request.max_tokens {
                Some(tokens) => request.prompt.len().saturating_add(tokens).min(most),
                // No answer without a place for its first token.
                None => most.min(positions.max(request.prompt.len())),
            },
            is_open: request.max_tokens.is_none(),
            prompt: request.prompt,
            sampler,
            masking: None,
            text,
            log_probs: request.log_probs,
            adapter,
            priority: request.priority,
            gone: Gone {
                events: events.clone(),
                deadline: request
                    .deadline
                    .map_or(latest, |deadline| Some(latest.map_or(deadline, |l| l.min(deadline)))),
            },
            events,
            since,
            place: Place::default(),
        };
        Ok((waiting, Generation { events: receiver }))
    }

    /// Tokens that may still be generated after this many.
    pub(super) fn left(&self, generated: usize) -> usize {
        // The last one need not be computed.
        let most = (self.max_positions + 1).saturating_sub(self.prompt.len());
        most.saturating_sub(generated).min(self.text.left())
    }

    /// The token to take where `id` was chosen after `generated` others, so that what must conform can still be completed.
    pub(super) fn settle(&mut self, id: u32, generated: usize) -> u32 {
        let left = self.left(generated).saturating_sub(1);
        self.masking.as_mut().map_or(id, |masking| masking.settle(id, left))
    }
}
