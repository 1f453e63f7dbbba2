//! Kinds of prompt attacks: multinomial regression over hashed features, by AdaGrad.

use std::collections::BTreeMap;

use bedrock_guard::train::{
    ATTACK_ROWS, ATTACKS, KINDS, attack_chances, attack_features, pieces, worst_attack, write_attacks,
};

use crate::grammar::Grammar;
use crate::items::{self, Item};
use crate::noise::{Random, noisy};

/// Sections of the grammar, in the order of the kinds.
pub(crate) const NAMES: [&str; ATTACKS] = ["jailbreak", "direct", "indirect", "leakage"];
/// Sentences of each section.
const SENTENCES: usize = 1000;
const EPOCHS: usize = 4;
const RATE: f32 = 0.1;

type Features = Vec<(u32, f32)>;

struct Model {
    bias: [f32; ATTACKS],
    weights: Vec<[f32; ATTACKS]>,
}

/// Rows and their values; each kind of feature is a mean of its own.
fn weigh(piece: &str) -> Features {
    let mut found = attack_features(piece);
    let mut counts = [0.0f32; KINDS];
    found.iter().for_each(|(kind, _)| counts[*kind] += 1.0);
    found.sort_unstable_by_key(|(_, row)| *row);
    let mut out: Features = Vec::with_capacity(found.len());
    for (kind, row) in found {
        let value = 1.0 / counts[kind].sqrt();
        match out.last_mut() {
            Some(last) if last.0 == row => last.1 += value,
            _ => out.push((row, value)),
        }
    }
    out
}

impl Model {
    fn chances(&self, features: &Features) -> [f32; ATTACKS] {
        let mut logits = self.bias;
        for (row, value) in features {
            let weights = &self.weights[*row as usize];
            logits.iter_mut().zip(weights).for_each(|(logit, weight)| *logit += weight * value);
        }
        attack_chances(logits)
    }

    fn train(items: &[&Item], grammar: &Grammar) -> Self {
        let mut random = Random(21);
        let mut samples: Vec<(Features, usize, f32)> = Vec::new();
        for item in items {
            let Some(kind) = item.attack else { continue };
            let cut = pieces(&item.text);
            // A text counts once, however long it is.
            let weight = 1.0 / cut.len() as f32;
            samples.extend(cut.iter().map(|piece| (weigh(piece), kind, weight)));
        }
        for (kind, name) in NAMES.iter().enumerate() {
            for _ in 0..SENTENCES {
                let text = grammar.say(name, &mut random);
                let text = if random.chance(0.15) { noisy(&text, &mut random) } else { text };
                samples.push((weigh(&text), kind, 1.0));
            }
        }
        // A kind counts as much as any other, however few are of it.
        let mut known = [0.0f32; ATTACKS];
        samples.iter().for_each(|(_, kind, weight)| known[*kind] += weight);
        let most = known.iter().copied().fold(1.0, f32::max);
        let mut model = Self { bias: [0.0; ATTACKS], weights: vec![[0.0; ATTACKS]; ATTACK_ROWS] };
        let mut squares = vec![[1e-3f32; ATTACKS]; ATTACK_ROWS];
        let mut order: Vec<usize> = (0..samples.len()).collect();
        for epoch in 0..EPOCHS {
            for last in (1..order.len()).rev() {
                order.swap(last, random.below(last + 1));
            }
            let rate = RATE * (1.0 - epoch as f32 / EPOCHS as f32);
            for index in &order {
                let (features, kind, weight) = &samples[*index];
                let mut slopes = model.chances(features);
                slopes[*kind] -= 1.0;
                let weight = weight * most / known[*kind];
                for (row, value) in features {
                    let (weights, squares) = (&mut model.weights[*row as usize], &mut squares[*row as usize]);
                    for kind in 0..ATTACKS {
                        let slope = slopes[kind] * weight * value;
                        squares[kind] += slope * slope;
                        weights[kind] -= rate * slope / squares[kind].sqrt();
                    }
                }
                model.bias.iter_mut().zip(slopes).for_each(|(bias, slope)| *bias -= rate * 0.01 * slope * weight);
            }
        }
        model
    }
}

/// Measures, and writes the file of weights.
pub(crate) fn run(items: &mut [Item], grammar: &Grammar, path: &str) -> Result<(), Box<dyn std::error::Error>> {
    measure(items, grammar, "folds of near duplicates");
    items::cut_by_source(items)?;
    measure(items, grammar, "sources left out");
    let train: Vec<&Item> = items.iter().filter(|item| item.trained).collect();
    let model = Model::train(&train, grammar);
    std::fs::write(path, write_attacks(model.bias, &model.weights))?;
    eprintln!("{path} is written");
    Ok(())
}

/// What models say of the attacks of folds that they were not trained on.
#[allow(clippy::print_stdout, reason = "a program's output")]
fn measure(items: &[Item], grammar: &Grammar, what: &str) {
    let mut tables: BTreeMap<&str, [[usize; ATTACKS]; ATTACKS]> = BTreeMap::new();
    let mut loss = (0.0, 0);
    for fold in 0..items::folds(items) {
        let train: Vec<&Item> = items.iter().filter(|item| item.fold != fold && item.trained).collect();
        let of: Vec<_> =
            items.iter().filter(|item| item.fold == fold).filter_map(|item| Some((item, item.attack?))).collect();
        if of.is_empty() {
            continue;
        }
        let model = Model::train(&train, grammar);
        for (item, kind) in of {
            let chances = model.chances(&weigh(worst_attack(&item.text)));
            let said = (0..ATTACKS).rev().max_by(|a, b| chances[*a].total_cmp(&chances[*b])).unwrap_or(0);
            tables.entry("all").or_default()[kind][said] += 1;
            tables.entry(&item.origin).or_default()[kind][said] += 1;
            loss = (loss.0 - f64::from(chances[kind].max(1e-6)).ln(), loss.1 + 1);
        }
    }
    println!("{what}: mean loss {:.3} of {}", loss.0 / f64::from(loss.1), loss.1);
    for (origin, table) in tables {
        let (all, right): (usize, usize) =
            (table.iter().flatten().sum(), (0..ATTACKS).map(|kind| table[kind][kind]).sum());
        println!("  {origin}: {right} of {all} right");
        for (name, row) in NAMES.iter().zip(table).filter(|(_, row)| row.iter().sum::<usize>() > 0) {
            println!("    {name}: {row:?}");
        }
    }
}
