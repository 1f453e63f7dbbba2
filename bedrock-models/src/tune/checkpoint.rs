//! What a job needs to go on as if it had never ended: parameters, moments, measures, and which job it was.
//!
//! The order of the items and what dropout drops follow from the seed and the number of steps, so there is no generator to keep.

use std::fs;
use std::path::{Path, PathBuf};

use bedrock_core::Sealer;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::data::CustomizationType;
use super::learner::Learner;
use super::metrics::Measure;
use super::record::Losses;
use super::reference;
use super::stored::{self, Lazy};
use crate::error::Error;
use crate::sealed;
use crate::weights::Checkpoint;

/// The folder in a job's.
pub(super) const FOLDER: &str = "checkpoints";
/// The tensor that says how far the job was.
const STATE: &str = "state";
/// Of the format of these files.
const VERSION: u32 = 2;

/// What a job must have in common with a checkpoint's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    /// Hashes of the training file and of the validation files.
    pub(super) training_data: String,
    pub(super) validation_data: Vec<String>,
    /// Names and lengths of the base's files.
    pub(super) base: Vec<(String, u64)>,
    pub(super) settings: Map<String, Value>,
}

/// How far a job is, besides the parameters.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Progress {
    pub(super) losses: Losses,
    /// Tokens and seconds of all steps.
    pub(super) tokens: u64,
    pub(super) seconds: f64,
}

/// [`Progress`] as it is written: numbers by their bits, since text would round them.
#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    job: Fingerprint,
    steps: u64,
    losses: Vec<Vec<u64>>,
    validation: Vec<(u64, Vec<u64>)>,
    tokens: u64,
    seconds: u64,
}

impl Fingerprint {
    /// The first thing that another job has different.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        if self.training_data != other.training_data {
            return Some("training data".into());
        }
        if self.validation_data != other.validation_data {
            return Some("validation data".into());
        }
        if self.base != other.base {
            return Some("base model".into());
        }
        let names = self.settings.keys().chain(other.settings.keys());
        let mut differing = names.filter(|name| self.settings.get(*name) != other.settings.get(*name));
        differing.next().map(|name| format!("settings: {name}"))
    }
}

/// Names and lengths of the files of a model.
pub(super) fn files(base: &Path) -> Result<Vec<(String, u64)>, Error> {
    let failed = |source| Error::Read { path: base.to_path_buf(), source };
    if !base.is_dir() {
        return Ok(vec![(crate::language_model::name_of(base), fs::metadata(base).map_err(failed)?.len())]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(base).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let facts = fs::metadata(&path).map_err(failed)?;
        let wanted = path.extension().is_some_and(|end| end == "safetensors" || end == "json" || end == "sealed");
        if let Some(name) = path.file_name().filter(|_| wanted && facts.is_file()) {
            files.push((name.to_string_lossy().into_owned(), facts.len()));
        }
    }
    files.sort();
    Ok(files)
}

/// Writes a checkpoint into a job's folder, then removes older ones. It is sealed if the learner has a sealer.
///
/// # Errors
/// [`Error::Write`], [`Error::Seal`].
pub(super) fn write(
    folder: &Path,
    learner: &Learner,
    job: &Fingerprint,
    progress: &Progress,
) -> Result<PathBuf, Error> {
    let folder = folder.join(FOLDER);
    fs::create_dir_all(&folder).map_err(|source| Error::Write { path: folder.clone(), source })?;
    let bits = |measure: &Measure| measure.numbers().into_iter().map(f64::to_bits).collect();
    let written = Written {
        version: VERSION,
        job: job.clone(),
        steps: learner.steps(),
        losses: progress.losses.steps.iter().map(bits).collect(),
        validation: progress.losses.validation.iter().map(|(step, measure)| (*step, bits(measure))).collect(),
        tokens: progress.tokens,
        seconds: progress.seconds.to_bits(),
    };
    let path = folder.join(format!("step-{:09}.safetensors", learner.steps()));
    let state =
        serde_json::to_vec(&written).map_err(|error| Error::Write { path: path.clone(), source: error.into() })?;
    let mut tensors = vec![(STATE.to_string(), Lazy::bytes(state))];
    for (parameter, moments) in learner.state() {
        let name = parameter.name();
        tensors.push((format!("parameter.{name}"), Lazy::f32(parameter.shape(), || parameter.values())));
        tensors.push((format!("mean.{name}"), Lazy::f32(&[parameter.len()], || moments.mean())));
        tensors.push((format!("square.{name}"), Lazy::f32(&[parameter.len()], || moments.square())));
    }
    let path = stored::write(&path, tensors, learner.sealer())?;
    for old in found(&folder).into_iter().filter(|old| *old != path) {
        // If it stays, the next checkpoint tries again; the newest is read.
        let _ = fs::remove_file(old);
    }
    Ok(path)
}

/// Checkpoints, the oldest first.
fn found(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.strip_prefix("step-")
            .and_then(|name| name.strip_suffix(".safetensors").or_else(|| name.strip_suffix(".safetensors.sealed")))
            .is_some_and(|number| number.len() == 9 && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let mut paths: Vec<PathBuf> = entries.filter(ours).collect();
    paths.sort();
    paths
}

/// Removes all checkpoints of a job.
pub(super) fn remove(folder: &Path) {
    let folder = folder.join(FOLDER);
    let reference = folder.join(reference::FILE);
    for path in found(&folder).into_iter().chain([sealed::sealed_form(&reference), reference]) {
        let _ = fs::remove_file(path);
    }
    // Stays if anything else is in it.
    let _ = fs::remove_dir(folder);
}

/// Opens a file that a job goes on from, given the path of its readable form or its own.
///
/// # Errors
/// [`Error::SealMismatch`] if it is sealed and there is no sealer, or the other way round: what nobody has proved is not gone on from, where
/// everything could have been. Those of [`Checkpoint::open_with`].
pub(super) fn open(path: &Path, sealer: Option<&dyn Sealer>) -> Result<Checkpoint, Error> {
    if sealer.is_some() && !sealed::is_sealed(path) && !sealed::sealed_form(path).exists() {
        return Err(Error::SealMismatch { path: path.to_path_buf(), sealed: false });
    }
    Checkpoint::open_with(path, sealer)
}

/// Brings a learner to where the newest checkpoint was; none if there is no checkpoint.
///
/// # Errors
/// [`Error::OtherJob`] for a checkpoint of another job; [`Error::Malformed`], [`Error::MissingTensor`] and [`Error::TensorShape`] for
/// a damaged one; those of its sealer.
pub(super) fn read(
    folder: &Path,
    learner: &mut Learner,
    job: &Fingerprint,
    kind: CustomizationType,
) -> Result<Option<Progress>, Error> {
    let Some(path) = found(&folder.join(FOLDER)).pop() else { return Ok(None) };
    let mut checkpoint = open(&path, learner.sealer())?;
    let malformed = |reason: String| Error::Malformed { path: path.clone(), reason };
    let state = checkpoint.take(STATE)?;
    let state: Written = serde_json::from_slice(&state.data).map_err(|error| malformed(error.to_string()))?;
    if state.version != VERSION {
        return Err(malformed(format!("version {}, only {VERSION} is known", state.version)));
    }
    if let Some(what) = state.job.difference(job) {
        return Err(Error::OtherJob { path, what });
    }
    if state.losses.len() as u64 != state.steps {
        return Err(malformed(format!("{} losses of {} steps", state.losses.len(), state.steps)));
    }
    learner.restore(state.steps, |name, shape| {
        let mut take = |kind: &str, shape: &[usize]| {
            let tensor = checkpoint.take(&format!("{kind}.{name}"))?;
            tensor.expect_shape(shape)?;
            tensor.to_f32()
        };
        let flat = [shape.iter().product()];
        Ok([take("parameter", shape)?, take("mean", &flat)?, take("square", &flat)?])
    })?;
    checkpoint.finish(&[])?;
    let measure = |bits: Vec<u64>| {
        let numbers: Vec<f64> = bits.into_iter().map(f64::from_bits).collect();
        Measure::from_numbers(kind, &numbers).ok_or_else(|| malformed("measures of another kind of job".into()))
    };
    let losses = Losses {
        steps: state.losses.into_iter().map(measure).collect::<Result<_, _>>()?,
        validation: state
            .validation
            .into_iter()
            .map(|(step, bits)| Ok((step, measure(bits)?)))
            .collect::<Result<_, Error>>()?,
    };
    Ok(Some(Progress { losses, tokens: state.tokens, seconds: f64::from_bits(state.seconds) }))
}
