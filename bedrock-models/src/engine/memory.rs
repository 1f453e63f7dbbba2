//! The budget of pages, shared by running sequences and the prompts that are remembered.

use super::prefix::{Kept, Prefixes};
use crate::arch::Cache;
use crate::kernels::page::PAGE;

/// Pages are counted as those of all layers together. Law: `reserved + prefixes.pages() <= total`.
pub(super) struct Memory {
    total: usize,
    /// Set aside for running sequences, whether allocated already or not.
    reserved: usize,
    /// None where pages cannot be shared.
    prefixes: Option<Prefixes>,
    evicted: u64,
}

impl Memory {
    pub(super) fn new(total: usize, share: bool) -> Self {
        Self { total, reserved: 0, prefixes: share.then(Prefixes::new), evicted: 0 }
    }

    pub(super) fn total(&self) -> usize {
        self.total
    }

    pub(super) fn reserved(&self) -> usize {
        self.reserved
    }

    pub(super) fn remembered(&self) -> usize {
        self.prefixes.as_ref().map_or(0, Prefixes::pages)
    }

    /// Pages evicted so far.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Sets `pages` aside, evicting what is remembered if need be; false, and nothing changed, if there are not as many.
    pub(super) fn reserve(&mut self, pages: usize) -> bool {
        let free = self.total - self.reserved - self.remembered();
        if let Some(missing) = pages.checked_sub(free).filter(|missing| *missing > 0) {
            let Some(prefixes) = self.prefixes.as_mut().filter(|prefixes| prefixes.evictable() >= missing) else {
                return false;
            };
            self.evicted += prefixes.evict(missing) as u64;
        }
        self.reserved += pages;
        true
    }

    /// Gives back pages that were set aside.
    pub(super) fn release(&mut self, pages: usize) {
        self.reserved -= pages;
    }

    /// Whether pages are shared.
    pub(super) fn shares(&self) -> bool {
        self.prefixes.is_some()
    }

    /// Forgets everything, running sequences included.
    pub(super) fn clear(&mut self) {
        self.reserved = 0;
        self.prefixes = self.prefixes.is_some().then(Prefixes::new);
    }

    /// Continues a prompt with whole blocks: see [`Prefixes::attach`].
    pub(super) fn attach(&mut self, adapter: Option<usize>, prompt: &[u32], caches: &mut [Cache]) -> usize {
        self.prefixes.as_mut().map_or(0, |prefixes| prefixes.attach(adapter, prompt, caches))
    }

    /// Continues a prompt with a part of a block: see [`Prefixes::attach_part`].
    pub(super) fn attach_part(&mut self, adapter: Option<usize>, prompt: &[u32], caches: &mut [Cache]) {
        if let Some(prefixes) = &mut self.prefixes {
            prefixes.attach_part(adapter, prompt, caches);
        }
    }

    /// Remembers `tokens`, which `caches` hold and for whose pages `own` are set aside: these become fewer by those
    /// that are remembered now. Returns the tokens that are new.
    pub(super) fn keep(
        &mut self,
        adapter: Option<usize>,
        tokens: &[u32],
        caches: &mut [Cache],
        own: &mut usize,
    ) -> usize {
        let Some(prefixes) = &mut self.prefixes else { return 0 };
        let Kept { pages, tokens } = prefixes.keep(adapter, tokens, caches);
        *own -= pages;
        self.reserved -= pages;
        tokens
    }

    /// Pages for so many positions.
    pub(super) fn pages(positions: usize) -> usize {
        positions.div_ceil(PAGE)
    }
}
