//! Models of the Hugging Face hub, through `hf-hub`.
//!
//! hf-hub 0.5 is the last release with blocking HTTP (1.0 needs tokio, reqwest and a second storage protocol). It has no
//! timeouts, and panics on some answers it does not expect, so it runs on a thread of its own, which is given up when
//! nothing comes for a while. What it downloads is checked here: it does not.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use hf_hub::api::RepoInfo;
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use super::cache::{Slot, StoredFile, is_inside, sha256_of};
use super::{Failed, FetchOptions, HubModel, Report, Step};
use crate::error::Error;

/// Longest wait for an answer or for more bytes.
const STALL: Duration = Duration::from_secs(30);
/// Attempts per file, each going on where the last one stopped.
const RETRIES: u32 = 3;
/// Pause before the first retry; later ones are longer.
const PAUSE: Duration = Duration::from_millis(500);
/// Shortest time between two reports.
const REPORT: Duration = Duration::from_millis(100);
/// More files than any model has.
const MAX_FILES: usize = 2000;

/// What the thread tells.
enum Event {
    /// Bytes of the present file that are there.
    Received {
        file: String,
        done: u64,
        total: u64,
    },
    Finished(Result<Vec<Downloaded>, Refused>),
}

/// A file as the hub describes it, and where it was put.
struct Downloaded {
    name: String,
    path: PathBuf,
    bytes: u64,
    /// SHA-256 of large files; the hub identifies small ones by a git hash.
    sha256: Option<String>,
}

/// Why the hub did not deliver.
struct Refused {
    reason: String,
    /// Whether the answer was "not without an account" (HTTP 401 or 403).
    denied: bool,
}

impl Refused {
    fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), denied: false }
    }
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        // The HTTP client's own error type is not ours to name.
        let reason = error.to_string();
        let denied = reason.contains("http status: 401") || reason.contains("http status: 403");
        Self { reason, denied }
    }
}

/// Puts a model's files into a folder.
pub(super) fn fetch(
    model: &HubModel<'_>,
    gated: bool,
    slot: &Slot,
    staging: &Path,
    options: &FetchOptions,
    report: &Report<'_>,
) -> Result<Vec<StoredFile>, Failed> {
    let partial = slot.partial();
    fs::create_dir_all(partial).map_err(|source| Error::Write { path: partial.to_path_buf(), source })?;
    let (events, received) = mpsc::channel();
    let (builder, repository) = (api(partial, options), model.repository.to_string());
    let (file, cache) = (model.file.map(str::to_string), partial.to_path_buf());
    let thread = std::thread::Builder::new().name("bedrock-hub".to_string()).spawn(move || {
        let outcome = download(builder, &cache, &repository, file.as_deref(), &events);
        let _ = events.send(Event::Finished(outcome));
    });
    thread.map_err(|source| Failed::Source(format!("no thread to ask it from: {source}")))?;

    let outcome = loop {
        match received.recv_timeout(STALL) {
            Ok(Event::Received { file, done, total }) => {
                report(Step::Downloading { from: &file }, done, Some(total));
            }
            Ok(Event::Finished(outcome)) => break outcome,
            Err(RecvTimeoutError::Timeout) => {
                break Err(Refused::new(format!("nothing came for {} s", STALL.as_secs())));
            }
            Err(RecvTimeoutError::Disconnected) => break Err(Refused::new("the client broke off")),
        }
    };
    let files = outcome.map_err(|refused| {
        let hint = if refused.denied || gated {
            "; the model may need an account: accept its terms on its page and set HF_TOKEN"
        } else {
            ""
        };
        Failed::Source(format!("{}{hint}", refused.reason))
    })?;
    let stored = move_and_check(files, partial, staging, report)?;
    // Only bookkeeping is left in it.
    let _ = fs::remove_dir_all(partial);
    Ok(stored)
}

fn api(partial: &Path, options: &FetchOptions) -> ApiBuilder {
    let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let token = options.hub_token.clone().or_else(|| environment("HF_TOKEN")).or_else(|| Cache::from_env().token());
    let builder = ApiBuilder::from_env()
        .with_cache_dir(partial.to_path_buf())
        .with_progress(false)
        .with_retries(0)
        .with_token(token);
    match &options.hub_endpoint {
        Some(endpoint) => builder.with_endpoint(endpoint.trim_end_matches('/').to_string()),
        None => builder,
    }
}

fn download(
    builder: ApiBuilder,
    cache: &Path,
    repository: &str,
    file: Option<&str>,
    events: &Sender<Event>,
) -> Result<Vec<Downloaded>, Refused> {
    let api = builder.build()?;
    let info = api.model(repository.to_string()).info()?;
    let names = wanted_files(&info, file)?;
    // All files of one state of the repository, whatever is pushed to it meanwhile.
    if !is_hash(&info.sha) {
        return Err(Refused::new(format!("it states the revision {:?}, which is no hash", info.sha)));
    }
    let pinned = Repo::with_revision(repository.to_string(), RepoType::Model, info.sha);
    let repo = api.repo(pinned.clone());
    let stored = Cache::new(cache.to_path_buf()).repo(pinned);
    let mut files = Vec::new();
    for name in names {
        let metadata = api.metadata(&repo.url(&name))?;
        // It becomes a file name of the client's cache.
        if !is_hash(metadata.etag()) || !is_hash(metadata.commit_hash()) {
            return Err(Refused::new(format!("it identifies {name} as {:?}, which is no hash", metadata.etag())));
        }
        let bytes = metadata.size() as u64;
        let path = match stored.get(&name) {
            Some(path) => path,
            None => receive(&repo, &name, bytes, &stored.blob_path(metadata.etag()).with_extension("part"), events)?,
        };
        let sha256 = (metadata.etag().len() == 64).then(|| metadata.etag().to_string());
        files.push(Downloaded { name, path, bytes, sha256 });
    }
    Ok(files)
}

/// Downloads one file, going on from what an earlier run or attempt left in `part`.
///
/// The client's own retries are off: they ask for the file from the beginning when the first request of a run fails,
/// and append that to what is there.
fn receive(repo: &ApiRepo, name: &str, bytes: u64, part: &Path, events: &Sender<Event>) -> Result<PathBuf, Refused> {
    let mut attempt = 0;
    loop {
        if fs::metadata(part).is_ok_and(|part| part.len() >= bytes) {
            // Nothing is left to ask for, which the client does not notice.
            let _ = fs::remove_file(part);
        }
        let progress = Sent { file: name.to_string(), done: 0, total: 0, last: Instant::now(), events: events.clone() };
        match repo.download_with_progress(name, progress) {
            Ok(path) => return Ok(path),
            Err(error) => {
                let refused = Refused::from(error);
                if attempt == RETRIES || refused.denied {
                    return Err(refused);
                }
            }
        }
        attempt += 1;
        std::thread::sleep(PAUSE * attempt);
    }
}

/// Passes progress on to the thread that waits.
struct Sent {
    file: String,
    done: u64,
    total: u64,
    last: Instant,
    events: Sender<Event>,
}

impl hf_hub::api::Progress for Sent {
    fn init(&mut self, size: usize, _: &str) {
        // Called twice; the first update says how much is there already.
        (self.done, self.total) = (0, size as u64);
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        if self.done == self.total || self.last.elapsed() > REPORT {
            self.last = Instant::now();
            let _ = self.events.send(Event::Received { file: self.file.clone(), done: self.done, total: self.total });
        }
    }

    fn finish(&mut self) {}
}

/// The files of a repository that make up a model: one `.gguf` file (with its other parts), or the configuration,
/// tokenizer and safetensors weights. The same weights in other formats are left out.
fn wanted_files(info: &RepoInfo, file: Option<&str>) -> Result<Vec<String>, Refused> {
    let mut all: Vec<&str> = info.siblings.iter().map(|sibling| sibling.rfilename.as_str()).collect();
    all.retain(|name| is_inside(name));
    let mut names: Vec<&str> = match file {
        Some(file) => all.iter().copied().filter(|name| *name == file || is_part_of(name, file)).collect(),
        None => all.iter().copied().filter(|name| is_of_a_folder(name, &all)).collect(),
    };
    names.sort_unstable();
    let weights = names.iter().any(|name| name.ends_with(".safetensors") || name.ends_with(".gguf"));
    match file {
        Some(file) if names.is_empty() => Err(Refused::new(format!("it has no file {file}"))),
        None if !weights => {
            let ggufs: Vec<&str> = all.iter().copied().filter(|name| name.ends_with(".gguf")).take(20).collect();
            let hint = if ggufs.is_empty() {
                String::new()
            } else {
                format!("; ask for one of its GGUF files as org/name:FILE: {}", ggufs.join(", "))
            };
            Err(Refused::new(format!("it has no safetensors weights{hint}")))
        }
        _ if names.len() > MAX_FILES => Err(Refused::new(format!("it has {} files", names.len()))),
        _ => Ok(names.into_iter().map(str::to_string).collect()),
    }
}

/// Whether a file is another part of the split model that `file` (`…-00001-of-00003.gguf`) is one of.
fn is_part_of(name: &str, file: &str) -> bool {
    fn split(name: &str) -> Option<(&str, &str)> {
        let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (stem, number) = rest.rsplit_once('-')?;
        let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        (digits(number) && digits(count)).then_some((stem, count))
    }
    split(file).is_some_and(|of_file| split(name) == Some(of_file))
}

fn is_of_a_folder(name: &str, all: &[&str]) -> bool {
    let (folder, file) = name.rsplit_once('/').map_or(("", name), |(folder, file)| (folder, file));
    // Modules of a sentence-transformers model are in folders such as `1_Pooling`.
    let module =
        folder.split_once('_').is_some_and(|(number, _)| number.parse::<u8>().is_ok()) && !folder.contains('/');
    if !folder.is_empty() && !module {
        return false;
    }
    let sibling = |file: &str| {
        all.contains(&if folder.is_empty() { file.to_string() } else { format!("{folder}/{file}") }.as_str())
    };
    match file {
        "model.safetensors" => true,
        "model.safetensors.index.json" => !sibling("model.safetensors"),
        "tokenizer.model" | "vocab.txt" | "merges.txt" | "LICENSE" | "LICENSE.txt" => true,
        _ if file.ends_with(".safetensors") => {
            file.starts_with("model-") && file.contains("-of-") && !sibling("model.safetensors")
        }
        _ if file.ends_with(".index.json") => false,
        _ => file.ends_with(".json") || file.ends_with(".jinja"),
    }
}

/// Moves what was downloaded out of the client's cache, and compares it with what the hub said it is.
fn move_and_check(
    files: Vec<Downloaded>,
    partial: &Path,
    staging: &Path,
    report: &Report<'_>,
) -> Result<Vec<StoredFile>, Failed> {
    let total = files.iter().map(|file| file.bytes).sum();
    let mut done = 0;
    let mut stored = Vec::new();
    for file in files {
        // The client gives a link to the content.
        let content = fs::canonicalize(&file.path).map_err(|source| Error::Read { path: file.path.clone(), source })?;
        let to = staging.join(&file.name);
        let folder = to.parent().unwrap_or(staging);
        fs::create_dir_all(folder).map_err(|source| Error::Write { path: folder.to_path_buf(), source })?;
        let moved = match fs::hard_link(&content, &to) {
            // Two names may have the same content; where links are not possible, it is copied.
            Ok(()) => Ok(()),
            Err(_) => fs::copy(&content, &to).map(|_| ()),
        };
        moved.map_err(|source| Error::Write { path: to.clone(), source })?;
        let bytes = fs::metadata(&to).map_err(|source| Error::Read { path: to.clone(), source })?.len();
        let sha256 = sha256_of(&to)?;
        let right = bytes == file.bytes && file.sha256.as_ref().is_none_or(|expected| *expected == sha256);
        if !right {
            // Not a beginning to go on from.
            let _ = fs::remove_dir_all(partial);
            let expected = file.sha256.as_deref().unwrap_or("not stated");
            return Err(Failed::Source(format!(
                "what came as {} has {bytes} bytes and SHA-256 {sha256}; the hub states {} and {expected}",
                file.name, file.bytes
            )));
        }
        done += bytes;
        report(Step::Checking, done, Some(total));
        stored.push(StoredFile::new(file.name, bytes, sha256));
    }
    Ok(stored)
}

fn is_hash(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hf_hub::api::Siblings;

    fn info(names: &[&str]) -> RepoInfo {
        let siblings = names.iter().map(|name| Siblings { rfilename: (*name).to_string() }).collect();
        RepoInfo { siblings, sha: "0".repeat(40) }
    }

    #[test]
    fn a_folder_is_what_a_loader_reads() {
        let repository = info(&[
            ".gitattributes",
            "1_Pooling/config.json",
            "README.md",
            "config.json",
            "consolidated.safetensors",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "onnx/config.json",
            "onnx/model.onnx",
            "pytorch_model.bin",
            "pytorch_model.bin.index.json",
            "tokenizer.json",
            "../escape.json",
        ]);
        let names = wanted_files(&repository, None).ok().unwrap();
        assert_eq!(
            names,
            [
                "1_Pooling/config.json",
                "config.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
                "tokenizer.json",
            ]
        );
    }

    #[test]
    fn the_whole_file_is_preferred_to_its_shards() {
        let repository =
            info(&["model-00001-of-00001.safetensors", "model.safetensors", "model.safetensors.index.json"]);
        assert_eq!(wanted_files(&repository, None).ok().unwrap(), ["model.safetensors"]);
    }

    #[test]
    fn a_gguf_file_comes_alone_or_with_its_parts() {
        let repository = info(&["a.gguf", "b-00001-of-00002.gguf", "b-00002-of-00002.gguf", "b-00002-of-00003.gguf"]);
        assert_eq!(wanted_files(&repository, Some("a.gguf")).ok().unwrap(), ["a.gguf"]);
        assert_eq!(
            wanted_files(&repository, Some("b-00001-of-00002.gguf")).ok().unwrap(),
            ["b-00001-of-00002.gguf", "b-00002-of-00002.gguf"]
        );
        assert_eq!(wanted_files(&repository, Some("c.gguf")).err().unwrap().reason, "it has no file c.gguf");
        assert!(wanted_files(&repository, None).err().unwrap().reason.contains("org/name:FILE: a.gguf, b-00001"));
    }
}
