//! Whether a model can be served: architecture, tensors, tokenizer, template, and one small answer.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bedrock_core::{ConverseRequest, EmbedRequest};
use serde::Deserialize;

use super::{ImportOptions, ImportStep, ImportedTask};
use crate::arch::family;
use crate::arch::text_encoder::Purpose;
use crate::chat_template::ChatTemplate;
use crate::classify::{SequenceClassifier, TokenClassifier, labels};
use crate::embed::Embedder;
use crate::encoder::{ENCODERS, Encoder};
use crate::engine::{GenerationEvent, GenerationRequest};
use crate::error::Error;
use crate::generate::SamplingParams;
use crate::language_model::{LANGUAGE_MODELS, LanguageModel, optional, read_json};
use crate::options::LoadOptions;
use crate::tokenizer::Tokenizer;
use crate::weights::{Checkpoint, GgufFile, Survey};
use crate::{LocalChatModel, tokenizer};

/// What the checks have found out.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) architecture: String,
    pub(super) task: ImportedTask,
    /// Whether it has a chat template.
    pub(super) instruct: bool,
    pub(super) max_tokens: usize,
    pub(super) parameters: u64,
    /// As the model's own files state it.
    pub(super) licence: Option<String>,
}

/// All architectures, for the message that names them.
static SUPPORTED: LazyLock<Vec<&'static str>> = LazyLock::new(|| [LANGUAGE_MODELS, ENCODERS].concat());

/// The texts of the trial.
const PROMPT: &str = "Hello";
const ANSWER_TOKENS: usize = 4;
/// How often a trial asks whether to go on.
const ASKING: Duration = Duration::from_millis(100);

/// Checks everything that can be checked without using a weight, then tries the model. `report` says whether to go on.
pub(super) fn check(
    path: &Path,
    options: &ImportOptions,
    report: &mut dyn FnMut(ImportStep<'_>) -> Result<(), Error>,
) -> Result<Checked, Error> {
    contained(path, || check_all(path, options, report))
}

fn contained<T>(path: &Path, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    // Files contradict each other in more ways than anyone lists: what slips through costs this import, not the process.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = tokenizer::panic_message(&*panic);
        Err(Error::DependencyPanic { path: path.to_path_buf(), action: "load a model", message })
    })
}

fn check_all(
    path: &Path,
    options: &ImportOptions,
    report: &mut dyn FnMut(ImportStep<'_>) -> Result<(), Error>,
) -> Result<Checked, Error> {
    let load = load_options(options);
    report(ImportStep::CheckingTensors)?;
    if !path.is_dir() {
        return check_gguf(path, options, &load, report);
    }
    let licence = licence_of_folder(path);
    let Surveyed { architecture, model, parameters, .. } = survey_folder(path, &load)?;
    if !path.join("tokenizer.json").exists() {
        return Err(Error::NoTokenizer { path: path.to_path_buf() });
    }
    let (task, instruct, max_tokens) = match model {
        Model::Language { has_encoder } => {
            let instruct = optional(ChatTemplate::from_folder(path))?.is_some();
            demand_template(path, instruct || has_encoder, options)?;
            let max_tokens = attempt(&load, report, |load| try_language_model(path, options, load))?;
            (ImportedTask::Text, instruct, max_tokens)
        }
        Model::Encoder(task) => (task, false, attempt(&load, report, |load| try_encoder(path, task, load))?),
    };
    Ok(Checked { architecture, task, instruct, max_tokens, parameters, licence })
}

fn load_options(options: &ImportOptions) -> LoadOptions {
    LoadOptions { threads: options.threads, quantize: options.quantize, ..LoadOptions::default() }
}

/// The tensors of a folder that layers multiply with as they lie there, after the same comparison with the configuration as in
/// [`check`].
pub(super) fn matrices(path: &Path, options: &ImportOptions) -> Result<BTreeSet<String>, Error> {
    contained(path, || Ok(survey_folder(path, &load_options(options))?.matrices))
}

/// What a folder's configuration and tensors say, no weight used.
struct Surveyed {
    architecture: String,
    model: Model,
    parameters: u64,
    matrices: BTreeSet<String>,
}

enum Model {
    Language { has_encoder: bool },
    Encoder(ImportedTask),
}

fn survey_folder(path: &Path, load: &LoadOptions) -> Result<Surveyed, Error> {
    #[derive(Deserialize)]
    struct Named {
        model_type: Option<String>,
        #[serde(default)]
        architectures: Option<Vec<String>>,
    }
    let file = path.join("config.json");
    let Named { model_type, architectures } = read_json(&file)?;
    let architecture = model_type.unwrap_or_default();
    let class = architectures.unwrap_or_default().into_iter().next().unwrap_or_default();
    let checkpoint = Checkpoint::open(path)?;
    let parameters = parameters(&checkpoint);
    if LANGUAGE_MODELS.contains(&architecture.as_str()) {
        let survey = Survey::default();
        let loaded = family::load_folder(path, checkpoint.surveyed(&survey), &architecture, load.compute(), None);
        let matrices = survey.matrices();
        let model = Model::Language { has_encoder: survey.end(path, loaded)?.network.has_encoder() };
        return Ok(Surveyed { architecture, model, parameters, matrices });
    }
    drop(checkpoint);
    if !ENCODERS.contains(&architecture.as_str()) {
        let found = if class.is_empty() { architecture } else { format!("{architecture} ({class})") };
        return Err(Error::UnsupportedArchitecture { path: file, found, supported: SUPPORTED.as_slice() });
    }
    let (task, purpose) = match class.as_str() {
        class if class.ends_with("ForSequenceClassification") => {
            let labels = labels(&read_json(&file)?, path)?.len();
            let task = if labels == 1 { ImportedTask::Reranking } else { ImportedTask::Classification };
            (task, Purpose::Sequence { labels })
        }
        class if class.ends_with("ForTokenClassification") => {
            let labels = labels(&read_json(&file)?, path)?.len();
            (ImportedTask::TokenClassification, Purpose::Tokens { labels })
        }
        _ => (ImportedTask::Embedding, Purpose::Vectors),
    };
    let matrices = Encoder::survey(path, &load.compute(), purpose)?;
    Ok(Surveyed { architecture, model: Model::Encoder(task), parameters, matrices })
}

fn check_gguf(
    path: &Path,
    options: &ImportOptions,
    load: &LoadOptions,
    report: &mut dyn FnMut(ImportStep<'_>) -> Result<(), Error>,
) -> Result<Checked, Error> {
    let GgufFile { metadata, checkpoint } = GgufFile::open(path)?;
    let architecture = metadata.required::<&str>("general.architecture")?.to_string();
    let parameters = parameters(&checkpoint);
    let survey = Survey::default();
    let loaded = family::load_file(&metadata, checkpoint.surveyed(&survey), load.compute(), None);
    let loaded = survey.end(path, loaded)?;
    if metadata.get("tokenizer.ggml.model").is_none() {
        return Err(Error::NoTokenizer { path: path.to_path_buf() });
    }
    Tokenizer::from_gguf(&metadata)?;
    let instruct = optional(ChatTemplate::from_gguf(&metadata))?.is_some();
    demand_template(path, instruct || loaded.network.has_encoder(), options)?;
    let licence = metadata.optional::<&str>("general.license")?.map(str::to_string);
    drop((loaded, metadata));
    let max_tokens = attempt(load, report, |load| try_language_model(path, options, load))?;
    Ok(Checked { architecture, task: ImportedTask::Text, instruct, max_tokens, parameters, licence })
}

fn demand_template(path: &Path, is_there: bool, options: &ImportOptions) -> Result<(), Error> {
    if is_there || options.without_template {
        return Ok(());
    }
    Err(Error::NoChatTemplate { path: path.to_path_buf(), name: None })
}

fn parameters(checkpoint: &Checkpoint) -> u64 {
    checkpoint.iter().fold(0, |sum, tensor| sum.saturating_add(tensor.elements() as u64))
}

/// Has a thread load a model and try it, and asks meanwhile whether to go on. If not, loading ends before the next tensor.
fn attempt(
    load: &LoadOptions,
    report: &mut dyn FnMut(ImportStep<'_>) -> Result<(), Error>,
    work: impl FnOnce(&LoadOptions) -> Result<usize, Error> + Send,
) -> Result<usize, Error> {
    report(ImportStep::Trying)?;
    let cancel = Arc::new(AtomicBool::new(false));
    let load = LoadOptions { cancel: Some(cancel.clone()), ..load.clone() };
    let (working, ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            let _working = working;
            work(&load)
        });
        let mut refused = None;
        while ended.recv_timeout(ASKING) == Err(RecvTimeoutError::Timeout) {
            if refused.is_none() {
                refused = report(ImportStep::Trying).err();
                cancel.store(refused.is_some(), Ordering::Relaxed);
            }
        }
        let outcome = worker.join().unwrap_or_else(|panic| resume_unwind(panic));
        refused.map_or(outcome, Err)
    })
}

/// Loads the model and lets it answer in a few tokens. Returns its context.
fn try_language_model(path: &Path, options: &ImportOptions, load: &LoadOptions) -> Result<usize, Error> {
    let model = LanguageModel::load(path, load)?;
    let max_tokens = model.max_tokens();
    let mut tokens = model.tokenizer()?.encode(PROMPT, true)?;
    tokens.truncate(max_tokens.saturating_sub(ANSWER_TOKENS).max(1));
    if tokens.is_empty() {
        tokens.push(0);
    }
    let logits = model.last_logits(std::slice::from_ref(&tokens))?;
    let odd = logits[0].iter().enumerate().find(|(_, value)| !value.is_finite());
    if let Some((id, value)) = odd {
        return Err(Error::NonFiniteLogit { id: id as u32, value: *value });
    }
    let has_template = model.template().is_ok();
    let chat = LocalChatModel::serve(model, load)?;
    if has_template {
        // A template that cannot render the simplest conversation is as good as none.
        match chat.prompt(&ConverseRequest::new("").user(PROMPT)) {
            Ok(prompt) if !prompt.is_empty() && prompt.len() + ANSWER_TOKENS <= max_tokens => tokens = prompt,
            Ok(_) => {}
            Err(_) if options.without_template => {}
            Err(error) => return Err(error),
        }
    }
    let generation = chat.engine().generate(GenerationRequest {
        prompt: tokens,
        sampling: SamplingParams::greedy(),
        max_tokens: Some(ANSWER_TOKENS),
        ignore_end: true,
        ..GenerationRequest::default()
    })?;
    for event in generation {
        if load.cancel.as_ref().is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
            return Err(Error::Cancelled);
        }
        if let GenerationEvent::Finished { .. } = event? {
            return Ok(max_tokens);
        }
    }
    Err(Error::EngineStopped)
}

/// Loads the model and gives it one text. Returns the most tokens it takes.
fn try_encoder(path: &Path, task: ImportedTask, load: &LoadOptions) -> Result<usize, Error> {
    let texts = [(PROMPT.to_string(), None)];
    let (values, max_tokens) = match task {
        ImportedTask::Classification | ImportedTask::Reranking => {
            let model = SequenceClassifier::load(path, load)?;
            (model.logits(&texts)?.concat(), model.max_tokens())
        }
        ImportedTask::TokenClassification => {
            let model = TokenClassifier::load(path, load)?;
            (model.logits(PROMPT)?.logits.concat(), model.max_tokens())
        }
        _ => {
            let model = Embedder::load(path, load)?;
            (model.embed_here(&EmbedRequest::documents([PROMPT]))?.embeddings.concat(), model.max_tokens())
        }
    };
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(Error::NonFiniteLogit { id: index as u32, value: values[index] }),
        None => Ok(max_tokens),
    }
}

/// `license` in the head of the folder's `README.md`, as the hub's model cards have it.
fn licence_of_folder(path: &Path) -> Option<String> {
    let bytes = tokenizer::read_bounded(&path.join("README.md"), 4 << 20).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let head = text.strip_prefix("---")?.split("\n---").next()?;
    let value = |key: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        let value: String = line.trim().trim_matches(['"', '\'']).chars().take(200).collect();
        (!value.is_empty()).then_some(value)
    };
    match value("license") {
        Some(licence) if licence == "other" => value("license_name").or(Some(licence)),
        licence => licence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The trial here does not end by itself.
    #[test]
    fn a_trial_is_asked_about_and_given_up() {
        let mut asked = 0;
        let mut report = |step: ImportStep<'_>| {
            assert_eq!(step, ImportStep::Trying);
            asked += 1;
            if asked < 3 { Ok(()) } else { Err(Error::Cancelled) }
        };
        let outcome = attempt(&LoadOptions::default(), &mut report, |load| {
            while !load.cancel.as_ref().unwrap().load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            Ok(1)
        });
        assert!(matches!(outcome, Err(Error::Cancelled)));
        assert_eq!(asked, 3);
        let panics = || attempt(&LoadOptions::default(), &mut |_| Ok(()), |_| panic!("on purpose"));
        assert!(
            matches!(contained(Path::new("m"), panics), Err(Error::DependencyPanic { message, .. }) if message == "on purpose")
        );
    }

    #[test]
    fn the_licence_is_read_from_the_model_card() {
        let folder = tempfile::tempdir().unwrap();
        let licence = |card: &str| {
            std::fs::write(folder.path().join("README.md"), card).unwrap();
            licence_of_folder(folder.path())
        };
        assert_eq!(licence("---\nlicense: apache-2.0\ntags: []\n---\n# Model"), Some("apache-2.0".into()));
        assert_eq!(licence("---\nlicense: other\nlicense_name: llama3\n---\n"), Some("llama3".into()));
        assert_eq!(licence("# Model\nlicense: mit"), None);
        assert_eq!(licence("---\ntags: []\n---\nlicense: mit"), None);
        assert_eq!(licence_of_folder(&folder.path().join("none")), None);
    }
}
