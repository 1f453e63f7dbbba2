//! The filter of tier STANDARD: small networks over the embedding of a sentence encoder and the logits of tier CLASSIC.
//!
//! The encoder is all-MiniLM-L6-v2, behind core's `EmbeddingModel`. It reads of a short piece everything and of a long one the
//! part that CLASSIC thinks worst of, which bounds what a text costs: see [`units`]. Words for groups of people are one word to it, as they are
//! to CLASSIC. Weights and how they were made: `data/STANDARD_CARD.md`.

#![cfg_attr(not(feature = "train"), allow(unreachable_pub, reason = "what trains the head reaches it"))]

use std::sync::LazyLock;

use super::CATEGORIES;
use super::classic::classic;
use super::identity::GROUP;
use super::normal::normal;
use super::window;

/// Values of an embedding.
pub(crate) const DIMENSIONS: usize = 384;
/// A sentence by which encoders are told apart.
pub(crate) const PROBE: &str = "the encoder that reads this sentence as we do is the one this head was trained on";
/// Least cosine between the encoder's embedding of [`PROBE`] and the head's.
const ALIKE: f32 = 0.97;

/// Bytes of the longest piece that is embedded as a whole.
const WHOLE: usize = 250;

const INPUTS: usize = DIMENSIONS + CATEGORIES;
const MAGIC: &[u8; 4] = b"BGS1";
const FILE: &[u8] = include_bytes!("../../../data/standard.bin");

static HEAD: LazyLock<Head> = LazyLock::new(|| Head::read(FILE).expect("a test reads the committed file"));

/// The committed head.
pub(crate) fn head() -> &'static Head {
    &HEAD
}

/// What the encoder may read of a piece: all of it if it is short, else one of its parts.
pub(crate) fn units(piece: &str) -> Vec<&str> {
    if piece.len() <= WHOLE { vec![piece] } else { window::parts(piece) }
}

/// What the encoder reads of a piece: the unit that CLASSIC thinks worst of, the first of equals.
pub(crate) fn worst_unit(piece: &str) -> &str {
    let units = units(piece);
    let (mut worst, mut most) = (units.first().copied().unwrap_or_default(), f32::NEG_INFINITY);
    if units.len() > 1 {
        for unit in units {
            let badness = classic().badness(&classic().logits(unit));
            if badness > most {
                (worst, most) = (unit, badness);
            }
        }
    }
    worst
}

/// A unit as the encoder gets it.
pub(crate) fn prompt(unit: &str) -> String {
    normal(unit).trim().replace(GROUP, "people")
}

/// One hidden layer over an embedding and the logits of CLASSIC.
#[derive(Debug, Clone)]
pub struct Network {
    /// For each hidden unit the weights of its inputs and its bias.
    pub hidden: Vec<f32>,
    /// For each category the weights of the hidden units, of the logits of CLASSIC, and its bias.
    pub output: Vec<f32>,
}

impl Network {
    /// Values of a hidden layer.
    const UNIT: usize = INPUTS + 1;

    /// What logits of CLASSIC are divided by.
    pub const SCALE: f32 = 3.0;

    /// Inputs of the network: about as large as each other.
    pub fn inputs(classic: &[f32; CATEGORIES], embedding: &[f32]) -> Vec<f32> {
        let scale = (DIMENSIONS as f32).sqrt();
        embedding.iter().map(|value| value * scale).chain(classic.iter().map(|logit| logit / Self::SCALE)).collect()
    }

    /// The hidden layer.
    pub fn hidden(&self, inputs: &[f32]) -> Vec<f32> {
        let unit = |weights: &[f32]| {
            let sum: f32 = weights.iter().zip(inputs).map(|(weight, input)| weight * input).sum();
            (sum + weights[INPUTS]).max(0.0)
        };
        self.hidden.chunks_exact(Self::UNIT).map(unit).collect()
    }

    /// Logits, given the hidden layer.
    pub fn output(&self, hidden: &[f32], inputs: &[f32]) -> [f32; CATEGORIES] {
        let row = hidden.len() + CATEGORIES + 1;
        std::array::from_fn(|category| {
            let weights = &self.output[category * row..][..row];
            let all = hidden.iter().chain(&inputs[DIMENSIONS..]);
            weights.iter().zip(all).map(|(weight, value)| weight * value).sum::<f32>() + weights[row - 1]
        })
    }
}

/// Networks whose logits are averaged.
#[derive(Debug, Clone)]
pub struct Head {
    /// Logits from which confidence is low, medium and high.
    pub steps: [[f32; 3]; CATEGORIES],
    /// The embedding of the probe, by which encoders are told apart.
    pub probe: Vec<f32>,
    /// The networks, all of one size.
    pub networks: Vec<Network>,
}

impl Head {
    /// `None` if the file is not one of this version.
    pub fn read(file: &[u8]) -> Option<Self> {
        let rest = file.strip_prefix(MAGIC)?;
        let (sizes, rest) = rest.split_at_checked(2)?;
        let (networks, hidden) = (usize::from(sizes[0]), usize::from(sizes[1]));
        let (first, second) = (hidden * Network::UNIT, (hidden + CATEGORIES + 1) * CATEGORIES);
        if networks == 0 || rest.len() != 4 * (3 * CATEGORIES + DIMENSIONS + networks * (first + second)) {
            return None;
        }
        let mut numbers =
            rest.chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        let mut take = |count: usize| -> Vec<f32> { numbers.by_ref().take(count).collect() };
        let steps = take(3 * CATEGORIES);
        Some(Self {
            steps: std::array::from_fn(|category| std::array::from_fn(|step| steps[3 * category + step])),
            probe: take(DIMENSIONS),
            networks: (0..networks).map(|_| Network { hidden: take(first), output: take(second) }).collect(),
        })
    }

    /// The file, which [`Head::read`] reads.
    #[cfg(any(test, feature = "train"))]
    pub fn write(&self) -> Vec<u8> {
        let hidden = self.networks[0].hidden.len() / Network::UNIT;
        let mut file = MAGIC.to_vec();
        file.extend([self.networks.len() as u8, hidden as u8]);
        let networks = self.networks.iter().flat_map(|network| network.hidden.iter().chain(&network.output));
        for number in self.steps.iter().flatten().chain(&self.probe).chain(networks) {
            file.extend(number.to_le_bytes());
        }
        file
    }

    /// Logits of a piece: the mean of the networks.
    pub fn logits(&self, classic: &[f32; CATEGORIES], embedding: &[f32]) -> [f32; CATEGORIES] {
        let inputs = Network::inputs(classic, embedding);
        let mut sums = [0.0; CATEGORIES];
        for network in &self.networks {
            let logits = network.output(&network.hidden(&inputs), &inputs);
            sums.iter_mut().zip(logits).for_each(|(sum, logit)| *sum += logit);
        }
        sums.map(|sum| sum / self.networks.len() as f32)
    }

    /// 0..=1 for each category; 0.5 is where confidence is medium.
    pub(crate) fn scores(&self, classic: &[f32; CATEGORIES], embedding: &[f32]) -> [f32; CATEGORIES] {
        let logits = self.logits(classic, embedding);
        std::array::from_fn(|category| self.score(category, logits[category]))
    }

    fn score(&self, category: usize, logit: f32) -> f32 {
        1.0 / (1.0 + (self.steps[category][1] - logit).exp())
    }

    /// Scores from which confidence is low, medium and high.
    pub(crate) fn score_steps(&self, category: usize) -> [f32; 3] {
        self.steps[category].map(|logit| self.score(category, logit))
    }

    /// Whether an encoder that embeds [`PROBE`] so is the one that the head was trained on.
    pub(crate) fn knows(&self, probe: &[f32]) -> bool {
        let norm = |vector: &[f32]| vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        let product: f32 = self.probe.iter().zip(probe).map(|(a, b)| a * b).sum();
        probe.len() == DIMENSIONS && product >= ALIKE * norm(&self.probe) * norm(probe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_file_is_read_and_small() {
        let head = Head::read(FILE).expect("a file of this version");
        assert!(FILE.len() <= 1 << 20);
        assert_eq!(head.write(), FILE);
        assert!(head.knows(&head.probe) && !head.knows(&[0.05; DIMENSIONS]) && !head.knows(&head.probe[1..]));
        for category in 0..CATEGORIES {
            let [low, medium, high] = head.score_steps(category);
            assert!(0.0 < low && low < medium && medium < high && high < 1.0, "{category}: {low} {medium} {high}");
        }
    }

    #[test]
    fn other_files_are_refused() {
        assert!(Head::read(&[]).is_none());
        assert!(Head::read(b"BGS1").is_none());
        assert!(Head::read(b"BGS1\0\0").is_none());
        assert!(Head::read(&FILE[..FILE.len() - 1]).is_none());
        assert!(Head::read(&FILE[1..]).is_none());
    }

    #[test]
    fn a_network_by_hand() {
        let mut hidden = vec![0.0; 2 * (INPUTS + 1)];
        (hidden[0], hidden[INPUTS]) = (1.0, -0.5);
        // The second unit is never above 0.
        hidden[2 * INPUTS + 1] = -1.0;
        let mut output = vec![0.0; CATEGORIES * (2 + CATEGORIES + 1)];
        (output[0], output[1], output[2], output[8]) = (2.0, 9.0, 3.0, 0.25);
        let network = Network { hidden, output };
        let mut inputs = vec![0.0; INPUTS];
        (inputs[0], inputs[DIMENSIONS]) = (1.5, 0.5);
        let logits = network.output(&network.hidden(&inputs), &inputs);
        assert_eq!(logits, [2.0 + 1.5 + 0.25, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn groups_are_one_word_to_the_encoder() {
        assert_eq!(prompt("I like Muslims!"), prompt("I like jews !"));
    }
}
