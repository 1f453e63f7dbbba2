//! Regular expressions over growing text.
//!
//! Matching itself is the `regex` crate's: leftmost-first, linear in the text for one match. All matches together are found in linear
//! time too ([`Pattern::all`], `ahead.rs`). What the crate cannot say is whether more text would change the answer. [`Pattern::next`] asks a second engine that, a breadth-first simulation of the same
//! automaton (a Pike machine without captures) which keeps, for every live thread, where its match would start. The
//! earliest of these starts is what a stream has to hold back. The simulation runs on growing text only.
//!
//! Doubt: a lazy DFA would be several times faster than the simulation. It cannot handle Unicode word boundaries, which
//! users write without thinking (`\b`), and streams come at model speed, a few kilobytes a second.

mod ahead;

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use ahead::Ahead;
use regex::RegexBuilder;
use regex_automata::Input;
use regex_automata::meta::{self, Regex};
use regex_automata::nfa::thompson::{NFA, State};
use regex_automata::util::look::LookMatcher;
use regex_automata::util::primitives::StateID;
use regex_automata::util::syntax;

use crate::scan::Window;

/// Bytes that one compiled pattern may take, in either engine.
const SIZE_LIMIT: usize = 1 << 20;

/// How often a text may be read for its matches one by one; then the rest of them is searched for in one pass.
const READINGS: usize = 16;

/// Counts the steps of searches, so that tests can bound them without a clock.
#[cfg(test)]
mod work {
    use std::cell::Cell;

    thread_local! {
        static STEPS: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn add(steps: usize) {
        STEPS.set(STEPS.get() + steps);
    }

    /// Those of this thread since the last call.
    pub(super) fn take() -> usize {
        STEPS.take()
    }
}

#[cfg(not(test))]
mod work {
    pub(super) fn add(_: usize) {}
}

/// A regular expression that can be searched for in growing text.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    regex: Regex,
    nfa: NFA,
    /// Bytes that a match can begin with.
    first: Box<[bool; 256]>,
    /// Of built-in expressions alone.
    extent: Option<Extent>,
    /// Bytes of the longest match.
    longest: usize,
    /// For texts in which one match after the other would take too long.
    ahead: Arc<OnceLock<Ahead>>,
}

/// What all matches of an expression have in common.
#[derive(Debug, Clone)]
pub(crate) struct Extent {
    /// Bytes that occur in matches.
    pub(crate) bytes: Box<[bool; 256]>,
    /// Bytes of the shortest match.
    pub(crate) shortest: usize,
    /// Bytes of the longest match; `None` if there is none.
    pub(crate) longest: Option<usize>,
    /// Bytes of the longest part of a match without a digit; `None` if there is none.
    pub(crate) gap: Option<usize>,
    /// Digits of the match that has the fewest.
    pub(crate) digits: usize,
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
    #[error("{0}")]
    Engine(Box<meta::BuildError>),
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
        let syntax = syntax::Config::new().unicode(unicode).nest_limit(64);
        let limits = meta::Config::new().nfa_size_limit(Some(SIZE_LIMIT)).hybrid_cache_capacity(SIZE_LIMIT);
        let regex = Regex::builder().configure(limits).syntax(syntax).build(pattern).map_err(|error| {
            // The other crate's error shows where in the pattern.
            let built = RegexBuilder::new(pattern).unicode(unicode).size_limit(SIZE_LIMIT).nest_limit(64).build();
            built.err().map_or_else(|| PatternError::Engine(Box::new(error)), PatternError::Syntax)
        })?;
        // Not only in the empty text: `\b` matches nothing at all between a blank and a letter, again and again.
        let hir = syntax::parse_with(pattern, &syntax);
        if regex.is_match("") || hir.as_ref().is_ok_and(|hir| hir.properties().minimum_len() == Some(0)) {
            return Err(PatternError::Empty);
        }
        let longest = hir.ok().and_then(|hir| hir.properties().maximum_len()).unwrap_or(usize::MAX);
        let nfa = NFA::compiler()
            .configure(NFA::config().nfa_size_limit(Some(SIZE_LIMIT)))
            .syntax(syntax)
            .build(pattern)
            .map_err(|error| PatternError::Automaton(Box::new(error)))?;
        let first = first_bytes(&nfa);
        let extent = (!unicode).then(|| extent(&nfa));
        Ok(Self { regex, nfa, first, extent, longest, ahead: Arc::default() })
    }

    /// What all matches have in common, if that was asked for: of expressions of ASCII.
    pub(crate) fn extent(&self) -> Option<&Extent> {
        self.extent.as_ref()
    }

    /// Whether parts of the expression are captured.
    pub(crate) fn has_groups(&self) -> bool {
        self.regex.captures_len() > 1
    }

    /// The leftmost match inside a range of the text; boundaries look beyond the range.
    pub(crate) fn find(&self, text: &str, within: Range<usize>) -> Option<Range<usize>> {
        self.regex.find(Input::new(text).range(within)).map(|found| found.range())
    }

    /// What the group captured in a match that was found before.
    pub(crate) fn group(&self, name: &str, text: &str, matched: &Range<usize>) -> Option<Range<usize>> {
        if !self.has_groups() {
            return None;
        }
        let mut captures = self.regex.create_captures();
        self.regex.captures(Input::new(text).range(matched.start..), &mut captures);
        captures.get_group_by_name(name).map(|group| group.range())
    }

    /// The leftmost match that begins at or after `from`, if it is decided.
    pub(crate) fn next(&self, window: Window<'_>, from: usize) -> Next {
        self.next_within(window, from..window.text.len())
    }

    /// The same, with all of the match inside a range if the text is complete.
    pub(crate) fn next_within(&self, window: Window<'_>, within: Range<usize>) -> Next {
        if window.complete {
            let end = within.end;
            return self.find(window.text, within).map_or(Next::Frontier(end), Next::Match);
        }
        self.simulate(window.text.as_bytes(), within.start)
    }

    /// Calls `visit` with every match from `from` on that no further text can change; returns the frontier.
    pub(crate) fn all(&self, window: Window<'_>, from: usize, mut visit: impl FnMut(Range<usize>)) -> usize {
        let (mut at, mut read) = (from, 0);
        let most = (window.text.len() - from).saturating_mul(READINGS);
        loop {
            match self.next(window, at) {
                Next::Frontier(frontier) => {
                    work::add(window.text.len() - at);
                    return frontier;
                }
                Next::Match(range) => {
                    // So far the search may have looked for something that is preferred to the match.
                    let looked = (window.text.len() - range.start).min(self.longest);
                    work::add(range.start - at + looked);
                    read += looked;
                    at = range.end;
                    visit(range);
                }
            }
            if read > most {
                let ahead = self.ahead.get_or_init(|| Ahead::new(&self.nfa));
                return ahead.scan(&self.nfa, window.text, window.complete, at, visit);
            }
        }
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
            work::add(1);
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

/// Ways on from a state: the next state, and the bytes that lead there, if any are read.
fn ways(state: &State) -> Vec<(StateID, Option<(u8, u8)>)> {
    match state {
        State::Look { next, .. } | State::Capture { next, .. } => vec![(*next, None)],
        State::Union { alternates } => alternates.iter().map(|next| (*next, None)).collect(),
        State::BinaryUnion { alt1, alt2 } => vec![(*alt1, None), (*alt2, None)],
        State::Match { .. } | State::Fail => Vec::new(),
        State::ByteRange { trans } => vec![(trans.next, Some((trans.start, trans.end)))],
        State::Sparse(all) => all.transitions.iter().map(|one| (one.next, Some((one.start, one.end)))).collect(),
        State::Dense(all) => {
            (0..=u8::MAX).filter_map(|byte| all.matches_byte(byte).map(|next| (next, Some((byte, byte))))).collect()
        }
    }
}

fn extent(nfa: &NFA) -> Extent {
    let is_digit = |read: Option<(u8, u8)>| read.is_some_and(|(start, end)| start >= b'0' && end <= b'9');
    // States that an anchored search reaches; the others skip to where a match begins.
    let mut reached = vec![false; nfa.states().len()];
    let mut stack = vec![nfa.start_anchored()];
    while let Some(state) = stack.pop() {
        if !std::mem::replace(&mut reached[state.as_usize()], true) {
            stack.extend(ways(nfa.state(state)).into_iter().map(|(next, _)| next));
        }
    }
    let ways: Vec<Vec<_>> =
        nfa.states().iter().zip(&reached).map(|(s, on)| if *on { ways(s) } else { vec![] }).collect();
    let mut bytes = Box::new([false; 256]);
    for (_, read) in ways.iter().flatten() {
        if let Some((start, end)) = read {
            bytes[usize::from(*start)..=usize::from(*end)].fill(true);
        }
    }
    // The least weight of a way to a match, by rounds: ways that weigh nothing go to the front.
    let least = |weight: &dyn Fn(Option<(u8, u8)>) -> bool| {
        let mut best = vec![usize::MAX; ways.len()];
        let start = nfa.start_anchored().as_usize();
        best[start] = 0;
        let mut queue = std::collections::VecDeque::from([start]);
        while let Some(state) = queue.pop_front() {
            for (next, read) in &ways[state] {
                let (next, heavy) = (next.as_usize(), weight(*read));
                let sum = best[state] + usize::from(heavy);
                if sum < best[next] {
                    best[next] = sum;
                    if heavy { queue.push_back(next) } else { queue.push_front(next) }
                }
            }
        }
        let matches = nfa.states().iter().zip(&best).filter(|(state, _)| matches!(state, State::Match { .. }));
        matches.map(|(_, best)| *best).min().unwrap_or(0)
    };
    // The most bytes on a way that never takes a `cut`, from state to state; `None` where such ways go round.
    let most = |cut: &dyn Fn(Option<(u8, u8)>) -> bool| {
        let kept = |state: usize| ways[state].iter().filter(|(_, read)| !cut(*read));
        let mut incoming = vec![0usize; ways.len()];
        (0..ways.len()).flat_map(kept).for_each(|(next, _)| incoming[next.as_usize()] += 1);
        let mut ready: Vec<usize> = (0..ways.len()).filter(|state| incoming[*state] == 0).collect();
        let (mut longest, mut done) = (vec![0usize; ways.len()], 0);
        while let Some(state) = ready.pop() {
            done += 1;
            for (next, read) in kept(state) {
                let next = next.as_usize();
                longest[next] = longest[next].max(longest[state] + usize::from(read.is_some()));
                incoming[next] -= 1;
                if incoming[next] == 0 {
                    ready.push(next);
                }
            }
        }
        (done == ways.len()).then(|| longest.into_iter().max().unwrap_or(0))
    };
    Extent {
        bytes,
        shortest: least(&|read| read.is_some()),
        longest: most(&|_| false),
        gap: most(&is_digit),
        digits: least(&is_digit),
    }
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
                let whole: Vec<_> = pattern.regex.find_iter(&text).map(|found| found.range()).collect();
                prop_assert_eq!(&whole, &streamed(&pattern, &text, &pieces), "{} in {:?}", source, text);
            }
        }
    }

    /// Matches that are searched for one after the other, and the frontier.
    fn one_by_one(pattern: &Pattern, window: Window<'_>, from: usize) -> (Vec<Range<usize>>, usize) {
        let (mut found, mut at) = (Vec::new(), from);
        loop {
            match pattern.next(window, at) {
                Next::Match(range) => {
                    at = range.end;
                    found.push(range);
                }
                Next::Frontier(frontier) => return (found, frontier),
            }
        }
    }

    fn in_one_pass(pattern: &Pattern, window: Window<'_>, from: usize) -> (Vec<Range<usize>>, usize) {
        let mut found = Vec::new();
        let ahead = Ahead::new(&pattern.nfa);
        let frontier = ahead.scan(&pattern.nfa, window.text, window.complete, from, |range| found.push(range));
        (found, frontier)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn one_pass_finds_what_one_search_after_the_other_does(
            random in "(?:a|b|\\\\b|é|\\.|\\^|\\$|[(]a[|]b[)]|[(]ab?[)]|[(][?]s:\\.[)]|\\[\\^a\\]|\\\\B|\\|)(?:[*]|[+]|[?]|[*][?]|[{]2,3[}]|){1,6}",
            more in "(?:a|b|\\\\w|é|\\.|[(]a[|]b[)][*]|\\|a|[(]b?a?[)][*]|)(?:[*]|[+]|[?]|)",
            text in "[ab é\n]{0,24}|[ab]{0,40}|a{0,30}",
            repeats in prop_oneof![6 => Just(1usize), 1 => Just(60)],
            from in 0usize..4,
        ) {
            let text = text.repeat(repeats);
            let random = random + &more;
            let from = if text.is_char_boundary(from) { from } else { 0 };
            for source in PATTERNS.iter().copied().chain([random.as_str(), r"(?s)a.*b|a", r"(?:a*)*b|a", r"(?m)(?:^|b)a+?$|\ba"]) {
                let Ok(pattern) = Pattern::new(source) else { continue };
                for complete in [true, false] {
                    let window = Window { complete, ..Window::growing(&text) };
                    let expected = one_by_one(&pattern, window, from);
                    prop_assert_eq!(&expected, &in_one_pass(&pattern, window, from), "{} in {:?} from {}", source, text, from);
                    let mut found = Vec::new();
                    let frontier = pattern.all(window, from, |range| found.push(range));
                    prop_assert_eq!(expected, (found, frontier));
                }
            }
        }
    }

    #[test]
    fn all_matches_are_found_in_linear_time_however_far_each_looks() {
        let text = "a".repeat(40_000);
        for source in [r"(?s)a.*b|a", r"\ba.*b|a", r"a(?:a\pL*[^a])?", r"(?:a{1,9}){1,9}b|a"] {
            let pattern = Pattern::new(source).unwrap();
            for complete in [true, false] {
                let steps = [&text[..text.len() / 2], &text].map(|text| {
                    let mut found = 0;
                    work::take();
                    pattern.all(Window { complete, ..Window::growing(text) }, 0, |_| found += 1);
                    let undecided = if complete { 0 } else { pattern.longest.min(text.len()) };
                    assert!((text.len() - undecided..=text.len()).contains(&found), "{source}: {found}");
                    work::take()
                });
                // One by one, the first takes half the square of its length.
                assert!(steps[1] <= steps[0] * 2 + steps[0] / 10, "{source}: {steps:?}");
                assert!((text.len()..200 * text.len()).contains(&steps[1]), "{source}: {steps:?}");
            }
        }
        let line = "a".repeat(200_000) + "\n";
        let mut found = 0;
        Pattern::new("a.*b|a").unwrap().all(Window::growing(&line), 0, |_| found += 1);
        assert_eq!(found, 200_000);
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
        assert!(matches!(Pattern::new(r"\b|a"), Err(PatternError::Empty)));
        assert!(matches!(
            Pattern::new("(?:\\pL{100}){100}"),
            Err(PatternError::Syntax(_) | PatternError::Automaton(_))
        ));
        assert!(matches!(Pattern::new("("), Err(PatternError::Syntax(_))));
    }
}
