//! A `config.json` of any text beside the weights of a small model: it loads or is refused; what loads computes. The first byte
//! chooses the model.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use bedrock_core::{EmbedRequest, EmbeddingModel};
use bedrock_models::{Embedder, LanguageModel, LoadOptions, SequenceClassifier, TokenClassifier};

/// Copies of the small models of the tests, in folders whose `config.json` is written anew for each input.
static MODELS: LazyLock<Vec<PathBuf>> = LazyLock::new(|| {
    let home = tempfile::tempdir().expect("a folder").keep();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/conformance");
    let mut models = Vec::new();
    for entry in std::fs::read_dir(from).expect("the fixtures are there").map(|entry| entry.expect("a folder").path()) {
        if !entry.join("model.safetensors").exists() {
            continue;
        }
        let to = home.join(entry.file_name().expect("a name"));
        std::fs::create_dir(&to).expect("it is new");
        for file in ["model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
            let _ = std::fs::copy(entry.join(file), to.join(file));
        }
        models.push(to);
    }
    models.sort();
    models
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((model, config)) = bytes.split_first() else { return };
    let model = &MODELS[usize::from(*model) % MODELS.len()];
    std::fs::write(model.join("config.json"), config).expect("temporary files can be written");
    let options = LoadOptions { threads: 1, ..LoadOptions::default() };
    if let Ok(model) = LanguageModel::load(model, &options) {
        let _ = model.logits(&[1, 2, 3]);
    }
    if let Ok(embedder) = Embedder::load(model, &options) {
        let _ = embedder.embed_blocking(&EmbedRequest::documents(["Hello"]));
    }
    if let Ok(classifier) = SequenceClassifier::load(model, &options) {
        let _ = classifier.logits(&[("Hello".to_owned(), None)]);
    }
    if let Ok(classifier) = TokenClassifier::load(model, &options) {
        let _ = classifier.logits("Hello");
    }
});
