//! Cases of kind `chat_templates`: conversations as a model's template writes them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::case::Case;
use super::findings::{Findings, Stop};
use crate::chat_template::{ChatTemplate, TemplateInput};
use crate::error::Error;

#[derive(Deserialize)]
struct Expected {
    templates: BTreeMap<String, Template>,
}

#[derive(Deserialize)]
struct Template {
    path: String,
    #[serde(default)]
    special_tokens: BTreeMap<String, String>,
    cases: Vec<Conversation>,
}

#[derive(Deserialize)]
struct Conversation {
    name: String,
    messages: Vec<Value>,
    tools: Option<Vec<Value>>,
    add_generation_prompt: bool,
    #[serde(default)]
    kwargs: Map<String, Value>,
    rendered: Option<String>,
    error: Option<String>,
    error_type: Option<String>,
}

pub(super) fn check(case: &Case, findings: &mut Findings) -> Result<(), Stop> {
    let expected: Expected = case.expected()?;
    for (name, template) in &expected.templates {
        let mut model = ChatTemplate::from_folder(case.folder.join(&template.path))?;
        for (role, text) in &template.special_tokens {
            model = model.with_token(role, text);
        }
        for conversation in &template.cases {
            let what = format!("{name}/{}", conversation.name);
            let got = model.render(&TemplateInput {
                messages: &conversation.messages,
                tools: conversation.tools.as_deref(),
                add_generation_prompt: conversation.add_generation_prompt,
                variables: Some(&conversation.kwargs),
                ..TemplateInput::default()
            });
            match (got, &conversation.rendered, &conversation.error) {
                (Ok(got), Some(want), _) => findings.same(what, &got, want),
                // The message of `raise_exception` is the model maker's; that of another failure is the engine's own.
                (Err(Error::TemplateRefused { message }), None, Some(want)) => {
                    findings.same(format!("refusal of {what}"), &message, want);
                }
                (Err(Error::TemplateFailed { .. }), None, Some(_))
                    if conversation.error_type.as_deref() != Some("TemplateError") =>
                {
                    findings.same(format!("whether {what} fails"), &true, &true);
                }
                (Ok(got), None, _) => findings.differs(format!("{what} was rendered, but should fail: {got:?}")),
                (Err(error), ..) => findings.differs(format!("{what}: {}", super::findings::chain(&error))),
            }
        }
    }
    Ok(())
}
