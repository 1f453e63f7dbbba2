//! Names of persons: a grammar of capitalised words, with lists of names, of words that are none, and cue words.
//!
//! Titles (`Dr`, `Mrs`) are not part of a name, as in the service. Names of organisations, places and streets are left
//! alone where a word beside them gives them away. What the grammar reads is evidence for the tagger (`tagger.rs`), which decides; words in
//! small letters are the grammar's alone.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::LazyLock;

use bedrock_core::GuardrailPiiEntityType as Kind;

use super::marks::{Named, Wanted};
use super::tagger::{MAX, Noted, Seen, Sums, Tagger, hash, tagger};
use super::{THRESHOLD, kind_index, lists};
use crate::scan::{Candidate, Cursor, Label, Recognizer, Token, TokenKind, Window, next_letter, plain_word};

#[rustfmt::skip]
pub(super) const TITLES: &[&str] = &[
    "mr", "mrs", "ms", "miss", "mx", "dr", "prof", "professor", "sir", "madam", "lady", "lord", "dame", "rev",
    "reverend", "father", "sister", "captain", "capt", "sgt", "sergeant", "lt", "lieutenant", "col", "colonel", "gen",
    "general", "president", "senator", "sen", "rep", "governor", "gov", "judge", "justice", "doctor", "herr", "frau",
    "monsieur", "madame", "mme", "señor", "señora", "don", "doña", "uncle", "aunt", "aunty", "hon", "inspector",
    "detective", "officer", "nurse", "coach", "chancellor", "minister", "secretary", "ambassador", "bishop", "pope",
    "saint", "master", "mister", "major", "admiral", "sheikh", "imam", "rabbi",
];

/// Words inside a name that are written small.
#[rustfmt::skip]
const PARTICLES: &[&str] = &[
    "de", "da", "di", "del", "della", "der", "den", "van", "von", "vom", "zu", "la", "le", "du", "dos", "das", "do",
    "bin", "ibn", "al", "el", "ter", "ten", "af", "av", "st", "y",
];

/// Right before a name, and hardly before anything else with a capital.
#[rustfmt::skip]
const STRONG_CUES: &[&str] = &[
    "name is", "name's", "name:", "names:", "names are", "call me", "calls me", "called me", "dear", "regards,",
    "sincerely,", "cheers,", "thanks,", "signed", "signed,", "speak to", "speak with", "talk to", "named him",
    "named her", "is named", "was named", "attn:", "attention:", "attn", "partner's name", "account name", "contact:",
    "cardholder:", "holder:", "patient:", "customer:", "client:", "author:", "born", "name on the account?",
    "your name?", "last name?", "first name?", "account? user:", "cc:", "from:", "to:", "ask for", "named",
    "everyone calls me", "people call me",
];

/// Before names, but before other things too.
#[rustfmt::skip]
const WEAK_CUES: &[&str] = &[
    "hi", "hi,", "hello", "hello,", "hey", "hey,", "i'm", "i’m", "i am", "this is", "by", "with", "met", "and",
    "his wife", "her husband", "my wife", "my husband", "my son", "my daughter", "my brother", "my sister",
    "my friend", "my boss", "my mother", "my father", "my kid", "my partner", "my colleague", "friend", "wife",
    "husband", "son", "daughter", "brother", "sister", "mother", "father", "cousin", "nephew", "niece", "colleague",
    "thank you,", "thanks", "actor", "actress", "singer", "author", "writer", "director", "producer", "coach",
    "player", "starring", "directed by", "written by", "novelist", "poet", "composer", "married", "and with", "asked",
    "told", "heard", "ex-zombie", "than early", "him", "founders:", "me,", "says", "said", "replied", "asks",
    "shouted at", "yelled at", "talked to", "spoke to", "call", "tell", "gave", "meet", "meeting with", "sir",
    "love,", "thanks, ", "not by", "with ms", "ask", "contact",
];

/// After a person's name, and seldom after a place's or a thing's.
#[rustfmt::skip]
const PERSON_VERBS: &[&str] = &[
    "said", "says", "told", "asked", "asks", "replied", "wrote", "writes", "shouted", "whispered", "smiled", "laughed",
    "thinks", "thought", "believes", "knows", "knew", "wants", "wanted", "likes", "liked", "loves", "loved", "lives",
    "lived", "died", "married", "spent", "began", "walked", "sat", "stood", "went", "came", "has", "had", "is", "was",
    "will", "speaks", "sings", "sang", "plays", "just", "who", "gave", "explained", "joined", "moved", "works",
    "worked", "called", "speak", "shot", "and",
];

/// Verbs that hardly anything but a person does.
#[rustfmt::skip]
const STRONG_VERBS: &[&str] = &[
    "said", "says", "told", "asked", "asks", "replied", "shouted", "whispered", "smiled", "laughed", "thinks", "thought", "lived", "lives",
    "died", "married", "spent", "walked", "sat", "slept", "wrote", "sang", "sings", "cried", "nodded", "spoke", "speaks", "speak",
];

/// What a surname is put in front of: "a Dvorak concert".
#[rustfmt::skip]
const WORKS: &[&str] = &["novel", "novels", "concert", "fan", "biography", "family", "estate", "symphony", "painting", "painter", "song", "album", "book", "residence"];

static PARTICLE_SET: LazyLock<lists::Set> = LazyLock::new(|| lists::set(PARTICLES));
/// What the word behind a name says.
static NEXT_WORDS: LazyLock<HashMap<&'static str, Next, BuildHasherDefault<lists::Multiply>>> = LazyLock::new(|| {
    let of = |words: &[&'static str], next: Next| words.iter().map(move |word| (*word, next)).collect::<Vec<_>>();
    // A word that is on several lists is what the last one says.
    [of(PERSON_VERBS, Next::Verb), of(WORKS, Next::Work), of(STRONG_VERBS, Next::StrongVerb)]
        .concat()
        .into_iter()
        .collect()
});
static STRONG_CUE_ENDS: LazyLock<lists::Endings> = LazyLock::new(|| lists::Endings::new(STRONG_CUES));
static WEAK_CUE_ENDS: LazyLock<lists::Endings> = LazyLock::new(|| lists::Endings::new(WEAK_CUES));
static SURNAME_ENDS: LazyLock<lists::Endings> = LazyLock::new(|| lists::Endings::new(SURNAME_ENDINGS));

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    StrongVerb,
    Work,
    Verb,
}

fn is_in(set: &lists::Set, word: &str) -> bool {
    set.contains(word)
}

/// Finds names.
#[derive(Debug)]
pub(crate) struct NameRecognizer {
    threshold: f32,
    kind: u8,
    tagger: &'static Tagger,
}

/// A word of a possible name and what the lists say of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Part<'t> {
    /// Without a possessive ending.
    pub(super) text: &'t str,
    /// Of the same in small letters.
    pub(super) hash: u64,
    pub(super) start: usize,
    end: usize,
    /// End of the token with its possessive ending.
    pub(super) token_end: usize,
    /// The lists that it is on, as bits.
    lists: u8,
    pub(super) possessive: bool,
    initial: bool,
    pub(super) particle: bool,
    first: bool,
    last: bool,
    /// An ordinary word, or one that is always written with a capital.
    common: bool,
    place: bool,
    /// Ends as surnames of many languages do.
    shape: bool,
    /// Has letters that English lacks.
    foreign: bool,
    capitals: bool,
    /// Whether it is a title: `Dr`.
    title: bool,
    /// How it is written, as bits.
    pub(super) form: u64,
    /// What [`Part::traits`] says.
    pub(super) traits: u64,
}

impl<'t> Part<'t> {
    /// In small letters.
    pub(super) fn lower(&self) -> Lower {
        Lower::new(self.text)
    }

    /// The same as a small word inside a name.
    fn into_particle(mut self) -> Self {
        (self.particle, self.common, self.first, self.last) = (true, false, false, false);
        self.traits = self.traits(false);
        self
    }

    fn known(&self) -> bool {
        self.first || self.last || self.shape
    }

    /// What the lists and the endings say, as bits.
    pub(super) fn traits(&self, forget: bool) -> u64 {
        let lists = u64::from(if forget { lists::without_names(self.lists) } else { self.lists });
        let title = self.lists & lists::STREET == 0 && self.title;
        let names = !forget && (self.first || self.last);
        [title, names, self.common, self.initial, self.particle, self.shape, self.foreign, self.place]
            .iter()
            .fold(lists, |bits, bit| bits << 1 | u64::from(*bit))
    }
}

/// What was learned of the words of a text while it is looked through: names come again and again.
struct Memory<'t> {
    parts: Box<[(&'t str, Part<'t>)]>,
    sums: Sums<'t>,
}

impl<'t> Memory<'t> {
    fn new(text: &str) -> Self {
        let room = (text.len() / 64).next_power_of_two().clamp(8, 8192);
        let nothing = Part::read(Token { kind: TokenKind::Word, start: 0, text: "" });
        Self { parts: vec![("", nothing); room].into_boxed_slice(), sums: Sums::new(room.min(2048)) }
    }

    fn part(&mut self, token: Token<'t>) -> Part<'t> {
        let known = &mut self.parts[slot(token.text) & (self.parts.len() - 1)];
        if known.0 != token.text {
            *known = (token.text, Part::read(token));
        }
        Part { start: token.start, end: token.start + known.1.text.len(), token_end: token.end(), ..known.1 }
    }
}

/// A place for a word: by its first bytes, its last ones and its length.
fn slot(word: &str) -> usize {
    let bytes = word.as_bytes();
    let head = bytes.first_chunk::<4>().map_or(0, |head| u32::from_le_bytes(*head));
    let tail = bytes.last_chunk::<4>().map_or(0, |tail| u32::from_le_bytes(*tail));
    let short = if bytes.len() < 4 { bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)) } else { 0 };
    let sum = u64::from(head) << 32 | u64::from(tail ^ short);
    ((sum ^ bytes.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize
}

impl NameRecognizer {
    pub(crate) fn new(threshold: f32) -> Self {
        Self::with(threshold, tagger())
    }

    pub(crate) fn with(threshold: f32, tagger: &'static Tagger) -> Self {
        lists::prepare();
        Self { threshold, kind: kind_index(&Kind::Name), tagger }
    }

    /// The names of a run of capitalised words.
    fn find<'t>(
        &self,
        seen: &Seen<'_, 't>,
        sums: &mut Sums<'t>,
        judged: &mut Vec<(f32, bool)>,
        found: &mut Vec<Candidate>,
    ) {
        self.tagger.judge(seen, self.threshold, sums, judged);
        let mut word = 0;
        while word < judged.len() {
            let (mut score, begin) = (judged[word].0, word);
            word += 1;
            if score < self.threshold {
                continue;
            }
            while let Some((next, first)) = judged.get(word)
                && *next >= self.threshold
                && (!*first || seen.parts[word].particle)
            {
                score = score.max(*next);
                word += 1;
            }
            // Beside a mask the grammar has to agree, so that masked text that is masked again stays the same.
            let sure = |opinion: &u8| *opinion >= (THRESHOLD * 20.0) as u8;
            if seen.parts[begin..word].iter().all(|part| part.initial || part.particle)
                || seen.masked && !seen.opinions[begin..word].iter().any(sure)
            {
                continue;
            }
            let span = seen.parts[begin].start..seen.parts[word - 1].end;
            found.push(Candidate { span, label: Label::Pii(self.kind), score: score.min(0.95) });
        }
    }
}

/// Calls `visit` with each run of capitalised words of a whole text.
#[cfg(feature = "train")]
pub(crate) fn runs(text: &str, mut visit: impl FnMut(&Seen<'_, '_>, &[std::ops::Range<usize>])) {
    lists::prepare();
    let (window, touched) = (Window::whole(text), Cell::new(false));
    let (mut at, mut memory, mut parts) = (0, Memory::new(text), Vec::new());
    while let Some(token) = next_token(&window, &mut at, &touched) {
        at = token.end();
        if token.kind == TokenKind::Word && token.is_capitalized() {
            run(&window, token, &mut memory, &mut parts, &touched);
            at = parts.last().map_or(at, |last| last.token_end);
            if is_sign(&window, &parts) {
                continue;
            }
            let spans: Vec<_> = parts.iter().map(|part| part.start..part.end).collect();
            visit(&see(&window, &parts, &mut None, &touched), &spans);
        }
    }
}

/// Whether a run is a lone ordinary word with an ending, an abbreviation or the name of a thing in a program (`Cells`, `RNA`, `HashMap`), as most
/// words of technical texts are that have capitals: the tagger would say so of nearly all, and take longer.
fn is_sign(window: &Window<'_>, parts: &[Part<'_>]) -> bool {
    let [only] = parts else { return false };
    if only.first || only.last || only.foreign || only.title || only.text.len() < 2 {
        return false;
    }
    let mut letters = only.text.bytes();
    let small = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase());
    let inner =
        only.text.as_bytes().windows(2).position(|two| two[0].is_ascii_lowercase() && two[1].is_ascii_uppercase());
    // "McKay", "DeVito", "LeBron".
    only.common && is_untitled(window, only.start)
        || only.capitals && only.text.len() <= 5
        || inner.is_some_and(|at| at > 2) && small(letters.nth(1)) && !only.text.contains('-')
}

/// The next token that may be part of a name, from `at` on, which is put before it.
fn next_token<'t>(window: &Window<'t>, at: &mut usize, touched: &Cell<bool>) -> Option<Token<'t>> {
    loop {
        *at = next_letter(window.text, *at);
        if let Some(end) = plain_word(window.text, *at) {
            let word = &window.text[*at..end];
            let small = word.as_bytes()[0].is_ascii_lowercase();
            if if small {
                !may_be_uncapitalized(window.text.as_bytes(), *at, end)
            } else {
                is_plainly_none(window, *at, word)
            } {
                *at = end;
                continue;
            }
        }
        return Cursor::new(window, *at, touched).peek();
    }
}

/// A run, what stands around it, and what the grammar says of it.
fn see<'p, 't>(
    window: &Window<'t>,
    parts: &'p [Part<'t>],
    noted: &mut Option<Noted<'_>>,
    touched: &Cell<bool>,
) -> Seen<'p, 't> {
    let mut seen = Seen::new(window, parts, noted, touched);
    let left = left(window, parts[0].start);
    let left = &*left;
    seen.cue = cue(left);
    let mut word = 0;
    while word < parts.len() {
        let part = &parts[word];
        let read = if word == 0 {
            seen.named = !part.common && named_before(window, part.text, part.start);
            let (named, cue) = (seen.named, seen.cue);
            parse(window, parts, &Left { text: left, named: &|| named, cue: &|| cue }, touched)
        } else {
            let text = &*self::left(window, part.start);
            let named = || !part.common && named_before(window, part.text, part.start);
            parse(window, &parts[word..], &Left { text, named: &named, cue: &|| cue(text) }, touched)
        };
        let Some((length, score)) = read.filter(|(_, score)| *score >= DOUBT) else {
            word += 1;
            continue;
        };
        let sure = ((score * 10.0) as u8).min(10) * 2;
        seen.opinions[word] = sure + 1;
        seen.opinions[word + 1..word + length].fill(sure);
        word += length;
    }
    seen
}

/// The next of the words that were noted which may be part of a name, from `at` on, which is put before it.
fn next_noted<'t>(window: &Window<'t>, named: &mut &[Named], at: &mut usize) -> Option<Token<'t>> {
    loop {
        let Some((next, rest)) = named.split_first() else {
            *at = window.text.len();
            return None;
        };
        *named = rest;
        let (start, end) = (next.start as usize, next.end as usize);
        if start < *at || next.ordinary && is_untitled(window, start) {
            continue;
        }
        *at = start;
        return Some(Token { kind: TokenKind::Word, start, text: &window.text[start..end] });
    }
}

impl Recognizer for NameRecognizer {
    fn scan(&self, window: Window<'_>, from: usize, found: &mut Vec<Candidate>) -> usize {
        let touched = Cell::new(false);
        let (mut at, mut judged, mut parts) = (from, Vec::new(), Vec::with_capacity(MAX));
        let mut memory = Memory::new(&window.text[from..]);
        // Tokens were noted from the start of the text on.
        let marks = window.marks.filter(|_| window.complete && from == 0);
        let mut noted = marks.map(Noted::new);
        let mut named = marks.map(|marks| marks.named.as_slice());
        loop {
            let token = match &mut named {
                Some(named) => next_noted(&window, named, &mut at),
                None => next_token(&window, &mut at, &touched),
            };
            let Some(token) = token else { return at };
            let (start, already) = (at, found.len());
            at = token.end();
            if token.kind == TokenKind::Word {
                if token.is_capitalized() {
                    run(&window, token, &mut memory, &mut parts, &touched);
                    if !is_sign(&window, &parts) {
                        let seen = see(&window, &parts, &mut noted, &touched);
                        if !touched.get() {
                            self.find(&seen, &mut memory.sums, &mut judged, found);
                        }
                    }
                    at = parts.last().map_or(at, |last| last.token_end);
                } else if let Some((end, next, score)) = uncapitalized(&window, token, &touched) {
                    if score >= self.threshold {
                        found.push(Candidate { span: start..end, label: Label::Pii(self.kind), score });
                    }
                    at = next;
                }
            }
            if touched.get() {
                found.truncate(already);
                return start;
            }
        }
    }

    fn wanted(&self) -> Wanted {
        Wanted::Tokens
    }
}

/// What may stand between a cue and a name.
const BLANKS: [char; 11] = [' ', '\u{a0}', '"', '“', '\'', '(', '*', '\n', '\r', '\t', '>'];

/// From this score on, the tagger is told of a name that the grammar reads.
const DOUBT: f32 = 0.3;

/// A short text in small letters.
pub(super) struct Lower {
    short: [u8; 40],
    length: usize,
    long: String,
}

impl Lower {
    fn new(text: &str) -> Self {
        let mut lower = Self { short: [0; 40], length: text.len(), long: String::new() };
        match lower.short.get_mut(..text.len()) {
            Some(short) if text.is_ascii() => {
                short.copy_from_slice(text.as_bytes());
                short.make_ascii_lowercase();
            }
            _ => lower.long = text.to_lowercase(),
        }
        lower
    }

    fn text(&self) -> &str {
        if self.long.is_empty() {
            std::str::from_utf8(&self.short[..self.length]).unwrap_or_default()
        } else {
            &self.long
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        if self.long.is_empty() { &self.short[..self.length] } else { self.long.as_bytes() }
    }
}

/// What stands before a place, without what may stand between a cue and a name; in small letters if it has others than those of ASCII.
fn left<'t>(window: &Window<'t>, at: usize) -> Cow<'t, str> {
    let left = trim_blanks(window.look_behind(at, 40));
    if left.is_ascii() { Cow::Borrowed(left) } else { Cow::Owned(left.to_lowercase()) }
}

/// Without what may stand between a cue and a name.
fn trim_blanks(text: &str) -> &str {
    let bytes = text.as_bytes();
    let mut end = bytes.len();
    while let Some(last) = end.checked_sub(1).map(|last| bytes[last]) {
        if !last.is_ascii() {
            return text[..end].trim_end_matches(BLANKS);
        }
        if !matches!(last, b' ' | b'"' | b'\'' | b'(' | b'*' | b'\n' | b'\r' | b'\t' | b'>') {
            break;
        }
        end -= 1;
    }
    &text[..end]
}

/// The letters and digits that a text ends in.
fn last_word(text: &str) -> &str {
    let bytes = text.as_bytes();
    let mut start = bytes.len();
    while let Some(before) = start.checked_sub(1).map(|before| bytes[before]) {
        if !before.is_ascii() {
            return text.rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        }
        if !before.is_ascii_alphanumeric() {
            break;
        }
        start -= 1;
    }
    &text[start..]
}

/// What stands before a word, and what else is asked of it.
struct Left<'l> {
    /// What [`left`] says.
    text: &'l str,
    /// What [`named_before`] says.
    named: &'l dyn Fn() -> bool,
    /// What [`cue`] says.
    cue: &'l dyn Fn() -> u8,
}

/// 2: a text ends as those do behind which hardly anything but a name stands; 1: as those behind which one may.
fn cue(left: &str) -> u8 {
    if ends_with_any(left, &STRONG_CUE_ENDS) { 2 } else { u8::from(ends_with_any(left, &WEAK_CUE_ENDS)) }
}

/// Reads a name that begins a run: its words and its score.
fn parse(window: &Window<'_>, parts: &[Part<'_>], before: &Left<'_>, touched: &Cell<bool>) -> Option<(usize, f32)> {
    let (start, left) = (parts[0].start, before.text);
    // The word before, if only blanks or a dot are between.
    let mut previous = [0; LONGEST_TITLE];
    let previous = small_letters(last_word(left.trim_end_matches('.')).as_bytes(), &mut previous).unwrap_or_default();
    // "Major Smith", "dr. smith", but not "a major Brazilian company".
    let titled = may_be_title(previous)
        && lists::is_title(previous)
        && (matches!(previous, b"mr" | b"mrs" | b"ms" | b"dr" | b"prof" | b"mx")
            || title_word(window.look_behind(start, 40)).starts_with(char::is_uppercase));

    let head = &parts[0];
    // "Dear", "The", "Mr": not part of a name.
    if head.title && !titled && (head.common || !head.last) {
        return None;
    }
    let surname_first = head.last && parts.len() > 1 && parts[1].first;
    if head.common && !head.first && !titled && !surname_first {
        return None;
    }
    let mut length = parts.len();
    // A run ends before a word that cannot be part of a name.
    for (index, part) in parts.iter().enumerate().skip(1) {
        if part.common && !part.initial && !part.particle && (!part.last || is_organization(part)) {
            length = index;
            break;
        }
    }
    while length > 1 && parts[length - 1].particle {
        length -= 1;
    }
    // The words that the name itself is judged by.
    let mut words = [head; MAX];
    let mut count = 0;
    for part in parts[..length].iter().filter(|part| !part.particle && !part.initial) {
        words[count] = part;
        count += 1;
    }
    let words = &words[..count];
    let tail = &parts[length - 1];
    let (follows, next) = next_word(window, tail.token_end, touched);
    if let Some(next) = next
        && follows == Follows::Blank
        && next.chars().next().is_some_and(char::is_uppercase)
        && !titled
        && lists::is_thing(Lower::new(next).text())
    {
        return None;
    }
    if parts.iter().take(length).any(is_organization) && !titled {
        return None;
    }
    let is_place = match &parts[..length] {
        [only] => only.place,
        several => {
            lists::may_begin_place(head.hash)
                && lists::is_place(&several.iter().map(|part| part.text.to_lowercase()).collect::<Vec<_>>().join(" "))
        }
    };
    if is_place && !titled {
        return None;
    }
    let capitals = words.iter().all(|word| word.capitals && word.text.chars().count() > 1);
    let known_words = words.iter().filter(|word| word.known()).count();

    let mut score: f32 = match words {
        [] => return None,
        [only] => {
            let initials = parts[..length].iter().any(|part| part.initial);
            if initials && (only.known() || only.foreign) {
                0.75
            } else if only.first && !only.common && !only.place {
                0.6
            } else if only.common || only.place {
                0.15
            } else if only.last && only.shape {
                0.4
            } else if only.last || only.shape || only.foreign {
                0.35
            } else {
                0.2
            }
        }
        [head, .., tail] => {
            let doubtful = words.iter().filter(|word| word.common || word.place).count();
            if head.first && (tail.last || tail.shape) {
                0.9 - 0.2 * doubtful as f32
            } else if head.first && !tail.place {
                0.8 - 0.25 * doubtful as f32
            } else if (tail.last || tail.shape) && !head.place {
                0.65 - 0.2 * doubtful as f32
            } else if known_words > 0 {
                0.5 - 0.15 * doubtful as f32
            } else if words.iter().any(|word| word.foreign) {
                0.55 - 0.2 * doubtful as f32
            } else {
                0.45 - 0.2 * doubtful as f32
            }
        }
    };
    let certain = !words[0].common || words[0].first;
    if titled {
        score = score.max(0.9);
    } else if certain && (before.cue)() == 2 {
        score = if words.iter().all(|word| word.common) { score + 0.2 } else { (score + 0.45).max(0.7) };
    } else if certain && !words[0].common && (before.cue)() == 1 {
        score += if words.len() == 1 && !words[0].known() { 0.1 } else { 0.2 };
    }
    if tail.possessive && !tail.common && !tail.place {
        score += 0.1;
    }
    match (follows, next) {
        (Follows::Blank, Some(word)) => match NEXT_WORDS.get(word) {
            Some(Next::StrongVerb) => score += if words[0].known() || words[0].foreign { 0.2 } else { 0.3 },
            Some(Next::Work) if words[0].last || words[0].shape || words[0].foreign => score += 0.4,
            Some(Next::Verb) => score += if words[0].known() || words[0].foreign { 0.15 } else { 0.1 },
            _ if word.starts_with(char::is_uppercase) => score -= 0.2,
            _ => {}
        },
        (Follows::Colon, _) if left.is_empty() || raw_line_start(window, start) => score += 0.2,
        _ => {}
    }
    if matches!(previous, b"the" | b"a" | b"an") {
        score -= if words.len() > 1 { 0.1 } else { 0.4 };
    } else if !titled
        && raw_previous(window, start)
            .is_some_and(|word| word.starts_with(char::is_uppercase) && !is_sentence_word(window, word, start))
    {
        score -= 0.25;
    } else if matches!(previous, b"in" | b"at" | b"near" | b"to" | b"through" | b"across") {
        score -= if words.len() == 1 { 0.2 } else { 0.1 };
    }
    if capitals {
        score -= if words.len() == 1 && tail.text.chars().count() <= 4 && !titled { 0.4 } else { 0.2 };
    }
    const NAMED_BEFORE: f32 = 0.3;
    let may_be = words.len() == 1 && !titled && score + NAMED_BEFORE >= DOUBT;
    if may_be && (before.named)() {
        score += NAMED_BEFORE;
    }
    Some((length, score))
}

/// Whether a word in small letters has to be looked at more closely: most neither stand behind a cue nor are a given name.
#[inline]
pub(super) fn may_be_uncapitalized(text: &[u8], start: usize, end: usize) -> bool {
    is_cued(text, start) || end - start > 3 && lists::may_be_first(&text[start..end])
}

/// What a name in small letters stands behind.
#[rustfmt::skip]
const SMALL_CUES: [&[u8]; 13] = [
    b"name is ", b"name: ", b"call me ", b"name's ", b"named him ", b"named her ", b"mr. ", b"mrs. ", b"ms. ", b"dr. ", b"mr ", b"mrs ", b"name? ",
];

/// Whether the last three letters before a blank are those of one of [`SMALL_CUES`], which few words end in.
#[inline]
pub(super) fn may_be_cue([third, second, last]: [u8; 3]) -> bool {
    // The third letters, as bits, by the two behind them.
    static ENDS: [u32; 1024] = {
        let (mut ends, mut index) = ([0; 1024], 0);
        while index < SMALL_CUES.len() {
            let [left @ .., second, last, b' '] = SMALL_CUES[index] else { panic!("a cue ends in a blank") };
            let third = match left {
                [.., third] => 1 << (*third & 31),
                [] => u32::MAX,
            };
            ends[((*last & 31) as usize) << 5 | (*second & 31) as usize] |= third;
            index += 1;
        }
        ends
    };
    ENDS[usize::from(last & 31) << 5 | usize::from(second & 31)] >> (third & 31) & 1 != 0
}

/// Whether one of [`SMALL_CUES`] stands before.
fn is_cued(text: &[u8], at: usize) -> bool {
    let left = &text[..at];
    let may_be = match left {
        [.., third, second, last, b' '] => may_be_cue([*third, *second, *last]),
        [_, _, b' '] => true,
        _ => false,
    };
    let cued =
        |cue: &&[u8]| left.len().checked_sub(cue.len()).is_some_and(|from| left[from..].eq_ignore_ascii_case(cue));
    may_be && SMALL_CUES.iter().any(cued)
}

/// Letters of the longest word that may be passed over for being an ordinary one.
const PLAIN: usize = 16;

/// Whether the word is an ordinary one without a title before it, as most that begin a sentence are. It says so of ASCII alone.
fn is_plainly_none(window: &Window<'_>, at: usize, word: &str) -> bool {
    is_ordinary(word.as_bytes()) && is_untitled(window, at)
}

/// Whether a word of ASCII is an ordinary one and nobody's name. It says so of none that is long.
pub(super) fn is_ordinary(word: &[u8]) -> bool {
    let mut lower = [0; PLAIN];
    small_letters(word, &mut lower).is_some_and(lists::is_only_common)
}

/// A word in small letters, if there is room for it; letters beyond ASCII stay as they are.
fn small_letters<'r>(word: &[u8], room: &'r mut [u8]) -> Option<&'r [u8]> {
    let lower = room.get_mut(..word.len())?;
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    Some(lower)
}

/// Whether a text can end in a title: few words have the last two letters of one.
fn may_be_title(text: &[u8]) -> bool {
    // The last letters of `TITLES`, as bits, by the ones before.
    const ENDS: [u32; 32] = {
        let (mut ends, mut index) = ([0; 32], 0);
        while index < TITLES.len() {
            if let [.., before, last] = TITLES[index].as_bytes() {
                ends[(*before & 31) as usize] |= 1 << (*last & 31);
            }
            index += 1;
        }
        ends
    };
    matches!(text, [.., before, last] if ENDS[usize::from(before & 31)] & 1 << (last & 31) != 0)
}

/// Whether no title stands before; it says so of ASCII alone.
fn is_untitled(window: &Window<'_>, at: usize) -> bool {
    let left = window.look_behind(at, 40);
    if !left.is_ascii() {
        return false;
    }
    let bytes = left.as_bytes();
    let end = bytes.iter().rposition(u8::is_ascii_alphanumeric).map_or(0, |last| last + 1);
    if !may_be_title(&bytes[..end]) {
        return true;
    }
    let start = bytes[..end].iter().rposition(|byte| !byte.is_ascii_alphanumeric()).map_or(0, |before| before + 1);
    let mut lower = [0; LONGEST_TITLE];
    !small_letters(&bytes[start..end], &mut lower).is_some_and(lists::is_title)
}

/// Bytes of the longest title.
const LONGEST_TITLE: usize = 12;

/// A name in small letters: only right behind "my name is" and its like, and only words that English has no other use for.
///
/// Returns its end, that of its token, and its score.
fn uncapitalized(window: &Window<'_>, first: Token<'_>, touched: &Cell<bool>) -> Option<(usize, usize, f32)> {
    let left = window.look_behind(first.start, 40).as_bytes();
    // Capitals ("NMR ") are none.
    let small = !matches!(left, [.., b'A'..=b'Z', b' ']);
    if !small || !is_cued(left, left.len()) {
        return uncapitalized_pair(window, first, touched);
    }
    if lists::is_common(&first.text.to_lowercase()) || first.text.chars().count() < 2 {
        return None;
    }
    let mut cursor = Cursor::new(window, first.end(), touched);
    let (mut end, mut next) = (first.start + strip_possessive(first.text).len(), first.end());
    let mut score = 0.7;
    // A second word, if the lists know it or it is no English word.
    if end == first.end()
        && cursor.take(|token| token.text == " ").is_some()
        && let Some(second) = cursor.take(|token| token.kind == TokenKind::Word)
    {
        let lower = second.text.to_lowercase();
        let word = strip_possessive(&lower);
        if lists::is_last(word) || !lists::is_common(word) {
            (end, next) = (second.start + strip_possessive(second.text).len(), second.end());
            score = 0.8;
        }
    }
    Some((end, next, score))
}

/// A given name and a surname of the lists in small letters, neither of them an English word: chat without capitals.
fn uncapitalized_pair(window: &Window<'_>, first: Token<'_>, touched: &Cell<bool>) -> Option<(usize, usize, f32)> {
    let name = |word: &str| {
        word.len() > 3 && !lists::is_common(word) && !lists::is_place(word) && !lists::is_capitalized_term(word)
    };
    if first.text.len() <= 3 || !lists::is_first(first.text) || !name(first.text) {
        return None;
    }
    let mut cursor = Cursor::new(window, first.end(), touched);
    cursor.take(|token| token.text == " ")?;
    let second = cursor.take(|token| token.kind == TokenKind::Word)?;
    let word = strip_possessive(second.text);
    let surname = (lists::is_last(word) || surname_shape(word)) && name(word) && !lists::is_organization_word(word);
    surname.then(|| (second.start + word.len(), second.end(), 0.6))
}

fn strip_possessive(word: &str) -> &str {
    word.strip_suffix("'s").or_else(|| word.strip_suffix("’s")).unwrap_or(word)
}

/// Capitalised words, initials and particles in a row.
fn run<'t>(
    window: &Window<'t>,
    first: Token<'t>,
    memory: &mut Memory<'t>,
    parts: &mut Vec<Part<'t>>,
    touched: &Cell<bool>,
) {
    let mut cursor = Cursor::new(window, first.end(), touched);
    parts.clear();
    parts.push(memory.part(first));
    while parts.len() < MAX {
        let last = parts.last_mut().expect("has the first word");
        if last.possessive || !last.initial && ends_here(window.text.as_bytes(), last.token_end) {
            break;
        }
        if last.initial {
            let dot = cursor.take(|token| token.is("."));
            last.end = dot.map_or(last.end, |dot| dot.end());
            last.token_end = last.end;
        }
        if cursor.at == last.token_end
            && window.text.as_bytes()[cursor.at..].starts_with(b" ")
            && let Some(end) = plain_word(window.text, cursor.at + 1)
            && window.text.as_bytes()[cursor.at + 1].is_ascii_uppercase()
        {
            let start = cursor.at + 1;
            parts.push(memory.part(Token { kind: TokenKind::Word, start, text: &window.text[start..end] }));
            cursor.at = end;
            continue;
        }
        let mut ahead = cursor.clone();
        let single = |text: &str| text.len() == 1 || text.chars().count() == 1;
        if ahead.take(|token| token.kind == TokenKind::Blank && single(token.text)).is_none() {
            break;
        }
        let Some(token) = ahead.take(|token| token.kind == TokenKind::Word) else { break };
        if token.is_capitalized() {
            parts.push(memory.part(token));
        } else if is_in(&PARTICLE_SET, token.text) && particle_continues(&ahead) {
            parts.push(memory.part(token).into_particle());
        } else {
            break;
        }
        cursor = ahead;
    }
}

/// Whether a run surely ends at `at`: a sign of ASCII follows, or a blank and a word in small letters that begins as no particle does. More text
/// would not change it.
fn ends_here(text: &[u8], at: usize) -> bool {
    // The second letters of `PARTICLES`, as bits, by the first ones.
    const HEADS: [u32; 32] = {
        let (mut heads, mut index) = ([0; 32], 0);
        while index < PARTICLES.len() {
            let particle = PARTICLES[index].as_bytes();
            heads[(particle[0] & 31) as usize] |= if particle.len() > 1 { 1 << (particle[1] & 31) } else { u32::MAX };
            index += 1;
        }
        heads
    };
    match text.get(at..at + 3) {
        Some([b' ', first, second]) if first.is_ascii_lowercase() && second.is_ascii() => {
            HEADS[usize::from(first & 31)] & 1 << (second & 31) == 0
        }
        Some([sign, ..]) => sign.is_ascii_punctuation(),
        _ => false,
    }
}

/// Whether a capitalised word follows a particle, maybe after another one ("van der Berg").
fn particle_continues(cursor: &Cursor<'_, '_>) -> bool {
    let mut ahead = cursor.clone();
    for _ in 0..2 {
        if ahead.take(|token| token.text == " ").is_none() {
            return false;
        }
        match ahead.next() {
            Some(token) if token.is_capitalized() => return true,
            Some(token) if is_in(&PARTICLE_SET, token.text) => {}
            _ => return false,
        }
    }
    false
}

impl<'t> Part<'t> {
    fn read(token: Token<'t>) -> Self {
        let text = strip_possessive(token.text);
        let lower = Lower::new(text);
        let lower = lower.text();
        let pieces = || lower.split('-');
        let listed = lists::Listed::new(lower);
        let look = Look::of(text);
        let possessive = text.len() < token.text.len();
        let initial = look.letters == 1 && text.chars().all(char::is_uppercase) && text != "I";
        let part = Part {
            text,
            hash: hash(lower),
            start: token.start,
            end: token.start + text.len(),
            lists: listed.bits(),
            token_end: token.end(),
            possessive,
            initial,
            particle: false,
            first: listed.is_first() || look.hyphen && pieces().all(|piece| piece.len() > 1 && lists::is_first(piece)),
            last: listed.is_last()
                || look.apostrophe && lower.contains('\'') && lists::is_last(&lower.replace('\'', ""))
                || look.hyphen && pieces().all(lists::is_last),
            common: listed.is_common() || lists::has_common_stem(lower) || look.apostrophe && is_contraction(lower),
            place: listed.is_place(),
            shape: surname_shape(lower),
            foreign: look.foreign,
            capitals: look.capitals,
            title: listed.is_title(),
            form: look.form(possessive),
            traits: 0,
        };
        Part { traits: part.traits(false), ..part }
    }
}

/// How a word is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    /// Characters.
    letters: usize,
    /// No small letters.
    capitals: bool,
    /// A capital behind the first character.
    inner: bool,
    /// Letters that English lacks.
    foreign: bool,
    hyphen: bool,
    apostrophe: bool,
    digit: bool,
}

impl Look {
    fn of(text: &str) -> Self {
        if !text.is_ascii() {
            return Self::of_any(text);
        }
        let nothing = Self {
            letters: text.len(),
            capitals: true,
            inner: false,
            foreign: false,
            hyphen: false,
            apostrophe: false,
            digit: false,
        };
        text.bytes().enumerate().fold(nothing, |look, (at, byte)| Self {
            capitals: look.capitals & !byte.is_ascii_lowercase(),
            inner: look.inner | (at > 0 && byte.is_ascii_uppercase()),
            hyphen: look.hyphen | (byte == b'-'),
            apostrophe: look.apostrophe | (byte == b'\''),
            digit: look.digit | byte.is_ascii_digit(),
            ..look
        })
    }

    fn of_any(text: &str) -> Self {
        Self {
            letters: text.chars().count(),
            capitals: text.chars().all(|c| c.is_uppercase() || !c.is_alphabetic()),
            inner: text.chars().skip(1).any(char::is_uppercase),
            foreign: text.chars().any(|c| !c.is_ascii() && c.is_alphabetic()),
            hyphen: text.contains('-'),
            apostrophe: text.contains(['\'', '’']),
            digit: text.contains(|c: char| c.is_ascii_digit()),
        }
    }

    /// The same as bits.
    fn form(self, possessive: bool) -> u64 {
        let length = match self.letters {
            length @ 0..=3 => length,
            4..=5 => 4,
            6..=8 => 5,
            _ => 6,
        };
        let bits = [self.capitals, self.inner, self.foreign, possessive, self.hyphen, self.apostrophe, self.digit];
        bits.iter().fold(length as u64, |form, bit| form << 1 | u64::from(*bit))
    }
}

/// `i'm`, `they've`, `don't`.
fn is_contraction(lower: &str) -> bool {
    lower.split_once(['\'', '’']).is_some_and(|(word, ending)| {
        matches!(ending, "m" | "re" | "ve" | "ll" | "d" | "t" | "s")
            && (word.len() <= 1 || ending == "t" || lists::is_common(word))
    })
}

/// Endings of surnames in several languages. Endings that ordinary words have too (`-er`, `-man`) are left out.
#[rustfmt::skip]
const SURNAME_ENDINGS: &[&str] = &[
    "sson", "ssen", "nsen", "rsen", "lsen", "dsen", "tsen", "ová", "ova", "eva", "ev", "ov", "ović", "ovic",
    "ević", "evic", "ić", "ich", "enko", "chuk", "czyk", "ska", "ski", "sky", "skaya", "skaia", "wicz", "dóttir",
    "dottir", "ález", "ez", "ínez", "escu", "eanu", "oglu", "oğlu", "yan", "ian", "opoulos", "akis", "idis",
    "idou", "adze", "shvili", "inen", "ainen", "onen", "poulos", "etti", "elli", "ini", "ucci", "acci", "aux",
    "eau", "moto", "mura", "yama", "shima", "kawa", "gawa", "shita", "saki", "hara", "bauer", "meyer", "meier",
    "maier", "mann", "berg", "stein", "hoff", "huber", "vich", "vitch", "quist", "qvist", "ström", "gren", "lund",
    "blad", "ström", "strom", "dahl", "gaard", "quez", "uez", "kov", "ný", "ský", "čík", "ák", "ík", "nyi", "ffy",
    "ényi", "ássy", "ács", "ész", "ész", "wala", "singh", "hout", "stra", "sma", "huis", "veld",
];

/// Whether the word ends as surnames do.
fn surname_shape(lower: &str) -> bool {
    let scots =
        lower.strip_prefix("mc").or_else(|| lower.strip_prefix("o'")).is_some_and(|rest| rest.chars().count() >= 3);
    scots || lower.chars().count() >= 5 && SURNAME_ENDS.of(lower).any(|ending| lower.len() > ending.len() + 2)
}

fn is_organization(part: &Part<'_>) -> bool {
    part.lists & lists::ORGANIZATION != 0 && (part.common || !part.first)
}

fn ends_with_any(left: &str, cues: &lists::Endings) -> bool {
    cues.of(left)
        .any(|cue| left[..left.len() - cue.len()].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '\''))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follows {
    Blank,
    Colon,
    Possessive,
    Other,
}

/// What stands right behind byte `at`: a blank and a word, a colon, or something else.
fn next_word<'t>(window: &Window<'t>, at: usize, touched: &Cell<bool>) -> (Follows, Option<&'t str>) {
    match window.text.as_bytes().get(at..at + 2) {
        Some([b' ', sign]) => {
            if let Some(end) = plain_word(window.text, at + 1) {
                return (Follows::Blank, Some(&window.text[at + 1..end]));
            }
            if sign.is_ascii_punctuation() {
                return (Follows::Blank, None);
            }
        }
        Some([b',' | b'.' | b';' | b')' | b'!' | b'?', _]) => return (Follows::Other, None),
        _ => {}
    }
    next_word_any(window, at, touched)
}

fn next_word_any<'t>(window: &Window<'t>, at: usize, touched: &Cell<bool>) -> (Follows, Option<&'t str>) {
    let mut cursor = Cursor::new(window, at, touched);
    match cursor.next() {
        Some(token) if token.kind == TokenKind::Blank => {
            let word = cursor.next().filter(|token| token.kind == TokenKind::Word);
            (Follows::Blank, word.map(|word| word.text))
        }
        Some(token) if token.is(":") => (Follows::Colon, None),
        Some(token) if token.is("'") || token.is("’") => (Follows::Possessive, None),
        _ => (Follows::Other, None),
    }
}

/// The last word of the left context, with a dot behind it or not.
fn title_word(left: &str) -> &str {
    last_word(left.trim_end().trim_end_matches('.'))
}

/// The word before byte `at` on the same line, if blanks alone are between.
fn raw_previous<'t>(window: &Window<'t>, at: usize) -> Option<&'t str> {
    let left = window.look_behind(at, 40);
    let trimmed = left.trim_end_matches([' ', '\u{a0}']);
    if trimmed.len() == left.len() {
        return None;
    }
    let word = last_word(trimmed);
    (!word.is_empty()).then_some(word)
}

/// Whether `at` begins a line.
fn raw_line_start(window: &Window<'_>, at: usize) -> bool {
    let left = window.look_behind(at, 8);
    left.trim_end_matches([' ', '"', '*', '>', '-']).chars().next_back().is_none_or(|c| c == '\n')
}

/// Whether the same word stood beside another capitalised word a little before: "Ann Lee … Lee".
fn named_before(window: &Window<'_>, word: &str, at: usize) -> bool {
    let left = window.look_behind(at, 240);
    // By the first byte, many at a time.
    let starts = memchr::memchr_iter(word.as_bytes()[0], left.as_bytes());
    starts.filter(|start| left.is_char_boundary(*start) && left.as_bytes()[*start..].starts_with(word.as_bytes())).any(
        |start| {
            let before =
                left[..start].strip_suffix(' ').and_then(|text| text.rsplit(|c: char| !c.is_alphanumeric()).next());
            let after = left[start + word.len()..]
                .strip_prefix(' ')
                .and_then(|text| text.split(|c: char| !c.is_alphanumeric()).next());
            let name = |other: Option<&str>| {
                other.is_some_and(|other| {
                    other.starts_with(char::is_uppercase) && {
                        let lower = Lower::new(other);
                        let lower = lower.text();
                        lists::is_first(lower)
                            || lists::is_last(lower)
                            || !lists::is_common(lower) && !lists::is_capitalized_term(lower)
                    }
                })
            };
            name(before) || name(after)
        },
    )
}

/// Whether the capital of the word before comes from its place at the start of a sentence ("Is", "Hi", "Dear").
fn is_sentence_word(window: &Window<'_>, word: &str, at: usize) -> bool {
    let left = window.look_behind(at, 80);
    let Some(start) = left.rfind(word) else { return false };
    let before = left[..start].trim_end();
    let begins =
        before.is_empty() || before.ends_with(['.', '!', '?', ':', '\n', '"', '“', '”', ')', '>', '-', '–', ';']);
    begins && lists::is_common(Lower::new(word).text())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_short_ways_to_go_on_are_those_of_tokens(
            text in "[AB](,|[.]|:|'|-| )?( |d|de|de |st|y|v|A|Ab|é|\\(|-|\n|\u{a0}){0,4}", complete in any::<bool>(),
        ) {
            let window = Window { complete, ..Window::growing(&text) };
            let (short, long) = (Cell::new(false), Cell::new(false));
            prop_assert_eq!(next_word(&window, 1, &short), next_word_any(&window, 1, &long));
            prop_assert_eq!(short.get(), long.get());
            if ends_here(text.as_bytes(), 1) {
                let mut cursor = Cursor::new(&window, 1, &long);
                let blank = cursor.take(|token| token.kind == TokenKind::Blank).is_some();
                let word = cursor.take(|token| token.kind == TokenKind::Word && blank);
                let goes_on = |token: &Token<'_>| token.is_capitalized() || is_in(&PARTICLE_SET, token.text);
                prop_assert!(!word.as_ref().is_some_and(goes_on), "{:?}", text);
            }
        }
    }

    use super::super::marks::Marks;
    use super::*;

    #[rustfmt::skip]
    const PIECES: &[&str] = &[
        "Ada", "Lovelace", "ADA", "Anne-Marie", "O'Brien", "O’Neill's", "Smith's", "van der", "Berg", "J.", "Dr.", "McKay", "Émile", "Zoë", "The", "York", "Bank",
        "said", "my name is", "by", "der", "und", "mit", "von", "{", "}", ";", "==", "{NAME}", "12", ",", ".", ":", "\n", "é", "HashMap", "Agent47", "I",
    ];

    proptest! {
           #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

           #[test]
           fn what_is_remembered_or_noted_is_what_would_be_read(
               pieces in prop::collection::vec((prop::sample::select(PIECES), prop_oneof![6 => Just(" "), 1 => Just("")]), 1..40),
           ) {
               let text: String = pieces.iter().flat_map(|(piece, glue)| [*piece, *glue]).collect();
               let (window, touched, tagger) = (Window::whole(&text), Cell::new(false), tagger());
               let marks = Marks::of(&text, Wanted::Tokens).unwrap();
               let mut noted = Some(Noted::new(&marks));
               // With so little room that nearly everything is forgotten and read again, and with so much that nothing is.
               let mut memories = [Memory::new(""), Memory { sums: Sums::new(2048), ..Memory::new("") }];
               let (mut at, mut parts) = (0, Vec::new());
               while let Some(token) = next_token(&window, &mut at, &touched) {
                   at = token.end();
                   if token.kind != TokenKind::Word || !token.is_capitalized() {
                       continue;
                   }
                   for memory in &mut memories {
                       run(&window, token, memory, &mut parts, &touched);
                       let seen = see(&window, &parts, &mut None, &touched);
                       for (word, part) in parts.iter().enumerate() {
                           let sums = memory.sums.of(tagger, &seen, word).sums();
                           prop_assert_eq!(sums, tagger.sum_all(&seen, word), "{:?} {:?}", part, text);
                       }
                   }
                   for part in parts.iter().filter(|part| !part.particle) {
                       let end = if part.initial { part.start + part.text.len() } else { part.token_end };
    let token = Token { kind: TokenKind::Word, start: part.start, text: &text[part.start..end] };
                       let read = Part { end: part.end, token_end: part.token_end, ..Part::read(token) };
                       prop_assert_eq!(*part, read);
                       prop_assert_eq!(Look::of(part.text), Look::of_any(part.text));
                   }
                   let fast = see(&window, &parts, &mut noted, &touched);
                   prop_assert_eq!(format!("{fast:?}"), format!("{:?}", see(&window, &parts, &mut None, &touched)));
                   at = parts.last().map_or(at, |last| last.token_end);
               }
           }
       }
}
