//! Fewer bits a weight, on load and into a file: the same weights either way, close to the original, whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use bedrock_core::{ConverseRequest, EmbedPurpose, EmbedRequest, EmbeddingModel};
use bedrock_models::quantize::{QuantizeProgress, quantize};
use bedrock_models::weights::{Dtype, GgufFile};
use bedrock_models::{Embedder, Error, LanguageModel, LoadOptions};
use serde_json::json;

/// A tiny Llama in a folder, in plain numbers.
fn plain(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/conformance/gguf/scaled.gguf");
    let target = folder.join("plain.gguf");
    quantize(source, &target, Dtype::F32, |_| true).unwrap();
    target
}

fn logits(path: &Path, quantize: Option<Dtype>) -> Vec<Vec<f32>> {
    let options = LoadOptions { threads: 2, quantize, ..LoadOptions::default() };
    LanguageModel::load(path, &options).unwrap().logits(&[1, 5, 9, 2, 40, 7]).unwrap()
}

#[test]
fn a_file_and_a_load_of_the_same_type_are_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let plain = plain(folder.path());
    assert!(GgufFile::open(&plain).unwrap().checkpoint.iter().all(|tensor| tensor.dtype == Dtype::F32));
    let original = logits(&plain, None);
    let all = original.concat();
    let range = all.iter().fold(0.0f32, |a, b| a.max(*b)) - all.iter().fold(0.0f32, |a, b| a.min(*b));
    for (to, bound) in [(Dtype::Q8_0, 0.03), (Dtype::Q4_1, 0.35), (Dtype::Q4_0, 0.35)] {
        let file = folder.path().join(format!("{to}.gguf"));
        let mut seen = Vec::new();
        let report = quantize(&plain, &file, to, |progress: QuantizeProgress| {
            seen.push(progress.tensors);
            true
        })
        .unwrap();
        assert_eq!(seen, (1..=report.tensors).collect::<Vec<_>>());
        assert_eq!(report.bytes_after, std::fs::metadata(&file).unwrap().len());
        assert_eq!(report.quantized, 8, "{report:?}");
        let written = GgufFile::open(&file).unwrap();
        assert!(written.checkpoint.iter().any(|tensor| tensor.dtype == to));
        assert!(written.checkpoint.iter().filter(|tensor| tensor.shape.len() == 1).all(|t| t.dtype == Dtype::F32));
        let from_file = logits(&file, None);
        assert_eq!(from_file, logits(&plain, Some(to)), "{to}");
        assert_ne!(from_file, original);
        for (got, want) in from_file.concat().iter().zip(&all) {
            assert!((got - want).abs() <= bound * range, "{to}: {got} {want}");
        }
    }
}

#[test]
fn embeddings_of_eight_bits_are_those_of_thirty_two() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/conformance/nomic_embed");
    let embed = |quantize| -> Vec<Vec<f32>> {
        let options = LoadOptions { threads: 2, quantize, ..LoadOptions::default() };
        let model = Embedder::load(&folder, &options).unwrap();
        let text = |i: usize| "a few words, and numbers like 12.5; ".repeat(1 + i % 4)[i % 7..].to_string();
        let request = EmbedRequest::new(EmbedPurpose::Document, (0..40).map(text).collect::<Vec<_>>());
        model.embed_blocking(&request).unwrap().embeddings
    };
    let norm = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let (exact, eight, four) = (embed(None), embed(Some(Dtype::Q8_0)), embed(Some(Dtype::Q4_0)));
    let lowest = |others: &[Vec<f32>]| {
        let cosines = exact.iter().zip(others).map(|(a, b)| {
            let product: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            product / (norm(a) * norm(b))
        });
        cosines.fold(f64::INFINITY, f64::min)
    };
    assert_ne!(exact, eight);
    assert!(lowest(&eight) >= 0.999, "{}", lowest(&eight));
    // The measure tells fewer bits apart.
    assert!(lowest(&four) < lowest(&eight) && lowest(&four) > 0.9, "{}", lowest(&four));
}

#[test]
fn what_cannot_be_done_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let plain = plain(folder.path());
    let target = folder.path().join("target.gguf");
    for to in [Dtype::Q6K, Dtype::Q4K, Dtype::I8] {
        let refused = quantize(&plain, &target, to, |_| true);
        assert!(matches!(refused, Err(Error::InvalidParameter { name: "quantize", .. })));
        let options = LoadOptions { quantize: Some(to), ..LoadOptions::default() };
        assert!(matches!(LanguageModel::load(&plain, &options), Err(Error::InvalidParameter { .. })));
    }
    let cancelled = quantize(&plain, &target, Dtype::Q8_0, |progress| progress.tensors < 3);
    assert!(matches!(cancelled, Err(Error::Cancelled)));
    assert!(quantize(folder.path().join("missing.gguf"), &target, Dtype::Q8_0, |_| true).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn names_of_types_are_read_in_either_case() {
    for dtype in [Dtype::F32, Dtype::Q4_1, Dtype::Q6K, Dtype::Mxfp4] {
        assert_eq!(dtype.to_string().to_lowercase().parse::<Dtype>().unwrap(), dtype);
    }
    assert!("q4".parse::<Dtype>().is_err());
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/conformance").join(name)
}

fn load(path: &Path) -> LanguageModel {
    LanguageModel::load(path, &LoadOptions { threads: 2, ..LoadOptions::default() }).unwrap()
}

/// The largest difference of logits as a share of the largest of them.
fn difference(one: &LanguageModel, other: &LanguageModel, tokens: &[u32]) -> f32 {
    let (one, other) = (one.logits(tokens).unwrap().concat(), other.logits(tokens).unwrap().concat());
    assert_eq!(one.len(), other.len());
    let largest = one.iter().fold(0f32, |a, b| a.max(b.abs()));
    one.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max) / largest
}

#[test]
fn a_folder_becomes_a_file_that_is_the_same_model() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/tiny");
    let folder = tempfile::tempdir().unwrap();
    let from_folder = load(&source);
    let conversation = ConverseRequest::new("tiny").user("Where is my sword?");
    let prompt = from_folder.template().unwrap().render_request(&conversation).unwrap();
    let tokens = from_folder.tokenizer().unwrap().encode(&prompt, true).unwrap();
    // Its weights are in eight bits, which stay as they are; the activations that they meet then may have 16.
    for (to, bound) in
        [(Dtype::Q8_0, 1e-4), (Dtype::F32, 1e-4), (Dtype::F16, 1e-3), (Dtype::BF16, 2e-2), (Dtype::Q4_0, 0.5)]
    {
        let file = folder.path().join(format!("{to}.gguf"));
        let report = quantize(&source, &file, to, |_| true).unwrap();
        assert_eq!(report.tensors, 38);
        let from_file = load(&file);
        assert_eq!(from_file.template().unwrap().render_request(&conversation).unwrap(), prompt);
        assert_eq!(from_file.tokenizer().unwrap().encode(&prompt, true).unwrap(), tokens);
        let (ours, its) =
            (from_folder.tokenizer().unwrap().special_tokens(), from_file.tokenizer().unwrap().special_tokens());
        assert_eq!((&ours.ends, ours.eos, ours.add_bos), (&its.ends, its.eos, its.add_bos));
        assert_eq!(
            (from_folder.max_tokens(), from_folder.vocab_size()),
            (from_file.max_tokens(), from_file.vocab_size())
        );
        let far = difference(&from_folder, &from_file, &tokens);
        assert!(far < bound, "{to}: {far}");
    }
}

/// Positions that are scaled, tied tables, groups of heads, tokenizers of both kinds.
#[test]
fn folders_of_every_kind_become_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.gguf");
    let tokens: Vec<u32> = (0..90).map(|n| 3 + n * 7 % 100).collect();
    for name in ["llama_default", "llama_llama3"] {
        quantize(fixture(name), &file, Dtype::F32, |_| true).unwrap();
        let (one, other) = (load(&fixture(name)), load(&file));
        let far = difference(&one, &other, &tokens);
        assert!(far < 1e-5, "{name}: {far}");
        for text in ["a text, and 1234 more", "  Grüße an alle\n\n😀"] {
            let encode = |model: &LanguageModel| model.tokenizer().unwrap().encode(text, true).unwrap();
            assert_eq!(encode(&one), encode(&other), "{name}");
        }
    }
    // These have tokenizers that such files cannot have, so they get another.
    let vocab: serde_json::Map<String, serde_json::Value> = (0..110u32)
        .map(|id| (if id == 2 { "</s>".into() } else { format!("{:?}", char::from_u32(97 + id).unwrap()) }, id.into()))
        .collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null, "decoder": null,
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "added_tokens": [{ "id": 2, "content": "</s>", "special": true, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false }],
        "model": { "type": "BPE", "vocab": vocab, "merges": [] },
    });
    for (name, is_written) in [
        ("llama_linear", true),
        ("llama_yarn", true),
        ("llama_new_style", true),
        ("llama_biases_sharded", true),
        ("mistral_full", true),
        ("mistral_sliding", false),
        ("llama_dynamic", false),
        ("llama_longrope", false),
        ("llama_yarn_mscale", false),
    ] {
        let copy = folder.path().join(name);
        fs::create_dir(&copy).unwrap();
        for entry in fs::read_dir(fixture(name)).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
        }
        let refused = quantize(&copy, &file, Dtype::F32, |_| true);
        assert!(
            matches!(refused, Err(Error::UnknownTokenizer { .. } | Error::ConfigValue { .. })),
            "{name}: {refused:?}"
        );
        fs::write(copy.join("tokenizer.json"), tokenizer.to_string()).unwrap();
        fs::write(copy.join("tokenizer_config.json"), r#"{"eos_token": "</s>"}"#).unwrap();
        match quantize(&copy, &file, Dtype::F32, |_| true) {
            Ok(_) => {
                assert!(is_written, "{name}");
                let far = difference(&load(&copy), &load(&file), &tokens);
                assert!(far < 2e-5, "{name}: {far}");
            }
            Err(error) => assert!(!is_written && matches!(error, Error::ConfigValue { .. }), "{name}: {error}"),
        }
    }
}

#[test]
fn a_folder_that_is_no_such_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target.gguf");
    let refused = quantize(fixture("qwen2"), &target, Dtype::Q8_0, |_| true);
    assert!(matches!(refused, Err(Error::UnsupportedArchitecture { .. })), "{refused:?}");
    let copy = folder.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(fixture("llama_default").join(name), copy.join(name)).unwrap();
    }
    assert!(matches!(quantize(&copy, &target, Dtype::Q8_0, |_| true), Err(Error::NoTokenizer { .. })));
    let config = fs::read_to_string(copy.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["intermediate_size"] = 4096.into();
    fs::write(copy.join("config.json"), config.to_string()).unwrap();
    assert!(matches!(quantize(&copy, &target, Dtype::Q8_0, |_| true), Err(Error::Tensors { .. })));
    assert!(!target.exists());
}
