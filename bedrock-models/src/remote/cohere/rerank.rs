//! `v2/rerank`.

use bedrock_core::{BoxFuture, Error, RerankRequest, RerankResponse, Reranker};
use serde::Deserialize;
use serde_json::json;

use crate::remote::failure::Malformed;
use crate::remote::transport::{Call, Transport};

/// A reranker behind [`Cohere`](super::Cohere). It counts searches and no tokens, so `inputTokens` is 0. An empty document is sent as a blank.
#[derive(Debug, Clone)]
pub struct CohereReranker {
    transport: Transport,
    model: String,
}

#[derive(Deserialize)]
struct Ranking {
    results: Vec<Ranked>,
}

#[derive(Deserialize)]
struct Ranked {
    index: usize,
    relevance_score: f32,
}

impl CohereReranker {
    pub(super) fn new(transport: Transport, model: String) -> Self {
        Self { transport, model }
    }
}

impl Reranker for CohereReranker {
    /// All documents are ranked, and `top_n` keeps the best: so that ties stand in the order of the request, whatever the server does with them.
    fn rerank<'a>(&'a self, request: &'a RerankRequest) -> BoxFuture<'a, Result<RerankResponse, Error>> {
        Box::pin(async move {
            if request.documents.is_empty() {
                return Ok(RerankResponse::default());
            }
            let documents: Vec<&str> =
                request.documents.iter().map(|document| if document.is_empty() { " " } else { document }).collect();
            let body = json!({"model": self.model, "query": request.query, "documents": documents});
            let ranking: Ranking = self.transport.json(Call::json("v2/rerank", &body)?, "a ranking").await?;
            let mut scores = vec![None; documents.len()];
            for Ranked { index, relevance_score } in ranking.results {
                if let Some(score) = scores.get_mut(index) {
                    *score = Some(relevance_score);
                }
            }
            let missing = || Malformed::Missing { what: "a ranking", missing: "one of the documents" }.whole();
            let scores: Option<Vec<f32>> = scores.into_iter().collect();
            Ok(RerankResponse::from_scores(scores.ok_or_else(missing)?, request.top_n, 0))
        })
    }
}
