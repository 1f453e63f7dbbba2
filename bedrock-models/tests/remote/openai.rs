//! OpenAI's interface.

use bedrock_core::testing::check_chat_model;
use bedrock_core::{
    ChatModel, ContentBlock, ConverseRequest, EmbedPurpose, EmbedRequest, EmbeddingModel, Error, Message,
    ToolSpecification,
};
use bedrock_models::remote::{OpenAi, RemoteEmbedderSpec, RemoteOptions, Secret};
use futures::executor::block_on;
use serde_json::{Value, json};

use crate::play::{cases, compare_sent, play, reply};
use crate::server::{Reply, Server};

const CASES: &str = include_str!("../fixtures/remote/openai.json");

fn server(address: &str) -> OpenAi {
    OpenAi::new(address, Some(Secret::new("sk-loopback-1234")), &RemoteOptions::default()).expect("an address")
}

#[test]
fn it_sends_what_the_sdk_sends_and_reads_what_the_server_answers() {
    let cases = cases(CASES);
    for completions in [false, true] {
        let text =
            Value::Array(cases.iter().filter(|case| (case["completions"] == true) == completions).cloned().collect());
        let played = play(&text.to_string(), |address, model| -> Box<dyn ChatModel> {
            let server = server(&format!("{address}/v1"));
            if completions { Box::new(server.completions(model)) } else { Box::new(server.chat(model)) }
        });
        assert!(played.len() >= if completions { 1 } else { 8 }, "{played:?}");
    }
}

#[test]
fn it_keeps_the_contract() {
    let model_server = Server::start(|_, request| {
        let body = request.json();
        let usage = json!({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7});
        if body["stream"] == true {
            let mut text = String::new();
            for (delta, reason) in
                [(json!({"content": "Hel"}), None), (json!({"content": "lo"}), None), (json!({}), Some("stop"))]
            {
                text += &format!(
                    "data: {}\n\n",
                    json!({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
                );
            }
            text += &format!("data: {}\n\ndata: [DONE]\n\n", json!({"choices": [], "usage": usage}));
            return Reply::events(text).cut(11);
        }
        let message = json!({"role": "assistant", "content": "Hello"});
        Reply::json(
            200,
            &json!({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}),
        )
    });
    let model = server(&model_server.address("/v1")).chat("m");
    block_on(check_chat_model(&model, &ConverseRequest::new("any").system("Be brief.").user("Hi").temperature(0.0)));
}

#[test]
fn what_has_no_place_is_refused_by_its_name() {
    let model = server("http://127.0.0.1:9/v1").chat("m");
    let ask = || ConverseRequest::new("any").user("hi");
    let turn = |block: Value| -> ConverseRequest {
        let block: ContentBlock = serde_json::from_value(block).expect("a block");
        ConverseRequest::new("any").message(Message::user("hi").with(block))
    };
    let whole = |value: Value| -> ConverseRequest {
        let mut request = serde_json::to_value(ask()).expect("JSON");
        request.as_object_mut().expect("an object").extend(value.as_object().expect("an object").clone());
        serde_json::from_value(request).expect("a request")
    };
    let tool = ToolSpecification::new("f", "d", json!({"type": "object"}));
    let file = json!({"format": "docx", "name": "a", "source": {"bytes": "AQ=="}});
    for (field, request) in [
        ("messages.0.content.1.cachePoint", turn(json!({"cachePoint": {"type": "default"}}))),
        ("messages.0.content.1.video", turn(json!({"video": {"format": "mp4", "source": {"bytes": "AQ=="}}}))),
        ("messages.0.content.1.document", turn(json!({ "document": file }))),
        (
            "messages.0.content.1.document.citations",
            turn(
                json!({"document": {"format": "txt", "name": "a", "source": {"text": "x"}, "citations": {"enabled": true}}}),
            ),
        ),
        (
            "messages.0.content.1.image.source",
            turn(json!({"image": {"format": "png", "source": {"s3Location": {"uri": "s3://bucket/key"}}}})),
        ),
        ("messages.0.content.1.audio", turn(json!({"audio": {"format": "flac", "source": {"bytes": "AQ=="}}}))),
        ("messages.1", ask().assistant("so")),
        (
            "messages.1.content.0.reasoningContent",
            whole(json!({"messages": [
            {"role": "user", "content": [{"text": "a"}]},
            {"role": "assistant", "content": [{"reasoningContent": {"reasoningText": {"text": "b", "signature": "c"}}}]},
            {"role": "user", "content": [{"text": "d"}]}]})),
        ),
        ("guardrailConfig", whole(json!({"guardrailConfig": {"guardrailIdentifier": "g"}}))),
        ("promptVariables", whole(json!({"promptVariables": {"a": {"text": "b"}}}))),
        ("performanceConfig.latency", whole(json!({"performanceConfig": {"latency": "optimized"}}))),
        ("serviceTier.type", whole(json!({"serviceTier": {"type": "reserved"}}))),
        ("system.0", whole(json!({"system": [{"cachePoint": {"type": "default"}}]}))),
        ("toolConfig.tools.1", ask().tool(tool).tool(bedrock_core::ToolDefinition::CachePoint(Default::default()))),
        ("additionalModelRequestFields.stream", ask().additional_field("stream", false)),
        ("additionalModelRequestFields.temperature", ask().temperature(0.5).additional_field("temperature", 2)),
    ] {
        let error = model.converse_blocking(&request).expect_err(field);
        let Error::Validation { message } = error else { panic!("{field}: {error:?}") };
        assert!(message.starts_with(&format!("{field}: ")), "{field}: {message}");
    }
    let raw = server("http://127.0.0.1:9/v1").completions("m");
    for request in [
        ask().system("s"),
        ask().assistant("a"),
        turn(json!({"image": {"format": "png", "source": {"bytes": "AQ=="}}})),
    ] {
        assert!(matches!(raw.converse_blocking(&request), Err(Error::Validation { .. })));
    }
}

#[test]
fn vectors_are_checked_and_normalised() {
    let cases = cases(CASES);
    let case = cases.iter().find(|case| case["name"] == "vectors").expect("a case");
    let embed = |spec: RemoteEmbedderSpec, request: EmbedRequest| {
        let loopback = Server::always(reply(case));
        let model = server(&loopback.address("/v1")).embedder("e", spec);
        (model.embed_blocking(&request), loopback.requests())
    };
    let request = EmbedRequest {
        dimensions: Some(2),
        normalize: Some(true),
        ..EmbedRequest::new(EmbedPurpose::Other, ["a", ""])
    };
    let (response, requests) = embed(RemoteEmbedderSpec::new(8, 100), request.clone());
    compare_sent("vectors", case, &requests);
    let response = response.expect("embedded");
    assert_eq!(response.embeddings, [[0.6, 0.8], [0.0, -1.0]], "in the order of the inputs, of length 1");
    assert_eq!(response.input_tokens, 5);

    let (response, _) = embed(RemoteEmbedderSpec::new(8, 100), EmbedRequest { dimensions: None, ..request.clone() });
    assert!(matches!(response, Err(Error::Validation { .. })), "8 values were expected");
    let (response, requests) = embed(RemoteEmbedderSpec::new(1, 100), request.clone());
    assert!(matches!(response, Err(Error::Validation { .. })) && requests.is_empty(), "2 are more than there are");
    let (response, _) = embed(RemoteEmbedderSpec::new(2, 100), EmbedRequest::documents(["a", "b", "c"]));
    assert!(
        matches!(response, Err(Error::Validation { .. } | Error::BadGateway { .. })),
        "two vectors for three texts"
    );
    let (response, requests) = embed(RemoteEmbedderSpec::new(2, 100), EmbedRequest::documents([""; 0]));
    assert!(response.expect("nothing").embeddings.is_empty() && requests.is_empty());
    let model = server("http://127.0.0.1:9").embedder("e", RemoteEmbedderSpec::new(2, 100));
    assert_eq!((model.count_tokens("").unwrap(), model.count_tokens("hello").unwrap()), (0, 2));
}
