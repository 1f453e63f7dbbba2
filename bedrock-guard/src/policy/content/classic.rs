//! The filter of tier CLASSIC: a linear model over hashed features, in one file of weights that is part of the program.
//!
//! Weights and how they were made: `data/CONTENT_CARD.md`. Each kind of feature is a mean of its own, weighed by how rare the
//! features are, so a long text is not louder than a short one.

use std::sync::LazyLock;

use super::decode::decoded;
use super::feature::{BITS, KINDS, features};
use super::normal::normal;
use super::window::parts;
use super::{BY_PARTS, CATEGORIES};

const FILE: &[u8] = include_bytes!("../../../data/content.bin");
const MAGIC: &[u8; 4] = b"BGC1";
const HEADER: usize = 4 + 4 * CATEGORIES * 5;
/// A row: a weight for each category, and how rare the feature is.
const ROW: usize = CATEGORIES + 1;
/// Rarity is stored in sixteenths.
const RARITY: f32 = 16.0;

static CLASSIC: LazyLock<Classic> = LazyLock::new(|| Classic::read(FILE).expect("a test reads the committed file"));

/// The committed model.
pub(crate) fn classic() -> &'static Classic {
    &CLASSIC
}

#[derive(Debug)]
pub(crate) struct Classic {
    bias: [f32; CATEGORIES],
    /// Logits from which confidence is low, medium and high.
    steps: [[f32; 3]; CATEGORIES],
    /// What a stored weight stands for.
    weights: Box<[[f32; 256]; CATEGORIES]>,
    rows: &'static [u8],
}

impl Classic {
    /// `None` if the file is not one of this version.
    pub(crate) fn read(file: &'static [u8]) -> Option<Self> {
        let (header, rows) = file.split_at_checked(HEADER)?;
        if &header[..4] != MAGIC || rows.len() != ROW << BITS {
            return None;
        }
        let mut numbers =
            header[4..].chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        let mut take = || std::array::from_fn::<f32, CATEGORIES, _>(|_| numbers.next().unwrap_or(0.0));
        let (bias, most, low, medium, high) = (take(), take(), take(), take(), take());
        let mut weights = Box::new([[0.0; 256]; CATEGORIES]);
        for (weights, most) in weights.iter_mut().zip(most) {
            for (stored, weight) in weights.iter_mut().enumerate() {
                *weight = reveal(stored as u8, most);
            }
        }
        let steps = std::array::from_fn(|category| [low[category], medium[category], high[category]]);
        Some(Self { bias, steps, weights, rows })
    }

    /// Logits of a piece of text and of what is encoded in it, the larger of each; in some categories ([`BY_PARTS`]) of its parts, too.
    pub(crate) fn logits(&self, piece: &str) -> [f32; CATEGORIES] {
        let mut logits = self.plain(piece);
        for text in decoded(piece) {
            for (logit, other) in logits.iter_mut().zip(self.plain(&text)) {
                *logit = logit.max(other);
            }
        }
        let parts = parts(piece);
        for part in parts.iter().filter(|_| parts.len() > 1) {
            let of = self.plain(part);
            BY_PARTS.into_iter().for_each(|category| logits[category] = logits[category].max(of[category]));
        }
        logits
    }

    /// Logits of a piece of text as it stands.
    pub(crate) fn plain(&self, piece: &str) -> [f32; CATEGORIES] {
        let (mut sums, mut norms) = ([[0.0f32; CATEGORIES]; KINDS], [0.0f32; KINDS]);
        features(&normal(piece), |kind, bucket| {
            let row = &self.rows[bucket as usize * ROW..][..ROW];
            let sums = &mut sums[kind as usize];
            for (category, sum) in sums.iter_mut().enumerate() {
                *sum += self.weights[category][usize::from(row[category])];
            }
            let rarity = f32::from(row[CATEGORIES]) / RARITY;
            norms[kind as usize] += rarity * rarity;
        });
        let mut logits = self.bias;
        for (sums, norm) in sums.iter().zip(norms) {
            let norm = norm.max(1e-6).sqrt();
            logits.iter_mut().zip(sums).for_each(|(logit, sum)| *logit += sum / norm);
        }
        logits
    }

    /// 0..=1 for each category; 0.5 is where confidence is medium.
    pub(crate) fn scores(&self, piece: &str) -> [f32; CATEGORIES] {
        let logits = self.logits(piece);
        std::array::from_fn(|category| self.score(category, logits[category]))
    }

    fn score(&self, category: usize, logit: f32) -> f32 {
        1.0 / (1.0 + (self.steps[category][1] - logit).exp())
    }

    /// How far the worst category is above its medium confidence.
    pub(crate) fn badness(&self, logits: &[f32; CATEGORIES]) -> f32 {
        logits.iter().zip(&self.steps).map(|(logit, steps)| logit - steps[1]).fold(f32::NEG_INFINITY, f32::max)
    }

    /// Scores from which confidence is low, medium and high.
    pub(crate) fn steps(&self, category: usize) -> [f32; 3] {
        self.steps[category].map(|logit| self.score(category, logit))
    }
}

/// A weight as it is stored: the root of its share of the largest, because most weights are small.
#[cfg(any(test, feature = "train"))]
pub(crate) fn hide(weight: f32, most: f32) -> u8 {
    ((weight.abs() / most).sqrt().min(1.0) * 127.0).round().copysign(weight) as i8 as u8
}

/// The weight that was stored.
pub(crate) fn reveal(stored: u8, most: f32) -> f32 {
    let share = f32::from(stored as i8) / 127.0;
    share * share.abs() * most
}

/// A file of weights: for each row the weights (times rarity) and the rarity.
#[cfg(feature = "train")]
pub(crate) fn write(
    bias: [f32; CATEGORIES],
    steps: [[f32; 3]; CATEGORIES],
    rows: &[([f32; CATEGORIES], f32)],
) -> Vec<u8> {
    let most: [f32; CATEGORIES] =
        std::array::from_fn(|category| rows.iter().map(|(weights, _)| weights[category].abs()).fold(1e-6, f32::max));
    let mut file = MAGIC.to_vec();
    let step = |index: usize| std::array::from_fn::<f32, CATEGORIES, _>(|category| steps[category][index]);
    for numbers in [bias, most, step(0), step(1), step(2)] {
        numbers.iter().for_each(|number| file.extend(number.to_le_bytes()));
    }
    for (weights, rarity) in rows {
        file.extend(weights.iter().zip(most).map(|(weight, most)| hide(*weight, most)));
        file.push((rarity * RARITY).round().clamp(1.0, 255.0) as u8);
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_file_is_read_and_small() {
        let classic = Classic::read(FILE).expect("a file of this version");
        assert!(FILE.len() <= 4 << 20);
        for category in 0..CATEGORIES {
            let [low, medium, high] = classic.steps(category);
            assert!(0.0 < low && low < medium && medium < high && high < 1.0, "{category}: {low} {medium} {high}");
        }
    }

    #[test]
    fn other_files_are_refused() {
        assert!(Classic::read(&[]).is_none());
        assert!(Classic::read(&FILE[..FILE.len() - 1]).is_none());
        assert!(Classic::read(&FILE[1..]).is_none());
    }

    #[test]
    fn stored_weights_keep_two_digits() {
        for weight in [0.0f32, 0.01, -0.01, 0.5, -3.0, 8.0] {
            assert!((reveal(hide(weight, 8.0), 8.0) - weight).abs() <= 0.002 + weight.abs() * 0.05, "{weight}");
        }
    }
}
