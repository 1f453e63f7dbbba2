//! MongoDB Atlas, through MongoDB's own driver.
//!
//! A document a record: `_id`, `vector` (BSON's binary vector of `float32`, of length 1), `text`, `metadata` (as JSON) and `attributes`, the tokens of
//! its attributes (see [`query`](super::query)) and of its numbers. Two search indexes are on the collection, made if they are not there: one by
//! vector, with `attributes` to filter by, and one by words. Filters are part of `$vectorSearch` and `$search`; `stringContains`, and
//! `startsWith` among words, are asked for as "has the attribute", and decided here.
//!
//! The collection is written to a majority of the cluster before a call returns, and [`count`](VectorStore::count) counts it. Its search
//! indexes follow some time later, as the service says of itself, a second usually: of the contract of [`VectorStore`], "found by the
//! next search" does not hold.
//!
//! Nothing of this has been tried on a real cluster. MongoDB's documentation leaves open what `$nin` and `$gte` with `$lt` mean of a list of
//! texts; by any reading they let pass what should, and what comes back is checked here. It names no bound for the values of `$in`, of which an interval of
//! numbers takes up to 240.
//!
//! The server has to be trusted further than others here. What this module reads of an answer is bounded, 64 MiB within the time of a call. But the
//! driver reads first: it bounds a message by what the server calls its largest, and parses without a limit of depth, so that one nested
//! a thousand deep and more can end the process with an overflow of the stack. MongoDB's own documents have 100 levels at most.

mod interval;
mod session;
mod stage;

use std::fmt;
use std::time::Duration;

use bedrock_core::{BoxFuture, Error, ScoredRecord, TextSearch, VectorRecord, VectorSearch, VectorStore};
use mongodb::bson::{Document, RawDocumentBuf, deserialize_from_slice, doc};
use mongodb::error::ErrorKind;

use super::over_fetch::passing;
use super::query::{Patterns, Query, compile};
use super::secret::Secret;
use super::worker::Workers;
use crate::blocking::wait;
use session::{CONNECTIONS, Failed, Session, documents};
use stage::{Index, MOST};

/// Most dimensions that Atlas indexes.
const MAX_DIMENSIONS: usize = 8192;

/// Records of one request, and their bytes; the server bounds a request at 16 MiB, and a document too.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 8 << 20;
const MAX_BYTES: usize = 15 << 20;

/// Search indexes of a collection that are looked at.
const MAX_INDEXES: usize = 1000;

const PATTERNS: Patterns = Patterns { prefix: true, infix: false };

/// A collection of MongoDB Atlas as a store of vectors. It is one knowledge base's own.
#[derive(Debug)]
pub struct MongoDb {
    workers: Workers<Session>,
    names: Names,
    dimensions: usize,
    exact: bool,
}

/// Settings of a [`MongoDb`].
#[derive(Clone)]
#[must_use]
pub struct MongoDbBuilder {
    address: Secret,
    names: Names,
    exact: bool,
    timeout: Duration,
    index_timeout: Duration,
}

#[derive(Clone, Debug)]
struct Names {
    database: String,
    collection: String,
    vector_index: String,
    text_index: String,
}

impl fmt::Debug for MongoDbBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoDbBuilder").field("names", &self.names).finish_non_exhaustive()
    }
}

impl MongoDb {
    /// Begins to describe a store in the cluster at `address`: `mongodb+srv://user:password@host/` (with the feature `mongodb-srv`) or
    /// `mongodb://user:password@host,host/?tls=true&replicaSet=…`, with the options of MongoDB's connection strings. Unless the server is on
    /// this machine, an address with a password has to ask for TLS; `mongodb+srv` does.
    pub fn builder(address: impl Into<String>) -> MongoDbBuilder {
        MongoDbBuilder {
            address: Secret::new(address),
            names: Names {
                database: "bedrock".to_owned(),
                collection: "bedrock_chunks".to_owned(),
                vector_index: "bedrock_vector".to_owned(),
                text_index: "bedrock_text".to_owned(),
            },
            exact: false,
            timeout: Duration::from_secs(30),
            index_timeout: Duration::from_secs(300),
        }
    }

    /// Sends a command that writes, and sees that all of it was written.
    async fn write(&self, command: Document) -> Result<(), Error> {
        self.workers
            .run(move |session| {
                session.run(async |session| {
                    let answer = session.database.run_command(command.clone()).await?;
                    let first = answer.get_array("writeErrors").ok().and_then(|errors| errors.first()?.as_document());
                    match first.or_else(|| answer.get_document("writeConcernError").ok()) {
                        Some(failed) => {
                            let reason: String =
                                failed.get_str("errmsg").unwrap_or_default().chars().take(300).collect();
                            Err(Error::dependency_failed(format!("MongoDB did not write: {reason}")).into())
                        }
                        None => Ok(()),
                    }
                })
            })
            .await
    }

    fn find<const N: usize>(
        &self,
        limit: usize,
        stages: [Document; N],
        score: fn(f32) -> f32,
    ) -> BoxFuture<'_, Result<Vec<ScoredRecord>, Error>> {
        let find = move |session: &mut Session| {
            session.run(async |session| {
                let found = session.collection.aggregate(stages.clone()).batch_size(limit as u32).await?;
                let read = |found: &RawDocumentBuf| {
                    let unreadable = || Error::bad_gateway("MongoDB answered with a record that was not written so");
                    let mut found = stage::read_record(found).ok_or_else(unreadable)?;
                    found.score = score(found.score);
                    Ok(found)
                };
                let found = documents(found.with_type::<RawDocumentBuf>(), limit).await?;
                found.iter().map(read).collect()
            })
        };
        Box::pin(self.workers.run(find))
    }
}

impl MongoDbBuilder {
    /// The database: 1 to 60 letters, digits, `_` and `-`. Default `bedrock`.
    pub fn database(mut self, database: impl Into<String>) -> Self {
        self.names.database = database.into();
        self
    }

    /// The collection, which is made if it is not there; named like the database. Default `bedrock_chunks`.
    pub fn collection(mut self, collection: impl Into<String>) -> Self {
        self.names.collection = collection.into();
        self
    }

    /// The search index by vector, which is made if it is not there. Default `bedrock_vector`.
    pub fn vector_index(mut self, index: impl Into<String>) -> Self {
        self.names.vector_index = index.into();
        self
    }

    /// The search index by words, which is made if it is not there. Default `bedrock_text`.
    pub fn text_index(mut self, index: impl Into<String>) -> Self {
        self.names.text_index = index.into();
        self
    }

    /// Compares the query with all vectors that pass the filter instead of walking through the graph of them: exact, and slow where there
    /// are many. Default `false`.
    pub fn exact(mut self, exact: bool) -> Self {
        self.exact = exact;
        self
    }

    /// Longest time that a call may take, connecting included. Default 30 seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Longest time that [`connect`](Self::connect) waits for the search indexes to be ready. Default 5 minutes.
    pub fn index_timeout(mut self, timeout: Duration) -> Self {
        self.index_timeout = timeout;
        self
    }

    /// Connects, makes the collection and the indexes that are not there, and waits until they can be asked. Blocks the thread meanwhile.
    ///
    /// # Errors
    /// [`Error::Validation`] for an address or name that can't be one, dimensions outside 1–8,192, or an index of other dimensions or fields;
    /// [`Error::AccessDenied`]; [`Error::ServiceUnavailable`] if the server does not answer or its indexes are not ready in time;
    /// [`Error::DependencyFailed`] if it refuses, because it has no search for example.
    pub fn connect(self, dimensions: usize) -> Result<MongoDb, Error> {
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            let what = format!("MongoDB indexes vectors of 1 to {MAX_DIMENSIONS} dimensions, not {dimensions}");
            return Err(Error::validation(what));
        }
        let names = self.names;
        for name in [&names.database, &names.collection, &names.vector_index, &names.text_index] {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
            if !(1..=60).contains(&name.len()) || !name.bytes().all(fits) {
                return Err(Error::validation(format!(
                    "the name {name:?} must be 1 to 60 letters, digits, '_' and '-'"
                )));
            }
        }
        let session = wait(Session::open(&self.address, (&names.database, &names.collection), self.timeout))?;
        let workers = Workers::start("mongodb", CONNECTIONS, move || session.clone())?;
        let (wanted, longest) = (names.clone(), self.index_timeout);
        wait(workers.run(move |session| {
            session.run(async |session| wanted.make(session, dimensions).await)?;
            match session.poll(longest, async |session| wanted.ready(session, dimensions).await)? {
                Some(()) => Ok(()),
                None => {
                    let what = format!("the search indexes of MongoDB were not ready within {longest:?}");
                    Err(Error::service_unavailable(what))
                }
            }
        }))?;
        Ok(MongoDb { workers, names, dimensions, exact: self.exact })
    }
}

impl Names {
    /// Makes the collection and the indexes that are not there.
    async fn make(&self, session: &Session, dimensions: usize) -> Result<(), Failed> {
        // NamespaceExists; IndexAlreadyExists: somebody else was faster.
        let made = |result: mongodb::error::Result<Document>| match result {
            Err(error) if matches!(&*error.kind, ErrorKind::Command(refused) if [48, 68].contains(&refused.code)) => {
                Ok(())
            }
            result => result.map(drop),
        };
        let found = match self.indexes(session).await {
            // NamespaceNotFound.
            Err(Failed::Driver(error)) if matches!(&*error.kind, ErrorKind::Command(refused) if refused.code == 26) => {
                Vec::new()
            }
            result => result?,
        };
        let kinds = [(&self.vector_index, "vectorSearch"), (&self.text_index, "search")];
        let wanted = kinds.into_iter().zip(stage::definitions(dimensions));
        let missing: Vec<_> = wanted.filter(|((name, _), _)| found.iter().all(|index| index.name != **name)).collect();
        if !missing.is_empty() {
            made(session.database.run_command(doc! {"create": &self.collection}).await)?;
        }
        for ((name, kind), definition) in missing {
            let index = doc! {"name": name, "type": kind, "definition": definition};
            let command = doc! {"createSearchIndexes": &self.collection, "indexes": [index]};
            made(session.database.run_command(command).await)?;
        }
        Ok(())
    }

    /// Something, if both indexes are what they should be and can be asked.
    async fn ready(&self, session: &Session, dimensions: usize) -> Result<Option<()>, Failed> {
        let found = self.indexes(session).await?;
        let named = |name: &str| found.iter().find(|index| index.name == name);
        let (vector, text) = (named(&self.vector_index), named(&self.text_index));
        if let Some(vector) = vector {
            vector.check(dimensions)?;
        }
        let queryable = |index: Option<&Index>| index.is_some_and(|index| index.queryable);
        Ok((queryable(vector) && queryable(text)).then_some(()))
    }

    async fn indexes(&self, session: &Session) -> Result<Vec<Index>, Failed> {
        let listed = session.collection.aggregate([doc! {"$listSearchIndexes": {}}]).await?;
        let listed = documents(listed.with_type::<RawDocumentBuf>(), MAX_INDEXES).await?;
        let unreadable = |_| Error::bad_gateway("MongoDB described its search indexes in a way that is not known");
        let read = |index: &RawDocumentBuf| deserialize_from_slice(index.as_bytes()).map_err(unreadable);
        Ok(listed.iter().map(read).collect::<Result<_, _>>()?)
    }
}

impl VectorStore for MongoDb {
    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn upsert<'a>(&'a self, records: &'a [VectorRecord]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            VectorRecord::validate_all(records, self.dimensions)?;
            let (mut batches, mut bytes) = (vec![Vec::new()], 0);
            for (index, record) in records.iter().enumerate() {
                let document = stage::document(record)?;
                let size = RawDocumentBuf::try_from(&document).map_err(Error::backend)?.as_bytes().len();
                if size > MAX_BYTES {
                    let what = format!("records.{index} has {size} bytes; MongoDB keeps at most {MAX_BYTES}");
                    return Err(Error::validation(what));
                }
                let batch = batches.last().map_or(0, Vec::len);
                if batch == BATCH || batch > 0 && bytes + size > BATCH_BYTES {
                    batches.push(Vec::new());
                    bytes = 0;
                }
                bytes += size;
                if let Some(batch) = batches.last_mut() {
                    batch.push(doc! {"q": {"_id": &record.id}, "u": document, "upsert": true});
                }
            }
            for updates in batches.into_iter().filter(|batch| !batch.is_empty()) {
                let concern = doc! {"w": "majority"};
                let command = doc! {"update": &self.names.collection, "updates": updates, "ordered": false, "writeConcern": concern};
                self.write(command).await?;
            }
            Ok(())
        })
    }

    fn delete<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            for some in ids.chunks(BATCH) {
                let deletes = vec![doc! {"q": {"_id": {"$in": some}}, "limit": 0}];
                let concern = doc! {"w": "majority"};
                let command = doc! {"delete": &self.names.collection, "deletes": deletes, "ordered": false, "writeConcern": concern};
                self.write(command).await?;
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
            let fetch = |limit: usize| {
                let (index, vectors) = (&self.names.vector_index, request.include_vectors);
                let stages = stage::nearest(index, &request.vector, &query, limit, self.exact, vectors);
                // Atlas's score of a cosine is (1 + cosine) / 2.
                self.find(limit, stages, |score| 2.0 * score - 1.0)
            };
            passing(request.k, request.filter.as_ref(), MOST, &fetch).await
        })
    }

    fn count(&self) -> BoxFuture<'_, Result<u64, Error>> {
        let count = |session: &mut Session| {
            session.run(async |session| Ok(session.collection.count_documents(doc! {}).await?))
        };
        Box::pin(self.workers.run(count))
    }

    fn searches_text(&self) -> bool {
        true
    }

    /// By BM25, with Lucene's standard analyzer.
    fn search_text<'a>(&'a self, request: &'a TextSearch) -> BoxFuture<'a, Result<Vec<ScoredRecord>, Error>> {
        Box::pin(async move {
            request.validate()?;
            let query = compile(request.filter.as_ref(), Patterns::default());
            // The server refuses a search for nothing.
            if query == Query::Nothing || request.text.trim().is_empty() {
                return Ok(Vec::new());
            }
            let fetch = |limit: usize| {
                let stages = stage::by_words(&self.names.text_index, &request.text, &query, limit);
                self.find(limit, stages, |score| score)
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
        let builder = MongoDb::builder("mongodb://me:hunter2@127.0.0.1:1/");
        assert!(!format!("{builder:?}").contains("hunter2"));
        for (name, dimensions) in [("", 2), ("a/b", 2), ("system.x", 2), ("$a", 2), ("a\0", 2), ("a", 0), ("a", 8193)] {
            let result = builder.clone().collection(name).connect(dimensions);
            assert!(matches!(result, Err(Error::Validation { .. })), "{name:?}");
        }
    }
}
