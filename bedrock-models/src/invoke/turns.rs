//! Conversations as Mistral and Jamba write them: messages with roles, tools as functions, an answer of choices.

use bedrock_core::{
    ContentBlock, ContentBlockDelta, ContentBlockStart, ConverseRequest, ConverseResponse, Error, Message, Role,
    StopReason, StreamEvent, SystemContentBlock, TokenUsage, ToolChoice, ToolConfiguration, ToolInputSchema,
    ToolResultBlock, ToolSpecification, ToolUseBlock,
};
use serde_json::{Value, json};

use super::fields::{Fields, malformed};
use super::text::no_room;
use super::{Answer, all_input_tokens, fresh_id, was_cut, well_formed};

/// Reads `messages`, `tools` and, where the family has it, `tool_choice` into a request.
pub(super) fn read(body: &mut Fields) -> Result<ConverseRequest, Error> {
    let mut request = ConverseRequest::new("");
    let messages = body.required("messages", Fields::objects)?;
    if messages.is_empty() {
        return Err(malformed("#/messages: expected minimum item count: 1, found: 0"));
    }
    for mut fields in messages {
        let role =
            fields.required("role", |fields, key| fields.label(key, &["system", "user", "assistant", "tool"]))?;
        match role.as_str() {
            "system" => request.system.push(SystemContentBlock::Text(fields.required("content", text_of)?)),
            "assistant" => {
                let mut blocks = Vec::new();
                // Beside calls the text may be null.
                if fields.take_null("content") {
                } else if let Some(text) = text_of(&mut fields, "content")?.filter(|text| !text.is_empty()) {
                    blocks.push(ContentBlock::Text(text));
                }
                let calls = if fields.take_null("tool_calls") { None } else { fields.objects("tool_calls")? };
                for call in calls.unwrap_or_default() {
                    blocks.push(ContentBlock::ToolUse(read_call(call)?));
                }
                request.messages.push(Message { role: Role::Assistant, content: blocks });
            }
            "tool" => {
                let id = fields.required("tool_call_id", Fields::some_text)?;
                fields.text("name")?;
                let content = fields.required("content", text_of)?;
                push_user(&mut request, ContentBlock::ToolResult(ToolResultBlock::new(id, content)));
            }
            _ => {
                let content = fields.required("content", text_of)?;
                push_user(&mut request, ContentBlock::Text(content));
            }
        }
        fields.end()?;
    }
    let mut tools = ToolConfiguration::default();
    for mut tool in body.objects("tools")?.unwrap_or_default() {
        tool.required("type", |tool, key| tool.label(key, &["function"]))?;
        let mut function = tool.required("function", Fields::object)?;
        let schema = function.take("parameters").unwrap_or_else(|| json!({ "type": "object", "properties": {} }));
        tools.tools.push(
            ToolSpecification {
                name: function.required("name", Fields::some_text)?,
                description: function.some_text("description")?,
                input_schema: ToolInputSchema::Json(schema),
                strict: function.boolean("strict")?,
            }
            .into(),
        );
        function.end()?;
        tool.end()?;
    }
    match body.label("tool_choice", &["auto", "any", "required", "none"])?.as_deref() {
        Some("any" | "required") => tools.tool_choice = Some(ToolChoice::Any {}),
        Some("none") => tools.tools.clear(),
        _ => {}
    }
    request.tool_config = Some(tools).filter(|tools| !tools.tools.is_empty());
    Ok(request)
}

/// Results of several calls are one turn of the user.
fn push_user(request: &mut ConverseRequest, block: ContentBlock) {
    let is_result = |block: &ContentBlock| matches!(block, ContentBlock::ToolResult(_));
    match request.messages.last_mut() {
        Some(last) if last.role == Role::User && is_result(&block) && last.content.iter().all(is_result) => {
            last.content.push(block);
        }
        _ => request.messages.push(Message { role: Role::User, content: vec![block] }),
    }
}

/// A text, or a list of parts that are texts.
fn text_of(fields: &mut Fields, key: &str) -> Result<Option<String>, Error> {
    match fields.take(key) {
        None => Ok(None),
        Some(Value::Array(parts)) => {
            let mut text = String::new();
            for (index, part) in parts.into_iter().enumerate() {
                let mut part = Fields::of(part, format!("/messages/{key}/{index}"))?;
                part.required("type", |part, key| part.label(key, &["text"]))?;
                text.push_str(&part.required("text", Fields::text)?);
                part.end()?;
            }
            Ok(Some(text))
        }
        Some(other) => {
            let mut whole = Fields::of(json!({ key: other }), "/messages".into())?;
            whole.text(key)
        }
    }
}

fn read_call(mut call: Fields) -> Result<ToolUseBlock, Error> {
    let tool_use_id = call.required("id", Fields::some_text)?;
    call.label("type", &["function"])?;
    let mut function = call.required("function", Fields::object)?;
    let arguments = function.required("arguments", Fields::text)?;
    let input = serde_json::from_str(&arguments)
        .map_err(|_| function.unsupported("arguments", "expected the text of a JSON object"))?;
    let name = function.required("name", Fields::some_text)?;
    function.end()?;
    call.end()?;
    Ok(ToolUseBlock { tool_use_id, name, input, kind: None })
}

impl Fields {
    /// Takes a field that is null.
    fn take_null(&mut self, key: &str) -> bool {
        let value = self.take(key);
        match value {
            Some(Value::Null) => true,
            Some(value) => {
                self.put(key, value);
                false
            }
            None => false,
        }
    }
}

/// Where the two differ in how they write an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `message` in chunks too, `stop_reason` beside `finish_reason`.
    Mistral,
    /// `delta` in chunks.
    Jamba,
}

/// An answer of one choice.
pub(super) struct Choices {
    style: Style,
    id: String,
    model: String,
    /// Calls so far; the number of each.
    calls: usize,
    stop: Option<StopReason>,
}

impl Choices {
    pub(super) fn boxed(style: Style, model: &str) -> Box<dyn Answer> {
        let id = format!("chat-{}", fresh_id(24));
        Box::new(Self { style, id, model: model.to_string(), calls: 0, stop: None })
    }

    fn body(&self, choice: Value, usage: Option<&TokenUsage>, object: &str) -> Value {
        let mut body = json!({ "id": self.id, "choices": [choice] });
        if self.style == Style::Mistral {
            body["object"] = object.into();
            body["model"] = self.model.clone().into();
        }
        if let Some(usage) = usage {
            let prompt = all_input_tokens(usage);
            body["usage"] = json!({
                "prompt_tokens": prompt, "completion_tokens": usage.output_tokens,
                "total_tokens": prompt.saturating_add(usage.output_tokens),
            });
        }
        body
    }

    fn choice(&self, key: &str, message: Value, stop: Option<&StopReason>) -> Value {
        let reason = stop.map(|stop| match stop {
            StopReason::ToolUse => "tool_calls",
            stop if was_cut(stop) => "length",
            _ => "stop",
        });
        let mut choice = json!({ "index": 0, key: message, "finish_reason": reason });
        if self.style == Style::Mistral {
            choice["stop_reason"] = reason.into();
        }
        choice
    }

    fn chunk(&self, message: Value, stop: Option<&StopReason>, usage: Option<&TokenUsage>) -> Value {
        let key = if self.style == Style::Mistral { "message" } else { "delta" };
        self.body(self.choice(key, message, stop), usage, "chat.completion.chunk")
    }
}

impl Answer for Choices {
    fn whole(&mut self, response: &ConverseResponse) -> Result<Value, Error> {
        well_formed(&response.stop_reason)?;
        let mut calls = Vec::new();
        for block in &response.message().content {
            match block {
                ContentBlock::ToolUse(call) => calls.push(json!({
                    "id": call.tool_use_id, "type": "function",
                    "function": { "name": call.name, "arguments": call.input.to_string() },
                })),
                ContentBlock::Text(_) | ContentBlock::CitationsContent(_) | ContentBlock::ReasoningContent(_) => {}
                other => return Err(no_room(other.kind())),
            }
        }
        let mut message = json!({ "role": "assistant", "content": response.text() });
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        let choice = self.choice("message", message, Some(&response.stop_reason));
        Ok(self.body(choice, Some(&response.usage), "chat.completion"))
    }

    fn chunks(&mut self, event: StreamEvent) -> Result<Vec<Value>, Error> {
        let call = |index: usize, fields: Value| {
            let mut call = json!({ "index": index });
            if let (Value::Object(call), Value::Object(fields)) = (&mut call, fields) {
                call.extend(fields);
            }
            json!({ "tool_calls": [call] })
        };
        Ok(match event {
            StreamEvent::MessageStart(_) => {
                vec![self.chunk(json!({ "role": "assistant", "content": "" }), None, None)]
            }
            StreamEvent::ContentBlockStart(event) => match event.start {
                ContentBlockStart::ToolUse(start) => {
                    self.calls += 1;
                    let function = json!({ "name": start.name, "arguments": "" });
                    let fields = json!({ "id": start.tool_use_id, "type": "function", "function": function });
                    vec![self.chunk(call(self.calls - 1, fields), None, None)]
                }
                _ => return Err(no_room("a block")),
            },
            StreamEvent::ContentBlockDelta(event) => match event.delta {
                ContentBlockDelta::Text(text) => vec![self.chunk(json!({ "content": text }), None, None)],
                ContentBlockDelta::ToolUse(delta) => {
                    let fields = json!({ "function": { "arguments": delta.input } });
                    vec![self.chunk(call(self.calls.saturating_sub(1), fields), None, None)]
                }
                ContentBlockDelta::Citation(_) | ContentBlockDelta::ReasoningContent(_) => Vec::new(),
                _ => return Err(no_room("a block")),
            },
            StreamEvent::MessageStop(event) => {
                well_formed(&event.stop_reason)?;
                self.stop = Some(event.stop_reason);
                Vec::new()
            }
            StreamEvent::Metadata(event) => {
                let stop = self.stop.take().unwrap_or(StopReason::EndTurn);
                vec![self.chunk(json!({ "content": "" }), Some(&stop), Some(&event.usage))]
            }
            _ => Vec::new(),
        })
    }
}
