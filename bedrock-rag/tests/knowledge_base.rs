//! A knowledge base from outside: what goes in comes out, whatever happens in between.

use std::fs;
use std::sync::Arc;

use bedrock_core::testing::{HashEmbedder, OverlapReranker};
use bedrock_core::{EmbeddingModel, RetrievalFilter, RetrieveRequest, Retriever};
#[cfg(feature = "keyword")]
use bedrock_rag::Fusion;
use bedrock_rag::chunk::Chunking;
use bedrock_rag::index::HnswSettings;
use bedrock_rag::{
    Cancellation, Error, IngestOptions, IngestionStatus, KnowledgeBase, Search, SearchMode, Source, keys,
};

fn embedder() -> Arc<dyn EmbeddingModel> {
    Arc::new(HashEmbedder::new(128))
}

fn handbook() -> Vec<Source> {
    vec![
        Source::text("leave.md", "Employees get thirty days of holiday a year. Unused holiday expires in March.")
            .attribute("dept", "people"),
        Source::text("travel.md", "Trains are booked through the travel desk. Flights need approval by a manager.")
            .attribute("dept", "finance"),
        Source::text("security.md", "Passwords have at least sixteen characters. Report lost laptops within an hour.")
            .attribute("dept", "it"),
    ]
}

fn filled(folder: &std::path::Path) -> KnowledgeBase {
    let knowledge_base = KnowledgeBase::create(folder, embedder()).unwrap();
    let report = knowledge_base.ingest_blocking(handbook(), &IngestOptions::default()).unwrap();
    assert_eq!(report.statistics.number_of_new_documents_indexed, 3);
    assert!(report.failures.is_empty());
    knowledge_base
}

#[test]
fn the_right_passage_is_found_with_source_score_and_offsets() {
    let folder = tempfile::tempdir().unwrap();
    let knowledge_base = filled(folder.path());
    let passages = knowledge_base.search_blocking(&Search::new("How many days of holiday do employees get?")).unwrap();
    assert_eq!(passages[0].uri, "leave.md");
    assert!(passages.windows(2).all(|pair| pair[0].score >= pair[1].score));
    assert!(passages.iter().all(|passage| (0.0..=1.0).contains(&passage.score)));
    assert_eq!((passages[0].start, passages[0].end), (0, passages[0].text.len()));

    let request = RetrieveRequest::new(knowledge_base.id(), "lost laptops").number_of_results(1);
    let response = knowledge_base.retrieve_blocking(&request).unwrap();
    let result = &response.retrieval_results[0];
    assert_eq!(result.document_id.as_deref(), Some("security.md"));
    assert_eq!(result.metadata[keys::SOURCE_URI], "security.md");
    assert_eq!(result.metadata["dept"], "it");
    assert_eq!(result.metadata[keys::START], 0);
}

#[test]
fn filters_hold_in_every_result() {
    let folder = tempfile::tempdir().unwrap();
    let knowledge_base = filled(folder.path());
    let search = Search::new("holiday").filter(RetrievalFilter::equals("dept", "it"));
    let passages = knowledge_base.search_blocking(&search).unwrap();
    assert_eq!(passages.len(), 1);
    assert_eq!(passages[0].uri, "security.md");
    let nonsense: RetrievalFilter = serde_json::from_str(r#"{"lessThan":{"key":"a","value":"b"}}"#).unwrap();
    assert!(matches!(
        knowledge_base.search_blocking(&Search::new("x").filter(nonsense)),
        Err(Error::InvalidRequest(_))
    ));
}

#[test]
fn what_cannot_be_honoured_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let knowledge_base = filled(folder.path());
    for search in
        [Search::new(" "), Search::new("x".repeat(20_001)), Search::new("x").results(0), Search::new("x").rerank()]
    {
        assert!(matches!(knowledge_base.search_blocking(&search), Err(Error::InvalidRequest(_))));
    }
    let other = RetrieveRequest::new("ABCDEFGHIJ", "x");
    let error = knowledge_base.retrieve_blocking(&other).unwrap_err();
    assert_eq!(error.exception_name(), "ResourceNotFoundException");
    let mut paged = RetrieveRequest::new(knowledge_base.id(), "x");
    paged.next_token = Some("more".to_owned());
    assert_eq!(knowledge_base.retrieve_blocking(&paged).unwrap_err().exception_name(), "ValidationException");
    #[cfg(not(feature = "keyword"))]
    assert!(matches!(
        knowledge_base.search_blocking(&Search::new("x").mode(SearchMode::Hybrid)),
        Err(Error::InvalidRequest(_))
    ));
    assert!(knowledge_base.search_blocking(&Search::new("x").mode(SearchMode::Vector)).is_ok());
}

#[cfg(feature = "keyword")]
#[test]
fn keyword_and_hybrid_follow_changes() {
    let folder = tempfile::tempdir().unwrap();
    let knowledge_base = filled(folder.path());
    let find = |text: &str, mode| -> Vec<String> {
        let passages = knowledge_base.search_blocking(&Search::new(text).mode(mode)).unwrap();
        assert!(passages.iter().all(|passage| (0.0..=1.0).contains(&passage.score)));
        passages.into_iter().map(|passage| passage.uri).collect()
    };
    assert_eq!(find("flight", SearchMode::Keyword), ["travel.md"]);
    assert_eq!(find("password characters", SearchMode::Hybrid)[0], "security.md");
    let changed = vec![Source::text("travel.md", "Bicycles are free."), Source::text("new.md", "Flights are banned.")];
    knowledge_base.ingest_blocking(changed, &IngestOptions::default()).unwrap();
    assert_eq!(find("flight", SearchMode::Keyword), ["new.md"]);
    assert_eq!(find("bicycle", SearchMode::Keyword), ["travel.md"]);
    let filter = Search::new("flight bicycle").mode(SearchMode::Hybrid).filter(RetrievalFilter::equals("dept", "it"));
    let filtered = knowledge_base.search_blocking(&filter).unwrap();
    assert!(filtered.iter().all(|passage| passage.uri == "security.md"));
    knowledge_base.delete(["new.md"]).unwrap();
    assert!(find("flight", SearchMode::Keyword).is_empty());
}

#[test]
fn passages_that_repeat_give_way_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let knowledge_base = KnowledgeBase::create(folder.path(), embedder()).unwrap();
    let mut sources: Vec<Source> =
        (0..3).map(|n| Source::text(format!("copy{n}"), "Laptops are lost in trains and found in trains.")).collect();
    sources.push(Source::text("other", "Lost laptops must be reported to the desk within one hour."));
    knowledge_base.ingest_blocking(sources, &IngestOptions::default()).unwrap();
    let search = Search::new("Laptops are lost in trains").results(2);
    let uris = |search: &Search| -> Vec<String> {
        knowledge_base.search_blocking(search).unwrap().into_iter().map(|passage| passage.uri).collect()
    };
    assert_eq!(uris(&search), ["copy0", "copy1"]);
    assert_eq!(uris(&search.clone().diversity(0.7)), ["copy0", "other"]);
    assert_eq!(uris(&search.clone().diversity(0.0)), uris(&search));
    assert!(matches!(knowledge_base.search_blocking(&search.diversity(1.5)), Err(Error::InvalidRequest(_))));
}

#[test]
fn scores_below_the_least_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let knowledge_base = filled(folder.path());
    let all = knowledge_base.search_blocking(&Search::new("How many days of holiday?")).unwrap();
    assert_eq!(all.len(), 3);
    let some = knowledge_base.search_blocking(&Search::new("How many days of holiday?").min_score(all[1].score));
    assert_eq!(some.unwrap(), all[..2]);
}

#[cfg(feature = "keyword")]
#[test]
fn hybrid_rankings_are_joined_as_asked() {
    let folder = tempfile::tempdir().unwrap();
    drop(filled(folder.path()));
    let knowledge_base =
        KnowledgeBase::builder(folder.path(), embedder()).fusion(Fusion::Weighted { vector: 0.0 }).open().unwrap();
    let search = Search::new("flights and passwords in a year").mode(SearchMode::Hybrid);
    let of = |search: &Search| -> Vec<(String, f32)> {
        let passages = knowledge_base.search_blocking(search).unwrap();
        assert!(passages.windows(2).all(|pair| pair[0].score >= pair[1].score));
        assert!(passages.iter().all(|passage| (0.0..=1.0).contains(&passage.score)));
        passages.into_iter().map(|passage| (passage.uri, passage.score)).collect()
    };
    let order = |ranked: Vec<(String, f32)>| ranked.into_iter().map(|(uri, _)| uri).collect::<Vec<_>>();
    let by_words = order(of(&search.clone().mode(SearchMode::Keyword)));
    assert_eq!(order(of(&search))[..by_words.len()], by_words, "all weight on words");
    let by_meaning = order(of(&search.clone().mode(SearchMode::Vector)));
    assert_eq!(order(of(&search.clone().fusion(Fusion::Weighted { vector: 1.0 }))), by_meaning);
    let wrong = search.fusion(Fusion::Weighted { vector: 2.0 });
    assert!(matches!(knowledge_base.search_blocking(&wrong), Err(Error::InvalidRequest(_))));
}

/// A writer and two readers of one folder: readers see what was committed, and change nothing.
#[test]
fn readers_follow_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    let writer = filled(folder.path());
    let open = || KnowledgeBase::builder(folder.path(), embedder()).read_only(true).open().unwrap();
    let readers = [open(), open()];
    let search = Search::new("Bicycles are free").results(1);
    for reader in &readers {
        assert_ne!(reader.search_blocking(&search).unwrap()[0].uri, "bikes.md");
    }
    writer.ingest_blocking([Source::text("bikes.md", "Bicycles are free.")], &IngestOptions::default()).unwrap();
    writer.delete(["travel.md"]).unwrap();
    for reader in &readers {
        assert_eq!(reader.search_blocking(&search).unwrap()[0].uri, "bikes.md");
        assert_eq!(reader.document_count(), 3);
        assert!(matches!(reader.delete(["bikes.md"]), Err(Error::ReadOnly { .. })));
        let refused = reader.ingest_blocking(handbook(), &IngestOptions::default());
        assert!(matches!(refused, Err(Error::ReadOnly { .. })));
    }
    assert!(matches!(KnowledgeBase::open(folder.path(), embedder()), Err(Error::Locked { .. })), "one writer");
    drop(writer);
    assert_eq!(readers[0].search_blocking(&search).unwrap()[0].uri, "bikes.md");
    let none = tempfile::tempdir().unwrap();
    let created = KnowledgeBase::builder(none.path(), embedder()).read_only(true).open_or_create();
    assert!(matches!(created, Err(Error::ReadOnly { .. })));
}

#[test]
fn reranking_orders_anew() {
    let folder = tempfile::tempdir().unwrap();
    drop(filled(folder.path()));
    let knowledge_base = KnowledgeBase::builder(folder.path(), embedder())
        .reranker("overlap", Arc::new(OverlapReranker))
        .open()
        .unwrap();
    let passages = knowledge_base.search_blocking(&Search::new("report lost laptops").results(1).rerank()).unwrap();
    assert_eq!(passages.len(), 1);
    assert_eq!(passages[0].uri, "security.md");
}

#[test]
fn sync_skips_replaces_and_deletes() {
    let folder = tempfile::tempdir().unwrap();
    let knowledge_base = filled(folder.path());
    let report = knowledge_base.ingest_blocking(handbook(), &IngestOptions::default()).unwrap();
    assert_eq!(report.statistics.number_of_documents_skipped, 3);

    let mut changed = handbook();
    changed.remove(1);
    changed[0] = Source::text("leave.md", "Employees get forty days of holiday a year.").attribute("dept", "people");
    changed[1] = handbook().remove(2).attribute("year", 2025);
    changed.push(Source::bytes("picture.png", *b"\x89PNG\r\n\x1a\n"));
    changed.push(Source::text("security.md", "again"));
    let options = IngestOptions { delete_missing: true, ..IngestOptions::default() };
    let report = knowledge_base.ingest_blocking(changed, &options).unwrap();
    let statistics = &report.statistics;
    assert_eq!(statistics.number_of_documents_scanned, 4);
    assert_eq!(statistics.number_of_modified_documents_indexed, 1);
    assert_eq!(statistics.number_of_metadata_documents_modified, 1);
    assert_eq!(statistics.number_of_documents_failed, 2);
    assert_eq!(statistics.number_of_documents_deleted, 1);
    assert!(matches!(report.failures[0], (ref uri, Error::UnsupportedFormat { .. }) if uri == "picture.png"));
    assert_eq!(serde_json::to_value(statistics).unwrap()["numberOfModifiedDocumentsIndexed"], 1, "the service's names");
    knowledge_base.verify().unwrap();
    let uris: Vec<String> = knowledge_base.documents().into_iter().map(|document| document.uri).collect();
    assert_eq!(uris, ["leave.md", "security.md"]);
    let found = knowledge_base.search_blocking(&Search::new("days of holiday")).unwrap();
    assert!(found[0].text.contains("forty"));
    assert_eq!(found.iter().find(|passage| passage.uri == "security.md").unwrap().metadata["year"], 2025);
}

#[test]
fn folders_are_ingested_with_their_sidecars() {
    let documents = tempfile::tempdir().unwrap();
    fs::write(documents.path().join("a.md"), "# Alpha\n\nAll about alpha.").unwrap();
    fs::write(documents.path().join("a.md.metadata.json"), r#"{"metadataAttributes":{"year":2024}}"#).unwrap();
    fs::create_dir(documents.path().join("sub")).unwrap();
    fs::write(documents.path().join("sub/b.html"), "<title>Beta</title><p>All about beta.").unwrap();
    fs::write(documents.path().join("c.png"), b"\x89PNG\r\n\x1a\n").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let knowledge_base = KnowledgeBase::create(folder.path(), embedder()).unwrap();
    let report = knowledge_base.ingest_folder_blocking(documents.path(), &IngestOptions::default()).unwrap();
    assert_eq!(report.statistics.number_of_new_documents_indexed, 2);
    assert_eq!(report.statistics.number_of_metadata_documents_scanned, 1);
    assert_eq!(report.statistics.number_of_documents_failed, 1);
    let found = knowledge_base.search_blocking(&Search::new("beta")).unwrap();
    assert_eq!((found[0].uri.as_str(), found[0].title.as_deref()), ("sub/b.html", Some("Beta")));
    let found = knowledge_base.search_blocking(&Search::new("alpha")).unwrap();
    assert_eq!(found[0].metadata["year"], 2024);
    assert_eq!(found[0].headings, ["Alpha"]);
}

#[test]
fn cancelling_keeps_what_was_done() {
    let folder = tempfile::tempdir().unwrap();
    let knowledge_base = KnowledgeBase::create(folder.path(), embedder()).unwrap();
    let cancel = Cancellation::default();
    let stop = cancel.clone();
    let options = IngestOptions {
        cancel,
        progress: Some(Arc::new(move |statistics| {
            if statistics.number_of_documents_scanned == 2 {
                stop.cancel();
            }
        })),
        delete_missing: true,
        ..IngestOptions::default()
    };
    let report = knowledge_base.ingest_blocking(handbook(), &options).unwrap();
    assert_eq!(report.status, IngestionStatus::Stopped);
    assert_eq!(knowledge_base.document_count(), 2);
    let report = knowledge_base.ingest_blocking(handbook(), &IngestOptions::default()).unwrap();
    assert_eq!(
        (report.statistics.number_of_documents_skipped, report.statistics.number_of_new_documents_indexed),
        (2, 1)
    );
}

#[test]
fn hierarchies_return_parents_once() {
    let folder = tempfile::tempdir().unwrap();
    let knowledge_base = KnowledgeBase::builder(folder.path(), embedder())
        .chunking("hierarchical:40:10:0".parse().unwrap())
        .create()
        .unwrap();
    let text: String = (0..20).map(|n| format!("Sentence {n} speaks of topic number {n}. ")).collect();
    knowledge_base.ingest_blocking([Source::text("t", text)], &IngestOptions::default()).unwrap();
    knowledge_base.verify().unwrap();
    let passages = knowledge_base.search_blocking(&Search::new("topic number 7")).unwrap();
    assert!(passages.iter().all(|passage| passage.tokens > 10 && passage.tokens <= 40));
    let mut ids: Vec<u64> = passages.iter().map(|passage| passage.chunk_id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), passages.len());
    assert!(passages[0].text.contains("topic number 7"));
}

#[test]
fn other_embedders_chunkings_and_openers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let knowledge_base = filled(folder.path());
    assert!(matches!(KnowledgeBase::open(folder.path(), embedder()), Err(Error::Locked { .. })));
    assert!(matches!(KnowledgeBase::create(folder.path(), embedder()), Err(Error::AlreadyExists { .. })));
    drop(knowledge_base);
    let other = Arc::new(HashEmbedder::new(64));
    assert!(matches!(KnowledgeBase::open(folder.path(), other), Err(Error::EmbedderMismatch { .. })));
    let chunked = KnowledgeBase::builder(folder.path(), embedder()).chunking(Chunking::None).open();
    assert!(matches!(chunked, Err(Error::ChunkingMismatch { .. })));
    let none = tempfile::tempdir().unwrap();
    assert!(matches!(KnowledgeBase::open(none.path(), embedder()), Err(Error::NotFound { .. })));
    assert_eq!(KnowledgeBase::open(folder.path(), embedder()).unwrap().document_count(), 3);
}

/// With a graph from the first vectors on: it is saved, loaded, and made again when it is damaged or gone.
#[test]
fn a_damaged_or_missing_graph_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let open = || KnowledgeBase::builder(folder.path(), embedder()).graph_from(16).hnsw(HnswSettings::default());
    let knowledge_base = open().create().unwrap();
    let sources =
        (0..60).map(|n| Source::text(format!("d{n}"), format!("Document {n} mentions subject{n} and theme{}.", n % 7)));
    knowledge_base.ingest_blocking(sources, &IngestOptions::default()).unwrap();
    let query = Search::new("subject42").results(3);
    let expected = knowledge_base.search_blocking(&query).unwrap();
    assert_eq!(expected[0].uri, "d42");
    drop(knowledge_base);

    let graph = folder.path().join("vectors.hnsw");
    let reopened = open().open().unwrap();
    assert_eq!(reopened.recovered(), None);
    assert_eq!(reopened.search_blocking(&query).unwrap(), expected);
    // Changes are seen at once, without the graph being built again.
    reopened.delete(["d42"]).unwrap();
    reopened.ingest_blocking([Source::text("d99", "subject99")], &IngestOptions::default()).unwrap();
    assert_ne!(reopened.search_blocking(&query).unwrap()[0].uri, "d42");
    assert_eq!(reopened.search_blocking(&Search::new("subject99")).unwrap()[0].uri, "d99");
    drop(reopened);

    let mut bytes = fs::read(&graph).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&graph, bytes).unwrap();
    let reopened = open().open().unwrap();
    assert!(reopened.recovered().unwrap().contains("checksum"));
    assert_eq!(reopened.search_blocking(&Search::new("subject99")).unwrap()[0].uri, "d99");
    drop(reopened);
    assert_eq!(open().open().unwrap().recovered(), None, "the new graph was saved");
    fs::remove_file(&graph).unwrap();
    assert!(open().open().unwrap().recovered().unwrap().contains("missing"));
    let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["store.redb", "vectors.hnsw"], "no stray files");
}

#[test]
fn futures_can_move_between_threads() {
    fn check<T: Send>(value: T) -> T {
        value
    }
    let folder = tempfile::tempdir().unwrap();
    let knowledge_base = filled(folder.path());
    let options = IngestOptions::default();
    drop(check(knowledge_base.ingest(handbook(), &options)));
    drop(check(knowledge_base.search(&Search::new("x"))));
    fn share<T: Send + Sync>(_: &T) {}
    share(&knowledge_base);
}
