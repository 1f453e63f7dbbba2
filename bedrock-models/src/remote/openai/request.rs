//! From Converse to the body of `chat/completions`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bedrock_core::{
    AudioFormat, AudioSource, ContentBlock, ConverseRequest, DocumentFormat, DocumentSource, Error, ImageBlock,
    ImageSource, Message, ReasoningContentBlock, Role, ServiceTierType, SystemContentBlock, ToolChoice, ToolDefinition,
    ToolInputSchema, ToolResultBlock, ToolResultStatus,
};
use serde_json::{Map, Value, json};

use crate::remote::ask::{
    add_fields, check, document_text, no_effort, no_tier, refuse, refuse_block, result_text, schema, wants_citations,
};

/// What is read besides text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::remote) enum Media {
    /// Nothing.
    None,
    /// Pictures.
    Pictures,
    /// Pictures, sound and PDF files.
    All,
}

/// In what servers of this interface differ.
#[derive(Debug, Clone, Copy)]
pub(in crate::remote) struct Dialect {
    /// Name of the field for `maxTokens`.
    pub(in crate::remote) max_tokens: &'static str,
    /// Whether usage in streams must be, and may be, asked for.
    pub(in crate::remote) stream_options: bool,
    /// What is read besides text.
    pub(in crate::remote) media: Media,
    /// Whether there are JSON schemas, levels of effort and service tiers.
    pub(in crate::remote) extras: bool,
}

/// Fields of the body that a request has other places for.
const OWN: [&str; 10] = [
    "model",
    "messages",
    "stream",
    "stream_options",
    "stop",
    "max_tokens",
    "max_completion_tokens",
    "tools",
    "tool_choice",
    "n",
];

/// The body of a chat request.
pub(in crate::remote) fn body(
    request: &ConverseRequest,
    model: &str,
    dialect: &Dialect,
    stream: bool,
) -> Result<Map<String, Value>, Error> {
    check(request)?;
    let mut body = Map::new();
    body.insert("model".into(), model.into());
    body.insert("messages".into(), messages(request, dialect)?.into());
    length_and_sampling(&mut body, request, dialect);
    if let Some(config) = &request.tool_config {
        let tools = config.tools.iter().enumerate().map(|(index, definition)| tool(index, definition));
        body.insert("tools".into(), tools.collect::<Result<Vec<_>, _>>()?.into());
        if let Some(choice) = &config.tool_choice {
            let choice = match choice {
                ToolChoice::Auto {} => json!("auto"),
                ToolChoice::Any {} => json!("required"),
                ToolChoice::Tool(tool) => json!({"type": "function", "function": {"name": tool.name}}),
                _ => return refuse("toolConfig.toolChoice", "this model does not know it"),
            };
            body.insert("tool_choice".into(), choice);
        }
    }
    if dialect.extras {
        extras(&mut body, request)?;
    } else {
        no_effort(request)?;
        no_tier(request)?;
        if schema(request)?.is_some() {
            return refuse("outputConfig.textFormat", "this model has no JSON schemas");
        }
    }
    if stream {
        body.insert("stream".into(), true.into());
        if dialect.stream_options {
            body.insert("stream_options".into(), json!({"include_usage": true}));
        }
    }
    add_fields(&mut body, request, &OWN)?;
    Ok(body)
}

/// `max_tokens`, `temperature`, `top_p` and `stop`.
pub(super) fn length_and_sampling(body: &mut Map<String, Value>, request: &ConverseRequest, dialect: &Dialect) {
    let Some(config) = &request.inference_config else { return };
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.into(), value);
        }
    };
    put(dialect.max_tokens, config.max_tokens.map(Value::from));
    put("temperature", config.temperature.map(Value::from));
    put("top_p", config.top_p.map(Value::from));
    put("stop", (!config.stop_sequences.is_empty()).then(|| config.stop_sequences.clone().into()));
}

fn extras(body: &mut Map<String, Value>, request: &ConverseRequest) -> Result<(), Error> {
    if let Some((schema, definition)) = schema(request)? {
        let mut described = Map::new();
        described.insert("name".into(), definition.name.as_deref().unwrap_or("answer").into());
        if let Some(description) = &definition.description {
            described.insert("description".into(), description.clone().into());
        }
        described.insert("schema".into(), schema);
        described.insert("strict".into(), true.into());
        body.insert("response_format".into(), json!({"type": "json_schema", "json_schema": described}));
    }
    if let Some(effort) = request.output_config.as_ref().and_then(|config| config.effort.as_ref()) {
        body.insert("reasoning_effort".into(), effort.clone().into());
    }
    if let Some(tier) = &request.service_tier {
        match tier.kind {
            ServiceTierType::Priority | ServiceTierType::Default | ServiceTierType::Flex => {
                body.insert("service_tier".into(), tier.kind.as_str().into());
            }
            _ => return refuse("serviceTier.type", format_args!("this model has no tier {:?}", tier.kind.as_str())),
        }
    }
    Ok(())
}

/// One tool.
pub(in crate::remote) fn tool(index: usize, definition: &ToolDefinition) -> Result<Value, Error> {
    let field = format!("toolConfig.tools.{index}");
    let tool = match definition {
        ToolDefinition::ToolSpec(tool) => tool,
        ToolDefinition::CachePoint(_) => return refuse(field, "this model has no cache points"),
        _ => return refuse(field, "this model has no tools of its own"),
    };
    let ToolInputSchema::Json(schema) = &tool.input_schema else {
        return refuse(field, "only JSON schemas are supported");
    };
    let mut function = Map::new();
    function.insert("name".into(), tool.name.clone().into());
    if let Some(description) = &tool.description {
        function.insert("description".into(), description.clone().into());
    }
    function.insert("parameters".into(), schema.clone());
    if let Some(strict) = tool.strict {
        function.insert("strict".into(), strict.into());
    }
    Ok(json!({"type": "function", "function": function}))
}

/// The turns.
pub(in crate::remote) fn messages(request: &ConverseRequest, dialect: &Dialect) -> Result<Vec<Value>, Error> {
    let mut out = Vec::new();
    let mut system = Vec::new();
    for (index, block) in request.system.iter().enumerate() {
        match block {
            SystemContentBlock::Text(text) => system.push(text.as_str()),
            _ => return refuse(format_args!("system.{index}"), "this model takes text alone there"),
        }
    }
    if !system.is_empty() {
        out.push(json!({"role": "system", "content": system.join("\n\n")}));
    }
    for (index, message) in request.messages.iter().enumerate() {
        let place = format!("messages.{index}.content");
        match message.role {
            Role::Assistant => {
                if index + 1 == request.messages.len() {
                    return refuse(format_args!("messages.{index}"), "this model can't continue a turn of its own");
                }
                out.push(assistant(&place, message)?);
            }
            Role::System => {
                let text = texts(&place, message)?;
                out.push(json!({"role": "system", "content": text}));
            }
            _ => user(&place, message, dialect, &mut out)?,
        }
    }
    Ok(out)
}

/// The texts of a turn that may have nothing else.
fn texts(place: &str, message: &Message) -> Result<String, Error> {
    let texts = message.content.iter().enumerate().map(|(index, block)| match block {
        ContentBlock::Text(text) => Ok(text.as_str()),
        other => refuse_block(&format!("{place}.{index}"), other),
    });
    Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n\n"))
}

/// A turn of the user: answers of tools first, each a message of its own, then the rest.
fn user(place: &str, message: &Message, dialect: &Dialect, out: &mut Vec<Value>) -> Result<(), Error> {
    let mut parts = Vec::new();
    for (index, block) in message.content.iter().enumerate() {
        let place = format!("{place}.{index}");
        match block {
            ContentBlock::ToolResult(result) => out.push(tool_result(&place, result)?),
            other => parts.push(part(&place, other, dialect)?),
        }
    }
    let text = |part: &Value| part.get("text").and_then(Value::as_str).map(str::to_owned);
    match &parts[..] {
        [] => {}
        [only] if text(only).is_some() => out.push(json!({"role": "user", "content": text(only)})),
        _ => out.push(json!({"role": "user", "content": parts})),
    }
    Ok(())
}

fn tool_result(place: &str, result: &ToolResultBlock) -> Result<Value, Error> {
    let Some(text) = result_text(&result.content) else {
        return refuse(format_args!("{place}.toolResult.content"), "this model reads answers of tools as text alone");
    };
    // There is no place for the status: the model is told in words.
    let text = if result.status == Some(ToolResultStatus::Error) { format!("Error: {text}") } else { text };
    Ok(json!({"role": "tool", "tool_call_id": result.tool_use_id, "content": text}))
}

fn part(place: &str, block: &ContentBlock, dialect: &Dialect) -> Result<Value, Error> {
    let text = |text: &str| json!({"type": "text", "text": text});
    match block {
        ContentBlock::Text(said) => Ok(text(said)),
        ContentBlock::Image(image) if dialect.media != Media::None => {
            Ok(json!({"type": "image_url", "image_url": {"url": image_url(place, image)?}}))
        }
        ContentBlock::Document(document) => {
            if wants_citations(document) {
                return refuse(format_args!("{place}.document.citations"), "this model does not cite");
            }
            if let Some(said) = document_text(document) {
                return Ok(text(&said));
            }
            match (&document.source, &document.format) {
                (DocumentSource::Bytes(bytes), Some(DocumentFormat::Pdf))
                    if dialect.media == Media::All && document.context.is_none() =>
                {
                    let data = format!("data:application/pdf;base64,{}", STANDARD.encode(bytes.as_bytes()));
                    Ok(
                        json!({"type": "file", "file": {"filename": format!("{}.pdf", document.name), "file_data": data}}),
                    )
                }
                _ => refuse(
                    format_args!("{place}.document"),
                    "this model reads texts, and if any files PDF without context",
                ),
            }
        }
        ContentBlock::Audio(audio) if dialect.media == Media::All => match (&audio.source, &audio.format) {
            (AudioSource::Bytes(bytes), AudioFormat::Wav | AudioFormat::Mp3) => {
                let data = STANDARD.encode(bytes.as_bytes());
                Ok(json!({"type": "input_audio", "input_audio": {"data": data, "format": audio.format.as_str()}}))
            }
            _ => refuse(format_args!("{place}.audio"), "this model hears wav and mp3, given as bytes"),
        },
        other => refuse_block(place, other),
    }
}

fn image_url(place: &str, image: &ImageBlock) -> Result<String, Error> {
    match &image.source {
        ImageSource::Bytes(bytes) => {
            Ok(format!("data:image/{};base64,{}", image.format.as_str(), STANDARD.encode(bytes.as_bytes())))
        }
        _ => refuse(format_args!("{place}.image.source"), "this model can't read from a store: give the bytes"),
    }
}

/// A turn of the model.
fn assistant(place: &str, message: &Message) -> Result<Value, Error> {
    let (mut text, mut reasoning, mut calls) = (String::new(), String::new(), Vec::new());
    for (index, block) in message.content.iter().enumerate() {
        let place = format!("{place}.{index}");
        match block {
            ContentBlock::Text(said) => text.push_str(said),
            ContentBlock::ToolUse(call) if call.kind.is_none() => {
                let arguments = call.input.to_string();
                let function = json!({"name": call.name, "arguments": arguments});
                calls.push(json!({"id": call.tool_use_id, "type": "function", "function": function}));
            }
            ContentBlock::ReasoningContent(ReasoningContentBlock::ReasoningText(said)) if said.signature.is_none() => {
                reasoning.push_str(&said.text);
            }
            other => return refuse_block(&place, other),
        }
    }
    let mut out = Map::new();
    out.insert("role".into(), "assistant".into());
    out.insert("content".into(), if text.is_empty() { Value::Null } else { text.into() });
    if !reasoning.is_empty() {
        out.insert("reasoning_content".into(), reasoning.into());
    }
    if !calls.is_empty() {
        out.insert("tool_calls".into(), calls.into());
    }
    Ok(out.into())
}
