//! The GGUF format, versions 2 and 3, little endian.
//!
//! Parsed here rather than by a crate: `gguf` (0.1) and `gguf-rs` copy the file through a reader and stop at the
//! header, `candle-core`'s reader comes with candle and reserves memory for whatever count the file states, and none of
//! them checks tensor ranges against the file. The format is small:
//!
//! ```text
//! "GGUF"  u32 version  u64 tensor count  u64 key count
//! key count ×    { string key, u32 type, value }
//! tensor count × { string name, u32 dimensions, u64 size per dimension (innermost first), u32 type, u64 offset }
//! padding to `general.alignment` (32), then the data that the offsets count from
//!
//! string = u64 length, bytes;   array = u32 type, u64 length, values
//! ```
//!
//! Source: the GGUF specification in ggml's `docs/gguf.md`; type numbers from `ggml.h`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{Array, Checkpoint, Dtype, Metadata, StoredTensor, Value};
use crate::error::Error;
use crate::kernels::map::map_file;

const MAGIC: [u8; 4] = *b"GGUF";
const DEFAULT_ALIGNMENT: u32 = 32;
/// ggml tensors have at most four dimensions.
const MAX_DIMENSIONS: u32 = 4;
/// Arrays of arrays are legal, but nothing writes more than two levels.
const MAX_ARRAY_DEPTH: usize = 4;
/// Fewest bytes of a key and its value: an empty key, a type, one byte.
const MIN_KEY_BYTES: u64 = 8 + 4 + 1;
/// Fewest bytes of a tensor's description: an empty name, no dimensions, type and offset.
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 4 + 8;
/// Most files a split model may have.
const MAX_SPLITS: u32 = 9999;

/// What is wrong with a GGUF file. Offsets are bytes from the start of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GgufProblem {
    /// The file does not start with `GGUF`.
    #[error("it does not start with the letters GGUF")]
    Magic,
    /// The file's numbers are big endian.
    #[error("its numbers are big endian, only little endian files are supported")]
    BigEndian,
    /// The file's version is not 2 or 3.
    #[error("it has version {version}, only 2 and 3 are supported")]
    Version {
        /// Version that the file states.
        version: u32,
    },
    /// The file ends inside its header.
    #[error("the file ends at byte {file}, but {what} at byte {offset} needs {needed} bytes")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it starts.
        offset: usize,
        /// Bytes that it needs.
        needed: u64,
        /// Bytes in the file.
        file: usize,
    },
    /// A count cannot be true: the rest of the file is too short for that many.
    #[error("the file states {count} {what} at byte {offset}, its remaining {remaining} bytes cannot hold them")]
    Count {
        /// What is counted.
        what: &'static str,
        /// The number that the file states.
        count: u64,
        /// Where the counted things would start.
        offset: usize,
        /// Bytes from there to the end of the file.
        remaining: usize,
    },
    /// A text is not UTF-8.
    #[error("{what} at byte {offset} is not UTF-8")]
    Utf8 {
        /// What was being read.
        what: &'static str,
        /// Where the text starts.
        offset: usize,
    },
    /// A metadata value has a type number that does not exist.
    #[error("metadata key {key} has the unknown type {kind} at byte {offset}")]
    ValueType {
        /// The key.
        key: String,
        /// The type number.
        kind: u32,
        /// Where the type number is.
        offset: usize,
    },
    /// Arrays are nested deeper than any real file does.
    #[error("metadata key {key} has arrays nested more than {MAX_ARRAY_DEPTH} deep")]
    ArrayDepth {
        /// The key.
        key: String,
    },
    /// A metadata key is there twice.
    #[error("metadata key {key} is there twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A tensor name is there twice.
    #[error("tensor {name} is there twice")]
    DuplicateTensor {
        /// The tensor.
        name: String,
    },
    /// `general.alignment` is not a power of two of at least 8.
    #[error("general.alignment is {alignment}, which is not a power of two of at least 8")]
    Alignment {
        /// The alignment in bytes, or the value's description if it is no number.
        alignment: String,
    },
    /// A tensor has more dimensions than the format allows.
    #[error("tensor {name} has {dimensions} dimensions, the format allows {MAX_DIMENSIONS}")]
    Dimensions {
        /// The tensor.
        name: String,
        /// Number of dimensions that the file states.
        dimensions: u32,
    },
    /// A tensor's storage type is not supported.
    #[error("tensor {name} has the storage type {kind}{}, which is not supported", ggml_type_name(*kind))]
    TensorType {
        /// The tensor.
        name: String,
        /// ggml's type number.
        kind: u32,
    },
    /// A tensor's shape overflows, or its rows are not whole blocks.
    #[error("tensor {name} has the impossible shape {shape:?} for {dtype} (blocks of {})", dtype.block_len())]
    Shape {
        /// The tensor.
        name: String,
        /// Its dimensions, outermost first.
        shape: Vec<u64>,
        /// Its storage type.
        dtype: Dtype,
    },
    /// A tensor's data does not start at a multiple of the alignment.
    #[error("tensor {name} starts at byte {offset} of the data, which is not a multiple of {alignment}")]
    Misaligned {
        /// The tensor.
        name: String,
        /// Its offset in the data.
        offset: u64,
        /// The alignment in bytes.
        alignment: u32,
    },
    /// A tensor's data is not inside the file.
    #[error("tensor {name} needs {size} bytes from byte {offset} of the data, the file has {data} bytes of data")]
    TensorRange {
        /// The tensor.
        name: String,
        /// Its offset in the data.
        offset: u64,
        /// Its size in bytes.
        size: usize,
        /// Bytes of data in the file.
        data: usize,
    },
    /// A model split into several files is incomplete or was named differently.
    #[error(
        "it is part {number} of a model in {count} files, whose names must end in -00001-of-{count:05}.gguf and so on"
    )]
    SplitName {
        /// Number of this part, from 1.
        number: u32,
        /// Number of parts.
        count: u32,
    },
    /// A part of a split model says that it is another part.
    #[error("it says it is part {got} of a split model, its name says {expected}")]
    SplitNumber {
        /// Part number of the file name, from 1.
        expected: u32,
        /// Part number of the metadata, from 1.
        got: u32,
    },
}

/// A GGUF file: what it says about the model, and the model's tensors.
#[derive(Debug, Clone)]
pub struct GgufFile {
    /// Architecture, hyperparameters, tokenizer, chat template.
    pub metadata: Metadata,
    /// The tensors, with shapes outermost first.
    pub checkpoint: Checkpoint,
}

impl GgufFile {
    /// Opens a file, mapping it into memory; no weight is read yet. For a model split into several files
    /// (`…-00001-of-00003.gguf`), any part opens all of them; the metadata is that of the first.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::NotAFile`] and [`Error::Gguf`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let file = Self::from_bytes(map_file(path)?, path)?;
        match Split::of(&file.metadata)? {
            Some(split) => split.open_all(path),
            None => Ok(file),
        }
    }

    /// Reads one file from memory; `path` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Gguf`].
    pub fn from_bytes(bytes: Bytes, path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        match parse(&bytes, &path) {
            Ok((metadata, tensors)) => Ok(Self { metadata, checkpoint: Checkpoint::new(path, tensors) }),
            Err(source) => Err(Error::Gguf { path, source }),
        }
    }
}

/// What a part of a split model says about itself.
struct Split {
    /// From 1.
    number: u32,
    count: u32,
}

impl Split {
    fn of(metadata: &Metadata) -> Result<Option<Self>, Error> {
        let count = metadata.optional::<u32>("split.count")?.unwrap_or(1);
        if count <= 1 {
            return Ok(None);
        }
        let number = metadata.required::<u32>("split.no")?.saturating_add(1);
        Ok(Some(Self { number, count }))
    }

    /// Opens every part beside `path`, which is one of them.
    fn open_all(&self, path: &Path) -> Result<GgufFile, Error> {
        let refuse = |path: &Path, source| Err(Error::Gguf { path: path.to_path_buf(), source });
        let misnamed = || GgufProblem::SplitName { number: self.number, count: self.count };
        let suffix = |number: u32| format!("-{number:05}-of-{:05}.gguf", self.count);
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let Some(stem) = name.strip_suffix(&suffix(self.number)).filter(|_| self.count <= MAX_SPLITS) else {
            return refuse(path, misnamed());
        };

        let mut metadata = None;
        let mut names = BTreeSet::new();
        let mut tensors = Vec::new();
        for number in 1..=self.count {
            let part = path.with_file_name(format!("{stem}{}", suffix(number)));
            let file = GgufFile::from_bytes(map_file(&part)?, &part)?;
            match Self::of(&file.metadata)? {
                Some(split) if split.number == number && split.count == self.count => {}
                Some(split) => {
                    return refuse(&part, GgufProblem::SplitNumber { expected: number, got: split.number });
                }
                None => return refuse(&part, GgufProblem::SplitNumber { expected: number, got: 1 }),
            }
            for tensor in file.checkpoint.iter() {
                if !names.insert(tensor.name.clone()) {
                    return refuse(&part, GgufProblem::DuplicateTensor { name: tensor.name.clone() });
                }
                tensors.push(tensor.clone());
            }
            metadata.get_or_insert(file.metadata);
        }
        match metadata {
            Some(metadata) => Ok(GgufFile { metadata, checkpoint: Checkpoint::new(path.to_path_buf(), tensors) }),
            None => refuse(path, misnamed()),
        }
    }
}

fn parse(bytes: &Bytes, path: &Path) -> Result<(Metadata, Vec<StoredTensor>), GgufProblem> {
    let mut reader = Reader { bytes, position: 0 };
    if !bytes.starts_with(&MAGIC) {
        return Err(GgufProblem::Magic);
    }
    reader.position = MAGIC.len();
    let version = reader.u32("the version")?;
    match version {
        2 | 3 => {}
        _ if matches!(version.swap_bytes(), 1..=3) => return Err(GgufProblem::BigEndian),
        _ => return Err(GgufProblem::Version { version }),
    }
    let tensor_count = reader.u64("the tensor count")?;
    let key_count = reader.u64("the metadata count")?;

    reader.expect_room("metadata keys", key_count, MIN_KEY_BYTES)?;
    let mut metadata = Metadata::new(path);
    for _ in 0..key_count {
        let key = reader.string("a metadata key")?;
        let kind = reader.u32("a metadata type")?;
        let value = reader.value(&key, kind)?;
        if metadata.get(&key).is_some() {
            return Err(GgufProblem::DuplicateKey { key });
        }
        metadata.insert(key, value);
    }
    let alignment = alignment(&metadata)?;

    reader.expect_room("tensors", tensor_count, MIN_TENSOR_BYTES)?;
    let mut names = BTreeSet::new();
    let mut descriptions = Vec::new();
    for _ in 0..tensor_count {
        let description = Description::read(&mut reader)?;
        if !names.insert(description.name.clone()) {
            return Err(GgufProblem::DuplicateTensor { name: description.name });
        }
        descriptions.push(description);
    }

    // A file without tensors (a vocabulary) may end before the padding does.
    let start = reader.position.next_multiple_of(alignment as usize).min(bytes.len());
    let data = bytes.slice(start..);
    let tensors = descriptions.into_iter().map(|description| description.locate(&data, alignment));
    Ok((metadata, tensors.collect::<Result<_, _>>()?))
}

fn alignment(metadata: &Metadata) -> Result<u32, GgufProblem> {
    match metadata.get("general.alignment") {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(Value::U32(alignment)) if *alignment >= 8 && alignment.is_power_of_two() => Ok(*alignment),
        Some(Value::U32(alignment)) => Err(GgufProblem::Alignment { alignment: alignment.to_string() }),
        Some(_) => Err(GgufProblem::Alignment { alignment: "of another type than u32".to_string() }),
    }
}

/// What the header says about one tensor.
struct Description {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    /// In bytes.
    size: usize,
    /// From the start of the data.
    offset: u64,
}

impl Description {
    fn read(reader: &mut Reader<'_>) -> Result<Self, GgufProblem> {
        let name = reader.string("a tensor name")?;
        let dimensions = reader.u32("a tensor's dimension count")?;
        if dimensions > MAX_DIMENSIONS {
            return Err(GgufProblem::Dimensions { name, dimensions });
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(reader.u64("a tensor's shape")?);
        }
        let innermost = shape.first().copied().unwrap_or(1);
        shape.reverse();
        let kind = reader.u32("a tensor's type")?;
        let offset = reader.u64("a tensor's offset")?;

        let Some(dtype) = ggml_dtype(kind) else { return Err(GgufProblem::TensorType { name, kind }) };
        // Rows are whole blocks, so the tensor is too.
        let whole_rows = innermost.is_multiple_of(dtype.block_len() as u64);
        let sizes = shape.iter().map(|&size| usize::try_from(size).ok()).collect::<Option<Vec<usize>>>();
        let elements = |sizes: &Vec<usize>| sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        let checked = sizes.filter(|_| whole_rows).and_then(|sizes| {
            let size = dtype.bytes_for(elements(&sizes)?)?;
            Some((sizes, size))
        });
        match checked {
            Some((shape, size)) => Ok(Self { name, dtype, shape, size, offset }),
            None => Err(GgufProblem::Shape { name, shape, dtype }),
        }
    }

    /// Cuts the tensor out of the file's data. Ranges that overlap are allowed: nothing writes to them.
    fn locate(self, data: &Bytes, alignment: u32) -> Result<StoredTensor, GgufProblem> {
        let Self { name, dtype, shape, size, offset } = self;
        if !offset.is_multiple_of(u64::from(alignment)) {
            return Err(GgufProblem::Misaligned { name, offset, alignment });
        }
        let range = usize::try_from(offset).ok().and_then(|start| Some(start..start.checked_add(size)?));
        match range {
            Some(range) if range.end <= data.len() => Ok(StoredTensor { name, dtype, shape, data: data.slice(range) }),
            _ => Err(GgufProblem::TensorRange { name, offset, size, data: data.len() }),
        }
    }
}

/// Reads the header front to back; never past its end.
struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    fn take(&mut self, what: &'static str, needed: u64) -> Result<&'a [u8], GgufProblem> {
        let rest = &self.bytes[self.position..];
        match usize::try_from(needed).ok().and_then(|length| rest.get(..length)) {
            Some(taken) => {
                self.position += taken.len();
                Ok(taken)
            }
            None => Err(GgufProblem::Truncated { what, offset: self.position, needed, file: self.bytes.len() }),
        }
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], GgufProblem> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(what, N as u64)?);
        Ok(array)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, GgufProblem> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, GgufProblem> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// Checked before anything is reserved for `count` things, and before looping that often.
    fn expect_room(&self, what: &'static str, count: u64, bytes_each: u64) -> Result<(), GgufProblem> {
        match count.checked_mul(bytes_each) {
            Some(needed) if needed <= self.remaining() as u64 => Ok(()),
            _ => Err(GgufProblem::Count { what, count, offset: self.position, remaining: self.remaining() }),
        }
    }

    fn string(&mut self, what: &'static str) -> Result<String, GgufProblem> {
        let length = self.u64(what)?;
        let offset = self.position;
        let text = self.take(what, length)?;
        std::str::from_utf8(text).map(str::to_string).map_err(|_| GgufProblem::Utf8 { what, offset })
    }

    fn value(&mut self, key: &str, kind: u32) -> Result<Value, GgufProblem> {
        const WHAT: &str = "a metadata value";
        Ok(match kind {
            0 => Value::U8(u8::from_le_bytes(self.array(WHAT)?)),
            1 => Value::I8(i8::from_le_bytes(self.array(WHAT)?)),
            2 => Value::U16(u16::from_le_bytes(self.array(WHAT)?)),
            3 => Value::I16(i16::from_le_bytes(self.array(WHAT)?)),
            4 => Value::U32(u32::from_le_bytes(self.array(WHAT)?)),
            5 => Value::I32(i32::from_le_bytes(self.array(WHAT)?)),
            6 => Value::F32(f32::from_le_bytes(self.array(WHAT)?)),
            7 => Value::Bool(u8::from_le_bytes(self.array(WHAT)?) != 0),
            8 => Value::String(self.string("a metadata text")?),
            9 => Value::Array(self.values(key, 1)?),
            10 => Value::U64(u64::from_le_bytes(self.array(WHAT)?)),
            11 => Value::I64(i64::from_le_bytes(self.array(WHAT)?)),
            12 => Value::F64(f64::from_le_bytes(self.array(WHAT)?)),
            _ => return Err(GgufProblem::ValueType { key: key.to_string(), kind, offset: self.position - 4 }),
        })
    }

    fn values(&mut self, key: &str, depth: usize) -> Result<Array, GgufProblem> {
        if depth > MAX_ARRAY_DEPTH {
            return Err(GgufProblem::ArrayDepth { key: key.to_string() });
        }
        let kind = self.u32("an array's type")?;
        let kind_offset = self.position - 4;
        let count = self.u64("an array's length")?;
        Ok(match kind {
            0 => Array::U8(self.numbers(count, u8::from_le_bytes)?),
            1 => Array::I8(self.numbers(count, i8::from_le_bytes)?),
            2 => Array::U16(self.numbers(count, u16::from_le_bytes)?),
            3 => Array::I16(self.numbers(count, i16::from_le_bytes)?),
            4 => Array::U32(self.numbers(count, u32::from_le_bytes)?),
            5 => Array::I32(self.numbers(count, i32::from_le_bytes)?),
            6 => Array::F32(self.numbers(count, f32::from_le_bytes)?),
            7 => Array::Bool(self.numbers(count, |byte| u8::from_le_bytes(byte) != 0)?),
            8 => {
                self.expect_room("texts", count, 8)?;
                let mut texts = Vec::with_capacity(count as usize);
                for _ in 0..count {
                    texts.push(self.string("a metadata text")?);
                }
                Array::String(texts)
            }
            9 => {
                // The type and length of each.
                self.expect_room("arrays", count, 12)?;
                let mut arrays = Vec::with_capacity(count as usize);
                for _ in 0..count {
                    arrays.push(self.values(key, depth + 1)?);
                }
                Array::Array(arrays)
            }
            10 => Array::U64(self.numbers(count, u64::from_le_bytes)?),
            11 => Array::I64(self.numbers(count, i64::from_le_bytes)?),
            12 => Array::F64(self.numbers(count, f64::from_le_bytes)?),
            _ => return Err(GgufProblem::ValueType { key: key.to_string(), kind, offset: kind_offset }),
        })
    }

    fn numbers<const N: usize, T>(&mut self, count: u64, decode: fn([u8; N]) -> T) -> Result<Vec<T>, GgufProblem> {
        self.expect_room("array elements", count, N as u64)?;
        let bytes = self.take("an array", count * N as u64)?;
        Ok(bytes.as_chunks::<N>().0.iter().map(|&chunk| decode(chunk)).collect())
    }
}

/// ggml's type numbers.
const GGML_TYPES: [(u32, Dtype); 25] = [
    (0, Dtype::F32),
    (1, Dtype::F16),
    (2, Dtype::Q4_0),
    (3, Dtype::Q4_1),
    (6, Dtype::Q5_0),
    (7, Dtype::Q5_1),
    (8, Dtype::Q8_0),
    (9, Dtype::Q8_1),
    (10, Dtype::Q2K),
    (11, Dtype::Q3K),
    (12, Dtype::Q4K),
    (13, Dtype::Q5K),
    (14, Dtype::Q6K),
    (15, Dtype::Q8K),
    (20, Dtype::Iq4Nl),
    (23, Dtype::Iq4Xs),
    (24, Dtype::I8),
    (25, Dtype::I16),
    (26, Dtype::I32),
    (27, Dtype::I64),
    (28, Dtype::F64),
    (30, Dtype::BF16),
    (34, Dtype::Tq1_0),
    (35, Dtype::Tq2_0),
    (39, Dtype::Mxfp4),
];

fn ggml_dtype(kind: u32) -> Option<Dtype> {
    GGML_TYPES.iter().find(|(number, _)| *number == kind).map(|(_, dtype)| *dtype)
}

/// ggml's number of a type, if it has one.
pub(crate) fn ggml_type(dtype: Dtype) -> Option<u32> {
    GGML_TYPES.iter().find(|(_, known)| *known == dtype).map(|(number, _)| *number)
}

/// Names of the type numbers that exist but are not read, for the message.
fn ggml_type_name(kind: u32) -> &'static str {
    match kind {
        4 => " (Q4_2)",
        5 => " (Q4_3)",
        16 => " (IQ2_XXS)",
        17 => " (IQ2_XS)",
        18 => " (IQ3_XXS)",
        19 => " (IQ1_S)",
        21 => " (IQ3_S)",
        22 => " (IQ2_S)",
        29 => " (IQ1_M)",
        31..=33 => " (Q4_0 in an order for one processor)",
        36..=38 => " (IQ4_NL in an order for one processor)",
        _ => "",
    }
}
