//! Text embeddings.

use std::ops::Range;
use std::sync::Arc;

use futures::executor::block_on;
use serde::{Deserialize, Serialize};

use crate::BoxFuture;
use crate::error::Error;

/// A model that turns text into vectors whose nearness is nearness of meaning.
pub trait EmbeddingModel: Send + Sync {
    /// One vector for each input, in the order of the inputs. No inputs give no vectors.
    ///
    /// # Errors
    /// [`Error::Validation`] if an input is too long and may not be cut, or if the dimensions asked for are not offered.
    fn embed<'a>(&'a self, request: &'a EmbedRequest) -> BoxFuture<'a, Result<EmbedResponse, Error>>;

    /// What the model is.
    fn info(&self) -> EmbeddingModelInfo;

    /// Tokens of `text`, without special tokens.
    ///
    /// # Errors
    /// Whatever the tokenizer fails with.
    fn count_tokens(&self, text: &str) -> Result<usize, Error>;

    /// What the model thinks of each token of each text, layer by layer, in the order of the texts, without prompts; a text that is too long is cut. `None`
    /// if the model gives none, as most don't: those behind an API, and those whose layers are not told apart.
    ///
    /// # Errors
    /// Whatever the tokenizer fails with.
    fn token_states<'a>(&'a self, texts: &'a [String]) -> BoxFuture<'a, Result<Option<Vec<TokenStates>>, Error>> {
        let _ = texts;
        Box::pin(async { Ok(None) })
    }

    /// [`EmbeddingModel::embed`] for callers without an async runtime: blocks the thread until the answer is there.
    ///
    /// # Errors
    /// As [`EmbeddingModel::embed`].
    fn embed_blocking(&self, request: &EmbedRequest) -> Result<EmbedResponse, Error> {
        block_on(self.embed(request))
    }
}

/// The tokens of a text and their vectors behind each layer: see [`EmbeddingModel::token_states`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenStates {
    /// Bytes of the text that each token stands for. Special tokens are left out.
    pub spans: Vec<Range<usize>>,
    /// The input of the first layer, then the output of each: one vector a token, one after another.
    pub layers: Vec<Vec<f32>>,
}

/// What an embedding model is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EmbeddingModelInfo {
    /// Its id.
    pub model_id: String,
    /// Length of its vectors unless a request asks for less.
    pub dimensions: usize,
    /// Most tokens of one input, special tokens included.
    pub max_input_tokens: usize,
    /// Hash of everything that decides a vector: weights, tokenizer, pooling, prompts, normalisation. Two models with
    /// equal identity give equal vectors, so an index made with one may be searched with the other.
    pub identity: String,
}

/// What a text will be used for. Some models put another prompt before each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum EmbedPurpose {
    /// To be found.
    Document,
    /// To find documents.
    Query,
    /// Something else, such as comparing texts of one kind. No prompt.
    #[default]
    Other,
}

/// Texts to embed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EmbedRequest {
    /// The texts. An empty text has a vector too.
    pub inputs: Vec<String>,
    /// What they will be used for.
    pub purpose: EmbedPurpose,
    /// Length of the vectors, for models that offer several. `None`: the model's own.
    pub dimensions: Option<usize>,
    /// Whether the vectors shall have length 1. `None`: as the model was made.
    pub normalize: Option<bool>,
    /// What happens to an input that is too long: `true` cuts its end off and reports it, `false` refuses the request.
    pub truncate: bool,
}

impl EmbedRequest {
    /// Texts for `purpose`, cut if they are too long.
    pub fn new(purpose: EmbedPurpose, inputs: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { inputs: inputs.into_iter().map(Into::into).collect(), purpose, truncate: true, ..Self::default() }
    }

    /// Documents, cut if they are too long.
    pub fn documents(inputs: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::new(EmbedPurpose::Document, inputs)
    }

    /// A query, cut if it is too long.
    pub fn query(input: impl Into<String>) -> Self {
        Self::new(EmbedPurpose::Query, [input.into()])
    }
}

/// Vectors.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EmbedResponse {
    /// One vector for each input, in the order of the inputs.
    pub embeddings: Vec<Vec<f32>>,
    /// Tokens that went through the model, after cutting, special tokens and prompts included.
    pub input_tokens: u64,
    /// Indices of the inputs that were cut, rising.
    pub truncated: Vec<usize>,
}

macro_rules! forward {
    ($($pointer:ident),*) => {$(
        impl<T: EmbeddingModel + ?Sized> EmbeddingModel for $pointer<T> {
            fn embed<'a>(&'a self, request: &'a EmbedRequest) -> BoxFuture<'a, Result<EmbedResponse, Error>> {
                (**self).embed(request)
            }
            fn info(&self) -> EmbeddingModelInfo {
                (**self).info()
            }
            fn count_tokens(&self, text: &str) -> Result<usize, Error> {
                (**self).count_tokens(text)
            }
            fn token_states<'a>(
                &'a self,
                texts: &'a [String],
            ) -> BoxFuture<'a, Result<Option<Vec<TokenStates>>, Error>> {
                (**self).token_states(texts)
            }
            fn embed_blocking(&self, request: &EmbedRequest) -> Result<EmbedResponse, Error> {
                (**self).embed_blocking(request)
            }
        }
    )*};
}
forward!(Arc, Box);
