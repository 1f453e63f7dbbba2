//! Laws that hold for every value: collecting undoes splitting, reading undoes writing, hostile input is refused.

use bedrock_core::testing::{Chunking, Reply, ScriptedModel};
use bedrock_core::*;
use futures::executor::block_on;
use futures::stream;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // At most 15 digits: serde_json reads longer ones to the last bit only with its feature `float_roundtrip`.
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(".{0,4}", inner, 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn citation() -> impl Strategy<Value = Citation> {
    let location = prop_oneof![
        (option::of(any::<u32>()), option::of(any::<u32>())).prop_map(|(document_index, start)| {
            CitationLocation::DocumentChar(DocumentCharLocation { document_index, start, end: None })
        }),
        option::of(".{0,9}").prop_map(|url| CitationLocation::Web(WebLocation { url, domain: None })),
    ];
    (option::of(".{0,9}"), vec(".{0,9}".prop_map(CitationSourceContent::Text), 0..3), option::of(location))
        .prop_map(|(title, source_content, location)| Citation { title, source: None, source_content, location })
}

/// Blocks that have a form as events.
fn block() -> impl Strategy<Value = ContentBlock> {
    let id = "[a-zA-Z0-9_.:-]{1,12}";
    let part = prop_oneof![
        ".{0,12}".prop_map(ToolResultContentBlock::Text),
        json_value().prop_map(ToolResultContentBlock::Json),
    ];
    prop_oneof![
        ".{0,40}".prop_map(ContentBlock::Text),
        (id, "[a-z]{1,9}", json_value(), any::<bool>()).prop_map(|(tool_use_id, name, input, server)| {
            let kind = server.then_some(ToolUseType::ServerToolUse);
            ContentBlock::ToolUse(ToolUseBlock { tool_use_id, name, input, kind })
        }),
        (id, vec(part, 0..3), option::of(Just(ToolResultStatus::Error)), option::of("[a-z]{1,4}")).prop_map(
            |(tool_use_id, content, status, kind)| {
                ContentBlock::ToolResult(ToolResultBlock { tool_use_id, content, status, kind })
            }
        ),
        (".{0,20}", option::of(".{0,8}")).prop_map(|(text, signature)| {
            ContentBlock::ReasoningContent(ReasoningContentBlock::ReasoningText(ReasoningTextBlock { text, signature }))
        }),
        vec(any::<u8>(), 0..9)
            .prop_map(|bytes| { ContentBlock::ReasoningContent(ReasoningContentBlock::RedactedContent(Blob(bytes))) }),
        (option::of(".{0,20}"), vec(citation(), 1..3)).prop_map(|(text, citations)| {
            let content = text.into_iter().map(CitationGeneratedContent::Text).collect();
            ContentBlock::CitationsContent(CitationsContentBlock { content, citations })
        }),
        (vec(any::<u8>(), 0..9), option::of(option::of(".{0,9}"))).prop_map(|(bytes, error)| {
            let image = ImageBlock::new(ImageFormat::Png, bytes);
            ContentBlock::Image(ImageBlock { error: error.map(|message| ErrorBlock { message }), ..image })
        }),
    ]
}

fn response() -> impl Strategy<Value = ConverseResponse> {
    let stop = prop::sample::select(StopReason::KNOWN);
    let trace = option::of(option::of(".{0,5}")).prop_map(|reason| {
        reason.map(|action_reason| ConverseTrace {
            guardrail: Some(GuardrailTraceAssessment { action_reason, ..Default::default() }),
            prompt_router: None,
        })
    });
    (vec(block(), 0..5), stop, any::<(u32, u32, u32, u64)>(), option::of(json_value()), trace).prop_map(
        |(content, stop_reason, (input_tokens, output_tokens, total_tokens, latency_ms), fields, trace)| {
            let usage = TokenUsage { input_tokens, output_tokens, total_tokens, ..Default::default() };
            ConverseResponse {
                metrics: ConverseMetrics { latency_ms },
                // A field that is null is a field that is absent.
                additional_model_response_fields: fields.filter(|value| !value.is_null()),
                trace,
                ..ConverseResponse::new(content, stop_reason, usage)
            }
        },
    )
}

fn chunking() -> impl Strategy<Value = Chunking> {
    prop_oneof![
        Just(Chunking::Whole),
        (1..5usize).prop_map(Chunking::Characters),
        vec(0..4usize, 1..4).prop_map(Chunking::Sizes),
    ]
}

proptest! {
    // The regression files of proptest would need a source folder; failures are small enough to become tests by hand.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn collecting_undoes_splitting(response in response()) {
        let events = response.clone().into_events().unwrap();
        let again = block_on(collect(stream::iter(events.into_iter().map(Ok)))).unwrap();
        prop_assert_eq!(again, response);
    }

    #[test]
    fn the_answer_does_not_depend_on_the_chunks(response in response(), chunking in chunking()) {
        prop_assume!(response.usage.input_tokens > 0 && response.usage.total_tokens > 0);
        let model = ScriptedModel::new([Reply::response(response.clone()).chunking(chunking)]);
        let again = model.converse_blocking(&ConverseRequest::new("m").user("go")).unwrap();
        prop_assert_eq!(again, response);
    }

    #[test]
    fn reading_undoes_writing(response in response()) {
        let text = serde_json::to_string(&response).unwrap();
        prop_assert_eq!(&serde_json::from_str::<ConverseResponse>(&text).unwrap(), &response);
        for event in response.into_events().unwrap() {
            let text = serde_json::to_string(&event).unwrap();
            prop_assert_eq!(serde_json::from_str::<StreamEvent>(&text).unwrap(), event);
        }
    }

    /// Any order of any events: an error or a response, never a panic.
    #[test]
    fn any_events_are_survived(response in response(), order in vec(any::<prop::sample::Index>(), 0..12)) {
        let events = response.into_events().unwrap();
        let shuffled = order.iter().map(|index| Ok(index.get(&events).clone()));
        let result = block_on(collect(stream::iter(shuffled)));
        if let Err(error) = result {
            prop_assert!(matches!(error, Error::Protocol(_)), "{:?}", error);
        }
    }

    /// Bytes of a real request with a few of them changed: read or refused, never a panic; what is read can be written.
    #[test]
    fn damaged_requests_are_survived(damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = include_bytes!("fixtures/converse_request.json").to_vec();
        for (index, byte) in damage {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if let Ok(requests) = serde_json::from_slice::<Vec<ConverseRequest>>(&bytes) {
            for request in requests {
                let _ = request.validate();
                serde_json::to_string(&request).unwrap();
            }
        }
    }

    /// JSON of any shape where the shape is expected: read or refused, never a panic.
    #[test]
    fn any_json_is_survived(value in json_value(), key in "(messages|system|toolConfig|inferenceConfig|outputConfig)") {
        for request in [value.clone(), json!({ key: value.clone() }), json!({"messages": [{"role": value, "content": []}]})] {
            if let Ok(request) = serde_json::from_value::<ConverseRequest>(request) {
                let _ = request.validate();
            }
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..64)) {
        prop_assert!(ConverseRequest::from_body("m", &bytes).is_err());
    }
}

#[test]
fn nesting_is_bounded() {
    let deep = |levels: usize| {
        format!(
            r#"{{"messages":[{{"role":"user","content":[{{"text":"a"}}]}}],"additionalModelRequestFields":{{"a":{}1{}}}}}"#,
            "[".repeat(levels),
            "]".repeat(levels)
        )
    };
    assert!(ConverseRequest::from_body("m", deep(100).as_bytes()).is_ok());
    let error = ConverseRequest::from_body("m", deep(100_000).as_bytes()).unwrap_err();
    assert!(matches!(&error, Error::Validation { message } if message.contains("recursion limit")), "{error}");

    let filter = |levels: usize| {
        let leaf = r#"{"equals":{"key":"a","value":1}}"#;
        let (open, close) = (format!(r#"{{"andAll":[{leaf},"#).repeat(levels), "]}".repeat(levels));
        serde_json::from_str::<RetrievalFilter>(&format!("{open}{leaf}{close}"))
    };
    let request = |levels| RetrieveRequest::new("kb", "query").filter(filter(levels).unwrap());
    assert!(request(16).validate().is_ok());
    assert!(request(17).validate().unwrap_err().to_string().contains("nested"));
    assert!(filter(100_000).is_err());
}
