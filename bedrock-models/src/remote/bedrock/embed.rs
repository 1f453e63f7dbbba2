//! Embedding models through their native bodies: Titan and Cohere.

use bedrock_core::{BoxFuture, EmbedPurpose, EmbedRequest, EmbedResponse, EmbeddingModel, EmbeddingModelInfo, Error};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use serde_json::json;

use super::{Bedrock, path};
use crate::remote::ask::refuse;
use crate::remote::transport::Call;
use crate::remote::vectors::RemoteEmbedderSpec;

/// Texts of one call to Cohere, which takes no more.
const BATCH: usize = 96;

/// Calls to Titan, which takes one text each, that are on the way at once.
const AT_ONCE: usize = 8;

/// Whose body is spoken.
#[derive(Debug, Clone, Copy)]
pub(super) enum Embeddings {
    Titan,
    Cohere,
}

/// An embedding model of [`Bedrock`] through `InvokeModel`. See [`RemoteEmbedderSpec`] for texts that are too long.
#[derive(Debug, Clone)]
pub struct BedrockEmbedder {
    service: Bedrock,
    model: String,
    spec: RemoteEmbedderSpec,
    family: Embeddings,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Titan {
    embedding: Vec<f32>,
    #[serde(default)]
    input_text_token_count: u64,
}

#[derive(Deserialize)]
struct Cohere {
    embeddings: ByType,
}

#[derive(Deserialize)]
struct ByType {
    float: Vec<Vec<f32>>,
}

/// What Cohere calls a purpose. It has none for texts of one kind that are compared but this.
pub(in crate::remote) fn input_type(purpose: EmbedPurpose) -> &'static str {
    match purpose {
        EmbedPurpose::Document => "search_document",
        EmbedPurpose::Query => "search_query",
        _ => "clustering",
    }
}

impl BedrockEmbedder {
    pub(super) fn new(service: Bedrock, model: String, spec: RemoteEmbedderSpec, family: Embeddings) -> Self {
        Self { service, model, spec, family }
    }

    /// One text.
    async fn titan(&self, text: String, request: &EmbedRequest) -> Result<Titan, Error> {
        let mut body = json!({ "inputText": text });
        if self.model.contains("embed-text-v2") {
            if let Some(dimensions) = request.dimensions {
                body["dimensions"] = dimensions.into();
            }
            if let Some(normalize) = request.normalize {
                body["normalize"] = normalize.into();
            }
        } else if request.dimensions.is_some_and(|dimensions| dimensions != self.spec.dimensions) {
            return refuse("dimensions", format_args!("this model offers {} alone", self.spec.dimensions));
        }
        self.service.transport.json(Call::json(path(&self.model, "invoke"), &body)?, "a vector").await
    }

    /// Up to [`BATCH`] texts.
    async fn cohere(&self, texts: &[String], request: &EmbedRequest) -> Result<(Vec<Vec<f32>>, u64), Error> {
        let mut body = json!({
            "texts": texts, "input_type": input_type(request.purpose), "truncate": "NONE", "embedding_types": ["float"],
        });
        if let Some(dimensions) = request.dimensions {
            body["output_dimension"] = dimensions.into();
        }
        let call = Call::json(path(&self.model, "invoke"), &body)?;
        let (answer, headers) = self.service.transport.json_and_headers::<Cohere>(call, "vectors").await?;
        let tokens = headers.get("x-amzn-bedrock-input-token-count").and_then(|value| value.to_str().ok());
        Ok((answer.embeddings.float, tokens.and_then(|tokens| tokens.parse().ok()).unwrap_or(0)))
    }
}

impl EmbeddingModel for BedrockEmbedder {
    fn embed<'a>(&'a self, request: &'a EmbedRequest) -> BoxFuture<'a, Result<EmbedResponse, Error>> {
        Box::pin(async move {
            let (texts, cut) = self.spec.texts(request)?;
            let (mut embeddings, mut tokens) = (Vec::with_capacity(texts.len()), 0);
            match self.family {
                Embeddings::Titan => {
                    let calls = texts.into_iter().map(|text| self.titan(text, request));
                    let mut answers = stream::iter(calls).buffered(AT_ONCE);
                    while let Some(answer) = answers.try_next().await? {
                        embeddings.push(answer.embedding);
                        tokens += answer.input_text_token_count;
                    }
                }
                Embeddings::Cohere => {
                    for texts in texts.chunks(BATCH) {
                        let (vectors, count) = self.cohere(texts, request).await?;
                        embeddings.extend(vectors);
                        tokens += count;
                    }
                }
            }
            self.spec.vectors(request, embeddings, tokens, cut)
        })
    }

    fn info(&self) -> EmbeddingModelInfo {
        self.spec.info(&format!("bedrock.{}", self.service.region), &self.model)
    }

    fn count_tokens(&self, text: &str) -> Result<usize, Error> {
        self.spec.count(text)
    }
}
