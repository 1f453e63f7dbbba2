//! Chat templates against transformers, from all the files that may hold them, and requests through them.
//!
//! The fixtures are made by `scripts/reference/chat_templates.py` with transformers 5.23.0 and Jinja 3.1.6.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use bedrock_core::{ConverseRequest, Message, ToolConfiguration, ToolResultBlock, ToolSpecification, ToolUseBlock};
use bedrock_models::Error;
use bedrock_models::chat_template::{ChatTemplate, TemplateInput};
use bedrock_models::weights::{Array, Metadata, Value as MetadataValue};
use proptest::prelude::*;
use serde_json::{Value, json};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chat_templates")
}

#[test]
fn texts_are_those_of_transformers() {
    let expected: Value = serde_json::from_slice(&fs::read(fixtures().join("expected.json")).unwrap()).unwrap();
    let now = UNIX_EPOCH + Duration::from_secs(expected["now"].as_u64().unwrap());
    let mut rendered = 0;
    for template in expected["templates"].as_array().unwrap() {
        let name = template["name"].as_str().unwrap();
        let mut chat =
            ChatTemplate::new(fs::read_to_string(fixtures().join(format!("{name}.jinja"))).unwrap()).unwrap();
        for (role, text) in expected["special_tokens"].as_object().unwrap() {
            chat = chat.with_token(role, text.as_str().unwrap());
        }
        for case in template["cases"].as_array().unwrap() {
            let input = TemplateInput {
                messages: case["messages"].as_array().unwrap(),
                tools: case["tools"].as_array().map(Vec::as_slice),
                add_generation_prompt: case["add_generation_prompt"].as_bool().unwrap(),
                variables: case["variables"].as_object(),
                now: Some(now),
                ..TemplateInput::default()
            };
            let got = chat.render(&input);
            let at = format!("{name}, {}", case["name"]);
            match (case["rendered"].as_str(), case["refused"].as_bool()) {
                (Some(text), _) => {
                    assert_eq!(got.unwrap_or_else(|error| panic!("{at}: {error:?}")), text, "{at}");
                    rendered += 1;
                }
                (None, Some(true)) => match got.unwrap_err() {
                    Error::TemplateRefused { message } => assert_eq!(message, case["error"], "{at}"),
                    other => panic!("{at}: {other:?}"),
                },
                (None, _) => assert!(got.is_err(), "{at}"),
            }
        }
    }
    assert!(rendered > 30, "{rendered}");
}

fn render(template: &ChatTemplate, tools: Option<&[Value]>, name: Option<&str>) -> Result<String, Error> {
    let messages = [json!({"role": "user", "content": "Hi"})];
    template.render(&TemplateInput { messages: &messages, tools, template: name, ..TemplateInput::default() })
}

#[test]
fn a_folder_may_hold_templates_in_several_places() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| fs::write(folder.path().join(name), content).unwrap();
    let open = || ChatTemplate::from_folder(folder.path());
    assert!(matches!(open(), Err(Error::NoChatTemplate { name: None, .. })));

    file(
        "tokenizer_config.json",
        r#"{"bos_token": {"content": "<b>"}, "eos_token": "<e>", "chat_template": "{{ bos_token }}one{{ eos_token }}"}"#,
    );
    assert_eq!(render(&open().unwrap(), None, None).unwrap(), "<b>one<e>");

    file(
        "tokenizer_config.json",
        r#"{"chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t{{ tools | length }}"}, {"name": "rag", "template": "r"}]}"#,
    );
    let template = open().unwrap();
    assert_eq!(template.names().collect::<Vec<_>>(), ["default", "rag", "tool_use"]);
    assert_eq!(render(&template, None, None).unwrap(), "d");
    assert_eq!(render(&template, Some(&[json!({})]), None).unwrap(), "t1");
    assert_eq!(render(&template, None, Some("rag")).unwrap(), "r");
    let error = render(&template, None, Some("none")).unwrap_err();
    assert!(error.to_string().ends_with("has no chat template named none"), "{error}");

    file("chat_template.jinja", "file {{ messages[0].content }}");
    file("special_tokens_map.json", r#"{"bos_token": "<map>"}"#);
    fs::create_dir(folder.path().join("additional_chat_templates")).unwrap();
    file("additional_chat_templates/rag.jinja", "more {{ bos_token }}");
    let template = open().unwrap();
    assert_eq!(render(&template, None, None).unwrap(), "file Hi");
    assert_eq!(render(&template, None, Some("rag")).unwrap(), "more <map>");

    file("chat_template.jinja", "{% for %}");
    let error = open().unwrap_err();
    assert!(matches!(error, Error::TemplateSyntax { .. }), "{error:?}");
    fs::write(folder.path().join("chat_template.jinja"), [0xff]).unwrap();
    assert!(matches!(open(), Err(Error::Malformed { .. })));
    fs::File::create(folder.path().join("chat_template.jinja")).unwrap().set_len(1 << 30).unwrap();
    assert!(matches!(open(), Err(Error::FileTooLarge { .. })));
}

#[test]
fn a_gguf_file_may_hold_several_templates() {
    let mut metadata = Metadata::new("m.gguf");
    assert!(matches!(ChatTemplate::from_gguf(&metadata), Err(Error::NoChatTemplate { .. })));
    let text = |text: &str| MetadataValue::String(text.into());
    metadata.insert("tokenizer.chat_template", text("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}"));
    metadata.insert("tokenizer.chat_template.tool_use", text("tools"));
    metadata.insert("tokenizer.chat_templates", MetadataValue::Array(Array::String(vec!["tool_use".into()])));
    metadata.insert("tokenizer.ggml.tokens", MetadataValue::Array(Array::String(vec!["<a>".into(), "<b>".into()])));
    metadata.insert("tokenizer.ggml.bos_token_id", MetadataValue::U32(1));
    metadata.insert("tokenizer.ggml.eos_token_id", MetadataValue::U32(99));
    let template = ChatTemplate::from_gguf(&metadata).unwrap();
    assert_eq!(render(&template, None, None).unwrap(), "<b>Hi");
    assert_eq!(render(&template, Some(&[]), None).unwrap(), "tools");
    metadata.insert("tokenizer.chat_template", MetadataValue::U32(1));
    assert!(matches!(ChatTemplate::from_gguf(&metadata), Err(Error::MetadataType { .. })));
}

fn template(name: &str) -> ChatTemplate {
    ChatTemplate::new(fs::read_to_string(fixtures().join(format!("{name}.jinja"))).unwrap())
        .unwrap()
        .with_token("bos_token", "<s>")
        .with_token("eos_token", "</s>")
}

#[test]
fn requests_are_rendered_with_all_they_hold() {
    let mut request = ConverseRequest::new("m").user("How many?");
    assert_eq!(
        template("chatml").render_request(&request).unwrap(),
        "<|im_start|>system\nYou keep bees.<|im_end|>\n<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n"
    );
    request.system = vec!["Be brief.".into()];
    assert_eq!(
        template("chatml").render_request(&request).unwrap(),
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n"
    );
    // This template raises an exception for system prompts.
    assert_eq!(template("alternating").render_request(&request).unwrap(), "<s>[INST] Be brief.\n\nHow many? [/INST]\n");
    // Its exception about the order stays an exception.
    let twice = request.clone().user("And?");
    let error = template("alternating").render_request(&twice).unwrap_err();
    assert!(matches!(&error, Error::TemplateRefused { message } if message.contains("must alternate")), "{error:?}");
    // This one leaves system prompts out without a word.
    let error = template("date_and_macros").render_request(&request).unwrap_err();
    assert_eq!(error.to_string(), "system: the model's chat template leaves system prompts out");
}

#[test]
fn tools_are_rendered_or_told_in_words() {
    let tool =
        ToolSpecification::new("count", "Counts.", json!({"type": "object", "properties": {"of": {"type": "string"}}}));
    let mut request = ConverseRequest::new("m").user("How many?");
    request.tool_config = Some(ToolConfiguration { tools: vec![tool.into()], tool_choice: None });
    let text = template("tools_as_json").render_request(&request).unwrap();
    assert!(
        text.contains(r#"{"type": "function", "function": {"name": "count", "description": "Counts.", "parameters""#),
        "{text}"
    );

    let text = template("chatml").render_request(&request).unwrap();
    assert!(
        text.contains("system\nYou may call these tools")
            && text.contains(r#"{"name":"count","description":"Counts.""#),
        "{text}"
    );
    request.tool_config = None;

    let call = ToolUseBlock { tool_use_id: "1".into(), name: "count".into(), input: json!({"of": "bees"}), kind: None };
    let asked = request.message(Message::assistant("I count.").with(call));
    let text = template("chatml").render_request(&asked).unwrap();
    let call = "I count.\n<tool_call>\n{\"name\":\"count\",\"arguments\":{\"of\":\"bees\"}}\n</tool_call>";
    assert!(text.contains(call), "{text}");
    let answered = asked.message(Message::user(ToolResultBlock::new("1", "42")));
    let text = template("tools_as_json").render_request(&answered).unwrap();
    assert!(text.contains("<tool_response name=\"count\">\n42\n</tool_response>"), "{text}");
}

/// Renders any template over a conversation that has everything.
fn survives(source: &str) -> Result<String, Error> {
    let messages = [
        json!({"role": "system", "content": "Be brief."}),
        json!({"role": "user", "content": "Hi <b> 🍯"}),
        json!({"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": {"a": [1, 2.5]}}}]}),
        json!({"role": "tool", "content": [{"type": "text", "text": "42"}]}),
    ];
    let tools =
        [json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}})];
    let input = TemplateInput {
        messages: &messages,
        tools: Some(&tools),
        add_generation_prompt: true,
        ..TemplateInput::default()
    };
    let text = ChatTemplate::new(source)?.render(&input)?;
    assert!(text.len() < 64 << 20, "{} bytes", text.len());
    Ok(text)
}

#[test]
fn the_fuzz_corpus_is_survived() {
    let mut rendered = 0;
    let mut stopped = 0;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/chat_template");
    for entry in fs::read_dir(folder).unwrap() {
        match survives(&fs::read_to_string(entry.unwrap().path()).unwrap()) {
            Ok(_) => rendered += 1,
            Err(Error::DependencyPanic { message, .. }) => panic!("{message}"),
            Err(Error::TemplateLimit { .. }) => stopped += 1,
            Err(_) => {}
        }
    }
    assert!(rendered >= 10 && stopped >= 8, "{rendered} rendered, {stopped} stopped");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_arrangement_of_pieces_is_survived(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..24)) {
        if let Err(Error::DependencyPanic { message, .. }) = survives(&pieces.concat()) {
            prop_assert!(false, "{}", message);
        }
    }
}

const PIECES: &[&str] = &[
    "{{ ",
    " }}",
    "{% ",
    " %}",
    "{%- ",
    "{# ",
    " #}",
    "for m in messages",
    "endfor",
    "if ",
    "elif ",
    "else",
    "endif",
    "set x = ",
    "set x",
    "endset",
    "set ns.x = ",
    "namespace(x=[])",
    "ns",
    "macro f(x)",
    "endmacro",
    "f(1)",
    "call f(1)",
    "endcall",
    "filter upper",
    "endfilter",
    "block b",
    "endblock",
    "self.b()",
    "break",
    "continue",
    "generation",
    "endgeneration",
    "raw",
    "endraw",
    "m.content",
    "messages",
    "tools",
    "loop",
    "loop(m)",
    "recursive",
    "x",
    "'a'",
    "\"\\n\"",
    "1",
    "99999999",
    "-1",
    "2.5",
    "none",
    "true",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    ", ",
    ": ",
    ".",
    " ~ ",
    " + ",
    " * ",
    " ** ",
    " // ",
    " % ",
    " - ",
    " in ",
    " not ",
    " and ",
    " or ",
    " is ",
    "defined",
    "string",
    "iterable",
    " == ",
    " < ",
    " | ",
    "tojson",
    "tojson(indent=2)",
    "join",
    "list",
    "length",
    "trim",
    "upper",
    "replace('a', x)",
    "indent",
    "map(attribute='role')",
    "selectattr('role')",
    "sort",
    "first",
    "format",
    "batch(2)",
    ".split()",
    ".strip()",
    ".items()",
    ".get('role')",
    ".join(x)",
    ".count('')",
    "[1:]",
    "[::-1]",
    "[0]",
    "range(9)",
    "dict(a=1)",
    "raise_exception('no')",
    "strftime_now('%d')",
    "{% set ns = namespace(x=[]) %}",
    "{% for i in range(30) %}",
    "{% endfor %}",
    "{% set ns.x = ns.x + [ns.x] %}",
    "{% set ns.x = ns.x ~ ns.x %}",
    " text ",
    "\n",
    "é🍯",
];
