//! Trains the tagger of names, measures it on what it was not trained on, and writes the file of weights.
//!
//! `cargo run --release -p bedrock-guard --features train --example train_names -- --data DIR [--output FILE]`
//!
//! DIR holds the folders that the card (`data/NAMES_CARD.md`) names. The labelled texts are cut into five folds, by a hash of the sentence or of
//! the pattern that it was made from; each is judged by weights that were trained on the other four and on the sentences of `sentences.txt`.
//! With `--output`, weights that were trained on all of them are written.

#![allow(clippy::print_stderr, reason = "a program's progress")]

mod corpus;
mod field;
mod grammar;
mod random;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::ops::Range;

use bedrock_guard::train::NameFinder;
use bedrock_guard::{KINDS, PiiRecognizer, THRESHOLD};

use crate::corpus::{FOLDS, Text};
use crate::field::{Field, Plan, Sample};
use crate::grammar::Lists;
use crate::random::Random;

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

#[derive(Default)]
struct Counts {
    right: usize,
    wrong: usize,
    missed: usize,
}

impl Counts {
    fn add(&mut self, known: &[&Range<usize>], found: &[Range<usize>]) {
        let hits = known.iter().filter(|known| found.iter().any(|found| overlap(found, known))).count();
        self.right += hits;
        self.missed += known.len() - hits;
        self.wrong += found.iter().filter(|found| !known.iter().any(|known| overlap(known, found))).count();
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (mut data, mut output, mut rounds, mut weight) = (None, None, 60, 0.12);
    let (mut folds, mut errors) = (FOLDS, None);
    let mut plan = Plan { epochs: 8, rate: 0.1, decay: 3e-4, forget: 0.2, odds: -0.4 };
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--data" => data = Some(value),
            "--output" => output = Some(value),
            "--rounds" => rounds = value.parse()?,
            "--weight" => weight = value.parse()?,
            "--epochs" => plan.epochs = value.parse()?,
            "--rate" => plan.rate = value.parse()?,
            "--decay" => plan.decay = value.parse()?,
            "--forget" => plan.forget = value.parse()?,
            "--odds" => plan.odds = value.parse()?,
            "--folds" => folds = value.parse()?,
            "--errors" => errors = Some(value),
            _ => return Err(format!("unknown argument {argument}").into()),
        }
    }
    let data = data.ok_or("--data DIR")?;
    // Read when it runs, so that a sentence is added without a build.
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/train_names/sentences.txt");
    let (patterns, lists) = (std::fs::read_to_string(path)?, Lists::read(&data)?);
    let mut random = Random(1);
    let made: Vec<Text> = (0..rounds).flat_map(|_| lists.texts(&patterns, &mut random)).collect();
    let texts = corpus::read(&data)?;
    let sample = |text: &Text, weight| (text.fold, Sample::of(text, weight));
    let samples: Vec<(u64, Vec<Sample>)> =
        texts.iter().map(|text| sample(text, 1.0)).chain(made.iter().map(|text| sample(text, weight))).collect();
    eprintln!("{} labelled texts, {} made up", texts.len(), made.len());
    let trained = |without: Option<u64>| {
        let kept = samples.iter().filter(|(fold, _)| Some(*fold) != without);
        Field::train(&kept.flat_map(|(_, samples)| samples).collect::<Vec<_>>(), &plan)
    };
    let mut out = std::io::stdout().lock();
    let (mut counts, mut blind) = (BTreeMap::<(&str, i32), Counts>::new(), BTreeMap::<(&str, i32), Counts>::new());
    let others = PiiRecognizer::new(KINDS.into_iter().filter(|kind| kind.as_str() != "NAME"));
    // Odds that are tried, in tenths.
    let odds = [-10, -4, 0, 5];
    for fold in 0..folds {
        let field = trained(Some(fold));
        for tried in odds {
            let finder = NameFinder::new(field.file(tried as f32 / 10.0), THRESHOLD).ok_or("its own file")?;
            for text in texts.iter().filter(|text| text.fold == fold) {
                let found = finder.find(&text.text);
                let counts = counts.entry((text.set, tried)).or_default();
                let known: Vec<&Range<usize>> = text.persons().collect();
                counts.add(&known, &found);
                if errors.as_deref() == Some(text.set) && tried == (plan.odds * 10.0).round() as i32 {
                    for missed in known.iter().filter(|known| !found.iter().any(|found| overlap(found, known))) {
                        writeln!(out, "MISSED {:?} in {:?}", &text.text[(*missed).clone()], text.text)?;
                    }
                    for wrong in found.iter().filter(|found| !known.iter().any(|known| overlap(known, found))) {
                        writeln!(out, "WRONG {:?} in {:?}", &text.text[wrong.clone()], text.text)?;
                    }
                }
                if let Some(personal) = &text.personal {
                    let mut all: Vec<Range<usize>> =
                        others.find(&text.text).into_iter().map(|found| found.span).collect();
                    let names: Vec<_> =
                        found.into_iter().filter(|name| !all.iter().any(|span| overlap(span, name))).collect();
                    all.extend(names);
                    blind.entry(("whatever kind", tried)).or_default().add(&personal.iter().collect::<Vec<_>>(), &all);
                }
            }
        }
        eprintln!("fold {fold}: done");
    }
    for ((set, odds), c) in counts.iter().chain(&blind) {
        let (right, wrong, missed) = (c.right as f64, c.wrong as f64, c.missed as f64);
        let (precision, recall) = (right / (right + wrong), right / (right + missed));
        let f2 = 5.0 * right / (5.0 * right + 4.0 * missed + wrong);
        writeln!(
            out,
            "{set:<14} odds {:>4.1} right {right:>5} wrong {wrong:>4} missed {missed:>4} precision {precision:.3} recall {recall:.3} F2 {f2:.3}",
            f64::from(*odds) / 10.0
        )?;
    }
    if let Some(path) = output {
        std::fs::write(&path, trained(None).file(plan.odds))?;
        eprintln!("{path} is written");
    }
    Ok(())
}
