//! A recogniser made of a regular expression, a judge and cue words.

use std::ops::Range;
use std::sync::OnceLock;

use aho_corasick::AhoCorasick;
use bedrock_core::GuardrailPiiEntityType;

use super::kind_index;
use super::marks::{Anchor, Search, Wanted};
use super::rules::RULES;
use crate::pattern::{Next, Pattern};
use crate::scan::{Candidate, Label, Recognizer, Window};
use crate::vault;

/// How much a cue word nearby adds to a score.
const CUE_LIFT: f32 = 0.45;
/// How far back a cue word is looked for: this many words, within this many bytes.
const CUE_WORDS: usize = 6;
pub(crate) const CUE_BYTES: usize = 80;

/// What has to stand near a value that is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Near {
    Anything,
    /// A cue word: the judge never gives a score above the base.
    Cue,
    /// One of these words, lower case, at a start of a word inside the match.
    Words(&'static [&'static str]),
}

/// One row of the table in [`rules`](super::rules).
pub(crate) struct Rule {
    pub(crate) kind: GuardrailPiiEntityType,
    /// Regular expression in ASCII mode and without case (`(?i)`) unless it says otherwise. A group named `v` marks the
    /// value; without it the whole match is the value.
    pub(crate) pattern: &'static str,
    /// What every value has in it, by the expression or by the judge.
    pub(crate) anchor: Anchor,
    pub(crate) near: Near,
    /// Score of the shape alone.
    pub(crate) base: f32,
    /// Score when the value is the whole text: what somebody answers who was asked for exactly this. 0: no lift.
    pub(crate) alone: f32,
    /// Lower-case words that lift the score when one stands shortly before the value.
    pub(crate) cues: &'static [&'static str],
    /// Looks at the value more closely: drops it, shortens it, or changes its score.
    pub(crate) judge: fn(&Match<'_>) -> Option<Judgement>,
}

/// A match of a rule's expression.
#[derive(Debug)]
pub(crate) struct Match<'w> {
    pub(crate) window: Window<'w>,
    /// The value.
    pub(crate) span: Range<usize>,
    /// End of what the expression matched, at or behind the end of the value.
    pub(crate) end: usize,
}

/// What a judge makes of a match.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Judgement {
    /// The shape is right; the rule's scores apply.
    Shape,
    /// Check digits or structure hold, or something else speaks for or against it: a score in place of the base.
    Score(f32),
    /// As [`Judgement::Score`] for this part of the match, in bytes of the window.
    Part(Range<usize>, f32),
}

impl<'w> Match<'w> {
    pub(crate) fn text(&self) -> &'w str {
        &self.window.text[self.span.clone()]
    }

    /// The digits of the value.
    pub(crate) fn digits(&self) -> Vec<u8> {
        self.text().bytes().filter(u8::is_ascii_digit).collect()
    }

    /// Letters and digits of the value, capitals.
    pub(crate) fn alphanumerics(&self) -> Vec<u8> {
        self.text().bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_uppercase()).collect()
    }

    /// Characters of the value that are neither letter nor digit, in order.
    pub(crate) fn separators(&self) -> Vec<u8> {
        self.text().bytes().filter(|byte| !byte.is_ascii_alphanumeric()).collect()
    }

    /// Character just before the value.
    pub(crate) fn before(&self) -> Option<char> {
        self.window.before(self.span.start)
    }

    /// What the expression matched behind the value. With [`Match::after`] the only look to the right that a judge has:
    /// text further on may not be there yet.
    pub(crate) fn tail(&self) -> &'w str {
        &self.window.text[self.span.end..self.end]
    }

    /// Character just after the value.
    pub(crate) fn after(&self) -> Option<char> {
        self.window.after(self.span.end)
    }

    /// Whether the value goes on to the left: a digit, or a separator with a digit before it.
    pub(crate) fn continues_left(&self, separators: &[char]) -> bool {
        let mut left = self.window.text[..self.span.start].chars().rev();
        match left.next() {
            Some(character) if character.is_ascii_digit() => true,
            Some(character) if separators.contains(&character) => left.next().is_some_and(|c| c.is_ascii_digit()),
            _ => false,
        }
    }
}

/// The expressions of each rule, and for the rule's value alone in a text. Compiling them takes a hundred times as long as a copy.
static COMPILED: [OnceLock<(Pattern, Option<Pattern>)>; RULES.len()] = [const { OnceLock::new() }; RULES.len()];

/// A compiled [`Rule`].
#[derive(Debug)]
pub(crate) struct RuleRecognizer {
    kind: u8,
    pattern: Pattern,
    /// The same expression as the only content of the text.
    alone: Option<Pattern>,
    base: f32,
    alone_score: f32,
    cues: Option<Cues>,
    judge: fn(&Match<'_>) -> Option<Judgement>,
    threshold: f32,
    anchor: Anchor,
    /// The rule as a bit of the words that are marked, if one has to stand near.
    word: Option<u64>,
}

impl RuleRecognizer {
    /// # Panics
    /// If the rule's own expression does not compile, which a test rules out.
    pub(crate) fn new(index: usize, rule: &Rule, threshold: f32) -> Self {
        let compile =
            |pattern: &str| Pattern::ascii(pattern).unwrap_or_else(|error| panic!("{}: {error}", rule.kind.as_str()));
        let compiled = COMPILED[index].get_or_init(|| {
            let alone = format!(r#"\A[\s"'(]{{0,4}}(?:{})[\s"').]{{0,4}}\z"#, rule.pattern);
            (compile(rule.pattern), (rule.alone > 0.0).then(|| compile(&alone)))
        });
        let (pattern, alone) = compiled.clone();
        Self {
            kind: kind_index(&rule.kind),
            pattern,
            alone,
            base: rule.base,
            alone_score: rule.alone,
            cues: (!rule.cues.is_empty()).then(|| Cues::new(rule.cues)),
            judge: rule.judge,
            threshold,
            anchor: rule.anchor,
            word: match rule.near {
                Near::Anything => None,
                Near::Cue => (rule.base < threshold).then_some(1 << index),
                Near::Words(_) => Some(1 << index),
            },
        }
    }

    fn score(&self, found: &Match<'_>, base: f32, out: &mut Vec<Candidate>) -> Option<Range<usize>> {
        let span = found.span.clone();
        let (span, mut score) = match (self.judge)(found)? {
            Judgement::Shape => (span, base),
            Judgement::Score(score) => (span, score.max(if base > self.base { base } else { 0.0 })),
            Judgement::Part(part, score) => (part, score),
        };
        if score < 1.0 && self.cues.as_ref().is_some_and(|cues| cues.precede(found.window, span.start)) {
            score = (score + CUE_LIFT).min(1.0);
        }
        if score >= self.threshold {
            out.push(Candidate { span: span.clone(), label: Label::Pii(self.kind), score });
        }
        Some(span)
    }

    fn value(pattern: &Pattern, window: Window<'_>, range: Range<usize>) -> Range<usize> {
        pattern.group("v", window.text, &range).unwrap_or(range)
    }

    /// Where to search a text that has marks; `None` if the expression does not say how far around them.
    fn search(&self) -> Option<Search<'_>> {
        let extent = self.pattern.extent()?;
        let longest = extent.longest.unwrap_or(usize::MAX / 4);
        let (anchor, gap) = match self.anchor {
            Anchor::Digits(least) => (Anchor::Digits(least.max(extent.digits)), extent.gap?),
            Anchor::Led | Anchor::Paired | Anchor::Inward | Anchor::Aged | Anchor::Told => (self.anchor, extent.gap?),
            other => (other, longest),
        };
        let length = (extent.shortest, longest);
        Some(Search { anchor, bytes: &extent.bytes, gap, length, word: self.word })
    }

    /// Looks for values that are not the whole text; returns the frontier.
    fn scan_parts(&self, window: Window<'_>, from: usize, found: &mut Vec<Candidate>) -> usize {
        let whole = 0..window.text.len();
        if window.complete
            && let Some(marks) = window.marks
            && let Some(search) = self.search()
        {
            search.ranges(window.text, marks, from, |part| {
                self.scan_part(window, part.start, part, found);
            });
            return whole.end;
        }
        self.scan_part(window, from, whole, found)
    }

    /// The same for matches inside `part`.
    fn scan_part(&self, window: Window<'_>, from: usize, part: Range<usize>, found: &mut Vec<Candidate>) -> usize {
        let mut at = from;
        loop {
            if at > part.end {
                return part.end;
            }
            match self.pattern.next_within(window, at..part.end) {
                Next::Frontier(frontier) => return frontier,
                Next::Match(range) => {
                    let value = Self::value(&self.pattern, window, range.clone());
                    at = match self.score(&Match { window, span: value, end: range.end }, self.base, found) {
                        Some(accepted) => accepted.end.max(range.start + 1),
                        None => after_word(window.text, range.start),
                    };
                }
            }
        }
    }
}

impl Recognizer for RuleRecognizer {
    fn scan(&self, window: Window<'_>, from: usize, found: &mut Vec<Candidate>) -> usize {
        let already = found.len();
        let mut frontier = self.scan_parts(window, from, found);
        if let Some(alone) = &self.alone
            && from == 0
            && !(window.complete
                && alone.extent().and_then(|extent| extent.longest).is_some_and(|longest| window.text.len() > longest))
        {
            match alone.next(window, 0) {
                Next::Match(range) => {
                    let span = Self::alone_value(alone, &self.pattern, window, range);
                    self.score(&Match { window, end: span.end, span }, self.alone_score, found);
                }
                // Not known yet whether the value is the whole text: everything is looked at again next time.
                Next::Frontier(undecided) if undecided < frontier => {
                    frontier = undecided;
                    found.truncate(already);
                }
                Next::Frontier(_) => {}
            }
        }
        frontier
    }

    fn wanted(&self) -> Wanted {
        Wanted::Values
    }
}

/// Where the search goes on after a match at `start` was dropped. A later match may be hidden inside the dropped one, but
/// none begins inside the same run of letters and digits: every rule begins at the edge of a word, by its expression or
/// by its judge. Going on one character further instead would make long words cost the square of their length.
fn after_word(text: &str, start: usize) -> usize {
    let run = text.as_bytes()[start..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    text.ceil_char_boundary(start + run.max(1))
}

impl RuleRecognizer {
    /// The value inside a text that consists of it.
    fn alone_value(alone: &Pattern, pattern: &Pattern, window: Window<'_>, range: Range<usize>) -> Range<usize> {
        if alone.has_groups() {
            return Self::value(alone, window, range);
        }
        pattern.find(window.text, range.start..window.text.len()).unwrap_or(range)
    }
}

/// Words that, shortly before a value, say what it is.
#[derive(Debug)]
pub(crate) struct Cues {
    automaton: AhoCorasick,
}

impl Cues {
    pub(crate) fn new(cues: &[&str]) -> Self {
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(cues)
            .unwrap_or_else(|error| panic!("cues of a built-in rule: {error}"));
        Self { automaton }
    }

    /// Whether one of the words stands within a few words before `at`. A cue of four letters or more may have an
    /// ending of up to two letters or `ing`; a shorter one has to be a word of its own.
    pub(crate) fn precede(&self, window: Window<'_>, at: usize) -> bool {
        let whole = window.look_behind(at, CUE_BYTES);
        let left = &whole[after_mask(whole)..];
        let bytes = left.as_bytes();
        self.automaton.find_overlapping_iter(left).any(|cue| {
            let starts = cue.start() == 0 && whole.len() < CUE_BYTES - 4
                || cue.start() > 0 && !bytes[cue.start() - 1].is_ascii_alphanumeric();
            let longer = bytes[cue.end()..].iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
            let ends = longer == 0 || cue.len() >= 4 && (longer <= 2 || left[cue.end()..].starts_with("ing"));
            starts && ends && words(&left[cue.end()..]) <= CUE_WORDS
        })
    }
}

/// End of the last mask (`{PHONE}`) or pseudonym (`{PHONE_1_k3x9q2}`) in the text, or 0. A mask is no cue, and cues before it belong to what it hides: else a
/// masked text that is masked again would lose more.
pub(super) fn after_mask(text: &str) -> usize {
    let mut end = text.len();
    while let Some(close) = text[..end].rfind('}') {
        let inside = vault::without_tag(&text[..close]);
        let name = inside.trim_end_matches(|c: char| c.is_ascii_uppercase() || c == '_');
        if name.len() < inside.len() && name.ends_with('{') {
            return close + 1;
        }
        end = close;
    }
    0
}

/// Runs of letters and digits.
fn words(text: &str) -> usize {
    text.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty()).count()
}
