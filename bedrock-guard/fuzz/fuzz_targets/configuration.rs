//! The body of any `CreateGuardrail` compiles or is refused; what compiles judges texts.
#![no_main]

use bedrock_core::GuardrailContentSource;
use bedrock_guard::Guardrail;

libfuzzer_sys::fuzz_target!(|json: &str| {
    let Ok(guardrail) = Guardrail::from_json(json) else { return };
    for text in ["Ada Lovelace, ada@example.org: (415) 555-0132, TCK-12345, damn aaaaaaaaaaaaaaaaaaaaaaaa!", json] {
        for source in [GuardrailContentSource::Input, GuardrailContentSource::Output] {
            for finding in guardrail.find_blocking(text, &source).expect("no model is asked") {
                assert!(text.get(finding.span.clone()).is_some(), "{finding:?}");
            }
        }
    }
});
