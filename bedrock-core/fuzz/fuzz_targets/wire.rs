//! JSON of any kind is a request or an answer, or is refused; what was read is written and read again the same, and is checked.
#![no_main]

use bedrock_core::retrieve_and_generate::{RetrieveAndGenerateRequest, RetrieveAndGenerateStreamEvent};
use bedrock_core::{
    ApplyGuardrailRequest, ApplyGuardrailResponse, ConverseRequest, ConverseResponse, CreateGuardrailRequest,
    ModelInvocationLog, RetrievalFilter, RetrieveRequest, RetrieveResponse, StreamEvent,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn read<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(json: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(json).ok()?;
    let written = serde_json::to_string(&value).expect("the types serialise");
    match serde_json::from_str::<T>(&written) {
        Ok(again) => assert_eq!(again, value),
        // Depth is bounded at reading, and a value may be written one level deeper than it was read.
        Err(error) => assert!(error.to_string().contains("recursion limit"), "{error}: {written}"),
    }
    Some(value)
}

libfuzzer_sys::fuzz_target!(|json: &[u8]| {
    read::<ApplyGuardrailRequest>(json);
    read::<ApplyGuardrailResponse>(json);
    read::<ConverseResponse>(json);
    read::<CreateGuardrailRequest>(json).map(|request| request.validate());
    read::<ModelInvocationLog>(json);
    read::<RetrieveAndGenerateRequest>(json).map(|request| request.validate());
    read::<RetrieveAndGenerateStreamEvent>(json);
    read::<RetrieveRequest>(json).map(|request| request.validate());
    read::<RetrieveResponse>(json);
    read::<StreamEvent>(json);
    if let Ok(request) = ConverseRequest::from_body("m", json)
        && request.validate().is_ok()
    {
        request.to_body().expect("a valid request is written");
    }
    if let Some(filter) = read::<RetrievalFilter>(json) {
        let _ = filter.validate();
        let metadata: Value = serde_json::from_slice(json).expect("it was read before");
        filter.passes(&|key| metadata.get(key).or(Some(&metadata)));
    }
});
