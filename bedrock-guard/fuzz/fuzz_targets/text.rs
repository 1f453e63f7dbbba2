//! Any text, and an answer held against any source, is judged by every policy; findings lie between characters.
#![no_main]

use std::sync::LazyLock;

use bedrock_core::{
    ApplyGuardrailRequest, Guardrail as _, GuardrailContentBlock, GuardrailContentQualifier, GuardrailContentSource,
};
use bedrock_guard::{Guardrail, KINDS};
use futures::executor::block_on;

static GUARDRAIL: LazyLock<Guardrail> = LazyLock::new(|| {
    let entities: Vec<String> =
        KINDS.iter().map(|kind| format!(r#"{{"type": "{}", "action": "ANONYMIZE"}}"#, kind.as_str())).collect();
    let harms = ["HATE", "INSULTS", "SEXUAL", "VIOLENCE", "MISCONDUCT"];
    let filters: Vec<String> = harms
        .iter()
        .map(|harm| format!(r#"{{"type": "{harm}", "inputStrength": "HIGH", "outputStrength": "HIGH"}}"#))
        .collect();
    let json = format!(
        r#"{{"name": "everything", "blockedInputMessaging": "no in", "blockedOutputsMessaging": "no out",
            "wordPolicyConfig": {{"wordsConfig": [{{"text": "project nightingale"}}], "managedWordListsConfig": [{{"type": "PROFANITY"}}]}},
            "sensitiveInformationPolicyConfig": {{"piiEntitiesConfig": [{}],
                "regexesConfig": [{{"name": "r", "pattern": "\\b\\w+-[0-9a-f]{{2,}}\\B", "action": "ANONYMIZE"}}]}},
            "contentPolicyConfig": {{"filtersConfig": [{}, {{"type": "PROMPT_ATTACK", "inputStrength": "HIGH", "outputStrength": "NONE"}}]}},
            "contextualGroundingPolicyConfig": {{"filtersConfig": [{{"type": "GROUNDING", "threshold": 0.5}}, {{"type": "RELEVANCE", "threshold": 0.5}}]}}}}"#,
        entities.join(","),
        filters.join(",")
    );
    let builder = Guardrail::builder_from_json(&json).expect("it is valid");
    builder.word_inflections(true).word_disguises(true).build_blocking().expect("it is valid")
});

libfuzzer_sys::fuzz_target!(|text: &str| {
    for source in [GuardrailContentSource::Input, GuardrailContentSource::Output] {
        for finding in GUARDRAIL.find_blocking(text, &source).expect("no model is asked") {
            assert!(text.get(finding.span.clone()).is_some(), "{finding:?}");
            assert!((0.0..=1.0).contains(&finding.score), "{finding:?}");
        }
    }
    let Some((source, answer)) = text.split_once('\n') else { return };
    let mut request = ApplyGuardrailRequest::new(GuardrailContentSource::Output, [answer]);
    for qualifier in [GuardrailContentQualifier::GroundingSource, GuardrailContentQualifier::Query] {
        request.content.push(GuardrailContentBlock::text(source, [qualifier]));
    }
    let _ = block_on(GUARDRAIL.apply(&request));
});
