//! Calls that cannot be malformed: the syntax of a model as a grammar.

use serde_json::{Map, Value, json};

use super::{ARGS, CallSyntax};
use crate::generate::{Constraint, set_white_space};
use crate::tokenizer::Tokenizer;

/// Calls of one answer, apart from those that [`Choice::One`] excludes.
const MOST_CALLS: usize = 16;

/// A tool as the grammar sees it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GrammarTool {
    pub(crate) name: String,
    /// The schema of its input.
    pub(crate) schema: Value,
}

/// What the answer must be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Choice {
    /// Calls, or else text; JSON text under this schema if there is one.
    Auto(Option<Value>),
    /// One call or more.
    Any,
    /// One call of the tool of this name.
    One(String),
}

/// The grammar of answers with calls of `tools` in which every input is valid under its schema.
///
/// In free text the mark of calls must not occur but to begin them, and where calls have no mark, text does not begin as one
/// would.
pub(crate) fn grammar(syntax: CallSyntax, tools: &[GrammarTool], choice: &Choice, tokenizer: &Tokenizer) -> Constraint {
    let words = syntax.words();
    // A mark may be a special token, which no text matches.
    let mark = |text: &str| match tokenizer.token_to_id(text).filter(|id| tokenizer.is_special(*id)) {
        Some(id) => format!("<[{id}]>"),
        None => quoted(text),
    };
    let is_special = |text: &str| tokenizer.token_to_id(text).is_some_and(|id| tokenizer.is_special(id));
    let chosen: Vec<usize> =
        (0..tools.len()).filter(|index| !matches!(choice, Choice::One(name) if *name != tools[*index].name)).collect();

    let mut rules = Vec::new();
    for &index in &chosen {
        let tool = &tools[index];
        let call = match syntax {
            CallSyntax::MistralArgs => format!("{} {} input_{index}", quoted(&tool.name), mark(ARGS)),
            CallSyntax::CommandR => {
                let before = format!(
                    "\n    {{\n        \"tool_name\": {},\n        \"parameters\": ",
                    Value::from(tool.name.as_str())
                );
                format!("{} input_{index} {}", quoted(&before), quoted("\n    }"))
            }
            _ => {
                let before =
                    format!("{{\"{}\": {}, \"{}\": ", words.name, Value::from(tool.name.as_str()), words.arguments);
                format!("{} input_{index} \"}}\"", quoted(&before))
            }
        };
        rules.push(format!("call_{index}: {call}"));
        rules.push(format!("input_{index}: %json {}", input_schema(&tool.schema)));
    }
    let alternatives: Vec<String> = chosen.iter().map(|index| format!("call_{index}")).collect();
    rules.push(format!("call: {}", alternatives.join(" | ")));
    // Llama 3 calls one tool at a time.
    let more = if matches!(choice, Choice::One(_)) || words.bare { 0 } else { MOST_CALLS - 1 };
    let repeat = |item: &str| if more == 0 { String::new() } else { format!(" ({item}){{0,{more}}}") };

    // What comes after the opening mark of the first call, up to the end of the answer.
    let open = mark(words.open);
    let rest = match syntax {
        CallSyntax::Llama | CallSyntax::Json => "call".to_string(),
        CallSyntax::Hermes => {
            let block = format!("\"\\n\" call \"\\n\" {}", mark(words.close));
            format!("{block}{}", repeat(&format!("\"\\n\" {open} {block}")))
        }
        CallSyntax::MistralArgs => format!("call{}", repeat(&format!("{open} call"))),
        CallSyntax::Mistral => format!("\"[\" call{} \"]\"", repeat("\", \" call")),
        CallSyntax::CommandR => format!("\"\\n[\" call{} \"\\n]\" {}", repeat("\",\" call"), mark(words.close)),
        CallSyntax::CommandA => format!("\"[\" call{} \"]\" {}", repeat("\", \" call"), mark(words.close)),
        CallSyntax::ToolCall => format!("\"[\" call{} \"]\" {}?", repeat("\", \" call"), mark(words.close)),
    };
    rules.push(format!("rest: {rest}"));
    let start = match (choice, words.bare) {
        (Choice::Any | Choice::One(_), true) => "rest".to_string(),
        (Choice::Any | Choice::One(_), false) => format!("{open} rest"),
        (Choice::Auto(Some(schema)), bare) => {
            rules.push(format!("output: %json {}", output_schema(schema)));
            if bare { "output | rest".to_string() } else { format!("output | {open} rest") }
        }
        (Choice::Auto(None), true) => {
            let unlike = if words.open.is_empty() { String::new() } else { format!(" & ~{}", holds(words.open)) };
            rules.push(format!("TEXT: /[^\\s{{\\[](?s:.*)/{unlike}"));
            "TEXT? | rest".to_string()
        }
        (Choice::Auto(None), false) => {
            rules.push(format!("TEXT: /(?s:.+)/ & ~{}", holds(words.open)));
            if is_special(words.open) {
                format!("TEXT? | TEXT? {open} rest")
            } else {
                let mark = escaped(words.open);
                rules.push(format!("BEFORE: /(?s:.*){mark}/ & ~/(?s:.*){mark}(?s:.+)/"));
                "TEXT? | BEFORE rest".to_string()
            }
        }
    };
    rules.insert(0, format!("start: {start}"));
    Constraint::Grammar(rules.join("\n"))
}

/// The schema of an input, which is always an object.
fn input_schema(schema: &Value) -> Value {
    let mut schema = schema.clone();
    match &mut schema {
        Value::Object(fields) => {
            let composed = ["$ref", "anyOf", "oneOf", "allOf"].iter().any(|key| fields.contains_key(*key));
            if !composed && !fields.contains_key("type") {
                fields.insert("type".into(), "object".into());
            }
            set_white_space(fields);
            schema
        }
        _ => input_schema(&json!({})),
    }
}

/// The schema of the answer's text.
fn output_schema(schema: &Value) -> Value {
    let mut fields = match schema {
        Value::Object(fields) => fields.clone(),
        Value::Bool(true) => Map::new(),
        // Nothing is valid under this, which the compiler says.
        _ => Map::from_iter([("enum".to_string(), json!([]))]),
    };
    set_white_space(&mut fields);
    fields.into()
}

/// Texts with `mark` in them, as a regular expression.
fn holds(mark: &str) -> String {
    format!("/(?s:.*){}(?s:.*)/", escaped(mark))
}

/// A text as a part of a regular expression between slashes.
fn escaped(text: &str) -> String {
    text.chars()
        .flat_map(|character| {
            let plain = character.is_ascii_alphanumeric() || matches!(character, '_' | ' ' | '<' | '>' | ':' | '`');
            (!plain).then_some('\\').into_iter().chain([character])
        })
        .collect()
}

/// A text as a literal.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
