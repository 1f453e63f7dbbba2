//! A document of any bytes is read or refused, by every parser, within its limits; a panic of a parser is a finding.
#![no_main]

use bedrock_rag::Error;
use bedrock_rag::document::{ExtractOptions, extract};

// A panic of the parser of PDF is caught and is an error; libFuzzer's hook would end the process before that.
libfuzzer_sys::fuzz_target!(init: { let _ = std::panic::take_hook(); }, |bytes: &[u8]| {
    // Smaller limits than the usual ones, so that bombs cost little time.
    let options = ExtractOptions { max_expanded_bytes: 4 << 20, max_text_bytes: 1 << 20, ..ExtractOptions::default() };
    for name in ["a.doc", "a.docx", "a.rtf", "a.xls", "a.xlsx", "a.csv", "a.pdf", "a.html", "a.md"] {
        match extract(name, bytes, &options) {
            Ok(document) => {
                assert!(document.text.len() <= 1 << 20);
                for table in &document.tables {
                    assert!(document.text.get(table.range.clone()).is_some());
                    assert!(document.text.get(table.head.clone()).is_some());
                }
                assert!(document.headings.iter().all(|heading| document.text.is_char_boundary(heading.start)));
                assert!(document.pages.is_sorted());
            }
            Err(Error::ParserFailed { message, .. }) if name != "a.pdf" => panic!("{message}"),
            Err(_) => {}
        }
    }
});
