//! Cases of kind `sampling`: which tokens may be chosen from given logits.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::case::{Case, TensorRef};
use super::findings::{Findings, Stop, Tolerance};
use crate::error::Error;
use crate::generate::{Context, Sampler, SamplingParams};

/// What [`SamplingParams`] reads under the same name.
const KNOWN: &[&str] = &[
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "no_repeat_ngram_size",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
];

#[derive(Deserialize)]
struct Expected {
    logits: Vec<TensorRef>,
    tests: Vec<Test>,
    #[serde(default)]
    tolerance: Tolerances,
}

#[derive(Deserialize)]
#[serde(default)]
struct Tolerances {
    processed_abs: f64,
    probs_abs: f64,
}

impl Default for Tolerances {
    fn default() -> Self {
        Self { processed_abs: 1e-4, probs_abs: 1e-5 }
    }
}

#[derive(Deserialize)]
struct Test {
    logits: usize,
    params: Map<String, Value>,
    input_ids: Vec<u32>,
    kept: Vec<u32>,
    processed_logits_of_kept: TensorRef,
    probs_of_kept: TensorRef,
}

pub(super) fn check(case: &Case, findings: &mut Findings) -> Result<(), Stop> {
    let expected: Expected = case.expected()?;
    let logits = expected.logits.iter().map(|tensor| case.tensor(tensor)).collect::<Result<Vec<_>, _>>()?;
    for test in &expected.tests {
        let what = Value::from(test.params.clone()).to_string();
        if let Some(name) = test.params.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            return Err(Stop::Unsupported(format!("sampling parameter {name}")));
        }
        let wrong = |source| Error::Config { path: case.folder.join(super::case::EXPECTED), source };
        let params: SamplingParams = serde_json::from_value(Value::from(test.params.clone())).map_err(wrong)?;
        let logits = logits.get(test.logits);
        let logits = logits.ok_or_else(|| Stop::Failed(format!("there are no logits {}", test.logits).into()))?;
        let context = Context { prompt: &test.input_ids, generated: &[] };
        let got = Sampler::new(params)?.distribution(logits, context)?;
        let kept: Vec<u32> = got.iter().map(|candidate| candidate.id).collect();
        findings.same(format!("tokens kept with {what}"), &kept, &test.kept);
        let (values, probabilities): (Vec<f32>, Vec<f32>) =
            got.iter().map(|candidate| (candidate.logit, candidate.probability)).unzip();
        let Tolerances { processed_abs, probs_abs } = expected.tolerance;
        let want = case.tensor(&test.processed_logits_of_kept)?;
        findings.close(format!("logits with {what}"), &values, &want, Tolerance::Absolute(processed_abs));
        let want = case.tensor(&test.probs_of_kept)?;
        findings.close(format!("probabilities with {what}"), &probabilities, &want, Tolerance::Absolute(probs_abs));
    }
    Ok(())
}
