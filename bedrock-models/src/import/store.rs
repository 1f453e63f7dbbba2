//! The store of imported models.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bedrock_core::{
    GetImportedModelResponse, GetModelImportJobResponse, ListImportedModelsResponse, ModelDataSource,
    ModelImportJobStatus, iso_8601,
};
use sha2::{Digest, Sha256};

use super::check::{self, Checked};
use super::source::{Source, is_weights};
use super::{ImportOptions, ImportProgress, ImportStep, ImportedFile, ImportedModel, job};
use crate::catalog;
use crate::error::Error;
use crate::fetch::FetchOptions;
use crate::fetch::cache::{self, Cached, Slot, Staging, StoredFile, hexadecimal, sha256_of};
use crate::quantize::{quantize, quantize_folder};
use crate::tokenizer::read_bounded;
use crate::weights::QUANTIZED;

/// The record beside a model's files.
const RECORD: &str = "bedrock-import.json";
const MOST_RECORD: u64 = 4 << 20;
/// Models that are listed.
const MOST_MODELS: usize = 10_000;

/// The imported models of one folder. Several processes may use one: a lock file a model keeps imports apart.
#[derive(Debug, Clone)]
pub struct ModelStore {
    folder: PathBuf,
}

impl ModelStore {
    /// The store in a folder as [`fetch`](crate::fetch) uses it; `None` for the one of the environment. Nothing is
    /// written until something is imported.
    ///
    /// # Errors
    /// [`Error::NoCacheFolder`]
    pub fn open(home: Option<&Path>) -> Result<Self, Error> {
        let options = FetchOptions { cache_folder: home.map(Path::to_path_buf), ..FetchOptions::default() };
        Ok(Self { folder: cache::folder(&options)?.join("imported") })
    }

    /// Where the models are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Imports a folder in Hugging Face layout or a `.gguf` file under a name: letters and digits, with single hyphens and
    /// underscores between, at most 63. Blocks until it can be used; `progress` is told how far it is and cancels by
    /// returning `false`.
    ///
    /// # Errors
    /// Whatever is wrong with the source ([`Error::UnsupportedArchitecture`], [`Error::Tensors`], [`Error::Pickled`],
    /// [`Error::LeadsOutside`], [`Error::NoTokenizer`], [`Error::NoChatTemplate`] …), [`Error::ModelExists`],
    /// [`Error::Cancelled`], [`Error::Write`]. The store is as it was, but for the record of a job that failed.
    pub fn import(
        &self,
        source: impl AsRef<Path>,
        name: &str,
        options: &ImportOptions,
        mut progress: impl FnMut(ImportProgress<'_>) -> bool,
    ) -> Result<ImportedModel, Error> {
        let source = source.as_ref();
        check_name("importedModelName", name, is_name)?;
        if catalog::find(name).is_some() {
            return Err(Error::ModelExists { name: name.to_string() });
        }
        let begin = SystemTime::now();
        let order = format!("{:020}-{}", nanoseconds(begin), std::process::id());
        let job_name = match &options.job_name {
            Some(job_name) => job_name.clone(),
            None => format!("import-{}", short_hash(&[name, &order])),
        };
        check_name("jobName", &job_name, is_job_name)?;
        let mut job = GetModelImportJobResponse {
            job_arn: Some(arn("model-import-job", &short_hash(&[&job_name, &order]))),
            job_name: Some(job_name),
            imported_model_name: Some(name.to_string()),
            model_data_source: Some(ModelDataSource::uri(file_uri(source))),
            status: Some(ModelImportJobStatus::InProgress),
            creation_time: Some(iso_8601(begin)),
            last_modified_time: Some(iso_8601(begin)),
            ..GetModelImportJobResponse::default()
        };
        let jobs = self.jobs_folder();
        job::write(&jobs, &order, &job)?;
        let outcome = self.import_checked(source, name, options, &job, &mut progress);
        let end = Some(iso_8601(SystemTime::now()));
        (job.last_modified_time, job.end_time) = (end.clone(), end);
        job.status = Some(match &outcome {
            Ok(model) => {
                job.imported_model_arn.clone_from(&model.model.model_arn);
                ModelImportJobStatus::Completed
            }
            Err(error) => {
                job.failure_message = Some(with_causes(error));
                ModelImportJobStatus::Failed
            }
        });
        // A failed import is the news, not that it could not be recorded.
        let recorded = job::write(&jobs, &order, &job);
        let model = outcome?;
        recorded?;
        progress(ImportProgress { step: ImportStep::Done, done: 0, total: 0 });
        Ok(model)
    }

    fn import_checked(
        &self,
        source_path: &Path,
        name: &str,
        options: &ImportOptions,
        job: &GetModelImportJobResponse,
        progress: &mut dyn FnMut(ImportProgress<'_>) -> bool,
    ) -> Result<ImportedModel, Error> {
        let mut report = |step: ImportStep<'_>, done: u64, total: u64| {
            if progress(ImportProgress { step, done, total }) { Ok(()) } else { Err(Error::Cancelled) }
        };
        report(ImportStep::Looking, 0, 0)?;
        let source = Source::look(source_path, options.most_bytes)?;
        let slot = self.slot(name);
        let staging = slot.lock(|| {
            // Whoever waits can't be cancelled by this: the answer counts at the next step.
            let _ = report(ImportStep::Waiting, 0, 0);
        })?;
        if !options.replace && !matches!(slot.check(false)?, Cached::Absent) {
            return Err(Error::ModelExists { name: name.to_string() });
        }
        let (mut done, total) = (0, source.bytes());
        let mut files = source.place(staging.path(), options.placement, |file, bytes| {
            done += bytes;
            report(ImportStep::Placing { file }, done, total).is_ok()
        })?;
        let is_gguf =
            |file: &StoredFile| Path::new(&file.path).extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
        let gguf = files.iter().all(is_gguf);
        if let Some(to) = options.quantize {
            files = match gguf {
                true => quantized(&staging, &files, to, &mut report)?,
                false => quantized_folder(&staging, files, to, options, &mut report)
                    .map_err(|error| at_source(error, &staging, source_path))?,
            };
        }
        let path = match files.first().filter(|_| gguf) {
            Some(file) => staging.path().join(&file.path),
            None => staging.path().to_path_buf(),
        };
        let trial = ImportOptions { quantize: options.quantize.filter(|_| !gguf), ..options.clone() };
        let checked = check::check(&path, &trial, &mut |step| report(step, 0, 0))
            .map_err(|error| at_source(error, &staging, source_path))?;
        let record = record(&source, source_path, name, options, job, checked, &files);
        write_record(staging.path(), &record)?;
        slot.place(staging, &record.source, files)?;
        Ok(record)
    }

    /// All models, by name.
    ///
    /// # Errors
    /// [`Error::Read`] if the folder can't be read. One that does not exist holds no models; a record that can't be read is none.
    pub fn list(&self) -> Result<Vec<ImportedModel>, Error> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(Error::Read { path: self.folder.clone(), source }),
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| is_name(name)).take(MOST_MODELS).collect();
        names.sort();
        let records = names.iter().filter_map(|name| read_record(&self.folder.join(name)).ok().flatten());
        Ok(records.collect())
    }

    /// All models as the service lists them.
    ///
    /// # Errors
    /// As [`ModelStore::list`].
    pub fn summaries(&self) -> Result<ListImportedModelsResponse, Error> {
        let model_summaries = self.list()?.iter().map(ImportedModel::summary).collect();
        Ok(ListImportedModelsResponse { next_token: None, model_summaries })
    }

    /// A model, by name or ARN.
    ///
    /// # Errors
    /// [`Error::NotImported`], [`Error::Malformed`] for a record that can't be read.
    pub fn get(&self, name: &str) -> Result<ImportedModel, Error> {
        let missing = || Error::NotImported { name: name.to_string() };
        let name = self.name_of(name)?.ok_or_else(missing)?;
        read_record(&self.folder.join(name))?.ok_or_else(missing)
    }

    /// Where to load a model from. Files whose size and time of change are as when they were placed are trusted unless `verify`.
    ///
    /// # Errors
    /// [`Error::NotImported`]; [`Error::WrongContent`] if a file was changed.
    pub fn path(&self, name: &str, verify: bool) -> Result<PathBuf, Error> {
        let missing = || Error::NotImported { name: name.to_string() };
        let name = self.name_of(name)?.ok_or_else(missing)?;
        match self.slot(&name).check(verify)? {
            Cached::Whole(path) => Ok(path),
            Cached::Damaged(error) => Err(error),
            Cached::Absent => Err(missing()),
        }
    }

    /// Deletes a model, by name or ARN. Models that are loaded go on working where the system keeps open files.
    ///
    /// # Errors
    /// [`Error::NotImported`], [`Error::Write`].
    pub fn delete(&self, name: &str) -> Result<(), Error> {
        let missing = || Error::NotImported { name: name.to_string() };
        let name = self.name_of(name)?.ok_or_else(missing)?;
        let slot = self.slot(&name);
        let staging = slot.lock(|| {})?;
        if !slot.folder().is_dir() {
            return Err(missing());
        }
        slot.remove(staging)
    }

    /// Imports, the oldest first: the last thousand.
    pub fn jobs(&self) -> Vec<GetModelImportJobResponse> {
        job::read(&self.jobs_folder(), |name| is_name(name) && self.slot(name).is_locked())
    }

    fn jobs_folder(&self) -> PathBuf {
        self.folder.join(".jobs")
    }

    pub(super) fn slot(&self, name: &str) -> Slot {
        Slot::within(self.folder.clone(), name)
    }

    /// The name of a model that is there, of its name or ARN.
    pub(super) fn name_of(&self, asked: &str) -> Result<Option<String>, Error> {
        if is_name(asked) {
            return Ok(self.folder.join(asked).is_dir().then(|| asked.to_string()));
        }
        let found = self.list()?.into_iter().find(|model| model.model.model_arn.as_deref() == Some(asked));
        Ok(found.map(|model| model.name().to_string()))
    }
}

/// Puts a `.gguf` file's weights into another type, in place of the file or of the parts of one.
fn quantized(
    staging: &Staging,
    files: &[StoredFile],
    to: crate::weights::Dtype,
    report: &mut dyn FnMut(ImportStep<'_>, u64, u64) -> Result<(), Error>,
) -> Result<Vec<StoredFile>, Error> {
    let first = files.first().map(|file| file.path.clone()).unwrap_or_default();
    let name = format!("model-{to}.gguf");
    let target = staging.path().join(format!("{name}.new"));
    quantize(staging.path().join(&first), &target, to, |progress| {
        report(ImportStep::Quantizing, progress.tensors as u64, progress.tensors_total as u64).is_ok()
    })?;
    for file in files {
        let path = staging.path().join(&file.path);
        fs::remove_file(&path).map_err(|source| Error::Write { path, source })?;
    }
    let path = staging.path().join(&name);
    fs::rename(&target, &path).map_err(|source| Error::Write { path: path.clone(), source })?;
    let bytes = fs::metadata(&path).map_err(|source| Error::Read { path: path.clone(), source })?.len();
    Ok(vec![StoredFile::new(name, bytes, sha256_of(&path)?)])
}

/// Puts the matrices of a folder into another type, all tensors into one file in place of those that had them.
fn quantized_folder(
    staging: &Staging,
    mut files: Vec<StoredFile>,
    to: crate::weights::Dtype,
    options: &ImportOptions,
    report: &mut dyn FnMut(ImportStep<'_>, u64, u64) -> Result<(), Error>,
) -> Result<Vec<StoredFile>, Error> {
    report(ImportStep::CheckingTensors, 0, 0)?;
    let matrices = check::matrices(staging.path(), options)?;
    let target = staging.path().join(format!("{QUANTIZED}.new"));
    quantize_folder(staging.path(), &target, to, &matrices, |progress| {
        report(ImportStep::Quantizing, progress.tensors as u64, progress.tensors_total as u64).is_ok()
    })?;
    let path = staging.path().join(QUANTIZED);
    fs::rename(&target, &path).map_err(|source| Error::Write { path: path.clone(), source })?;
    for file in files.extract_if(.., |file| is_weights(&file.path) || file.path == QUANTIZED) {
        if file.path != QUANTIZED {
            let path = staging.path().join(&file.path);
            fs::remove_file(&path).map_err(|source| Error::Write { path, source })?;
        }
    }
    let bytes = fs::metadata(&path).map_err(|source| Error::Read { path: path.clone(), source })?.len();
    files.push(StoredFile::new(QUANTIZED, bytes, sha256_of(&path)?));
    Ok(files)
}

fn record(
    source: &Source,
    path: &Path,
    name: &str,
    options: &ImportOptions,
    job: &GetModelImportJobResponse,
    checked: Checked,
    files: &[StoredFile],
) -> ImportedModel {
    let files: Vec<ImportedFile> = files
        .iter()
        .map(|file| ImportedFile { path: file.path.clone(), bytes: file.bytes, sha256: file.sha256.clone() })
        .collect();
    let content_hash = content_hash(&files);
    ImportedModel {
        model: GetImportedModelResponse {
            model_arn: Some(arn("imported-model", &short_hash(&[name, &content_hash]))),
            model_name: Some(name.to_string()),
            job_name: job.job_name.clone(),
            job_arn: job.job_arn.clone(),
            model_data_source: job.model_data_source.clone(),
            creation_time: Some(iso_8601(SystemTime::now())),
            model_architecture: Some(checked.architecture),
            instruct_supported: Some(checked.instruct),
            ..GetImportedModelResponse::default()
        },
        source: options.origin.clone().unwrap_or_else(|| path.display().to_string()),
        licence: options.licence.clone().or(checked.licence),
        task: checked.task,
        content_hash,
        bytes: files.iter().map(|file| file.bytes).sum(),
        parameters: checked.parameters,
        max_tokens: checked.max_tokens,
        quantization: options.quantize.map(|to| to.to_string()),
        files,
        ignored: source.ignored.clone(),
    }
}

fn write_record(folder: &Path, record: &ImportedModel) -> Result<(), Error> {
    let path = folder.join(RECORD);
    let failed = |source| Error::Write { path: path.clone(), source };
    let text = serde_json::to_vec_pretty(record).map_err(|error| failed(error.into()))?;
    let mut file = fs::File::create(&path).map_err(failed)?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)
}

/// The record of a model's folder, if it has one.
pub(super) fn read_record(folder: &Path) -> Result<Option<ImportedModel>, Error> {
    let path = folder.join(RECORD);
    if !path.is_file() {
        return Ok(None);
    }
    let text = read_bounded(&path, MOST_RECORD)?;
    let record = serde_json::from_slice(&text).map_err(|error| Error::Malformed { path, reason: error.to_string() })?;
    Ok(Some(record))
}

/// Errors name files of the source: the folder that is checked is gone when they are read.
fn at_source(error: Error, staging: &Staging, source: &Path) -> Error {
    let there = |path: PathBuf| match path.strip_prefix(staging.path()) {
        Ok(rest) if rest.as_os_str().is_empty() || source.is_file() => source.to_path_buf(),
        Ok(rest) => source.join(rest),
        Err(_) => path,
    };
    match error {
        Error::Tensors { path, missing, unknown, wrong } => {
            Error::Tensors { path: there(path), missing, unknown, wrong }
        }
        Error::UnsupportedArchitecture { path, found, supported } => {
            Error::UnsupportedArchitecture { path: there(path), found, supported }
        }
        Error::NoTokenizer { path } => Error::NoTokenizer { path: there(path) },
        Error::NoChatTemplate { path, name } => Error::NoChatTemplate { path: there(path), name },
        Error::Config { path, source } => Error::Config { path: there(path), source },
        Error::ConfigValue { path, what } => Error::ConfigValue { path: there(path), what },
        Error::Malformed { path, reason } => Error::Malformed { path: there(path), reason },
        Error::Read { path, source } => Error::Read { path: there(path), source },
        Error::Safetensors { path, source } => Error::Safetensors { path: there(path), source },
        Error::Gguf { path, source } => Error::Gguf { path: there(path), source },
        Error::TokenizerFile { path, source } => Error::TokenizerFile { path: there(path), source },
        Error::DependencyPanic { path, action, message } => {
            Error::DependencyPanic { path: there(path), action, message }
        }
        other => other,
    }
}

fn content_hash(files: &[ImportedFile]) -> String {
    let mut files: Vec<&ImportedFile> = files.iter().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let mut hasher = Sha256::new();
    for file in files {
        hasher.update(format!("{}\0{}\n", file.path, file.sha256));
    }
    hexadecimal(hasher)
}

/// The twelve characters that the service's ARNs end with.
fn short_hash(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(format!("{part}\0")));
    hexadecimal(hasher)[..12].to_string()
}

fn arn(kind: &str, id: &str) -> String {
    format!("arn:aws:bedrock:local:000000000000:{kind}/{id}")
}

/// The path as the service's field for a source has it, with the scheme `file`. At most 1,024 characters, as there.
fn file_uri(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    format!("file://{}", path.display()).chars().take(1024).collect()
}

fn nanoseconds(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_nanos()
}

fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

fn check_name(field: &'static str, name: &str, is_good: fn(&str) -> bool) -> Result<(), Error> {
    if is_good(name) {
        return Ok(());
    }
    Err(Error::InvalidParameter {
        name: field,
        got: format!("{name:?}"),
        expected: "1 to 63 letters and digits, with single hyphens or underscores between".into(),
    })
}

/// The service's pattern of a model's name, `([0-9a-zA-Z][_-]?)+`: which is also a plain file name everywhere.
pub(super) fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let is_mark = |byte: &u8| matches!(byte, b'-' | b'_');
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || is_mark(byte))
        && !is_mark(&bytes[0])
        && !bytes.windows(2).any(|pair| pair.iter().all(is_mark))
}

/// The service's pattern of a job's name, `[a-zA-Z0-9](-*[a-zA-Z0-9+\-.])*`.
fn is_job_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_services() {
        for name in ["a", "A1", "my-model_2", "a-", &"a".repeat(63)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "-a", "a--b", "a-_b", "a.b", "a/b", "..", "a b", "ä", &"a".repeat(64)] {
            assert!(!is_name(name), "{name}");
        }
        assert!(is_job_name("import-1.2+x") && !is_job_name("-x") && !is_job_name("x_y") && !is_job_name(""));
    }

    #[test]
    fn the_hash_depends_on_names_and_content_and_not_on_the_order() {
        let file = |path: &str, sha256: &str| ImportedFile { path: path.into(), bytes: 1, sha256: sha256.into() };
        let hash = content_hash(&[file("a", "1"), file("b", "2")]);
        assert_eq!(hash, content_hash(&[file("b", "2"), file("a", "1")]));
        assert_ne!(hash, content_hash(&[file("a", "2"), file("b", "1")]));
        assert_ne!(hash, content_hash(&[file("a", "1")]));
    }
}
