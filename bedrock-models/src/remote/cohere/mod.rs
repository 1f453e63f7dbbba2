//! Cohere's interface, version 2: chat, embeddings, reranking.

mod answer;
mod chat;
mod embed;
mod rerank;

use bedrock_core::Error;

pub use chat::CohereChat;
pub use embed::CohereEmbedder;
pub use rerank::CohereReranker;

use super::options::RemoteOptions;
use super::secret::{Secret, variable};
use super::transport::{Authorization, Transport};
use super::vectors::RemoteEmbedderSpec;

/// Cohere's own address.
const ADDRESS: &str = "https://api.cohere.com";

/// A server that speaks Cohere's interface.
///
/// ```no_run
/// use bedrock_core::{ChatModel, ConverseRequest};
/// use bedrock_models::remote::Cohere;
///
/// let model = Cohere::from_env()?.chat("command-r-08-2024");
/// println!("{}", model.converse_blocking(&ConverseRequest::new("any").user("Why is the sky blue?"))?.text());
/// # Ok::<(), bedrock_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Cohere {
    transport: Transport,
    address: String,
}

impl Cohere {
    /// The server at `address`, such as `https://api.cohere.com`.
    ///
    /// # Errors
    /// [`Error::Validation`] for an address that is none, that carries a password, or that would show the key on the way.
    pub fn new(address: &str, key: Secret, options: &RemoteOptions) -> Result<Self, Error> {
        let transport = Transport::new(address, Authorization::Bearer(key), options)?;
        Ok(Self { transport, address: address.to_owned() })
    }

    /// The server of `CO_API_URL` (Cohere's own, if not set) with the key in `CO_API_KEY`.
    ///
    /// # Errors
    /// [`Error::AccessDenied`] if the key is not set; those of [`Cohere::new`].
    pub fn from_env() -> Result<Self, Error> {
        let address = std::env::var("CO_API_URL").ok().filter(|address| !address.trim().is_empty());
        Self::new(address.as_deref().unwrap_or(ADDRESS), variable("CO_API_KEY")?, &RemoteOptions::default())
    }

    /// A chat model.
    pub fn chat(&self, model: impl Into<String>) -> CohereChat {
        CohereChat::new(self.transport.clone(), model.into())
    }

    /// An embedding model.
    pub fn embedder(&self, model: impl Into<String>, spec: RemoteEmbedderSpec) -> CohereEmbedder {
        CohereEmbedder::new(self.clone(), model.into(), spec)
    }

    /// A reranker.
    pub fn reranker(&self, model: impl Into<String>) -> CohereReranker {
        CohereReranker::new(self.transport.clone(), model.into())
    }
}
