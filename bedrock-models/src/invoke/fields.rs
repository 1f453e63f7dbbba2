//! Reading a body field by field, so that what is wrong is said as the service says it and nothing is left out silently.

use bedrock_core::Error;
use serde_json::{Map, Value};

/// The service's limit of a body.
const MOST_BYTES: usize = 25_000_000;

/// An object of a body, of which every field has to be taken.
#[derive(Debug)]
pub(super) struct Fields {
    /// JSON pointer of the object, after `#`.
    path: String,
    fields: Map<String, Value>,
}

/// What is wrong with a body, as the service words it.
pub(super) fn malformed(what: impl std::fmt::Display) -> Error {
    Error::validation(format!("Malformed input request: {what}, please reformat your input and try again."))
}

impl Fields {
    /// The whole body.
    pub(super) fn read(body: &[u8]) -> Result<Self, Error> {
        if body.len() > MOST_BYTES {
            let got = body.len();
            return Err(Error::validation(format!("the body has {got} bytes, at most {MOST_BYTES} are allowed")));
        }
        // Not the parser's own words: they may quote the body.
        let value: Value = serde_json::from_slice(body)
            .map_err(|error| malformed(format!("not JSON (line {}, column {})", error.line(), error.column())))?;
        Self::of(value, String::new())
    }

    /// A value inside a body.
    pub(super) fn of(value: Value, path: String) -> Result<Self, Error> {
        match value {
            Value::Object(fields) => Ok(Self { path, fields }),
            other => Err(wrong_type(&path, "JSONObject", &other)),
        }
    }

    fn at(&self, key: &str) -> String {
        format!("{}/{key}", self.path)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.fields.contains_key(key)
    }

    /// Takes a field as it is.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.fields.remove(key)
    }

    /// Puts a field back.
    pub(super) fn put(&mut self, key: &str, value: Value) {
        self.fields.insert(key.to_string(), value);
    }

    /// Takes a field that must be there.
    pub(super) fn required<T>(
        &mut self,
        key: &str,
        take: impl FnOnce(&mut Self, &str) -> Result<Option<T>, Error>,
    ) -> Result<T, Error> {
        let path = self.path.clone();
        take(self, key)?.ok_or_else(|| malformed(format!("#{path}: required key [{key}] not found")))
    }

    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, Error> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(&self.at(key), "String", &other)),
        }
    }

    /// A text that is not empty.
    pub(super) fn some_text(&mut self, key: &str) -> Result<Option<String>, Error> {
        match self.text(key)? {
            Some(text) if text.is_empty() => {
                Err(malformed(format!("#{}: expected minLength: 1, actual: 0", self.at(key))))
            }
            text => Ok(text),
        }
    }

    pub(super) fn boolean(&mut self, key: &str) -> Result<Option<bool>, Error> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(wrong_type(&self.at(key), "Boolean", &other)),
        }
    }

    /// A number in a range, ends included.
    pub(super) fn number(&mut self, key: &str, low: f64, high: f64) -> Result<Option<f64>, Error> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let Some(number) = value.as_f64() else { return Err(wrong_type(&self.at(key), "Number", &value)) };
        if number < low {
            return Err(malformed(format!("#{}: {value} is not greater or equal to {low}", self.at(key))));
        }
        if number > high {
            return Err(malformed(format!("#{}: {value} is not less or equal to {high}", self.at(key))));
        }
        Ok(Some(number))
    }

    /// A whole number in a range, ends included.
    pub(super) fn integer(&mut self, key: &str, low: u64, high: u64) -> Result<Option<u64>, Error> {
        match self.fields.get(key) {
            Some(value) if value.is_number() && value.as_i64().is_none() && value.as_u64().is_none() => {
                Err(wrong_type(&self.at(key), "Integer", value))
            }
            Some(value) if !value.is_number() => Err(wrong_type(&self.at(key), "Integer", value)),
            _ => Ok(self.number(key, low as f64, high as f64)?.map(|number| number as u64)),
        }
    }

    /// Most tokens of the answer.
    pub(super) fn tokens(&mut self, key: &str, high: u32) -> Result<Option<u32>, Error> {
        Ok(self.integer(key, 1, u64::from(high))?.map(|tokens| tokens as u32))
    }

    pub(super) fn list(&mut self, key: &str) -> Result<Option<Vec<Value>>, Error> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(other) => Err(wrong_type(&self.at(key), "JSONArray", &other)),
        }
    }

    /// Objects of a list.
    pub(super) fn objects(&mut self, key: &str) -> Result<Option<Vec<Self>>, Error> {
        let Some(items) = self.list(key)? else { return Ok(None) };
        let objects =
            items.into_iter().enumerate().map(|(index, item)| Self::of(item, format!("{}/{index}", self.at(key))));
        objects.collect::<Result<_, _>>().map(Some)
    }

    /// Texts of a list, at most so many.
    pub(super) fn texts(&mut self, key: &str, most: usize) -> Result<Option<Vec<String>>, Error> {
        let Some(items) = self.list(key)? else { return Ok(None) };
        if items.len() > most {
            return Err(malformed(format!(
                "#{}: expected maximum item count: {most}, found: {}",
                self.at(key),
                items.len()
            )));
        }
        let text = |(index, item)| match item {
            Value::String(text) => Ok(text),
            other => Err(wrong_type(&format!("{}/{index}", self.at(key)), "String", &other)),
        };
        items.into_iter().enumerate().map(text).collect::<Result<_, _>>().map(Some)
    }

    pub(super) fn object(&mut self, key: &str) -> Result<Option<Self>, Error> {
        self.take(key).map(|value| Self::of(value, self.at(key))).transpose()
    }

    /// A text that must be one of some.
    pub(super) fn label(&mut self, key: &str, allowed: &[&str]) -> Result<Option<String>, Error> {
        match self.text(key)? {
            Some(text) if !allowed.contains(&text.as_str()) => {
                Err(malformed(format!("#{}: {text} is not a valid enum value", self.at(key))))
            }
            text => Ok(text),
        }
    }

    /// A field that the service knows and this translation does not, unless it has the value that means nothing.
    pub(super) fn refuse(&mut self, key: &str, means_nothing: &[Value], why: &str) -> Result<(), Error> {
        match self.take(key) {
            Some(value) if !means_nothing.contains(&value) => Err(self.unsupported(key, why)),
            _ => Ok(()),
        }
    }

    pub(super) fn unsupported(&self, key: &str, why: &str) -> Error {
        malformed(format!("#{}: {why}", self.at(key)))
    }

    /// Ends reading: every field must have been taken.
    pub(super) fn end(mut self) -> Result<(), Error> {
        self.refuse(
            "amazon-bedrock-guardrailConfig",
            &[],
            "no guardrail identifier is given with this call; put a guardrail around the model",
        )?;
        match self.fields.keys().next() {
            None => Ok(()),
            Some(key) => Err(malformed(format!("#{}: extraneous key [{key}] is not permitted", self.path))),
        }
    }
}

fn wrong_type(path: &str, expected: &str, found: &Value) -> Error {
    let found = match found {
        Value::Null => "Null",
        Value::Bool(_) => "Boolean",
        Value::Number(number) if number.is_f64() => "Double",
        Value::Number(_) => "Integer",
        Value::String(_) => "String",
        Value::Array(_) => "JSONArray",
        Value::Object(_) => "JSONObject",
    };
    malformed(format!("#{path}: expected type: {expected}, found: {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: Value) -> Fields {
        Fields::of(value, String::new()).unwrap()
    }

    fn message<T: std::fmt::Debug>(outcome: Result<T, Error>) -> String {
        let text = outcome.unwrap_err().to_string();
        let text = text.strip_prefix("Malformed input request: ").unwrap();
        text.strip_suffix(", please reformat your input and try again.").unwrap().to_string()
    }

    #[test]
    fn what_is_wrong_is_said_in_the_services_words() {
        let mut body =
            fields(json!({"a": 2, "b": "x", "c": 1.5, "d": "", "e": ["x", 1], "f": [], "g": "G", "h": null, "i": -1}));
        assert_eq!(message(body.number("a", 0.0, 1.0)), "#/a: 2 is not less or equal to 1");
        assert_eq!(message(body.number("b", 0.0, 1.0)), "#/b: expected type: Number, found: String");
        assert_eq!(message(body.integer("c", 0, 9)), "#/c: expected type: Integer, found: Double");
        assert_eq!(message(body.some_text("d")), "#/d: expected minLength: 1, actual: 0");
        assert_eq!(message(body.texts("e", 2)), "#/e/1: expected type: String, found: Integer");
        assert_eq!(message(body.object("f")), "#/f: expected type: JSONObject, found: JSONArray");
        assert_eq!(message(body.label("g", &["H"])), "#/g: G is not a valid enum value");
        assert_eq!(message(body.text("h")), "#/h: expected type: String, found: Null");
        assert_eq!(message(body.integer("i", 1, 9)), "#/i: -1 is not greater or equal to 1");
        assert_eq!(message(body.required("z", Fields::text)), "#: required key [z] not found");
        assert_eq!(message(body.end()), "#: extraneous key [c] is not permitted");
        assert_eq!(message(Fields::read(b"[]")), "#: expected type: JSONObject, found: JSONArray");
        assert_eq!(message(Fields::read(b"{\"secret\": s")), "not JSON (line 1, column 12)");
        assert_eq!(
            message(fields(json!({"e": ["a", "b", "c"]})).texts("e", 2)),
            "#/e: expected maximum item count: 2, found: 3"
        );
        assert!(Fields::read(&vec![b' '; MOST_BYTES + 1]).is_err());
    }
}
