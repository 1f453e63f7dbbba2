//! Tools of local models: how they are told, and calls that cannot be malformed.

mod schema;
mod tiny;

use bedrock_core::testing::check_chat_model;
use bedrock_core::{
    ChatModel, ContentBlock, ConverseRequest, ConverseResponse, Error, JsonSchemaDefinition, Message, OutputConfig,
    OutputFormat, OutputFormatStructure, OutputFormatType, StopReason, ToolChoice, ToolConfiguration, ToolResultBlock,
    ToolSpecification, ToolUseBlock,
};
use bedrock_models::chat_template::ChatTemplate;
use bedrock_models::{LoadOptions, LocalChatModel};
use futures::executor::block_on;
use serde_json::{Value, json};

/// Chat templates in the manner of the families, with their marks for calls.
const HERMES: &str = "{% if tools %}<tools>{% for t in tools %}{{ t | tojson }}{% endfor %}</tools>{% endif %}{% for m in messages %}{% if m.role == 'tool' %}<tool_response>{{ m.content }}</tool_response>{% else %}<|{{ m.role }}|>{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>\n{\"name\": \"{{ c.function.name }}\", \"arguments\": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}{% endif %}{% endfor %}<|assistant|>";
const LLAMA: &str = "{% if tools %}Functions: {% for t in tools %}{{ t | tojson }}{% endfor %}{% endif %}{% for m in messages %}{% if m.tool_calls %}{% if m.tool_calls | length != 1 %}{{ raise_exception('This model only supports single tool-calls at once!') }}{% endif %}<|assistant|>{\"name\": \"{{ m.tool_calls[0].function.name }}\", \"parameters\": {{ m.tool_calls[0].function.arguments | tojson }}}{% elif m.role == 'tool' %}<|start_header_id|>ipython<|end_header_id|>{{ m.content }}{% else %}<|{{ m.role }}|>{{ m.content }}{% endif %}{% endfor %}<|assistant|>";
const MISTRAL: &str = "{% if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}{% for m in messages %}{% if m.tool_calls %}[TOOL_CALLS][{% for c in m.tool_calls %}{% if c.id | length != 9 %}{{ raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}{% endif %}{\"name\": \"{{ c.function.name }}\", \"arguments\": {{ c.function.arguments | tojson }}, \"id\": \"{{ c.id }}\"}{% endfor %}]{% elif m.role == 'tool' %}[TOOL_RESULTS]{{ m.content }} {{ m.tool_call_id }}[/TOOL_RESULTS]{% else %}<|{{ m.role }}|>{{ m.content }}{% endif %}{% endfor %}<|assistant|>";
const MISTRAL_ARGS: &str = "{% if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}{% for m in messages %}{% for c in m.tool_calls or [] %}[TOOL_CALLS]{{ c.function.name }}[ARGS]{{ c.function.arguments | tojson }}{% else %}<|{{ m.role }}|>{{ m.content }}{% endfor %}{% endfor %}<|assistant|>";
const COMMAND_R: &str = "{% for t in tools or [] %}def {{ t.function.name }}\n{% endfor %}{% for m in messages %}{% if m.tool_calls %}Action: ```json\n[{% for c in m.tool_calls %}{\"tool_name\": \"{{ c.function.name }}\", \"parameters\": {{ c.function.arguments | tojson }}}{% endfor %}]```{% else %}<|{{ m.role }}|>{{ m.content }}{% endif %}{% endfor %}<|assistant|>";
const COMMAND_A: &str = "{% for t in tools or [] %}def {{ t.function.name }}\n{% endfor %}{% for m in messages %}{% if m.tool_calls %}<|START_ACTION|>{{ m.tool_calls | tojson }}<|END_ACTION|>{% else %}<|{{ m.role }}|>{{ m.content }}{% endif %}{% endfor %}<|assistant|>";
const GRANITE: &str = "{% for t in tools or [] %}{{ t | tojson }}\n{% endfor %}{% for m in messages %}{% if m.tool_calls %}<|tool_call|>{{ m.tool_calls | tojson }}{% else %}<|{{ m.role }}|>{{ m.content }}{% endif %}{% endfor %}<|assistant|>";
const JSON: &str = "{% for t in tools or [] %}{{ t | tojson }}\n{% endfor %}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ m.tool_calls | default('') | tojson }}{% endfor %}<|assistant|>";
const XML: &str = "{% for t in tools or [] %}{{ t | tojson }}\n{% endfor %}<function=example>{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|>";
const NONE: &str = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|>";
const ALTERNATING: &str = "{% for m in messages %}{% if m.role not in ['user', 'assistant'] or (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|>";

const ALL: &[&str] =
    &[HERMES, LLAMA, MISTRAL, MISTRAL_ARGS, COMMAND_R, COMMAND_A, GRANITE, JSON, XML, NONE, ALTERNATING];

/// Marks that some vocabularies have as special tokens, which answers leave out.
const SPECIAL: &[&str] =
    &["[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", "<|START_ACTION|>", "<|END_ACTION|>", "<tool_call>"];

fn model(template: &str, special: bool) -> LocalChatModel {
    let folder = tempfile::tempdir().unwrap();
    let tokens: Vec<&str> = [&["{\"", "\": ", "\"}", "}}", "name", "ab", "\n  ", "é"][..], SPECIAL].concat();
    tiny::write_with(folder.path(), &tokens, 8192);
    let edit = |name: &str, change: &dyn Fn(&mut Value)| {
        let path = folder.path().join(name);
        let mut value: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut value);
        std::fs::write(path, value.to_string()).unwrap();
    };
    edit("tokenizer_config.json", &|config| config["chat_template"] = template.into());
    if special {
        edit("tokenizer.json", &|tokenizer| {
            let first = tiny::VOCABULARY + tokens.len() - SPECIAL.len();
            let added = tokenizer["added_tokens"].as_array_mut().unwrap();
            for (id, content) in (first..).zip(SPECIAL) {
                added
                    .push(json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true}));
            }
        });
    }
    LocalChatModel::load(folder.path(), &LoadOptions { threads: 2, ..LoadOptions::default() }).unwrap()
}

fn schemas() -> [(&'static str, Value); 2] {
    let city = json!({"type": "object", "properties": {"city": {"type": "string", "maxLength": 9}, "days": {"type": "integer", "minimum": 1, "maximum": 14}},
        "required": ["city"], "additionalProperties": false});
    let sum = json!({"type": "object", "properties": {"terms": {"type": "array", "items": {"$ref": "#/$defs/term"}, "minItems": 1, "maxItems": 3}},
        "required": ["terms"], "additionalProperties": false, "$defs": {"term": {"type": "number", "minimum": -5, "maximum": 5}}});
    [("get_weather", city), ("sum", sum)]
}

fn request(choice: Option<ToolChoice>, strict: bool, seed: u64) -> ConverseRequest {
    let tools = schemas().map(|(name, schema)| ToolSpecification {
        strict: strict.then_some(true),
        ..ToolSpecification::new(name, "Does it.", schema)
    });
    let mut request =
        ConverseRequest::new("tiny").user("Hello").max_tokens(2500).temperature(1.0).additional_field("seed", seed);
    request.tool_config =
        Some(ToolConfiguration { tools: tools.into_iter().map(Into::into).collect(), tool_choice: choice });
    request
}

/// Every call names a tool and has input that is valid under its schema. Returns their names.
fn valid_calls(answer: &ConverseResponse) -> Vec<String> {
    let calls = answer.message().tool_uses();
    calls
        .map(|call| {
            let (_, schema) = schemas().into_iter().find(|(name, _)| *name == call.name).unwrap();
            schema::check(&schema, &schema, &call.input).unwrap_or_else(|error| panic!("{error}"));
            call.name.clone()
        })
        .collect()
}

#[test]
fn calls_that_must_come_cannot_be_malformed() {
    for (index, template) in ALL.iter().enumerate() {
        for special in [false, true] {
            let model = model(template, special);
            for seed in 0..2 {
                let any = model.converse_blocking(&request(Some(ToolChoice::Any {}), false, seed)).unwrap();
                assert_eq!(any.stop_reason, StopReason::ToolUse, "{index} {special}: {any:?}");
                assert!(!valid_calls(&any).is_empty(), "{index}");
                assert_eq!(any.text(), "", "{index}");
                let one = model.converse_blocking(&request(Some(ToolChoice::tool("sum")), false, seed)).unwrap();
                assert_eq!(one.stop_reason, StopReason::ToolUse, "{index} {special}: {one:?}");
                assert_eq!(valid_calls(&one), ["sum"], "{index}");
            }
        }
    }
}

#[test]
fn strict_calls_cannot_be_malformed_whenever_they_come() {
    let (mut calls, mut texts) = (0, 0);
    for template in ALL {
        for special in [false, true] {
            let model = model(template, special);
            for seed in 0..4 {
                let answer = model.converse_blocking(&request(None, true, seed).max_tokens(200)).unwrap();
                match &answer.stop_reason {
                    StopReason::ToolUse => calls += valid_calls(&answer).len(),
                    StopReason::EndTurn => texts += usize::from(valid_calls(&answer).is_empty()),
                    StopReason::MaxTokens => {}
                    other => panic!("{other}: {template}"),
                }
            }
        }
    }
    // A wild model seldom says a mark of its own accord.
    assert!(texts > 0, "{texts} texts, {calls} calls");
}

#[test]
fn with_an_output_format_an_answer_is_one_or_the_other() {
    let schema = json!({"enum": ["yes", "no"]});
    let (mut calls, mut texts) = (0, 0);
    for template in [HERMES, MISTRAL, LLAMA] {
        let model = model(template, true);
        for seed in 0..8 {
            let mut request = request(None, false, seed);
            request.output_config = Some(OutputConfig {
                text_format: Some(OutputFormat {
                    kind: OutputFormatType::JsonSchema,
                    structure: OutputFormatStructure::JsonSchema(JsonSchemaDefinition {
                        schema: schema.to_string(),
                        ..JsonSchemaDefinition::default()
                    }),
                }),
                effort: None,
            });
            let answer = model.converse_blocking(&request).unwrap();
            match &answer.stop_reason {
                StopReason::ToolUse => calls += valid_calls(&answer).len(),
                StopReason::EndTurn => {
                    schema::check(&schema, &schema, &serde_json::from_str(&answer.text()).unwrap()).unwrap();
                    texts += 1;
                }
                other => panic!("{other}: {answer:?}"),
            }
        }
    }
    assert!(calls > 0 && texts > 0, "{calls} calls, {texts} texts");
}

#[test]
fn a_schema_that_no_grammar_expresses_is_refused_if_strict_and_loosened_if_not() {
    let model = model(HERMES, false);
    let ask = |strict: bool| {
        let schema = json!({"type": "object", "properties": {"a": {"type": "array", "uniqueItems": true}}});
        let tool = ToolSpecification { strict: Some(strict), ..ToolSpecification::new("f", "d", schema) };
        let mut request =
            ConverseRequest::new("tiny").user("Hello").tool(tool).max_tokens(30).additional_field("seed", 3);
        request.tool_config.as_mut().unwrap().tool_choice = Some(ToolChoice::Any {});
        model.converse_blocking(&request)
    };
    let refused = ask(true).unwrap_err();
    assert!(matches!(&refused, Error::Validation { message } if message.contains("uniqueItems")), "{refused:?}");
    let loosened = ask(false).unwrap();
    assert_eq!(loosened.message().tool_uses().next().unwrap().name, "f");
}

#[test]
fn the_converse_contract_holds_with_tools() {
    let model = model(HERMES, true);
    block_on(check_chat_model(&model, &request(Some(ToolChoice::Any {}), false, 5)));
    block_on(check_chat_model(&model, &request(None, false, 5).max_tokens(40)));
    // Same seed, same names of calls; they can be answered.
    let ask = || model.converse_blocking(&request(Some(ToolChoice::tool("sum")), false, 5)).unwrap();
    let (first, second) = (ask(), ask());
    assert_eq!(first.message(), second.message());
    let call = first.message().tool_uses().next().unwrap().clone();
    assert!(call.tool_use_id.starts_with("tooluse_") && call.tool_use_id.len() == 30, "{}", call.tool_use_id);
    let mut next = request(Some(ToolChoice::Any {}), false, 6).message(first.message().clone());
    next = next.message(Message::user(ToolResultBlock::new(call.tool_use_id.as_str(), "3")));
    let again = model.converse_blocking(&next).unwrap();
    assert_ne!(again.message().tool_uses().next().unwrap().tool_use_id, call.tool_use_id);
}

/// A conversation with two calls at once, their results, and a question.
fn conversation() -> ConverseRequest {
    let call = |id: &str, city: &str| ToolUseBlock {
        tool_use_id: id.into(),
        name: "get_weather".into(),
        input: json!({"city": city}),
        kind: None,
    };
    let mut request = request(None, false, 1);
    request.messages = vec![
        Message::user("Ulm and Bonn?"),
        Message::assistant("I look.").with(call("tooluse_1", "Ulm")).with(call("tooluse_2", "Bonn")),
        Message::user(ToolResultBlock::new("tooluse_1", "sun")).with(ToolResultBlock::new("tooluse_2", "rain")),
    ];
    request
}

#[test]
fn every_template_is_told_of_tools_calls_and_results() {
    for template in ALL {
        let text = ChatTemplate::new(*template).unwrap().render_request(&conversation());
        let text = text.unwrap_or_else(|error| panic!("{error}: {template}"));
        for part in ["get_weather", "Ulm and Bonn?", "Ulm", "Bonn", "sun", "rain"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    let render = |template: &str| ChatTemplate::new(template).unwrap().render_request(&conversation()).unwrap();
    assert!(render(HERMES).ends_with(
        "<|assistant|>I look.<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Ulm\"}}\n</tool_call><tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bonn\"}}\n</tool_call><tool_response>sun</tool_response><tool_response>rain</tool_response><|assistant|>"
    ));
    // One call a turn where the template wants that.
    assert!(render(LLAMA).ends_with(
        "<|assistant|>{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Ulm\"}}<|start_header_id|>ipython<|end_header_id|>sun<|assistant|>{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Bonn\"}}<|start_header_id|>ipython<|end_header_id|>rain<|assistant|>"
    ));
    // Other names of calls where the template wants that, the same for a call and its result.
    let mistral = render(MISTRAL);
    let id = mistral.split("\"id\": \"").nth(1).unwrap().split('"').next().unwrap();
    assert!(id.len() == 9 && mistral.contains(&format!("[TOOL_RESULTS]sun {id}[/TOOL_RESULTS]")), "{mistral}");
    // In words where the template knows no tools.
    for template in [NONE, ALTERNATING, XML] {
        let text = render(template);
        assert!(
            text.contains("<tools>\n{\"name\":\"get_weather\"")
                && text.contains("<tool_response>\nrain\n</tool_response>"),
            "{text}"
        );
    }
}

#[test]
fn text_is_text_and_a_call_that_is_cut_says_so() {
    let model = model(NONE, false);
    let free = model.converse_blocking(&request(None, false, 1).max_tokens(20)).unwrap();
    assert!(matches!(free.message().content.as_slice(), [ContentBlock::Text(_)]), "{free:?}");
    // Not cut as long as a call fits.
    for tokens in [120, 200] {
        let called = model.converse_blocking(&request(Some(ToolChoice::Any {}), false, 1).max_tokens(tokens)).unwrap();
        assert_eq!(called.stop_reason, StopReason::ToolUse, "{called:?}");
    }
    let short = model.converse_blocking(&request(Some(ToolChoice::Any {}), false, 1).max_tokens(5)).unwrap();
    assert_eq!(short.stop_reason, StopReason::MaxTokens);
}
