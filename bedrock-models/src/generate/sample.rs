//! Choosing the next token.

use std::hash::{BuildHasher, Hasher, RandomState};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::SamplingParams;
use super::exp::largest;
use super::filter::Candidates;
use crate::error::Error;

/// The tokens before the one to choose.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context<'a> {
    /// The prompt.
    pub prompt: &'a [u32],
    /// What was generated after it.
    pub generated: &'a [u32],
}

impl Context<'_> {
    pub(super) fn len(&self) -> usize {
        self.prompt.len() + self.generated.len()
    }

    pub(super) fn get(&self, index: usize) -> u32 {
        match index.checked_sub(self.prompt.len()) {
            None => self.prompt[index],
            Some(index) => self.generated[index],
        }
    }

    fn iter(&self) -> impl Iterator<Item = u32> {
        self.prompt.iter().chain(self.generated).copied()
    }
}

/// A token that may be chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Token id.
    pub id: u32,
    /// Its logit after penalties and temperature.
    pub logit: f32,
    /// Its probability of being chosen.
    pub probability: f32,
}

/// Chooses tokens, one generation long. Keeps its buffers, so that no memory is allocated from the second token on.
#[derive(Debug)]
pub struct Sampler {
    params: SamplingParams,
    random: ChaCha8Rng,
    candidates: Candidates,
    /// Occurrences of each token, all zero between calls.
    counts: Vec<u32>,
}

impl Sampler {
    /// A sampler at the start of its random sequence.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] as [`SamplingParams::validate`].
    pub fn new(params: SamplingParams) -> Result<Self, Error> {
        params.validate()?;
        // Only has to differ from call to call: the standard library's hash keys do.
        let seed = params.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        // The whole key by hand: how `seed_from_u64` spreads a seed is not a promise.
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Ok(Self { params, random: ChaCha8Rng::from_seed(key), candidates: Candidates::default(), counts: Vec::new() })
    }

    /// The parameters in use.
    pub fn params(&self) -> &SamplingParams {
        &self.params
    }

    /// Chooses the next token from its logits, one for each token of the vocabulary.
    ///
    /// Each call draws one random number, unless the temperature is 0.
    ///
    /// # Errors
    /// [`Error::NonFiniteLogit`] for NaN or `+inf`, [`Error::NoCandidates`] if there are no logits or all are `-inf`,
    /// [`Error::TokenOutOfRange`] if the context has a token without a logit.
    pub fn sample(&mut self, logits: &[f32], context: Context<'_>) -> Result<u32, Error> {
        if self.params.temperature == 0.0 && !self.params.changes_logits() {
            let max = checked_largest(logits)?;
            return Ok(position(logits, max));
        }
        if !self.process(logits, context)? {
            let max = self.candidates.max();
            return Ok(position(&self.candidates.logits, max));
        }
        let total = self.candidates.weigh();
        let position = self.uniform() * total;
        Ok(self.candidates.at(position))
    }

    /// The tokens that [`sample`](Self::sample) would choose from, ascending by id, with their processed logits and
    /// probabilities. Draws no random number. At temperature 0 this is the one token of probability 1, with its logit before division.
    ///
    /// # Errors
    /// As [`sample`](Self::sample).
    pub fn distribution(&mut self, logits: &[f32], context: Context<'_>) -> Result<Vec<Candidate>, Error> {
        if !self.process(logits, context)? {
            let max = self.candidates.max();
            let id = position(&self.candidates.logits, max);
            return Ok(vec![Candidate { id, logit: max, probability: 1.0 }]);
        }
        self.candidates.drop_banned();
        let total = self.candidates.weigh();
        let candidates = &self.candidates;
        let list = candidates.weights().iter().enumerate().map(|(index, &weight)| Candidate {
            id: candidates.id(index),
            logit: candidates.logits[index],
            probability: (f64::from(weight) / total) as f32,
        });
        Ok(list.collect())
    }

    /// Applies all steps. False if the most likely token is to be taken: then only the logits were changed.
    fn process(&mut self, logits: &[f32], context: Context<'_>) -> Result<bool, Error> {
        checked_largest(logits)?;
        let params = &self.params;
        let candidates = &mut self.candidates;
        candidates.reset(logits);
        if params.changes_logits() {
            self.counts.resize(logits.len(), 0);
            change_logits(&mut candidates.logits, &mut self.counts, params, context)?;
            // A large penalty may overflow; all tokens may be banned now.
            checked_largest(&candidates.logits)?;
        }
        if params.temperature == 0.0 {
            return Ok(false);
        }
        if params.temperature != 1.0 {
            let hottest = candidates.logits.iter().fold(0f32, |a, &b| if b.is_finite() { a.max(b.abs()) } else { a });
            // So cold that the quotient overflows: the limit is the most likely token.
            if !(hottest / params.temperature).is_finite() {
                return Ok(false);
            }
            candidates.logits.iter_mut().for_each(|logit| *logit /= params.temperature);
        }
        if let Some(k) = params.top_k {
            candidates.top_k(k);
        }
        if let Some(p) = params.top_p.filter(|&p| p < 1.0) {
            candidates.top_p(p);
        }
        if let Some(p) = params.min_p.filter(|&p| p > 0.0) {
            candidates.min_p(p);
        }
        if let Some(p) = params.typical_p.filter(|&p| p < 1.0) {
            candidates.typical_p(p);
        }
        if params.epsilon_cutoff > 0.0 {
            candidates.epsilon_cutoff(params.epsilon_cutoff);
        }
        if params.eta_cutoff > 0.0 {
            candidates.eta_cutoff(params.eta_cutoff);
        }
        Ok(true)
    }

    /// The next number of the random sequence, in `0..1`, with 53 random bits.
    pub(super) fn uniform(&mut self) -> f64 {
        (self.random.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

/// Bias, penalties and bans, in place.
fn change_logits(
    logits: &mut [f32],
    counts: &mut [u32],
    params: &SamplingParams,
    context: Context<'_>,
) -> Result<(), Error> {
    let vocabulary = logits.len();
    let out_of_range = |id: u32| Error::TokenOutOfRange { id, vocabulary };
    if let Some(id) = context.iter().find(|&id| id as usize >= vocabulary) {
        return Err(out_of_range(id));
    }
    for &(id, bias) in &params.logit_bias {
        *logits.get_mut(id as usize).ok_or(out_of_range(id))? += bias;
    }
    if params.repetition_penalty != 1.0 {
        for id in context.iter() {
            let id = id as usize;
            if std::mem::replace(&mut counts[id], 1) == 0 {
                let logit = &mut logits[id];
                *logit =
                    if *logit < 0.0 { *logit * params.repetition_penalty } else { *logit / params.repetition_penalty };
            }
        }
        context.iter().for_each(|id| counts[id as usize] = 0);
    }
    if params.frequency_penalty != 0.0 || params.presence_penalty != 0.0 {
        context.generated.iter().for_each(|&id| counts[id as usize] += 1);
        for &id in context.generated {
            let count = std::mem::take(&mut counts[id as usize]);
            if count > 0 {
                logits[id as usize] -= count as f32 * params.frequency_penalty + params.presence_penalty;
            }
        }
    }
    let n = params.no_repeat_ngram_size;
    if n > 0 && context.len() >= n {
        // A token is banned if it would complete a sequence that is there already.
        let tail = context.len() + 1 - n;
        for start in 0..=context.len() - n {
            if (0..n - 1).all(|i| context.get(start + i) == context.get(tail + i)) {
                logits[context.get(start + n - 1) as usize] = f32::NEG_INFINITY;
            }
        }
    }
    Ok(())
}

/// The largest logit, which is finite.
pub(super) fn checked_largest(logits: &[f32]) -> Result<f32, Error> {
    match largest(logits) {
        Ok(f32::NEG_INFINITY) => Err(Error::NoCandidates { vocabulary: logits.len() }),
        Ok(max) => Ok(max),
        Err(index) => Err(Error::NonFiniteLogit { id: index as u32, value: logits[index] }),
    }
}

/// The first position of a value that is there.
fn position(logits: &[f32], value: f32) -> u32 {
    logits.iter().position(|&logit| logit == value).unwrap_or_default() as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The steps as transformers has them: a softmax and a full sort for each, in double precision.
    fn reference(logits: &[f32], params: &SamplingParams, context: &[u32]) -> Vec<(u32, f32, f64)> {
        let mut scores = logits.to_vec();
        let mut seen = context.to_vec();
        seen.sort_unstable();
        seen.dedup();
        for id in seen {
            let score = &mut scores[id as usize];
            *score = if *score < 0.0 { *score * params.repetition_penalty } else { *score / params.repetition_penalty };
        }
        let n = params.no_repeat_ngram_size;
        if n > 0 && context.len() + 1 >= n {
            let last = context[context.len() + 1 - n..].to_vec();
            for window in context.windows(n).filter(|window| window[..n - 1] == last) {
                scores[window[n - 1] as usize] = f32::NEG_INFINITY;
            }
        }
        scores.iter_mut().for_each(|score| *score /= params.temperature);

        let mut list: Vec<(u32, f32, f64)> =
            scores.iter().enumerate().map(|(id, &score)| (id as u32, score, 0.0)).collect();
        list.sort_by(|a, b| b.1.total_cmp(&a.1));
        let softmax = |list: &mut Vec<(u32, f32, f64)>| {
            let max = f64::from(list[0].1);
            let sum: f64 = list.iter().map(|item| (f64::from(item.1) - max).exp()).sum();
            list.iter_mut().for_each(|item| item.2 = (f64::from(item.1) - max).exp() / sum);
        };
        let entropy = |list: &[(u32, f32, f64)]| -> f64 {
            list.iter().map(|i| if i.2 > 0.0 { -i.2 * i.2.ln() } else { 0.0 }).sum()
        };
        if let Some(k) = params.top_k.filter(|&k| k > 0) {
            let bound = list[k.min(list.len()) - 1].1;
            list.retain(|item| item.1 >= bound);
        }
        softmax(&mut list);
        if let Some(p) = params.top_p.filter(|&p| p < 1.0) {
            let mut before = 0.0;
            let kept = list.iter().take_while(|item| {
                let keep = before < f64::from(p);
                before += item.2;
                keep
            });
            let kept = kept.count().max(1);
            list.truncate(kept);
        }
        softmax(&mut list);
        if let Some(p) = params.min_p {
            let bound = list[0].2 * f64::from(p);
            list.retain(|item| item.2 >= bound);
        }
        softmax(&mut list);
        if let Some(p) = params.typical_p.filter(|&p| p < 1.0) {
            let entropy = entropy(&list);
            let distance = |item: &(u32, f32, f64)| (-item.2.ln() - entropy).abs();
            let mut near = list.clone();
            near.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
            let mut sum = 0.0;
            let last = near.iter().position(|item| {
                sum += item.2;
                sum >= f64::from(p)
            });
            let bound = distance(&near[last.unwrap_or(near.len() - 1)]);
            list.retain(|item| distance(item) <= bound);
        }
        softmax(&mut list);
        if params.epsilon_cutoff > 0.0 {
            let top = list[0].1;
            list.retain(|item| item.2 >= f64::from(params.epsilon_cutoff) || item.1 >= top);
        }
        softmax(&mut list);
        if params.eta_cutoff > 0.0 {
            let epsilon = f64::from(params.eta_cutoff);
            let eta = epsilon.min(epsilon.sqrt() * (-entropy(&list)).exp());
            let top = list[0].1;
            list.retain(|item| item.2 >= eta || item.1 >= top);
        }
        list.retain(|item| item.1 != f32::NEG_INFINITY);
        softmax(&mut list);
        list.sort_by_key(|item| item.0);
        list
    }

    fn any_params() -> impl Strategy<Value = SamplingParams> {
        let first = (
            prop_oneof![Just(1.0f32), Just(1.3), Just(0.8)],
            0usize..4,
            prop_oneof![Just(1.0f32), Just(0.5), Just(2.0)],
            prop::option::of(0usize..60),
        );
        let second = (
            prop::option::of(0.05f32..1.0),
            prop::option::of(0.0f32..0.5),
            prop::option::of(0.05f32..1.0),
            prop_oneof![Just(0.0f32), 0.0f32..0.1],
            prop_oneof![Just(0.0f32), 0.0f32..0.1],
        );
        (first, second).prop_map(
            |(
                (repetition_penalty, no_repeat_ngram_size, temperature, top_k),
                (top_p, min_p, typical_p, epsilon_cutoff, eta_cutoff),
            )| {
                SamplingParams {
                    repetition_penalty,
                    no_repeat_ngram_size,
                    temperature,
                    top_k,
                    top_p,
                    min_p,
                    typical_p,
                    epsilon_cutoff,
                    eta_cutoff,
                    ..SamplingParams::default()
                }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]
        #[test]
        fn the_fast_way_is_the_obvious_way(
            // All different, so that the order of a sort is not in question.
            logits in prop::collection::hash_set(-800i16..800, 2..120).prop_map(|set| set.into_iter().map(|v| f32::from(v) / 64.0).collect::<Vec<_>>()),
            params in any_params(),
            context in prop::collection::vec(0usize..120, 0..40),
        ) {
            let context: Vec<u32> = context.into_iter().map(|id| (id % logits.len()) as u32).collect();
            let mut sampler = Sampler::new(params.clone()).unwrap();
            let (prompt, generated) = context.split_at(context.len() / 2);
            let got = sampler.distribution(&logits, Context { prompt, generated });
            let Ok(got) = got else {
                // Everything was banned.
                prop_assert!(params.no_repeat_ngram_size > 0);
                return Ok(());
            };
            let want = reference(&logits, &params, &context);
            // A rounding error may move a token across a bound, but only one that is right at it.
            prop_assert!(got.len().abs_diff(want.len()) <= 1, "{:?} {:?}", got, want);
            if got.len() == want.len() {
                for (got, want) in got.iter().zip(&want) {
                    prop_assert_eq!(got.id, want.0);
                    prop_assert!((got.logit - want.1).abs() <= 1e-5 * want.1.abs());
                    prop_assert!((f64::from(got.probability) - want.2).abs() < 1e-5);
                }
            }
        }

        #[test]
        fn hostile_logits_never_panic(
            bits in prop::collection::vec(any::<u32>(), 0..80),
            params in any_params(),
            temperature in any::<f32>(),
        ) {
            let logits: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
            let params = SamplingParams { temperature: temperature.abs(), ..params };
            let id = Sampler::new(params).and_then(|mut sampler| sampler.sample(&logits, Context::default()));
            if let Ok(id) = id {
                prop_assert!(logits[id as usize] > f32::NEG_INFINITY);
            }
        }
    }

    #[test]
    fn greedy_takes_the_lowest_id_of_the_largest() {
        let mut sampler = Sampler::new(SamplingParams::greedy()).unwrap();
        let mut logits = vec![0.0f32; 1000];
        (logits[700], logits[400], logits[999]) = (5.0, 5.0, 4.9);
        assert_eq!(sampler.sample(&logits, Context::default()).unwrap(), 400);
        // With a step before it that changes the logits, too.
        let penalty = SamplingParams { presence_penalty: 1.0, ..SamplingParams::greedy() };
        let mut sampler = Sampler::new(penalty).unwrap();
        assert_eq!(sampler.sample(&logits, Context { prompt: &[], generated: &[400] }).unwrap(), 700);
        assert_eq!(sampler.sample(&logits, Context { prompt: &[400], generated: &[] }).unwrap(), 400);
    }

    #[test]
    fn penalties_count_what_they_say() {
        let params = SamplingParams { frequency_penalty: 0.5, presence_penalty: 0.25, ..SamplingParams::default() };
        let mut sampler = Sampler::new(params).unwrap();
        let logits = [1.0f32, 1.0, 1.0, 1.0];
        for _ in 0..2 {
            let context = Context { prompt: &[0, 3], generated: &[1, 2, 1] };
            let list = sampler.distribution(&logits, context).unwrap();
            assert_eq!(list.iter().map(|c| c.logit).collect::<Vec<_>>(), [1.0, -0.25, 0.25, 1.0]);
        }
    }

    #[test]
    fn a_bias_bans_and_forces() {
        let logit_bias = vec![(1, f32::NEG_INFINITY), (2, 100.0)];
        let mut sampler = Sampler::new(SamplingParams { logit_bias, ..SamplingParams::default() }).unwrap();
        let list = sampler.distribution(&[0.0, 5.0, -3.0], Context::default()).unwrap();
        assert_eq!(list.iter().map(|c| c.id).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(sampler.sample(&[0.0, 5.0, -3.0], Context::default()).unwrap(), 2);
        let error = sampler.sample(&[0.0, 5.0], Context::default()).unwrap_err();
        assert!(matches!(error, Error::TokenOutOfRange { id: 2, vocabulary: 2 }));
    }

    #[test]
    fn the_random_sequence_never_changes() {
        let params = SamplingParams { temperature: 1.5, seed: Some(42), ..SamplingParams::default() };
        let logits: Vec<f32> = (0..5000).map(|i| ((i * 37) % 101) as f32 * 0.05).collect();
        let mut sampler = Sampler::new(params.clone()).unwrap();
        let ids: Vec<u32> = (0..8).map(|_| sampler.sample(&logits, Context::default()).unwrap()).collect();
        assert_eq!(ids, GOLDEN);
        let mut again = Sampler::new(params).unwrap();
        assert_eq!((0..8).map(|_| again.sample(&logits, Context::default()).unwrap()).collect::<Vec<_>>(), ids);
        let mut other = Sampler::new(SamplingParams { seed: Some(43), ..SamplingParams::default() }).unwrap();
        assert_ne!((0..8).map(|_| other.sample(&logits, Context::default()).unwrap()).collect::<Vec<_>>(), ids);
    }

    const GOLDEN: [u32; 8] = [1743, 1430, 2467, 1841, 4129, 335, 2451, 1332];

    #[test]
    fn frequencies_are_the_probabilities() {
        let params = SamplingParams { seed: Some(1), top_k: Some(3), ..SamplingParams::default() };
        let mut sampler = Sampler::new(params).unwrap();
        let logits = [1.0f32, 0.0, 2.0, -1.0, 0.5];
        let expected = sampler.distribution(&logits, Context::default()).unwrap();
        const DRAWS: usize = 40_000;
        let mut counts = [0usize; 5];
        for _ in 0..DRAWS {
            counts[sampler.sample(&logits, Context::default()).unwrap() as usize] += 1;
        }
        assert_eq!(counts.iter().filter(|&&count| count > 0).count(), 3);
        for candidate in expected {
            let share = counts[candidate.id as usize] as f32 / DRAWS as f32;
            // Four standard deviations of a share of one half are 0.01.
            assert!((share - candidate.probability).abs() < 0.012, "{candidate:?} {share}");
        }
    }

    #[test]
    fn unusable_logits_are_named() {
        let mut sampler = Sampler::new(SamplingParams::default()).unwrap();
        assert!(matches!(sampler.sample(&[], Context::default()), Err(Error::NoCandidates { vocabulary: 0 })));
        let banned = [f32::NEG_INFINITY; 3];
        assert!(matches!(sampler.sample(&banned, Context::default()), Err(Error::NoCandidates { vocabulary: 3 })));
        assert!(matches!(
            sampler.sample(&[0.0, f32::NAN], Context::default()),
            Err(Error::NonFiniteLogit { id: 1, .. })
        ));
        let mut greedy = Sampler::new(SamplingParams::greedy()).unwrap();
        assert!(matches!(
            greedy.sample(&[0.0, f32::INFINITY], Context::default()),
            Err(Error::NonFiniteLogit { id: 1, .. })
        ));
    }

    #[test]
    fn a_temperature_too_cold_to_divide_by_is_greedy() {
        let mut sampler = Sampler::new(SamplingParams { temperature: 1e-40, ..SamplingParams::default() }).unwrap();
        assert_eq!(sampler.sample(&[1.0, 3.0, 2.0], Context::default()).unwrap(), 1);
    }
}
