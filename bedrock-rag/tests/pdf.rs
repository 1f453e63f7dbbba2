//! PDF from outside: pages come out line by line, and a bad file is an error and nothing else.
#![cfg(all(feature = "pdf", feature = "csv", feature = "office"))]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bedrock_core::testing::HashEmbedder;
use bedrock_rag::document::{Document, ExtractOptions, extract_file};
use bedrock_rag::{Error, IngestOptions, KnowledgeBase, Search, keys};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/documents")
}

fn read(name: &str) -> Document {
    extract_file(&folder().join(name), &ExtractOptions::default()).unwrap()
}

fn bad(name: &str) -> Error {
    extract_file(&folder().join("bad").join(name), &ExtractOptions::default()).unwrap_err()
}

fn headings(document: &Document) -> Vec<(u8, &str)> {
    document.headings.iter().map(|heading| (heading.level, heading.text.as_str())).collect()
}

#[test]
fn pages_are_read_line_by_line() {
    for name in ["report.pdf", "broken.pdf", "open.pdf"] {
        let document = read(name);
        assert_eq!(
            document.text,
            "Annual figures\n\nThe first paragraph has two lines\nand ends on the second one.\n\n\
             Another paragraph: café, 10 €.\n\nQuarter\tSales\nQ1\t10\nQ2\t20\n\n\
             column 1 line 1\ncolumn 1 line 2\ncolumn 1 line 3\n\ncolumn 2 line 1\ncolumn 2 line 2\ncolumn 2 line 3\n\n\
             Text of the second page, which is turned.",
            "{name}"
        );
        assert_eq!(headings(&document), [(1, "Annual figures")]);
        assert_eq!(document.page(document.text.find("turned").unwrap()), Some(2));
        assert_eq!(document.metadata["pages"], 2);
        if name != "broken.pdf" {
            assert_eq!(document.title.as_deref(), Some("Annual figures"), "{name}");
        }
    }
}

#[test]
fn bad_pages_are_errors_that_say_why() {
    assert!(matches!(bad("encrypted.pdf"), Error::EncryptedDocument { .. }));
    assert!(matches!(bad("bomb.pdf"), Error::DocumentGrows { what: "bytes unpacked", .. }));
    for name in ["loop.pdf", "header.pdf"] {
        assert!(matches!(bad(name), Error::MalformedDocument { .. }), "{name}: {}", bad(name));
    }
    // Forms that draw themselves three times over, fifty levels deep, and arrays in arrays: whatever comes of them, in time.
    let options = ExtractOptions { max_time: Duration::from_secs(2), ..ExtractOptions::default() };
    for name in ["forms.pdf", "deep.pdf"] {
        let started = Instant::now();
        let _ = extract_file(&folder().join("bad").join(name), &options);
        assert!(started.elapsed() < Duration::from_secs(60), "{name}");
    }
}

#[test]
fn a_knowledge_base_tells_the_page_and_goes_on_after_bad_files() {
    let store = tempfile::tempdir().unwrap();
    let chunking = "fixed:12:0".parse().unwrap();
    let knowledge_base =
        KnowledgeBase::builder(store.path(), Arc::new(HashEmbedder::new(256))).chunking(chunking).create().unwrap();
    let report = knowledge_base.ingest_folder_blocking(folder(), &IngestOptions::default()).unwrap();
    assert!(report.failures.len() >= 10, "{:?}", report.failures);
    assert!(report.failures.iter().all(|(uri, _)| uri.starts_with("bad/")), "{:?}", report.failures);
    let search = Search::new("the second page, which is turned");
    let passages = knowledge_base.search_blocking(&search).unwrap();
    assert_eq!(passages[0].page, Some(2));
    let result = passages[0].clone().into_result();
    assert_eq!(result.metadata[keys::PAGE], 2);
}
