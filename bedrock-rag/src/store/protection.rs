//! What keeps records from being changed unnoticed and, when the user gives a key, from being read.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use bedrock_core::Sealer;

use crate::Error;

const CHECKSUM_BYTES: usize = 8;

/// How the values of a store, and its index files, are kept.
pub(crate) enum Protection {
    /// Readable, each behind a checksum over its place and content.
    Checksums,
    /// Encrypted and proved, each for its place. Places are numbers; addresses, which stand for documents, become keyed hashes.
    Sealed {
        sealer: Arc<dyn Sealer>,
        /// Tag of the knowledge base, so that no record of another one fits.
        tag: u64,
        names: [u8; 32],
    },
}

impl Protection {
    /// With a new key for names, or one to be replaced by [`Protection::set_names`].
    pub(super) fn sealed(sealer: Arc<dyn Sealer>, tag: u64, path: &Path) -> Result<Self, Error> {
        // Sealing draws a nonce at random and makes a tag with a secret key: the hash of two seals that nobody ever sees is as
        // good a key as any, and takes no other source of chance.
        let mut hasher = blake3::Hasher::new();
        for context in [b"names 1", b"names 2"] {
            let seal = sealer.seal(&tag.to_le_bytes(), context);
            hasher.update(&seal.map_err(|source| Error::Seal { path: path.to_owned(), source })?);
        }
        Ok(Self::Sealed { sealer, tag, names: *hasher.finalize().as_bytes() })
    }

    pub(super) fn names(&self) -> [u8; 32] {
        match self {
            Self::Checksums => [0; 32],
            Self::Sealed { names, .. } => *names,
        }
    }

    pub(super) fn set_names(&mut self, key: [u8; 32]) {
        if let Self::Sealed { names, .. } = self {
            *names = key;
        }
    }

    pub(crate) fn is_sealed(&self) -> bool {
        matches!(self, Self::Sealed { .. })
    }

    /// What stands in a table for an address.
    pub(super) fn name<'u>(&self, uri: &'u str) -> Cow<'u, str> {
        match self {
            Self::Checksums => Cow::Borrowed(uri),
            Self::Sealed { names, .. } => Cow::Owned(blake3::keyed_hash(names, uri.as_bytes()).to_hex().to_string()),
        }
    }

    /// What is kept of `content` at a place.
    pub(crate) fn seal(&self, path: &Path, table: &str, key: u64, content: &[u8]) -> Result<Vec<u8>, Error> {
        match self {
            Self::Checksums => Ok([checksum_of(table, key, content).as_slice(), content].concat()),
            Self::Sealed { sealer, tag, .. } => {
                let sealed = sealer.seal(content, &context_of(*tag, table, key));
                sealed.map_err(|source| Error::Seal { path: path.to_owned(), source })
            }
        }
    }

    /// The content that was kept at a place.
    pub(crate) fn open(&self, path: &Path, table: &str, key: u64, kept: &[u8]) -> Result<Vec<u8>, Error> {
        match self {
            Self::Checksums => {
                let (checksum, content) = kept
                    .split_at_checked(CHECKSUM_BYTES)
                    .ok_or_else(|| Error::damaged(path, format!("{table} {key} is cut short")))?;
                if checksum != checksum_of(table, key, content) {
                    return Err(Error::damaged(path, format!("the checksum of {table} {key} does not fit")));
                }
                Ok(content.to_vec())
            }
            Self::Sealed { sealer, tag, .. } => {
                let content = sealer.open(kept, &context_of(*tag, table, key));
                content.map_err(|source| Error::Seal { path: path.to_owned(), source })
            }
        }
    }

    /// The same content, kept under the key that is current.
    pub(super) fn renew(&self, path: &Path, table: &str, key: u64, kept: &[u8]) -> Result<Vec<u8>, Error> {
        match self {
            Self::Checksums => Err(Error::SealMismatch { path: path.to_owned(), sealed: false }),
            Self::Sealed { sealer, tag, .. } => {
                let renewed = sealer.reseal(kept, &context_of(*tag, table, key));
                renewed.map_err(|source| Error::Seal { path: path.to_owned(), source })
            }
        }
    }
}

fn checksum_of(table: &str, key: u64, content: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{table}\0{key}\0").as_bytes()).update(content);
    let hash = hasher.finalize();
    std::array::from_fn(|byte| hash.as_bytes()[byte])
}

fn context_of(tag: u64, table: &str, key: u64) -> Vec<u8> {
    format!("knowledge base {tag:016x}: {table} {key}").into_bytes()
}
