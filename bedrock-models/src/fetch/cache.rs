//! The cache folder: complete models, placed at once, checked cheaply.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::FetchOptions;
use crate::error::Error;

/// The note beside a model's files: what they were when they were checked.
const NOTE: &str = "bedrock.json";
/// A note is a few lines per file.
const MAX_NOTE: u64 = 1 << 20;

/// The cache folder of the options or the environment.
pub(crate) fn folder(options: &FetchOptions) -> Result<PathBuf, Error> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    options
        .cache_folder
        .clone()
        .or_else(|| set("BEDROCK_HOME"))
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("bedrock")))
        .or_else(|| Some(std::env::home_dir()?.join(".cache").join("bedrock")))
        .ok_or(Error::NoCacheFolder)
}

/// A file that was fetched and checked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredFile {
    /// Path in the model's folder, with `/` between the parts.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    /// Hexadecimal.
    pub(crate) sha256: String,
    /// Time of the last change, in nanoseconds since 1970; zero until the model is placed.
    #[serde(default)]
    modified: u64,
}

impl StoredFile {
    pub(crate) fn new(path: impl Into<String>, bytes: u64, sha256: String) -> Self {
        Self { path: path.into(), bytes, sha256, modified: 0 }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Note {
    source: String,
    files: Vec<StoredFile>,
}

impl Note {
    /// A single GGUF file is the model; anything else is a folder.
    fn model_path(&self, folder: &Path) -> PathBuf {
        let is_gguf = |file: &&StoredFile| Path::new(&file.path).extension().is_some_and(|end| end == "gguf");
        match self.files.iter().find(is_gguf) {
            // The parts of a split model are named so that the first sorts first.
            Some(first) if self.files.iter().all(|file| is_gguf(&file)) => {
                let path = self.files.iter().map(|file| &file.path).min().unwrap_or(&first.path);
                folder.join(path)
            }
            _ => folder.to_path_buf(),
        }
    }
}

/// What the cache has of a model.
pub(crate) enum Cached {
    /// All of it; where to load it from.
    Whole(PathBuf),
    /// All of it, but something changed since it was checked.
    Damaged(Error),
    Absent,
}

/// The place of one model in the cache.
#[derive(Debug)]
pub(crate) struct Slot {
    folder: PathBuf,
    lock: PathBuf,
    staging: PathBuf,
    #[cfg_attr(not(feature = "download"), expect(dead_code, reason = "only the hub resumes"))]
    partial: PathBuf,
}

impl Slot {
    /// A model that is fetched; `name` is a plain file name.
    pub(super) fn new(cache: &Path, name: &str) -> Result<Self, Error> {
        Ok(Self { partial: cache.join("partial").join(name), ..Self::within(cache.join("models"), name) })
    }

    /// A model in a folder of models.
    pub(crate) fn within(models: PathBuf, name: &str) -> Self {
        Self {
            folder: models.join(name),
            lock: models.join(format!("{name}.lock")),
            staging: models.join(format!(".staging-{name}")),
            partial: models.join(format!(".partial-{name}")),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where an interrupted download may be continued from.
    #[cfg(feature = "download")]
    pub(super) fn partial(&self) -> &Path {
        &self.partial
    }

    /// Looks the model up. Files whose size and time of change are those of the note are trusted, unless `verify`;
    /// others are hashed, so that a cache that was copied is not fetched again.
    pub(crate) fn check(&self, verify: bool) -> Result<Cached, Error> {
        let Some(note) = self.read_note()? else { return Ok(Cached::Absent) };
        for file in &note.files {
            let path = self.folder.join(&file.path);
            let wrong = |expected: String, got: String| {
                Ok(Cached::Damaged(Error::WrongContent { path: path.clone(), expected, got }))
            };
            let metadata = match fs::metadata(&path) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return wrong(format!("{} bytes", file.bytes), "no file".to_string());
                }
                Err(source) => return Err(Error::Read { path, source }),
            };
            if metadata.len() != file.bytes {
                return wrong(format!("{} bytes", file.bytes), format!("{} bytes", metadata.len()));
            }
            if verify || modified(&metadata) != file.modified {
                let sha256 = sha256_of(&path)?;
                if sha256 != file.sha256 {
                    return wrong(format!("SHA-256 {}", file.sha256), format!("SHA-256 {sha256}"));
                }
            }
        }
        Ok(Cached::Whole(note.model_path(&self.folder)))
    }

    /// A folder without a readable note was not placed by us, or has lost it: as good as absent.
    fn read_note(&self) -> Result<Option<Note>, Error> {
        let path = self.folder.join(NOTE);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(source) => return Err(Error::Read { path, source }),
        };
        let mut text = Vec::new();
        file.take(MAX_NOTE).read_to_end(&mut text).map_err(|source| Error::Read { path, source })?;
        let note: Option<Note> = serde_json::from_slice(&text).ok();
        // Paths that lead elsewhere are not ours.
        Ok(note.filter(|note| !note.files.is_empty() && note.files.iter().all(|file| is_inside(&file.path))))
    }

    /// Takes the model away, at once: killed in between, it is gone all the same.
    pub(crate) fn remove(self, staging: Staging) -> Result<(), Error> {
        let write = |source| Error::Write { path: self.folder.clone(), source };
        remove(&staging.path)?;
        fs::rename(&self.folder, &staging.path).map_err(write)
    }

    /// Whether somebody places this model at the moment.
    pub(crate) fn is_locked(&self) -> bool {
        let lock = File::options().write(true).open(&self.lock);
        lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// Waits until nobody else fetches this model, and gives an empty folder to fetch it into.
    pub(crate) fn lock(&self, on_wait: impl FnOnce()) -> Result<Staging, Error> {
        let failed = |source| Error::Write { path: self.lock.clone(), source };
        let models = self.lock.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(models).map_err(|source| Error::Write { path: models.to_path_buf(), source })?;
        // Never removed: somebody may be waiting for it.
        let lock = File::options().create(true).truncate(false).write(true).open(&self.lock).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                on_wait();
                lock.lock().map_err(failed)?;
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let staging = Staging { path: self.staging.clone(), _lock: lock };
        staging.clear()?;
        Ok(staging)
    }

    /// Makes a complete folder the model, at once.
    pub(crate) fn place(self, staging: Staging, source: &str, files: Vec<StoredFile>) -> Result<PathBuf, Error> {
        let read = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::Read { path, source }
        };
        let write = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::Write { path, source }
        };
        let mut note = Note { source: source.to_string(), files };
        for file in &mut note.files {
            let path = staging.path.join(&file.path);
            let opened = File::open(&path).map_err(read(&path))?;
            // On the disk before the note says so, should the power fail.
            opened.sync_all().map_err(write(&path))?;
            file.modified = modified(&opened.metadata().map_err(read(&path))?);
        }
        let path = staging.path.join(NOTE);
        let text = serde_json::to_vec_pretty(&note).map_err(|error| write(&path)(error.into()))?;
        fs::write(&path, text).and_then(|()| File::open(&path)?.sync_all()).map_err(write(&path))?;

        // A folder cannot replace one that is not empty, so a damaged model goes first. Killed in between, there is no
        // model, never half of one.
        let old = staging.path.with_extension("replaced");
        remove(&old)?;
        match fs::rename(&self.folder, &old) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(write(&self.folder)(source)),
        }
        fs::rename(&staging.path, &self.folder).map_err(write(&self.folder))?;
        remove(&old)?;
        Ok(note.model_path(&self.folder))
    }
}

/// The folder that a model is fetched into, and the right to do so. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Staging {
    path: PathBuf,
    _lock: File,
}

impl Staging {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Empties it: of what a crash left, or of what another source did not finish.
    pub(super) fn clear(&self) -> Result<(), Error> {
        remove(&self.path)?;
        fs::create_dir(&self.path).map_err(|source| Error::Write { path: self.path.clone(), source })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // If it cannot be removed now, the next fetch does.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn remove(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::Write { path: folder.to_path_buf(), source: error })
        }
        _ => Ok(()),
    }
}

fn modified(metadata: &fs::Metadata) -> u64 {
    let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0)
}

/// Whether a path with `/` stays in the folder it is joined to.
pub(crate) fn is_inside(path: &str) -> bool {
    path.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':']))
}

/// The SHA-256 of a file, in hexadecimal.
pub(crate) fn sha256_of(path: &Path) -> Result<String, Error> {
    let read = |source| Error::Read { path: path.to_path_buf(), source };
    let mut file = File::open(path).map_err(read)?;
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut hasher).map_err(read)?;
    Ok(hexadecimal(hasher))
}

pub(crate) fn hexadecimal(hasher: Sha256) -> String {
    use std::fmt::Write;
    hasher.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
