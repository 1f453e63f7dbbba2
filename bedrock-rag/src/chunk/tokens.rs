//! Counting tokens.

use bedrock_core::EmbeddingModel;
use unicode_segmentation::UnicodeSegmentation;

use super::sentence::blank;
use crate::Error;

/// Counts the tokens of a text, as the model that will read it does.
pub trait CountTokens: Send + Sync {
    /// Tokens of `text`, without special tokens. Called once a sentence with at most some kilobytes of text.
    ///
    /// # Errors
    /// [`Error::Model`] when the model's tokenizer fails.
    fn count(&self, text: &str) -> Result<usize, Error>;
}

/// Counts without a model: every word and every punctuation mark or symbol by Unicode's word boundaries (UAX #29) is a
/// token, white space is none. An ideograph is a word of its own. Sub-word tokenizers count about 1.3 times as many for
/// English.
#[derive(Clone, Copy, Debug, Default)]
pub struct WordCounter;

impl CountTokens for WordCounter {
    fn count(&self, text: &str) -> Result<usize, Error> {
        Ok(text.split_word_bounds().filter(|word| !word.chars().all(blank)).count())
    }
}

/// Counts with an embedding model's tokenizer.
#[derive(Clone, Debug)]
pub struct ModelTokens<M>(pub M);

impl<M: EmbeddingModel> CountTokens for ModelTokens<M> {
    fn count(&self, text: &str) -> Result<usize, Error> {
        self.0.count_tokens(text).map_err(|source| Error::Model { role: "embedding", source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_punctuation_count() {
        let count = |text| WordCounter.count(text).unwrap();
        assert_eq!(count("Don't panic, it's 3.14!"), 6);
        assert_eq!(count("  \n\t "), 0);
        assert_eq!(count("東京都"), 3);
    }
}
