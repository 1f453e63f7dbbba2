//! What callers give to the engine and get from it.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::{Stream, StreamExt};

use crate::error::Error;
use crate::generate::{
    Constraint, Constraints, FinishReason, Masking, Sampler, SamplingParams, TextStream, TextStreamOptions,
    TokenLogProb,
};
use crate::language_model::LanguageModel;

/// A prompt in tokens and what to do with it.
#[derive(Debug, Clone, Default)]
pub struct GenerationRequest {
    /// The prompt, special tokens included.
    pub prompt: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// The most tokens to generate; none: as many as fit in the context.
    pub max_tokens: Option<usize>,
    /// Texts that end the generation and are not part of it.
    pub stop_sequences: Vec<String>,
    /// Treat end-of-text tokens as any other, as benchmarks do.
    pub ignore_end: bool,
    /// Special tokens that are shown as text; others are left out.
    pub shown_special: Vec<u32>,
    /// What the text must conform to; excludes `ignore_end`.
    pub constraint: Option<Constraint>,
    /// Report log-probabilities of the chosen and of this many most likely tokens.
    pub log_probs: Option<usize>,
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
    /// Tokens generated, the end token included.
    pub generated_tokens: usize,
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

/// A checked request on its way to the engine.
pub(super) struct Waiting {
    pub(super) prompt: Vec<u32>,
    pub(super) sampler: Sampler,
    pub(super) masking: Option<Masking>,
    pub(super) text: TextStream,
    pub(super) log_probs: Option<usize>,
    /// Prompt and answer together.
    pub(super) max_positions: usize,
    /// Unbounded as a channel, bounded by the tokens that the request may generate.
    pub(super) events: UnboundedSender<Result<GenerationEvent, Error>>,
    pub(super) since: Instant,
}

impl Waiting {
    pub(super) fn new(
        request: GenerationRequest,
        model: &LanguageModel,
        constraints: &Constraints,
    ) -> Result<(Self, Generation), Error> {
        model.check_tokens(&request.prompt)?;
        let options = TextStreamOptions {
            stop_sequences: request.stop_sequences,
            max_tokens: request.max_tokens,
            ignore_end: request.ignore_end,
            keep_special: false,
            shown_special: request.shown_special,
        };
        if request.constraint.is_some() && request.ignore_end {
            return Err(Error::InvalidParameter {
                name: "ignore_end",
                got: "true".into(),
                expected: "false where a constraint says when the text is complete".into(),
            });
        }
        let room = request.max_tokens.unwrap_or(usize::MAX);
        let (events, receiver) = unbounded();
        let sampler = Sampler::new(request.sampling)?;
        let text = TextStream::new(model.tokenizer()?, &options)?;
        let compile = |constraint| constraints.compile(constraint, model.tokenizer()?);
        let waiting = Self {
            max_positions: request.prompt.len().saturating_add(room).min(model.max_tokens),
            prompt: request.prompt,
            sampler,
            masking: request.constraint.as_ref().map(compile).transpose()?,
            text,
            log_probs: request.log_probs,
            events,
            since: Instant::now(),
        };
        Ok((waiting, Generation { events: receiver }))
    }
}
