//! Each word of a response held against the words of its source, as an encoder sees both: what the network of [`super::aligned`] reads.
#![cfg_attr(not(feature = "train"), allow(unreachable_pub, reason = "what trains the networks reaches it"))]

use std::collections::HashSet;

use bedrock_core::TokenStates;

use super::evidence::{self, Word};
use super::places::{NUMBERS, numbers, values};

/// States of a token: the input of the first layer of all-MiniLM-L6-v2 and the output of each of its six.
pub const LAYERS: usize = 7;
/// Numbers of a state.
pub const WIDTH: usize = 384;
/// Layers whose states are looked at themselves, beside how near they are.
pub const SEEN: [usize; 3] = [0, 3, 6];
/// Directions that a state is looked at in.
pub const DIRECTIONS: usize = 12;
/// Numbers about a word that need no encoder.
const PLAIN: usize = 8;
/// Numbers about a word.
pub const INPUTS: usize = PLAIN + 3 * LAYERS + 2 * DIRECTIONS * SEEN.len() + NUMBERS;

/// What states are measured from and along: a mean for each layer, directions for each of [`SEEN`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Axes {
    /// `[LAYERS][WIDTH]`
    pub means: Vec<f32>,
    /// `[SEEN][DIRECTIONS][WIDTH]`
    pub directions: Vec<f32>,
}

/// The words of a text, each with the mean state of its tokens in each layer.
#[derive(Debug)]
pub struct Seen {
    words: Vec<Word>,
    /// `[words][LAYERS][WIDTH]`, without the means of the layers.
    states: Vec<f32>,
    /// The same of length 1.
    unit: Vec<f32>,
}

impl Seen {
    /// Words without tokens, behind what the encoder reads of a text, are left out. `None` if the states are not of this encoder's shape.
    pub(crate) fn new(text: &str, tokens: &TokenStates, axes: &Axes) -> Option<Self> {
        let sound = |layer: &Vec<f32>| layer.len() == tokens.spans.len() * WIDTH && layer.iter().all(|x| x.is_finite());
        if tokens.layers.len() != LAYERS || !tokens.layers.iter().all(sound) {
            return None;
        }
        let (mut words, mut states, mut unit) = (Vec::new(), Vec::new(), Vec::new());
        for word in evidence::sentences(text).into_iter().flat_map(|sentence| sentence.words) {
            let within = |span: &std::ops::Range<usize>| span.start < word.span.end && span.end > word.span.start;
            let own: Vec<usize> = (0..tokens.spans.len()).filter(|token| within(&tokens.spans[*token])).collect();
            if own.is_empty() {
                continue;
            }
            for (layer, mean) in tokens.layers.iter().zip(axes.means.chunks_exact(WIDTH)) {
                let from = states.len();
                states.extend(mean.iter().enumerate().map(|(at, mean)| {
                    own.iter().map(|token| layer[token * WIDTH + at]).sum::<f32>() / own.len() as f32 - mean
                }));
                let length = dot(&states[from..], &states[from..]).sqrt() + 1e-6;
                unit.extend(states[from..].iter().map(|x| x / length));
            }
            words.push(word);
        }
        Some(Self { words, states, unit })
    }

    /// Joins what was read of a text in parts.
    pub(crate) fn join(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self { words: Vec::new(), states: Vec::new(), unit: Vec::new() };
        for part in parts {
            all.words.extend(part.words);
            all.states.extend(part.states);
            all.unit.extend(part.unit);
        }
        all
    }

    pub(super) fn words(&self) -> &[Word] {
        &self.words
    }

    fn state(&self, word: usize, layer: usize) -> &[f32] {
        &self.states[(word * LAYERS + layer) * WIDTH..][..WIDTH]
    }

    fn unit(&self, word: usize, layer: usize) -> &[f32] {
        &self.unit[(word * LAYERS + layer) * WIDTH..][..WIDTH]
    }

    /// The states of one layer, one a word.
    #[cfg(feature = "train")]
    pub fn of_layer(&self, layer: usize) -> impl Iterator<Item = &[f32]> {
        (0..self.words.len()).map(move |word| self.state(word, layer))
    }
}

/// How near each word of a claim is to each of a source.
#[derive(Debug)]
pub(crate) struct Pairs {
    pub(super) claim: usize,
    pub(super) source: usize,
    /// `[LAYERS][claim][source]`
    cosines: Vec<f32>,
    /// `[claim][source]`: the same word.
    same: Vec<bool>,
}

impl Pairs {
    pub(crate) fn new(source: &Seen, claim: &Seen) -> Self {
        let (rows, columns) = (claim.words.len(), source.words.len());
        let mut cosines = Vec::with_capacity(LAYERS * rows * columns);
        for layer in 0..LAYERS {
            for word in 0..rows {
                let own = claim.unit(word, layer);
                cosines.extend((0..columns).map(|other| dot(own, source.unit(other, layer))));
            }
        }
        let same =
            claim.words.iter().flat_map(|word| source.words.iter().map(|other| other.stem == word.stem)).collect();
        Self { claim: rows, source: columns, cosines, same }
    }

    /// Cosines of a word of the claim with the words of the source.
    pub(super) fn row(&self, layer: usize, word: usize) -> &[f32] {
        &self.cosines[(layer * self.claim + word) * self.source..][..self.source]
    }

    /// Which words of the source are this word of the claim.
    pub(super) fn same(&self, word: usize) -> &[bool] {
        &self.same[word * self.source..][..self.source]
    }
}

/// Numbers about each word of a claim, [`INPUTS`] each. None if either text has no word.
pub(crate) fn inputs(source: &Seen, claim: &Seen, pairs: &Pairs, axes: &Axes) -> Vec<f32> {
    if source.words.is_empty() {
        return Vec::new();
    }
    let runs: HashSet<(&str, &str)> =
        source.words.windows(2).map(|pair| (pair[0].stem.as_str(), pair[1].stem.as_str())).collect();
    let values = values(&source.words);
    let mut out = Vec::with_capacity(claim.words.len() * INPUTS);
    for (index, word) in claim.words.iter().enumerate() {
        let same_word = pairs.same(index);
        let known = same_word.contains(&true);
        let follows = index > 0 && runs.contains(&(claim.words[index - 1].stem.as_str(), word.stem.as_str()));
        let plain: [bool; PLAIN] =
            [word.number, word.name, word.content, known, word.negates, word.bounds, follows, word.personal];
        out.extend(plain.map(|yes| f32::from(u8::from(yes))));
        for layer in 0..LAYERS {
            // The nearest word of the source, the next, and the nearest of those that are the same word.
            let (mut at, mut near, mut next, mut same) = (0, -1.0f32, -1.0f32, -1.0f32);
            for (other, cosine) in pairs.row(layer, index).iter().copied().enumerate() {
                if same_word[other] {
                    same = same.max(cosine);
                }
                if cosine > near {
                    (at, near, next) = (other, cosine, near);
                } else {
                    next = next.max(cosine);
                }
            }
            let next = if source.words.len() > 1 { next } else { near };
            out.extend([near, if known { same } else { near }, near - next]);
            if let Some(seen) = SEEN.iter().position(|seen| *seen == layer) {
                let (own, other) = (claim.state(index, layer), source.state(at, layer));
                let directions = &axes.directions[seen * DIRECTIONS * WIDTH..][..DIRECTIONS * WIDTH];
                let along = |state: &[f32]| -> Vec<f32> {
                    directions.chunks_exact(WIDTH).map(|direction| dot(direction, state)).collect()
                };
                let (own, other) = (along(own), along(other));
                out.extend(&own);
                out.extend(own.iter().zip(&other).map(|(own, other)| own - other));
            }
        }
        out.extend(numbers(word, &values));
    }
    out
}

/// The sum of the products of two vectors, of one length.
pub fn dot(one: &[f32], other: &[f32]) -> f32 {
    // In eight sums, which the compiler keeps in one register.
    let ((one, one_rest), (other, other_rest)) = (one.as_chunks::<8>(), other.as_chunks::<8>());
    let mut sums = [0.0f32; 8];
    for (one, other) in one.iter().zip(other) {
        for lane in 0..8 {
            sums[lane] += one[lane] * other[lane];
        }
    }
    let rest: f32 = one_rest.iter().zip(other_rest).map(|(one, other)| one * other).sum();
    sums.iter().sum::<f32>() + rest
}
