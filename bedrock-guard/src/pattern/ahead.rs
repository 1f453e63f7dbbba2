//! All matches of an expression in linear time, however far ahead it has to look for each (Frisch and Cardelli 2004, "Greedy regular
//! expression matching").
//!
//! A search for one match is linear, a search for all is not: `(?s)a.*b|a` in a text of `a`s reads to the end of the text for every `a`,
//! since a `b` there would be preferred. So the text is read backwards first. That gives for each position the states of the automaton
//! from which a match can still be reached, its *survivors*. Forwards, the way of highest priority is then walked without ever going back:
//! of the ways on, the first that survives is the one.
//!
//! Where more text may come, every state survives at the end. A walk that gets there is undecided, and where it began is the frontier.
//!
//! Survivors are kept for a block of positions and at the ends of blocks, and steps from one set of them to the next are remembered: the
//! backward pass is a lazy automaton of its own, whose memory is bounded. An ordinary search is several times faster and has its turn first.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use regex_automata::nfa::thompson::{NFA, State};
use regex_automata::util::look::{Look, LookMatcher};
use regex_automata::util::primitives::StateID;

use super::{ways, work};

/// Positions whose survivors are known at a time.
const BLOCK: usize = 1024;
/// Rows of steps that are remembered, a kilobyte each.
const MAX_ROWS: usize = 1 << 11;
/// Words of 64 states that are remembered.
const MAX_WORDS: usize = 1 << 17;
/// A step that was not made yet.
const UNKNOWN: u32 = u32::MAX;

/// A set of states, a bit each.
type Survivors = Arc<[u64]>;

/// The automaton of an expression, backwards.
#[derive(Debug)]
pub(super) struct Ahead {
    /// By state: those that lead to it without reading, if something holds.
    free: Vec<Vec<(StateID, Option<Look>)>>,
    /// By state: those that lead to it by a byte of a range.
    reading: Vec<Vec<(StateID, u8, u8)>>,
    matches: Vec<StateID>,
    /// What is asked anywhere.
    looks: Vec<Look>,
    start: StateID,
}

impl Ahead {
    pub(super) fn new(nfa: &NFA) -> Self {
        let states = nfa.states();
        let mut ahead = Self {
            free: vec![Vec::new(); states.len()],
            reading: vec![Vec::new(); states.len()],
            matches: Vec::new(),
            looks: nfa.look_set_any().iter().collect(),
            start: nfa.start_anchored(),
        };
        let mut reached = vec![false; states.len()];
        let mut stack = vec![ahead.start];
        while let Some(id) = stack.pop() {
            if std::mem::replace(&mut reached[id.as_usize()], true) {
                continue;
            }
            let state = nfa.state(id);
            if let State::Match { .. } = state {
                ahead.matches.push(id);
            }
            let look = if let State::Look { look, .. } = state { Some(*look) } else { None };
            for (next, read) in ways(state) {
                match read {
                    None => ahead.free[next.as_usize()].push((id, look)),
                    Some((first, last)) => ahead.reading[next.as_usize()].push((id, first, last)),
                }
                stack.push(next);
            }
        }
        ahead
    }

    /// Calls `visit` with the matches from `from` on; returns the frontier.
    pub(super) fn scan(
        &self,
        nfa: &NFA,
        text: &str,
        complete: bool,
        from: usize,
        mut visit: impl FnMut(Range<usize>),
    ) -> usize {
        let text = text.as_bytes();
        let mut trail = Trail::new(self, text, complete, from);
        let mut visited = vec![0usize; nfa.states().len()];
        let mut stack = Vec::new();
        let mut at = from;
        'search: while at < text.len() {
            if !contains(trail.survivors(at), self.start) {
                at += 1;
                continue;
            }
            let begin = at;
            let mut state = self.start;
            loop {
                if at == text.len() && !complete {
                    return begin;
                }
                let survivors = trail.survivors(at);
                stack.push(state);
                // The first state that reads or matches, in the order of priority.
                let first = loop {
                    let Some(state) = stack.pop() else { break None };
                    work::add(1);
                    if visited[state.as_usize()] == at + 1 || !contains(survivors, state) {
                        continue;
                    }
                    visited[state.as_usize()] = at + 1;
                    match nfa.state(state) {
                        State::Look { look, next } => {
                            if LookMatcher::new().matches(*look, text, at) {
                                stack.push(*next);
                            }
                        }
                        State::Union { alternates } => stack.extend(alternates.iter().rev()),
                        State::BinaryUnion { alt1, alt2 } => stack.extend([*alt2, *alt1]),
                        State::Capture { next, .. } => stack.push(*next),
                        State::Fail => {}
                        found => break Some(found),
                    }
                };
                stack.clear();
                let byte = text.get(at).copied();
                let next = match (first, byte) {
                    (Some(State::Match { .. }), _) if at > begin => {
                        visit(begin..at);
                        continue 'search;
                    }
                    (Some(State::ByteRange { trans }), Some(byte)) if trans.matches_byte(byte) => Some(trans.next),
                    (Some(State::Sparse(transitions)), Some(byte)) => transitions.matches_byte(byte),
                    (Some(State::Dense(transitions)), Some(byte)) => transitions.matches_byte(byte),
                    _ => None,
                };
                // Survivors have a way on.
                let Some(next) = next else {
                    debug_assert!(false, "a survivor leads nowhere at {at}");
                    at = begin + 1;
                    continue 'search;
                };
                (state, at) = (next, at + 1);
            }
        }
        text.len()
    }
}

fn contains(set: &[u64], state: StateID) -> bool {
    set[state.as_usize() >> 6] & 1 << (state.as_usize() & 63) != 0
}

/// The survivors of every position of a text, in the order of the text.
struct Trail<'a> {
    steps: Steps<'a>,
    text: &'a [u8],
    from: usize,
    /// Survivors where each block ends.
    ends: Vec<Survivors>,
    /// The block whose positions are known.
    block: Range<usize>,
    known: Vec<u32>,
}

impl<'a> Trail<'a> {
    fn new(ahead: &'a Ahead, text: &'a [u8], complete: bool, from: usize) -> Self {
        let mut steps = Steps::new(ahead);
        let last = if complete {
            let held = steps.held(text, text.len());
            steps.close(Vec::new(), held)
        } else {
            vec![u64::MAX; ahead.free.len().div_ceil(64)].into()
        };
        let mut ends = Vec::new();
        let mut set = steps.number(last);
        let mut end = text.len();
        while end > from {
            let start = from + (end - 1 - from) / BLOCK * BLOCK;
            set = steps.spare(set);
            ends.push(steps.sets[set as usize].clone());
            for at in (start..end).rev() {
                set = steps.step(set, text, at);
            }
            end = start;
        }
        ends.reverse();
        Self { steps, text, from, ends, block: from..from, known: Vec::new() }
    }

    /// Positions of earlier blocks are not asked for again.
    fn survivors(&mut self, at: usize) -> &[u64] {
        if at == self.text.len() {
            return self.ends.last().map_or(&[], |set| set);
        }
        if !self.block.contains(&at) {
            let block = (at - self.from) / BLOCK;
            let start = self.from + block * BLOCK;
            self.block = start..(start + BLOCK).min(self.text.len());
            let end = self.steps.number(self.ends[block].clone());
            let mut set = self.steps.spare(end);
            self.known.clear();
            for at in self.block.clone().rev() {
                set = self.steps.step(set, self.text, at);
                self.known.push(set);
            }
            self.known.reverse();
        }
        &self.steps.sets[self.known[at - self.block.start] as usize]
    }
}

/// Sets of survivors by number, and the steps between them that were made already.
struct Steps<'a> {
    ahead: &'a Ahead,
    sets: Vec<Survivors>,
    numbers: HashMap<Survivors, u32>,
    /// By the set behind a byte: what holds before it, and the row of steps for that.
    rows_of: Vec<Vec<(u32, u32)>>,
    /// The next set by the byte.
    rows: Vec<[u32; 256]>,
}

impl<'a> Steps<'a> {
    fn new(ahead: &'a Ahead) -> Self {
        Self { ahead, sets: Vec::new(), numbers: HashMap::new(), rows_of: Vec::new(), rows: Vec::new() }
    }

    fn number(&mut self, set: Survivors) -> u32 {
        let next = self.sets.len() as u32;
        let number = *self.numbers.entry(set.clone()).or_insert(next);
        if number == next {
            self.sets.push(set);
            self.rows_of.push(Vec::new());
        }
        number
    }

    /// Forgets everything but one set, if that is much. A block is done without asking.
    fn spare(&mut self, set: u32) -> u32 {
        if self.rows.len() < MAX_ROWS && self.sets.len() * self.sets[0].len() < MAX_WORDS {
            return set;
        }
        let kept = self.sets[set as usize].clone();
        self.sets.clear();
        self.numbers.clear();
        self.rows_of.clear();
        self.rows.clear();
        self.number(kept)
    }

    /// Which of the looks hold at a position, a bit each.
    fn held(&self, text: &[u8], at: usize) -> u32 {
        let held = |(index, look): (usize, &Look)| u32::from(LookMatcher::new().matches(*look, text, at)) << index;
        self.ahead.looks.iter().enumerate().map(held).sum()
    }

    /// The survivors at a position, given those behind its byte.
    fn step(&mut self, behind: u32, text: &[u8], at: usize) -> u32 {
        work::add(1);
        let (byte, held) = (text[at], if self.ahead.looks.is_empty() { 0 } else { self.held(text, at) });
        let row = self.rows_of[behind as usize].iter().find(|(known, _)| *known == held).map(|(_, row)| *row);
        let row = row.unwrap_or_else(|| {
            self.rows.push([UNKNOWN; 256]);
            let row = self.rows.len() as u32 - 1;
            self.rows_of[behind as usize].push((held, row));
            row
        });
        let known = self.rows[row as usize][usize::from(byte)];
        if known != UNKNOWN {
            return known;
        }
        let mut reading = Vec::new();
        for (word, bits) in self.sets[behind as usize].iter().enumerate() {
            let mut bits = *bits;
            work::add(1 + bits.count_ones() as usize);
            while bits != 0 {
                let state = word << 6 | bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let before = self.ahead.reading.get(state).into_iter().flatten();
                reading.extend(before.filter(|(_, first, last)| (*first..=*last).contains(&byte)).map(|way| way.0));
            }
        }
        let set = self.close(reading, held);
        let number = self.number(set);
        self.rows[row as usize][usize::from(byte)] = number;
        number
    }

    /// The states that lead to these or to a match without reading, and these.
    fn close(&self, mut stack: Vec<StateID>, held: u32) -> Survivors {
        let mut set = vec![0u64; self.ahead.free.len().div_ceil(64)];
        stack.extend(&self.ahead.matches);
        while let Some(state) = stack.pop() {
            work::add(1);
            if contains(&set, state) {
                continue;
            }
            set[state.as_usize() >> 6] |= 1 << (state.as_usize() & 63);
            let holds = |look: &Look| {
                self.ahead.looks.iter().position(|known| known == look).is_some_and(|index| held & 1 << index != 0)
            };
            let before = self.ahead.free[state.as_usize()].iter();
            stack.extend(before.filter(|(_, look)| look.as_ref().is_none_or(holds)).map(|way| way.0));
        }
        set.into()
    }
}
