//! Files of which nothing can be read, and no piece changed, without a sealer.
//!
//! Everything little-endian: magic 8 · version u32 · pieces u64 · identity 16, then per piece its length u32, the same with all bits turned, and the sealed
//! bytes. Each piece is sealed for the file's name and identity, for its number, and for how many there are, so that no piece can be left out or
//! stand in the place of another, of this or of an older file. A file to which pieces are added says 0 for how many there are.

#[cfg(feature = "tune")]
mod log;
#[cfg(feature = "tune")]
mod reseal;
#[cfg(feature = "tune")]
mod writer;

use std::path::{Path, PathBuf};

use bedrock_core::Sealer;
use bytes::Bytes;

#[cfg(feature = "tune")]
pub(crate) use log::Log;
#[cfg(feature = "tune")]
pub use reseal::reseal;
#[cfg(feature = "tune")]
pub(crate) use writer::Writer;

use crate::error::Error;
use crate::kernels::map::{map_file, release};

/// What the name of a file ends with.
const SUFFIX: &str = ".sealed";
const MAGIC: &[u8; 8] = b"bedrFILE";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 36;
/// Most bytes of a piece, before it is sealed.
const PIECE_BYTES: usize = 4 << 20;
/// Most that sealing adds to a piece: nonce, tag, and a wrapped key with its name.
const OVERHEAD_BYTES: usize = 1 << 17;
/// Of a piece, before its bytes.
const LENGTH_BYTES: usize = 8;

/// The sealed form of a file, by its name.
pub(crate) fn sealed_form(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(SUFFIX);
    path.with_file_name(name)
}

/// Whether a file is sealed, by its name.
pub(crate) fn is_sealed(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().ends_with(SUFFIX.as_bytes()))
}

/// Whether a file is there, in either form.
pub(crate) fn exists(path: &Path) -> bool {
    path.exists() || sealed_form(path).exists()
}

/// The bytes of a file: mapped, or, where its sealed form is there instead, or beside it and a sealer at hand, opened into memory.
///
/// # Errors
/// Those of [`map_file`]; [`Error::SealMismatch`] for a sealed file without a sealer; [`Error::Seal`] and [`Error::Malformed`] for one of
/// another key, changed or cut.
pub(crate) fn read(path: &Path, sealer: Option<&dyn Sealer>) -> Result<Bytes, Error> {
    let sealed = if is_sealed(path) { path.to_path_buf() } else { sealed_form(path) };
    match sealer {
        Some(sealer) if sealed.exists() => open(&sealed, sealer),
        None if is_sealed(path) || (!path.exists() && sealed.exists()) => {
            Err(Error::SealMismatch { path: sealed, sealed: true })
        }
        _ => map_file(path),
    }
}

fn open(path: &Path, sealer: &dyn Sealer) -> Result<Bytes, Error> {
    let file = map_file(path)?;
    let malformed = |reason: &str| Error::Malformed { path: path.to_path_buf(), reason: reason.into() };
    let (head, mut rest) = Head::read(path, &file)?;
    if head.pieces == 0 {
        return Err(malformed("it is a file to which pieces are added"));
    }
    let mut content = Vec::with_capacity(rest.len());
    let mut number = 0;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk().ok_or_else(|| malformed("a piece of it is cut short"))?;
        let length =
            piece_length(*length, PIECE_BYTES).ok_or_else(|| malformed("the length of a piece was changed"))?;
        let (piece, after) = after.split_at_checked(length).ok_or_else(|| malformed("a piece of it is cut short"))?;
        content.extend(head.open(path, sealer, number, piece)?);
        release(piece);
        number += 1;
        rest = after;
    }
    if number != head.pieces {
        return Err(malformed("pieces of it are missing"));
    }
    Ok(content.into())
}

/// What is known at the beginning of a file.
struct Head {
    /// 0: there may always be one more.
    pieces: u64,
    identity: [u8; 16],
}

impl Head {
    fn read<'a>(path: &Path, file: &'a [u8]) -> Result<(Self, &'a [u8]), Error> {
        let malformed = |reason: &str| Error::Malformed { path: path.to_path_buf(), reason: reason.into() };
        let (head, rest) =
            file.split_first_chunk::<HEAD_BYTES>().ok_or_else(|| malformed("it is shorter than its head"))?;
        if &head[..8] != MAGIC || head[8..12] != VERSION.to_le_bytes() {
            return Err(malformed("it is no sealed file of a known version"));
        }
        let pieces = u64::from_le_bytes(std::array::from_fn(|at| head[12 + at]));
        Ok((Self { pieces, identity: std::array::from_fn(|at| head[20 + at]) }, rest))
    }

    /// What a piece is sealed for.
    fn context(&self, path: &Path, number: u64) -> Vec<u8> {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        let name = name.strip_suffix(SUFFIX.as_bytes()).unwrap_or(name);
        let identity: String = self.identity.iter().map(|byte| format!("{byte:02x}")).collect();
        [format!("piece {number} of {} of {identity}: ", self.pieces).as_bytes(), name].concat()
    }

    fn open(&self, path: &Path, sealer: &dyn Sealer, number: u64, piece: &[u8]) -> Result<Vec<u8>, Error> {
        let opened = sealer.open(piece, &self.context(path, number));
        opened.map_err(|source| Error::Seal { path: path.to_path_buf(), source })
    }
}

/// The length of a piece of at most `most` bytes, unless it was changed. A part of a piece is then known to be one.
fn piece_length(bytes: [u8; LENGTH_BYTES], most: usize) -> Option<usize> {
    let [length, turned] = [0, 4].map(|from| u32::from_le_bytes(std::array::from_fn(|at| bytes[from + at])));
    (length == !turned && length as usize <= most + OVERHEAD_BYTES).then_some(length as usize)
}
