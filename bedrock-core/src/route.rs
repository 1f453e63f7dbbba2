//! One model for many: choice by id, and what to ask when the first choice is not there.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::error::Error;
use crate::inference::{ConverseRequest, ConverseResponse};
use crate::model::{BoxFuture, ChatModel, EventStream};
use crate::retry::begun;

type Choice = Arc<dyn ChatModel>;

/// A chat model that chooses another by the request's `modelId`.
///
/// An id may have several models. The first is asked; if it fails in a way that may pass
/// ([`Error::is_retryable`]) before the first event, the next one is, and so on; the last one's error is returned. Every
/// model gets the request as it is.
#[derive(Default, Clone)]
pub struct Routed {
    routes: BTreeMap<String, Vec<Choice>>,
    default: Vec<Choice>,
}

impl Routed {
    /// A router that knows no model.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a model of this id: the first choice if the id is new, else the next one to fall back to.
    pub fn route(mut self, model_id: impl Into<String>, model: impl ChatModel + 'static) -> Self {
        self.routes.entry(model_id.into()).or_default().push(Arc::new(model));
        self
    }

    /// Adds a model for ids that are not known.
    pub fn otherwise(mut self, model: impl ChatModel + 'static) -> Self {
        self.default.push(Arc::new(model));
        self
    }

    /// The ids that are known, in order.
    pub fn model_ids(&self) -> impl Iterator<Item = &str> {
        self.routes.keys().map(String::as_str)
    }

    fn models(&self, model_id: &str) -> Result<(&Choice, &[Choice]), Error> {
        self.routes
            .get(model_id)
            .unwrap_or(&self.default)
            .split_first()
            .ok_or_else(|| Error::resource_not_found(format!("there is no model of the id {model_id:?}")))
    }
}

impl fmt::Debug for Routed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let routes = self.routes.iter().map(|(id, models)| (id, models.len()));
        f.debug_map().entries(routes).entry(&"otherwise", &self.default.len()).finish()
    }
}

async fn begin<'a>(model: &'a dyn ChatModel, request: &'a ConverseRequest) -> Result<EventStream<'a>, Error> {
    begun(model.converse_stream(request).await?).await
}

impl ChatModel for Routed {
    fn converse_stream<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<EventStream<'a>, Error>> {
        Box::pin(async move {
            let (first, others) = self.models(&request.model_id)?;
            if others.is_empty() {
                return first.converse_stream(request).await;
            }
            let mut result = begin(first, request).await;
            for model in others {
                match result {
                    Err(error) if error.is_retryable() => result = begin(model, request).await,
                    _ => break,
                }
            }
            result
        })
    }

    fn converse<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<ConverseResponse, Error>> {
        Box::pin(async move {
            let (first, others) = self.models(&request.model_id)?;
            let mut result = first.converse(request).await;
            for model in others {
                match result {
                    Err(error) if error.is_retryable() => result = model.converse(request).await,
                    _ => break,
                }
            }
            result
        })
    }

    /// Counted by the first choice.
    fn count_tokens<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<u32, Error>> {
        Box::pin(async move { self.models(&request.model_id)?.0.count_tokens(request).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Reply, ScriptedModel, check_chat_model};
    use futures::executor::block_on;

    fn saying(text: &'static str) -> ScriptedModel {
        ScriptedModel::answering(move |_| Reply::text(text))
    }

    fn failing(error: fn() -> Error) -> ScriptedModel {
        ScriptedModel::answering(move |_| Reply::refusal(error()))
    }

    #[test]
    fn the_id_chooses_and_failures_that_may_pass_fall_back() {
        let model = Routed::new()
            .route("a", saying("I am a"))
            .route("b", failing(|| Error::service_unavailable("down")))
            .route("b", failing(|| Error::throttling("later")))
            .route("b", saying("I am the third b"))
            .route("c", failing(|| Error::access_denied("no")))
            .route("c", saying("never asked"));
        let ask = |id: &str| model.converse_blocking(&ConverseRequest::new(id).user("who?"));
        assert_eq!(ask("a").expect("a").text(), "I am a");
        assert_eq!(ask("b").expect("b").text(), "I am the third b");
        assert!(matches!(ask("c"), Err(Error::AccessDenied { .. })));
        assert!(matches!(ask("d"), Err(Error::ResourceNotFound { .. })));
        assert_eq!(model.model_ids().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(
            model.otherwise(saying("d")).converse_blocking(&ConverseRequest::new("d").user("?")).expect("d").text(),
            "d"
        );
    }

    #[test]
    fn it_is_a_chat_model() {
        let model = Routed::new().otherwise(failing(|| Error::throttling("later"))).otherwise(saying("fine"));
        block_on(check_chat_model(&model, &ConverseRequest::new("m").user("hi")));
    }
}
