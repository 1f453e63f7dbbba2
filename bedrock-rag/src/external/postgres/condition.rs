//! Filters as SQL over `jsonb`.
//!
//! Values of `jsonb` compare as the filters mean it: by type, numbers by value. A condition on an attribute that is not there is
//! NULL, which `IS TRUE` makes false.

use bedrock_core::{Error, FilterAttribute, RetrievalFilter};
use serde_json::Value;

/// Most parameters of a statement; the protocol has room for 65,535.
const MAX_PARAMETERS: usize = 10_000;

/// Conditions, and the parameters that they name.
#[derive(Debug)]
pub(super) struct Condition {
    /// Number of the first.
    first: usize,
    pub(super) parameters: Vec<String>,
}

impl Condition {
    pub(super) fn new(first: usize) -> Self {
        Self { first, parameters: Vec::new() }
    }

    fn parameter(&mut self, value: String) -> Result<String, Error> {
        if value.contains('\0') || value.contains("\\u0000") {
            return Err(Error::validation("the filter holds a NUL, which PostgreSQL keeps nowhere"));
        }
        if self.parameters.len() == MAX_PARAMETERS {
            return Err(Error::validation(format!("the filter has more than {} conditions", MAX_PARAMETERS / 2)));
        }
        self.parameters.push(value);
        Ok(format!("${}::text", self.first + self.parameters.len() - 1))
    }

    pub(super) fn of(&mut self, filter: Option<&RetrievalFilter>) -> Result<String, Error> {
        let Some(filter) = filter else { return Ok("true".to_owned()) };
        Ok(match filter {
            RetrievalFilter::AndAll(all) => self.joined(all, " AND ")?,
            RetrievalFilter::OrAll(all) => self.joined(all, " OR ")?,
            RetrievalFilter::Equals(a) => format!("({} IS TRUE)", self.equal(a)?),
            RetrievalFilter::NotEquals(a) => format!("({} IS NOT TRUE)", self.equal(a)?),
            RetrievalFilter::GreaterThan(a) => self.compared(a, ">")?,
            RetrievalFilter::GreaterThanOrEquals(a) => self.compared(a, ">=")?,
            RetrievalFilter::LessThan(a) => self.compared(a, "<")?,
            RetrievalFilter::LessThanOrEquals(a) => self.compared(a, "<=")?,
            RetrievalFilter::In(a) => format!("({} IS TRUE)", self.among(a)?),
            RetrievalFilter::NotIn(a) => format!("({} IS NOT TRUE)", self.among(a)?),
            RetrievalFilter::StartsWith(a) => {
                let (key, text) = (self.parameter(a.key.clone())?, self.text(a)?);
                format!("(jsonb_typeof(metadata -> {key}) = 'string' AND starts_with(metadata ->> {key}, {text}))")
            }
            RetrievalFilter::StringContains(a) => {
                let (key, text) = (self.parameter(a.key.clone())?, self.text(a)?);
                let inside = |value: &str| format!("strpos({value}, {text}) > 0");
                format!(
                    "CASE jsonb_typeof(metadata -> {key}) WHEN 'string' THEN {} WHEN 'array' THEN EXISTS (\
                     SELECT FROM jsonb_array_elements(metadata -> {key}) AS e WHERE jsonb_typeof(e) = 'string' AND {}) \
                     ELSE false END",
                    inside(&format!("metadata ->> {key}")),
                    inside("e #>> '{}'"),
                )
            }
            RetrievalFilter::ListContains(a) => {
                let (key, value) = (self.parameter(a.key.clone())?, self.parameter(a.value.to_string())?);
                format!(
                    "CASE jsonb_typeof(metadata -> {key}) WHEN 'array' THEN EXISTS (\
                     SELECT FROM jsonb_array_elements(metadata -> {key}) AS e WHERE e = {value}::jsonb) ELSE false END"
                )
            }
            other => return Err(Error::validation(format!("this version can't ask PostgreSQL for {other:?}"))),
        })
    }

    fn joined(&mut self, all: &[RetrievalFilter], by: &str) -> Result<String, Error> {
        let all = all.iter().map(|one| self.of(Some(one))).collect::<Result<Vec<_>, _>>()?;
        Ok(format!("({})", all.join(by)))
    }

    fn text(&mut self, a: &FilterAttribute) -> Result<String, Error> {
        self.parameter(a.value.as_str().unwrap_or_default().to_owned())
    }

    /// NULL if there is no such attribute. A single value is asked for by containment, for which there is an index, and once more by
    /// equality, because a list contains its elements too.
    fn equal(&mut self, a: &FilterAttribute) -> Result<String, Error> {
        let (key, value) = (self.parameter(a.key.clone())?, self.parameter(a.value.to_string())?);
        let contained = match &a.value {
            Value::Array(_) | Value::Object(_) => String::new(),
            _ => format!("metadata @> jsonb_build_object({key}, {value}::jsonb) AND "),
        };
        Ok(format!("({contained}metadata -> {key} = {value}::jsonb)"))
    }

    fn among(&mut self, a: &FilterAttribute) -> Result<String, Error> {
        let (key, value) = (self.parameter(a.key.clone())?, self.parameter(a.value.to_string())?);
        Ok(format!("(metadata -> {key} IN (SELECT jsonb_array_elements({value}::jsonb)))"))
    }

    fn compared(&mut self, a: &FilterAttribute, operator: &str) -> Result<String, Error> {
        let (key, value) = (self.parameter(a.key.clone())?, self.parameter(a.value.to_string())?);
        Ok(format!(
            "CASE jsonb_typeof(metadata -> {key}) WHEN 'number' THEN (metadata ->> {key})::numeric {operator} {value}::numeric \
             ELSE false END"
        ))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_parameters() {
        let filter = serde_json::from_value(json!({"andAll": [
            {"equals": {"key": "a'); DROP", "value": "x'y"}}, {"greaterThan": {"key": "n", "value": 2.5}}]}));
        let mut condition = Condition::new(2);
        let sql = condition.of(Some(&filter.unwrap())).unwrap();
        assert_eq!(condition.parameters, ["a'); DROP", "\"x'y\"", "n", "2.5"]);
        assert!(sql.contains("$2::text") && sql.contains("$5::text::numeric") && !sql.contains("DROP"), "{sql}");
        let nul = RetrievalFilter::equals("a", "\0");
        assert!(matches!(Condition::new(2).of(Some(&nul)), Err(Error::Validation { .. })));
    }
}
