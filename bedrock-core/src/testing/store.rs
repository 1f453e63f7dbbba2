//! A store of vectors in memory.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use crate::error::Error;
use crate::model::BoxFuture;
use crate::store::{ScoredRecord, VectorRecord, VectorSearch, VectorStore};

/// Compares the query with every vector. Holds 100,000 records, unless told otherwise.
#[derive(Debug)]
pub struct MemoryVectorStore {
    dimensions: usize,
    capacity: usize,
    records: RwLock<BTreeMap<String, VectorRecord>>,
}

impl MemoryVectorStore {
    /// An empty store of vectors of this length.
    pub fn new(dimensions: usize) -> Self {
        Self { dimensions, capacity: 100_000, records: RwLock::default() }
    }

    /// The same for at most this many records.
    pub fn capacity(mut self, records: usize) -> Self {
        self.capacity = records;
        self
    }
}

/// In double precision, so that neither tiny nor huge vectors lose their direction.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    (dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt())).clamp(-1.0, 1.0) as f32
}

impl VectorStore for MemoryVectorStore {
    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn upsert<'a>(&'a self, records: &'a [VectorRecord]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            VectorRecord::validate_all(records, self.dimensions)?;
            let mut stored = self.records.write().unwrap_or_else(PoisonError::into_inner);
            let new = records.iter().filter(|record| !stored.contains_key(&record.id)).count();
            if stored.len() + new > self.capacity {
                return Err(Error::service_quota_exceeded(format!(
                    "{} records are kept at most; there would be {}",
                    self.capacity,
                    stored.len() + new
                )));
            }
            stored.extend(records.iter().map(|record| (record.id.clone(), record.clone())));
            Ok(())
        })
    }

    fn delete<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let mut stored = self.records.write().unwrap_or_else(PoisonError::into_inner);
            for id in ids {
                stored.remove(id);
            }
            Ok(())
        })
    }

    fn search<'a>(&'a self, request: &'a VectorSearch) -> BoxFuture<'a, Result<Vec<ScoredRecord>, Error>> {
        Box::pin(async move {
            request.validate(self.dimensions)?;
            let stored = self.records.read().unwrap_or_else(PoisonError::into_inner);
            let passes = |record: &&VectorRecord| {
                request.filter.as_ref().is_none_or(|filter| filter.passes(&|key| record.metadata.get(key)))
            };
            let mut found: Vec<(f32, &VectorRecord)> = stored
                .values()
                .filter(passes)
                .map(|record| (cosine(&request.vector, &record.vector), record))
                .collect();
            // The map is in the order of the names, and the sort keeps it among equals.
            found.sort_by(|(a, _), (b, _)| b.total_cmp(a));
            found.truncate(request.k);
            let result = found.into_iter().map(|(score, record)| {
                let vector = if request.include_vectors { record.vector.clone() } else { Vec::new() };
                let (id, text, metadata) = (record.id.clone(), record.text.clone(), record.metadata.clone());
                ScoredRecord { record: VectorRecord { id, vector, text, metadata }, score }
            });
            Ok(result.collect())
        })
    }

    fn count(&self) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(async move { Ok(self.records.read().unwrap_or_else(PoisonError::into_inner).len() as u64) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_by_hand() {
        for (a, b, expected) in [
            ([3.0, 4.0], [4.0, 3.0], 0.96),
            ([1.0, 0.0], [0.0, 5.0], 0.0),
            ([1e-30, 0.0], [-1e30, 0.0], -1.0),
            ([f32::MAX, f32::MAX], [1.0, 1.0], 1.0),
        ] {
            assert!((cosine(&a, &b) - expected).abs() < 1e-6, "{a:?} {b:?}: {}", cosine(&a, &b));
        }
    }

    #[test]
    fn a_full_store_takes_replacements_alone() {
        let store = MemoryVectorStore::new(1).capacity(2);
        let record = |id: &str, text: &str| VectorRecord::new(id, [1.0], text);
        store.upsert_blocking(&[record("a", ""), record("b", "")]).unwrap();
        let result = store.upsert_blocking(&[record("a", "new"), record("c", "")]);
        assert!(matches!(result, Err(Error::ServiceQuotaExceeded { .. })), "{result:?}");
        store.upsert_blocking(&[record("b", "new")]).unwrap();
        let found = store.search_blocking(&VectorSearch::new([1.0], 10)).unwrap();
        let texts: Vec<_> = found.iter().map(|found| found.record.text.as_str()).collect();
        assert_eq!(texts, ["", "new"], "a refused batch writes nothing");
    }
}
