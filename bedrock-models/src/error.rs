//! What can go wrong while a model is loaded, prompted and run.

use std::io;
use std::path::PathBuf;

use crate::fetch::Attempt;
use crate::layers::RopeProblem;
use crate::weights::{Dtype, GgufProblem, SafetensorsProblem};

/// A failure of this crate. Each variant is a situation that a caller can act on, with the facts inside.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened or read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// A file is larger than anything of its kind has reason to be, so it was not read.
    #[error("{path} has {bytes} bytes, more than the {limit} allowed for its kind")]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        bytes: u64,
        /// The largest size that is read, in bytes.
        limit: u64,
    },

    /// A file was read, but its content contradicts its format: truncated, damaged or lying.
    #[error("{path} is malformed: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the offending value.
        reason: String,
    },

    /// A `tokenizer.json` cannot be read as a tokenizer.
    #[error("{} is not a readable tokenizer file", path.display())]
    TokenizerFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// A tokenizer could not turn text into tokens or back.
    #[error("the tokenizer of {} cannot {action} this", path.display())]
    Tokenize {
        /// The file that the tokenizer was read from.
        path: PathBuf,
        /// What it was asked to do.
        action: &'static str,
        /// Why it could not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// A dependency panicked on the content of a file; the panic was caught and the process goes on.
    #[error("cannot {action} with {}: {message}", path.display())]
    DependencyPanic {
        /// The file whose content it was working on.
        path: PathBuf,
        /// What it was asked to do.
        action: &'static str,
        /// The message of the panic.
        message: String,
    },

    /// A parameter has a value that it cannot have.
    #[error("{name} is {got}, but should be {expected}")]
    InvalidParameter {
        /// The parameter.
        name: &'static str,
        /// The value given.
        got: String,
        /// The values allowed.
        expected: String,
    },

    /// The model gave a logit that is NaN or infinite.
    #[error("the logit of token {id} is {value}")]
    NonFiniteLogit {
        /// Token id.
        id: u32,
        /// The logit.
        value: f32,
    },

    /// A loss is NaN or infinite: the learning rate is too high, or the weights are damaged.
    #[error("the loss is {loss} after {steps} steps")]
    Diverged {
        /// The loss.
        loss: f64,
        /// Steps of the optimizer before it.
        steps: u64,
    },

    /// A file of training data cannot be learnt from.
    #[error("{}{}: {reason}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
    TrainingData {
        /// The file.
        path: PathBuf,
        /// The first line that is wrong, counted from 1 on; none if it is the whole file.
        line: Option<usize>,
        /// What is wrong with it.
        reason: String,
    },

    /// A customization job is not what the service or this crate knows.
    #[error("{what}: {reason}")]
    Job {
        /// The field, or the file.
        what: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The teacher of a distillation failed.
    #[error("the teacher did not answer {}:{line}", path.display())]
    Teacher {
        /// The file of prompts.
        path: PathBuf,
        /// The line of the prompt, counted from 1 on.
        line: usize,
        /// What the teacher said instead.
        source: bedrock_core::Error,
    },

    /// A job cannot go on from a checkpoint: it was made by another job.
    #[error("{path} was made with other {what}")]
    OtherJob {
        /// The checkpoint.
        path: PathBuf,
        /// What differs.
        what: String,
    },

    /// Weights or other files of a job are sealed and no sealer was given, or a job with a sealer would go on from files that are not.
    #[error("{} is {}", path.display(), if *sealed { "sealed: it is opened with its sealer" } else { "not sealed, as it should be with a sealer" })]
    SealMismatch {
        /// The file.
        path: PathBuf,
        /// Whether it is sealed.
        sealed: bool,
    },

    /// A file cannot be sealed or opened: the key is another one or not at hand, or the file was changed.
    #[error("{} cannot be sealed or opened", path.display())]
    Seal {
        /// The file.
        path: PathBuf,
        /// Why.
        source: bedrock_core::Error,
    },

    /// No token can be chosen: all of them are banned, or there are none.
    #[error("none of {vocabulary} tokens can be chosen")]
    NoCandidates {
        /// Number of logits given.
        vocabulary: usize,
    },

    /// Logits of a prompt were asked of a model whose encoder reads the prompt, so that only its answer has logits.
    #[error("{} has an encoder: there are no logits of a prompt, only of an answer to it", path.display())]
    PromptWithoutLogits {
        /// The model.
        path: PathBuf,
    },

    /// A token id is larger than the vocabulary.
    #[error("token {id} is not in the vocabulary of {vocabulary} tokens")]
    TokenOutOfRange {
        /// Token id.
        id: u32,
        /// Number of tokens.
        vocabulary: usize,
    },

    /// The metadata of a GGUF file contradict each other: no tokenizer can be built from them.
    #[error("{path}: metadata key {key}: {reason}")]
    MetadataValue {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is wrong, with the offending value.
        reason: String,
    },

    /// A GGUF file has a kind of tokenizer, or of pre-tokenizer, that is not known here. Guessing one would give
    /// wrong tokens without a sign.
    #[error("{path}: {key} is {name:?}, which is not supported")]
    UnknownTokenizer {
        /// The file.
        path: PathBuf,
        /// The metadata key.
        key: String,
        /// Its value.
        name: String,
    },

    /// A chat template is not a template.
    #[error("the chat template {origin} cannot be parsed")]
    TemplateSyntax {
        /// The file and name of the template.
        origin: String,
        /// Where and why.
        source: minijinja::Error,
    },

    /// A chat template refused the conversation by `raise_exception`.
    #[error("the chat template refuses this conversation: {message}")]
    TemplateRefused {
        /// What the template says about it.
        message: String,
    },

    /// A chat template failed on this conversation.
    #[error("the chat template {origin} failed")]
    TemplateFailed {
        /// The file and name of the template.
        origin: String,
        /// Where and why.
        source: minijinja::Error,
    },

    /// A chat template wanted more time, memory or depth than a template needs.
    #[error("the chat template {origin} exceeds its {limit}")]
    TemplateLimit {
        /// The file and name of the template.
        origin: String,
        /// The limit, with its size.
        limit: String,
    },

    /// A model comes without the chat template that was asked for.
    #[error("{path} has no chat template{}", name.as_deref().map(|name| format!(" named {name}")).unwrap_or_default())]
    NoChatTemplate {
        /// The model.
        path: PathBuf,
        /// The name asked for, if not the default.
        name: Option<String>,
    },

    /// The request has content that this model cannot take.
    #[error("{field}: {reason}")]
    UnsupportedContent {
        /// The path of the field in the request.
        field: String,
        /// Why it is not supported.
        reason: String,
    },

    /// A path that should be a regular file is a folder, a pipe or a device.
    #[error("{path} is not a regular file")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },

    /// A folder holds no weights that can be read.
    #[error("{path} holds none of: {}", wanted.join(", "))]
    NoWeights {
        /// The folder.
        path: PathBuf,
        /// The file names that were looked for.
        wanted: Vec<&'static str>,
    },

    /// A GGUF file breaks its format.
    #[error("{path} is not a readable GGUF file")]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: GgufProblem,
    },

    /// A safetensors file, or the index of a sharded one, breaks its format.
    #[error("{path} is not a readable safetensors file")]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: SafetensorsProblem,
    },

    /// A tensor that the model needs is not in the checkpoint.
    #[error("{path} has no tensor {name}")]
    MissingTensor {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor's name in the checkpoint.
        name: String,
    },

    /// Tensors of the checkpoint that the model did not use: the architecture is not what the file was made for.
    #[error("{path} has {} tensors that the model does not use: {}", names.len(), first_few(names))]
    UnusedTensors {
        /// The checkpoint.
        path: PathBuf,
        /// Names of the unused tensors, sorted.
        names: Vec<String>,
    },

    /// A checkpoint does not hold what its configuration says: every difference, found before any weight was used. Lists of a
    /// thousand are incomplete.
    #[error("{path} does not fit its configuration: {}", differences(missing, unknown, wrong))]
    Tensors {
        /// The checkpoint.
        path: PathBuf,
        /// Tensors that the model needs and the checkpoint lacks.
        missing: Vec<String>,
        /// Tensors that the checkpoint has and the model does not know, sorted.
        unknown: Vec<String>,
        /// Tensors of another shape or type.
        wrong: Vec<WrongTensor>,
    },

    /// A tensor has another shape than the configuration says.
    #[error("tensor {name} has shape {got:?}, the configuration says {expected:?}")]
    TensorShape {
        /// The tensor's name in the checkpoint.
        name: String,
        /// The shape that the configuration asks for, outermost first.
        expected: Vec<usize>,
        /// The shape in the file, outermost first.
        got: Vec<usize>,
    },

    /// Stored bytes do not match the number of elements they are to be decoded to.
    #[error("{bytes} bytes of {dtype} cannot be decoded to {elements} elements")]
    BlockLength {
        /// The storage type.
        dtype: Dtype,
        /// Bytes given.
        bytes: usize,
        /// Elements asked for.
        elements: usize,
    },

    /// Values cannot be stored in this type: only some types have an encoder.
    #[error("cannot encode {elements} values as {dtype}")]
    Encode {
        /// The storage type.
        dtype: Dtype,
        /// Number of values.
        elements: usize,
    },

    /// A metadata key that the model needs is not in the GGUF file.
    #[error("{path} has no metadata key {key}")]
    MissingMetadata {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },

    /// A metadata value of a GGUF file has another type or range than its key asks for.
    #[error("{path}: metadata key {key} should be {expected}, but is {got}")]
    MetadataType {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The type asked for.
        expected: &'static str,
        /// The type, and for single numbers the value, in the file.
        got: String,
    },

    /// A tensor that should be a weight matrix is none.
    #[error("tensor {name} of type {dtype} and shape {shape:?} is no matrix with rows of whole blocks")]
    NotAMatrix {
        /// The tensor's name in the checkpoint.
        name: String,
        /// Its shape, outermost first.
        shape: Vec<usize>,
        /// Its storage type.
        dtype: Dtype,
    },

    /// A configuration file is no JSON object with the fields of its architecture.
    #[error("cannot understand {path}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is missing or of another type.
        source: serde_json::Error,
    },

    /// A value of a configuration is out of range or not supported.
    #[error("{path}: {what}")]
    ConfigValue {
        /// The file.
        path: PathBuf,
        /// The field and what is wrong with it.
        what: String,
    },

    /// The rotary position parameters of a configuration are unknown or incomplete.
    #[error("{path}: cannot place positions")]
    Rope {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: RopeProblem,
    },

    /// The model is of an architecture that this crate does not have.
    #[error("{path} is a model of type {found:?}; supported are {}", supported.join(", "))]
    UnsupportedArchitecture {
        /// The configuration.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What it could say.
        supported: &'static [&'static str],
    },

    /// A model came without a tokenizer, and text was asked for.
    #[error("{path} has no tokenizer")]
    NoTokenizer {
        /// The model.
        path: PathBuf,
    },

    /// What the answer shall conform to is malformed, unsupported, too large or cannot be fulfilled.
    #[error("the {kind} cannot constrain the answer: {reason}")]
    Constraint {
        /// What it is: a JSON schema, a regular expression or a grammar.
        kind: &'static str,
        /// Why not.
        reason: String,
    },

    /// An answer under a constraint cannot go on: what may come next takes too much work to find out, or the vocabulary has no token
    /// for it.
    #[error("the answer cannot be continued as its constraint asks: {reason}")]
    ConstraintFailed {
        /// What the parser says.
        reason: String,
    },

    /// A prompt without a token.
    #[error("the prompt has no tokens")]
    NoTokens,

    /// An input is longer than the model's context.
    #[error("input is too long for requested model: {got} tokens, at most {limit} are supported")]
    TooManyTokens {
        /// Tokens of the input.
        got: usize,
        /// The most that the model takes.
        limit: usize,
    },

    /// One request's keys and values would take more memory than the engine may use in all.
    #[error("the request needs {needed} bytes of cache, the engine has {limit}: lower maxTokens")]
    CacheTooSmall {
        /// Bytes that prompt and answer need.
        needed: usize,
        /// Bytes that the engine may use.
        limit: usize,
    },

    /// Too many requests wait already.
    #[error("too many requests are waiting for the model")]
    Busy,

    /// The caller gave up before the answer was there.
    #[error("the request was cancelled")]
    Cancelled,

    /// The answer was not complete at its deadline, or not even begun.
    #[error("the request took longer than its deadline allows")]
    DeadlineExceeded,

    /// The model's thread has ended.
    #[error("the model is no longer served")]
    EngineStopped,

    /// Computing panicked: a bug, of which the process survives.
    #[error("computing the answer failed")]
    EngineFailed,

    /// The system gave no thread.
    #[error("cannot start a thread")]
    Thread {
        /// What the operating system said.
        source: io::Error,
    },

    /// What was asked for is no model that can be found.
    #[error(
        "{model} is neither a model folder, a .gguf file, an org/name of the Hugging Face hub nor one of: {}",
        known.join(", ")
    )]
    UnknownModel {
        /// As it was asked for.
        model: String,
        /// Names of the catalogue.
        known: Vec<&'static str>,
    },

    /// A known model of a family that this version cannot load.
    #[error("{model} cannot be loaded yet: its architecture {architecture} is not supported by this version")]
    NotYetSupported {
        /// The model.
        model: String,
        /// Its family.
        architecture: String,
    },

    /// A model is not in the cache, and fetching is switched off.
    #[error("{model} is not in the cache ({cache}), and fetching is switched off (BEDROCK_OFFLINE or the option)")]
    Offline {
        /// The model.
        model: String,
        /// Where it would be.
        cache: PathBuf,
    },

    /// No source delivered a model.
    #[error("cannot fetch {model}; tried {}", listed(attempts))]
    Fetch {
        /// The model.
        model: String,
        /// Every source that was tried, and why it failed.
        attempts: Vec<Attempt>,
    },

    /// A file of the cache is not what was placed there.
    #[error("{path} was changed: it should have {expected}, but has {got}")]
    WrongContent {
        /// The file.
        path: PathBuf,
        /// The size or hash that it had.
        expected: String,
        /// The size or hash that it has.
        got: String,
    },

    /// There is no folder to keep models in.
    #[error("no folder to keep models in: set BEDROCK_HOME")]
    NoCacheFolder,

    /// Weights are only there as pickles, which are programs: to read one is to run it.
    #[error(
        "{} holds weights only as pickles ({}), which run code when they are read; where you trust them, convert them with \
         `transformers`: AutoModel….from_pretrained(folder).save_pretrained(folder, safe_serialization=True)",
        path.display(),
        first_few(files)
    )]
    Pickled {
        /// The folder or file.
        path: PathBuf,
        /// Names of the pickles.
        files: Vec<String>,
    },

    /// A file of a model is a link to somewhere else.
    #[error("{} leads to {}, outside of the model's folder", path.display(), target.display())]
    LeadsOutside {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },

    /// A folder has more files than any model.
    #[error("{} has more than {limit} entries", path.display())]
    TooManyFiles {
        /// The folder.
        path: PathBuf,
        /// The most that are looked at.
        limit: usize,
    },

    /// A model of that name is there already.
    #[error("there is a model named {name} already")]
    ModelExists {
        /// The name.
        name: String,
    },

    /// No model of that name was imported.
    #[error("no imported model is named {name}")]
    NotImported {
        /// The name or ARN as it was asked for.
        name: String,
    },

    /// A file or folder could not be written.
    #[error("cannot write {path}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl From<Error> for bedrock_core::Error {
    /// What the caller can mend in the request is a validation error; a model's own failure wraps its cause.
    fn from(error: Error) -> Self {
        match &error {
            Error::InvalidParameter { .. }
            | Error::TokenOutOfRange { .. }
            | Error::TemplateRefused { .. }
            | Error::UnsupportedContent { .. }
            | Error::PromptWithoutLogits { .. }
            | Error::Constraint { .. }
            | Error::NoTokens
            | Error::TooManyTokens { .. }
            | Error::CacheTooSmall { .. }
            | Error::NoTokenizer { .. }
            | Error::NoChatTemplate { .. } => Self::validation(error.to_string()),
            Error::ModelExists { .. } => Self::conflict(error.to_string()),
            Error::UnknownModel { .. } | Error::NotImported { .. } => Self::resource_not_found(error.to_string()),
            Error::Busy => Self::throttling(error.to_string()),
            Error::DeadlineExceeded => Self::model_timeout(error.to_string()),
            Error::EngineStopped => Self::service_unavailable(error.to_string()),
            _ => Self::backend(error),
        }
    }
}

/// A tensor that is not as the configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongTensor {
    /// Its name in the checkpoint.
    pub name: String,
    /// The shape or type asked for.
    pub expected: String,
    /// The shape and type in the file.
    pub got: String,
}

fn differences(missing: &[String], unknown: &[String], wrong: &[WrongTensor]) -> String {
    let list = |what: &str, names: &[String]| format!("{} {what}: {}", names.len(), first_few(names));
    let wrong: Vec<String> =
        wrong.iter().map(|tensor| format!("{} is {}, not {}", tensor.name, tensor.got, tensor.expected)).collect();
    let parts = [("missing", missing), ("unknown", unknown), ("of another shape or type", &wrong)];
    let parts: Vec<String> =
        parts.into_iter().filter(|(_, names)| !names.is_empty()).map(|(what, names)| list(what, names)).collect();
    parts.join("; ")
}

/// The first names of a list, for a message that stays readable when all of a model's tensors are in it.
fn first_few(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut text = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(", …");
    }
    text
}

fn listed(attempts: &[Attempt]) -> String {
    attempts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
