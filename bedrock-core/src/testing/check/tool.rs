//! The laws of tools.

use serde_json::{Value, json};

use crate::error::Error;
use crate::inference::ConverseRequest;
use crate::message::Message;
use crate::tool::{Tool, ToolAnswer, ToolCall, ToolDefinition, ToolUseBlock};

/// Checks a tool with a call that it can answer. The tool is called with that once, and some twenty times with inputs that no
/// schema allows or that are strange: it should be one whose acts do not matter.
///
/// Laws: the specification does not change and is one that the service takes; the answer fits in a conversation; whatever the
/// input, the tool answers or says that the input does not fit; a call that is dropped before it is polled does no harm.
///
/// # Panics
/// If a law is broken.
pub async fn check_tool(tool: &dyn Tool, call: &ToolCall) {
    let spec = tool.spec();
    assert_eq!(tool.spec(), spec, "the specification does not change");
    let mut request = ConverseRequest::new("any").user("Go on.").tool(ToolDefinition::ToolSpec(spec.clone()));
    request.validate().unwrap_or_else(|error| panic!("the specification is the service's: {error}"));

    drop(tool.call(call));
    let answer = tool.call(call).await.expect("the call is answered");
    if let ToolAnswer::Failed(content) = &answer {
        panic!("the call is one that the tool can answer; it said {content:?}");
    }
    if let Some(block) = answer.into_block("t1") {
        let tool_use =
            ToolUseBlock { tool_use_id: "t1".into(), name: spec.name.clone(), input: call.input.clone(), kind: None };
        request.messages.push(Message::assistant(tool_use));
        request.messages.push(Message::user(block));
        request.validate().unwrap_or_else(|error| panic!("the answer fits in a conversation: {error}"));
    }

    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    let odd = [json!(null), json!(true), json!(-1), json!(1e300), json!(""), json!("\0🦀"), json!([]), json!({}), deep];
    let mut inputs: Vec<Value> = odd.to_vec();
    if let Value::Object(fields) = &call.input {
        for key in fields.keys() {
            for value in &odd {
                let mut fields = fields.clone();
                fields.insert(key.clone(), value.clone());
                inputs.push(fields.into());
            }
        }
    }
    for input in inputs {
        let call = ToolCall { input, ..call.clone() };
        match tool.call(&call).await {
            Ok(_) | Err(Error::Validation { .. }) => {}
            Err(error) => panic!("an input that does not fit is a validation error: {} gave {error:?}", call.input),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::super::tests::fails;
    use super::*;
    use crate::testing::ScriptedTool;
    use crate::tool::{FunctionTool, ToolSpecification};

    #[test]
    fn the_double_keeps_to_the_laws() {
        let tool = ScriptedTool::new("clock", ["noon", "one"]);
        let call = ToolCall::new(json!({"zone": "UTC"}));
        block_on(check_tool(&tool, &call));
        assert_eq!(tool.calls()[0], call);
        assert_eq!(tool.call_blocking(&call).unwrap(), ToolAnswer::done("one"));
        let none: [ToolAnswer; 0] = [];
        block_on(check_tool(&ScriptedTool::new("ask", none), &call));
    }

    #[test]
    fn a_broken_tool_is_found() {
        let check = |name: &str, function: fn(&ToolCall) -> Result<ToolAnswer, Error>| {
            let spec = ToolSpecification::new(name, "Breaks a law.", json!({"type": "object"}));
            block_on(check_tool(&FunctionTool::new(spec, function), &ToolCall::new(json!({"n": 1}))));
        };
        fails(move || check("no spaces!", |_| Ok("fine".into())), "the specification is the service's");
        fails(move || check("lazy", |_| Ok(ToolAnswer::failed("no"))), "can answer");
        fails(
            move || {
                check("rude", |call| match call.input["n"].as_u64() {
                    Some(_) => Ok("fine".into()),
                    None => Err(Error::internal_server("no number")),
                });
            },
            "is a validation error",
        );
    }
}
