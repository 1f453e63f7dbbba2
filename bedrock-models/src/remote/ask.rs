//! What the requests of all providers have in common: what none of them honours, and what is merged or looked up.

use bedrock_core::{
    ContentBlock, ConverseRequest, DocumentBlock, DocumentContentBlock, DocumentFormat, DocumentSource, Error,
    JsonSchemaDefinition, OutputFormatStructure, PerformanceConfigLatency, ToolResultContentBlock,
};
use serde_json::{Map, Value};

/// A validation error that names a field.
pub(super) fn refuse<T>(field: impl std::fmt::Display, why: impl std::fmt::Display) -> Result<T, Error> {
    Err(Error::validation(format!("{field}: {why}")))
}

/// A content block that a provider does not take.
pub(super) fn refuse_block<T>(place: &str, block: &ContentBlock) -> Result<T, Error> {
    refuse(format_args!("{place}.{}", block.kind()), "this model can't take it")
}

/// Checks a request by the rules of the service, and refuses what only the service itself has.
pub(super) fn check(request: &ConverseRequest) -> Result<(), Error> {
    request.validate()?;
    if request.guardrail_config.is_some() {
        return refuse("guardrailConfig", "this model has no guardrails of its own: wrap it in one");
    }
    if !request.prompt_variables.is_empty() {
        return refuse("promptVariables", "this model has no stored prompts");
    }
    let latency = request.performance_config.as_ref().and_then(|config| config.latency.as_ref());
    if latency == Some(&PerformanceConfigLatency::Optimized) {
        return refuse("performanceConfig.latency", "this model has no optimized mode");
    }
    Ok(())
}

/// Refuses levels of effort.
pub(super) fn no_effort(request: &ConverseRequest) -> Result<(), Error> {
    match request.output_config.as_ref().and_then(|config| config.effort.as_ref()) {
        Some(_) => refuse("outputConfig.effort", "this model has no levels of effort"),
        None => Ok(()),
    }
}

/// Refuses queues.
pub(super) fn no_tier(request: &ConverseRequest) -> Result<(), Error> {
    match &request.service_tier {
        Some(tier) if tier.kind != bedrock_core::ServiceTierType::Default => {
            refuse("serviceTier.type", "this model has the default tier alone")
        }
        _ => Ok(()),
    }
}

/// The schema of the answer's text, if it shall have one.
pub(super) fn schema(request: &ConverseRequest) -> Result<Option<(Value, &JsonSchemaDefinition)>, Error> {
    let Some(format) = request.output_config.as_ref().and_then(|config| config.text_format.as_ref()) else {
        return Ok(None);
    };
    let field = "outputConfig.textFormat.structure";
    match &format.structure {
        OutputFormatStructure::JsonSchema(definition) => match serde_json::from_str(&definition.schema) {
            Ok(schema) => Ok(Some((schema, definition))),
            Err(error) => refuse(format_args!("{field}.jsonSchema.schema"), format_args!("not JSON: {error}")),
        },
        _ => refuse(field, "only JSON schemas are supported"),
    }
}

/// Adds `additionalModelRequestFields` to a body. The provider checks them; they can't overrule what the request says elsewhere.
pub(super) fn add_fields(body: &mut Map<String, Value>, request: &ConverseRequest, own: &[&str]) -> Result<(), Error> {
    let Some(Value::Object(fields)) = &request.additional_model_request_fields else { return Ok(()) };
    for (name, value) in fields {
        if own.contains(&name.as_str()) || body.contains_key(name) {
            return refuse(format_args!("additionalModelRequestFields.{name}"), "is said elsewhere in the request");
        }
        body.insert(name.clone(), value.clone());
    }
    Ok(())
}

/// What JSON pointers find in the model's own answer, at the place where they found it.
pub(super) fn find(paths: &[String], answer: &Value, into: &mut Map<String, Value>) {
    for path in paths {
        if let Some(found) = answer.pointer(path) {
            let names: Vec<String> =
                path[1..].split('/').map(|name| name.replace("~1", "/").replace("~0", "~")).collect();
            put(into, &names, found);
        }
    }
}

/// Puts a value below the names that lead to it, unless another pointer found all of that already.
fn put(into: &mut Map<String, Value>, names: &[String], found: &Value) {
    match names {
        [] => {}
        [last] => {
            into.insert(last.clone(), found.clone());
        }
        [first, rest @ ..] => {
            if let Value::Object(fields) = into.entry(first.clone()).or_insert_with(|| Value::Object(Map::new())) {
                put(fields, rest, found);
            }
        }
    }
}

/// The text of a document that is text, under its name, for models that read no files. `None` for other formats.
pub(super) fn document_text(block: &DocumentBlock) -> Option<String> {
    let text = match &block.source {
        DocumentSource::Text(text) => text.clone(),
        DocumentSource::Content(pieces) => {
            let texts = pieces.iter().map(|piece| match piece {
                DocumentContentBlock::Text(text) => Some(text.as_str()),
                _ => None,
            });
            texts.collect::<Option<Vec<_>>>()?.join("\n")
        }
        DocumentSource::Bytes(bytes) => {
            use DocumentFormat::{Csv, Html, Md, Txt};
            let text = matches!(block.format, Some(Txt | Md | Csv | Html));
            text.then(|| String::from_utf8(bytes.0.clone()).ok()).flatten()?
        }
        _ => return None,
    };
    let context = block.context.iter().map(|context| format!("{context}\n"));
    Some(format!("{}\n{}{text}", block.name, context.collect::<String>()))
}

/// Whether a document shall be cited.
pub(super) fn wants_citations(block: &DocumentBlock) -> bool {
    block.citations.as_ref().is_some_and(|citations| citations.enabled)
}

/// The answer of a tool as one text; `None` if it has parts that are none.
pub(super) fn result_text(parts: &[ToolResultContentBlock]) -> Option<String> {
    let texts = parts.iter().map(|part| match part {
        ToolResultContentBlock::Text(text) => Some(text.clone()),
        ToolResultContentBlock::Json(value) => Some(value.to_string()),
        ToolResultContentBlock::Document(block) if !wants_citations(block) => document_text(block),
        _ => None,
    });
    Some(texts.collect::<Option<Vec<_>>>()?.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pointers_keep_their_place() {
        let answer = json!({"id": "x", "usage": {"a": 1, "b": {"c": 2}}, "s/t": null});
        let paths = ["/usage/b/c", "/usage/a", "/id", "/id/deeper", "/none", "/s~1t", "/usage/b"].map(String::from);
        let mut found = Map::new();
        find(&paths, &answer, &mut found);
        assert_eq!(Value::Object(found), json!({"usage": {"b": {"c": 2}, "a": 1}, "id": "x", "s/t": null}));
    }

    #[test]
    fn fields_do_not_overrule() {
        let request = |name: &str| ConverseRequest::new("m").user("x").additional_field(name, 1);
        let mut body = Map::from_iter([("model".to_owned(), json!("m"))]);
        add_fields(&mut body, &request("seed"), &["stop"]).unwrap();
        assert_eq!(body["seed"], 1);
        for name in ["model", "stop", "seed"] {
            assert!(add_fields(&mut body, &request(name), &["stop"]).is_err(), "{name}");
        }
    }
}
