//! Cutting by the user's own rules.

use std::fmt;

use bedrock_core::EmbeddingModel;
use futures::future::BoxFuture;

use super::{Chunk, Chunking, CountTokens};
use crate::Error;
use crate::document::Document;

/// A way to cut documents. [`Chunking`] is one; others are given to
/// [`KnowledgeBaseBuilder::chunker`](crate::KnowledgeBaseBuilder::chunker).
pub trait Chunker: Send + Sync {
    /// Name and settings, in one line. A knowledge base remembers it and is not opened with a chunker of another id.
    fn id(&self) -> String;

    /// Cuts a document. Chunks are numbered from 0; a parent comes before its children and is itself no child. Offsets
    /// are those of the document's text, between characters.
    ///
    /// # Errors
    /// [`Error::BadChunking`], [`Error::Model`] or whatever keeps it from doing so.
    fn chunk<'a>(
        &'a self,
        document: &'a Document,
        counter: &'a dyn CountTokens,
        embedder: &'a dyn EmbeddingModel,
    ) -> BoxFuture<'a, Result<Vec<Chunk>, Error>>;
}

impl Chunker for Chunking {
    fn id(&self) -> String {
        self.to_string()
    }

    fn chunk<'a>(
        &'a self,
        document: &'a Document,
        counter: &'a dyn CountTokens,
        embedder: &'a dyn EmbeddingModel,
    ) -> BoxFuture<'a, Result<Vec<Chunk>, Error>> {
        Box::pin(Chunking::chunk(self, document, counter, Some(embedder)))
    }
}

impl fmt::Debug for dyn Chunker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunker({})", self.id())
    }
}

/// Checks what a chunker gave, before it is stored.
pub(crate) fn check(chunks: &[Chunk], document: &Document, id: &str) -> Result<(), Error> {
    for (position, chunk) in chunks.iter().enumerate() {
        let bad = |what: &str| Err(Error::BadChunking(format!("{id}: chunk {position} {what}")));
        if chunk.index != position {
            return bad("has another index");
        }
        if document.text.get(chunk.start..chunk.end).is_none_or(str::is_empty) {
            return bad("is not a piece of the text");
        }
        if chunk.head.as_ref().is_some_and(|head| document.text.get(head.clone()).is_none()) {
            return bad("has a head that is not a piece of the text");
        }
        if chunk.parent.is_some_and(|parent| parent >= position || chunks[parent].parent.is_some()) {
            return bad("has a parent that does not come before it, or is a child");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_chunker_gives_is_checked() {
        let document = Document::from_text("één two");
        let chunk = |index, parent, start, end| Chunk { index, parent, tokens: 1, start, end, head: None };
        assert!(check(&[chunk(0, None, 0, 5), chunk(1, Some(0), 6, 9)], &document, "x").is_ok());
        for bad in [
            vec![chunk(1, None, 0, 5)],
            vec![chunk(0, None, 0, 1)],
            vec![chunk(0, None, 3, 3)],
            vec![chunk(0, None, 6, 99)],
            vec![chunk(0, Some(0), 0, 5)],
            vec![chunk(0, None, 0, 5), chunk(1, Some(0), 0, 5), chunk(2, Some(1), 0, 5)],
            vec![Chunk { head: Some(0..1), ..chunk(0, None, 0, 5) }],
        ] {
            assert!(matches!(check(&bad, &document, "x"), Err(Error::BadChunking(_))), "{bad:?}");
        }
    }
}
