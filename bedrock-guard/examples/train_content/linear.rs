//! Logistic regression over hashed features, by AdaGrad.

use bedrock_guard::train::{BY_PARTS, CATEGORIES, KINDS, ROWS, decoded, features, parts, pieces};

use crate::grammar::Grammar;
use crate::items::{Item, Labels};
use crate::noise::{Random, noisy};

pub(crate) struct Plan {
    pub(crate) epochs: usize,
    pub(crate) rate: f32,
    /// Rounds of sentences made by the grammar.
    pub(crate) sentences: usize,
    /// Weight of the sentences of HateCheck.
    pub(crate) functions: f32,
    /// Models that are averaged.
    pub(crate) drawings: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self { epochs: 8, rate: 0.2, sentences: 600, functions: 1.0, drawings: 8 }
    }
}

pub(crate) struct Linear {
    pub(crate) bias: [f32; CATEGORIES],
    pub(crate) weights: Vec<[f32; CATEGORIES]>,
    pub(crate) rarity: Vec<f32>,
}

type Features = Vec<(u32, f32)>;

struct Sample {
    features: Features,
    labels: Labels,
    weight: f32,
}

/// Rows and their values: how often, times how rare, over the norm of the kind.
fn weigh(piece: &str, rarity: &[f32]) -> Features {
    let mut found = features(piece);
    let mut norms = [1e-6f32; KINDS];
    for (kind, row) in &found {
        norms[*kind] += rarity[*row as usize] * rarity[*row as usize];
    }
    found.sort_unstable_by_key(|(_, row)| *row);
    let mut out: Features = Vec::with_capacity(found.len());
    for (kind, row) in found {
        let value = rarity[row as usize] / norms[kind].sqrt();
        match out.last_mut() {
            Some(last) if last.0 == row => last.1 += value,
            _ => out.push((row, value)),
        }
    }
    out
}

impl Linear {
    /// Logits as the filter computes them: the worst of the pieces and of what is encoded in them.
    pub(crate) fn logits(&self, text: &str) -> [f32; CATEGORIES] {
        let mut worst = [f32::NEG_INFINITY; CATEGORIES];
        for piece in pieces(text) {
            worst.iter_mut().zip(self.piece(piece)).for_each(|(worst, logit)| *worst = worst.max(logit));
        }
        worst
    }

    /// Logits of one piece, as the filter computes them.
    pub(crate) fn piece(&self, piece: &str) -> [f32; CATEGORIES] {
        let mut worst = [f32::NEG_INFINITY; CATEGORIES];
        for text in decoded(piece).iter().map(String::as_str).chain([piece]) {
            let logits = self.of(&weigh(text, &self.rarity));
            worst.iter_mut().zip(logits).for_each(|(worst, logit)| *worst = worst.max(logit));
        }
        let parts = parts(piece);
        for part in parts.iter().filter(|_| parts.len() > 1) {
            let logits = self.of(&weigh(part, &self.rarity));
            BY_PARTS.into_iter().for_each(|category| worst[category] = worst[category].max(logits[category]));
        }
        worst
    }

    fn of(&self, features: &Features) -> [f32; CATEGORIES] {
        let mut logits = self.bias;
        for (row, value) in features {
            let weights = &self.weights[*row as usize];
            logits.iter_mut().zip(weights).for_each(|(logit, weight)| *logit += weight * value);
        }
        logits
    }

    /// The mean of several models of other drawings of sentences, misspellings and order: which single sentences a filter is sure of is partly chance.
    pub(crate) fn train(items: &[&Item], grammar: &Grammar, plan: &Plan) -> Self {
        let models: Vec<Self> = std::thread::scope(|scope| {
            let one = |drawing: usize| scope.spawn(move || Self::one(items, grammar, plan, drawing as u64));
            let threads: Vec<_> = (0..plan.drawings).map(one).collect();
            threads.into_iter().map(|thread| thread.join().expect("training does not panic")).collect()
        });
        let mut sum = models.into_iter().reduce(|mut sum, model| {
            sum.bias.iter_mut().zip(model.bias).for_each(|(sum, bias)| *sum += bias);
            let all = sum.weights.as_flattened_mut().iter_mut().zip(model.weights.as_flattened());
            all.for_each(|(sum, weight)| *sum += weight);
            sum
        });
        let mean = sum.as_mut().expect("at least one drawing");
        let share = 1.0 / plan.drawings as f32;
        mean.bias.iter_mut().chain(mean.weights.as_flattened_mut()).for_each(|weight| *weight *= share);
        sum.expect("at least one drawing")
    }

    fn one(items: &[&Item], grammar: &Grammar, plan: &Plan, drawing: u64) -> Self {
        let mut random = Random(1 + (drawing << 32));
        let mut counts = vec![0f32; ROWS];
        for item in items {
            let mut rows: Vec<u32> = features(&item.text).into_iter().map(|(_, row)| row).collect();
            rows.sort_unstable();
            rows.dedup();
            rows.into_iter().for_each(|row| counts[row as usize] += 1.0);
        }
        let rarity: Vec<f32> =
            counts.iter().map(|count| ((1.0 + items.len() as f32) / (1.0 + count)).ln() + 1.0).collect();
        let mut samples = Vec::new();
        let mut add = |text: &str, labels: Labels, weight: f32| {
            samples.push(Sample { features: weigh(text, &rarity), labels, weight });
        };
        for item in items {
            let weight = if item.function.is_empty() { 1.0 } else { plan.functions };
            let cut = pieces(&item.text);
            for piece in &cut {
                add(piece, item.labels, weight / (cut.len() as f32).sqrt());
                // Every part of a harmless text is harmless; which part of another is not is unknown.
                let parts = parts(piece);
                let harmless =
                    |category: usize| item.labels[category].filter(|yes| !yes && BY_PARTS.contains(&category));
                let labels = std::array::from_fn(harmless);
                for part in parts.iter().filter(|_| parts.len() > 1) {
                    add(part, labels, weight / ((cut.len() * parts.len()) as f32).sqrt());
                }
            }
            if cut.len() == 1 && random.chance(0.25) {
                add(&noisy(&item.text, &mut random), item.labels, weight);
            }
        }
        let mut said = grammar.sentences(&mut random, plan.sentences, drawing);
        said.extend(grammar.requests(plan.sentences, drawing));
        said.extend(grammar.records(plan.sentences, drawing));
        for (text, labels) in said {
            let text = if random.chance(0.15) { noisy(&text, &mut random) } else { text };
            add(&text, labels, 1.0);
        }
        let mut model = Self { bias: [0.0; CATEGORIES], weights: vec![[0.0; CATEGORIES]; ROWS], rarity };
        let mut squares = vec![[1e-3f32; CATEGORIES]; ROWS];
        let mut order: Vec<usize> = (0..samples.len()).collect();
        for epoch in 0..plan.epochs {
            for last in (1..order.len()).rev() {
                order.swap(last, random.below(last + 1));
            }
            let rate = plan.rate * (1.0 - epoch as f32 / plan.epochs as f32).max(0.1);
            for index in &order {
                model.step(&samples[*index], rate, &mut squares);
            }
        }
        model
    }

    fn step(&mut self, sample: &Sample, rate: f32, squares: &mut [[f32; CATEGORIES]]) {
        let logits = self.of(&sample.features);
        let slopes: [f32; CATEGORIES] = std::array::from_fn(|category| match sample.labels[category] {
            Some(yes) => (1.0 / (1.0 + (-logits[category]).exp()) - f32::from(u8::from(yes))) * sample.weight,
            None => 0.0,
        });
        if slopes.iter().all(|slope| slope.abs() < 1e-3) {
            return;
        }
        for (row, value) in &sample.features {
            let (weights, squares) = (&mut self.weights[*row as usize], &mut squares[*row as usize]);
            for category in 0..CATEGORIES {
                let slope = slopes[category] * value;
                squares[category] += slope * slope;
                weights[category] -= rate * slope / squares[category].sqrt();
            }
        }
        for (bias, slope) in self.bias.iter_mut().zip(slopes) {
            *bias -= rate * 0.01 * slope;
        }
    }
}
