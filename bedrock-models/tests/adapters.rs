//! Adapters that requests choose from: an answer is that of a model with this adapter alone, whatever the others ask for.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bedrock_models::generate::SamplingParams;
use bedrock_models::{
    Engine, Error, GenerationEvent, GenerationRequest, GenerationUsage, LanguageModel, LoadOptions, LocalChatModel,
};
use safetensors::SafeTensors;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Another adapter: the one in a folder, turned round and stronger.
fn other(adapter: &Path, folder: &Path) -> PathBuf {
    let (file, config) = ("adapter_model.safetensors", "adapter_config.json");
    fs::copy(adapter.join(file), folder.join(file)).unwrap();
    let mut settings: serde_json::Value = serde_json::from_slice(&fs::read(adapter.join(config)).unwrap()).unwrap();
    settings["lora_alpha"] = (-1.5 * settings["lora_alpha"].as_f64().unwrap()).into();
    fs::write(folder.join(config), settings.to_string()).unwrap();
    folder.to_path_buf()
}

/// The adapter in a folder without the modules of a name.
fn without(adapter: &Path, module: &str, folder: &Path) -> PathBuf {
    let (file, config) = ("adapter_model.safetensors", "adapter_config.json");
    fs::copy(adapter.join(config), folder.join(config)).unwrap();
    let bytes = fs::read(adapter.join(file)).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let kept = tensors.iter().filter(|(name, _)| !name.contains(module));
    fs::write(folder.join(file), safetensors::serialize(kept, None).unwrap()).unwrap();
    folder.to_path_buf()
}

fn engine(base: &Path, options: &LoadOptions) -> Engine {
    Engine::start(Arc::new(LanguageModel::load(base, options).unwrap()), &options.engine).unwrap()
}

fn request(adapter: Option<&str>, prompt: usize) -> GenerationRequest {
    GenerationRequest {
        prompt: (0..prompt as u32).map(|i| i * 31 % 250).collect(),
        sampling: SamplingParams { temperature: 0.8, seed: Some(3), ..SamplingParams::default() },
        max_tokens: Some(20),
        ignore_end: true,
        log_probs: Some(1),
        adapter: adapter.map(String::from),
        ..GenerationRequest::default()
    }
}

/// Tokens and log-probabilities, to the bit.
fn answer(generation: impl Iterator<Item = Result<GenerationEvent, Error>>) -> (Vec<(u32, u32)>, GenerationUsage) {
    let (mut tokens, mut counts) = (Vec::new(), GenerationUsage::default());
    for event in generation {
        match event.unwrap() {
            GenerationEvent::Token { id, log_prob, .. } => tokens.push((id, log_prob.unwrap().log_prob.to_bits())),
            GenerationEvent::Finished { usage, .. } => counts = usage,
            _ => {}
        }
    }
    (tokens, counts)
}

#[test]
fn an_answer_is_that_of_its_adapter_whatever_the_company() {
    let cases = [
        ("llama_llama3", "llama_llama3", [90, 30]),
        ("qwen3", "qwen3", [90, 30]),
        ("gemma2", "gemma2", [90, 30]),
        // Its rotation changes after 20 positions: what is cached is computed again.
        ("phi3_longrope", "phi3", [35, 12]),
    ];
    for (base, adapter, lengths) in cases {
        let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
        // The two Phi-3 have not as many heads.
        let first = match base {
            "phi3_longrope" => without(&fixtures().join("training/phi3"), "qkv_proj", folders[0].path()),
            _ => fixtures().join("training").join(adapter),
        };
        let (base, second) = (fixtures().join("conformance").join(base), other(&first, folders[1].path()));
        let options = LoadOptions { threads: 2, ..LoadOptions::default() };
        let alone = [None, Some(first.clone()), Some(second.clone())].map(|adapter| {
            let engine = engine(&base, &LoadOptions { adapter, ..options.clone() });
            lengths.map(|prompt| answer(engine.generate(request(None, prompt)).unwrap()).0)
        });
        assert!(alone[0] != alone[1] && alone[1] != alone[2], "{adapter}: the adapters do nothing");
        let adapters = [("second".to_string(), second), ("first".to_string(), first)].into();
        let together = engine(&base, &LoadOptions { adapters, ..options });
        assert_eq!(together.model().adapters(), ["first", "second"]);
        for round in 0..2 {
            let names = [None, Some("first"), Some("second")];
            let asked: Vec<_> = names
                .iter()
                .flat_map(|name| lengths.map(|prompt| together.generate(request(*name, prompt)).unwrap()))
                .collect();
            let got: Vec<_> = asked.into_iter().map(answer).collect();
            for (index, (tokens, usage)) in got.iter().enumerate() {
                assert_eq!(tokens, &alone[index / 2][index % 2], "{adapter}, round {round}, request {index}");
                if round == 0 && index % 2 == 0 {
                    // What begins alike is another adapter's.
                    assert_eq!(usage.cached_tokens, 0, "{adapter}, request {index}");
                }
            }
            // Where prompts are remembered at all, each adapter finds its own again.
            let cached: Vec<usize> = got.iter().map(|(_, usage)| usage.cached_tokens).collect();
            if round == 1 && cached[0] > 0 {
                assert!(
                    cached.iter().all(|tokens| *tokens == cached[0] || *tokens + 1 == lengths[1]),
                    "{adapter}: {cached:?}"
                );
            }
        }
    }
}

#[test]
fn a_name_that_no_adapter_has_is_refused() {
    let (base, adapter) = (fixtures().join("conformance/qwen2"), fixtures().join("training/qwen2"));
    let adapters = [("polite".to_string(), adapter)].into();
    let options = LoadOptions { adapters, threads: 1, ..LoadOptions::default() };
    let model = LocalChatModel::load(&base, &options).unwrap();
    model.with_adapter("polite").unwrap();
    let is_named = |error: &Error| error.to_string().contains("polite");
    assert!(is_named(&model.with_adapter("rude").unwrap_err()));
    assert!(is_named(&model.engine().generate(request(Some("rude"), 5)).unwrap_err()));
    // Of another model.
    let adapters = [("polite".to_string(), fixtures().join("training/gpt2"))].into();
    assert!(LocalChatModel::load(&base, &LoadOptions { adapters, ..options }).is_err());
}
