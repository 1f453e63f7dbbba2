//! Ranking of documents by how well they answer a query.

use std::sync::Arc;

use futures::executor::block_on;

use crate::BoxFuture;
use crate::error::Error;

/// A model that reads a query and a document together and says how well the one answers the other.
pub trait Reranker: Send + Sync {
    /// The documents, best first. No documents give no results.
    ///
    /// # Errors
    /// Whatever the model fails with.
    fn rerank<'a>(&'a self, request: &'a RerankRequest) -> BoxFuture<'a, Result<RerankResponse, Error>>;

    /// [`Reranker::rerank`] for callers without an async runtime: blocks the thread until the answer is there.
    ///
    /// # Errors
    /// As [`Reranker::rerank`].
    fn rerank_blocking(&self, request: &RerankRequest) -> Result<RerankResponse, Error> {
        block_on(self.rerank(request))
    }
}

/// What to rank.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RerankRequest {
    /// The query.
    pub query: String,
    /// The documents. What is too long for the model is cut at its end.
    pub documents: Vec<String>,
    /// At most this many results. `None`: all.
    pub top_n: Option<usize>,
}

impl RerankRequest {
    /// Ranks all of the documents.
    pub fn new(query: impl Into<String>, documents: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { query: query.into(), documents: documents.into_iter().map(Into::into).collect(), top_n: None }
    }
}

/// A ranking.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RerankResponse {
    /// Best first; equal scores in the order of the request.
    pub results: Vec<RerankResult>,
    /// Tokens that went through the model.
    pub input_tokens: u64,
}

impl RerankResponse {
    /// Sorts scores, which stand in the order of the documents, as the contract says, and keeps `top_n`.
    /// Scores that are not a number come last.
    pub fn from_scores(scores: impl IntoIterator<Item = f32>, top_n: Option<usize>, input_tokens: u64) -> Self {
        let mut results: Vec<_> = scores
            .into_iter()
            .enumerate()
            .map(|(index, relevance_score)| RerankResult { index, relevance_score })
            .collect();
        let rank = |score: f32| if score.is_nan() { f32::NEG_INFINITY } else { score };
        results.sort_by(|a, b| rank(b.relevance_score).total_cmp(&rank(a.relevance_score)).then(a.index.cmp(&b.index)));
        if let Some(top_n) = top_n {
            results.truncate(top_n);
        }
        Self { results, input_tokens }
    }
}

/// One document of a ranking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RerankResult {
    /// Which document of the request, from 0.
    pub index: usize,
    /// How well it answers the query; higher is better. The scale is the model's own.
    pub relevance_score: f32,
}

macro_rules! forward {
    ($($pointer:ident),*) => {$(
        impl<T: Reranker + ?Sized> Reranker for $pointer<T> {
            fn rerank<'a>(&'a self, request: &'a RerankRequest) -> BoxFuture<'a, Result<RerankResponse, Error>> {
                (**self).rerank(request)
            }
        }
    )*};
}
forward!(Arc, Box);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_first_ties_by_index_and_no_number_last() {
        let response = RerankResponse::from_scores([0.5, f32::NAN, 0.9, 0.5, -1.0], Some(4), 7);
        let order: Vec<_> = response.results.iter().map(|result| result.index).collect();
        assert_eq!(order, [2, 0, 3, 4]);
    }
}
