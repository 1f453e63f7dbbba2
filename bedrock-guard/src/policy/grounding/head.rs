//! Two small networks that weigh the evidence. Weights and how they were made: `data/GROUNDING_CARD.md`.

use std::sync::LazyLock;

use super::evidence::{RELEVANCE, SUPPORT};

const FILE: &str = include_str!("../../../data/grounding.txt");

static HEAD: LazyLock<Head> = LazyLock::new(|| Head::read(FILE).expect("a test reads the committed file"));

/// The committed networks.
pub(crate) fn head() -> &'static Head {
    &HEAD
}

#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) support: Network,
    pub(crate) relevance: Network,
}

impl Head {
    /// `None` if the text is not of this version.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        let support = Network::read(SUPPORT, lines.next()?)?;
        Some(Self { support, relevance: Network::read(RELEVANCE, lines.next()?)? })
    }
}

/// One hidden layer of hyperbolic tangents and a logistic output.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    /// For each hidden unit: its inputs' weights, its bias, its weight in the output. Then the bias of the output.
    pub(crate) numbers: Vec<f32>,
}

impl Network {
    pub(crate) fn new(inputs: usize, numbers: Vec<f32>) -> Option<Self> {
        (numbers.len() > inputs + 2 && numbers.len() % (inputs + 2) == 1).then_some(Self { numbers })
    }

    fn read(inputs: usize, line: &str) -> Option<Self> {
        let numbers = line.split_ascii_whitespace().map(|number| number.parse().ok()).collect::<Option<Vec<f32>>>()?;
        Self::new(inputs, numbers)
    }

    /// 0..=1.
    pub(crate) fn score(&self, inputs: &[f32]) -> f32 {
        1.0 / (1.0 + (-logit(&self.numbers, inputs)).exp())
    }
}

/// What a network with these numbers says of as many inputs as it has.
pub(super) fn logit(numbers: &[f32], inputs: &[f32]) -> f32 {
    let mut logit = numbers[numbers.len() - 1];
    for unit in numbers.chunks_exact(inputs.len() + 2) {
        let sum: f32 = unit.iter().zip(inputs).map(|(weight, input)| weight * input).sum();
        logit += unit[inputs.len() + 1] * (sum + unit[inputs.len()]).tanh();
    }
    logit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_file_is_read() {
        let head = Head::read(FILE).expect("a file of this version");
        for score in [head.support.score(&[1.0; SUPPORT]), head.relevance.score(&[0.0; RELEVANCE])] {
            assert!((0.0..=1.0).contains(&score));
        }
    }

    #[test]
    fn a_network_by_hand() {
        let network = Network::new(2, vec![1.0, -1.0, 0.5, 2.0, 0.25]).unwrap();
        let logit = 2.0 * (0.75f32 - 0.25 + 0.5).tanh() + 0.25;
        assert!((network.score(&[0.75, 0.25]) - 1.0 / (1.0 + (-logit).exp())).abs() < 1e-6);
        assert!(Network::new(2, vec![0.0; 4]).is_none() && Network::new(2, vec![0.0; 6]).is_none());
    }
}
