//! An adapter of any bytes beside a small model is taken or refused; the model with it computes. The input is `adapter_config.json` up
//! to the first zero, and behind it `adapter_model.safetensors`; or a GGUF file.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use bedrock_models::{LanguageModel, LoadOptions};

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| tempfile::tempdir().expect("a folder").keep());

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let write = |name: &str, content: &[u8]| {
        let path = FOLDER.join(name);
        std::fs::write(&path, content).expect("temporary files can be written");
        path
    };
    let (base, adapter) = if bytes.starts_with(b"GGUF") {
        ("gguf_families/qwen2.gguf", write("adapter.gguf", bytes))
    } else {
        let Some(end) = bytes.iter().position(|byte| *byte == 0) else { return };
        write("adapter_config.json", &bytes[..end]);
        write("adapter_model.safetensors", &bytes[end + 1..]);
        ("conformance/llama_new_style", FOLDER.clone())
    };
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(base);
    let options = LoadOptions { threads: 1, adapter: Some(adapter), ..LoadOptions::default() };
    if let Ok(model) = LanguageModel::load(base, &options) {
        model.logits(&[1, 2, 3]).expect("the adapter fits the model");
    }
});
