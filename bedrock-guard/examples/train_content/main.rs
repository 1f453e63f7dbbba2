//! Trains the content filters of tier CLASSIC, measures them on what they were not trained on, and writes the file of weights.
//!
//! `cargo run --release -p bedrock-guard --features train --example train_content -- --data DIR [--folds LIST] [--output FILE]`
//!
//! DIR holds the folders that the card (`data/CONTENT_CARD.md`) names. The items are cut into five folds by a hash of their group; fold 0
//! is for choices, the figures of the card are of folds 1–4, each scored by a model that was trained on the other four. With `--output`
//! the thresholds are taken from all folds, and a model that was trained on all of them is written.

mod grammar;
mod items;
mod linear;
mod noise;
mod report;

use bedrock_guard::train::{CATEGORIES, write};

use crate::grammar::Grammar;
use crate::items::Item;
use crate::linear::{Linear, Plan};

/// Shares of harmless texts from which confidence is low, medium and high.
const SHARES: [f64; 3] = [0.05, 0.01, 0.001];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (mut data, mut folds, mut output, mut plan, mut misses) = (None, vec![0], None, Plan::default(), None);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--data" => data = Some(value),
            "--folds" => folds = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--output" => output = Some(value),
            "--misses" => misses = Some(value),
            "--epochs" => plan.epochs = value.parse()?,
            "--rate" => plan.rate = value.parse()?,
            "--sentences" => plan.sentences = value.parse()?,
            "--functions" => plan.functions = value.parse()?,
            _ => return Err(format!("unknown argument {argument}").into()),
        }
    }
    // Read when it runs, so that a sentence is added without a build.
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/train_content/sentences.txt");
    let grammar = Grammar::read(&std::fs::read_to_string(path)?)?;
    let items = items::load(data.as_deref().ok_or("--data DIR")?)?;
    eprintln!("{} items", items.len());
    if output.is_some() {
        folds = (0..items::FOLDS).collect();
    }
    let mut logits: Vec<Option<[f32; CATEGORIES]>> = vec![None; items.len()];
    for fold in folds {
        let train: Vec<&Item> = items.iter().filter(|item| item.fold != fold && item.trained).collect();
        let model = Linear::train(&train, &grammar, &plan);
        for (item, logits) in items.iter().zip(&mut logits).filter(|(item, _)| item.fold == fold) {
            *logits = Some(model.logits(&item.text));
        }
    }
    let steps = report::steps(&items, &logits, &SHARES);
    report::print(&items, &logits, &steps, misses.as_deref());
    if let Some(path) = output {
        let train: Vec<&Item> = items.iter().filter(|item| item.trained).collect();
        let model = Linear::train(&train, &grammar, &plan);
        let rows: Vec<_> =
            model.weights.iter().zip(&model.rarity).map(|(w, rarity)| (w.map(|w| w * rarity), *rarity)).collect();
        std::fs::write(&path, write(model.bias, steps, &rows))?;
        eprintln!("{path} is written");
    }
    Ok(())
}
