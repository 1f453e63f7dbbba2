//! An example as the tokens that the model will see, and which of them it is to say itself.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::loss::Sequence;
use crate::chat_template::TemplateInput;
use crate::error::Error;
use crate::language_model::LanguageModel;
use crate::tokenizer::EncodeOptions;

/// What templates that write the date are told, so that a job does not depend on the day: the date that Llama's write where
/// there is no clock.
const DATE: Duration = Duration::from_secs(1_721_952_000);

/// A prompt with its completion, or a conversation in which the assistant has the last word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Example {
    system: Option<String>,
    /// What user and assistant say in turn, the user first.
    turns: Vec<String>,
}

impl Example {
    /// Reads a line's object: `{prompt, completion}`, or `{system?, messages}` in Converse's form. Other fields are ignored.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(line: Map<String, Value>) -> Result<Self, String> {
        let system = line.get("system").filter(|system| !system.is_null()).map(|system| text(system, "system"));
        let system = system.transpose()?.filter(|system| !system.trim().is_empty());
        let turns = match (line.get("prompt"), line.get("completion"), line.get("messages")) {
            (Some(prompt), Some(completion), None) => vec![text(prompt, "prompt")?, text(completion, "completion")?],
            (None, None, Some(Value::Array(messages))) => {
                let mut turns = Vec::with_capacity(messages.len());
                for (index, message) in messages.iter().enumerate() {
                    let (role, content) = (&message["role"], &message["content"]);
                    let expected = ["user", "assistant"][index % 2];
                    if role != expected {
                        return Err(format!("messages[{index}] has the role {role}, but should have \"{expected}\""));
                    }
                    turns.push(text(content, &format!("messages[{index}].content"))?);
                }
                if turns.len() % 2 == 1 || turns.is_empty() {
                    return Err("the last of messages should be the assistant's".into());
                }
                turns
            }
            _ => return Err("a line should have prompt and completion, or messages".into()),
        };
        if let Some(empty) = turns.iter().position(|turn| turn.trim().is_empty()) {
            let names = ["prompt", "completion"].map(String::from);
            let name = if line.contains_key("prompt") { names[empty].clone() } else { format!("messages[{empty}]") };
            return Err(format!("{name} is empty"));
        }
        Ok(Self { system, turns })
    }
}

/// A text, or the texts of a list of blocks, put together.
fn text(value: &Value, what: &str) -> Result<String, String> {
    let wrong = || format!("{what} should be a text, or a list of objects with text");
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Array(blocks) => blocks.iter().map(|block| block["text"].as_str().ok_or_else(wrong)).collect(),
        _ => Err(wrong()),
    }
}

/// A text, of which parts are to be learnt.
struct Marked {
    text: String,
    learnt: Vec<Range<usize>>,
}

/// The sequences of an example: one, or where the template writes an answer differently once the conversation goes on, one for each
/// answer. None if it writes a prompt differently once there is an answer.
///
/// Without a chat template, a prompt and its completion are put together as they are, and end with the end of text.
///
/// # Errors
/// [`Error::NoChatTemplate`] for what needs one; those of the template and the tokenizer.
pub(super) fn sequences(model: &LanguageModel, example: &Example) -> Result<Option<Vec<Sequence>>, Error> {
    let texts = match (model.template(), &example.turns[..]) {
        (Err(Error::NoChatTemplate { .. }), [prompt, completion]) if example.system.is_none() => {
            let text = [prompt.as_str(), completion].concat();
            let learnt = vec![Range { start: prompt.len(), end: text.len() }];
            return Ok(Some(vec![sequence(model, &Marked { text, learnt }, true)?]));
        }
        (template, _) => {
            let template = template?;
            rendered(example, |messages, add_generation_prompt| {
                let now = Some(SystemTime::UNIX_EPOCH + DATE);
                template.render(&TemplateInput { messages, add_generation_prompt, now, ..TemplateInput::default() })
            })?
        }
    };
    texts.map(|texts| texts.iter().map(|text| sequence(model, text, false)).collect()).transpose()
}

fn rendered(
    example: &Example,
    render: impl Fn(&[Value], bool) -> Result<String, Error>,
) -> Result<Option<Vec<Marked>>, Error> {
    let system = example.system.iter().map(|text| json!({ "role": "system", "content": text }));
    let turns = example.turns.iter().zip(["user", "assistant"].into_iter().cycle());
    let messages: Vec<Value> =
        system.chain(turns.map(|(text, role)| json!({ "role": role, "content": text }))).collect();
    let whole = render(&messages, false)?;
    let mut answers = Vec::new();
    for at in (0..messages.len()).filter(|at| messages[*at]["role"] == "assistant") {
        let prompt = render(&messages[..at], true)?;
        let text = if at + 1 == messages.len() { whole.clone() } else { render(&messages[..=at], false)? };
        if !text.starts_with(&prompt) || text.len() == prompt.len() {
            return Ok(None);
        }
        let learnt = vec![Range { start: prompt.len(), end: text.len() }];
        answers.push(Marked { text, learnt });
    }
    if answers.iter().all(|answer| whole.starts_with(&answer.text)) {
        let learnt = answers.into_iter().flat_map(|answer| answer.learnt).collect();
        return Ok(Some(vec![Marked { text: whole, learnt }]));
    }
    Ok(Some(answers))
}

/// The tokens of a text. Those that have a part of what is to be learnt are to be learnt. `complete`: with what begins and ends a text, of
/// which the end is to be learnt.
fn sequence(model: &LanguageModel, Marked { text, learnt }: &Marked, complete: bool) -> Result<Sequence, Error> {
    let tokenizer = model.tokenizer()?;
    let options = EncodeOptions { add_special: complete, ..EncodeOptions::default() };
    let mut encoding = tokenizer.encode_with(text, None, &options)?;
    let counts =
        |at: &Range<usize>| learnt.iter().any(|part| at.end > part.start && at.start < part.end && at.start < at.end);
    let mut labels: Vec<i64> = encoding
        .offsets
        .iter()
        .zip(&encoding.ids)
        .map(|(at, id)| if counts(at) { i64::from(*id) } else { -1 })
        .collect();
    if let Some(eos) = tokenizer.special_tokens().eos.filter(|_| complete) {
        if encoding.ids.last() == Some(&eos) {
            labels.pop();
        } else {
            encoding.ids.push(eos);
        }
        labels.push(i64::from(eos));
    }
    Ok(Sequence::labelled(encoding.ids, &labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: Value) -> Result<Example, String> {
        let Value::Object(line) = line else { panic!("no object") };
        Example::read(line)
    }

    fn example(turns: &[&str]) -> Example {
        Example { system: None, turns: turns.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn lines_in_both_forms() {
        assert_eq!(read(json!({"prompt": "a", "completion": "b", "more": 1})).unwrap(), example(&["a", "b"]));
        let content = |text: &str| json!([{ "text": text }, { "text": "!" }]);
        let line = json!({"system": content("s"), "schemaVersion": "bedrock-conversation-2024", "messages": [
            {"role": "user", "content": content("a")}, {"role": "assistant", "content": "b"},
        ]});
        assert_eq!(read(line).unwrap(), Example { system: Some("s!".into()), ..example(&["a!", "b"]) });
    }

    #[test]
    fn wrong_lines_say_what_is_wrong() {
        let user = json!({"role": "user", "content": "a"});
        let assistant = json!({"role": "assistant", "content": [{"text": "b"}]});
        for (line, reason) in [
            (json!({"prompt": "a", "completion": " "}), "completion is empty"),
            (json!({"prompt": "", "completion": "b"}), "prompt is empty"),
            (json!({"prompt": "a", "completion": 3}), "completion should be a text"),
            (json!({"prompt": "a"}), "should have prompt and completion, or messages"),
            (
                json!({"prompt": "a", "completion": "b", "messages": []}),
                "should have prompt and completion, or messages",
            ),
            (json!({"messages": []}), "should be the assistant's"),
            (json!({"messages": [user]}), "should be the assistant's"),
            (json!({"messages": [assistant]}), "messages[0] has the role \"assistant\", but should have \"user\""),
            (json!({"messages": [user, user]}), "messages[1] has the role \"user\""),
            (json!({"messages": [{"role": "user"}, assistant]}), "messages[0].content should be a text"),
            (json!({"messages": [user, {"role": "assistant", "content": []}]}), "messages[1] is empty"),
            (
                json!({"messages": [{"role": "user", "content": [{"image": {}}]}, assistant]}),
                "messages[0].content should",
            ),
        ] {
            let got = read(line.clone()).unwrap_err();
            assert!(got.contains(reason), "{line}: {got}");
        }
    }

    /// `<a>` and `</a>` around what the assistant says.
    fn plain(messages: &[Value], more: bool) -> Result<String, Error> {
        let text = |message: &Value| match message["role"].as_str() {
            Some("assistant") => format!("<a>{}</a>", message["content"].as_str().unwrap()),
            _ => format!("<u>{}</u>", message["content"].as_str().unwrap()),
        };
        Ok(messages.iter().map(text).collect::<String>() + if more { "<a>" } else { "" })
    }

    fn learnt(texts: &[Marked]) -> Vec<Vec<&str>> {
        texts.iter().map(|text| text.learnt.iter().map(|part| &text.text[part.clone()]).collect()).collect()
    }

    #[test]
    fn every_answer_is_learnt_with_its_end() {
        let texts = rendered(&example(&["1", "2", "3", "4"]), plain).unwrap().unwrap();
        assert_eq!(learnt(&texts), [["2</a>", "4</a>"]]);
        assert_eq!(texts[0].text, "<u>1</u><a>2</a><u>3</u><a>4</a>");
    }

    #[test]
    fn a_template_that_forgets_gives_a_sequence_for_each_answer() {
        // As templates of thinking models: what is before the last answer has lost its marks.
        let forgets = |messages: &[Value], more: bool| {
            let (last, before) = messages.split_last().unwrap();
            let before = plain(before, false)?.replace("<a>", "<b>");
            Ok(before + &plain(std::slice::from_ref(last), more)?)
        };
        let texts = rendered(&example(&["1", "2", "3", "4"]), forgets).unwrap().unwrap();
        assert_eq!(learnt(&texts), [["2</a>"], ["4</a>"]]);
        assert_eq!(texts[1].text, "<u>1</u><b>2</a><u>3</u><a>4</a>");
        let changes = |messages: &[Value], more: bool| Ok(format!("{}{}", messages.len(), plain(messages, more)?));
        assert!(rendered(&example(&["1", "2"]), changes).unwrap().is_none());
    }
}
