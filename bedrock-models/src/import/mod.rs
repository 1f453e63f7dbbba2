//! Models of one's own: a folder or a `.gguf` file, checked and kept under a name.
//!
//! ```no_run
//! use bedrock_models::import::{ImportOptions, ModelStore};
//! use bedrock_models::{LoadOptions, LocalChatModel, fetch};
//!
//! let store = ModelStore::open(None)?;
//! store.import("path/of/a/model", "my-model", &ImportOptions::default(), |_| true)?;
//! let path = fetch::resolve("my-model", &fetch::FetchOptions::default())?;
//! let model = LocalChatModel::load(path, &LoadOptions::default())?;
//! # Ok::<(), bedrock_models::Error>(())
//! ```
//!
//! The store is the folder `imported` in the folder of [`fetch`](crate::fetch) (`$BEDROCK_HOME` and so on). A model is placed there
//! as a whole, by renaming, after it has passed every check: its architecture is known, every tensor that the configuration asks for is
//! there in its shape and none besides, it has a tokenizer and a chat template, and it has given one small answer of finite
//! numbers. Killed at any time, there is the whole model or none.
//!
//! Nothing in the source is trusted. Weights in pickles are refused, since reading them runs them. Links are followed only to
//! files of the model's own folder and, in a snapshot of the Hugging Face cache (`models--…/snapshots/…`), to its blobs
//! (`models--…/blobs`); each link is resolved once, and what is read is the place it led to then. Pipes, devices, folders in
//! the place of files, more files or bytes than allowed are errors. Files that no model has are left behind and listed.
//!
//! Names, records and jobs are those of the service's `CreateModelImportJob`, `GetModelImportJob`, `GetImportedModel` and
//! `ListImportedModels`; ARNs are of the region `local` and the account `000000000000`.

mod check;
mod job;
mod source;
mod store;

use std::path::{Path, PathBuf};

use bedrock_core::{GetImportedModelResponse, ImportedModelSummary};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::fetch::FetchOptions;
use crate::fetch::cache::{self, Cached};
use crate::weights::Dtype;

pub use store::ModelStore;

/// How a model is imported.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ImportOptions {
    /// Whether files are copied or shared with the source.
    pub placement: Placement,
    /// Accept a language model without a chat template, or with one that fails: it continues text and cannot chat.
    pub without_template: bool,
    /// Put the weights into fewer bits, which is what is kept: a `.gguf` file becomes another (see
    /// [`quantize`](crate::quantize::quantize)); a folder keeps its files but for those of the weights, which become one,
    /// `model.quantized`, with the tensors' own names. Matrices that a model turns round before it uses them (GPT-2's) stay plain there
    /// and are turned into that type each time they are loaded, as [`LoadOptions::quantize`](crate::LoadOptions::quantize) does.
    pub quantize: Option<Dtype>,
    /// The licence to record, where the model's files (`README.md`, GGUF metadata) state none or another.
    pub licence: Option<String>,
    /// The source to record, where it is not the path: the page that the model was downloaded from.
    pub origin: Option<String>,
    /// The name of the job; made up if there is none.
    pub job_name: Option<String>,
    /// Replace a model of the same name.
    pub replace: bool,
    /// The most bytes that all files may have.
    pub most_bytes: u64,
    /// Threads of the trial; 0: one per core.
    pub threads: usize,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            placement: Placement::Copy,
            without_template: false,
            quantize: None,
            licence: None,
            origin: None,
            job_name: None,
            replace: false,
            most_bytes: 2 << 40,
            threads: 0,
        }
    }
}

/// How files come into the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placement {
    /// As copies.
    #[default]
    Copy,
    /// As further names of the same files: no room is taken, and whoever changes the source changes the model, which is
    /// then refused. Only within one file system.
    HardLink,
}

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportProgress<'a> {
    /// What is being done.
    pub step: ImportStep<'a>,
    /// Bytes (or, while quantising, tensors) done in this step.
    pub done: u64,
    /// Bytes or tensors of this step, 0 where that is not known.
    pub total: u64,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImportStep<'a> {
    /// The source is looked at.
    Looking,
    /// Somebody else imports a model of that name.
    Waiting,
    /// A file is copied and hashed.
    Placing {
        /// Its path in the model.
        file: &'a str,
    },
    /// Weights are put into fewer bits.
    Quantizing,
    /// Tensors are compared with the configuration.
    CheckingTensors,
    /// The model is loaded and answers: reported again and again until it has, so that it can be cancelled.
    Trying,
    /// The model can be used; the last event of a successful import.
    Done,
}

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum ImportedTask {
    /// Continues text or conversations: [`LocalChatModel`](crate::LocalChatModel).
    Text,
    /// Turns text into vectors: [`Embedder`](crate::Embedder).
    Embedding,
    /// Scores documents for a query: [`CrossEncoder`](crate::CrossEncoder).
    Reranking,
    /// Labels texts: [`SequenceClassifier`](crate::SequenceClassifier).
    Classification,
    /// Labels words: [`TokenClassifier`](crate::TokenClassifier).
    TokenClassification,
}

/// What is known of an imported model: the service's `GetImportedModel`, and more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ImportedModel {
    /// The service's part.
    #[serde(flatten)]
    pub model: GetImportedModelResponse,
    /// Where it comes from, as far as known.
    pub source: String,
    /// Its licence, if its files or whoever imported it said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// What it is for.
    pub task: ImportedTask,
    /// SHA-256 of the names and SHA-256s of all files, in hexadecimal.
    pub content_hash: String,
    /// Bytes of all files.
    pub bytes: u64,
    /// Weights.
    pub parameters: u64,
    /// The most tokens of prompt and answer, or of one input.
    pub max_tokens: usize,
    /// The type that weights are put into, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
    /// The files.
    pub files: Vec<ImportedFile>,
    /// Names in the source that were left behind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
}

/// A file of an imported model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ImportedFile {
    /// Its path in the model, with `/` between the parts.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

impl ImportedModel {
    /// Its name.
    pub fn name(&self) -> &str {
        self.model.model_name.as_deref().unwrap_or_default()
    }

    /// As the service lists it.
    pub fn summary(&self) -> ImportedModelSummary {
        ImportedModelSummary {
            model_arn: self.model.model_arn.clone().unwrap_or_default(),
            model_name: self.name().to_string(),
            creation_time: self.model.creation_time.clone().unwrap_or_default(),
            instruct_supported: self.model.instruct_supported,
            model_architecture: self.model.model_architecture.clone(),
        }
    }
}

/// The path of an imported model, if `name` is the name or ARN of one.
pub(crate) fn find(name: &str, options: &FetchOptions) -> Result<Option<PathBuf>, Error> {
    // Most names that are resolved are none of an imported model: nothing is looked for on disk then.
    if !store::is_name(name) && !name.contains(":imported-model/") {
        return Ok(None);
    }
    // A machine without a home has no imported models either.
    let Ok(home) = cache::folder(options) else { return Ok(None) };
    let store = ModelStore::open(Some(&home))?;
    let Some(name) = store.name_of(name)? else { return Ok(None) };
    match store.slot(&name).check(options.verify)? {
        Cached::Whole(path) => Ok(Some(path)),
        Cached::Damaged(error) => Err(error),
        Cached::Absent => Ok(None),
    }
}

/// The type that weights of an imported folder are put into when it is loaded.
pub(crate) fn quantization_of(folder: &Path) -> Result<Option<Dtype>, Error> {
    match store::read_record(folder)? {
        Some(ImportedModel { quantization: Some(name), .. }) => Ok(Some(name.parse()?)),
        _ => Ok(None),
    }
}
