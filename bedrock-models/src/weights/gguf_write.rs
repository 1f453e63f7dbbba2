//! Writing GGUF files, version 3; the format is described in the reader beside this.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

pub(crate) use super::gguf::ggml_type;
use super::{Array, Dtype, Metadata, Value};
use crate::error::Error;

const ALIGNMENT: u64 = 32;

/// Name, type and shape (outermost first) of a tensor that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TensorPlan {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
}

impl TensorPlan {
    /// `None` for a type that GGUF has no number for, and for a shape that overflows.
    fn bytes(&self) -> Option<u64> {
        ggml_type(self.dtype)?;
        let elements = self.shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size))?;
        self.dtype.bytes_for(elements).map(|bytes| bytes as u64)
    }
}

/// Writes a file with this metadata and these tensors, whose bytes `data` gives one after another. Other metadata about
/// alignment and splits than what is written is left out.
///
/// The file appears under its name when it is whole; one that was there before is replaced then.
///
/// # Errors
/// [`Error::Write`], [`Error::Encode`] for a tensor that GGUF can't hold or `data` of another length than planned, and
/// what `data` fails with. Nothing is left of a file that was not finished.
pub(crate) fn write_gguf(
    path: &Path,
    metadata: &Metadata,
    tensors: &[TensorPlan],
    data: impl FnMut(usize) -> Result<Vec<u8>, Error>,
) -> Result<u64, Error> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.part", std::process::id()));
    let part = Part { path: path.with_file_name(name) };
    let failed = |source| Error::Write { path: path.to_path_buf(), source };
    let file = File::create(&part.path).map_err(failed)?;
    let mut out = Counted { out: BufWriter::with_capacity(1 << 20, file), written: 0 };
    write_all(&mut out, metadata, tensors, data, &failed)?;
    let file = out.out.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    drop(file);
    std::fs::rename(&part.path, path).map_err(failed)?;
    Ok(out.written)
}

/// An unfinished file: removed when dropped, which after the renaming removes nothing.
struct Part {
    path: PathBuf,
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn write_all(
    out: &mut Counted<impl Write>,
    metadata: &Metadata,
    tensors: &[TensorPlan],
    mut data: impl FnMut(usize) -> Result<Vec<u8>, Error>,
    failed: &dyn Fn(io::Error) -> Error,
) -> Result<(), Error> {
    let keys: Vec<_> =
        metadata.iter().filter(|(key, _)| *key != "general.alignment" && !key.starts_with("split.")).collect();
    let mut header = Vec::new();
    header.extend_from_slice(b"GGUF");
    header.extend_from_slice(&3u32.to_le_bytes());
    header.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
    header.extend_from_slice(&(keys.len() as u64).to_le_bytes());
    for (key, value) in keys {
        text(&mut header, key);
        put_value(&mut header, value);
    }
    let mut offset = 0u64;
    let mut sizes = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let refused = || Error::Encode { dtype: tensor.dtype, elements: tensor.shape.iter().product() };
        let bytes = tensor.bytes().ok_or_else(refused)?;
        text(&mut header, &tensor.name);
        header.extend_from_slice(&(tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|size| header.extend_from_slice(&(*size as u64).to_le_bytes()));
        header.extend_from_slice(&ggml_type(tensor.dtype).ok_or_else(refused)?.to_le_bytes());
        header.extend_from_slice(&offset.to_le_bytes());
        offset += bytes.next_multiple_of(ALIGNMENT);
        sizes.push(bytes);
    }
    out.write_all(&header).map_err(failed)?;
    for (index, size) in sizes.into_iter().enumerate() {
        out.pad().map_err(failed)?;
        let bytes = data(index)?;
        if bytes.len() as u64 != size {
            let TensorPlan { dtype, shape, .. } = &tensors[index];
            return Err(Error::Encode { dtype: *dtype, elements: shape.iter().product() });
        }
        out.write_all(&bytes).map_err(failed)?;
    }
    out.pad().map_err(failed)
}

/// Knows how much was written, for the padding.
struct Counted<W> {
    out: W,
    written: u64,
}

impl<W: Write> Counted<W> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn pad(&mut self) -> io::Result<()> {
        let missing = self.written.next_multiple_of(ALIGNMENT) - self.written;
        self.write_all(&[0; ALIGNMENT as usize][..missing as usize])
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    let mut scalar = |kind: u32, bytes: &[u8]| {
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(bytes);
    };
    match value {
        Value::U8(value) => scalar(0, &value.to_le_bytes()),
        Value::I8(value) => scalar(1, &value.to_le_bytes()),
        Value::U16(value) => scalar(2, &value.to_le_bytes()),
        Value::I16(value) => scalar(3, &value.to_le_bytes()),
        Value::U32(value) => scalar(4, &value.to_le_bytes()),
        Value::I32(value) => scalar(5, &value.to_le_bytes()),
        Value::F32(value) => scalar(6, &value.to_le_bytes()),
        Value::Bool(value) => scalar(7, &[u8::from(*value)]),
        Value::String(value) => {
            scalar(8, &[]);
            text(out, value);
        }
        Value::Array(array) => {
            scalar(9, &[]);
            put_array(out, array);
        }
        Value::U64(value) => scalar(10, &value.to_le_bytes()),
        Value::I64(value) => scalar(11, &value.to_le_bytes()),
        Value::F64(value) => scalar(12, &value.to_le_bytes()),
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    fn numbers<T: Copy, const N: usize>(out: &mut Vec<u8>, kind: u32, values: &[T], encode: fn(T) -> [u8; N]) {
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&(values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| out.extend_from_slice(&encode(*value)));
    }
    let mut head = |kind: u32, len: usize| {
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&(len as u64).to_le_bytes());
    };
    match array {
        Array::String(values) => {
            head(8, values.len());
            values.iter().for_each(|value| text(out, value));
        }
        Array::Array(values) => {
            head(9, values.len());
            values.iter().for_each(|value| put_array(out, value));
        }
        Array::U8(values) => numbers(out, 0, values, u8::to_le_bytes),
        Array::I8(values) => numbers(out, 1, values, i8::to_le_bytes),
        Array::U16(values) => numbers(out, 2, values, u16::to_le_bytes),
        Array::I16(values) => numbers(out, 3, values, i16::to_le_bytes),
        Array::U32(values) => numbers(out, 4, values, u32::to_le_bytes),
        Array::I32(values) => numbers(out, 5, values, i32::to_le_bytes),
        Array::F32(values) => numbers(out, 6, values, f32::to_le_bytes),
        Array::Bool(values) => numbers(out, 7, values, |value| [u8::from(value)]),
        Array::U64(values) => numbers(out, 10, values, u64::to_le_bytes),
        Array::I64(values) => numbers(out, 11, values, i64::to_le_bytes),
        Array::F64(values) => numbers(out, 12, values, f64::to_le_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::super::GgufFile;
    use super::*;

    fn sample() -> (Metadata, Vec<TensorPlan>) {
        let mut metadata = Metadata::new("sample");
        let values = [
            ("a.u8", Value::U8(200)),
            ("a.i8", Value::I8(-7)),
            ("a.u16", Value::U16(60_000)),
            ("a.i16", Value::I16(-300)),
            ("a.u32", Value::U32(4_000_000_000)),
            ("a.i32", Value::I32(-4)),
            ("a.u64", Value::U64(1 << 60)),
            ("a.i64", Value::I64(-(1 << 60))),
            ("a.f32", Value::F32(1.5)),
            ("a.f64", Value::F64(0.1)),
            ("a.bool", Value::Bool(true)),
            ("a.text", Value::String("Grüße".into())),
            ("a.none", Value::Array(Array::U8(vec![]))),
            ("a.texts", Value::Array(Array::String(vec!["".into(), "ab".into()]))),
            ("a.deep", Value::Array(Array::Array(vec![Array::Bool(vec![true, false]), Array::F64(vec![2.5])]))),
            ("a.ints", Value::Array(Array::I32(vec![-1, 2]))),
        ];
        for (key, value) in values {
            metadata.insert(key, value);
        }
        let plan = |name: &str, dtype, shape: &[usize]| TensorPlan { name: name.into(), dtype, shape: shape.to_vec() };
        (metadata, vec![plan("x", Dtype::F32, &[3]), plan("y", Dtype::Q8_0, &[2, 32]), plan("z", Dtype::I8, &[1])])
    }

    fn bytes_of(plan: &TensorPlan) -> Vec<u8> {
        (0..plan.bytes().unwrap()).map(|i| (i * 7) as u8).collect()
    }

    #[test]
    fn what_was_written_is_read() {
        let (metadata, plans) = sample();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.gguf");
        std::fs::write(&path, b"an older file").unwrap();
        let written = write_gguf(&path, &metadata, &plans, |i| Ok(bytes_of(&plans[i]))).unwrap();
        assert_eq!(written, std::fs::metadata(&path).unwrap().len());
        let read = GgufFile::open(&path).unwrap();
        assert_eq!(read.metadata.iter().collect::<Vec<_>>(), metadata.iter().collect::<Vec<_>>());
        assert_eq!(read.checkpoint.len(), plans.len());
        for plan in &plans {
            let tensor = read.checkpoint.get(&plan.name).unwrap();
            assert_eq!((tensor.dtype, &tensor.shape), (plan.dtype, &plan.shape));
            assert_eq!(tensor.data, bytes_of(plan));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failure_leaves_what_was_there_and_nothing_else() {
        let (metadata, plans) = sample();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.gguf");
        std::fs::write(&path, b"an older file").unwrap();
        let cancelled = write_gguf(&path, &metadata, &plans, |i| match i {
            0 => Ok(bytes_of(&plans[0])),
            _ => Err(Error::Cancelled),
        });
        assert!(matches!(cancelled, Err(Error::Cancelled)));
        let short = write_gguf(&path, &metadata, &plans, |_| Ok(vec![0; 3]));
        assert!(matches!(short, Err(Error::Encode { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"an older file");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let nowhere = write_gguf(&folder.path().join("no/out.gguf"), &metadata, &plans, |_| Ok(vec![]));
        assert!(matches!(nowhere, Err(Error::Write { .. })));
    }
}
