//! Stores of vectors over HTTP, against servers that are played here: each does what its vendor's description of the interface says, on
//! loopback. What is asked is compared with what the vendor's own client asks (`fixtures/vector_stores`).

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bedrock_core::testing::check_vector_store;
use bedrock_core::{Error, RetrievalFilter, VectorRecord, VectorSearch, VectorStore};
use bedrock_rag::external::{OpenSearch, Pinecone, Qdrant};
use futures::executor::block_on;
use serde_json::{Value, json};

#[derive(Clone, Debug)]
struct Asked {
    method: String,
    path: String,
    key: String,
    body: Value,
}

type Handler = Box<dyn Fn(&Asked) -> (u16, Value) + Send>;

/// A server on loopback; gives its address and what it was asked.
fn serve(handler: Handler) -> (String, Arc<Mutex<Vec<Asked>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let log = Arc::new(Mutex::new(Vec::new()));
    let written = log.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let Some(asked) = read(&stream) else { continue };
            let (status, answer) = handler(&asked);
            written.lock().unwrap().push(asked);
            let body = if answer.is_null() { String::new() } else { answer.to_string() };
            let length = body.len();
            let _ =
                write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        }
    });
    (address, log)
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut parts = line.split_whitespace();
    let (method, path) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let (mut length, mut key) = (0, String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "api-key" | "authorization" => key = value.to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let text = String::from_utf8(body).unwrap();
    let lines = || Value::Array(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect());
    let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or_else(|_| lines()) };
    Some(Asked { method, path, key, body })
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

/// The best of what passes, by dot product (vectors come at length 1).
fn nearest<'r>(
    records: &'r BTreeMap<String, (Vec<f32>, Value)>,
    query: &[f32],
    limit: usize,
    passes: impl Fn(&Value) -> bool,
) -> Vec<(f32, &'r String, &'r Vec<f32>, &'r Value)> {
    let dot = |vector: &[f32]| vector.iter().zip(query).map(|(a, b)| a * b).sum::<f32>();
    let found = records.iter().filter(|(_, (_, payload))| passes(payload));
    let mut found: Vec<_> = found.map(|(id, (vector, payload))| (dot(vector), id, vector, payload)).collect();
    // Equals the other way round than the contract has them: servers promise nothing.
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(a.1)));
    found.truncate(limit);
    found
}

fn in_range(number: &Value, range: &Value) -> bool {
    number.as_f64().is_some_and(|number| {
        range.as_object().unwrap().iter().all(|(bound, limit)| {
            let limit = limit.as_f64().unwrap();
            match bound.trim_start_matches('$') {
                "gt" => number > limit,
                "gte" => number >= limit,
                "lt" => number < limit,
                "lte" => number <= limit,
                other => panic!("{other}"),
            }
        })
    })
}

/// Any element of a field, or the field itself.
fn elements(payload: &Value, key: &str) -> Vec<Value> {
    match &payload[key] {
        Value::Null => Vec::new(),
        Value::Array(values) => values.clone(),
        value => vec![value.clone()],
    }
}

fn qdrant_passes(filter: &Value, payload: &Value) -> bool {
    let holds = |condition: &Value| -> bool {
        let Some(key) = condition["key"].as_str() else { return qdrant_passes(condition, payload) };
        let any = elements(payload, key);
        if let Some(range) = condition.get("range") {
            return any.iter().any(|value| in_range(value, range));
        }
        match condition["match"].as_object().unwrap().iter().next().unwrap() {
            (kind, wanted) if kind == "any" => any.iter().any(|value| wanted.as_array().unwrap().contains(value)),
            (kind, wanted) if kind == "text" => {
                any.iter().any(|value| value.as_str().unwrap().contains(wanted.as_str().unwrap()))
            }
            other => panic!("{other:?}"),
        }
    };
    let all = |part: &str| filter[part].as_array().cloned().unwrap_or_default();
    all("must").iter().all(holds)
        && !all("must_not").iter().any(holds)
        && (filter["should"].is_null() || all("should").iter().any(holds))
}

fn qdrant() -> Handler {
    let state = Mutex::new((None::<u64>, BTreeMap::<String, (Vec<f32>, Value)>::new()));
    let ok = |result: Value| (200, json!({"status": "ok", "time": 0.0, "result": result}));
    Box::new(move |asked| {
        let (size, points) = &mut *state.lock().unwrap();
        let body = &asked.body;
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", "/collections/chunks") => match size {
                None => (404, json!({"status": {"error": "Not found: Collection `chunks` doesn't exist!"}})),
                Some(size) => ok(json!({"config": {"params": {"vectors": {"size": size, "distance": "Cosine"}}}})),
            },
            ("PUT", "/collections/chunks") => {
                *size = body["vectors"]["size"].as_u64();
                ok(json!(true))
            }
            ("PUT", "/collections/chunks/index?wait=true") => ok(json!({"status": "completed"})),
            ("PUT", "/collections/chunks/points?wait=true") => {
                for point in body["points"].as_array().unwrap() {
                    let value = (floats(&point["vector"]), point["payload"].clone());
                    points.insert(point["id"].as_str().unwrap().to_owned(), value);
                }
                ok(json!({"status": "completed"}))
            }
            ("POST", "/collections/chunks/points/delete?wait=true") => {
                for id in body["points"].as_array().unwrap() {
                    points.remove(id.as_str().unwrap());
                }
                ok(json!({"status": "completed"}))
            }
            ("POST", "/collections/chunks/points/count") => ok(json!({"count": points.len()})),
            ("POST", "/collections/chunks/points/query") => {
                let limit = body["limit"].as_u64().unwrap() as usize;
                let passes = |payload: &Value| body["filter"].is_null() || qdrant_passes(&body["filter"], payload);
                let found = nearest(points, &floats(&body["query"]["nearest"]), limit, passes);
                let with = body["with_vector"] == true;
                let shown = found.into_iter().map(|(score, id, vector, payload)| {
                    json!({"id": id, "version": 1, "score": score, "payload": payload,
                        "vector": if with { json!(vector) } else { Value::Null }})
                });
                ok(json!({"points": shown.collect::<Vec<_>>()}))
            }
            other => panic!("{other:?}"),
        }
    })
}

fn opensearch_passes(filter: &Value, source: &Value) -> bool {
    let (kind, wanted) = filter.as_object().unwrap().iter().next().unwrap();
    let tokens = || elements(source, "attributes").into_iter().map(|token| token.as_str().unwrap().to_owned());
    match kind.as_str() {
        "match_all" => true,
        "terms" => tokens().any(|token| wanted["attributes"].as_array().unwrap().contains(&json!(token))),
        "prefix" => tokens().any(|token| token.starts_with(wanted["attributes"]["value"].as_str().unwrap())),
        "wildcard" => {
            let pattern = wanted["attributes"]["value"].as_str().unwrap();
            let (start, part) = pattern.strip_suffix('*').unwrap().split_once('*').unwrap();
            tokens().any(|token| token.strip_prefix(start).is_some_and(|rest| rest.contains(part)))
        }
        "range" => {
            let (field, range) = wanted.as_object().unwrap().iter().next().unwrap();
            in_range(&source["numbers"][field.strip_prefix("numbers.").unwrap()], range)
        }
        "match" => {
            let text = source["text"].as_str().unwrap().to_lowercase();
            let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).collect();
            let query = wanted["text"]["query"].as_str().unwrap().to_lowercase();
            query.split(|c: char| !c.is_alphanumeric()).any(|word| !word.is_empty() && words.contains(&word))
        }
        "bool" => {
            let all = |part: &str| wanted[part].as_array().cloned().unwrap_or_default();
            all("must").iter().chain(&all("filter")).all(|one| opensearch_passes(one, source))
                && !all("must_not").iter().any(|one| opensearch_passes(one, source))
                && (wanted["should"].is_null() || all("should").iter().any(|one| opensearch_passes(one, source)))
        }
        other => panic!("{other}"),
    }
}

fn opensearch() -> Handler {
    let state = Mutex::new((None::<u64>, BTreeMap::<String, (Vec<f32>, Value)>::new()));
    Box::new(move |asked| {
        let (size, documents) = &mut *state.lock().unwrap();
        let body = &asked.body;
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", "/chunks/_mapping") => match size {
                None => (404, json!({"error": {"type": "index_not_found_exception"}, "status": 404})),
                Some(size) => (
                    200,
                    json!({"chunks": {"mappings": {"properties": {"vector": {"type": "knn_vector", "dimension": size}}}}}),
                ),
            },
            ("PUT", "/chunks") => {
                *size = body.pointer("/mappings/properties/vector/dimension").and_then(Value::as_u64);
                (200, json!({"acknowledged": true}))
            }
            ("POST", "/chunks/_bulk?refresh=true") => {
                let lines = if body.is_array() { body.as_array().unwrap().clone() } else { vec![body.clone()] };
                let mut lines = lines.into_iter();
                while let Some(action) = lines.next() {
                    if let Some(id) = action.pointer("/delete/_id") {
                        documents.remove(id.as_str().unwrap());
                        continue;
                    }
                    let document = lines.next().unwrap();
                    if document["text"] == "refused by the server" {
                        let error = json!({"type": "mapper_parsing_exception", "reason": "as asked"});
                        return (200, json!({"errors": true, "items": [{"index": {"status": 400, "error": error}}]}));
                    }
                    let id = action["index"]["_id"].as_str().unwrap().to_owned();
                    documents.insert(id, (floats(&document["vector"]), document));
                }
                (200, json!({"errors": false, "items": []}))
            }
            ("POST", "/chunks/_count") => (200, json!({"count": documents.len()})),
            ("POST", "/chunks/_search") => {
                let limit = body["size"].as_u64().unwrap() as usize;
                let hit = |score: f32, id: &String, source: &Value| {
                    let mut source = source.clone();
                    let wanted = body["_source"].as_array().unwrap();
                    source.as_object_mut().unwrap().retain(|field, _| wanted.contains(&json!(field)));
                    json!({"_id": id, "_score": score, "_source": source})
                };
                let hits: Vec<Value> = match body.pointer("/query/knn/vector") {
                    Some(knn) => {
                        let passes =
                            |source: &Value| knn["filter"].is_null() || opensearch_passes(&knn["filter"], source);
                        let found = nearest(documents, &floats(&knn["vector"]), limit, passes);
                        found.into_iter().map(|(cosine, id, _, source)| hit((1.0 + cosine) / 2.0, id, source)).collect()
                    }
                    // Words that are there, by how many.
                    None => {
                        let query = body.pointer("/query/bool/must/0/match/text/query").unwrap().as_str().unwrap();
                        let mut found: Vec<Value> = documents
                            .iter()
                            .filter(|(_, (_, source))| opensearch_passes(&body["query"], source))
                            .map(|(id, (_, source))| {
                                let one = |word: &str| json!({"match": {"text": {"query": word}}});
                                let words =
                                    query.split_whitespace().filter(|word| opensearch_passes(&one(word), source));
                                hit(words.count().max(1) as f32, id, source)
                            })
                            .collect();
                        found.sort_by(|a, b| b["_score"].as_f64().unwrap().total_cmp(&a["_score"].as_f64().unwrap()));
                        found.truncate(limit);
                        found
                    }
                };
                (200, json!({"took": 1, "timed_out": false, "hits": {"hits": hits}}))
            }
            other => panic!("{other:?}"),
        }
    })
}

fn pinecone_passes(filter: &Value, metadata: &Value) -> bool {
    filter.as_object().unwrap().iter().all(|(field, wanted)| match field.as_str() {
        "$and" => wanted.as_array().unwrap().iter().all(|one| pinecone_passes(one, metadata)),
        "$or" => wanted.as_array().unwrap().iter().any(|one| pinecone_passes(one, metadata)),
        field => match wanted.get("$in") {
            Some(any) => elements(metadata, field).iter().any(|value| any.as_array().unwrap().contains(value)),
            None => in_range(&metadata[field], wanted),
        },
    })
}

fn pinecone(dimensions: usize) -> Handler {
    let records = Mutex::new(BTreeMap::<String, (Vec<f32>, Value)>::new());
    Box::new(move |asked| {
        let records = &mut *records.lock().unwrap();
        let body = &asked.body;
        assert!(asked.path == "/describe_index_stats" || body["namespace"] == "n");
        match (asked.method.as_str(), asked.path.as_str()) {
            ("POST", "/describe_index_stats") => {
                (200, json!({"dimension": dimensions, "namespaces": {"n": {"vectorCount": records.len()}}}))
            }
            ("POST", "/vectors/upsert") => {
                for vector in body["vectors"].as_array().unwrap() {
                    let metadata = vector["metadata"].clone();
                    // Texts, numbers, booleans and lists of texts, as the service has it.
                    for value in metadata.as_object().unwrap().values() {
                        let texts = |list: &Vec<Value>| list.iter().all(Value::is_string);
                        assert!(
                            value.is_string() || value.is_number() || value.as_array().is_some_and(texts),
                            "{value}"
                        );
                    }
                    records.insert(vector["id"].as_str().unwrap().to_owned(), (floats(&vector["values"]), metadata));
                }
                (200, json!({"upsertedCount": 1}))
            }
            ("POST", "/vectors/delete") => {
                for id in body["ids"].as_array().unwrap() {
                    records.remove(id.as_str().unwrap());
                }
                (200, json!({}))
            }
            ("POST", "/query") => {
                let limit = body["topK"].as_u64().unwrap() as usize;
                let passes = |metadata: &Value| body["filter"].is_null() || pinecone_passes(&body["filter"], metadata);
                let found = nearest(records, &floats(&body["vector"]), limit, passes);
                let with = body["includeValues"] == true;
                let shown = found.into_iter().map(|(score, id, vector, metadata)| {
                    let mut found = json!({"id": id, "score": score, "metadata": metadata});
                    if with {
                        found["values"] = json!(vector);
                    }
                    found
                });
                (200, json!({"matches": shown.collect::<Vec<_>>(), "namespace": "n"}))
            }
            other => panic!("{other:?}"),
        }
    })
}

#[test]
fn each_keeps_the_contract() {
    for dimensions in [2, 7] {
        let stores: [Box<dyn VectorStore>; 3] = [
            Box::new(Qdrant::builder(serve(qdrant()).0).collection("chunks").connect(dimensions).unwrap()),
            Box::new(OpenSearch::builder(serve(opensearch()).0).index("chunks").connect(dimensions).unwrap()),
            Box::new(Pinecone::builder(serve(pinecone(dimensions)).0, "k").namespace("n").connect(dimensions).unwrap()),
        ];
        for store in &stores {
            block_on(check_vector_store(store));
            block_on(check_vector_store(store));
        }
    }
}

/// Method, path, key and the fields of the body as the vendor's client has them; filters to the letter.
#[test]
fn requests_are_those_of_the_vendors_clients() {
    let recorded: Value = serde_json::from_str(include_str!("fixtures/vector_stores/requests.json")).unwrap();
    let record = VectorRecord::new("a", [1.0, 0.0], "t").attribute("d", "it");
    let filter = |json: Value| -> RetrievalFilter { serde_json::from_value(json).unwrap() };
    let is = json!({"equals": {"key": "d", "value": "it"}});
    let above = json!({"greaterThan": {"key": "n", "value": 2}});
    let rich = filter(json!({"andAll": [is, {"notEquals": {"key": "e", "value": true}},
        {"orAll": [above, {"startsWith": {"key": "d", "value": "pe"}}]}]}));
    let run = |store: &dyn VectorStore, filter: RetrievalFilter| {
        store.upsert_blocking(std::slice::from_ref(&record)).unwrap();
        store.search_blocking(&VectorSearch::new([1.0, 0.0], 3).filter(filter)).unwrap();
        store.count_blocking().unwrap();
        store.delete_blocking(&["a".to_owned()]).unwrap();
    };
    let compare = |name: &str, asked: &[Asked]| {
        let fields = |body: &Value| -> Vec<String> {
            let mut fields: Vec<String> = body.as_object().map_or_else(Vec::new, |body| body.keys().cloned().collect());
            // What is read back is the store's own choice.
            fields.retain(|field| field != "_source");
            fields.sort();
            fields
        };
        for theirs in recorded[name].as_array().unwrap() {
            let same = |ours: &&Asked| theirs["method"] == *ours.method && theirs["path"] == *ours.path;
            let ours = asked.iter().find(same).unwrap_or_else(|| panic!("{name} was not asked {theirs}"));
            assert_eq!(theirs["key"], *ours.key);
            assert_eq!(fields(&ours.body), fields(&theirs["body"]), "{name} {}", ours.path);
            for place in
                ["/filter", "/query/knn/vector", "/query/nearest", "/with_payload", "/topK", "/limit", "/namespace"]
            {
                if let Some(theirs) = theirs["body"].pointer(place) {
                    assert_eq!(ours.body.pointer(place), Some(theirs), "{name} {} {place}", ours.path);
                }
            }
        }
    };
    let (address, log) = serve(qdrant());
    run(&Qdrant::builder(address).collection("chunks").api_key("the key").connect(2).unwrap(), rich);
    compare("qdrant", &log.lock().unwrap());
    let (address, log) = serve(opensearch());
    run(&OpenSearch::builder(address).index("chunks").user("me", "the key").connect(2).unwrap(), filter(is.clone()));
    compare("opensearch", &log.lock().unwrap());
    let (address, log) = serve(pinecone(2));
    let both = filter(json!({"andAll": [is, above]}));
    run(&Pinecone::builder(address, "the key").namespace("n").connect(2).unwrap(), both);
    compare("pinecone", &log.lock().unwrap());
}

#[test]
fn what_servers_refuse_is_told_without_the_key() {
    let cases =
        [(401, "AccessDenied"), (404, "ResourceNotFound"), (413, "ServiceQuotaExceeded"), (500, "DependencyFailed")];
    for (status, expected) in cases {
        let (address, _) = serve(Box::new(move |_| (status, json!({"message": "bad key: hunter2"}))));
        let error = Pinecone::builder(address, "hunter2").connect(2).unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{error:?}");
        assert!(!format!("{error:?}").contains("hunter2") && error.to_string().contains("[redacted]"), "{error:?}");
    }
    // A redirect is not followed: the key is this server's.
    let (address, log) = serve(Box::new(|_| (307, json!({"location": "elsewhere"}))));
    assert!(matches!(Pinecone::builder(address, "k").connect(2), Err(Error::DependencyFailed { .. })));
    assert_eq!(log.lock().unwrap().len(), 1);
    // Put off, it is tried again.
    let tries = Mutex::new(0);
    let (address, log) = serve(Box::new(move |_| {
        *tries.lock().unwrap() += 1;
        let dimension = json!({"dimension": 2, "namespaces": {}});
        if *tries.lock().unwrap() < 3 { (503, Value::Null) } else { (200, dimension) }
    }));
    assert_eq!(Pinecone::builder(address, "k").connect(2).unwrap().dimensions(), 2);
    assert_eq!(log.lock().unwrap().len(), 3);
    // What is no answer.
    for answer in [json!([]), json!({"dimension": "two"}), json!("x")] {
        let (address, _) = serve(Box::new(move |_| (200, answer.clone())));
        assert!(Pinecone::builder(address, "k").connect(2).is_err());
    }
    let (address, _) = serve(opensearch());
    let store = OpenSearch::builder(address.clone()).index("chunks").connect(2).unwrap();
    let refused = store.upsert_blocking(&[VectorRecord::new("a", [1.0, 0.0], "refused by the server")]);
    assert!(matches!(refused, Err(Error::DependencyFailed { .. })), "{refused:?}");
    assert!(matches!(OpenSearch::builder(address).index("chunks").connect(3), Err(Error::Validation { .. })));
    let (address, _) = serve(qdrant());
    Qdrant::builder(address.clone()).collection("chunks").connect(2).unwrap();
    assert!(matches!(Qdrant::builder(address).collection("chunks").connect(3), Err(Error::Validation { .. })));
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let result = Qdrant::builder(address).timeout(Duration::from_millis(100)).connect(2);
    assert!(matches!(result, Err(Error::ServiceUnavailable { .. })), "{result:?}");
}
