//! A chat template of any text renders or is refused, within its limits.
#![no_main]

use bedrock_models::chat_template::{ChatTemplate, TemplateInput};
use serde_json::json;

libfuzzer_sys::fuzz_target!(|source: &str| {
    let Ok(template) = ChatTemplate::new(source) else { return };
    let messages = [
        json!({"role": "system", "content": "Be brief."}),
        json!({"role": "user", "content": "Hi <b> \u{1f36f}"}),
        json!({"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": {"a": [1, 2.5]}}}]}),
        json!({"role": "tool", "content": [{"type": "text", "text": "42"}]}),
    ];
    let tools =
        [json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}})];
    let input = TemplateInput {
        messages: &messages,
        tools: Some(&tools),
        add_generation_prompt: true,
        ..TemplateInput::default()
    };
    if let Ok(text) = template.render(&input) {
        assert!(text.len() < 64 << 20, "{} bytes", text.len());
    }
});
