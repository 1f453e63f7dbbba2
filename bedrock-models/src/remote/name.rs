//! Chat models by one name, as command lines and configurations have them.

use std::sync::Arc;

use bedrock_core::{ChatModel, Error};

use super::{Ai21, Anthropic, Bedrock, Cohere, OpenAi};

/// What may stand before the colon.
const PROVIDERS: [&str; 5] = ["openai", "anthropic", "bedrock", "cohere", "ai21"];

/// A chat model by its provider and its name there, with address and key from the environment: `openai:gpt-4o-mini`, `anthropic:…`, `bedrock:…`, `cohere:…`
/// or `ai21:…`. Which variables are read is said at `from_env` of each.
///
/// ```no_run
/// let model = bedrock_models::remote::chat_model("openai:gpt-4o-mini")?;
/// # Ok::<(), bedrock_core::Error>(())
/// ```
///
/// # Errors
/// [`Error::ResourceNotFound`] for another provider or no name; [`Error::AccessDenied`] if a key is not set.
pub fn chat_model(name: &str) -> Result<Arc<dyn ChatModel>, Error> {
    let (provider, model) = name.split_once(':').unwrap_or((name, ""));
    if !PROVIDERS.contains(&provider) || model.is_empty() {
        let known = PROVIDERS.join(", ");
        return Err(Error::resource_not_found(format!(
            "{name:?} is not PROVIDER:MODEL with one of the providers {known}"
        )));
    }
    Ok(match provider {
        "openai" => Arc::new(OpenAi::from_env()?.chat(model)),
        "anthropic" => Arc::new(Anthropic::from_env(model)?),
        "bedrock" => Arc::new(Bedrock::from_env()?.chat(model)),
        "cohere" => Arc::new(Cohere::from_env()?.chat(model)),
        _ => Arc::new(Ai21::from_env(model)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_needs_a_known_provider_and_a_model() {
        for name in ["", "openai", "openai:", "gpt-4o-mini", "nobody:x", ":x"] {
            assert!(matches!(chat_model(name).map(drop), Err(Error::ResourceNotFound { .. })), "{name:?}");
        }
    }
}
