//! An ingestion that is killed: what was committed is there, whole, and the next ingestion completes it.
//!
//! The test starts itself as another process, which ingests, and kills that at moments spread over the ingestion.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bedrock_core::testing::HashEmbedder;
use bedrock_rag::{IngestOptions, KnowledgeBase, Search, Source};

const FOLDER: &str = "BEDROCK_RAG_KILL_TEST_FOLDER";

fn sources() -> impl Iterator<Item = Source> + Send {
    (0..3000)
        .map(|n| Source::text(format!("d{n:04}"), format!("Document {n} is about subject{n}. It says little else.")))
}

fn open(folder: &std::path::Path) -> KnowledgeBase {
    KnowledgeBase::builder(folder, Arc::new(HashEmbedder::new(64))).open_or_create().unwrap()
}

/// Does nothing unless it is the other process.
#[test]
fn child() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        // Slowed down, so that there is a middle to be killed in.
        let slowly = |_: &bedrock_rag::IngestionStatistics| std::thread::sleep(Duration::from_micros(300));
        let options = IngestOptions { progress: Some(Arc::new(slowly)), ..IngestOptions::default() };
        open(folder.as_ref()).ingest_blocking(sources(), &options).unwrap();
    }
}

#[test]
fn killed_ingestions_leave_what_was_committed() {
    let folder = tempfile::tempdir().unwrap();
    let start = |folder: &std::path::Path| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child"])
            .env(FOLDER, folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let undisturbed = folder.path().join("undisturbed");
    let began = Instant::now();
    assert!(start(&undisturbed).wait().unwrap().success());
    let whole = began.elapsed();

    let mut partial = 0;
    for attempt in 0..10u32 {
        let disturbed = folder.path().join(format!("disturbed{attempt}"));
        let mut child = start(&disturbed);
        std::thread::sleep(whole * (attempt + 1) / 11 + Duration::from_millis(u64::from(attempt % 3)));
        let _ = child.kill();
        child.wait().unwrap();
        // Killed before there was a store at all, or while it was being made: there is nothing to open, and that is said.
        let store = disturbed.join("store.redb");
        let embedder = Arc::new(HashEmbedder::new(64));
        let knowledge_base = match KnowledgeBase::open(&disturbed, embedder) {
            Ok(knowledge_base) => knowledge_base,
            Err(error) => {
                assert!(attempt < 3, "{error}");
                let _ = std::fs::remove_file(store);
                continue;
            }
        };
        knowledge_base.verify().unwrap();
        let kept = knowledge_base.document_count();
        partial += usize::from(kept > 0 && kept < 3000);
        let report = knowledge_base.ingest_blocking(sources(), &IngestOptions::default()).unwrap();
        assert_eq!(report.statistics.number_of_documents_skipped, kept as u64);
        assert_eq!(report.statistics.number_of_new_documents_indexed, 3000 - kept as u64);
        knowledge_base.verify().unwrap();
        let other = open(&undisturbed);
        assert_eq!(knowledge_base.documents(), other.documents());
        for n in [0, 777, 2999] {
            let search = Search::new(format!("subject{n}")).results(1);
            let found = knowledge_base.search_blocking(&search).unwrap();
            let expected = other.search_blocking(&search).unwrap();
            assert_eq!((&found[0].uri, &found[0].text), (&expected[0].uri, &expected[0].text));
        }
    }
    assert!(partial > 0, "no attempt was killed in the middle; the test shows nothing");
}
