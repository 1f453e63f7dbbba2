//! Bodies of embedding models: Titan's and Cohere's.

use std::sync::Arc;

use bedrock_core::{BoxFuture, EmbedPurpose, EmbedRequest, EmbeddingModel, Error};
use futures::executor::block_on;
use serde_json::{Map, Value, json};

use super::fields::{Fields, malformed};
use super::fresh_id;

/// Whose bodies an embedding model answers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EmbeddingFamily {
    /// Titan Text Embeddings of Amazon: one `inputText`.
    Titan,
    /// Embed of Cohere: up to 96 `texts`.
    Cohere,
}

impl EmbeddingFamily {
    /// The family of a model of the service, by its id: `cohere.embed-english-v3`. None for other ids.
    pub fn of(model_id: &str) -> Option<Self> {
        let id = ["us.", "eu.", "apac.", "global."].iter().find_map(|region| model_id.strip_prefix(region));
        let id = id.unwrap_or(model_id);
        if id.starts_with("amazon.titan-embed-text") || id.starts_with("amazon.titan-embed-g1") {
            Some(Self::Titan)
        } else if id.starts_with("cohere.embed") {
            Some(Self::Cohere)
        } else {
            None
        }
    }
}

/// An embedding model that answers to the bodies of a family.
///
/// Numbers of fewer bits are made of the vector's values, which for vectors of length 1 lie in -1..1: `int8` is 127 times the
/// value, rounded; `uint8` that and 128; `binary` packs the signs of eight values into a byte, the first into its highest bit, as a
/// number from -128, `ubinary` as one from 0. The service's models have other scales of their own. Titan's `binary` is a list of
/// zeros and ones.
#[derive(Clone)]
pub struct InvokeEmbedding {
    model: Arc<dyn EmbeddingModel>,
    family: EmbeddingFamily,
}

impl std::fmt::Debug for InvokeEmbedding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InvokeEmbedding").field("family", &self.family).finish_non_exhaustive()
    }
}

impl InvokeEmbedding {
    /// Any embedding model.
    pub fn new(model: Arc<dyn EmbeddingModel>, family: EmbeddingFamily) -> Self {
        Self { model, family }
    }

    /// Answers a body with a body.
    ///
    /// # Errors
    /// [`Error::Validation`] for a body that is not of the family or asks for what the model cannot; whatever the model
    /// fails with.
    pub fn invoke<'a>(&'a self, body: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, Error>> {
        Box::pin(async move {
            let body = Fields::read(body)?;
            let body = match self.family {
                EmbeddingFamily::Titan => self.titan(body).await,
                EmbeddingFamily::Cohere => self.cohere(body).await,
            }?;
            serde_json::to_vec(&body).map_err(Error::backend)
        })
    }

    /// [`InvokeEmbedding::invoke`] for callers without an async runtime: blocks the thread until the answer is there.
    ///
    /// # Errors
    /// As [`InvokeEmbedding::invoke`].
    pub fn invoke_blocking(&self, body: &[u8]) -> Result<Vec<u8>, Error> {
        block_on(self.invoke(body))
    }

    async fn titan(&self, mut body: Fields) -> Result<Value, Error> {
        let text = body.required("inputText", Fields::some_text)?;
        let dimensions = body.integer("dimensions", 1, u64::from(u32::MAX))?;
        if let Some(dimensions) = dimensions.filter(|dimensions| ![256, 512, 1024].contains(dimensions)) {
            return Err(malformed(format!("#/dimensions: {dimensions} is not a valid enum value")));
        }
        let normalize = body.boolean("normalize")?.unwrap_or(true);
        let types = types(&mut body, "embeddingTypes", &["float", "binary"])?;
        body.end()?;
        let request = EmbedRequest {
            inputs: vec![text],
            dimensions: dimensions.map(|dimensions| dimensions as usize),
            normalize: Some(normalize),
            truncate: false,
            ..EmbedRequest::default()
        };
        let response = self.model.embed(&request).await?;
        let vector = response.embeddings.first().cloned().unwrap_or_default();
        let types = types.unwrap_or_else(|| vec!["float".into()]);
        let mut by_type = Map::new();
        for kind in &types {
            let values = match kind.as_str() {
                "binary" => vector.iter().map(|value| Value::from(u8::from(*value > 0.0))).collect(),
                _ => json!(vector),
            };
            by_type.insert(kind.clone(), values);
        }
        let mut answer = json!({ "embeddingsByType": by_type, "inputTextTokenCount": response.input_tokens });
        if types.iter().any(|kind| kind == "float") {
            answer["embedding"] = json!(vector);
        }
        Ok(answer)
    }

    async fn cohere(&self, mut body: Fields) -> Result<Value, Error> {
        body.refuse("images", &[json!([])], "images are not supported")?;
        let texts = body.required("texts", |body, key| body.texts(key, 96))?;
        if texts.is_empty() {
            return Err(malformed("#/texts: expected minimum item count: 1, found: 0"));
        }
        const PURPOSES: &[&str] = &["search_document", "search_query", "classification", "clustering"];
        let purpose = body.required("input_type", |body, key| body.label(key, PURPOSES))?;
        let truncate = body.label("truncate", &["NONE", "START", "END"])?;
        if truncate.as_deref() == Some("START") {
            return Err(body.unsupported("truncate", "texts are only cut at their end"));
        }
        let types = types(&mut body, "embedding_types", &["float", "int8", "uint8", "binary", "ubinary"])?;
        let dimensions = body.integer("output_dimension", 1, 1 << 20)?;
        body.end()?;
        let request = EmbedRequest {
            inputs: texts.clone(),
            purpose: match purpose.as_str() {
                "search_document" => EmbedPurpose::Document,
                "search_query" => EmbedPurpose::Query,
                _ => EmbedPurpose::Other,
            },
            dimensions: dimensions.map(|dimensions| dimensions as usize),
            normalize: None,
            truncate: truncate.as_deref() == Some("END"),
        };
        let vectors = self.model.embed(&request).await?.embeddings;
        let (kind, embeddings) = match types {
            None => ("embeddings_floats", json!(vectors)),
            Some(types) => {
                let by_type =
                    |kind: &String| (kind.clone(), vectors.iter().map(|vector| as_type(kind, vector)).collect());
                ("embeddings_by_type", Value::Object(types.iter().map(by_type).collect()))
            }
        };
        Ok(json!({ "id": fresh_id(24), "response_type": kind, "texts": texts, "embeddings": embeddings }))
    }
}

/// A list of types, each of which is known.
fn types(body: &mut Fields, key: &str, allowed: &[&str]) -> Result<Option<Vec<String>>, Error> {
    let types = body.texts(key, allowed.len())?;
    match types.iter().flatten().find(|kind| !allowed.contains(&kind.as_str())) {
        Some(kind) => Err(malformed(format!("#/{key}: {kind} is not a valid enum value"))),
        None => Ok(types.filter(|types| !types.is_empty())),
    }
}

fn as_type(kind: &str, vector: &[f32]) -> Value {
    let byte = |value: &f32| (value * 127.0).round().clamp(-128.0, 127.0) as i16;
    let bits = |eight: &[f32]| {
        eight.iter().enumerate().fold(0u8, |bits, (i, value)| bits | (u8::from(*value > 0.0) << (7 - i)))
    };
    match kind {
        "int8" => vector.iter().map(byte).collect(),
        "uint8" => vector.iter().map(|value| byte(value) + 128).collect(),
        "binary" => vector.chunks(8).map(|eight| i16::from(bits(eight)) - 128).collect(),
        "ubinary" => vector.chunks(8).map(bits).collect(),
        _ => json!(vector),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_fewer_bits() {
        let vector = [1.0, -1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.25, -0.5];
        assert_eq!(as_type("int8", &vector[..3]), json!([127, -127, 64]));
        assert_eq!(as_type("uint8", &vector[..3]), json!([255, 1, 192]));
        assert_eq!(as_type("ubinary", &vector), json!([0b1010_0001, 0]));
        assert_eq!(as_type("binary", &vector), json!([0b1010_0001 - 128, -128]));
    }
}
