//! The vector graph's file beside a store: as the index writes it, or sealed piece by piece.
//!
//! Sealed, everything little-endian: magic 8 · version u32 · pieces u64 · per piece its length u64 and the sealed bytes. Each piece
//! is sealed for its number and how many there are; that they belong together is proved by the checksum of what they hold.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use rayon::prelude::*;

use super::Protection;
use crate::Error;
use crate::index::{Hnsw, replace_file};

const MAGIC: &[u8; 8] = b"bedrSEAL";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 20;
const PIECE_BYTES: usize = 4 << 20;

/// Most that sealing adds to a piece: nonce, tag, and a wrapped key with its name.
const OVERHEAD_BYTES: usize = 1 << 17;

/// Writes the file, whole or not at all.
pub(crate) fn save(graph: &Hnsw, path: &Path, tag: u64, protection: &Protection) -> Result<(), Error> {
    if !protection.is_sealed() {
        return graph.save(path, tag);
    }
    let mut bytes = Vec::new();
    graph.write(&mut bytes, tag).map_err(|source| Error::write(path, source))?;
    let pieces: Vec<&[u8]> = bytes.chunks(PIECE_BYTES).collect();
    let kind = kind_of(pieces.len());
    let seal = |(number, piece): (usize, &&[u8])| protection.seal(path, &kind, number as u64, piece);
    let sealed = pieces.par_iter().enumerate().map(seal).collect::<Result<Vec<_>, _>>()?;
    replace_file(path, |out| {
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&(sealed.len() as u64).to_le_bytes())?;
        for piece in &sealed {
            out.write_all(&(piece.len() as u64).to_le_bytes())?;
            out.write_all(piece)?;
        }
        Ok(())
    })
}

/// Reads the file and the tag it was saved with.
pub(crate) fn load(path: &Path, protection: &Protection) -> Result<(Hnsw, u64), Error> {
    if !protection.is_sealed() {
        return Hnsw::load(path);
    }
    let damaged = |reason: &str| Error::damaged(path, reason);
    let mut file = File::open(path).map_err(|source| Error::read(path, source))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|source| Error::read(path, source))?;
    let (head, mut rest) = bytes.split_at_checked(HEAD_BYTES).ok_or_else(|| damaged("it is shorter than its head"))?;
    if &head[..8] != MAGIC || head[8..12] != VERSION.to_le_bytes() {
        return Err(damaged("it is no sealed vector graph"));
    }
    let count = u64::from_le_bytes(std::array::from_fn(|byte| head[12 + byte]));
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let piece = rest.split_first_chunk::<8>().and_then(|(length, after)| {
            let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
            after.split_at_checked(length).filter(|_| length <= PIECE_BYTES + OVERHEAD_BYTES)
        });
        let piece = piece.ok_or_else(|| damaged("a piece of it is cut short"))?;
        pieces.push(piece.0);
        rest = piece.1;
    }
    if pieces.len() as u64 != count {
        return Err(damaged("pieces of it are missing"));
    }
    let kind = kind_of(pieces.len());
    let open = |(number, piece): (usize, &&[u8])| protection.open(path, &kind, number as u64, piece);
    let opened = pieces.par_iter().enumerate().map(open).collect::<Result<Vec<_>, _>>()?.concat();
    Hnsw::read(path, &opened.as_slice(), opened.len() as u64)
}

fn kind_of(pieces: usize) -> String {
    format!("graph of {pieces} pieces")
}
