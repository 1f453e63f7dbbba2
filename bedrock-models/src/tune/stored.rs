//! Files of a job, written as a whole or not at all; of tensors one in memory at a time, and sealed where there is a sealer.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use bedrock_core::Sealer;
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use crate::error::Error;
use crate::sealed::{self, Writer};

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

    fn len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// Where the bytes of a file go.
enum Out<'a> {
    Plain(BufWriter<File>),
    Sealed(Writer<'a, BufWriter<File>>),
}

/// Writes a safetensors file beside its place and moves it there, with a sealer into its sealed form. What is there in the other form goes. Gives the file's
/// path.
///
/// # Errors
/// [`Error::Write`], [`Error::Seal`].
pub(super) fn write(
    path: &Path,
    mut tensors: Vec<(String, Lazy<'_>)>,
    sealer: Option<&dyn Sealer>,
) -> Result<PathBuf, Error> {
    let sealed = sealed::sealed_form(path);
    let (to, other) = if sealer.is_some() { (&*sealed, path) } else { (path, &*sealed) };
    let failed = |source| Error::Write { path: to.to_path_buf(), source };
    // In the order of the format's reference implementation.
    tensors.sort_by(|(name, tensor), (other, than)| than.dtype.cmp(&tensor.dtype).then(name.cmp(other)));
    let (header, length) = header(&tensors).map_err(|error| failed(io::Error::other(error)))?;
    let beside = to.with_extension("part");
    let written = (|| {
        let file = BufWriter::with_capacity(1 << 20, File::create(&beside).map_err(failed)?);
        let mut out = match sealer {
            Some(sealer) => Out::Sealed(Writer::begin(to, file, sealer, (8 + header.len() + length) as u64)?),
            None => Out::Plain(file),
        };
        let mut put = |bytes: &[u8]| match &mut out {
            Out::Plain(file) => file.write_all(bytes).map_err(failed),
            Out::Sealed(writer) => writer.write(bytes),
        };
        put(&(header.len() as u64).to_le_bytes())?;
        put(&header)?;
        for (_, tensor) in &tensors {
            let bytes = (tensor.bytes)();
            if bytes.len() != tensor.len() {
                return Err(failed(io::Error::other("a tensor has another length than was said")));
            }
            put(&bytes)?;
        }
        let file = match out {
            Out::Plain(file) => file,
            Out::Sealed(writer) => writer.end()?,
        };
        let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        fs::rename(&beside, to).map_err(failed)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written?;
    remove(other)?;
    Ok(to.to_path_buf())
}

/// The header of a safetensors file, and the bytes that follow it.
fn header(tensors: &[(String, Lazy<'_>)]) -> Result<(Vec<u8>, usize), SafeTensorError> {
    let mut end = 0;
    let info = |(name, tensor): &(String, Lazy<'_>)| {
        let start = end;
        end += tensor.len();
        let info = TensorInfo { dtype: tensor.dtype, shape: tensor.shape.clone(), data_offsets: (start, end) };
        (name.clone(), info)
    };
    let infos = tensors.iter().map(info).collect();
    // As transformers writes it, which asks for the key.
    let facts = [("format".to_string(), "pt".to_string())].into();
    let mut header = serde_json::to_vec(&Metadata::new(Some(facts), infos)?)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok((header, end))
}

/// Removes a file, if it is there.
///
/// # Errors
/// [`Error::Write`].
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::Write { path: path.to_path_buf(), source })
        }
        _ => Ok(()),
    }
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

#[cfg(test)]
mod tests {
    use bedrock_core::testing::ChecksumSealer;
    use safetensors::tensor::{TensorView, serialize};

    use super::*;

    #[test]
    fn both_forms_hold_what_the_formats_own_code_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let tensors = || {
            vec![
                ("b.ytes".to_string(), Lazy::bytes(vec![1, 2, 3])),
                ("z".into(), Lazy::f32(&[2, 1], || vec![1.5, -2.0])),
                ("a".into(), Lazy::f32(&[1], || vec![0.25])),
                ("none".into(), Lazy::f32(&[0], Vec::new)),
            ]
        };
        let bytes: Vec<_> = tensors().iter().map(|(_, tensor)| (tensor.bytes)()).collect();
        let views = tensors()
            .into_iter()
            .zip(&bytes)
            .map(|((name, tensor), bytes)| (name, TensorView::new(tensor.dtype, tensor.shape, bytes).unwrap()));
        let expected = serialize(views, Some([("format".to_string(), "pt".to_string())].into())).unwrap();
        assert_eq!(write(&path, tensors(), None).unwrap(), path);
        assert_eq!(fs::read(&path).unwrap(), expected);
        let sealed = write(&path, tensors(), Some(&ChecksumSealer)).unwrap();
        assert_eq!(sealed, folder.path().join("model.safetensors.sealed"));
        assert_eq!(sealed::read(&path, Some(&ChecksumSealer)).unwrap(), expected);
        // One form alone is there, and nothing else.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        write(&path, tensors(), None).unwrap();
        assert!(!sealed.exists() && path.exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failure_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        fs::write(&path, b"older").unwrap();
        let wrong = || vec![("a".to_string(), Lazy::f32(&[3], || vec![1.0]))];
        for sealer in [None, Some(&ChecksumSealer as &dyn Sealer)] {
            assert!(matches!(write(&path, wrong(), sealer), Err(Error::Write { .. })));
        }
        assert_eq!(fs::read(&path).unwrap(), b"older");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
