//! How a server is talked to: times, attempts, limits, proxies.

use std::sync::Arc;
use std::time::Duration;

use super::clock::{Clock, SystemClock};
use super::secret::Secret;

/// How a server is talked to.
///
/// Attempts are repeated on 408, 429, 5xx and broken connections, as long as nothing of an answer has come. The wait before attempt
/// *n* + 1 is random between half of and all of `backoff` × 2ⁿ⁻¹, at most `longest_wait`; a server's `Retry-After` is kept to instead,
/// and if it is longer than `longest_wait`, its refusal is returned at once. What took too long is not tried again.
#[derive(Debug, Clone)]
pub struct RemoteOptions {
    /// Longest time to connect, TLS included. Default: 10 s.
    pub connect_timeout: Duration,
    /// Longest time until the server begins to answer. Default: 10 min, for whole answers of slow models.
    pub first_byte_timeout: Duration,
    /// Longest silence inside an answer. Default: 1 min.
    pub idle_timeout: Duration,
    /// How often a request is sent at most, the first time included. Default: 3.
    pub attempts: u32,
    /// Longest wait before the second attempt. Default: 500 ms.
    pub backoff: Duration,
    /// Longest wait before any attempt. Default: 30 s.
    pub longest_wait: Duration,
    /// Most bytes of one answer, streamed or whole. Default: 64 MiB.
    pub max_body_bytes: usize,
    /// Most bytes of one event of a stream. Default: 8 MiB.
    pub max_event_bytes: usize,
    /// Whether keys and texts may go over plain `http` to another machine. Default: no. To this machine they always may.
    pub allow_plain_http: bool,
    /// How to get out. Default: as the environment says.
    pub proxy: Proxy,
    /// Headers that go with each request besides the provider's own.
    pub headers: Vec<(String, Secret)>,
    /// What time it is and how to wait; tests have one of their own.
    pub clock: Arc<dyn Clock>,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(600),
            idle_timeout: Duration::from_secs(60),
            attempts: 3,
            backoff: Duration::from_millis(500),
            longest_wait: Duration::from_secs(30),
            max_body_bytes: 64 << 20,
            max_event_bytes: 8 << 20,
            allow_plain_http: false,
            proxy: Proxy::Environment,
            headers: Vec::new(),
            clock: Arc::new(SystemClock),
        }
    }
}

/// How to get out.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Proxy {
    /// As `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` say. Servers on this machine are reached directly.
    #[default]
    Environment,
    /// Directly.
    Direct,
    /// Through this proxy; its address may carry a name and password, which is why it is a secret.
    Through(Secret),
}
