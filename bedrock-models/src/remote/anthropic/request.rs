//! From Converse to the body of `v1/messages`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bedrock_core::{
    CachePointBlock, CitationGeneratedContent, ContentBlock, ConverseRequest, DocumentBlock, DocumentContentBlock,
    DocumentFormat, DocumentSource, Error, ImageBlock, ImageSource, ReasoningContentBlock, Role, SearchResultBlock,
    SystemContentBlock, ToolChoice, ToolDefinition, ToolInputSchema, ToolResultContentBlock, ToolResultStatus,
};
use serde_json::{Map, Value, json};

use super::citation;
use crate::remote::ask::{add_fields, check, no_tier, refuse, refuse_block, schema};

/// `max_tokens` of a request that does not say.
const MAX_TOKENS: u32 = 4096;

/// Fields of the body that a request has other places for.
const OWN: [&str; 8] =
    ["model", "messages", "system", "stream", "stop_sequences", "tools", "tool_choice", "output_config"];

/// The body of a request whose answer streams.
pub(super) fn body(request: &ConverseRequest, model: &str) -> Result<Map<String, Value>, Error> {
    check(request)?;
    no_tier(request)?;
    let mut body = Map::new();
    body.insert("model".into(), model.into());
    let config = request.inference_config.clone().unwrap_or_default();
    body.insert("max_tokens".into(), config.max_tokens.unwrap_or(MAX_TOKENS).into());
    let mut system = Vec::new();
    for (index, block) in request.system.iter().enumerate() {
        let place = format!("system.{index}");
        match block {
            SystemContentBlock::Text(text) => system.push(json!({"type": "text", "text": text})),
            SystemContentBlock::CachePoint(point) => cache(&place, point, &mut system)?,
            _ => return refuse(place, "this model has no guardrails of its own"),
        }
    }
    if !system.is_empty() {
        body.insert("system".into(), system.into());
    }
    body.insert("messages".into(), messages(request)?.into());
    if let Some(temperature) = config.temperature {
        body.insert("temperature".into(), temperature.into());
    }
    if let Some(top_p) = config.top_p {
        body.insert("top_p".into(), top_p.into());
    }
    if !config.stop_sequences.is_empty() {
        body.insert("stop_sequences".into(), config.stop_sequences.into());
    }
    tools(&mut body, request)?;
    let mut output = Map::new();
    if let Some((schema, definition)) = schema(request)? {
        if definition.description.is_some() {
            return refuse(
                "outputConfig.textFormat.structure.jsonSchema.description",
                "this model has no place for it: say it in the schema",
            );
        }
        output.insert("format".into(), json!({"type": "json_schema", "schema": schema}));
    }
    if let Some(effort) = request.output_config.as_ref().and_then(|config| config.effort.as_ref()) {
        output.insert("effort".into(), effort.clone().into());
    }
    if !output.is_empty() {
        body.insert("output_config".into(), output.into());
    }
    body.insert("stream".into(), true.into());
    add_fields(&mut body, request, &OWN)?;
    Ok(body)
}

/// The body of a request for the number of its tokens: what of it is prompt.
pub(super) fn count_body(request: &ConverseRequest, model: &str) -> Result<Map<String, Value>, Error> {
    const PROMPT: [&str; 7] = ["model", "messages", "system", "tools", "tool_choice", "thinking", "output_config"];
    Ok(body(request, model)?.into_iter().filter(|(name, _)| PROMPT.contains(&name.as_str())).collect())
}

/// Marks the block before a cache point.
fn cache(place: &str, point: &CachePointBlock, blocks: &mut [Value]) -> Result<(), Error> {
    let Some(Value::Object(block)) = blocks.last_mut() else {
        return refuse(format_args!("{place}.cachePoint"), "there is nothing before it to cache");
    };
    let mut control = Map::from_iter([("type".to_owned(), json!("ephemeral"))]);
    if let Some(ttl) = &point.ttl {
        control.insert("ttl".into(), ttl.as_str().into());
    }
    block.insert("cache_control".into(), control.into());
    Ok(())
}

fn tools(body: &mut Map<String, Value>, request: &ConverseRequest) -> Result<(), Error> {
    let Some(config) = &request.tool_config else { return Ok(()) };
    let mut tools = Vec::new();
    for (index, definition) in config.tools.iter().enumerate() {
        let place = format!("toolConfig.tools.{index}");
        match definition {
            ToolDefinition::ToolSpec(tool) => {
                let ToolInputSchema::Json(schema) = &tool.input_schema else {
                    return refuse(place, "only JSON schemas are supported");
                };
                let mut out = Map::from_iter([("name".to_owned(), tool.name.clone().into())]);
                if let Some(description) = &tool.description {
                    out.insert("description".into(), description.clone().into());
                }
                out.insert("input_schema".into(), schema.clone());
                if let Some(strict) = tool.strict {
                    out.insert("strict".into(), strict.into());
                }
                tools.push(out.into());
            }
            ToolDefinition::CachePoint(point) => cache(&place, point, &mut tools)?,
            _ => return refuse(place, "this model has no tools of its own"),
        }
    }
    body.insert("tools".into(), tools.into());
    if let Some(choice) = &config.tool_choice {
        let choice = match choice {
            ToolChoice::Auto {} => json!({"type": "auto"}),
            ToolChoice::Any {} => json!({"type": "any"}),
            ToolChoice::Tool(tool) => json!({"type": "tool", "name": tool.name}),
            _ => return refuse("toolConfig.toolChoice", "this model does not know it"),
        };
        body.insert("tool_choice".into(), choice);
    }
    Ok(())
}

fn messages(request: &ConverseRequest) -> Result<Vec<Value>, Error> {
    let mut out = Vec::new();
    for (index, message) in request.messages.iter().enumerate() {
        if message.role == Role::System {
            return refuse(format_args!("messages.{index}.role"), "this model takes instructions in `system` alone");
        }
        let mut blocks = Vec::new();
        for (block_index, block) in message.content.iter().enumerate() {
            let place = format!("messages.{index}.content.{block_index}");
            match block {
                ContentBlock::CachePoint(point) => cache(&place, point, &mut blocks)?,
                block => blocks.push(content(&place, block)?),
            }
        }
        out.push(json!({"role": message.role.as_str(), "content": blocks}));
    }
    Ok(out)
}

fn content(place: &str, block: &ContentBlock) -> Result<Value, Error> {
    Ok(match block {
        ContentBlock::Text(text) => json!({"type": "text", "text": text}),
        ContentBlock::Image(block) => image(&format!("{place}.image"), block)?,
        ContentBlock::Document(block) => document(&format!("{place}.document"), block)?,
        ContentBlock::SearchResult(block) => search_result(block),
        ContentBlock::ToolUse(call) if call.kind.is_none() => {
            json!({"type": "tool_use", "id": call.tool_use_id, "name": call.name, "input": call.input})
        }
        ContentBlock::ToolResult(result) => {
            let mut parts = Vec::new();
            for (index, part) in result.content.iter().enumerate() {
                parts.push(result_part(&format!("{place}.toolResult.content.{index}"), part)?);
            }
            let mut out = json!({"type": "tool_result", "tool_use_id": result.tool_use_id, "content": parts});
            if result.status == Some(ToolResultStatus::Error) {
                out["is_error"] = true.into();
            }
            out
        }
        ContentBlock::ReasoningContent(ReasoningContentBlock::ReasoningText(text)) => match &text.signature {
            Some(signature) => json!({"type": "thinking", "thinking": text.text, "signature": signature}),
            None => return refuse(format_args!("{place}.reasoningContent"), "this model wants its signature back"),
        },
        ContentBlock::ReasoningContent(ReasoningContentBlock::RedactedContent(data)) => {
            match std::str::from_utf8(data.as_bytes()) {
                Ok(data) => json!({"type": "redacted_thinking", "data": data}),
                Err(_) => {
                    return refuse(format_args!("{place}.reasoningContent"), "this is no reasoning of this model");
                }
            }
        }
        ContentBlock::CitationsContent(block) => {
            let texts = block.content.iter().map(|piece| match piece {
                CitationGeneratedContent::Text(text) => Ok(text.as_str()),
                _ => refuse(format_args!("{place}.citationsContent"), "this model cites for texts alone"),
            });
            let citations = block.citations.iter().map(|citation| {
                let field = format!("{place}.citationsContent.citations");
                citation::outgoing(citation).map_or_else(|| refuse(field, "this is no citation of this model"), Ok)
            });
            json!({
                "type": "text",
                "text": texts.collect::<Result<Vec<_>, _>>()?.concat(),
                "citations": citations.collect::<Result<Vec<_>, _>>()?,
            })
        }
        other => return refuse_block(place, other),
    })
}

fn result_part(place: &str, part: &ToolResultContentBlock) -> Result<Value, Error> {
    Ok(match part {
        ToolResultContentBlock::Text(text) => json!({"type": "text", "text": text}),
        ToolResultContentBlock::Json(value) => json!({"type": "text", "text": value.to_string()}),
        ToolResultContentBlock::Image(block) => image(&format!("{place}.image"), block)?,
        ToolResultContentBlock::Document(block) => document(&format!("{place}.document"), block)?,
        ToolResultContentBlock::SearchResult(block) => search_result(block),
        _ => return refuse(place, "this model can't take it"),
    })
}

fn base64(kind: &str, bytes: &[u8]) -> Value {
    json!({"type": "base64", "media_type": kind, "data": STANDARD.encode(bytes)})
}

fn image(place: &str, block: &ImageBlock) -> Result<Value, Error> {
    match &block.source {
        ImageSource::Bytes(bytes) => {
            let kind = format!("image/{}", block.format.as_str());
            Ok(json!({"type": "image", "source": base64(&kind, bytes.as_bytes())}))
        }
        _ => refuse(format_args!("{place}.source"), "this model can't read from a store: give the bytes"),
    }
}

fn document(place: &str, block: &DocumentBlock) -> Result<Value, Error> {
    let plain = |text: &str| json!({"type": "text", "media_type": "text/plain", "data": text});
    let source = match (&block.source, &block.format) {
        (DocumentSource::Bytes(bytes), Some(DocumentFormat::Pdf)) => base64("application/pdf", bytes.as_bytes()),
        (
            DocumentSource::Bytes(bytes),
            Some(DocumentFormat::Txt | DocumentFormat::Md | DocumentFormat::Csv | DocumentFormat::Html),
        ) => match std::str::from_utf8(bytes.as_bytes()) {
            Ok(text) => plain(text),
            Err(_) => return refuse(format_args!("{place}.source.bytes"), "this is no UTF-8 text"),
        },
        (DocumentSource::Text(text), _) => plain(text),
        (DocumentSource::Content(pieces), _) => {
            let pieces = pieces.iter().map(|piece| match piece {
                DocumentContentBlock::Text(text) => Ok(json!({"type": "text", "text": text})),
                _ => refuse(format_args!("{place}.source.content"), "this model can't take it"),
            });
            json!({"type": "content", "content": pieces.collect::<Result<Vec<_>, _>>()?})
        }
        _ => return refuse(place, "this model reads PDF and texts, given with the request"),
    };
    let mut out = json!({"type": "document", "source": source, "title": block.name});
    if let Some(context) = &block.context {
        out["context"] = context.clone().into();
    }
    if let Some(citations) = &block.citations {
        out["citations"] = json!({"enabled": citations.enabled});
    }
    Ok(out)
}

fn search_result(block: &SearchResultBlock) -> Value {
    let pieces: Vec<_> = block.content.iter().map(|piece| json!({"type": "text", "text": piece.text})).collect();
    let mut out = json!({"type": "search_result", "source": block.source, "title": block.title, "content": pieces});
    if let Some(citations) = &block.citations {
        out["citations"] = json!({"enabled": citations.enabled});
    }
    out
}
