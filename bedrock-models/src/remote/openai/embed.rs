//! `embeddings`.

use bedrock_core::{BoxFuture, EmbedRequest, EmbedResponse, EmbeddingModel, EmbeddingModelInfo, Error};
use serde::Deserialize;
use serde_json::json;

use super::OpenAi;
use crate::remote::failure::Malformed;
use crate::remote::transport::Call;
use crate::remote::vectors::RemoteEmbedderSpec;

/// Texts of one call.
const BATCH: usize = 256;

/// An embedding model behind [`OpenAi`]. What a text is for makes no difference to it; see [`RemoteEmbedderSpec`] for texts that are too long.
#[derive(Debug, Clone)]
pub struct OpenAiEmbedder {
    server: OpenAi,
    model: String,
    spec: RemoteEmbedderSpec,
}

#[derive(Deserialize)]
struct Vectors {
    data: Vec<Entry>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Entry {
    index: usize,
    embedding: Vec<f32>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u64,
}

impl OpenAiEmbedder {
    pub(super) fn new(server: OpenAi, model: String, spec: RemoteEmbedderSpec) -> Self {
        Self { server, model, spec }
    }
}

impl EmbeddingModel for OpenAiEmbedder {
    fn embed<'a>(&'a self, request: &'a EmbedRequest) -> BoxFuture<'a, Result<EmbedResponse, Error>> {
        Box::pin(async move {
            let (texts, cut) = self.spec.texts(request)?;
            let (mut embeddings, mut tokens) = (Vec::with_capacity(texts.len()), 0);
            for texts in texts.chunks(BATCH) {
                let mut body = json!({"model": self.model, "input": texts, "encoding_format": "float"});
                if let Some(dimensions) = request.dimensions {
                    body["dimensions"] = dimensions.into();
                }
                let answer: Vectors = self.server.transport.json(Call::json("embeddings", &body)?, "vectors").await?;
                let mut vectors = vec![Vec::new(); texts.len()];
                for Entry { index, embedding } in answer.data {
                    let wrong = || Malformed::Missing { what: "vectors", missing: "the index of an input" }.whole();
                    *vectors.get_mut(index).ok_or_else(wrong)? = embedding;
                }
                embeddings.extend(vectors);
                tokens += answer.usage.map_or(0, |usage| usage.prompt_tokens);
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
