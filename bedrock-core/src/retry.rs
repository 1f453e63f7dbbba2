//! Trying again.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use crate::error::Error;
use crate::inference::{ConverseRequest, ConverseResponse};
use crate::model::{BoxFuture, ChatModel, EventStream};

/// How to wait without a runtime of our own: `|time| Box::pin(tokio::time::sleep(time))`, say.
pub type Sleep = Arc<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>;

/// A chat model that is asked again when it fails in a way that may pass ([`Error::is_retryable`]).
///
/// A stream is begun anew only as long as no event was given out; a failure after that is the caller's, who has seen part
/// of an answer. The wait before attempt *n* + 1 is random between zero and `base` × 2ⁿ⁻¹, at most `cap`, so that callers who
/// were turned away together do not come back together. A caller who drops the future stops the attempts.
pub struct Retried<M> {
    model: M,
    sleep: Sleep,
    attempts: u32,
    base: Duration,
    cap: Duration,
}

impl<M> Retried<M> {
    /// Asks up to three times, with waits of up to 200 ms, doubling, at most 20 s.
    pub fn new(model: M, sleep: Sleep) -> Self {
        Self { model, sleep, attempts: 3, base: Duration::from_millis(200), cap: Duration::from_secs(20) }
    }

    /// Asks up to this many times, the first included; 0 counts as 1.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Other waits: the longest before the second attempt, and the longest of all.
    pub fn backoff(mut self, base: Duration, cap: Duration) -> Self {
        (self.base, self.cap) = (base, cap);
        self
    }

    /// Whether to try again after `error` ended attempt `attempt` (from 1); waits if so.
    async fn again(&self, attempt: u32, error: &Error) -> bool {
        if attempt >= self.attempts || !error.is_retryable() {
            return false;
        }
        let longest = self.base.saturating_mul(1_u32.checked_shl(attempt - 1).unwrap_or(u32::MAX)).min(self.cap);
        let random = RandomState::new().hash_one(attempt) as f64 / u64::MAX as f64;
        (self.sleep)(longest.mul_f64(random.min(1.0))).await;
        true
    }
}

impl<M> fmt::Debug for Retried<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retried")
            .field("attempts", &self.attempts)
            .field("base", &self.base)
            .field("cap", &self.cap)
            .finish_non_exhaustive()
    }
}

/// A stream with its first event taken and put back, or the error that came instead of one.
pub(crate) async fn begun(mut stream: EventStream<'_>) -> Result<EventStream<'_>, Error> {
    match stream.next().await {
        Some(Err(error)) => Err(error),
        Some(Ok(event)) => Ok(Box::pin(futures::stream::iter([Ok(event)]).chain(stream))),
        None => Ok(stream),
    }
}

impl<M: ChatModel> ChatModel for Retried<M> {
    fn converse_stream<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<EventStream<'a>, Error>> {
        Box::pin(async move {
            let mut attempt = 1;
            loop {
                let result = match self.model.converse_stream(request).await {
                    Ok(stream) => begun(stream).await,
                    Err(error) => Err(error),
                };
                match result {
                    Err(error) if self.again(attempt, &error).await => attempt += 1,
                    result => return result,
                }
            }
        })
    }

    /// Nothing of an answer is seen before all of it is there, so every failure that may pass is tried again.
    fn converse<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<ConverseResponse, Error>> {
        Box::pin(async move {
            let mut attempt = 1;
            loop {
                match self.model.converse(request).await {
                    Err(error) if self.again(attempt, &error).await => attempt += 1,
                    result => return result,
                }
            }
        })
    }

    fn count_tokens<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<u32, Error>> {
        self.model.count_tokens(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Reply, ScriptedModel, check_chat_model};
    use futures::executor::block_on;
    use std::sync::Mutex;

    fn retried(replies: Vec<Reply>) -> (Retried<ScriptedModel>, Arc<Mutex<Vec<Duration>>>) {
        let waits: Arc<Mutex<Vec<Duration>>> = Arc::default();
        let seen = waits.clone();
        let sleep: Sleep = Arc::new(move |time| {
            seen.lock().expect("no panic").push(time);
            Box::pin(std::future::ready(()))
        });
        (Retried::new(ScriptedModel::new(replies), sleep), waits)
    }

    fn later() -> Reply {
        Reply::refusal(Error::throttling("later"))
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        let (model, waits) =
            retried(vec![later(), Reply::text("x").fail_at(0, Error::model_timeout("slow")), "ok".into()]);
        let request = ConverseRequest::new("m").user("hi");
        let events: Vec<_> = block_on(async { model.converse_stream(&request).await.expect("begins").collect().await });
        assert_eq!(events.len(), 5, "the first event is not lost");
        let waits = waits.lock().expect("no panic");
        assert!(waits.len() == 2 && waits[0] <= Duration::from_millis(200) && waits[1] <= Duration::from_millis(400));
    }

    #[test]
    fn attempts_are_bounded_and_what_stays_is_not_tried_again() {
        let request = ConverseRequest::new("m").user("hi");
        let (model, _) = retried(vec![later(), later(), later(), "ok".into()]);
        assert!(matches!(model.converse_blocking(&request), Err(Error::Throttling { .. })));
        assert_eq!(model.model.requests().len(), 3);
        let (model, _) = retried(vec![Reply::refusal(Error::access_denied("no")), "ok".into()]);
        assert!(matches!(model.converse_blocking(&request), Err(Error::AccessDenied { .. })));
    }

    #[test]
    fn a_stream_that_was_seen_is_not_begun_anew() {
        let request = ConverseRequest::new("m").user("hi");
        let broken = || Reply::text("x").fail_at(2, Error::model_stream_error("gone"));
        let (model, waits) = retried(vec![broken(), "ok".into()]);
        let events: Vec<_> = block_on(async { model.converse_stream(&request).await.expect("begins").collect().await });
        assert!(matches!(events.last(), Some(Err(Error::ModelStreamError { .. }))));
        assert!(waits.lock().expect("no panic").is_empty());
        let (model, _) = retried(vec![broken(), "ok".into()]);
        assert_eq!(model.converse_blocking(&request).expect("the whole is tried again").text(), "ok");
    }

    #[test]
    fn it_is_a_chat_model() {
        let sleep: Sleep = Arc::new(|_| Box::pin(std::future::ready(())));
        let model = Retried::new(ScriptedModel::answering(|_| Reply::text("fine")), sleep).attempts(0);
        block_on(check_chat_model(&model, &ConverseRequest::new("m").user("hi")));
    }
}
