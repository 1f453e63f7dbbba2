//! Cohere's interface.

use bedrock_core::testing::{check_chat_model, check_reranker};
use bedrock_core::{
    ChatModel, ConverseRequest, EmbedRequest, EmbeddingModel, Error, RerankRequest, Reranker, ToolChoice,
    ToolSpecification,
};
use bedrock_models::remote::{Cohere, RemoteEmbedderSpec, RemoteOptions};
use futures::executor::block_on;
use serde_json::{Value, json};

use crate::play::{cases, compare_sent, play, reply};
use crate::server::{Reply, Server};

const CASES: &str = include_str!("../fixtures/remote/cohere.json");

fn server(address: &str) -> Cohere {
    Cohere::new(address, "sk-loopback-1234".into(), &RemoteOptions::default()).expect("an address")
}

fn case(name: &str) -> Value {
    cases(CASES).into_iter().find(|case| case["name"] == name).expect(name)
}

#[test]
fn it_sends_what_the_sdk_sends_and_reads_what_the_server_answers() {
    assert_eq!(play(CASES, |address, model| server(address).chat(model)).len(), 4);
}

#[test]
fn it_keeps_the_contract() {
    let answer: String = [
        json!({"type": "message-start", "id": "m"}),
        json!({"type": "content-start", "delta": {"message": {"content": {"type": "text", "text": "Hel"}}}}),
        json!({"type": "content-delta", "delta": {"message": {"content": {"text": "lo"}}}}),
        json!({"type": "content-end"}),
        json!({"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": {"tokens": {"input_tokens": 5, "output_tokens": 2}}}}),
    ]
    .map(|value| format!("data: {value}\n\n"))
    .concat();
    let loopback = Server::always(Reply::events(answer).cut(10));
    let request = ConverseRequest::new("any").system("Be brief.").user("Hi").temperature(0.0);
    block_on(check_chat_model(&server(&loopback.address("")).chat("m"), &request));
}

#[test]
fn a_certain_tool_is_refused() {
    let mut request =
        ConverseRequest::new("m").user("x").tool(ToolSpecification::new("f", "d", json!({"type": "object"})));
    request.tool_config.as_mut().expect("tools").tool_choice = Some(ToolChoice::tool("f"));
    match server("http://127.0.0.1:9").chat("m").converse_blocking(&request) {
        Err(Error::Validation { message }) => assert!(message.starts_with("toolConfig.toolChoice"), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn vectors() {
    let case = case("vectors");
    let loopback = Server::always(reply(&case));
    let model = server(&loopback.address("")).embedder("e", RemoteEmbedderSpec::new(4, 100));
    let request = EmbedRequest { dimensions: Some(2), normalize: Some(true), ..EmbedRequest::documents(["a", "b"]) };
    let response = model.embed_blocking(&request).expect("embedded");
    compare_sent("vectors", &case, &loopback.requests());
    assert_eq!(response.embeddings, [[0.6, 0.8], [1.0, 0.0]]);
    assert_eq!(response.input_tokens, 4);
}

#[test]
fn a_ranking() {
    let case = case("a ranking");
    let loopback = Server::always(reply(&case));
    let model = server(&loopback.address("")).reranker("r");
    let response = model.rerank_blocking(&RerankRequest { top_n: Some(2), ..RerankRequest::new("q", ["a", "", "c"]) });
    compare_sent("a ranking", &case, &loopback.requests());
    let order: Vec<usize> = response.expect("ranked").results.iter().map(|result| result.index).collect();
    assert_eq!(order, [2, 0], "ties in the order of the request");
    let error = model.rerank_blocking(&RerankRequest::new("q", ["a", "b", "c", "d"])).unwrap_err();
    assert!(matches!(error, Error::BadGateway { .. }), "{error:?}");

    // A server that scores by the share of the query's words.
    let loopback = Server::start(|_, request| {
        let body = request.json();
        let query = body["query"].as_str().expect("a query").to_owned();
        let results =
            body["documents"].as_array().expect("documents").iter().enumerate().rev().map(|(index, document)| {
                let words = document.as_str().expect("a text").split_whitespace();
                json!({"index": index, "relevance_score": words.filter(|word| query.contains(*word)).count()})
            });
        Reply::json(200, &json!({"results": results.collect::<Vec<_>>()}))
    });
    block_on(check_reranker(&server(&loopback.address("")).reranker("r")));
}
