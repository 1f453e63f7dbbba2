//! Tools for models whose chat template knows none: told in words.

use serde_json::{Value, json};

/// The messages without anything that only a template with tools understands.
///
/// The system prompt ends with the tools and how to call them, in the syntax of
/// [`CallSyntax::Hermes`](super::CallSyntax::Hermes); calls of earlier turns are written in it, and their results are what the user
/// says next, in `<tool_response>`.
pub(crate) fn in_words(messages: &[Value], tools: &[Value]) -> Vec<Value> {
    let mut out: Vec<Value> = Vec::new();
    for message in messages {
        let content = message["content"].as_str().unwrap_or_default();
        let (role, text) = match message["role"].as_str() {
            Some("tool") => ("user", format!("<tool_response>\n{content}\n</tool_response>")),
            Some(role) => (role, with_calls(content, message)),
            None => continue,
        };
        match out.last_mut() {
            // Templates want turns to alternate, and a result may stand beside what the user says.
            Some(last) if role == "user" && last["role"] == "user" => {
                last["content"] = json!(format!("{}\n{text}", last["content"].as_str().unwrap_or_default()));
            }
            _ => out.push(json!({ "role": role, "content": text })),
        }
    }
    if !tools.is_empty() {
        let tools = described(tools);
        match out.first_mut() {
            Some(first) if first["role"] == "system" => {
                first["content"] = json!(format!("{}\n\n{tools}", first["content"].as_str().unwrap_or_default()));
            }
            _ => out.insert(0, json!({ "role": "system", "content": tools })),
        }
    }
    out
}

fn described(tools: &[Value]) -> String {
    let functions: Vec<String> = tools.iter().map(|tool| tool["function"].to_string()).collect();
    format!(
        "You may call these tools to help with what the user asks:\n<tools>\n{}\n</tools>\n\n\
         To call one, write its name and its arguments as JSON, and then stop:\n\
         <tool_call>\n{{\"name\": \"the tool's name\", \"arguments\": {{}}}}\n</tool_call>\n\n\
         Its result comes back in <tool_response>. Write one such block for each call. Answer in plain words if no tool is needed.",
        functions.join("\n")
    )
}

fn with_calls(content: &str, message: &Value) -> String {
    let mut text = content.to_string();
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        let function = &call["function"];
        let call = json!({ "name": function["name"], "arguments": function["arguments"] });
        if !text.is_empty() {
            text.push('\n');
        }
        text += &format!("<tool_call>\n{call}\n</tool_call>");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_for_a_template_with_tools() {
        let call = json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}});
        let messages = [
            json!({"role": "system", "content": "Be brief."}),
            json!({"role": "user", "content": "Hi"}),
            json!({"role": "assistant", "content": "I look.", "tool_calls": [call, call]}),
            json!({"role": "tool", "content": "3", "tool_call_id": "1", "name": "f"}),
            json!({"role": "tool", "content": "4", "tool_call_id": "2", "name": "f"}),
            json!({"role": "user", "content": "Well?"}),
        ];
        let tools = [json!({"type": "function", "function": {"name": "f"}})];
        let told = in_words(&messages, &tools);
        let roles: Vec<&str> = told.iter().map(|message| message["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["system", "user", "assistant", "user"]);
        let system = told[0]["content"].as_str().unwrap();
        assert!(
            system.starts_with("Be brief.\n\nYou may call") && system.contains("<tools>\n{\"name\":\"f\"}\n</tools>")
        );
        let one = "<tool_call>\n{\"name\":\"f\",\"arguments\":{\"a\":1}}\n</tool_call>";
        assert_eq!(told[2]["content"], format!("I look.\n{one}\n{one}"));
        let response = |n: u8| format!("<tool_response>\n{n}\n</tool_response>");
        assert_eq!(told[3]["content"], format!("{}\n{}\nWell?", response(3), response(4)));
        assert_eq!(in_words(&messages[1..2], &tools)[0]["role"], "system");
        assert_eq!(in_words(&messages[1..2], &[]), messages[1..2]);
    }
}
