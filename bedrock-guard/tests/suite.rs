//! The sample suite of the examples passes with the sample guardrail.

use bedrock_guard::Guardrail;
use bedrock_guard::suite::{Mutation, Suite};

#[test]
fn the_sample_suite_passes() {
    let suite = Suite::from_jsonl(include_str!("../../examples/data/guardrail_suite.jsonl")).unwrap();
    let guardrail = Guardrail::from_json(include_str!("../../examples/data/guardrail.json")).unwrap();
    let report = suite.run_blocking(&guardrail, &Mutation::ALL).unwrap();
    let failed: Vec<_> = report.outcomes.iter().filter(|outcome| !outcome.passed).collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert!(report.uncovered.is_empty(), "{:?}", report.uncovered);
}
