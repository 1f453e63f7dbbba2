//! The files of a case.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::findings::Stop;
use crate::error::Error;
use crate::language_model::read_json;
use crate::weights::Checkpoint;

/// The file that makes a folder a case.
pub(super) const EXPECTED: &str = "expected.json";

/// A case: its folder and its reference tensors.
pub(super) struct Case {
    pub(super) folder: PathBuf,
    kind: String,
    tensors: Option<Checkpoint>,
}

/// A tensor as `expected.json` writes it.
#[derive(Debug, Deserialize)]
pub(super) struct TensorRef {
    tensor: String,
    shape: Vec<usize>,
}

#[derive(Deserialize)]
struct Head {
    kind: String,
}

impl Case {
    pub(super) fn open(folder: &Path) -> Result<Self, Stop> {
        let Head { kind } = read_json(&folder.join(EXPECTED))?;
        let tensors = folder.join("expected.safetensors");
        let tensors = if tensors.exists() { Some(Checkpoint::open(&tensors)?) } else { None };
        Ok(Self { folder: folder.to_path_buf(), kind, tensors })
    }

    pub(super) fn kind(&self) -> &str {
        &self.kind
    }

    /// `expected.json`, in the form of the case's kind.
    pub(super) fn expected<T: DeserializeOwned>(&self) -> Result<T, Stop> {
        Ok(read_json(&self.folder.join(EXPECTED))?)
    }

    /// The values of a reference tensor, row-major.
    pub(super) fn tensor(&self, reference: &TensorRef) -> Result<Vec<f32>, Stop> {
        let name = &reference.tensor;
        let missing = || Error::MissingTensor { path: self.folder.join("expected.safetensors"), name: name.clone() };
        let tensor = self.tensors.as_ref().and_then(|tensors| tensors.get(name)).ok_or_else(missing)?;
        tensor.expect_shape(&reference.shape)?;
        Ok(tensor.to_f32()?)
    }

    /// A reference tensor as rows of its last dimension.
    pub(super) fn rows(&self, reference: &TensorRef) -> Result<Vec<Vec<f32>>, Stop> {
        let values = self.tensor(reference)?;
        let width = reference.shape.last().copied().unwrap_or(1).max(1);
        Ok(values.chunks(width).map(<[f32]>::to_vec).collect())
    }
}

/// The index of the largest value, the first among equals.
pub(super) fn largest(values: &[f32]) -> u32 {
    values.iter().enumerate().fold(0, |best, (index, value)| if *value > values[best] { index } else { best }) as u32
}
