//! Scores of labels for texts.

use std::sync::Arc;

use futures::executor::block_on;

use crate::BoxFuture;
use crate::error::Error;

/// A model that scores labels for a text, or for a pair of texts (premise and hypothesis, answer and source).
pub trait TextClassifier: Send + Sync {
    /// One list of scores for each input, in the order of the inputs.
    ///
    /// # Errors
    /// [`Error::Validation`] if the model takes pairs and gets single texts, or the reverse.
    fn classify<'a>(&'a self, request: &'a ClassifyRequest) -> BoxFuture<'a, Result<ClassifyResponse, Error>>;

    /// [`TextClassifier::classify`] for callers without an async runtime: blocks the thread until the answer is there.
    ///
    /// # Errors
    /// As [`TextClassifier::classify`].
    fn classify_blocking(&self, request: &ClassifyRequest) -> Result<ClassifyResponse, Error> {
        block_on(self.classify(request))
    }
}

/// What to classify.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClassifyRequest {
    /// The texts. What is too long for the model is cut at its end.
    pub inputs: Vec<ClassifyInput>,
}

impl ClassifyRequest {
    /// Classifies single texts.
    pub fn new(inputs: impl IntoIterator<Item = impl Into<ClassifyInput>>) -> Self {
        Self { inputs: inputs.into_iter().map(Into::into).collect() }
    }
}

/// A text, or two that are read together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClassifyInput {
    /// The text.
    pub text: String,
    /// The second text.
    pub pair: Option<String>,
}

impl From<&str> for ClassifyInput {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned(), pair: None }
    }
}

impl From<String> for ClassifyInput {
    fn from(text: String) -> Self {
        Self { text, pair: None }
    }
}

impl From<(&str, &str)> for ClassifyInput {
    fn from((text, pair): (&str, &str)) -> Self {
        Self { text: text.to_owned(), pair: Some(pair.to_owned()) }
    }
}

/// The scores.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClassifyResponse {
    /// For each input, every label of the model in the model's order.
    pub results: Vec<Vec<LabelScore>>,
    /// Tokens that went through the model.
    pub input_tokens: u64,
}

/// The score of one label.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelScore {
    /// The label.
    pub label: String,
    /// 0–1, higher is likelier. The scores of an input add up to 1 if the labels exclude each other.
    pub score: f32,
}

macro_rules! forward {
    ($($pointer:ident),*) => {$(
        impl<T: TextClassifier + ?Sized> TextClassifier for $pointer<T> {
            fn classify<'a>(&'a self, request: &'a ClassifyRequest) -> BoxFuture<'a, Result<ClassifyResponse, Error>> {
                (**self).classify(request)
            }
        }
    )*};
}
forward!(Arc, Box);
