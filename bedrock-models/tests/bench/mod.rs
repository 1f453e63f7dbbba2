//! What tests of customization have in common: tiny models, and a job with a folder of its own.

// Each test uses a part of it.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};

use bedrock_models::tune::{Job, JobEvent, JobOptions, Trained};
use bedrock_models::{Error, LoadOptions};
use safetensors::{SafeTensors, serialize};

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A model of the conformance fixtures.
pub(crate) fn base(name: &str) -> PathBuf {
    fixtures().join("conformance").join(name)
}

/// A model without the tensors whose names begin so, in a folder.
pub(crate) fn without(name: &str, prefixes: &[&str], folder: &Path) -> PathBuf {
    for file in ["config.json", "tokenizer.json"] {
        fs::copy(base(name).join(file), folder.join(file)).unwrap();
    }
    let whole = fs::read(base(name).join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&whole).unwrap().tensors();
    let kept = tensors.into_iter().filter(|(name, _)| !prefixes.iter().any(|prefix| name.starts_with(prefix)));
    fs::write(folder.join("model.safetensors"), serialize(kept, None).unwrap()).unwrap();
    folder.to_path_buf()
}

pub(crate) fn load() -> LoadOptions {
    LoadOptions { threads: 2, ..LoadOptions::default() }
}

pub(crate) fn options() -> JobOptions {
    JobOptions { load: load(), ..JobOptions::default() }
}

/// A folder with data, and a job of them.
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) job: Job,
}

impl Bench {
    /// A job on a model of the conformance fixtures.
    pub(crate) fn of(model: &str, lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("train.jsonl");
        fs::write(&data, lines).unwrap();
        let job = Job::new(base(model).display().to_string(), data, folder.path().join("out"));
        Self { folder, job }
    }

    /// Of a file of the result.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.job.output_dir.join(name)
    }

    /// The bytes of a file of the result.
    pub(crate) fn out(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    pub(crate) fn run(&self, options: &JobOptions) -> (Result<Trained, Error>, Vec<JobEvent>) {
        let mut events = Vec::new();
        let trained = self.job.run(options, |event| events.push(event.clone()));
        (trained, events)
    }
}
