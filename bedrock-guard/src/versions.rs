//! Versions of a guardrail: a draft that changes, and numbered versions that never do.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use bedrock_core::{CreateGuardrailRequest, Error};

use crate::Guardrail;
use crate::guardrail::{id_of, read_config, validate};
use crate::models::GuardrailBuilder;

/// The name of the version that changes.
const DRAFT: &str = "DRAFT";
/// Bytes of the largest configuration that is read: 10,000 words of 100 characters and everything else fit.
const LIMIT: u64 = 16 << 20;
/// Most numbered versions.
const MOST: u32 = 99_999_999;

/// The versions of one guardrail, in a folder: `DRAFT.json`, `1.json`, `2.json` … are bodies of `CreateGuardrail`, `id` is the id.
///
/// Every change is one renamed file, so a crash leaves what was there before. A numbered version is never written again, not even by
/// two processes at once.
///
/// ```
/// use bedrock_guard::{Guardrail, GuardrailVersions};
///
/// let folder = std::env::temp_dir().join(format!("versions-{}", std::process::id()));
/// let config = Guardrail::from_json(include_str!("../../examples/data/guardrail.json"))?.config().clone();
/// let versions = GuardrailVersions::create(&folder, &config)?;
/// assert_eq!(versions.publish()?, "1");
/// assert_eq!(versions.guardrail("1")?.build_blocking()?.version(), "1");
/// assert_eq!(versions.list()?, ["DRAFT", "1"]);
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), bedrock_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct GuardrailVersions {
    folder: PathBuf,
    id: String,
}

impl GuardrailVersions {
    /// Makes the folder, with `config` as the draft. The id is made from it and stays.
    ///
    /// # Errors
    /// [`Error::Validation`] for a configuration that breaks a rule; [`Error::Conflict`] if the folder holds a guardrail already;
    /// [`Error::Backend`] if it can't be written.
    pub fn create(folder: impl Into<PathBuf>, config: &CreateGuardrailRequest) -> Result<Self, Error> {
        validate(config)?;
        let folder = folder.into();
        fs::create_dir_all(&folder).map_err(Error::backend)?;
        let versions = Self { folder, id: id_of(config) };
        versions.write("id", versions.id.as_bytes(), true)?;
        versions.save_draft(config)?;
        Ok(versions)
    }

    /// Opens a folder that [`create`](Self::create) made.
    ///
    /// # Errors
    /// [`Error::ResourceNotFound`] if it holds no guardrail; [`Error::Validation`] if its id is none; [`Error::Backend`] if it can't be read.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, Error> {
        let folder = folder.into();
        let id = read(&folder.join("id"), 64)?;
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
            return Err(Error::validation(format!("{}: the id of the guardrail is damaged", folder.display())));
        }
        Ok(Self { folder, id })
    }

    /// The id that all versions share.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Replaces the draft.
    ///
    /// # Errors
    /// [`Error::Validation`] for a configuration that breaks a rule; [`Error::Backend`] if it can't be written.
    pub fn save_draft(&self, config: &CreateGuardrailRequest) -> Result<(), Error> {
        validate(config)?;
        self.write(&format!("{DRAFT}.json"), &serde_json::to_vec_pretty(config).map_err(Error::backend)?, false)
    }

    /// Makes the draft as it is a numbered version, and answers with its number.
    ///
    /// # Errors
    /// [`Error::Conflict`] if another process published at the same time; [`Error::Backend`] if it can't be written.
    pub fn publish(&self) -> Result<String, Error> {
        let draft = self.config(DRAFT)?;
        let last = self.numbers()?.last().copied().unwrap_or(0);
        if last >= MOST {
            return Err(Error::validation(format!("a guardrail has at most {MOST} versions")));
        }
        let version = (last + 1).to_string();
        let json = serde_json::to_vec_pretty(&draft).map_err(Error::backend)?;
        self.write(&format!("{version}.json"), &json, true)?;
        Ok(version)
    }

    /// `DRAFT` and the numbers, rising.
    ///
    /// # Errors
    /// [`Error::Backend`] if the folder can't be read.
    pub fn list(&self) -> Result<Vec<String>, Error> {
        let numbers = self.numbers()?.into_iter().map(|number| number.to_string());
        Ok(std::iter::once(DRAFT.to_owned()).chain(numbers).collect())
    }

    /// The configuration of a version.
    ///
    /// # Errors
    /// [`Error::ResourceNotFound`] if there is no such version; [`Error::Validation`] if its file is damaged.
    pub fn config(&self, version: &str) -> Result<CreateGuardrailRequest, Error> {
        let known =
            version == DRAFT || version.parse::<u32>().is_ok_and(|number| number > 0 && number.to_string() == version);
        if !known {
            return Err(Error::resource_not_found(format!("guardrail {:?} has no version {version:?}", self.id)));
        }
        read_config(&read(&self.folder.join(format!("{version}.json")), LIMIT)?)
    }

    /// Begins the guardrail of a version; it has the version's number and the common id.
    ///
    /// # Errors
    /// As [`config`](Self::config).
    pub fn guardrail(&self, version: &str) -> Result<GuardrailBuilder, Error> {
        Ok(Guardrail::builder(self.config(version)?).identity(&self.id, version))
    }

    fn numbers(&self) -> Result<Vec<u32>, Error> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(Error::backend)? {
            let name = entry.map_err(Error::backend)?.file_name();
            let number =
                name.to_str().and_then(|name| name.strip_suffix(".json")).and_then(|name| name.parse::<u32>().ok());
            numbers.extend(number.filter(|number| name.to_str() == Some(&format!("{number}.json"))));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Writes a file as a whole. With `once`, one that is there stays and is a conflict.
    fn write(&self, name: &str, content: &[u8], once: bool) -> Result<(), Error> {
        let place = self.folder.join(name);
        let part = self.folder.join(format!(".{name}.{}.part", std::process::id()));
        let written = (|| {
            let mut file = fs::File::create(&part)?;
            file.write_all(content)?;
            file.sync_all()?;
            // A link, unlike a rename, never replaces.
            if once {
                fs::hard_link(&part, &place).and_then(|()| fs::remove_file(&part))
            } else {
                fs::rename(&part, &place)
            }
        })();
        written.map_err(|error| {
            let _ = fs::remove_file(&part);
            match error.kind() {
                ErrorKind::AlreadyExists => Error::conflict(format!("{} is there already", place.display())),
                _ => Error::backend(error),
            }
        })
    }
}

fn read(path: &Path, limit: u64) -> Result<String, Error> {
    let missing = || Error::resource_not_found(format!("{} is not there", path.display()));
    let file = fs::File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => missing(),
        _ => Error::backend(error),
    })?;
    let mut text = String::new();
    file.take(limit + 1).read_to_string(&mut text).map_err(Error::backend)?;
    if text.len() as u64 > limit {
        return Err(Error::validation(format!("{} is longer than {limit} bytes", path.display())));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use bedrock_core::{ApplyGuardrailRequest, Guardrail as _};

    use super::*;

    fn config(word: &str) -> CreateGuardrailRequest {
        let json = format!(
            r#"{{"name": "g", "blockedInputMessaging": "no", "blockedOutputsMessaging": "no", "wordPolicyConfig": {{"wordsConfig": [{{"text": "{word}"}}]}}}}"#
        );
        read_config(&json).unwrap()
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("guardrail-versions-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn a_version_stays_while_the_draft_changes() {
        let folder = folder("stays");
        let versions = GuardrailVersions::create(&folder, &config("apple")).unwrap();
        assert_eq!(versions.publish().unwrap(), "1");
        versions.save_draft(&config("pear")).unwrap();
        assert_eq!(versions.publish().unwrap(), "2");
        versions.save_draft(&config("plum")).unwrap();

        let versions = GuardrailVersions::open(&folder).unwrap();
        assert_eq!(versions.list().unwrap(), ["DRAFT", "1", "2"]);
        for (version, word) in [("1", "apple"), ("2", "pear"), ("DRAFT", "plum")] {
            let guardrail = versions.guardrail(version).unwrap().build_blocking().unwrap();
            assert_eq!((guardrail.id(), guardrail.version()), (versions.id(), version));
            assert!(guardrail.apply_blocking(&ApplyGuardrailRequest::input(word)).unwrap().blocked());
            assert!(!guardrail.apply_blocking(&ApplyGuardrailRequest::input("cherry")).unwrap().blocked());
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_is_there_is_never_replaced_and_what_is_not_is_an_error() {
        let folder = folder("never");
        assert!(matches!(GuardrailVersions::open(&folder), Err(Error::ResourceNotFound { .. })));
        let versions = GuardrailVersions::create(&folder, &config("apple")).unwrap();
        assert!(matches!(GuardrailVersions::create(&folder, &config("pear")), Err(Error::Conflict { .. })));
        assert!(matches!(versions.write("DRAFT.json", b"", true), Err(Error::Conflict { .. })));
        for version in ["1", "0", "01", "../id", "draft", ""] {
            assert!(matches!(versions.config(version), Err(Error::ResourceNotFound { .. })), "{version}");
        }
        fs::write(folder.join("3.json"), "{").unwrap();
        assert!(matches!(versions.config("3"), Err(Error::Validation { .. })));
        fs::write(folder.join("id"), "../x").unwrap();
        assert!(matches!(GuardrailVersions::open(&folder), Err(Error::Validation { .. })));
        // Nothing is left of what was not written.
        assert!(
            fs::read_dir(&folder).unwrap().all(|entry| !entry.unwrap().file_name().to_string_lossy().ends_with("part"))
        );
        fs::remove_dir_all(&folder).unwrap();
    }
}
