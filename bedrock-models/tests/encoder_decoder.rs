//! T5 behind the interfaces of language models: it answers prompts, and says what it cannot do.

use std::path::{Path, PathBuf};

use bedrock_core::{ChatModel, ConverseRequest, StopReason};
use bedrock_models::{EngineOptions, Error, LanguageModel, LoadOptions, LocalChatModel};

const PROMPT: &str = "The bees said nothing, as usual.";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/conformance/t5_v11")
}

fn options(engine: EngineOptions) -> LoadOptions {
    LoadOptions { threads: 2, engine, ..LoadOptions::default() }
}

#[test]
fn a_prompt_is_answered_whatever_the_chunks() {
    let expected = std::fs::read_to_string(folder().join("expected.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&expected).unwrap();
    let greedy = expected["greedy"].as_array().unwrap().iter().find(|greedy| greedy["text_in"] == PROMPT).unwrap();
    let tokens: Vec<u32> = serde_json::from_value(greedy["tokens"].clone()).unwrap();
    for prefill_chunk in [1, 512] {
        let model =
            LocalChatModel::load(folder(), &options(EngineOptions { prefill_chunk, ..EngineOptions::default() }))
                .unwrap();
        let want = model.model().tokenizer().unwrap().decode(&tokens, true).unwrap();
        let request = ConverseRequest::new("t5").user(PROMPT).max_tokens(tokens.len() as u32);
        let answer = model.converse_blocking(&request).unwrap();
        assert_eq!(answer.text(), want, "chunks of {prefill_chunk}");
        assert_eq!(answer.stop_reason, StopReason::MaxTokens);
    }
}

#[test]
fn a_prompt_has_no_logits_but_its_answer_has() {
    let model = LanguageModel::load(folder(), &options(EngineOptions::default())).unwrap();
    assert!(model.has_encoder());
    assert!(matches!(model.logits(&[5, 6, 7]), Err(Error::PromptWithoutLogits { .. })));
    let (prompt, answer) = ([5, 6, 7], [8, 9, 10, 11]);
    let at_once = model.answer_logits(&prompt, &answer).unwrap();
    assert_eq!(at_once.len(), answer.len() + 1);
    // One token at a time gives the same numbers, and what comes later changes nothing.
    let cached = model.decode_logits(&[5, 6, 7, 8, 9, 10, 11], prompt.len()).unwrap();
    let first = model.answer_logits(&prompt, &answer[..2]).unwrap();
    assert_eq!(first[..], at_once[..3]);
    for (a, b) in at_once.concat().iter().zip(cached.concat()) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
}

#[test]
fn more_than_fits_is_refused() {
    let options = LoadOptions { max_tokens: Some(4), ..options(EngineOptions::default()) };
    let model = LanguageModel::load(folder(), &options).unwrap();
    assert!(matches!(model.answer_logits(&[1, 2, 3], &[4, 5]), Err(Error::TooManyTokens { .. })));
    assert!(matches!(model.answer_logits(&[], &[4]), Err(Error::NoTokens)));
    assert!(matches!(model.answer_logits(&[1], &[1 << 20]), Err(Error::TokenOutOfRange { .. })));
}
