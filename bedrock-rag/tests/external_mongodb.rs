//! MongoDB Atlas, against a server that is played here: it speaks OP_MSG on loopback, keeps documents, and does with `$vectorSearch` and `$search`
//! what MongoDB's documentation says of them. What is asked is compared with what MongoDB's own client in Python asks
//! (`fixtures/vector_stores`).

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bedrock_core::testing::check_vector_store;
use bedrock_core::{Error, RetrievalFilter, TextSearch, VectorRecord, VectorSearch, VectorStore};
use bedrock_rag::external::{MongoDb, MongoDbBuilder};
use futures::executor::block_on;
use mongodb::bson::binary::Vector;
use mongodb::bson::{Bson, Document, doc};
use serde_json::{Value, json};

type Handler = Box<dyn Fn(&Document) -> Reply + Send + Sync>;

enum Reply {
    Document(Document),
    /// Bytes instead of a message.
    Raw(Vec<u8>),
    Nothing,
}

/// A server on loopback; gives its address and the commands that it was asked.
fn serve(handler: Handler) -> (String, Arc<Mutex<Vec<Document>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("mongodb://{}/", listener.local_addr().unwrap());
    let log = Arc::new(Mutex::new(Vec::new()));
    let (written, handler) = (log.clone(), Arc::new(handler));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, written, handler) = (stream.unwrap(), written.clone(), handler.clone());
            std::thread::spawn(move || {
                while let Some((id, command)) = read(&mut stream) {
                    if !command.contains_key("hello") {
                        written.lock().unwrap().push(command.clone());
                    }
                    let bytes = match handler(&command) {
                        Reply::Document(document) => message(id, &document.to_vec().unwrap()),
                        Reply::Raw(bytes) => bytes,
                        Reply::Nothing => continue,
                    };
                    let _ = stream.write_all(&bytes);
                }
            });
        }
    });
    (address, log)
}

/// Length, id, whose answer, OP_MSG; no flags; a body; no checksum.
fn message(answers: i32, body: &[u8]) -> Vec<u8> {
    let length = 21 + body.len() as i32;
    let header = [length, 1, answers, 2013, 0].map(i32::to_le_bytes).concat();
    [header.as_slice(), &[0], body].concat()
}

fn read(stream: &mut TcpStream) -> Option<(i32, Document)> {
    let mut header = [0; 20];
    stream.read_exact(&mut header).ok()?;
    let number = |at: usize| i32::from_le_bytes(header[at..at + 4].try_into().unwrap());
    assert_eq!((number(12), number(16) & !(1 << 16)), (2013, 0), "an OP_MSG without a checksum");
    let mut rest = vec![0; number(0) as usize - 20];
    stream.read_exact(&mut rest).ok()?;
    let (mut command, mut rest) = (Document::new(), rest.as_slice());
    while let Some((kind, after)) = rest.split_first() {
        let length = i32::from_le_bytes(after[..4].try_into().unwrap()) as usize;
        let (section, left) = after.split_at(length);
        rest = left;
        if *kind == 0 {
            command.extend(Document::from_reader(section).unwrap());
        } else {
            let end = 4 + section[4..].iter().position(|byte| *byte == 0).unwrap();
            let (mut documents, mut bytes) = (Vec::new(), &section[end + 1..]);
            while !bytes.is_empty() {
                documents.push(Document::from_reader(&mut bytes).unwrap());
            }
            command.insert(String::from_utf8(section[4..end].to_vec()).unwrap(), documents);
        }
    }
    Some((number(4), command))
}

fn hello() -> Document {
    doc! {"ok": 1.0, "isWritablePrimary": true, "helloOk": true, "maxBsonObjectSize": 16_777_216, "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000, "logicalSessionTimeoutMinutes": 30, "minWireVersion": 0, "maxWireVersion": 25}
}

fn cursor(id: i64, batch: &str, documents: Vec<Document>) -> Document {
    doc! {"ok": 1.0, "cursor": {"id": id, "ns": "d.chunks", batch: documents}}
}

/// What MQL says of a field whose value is a list: each bound is for any of its elements.
fn passes(filter: &Document, document: &Document) -> bool {
    let tokens: Vec<&str> =
        document.get_array("attributes").unwrap().iter().map(|token| token.as_str().unwrap()).collect();
    let each = |all: &Bson| {
        all.as_array().unwrap().iter().map(|one| passes(one.as_document().unwrap(), document)).collect::<Vec<_>>()
    };
    filter.iter().all(|(field, wanted)| match field.as_str() {
        "$and" => each(wanted).iter().all(|one| *one),
        "$or" => each(wanted).contains(&true),
        "attributes" => wanted.as_document().unwrap().iter().all(|(operator, value)| {
            let among = || tokens.iter().any(|token| value.as_array().unwrap().contains(&Bson::from(*token)));
            match operator.as_str() {
                "$in" => among(),
                "$nin" => !among(),
                "$gte" => tokens.iter().any(|token| *token >= value.as_str().unwrap()),
                "$lt" => tokens.iter().any(|token| *token < value.as_str().unwrap()),
                other => panic!("{other}"),
            }
        }),
        other => panic!("{other} is no field of the index"),
    })
}

/// How well an operator of `$search` fits, if it does.
fn fits(operator: &Document, document: &Document) -> Option<f64> {
    let (kind, wanted) = operator.iter().next().unwrap();
    let wanted = wanted.as_document().unwrap();
    match kind.as_str() {
        "in" => {
            let (tokens, any) = (document.get_array("attributes").unwrap(), wanted.get_array("value").unwrap());
            assert!(wanted.get_str("path").unwrap() == "attributes" && !any.is_empty());
            tokens.iter().any(|token| any.contains(token)).then_some(1.0)
        }
        "text" => {
            let cut = |text: &str| -> Vec<String> {
                let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
                words.map(str::to_lowercase).collect()
            };
            let (words, query) = (cut(document.get_str("text").unwrap()), cut(wanted.get_str("query").unwrap()));
            let count = query.iter().filter(|word| words.contains(word)).count();
            (count > 0).then_some(count as f64)
        }
        "compound" => {
            let each = |part: &str| -> Vec<Option<f64>> {
                let all = wanted.get_array(part).map(Vec::as_slice).unwrap_or_default();
                all.iter().map(|one| fits(one.as_document().unwrap(), document)).collect()
            };
            let (must, should) = (each("must"), each("should"));
            assert!(should.is_empty() || wanted.get_i32("minimumShouldMatch").unwrap() == 1);
            let holds = must.iter().chain(&each("filter")).all(Option::is_some)
                && each("mustNot").iter().all(Option::is_none)
                && (should.is_empty() || should.iter().any(Option::is_some));
            holds.then(|| must.into_iter().chain(should).flatten().sum())
        }
        other => panic!("{other}"),
    }
}

fn floats(value: &Bson) -> Vec<f32> {
    let Bson::Binary(binary) = value else { panic!("{value} is no vector") };
    let Vector::Float32(vector) = Vector::try_from(binary).unwrap() else { panic!("{value} is not of floats") };
    vector
}

#[derive(Default)]
struct Atlas {
    made: bool,
    indexes: BTreeMap<String, Document>,
    documents: BTreeMap<String, Document>,
    open: Vec<Document>,
    /// Times that indexes are described as not ready.
    building: usize,
}

impl Atlas {
    fn aggregate(&mut self, pipeline: &[Bson]) -> Vec<Document> {
        let stage = |at: usize| pipeline.get(at).and_then(Bson::as_document).and_then(|stage| stage.iter().next());
        let (name, first) = stage(0).unwrap();
        let shown = |document: &Document, fields: &Document, meta: &str, score: f64| {
            assert_eq!(fields.get_document("score").unwrap().get_str("$meta").unwrap(), meta);
            let mut document = document.clone();
            document.insert("score", score);
            document.into_iter().filter(|(field, _)| field == "_id" || fields.contains_key(field)).collect::<Document>()
        };
        match name.as_str() {
            "$listSearchIndexes" => {
                let ready = self.building == 0;
                self.building = self.building.saturating_sub(1);
                let described = self.indexes.iter().map(|(name, index)| {
                    doc! {"id": "1", "name": name, "type": index.get_str("type").unwrap(), "queryable": ready,
                    "status": if ready { "READY" } else { "BUILDING" }, "latestDefinition": index.get_document("definition").unwrap().clone()}
                });
                described.collect()
            }
            "$match" => vec![doc! {"_id": 1, "n": self.documents.len() as i64}],
            "$vectorSearch" => {
                let first = first.as_document().unwrap();
                let limit = first.get_i32("limit").unwrap();
                match first.get_bool("exact") {
                    Ok(true) => assert!(!first.contains_key("numCandidates")),
                    _ => assert!((limit..=10_000).contains(&first.get_i32("numCandidates").unwrap())),
                }
                assert_eq!(first.get_str("path").unwrap(), "vector");
                if !self.indexes.contains_key(first.get_str("index").unwrap()) {
                    return Vec::new();
                }
                let query = floats(&first["queryVector"]);
                let (_, fields) = stage(1).unwrap();
                let dot = |document: &Document| {
                    floats(&document["vector"]).iter().zip(&query).map(|(a, b)| a * b).sum::<f32>()
                };
                let through =
                    |document: &&Document| first.get_document("filter").map_or(true, |filter| passes(filter, document));
                let mut found: Vec<(f32, &Document)> =
                    self.documents.values().filter(through).map(|document| (dot(document), document)).collect();
                // Equals the other way round than the contract has them: the service promises nothing.
                found.reverse();
                found.sort_by(|a, b| b.0.total_cmp(&a.0));
                found.truncate(limit as usize);
                let shown = |(dot, document): (f32, &Document)| {
                    shown(document, fields.as_document().unwrap(), "vectorSearchScore", (1.0 + f64::from(dot)) / 2.0)
                };
                found.into_iter().map(shown).collect()
            }
            "$search" => {
                let first = first.as_document().unwrap();
                assert!(self.indexes.contains_key(first.get_str("index").unwrap()));
                let operator = doc! {"compound": first.get_document("compound").unwrap().clone()};
                let fit = |document: &Document| Some((fits(&operator, document)?, document.clone()));
                let mut found: Vec<(f64, Document)> = self.documents.values().filter_map(fit).collect();
                found.sort_by(|a, b| b.0.total_cmp(&a.0));
                found.truncate(stage(1).unwrap().1.as_i32().unwrap() as usize);
                let fields = stage(2).unwrap().1.as_document().unwrap();
                found.iter().map(|(score, document)| shown(document, fields, "searchScore", *score)).collect()
            }
            other => panic!("{other}"),
        }
    }

    fn answer(&mut self, command: &Document) -> Document {
        let (name, value) = command.iter().next().unwrap();
        if name != "hello" && name != "endSessions" {
            assert_eq!(command.get_str("$db").unwrap(), "d");
        }
        let list = |field: &str| command.get_array(field).unwrap().iter().map(|one| one.as_document().unwrap());
        match name.as_str() {
            "hello" => hello(),
            "endSessions" => doc! {"ok": 1.0},
            "create" if self.made => {
                doc! {"ok": 0.0, "code": 48, "codeName": "NamespaceExists", "errmsg": "there is one"}
            }
            "create" => {
                self.made = true;
                doc! {"ok": 1.0}
            }
            "createSearchIndexes" => {
                assert!(self.made);
                for index in list("indexes") {
                    self.indexes.insert(index.get_str("name").unwrap().to_owned(), index.clone());
                }
                doc! {"ok": 1.0, "indexesCreated": []}
            }
            "update" => {
                assert_eq!(command.get_document("writeConcern").unwrap(), &doc! {"w": "majority"});
                for update in list("updates") {
                    let document = update.get_document("u").unwrap();
                    if document.get_str("text").unwrap() == "refused by the server" {
                        let failed = doc! {"index": 0, "code": 2, "errmsg": "as asked"};
                        return doc! {"ok": 1.0, "n": 0, "writeErrors": [failed]};
                    }
                    let id = update.get_document("q").unwrap().get_str("_id").unwrap();
                    assert!(update.get_bool("upsert").unwrap() && document.get_str("_id").unwrap() == id);
                    self.documents.insert(id.to_owned(), document.clone());
                }
                doc! {"ok": 1.0, "n": 1, "nModified": 1}
            }
            "delete" => {
                for delete in list("deletes") {
                    for id in delete.get_document("q").unwrap().get_document("_id").unwrap().get_array("$in").unwrap() {
                        self.documents.remove(id.as_str().unwrap());
                    }
                }
                doc! {"ok": 1.0, "n": 1}
            }
            "aggregate" => {
                assert_eq!(value.as_str().unwrap(), "chunks");
                let mut found = self.aggregate(command.get_array("pipeline").unwrap());
                // In parts, as answers of more than 16 MiB come.
                self.open = found.split_off(found.len().min(5));
                cursor(if self.open.is_empty() { 0 } else { 7 }, "firstBatch", found)
            }
            "getMore" => cursor(0, "nextBatch", std::mem::take(&mut self.open)),
            other => panic!("{other}"),
        }
    }
}

fn atlas(building: usize) -> Handler {
    let atlas = Mutex::new(Atlas { building, ..Atlas::default() });
    Box::new(move |command| Reply::Document(atlas.lock().unwrap().answer(command)))
}

/// What each command is answered but `hello`.
fn always(answer: impl Fn(&Document) -> Reply + Send + Sync + 'static) -> Handler {
    Box::new(move |command| if command.contains_key("hello") { Reply::Document(hello()) } else { answer(command) })
}

fn builder(address: &str) -> MongoDbBuilder {
    MongoDb::builder(address).database("d").collection("chunks").timeout(Duration::from_secs(20))
}

#[test]
fn the_contract_is_kept() {
    for (dimensions, exact) in [(2, false), (7, true)] {
        let store = builder(&serve(atlas(2)).0).exact(exact).connect(dimensions).unwrap();
        block_on(check_vector_store(&store));
        block_on(check_vector_store(&store));
    }
}

#[test]
fn numbers_that_are_no_whole_ones_are_compared_by_the_server() {
    let (address, log) = serve(atlas(0));
    let store = builder(&address).connect(2).unwrap();
    let years = [-1e300, -2.5, -0.0, 1e-310, 1.5, 9_007_199_254_740_993.0, 1e300];
    let records: Vec<VectorRecord> = (0..7)
        .map(|n| VectorRecord::new(format!("r{n}"), [1.0, n as f32], "").attribute("Year (AD)", years[n]))
        .collect();
    store.upsert_blocking(&records).unwrap();
    let ask = |operator: &str, bound: f64| -> Vec<String> {
        let filter: RetrievalFilter =
            serde_json::from_value(json!({operator: {"key": "Year (AD)", "value": bound}})).unwrap();
        let found = store.search_blocking(&VectorSearch::new([1.0, 0.0], 7).filter(filter)).unwrap();
        found.into_iter().map(|found| found.record.id).collect()
    };
    let asked = log.lock().unwrap().len();
    assert_eq!(ask("greaterThan", 1e-310), ["r4", "r5", "r6"]);
    assert_eq!(ask("lessThanOrEquals", 0.0), ["r0", "r1", "r2"]);
    assert_eq!(ask("lessThan", -2.5), ["r0"]);
    assert_eq!(log.lock().unwrap().len() - asked, 3, "no more than these was asked for");
}

fn as_json(value: &Bson) -> Value {
    match value {
        Bson::Document(document) => document.iter().map(|(field, value)| (field.clone(), as_json(value))).collect(),
        Bson::Array(list) => list.iter().map(as_json).collect(),
        Bson::Binary(_) => json!({"float32": floats(value)}),
        Bson::String(text) => json!(text),
        Bson::Boolean(value) => json!(value),
        Bson::Int32(number) => json!(number),
        Bson::Double(number) => json!(number),
        other => panic!("{other}"),
    }
}

/// The commands that the vendor's client sends for the same, without what says who asks.
#[test]
fn requests_are_those_of_the_vendors_client() {
    let recorded: Value = serde_json::from_str(include_str!("fixtures/vector_stores/mongodb.json")).unwrap();
    let (address, log) = serve(atlas(0));
    let store = builder(&address).connect(2).unwrap();
    store.upsert_blocking(&[VectorRecord::new("a", [1.0, 0.0], "t").attribute("d", "it")]).unwrap();
    let filter = json!({"andAll": [{"equals": {"key": "d", "value": "it"}}, {"notEquals": {"key": "e", "value": true}},
        {"orAll": [{"greaterThanOrEquals": {"key": "n", "value": 2}}, {"startsWith": {"key": "d", "value": "pe"}}]}]});
    let filter: RetrievalFilter = serde_json::from_value(filter).unwrap();
    store.search_blocking(&VectorSearch::new([1.0, 0.0], 3).filter(filter.clone())).unwrap();
    store.search_text_blocking(&TextSearch::new("some words", 3).filter(filter)).unwrap();
    store.count_blocking().unwrap();
    store.delete_blocking(&["a".to_owned()]).unwrap();
    let shown = |command: &Document| -> Value {
        let mut command = command.clone();
        for field in ["lsid", "$db", "apiVersion", "$clusterTime", "maxTimeMS", "$readPreference", "txnNumber"] {
            command.remove(field);
        }
        if let Ok(cursor) = command.get_document_mut("cursor") {
            cursor.clear();
        }
        as_json(&Bson::Document(command))
    };
    let asked: Vec<Value> = log.lock().unwrap().iter().map(shown).collect();
    for theirs in recorded.as_array().unwrap() {
        assert!(asked.contains(theirs), "not asked: {theirs:#}\nbut {asked:#?}");
    }
    assert!(recorded.as_array().unwrap().len() >= 8);
}

#[test]
fn what_the_server_refuses_is_told_without_the_password() {
    let refuse = |code: i32| {
        always(move |_| {
            Reply::Document(doc! {"ok": 0.0, "code": code, "codeName": "X", "errmsg": "bad password: hunter2"})
        })
    };
    for (code, expected) in
        [(13, "AccessDenied"), (18, "AccessDenied"), (26, "ResourceNotFound"), (31082, "DependencyFailed")]
    {
        let (address, _) = serve(refuse(code));
        let error = builder(&address).connect(2).unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{error:?}");
        // With a password the driver asks for it first.
        let (address, _) = serve(refuse(code));
        let address = address.replace("mongodb://", "mongodb://me:hunter2@");
        let error = builder(&address).connect(2).unwrap_err();
        let told = format!("{error:?} {error}");
        assert!(matches!(error, Error::AccessDenied { .. }) && !told.contains("hunter2"), "{told}");
    }
    let (address, _) = serve(atlas(0));
    let store = builder(&address).connect(2).unwrap();
    let refused = store.upsert_blocking(&[VectorRecord::new("a", [1.0, 0.0], "refused by the server")]);
    assert!(
        matches!(&refused, Err(Error::DependencyFailed { message, .. }) if message.contains("as asked")),
        "{refused:?}"
    );
    assert!(matches!(builder(&address).connect(3), Err(Error::Validation { .. })));
    let large = VectorRecord::new("a", [1.0, 0.0], "x".repeat(15 << 20));
    assert!(matches!(store.upsert_blocking(&[large]), Err(Error::Validation { .. })));
    // More than one request's worth.
    let many: Vec<VectorRecord> =
        (0..300).map(|n| VectorRecord::new(format!("r{n}"), [1.0, 0.0], "x".repeat(40_000))).collect();
    store.upsert_blocking(&many).unwrap();
    assert_eq!(store.count_blocking().unwrap(), 300);
}

#[test]
fn indexes_of_others_and_such_that_are_never_ready_are_told() {
    let field = |kind: &str, path: &str| doc! {"type": kind, "path": path, "numDimensions": 2, "similarity": "cosine"};
    let with = |fields: Vec<Document>| {
        always(move |command| {
            let index =
                |name: &str| doc! {"name": name, "queryable": true, "latestDefinition": {"fields": fields.clone()}};
            Reply::Document(match command.iter().next().unwrap().0.as_str() {
                "aggregate" => cursor(0, "firstBatch", vec![index("bedrock_vector"), index("bedrock_text")]),
                _ => doc! {"ok": 1.0},
            })
        })
    };
    let (vector, filter) = (field("vector", "vector"), field("filter", "attributes"));
    builder(&serve(with(vec![vector.clone(), filter.clone()])).0).connect(2).unwrap();
    let mut euclidean = vector.clone();
    euclidean.insert("similarity", "euclidean");
    for fields in [
        vec![vector.clone()],
        vec![filter.clone()],
        vec![],
        vec![field("vector", "embedding"), filter.clone()],
        vec![euclidean, filter],
    ] {
        let result = builder(&serve(with(fields)).0).connect(2);
        assert!(matches!(result, Err(Error::Validation { .. })), "{result:?}");
    }
    let result = builder(&serve(atlas(usize::MAX)).0).index_timeout(Duration::from_millis(200)).connect(2);
    assert!(
        matches!(&result, Err(Error::ServiceUnavailable { message, .. }) if message.contains("not ready")),
        "{result:?}"
    );
}

#[test]
fn answers_that_are_none_are_errors() {
    let endless = || {
        always(|command| {
            let batch = if command.contains_key("getMore") { "nextBatch" } else { "firstBatch" };
            let index = doc! {"name": "other", "queryable": true};
            Reply::Document(cursor(7, batch, vec![index; 100]))
        })
    };
    let fat = || {
        always(|_| Reply::Document(cursor(7, "nextBatch", vec![doc! {"name": "other", "x": "x".repeat(10 << 20)}; 3])))
    };
    let odd = |document: Document| always(move |_| Reply::Document(document.clone()));
    let raw = |bytes: &'static [u8]| always(move |_| Reply::Raw(bytes.to_vec()));
    let cut: &[u8] = &[255, 255, 255, 127, 1, 0, 0, 0, 1, 0, 0, 0, 221, 7, 0, 0, 0, 0, 0, 0];
    let negative: &[u8] = &[255, 255, 255, 255, 1, 0, 0, 0, 1, 0, 0, 0, 221, 7, 0, 0, 0, 0, 0, 0];
    for (what, handler) in [
        ("endless", endless()),
        ("fat", fat()),
        ("no cursor", odd(doc! {"ok": 1.0})),
        ("a cursor of numbers", odd(doc! {"ok": 1.0, "cursor": {"id": 0_i64, "ns": "d.chunks", "firstBatch": [1, 2]}})),
        ("an index without a name", odd(cursor(0, "firstBatch", vec![doc! {"queryable": true}]))),
        ("nothing is all right", odd(doc! {})),
        ("two gigabytes", raw(cut)),
        ("less than nothing", raw(negative)),
        ("http", raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        ("zeros", raw(&[0; 64])),
    ] {
        let result = builder(&serve(handler).0).timeout(Duration::from_secs(3)).connect(2);
        let told = format!("{result:?}");
        assert!(
            ["BadGateway", "DependencyFailed", "ServiceUnavailable"].iter().any(|kind| told.contains(kind)),
            "{what}: {told}"
        );
    }
    // Records that are none, or more than were asked for.
    for bad in [doc! {"_id": "a"}, doc! {"_id": "a", "text": "t", "metadata": "{}", "score": "x"}] {
        let inner = atlas(0);
        let (address, _) = serve(Box::new(move |command| {
            let shown = format!("{command}");
            if shown.contains("$vectorSearch") {
                Reply::Document(cursor(0, "firstBatch", vec![bad.clone(); 3]))
            } else {
                inner(command)
            }
        }));
        let store = builder(&address).connect(2).unwrap();
        let result = store.search_blocking(&VectorSearch::new([1.0, 0.0], 3));
        assert!(matches!(result, Err(Error::BadGateway { .. })), "{result:?}");
    }
}

#[test]
fn a_server_that_does_not_answer_is_given_up_and_a_lost_connection_made_anew() {
    let short = Duration::from_millis(300);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("mongodb://{}/", listener.local_addr().unwrap());
    let result = builder(&address).timeout(short).connect(2);
    assert!(matches!(result, Err(Error::ServiceUnavailable { .. })), "{result:?}");
    let result = builder(&serve(always(|_| Reply::Nothing)).0).timeout(short).connect(2);
    assert!(matches!(result, Err(Error::ServiceUnavailable { .. })), "{result:?}");
    // The first of each two writes gets no answer but bytes that are none, upon which the driver hangs up.
    let (inner, writes) = (atlas(0), Mutex::new(0));
    let (address, _) = serve(Box::new(move |command| {
        if command.contains_key("update") {
            *writes.lock().unwrap() += 1;
            if *writes.lock().unwrap() % 2 == 1 {
                return Reply::Document(
                    doc! {"ok": 0.0, "code": 10107, "errmsg": "not primary", "errorLabels": ["RetryableWriteError"]},
                );
            }
        }
        inner(command)
    }));
    let store = builder(&address).connect(2).unwrap();
    store.upsert_blocking(&[VectorRecord::new("a", [1.0, 0.0], "t")]).unwrap();
    assert_eq!(store.count_blocking().unwrap(), 1);
}
