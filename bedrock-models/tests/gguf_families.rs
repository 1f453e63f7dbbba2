//! GGUF files that llama.cpp's converter made of the checkpoints of the parity tests give what those give: see
//! `fixtures/gguf_families/SOURCE.md`.

use std::path::{Path, PathBuf};

use bedrock_models::kernels::Activations;
use bedrock_models::{LanguageModel, LoadOptions};
use serde_json::{Value, json};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn load(path: &Path) -> LanguageModel {
    let options = LoadOptions { threads: 2, activations: Activations::Float, ..LoadOptions::default() };
    LanguageModel::load(path, &options).unwrap()
}

/// The folder of a case, with `changes` in its configuration: GGUF has no key for everything.
fn folder(case: &str, changes: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let case = fixtures().join("conformance").join(case);
    std::fs::copy(case.join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    let mut config: Value = serde_json::from_slice(&std::fs::read(case.join("config.json")).unwrap()).unwrap();
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    std::fs::write(folder.path().join("config.json"), serde_json::to_vec(&config).unwrap()).unwrap();
    folder
}

fn check(case: &str, architecture: &str, changes: Value) {
    let original = load(folder(case, &changes).path());
    let converted = load(&fixtures().join("gguf_families").join(format!("{case}.gguf")));
    assert_eq!(converted.architecture(), architecture);
    assert_eq!(
        (converted.vocab_size(), converted.max_tokens()),
        (original.vocab_size(), original.max_tokens()),
        "{case}"
    );
    let tokens: Vec<u32> = (0..45).map(|i| (i * 7919 + 3) % 300).collect();
    for (want, got) in [
        (original.logits(&tokens).unwrap(), converted.logits(&tokens).unwrap()),
        (original.decode_logits(&tokens, 7).unwrap(), converted.decode_logits(&tokens, 7).unwrap()),
    ] {
        let largest = want.iter().flatten().fold(0f32, |a, b| a.max(b.abs()));
        for (want, got) in want.iter().flatten().zip(got.iter().flatten()) {
            assert!((want - got).abs() <= 1e-5 * largest, "{case}: {got} for {want}");
        }
    }
}

#[test]
fn qwen() {
    check("qwen2", "qwen2", json!({}));
    check("qwen3", "qwen3", json!({}));
}

#[test]
fn gemma() {
    check("gemma2", "gemma2", json!({ "query_pre_attn_scalar": 12, "rope_theta": 10000.0 }));
    check("gemma3_text", "gemma3", json!({ "query_pre_attn_scalar": 16 }));
}

#[test]
fn phi3() {
    check("phi3", "phi3", json!({}));
    check("phi3_longrope", "phi3", json!({}));
}

#[test]
fn command_r() {
    check("cohere", "command-r", json!({}));
}

#[test]
fn gpt2() {
    check("gpt2", "gpt2", json!({}));
}

#[test]
fn mixtral_calls_itself_llama() {
    check("mixtral", "llama", json!({}));
}

#[test]
fn t5() {
    for case in ["t5_original", "t5_v11"] {
        let original = load(folder(case, &json!({ "relative_attention_max_distance": 128 })).path());
        let converted = load(&fixtures().join("gguf_families").join(format!("{case}.gguf")));
        assert_eq!((converted.architecture(), converted.vocab_size()), ("t5", original.vocab_size()), "{case}");
        let prompt: Vec<u32> = (0..45).map(|i| (i * 7919 + 3) % 200).collect();
        let [want, got] = [&original, &converted].map(|model| {
            [model.answer_logits(&prompt, &[5, 17, 3]).unwrap(), model.encoder_state(&prompt).unwrap().unwrap()]
                .concat()
        });
        let largest = want.iter().flatten().fold(0f32, |a, b| a.max(b.abs()));
        for (want, got) in want.iter().flatten().zip(got.iter().flatten()) {
            assert!((want - got).abs() <= 1e-5 * largest, "{case}: {got} for {want}");
        }
    }
}
