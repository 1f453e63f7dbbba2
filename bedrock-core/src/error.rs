//! The error type: one variant for each exception of the service.

use serde_json::{Map, Value, json};

use crate::seal::SealError;
use crate::stream::ProtocolViolation;

/// Why a call failed, with the exception name and HTTP code that the service gives the same failure.
///
/// A model, store or tool that fails for a reason of its own (a file, a driver, a network library) wraps it with
/// [`Error::backend`]; the cause stays reachable through [`std::error::Error::source`]. A guardrail that blocks is no
/// error: it is an answer with [`StopReason::GuardrailIntervened`](crate::StopReason::GuardrailIntervened).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request breaks a rule of the service or asks for what this model can't do. The message names the field.
    #[error("{message}")]
    Validation {
        /// What is wrong, with the path of the field.
        message: String,
    },
    /// The caller may not do this.
    #[error("{message}")]
    AccessDenied {
        /// What was refused.
        message: String,
    },
    /// The model, guardrail, knowledge base or session named does not exist.
    #[error("{message}")]
    ResourceNotFound {
        /// What was looked for.
        message: String,
    },
    /// A fixed limit would be exceeded (unlike [`Error::Throttling`], waiting does not help).
    #[error("{message}")]
    ServiceQuotaExceeded {
        /// Which limit.
        message: String,
    },
    /// The request contradicts the present state, as two writers to one session do.
    #[error("{message}")]
    Conflict {
        /// What collided.
        message: String,
    },
    /// The model did not answer in time.
    #[error("{message}")]
    ModelTimeout {
        /// How long was waited, for what.
        message: String,
    },
    /// The model failed while it worked on the request.
    #[error("{message}")]
    ModelError {
        /// What failed.
        message: String,
        /// HTTP status of the model's own server, for a remote one.
        original_status_code: Option<u16>,
        /// The model or resource that failed.
        resource_name: Option<String>,
    },
    /// The model failed after the stream had begun.
    #[error("{message}")]
    ModelStreamError {
        /// What failed.
        message: String,
        /// HTTP status of the model's own server, for a remote one.
        original_status_code: Option<u16>,
        /// Message of the model's own server, for a remote one.
        original_message: Option<String>,
    },
    /// The events of a stream contradict the protocol. The service's name for it is `ModelStreamErrorException`.
    #[error(transparent)]
    Protocol(#[from] ProtocolViolation),
    /// Data can't be sealed or opened. On the wire it is an `InternalServerException`.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Too many requests at the moment, or a full queue: retry later.
    #[error("{message}")]
    Throttling {
        /// Which limit, and when to come back if that is known.
        message: String,
    },
    /// The model is still being loaded.
    #[error("{message}")]
    ModelNotReady {
        /// Which model.
        message: String,
    },
    /// A defect on the serving side that has no better name.
    #[error("{message}")]
    InternalServer {
        /// What happened.
        message: String,
        /// A code for the cause, which the agent runtime gives.
        reason: Option<String>,
    },
    /// The serving side is down or shutting down.
    #[error("{message}")]
    ServiceUnavailable {
        /// What is unavailable.
        message: String,
    },
    /// A resource that this one needs (a store, a model, a function) refused or failed.
    #[error("{message}")]
    DependencyFailed {
        /// What failed.
        message: String,
        /// The resource that failed.
        resource_name: Option<String>,
    },
    /// A server that this one needs answered with nonsense.
    #[error("{message}")]
    BadGateway {
        /// What was answered.
        message: String,
        /// The server.
        resource_name: Option<String>,
    },
    /// A failure of the code behind a trait. On the wire it is an `InternalServerException` whose message is the
    /// cause's own text, without the chain of causes below it.
    #[error("the backend failed")]
    Backend {
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $variant:ident { $($field:ident),* };)*) => {$(
        $(#[$doc])*
        pub fn $name(message: impl Into<String>) -> Self {
            Self::$variant { message: message.into() $(, $field: None)* }
        }
    )*};
}

impl Error {
    constructors! {
        /// A [`Error::Validation`].
        validation => Validation {};
        /// An [`Error::AccessDenied`].
        access_denied => AccessDenied {};
        /// An [`Error::ResourceNotFound`].
        resource_not_found => ResourceNotFound {};
        /// An [`Error::ServiceQuotaExceeded`].
        service_quota_exceeded => ServiceQuotaExceeded {};
        /// An [`Error::Conflict`].
        conflict => Conflict {};
        /// An [`Error::ModelTimeout`].
        model_timeout => ModelTimeout {};
        /// An [`Error::ModelError`] that names no status and no resource.
        model_error => ModelError { original_status_code, resource_name };
        /// An [`Error::ModelStreamError`] that names no original status or message.
        model_stream_error => ModelStreamError { original_status_code, original_message };
        /// An [`Error::Throttling`].
        throttling => Throttling {};
        /// An [`Error::ModelNotReady`].
        model_not_ready => ModelNotReady {};
        /// An [`Error::InternalServer`] that names no reason.
        internal_server => InternalServer { reason };
        /// An [`Error::ServiceUnavailable`].
        service_unavailable => ServiceUnavailable {};
        /// An [`Error::DependencyFailed`] that names no resource.
        dependency_failed => DependencyFailed { resource_name };
        /// An [`Error::BadGateway`] that names no resource.
        bad_gateway => BadGateway { resource_name };
    }

    /// Wraps the failure of a library, device or store.
    pub fn backend(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Backend { source: source.into() }
    }

    /// Rebuilds the error from what travels on the wire: the exception's name, in the spelling of a unary answer
    /// (`ThrottlingException`) or of a stream (`throttlingException`), and the JSON body.
    ///
    /// A name that is not known becomes [`Error::InternalServer`] that quotes it.
    pub fn from_exception(name: &str, body: &Value) -> Self {
        let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
        let message = text("message").or_else(|| text("Message")).unwrap_or_default();
        let original_status_code =
            body.get("originalStatusCode").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
        let resource_name = text("resourceName");
        let known = name.get(..1).map(|first| first.to_ascii_uppercase() + &name[1..]).unwrap_or_default();
        match known.as_str() {
            "ValidationException" => Self::Validation { message },
            "AccessDeniedException" => Self::AccessDenied { message },
            "ResourceNotFoundException" => Self::ResourceNotFound { message },
            "ServiceQuotaExceededException" => Self::ServiceQuotaExceeded { message },
            "ConflictException" => Self::Conflict { message },
            "ModelTimeoutException" => Self::ModelTimeout { message },
            "ModelErrorException" => Self::ModelError { message, original_status_code, resource_name },
            "ModelStreamErrorException" => {
                Self::ModelStreamError { message, original_status_code, original_message: text("originalMessage") }
            }
            "ThrottlingException" => Self::Throttling { message },
            "ModelNotReadyException" => Self::ModelNotReady { message },
            "InternalServerException" => Self::InternalServer { message, reason: text("reason") },
            "ServiceUnavailableException" => Self::ServiceUnavailable { message },
            "DependencyFailedException" => Self::DependencyFailed { message, resource_name },
            "BadGatewayException" => Self::BadGateway { message, resource_name },
            _ => Self::internal_server(format!("{name}: {message}")),
        }
    }

    /// The service's name of this failure, as the `x-amzn-ErrorType` header carries it.
    pub fn exception_name(&self) -> &'static str {
        match self {
            Self::Validation { .. } => "ValidationException",
            Self::AccessDenied { .. } => "AccessDeniedException",
            Self::ResourceNotFound { .. } => "ResourceNotFoundException",
            Self::ServiceQuotaExceeded { .. } => "ServiceQuotaExceededException",
            Self::Conflict { .. } => "ConflictException",
            Self::ModelTimeout { .. } => "ModelTimeoutException",
            Self::ModelError { .. } => "ModelErrorException",
            Self::ModelStreamError { .. } | Self::Protocol(_) => "ModelStreamErrorException",
            Self::Throttling { .. } => "ThrottlingException",
            Self::ModelNotReady { .. } => "ModelNotReadyException",
            Self::InternalServer { .. } | Self::Backend { .. } | Self::Seal(_) => "InternalServerException",
            Self::ServiceUnavailable { .. } => "ServiceUnavailableException",
            Self::DependencyFailed { .. } => "DependencyFailedException",
            Self::BadGateway { .. } => "BadGatewayException",
        }
    }

    /// The HTTP code of this failure on the runtime (`Converse`, `InvokeModel`, `ApplyGuardrail`).
    ///
    /// The agent runtime (`Retrieve`, `InvokeAgent`) differs in two: see [`Error::http_status_of_agents`].
    pub fn http_status(&self) -> u16 {
        match self {
            Self::Validation { .. } | Self::ServiceQuotaExceeded { .. } | Self::Conflict { .. } => 400,
            Self::AccessDenied { .. } => 403,
            Self::ResourceNotFound { .. } => 404,
            Self::ModelTimeout { .. } => 408,
            Self::ModelError { .. }
            | Self::ModelStreamError { .. }
            | Self::Protocol(_)
            | Self::DependencyFailed { .. } => 424,
            Self::Throttling { .. } | Self::ModelNotReady { .. } => 429,
            Self::InternalServer { .. } | Self::Backend { .. } | Self::Seal(_) => 500,
            Self::BadGateway { .. } => 502,
            Self::ServiceUnavailable { .. } => 503,
        }
    }

    /// The HTTP code of this failure on the agent runtime: as [`Error::http_status`], but 409 for a conflict and 424
    /// for a model that is not ready.
    pub fn http_status_of_agents(&self) -> u16 {
        match self {
            Self::Conflict { .. } => 409,
            Self::ModelNotReady { .. } => 424,
            _ => self.http_status(),
        }
    }

    /// Whether the same request may succeed when sent again.
    ///
    /// False for a backend's failure: its cause is unknown here, and a broken file stays broken.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::ModelTimeout { .. }
                | Self::ModelStreamError { .. }
                | Self::Throttling { .. }
                | Self::ModelNotReady { .. }
                | Self::InternalServer { .. }
                | Self::ServiceUnavailable { .. }
                | Self::BadGateway { .. }
        )
    }

    /// Whether the caller is to blame (HTTP 4xx other than a failure of the model or a dependency).
    pub fn is_client_error(&self) -> bool {
        matches!(self.http_status(), 400..=404)
    }

    /// The message for the wire.
    pub fn message(&self) -> String {
        match self {
            Self::Backend { source } => source.to_string(),
            other => other.to_string(),
        }
    }

    /// The JSON body of the exception: `message` and the fields that the exception has besides.
    pub fn body(&self) -> Value {
        let mut body = Map::new();
        body.insert("message".into(), json!(self.message()));
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(key.into(), value);
            }
        };
        match self {
            Self::ModelError { original_status_code, resource_name, .. } => {
                put("originalStatusCode", original_status_code.map(Value::from));
                put("resourceName", resource_name.clone().map(Value::from));
            }
            Self::ModelStreamError { original_status_code, original_message, .. } => {
                put("originalStatusCode", original_status_code.map(Value::from));
                put("originalMessage", original_message.clone().map(Value::from));
            }
            Self::InternalServer { reason, .. } => put("reason", reason.clone().map(Value::from)),
            Self::DependencyFailed { resource_name, .. } | Self::BadGateway { resource_name, .. } => {
                put("resourceName", resource_name.clone().map(Value::from));
            }
            _ => {}
        }
        Value::Object(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every() -> Vec<Error> {
        vec![
            Error::validation("a"),
            Error::access_denied("b"),
            Error::resource_not_found("c"),
            Error::service_quota_exceeded("d"),
            Error::conflict("e"),
            Error::model_timeout("f"),
            Error::ModelError {
                message: "g".into(),
                original_status_code: Some(503),
                resource_name: Some("llama".into()),
            },
            Error::ModelStreamError {
                message: "h".into(),
                original_status_code: Some(500),
                original_message: Some("boom".into()),
            },
            Error::throttling("i"),
            Error::model_not_ready("j"),
            Error::internal_server("k"),
            Error::service_unavailable("l"),
            Error::DependencyFailed { message: "m".into(), resource_name: Some("store".into()) },
            Error::BadGateway { message: "n".into(), resource_name: Some("proxy".into()) },
        ]
    }

    #[test]
    fn name_and_body_rebuild_the_error_in_both_spellings() {
        for error in every() {
            let name = error.exception_name();
            let lower = name[..1].to_lowercase() + &name[1..];
            for spelling in [name, &lower] {
                let again = Error::from_exception(spelling, &error.body());
                assert_eq!(format!("{again:?}"), format!("{error:?}"));
            }
        }
    }

    #[test]
    fn a_foreign_exception_keeps_its_name() {
        let error = Error::from_exception("TeapotException", &json!({"message": "short and stout"}));
        assert_eq!(error.to_string(), "TeapotException: short and stout");
        assert_eq!(Error::from_exception("", &json!(null)).http_status(), 500);
        assert_eq!(Error::from_exception("éa", &json!([])).http_status(), 500);
    }

    #[test]
    fn a_backend_failure_keeps_its_cause() {
        let error = Error::backend(std::io::Error::other("disk on fire"));
        assert_eq!(error.http_status(), 500);
        assert_eq!(error.message(), "disk on fire");
        assert!(std::error::Error::source(&error).is_some());
        assert!(!error.is_retryable());
    }

    #[test]
    fn the_agent_runtime_differs_in_two_codes() {
        for error in every() {
            let differs = error.http_status() != error.http_status_of_agents();
            assert_eq!(differs, matches!(error, Error::Conflict { .. } | Error::ModelNotReady { .. }));
        }
    }
}
