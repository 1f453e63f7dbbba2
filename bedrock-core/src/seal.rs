//! Encryption at rest: what stores do with their bytes before these reach a disk or a database.

#[cfg(feature = "seal")]
mod envelope;

#[cfg(feature = "seal")]
pub use envelope::{AesGcmSealer, KeyProvider, KeyRing, SecretKey, WrappedKey};

use std::fmt;
use std::sync::Arc;

use crate::error::Error;

/// Why sealed data can't be made or opened. Never says anything of keys or of what is sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The data does not begin as sealed data does: it was never sealed, or its beginning was changed.
    #[error("{length} bytes are no sealed data of a known format")]
    NotSealed {
        /// Length of the data in bytes.
        length: usize,
    },
    /// The data ends too early.
    #[error("the sealed data ends after {length} bytes")]
    Truncated {
        /// Length of the data in bytes.
        length: usize,
    },
    /// The key that the data was sealed with is not at hand.
    #[error("key {key_id:?} is not known")]
    UnknownKey {
        /// Name of the key, as the data says.
        key_id: String,
    },
    /// The data was changed, or was sealed under another context, or by another key of the same name.
    #[error("the sealed data does not fit its key and context")]
    Tampered,
    /// The data is too large to be sealed in one piece.
    #[error("{length} bytes are too many to be sealed in one piece")]
    TooLarge {
        /// Length of the data in bytes.
        length: usize,
    },
    /// A key provider gave a wrapped key that the header can't hold.
    #[error("a wrapped key has a name of {name} bytes (1 to 255 fit) and itself {length} (1 to 65535 fit)")]
    WrappedKey {
        /// Bytes of the name.
        name: usize,
        /// Bytes of the wrapped key.
        length: usize,
    },
    /// The operating system gave no random numbers.
    #[error("the system gives no random numbers: {reason}")]
    NoRandomness {
        /// What it said.
        reason: String,
    },
}

/// Something that encrypts bytes and proves that they were not changed.
///
/// Sealing takes the time of computing and, with a remote key provider, now and then of a call: it is done where files are
/// written, not in async code. How long the data is stays visible.
///
/// # Contract
/// - What was sealed is opened under the same context alone. The context, which is not stored, says what the data is, such
///   as `b"session:42"`: whoever can write to the disk can't put one record in the place of another. (An older state of the
///   same record can be put back; against that a context has to have a version.)
/// - Whatever the bytes, [`open`](Self::open) gives what was sealed or an [`Error`], never a part and never a panic.
///
/// `testing::check_sealer` (feature `testing`) checks what can be checked from outside.
pub trait Sealer: Send + Sync {
    /// Encrypts bytes. The same bytes give other ones each time.
    ///
    /// # Errors
    /// [`Error::Seal`]; whatever a key provider fails with.
    fn seal(&self, plaintext: &[u8], context: &[u8]) -> Result<Vec<u8>, Error>;

    /// Decrypts what was sealed.
    ///
    /// # Errors
    /// [`Error::Seal`] if it was changed, is cut or was sealed under another context or key; whatever a key provider fails with.
    fn open(&self, sealed: &[u8], context: &[u8]) -> Result<Vec<u8>, Error>;

    /// Seals anew, with the key that is current now: what a change of keys does to each record.
    ///
    /// # Errors
    /// As [`Sealer::open`] and [`Sealer::seal`].
    fn reseal(&self, sealed: &[u8], context: &[u8]) -> Result<Vec<u8>, Error> {
        self.seal(&self.open(sealed, context)?, context)
    }
}

/// Shows nothing of it, so that options with a sealer can be shown.
impl fmt::Debug for dyn Sealer + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

macro_rules! forward {
    ($($pointer:ident),*) => {$(
        impl<T: Sealer + ?Sized> Sealer for $pointer<T> {
            fn seal(&self, plaintext: &[u8], context: &[u8]) -> Result<Vec<u8>, Error> {
                (**self).seal(plaintext, context)
            }
            fn open(&self, sealed: &[u8], context: &[u8]) -> Result<Vec<u8>, Error> {
                (**self).open(sealed, context)
            }
            fn reseal(&self, sealed: &[u8], context: &[u8]) -> Result<Vec<u8>, Error> {
                (**self).reseal(sealed, context)
            }
        }
    )*};
}
forward!(Arc, Box);
