//! Structured output: whatever a model with random weights would rather say, its answer conforms.
//!
//! Wild text is the hardest test of a constraint: no token is chosen because it is sensible.

mod schema;
mod tiny;

use std::sync::Arc;

use bedrock_core::{
    ChatModel, ConverseRequest, Error as CoreError, JsonSchemaDefinition, OutputConfig, OutputFormat,
    OutputFormatStructure, OutputFormatType, StopReason,
};
use bedrock_models::generate::{Constraint, FinishReason, SamplingParams};
use bedrock_models::{
    Engine, EngineOptions, Error, GenerationEvent, GenerationRequest, LanguageModel, LoadOptions, LocalChatModel,
    Speculation,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Tokens of several bytes, as a real vocabulary has them: across the borders of JSON's own tokens, of characters and of words.
const TOKENS: &[&str] = &[
    "{\"", "\":", "\": ", "\",", "\", \"", "\"}", "}}", "},", "[{", "}]", "[]", "{}", ", ", ": ", "\n  ", "\n    ",
    "true", "tru", "false", "null", "nul", "\\u", "\\\"", "00", "12", "-1", "1.", "0.5", "e+", "E9", "ab", "abc",
    " the", "the", " a\"", "é", "ö\"", "🍯", "\"a", "\"b\":", "</s", "```",
];

fn engine() -> Engine {
    start(&EngineOptions::default())
}

/// With a draft model, which is the model itself, where one is asked for.
fn start(options: &EngineOptions) -> Engine {
    let folder = tempfile::tempdir().unwrap();
    tiny::write_with(folder.path(), TOKENS, 8192);
    let load = LoadOptions { threads: 2, ..LoadOptions::default() };
    let model = || Arc::new(LanguageModel::load(folder.path(), &load).unwrap());
    match options.speculation {
        Speculation::Draft { .. } => Engine::start_with_draft(model(), model(), options).unwrap(),
        _ => Engine::start(model(), options).unwrap(),
    }
}

/// Requests with few more tokens than their schemas need, or none.
fn tight(count: u64, temperature: f32) -> Vec<GenerationRequest> {
    let one = |seed: u64| {
        let schema = schema::random(500 + seed);
        let enough = 3 * schema::short(&schema, &schema).len() + 8;
        let max_tokens = Some(enough + seed as usize % 9);
        GenerationRequest { max_tokens, ..request(Constraint::JsonSchema(schema), seed, temperature) }
    };
    (0..count).map(one).collect()
}

fn request(constraint: Constraint, seed: u64, temperature: f32) -> GenerationRequest {
    GenerationRequest {
        prompt: (0..5 + seed % 11).map(|i| ((i * 7919 + seed * 104_729) % 256) as u32).collect(),
        sampling: SamplingParams { temperature, seed: Some(seed), ..SamplingParams::default() },
        max_tokens: Some(1200),
        constraint: Some(constraint),
        ..GenerationRequest::default()
    }
}

/// The text, the token ids, and why it ended.
fn run(engine: &Engine, request: GenerationRequest) -> (String, Vec<u32>, Option<FinishReason>) {
    collect(engine.generate(request).unwrap())
}

fn collect(events: impl Iterator<Item = Result<GenerationEvent, Error>>) -> (String, Vec<u32>, Option<FinishReason>) {
    let (mut text, mut ids) = (String::new(), Vec::new());
    for event in events {
        match event.unwrap() {
            GenerationEvent::Token { id, text: piece, .. } => {
                ids.push(id);
                text += &piece;
            }
            GenerationEvent::Finished { text: piece, reason, .. } => return (text + &piece, ids, reason),
            _ => {}
        }
    }
    panic!("no end: {text}");
}

/// Checks that an answer ended by itself and is valid.
fn conforms(schema: &Value, answer: (String, Vec<u32>, Option<FinishReason>)) {
    let (text, _, reason) = answer;
    assert_eq!(reason, Some(FinishReason::EndOfText(tiny::END)), "{schema}\n{text}");
    let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {schema}\n{text}"));
    schema::check(schema, schema, &value).unwrap_or_else(|error| panic!("{error}: {schema}\n{text}"));
}

#[test]
fn who_polls_is_not_blocked_while_a_schema_is_compiled() {
    let engine = engine();
    // The first also reads the vocabulary.
    let mut properties = serde_json::Map::new();
    for index in 0..300 {
        properties.insert(format!("p{index}"), json!({"type": "string", "pattern": "^[a-c]{2,5}(-[0-9]+){0,2}$"}));
    }
    let schema = json!({"type": "object", "properties": properties, "required": ["p0"]});
    let request =
        || GenerationRequest { max_tokens: Some(4), ..request(Constraint::JsonSchema(schema.clone()), 1, 1.0) };
    let mut queued = std::pin::pin!(engine.queue(request()));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(queued.as_mut().poll(&mut context).is_pending(), "compiled by the thread that polls");
    let same = |generation: bedrock_models::Generation| -> Vec<String> {
        generation
            .filter_map(|event| match event.unwrap() {
                GenerationEvent::Token { text, .. } => Some(text),
                _ => None,
            })
            .collect()
    };
    let beside = same(futures::executor::block_on(queued).unwrap());
    assert_eq!(beside, same(engine.generate(request()).unwrap()));
    // A future that is dropped leaves nothing behind.
    {
        let mut dropped = std::pin::pin!(engine.queue(request()));
        assert!(dropped.as_mut().poll(&mut context).is_pending());
    }
    let refused = futures::executor::block_on(
        engine.queue(GenerationRequest { constraint: Some(Constraint::Regex("(".into())), ..request() }),
    );
    assert!(matches!(refused, Err(Error::Constraint { .. })));
    assert_eq!(engine.metrics().running, 0);
}

#[test]
fn every_answer_is_valid_under_its_schema() {
    let engine = engine();
    for seed in 0..150 {
        let schema = schema::random(seed);
        let constraint = || Constraint::JsonSchema(schema.clone());
        conforms(&schema, run(&engine, request(constraint(), seed, 0.0)));
        for other in 0..3 {
            conforms(&schema, run(&engine, request(constraint(), seed * 31 + other, 1.0)));
        }
    }
}

/// Three tokens for each byte of a short text that is valid are enough, with whatever the model would rather say.
#[test]
fn every_answer_ends_within_its_tokens() {
    let engine = engine();
    for seed in 0..250 {
        let schema = schema::random(seed);
        let enough = 3 * schema::short(&schema, &schema).len() + 8;
        for more in [0, 1 + seed as usize % 7, 11 + seed as usize % 41] {
            let request = request(Constraint::JsonSchema(schema.clone()), seed, (seed % 2) as f32);
            conforms(&schema, run(&engine, GenerationRequest { max_tokens: Some(enough + more), ..request }));
        }
    }
    assert!(engine.metrics().closing_tokens > 1000, "{:?}", engine.metrics());
}

/// What each beginning of a kind still needs is known: halves of escapes and characters, lengths, nesting, counted repetition.
#[test]
fn what_is_half_written_is_completed() {
    let engine = engine();
    let text = |schema: Value| (Constraint::JsonSchema(schema), None);
    let pattern = |pattern: &str| (Constraint::Regex(pattern.into()), Some(pattern.to_string()));
    let tree = json!({"$ref": "#/$defs/node", "$defs": {"node": {
        "type": "object", "required": ["left", "right"], "additionalProperties": false, "properties": {
            "left": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            "right": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
    }}}});
    // The shorter name leads into ever more of the same.
    let sum = json!({"$ref": "#/$defs/sum", "$defs": {"sum": {"anyOf": [
        {"type": "object", "required": ["of"], "additionalProperties": false, "properties": {
            "of": {"type": "array", "minItems": 2, "items": {"$ref": "#/$defs/sum"}}}},
        {"type": "object", "required": ["number"], "additionalProperties": false, "properties": {"number": {"type": "integer"}}},
    ]}}});
    let many = json!({"type": "array", "minItems": 9, "items": {"type": "string", "minLength": 2}});
    for (least, (constraint, pattern)) in [
        (20, text(json!({"type": "string", "pattern": "^(\\u0000|é|🍯|\n){1,40}$"}))),
        (60, text(json!({"type": "string", "minLength": 50}))),
        (60, text(many)),
        (20, text(json!({"type": "array", "minItems": 3, "items": {"type": "number", "minimum": 1234.5}}))),
        (40, text(tree)),
        (40, text(sum)),
        (60, text(json!({"type": "string", "format": "date-time"}))),
        (40, text(json!({"type": "string", "format": "email"}))),
        (60, pattern("(é|🍯|ab){3,90}-[0-9]{7}")),
        (40, pattern("[a-z ]*(end|stop|🍯)")),
        (60, pattern("(ab|c{40}){3,9}[^@]+@[^@]+\\.com")),
    ] {
        for seed in 0..30 {
            let request = request(constraint.clone(), seed, (seed % 3) as f32 / 2.0);
            let (text, ids, reason) =
                run(&engine, GenerationRequest { max_tokens: Some(least + seed as usize), ..request });
            assert_eq!(reason, Some(FinishReason::EndOfText(tiny::END)), "{constraint:?}: {text}");
            assert!(ids.len() <= least + seed as usize);
            match &pattern {
                Some(pattern) => {
                    assert!(regex::Regex::new(&format!("^(?:{pattern})$")).unwrap().is_match(&text), "{text}");
                }
                None => assert!(serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok(), "{text}"),
            }
        }
    }
}

#[test]
fn a_full_context_ends_an_answer_like_its_limit() {
    let engine = engine();
    let constraint = Constraint::JsonSchema(json!({"type": "array", "items": {"type": "string"}, "minItems": 4}));
    for seed in 0..4 {
        let mut request = request(constraint.clone(), seed, 1.0);
        request.sampling.logit_bias = vec![(u32::from(b']'), -1e4), (tiny::END, -1e4)];
        request.prompt = (0..8192 - 60).map(|i| (i * 7 % 256) as u32).collect();
        request.max_tokens = None;
        let (text, ids, reason) = run(&engine, request);
        assert_eq!(reason, Some(FinishReason::EndOfText(tiny::END)), "{text}");
        assert!(ids.len() <= 61 && serde_json::from_str::<Vec<String>>(&text).unwrap().len() >= 4, "{text}");
    }
}

/// Where the tokens run out they are the constraint's as well, in company, guessed ahead, and after a beginning that is remembered.
#[test]
fn how_an_answer_ends_does_not_depend_on_how_it_is_computed() {
    let plain = engine();
    let engines = [
        start(&EngineOptions { prefix_cache: false, batch: 1, ..EngineOptions::default() }),
        start(&EngineOptions { speculation: Speculation::Lookup { tokens: 4 }, ..EngineOptions::default() }),
        start(&EngineOptions { speculation: Speculation::Draft { tokens: 3 }, ..EngineOptions::default() }),
    ];
    let requests = tight(24, 0.0);
    let alone: Vec<_> = requests.iter().map(|request| run(&plain, request.clone())).collect();
    for engine in engines.iter().chain([&plain]) {
        let together: Vec<_> = requests.iter().map(|request| engine.generate(request.clone()).unwrap()).collect();
        for (index, (events, alone)) in together.into_iter().zip(&alone).enumerate() {
            assert_eq!(&collect(events), alone, "request {index}");
        }
        assert!(engine.metrics().closing_tokens > 0);
    }
}

/// Drawn at random they are others than unguessed, but as valid, and none is longer than it may be.
#[test]
fn drawn_answers_that_are_guessed_ahead_end_within_their_tokens() {
    for speculation in [Speculation::Lookup { tokens: 4 }, Speculation::Draft { tokens: 3 }] {
        let engine = start(&EngineOptions { speculation, ..EngineOptions::default() });
        for request in tight(60, 1.0) {
            let Some(Constraint::JsonSchema(schema)) = request.constraint.clone() else { unreachable!() };
            let most = request.max_tokens.unwrap();
            let answer = run(&engine, request);
            assert!(answer.1.len() <= most, "{speculation:?}: {answer:?}");
            conforms(&schema, answer);
        }
        let metrics = engine.metrics();
        assert!(metrics.closing_tokens > 0 && metrics.accepted_tokens > 0, "{speculation:?}: {metrics:?}");
    }
}

#[test]
fn filters_and_penalties_work_on_what_the_constraint_leaves() {
    let engine = engine();
    for seed in 0..20 {
        let schema = schema::random(1000 + seed);
        let mut request = request(Constraint::JsonSchema(schema.clone()), seed, 1.3);
        request.sampling.top_k = Some(3);
        request.sampling.top_p = Some(0.5);
        request.sampling.repetition_penalty = 1.2;
        request.log_probs = Some(2);
        conforms(&schema, run(&engine, request));
    }
}

#[test]
fn any_json_is_json() {
    let engine = engine();
    for seed in 0..30 {
        for schema in [json!(true), json!({}), json!({"type": "object"})] {
            let (text, _, reason) = run(&engine, request(Constraint::JsonSchema(schema), seed, 1.0));
            assert_eq!(reason, Some(FinishReason::EndOfText(tiny::END)), "{text}");
            // Numbers may be larger than an f64 here, which this parser does not look at.
            serde_json::from_str::<serde::de::IgnoredAny>(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        }
    }
}

#[test]
fn an_answer_that_is_cut_is_the_beginning_of_one_that_conforms() {
    let engine = engine();
    let schema = json!({"type": "array", "items": {"type": "string", "minLength": 5, "maxLength": 9}, "minItems": 20, "maxItems": 30});
    let whole = run(&engine, request(Constraint::JsonSchema(schema.clone()), 1, 1.0));
    let cut =
        run(&engine, GenerationRequest { max_tokens: Some(40), ..request(Constraint::JsonSchema(schema), 1, 1.0) });
    assert_eq!(cut.2, Some(FinishReason::MaxTokens));
    assert_eq!(cut.1, whole.1[..40]);
    assert!(serde_json::from_str::<Value>(&cut.0).unwrap_err().is_eof());
}

#[test]
fn constrained_and_free_requests_share_a_batch_and_change_nothing_for_each_other() {
    let engine = engine();
    let requests: Vec<_> = (0..12)
        .map(|seed| {
            let mut request = request(Constraint::JsonSchema(schema::random(seed)), seed, 1.0);
            request.max_tokens = Some(120);
            if seed % 3 == 0 {
                request.constraint = None;
            }
            request
        })
        .collect();
    let alone: Vec<_> = requests.iter().map(|request| run(&engine, request.clone())).collect();
    let together: Vec<_> = requests.iter().map(|request| engine.generate(request.clone()).unwrap()).collect();
    for (index, (events, alone)) in together.into_iter().zip(alone).enumerate() {
        assert_eq!(collect(events), alone, "request {index}");
    }
}

#[test]
fn regular_expressions_and_grammars() {
    let engine = engine();
    let date = regex::Regex::new(r"^\d{4}-(0[1-9]|1[0-2])-\d{2}( [A-Za-zé🍯]{1,6}){0,2}$").unwrap();
    for seed in 0..20 {
        let pattern = r"\d{4}-(0[1-9]|1[0-2])-\d{2}( [A-Za-zé🍯]{1,6}){0,2}";
        let (text, _, reason) = run(&engine, request(Constraint::Regex(pattern.into()), seed, 1.0));
        assert!(date.is_match(&text), "{text}");
        assert_eq!(reason, Some(FinishReason::EndOfText(tiny::END)));

        let grammar = "start: \"(\" sum \")\"\nsum: term (\"+\" term){0,3}\nterm: NUMBER | \"(\" NUMBER \")\"\nNUMBER: /[0-9]{1,3}/";
        let (text, ..) = run(&engine, request(Constraint::Grammar(grammar.into()), seed, 1.0));
        let inner = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap();
        for term in inner.split('+') {
            let number = term.strip_prefix('(').and_then(|term| term.strip_suffix(')')).unwrap_or(term);
            assert!((1..=3).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit()), "{text}");
        }
    }
    // What is named in brackets is the special token, not its text.
    let special = Constraint::Grammar("start: \"a\" <|user|> \"b\"".into());
    let (text, ids, _) = run(&engine, request(special, 1, 0.0));
    assert_eq!((text.as_str(), ids.as_slice()), ("ab", &[97u32, 258, 98, tiny::END][..]));
}

#[test]
fn what_cannot_be_honoured_is_an_error_before_any_token() {
    let engine = engine();
    let deep =
        |levels: usize| (0..levels).fold(json!({"type": "null"}), |inner, _| json!({"type": "array", "items": inner}));
    let refused = [
        (Constraint::JsonSchema(json!({"type": "spiral"})), "spiral"),
        (Constraint::JsonSchema(json!({"type": "array", "uniqueItems": true})), "uniqueItems"),
        (Constraint::JsonSchema(json!(false)), "nothing is valid"),
        (Constraint::JsonSchema(json!("string")), "neither an object nor a boolean"),
        (Constraint::JsonSchema(json!({"type": "integer", "minimum": 3, "maximum": 2})), "3"),
        (Constraint::JsonSchema(json!({"$ref": "https://example.com/schema.json"})), ""),
        (Constraint::JsonSchema(deep(101)), "nested"),
        (Constraint::JsonSchema(json!({"const": "x".repeat(300 << 10)})), "bytes"),
        (Constraint::Regex("(a".into()), ""),
        (Constraint::Regex("(?=a)b".into()), ""),
        (Constraint::Regex("(".repeat(101)), "nested"),
        (Constraint::Regex("a?".repeat(20_000)), "choices"),
        (Constraint::JsonSchema(json!({"allOf": [{"$ref": "#"}]})), "nothing conforms"),
        (Constraint::Grammar(String::new()), ""),
        (Constraint::Grammar("start: missing".into()), "missing"),
        (Constraint::Grammar("start: (".into()), ""),
        (Constraint::Grammar("x".repeat(257 << 10)), "bytes"),
    ];
    for (constraint, what) in refused {
        let shown: String = format!("{constraint:?}").chars().take(80).collect();
        match engine.generate(request(constraint, 1, 0.0)) {
            Err(error @ Error::Constraint { .. }) => {
                assert!(error.to_string().contains(what), "{shown}: {error}");
                assert_eq!(CoreError::from(error).exception_name(), "ValidationException");
            }
            other => panic!("{shown}: {:?}", other.map(collect)),
        }
    }
    // Large, but allowed or refused in no time.
    for constraint in [
        Constraint::Regex("((a{0,900}){0,900}){0,900}".into()),
        Constraint::Regex("(a?){500}a{500}(.*a.{200})?".into()),
        Constraint::Regex("a?".repeat(3_900)),
        Constraint::JsonSchema(deep(90)),
        Constraint::Grammar(format!("start: {}", "\"a\" | ".repeat(3_900) + "\"b\"")),
    ] {
        let since = std::time::Instant::now();
        if let Ok(events) = engine.generate(GenerationRequest { max_tokens: Some(4), ..request(constraint, 1, 0.0) }) {
            for event in events {
                assert!(matches!(event, Ok(_) | Err(Error::ConstraintFailed { .. })), "{event:?}");
            }
        }
        assert!(since.elapsed().as_secs() < 20, "{:?}", since.elapsed());
    }
    let both = GenerationRequest { ignore_end: true, ..request(Constraint::Regex("a".into()), 1, 0.0) };
    assert!(matches!(engine.generate(both), Err(Error::InvalidParameter { name: "ignore_end", .. })));
    // The engine serves on.
    assert_eq!(run(&engine, request(Constraint::Regex("ab".into()), 1, 0.0)).0, "ab");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is asked for, the process survives, and what is accepted is kept.
    #[test]
    fn hostile_constraints_end(regex in "[ab(){}|*+?\\[\\]0-9,.\\\\]{0,24}", grammar in "(start|x|Y|\"a\"|/b/|[:|()*+?{}\n ]){0,16}") {
        thread_local!(static ENGINE: Engine = engine());
        for constraint in [Constraint::Regex(regex.clone()), Constraint::Grammar(grammar)] {
            ENGINE.with(|engine| {
                let request = GenerationRequest { max_tokens: Some(40), ..request(constraint.clone(), 1, 1.0) };
                let Ok(events) = engine.generate(request) else { return };
                let (mut text, mut ended) = (String::new(), None);
                for event in events {
                    match event {
                        Ok(GenerationEvent::Token { text: piece, .. }) => text += &piece,
                        Ok(GenerationEvent::Finished { text: piece, reason, .. }) => {
                            text += &piece;
                            ended = reason;
                        }
                        Ok(_) => {}
                        Err(error) => assert!(matches!(error, Error::ConstraintFailed { .. }), "{error:?}"),
                    }
                }
                if let (Constraint::Regex(regex), Some(FinishReason::EndOfText(_))) = (&constraint, ended)
                    && let Ok(same) = regex::Regex::new(&format!("^(?:{regex})$"))
                {
                    assert!(same.is_match(&text), "{regex:?}: {text:?}");
                }
            });
        }
    }
}

fn json_schema(schema: impl Into<String>) -> OutputConfig {
    OutputConfig {
        text_format: Some(OutputFormat {
            kind: OutputFormatType::JsonSchema,
            structure: OutputFormatStructure::JsonSchema(JsonSchemaDefinition {
                schema: schema.into(),
                ..JsonSchemaDefinition::default()
            }),
        }),
        effort: None,
    }
}

#[test]
fn output_formats_of_converse() {
    let folder = tempfile::tempdir().unwrap();
    tiny::write_with(folder.path(), TOKENS, 8192);
    let options = LoadOptions { engine: EngineOptions::default(), threads: 2, ..LoadOptions::default() };
    let model = LocalChatModel::load(folder.path(), &options).unwrap();
    let ask = |config: OutputConfig, max_tokens: u32| {
        let mut request = ConverseRequest::new("tiny").user("Hello").max_tokens(max_tokens).additional_field("seed", 7);
        request.output_config = Some(config);
        model.converse_blocking(&request)
    };
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}, "s": {"enum": ["a", "b"]}},
        "required": ["n", "s"], "additionalProperties": false});
    let whole = ask(json_schema(schema.to_string()), 200).unwrap();
    assert_eq!(whole.stop_reason, StopReason::EndTurn);
    schema::check(&schema, &schema, &serde_json::from_str(&whole.text()).unwrap()).unwrap();
    assert_eq!(ask(json_schema(schema.to_string()), 3).unwrap().stop_reason, StopReason::MaxTokens);
    for (schema, what) in
        [("{", "outputConfig.textFormat.structure.jsonSchema.schema"), ("{\"type\": \"spiral\"}", "spiral")]
    {
        match ask(json_schema(schema), 5) {
            Err(CoreError::Validation { message }) => assert!(message.contains(what), "{message}"),
            other => panic!("{other:?}"),
        }
    }
    let effort = OutputConfig { text_format: None, effort: Some("high".into()) };
    assert!(matches!(ask(effort, 5), Err(CoreError::Validation { message }) if message.contains("effort")));
}
