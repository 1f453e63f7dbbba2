//! The limits of the service: each row breaks one rule of a request that is otherwise good.

use bedrock_core::{ApplyGuardrailRequest, ConverseRequest, CreateGuardrailRequest, Error, RetrieveRequest};
use serde_json::{Value, json};

/// Sets what a JSON pointer names; a missing field is added, `-` appends to a list.
fn set(value: &mut Value, pointer: &str, new: Value) {
    let (parent, last) = pointer.rsplit_once('/').expect("a pointer");
    let parent = value.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer} has no parent"));
    match parent {
        Value::Object(fields) => {
            fields.insert(last.to_owned(), new);
        }
        Value::Array(items) if last == "-" => items.push(new),
        Value::Array(items) => items[last.parse::<usize>().expect("an index")] = new,
        other => panic!("{other} has no members"),
    }
}

fn refused<T: serde::de::DeserializeOwned>(
    good: &Value,
    changes: &[(&str, Value)],
    validate: impl Fn(&T) -> Result<(), Error>,
) -> String {
    let mut value = good.clone();
    for (pointer, new) in changes {
        set(&mut value, pointer, new.clone());
    }
    let request: T = serde_json::from_value(value).unwrap_or_else(|error| panic!("{changes:?}: {error}"));
    match validate(&request) {
        Err(Error::Validation { message }) => message,
        other => panic!("{changes:?} is not refused: {other:?}"),
    }
}

fn converse() -> Value {
    json!({
        "modelId": "m",
        "messages": [
            {"role": "user", "content": [
                {"text": "Read this."},
                {"document": {"format": "md", "name": "Notes (1) [a]-b", "source": {"bytes": "AAEC"}}},
                {"image": {"format": "png", "source": {"s3Location": {"uri": "s3://my.bucket-1/a/b", "bucketOwner": "123456789012"}}}},
            ]},
            {"role": "assistant", "content": [
                {"toolUse": {"toolUseId": "t.1:a-b_c", "name": "clock", "input": {}}},
                {"toolUse": {"toolUseId": "t2", "name": "clock", "input": {}}},
            ]},
            {"role": "system", "content": [{"text": "Hurry."}]},
            {"role": "user", "content": [
                {"toolResult": {"toolUseId": "t2", "content": [{"text": "noon"}], "status": "success"}},
                {"toolResult": {"toolUseId": "t.1:a-b_c", "content": [{"json": {}}]}},
            ]},
            {"role": "assistant", "content": [{"text": "It is"}]},
        ],
        "system": [{"text": "Be brief."}],
        "inferenceConfig": {"maxTokens": 1, "temperature": 1.0, "topP": 0.0, "stopSequences": ["x"]},
        "toolConfig": {
            "tools": [{"toolSpec": {"name": "clock", "inputSchema": {"json": {}}}}, {"cachePoint": {"type": "default"}}],
            "toolChoice": {"tool": {"name": "clock"}},
        },
        "guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "12345678", "trace": "enabled"},
        "additionalModelResponseFieldPaths": ["/a"],
        "requestMetadata": {"team:a_1": "a b@$#=/+,-."},
        "outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": "{}"}}}},
    })
}

#[test]
fn converse_requests() {
    let good = converse();
    let request: ConverseRequest = serde_json::from_value(good.clone()).expect("a request");
    request.validate().expect("the good request is good");

    let x = |n: usize| Value::from("x".repeat(n));
    let turn = |role: &str, block: Value| json!({"role": role, "content": [block]});
    let text = json!({"text": "a"});
    let rows: Vec<(&str, Value, &str)> = vec![
        ("/modelId", x(2049), "modelId has 2049 characters"),
        ("/messages/0/role", "robot".into(), "messages.0.role is \"robot\""),
        ("/messages/0/role", "assistant".into(), "messages.0.role is assistant; a conversation begins with the user"),
        ("/messages/4/role", "user".into(), "messages.4.role is user twice in a row"),
        ("/messages/0/content", json!([]), "messages.0.content is empty"),
        ("/messages/0/content/0/text", " \n".into(), "messages.0.content.0.text is blank"),
        (
            "/messages/0/content/0",
            json!({"cachePoint": {"type": "default"}}),
            "messages.0.content.1.document needs a text",
        ),
        (
            "/messages/0/content/0",
            json!({"cachePoint": {"type": "odd"}}),
            "messages.0.content.0.cachePoint.type is \"odd\"",
        ),
        ("/messages/0/content/1/document/format", "exe".into(), "messages.0.content.1.document.format is \"exe\""),
        ("/messages/0/content/1/document/name", "a  b".into(), "messages.0.content.1.document.name has two spaces"),
        (
            "/messages/0/content/1/document/name",
            "a.md".into(),
            "messages.0.content.1.document.name has the character '.'",
        ),
        ("/messages/0/content/1/document/name", "".into(), "messages.0.content.1.document.name has 0 characters"),
        ("/messages/0/content/1/document/name", x(201), "messages.0.content.1.document.name has 201 characters"),
        (
            "/messages/0/content/1/document/source/bytes",
            "".into(),
            "messages.0.content.1.document.source.bytes is empty",
        ),
        (
            "/messages/0/content/2/image/source/s3Location/uri",
            "http://a".into(),
            "messages.0.content.2.image.source.s3Location.uri",
        ),
        ("/messages/0/content/2/image/source/s3Location/uri", "s3://A/b".into(), "must be s3://bucket/key"),
        ("/messages/0/content/2/image/source/s3Location/uri", "s3://ab".into(), "must be s3://bucket/key"),
        ("/messages/0/content/2/image/source/s3Location/bucketOwner", "12".into(), "bucketOwner must have 12 digits"),
        (
            "/messages/0/content/-",
            json!({"toolUse": {"toolUseId": "a", "name": "b", "input": 1}}),
            "can't stand in a turn of the user",
        ),
        (
            "/messages/4/content/-",
            json!({"searchResult": {"source": "", "title": "", "content": []}}),
            "can't stand in a turn of the assistant",
        ),
        (
            "/messages/1/content/0/toolUse/toolUseId",
            "a b".into(),
            "messages.1.content.0.toolUse.toolUseId has the character ' '",
        ),
        ("/messages/1/content/0/toolUse/toolUseId", "t2".into(), "messages.1.content has two toolUse blocks"),
        (
            "/messages/1/content/0/toolUse/name",
            "clock!".into(),
            "messages.1.content.0.toolUse.name has the character '!'",
        ),
        ("/messages/1/content/0/toolUse/name", x(65), "messages.1.content.0.toolUse.name has 65 characters"),
        ("/messages/3/content/0/toolResult/toolUseId", "t9".into(), "toolUseId is \"t9\", which is no toolUse"),
        ("/messages/3/content/1/toolResult/toolUseId", "t2".into(), "toolUseId is \"t2\", which is answered already"),
        ("/messages/3/content/0", text.clone(), "messages.3.content lacks the toolResult of \"t2\""),
        (
            "/messages/3/content/0/toolResult/status",
            "maybe".into(),
            "messages.3.content.0.toolResult.status is \"maybe\"",
        ),
        ("/messages/-", turn("assistant", text.clone()), "messages.5.role is assistant twice"),
        ("/system/0/text", "".into(), "system.0.text is blank"),
        ("/inferenceConfig/maxTokens", 0.into(), "inferenceConfig.maxTokens is 0"),
        ("/inferenceConfig/temperature", json!(1.01), "inferenceConfig.temperature is 1.01; it must be from 0 to 1"),
        ("/inferenceConfig/topP", json!(-0.1), "inferenceConfig.topP is -0.1"),
        ("/inferenceConfig/stopSequences/0", "".into(), "inferenceConfig.stopSequences.0 has 0 characters"),
        ("/inferenceConfig/stopSequences", json!(vec!["x"; 2501]), "inferenceConfig.stopSequences has 2501 entries"),
        ("/toolConfig", Value::Null, "messages.1.content.0.toolUse needs a toolConfig"),
        ("/toolConfig/tools", json!([]), "toolConfig.tools has 0 entries"),
        ("/toolConfig/tools/0/toolSpec/name", "a b".into(), "toolConfig.tools.0.toolSpec.name has the character ' '"),
        (
            "/toolConfig/tools/0/toolSpec/description",
            "".into(),
            "toolConfig.tools.0.toolSpec.description has 0 characters",
        ),
        (
            "/toolConfig/tools/0/toolSpec/inputSchema/json",
            1.into(),
            "toolConfig.tools.0.toolSpec.inputSchema.json must be an object",
        ),
        ("/toolConfig/tools/-", json!({"systemTool": {"name": "clock"}}), "toolConfig.tools.2 is a second tool"),
        (
            "/toolConfig/toolChoice/tool/name",
            "watch".into(),
            "toolConfig.toolChoice.tool.name is \"watch\", which is none",
        ),
        ("/guardrailConfig/guardrailVersion", "0".into(), "guardrailConfig.guardrailVersion is \"0\""),
        ("/guardrailConfig/guardrailVersion", "123456789".into(), "guardrailConfig.guardrailVersion"),
        ("/guardrailConfig/trace", "ENABLED".into(), "guardrailConfig.trace is \"ENABLED\""),
        ("/guardrailConfig/streamProcessingMode", "later".into(), "guardrailConfig.streamProcessingMode is \"later\""),
        ("/additionalModelRequestFields", 7.into(), "additionalModelRequestFields must be an object"),
        (
            "/additionalModelResponseFieldPaths",
            json!(vec!["/a"; 11]),
            "additionalModelResponseFieldPaths has 11 entries",
        ),
        (
            "/additionalModelResponseFieldPaths/0",
            "a".into(),
            "additionalModelResponseFieldPaths.0 must be a JSON pointer",
        ),
        ("/requestMetadata/key", "é".into(), "requestMetadata.key has the character 'é'"),
        ("/requestMetadata/key", x(257), "requestMetadata.key has 257 characters"),
        ("/performanceConfig", json!({"latency": "warp"}), "performanceConfig.latency is \"warp\""),
        ("/serviceTier", json!({"type": "gold"}), "serviceTier.type is \"gold\""),
        ("/outputConfig/effort", x(17), "outputConfig.effort has 17 characters"),
        ("/outputConfig/textFormat/structure/jsonSchema/schema", "{".into(), "jsonSchema.schema is not JSON"),
    ];
    for (pointer, value, expected) in rows {
        let message = refused(&good, &[(pointer, value)], ConverseRequest::validate);
        assert!(message.contains(expected), "{pointer}: {message:?} is not {expected:?}");
    }
}

#[test]
fn numbers_of_media() {
    let image = json!({"image": {"format": "png", "source": {"bytes": "AA=="}}});
    let document = |n: usize| json!({"document": {"format": "txt", "name": format!("d{n}"), "source": {"text": "a"}}});
    let request = |blocks: Vec<Value>| {
        let mut content = vec![json!({"text": "look"})];
        content.extend(blocks);
        serde_json::from_value::<ConverseRequest>(json!({"messages": [{"role": "user", "content": content}]})).unwrap()
    };
    request(vec![image.clone(); 20]).validate().unwrap();
    assert!(request(vec![image; 21]).validate().unwrap_err().to_string().contains("pictures to 21"));
    request((0..5).map(document).collect()).validate().unwrap();
    assert!(request((0..6).map(document).collect()).validate().unwrap_err().to_string().contains("documents to 6"));
}

#[test]
fn a_beginning_for_the_model_and_no_turns_at_all_are_allowed() {
    ConverseRequest::new("m").user("hi").assistant("Well,").validate().unwrap();
    ConverseRequest::new("m").validate().unwrap();
    let not_a_number = ConverseRequest::new("m").user("hi").temperature(f64::NAN);
    assert!(not_a_number.validate().is_err());
}

#[test]
fn lengths_count_characters() {
    let name = |n| ConverseRequest::new("ü".repeat(n)).user("hi").validate();
    name(2048).unwrap();
    assert!(name(2049).is_err());
}

fn guardrail() -> Value {
    json!({
        "name": "g-1_a",
        "blockedInputMessaging": "no",
        "blockedOutputsMessaging": "no",
        "topicPolicyConfig": {"topicsConfig": [{"name": "Tax advice?", "definition": "d", "examples": ["e"], "type": "DENY"}]},
        "contentPolicyConfig": {"filtersConfig": [{"type": "HATE", "inputStrength": "HIGH", "outputStrength": "LOW"}]},
        "wordPolicyConfig": {"wordsConfig": [{"text": "w"}], "managedWordListsConfig": [{"type": "PROFANITY"}]},
        "sensitiveInformationPolicyConfig": {
            "piiEntitiesConfig": [{"type": "EMAIL", "action": "ANONYMIZE"}],
            "regexesConfig": [{"name": "r", "pattern": "a+", "action": "BLOCK"}],
        },
        "contextualGroundingPolicyConfig": {"filtersConfig": [{"type": "GROUNDING", "threshold": 0.99}]},
    })
}

#[test]
fn guardrails() {
    let good = guardrail();
    serde_json::from_value::<CreateGuardrailRequest>(good.clone())
        .unwrap()
        .validate()
        .expect("the good guardrail is good");
    let x = |n: usize| Value::from("x".repeat(n));
    let hate = json!({"type": "HATE", "inputStrength": "HIGH", "outputStrength": "LOW"});
    let email = json!({"type": "EMAIL", "action": "BLOCK"});
    let rows: Vec<(&str, Value, &str)> = vec![
        ("/name", x(51), "name has 51 characters"),
        ("/name", "a b".into(), "name has the character ' '"),
        ("/blockedInputMessaging", "".into(), "blockedInputMessaging has 0 characters"),
        ("/blockedOutputsMessaging", x(501), "blockedOutputsMessaging has 501 characters"),
        ("/topicPolicyConfig/topicsConfig", json!([]), "topicPolicyConfig.topicsConfig has 0 entries"),
        ("/topicPolicyConfig/topicsConfig/0/name", "a/b".into(), "topicsConfig.0.name has the character '/'"),
        ("/topicPolicyConfig/topicsConfig/0/definition", x(1001), "topicsConfig.0.definition has 1001 characters"),
        ("/topicPolicyConfig/topicsConfig/0/examples", json!(vec!["e"; 6]), "topicsConfig.0.examples has 6 entries"),
        (
            "/topicPolicyConfig/topicsConfig/0/inputAction",
            "ANONYMIZE".into(),
            "topicsConfig.0.inputAction is ANONYMIZE",
        ),
        ("/topicPolicyConfig/tierConfig", json!({"tierName": "GOLD"}), "tierConfig.tierName is \"GOLD\""),
        ("/contentPolicyConfig/filtersConfig/-", hate, "filtersConfig.1 is a second filter of HATE"),
        (
            "/contentPolicyConfig/filtersConfig/0/type",
            "PROMPT_ATTACK".into(),
            "filtersConfig.0.outputStrength must be NONE",
        ),
        (
            "/contentPolicyConfig/filtersConfig/0/inputStrength",
            "MAX".into(),
            "filtersConfig.0.inputStrength is \"MAX\"",
        ),
        ("/wordPolicyConfig/wordsConfig/0/text", " ".into(), "wordsConfig.0.text is blank"),
        ("/wordPolicyConfig/wordsConfig/0/text", x(101), "wordsConfig.0.text has 101 characters"),
        (
            "/wordPolicyConfig/managedWordListsConfig/0/type",
            "SLANG".into(),
            "managedWordListsConfig.0.type is \"SLANG\"",
        ),
        (
            "/sensitiveInformationPolicyConfig/piiEntitiesConfig/0/type",
            "SHOE_SIZE".into(),
            "piiEntitiesConfig.0.type is \"SHOE_SIZE\"",
        ),
        (
            "/sensitiveInformationPolicyConfig/piiEntitiesConfig/-",
            email,
            "piiEntitiesConfig.1 is a second entry of EMAIL",
        ),
        (
            "/sensitiveInformationPolicyConfig/regexesConfig/0/pattern",
            x(501),
            "regexesConfig.0.pattern has 501 characters",
        ),
        (
            "/sensitiveInformationPolicyConfig/regexesConfig/0/action",
            "SHOUT".into(),
            "regexesConfig.0.action is \"SHOUT\"",
        ),
        ("/contextualGroundingPolicyConfig/filtersConfig/0/threshold", json!(1.0), "filtersConfig.0.threshold is 1"),
    ];
    for (pointer, value, expected) in rows {
        let message = refused(&good, &[(pointer, value)], CreateGuardrailRequest::validate);
        assert!(message.contains(expected), "{pointer}: {message:?} is not {expected:?}");
    }
}

#[test]
fn other_requests() {
    let good = json!({"guardrailIdentifier": "g", "guardrailVersion": "DRAFT", "source": "INPUT", "content": [{"text": {"text": ""}}]});
    serde_json::from_value::<ApplyGuardrailRequest>(good.clone()).unwrap().validate().unwrap();
    for (pointer, value, expected) in [
        ("/source", json!("BOTH"), "source is \"BOTH\""),
        ("/guardrailVersion", json!("latest"), "guardrailVersion is \"latest\""),
        ("/content/0/text/qualifiers", json!(["odd"]), "content.0.text.qualifiers.0 is \"odd\""),
    ] {
        let message = refused(&good, &[(pointer, value)], ApplyGuardrailRequest::validate);
        assert!(message.contains(expected), "{message}");
    }

    let good = json!({"knowledgeBaseId": "kb", "retrievalQuery": {"text": "q"}, "retrievalConfiguration": {
        "vectorSearchConfiguration": {"numberOfResults": 100, "filter": {"equals": {"key": "a", "value": 1}}}}});
    serde_json::from_value::<RetrieveRequest>(good.clone()).unwrap().validate().unwrap();
    let search = "/retrievalConfiguration/vectorSearchConfiguration";
    for (pointer, value, expected) in [
        ("/retrievalQuery/text".to_owned(), json!("x".repeat(20_001)), "retrievalQuery.text has 20001 characters"),
        ("/retrievalQuery".to_owned(), json!({}), "retrievalQuery has neither"),
        (format!("{search}/numberOfResults"), json!(101), "numberOfResults is 101"),
        (format!("{search}/overrideSearchType"), json!("LUCKY"), "overrideSearchType is \"LUCKY\""),
        (
            format!("{search}/filter"),
            json!({"andAll": [{"equals": {"key": "a", "value": 1}}]}),
            "filter.andAll has 1 entries",
        ),
        (
            format!("{search}/filter"),
            json!({"lessThan": {"key": "a", "value": "b"}}),
            "filter compares with what is no number",
        ),
        (format!("{search}/filter"), json!({"in": {"key": "a", "value": "b"}}), "filter needs a list"),
        (format!("{search}/filter/equals/key"), json!(""), "filter.key has 0 characters"),
    ] {
        let message = refused(&good, &[(&pointer, value)], RetrieveRequest::validate);
        assert!(message.contains(expected), "{message}");
    }
}
