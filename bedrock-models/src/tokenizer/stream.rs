//! Text from tokens while they are being generated.

use tokenizers::Decoder;

use super::{Tokenizer, guarded};
use crate::error::Error;

/// Turns token ids into text one at a time.
///
/// Law: all pieces from [`push`](Self::push) and the one from [`finish`](Self::finish), put together, are exactly
/// [`Tokenizer::decode`] of all the ids. So a piece is held back while a later token could still change it: the bytes
/// of an unfinished character, and, in vocabularies with byte fallback, the whole run of byte tokens, because the
/// reference decoder replaces all of a run if any of it is not UTF-8. No replacement character is given out for a
/// character that may still be completed.
#[derive(Debug, Clone)]
pub struct StreamDecoder {
    tokenizer: Tokenizer,
    skip_special: bool,
    /// Special tokens that are text all the same.
    shown: Vec<u32>,
    /// What is not settled yet.
    pending: Pending,
}

#[derive(Debug, Clone)]
enum Pending {
    Bytes(Vec<u8>),
    Ids { ids: Vec<u32>, started: bool },
}

/// How the decoder of a vocabulary can be run piecewise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strategy {
    /// Each token stands for bytes; text is their UTF-8.
    ByteLevel,
    /// Each token stands for text of its own, except that the first one is treated differently and that runs of byte
    /// tokens belong together. `anchor` is a plain token to decode behind, so that later tokens are not taken for the
    /// first one.
    Tokens { anchor: u32, byte_fallback: bool },
    /// Nothing is known: the text is given out at the end.
    Whole,
}

impl Strategy {
    pub(super) fn of(model: &tokenizers::Tokenizer) -> Self {
        let Ok(json) = serde_json::to_value(model.get_decoder()) else { return Self::Whole };
        let mut parts = Vec::new();
        if !json.is_null() {
            flatten(&json, &mut parts);
        }
        let kinds: Vec<&str> = parts.iter().map(|part| part["type"].as_str().unwrap_or_default()).collect();
        if kinds == ["ByteLevel"] || kinds == ["ByteLevel", "Fuse"] {
            return Self::ByteLevel;
        }
        let mut fused = false;
        for (kind, part) in kinds.iter().zip(&parts) {
            let piecewise = match *kind {
                "ByteFallback" | "Metaspace" | "WordPiece" => !fused,
                "Replace" => !fused,
                "Strip" => part["stop"] == 0,
                "Fuse" => true,
                _ => false,
            };
            if !piecewise {
                return Self::Whole;
            }
            fused |= *kind == "Fuse";
        }
        match anchor(model) {
            Some(anchor) => Self::Tokens { anchor, byte_fallback: kinds.contains(&"ByteFallback") },
            None => Self::Whole,
        }
    }
}

/// The decoders of a (nested) sequence in order.
fn flatten<'a>(decoder: &'a serde_json::Value, parts: &mut Vec<&'a serde_json::Value>) {
    match decoder["decoders"].as_array() {
        Some(decoders) if decoder["type"] == "Sequence" => decoders.iter().for_each(|part| flatten(part, parts)),
        _ => parts.push(decoder),
    }
}

/// A token that decodes to plain letters, and to the same ones whatever comes after it.
fn anchor(model: &tokenizers::Tokenizer) -> Option<u32> {
    let decode = |tokens: Vec<String>| match model.get_decoder() {
        Some(decoder) => decoder.decode(tokens).ok(),
        None => Some(tokens.join(" ")),
    };
    let limit = model.get_vocab_size(true).min(u32::MAX as usize) as u32;
    (0..limit).find(|&id| {
        let Some(token) = model.id_to_token(id) else { return false };
        !token.is_empty()
            && token.bytes().all(|byte| byte.is_ascii_lowercase())
            && !model.get_added_vocabulary().is_special_token(&token)
            && decode(vec![token.clone()]).as_deref() == Some(token.as_str())
            && decode(vec![token.clone(), token.clone()]).is_some_and(|twice| twice.starts_with(&token))
    })
}

impl StreamDecoder {
    pub(super) fn new(tokenizer: Tokenizer, skip_special: bool) -> Self {
        let pending = match tokenizer.inner.stream {
            Strategy::ByteLevel => Pending::Bytes(Vec::new()),
            _ => Pending::Ids { ids: Vec::new(), started: false },
        };
        Self { tokenizer, skip_special, shown: Vec::new(), pending }
    }

    /// Gives these special tokens out as text, also if others are left out.
    #[must_use]
    pub fn showing(mut self, ids: &[u32]) -> Self {
        self.shown = ids.to_vec();
        self
    }

    /// Takes the next id and returns the text that is now certain; often the token's own, sometimes empty.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn push(&mut self, id: u32) -> Result<String, Error> {
        let Some(token) = self.tokenizer.id_to_token(id) else { return Ok(String::new()) };
        let added = self.tokenizer.inner.model.get_added_vocabulary();
        if self.skip_special && added.is_special_token(&token) && !self.shown.contains(&id) {
            return Ok(String::new());
        }
        match &mut self.pending {
            Pending::Bytes(bytes) => {
                append_bytes(&token, bytes);
                Ok(take_settled(bytes))
            }
            Pending::Ids { ids, .. } => {
                ids.push(id);
                match self.tokenizer.inner.stream {
                    Strategy::Tokens { byte_fallback, .. } if !(byte_fallback && byte_token(&token).is_some()) => {
                        self.settle()
                    }
                    _ => Ok(String::new()),
                }
            }
        }
    }

    /// Ends the text and returns what was held back. The decoder is then as new.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn finish(&mut self) -> Result<String, Error> {
        let text = match &mut self.pending {
            Pending::Bytes(bytes) => {
                let text = String::from_utf8_lossy(bytes).into_owned();
                bytes.clear();
                text
            }
            Pending::Ids { .. } => self.settle()?,
        };
        if let Pending::Ids { ids, started } = &mut self.pending {
            ids.clear();
            *started = false;
        }
        Ok(text)
    }

    /// Whether text is being held back.
    pub fn is_holding(&self) -> bool {
        match &self.pending {
            Pending::Bytes(bytes) => !bytes.is_empty(),
            Pending::Ids { ids, .. } => !ids.is_empty(),
        }
    }

    /// Decodes all pending ids, none of which can change any more.
    fn settle(&mut self) -> Result<String, Error> {
        let Pending::Ids { ids, started } = &mut self.pending else { return Ok(String::new()) };
        if ids.is_empty() {
            return Ok(String::new());
        }
        let inner = &self.tokenizer.inner;
        let decode = |ids: &[u32]| guarded(&inner.path, "decode", || inner.model.decode(ids, false));
        if let (true, Strategy::Tokens { anchor, .. }) = (*started, inner.stream) {
            ids.insert(0, anchor);
            let before = decode(&ids[..1])?;
            let mut text = decode(ids)?;
            ids.clear();
            debug_assert!(text.starts_with(&before), "an anchor decodes to the same text whatever follows");
            text.replace_range(..before.len().min(text.len()), "");
            return Ok(text);
        }
        let text = decode(ids)?;
        // While the beginning is empty (a stripped space), what comes next is still at the beginning.
        if !text.is_empty() {
            ids.clear();
            *started = true;
        }
        Ok(text)
    }
}

/// The bytes that a byte-level token stands for: each of its characters is a byte in disguise. Tokens with other
/// characters, which are added ones, stand for their own UTF-8.
pub(super) fn append_bytes(token: &str, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    for character in token.chars() {
        match byte_of(character) {
            Some(byte) => bytes.push(byte),
            None => {
                bytes.truncate(start);
                bytes.extend_from_slice(token.as_bytes());
                return;
            }
        }
    }
}

/// The inverse of GPT-2's table of printable characters for bytes: printable Latin-1 stands for itself, the other 68
/// bytes are numbered from U+0100.
fn byte_of(character: char) -> Option<u8> {
    match character as u32 {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// Takes the text from the front of the bytes and leaves the beginning of a character that may still be completed.
fn take_settled(bytes: &mut Vec<u8>) -> String {
    let unfinished = match bytes.utf8_chunks().last() {
        // `utf8_chunks` reports an unfinished character at the very end like an invalid one: only the error of
        // `from_utf8` tells them apart.
        Some(chunk) => match std::str::from_utf8(chunk.invalid()) {
            Err(error) if error.error_len().is_none() => chunk.invalid().len(),
            _ => 0,
        },
        None => 0,
    };
    let rest = bytes.split_off(bytes.len() - unfinished);
    let text = String::from_utf8_lossy(bytes).into_owned();
    *bytes = rest;
    text
}

/// The byte of a token that is one of `<0x00>` … `<0xFF>`.
pub(super) fn byte_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>').filter(|_| token.len() == 6)?;
    // As the reference: anything that Rust parses as a hexadecimal byte.
    u8::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_byte_table_is_a_bijection() {
        let mut seen: Vec<u8> = (0..0x200).filter_map(char::from_u32).filter_map(byte_of).collect();
        assert_eq!(seen.len(), 256);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 256);
        assert_eq!(byte_of('Ġ'), Some(b' '));
        assert_eq!(byte_of('Ċ'), Some(b'\n'));
    }

    proptest! {
        #[test]
        fn settled_bytes_add_up_to_the_lossy_text(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5), 0..12)) {
            let mut pending = Vec::new();
            let mut text = String::new();
            for chunk in &chunks {
                pending.extend_from_slice(chunk);
                text.push_str(&take_settled(&mut pending));
                prop_assert!(pending.len() < 4);
            }
            text.push_str(&String::from_utf8_lossy(&pending));
            prop_assert_eq!(text, String::from_utf8_lossy(&chunks.concat()).into_owned());
        }

        #[test]
        fn whole_characters_come_out_whole(text in "\\PC*") {
            let mut pending = Vec::new();
            let mut out = String::new();
            for byte in text.bytes() {
                pending.push(byte);
                let piece = take_settled(&mut pending);
                prop_assert!(!piece.contains(char::REPLACEMENT_CHARACTER) || text.contains(char::REPLACEMENT_CHARACTER));
                out.push_str(&piece);
            }
            prop_assert!(pending.is_empty());
            prop_assert_eq!(out, text);
        }
    }
}
