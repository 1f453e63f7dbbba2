//! How probable the base finds the answers of preferences: computed before the first step, and kept in the job's folder.
//!
//! A trainer that has made no step answers as the base does, also with a new adapter, whose product is zero: so no second model is needed.

use std::fs;
use std::path::Path;

use bedrock_core::Sealer;

use super::checkpoint::{self, FOLDER, Fingerprint};
use super::stored::{self, Lazy};
use crate::error::Error;
use crate::sealed;

/// The file, beside the checkpoints.
pub(super) const FILE: &str = "reference.safetensors";
/// Its tensors: which job it is of, and pairs of numbers.
const JOB: &str = "job";
const PAIRS: &str = "log_probabilities";

/// Writes what is known so far.
///
/// # Errors
/// [`Error::Write`], [`Error::Seal`].
pub(super) fn write(
    folder: &Path,
    job: &Fingerprint,
    pairs: &[[f64; 2]],
    sealer: Option<&dyn Sealer>,
) -> Result<(), Error> {
    let folder = folder.join(FOLDER);
    let failed = |source| Error::Write { path: folder.clone(), source };
    fs::create_dir_all(&folder).map_err(failed)?;
    let job = serde_json::to_vec(job).map_err(|error| failed(error.into()))?;
    let bytes = pairs.as_flattened().iter().flat_map(|value| value.to_le_bytes()).collect();
    let tensors = vec![(JOB.into(), Lazy::bytes(job)), (PAIRS.into(), Lazy::bytes(bytes))];
    stored::write(&folder.join(FILE), tensors, sealer)?;
    Ok(())
}

/// Reads what is known; nothing if there is no file.
///
/// # Errors
/// [`Error::OtherJob`] for that of another job; [`Error::Malformed`] and [`Error::MissingTensor`] for a damaged one; those of its sealer.
pub(super) fn read(folder: &Path, job: &Fingerprint, sealer: Option<&dyn Sealer>) -> Result<Vec<[f64; 2]>, Error> {
    let path = folder.join(FOLDER).join(FILE);
    if !sealed::exists(&path) {
        return Ok(Vec::new());
    }
    let mut file = checkpoint::open(&path, sealer)?;
    let malformed = |reason: String| Error::Malformed { path: path.clone(), reason };
    let written: Fingerprint =
        serde_json::from_slice(&file.take(JOB)?.data).map_err(|error| malformed(error.to_string()))?;
    if let Some(what) = written.difference(job) {
        return Err(Error::OtherJob { path, what });
    }
    let bytes = file.take(PAIRS)?.data;
    let (pairs, rest) = bytes.as_chunks::<16>();
    if !rest.is_empty() {
        return Err(malformed("half a pair of numbers".into()));
    }
    let number = |bytes: &[u8]| f64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    Ok(pairs.iter().map(|pair| [number(&pair[..8]), number(&pair[8..])]).collect())
}
