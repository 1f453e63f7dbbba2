//! Anthropic's Messages interface.

use bedrock_core::testing::check_chat_model;
use bedrock_core::{ChatModel, ContentBlock, ConverseRequest, Error, Message};
use bedrock_models::remote::{Anthropic, RemoteOptions};
use futures::executor::block_on;
use serde_json::{Value, json};

use crate::play::{cases, compare_sent, play, reply};
use crate::server::{Reply, Server};

const CASES: &str = include_str!("../fixtures/remote/anthropic.json");

fn model(address: &str, model: &str) -> Anthropic {
    Anthropic::new(address, "sk-loopback-1234".into(), model, &RemoteOptions::default()).expect("an address")
}

#[test]
fn it_sends_what_the_sdk_sends_and_reads_what_the_server_answers() {
    assert_eq!(play(CASES, model).len(), 5);
}

#[test]
fn tokens_are_counted_by_the_server() {
    let cases = cases(CASES);
    let case = cases.iter().find(|case| case["name"] == "a count").expect("a case");
    let server = Server::always(reply(case));
    let request: ConverseRequest = serde_json::from_value(case["count"].clone()).expect("a request");
    let count = block_on(model(&server.address(""), "m").count_tokens(&request)).expect("counted");
    compare_sent("a count", case, &server.requests());
    assert_eq!(count, 77);
}

#[test]
fn it_keeps_the_contract() {
    let event = |value: Value| format!("event: {}\ndata: {value}\n\n", value["type"].as_str().expect("a type"));
    let answer: String = [
        json!({"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 5, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}),
        json!({"type": "message_stop"}),
    ]
    .map(event)
    .concat();
    let server = Server::start(move |_, request| {
        if request.path.ends_with("count_tokens") {
            return Reply::json(200, &json!({"input_tokens": 5}));
        }
        Reply::events(answer.clone()).cut(10)
    });
    let request = ConverseRequest::new("any").system("Be brief.").user("Hi").temperature(0.0);
    block_on(check_chat_model(&model(&server.address(""), "m"), &request));
}

#[test]
fn what_has_no_place_is_refused_by_its_name() {
    let model = model("http://127.0.0.1:9", "m");
    let turn = |block: Value| {
        let block: ContentBlock = serde_json::from_value(block).expect("a block");
        ConverseRequest::new("any").message(Message::user("hi").with(block))
    };
    let mut first = turn(json!({"cachePoint": {"type": "default"}}));
    first.messages[0].content.swap(0, 1);
    for (field, request) in [
        ("messages.0.content.0.cachePoint", first),
        ("messages.0.content.1.audio", turn(json!({"audio": {"format": "wav", "source": {"bytes": "AQ=="}}}))),
        (
            "messages.0.content.1.document",
            turn(json!({"document": {"format": "docx", "name": "a", "source": {"bytes": "AQ=="}}})),
        ),
        (
            "messages.0.content.1.document.source.bytes",
            turn(json!({"document": {"format": "txt", "name": "a", "source": {"bytes": "/w=="}}})),
        ),
        ("additionalModelRequestFields.max_tokens", turn(json!({"text": "x"})).additional_field("max_tokens", 1)),
    ] {
        let error = model.converse_blocking(&request).expect_err(field);
        let Error::Validation { message } = error else { panic!("{field}: {error:?}") };
        assert!(message.starts_with(&format!("{field}: ")), "{field}: {message}");
    }
}

#[test]
fn an_answer_out_of_order_is_an_error() {
    for events in [
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{"}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"hologram"}}"#,
        r#"{"type":"message_stop"}"#,
        r#"{"type":"message_delta"}"#,
        "[]",
        "{",
    ] {
        let server = Server::always(Reply::events(format!("data: {events}\n\n")));
        let error =
            model(&server.address(""), "m").converse_blocking(&ConverseRequest::new("m").user("x")).unwrap_err();
        assert!(matches!(error, Error::ModelStreamError { .. }), "{events}: {error:?}");
    }
}
