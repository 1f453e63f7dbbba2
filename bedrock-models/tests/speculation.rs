//! Laws of guessing ahead: the same tokens where tokens are certain, the same distribution where they are drawn, no page lost.

mod tiny;

use std::collections::HashMap;
use std::sync::Arc;

use bedrock_models::generate::SamplingParams;
use bedrock_models::weights::Dtype;
use bedrock_models::{
    Engine, EngineOptions, Generation, GenerationEvent, GenerationRequest, LanguageModel, LoadOptions, Speculation,
};

fn model(quantize: Option<Dtype>) -> Arc<LanguageModel> {
    let folder = tempfile::tempdir().unwrap();
    tiny::write(folder.path());
    let options = LoadOptions { threads: 2, quantize, ..LoadOptions::default() };
    Arc::new(LanguageModel::load(folder.path(), &options).unwrap())
}

fn plain() -> Engine {
    Engine::start(model(None), &EngineOptions::default()).unwrap()
}

fn lookup(tokens: usize) -> Engine {
    let options = EngineOptions { speculation: Speculation::Lookup { tokens }, ..EngineOptions::default() };
    Engine::start(model(None), &options).unwrap()
}

/// The tiny model with another one, or itself, that guesses for it.
fn drafted(tokens: usize, quantize: Option<Dtype>) -> Engine {
    let options =
        EngineOptions { speculation: Speculation::Draft { tokens }, prefill_chunk: 50, ..EngineOptions::default() };
    Engine::start_with_draft(model(None), model(quantize), &options).unwrap()
}

fn request(seed: u64, sampling: SamplingParams) -> GenerationRequest {
    GenerationRequest {
        // Repeats itself, so that there is something to look up.
        prompt: (0..90).map(|i| ((i % 9) * 31 + seed * 7) as u32 % 256).collect(),
        sampling: SamplingParams { seed: Some(seed), ..sampling },
        max_tokens: Some(60),
        ignore_end: true,
        log_probs: Some(1),
        ..GenerationRequest::default()
    }
}

fn collect(generation: Generation) -> Vec<(u32, u32)> {
    generation
        .filter_map(|event| match event.unwrap() {
            GenerationEvent::Token { id, log_prob, .. } => Some((id, log_prob.unwrap().log_prob.to_bits())),
            _ => None,
        })
        .collect()
}

fn run(engine: &Engine, request: GenerationRequest) -> Vec<(u32, u32)> {
    collect(engine.generate(request).unwrap())
}

/// Ways of sampling under which an answer goes round in circles, or does not.
fn samplings() -> [SamplingParams; 4] {
    let cold = SamplingParams { temperature: 0.3, top_k: Some(4), ..SamplingParams::default() };
    [
        SamplingParams::greedy(),
        SamplingParams { logit_bias: (40..44).map(|id| (id, 12.0)).collect(), ..cold.clone() },
        SamplingParams { repetition_penalty: 1.1, presence_penalty: 0.2, ..cold },
        SamplingParams { logit_bias: vec![(77, 1e4)], ..SamplingParams::greedy() },
    ]
}

#[test]
fn looked_up_tokens_change_nothing_to_the_bit() {
    let (plain, engine) = (plain(), lookup(5));
    let requests: Vec<_> =
        samplings().into_iter().enumerate().map(|(seed, sampling)| request(seed as u64, sampling)).collect();
    let expected: Vec<_> = requests.iter().map(|request| run(&plain, request.clone())).collect();
    for (request, expected) in requests.iter().zip(&expected) {
        assert_eq!(&run(&engine, request.clone()), expected);
    }
    let metrics = engine.metrics();
    assert!(metrics.accepted_tokens > 50 && metrics.guessed_tokens > metrics.accepted_tokens, "{metrics:?}");
    assert!(metrics.decode_steps < plain.metrics().decode_steps - 40);
    // In company as well.
    let streams: Vec<_> = requests.iter().map(|request| engine.generate(request.clone()).unwrap()).collect();
    streams.into_iter().zip(&expected).for_each(|(stream, expected)| assert_eq!(&collect(stream), expected));
}

#[test]
fn a_draft_changes_no_greedy_answer() {
    let plain = plain();
    let greedy = |seed| request(seed, SamplingParams { repetition_penalty: 1.2, ..SamplingParams::greedy() });
    for quantize in [None, Some(Dtype::Q4_0)] {
        let engine = drafted(4, quantize);
        let streams: Vec<_> = (0..4).map(|seed| engine.generate(greedy(seed)).unwrap()).collect();
        streams.into_iter().zip(0..).for_each(|(stream, seed)| assert_eq!(collect(stream), run(&plain, greedy(seed))));
        let metrics = engine.metrics();
        if quantize.is_none() {
            assert_eq!(metrics.accepted_tokens, metrics.guessed_tokens, "a model guesses its own answers right");
            assert!(metrics.decode_steps < 60 / 3 + 4, "{metrics:?}");
        }
        assert!(metrics.accepted_tokens > 20, "{metrics:?}");
    }
}

#[test]
fn a_drafted_answer_is_the_same_for_the_same_seed_alone_and_in_company() {
    let warm = |seed| request(seed, SamplingParams { temperature: 0.8, ..SamplingParams::default() });
    let (alone, together) = (drafted(3, Some(Dtype::Q4_0)), drafted(3, Some(Dtype::Q4_0)));
    let streams: Vec<_> = (0..5).map(|seed| together.generate(warm(seed)).unwrap()).collect();
    streams.into_iter().zip(0..).for_each(|(stream, seed)| assert_eq!(collect(stream), run(&alone, warm(seed))));
}

#[test]
fn drafted_answers_have_the_distribution_of_plain_ones() {
    const ANSWERS: usize = 3000;
    // Few enough outcomes to count: three tokens, of two each.
    let sampling = SamplingParams { temperature: 1.5, top_k: Some(2), ..SamplingParams::default() };
    let shares = |engine: &Engine| -> HashMap<Vec<u32>, f64> {
        let mut counts = HashMap::new();
        for seed in 0..ANSWERS as u64 {
            let prompt = (0..12).collect();
            let request = GenerationRequest { prompt, max_tokens: Some(4), ..request(seed, sampling.clone()) };
            let tokens: Vec<u32> = run(engine, request).into_iter().map(|(id, _)| id).collect();
            *counts.entry(tokens[..3].to_vec()).or_insert(0.0) += 1.0 / ANSWERS as f64;
        }
        counts
    };
    let engine = drafted(3, Some(Dtype::Q4_0));
    let (expected, got) = (shares(&plain()), shares(&engine));
    let metrics = engine.metrics();
    assert!(metrics.accepted_tokens > 0 && metrics.accepted_tokens < metrics.guessed_tokens, "{metrics:?}");
    for outcome in expected.keys().chain(got.keys()) {
        let share = |shares: &HashMap<Vec<u32>, f64>| shares.get(outcome).copied().unwrap_or(0.0);
        let (expected, got) = (share(&expected), share(&got));
        // Four standard deviations of the difference of two shares of a quarter.
        assert!((expected - got).abs() < 0.045, "{outcome:?}: {expected} {got}");
    }
}

#[test]
fn drafts_lose_no_page_and_share_prompts() {
    let pages = 4;
    let bytes = 2 * pages * (2 * 2 * 2 * 16 * 64 * 4);
    let options =
        EngineOptions { speculation: Speculation::Draft { tokens: 3 }, cache_bytes: bytes, ..EngineOptions::default() };
    let engine = Engine::start_with_draft(model(None), model(None), &options).unwrap();
    for round in 0..6u64 {
        // Each could take all the memory there is.
        let endless = || GenerationRequest { max_tokens: None, ..request(round / 3, SamplingParams::greedy()) };
        let mut dropped = engine.generate(endless()).unwrap();
        dropped.next().unwrap().unwrap();
        drop(dropped);
        assert_eq!(run(&engine, endless()).len(), tiny::CONTEXT - 90 + 1);
    }
    let metrics = engine.metrics();
    assert_eq!((metrics.pages, metrics.reserved_pages, metrics.running), (pages, 0, 0));
    assert!(metrics.page_hits > 0 && metrics.accepted_tokens > 0, "{metrics:?}");
}
