//! Qdrant, over its REST interface.
//!
//! A point a record: its vector, and a payload with the record and its tokens (see [`query`](super::query)). A point's id is made of
//! the record's. Points of one call are written together, but not all or none: to write them again repairs it. `stringContains` is asked
//! for as "has the attribute", and decided here.

use std::fmt;
use std::time::Duration;

use bedrock_core::{BoxFuture, Error, ScoredRecord, VectorRecord, VectorSearch, VectorStore};
use serde_json::{Value, json};

use super::http::{Http, is_plain};
use super::over_fetch::passing;
use super::query::{Patterns, Query, compile, numbers, range, tokens};
use super::secret::Secret;
use super::worker::Workers;
use super::{check_dimensions, read_record, unit};
use crate::blocking::wait;

/// Most records of one answer.
const MOST: usize = 10_000;

/// Points of one request.
const BATCH: usize = 256;

const PATTERNS: Patterns = Patterns { prefix: true, infix: false };

/// A collection of Qdrant as a store of vectors. It is one knowledge base's own.
#[derive(Debug)]
pub struct Qdrant {
    workers: Workers<Http>,
    collection: String,
    dimensions: usize,
}

/// Settings of a [`Qdrant`].
#[derive(Clone)]
#[must_use]
pub struct QdrantBuilder {
    address: String,
    collection: String,
    key: Option<Secret>,
    timeout: Duration,
}

impl fmt::Debug for QdrantBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QdrantBuilder").field("collection", &self.collection).finish_non_exhaustive()
    }
}

impl Qdrant {
    /// Begins to describe a store on the server at `address`, such as `https://host:6333`.
    pub fn builder(address: impl Into<String>) -> QdrantBuilder {
        QdrantBuilder {
            address: address.into(),
            collection: "bedrock_chunks".to_owned(),
            key: None,
            timeout: Duration::from_secs(30),
        }
    }

    async fn call(&self, method: &'static str, path: &str, body: Value) -> Result<Value, Error> {
        let path = format!("/collections/{}{path}", self.collection);
        self.workers.run(move |http| http.call(method, &path, Some(&body))).await
    }
}

impl QdrantBuilder {
    /// The collection, which is made if it is not there: 1 to 100 letters, digits, `_` and `-`. Default `bedrock_chunks`.
    pub fn collection(mut self, collection: impl Into<String>) -> Self {
        self.collection = collection.into();
        self
    }

    /// The key by which the server knows who asks.
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(Secret::new(key));
        self
    }

    /// Longest time that a request may take. Default 30 seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Connects, and makes the collection if it is not there. Blocks the thread meanwhile.
    ///
    /// # Errors
    /// [`Error::Validation`] for an address or name that is none, dimensions outside 1–65,536, or a collection of other dimensions;
    /// and what the server answers.
    pub fn connect(self, dimensions: usize) -> Result<Qdrant, Error> {
        if !is_plain(&self.collection) || !(1..=65_536).contains(&dimensions) {
            let what = format!("{:?} with {dimensions} dimensions is no collection", self.collection);
            return Err(Error::validation(what));
        }
        let headers = self.key.iter().map(|key| ("api-key", key.clone())).collect();
        let http = Http::new("Qdrant", &self.address, headers, self.timeout)?;
        let collection = self.collection.clone();
        let workers = super::http_workers("qdrant", http)?;
        let path = format!("/collections/{collection}");
        let found = wait(workers.run(move |http| {
            http.find_or(&path, |http| {
                let body = json!({"vectors": {"size": dimensions, "distance": "Cosine"}});
                http.call("PUT", &path, Some(&body))?;
                let index = json!({"field_name": "attributes", "field_schema": "keyword"});
                http.call("PUT", &format!("{path}/index?wait=true"), Some(&index)).map(drop)
            })
        }))?;
        if let Some(found) = found {
            let size = found.pointer("/result/config/params/vectors/size").and_then(Value::as_u64);
            check_dimensions(&format!("the collection {collection}"), size, dimensions)?;
        }
        Ok(Qdrant { workers, collection, dimensions })
    }
}

/// The id of a record's point: a UUID (of version 8, "made by rules of one's own") of the record's.
fn point_id(id: &str) -> String {
    let hash = blake3::hash(id.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A filter as Qdrant has it. `None`: everything.
fn shown(query: &Query) -> Option<Value> {
    let each = |all: &[Query]| all.iter().filter_map(shown).collect::<Vec<_>>();
    Some(match query {
        Query::All | Query::Infix(..) => return None,
        Query::Nothing => json!({"must": [{"key": "attributes", "match": {"any": ["none"]}}]}),
        Query::Tokens(any) => json!({"must": [{"key": "attributes", "match": {"any": any}}]}),
        Query::NoTokens(none) => json!({"must_not": [{"key": "attributes", "match": {"any": none}}]}),
        // On a field without an index of words this is a search for the text itself, and tokens begin where others end.
        Query::Prefix(start) => json!({"must": [{"key": "attributes", "match": {"text": start}}]}),
        Query::Number { field, low, high } => json!({"must": [{"key": field, "range": range(*low, *high, "")}]}),
        Query::And(all) => json!({"must": each(all)}),
        Query::Or(any) => json!({"should": each(any)}),
    })
}

impl VectorStore for Qdrant {
    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn upsert<'a>(&'a self, records: &'a [VectorRecord]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            VectorRecord::validate_all(records, self.dimensions)?;
            for some in records.chunks(BATCH) {
                let points = some.iter().map(|record| {
                    let mut payload = json!({"id": record.id, "text": record.text, "metadata": record.metadata,
                        "attributes": tokens(&record.metadata)});
                    for (field, number) in numbers(&record.metadata) {
                        payload[field] = json!(number);
                    }
                    json!({"id": point_id(&record.id), "vector": unit(&record.vector), "payload": payload})
                });
                self.call("PUT", "/points?wait=true", json!({"points": points.collect::<Vec<_>>()})).await?;
            }
            Ok(())
        })
    }

    fn delete<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            for some in ids.chunks(BATCH) {
                let points: Vec<String> = some.iter().map(|id| point_id(id)).collect();
                self.call("POST", "/points/delete?wait=true", json!({"points": points})).await?;
            }
            Ok(())
        })
    }

    fn search<'a>(&'a self, request: &'a VectorSearch) -> BoxFuture<'a, Result<Vec<ScoredRecord>, Error>> {
        Box::pin(async move {
            request.validate(self.dimensions)?;
            let query = compile(request.filter.as_ref(), PATTERNS);
            if query == Query::Nothing {
                return Ok(Vec::new());
            }
            let (vector, filter) = (unit(&request.vector), shown(&query));
            let fetch = |limit: usize| -> BoxFuture<'_, Result<Vec<ScoredRecord>, Error>> {
                let mut body = json!({"query": {"nearest": vector}, "limit": limit, "with_payload": ["id", "text", "metadata"],
                    "with_vector": request.include_vectors});
                if let Some(filter) = &filter {
                    body["filter"] = filter.clone();
                }
                Box::pin(async move {
                    let mut answer = self.call("POST", "/points/query", body).await?;
                    let Some(Value::Array(points)) = answer.pointer_mut("/result/points").map(Value::take) else {
                        return Err(Error::bad_gateway("Qdrant answered without points"));
                    };
                    points
                        .into_iter()
                        .map(|mut point| {
                            read_record("Qdrant", point["payload"].take(), point["vector"].take(), &point["score"])
                        })
                        .collect()
                })
            };
            passing(request.k, request.filter.as_ref(), MOST, &fetch).await
        })
    }

    fn count(&self) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(async move {
            let answer = self.call("POST", "/points/count", json!({"exact": true})).await?;
            let count = answer.pointer("/result/count").and_then(Value::as_u64);
            count.ok_or_else(|| Error::bad_gateway("Qdrant answered without a count"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids() {
        let id = point_id("a");
        assert_eq!((id.len(), &id[14..15]), (36, "8"));
        assert_ne!(id, point_id("b"));
        let builder = Qdrant::builder("http://127.0.0.1:1").api_key("hunter2");
        assert!(!format!("{builder:?}").contains("hunter2"));
        assert!(matches!(builder.collection("a/b").connect(2), Err(Error::Validation { .. })));
    }
}
