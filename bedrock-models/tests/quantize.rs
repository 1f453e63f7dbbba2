//! Fewer bits a weight, on load and into a file: the same weights either way, close to the original, whole or not at all.

use std::path::{Path, PathBuf};

use bedrock_core::{EmbedPurpose, EmbedRequest, EmbeddingModel};
use bedrock_models::quantize::{QuantizeProgress, quantize};
use bedrock_models::weights::{Dtype, GgufFile};
use bedrock_models::{Embedder, Error, LanguageModel, LoadOptions};

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
