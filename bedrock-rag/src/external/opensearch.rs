//! OpenSearch with its k-NN plugin, over its REST interface.
//!
//! A document a record: its vector (Lucene's HNSW, which filters inside the search), its text, its tokens as keywords (see
//! [`query`](super::query)) and its numbers. The records of one call are written together, but not all or none: to write them again repairs
//! it. Each write is made visible before it returns, which costs the server more than writing alone.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bedrock_core::{BoxFuture, Error, ScoredRecord, TextSearch, VectorRecord, VectorSearch, VectorStore};
use serde_json::{Value, json};

use super::http::{Http, is_plain};
use super::over_fetch::passing;
use super::query::{Patterns, Query, compile, numbers, range, tokens};
use super::secret::Secret;
use super::worker::Workers;
use super::{check_dimensions, read_record, unit};
use crate::blocking::wait;

/// Most records of one answer (`index.max_result_window`).
const MOST: usize = 10_000;

/// Most dimensions that Lucene indexes.
const MAX_DIMENSIONS: usize = 16_000;

/// Records of one request.
const BATCH: usize = 256;

const PATTERNS: Patterns = Patterns { prefix: true, infix: true };

/// An index of OpenSearch as a store of vectors. It is one knowledge base's own.
#[derive(Debug)]
pub struct OpenSearch {
    workers: Workers<Http>,
    index: String,
    dimensions: usize,
}

/// Settings of an [`OpenSearch`].
#[derive(Clone)]
#[must_use]
pub struct OpenSearchBuilder {
    address: String,
    index: String,
    authorization: Option<Secret>,
    timeout: Duration,
}

impl fmt::Debug for OpenSearchBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenSearchBuilder").field("index", &self.index).finish_non_exhaustive()
    }
}

impl OpenSearch {
    /// Begins to describe a store on the server at `address`, such as `https://host:9200`.
    pub fn builder(address: impl Into<String>) -> OpenSearchBuilder {
        OpenSearchBuilder {
            address: address.into(),
            index: "bedrock-chunks".to_owned(),
            authorization: None,
            timeout: Duration::from_secs(30),
        }
    }

    async fn call(&self, path: &str, body: Value) -> Result<Value, Error> {
        let path = format!("/{}{path}", self.index);
        self.workers.run(move |http| http.call("POST", &path, Some(&body))).await
    }

    /// Writes lines of actions; an action that failed is an error.
    async fn bulk(&self, lines: String) -> Result<(), Error> {
        let path = format!("/{}/_bulk?refresh=true", self.index);
        let send = move |http: &mut Http| http.send("POST", &path, "application/x-ndjson", lines.into_bytes());
        let answer = self.workers.run(send).await?;
        if answer["errors"] == false {
            return Ok(());
        }
        let items = answer["items"].as_array().into_iter().flatten();
        let failed = items.filter_map(|item| item.as_object()?.values().next()?.get("error")).next();
        let reason = failed.map_or_else(|| "no reason given".to_owned(), Value::to_string);
        Err(Error::DependencyFailed {
            message: format!("OpenSearch did not write: {}", reason.chars().take(300).collect::<String>()),
            resource_name: Some(self.index.clone()),
        })
    }

    fn find<'a>(&'a self, body: Value, score: fn(f64) -> f64) -> BoxFuture<'a, Result<Vec<ScoredRecord>, Error>> {
        Box::pin(async move {
            let mut answer = self.call("/_search", body).await?;
            let Some(Value::Array(hits)) = answer.pointer_mut("/hits/hits").map(Value::take) else {
                return Err(Error::bad_gateway("OpenSearch answered without hits"));
            };
            let read = |mut hit: Value| {
                let mut source = hit["_source"].take();
                let vector = source["vector"].take();
                let score = hit["_score"].as_f64().map_or(Value::Null, |found| json!(score(found)));
                read_record("OpenSearch", source, vector, &score)
            };
            hits.into_iter().map(read).collect()
        })
    }
}

impl OpenSearchBuilder {
    /// The index, which is made if it is not there: 1 to 100 small letters, digits, `_` and `-`, a letter first. Default `bedrock-chunks`.
    pub fn index(mut self, index: impl Into<String>) -> Self {
        self.index = index.into();
        self
    }

    /// The user, and the password by which the server knows it.
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.authorization = Some(Secret::new(format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))));
        self
    }

    /// Longest time that a request may take. Default 30 seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Connects, and makes the index if it is not there. Blocks the thread meanwhile.
    ///
    /// # Errors
    /// [`Error::Validation`] for an address or name that is none, dimensions outside 1–16,000, or an index of other dimensions; and what
    /// the server answers.
    pub fn connect(self, dimensions: usize) -> Result<OpenSearch, Error> {
        let begins = self.index.starts_with(|first: char| first.is_ascii_lowercase());
        let upper = self.index.bytes().any(|byte| byte.is_ascii_uppercase());
        if !is_plain(&self.index) || !begins || upper || !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            return Err(Error::validation(format!("{:?} with {dimensions} dimensions is no index", self.index)));
        }
        let headers = self.authorization.iter().map(|value| ("authorization", value.clone())).collect();
        let http = Http::new("OpenSearch", &self.address, headers, self.timeout)?;
        let index = self.index.clone();
        let workers = super::http_workers("opensearch", http)?;
        let name = index.clone();
        let make = move |http: &Http| http.call("PUT", &format!("/{name}"), Some(&mapping(dimensions))).map(drop);
        let path = format!("/{index}/_mapping");
        if let Some(mappings) = wait(workers.run(move |http| http.find_or(&path, make)))? {
            let found = mappings.pointer(&format!("/{index}/mappings/properties/vector/dimension"));
            check_dimensions(&format!("the index {index}"), found.and_then(Value::as_u64), dimensions)?;
        }
        Ok(OpenSearch { workers, index, dimensions })
    }
}

fn mapping(dimensions: usize) -> Value {
    let method = json!({"name": "hnsw", "engine": "lucene", "space_type": "cosinesimil",
        "parameters": {"m": 16, "ef_construction": 128}});
    json!({
        "settings": {"index": {"knn": true}},
        "mappings": {
            "dynamic_templates": [{"numbers": {"path_match": "numbers.*", "mapping": {"type": "double"}}}],
            "properties": {
                "id": {"type": "keyword"},
                "text": {"type": "text"},
                "metadata": {"type": "object", "enabled": false},
                "attributes": {"type": "keyword"},
                "numbers": {"type": "object"},
                "vector": {"type": "knn_vector", "dimension": dimensions, "method": method},
            }
        }
    })
}

/// A filter as OpenSearch has it.
fn shown(query: &Query) -> Value {
    let each = |all: &[Query]| all.iter().map(shown).collect::<Vec<_>>();
    match query {
        Query::All => json!({"match_all": {}}),
        Query::Nothing => json!({"match_none": {}}),
        Query::Tokens(any) => json!({"terms": {"attributes": any}}),
        Query::NoTokens(none) => json!({"bool": {"must_not": [{"terms": {"attributes": none}}]}}),
        Query::Prefix(start) => json!({"prefix": {"attributes": {"value": start}}}),
        // Tokens hold no `*` or `?`.
        Query::Infix(start, part) => json!({"wildcard": {"attributes": {"value": format!("{start}*{part}*")}}}),
        Query::Number { field, low, high } => json!({"range": {format!("numbers.{field}"): range(*low, *high, "")}}),
        Query::And(all) => json!({"bool": {"filter": each(all)}}),
        Query::Or(any) => json!({"bool": {"should": each(any), "minimum_should_match": 1}}),
    }
}

impl VectorStore for OpenSearch {
    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn upsert<'a>(&'a self, records: &'a [VectorRecord]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            VectorRecord::validate_all(records, self.dimensions)?;
            for some in records.chunks(BATCH) {
                let mut lines = String::new();
                for record in some {
                    let document = json!({"id": record.id, "text": record.text, "metadata": record.metadata,
                        "attributes": tokens(&record.metadata), "numbers": numbers(&record.metadata),
                        "vector": unit(&record.vector)});
                    lines.push_str(&format!("{}\n{document}\n", json!({"index": {"_id": record.id}})));
                }
                self.bulk(lines).await?;
            }
            Ok(())
        })
    }

    fn delete<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            // The server refuses ids that no record can have.
            let ids: Vec<&String> = ids.iter().filter(|id| (1..=512).contains(&id.len())).collect();
            for some in ids.chunks(BATCH) {
                let line = |id: &&String| format!("{}\n", json!({"delete": {"_id": id}}));
                self.bulk(some.iter().map(line).collect()).await?;
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
            let vector = unit(&request.vector);
            let fields: &[&str] = if request.include_vectors {
                &["id", "text", "metadata", "vector"]
            } else {
                &["id", "text", "metadata"]
            };
            let fetch = |limit: usize| {
                let mut knn = json!({"vector": vector, "k": limit});
                if query != Query::All {
                    knn["filter"] = shown(&query);
                }
                let body = json!({"size": limit, "query": {"knn": {"vector": knn}}, "_source": fields});
                // Lucene's score of a cosine is (1 + cosine) / 2.
                self.find(body, |score| 2.0 * score - 1.0)
            };
            passing(request.k, request.filter.as_ref(), MOST, &fetch).await
        })
    }

    fn count(&self) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(async move {
            let answer = self.call("/_count", json!({"query": {"match_all": {}}})).await?;
            answer["count"].as_u64().ok_or_else(|| Error::bad_gateway("OpenSearch answered without a count"))
        })
    }

    fn searches_text(&self) -> bool {
        true
    }

    /// By BM25, with the index's standard analyzer.
    fn search_text<'a>(&'a self, request: &'a TextSearch) -> BoxFuture<'a, Result<Vec<ScoredRecord>, Error>> {
        Box::pin(async move {
            request.validate()?;
            let query = compile(request.filter.as_ref(), PATTERNS);
            if query == Query::Nothing {
                return Ok(Vec::new());
            }
            let fetch = |limit: usize| {
                let matched = json!({"match": {"text": {"query": request.text}}});
                let query = json!({"bool": {"must": [matched], "filter": [shown(&query)]}});
                let body = json!({"size": limit, "query": query, "_source": ["id", "text", "metadata"]});
                self.find(body, |score| score)
            };
            passing(request.k, request.filter.as_ref(), MOST, &fetch).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_refused_without_a_server_is() {
        let builder = OpenSearch::builder("http://127.0.0.1:1").user("me", "hunter2");
        assert!(!format!("{builder:?}").contains("hunter2"));
        for (index, dimensions) in [("Upper", 2), ("_a", 2), ("a/b", 2), ("a", 0), ("a", 16_001)] {
            let result = builder.clone().index(index).connect(dimensions);
            assert!(matches!(result, Err(Error::Validation { .. })), "{index}");
        }
    }
}
