//! Requests over HTTP: attempts, times, limits, and what nobody may see.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bedrock_core::Error;
use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Client, Method, Response, Url};
use rustls_platform_verifier::BuilderVerifierExt;
use serde::de::DeserializeOwned;

use super::clock::retry_after;
use super::failure::{Failure, Malformed, Retry, redacted, words};
use super::options::{Proxy, RemoteOptions};
use super::runtime;
use super::secret::Secret;
use super::sign::Signer;

/// Most bytes of an error's body that are read.
const ERROR_BODY: usize = 64 << 10;

/// Who asks.
#[derive(Debug, Clone, Default)]
pub(super) enum Authorization {
    /// Nobody in particular.
    #[default]
    None,
    /// `Authorization: Bearer …`.
    Bearer(Secret),
    /// A signature of each request.
    Signed(Signer),
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// Its path below the base address, already percent-encoded.
    pub(super) path: String,
    /// Headers besides those that every request has.
    pub(super) headers: Vec<(&'static str, String)>,
    /// What may come back.
    pub(super) accept: &'static str,
    /// JSON.
    pub(super) body: Bytes,
}

impl Call {
    /// A request of `body` whose answer is JSON.
    pub(super) fn json(path: impl Into<String>, body: &impl serde::Serialize) -> Result<Self, Error> {
        Ok(Self {
            path: path.into(),
            headers: Vec::new(),
            accept: "application/json",
            body: serde_json::to_vec(body).map_err(Error::backend)?.into(),
        })
    }

    /// A request of `body` whose answer is a stream of events.
    pub(super) fn events(path: impl Into<String>, body: &impl serde::Serialize) -> Result<Self, Error> {
        Ok(Self { accept: "text/event-stream", ..Self::json(path, body)? })
    }
}

/// A server and the way to it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Transport(Arc<Inner>);

struct Inner {
    client: Client,
    base: Url,
    authorization: Authorization,
    headers: HeaderMap,
    secrets: Vec<Secret>,
    options: RemoteOptions,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("base", &self.0.base.as_str()).finish_non_exhaustive()
    }
}

/// How much and how long to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) body: usize,
    pub(super) event: usize,
    idle: Duration,
}

impl Limits {
    /// The next bytes of an answer; `None` at its end.
    pub(super) async fn next(&self, response: &mut Response) -> Result<Option<Bytes>, Error> {
        match tokio::time::timeout(self.idle, response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => {
                Err(Error::model_stream_error(format!("the connection broke within the answer: {}", cause(error))))
            }
            Err(_) => {
                Err(Error::model_stream_error(format!("the server was silent for {:?} within the answer", self.idle)))
            }
        }
    }

    /// All bytes of an answer, or as many as the limit allows.
    async fn all(&self, mut response: Response, limit: usize) -> Result<(Vec<u8>, bool), Error> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.next(&mut response).await? {
            if bytes.len() + chunk.len() > limit {
                return Ok((bytes, false));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok((bytes, true))
    }
}

impl Transport {
    /// A way to the server at `base`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Validation`] for an address that is none, that carries a password, or that would show keys on the way.
    pub(super) fn new(base: &str, authorization: Authorization, options: &RemoteOptions) -> Result<Self, Error> {
        let base = address(base, options)?;
        let mut headers = HeaderMap::new();
        let mut secrets = Vec::new();
        for (name, value) in &options.headers {
            let name = HeaderName::try_from(name.as_str())
                .map_err(|_| Error::validation(format!("headers: {name:?} is no name of a header")))?;
            headers.insert(name.clone(), header_value(name.as_str(), value)?);
            secrets.push(value.clone());
        }
        let bearer = match &authorization {
            Authorization::None => None,
            Authorization::Bearer(key) => {
                secrets.push(key.clone());
                Some(Secret::new(format!("Bearer {}", key.expose())))
            }
            Authorization::Signed(signer) => {
                secrets.extend(signer.secrets());
                None
            }
        };
        if let Some(value) = bearer {
            headers.insert(AUTHORIZATION, header_value("authorization", &value)?);
        }
        headers
            .entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(concat!("bedrock-models/", env!("CARGO_PKG_VERSION"))));
        let client = client(&base, options)?;
        Ok(Self(Arc::new(Inner { client, base, authorization, headers, secrets, options: options.clone() })))
    }

    /// How much and how long to read.
    pub(super) fn limits(&self) -> Limits {
        let options = &self.0.options;
        Limits { body: options.max_body_bytes, event: options.max_event_bytes, idle: options.idle_timeout }
    }

    /// A server's message without keys.
    pub(super) fn redacted(&self, message: String) -> String {
        redacted(message, &self.0.secrets)
    }

    /// The answer to a request, as JSON.
    pub(super) async fn json<T: DeserializeOwned>(&self, call: Call, what: &'static str) -> Result<T, Error> {
        Ok(self.json_and_headers(call, what).await?.0)
    }

    /// The answer to a request, as JSON, and its headers.
    pub(super) async fn json_and_headers<T: DeserializeOwned>(
        &self,
        call: Call,
        what: &'static str,
    ) -> Result<(T, HeaderMap), Error> {
        let this = self.clone();
        let (bytes, headers) = runtime::run(async move {
            let response = this.send(&call).await?;
            let limits = this.limits();
            let headers = response.headers().clone();
            let (bytes, all) = limits.all(response, limits.body).await.map_err(broken)?;
            if all { Ok((bytes, headers)) } else { Err(Malformed::BodyTooLarge { limit: limits.body }.whole()) }
        })
        .await?;
        let value = serde_json::from_slice(&bytes).map_err(|error| Malformed::json(what)(error).whole())?;
        Ok((value, headers))
    }

    /// The beginning of an answer that streams.
    pub(super) async fn begin(&self, call: Call) -> Result<Response, Error> {
        let this = self.clone();
        runtime::run(async move {
            let response = this.send(&call).await?;
            let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            if kind.is_empty() || kind == call.accept {
                return Ok(response);
            }
            // A gateway that answers 200 with an error, or a server that can't stream.
            let (bytes, _) = this.limits().all(response, ERROR_BODY).await.map_err(broken)?;
            let body = serde_json::from_slice(&bytes).unwrap_or_default();
            let said = words(&body).1.map(|said| format!(": {said}")).unwrap_or_default();
            let message = format!("the server answered with {kind:?} where a stream of events must come{said}");
            Err(Error::bad_gateway(this.redacted(message)))
        })
        .await
    }

    /// Sends a request until it succeeds, fails for good or was tried often enough.
    async fn send(&self, call: &Call) -> Result<Response, Error> {
        let options = &self.0.options;
        let mut attempt = 1;
        loop {
            let failure = match self.attempt(call).await {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            let wait = match failure.retry {
                Retry::Never => None,
                Retry::Later => {
                    let doubled = options.backoff.saturating_mul(1_u32.checked_shl(attempt - 1).unwrap_or(u32::MAX));
                    let longest = doubled.min(options.longest_wait);
                    Some(longest.mul_f64(0.5 + options.clock.random().clamp(0.0, 1.0) / 2.0))
                }
                Retry::After(wait) => (wait <= options.longest_wait).then_some(wait),
            };
            match wait {
                Some(wait) if attempt < options.attempts => options.clock.sleep(wait).await,
                _ => return Err(told_when(failure)),
            }
            attempt += 1;
        }
    }

    async fn attempt(&self, call: &Call) -> Result<Response, Failure> {
        let inner = &*self.0;
        let url =
            inner.base.join(&call.path).map_err(|_| Failure::for_good(Error::validation("the path is no address")))?;
        let mut headers = inner.headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static(call.accept));
        for (name, value) in &call.headers {
            let value = HeaderValue::from_str(value)
                .map_err(|_| Failure::for_good(Error::validation(format!("{name} can't stand in a header"))))?;
            headers.insert(HeaderName::from_static(name), value);
        }
        if let Authorization::Signed(signer) = &inner.authorization {
            signer
                .sign("POST", &url, &mut headers, &call.body, inner.options.clock.now())
                .map_err(Failure::for_good)?;
        }
        let request = inner.client.request(Method::POST, url).headers(headers).body(call.body.clone());
        let longest = inner.options.first_byte_timeout;
        let response = match tokio::time::timeout(longest, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_timeout() => {
                let message = format!("no connection within {:?}", inner.options.connect_timeout);
                return Err(Failure::for_good(Error::model_timeout(message)));
            }
            Ok(Err(error)) => {
                let retry = if error.is_builder() { Retry::Never } else { Retry::Later };
                let what = if error.is_connect() { "the server can't be reached" } else { "the connection broke" };
                let message = self.redacted(format!("{what}: {}", cause(error)));
                return Err(Failure { error: Error::service_unavailable(message), retry });
            }
            Err(_) => {
                let message = format!("the server did not begin to answer within {longest:?}");
                return Err(Failure::for_good(Error::model_timeout(message)));
            }
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let wait = retry_after(header, inner.options.clock.now());
        // What the server says is worth having, but not worth another failure.
        let (body, _) = self.limits().all(response, ERROR_BODY).await.unwrap_or_default();
        Err(Failure::of_answer(status, header("x-amzn-errortype"), &body, wait, &inner.secrets))
    }
}

/// A whole answer that broke off: nothing of it was seen.
fn broken(error: Error) -> Error {
    Error::bad_gateway(error.message())
}

/// A refusal that says when to come back, if the server said so.
fn told_when(failure: Failure) -> Error {
    match (failure.retry, failure.error) {
        (Retry::After(wait), Error::Throttling { message }) => {
            Error::throttling(format!("{message} (try again in {} s)", wait.as_secs_f64().ceil()))
        }
        (_, error) => error,
    }
}

/// What was behind a failure of the connection, without the address.
fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut deepest: &dyn std::error::Error = &error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

fn header_value(name: &str, value: &Secret) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(value.expose()).map_err(|_| {
        Error::validation(format!("the value for the header {name} has characters that no header may have"))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The base address, with a slash at its end, so that paths go below it.
fn address(base: &str, options: &RemoteOptions) -> Result<Url, Error> {
    let refuse = |why: &str| Err(Error::validation(format!("the server's address {why}")));
    let Ok(mut url) = Url::parse(base.trim()) else { return refuse("is no URL") };
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return refuse("must begin with https:// or http://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("must not carry a password: give it as a key or a header");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("must not have a query or a fragment");
    }
    if url.scheme() == "http" && !is_loopback(&url) && !options.allow_plain_http {
        return refuse(
            "is plain http to another machine, which anybody on the way can read: use https or allow_plain_http",
        );
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    // Of IPv6 addresses the URL keeps the brackets.
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn client(base: &Url, options: &RemoteOptions) -> Result<Client, Error> {
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Error::backend)?;
    // The system's certificates, so that a company's own are known; they may be missing where none is needed.
    let tls = match base.scheme() {
        "http" => tls.with_root_certificates(rustls::RootCertStore::empty()),
        _ => tls.with_platform_verifier().map_err(Error::backend)?,
    };
    let tls = tls.with_no_client_auth();
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(options.connect_timeout)
        // A redirect would take the key elsewhere; it is reported as any other answer that is no success.
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never());
    match &options.proxy {
        Proxy::Environment if !is_loopback(base) => {}
        Proxy::Environment | Proxy::Direct => builder = builder.no_proxy(),
        Proxy::Through(proxy) => {
            let proxy =
                reqwest::Proxy::all(proxy.expose()).map_err(|_| Error::validation("the proxy's address is no URL"))?;
            builder = builder.proxy(proxy);
        }
    }
    builder.build().map_err(Error::backend)
}
