//! The safetensors format, one file or several with an index.
//!
//! The header is parsed by the `safetensors` crate. Its `SafeTensors::deserialize` is not used: it borrows the buffer,
//! which we want to share, and it adds the declared end of the data to the header's length unchecked, which a hostile
//! header can make wrap around.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use ::safetensors::tensor::{Dtype as FileDtype, Metadata};
use bedrock_core::Sealer;
use bytes::Bytes;
use serde::Deserialize;

use super::{Checkpoint, Dtype, GgufFile, StoredTensor};
use crate::error::Error;
use crate::sealed;

/// Bytes before the header: its length.
const LENGTH_BYTES: usize = 8;
/// Longest header that is parsed. The format's reference implementation has the same limit.
const MAX_HEADER: usize = 100_000_000;
/// Longest index that is parsed; that of the largest public models is below 10 MB.
const MAX_INDEX: u64 = 64 << 20;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// The tensors of a folder in GGUF's format, which has blocks, under the folder's own names: no GGUF model.
pub(crate) const QUANTIZED: &str = "model.quantized";

/// What is wrong with a safetensors file or index.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsProblem {
    /// Too short to hold even the header's length.
    #[error("the file has {file} bytes, fewer than the 8 of its header's length")]
    TooShort {
        /// Bytes in the file.
        file: usize,
    },
    /// The header would reach past the end of the file, or is longer than any real one.
    #[error("the header claims {header} bytes, the file has {file}, the limit is {MAX_HEADER}")]
    HeaderLength {
        /// Length that the file states, in bytes.
        header: u64,
        /// Bytes in the file.
        file: usize,
    },
    /// The header is not JSON of the right form, or its offsets and shapes contradict each other.
    #[error("the header does not describe tensors")]
    Header {
        /// What the parser said, with line and column or the tensor's name.
        #[source]
        source: serde_json::Error,
    },
    /// The tensors do not end where the file does: it was cut short, or something was appended.
    #[error("the tensors end at byte {end} of the data, which has {data} bytes")]
    DataLength {
        /// End of the last tensor, from the start of the data.
        end: usize,
        /// Bytes of data in the file.
        data: usize,
    },
    /// A tensor has a type that this crate does not read.
    #[error("tensor {name} has the type {dtype}, which is not supported")]
    UnsupportedDtype {
        /// The tensor.
        name: String,
        /// Its type, in the format's own name.
        dtype: String,
    },
    /// The index is not JSON of the right form.
    #[error("the index does not map tensors to files")]
    Index {
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// The index names a file outside of its own folder.
    #[error("the index names the file {file:?}, which is not a plain file name")]
    ShardName {
        /// The name in the index.
        file: String,
    },
    /// The index says that a tensor is in a file which does not have it.
    #[error("the index says that tensor {name} is in {file}, which does not hold it")]
    NotInShard {
        /// The tensor.
        name: String,
        /// The file.
        file: String,
    },
    /// Two files of a sharded model hold a tensor of the same name.
    #[error("tensor {name} is in {first} and again in {second}")]
    Duplicate {
        /// The tensor.
        name: String,
        /// File that had it first.
        first: String,
        /// File that had it again.
        second: String,
    },
}

/// Opens a folder, a file or an index.
pub(super) fn open(path: &Path, sealer: Option<&dyn Sealer>) -> Result<Checkpoint, Error> {
    if path.is_dir() {
        // In this order, as transformers does: some repositories hold both.
        let single = path.join(SINGLE);
        let index = path.join(INDEX);
        let quantized = path.join(QUANTIZED);
        return match (sealed::exists(&single), index.exists(), quantized.exists()) {
            (true, ..) => open_single(&single, sealer),
            (false, true, _) => open_sharded(&index, sealer),
            (false, false, true) => Ok(GgufFile::open(quantized)?.checkpoint),
            (false, false, false) => Err(Error::NoWeights { path: path.to_path_buf(), wanted: vec![SINGLE, INDEX] }),
        };
    }
    if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(".index.json")) {
        return open_sharded(path, sealer);
    }
    open_single(path, sealer)
}

fn open_single(path: &Path, sealer: Option<&dyn Sealer>) -> Result<Checkpoint, Error> {
    Checkpoint::from_safetensors(sealed::read(path, sealer)?, path)
}

/// `model.safetensors.index.json`, of which only the map matters (`metadata.total_size` is a hint, often wrong).
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

fn open_sharded(path: &Path, sealer: Option<&dyn Sealer>) -> Result<Checkpoint, Error> {
    let refuse = |source| Error::Safetensors { path: path.to_path_buf(), source };
    let index = read_index(path)?;
    let files: BTreeSet<&String> = index.weight_map.values().collect();
    let folder = path.parent().unwrap_or(Path::new(""));

    let mut found_in: BTreeMap<String, &str> = BTreeMap::new();
    let mut tensors = Vec::new();
    for file in files {
        let plain = Path::new(file).file_name().is_some_and(|name| name == file.as_str()) && !file.contains('\\');
        if !plain {
            return Err(refuse(SafetensorsProblem::ShardName { file: file.clone() }));
        }
        let shard = folder.join(file);
        let stored =
            parse(&sealed::read(&shard, sealer)?).map_err(|source| Error::Safetensors { path: shard, source })?;
        for tensor in stored {
            if let Some(first) = found_in.insert(tensor.name.clone(), file) {
                return Err(refuse(SafetensorsProblem::Duplicate {
                    name: tensor.name,
                    first: first.to_string(),
                    second: file.clone(),
                }));
            }
            tensors.push(tensor);
        }
    }
    for (name, file) in &index.weight_map {
        if found_in.get(name) != Some(&file.as_str()) {
            return Err(refuse(SafetensorsProblem::NotInShard { name: name.clone(), file: file.clone() }));
        }
    }
    Ok(Checkpoint::new(path.to_path_buf(), tensors))
}

fn read_index(path: &Path) -> Result<Index, Error> {
    let read = |source| Error::Read { path: path.to_path_buf(), source };
    let refuse = |source| Error::Safetensors { path: path.to_path_buf(), source };
    let file = File::open(path).map_err(read)?;
    let bytes = file.metadata().map_err(read)?.len();
    if bytes > MAX_INDEX {
        return Err(Error::FileTooLarge { path: path.to_path_buf(), bytes, limit: MAX_INDEX });
    }
    let mut text = Vec::new();
    file.take(MAX_INDEX).read_to_end(&mut text).map_err(read)?;
    serde_json::from_slice(&text).map_err(|source| refuse(SafetensorsProblem::Index { source }))
}

/// The tensors of one file, ordered by their place in it.
pub(super) fn parse(bytes: &Bytes) -> Result<Vec<StoredTensor>, SafetensorsProblem> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(SafetensorsProblem::TooShort { file: bytes.len() });
    };
    let header = u64::from_le_bytes(*length);
    let too_long = SafetensorsProblem::HeaderLength { header, file: bytes.len() };
    let Ok(header_bytes) = usize::try_from(header) else { return Err(too_long) };
    if header_bytes > rest.len() || header_bytes > MAX_HEADER {
        return Err(too_long);
    }
    // Checks that each tensor's range fits its shape and type, and that the ranges follow one another from zero on.
    let metadata: Metadata =
        serde_json::from_slice(&rest[..header_bytes]).map_err(|source| SafetensorsProblem::Header { source })?;
    let data = bytes.slice(LENGTH_BYTES + header_bytes..);
    // Where the last tensor ends is where the data must; as the ranges are ordered, every one of them is then inside.
    if metadata.data_len() != data.len() {
        return Err(SafetensorsProblem::DataLength { end: metadata.data_len(), data: data.len() });
    }

    let mut tensors = Vec::new();
    for name in metadata.offset_keys() {
        let Some(info) = metadata.info(&name) else { continue };
        let Some(dtype) = stored_dtype(info.dtype) else {
            return Err(SafetensorsProblem::UnsupportedDtype { name, dtype: info.dtype.to_string() });
        };
        let (start, end) = info.data_offsets;
        tensors.push(StoredTensor { name, dtype, shape: info.shape.clone(), data: data.slice(start..end) });
    }
    Ok(tensors)
}

/// Types of eight bits and fewer other than integers need scales from elsewhere in the model, and complex numbers have
/// no use in one.
fn stored_dtype(dtype: FileDtype) -> Option<Dtype> {
    Some(match dtype {
        FileDtype::BOOL => Dtype::Bool,
        FileDtype::U8 => Dtype::U8,
        FileDtype::I8 => Dtype::I8,
        FileDtype::U16 => Dtype::U16,
        FileDtype::I16 => Dtype::I16,
        FileDtype::U32 => Dtype::U32,
        FileDtype::I32 => Dtype::I32,
        FileDtype::U64 => Dtype::U64,
        FileDtype::I64 => Dtype::I64,
        FileDtype::F16 => Dtype::F16,
        FileDtype::BF16 => Dtype::BF16,
        FileDtype::F32 => Dtype::F32,
        FileDtype::F64 => Dtype::F64,
        _ => return None,
    })
}
