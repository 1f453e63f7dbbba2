//! The files of a model where it comes from: which belong to it, and whether they may be read.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::Placement;
use crate::error::Error;
use crate::fetch::cache::{StoredFile, hexadecimal};
use crate::sealed::exists;
use crate::tokenizer::read_bounded;
use crate::weights::QUANTIZED;

/// Entries of a folder that are looked at: the largest published models have some hundred.
const MOST_ENTRIES: usize = 10_000;
/// Parts of a model that is split into several files.
const MOST_PARTS: usize = 1_000;
/// A file that is no weights; tokenizers are the largest.
const MOST_SMALL_BYTES: u64 = 256 << 20;
/// A text about licence or use.
const MOST_TEXT_BYTES: u64 = 4 << 20;
const MOST_INDEX_BYTES: u64 = 64 << 20;

/// Files that say what the weights mean.
const SMALL_FILES: &[&str] = &[
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
];
const TEXTS: &[&str] = &["LICENSE", "LICENCE", "NOTICE", "COPYING", "USE_POLICY", "README.MD"];
const PICKLES: &[&str] = &["bin", "pt", "pth", "ckpt", "pkl", "pickle"];
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const TEMPLATES: &str = "additional_chat_templates";

/// A model's files, none of them read yet but for lists of other files.
#[derive(Debug)]
pub(super) struct Source {
    /// As an absolute path without links.
    root: PathBuf,
    /// Where a snapshot of the Hugging Face cache has its files: `models--…/blobs` beside `models--…/snapshots`.
    blobs: Option<PathBuf>,
    pub(super) files: Vec<SourceFile>,
    /// Names in the folder that are no part of the model.
    pub(super) ignored: Vec<String>,
}

/// One file.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// Its path in the model, with `/` between the parts.
    pub(super) path: String,
    /// Where it lies, without links.
    from: PathBuf,
    bytes: u64,
}

impl Source {
    /// Looks at a folder in Hugging Face layout or a `.gguf` file.
    pub(super) fn look(path: &Path, most_bytes: u64) -> Result<Self, Error> {
        let root = fs::canonicalize(path).map_err(|source| Error::Read { path: path.to_path_buf(), source })?;
        let source = if root.is_dir() {
            let mut source = Self::of_folder(root);
            source.look_at_folder()?;
            source
        } else {
            // The link that the caller named may lead anywhere; its name says what it is.
            let name = file_name(path);
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let folder =
                fs::canonicalize(folder).map_err(|source| Error::Read { path: folder.to_path_buf(), source })?;
            let mut source = Self::of_folder(folder);
            match extension(&name).as_str() {
                "gguf" => source.take_gguf(&name, Some(root))?,
                pickle if PICKLES.contains(&pickle) => {
                    return Err(Error::Pickled { path: path.to_path_buf(), files: vec![name] });
                }
                _ => {
                    let reason = "neither a folder in Hugging Face layout nor a .gguf file".to_string();
                    return Err(Error::Malformed { path: path.to_path_buf(), reason });
                }
            }
            source
        };
        let bytes = source.bytes();
        if bytes > most_bytes {
            return Err(Error::FileTooLarge { path: path.to_path_buf(), bytes, limit: most_bytes });
        }
        Ok(source)
    }

    fn of_folder(root: PathBuf) -> Self {
        let blobs = blobs_of(&root);
        Self { root, blobs, files: Vec::new(), ignored: Vec::new() }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    fn look_at_folder(&mut self) -> Result<(), Error> {
        let names = self.names("")?;
        for name in SMALL_FILES.iter().filter(|name| names.iter().any(|other| other == *name)) {
            self.take(name, MOST_SMALL_BYTES)?;
        }
        for name in names.iter().filter(|name| is_text(name)) {
            self.take(name, MOST_TEXT_BYTES)?;
        }
        self.take_modules()?;
        if names.iter().any(|name| name == TEMPLATES) {
            for name in self.names(TEMPLATES)?.iter().filter(|name| extension(name) == "jinja") {
                self.take(&format!("{TEMPLATES}/{name}"), MOST_TEXT_BYTES)?;
            }
        }
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        let of_kind = |kinds: &[&str]| -> Vec<String> {
            names.iter().filter(|name| kinds.contains(&extension(name).as_str())).cloned().collect()
        };
        let (ggufs, pickles) = (of_kind(&["gguf"]), of_kind(PICKLES));
        if has(SINGLE) {
            self.take(SINGLE, u64::MAX)?;
        } else if has(INDEX) {
            self.take_shards()?;
        } else if has(QUANTIZED) {
            self.take(QUANTIZED, u64::MAX)?;
        } else if exists(&self.root.join(SINGLE)) {
            return Err(Error::SealMismatch { path: self.root.join(SINGLE), sealed: true });
        } else if let [first, ..] = ggufs.as_slice() {
            // Files of one split model differ in their number only.
            if ggufs.iter().any(|name| split_stem(name).is_none() || split_stem(name) != split_stem(first))
                && ggufs.len() > 1
            {
                let reason = format!("it holds {} .gguf files ({}): name one", ggufs.len(), ggufs.join(", "));
                return Err(Error::Malformed { path: self.root.clone(), reason });
            }
            self.files.clear();
            self.take_gguf(first, None)?;
        } else if pickles.is_empty() {
            return Err(Error::NoWeights { path: self.root.clone(), wanted: vec![SINGLE, INDEX, "*.gguf"] });
        } else {
            return Err(Error::Pickled { path: self.root.clone(), files: pickles });
        }
        let taken = |name: &String| {
            let inside = format!("{name}/");
            self.files.iter().any(|file| file.path == *name || file.path.starts_with(&inside))
        };
        self.ignored = names.iter().filter(|name| !taken(name)).cloned().collect();
        Ok(())
    }

    /// Names in a folder of the model, sorted. Those that are no text are none of a model's.
    fn names(&self, folder: &str) -> Result<Vec<String>, Error> {
        let path = self.inside(folder)?;
        let read = |source| Error::Read { path: path.clone(), source };
        let mut names = Vec::new();
        for (index, entry) in fs::read_dir(&path).map_err(read)?.enumerate() {
            if index == MOST_ENTRIES {
                return Err(Error::TooManyFiles { path, limit: MOST_ENTRIES });
            }
            names.extend(entry.map_err(read)?.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    /// The place of a path of the model, without links, if it is where a model's files may be: in its folder, or for a
    /// snapshot of the Hugging Face cache directly in the folder of blobs beside it. What is read later is this place, so
    /// that a link that changes meanwhile changes nothing.
    fn inside(&self, relative: &str) -> Result<PathBuf, Error> {
        let path = self.root.join(relative);
        let target = fs::canonicalize(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        let in_blobs = self.blobs.is_some() && target.parent() == self.blobs.as_deref();
        if target.starts_with(&self.root) || in_blobs { Ok(target) } else { Err(Error::LeadsOutside { path, target }) }
    }

    /// Adds a file of the model.
    fn take(&mut self, relative: &str, most_bytes: u64) -> Result<(), Error> {
        let from = self.inside(relative)?;
        self.add(relative, from, most_bytes)
    }

    fn add(&mut self, relative: &str, from: PathBuf, limit: u64) -> Result<(), Error> {
        // Asked before anything is opened: to open a pipe is to wait for ever.
        let metadata = fs::metadata(&from).map_err(|source| Error::Read { path: from.clone(), source })?;
        if !metadata.is_file() {
            return Err(Error::NotAFile { path: self.root.join(relative) });
        }
        let bytes = metadata.len();
        if bytes > limit {
            return Err(Error::FileTooLarge { path: self.root.join(relative), bytes, limit });
        }
        self.files.push(SourceFile { path: relative.to_string(), from, bytes });
        Ok(())
    }

    /// The folders that `modules.json` of `sentence-transformers` names.
    fn take_modules(&mut self) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Module {
            path: String,
        }
        let Some(file) = self.files.iter().find(|file| file.path == "modules.json") else { return Ok(()) };
        let path = self.root.join("modules.json");
        let modules: Vec<Module> = serde_json::from_slice(&read_bounded(&file.from, MOST_TEXT_BYTES)?)
            .map_err(|source| Error::Config { path: path.clone(), source })?;
        if modules.len() > 64 {
            return Err(Error::ConfigValue { path, what: format!("{} modules, at most 64", modules.len()) });
        }
        for module in modules.iter().filter(|module| !module.path.is_empty()) {
            let mut parts = Path::new(&module.path).components();
            if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
                let what = format!("module path {:?} is no folder inside the model's", module.path);
                return Err(Error::ConfigValue { path, what });
            }
            for (name, limit) in [("config.json", MOST_SMALL_BYTES), (SINGLE, u64::MAX)] {
                let relative = format!("{}/{name}", module.path);
                // A link to nothing is there, and an error.
                if fs::symlink_metadata(self.root.join(&relative)).is_ok() {
                    self.take(&relative, limit)?;
                }
            }
        }
        Ok(())
    }

    fn take_shards(&mut self) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Index {
            weight_map: std::collections::BTreeMap<String, String>,
        }
        self.take(INDEX, MOST_INDEX_BYTES)?;
        let path = self.root.join(INDEX);
        let index: Index = serde_json::from_slice(&read_bounded(&self.inside(INDEX)?, MOST_INDEX_BYTES)?)
            .map_err(|source| Error::Config { path: path.clone(), source })?;
        let shards: std::collections::BTreeSet<String> = index.weight_map.into_values().collect();
        if shards.len() > MOST_PARTS {
            return Err(Error::TooManyFiles { path, limit: MOST_PARTS });
        }
        for shard in shards {
            if !is_plain(&shard) {
                let what = format!("the index names the file {shard:?}, which is not a plain file name");
                return Err(Error::ConfigValue { path, what });
            }
            if PICKLES.contains(&extension(&shard).as_str()) {
                return Err(Error::Pickled { path, files: vec![shard] });
            }
            self.take(&shard, u64::MAX)?;
        }
        Ok(())
    }

    /// A `.gguf` file, or all parts of one that is split.
    fn take_gguf(&mut self, name: &str, named: Option<PathBuf>) -> Result<(), Error> {
        let Some((stem, count)) = split_stem(name) else {
            return match named {
                Some(from) => self.add(name, from, u64::MAX),
                None => self.take(name, u64::MAX),
            };
        };
        if count > MOST_PARTS {
            return Err(Error::TooManyFiles { path: self.root.join(name), limit: MOST_PARTS });
        }
        for number in 1..=count {
            self.take(&format!("{stem}-{number:05}-of-{count:05}.gguf"), u64::MAX)?;
        }
        Ok(())
    }

    /// Puts all files into a folder and hashes them on the way. `report` gets the bytes of a piece and says whether to go on.
    pub(super) fn place(
        &self,
        folder: &Path,
        placement: Placement,
        mut report: impl FnMut(&str, u64) -> bool,
    ) -> Result<Vec<StoredFile>, Error> {
        let mut stored = Vec::new();
        for file in &self.files {
            let to = folder.join(&file.path);
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent).map_err(|source| Error::Write { path: parent.to_path_buf(), source })?;
            }
            let mut target: Box<dyn Write> = match placement {
                Placement::Copy => {
                    let created = File::options().write(true).create_new(true).open(&to);
                    Box::new(created.map_err(|source| Error::Write { path: to.clone(), source })?)
                }
                Placement::HardLink => {
                    fs::hard_link(&file.from, &to).map_err(|source| Error::Write { path: to.clone(), source })?;
                    Box::new(io::sink())
                }
            };
            let sha256 = file.read(|piece| {
                target.write_all(piece).map_err(|source| Error::Write { path: to.clone(), source })?;
                if report(&file.path, piece.len() as u64) { Ok(()) } else { Err(Error::Cancelled) }
            })?;
            stored.push(StoredFile::new(&*file.path, file.bytes, sha256));
        }
        Ok(stored)
    }
}

/// Whether a file holds the tensors of a folder's model, or says which file does.
pub(super) fn is_weights(path: &str) -> bool {
    path == INDEX || !path.contains('/') && extension(path) == "safetensors"
}

impl SourceFile {
    /// Gives the file to `each` piece by piece, and returns its SHA-256.
    fn read(&self, mut each: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<String, Error> {
        const PIECE: usize = 1 << 20;
        let read = |source| Error::Read { path: self.from.clone(), source };
        let mut file = File::open(&self.from).map_err(read)?;
        let metadata = file.metadata().map_err(read)?;
        if !metadata.is_file() {
            return Err(Error::NotAFile { path: self.from.clone() });
        }
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; PIECE.min(self.bytes as usize).max(1)];
        let mut done = 0u64;
        loop {
            let count = match file.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(read(source)),
            };
            done += count as u64;
            if done > self.bytes || (count == 0 && done < self.bytes) {
                let reason = format!("it had {} bytes and changed while it was read", self.bytes);
                return Err(Error::Malformed { path: self.from.clone(), reason });
            }
            if count == 0 {
                return Ok(hexadecimal(hasher));
            }
            hasher.update(&buffer[..count]);
            each(&buffer[..count])?;
        }
    }
}

/// `models--…/blobs`, if the folder is `models--…/snapshots/…` and the blobs are a folder of their own there.
fn blobs_of(root: &Path) -> Option<PathBuf> {
    let snapshots = root.parent().filter(|folder| folder.file_name().is_some_and(|name| name == "snapshots"))?;
    let model = snapshots.parent()?;
    let blobs = model.join("blobs");
    let is_cache = model.file_name().is_some_and(|name| name.to_string_lossy().starts_with("models--"));
    (is_cache && fs::symlink_metadata(&blobs).is_ok_and(|metadata| metadata.is_dir())).then_some(blobs)
}

/// `NAME` and `N` of `NAME-00001-of-N.gguf`.
fn split_stem(name: &str) -> Option<(&str, usize)> {
    let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits(number) && digits(count) { Some((stem, count.parse().ok()?)) } else { None }
}

fn is_text(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    TEXTS.iter().any(|text| name.starts_with(text)) && matches!(extension(&name).as_str(), "" | "md" | "txt" | "rst")
}

fn is_plain(name: &str) -> bool {
    Path::new(name).file_name().is_some_and(|plain| plain == name) && !name.contains(['\\', ':'])
}

fn extension(name: &str) -> String {
    Path::new(name).extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_by_their_names() {
        assert_eq!(split_stem("a-b-00001-of-00003.gguf"), Some(("a-b", 3)));
        for name in ["a.gguf", "a-1-of-3.gguf", "a-00001-of-0000x.gguf", "-of-.gguf", "00001-of-00003.gguf"] {
            assert_eq!(split_stem(name), None, "{name}");
        }
    }

    #[test]
    fn texts_about_use_are_told_from_others() {
        assert!(["LICENSE", "LICENSE.txt", "license.md", "NOTICE", "README.md"].into_iter().all(is_text));
        assert!(!["LICENSE.exe", "README.bin", "notes.md"].into_iter().any(is_text));
    }
}
