//! Trains the content filters of tier CLASSIC, measures them on what they were not trained on, and writes the file of weights.
//!
//! `cargo run --release -p bedrock-guard --features train --example train_content -- --data DIR [--folds LIST] [--output FILE]`
//!
//! DIR holds the folders that the card (`data/CONTENT_CARD.md`) names. The items are cut into five folds by a hash of their group; fold 0
//! is for choices, the figures of the card are of folds 1–4, each scored by a model that was trained on the other four. With `--output`
//! the thresholds are taken from all folds, and a model that was trained on all of them is written. With `--by source` the folds are sources, and the
//! figures of all of them say what becomes of texts from elsewhere.
//!
//! Sentences that the data lack come from the grammars `sentences.txt`, `requests.txt`, `attacks.txt` and `records.txt` beside this file. Plain texts of other sets
//! are learned from and counted, but no part of the areas and thresholds: these are of texts that people judged.
//!
//! `--attacks FILE` trains what tells kinds of prompt attacks apart, measures it, and writes it; it goes by the committed CLASSIC to choose what of a
//! text it looks at.
//!
//! Tier STANDARD takes three steps: `--prompts FILE` writes what has to be embedded, a text a line; the example `embed` embeds it
//! (`--input FILE --output VECTORS`); `--prompts FILE --vectors VECTORS` trains the head, measures it and, with `--output`, writes it. A head
//! that is measured on a fold was trained on the other four, with what CLASSIC said that had seen neither the fold nor the text.

#![allow(clippy::print_stderr, reason = "a program's progress")]

mod attack;
mod grammar;
mod items;
mod linear;
mod noise;
mod report;
mod standard;

use bedrock_guard::train::{CATEGORIES, DIMENSIONS, PROBE, write};

use crate::grammar::Grammar;
use crate::items::Item;
use crate::linear::{Linear, Plan};

/// Shares of harmless texts from which confidence is low, medium and high.
const SHARES: [f64; 3] = [0.05, 0.01, 0.001];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (mut data, mut folds, mut output, mut plan, mut misses) = (None, vec![0], None, Plan::default(), None);
    let mut attacks = None;
    let (mut prompts, mut vectors, mut network, mut by) =
        (None, None, standard::Plan::default(), String::from("group"));
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--data" => data = Some(value),
            "--folds" => folds = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--output" => output = Some(value),
            "--attacks" => attacks = Some(value),
            "--by" => by = value,
            "--misses" => misses = Some(value),
            "--epochs" => plan.epochs = value.parse()?,
            "--rate" => plan.rate = value.parse()?,
            "--sentences" => plan.sentences = value.parse()?,
            "--prompts" => prompts = Some(value),
            "--vectors" => vectors = Some(value),
            "--hidden" => network.hidden = value.parse()?,
            "--networks" => network.networks = value.parse()?,
            "--head-epochs" => network.epochs = value.parse()?,
            "--head-rate" => network.rate = value.parse()?,
            "--decay" => network.decay = value.parse()?,
            "--said" => network.said = value.parse()?,
            "--offset" => network.offset = value.parse()?,
            "--deaf" => network.deaf = value.parse()?,
            "--head-requests" => network.requests = value.parse()?,
            "--head-records" => network.records = value.parse()?,
            "--head-functions" => network.functions = value.parse()?,
            "--classic" => network.classic = value.parse()?,
            "--drop" => network.drop = value.parse()?,
            "--drawings" => plan.drawings = value.parse()?,
            "--functions" => plan.functions = value.parse()?,
            _ => return Err(format!("unknown argument {argument}").into()),
        }
    }
    // Read when it runs, so that a sentence is added without a build.
    let grammar = Grammar::all(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/train_content"))?;
    let mut items = items::load(data.as_deref().ok_or("--data DIR")?)?;
    if let Some(path) = attacks {
        return attack::run(&mut items, &grammar, &path);
    }
    let by_source = by == "source";
    if by_source {
        items::cut_by_source(&mut items)?;
        folds = (0..items::folds(&items)).collect();
    }
    eprintln!("{} items", items.len());
    if let Some(prompts) = prompts {
        let said = standard::sentences(&grammar, &network);
        let texts: Vec<String> = standard::prompts(&items, &said).into_iter().chain([PROBE.to_owned()]).collect();
        return match vectors {
            None => Ok(std::fs::write(prompts, texts.join("\n"))?),
            Some(vectors) => {
                let vectors = read_vectors(&vectors, texts)?;
                standard_tier(&items, (&grammar, &said), &plan, &network, &vectors, (output, misses, by_source))
            }
        };
    }
    if output.is_some() {
        folds = (0..items::folds(&items)).collect();
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
    report::print(&items, &logits, &steps, misses.as_deref(), by_source);
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

/// The rows that the example `embed` writes, by their texts.
fn read_vectors(path: &str, texts: Vec<String>) -> Result<standard::Vectors, Box<dyn std::error::Error>> {
    let mut vectors = standard::Vectors::new();
    let rows = std::io::BufRead::lines(std::io::BufReader::new(std::fs::File::open(path)?));
    for (row, text) in rows.zip(texts) {
        let row: serde_json::Value = serde_json::from_str(&row?)?;
        let row: Vec<f32> = serde_json::from_value(row["embedding"].clone())?;
        if row.len() != DIMENSIONS {
            return Err(format!("{path}: an embedding of {} values", row.len()).into());
        }
        vectors.insert(text, row);
    }
    Ok(vectors)
}

fn standard_tier(
    items: &[Item],
    (grammar, said): (&Grammar, &[Vec<standard::Said>; 2]),
    plan: &Plan,
    network: &standard::Plan,
    vectors: &standard::Vectors,
    (output, misses, by_source): (Option<String>, Option<String>, bool),
) -> Result<(), Box<dyn std::error::Error>> {
    let heards = standard::Heards::new(items, said, |without, half| {
        let train: Vec<&Item> = items.iter().filter(|item| item.trained && !without.contains(&item.fold)).collect();
        match half {
            None => Linear::train(&train, grammar, plan),
            Some(half) => Linear::train(&train, &grammar.half(half), plan),
        }
    });
    // Without one more fold, or with `None` without the item's own alone.
    let trained = |without: Option<u64>| {
        let others = items.iter().enumerate().filter(|(_, item)| item.trained && Some(item.fold) != without);
        let mut lessons: Vec<_> = others
            .map(|(index, item)| standard::Lesson {
                text: &item.text,
                labels: item.labels,
                weight: if item.function.is_empty() { 1.0 } else { network.functions },
                heard: heards.of(index, item.fold, without.unwrap_or(item.fold)),
                origin: &item.origin,
            })
            .collect();
        for (sentences, heards) in said.iter().zip(heards.said(without)) {
            lessons.extend(sentences.iter().zip(heards).map(|(said, heard)| standard::Lesson {
                text: &said.text,
                labels: said.labels,
                weight: match said.origin {
                    standard::REQUESTS => network.requests,
                    standard::RECORDS => network.records,
                    _ => network.said,
                },
                heard,
                origin: said.origin,
            }));
        }
        standard::train(&lessons, vectors, network)
    };
    let mut logits: Vec<Option<[f32; CATEGORIES]>> = vec![None; items.len()];
    for fold in 0..items::folds(items) {
        let networks = trained(Some(fold));
        for (index, item) in items.iter().enumerate().filter(|(_, item)| item.fold == fold) {
            let heard = heards.of(index, fold, fold);
            logits[index] = Some(standard::logits(&networks, &item.text, heard, vectors));
        }
        eprintln!("head without fold {fold}: done");
    }
    let steps = report::steps(items, &logits, &SHARES);
    report::print(items, &logits, &steps, misses.as_deref(), by_source);
    if let Some(path) = output {
        let probe = vectors.get(PROBE).ok_or("the probe was not embedded")?.clone();
        std::fs::write(&path, standard::head(trained(None), steps, probe).write())?;
        eprintln!("{path} is written");
    }
    Ok(())
}
