//! Rerankers, classifiers, retrievers and guardrails without a neural network.

use super::{overlap, words};
use crate::classify::{ClassifyRequest, ClassifyResponse, LabelScore, TextClassifier};
use crate::error::Error;
use crate::guardrail::{
    ApplyGuardrailRequest, ApplyGuardrailResponse, GuardrailAction, GuardrailAssessment, GuardrailContentBlock,
    GuardrailCoverage, GuardrailCustomWord, GuardrailOutputContent, GuardrailPolicyAction,
    GuardrailTextCharactersCoverage, GuardrailUsage, GuardrailWordPolicyAssessment,
};
use crate::model::{BoxFuture, Guardrail, Retriever};
use crate::rerank::{RerankRequest, RerankResponse, Reranker};
use crate::retrieve::{
    KnowledgeBaseRetrievalResult, RetrievalResultContent, RetrievalResultLocation, RetrieveRequest, RetrieveResponse,
};

/// Scores a document by the share of the query's words that it has.
#[derive(Debug, Clone, Copy, Default)]
pub struct OverlapReranker;

impl Reranker for OverlapReranker {
    fn rerank<'a>(&'a self, request: &'a RerankRequest) -> BoxFuture<'a, Result<RerankResponse, Error>> {
        Box::pin(async move {
            let query = words(&request.query).count();
            let tokens = request.documents.iter().map(|document| (query + words(document).count()) as u64).sum();
            let scores = request.documents.iter().map(|document| overlap(&request.query, document));
            Ok(RerankResponse::from_scores(scores, request.top_n, tokens))
        })
    }
}

/// Scores a label by the share of its keywords that a text has.
#[derive(Debug, Clone)]
pub struct KeywordClassifier {
    labels: Vec<(String, String)>,
}

impl KeywordClassifier {
    /// Labels, each with its keywords in one text.
    pub fn new(labels: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>) -> Self {
        Self { labels: labels.into_iter().map(|(label, keywords)| (label.into(), keywords.into())).collect() }
    }
}

impl TextClassifier for KeywordClassifier {
    fn classify<'a>(&'a self, request: &'a ClassifyRequest) -> BoxFuture<'a, Result<ClassifyResponse, Error>> {
        Box::pin(async move {
            let mut response = ClassifyResponse::default();
            for (index, input) in request.inputs.iter().enumerate() {
                if input.pair.is_some() {
                    return Err(Error::validation(format!(
                        "inputs.{index}.pair is set; this model takes single texts"
                    )));
                }
                response.input_tokens += words(&input.text).count() as u64;
                let score = |(label, keywords): &(String, String)| LabelScore {
                    label: label.clone(),
                    score: overlap(keywords, &input.text),
                };
                response.results.push(self.labels.iter().map(score).collect());
            }
            Ok(response)
        })
    }
}

/// Finds passages of a list by the share of the query's words that they have; those that share none are left out.
/// Filters and rerankers are refused.
#[derive(Debug, Clone, Default)]
pub struct ListRetriever {
    passages: Vec<(String, String)>,
}

impl ListRetriever {
    /// Passages: source and text.
    pub fn new(passages: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>) -> Self {
        Self { passages: passages.into_iter().map(|(source, text)| (source.into(), text.into())).collect() }
    }
}

impl Retriever for ListRetriever {
    fn retrieve<'a>(&'a self, request: &'a RetrieveRequest) -> BoxFuture<'a, Result<RetrieveResponse, Error>> {
        Box::pin(async move {
            request.validate()?;
            let Some(query) = &request.retrieval_query.text else {
                return Err(Error::validation("retrievalQuery.image is set; this retriever takes text"));
            };
            let config = request.retrieval_configuration.as_ref();
            let config = config.and_then(|config| config.vector_search_configuration.as_ref());
            if config.is_some_and(|config| config.filter.is_some() || config.reranking_configuration.is_some()) {
                return Err(Error::validation(
                    "retrievalConfiguration.vectorSearchConfiguration has a filter or a reranker; this retriever has none",
                ));
            }
            let most = config.and_then(|config| config.number_of_results).unwrap_or(5) as usize;
            let scores = self.passages.iter().map(|(_, text)| overlap(query, text));
            let ranking = RerankResponse::from_scores(scores, Some(most), 0);
            let found = ranking.results.into_iter().filter(|result| result.relevance_score > 0.0);
            let retrieval_results = found
                .map(|result| {
                    let (source, text) = &self.passages[result.index];
                    KnowledgeBaseRetrievalResult {
                        content: RetrievalResultContent::text(text),
                        location: Some(RetrievalResultLocation::custom(source)),
                        score: Some(f64::from(result.relevance_score)),
                        document_id: Some(source.clone()),
                        ..Default::default()
                    }
                })
                .collect();
            Ok(RetrieveResponse { retrieval_results, ..Default::default() })
        })
    }
}

/// Blocks or masks one word, whatever its case.
#[derive(Debug, Clone)]
pub struct WordGuardrail {
    word: String,
    action: GuardrailPolicyAction,
}

impl WordGuardrail {
    /// What stands instead of content that is blocked.
    pub const MESSAGE: &'static str = "Sorry, I can't talk about that.";

    /// Replaces content that has the word by [`WordGuardrail::MESSAGE`].
    pub fn blocking(word: impl AsRef<str>) -> Self {
        Self { word: word.as_ref().to_lowercase(), action: GuardrailPolicyAction::Blocked }
    }

    /// Replaces the word by `{WORD}`.
    pub fn masking(word: impl AsRef<str>) -> Self {
        Self { word: word.as_ref().to_lowercase(), action: GuardrailPolicyAction::Anonymized }
    }

    /// The text with masks, and the matches.
    fn mask(&self, text: &str) -> (String, Vec<String>) {
        let (mut masked, mut matches) = (String::new(), Vec::new());
        let mut rest = text;
        while let Some(start) = rest.find(char::is_alphanumeric) {
            let end =
                rest[start..].find(|character: char| !character.is_alphanumeric()).map_or(rest.len(), |n| start + n);
            masked.push_str(&rest[..start]);
            if rest[start..end].to_lowercase() == self.word {
                masked.push_str("{WORD}");
                matches.push(rest[start..end].to_owned());
            } else {
                masked.push_str(&rest[start..end]);
            }
            rest = &rest[end..];
        }
        masked.push_str(rest);
        (masked, matches)
    }
}

impl Guardrail for WordGuardrail {
    fn apply<'a>(&'a self, request: &'a ApplyGuardrailRequest) -> BoxFuture<'a, Result<ApplyGuardrailResponse, Error>> {
        Box::pin(async move {
            request.validate()?;
            let (mut masked, mut matches, mut characters) = (Vec::new(), Vec::new(), 0);
            for (index, block) in request.content.iter().enumerate() {
                let GuardrailContentBlock::Text(block) = block else {
                    return Err(Error::validation(format!("content.{index} is no text")));
                };
                characters += block.text.chars().count() as u32;
                let (text, found) = self.mask(&block.text);
                masked.push(GuardrailOutputContent { text: Some(text) });
                matches.extend(found);
            }
            let custom_words: Vec<_> = matches
                .into_iter()
                .map(|matched| GuardrailCustomWord { matched, action: self.action.clone(), detected: Some(true) })
                .collect();
            let hit = !custom_words.is_empty();
            let outputs = match (hit, &self.action) {
                (false, _) => Vec::new(),
                (true, GuardrailPolicyAction::Anonymized) => masked,
                (true, _) => vec![GuardrailOutputContent { text: Some(Self::MESSAGE.into()) }],
            };
            let policy = GuardrailWordPolicyAssessment { custom_words, managed_word_lists: Vec::new() };
            Ok(ApplyGuardrailResponse {
                usage: GuardrailUsage { word_policy_units: characters.div_ceil(1000), ..Default::default() },
                action: if hit { GuardrailAction::GuardrailIntervened } else { GuardrailAction::None },
                action_reason: None,
                outputs,
                assessments: vec![GuardrailAssessment { word_policy: hit.then_some(policy), ..Default::default() }],
                guardrail_coverage: Some(GuardrailCoverage {
                    text_characters: Some(GuardrailTextCharactersCoverage {
                        guarded: Some(characters),
                        total: Some(characters),
                    }),
                    images: None,
                }),
            })
        })
    }
}
