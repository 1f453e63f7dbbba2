//! Generated ids as text, up to the end.

use super::StopMatcher;
use crate::error::Error;
use crate::tokenizer::{StreamDecoder, Tokenizer};

/// Why a generation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinishReason {
    /// This token was chosen, which ends a text or a turn; under a constraint, perhaps not by the model.
    EndOfText(u32),
    /// This stop sequence was generated.
    StopSequence(String),
    /// As many tokens as allowed were generated.
    MaxTokens,
}

/// What one token adds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TextDelta {
    /// Text to give out; often empty, as text is held back that may become a stop sequence or a character.
    pub text: String,
    /// Set with the last piece of text.
    pub finish: Option<FinishReason>,
}

/// When a [`TextStream`] ends.
#[derive(Debug, Clone, Default)]
pub struct TextStreamOptions {
    /// Texts that end the generation and are not part of it.
    pub stop_sequences: Vec<String>,
    /// Largest number of tokens, the end token included. None: no limit.
    pub max_tokens: Option<usize>,
    /// Treat end tokens as any other, as benchmarks do.
    pub ignore_end: bool,
    /// Show special tokens as text instead of leaving them out.
    pub keep_special: bool,
    /// Special tokens to show as text in any case.
    pub shown_special: Vec<u32>,
}

/// Turns generated token ids into pieces of text and says when to stop.
///
/// Law: the pieces together are the text of all tokens before the end, cut before the first stop sequence.
#[derive(Debug, Clone)]
pub struct TextStream {
    decoder: StreamDecoder,
    stops: StopMatcher,
    ends: Vec<u32>,
    max_tokens: usize,
    tokens: usize,
    finished: bool,
}

impl TextStream {
    /// A stream at the start of a generation. End tokens are those of the tokenizer.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] if a stop sequence is empty or `max_tokens` is 0.
    pub fn new(tokenizer: &Tokenizer, options: &TextStreamOptions) -> Result<Self, Error> {
        if options.max_tokens == Some(0) {
            return Err(Error::InvalidParameter { name: "max_tokens", got: "0".into(), expected: "at least 1".into() });
        }
        Ok(Self {
            decoder: tokenizer.stream_decoder(!options.keep_special).showing(&options.shown_special),
            stops: StopMatcher::new(&options.stop_sequences)?,
            ends: if options.ignore_end { Vec::new() } else { tokenizer.special_tokens().ends.clone() },
            max_tokens: options.max_tokens.unwrap_or(usize::MAX),
            tokens: 0,
            finished: false,
        })
    }

    /// Takes a generated token. After the end it is ignored.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn push(&mut self, id: u32) -> Result<TextDelta, Error> {
        if self.finished {
            return Ok(TextDelta::default());
        }
        self.tokens += 1;
        if self.ends.binary_search(&id).is_ok() {
            return self.end(FinishReason::EndOfText(id));
        }
        let decoded = self.decoder.push(id)?;
        let text = self.stops.push(&decoded);
        if let Some(stop) = self.stops.matched() {
            self.finished = true;
            return Ok(TextDelta { text, finish: Some(FinishReason::StopSequence(stop.to_string())) });
        }
        if self.tokens < self.max_tokens {
            return Ok(TextDelta { text, finish: None });
        }
        let rest = self.end(FinishReason::MaxTokens)?;
        Ok(TextDelta { text: text + &rest.text, ..rest })
    }

    /// Ends the stream from outside (the context is full, the caller had enough) and returns what was held back.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn finish(&mut self) -> Result<String, Error> {
        if self.finished {
            return Ok(String::new());
        }
        Ok(self.end(FinishReason::MaxTokens)?.text)
    }

    /// Number of tokens taken so far, the one that ended the stream included.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// How many more may be taken.
    pub fn left(&self) -> usize {
        self.max_tokens.saturating_sub(self.tokens)
    }

    /// Whether the end was reached.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    fn end(&mut self, reason: FinishReason) -> Result<TextDelta, Error> {
        self.finished = true;
        let held = self.decoder.finish()?;
        let mut text = self.stops.push(&held);
        // The last bytes may complete a stop sequence, which then is the reason.
        let reason = match self.stops.matched() {
            Some(stop) => FinishReason::StopSequence(stop.to_string()),
            None => reason,
        };
        text.push_str(&self.stops.finish());
        Ok(TextDelta { text, finish: Some(reason) })
    }
}
