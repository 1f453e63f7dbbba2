//! JSON of any kind, as what a tool answered and as what a model asks of one, is judged or refused.
#![no_main]

use std::sync::LazyLock;

use bedrock_core::testing::{Reply, ScriptedModel};
use bedrock_core::{ChatModel, ConverseRequest, Message, ToolResultBlock, ToolResultContentBlock, ToolUseBlock};
use bedrock_guard::{Guarded, Guardrail};
use serde_json::{Value, json};

static GUARDRAIL: LazyLock<Guardrail> = LazyLock::new(|| {
    Guardrail::from_json(include_str!("../../../examples/data/guardrail.json")).expect("the sample is valid")
});

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(value) = serde_json::from_str::<Value>(text) else { return };
    let call = |input| ToolUseBlock { tool_use_id: "t".into(), name: "f".into(), input, kind: None };
    let result = ToolResultBlock::new("t", ToolResultContentBlock::Json(value.clone()));
    let mut request = ConverseRequest::new("m")
        .user("Hi")
        .message(Message::assistant(call(json!({}))))
        .message(Message::user(result));
    request.tool_config = serde_json::from_value(
        json!({"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}}]}),
    )
    .expect("it is valid");
    let reply = Reply::tool_use("t", "f", value);
    let _ = Guarded::new(ScriptedModel::new([reply]), GUARDRAIL.clone()).converse_blocking(&request);
});
