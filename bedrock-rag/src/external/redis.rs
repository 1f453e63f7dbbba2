//! Redis with RediSearch (Redis Stack, Redis 8, Redis Cloud).
//!
//! A hash a record, under `INDEX:` and its id, and an index over them: HNSW over the vectors, words of the text, and the attributes as
//! tokens (see [`query`](super::query)) in a tag field. A number is in a numeric field of its key besides, which is added to the
//! index when the first record with that key comes; an index has room for some thousand of them. Up to 10,000 records are compared one
//! by one, more through the graph.
//!
//! RediSearch looks for at most 200 different tags that begin with, or hold, a text, unless its server is told otherwise, and does not
//! say when there are more. So `startsWith` and `stringContains` are asked for as "has the attribute", and decided here.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bedrock_core::{
    BoxFuture, Error, RetrievalFilter, ScoredRecord, TextSearch, VectorRecord, VectorSearch, VectorStore,
};
use redis::{Client, Cmd, Connection, ErrorKind, Pipeline, RedisError, Value};

use super::over_fetch::passing;
use super::query::{Patterns, Query, compile, number_field, numbers, tokens};
use super::secret::Secret;
use super::worker::Workers;
use super::{check_dimensions, unit};
use crate::blocking::wait;

/// Most records of one answer.
const MOST: usize = 10_000;

/// Up to so many records a search compares every one of them, in a few milliseconds; with more it walks the graph.
const EXACT_TO: u64 = 10_000;

/// Most different words of a query.
const MAX_WORDS: usize = 64;

/// An index of RediSearch as a store of vectors. It is one knowledge base's own.
#[derive(Debug)]
pub struct RediSearch {
    workers: Workers<Session>,
    index: String,
    dimensions: usize,
    /// Numeric fields that the index has.
    fields: Arc<RwLock<BTreeSet<String>>>,
}

/// Settings of a [`RediSearch`].
#[derive(Clone)]
#[must_use]
pub struct RediSearchBuilder {
    address: Secret,
    index: String,
    connections: usize,
    timeout: Duration,
}

impl fmt::Debug for RediSearchBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RediSearchBuilder").field("index", &self.index).finish_non_exhaustive()
    }
}

impl RediSearch {
    /// Begins to describe a store on the server at `address`: `redis://user:password@host:port/database`, or `rediss://` for TLS.
    pub fn builder(address: impl Into<String>) -> RediSearchBuilder {
        RediSearchBuilder {
            address: Secret::new(address),
            index: "bedrock_chunks".to_owned(),
            connections: 4,
            timeout: Duration::from_secs(30),
        }
    }

    fn knows(&self, field: &str) -> bool {
        self.fields.read().unwrap_or_else(PoisonError::into_inner).contains(field)
    }

    /// Makes sure that the index has these numeric fields.
    async fn add_fields(&self, wanted: BTreeSet<String>) -> Result<(), Error> {
        let missing: Vec<String> = wanted.into_iter().filter(|field| !self.knows(field)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let (index, fields) = (self.index.clone(), self.fields.clone());
        let work = move |session: &mut Session| {
            for field in missing {
                let mut command = redis::cmd("FT.ALTER");
                command.arg(&index).arg("SCHEMA").arg("ADD").arg(&field).arg("NUMERIC");
                match session.run(|connection| command.query::<Value>(connection)) {
                    Err(Error::DependencyFailed { message, .. }) if message.contains("uplicate field") => {}
                    result => drop(result?),
                }
                fields.write().unwrap_or_else(PoisonError::into_inner).insert(field);
            }
            Ok(())
        };
        self.workers.run(work).await
    }

    /// What is asked for a filter. Another process may have added the field of a number since this one looked.
    async fn filter(&self, filter: Option<&RetrievalFilter>) -> Result<Query, Error> {
        let query = compile(filter, Patterns::default());
        let mut asked = BTreeSet::new();
        number_fields(&query, &mut asked);
        if asked.iter().any(|field| !self.knows(field)) {
            let (index, fields, dimensions) = (self.index.clone(), self.fields.clone(), self.dimensions);
            let work = move |session: &mut Session| {
                *fields.write().unwrap_or_else(PoisonError::into_inner) = session.inspect(&index, dimensions)?;
                Ok(())
            };
            self.workers.run(work).await?;
        }
        Ok(query)
    }

    /// Asks for records; `score` reads the score from what was asked for.
    fn ask<'a>(
        &'a self,
        mut command: Cmd,
        score: fn(&str) -> Option<f32>,
    ) -> BoxFuture<'a, Result<Vec<ScoredRecord>, Error>> {
        Box::pin(async move {
            command.arg("DIALECT").arg(2);
            let work = move |session: &mut Session| session.run(|connection| command.query::<Value>(connection));
            records(self.workers.run(work).await?, score)
        })
    }
}

impl RediSearchBuilder {
    /// The index, which is made if it is not there: 1 to 100 letters, digits, `_`, `-` and `.`. Default `bedrock_chunks`.
    pub fn index(mut self, index: impl Into<String>) -> Self {
        self.index = index.into();
        self
    }

    /// Connections, each with a thread. Default 4.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.clamp(1, 64);
        self
    }

    /// Longest time to connect, and to wait for the server at a time. Default 30 seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.max(Duration::from_millis(1));
        self
    }

    /// Connects, and makes the index if it is not there. Blocks the thread meanwhile.
    ///
    /// # Errors
    /// [`Error::Validation`] for an address that can't be read, an index's name out of range, dimensions outside 1–32,768, or an index
    /// of other dimensions; [`Error::AccessDenied`]; [`Error::ServiceUnavailable`] if the server does not answer;
    /// [`Error::DependencyFailed`] if it refuses, for want of RediSearch for example.
    pub fn connect(self, dimensions: usize) -> Result<RediSearch, Error> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if !(1..=100).contains(&self.index.len()) || !self.index.bytes().all(fits) {
            return Err(Error::validation(format!("{:?} is no name for an index", self.index)));
        }
        if !(1..=32_768).contains(&dimensions) {
            return Err(Error::validation(format!(
                "RediSearch indexes vectors of 1 to 32768 dimensions, not {dimensions}"
            )));
        }
        // Whoever has chosen another provider for the whole process keeps it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // What the parser says may quote the password.
        let client = Client::open(self.address.expose())
            .map_err(|_| Error::validation("the address of the Redis server can't be read"))?;
        let (timeout, secret) = (self.timeout, self.address);
        let session = move || Session { client: client.clone(), secret: secret.clone(), timeout, connection: None };
        let workers = Workers::start("redis", self.connections, session)?;
        let index = self.index.clone();
        let fields = wait(workers.run(move |session| {
            let create = create(&index, dimensions);
            match session.run(|connection| create.query::<Value>(connection)) {
                Err(Error::DependencyFailed { message, .. }) if message.contains("already exists") => {}
                result => drop(result?),
            }
            session.inspect(&index, dimensions)
        }))?;
        Ok(RediSearch { workers, index: self.index, dimensions, fields: Arc::new(RwLock::new(fields)) })
    }
}

fn create(index: &str, dimensions: usize) -> Cmd {
    let mut command = redis::cmd("FT.CREATE");
    command.arg(index).arg(&["ON", "HASH", "PREFIX", "1"]).arg(format!("{index}:"));
    // Every word counts: which ones are common depends on the language.
    command.arg(&["STOPWORDS", "0", "SCHEMA", "vector", "VECTOR", "HNSW", "12", "TYPE", "FLOAT32", "DIM"]);
    command.arg(dimensions).arg(&[
        "DISTANCE_METRIC",
        "COSINE",
        "M",
        "16",
        "EF_CONSTRUCTION",
        "128",
        "EF_RUNTIME",
        "100",
    ]);
    command.arg(&["text", "TEXT", "attributes", "TAG", "SEPARATOR", ",", "CASESENSITIVE"]);
    command
}

/// A connection.
struct Session {
    client: Client,
    secret: Secret,
    timeout: Duration,
    connection: Option<Connection>,
}

impl Session {
    /// Does work on the connection, which is made if there is none. Should it turn out to have been closed meanwhile, that is
    /// tried once more: everything done here can be done twice.
    fn run<T>(&mut self, work: impl Fn(&mut Connection) -> Result<T, RedisError>) -> Result<T, Error> {
        let reused = self.connection.is_some();
        match self.attempt(&work) {
            Err(error) if reused && (error.is_connection_dropped() || error.is_unrecoverable_error()) => {
                self.attempt(&work)
            }
            result => result,
        }
        .map_err(|error| self.explain(&error))
    }

    fn attempt<T>(&mut self, work: impl Fn(&mut Connection) -> Result<T, RedisError>) -> Result<T, RedisError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let connection = self.client.get_connection_with_timeout(self.timeout)?;
                connection.set_read_timeout(Some(self.timeout))?;
                connection.set_write_timeout(Some(self.timeout))?;
                connection
            }
        };
        let result = work(&mut connection);
        // After a timeout the answer may still come, and would be taken for that of the next call.
        let usable = match &result {
            Ok(_) => true,
            Err(error) => !error.is_timeout() && !error.is_io_error() && !error.is_unrecoverable_error(),
        };
        self.connection = usable.then_some(connection);
        result
    }

    fn explain(&self, error: &RedisError) -> Error {
        let message = self.secret.redact(&format!("Redis: {error}"));
        match error.kind() {
            _ if error.is_timeout() => {
                Error::service_unavailable(format!("Redis did not answer within {:?}", self.timeout))
            }
            _ if error.is_io_error() || error.is_connection_refusal() => Error::service_unavailable(message),
            ErrorKind::AuthenticationFailed => Error::access_denied("Redis refuses the user or the password"),
            _ if matches!(error.code(), Some("NOPERM" | "NOAUTH" | "WRONGPASS")) => Error::access_denied(message),
            _ if error.code() == Some("OOM") => Error::service_quota_exceeded(message),
            _ => Error::dependency_failed(message),
        }
    }

    /// Whether the index is as it should be; gives its numeric fields.
    fn inspect(&mut self, index: &str, dimensions: usize) -> Result<BTreeSet<String>, Error> {
        let mut info = redis::cmd("FT.INFO");
        info.arg(index);
        let info = self.run(|connection| info.query::<Value>(connection))?;
        let mut words = Vec::new();
        flatten(&info, &mut words);
        let after = |word: &str| words.iter().position(|other| other == word).and_then(|at| words.get(at + 1));
        let found = after("dim").and_then(|dim| dim.parse().ok());
        check_dimensions(&format!("the index {index}"), found, dimensions)?;
        let fields = words.windows(2).filter(|pair| pair[0] == "attribute").map(|pair| pair[1].clone());
        Ok(fields.filter(|field| !["vector", "text", "attributes"].contains(&field.as_str())).collect())
    }
}

/// The words of an answer, one after another, however deep they stand.
fn flatten(value: &Value, words: &mut Vec<String>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| flatten(value, words)),
        Value::Map(pairs) => pairs.iter().for_each(|(key, value)| {
            flatten(key, words);
            flatten(value, words);
        }),
        Value::Int(number) => words.push(number.to_string()),
        Value::BulkString(bytes) => words.push(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) => words.push(text.clone()),
        _ => {}
    }
}

fn number_fields(query: &Query, fields: &mut BTreeSet<String>) {
    match query {
        Query::Number { field, .. } => drop(fields.insert(field.clone())),
        Query::And(all) | Query::Or(all) => all.iter().for_each(|one| number_fields(one, fields)),
        _ => {}
    }
}

fn bytes(vector: &[f32]) -> Vec<u8> {
    unit(vector).into_iter().flat_map(f32::to_le_bytes).collect()
}

impl RediSearch {
    /// A filter in RediSearch's language. Tokens and fields are letters and digits, so nothing needs escaping.
    fn shown(&self, query: &Query) -> String {
        let joined = |all: &[Query], by: &str| {
            let all: Vec<String> = all.iter().map(|one| self.shown(one)).collect();
            format!("({})", all.join(by))
        };
        // No record has a field called so; there is no other way to ask for nothing.
        let nothing = || "@attributes:{none}".to_owned();
        match query {
            Query::All => "*".to_owned(),
            Query::Nothing => nothing(),
            Query::Tokens(any) => format!("@attributes:{{{}}}", any.join("|")),
            Query::NoTokens(none) => format!("(-@attributes:{{{}}})", none.join("|")),
            Query::Prefix(_) | Query::Infix(..) => "*".to_owned(),
            Query::Number { field, .. } if !self.knows(field) => nothing(),
            Query::Number { field, low, high } => {
                let bound = |bound: &Option<(f64, bool)>, none: &str| {
                    bound.map_or_else(
                        || none.to_owned(),
                        |(bound, included)| format!("{}{bound:e}", if included { "" } else { "(" }),
                    )
                };
                format!("@{field}:[{} {}]", bound(low, "-inf"), bound(high, "+inf"))
            }
            Query::And(all) => joined(all, " "),
            Query::Or(any) => joined(any, " | "),
        }
    }
}

/// The words of a query, as RediSearch cuts a text into words.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let word = word.to_lowercase();
        if words.len() < MAX_WORDS && word.len() <= 128 && !words.contains(&word) {
            words.push(word);
        }
    }
    words
}

/// Reads what `FT.SEARCH` answers: how many there are, then for each its key and its fields.
fn records(answer: Value, score: fn(&str) -> Option<f32>) -> Result<Vec<ScoredRecord>, Error> {
    let unreadable = || Error::bad_gateway("Redis answered with what is no result of a search");
    let Value::Array(values) = answer else { return Err(unreadable()) };
    let mut records = Vec::new();
    let mut last_score = None;
    for value in values.into_iter().skip(1) {
        match value {
            Value::Array(fields) => {
                let mut record = VectorRecord::default();
                let mut found = last_score.take();
                let mut fields = fields.into_iter();
                while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
                    let (Value::BulkString(name), Value::BulkString(value)) = (name, value) else {
                        return Err(unreadable());
                    };
                    let text = |value: Vec<u8>| String::from_utf8(value).map_err(|_| unreadable());
                    match name.as_slice() {
                        b"id" => record.id = text(value)?,
                        b"text" => record.text = text(value)?,
                        b"metadata" => record.metadata = serde_json::from_slice(&value).map_err(Error::backend)?,
                        b"vector" => {
                            let (values, _) = value.as_chunks::<4>();
                            record.vector = values.iter().map(|&value| f32::from_le_bytes(value)).collect();
                        }
                        b"distance" => found = score(&text(value)?),
                        _ => {}
                    }
                }
                // A record that was deleted while the search went on has no fields.
                if !record.id.is_empty() {
                    records.push(ScoredRecord { record, score: found.ok_or_else(unreadable)? });
                }
            }
            // A key, or the score that comes after it.
            Value::BulkString(text) => last_score = score(&String::from_utf8_lossy(&text)),
            Value::Double(number) => last_score = Some(number as f32),
            _ => return Err(unreadable()),
        }
    }
    Ok(records)
}

impl VectorStore for RediSearch {
    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn upsert<'a>(&'a self, records: &'a [VectorRecord]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            VectorRecord::validate_all(records, self.dimensions)?;
            if records.is_empty() {
                return Ok(());
            }
            let fields = records.iter().flat_map(|record| &record.metadata);
            let fields = fields.filter(|(_, value)| value.is_number()).map(|(key, _)| number_field(key));
            self.add_fields(fields.collect()).await?;
            let mut pipeline = Pipeline::new();
            pipeline.atomic();
            for record in records {
                let key = format!("{}:{}", self.index, record.id);
                let tokens: Vec<String> = tokens(&record.metadata).into_iter().collect();
                let metadata = serde_json::to_string(&record.metadata).map_err(Error::backend)?;
                pipeline.cmd("DEL").arg(&key).ignore();
                let command = pipeline.cmd("HSET").arg(&key).arg("id").arg(&record.id);
                command.arg("text").arg(&record.text).arg("metadata").arg(metadata);
                command.arg("vector").arg(bytes(&record.vector)).arg("attributes").arg(tokens.join(","));
                for (field, number) in numbers(&record.metadata) {
                    command.arg(field).arg(format!("{number:e}"));
                }
                command.ignore();
            }
            self.workers.run(move |session| session.run(|connection| pipeline.query::<()>(connection))).await
        })
    }

    fn delete<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            if ids.is_empty() {
                return Ok(());
            }
            let mut command = redis::cmd("DEL");
            for id in ids {
                command.arg(format!("{}:{id}", self.index));
            }
            self.workers.run(move |session| session.run(|connection| command.query::<()>(connection))).await
        })
    }

    fn search<'a>(&'a self, request: &'a VectorSearch) -> BoxFuture<'a, Result<Vec<ScoredRecord>, Error>> {
        Box::pin(async move {
            request.validate(self.dimensions)?;
            let query = self.filter(request.filter.as_ref()).await?;
            if query == Query::Nothing {
                return Ok(Vec::new());
            }
            // RediSearch's graphs leave some records where no walk comes by, so a small store is asked to compare one by one, which it
            // does only beside a filter. No record has the tag.
            let (query, how) = match (self.count().await? <= EXACT_TO, query) {
                (true, Query::All) => ("(-@attributes:{none})".to_owned(), "HYBRID_POLICY ADHOC_BF"),
                (true, query) => (self.shown(&query), "HYBRID_POLICY ADHOC_BF"),
                (false, query) => (self.shown(&query), ""),
            };
            let query = format!("({query})=>[KNN $k @vector $query {how} AS distance]");
            let vector = bytes(&request.vector);
            let fetch = |limit: usize| {
                let mut command = redis::cmd("FT.SEARCH");
                command.arg(&self.index).arg(&query);
                command.arg("PARAMS").arg(4).arg("k").arg(limit).arg("query").arg(&vector);
                command.arg("SORTBY").arg("distance").arg("LIMIT").arg(0).arg(limit);
                let fields = ["distance", "id", "text", "metadata", "vector"];
                let fields = &fields[..if request.include_vectors { 5 } else { 4 }];
                command.arg("RETURN").arg(fields.len()).arg(fields);
                self.ask(command, |distance| {
                    distance.parse().ok().map(|distance: f32| (1.0 - distance).clamp(-1.0, 1.0))
                })
            };
            passing(request.k, request.filter.as_ref(), MOST, &fetch).await
        })
    }

    fn count(&self) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(async move {
            let mut command = redis::cmd("FT.SEARCH");
            command.arg(&self.index).arg("*").arg("LIMIT").arg(0).arg(0).arg("DIALECT").arg(2);
            let work = move |session: &mut Session| session.run(|connection| command.query::<(u64,)>(connection));
            Ok(self.workers.run(work).await?.0)
        })
    }

    fn searches_text(&self) -> bool {
        true
    }

    /// By BM25, over words that are stemmed as English ones.
    fn search_text<'a>(&'a self, request: &'a TextSearch) -> BoxFuture<'a, Result<Vec<ScoredRecord>, Error>> {
        Box::pin(async move {
            request.validate()?;
            let words = words(&request.text);
            let query = self.filter(request.filter.as_ref()).await?;
            if words.is_empty() || query == Query::Nothing {
                return Ok(Vec::new());
            }
            // Attributes decide who is found, not in which order.
            let filter = match &query {
                Query::All => String::new(),
                query => format!(" ({})=>{{$weight: 0.0}}", self.shown(query)),
            };
            let query = format!("(@text:({})){filter}", words.join("|"));
            let fetch = |limit: usize| {
                let mut command = redis::cmd("FT.SEARCH");
                command.arg(&self.index).arg(&query).arg(&["SCORER", "BM25STD", "WITHSCORES", "LIMIT", "0"]).arg(limit);
                command.arg("RETURN").arg(3).arg(&["id", "text", "metadata"]);
                self.ask(command, |score| score.parse().ok())
            };
            passing(request.k, request.filter.as_ref(), MOST, &fetch).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let builder = RediSearch::builder("redis://:hunter2@127.0.0.1:1/0");
        assert!(!format!("{builder:?}").contains("hunter2"));
        let error = RediSearch::builder("http://:hunter2@127.0.0.1").connect(2).unwrap_err();
        assert!(matches!(&error, Error::Validation { .. }) && !format!("{error:?}").contains("hunter2"));
        // Nobody listens there.
        let error = builder.timeout(Duration::from_secs(5)).connect(2).unwrap_err();
        assert!(matches!(&error, Error::ServiceUnavailable { .. }), "{error:?}");
        assert!(!format!("{error:?}").contains("hunter2"));
    }

    #[test]
    fn queries_are_words() {
        assert_eq!(words("Don't @text:{x} – naïve 東京 DON"), ["don", "t", "text", "x", "naïve", "東京"]);
        let connect =
            |index: &str, dimensions| RediSearch::builder("redis://127.0.0.1:1").index(index).connect(dimensions);
        for (index, dimensions) in [("", 2), ("a b", 2), ("a", 0), ("a", 32_769)] {
            assert!(matches!(connect(index, dimensions), Err(Error::Validation { .. })));
        }
    }

    #[test]
    fn answers_that_are_none_are_errors() {
        let score = |text: &str| text.parse().ok();
        assert!(records(Value::Okay, score).is_err());
        let fields = vec![Value::BulkString(b"id".to_vec()), Value::BulkString(b"x".to_vec())];
        let answer = Value::Array(vec![Value::Int(1), Value::BulkString(b"k".to_vec()), Value::Array(fields.clone())]);
        assert!(records(answer, score).is_err(), "no score");
        let answer = Value::Array(vec![Value::Int(1), Value::BulkString(b"0.5".to_vec()), Value::Array(fields)]);
        assert_eq!(records(answer, score).unwrap()[0].score, 0.5);
    }
}
