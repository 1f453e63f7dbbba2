//! Content filters of texts and grounding checks by models from outside, behind core's `TextClassifier`.

use std::fmt;
use std::sync::Arc;

use bedrock_core::{ClassifyRequest, Error, GuardrailContentFilterType as Type, LabelScore, TextClassifier};

use crate::policy::content::{CATEGORIES, category};
use crate::policy::grounding::claim;

/// Pieces of one question to a classifier.
const BATCH: usize = 32;

/// A classifier whose labels stand for content categories. It replaces the built-in filter of these categories; the others stay with the tier
/// of the configuration.
///
/// ```
/// use bedrock_core::GuardrailContentFilterType as Category;
/// use bedrock_core::testing::KeywordClassifier;
/// use bedrock_guard::ContentClassifier;
///
/// let model = KeywordClassifier::new([("BENIGN", "hello"), ("JAILBREAK", "ignore rules")]);
/// let filter = ContentClassifier::new(model).label("JAILBREAK", Category::PromptAttack).confidence([0.5, 0.8, 0.95]);
/// # let _ = filter;
/// ```
#[derive(Clone)]
pub struct ContentClassifier {
    model: Arc<dyn TextClassifier>,
    map: LabelMap,
}

impl fmt::Debug for ContentClassifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentClassifier").field("map", &self.map).finish_non_exhaustive()
    }
}

impl ContentClassifier {
    /// A classifier that stands for nothing yet: see [`label`](Self::label).
    pub fn new(model: impl TextClassifier + 'static) -> Self {
        Self { model: Arc::new(model), map: LabelMap::default() }
    }

    /// A label of the model, whatever its case, is a score of `category`. Several labels may be of one category: the largest score counts; one label
    /// may be of several. Labels that are not named are ignored.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>, category: Type) -> Self {
        self.map.labels.push((label.into(), category));
        self
    }

    /// The labels of classifiers of prompt attacks (Prompt Guard 1 and 2 and their like): `INJECTION`, `JAILBREAK`, `MALICIOUS`, `LABEL_1`.
    #[must_use]
    pub fn prompt_guard(model: impl TextClassifier + 'static) -> Self {
        let labels = ["INJECTION", "JAILBREAK", "MALICIOUS", "LABEL_1"];
        labels.into_iter().fold(Self::new(model), |filter, label| filter.label(label, Type::PromptAttack))
    }

    /// The hazards of MLCommons by their numbers, as classifiers of the class of Llama Guard have them (`S1` … `S14`): violent crimes and weapons
    /// are VIOLENCE and MISCONDUCT, other crimes, elections, abuse of code and self-harm MISCONDUCT, defamation INSULTS, hate HATE, sex SEXUAL. Specialised
    /// advice, privacy and intellectual property are of no category.
    #[must_use]
    pub fn llama_guard(model: impl TextClassifier + 'static) -> Self {
        let labels = [
            ("S1", Type::Violence),
            ("S1", Type::Misconduct),
            ("S2", Type::Misconduct),
            ("S3", Type::Sexual),
            ("S3", Type::Misconduct),
            ("S4", Type::Sexual),
            ("S4", Type::Misconduct),
            ("S5", Type::Insults),
            ("S9", Type::Violence),
            ("S9", Type::Misconduct),
            ("S10", Type::Hate),
            ("S11", Type::Misconduct),
            ("S12", Type::Sexual),
            ("S13", Type::Misconduct),
            ("S14", Type::Misconduct),
        ];
        labels.into_iter().fold(Self::new(model), |filter, (label, category)| filter.label(label, category))
    }

    /// Scores from which confidence is low, medium and high. Default: 0.3, 0.5, 0.9.
    #[must_use]
    pub fn confidence(mut self, steps: [f32; 3]) -> Self {
        self.map.steps = steps;
        self
    }

    pub(crate) fn map(&self) -> &LabelMap {
        &self.map
    }

    /// Scores of each category for each piece; 0 for those it does not judge.
    pub(crate) async fn scores(&self, pieces: &[&str]) -> Result<Vec<Vec<f32>>, Error> {
        let mut all = Vec::with_capacity(pieces.len());
        for batch in pieces.chunks(BATCH) {
            let results = self.model.classify(&ClassifyRequest::new(batch.iter().copied())).await?.results;
            if results.len() != batch.len() {
                return Err(Error::validation("the classifier of the guardrail did not judge every text"));
            }
            for result in results {
                let scores = self.map.read(result)?;
                // A model whose labels are spelt otherwise would pass everything in silence.
                if scores.iter().all(Option::is_none) {
                    return Err(Error::validation(
                        "the classifier of the guardrail has none of the labels it was given for",
                    ));
                }
                all.push(scores.map(Option::unwrap_or_default).to_vec());
            }
        }
        Ok(all)
    }
}

/// Which labels of a model stand for which content categories, and from which scores on it is sure.
#[derive(Debug, Clone)]
pub(crate) struct LabelMap {
    pub(crate) labels: Vec<(String, Type)>,
    /// Scores from which confidence is low, medium and high.
    pub(crate) steps: [f32; 3],
}

impl Default for LabelMap {
    fn default() -> Self {
        Self { labels: Vec::new(), steps: [0.3, 0.5, 0.9] }
    }
}

impl LabelMap {
    /// # Errors
    /// [`Error::Validation`] for a map without labels, a category that no filter has, and steps that do not rise within 0..=1.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if self.labels.is_empty() {
            return Err(Error::validation("classifier: no label stands for a content category"));
        }
        if let Some((label, kind)) = self.labels.iter().find(|(_, kind)| category(kind).is_none()) {
            return Err(Error::validation(format!(
                "classifier: label {label:?} is of no category ({})",
                kind.as_str()
            )));
        }
        let [low, medium, high] = self.steps;
        if !(0.0 < low && low <= medium && medium <= high && high <= 1.0) {
            return Err(Error::validation("classifier: the steps of confidence must rise from above 0 to at most 1"));
        }
        Ok(())
    }

    /// The categories that labels stand for.
    pub(crate) fn categories(&self) -> [bool; CATEGORIES] {
        let mut known = [false; CATEGORIES];
        for index in self.labels.iter().filter_map(|(_, kind)| category(kind)) {
            known[index] = true;
        }
        known
    }

    /// The score of each category; `None` for one of which the answer has no label.
    ///
    /// # Errors
    /// [`Error::Validation`] for a score that is no number.
    pub(crate) fn read(&self, answer: Vec<LabelScore>) -> Result<[Option<f32>; CATEGORIES], Error> {
        let mut scores = [None; CATEGORIES];
        for LabelScore { label, score } in answer {
            if !score.is_finite() {
                return Err(Error::validation("the classifier of the guardrail gave a score that is no number"));
            }
            for (_, kind) in self.labels.iter().filter(|(name, _)| name.eq_ignore_ascii_case(&label)) {
                if let Some(index) = category(kind) {
                    scores[index] = Some(scores[index].unwrap_or(0.0f32).max(score.clamp(0.0, 1.0)));
                }
            }
        }
        Ok(scores)
    }
}

/// A classifier of pairs (premise, hypothesis) that says whether a source supports a sentence.
#[derive(Clone)]
pub(crate) struct GroundingJudge {
    pub(crate) model: Arc<dyn TextClassifier>,
    pub(crate) label: String,
}

impl fmt::Debug for GroundingJudge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroundingJudge").field("label", &self.label).finish_non_exhaustive()
    }
}

impl GroundingJudge {
    /// Bytes of the longest passage of a source that is one premise.
    const PASSAGE: usize = 1200;
    /// Passages that are asked for each sentence: those that share the most words with it.
    const PASSAGES: usize = 3;

    /// The mean over the sentences of a response of how well the best passage of the source supports each, 0..=1.
    pub(crate) async fn score(&self, source: &str, response: &str) -> Result<f32, Error> {
        let passages = claim::passages(source, Self::PASSAGE);
        let sentences = claim::sentences(response);
        let mut pairs = Vec::new();
        for (index, sentence) in sentences.iter().enumerate() {
            let mut near: Vec<(usize, &str)> =
                passages.iter().map(|passage| (claim::shared(passage, sentence), *passage)).collect();
            // A stable sort: of equals the first.
            near.sort_by_key(|(shared, _)| std::cmp::Reverse(*shared));
            pairs.extend(near.into_iter().take(Self::PASSAGES).map(|(_, passage)| (index, passage, *sentence)));
        }
        let mut best = vec![0.0f32; sentences.len()];
        for batch in pairs.chunks(BATCH) {
            let request = ClassifyRequest::new(batch.iter().map(|(_, passage, sentence)| (*passage, *sentence)));
            let results = self.model.classify(&request).await?.results;
            if results.len() != batch.len() {
                return Err(Error::validation("the grounding judge did not judge every sentence"));
            }
            for ((index, ..), result) in batch.iter().zip(results) {
                let score = result.iter().find(|score| score.label.eq_ignore_ascii_case(&self.label));
                let Some(score) = score.filter(|score| score.score.is_finite()) else {
                    return Err(Error::validation(format!("the grounding judge gave no label {:?}", self.label)));
                };
                best[*index] = best[*index].max(score.score.clamp(0.0, 1.0));
            }
        }
        Ok(if best.is_empty() { 1.0 } else { best.iter().sum::<f32>() / best.len() as f32 })
    }
}
