//! Vectors in a database server, for when one machine is outgrown or one is there already.
//!
//! Each of these is a [`VectorStore`](bedrock_core::VectorStore), passes its contract, and carries a knowledge base whose one
//! other line is [`KnowledgeBaseBuilder::vector_store`](crate::KnowledgeBaseBuilder::vector_store). Filters are asked of the server.
//!
//! | store | feature | words | filters | tested against |
//! | --- | --- | --- | --- | --- |
//! | [`PgVector`] | `postgres` | yes | all, as SQL | PostgreSQL 16.2, pgvector 0.6.2 |
//! | [`RediSearch`] | `redis` | yes | all; `startsWith` and `stringContains` by more than is wanted | Redis 8.2, RediSearch 2.10 |
//!
//! "By more than is wanted": the server is asked for records that have the attribute, and which of them pass is decided here; if fewer
//! than `k` of the 10,000 nearest do, that is a [`Validation`](bedrock_core::Error::Validation) error, never a short result.
//!
//! Calls run on threads of the store's own, so the futures need no runtime and block nobody. Each has a longest time. Passwords and
//! keys appear in no message and no `Debug`.

#[cfg(feature = "redis")]
mod over_fetch;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod query;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod secret;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod worker;

#[cfg(feature = "postgres")]
pub use postgres::{PgVector, PgVectorBuilder};
#[cfg(feature = "redis")]
pub use redis::{RediSearch, RediSearchBuilder};

/// The vector at length 1, which is how all of these keep it: neither tiny nor huge ones lose their direction on the way.
#[cfg(any(feature = "postgres", feature = "redis"))]
fn unit(vector: &[f32]) -> Vec<f32> {
    let norm = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    vector.iter().map(|x| (f64::from(*x) / norm) as f32).collect()
}
