//! Regular expressions over growing text.
//!
//! Matching itself is the `regex` crate's: leftmost-first, linear in the text. What it cannot say is whether more text
//! would change the answer. [`Pattern::next`] asks a second engine that, a breadth-first simulation of the same
//! automaton (a Pike machine without captures) which keeps, for every live thread, where its match would start. The
//! earliest of these starts is what a stream has to hold back. The simulation runs on growing text only.
//!
//! Doubt: a lazy DFA would be several times faster than the simulation. It cannot handle Unicode word boundaries, which
//! users write without thinking (`\b`), and streams come at model speed, a few kilobytes a second.

use std::ops::Range;

use regex::{Regex, RegexBuilder};
use regex_automata::nfa::thompson::{NFA, State};
use regex_automata::util::look::LookMatcher;
use regex_automata::util::primitives::StateID;
use regex_automata::util::syntax;

use crate::scan::Window;

/// Bytes that one compiled pattern may take, in either engine.
const SIZE_LIMIT: usize = 1 << 20;

/// A regular expression that can be searched for in growing text.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    regex: Regex,
    nfa: NFA,
    /// Bytes that a match can begin with.
    first: Box<[bool; 256]>,
}

/// Answer of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// The leftmost match, which no further text can change.
    Match(Range<usize>),
    /// No match before this position, whatever comes.
    Frontier(usize),
}

/// Why a pattern was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PatternError {
    #[error("{0}")]
    Syntax(#[from] regex::Error),
    #[error("the pattern is too large: {0}")]
    Automaton(Box<regex_automata::nfa::thompson::BuildError>),
    #[error("the pattern matches the empty text")]
    Empty,
}

impl Pattern {
    /// Compiles with the full Unicode meaning of classes and boundaries.
    pub(crate) fn new(pattern: &str) -> Result<Self, PatternError> {
        Self::build(pattern, true)
    }

    /// Compiles with classes and boundaries of ASCII, which keeps every search on the fastest engines. A boundary is
    /// then also seen between a digit and a letter of another script: right for numbers in Chinese or Thai text.
    pub(crate) fn ascii(pattern: &str) -> Result<Self, PatternError> {
        Self::build(pattern, false)
    }

    fn build(pattern: &str, unicode: bool) -> Result<Self, PatternError> {
        let regex = RegexBuilder::new(pattern)
            .unicode(unicode)
            .size_limit(SIZE_LIMIT)
            .dfa_size_limit(SIZE_LIMIT)
            .nest_limit(64)
            .build()?;
        if regex.is_match("") {
            return Err(PatternError::Empty);
        }
        let nfa = NFA::compiler()
            .configure(NFA::config().nfa_size_limit(Some(SIZE_LIMIT)))
            .syntax(syntax::Config::new().unicode(unicode).nest_limit(64))
            .build(pattern)
            .map_err(|error| PatternError::Automaton(Box::new(error)))?;
        let first = first_bytes(&nfa);
        Ok(Self { regex, nfa, first })
    }

    /// The compiled expression, for captures.
    pub(crate) fn regex(&self) -> &Regex {
        &self.regex
    }

    /// The leftmost match that begins at or after `from`, if it is decided.
    pub(crate) fn next(&self, window: Window<'_>, from: usize) -> Next {
        if window.complete {
            return match self.regex.find_at(window.text, from) {
                Some(found) => Next::Match(found.range()),
                None => Next::Frontier(window.text.len()),
            };
        }
        self.simulate(window.text.as_bytes(), from)
    }

    fn simulate(&self, text: &[u8], from: usize) -> Next {
        let looks = LookMatcher::new();
        let mut threads: Vec<(StateID, usize)> = Vec::new();
        let mut reached: Vec<(StateID, usize)> = Vec::new();
        let mut stack: Vec<StateID> = Vec::new();
        // `visited[state] == at + 1`: a thread of higher priority is in that state already.
        let mut visited = vec![0usize; self.nfa.states().len()];
        let mut matched: Option<Range<usize>> = None;

        let mut at = from;
        while at < text.len() {
            if threads.is_empty() {
                if let Some(range) = matched {
                    return Next::Match(range);
                }
                // Nothing is alive: go to the next byte that can begin a match.
                match text[at..].iter().position(|byte| self.first[usize::from(*byte)]) {
                    Some(skip) => at += skip,
                    None => return Next::Frontier(text.len()),
                }
            }
            if matched.is_none() {
                threads.push((self.nfa.start_anchored(), at));
            }
            reached.clear();
            'threads: for &(state, start) in &threads {
                stack.push(state);
                while let Some(state) = stack.pop() {
                    if visited[state.as_usize()] == at + 1 {
                        continue;
                    }
                    visited[state.as_usize()] = at + 1;
                    match self.nfa.state(state) {
                        State::Look { look, next } => {
                            if looks.matches(*look, text, at) {
                                stack.push(*next);
                            }
                        }
                        State::Union { alternates } => stack.extend(alternates.iter().rev()),
                        State::BinaryUnion { alt1, alt2 } => stack.extend([*alt2, *alt1]),
                        State::Capture { next, .. } => stack.push(*next),
                        State::Match { .. } => {
                            // Whatever follows has lower priority and is cut off.
                            matched = Some(start..at);
                            stack.clear();
                            break 'threads;
                        }
                        State::Fail => {}
                        State::ByteRange { trans } => {
                            if trans.matches_byte(text[at]) {
                                reached.push((trans.next, start));
                            }
                        }
                        State::Sparse(transitions) => {
                            if let Some(next) = transitions.matches_byte(text[at]) {
                                reached.push((next, start));
                            }
                        }
                        State::Dense(transitions) => {
                            if let Some(next) = transitions.matches_byte(text[at]) {
                                reached.push((next, start));
                            }
                        }
                    }
                }
            }
            std::mem::swap(&mut threads, &mut reached);
            at += 1;
        }
        match matched {
            Some(range) if threads.is_empty() => Next::Match(range),
            Some(range) => Next::Frontier(threads.iter().map(|thread| thread.1).min().unwrap_or(at).min(range.start)),
            None => Next::Frontier(threads.iter().map(|thread| thread.1).min().unwrap_or(at)),
        }
    }
}

fn first_bytes(nfa: &NFA) -> Box<[bool; 256]> {
    let mut first = Box::new([false; 256]);
    let mut visited = vec![false; nfa.states().len()];
    let mut stack = vec![nfa.start_anchored()];
    while let Some(state) = stack.pop() {
        if std::mem::replace(&mut visited[state.as_usize()], true) {
            continue;
        }
        let mut range = |from: u8, to: u8| first[usize::from(from)..=usize::from(to)].fill(true);
        match nfa.state(state) {
            State::Look { next, .. } | State::Capture { next, .. } => stack.push(*next),
            State::Union { alternates } => stack.extend(alternates.iter()),
            State::BinaryUnion { alt1, alt2 } => stack.extend([*alt1, *alt2]),
            State::Match { .. } => range(0, 255),
            State::Fail => {}
            State::ByteRange { trans } => range(trans.start, trans.end),
            State::Sparse(transitions) => transitions.transitions.iter().for_each(|one| range(one.start, one.end)),
            State::Dense(_) => range(0, 255),
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All matches of a text that comes in pieces of the given lengths, in characters.
    fn streamed(pattern: &Pattern, text: &str, pieces: &[usize]) -> Vec<Range<usize>> {
        let mut ends: Vec<usize> = text.char_indices().map(|(at, _)| at).skip(1).collect();
        ends.push(text.len());
        let (mut found, mut from, mut taken, mut turn) = (Vec::new(), 0, 0, 0);
        loop {
            taken = (taken + pieces[turn % pieces.len()].max(1)).min(ends.len());
            turn += 1;
            let complete = taken == ends.len();
            // The last scan of a stream knows that it is the last only after the last piece.
            for complete in if complete { &[false, true][..] } else { &[false][..] } {
                let window = Window { complete: *complete, ..Window::growing(&text[..ends[taken - 1]]) };
                loop {
                    match pattern.next(window, from) {
                        Next::Match(range) => {
                            from = range.end;
                            found.push(range);
                        }
                        Next::Frontier(frontier) => {
                            assert!(frontier >= from);
                            from = frontier;
                            break;
                        }
                    }
                }
            }
            if complete {
                return found;
            }
        }
    }

    const PATTERNS: &[&str] = &[
        r"ab",
        r"a+b?",
        r"a+?b",
        r"\b[ab]{2,3}\b",
        r"(?:ab|abab|b a)c?",
        r"a.*b",
        r"(?s)a.*?b",
        r"^a",
        r"a$",
        r"(?m)^a+$",
        r"\Bb+",
        r"é+\b",
        r"(?i)AÉ|b",
        r"[^a]b",
        r"aa|a",
        r"ba\b|b",
    ];

    proptest! {
        #[test]
        fn streamed_matches_are_the_matches_of_the_whole(
            text in "[ab é\n]{0,24}",
            pieces in prop::collection::vec(1usize..5, 1..4),
        ) {
            prop_assume!(!text.is_empty());
            for source in PATTERNS {
                let pattern = Pattern::new(source).unwrap();
                let whole: Vec<_> = pattern.regex().find_iter(&text).map(|found| found.range()).collect();
                prop_assert_eq!(&whole, &streamed(&pattern, &text, &pieces), "{} in {:?}", source, text);
            }
        }
    }

    #[test]
    fn only_what_can_still_match_is_held_back() {
        let pattern = Pattern::new(r"key-[0-9]{4}").unwrap();
        let frontier = |text| pattern.next(Window::growing(text), 0);
        assert_eq!(frontier("no such thing"), Next::Frontier(13));
        assert_eq!(frontier("the ke"), Next::Frontier(4));
        assert_eq!(frontier("the key-12"), Next::Frontier(4));
        assert_eq!(frontier("the key-12x"), Next::Frontier(11));
    }

    #[test]
    fn a_pattern_that_matches_nothing_at_all_or_is_huge_is_refused() {
        assert!(matches!(Pattern::new("a*"), Err(PatternError::Empty)));
        assert!(matches!(
            Pattern::new("(?:\\pL{100}){100}"),
            Err(PatternError::Syntax(_) | PatternError::Automaton(_))
        ));
        assert!(matches!(Pattern::new("("), Err(PatternError::Syntax(_))));
    }
}
