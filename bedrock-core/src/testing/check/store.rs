//! The laws of vector stores.

use serde_json::{Value, json};

use super::is_validation;
use crate::retrieve::RetrievalFilter;
use crate::store::{TextSearch, VectorRecord, VectorSearch, VectorStore};

/// Checks an empty store of vectors of at least two dimensions; it is empty again at the end.
///
/// Laws: what was written is found, whole, by the next search; best first, scored by cosine, equal ones by name; no more than
/// `k`, and `k` if so many pass; a record of the same name is replaced; what was deleted is gone, and to delete twice is no
/// error; every operator of filters is honoured or refused; a batch with one bad record writes nothing; bad searches are refused;
/// words are found, or the store says that it does not search them.
///
/// # Panics
/// If a law is broken.
pub async fn check_vector_store(store: &dyn VectorStore) {
    let dimensions = store.dimensions();
    assert!(dimensions >= 2, "the check needs two dimensions; the store has {dimensions}");
    let count = async || store.count().await.expect("records are counted");
    let search = async |request: &VectorSearch| store.search(request).await.expect("records are found");
    assert_eq!(count().await, 0, "the store is empty");
    // Vectors in the plane of the first two dimensions, by their angle to the first.
    let at = |degrees: f32, length: f32| {
        let mut vector = vec![0.0; dimensions];
        (vector[0], vector[1]) = (length * degrees.to_radians().cos(), length * degrees.to_radians().sin());
        vector
    };
    let ids = |found: &[crate::ScoredRecord]| found.iter().map(|found| found.record.id.clone()).collect::<Vec<_>>();
    assert!(search(&VectorSearch::new(at(0.0, 1.0), 3)).await.is_empty(), "an empty store finds nothing");

    let records: Vec<VectorRecord> = (0..24)
        .map(|n| {
            let record = VectorRecord::new(
                format!("r{n:02}"),
                at(n as f32 * 7.0, 1.0 + (n % 5) as f32),
                format!("Text {n} – 🦀 'quoted' \"twice\"; DROP"),
            );
            let record = record.attribute("n", n).attribute("even", n % 2 == 0);
            let record = if n < 12 { record.attribute("dept", "people") } else { record };
            record.attribute("tags", json!([format!("t{}", n % 3), "all"]))
        })
        .collect();
    // Not in their order.
    let (odd, even): (Vec<_>, Vec<_>) = records.iter().cloned().partition(|record| record.metadata["even"] == false);
    store.upsert(&odd).await.expect("records are written");
    store.upsert(&even).await.expect("records are written");
    store.upsert(&[]).await.expect("no records are no error");
    assert_eq!(count().await, 24, "what was written is counted");

    let query = at(-1.0, 10.0);
    let all = search(&VectorSearch { include_vectors: true, ..VectorSearch::new(query.clone(), 1000) }).await;
    let nearest: Vec<String> = records.iter().map(|record| record.id.clone()).collect();
    assert_eq!(ids(&all), nearest, "best first, whatever the lengths of the vectors");
    for (n, found) in all.iter().enumerate() {
        let cosine = (n as f32 * 7.0 + 1.0).to_radians().cos();
        assert!((found.score - cosine).abs() < 1e-3, "{} scores {}, its cosine is {cosine}", n, found.score);
        let (text, metadata) = (&found.record.text, &found.record.metadata);
        assert_eq!((text, metadata), (&records[n].text, &records[n].metadata), "a record is found whole");
        // A store may keep vectors normalised: the direction is what counts.
        let (given, kept) = (&records[n].vector, &found.record.vector);
        let norm = |vector: &[f32]| vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        let worst = given.iter().zip(kept).map(|(a, b)| (a / norm(given) - b / norm(kept)).abs()).fold(0.0, f32::max);
        assert!(kept.len() == dimensions && worst < 1e-2, "a vector is found as it was written: {kept:?}");
    }
    let three = search(&VectorSearch::new(query.clone(), 3)).await;
    assert_eq!(ids(&three), nearest[..3], "no more than k");
    assert!(three.iter().all(|found| found.record.vector.is_empty()), "no vectors unless asked for");

    for (filter, expected) in filters() {
        let shown = serde_json::to_string(&filter).unwrap_or_default();
        let request = VectorSearch::new(query.clone(), 1000).filter(filter);
        match store.search(&request).await {
            Ok(found) => {
                let expected: Vec<_> = (0..24).filter(|n| expected(*n)).map(|n| format!("r{n:02}")).collect();
                assert_eq!(ids(&found), expected, "a filter is honoured: {shown}");
                let two = search(&VectorSearch { k: 2, ..request }).await;
                assert_eq!(ids(&two), expected[..2], "k of those that pass: {shown}");
            }
            error => assert!(is_validation(&error), "a filter is honoured or refused: {shown}: {error:?}"),
        }
    }

    check_text(store).await;

    let mut moved = records[23].clone();
    (moved.vector, moved.text) = (at(-1.0, 1.0), "moved".into());
    moved.metadata.clear();
    store.upsert(std::slice::from_ref(&moved)).await.expect("a record is replaced");
    assert_eq!(count().await, 24, "a record of the same name is replaced");
    let first = search(&VectorSearch::new(query.clone(), 1)).await.remove(0).record;
    assert_eq!((first.id, first.text, first.metadata), (moved.id, moved.text, moved.metadata), "a record is replaced");
    let twins = [VectorRecord::new("r50", at(-1.0, 2.0), ""), VectorRecord::new("r01", at(-1.0, 1.0), "")];
    store.upsert(&twins).await.expect("records are written");
    assert_eq!(ids(&search(&VectorSearch::new(query.clone(), 3)).await), ["r01", "r23", "r50"], "equal ones by name");

    let mut zero =
        vec![VectorRecord::new("new", query.clone(), ""), VectorRecord::new("bad", vec![0.0; dimensions], "")];
    assert!(is_validation(&store.upsert(&zero).await), "a vector of zeros is refused");
    zero[1].vector = at(f32::NAN, 1.0);
    assert!(is_validation(&store.upsert(&zero).await), "a vector that is no number is refused");
    zero[1].vector = vec![1.0; dimensions + 1];
    assert!(is_validation(&store.upsert(&zero).await), "a vector of another length is refused");
    zero[1] = zero[0].clone();
    assert!(is_validation(&store.upsert(&zero).await), "a name that comes twice is refused");
    zero[1].id = String::new();
    assert!(is_validation(&store.upsert(&zero).await), "an empty name is refused");
    assert_eq!(count().await, 25, "a batch with one bad record writes nothing");

    for (what, bad) in [
        ("k of 0", VectorSearch::new(query.clone(), 0)),
        ("k of 1001", VectorSearch::new(query.clone(), 1001)),
        ("a short query", VectorSearch::new(vec![1.0], 1)),
        ("a query of zeros", VectorSearch::new(vec![0.0; dimensions], 1)),
        ("half an andAll", VectorSearch::new(query.clone(), 1).filter(RetrievalFilter::AndAll(Vec::new()))),
    ] {
        assert!(is_validation(&store.search(&bad).await), "{what} is refused");
    }

    let some = ["r01", "r23", "r50", "never"].map(String::from);
    store.delete(&some).await.expect("records are deleted");
    store.delete(&some).await.expect("to delete twice is no error");
    assert_eq!(count().await, 22, "what was deleted is gone");
    assert_eq!(ids(&search(&VectorSearch::new(query, 2)).await), ["r00", "r02"], "what was deleted is not found");
    store.delete(&nearest).await.expect("records are deleted");
    assert_eq!(count().await, 0, "the store is empty again");
}

/// The same 24 records by their words: each has its number and words that all have.
async fn check_text(store: &dyn VectorStore) {
    let dept: RetrievalFilter = RetrievalFilter::equals("dept", "people");
    if !store.searches_text() {
        assert!(is_validation(&store.search_text(&TextSearch::new("text", 1)).await), "words are refused");
        return;
    }
    let search = async |request: TextSearch| {
        let found = store.search_text(&request).await.expect("records are found by words");
        assert!(found.iter().all(|found| found.score > 0.0 && found.record.vector.is_empty()), "scores are above 0");
        assert!(found.is_sorted_by(|a, b| a.score >= b.score), "best first");
        found.into_iter().map(|found| found.record.id).collect::<Vec<_>>()
    };
    assert_eq!(search(TextSearch::new("17", 5)).await, ["r17"], "a word is found where it is");
    assert_eq!(
        search(TextSearch::new("text 7 nowhere", 24)).await[0],
        "r07",
        "not all words are needed, more are better"
    );
    assert_eq!(search(TextSearch::new("text", 4)).await.len(), 4, "no more than k");
    assert_eq!(search(TextSearch::new("17", 5).filter(dept.clone())).await, [""; 0], "a filter is honoured");
    assert_eq!(search(TextSearch::new("5 17", 5).filter(dept)).await, ["r05"], "a filter is honoured");
    for odd in ["nowhere", "!@#$%^&*(){}[]|\\:;\"'<>?~`", "-- '; DROP", "", "@text:{*}", "🦀"] {
        let request = TextSearch::new(odd, 3);
        assert!(store.search_text(&request).await.is_ok(), "whatever is asked is words, no syntax: {odd}");
    }
    assert!(is_validation(&store.search_text(&TextSearch::new("text", 0)).await), "k of 0 is refused");
}

/// Whether the record of this number passes.
type Passes = fn(u32) -> bool;

/// Filters, each with which of the 24 records pass.
fn filters() -> Vec<(RetrievalFilter, Passes)> {
    let filter = |filter: Value| serde_json::from_value(filter).expect("a filter");
    let cases: [(Value, Passes); 16] = [
        (json!({"equals": {"key": "dept", "value": "people"}}), |n| n < 12),
        (json!({"equals": {"key": "even", "value": true}}), |n| n % 2 == 0),
        (json!({"notEquals": {"key": "dept", "value": "people"}}), |n| n >= 12),
        (json!({"notEquals": {"key": "n", "value": 3}}), |n| n != 3),
        (json!({"greaterThan": {"key": "n", "value": 20}}), |n| n > 20),
        (json!({"greaterThanOrEquals": {"key": "n", "value": 20}}), |n| n >= 20),
        (json!({"lessThan": {"key": "n", "value": 2.5}}), |n| n < 3),
        (json!({"lessThanOrEquals": {"key": "n", "value": 2}}), |n| n < 3),
        (json!({"in": {"key": "n", "value": [4, 9, 100]}}), |n| n == 4 || n == 9),
        (json!({"notIn": {"key": "dept", "value": ["people", "it"]}}), |n| n >= 12),
        (json!({"startsWith": {"key": "dept", "value": "peo"}}), |n| n < 12),
        (json!({"stringContains": {"key": "dept", "value": "opl"}}), |n| n < 12),
        (json!({"stringContains": {"key": "tags", "value": "2"}}), |n| n % 3 == 2),
        (json!({"listContains": {"key": "tags", "value": "t1"}}), |n| n % 3 == 1),
        (
            json!({"andAll": [{"equals": {"key": "even", "value": false}}, {"lessThan": {"key": "n", "value": 9}}]}),
            |n| n % 2 == 1 && n < 9,
        ),
        (
            json!({"orAll": [{"equals": {"key": "n", "value": 0}}, {"andAll": [
                {"greaterThan": {"key": "n", "value": 9}}, {"notIn": {"key": "n", "value": [10, 23]}}]}]}),
            |n| n == 0 || (n > 10 && n < 23),
        ),
    ];
    cases.into_iter().map(|(json, expected)| (filter(json), expected)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::executor::block_on;

    use super::super::tests::fails;
    use super::*;
    use crate::error::Error;
    use crate::model::BoxFuture;
    use crate::store::ScoredRecord;
    use crate::testing::MemoryVectorStore;

    #[test]
    fn the_double_keeps_to_the_laws() {
        for dimensions in [2, 5] {
            let store: Arc<dyn VectorStore> = Arc::new(Box::new(MemoryVectorStore::new(dimensions)));
            block_on(check_vector_store(&store));
            block_on(check_vector_store(&store));
        }
    }

    /// A store that filters what it found instead of what it has, as a thin wrapper of an index does.
    struct FiltersAfter(MemoryVectorStore);

    impl VectorStore for FiltersAfter {
        fn dimensions(&self) -> usize {
            self.0.dimensions()
        }
        fn upsert<'a>(&'a self, records: &'a [VectorRecord]) -> BoxFuture<'a, Result<(), Error>> {
            self.0.upsert(records)
        }
        fn delete<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<(), Error>> {
            self.0.delete(ids)
        }
        fn search<'a>(&'a self, request: &'a VectorSearch) -> BoxFuture<'a, Result<Vec<ScoredRecord>, Error>> {
            Box::pin(async move {
                let mut found = self.0.search(&VectorSearch { filter: None, ..request.clone() }).await?;
                if let Some(filter) = &request.filter {
                    found.retain(|found| filter.passes(&|key| found.record.metadata.get(key)));
                }
                Ok(found)
            })
        }
        fn count(&self) -> BoxFuture<'_, Result<u64, Error>> {
            self.0.count()
        }
    }

    #[test]
    fn a_store_that_filters_too_late_is_found() {
        fails(|| block_on(check_vector_store(&FiltersAfter(MemoryVectorStore::new(3)))), "k of those that pass");
    }
}
