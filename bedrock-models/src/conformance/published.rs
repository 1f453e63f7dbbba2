//! Published models against what other software computes from the same files.

use std::path::Path;

use bedrock_core::{EmbedPurpose, EmbedRequest, EmbeddingModel};
use serde::Deserialize;

use super::case::largest;
use super::findings::{Findings, Stop};
use super::text_embedding::cosine;
use super::{Outcome, outcome};
use crate::embed::Embedder;
use crate::language_model::{LanguageModel, name_of, read_json};
use crate::options::LoadOptions;

/// Part of the tokens that must be the same: 60 of 64.
const SAME_CHOICES: f64 = 60.0 / 64.0;
/// What the ten largest logits may differ, relative to the range of all logits.
const LOGITS: f64 = 0.03;
/// The largest `1 - cosine` of two embeddings of one text.
const ANGLE: f64 = 1e-5;

#[derive(Deserialize)]
struct LlamaCpp {
    cases: Vec<Continuation>,
    top10: Top,
}

#[derive(Deserialize)]
struct Continuation {
    name: String,
    text: String,
    prompt_ids: Vec<u32>,
    greedy: Vec<u32>,
}

#[derive(Deserialize)]
struct Top {
    text: String,
    prompt_ids: Vec<u32>,
    logits: Vec<(u32, f32)>,
}

/// Compares a language model with llama.cpp's reading of the same file, which `expected` records: `cases` with a prompt
/// and its greedy continuation, `top10` with the largest logits after another prompt.
///
/// llama.cpp multiplies with activations of 8 bits and so does this crate while decoding, each rounding in its own way.
/// So the law is: along llama.cpp's own tokens the same next token in 60 of 64 places, and its largest logits within 3%
/// of the range from the smallest to the largest of them all. [`Outcome::worst`] is the latter.
pub fn check_llama_cpp(expected: &Path, model: &Path, options: &LoadOptions) -> Outcome {
    outcome(name_of(expected), |findings| llama_cpp(expected, model, options, findings))
}

fn llama_cpp(expected: &Path, model: &Path, options: &LoadOptions, findings: &mut Findings) -> Result<(), Stop> {
    let expected: LlamaCpp = read_json(expected)?;
    let model = LanguageModel::load(model, options)?;
    for Continuation { name, text, prompt_ids, greedy } in &expected.cases {
        findings.same(format!("ids of prompt {name}"), &model.tokenizer()?.encode(text, true)?, prompt_ids);
        let all = [prompt_ids.as_slice(), &greedy[..greedy.len().saturating_sub(1)]].concat();
        let rows = model.decode_logits(&all, prompt_ids.len())?;
        let same = rows.iter().zip(greedy).filter(|(row, token)| largest(row) == **token).count();
        findings.same(format!("number of tokens after prompt {name}"), &rows.len(), &greedy.len());
        if (same as f64) < SAME_CHOICES * greedy.len() as f64 {
            findings.differs(format!("{same} of {} tokens after prompt {name} are the same", greedy.len()));
        }
    }
    let Top { text, prompt_ids, logits } = &expected.top10;
    findings.same("ids of the prompt with logits", &model.tokenizer()?.encode(text, true)?, prompt_ids);
    let row = model.decode_logits(prompt_ids, 1)?.pop().unwrap_or_default();
    let (least, most) = row.iter().fold((f32::MAX, f32::MIN), |(least, most), x| (least.min(*x), most.max(*x)));
    for (id, want) in logits {
        let got = row.get(*id as usize).copied().unwrap_or(f32::NAN);
        findings.measured(
            format!("error of the logit of token {id}"),
            f64::from((got - want).abs() / (most - least)),
            LOGITS,
        );
    }
    Ok(())
}

#[derive(Deserialize)]
struct SentenceTransformers {
    sentences: Vec<String>,
    embeddings: Vec<Vec<f32>>,
}

/// Compares an embedding model with what transformers computes from the same files, which `expected` records:
/// `sentences` and their `embeddings`.
///
/// The law: every cosine is at least 0.99999, in one batch and alone. [`Outcome::worst`] is the largest `1 - cosine`.
pub fn check_sentence_transformers(expected: &Path, model: &Path, options: &LoadOptions) -> Outcome {
    outcome(name_of(expected), |findings| {
        let expected: SentenceTransformers = read_json(expected)?;
        let model = Embedder::load(model, options)?;
        let embed = |texts: &[String]| {
            let mut request = EmbedRequest::new(EmbedPurpose::Other, texts.iter().cloned());
            request.truncate = true;
            model.embed_blocking(&request).map(|response| response.embeddings)
        };
        let together = embed(&expected.sentences)?;
        findings.same("number of embeddings", &together.len(), &expected.embeddings.len());
        for ((sentence, got), want) in expected.sentences.iter().zip(&together).zip(&expected.embeddings) {
            findings.same("dimensions", &got.len(), &want.len());
            let angle = |a: &[f32], b: &[f32]| (1.0 - cosine(a, b)).max(0.0);
            findings.measured(format!("1 - cosine of {sentence:?}"), angle(got, want), ANGLE);
            let alone = embed(std::slice::from_ref(sentence))?.concat();
            findings.measured(format!("1 - cosine of {sentence:?} alone"), angle(&alone, want), ANGLE);
        }
        Ok(())
    })
}
