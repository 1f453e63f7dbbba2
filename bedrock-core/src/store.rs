//! Stores of vectors: passages of text under their vectors, found by nearness.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::executor::block_on;
use serde_json::Value;

use crate::error::Error;
use crate::model::BoxFuture;
use crate::retrieve::{FilterAttribute, RetrievalFilter};

/// One passage and its vector.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VectorRecord {
    /// Its name in the store, 1–512 bytes.
    pub id: String,
    /// Its vector, of any length but zero: directions are compared.
    pub vector: Vec<f32>,
    /// Its text.
    pub text: String,
    /// The attributes that filters look at.
    pub metadata: BTreeMap<String, Value>,
}

impl VectorRecord {
    /// A passage without attributes.
    pub fn new(id: impl Into<String>, vector: impl Into<Vec<f32>>, text: impl Into<String>) -> Self {
        Self { id: id.into(), vector: vector.into(), text: text.into(), metadata: BTreeMap::new() }
    }

    /// The same with an attribute more.
    pub fn attribute(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// What every store checks before it writes anything: names and vectors, and that no name comes twice.
    ///
    /// # Errors
    /// [`Error::Validation`] with the index of the record.
    pub fn validate_all(records: &[Self], dimensions: usize) -> Result<(), Error> {
        let mut names = BTreeSet::new();
        for (index, record) in records.iter().enumerate() {
            let at = format!("records.{index}");
            if !(1..=512).contains(&record.id.len()) {
                return Err(Error::validation(format!("{at}.id has {} bytes; it must have 1 to 512", record.id.len())));
            }
            if !names.insert(record.id.as_str()) {
                return Err(Error::validation(format!("{at}.id is {:?}, which another record has", record.id)));
            }
            validate_vector(&format!("{at}.vector"), &record.vector, dimensions)?;
        }
        Ok(())
    }
}

fn validate_vector(at: &str, vector: &[f32], dimensions: usize) -> Result<(), Error> {
    if vector.len() != dimensions {
        return Err(Error::validation(format!("{at} has {} dimensions; the store has {dimensions}", vector.len())));
    }
    if let Some(index) = vector.iter().position(|x| !x.is_finite()) {
        return Err(Error::validation(format!("{at}.{index} is {}, which is no number", vector[index])));
    }
    if vector.iter().all(|x| *x == 0.0) {
        return Err(Error::validation(format!("{at} is zero and has no direction")));
    }
    Ok(())
}

/// What to look for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VectorSearch {
    /// The vector of the query.
    pub vector: Vec<f32>,
    /// At most this many records, 1–1,000.
    pub k: usize,
    /// Only records whose metadata pass. It is applied while searching: there are `k` results if `k` records pass.
    pub filter: Option<RetrievalFilter>,
    /// Whether the results have their vectors; otherwise these are empty.
    pub include_vectors: bool,
}

impl VectorSearch {
    /// The `k` nearest.
    pub fn new(vector: impl Into<Vec<f32>>, k: usize) -> Self {
        Self { vector: vector.into(), k, ..Self::default() }
    }

    /// Only records whose metadata pass.
    pub fn filter(mut self, filter: RetrievalFilter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// What every store checks before it searches.
    ///
    /// # Errors
    /// [`Error::Validation`] for a vector of another length, zero or with what is no number; for `k` outside 1–1,000; for a filter
    /// that breaks the rules of the service.
    pub fn validate(&self, dimensions: usize) -> Result<(), Error> {
        if !(1..=1000).contains(&self.k) {
            return Err(Error::validation(format!("k is {}; it must be from 1 to 1000", self.k)));
        }
        validate_vector("vector", &self.vector, dimensions)?;
        self.filter.as_ref().map_or(Ok(()), RetrievalFilter::validate)
    }
}

/// Words to look for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TextSearch {
    /// The words. A record need not have all of them.
    pub text: String,
    /// At most this many records, 1–1,000.
    pub k: usize,
    /// Only records whose metadata pass, as in [`VectorSearch::filter`].
    pub filter: Option<RetrievalFilter>,
}

impl TextSearch {
    /// The `k` records that fit best.
    pub fn new(text: impl Into<String>, k: usize) -> Self {
        Self { text: text.into(), k, filter: None }
    }

    /// Only records whose metadata pass.
    pub fn filter(mut self, filter: RetrievalFilter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// What every store checks before it searches.
    ///
    /// # Errors
    /// [`Error::Validation`] for `k` outside 1–1,000 and for a filter that breaks the rules of the service.
    pub fn validate(&self) -> Result<(), Error> {
        if !(1..=1000).contains(&self.k) {
            return Err(Error::validation(format!("k is {}; it must be from 1 to 1000", self.k)));
        }
        self.filter.as_ref().map_or(Ok(()), RetrievalFilter::validate)
    }
}

/// A record that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredRecord {
    /// The record; without its vector, unless that was asked for.
    pub record: VectorRecord,
    /// Higher is better. By vector: cosine of the angle to the query, −1 to 1. By words: above 0, on the store's own scale.
    pub score: f32,
}

/// Where vectors are kept.
///
/// # Contract
/// - What was written is found by the next search.
/// - Results are the nearest by cosine, best first, equal ones in the order of their names. A store of many records may miss
///   some of the nearest; one of a hundred does not.
/// - A filter that the store can't honour is [`Error::Validation`], never left out.
/// - Records are written all or none, if the store can; if it can't it says so, and to write the same again repairs it.
///
/// `testing::check_vector_store` (feature `testing`) checks what can be checked from outside.
pub trait VectorStore: Send + Sync {
    /// Length of the vectors.
    fn dimensions(&self) -> usize;

    /// Writes records, each in place of one of the same name.
    ///
    /// # Errors
    /// As [`VectorRecord::validate_all`], and then nothing is written; [`Error::ServiceQuotaExceeded`] if they do not fit;
    /// [`Error::Backend`] or [`Error::DependencyFailed`] if the store fails.
    fn upsert<'a>(&'a self, records: &'a [VectorRecord]) -> BoxFuture<'a, Result<(), Error>>;

    /// Deletes records by name. Names that are not there are no error.
    ///
    /// # Errors
    /// [`Error::Backend`] or [`Error::DependencyFailed`] if the store fails.
    fn delete<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<(), Error>>;

    /// The nearest records.
    ///
    /// # Errors
    /// As [`VectorSearch::validate`]; [`Error::Validation`] for a filter that this store can't honour; [`Error::Backend`] or
    /// [`Error::DependencyFailed`] if the store fails.
    fn search<'a>(&'a self, request: &'a VectorSearch) -> BoxFuture<'a, Result<Vec<ScoredRecord>, Error>>;

    /// How many records there are.
    ///
    /// # Errors
    /// [`Error::Backend`] or [`Error::DependencyFailed`] if the store fails.
    fn count(&self) -> BoxFuture<'_, Result<u64, Error>>;

    /// Whether [`VectorStore::search_text`] works.
    fn searches_text(&self) -> bool {
        false
    }

    /// The records whose words fit best; those that have none of them are not found. Best first, equal ones in the order of
    /// their names.
    ///
    /// # Errors
    /// [`Error::Validation`] if the store does not search words ([`VectorStore::searches_text`]), which is so unless it says
    /// otherwise; else as [`VectorStore::search`].
    fn search_text<'a>(&'a self, request: &'a TextSearch) -> BoxFuture<'a, Result<Vec<ScoredRecord>, Error>> {
        let _ = request;
        Box::pin(async { Err(Error::validation("this store finds records by their vectors alone, not by words")) })
    }

    /// [`VectorStore::upsert`] for callers without an async runtime: blocks the thread until all is written.
    ///
    /// # Errors
    /// As [`VectorStore::upsert`].
    fn upsert_blocking(&self, records: &[VectorRecord]) -> Result<(), Error> {
        block_on(self.upsert(records))
    }

    /// [`VectorStore::delete`] for callers without an async runtime: blocks the thread until all is deleted.
    ///
    /// # Errors
    /// As [`VectorStore::delete`].
    fn delete_blocking(&self, ids: &[String]) -> Result<(), Error> {
        block_on(self.delete(ids))
    }

    /// [`VectorStore::search`] for callers without an async runtime: blocks the thread until the results are there.
    ///
    /// # Errors
    /// As [`VectorStore::search`].
    fn search_blocking(&self, request: &VectorSearch) -> Result<Vec<ScoredRecord>, Error> {
        block_on(self.search(request))
    }

    /// [`VectorStore::search_text`] for callers without an async runtime: blocks the thread until the results are there.
    ///
    /// # Errors
    /// As [`VectorStore::search_text`].
    fn search_text_blocking(&self, request: &TextSearch) -> Result<Vec<ScoredRecord>, Error> {
        block_on(self.search_text(request))
    }

    /// [`VectorStore::count`] for callers without an async runtime: blocks the thread until the count is there.
    ///
    /// # Errors
    /// As [`VectorStore::count`].
    fn count_blocking(&self) -> Result<u64, Error> {
        block_on(self.count())
    }
}

macro_rules! forward {
    ($($pointer:ident),*) => {$(
        impl<T: VectorStore + ?Sized> VectorStore for $pointer<T> {
            fn dimensions(&self) -> usize {
                (**self).dimensions()
            }
            fn upsert<'a>(&'a self, records: &'a [VectorRecord]) -> BoxFuture<'a, Result<(), Error>> {
                (**self).upsert(records)
            }
            fn delete<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<(), Error>> {
                (**self).delete(ids)
            }
            fn search<'a>(&'a self, request: &'a VectorSearch) -> BoxFuture<'a, Result<Vec<ScoredRecord>, Error>> {
                (**self).search(request)
            }
            fn count(&self) -> BoxFuture<'_, Result<u64, Error>> {
                (**self).count()
            }
            fn searches_text(&self) -> bool {
                (**self).searches_text()
            }
            fn search_text<'a>(&'a self, request: &'a TextSearch) -> BoxFuture<'a, Result<Vec<ScoredRecord>, Error>> {
                (**self).search_text(request)
            }
        }
    )*};
}
forward!(Arc, Box);

impl RetrievalFilter {
    /// Whether metadata pass, for stores that filter by themselves. `get` finds an attribute by its key.
    ///
    /// Values of different types are never equal and never compare; 1 and 1.0 are one number. The filter should be
    /// [valid](Self::validate): in one that is not, what makes no sense does not pass.
    pub fn passes<'m>(&self, get: &dyn Fn(&str) -> Option<&'m Value>) -> bool {
        let found = |attribute: &FilterAttribute| get(&attribute.key);
        let order = |attribute: &FilterAttribute| {
            found(attribute)?.as_number()?;
            compare(found(attribute)?, &attribute.value)
        };
        let is = |attribute: &FilterAttribute| found(attribute).is_some_and(|value| equal(value, &attribute.value));
        let is_in = |attribute: &FilterAttribute| {
            let list = attribute.value.as_array();
            found(attribute).zip(list).is_some_and(|(value, list)| list.iter().any(|other| equal(value, other)))
        };
        let text = |value: &Value, attribute: &FilterAttribute, test: fn(&str, &str) -> bool| {
            value.as_str().zip(attribute.value.as_str()).is_some_and(|(text, part)| test(text, part))
        };
        match self {
            Self::AndAll(all) => all.iter().all(|filter| filter.passes(get)),
            Self::OrAll(all) => all.iter().any(|filter| filter.passes(get)),
            Self::Equals(a) => is(a),
            Self::NotEquals(a) => !is(a),
            Self::GreaterThan(a) => order(a) == Some(Ordering::Greater),
            Self::GreaterThanOrEquals(a) => order(a).is_some_and(Ordering::is_ge),
            Self::LessThan(a) => order(a) == Some(Ordering::Less),
            Self::LessThanOrEquals(a) => order(a).is_some_and(Ordering::is_le),
            Self::In(a) => is_in(a),
            Self::NotIn(a) => !is_in(a),
            Self::StartsWith(a) => found(a).is_some_and(|value| text(value, a, |text, part| text.starts_with(part))),
            Self::ListContains(a) => {
                let list = found(a).and_then(Value::as_array);
                list.is_some_and(|list| list.iter().any(|value| equal(value, &a.value)))
            }
            Self::StringContains(a) => {
                let contains = |value: &Value| text(value, a, |text, part| text.contains(part));
                match found(a) {
                    Some(Value::Array(list)) => list.iter().any(contains),
                    value => value.is_some_and(contains),
                }
            }
        }
    }
}

/// The order of two numbers. Whole numbers compare as such: as floats, neighbours above 2⁵³ would be equal.
fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    let whole = |value: &Value| value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    if a.is_number() && b.is_number() { compare(a, b) == Some(Ordering::Equal) } else { a == b }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_operator_of_a_filter() {
        let metadata = json!({"year": 2024, "dept": "people", "tags": ["leave", "pay"], "public": true, "ratio": 1.0,
            "large": 9_007_199_254_740_993_u64});
        let cases = [
            ("equals", "year", json!(2024.0), true),
            ("equals", "year", json!("2024"), false),
            ("equals", "none", json!(null), false),
            ("equals", "public", json!(true), true),
            ("equals", "large", json!(9_007_199_254_740_992_u64), false),
            ("notEquals", "none", json!(1), true),
            ("notEquals", "dept", json!("people"), false),
            ("greaterThan", "year", json!(2024), false),
            ("greaterThan", "year", json!(2023.5), true),
            ("greaterThanOrEquals", "year", json!(2024), true),
            ("greaterThanOrEquals", "year", json!(2025), false),
            ("lessThan", "ratio", json!(1.5), true),
            ("lessThan", "ratio", json!(1), false),
            ("lessThanOrEquals", "ratio", json!(1), true),
            ("lessThanOrEquals", "dept", json!(3), false),
            ("lessThan", "none", json!(3), false),
            ("in", "dept", json!(["it", "people"]), true),
            ("in", "none", json!([null]), false),
            ("notIn", "dept", json!(["it", "people"]), false),
            ("notIn", "none", json!(["it"]), true),
            ("startsWith", "dept", json!("peo"), true),
            ("startsWith", "dept", json!("eop"), false),
            ("listContains", "tags", json!("pay"), true),
            ("listContains", "tags", json!("pa"), false),
            ("listContains", "dept", json!("people"), false),
            ("stringContains", "tags", json!("eav"), true),
            ("stringContains", "dept", json!("eopl"), true),
            ("stringContains", "dept", json!("xx"), false),
            ("stringContains", "none", json!("xx"), false),
        ];
        let passes = |filter: Value| {
            let filter: RetrievalFilter = serde_json::from_value(filter).unwrap();
            filter.validate().unwrap();
            filter.passes(&|key| metadata.get(key))
        };
        for (operator, key, value, expected) in cases {
            let filter = json!({operator: {"key": key, "value": value}});
            assert_eq!(passes(filter.clone()), expected, "{filter}");
        }
        let (yes, no) =
            (json!({"equals": {"key": "year", "value": 2024}}), json!({"equals": {"key": "year", "value": 1}}));
        for (a, b, all, any) in [(&yes, &yes, true, true), (&yes, &no, false, true), (&no, &no, false, false)] {
            assert_eq!(passes(json!({"andAll": [a, b]})), all, "{a} and {b}");
            assert_eq!(passes(json!({"orAll": [a, b]})), any, "{a} or {b}");
        }
    }

    #[test]
    fn what_has_no_direction_is_refused() {
        let validate = |vector: &[f32]| VectorRecord::validate_all(&[VectorRecord::new("a", vector, "")], 2);
        validate(&[0.0, -1e-30]).unwrap();
        for bad in [&[][..], &[1.0], &[1.0, 2.0, 3.0], &[0.0, -0.0], &[1.0, f32::NAN], &[f32::INFINITY, 0.0]] {
            assert!(matches!(validate(bad), Err(Error::Validation { .. })), "{bad:?}");
        }
    }

    #[test]
    fn names_are_checked_and_none_comes_twice() {
        let validate = |names: &[&str]| {
            let records: Vec<_> = names.iter().map(|name| VectorRecord::new(*name, [1.0], "")).collect();
            VectorRecord::validate_all(&records, 1)
        };
        validate(&[]).unwrap();
        validate(&["a", "b", &"x".repeat(512)]).unwrap();
        for bad in [&["a", ""][..], &["a", "b", "a"], &[&"x".repeat(513)]] {
            assert!(matches!(validate(bad), Err(Error::Validation { .. })), "{bad:?}");
        }
    }
}
