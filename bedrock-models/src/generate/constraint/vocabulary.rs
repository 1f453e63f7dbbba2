//! A tokenizer as llguidance sees it: a trie of the bytes of its tokens.

use llguidance::toktrie::{TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use crate::error::Error;
use crate::tokenizer::Tokenizer;

/// The longest token that is put into the trie, whose nodes count the bytes of a token in 10 bits. Longer ones are never chosen
/// under a constraint.
const MAX_TOKEN_BYTES: usize = 1000;

/// Ids have 24 bits in the trie, of which the last stands for none.
const MAX_TOKENS: usize = 0xff_ffff;

pub(super) struct Vocabulary {
    trie: TokTrie,
    tokenizer: Tokenizer,
    canonical: bool,
}

impl Vocabulary {
    /// None if the tokens do not stand for bytes one by one, or none of them ends a text.
    pub(super) fn new(tokenizer: &Tokenizer) -> Result<Option<Self>, Error> {
        let Some(mut words) = tokenizer.token_bytes()? else { return Ok(None) };
        let ends: Vec<u32> =
            tokenizer.special_tokens().ends.iter().copied().filter(|id| (*id as usize) < words.len()).collect();
        let (Some(end), true) = (ends.first(), words.len() < MAX_TOKENS) else { return Ok(None) };
        for (id, word) in (0..).zip(&mut words) {
            // No text has this byte, so the marked tokens are in no text. An end token ends the text whatever it is called.
            let is_marked = tokenizer.is_special(id) || ends.contains(&id);
            if is_marked {
                let name = tokenizer.id_to_token(id).unwrap_or_default();
                *word = [&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_bytes()].concat();
            }
            if word.len() > MAX_TOKEN_BYTES || !is_marked && word.contains(&TokTrie::SPECIAL_TOKEN_MARKER) {
                word.clear();
            }
        }
        let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, *end), &words).with_eos_tokens(&ends);
        // Bytes that a grammar forces are cut into the tokens that the tokenizer would make of them, which is what the model has seen.
        // Others than byte-level tokenizers change a text that stands alone: there the model chooses.
        let in_utf8 = |byte: &u8| !matches!(byte, 0xc0 | 0xc1 | 0xf5..);
        let canonical = tokenizer.is_byte_level()
            && (0..=u8::MAX).filter(in_utf8).all(|byte| trie.token_id_at_bytes(&[byte]).is_some());
        Ok(Some(Self { trie, tokenizer: tokenizer.clone(), canonical }))
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let canonical = || {
            let ids = self.tokenizer.encode(std::str::from_utf8(bytes).ok()?, false).ok()?;
            // The text of a special token would become that token, and some tokenizers put a space before a text.
            (self.trie.decode_raw(&ids) == bytes).then_some(ids)
        };
        canonical().unwrap_or_else(|| self.trie.greedy_tokenize(bytes))
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.canonical
    }
}
