//! Sampling against transformers: the tokens that may be chosen, their logits and their probabilities.
//!
//! The fixture was computed with the logits processors of transformers 5.23.0 (Apache-2.0) from random logits.

use bedrock_models::generate::{Context, Sampler, SamplingParams};
use serde_json::Value;

#[test]
fn candidates_are_those_of_transformers() {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/sampling/expected.json")).unwrap();
    let numbers = |value: &Value| -> Vec<f32> { serde_json::from_value(value.clone()).unwrap() };
    let tests = fixture["tests"].as_array().unwrap();
    assert_eq!(tests.len(), 26);
    for test in tests {
        let at = format!("{} of logits {}", test["params"], test["logits"]);
        let params: SamplingParams = serde_json::from_value(test["params"].clone()).unwrap();
        let context: Vec<u32> = serde_json::from_value(test["input_ids"].clone()).unwrap();
        let kept: Vec<u32> = serde_json::from_value(test["kept"].clone()).unwrap();
        let logits = numbers(&fixture["logits"][test["logits"].as_u64().unwrap() as usize]);
        let mut sampler = Sampler::new(params).unwrap();
        let got = sampler.distribution(&logits, Context { prompt: &context, generated: &[] }).unwrap();
        assert_eq!(got.iter().map(|candidate| candidate.id).collect::<Vec<_>>(), kept, "{at}");
        for (index, candidate) in got.iter().enumerate() {
            let logit = numbers(&test["processed_logits_of_kept"])[index];
            let probability = numbers(&test["probs_of_kept"])[index];
            assert!((candidate.logit - logit).abs() <= 1e-5 * logit.abs(), "{at}: {candidate:?}, {logit}");
            assert!((candidate.probability - probability).abs() <= 1e-6, "{at}: {candidate:?}, {probability}");
        }
    }
}
