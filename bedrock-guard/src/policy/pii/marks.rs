//! Where personal data can be at all: one pass over a whole text that spares the expressions most of it.
//!
//! Every value has something in it that most text has not: a digit, an `@`, a dot between letters, a run of capitals, a word that
//! names it. The pass notes these places, and a rule searches only around those that it needs (its [`Anchor`]). How far around
//! follows from its expression ([`Extent`](crate::pattern::Extent)), so that what is found is what a search of the whole text finds;
//! a property test compares the two. Growing texts are searched without marks: they come slower than any search.
//!
//! The same pass reads the tokens of the text and notes those that names and addresses can begin with, which most cannot.

use std::cell::Cell;
use std::ops::Range;
use std::sync::LazyLock;

use super::rule::{CUE_BYTES, Near};
use super::rules::RULES;
use super::{address, lists, name, tagger};
use crate::runs::Runs;
use crate::scan::{Cursor, TokenKind, Window, ends_plainly};

const _: () = assert!(RULES.len() <= u64::BITS as usize, "a bit for each rule");

/// What every value of a rule has in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anchor {
    /// At least so many ASCII digits.
    Digits(usize),
    /// A digit right behind a letter.
    Led,
    /// Two digits or more behind the two letters of a word.
    Paired,
    /// A digit before the last two letters of a word, which are capitals.
    Inward,
    /// One to three digits in a row that are not behind a letter, before what may be a measure of time ([`is_aged`]).
    Aged,
    /// One to three digits in a row behind a blank and a word that may tell an age ([`is_told`]).
    Told,
    /// `@`.
    At,
    /// A dot between letters, digits or hyphens.
    Dot,
    Colon,
    /// `://`.
    Scheme,
    /// A colon or hyphen between two hexadecimal digits.
    Joint,
    /// Four capitals in a row.
    Capitals,
    /// The rule's first word, with which the value begins.
    Word,
}

/// Bytes behind digits in which others are counted.
const NEAR: usize = 64;

/// A range of bytes.
type Place = (u32, u32);

/// What a set of recognisers needs to be marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wanted {
    Nothing,
    /// What values have in them.
    Values,
    /// Tokens too.
    Tokens,
}

/// A word that may be looked at for a name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named {
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// Whether it is an ordinary word with a capital, as those that begin a sentence are.
    pub(crate) ordinary: bool,
}

/// What was noted of a text.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    digits: Vec<Place>,
    /// For each of these, how many digits begin within [`NEAR`] bytes behind it, together with its own.
    dense: Vec<u8>,
    led: Vec<Place>,
    paired: Vec<Place>,
    inward: Vec<Place>,
    aged: Vec<Place>,
    told: Vec<Place>,
    ats: Vec<Place>,
    dots: Vec<Place>,
    colons: Vec<Place>,
    schemes: Vec<Place>,
    joints: Vec<Place>,
    capitals: Vec<Place>,
    /// Start of each word that some rule asks for, and the rules, as bits.
    words: Vec<(u32, u64)>,
    /// Words with a capital, and those in small letters that may be names.
    pub(crate) named: Vec<Named>,
    /// Starts of words and numbers that an address may begin with.
    pub(crate) streets: Vec<u32>,
    /// Signs of source code ([`tagger::is_code`]).
    pub(crate) codes: Vec<u32>,
    /// Blanks before small words of German ([`tagger::is_german`]).
    pub(crate) german: Vec<u32>,
}

/// Words that rules ask for, and which rules do.
struct Words {
    /// One bit for the first three bytes of each (see [`slot`]): most words of a text are done with it.
    heads: Box<[u32; 1024]>,
    /// The same, and those of small words of German and of small words that addresses begin with.
    tokens: Box<[u32; 1024]>,
    /// By the first two bytes.
    all: Box<[Vec<Word>; 1024]>,
}

/// A word and the rules that ask for it, as bits.
type Word = (&'static [u8], u64);

static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let (heads, tokens) = (Box::new([0; 1024]), Box::new([0; 1024]));
    let mut words = Words { heads, tokens, all: Box::new([const { Vec::new() }; 1024]) };
    for (index, rule) in RULES.iter().enumerate() {
        let asked = match rule.near {
            Near::Anything => &[],
            Near::Cue => rule.cues,
            Near::Words(words) => words,
        };
        for word in asked.iter().map(|word| word.as_bytes()) {
            let slot = slot(word[0], word[1]);
            words.heads[slot] |= word.get(2).map_or(u32::MAX, |third| 1 << (third & 31));
            match words.all[slot].iter_mut().find(|(known, _)| *known == word) {
                Some((_, rules)) => *rules |= 1 << index,
                None => words.all[slot].push((word, 1 << index)),
            }
        }
    }
    words.tokens.copy_from_slice(&*words.heads);
    let german = tagger::GERMAN.iter().map(|word| word.as_slice());
    for word in german.chain(address::small_words().map(str::as_bytes)) {
        words.tokens[slot(word[0], word[1])] |= word.get(2).map_or(u32::MAX, |third| 1 << (third & 31));
    }
    words
});

/// The lower five bits, which are the same for capital and small letters.
fn slot(first: u8, second: u8) -> usize {
    usize::from(first & 31) << 5 | usize::from(second & 31)
}

const DIGIT: u8 = 1;
const CAPITAL: u8 = 2;
const SIGN: u8 = 4;
const SMALL: u8 = 8;
const CODE: u8 = 16;
const OTHER: u8 = 32;

static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'0'..=b'9' => DIGIT,
            b'A'..=b'Z' => CAPITAL,
            b'a'..=b'z' => SMALL,
            b'@' | b'.' | b':' | b'-' => SIGN,
            0x80.. => OTHER,
            sign if tagger::is_code(sign) => CODE,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

impl Marks {
    /// The marks of a text; `None` for one of four gigabytes and more.
    pub(crate) fn of(text: &str, wanted: Wanted) -> Option<Self> {
        let bytes = text.as_bytes();
        u32::try_from(bytes.len()).ok()?;
        let mut marks = Self::default();
        let mut tokens = (wanted == Wanted::Tokens).then(|| Tokens::new(text));
        let words = &*WORDS;
        let given_names = lists::given_names();
        let (letters, digits) = (Runs::of(bytes, u8::is_ascii_alphabetic), Runs::of(bytes, u8::is_ascii_digit));
        let visible = Runs::of(bytes, |byte| *byte > b' ');
        marks.capitals(bytes);
        letters.landmarks(&digits, &visible, |at| {
            let byte = bytes[at];
            match CLASSES[usize::from(byte)] {
                0 => {}
                CODE => {
                    if tokens.is_some() {
                        marks.codes.push(at as u32);
                    }
                }
                OTHER => {
                    if let Some(tokens) = &mut tokens {
                        tokens.other(&mut marks, at);
                    }
                }
                DIGIT => {
                    let end = digits.end(at);
                    marks.digits(bytes, at, end);
                    if let Some(tokens) = &mut tokens {
                        tokens.run(&mut marks, at, end);
                    }
                }
                SMALL | CAPITAL => {
                    let end = letters.end(at);
                    match &mut tokens {
                        Some(_) if is_quiet(bytes, at, end, words, given_names) => {}
                        Some(tokens) => {
                            marks.word(words, bytes, at);
                            tokens.letters(&mut marks, at, end);
                        }
                        None => marks.word(words, bytes, at),
                    }
                }
                _ => marks.sign(bytes, at),
            }
        });
        marks.count_digits();
        Some(marks)
    }

    /// Notes how many digits are near each other.
    fn count_digits(&mut self) {
        let (mut ahead, mut digits) = (0, 0);
        for place in &self.digits {
            while let Some(next) = self.digits.get(ahead).filter(|next| (next.0 as usize) < place.1 as usize + NEAR) {
                digits += next.1 - next.0;
                ahead += 1;
            }
            self.dense.push(u8::try_from(digits).unwrap_or(u8::MAX));
            digits -= place.1 - place.0;
        }
    }

    /// Notes the rules that ask for the word at `at`.
    fn word(&mut self, words: &Words, bytes: &[u8], at: usize) {
        let (second, third) = match bytes[at..] {
            [_, second, third, ..] => (second, third & 31),
            [_, second] => (second, 0),
            _ => return,
        };
        let slot = slot(bytes[at], second);
        if words.heads[slot] & 1 << third == 0 {
            return;
        }
        for (known, rules) in &words.all[slot] {
            if bytes.get(at..at + known.len()).is_some_and(|here| here.eq_ignore_ascii_case(known)) {
                self.words.push((at as u32, *rules));
            }
        }
    }

    /// Notes all digits in a row.
    fn digits(&mut self, bytes: &[u8], at: usize, end: usize) {
        let place = (at as u32, end as u32);
        self.digits.push(place);
        let before = at.checked_sub(1).map_or(b' ', |before| bytes[before]);
        if before.is_ascii_alphabetic() {
            self.led.push(place);
            if is_paired(&bytes[..at], end - at) {
                self.paired.push(place);
            }
        } else if end - at <= 3 {
            if is_aged(&bytes[end..]) {
                self.aged.push(place);
            }
            if is_told(&bytes[..at], bytes.get(end)) {
                self.told.push(place);
            }
        }
        if is_inward(&bytes[end..]) {
            self.inward.push(place);
        }
    }

    /// Notes a sign of [`SIGN`].
    fn sign(&mut self, bytes: &[u8], at: usize) {
        let before = at.checked_sub(1).map_or(b' ', |before| bytes[before]);
        let after = bytes.get(at + 1).copied().unwrap_or(b' ');
        let place = (at as u32, at as u32 + 1);
        let label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte >= 0x80;
        match bytes[at] {
            b'@' => return self.ats.push(place),
            b'.' => {
                if label(before) && label(after) {
                    self.dots.push(place);
                }
                return;
            }
            b':' => {
                self.colons.push(place);
                if bytes[at + 1..].starts_with(b"//") {
                    self.schemes.push(place);
                }
            }
            _ => {}
        }
        if before.is_ascii_hexdigit() && after.is_ascii_hexdigit() {
            self.joints.push(place);
        }
    }

    /// Notes four capitals and more in a row.
    fn capitals(&mut self, bytes: &[u8]) {
        let capitals = Runs::of(bytes, u8::is_ascii_uppercase);
        let mut passed = 0;
        for fourth in capitals.fourths() {
            if fourth >= passed {
                passed = capitals.end(fourth);
                self.capitals.push((fourth as u32 - 3, passed as u32));
            }
        }
    }

    fn places(&self, anchor: Anchor) -> &[Place] {
        match anchor {
            Anchor::Digits(_) => &self.digits,
            Anchor::Led => &self.led,
            Anchor::Paired => &self.paired,
            Anchor::Inward => &self.inward,
            Anchor::Aged => &self.aged,
            Anchor::Told => &self.told,
            Anchor::At => &self.ats,
            Anchor::Dot => &self.dots,
            Anchor::Colon => &self.colons,
            Anchor::Scheme => &self.schemes,
            Anchor::Joint => &self.joints,
            Anchor::Capitals => &self.capitals,
            Anchor::Word => &[],
        }
    }
}

/// Whether a byte is of a word, as boundaries of expressions see it.
fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether so many digits stand right behind a word of two letters.
fn is_paired(left: &[u8], digits: usize) -> bool {
    let [rest @ .., first, second] = left else { return false };
    let word = first.is_ascii_alphabetic() && second.is_ascii_alphabetic();
    word && digits >= 2 && rest.last().is_none_or(|byte| !is_of_word(*byte))
}

/// Whether two capitals stand right behind digits, and nothing else of their word.
fn is_inward(right: &[u8]) -> bool {
    match right {
        [first, second, rest @ ..] if first.is_ascii_uppercase() && second.is_ascii_uppercase() => {
            rest.first().is_none_or(|byte| !is_of_word(*byte))
        }
        _ => false,
    }
}

/// Whether what stands behind digits begins as `years`, `months`, `weeks`, `days`, `and a half` and `y/o` do.
fn is_aged(right: &[u8]) -> bool {
    let blank = |byte: u8| matches!(byte, b' ' | b'-');
    match right {
        [b'y' | b'Y', ..] => true,
        [first, second, ..] if blank(*first) && !blank(*second) => is_measure(*second),
        [first, second, third, ..] if blank(*first) && blank(*second) => is_measure(*third),
        _ => false,
    }
}

fn is_measure(first: u8) -> bool {
    matches!(first.to_ascii_lowercase(), b'a' | b'd' | b'm' | b'w' | b'y')
}

/// Whether what stands before digits ends as "she is", "I'm just", "they were nearly" and "at the age of" do, and what follows may end a phrase.
fn is_told(left: &[u8], next: Option<&u8>) -> bool {
    let [.., before, last, blank] = left else { return false };
    if !is_space(*blank) || !next.is_none_or(|byte| is_space(*byte) || b".!?;),".contains(byte)) {
        return false;
    }
    // am, is, was, 's, were, are, age, over, now, of, only, already, just, about. The last byte of ’ is 0x99.
    matches!(
        (before.to_ascii_lowercase(), last.to_ascii_lowercase()),
        (b'\'' | 0x99 | b'a', b'm' | b's')
            | (b'i', b's')
            | (b'r' | b'g', b'e')
            | (b'e', b'r')
            | (b'o', b'w' | b'f')
            | (b'l' | b'd', b'y')
            | (b's' | b'u', b't')
    )
}

/// White space of ASCII.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Whether letters of ASCII in a row are a word in small letters behind a blank in which nothing of interest begins, as most words of a text are. It looks
/// at a few bytes of the word and around it, whatever they are.
#[inline]
fn is_quiet(bytes: &[u8], start: usize, end: usize, words: &Words, given_names: &lists::Sketches) -> bool {
    let (Some(left), Some(head), Some(right)) =
        (bytes[..start].last_chunk::<4>(), bytes[start..].first_chunk::<4>(), bytes.get(end))
    else {
        return false;
    };
    let is_asked = words.tokens[slot(head[0], head[1])] >> (head[2] & 31) & 1 != 0;
    let is_name = end - start > 3 && given_names.may_have(*head, bytes[end - 1], end - start);
    let (behind_blank, is_short) = (left[3] == b' ', end - start <= SHORT);
    let ends = right.is_ascii() & !matches!(right, b'\'' | b'-');
    head[0].is_ascii_lowercase() & behind_blank & is_short & ends
        && !(is_asked | is_name | name::may_be_cue([left[0], left[1], left[2]]))
}

/// Letters of the longest word that may be quiet.
const SHORT: usize = 64;

/// The tokens of a text as far as the pass has come.
struct Tokens<'t> {
    window: Window<'t>,
    /// End of the last one that is no blank or sign.
    end: usize,
    /// What was said of the words before a place by [`address::Reach`].
    reach: address::Reach,
}

impl<'t> Tokens<'t> {
    fn new(text: &'t str) -> Self {
        Self { window: Window::whole(text), end: 0, reach: address::Reach::default() }
    }

    /// All letters of ASCII in a row.
    fn letters(&mut self, marks: &mut Marks, start: usize, end: usize) {
        let text = self.window.text;
        if start < self.end || !ends_plainly(text, start, end) {
            return self.run(marks, start, end);
        }
        let bytes = text.as_bytes();
        let blanks = (start.checked_sub(1).map(|before| bytes[before]), bytes[end]);
        if end - start == 3 && blanks == (Some(b' '), b' ') && tagger::is_german(&bytes[start..=end]) {
            marks.german.push(start as u32 - 1);
        }
        let small = bytes[start].is_ascii_lowercase();
        if !small || name::may_be_uncapitalized(bytes, start, end) {
            let ordinary = !small && name::is_ordinary(&bytes[start..end]);
            marks.named.push(Named { start: start as u32, end: end as u32, ordinary });
        }
        if address::may_begin(&self.window, start, end, &mut self.reach) {
            marks.streets.push(start as u32);
        }
        self.end = end;
    }

    /// Letters or digits in a row that may be joined to others.
    fn run(&mut self, marks: &mut Marks, start: usize, end: usize) {
        self.end = self.end.max(start);
        while self.end < end {
            self.read(marks);
        }
    }

    /// A byte that is not ASCII.
    fn other(&mut self, marks: &mut Marks, at: usize) {
        if at >= self.end {
            self.end = at;
            self.read(marks);
        }
    }

    fn read(&mut self, marks: &mut Marks) {
        let touched = Cell::new(false);
        let Some(token) = Cursor::new(&self.window, self.end, &touched).peek() else { return };
        let (bytes, start) = (self.window.text.as_bytes(), token.start as u32);
        match token.kind {
            TokenKind::Word => {
                let foreign = token.text.len() > 3 && !token.text.is_ascii();
                if foreign || token.is_capitalized() || name::may_be_uncapitalized(bytes, token.start, token.end()) {
                    marks.named.push(Named { start, end: token.end() as u32, ordinary: false });
                }
                marks.streets.push(start);
            }
            TokenKind::Number if address::may_begin_with(bytes, token.start, token.end()) => marks.streets.push(start),
            _ => {}
        }
        self.end = token.end();
    }
}

/// Where a rule has to search.
#[derive(Debug)]
pub(crate) struct Search<'r> {
    pub(crate) anchor: Anchor,
    /// Bytes that a match can have.
    pub(crate) bytes: &'r [bool; 256],
    /// Bytes of a match from one anchor, or from its edge, to the next, at most.
    pub(crate) gap: usize,
    /// Bytes of a match, at least and at most.
    pub(crate) length: (usize, usize),
    /// The rule as a bit, if one of its words has to stand near.
    pub(crate) word: Option<u64>,
}

impl Search<'_> {
    /// Calls `visit` with the ranges that hold every match, in order and apart from each other.
    pub(crate) fn ranges(&self, text: &str, marks: &Marks, from: usize, mut visit: impl FnMut(Range<usize>)) {
        let text = text.as_bytes();
        let places = marks.places(self.anchor);
        let mut end = from;
        let Some(bit) = self.word else {
            let mut index = places.partition_point(|place| (place.1 as usize) <= from);
            while let Some(place) = self.next(marks, places, &mut index) {
                let range = self.around(text, place, end);
                end = range.end;
                if self.is_worth(text, &range) {
                    visit(range);
                }
                index += 1;
                while places.get(index).is_some_and(|place| (place.0 as usize) < end) {
                    index += 1;
                }
            }
            return;
        };
        let longest = self.length.1;
        let words = marks.words.iter().filter(|(_, rules)| rules & bit != 0).map(|(start, _)| *start as usize);
        if self.anchor == Anchor::Word {
            let mut words = words.filter(|start| *start >= from).peekable();
            while let Some(start) = words.next() {
                let mut end = start.saturating_add(longest);
                while let Some(next) = words.next_if(|next| *next <= end) {
                    end = next.saturating_add(longest);
                }
                visit(start..end.min(text.len()));
            }
            return;
        }
        for word in words {
            let (first, last) = (word.saturating_sub(longest), word.saturating_add(CUE_BYTES + longest));
            let mut index = places.partition_point(|place| (place.1 as usize) <= first.max(end));
            while let Some(place) = places.get(index).filter(|place| (place.0 as usize) <= last) {
                let range = self.around(text, *place, end);
                end = range.end;
                if self.is_worth(text, &range) {
                    visit(range);
                }
                index += 1;
                while places.get(index).is_some_and(|place| (place.0 as usize) < end) {
                    index += 1;
                }
            }
        }
    }

    /// The next of the places from `index` on that a match can have for its first anchor.
    fn next(&self, marks: &Marks, places: &[Place], index: &mut usize) -> Option<Place> {
        let Anchor::Digits(least) = self.anchor else { return places.get(*index).copied() };
        loop {
            if self.length.1 <= NEAR {
                *index += marks.dense.get(*index..)?.iter().position(|digits| usize::from(*digits) >= least)?;
            }
            let rest = places.get(*index..)?;
            if self.has_digits(rest) {
                return rest.first().copied();
            }
            *index += 1;
        }
    }

    /// Whether a match whose first anchor is the first of these places can have its digits.
    fn has_digits(&self, places: &[Place]) -> bool {
        let Anchor::Digits(least) = self.anchor else { return true };
        let Some(first) = places.first() else { return false };
        let last = (first.1 as usize).saturating_add(self.length.1);
        let mut digits = 0;
        places.iter().take_while(|place| (place.0 as usize) < last).any(|place| {
            digits += (place.1 - place.0) as usize;
            digits >= least
        })
    }

    /// What matches can have of the text around a place, together with the places near it: ranges that touch would hide matches from each other.
    fn around(&self, text: &[u8], place: Place, from: usize) -> Range<usize> {
        // Whether the byte is, or may be, of an anchor.
        let is_anchor = |byte: u8| match self.anchor {
            Anchor::Digits(_) | Anchor::Led | Anchor::Paired | Anchor::Inward | Anchor::Aged | Anchor::Told => {
                byte.is_ascii_digit()
            }
            Anchor::At => byte == b'@',
            Anchor::Dot => byte == b'.',
            Anchor::Colon | Anchor::Scheme => byte == b':',
            Anchor::Joint => matches!(byte, b':' | b'-'),
            Anchor::Capitals => byte.is_ascii_uppercase(),
            Anchor::Word => false,
        };
        let first = from.max(place.0 as usize);
        let (mut start, mut at) = (first, first);
        while at > from && self.bytes[usize::from(text[at - 1])] && start - at < 2 * self.gap {
            at -= 1;
            if is_anchor(text[at]) {
                start = at;
            }
        }
        let start = at.max(start.saturating_sub(self.gap));
        let (mut end, mut at) = (place.1 as usize, place.1 as usize);
        while at < text.len() && self.bytes[usize::from(text[at])] && at - end < 2 * self.gap {
            at += 1;
            if is_anchor(text[at - 1]) {
                end = at;
            }
        }
        start..at.min(end.saturating_add(self.gap))
    }

    fn is_worth(&self, text: &[u8], range: &Range<usize>) -> bool {
        let least = match self.anchor {
            Anchor::Digits(least) => least,
            _ => 0,
        };
        range.len() >= self.length.0
            && (least < 2 || text[range.clone()].iter().filter(|byte| byte.is_ascii_digit()).nth(least - 1).is_some())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{KINDS, THRESHOLD, recognizers};
    use super::*;
    use crate::scan::{Recognizer, Window};

    /// Values, parts of values, words that are asked for, and what may stand between.
    #[rustfmt::skip]
    const PIECES: &[&str] = &[
        "ada@example.org", "a.b@", "@ada_l", "4111 1111 1111 1111", "4111-1111", "078-05-1123", "536-90-4399", "12", "1", "2007", "123456789",
        "00000", "(415) 555-0132", "+49 30 1234567", "0049", "555-0132", "192.168.1.1", "1.2.3.999", "2001:db8::1", "::", "std::vec", "00:1A:2B:3C:4D:5E",
        "00-1A-2B-3C-4D-5E", "dead.beef.cafe", "https://example.com/a?b=c", "http:", "//", "www.example.org", "example.com", "main.rs", "password:",
        "pass", "user name", "login", "is", "hunter2!", "PIN", "p.i.n.", "cvv", "card", "card ending in", "last four digits", "expires", "12/27", "Jan 2027",
        "GB82 WEST 1234 5698 7654 32", "AB12", "AKIAIOSFODNN7EXAMPLE", "AKIA", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "DEUTDEFF", "swift", "HTTP",
        "account", "bank", "routing", "111000025", "passport", "C12345678", "license", "D1234567", "MORGA607054SM9IJ", "plate", "7ABC123", "AB51 ABC",
        "vin", "1M8GDM9AXKP042788", "health", "9876-543-217", "130-692-544", "943 476 5919", "AB 12 34 56 C", "utr", "1123456789", "P.O. Box 12",
        "apo ae", "09012", "CO 80202", "SW1A 1AA", "apt. 5", "zip", "40 years old", "aged", "age", "63", "31yo", "I am", "I'm", "who’s", "they were", "nearly", "at the age of", "and", "and a half", "months", "M1 1AE", "DN55 1PT", "y/o", "é", "日本", "х", "😀", "{PIN}", "x", "A",
        "Ada", "Lovelace", "ADA LOVELACE", "Anne-Marie", "O'Brien", "O’Neill's", "van der", "Berg", "J.", "Dr.", "Mrs", "john", "maria", "garcia's", "smith",
        "my name is", "name: ", "call me", "Émile", "Zoë", "The", "New", "York", "South", "Korea", "Bank", "said", "der", "und", "mit", "{NAME}", "fn", "{", "};", "==",
        "Rua do", "Arenque 1634", "ul.", "Miła 53", "Hauptstraße", "221B Baker Street", "corner of 5th and Main", "12 rue de la", "Paix", "12B-Smith", "½", "x’",
        "-", ".", ",", ":", "/", "(", ")", "'", "_", "#", "$", "+", "=", "\n", " ", "  ", "\t", "",
    ];

    fn texts() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            8 => prop::sample::select(PIECES).prop_map(str::to_owned),
            1 => "[0-9a-fA-F:. -]{0,40}",
            1 => "[a-z]{60,260}",
            1 => "[A-Za-z' -]{100,300}",
            1 => "[A-Z][a-z]{2,7}( [A-Z][a-z]{2,7}){0,2}",
            1 => "\\PC{0,6}",
        ];
        let glue = prop_oneof![4 => Just(" "), 2 => Just(""), 1 => Just("\n"), 1 => Just("-")];
        prop::collection::vec((piece, glue), 0..16)
            .prop_map(|pieces| pieces.into_iter().map(|(piece, glue)| piece + glue).collect())
    }

    fn rules(threshold: f32) -> Vec<Box<dyn Recognizer>> {
        recognizers(&KINDS, threshold).into_iter().filter(|recognizer| recognizer.wanted() != Wanted::Nothing).collect()
    }

    static RULES_AT: LazyLock<[Vec<Box<dyn Recognizer>>; 2]> = LazyLock::new(|| [rules(THRESHOLD), rules(0.15)]);

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

        #[test]
        fn what_marks_lead_to_is_what_a_search_of_the_whole_text_finds(text in texts(), skipped in 0usize..60) {
            let plain = Window::whole(&text);
            let marks = Marks::of(&text, Wanted::Tokens).unwrap();
            let marked = Window { marks: Some(&marks), ..plain };
            let skipped = if skipped < text.len() && text.is_char_boundary(skipped) { skipped } else { 0 };
            for from in [0, skipped] {
                for rule in RULES_AT.iter().flatten() {
                    let (mut slow, mut fast) = (Vec::new(), Vec::new());
                    prop_assert_eq!(rule.scan(plain, from, &mut slow), rule.scan(marked, from, &mut fast));
                    prop_assert_eq!(slow, fast, "{:?} from {}", text, from);
                }
            }
        }
    }

    #[test]
    fn every_way_to_tell_an_age_is_marked() {
        let told = [
            "I'm",
            "who’s just",
            "they're now",
            "you are",
            "She was only",
            "he is about",
            "they were almost",
            "i am nearly",
            "WHO IS already",
            "he's over",
            "when I was",
            "when they were",
            "at the age of",
            "at age",
        ];
        let measures = [
            " years",
            "-year",
            " yrs",
            "- month",
            " mos",
            " weeks",
            "-days",
            " and a half years",
            "yo",
            " y/o",
            "-y.o.",
            " YEARS",
        ];
        let told = told.iter().flat_map(|told| [" and", ".", " ?", ", "].map(|end| format!("{told} 40{end}")));
        let measured = measures.iter().map(|measure| format!("the 40{measure} old"));
        for text in told.chain(measured) {
            let marks = Marks::of(&text, Wanted::Tokens).unwrap();
            let (mut slow, mut fast) = (Vec::new(), Vec::new());
            for rule in &RULES_AT[0] {
                rule.scan(Window::whole(&text), 0, &mut slow);
                rule.scan(Window { marks: Some(&marks), ..Window::whole(&text) }, 0, &mut fast);
            }
            assert_eq!(slow, fast, "{text:?}");
            assert!(!fast.is_empty(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn four_capitals_and_more_in_a_row_are_noted(text in "[A-Ca-c1 ]{0,40}|[A-C]{0,9}([a-c]?[A-C]{0,9}){0,4}") {
            let mut runs = Vec::new();
            let mut at = 0;
            for run in text.split(|c: char| !c.is_ascii_uppercase()) {
                if run.len() >= 4 {
                    runs.push((at as u32, (at + run.len()) as u32));
                }
                at += run.len() + 1;
            }
            prop_assert_eq!(Marks::of(&text, Wanted::Values).unwrap().capitals, runs);
        }
    }

    #[test]
    fn every_rule_says_how_far_to_search() {
        for rule in RULES {
            let pattern = crate::pattern::Pattern::ascii(rule.pattern).unwrap();
            let extent = pattern.extent().unwrap();
            assert!(extent.shortest > 0 && extent.longest.is_none_or(|longest| longest < 8192), "{}", rule.pattern);
            match rule.anchor {
                Anchor::Digits(_) | Anchor::Led | Anchor::Paired | Anchor::Inward | Anchor::Aged | Anchor::Told => {
                    assert!(extent.gap.is_some_and(|gap| gap < 256), "{}", rule.pattern);
                }
                Anchor::Word => assert!(extent.longest.is_some() && rule.near != Near::Anything, "{}", rule.pattern),
                _ => assert!(rule.near == Near::Anything, "{}", rule.pattern),
            }
        }
    }
}
