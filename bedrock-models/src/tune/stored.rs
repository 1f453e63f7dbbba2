//! Files of tensors, written as a whole or not at all, one tensor in memory at a time.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, View};

use crate::error::Error;

/// A tensor that is made when it is written.
pub(super) struct Lazy<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Box<dyn Fn() -> Vec<u8> + 'a>,
}

impl<'a> Lazy<'a> {
    /// Single precision.
    pub(super) fn f32(shape: &[usize], values: impl Fn() -> Vec<f32> + 'a) -> Self {
        let bytes = move || values().iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: Dtype::F32, shape: shape.to_vec(), bytes: Box::new(bytes) }
    }

    /// Bytes.
    pub(super) fn bytes(bytes: Vec<u8>) -> Self {
        Self { dtype: Dtype::U8, shape: vec![bytes.len()], bytes: Box::new(move || bytes.clone()) }
    }
}

impl View for Lazy<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned((self.bytes)())
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// Writes a safetensors file beside its place and moves it there.
///
/// # Errors
/// [`Error::Write`].
pub(super) fn write(path: &Path, tensors: Vec<(String, Lazy<'_>)>) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.to_path_buf(), source };
    let beside = path.with_extension("part");
    // As transformers writes it, which asks for the key.
    let facts = [("format".to_string(), "pt".to_string())].into();
    safetensors::serialize_to_file(tensors, Some(facts), &beside).map_err(|error| match error {
        SafeTensorError::IoError(source) => failed(source),
        other => failed(io::Error::other(other)),
    })?;
    File::open(&beside).and_then(|file| file.sync_all()).map_err(failed)?;
    fs::rename(&beside, path).map_err(failed)
}

/// Writes a file beside its place and moves it there.
///
/// # Errors
/// [`Error::Write`].
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.to_path_buf(), source };
    let beside = path.with_extension("part");
    let mut file = File::create(&beside).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&beside, path).map_err(failed)
}
