//! A generation under way.

use std::time::Instant;

use super::metrics::EngineMetrics;
use super::request::{GenerationEvent, GenerationUsage, Waiting};
use crate::arch::Cache;
use crate::error::Error;
use crate::generate::{Candidate, Context, Drawn, FinishReason, Sampler, SamplingParams, lookup, token_log_prob};
use crate::kernels::page::PAGE;

pub(super) struct Running {
    pub(super) request: Waiting,
    /// Keys and values of each model that the engine runs.
    pub(super) caches: Vec<Cache>,
    pub(super) generated: Vec<u32>,
    /// Pages set aside for it alone.
    pub(super) pages: usize,
    /// Pages that it may use, with those that it shares.
    pub(super) places: usize,
    /// Pages that are set aside for it at once as it grows.
    pub(super) stride: usize,
    /// Whether it has been set back, and whether no token has come since.
    pub(super) was_set_back: bool,
    pub(super) is_back: bool,
    /// Tokens of the prompt that were remembered.
    pub(super) cached: usize,
    /// Tokens of the prompt that are remembered because of it.
    pub(super) stored: usize,
    /// Tokens of the answer that its constraint chose.
    closing: usize,
    pub(super) started: Instant,
    first_token: Option<Instant>,
    last_token: Instant,
    /// When its last token was, in steps of the engine.
    last_step: u64,
    /// What comes next, by guess.
    pub(super) guess: Guess,
    /// How many tokens it is worth guessing, going by the last guess.
    reach: usize,
    /// Draws guesses from what a draft model says.
    drafter: Option<Sampler>,
    /// Set when it is over.
    pub(super) end: Option<End>,
}

/// Tokens guessed ahead.
#[derive(Default)]
pub(super) struct Guess {
    pub(super) tokens: Vec<u32>,
    /// What each was drawn from; nothing where guesses are certain.
    from: Vec<Vec<Candidate>>,
}

impl Guess {
    /// The token at an index, if it was drawn and not certain.
    pub(super) fn drawn(&self, index: usize) -> Option<Drawn<'_>> {
        Some(Drawn { token: *self.tokens.get(index)?, from: self.from.get(index)? })
    }
}

/// How a generation ended.
pub(super) enum End {
    /// With all its text. None: the context is full.
    Finished(Option<FinishReason>, String),
    Failed(Error),
    /// Nobody wants the answer.
    Cancelled,
}

impl Running {
    pub(super) fn new(request: Waiting, caches: Vec<Cache>, pages: usize, places: usize) -> Self {
        let now = Instant::now();
        Self {
            cached: caches[0].len,
            request,
            caches,
            generated: Vec::new(),
            pages,
            places,
            stride: super::growth::STRIDE,
            was_set_back: false,
            is_back: false,
            stored: 0,
            closing: 0,
            started: now,
            first_token: None,
            last_token: now,
            last_step: 0,
            guess: Guess::default(),
            reach: usize::MAX,
            drafter: None,
            end: None,
        }
    }

    /// Positions that are computed.
    pub(super) fn computed(&self) -> usize {
        self.caches[0].len
    }

    /// Tokens of the prompt that are to be computed yet.
    pub(super) fn prompt_left(&self) -> usize {
        self.request.prompt.len().saturating_sub(self.computed())
    }

    /// Tokens that are known, but for the last: what the next step of decoding builds on.
    pub(super) fn settled(&self) -> usize {
        (self.request.prompt.len() + self.generated.len()).saturating_sub(1)
    }

    /// Tokens of the answer that are to be computed again, because it was set back.
    pub(super) fn replay_left(&self) -> usize {
        self.settled().saturating_sub(self.computed().max(self.request.prompt.len()))
    }

    /// How many tokens to guess, of at most `most`: as many as were right last time and a few more, and never more than can
    /// follow.
    pub(super) fn to_guess(&self, most: usize) -> usize {
        let end = self.request.max_positions.min(self.places.saturating_mul(PAGE));
        let left = end.saturating_sub(self.request.prompt.len());
        self.reach.min(most).min(left.saturating_sub(self.generated.len() + 1))
    }

    /// Guesses from what there is of prompt and answer.
    pub(super) fn look_up(&mut self, most: usize) {
        const IN_COMMON: usize = 8;
        let context = Context { prompt: &self.request.prompt, generated: &self.generated };
        self.guess.tokens = lookup(context, IN_COMMON, self.to_guess(most));
    }

    /// Guesses one more token from a draft model's `logits`.
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    pub(super) fn draw(&mut self, logits: &[f32]) -> Result<(), Error> {
        let params = self.request.sampler.params();
        if self.drafter.is_none() {
            // Any sequence of its own will do, as long as it is the same for the same seed.
            let seed = params.seed.map(|seed| !seed);
            self.drafter = Some(Sampler::new(SamplingParams { seed, ..params.clone() })?);
        }
        let Some(drafter) = &mut self.drafter else { return Ok(()) };
        let generated = [&self.generated[..], &self.guess.tokens].concat();
        let context = Context { prompt: &self.request.prompt, generated: &generated };
        if params.temperature == 0.0 {
            self.guess.tokens.push(drafter.sample(logits, context)?);
        } else {
            let (token, from) = drafter.draw(logits, context)?;
            self.guess.tokens.push(token);
            self.guess.from.push(from);
        }
        Ok(())
    }

    /// Learns how many of `guessed` tokens were right, and forgets what was computed for the others.
    pub(super) fn learn(&mut self, guessed: usize, right: usize) {
        if guessed > 0 {
            self.reach = if right == guessed { guessed.saturating_mul(2) } else { right + 1 };
        }
        // All but the last token, which is computed next.
        let computed = self.settled();
        self.caches.iter_mut().for_each(|cache| cache.truncate(computed));
    }

    /// Chooses a token from `logits` and reports it; `drawn` is what was guessed, if that was by chance.
    ///
    /// # Errors
    /// Whatever is wrong with the logits or the request's parameters.
    pub(super) fn choose(
        &mut self,
        logits: &[f32],
        drawn: Option<Drawn<'_>>,
        metrics: &mut EngineMetrics,
    ) -> Result<Option<End>, Error> {
        let request = &mut self.request;
        let context = Context { prompt: &request.prompt, generated: &self.generated };
        let allowed = match &mut request.masking {
            Some(masking) => masking.apply(logits)?,
            None => logits,
        };
        let wanted = match drawn {
            None => request.sampler.sample(allowed, context)?,
            Some(drawn) => request.sampler.sample_drawn(allowed, context, drawn)?,
        };
        let id = request.settle(wanted, self.generated.len());
        if id != wanted {
            self.closing += 1;
            metrics.closing_tokens += 1;
        }
        let log_prob = request.log_probs.map(|top| token_log_prob(logits, id, top)).transpose()?;
        self.generated.push(id);
        let delta = request.text.push(id)?;
        let now = Instant::now();
        if self.first_token.is_none() {
            self.first_token = Some(now);
            metrics.first_token.record(now - request.since);
        } else {
            metrics.next_token.record(now - self.last_token);
            let gap = if self.is_back { 0 } else { metrics.steps - self.last_step };
            metrics.longest_gap = metrics.longest_gap.max(gap);
        }
        self.is_back = false;
        (self.last_token, self.last_step) = (now, metrics.steps);
        metrics.generated_tokens += 1;
        // A send fails only when the caller has gone, which the next turn notices.
        let _ = request.events.unbounded_send(Ok(GenerationEvent::Token { id, text: delta.text, log_prob }));
        if delta.finish.is_some() {
            return Ok(Some(End::Finished(delta.finish, String::new())));
        }
        // The position at which the token just chosen would be computed.
        if request.prompt.len() + self.generated.len() > request.max_positions {
            return Ok(Some(End::Finished(None, request.text.finish()?)));
        }
        if let Some(masking) = &mut request.masking {
            masking.advance(id);
        }
        Ok(None)
    }

    /// Tells the caller how it ended.
    pub(super) fn report(self, end: End) {
        let event = match end {
            End::Finished(reason, text) => Ok(GenerationEvent::Finished { reason, text, usage: self.usage() }),
            End::Failed(error) => Err(error),
            End::Cancelled => return,
        };
        let _ = self.request.events.unbounded_send(event);
    }

    fn usage(&self) -> GenerationUsage {
        let since = self.request.since;
        let first = self.first_token.unwrap_or(self.last_token);
        GenerationUsage {
            prompt_tokens: self.request.prompt.len(),
            cached_tokens: self.cached,
            // A block that was remembered in part is remembered anew as a whole.
            stored_tokens: self.stored.min(self.request.prompt.len() - self.cached),
            generated_tokens: self.generated.len(),
            closing_tokens: self.closing,
            queued: self.started - since,
            prefill: first - self.started,
            first_token: first - since,
            decode: self.last_token - first,
        }
    }
}
