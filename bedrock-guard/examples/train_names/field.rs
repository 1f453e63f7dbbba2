//! A linear-chain conditional random field over runs of capitalised words, by AdaGrad.

use std::ops::Range;

use bedrock_guard::train::{NAME_CLASSES, NAME_ROWS, NameRun, name_chances, name_runs, write_names};

use crate::corpus::{Kind, Text};
use crate::random::Random;

/// A run with the classes of its words.
pub(crate) struct Sample {
    run: NameRun,
    classes: Vec<usize>,
    weight: f32,
}

impl Sample {
    /// The runs of a text.
    pub(crate) fn of(text: &Text, weight: f32) -> Vec<Self> {
        let label = |word: &Range<usize>| {
            let known = text.spans.iter().find(|(span, _)| span.start < word.end && word.start < span.end);
            match known {
                None => 0,
                Some((span, Kind::Person)) => {
                    // The first word of the name that a run has.
                    let before = &text.text[span.start.min(word.start)..word.start];
                    if before.chars().any(char::is_alphanumeric) { 2 } else { 1 }
                }
                Some((_, Kind::Place)) => 3,
                Some((_, Kind::Organization)) => 4,
                Some((_, Kind::Thing)) => 5,
            }
        };
        let runs = name_runs(&text.text).into_iter();
        runs.map(|run| Self { classes: run.words.iter().map(label).collect(), run, weight }).collect()
    }
}

pub(crate) struct Plan {
    pub(crate) epochs: usize,
    pub(crate) rate: f32,
    pub(crate) decay: f32,
    /// Share of the runs that are seen as if no list knew their words.
    pub(crate) forget: f64,
    /// The logarithm of the odds from which a word belongs to a name.
    pub(crate) odds: f32,
}

pub(crate) struct Field {
    rows: Vec<[f32; NAME_CLASSES]>,
    starts: [f32; NAME_CLASSES],
    follows: [[f32; NAME_CLASSES]; NAME_CLASSES],
}

impl Field {
    pub(crate) fn train(samples: &[&Sample], plan: &Plan) -> Self {
        let mut field = Self {
            rows: vec![[0.0; NAME_CLASSES]; NAME_ROWS],
            starts: [0.0; NAME_CLASSES],
            follows: [[0.0; NAME_CLASSES]; NAME_CLASSES],
        };
        let mut squares = vec![[1e-2f32; NAME_CLASSES]; NAME_ROWS];
        let (mut start_squares, mut follow_squares) =
            ([1e-2f32; NAME_CLASSES], [[1e-2f32; NAME_CLASSES]; NAME_CLASSES]);
        let mut random = Random(11);
        let mut order: Vec<usize> = (0..samples.len()).collect();
        for epoch in 0..plan.epochs {
            for at in (1..order.len()).rev() {
                order.swap(at, random.below(at + 1));
            }
            let rate = plan.rate * (1.0 - 0.9 * epoch as f32 / plan.epochs as f32);
            for index in &order {
                let sample = samples[*index];
                let rows = if random.chance(plan.forget) { &sample.run.forgotten } else { &sample.run.rows };
                let local: Vec<_> = rows.iter().map(|rows| field.local(rows)).collect();
                let chances = name_chances(&field.starts, &field.follows, &local);
                let step = |weight: &mut f32, square: &mut f32, gradient: f32| {
                    let gradient = gradient + plan.decay * *weight;
                    *square += gradient * gradient;
                    *weight -= rate * gradient / square.sqrt();
                };
                for (word, (rows, chances)) in rows.iter().zip(&chances).enumerate() {
                    let mut errors = *chances;
                    errors[sample.classes[word]] -= 1.0;
                    errors.iter_mut().for_each(|error| *error *= sample.weight);
                    if errors.iter().all(|error| error.abs() < 1e-4) {
                        continue;
                    }
                    for row in rows {
                        let (weights, squares) = (&mut field.rows[*row as usize], &mut squares[*row as usize]);
                        for class in 0..NAME_CLASSES {
                            step(&mut weights[class], &mut squares[class], errors[class]);
                        }
                    }
                    for class in 0..if word == 0 { NAME_CLASSES } else { 0 } {
                        step(&mut field.starts[class], &mut start_squares[class], errors[class]);
                    }
                }
                for word in 1..local.len() {
                    let pairs = field.pairs(&local, word);
                    for (from, to) in (0..NAME_CLASSES).flat_map(|from| (0..NAME_CLASSES).map(move |to| (from, to))) {
                        let seen = sample.classes[word - 1..=word] == [from, to];
                        let error = (pairs[from][to] - f32::from(u8::from(seen))) * sample.weight;
                        step(&mut field.follows[from][to], &mut follow_squares[from][to], error);
                    }
                }
            }
        }
        field
    }

    /// The chance of each pair of classes at a word and the one before it.
    fn pairs(&self, local: &[[f32; NAME_CLASSES]], word: usize) -> [[f32; NAME_CLASSES]; NAME_CLASSES] {
        let before = name_chances(&self.starts, &self.follows, &local[..word])[word - 1];
        let mut behind = [0.0f32; NAME_CLASSES];
        for at in (word + 1..local.len()).rev() {
            behind = std::array::from_fn(|from| {
                sum_of_exponents(std::array::from_fn(|to| self.follows[from][to] + local[at][to] + behind[to]))
            });
        }
        let mut pairs: [[f32; NAME_CLASSES]; NAME_CLASSES] = std::array::from_fn(|from| {
            std::array::from_fn(|to| {
                before[from].max(1e-20).ln() + self.follows[from][to] + local[word][to] + behind[to]
            })
        });
        let all = sum_of_exponents(pairs.map(sum_of_exponents));
        pairs.iter_mut().flatten().for_each(|pair| *pair = (*pair - all).exp());
        pairs
    }

    fn local(&self, rows: &[u32]) -> [f32; NAME_CLASSES] {
        let mut sums = [0.0; NAME_CLASSES];
        for row in rows {
            sums.iter_mut().zip(&self.rows[*row as usize]).for_each(|(sum, weight)| *sum += weight);
        }
        sums
    }

    pub(crate) fn file(&self, odds: f32) -> Vec<u8> {
        write_names(odds, self.starts, self.follows, &self.rows)
    }
}

/// The logarithm of the sum.
fn sum_of_exponents(values: [f32; NAME_CLASSES]) -> f32 {
    let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    most + values.iter().map(|value| (value - most).exp()).sum::<f32>().ln()
}
