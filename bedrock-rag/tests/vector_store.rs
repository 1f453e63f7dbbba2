//! Knowledge bases whose vectors are searched in a store of another kind: same answers, and in step whatever happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bedrock_core::testing::{HashEmbedder, MemoryVectorStore};
use bedrock_core::{
    BoxFuture, Error as CoreError, RetrievalFilter, ScoredRecord, VectorRecord, VectorSearch, VectorStore,
};
use bedrock_rag::{Error, IngestOptions, KnowledgeBase, Search, SearchMode, Source};

/// A store that fails from some call on, as a server that went away.
struct Failing {
    store: MemoryVectorStore,
    calls: AtomicUsize,
}

impl Failing {
    fn after(calls: usize) -> Arc<Self> {
        Arc::new(Self { store: MemoryVectorStore::new(64), calls: AtomicUsize::new(calls) })
    }

    fn let_through(&self, calls: usize) {
        self.calls.store(calls, Ordering::SeqCst);
    }

    fn call<'a, T: Send + 'a>(
        &'a self,
        call: BoxFuture<'a, Result<T, CoreError>>,
    ) -> BoxFuture<'a, Result<T, CoreError>> {
        let left = self.calls.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_ok() {
            call
        } else {
            Box::pin(async { Err(CoreError::service_unavailable("the server went away")) })
        }
    }
}

impl VectorStore for Failing {
    fn dimensions(&self) -> usize {
        self.store.dimensions()
    }
    fn upsert<'a>(&'a self, records: &'a [VectorRecord]) -> BoxFuture<'a, Result<(), CoreError>> {
        self.call(self.store.upsert(records))
    }
    fn delete<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<(), CoreError>> {
        self.call(self.store.delete(ids))
    }
    fn search<'a>(&'a self, request: &'a VectorSearch) -> BoxFuture<'a, Result<Vec<ScoredRecord>, CoreError>> {
        self.call(self.store.search(request))
    }
    fn count(&self) -> BoxFuture<'_, Result<u64, CoreError>> {
        self.call(self.store.count())
    }
}

const ALWAYS: usize = usize::MAX;

/// Some documents change from one version to the next, in text or in attributes; others come and go.
fn sources(version: usize) -> Vec<Source> {
    (0..40)
        .filter(|n| n % 7 != version % 7)
        .map(|n| {
            let edition = if n % 5 == version % 5 { version } else { 0 };
            let text = format!("Document {n} is about subject{n} and speaks of edition{edition}. NUL\0 too.");
            Source::text(format!("d{n:02}"), text).attribute("year", 2000 + n + usize::from(n % 3 == 0) * version)
        })
        .collect()
}

fn whole() -> IngestOptions {
    IngestOptions { delete_missing: true, ..IngestOptions::default() }
}

fn open(folder: &std::path::Path, store: Option<Arc<dyn VectorStore>>) -> Result<KnowledgeBase, Error> {
    let builder = KnowledgeBase::builder(folder, Arc::new(HashEmbedder::new(64)));
    match store {
        Some(store) => builder.vector_store(store).open_or_create(),
        None => builder.open_or_create(),
    }
}

/// Both find the same, with and without a filter.
fn assert_same(one: &KnowledgeBase, other: &KnowledgeBase) {
    assert_eq!(one.documents(), other.documents());
    assert_eq!(one.chunk_count(), other.chunk_count());
    let late: RetrievalFilter = serde_json::from_str(r#"{"greaterThan": {"key": "year", "value": 2020}}"#).unwrap();
    for n in 0..40 {
        for search in
            [Search::new(format!("subject{n} edition3")).results(7), Search::new("subject").results(30).diversity(0.3)]
        {
            for search in [search.clone(), search.filter(late.clone())] {
                let (found, right) = (one.search_blocking(&search).unwrap(), other.search_blocking(&search).unwrap());
                let place = |passage: &bedrock_rag::Passage| {
                    (passage.uri.clone(), passage.text.clone(), passage.metadata.clone())
                };
                // Equally near ones have no order that both know.
                let mut shown: Vec<_> = found.iter().map(|p| (-(p.score * 1e4).round() as i64, place(p).0)).collect();
                let mut expected: Vec<_> =
                    right.iter().map(|p| (-(p.score * 1e4).round() as i64, place(p).0)).collect();
                shown.sort();
                expected.sort();
                let same = shown.iter().zip(&expected).filter(|(a, b)| a.0.abs_diff(b.0) <= 1).count();
                assert_eq!((shown.len(), same), (expected.len(), expected.len()), "{search:?} {shown:?} {expected:?}");
                for passage in found {
                    assert!(passage.text.contains('\0'), "what is read is what was written");
                }
            }
        }
    }
}

#[test]
fn one_line_moves_a_knowledge_base_there_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let local = open(&folder.path().join("local"), None).unwrap();
    let moved = folder.path().join("moved");
    let first = open(&moved, None).unwrap();
    for knowledge_base in [&local, &first] {
        knowledge_base.ingest_blocking(sources(1), &whole()).unwrap();
    }
    drop(first);
    let store = Failing::after(ALWAYS);
    // There: what is known is sent.
    let there = open(&moved, Some(store.clone())).unwrap();
    assert_eq!(store.store.count_blocking().unwrap() as usize, there.chunk_count());
    assert_same(&there, &local);
    for knowledge_base in [&local, &there] {
        knowledge_base.ingest_blocking(sources(2), &whole()).unwrap();
        assert_eq!(knowledge_base.delete(["d01"]).unwrap(), 1);
    }
    assert_same(&there, &local);
    assert_eq!(store.store.count_blocking().unwrap() as usize, there.chunk_count());
    drop(there);
    // Back, and changed meanwhile; then there again, and to a server that is new.
    let back = open(&moved, None).unwrap();
    for knowledge_base in [&local, &back] {
        knowledge_base.ingest_blocking(sources(3), &whole()).unwrap();
    }
    assert_same(&back, &local);
    drop(back);
    let there = open(&moved, Some(store.clone())).unwrap();
    assert_same(&there, &local);
    assert_eq!(store.store.count_blocking().unwrap() as usize, there.chunk_count());
    drop(there);
    assert_same(&open(&moved, Some(Failing::after(ALWAYS))).unwrap(), &local);
}

#[test]
fn a_server_that_fails_at_any_call_is_caught_up_with() {
    let folder = tempfile::tempdir().unwrap();
    let local = open(&folder.path().join("local"), None).unwrap();
    local.ingest_blocking(sources(1), &whole()).unwrap();
    local.ingest_blocking(sources(2), &whole()).unwrap();
    let mut failed = 0;
    for calls in 0.. {
        let (store, folder) = (Failing::after(ALWAYS), folder.path().join(calls.to_string()));
        let knowledge_base = open(&folder, Some(store.clone())).unwrap();
        knowledge_base.ingest_blocking(sources(1), &whole()).unwrap();
        store.let_through(calls);
        match knowledge_base.ingest_blocking(sources(2), &whole()) {
            Ok(_) => break,
            Err(Error::VectorStore { source: CoreError::ServiceUnavailable { .. } }) => failed += 1,
            Err(other) => panic!("{other}"),
        }
        assert!(matches!(knowledge_base.search_blocking(&Search::new("x")), Err(Error::VectorStore { .. })));
        // By the next ingestion, or by the next opening.
        let knowledge_base = if calls % 2 == 0 {
            drop(knowledge_base);
            assert!(matches!(open(&folder, Some(store.clone())), Err(Error::VectorStore { .. })), "opening needs it");
            store.let_through(ALWAYS);
            open(&folder, Some(store.clone())).unwrap()
        } else {
            store.let_through(ALWAYS);
            knowledge_base
        };
        knowledge_base.ingest_blocking(sources(2), &whole()).unwrap();
        assert_same(&knowledge_base, &local);
        assert_eq!(store.store.count_blocking().unwrap() as usize, knowledge_base.chunk_count());
    }
    assert_eq!(failed, 3, "counting, deleting, writing");
}

#[test]
fn what_can_not_be_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let other: Arc<dyn VectorStore> = Arc::new(MemoryVectorStore::new(65));
    let result = open(&folder.path().join("a"), Some(other));
    assert!(matches!(result, Err(Error::DimensionMismatch { expected: 64, got: 65 })), "{result:?}");

    let store = Failing::after(ALWAYS);
    let knowledge_base = open(&folder.path().join("b"), Some(store.clone())).unwrap();
    knowledge_base.ingest_blocking(sources(1), &whole()).unwrap();
    for mode in [SearchMode::Keyword, SearchMode::Hybrid] {
        let result = knowledge_base.search_blocking(&Search::new("subject3").mode(mode));
        assert!(matches!(&result, Err(Error::InvalidRequest(why)) if why.contains("vector store")), "{result:?}");
    }
    // Two knowledge bases in one store.
    let stranger = open(&folder.path().join("c"), Some(store)).unwrap();
    stranger.ingest_blocking([Source::text("x", "subject1 is elsewhere")], &IngestOptions::default()).unwrap();
    let result = stranger.search_blocking(&Search::new("subject1").results(30));
    assert!(matches!(result, Err(Error::VectorStore { source: CoreError::Conflict { .. } })), "{result:?}");

    let sealer = Arc::new(bedrock_core::testing::ChecksumSealer);
    let builder = KnowledgeBase::builder(folder.path().join("d"), Arc::new(HashEmbedder::new(64))).sealer(sealer);
    let result = builder.vector_store(Arc::new(MemoryVectorStore::new(64))).create();
    assert!(matches!(result, Err(Error::InvalidRequest(_))), "{result:?}");
}
