//! What the programs that train the committed filters need of the crate: texts as the filters see them, and the file of weights.
//! Users of guardrails have no use for it, and it may change with every version.

mod folds;

use std::ops::Range;

use crate::policy::content::{self, attack, classic, decode, feature, normal, standard, window};
use crate::policy::pii::{name, tagger};
use crate::scan::{Recognizer as _, Window};

/// Categories of the content filters, in the order of their models.
pub const CATEGORIES: usize = crate::policy::content::CATEGORIES;

/// Kinds of features; each is normalised by itself.
pub const KINDS: usize = feature::KINDS;

/// Rows of the table of weights.
pub const ROWS: usize = 1 << feature::BITS;

/// The pieces that a text is judged in.
pub fn pieces(text: &str) -> Vec<&str> {
    window::pieces(text).collect()
}

/// What is encoded in a piece.
pub fn decoded(piece: &str) -> Vec<String> {
    decode::decoded(piece)
}

/// Kind and row of every feature of a piece, repetitions included.
pub fn features(piece: &str) -> Vec<(usize, u32)> {
    let mut found = Vec::new();
    feature::features(&normal::normal(piece), |kind, row| found.push((kind as usize, row)));
    found
}

/// The file of weights: biases, the logits from which confidence is low, medium and high, and for each row its weights (times its
/// rarity) and its rarity.
pub fn write(bias: [f32; CATEGORIES], steps: [[f32; 3]; CATEGORIES], rows: &[([f32; CATEGORIES], f32)]) -> Vec<u8> {
    classic::write(bias, steps, rows)
}

/// Kinds of prompt attacks, in the order of their head.
pub const ATTACKS: usize = attack::ATTACKS;

/// Rows of the table of weights of kinds of attacks.
pub const ATTACK_ROWS: usize = 1 << attack::FOLDED;

/// What of a text its kind of attack is told by.
pub fn worst_attack(text: &str) -> &str {
    attack::worst(text)
}

/// Kind and row of every feature of a piece in the table of kinds of attacks.
pub fn attack_features(piece: &str) -> Vec<(usize, u32)> {
    let mut found = Vec::new();
    attack::attack_features(piece, |kind, row| found.push((kind as usize, row)));
    found
}

/// The chances of kinds of attacks, given their logits.
pub fn attack_chances(logits: [f32; ATTACKS]) -> [f32; ATTACKS] {
    attack::softmax(logits)
}

/// The file of weights of kinds of attacks: biases, and for each row a weight for each kind.
pub fn write_attacks(bias: [f32; ATTACKS], rows: &[[f32; ATTACKS]]) -> Vec<u8> {
    attack::Head::write(bias, rows)
}

/// Values of the embeddings that tier STANDARD takes.
pub const DIMENSIONS: usize = standard::DIMENSIONS;

/// A text that every encoder of the right kind embeds alike; its embedding is part of the head.
pub const PROBE: &str = standard::PROBE;

/// The parts of a piece, which tier CLASSIC judges in the categories of [`BY_PARTS`].
pub fn parts(piece: &str) -> Vec<&str> {
    window::parts(piece)
}

/// Categories for which tier CLASSIC judges parts, too.
pub const BY_PARTS: [usize; 2] = content::BY_PARTS;

/// What tier STANDARD may embed of a piece, of which it embeds what tier CLASSIC thinks worst of.
pub fn units(piece: &str) -> Vec<&str> {
    standard::units(piece)
}

/// How bad tier CLASSIC thinks a unit is, given its logits: by which units are compared.
pub fn badness(logits: &[f32; CATEGORIES]) -> f32 {
    classic::classic().badness(logits)
}

/// A unit as it is embedded.
pub fn prompt(unit: &str) -> String {
    standard::prompt(unit)
}

/// The head of tier STANDARD with hidden layers of `hidden` units.
pub use folds::{Random, area, fold};
pub use standard::{Head, Network};

/// Evidence that a source supports a response.
pub fn support(source: &str, query: &str, response: &str) -> Vec<f32> {
    crate::policy::grounding::evidence::support(source, query, response).to_vec()
}

/// How many numbers [`support`] gives.
pub const SUPPORT: usize = crate::policy::grounding::evidence::SUPPORT;

/// The check that holds a response against its source word by word, with an encoder.
pub mod alignment {
    pub use crate::policy::grounding::aligned::{
        EVIDENCE_UNITS, Head, Network, Part, Read, SUPPORT_UNITS, Scale, UNITS, at, read, support,
    };
    pub use crate::policy::grounding::alignment::{Axes, DIRECTIONS, INPUTS, LAYERS, SEEN, Seen, WIDTH, dot};
    pub use crate::policy::grounding::places::PLACES;
}

/// Evidence that a response is about what was asked.
pub fn relevance(source: &str, query: &str, response: &str) -> Vec<f32> {
    crate::policy::grounding::evidence::relevance(source, query, response).to_vec()
}

/// Classes that words of names are told apart by: none, first word of a person's name, another word of it, place, organisation, other thing.
pub const NAME_CLASSES: usize = tagger::CLASSES;

/// Rows of the table of weights of names.
pub const NAME_ROWS: usize = 1 << tagger::BITS;

/// A run of capitalised words as the tagger of names sees it.
#[derive(Debug, Clone)]
pub struct NameRun {
    /// Bytes of each word.
    pub words: Vec<Range<usize>>,
    /// Rows of each word.
    pub rows: Vec<Vec<u32>>,
    /// The same as if no list knew the word.
    pub forgotten: Vec<Vec<u32>>,
}

/// The runs of a text.
pub fn name_runs(text: &str) -> Vec<NameRun> {
    let mut runs = Vec::new();
    name::runs(text, |seen, words| {
        let rows = |forget| {
            let of = |word| {
                let mut rows = Vec::new();
                seen.features(word, forget, |row| rows.push(row));
                rows
            };
            (0..words.len()).map(of).collect()
        };
        runs.push(NameRun { words: words.to_vec(), rows: rows(false), forgotten: rows(true) });
    });
    runs
}

/// The chance of each class at each word, given the scores of classes at words and of steps between classes.
pub fn name_chances(
    starts: &[f32; NAME_CLASSES],
    follows: &[[f32; NAME_CLASSES]; NAME_CLASSES],
    local: &[[f32; NAME_CLASSES]],
) -> Vec<[f32; NAME_CLASSES]> {
    tagger::chances(starts, follows, local)[..local.len()].to_vec()
}

/// The file of weights of names: the logarithm of the odds from which a word belongs to one, scores of classes at the start of a run and
/// of steps between classes, and the table.
pub fn write_names(
    odds: f32,
    starts: [f32; NAME_CLASSES],
    follows: [[f32; NAME_CLASSES]; NAME_CLASSES],
    rows: &[[f32; NAME_CLASSES]],
) -> Vec<u8> {
    tagger::Tagger::write(odds, starts, follows, rows)
}

/// Finds names with weights of its own.
#[derive(Debug)]
pub struct NameFinder(name::NameRecognizer);

impl NameFinder {
    /// `None` if the file is not one of weights of names. The weights stay in memory.
    pub fn new(file: Vec<u8>, threshold: f32) -> Option<Self> {
        let tagger = Box::leak(Box::new(tagger::Tagger::read(&file)?));
        Some(Self(name::NameRecognizer::with(threshold, tagger)))
    }

    /// Names of a text.
    pub fn find(&self, text: &str) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        self.0.scan(Window::whole(text), 0, &mut found);
        found.into_iter().map(|candidate| candidate.span).collect()
    }
}
