//! Bodies of Mistral: a `prompt`, or `messages`.

use bedrock_core::{Error, StopReason, TokenUsage};
use serde_json::{Value, json};

use super::fields::Fields;
use super::text::{TextAnswer, TextForm};
use super::turns::{self, Choices, Style};
use super::{Call, prompt, was_cut};

struct Mistral;

pub(super) fn read(mut body: Fields, model_id: &str, raw: bool) -> Result<Call, Error> {
    let is_text = !body.has("messages");
    let mut request = if is_text {
        prompt::request(body.required("prompt", Fields::some_text)?, raw)
    } else {
        turns::read(&mut body)?
    };
    request = request
        .temperature(body.number("temperature", 0.0, 1.0)?.unwrap_or(0.5))
        .top_p(body.number("top_p", 0.0, 1.0)?.unwrap_or(0.9))
        .max_tokens(body.tokens("max_tokens", 8192)?.unwrap_or(if is_text { 512 } else { 8192 }));
    // 0 switches it off, which is what is done without it.
    if let Some(top_k) = body.integer("top_k", 0, 200)?.filter(|top_k| *top_k > 0) {
        request = request.additional_field("top_k", top_k);
    }
    for sequence in body.texts("stop", 10)?.unwrap_or_default() {
        request = request.stop_sequence(sequence);
    }
    body.end()?;
    let answer = if is_text { TextAnswer::boxed(Mistral) } else { Choices::boxed(Style::Mistral, model_id) };
    Ok(Call { request, answer })
}

impl TextForm for Mistral {
    fn whole(&mut self, text: &str, stop: &StopReason, _: &TokenUsage) -> Value {
        let reason = if was_cut(stop) { "length" } else { "stop" };
        json!({ "outputs": [{ "text": text, "stop_reason": reason }] })
    }

    fn piece(&mut self, text: &str) -> Value {
        json!({ "outputs": [{ "text": text, "stop_reason": null }] })
    }

    fn end(&mut self, stop: &StopReason, usage: &TokenUsage) -> Value {
        self.whole("", stop, usage)
    }
}
