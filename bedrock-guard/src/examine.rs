//! Judgements that a model is asked for: of one piece of text after the other, as a text grows.
//!
//! A [`Recognizer`](crate::scan::Recognizer) decides at once; an examiner waits for a model. Both go by frontiers: which pieces a text has does
//! not depend on how it came, so a stream and a whole text are judged alike. All pieces of a step are one question to the model.

use std::ops::Range;
use std::sync::Arc;

use bedrock_core::{EmbedPurpose, EmbedRequest, EmbeddingModel, Error};

use crate::classifier::ContentClassifier;
use crate::policy::content::classic::classic;
use crate::policy::content::{CATEGORIES, standard, window};
use crate::policy::topic::Topics;
use crate::scan::{Candidate, Label, Window};

/// Texts of one question to an embedding model.
const BATCH: usize = 64;

/// Asks a model.
#[derive(Clone)]
pub(crate) enum Examiner {
    /// Content filters of tier STANDARD.
    Standard(Arc<dyn EmbeddingModel>, [bool; CATEGORIES]),
    /// Denied topics.
    Topics(Arc<Topics>),
    /// Content filters of a model from outside.
    Classifier(Arc<ContentClassifier>, [bool; CATEGORIES]),
}

impl std::fmt::Debug for Examiner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Standard(..) => "Standard",
            Self::Topics(_) => "Topics",
            Self::Classifier(..) => "Classifier",
        })
    }
}

impl Examiner {
    /// The pieces that begin at or after `from` and are decided, whatever may still come, and the frontier behind them.
    fn pieces(&self, window: Window<'_>, from: usize) -> (Vec<Range<usize>>, usize) {
        let (text, mut start, mut pieces) = (window.text, from, Vec::new());
        // Topics are not hidden from a reader as harm may be from a filter: their pieces do not overlap, which halves what they cost.
        let (most, overlap) = match self {
            Self::Standard(..) | Self::Classifier(..) => (window::MOST, true),
            Self::Topics(topics) => (topics.piece(), false),
        };
        while start < text.len()
            && let Some(end) = window::end_within(text, start, window.complete, most)
        {
            pieces.push(start..end);
            start =
                if overlap && !(end == text.len() && window.complete) { window::next(text, start, end) } else { end };
        }
        (pieces, start)
    }

    /// Scores of pieces by the index of what is looked for, in the order of the pieces; of what is not `wanted` they may be any. `spent` counts questions about
    /// the text that have a limit.
    async fn scores(
        &self,
        pieces: &[&str],
        wanted: &(dyn Fn(usize) -> bool + Sync),
        spent: &mut usize,
    ) -> Result<Vec<Vec<f32>>, Error> {
        match self {
            Self::Standard(embedder, _) => {
                let prompts: Vec<String> =
                    pieces.iter().map(|piece| standard::prompt(standard::worst_unit(piece))).collect();
                let vectors = embed(embedder.as_ref(), prompts).await?;
                let score = |(piece, vector): (&&str, Vec<f32>)| {
                    standard::head().scores(&classic().logits(piece), &vector).to_vec()
                };
                Ok(pieces.iter().zip(vectors).map(score).collect())
            }
            Self::Topics(topics) => topics.scores(pieces, wanted, spent).await,
            Self::Classifier(classifier, _) => classifier.scores(pieces).await,
        }
    }

    /// What a score is of; `None` for a category that another judges.
    fn label(&self, index: usize) -> Option<Label> {
        match self {
            Self::Standard(_, judged) | Self::Classifier(_, judged) => {
                judged.get(index).copied().unwrap_or(false).then_some(Label::Content(index as u8))
            }
            Self::Topics(_) => Some(Label::Topic(index as u8)),
        }
    }

    /// Continues with a growing text from `from`; returns the frontier. `least` says from which score on a finding is one; `spent` is what was
    /// spent on the text so far, 0 at first.
    ///
    /// # Errors
    /// Those of the model.
    pub(crate) async fn advance(
        &self,
        window: Window<'_>,
        from: usize,
        least: impl Fn(Label) -> Option<f32> + Sync,
        spent: &mut usize,
        found: &mut Vec<Candidate>,
    ) -> Result<usize, Error> {
        let (pieces, frontier) = self.pieces(window, from);
        if pieces.is_empty() {
            return Ok(frontier);
        }
        let texts: Vec<&str> = pieces.iter().map(|piece| &window.text[piece.clone()]).collect();
        let wanted = |index| self.label(index).is_some_and(|label| least(label).is_some());
        for (span, scores) in pieces.iter().zip(self.scores(&texts, &wanted, spent).await?) {
            for (index, score) in scores.into_iter().enumerate() {
                let Some(label) = self.label(index) else { continue };
                if least(label).is_some_and(|least| score >= least) {
                    found.push(Candidate { span: span.clone(), label, score });
                }
            }
        }
        Ok(frontier)
    }

    /// The largest score of the pieces of a whole text, by the index of what is looked for.
    ///
    /// # Errors
    /// Those of the model.
    pub(crate) async fn worst(&self, text: &str) -> Result<Vec<f32>, Error> {
        let (pieces, _) = self.pieces(Window::whole(text), 0);
        let texts: Vec<&str> = pieces.iter().map(|piece| &text[piece.clone()]).collect();
        let mut worst = vec![
            0.0f32;
            match self {
                Self::Standard(..) | Self::Classifier(..) => CATEGORIES,
                Self::Topics(topics) => topics.len(),
            }
        ];
        for scores in self.scores(&texts, &|_| true, &mut 0).await? {
            worst.iter_mut().zip(scores).for_each(|(worst, score)| *worst = worst.max(score));
        }
        Ok(worst)
    }
}

/// Embeddings of texts, in their order.
///
/// # Errors
/// Those of the model; also [`Error::Validation`] if it gives another number of vectors, vectors of other lengths or numbers that are none.
pub(crate) async fn embed(model: &dyn EmbeddingModel, texts: Vec<String>) -> Result<Vec<Vec<f32>>, Error> {
    let mut vectors: Vec<Vec<f32>> = Vec::with_capacity(texts.len());
    let dimensions = model.info().dimensions;
    for batch in texts.chunks(BATCH) {
        let mut request = EmbedRequest::new(EmbedPurpose::Other, batch.iter().cloned());
        request.normalize = Some(true);
        let embeddings = model.embed(&request).await?.embeddings;
        let sound = |vector: &Vec<f32>| vector.len() == dimensions && vector.iter().all(|value| value.is_finite());
        if embeddings.len() != batch.len() || !embeddings.iter().all(sound) {
            let message = format!("the embedding model of the guardrail gave no {} sound vectors", batch.len());
            return Err(Error::validation(message));
        }
        vectors.extend(embeddings);
    }
    Ok(vectors)
}
