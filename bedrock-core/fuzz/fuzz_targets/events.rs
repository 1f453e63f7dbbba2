//! Events in any order, one a line, are an answer or an error.
#![no_main]

use bedrock_core::Collector;

libfuzzer_sys::fuzz_target!(|lines: &str| {
    let mut collector = Collector::new();
    for line in lines.lines() {
        let Ok(event) = serde_json::from_str(line) else { return };
        if collector.push(event).is_err() {
            return;
        }
    }
    let _ = collector.finish();
});
