//! Cases of kind `sequence_classification`: a label for a text or for a pair of texts; cross-encoders.

use std::collections::BTreeMap;

use bedrock_core::{ClassifyInput, ClassifyRequest, RerankRequest, Reranker, TextClassifier};
use serde::Deserialize;

use super::case::{Case, TensorRef};
use super::findings::{Findings, Stop, Tolerance};
use crate::classify::{CrossEncoder, SequenceClassifier};
use crate::options::LoadOptions;

#[derive(Deserialize)]
struct Expected {
    inputs: Vec<Input>,
    max_length: Option<usize>,
    logits: TensorRef,
    scores: TensorRef,
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
    text_pair: Option<String>,
    input_ids: Vec<u32>,
    token_type_ids: Option<Vec<u32>>,
}

pub(super) fn check(case: &Case, options: &LoadOptions, findings: &mut Findings) -> Result<(), Stop> {
    let expected: Expected = case.expected()?;
    let options = LoadOptions { max_tokens: expected.max_length, ..options.clone() };
    let classifier = SequenceClassifier::load(&case.folder, &options)?;
    let labels: Vec<&String> = expected.id2label.values().collect();
    findings.same("labels", &classifier.labels().iter().collect::<Vec<_>>(), &labels);

    for (index, input) in expected.inputs.iter().enumerate() {
        let encoding = classifier.encode(&input.text, input.text_pair.as_deref())?;
        findings.same(format!("ids of input {index}"), &encoding.ids, &input.input_ids);
        if let Some(type_ids) = &input.token_type_ids {
            findings.same(format!("segments of input {index}"), &encoding.type_ids, type_ids);
        }
    }
    let inputs: Vec<_> = expected.inputs.iter().map(|input| (input.text.clone(), input.text_pair.clone())).collect();
    let logits = Tolerance::Relative(expected.tolerance.logits_rel_to_max_abs);
    findings.close_rows("logits", &classifier.logits(&inputs)?, &case.rows(&expected.logits)?, logits);

    let want = case.rows(&expected.scores)?;
    let score = Tolerance::Absolute(expected.tolerance.pooled_abs);
    let texts = inputs.iter().map(|(text, pair)| ClassifyInput { text: text.clone(), pair: pair.clone() });
    let response = classifier.classify_blocking(&ClassifyRequest::new(texts))?;
    let got: Vec<Vec<f32>> =
        response.results.iter().map(|labels| labels.iter().map(|label| label.score).collect()).collect();
    findings.close_rows("scores", &got, &want, score);

    if classifier.labels().len() == 1 {
        let encoder = CrossEncoder::load(&case.folder, &options)?;
        for ((text, pair), want) in inputs.iter().zip(&want) {
            let Some(pair) = pair else { continue };
            let got = encoder.rerank_blocking(&RerankRequest::new(text, [pair]))?;
            let got: Vec<f32> = got.results.iter().map(|result| result.relevance_score).collect();
            findings.close("relevance", &got, want, score);
        }
    }
    Ok(())
}
