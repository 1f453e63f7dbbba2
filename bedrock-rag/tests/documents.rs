//! Documents of every format from outside: what a reader sees comes out, and a bad file is an error and nothing else.
#![cfg(all(feature = "csv", feature = "office"))]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bedrock_core::EmbeddingModel;
use bedrock_core::testing::HashEmbedder;
use bedrock_rag::chunk::{Chunk, Chunker, Chunking, CountTokens, WordCounter};
use bedrock_rag::document::{Document, ExtractOptions, Format, extract, extract_file};
use bedrock_rag::{Error, IngestOptions, KnowledgeBase, Search, Source};
use futures::future::BoxFuture;

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
fn word_documents_keep_their_structure() {
    let document = read("report.docx");
    assert_eq!(
        document.text,
        "Yearly report\n\nResults\n\nIt was a good year & <better> than before.\n\n- First point\n1. Second point\n\n\
         Quarter\tRegion\tSales\nQ1 Q2\tNorth\t10\n\tSouth\t20\n\nOutlook\n\nBrighter still.\n\nFooter of the report"
    );
    assert_eq!(document.title.as_deref(), Some("Yearly report"));
    assert_eq!(document.metadata["author"], "Ada Writer");
    assert_eq!(document.metadata["created"], "2024-05-01T12:00:00Z");
    assert_eq!(headings(&document), [(1, "Yearly report"), (1, "Results"), (2, "Outlook")]);
    assert_eq!(&document.text[document.tables[0].head.clone()], "Quarter\tRegion\tSales");
}

#[test]
fn word_documents_show_what_a_reader_sees() {
    let document = read("changes.docx");
    assert_eq!(
        document.text,
        "Kept inserted end.\n\nJoined with the next.\n\nResult linked and noted\n\nThe note itself.\n\n\
         Alphaα-x\nbroken\n\nText in a box\n\nName\tValue\na b\t1\n\nIn a control.\n\nRunning head"
    );
}

#[test]
fn old_word_documents_are_put_together_from_their_pieces() {
    let document = read("old.doc");
    assert_eq!(
        document.text,
        "Heading\n\nWith “quotes” and a link and a note.\n\nThe note.\n\nΕλληνικά kept\n\nA\tB\n1\t漢\n\nLast."
    );
    assert_eq!(headings(&document), [(1, "Heading")]);
    assert_eq!(document.format, Some(Format::Doc));
    assert_eq!(read("text.rtf").text, "Café €5\n\nA\tB\n\nEnd");
}

#[test]
fn workbooks_show_dates_and_shares_and_values_of_formulas() {
    let document = read("book.xlsx");
    assert_eq!(
        document.text,
        "Prices & dates\n\nItem\tFrom\tShare\tPrice\tSum\tOpen\nTea\t2024-05-01\t12.5%\t3.5\t7\tTRUE\n\
         Café\t24 Dec 2024 18:30\t100%\t1,234.50 €\nMerged over three\n\nSecret\n\n\tin the hidden sheet"
    );
    assert_eq!(document.metadata["sheets"], serde_json::json!(["Prices & dates", "Secret", "Empty"]));
    assert_eq!(document.metadata["hiddenSheets"], serde_json::json!(["Secret"]));
    assert_eq!(document.title.as_deref(), Some("Prices"));

    let document = read("book.xls");
    assert!(
        document.text.starts_with(
            "Prices\n\nItem\tFrom\tShare\tPrice\nKäse 漢字\t2024-05-01\t25%\t2.5\nMerged\t\t\tTRUE\n\t4000\n\t5000\n"
        ),
        "{}",
        &document.text[..200]
    );
    for row in 0..60 {
        assert!(document.text.contains(&format!("string {row} {}", "long wörds ".repeat(15).trim_end())), "{row}");
    }
    assert_eq!(read("table.csv").text, "Item\tPrice\nTea; black\t3,50");
}

#[test]
fn bad_documents_are_errors_that_say_why() {
    for name in ["entities.docx", "external.docx"] {
        assert!(matches!(bad(name), Error::MalformedDocument { .. }), "{name}");
    }
    assert!(matches!(bad("deep.docx"), Error::DocumentGrows { what: "levels of nesting", .. }));
    assert!(matches!(bad("truncated.docx"), Error::MalformedDocument { .. }));
    assert!(matches!(bad("missing.xlsx"), Error::MalformedDocument { .. }));
    assert!(matches!(bad("encrypted.doc"), Error::EncryptedDocument { .. }));
    assert!(matches!(bad("no-word.doc"), Error::FormatMismatch { .. }));
    let tight = ExtractOptions { max_text_bytes: 4 << 20, ..ExtractOptions::default() };
    let grown = extract_file(&folder().join("bad/ratio.docx"), &tight).unwrap_err();
    assert!(matches!(grown, Error::DocumentGrows { what: "bytes of text", .. }));
    let tight = ExtractOptions { max_expanded_bytes: 4 << 20, ..ExtractOptions::default() };
    let grown = extract_file(&folder().join("bad/ratio.docx"), &tight).unwrap_err();
    assert!(matches!(grown, Error::DocumentGrows { what: "bytes unpacked", .. }));
}

#[test]
fn what_is_odd_beside_the_text_is_left_alone() {
    assert_eq!(read("bad/paths.docx").text, "Text beside bad names.");
    assert!(!Path::new("/tmp/out-of-the-archive.txt").exists());
    assert_eq!(read("bad/nested.docx").text, "Text beside an archive.");
    assert_eq!(read("bad/far.xlsx").text, "S\n\n\tfar away");
}

/// Every fixture cut off anywhere, and with any of its bytes changed, ends in time with a document or an error.
#[test]
fn damaged_documents_end_in_time() {
    let mut seed = 7_u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    let options = ExtractOptions { max_time: Duration::from_secs(4), ..ExtractOptions::default() };
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.extend(std::fs::read_dir(folder().join("bad")).unwrap().map(|entry| entry.unwrap().path()));
    names.sort();
    for path in names.into_iter().filter(|path| path.is_file()) {
        let whole = std::fs::read(&path).unwrap();
        let name = path.to_string_lossy();
        for round in 0..12 {
            let mut bytes = whole.clone();
            if round % 2 == 0 {
                bytes.truncate(random() % whole.len());
            } else {
                for _ in 0..1 + random() % 40 {
                    let at = random() % bytes.len();
                    bytes[at] = random() as u8;
                }
            }
            let started = Instant::now();
            let _ = extract(&name, &bytes, &options);
            assert!(started.elapsed() < Duration::from_secs(60), "{name}, round {round}: {:?}", started.elapsed());
        }
    }
}

/// What the fuzzers started from and what they found is replayed on every run of the tests.
#[test]
fn the_fuzz_corpus_is_survived() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/extract");
    let mut seen = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let started = Instant::now();
        let _ = extract_file(&path, &ExtractOptions::default());
        assert!(started.elapsed() < Duration::from_secs(60), "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 8, "{seen}");
}

fn embedder() -> Arc<dyn EmbeddingModel> {
    Arc::new(HashEmbedder::new(256))
}

#[test]
fn parents_are_returned_and_heads_of_tables_are_found_again() {
    let store = tempfile::tempdir().unwrap();
    let chunking: Chunking = "hierarchical:60:15:0".parse().unwrap();
    let knowledge_base = KnowledgeBase::builder(store.path(), embedder()).chunking(chunking).create().unwrap();
    let rows: String = (0..40).map(|row| format!("planet{row},{}\n", row * 7)).collect();
    let source = Source::bytes("planets.csv", format!("planet,moons\n{rows}"));
    knowledge_base.ingest_blocking([source], &IngestOptions::default()).unwrap();
    let passages = knowledge_base.search_blocking(&Search::new("planet33").results(1)).unwrap();
    assert!(passages[0].text.starts_with("planet\tmoons\n"), "{}", passages[0].text);
    assert!(passages[0].text.contains("planet33\t231"));
    assert!(passages[0].tokens > 15, "the parent comes back, not the child that was found");
}

/// A chunk for every line.
struct Lines;

impl Chunker for Lines {
    fn id(&self) -> String {
        "lines".to_owned()
    }

    fn chunk<'a>(
        &'a self,
        document: &'a Document,
        counter: &'a dyn CountTokens,
        _: &'a dyn EmbeddingModel,
    ) -> BoxFuture<'a, Result<Vec<Chunk>, Error>> {
        Box::pin(async move {
            let mut chunks = Vec::new();
            let mut start = 0;
            for line in document.text.split_inclusive('\n') {
                let end = start + line.trim_end().len();
                if start < end {
                    let tokens = counter.count(&document.text[start..end])?;
                    chunks.push(Chunk { index: chunks.len(), parent: None, tokens, start, end, head: None });
                }
                start += line.len();
            }
            Ok(chunks)
        })
    }
}

#[test]
fn documents_are_cut_by_rules_of_ones_own() {
    let store = tempfile::tempdir().unwrap();
    let open = || KnowledgeBase::builder(store.path(), embedder()).chunker(Arc::new(Lines));
    let knowledge_base = open().create().unwrap();
    knowledge_base.ingest_blocking([Source::text("a", "one\ntwo\n\nthree")], &IngestOptions::default()).unwrap();
    assert_eq!(knowledge_base.chunk_count(), 3);
    drop(knowledge_base);
    let other = KnowledgeBase::builder(store.path(), embedder()).open();
    assert!(matches!(other, Err(Error::ChunkingMismatch { .. })));
    assert_eq!(open().open().unwrap().chunk_count(), 3);
}

#[test]
fn the_chunker_survives_its_fuzz_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/chunk");
    for entry in std::fs::read_dir(corpus).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let document = Document::from_text(text.clone());
        let chunks = "fixed:7:30".parse::<Chunking>().unwrap().chunk_blocking(&document, &WordCounter).unwrap();
        assert!(!chunks.is_empty());
        assert!(chunks.iter().all(|chunk| text.get(chunk.start..chunk.end) == Some(chunk.text(&document))));
    }
}

/// The promises of chunking, on texts of several languages and formats.
#[test]
fn chunks_keep_their_promises_on_real_texts() {
    let mut documents = vec![read("report.docx"), read("book.xls")];
    for text in [
        "Wir trafen uns am 3. Oktober, d.h. nach dem Fest. Danach kam Dr. Weiß! Er sagte nichts. ".repeat(30),
        "これは文です。「行く。」と彼は言った。次の文はもっと長いです！ ".repeat(30),
        "Это первое предложение. Он живёт на ул. Ленина. Почему? ".repeat(30),
        "هذه جملة أولى. وهذه جملة ثانية؟ نعم! ".repeat(30),
        "यह पहला वाक्य है। यह दूसरा वाक्य है। क्या यह तीसरा है? ".repeat(30),
        "นี่คือประโยคภาษาไทยที่ไม่มีช่องว่างระหว่างคำ ".repeat(30),
    ] {
        documents.push(Document::from_text(text));
    }
    for document in &documents {
        for (strategy, most) in [("fixed:40:20", 40), ("default", 200), ("guide", 300), ("hierarchical:120:40:8", 120)]
        {
            let chunking: Chunking = strategy.parse().unwrap();
            let chunks = chunking.chunk_blocking(document, &WordCounter).unwrap();
            let sentences = bedrock_rag::chunk::sentences(document);
            let upper: Vec<&Chunk> = chunks.iter().filter(|chunk| chunk.parent.is_none()).collect();
            for chunk in &chunks {
                assert!(chunk.tokens <= most, "{strategy}");
                assert_eq!(chunk.text(document), &document.text[chunk.start..chunk.end]);
            }
            for sentence in &sentences {
                let fits = WordCounter.count(&document.text[sentence.clone()]).unwrap() <= most;
                let whole = upper.iter().any(|chunk| chunk.start <= sentence.start && sentence.end <= chunk.end);
                assert!(!fits || whole, "{strategy}: {}", &document.text[sentence.clone()]);
            }
            for pair in upper.windows(2) {
                let between = &document.text[pair[0].end.min(pair[1].start)..pair[1].start];
                assert!(between.trim().is_empty(), "{strategy}: {between}");
            }
        }
    }
}
