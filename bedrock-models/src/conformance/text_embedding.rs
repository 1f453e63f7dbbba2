//! Cases of kind `text_embedding`: an encoder whose token vectors are pooled to one vector a text.

use bedrock_core::{EmbedPurpose, EmbedRequest, EmbeddingModel};
use serde::Deserialize;

use super::case::{Case, TensorRef};
use super::findings::{Findings, Stop, Tolerance};
use crate::embed::{Embedder, Pooling};
use crate::options::LoadOptions;

#[derive(Deserialize)]
struct Expected {
    pooling: String,
    normalize: bool,
    max_seq_length: Option<usize>,
    #[serde(default)]
    text_prefix: String,
    texts: Vec<Text>,
    mean_pooled: Option<TensorRef>,
    cls_pooled: Option<TensorRef>,
    embeddings: TensorRef,
    cosine: Option<TensorRef>,
    pooler_output: Option<TensorRef>,
    #[serde(default)]
    tolerance: Tolerances,
}

#[derive(Deserialize)]
#[serde(default)]
struct Tolerances {
    hidden_rel_to_max_abs: f64,
    pooled_abs: f64,
}

impl Default for Tolerances {
    fn default() -> Self {
        Self { hidden_rel_to_max_abs: 1e-4, pooled_abs: 1e-4 }
    }
}

#[derive(Deserialize)]
struct Text {
    text: String,
    input_ids: Vec<u32>,
    token_type_ids: Option<Vec<u32>>,
    last_hidden_state: TensorRef,
}

pub(super) fn check(case: &Case, options: &LoadOptions, findings: &mut Findings) -> Result<(), Stop> {
    let embedder = Embedder::load(&case.folder, options)?;
    let expected: Expected = case.expected()?;
    let pooled = Tolerance::Absolute(expected.tolerance.pooled_abs);
    let hidden = Tolerance::Relative(expected.tolerance.hidden_rel_to_max_abs);

    let pooling = match embedder.pooling() {
        Pooling::Mean => "mean",
        Pooling::Cls => "cls",
        Pooling::Max => "max",
        Pooling::MeanSqrtLen => "mean_sqrt_len",
        Pooling::LastToken => "lasttoken",
    };
    findings.same("pooling", pooling, expected.pooling.as_str());
    findings.same("whether vectors are normalised", &embedder.normalizes(), &expected.normalize);
    if let Some(max) = expected.max_seq_length {
        findings.same("the most tokens of a text", &embedder.max_tokens(), &max);
    }

    let (purpose, prefix) = prompt(&embedder, &expected)?;
    let texts: Vec<String> = expected.texts.iter().map(|text| format!("{prefix}{}", text.text)).collect();
    let (mut means, mut firsts) = (Vec::new(), Vec::new());
    for (index, (text, want)) in texts.iter().zip(&expected.texts).enumerate() {
        let encoding = embedder.encode(text, purpose)?;
        findings.same(format!("ids of text {index}"), &encoding.ids, &want.input_ids);
        if let Some(type_ids) = &want.token_type_ids {
            findings.same(format!("segments of text {index}"), &encoding.type_ids, type_ids);
        }
        let rows = embedder.hidden_state(text, purpose)?;
        findings.close_rows(
            format!("last hidden state of text {index}"),
            &rows,
            &case.rows(&want.last_hidden_state)?,
            hidden,
        );
        firsts.push(rows.first().cloned().unwrap_or_default());
        means.push(mean(&rows));
    }
    if let Some(want) = &expected.mean_pooled {
        findings.close_rows("means", &means, &case.rows(want)?, pooled);
    }
    if let Some(want) = &expected.cls_pooled {
        findings.close_rows("first tokens", &firsts, &case.rows(want)?, pooled);
    }

    let mut request = EmbedRequest::new(purpose, texts.clone());
    request.truncate = true;
    let embeddings = embedder.embed_blocking(&request)?.embeddings;
    findings.close_rows("embeddings", &embeddings, &case.rows(&expected.embeddings)?, pooled);
    for (index, text) in texts.iter().enumerate() {
        let mut request = EmbedRequest::new(purpose, [text.clone()]);
        request.truncate = true;
        let alone = embedder.embed_blocking(&request)?.embeddings.concat();
        let together = embeddings.get(index).map_or(&[][..], Vec::as_slice);
        findings.close(format!("embedding of text {index} alone"), &alone, together, Tolerance::Relative(1e-5));
    }
    if let Some(want) = &expected.cosine {
        let all = |a: &Vec<f32>| embeddings.iter().map(|b| cosine(a, b) as f32).collect::<Vec<_>>();
        let cosines: Vec<Vec<f32>> = embeddings.iter().map(all).collect();
        findings.close_rows("cosines", &cosines, &case.rows(want)?, pooled);
    }
    if let Some(want) = &expected.pooler_output {
        match embedder.pooler_output(&texts, purpose)? {
            Some(got) => findings.close_rows("outputs of the pooler", &got, &case.rows(want)?, pooled),
            None => findings.differs("the model has no pooler".into()),
        }
    }
    Ok(())
}

/// How the case's prefix comes before a text: as a prompt that the folder's own files name, which is tried first, or
/// written into the text.
fn prompt<'e>(embedder: &Embedder, expected: &'e Expected) -> Result<(EmbedPurpose, &'e str), Stop> {
    let plain = (EmbedPurpose::Other, expected.text_prefix.as_str());
    let Some(text) = expected.texts.first().filter(|_| !expected.text_prefix.is_empty()) else { return Ok(plain) };
    for purpose in [EmbedPurpose::Query, EmbedPurpose::Document, EmbedPurpose::Other] {
        if embedder.encode(&text.text, purpose)?.ids == text.input_ids {
            return Ok((purpose, ""));
        }
    }
    Ok(plain)
}

fn mean(rows: &[Vec<f32>]) -> Vec<f32> {
    let width = rows.first().map_or(0, Vec::len);
    let column = |index: usize| rows.iter().map(|row| f64::from(row[index])).sum::<f64>() / rows.len() as f64;
    (0..width).map(|index| column(index) as f32).collect()
}

pub(super) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
