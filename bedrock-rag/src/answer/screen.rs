//! Passages that a guardrail judges before a model sees them.

use bedrock_core::{
    ApplyGuardrailRequest, Guardrail, GuardrailContentBlock, GuardrailContentQualifier as Qualifier,
    GuardrailContentSource,
};

use crate::error::Error;
use crate::retrieve::Passage;

/// The passages that may pass, with masks, and whether one was left out or masked.
///
/// # Errors
/// [`Error::Model`] if the guardrail can't judge one.
pub(super) async fn screened(guardrail: &dyn Guardrail, passages: Vec<Passage>) -> Result<(Vec<Passage>, bool), Error> {
    let (mut passing, mut intervened) = (Vec::with_capacity(passages.len()), false);
    for mut passage in passages {
        let mut texts: Vec<&mut String> = vec![&mut passage.text];
        texts.extend(passage.title.as_mut());
        texts.extend(&mut passage.headings);
        let judged: Vec<usize> = (0..texts.len()).filter(|index| !texts[*index].trim().is_empty()).collect();
        // Somebody else has written it: an attack in it is one on who reads it.
        let marks = || [Qualifier::GroundingSource, Qualifier::GuardContent];
        let content = judged.iter().map(|index| GuardrailContentBlock::text(texts[*index].as_str(), marks()));
        let request = ApplyGuardrailRequest::new(GuardrailContentSource::Input, content);
        let verdict = guardrail.apply(&request).await.map_err(|source| Error::Model { role: "guardrail", source })?;
        if verdict.intervened() {
            intervened = true;
            // A verdict that has another text for each of them masks; everything else is a refusal.
            if verdict.blocked() || verdict.outputs.len() != judged.len() {
                continue;
            }
            for (index, output) in judged.into_iter().zip(verdict.outputs) {
                *texts[index] = output.text.unwrap_or_default();
            }
        }
        passing.push(passage);
    }
    Ok((passing, intervened))
}
