//! Counters of calls, tokens and time.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::inference::{ConverseRequest, ConverseResponse};
use crate::model::{BoxFuture, ChatModel, EventStream};
use crate::stream::StreamEvent;
use crate::usage::TokenUsage;
use crate::watch::{Armed, Ending, Watch};

/// Upper bounds of the latency histogram's buckets in milliseconds; one more bucket has what is above the last.
pub const LATENCY_BOUNDS_MS: [u64; 16] =
    [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 320_000];

/// Counters that any number of calls add to at once.
#[derive(Debug, Default)]
pub struct Meter {
    invocations: AtomicU64,
    client_errors: AtomicU64,
    server_errors: AtomicU64,
    throttles: AtomicU64,
    cancelled: AtomicU64,
    input_tokens: AtomicU64,
    output_tokens: AtomicU64,
    latency_ms: AtomicU64,
    latencies: [AtomicU64; LATENCY_BOUNDS_MS.len() + 1],
}

impl Meter {
    /// What was counted so far. Calls that end meanwhile may be in one counter and not yet in another.
    pub fn read(&self) -> Metrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Metrics {
            invocations: read(&self.invocations),
            client_errors: read(&self.client_errors),
            server_errors: read(&self.server_errors),
            throttles: read(&self.throttles),
            cancelled: read(&self.cancelled),
            input_tokens: read(&self.input_tokens),
            output_tokens: read(&self.output_tokens),
            latency_ms: read(&self.latency_ms),
            latencies: self.latencies.each_ref().map(read),
        }
    }

    fn done(&self, usage: Option<&TokenUsage>, time: Duration) {
        let add = |counter: &AtomicU64, n: u64| counter.fetch_add(n, Ordering::Relaxed);
        add(&self.invocations, 1);
        if let Some(usage) = usage {
            add(&self.input_tokens, usage.input_tokens.into());
            add(&self.output_tokens, usage.output_tokens.into());
        }
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        add(&self.latency_ms, ms);
        add(&self.latencies[LATENCY_BOUNDS_MS.partition_point(|&bound| bound < ms)], 1);
    }

    fn failed(&self, error: &Error) {
        let counter = match error {
            Error::Throttling { .. } => &self.throttles,
            error if error.is_client_error() => &self.client_errors,
            _ => &self.server_errors,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a [`Meter`] counted. The names in parentheses are the service's metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Calls that were answered to the end (`Invocations`).
    pub invocations: u64,
    /// Calls that failed by the caller's fault (`InvocationClientErrors`).
    pub client_errors: u64,
    /// Calls that failed otherwise (`InvocationServerErrors`).
    pub server_errors: u64,
    /// Calls that were turned away (`InvocationThrottles`).
    pub throttles: u64,
    /// Calls that the caller gave up.
    pub cancelled: u64,
    /// Tokens of the prompts that were answered (`InputTokenCount`).
    pub input_tokens: u64,
    /// Tokens of the answers (`OutputTokenCount`).
    pub output_tokens: u64,
    /// Milliseconds of all answered calls together (`InvocationLatency` is the mean).
    pub latency_ms: u64,
    /// Answered calls by time: see [`LATENCY_BOUNDS_MS`].
    pub latencies: [u64; LATENCY_BOUNDS_MS.len() + 1],
}

/// A chat model whose calls are counted.
pub struct Metered<M> {
    model: M,
    meter: Arc<Meter>,
}

impl<M> Metered<M> {
    /// Counts the calls of `model` in a meter of its own.
    pub fn new(model: M) -> Self {
        Self::with_meter(model, Arc::default())
    }

    /// Counts the calls of `model` in a meter that others may share.
    pub fn with_meter(model: M, meter: Arc<Meter>) -> Self {
        Self { model, meter }
    }

    /// The meter.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    fn watch(&self) -> Armed<Measure> {
        Armed::new(Measure { meter: self.meter.clone(), begin: Instant::now(), usage: None })
    }
}

impl<M> fmt::Debug for Metered<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metered").field("meter", &self.meter).finish_non_exhaustive()
    }
}

struct Measure {
    meter: Arc<Meter>,
    begin: Instant,
    usage: Option<TokenUsage>,
}

impl Watch for Measure {
    fn event(&mut self, event: &StreamEvent) {
        if let StreamEvent::Metadata(event) = event {
            self.usage = Some(event.usage.clone());
        }
    }

    fn end(self, ending: Ending<'_>) {
        match ending {
            Ending::Done => self.meter.done(self.usage.as_ref(), self.begin.elapsed()),
            Ending::Failed(error) => self.meter.failed(error),
            Ending::Cancelled => {
                self.meter.cancelled.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl<M: ChatModel> ChatModel for Metered<M> {
    fn converse_stream<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<EventStream<'a>, Error>> {
        Box::pin(async move {
            let watch = self.watch();
            let began = self.model.converse_stream(request).await;
            watch.follow(began)
        })
    }

    fn converse<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<ConverseResponse, Error>> {
        Box::pin(async move {
            let mut watch = self.watch();
            let result = self.model.converse(request).await;
            match &result {
                Ok(response) => {
                    if let Some(measure) = watch.watch() {
                        measure.usage = Some(response.usage.clone());
                    }
                    watch.end(Ending::Done);
                }
                Err(error) => watch.end(Ending::Failed(error)),
            }
            result
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
    use futures::StreamExt;
    use futures::executor::block_on;

    #[test]
    fn each_way_to_end_has_its_counter() {
        let model = Metered::new(ScriptedModel::new([
            Reply::text("one two"),
            Reply::text("one two three"),
            Reply::refusal(Error::throttling("later")),
            Reply::refusal(Error::access_denied("no")),
            Reply::text("a").fail_at(1, Error::model_stream_error("gone")),
            Reply::text("a"),
        ]));
        let request = ConverseRequest::new("m").user("hello there");
        block_on(async {
            model.converse(&request).await.expect("answered");
            let events: Vec<_> = model.converse_stream(&request).await.expect("begins").collect().await;
            assert_eq!(events.len(), 5);
            for _ in 0..2 {
                model.converse(&request).await.expect_err("refused");
            }
            let _: Vec<_> = model.converse_stream(&request).await.expect("begins").collect().await;
            drop(model.converse_stream(&request).await.expect("begins"));
        });
        let metrics = model.meter().read();
        assert_eq!((metrics.invocations, metrics.throttles, metrics.client_errors), (2, 1, 1));
        assert_eq!((metrics.server_errors, metrics.cancelled), (1, 1));
        assert_eq!((metrics.input_tokens, metrics.output_tokens), (4, 5));
        assert_eq!(metrics.latencies.iter().sum::<u64>(), 2);
    }

    #[test]
    fn it_is_a_chat_model() {
        let model = Metered::new(ScriptedModel::answering(|_| Reply::text("fine")));
        block_on(check_chat_model(&model, &ConverseRequest::new("m").user("hi")));
    }
}
