//! Bodies of Amazon's Titan Text.

use bedrock_core::{Error, StopReason, TokenUsage};
use serde_json::{Value, json};

use super::fields::Fields;
use super::text::{TextAnswer, TextForm};
use super::{Call, all_input_tokens, prompt};

struct Titan;

pub(super) fn read(mut body: Fields, raw: bool) -> Result<Call, Error> {
    let mut request = prompt::request(body.required("inputText", Fields::some_text)?, raw);
    let mut config = match body.object("textGenerationConfig")? {
        Some(config) => config,
        None => Fields::of(json!({}), "/textGenerationConfig".into())?,
    };
    request = request
        .temperature(config.number("temperature", 0.0, 1.0)?.unwrap_or(0.7))
        .top_p(config.number("topP", 0.0, 1.0)?.unwrap_or(0.9))
        .max_tokens(config.tokens("maxTokenCount", 8192)?.unwrap_or(512));
    for sequence in config.texts("stopSequences", 2500)?.unwrap_or_default() {
        request = request.stop_sequence(sequence);
    }
    config.end()?;
    body.end()?;
    Ok(Call { request, answer: TextAnswer::boxed(Titan) })
}

fn reason(stop: &StopReason) -> &'static str {
    match stop {
        stop if super::was_cut(stop) => "LENGTH",
        StopReason::StopSequence => "STOP_CRITERIA_MET",
        StopReason::ContentFiltered | StopReason::GuardrailIntervened => "CONTENT_FILTERED",
        _ => "FINISHED",
    }
}

impl TextForm for Titan {
    fn whole(&mut self, text: &str, stop: &StopReason, usage: &TokenUsage) -> Value {
        json!({
            "inputTextTokenCount": all_input_tokens(usage),
            "results": [{ "tokenCount": usage.output_tokens, "outputText": text, "completionReason": reason(stop) }],
        })
    }

    fn piece(&mut self, text: &str) -> Value {
        json!({
            "index": 0, "outputText": text, "inputTextTokenCount": null, "totalOutputTextTokenCount": null,
            "completionReason": null,
        })
    }

    fn end(&mut self, stop: &StopReason, usage: &TokenUsage) -> Value {
        json!({
            "index": 0, "outputText": "", "inputTextTokenCount": all_input_tokens(usage),
            "totalOutputTextTokenCount": usage.output_tokens, "completionReason": reason(stop),
        })
    }
}
