//! Knowledge bases that stay in step with where their documents come from: by the clock, by events, by demand; folders and buckets.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bedrock_core::testing::HashEmbedder;
use bedrock_rag::document::Folder;
use bedrock_rag::{
    Content, DataSource, Error, IngestOptions, IngestionReport, IngestionStatus, KnowledgeBase, Reported, S3Bucket,
    Schedule, Search, Source, Synchroniser,
};

fn knowledge_base(folder: &std::path::Path) -> Arc<KnowledgeBase> {
    Arc::new(KnowledgeBase::create(folder, Arc::new(HashEmbedder::new(64))).unwrap())
}

fn whole() -> IngestOptions {
    IngestOptions { delete_missing: true, ..IngestOptions::default() }
}

type Reports = Receiver<Result<IngestionReport, Error>>;

fn reports() -> (Reported, Reports) {
    let (sender, receiver) = channel();
    (Box::new(move |report| drop(sender.send(report))), receiver)
}

fn next(reports: &Reports) -> Result<IngestionReport, Error> {
    reports.recv_timeout(Duration::from_secs(120)).expect("a synchronisation ends")
}

/// Documents in memory, which may be gone.
#[derive(Default)]
struct Shelf {
    documents: Mutex<Option<Vec<(String, String)>>>,
    reads: Arc<Mutex<Vec<String>>>,
}

impl Shelf {
    fn put(&self, documents: &[(&str, &str)]) {
        let documents = documents.iter().map(|(uri, text)| (uri.to_string(), text.to_string())).collect();
        *self.documents.lock().unwrap() = Some(documents);
    }
}

impl DataSource for Shelf {
    fn documents(&self) -> Result<Vec<Source>, Error> {
        let documents = self.documents.lock().unwrap();
        let Some(documents) = &*documents else { return Err(Error::InvalidRequest("the shelf is gone".into())) };
        let source = |(uri, text): &(String, String)| {
            let (reads, own, bytes) = (self.reads.clone(), uri.clone(), text.clone().into_bytes());
            let read = move |_| {
                reads.lock().unwrap().push(own.clone());
                Ok(bytes.clone())
            };
            Source { version: Some(format!("v{}", text.len())), ..Source::new(uri.as_str(), Content::reader(read)) }
        };
        Ok(documents.iter().map(source).collect())
    }
}

#[test]
fn by_demand_by_the_clock_and_after_failures() {
    let folder = tempfile::tempdir().unwrap();
    let knowledge_base = knowledge_base(folder.path());
    let shelf = Arc::new(Shelf::default());
    shelf.put(&[("a.txt", "one"), ("b.txt", "two!")]);
    let (reported, received) = reports();
    let schedule = Schedule::default();
    let running = Synchroniser::start(knowledge_base.clone(), shelf.clone(), schedule, whole(), reported).unwrap();
    assert_eq!(next(&received).unwrap().statistics.number_of_new_documents_indexed, 2);
    *shelf.documents.lock().unwrap() = None;
    running.now();
    assert!(matches!(next(&received), Err(Error::InvalidRequest(_))));
    assert_eq!(knowledge_base.document_count(), 2, "what can't be listed is not taken for empty");
    shelf.put(&[("b.txt", "two!"), ("c.txt", "three")]);
    shelf.reads.lock().unwrap().clear();
    running.now();
    let statistics = next(&received).unwrap().statistics;
    assert_eq!((statistics.number_of_documents_deleted, statistics.number_of_documents_skipped), (1, 1));
    assert_eq!(*shelf.reads.lock().unwrap(), ["c.txt"], "what has the same version is not read");
    running.stop();
    assert!(received.recv_timeout(Duration::from_secs(1)).is_err(), "nothing comes after it was stopped");

    let (reported, received) = reports();
    let schedule = Schedule { every: Some(Duration::from_millis(1)), ..Schedule::default() };
    let running = Synchroniser::start(knowledge_base.clone(), shelf.clone(), schedule, whole(), reported).unwrap();
    for _ in 0..3 {
        assert_eq!(next(&received).unwrap().statistics.number_of_documents_skipped, 2);
    }
    drop(running);
    let schedule = Schedule { on_change: true, ..Schedule::default() };
    let refused = Synchroniser::start(knowledge_base, shelf, schedule, whole(), reports().0);
    assert!(matches!(refused, Err(Error::InvalidRequest(_))), "a shelf has no folder");
}

#[test]
fn stopping_ends_what_runs_and_keeps_what_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let knowledge_base = knowledge_base(folder.path());
    let (begun, running) = channel();
    let (go_on, gate) = channel::<()>();
    let (begun, gate) = (Mutex::new(begun), Mutex::new(gate));
    let pause = move |statistics: &bedrock_rag::IngestionStatistics| {
        if statistics.number_of_documents_scanned == 3 {
            let _ = begun.lock().unwrap().send(());
            let _ = gate.lock().unwrap().recv();
        }
    };
    let shelf = Arc::new(Shelf::default());
    let documents: Vec<(String, String)> = (0..100).map(|n| (format!("{n}.txt"), format!("text {n}"))).collect();
    *shelf.documents.lock().unwrap() = Some(documents);
    let options = IngestOptions { progress: Some(Arc::new(pause)), ..whole() };
    let (cancel, (reported, received)) = (options.cancel.clone(), reports());
    let synchroniser =
        Synchroniser::start(knowledge_base.clone(), shelf, Schedule::default(), options, reported).unwrap();
    running.recv_timeout(Duration::from_secs(60)).unwrap();
    cancel.cancel();
    drop(go_on);
    synchroniser.stop();
    let report = next(&received).unwrap();
    assert_eq!((report.status, knowledge_base.document_count()), (IngestionStatus::Stopped, 3));
}

#[test]
fn a_folder_is_followed_as_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let documents = folder.path().join("documents");
    std::fs::create_dir_all(documents.join("below")).unwrap();
    std::fs::write(documents.join("a.md"), "First of all.").unwrap();
    let knowledge_base = knowledge_base(&folder.path().join("kb"));
    let (reported, received) = reports();
    let schedule = Schedule { on_change: true, settle: Duration::from_millis(50), ..Schedule::default() };
    let source = Arc::new(Folder::new(&documents));
    let running = Synchroniser::start(knowledge_base.clone(), source, schedule, whole(), reported).unwrap();
    assert_eq!(next(&received).unwrap().statistics.number_of_new_documents_indexed, 1);
    let seen = |done: &dyn Fn() -> bool| {
        while !done() {
            next(&received).unwrap();
        }
    };
    std::fs::write(documents.join("below/b.md"), "Second of all.").unwrap();
    seen(&|| knowledge_base.document_count() == 2);
    std::fs::write(documents.join("a.md"), "Zebras are striped.").unwrap();
    seen(&|| {
        knowledge_base.search_blocking(&Search::new("Zebras striped").results(1)).unwrap()[0].text.contains("Zebras")
    });
    std::fs::remove_file(documents.join("below/b.md")).unwrap();
    seen(&|| knowledge_base.document_count() == 1);
    running.stop();
}

/// A bucket: keys to contents. It gives lists in pages of two.
struct Bucket {
    objects: Arc<Mutex<BTreeMap<String, String>>>,
    asked: Arc<Mutex<Vec<String>>>,
    address: String,
}

fn bucket() -> Bucket {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (objects, asked) = (Arc::new(Mutex::new(BTreeMap::<String, String>::new())), Arc::new(Mutex::new(Vec::new())));
    let (held, written) = (objects.clone(), asked.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<String> = lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let path = head[0].split(' ').nth(1).unwrap().to_owned();
            let header = |name: &str| head.iter().find_map(|line| line.strip_prefix(name).map(str::to_owned));
            let signed = header("authorization: ").unwrap_or_default();
            let good = signed.starts_with("AWS4-HMAC-SHA256 Credential=KEYID/")
                && signed.contains("/eu-test-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token, Signature=")
                && header("x-amz-security-token: ").as_deref() == Some("token");
            written.lock().unwrap().push(path.clone());
            let objects = held.lock().unwrap();
            let (status, body) = match path.strip_prefix("/docs") {
                _ if !good => (
                    403,
                    "<Error><Code>SignatureDoesNotMatch</Code><Message>not with hunter2</Message></Error>".to_owned(),
                ),
                Some(query) if query.starts_with('?') => {
                    assert!(
                        query.contains("encoding-type=url")
                            && query.contains("list-type=2")
                            && query.contains("prefix=in%2F")
                    );
                    let from =
                        query.split('&').find_map(|part| part.strip_prefix("?continuation-token=")).unwrap_or("");
                    let from: usize = from.parse().unwrap_or(0);
                    let page: Vec<_> = objects.iter().skip(from).take(2).collect();
                    let contents: String = page
                        .iter()
                        .map(|(key, text)| {
                            let key = key.replace(' ', "+").replace('/', "%2F");
                            format!(
                                "<Contents><Key>{key}</Key><ETag>&quot;{}-{}&quot;</ETag></Contents>",
                                text.len(),
                                &text[..1]
                            )
                        })
                        .collect();
                    let more = from + 2 < objects.len();
                    let next = if more {
                        format!("<NextContinuationToken>{}</NextContinuationToken>", from + 2)
                    } else {
                        String::new()
                    };
                    (
                        200,
                        format!(
                            "<ListBucketResult xmlns=\"x\"><IsTruncated>{more}</IsTruncated>{contents}{next}</ListBucketResult>"
                        ),
                    )
                }
                Some(key) => match objects.get(&key[1..].replace("%20", " ")) {
                    Some(text) => (200, text.clone()),
                    None => (404, "<Error><Code>NoSuchKey</Code></Error>".to_owned()),
                },
                None => (400, String::new()),
            };
            let length = body.len();
            let _ =
                write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        }
    });
    Bucket { objects, asked, address }
}

#[test]
fn a_list_without_end_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for (count, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            lines.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
            let token = format!("<NextContinuationToken>{}</NextContinuationToken>", count % 2);
            // It ends, so that who does not give up gets an empty list, not none.
            let more = count < 1000;
            let body = format!("<ListBucketResult><IsTruncated>{more}</IsTruncated>{token}</ListBucketResult>");
            let length = body.len();
            let _ = write!(stream, "HTTP/1.1 200 X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let source = S3Bucket::new("docs", "eu-test-1").endpoint(&address).credentials("KEYID", "hunter2");
    let error = knowledge_base(folder.path()).ingest_from_blocking(&source, &whole()).unwrap_err();
    assert!(matches!(error, Error::DataSource { .. }), "{error:?}");
}

#[test]
fn a_bucket_is_a_source() {
    let folder = tempfile::tempdir().unwrap();
    let knowledge_base = knowledge_base(folder.path());
    let server = bucket();
    let put = |key: &str, text: &str| server.objects.lock().unwrap().insert(key.to_owned(), text.to_owned());
    put("in/", "\0");
    put("in/a b.md", "Alpha is about apples.");
    put("in/c.md", "Gamma is about cherries.");
    put("in/c.md.metadata.json", r#"{"metadataAttributes": {"year": 2024}}"#);
    put("in/d.md", "Delta is about dates.");
    put("in/d.md.metadata.json", r#"{"metadataAttributes": []}"#);
    put("in/large.md", &"word ".repeat(1000));
    let source =
        S3Bucket::new("docs", "eu-test-1").prefix("in/").endpoint(&server.address).credentials("KEYID", "hunter2");
    let signed = source.clone().session_token("token");
    let mut options = whole();
    options.extract.max_bytes = 1000;
    let report = knowledge_base.ingest_from_blocking(&signed, &options).unwrap();
    assert_eq!(report.statistics.number_of_new_documents_indexed, 2);
    let failed: Vec<&str> = report.failures.iter().map(|(uri, _)| uri.as_str()).collect();
    assert_eq!(failed, ["s3://docs/in/d.md", "s3://docs/in/large.md"]);
    assert!(matches!(report.failures[0].1, Error::BadMetadata { .. }), "{:?}", report.failures);
    assert!(matches!(report.failures[1].1, Error::DocumentTooLarge { limit: 1000, .. }), "{:?}", report.failures);
    let found = knowledge_base.search_blocking(&Search::new("Gamma cherries").results(1)).unwrap().remove(0);
    assert_eq!((found.uri.as_str(), &found.metadata["year"]), ("s3://docs/in/c.md", &serde_json::json!(2024)));
    assert_eq!(found.into_result().location.unwrap().s3_location.unwrap().uri.as_deref(), Some("s3://docs/in/c.md"));

    // Nothing has changed: lists, sidecars and what failed are read, nothing else.
    server.asked.lock().unwrap().clear();
    let statistics = knowledge_base.ingest_from_blocking(&signed, &options).unwrap().statistics;
    assert_eq!((statistics.number_of_documents_skipped, statistics.number_of_documents_failed), (2, 2));
    assert!(!server.asked.lock().unwrap().iter().any(|path| path.ends_with("/a%20b.md") || path.ends_with("/c.md")));
    put("in/a b.md", "Beta is about bananas.");
    server.objects.lock().unwrap().remove("in/c.md");
    let statistics = knowledge_base.ingest_from_blocking(&signed, &options).unwrap().statistics;
    assert_eq!((statistics.number_of_modified_documents_indexed, statistics.number_of_documents_deleted), (1, 1));

    // Refused: an error, and nothing is deleted.
    let error = knowledge_base.ingest_from_blocking(&source, &options).unwrap_err();
    assert!(matches!(&error, Error::DataSource { source: bedrock_core::Error::AccessDenied { .. }, .. }), "{error:?}");
    assert!(!format!("{error:?}").contains("hunter2"));
    assert_eq!(knowledge_base.document_count(), 1);
}
