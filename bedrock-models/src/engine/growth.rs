//! Memory for answers whose requests set no limit: set aside as they grow, and taken back from the last to come where it runs out.
//!
//! An answer that is set back loses its keys and values, and nothing else. When it goes on, its prompt is computed as a prompt and its tokens so
//! far as decoded ones, many at once: rows do not depend on their company, so the numbers are the same to the bit. Where they
//! would not be (positions that depend on the length, devices without kernels), all memory is set aside before the start as ever.
//!
//! Nothing waits for ever. Of such answers the earliest is set back only if requests with limits hold all the rest, which end without needing
//! more; then it is the first to go on. And each that is set back has twice as much set aside from then on, so it is set back
//! a few times at most.

use super::memory::Memory;
use super::request::Waiting;
use super::running::Running;
use super::turn::{Part, Turns};
use crate::arch::Outputs;
use crate::kernels::page::PAGE;
use crate::layers::Phase;

/// Pages that are set aside at once.
pub(super) const STRIDE: usize = 2;

impl Turns<'_> {
    /// The pages that a request may need at most.
    pub(super) fn most_pages(&self, request: &Waiting) -> usize {
        Memory::pages(request.max_positions) + usize::from(self.model.has_encoder())
    }

    /// The pages with which a request starts, or goes on with so many tokens.
    pub(super) fn first_places(&self, request: &Waiting, tokens: usize, stride: usize) -> usize {
        let most = self.most_pages(request);
        if request.is_open && self.replays { most.min(Memory::pages(tokens).saturating_add(stride)) } else { most }
    }

    /// Sets more pages aside for answers that have outgrown theirs, the earliest first; where there are none, the latest of such answers are set back.
    pub(super) fn grow(&mut self) {
        let outgrew = |running: &Running| running.prompt_left() == 0 && running.settled() >= running.places * PAGE;
        let mut places: Vec<_> =
            self.running.iter().filter(|running| outgrew(running)).map(|running| running.request.place).collect();
        places.sort_unstable();
        for place in places {
            // It may have been set back for an earlier one, or by itself.
            while let Some(index) = self.running.iter().position(|running| running.request.place == place)
                && !self.extend(index)
            {
                let open = (0..self.running.len()).filter(|index| self.running[*index].request.is_open);
                // The one that grows is among them.
                let latest = open.max_by_key(|index| self.running[*index].request.place).unwrap_or(index);
                self.set_back(latest);
            }
        }
        self.publish();
    }

    /// Sets the next pages of an answer aside; false if there are none.
    fn extend(&mut self, index: usize) -> bool {
        let running = &self.running[index];
        let left = self.most_pages(&running.request).saturating_sub(running.places);
        let wanted = [running.stride.min(left), 1];
        let Some(pages) = wanted.into_iter().find(|pages| self.memory.reserve(*pages)) else { return false };
        let running = &mut self.running[index];
        running.pages += pages;
        running.places += pages;
        true
    }

    /// Takes the memory of a running request; what is computed of its prompt is remembered as long as nobody needs that.
    fn set_back(&mut self, index: usize) {
        self.keep(index, 1);
        let mut running = self.running.remove(index);
        self.memory.release(running.pages);
        (running.pages, running.places) = (0, 0);
        running.caches.clear();
        running.guess = Default::default();
        running.stride = running.stride.saturating_mul(2);
        (running.was_set_back, running.is_back) = (true, true);
        self.metrics.set_back += 1;
        self.paused.push(running);
    }

    /// Goes on with a request that was set back; false if there is no memory for it.
    pub(super) fn resume(&mut self, index: usize) -> bool {
        let mut caches = self.caches();
        let Running { request, generated, stride, .. } = &self.paused[index];
        let places = self.first_places(request, request.prompt.len() + generated.len(), *stride);
        let hits = self.memory.attach(request.adapter, &request.prompt, &mut caches);
        if !self.memory.reserve(places - hits) {
            return false;
        }
        let mut running = self.paused.swap_remove(index);
        (running.caches, running.pages, running.places) = (caches, places - hits, places);
        self.metrics.page_hits += hits as u64;
        self.running.push(running);
        true
    }

    /// Whether the earliest of those that are not ready to decode has its prompt computed, but not what it had answered.
    pub(super) fn replays_first(&self) -> bool {
        let unready = self.running.iter().filter(|running| running.prompt_left() > 0 || running.replay_left() > 0);
        unready.min_by_key(|running| running.request.place).is_some_and(|running| running.prompt_left() == 0)
    }

    /// Computes a chunk of what answers that were set back consist of already.
    pub(super) fn replay(&mut self) {
        let is_due = |running: &Running| running.prompt_left() == 0 && running.replay_left() > 0;
        let mut due: Vec<usize> = (0..self.running.len()).filter(|index| is_due(&self.running[*index])).collect();
        due.sort_by_key(|index| self.running[*index].request.place);
        let (mut room, mut parts) = (self.options.prefill_chunk.max(1), Vec::new());
        for index in due {
            let tokens = self.running[index].replay_left().min(room);
            if tokens == 0 {
                break;
            }
            room -= tokens;
            parts.push(Part { index, start: self.running[index].computed(), tokens });
        }
        parts.sort_by_key(|part| part.index);
        self.metrics.steps += 1;
        self.metrics.replayed_tokens += parts.iter().map(|part| part.tokens as u64).sum::<u64>();
        self.step(0, Phase::Decode, Outputs::Nothing, &parts);
    }
}
