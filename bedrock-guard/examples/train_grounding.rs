//! Trains the two networks that weigh the evidence of contextual grounding, and measures them on what they were not trained on.
//!
//! `cargo run --release --features bedrock-guard/train --example train_grounding -- --data DIR [--hidden N] [--output FILE]`
//!
//! DIR holds the folders that the card (`data/GROUNDING_CARD.md`) names. Items are cut into five folds by a hash of their source text;
//! fold 0 is for choices, the figures of the card are of folds 1–4, each scored by a network trained on the other four.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program's output")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bedrock_guard::train::{Random, area, fold, relevance, support};
use serde_json::Value;

const FOLDS: u64 = 5;
/// Each set, and what its items weigh in training. The three disagree about what their words mean: in HaluEval QA a sentence is wrong and a bare
/// name is right; in FoolMeTwice claims that share more with the source are as often wrong. Alike, they cost BEGIN two hundredths of its area
/// and gain FoolMeTwice nothing.
const FOLDERS: [(&str, f32); 3] =
    [("grounding-begin", 1.0), ("grounding-fool-me-twice", 0.0), ("grounding-halueval-qa", 0.1)];

struct Item {
    evidence: Vec<f32>,
    label: bool,
    set: &'static str,
    /// What a set weighs beside others.
    weight: f32,
    /// Words of the response.
    length: usize,
    fold: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (mut data, mut output, mut hidden) = (None, None, 4usize);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--data" => data = Some(value),
            "--output" => output = Some(value),
            "--hidden" => hidden = value.parse()?,
            _ => return Err(format!("unknown argument {argument}").into()),
        }
    }
    let data = data.ok_or("--data DIR")?;
    let (mut supports, mut answers) = (Vec::new(), Vec::new());
    for (set, weight) in FOLDERS {
        let lines: Vec<Value> = std::fs::read_to_string(format!("{data}/{set}/items.jsonl"))?
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        let text = |item: &Value, name: &str| item[name].as_str().unwrap_or_default().to_owned();
        for (index, item) in lines.iter().enumerate() {
            // Share-alike annotations are for measuring alone.
            let shared_alike = text(item, "licence").starts_with("CDLA");
            let (source, query, response) = (text(item, "source"), text(item, "query"), text(item, "response"));
            let fold = fold(&source, FOLDS);
            let label = item["grounded"] == true;
            let length = response.split_whitespace().count();
            let item = |evidence, label, weight| Item { evidence, label, set, weight, length, fold };
            supports.push((item(support(&source, &query, &response), label, weight), !shared_alike));
            if label && !query.is_empty() {
                answers.push((item(relevance(&source, &query, &response), true, 1.0), !shared_alike));
                // The answer to something else, which its own source supports.
                let other = text(&lines[(index + 1 + lines.len() / 3) % lines.len()], "query");
                answers.push((item(relevance(&source, &other, &response), false, 1.0), !shared_alike));
            }
        }
    }
    let mut file =
        String::from("# Weights of two networks; see GROUNDING_CARD.md. Made by the example train_grounding.\n");
    for (name, items) in [("grounding", &supports), ("relevance", &answers)] {
        let mut scores = vec![0.0; items.len()];
        for fold in 0..FOLDS {
            let others = |(item, may): &&(Item, bool)| item.fold != fold && *may && item.weight > 0.0;
            let train: Vec<&Item> = items.iter().filter(others).map(|(item, _)| item).collect();
            let numbers = fit(&train, hidden);
            for ((item, _), score) in items.iter().zip(&mut scores).filter(|((item, _), _)| item.fold == fold) {
                *score = forward(&numbers, &item.evidence).1;
            }
        }
        for choices in [true, false] {
            let mut sets: BTreeMap<&str, Vec<(f32, bool)>> = BTreeMap::new();
            let mut pairs: BTreeMap<&str, Vec<(f32, bool, usize)>> = BTreeMap::new();
            for ((item, _), score) in items.iter().zip(&scores).filter(|((item, _), _)| (item.fold == 0) == choices) {
                sets.entry(item.set).or_default().push((*score, item.label));
                pairs.entry(item.set).or_default().push((*score, item.label, item.length));
            }
            for (set, scored) in sets {
                let (all, (right, pairs)) = (scored.len(), of_a_length(&pairs[set]));
                let folds = if choices { "fold 0" } else { "folds 1-4" };
                println!(
                    "{name} {folds} {set}: area {:.4} of {all}; of {pairs} pairs of a length {right:.4} right",
                    area(scored)
                );
            }
        }
        for index in 0..items[0].0.evidence.len() {
            let mut areas = String::new();
            for (set, _) in FOLDERS {
                let of = items.iter().filter(|(item, _)| item.set == set);
                write!(areas, " {:.3}", area(of.map(|(item, _)| (item.evidence[index], item.label)).collect()))?;
            }
            println!("  evidence {index}:{areas}");
        }
        let train: Vec<&Item> =
            items.iter().filter(|(item, may)| *may && item.weight > 0.0).map(|(item, _)| item).collect();
        let numbers: Vec<String> = fit(&train, hidden).iter().map(|number| format!("{number:.4}")).collect();
        writeln!(file, "{}", numbers.join(" "))?;
    }
    if let Some(path) = output {
        std::fs::write(path, file)?;
    }
    Ok(())
}

/// Activations of the hidden units, and the output.
fn forward(numbers: &[f32], inputs: &[f32]) -> (Vec<f32>, f32) {
    let size = inputs.len();
    let mut logit = numbers[numbers.len() - 1];
    let units: Vec<f32> = numbers
        .chunks_exact(size + 2)
        .map(|unit| {
            let sum: f32 = unit.iter().zip(inputs).map(|(weight, input)| weight * input).sum();
            let value = (sum + unit[size]).tanh();
            logit += unit[size + 1] * value;
            value
        })
        .collect();
    (units, 1.0 / (1.0 + (-logit).exp()))
}

/// Stochastic gradients with momentum; in a set both labels weigh the same.
fn fit(items: &[&Item], hidden: usize) -> Vec<f32> {
    let size = items[0].evidence.len();
    let mut random = Random(7);
    let mut numbers: Vec<f32> = (0..hidden * (size + 2) + 1).map(|_| random.signed() * 0.4).collect();
    let mut counts: BTreeMap<(&str, bool), f32> = BTreeMap::new();
    items.iter().for_each(|item| *counts.entry((item.set, item.label)).or_default() += 1.0);
    let mut speed = vec![0.0f32; numbers.len()];
    let steps = 40 * items.len();
    for step in 0..steps {
        let item = items[random.below(items.len())];
        let weight =
            (items.len() as f32 / counts.len() as f32 / counts[&(item.set, item.label)]).min(8.0) * item.weight;
        let (units, score) = forward(&numbers, &item.evidence);
        let slope = (score - f32::from(u8::from(item.label))) * weight;
        let rate = 0.02 * (1.0 - step as f32 / steps as f32);
        let last = numbers.len() - 1;
        let mut change = |numbers: &mut Vec<f32>, index: usize, gradient: f32| {
            speed[index] = 0.9 * speed[index] + gradient + 1e-4 * numbers[index];
            numbers[index] -= rate * speed[index];
        };
        for (unit, value) in units.iter().enumerate() {
            let at = unit * (size + 2);
            let inner = slope * numbers[at + size + 1] * (1.0 - value * value);
            change(&mut numbers, at + size + 1, slope * value);
            for (index, input) in item.evidence.iter().enumerate() {
                change(&mut numbers, at + index, inner * input);
            }
            change(&mut numbers, at + size, inner);
        }
        change(&mut numbers, last, slope);
    }
    numbers
}

/// Of the pairs of a right and a wrong response whose lengths differ by a tenth at most, the share of which the right one scores higher, and how
/// many there are; ties count half.
fn of_a_length(scored: &[(f32, bool, usize)]) -> (f64, usize) {
    let (mut right, mut pairs) = (0.0, 0);
    for (yes, _, length) in scored.iter().filter(|(_, label, _)| *label) {
        for (no, ..) in scored.iter().filter(|(_, label, other)| !label && other.abs_diff(*length) * 10 <= *length) {
            right += if yes > no { 1.0 } else { f64::from(u8::from(yes == no)) / 2.0 };
            pairs += 1;
        }
    }
    (right / f64::from(pairs), pairs as usize)
}
