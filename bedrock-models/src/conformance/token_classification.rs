//! Cases of kind `token_classification`: named entities.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::case::{Case, TensorRef, largest};
use super::findings::{Findings, Stop, Tolerance};
use crate::classify::{Aggregation, Entity, TokenClassifier};
use crate::options::LoadOptions;

#[derive(Deserialize)]
struct Expected {
    inputs: Vec<Input>,
    id2label: BTreeMap<usize, String>,
    #[serde(default)]
    tolerance: Tolerances,
}

#[derive(Deserialize)]
#[serde(default)]
struct Tolerances {
    logits_rel_to_max_abs: f64,
    pooled_abs: f64,
}

impl Default for Tolerances {
    fn default() -> Self {
        Self { logits_rel_to_max_abs: 1e-4, pooled_abs: 1e-4 }
    }
}

#[derive(Deserialize)]
struct Input {
    text: String,
    input_ids: Vec<u32>,
    offsets: Vec<(usize, usize)>,
    logits: TensorRef,
    label_ids: Vec<u32>,
    #[serde(default)]
    entities: BTreeMap<String, Vec<ExpectedEntity>>,
}

/// An entity as transformers' pipeline gives it.
#[derive(Debug, Deserialize)]
struct ExpectedEntity {
    #[serde(alias = "entity_group")]
    entity: String,
    score: f32,
    index: Option<usize>,
    word: String,
    start: usize,
    end: usize,
}

pub(super) fn check(case: &Case, options: &LoadOptions, findings: &mut Findings) -> Result<(), Stop> {
    let expected: Expected = case.expected()?;
    let classifier = TokenClassifier::load(&case.folder, options)?;
    let labels: Vec<&String> = expected.id2label.values().collect();
    findings.same("labels", &classifier.labels().iter().collect::<Vec<_>>(), &labels);

    for (index, input) in expected.inputs.iter().enumerate() {
        let got = classifier.logits(&input.text)?;
        findings.same(format!("ids of input {index}"), &got.encoding.ids, &input.input_ids);
        let offsets = got.encoding.char_offsets(&input.text, None);
        let offsets: Vec<(usize, usize)> = offsets.into_iter().map(|range| (range.start, range.end)).collect();
        findings.same(format!("offsets of input {index}"), &offsets, &input.offsets);
        let logits = Tolerance::Relative(expected.tolerance.logits_rel_to_max_abs);
        findings.close_rows(format!("logits of input {index}"), &got.logits, &case.rows(&input.logits)?, logits);
        let labels: Vec<u32> = got.logits.iter().map(|logits| largest(logits)).collect();
        findings.same(format!("labels of input {index}"), &labels, &input.label_ids);

        for (strategy, want) in &input.entities {
            let what = format!("entities of input {index} by strategy {strategy}");
            let aggregation = match strategy.as_str() {
                "none" => Aggregation::None,
                "simple" => Aggregation::Simple,
                "first" => Aggregation::First,
                "average" => Aggregation::Average,
                "max" => Aggregation::Max,
                other => return Err(Stop::Unsupported(format!("aggregation strategy {other:?}"))),
            };
            let got = classifier.entities(&input.text, aggregation)?;
            let scores = |list: &mut dyn Iterator<Item = f32>| list.collect::<Vec<_>>();
            findings.close(
                format!("scores of {what}"),
                &scores(&mut got.iter().map(|entity| entity.score)),
                &scores(&mut want.iter().map(|entity| entity.score)),
                Tolerance::Absolute(expected.tolerance.pooled_abs),
            );
            for (number, (got, want)) in got.iter().zip(want).enumerate() {
                let want = (want.entity.as_str(), want.word.as_str(), want.start, want.end, want.index);
                findings.same(format!("{what}: number {number}"), &facts(got, &input.text), &want);
            }
        }
    }
    Ok(())
}

/// Label, word, range in code points, and index of the token.
fn facts<'e>(entity: &'e Entity, text: &str) -> (&'e str, &'e str, usize, usize, Option<usize>) {
    let chars = |byte: usize| text.char_indices().take_while(|(at, _)| *at < byte).count();
    (&entity.label, &entity.word, chars(entity.span.start), chars(entity.span.end), entity.token)
}
