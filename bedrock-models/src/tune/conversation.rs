//! An example as the tokens that the model will see, and which of them it is to say itself.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use bedrock_core::ConverseRequest;
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
        Self::read_open(line, false)
    }

    /// As [`Example::read`], of which the last answer may be missing: `{prompt}`, or messages of which the user has the last.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read_prompt(line: Map<String, Value>) -> Result<Self, String> {
        Self::read_open(line, true)
    }

    fn read_open(line: Map<String, Value>, may_be_open: bool) -> Result<Self, String> {
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
                if turns.is_empty() || (turns.len() % 2 == 1 && !may_be_open) {
                    return Err("the last of messages should be the assistant's".into());
                }
                turns
            }
            (Some(prompt), None, None) if may_be_open => vec![text(prompt, "prompt")?],
            _ if may_be_open => return Err("a line should have a prompt, or messages".into()),
            _ => return Err("a line should have prompt and completion, or messages".into()),
        };
        if let Some(empty) = turns.iter().position(|turn| turn.trim().is_empty()) {
            let names = ["prompt", "completion"].map(String::from);
            let name = if line.contains_key("prompt") { names[empty].clone() } else { format!("messages[{empty}]") };
            return Err(format!("{name} is empty"));
        }
        Ok(Self { system, turns })
    }

    /// Whether the assistant has the last word.
    pub(super) fn is_answered(&self) -> bool {
        self.turns.len().is_multiple_of(2)
    }

    /// The same, answered.
    pub(super) fn answered(&self, answer: &str) -> Self {
        let turns = self.turns.iter().cloned().chain([answer.to_string()]).collect();
        Self { system: self.system.clone(), turns }
    }

    /// What a model is asked, to get the answer of the most likely words.
    pub(super) fn request(&self, model: &str, max_tokens: u32) -> ConverseRequest {
        let mut request = ConverseRequest::new(model).max_tokens(max_tokens).temperature(0.0);
        if let Some(system) = &self.system {
            request = request.system(system.as_str());
        }
        let turns = self.turns.iter().enumerate();
        turns.fold(request, |request, (index, text)| match index % 2 {
            0 => request.user(text.as_str()),
            _ => request.assistant(text.as_str()),
        })
    }
}

/// The field that a preference's answer is, and the role of a message there.
const ANSWERS: [&str; 2] = ["chosen", "rejected"];

impl Example {
    /// Reads a line's object: a prompt with the answer that is to be preferred and the one that is not, as two examples that differ in
    /// the last turn. `{prompt, chosen, rejected}`, where the prompt is a text or a list of messages, or `{system?, messages, chosen,
    /// rejected}` in Converse's form; an answer is a text, a list of blocks, or the assistant's message, also as a list of one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read_preference(mut line: Map<String, Value>) -> Result<[Self; 2], String> {
        let answers = ANSWERS.map(|name| match line.remove(name) {
            Some(value) => answer(&value, name),
            None => Err("a line should have prompt or messages, chosen and rejected".into()),
        });
        let [chosen, rejected] = answers;
        let (chosen, rejected) = (chosen?, rejected?);
        if chosen == rejected {
            return Err("chosen and rejected are the same".into());
        }
        // A list of messages may begin with the system's here, which Converse keeps apart.
        let name = if line.contains_key("messages") { "messages" } else { "prompt" };
        let is_open = !line.contains_key("system");
        if let Some(Value::Array(messages)) = line.get_mut(name)
            && is_open
            && messages.first().is_some_and(|message| message["role"] == "system")
        {
            let content = messages.remove(0)["content"].take();
            line.insert("system".into(), content);
        }
        let with = |last: String| {
            let mut line = line.clone();
            match (line.remove("prompt"), line.remove("messages")) {
                (Some(Value::Array(mut messages)), None) | (None, Some(Value::Array(mut messages))) => {
                    messages.push(json!({ "role": "assistant", "content": last }));
                    line.insert("messages".into(), messages.into());
                    line.remove("completion");
                }
                (Some(prompt), None) => {
                    line.insert("prompt".into(), prompt);
                    line.insert("completion".into(), last.into());
                }
                _ => return Err("a line should have prompt or messages, chosen and rejected".into()),
            }
            Self::read(line)
        };
        Ok([with(chosen)?, with(rejected)?])
    }
}

/// The text of an answer: see [`Example::read_preference`].
fn answer(value: &Value, what: &str) -> Result<String, String> {
    let message = match value {
        Value::Array(list) if list.len() == 1 && list[0].get("role").is_some() => &list[0],
        value => value,
    };
    let found = match message.get("role") {
        Some(role) if role == "assistant" => text(&message["content"], &format!("{what}.content"))?,
        Some(role) => return Err(format!("{what} has the role {role}, but should have \"assistant\"")),
        None => text(message, what)?,
    };
    if found.trim().is_empty() { Err(format!("{what} is empty")) } else { Ok(found) }
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
    if model.has_encoder() {
        return Ok(Some(vec![for_encoder(model, example)?]));
    }
    let Some(Texts { parts, complete }) = texts(model, example)? else { return Ok(None) };
    parts.iter().map(|part| sequence(model, part, complete)).collect::<Result<_, _>>().map(Some)
}

/// An example of which only the last answer is to be learnt. None, and errors: as [`sequences`].
pub(super) fn answer_alone(model: &LanguageModel, example: &Example) -> Result<Option<Sequence>, Error> {
    if model.has_encoder() {
        return for_encoder(model, example).map(Some);
    }
    let Some(Texts { mut parts, complete }) = texts(model, example)? else { return Ok(None) };
    let Some(mut last) = parts.pop() else { return Ok(None) };
    last.learnt.drain(..last.learnt.len().saturating_sub(1));
    sequence(model, &last, complete).map(Some)
}

/// A prompt that an encoder reads, and the answer to it: each a text of its own, with what begins and ends one.
///
/// # Errors
/// [`Error::NoChatTemplate`] for anything but one prompt with one answer; those of the tokenizer.
fn for_encoder(model: &LanguageModel, example: &Example) -> Result<Sequence, Error> {
    let ([prompt, completion], None) = (&example.turns[..], &example.system) else {
        return Err(Error::NoChatTemplate { path: model.path.clone(), name: None });
    };
    let tokenizer = model.tokenizer()?;
    let (prompt, mut answer) = (tokenizer.encode(prompt, true)?, tokenizer.encode(completion, true)?);
    if let Some(eos) = tokenizer.special_tokens().eos.filter(|eos| answer.last() != Some(eos)) {
        answer.push(eos);
    }
    Ok(Sequence::completion(&prompt, &answer))
}

/// An example as the model will read it.
struct Texts {
    parts: Vec<Marked>,
    /// Whether what begins and ends a text is still to be put around it.
    complete: bool,
}

fn texts(model: &LanguageModel, example: &Example) -> Result<Option<Texts>, Error> {
    let parts = match (model.template(), &example.turns[..]) {
        (Err(Error::NoChatTemplate { .. }), [prompt, completion]) if example.system.is_none() => {
            let text = [prompt.as_str(), completion].concat();
            let learnt = vec![Range { start: prompt.len(), end: text.len() }];
            return Ok(Some(Texts { parts: vec![Marked { text, learnt }], complete: true }));
        }
        (template, _) => {
            let template = template?;
            rendered(example, |messages, add_generation_prompt| {
                let now = Some(SystemTime::UNIX_EPOCH + DATE);
                template.render(&TemplateInput { messages, add_generation_prompt, now, ..TemplateInput::default() })
            })?
        }
    };
    Ok(parts.map(|parts| Texts { parts, complete: false }))
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

    #[test]
    fn prompts_may_be_without_an_answer() {
        let read = |line: Value| {
            let Value::Object(line) = line else { panic!("no object") };
            Example::read_prompt(line)
        };
        let open = read(json!({"prompt": "a"})).unwrap();
        assert_eq!((&open, open.is_answered()), (&example(&["a"]), false));
        assert_eq!(open.answered("b"), example(&["a", "b"]));
        assert!(read(json!({"prompt": "a", "completion": "b"})).unwrap().is_answered());
        let user = json!({"role": "user", "content": [{"text": "a"}]});
        let assistant = json!({"role": "assistant", "content": "b"});
        let long = read(json!({"system": "s", "messages": [user, assistant, user]})).unwrap();
        let request = json!(long.request("m", 7));
        assert_eq!(request["system"], json!([{"text": "s"}]));
        let content = |index: usize| &request["messages"][index]["content"][0]["text"];
        assert_eq!([content(0), content(1), content(2)], ["a", "b", "a"]);
        assert_eq!(request["inferenceConfig"], json!({"maxTokens": 7, "temperature": 0.0}));
        for (line, reason) in [
            (json!({"messages": []}), "should be the assistant's"),
            (json!({"completion": "a"}), "should have a prompt, or messages"),
            (json!({"prompt": " "}), "prompt is empty"),
            (json!({"messages": [user, user]}), "messages[1] has the role \"user\""),
        ] {
            let got = read(line.clone()).unwrap_err();
            assert!(got.contains(reason), "{line}: {got}");
        }
        // Elsewhere they have to be answered.
        let Value::Object(line) = json!({"messages": [user]}) else { panic!() };
        assert!(Example::read(line).is_err());
    }

    #[test]
    fn two_answers_in_all_forms() {
        let read = |line: Value| {
            let Value::Object(line) = line else { panic!("no object") };
            Example::read_preference(line)
        };
        let pair = |turns: [&str; 2]| turns.map(|last| example(&["a", last]));
        let messages = json!([{"role": "user", "content": [{"text": "a"}]}]);
        let message = |text: &str| json!({"role": "assistant", "content": [{"text": text}]});
        for line in [
            json!({"prompt": "a", "chosen": "b", "rejected": "c", "score": 3}),
            json!({"prompt": "a", "chosen": [{"text": "b"}], "rejected": [{"text": "c"}]}),
            json!({"messages": messages, "chosen": [{"text": "b"}], "rejected": message("c")}),
            json!({"prompt": messages, "chosen": [message("b")], "rejected": [message("c")]}),
        ] {
            assert_eq!(read(line.clone()).unwrap(), pair(["b", "c"]), "{line}");
        }
        let system = json!([{"role": "system", "content": "s"}, {"role": "user", "content": "a"}]);
        let [chosen, _] = read(json!({"prompt": system, "chosen": "b", "rejected": "c"})).unwrap();
        assert_eq!(chosen, Example { system: Some("s".into()), ..example(&["a", "b"]) });
        let user = json!({"role": "user", "content": "b"});
        for (line, reason) in [
            (json!({"prompt": "a", "chosen": "b"}), "should have prompt or messages, chosen and rejected"),
            (json!({"chosen": "b", "rejected": "c"}), "should have prompt or messages, chosen and rejected"),
            (json!({"prompt": "a", "messages": messages, "chosen": "b", "rejected": "c"}), "should have prompt or"),
            (json!({"prompt": "a", "chosen": "b", "rejected": "b"}), "chosen and rejected are the same"),
            (json!({"prompt": "a", "chosen": " ", "rejected": "b"}), "chosen is empty"),
            (json!({"prompt": "a", "chosen": "c", "rejected": 3}), "rejected should be a text"),
            (json!({"prompt": "", "chosen": "c", "rejected": "b"}), "prompt is empty"),
            (json!({"prompt": "a", "chosen": "c", "rejected": [user]}), "rejected has the role \"user\""),
            (json!({"messages": [user, user], "chosen": "c", "rejected": "d"}), "messages[1] has the role \"user\""),
            (json!({"messages": [], "chosen": "c", "rejected": "d"}), "messages[0] has the role \"assistant\""),
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
