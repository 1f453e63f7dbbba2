//! Recorded traffic: a Converse request, what the provider's own SDK sends for it, what the server answers, and the Converse response.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bedrock_core::{ChatModel, ConverseRequest, ConverseResponse, Error, collect};
use futures::executor::block_on;
use serde_json::{Value, json};

use crate::server::{Reply, Request, Server};

/// The cases of a file that a test knows by its path.
pub(crate) fn cases(text: &str) -> Vec<Value> {
    serde_json::from_str(text).expect("the cases are a list")
}

/// Plays every chat case, its answer cut in three ways.
pub(crate) fn play<M: ChatModel>(text: &str, model: impl Fn(&str, &str) -> M) -> Vec<String> {
    let mut names = Vec::new();
    for case in cases(text).iter().filter(|case| case.get("converse").is_some()) {
        let name = case["name"].as_str().expect("a name");
        names.push(name.to_owned());
        for cut in [1, 13, usize::MAX] {
            let server = Server::always(reply(case).cut(cut));
            let model = model(&server.address(""), case["model"].as_str().expect("a model"));
            let request: ConverseRequest = serde_json::from_value(case["converse"].clone()).expect("a request");
            let result = if case["stream"] == true {
                block_on(async { collect(model.converse_stream(&request).await?).await })
            } else {
                model.converse_blocking(&request)
            };
            compare_sent(name, case, &server.requests());
            compare(name, case, result);
        }
    }
    names
}

/// The answer of a case.
pub(crate) fn reply(case: &Value) -> Reply {
    let answer = &case["answer"];
    let body = match answer["base64"].as_str() {
        Some(text) => STANDARD.decode(text).expect("base64"),
        None => answer["body"].as_str().expect("a body").as_bytes().to_vec(),
    };
    let status = answer["status"].as_u64().expect("a status") as u16;
    let mut reply = Reply::new(status, answer["content_type"].as_str().expect("a type"), body);
    for (name, value) in answer["headers"].as_object().into_iter().flatten() {
        reply = reply.header(name, value.as_str().expect("a text"));
    }
    reply
}

/// The request is what the SDK sends: method, path, the headers that are named, body.
pub(crate) fn compare_sent(name: &str, case: &Value, requests: &[Request]) {
    assert!(!requests.is_empty(), "{name}: nothing was sent");
    let (request, sent) = (&requests[0], &case["sent"]);
    assert_eq!(request.method, "POST", "{name}");
    assert_eq!(request.path, sent["path"].as_str().expect("a path"), "{name}");
    for (header, value) in sent["headers"].as_object().into_iter().flatten() {
        assert_eq!(request.header(header), value.as_str(), "{name}: {header}");
    }
    let (ours, mut theirs) = (request.json(), sent["body"].clone());
    // One package says what goes without saying.
    if theirs["stream"] == false {
        theirs.as_object_mut().expect("an object").remove("stream");
    }
    assert_eq!(sorted(&ours), sorted(&theirs), "{name}:\nours   {ours}\ntheirs {theirs}");
}

/// The same value; numbers compare as numbers, whatever their form.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Number(number) => json!(number.as_f64()),
        other => other.clone(),
    }
}

fn compare(name: &str, case: &Value, result: Result<ConverseResponse, Error>) {
    if let Some(expected) = case.get("error") {
        let error = result.expect_err(name);
        assert_eq!(error.exception_name(), expected["exception"].as_str().expect("a name"), "{name}: {error}");
        let part = expected["message"].as_str().unwrap_or_default();
        assert!(error.message().contains(part), "{name}: {error}");
        return;
    }
    let mut response = result.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    response.metrics.latency_ms = 0;
    let ours = serde_json::to_value(&response).expect("JSON");
    let mut theirs = case["response"].clone();
    theirs["metrics"] = json!({"latencyMs": 0});
    assert_eq!(sorted(&ours), sorted(&theirs), "{name}:\nours     {ours}\nexpected {theirs}");
}
