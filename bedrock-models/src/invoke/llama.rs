//! Bodies of Meta's Llama.

use bedrock_core::{Error, StopReason, TokenUsage};
use serde_json::{Value, json};

use super::fields::Fields;
use super::text::{TextAnswer, TextForm};
use super::{Call, all_input_tokens, prompt, was_cut};

struct Llama;

pub(super) fn read(mut body: Fields, raw: bool) -> Result<Call, Error> {
    let text = body.required("prompt", Fields::some_text)?;
    let request = prompt::request(text, raw)
        .temperature(body.number("temperature", 0.0, 1.0)?.unwrap_or(0.5))
        .top_p(body.number("top_p", 0.0, 1.0)?.unwrap_or(0.9))
        .max_tokens(body.tokens("max_gen_len", 2048)?.unwrap_or(512));
    body.refuse("images", &[json!([])], "images are not supported with a prompt that is a text")?;
    body.end()?;
    Ok(Call { request, answer: TextAnswer::boxed(Llama) })
}

fn reason(stop: &StopReason) -> &'static str {
    if was_cut(stop) { "length" } else { "stop" }
}

impl TextForm for Llama {
    fn whole(&mut self, text: &str, stop: &StopReason, usage: &TokenUsage) -> Value {
        json!({
            "generation": text, "prompt_token_count": all_input_tokens(usage),
            "generation_token_count": usage.output_tokens, "stop_reason": reason(stop),
        })
    }

    fn piece(&mut self, text: &str) -> Value {
        json!({ "generation": text, "prompt_token_count": null, "generation_token_count": null, "stop_reason": null })
    }

    fn end(&mut self, stop: &StopReason, usage: &TokenUsage) -> Value {
        self.whole("", stop, usage)
    }
}
