//! The walk: outwards from an entry, always on from the best place that was not left yet.

use std::collections::BinaryHeap;

use super::codes::Codes;
use super::layers::{Layer, NONE, Upper};
use crate::index::distance::Kernel;

/// Most rows of a graph: a row, turned round, and a mark fit into 32 bits.
pub(super) const MAX_ROWS: usize = (1 << 31) - 1;

/// A place with how similar it is, as one number: greater is better, ties go to the smaller place. The lowest bit is free for a mark.
///
/// Comparing one number is what makes lists of candidates quick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate(u64);

impl Candidate {
    #[inline(always)]
    pub(super) fn new(similarity: f32, place: u32) -> Self {
        let bits = similarity.to_bits();
        // Floats, with the negative ones turned round, are ordered as whole numbers are.
        let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
        Self(u64::from(ordered) << 32 | u64::from(MAX_ROWS as u32 - place) << 1)
    }

    #[inline(always)]
    pub(super) fn place(self) -> u32 {
        MAX_ROWS as u32 - (self.0 as u32 >> 1)
    }

    pub(super) fn similarity(self) -> f32 {
        let ordered = (self.0 >> 32) as u32;
        f32::from_bits(if ordered >> 31 == 1 { ordered ^ 1 << 31 } else { !ordered })
    }

    #[inline(always)]
    fn is_left(self) -> bool {
        self.0 & 1 == 1
    }

    #[inline(always)]
    fn leave(&mut self) {
        self.0 |= 1;
    }
}

/// Which places a walk has seen: the number of the walk that saw them last, so that clearing is adding one.
#[derive(Debug, Default)]
struct Visited {
    walk: u8,
    marks: Vec<u8>,
}

impl Visited {
    fn clear(&mut self, places: usize) {
        if self.marks.len() < places || self.walk == u8::MAX {
            self.marks.clear();
            self.marks.resize(places, 0);
            self.walk = 0;
        }
        self.walk += 1;
    }

    /// Marks a place; whether it was new.
    #[inline(always)]
    fn visit(&mut self, place: u32) -> bool {
        let mark = &mut self.marks[place as usize];
        let new = *mark != self.walk;
        *mark = self.walk;
        new
    }
}

/// What walks write on, kept for the next one.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    visited: Visited,
    /// Best first.
    pub(super) found: Vec<Candidate>,
    fresh: Vec<u32>,
    frontier: BinaryHeap<Candidate>,
}

/// Collects the links of a place that were not seen yet and asks for their vectors.
#[inline(always)]
fn look_around<K: Kernel>(
    kernel: K,
    codes: &Codes,
    layer: &impl Layer,
    place: u32,
    visited: &mut Visited,
    fresh: &mut Vec<u32>,
) {
    fresh.clear();
    for &link in layer.links(place) {
        if link == NONE {
            break;
        }
        if visited.visit(link) {
            kernel.prefetch(codes.high(layer.row(link)));
            fresh.push(link);
        }
    }
}

/// From `entry` to the place that none of its links is better than.
#[inline(always)]
pub(super) fn climb<K: Kernel>(kernel: K, codes: &Codes, layer: &Upper, query: &[i8], entry: u32) -> u32 {
    let mut current = Candidate::new(codes.rough(kernel, query, layer.row(entry)), entry);
    loop {
        let mut best = current;
        for &link in layer.links(current.place()) {
            if link == NONE {
                break;
            }
            best = best.max(Candidate::new(codes.rough(kernel, query, layer.row(link)), link));
        }
        if best == current {
            return current.place();
        }
        current = best;
    }
}

/// Leaves the best `ef` places that are reached from `entries` in `scratch.found`, best first.
#[inline(always)]
pub(super) fn walk<K: Kernel>(
    kernel: K,
    codes: &Codes,
    layer: &impl Layer,
    query: &[i8],
    ef: usize,
    entries: &[u32],
    scratch: &mut Scratch,
) {
    let Scratch { visited, found, fresh, .. } = scratch;
    visited.clear(layer.places());
    found.clear();
    for &entry in entries {
        if visited.visit(entry) {
            found.push(Candidate::new(codes.rough(kernel, query, layer.row(entry)), entry));
        }
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.truncate(ef);
    // One sorted list instead of two heaps: those before the cursor have been left, and the list's end is the bar.
    let mut cursor = 0;
    while let Some(current) = found.get_mut(cursor) {
        current.leave();
        let place = current.place();
        look_around(kernel, codes, layer, place, visited, fresh);
        if let Some(next) = found.get(cursor + 1) {
            kernel.prefetch(layer.links(next.place()));
        }
        for &place in fresh.iter() {
            let next = Candidate::new(codes.rough(kernel, query, layer.row(place)), place);
            if found.len() >= ef {
                if found.last().is_some_and(|worst| next < *worst) {
                    continue;
                }
                found.pop();
            }
            let at = found.partition_point(|other| *other > next);
            found.insert(at, next);
            cursor = cursor.min(at);
        }
        while found.get(cursor).is_some_and(|candidate| candidate.is_left()) {
            cursor += 1;
        }
    }
}

/// As [`walk`], where only places that pass count as found: the walk goes on through the others until enough are found, also
/// where a whole neighbourhood is kept out.
///
/// Gives up, and says so with `false`, after having seen `patience` places without finding `ef`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(super) fn walk_filtered<K: Kernel>(
    kernel: K,
    codes: &Codes,
    layer: &impl Layer,
    query: &[i8],
    ef: usize,
    entries: &[u32],
    patience: usize,
    passes: impl Fn(u32) -> bool,
    scratch: &mut Scratch,
) -> bool {
    let Scratch { visited, found, fresh, frontier } = scratch;
    visited.clear(layer.places());
    found.clear();
    frontier.clear();
    for &entry in entries {
        if visited.visit(entry) {
            let first = Candidate::new(codes.rough(kernel, query, layer.row(entry)), entry);
            frontier.push(first);
            if passes(layer.row(entry)) {
                found.push(first);
            }
        }
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.truncate(ef);
    let mut seen = entries.len();
    while let Some(current) = frontier.pop() {
        if found.len() >= ef && found.last().is_some_and(|worst| current < *worst) {
            break;
        }
        if seen > patience && found.len() < ef {
            return false;
        }
        look_around(kernel, codes, layer, current.place(), visited, fresh);
        seen += fresh.len();
        for &place in fresh.iter() {
            let next = Candidate::new(codes.rough(kernel, query, layer.row(place)), place);
            if found.len() >= ef && found.last().is_some_and(|worst| next < *worst) {
                continue;
            }
            frontier.push(next);
            if passes(layer.row(place)) {
                found.truncate(ef.saturating_sub(1));
                found.insert(found.partition_point(|other| *other > next), next);
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn candidates_are_ordered_by_similarity_then_place(
            a in -1e3f32..1e3, b in -1e3f32..1e3, places in (0..MAX_ROWS as u32, 0..MAX_ROWS as u32)
        ) {
            let (first, second) = (Candidate::new(a, places.0), Candidate::new(b, places.1));
            let mut left = first;
            left.leave();
            prop_assert_eq!((left.similarity(), left.place()), (a, places.0));
            prop_assert!(left.is_left() && !first.is_left());
            prop_assert_eq!(first.cmp(&second), a.total_cmp(&b).then(places.1.cmp(&places.0)));
        }
    }

    #[test]
    fn marks_last_for_one_walk() {
        let mut visited = Visited::default();
        for walk in 0..1000 {
            visited.clear(3 + walk % 2);
            assert!(visited.visit(1), "walk {walk}");
            assert!(!visited.visit(1));
            assert!(visited.visit(0));
        }
    }
}
