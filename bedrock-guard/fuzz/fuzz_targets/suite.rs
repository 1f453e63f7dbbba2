//! A file of cases of any text is read or refused; what is read runs, disguised in every way.
#![no_main]

use std::sync::LazyLock;

use bedrock_guard::Guardrail;
use bedrock_guard::suite::{Mutation, Suite};

static GUARDRAIL: LazyLock<Guardrail> = LazyLock::new(|| {
    Guardrail::from_json(include_str!("../../../examples/data/guardrail.json")).expect("the sample is valid")
});

libfuzzer_sys::fuzz_target!(|lines: &str| {
    let Ok(suite) = Suite::from_jsonl(lines) else { return };
    let report = suite.run_blocking(&GUARDRAIL, &Mutation::ALL).expect("no model is asked");
    assert_eq!(report.outcomes.len(), suite.cases.len());
});
