//! Metadata sidecars: `report.pdf.metadata.json` beside `report.pdf`, as the service reads them.

use serde_json::Value;

use super::Metadata;
use crate::Error;

/// What a sidecar's name ends in.
pub const SIDECAR_SUFFIX: &str = ".metadata.json";

/// Largest sidecar, in bytes (the service's limit is 10 KB).
pub(crate) const MAX_SIDECAR_BYTES: u64 = 10 * 1024;

const MAX_ATTRIBUTES: usize = 50;

/// Reads `{"metadataAttributes": {key: value}}`, where a value is a string, number, boolean or list of strings, or the
/// service's long form `{"value": {"type": "STRING", "stringValue": "…"}, "includeForEmbedding": false}`.
///
/// # Errors
/// [`Error::BadMetadata`] for anything else, and for more than 50 attributes.
pub fn parse_sidecar(name: &str, bytes: &[u8]) -> Result<Metadata, Error> {
    let bad = |reason: String| Error::BadMetadata { name: name.to_owned(), reason };
    let value: Value = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
    let attributes = value
        .get("metadataAttributes")
        .and_then(Value::as_object)
        .ok_or_else(|| bad("no object `metadataAttributes`".to_owned()))?;
    if attributes.len() > MAX_ATTRIBUTES {
        return Err(bad(format!("{} attributes, the limit is {MAX_ATTRIBUTES}", attributes.len())));
    }
    let mut metadata = Metadata::new();
    for (key, value) in attributes {
        let plain = match value {
            Value::Object(long) => {
                long_form(long).ok_or_else(|| bad(format!("attribute `{key}` has no usable value")))?
            }
            other => other.clone(),
        };
        if !is_attribute_value(&plain) {
            return Err(bad(format!("attribute `{key}` is not a string, number, boolean or list of strings")));
        }
        metadata.insert(key.clone(), plain);
    }
    Ok(metadata)
}

fn long_form(object: &serde_json::Map<String, Value>) -> Option<Value> {
    let value = object.get("value")?.as_object()?;
    let field = match value.get("type")?.as_str()? {
        "STRING" => "stringValue",
        "NUMBER" => "numberValue",
        "BOOLEAN" => "booleanValue",
        "STRING_LIST" => "stringListValue",
        _ => return None,
    };
    value.get(field).cloned()
}

fn is_attribute_value(value: &Value) -> bool {
    match value {
        Value::String(_) | Value::Number(_) | Value::Bool(_) => true,
        Value::Array(items) => items.iter().all(Value::is_string),
        Value::Null | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let sidecar = br#"{"metadataAttributes": {"year": 2024, "tags": ["a", "b"],
            "dept": {"value": {"type": "STRING", "stringValue": "hr"}, "includeForEmbedding": true}}}"#;
        let metadata = parse_sidecar("x", sidecar).unwrap();
        assert_eq!(metadata["year"], 2024);
        assert_eq!(metadata["dept"], "hr");
        assert_eq!(metadata["tags"][1], "b");
    }

    #[test]
    fn anything_else_is_an_error_that_names_the_file() {
        for bad in
            ["", "[]", "{}", r#"{"metadataAttributes": {"a": null}}"#, r#"{"metadataAttributes": {"a": {"b": 1}}}"#]
        {
            let error = parse_sidecar("leave.md.metadata.json", bad.as_bytes()).unwrap_err();
            assert!(error.to_string().contains("leave.md.metadata.json"), "{error}");
        }
    }
}
