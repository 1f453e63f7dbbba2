//! The encoder of a guardrail.

use bedrock_guard::GuardrailBuilder;
use bedrock_models::Embedder;

use crate::{Failure, ModelArguments, find_model};

/// The encoder that programs take if none is named.
const ENCODER: &str = "all-minilm-l6-v2";

/// Gives a guardrail the encoder of this folder or name if it asks one. Where it can do without, and none is named, it does without if there is none.
///
/// # Errors
/// If the encoder can't be found or loaded.
pub fn with_encoder(
    builder: GuardrailBuilder,
    name: Option<&str>,
    models: &ModelArguments,
) -> Result<GuardrailBuilder, Failure> {
    if !builder.uses_embedder() {
        return Ok(builder);
    }
    match find_model(name.unwrap_or(ENCODER)) {
        Err(_) if name.is_none() && !builder.needs_embedder() => Ok(builder),
        found => Ok(builder.embedder(Embedder::load(found?, &models.options())?)),
    }
}
