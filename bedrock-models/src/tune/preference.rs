//! Which of two answers is to be preferred, and by how much it is.

use super::loss::Sequence;

/// A prompt with two answers, and how probable they are to the reference: the model that is not to be left too far, as a rule the base.
#[derive(Debug, Clone, PartialEq)]
pub struct Preference {
    /// With the answer that is to be preferred: its tokens are those to be learnt.
    pub chosen: Sequence,
    /// With the other answer.
    pub rejected: Sequence,
    /// What the reference's [`Trainer::log_probabilities`](super::Trainer::log_probabilities) are of the two, in this order.
    pub reference: [f64; 2],
}

impl Preference {
    pub(super) fn sequences(&self) -> [&Sequence; 2] {
        [&self.chosen, &self.rejected]
    }

    /// By how much the reward of the chosen answer is larger, given the cross-entropies of both: their log-probabilities, negative.
    pub(super) fn margin(&self, beta: f64, [chosen, rejected]: [f64; 2]) -> f64 {
        beta * ((-chosen - self.reference[0]) - (-rejected - self.reference[1]))
    }
}
