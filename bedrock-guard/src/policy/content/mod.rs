//! Content filters: is a text hateful, insulting, sexual, violent, does it ask for crime, does it attack the instructions?
//!
//! A text is judged in pieces ([`window`]); its score is that of its worst piece. Disguises are taken off first ([`normal`]), simple
//! encodings are undone ([`decode`]), and words for groups of people are all one word ([`identity`]).

pub(crate) mod attack;
pub(crate) mod classic;
pub(crate) mod decode;
pub(crate) mod feature;
pub(crate) mod identity;
pub(crate) mod lexicon;
pub(crate) mod normal;
pub(crate) mod standard;
pub(crate) mod window;

use bedrock_core::{GuardrailContentFilterType as Type, GuardrailStrength as Strength};

use crate::scan::{Candidate, Label, Recognizer, Window};
use classic::classic;

/// How many categories there are.
pub(crate) const CATEGORIES: usize = 6;

/// The categories, in the order of the models.
pub(crate) const TYPES: [Type; CATEGORIES] =
    [Type::Hate, Type::Insults, Type::Sexual, Type::Violence, Type::Misconduct, Type::PromptAttack];

/// Position of prompt attacks in [`TYPES`].
pub(crate) const PROMPT_ATTACK: usize = 5;

/// Categories of what a text asks for, which a single sentence may do in the midst of harmless ones: tier CLASSIC judges the parts of a long piece for them, too.
/// What a text is like (hateful, insulting, violent) is told worse by its parts.
pub(crate) const BY_PARTS: [usize; 2] = [4, PROMPT_ATTACK];

/// Position of a category in [`TYPES`].
pub(crate) fn category(kind: &Type) -> Option<usize> {
    TYPES.iter().position(|known| known == kind)
}

/// How sure a score is, given from which scores on confidence is low, medium and high: 0 not at all, 1 low, 2 medium, 3 high.
pub(crate) fn confidence(steps: &[f32; 3], score: f32) -> u8 {
    steps.iter().filter(|step| score >= **step).count() as u8
}

/// The least confidence that a filter of some strength acts on; 4 for one that never acts.
pub(crate) fn least_confidence(strength: &Strength) -> u8 {
    match strength {
        Strength::High => 1,
        Strength::Medium => 2,
        Strength::Low => 3,
        _ => 4,
    }
}

/// The name of a confidence.
pub(crate) fn confidence_name(confidence: u8) -> Strength {
    match confidence {
        0 => Strength::None,
        1 => Strength::Low,
        2 => Strength::Medium,
        _ => Strength::High,
    }
}

/// Scores of tier CLASSIC of a whole text, the largest of its pieces.
pub(crate) fn scores(text: &str) -> [f32; CATEGORIES] {
    window::pieces(text).fold([0.0; CATEGORIES], |worst, piece| {
        let scores = classic().scores(piece);
        std::array::from_fn(|category| worst[category].max(scores[category]))
    })
}

/// Finds pieces of text of which a filter of tier CLASSIC is at least a little sure.
#[derive(Debug)]
pub(crate) struct ContentRecognizer {
    /// The categories that are looked for.
    pub(crate) wanted: [bool; CATEGORIES],
}

impl Recognizer for ContentRecognizer {
    fn scan(&self, window: Window<'_>, from: usize, found: &mut Vec<Candidate>) -> usize {
        let (text, mut start) = (window.text, from);
        while start < text.len()
            && let Some(end) = window::end(text, start, window.complete)
        {
            let scores = classic().scores(&text[start..end]);
            for (category, score) in scores.into_iter().enumerate() {
                if self.wanted[category] && confidence(&classic().steps(category), score) > 0 {
                    found.push(Candidate { span: start..end, label: Label::Content(category as u8), score });
                }
            }
            if end == text.len() && window.complete {
                return end;
            }
            start = window::next(text, start, end);
        }
        start
    }
}
