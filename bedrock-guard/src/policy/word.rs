//! Words and phrases: the guardrail's own, and the managed list `PROFANITY`.
//!
//! A word is found whatever its case, between Unicode word boundaries, as it is written or, if the guardrail asks for it
//! ([`Matching`]), in its inflections and behind disguises. A run of white space in the text counts as one blank, and characters that cannot be seen (soft hyphens, zero-width
//! joiners) do not count. In scripts that write no blanks between words there are no boundaries to keep.

use aho_corasick::automaton::OverlappingState;
use aho_corasick::{AhoCorasick, AhoCorasickKind, Anchored, Input, StartKind};
use unicode_normalization::UnicodeNormalization;

use crate::policy::content::normal::{look_alike, revealed};
use crate::runs::Runs;
use crate::scan::{Candidate, Label, Recognizer, Window, is_mark};

const PROFANITY: &str = include_str!("../../data/profanity.txt");

/// The entries of the managed list.
pub(crate) fn profanity() -> impl Iterator<Item = &'static str> {
    PROFANITY.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Whether a word has nothing in it that could be found.
pub(crate) fn is_invisible(word: &str) -> bool {
    Folded::new(word, 0).text.trim().is_empty()
}

/// What else counts as a word of the list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Matching {
    /// English endings of its last word: plural, past, participle, the one who does it.
    pub(crate) inflections: bool,
    /// Accents, letters of other scripts that look alike, digits and signs in place of letters, letters set apart.
    pub(crate) disguises: bool,
}

/// The inflections of a word or of the last word of a phrase. Some are no words; nobody writes those.
fn inflections(word: &str) -> Vec<String> {
    let bytes = word.as_bytes();
    let tail = word.rsplit(' ').next().unwrap_or(word);
    if tail.len() < 3 || !tail.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return Vec::new();
    }
    let vowel = |byte: u8| matches!(byte, b'a' | b'e' | b'i' | b'o' | b'u');
    let [.., third, second, last] = bytes else { return Vec::new() };
    let stem = &word[..word.len() - 1];
    let add = |stem: &str, endings: &[&str]| endings.iter().map(|ending| format!("{stem}{ending}")).collect::<Vec<_>>();
    let mut all = add(word, &["s", "'s", "\u{2019}s", "es"]);
    match last {
        b'e' => all.extend(add(stem, &["ed", "ing", "er", "ers"])),
        b'y' if !vowel(*second) => {
            all.extend(add(stem, &["ies", "ied", "ier", "iers"]));
            all.extend(add(word, &["ing"]));
        }
        _ => all.extend(add(word, &["ed", "ing", "er", "ers"])),
    }
    if !vowel(*last) && vowel(*second) && !vowel(*third) && !matches!(last, b'w' | b'x' | b'y') {
        let doubled = format!("{word}{}", char::from(*last));
        all.extend(add(&doubled, &["ed", "ing", "er", "ers", "y"]));
    }
    all
}

/// Finds a list of words.
#[derive(Debug)]
pub(crate) struct WordRecognizer {
    disguises: bool,
    /// Whether the word has a letter: what it is found in has to have one too, so that `411` is not `all`.
    lettered: Vec<bool>,
    automaton: AhoCorasick,
    /// With these the automaton is asked only what begins at a place.
    heads: Option<Heads>,
    labels: Vec<Label>,
    /// The folded words, sorted, to ask whether the end of a growing text is the beginning of one.
    sorted: Vec<String>,
    /// Bytes of the longest folded word.
    longest: usize,
}

impl WordRecognizer {
    /// A word that has nothing visible in it is left out.
    ///
    /// # Errors
    /// If the list is too large for the automaton, which 10,000 words of 100 characters are not.
    pub(crate) fn new<'w>(
        words: impl IntoIterator<Item = (&'w str, Label)>,
        matching: Matching,
    ) -> Result<Self, aho_corasick::BuildError> {
        let (mut sorted, mut labels, mut lettered) = (Vec::new(), Vec::new(), Vec::new());
        for (word, label) in words {
            let plain = Folded::new(word.trim(), 0).text.trim().to_owned();
            let others = if matching.inflections { inflections(&plain) } else { Vec::new() };
            for word in std::iter::once(plain).chain(others).filter(|word| !word.is_empty()) {
                lettered.push(word.contains(char::is_alphabetic));
                sorted.push(if matching.disguises { word.chars().flat_map(undisguised).collect() } else { word });
                labels.push(label);
            }
        }
        // The fastest kind, as long as it is not too large for a processor's cache.
        let kind = (sorted.iter().map(String::len).sum::<usize>() < 1 << 13).then_some(AhoCorasickKind::DFA);
        let heads = if matching.disguises { None } else { Heads::new(&sorted) };
        let start = if heads.is_some() { StartKind::Anchored } else { StartKind::Unanchored };
        let automaton = AhoCorasick::builder().kind(kind).start_kind(start).build(&sorted)?;
        let longest = sorted.iter().map(String::len).max().unwrap_or(0);
        sorted.sort_unstable();
        Ok(Self { disguises: matching.disguises, lettered, automaton, heads, labels, sorted, longest })
    }

    /// Where the end of a growing text begins that more text may fold otherwise: letters set apart, and a last character that may turn out to be one.
    fn unsettled(&self, window: Window<'_>, from: usize) -> usize {
        let mut characters = window.text[from..].char_indices().rev().map(|(at, c)| (from + at, c));
        let mut start = window.text.len();
        let (mut letters, mut in_word) = (0usize, 0usize);
        for (at, character) in characters.by_ref() {
            if is_invisible_character(character) {
                continue;
            }
            let gap = is_gap(character) || character.is_whitespace();
            in_word = if gap { 0 } else { in_word + 1 };
            if in_word > 1 {
                break;
            }
            letters += usize::from(!gap);
            // No word is longer.
            if letters > self.longest + 1 {
                break;
            }
            start = at;
        }
        // The gap before the letters stays where it is decided.
        start
    }

    /// Whether some word begins with `text` (or is it).
    fn begins(&self, text: &str) -> bool {
        let at = self.sorted.partition_point(|word| word.as_str() < text);
        self.sorted.get(at).is_some_and(|word| word.starts_with(text))
    }
}

impl Recognizer for WordRecognizer {
    fn scan(&self, window: Window<'_>, from: usize, found: &mut Vec<Candidate>) -> usize {
        let folded = if self.disguises { Folded::revealing(window, from) } else { Folded::new(window.text, from) };
        let boundary = |at: usize| -> bool {
            if self.disguises {
                let apart = |at: usize| folded.apart.get(at) == Some(&true);
                // The characters as they stand in the text: a sign in place of a letter may begin a word, and end one.
                let left = match at.checked_sub(1) {
                    Some(before) => window.after(folded.origin(before)),
                    None => visible_before(window, from),
                };
                let right = (at < folded.text.len()).then(|| folded.origin(at)).and_then(|origin| window.after(origin));
                return apart(at)
                    || at.checked_sub(1).is_some_and(apart)
                    || !matches!((left, right), (Some(left), Some(right)) if joins(left) && joins(right));
            }
            let left =
                folded.text[..at].chars().next_back().or(if at == 0 { visible_before(window, from) } else { None });
            let right = folded.text[at..].chars().next();
            !matches!((left, right), (Some(left), Some(right)) if joins(left) && joins(right))
        };
        let frontier = if window.complete {
            window.text.len()
        } else {
            // The earliest word start from which the rest of the text may still become a word.
            let earliest = folded.text.ceil_char_boundary(folded.text.len().saturating_sub(self.longest + 1));
            folded.text[earliest..]
                .char_indices()
                .map(|(at, _)| earliest + at)
                .find(|at| boundary(*at) && self.begins(&folded.text[*at..]))
                .map_or(window.text.len(), |at| folded.origin(at))
        };
        let frontier =
            if self.disguises && !window.complete { frontier.min(self.unsettled(window, from)) } else { frontier };
        let mut look = |matched: aho_corasick::Match| {
            let span = folded.origin(matched.start())..folded.end_of(window.text, matched.end());
            if span.start < frontier && boundary(matched.start()) && boundary(matched.end()) {
                let pattern = matched.pattern().as_usize();
                if self.disguises && self.lettered[pattern] && !window.text[span.clone()].contains(char::is_alphabetic)
                {
                    return;
                }
                // "a b" is no "ab": what is put together is a word if it is not the shortest.
                let put_together =
                    folded.apart.get(matched.start()..matched.end()).is_some_and(|apart| apart.contains(&true));
                if put_together && matched.len() < 3 {
                    return;
                }
                let label = self.labels[pattern];
                found.push(Candidate { span, label, score: 1.0 });
            }
        };
        let Some(heads) = &self.heads else {
            self.automaton.find_overlapping_iter(&folded.text).for_each(look);
            return frontier;
        };
        for start in Runs::of(folded.text.as_bytes(), u8::is_ascii_alphanumeric).starts() {
            if !heads.may_begin(&folded.text.as_bytes()[start..]) {
                continue;
            }
            let input = Input::new(&folded.text).range(start..).anchored(Anchored::Yes);
            let mut state = OverlappingState::start();
            loop {
                self.automaton.find_overlapping(input.clone(), &mut state);
                let Some(matched) = state.get_match() else { break };
                // Not what ends with it and begins later: that has its turn.
                if matched.start() == start {
                    look(matched);
                }
            }
        }
        frontier
    }
}

/// The first three bytes of the words of a list that begin with letters or digits of ASCII, and so only where such begin: one bit for each; and the fourth by
/// the first and the third. Most words of a text are done with it.
#[derive(Debug)]
struct Heads {
    thirds: Box<[u32; 1024]>,
    fourths: Box<[u32; 1024]>,
}

impl Heads {
    /// `None` if a word begins with something else.
    fn new(words: &[String]) -> Option<Self> {
        let (mut thirds, mut fourths) = (Box::new([0; 1024]), Box::new([0; 1024]));
        for word in words {
            let [first, rest @ ..] = word.as_bytes() else { return None };
            if !first.is_ascii_alphanumeric() {
                return None;
            }
            match rest {
                [] => thirds[Self::slot(*first, 0)..][..32].fill(u32::MAX),
                [second] => thirds[Self::slot(*first, *second)] = u32::MAX,
                [second, third, ..] => thirds[Self::slot(*first, *second)] |= 1 << (third & 31),
            }
            match rest {
                [] | [_] => fourths[Self::slot(*first, 0)..][..32].fill(u32::MAX),
                [_, third] => fourths[Self::slot(*first, *third)] = u32::MAX,
                [_, third, fourth, ..] => fourths[Self::slot(*first, *third)] |= 1 << (fourth & 31),
            }
        }
        Some(Self { thirds, fourths })
    }

    fn slot(first: u8, second: u8) -> usize {
        usize::from(first & 31) << 5 | usize::from(second & 31)
    }

    fn may_begin(&self, text: &[u8]) -> bool {
        match text {
            [first, second, third, fourth, ..] => {
                self.thirds[Self::slot(*first, *second)] >> (third & 31) & 1 != 0
                    && self.fourths[Self::slot(*first, *third)] >> (fourth & 31) & 1 != 0
            }
            _ => true,
        }
    }
}

/// A part of a folded text from byte `folded` on: all of the character at `origin`, or `even`, byte by byte from there on.
#[derive(Debug, Clone, Copy)]
struct Origin {
    folded: usize,
    origin: usize,
    even: bool,
}

/// Text in lower case with single blanks, and where it comes from.
struct Folded {
    text: String,
    /// The position of the character that each byte comes from, by parts.
    origins: Vec<Origin>,
    /// For each byte, whether it is a letter that was set apart: every such letter may begin and end a word.
    apart: Vec<bool>,
}

impl Folded {
    fn new(text: &str, from: usize) -> Self {
        let mut folded =
            Self { text: String::with_capacity(text.len() - from), origins: Vec::new(), apart: Vec::new() };
        let bytes = text.as_bytes();
        let (mut at, mut blank) = (from, false);
        // Up to where bytes were looked at together in vain.
        let mut tried = from;
        loop {
            // Nearly everything: what stays as it is but for its case and the kind of blank, many bytes at a time.
            let start = at;
            while let Some(byte) = bytes.get(at) {
                if at >= tried
                    && !blank
                    && let Some(next) = bytes[at..].first_chunk()
                {
                    tried = at + next.len();
                    if is_even(next) {
                        (at, blank) = (tried, is_space(next[next.len() - 1]));
                        continue;
                    }
                }
                match byte {
                    b' ' | b'\t'..=b'\r' if !blank => blank = true,
                    b' ' | b'\t'..=b'\r' | 0x80.. => break,
                    _ => blank = false,
                }
                at += 1;
            }
            folded.extend(&text[start..at], start);
            let Some(character) = text[at..].chars().next() else { break };
            if character.is_whitespace() {
                if !std::mem::replace(&mut blank, true) {
                    folded.push(' ', at);
                }
            } else if !is_invisible_character(character) {
                blank = false;
                character.to_lowercase().for_each(|lower| folded.push(lower, at));
            }
            at += character.len_utf8();
        }
        let mut bytes = std::mem::take(&mut folded.text).into_bytes();
        for byte in &mut bytes {
            *byte = if is_space(*byte) { b' ' } else { byte.to_ascii_lowercase() };
        }
        folded.text = String::from_utf8(bytes).expect("ASCII alone was changed to ASCII");
        folded
    }

    /// The same with disguises taken off. A letter is set apart if signs or blanks are on both its sides; a sign or blank between
    /// two such letters is left out.
    fn revealing(window: Window<'_>, from: usize) -> Self {
        let plain = Self::new(window.text, from);
        let mut folded = Self {
            text: String::with_capacity(plain.text.len()),
            origins: Vec::new(),
            apart: Vec::with_capacity(plain.text.len()),
        };
        let characters: Vec<(usize, char)> = plain.text.char_indices().collect();
        let before = visible_before(window, from);
        let at = |index: Option<usize>| index.and_then(|index| characters.get(index)).map(|(_, character)| *character);
        let left = |index: usize| if index == 0 { before } else { at(index.checked_sub(1)) };
        let single = |index: usize| {
            at(Some(index)).is_some_and(|c| joins(c) || revealed(c) != c)
                && left(index).is_none_or(|c| !joins(c))
                && at(Some(index + 1)).is_none_or(|c| !joins(c))
        };
        for (index, (place, character)) in characters.iter().enumerate() {
            let origin = plain.origin(*place);
            let between = index > 0 && is_gap(*character) && single(index - 1) && single(index + 1);
            if between && at(Some(index + 1)).is_some() {
                continue;
            }
            let apart = single(index);
            for character in undisguised(*character) {
                folded.push(character, origin);
                folded.apart.resize(folded.text.len(), apart);
            }
        }
        folded
    }

    /// Where byte by byte of the text goes on, or begins, to come from `origin`.
    fn note(&mut self, origin: usize, even: bool) {
        let at = self.text.len();
        let goes_on = self
            .origins
            .last()
            .is_some_and(|last| last.even == even && last.origin + if even { at - last.folded } else { 0 } == origin);
        if !goes_on {
            self.origins.push(Origin { folded: at, origin, even });
        }
    }

    fn extend(&mut self, run: &str, origin: usize) {
        if !run.is_empty() {
            self.note(origin, true);
            self.text.push_str(run);
        }
    }

    fn push(&mut self, character: char, origin: usize) {
        self.note(origin, character.is_ascii());
        self.text.push(character);
    }

    fn origin(&self, at: usize) -> usize {
        let part = self.origins.partition_point(|part| part.folded <= at).saturating_sub(1);
        let Origin { folded, origin, even } = self.origins[part];
        if even { origin + (at - folded) } else { origin }
    }

    /// End, in the text, of the character that the byte before `at` comes from.
    fn end_of(&self, text: &str, at: usize) -> usize {
        let last = self.origin(at - 1);
        last + text[last..].chars().next().map_or(0, char::len_utf8)
    }
}

/// White space of ASCII.
fn is_space(byte: u8) -> bool {
    byte == b' ' || byte.wrapping_sub(b'\t') < 5
}

/// Whether nothing but ASCII with single blanks, tabs and line breaks is there.
fn is_even(bytes: &[u8; 32]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x80 * ONES;
    let (eights, _) = bytes.as_chunks::<8>();
    let (mut odd, mut before) = (0, 0);
    for eight in eights {
        let eight = u64::from_le_bytes(*eight);
        // The top bit of each byte that is a space, if all are ASCII: of those that are none but 0x20, and of those from 9 up to 13.
        let ascii = eight & !TOPS;
        let blank = !((ascii ^ (0x20 * ONES)) + 0x7f * ONES);
        let spaces = (blank | (ascii + 0x77 * ONES) & !(ascii + 0x72 * ONES)) & TOPS;
        odd |= eight & TOPS | spaces & (spaces << 8 | before);
        before = spaces >> 56;
    }
    odd == 0
}

/// What stands between letters that are set apart.
fn is_gap(character: char) -> bool {
    matches!(character, ' ' | '.' | '-' | '*' | '/' | '\\' | '|' | '~' | '+')
}

/// The plain letters that a character in lower case stands for.
fn undisguised(character: char) -> impl Iterator<Item = char> {
    let marks = |c: &char| !matches!(c, '\u{300}'..='\u{36f}');
    std::iter::once(character).nfkd().filter(marks).flat_map(char::to_lowercase).map(look_alike).map(revealed)
}

fn visible_before(window: Window<'_>, at: usize) -> Option<char> {
    window.look_behind(at, 64).chars().rev().find(|character| !is_invisible_character(*character))
}

/// Soft hyphens, zero-width characters and the byte order mark.
fn is_invisible_character(character: char) -> bool {
    matches!(character, '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}')
}

/// Whether the character is one of a word that blanks or signs would end.
fn joins(character: char) -> bool {
    (character.is_alphanumeric() || character == '_' || is_mark(character)) && !unspaced(character)
}

/// Letters of scripts that are written without blanks: Thai, Lao, Myanmar, Khmer, kana, Han.
fn unspaced(character: char) -> bool {
    matches!(character,
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{ff66}'..='\u{ff9d}' | '\u{20000}'..='\u{3fffd}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'t>(words: &[&str], text: &'t str) -> Vec<&'t str> {
        let words = words.iter().enumerate().map(|(index, word)| (*word, Label::Word(index as u16)));
        let mut found = Vec::new();
        WordRecognizer::new(words, Matching::default()).unwrap().scan(Window::whole(text), 0, &mut found);
        found.into_iter().map(|candidate| &text[candidate.span]).collect()
    }

    #[test]
    fn case_and_white_space_do_not_matter_and_boundaries_do() {
        assert_eq!(
            find(&["project x"], "Project\n  X, PROJECT X, project xy, aproject x"),
            ["Project\n  X", "PROJECT X"]
        );
        assert_eq!(find(&["élan"], "ÉLAN vital, d'élan, délan"), ["ÉLAN", "élan"]);
        assert_eq!(find(&["c++"], "C++ or c++11?"), ["C++", "c++"]);
    }

    fn find_as<'t>(matching: Matching, words: &[&str], text: &'t str) -> Vec<&'t str> {
        let words = words.iter().enumerate().map(|(index, word)| (*word, Label::Word(index as u16)));
        let mut found = Vec::new();
        WordRecognizer::new(words, matching).unwrap().scan(Window::whole(text), 0, &mut found);
        found.into_iter().map(|candidate| &text[candidate.span]).collect()
    }

    const INFLECTED: Matching = Matching { inflections: true, disguises: false };
    const DISGUISED: Matching = Matching { inflections: false, disguises: true };

    #[test]
    fn inflections_are_found_and_other_words_are_not() {
        let words = ["stab", "hate", "bully", "kill", "project x", "fox"];
        let text = "stabbing stabs hated haters bullies bullying killer's kills killers stable hat foxes kilt";
        let found = find_as(INFLECTED, &words, text);
        assert_eq!(
            found,
            ["stabbing", "stabs", "hated", "haters", "bullies", "bullying", "killer", "kills", "killers", "foxes"]
        );
    }

    #[test]
    fn disguises_are_seen_through() {
        let words = ["secret", "élan", "grok"];
        for text in ["s3cret", "$ecret", "ѕесrеt", "s e c r e t", "s.e.c.r.e.t", "S-E-C-R-E-T", "ｓecret", "sécrèt"]
        {
            assert_eq!(find_as(DISGUISED, &words, &format!("a {text}, b")), [text], "{text}");
            assert_eq!(find_as(DISGUISED, &words, text), [text], "{text}");
        }
        assert_eq!(find_as(DISGUISED, &words, "elan g r 0 k s"), ["elan", "g r 0 k"]);
        for text in ["secretary", "s ecret", "se cret", "a b c", "6r0k5"] {
            assert!(find_as(DISGUISED, &words, text).is_empty(), "{text}");
        }
        // Numbers are no words, and two letters apart are no word.
        assert!(find_as(DISGUISED, &["all", "ab"], "411 a b").is_empty());
    }

    proptest::proptest! {
        #[test]
        fn many_bytes_at_a_time_are_folded_as_one_by_one(text in "([a-zA-Z]{1,12}[ .,]|[a-zA-Z .,]{30,70}|[ \\t\n]{1,3}|[é\u{ad}\u{a0}İ]){0,8}", from in 0usize..9) {
            let from = text.ceil_char_boundary(from.min(text.len()));
            let folded = Folded::new(&text, from);
            let (mut slow, mut origins, mut blank) = (String::new(), Vec::new(), false);
            for (at, character) in text[from..].char_indices() {
                if is_invisible_character(character) || blank && character.is_whitespace() {
                    continue;
                }
                blank = character.is_whitespace();
                slow.extend(if blank { vec![' '] } else { character.to_lowercase().collect() });
                origins.resize(slow.len(), from + at);
            }
            proptest::prop_assert_eq!(&folded.text, &slow);
            let found: Vec<usize> = (0..slow.len()).filter(|at| slow.is_char_boundary(*at)).map(|at| folded.origin(at)).collect();
            let meant: Vec<usize> = (0..slow.len()).filter(|at| slow.is_char_boundary(*at)).map(|at| origins[at]).collect();
            proptest::prop_assert_eq!(found, meant, "{:?}", text);
        }

        #[test]
        fn words_are_asked_for_where_words_begin_and_found_as_anywhere(
            words in proptest::collection::vec("[ab1]([ab1é .'-]{0,4}| [ab1])", 1..8),
            text in "[abAB1é\u{ad} .'_日-]{0,60}|([ab1]{1,4}[ ,]){0,20}", complete in proptest::bool::ANY,
        ) {
            let recognizer = |more: &'static str| {
                let words = words.iter().map(String::as_str).chain(std::iter::once(more));
                let labelled = words.enumerate().map(|(index, word)| (word, Label::Word(index as u16)));
                WordRecognizer::new(labelled, Matching { inflections: true, disguises: false }).unwrap()
            };
            // A word that begins with a sign may begin anywhere.
            let (begun, anywhere) = (recognizer("b"), recognizer("*b*"));
            proptest::prop_assert!(begun.heads.is_some() && anywhere.heads.is_none());
            let last = Label::Word(words.len() as u16);
            let mut both = [Vec::new(), Vec::new()];
            let mut frontier = usize::MAX;
            for (recognizer, found) in [begun, anywhere].iter().zip(&mut both) {
                frontier = frontier.min(recognizer.scan(Window { complete, ..Window::growing(&text) }, 0, found));
            }
            for found in &mut both {
                found.retain(|candidate: &Candidate| candidate.label != last && candidate.span.start < frontier);
                found.sort_by_key(|candidate| (candidate.span.start, candidate.span.end, candidate.label));
            }
            proptest::prop_assert_eq!(&both[0], &both[1], "{:?} in {:?}", words, text);
        }

        #[test]
        fn a_growing_text_is_folded_like_a_whole_one(
            pieces in proptest::collection::vec(proptest::sample::select(vec![
                "secret", "s", "e", "c", "r", "3", "t", " ", "  ", ".", "-", "\n", "é", "x", "grok", "g", "o", "k", "\u{200b}", ",", "в", "@",
            ]), 0..24),
            size in 1usize..5,
        ) {
            let text = pieces.concat();
            let both = Matching { inflections: true, disguises: true };
            let words = WordRecognizer::new([("secret", Label::Word(0)), ("grok", Label::Word(1)), ("c r", Label::Word(2))], both).unwrap();
            let mut whole = Vec::new();
            words.scan(Window::whole(&text), 0, &mut whole);
            let (mut grown, mut frontier) = (Vec::new(), 0);
            let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).skip(size).step_by(size).collect();
            for end in ends {
                frontier = words.scan(Window::growing(&text[..end]), frontier, &mut grown);
            }
            words.scan(Window::whole(&text), frontier, &mut grown);
            let key = |candidate: &Candidate| (candidate.span.start, candidate.span.end, candidate.label);
            whole.sort_by_key(key);
            grown.sort_by_key(key);
            proptest::prop_assert_eq!(grown, whole, "{:?}", text);
        }
    }

    #[test]
    fn unspaced_scripts_have_no_boundaries() {
        assert_eq!(find(&["坏词"], "这是坏词吗"), ["坏词"]);
    }

    #[test]
    fn invisible_characters_hide_nothing() {
        assert_eq!(find(&["secret"], "a sec\u{ad}ret, se\u{200b}cret"), ["sec\u{ad}ret", "se\u{200b}cret"]);
    }

    #[test]
    fn words_inside_words_are_all_found() {
        assert_eq!(find(&["a b", "b", "b c"], "a b c"), ["a b", "b", "b c"]);
    }

    #[test]
    fn only_the_beginning_of_a_word_is_held_back() {
        let words = WordRecognizer::new([("project x", Label::Profanity)], Matching::default()).unwrap();
        let frontier = |text| words.scan(Window::growing(text), 0, &mut Vec::new());
        assert_eq!(frontier("the project"), 4);
        assert_eq!(frontier("the project "), 4);
        assert_eq!(frontier("the project y"), 13);
        assert_eq!(frontier("the project x"), 4);
        assert_eq!(frontier("aproject"), 8);
    }

    #[test]
    fn the_managed_list_is_lower_case_without_repetitions() {
        let all: Vec<_> = profanity().collect();
        assert!(all.len() > 100);
        let mut unique = all.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), all.len());
        assert!(all.iter().all(|word| *word == word.to_lowercase()));
    }
}
