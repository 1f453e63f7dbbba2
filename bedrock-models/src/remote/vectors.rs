//! What the embedding models of all providers have in common: how long texts are, and what vectors must be like.

use std::sync::Arc;

use bedrock_core::{EmbedRequest, EmbedResponse, EmbeddingModelInfo, Error};

use super::failure::Malformed;
use crate::tokenizer::Tokenizer;

/// What is known of an embedding model behind a server, which says none of it itself.
#[derive(Debug, Clone)]
pub struct RemoteEmbedderSpec {
    /// Length of its vectors unless a request asks for less.
    pub dimensions: usize,
    /// Most tokens of one input.
    pub max_input_tokens: usize,
    /// The model's tokenizer, to count tokens and to cut what is too long. Without one, tokens are estimated as a third of the
    /// bytes, rounded up, which is more than most texts have; and a text that is too long is refused by the server, even where it might be cut.
    pub tokenizer: Option<Arc<Tokenizer>>,
}

impl RemoteEmbedderSpec {
    /// A model without a tokenizer.
    pub fn new(dimensions: usize, max_input_tokens: usize) -> Self {
        Self { dimensions, max_input_tokens, tokenizer: None }
    }

    /// The same with the model's tokenizer.
    pub fn tokenizer(mut self, tokenizer: Arc<Tokenizer>) -> Self {
        self.tokenizer = Some(tokenizer);
        self
    }

    pub(super) fn count(&self, text: &str) -> Result<usize, Error> {
        match &self.tokenizer {
            Some(tokenizer) => Ok(tokenizer.count(text)?),
            None => Ok(text.len().div_ceil(3)),
        }
    }

    pub(super) fn info(&self, provider: &str, model: &str) -> EmbeddingModelInfo {
        EmbeddingModelInfo {
            model_id: model.to_owned(),
            dimensions: self.dimensions,
            max_input_tokens: self.max_input_tokens,
            // Whatever the provider changes behind the name, only the name is known.
            identity: format!("{provider}:{model}:{}", self.dimensions),
        }
    }

    /// The texts as they are sent, and which of them were cut. An empty one becomes a blank, since servers refuse it.
    pub(super) fn texts(&self, request: &EmbedRequest) -> Result<(Vec<String>, Vec<usize>), Error> {
        if let Some(dimensions) = request.dimensions
            && !(1..=self.dimensions).contains(&dimensions)
        {
            let message = format!("dimensions is {dimensions}; this model offers 1 to {}", self.dimensions);
            return Err(Error::validation(message));
        }
        let (mut texts, mut cut) = (Vec::with_capacity(request.inputs.len()), Vec::new());
        for (index, input) in request.inputs.iter().enumerate() {
            let mut text = if input.is_empty() { " ".to_owned() } else { input.clone() };
            if let Some(tokenizer) = &self.tokenizer {
                let most = self.max_input_tokens.saturating_sub(tokenizer.special_tokens_added(false));
                let ids = tokenizer.encode(&text, false)?;
                if ids.len() > most {
                    if !request.truncate {
                        let message = format!("inputs.{index} has {} tokens; at most {most} are possible", ids.len());
                        return Err(Error::validation(message));
                    }
                    text = tokenizer.decode(&ids[..most], true)?;
                    cut.push(index);
                }
            }
            texts.push(text);
        }
        Ok((texts, cut))
    }

    /// Checks vectors, and gives them length 1 where asked for.
    pub(super) fn vectors(
        &self,
        request: &EmbedRequest,
        mut embeddings: Vec<Vec<f32>>,
        input_tokens: u64,
        truncated: Vec<usize>,
    ) -> Result<EmbedResponse, Error> {
        if embeddings.len() != request.inputs.len() {
            return Err(Malformed::Missing { what: "vectors", missing: "one for each input" }.whole());
        }
        let wanted = request.dimensions.unwrap_or(self.dimensions);
        for vector in &mut embeddings {
            if vector.len() != wanted {
                let message = format!("dimensions: the model gave {} where {wanted} were expected", vector.len());
                return Err(Error::validation(message));
            }
            if !vector.iter().all(|value| value.is_finite()) {
                return Err(Malformed::Missing { what: "a vector", missing: "finite values" }.whole());
            }
            let norm = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
            if request.normalize == Some(true) && norm > 0.0 {
                vector.iter_mut().for_each(|value| *value = (f64::from(*value) / norm) as f32);
            }
        }
        Ok(EmbedResponse { embeddings, input_tokens, truncated })
    }
}
