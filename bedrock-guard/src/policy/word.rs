//! Words and phrases: the guardrail's own, and the managed list `PROFANITY`.
//!
//! A word is found whatever its case, between Unicode word boundaries, as it is written: no inflection, no look-alike
//! letters. A run of white space in the text counts as one blank, and characters that cannot be seen (soft hyphens, zero-width
//! joiners) do not count. In scripts that write no blanks between words there are no boundaries to keep.

use aho_corasick::AhoCorasick;

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

/// Finds a list of words.
#[derive(Debug)]
pub(crate) struct WordRecognizer {
    automaton: AhoCorasick,
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
    pub(crate) fn new<'w>(words: impl IntoIterator<Item = (&'w str, Label)>) -> Result<Self, aho_corasick::BuildError> {
        let (mut sorted, mut labels) = (Vec::new(), Vec::new());
        for (word, label) in words {
            let folded = Folded::new(word.trim(), 0).text.trim().to_owned();
            if !folded.is_empty() {
                sorted.push(folded);
                labels.push(label);
            }
        }
        let automaton = AhoCorasick::new(&sorted)?;
        let longest = sorted.iter().map(String::len).max().unwrap_or(0);
        sorted.sort_unstable();
        Ok(Self { automaton, labels, sorted, longest })
    }

    /// Whether some word begins with `text` (or is it).
    fn begins(&self, text: &str) -> bool {
        let at = self.sorted.partition_point(|word| word.as_str() < text);
        self.sorted.get(at).is_some_and(|word| word.starts_with(text))
    }
}

impl Recognizer for WordRecognizer {
    fn scan(&self, window: Window<'_>, from: usize, found: &mut Vec<Candidate>) -> usize {
        let folded = Folded::new(window.text, from);
        let boundary = |at: usize| -> bool {
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
        for matched in self.automaton.find_overlapping_iter(&folded.text) {
            let span = folded.origin(matched.start())..folded.end_of(window.text, matched.end());
            if span.start < frontier && boundary(matched.start()) && boundary(matched.end()) {
                let label = self.labels[matched.pattern().as_usize()];
                found.push(Candidate { span, label, score: 1.0 });
            }
        }
        frontier
    }
}

/// Text in lower case with single blanks, and where it comes from.
struct Folded {
    text: String,
    /// For each byte, the position of the character that it comes from.
    origins: Vec<usize>,
}

impl Folded {
    fn new(text: &str, from: usize) -> Self {
        let mut folded =
            Self { text: String::with_capacity(text.len() - from), origins: Vec::with_capacity(text.len() - from) };
        let mut blank = false;
        for (at, character) in text[from..].char_indices() {
            if is_invisible_character(character) {
                continue;
            }
            if character.is_whitespace() {
                if !std::mem::replace(&mut blank, true) {
                    folded.push(' ', from + at);
                }
                continue;
            }
            blank = false;
            if character.is_ascii() {
                folded.push(character.to_ascii_lowercase(), from + at);
            } else {
                character.to_lowercase().for_each(|lower| folded.push(lower, from + at));
            }
        }
        folded
    }

    fn push(&mut self, character: char, origin: usize) {
        self.text.push(character);
        self.origins.resize(self.text.len(), origin);
    }

    fn origin(&self, at: usize) -> usize {
        self.origins[at]
    }

    /// End, in the text, of the character that the byte before `at` comes from.
    fn end_of(&self, text: &str, at: usize) -> usize {
        let last = self.origins[at - 1];
        last + text[last..].chars().next().map_or(0, char::len_utf8)
    }
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
        WordRecognizer::new(words).unwrap().scan(Window::whole(text), 0, &mut found);
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
        let words = WordRecognizer::new([("project x", Label::Profanity)]).unwrap();
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
