//! How well a language model predicts a text.

use serde::Serialize;

use crate::arch::{Cache, Outputs, Step};
use crate::error::Error;
use crate::generate::token_log_prob;
use crate::language_model::{LanguageModel, rows_of};
use crate::layers::{Phase, Run};

/// Rows whose logits are in memory at once.
const ROWS: usize = 128;

/// What [`LanguageModel::perplexity`] found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Perplexity {
    /// Tokens that were predicted: all but the first.
    pub tokens: usize,
    /// Mean of their negative log-probabilities, natural logarithm.
    pub loss: f64,
    /// Its exponential.
    pub perplexity: f64,
}

/// A window over the tokens of a text, and which of them it scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    begin: usize,
    scored: usize,
    end: usize,
}

/// Windows of at most `context` tokens that score each token but the first once, the first window as many as it can and each later one
/// `stride` at most: those of Hugging Face's guide. A token needs one before it, so that no more than `context - 1` are
/// scored by a later window.
fn windows(tokens: usize, context: usize, stride: usize) -> impl Iterator<Item = Window> {
    let stride = stride.min(context - 1);
    let mut next = 1;
    (0..).step_by(stride).map_while(move |begin| {
        let window = Window { begin, scored: next, end: tokens.min(begin + context) };
        (next < tokens).then(|| {
            next = window.end;
            window
        })
    })
}

impl LanguageModel {
    /// The perplexity of a text's tokens. Each token but the first is predicted once, from the tokens before it: in windows of `context`
    /// tokens, each of which begins `stride` tokens after the one before, so that but for the first ones every token has
    /// at least `context - stride` before it. The smaller the stride, the better and the slower.
    ///
    /// # Errors
    /// [`Error::NoTokens`] of fewer than two tokens, [`Error::TokenOutOfRange`]; [`Error::InvalidParameter`] unless `context` is at least
    /// 2, at most [`LanguageModel::max_tokens`], and `stride` at least 1 and at most `context`;
    /// [`Error::PromptWithoutLogits`] if the model has an encoder; [`Error::NonFiniteLogit`].
    pub fn perplexity(&self, tokens: &[u32], context: usize, stride: usize) -> Result<Perplexity, Error> {
        let wrong = |name, got: usize, most: usize, least: usize| {
            let expected = format!("{least} to {most}");
            Err(Error::InvalidParameter { name, got: got.to_string(), expected })
        };
        if !(2..=self.max_tokens()).contains(&context) {
            return wrong("context", context, self.max_tokens(), 2);
        }
        if !(1..=context).contains(&stride) {
            return wrong("stride", stride, context, 1);
        }
        if tokens.len() < 2 {
            return Err(Error::NoTokens);
        }
        if self.has_encoder() {
            return Err(Error::PromptWithoutLogits { path: self.path.clone() });
        }
        let mut sum = 0.0;
        for Window { begin, scored, end } in windows(tokens.len(), context, stride) {
            let window = &tokens[begin..end];
            self.check_tokens(window)?;
            let mut cache = Cache::new(self.network.layers());
            let mut step = Step::new(Phase::Prompt, Outputs::All, &|| false);
            step.push(window, &mut cache);
            let hidden = self.network.hidden(&self.compute, &mut step).expect("wants rows and is not cancelled");
            let run = Run { compute: &self.compute, phase: Phase::Prompt };
            // The row before a token predicts it.
            let wanted: Vec<usize> = (scored - begin - 1..end - begin - 1).collect();
            for part in wanted.chunks(ROWS) {
                let rows = hidden.clone().narrow(0, part[0], part.len());
                for (row, logits) in part.iter().zip(rows_of(self.network.logits(run, rows), self.vocab_size)) {
                    sum -= f64::from(token_log_prob(&logits, window[row + 1], 0)?.log_prob);
                }
            }
        }
        let count = tokens.len() - 1;
        let loss = sum / count as f64;
        Ok(Perplexity { tokens: count, loss, perplexity: loss.exp() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_but_the_first_is_scored_once() {
        for (tokens, context, stride) in
            [(2, 2, 1), (10, 4, 2), (10, 4, 4), (10, 4, 1), (11, 4, 3), (3, 8, 8), (100, 7, 5)]
        {
            let mut next = 1;
            for (index, window) in windows(tokens, context, stride).enumerate() {
                assert_eq!(window.scored, next);
                assert!(window.end > next && window.end - window.begin <= context && window.scored > window.begin);
                assert!(index == 0 || window.end - window.scored <= stride);
                next = window.end;
            }
            assert_eq!(next, tokens, "{context} {stride}");
        }
    }

    /// As the loop of the guide: `range(0, len, stride)`, ends at `begin + context`.
    #[test]
    fn windows_are_those_of_the_guide() {
        let got: Vec<Window> = windows(10, 6, 3).collect();
        let window = |begin, scored, end| Window { begin, scored, end };
        assert_eq!(got, [window(0, 1, 6), window(3, 6, 9), window(6, 9, 10)]);
    }
}
