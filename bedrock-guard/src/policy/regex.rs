//! The guardrail's own patterns, and the masks that stand in a text already.

use std::fmt::Write as _;

use crate::pattern::{Pattern, PatternError};
use crate::scan::{Candidate, Label, Recognizer, Window};
use crate::vault;

/// Finds the matches of one pattern, without overlaps, leftmost first.
#[derive(Debug)]
pub(crate) struct RegexRecognizer {
    pattern: Pattern,
    label: Label,
}

impl RegexRecognizer {
    /// A pattern of the guardrail, with the full Unicode meaning of its classes.
    pub(crate) fn new(pattern: &str, label: Label) -> Result<Self, PatternError> {
        Ok(Self { pattern: Pattern::new(pattern)?, label })
    }

    /// Masks with these names, `{EMAIL}`, and pseudonyms of any vault: `{EMAIL_1_k3x9q2}`. They are found so that nothing inside a mask is taken for anything else, and
    /// masked text that is masked again stays the same.
    pub(crate) fn masks<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<Self, PatternError> {
        let mut pattern = String::from(r"\{(?:");
        for (index, name) in names.into_iter().enumerate() {
            let _ = write!(pattern, "{}{}", if index == 0 { "" } else { "|" }, ::regex::escape(name));
            let plain = vault::plain(name);
            if plain != name {
                let _ = write!(pattern, "|{}", ::regex::escape(&plain));
            }
        }
        let _ = write!(pattern, r")(?:_[0-9]{{1,{}}}_[2-9a-z]{{{}}})?\}}", vault::DIGITS, vault::TAG);
        Ok(Self { pattern: Pattern::new(&pattern)?, label: Label::Mask })
    }
}

impl Recognizer for RegexRecognizer {
    fn scan(&self, window: Window<'_>, from: usize, found: &mut Vec<Candidate>) -> usize {
        // A mask outranks whatever would be found inside it.
        let score = if self.label == Label::Mask { 2.0 } else { 1.0 };
        self.pattern.all(window, from, |span| found.push(Candidate { span, label: self.label, score }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_and_pseudonyms_are_known_whole() {
        let masks = RegexRecognizer::masks(["EMAIL", "a{b"]).unwrap();
        for (text, known) in [
            ("{EMAIL}", true),
            ("{EMAIL_1_k3x9q2}", true),
            ("{EMAIL_1234567_222222}", true),
            ("{a{b}", true),
            ("{a_b_1_222222}", true),
            ("{a{b_1_222222}", true),
            ("{EMAIL_12345678_222222}", false),
            ("{EMAIL_1_K3X9Q2}", false),
            ("{EMAIL_1_k3x9q}", false),
            ("{EMAIL_1}", false),
            ("{PHONE}", false),
        ] {
            let mut found = Vec::new();
            masks.scan(Window::whole(text), 0, &mut found);
            let spans: Vec<_> = found.into_iter().map(|found| (found.span.start, found.span.end)).collect();
            assert_eq!(spans, if known { vec![(0, text.len())] } else { Vec::new() }, "{text}");
        }
    }
}
