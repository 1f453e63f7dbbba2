//! Text models through their native bodies: Titan Text and Jurassic-2.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bedrock_core::{
    BoxFuture, ChatModel, ContentBlock, ConverseRequest, Error, EventStream, Role, StopReason, StreamEvent, TokenUsage,
};
use futures::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Bedrock, EVENT_STREAM, event, path};
use crate::remote::ask::{add_fields, check, no_effort, no_tier, refuse, refuse_block, schema};
use crate::remote::blocks::Blocks;
use crate::remote::events::{FrameAnswer, FrameReader};
use crate::remote::failure::Malformed;
use crate::remote::frame::Frame;
use crate::remote::runtime;
use crate::remote::transport::Call;

/// Whose body is spoken.
#[derive(Debug, Clone, Copy)]
pub(super) enum Family {
    Titan,
    Jurassic,
}

/// A text model of [`Bedrock`] through `InvokeModel`: it continues the texts of one turn of the user. Jurassic-2 can't stream, so its answer comes as one
/// piece.
#[derive(Debug, Clone)]
pub struct BedrockText {
    service: Bedrock,
    model: String,
    family: Family,
}

impl BedrockText {
    pub(super) fn new(service: Bedrock, model: String, family: Family) -> Self {
        Self { service, model, family }
    }

    fn body(&self, request: &ConverseRequest) -> Result<Map<String, Value>, Error> {
        check(request)?;
        no_effort(request)?;
        no_tier(request)?;
        let ([message], []) = (&request.messages[..], &request.system[..]) else {
            return refuse("messages", "this model continues one text, without system and turns");
        };
        if message.role != Role::User {
            return refuse("messages.0.role", "this model continues a text of the user");
        }
        if request.tool_config.is_some() {
            return refuse("toolConfig", "this model continues raw text");
        }
        if schema(request)?.is_some() {
            return refuse("outputConfig.textFormat", "this model continues raw text");
        }
        if !request.additional_model_response_field_paths.is_empty() {
            return refuse("additionalModelResponseFieldPaths", "this model's answer has no other fields");
        }
        let mut prompt = String::new();
        for (index, block) in message.content.iter().enumerate() {
            match block {
                ContentBlock::Text(text) => prompt.push_str(text),
                other => return refuse_block(&format!("messages.0.content.{index}"), other),
            }
        }
        let config = request.inference_config.clone().unwrap_or_default();
        let (prompt_name, length, stops) = match self.family {
            Family::Titan => ("inputText", "maxTokenCount", "stopSequences"),
            Family::Jurassic => ("prompt", "maxTokens", "stopSequences"),
        };
        let mut options = Map::new();
        for (name, value) in [
            (length, config.max_tokens.map(Value::from)),
            ("temperature", config.temperature.map(Value::from)),
            ("topP", config.top_p.map(Value::from)),
            (stops, (!config.stop_sequences.is_empty()).then(|| config.stop_sequences.into())),
        ] {
            if let Some(value) = value {
                options.insert(name.into(), value);
            }
        }
        let mut body = Map::from_iter([(prompt_name.to_owned(), Value::from(prompt))]);
        match self.family {
            Family::Titan if options.is_empty() => {}
            Family::Titan => {
                body.insert("textGenerationConfig".into(), options.into());
            }
            Family::Jurassic => body.extend(options),
        }
        add_fields(&mut body, request, &["textGenerationConfig", length, "temperature", "topP", stops])?;
        Ok(body)
    }
}

impl ChatModel for BedrockText {
    fn converse_stream<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<EventStream<'a>, Error>> {
        Box::pin(async move {
            let since = Instant::now();
            let body = self.body(request)?;
            let transport = &self.service.transport;
            match self.family {
                Family::Titan => {
                    let call = Call {
                        accept: EVENT_STREAM,
                        headers: vec![("x-amzn-bedrock-accept", "application/json".into())],
                        ..Call::json(path(&self.model, "invoke-with-response-stream"), &body)?
                    };
                    let response = transport.begin(call).await?;
                    let answer = Titan { blocks: Blocks::default(), since };
                    runtime::stream(transport, response, FrameReader::new(transport.limits().event, answer))
                }
                Family::Jurassic => {
                    let answer: Jurassic =
                        transport.json(Call::json(path(&self.model, "invoke"), &body)?, "an answer").await?;
                    Ok(stream::iter(answer.events(since)?.into_iter().map(Ok)).boxed())
                }
            }
        })
    }
}

fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

fn latency(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Titan's answer as it comes.
struct Titan {
    blocks: Blocks,
    since: Instant,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TitanChunk {
    output_text: Option<String>,
    completion_reason: Option<String>,
    input_text_token_count: Option<u32>,
    total_output_text_token_count: Option<u32>,
}

#[derive(Deserialize)]
struct Chunk {
    bytes: String,
}

impl FrameAnswer for Titan {
    fn frame(&mut self, frame: Frame, events: &mut Vec<StreamEvent>) -> Result<bool, Error> {
        let (name, value) = event(frame)?;
        if name != "chunk" {
            return Err(Malformed::Missing { what: "a frame", missing: "a chunk" }.into());
        }
        let chunk: Chunk = serde_json::from_value(value).map_err(Malformed::json("a chunk"))?;
        let wrong = || Malformed::Missing { what: "a chunk", missing: "base64" };
        let bytes = STANDARD.decode(chunk.bytes).map_err(|_| wrong())?;
        let chunk: TitanChunk = serde_json::from_slice(&bytes).map_err(Malformed::json("a chunk"))?;
        self.blocks.begin(events);
        self.blocks.text(chunk.output_text.as_deref().unwrap_or_default(), events);
        let Some(reason) = chunk.completion_reason else { return Ok(false) };
        let reason = match reason.as_str() {
            "FINISH" | "FINISHED" => StopReason::EndTurn,
            "LENGTH" => StopReason::MaxTokens,
            "STOP_CRITERIA_MET" => StopReason::StopSequence,
            "CONTENT_FILTERED" => StopReason::ContentFiltered,
            other => StopReason::from(other),
        };
        self.blocks.stop(reason, None, events);
        let input = chunk.input_text_token_count.unwrap_or(0);
        let usage = TokenUsage::new(input, chunk.total_output_text_token_count.unwrap_or(0));
        events.push(StreamEvent::metadata(usage, latency(self.since)));
        Ok(true)
    }
}

/// Jurassic's answer. Its tokens are counted, not looked at.
#[derive(Deserialize)]
struct Jurassic {
    prompt: Part,
    completions: Vec<Completion>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Completion {
    data: Part,
    finish_reason: Finish,
}

#[derive(Deserialize)]
struct Part {
    text: String,
    #[serde(default)]
    tokens: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Finish {
    reason: String,
}

impl Jurassic {
    fn events(self, since: Instant) -> Result<Vec<StreamEvent>, Error> {
        let completion = self.completions.into_iter().next();
        let completion =
            completion.ok_or_else(|| Malformed::Missing { what: "an answer", missing: "a completion" }.whole())?;
        let (mut blocks, mut events) = (Blocks::default(), Vec::new());
        blocks.text(&completion.data.text, &mut events);
        let reason = match completion.finish_reason.reason.as_str() {
            "endoftext" => StopReason::EndTurn,
            "length" => StopReason::MaxTokens,
            "stop" => StopReason::StopSequence,
            other => StopReason::from(other),
        };
        blocks.stop(reason, None, &mut events);
        let usage = TokenUsage::new(count(self.prompt.tokens.len()), count(completion.data.tokens.len()));
        events.push(StreamEvent::metadata(usage, latency(since)));
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    use crate::remote::{AwsAuthorization, RemoteOptions};

    #[test]
    fn bodies_hold_what_was_said() {
        let service =
            Bedrock::at("http://127.0.0.1:9", "x", AwsAuthorization::ApiKey("key".into()), &RemoteOptions::default());
        let service = service.unwrap();
        let request =
            ConverseRequest::new("m").user("hi").max_tokens(3).additional_field("countPenalty", json!({"scale": 1}));
        let body = service.jurassic("j").body(&request).unwrap();
        assert_eq!(Value::from(body), json!({"prompt": "hi", "maxTokens": 3, "countPenalty": {"scale": 1}}));
        let body = service.titan_text("t").body(&ConverseRequest::new("m").user("hi")).unwrap();
        assert_eq!(Value::from(body), json!({"inputText": "hi"}));
        assert!(service.titan_text("t").body(&ConverseRequest::new("m").user("hi").system("s")).is_err());
    }
}
