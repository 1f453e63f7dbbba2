//! One turn of the engine: a chunk of a prompt, then a token for every running generation.

use std::collections::VecDeque;
use std::time::Instant;

use super::request::{GenerationEvent, GenerationUsage, Waiting};
use crate::arch::{Cache, Outputs, Step};
use crate::error::Error;
use crate::generate::{Context, token_log_prob};
use crate::kernels::attention::PAGE;
use crate::language_model::{LanguageModel, rows_of};
use crate::layers::Phase;
use crate::options::EngineOptions;

/// A generation under way.
struct Running {
    request: Waiting,
    cache: Cache,
    generated: Vec<u32>,
    started: Instant,
    first_token: Option<Instant>,
    /// Bytes of cache set aside for it.
    bytes: usize,
}

impl Running {
    fn prompt_left(&self) -> usize {
        self.request.prompt.len() - self.cache.len.min(self.request.prompt.len())
    }

    fn cancelled(&self) -> bool {
        self.request.events.is_closed()
    }

    /// Chooses a token from `logits` and reports it; `false` ends the generation.
    fn choose(&mut self, logits: &[f32]) -> Result<bool, Error> {
        let request = &mut self.request;
        let context = Context { prompt: &request.prompt, generated: &self.generated };
        let id = match &mut request.masking {
            Some(masking) => request.sampler.sample(masking.apply(logits)?, context)?,
            None => request.sampler.sample(logits, context)?,
        };
        let log_prob = request.log_probs.map(|top| token_log_prob(logits, id, top)).transpose()?;
        self.first_token.get_or_insert_with(Instant::now);
        self.generated.push(id);
        let delta = request.text.push(id)?;
        // A send fails only when the caller has gone, which the next turn notices.
        let _ = request.events.unbounded_send(Ok(GenerationEvent::Token { id, text: delta.text, log_prob }));
        if delta.finish.is_some() {
            self.finish(delta.finish, String::new());
            return Ok(false);
        }
        // The token just chosen would be computed at position `cache.len`.
        if self.cache.len >= self.request.max_positions {
            let text = self.request.text.finish()?;
            self.finish(None, text);
            return Ok(false);
        }
        if let Some(masking) = &mut self.request.masking {
            masking.advance(id);
        }
        Ok(true)
    }

    fn finish(&self, reason: Option<crate::generate::FinishReason>, text: String) {
        let (now, since) = (Instant::now(), self.request.since);
        let first = self.first_token.unwrap_or(now);
        let usage = GenerationUsage {
            prompt_tokens: self.request.prompt.len(),
            generated_tokens: self.generated.len(),
            queued: self.started - since,
            prefill: first - self.started,
            first_token: first - since,
            decode: now - first,
        };
        let _ = self.request.events.unbounded_send(Ok(GenerationEvent::Finished { reason, text, usage }));
    }

    fn fail(self, error: Error) {
        let _ = self.request.events.unbounded_send(Err(error));
    }
}

/// All generations of an engine.
pub(super) struct Turns<'m> {
    model: &'m LanguageModel,
    options: &'m EngineOptions,
    running: Vec<Running>,
    /// Requests for which there is no memory yet, in order.
    waiting: VecDeque<Waiting>,
}

impl<'m> Turns<'m> {
    pub(super) fn new(model: &'m LanguageModel, options: &'m EngineOptions) -> Self {
        Self { model, options, running: Vec::new(), waiting: VecDeque::new() }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// Whether another request may be taken from the queue.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.is_empty() && self.running.len() < self.options.batch.max(1)
    }

    pub(super) fn admit(&mut self, request: Waiting) {
        self.waiting.push_back(request);
        self.start_waiting();
    }

    /// Starts as many waiting requests as fit, in order: none overtakes one that waits for memory.
    fn start_waiting(&mut self) {
        while self.running.len() < self.options.batch.max(1)
            && let Some(request) = self.waiting.pop_front()
        {
            let pages = request.max_positions.div_ceil(PAGE) + usize::from(self.model.has_encoder());
            let bytes = pages.saturating_mul(self.model.network.page_bytes());
            let used: usize = self.running.iter().map(|running| running.bytes).sum();
            if bytes > self.options.cache_bytes {
                let (needed, limit) = (bytes, self.options.cache_bytes);
                let _ = request.events.unbounded_send(Err(Error::CacheTooSmall { needed, limit }));
                continue;
            }
            if bytes > self.options.cache_bytes.saturating_sub(used) {
                self.waiting.push_front(request);
                return;
            }
            self.running.push(Running {
                cache: Cache::new(self.model.network.layers()),
                generated: Vec::new(),
                started: Instant::now(),
                first_token: None,
                bytes,
                request,
            });
        }
    }

    /// One chunk of a prompt, and one token for every generation whose prompt is done.
    pub(super) fn turn(&mut self) {
        self.running.retain(|running| !running.cancelled());
        self.waiting.retain(|request| !request.events.is_closed());
        self.start_waiting();
        // Those whose prompt is done before this turn's chunk; the one that ends with it has its first token already.
        let decoding: Vec<usize> = (0..self.running.len()).filter(|i| self.running[*i].prompt_left() == 0).collect();
        let mut ended = Vec::new();
        if let Some(index) = self.running.iter().position(|running| running.prompt_left() > 0)
            && !self.prefill(index)
        {
            ended.push(index);
        }
        ended.extend(self.decode(&decoding));
        ended.sort_unstable();
        for index in ended.into_iter().rev() {
            self.running.remove(index);
        }
    }

    /// The next chunk of a prompt; `false` if the generation ended with it.
    fn prefill(&mut self, index: usize) -> bool {
        let Running { request, cache, .. } = &mut self.running[index];
        let left = request.prompt.len() - cache.len;
        // An encoder reads a prompt as a whole.
        let most = if self.model.has_encoder() { left } else { self.options.prefill_chunk.max(1) };
        let chunk = left.min(most);
        let outputs = if chunk == left { Outputs::Last } else { Outputs::Nothing };
        let cancelled = || request.events.is_closed();
        let mut step = Step::new(Phase::Prompt, outputs, &cancelled);
        step.push(&request.prompt[cache.len..cache.len + chunk], cache);
        let logits = self.model.network.forward(&self.model.compute, &mut step);
        match logits {
            Some(logits) => {
                let rows = rows_of(logits, self.model.vocab_size);
                self.choose(index, &rows[0])
            }
            None => !self.running[index].cancelled(),
        }
    }

    /// One token for each of the generations at `indices`; returns those that ended.
    fn decode(&mut self, indices: &[usize]) -> Vec<usize> {
        if indices.is_empty() {
            return Vec::new();
        }
        let senders: Vec<_> = indices.iter().map(|i| self.running[*i].request.events.clone()).collect();
        let cancelled = || senders.iter().all(|sender| sender.is_closed());
        let mut step = Step::new(Phase::Decode, Outputs::Last, &cancelled);
        for (index, running) in self.running.iter_mut().enumerate() {
            if indices.contains(&index) {
                let last = running.generated.last().copied().expect("a prompt ends with a first token");
                step.push(&[last], &mut running.cache);
            }
        }
        match self.model.network.forward(&self.model.compute, &mut step) {
            Some(logits) => {
                let rows = rows_of(logits, self.model.vocab_size);
                indices.iter().zip(rows).filter(|(index, row)| !self.choose(**index, row)).map(|(i, _)| *i).collect()
            }
            None => indices.to_vec(),
        }
    }

    /// Chooses the next token of a generation; a failure ends that generation alone.
    fn choose(&mut self, index: usize, logits: &[f32]) -> bool {
        match self.running[index].choose(logits) {
            Ok(more) => more,
            Err(error) => {
                let _ = self.running[index].request.events.unbounded_send(Err(error));
                false
            }
        }
    }

    /// Ends everything that was running with an error.
    pub(super) fn fail_all(&mut self) {
        self.running.drain(..).for_each(|running| running.fail(Error::EngineFailed));
    }
}
