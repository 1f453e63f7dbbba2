//! Cases of kind `causal_lm`: a decoder-only language model.

use std::sync::Arc;

use serde::Deserialize;

use super::case::{Case, TensorRef, largest};
use super::findings::{Findings, Stop, Tolerance};
use crate::engine::{Engine, Generation, GenerationEvent, GenerationRequest};
use crate::error::Error;
use crate::generate::SamplingParams;
use crate::language_model::LanguageModel;
use crate::options::{DeviceKind, LoadOptions};

#[derive(Deserialize)]
struct Expected {
    prompts: Vec<Prompt>,
    #[serde(default)]
    greedy: Vec<Greedy>,
    eos_stop: Option<EosStop>,
    batch: Option<Batch>,
    #[serde(default)]
    logprob: Vec<LogProb>,
    #[serde(default)]
    tolerance: Tolerances,
}

#[derive(Deserialize)]
#[serde(default)]
struct Tolerances {
    logits_rel_to_max_abs: f64,
    logprob_abs: f64,
}

impl Default for Tolerances {
    fn default() -> Self {
        Self { logits_rel_to_max_abs: 1e-4, logprob_abs: 1e-3 }
    }
}

#[derive(Deserialize)]
struct Prompt {
    name: String,
    text: Option<String>,
    truncated_to: Option<usize>,
    input_ids: Vec<u32>,
    logits: TensorRef,
}

#[derive(Deserialize)]
struct Greedy {
    prompt: usize,
    max_new_tokens: usize,
    tokens: Vec<u32>,
    text: Option<String>,
}

#[derive(Deserialize)]
struct EosStop {
    prompt: usize,
    eos_token_ids: Vec<u32>,
    max_new_tokens: usize,
    tokens: Vec<u32>,
}

#[derive(Deserialize)]
struct Batch {
    input_ids: Vec<Vec<u32>>,
    last_logits: TensorRef,
    max_new_tokens: usize,
    greedy: Vec<Vec<u32>>,
}

#[derive(Deserialize)]
struct LogProb {
    context: Vec<u32>,
    continuation: Vec<u32>,
    token_logprobs: Vec<f32>,
    sum: f32,
    is_greedy: bool,
}

pub(super) fn check(case: &Case, options: &LoadOptions, findings: &mut Findings) -> Result<(), Stop> {
    let model = Arc::new(LanguageModel::load(&case.folder, options)?);
    let expected: Expected = case.expected()?;
    let engine = Engine::start(model.clone(), &options.engine)?;
    let logits = Tolerance::Relative(expected.tolerance.logits_rel_to_max_abs);
    let log_prob = Tolerance::Absolute(expected.tolerance.logprob_abs);

    for prompt in &expected.prompts {
        if let Some(text) = &prompt.text {
            let mut ids = model.tokenizer()?.encode(text, true)?;
            ids.truncate(prompt.truncated_to.unwrap_or(usize::MAX));
            findings.same(format!("ids of prompt {}", prompt.name), &ids, &prompt.input_ids);
        }
        let want = case.rows(&prompt.logits)?;
        let got = model.logits(&prompt.input_ids)?;
        findings.close_rows(format!("logits of prompt {}", prompt.name), &got, &want, logits);
    }

    let prompt = |index: usize| {
        let prompt = expected.prompts.get(index).map(|prompt| &prompt.input_ids);
        prompt.ok_or_else(|| {
            Stop::Failed(format!("expected.json refers to prompt {index}, which it does not have").into())
        })
    };
    for greedy in &expected.greedy {
        let prompt = prompt(greedy.prompt)?;
        let what = format!("continuation of prompt {}", greedy.prompt);
        check_greedy(&model, prompt, &greedy.tokens, &what, findings)?;
        let (tokens, text) = collect(start(&engine, prompt, greedy.max_new_tokens)?, &[])?;
        findings.same(format!("{what} by the engine"), &tokens, &greedy.tokens);
        if let Some(want) = &greedy.text {
            findings.same(format!("text of the {what}"), &model.tokenizer()?.decode(&tokens, true)?, want);
            findings.same(format!("streamed text of the {what}"), &text, want);
        }
    }

    if let Some(stop) = &expected.eos_stop {
        let generation = start(&engine, prompt(stop.prompt)?, stop.max_new_tokens)?;
        findings.same("continuation to the end of text", &collect(generation, &stop.eos_token_ids)?.0, &stop.tokens);
    }

    if let Some(batch) = &expected.batch {
        let got = model.last_logits(&batch.input_ids)?;
        findings.close_rows("last logits of the batch", &got, &case.rows(&batch.last_logits)?, logits);
        for (row, (ids, together)) in batch.input_ids.iter().zip(&got).enumerate() {
            let alone = model.last_logits(std::slice::from_ref(ids))?.concat();
            let what = format!("row {row} of the batch, computed alone,");
            // The kernels of this crate promise the same bits; other devices choose their kernels by the shape.
            let allowed = if options.device == DeviceKind::Cpu { Tolerance::Absolute(0.0) } else { logits };
            findings.close(what, &alone, together, allowed);
        }
        let generations = batch.input_ids.iter().map(|ids| start(&engine, ids, batch.max_new_tokens));
        let generations: Vec<Generation> = generations.collect::<Result<_, _>>()?;
        let got = generations.into_iter().map(|generation| Ok(collect(generation, &[])?.0));
        findings.same("continuations of the batch", &got.collect::<Result<Vec<_>, Stop>>()?, &batch.greedy);
    }

    for (index, want) in expected.logprob.iter().enumerate() {
        let got = model.score(&want.context, &want.continuation, 1)?;
        let values: Vec<f32> = got.iter().map(|token| token.log_prob).collect();
        findings.close(format!("log-probabilities {index}"), &values, &want.token_logprobs, log_prob);
        findings.close(format!("sum of log-probabilities {index}"), &[values.iter().sum()], &[want.sum], log_prob);
        let is_greedy = got.iter().all(|token| token.top.first().is_some_and(|(id, _)| *id == token.id));
        findings.same(format!("whether continuation {index} is the likeliest"), &is_greedy, &want.is_greedy);
    }
    Ok(())
}

/// Compares a greedy continuation, token by token given the right tokens before it: computed at once, and with cached
/// keys and values.
pub(super) fn check_greedy(
    model: &LanguageModel,
    prompt: &[u32],
    tokens: &[u32],
    what: &str,
    findings: &mut Findings,
) -> Result<(), Stop> {
    if prompt.is_empty() {
        return Err(Error::NoTokens.into());
    }
    let all = [prompt, &tokens[..tokens.len().saturating_sub(1)]].concat();
    let choices = |rows: &[Vec<f32>]| rows.iter().map(|row| largest(row)).collect::<Vec<_>>();
    let at_once = model.logits(&all)?;
    findings.same(format!("{what}, uncached"), choices(&at_once[prompt.len() - 1..]).as_slice(), tokens);
    let cached = model.decode_logits(&all, prompt.len())?;
    findings.same(format!("{what}, cached"), choices(&cached).as_slice(), tokens);
    Ok(())
}

pub(super) fn start(engine: &Engine, prompt: &[u32], max_tokens: usize) -> Result<Generation, Error> {
    engine.generate(GenerationRequest {
        prompt: prompt.to_vec(),
        sampling: SamplingParams::greedy(),
        max_tokens: Some(max_tokens),
        ignore_end: true,
        ..GenerationRequest::default()
    })
}

/// Tokens and text of a generation, up to the first of `ends`.
pub(super) fn collect(generation: Generation, ends: &[u32]) -> Result<(Vec<u32>, String), Stop> {
    let (mut tokens, mut whole) = (Vec::new(), String::new());
    for event in generation {
        match event? {
            GenerationEvent::Token { id, text, .. } => {
                tokens.push(id);
                whole.push_str(&text);
                if ends.contains(&id) {
                    break;
                }
            }
            GenerationEvent::Finished { text, .. } => whole.push_str(&text),
        }
    }
    Ok((tokens, whole))
}
