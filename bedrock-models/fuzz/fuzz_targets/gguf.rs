//! A GGUF file of any bytes opens or is refused; what opens decodes.
#![no_main]

use bedrock_models::weights::GgufFile;
use bytes::Bytes;

libfuzzer_sys::fuzz_target!(|content: &[u8]| {
    if let Ok(file) = GgufFile::from_bytes(Bytes::copy_from_slice(content), "fuzz.gguf") {
        for tensor in file.checkpoint.iter().filter(|tensor| tensor.elements() < 1 << 20) {
            tensor.to_f32().expect("the length was checked at opening");
        }
    }
});
