//! What goes wrong with a server, as the service's exceptions.

use std::time::Duration;

use bedrock_core::Error;
use serde_json::Value;

use super::secret::Secret;

/// Most characters of a server's message that are passed on.
const MESSAGE: usize = 1000;

/// How bytes contradict the format that they should have.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    /// One event is too large.
    #[error("the server sent an event of more than {limit} bytes")]
    EventTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The whole answer is too large.
    #[error("the server sent an answer of more than {limit} bytes")]
    BodyTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A checksum is wrong.
    #[error("the server sent a frame whose checksum is wrong")]
    Checksum,
    /// A frame breaks its format.
    #[error("the server sent a frame with {what}")]
    Frame {
        /// What is wrong.
        what: &'static str,
    },
    /// JSON that does not parse, or not as what it should be.
    #[error("the server sent {what} that can't be read: {reason}")]
    Json {
        /// What it should be.
        what: &'static str,
        /// What the parser says. It quotes no content but the names of unknown fields and variants.
        reason: String,
    },
    /// Something that should be there is not.
    #[error("the server sent {what} without {missing}")]
    Missing {
        /// In what.
        what: &'static str,
        /// What is missing.
        missing: &'static str,
    },
    /// The answer ended early.
    #[error("the server ended the answer before it was complete")]
    Truncated,
}

impl Malformed {
    /// JSON that does not parse as `what`.
    pub(super) fn json(what: &'static str) -> impl Fn(serde_json::Error) -> Self {
        move |error| Self::Json { what, reason: error.to_string().chars().take(200).collect() }
    }

    /// The failure of a whole answer.
    pub(super) fn whole(self) -> Error {
        Error::bad_gateway(self.to_string())
    }
}

/// The failure of a stream.
impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        Self::model_stream_error(malformed.to_string())
    }
}

/// A request that failed, and whether to send it again.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) retry: Retry,
}

/// Whether to send a request again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// It would fail again.
    Never,
    /// After a while.
    Later,
    /// After the time that the server asks for.
    After(Duration),
}

impl Failure {
    /// A failure that stays.
    pub(super) fn for_good(error: Error) -> Self {
        Self { error, retry: Retry::Never }
    }

    /// What a server means with an answer that is no success.
    ///
    /// `exception` is the service's own name for it, where the server is the service; `wait` is what it asks for.
    pub(super) fn of_answer(
        status: u16,
        exception: Option<&str>,
        body: &[u8],
        wait: Option<Duration>,
        secrets: &[Secret],
    ) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let (code, said) = words(&body);
        let message = match said {
            Some(said) => format!("the server answered {status}: {said}"),
            None => format!("the server answered {status}"),
        };
        let message = redacted(message, secrets);
        let passes = matches!(status, 408 | 425 | 429 | 500 | 502..=504 | 529);
        let mut retry = match wait {
            Some(wait) if passes => Retry::After(wait),
            _ if passes => Retry::Later,
            _ => Retry::Never,
        };
        let quota = code == Some("insufficient_quota");
        let error = match exception {
            Some(name) => {
                // `ThrottlingException:http://…` and `com.amazon…#ThrottlingException` are both in use.
                let name = name.split(':').next().unwrap_or(name);
                let name = name.rsplit('#').next().unwrap_or(name);
                let mut body = body;
                match &mut body {
                    Value::Object(fields) => {
                        fields.remove("Message");
                        fields.insert("message".into(), message.into());
                    }
                    other => *other = serde_json::json!({ "message": message }),
                }
                let foreign = matches!(status, 401 | 403) && !name.starts_with("AccessDenied");
                if foreign {
                    Error::access_denied(format!("{name}: {}", text(&body)))
                } else {
                    Error::from_exception(name, &body)
                }
            }
            None => match status {
                402 => Error::service_quota_exceeded(message),
                429 if quota => {
                    retry = Retry::Never;
                    Error::service_quota_exceeded(message)
                }
                400 | 405 | 411..=417 | 422 => Error::validation(message),
                401 | 403 | 407 => Error::access_denied(message),
                404 | 410 => Error::resource_not_found(message),
                408 | 504 => Error::model_timeout(message),
                409 => Error::conflict(message),
                425 | 429 => Error::throttling(message),
                500 => Error::internal_server(message),
                502 => Error::bad_gateway(message),
                503 | 529 => Error::service_unavailable(message),
                _ => Error::ModelError { message, original_status_code: Some(status), resource_name: None },
            },
        };
        Self { error, retry }
    }
}

fn text(body: &Value) -> &str {
    body.get("message").and_then(Value::as_str).unwrap_or_default()
}

/// The code and the message of an error, in any of the forms that servers have for it.
pub(super) fn words(body: &Value) -> (Option<&str>, Option<String>) {
    let error = body.get("error").unwrap_or(body);
    let code = error.get("code").and_then(Value::as_str).or_else(|| error.get("type").and_then(Value::as_str));
    let said = match error {
        Value::String(text) => Some(text.clone()),
        _ => ["message", "Message", "detail"].into_iter().find_map(|key| match error.get(key)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }),
    };
    (code, said.map(|said| said.chars().take(MESSAGE).collect()))
}

/// A message without the keys that a server may have repeated.
pub(super) fn redacted(message: String, secrets: &[Secret]) -> String {
    secrets.iter().fold(message, |message, secret| secret.redact(message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn failure(status: u16, body: Value) -> Failure {
        Failure::of_answer(status, None, body.to_string().as_bytes(), None, &[Secret::new("sk-secret")])
    }

    #[test]
    fn every_form_of_message_is_found_and_no_key_is_passed_on() {
        for body in [
            json!({"error": {"message": "bad sk-secret", "type": "x", "code": null}}),
            json!({"error": "bad sk-secret"}),
            json!({"message": "bad sk-secret"}),
            json!({"detail": "bad sk-secret"}),
            json!({"type": "error", "error": {"type": "invalid_request_error", "message": "bad sk-secret"}}),
        ] {
            let Failure { error, retry } = failure(400, body);
            assert_eq!(error.to_string(), "the server answered 400: bad [redacted]");
            assert_eq!((error.exception_name(), retry), ("ValidationException", Retry::Never));
        }
        let long = failure(400, json!({"detail": [{"loc": ["body"], "msg": "x".repeat(5000)}]}));
        assert!(long.error.to_string().len() < 1100);
        let no_json = Failure::of_answer(418, None, b"<html>", None, &[]);
        assert_eq!(no_json.error.to_string(), "the server answered 418");
        assert_eq!(failure(418, json!("tea")).error.to_string(), "the server answered 418: tea");
    }

    #[test]
    fn each_status_has_its_exception() {
        for (status, name, passes) in [
            (400, "ValidationException", false),
            (401, "AccessDeniedException", false),
            (402, "ServiceQuotaExceededException", false),
            (403, "AccessDeniedException", false),
            (404, "ResourceNotFoundException", false),
            (408, "ModelTimeoutException", true),
            (409, "ConflictException", false),
            (413, "ValidationException", false),
            (422, "ValidationException", false),
            (429, "ThrottlingException", true),
            (500, "InternalServerException", true),
            (501, "ModelErrorException", false),
            (502, "BadGatewayException", true),
            (503, "ServiceUnavailableException", true),
            (504, "ModelTimeoutException", true),
            (529, "ServiceUnavailableException", true),
            (302, "ModelErrorException", false),
        ] {
            let Failure { error, retry } = failure(status, json!({}));
            assert_eq!((error.exception_name(), retry == Retry::Later), (name, passes), "{status}");
        }
        let quota = failure(429, json!({"error": {"message": "pay", "code": "insufficient_quota"}}));
        assert_eq!((quota.error.exception_name(), quota.retry), ("ServiceQuotaExceededException", Retry::Never));
    }

    #[test]
    fn the_service_names_its_exceptions_itself() {
        let of = |status, name: &str, body: Value| {
            Failure::of_answer(status, Some(name), body.to_string().as_bytes(), None, &[]).error
        };
        let error = of(424, "ModelErrorException:http://x/", json!({"message": "no", "originalStatusCode": 500}));
        assert!(matches!(error, Error::ModelError { original_status_code: Some(500), .. }), "{error:?}");
        assert_eq!(of(429, "a.b#ThrottlingException", json!({})).exception_name(), "ThrottlingException");
        let error = of(403, "UnrecognizedClientException", json!({"Message": "token"}));
        assert!(matches!(&error, Error::AccessDenied { message } if message.contains("Unrecognized")), "{error:?}");
    }
}
