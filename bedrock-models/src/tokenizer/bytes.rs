//! The bytes that each token stands for.

use super::stream::{Strategy, append_bytes, byte_token};
use super::{Tokenizer, guarded};
use crate::error::Error;

impl Tokenizer {
    /// The bytes that each id adds to a text that has begun, by id; none for an id without a token. None if the vocabulary's
    /// decoder cannot be run token by token.
    ///
    /// At the beginning of a text some decoders take a space away, which is not shown here.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn token_bytes(&self) -> Result<Option<Vec<Vec<u8>>>, Error> {
        let model = &self.inner.model;
        let mut all = vec![Vec::new(); self.id_limit()];
        match self.inner.stream {
            Strategy::ByteLevel => {
                for (id, bytes) in (0..).zip(&mut all) {
                    if let Some(token) = model.id_to_token(id) {
                        append_bytes(&token, bytes);
                    }
                }
            }
            Strategy::Tokens { anchor, byte_fallback } => guarded(&self.inner.path, "decode", || {
                let before = model.decode(&[anchor], false)?.len();
                for (id, bytes) in (0..).zip(&mut all) {
                    let Some(token) = model.id_to_token(id) else { continue };
                    match byte_fallback.then(|| byte_token(&token)).flatten() {
                        Some(byte) => bytes.push(byte),
                        None => bytes.extend(model.decode(&[anchor, id], false)?.as_bytes().iter().skip(before)),
                    }
                }
                Ok(())
            })?,
            Strategy::Whole => return Ok(None),
        }
        Ok(Some(all))
    }

    /// Whether every token is a sequence of bytes, whatever stands around it.
    pub(crate) fn is_byte_level(&self) -> bool {
        self.inner.stream == Strategy::ByteLevel
    }
}
