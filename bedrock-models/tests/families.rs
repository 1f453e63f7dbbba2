//! Laws that every family of language models keeps: cached = uncached, alone = in a batch, whatever the chunks of a prompt;
//! quantised on load = nearly the same. On the checkpoints of the parity tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bedrock_models::generate::SamplingParams;
use bedrock_models::kernels::Activations;
use bedrock_models::{Engine, EngineOptions, GenerationEvent, GenerationRequest, LanguageModel, LoadOptions};

/// A folder a family.
const FAMILIES: &[&str] = &[
    "llama_default",
    "mistral_sliding",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3_text",
    "phi3",
    "phi3_longrope",
    "cohere",
    "cohere_qknorm",
    "gpt2",
    "mixtral",
];

fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/conformance").join(case)
}

fn load(case: &str, options: LoadOptions) -> LanguageModel {
    LanguageModel::load(folder(case), &LoadOptions { threads: 2, ..options }).unwrap()
}

fn tokens(model: &LanguageModel, seed: usize, count: usize) -> Vec<u32> {
    // Not the last ids, which some of the tokenizers do not have.
    (0..count).map(|i| ((i * 7919 + seed * 104_729) % (model.vocab_size() - 20)) as u32).collect()
}

fn largest(rows: &[Vec<f32>]) -> f32 {
    rows.iter().flatten().fold(0f32, |a, b| a.max(b.abs()))
}

/// Log-probabilities of the tokens chosen, to the bit.
fn generate(engine: &Engine, prompts: &[Vec<u32>]) -> Vec<Vec<(u32, u32)>> {
    let start = |prompt: &Vec<u32>| {
        let request = GenerationRequest {
            prompt: prompt.clone(),
            sampling: SamplingParams::greedy(),
            max_tokens: Some(12),
            ignore_end: true,
            log_probs: Some(1),
            ..GenerationRequest::default()
        };
        engine.generate(request).unwrap()
    };
    let generations: Vec<_> = prompts.iter().map(start).collect();
    let events = |generation: bedrock_models::Generation| {
        generation.filter_map(|event| match event.unwrap() {
            GenerationEvent::Token { id, log_prob, .. } => Some((id, log_prob.unwrap().log_prob.to_bits())),
            _ => None,
        })
    };
    generations.into_iter().map(|generation| events(generation).collect()).collect()
}

#[test]
fn cached_decoding_equals_computing_everything_again() {
    for case in FAMILIES {
        let model = load(case, LoadOptions { activations: Activations::Float, ..LoadOptions::default() });
        let tokens = tokens(&model, 3, 50);
        let whole = model.logits(&tokens).unwrap();
        let cached = model.decode_logits(&tokens, 11).unwrap();
        let limit = 2e-5 * largest(&whole);
        // Its frequencies change once a sequence has more than 20 tokens, as all of these have and the first cached ones not yet.
        let first = if *case == "phi3_longrope" { 20 } else { 10 };
        for (whole, cached) in whole[first..].iter().zip(&cached[first - 10..]) {
            assert!(whole.iter().zip(cached).all(|(whole, cached)| (whole - cached).abs() <= limit), "{case}");
        }
    }
}

#[test]
fn an_answer_is_the_same_alone_and_in_company_and_whatever_the_chunks() {
    for case in FAMILIES {
        let model = Arc::new(load(case, LoadOptions::default()));
        let prompts: Vec<_> = (0..4).map(|seed| tokens(&model, seed, 2 + 11 * seed)).collect();
        let together = EngineOptions { batch: 4, prefill_chunk: 5, ..EngineOptions::default() };
        let together = generate(&Engine::start(model.clone(), &together).unwrap(), &prompts);
        let alone = Engine::start(model, &EngineOptions { batch: 1, ..EngineOptions::default() }).unwrap();
        for (index, prompt) in prompts.iter().enumerate() {
            assert_eq!(generate(&alone, std::slice::from_ref(prompt))[0], together[index], "{case}, prompt {index}");
        }
    }
}

#[test]
fn quantising_changes_little() {
    for case in FAMILIES {
        let tokens = tokens(&load(case, LoadOptions::default()), 5, 30);
        let exact = load(case, LoadOptions::default()).logits(&tokens).unwrap();
        // Rows of these small models are not all whole blocks: those stay as they are.
        let quantised = LoadOptions { quantize: Some(bedrock_models::weights::Dtype::Q8_0), ..LoadOptions::default() };
        let quantised = load(case, quantised).logits(&tokens).unwrap();
        let pairs = exact.iter().flatten().zip(quantised.iter().flatten());
        let squares: Vec<f32> = pairs.map(|(x, y)| (x - y) * (x - y)).collect();
        let error = (squares.iter().sum::<f32>() / squares.len() as f32).sqrt();
        assert!(error <= 1e-2 * largest(&exact), "{case}: {error} of {}", largest(&exact));
    }
}
