//! A request's conversation in the form that chat templates take.

use bedrock_core::{
    CitationGeneratedContent, ContentBlock, ConverseRequest, GuardrailConverseContentBlock, ReasoningContentBlock,
    Role, SystemContentBlock, ToolDefinition, ToolInputSchema, ToolResultBlock, ToolResultContentBlock,
    ToolResultStatus,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::Error;

/// Messages and tools as transformers' `apply_chat_template` takes them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Conversation {
    /// Objects with `role` and `content`; those of the assistant may have `tool_calls`, those of a tool have
    /// `tool_call_id` and `name`.
    pub messages: Vec<Value>,
    /// Objects with `type: function`; none if the request has no tools.
    pub tools: Option<Vec<Value>>,
}

/// Turns a request's system prompt, messages and tools into those of a chat template.
///
/// - Text blocks of one message are put together as they are; the parts of the system prompt with a line break between.
/// - `toolUse` becomes an entry of `tool_calls` (with arguments as an object), `toolResult` a message of its own with role
///   `tool`, in the order of the blocks. JSON results are written as JSON; a failed call has `Error: ` before it unless the
///   text says so itself.
/// - Reasoning of earlier turns becomes `reasoning_content`, which templates of reasoning models know and drop or keep as
///   the model wants it; cache points mean nothing here.
///
/// # Errors
/// [`Error::UnsupportedContent`] with the path of the block for what a text model cannot take: images, documents,
/// video, audio, encrypted reasoning, search results, and tools of other kinds than functions. `toolChoice` is nothing that a
/// template could express.
pub fn messages_for_template(request: &ConverseRequest) -> Result<Conversation, Error> {
    let mut messages = Vec::new();
    let mut system = Vec::new();
    for (index, block) in request.system.iter().enumerate() {
        match block {
            SystemContentBlock::Text(text) => system.push(text.as_str()),
            SystemContentBlock::GuardContent(content) => {
                system.push(guarded_text(content).ok_or_else(|| not_text(format!("system[{index}]"), "guardContent"))?);
            }
            SystemContentBlock::CachePoint(_) => {}
            _ => return Err(not_text(format!("system[{index}]"), "this block")),
        }
    }
    if !system.is_empty() {
        messages.push(json!({"role": "system", "content": system.join("\n")}));
    }

    // Results name the call, templates want the tool.
    let mut called: Vec<(&str, &str)> = Vec::new();
    for (at, message) in request.messages.iter().enumerate() {
        let role = match message.role {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::System => "system",
            _ => {
                return Err(Error::UnsupportedContent {
                    field: format!("messages[{at}].role"),
                    reason: "not a role that chat templates know".into(),
                });
            }
        };
        let mut text = String::new();
        let mut has_text = false;
        let mut reasoning = String::new();
        let mut calls = Vec::new();
        let start = messages.len();
        for (index, block) in message.content.iter().enumerate() {
            let field = || format!("messages[{at}].content[{index}]");
            match block {
                ContentBlock::Text(piece) => {
                    text.push_str(piece);
                    has_text = true;
                }
                ContentBlock::CitationsContent(cited) => {
                    for piece in &cited.content {
                        match piece {
                            CitationGeneratedContent::Text(piece) => text.push_str(piece),
                            _ => return Err(not_text(field(), "citationsContent")),
                        }
                    }
                    has_text = true;
                }
                ContentBlock::GuardContent(content) => {
                    text.push_str(guarded_text(content).ok_or_else(|| not_text(field(), "guardContent"))?);
                    has_text = true;
                }
                ContentBlock::ReasoningContent(ReasoningContentBlock::ReasoningText(piece)) => {
                    reasoning.push_str(&piece.text);
                }
                ContentBlock::ToolUse(call) => {
                    called.push((&call.tool_use_id, &call.name));
                    calls.push(json!({
                        "id": call.tool_use_id,
                        "type": "function",
                        "function": {"name": call.name, "arguments": call.input},
                    }));
                }
                ContentBlock::ToolResult(result) => {
                    let name = called.iter().rev().find(|(id, _)| *id == result.tool_use_id).map(|(_, name)| *name);
                    let mut answer = json!({
                        "role": "tool",
                        "tool_call_id": result.tool_use_id,
                        "content": result_text(result, &field())?,
                    });
                    if let Some(name) = name {
                        answer["name"] = json!(name);
                    }
                    messages.push(answer);
                }
                ContentBlock::CachePoint(_) => {}
                other => return Err(not_text(field(), other.kind())),
            }
        }
        let only_results = messages.len() > start && !has_text && calls.is_empty();
        if only_results {
            continue;
        }
        let mut entry = json!({"role": role, "content": text});
        if !reasoning.is_empty() {
            entry["reasoning_content"] = json!(reasoning);
        }
        if !calls.is_empty() {
            entry["tool_calls"] = Value::Array(calls);
        }
        messages.push(entry);
    }
    Ok(Conversation { messages, tools: tools(request)? })
}

fn tools(request: &ConverseRequest) -> Result<Option<Vec<Value>>, Error> {
    let Some(config) = &request.tool_config else { return Ok(None) };
    let mut tools = Vec::new();
    for (index, tool) in config.tools.iter().enumerate() {
        match tool {
            ToolDefinition::ToolSpec(tool) => {
                let parameters = match &tool.input_schema {
                    ToolInputSchema::Json(schema) => schema,
                    _ => return Err(not_text(format!("toolConfig.tools[{index}]"), "this schema")),
                };
                let mut function = json!({"name": tool.name});
                // Templates read the description without asking whether there is one.
                function["description"] = json!(tool.description.as_deref().unwrap_or_default());
                function["parameters"] = parameters.clone();
                tools.push(json!({"type": "function", "function": function}));
            }
            ToolDefinition::CachePoint(_) => {}
            _ => {
                return Err(Error::UnsupportedContent {
                    field: format!("toolConfig.tools[{index}]"),
                    reason: "only tools with a toolSpec are supported".into(),
                });
            }
        }
    }
    Ok(Some(tools).filter(|tools| !tools.is_empty()))
}

fn result_text(result: &ToolResultBlock, field: &str) -> Result<String, Error> {
    let mut parts = Vec::new();
    for (index, block) in result.content.iter().enumerate() {
        match block {
            ToolResultContentBlock::Text(text) => parts.push(text.clone()),
            ToolResultContentBlock::Json(value) => parts.push(value.to_string()),
            _ => return Err(not_text(format!("{field}.toolResult.content[{index}]"), "this block")),
        }
    }
    let text = parts.join("\n");
    let failed = result.status == Some(ToolResultStatus::Error);
    Ok(if failed && !text.to_lowercase().starts_with("error") { format!("Error: {text}") } else { text })
}

fn guarded_text(content: &GuardrailConverseContentBlock) -> Option<&str> {
    match content {
        GuardrailConverseContentBlock::Text(block) => Some(&block.text),
        _ => None,
    }
}

fn not_text(field: String, kind: &str) -> Error {
    Error::UnsupportedContent { field, reason: format!("this model takes text only, not {kind}") }
}

/// The messages with the system prompt at the beginning of the first user message instead, if there are both.
pub(super) fn fold_system(messages: &[Value]) -> Option<Vec<Value>> {
    let (first, rest) = messages.split_first()?;
    if first["role"] != "system" {
        return None;
    }
    let mut rest = rest.to_vec();
    let user = rest.iter_mut().find(|message| message["role"] == "user")?;
    let folded = format!("{}\n\n{}", first["content"].as_str()?, user["content"].as_str()?);
    user["content"] = json!(folded);
    Some(rest)
}

/// Whether any turn has calls of tools or their results.
pub(super) fn has_calls(messages: &[Value]) -> bool {
    messages.iter().any(|message| message["role"] == "tool" || message.get("tool_calls").is_some())
}

/// Names of calls as Mistral's templates demand them: nine letters and digits. Others are replaced, equal ones by equal ones.
pub(super) fn shorten_call_ids(messages: &mut [Value]) {
    let shorten = |id: &mut Value| {
        let text = id.as_str().unwrap_or_default();
        if text.len() != 9 || !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            *id = letters(&Sha256::digest(text), 9).into();
        }
    };
    for message in messages {
        if let Some(id) = message.get_mut("tool_call_id") {
            shorten(id);
        }
        let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
        calls.into_iter().flatten().for_each(|call| shorten(&mut call["id"]));
    }
}

/// So many letters and digits that stand for a hash.
pub(crate) fn letters(hash: &[u8], count: usize) -> String {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    hash.iter().cycle().take(count).map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

/// The messages with one call a turn, each followed by its result, for templates that know no more. None if that is so already.
pub(super) fn one_call_a_turn(messages: &[Value]) -> Option<Vec<Value>> {
    let calls_of = |message: &Value| message["tool_calls"].as_array().cloned().unwrap_or_default();
    if messages.iter().all(|message| calls_of(message).len() < 2) {
        return None;
    }
    let mut out = Vec::new();
    let mut rest = messages;
    while let Some((message, after)) = rest.split_first() {
        rest = after;
        let calls = calls_of(message);
        if calls.len() < 2 {
            out.push(message.clone());
            continue;
        }
        let results = after.iter().take_while(|message| message["role"] == "tool").count();
        let (results, after) = after.split_at(results);
        rest = after;
        for (index, call) in calls.iter().enumerate() {
            let mut turn = message.clone();
            turn["tool_calls"] = json!([call]);
            if index > 0 {
                turn["content"] = json!("");
            }
            out.push(turn);
            out.extend(results.iter().filter(|result| result["tool_call_id"] == call["id"]).cloned());
        }
    }
    Some(out)
}

/// The messages with something changed that a template may leave out: the field, its name, the messages.
///
/// Changed rather than removed: a template that counts messages would show the difference and still not the text.
pub(super) fn variations(messages: &[Value]) -> Vec<(&'static str, &'static str, Vec<Value>)> {
    let mut variations = Vec::new();
    let mut vary = |field, what, applies: &dyn Fn(&Value) -> bool, change: &dyn Fn(&mut Value)| {
        if messages.iter().any(applies) {
            let mut changed = messages.to_vec();
            changed.iter_mut().filter(|message| applies(message)).for_each(change);
            variations.push((field, what, changed));
        }
    };
    let has_text = |message: &Value| message["content"].as_str().is_some_and(|text| !text.trim().is_empty());
    let longer = |message: &mut Value| append(&mut message["content"]);
    vary("system", "system prompts", &|message| message["role"] == "system" && has_text(message), &longer);
    vary("messages", "tool results", &|message| message["role"] == "tool", &longer);
    vary("messages", "tool calls", &|message| message.get("tool_calls").is_some(), &|message| {
        message["tool_calls"].as_array_mut().into_iter().flatten().for_each(rename);
    });
    variations
}

/// The tools by other names.
pub(super) fn other_tools(tools: &[Value]) -> Vec<Value> {
    let mut tools = tools.to_vec();
    tools.iter_mut().for_each(rename);
    tools
}

fn rename(tool: &mut Value) {
    append(&mut tool["function"]["name"]);
}

fn append(text: &mut Value) {
    *text = json!(format!("{}_", text.as_str().unwrap_or_default()));
}

#[cfg(test)]
mod tests {
    use bedrock_core::{ImageBlock, ImageFormat, Message, ToolConfiguration, ToolSpecification, ToolUseBlock};

    use super::*;

    #[test]
    fn a_round_trip_with_tools_keeps_everything() {
        let mut request = ConverseRequest::new("m");
        request.system = vec!["Be brief.".into(), "Be kind.".into()];
        let call =
            ToolUseBlock { tool_use_id: "t1".into(), name: "count".into(), input: json!({"of": "bees"}), kind: None };
        request.messages = vec![
            Message::user("How many").with(" bees?"),
            Message::assistant("I count.").with(call),
            Message::user(ToolResultBlock::new("t1", json!({"n": 3}))).with("Well?"),
            Message::user(ToolResultBlock::error("t1", "no hive")),
        ];
        let schema = json!({"type": "object"});
        request.tool_config = Some(ToolConfiguration {
            tools: vec![ToolSpecification::new("count", "Counts.", schema).into()],
            tool_choice: None,
        });
        let conversation = messages_for_template(&request).unwrap();
        assert_eq!(
            json!(conversation.messages),
            json!([
                {"role": "system", "content": "Be brief.\nBe kind."},
                {"role": "user", "content": "How many bees?"},
                {"role": "assistant", "content": "I count.", "tool_calls": [
                    {"id": "t1", "type": "function", "function": {"name": "count", "arguments": {"of": "bees"}}}]},
                {"role": "tool", "tool_call_id": "t1", "content": "{\"n\":3}", "name": "count"},
                {"role": "user", "content": "Well?"},
                {"role": "tool", "tool_call_id": "t1", "content": "Error: no hive", "name": "count"},
            ])
        );
        assert_eq!(
            json!(conversation.tools),
            json!([{"type": "function", "function": {"name": "count", "description": "Counts.", "parameters": {"type": "object"}}}])
        );
    }

    #[test]
    fn what_is_no_text_is_refused_with_its_place() {
        let request = ConverseRequest::new("m")
            .user("a")
            .message(Message::user("look").with(ImageBlock::new(ImageFormat::Png, vec![1])));
        let error = messages_for_template(&request).unwrap_err();
        assert_eq!(error.to_string(), "messages[1].content[1]: this model takes text only, not image");
        assert_eq!(bedrock_core::Error::from(error).exception_name(), "ValidationException");
    }

    #[test]
    fn a_system_prompt_is_folded_into_the_first_question() {
        let messages = [
            json!({"role": "system", "content": "S"}),
            json!({"role": "user", "content": "A"}),
            json!({"role": "user", "content": "B"}),
        ];
        let folded = fold_system(&messages).unwrap();
        assert_eq!(folded, [json!({"role": "user", "content": "S\n\nA"}), messages[2].clone()]);
        assert_eq!(fold_system(&messages[1..]), None);
        assert_eq!(fold_system(&messages[..1]), None);
    }
}
