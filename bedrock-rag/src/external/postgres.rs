//! PostgreSQL with pgvector.
//!
//! A table with a row a record: `id text`, `embedding vector(n)` (of length 1), `body text`, `metadata jsonb`, and `words`, which
//! the server makes of the body. An HNSW index is on the vectors, GIN indexes on words and metadata. Filters are SQL over the
//! `jsonb`, every operator of them; names are quoted, values are parameters.
//!
//! pgvector before 0.8 filters what its index has found, which may leave fewer than `k` of many that pass. Then, and only then,
//! the search is done again without the index, which is exact and reads the table. From 0.8 on the index goes on by itself.

mod condition;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bedrock_core::{BoxFuture, Error, ScoredRecord, TextSearch, VectorRecord, VectorSearch, VectorStore};
use futures::future::try_join_all;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Row, Transaction};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::secret::Secret;
use super::worker::Workers;
use super::{check_dimensions, unit};
use crate::blocking::wait;
use condition::Condition;

/// Most dimensions that pgvector indexes.
const MAX_DIMENSIONS: usize = 2000;

/// Candidates of the walk through the index, at least; pgvector's limit is 1,000.
const EF_SEARCH: usize = 100;
const MAX_EF_SEARCH: usize = 1000;

/// Statements that are under way at once in a transaction.
const PIPELINE: usize = 256;

/// A table of PostgreSQL as a store of vectors. It is one knowledge base's own.
#[derive(Debug)]
pub struct PgVector {
    workers: Workers<Session>,
    dimensions: usize,
    names: Names,
    iterates: bool,
}

/// Settings of a [`PgVector`].
#[derive(Clone)]
#[must_use]
pub struct PgVectorBuilder {
    address: Secret,
    schema: String,
    table: String,
    language: String,
    connections: usize,
    timeout: Duration,
    certificates: Vec<Vec<u8>>,
}

impl fmt::Debug for PgVectorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgVectorBuilder")
            .field("schema", &self.schema)
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

/// What stands in statements, quoted.
#[derive(Clone, Debug)]
struct Names {
    table: String,
    language: String,
    shown: String,
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl PgVector {
    /// Begins to describe a store in the database at `address`: a URL (`postgres://user:password@host/database`) or settings
    /// (`host=… user=… password=… dbname=…`). Unless the address says `sslmode=disable`, a server that is not on this machine
    /// has to speak TLS with a certificate that is known.
    pub fn builder(address: impl Into<String>) -> PgVectorBuilder {
        PgVectorBuilder {
            address: Secret::new(address),
            schema: "public".to_owned(),
            table: "bedrock_chunks".to_owned(),
            language: "english".to_owned(),
            connections: 4,
            timeout: Duration::from_secs(30),
            certificates: Vec::new(),
        }
    }
}

impl PgVectorBuilder {
    /// The schema, which must exist. Default `public`.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// The table, which is made if it is not there. Default `bedrock_chunks`.
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.table = table.into();
        self
    }

    /// The text search configuration by which words are cut and stemmed; decided when the table is made. Default `english`.
    pub fn language(mut self, language: impl Into<String>) -> Self {
        self.language = language.into();
        self
    }

    /// Connections, each with a thread. Default 4.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.clamp(1, 64);
        self
    }

    /// Longest time that a call may take, connecting included. Default 30 seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Trusts a certificate (DER) besides those of the public authorities.
    pub fn certificate(mut self, der: impl Into<Vec<u8>>) -> Self {
        self.certificates.push(der.into());
        self
    }

    /// Connects, and makes the extension, table and indexes that are not there. Blocks the thread meanwhile.
    ///
    /// # Errors
    /// [`Error::Validation`] for an address that can't be read, a name that is empty or too long, more than 2,000 dimensions, or a
    /// table of other dimensions; [`Error::AccessDenied`]; [`Error::ServiceUnavailable`] if the server does not answer;
    /// [`Error::DependencyFailed`] if it refuses, for want of pgvector for example.
    pub fn connect(self, dimensions: usize) -> Result<PgVector, Error> {
        let refuse = |what: String| Err(Error::validation(what));
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            return refuse(format!("pgvector indexes vectors of 1 to {MAX_DIMENSIONS} dimensions, not {dimensions}"));
        }
        for name in [&self.schema, &self.table, &self.language] {
            // Longer ones are cut by the server, and the index's name is made of the table's.
            if !(1..=50).contains(&name.len()) || name.contains('\0') {
                return refuse(format!("the name {name:?} must have 1 to 50 bytes"));
            }
        }
        let Ok(mut config) = self.address.expose().parse::<Config>() else {
            // What the parser says may quote the password.
            return refuse("the address of the database can't be read".to_owned());
        };
        let local = |host: &Host| match host {
            Host::Tcp(name) => ["localhost", "127.0.0.1", "::1"].contains(&name.as_str()),
            #[cfg(unix)]
            Host::Unix(_) => true,
        };
        if config.get_ssl_mode() == SslMode::Prefer && !config.get_hosts().iter().all(local) {
            config.ssl_mode(SslMode::Require);
        }
        config.connect_timeout(self.timeout).application_name("bedrock-rag");
        let names = Names {
            table: format!("{}.{}", quoted(&self.schema), quoted(&self.table)),
            language: format!("'{}'", self.language.replace('\'', "''")),
            shown: format!("{}.{}", self.schema, self.table),
        };
        let tls = tls(&self.certificates)?;
        // Of the address, the password is what a message could repeat.
        let secret = Secret::new(String::from_utf8_lossy(config.get_password().unwrap_or_default()));
        let (timeout, shown) = (self.timeout, names.shown.clone());
        let session = move || Session {
            config: config.clone(),
            tls: tls.clone(),
            timeout,
            shown: shown.clone(),
            secret: secret.clone(),
            runtime: None,
            client: None,
        };
        let workers = Workers::start("postgres", self.connections, session)?;
        let (index, setup) = (self.table, names.clone());
        let iterates = wait(workers.run(move |session| {
            session.run(async |client| {
                // Of several that come at once, one makes the table.
                let transaction = client.transaction().await?;
                transaction.batch_execute("SELECT pg_advisory_xact_lock(7310868735423147)").await?;
                transaction.batch_execute(&setup.schema(&index, dimensions)).await?;
                transaction.commit().await?;
                setup.inspect(client, dimensions).await
            })
        }))?;
        Ok(PgVector { workers, dimensions, names, iterates })
    }
}

fn tls(certificates: &[Vec<u8>]) -> Result<MakeRustlsConnect, Error> {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for certificate in certificates {
        roots
            .add(certificate.clone().into())
            .map_err(|error| Error::validation(format!("a certificate can't be used: {error}")))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::backend)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

impl Names {
    fn schema(&self, table: &str, dimensions: usize) -> String {
        let Self { table: name, language, .. } = self;
        let index = |kind: &str| quoted(&format!("{table}_{kind}"));
        format!(
            "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'vector') THEN \
               CREATE EXTENSION vector; END IF; END $$; \
             SET LOCAL client_min_messages = warning; \
             CREATE TABLE IF NOT EXISTS {name} (id text COLLATE \"C\" PRIMARY KEY, embedding vector({dimensions}) NOT NULL, \
               body text NOT NULL, metadata jsonb NOT NULL, \
               words tsvector GENERATED ALWAYS AS (to_tsvector({language}::regconfig, left(body, 200000))) STORED); \
             CREATE INDEX IF NOT EXISTS {} ON {name} USING hnsw (embedding vector_cosine_ops); \
             CREATE INDEX IF NOT EXISTS {} ON {name} USING gin (words); \
             CREATE INDEX IF NOT EXISTS {} ON {name} USING gin (metadata jsonb_path_ops);",
            index("near"),
            index("words"),
            index("attributes"),
        )
    }

    /// Whether the table is as it should be; gives whether the index goes on when a filter lets too little pass.
    async fn inspect(&self, client: &Client, dimensions: usize) -> Result<bool, Failed> {
        let statement = "SELECT atttypmod, (SELECT extversion FROM pg_extension WHERE extname = 'vector') \
                         FROM pg_attribute WHERE attrelid = $1::text::regclass AND attname = 'embedding' AND NOT attisdropped";
        let row = client.query_opt(statement, &[&self.table]).await?;
        let (found, version): (i32, String) = match row {
            Some(row) => (row.try_get(0)?, row.try_get(1)?),
            None => (0, String::new()),
        };
        check_dimensions(&format!("the table {}", self.shown), u64::try_from(found).ok(), dimensions)
            .map_err(Failed::Refused)?;
        let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        Ok((parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (0, 8))
    }
}

/// A connection, and the runtime that drives it on its thread.
struct Session {
    config: Config,
    tls: MakeRustlsConnect,
    timeout: Duration,
    shown: String,
    secret: Secret,
    runtime: Option<Runtime>,
    client: Option<Client>,
}

/// Why a call failed.
enum Failed {
    Postgres(tokio_postgres::Error),
    Refused(Error),
}

impl From<tokio_postgres::Error> for Failed {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl Session {
    /// Does work on the connection, which is made if there is none. Should it turn out to have been closed meanwhile, that is
    /// tried once more: everything done here can be done twice.
    fn run<T>(&mut self, work: impl AsyncFn(&mut Client) -> Result<T, Failed>) -> Result<T, Error> {
        let runtime = match self.runtime.take() {
            Some(runtime) => runtime,
            None => Builder::new_current_thread().enable_all().build().map_err(Error::backend)?,
        };
        let connected = self.client.as_ref().is_some_and(|client| !client.is_closed());
        let mut result = runtime.block_on(self.attempt(&work));
        if connected && matches!(&result, Err(Failed::Postgres(error)) if error.is_closed()) {
            self.client = None;
            result = runtime.block_on(self.attempt(&work));
        }
        self.runtime = Some(runtime);
        result.map_err(|failed| match failed {
            Failed::Refused(error) => error,
            Failed::Postgres(error) => self.explain(&error),
        })
    }

    async fn attempt<T>(&mut self, work: &impl AsyncFn(&mut Client) -> Result<T, Failed>) -> Result<T, Failed> {
        let client = self.client.take().filter(|client| !client.is_closed());
        let whole = async {
            let mut client = match client {
                Some(client) => client,
                None => {
                    let (client, connection) = self.config.connect(self.tls.clone()).await?;
                    // Ends with the connection; what goes wrong there is told by the call that waits for it.
                    tokio::spawn(connection);
                    client
                }
            };
            let result = work(&mut client).await;
            Ok::<_, Failed>((client, result))
        };
        match tokio::time::timeout(self.timeout, whole).await {
            Ok(Ok((client, result))) => {
                self.client = Some(client);
                result
            }
            Ok(Err(failed)) => Err(failed),
            // The connection is dropped with what it was at.
            Err(_) => Err(Failed::Refused(Error::service_unavailable(format!(
                "PostgreSQL did not answer within {:?}",
                self.timeout
            )))),
        }
    }

    fn explain(&self, error: &tokio_postgres::Error) -> Error {
        let Some(db) = error.as_db_error() else {
            let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
            let message = format!("PostgreSQL can't be reached: {error}{cause}");
            return Error::service_unavailable(self.secret.redact(&message));
        };
        let message = self.secret.redact(&format!("PostgreSQL: {}", db.message()));
        match &db.code().code()[..2] {
            "28" => Error::access_denied(message),
            "42" if db.code().code() == "42501" => Error::access_denied(message),
            "53" => Error::service_quota_exceeded(message),
            "40" => Error::conflict(message),
            "57" => Error::service_unavailable(message),
            _ => Error::DependencyFailed { message, resource_name: Some(self.shown.clone()) },
        }
    }
}

/// A record as it is written.
struct Written {
    id: String,
    vector: Vec<f32>,
    body: String,
    metadata: String,
}

impl VectorStore for PgVector {
    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn upsert<'a>(&'a self, records: &'a [VectorRecord]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            VectorRecord::validate_all(records, self.dimensions)?;
            if records.is_empty() {
                return Ok(());
            }
            let written = records.iter().map(written).collect::<Result<Vec<_>, _>>()?;
            let statement = format!(
                "INSERT INTO {} (id, embedding, body, metadata) VALUES ($1, $2::real[]::vector, $3, $4::text::jsonb) \
                 ON CONFLICT (id) DO UPDATE SET embedding = EXCLUDED.embedding, body = EXCLUDED.body, metadata = EXCLUDED.metadata",
                self.names.table
            );
            let work = move |session: &mut Session| {
                session.run(async |client| {
                    let transaction = client.transaction().await?;
                    let statement = transaction.prepare(&statement).await?;
                    for some in written.chunks(PIPELINE) {
                        let one = async |row: &Written| {
                            let values: [&(dyn ToSql + Sync); 4] = [&row.id, &row.vector, &row.body, &row.metadata];
                            transaction.execute(&statement, &values).await
                        };
                        try_join_all(some.iter().map(one)).await?;
                    }
                    Ok(transaction.commit().await?)
                })
            };
            self.workers.run(work).await
        })
    }

    fn delete<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            // No name in the store holds a NUL, and the server takes none.
            let ids: Vec<String> = ids.iter().filter(|id| !id.contains('\0')).cloned().collect();
            let statement = format!("DELETE FROM {} WHERE id = ANY($1)", self.names.table);
            let work = move |session: &mut Session| {
                session.run(async |client| {
                    client.execute(&statement, &[&ids]).await?;
                    Ok(())
                })
            };
            self.workers.run(work).await
        })
    }

    fn search<'a>(&'a self, request: &'a VectorSearch) -> BoxFuture<'a, Result<Vec<ScoredRecord>, Error>> {
        Box::pin(async move {
            request.validate(self.dimensions)?;
            let mut condition = Condition::new(2);
            let passes = condition.of(request.filter.as_ref())?;
            let vectors = if request.include_vectors { ", embedding::real[]" } else { "" };
            // Some more than `k` from the index, so that which of equally near ones is returned is not its choice.
            let statement = |limit: usize| {
                format!(
                    "SELECT id, body, metadata::text, 1 - distance{vectors} FROM (SELECT *, embedding <=> $1::real[]::vector AS distance \
                     FROM {} WHERE {passes} ORDER BY embedding <=> $1::real[]::vector LIMIT {limit}) AS near \
                     ORDER BY distance, id LIMIT {}",
                    self.names.table, request.k
                )
            };
            let limit = request.k + 16;
            let (indexed, exact) = (statement(limit.min(MAX_EF_SEARCH)), statement(limit));
            let candidates = limit.clamp(EF_SEARCH, MAX_EF_SEARCH);
            let iterate = if self.iterates { "SET LOCAL hnsw.iterative_scan = strict_order;" } else { "" };
            let settings = format!("SET LOCAL hnsw.ef_search = {candidates}; {iterate}");
            let (vector, k, include) = (unit(&request.vector), request.k, request.include_vectors);
            let parameters = condition.parameters;
            let work = move |session: &mut Session| {
                session.run(async |client| {
                    let transaction = client.build_transaction().read_only(true).start().await?;
                    transaction.batch_execute(&settings).await?;
                    let mut rows = query(&transaction, &indexed, &vector, &parameters).await?;
                    if rows.len() < k {
                        transaction.batch_execute("SET LOCAL enable_indexscan = off").await?;
                        rows = query(&transaction, &exact, &vector, &parameters).await?;
                    }
                    transaction.commit().await?;
                    rows.iter().map(|row| found(row, include)).collect()
                })
            };
            self.workers.run(work).await
        })
    }

    fn count(&self) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(async move {
            let statement = format!("SELECT count(*) FROM {}", self.names.table);
            let work = move |session: &mut Session| {
                session.run(async |client| {
                    let count: i64 = client.query_one(&statement, &[]).await?.try_get(0)?;
                    Ok(u64::try_from(count).unwrap_or(0))
                })
            };
            self.workers.run(work).await
        })
    }

    fn searches_text(&self) -> bool {
        true
    }

    /// By PostgreSQL's own ranking of words (`ts_rank`), which is not BM25: it does not know how rare a word is.
    fn search_text<'a>(&'a self, request: &'a TextSearch) -> BoxFuture<'a, Result<Vec<ScoredRecord>, Error>> {
        Box::pin(async move {
            request.validate()?;
            let mut condition = Condition::new(2);
            let passes = condition.of(request.filter.as_ref())?;
            // The parser makes a conjunction of words; a disjunction is asked for.
            let statement = format!(
                "SELECT id, body, metadata::text, ts_rank(words, query)::float8 AS score FROM {}, \
                 (SELECT replace(plainto_tsquery({}::regconfig, $1::text)::text, ' & ', ' | ')::tsquery AS query) AS asked \
                 WHERE words @@ query AND {passes} ORDER BY score DESC, id LIMIT {}",
                self.names.table, self.names.language, request.k
            );
            let (text, parameters) = (request.text.replace('\0', " "), condition.parameters);
            let work = move |session: &mut Session| {
                session.run(async |client| {
                    let rows = query(client, &statement, &text, &parameters).await?;
                    rows.iter().map(|row| found(row, false)).collect()
                })
            };
            self.workers.run(work).await
        })
    }
}

/// What asks: a connection or a transaction.
trait Asks {
    async fn ask(&self, statement: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, tokio_postgres::Error>;
}

impl Asks for Client {
    async fn ask(&self, statement: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, tokio_postgres::Error> {
        self.query(statement, values).await
    }
}

impl Asks for Transaction<'_> {
    async fn ask(&self, statement: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, tokio_postgres::Error> {
        self.query(statement, values).await
    }
}

async fn query(
    asks: &impl Asks,
    statement: &str,
    first: &(dyn ToSql + Sync),
    parameters: &[String],
) -> Result<Vec<Row>, Failed> {
    let mut values: Vec<&(dyn ToSql + Sync)> = vec![first];
    values.extend(parameters.iter().map(|parameter| parameter as &(dyn ToSql + Sync)));
    Ok(asks.ask(statement, &values).await?)
}

fn written(record: &VectorRecord) -> Result<Written, Error> {
    let metadata = serde_json::to_string(&record.metadata).map_err(Error::backend)?;
    // In JSON a NUL is written as an escape.
    if record.id.contains('\0') || record.text.contains('\0') || metadata.contains("\\u0000") {
        return Err(Error::validation(format!("record {:?} holds a NUL, which PostgreSQL keeps nowhere", record.id)));
    }
    Ok(Written { id: record.id.clone(), vector: unit(&record.vector), body: record.text.clone(), metadata })
}

fn found(row: &Row, vector: bool) -> Result<ScoredRecord, Failed> {
    let metadata: String = row.try_get(2)?;
    let metadata = serde_json::from_str(&metadata).map_err(|error| Failed::Refused(Error::backend(error)))?;
    let vector = if vector { row.try_get(4)? } else { Vec::new() };
    let score: f64 = row.try_get(3)?;
    let record = VectorRecord { id: row.try_get(0)?, vector, text: row.try_get(1)?, metadata };
    Ok(ScoredRecord { record, score: score as f32 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let builder = PgVector::builder("postgres://me:hunter2@db.example.org/x").table("t");
        assert!(!format!("{builder:?}").contains("hunter2"));
        let error = PgVector::builder("postgres://me:hunter2@db.example.org:port/x").connect(2).unwrap_err();
        assert!(
            matches!(&error, Error::Validation { .. }) && !format!("{error} {error:?}").contains("hunter2"),
            "{error}"
        );
    }

    #[test]
    fn what_can_be_refused_without_a_server_is() {
        let connect = |table: &str, dimensions| PgVector::builder("host=127.0.0.1").table(table).connect(dimensions);
        for (table, dimensions) in [("t", 0), ("t", 2001), ("", 2), (&"t".repeat(51), 2), ("a\0b", 2)] {
            assert!(matches!(connect(table, dimensions), Err(Error::Validation { .. })), "{table} {dimensions}");
        }
        assert!(PgVector::builder("").certificate([1, 2, 3]).connect(2).is_err());
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
