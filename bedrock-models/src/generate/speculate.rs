//! Guessing tokens ahead, so that one pass through a model can check several: prompt lookup (Saxena 2023) and speculative sampling
//! (Leviathan et al. 2023, Chen et al. 2023).
//!
//! A guess that is certain (one from [`lookup`], or the most likely token of a draft) needs no rule of its own: the sampler
//! chooses as ever from the logits after each guessed token, and the guess was right if it is what was chosen. The answer is then the same to
//! the bit. For tokens *drawn* from a draft's distribution there is [`Sampler::sample_drawn`], which is right more often.

use super::sample::{Candidate, Context, Sampler};
use crate::error::Error;

/// What followed when the context last had its present end: at most `most` tokens; none if its last two tokens
/// never came together before. Of several places, the one that has the most in common with the end, up to `longest`
/// tokens, and of those the latest.
pub fn lookup(context: Context<'_>, longest: usize, most: usize) -> Vec<u32> {
    let length = context.len();
    let in_common = |end: usize| {
        let back =
            (1..=end.min(longest.max(2))).take_while(|back| context.get(end - back) == context.get(length - back));
        back.count()
    };
    let (mut best, mut place) = (1, None);
    for end in (2..length).rev() {
        let common = in_common(end);
        if common > best {
            (best, place) = (common, Some(end));
            if best >= longest {
                break;
            }
        }
    }
    let Some(place) = place else { return Vec::new() };
    // What follows may reach the end of the context, and then goes on with what was guessed: a period repeats.
    let mut guess: Vec<u32> = Vec::with_capacity(most);
    for index in place..place + most {
        let token = index.checked_sub(length).map_or_else(|| context.get(index), |index| guess[index]);
        guess.push(token);
    }
    guess
}

/// A token and the distribution it was drawn from.
#[derive(Debug, Clone, Copy)]
pub struct Drawn<'a> {
    /// The token.
    pub token: u32,
    /// What [`Sampler::distribution`] gave, ascending by id.
    pub from: &'a [Candidate],
}

impl Sampler {
    /// Draws a token from [`distribution`](Self::distribution), which is returned with it.
    ///
    /// # Errors
    /// As [`sample`](Self::sample).
    pub fn draw(&mut self, logits: &[f32], context: Context<'_>) -> Result<(u32, Vec<Candidate>), Error> {
        let candidates = self.distribution(logits, context)?;
        let uniform = self.uniform();
        let id = at(candidates.iter().map(|candidate| (candidate.id, f64::from(candidate.probability))), uniform);
        Ok((id, candidates))
    }

    /// Chooses the next token like [`sample`](Self::sample), from the same distribution `p`, but so that it is `drawn` as often as can be: with
    /// probability `min(1, p / q)`, where `q` is what it was drawn from; otherwise a token from `p - q` where that is
    /// positive.
    ///
    /// Each call draws two random numbers.
    ///
    /// # Errors
    /// As [`sample`](Self::sample).
    pub fn sample_drawn(&mut self, logits: &[f32], context: Context<'_>, drawn: Drawn<'_>) -> Result<u32, Error> {
        let candidates = self.distribution(logits, context)?;
        let uniform = [self.uniform(), self.uniform()];
        Ok(accept(&candidates, drawn, uniform))
    }
}

fn accept(p: &[Candidate], drawn: Drawn<'_>, [first, second]: [f64; 2]) -> u32 {
    let probability = |list: &[Candidate], id: u32| {
        list.binary_search_by_key(&id, |candidate| candidate.id).map_or(0.0, |index| f64::from(list[index].probability))
    };
    if first * probability(drawn.from, drawn.token) < probability(p, drawn.token) {
        return drawn.token;
    }
    let rest = p.iter().map(|candidate| {
        (candidate.id, (f64::from(candidate.probability) - probability(drawn.from, candidate.id)).max(0.0))
    });
    at(rest, second)
}

/// The id at a share of the sum of weights; the likeliest if they are all zero, which only rounding can bring about.
fn at(weights: impl Iterator<Item = (u32, f64)> + Clone, share: f64) -> u32 {
    let target = share * weights.clone().map(|(_, weight)| weight).sum::<f64>();
    let mut sum = 0.0;
    let mut last = None;
    for (id, weight) in weights.clone().filter(|(_, weight)| *weight > 0.0) {
        sum += weight;
        last = Some(id);
        if sum > target {
            break;
        }
    }
    last.or_else(|| weights.map(|(id, _)| id).next()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::generate::SamplingParams;

    fn candidates(weights: &[u8]) -> Vec<Candidate> {
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let list = weights.iter().enumerate().filter(|(_, weight)| **weight > 0);
        let candidate = |(id, weight): (usize, &u8)| Candidate {
            id: id as u32,
            logit: 0.0,
            probability: (f64::from(*weight) / total) as f32,
        };
        list.map(candidate).collect()
    }

    /// Weights of which one at least is not zero.
    fn weights() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 6)
            .prop_filter("a distribution", |w| w.iter().any(|w| *w > 0))
    }

    proptest! {
        #[test]
        fn what_is_accepted_or_replaced_has_the_distribution_of_the_target(p in weights(), q in weights()) {
            let (p, q) = (candidates(&p), candidates(&q));
            // The distribution of `accept` over a fine grid of both random numbers, weighted by that of the draw.
            const GRID: usize = 400;
            let mut got = [0.0f64; 6];
            for drawn in &q {
                let drawn_from = Drawn { token: drawn.id, from: &q };
                let uniform = |i: usize| (i as f64 + 0.5) / GRID as f64;
                let accepted = (0..GRID).filter(|i| accept(&p, drawn_from, [uniform(*i), f64::NAN]) == drawn.id).count();
                let rejected = GRID - accepted;
                got[drawn.id as usize] += f64::from(drawn.probability) * accepted as f64 / GRID as f64;
                for i in 0..GRID {
                    if rejected > 0 {
                        let id = accept(&p, drawn_from, [1.0, uniform(i)]);
                        got[id as usize] += f64::from(drawn.probability) * rejected as f64 / GRID as f64 / GRID as f64;
                    }
                }
            }
            for (id, got) in got.iter().enumerate() {
                let want = p.iter().find(|c| c.id == id as u32).map_or(0.0, |c| f64::from(c.probability));
                prop_assert!((got - want).abs() < 0.02, "{id}: {got} {want} of {p:?} {q:?}");
            }
        }

        #[test]
        fn a_guess_is_what_followed_the_same_end(
            tokens in prop::collection::vec(0u32..3, 0..40), split in 0usize..40, longest in 2usize..6, most in 0usize..6
        ) {
            let (prompt, generated) = tokens.split_at(split.min(tokens.len()));
            let guess = lookup(Context { prompt, generated }, longest, most);
            // The obvious way: the longest end, at its latest place.
            let naive = (2..=longest.min(tokens.len())).rev().find_map(|n| {
                let end = &tokens[tokens.len() - n..];
                (n..tokens.len()).rev().find(|place| &tokens[place - n..*place] == end)
            });
            match naive {
                None => prop_assert_eq!(guess, Vec::<u32>::new()),
                Some(place) => {
                    let mut all = tokens.clone();
                    (0..most).for_each(|i| all.push(all[place + i]));
                    prop_assert_eq!(&guess[..], &all[tokens.len()..]);
                }
            }
        }
    }

    #[test]
    fn drawn_and_checked_tokens_have_the_frequencies_of_the_target() {
        let params = |seed, temperature| SamplingParams { seed: Some(seed), temperature, ..SamplingParams::default() };
        let (mut draft, mut target) = (Sampler::new(params(1, 1.0)).unwrap(), Sampler::new(params(2, 0.7)).unwrap());
        let (guessed, right) = ([0.0f32, 1.0, 0.5, -1.0], [1.0f32, 0.3, -0.5, f32::NEG_INFINITY]);
        let expected = target.distribution(&right, Context::default()).unwrap();
        const DRAWS: usize = 40_000;
        let (mut counts, mut accepted) = ([0usize; 4], 0);
        for _ in 0..DRAWS {
            let (token, from) = draft.draw(&guessed, Context::default()).unwrap();
            let id = target.sample_drawn(&right, Context::default(), Drawn { token, from: &from }).unwrap();
            counts[id as usize] += 1;
            accepted += usize::from(id == token);
        }
        let q = draft.distribution(&guessed, Context::default()).unwrap();
        let overlap: f32 = expected.iter().map(|p| p.probability.min(q[p.id as usize].probability)).sum();
        assert!((accepted as f32 / DRAWS as f32 - overlap).abs() < 0.012);
        assert_eq!(counts[3], 0);
        for candidate in expected {
            let share = counts[candidate.id as usize] as f32 / DRAWS as f32;
            assert!((share - candidate.probability).abs() < 0.012, "{candidate:?} {share}");
        }
    }
}
