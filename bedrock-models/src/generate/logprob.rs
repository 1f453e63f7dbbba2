//! How probable the model found a token.

use super::exp::exp_nonpositive;
use super::sample::checked_largest;
use crate::error::Error;

/// The log-probability of a token, and of the most likely ones in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogProb {
    /// Token id.
    pub id: u32,
    /// Natural logarithm of its probability, at most 0.
    pub log_prob: f32,
    /// The most likely tokens with theirs, most likely first, lower ids first among equals.
    pub top: Vec<(u32, f32)>,
}

/// Log-probability of `id` and of the `top` most likely tokens, under the model's own distribution: before constraints,
/// penalties, temperature and all other steps of sampling.
///
/// # Errors
/// [`Error::NonFiniteLogit`] and [`Error::NoCandidates`] as in sampling, [`Error::TokenOutOfRange`] if `id` has no logit.
pub fn token_log_prob(logits: &[f32], id: u32, top: usize) -> Result<TokenLogProb, Error> {
    let max = checked_largest(logits)?;
    let chosen = *logits.get(id as usize).ok_or(Error::TokenOutOfRange { id, vocabulary: logits.len() })?;
    let sum: f64 = logits
        .chunks(64)
        .map(|chunk| f64::from(chunk.iter().map(|&logit| exp_nonpositive(logit - max)).sum::<f32>()))
        .sum();
    let log_sum = sum.ln();
    let log_prob = |logit: f32| ((f64::from(logit) - f64::from(max)) - log_sum) as f32;

    // Insertion into a short sorted list: `top` is a handful, and few logits beat the last of the list.
    let top = top.min(logits.len());
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(top + 1);
    for (other, &logit) in logits.iter().enumerate() {
        if top == 0 || best.len() == top && best[top - 1].1 >= logit {
            continue;
        }
        let place = best.partition_point(|&(_, value)| value >= logit);
        best.insert(place, (other as u32, logit));
        best.truncate(top);
    }
    best.iter_mut().for_each(|(_, value)| *value = log_prob(*value));
    Ok(TokenLogProb { id, log_prob: log_prob(chosen), top: best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_of_all_tokens_add_up_to_one() {
        let logits = [0.5f32, 2.0, 2.0, -1.0, f32::NEG_INFINITY];
        let all = token_log_prob(&logits, 3, 5).unwrap();
        assert_eq!(all.top.iter().map(|&(id, _)| id).collect::<Vec<_>>(), [1, 2, 0, 3, 4]);
        let sum: f32 = all.top.iter().map(|&(_, value)| value.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6);
        assert_eq!(all.log_prob, all.top[3].1);
        assert_eq!(all.top[4].1, f32::NEG_INFINITY);
        let expected = -1.0 - (0.5f64.exp() + 2.0 * 2f64.exp() + (-1f64).exp()).ln();
        assert!((f64::from(all.log_prob) - expected).abs() < 1e-6);
    }

    #[test]
    fn a_token_without_logit_is_an_error() {
        assert!(matches!(token_log_prob(&[0.0], 1, 0), Err(Error::TokenOutOfRange { id: 1, vocabulary: 1 })));
        assert!(matches!(token_log_prob(&[f32::NAN], 0, 0), Err(Error::NonFiniteLogit { id: 0, .. })));
    }
}
