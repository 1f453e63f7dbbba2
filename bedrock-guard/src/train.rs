//! What the programs that train the committed filters need of the crate: texts as the filters see them, and the file of weights.
//! Users of guardrails have no use for it, and it may change with every version.

use crate::policy::content::{classic, decode, feature, normal, standard, window};

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

/// Values of the embeddings that tier STANDARD takes.
pub const DIMENSIONS: usize = standard::DIMENSIONS;

/// A text that every encoder of the right kind embeds alike; its embedding is part of the head.
pub const PROBE: &str = standard::PROBE;

/// The parts of a piece of which tier STANDARD embeds the one that tier CLASSIC thinks worst of.
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
pub use standard::{Head, Network};

/// Evidence that a source supports a response.
pub fn support(source: &str, query: &str, response: &str) -> Vec<f32> {
    crate::policy::grounding::evidence::support(source, query, response).to_vec()
}

/// Evidence that a response is about what was asked.
pub fn relevance(source: &str, query: &str, response: &str) -> Vec<f32> {
    crate::policy::grounding::evidence::relevance(source, query, response).to_vec()
}
