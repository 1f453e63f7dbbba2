//! A guarded retriever.

use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bedrock_core::{
    BoxFuture, Error, GuardrailContentSource, GuardrailImageFormat, ImageSource, KnowledgeBaseGuardrailAction,
    KnowledgeBaseQuery, KnowledgeBaseRetrievalResult, RetrievalResultContent, RetrieveRequest, RetrieveResponse,
    Retriever,
};
use serde_json::Value;

use crate::picture::Picture;

use super::judge::Judge;
use super::{Guarded, OnFailure};

/// What attributes begin with that say where a passage lies: its address, its page, its number.
const PLACE: &str = "x-amz-bedrock-kb-";

impl<R: Retriever> Retriever for Guarded<R> {
    fn retrieve<'a>(&'a self, request: &'a RetrieveRequest) -> BoxFuture<'a, Result<RetrieveResponse, Error>> {
        Box::pin(async move {
            let config = request.guardrail_configuration.clone().unwrap_or_default();
            self.guardrail.answers_to(Some(&config.guardrail_id), Some(&config.guardrail_version))?;
            request.validate()?;
            let mut request = RetrieveRequest { guardrail_configuration: None, ..request.clone() };

            let started = Instant::now();
            let mut judge = self.reader();
            query(&mut judge, &mut request.retrieval_query).await?;
            judge.record(&self.guardrail, started);
            let mut intervened = judge.blocked() || judge.masked();
            if judge.blocked() {
                let guardrail_action = Some(KnowledgeBaseGuardrailAction::Intervened);
                return Ok(RetrieveResponse { guardrail_action, ..RetrieveResponse::default() });
            }

            let mut response = self.model.retrieve(&request).await?;
            let started = Instant::now();
            let mut all = self.reader();
            all.third_party = true;
            let mut kept = Vec::with_capacity(response.retrieval_results.len());
            for mut result in response.retrieval_results {
                let before = all.findings.len();
                let readable = passage(&mut all, &mut result).await?;
                if readable && !all.blocked_since(before) {
                    kept.push(result);
                } else {
                    intervened = true;
                }
            }
            all.record(&self.guardrail, started);
            intervened |= all.masked();
            response.retrieval_results = kept;
            if intervened || response.guardrail_action.is_none() {
                response.guardrail_action = Some(if intervened {
                    KnowledgeBaseGuardrailAction::Intervened
                } else {
                    KnowledgeBaseGuardrailAction::None
                });
            }
            Ok(response)
        })
    }
}

impl<R> Guarded<R> {
    /// Judges what goes to a model, as passages do in the end.
    fn reader(&self) -> Judge<'_> {
        Judge::new(self.guardrail.side(&GuardrailContentSource::Input), self.on_failure == OnFailure::Open)
    }
}

async fn query(judge: &mut Judge<'_>, query: &mut KnowledgeBaseQuery) -> Result<(), Error> {
    if let Some(text) = &mut query.text {
        judge.text(text).await?;
    }
    if let Some(image) = &query.image {
        let source = ImageSource::Bytes(image.inline_content.clone());
        let why = judge.picture(Picture::of(&image.format, &source)).await?;
        judge.unread(|| "retrievalQuery.image".to_owned(), "a picture", why)?;
    }
    Ok(())
}

/// Judges a passage and puts the masks in. Whether all of it could be judged, or what can't be passes.
///
/// # Errors
/// Those of the models that are asked.
async fn passage(judge: &mut Judge<'_>, result: &mut KnowledgeBaseRetrievalResult) -> Result<bool, Error> {
    let RetrievalResultContent { text, byte_content, row, audio, video, .. } = &mut result.content;
    let spoken = audio.as_mut().and_then(|audio| audio.transcription.as_mut());
    let seen = video.as_mut().and_then(|video| video.summary.as_mut());
    for text in [text.as_mut(), spoken, seen].into_iter().flatten() {
        judge.text(text).await?;
    }
    for column in row {
        if let Some(value) = &mut column.column_value {
            judge.named(column.column_name.as_deref().unwrap_or_default(), value).await?;
        }
        if let Some(name) = &mut column.column_name {
            judge.text(name).await?;
        }
    }
    let mut readable = true;
    if let Some(uri) = byte_content {
        let bytes = picture_bytes(uri);
        let picture = match &bytes {
            Some((format, bytes)) => Picture::new(format, bytes),
            None => Err("is no data URI in base64".to_owned()),
        };
        let why = judge.picture(picture).await?;
        readable = why.is_ok() || judge.lenient;
    }
    let (places, attributes) =
        std::mem::take(&mut result.metadata).into_iter().partition(|(key, _)| key.starts_with(PLACE));
    result.metadata = places;
    if !attributes.is_empty() {
        let mut attributes = Value::Object(attributes.into_iter().collect());
        judge.json(&mut attributes).await?;
        if let Value::Object(attributes) = attributes {
            result.metadata.extend(attributes);
        }
    }
    Ok(readable)
}

/// The picture of `data:image/png;base64,…`.
fn picture_bytes(uri: &str) -> Option<(GuardrailImageFormat, Vec<u8>)> {
    let (kind, data) = uri.strip_prefix("data:image/")?.split_once(";base64,")?;
    let format = GuardrailImageFormat::from(if kind == "jpg" { "jpeg" } else { kind });
    Some((format, STANDARD.decode(data).ok()?))
}
