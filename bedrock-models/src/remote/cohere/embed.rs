//! `v2/embed`.

use bedrock_core::{BoxFuture, EmbedRequest, EmbedResponse, EmbeddingModel, EmbeddingModelInfo, Error};
use serde::Deserialize;
use serde_json::json;

use super::Cohere;
use crate::remote::bedrock::input_type;
use crate::remote::transport::Call;
use crate::remote::vectors::RemoteEmbedderSpec;

/// Texts of one call; more are not taken.
const BATCH: usize = 96;

/// An embedding model behind [`Cohere`]. A text for another purpose than searching is embedded for clustering. See [`RemoteEmbedderSpec`] for texts that
/// are too long.
#[derive(Debug, Clone)]
pub struct CohereEmbedder {
    server: Cohere,
    model: String,
    spec: RemoteEmbedderSpec,
}

#[derive(Deserialize)]
struct Vectors {
    embeddings: ByType,
    #[serde(default)]
    meta: Meta,
}

#[derive(Deserialize)]
struct ByType {
    float: Vec<Vec<f32>>,
}

#[derive(Default, Deserialize)]
struct Meta {
    billed_units: Option<Units>,
}

#[derive(Default, Deserialize)]
struct Units {
    input_tokens: Option<f64>,
}

impl CohereEmbedder {
    pub(super) fn new(server: Cohere, model: String, spec: RemoteEmbedderSpec) -> Self {
        Self { server, model, spec }
    }
}

impl EmbeddingModel for CohereEmbedder {
    fn embed<'a>(&'a self, request: &'a EmbedRequest) -> BoxFuture<'a, Result<EmbedResponse, Error>> {
        Box::pin(async move {
            let (texts, cut) = self.spec.texts(request)?;
            let (mut embeddings, mut tokens) = (Vec::with_capacity(texts.len()), 0);
            for texts in texts.chunks(BATCH) {
                let mut body = json!({
                    "model": self.model, "texts": texts, "input_type": input_type(request.purpose),
                    "embedding_types": ["float"], "truncate": "NONE",
                });
                if let Some(dimensions) = request.dimensions {
                    body["output_dimension"] = dimensions.into();
                }
                let answer: Vectors = self.server.transport.json(Call::json("v2/embed", &body)?, "vectors").await?;
                embeddings.extend(answer.embeddings.float);
                tokens += answer.meta.billed_units.and_then(|units| units.input_tokens).unwrap_or(0.0) as u64;
            }
            self.spec.vectors(request, embeddings, tokens, cut)
        })
    }

    fn info(&self) -> EmbeddingModelInfo {
        self.spec.info(&self.server.address, &self.model)
    }

    fn count_tokens(&self, text: &str) -> Result<usize, Error> {
        self.spec.count(text)
    }
}
