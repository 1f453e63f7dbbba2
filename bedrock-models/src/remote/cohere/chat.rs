//! `v2/chat`: from Converse to Cohere's body.

use std::time::Instant;

use bedrock_core::{BoxFuture, ChatModel, ConverseRequest, Error, EventStream, ToolChoice, ToolDefinition};
use serde_json::{Map, Value, json};

use super::answer::Answer;
use crate::remote::ask::{add_fields, check, no_effort, no_tier, refuse, schema};
use crate::remote::events::SseReader;
use crate::remote::openai::{Dialect, Media, messages, tool};
use crate::remote::runtime::stream;
use crate::remote::transport::{Call, Transport};

/// Fields of the body that a request has other places for.
const OWN: [&str; 8] = ["model", "messages", "stream", "stop_sequences", "max_tokens", "p", "tools", "tool_choice"];

/// Messages are as OpenAI has them, but for what [`turns`] changes.
const DIALECT: Dialect =
    Dialect { max_tokens: "max_tokens", stream_options: false, media: Media::Pictures, extras: false };

/// A chat model behind [`Cohere`](super::Cohere).
///
/// Pictures are read; documents that are texts become part of the turn, under their name. Cohere's citations are switched off, since they name places of
/// the answer and none of the source; documents that shall be cited are refused as [`Error::Validation`], and so are sound, video, files, cache
/// points, effort, service tiers, a last turn of the model's own and the choice of one certain tool. One tool that is strict makes all strict.
/// `requestMetadata` is for logs and not sent.
#[derive(Debug, Clone)]
pub struct CohereChat {
    transport: Transport,
    model: String,
}

impl CohereChat {
    pub(super) fn new(transport: Transport, model: String) -> Self {
        Self { transport, model }
    }

    fn body(&self, request: &ConverseRequest) -> Result<Map<String, Value>, Error> {
        check(request)?;
        no_effort(request)?;
        no_tier(request)?;
        let mut body = Map::new();
        body.insert("model".into(), self.model.clone().into());
        body.insert("messages".into(), turns(request)?.into());
        let config = request.inference_config.clone().unwrap_or_default();
        for (name, value) in [
            ("max_tokens", config.max_tokens.map(Value::from)),
            ("temperature", config.temperature.map(Value::from)),
            ("p", config.top_p.map(Value::from)),
            ("stop_sequences", (!config.stop_sequences.is_empty()).then(|| config.stop_sequences.into())),
        ] {
            if let Some(value) = value {
                body.insert(name.into(), value);
            }
        }
        tools(&mut body, request)?;
        if let Some((schema, definition)) = schema(request)? {
            if definition.description.is_some() {
                let field = "outputConfig.textFormat.structure.jsonSchema.description";
                return refuse(field, "this model has no place for it: say it in the schema");
            }
            body.insert("response_format".into(), json!({"type": "json_object", "json_schema": schema}));
        }
        body.insert("stream".into(), true.into());
        body.insert("citation_options".into(), json!({"mode": "OFF"}));
        add_fields(&mut body, request, &OWN)?;
        Ok(body)
    }
}

fn turns(request: &ConverseRequest) -> Result<Vec<Value>, Error> {
    let mut turns = messages(request, &DIALECT)?;
    for turn in turns.iter_mut().filter(|turn| turn["role"] == "assistant") {
        let Value::Object(fields) = turn else { continue };
        let text = fields.remove("content").filter(|text| !text.is_null());
        let reasoning = fields.remove("reasoning_content");
        let mut parts = Vec::new();
        parts.extend(reasoning.map(|text| json!({"type": "thinking", "thinking": text})));
        match text {
            // Text beside calls is the plan that led to them.
            Some(text) if fields.contains_key("tool_calls") => {
                fields.insert("tool_plan".into(), text);
            }
            Some(text) if parts.is_empty() => {
                fields.insert("content".into(), text);
            }
            Some(text) => parts.push(json!({"type": "text", "text": text})),
            None => {}
        }
        if !parts.is_empty() {
            fields.insert("content".into(), parts.into());
        }
    }
    Ok(turns)
}

fn tools(body: &mut Map<String, Value>, request: &ConverseRequest) -> Result<(), Error> {
    let Some(config) = &request.tool_config else { return Ok(()) };
    let mut tools = Vec::new();
    for (index, definition) in config.tools.iter().enumerate() {
        let mut tool = tool(index, definition)?;
        if let Some(Value::Object(function)) = tool.get_mut("function") {
            function.remove("strict");
        }
        tools.push(tool);
    }
    body.insert("tools".into(), tools.into());
    let strict = |tool: &ToolDefinition| matches!(tool, ToolDefinition::ToolSpec(tool) if tool.strict == Some(true));
    if config.tools.iter().any(strict) {
        body.insert("strict_tools".into(), true.into());
    }
    match &config.tool_choice {
        None | Some(ToolChoice::Auto {}) => Ok(()),
        Some(ToolChoice::Any {}) => {
            body.insert("tool_choice".into(), "REQUIRED".into());
            Ok(())
        }
        Some(_) => refuse("toolConfig.toolChoice", "this model can't be held to one certain tool"),
    }
}

impl ChatModel for CohereChat {
    fn converse_stream<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<EventStream<'a>, Error>> {
        Box::pin(async move {
            let since = Instant::now();
            let response = self.transport.begin(Call::events("v2/chat", &self.body(request)?)?).await?;
            let paths = request.additional_model_response_field_paths.clone();
            let answer = Answer::new(self.transport.clone(), paths, since);
            stream(&self.transport, response, SseReader::new(self.transport.limits().event, answer))
        })
    }
}
