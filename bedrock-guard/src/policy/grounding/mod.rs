//! Contextual grounding: does the source support the response, and does the response answer the query?

pub(crate) mod aligned;
pub(crate) mod alignment;
pub(crate) mod claim;
pub(crate) mod evidence;
pub(crate) mod head;
pub(crate) mod places;

use bedrock_core::{
    Error, GuardrailContentBlock, GuardrailContentQualifier, GuardrailContextualGroundingFilterType as Type,
};

use crate::classifier::GroundingJudge;
use aligned::Aligner;
use head::head;

/// The two checks, in the order of a guardrail's tables.
pub(crate) const TYPES: [Type; 2] = [Type::Grounding, Type::Relevance];
/// Characters of the longest source, query and response, as in the service.
const LIMITS: [(&str, usize); 3] = [("grounding source", 100_000), ("query", 1_000), ("text", 5_000)];

/// What a response is held against.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Material {
    pub(crate) source: String,
    pub(crate) query: String,
}

impl Material {
    /// Takes note of a block that is a source or a query; several are joined.
    pub(crate) fn add(&mut self, block: &GuardrailContentBlock) {
        let GuardrailContentBlock::Text(block) = block else { return };
        let parts = [
            (&mut self.source, GuardrailContentQualifier::GroundingSource),
            (&mut self.query, GuardrailContentQualifier::Query),
        ];
        for (part, qualifier) in parts {
            if block.qualifiers.contains(&qualifier) {
                if !part.is_empty() {
                    part.push('\n');
                }
                part.push_str(&block.text);
            }
        }
    }

    /// Scores of the two checks; `None` where there is nothing to check against. With a judge, it says whether the source supports the response; else with an
    /// encoder, networks that read its states do.
    ///
    /// # Errors
    /// [`Error::Validation`] if a text is longer than the service allows; what the judge fails with.
    pub(crate) async fn scores(
        &self,
        response: &str,
        judge: Option<&GroundingJudge>,
        aligner: Option<&Aligner>,
    ) -> Result<[Option<f32>; 2], Error> {
        let Self { source, query } = self;
        for (text, (name, limit)) in [source.as_str(), query, response].into_iter().zip(LIMITS) {
            let characters = text.chars().count();
            if characters > limit {
                let message =
                    format!("contextual grounding: the {name} has {characters} characters, the limit is {limit}");
                return Err(Error::validation(message));
            }
        }
        let support = match judge {
            _ if source.is_empty() => None,
            Some(judge) => Some(judge.score(source, response).await?),
            None => {
                let aligned = match aligner {
                    Some(aligner) => aligner.score(source, query, response).await?,
                    None => None,
                };
                Some(aligned.unwrap_or_else(|| grounding(source, query, response)))
            }
        };
        Ok([support, (!query.is_empty()).then(|| relevance(source, query, response))])
    }
}

/// Likelihood that the source supports the response, 0..=1.
fn grounding(source: &str, query: &str, response: &str) -> f32 {
    head().support.score(&evidence::support(source, query, response))
}

/// Likelihood that the response is about what was asked, 0..=1.
fn relevance(source: &str, query: &str, response: &str) -> f32 {
    head().relevance.score(&evidence::relevance(source, query, response))
}
