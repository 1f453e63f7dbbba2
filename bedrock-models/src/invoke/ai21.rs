//! Bodies of AI21 Labs: Jamba's `messages` and Jurassic-2's `prompt`.

use bedrock_core::{ConverseRequest, Error, StopReason, TokenUsage};
use serde_json::{Value, json};

use super::fields::Fields;
use super::text::{TextAnswer, TextForm};
use super::turns::{self, Choices, Style};
use super::{Call, fresh_id, prompt, was_cut};

pub(super) fn read(body: Fields, raw: bool) -> Result<Call, Error> {
    if body.has("messages") { jamba(body) } else { jurassic(body, raw) }
}

fn jamba(mut body: Fields) -> Result<Call, Error> {
    let mut request = turns::read(&mut body)?
        .temperature(body.number("temperature", 0.0, 2.0)?.unwrap_or(1.0))
        .top_p(body.number("top_p", 0.0, 1.0)?.unwrap_or(1.0))
        .max_tokens(body.tokens("max_tokens", 4096)?.unwrap_or(4096));
    let stop = match body.take("stop") {
        Some(Value::String(one)) => vec![one],
        Some(other) => {
            body.put("stop", other);
            body.texts("stop", 64)?.unwrap_or_default()
        }
        None => Vec::new(),
    };
    for sequence in stop {
        request = request.stop_sequence(sequence);
    }
    for key in ["frequency_penalty", "presence_penalty"] {
        request = penalized(request, key, body.number(key, -2.0, 2.0)?);
    }
    body.refuse("n", &[json!(1)], "only one answer is given")?;
    body.refuse("documents", &[json!([])], "documents are not supported")?;
    body.refuse("response_format", &[json!({ "type": "text" })], "only text is supported")?;
    body.refuse("stream", &[json!(false), json!(true)], "expected type: Boolean")?;
    body.end()?;
    Ok(Call { request, answer: Choices::boxed(Style::Jamba, "") })
}

/// A penalty of zero is none, which a model need not know.
fn penalized(request: ConverseRequest, key: &str, penalty: Option<f64>) -> ConverseRequest {
    match penalty {
        Some(penalty) if penalty != 0.0 => request.additional_field(key, penalty),
        _ => request,
    }
}

struct Jurassic {
    prompt: String,
}

fn jurassic(mut body: Fields, raw: bool) -> Result<Call, Error> {
    let text = body.required("prompt", Fields::some_text)?;
    let mut request = prompt::request(text.clone(), raw)
        .temperature(body.number("temperature", 0.0, 1.0)?.unwrap_or(0.7))
        .top_p(body.number("topP", 0.0, 1.0)?.unwrap_or(1.0))
        .max_tokens(body.tokens("maxTokens", 8191)?.unwrap_or(200));
    for sequence in body.texts("stopSequences", 64)?.unwrap_or_default() {
        request = request.stop_sequence(sequence);
    }
    for (key, ours) in
        [("presencePenalty", "presence_penalty"), ("frequencyPenalty", "frequency_penalty"), ("countPenalty", "")]
    {
        let Some(mut penalty) = body.object(key)? else { continue };
        let scale = penalty.number("scale", 0.0, 5.0)?;
        // To which tokens a penalty applies: each is on unless it is switched off, and here all are.
        for applies in
            ["applyToWhitespaces", "applyToPunctuations", "applyToNumbers", "applyToStopwords", "applyToEmojis"]
        {
            penalty.refuse(applies, &[json!(true)], "penalties apply to all tokens")?;
        }
        if ours.is_empty() && scale.is_some_and(|scale| scale > 0.0) {
            return Err(penalty.unsupported("scale", "this model has no penalty by count"));
        }
        penalty.end()?;
        if !ours.is_empty() {
            request = penalized(request, ours, scale);
        }
    }
    body.refuse("minTokens", &[json!(0)], "this model has no least length")?;
    body.refuse("numResults", &[json!(1)], "only one answer is given")?;
    body.refuse("topKReturn", &[json!(0)], "alternatives of tokens are not given")?;
    body.end()?;
    Ok(Call { request, answer: TextAnswer::boxed(Jurassic { prompt: text }) })
}

impl TextForm for Jurassic {
    fn whole(&mut self, text: &str, stop: &StopReason, _: &TokenUsage) -> Value {
        let reason = match stop {
            stop if was_cut(stop) => "length",
            StopReason::StopSequence => "stop",
            _ => "endoftext",
        };
        json!({
            "id": fresh_id(16),
            "prompt": { "text": self.prompt, "tokens": [] },
            "completions": [{ "data": { "text": text, "tokens": [] }, "finishReason": { "reason": reason } }],
        })
    }

    fn piece(&mut self, _: &str) -> Value {
        Value::Null
    }

    fn end(&mut self, _: &StopReason, _: &TokenUsage) -> Value {
        Value::Null
    }

    fn is_streamed(&self) -> bool {
        false
    }
}
