//! Vectors in a database server, for when one machine is outgrown or one is there already.
//!
//! Each of these is a [`VectorStore`](bedrock_core::VectorStore), passes its contract, and carries a knowledge base whose one
//! other line is [`KnowledgeBaseBuilder::vector_store`](crate::KnowledgeBaseBuilder::vector_store). Filters are asked of the server.
//!
//! | store | feature | words | filters | tested against |
//! | --- | --- | --- | --- | --- |
//! | [`PgVector`] | `postgres` | yes | all, as SQL | PostgreSQL 16.2, pgvector 0.6.2 |
//! | [`RediSearch`] | `redis` | yes | all; `startsWith` and `stringContains` by more than is wanted | Redis 8.2, RediSearch 2.10 |
//! | [`Qdrant`] | `qdrant` | no | all; `stringContains` by more than is wanted | a server that the test plays |
//! | [`OpenSearch`] | `opensearch` | yes | all | a server that the test plays |
//! | [`Pinecone`] | `pinecone` | no | all; patterns and negations by more than is wanted | a server that the test plays |
//! | [`MongoDb`] | `mongodb` | yes | all; `stringContains` by more than is wanted | a server that the test plays |
//!
//! Played servers do what the vendor's description of the interface says, and their requests are compared with those that the vendor's own
//! client in Python makes; none of the four has been tried on the real one.
//!
//! "By more than is wanted": the server is asked for records that have the attribute, and which of them pass is decided here; if fewer
//! than `k` of the 10,000 nearest (of Pinecone the 1,000) do, that is a [`Validation`](bedrock_core::Error::Validation) error, never a short result.
//!
//! Calls run on threads of the store's own, so the futures need no runtime and block nobody. Each has a longest time. Passwords and
//! keys appear in no message and no `Debug`.

#[cfg(feature = "http")]
mod http;
#[cfg(feature = "mongodb")]
mod mongodb;
#[cfg(feature = "opensearch")]
mod opensearch;
#[cfg(any(feature = "http", feature = "mongodb", feature = "redis"))]
mod over_fetch;
#[cfg(feature = "pinecone")]
mod pinecone;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "qdrant")]
mod qdrant;
#[cfg(any(feature = "http", feature = "mongodb", feature = "redis"))]
mod query;
#[cfg(feature = "redis")]
mod redis;
pub(crate) mod secret;
#[cfg(any(feature = "http", feature = "mongodb", feature = "postgres", feature = "redis"))]
mod worker;

#[cfg(feature = "mongodb")]
pub use mongodb::{MongoDb, MongoDbBuilder};
#[cfg(feature = "opensearch")]
pub use opensearch::{OpenSearch, OpenSearchBuilder};
#[cfg(feature = "pinecone")]
pub use pinecone::{Pinecone, PineconeBuilder};
#[cfg(feature = "postgres")]
pub use postgres::{PgVector, PgVectorBuilder};
#[cfg(feature = "qdrant")]
pub use qdrant::{Qdrant, QdrantBuilder};
#[cfg(feature = "redis")]
pub use redis::{RediSearch, RediSearchBuilder};

/// The vector at length 1, which is how all of these keep it: neither tiny nor huge ones lose their direction on the way.
#[cfg(any(feature = "http", feature = "mongodb", feature = "postgres", feature = "redis"))]
fn unit(vector: &[f32]) -> Vec<f32> {
    let norm = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    vector.iter().map(|x| (f64::from(*x) / norm) as f32).collect()
}

/// That what a server has, called `what`, holds vectors of as many `dimensions` as are wanted.
#[cfg(any(feature = "http", feature = "mongodb", feature = "postgres", feature = "redis"))]
fn check_dimensions(what: &str, found: Option<u64>, dimensions: usize) -> Result<(), bedrock_core::Error> {
    if found == Some(dimensions as u64) {
        return Ok(());
    }
    let found = found.map_or_else(|| "unknown".to_owned(), |found| found.to_string());
    Err(bedrock_core::Error::validation(format!("{what} has {found} dimensions, not {dimensions}")))
}

/// Threads that ask a server over HTTP.
#[cfg(feature = "http")]
fn http_workers(name: &str, http: http::Http) -> Result<worker::Workers<http::Http>, bedrock_core::Error> {
    worker::Workers::start(name, 4, move || http.clone())
}

/// A record as a server gives it back: `id`, `text` and `metadata` in an object; its vector (null, if not asked for) and its score.
#[cfg(feature = "http")]
fn read_record(
    service: &str,
    mut record: serde_json::Value,
    vector: serde_json::Value,
    score: &serde_json::Value,
) -> Result<bedrock_core::ScoredRecord, bedrock_core::Error> {
    let unreadable =
        || bedrock_core::Error::bad_gateway(format!("{service} answered with a record that was not written so"));
    let text = |value: serde_json::Value| {
        if let serde_json::Value::String(text) = value { Ok(text) } else { Err(unreadable()) }
    };
    let vector: Option<Vec<f32>> = serde_json::from_value(vector).map_err(|_| unreadable())?;
    Ok(bedrock_core::ScoredRecord {
        record: bedrock_core::VectorRecord {
            id: text(record["id"].take())?,
            vector: vector.unwrap_or_default(),
            text: text(record["text"].take())?,
            metadata: serde_json::from_value(record["metadata"].take()).map_err(|_| unreadable())?,
        },
        score: score.as_f64().ok_or_else(unreadable)? as f32,
    })
}
