//! The traits of chat models, retrievers and guardrails.

use std::sync::Arc;

use futures::executor::block_on;

use crate::error::Error;
use crate::guardrail::{ApplyGuardrailRequest, ApplyGuardrailResponse};
use crate::inference::{ConverseRequest, ConverseResponse};
use crate::retrieve::{RetrieveRequest, RetrieveResponse};
use crate::stream::{StreamEvent, collect};

/// A boxed future that may move between threads. Beside a model's work the box costs nothing, and it makes the traits
/// usable behind `dyn`.
pub type BoxFuture<'a, T> = futures::future::BoxFuture<'a, T>;

/// The events of an answer: see [`stream`](crate::stream) for their order. An `Err` is the last item.
pub type EventStream<'a> = futures::stream::BoxStream<'a, Result<StreamEvent, Error>>;

/// A model that continues conversations.
///
/// Middleware is a `ChatModel` around a `ChatModel`: guardrails, logs, retries and routes compose.
///
/// # Contract
/// - The request is validated before anything is streamed; what the model can't honour is an [`Error::Validation`] that
///   names the field, never silently left out.
/// - Dropping the future or the stream stops the work.
/// - The futures need no particular runtime and never block the thread that polls them for long: computing happens on the
///   model's own threads.
///
/// `testing::check_chat_model` (feature `testing`) checks what can be checked from outside.
pub trait ChatModel: Send + Sync {
    /// Begins an answer and gives out its events as they come.
    ///
    /// # Errors
    /// Every variant of [`Error`]; a failure after the first event is an item of the stream.
    fn converse_stream<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<EventStream<'a>, Error>>;

    /// The whole answer.
    ///
    /// # Errors
    /// Every variant of [`Error`].
    fn converse<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<ConverseResponse, Error>> {
        Box::pin(async move { collect(self.converse_stream(request).await?).await })
    }

    /// Tokens that the prompt of `request` has. Sampling and length are not looked at.
    ///
    /// # Errors
    /// [`Error::Validation`] if the model can't count, which is what this default does.
    fn count_tokens<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<u32, Error>> {
        Box::pin(async move { Err(Error::validation(format!("model {:?} does not count tokens", request.model_id))) })
    }

    /// [`ChatModel::converse`] for callers without an async runtime: blocks the thread until the answer is there. Not
    /// to be called from async code.
    ///
    /// # Errors
    /// As [`ChatModel::converse`].
    fn converse_blocking(&self, request: &ConverseRequest) -> Result<ConverseResponse, Error> {
        block_on(self.converse(request))
    }
}

/// Something that finds passages for a query: a knowledge base, a search engine.
pub trait Retriever: Send + Sync {
    /// The passages, best first.
    ///
    /// # Errors
    /// [`Error::Validation`] for a query or configuration that can't be honoured; [`Error::ResourceNotFound`] if the
    /// knowledge base named is not this one.
    fn retrieve<'a>(&'a self, request: &'a RetrieveRequest) -> BoxFuture<'a, Result<RetrieveResponse, Error>>;

    /// [`Retriever::retrieve`] for callers without an async runtime: blocks the thread until the answer is there.
    ///
    /// # Errors
    /// As [`Retriever::retrieve`].
    fn retrieve_blocking(&self, request: &RetrieveRequest) -> Result<RetrieveResponse, Error> {
        block_on(self.retrieve(request))
    }
}

/// Something that judges content.
pub trait Guardrail: Send + Sync {
    /// Judges content. To block is an answer; not to be able to decide is an error.
    ///
    /// # Errors
    /// [`Error::Validation`] for content that can't be judged; [`Error::ResourceNotFound`] if the guardrail or version
    /// named is not this one.
    fn apply<'a>(&'a self, request: &'a ApplyGuardrailRequest) -> BoxFuture<'a, Result<ApplyGuardrailResponse, Error>>;

    /// [`Guardrail::apply`] for callers without an async runtime: blocks the thread until the answer is there.
    ///
    /// # Errors
    /// As [`Guardrail::apply`].
    fn apply_blocking(&self, request: &ApplyGuardrailRequest) -> Result<ApplyGuardrailResponse, Error> {
        block_on(self.apply(request))
    }
}

macro_rules! forward {
    ($($pointer:ident),*) => {$(
        impl<T: ChatModel + ?Sized> ChatModel for $pointer<T> {
            fn converse_stream<'a>(
                &'a self,
                request: &'a ConverseRequest,
            ) -> BoxFuture<'a, Result<EventStream<'a>, Error>> {
                (**self).converse_stream(request)
            }
            fn converse<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<ConverseResponse, Error>> {
                (**self).converse(request)
            }
            fn count_tokens<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<u32, Error>> {
                (**self).count_tokens(request)
            }
            fn converse_blocking(&self, request: &ConverseRequest) -> Result<ConverseResponse, Error> {
                (**self).converse_blocking(request)
            }
        }

        impl<T: Retriever + ?Sized> Retriever for $pointer<T> {
            fn retrieve<'a>(&'a self, request: &'a RetrieveRequest) -> BoxFuture<'a, Result<RetrieveResponse, Error>> {
                (**self).retrieve(request)
            }
        }

        impl<T: Guardrail + ?Sized> Guardrail for $pointer<T> {
            fn apply<'a>(
                &'a self,
                request: &'a ApplyGuardrailRequest,
            ) -> BoxFuture<'a, Result<ApplyGuardrailResponse, Error>> {
                (**self).apply(request)
            }
        }
    )*};
}
forward!(Arc, Box);
