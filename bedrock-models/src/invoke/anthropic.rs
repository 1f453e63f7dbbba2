//! Bodies of Anthropic's Messages.

use bedrock_core::{
    Blob, CachePointBlock, ContentBlock, ContentBlockDelta, ContentBlockStart, ConverseRequest, ConverseResponse,
    DocumentBlock, DocumentFormat, DocumentSource, Error, ImageBlock, ImageFormat, Message, ReasoningContentBlock,
    ReasoningContentBlockDelta, ReasoningTextBlock, Role, StopReason, StreamEvent, SystemContentBlock, TokenUsage,
    ToolChoice, ToolConfiguration, ToolDefinition, ToolInputSchema, ToolResultBlock, ToolResultContentBlock,
    ToolResultStatus, ToolSpecification, ToolUseBlock,
};
use serde_json::{Map, Value, json};

use super::fields::{Fields, malformed};
use super::text::no_room;
use super::{Answer, Call, fresh_id, well_formed};

const VERSION: &str = "bedrock-2023-05-31";

pub(super) fn read(mut body: Fields, model_id: &str) -> Result<Call, Error> {
    body.required("anthropic_version", |body, key| body.label(key, &[VERSION]))?;
    let mut request =
        ConverseRequest::new("").max_tokens(body.required("max_tokens", |b, key| b.tokens(key, u32::MAX))?);
    let messages = body.required("messages", Fields::objects)?;
    if messages.is_empty() {
        return Err(malformed("#/messages: expected minimum item count: 1, found: 0"));
    }
    for (index, mut message) in messages.into_iter().enumerate() {
        let role = message.required("role", |message, key| message.label(key, &["user", "assistant"]))?;
        let role = if role == "user" { Role::User } else { Role::Assistant };
        let content = blocks(&mut message, "content", &format!("/messages/{index}/content"))?;
        let content =
            content.ok_or_else(|| malformed(format!("#/messages/{index}: required key [content] not found")))?;
        message.end()?;
        let blocks = content.into_iter().map(block).collect::<Result<Vec<_>, _>>()?;
        request.messages.push(Message { role, content: blocks.into_iter().flatten().collect() });
    }
    for mut part in blocks(&mut body, "system", "/system")?.unwrap_or_default() {
        part.required("type", |part, key| part.label(key, &["text"]))?;
        request.system.push(SystemContentBlock::Text(part.required("text", Fields::text)?));
        request.system.extend(cache_point(&mut part)?.map(SystemContentBlock::CachePoint));
        part.end()?;
    }
    let inference = request.inference_config.get_or_insert_with(Default::default);
    inference.temperature = body.number("temperature", 0.0, 1.0)?;
    inference.top_p = body.number("top_p", 0.0, 1.0)?;
    inference.stop_sequences = body.texts("stop_sequences", 8191)?.unwrap_or_default();
    if !inference.stop_sequences.is_empty() {
        request.additional_model_response_field_paths.push("/stop_sequence".into());
    }
    if let Some(top_k) = body.integer("top_k", 0, 500)?.filter(|top_k| *top_k > 0) {
        request = request.additional_field("top_k", top_k);
    }
    // What only some models know: those that do not will say so.
    for key in ["thinking", "anthropic_beta"] {
        if let Some(value) = body.take(key) {
            request = request.additional_field(key, value);
        }
    }
    request.tool_config = tools(&mut body)?;
    body.end()?;
    let answer =
        Messages { id: format!("msg_bdrk_{}", fresh_id(24)), model: model_id.to_string(), open: None, stop: None };
    Ok(Call { request, answer: Box::new(answer) })
}

/// Content: a text, which is one block of it, or a list of blocks.
fn blocks(fields: &mut Fields, key: &str, path: &str) -> Result<Option<Vec<Fields>>, Error> {
    match fields.take(key) {
        None => Ok(None),
        Some(Value::String(text)) => {
            Ok(Some(vec![Fields::of(json!({ "type": "text", "text": text }), path.to_string())?]))
        }
        Some(list) => {
            fields.put(key, list);
            fields.objects(key)
        }
    }
}

fn cache_point(fields: &mut Fields) -> Result<Option<CachePointBlock>, Error> {
    let Some(mut control) = fields.object("cache_control")? else { return Ok(None) };
    control.required("type", |control, key| control.label(key, &["ephemeral"]))?;
    let ttl = control.label("ttl", &["5m", "1h"])?;
    control.end()?;
    Ok(Some(CachePointBlock { ttl: ttl.map(|ttl| ttl.as_str().into()), ..CachePointBlock::default() }))
}

/// A block, and the cache point behind it.
fn block(mut fields: Fields) -> Result<Vec<ContentBlock>, Error> {
    const KINDS: &[&str] = &["text", "image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking"];
    let kind = fields.required("type", |fields, key| fields.label(key, KINDS))?;
    let content = match kind.as_str() {
        "image" => ContentBlock::Image(image(&mut fields)?),
        "document" => ContentBlock::Document(document(&mut fields)?),
        "tool_use" => ContentBlock::ToolUse(ToolUseBlock {
            tool_use_id: fields.required("id", Fields::some_text)?,
            name: fields.required("name", Fields::some_text)?,
            input: fields.required("input", |fields, key| Ok(fields.take(key)))?,
            kind: None,
        }),
        "tool_result" => ContentBlock::ToolResult(tool_result(&mut fields)?),
        "thinking" => ContentBlock::ReasoningContent(ReasoningContentBlock::ReasoningText(ReasoningTextBlock {
            text: fields.required("thinking", Fields::text)?,
            signature: fields.text("signature")?,
        })),
        "redacted_thinking" => {
            let data = bytes(&mut fields, "data")?;
            ContentBlock::ReasoningContent(ReasoningContentBlock::RedactedContent(data))
        }
        _ => ContentBlock::Text(fields.required("text", Fields::text)?),
    };
    let point = cache_point(&mut fields)?;
    fields.end()?;
    Ok([content].into_iter().chain(point.map(ContentBlock::CachePoint)).collect())
}

fn bytes(fields: &mut Fields, key: &str) -> Result<Blob, Error> {
    let text = fields.required(key, Fields::some_text)?;
    serde_json::from_value(Value::String(text)).map_err(|_| fields.unsupported(key, "expected base64"))
}

fn image(fields: &mut Fields) -> Result<ImageBlock, Error> {
    let mut source = fields.required("source", Fields::object)?;
    source.required("type", |source, key| source.label(key, &["base64"]))?;
    const TYPES: &[&str] = &["image/jpeg", "image/png", "image/gif", "image/webp"];
    let media_type = source.required("media_type", |source, key| source.label(key, TYPES))?;
    let data = bytes(&mut source, "data")?;
    source.end()?;
    Ok(ImageBlock::new(ImageFormat::from(media_type.trim_start_matches("image/")), data.0))
}

fn document(fields: &mut Fields) -> Result<DocumentBlock, Error> {
    let mut source = fields.required("source", Fields::object)?;
    let kind = source.required("type", |source, key| source.label(key, &["base64", "text"]))?;
    let media_type =
        source.required("media_type", |source, key| source.label(key, &["application/pdf", "text/plain"]))?;
    let data = match kind.as_str() {
        "text" => source.required("data", Fields::text)?.into_bytes(),
        _ => bytes(&mut source, "data")?.0,
    };
    source.end()?;
    let format = if media_type == "text/plain" { DocumentFormat::Txt } else { DocumentFormat::Pdf };
    let title = fields.some_text("title")?.unwrap_or_else(|| "document".into());
    fields.refuse("citations", &[json!({ "enabled": false })], "citations are not supported")?;
    Ok(DocumentBlock {
        format: Some(format),
        name: title,
        source: DocumentSource::Bytes(data.into()),
        context: fields.text("context")?,
        citations: None,
    })
}

fn tool_result(fields: &mut Fields) -> Result<ToolResultBlock, Error> {
    let tool_use_id = fields.required("tool_use_id", Fields::some_text)?;
    let mut content = Vec::new();
    for mut part in blocks(fields, "content", "/content")?.unwrap_or_default() {
        let kind = part.required("type", |part, key| part.label(key, &["text", "image"]))?;
        content.push(match kind.as_str() {
            "image" => ToolResultContentBlock::Image(image(&mut part)?),
            _ => ToolResultContentBlock::Text(part.required("text", Fields::text)?),
        });
        part.end()?;
    }
    // A result without content is an empty text: a block of it there has to be.
    if content.is_empty() {
        content.push(ToolResultContentBlock::Text(String::new()));
    }
    let status = fields.boolean("is_error")?.filter(|is_error| *is_error).map(|_| ToolResultStatus::Error);
    Ok(ToolResultBlock { tool_use_id, content, status, kind: None })
}

fn tools(body: &mut Fields) -> Result<Option<ToolConfiguration>, Error> {
    let mut config = ToolConfiguration::default();
    for mut tool in body.objects("tools")?.unwrap_or_default() {
        tool.label("type", &["custom"])?;
        config.tools.push(
            ToolSpecification {
                name: tool.required("name", Fields::some_text)?,
                description: tool.some_text("description")?,
                input_schema: ToolInputSchema::Json(tool.required("input_schema", |tool, key| Ok(tool.take(key)))?),
                strict: tool.boolean("strict")?,
            }
            .into(),
        );
        config.tools.extend(cache_point(&mut tool)?.map(ToolDefinition::CachePoint));
        tool.end()?;
    }
    if let Some(mut choice) = body.object("tool_choice")? {
        let kind = choice.required("type", |choice, key| choice.label(key, &["auto", "any", "tool", "none"]))?;
        config.tool_choice = match kind.as_str() {
            "any" => Some(ToolChoice::Any {}),
            "tool" => Some(ToolChoice::tool(choice.required("name", Fields::some_text)?)),
            "none" => {
                config.tools.clear();
                None
            }
            _ => Some(ToolChoice::Auto {}),
        };
        choice.refuse("disable_parallel_tool_use", &[json!(false)], "calls cannot be limited to one")?;
        choice.end()?;
    }
    Ok(Some(config).filter(|config| !config.tools.is_empty()))
}

/// An answer as a message.
struct Messages {
    id: String,
    model: String,
    /// The block that has begun.
    open: Option<u32>,
    stop: Option<(StopReason, Option<Value>)>,
}

impl Messages {
    fn message(&self, content: Vec<Value>, stop: Option<(&str, &Value)>, usage: Value) -> Value {
        let (reason, sequence) = stop.unzip();
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": content,
            "stop_reason": reason, "stop_sequence": sequence, "usage": usage,
        })
    }

    /// Begins a block unless it has begun.
    fn begin(&mut self, index: u32, block: Value, chunks: &mut Vec<Value>) {
        if self.open != Some(index) {
            self.open = Some(index);
            chunks.push(json!({ "type": "content_block_start", "index": index, "content_block": block }));
        }
    }
}

fn reason(stop: &StopReason) -> &str {
    match stop {
        StopReason::ContentFiltered => "refusal",
        // What a guardrail says is the whole answer.
        StopReason::GuardrailIntervened => "end_turn",
        other => other.as_str(),
    }
}

/// The sequence at which the model stopped, where it says so.
fn sequence(fields: Option<&Value>) -> Value {
    fields.and_then(|fields| fields.get("stop_sequence")).cloned().unwrap_or(Value::Null)
}

fn usage(usage: &TokenUsage) -> Value {
    let mut fields = Map::new();
    fields.insert("input_tokens".into(), usage.input_tokens.into());
    for (key, tokens) in [
        ("cache_creation_input_tokens", usage.cache_write_input_tokens),
        ("cache_read_input_tokens", usage.cache_read_input_tokens),
    ] {
        fields.extend(tokens.map(|tokens| (key.to_string(), tokens.into())));
    }
    fields.insert("output_tokens".into(), usage.output_tokens.into());
    fields.into()
}

impl Answer for Messages {
    fn whole(&mut self, response: &ConverseResponse) -> Result<Value, Error> {
        well_formed(&response.stop_reason)?;
        let mut content = Vec::new();
        for block in &response.message().content {
            content.push(match block {
                ContentBlock::Text(text) => json!({ "type": "text", "text": text }),
                ContentBlock::ToolUse(call) => {
                    json!({ "type": "tool_use", "id": call.tool_use_id, "name": call.name, "input": call.input })
                }
                ContentBlock::ReasoningContent(ReasoningContentBlock::ReasoningText(reasoning)) => json!({
                    "type": "thinking", "thinking": reasoning.text,
                    "signature": reasoning.signature.clone().unwrap_or_default(),
                }),
                ContentBlock::ReasoningContent(ReasoningContentBlock::RedactedContent(data)) => {
                    json!({ "type": "redacted_thinking", "data": data })
                }
                ContentBlock::CitationsContent(_) => {
                    json!({ "type": "text", "text": Message::assistant(block.clone()).text() })
                }
                other => return Err(no_room(other.kind())),
            });
        }
        let sequence = sequence(response.additional_model_response_fields.as_ref());
        Ok(self.message(content, Some((reason(&response.stop_reason), &sequence)), usage(&response.usage)))
    }

    fn chunks(&mut self, event: StreamEvent) -> Result<Vec<Value>, Error> {
        let mut chunks = Vec::new();
        match event {
            // How many tokens the prompt has is told with the last event.
            StreamEvent::MessageStart(_) => chunks.push(json!({
                "type": "message_start",
                "message": self.message(Vec::new(), None, json!({ "input_tokens": 0, "output_tokens": 0 })),
            })),
            StreamEvent::ContentBlockStart(event) => match event.start {
                ContentBlockStart::ToolUse(start) => {
                    let block = json!({ "type": "tool_use", "id": start.tool_use_id, "name": start.name, "input": {} });
                    self.begin(event.content_block_index, block, &mut chunks);
                }
                _ => return Err(no_room("a block")),
            },
            StreamEvent::ContentBlockDelta(event) => {
                let index = event.content_block_index;
                let thinking = json!({ "type": "thinking", "thinking": "", "signature": "" });
                let (block, delta) = match event.delta {
                    ContentBlockDelta::Text(text) => {
                        (json!({ "type": "text", "text": "" }), json!({ "type": "text_delta", "text": text }))
                    }
                    ContentBlockDelta::ToolUse(delta) => {
                        (Value::Null, json!({ "type": "input_json_delta", "partial_json": delta.input }))
                    }
                    ContentBlockDelta::ReasoningContent(delta) => match delta {
                        ReasoningContentBlockDelta::Text(text) => {
                            (thinking, json!({ "type": "thinking_delta", "thinking": text }))
                        }
                        ReasoningContentBlockDelta::Signature(signature) => {
                            (thinking, json!({ "type": "signature_delta", "signature": signature }))
                        }
                        ReasoningContentBlockDelta::RedactedContent(data) => {
                            let block = json!({ "type": "redacted_thinking", "data": data });
                            self.begin(index, block, &mut chunks);
                            return Ok(chunks);
                        }
                        _ => return Err(no_room("reasoning of this kind")),
                    },
                    // What is cited is left out of the whole answer too.
                    ContentBlockDelta::Citation(_) => return Ok(chunks),
                    _ => return Err(no_room("a block")),
                };
                self.begin(index, block, &mut chunks);
                chunks.push(json!({ "type": "content_block_delta", "index": index, "delta": delta }));
            }
            StreamEvent::ContentBlockStop(event) => {
                let index = event.content_block_index;
                self.begin(index, json!({ "type": "text", "text": "" }), &mut chunks);
                self.open = None;
                chunks.push(json!({ "type": "content_block_stop", "index": index }));
            }
            StreamEvent::MessageStop(event) => {
                well_formed(&event.stop_reason)?;
                self.stop = Some((event.stop_reason, event.additional_model_response_fields));
            }
            StreamEvent::Metadata(event) => {
                let (stop, fields) = self.stop.take().unwrap_or((StopReason::EndTurn, None));
                let delta = json!({ "stop_reason": reason(&stop), "stop_sequence": sequence(fields.as_ref()) });
                chunks.push(json!({ "type": "message_delta", "delta": delta, "usage": usage(&event.usage) }));
                chunks.push(json!({ "type": "message_stop" }));
            }
            _ => {}
        }
        Ok(chunks)
    }
}
