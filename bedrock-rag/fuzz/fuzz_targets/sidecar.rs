//! Metadata of any bytes is read or refused; filters of any JSON (the second line, if there is one) are checked and asked about it.
#![no_main]

use bedrock_rag::document::parse_sidecar;
use bedrock_rag::filter;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let metadata = parse_sidecar("a.metadata.json", &bytes[..end]).unwrap_or_default();
    if let Ok(filter) = serde_json::from_slice(bytes.get(end + 1..).unwrap_or_default()) {
        let _ = filter::validate(&filter);
        filter::passes(&filter, &metadata);
    }
});
