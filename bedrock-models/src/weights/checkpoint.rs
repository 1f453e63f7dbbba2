//! A bag of stored tensors, taken out by name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bedrock_core::Sealer;
use bytes::Bytes;

use super::{Dtype, block};
use crate::error::{Error, WrongTensor};

/// One tensor as it lies in a file.
///
/// Cheap to clone: `data` is a counted reference into the mapped file.
#[derive(Debug, Clone)]
pub struct StoredTensor {
    /// Name in the file.
    pub name: String,
    /// Storage type.
    pub dtype: Dtype,
    /// Row-major shape, outermost dimension first, for GGUF too (whose files list the innermost first). Empty for a
    /// scalar.
    pub shape: Vec<usize>,
    /// The stored bytes, little endian; exactly `dtype.bytes_for(elements)` of them. A slice of the mapped file, without
    /// any promise about its alignment.
    pub data: Bytes,
}

impl StoredTensor {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        // The product was checked against overflow when the file was opened.
        self.shape.iter().product()
    }

    /// Checks the shape against what a configuration asks for.
    ///
    /// # Errors
    /// [`Error::TensorShape`].
    pub fn expect_shape(&self, expected: &[usize]) -> Result<(), Error> {
        if self.shape == expected {
            return Ok(());
        }
        Err(Error::TensorShape { name: self.name.clone(), expected: expected.to_vec(), got: self.shape.clone() })
    }

    /// All elements in single precision, in row-major order: a copy, for small tensors and for computing in f32.
    ///
    /// # Errors
    /// [`Error::BlockLength`] if the fields were changed so that `data` no longer fits `shape`.
    pub fn to_f32(&self) -> Result<Vec<f32>, Error> {
        let length = Error::BlockLength { dtype: self.dtype, bytes: self.data.len(), elements: self.elements() };
        if self.dtype.bytes_for(self.elements()) != Some(self.data.len()) {
            return Err(length);
        }
        let mut out = vec![0.0; self.elements()];
        block::dequantize(self.dtype, &self.data, &mut out)?;
        Ok(out)
    }
}

/// The tensors of a model, by name.
///
/// A loader [takes](Checkpoint::take) each tensor once and then calls [`finish`](Checkpoint::finish), so that a file
/// made for another architecture is noticed both by what is missing and by what is left over.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    path: PathBuf,
    tensors: BTreeMap<String, StoredTensor>,
    survey: Option<Survey>,
}

/// What is wrong with the tensors of a checkpoint, gathered where loading would end at the first. Layers made meanwhile
/// hold no weights and are not to be used.
#[derive(Debug, Clone, Default)]
pub(crate) struct Survey {
    findings: Arc<Mutex<Findings>>,
}

/// See [`Survey`].
#[derive(Debug, Default)]
struct Findings {
    missing: Vec<String>,
    unknown: Vec<String>,
    wrong: Vec<WrongTensor>,
    /// Tensors that layers multiply with.
    matrices: BTreeSet<String>,
    /// Those that are cut out of another, and that.
    parts: BTreeMap<String, String>,
    /// Those that are turned first.
    turned: BTreeSet<String>,
}

impl Survey {
    /// More are not told apart: a configuration that claims a thousand layers has no other ten thousand to name.
    const MOST: usize = 1000;

    /// Notes a tensor that is not there.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] once there are so many that looking on is of no use.
    pub(crate) fn missing(&self, path: &Path, name: &str) -> Result<(), Error> {
        self.note(path, name, |findings| findings.missing.push(name.to_string()))
    }

    /// Notes a tensor of another shape or type.
    ///
    /// # Errors
    /// As [`Survey::missing`].
    pub(crate) fn wrong(&self, path: &Path, tensor: &StoredTensor, expected: String) -> Result<(), Error> {
        let got = format!("{:?} of {}", tensor.shape, tensor.dtype);
        let name = tensor.name.clone();
        self.note(path, &name.clone(), |findings| findings.wrong.push(WrongTensor { name, expected, got }))
    }

    /// Notes a tensor that a layer multiplies with.
    pub(crate) fn matrix(&self, name: &str) {
        self.findings().matrices.insert(name.to_string());
    }

    /// Notes that a tensor is some rows of another.
    pub(crate) fn part(&self, name: &str, whole: &str) {
        self.findings().parts.insert(name.to_string(), whole.to_string());
    }

    /// Notes a tensor that is turned before anything is done with it.
    pub(crate) fn turned(&self, name: &str) {
        self.findings().turned.insert(name.to_string());
    }

    /// The tensors that layers multiply with as they lie in the file, whole or in rows.
    pub(crate) fn matrices(&self) -> BTreeSet<String> {
        let findings = self.findings();
        let whole = findings.matrices.iter().map(|name| findings.parts.get(name).unwrap_or(name));
        whole.filter(|name| !findings.turned.contains(*name)).cloned().collect()
    }

    fn findings(&self) -> MutexGuard<'_, Findings> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, path: &Path, name: &str, note: impl FnOnce(&mut Findings)) -> Result<(), Error> {
        let mut findings = self.findings();
        note(&mut findings);
        if findings.missing.len() + findings.wrong.len() < Self::MOST {
            return Ok(());
        }
        Err(Error::MissingTensor { path: path.to_path_buf(), name: name.to_string() })
    }

    /// The verdict, given how loading ended.
    ///
    /// # Errors
    /// [`Error::Tensors`] if anything was noted, else what loading failed with.
    pub(crate) fn end<T>(self, path: &Path, loaded: Result<T, Error>) -> Result<T, Error> {
        let Findings { missing, unknown, wrong, .. } = std::mem::take(&mut *self.findings());
        if missing.is_empty() && unknown.is_empty() && wrong.is_empty() {
            return loaded;
        }
        Err(Error::Tensors { path: path.to_path_buf(), missing, unknown, wrong })
    }
}

impl Checkpoint {
    /// Opens the safetensors weights of a model: a folder in Hugging Face layout (`model.safetensors`, or shards listed
    /// in `model.safetensors.index.json`; or `model.quantized`, which [`import`](crate::import) makes of them), one `.safetensors`
    /// file, or one `.safetensors.index.json` file.
    ///
    /// Maps the files; no weight is read yet. Pickled weights (`pytorch_model.bin`) are never opened: reading them runs
    /// code from the file.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::NotAFile`], [`Error::NoWeights`], [`Error::FileTooLarge`] for an index that is larger than
    /// any real one, [`Error::Safetensors`] and [`Error::Gguf`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(path, None)
    }

    /// [`Checkpoint::open`] of weights that may be sealed: where `{name}.safetensors.sealed` is instead of `{name}.safetensors`, or with a
    /// sealer beside it, that is opened, into memory.
    ///
    /// # Errors
    /// As there; [`Error::SealMismatch`] for sealed weights without a sealer; [`Error::Seal`] and [`Error::Malformed`] for those of another key, changed or
    /// cut.
    pub fn open_with(path: impl AsRef<Path>, sealer: Option<&dyn Sealer>) -> Result<Self, Error> {
        super::safetensors::open(path.as_ref(), sealer)
    }

    /// Reads one safetensors file from memory; `path` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Safetensors`].
    pub fn from_safetensors(bytes: Bytes, path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        match super::safetensors::parse(&bytes) {
            Ok(tensors) => Ok(Self::new(path, tensors)),
            Err(source) => Err(Error::Safetensors { path, source }),
        }
    }

    /// The caller has made sure that no two tensors share a name.
    pub(super) fn new(path: PathBuf, tensors: impl IntoIterator<Item = StoredTensor>) -> Self {
        let tensors = tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
        Self { path, tensors, survey: None }
    }

    /// The file or folder that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of tensors not yet taken.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether every tensor has been taken.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The tensors not yet taken, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = &StoredTensor> {
        self.tensors.values()
    }

    /// Whether a tensor is there and not yet taken.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Looks at a tensor without taking it.
    pub fn get(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors.get(name)
    }

    /// Takes a tensor out.
    ///
    /// # Errors
    /// [`Error::MissingTensor`].
    pub fn take(&mut self, name: &str) -> Result<StoredTensor, Error> {
        self.take_optional(name).ok_or_else(|| Error::MissingTensor { path: self.path.clone(), name: name.to_string() })
    }

    /// Takes a tensor out if it is there.
    pub fn take_optional(&mut self, name: &str) -> Option<StoredTensor> {
        self.tensors.remove(name)
    }

    /// Notes what is wrong in `survey` instead of failing at the first.
    pub(crate) fn surveyed(mut self, survey: &Survey) -> Self {
        self.survey = Some(survey.clone());
        self
    }

    /// Where findings are noted, if nothing is to be loaded.
    pub(crate) fn survey(&self) -> Option<&Survey> {
        self.survey.as_ref()
    }

    /// Puts a tensor there under its name, in place of one that has it.
    pub(crate) fn insert(&mut self, tensor: StoredTensor) {
        self.tensors.insert(tensor.name.clone(), tensor);
    }

    /// Ends the loading: tensors still here were not used by the model.
    ///
    /// `ignorable` names those that may be left over: exact names, or patterns with one `*` for any run of characters
    /// (`*.rotary_emb.inv_freq`, `pooler.*`).
    ///
    /// # Errors
    /// [`Error::UnusedTensors`] with every other name.
    pub fn finish(self, ignorable: &[&str]) -> Result<(), Error> {
        let names: Vec<String> = self
            .tensors
            .into_keys()
            .filter(|name| !ignorable.iter().any(|pattern| matches_pattern(pattern, name)))
            .collect();
        if let Some(survey) = &self.survey {
            survey.findings().unknown.extend(names);
            return Ok(());
        }
        if names.is_empty() { Ok(()) } else { Err(Error::UnusedTensors { path: self.path, names }) }
    }
}

fn matches_pattern(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, end)) => name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(names: &[&str]) -> Checkpoint {
        let tensor = |name: &&str| StoredTensor {
            name: (*name).to_string(),
            dtype: Dtype::F32,
            shape: vec![2],
            data: Bytes::from_static(&[0, 0, 128, 63, 0, 0, 0, 192]),
        };
        Checkpoint::new(PathBuf::from("model"), names.iter().map(tensor))
    }

    #[test]
    fn a_tensor_is_taken_once() {
        let mut tensors = checkpoint(&["a"]);
        assert_eq!(tensors.take("a").unwrap().to_f32().unwrap(), [1.0, -2.0]);
        let error = tensors.take("a").unwrap_err();
        assert_eq!(error.to_string(), "model has no tensor a");
        tensors.finish(&[]).unwrap();
    }

    #[test]
    fn leftovers_are_named_unless_ignorable() {
        let names = ["h.0.attn.inv_freq", "pooler.dense.bias", "position_ids", "x"];
        checkpoint(&names).finish(&["*.inv_freq", "pooler.*", "position_ids", "x"]).unwrap();
        let error = checkpoint(&names).finish(&["*.inv_freq", "pooler"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "model has 3 tensors that the model does not use: pooler.dense.bias, position_ids, x"
        );
    }

    #[test]
    fn a_pattern_does_not_match_itself_overlapping() {
        assert!(!matches_pattern("aba*ba", "aba"));
        assert!(matches_pattern("aba*ba", "ababa"));
        assert!(matches_pattern("*", ""));
    }

    #[test]
    fn shapes_are_compared() {
        let tensors = checkpoint(&["a"]);
        let tensor = tensors.get("a").unwrap();
        tensor.expect_shape(&[2]).unwrap();
        assert_eq!(
            tensor.expect_shape(&[1, 2]).unwrap_err().to_string(),
            "tensor a has shape [2], the configuration says [1, 2]"
        );
    }

    #[test]
    fn changed_fields_do_not_decode_out_of_bounds() {
        let mut tensor = checkpoint(&["a"]).take("a").unwrap();
        tensor.shape = vec![3];
        assert!(matches!(tensor.to_f32(), Err(Error::BlockLength { bytes: 8, elements: 3, .. })));
    }
}
