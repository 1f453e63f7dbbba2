//! Cases of kind `seq2seq_lm`: an encoder reads the prompt, a decoder writes the answer.

use std::sync::Arc;

use serde::Deserialize;

use super::case::{Case, TensorRef, largest};
use super::causal_lm::{collect, start};
use super::findings::{Findings, Stop, Tolerance};
use crate::engine::{Engine, Generation};
use crate::language_model::LanguageModel;
use crate::options::{DeviceKind, LoadOptions};
use crate::tokenizer::EncodeOptions;

#[derive(Deserialize)]
struct Expected {
    encode: Option<Encode>,
    decode: Option<Decode>,
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
struct Encode {
    text: Option<String>,
    input_ids: Vec<u32>,
    last_hidden_state: TensorRef,
}

/// `decoder_input_ids` begin with the start token.
#[derive(Deserialize)]
struct Decode {
    input_ids: Vec<u32>,
    decoder_input_ids: Vec<u32>,
    logits: TensorRef,
}

#[derive(Deserialize)]
struct Greedy {
    input_ids: Vec<u32>,
    text_in: Option<String>,
    max_new_tokens: usize,
    tokens: Vec<u32>,
    text: Option<String>,
}

#[derive(Deserialize)]
struct EosStop {
    input_ids: Vec<u32>,
    eos_token_ids: Vec<u32>,
    max_new_tokens: usize,
    tokens: Vec<u32>,
}

#[derive(Deserialize)]
struct Batch {
    input_ids: Vec<Vec<u32>>,
    decoder_input_ids: Vec<u32>,
    last_logits: TensorRef,
}

#[derive(Deserialize)]
struct LogProb {
    input_ids: Vec<u32>,
    target_ids: Vec<u32>,
    token_logprobs: Vec<f32>,
    sum: f32,
}

pub(super) fn check(case: &Case, options: &LoadOptions, findings: &mut Findings) -> Result<(), Stop> {
    let model = Arc::new(LanguageModel::load(&case.folder, options)?);
    let expected: Expected = case.expected()?;
    let engine = Engine::start(model.clone(), &options.engine)?;
    let logits = Tolerance::Relative(expected.tolerance.logits_rel_to_max_abs);
    let log_prob = Tolerance::Absolute(expected.tolerance.logprob_abs);

    if let Some(want) = &expected.encode {
        if let Some(text) = &want.text {
            // Cut to the length of the case, with the end token kept.
            let options = EncodeOptions { max_tokens: Some(want.input_ids.len()), ..EncodeOptions::default() };
            let got = model.tokenizer()?.encode_with(text, None, &options)?;
            findings.same("ids of the text", &got.ids, &want.input_ids);
        }
        match model.encoder_state(&want.input_ids)? {
            Some(got) => {
                findings.close_rows("what the encoder makes of it", &got, &case.rows(&want.last_hidden_state)?, logits);
            }
            None => findings.differs("the model has no encoder".into()),
        }
    }
    if let Some(want) = &expected.decode {
        let answer = after_start(&want.decoder_input_ids);
        let rows = case.rows(&want.logits)?;
        findings.close_rows("logits", &model.answer_logits(&want.input_ids, answer)?, &rows, logits);
        let all = [want.input_ids.as_slice(), answer].concat();
        findings.close_rows("logits, cached,", &model.decode_logits(&all, want.input_ids.len())?, &rows, logits);
    }

    for (index, greedy) in expected.greedy.iter().enumerate() {
        let (prompt, what) = (&greedy.input_ids, format!("answer {index}"));
        if let Some(text) = &greedy.text_in {
            findings.same(format!("ids of prompt {index}"), &model.tokenizer()?.encode(text, true)?, prompt);
        }
        let answer = &greedy.tokens[..greedy.tokens.len().saturating_sub(1)];
        let choices: Vec<u32> = model.answer_logits(prompt, answer)?.iter().map(|row| largest(row)).collect();
        findings.same(format!("{what}, at once"), &choices, &greedy.tokens);
        let (tokens, text) = collect(start(&engine, prompt, greedy.max_new_tokens)?, &[])?;
        findings.same(format!("{what} by the engine"), &tokens, &greedy.tokens);
        if let Some(want) = &greedy.text {
            findings.same(format!("text of {what}"), &model.tokenizer()?.decode(&tokens, true)?, want);
            findings.same(format!("streamed text of {what}"), &text, want);
        }
    }
    if let Some(stop) = &expected.eos_stop {
        let generation = start(&engine, &stop.input_ids, stop.max_new_tokens)?;
        findings.same("answer to the end of text", &collect(generation, &stop.eos_token_ids)?.0, &stop.tokens);
    }

    if let Some(batch) = &expected.batch {
        let answer = after_start(&batch.decoder_input_ids);
        let rows: Vec<(&[u32], &[u32])> = batch.input_ids.iter().map(|ids| (ids.as_slice(), answer)).collect();
        let last = |rows: Vec<Vec<f32>>| rows.into_iter().next_back().unwrap_or_default();
        let got: Vec<Vec<f32>> = model.answers_logits(&rows)?.into_iter().map(last).collect();
        findings.close_rows("last logits of the batch", &got, &case.rows(&batch.last_logits)?, logits);
        for (row, (ids, together)) in batch.input_ids.iter().zip(&got).enumerate() {
            let alone = last(model.answer_logits(ids, answer)?);
            // The kernels of this crate promise the same bits; other devices choose their kernels by the shape.
            let allowed = if options.device == DeviceKind::Cpu { Tolerance::Absolute(0.0) } else { logits };
            findings.close(format!("row {row} of the batch, computed alone,"), &alone, together, allowed);
        }
        // Both at once by the engine, as long as there are answers to compare with.
        let known = |ids: &Vec<u32>| expected.greedy.iter().find(|greedy| greedy.input_ids == *ids);
        let known: Vec<&Greedy> = batch.input_ids.iter().filter_map(known).collect();
        let generations = known.iter().map(|greedy| start(&engine, &greedy.input_ids, greedy.max_new_tokens));
        let generations: Vec<Generation> = generations.collect::<Result<_, _>>()?;
        for (generation, greedy) in generations.into_iter().zip(known) {
            findings.same("answer in company", &collect(generation, &[])?.0, &greedy.tokens);
        }
    }

    for (index, want) in expected.logprob.iter().enumerate() {
        let got = model.score(&want.input_ids, &want.target_ids, 1)?;
        let values: Vec<f32> = got.iter().map(|token| token.log_prob).collect();
        findings.close(format!("log-probabilities {index}"), &values, &want.token_logprobs, log_prob);
        findings.close(format!("sum of log-probabilities {index}"), &[values.iter().sum()], &[want.sum], log_prob);
    }
    Ok(())
}

/// The decoder begins with its start token by itself.
fn after_start(ids: &[u32]) -> &[u32] {
    ids.get(1..).unwrap_or_default()
}
