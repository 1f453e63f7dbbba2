//! Laws of serving a language model: alone = in a batch, streamed = whole, cached = uncached, same seed = same answer; limits and hostile
//! requests.

mod tiny;

use std::sync::Arc;

use bedrock_core::testing::check_chat_model;
use bedrock_core::{ChatModel, ConverseRequest, Error, StopReason};
use bedrock_models::generate::SamplingParams;
use bedrock_models::kernels::{Activations, CacheType};
use bedrock_models::{
    Engine, EngineOptions, GenerationEvent, GenerationRequest, LanguageModel, LoadOptions, LocalChatModel,
};
use futures::StreamExt;
use futures::executor::block_on;

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    tiny::write(folder.path());
    folder
}

fn options(engine: EngineOptions) -> LoadOptions {
    LoadOptions { threads: 2, engine, ..LoadOptions::default() }
}

fn engine(options: EngineOptions) -> Engine {
    let folder = folder();
    let model = LanguageModel::load(folder.path(), &self::options(options.clone())).unwrap();
    Engine::start(Arc::new(model), &options).unwrap()
}

fn request(seed: u64, prompt: usize) -> GenerationRequest {
    GenerationRequest {
        prompt: (0..prompt).map(|i| ((i as u64 * 7919 + seed * 104_729) % 256) as u32).collect(),
        sampling: SamplingParams { temperature: 0.9, top_p: Some(0.95), seed: Some(seed), ..SamplingParams::default() },
        max_tokens: Some(24),
        ignore_end: true,
        log_probs: Some(2),
        ..GenerationRequest::default()
    }
}

/// Tokens and log-probabilities of a generation, to the bit.
fn run(engine: &Engine, request: GenerationRequest) -> Vec<(u32, u32)> {
    collect(engine.generate(request).unwrap())
}

fn collect(generation: impl Iterator<Item = Result<GenerationEvent, bedrock_models::Error>>) -> Vec<(u32, u32)> {
    generation
        .filter_map(|event| match event.unwrap() {
            GenerationEvent::Token { id, log_prob, .. } => Some((id, log_prob.unwrap().log_prob.to_bits())),
            _ => None,
        })
        .collect()
}

#[test]
fn an_answer_is_the_same_alone_and_in_company_and_whatever_the_chunks() {
    let alone = engine(EngineOptions { batch: 1, ..EngineOptions::default() });
    let together = engine(EngineOptions { batch: 16, prefill_chunk: 7, ..EngineOptions::default() });
    let requests: Vec<_> = (0..9).map(|seed| request(seed, 3 + 17 * seed as usize)).collect();
    let expected: Vec<_> = requests.iter().map(|request| run(&alone, request.clone())).collect();
    let streams: Vec<_> = requests.iter().map(|request| together.generate(request.clone()).unwrap()).collect();
    for (index, (stream, expected)) in streams.into_iter().zip(expected).enumerate() {
        assert_eq!(expected.len(), 24);
        assert_eq!(collect(stream), expected, "request {index}");
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let folder = folder();
    let answers: Vec<_> = [1, 2, 5]
        .into_iter()
        .map(|threads| {
            let options = LoadOptions { threads, ..LoadOptions::default() };
            let model = Arc::new(LanguageModel::load(folder.path(), &options).unwrap());
            run(&Engine::start(model, &options.engine).unwrap(), request(5, 100))
        })
        .collect();
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
}

#[test]
fn same_seed_same_answer_and_another_seed_another() {
    let engine = engine(EngineOptions::default());
    assert_eq!(run(&engine, request(1, 20)), run(&engine, request(1, 20)));
    let other = GenerationRequest { sampling: request(2, 20).sampling, ..request(1, 20) };
    assert_ne!(run(&engine, request(1, 20)), run(&engine, other));
}

#[test]
fn cached_decoding_equals_computing_everything_again() {
    let folder = folder();
    let gguf = folder.path().join("tiny.gguf");
    tiny::write_gguf(&gguf);
    for path in [folder.path(), gguf.as_path()] {
        let options = LoadOptions { activations: Activations::Float, ..LoadOptions::default() };
        let model = LanguageModel::load(path, &options).unwrap();
        let tokens = request(3, 200).prompt;
        let whole = model.logits(&tokens).unwrap();
        let cached = model.decode_logits(&tokens, 60).unwrap();
        let largest = whole.iter().flatten().fold(0f32, |a, b| a.max(b.abs()));
        for (whole, cached) in whole[59..].iter().zip(&cached) {
            for (whole, cached) in whole.iter().zip(cached) {
                assert!((whole - cached).abs() <= 1e-5 * largest, "{whole} {cached}");
            }
        }
        // Activations of 8 bits change logits by about 1% of the largest, on average.
        for activations in [Activations::Quantized, Activations::Int8] {
            let model = LanguageModel::load(path, &LoadOptions { activations, ..LoadOptions::default() }).unwrap();
            for integer in [model.decode_logits(&tokens, 60).unwrap(), model.logits(&tokens).unwrap()[59..].to_vec()] {
                let pairs = whole[59..].iter().flatten().zip(integer.iter().flatten());
                let squares: Vec<f32> = pairs.map(|(x, y)| (x - y) * (x - y)).collect();
                let error = (squares.iter().sum::<f32>() / squares.len() as f32).sqrt();
                assert!(error <= 1.5e-2 * largest, "{activations:?} {error} of {largest}");
            }
        }
    }
}

#[test]
fn keys_and_values_in_fewer_bits_keep_the_laws() {
    // Halves are read as exactly as they are kept, and rarely rounded the other way.
    for (cache_type, errors) in [(CacheType::F16, 1e-6..1e-3), (CacheType::Q8, 1e-5..1e-2)] {
        fewer_bits_keep_the_laws(cache_type, errors);
    }
}

fn fewer_bits_keep_the_laws(cache_type: CacheType, errors: std::ops::Range<f32>) {
    let folder = folder();
    let tokens = request(3, 200).prompt;
    let logits = |cache_type| {
        let engine = EngineOptions { cache_type, ..EngineOptions::default() };
        let options = LoadOptions { activations: Activations::Float, engine, ..LoadOptions::default() };
        let model = LanguageModel::load(folder.path(), &options).unwrap();
        (model.logits(&tokens).unwrap().concat(), model.decode_logits(&tokens, 1).unwrap().concat())
    };
    let ((floats, _), (few, cached)) = (logits(CacheType::F32), logits(cache_type));
    let largest = floats.iter().fold(0f32, |a, b| a.max(b.abs()));
    let error = |other: &[f32]| {
        let squares = few.iter().zip(other).map(|(x, y)| (x - y) * (x - y)).sum::<f32>();
        (squares / few.len() as f32).sqrt() / largest
    };
    assert!(errors.contains(&error(&floats)), "{cache_type:?}: {}", error(&floats));
    // The products of a step differ from a prompt's in their last bits, and some numbers are then rounded the other way.
    assert_eq!(cached.len(), few.len());
    assert!(error(&cached) <= 0.3 * error(&floats), "{cache_type:?}: {} {}", error(&cached), error(&floats));
    // Alone, in company, in other chunks and behind a remembered beginning answers are the same, bit for bit.
    let engine =
        |chunk: usize| self::engine(EngineOptions { prefill_chunk: chunk, cache_type, ..EngineOptions::default() });
    let (first, second) = (engine(512), engine(7));
    let requests: Vec<GenerationRequest> = [200, 150, 70].map(|length| request(3, length)).to_vec();
    let alone: Vec<_> = requests.iter().map(|request| run(&first, request.clone())).collect();
    let together: Vec<_> = requests.iter().map(|request| second.generate(request.clone()).unwrap()).collect();
    assert_eq!(together.into_iter().map(collect).collect::<Vec<_>>(), alone);
    assert!(first.metrics().cached_tokens > 0);
}

#[test]
fn scores_are_the_log_probabilities_of_generation() {
    let engine = engine(EngineOptions::default());
    let request = GenerationRequest { sampling: SamplingParams::greedy(), ..request(4, 12) };
    let tokens = run(&engine, request.clone());
    let ids: Vec<u32> = tokens.iter().map(|(id, _)| *id).collect();
    let scores = engine.model().score(&request.prompt, &ids, 1).unwrap();
    for (score, (id, bits)) in scores.iter().zip(tokens) {
        assert_eq!(score.id, id);
        assert_eq!(score.top[0].0, id, "greedy takes the most likely token");
        assert!((score.log_prob - f32::from_bits(bits)).abs() < 1e-3);
    }
}

#[test]
fn the_converse_contract_holds() {
    let folder = folder();
    let model = LocalChatModel::load(folder.path(), &options(EngineOptions::default())).unwrap();
    let request = ConverseRequest::new("tiny").user("Hello").max_tokens(12).additional_field("seed", 7);
    block_on(check_chat_model(&model, &request));
}

#[test]
fn stop_reasons() {
    let folder = folder();
    let model = LocalChatModel::load(folder.path(), &options(EngineOptions::default())).unwrap();
    let request = || ConverseRequest::new("tiny").user("Hello");
    let long = model.converse_blocking(&request().max_tokens(30).additional_field("ignore_eos", true)).unwrap();
    assert_eq!(long.stop_reason, StopReason::MaxTokens);
    assert_eq!(long.usage.output_tokens, 30);
    assert_eq!(long.usage.total_tokens, long.usage.input_tokens + 30);
    let text = long.text();
    let stop: String = text.chars().skip(3).take(2).collect();
    let cut =
        model.converse_blocking(&request().stop_sequence(stop.clone()).additional_field("ignore_eos", true)).unwrap();
    assert_eq!(cut.stop_reason, StopReason::StopSequence);
    assert_eq!(cut.text(), text[..text.find(&stop).unwrap()]);
    // Without a limit the context ends the answer, not an error.
    let full = model.converse_blocking(&request().additional_field("ignore_eos", true)).unwrap();
    assert_eq!(full.stop_reason, StopReason::ModelContextWindowExceeded);
    assert_eq!(full.usage.total_tokens as usize, tiny::CONTEXT + 1, "the last token is chosen, not computed");
    let end = model
        .converse_blocking(&request().additional_field("logit_bias", serde_json::json!([[tiny::END, 1e4]])))
        .unwrap();
    assert_eq!(end.stop_reason, StopReason::EndTurn);
    assert_eq!(end.text(), "");
}

#[test]
fn what_a_model_cannot_honour_is_refused_by_name() {
    let folder = folder();
    let model = LocalChatModel::load(folder.path(), &options(EngineOptions::default())).unwrap();
    let refused = |request: ConverseRequest, what: &str| match model.converse_blocking(&request) {
        Err(Error::Validation { message }) => assert!(message.contains(what), "{message}"),
        other => panic!("{what}: {other:?}"),
    };
    let request = || ConverseRequest::new("tiny").user("Hello").max_tokens(2);
    refused(request().additional_field("beam_width", 4), "beam_width");
    refused(request().additional_field("top_k", "many"), "additionalModelRequestFields");
    refused(request().additional_field("top_logprobs", 21), "top_logprobs");
    refused(request().additional_field("typical_p", 2.0), "typical_p");
    refused(request().additional_field("logit_bias", serde_json::json!([[900_000, 1.0]])), "900000");
    let tool = bedrock_core::ToolDefinition::SystemTool(bedrock_core::SystemTool { name: "search".into() });
    refused(request().tool(tool), "toolConfig.tools[0]");
    refused(request().guardrail(bedrock_core::GuardrailConfiguration::new("g", "1")), "guardrailConfig");
    refused(ConverseRequest::new("tiny").user("x".repeat(2 * tiny::CONTEXT)), "too long");
}

#[test]
fn a_dropped_stream_ends_the_work_and_frees_its_place() {
    let engine = engine(EngineOptions { batch: 1, queue: 1, ..EngineOptions::default() });
    for _ in 0..20 {
        let mut stream = engine.generate(GenerationRequest { max_tokens: None, ..request(1, 10) }).unwrap();
        // The engine has taken the request up, so the queue has room for the next one once this is dropped.
        assert!(matches!(block_on(StreamExt::next(&mut stream)), Some(Ok(GenerationEvent::Token { .. }))));
        drop(stream);
    }
    assert_eq!(run(&engine, request(1, 10)).len(), 24);
}

#[test]
fn a_full_queue_throttles_and_a_request_too_large_for_the_cache_fails_alone() {
    let small = engine(EngineOptions { cache_bytes: 1, ..EngineOptions::default() });
    let mut stream = small.generate(request(1, 10)).unwrap();
    assert!(matches!(Iterator::next(&mut stream), Some(Err(bedrock_models::Error::CacheTooSmall { .. }))));

    let engine = engine(EngineOptions { batch: 1, queue: 2, ..EngineOptions::default() });
    let long = || GenerationRequest { max_tokens: None, ..request(1, 10) };
    // One runs, one may wait beside it inside the engine, two in the queue; more than that is refused.
    let results: Vec<_> = (0..64).map(|_| engine.generate(long())).collect();
    let refused = results.iter().filter(|r| matches!(r, Err(bedrock_models::Error::Busy))).count();
    assert!(refused > 0, "64 requests fit in a queue of 2");
    let core: Error = bedrock_models::Error::Busy.into();
    assert_eq!(core.http_status(), 429);
    // The engine notices that the callers have gone and takes the next request up.
    drop(results);
    let generation = loop {
        match engine.generate(request(1, 10)) {
            Err(bedrock_models::Error::Busy) => std::thread::yield_now(),
            other => break other.unwrap(),
        }
    };
    assert_eq!(collect(generation).len(), 24);
}

#[test]
fn hostile_tokens_are_errors() {
    let engine = engine(EngineOptions::default());
    for prompt in [vec![], vec![tiny::VOCABULARY as u32], vec![1; tiny::CONTEXT + 1]] {
        assert!(engine.generate(GenerationRequest { prompt: prompt.clone(), ..request(1, 1) }).is_err());
        assert!(engine.model().logits(&prompt).is_err());
    }
}

#[test]
fn broken_folders_are_errors_that_name_the_file() {
    let check = |break_it: &dyn Fn(&std::path::Path), expected: &str| {
        let folder = folder();
        break_it(folder.path());
        let error = LanguageModel::load(folder.path(), &LoadOptions::default()).unwrap_err();
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text += &format!(": {cause}");
            source = cause.source();
        }
        assert!(text.contains(expected), "{text}");
    };
    let edit = |name: &'static str, value: serde_json::Value| {
        move |folder: &std::path::Path| {
            let path = folder.join("config.json");
            let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            config[name] = value.clone();
            std::fs::write(path, serde_json::to_vec(&config).unwrap()).unwrap();
        }
    };
    check(&|folder| std::fs::remove_file(folder.join("config.json")).unwrap(), "config.json");
    check(&|folder| std::fs::write(folder.join("config.json"), "{").unwrap(), "config.json");
    check(&edit("model_type", "spiral".into()), "spiral");
    check(&edit("num_attention_heads", 0.into()), "num_attention_heads");
    check(&edit("num_key_value_heads", 3.into()), "num_key_value_heads");
    check(&edit("hidden_size", u64::MAX.into()), "hidden_size");
    check(&edit("num_hidden_layers", 3.into()), "model.layers.2");
    check(&edit("num_hidden_layers", 1.into()), "model.layers.1");
    check(&edit("vocab_size", 300.into()), "embed_tokens");
    check(&edit("hidden_act", "gelu".into()), "hidden_act");
    check(&edit("rope_scaling", serde_json::json!({"rope_type": "spiral"})), "spiral");
    check(&|folder| std::fs::write(folder.join("tokenizer.json"), "{}").unwrap(), "tokenizer.json");
    check(
        &|folder| {
            let path = folder.join("model.safetensors");
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
        },
        "model.safetensors",
    );
}
