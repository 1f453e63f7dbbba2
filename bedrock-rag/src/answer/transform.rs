//! What a chat model makes of a question before the search: one that stands alone, several simple ones, a filter.
//!
//! None of this is trusted: what a model says is bounded and parsed, and where it is not what was asked for, the question stays as it is and
//! nothing is filtered.

use bedrock_core::{
    AttributeType, ChatModel, ConverseRequest, FilterAttribute, ImplicitFilterConfiguration, MetadataAttributeSchema,
    RetrievalFilter, StopReason, TokenUsage,
};
use serde_json::Value;

use crate::Error;

/// Most questions that one is taken apart into.
const MAX_QUESTIONS: usize = 5;

/// Longest question that a model may make, and longest filter, in bytes.
const MAX_QUESTION: usize = 2000;
const MAX_FILTER: usize = 16_384;

/// Turns that a follow-up question is understood by.
const TURNS: usize = 4;

/// A turn of a conversation: what was asked and what was answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Turn {
    pub(crate) question: String,
    pub(crate) answer: String,
}

/// Adds what a call cost to what others did.
pub(crate) fn add(usage: &mut TokenUsage, more: &TokenUsage) {
    usage.input_tokens = usage.input_tokens.saturating_add(more.input_tokens);
    usage.output_tokens = usage.output_tokens.saturating_add(more.output_tokens);
    usage.total_tokens = usage.total_tokens.saturating_add(more.total_tokens);
}

/// Asks a model, plainly and briefly.
async fn told(
    model: &dyn ChatModel,
    model_id: &str,
    prompt: String,
    tokens: u32,
    usage: &mut TokenUsage,
) -> Result<String, Error> {
    let request = ConverseRequest::new(model_id).user(prompt).max_tokens(tokens).temperature(0.0);
    let response = model.converse(&request).await.map_err(|source| Error::Model { role: "chat", source })?;
    add(usage, &response.usage);
    // What a guardrail says in the model's place is no answer to this.
    let blocked = response.stop_reason == StopReason::GuardrailIntervened;
    Ok(if blocked { String::new() } else { response.text() })
}

/// A follow-up question as one that can be understood without the conversation.
pub(crate) async fn standalone(
    model: &dyn ChatModel,
    model_id: &str,
    history: &[Turn],
    question: &str,
    usage: &mut TokenUsage,
) -> Result<String, Error> {
    if history.is_empty() {
        return Ok(question.to_owned());
    }
    let turns = &history[history.len().saturating_sub(TURNS)..];
    let prompt = format!(
        "Here is a conversation and a question that follows it. Write the question so that it can be understood without the \
         conversation: put names in place of pronouns. Answer with the question alone, in one line.\n\n{}\nQuestion: {question}",
        shown(turns)
    );
    let said = told(model, model_id, prompt, 200, usage).await?;
    let line = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let line = line.strip_prefix("Question:").unwrap_or(line).trim();
    Ok(if line.is_empty() || line.len() > MAX_QUESTION { question.to_owned() } else { line.to_owned() })
}

/// A conversation as text.
pub(crate) fn shown(history: &[Turn]) -> String {
    history.iter().map(|turn| format!("User: {}\nAssistant: {}\n", turn.question, turn.answer)).collect()
}

/// The simple questions that one consists of; itself, if it is simple.
pub(crate) async fn decomposed(
    model: &dyn ChatModel,
    model_id: &str,
    template: Option<&str>,
    question: &str,
    usage: &mut TokenUsage,
) -> Result<Vec<String>, Error> {
    let template = template.unwrap_or(
        "Some questions ask for several facts that stand in different places. Take the question below apart into such simple questions, at \
         most five, each understandable alone. Write each in a line of its own and nothing else. If it is simple already, repeat it.\n\n\
         Question: $query$",
    );
    let said = told(model, model_id, super::prompt::fill(template, &[("$query$", question)]), 300, usage).await?;
    let mut questions: Vec<String> = Vec::new();
    for line in said.lines() {
        // Lists come with bullets and numbers.
        let line = line.trim().trim_start_matches(['-', '*', '•']).trim_start();
        let digits = line.bytes().take_while(u8::is_ascii_digit).count();
        let numbered = line[digits..].strip_prefix(['.', ')']).filter(|_| digits > 0);
        let line = numbered.unwrap_or(line).trim();
        if !line.is_empty() && line.len() <= MAX_QUESTION && questions.iter().all(|known| known != line) {
            questions.push(line.to_owned());
        }
    }
    questions.truncate(MAX_QUESTIONS);
    Ok(if questions.is_empty() { vec![question.to_owned()] } else { questions })
}

/// The filter that a question implies, by the attributes that it may be made of. `None` if it implies none, and if what the model says
/// is none: not in the service's shape, by other attributes, or with values of other types.
pub(crate) async fn implied_filter(
    model: &dyn ChatModel,
    configuration: &ImplicitFilterConfiguration,
    question: &str,
    usage: &mut TokenUsage,
) -> Result<Option<RetrievalFilter>, Error> {
    let attributes: String = configuration
        .metadata_attributes
        .iter()
        .map(|attribute| format!("- {} ({}): {}\n", attribute.key, attribute.kind, attribute.description))
        .collect();
    let prompt = format!(
        "Documents have these attributes:\n{attributes}\nWrite the filter on them that the question below demands, as JSON. A condition is \
         {{\"equals\": {{\"key\": …, \"value\": …}}}}; in place of equals there may be notEquals, greaterThan, greaterThanOrEquals, \
         lessThan, lessThanOrEquals (numbers), in, notIn (value is a list), startsWith, stringContains (texts), listContains. Several are \
         joined by {{\"andAll\": […]}} or {{\"orAll\": […]}}. If the question demands nothing of these attributes, write {{}}. Write the \
         JSON and nothing else.\n\nQuestion: {question}"
    );
    let said = told(model, &configuration.model_arn, prompt, 400, usage).await?;
    Ok(parse_filter(&said, &configuration.metadata_attributes))
}

fn parse_filter(said: &str, attributes: &[MetadataAttributeSchema]) -> Option<RetrievalFilter> {
    if said.len() > MAX_FILTER {
        return None;
    }
    // The first object, whatever stands around it.
    let start = said.find('{')?;
    let value: Value = serde_json::Deserializer::from_str(&said[start..]).into_iter().next()?.ok()?;
    let filter: RetrievalFilter = serde_json::from_value(value).ok()?;
    crate::filter::validate(&filter).ok()?;
    filter.validate().ok()?;
    fits(&filter, attributes).then_some(filter)
}

/// Whether a filter asks for nothing but these attributes, each by its type.
fn fits(filter: &RetrievalFilter, attributes: &[MetadataAttributeSchema]) -> bool {
    let of = |a: &FilterAttribute| attributes.iter().find(|known| known.key == a.key).map(|known| &known.kind);
    let typed = |value: &Value, kind: &AttributeType| match kind {
        AttributeType::Number => value.is_number(),
        AttributeType::Boolean => value.is_boolean(),
        _ => value.is_string(),
    };
    match filter {
        RetrievalFilter::AndAll(all) | RetrievalFilter::OrAll(all) => all.iter().all(|one| fits(one, attributes)),
        RetrievalFilter::Equals(a) | RetrievalFilter::NotEquals(a) => {
            of(a).is_some_and(|kind| *kind != AttributeType::StringList && typed(&a.value, kind))
        }
        RetrievalFilter::GreaterThan(a)
        | RetrievalFilter::GreaterThanOrEquals(a)
        | RetrievalFilter::LessThan(a)
        | RetrievalFilter::LessThanOrEquals(a) => of(a) == Some(&AttributeType::Number),
        RetrievalFilter::In(a) | RetrievalFilter::NotIn(a) => {
            let list = a.value.as_array();
            of(a).zip(list).is_some_and(|(kind, list)| list.iter().all(|value| typed(value, kind)))
        }
        RetrievalFilter::StartsWith(a) => of(a) == Some(&AttributeType::String),
        RetrievalFilter::StringContains(a) => {
            of(a).is_some_and(|kind| matches!(kind, AttributeType::String | AttributeType::StringList))
        }
        RetrievalFilter::ListContains(a) => of(a) == Some(&AttributeType::StringList),
        _ => false,
    }
}

/// Both, where there are both.
pub(crate) fn both(one: Option<RetrievalFilter>, other: Option<RetrievalFilter>) -> Option<RetrievalFilter> {
    match (one, other) {
        (Some(one), Some(other)) => Some(RetrievalFilter::AndAll(vec![one, other])),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use bedrock_core::testing::ScriptedModel;
    use futures::executor::block_on;
    use serde_json::json;

    use super::*;

    fn attributes() -> Vec<MetadataAttributeSchema> {
        [("year", AttributeType::Number), ("dept", AttributeType::String), ("tags", AttributeType::StringList)]
            .map(|(key, kind)| MetadataAttributeSchema { key: key.into(), kind, description: "of it".into() })
            .into()
    }

    #[test]
    fn filters_are_taken_only_as_they_were_asked_for() {
        let parse = |said: &str| parse_filter(said, &attributes()).map(|filter| serde_json::to_value(filter).unwrap());
        let equals = json!({"equals": {"key": "year", "value": 2024}});
        for good in [
            r#"{"equals": {"key": "year", "value": 2024}}"#,
            "Sure!\n```json\n{\"equals\": {\"key\": \"year\", \"value\": 2024}}\n```\nThat is {it}.",
        ] {
            assert_eq!(parse(good), Some(equals.clone()), "{good}");
        }
        assert!(parse(r#"{"orAll": [{"in": {"key": "dept", "value": ["hr", "it"]}}, {"listContains": {"key": "tags", "value": "x"}}]}"#).is_some());
        for bad in [
            "{}",
            "",
            "none",
            "{\"equals\"",
            r#"{"equals": {"key": "secret", "value": 1}}"#,
            r#"{"equals": {"key": "year", "value": "2024"}}"#,
            r#"{"startsWith": {"key": "tags", "value": "x"}}"#,
            r#"{"andAll": [{"equals": {"key": "year", "value": 1}}]}"#,
            r#"{"greaterThan": {"key": "dept", "value": 1}}"#,
            r#"{"in": {"key": "year", "value": ["x"]}}"#,
            &format!("{{{}", "x".repeat(MAX_FILTER)),
            &r#"{"andAll":["#.repeat(1000),
        ] {
            assert_eq!(parse(bad), None, "{bad:.80}");
        }
    }

    #[test]
    fn questions_are_read_from_lists() {
        let ask = |said: &str| {
            let model = ScriptedModel::new([said]);
            block_on(decomposed(&model, "m", None, "the question", &mut TokenUsage::default())).unwrap()
        };
        assert_eq!(
            ask("1. Who?\n2) When?\n- Where?\n\n  Who?\n2024 was what?"),
            ["Who?", "When?", "Where?", "2024 was what?"]
        );
        assert_eq!(ask(" \n"), ["the question"]);
        assert_eq!(ask("a\nb\nc\nd\ne\nf").len(), MAX_QUESTIONS);
    }

    #[test]
    fn a_follow_up_is_made_to_stand_alone() {
        let history = [Turn { question: "How long is parental leave?".into(), answer: "Sixteen weeks.".into() }];
        let model = ScriptedModel::new(["Question: Is parental leave paid?", ""]);
        let ask = |history: &[Turn]| {
            block_on(standalone(&model, "m", history, "Is it paid?", &mut TokenUsage::default())).unwrap()
        };
        assert_eq!(ask(&[]), "Is it paid?", "the model is not asked");
        assert_eq!(ask(&history), "Is parental leave paid?");
        assert_eq!(ask(&history), "Is it paid?");
        let prompt = model.requests()[0].messages[0].text();
        assert!(prompt.contains("User: How long is parental leave?\nAssistant: Sixteen weeks."), "{prompt}");
    }
}
