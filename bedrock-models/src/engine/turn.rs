//! One turn of the engine: a chunk of the prompts, then a token for every running generation.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
use std::time::Instant;

use burn::Tensor;

use super::Shared;
use super::memory::Memory;
use super::metrics::EngineMetrics;
use super::request::{Gone, Waiting};
use super::running::{End, Running};
use crate::arch::{Cache, Outputs, Step};
use crate::error::Error;
use crate::generate::Drawn;
use crate::kernels::page::PAGE;
use crate::language_model::{LanguageModel, rows_of};
use crate::layers::Phase;
use crate::options::{EngineOptions, Speculation};

/// Rows of a decoding step up to which it takes hardly longer than with one.
const ROWS_WORTH_GUESSING: usize = 8;

/// All generations of an engine.
pub(super) struct Turns<'e> {
    pub(super) model: &'e LanguageModel,
    draft: Option<&'e LanguageModel>,
    speculation: Speculation,
    pub(super) options: &'e EngineOptions,
    shared: &'e Shared,
    pub(super) running: Vec<Running>,
    /// Those that were set back: without caches, to be taken up again.
    pub(super) paused: Vec<Running>,
    pub(super) memory: Memory,
    pub(super) metrics: EngineMetrics,
    /// Whether what was decoded can be decoded again, all at once and to the bit.
    pub(super) replays: bool,
}

/// Rows of one sequence in a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    /// Of the running generations.
    pub(super) index: usize,
    pub(super) start: usize,
    pub(super) tokens: usize,
}

impl<'e> Turns<'e> {
    pub(super) fn new(
        model: &'e LanguageModel,
        draft: Option<&'e LanguageModel>,
        options: &'e EngineOptions,
        shared: &'e Shared,
    ) -> Self {
        let share = options.prefix_cache && is_causal_by_token(model) && draft.is_none_or(is_causal_by_token);
        let speculation = if is_causal_by_token(model) { options.speculation } else { Speculation::Off };
        let memory = Memory::new(options.cache_bytes / page_bytes(model, draft), share);
        let (running, paused, metrics) = (Vec::new(), Vec::new(), EngineMetrics::default());
        let replays = is_causal_by_token(model) && !model.has_encoder() && draft.is_none_or(is_causal_by_token);
        let turns = Self { model, draft, speculation, options, shared, running, paused, memory, metrics, replays };
        turns.publish();
        turns
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.paused.is_empty()
    }

    /// One chunk of the prompts, or of answers that were set back, and one token for every generation that is as far.
    pub(super) fn turn(&mut self) {
        self.drop_gone();
        self.admit();
        if self.replays_first() {
            self.replay();
        } else {
            self.prefill();
        }
        self.retire();
        self.grow();
        self.decode();
        self.retire();
    }

    /// Ends what nobody waits for any more.
    fn drop_gone(&mut self) {
        let now = Instant::now();
        for running in self.running.iter_mut().filter(|running| running.request.gone.at(now)) {
            running.end = Some(end_of(&running.request, now));
        }
        for request in self.shared.queue.take_gone(now) {
            let end = end_of(&request, now);
            self.dismiss(request, end);
        }
        for paused in self.paused.extract_if(.., |paused| paused.request.gone.at(now)).collect::<Vec<_>>() {
            let end = end_of(&paused.request, now);
            self.count(&end);
            self.publish();
            paused.report(end);
        }
        self.retire();
    }

    /// Ends a request that never ran. Counted before its caller is told, who may look at the metrics at once.
    fn dismiss(&mut self, request: Waiting, end: End) {
        self.count(&end);
        self.publish();
        Running::new(request, self.caches(), 0, 0).report(end);
    }

    pub(super) fn caches(&self) -> Vec<Cache> {
        let models = std::iter::once(self.model).chain(self.draft);
        models.map(|model| Cache::new(model.network.layers())).collect()
    }

    /// Starts as many waiting requests as fit, and goes on with those that were set back, in order: none overtakes one that waits for memory.
    fn admit(&mut self) {
        loop {
            let paused = (0..self.paused.len()).min_by_key(|index| self.paused[*index].request.place);
            let place = paused.map(|index| self.paused[index].request.place);
            let has_room = self.running.len() + self.paused.len() < self.options.batch.max(1);
            let waiting = if has_room { self.shared.queue.take_before(place) } else { None };
            let goes_on = match (waiting, paused) {
                (Some(request), _) => self.start(request),
                (None, Some(index)) => self.resume(index),
                (None, None) => false,
            };
            if !goes_on {
                break;
            }
        }
        self.publish();
    }

    /// Starts a request; false, and it waits again, if there is no memory for it.
    fn start(&mut self, request: Waiting) -> bool {
        let most = self.most_pages(&request);
        if most > self.memory.total() {
            let needed = most.saturating_mul(page_bytes(self.model, self.draft));
            let end = End::Failed(Error::CacheTooSmall { needed, limit: self.options.cache_bytes });
            self.dismiss(request, end);
            return true;
        }
        let places = self.first_places(&request, request.prompt.len(), super::growth::STRIDE);
        let mut caches = self.caches();
        let hits = self.memory.attach(request.adapter, &request.prompt, &mut caches);
        let cached = caches[0].len;
        if !self.memory.reserve(places - hits) {
            self.shared.queue.restore(request);
            return false;
        }
        self.metrics.page_hits += hits as u64;
        self.metrics.cached_tokens += cached as u64;
        self.running.push(Running::new(request, caches, places - hits, places));
        true
    }

    /// What of which prompts is computed next: first come, first served, as many as fill a chunk.
    fn parts(&mut self) -> Vec<Part> {
        let mut order: Vec<usize> = (0..self.running.len()).filter(|i| self.running[*i].prompt_left() > 0).collect();
        order.sort_by_key(|index| self.running[*index].request.place);
        let mut room = self.options.prefill_chunk.max(1);
        let mut parts: Vec<Part> = Vec::new();
        for index in order {
            if room == 0 {
                break;
            }
            let start = self.take_over(index);
            if self.is_computed_by(&parts, index, start) {
                continue;
            }
            let start = self.take_over_part(index, start);
            let left = self.running[index].prompt_left();
            // Chunks end with blocks, where the next can start with what is remembered.
            let whole = (start + room) / PAGE * PAGE;
            if left > room && whole <= start && !parts.is_empty() {
                // What room is left is not worth another part.
                break;
            }
            let tokens = match left > room && whole > start {
                // An encoder reads a prompt as a whole.
                _ if self.model.has_encoder() => left,
                true => whole - start,
                false => left.min(room),
            };
            room = room.saturating_sub(tokens);
            parts.push(Part { index, start, tokens });
        }
        parts.sort_by_key(|part| part.index);
        parts
    }

    /// Takes whole blocks that come next from what is remembered: others may have computed them since the last chunk.
    /// Returns where computing has to start.
    fn take_over(&mut self, index: usize) -> usize {
        let running = &mut self.running[index];
        let before = running.computed();
        let hits = self.memory.attach(running.request.adapter, &running.request.prompt, &mut running.caches);
        self.memory.release(hits);
        running.pages -= hits;
        self.metrics.page_hits += hits as u64;
        self.count_cached(index, before)
    }

    /// Takes the beginning of the next block, which the sequence then continues in a copy.
    fn take_over_part(&mut self, index: usize, before: usize) -> usize {
        let running = &mut self.running[index];
        self.memory.attach_part(running.request.adapter, &running.request.prompt, &mut running.caches);
        self.count_cached(index, before)
    }

    fn count_cached(&mut self, index: usize, before: usize) -> usize {
        let running = &mut self.running[index];
        let start = running.computed();
        if running.was_set_back {
            // What it takes from memory now was its own.
            return start;
        }
        running.cached += start - before;
        self.metrics.cached_tokens += (start - before) as u64;
        start
    }

    /// Whether the block from `start` on is computed by another sequence in this very step: then it is there for the taking in
    /// the next.
    fn is_computed_by(&self, parts: &[Part], index: usize, start: usize) -> bool {
        let Waiting { prompt, adapter, .. } = &self.running[index].request;
        let end = start + PAGE;
        let is_same = |part: &Part| {
            let Waiting { prompt: other, adapter: its, .. } = &self.running[part.index].request;
            part.start <= start && end <= part.start + part.tokens && its == adapter && prompt[..end] == other[..end]
        };
        self.memory.shares() && start.is_multiple_of(PAGE) && end < prompt.len() && parts.iter().any(is_same)
    }

    /// The next chunk of the prompts.
    fn prefill(&mut self) {
        let parts = self.parts();
        if parts.is_empty() {
            return;
        }
        let ends = parts.iter().any(|part| {
            let running = &self.running[part.index];
            running.prompt_left() == part.tokens && running.generated.is_empty()
        });
        let outputs = if ends { Outputs::Last } else { Outputs::Nothing };
        self.metrics.steps += 1;
        let logits = self.step(0, Phase::Prompt, outputs, &parts);
        if self.draft.is_some() {
            self.step(1, Phase::Prompt, Outputs::Nothing, &parts);
        }
        if parts.iter().any(|part| self.running[part.index].computed() != part.start + part.tokens) {
            // Abandoned, because all of them are gone: the next turn drops them.
            return;
        }
        self.metrics.prefill_steps += 1;
        for part in &parts {
            self.metrics.prefill_tokens += part.tokens as u64;
            self.keep(part.index, PAGE);
        }
        let rows = logits.map_or_else(Vec::new, |logits| rows_of(logits, self.model.vocab_size));
        for (part, row) in parts.iter().zip(rows) {
            // The answer of one that was set back has begun already.
            if self.running[part.index].prompt_left() == 0 && self.running[part.index].generated.is_empty() {
                self.choose(part.index, &row, None);
            }
        }
    }

    /// One token for each of the generations whose prompt is done, and more where they were guessed.
    fn decode(&mut self) {
        let is_ready = |running: &Running| running.prompt_left() == 0 && running.replay_left() == 0;
        let ready: Vec<usize> = (0..self.running.len()).filter(|i| is_ready(&self.running[*i])).collect();
        if ready.is_empty() {
            return;
        }
        match self.speculation {
            Speculation::Off => {}
            Speculation::Lookup { tokens } => {
                // Many rows cost more than reading the weights once: with much company, guessing does not pay.
                let most = tokens.min(ROWS_WORTH_GUESSING / ready.len());
                ready.iter().for_each(|index| self.running[*index].look_up(most));
            }
            Speculation::Draft { tokens } => self.draft(&ready, tokens),
        }
        let part = |index: usize| {
            let running = &self.running[index];
            Part { index, start: running.computed(), tokens: 1 + running.guess.tokens.len() }
        };
        let parts: Vec<Part> = ready.iter().map(|index| part(*index)).collect();
        self.metrics.steps += 1;
        let Some(logits) = self.step(0, Phase::Decode, Outputs::All, &parts) else { return };
        self.metrics.decode_steps += 1;
        self.metrics.decode_sequences += parts.len() as u64;
        self.metrics.largest_batch = self.metrics.largest_batch.max(parts.len());
        let mut rows = rows_of(logits, self.model.vocab_size).into_iter();
        for part in &parts {
            let rows: Vec<Vec<f32>> = rows.by_ref().take(part.tokens).collect();
            self.check(part.index, &rows);
        }
    }

    /// Lets the draft model guess up to `most` tokens for each generation, one after another.
    fn draft(&mut self, ready: &[usize], most: usize) {
        let mut wanted: Vec<(usize, usize)> = ready.iter().map(|i| (*i, self.running[*i].to_guess(most))).collect();
        loop {
            wanted.retain(|(index, most)| self.running[*index].guess.tokens.len() < *most);
            if wanted.is_empty() {
                return;
            }
            let part = |(index, _): &(usize, usize)| {
                let Running { request, generated, guess, caches, .. } = &self.running[*index];
                let known = request.prompt.len() + generated.len() + guess.tokens.len();
                Part { index: *index, start: caches[1].len, tokens: known - caches[1].len }
            };
            let parts: Vec<Part> = wanted.iter().map(part).collect();
            let Some(logits) = self.step(1, Phase::Decode, Outputs::Last, &parts) else { return };
            for (part, row) in parts.iter().zip(rows_of(logits, self.model.vocab_size)) {
                if self.running[part.index].draw(&row).is_err() {
                    // A guess that cannot be made is none; what is wrong with the request shows when it is checked.
                    wanted.retain(|(index, _)| *index != part.index);
                }
            }
        }
    }

    /// Chooses tokens from the logits after the last token and after each guessed one, as long as the guesses are right.
    fn check(&mut self, index: usize, rows: &[Vec<f32>]) {
        let guess = std::mem::take(&mut self.running[index].guess);
        let mut right = 0;
        for (at, row) in rows.iter().enumerate() {
            self.choose(index, row, guess.drawn(at));
            let running = &self.running[index];
            let is_right = guess.tokens.get(at).is_some_and(|guess| running.generated.last() == Some(guess));
            right += usize::from(is_right);
            if running.end.is_some() || !is_right {
                break;
            }
        }
        self.metrics.guessed_tokens += guess.tokens.len() as u64;
        self.metrics.accepted_tokens += right as u64;
        self.running[index].learn(guess.tokens.len(), right);
    }

    /// Runs the next tokens of some sequences, in the order of their indices, through the model (0) or its draft (1).
    pub(super) fn step(&mut self, network: usize, phase: Phase, outputs: Outputs, parts: &[Part]) -> Option<Tensor<2>> {
        let gone: Vec<Gone> = parts.iter().map(|part| self.running[part.index].request.gone.clone()).collect();
        let cancelled = || {
            let now = Instant::now();
            gone.iter().all(|gone| gone.at(now))
        };
        let mut step = Step::new(phase, outputs, &cancelled);
        let mut chosen = Vec::new();
        let mut parts = parts.iter().peekable();
        for (index, running) in self.running.iter_mut().enumerate() {
            if let Some(part) = parts.next_if(|part| part.index == index) {
                let Running { request, generated, guess, caches, .. } = running;
                let tokens = request.prompt.iter().chain(&*generated).chain(&guess.tokens);
                let tokens: Vec<u32> = tokens.skip(part.start).take(part.tokens).copied().collect();
                step.push(&tokens, &mut caches[network]);
                chosen.extend(std::iter::repeat_n(request.adapter, tokens.len()));
            }
        }
        let model = self.draft.filter(|_| network == 1).unwrap_or(self.model);
        if network == 0 && chosen.iter().any(Option::is_some) {
            return model.network.forward(&model.compute.with_chosen(chosen), &mut step);
        }
        model.network.forward(&model.compute, &mut step)
    }

    /// Chooses the next token of a generation; a failure ends that generation alone.
    fn choose(&mut self, index: usize, logits: &[f32], drawn: Option<Drawn<'_>>) {
        let (running, metrics) = (&mut self.running[index], &mut self.metrics);
        // A panic here would be of one request, so it is its failure, not that of all.
        let chosen = catch_unwind(AssertUnwindSafe(|| running.choose(logits, drawn, metrics)));
        running.end = chosen.unwrap_or(Err(Error::EngineFailed)).unwrap_or_else(|error| Some(End::Failed(error)));
    }

    /// Remembers what is computed of a prompt, in blocks of `unit` tokens.
    pub(super) fn keep(&mut self, index: usize, unit: usize) {
        let running = &mut self.running[index];
        let computed = running.caches.iter().map(|cache| cache.len).min().unwrap_or(0);
        let end = computed.min(running.request.prompt.len()) / unit * unit;
        let Running { request, caches, pages, .. } = running;
        running.stored += self.memory.keep(request.adapter, &request.prompt[..end], caches, pages);
    }

    /// Takes out the generations that are over, then tells their callers, so that whoever learns of an end finds the memory free and
    /// the prompt remembered.
    fn retire(&mut self) {
        let ended: Vec<usize> = (0..self.running.len()).filter(|i| self.running[*i].end.is_some()).collect();
        let mut reports = Vec::new();
        for index in ended.into_iter().rev() {
            self.keep(index, 1);
            let mut running = self.running.remove(index);
            self.memory.release(running.pages);
            let end = running.end.take().expect("selected by it");
            self.count(&end);
            running.caches.clear();
            reports.push((running, end));
        }
        self.publish();
        reports.into_iter().rev().for_each(|(running, end)| running.report(end));
    }

    fn count(&mut self, end: &End) {
        let metrics = &mut self.metrics;
        match end {
            End::Finished(..) => metrics.finished += 1,
            End::Cancelled => metrics.cancelled += 1,
            End::Failed(Error::DeadlineExceeded) => metrics.timed_out += 1,
            End::Failed(_) => metrics.failed += 1,
        }
    }

    /// Ends everything that was running with an error, and forgets what the failure may have left half done.
    pub(super) fn fail_all(&mut self) {
        self.memory.clear();
        self.running.append(&mut self.paused);
        for index in 0..self.running.len() {
            let caches = self.caches();
            let running = &mut self.running[index];
            (running.pages, running.caches) = (0, caches);
            running.end = Some(End::Failed(Error::EngineFailed));
        }
        self.retire();
    }

    pub(super) fn publish(&self) {
        let mut metrics = self.metrics.clone();
        metrics.running = self.running.len() + self.paused.len();
        metrics.pages = self.memory.total();
        metrics.reserved_pages = self.memory.reserved();
        metrics.remembered_pages = self.memory.remembered();
        metrics.evicted_pages = self.memory.evicted();
        *self.shared.metrics.lock().unwrap_or_else(PoisonError::into_inner) = metrics;
    }
}

/// Whether pages may be shared, and several tokens of one sequence decoded in one step.
pub(super) fn is_causal_by_token(model: &LanguageModel) -> bool {
    model.compute.pool.is_some() && model.network.is_causal_by_token()
}

/// Bytes of a page of all layers of all models.
pub(super) fn page_bytes(model: &LanguageModel, draft: Option<&LanguageModel>) -> usize {
    let draft = draft.map_or(0, |draft| draft.network.page_bytes());
    model.network.page_bytes().saturating_add(draft).max(1)
}

fn end_of(request: &Waiting, now: Instant) -> End {
    if request.events.is_closed() || !request.gone.is_late(now) {
        return End::Cancelled;
    }
    End::Failed(Error::DeadlineExceeded)
}
