//! Weights as they lie in files: safetensors and GGUF, mapped into memory, not copied.
//!
//! [`Checkpoint::open`] reads a Hugging Face folder or a `.safetensors` file, [`GgufFile::open`] a `.gguf` file. Both
//! give a [`Checkpoint`]: a bag of [`StoredTensor`]s from which a model takes what it needs by name, and which at the
//! end says what was left over. Nothing is decoded here except by [`block::dequantize`] or
//! [`StoredTensor::to_f32`], on request.
//!
//! Files are not trusted. Every count, size and offset is compared with the file's real length before memory is
//! reserved for it, so a damaged or lying file costs an [`Error`](crate::Error) that says what is wrong, no panic and
//! no more memory than a small multiple of the file.

pub mod block;
mod checkpoint;
mod dtype;
mod gguf;
pub(crate) mod gguf_write;
mod metadata;
mod safetensors;

pub(crate) use checkpoint::Survey;
pub use checkpoint::{Checkpoint, StoredTensor};
pub use dtype::Dtype;
pub use gguf::{GgufFile, GgufProblem};
pub use metadata::{Array, FromValue, Metadata, Value};
pub(crate) use safetensors::QUANTIZED;
pub use safetensors::SafetensorsProblem;
