//! Servers that are asked over HTTP: JSON there, JSON back, within limits.

use std::time::Duration;

use bedrock_core::Error;
use serde_json::Value;
use ureq::Agent;
use ureq::http::{Request, Uri};

use super::secret::Secret;

/// Largest answer that is read, in bytes.
const MAX_ANSWER: u64 = 64 << 20;

/// Tries of a call that the server puts off, and the pause before the second; later ones are longer.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);

/// A server.
#[derive(Clone)]
pub(crate) struct Http {
    agent: Agent,
    service: &'static str,
    base: String,
    headers: Vec<(&'static str, Secret)>,
}

impl Http {
    /// # Errors
    /// [`Error::Validation`] for an address that is none or holds a password, for a header that is none, and for a key that would
    /// leave this machine unencrypted.
    pub(crate) fn new(
        service: &'static str,
        address: &str,
        headers: Vec<(&'static str, Secret)>,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let refuse = |why: &str| Error::validation(format!("the address of {service} {why}"));
        let uri: Uri = address.parse().map_err(|_| refuse("can't be read"))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(refuse("must begin with https:// or http://"));
        };
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(refuse("must hold neither a user nor a query; keys have settings of their own"));
        }
        let local = ["localhost", "127.0.0.1", "[::1]"].contains(&authority.host());
        match scheme {
            "https" => {}
            "http" if local || headers.is_empty() => {}
            "http" => return Err(refuse("must be https:// where a key is sent to another machine")),
            _ => return Err(refuse("must begin with https:// or http://")),
        }
        for (name, value) in &headers {
            if value.expose().is_empty() || !value.expose().bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
                return Err(Error::validation(format!("the {name} of {service} must be printable ASCII")));
            }
        }
        let config = Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent("bedrock-rag");
        let config = if local { config.proxy(None) } else { config };
        let agent = config.build().new_agent();
        Ok(Self { agent, service, base: address.trim_end_matches('/').to_owned(), headers })
    }

    /// Sends JSON, and reads JSON; the answer is an error unless its status is 2xx.
    ///
    /// # Errors
    /// As the status says: [`Error::AccessDenied`], [`Error::ResourceNotFound`], [`Error::Throttling`],
    /// [`Error::ServiceQuotaExceeded`], [`Error::ServiceUnavailable`]; otherwise [`Error::DependencyFailed`];
    /// [`Error::BadGateway`] for an answer that is no JSON, or too large.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Error> {
        let body = body.map(serde_json::to_vec).transpose().map_err(Error::backend)?;
        self.send(method, path, "application/json", body.unwrap_or_default())
    }

    /// The same with a body of another kind.
    pub(crate) fn send(&self, method: &str, path: &str, kind: &str, body: Vec<u8>) -> Result<Value, Error> {
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match self.once(method, path, kind, &body) {
                Err(Error::Throttling { .. } | Error::ServiceUnavailable { .. }) => std::thread::sleep(pause),
                result => return result,
            }
            pause *= 4;
        }
        self.once(method, path, kind, &body)
    }

    /// What is at a path; if there is nothing, it is made, and that is nothing.
    #[cfg(any(feature = "opensearch", feature = "qdrant"))]
    pub(crate) fn find_or(
        &self,
        path: &str,
        make: impl FnOnce(&Self) -> Result<(), Error>,
    ) -> Result<Option<Value>, Error> {
        match self.call("GET", path, None) {
            Err(Error::ResourceNotFound { .. }) => make(self).map(|()| None),
            result => result.map(Some),
        }
    }

    fn once(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<Value, Error> {
        let mut request =
            Request::builder().method(method).uri(format!("{}{path}", self.base)).header("accept", "application/json");
        for (name, value) in &self.headers {
            request = request.header(*name, value.expose());
        }
        let sent = if body.is_empty() {
            self.agent.run(request.body(()).map_err(Error::backend)?)
        } else {
            self.agent.run(request.header("content-type", kind).body(body).map_err(Error::backend)?)
        };
        let mut answer = sent.map_err(|error| match error {
            ureq::Error::Timeout(_) => Error::service_unavailable(format!("{} did not answer in time", self.service)),
            error => Error::service_unavailable(self.shown(&error.to_string())),
        })?;
        let status = answer.status().as_u16();
        let read = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_vec();
        let bytes = read.map_err(|error| Error::bad_gateway(self.shown(&format!("reading the answer: {error}"))))?;
        if (200..300).contains(&status) {
            if bytes.is_empty() {
                return Ok(Value::Null);
            }
            return serde_json::from_slice(&bytes).map_err(|error| {
                Error::bad_gateway(format!("{} answered with what is no JSON: {error}", self.service))
            });
        }
        let message = self.shown(&format!("{status} {}", String::from_utf8_lossy(&bytes)));
        Err(match status {
            401 | 403 => Error::access_denied(message),
            404 => Error::resource_not_found(message),
            409 => Error::conflict(message),
            413 | 507 => Error::service_quota_exceeded(message),
            429 => Error::throttling(message),
            502..=504 => Error::service_unavailable(message),
            _ => Error::dependency_failed(message),
        })
    }

    fn shown(&self, message: &str) -> String {
        let message = self.headers.iter().fold(message.to_owned(), |message, (_, secret)| secret.redact(&message));
        format!("{}: {}", self.service, message.chars().take(300).collect::<String>())
    }
}

/// Whether a name can stand in a path as it is.
#[cfg(any(feature = "opensearch", feature = "qdrant"))]
pub(crate) fn is_plain(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    (1..=100).contains(&name.len()) && name.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_not_leave_unencrypted() {
        let new = |address: &str, key: &str| {
            let headers = if key.is_empty() { vec![] } else { vec![("api-key", Secret::new(key))] };
            Http::new("Test", address, headers, Duration::from_secs(1)).map(drop)
        };
        for (address, key) in
            [("https://db.example.org:6333/", "k"), ("http://127.0.0.1:1", "k"), ("http://db.example.org", "")]
        {
            new(address, key).unwrap();
        }
        for (address, key) in [
            ("http://db.example.org", "k"),
            ("ftp://127.0.0.1", ""),
            ("127.0.0.1:1", ""),
            ("https://u:hunter2@x.org", ""),
            ("https://x.org/?key=hunter2", ""),
            ("", ""),
            ("https://x.org", "a\nb"),
        ] {
            let error = new(address, key).unwrap_err();
            assert!(matches!(error, Error::Validation { .. }) && !error.to_string().contains("hunter2"), "{address}");
        }
    }

    #[test]
    #[cfg(any(feature = "opensearch", feature = "qdrant"))]
    fn names_that_mean_something_in_a_path_are_not_plain() {
        assert!(is_plain("a_b-1") && !is_plain("") && !is_plain("a/b") && !is_plain("ä"));
    }
}
