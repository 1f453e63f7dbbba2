//! Bodies of `InvokeModel`: the documented examples of each family, streams that say the same as whole answers, and errors in the
//! service's words.

mod tiny;

use std::sync::Arc;

use bedrock_core::testing::{Chunking, HashEmbedder, Reply, ScriptedModel};
use bedrock_core::{
    ContentBlock, ConverseRequest, ConverseResponse, Error, Message, Role, StopReason, SystemContentBlock, TokenUsage,
    ToolChoice, ToolResultContentBlock, ToolUseBlock,
};
use bedrock_models::invoke::{ChunkStream, EmbeddingFamily, InvokeEmbedding, InvokeFamily, InvokeModel};
use bedrock_models::{LoadOptions, LocalChatModel};
use futures::StreamExt;
use futures::executor::block_on;
use proptest::prelude::*;
use serde_json::{Value, json};

const METRICS: &str = "amazon-bedrock-invocationMetrics";

/// Answers a body, and says what the model was asked.
fn invoke(family: InvokeFamily, body: &Value, reply: Reply) -> Result<(Value, ConverseRequest), Error> {
    let model = Arc::new(ScriptedModel::new([reply]));
    let answer =
        InvokeModel::new(model.clone(), family).model_id("the-model").invoke_blocking(body.to_string().as_bytes())?;
    Ok((serde_json::from_slice(&answer).unwrap(), model.requests().remove(0)))
}

fn stream(family: InvokeFamily, body: &Value, reply: Reply) -> Result<Vec<Value>, Error> {
    let model = InvokeModel::new(Arc::new(ScriptedModel::new([reply])), family).model_id("the-model");
    block_on(async {
        let body = body.to_string();
        let chunks: ChunkStream<'_> = model.invoke_with_response_stream(body.as_bytes()).await?;
        let chunks: Vec<Result<Vec<u8>, Error>> = chunks.collect().await;
        chunks.into_iter().map(|chunk| chunk.map(|chunk| serde_json::from_slice(&chunk).unwrap())).collect()
    })
}

fn reply(text: &str, stop: StopReason, usage: (u32, u32)) -> Reply {
    Reply::response(ConverseResponse::new([text], stop, TokenUsage::new(usage.0, usage.1)))
}

fn refusal(family: InvokeFamily, body: Value) -> String {
    let error = invoke(family, &body, Reply::text("no")).expect_err(&body.to_string());
    assert!(matches!(error, Error::Validation { .. }), "{error:?}");
    error.to_string()
}

#[test]
fn llama() {
    let prompt = "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWhat is the capital of France?<|eot_id|>\
                  <|start_header_id|>assistant<|end_header_id|>\n\n";
    let body = json!({ "prompt": prompt, "temperature": 0.5, "top_p": 0.8, "max_gen_len": 64 });
    let (answer, asked) = invoke(InvokeFamily::Llama, &body, reply("Paris.", StopReason::EndTurn, (12, 3))).unwrap();
    assert_eq!(
        answer,
        json!({ "generation": "Paris.", "prompt_token_count": 12, "generation_token_count": 3, "stop_reason": "stop" })
    );
    let expected = ConverseRequest::new("the-model").user("What is the capital of France?");
    assert_eq!(asked, expected.temperature(0.5).top_p(0.8).max_tokens(64));
    let (answer, asked) =
        invoke(InvokeFamily::Llama, &json!({ "prompt": "Hi" }), reply("a", StopReason::MaxTokens, (1, 1))).unwrap();
    assert_eq!(answer["stop_reason"], "length");
    assert_eq!(asked, ConverseRequest::new("the-model").user("Hi").temperature(0.5).top_p(0.9).max_tokens(512));
}

#[test]
fn titan_text() {
    let body = json!({
        "inputText": "Name a town.",
        "textGenerationConfig": { "temperature": 0, "topP": 1, "maxTokenCount": 8, "stopSequences": ["|"] }
    });
    for (stop, reason) in [
        (StopReason::EndTurn, "FINISHED"),
        (StopReason::MaxTokens, "LENGTH"),
        (StopReason::StopSequence, "STOP_CRITERIA_MET"),
        (StopReason::ContentFiltered, "CONTENT_FILTERED"),
    ] {
        let (answer, asked) = invoke(InvokeFamily::Titan, &body, reply("Oslo", stop, (4, 2))).unwrap();
        let result = json!({ "tokenCount": 2, "outputText": "Oslo", "completionReason": reason });
        assert_eq!(answer, json!({ "inputTextTokenCount": 4, "results": [result] }));
        let expected = ConverseRequest::new("the-model").user("Name a town.").stop_sequence("|");
        assert_eq!(asked, expected.temperature(0.0).top_p(1.0).max_tokens(8));
    }
}

#[test]
fn mistral_text_and_chat() {
    let body = json!({ "prompt": "<s>[INST] Hi [/INST]", "max_tokens": 5, "stop": ["."], "top_k": 50 });
    let (answer, asked) = invoke(InvokeFamily::Mistral, &body, reply("Hello", StopReason::EndTurn, (3, 1))).unwrap();
    assert_eq!(answer, json!({ "outputs": [{ "text": "Hello", "stop_reason": "stop" }] }));
    assert_eq!(asked.messages, [Message::user("Hi")]);
    assert_eq!(asked.additional_model_request_fields, Some(json!({ "top_k": 50 })));

    let function = json!({ "name": "weather", "description": "The weather", "parameters": { "type": "object" } });
    let call = json!({ "id": "a1", "type": "function", "function": { "name": "weather", "arguments": "{\"town\":\"Oslo\"}" } });
    let body = json!({
        "messages": [
            { "role": "system", "content": "Be brief." },
            { "role": "user", "content": [{ "type": "text", "text": "Weather?" }] },
            { "role": "assistant", "content": null, "tool_calls": [call] },
            { "role": "tool", "tool_call_id": "a1", "name": "weather", "content": "rain" },
        ],
        "tools": [{ "type": "function", "function": function }], "tool_choice": "any", "max_tokens": 9
    });
    let (answer, asked) =
        invoke(InvokeFamily::Mistral, &body, Reply::tool_use("b2", "weather", json!({ "town": "Bergen" }))).unwrap();
    assert_eq!(asked.system, [SystemContentBlock::Text("Be brief.".into())]);
    assert_eq!(asked.messages.len(), 3);
    assert!(
        matches!(&asked.messages[1].content[0], ContentBlock::ToolUse(call) if call.input == json!({ "town": "Oslo" }))
    );
    assert!(matches!(&asked.messages[2].content[0], ContentBlock::ToolResult(result) if result.tool_use_id == "a1"));
    assert_eq!(asked.tool_config.unwrap().tool_choice, Some(ToolChoice::Any {}));
    let choice = &answer["choices"][0];
    assert_eq!((&choice["finish_reason"], &choice["stop_reason"]), (&json!("tool_calls"), &json!("tool_calls")));
    assert_eq!(choice["message"]["tool_calls"][0]["function"]["arguments"], "{\"town\":\"Bergen\"}");
    assert_eq!(answer["model"], "the-model");
}

#[test]
fn anthropic_messages() {
    let body = json!({
        "anthropic_version": "bedrock-2023-05-31", "max_tokens": 100, "temperature": 0.1, "top_p": 0.9, "top_k": 5,
        "system": [{ "type": "text", "text": "Be brief.", "cache_control": { "type": "ephemeral" } }],
        "stop_sequences": ["END"],
        "messages": [
            { "role": "user", "content": "Weather?" },
            { "role": "assistant", "content": [{ "type": "tool_use", "id": "a1", "name": "weather", "input": { "town": "Oslo" } }] },
            { "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "a1", "content": "rain", "is_error": false },
                { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "AAEC" } }] },
        ],
        "tools": [{ "name": "weather", "description": "The weather", "input_schema": { "type": "object" } }],
        "tool_choice": { "type": "tool", "name": "weather" }
    });
    let blocks = [
        ContentBlock::from("I look."),
        ContentBlock::ToolUse(ToolUseBlock {
            tool_use_id: "b2".into(),
            name: "weather".into(),
            input: json!({ "town": "Bergen" }),
            kind: None,
        }),
    ];
    let response = ConverseResponse::new(blocks, StopReason::ToolUse, TokenUsage::new(20, 10));
    let (answer, asked) = invoke(InvokeFamily::Anthropic, &body, Reply::response(response)).unwrap();
    assert_eq!(asked.system.len(), 2, "a text and a cache point");
    assert_eq!(asked.messages[0], Message::user("Weather?"));
    let ContentBlock::ToolResult(result) = &asked.messages[2].content[0] else { panic!("{asked:?}") };
    assert_eq!(result.content, [ToolResultContentBlock::Text("rain".into())]);
    assert_eq!(result.status, None);
    assert!(matches!(&asked.messages[2].content[1], ContentBlock::Image(_)));
    assert_eq!(asked.tool_config.as_ref().unwrap().tool_choice, Some(ToolChoice::tool("weather")));
    assert_eq!(asked.additional_model_response_field_paths, ["/stop_sequence"]);
    assert!(answer["id"].as_str().unwrap().starts_with("msg_bdrk_"));
    assert_eq!(
        answer["content"],
        json!([{ "type": "text", "text": "I look." }, { "type": "tool_use", "id": "b2", "name": "weather", "input": { "town": "Bergen" } }])
    );
    assert_eq!((&answer["stop_reason"], &answer["stop_sequence"]), (&json!("tool_use"), &Value::Null));
    assert_eq!(answer["usage"], json!({ "input_tokens": 20, "output_tokens": 10 }));
}

#[test]
fn cohere_command_r() {
    let body = json!({
        "message": "What about Bergen?",
        "chat_history": [{ "role": "USER", "message": "Weather in Oslo?" }, { "role": "CHATBOT", "message": "Rain." }],
        "preamble": "Be brief.", "max_tokens": 10, "temperature": 0.3, "p": 0.5, "k": 7, "seed": 1,
        "tools": [{ "name": "weather", "description": "The weather", "parameter_definitions": {
            "town": { "description": "A town", "type": "str", "required": true },
            "days": { "description": "Days", "type": "List[int]", "required": false } } }],
        "tool_results": [{ "call": { "name": "weather", "parameters": { "town": "Bergen" } }, "outputs": [{ "text": "sun" }] }]
    });
    let (answer, asked) = invoke(InvokeFamily::Cohere, &body, reply("Sun.", StopReason::EndTurn, (9, 2))).unwrap();
    let roles: Vec<Role> = asked.messages.iter().map(|message| message.role.clone()).collect();
    assert_eq!(roles, [Role::User, Role::Assistant, Role::User, Role::Assistant, Role::User]);
    let schema = json!({
        "type": "object", "required": ["town"], "properties": {
            "town": { "type": "string", "description": "A town" },
            "days": { "type": "array", "items": { "type": "integer" }, "description": "Days" } }
    });
    let asked = serde_json::to_value(&asked).unwrap();
    assert_eq!(asked["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"], schema);
    assert_eq!(asked["additionalModelRequestFields"], json!({ "top_k": 7, "seed": 1 }));
    assert_eq!((&answer["text"], &answer["finish_reason"]), (&json!("Sun."), &json!("COMPLETE")));
    assert_eq!(answer["chat_history"].as_array().unwrap().len(), 4);
    let (answer, _) =
        invoke(InvokeFamily::Cohere, &json!({ "message": "x" }), Reply::tool_use("1", "f", json!({ "a": 1 }))).unwrap();
    assert_eq!(answer["tool_calls"], json!([{ "name": "f", "parameters": { "a": 1 } }]));
}

#[test]
fn cohere_command_and_ai21() {
    let body = json!({ "prompt": "Once", "max_tokens": 7, "return_likelihoods": "NONE", "num_generations": 1, "logit_bias": { "5": 1.5 } });
    let (answer, asked) = invoke(InvokeFamily::Cohere, &body, reply(" upon", StopReason::MaxTokens, (1, 7))).unwrap();
    assert_eq!(answer["generations"][0]["text"], " upon");
    assert_eq!(answer["generations"][0]["finish_reason"], "MAX_TOKENS");
    assert_eq!(asked.additional_model_request_fields, Some(json!({ "logit_bias": [[5, 1.5]] })));

    let body =
        json!({ "prompt": "Once", "maxTokens": 7, "presencePenalty": { "scale": 1 }, "countPenalty": { "scale": 0 } });
    let (answer, asked) = invoke(InvokeFamily::Ai21, &body, reply(" upon", StopReason::StopSequence, (1, 7))).unwrap();
    assert_eq!(answer["completions"][0]["data"]["text"], " upon");
    assert_eq!(answer["completions"][0]["finishReason"]["reason"], "stop");
    assert_eq!(asked.additional_model_request_fields, Some(json!({ "presence_penalty": 1.0 })));
    let error = stream(InvokeFamily::Ai21, &body, Reply::text("x")).unwrap_err();
    assert_eq!(error.to_string(), "The model is unsupported for streaming");

    let body = json!({ "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 5, "temperature": 0.0, "n": 1, "stop": "." });
    let (answer, asked) = invoke(InvokeFamily::Ai21, &body, reply("Hello", StopReason::EndTurn, (3, 1))).unwrap();
    assert_eq!(answer["choices"][0]["message"], json!({ "role": "assistant", "content": "Hello" }));
    assert_eq!(answer["usage"], json!({ "prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4 }));
    assert_eq!(asked.inference_config.unwrap().stop_sequences, ["."]);
}

#[test]
fn what_is_wrong_is_said_in_the_services_words() {
    let says = |family, body, what: &str| {
        let expected = format!("Malformed input request: {what}, please reformat your input and try again.");
        assert_eq!(refusal(family, body), expected);
    };
    says(InvokeFamily::Llama, json!({}), "#: required key [prompt] not found");
    says(
        InvokeFamily::Llama,
        json!({ "prompt": "x", "maxTokens": 5 }),
        "#: extraneous key [maxTokens] is not permitted",
    );
    says(InvokeFamily::Llama, json!({ "prompt": "x", "temperature": 2 }), "#/temperature: 2 is not less or equal to 1");
    says(
        InvokeFamily::Llama,
        json!({ "prompt": "x", "max_gen_len": "5" }),
        "#/max_gen_len: expected type: Integer, found: String",
    );
    says(InvokeFamily::Titan, json!({ "inputText": "" }), "#/inputText: expected minLength: 1, actual: 0");
    says(
        InvokeFamily::Titan,
        json!({ "inputText": "x", "textGenerationConfig": { "topK": 1 } }),
        "#/textGenerationConfig: extraneous key [topK] is not permitted",
    );
    says(
        InvokeFamily::Anthropic,
        json!({ "messages": [], "max_tokens": 1 }),
        "#: required key [anthropic_version] not found",
    );
    says(
        InvokeFamily::Anthropic,
        json!({ "anthropic_version": "bedrock-2023-05-31", "max_tokens": 1, "messages": [{ "role": "robot", "content": "x" }] }),
        "#/messages/0/role: robot is not a valid enum value",
    );
    says(
        InvokeFamily::Cohere,
        json!({ "message": "x", "documents": [{}] }),
        "#/documents: documents are not supported",
    );
    says(
        InvokeFamily::Cohere,
        json!({ "prompt": "x", "num_generations": 2 }),
        "#/num_generations: only one answer is given",
    );
    says(
        InvokeFamily::Ai21,
        json!({ "prompt": "x", "countPenalty": { "scale": 1 } }),
        "#/countPenalty/scale: this model has no penalty by count",
    );
    let guarded = json!({ "prompt": "x", "amazon-bedrock-guardrailConfig": { "tagSuffix": "a" } });
    assert!(refusal(InvokeFamily::Llama, guarded).contains("guardrail"));
    // Calls that cannot be read are the model's fault, not the caller's.
    let error =
        invoke(InvokeFamily::Llama, &json!({ "prompt": "x" }), reply("{", StopReason::MalformedToolUse, (1, 1)));
    assert!(matches!(error, Err(Error::ModelError { .. })));
    let error = invoke(InvokeFamily::Titan, &json!({ "inputText": "x" }), Reply::tool_use("1", "f", json!({})));
    assert!(matches!(error, Err(Error::ModelError { .. })), "a text has no room for calls");
}

#[test]
fn a_failure_is_the_last_item_of_a_stream() {
    let failing = Reply::text("one two three").chunking(Chunking::Characters(4)).fail_at(3, Error::throttling("later"));
    let model = InvokeModel::new(Arc::new(ScriptedModel::new([failing])), InvokeFamily::Titan);
    let body = json!({ "inputText": "x" }).to_string();
    let items: Vec<_> =
        block_on(async { model.invoke_with_response_stream(body.as_bytes()).await.unwrap().collect().await });
    assert!(items.len() > 1);
    assert!(matches!(items.last(), Some(Err(Error::Throttling { .. }))));
    assert!(items[..items.len() - 1].iter().all(Result::is_ok));
    let intervened = reply("Blocked.", StopReason::GuardrailIntervened, (1, 1));
    let (answer, _) = invoke(InvokeFamily::Titan, &json!({ "inputText": "x" }), intervened).unwrap();
    assert_eq!(answer["amazon-bedrock-guardrailAction"], "INTERVENED");
}

#[test]
fn embeddings() {
    let invoke = |family, body: Value| -> Result<Value, Error> {
        let model = InvokeEmbedding::new(Arc::new(HashEmbedder::new(1024)), family);
        Ok(serde_json::from_slice(&model.invoke_blocking(body.to_string().as_bytes())?).unwrap())
    };
    let answer = invoke(
        EmbeddingFamily::Titan,
        json!({ "inputText": "Hi there", "dimensions": 256, "embeddingTypes": ["float", "binary"] }),
    )
    .unwrap();
    assert_eq!(answer["embedding"].as_array().unwrap().len(), 256);
    assert_eq!(answer["embedding"], answer["embeddingsByType"]["float"]);
    assert!(answer["inputTextTokenCount"].as_u64().unwrap() > 0);
    let error = invoke(EmbeddingFamily::Titan, json!({ "inputText": "x", "dimensions": 300 })).unwrap_err();
    assert!(error.to_string().contains("#/dimensions: 300 is not a valid enum value"));

    let body = json!({ "texts": ["a b", "c"], "input_type": "search_document" });
    let answer = invoke(EmbeddingFamily::Cohere, body).unwrap();
    assert_eq!(answer["response_type"], "embeddings_floats");
    assert_eq!(answer["embeddings"].as_array().unwrap().len(), 2);
    assert_eq!(answer["texts"], json!(["a b", "c"]));
    let body = json!({ "texts": ["a b"], "input_type": "search_query", "embedding_types": ["int8", "ubinary"] });
    let answer = invoke(EmbeddingFamily::Cohere, body).unwrap();
    assert_eq!(answer["embeddings"]["int8"][0].as_array().unwrap().len(), 1024);
    assert_eq!(answer["embeddings"]["ubinary"][0].as_array().unwrap().len(), 128);
    let error = invoke(EmbeddingFamily::Cohere, json!({ "texts": ["a"] })).unwrap_err();
    assert!(error.to_string().contains("required key [input_type] not found"));
    assert_eq!(EmbeddingFamily::of("amazon.titan-embed-text-v2:0"), Some(EmbeddingFamily::Titan));
    assert_eq!(EmbeddingFamily::of("cohere.command-r-v1:0"), None);
}

/// A local model gets the prompt word for word, special tokens and all, and begin-of-text once.
#[test]
fn a_local_model_is_prompted_without_its_template() {
    let folder = tempfile::tempdir().unwrap();
    tiny::write(folder.path());
    let local = Arc::new(LocalChatModel::load(folder.path(), &LoadOptions::default()).unwrap());
    let model = InvokeModel::local(local.clone(), InvokeFamily::Llama);
    let tokens = |prompt: &str| {
        let request = ConverseRequest::new("").user(prompt).additional_field("raw_prompt", true);
        local.prompt(&request).unwrap()
    };
    // `<s>` is token 256, `<|user|>` 258, a letter its byte.
    assert_eq!(tokens("<s><|user|>H"), [256, 258, 72]);
    let body = json!({ "prompt": "<|user|>Hi<|assistant|>", "temperature": 0, "max_gen_len": 6 });
    let answer: Value = serde_json::from_slice(&model.invoke_blocking(body.to_string().as_bytes()).unwrap()).unwrap();
    // The template writes just these marks, so both are the same prompt.
    let request = ConverseRequest::new("").user("Hi").temperature(0.0).max_tokens(6).top_p(0.9);
    let chat = futures::executor::block_on(bedrock_core::ChatModel::converse(&*local, &request)).unwrap();
    assert_eq!(answer["generation"], chat.text().as_str());
    assert_eq!(answer["prompt_token_count"], tokens("<|user|>Hi<|assistant|>").len());
    for wrong in [
        ConverseRequest::new("").user("a").system("b").additional_field("raw_prompt", true),
        ConverseRequest::new("").user("a").assistant("b").user("c").additional_field("raw_prompt", true),
    ] {
        assert!(local.prompt(&wrong).is_err());
    }
}

/// What the chunks of a stream say all together, in the form of a whole answer.
fn joined(family: InvokeFamily, chunks: &[Value]) -> Value {
    let text =
        |pointer: &str| -> String { chunks.iter().filter_map(|chunk| chunk.pointer(pointer)?.as_str()).collect() };
    let last = chunks.last().unwrap();
    match family {
        InvokeFamily::Llama => {
            let mut whole = last.clone();
            whole["generation"] = text("/generation").into();
            whole.as_object_mut().unwrap().remove(METRICS);
            whole
        }
        InvokeFamily::Titan => json!({
            "inputTextTokenCount": last["inputTextTokenCount"],
            "results": [{ "tokenCount": last["totalOutputTextTokenCount"], "outputText": text("/outputText"), "completionReason": last["completionReason"] }],
        }),
        InvokeFamily::Mistral => {
            json!({ "outputs": [{ "text": text("/outputs/0/text"), "stop_reason": last["outputs"][0]["stop_reason"] }] })
        }
        InvokeFamily::Ai21 => {
            let mut message = json!({ "role": "assistant", "content": text("/choices/0/delta/content") });
            let mut calls: Vec<Value> = Vec::new();
            for call in chunks.iter().filter_map(|chunk| chunk.pointer("/choices/0/delta/tool_calls/0")) {
                match call.get("id") {
                    Some(_) => {
                        let mut call = call.clone();
                        call.as_object_mut().unwrap().remove("index");
                        calls.push(call);
                    }
                    None => {
                        let more = call["function"]["arguments"].as_str().unwrap();
                        let arguments = &mut calls.last_mut().unwrap()["function"]["arguments"];
                        *arguments = format!("{}{more}", arguments.as_str().unwrap()).into();
                    }
                }
            }
            if !calls.is_empty() {
                message["tool_calls"] = calls.into();
            }
            json!({ "message": message, "finish_reason": last["choices"][0]["finish_reason"], "usage": last["usage"] })
        }
        InvokeFamily::Cohere => {
            assert_eq!(
                text("/text"),
                format!(
                    "{0}{1}",
                    last["response"]["text"].as_str().unwrap(),
                    // The chunk of calls repeats the text before them.
                    chunks
                        .iter()
                        .filter(|chunk| chunk["event_type"] == "tool-calls-generation")
                        .map(|chunk| chunk["text"].as_str().unwrap())
                        .collect::<String>()
                )
            );
            last["response"].clone()
        }
        _ => {
            let mut content: Vec<Value> = Vec::new();
            let mut input = String::new();
            for chunk in chunks {
                match chunk["type"].as_str().unwrap() {
                    "content_block_start" => {
                        assert_eq!(chunk["index"], content.len());
                        input.clear();
                        content.push(chunk["content_block"].clone());
                    }
                    "content_block_delta" => {
                        let block = content.last_mut().unwrap();
                        let delta = &chunk["delta"];
                        match delta["type"].as_str().unwrap() {
                            "text_delta" => {
                                block["text"] =
                                    format!("{}{}", block["text"].as_str().unwrap(), delta["text"].as_str().unwrap())
                                        .into()
                            }
                            _ => input.push_str(delta["partial_json"].as_str().unwrap()),
                        }
                    }
                    "content_block_stop" if !input.is_empty() => {
                        content.last_mut().unwrap()["input"] = serde_json::from_str(&input).unwrap();
                    }
                    _ => {}
                }
            }
            let end = chunks.iter().find(|chunk| chunk["type"] == "message_delta").unwrap();
            json!({ "content": content, "stop_reason": end["delta"]["stop_reason"], "usage": end["usage"] })
        }
    }
}

/// The same of a whole answer, without names that differ from answer to answer.
fn essence(family: InvokeFamily, mut whole: Value) -> Value {
    match family {
        InvokeFamily::Ai21 => json!({
            "message": whole["choices"][0]["message"], "finish_reason": whole["choices"][0]["finish_reason"], "usage": whole["usage"],
        }),
        InvokeFamily::Anthropic => {
            json!({ "content": whole["content"], "stop_reason": whole["stop_reason"], "usage": whole["usage"] })
        }
        InvokeFamily::Cohere => {
            for name in ["response_id", "generation_id"] {
                assert!(whole.as_object_mut().unwrap().remove(name).is_some());
            }
            whole
        }
        _ => whole,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// However an answer is cut, its chunks say what the whole answer says.
    #[test]
    fn a_stream_says_what_the_whole_answer_says(
        texts in prop::collection::vec("[a-zé🦀 \"\\\\\n]{1,12}", 1..3),
        tools in prop::collection::vec(("[a-z]{1,6}", prop::collection::btree_map("[a-z]{1,4}", any::<i32>(), 0..3)), 0..3),
        stop in prop::sample::select(vec![StopReason::EndTurn, StopReason::MaxTokens, StopReason::StopSequence]),
        tokens in (1..1000u32, 1..1000u32),
        piece in 1..5usize,
    ) {
        let message = json!([{ "role": "user", "content": "x" }]);
        for (family, body, has_tools) in [
            (InvokeFamily::Llama, json!({ "prompt": "x" }), false),
            (InvokeFamily::Titan, json!({ "inputText": "x" }), false),
            (InvokeFamily::Mistral, json!({ "prompt": "x" }), false),
            (InvokeFamily::Ai21, json!({ "messages": message }), true),
            (InvokeFamily::Cohere, json!({ "message": "x" }), true),
            (InvokeFamily::Anthropic, json!({ "messages": message, "max_tokens": 5, "anthropic_version": "bedrock-2023-05-31" }), true),
        ] {
            let mut blocks: Vec<ContentBlock> = texts.iter().map(|text| text.as_str().into()).collect();
            let mut stop = stop.clone();
            if has_tools && !tools.is_empty() {
                stop = StopReason::ToolUse;
                blocks.extend(tools.iter().enumerate().map(|(index, (name, input))| ContentBlock::ToolUse(ToolUseBlock {
                    tool_use_id: format!("id{index}"), name: name.clone(), input: json!(input), kind: None,
                })));
            }
            let response = ConverseResponse::new(blocks, stop, TokenUsage::new(tokens.0, tokens.1));
            let whole = invoke(family, &body, Reply::response(response.clone())).unwrap().0;
            let chunks = stream(family, &body, Reply::response(response).chunking(Chunking::Characters(piece))).unwrap();
            let metrics = &chunks.last().unwrap()[METRICS];
            prop_assert_eq!(&metrics["inputTokenCount"], &json!(tokens.0));
            prop_assert_eq!(&metrics["outputTokenCount"], &json!(tokens.1));
            let joined = joined(family, &chunks);
            let joined = if family == InvokeFamily::Cohere { essence(family, joined) } else { joined };
            prop_assert_eq!(joined, essence(family, whole), "{:?}", family);
        }
    }

    /// Bodies of any shape are answered or refused.
    #[test]
    fn bodies_of_no_meaning_are_survived(body in prop::collection::vec(any::<u8>(), 0..60), key in 0..8usize, value in "\\PC{0,20}") {
        let keys = ["prompt", "messages", "message", "inputText", "texts", "anthropic_version", "tools", "chat_history"];
        let made = json!({ keys[key]: [{ "role": value.clone(), "content": [{ "type": value }] }] }).to_string();
        for family in [InvokeFamily::Anthropic, InvokeFamily::Ai21, InvokeFamily::Cohere, InvokeFamily::Llama, InvokeFamily::Mistral, InvokeFamily::Titan] {
            let model = InvokeModel::new(Arc::new(ScriptedModel::answering(|_| Reply::text("x"))), family);
            for body in [body.as_slice(), made.as_bytes()] {
                if let Err(error) = model.invoke_blocking(body) {
                    prop_assert!(matches!(error, Error::Validation { .. }), "{error:?}");
                }
            }
        }
    }
}
