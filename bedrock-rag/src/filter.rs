//! Metadata filters with the service's operators and semantics.

use bedrock_core::{FilterAttribute, RetrievalFilter};

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
    filter.passes(&|key| metadata.get(key))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

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
