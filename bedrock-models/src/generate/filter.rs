//! The set of tokens that may still be chosen, and the steps that make it smaller.
//!
//! Each step is the one of the same name in transformers' `generation/logits_process.py`, without its full sort: a bound
//! is found by selection, in time proportional to the size of the set.

use super::exp::{BlockSums, largest, sum_above};

/// Tokens with their logits, in ascending order of ids. All buffers are kept from token to token.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// Empty while all tokens are candidates.
    ids: Vec<u32>,
    pub(super) logits: Vec<f32>,
    is_all: bool,
    weights: Vec<f32>,
    blocks: BlockSums,
    keys: Vec<f32>,
    ranked: Vec<Ranked>,
}

/// A candidate while a bound on its rank is sought.
#[derive(Debug, Clone, Copy)]
struct Ranked {
    /// Larger comes first.
    key: f32,
    weight: f32,
}

impl Candidates {
    /// Starts over with all tokens.
    pub(super) fn reset(&mut self, logits: &[f32]) {
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        self.ids.clear();
        self.is_all = true;
    }

    pub(super) fn len(&self) -> usize {
        self.logits.len()
    }

    pub(super) fn id(&self, index: usize) -> u32 {
        if self.is_all { index as u32 } else { self.ids[index] }
    }

    /// Largest logit of the set.
    pub(super) fn max(&self) -> f32 {
        largest(&self.logits).unwrap_or(f32::NEG_INFINITY)
    }

    /// Probabilities times their sum, which is returned: `e^(logit - max)`.
    pub(super) fn weigh(&mut self) -> f64 {
        let max = self.max();
        self.blocks.fill(&self.logits, max, &mut self.weights)
    }

    /// The weights of the last [`weigh`](Self::weigh).
    pub(super) fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The candidate at a position of the sum of the last weights.
    pub(super) fn at(&self, position: f64) -> u32 {
        self.id(self.blocks.find(&self.weights, position))
    }

    /// Keeps the tokens for which the function of position and logit is true.
    fn retain(&mut self, mut keep: impl FnMut(usize, f32) -> bool) {
        let mut kept = 0;
        if self.is_all {
            self.ids.clear();
        }
        for index in 0..self.logits.len() {
            let logit = self.logits[index];
            if keep(index, logit) {
                if self.is_all {
                    self.ids.push(index as u32);
                } else {
                    self.ids[kept] = self.ids[index];
                }
                self.logits[kept] = logit;
                kept += 1;
            }
        }
        self.ids.truncate(kept);
        self.logits.truncate(kept);
        self.is_all = false;
    }

    /// Drops tokens that cannot be chosen at all.
    pub(super) fn drop_banned(&mut self) {
        if self.logits.contains(&f32::NEG_INFINITY) {
            self.retain(|_, logit| logit != f32::NEG_INFINITY);
        }
    }

    /// `TopKLogitsWarper`: those at least as likely as the `k`-th.
    pub(super) fn top_k(&mut self, k: usize) {
        if k == 0 || k >= self.len() {
            return;
        }
        let bound = kth_largest(&self.logits, k, &mut self.keys);
        self.retain(|_, logit| logit >= bound);
    }

    /// `TopPLogitsWarper`: the fewest most likely ones that hold the mass `p`. Of equally likely ones at the bound, the
    /// lowest ids stay (transformers leaves this to its sort).
    pub(super) fn top_p(&mut self, p: f32) {
        let total = self.weigh();
        let target = f64::from(p) * total;
        // Mostly a few tokens hold nearly all mass: look for the bound among those alone.
        let mut bound = 0.0;
        for coarse in [1e-1, 1e-2, 1e-3, 1e-5] {
            if sum_above(&self.weights, coarse) > target * 1.0001 {
                bound = coarse;
                break;
            }
        }
        self.ranked.clear();
        let above = self.weights.iter().filter(|&&weight| weight >= bound);
        self.ranked.extend(above.map(|&weight| Ranked { key: weight, weight }));
        let (bound, mut ties) = nucleus(&mut self.ranked, target);
        let weights = std::mem::take(&mut self.weights);
        self.retain(|index, _| {
            let weight = weights[index];
            if weight != bound {
                return weight > bound;
            }
            let kept = ties > 0;
            ties = ties.saturating_sub(1);
            kept
        });
        self.weights = weights;
    }

    /// `MinPLogitsWarper`: those at least `p` times as likely as the most likely one.
    pub(super) fn min_p(&mut self, p: f32) {
        self.weigh();
        let weights = std::mem::take(&mut self.weights);
        self.retain(|index, _| weights[index] >= p);
        self.weights = weights;
    }

    /// `TypicalLogitsWarper`: those whose information content is nearest to the entropy, up to the mass `p`; all of
    /// those that are equally near as the last.
    pub(super) fn typical_p(&mut self, p: f32) {
        let total = self.weigh();
        let max = self.max();
        let log_total = total.ln();
        let entropy = self.entropy(total);
        self.keys.clear();
        // Minus the distance, so that near is large.
        self.keys
            .extend(self.logits.iter().map(|&logit| -((log_total - f64::from(logit - max) - entropy).abs() as f32)));
        self.ranked.clear();
        let pairs = self.keys.iter().zip(&self.weights);
        self.ranked.extend(pairs.map(|(&key, &weight)| Ranked { key, weight }));
        let (bound, _) = nucleus(&mut self.ranked, f64::from(p) * total);
        let keys = std::mem::take(&mut self.keys);
        self.retain(|index, _| keys[index] >= bound);
        self.keys = keys;
    }

    /// `EpsilonLogitsWarper`: those with at least this probability, and the most likely one.
    pub(super) fn epsilon_cutoff(&mut self, epsilon: f32) {
        let total = self.weigh();
        self.cut(f64::from(epsilon) * total);
    }

    /// `EtaLogitsWarper`: as above, with a bound that falls as the distribution gets flatter.
    pub(super) fn eta_cutoff(&mut self, epsilon: f32) {
        let total = self.weigh();
        let epsilon = f64::from(epsilon);
        let eta = epsilon.min(epsilon.sqrt() * (-self.entropy(total)).exp());
        self.cut(eta * total);
    }

    fn cut(&mut self, bound: f64) {
        let max = self.max();
        let weights = std::mem::take(&mut self.weights);
        self.retain(|index, logit| f64::from(weights[index]) >= bound || logit >= max);
        self.weights = weights;
    }

    /// Entropy in nats, from the last weights and their sum.
    fn entropy(&self, total: f64) -> f64 {
        let max = self.max();
        let mut mean_logit = 0.0;
        for (&weight, &logit) in self.weights.iter().zip(&self.logits) {
            if weight > 0.0 {
                mean_logit += f64::from(weight) * f64::from(logit - max);
            }
        }
        total.ln() - mean_logit / total
    }
}

/// The `k`-th largest value, `1 <= k <= values.len()`, counting equal ones separately.
fn kth_largest(values: &[f32], k: usize, best: &mut Vec<f32>) -> f32 {
    // `best` holds at least the k largest so far; whenever it gets twice too long it is cut, and the bound rises.
    let room = (2 * k).max(256);
    let mut bound = f32::NEG_INFINITY;
    best.clear();
    let cut = |best: &mut Vec<f32>| {
        let (_, kth, _) = best.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
        let kth = *kth;
        best.truncate(k);
        kth
    };
    for chunk in values.chunks(32) {
        let top = chunk.iter().copied().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
        if top <= bound && best.len() >= k {
            continue;
        }
        for &value in chunk {
            if value > bound || best.len() < k {
                best.push(value);
            }
        }
        if best.len() >= room {
            bound = cut(best);
        }
    }
    cut(best)
}

/// The shortest beginning of the items, sorted by falling key, whose weights add up to `target`: returns the key of its
/// last item, and how many items of that key belong to it. At least one item, all if they don't reach the target.
///
/// Quickselect by weight: linear time on average, and no sort. The items are reordered.
fn nucleus(items: &mut [Ranked], mut target: f64) -> (f32, usize) {
    let mut rest = items;
    let mut lowest = (f32::NEG_INFINITY, usize::MAX);
    while !rest.is_empty() {
        let pivot = median(rest[0].key, rest[rest.len() / 2].key, rest[rest.len() - 1].key);
        // Greater keys to the front, equal ones in the middle.
        let (mut greater, mut next, mut less) = (0, 0, rest.len());
        let (mut mass_greater, mut mass_equal) = (0f64, 0f64);
        while next < less {
            let item = rest[next];
            if item.key > pivot {
                mass_greater += f64::from(item.weight);
                rest.swap(greater, next);
                greater += 1;
                next += 1;
            } else if item.key < pivot {
                less -= 1;
                rest.swap(next, less);
            } else {
                mass_equal += f64::from(item.weight);
                next += 1;
            }
        }
        if greater > 0 && mass_greater >= target {
            rest = &mut rest[..greater];
            continue;
        }
        target -= mass_greater;
        if mass_equal >= target {
            // Equal keys may have different weights, but only where their number does not matter.
            let mut taken = 0;
            let equal = &rest[greater..less];
            for item in equal {
                target -= f64::from(item.weight);
                taken += 1;
                if target <= 0.0 {
                    break;
                }
            }
            return (pivot, taken);
        }
        target -= mass_equal;
        lowest = (pivot, less - greater);
        rest = &mut rest[less..];
    }
    lowest
}

fn median(a: f32, b: f32, c: f32) -> f32 {
    a.min(b).max(a.max(b).min(c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_kth_largest_is_that_of_a_sort(values in prop::collection::vec(-5i8..5, 1..700), k in 1usize..700) {
            let values: Vec<f32> = values.into_iter().map(f32::from).collect();
            let k = k.min(values.len());
            let mut sorted = values.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            prop_assert_eq!(kth_largest(&values, k, &mut Vec::new()), sorted[k - 1]);
        }

        #[test]
        fn the_nucleus_is_that_of_a_sort(weights in prop::collection::vec(0u8..20, 1..200), percent in 0u32..110) {
            // Integers, so that sums are exact in any order.
            let total: u32 = weights.iter().map(|&weight| u32::from(weight)).sum();
            let target = f64::from(total * percent) / 100.0;
            let mut sorted = weights.clone();
            sorted.sort_by(|a, b| b.cmp(a));
            let mut sum = 0.0;
            let mut count = 0;
            for &weight in &sorted {
                sum += f64::from(weight);
                count += 1;
                if sum >= target {
                    break;
                }
            }
            let mut items: Vec<Ranked> = weights.iter().map(|&w| Ranked { key: f32::from(w), weight: f32::from(w) }).collect();
            let (bound, ties) = nucleus(&mut items, target);
            let above = weights.iter().filter(|&&weight| f32::from(weight) > bound).count();
            let equal = weights.iter().filter(|&&weight| f32::from(weight) == bound).count();
            prop_assert_eq!(above + ties.min(equal), count);
        }
    }
}
