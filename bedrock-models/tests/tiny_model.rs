//! The model that comes with the crate: it has learnt something, and everything can be done with it.

use std::path::{Path, PathBuf};

use bedrock_core::{ChatModel, ConverseRequest, StopReason};
use bedrock_models::{LanguageModel, LoadOptions, LocalChatModel};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/tiny")
}

fn options() -> LoadOptions {
    LoadOptions { threads: 2, ..LoadOptions::default() }
}

/// From The Tempest, which was not learnt.
const HELD_OUT: &str = "PROSPERO:\nOur revels now are ended. These our actors,\nAs I foretold you, were all spirits and\n\
    Are melted into air, into thin air:\nAnd, like the baseless fabric of this vision,\nThe cloud-capp'd towers, the gorgeous palaces,\n\
    The solemn temples, the great globe itself,\nYea, all which it inherit, shall dissolve.<|end|>";

#[test]
fn it_knows_shakespeare_better_than_letters() {
    let model = LanguageModel::load(folder(), &options()).unwrap();
    let loss = |text: &str| {
        let tokens = model.tokenizer().unwrap().encode(text, false).unwrap();
        // By byte, so that texts of other tokens compare.
        let found = model.perplexity(&tokens, 256, 256).unwrap();
        found.loss * found.tokens as f64 / text.len() as f64
    };
    let backwards: String = HELD_OUT.trim_end_matches("<|end|>").chars().rev().collect();
    assert!(loss(HELD_OUT) < 1.7, "{}", loss(HELD_OUT));
    assert!(loss(&backwards) > 1.5 * loss(HELD_OUT), "{} {}", loss(&backwards), loss(HELD_OUT));
}

#[test]
fn it_answers_and_ends() {
    let model = LocalChatModel::load(folder(), &options()).unwrap();
    let questions = ["Where is my sword?", "What say you of the king?", "Good morrow, cousin.", "Speak, sir."];
    let answers = questions.map(|text| {
        let mut request = ConverseRequest::new("tiny").user(text).max_tokens(200);
        request.additional_model_request_fields = Some(serde_json::json!({ "seed": 7 }));
        let answer = model.converse_blocking(&request).unwrap();
        assert!(!answer.text().trim().is_empty(), "{text}");
        assert_eq!(answer.text(), model.converse_blocking(&request).unwrap().text());
        answer
    });
    let ended = answers.iter().filter(|answer| answer.stop_reason == StopReason::EndTurn).count();
    assert!(ended >= 3, "{ended} of {}", answers.len());
    assert!(answers.windows(2).all(|pair| pair[0].text() != pair[1].text()));
}
