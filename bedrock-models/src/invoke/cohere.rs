//! Bodies of Cohere: Command R's `message`, and the `prompt` of Command.

use bedrock_core::{
    ContentBlock, ContentBlockDelta, ContentBlockStart, ConverseRequest, ConverseResponse, Error, Message, Role,
    StopReason, StreamEvent, TokenUsage, ToolConfiguration, ToolResultBlock, ToolResultContentBlock, ToolSpecification,
    ToolUseBlock,
};
use serde_json::{Map, Value, json};

use super::fields::{Fields, malformed};
use super::text::{TextAnswer, TextForm, no_room};
use super::{Answer, Call, fresh_id, prompt, was_cut, well_formed};

pub(super) fn read(body: Fields, raw: bool) -> Result<Call, Error> {
    if body.has("message") || !body.has("prompt") { command_r(body, raw) } else { command(body, raw) }
}

/// `p` and `k`, and the length and sequences at which an answer ends.
fn sampling(
    mut request: ConverseRequest,
    body: &mut Fields,
    temperature: (f64, f64),
    top_p: f64,
) -> Result<ConverseRequest, Error> {
    let (default, most) = temperature;
    request = request
        .temperature(body.number("temperature", 0.0, most)?.unwrap_or(default))
        .top_p(body.number("p", 0.0, 1.0)?.unwrap_or(top_p));
    if let Some(top_k) = body.integer("k", 0, 500)?.filter(|top_k| *top_k > 0) {
        request = request.additional_field("top_k", top_k);
    }
    for sequence in body.texts("stop_sequences", 5)?.unwrap_or_default() {
        request = request.stop_sequence(sequence);
    }
    Ok(request)
}

fn reason(stop: &StopReason) -> &'static str {
    match stop {
        stop if was_cut(stop) => "MAX_TOKENS",
        StopReason::ContentFiltered => "ERROR_TOXIC",
        _ => "COMPLETE",
    }
}

struct Command {
    prompt: String,
    id: String,
}

fn command(mut body: Fields, raw: bool) -> Result<Call, Error> {
    let text = body.required("prompt", Fields::some_text)?;
    let mut request = sampling(prompt::request(text.clone(), raw), &mut body, (0.9, 5.0), 0.75)?
        .max_tokens(body.tokens("max_tokens", 4096)?.unwrap_or(20));
    if let Some(Value::Object(biases)) = body.take("logit_bias")
        && !biases.is_empty()
    {
        let mut pairs = Vec::new();
        for (token, bias) in biases {
            let token: u32 = token
                .parse()
                .map_err(|_| malformed(format!("#/logit_bias: extraneous key [{token}] is not permitted")))?;
            let bias = bias.as_f64().filter(|bias| (-10.0..=10.0).contains(bias));
            let bias = bias.ok_or_else(|| body.unsupported("logit_bias", "a bias is not a number from -10 to 10"))?;
            pairs.push(json!([token, bias]));
        }
        request = request.additional_field("logit_bias", pairs);
    }
    body.refuse("return_likelihoods", &[json!("NONE")], "likelihoods are not given")?;
    body.refuse("num_generations", &[json!(1)], "only one answer is given")?;
    body.refuse("truncate", &[json!("NONE")], "prompts are not cut")?;
    // Which operation is called says whether the answer is streamed.
    body.boolean("stream")?;
    body.end()?;
    Ok(Call { request, answer: TextAnswer::boxed(Command { prompt: text, id: fresh_id(24) }) })
}

impl TextForm for Command {
    fn whole(&mut self, text: &str, stop: &StopReason, _: &TokenUsage) -> Value {
        json!({
            "id": self.id, "prompt": self.prompt,
            "generations": [{ "id": fresh_id(24), "text": text, "finish_reason": reason(stop) }],
        })
    }

    fn piece(&mut self, text: &str) -> Value {
        json!({ "text": text, "is_finished": false })
    }

    fn end(&mut self, stop: &StopReason, _: &TokenUsage) -> Value {
        json!({ "is_finished": true, "finish_reason": reason(stop) })
    }
}

/// An answer of Command R.
struct Dialogue {
    generation_id: String,
    /// The turns so far, as the body had them.
    history: Vec<Value>,
    text: String,
    calls: Vec<(String, String)>,
    stop: Option<StopReason>,
}

fn command_r(mut body: Fields, raw: bool) -> Result<Call, Error> {
    let message = body.required("message", Fields::text)?;
    let mut history = Vec::new();
    let mut request = ConverseRequest::new("");
    for mut turn in body.objects("chat_history")?.unwrap_or_default() {
        let role = turn.required("role", |turn, key| turn.label(key, &["USER", "CHATBOT"]))?;
        let text = turn.required("message", Fields::some_text)?;
        turn.end()?;
        history.push(json!({ "role": role, "message": text }));
        request = if role == "USER" { request.user(text) } else { request.assistant(text) };
    }
    let preamble = body.some_text("preamble")?;
    let results = body.objects("tool_results")?.unwrap_or_default();
    request.tool_config = tools(&mut body)?;
    if body.boolean("raw_prompting")? == Some(true) {
        if !history.is_empty() || preamble.is_some() || !results.is_empty() || request.tool_config.is_some() {
            return Err(body.unsupported("raw_prompting", "a raw prompt is the message alone"));
        }
        request = prompt::request(message.clone(), raw);
    } else {
        if let Some(preamble) = preamble {
            request = request.system(preamble);
        }
        if !message.is_empty() {
            request = request.user(message.clone());
        }
        if !results.is_empty() {
            let (calls, answers) = tool_results(results)?;
            request.messages.push(Message { role: Role::Assistant, content: calls });
            request.messages.push(Message { role: Role::User, content: answers });
        }
    }
    request = sampling(request, &mut body, (0.3, 1.0), 0.75)?;
    if let Some(tokens) = body.tokens("max_tokens", 4096)? {
        request = request.max_tokens(tokens);
    }
    for key in ["frequency_penalty", "presence_penalty"] {
        if let Some(penalty) = body.number(key, 0.0, 1.0)?.filter(|penalty| *penalty > 0.0) {
            request = request.additional_field(key, penalty);
        }
    }
    if let Some(seed) = body.integer("seed", 0, u64::from(u32::MAX))? {
        request = request.additional_field("seed", seed);
    }
    body.refuse("documents", &[json!([])], "documents are not supported")?;
    body.refuse("search_queries_only", &[json!(false)], "search queries are not supported")?;
    body.refuse("prompt_truncation", &[json!("OFF")], "prompts are not cut")?;
    body.refuse("return_prompt", &[json!(false)], "the prompt is not given back")?;
    body.end()?;
    if !message.is_empty() {
        history.push(json!({ "role": "USER", "message": message }));
    }
    let answer = Dialogue { generation_id: fresh_id(24), history, text: String::new(), calls: Vec::new(), stop: None };
    Ok(Call { request, answer: Box::new(answer) })
}

/// `parameter_definitions` as a JSON schema. Types are named as Python names them.
fn tools(body: &mut Fields) -> Result<Option<ToolConfiguration>, Error> {
    let mut config = ToolConfiguration::default();
    for mut tool in body.objects("tools")?.unwrap_or_default() {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        let definitions = match tool.take("parameter_definitions") {
            Some(Value::Object(definitions)) => definitions,
            None => Map::new(),
            Some(_) => return Err(tool.unsupported("parameter_definitions", "expected type: JSONObject")),
        };
        for (name, definition) in definitions {
            let mut definition = Fields::of(definition, format!("/tools/parameter_definitions/{name}"))?;
            let kind = definition.required("type", Fields::some_text)?;
            let mut schema = schema_of(&kind)
                .ok_or_else(|| definition.unsupported("type", &format!("{kind} is not a valid type")))?;
            if let Some(description) = definition.text("description")? {
                schema["description"] = description.into();
            }
            if definition.boolean("required")? == Some(true) {
                required.push(Value::from(name.clone()));
            }
            definition.end()?;
            properties.insert(name, schema);
        }
        let schema = json!({ "type": "object", "properties": properties, "required": required });
        let name = tool.required("name", Fields::some_text)?;
        let description = tool.required("description", Fields::some_text)?;
        config.tools.push(ToolSpecification::new(name, description, schema).into());
        tool.end()?;
    }
    Ok(Some(config).filter(|config| !config.tools.is_empty()))
}

fn schema_of(kind: &str) -> Option<Value> {
    let kind = kind.trim();
    let inner = |prefix: &str| {
        kind.get(..prefix.len()).filter(|start| start.eq_ignore_ascii_case(prefix)).map(|_| &kind[prefix.len()..])
    };
    if let Some(item) = inner("list[").and_then(|rest| rest.strip_suffix(']')) {
        // Not deeper than a type that anyone writes.
        return (kind.len() < 256)
            .then(|| schema_of(item))
            .flatten()
            .map(|item| json!({ "type": "array", "items": item }));
    }
    Some(match kind.to_ascii_lowercase().as_str() {
        "str" | "string" => json!({ "type": "string" }),
        "int" | "integer" => json!({ "type": "integer" }),
        "float" | "number" => json!({ "type": "number" }),
        "bool" | "boolean" => json!({ "type": "boolean" }),
        "list" | "array" => json!({ "type": "array" }),
        "dict" | "object" => json!({ "type": "object" }),
        _ => return None,
    })
}

/// Calls that were made, and what the tools said.
fn tool_results(results: Vec<Fields>) -> Result<(Vec<ContentBlock>, Vec<ContentBlock>), Error> {
    let (mut calls, mut answers) = (Vec::new(), Vec::new());
    for (index, mut result) in results.into_iter().enumerate() {
        let mut call = result.required("call", Fields::object)?;
        // The family has no names for calls: results stand beside them.
        let tool_use_id = format!("call_{index}");
        let name = call.required("name", Fields::some_text)?;
        let input = call.take("parameters").unwrap_or_else(|| json!({}));
        call.refuse("generation_id", &[], "calls have no name here")?;
        call.end()?;
        calls.push(ContentBlock::ToolUse(ToolUseBlock { tool_use_id: tool_use_id.clone(), name, input, kind: None }));
        let outputs = result.required("outputs", Fields::list)?;
        result.end()?;
        let content = outputs.into_iter().map(ToolResultContentBlock::Json).collect();
        answers.push(ContentBlock::ToolResult(ToolResultBlock { tool_use_id, content, status: None, kind: None }));
    }
    Ok((calls, answers))
}

impl Dialogue {
    fn body(&mut self, text: &str, calls: Vec<Value>, stop: &StopReason) -> Value {
        let mut history = std::mem::take(&mut self.history);
        if !text.is_empty() {
            history.push(json!({ "role": "CHATBOT", "message": text }));
        }
        let mut body = json!({
            "response_id": fresh_id(24), "generation_id": self.generation_id, "text": text, "chat_history": history,
            "finish_reason": reason(stop),
        });
        if !calls.is_empty() {
            body["tool_calls"] = calls.into();
        }
        body
    }
}

impl Answer for Dialogue {
    fn whole(&mut self, response: &ConverseResponse) -> Result<Value, Error> {
        well_formed(&response.stop_reason)?;
        let mut calls = Vec::new();
        for block in &response.message().content {
            match block {
                ContentBlock::ToolUse(call) => calls.push(json!({ "name": call.name, "parameters": call.input })),
                ContentBlock::Text(_) | ContentBlock::CitationsContent(_) | ContentBlock::ReasoningContent(_) => {}
                other => return Err(no_room(other.kind())),
            }
        }
        Ok(self.body(&response.text(), calls, &response.stop_reason))
    }

    fn chunks(&mut self, event: StreamEvent) -> Result<Vec<Value>, Error> {
        Ok(match event {
            StreamEvent::MessageStart(_) => {
                vec![json!({ "is_finished": false, "event_type": "stream-start", "generation_id": self.generation_id })]
            }
            StreamEvent::ContentBlockStart(event) => match event.start {
                ContentBlockStart::ToolUse(start) => {
                    self.calls.push((start.name, String::new()));
                    Vec::new()
                }
                _ => return Err(no_room("a block")),
            },
            StreamEvent::ContentBlockDelta(event) => match event.delta {
                ContentBlockDelta::Text(text) => {
                    self.text.push_str(&text);
                    vec![json!({ "is_finished": false, "event_type": "text-generation", "text": text })]
                }
                ContentBlockDelta::ToolUse(delta) => {
                    if let Some((_, input)) = self.calls.last_mut() {
                        input.push_str(&delta.input);
                    }
                    Vec::new()
                }
                ContentBlockDelta::Citation(_) | ContentBlockDelta::ReasoningContent(_) => Vec::new(),
                _ => return Err(no_room("a block")),
            },
            StreamEvent::MessageStop(event) => {
                well_formed(&event.stop_reason)?;
                self.stop = Some(event.stop_reason);
                Vec::new()
            }
            StreamEvent::Metadata(_) => {
                let (text, stop) = (std::mem::take(&mut self.text), self.stop.take().unwrap_or(StopReason::EndTurn));
                let mut calls = Vec::new();
                for (name, input) in std::mem::take(&mut self.calls) {
                    // A tool without input is called with nothing.
                    let input = if input.is_empty() { "{}" } else { &input };
                    let parameters: Value = serde_json::from_str(input)
                        .map_err(|_| Error::model_stream_error("the model's call of a tool is malformed"))?;
                    calls.push(json!({ "name": name, "parameters": parameters }));
                }
                let mut chunks = Vec::new();
                if !calls.is_empty() {
                    chunks.push(json!({
                        "is_finished": false, "event_type": "tool-calls-generation", "text": text, "tool_calls": calls,
                    }));
                }
                let response = self.body(&text, calls, &stop);
                chunks.push(json!({
                    "is_finished": true, "event_type": "stream-end", "finish_reason": reason(&stop), "response": response,
                }));
                chunks
            }
            _ => Vec::new(),
        })
    }
}
