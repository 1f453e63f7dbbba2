//! From a document to the passages that are embedded and found.
//!
//! Text is cut into sentences by Unicode's rules (UAX #29), tokens are counted once a sentence, and sentences are packed
//! into chunks. A sentence is only ever broken when it alone exceeds the size: then at its line ends, then between
//! words, then between characters. What holds for every strategy, document and counter:
//!
//! - `document.text[chunk.start..chunk.end]` is the chunk's text, without white space around it;
//! - every character that is not white space is in a chunk;
//! - a chunk has at most the asked number of tokens, counted as the sum over its sentences (one character that alone
//!   has more tokens than that is the only exception; `none` has no limit);
//! - neighbours share at most the asked overlap, in whole sentences (or words, inside a broken sentence);
//! - a row of a table is a sentence, and a chunk that begins with a row after the table's head knows where the head is
//!   ([`Chunk::head`]); its tokens are counted, but the chunk's offsets are those of its own text.

mod custom;
mod pack;
mod semantic;
mod sentence;
mod tokens;

pub use custom::Chunker;
pub(crate) use custom::check;
pub use sentence::sentences;
pub use tokens::{CountTokens, ModelTokens, WordCounter};

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use bedrock_core::EmbeddingModel;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::document::Document;

/// A passage of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Position among the document's chunks, from 0.
    pub index: usize,
    /// Index of the chunk that this one is a part of (hierarchical chunking): the child is searched, the parent returned.
    pub parent: Option<usize>,
    /// Tokens, the sum over its sentences, and those of its head.
    pub tokens: usize,
    /// First byte in the document's text.
    pub start: usize,
    /// One past its last byte in the document's text.
    pub end: usize,
    /// Bytes of the head of the table that the chunk goes on with: what its columns are. The head lies before `start` and
    /// is no part of `start..end`.
    pub head: Option<Range<usize>>,
}

impl Chunk {
    /// The chunk's text.
    ///
    /// # Panics
    /// If the chunk is not one of this document.
    pub fn text<'d>(&self, document: &'d Document) -> &'d str {
        &document.text[self.start..self.end]
    }

    /// What is embedded, found and read: the chunk's text, after the head of the table that it goes on with.
    ///
    /// # Panics
    /// If the chunk is not one of this document.
    pub fn passage<'d>(&self, document: &'d Document) -> Cow<'d, str> {
        match &self.head {
            Some(head) => Cow::Owned(format!("{}\n{}", &document.text[head.clone()], self.text(document))),
            None => Cow::Borrowed(self.text(document)),
        }
    }
}

/// How documents are cut. Written as `default`, `fixed:TOKENS:OVERLAP_PERCENT`, `none`,
/// `hierarchical:PARENT:CHILD:OVERLAP_TOKENS` or `semantic:MAX:BUFFER:PERCENTILE`, and parsed from these and from `guide`,
/// `hierarchical` and `semantic` for [`Chunking::GUIDE`], [`Chunking::HIERARCHICAL`] and [`Chunking::SEMANTIC`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[non_exhaustive]
pub enum Chunking {
    /// The service's default as its questions and answers have it: at most 200 tokens in whole sentences, 20% overlap; a
    /// shorter document is one chunk. Its guide says 300: [`Chunking::GUIDE`].
    #[default]
    Default,
    /// Chunks of a chosen size.
    Fixed {
        /// Most tokens a chunk, 1 to 8,192.
        max_tokens: usize,
        /// Most overlap of neighbours in percent of `max_tokens`, 0 to 99.
        overlap_percentage: usize,
    },
    /// Large chunks to read, cut into small ones to search.
    Hierarchical {
        /// Most tokens of a parent, 1 to 8,192.
        parent_tokens: usize,
        /// Most tokens of a child, 1 to `parent_tokens`.
        child_tokens: usize,
        /// Most overlap of neighbours on either level, in tokens; less than `child_tokens`.
        overlap_tokens: usize,
    },
    /// Cuts where the meaning changes: where the distance of neighbouring sentences' embeddings is among the largest.
    /// Neighbours don't overlap. Needs an embedding model.
    Semantic {
        /// Most tokens a chunk, 1 to 8,192; longer passages are cut further.
        max_tokens: usize,
        /// How many sentences on each side are embedded together with each sentence: 0 or 1.
        buffer_size: usize,
        /// Distances above this percentile are cuts, 50 to 99.
        breakpoint_percentile: usize,
    },
    /// One chunk a document.
    None,
}

const DEFAULT_TOKENS: usize = 200;
const DEFAULT_OVERLAP_PERCENTAGE: usize = 20;
const MAX_TOKENS: usize = 8192;

impl Chunking {
    /// The default as the service's guide has it: about 300 tokens, 20% overlap.
    pub const GUIDE: Self = Self::Fixed { max_tokens: 300, overlap_percentage: 20 };

    /// What is usual for hierarchies: 1,500 tokens to read, 300 to search, 60 of overlap.
    pub const HIERARCHICAL: Self = Self::Hierarchical { parent_tokens: 1500, child_tokens: 300, overlap_tokens: 60 };

    /// What is usual for cuts by meaning: at most 300 tokens, each sentence with its neighbours, one cut in twenty.
    pub const SEMANTIC: Self = Self::Semantic { max_tokens: 300, buffer_size: 1, breakpoint_percentile: 95 };

    /// Checks the settings' ranges, which are the service's (but an overlap of 0 is allowed).
    ///
    /// # Errors
    /// [`Error::BadChunking`] naming the setting, its value and its range.
    pub fn validate(&self) -> Result<(), Error> {
        let within = |name: &str, value: usize, low: usize, high: usize| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(Error::BadChunking(format!("{name} is {value}, it must be {low} to {high}")))
            }
        };
        match *self {
            Self::Default | Self::None => Ok(()),
            Self::Fixed { max_tokens, overlap_percentage } => {
                within("maxTokens", max_tokens, 1, MAX_TOKENS)?;
                within("overlapPercentage", overlap_percentage, 0, 99)
            }
            Self::Hierarchical { parent_tokens, child_tokens, overlap_tokens } => {
                within("maxTokens of the parent", parent_tokens, 1, MAX_TOKENS)?;
                within("maxTokens of the child", child_tokens, 1, parent_tokens)?;
                within("overlapTokens", overlap_tokens, 0, child_tokens - 1)
            }
            Self::Semantic { max_tokens, buffer_size, breakpoint_percentile } => {
                within("maxTokens", max_tokens, 1, MAX_TOKENS)?;
                within("bufferSize", buffer_size, 0, 1)?;
                within("breakpointPercentileThreshold", breakpoint_percentile, 50, 99)
            }
        }
    }

    /// Whether [`Chunking::chunk`] needs an embedding model.
    pub fn needs_embedder(&self) -> bool {
        matches!(self, Self::Semantic { .. })
    }

    /// Cuts a document. A document without words has no chunks. Of hierarchical chunks, each parent comes before its
    /// children.
    ///
    /// # Errors
    /// [`Error::BadChunking`] for settings out of range, or semantic chunking without `embedder`; [`Error::Model`] when
    /// the counter or the embedder fails.
    pub async fn chunk(
        &self,
        document: &Document,
        counter: &dyn CountTokens,
        embedder: Option<&dyn EmbeddingModel>,
    ) -> Result<Vec<Chunk>, Error> {
        match (*self, embedder) {
            (Self::Semantic { max_tokens, buffer_size, breakpoint_percentile }, Some(embedder)) => {
                self.validate()?;
                semantic::chunk(document, counter, embedder, max_tokens, buffer_size, breakpoint_percentile).await
            }
            _ => self.chunk_blocking(document, counter),
        }
    }

    /// Cuts a document without embedding anything; semantic chunking is therefore an error here.
    ///
    /// # Errors
    /// As [`Chunking::chunk`].
    pub fn chunk_blocking(&self, document: &Document, counter: &dyn CountTokens) -> Result<Vec<Chunk>, Error> {
        self.validate()?;
        match *self {
            Self::Default => {
                pack::fixed(document, counter, DEFAULT_TOKENS, DEFAULT_TOKENS * DEFAULT_OVERLAP_PERCENTAGE / 100)
            }
            Self::Fixed { max_tokens, overlap_percentage } => {
                pack::fixed(document, counter, max_tokens, max_tokens * overlap_percentage / 100)
            }
            Self::Hierarchical { parent_tokens, child_tokens, overlap_tokens } => {
                pack::hierarchical(document, counter, parent_tokens, child_tokens, overlap_tokens)
            }
            Self::None => pack::whole(document, counter),
            Self::Semantic { .. } => Err(Error::BadChunking("semantic chunking needs an embedding model".to_owned())),
        }
    }
}

impl fmt::Display for Chunking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Default => f.write_str("default"),
            Self::None => f.write_str("none"),
            Self::Fixed { max_tokens, overlap_percentage } => write!(f, "fixed:{max_tokens}:{overlap_percentage}"),
            Self::Hierarchical { parent_tokens, child_tokens, overlap_tokens } => {
                write!(f, "hierarchical:{parent_tokens}:{child_tokens}:{overlap_tokens}")
            }
            Self::Semantic { max_tokens, buffer_size, breakpoint_percentile } => {
                write!(f, "semantic:{max_tokens}:{buffer_size}:{breakpoint_percentile}")
            }
        }
    }
}

impl FromStr for Chunking {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let numbers = parts
            .map(|part| {
                let part = part.strip_suffix('%').unwrap_or(part);
                part.parse::<usize>().map_err(|_| Error::BadChunking(format!("`{part}` in `{text}` is not a number")))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let chunking = match (name, numbers.as_slice()) {
            ("default", []) => Self::Default,
            ("none", []) => Self::None,
            ("guide", []) => Self::GUIDE,
            ("hierarchical", []) => Self::HIERARCHICAL,
            ("semantic", []) => Self::SEMANTIC,
            ("fixed", &[max_tokens, overlap_percentage]) => Self::Fixed { max_tokens, overlap_percentage },
            ("hierarchical", &[parent_tokens, child_tokens, overlap_tokens]) => {
                Self::Hierarchical { parent_tokens, child_tokens, overlap_tokens }
            }
            ("semantic", &[max_tokens, buffer_size, breakpoint_percentile]) => {
                Self::Semantic { max_tokens, buffer_size, breakpoint_percentile }
            }
            _ => {
                return Err(Error::BadChunking(format!(
                    "`{text}` is none of default, fixed:TOKENS:OVERLAP_PERCENT, none, \
                     hierarchical:PARENT:CHILD:OVERLAP_TOKENS, semantic:MAX:BUFFER:PERCENTILE"
                )));
            }
        };
        chunking.validate()?;
        Ok(chunking)
    }
}

impl From<Chunking> for String {
    fn from(chunking: Chunking) -> Self {
        chunking.to_string()
    }
}

impl TryFrom<String> for Chunking {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_written_as_they_are_read() {
        for text in ["default", "none", "fixed:300:15", "hierarchical:1500:300:60", "semantic:300:1:95"] {
            assert_eq!(text.parse::<Chunking>().unwrap().to_string(), text);
        }
        for (name, preset) in
            [("guide", "fixed:300:20"), ("hierarchical", "hierarchical:1500:300:60"), ("semantic", "semantic:300:1:95")]
        {
            assert_eq!(name.parse::<Chunking>().unwrap().to_string(), preset);
        }
        assert_eq!("fixed:100:20%".parse::<Chunking>().unwrap().to_string(), "fixed:100:20");
        for text in
            ["", "fixed", "fixed:0:20", "fixed:10:100", "fixed:x:1", "hierarchical:100:200:5", "semantic:300:2:95"]
        {
            assert!(matches!(text.parse::<Chunking>(), Err(Error::BadChunking(_))), "{text}");
        }
    }
}
