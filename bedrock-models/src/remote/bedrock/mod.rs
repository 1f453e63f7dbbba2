//! Amazon Bedrock itself.

mod embed;
mod image;
mod text;

use bedrock_core::{BoxFuture, ChatModel, ConverseRequest, ConverseResponse, Error, EventStream, StreamEvent};
use serde::Deserialize;
use serde_json::{Value, json};

pub use embed::BedrockEmbedder;
pub(super) use embed::input_type;
pub use image::BedrockPainter;
pub use text::BedrockText;

use super::events::{FrameAnswer, FrameReader};
use super::failure::Malformed;
use super::frame::Frame;
use super::options::RemoteOptions;
use super::runtime::stream;
use super::secret::{Secret, variable};
use super::sign::{AwsCredentials, Signer};
use super::transport::{Authorization, Call, Transport};
use super::vectors::RemoteEmbedderSpec;
use embed::Embeddings;
use image::Painter;
use text::Family;

/// What a stream of events is called.
const EVENT_STREAM: &str = "application/vnd.amazon.eventstream";

/// How a caller proves who they are.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AwsAuthorization {
    /// By signing each request with the keys of an account or role (Signature Version 4).
    Credentials(AwsCredentials),
    /// By an API key of the service.
    ApiKey(Secret),
}

/// The runtime of Amazon Bedrock in one region.
///
/// ```no_run
/// use bedrock_core::{ChatModel, ConverseRequest};
/// use bedrock_models::remote::Bedrock;
///
/// let model = Bedrock::from_env()?.chat("meta.llama3-8b-instruct-v1:0");
/// println!("{}", model.converse_blocking(&ConverseRequest::new("any").user("Why is the sky blue?"))?.text());
/// # Ok::<(), bedrock_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Bedrock {
    transport: Transport,
    region: String,
}

impl Bedrock {
    /// The service in `region`, at its own address.
    ///
    /// # Errors
    /// [`Error::Validation`] for a region that is no name of one.
    pub fn new(region: &str, authorization: AwsAuthorization, options: &RemoteOptions) -> Result<Self, Error> {
        if region.is_empty()
            || !region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        {
            return Err(Error::validation(format!("{region:?} is no name of a region")));
        }
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        Self::at(&format!("https://bedrock-runtime.{region}.{domain}"), region, authorization, options)
    }

    /// The service at another address, such as an endpoint inside a private network.
    ///
    /// # Errors
    /// [`Error::Validation`] for an address that is none, that carries a password, or that would show keys on the way.
    pub fn at(
        address: &str,
        region: &str,
        authorization: AwsAuthorization,
        options: &RemoteOptions,
    ) -> Result<Self, Error> {
        let authorization = match authorization {
            AwsAuthorization::ApiKey(key) => Authorization::Bearer(key),
            AwsAuthorization::Credentials(keys) => {
                Authorization::Signed(Signer::new(keys, region.to_owned(), "bedrock"))
            }
        };
        Ok(Self { transport: Transport::new(address, authorization, options)?, region: region.to_owned() })
    }

    /// The service in the region of `AWS_REGION` or `AWS_DEFAULT_REGION` (at `AWS_ENDPOINT_URL_BEDROCK_RUNTIME`, if set), with the API key in
    /// `AWS_BEARER_TOKEN_BEDROCK`, or the keys in `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, if they expire, `AWS_SESSION_TOKEN`. Profiles
    /// and roles of machines are not looked up.
    ///
    /// # Errors
    /// [`Error::AccessDenied`] if a variable is missing; those of [`Bedrock::new`].
    pub fn from_env() -> Result<Self, Error> {
        let plain = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let region = plain("AWS_REGION").or_else(|| plain("AWS_DEFAULT_REGION"));
        let region = region.ok_or_else(|| Error::access_denied("the environment variable AWS_REGION is not set"))?;
        let authorization = match variable("AWS_BEARER_TOKEN_BEDROCK") {
            Ok(key) => AwsAuthorization::ApiKey(key),
            Err(_) => {
                let id = plain("AWS_ACCESS_KEY_ID");
                let unset = || Error::access_denied("neither AWS_BEARER_TOKEN_BEDROCK nor AWS_ACCESS_KEY_ID is set");
                AwsAuthorization::Credentials(AwsCredentials {
                    access_key_id: id.ok_or_else(unset)?.trim().to_owned(),
                    secret_access_key: variable("AWS_SECRET_ACCESS_KEY")?,
                    session_token: variable("AWS_SESSION_TOKEN").ok(),
                })
            }
        };
        let options = RemoteOptions::default();
        match plain("AWS_ENDPOINT_URL_BEDROCK_RUNTIME") {
            Some(address) => Self::at(&address, region.trim(), authorization, &options),
            None => Self::new(region.trim(), authorization, &options),
        }
    }

    /// A chat model, through `Converse` and `ConverseStream`.
    pub fn chat(&self, model: impl Into<String>) -> BedrockChat {
        BedrockChat { service: self.clone(), model: model.into() }
    }

    /// A text model of the Titan family, through its native body.
    pub fn titan_text(&self, model: impl Into<String>) -> BedrockText {
        BedrockText::new(self.clone(), model.into(), Family::Titan)
    }

    /// A text model of the Jurassic-2 family, through its native body.
    pub fn jurassic(&self, model: impl Into<String>) -> BedrockText {
        BedrockText::new(self.clone(), model.into(), Family::Jurassic)
    }

    /// An embedding model of the Titan family: those whose id has `embed-text-v2` have dimensions and normalising of their own.
    pub fn titan_embedder(&self, model: impl Into<String>, spec: RemoteEmbedderSpec) -> BedrockEmbedder {
        BedrockEmbedder::new(self.clone(), model.into(), spec, Embeddings::Titan)
    }

    /// An embedding model of the Cohere family.
    pub fn cohere_embedder(&self, model: impl Into<String>, spec: RemoteEmbedderSpec) -> BedrockEmbedder {
        BedrockEmbedder::new(self.clone(), model.into(), spec, Embeddings::Cohere)
    }

    /// A model of the Titan family that makes pictures.
    pub fn titan_painter(&self, model: impl Into<String>) -> BedrockPainter {
        BedrockPainter::new(self.clone(), model.into(), Painter::Titan)
    }

    /// Stable Diffusion XL.
    pub fn stable_diffusion_xl(&self, model: impl Into<String>) -> BedrockPainter {
        BedrockPainter::new(self.clone(), model.into(), Painter::StableDiffusionXl)
    }
}

/// The path of an operation on a model, whose id may be an ARN with colons and slashes.
fn path(model: &str, operation: &str) -> String {
    let id = model.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    });
    format!("model/{id}/{operation}")
}

/// A chat model of [`Bedrock`]. The types of this crate are those of the service, so a request is sent as it is.
#[derive(Debug, Clone)]
pub struct BedrockChat {
    service: Bedrock,
    model: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Count {
    input_tokens: u32,
}

impl ChatModel for BedrockChat {
    fn converse_stream<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<EventStream<'a>, Error>> {
        Box::pin(async move {
            request.validate()?;
            let call = Call::json(path(&self.model, "converse-stream"), &request.to_body()?)?;
            let transport = &self.service.transport;
            let response = transport.begin(Call { accept: EVENT_STREAM, ..call }).await?;
            stream(transport, response, FrameReader::new(transport.limits().event, Converse))
        })
    }

    fn converse<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<ConverseResponse, Error>> {
        Box::pin(async move {
            request.validate()?;
            let call = Call::json(path(&self.model, "converse"), &request.to_body()?)?;
            self.service.transport.json(call, "an answer").await
        })
    }

    fn count_tokens<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<u32, Error>> {
        Box::pin(async move {
            request.validate()?;
            const PROMPT: [&str; 4] = ["messages", "system", "toolConfig", "additionalModelRequestFields"];
            let mut converse = request.to_body()?;
            if let Value::Object(fields) = &mut converse {
                fields.retain(|name, _| PROMPT.contains(&name.as_str()));
            }
            let body = json!({"input": {"converse": converse}});
            let call = Call::json(path(&self.model, "count-tokens"), &body)?;
            Ok(self.service.transport.json::<Count>(call, "a count").await?.input_tokens)
        })
    }
}

/// What a frame says: its event, or the exception that ended the stream.
fn event(frame: Frame) -> Result<(String, Value), Error> {
    let json = |what| serde_json::from_slice::<Value>(&frame.payload).map_err(Malformed::json(what));
    let missing = |missing| Malformed::Missing { what: "a frame", missing };
    match frame.header(":message-type") {
        Some("event") => {
            let name = frame.header(":event-type").ok_or_else(|| missing("an event type"))?;
            Ok((name.to_owned(), json("an event")?))
        }
        Some("exception") => {
            let name = frame.header(":exception-type").ok_or_else(|| missing("an exception type"))?;
            Err(Error::from_exception(name, &json("an exception").unwrap_or_default()))
        }
        Some("error") => {
            let code = frame.header(":error-code").unwrap_or_default();
            let message = frame.header(":error-message").unwrap_or_default();
            Err(Error::model_stream_error(format!("the server failed within the answer: {code} {message}")))
        }
        _ => Err(missing("a message type").into()),
    }
}

/// The events of `ConverseStream`, which are our own.
struct Converse;

impl FrameAnswer for Converse {
    fn frame(&mut self, frame: Frame, events: &mut Vec<StreamEvent>) -> Result<bool, Error> {
        let (name, value) = event(frame)?;
        let event: StreamEvent = serde_json::from_value(json!({name: value})).map_err(Malformed::json("an event"))?;
        let last = matches!(event, StreamEvent::Metadata(_));
        events.push(event);
        Ok(last)
    }
}
