//! A sealer without cryptography.

use crate::error::Error;
use crate::seal::{SealError, Sealer};

/// Notices changes and hides **nothing**: to test code that seals, without keys. Never use it for data of anybody.
#[derive(Debug, Clone, Copy, Default)]
pub struct ChecksumSealer;

const MAGIC: &[u8; 4] = b"TOY1";

/// FNV-1a over the length of the context, the context and the bytes: another byte gives another sum.
fn checksum(bytes: &[u8], context: &[u8]) -> [u8; 8] {
    let length = (context.len() as u64).to_le_bytes();
    let all = length.iter().chain(context).chain(bytes);
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    all.fold(0xcbf2_9ce4_8422_2325, step).to_le_bytes()
}

impl Sealer for ChecksumSealer {
    fn seal(&self, plaintext: &[u8], context: &[u8]) -> Result<Vec<u8>, Error> {
        // Turned round bit by bit, so that a test that looks for the plaintext in a file does not find it.
        let hidden: Vec<u8> = plaintext.iter().map(|byte| !byte).collect();
        Ok([&MAGIC[..], &checksum(&hidden, context), &hidden].concat())
    }

    fn open(&self, sealed: &[u8], context: &[u8]) -> Result<Vec<u8>, Error> {
        let rest = sealed.strip_prefix(MAGIC).ok_or(SealError::NotSealed { length: sealed.len() })?;
        let (sum, hidden) = rest.split_first_chunk::<8>().ok_or(SealError::Truncated { length: sealed.len() })?;
        if *sum != checksum(hidden, context) {
            return Err(SealError::Tampered.into());
        }
        Ok(hidden.iter().map(|byte| !byte).collect())
    }
}
