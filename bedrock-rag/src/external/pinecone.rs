//! Pinecone, over its REST interface.
//!
//! A record of the index for each, with the tokens of its attributes (see [`query`](super::query)) as a list of strings. What is written
//! is found some time later, as the service says of itself, seconds usually: of the contract of
//! [`VectorStore`](bedrock_core::VectorStore), "found by the next search" does not hold. `startsWith`, `stringContains`,
//! `notEquals` and `notIn` are decided here, among the 1,000 nearest.

use std::fmt;
use std::time::Duration;

use bedrock_core::{BoxFuture, Error, ScoredRecord, VectorRecord, VectorSearch, VectorStore};
use serde_json::{Value, json};

use super::http::Http;
use super::over_fetch::passing;
use super::query::{Patterns, Query, compile, numbers, range, tokens};
use super::secret::Secret;
use super::worker::Workers;
use super::{check_dimensions, read_record, unit};
use crate::blocking::wait;

/// Most records of one answer, which the service bounds at 4 MB.
const MOST: usize = 1000;

/// Records of one request, which the service bounds at 2 MB, and names of one.
const BATCH: usize = 100;
const DELETE: usize = 1000;

/// The version of the interface that is asked for.
const VERSION: &str = "2025-01";

/// A namespace of an index of Pinecone as a store of vectors. It is one knowledge base's own.
#[derive(Debug)]
pub struct Pinecone {
    workers: Workers<Http>,
    namespace: String,
    dimensions: usize,
}

/// Settings of a [`Pinecone`].
#[derive(Clone)]
#[must_use]
pub struct PineconeBuilder {
    host: String,
    key: Secret,
    namespace: String,
    timeout: Duration,
}

impl fmt::Debug for PineconeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PineconeBuilder").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Pinecone {
    /// Begins to describe a store in the index at `host` (`https://NAME-PROJECT.svc.REGION.pinecone.io`), which must exist, with the
    /// metric `cosine`.
    pub fn builder(host: impl Into<String>, api_key: impl Into<String>) -> PineconeBuilder {
        PineconeBuilder {
            host: host.into(),
            key: Secret::new(api_key),
            namespace: "bedrock".to_owned(),
            timeout: Duration::from_secs(30),
        }
    }

    async fn call(&self, path: &'static str, body: Value) -> Result<Value, Error> {
        self.workers.run(move |http| http.call("POST", path, Some(&body))).await
    }
}

impl PineconeBuilder {
    /// The namespace. Default `bedrock`.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Longest time that a request may take. Default 30 seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Connects, and looks at the index. Blocks the thread meanwhile.
    ///
    /// # Errors
    /// [`Error::Validation`] for an address that is none, a namespace outside 1–100 bytes, or an index of other dimensions; and what the
    /// service answers.
    pub fn connect(self, dimensions: usize) -> Result<Pinecone, Error> {
        if !(1..=100).contains(&self.namespace.len()) {
            return Err(Error::validation("a namespace must have 1 to 100 bytes"));
        }
        let (host, timeout, namespace) = (self.host, self.timeout, self.namespace);
        let headers = vec![("api-key", self.key), ("x-pinecone-api-version", Secret::new(VERSION))];
        let http = Http::new("Pinecone", &host, headers, timeout)?;
        let workers = super::http_workers("pinecone", http)?;
        let stats = wait(workers.run(|http| http.call("POST", "/describe_index_stats", Some(&json!({})))))?;
        check_dimensions("the index", stats["dimension"].as_u64(), dimensions)?;
        Ok(Pinecone { workers, namespace, dimensions })
    }
}

/// A filter as Pinecone has it. `None`: everything.
fn shown(query: &Query) -> Option<Value> {
    Some(match query {
        // What a negation says of lists the service does not tell.
        Query::All | Query::NoTokens(_) | Query::Prefix(_) | Query::Infix(..) => return None,
        Query::Nothing => json!({"attributes": {"$in": ["none"]}}),
        Query::Tokens(any) => json!({"attributes": {"$in": any}}),
        Query::Number { field, low, high } => json!({field: range(*low, *high, "$")}),
        Query::And(all) => {
            let all: Vec<Value> = all.iter().filter_map(shown).collect();
            if all.is_empty() {
                return None;
            }
            json!({"$and": all})
        }
        // If one of them is everything, all of it is.
        Query::Or(any) => json!({"$or": any.iter().map(shown).collect::<Option<Vec<_>>>()?}),
    })
}

impl VectorStore for Pinecone {
    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn upsert<'a>(&'a self, records: &'a [VectorRecord]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            VectorRecord::validate_all(records, self.dimensions)?;
            for some in records.chunks(BATCH) {
                let mut vectors = Vec::with_capacity(some.len());
                for record in some {
                    // Metadata are flat there.
                    let whole = serde_json::to_string(&record.metadata).map_err(Error::backend)?;
                    let mut metadata = json!({"id": record.id, "text": record.text, "metadata": whole,
                        "attributes": tokens(&record.metadata)});
                    for (field, number) in numbers(&record.metadata) {
                        metadata[field] = json!(number);
                    }
                    vectors.push(json!({"id": record.id, "values": unit(&record.vector), "metadata": metadata}));
                }
                self.call("/vectors/upsert", json!({"vectors": vectors, "namespace": self.namespace})).await?;
            }
            Ok(())
        })
    }

    fn delete<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            for some in ids.chunks(DELETE) {
                let body = json!({"ids": some, "namespace": self.namespace});
                match self.call("/vectors/delete", body).await {
                    // There is no such namespace, so there is nothing to delete.
                    Err(Error::ResourceNotFound { .. }) => {}
                    result => drop(result?),
                }
            }
            Ok(())
        })
    }

    fn search<'a>(&'a self, request: &'a VectorSearch) -> BoxFuture<'a, Result<Vec<ScoredRecord>, Error>> {
        Box::pin(async move {
            request.validate(self.dimensions)?;
            let query = compile(request.filter.as_ref(), Patterns::default());
            if query == Query::Nothing {
                return Ok(Vec::new());
            }
            let (vector, filter) = (unit(&request.vector), shown(&query));
            let fetch = |limit: usize| -> BoxFuture<'_, Result<Vec<ScoredRecord>, Error>> {
                let mut body = json!({"vector": vector, "topK": limit, "includeMetadata": true,
                    "includeValues": request.include_vectors, "namespace": self.namespace});
                if let Some(filter) = &filter {
                    body["filter"] = filter.clone();
                }
                Box::pin(async move {
                    let mut answer = self.call("/query", body).await?;
                    let Value::Array(matches) = answer["matches"].take() else {
                        return Err(Error::bad_gateway("Pinecone answered without matches"));
                    };
                    let read = |mut found: Value| {
                        let mut record = found["metadata"].take();
                        let whole = record["metadata"].as_str().and_then(|text| serde_json::from_str(text).ok());
                        record["metadata"] = whole.unwrap_or(Value::Null);
                        read_record("Pinecone", record, found["values"].take(), &found["score"])
                    };
                    matches.into_iter().map(read).collect()
                })
            };
            passing(request.k, request.filter.as_ref(), MOST, &fetch).await
        })
    }

    fn count(&self) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(async move {
            let stats = self.call("/describe_index_stats", json!({})).await?;
            Ok(stats["namespaces"][&self.namespace]["vectorCount"].as_u64().unwrap_or(0))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_is_left_to_be_checked() {
        let filter = |json: Value| compile(Some(&serde_json::from_value(json).unwrap()), Patterns::default());
        let not = json!({"notEquals": {"key": "a", "value": 1}});
        let is = json!({"equals": {"key": "a", "value": "x"}});
        assert_eq!(shown(&filter(not.clone())), None);
        assert_eq!(shown(&filter(json!({"orAll": [not, is]}))), None);
        assert_eq!(
            shown(&filter(json!({"andAll": [not, is]}))),
            Some(json!({"$and": [{"attributes": {"$in": ["XaXsx"]}}]}))
        );
        let builder = Pinecone::builder("http://pinecone.example", "hunter2");
        assert!(!format!("{builder:?}").contains("hunter2"));
        let error = builder.connect(2).unwrap_err();
        assert!(matches!(&error, Error::Validation { .. }) && !error.to_string().contains("hunter2"), "{error}");
    }
}
