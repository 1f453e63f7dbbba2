//! A GGUF file of any bytes opens or is refused; what opens decodes, and its tokenizer splits texts.
#![no_main]

use bedrock_models::tokenizer::Tokenizer;
use bedrock_models::weights::GgufFile;
use bytes::Bytes;

// Panics of the crate that tokenizes are caught and are errors; libFuzzer's hook would end the process before that.
libfuzzer_sys::fuzz_target!(init: { let _ = std::panic::take_hook(); }, |content: &[u8]| {
    if let Ok(file) = GgufFile::from_bytes(Bytes::copy_from_slice(content), "fuzz.gguf") {
        for tensor in file.checkpoint.iter().filter(|tensor| tensor.elements() < 1 << 20) {
            tensor.to_f32().expect("the length was checked at opening");
        }
        if let Ok(tokenizer) = Tokenizer::from_gguf(&file.metadata) {
            let _ = tokenizer.encode("Hello, wörld! 12 \u{1f36f}", true);
        }
    }
});
