//! Trains the networks that hold a response against its source word by word, with all-MiniLM-L6-v2, and measures them on what they were not trained on.
//!
//! `cargo run --release -p bedrock-examples --features train --example train_alignment -- --embedder DIR --data DIR [--output FILE]`
//!
//! The folders of `--data` are those that `bedrock-guard/data/GROUNDING_CARD.md` names. Items are cut into five folds by a hash of their page, or of their source
//! where they have none; each fold is scored by networks trained on the other four. The committed file is trained on all.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use bedrock_core::EmbeddingModel;
use bedrock_examples::{Failure, ModelArguments, failure, find_model, run};
use bedrock_guard::train::alignment::{self, at, dot};
use bedrock_guard::train::{self, Random, area, fold};
use bedrock_models::Embedder;
use clap::Parser;
use serde_json::Value;

const FOLDS: u64 = 5;
const FOLDERS: [&str; 3] = ["grounding-fool-me-twice", "grounding-begin", "grounding-halueval-qa"];
/// What is averaged: networks that learn what is hard, from words alone, and fewer that learn all and see the evidence too. What the sets say of shared
/// words does not agree, so one network for all knows less of the first.
const KINDS: [Kind; 2] = [
    Kind { weights: [1.0, 0.0, 0.0], evidence: false, passes: 35, networks: 6 },
    Kind { weights: [1.0, 1.0, 0.3], evidence: true, passes: 20, networks: 2 },
];
/// What an item of each set weighs for the line over places, and for the network over the evidence.
const LINE: [f32; 3] = [1.0, 0.0, 0.0];
const SUPPORT: [f32; 3] = [0.0, 1.0, 1.0];
/// What the squares of the line's weights cost, halved.
const PENALTY: f64 = 50.0;
/// Networks over the evidence, which are joined to one, and the steps of each.
const SUPPORTS: usize = 3;
const SUPPORT_STEPS: i32 = 400;
/// Items of a step.
const STEP: usize = 32;
const RATE: f32 = 2e-3;
/// What weights lose in a step, times the rate.
const DECAY: f32 = 0.05;
/// Share of inputs and units that a step does without.
const DROP: f32 = 0.4;

/// Trains the grounding check with an encoder
#[derive(Parser)]
struct Arguments {
    /// all-MiniLM-L6-v2: a folder, or a name of the catalogue
    #[arg(long, value_name = "M", default_value = "all-minilm-l6-v2")]
    embedder: String,
    /// Folder of the sets
    #[arg(long)]
    data: PathBuf,
    /// Where the weights go
    #[arg(long)]
    output: Option<PathBuf>,
    #[command(flatten)]
    models: ModelArguments,
}

/// What a network is trained on.
struct Kind {
    /// What an item of each of [`FOLDERS`] weighs.
    weights: [f32; 3],
    /// Whether it sees the evidence that needs no encoder.
    evidence: bool,
    /// Passes over the items.
    passes: usize,
    networks: u64,
}

struct Item {
    /// The parts of the response that have words.
    parts: Vec<alignment::Part>,
    evidence: Vec<f32>,
    label: bool,
    set: usize,
    /// May be trained on.
    may: bool,
    /// Words of the response.
    length: usize,
    fold: u64,
}

/// 0, or what makes the mean 1.
fn spared(random: &mut Random) -> f32 {
    if random.share() < DROP { 0.0 } else { 1.0 / (1.0 - DROP) }
}

fn main() -> ExitCode {
    run(|arguments: Arguments| {
        let embedder = Embedder::load(find_model(&arguments.embedder)?, &arguments.models.options())?;
        let embedder: Arc<dyn EmbeddingModel> = Arc::new(embedder);
        let mut lines: Vec<(usize, Value)> = Vec::new();
        for (set, folder) in FOLDERS.iter().enumerate() {
            let path = arguments.data.join(folder).join("items.jsonl");
            for line in std::fs::read_to_string(path)?.lines() {
                lines.push((set, serde_json::from_str(line)?));
            }
        }
        let mut head = alignment::Head { axes: axes(&embedder, &lines)?, ..alignment::Head::default() };
        let mut items = Vec::with_capacity(lines.len());
        for (set, line) in &lines {
            let text = |name: &str| line[name].as_str().unwrap_or_default();
            let (source, query, response) = (text("source"), text("query"), text("response"));
            let key = if text("page").is_empty() { source } else { text("page") };
            items.push(Item {
                parts: read(&embedder, source, response, &head.axes)?.inputs(&head.axes),
                evidence: train::support(source, query, response),
                label: line["grounded"] == true,
                set: *set,
                // Share-alike annotations are for measuring alone.
                may: !text("licence").starts_with("CDLA"),
                length: response.split_whitespace().count(),
                fold: fold(key, FOLDS),
            });
        }
        let parts = || items.iter().filter(|item| item.may).flat_map(|item| &item.parts);
        head.words = scale(alignment::INPUTS, parts().map(|part| &part.words));
        head.places = scale(alignment::PLACES, parts().map(|part| &part.places));
        head.evidence = scale(train::SUPPORT, items.iter().filter(|item| item.may).map(|item| &item.evidence));
        for item in &mut items {
            item.parts.iter_mut().for_each(|part| head.scale(part));
            head.evidence.apply(&mut item.evidence);
        }
        // The kinds are trained side by side.
        let networks = |train: &[&Item]| -> Vec<alignment::Network> {
            std::thread::scope(|scope| {
                let of = |kind: &'static Kind| {
                    scope.spawn(move || (0..kind.networks).map(|seed| fit(train, kind, seed)).collect::<Vec<_>>())
                };
                let kinds: Vec<_> = KINDS.iter().map(of).collect();
                kinds.into_iter().flat_map(|kind| kind.join().expect("training does not panic")).collect()
            })
        };
        let mut scores = vec![0.0; items.len()];
        for fold in 0..FOLDS {
            let others: Vec<&Item> = items.iter().filter(|item| item.fold != fold && item.may).collect();
            (head.line, head.support, head.networks) = (line(&others), support(&others), networks(&others));
            for (item, score) in items.iter().zip(&mut scores).filter(|(item, _)| item.fold == fold) {
                *score = logit(&head, item);
            }
        }
        report(&items, &scores);
        if let Some(path) = arguments.output {
            let all: Vec<&Item> = items.iter().filter(|item| item.may).collect();
            (head.line, head.support, head.networks) = (line(&all), support(&all), networks(&all));
            std::fs::write(path, head.write())?;
        }
        Ok(())
    })
}

fn read(
    embedder: &Arc<dyn EmbeddingModel>,
    source: &str,
    response: &str,
    axes: &alignment::Axes,
) -> Result<alignment::Read, Failure> {
    let read = futures::executor::block_on(alignment::read(embedder, source, response, axes))?;
    read.ok_or_else(|| failure("the embedder gives no states of seven layers of 384 numbers"))
}

/// Means of the words of all texts, and the directions in which those of the claims of the first set differ most.
fn axes(embedder: &Arc<dyn EmbeddingModel>, lines: &[(usize, Value)]) -> Result<alignment::Axes, Failure> {
    const WIDTH: usize = alignment::WIDTH;
    let nothing = alignment::Axes {
        means: vec![0.0; alignment::LAYERS * WIDTH],
        directions: vec![0.0; alignment::SEEN.len() * alignment::DIRECTIONS * WIDTH],
    };
    let mut sums = vec![0.0f64; alignment::LAYERS * WIDTH];
    let mut products = vec![0.0f32; alignment::SEEN.len() * WIDTH * WIDTH];
    let mut count = 0.0f64;
    for (_, line) in lines.iter().filter(|(set, _)| *set == 0) {
        let text = |name: &str| line[name].as_str().unwrap_or_default();
        let read = read(embedder, text("source"), text("response"), &nothing)?;
        for part in read.parts() {
            for layer in 0..alignment::LAYERS {
                for state in part.of_layer(layer) {
                    count += f64::from(u8::from(layer == 0));
                    let sums = &mut sums[layer * WIDTH..][..WIDTH];
                    sums.iter_mut().zip(state).for_each(|(sum, x)| *sum += f64::from(*x));
                    if let Some(seen) = alignment::SEEN.iter().position(|seen| *seen == layer) {
                        for (row, x) in products[seen * WIDTH * WIDTH..].chunks_exact_mut(WIDTH).zip(state) {
                            row.iter_mut().zip(state).for_each(|(product, y)| *product += x * y);
                        }
                    }
                }
            }
        }
    }
    let means: Vec<f32> = sums.iter().map(|sum| (sum / count) as f32).collect();
    let mut directions = Vec::new();
    for (seen, layer) in alignment::SEEN.into_iter().enumerate() {
        let mean = &means[layer * WIDTH..][..WIDTH];
        let mut covariance = products[seen * WIDTH * WIDTH..][..WIDTH * WIDTH].to_vec();
        for (row, x) in covariance.chunks_exact_mut(WIDTH).zip(mean) {
            row.iter_mut().zip(mean).for_each(|(value, y)| *value = *value / count as f32 - x * y);
        }
        directions.extend(principal(&covariance));
    }
    Ok(alignment::Axes { means, directions })
}

/// The directions of the largest values of a symmetric matrix: powers of it, kept at right angles.
fn principal(matrix: &[f32]) -> Vec<f32> {
    const WIDTH: usize = alignment::WIDTH;
    let mut random = Random(1);
    let mut found: Vec<Vec<f32>> =
        (0..alignment::DIRECTIONS).map(|_| (0..WIDTH).map(|_| random.share() - 0.5).collect()).collect();
    for _ in 0..100 {
        for index in 0..found.len() {
            let mut next: Vec<f32> = matrix.chunks_exact(WIDTH).map(|row| dot(row, &found[index])).collect();
            for before in &found[..index] {
                let along = dot(before, &next);
                next.iter_mut().zip(before).for_each(|(x, y)| *x -= along * y);
            }
            let length = dot(&next, &next).sqrt();
            next.iter_mut().for_each(|x| *x /= length);
            found[index] = next;
        }
    }
    found.concat()
}

/// Mean and deviation of each of the numbers of rows of `width`, of which a vector holds one or several.
fn scale<'a>(width: usize, rows: impl Iterator<Item = &'a Vec<f32>>) -> alignment::Scale {
    let (mut sums, mut squares, mut count) = (vec![0.0f64; width], vec![0.0f64; width], 0.0);
    for row in rows.flat_map(|rows| rows.chunks_exact(width)) {
        count += 1.0;
        for ((sum, square), x) in sums.iter_mut().zip(&mut squares).zip(row) {
            *sum += f64::from(*x);
            *square += f64::from(*x) * f64::from(*x);
        }
    }
    let mean: Vec<f32> = sums.iter().map(|sum| (sum / count) as f32).collect();
    let of = |(square, mean): (&f64, &f32)| ((square / count - f64::from(*mean).powi(2)).max(0.0).sqrt() + 1e-6) as f32;
    let deviation = squares.iter().zip(&mean).map(of).collect();
    alignment::Scale { mean, deviation }
}

/// The mean logit of the parts of a response; the middle if it has no words.
fn logit(head: &alignment::Head, item: &Item) -> f32 {
    let logits = item.parts.iter().map(|part| head.logit(part, &item.evidence));
    let (sum, count) = logits.fold((0.0, 0.0f32), |(sum, count), logit| (sum + logit, count + 1.0));
    sum / count.max(1.0)
}

/// What an item weighs in training, given what its set weighs: in a set both labels weigh the same.
fn balance(items: &[&Item], weights: [f32; FOLDERS.len()]) -> impl Fn(&Item) -> f32 {
    let mut counts = [[0.0f32; 2]; FOLDERS.len()];
    items.iter().for_each(|item| counts[item.set][usize::from(item.label)] += 1.0);
    move |item| {
        let of = counts[item.set];
        (of[0] + of[1]) / 2.0 / of[usize::from(item.label)] * weights[item.set]
    }
}

/// Weights of the numbers about places, and what is added: logistic regression by Newton's method.
fn line(items: &[&Item]) -> Vec<f32> {
    const WIDTH: usize = alignment::PLACES + 1;
    let weigh = balance(items, LINE);
    let mut rows: Vec<(Vec<f64>, f64, f64)> = Vec::new();
    for item in items.iter().filter(|item| LINE[item.set] > 0.0) {
        rows.extend(item.parts.iter().map(|part| {
            let inputs = part.places.iter().map(|x| f64::from(*x)).chain([1.0]).collect();
            (inputs, f64::from(u8::from(item.label)), f64::from(weigh(item)))
        }));
    }
    let mut weights = vec![0.0f64; WIDTH];
    for _ in 0..8 {
        // Half the curvature is computed; the rest mirrors it.
        let mut curve = vec![vec![0.0f64; WIDTH + 1]; WIDTH];
        for index in 0..WIDTH - 1 {
            curve[index][index] = PENALTY;
            curve[index][WIDTH] = -PENALTY * weights[index];
        }
        for (inputs, label, weight) in &rows {
            let logit: f64 = inputs.iter().zip(&weights).map(|(x, w)| x * w).sum();
            let score = 1.0 / (1.0 + (-logit).exp());
            for (index, row) in curve.iter_mut().enumerate() {
                row[WIDTH] += weight * (label - score) * inputs[index];
                let by = weight * score * (1.0 - score) * inputs[index];
                row[..=index].iter_mut().zip(inputs).for_each(|(value, x)| *value += by * x);
            }
        }
        for index in 1..WIDTH {
            let (above, row) = curve.split_at_mut(index);
            above.iter_mut().zip(&row[0]).for_each(|(above, value)| above[index] = *value);
        }
        weights.iter_mut().zip(solve(curve)).for_each(|(weight, step)| *weight += step);
    }
    weights.into_iter().map(|weight| weight as f32).collect()
}

/// What solves equations of a symmetric positive matrix, each row with its right side behind it.
fn solve(mut rows: Vec<Vec<f64>>) -> Vec<f64> {
    let width = rows.len();
    for index in 0..width {
        let (above, below) = rows.split_at_mut(index + 1);
        let pivot = &above[index];
        for row in below {
            let by = row[index] / pivot[index];
            row[index..].iter_mut().zip(&pivot[index..]).for_each(|(x, y)| *x -= by * y);
        }
    }
    let mut found = vec![0.0; width];
    for index in (0..width).rev() {
        let known: f64 = (index + 1..width).map(|at| rows[index][at] * found[at]).sum();
        found[index] = (rows[index][width] - known) / rows[index][index];
    }
    found
}

/// Networks over the evidence, joined to one that says their mean.
fn support(items: &[&Item]) -> Vec<f32> {
    const UNIT: usize = train::SUPPORT + 2;
    const UNITS: usize = alignment::SUPPORT_UNITS / SUPPORTS;
    let weigh = balance(items, SUPPORT);
    let chosen: Vec<&Item> = items.iter().copied().filter(|item| SUPPORT[item.set] > 0.0).collect();
    let mut joined = Vec::with_capacity(alignment::SUPPORT_UNITS * UNIT + 1);
    let mut bias = 0.0;
    for seed in 0..SUPPORTS {
        let mut random = Random(seed as u64);
        let mut numbers: Vec<f32> = (0..UNITS * UNIT + 1).map(|_| random.signed() * 0.5).collect();
        let (mut first, mut second) = (vec![0.0f32; numbers.len()], vec![0.0f32; numbers.len()]);
        for step in 1..=SUPPORT_STEPS {
            let mut gradient = vec![0.0f32; numbers.len()];
            for item in &chosen {
                let score = 1.0 / (1.0 + (-alignment::support(&numbers, &item.evidence)).exp());
                let slope = (score - f32::from(u8::from(item.label))) * weigh(item) / chosen.len() as f32;
                for (unit, gradient) in numbers.chunks_exact(UNIT).zip(gradient.chunks_exact_mut(UNIT)) {
                    let value = (dot(&unit[..train::SUPPORT], &item.evidence) + unit[train::SUPPORT]).tanh();
                    let inner = slope * unit[UNIT - 1] * (1.0 - value * value);
                    gradient.iter_mut().zip(&item.evidence).for_each(|(to, x)| *to += inner * x);
                    gradient[train::SUPPORT] += inner;
                    gradient[UNIT - 1] += slope * value;
                }
                gradient[UNITS * UNIT] += slope;
            }
            adam(&mut numbers, &gradient, (&mut first, &mut second), step, (0.02, 1e-3));
        }
        for unit in numbers.chunks_exact(UNIT) {
            joined.extend(&unit[..UNIT - 1]);
            joined.push(unit[UNIT - 1] / SUPPORTS as f32);
        }
        bias += numbers[UNITS * UNIT] / SUPPORTS as f32;
    }
    joined.push(bias);
    joined
}

/// A step of Adam with decay beside it.
fn adam(
    numbers: &mut [f32],
    gradient: &[f32],
    (first, second): (&mut [f32], &mut [f32]),
    step: i32,
    (rate, decay): (f32, f32),
) {
    let (one, two) = (1.0 - 0.9f32.powi(step), 1.0 - 0.999f32.powi(step));
    for (index, number) in numbers.iter_mut().enumerate() {
        let slope = gradient[index];
        first[index] += 0.1 * (slope - first[index]);
        second[index] += 0.001 * (slope * slope - second[index]);
        *number -= rate * (decay * *number + first[index] / one / ((second[index] / two).sqrt() + 1e-8));
    }
}

/// Trains a network.
fn fit(items: &[&Item], kind: &Kind, seed: u64) -> alignment::Network {
    let weigh = balance(items, kind.weights);
    let mut parts: Vec<(&Item, &Vec<f32>)> = Vec::new();
    for item in items.iter().filter(|item| kind.weights[item.set] > 0.0) {
        parts.extend(item.parts.iter().map(|part| (*item, &part.words)));
    }
    let mut random = Random(seed);
    let mut network = alignment::Network { numbers: vec![0.0; at::ALL] };
    for (range, inputs) in [
        (at::WORD..at::NEAR, alignment::INPUTS),
        (at::NEAR..at::WEIGHT, 3 * alignment::UNITS),
        (at::WEIGHT..at::EVIDENCE, alignment::UNITS),
        (at::EVIDENCE..at::OUTPUT, train::SUPPORT),
        (at::OUTPUT..at::ALL, 2 * alignment::UNITS + alignment::EVIDENCE_UNITS),
    ] {
        let most = 1.0 / (inputs as f32).sqrt();
        network.numbers[range].iter_mut().for_each(|number| *number = random.signed() * most);
    }
    let (mut first, mut second) = (vec![0.0f32; at::ALL], vec![0.0f32; at::ALL]);
    let mut step = 0;
    for _ in 0..kind.passes {
        for index in (1..parts.len()).rev() {
            parts.swap(index, random.below(index + 1));
        }
        for batch in parts.chunks(STEP) {
            let mut gradient = vec![0.0f32; at::ALL];
            for (item, words) in batch {
                let evidence: &[f32] = if kind.evidence { &item.evidence } else { &[0.0; train::SUPPORT] };
                slope(
                    &network.numbers,
                    words,
                    (evidence, item.label),
                    weigh(item) / batch.len() as f32,
                    &mut random,
                    &mut gradient,
                );
            }
            step += 1;
            adam(&mut network.numbers, &gradient, (&mut first, &mut second), step, (RATE, DECAY));
        }
    }
    if !kind.evidence {
        network.numbers[at::OUTPUT + 2 * alignment::UNITS..at::OUTPUT_BIAS].fill(0.0);
    }
    network
}

/// Adds the gradient of the loss of one part, with a share of inputs and units dropped.
fn slope(
    n: &[f32],
    words: &[f32],
    (evidence, label): (&[f32], bool),
    weight: f32,
    random: &mut Random,
    gradient: &mut [f32],
) {
    const UNITS: usize = alignment::UNITS;
    const INPUTS: usize = alignment::INPUTS;
    let add = |to: &mut [f32], by: f32, from: &[f32]| to.iter_mut().zip(from).for_each(|(to, from)| *to += by * from);
    let words: Vec<f32> = words.iter().map(|x| x * spared(random)).collect();
    let count = words.len() / INPUTS;
    // Forward.
    let mut kept = vec![0.0f32; count * UNITS];
    let mut one = vec![0.0f32; count * UNITS];
    for (word, inputs) in words.chunks_exact(INPUTS).enumerate() {
        for unit in 0..UNITS {
            let value = dot(&n[at::WORD + unit * INPUTS..][..INPUTS], inputs) + n[at::WORD_BIAS + unit];
            let keep = if value > 0.0 { spared(random) } else { 0.0 };
            (kept[word * UNITS + unit], one[word * UNITS + unit]) = (keep, value.max(0.0) * keep);
        }
    }
    let neighbours = |word: usize| {
        (0..3usize).filter_map(move |place| Some((place, (word + place).checked_sub(1).filter(|at| *at < count)?)))
    };
    let mut two = vec![0.0f32; count * UNITS];
    for (word, units) in two.chunks_exact_mut(UNITS).enumerate() {
        for (unit, value) in units.iter_mut().enumerate() {
            *value = n[at::NEAR_BIAS + unit];
            for (place, other) in neighbours(word) {
                let weights = &n[at::NEAR + (unit * 3 + place) * UNITS..][..UNITS];
                *value += dot(weights, &one[other * UNITS..][..UNITS]);
            }
            *value = value.max(0.0);
        }
    }
    let mut shares: Vec<f32> =
        two.chunks_exact(UNITS).map(|units| dot(&n[at::WEIGHT..][..UNITS], units).clamp(-30.0, 30.0).exp()).collect();
    let total: f32 = shares.iter().sum();
    shares.iter_mut().for_each(|share| *share /= total);
    let mut pooled = [0.0f32; 2 * UNITS];
    for (units, share) in two.chunks_exact(UNITS).zip(&shares) {
        add(&mut pooled[..UNITS], 1.0 / count as f32, units);
        add(&mut pooled[UNITS..], *share, units);
    }
    let masks: Vec<f32> = (0..2 * UNITS).map(|_| spared(random)).collect();
    let mut last: Vec<f32> = pooled.iter().zip(&masks).map(|(x, mask)| x * mask).collect();
    last.extend((0..alignment::EVIDENCE_UNITS).map(|unit| {
        let weights = &n[at::EVIDENCE + unit * train::SUPPORT..][..train::SUPPORT];
        (dot(weights, evidence) + n[at::EVIDENCE_BIAS + unit]).tanh()
    }));
    let output = &n[at::OUTPUT..at::OUTPUT_BIAS];
    let logit = dot(output, &last) + n[at::OUTPUT_BIAS];
    // Backward.
    let slope = (1.0 / (1.0 + (-logit).exp()) - f32::from(u8::from(label))) * weight;
    gradient[at::OUTPUT_BIAS] += slope;
    add(&mut gradient[at::OUTPUT..at::OUTPUT_BIAS], slope, &last);
    for unit in 0..alignment::EVIDENCE_UNITS {
        let value = last[2 * UNITS + unit];
        let inner = slope * output[2 * UNITS + unit] * (1.0 - value * value);
        gradient[at::EVIDENCE_BIAS + unit] += inner;
        add(&mut gradient[at::EVIDENCE + unit * train::SUPPORT..][..train::SUPPORT], inner, evidence);
    }
    let of_pooled: Vec<f32> = masks.iter().zip(output).map(|(mask, weight)| slope * mask * weight).collect();
    let (of_mean, of_chosen) = of_pooled.split_at(UNITS);
    let along = dot(of_chosen, &pooled[UNITS..]);
    let mut of_one = vec![0.0f32; count * UNITS];
    for (word, units) in two.chunks_exact(UNITS).enumerate() {
        let of_share = shares[word] * (dot(of_chosen, units) - along);
        add(&mut gradient[at::WEIGHT..][..UNITS], of_share, units);
        for unit in 0..UNITS {
            if units[unit] <= 0.0 {
                continue;
            }
            let inner = of_mean[unit] / count as f32 + shares[word] * of_chosen[unit] + of_share * n[at::WEIGHT + unit];
            gradient[at::NEAR_BIAS + unit] += inner;
            for (place, other) in neighbours(word) {
                let from = at::NEAR + (unit * 3 + place) * UNITS;
                add(&mut gradient[from..][..UNITS], inner, &one[other * UNITS..][..UNITS]);
                add(&mut of_one[other * UNITS..][..UNITS], inner, &n[from..][..UNITS]);
            }
        }
    }
    for (word, inputs) in words.chunks_exact(INPUTS).enumerate() {
        for unit in 0..UNITS {
            let inner = of_one[word * UNITS + unit] * kept[word * UNITS + unit];
            if inner != 0.0 {
                gradient[at::WORD_BIAS + unit] += inner;
                add(&mut gradient[at::WORD + unit * INPUTS..][..INPUTS], inner, inputs);
            }
        }
    }
}

fn report(items: &[Item], scores: &[f32]) {
    for (set, folder) in FOLDERS.iter().enumerate() {
        let of = |fold: Option<u64>| -> Vec<(f32, bool, usize)> {
            let of =
                items.iter().zip(scores).filter(|(item, _)| item.set == set && fold.is_none_or(|f| f == item.fold));
            of.map(|(item, score)| (*score, item.label, item.length)).collect()
        };
        let area_of = |of: &[(f32, bool, usize)]| area(of.iter().map(|(score, label, _)| (*score, *label)).collect());
        let areas: Vec<f64> = (0..FOLDS).map(|fold| area_of(&of(Some(fold)))).collect();
        let mean = areas.iter().sum::<f64>() / FOLDS as f64;
        let spread = areas.iter().map(|area| (area - mean).powi(2)).sum::<f64>() / (FOLDS - 1) as f64;
        let all = of(None);
        let (right, pairs) = of_a_length(&all);
        println!(
            "{folder}: area {:.4} of {}; mean of folds {mean:.4}, standard error {:.4}; of {pairs} pairs of a length {right:.4} right",
            area_of(&all),
            all.len(),
            (spread / FOLDS as f64).sqrt()
        );
    }
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
