//! The JSON form of the types against the service's own SDK: see `fixtures/SOURCE.md`.

use bedrock_core::retrieve_and_generate::{
    RetrieveAndGenerateRequest, RetrieveAndGenerateResponse, RetrieveAndGenerateStreamEvent,
};
use bedrock_core::{
    ApplyGuardrailRequest, ApplyGuardrailResponse, ConverseRequest, ConverseResponse, CreateGuardrailRequest,
    CreateGuardrailResponse, Error, GetFoundationModelResponse, GetImportedModelResponse, GetModelImportJobResponse,
    ListFoundationModelsResponse, ListImportedModelsResponse, RetrieveRequest, RetrieveResponse, StreamEvent,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn fixtures(json: &str) -> Vec<Value> {
    let fixtures: Vec<Value> = serde_json::from_str(json).expect("a fixture is JSON");
    assert!(!fixtures.is_empty());
    fixtures
}

/// Parse, write, compare: nothing lost, nothing added, no label unknown.
fn round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(json: &str) {
    for fixture in fixtures(json) {
        let typed: T = serde_json::from_value(fixture.clone()).unwrap_or_else(|error| panic!("{error}: {fixture}"));
        assert!(!format!("{typed:?}").contains("Unknown("), "a label is not known: {typed:?}");
        let written = serde_json::to_value(&typed).expect("the types serialise");
        assert_same(&written, &fixture, &mut String::new());

        let text = serde_json::to_string(&typed).expect("the types serialise");
        let again: T = serde_json::from_str(&text).expect("what is written can be read");
        assert_eq!(again, typed);
    }
}

/// Equality that says where it fails; the values are too long for a plain `assert_eq`.
fn assert_same(ours: &Value, theirs: &Value, at: &mut String) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()) {
                let length = at.len();
                at.push('.');
                at.push_str(key);
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => assert_same(a, b, at),
                    (a, b) => panic!("{at}: ours {a:?}, the service's {b:?}"),
                }
                at.truncate(length);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{at}: number of entries");
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                let length = at.len();
                at.push_str(&format!(".{index}"));
                assert_same(a, b, at);
                at.truncate(length);
            }
        }
        _ => assert_eq!(ours, theirs, "{at}"),
    }
}

macro_rules! round_trips {
    ($($test:ident: $type:ty = $file:literal;)*) => {$(
        #[test]
        fn $test() {
            round_trip::<$type>(include_str!(concat!("fixtures/", $file, ".json")));
        }
    )*};
}

round_trips! {
    converse_request: ConverseRequest = "converse_request";
    converse_stream_request: ConverseRequest = "converse_stream_request";
    converse_response: ConverseResponse = "converse_response";
    converse_stream_events: StreamEvent = "converse_stream_events";
    apply_guardrail_request: ApplyGuardrailRequest = "apply_guardrail_request";
    apply_guardrail_response: ApplyGuardrailResponse = "apply_guardrail_response";
    create_guardrail_request: CreateGuardrailRequest = "create_guardrail_request";
    create_guardrail_response: CreateGuardrailResponse = "create_guardrail_response";
    list_foundation_models_response: ListFoundationModelsResponse = "list_foundation_models_response";
    get_foundation_model_response: GetFoundationModelResponse = "get_foundation_model_response";
    list_imported_models_response: ListImportedModelsResponse = "list_imported_models_response";
    get_imported_model_response: GetImportedModelResponse = "get_imported_model_response";
    get_model_import_job_response: GetModelImportJobResponse = "get_model_import_job_response";
    retrieve_request: RetrieveRequest = "retrieve_request";
    retrieve_response: RetrieveResponse = "retrieve_response";
    retrieve_and_generate_request: RetrieveAndGenerateRequest = "retrieve_and_generate_request";
    retrieve_and_generate_response: RetrieveAndGenerateResponse = "retrieve_and_generate_response";
    retrieve_and_generate_stream_events: RetrieveAndGenerateStreamEvent = "retrieve_and_generate_stream_events";
}

/// A body without a message is allowed; ours always has one.
fn with_message(mut body: Value) -> Value {
    body.as_object_mut().expect("a body is an object").entry("message").or_insert_with(|| "".into());
    body
}

#[test]
fn exceptions_have_the_service_s_names_codes_and_bodies() {
    for fixture in fixtures(include_str!("fixtures/errors.json")) {
        let name = fixture["name"].as_str().unwrap();
        let error = Error::from_exception(name, &fixture["body"]);
        assert_eq!(error.exception_name(), name);
        let status = match fixture["service"].as_str().unwrap() {
            "bedrock-runtime" => error.http_status(),
            "bedrock-agent-runtime" => error.http_status_of_agents(),
            other => panic!("{other}"),
        };
        assert_eq!(Value::from(status), fixture["status"], "{name}");
        assert_same(&error.body(), &with_message(fixture["body"].clone()), &mut name.to_owned());
    }
}

#[test]
fn exceptions_of_streams_are_read() {
    for fixture in fixtures(include_str!("fixtures/stream_exceptions.json")) {
        let name = fixture["name"].as_str().unwrap();
        let error = Error::from_exception(name, &fixture["body"]);
        assert_eq!(error.exception_name()[1..], name[1..]);
        assert_same(&error.body(), &with_message(fixture["body"].clone()), &mut name.to_owned());
    }
}

#[test]
fn the_model_s_id_is_in_files_and_not_in_the_body() {
    let request = ConverseRequest::new("m").user("hi");
    assert_eq!(serde_json::to_value(&request).unwrap()["modelId"], "m");
    let body = request.to_body().unwrap();
    assert!(body.get("modelId").is_none());
    let read = ConverseRequest::from_body("m", body.to_string().as_bytes()).unwrap();
    assert_eq!(read, request);
}
