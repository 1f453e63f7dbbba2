//! Text of any kind is cut into chunks that keep their promises.
#![no_main]

use bedrock_rag::chunk::{Chunking, WordCounter};
use bedrock_rag::document::Document;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let document = Document::from_text(text);
    for strategy in ["fixed:7:30", "hierarchical:20:5:2", "default"] {
        let chunking: Chunking = strategy.parse().expect("it is one of ours");
        let chunks = chunking.chunk_blocking(&document, &WordCounter).expect("words are always counted");
        let mut end = 0;
        for chunk in chunks.iter().filter(|chunk| chunk.parent.is_none()) {
            assert!(!chunk.text(&document).trim().is_empty());
            let between = text.get(end.min(chunk.start)..chunk.start).expect("offsets lie between characters");
            assert!(between.chars().all(|character| character.is_whitespace() || character == '\u{feff}'));
            end = chunk.end;
        }
    }
});
