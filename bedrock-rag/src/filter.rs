//! Metadata filters with the service's operators and semantics.

use std::cmp::Ordering;

use bedrock_core::{FilterAttribute, RetrievalFilter};
use serde_json::Value;

use crate::Error;
use crate::document::Metadata;

/// Deepest nesting of `andAll` and `orAll`.
const MAX_DEPTH: usize = 8;

/// Checks that a filter makes sense, before it is asked about many documents.
///
/// # Errors
/// [`Error::InvalidRequest`] for a value of a type that the operator can't compare, for fewer than two conditions in
/// `andAll` or `orAll`, and for nesting deeper than 8.
pub fn validate(filter: &RetrievalFilter) -> Result<(), Error> {
    validate_at(filter, 0)
}

fn validate_at(filter: &RetrievalFilter, depth: usize) -> Result<(), Error> {
    let invalid = |reason: String| Err(Error::InvalidRequest(reason));
    if depth > MAX_DEPTH {
        return invalid(format!("filter: nested deeper than {MAX_DEPTH}"));
    }
    let expect = |operator: &str, attribute: &FilterAttribute, fits: bool, expected: &str| {
        if fits {
            Ok(())
        } else {
            invalid(format!("filter.{operator}: the value for `{}` must be {expected}", attribute.key))
        }
    };
    match filter {
        RetrievalFilter::AndAll(all) | RetrievalFilter::OrAll(all) => {
            if all.len() < 2 {
                return invalid("filter: andAll and orAll need at least two conditions".to_owned());
            }
            all.iter().try_for_each(|filter| validate_at(filter, depth + 1))
        }
        RetrievalFilter::GreaterThan(a)
        | RetrievalFilter::GreaterThanOrEquals(a)
        | RetrievalFilter::LessThan(a)
        | RetrievalFilter::LessThanOrEquals(a) => expect("comparison", a, a.value.is_number(), "a number"),
        RetrievalFilter::In(a) | RetrievalFilter::NotIn(a) => expect("in", a, a.value.is_array(), "a list"),
        RetrievalFilter::StartsWith(a) => expect("startsWith", a, a.value.is_string(), "a string"),
        RetrievalFilter::StringContains(a) => expect("stringContains", a, a.value.is_string(), "a string"),
        RetrievalFilter::ListContains(a) => expect("listContains", a, a.value.is_string(), "a string"),
        RetrievalFilter::Equals(_) | RetrievalFilter::NotEquals(_) => Ok(()),
        other => invalid(format!("filter: this version does not know {other:?}")),
    }
}

/// Whether a document's attributes pass. A document without the attribute fails every condition but `notEquals` and
/// `notIn`; values of different types are never equal and never compare.
pub fn passes(filter: &RetrievalFilter, metadata: &Metadata) -> bool {
    let get = |attribute: &FilterAttribute| metadata.get(&attribute.key);
    let compares = |attribute: &FilterAttribute, wanted: &[Ordering]| {
        let found = get(attribute).and_then(Value::as_f64);
        let ordering = found.zip(attribute.value.as_f64()).and_then(|(found, value)| found.partial_cmp(&value));
        ordering.is_some_and(|ordering| wanted.contains(&ordering))
    };
    let is_in = |attribute: &FilterAttribute| {
        let list = attribute.value.as_array();
        get(attribute).is_some_and(|found| list.is_some_and(|list| list.iter().any(|value| equal(found, value))))
    };
    match filter {
        RetrievalFilter::AndAll(all) => all.iter().all(|filter| passes(filter, metadata)),
        RetrievalFilter::OrAll(all) => all.iter().any(|filter| passes(filter, metadata)),
        RetrievalFilter::Equals(a) => get(a).is_some_and(|found| equal(found, &a.value)),
        RetrievalFilter::NotEquals(a) => !get(a).is_some_and(|found| equal(found, &a.value)),
        RetrievalFilter::GreaterThan(a) => compares(a, &[Ordering::Greater]),
        RetrievalFilter::GreaterThanOrEquals(a) => compares(a, &[Ordering::Greater, Ordering::Equal]),
        RetrievalFilter::LessThan(a) => compares(a, &[Ordering::Less]),
        RetrievalFilter::LessThanOrEquals(a) => compares(a, &[Ordering::Less, Ordering::Equal]),
        RetrievalFilter::In(a) => is_in(a),
        RetrievalFilter::NotIn(a) => !is_in(a),
        RetrievalFilter::StartsWith(a) => {
            let prefix = a.value.as_str();
            get(a).and_then(Value::as_str).zip(prefix).is_some_and(|(found, prefix)| found.starts_with(prefix))
        }
        RetrievalFilter::ListContains(a) => {
            get(a).and_then(Value::as_array).is_some_and(|list| list.iter().any(|item| equal(item, &a.value)))
        }
        RetrievalFilter::StringContains(a) => {
            let Some(part) = a.value.as_str() else { return false };
            let contains = |value: &Value| value.as_str().is_some_and(|text| text.contains(part));
            match get(a) {
                Some(Value::Array(list)) => list.iter().any(contains),
                Some(value) => contains(value),
                None => false,
            }
        }
        // Refused by `validate`; nothing passes what is not understood.
        _ => false,
    }
}

/// Equality of JSON values, where 1 and 1.0 are one number.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(filter: Value) -> bool {
        let filter: RetrievalFilter = serde_json::from_value(filter).unwrap();
        validate(&filter).unwrap();
        let Value::Object(metadata) =
            json!({"year": 2024, "dept": "people", "tags": ["leave", "pay"], "public": true, "ratio": 1.0})
        else {
            unreachable!()
        };
        passes(&filter, &metadata)
    }

    #[test]
    fn every_operator() {
        let cases = [
            (json!({"equals": {"key": "year", "value": 2024.0}}), true),
            (json!({"equals": {"key": "year", "value": "2024"}}), false),
            (json!({"equals": {"key": "none", "value": 1}}), false),
            (json!({"equals": {"key": "public", "value": true}}), true),
            (json!({"notEquals": {"key": "none", "value": 1}}), true),
            (json!({"notEquals": {"key": "dept", "value": "people"}}), false),
            (json!({"greaterThan": {"key": "year", "value": 2024}}), false),
            (json!({"greaterThanOrEquals": {"key": "year", "value": 2024}}), true),
            (json!({"lessThan": {"key": "ratio", "value": 1.5}}), true),
            (json!({"lessThanOrEquals": {"key": "dept", "value": 3}}), false),
            (json!({"in": {"key": "dept", "value": ["it", "people"]}}), true),
            (json!({"notIn": {"key": "dept", "value": ["it"]}}), true),
            (json!({"notIn": {"key": "none", "value": ["it"]}}), true),
            (json!({"startsWith": {"key": "dept", "value": "peo"}}), true),
            (json!({"listContains": {"key": "tags", "value": "pay"}}), true),
            (json!({"listContains": {"key": "dept", "value": "people"}}), false),
            (json!({"stringContains": {"key": "tags", "value": "eav"}}), true),
            (json!({"stringContains": {"key": "dept", "value": "eopl"}}), true),
            (
                json!({"andAll": [{"equals": {"key": "year", "value": 2024}}, {"equals": {"key": "dept", "value": "it"}}]}),
                false,
            ),
            (
                json!({"orAll": [{"equals": {"key": "year", "value": 2024}}, {"equals": {"key": "dept", "value": "it"}}]}),
                true,
            ),
        ];
        for (filter, expected) in cases {
            assert_eq!(holds(filter.clone()), expected, "{filter}");
        }
    }

    #[test]
    fn senseless_filters_are_refused() {
        let refused = |filter: Value| validate(&serde_json::from_value(filter).unwrap()).is_err();
        assert!(refused(json!({"greaterThan": {"key": "a", "value": "x"}})));
        assert!(refused(json!({"in": {"key": "a", "value": "x"}})));
        assert!(refused(json!({"startsWith": {"key": "a", "value": 1}})));
        assert!(refused(json!({"andAll": [{"equals": {"key": "a", "value": 1}}]})));
        let mut deep = RetrievalFilter::equals("a", 1);
        for _ in 0..1000 {
            deep = RetrievalFilter::AndAll(vec![deep.clone(), RetrievalFilter::equals("b", 2)]);
            if matches!(validate(&deep), Err(Error::InvalidRequest(_))) {
                return;
            }
        }
        panic!("nesting is bounded");
    }
}
