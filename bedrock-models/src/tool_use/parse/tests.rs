//! Answers of every syntax, cut at every place.

use CallSyntax::{CommandA, CommandR, Hermes, Json, Llama, Mistral, MistralArgs, ToolCall};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn parser(syntax: CallSyntax) -> CallParser {
    CallParser::new(syntax, vec!["f".into(), "get_weather".into()])
}

/// Pieces of the same kind joined.
fn run<'a>(syntax: CallSyntax, pieces: impl IntoIterator<Item = &'a str>) -> (Vec<CallPiece>, CallOutcome) {
    let mut parser = parser(syntax);
    let mut all: Vec<CallPiece> = Vec::new();
    let mut add = |pieces: Vec<CallPiece>| {
        for piece in pieces {
            match (all.last_mut(), piece) {
                (Some(CallPiece::Text(last)), CallPiece::Text(more))
                | (Some(CallPiece::Input(last)), CallPiece::Input(more)) => last.push_str(&more),
                (_, piece) => all.push(piece),
            }
        }
    };
    pieces.into_iter().for_each(|piece| add(parser.push(piece)));
    let (last, outcome) = parser.finish();
    add(last);
    (all, outcome)
}

fn text(text: &str) -> CallPiece {
    CallPiece::Text(text.into())
}

fn call(name: &str, input: &str) -> Vec<CallPiece> {
    let input = (!input.is_empty()).then(|| CallPiece::Input(input.into()));
    [CallPiece::Begin(name.into())].into_iter().chain(input).chain([CallPiece::End]).collect()
}

/// The answer whole, cut at every place, and character by character.
fn reads(syntax: CallSyntax, answer: &str, expected: Vec<CallPiece>, outcome: CallOutcome) {
    let expected = (expected, outcome);
    assert_eq!(run(syntax, [answer]), expected, "{answer}");
    for (cut, _) in answer.char_indices() {
        assert_eq!(run(syntax, [&answer[..cut], &answer[cut..]]), expected, "{answer} at {cut}");
    }
    let single: Vec<String> = answer.chars().map(String::from).collect();
    assert_eq!(run(syntax, single.iter().map(String::as_str)), expected, "{answer}");
}

fn calls(syntax: CallSyntax, answer: &str, expected: Vec<Vec<CallPiece>>) {
    reads(syntax, answer, expected.concat(), CallOutcome::Calls);
}

#[test]
fn hermes() {
    let one = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"<b> é\", \"c\": [1, {}]}}\n</tool_call>";
    let f = || call("f", "{\"a\": \"<b> é\", \"c\": [1, {}]}");
    calls(Hermes, one, vec![f()]);
    calls(Hermes, &format!("I look.\n\n{one}\n{one}"), vec![vec![text("I look.")], f(), f()]);
    calls(Hermes, &format!("{one}\nSo < that."), vec![f(), vec![text("\nSo < that.")]]);
    // Without the closing mark, in a list, with the fields in another order, without input.
    calls(Hermes, "<tool_call>{\"name\":\"f\",\"arguments\":{}}", vec![call("f", "{}")]);
    calls(Hermes, "<tool_call>{\"name\":\"f\"}<tool_call>{\"name\":\"f\"}", vec![call("f", ""), call("f", "")]);
    calls(
        Hermes,
        "<tool_call>[{\"arguments\": {\"a\":1}, \"name\": \"f\"}, {\"name\": \"other\", \"arguments\": null}]</tool_call>",
        vec![call("f", "{\"a\":1}"), call("other", "{}")],
    );
    calls(
        Hermes,
        "<tool_call>{\"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1}\"}, \"id\": 7}</tool_call>",
        vec![call("f", "{\"a\": 1}")],
    );
    reads(Hermes, " plain <tool> <tool_cal\n ", vec![text(" plain <tool> <tool_cal\n ")], CallOutcome::Text);
    reads(Hermes, "<tool_call", vec![text("<tool_call")], CallOutcome::Text);
}

#[test]
fn llama() {
    let one = "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Ulm\"}}";
    let weather = || call("get_weather", "{\"city\": \"Ulm\"}");
    calls(Llama, one, vec![weather()]);
    calls(Llama, &format!("\n<|python_tag|>{one}"), vec![weather()]);
    calls(Llama, &format!("{one}; {one}"), vec![weather(), weather()]);
    calls(Llama, "{\"type\": \"function\", \"name\": \"f\", \"parameters\": {}}", vec![call("f", "{}")]);
    calls(Llama, &format!("[{one}, {one}]"), vec![weather(), weather()]);
    // JSON that is an answer.
    for answer in [
        "{\"name\": \"Ada\", \"parameters\": {}}",
        "{\"title\": 1}",
        "[1, 2]",
        "{\"name\": 3}",
        "{oops",
        "{\"name\": \"get_wea",
        "Here: {\"name\": \"f\", \"parameters\": {}}",
    ] {
        reads(Llama, answer, vec![text(answer)], CallOutcome::Text);
    }
}

#[test]
fn mistral() {
    for syntax in [Mistral, MistralArgs] {
        calls(
            syntax,
            "Well.[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": 1}, \"id\": \"abcdefghi\"}, {\"name\": \"f\", \"arguments\": {}}]",
            vec![vec![text("Well.")], call("f", "{\"a\": 1}"), call("f", "{}")],
        );
        calls(
            syntax,
            "[TOOL_CALLS]f[ARGS]{\"a\": \"[ARGS]\"}[TOOL_CALLS]get_weather[CALL_ID]abcdefghi[ARGS] {}[TOOL_CALLS]f{}",
            vec![call("f", "{\"a\": \"[ARGS]\"}"), call("get_weather", "{}"), call("f", "{}")],
        );
    }
}

#[test]
fn command() {
    let list =
        "[\n    {\n        \"tool_name\": \"f\",\n        \"parameters\": {\n            \"a\": 1\n        }\n    }\n]";
    let f = || call("f", "{\n            \"a\": 1\n        }");
    calls(CommandR, &format!("I will.\nAction: ```json\n{list}```"), vec![vec![text("I will.")], f()]);
    calls(CommandA, &format!("<|START_ACTION|>{list}<|END_ACTION|>"), vec![f()]);
    let none = "Action: ```json\n[{\"tool_name\": \"directly_answer\", \"parameters\": {}}]\n```\nHello.";
    reads(CommandR, none, vec![text("\nHello.")], CallOutcome::Text);
}

#[test]
fn other_marks() {
    calls(ToolCall, "<|tool_call|>[{\"name\": \"f\", \"arguments\": {}}]", vec![call("f", "{}")]);
    calls(ToolCall, "<|tool_call|>[{\"name\": \"f\", \"arguments\": {}}]<|/tool_call|>", vec![call("f", "{}")]);
    calls(Json, "{\"name\": \"f\", \"arguments\": {}}", vec![call("f", "{}")]);
    reads(Json, "<tool_call>", vec![text("<tool_call>")], CallOutcome::Text);
}

#[test]
fn malformed_calls() {
    for answer in [
        "<tool_call>f(1)</tool_call>",
        "<tool_call>{\"name\": 1, \"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": \"not a name\", \"arguments\": {}}",
        "<tool_call>{\"arguments\": {}}</tool_call>",
        "<tool_call>[,]",
    ] {
        reads(Hermes, answer, vec![text(answer)], CallOutcome::Malformed);
    }
    for (answer, input) in [
        ("<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": oops}}", "{\"a\": oops}}"),
        ("<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1]}</tool_call>", "{\"a\": 1]}</tool_call>"),
        ("<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1e999}}</tool_call>", "{\"a\": 1e999}"),
        ("<tool_call>{\"name\": \"f\", \"arguments\": [1]}", "}"),
    ] {
        reads(Hermes, answer, call("f", input), CallOutcome::Malformed);
    }
    for (answer, input) in [
        ("<tool_call>{\"name\": \"f\", \"argum", ""),
        ("<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"x", "{\"a\": \"x"),
    ] {
        reads(Hermes, answer, call("f", input), CallOutcome::Unfinished);
    }
    reads(Hermes, "<tool_call>\n{\"na", vec![text("<tool_call>\n{\"na")], CallOutcome::Unfinished);
    reads(MistralArgs, "[TOOL_CALLS]f[ARGS]1", call("f", "1"), CallOutcome::Malformed);
    reads(Llama, "<|python_tag|>print(1)", vec![text("<|python_tag|>print(1)")], CallOutcome::Malformed);
}

#[test]
fn no_more_text_is_held_back_than_may_become_a_call() {
    let mut hermes = parser(Hermes);
    assert_eq!(hermes.push("Hi there"), [text("Hi there")]);
    assert_eq!(hermes.push(" \n<tool"), []);
    assert_eq!(hermes.push("s>"), [text(" \n<tools>")]);
    assert_eq!(hermes.push("<tool_call>{\"name\": \"f\","), [CallPiece::Begin("f".into())]);
    assert_eq!(hermes.push(" \"arguments\": {\"a\""), [CallPiece::Input("{\"a\"".into())]);
    assert_eq!(hermes.push(": 1}"), [CallPiece::Input(": 1}".into())]);
    assert_eq!(hermes.push("}"), [CallPiece::End]);
    let mut llama = parser(Llama);
    assert_eq!(llama.push("{\"name\": \"A"), []);
    assert_eq!(llama.push("da\","), [text("{\"name\": \"Ada\",")]);
}

const PIECES: &[&str] = &[
    "<tool_call>",
    "</tool_call>",
    "<tool",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "<|python_tag|>",
    "Action: ```json",
    "```",
    "<|START_ACTION|>",
    "<|END_ACTION|>",
    "<|tool_call|>",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    ";",
    "\"name\"",
    "\"f\"",
    "\"arguments\"",
    "\"parameters\"",
    "\"function\"",
    "\"tool_name\"",
    "\"directly_answer\"",
    "\"type\"",
    "1",
    "null",
    "\"",
    "\\",
    " ",
    "\n",
    "é",
    "a",
    "{\"name\": \"f\", \"arguments\": {",
    "{\"a\": 1}",
];

fn any_syntax() -> impl Strategy<Value = CallSyntax> {
    prop::sample::select(&[Hermes, Llama, Mistral, MistralArgs, CommandR, CommandA, ToolCall, Json][..])
}

#[test]
fn an_empty_list_of_calls_is_text() {
    for (syntax, answer) in
        [(ToolCall, " <|tool_call|>[]"), (Mistral, "[TOOL_CALLS] []"), (Hermes, "<tool_call>[]</tool_call>")]
    {
        assert_eq!(run(syntax, [answer]), (vec![text(answer)], CallOutcome::Text), "{answer}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn streamed_is_whole_and_calls_are_well_formed(
        syntax in any_syntax(),
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..24),
    ) {
        let whole = pieces.concat();
        let (parts, outcome) = run(syntax, pieces.iter().copied());
        prop_assert_eq!(&(parts.clone(), outcome), &run(syntax, [whole.as_str()]));
        let mut open = false;
        for part in &parts {
            match part {
                CallPiece::Begin(_) => prop_assert!(!std::mem::replace(&mut open, true)),
                CallPiece::End => prop_assert!(std::mem::replace(&mut open, false)),
                CallPiece::Input(input) => {
                    prop_assert!(open);
                    if outcome == CallOutcome::Calls {
                        prop_assert!(serde_json::from_str::<Map<String, serde_json::Value>>(input).is_ok(), "{}", input);
                    }
                }
                CallPiece::Text(_) => prop_assert!(!open),
            }
        }
        prop_assert!(!open);
        if outcome == CallOutcome::Text && !matches!(syntax, CommandR | CommandA) {
            prop_assert_eq!(parts, Vec::from_iter((!whole.is_empty()).then(|| text(&whole))));
        }
    }

    #[test]
    fn any_text_is_survived(syntax in any_syntax(), pieces in prop::collection::vec("\\PC{0,12}", 0..6)) {
        let whole = pieces.concat();
        prop_assert_eq!(run(syntax, pieces.iter().map(String::as_str)), run(syntax, [whole.as_str()]));
    }

    #[test]
    fn any_input_comes_out_as_it_went_in(city in "\\PC{0,12}", number in any::<i64>()) {
        let input = json!({"city": city, "deep": [{"n": number}]}).to_string();
        for (syntax, answer) in [
            (Hermes, format!("<tool_call>\n{{\"name\": \"f\", \"arguments\": {input}}}\n</tool_call>")),
            (Llama, format!("{{\"name\": \"f\", \"parameters\": {input}}}")),
            (Mistral, format!("[TOOL_CALLS][{{\"name\": \"f\", \"arguments\": {input}}}]")),
            (MistralArgs, format!("[TOOL_CALLS]f[ARGS]{input}")),
            (CommandR, format!("Action: ```json\n[{{\"tool_name\": \"f\", \"parameters\": {input}}}]```")),
        ] {
            prop_assert_eq!(run(syntax, [answer.as_str()]), (call("f", &input), CallOutcome::Calls));
        }
    }
}
