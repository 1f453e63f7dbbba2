//! What is measured of what a model has learnt.

use serde::Serialize;

use super::data::CustomizationType;

/// What is measured besides the loss, where it is not text that is learnt.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Metrics {
    /// Of preferences. The reward of an answer is `beta` times the logarithm of how many times as probable it has become.
    Preference {
        /// By how much the rewards of chosen answers are larger than those of rejected ones, on average.
        reward_margin: f64,
        /// The share of pairs whose chosen answer has the larger reward.
        reward_accuracy: f64,
    },
    /// Of embeddings and of labels.
    Accuracy {
        /// The share of anchors whose own positive is the nearest of all in their batch, or of texts whose label is the most likely.
        accuracy: f64,
    },
}

/// A loss and what else was measured with it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measure {
    pub(super) loss: f64,
    pub(super) metrics: Option<Metrics>,
}

impl Metrics {
    fn values(self) -> Vec<f64> {
        match self {
            Self::Preference { reward_margin, reward_accuracy } => vec![reward_margin, reward_accuracy],
            Self::Accuracy { accuracy } => vec![accuracy],
        }
    }

    fn from_values(kind: CustomizationType, values: &[f64]) -> Option<Self> {
        match (kind, values) {
            (CustomizationType::PreferenceTuning, &[reward_margin, reward_accuracy]) => {
                Some(Self::Preference { reward_margin, reward_accuracy })
            }
            (CustomizationType::EmbeddingTuning | CustomizationType::ClassifierTuning, &[accuracy]) => {
                Some(Self::Accuracy { accuracy })
            }
            _ => None,
        }
    }
}

impl Measure {
    /// What jobs of a kind write about a measure, besides the loss. Of text it is the perplexity.
    pub(super) fn columns(kind: CustomizationType) -> &'static [&'static str] {
        match kind {
            CustomizationType::PreferenceTuning => &["reward_margin", "reward_accuracy"],
            CustomizationType::EmbeddingTuning | CustomizationType::ClassifierTuning => &["accuracy"],
            _ => &["perplexity"],
        }
    }

    /// The numbers of [`Measure::columns`].
    pub(super) fn row(&self) -> Vec<f64> {
        self.metrics.map_or_else(|| vec![self.loss.exp()], Metrics::values)
    }

    /// The exponential of the loss, where it means something.
    pub(super) fn perplexity(&self) -> Option<f64> {
        self.metrics.is_none().then(|| self.loss.exp())
    }

    /// All numbers that [`Measure::from_numbers`] needs.
    pub(super) fn numbers(&self) -> Vec<f64> {
        [self.loss].into_iter().chain(self.metrics.map(Metrics::values).unwrap_or_default()).collect()
    }

    /// The measure of a job of a kind that has these numbers, if there is one.
    pub(super) fn from_numbers(kind: CustomizationType, numbers: &[f64]) -> Option<Self> {
        let (loss, values) = numbers.split_first()?;
        let metrics = Metrics::from_values(kind, values);
        (metrics.is_some() || values.is_empty()).then_some(Self { loss: *loss, metrics })
    }

    /// The mean of measures of one kind, by weight; none of nothing.
    pub(super) fn mean(kind: CustomizationType, parts: &[(Self, usize)]) -> Option<Self> {
        let count = parts.iter().map(|(_, weight)| weight).sum::<usize>() as f64;
        let mut sums = vec![0.0; parts.first()?.0.numbers().len()];
        for (part, weight) in parts {
            sums.iter_mut().zip(part.numbers()).for_each(|(sum, number)| *sum += number * *weight as f64);
        }
        Self::from_numbers(kind, &sums.iter().map(|sum| sum / count).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_by_weight_and_numbers_are_read_again() {
        let kind = CustomizationType::PreferenceTuning;
        let measure = |loss, reward_margin, reward_accuracy| Measure {
            loss,
            metrics: Some(Metrics::Preference { reward_margin, reward_accuracy }),
        };
        let mean = Measure::mean(kind, &[(measure(1.0, -2.0, 0.0), 1), (measure(2.0, 2.0, 1.0), 3)]).unwrap();
        assert_eq!(mean, measure(1.75, 1.0, 0.75));
        assert_eq!(Measure::from_numbers(kind, &mean.numbers()), Some(mean));
        assert_eq!((mean.row(), mean.perplexity()), (vec![1.0, 0.75], None));
        let text = Measure { loss: 0.0, metrics: None };
        assert_eq!(Measure::from_numbers(CustomizationType::FineTuning, &text.numbers()), Some(text));
        assert_eq!(text.row(), [1.0]);
        assert_eq!(Measure::from_numbers(CustomizationType::FineTuning, &[1.0, 2.0]), None);
        assert_eq!(Measure::mean(kind, &[]), None);
    }
}
