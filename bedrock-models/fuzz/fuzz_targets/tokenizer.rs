//! A `tokenizer.json` of any bytes is read or refused; what is read splits and joins texts, in a stream as at once.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use bedrock_models::tokenizer::Tokenizer;

static FILE: LazyLock<PathBuf> = LazyLock::new(|| tempfile::tempdir().expect("a folder").keep().join("tokenizer.json"));

// Panics of the crate that does the work are caught and are errors; libFuzzer's hook would end the process before that.
libfuzzer_sys::fuzz_target!(init: { let _ = std::panic::take_hook(); }, |bytes: &[u8]| {
    std::fs::write(&*FILE, bytes).expect("temporary files can be written");
    let Ok(tokenizer) = Tokenizer::from_file(&*FILE) else { return };
    for text in ["", "Hello, wörld! 12 <s>", " \u{1f36f}\n\n\t"] {
        let Ok(ids) = tokenizer.encode(text, true) else { continue };
        let _ = tokenizer.encode_pair(text, "b", true);
        let Ok(whole) = tokenizer.decode(&ids, false) else { continue };
        let mut decoder = tokenizer.stream_decoder(false);
        let pieces: Result<String, _> = ids.iter().map(|id| decoder.push(*id)).collect();
        if let (Ok(pieces), Ok(rest)) = (pieces, decoder.finish()) {
            assert_eq!(pieces + &rest, whole);
        }
    }
});
