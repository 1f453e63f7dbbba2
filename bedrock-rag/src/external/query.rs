//! Filters as servers can be asked them.
//!
//! Servers differ in what they filter by, and need to know attributes before they can. So a record is kept with *tokens*, one or
//! more for each attribute, made of letters and digits alone (nothing in them means anything to a query language), and with its
//! numbers; a filter becomes a question about both. Where that says less than the filter does, it lets more pass, never less:
//! what comes back is checked by [`over_fetch`](super::over_fetch).
//!
//! `X` key `X` kind value, where the kind is `p` (there is such an attribute), `s` text, `d` number, `b` boolean, `n` null,
//! `l` with the kind of an element of a list, `t` (a text was too long and is not wholly here).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use bedrock_core::{FilterAttribute, RetrievalFilter};
use serde_json::Value;

/// Longest text in a token, in bytes; filters see no more of a longer one, and ask for the record itself.
const MAX_TEXT: usize = 1024;

/// From here on neighbouring whole numbers are one in floating point.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A question about the tokens and numbers of a record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Query {
    /// Every record.
    All,
    /// None.
    Nothing,
    /// Those that have one of these tokens.
    Tokens(Vec<String>),
    /// Those that have none of these tokens.
    NoTokens(Vec<String>),
    /// Those that have a token that begins so.
    #[cfg_attr(not(any(feature = "mongodb", feature = "opensearch", feature = "qdrant")), allow(dead_code))]
    Prefix(String),
    /// Those that have a token that begins with the one and has the other in what comes after it.
    #[cfg_attr(not(feature = "opensearch"), allow(dead_code))]
    Infix(String, String),
    /// Those whose number lies between, each bound with whether it is included.
    Number { field: String, low: Option<(f64, bool)>, high: Option<(f64, bool)> },
    /// Those that all of these want.
    And(Vec<Query>),
    /// Those that one of these wants.
    Or(Vec<Query>),
}

/// The bounds of a number, as JSON has them: `gt`, `gte`, `lt`, `lte`, each behind a `mark`.
#[cfg(feature = "http")]
pub(crate) fn range(low: Option<(f64, bool)>, high: Option<(f64, bool)>, mark: &str) -> Value {
    let bound = |name: &str, bound: Option<(f64, bool)>| {
        bound.map(|(bound, included)| (format!("{mark}{name}{}", if included { "e" } else { "" }), Value::from(bound)))
    };
    Value::Object(bound("gt", low).into_iter().chain(bound("lt", high)).collect())
}

/// What a server can ask of a token's inside. Elsewhere it is asked whether there is such an attribute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Patterns {
    pub(crate) prefix: bool,
    pub(crate) infix: bool,
}

/// Letters and digits for any text: small ones and digits stand for themselves, other bytes are `Z` and two of `A` to `P`. So a
/// part of a text is a part of what stands for it, and the other way round.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' => encoded.push(char::from(byte)),
            _ => {
                let letter = |half: u8| char::from(b'A' + half);
                encoded.extend(['Z', letter(byte >> 4), letter(byte & 15)]);
            }
        }
    }
    encoded
}

/// The name of the field that a record's number is kept in.
pub(crate) fn number_field(key: &str) -> String {
    format!("n{}", encode(key))
}

fn token(key: &str, rest: &str) -> String {
    format!("X{}X{rest}", encode(key))
}

/// What stands for a single value, and whether for no other.
fn scalar(value: &Value) -> Option<(String, bool)> {
    Some(match value {
        Value::Null => ("n".to_owned(), true),
        Value::Bool(value) => (format!("b{}", u8::from(*value)), true),
        Value::Number(number) => {
            // Negative zero is zero.
            let value = number.as_f64()? + 0.0;
            let mut shown = String::new();
            let _ = write!(shown, "{value:e}");
            (format!("d{}", encode(&shown)), value.abs() < EXACT)
        }
        Value::String(text) => {
            let cut = text.floor_char_boundary(MAX_TEXT);
            (format!("s{}", encode(&text[..cut])), cut == text.len())
        }
        Value::Array(_) | Value::Object(_) => return None,
    })
}

/// The tokens of a record.
pub(crate) fn tokens(metadata: &BTreeMap<String, Value>) -> BTreeSet<String> {
    let mut tokens = BTreeSet::new();
    for (key, value) in metadata {
        tokens.insert(token(key, "p"));
        let (list, kind) = match value {
            Value::Array(list) => (list.as_slice(), "l"),
            value => (std::slice::from_ref(value), ""),
        };
        for value in list {
            if let Some((text, whole)) = scalar(value) {
                tokens.insert(token(key, &format!("{kind}{text}")));
                if !whole && value.is_string() {
                    tokens.insert(token(key, "t"));
                }
            }
        }
    }
    tokens
}

/// The numbers of a record, under the names of their fields.
pub(crate) fn numbers(metadata: &BTreeMap<String, Value>) -> BTreeMap<String, f64> {
    let number = |(key, value): (&String, &Value)| Some((number_field(key), value.as_number()?.as_f64()?));
    metadata.iter().filter_map(number).collect()
}

/// What to ask for a filter.
pub(crate) fn compile(filter: Option<&RetrievalFilter>, patterns: Patterns) -> Query {
    let Some(filter) = filter else { return Query::All };
    let each = |all: &[RetrievalFilter]| all.iter().map(|one| compile(Some(one), patterns)).collect::<Vec<_>>();
    let present = |a: &FilterAttribute| Query::Tokens(vec![token(&a.key, "p")]);
    let is = |a: &FilterAttribute, value: &Value, kind: &str| {
        scalar(value).map_or_else(|| token(&a.key, "p"), |(text, _)| token(&a.key, &format!("{kind}{text}")))
    };
    let is_not = |a: &FilterAttribute, value: &Value| {
        scalar(value).filter(|(_, alone)| *alone).map(|(text, _)| token(&a.key, &text))
    };
    let number = |a: &FilterAttribute, above: bool, included: bool| {
        let bound = a.value.as_f64().map(|bound| (bound, included || bound.abs() >= EXACT));
        let (low, high) = if above { (bound, None) } else { (None, bound) };
        Query::Number { field: number_field(&a.key), low, high }
    };
    match filter {
        RetrievalFilter::AndAll(all) => all_of(each(all)),
        RetrievalFilter::OrAll(all) => any_of(each(all)),
        RetrievalFilter::Equals(a) => Query::Tokens(vec![is(a, &a.value, "")]),
        RetrievalFilter::NotEquals(a) => none_of(is_not(a, &a.value).into_iter().collect()),
        RetrievalFilter::GreaterThan(a) => number(a, true, false),
        RetrievalFilter::GreaterThanOrEquals(a) => number(a, true, true),
        RetrievalFilter::LessThan(a) => number(a, false, false),
        RetrievalFilter::LessThanOrEquals(a) => number(a, false, true),
        RetrievalFilter::In(a) => match a.value.as_array() {
            Some(list) if !list.is_empty() => Query::Tokens(list.iter().map(|value| is(a, value, "")).collect()),
            _ => Query::Nothing,
        },
        RetrievalFilter::NotIn(a) => {
            none_of(a.value.as_array().into_iter().flatten().filter_map(|value| is_not(a, value)).collect())
        }
        RetrievalFilter::StartsWith(a) if patterns.prefix => Query::Prefix(is(a, &a.value, "")),
        RetrievalFilter::StringContains(a) if patterns.infix => {
            let part = a.value.as_str().unwrap_or_default();
            let part = encode(&part[..part.floor_char_boundary(MAX_TEXT)]);
            let inside = |kind: &str| Query::Infix(token(&a.key, kind), part.clone());
            any_of(vec![inside("s"), inside("ls"), Query::Tokens(vec![token(&a.key, "t")])])
        }
        RetrievalFilter::StartsWith(a) | RetrievalFilter::StringContains(a) => present(a),
        RetrievalFilter::ListContains(a) => Query::Tokens(vec![is(a, &a.value, "l")]),
        // An operator that this version does not know: everything is asked for, and checked.
        _ => Query::All,
    }
}

fn none_of(tokens: Vec<String>) -> Query {
    if tokens.is_empty() { Query::All } else { Query::NoTokens(tokens) }
}

fn all_of(mut all: Vec<Query>) -> Query {
    all.retain(|one| *one != Query::All);
    if all.contains(&Query::Nothing) {
        return Query::Nothing;
    }
    match all.len() {
        0 => Query::All,
        1 => all.remove(0),
        _ => Query::And(all),
    }
}

fn any_of(mut any: Vec<Query>) -> Query {
    any.retain(|one| *one != Query::Nothing);
    if any.contains(&Query::All) {
        return Query::All;
    }
    match any.len() {
        0 => Query::Nothing,
        1 => any.remove(0),
        _ => Query::Or(any),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// What a server does with a question.
    fn holds(query: &Query, tokens: &BTreeSet<String>, numbers: &BTreeMap<String, f64>) -> bool {
        match query {
            Query::All => true,
            Query::Nothing => false,
            Query::Tokens(any) => any.iter().any(|token| tokens.contains(token)),
            Query::NoTokens(none) => !none.iter().any(|token| tokens.contains(token)),
            Query::Prefix(start) => tokens.iter().any(|token| token.starts_with(start.as_str())),
            Query::Infix(start, part) => tokens
                .iter()
                .any(|token| token.strip_prefix(start.as_str()).is_some_and(|rest| rest.contains(part.as_str()))),
            Query::Number { field, low, high } => numbers.get(field).is_some_and(|number| {
                low.is_none_or(|(low, included)| *number > low || included && *number == low)
                    && high.is_none_or(|(high, included)| *number < high || included && *number == high)
            }),
            Query::And(all) => all.iter().all(|one| holds(one, tokens, numbers)),
            Query::Or(any) => any.iter().any(|one| holds(one, tokens, numbers)),
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let text =
            || prop_oneof![Just("people"), Just("5f"), Just("_"), Just("A b"), Just("Ab"), Just("äöX"), Just("")];
        prop_oneof![
            text().prop_map(Value::from),
            (0u8..3).prop_map(Value::from),
            Just(json!(1.0)),
            Just(json!(-0.0)),
            Just(json!(9_007_199_254_740_993_u64)),
            Just(json!(9_007_199_254_740_992_u64)),
            Just(json!(null)),
            Just(json!("long ".repeat(300))),
            any::<bool>().prop_map(Value::from),
            prop::collection::vec(text(), 0..3).prop_map(|list| json!(list)),
        ]
    }

    fn filters() -> impl Strategy<Value = Value> {
        let key = || prop_oneof![Just("a"), Just("b"), Just("aXs")];
        let part = prop_oneof![
            Just("5f".to_owned()),
            Just("".to_owned()),
            Just("b".to_owned()),
            Just("l".to_owned()),
            Just("long ".repeat(250))
        ];
        let leaf = prop_oneof![
            (prop::sample::select(vec!["equals", "notEquals", "listContains"]), key(), values())
                .prop_map(|(operator, key, value)| json!({operator: {"key": key, "value": value}})),
            (prop::sample::select(vec!["in", "notIn"]), key(), prop::collection::vec(values(), 0..3))
                .prop_map(|(operator, key, value)| json!({operator: {"key": key, "value": value}})),
            (prop::sample::select(vec!["startsWith", "stringContains"]), key(), part)
                .prop_map(|(operator, key, value)| json!({operator: {"key": key, "value": value}})),
            (
                prop::sample::select(vec!["greaterThan", "greaterThanOrEquals", "lessThan", "lessThanOrEquals"]),
                key(),
                prop_oneof![Just(json!(1)), Just(json!(0.5)), Just(json!(9_007_199_254_740_992_u64))]
            )
                .prop_map(|(operator, key, value)| json!({operator: {"key": key, "value": value}})),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| {
            (prop::sample::select(vec!["andAll", "orAll"]), prop::collection::vec(inner, 2..4))
                .prop_map(|(operator, all)| json!({operator: all}))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        /// What passes a filter passes the question too, whatever the server can be asked; and where it can be asked everything, and
        /// no value is too large or too long, the question is the filter.
        #[test]
        fn questions_let_pass_what_filters_do(
            metadata in prop::collection::btree_map(prop::sample::select(vec!["a".to_owned(), "b".to_owned()]), values(), 0..3),
            filter in filters(),
        ) {
            let shown = filter.to_string();
            let plain = !shown.contains("long ") && !shown.contains("90071") && !shown.contains(":[")
                && !json!(metadata).to_string().contains("long ") && !json!(metadata).to_string().contains("90071");
            let filter: RetrievalFilter = serde_json::from_value(filter).unwrap();
            let right = filter.passes(&|key| metadata.get(key));
            let (tokens, numbers) = (tokens(&metadata), numbers(&metadata));
            for token in &tokens {
                prop_assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{token}");
            }
            for (prefix, infix) in [(false, false), (true, false), (true, true)] {
                let asked = holds(&compile(Some(&filter), Patterns { prefix, infix }), &tokens, &numbers);
                prop_assert!(asked || !right, "{shown} of {metadata:?}");
                prop_assert!(!(plain && infix) || asked == right, "{shown} of {metadata:?}");
            }
        }
    }

    #[test]
    fn tokens_by_hand() {
        let metadata = BTreeMap::from([("Dept".to_owned(), json!("it")), ("n".to_owned(), json!([true, "x"]))]);
        let expected = ["XZEEeptXp", "XZEEeptXsit", "XnXlb1", "XnXlsx", "XnXp"].map(String::from);
        assert_eq!(tokens(&metadata), BTreeSet::from(expected));
        let number = BTreeMap::from([("n".to_owned(), json!(2.5))]);
        assert_eq!(numbers(&number), BTreeMap::from([("nn".to_owned(), 2.5)]));
        assert_eq!(compile(None, Patterns::default()), Query::All);
        #[cfg(feature = "http")]
        {
            assert_eq!(range(Some((1.0, true)), Some((2.0, false)), "$"), json!({"$gte": 1.0, "$lt": 2.0}));
            assert_eq!(range(None, Some((2.0, true)), ""), json!({"lte": 2.0}));
        }
    }
}
