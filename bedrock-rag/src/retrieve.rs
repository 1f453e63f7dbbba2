//! Finding passages: by meaning, by words, or both; filtered; ordered anew by a reranker.

use std::collections::{BTreeMap, HashSet};

use bedrock_core::{
    BoxFuture, EmbedPurpose, ImplicitFilterConfiguration, KnowledgeBaseRetrievalResult, RerankRequest, RetrievalFilter,
    RetrievalResultContent, RetrievalResultLocation, RetrieveRequest, RetrieveResponse, Retriever, SearchType,
    TokenUsage,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::answer::transform::{both, implied_filter};
use crate::document::Metadata;
use crate::index::id_ranges::IdRanges;
use crate::index::rank::{Fusion, diversify};
use crate::index::{Allowed, Neighbor, dot, normalize};
use crate::knowledge_base::{KnowledgeBase, State};
use crate::store::Candidates;
use crate::{Error, filter};

/// Results unless a request says how many; the service's default.
pub(crate) const DEFAULT_RESULTS: usize = 5;

/// Most results of one search.
const MAX_RESULTS: usize = 10_000;

/// How passages are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SearchMode {
    /// By meaning: cosine of embeddings. The score is (1 + cosine) / 2.
    #[default]
    Vector,
    /// By words: BM25. The score is b / (b + 10) of the BM25 score b, which keeps the order and fits into 0 to 1.
    /// Needs the feature `keyword`, or a vector store that searches words (by its own score in place of BM25's).
    Keyword,
    /// Both, joined by a [`Fusion`], whose score it is. Needs what keyword search needs.
    Hybrid,
}

impl SearchMode {
    pub(crate) fn check(self) -> Result<(), Error> {
        if self != Self::Vector && cfg!(not(feature = "keyword")) {
            return Err(Error::InvalidRequest(
                "keyword and hybrid search need bedrock-rag's feature `keyword`, which this build lacks".to_owned(),
            ));
        }
        Ok(())
    }
}

impl std::str::FromStr for SearchMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "vector" => Ok(Self::Vector),
            "keyword" => Ok(Self::Keyword),
            "hybrid" => Ok(Self::Hybrid),
            _ => Err(Error::InvalidRequest(format!("`{text}` is none of vector, keyword, hybrid"))),
        }
    }
}

/// What to look for, and how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Search {
    /// The query, 1 to 20,000 characters.
    pub text: String,
    /// Most results, 1 to 10,000. `None`: 5.
    pub results: Option<usize>,
    /// How passages are found. `None`: as the knowledge base was opened.
    pub mode: Option<SearchMode>,
    /// Only documents whose metadata pass.
    pub filter: Option<RetrievalFilter>,
    /// What a chat model may filter by besides, as the query implies: by the model of the [`Answerer`](crate::Answerer), or by
    /// [`KnowledgeBaseBuilder::query_model`](crate::KnowledgeBaseBuilder::query_model). If what it says is no filter by these attributes,
    /// there is none.
    pub implicit_filter: Option<ImplicitFilterConfiguration>,
    /// Whether the reranker orders the candidates anew: four times the results, but at least 20 and at most 200 (or
    /// the results, if those are more). The score is then the reranker's, through the logistic function when it is
    /// not within 0 to 1 already.
    pub rerank: bool,
    /// Passages with a lower score are left out. Default 0.
    pub min_score: f32,
    /// How hybrid search joins its two rankings. `None`: as the knowledge base was opened.
    pub fusion: Option<Fusion>,
    /// How much it counts that passages differ from each other, 0 to 1: they are chosen by maximal marginal relevance among
    /// four times as many, and stand in the order in which they were chosen, each with its own score. With a reranker, the
    /// candidates are chosen so. `None`: not at all.
    pub diversity: Option<f32>,
}

impl Search {
    /// Looks for `text` with defaults.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// At most this many results.
    pub fn results(mut self, results: usize) -> Self {
        self.results = Some(results);
        self
    }

    /// Finds passages this way.
    pub fn mode(mut self, mode: SearchMode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Only documents whose metadata pass.
    pub fn filter(mut self, filter: RetrievalFilter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Joins the rankings of hybrid search this way.
    pub fn fusion(mut self, fusion: Fusion) -> Self {
        self.fusion = Some(fusion);
        self
    }

    /// Leaves out passages with a lower score.
    pub fn min_score(mut self, score: f32) -> Self {
        self.min_score = score;
        self
    }

    /// Prefers passages that differ from each other, 0 to 1.
    pub fn diversity(mut self, diversity: f32) -> Self {
        self.diversity = Some(diversity);
        self
    }

    /// Has the reranker order the candidates anew.
    pub fn rerank(mut self) -> Self {
        self.rerank = true;
        self
    }
}

/// A passage that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Passage {
    /// Id of the chunk, unique in the knowledge base and never used again.
    pub chunk_id: u64,
    /// Address of its document.
    pub uri: String,
    /// Title of its document.
    pub title: Option<String>,
    /// 0 to 1, higher is better; what it means depends on the [`SearchMode`] and on whether a reranker was used.
    pub score: f32,
    /// Cosine of the embeddings of query and passage (of the best child, for a parent), −1 to 1. `None` in keyword mode.
    pub similarity: Option<f32>,
    /// The passage. Where it goes on with a table, the table's head comes first, which is no part of `start..end`.
    pub text: String,
    /// First byte in the document's extracted text.
    pub start: usize,
    /// One past its last byte there.
    pub end: usize,
    /// Tokens, counted by the embedding model.
    pub tokens: usize,
    /// Headings it stands under, outermost first.
    pub headings: Vec<String>,
    /// Page that it begins on, from 1, when the document has pages.
    pub page: Option<usize>,
    /// Attributes of its document.
    pub metadata: Metadata,
}

/// A chunk with its score, before it is read.
#[derive(Clone, Copy, Debug)]
struct Hit {
    id: u64,
    score: f32,
    similarity: Option<f32>,
}

impl KnowledgeBase {
    /// Finds passages, best first; ties by chunk id.
    ///
    /// With hierarchical chunking children are searched and their parents returned, each once, so there may be fewer
    /// results than asked for.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a query, number or filter out of range, a mode this build lacks, or reranking without
    /// a reranker; [`Error::Model`] when a model fails; [`Error::Store`], [`Error::Damaged`] from the store.
    pub async fn search(&self, search: &Search) -> Result<Vec<Passage>, Error> {
        if let Some(configuration) = &search.implicit_filter {
            let Some(model) = &self.query_model else {
                return Err(Error::InvalidRequest(
                    "an implicit filter was asked for, but the knowledge base has no query model".to_owned(),
                ));
            };
            let (model, mut usage) = (model.as_ref(), TokenUsage::default());
            let implied = implied_filter(model, configuration, &search.text, &mut usage).await?;
            let filter = both(search.filter.clone(), implied);
            let search = Search { implicit_filter: None, filter, ..search.clone() };
            return Box::pin(self.search(&search)).await;
        }
        let results = search.results.unwrap_or(DEFAULT_RESULTS);
        let characters = search.text.chars().count();
        if search.text.trim().is_empty() || characters > 20_000 {
            return Err(Error::InvalidRequest(format!(
                "a query must have 1 to 20000 characters, this one has {characters}"
            )));
        }
        if results == 0 || results > MAX_RESULTS {
            return Err(Error::InvalidRequest(format!(
                "the number of results is {results}, it must be 1 to {MAX_RESULTS}"
            )));
        }
        if search.rerank && self.reranker.is_none() {
            return Err(Error::InvalidRequest(
                "reranking was asked for, but the knowledge base has no reranker".to_owned(),
            ));
        }
        let within = |share: f32| (0.0..=1.0).contains(&share);
        if !search.fusion.unwrap_or(self.fusion).is_valid()
            || search.diversity.is_some_and(|diversity| !within(diversity))
        {
            return Err(Error::InvalidRequest(
                "the weight of a fusion and the diversity must be 0 to 1, the constant of ranks at least 0".to_owned(),
            ));
        }
        let mode = search.mode.unwrap_or(self.mode);
        match &self.remote {
            Some(remote) => remote.check(mode)?,
            None => mode.check()?,
        }
        let candidates = if search.rerank { (results * 4).clamp(20, 200).max(results) } else { results };
        let query = match mode {
            SearchMode::Keyword => None,
            _ => self.embed(vec![search.text.clone()], EmbedPurpose::Query).await?.pop(),
        };
        self.refresh()?;
        let elsewhere = match &self.remote {
            Some(remote) => {
                // As deep as hybrid search looks here.
                let depth = self.depth(search, candidates);
                let depth = if mode == SearchMode::Hybrid { hybrid_depth(depth) } else { depth };
                Some(remote.candidates(search, mode, query.as_deref(), depth).await?)
            }
            None => None,
        };
        let elsewhere = elsewhere.as_ref();
        let mut found = self.find(search, mode, query.as_deref(), elsewhere, candidates);
        // Beside a writer: what was found may have been deleted before it was read.
        for _ in 0..3 {
            if found.is_ok() || !self.is_behind()? {
                break;
            }
            self.refresh()?;
            found = self.find(search, mode, query.as_deref(), elsewhere, candidates);
        }
        let mut passages = found?;
        if let Some((_, reranker)) = self.reranker.as_ref().filter(|_| search.rerank) {
            let documents: Vec<String> = passages.iter().map(|passage| passage.text.clone()).collect();
            let request = RerankRequest { top_n: Some(results), ..RerankRequest::new(&search.text, documents) };
            let response =
                reranker.rerank(&request).await.map_err(|source| Error::Model { role: "reranking", source })?;
            let within = response.results.iter().all(|result| (0.0..=1.0).contains(&result.relevance_score));
            let mut ranked = Vec::new();
            for result in response.results {
                let Some(passage) = passages.get(result.index) else { continue };
                let score = result.relevance_score;
                let score = if within { score } else { 1.0 / (1.0 + (-score).exp()) };
                ranked.push(Passage { score, ..passage.clone() });
            }
            passages = ranked;
        }
        passages.retain(|passage| passage.score >= search.min_score);
        passages.truncate(results);
        Ok(passages)
    }

    /// [`KnowledgeBase::search`] for callers without an async runtime.
    ///
    /// # Errors
    /// As [`KnowledgeBase::search`].
    pub fn search_blocking(&self, search: &Search) -> Result<Vec<Passage>, Error> {
        futures::executor::block_on(self.search(search))
    }

    /// Chunks to look for, so that there are so many results.
    fn depth(&self, search: &Search, results: usize) -> usize {
        let wanted = self.wanted(results);
        if search.diversity.is_some() { wanted.saturating_mul(4) } else { wanted }
    }

    /// Children of one parent become one result, so more of them are needed.
    fn wanted(&self, results: usize) -> usize {
        let hierarchical = matches!(self.manifest.chunking, crate::chunk::Chunking::Hierarchical { .. });
        if hierarchical { results.saturating_mul(4) } else { results }
    }

    /// The part that waits for nobody. What was found elsewhere is not looked for here.
    fn find(
        &self,
        search: &Search,
        mode: SearchMode,
        query: Option<&[f32]>,
        elsewhere: Option<&Candidates>,
        results: usize,
    ) -> Result<Vec<Passage>, Error> {
        #[cfg(feature = "keyword")]
        let keywords = if mode == SearchMode::Vector || elsewhere.is_some() { None } else { Some(self.keywords()?) };
        // Held until the chunks are read, so that none of them is deleted in between.
        let state = self.read_state();
        let allowed = match &search.filter {
            Some(filter) if elsewhere.is_none() => Some(allowed_by(&state, filter)?),
            _ => None,
        };
        let selective = allowed
            .as_ref()
            .is_some_and(|allowed| allowed.len() < 5_000 || allowed.len() * 10 < state.vectors.len() as u64);
        let passes = |id: u64| allowed.as_ref().is_none_or(|allowed| allowed.contains(id));
        let filter: Option<Allowed<'_>> = if allowed.is_some() { Some(&passes) } else { None };
        let wanted = self.wanted(results);
        let depth = self.depth(search, results);
        let neighbors = |depth: usize| -> Result<Vec<Neighbor>, Error> {
            match (elsewhere, query) {
                // What is no longer here is about to go there too.
                (Some(elsewhere), _) => present(&elsewhere.by_meaning, |found| self.store.has_chunk(found.id)),
                (None, Some(query)) => state.vectors.search(query, depth, filter, selective),
                (None, None) => Ok(Vec::new()),
            }
        };
        let by_words = |depth: usize| -> Result<Vec<(u64, f32)>, Error> {
            if let Some(elsewhere) = elsewhere {
                return present(&elsewhere.by_words, |&(id, _)| self.store.has_chunk(id));
            }
            #[cfg(feature = "keyword")]
            if let Some(index) = &keywords {
                return index.search(&search.text, depth, allowed.as_ref());
            }
            let _ = depth;
            Ok(Vec::new())
        };
        let hits: Vec<Hit> = match mode {
            SearchMode::Vector => neighbors(depth)?
                .into_iter()
                .map(|found| Hit {
                    id: found.id,
                    score: ((1.0 + found.similarity) / 2.0).clamp(0.0, 1.0),
                    similarity: Some(found.similarity.clamp(-1.0, 1.0)),
                })
                .collect(),
            SearchMode::Keyword => by_words(depth)?
                .into_iter()
                .map(|(id, score)| Hit { id, score: score / (score + 10.0), similarity: None })
                .collect(),
            SearchMode::Hybrid => {
                let deep = hybrid_depth(depth);
                let (by_meaning, by_words) = (neighbors(deep)?, by_words(deep)?);
                let pairs: Vec<(u64, f32)> = by_meaning.iter().map(|found| (found.id, found.similarity)).collect();
                let mut query = query.unwrap_or_default().to_vec();
                normalize(&mut query, 0)?;
                let fused =
                    search.fusion.unwrap_or(self.fusion).fuse(&pairs, &by_words, |id| -> Result<f32, Error> {
                        Ok(dot(&query, &self.normalized(id)?))
                    })?;
                let hit = |found: crate::index::rank::Fused| Hit {
                    id: found.id,
                    score: found.score,
                    similarity: Some(found.similarity.clamp(-1.0, 1.0)),
                };
                fused.into_iter().take(depth).map(hit).collect()
            }
        };
        let hits = match search.diversity {
            Some(diversity) => self.diverse(hits, wanted, diversity)?,
            None => hits,
        };
        self.read_passages(&state, hits, results)
    }

    fn normalized(&self, id: u64) -> Result<Vec<f32>, Error> {
        let mut vector = self.store.vector(id)?;
        normalize(&mut vector, 0)?;
        Ok(vector)
    }

    /// The hits to take when repetition counts against them.
    fn diverse(&self, hits: Vec<Hit>, count: usize, diversity: f32) -> Result<Vec<Hit>, Error> {
        let vectors = hits.iter().map(|hit| self.normalized(hit.id)).collect::<Result<Vec<_>, _>>()?;
        let relevances: Vec<f32> = hits.iter().map(|hit| hit.similarity.unwrap_or(hit.score)).collect();
        let chosen = diversify(&relevances, count, diversity, |a, b| dot(&vectors[a], &vectors[b]));
        Ok(chosen.into_iter().map(|chosen| hits[chosen]).collect())
    }

    fn read_passages(&self, state: &State, hits: Vec<Hit>, results: usize) -> Result<Vec<Passage>, Error> {
        let mut passages = Vec::new();
        let mut parents = HashSet::new();
        for hit in hits {
            if passages.len() == results {
                break;
            }
            let mut id = hit.id;
            let mut chunk = self.store.chunk(id)?;
            if let Some(parent) = chunk.parent {
                if !parents.insert(parent) {
                    continue;
                }
                id = parent;
                chunk = self.store.chunk(parent)?;
            }
            let entry = state
                .documents
                .get(&chunk.document)
                .ok_or_else(|| Error::damaged(self.store.path(), format!("chunk {id} belongs to no document")))?;
            passages.push(Passage {
                chunk_id: id,
                uri: entry.uri.clone(),
                title: entry.title.clone(),
                score: hit.score,
                similarity: hit.similarity,
                text: chunk.text,
                start: chunk.start as usize,
                end: chunk.end as usize,
                tokens: chunk.tokens as usize,
                headings: chunk.headings,
                page: chunk.page.map(|page| page as usize),
                metadata: entry.attributes.clone(),
            });
        }
        Ok(passages)
    }
}

#[cfg(feature = "keyword")]
impl KnowledgeBase {
    /// The keyword index, made from the store if this is the first time it is needed.
    fn keywords(&self) -> Result<std::sync::Arc<crate::index::keyword::KeywordIndex>, Error> {
        // State first, as everywhere: no change comes between reading the chunks and keeping the index.
        let state = self.read_state();
        let mut slot = self.keyword.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(index) = &*slot {
            return Ok(index.clone());
        }
        let index = crate::index::keyword::KeywordIndex::new()?;
        let mut texts = Vec::new();
        let mut numbers: Vec<u64> = state.documents.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            let record = self.store.document(number)?;
            for id in record.vector_ids() {
                texts.push((id, self.store.chunk(id)?.text));
            }
            if texts.len() >= 4096 {
                index.apply(texts.iter().map(|(id, text)| (*id, text.as_str())), [])?;
                texts.clear();
            }
        }
        index.apply(texts.iter().map(|(id, text)| (*id, text.as_str())), [])?;
        let index = std::sync::Arc::new(index);
        *slot = Some(index.clone());
        Ok(index)
    }

    /// Tells the keyword index, if there is one already, what has changed.
    pub(crate) fn update_keywords(&self, change: &crate::store::Change) -> Result<(), Error> {
        let slot = self.keyword.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(index) = slot.as_ref().filter(|_| !change.inserted.is_empty() || !change.removed.is_empty()) else {
            return Ok(());
        };
        let texts = change.inserted.iter().flat_map(|inserted| &inserted.searched);
        index.apply(texts.map(|(id, text, _)| (*id, text.as_str())), change.removed.iter().copied())
    }
}

/// Deep enough that what is good in both rankings is found in both.
fn hybrid_depth(depth: usize) -> usize {
    depth.saturating_mul(2).max(100)
}

fn present<T: Copy>(found: &[T], is_here: impl Fn(&T) -> Result<bool, Error>) -> Result<Vec<T>, Error> {
    let mut present = Vec::with_capacity(found.len());
    for found in found {
        if is_here(found)? {
            present.push(*found);
        }
    }
    Ok(present)
}

/// Chunks of the documents whose attributes pass.
fn allowed_by(state: &State, condition: &RetrievalFilter) -> Result<IdRanges, Error> {
    filter::validate(condition)?;
    let passing = state.documents.values().filter(|entry| filter::passes(condition, &entry.attributes));
    Ok(IdRanges::new(passing.map(|entry| entry.first_chunk..entry.first_chunk + entry.chunks).collect()))
}

/// Metadata keys that results carry beside a document's own attributes.
pub mod keys {
    /// Address of the document (the service's key).
    pub const SOURCE_URI: &str = "x-amz-bedrock-kb-source-uri";
    /// Id of the chunk (the service's key).
    pub const CHUNK_ID: &str = "x-amz-bedrock-kb-chunk-id";
    /// First byte of the passage in the document's extracted text.
    pub const START: &str = "x-bedrock-kb-start-byte";
    /// One past its last byte.
    pub const END: &str = "x-bedrock-kb-end-byte";
    /// Headings it stands under, outermost first.
    pub const HEADINGS: &str = "x-bedrock-kb-headings";
    /// Page that the passage begins on, from 1, when the document has pages (the service's key).
    pub const PAGE: &str = "x-amz-bedrock-kb-document-page-number";
    /// Title of the document.
    pub const TITLE: &str = "x-bedrock-kb-title";
}

impl Passage {
    /// The passage in the service's shape. The document's address is its location: in an object store if it begins with `s3://`.
    pub fn into_result(self) -> KnowledgeBaseRetrievalResult {
        KnowledgeBaseRetrievalResult {
            score: Some(f64::from(self.score)),
            document_id: Some(self.uri.clone()),
            location: Some(self.location()),
            metadata: self.all_metadata(),
            content: RetrievalResultContent::text(self.text),
        }
    }

    pub(crate) fn location(&self) -> RetrievalResultLocation {
        if self.uri.starts_with("s3://") {
            return RetrievalResultLocation::s3(&self.uri);
        }
        RetrievalResultLocation::custom(&self.uri)
    }

    pub(crate) fn all_metadata(&self) -> BTreeMap<String, Value> {
        let mut metadata: BTreeMap<String, Value> = self.metadata.clone().into_iter().collect();
        metadata.insert(keys::SOURCE_URI.to_owned(), Value::from(self.uri.as_str()));
        metadata.insert(keys::CHUNK_ID.to_owned(), Value::from(self.chunk_id.to_string()));
        metadata.insert(keys::START.to_owned(), Value::from(self.start));
        metadata.insert(keys::END.to_owned(), Value::from(self.end));
        if !self.headings.is_empty() {
            metadata.insert(keys::HEADINGS.to_owned(), Value::from(self.headings.clone()));
        }
        if let Some(page) = self.page {
            metadata.insert(keys::PAGE.to_owned(), Value::from(page));
        }
        if let Some(title) = &self.title {
            metadata.insert(keys::TITLE.to_owned(), Value::from(title.as_str()));
        }
        metadata
    }
}

impl KnowledgeBase {
    /// Reads a request of the service into a search.
    pub(crate) fn to_search(&self, request: &RetrieveRequest) -> Result<Search, bedrock_core::Error> {
        request.validate()?;
        self.check_id(&request.knowledge_base_id)?;
        let refuse = |what: &str| Err(bedrock_core::Error::validation(what));
        if request.next_token.is_some() {
            return refuse("nextToken: results come in one page");
        }
        if request.guardrail_configuration.is_some() {
            return refuse(
                "guardrailConfiguration: put the knowledge base behind the guardrail, as bedrock_guard::Guarded does",
            );
        }
        if request.user_context.is_some() {
            return refuse("userContext: this knowledge base keeps no access lists, so it can't honour one");
        }
        let Some(text) = &request.retrieval_query.text else {
            return refuse("retrievalQuery.text is missing; this knowledge base is searched by text");
        };
        let mut search = Search::new(text);
        if let Some(configuration) = &request.retrieval_configuration {
            self.configure(&mut search, configuration)?;
        }
        Ok(search)
    }

    pub(crate) fn check_id(&self, id: &str) -> Result<(), bedrock_core::Error> {
        if id.is_empty() || id == self.id() {
            return Ok(());
        }
        Err(bedrock_core::Error::resource_not_found(format!("knowledge base {id} is not this one, {}", self.id())))
    }

    pub(crate) fn configure(
        &self,
        search: &mut Search,
        configuration: &bedrock_core::KnowledgeBaseRetrievalConfiguration,
    ) -> Result<(), bedrock_core::Error> {
        let refuse = |what: String| Err(bedrock_core::Error::validation(what));
        if configuration.managed_search_configuration.is_some() {
            return refuse("managedSearchConfiguration: this knowledge base is one of vectors".to_owned());
        }
        let Some(vector) = &configuration.vector_search_configuration else { return Ok(()) };
        search.results = vector.number_of_results.map(|number| number as usize).or(search.results);
        search.filter.clone_from(&vector.filter);
        search.implicit_filter.clone_from(&vector.implicit_filter_configuration);
        search.mode = match &vector.override_search_type {
            None => search.mode,
            Some(SearchType::Semantic) => Some(SearchMode::Vector),
            Some(SearchType::Hybrid) => Some(SearchMode::Hybrid),
            Some(other) => return refuse(format!("overrideSearchType: {other} is not known")),
        };
        if let Some(reranking) = &vector.reranking_configuration {
            let model = reranking.bedrock_reranking_configuration.as_ref();
            let Some(model) = model else {
                return refuse("rerankingConfiguration.bedrockRerankingConfiguration is missing".to_owned());
            };
            let arn = &model.model_configuration.model_arn;
            let known = self.reranker.as_ref().is_some_and(|(id, _)| id == arn || arn.ends_with(&format!("/{id}")));
            if !known {
                return refuse(format!("rerankingConfiguration: this knowledge base has no reranker {arn}"));
            }
            if model.metadata_configuration.is_some()
                || !model.model_configuration.additional_model_request_fields.is_empty()
            {
                return refuse("rerankingConfiguration: metadata and additional fields are not supported".to_owned());
            }
            search.rerank = true;
            if let Some(number) = model.number_of_reranked_results {
                search.results = Some(number as usize);
            }
        }
        Ok(())
    }
}

impl Retriever for KnowledgeBase {
    fn retrieve<'a>(
        &'a self,
        request: &'a RetrieveRequest,
    ) -> BoxFuture<'a, Result<RetrieveResponse, bedrock_core::Error>> {
        Box::pin(async move {
            let search = self.to_search(request)?;
            let passages = self.search(&search).await?;
            let retrieval_results = passages.into_iter().map(Passage::into_result).collect();
            Ok(RetrieveResponse { retrieval_results, ..RetrieveResponse::default() })
        })
    }
}
