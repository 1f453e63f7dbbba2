//! Retrieve and generate: an answer in words, with the passages that it rests on.
//!
//! Any [`ChatModel`] will do, also a very small one. Large models are asked to mark their sources (`[1]`) and usually do;
//! small ones do not, or wrongly. So markers are believed when there are any, and otherwise each sentence of the
//! answer is compared with each passage, and cited if one of them supports it well enough.

mod markers;
mod prompt;
mod screen;
mod support;
pub(crate) mod transform;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bedrock_core::retrieve_and_generate::{
    Citation, CitationEvent, GeneratedResponsePart, GenerationConfiguration, GuardrailEvent, RetrieveAndGenerateOutput,
    RetrieveAndGenerateRequest, RetrieveAndGenerateResponse, RetrieveAndGenerateStreamEvent, RetrieveAndGenerateType,
    RetrievedReference, Span, TextResponsePart,
};
use bedrock_core::{
    ChatModel, ContentBlock, ContentBlockDelta, ConverseRequest, EmbedPurpose, Guardrail, GuardrailContentBlock,
    GuardrailContentQualifier, InferenceConfiguration, KnowledgeBaseGuardrailAction, Message, RetrievalResultContent,
    Role, Session, SessionStore, StopReason, StreamEvent, SystemContentBlock, TokenUsage,
};
use futures::channel::mpsc;
use futures::stream::BoxStream;
use futures::{SinkExt, StreamExt};
use serde_json::Value;

use crate::Error;
use crate::chunk::{ModelTokens, sentences};
use crate::document::{Document, ExtractOptions, LineEnds, extract};
use crate::knowledge_base::KnowledgeBase;
use crate::retrieve::{DEFAULT_RESULTS, Passage, Search};
use markers::MarkerFilter;
use prompt::{HISTORY, INSTRUCTIONS, QUERY, RESULTS, fill, marked};
use support::support;
use transform::Turn;

/// Turns that a session remembers.
const SESSION_TURNS: usize = 20;

/// Sessions begun by this process.
static SESSIONS: AtomicU64 = AtomicU64::new(0);

/// The template unless [`AnswerOptions::prompt_template`] is set.
pub const DEFAULT_PROMPT_TEMPLATE: &str = "\
Answer the question from the numbered passages below. Use only what they say. If they do not hold the answer, say that \
you could not find it.

$search_results$

$output_format_instructions$

Question: $query$";

const PLAIN_INSTRUCTIONS: &str = "Answer in one to three short sentences.";
const MARKER_INSTRUCTIONS: &str = "Answer in one to three short sentences. After each sentence put the number of the \
passage that it comes from in brackets, like [1].";

/// How an [`Answerer`] finds and says things.
#[derive(Clone, Debug)]
pub struct AnswerOptions {
    /// Id by which the chat model is asked for. Default empty.
    pub model_id: String,
    /// How passages are found; the text is the question's. Default: five passages, the knowledge base's search mode.
    pub search: Search,
    /// Whether the model takes the question apart into simple ones first, each of which is searched for; the best of each come first.
    /// Default false.
    pub decompose: bool,
    /// What the model is told for that, with `$query$`. It answers with a question a line.
    pub decompose_template: Option<String>,
    /// What the model is told, with the service's placeholders `$search_results$` (which it must have), `$query$`,
    /// `$conversation_history$` (without which earlier turns of a session are messages of their own) and
    /// `$output_format_instructions$`. A template without `$query$` becomes the system prompt, and the question a
    /// message of its own. Default [`DEFAULT_PROMPT_TEMPLATE`].
    pub prompt_template: Option<String>,
    /// Whether the model is asked to mark its sources. Large models do it well; small ones answer worse for it, and their
    /// sentences are matched to passages either way. Default false.
    pub ask_for_markers: bool,
    /// Whether the prompt says which part of it are the passages and which the question, so that a guardrail around the model holds the
    /// answer against them (`grounding_source` and `query`; see [`GuardrailContentQualifier`]). Of the prompt the guardrail then judges what
    /// was asked, not the passages. Without a guardrail around it, a model that does not know guarded content refuses it. Default false.
    pub mark_grounding: bool,
    /// Length and sampling. Default: at most 256 tokens, temperature 0.
    pub inference: InferenceConfiguration,
    /// Parameters that only some models know.
    pub additional_model_request_fields: Option<Value>,
    /// Most tokens of the prompt, counted by the chat model, or taken to be a third of the bytes if it can't count.
    /// Passages are left out from the last on, and the only one left is cut after a sentence, until it fits. Default 1,536, which
    /// leaves a 2,048-token model room for an answer.
    pub max_context_tokens: u32,
    /// Least cosine similarity of question and best passage; below it the model is not asked and the answer is
    /// [`AnswerOptions::no_answer`]. Passages below it are left out too. Good values depend on the embedding model. Default 0.2.
    pub min_similarity: f32,
    /// Least support (see the module's description: the mean of shared words and cosine, 0 to 1) for a sentence to be cited.
    /// Default 0.5.
    pub min_support: f32,
    /// The answer when nothing relevant is found.
    pub no_answer: String,
}

impl Default for AnswerOptions {
    fn default() -> Self {
        Self {
            model_id: String::new(),
            search: Search::default(),
            decompose: false,
            decompose_template: None,
            prompt_template: None,
            ask_for_markers: false,
            mark_grounding: false,
            inference: InferenceConfiguration {
                max_tokens: Some(256),
                temperature: Some(0.0),
                ..InferenceConfiguration::default()
            },
            additional_model_request_fields: None,
            max_context_tokens: 1536,
            min_similarity: 0.2,
            min_support: 0.5,
            no_answer: "I could not find an answer to that in the documents.".to_owned(),
        }
    }
}

/// Answers questions from a knowledge base with a chat model.
#[derive(Clone)]
pub struct Answerer {
    knowledge_base: Arc<KnowledgeBase>,
    model: Arc<dyn ChatModel>,
    options: AnswerOptions,
    sessions: Option<Arc<dyn SessionStore>>,
    guardrail: Option<Arc<dyn Guardrail>>,
    /// The document of a request that brings its own, in place of the knowledge base's.
    document: Option<(String, Arc<[u8]>)>,
}

impl fmt::Debug for Answerer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answerer").field("options", &self.options).finish_non_exhaustive()
    }
}

/// A part of an answer and the passages that it rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct CitedPart {
    /// First byte of the part in the answer's text.
    pub start: usize,
    /// One past its last byte.
    pub end: usize,
    /// The part, word for word.
    pub text: String,
    /// Positions in the answer's passages, best first; never empty.
    pub passages: Vec<usize>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What the model said, without markers.
    pub text: String,
    /// Its parts that rest on passages, in order; they don't overlap.
    pub citations: Vec<CitedPart>,
    /// The passages that the model was shown, in the order of their numbers.
    pub passages: Vec<Passage>,
    /// Whether [`Answerer::with_passage_guardrail`] left out or masked a passage.
    pub screened: bool,
    /// Whether anything relevant was found. If not, the model was not asked.
    pub found: bool,
    /// Why the model stopped.
    pub stop_reason: StopReason,
    /// Tokens of the chat model.
    pub usage: TokenUsage,
    /// Milliseconds from the question to the first text.
    pub first_text_ms: u64,
    /// Milliseconds from the question to the end.
    pub total_ms: u64,
}

/// What happens while an answer is made.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum AnswerEvent {
    /// The passages that the model is shown. Comes first; empty when nothing relevant was found.
    Passages(Vec<Passage>),
    /// More of the answer.
    Text(String),
    /// What a part of the answer rests on. Comes after all text.
    Citation(CitedPart),
    /// The whole once more. Comes last.
    Finished(Box<Answer>),
}

/// The events of an answer.
pub type AnswerStream<'a> = BoxStream<'a, Result<AnswerEvent, Error>>;

impl Answerer {
    /// An answerer with default options.
    pub fn new(knowledge_base: Arc<KnowledgeBase>, model: Arc<dyn ChatModel>) -> Self {
        let options = AnswerOptions::default();
        Self { knowledge_base, model, options, sessions: None, guardrail: None, document: None }
    }

    /// Replaces the options.
    pub fn with_options(mut self, options: AnswerOptions) -> Self {
        self.options = options;
        self
    }

    /// Keeps conversations there, so that questions may refer to earlier ones.
    pub fn with_sessions(mut self, sessions: Arc<dyn SessionStore>) -> Self {
        self.sessions = Some(sessions);
        self
    }

    /// Judges each passage by itself before the model sees it, as input that somebody else has written: what is blocked is left out, so that one poisoned document
    /// does not end an answer, and the others have masks. A guardrail around the chat model judges the whole prompt, or, with
    /// [`AnswerOptions::mark_grounding`], what the user said: the two go together.
    ///
    /// Text, title and headings are judged; a document's address and attributes are not, though citations show them. A masked text is no longer what stands in the
    /// document from [`Passage::start`] to [`Passage::end`].
    pub fn with_passage_guardrail(mut self, guardrail: Arc<dyn Guardrail>) -> Self {
        self.guardrail = Some(guardrail);
        self
    }

    /// Answers from this document alone, in place of the knowledge base, whose embedding model and chunking are used for it. `name` should
    /// end in the file's suffix. Nothing of it is kept.
    pub fn with_document(mut self, name: impl Into<String>, bytes: impl Into<Arc<[u8]>>) -> Self {
        self.document = Some((name.into(), bytes.into()));
        self
    }

    /// Begins a conversation, and gives the id under which questions continue it.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] without [`Answerer::with_sessions`]; [`Error::Session`].
    pub async fn begin_session(&self) -> Result<String, Error> {
        let sessions = self.sessions()?;
        let id = session_id(&self.knowledge_base);
        sessions.save(&mut Session::new(&id)).await.map_err(|source| Error::Session { source })?;
        Ok(id)
    }

    fn sessions(&self) -> Result<&Arc<dyn SessionStore>, Error> {
        let none = || Error::InvalidRequest("sessionId: this answerer keeps no sessions".to_owned());
        self.sessions.as_ref().ok_or_else(none)
    }

    /// The whole answer to a question that continues a conversation: the model makes it one that stands alone, which is searched for,
    /// and sees the earlier turns when it answers. Question and answer are added to the session.
    ///
    /// # Errors
    /// As [`Answerer::ask`]; [`Error::Session`] for a session that is not there, or that another question has changed meanwhile.
    pub async fn ask_in_session(&self, session_id: &str, question: &str) -> Result<Answer, Error> {
        last(self.stream(question, Some(session_id))).await
    }

    /// The whole answer.
    ///
    /// # Errors
    /// As [`KnowledgeBase::search`]; [`Error::Model`] when the chat model or the guardrail fails; [`Error::InvalidRequest`] for a template
    /// without `$search_results$`, or when not even the question fits into [`AnswerOptions::max_context_tokens`].
    pub async fn ask(&self, question: &str) -> Result<Answer, Error> {
        last(self.stream(question, None)).await
    }

    /// [`Answerer::ask`] for callers without an async runtime.
    ///
    /// # Errors
    /// As [`Answerer::ask`].
    pub fn ask_blocking(&self, question: &str) -> Result<Answer, Error> {
        futures::executor::block_on(self.ask(question))
    }

    /// The answer as it comes. An error is the last item. Dropping the stream stops the model.
    pub fn ask_stream<'a>(&'a self, question: &'a str) -> AnswerStream<'a> {
        self.stream(question, None)
    }

    fn stream<'a>(&'a self, question: &'a str, session: Option<&'a str>) -> AnswerStream<'a> {
        let (sender, receiver) = mpsc::channel(1);
        // The request to the model lives in this future, and so does the model's stream that borrows it. The future is
        // polled as a part of the stream, so that dropping the stream drops all of it.
        let work = async move {
            let mut sender = sender;
            if let Err(error) = self.run(question, session, &mut sender).await {
                // The receiver is a part of the same stream: when it is gone nobody is there to tell.
                let _ = sender.send(Err(error)).await;
            }
        };
        let work = futures::stream::once(work).filter_map(|()| async { None });
        futures::stream::select(receiver, work).boxed()
    }

    async fn run(&self, question: &str, session: Option<&str>, events: &mut Events) -> Result<(), Error> {
        let started = Instant::now();
        let mut spent = TokenUsage::default();
        let mut session = match session {
            Some(id) => Some(self.load(id).await?),
            None => None,
        };
        let mut history = session.as_ref().map(turns).unwrap_or_default();
        let (model, id) = (self.model.as_ref(), &self.options.model_id);
        let standalone = transform::standalone(model, id, &history, question, &mut spent).await?;
        let mut passages = match &self.document {
            Some((name, bytes)) => self.passages_of(name, bytes, &standalone).await?,
            None => self.find(&standalone, &mut spent).await?,
        };
        let relevant =
            |passage: &Passage| passage.similarity.is_none_or(|cosine| cosine >= self.options.min_similarity);
        passages.retain(relevant);
        let mut screened = false;
        if let Some(guardrail) = &self.guardrail {
            (passages, screened) = screen::screened(guardrail.as_ref(), passages).await?;
        }
        if passages.is_empty() {
            let text = self.options.no_answer.clone();
            send(events, AnswerEvent::Passages(Vec::new())).await;
            send(events, AnswerEvent::Text(text.clone())).await;
            let elapsed = started.elapsed().as_millis() as u64;
            let answer = Answer {
                text,
                citations: Vec::new(),
                passages,
                screened,
                found: false,
                stop_reason: StopReason::EndTurn,
                usage: spent,
                first_text_ms: elapsed,
                total_ms: elapsed,
            };
            self.remember(&mut session, question, &answer.text).await?;
            send(events, AnswerEvent::Finished(Box::new(answer))).await;
            return Ok(());
        }
        let request = self.fit(question, &mut passages, &mut history).await?;
        send(events, AnswerEvent::Passages(passages.clone())).await;

        let chat = |source| Error::Model { role: "chat", source };
        let mut filter = MarkerFilter::new(passages.len());
        let mut text = String::new();
        let mut first_text_ms = None;
        let mut stop_reason = StopReason::EndTurn;
        let mut usage = spent;
        {
            let mut stream = self.model.converse_stream(&request).await.map_err(chat)?;
            while let Some(event) = stream.next().await {
                match event.map_err(chat)? {
                    StreamEvent::ContentBlockDelta(event) => {
                        if let ContentBlockDelta::Text(piece) = event.delta {
                            let clean = filter.push(&piece);
                            if !clean.is_empty() {
                                first_text_ms.get_or_insert_with(|| started.elapsed().as_millis() as u64);
                                text.push_str(&clean);
                                send(events, AnswerEvent::Text(clean)).await;
                            }
                        }
                    }
                    StreamEvent::MessageStop(stop) => stop_reason = stop.stop_reason,
                    StreamEvent::Metadata(metadata) => {
                        let own = std::mem::replace(&mut usage, metadata.usage);
                        transform::add(&mut usage, &own);
                    }
                    _ => {}
                }
            }
        }
        let (rest, markers) = filter.finish();
        if !rest.is_empty() {
            text.push_str(&rest);
            send(events, AnswerEvent::Text(rest)).await;
        }
        let spans = sentence_spans(&text);
        let supported = if markers.is_empty() {
            self.attribute(&text, &spans, &passages).await?
        } else {
            let mut supported = vec![Vec::new(); spans.len()];
            for marker in markers {
                // A marker belongs to the sentence it stands in, or to the one it comes after.
                let after = spans.partition_point(|span| span.start < marker.at.max(1));
                if let Some(cited) = after.checked_sub(1).and_then(|index| supported.get_mut(index)) {
                    cited.extend(
                        marker.passages.into_iter().filter(|passage| !cited.contains(passage)).collect::<Vec<_>>(),
                    );
                }
            }
            supported
        };
        let citations = join_parts(&text, &spans, supported);
        for citation in &citations {
            send(events, AnswerEvent::Citation(citation.clone())).await;
        }
        self.remember(&mut session, question, &text).await?;
        let total_ms = started.elapsed().as_millis() as u64;
        let answer = Answer {
            text,
            citations,
            passages,
            screened,
            found: true,
            stop_reason,
            usage,
            first_text_ms: first_text_ms.unwrap_or(total_ms),
            total_ms,
        };
        send(events, AnswerEvent::Finished(Box::new(answer))).await;
        Ok(())
    }

    /// Searches: for the question, or for each of those that it consists of.
    async fn find(&self, question: &str, spent: &mut TokenUsage) -> Result<Vec<Passage>, Error> {
        let (model, id) = (self.model.as_ref(), &self.options.model_id);
        let mut search = self.options.search.clone();
        if let Some(configuration) = search.implicit_filter.take() {
            let implied = transform::implied_filter(model, &configuration, question, spent).await?;
            search.filter = transform::both(search.filter.take(), implied);
        }
        let questions = if self.options.decompose {
            let template = self.options.decompose_template.as_deref();
            transform::decomposed(model, id, template, question, spent).await?
        } else {
            vec![question.to_owned()]
        };
        let mut found: Vec<(usize, Passage)> = Vec::new();
        for text in questions {
            let search = Search { text, ..search.clone() };
            for (rank, passage) in self.knowledge_base.search(&search).await?.into_iter().enumerate() {
                match found.iter_mut().find(|(_, known)| known.chunk_id == passage.chunk_id) {
                    Some(known) if (rank, -passage.score) < (known.0, -known.1.score) => *known = (rank, passage),
                    Some(_) => {}
                    None => found.push((rank, passage)),
                }
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.score.total_cmp(&a.1.score)));
        Ok(found.into_iter().map(|(_, passage)| passage).collect())
    }

    /// The passages of a document that fit a question best, cut and compared as the knowledge base does it.
    async fn passages_of(&self, name: &str, bytes: &[u8], question: &str) -> Result<Vec<Passage>, Error> {
        let document = extract(name, bytes, &ExtractOptions::default())?;
        let knowledge_base = &self.knowledge_base;
        let counter = ModelTokens(knowledge_base.embedder.clone());
        let chunks =
            knowledge_base.chunking().chunk(&document, &counter, Some(knowledge_base.embedder.as_ref())).await?;
        let parents: Vec<usize> = chunks.iter().filter_map(|chunk| chunk.parent).collect();
        let query = knowledge_base.embed(vec![question.to_owned()], EmbedPurpose::Query).await?;
        let mut passages = Vec::new();
        let searched: Vec<_> = chunks.iter().filter(|chunk| !parents.contains(&chunk.index)).collect();
        for some in searched.chunks(knowledge_base.embed_batch) {
            let texts: Vec<String> = some.iter().map(|chunk| chunk.passage(&document).into_owned()).collect();
            let vectors = knowledge_base.embed(texts.clone(), EmbedPurpose::Document).await?;
            for ((chunk, text), vector) in some.iter().zip(texts).zip(vectors) {
                let similarity: f32 = query.iter().flatten().zip(&vector).map(|(a, b)| a * b).sum();
                passages.push(Passage {
                    chunk_id: chunk.index as u64,
                    uri: name.to_owned(),
                    title: document.title.clone(),
                    score: ((1.0 + similarity) / 2.0).clamp(0.0, 1.0),
                    similarity: Some(similarity.clamp(-1.0, 1.0)),
                    text,
                    start: chunk.start,
                    end: chunk.end,
                    tokens: chunk.tokens,
                    headings: document.heading_path(chunk.start).into_iter().map(str::to_owned).collect(),
                    page: document.page(chunk.start),
                    metadata: document.metadata.clone(),
                });
            }
        }
        passages.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.chunk_id.cmp(&b.chunk_id)));
        passages.truncate(self.options.search.results.unwrap_or(DEFAULT_RESULTS));
        Ok(passages)
    }

    async fn load(&self, id: &str) -> Result<Session, Error> {
        let session = self.sessions()?.load(id).await.map_err(|source| Error::Session { source })?;
        session.ok_or_else(|| {
            let source = bedrock_core::Error::resource_not_found(format!("there is no session {id}"));
            Error::Session { source }
        })
    }

    /// Adds a turn to a session, whose oldest are forgotten.
    async fn remember(&self, session: &mut Option<Session>, question: &str, answer: &str) -> Result<(), Error> {
        let Some(session) = session else { return Ok(()) };
        session.messages.extend([Message::user(question), Message::assistant(answer)]);
        let old = session.messages.len().saturating_sub(2 * SESSION_TURNS);
        session.messages.drain(..old);
        self.sessions()?.save(session).await.map_err(|source| Error::Session { source })
    }

    /// Makes the request, with as many of the passages, and of the earlier turns, as fit.
    async fn fit(
        &self,
        question: &str,
        passages: &mut Vec<Passage>,
        history: &mut Vec<Turn>,
    ) -> Result<ConverseRequest, Error> {
        let most = u64::from(self.options.max_context_tokens);
        loop {
            let request = self.request(question, passages, history)?;
            let tokens = self.count(&request).await?;
            if tokens <= most {
                return Ok(request);
            }
            // What was said longest ago matters least.
            if !history.is_empty() {
                history.remove(0);
                continue;
            }
            if passages.len() > 1 {
                // By its share of the prompt, the last passages that certainly don't fit go at once.
                let keep = (passages.len() as u64 * most / tokens).max(1) as usize;
                passages.truncate(keep.min(passages.len() - 1));
                continue;
            }
            let passage = passages.first_mut();
            let cut = passage.as_ref().and_then(|passage| shortened(&passage.text, most as f64 / tokens as f64));
            match (passage, cut) {
                (Some(passage), Some(length)) => {
                    passage.text.truncate(length);
                    passage.end = passage.start + length;
                }
                _ => {
                    return Err(Error::InvalidRequest(format!(
                        "the question and the template alone have {tokens} tokens, the limit is {most}"
                    )));
                }
            }
        }
    }

    async fn count(&self, request: &ConverseRequest) -> Result<u64, Error> {
        match self.model.count_tokens(request).await {
            Ok(tokens) => Ok(u64::from(tokens)),
            // A model that can't count says so with a validation error.
            Err(bedrock_core::Error::Validation { .. }) => {
                let system =
                    request.system.iter().map(|block| serde_json::to_string(block).map_or(0, |json| json.len()));
                let bytes: usize = request.messages.iter().map(text_bytes).chain(system).sum();
                Ok((bytes as u64).div_ceil(3))
            }
            Err(source) => Err(Error::Model { role: "chat", source }),
        }
    }

    fn request(&self, question: &str, passages: &[Passage], history: &[Turn]) -> Result<ConverseRequest, Error> {
        let template = self.options.prompt_template.as_deref().unwrap_or(DEFAULT_PROMPT_TEMPLATE);
        if !template.contains(RESULTS) {
            return Err(Error::InvalidRequest("the prompt template has no $search_results$".to_owned()));
        }
        let mut results = String::new();
        for (number, passage) in (1..).zip(passages) {
            if number > 1 {
                results.push_str("\n\n");
            }
            let title = passage.headings.first().or(passage.title.as_ref()).unwrap_or(&passage.uri);
            results.push_str(&format!("[{number}] {title}\n{}", passage.text));
        }
        let instructions = if self.options.ask_for_markers { MARKER_INSTRUCTIONS } else { PLAIN_INSTRUCTIONS };
        let history_shown = transform::shown(history);
        let values =
            [(RESULTS, results.as_str()), (QUERY, question), (INSTRUCTIONS, instructions), (HISTORY, &history_shown)];
        let mark = self.options.mark_grounding;
        let mut request = ConverseRequest::new(&self.options.model_id);
        if !template.contains(HISTORY) {
            for turn in history {
                request = match mark {
                    true => request.user(guarded(&turn.question, &[GuardrailContentQualifier::GuardContent])),
                    false => request.user(turn.question.as_str()),
                };
                request = request.assistant(turn.answer.as_str());
            }
        }
        let mut request = match (mark, template.contains(QUERY)) {
            (false, true) => request.user(fill(template, &values)),
            (false, false) => request.system(fill(template, &values)).user(question),
            (true, true) => {
                let content = marked(template, &values, ContentBlock::Text, ContentBlock::GuardContent);
                request.message(Message { role: Role::User, content })
            }
            (true, false) => {
                request.system = marked(template, &values, SystemContentBlock::Text, SystemContentBlock::GuardContent);
                let qualifiers = [GuardrailContentQualifier::Query, GuardrailContentQualifier::GuardContent];
                request.user(guarded(question, &qualifiers))
            }
        };
        request.inference_config = Some(self.options.inference.clone());
        request.additional_model_request_fields.clone_from(&self.options.additional_model_request_fields);
        Ok(request)
    }

    /// For each sentence the passages that support it, best first.
    async fn attribute(
        &self,
        text: &str,
        spans: &[std::ops::Range<usize>],
        passages: &[Passage],
    ) -> Result<Vec<Vec<usize>>, Error> {
        if spans.is_empty() {
            return Ok(Vec::new());
        }
        let mut texts: Vec<String> = spans.iter().map(|span| text[span.clone()].to_owned()).collect();
        texts.extend(passages.iter().map(|passage| passage.text.clone()));
        let mut vectors = Vec::with_capacity(texts.len());
        for texts in texts.chunks(self.knowledge_base.embed_batch) {
            vectors.extend(self.knowledge_base.embed(texts.to_vec(), EmbedPurpose::Document).await?);
        }
        let (of_sentences, of_passages) = vectors.split_at(spans.len());
        Ok(spans
            .iter()
            .zip(of_sentences)
            .map(|(span, sentence)| {
                let scores: Vec<f32> = passages
                    .iter()
                    .zip(of_passages)
                    .map(|(passage, vector)| {
                        let cosine: f32 = sentence.iter().zip(vector).map(|(a, b)| a * b).sum();
                        support(&text[span.clone()], &passage.text, Some(cosine))
                    })
                    .collect();
                let best = scores.iter().copied().fold(0.0, f32::max);
                // Passages as good as the best (overlapping chunks are) support it as well.
                let least = self.options.min_support.max(best * 0.97);
                let mut supporting: Vec<usize> = (0..scores.len()).filter(|&index| scores[index] >= least).collect();
                supporting.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
                supporting
            })
            .collect())
    }
}

/// The answer at the end of a stream.
async fn last(mut events: AnswerStream<'_>) -> Result<Answer, Error> {
    while let Some(event) = events.next().await {
        if let AnswerEvent::Finished(answer) = event? {
            return Ok(*answer);
        }
    }
    let source = bedrock_core::Error::internal_server("the answer ended without its last event");
    Err(Error::Model { role: "chat", source })
}

/// The turns of a session, oldest first. What is no pair of a question and an answer is not ours.
fn turns(session: &Session) -> Vec<Turn> {
    let pair = |pair: &[Message]| {
        let (question, answer) = (pair[0].text(), pair[1].text());
        let roles = pair[0].role == Role::User && pair[1].role == Role::Assistant;
        (roles && !question.is_empty() && !answer.is_empty()).then_some(Turn { question, answer })
    };
    session.messages.chunks_exact(2).filter_map(pair).collect()
}

type Events = mpsc::Sender<Result<AnswerEvent, Error>>;

async fn send(events: &mut Events, event: AnswerEvent) {
    // Fails only when the stream is being dropped, and then this future is too.
    let _ = events.send(Ok(event)).await;
}

/// Sentences of an answer, as byte ranges. Line ends count: answers are often lists.
fn sentence_spans(text: &str) -> Vec<std::ops::Range<usize>> {
    sentences(&Document { line_ends: LineEnds::Hard, ..Document::from_text(text) })
}

/// Sentences with their passages as cited parts; neighbours with the same passages are one part.
fn join_parts(text: &str, spans: &[std::ops::Range<usize>], supported: Vec<Vec<usize>>) -> Vec<CitedPart> {
    let mut parts: Vec<CitedPart> = Vec::new();
    let mut previous_cited = false;
    for (span, passages) in spans.iter().zip(supported) {
        let cited = !passages.is_empty();
        match parts.last_mut() {
            Some(last) if previous_cited && last.passages == passages => {
                last.end = span.end;
                last.text = text[last.start..last.end].to_owned();
            }
            _ if cited => parts.push(CitedPart {
                start: span.start,
                end: span.end,
                text: text[span.clone()].to_owned(),
                passages,
            }),
            _ => {}
        }
        previous_cited = cited;
    }
    parts
}

/// Where to cut a text to about a share of its length: after a sentence if one ends early enough, else after a word.
/// `None` when there is nothing left to cut.
fn shortened(text: &str, share: f64) -> Option<usize> {
    // A little less than the share, since the rest of the prompt does not shrink with it.
    let wanted = text.floor_char_boundary((text.len() as f64 * share.min(1.0) * 0.9) as usize);
    let document = Document::from_text(text);
    let sentence = sentences(&document).into_iter().map(|span| span.end).take_while(|&end| end <= wanted).last();
    let end = sentence.or_else(|| text[..wanted].rfind(char::is_whitespace)).unwrap_or(wanted);
    let end = text[..end].trim_end().len();
    (end > 0 && end < text.len()).then_some(end)
}

/// What a user said, for a guardrail to judge.
fn guarded(text: &str, qualifiers: &[GuardrailContentQualifier]) -> ContentBlock {
    ContentBlock::GuardContent(GuardrailContentBlock::text(text, qualifiers.iter().cloned()))
}

/// Bytes of what a message says, marked or not.
fn text_bytes(message: &Message) -> usize {
    let marked = message.content.iter().map(|block| match block {
        ContentBlock::GuardContent(GuardrailContentBlock::Text(block)) => block.text.len(),
        _ => 0,
    });
    message.text().len() + marked.sum::<usize>()
}

impl Answer {
    /// Whether a guardrail stopped the answer, or changed what it rests on.
    fn guardrail_intervened(&self) -> bool {
        self.screened || self.stop_reason == StopReason::GuardrailIntervened
    }

    /// The answer in the service's shape, under a session id.
    pub fn to_response(&self, session_id: impl Into<String>) -> RetrieveAndGenerateResponse {
        RetrieveAndGenerateResponse {
            output: RetrieveAndGenerateOutput { text: self.text.clone() },
            citations: self.citations.iter().map(|part| part.to_citation(&self.text, &self.passages)).collect(),
            guardrail_action: Some(if self.guardrail_intervened() {
                KnowledgeBaseGuardrailAction::Intervened
            } else {
                KnowledgeBaseGuardrailAction::None
            }),
            session_id: session_id.into(),
        }
    }
}

impl CitedPart {
    /// The part in the service's shape: a span of characters (Unicode code points), its end inclusive.
    fn to_citation(&self, text: &str, passages: &[Passage]) -> Citation {
        let start = text[..self.start].chars().count();
        let length = self.text.chars().count();
        let number = |number: usize| u32::try_from(number).ok();
        Citation {
            generated_response_part: Some(GeneratedResponsePart {
                text_response_part: Some(TextResponsePart {
                    span: Some(Span { start: number(start), end: number((start + length).saturating_sub(1)) }),
                    text: Some(self.text.clone()),
                }),
            }),
            retrieved_references: self
                .passages
                .iter()
                .filter_map(|&index| passages.get(index))
                .map(|passage| RetrievedReference {
                    content: Some(RetrievalResultContent::text(&passage.text)),
                    location: Some(passage.location()),
                    metadata: passage.all_metadata(),
                })
                .collect(),
        }
    }
}

/// The events of [`Answerer::retrieve_and_generate_stream`].
pub type RetrieveAndGenerateStream<'a> = BoxStream<'a, Result<RetrieveAndGenerateStreamEvent, bedrock_core::Error>>;

impl Answerer {
    /// Answers a request of the service. What it leaves open comes from the options.
    ///
    /// # Errors
    /// `ValidationException` for what this version can't honour: a session's key, sessions without [`Answerer::with_sessions`], documents in
    /// an object store, and a guardrail by id (wrap the chat model in one instead, see [`AnswerOptions::mark_grounding`]);
    /// `ResourceNotFoundException` for another knowledge base's id and for a session that is not there; `ConflictException` for a session
    /// that another request has continued meanwhile; and what search and model fail with.
    pub async fn retrieve_and_generate(
        &self,
        request: &RetrieveAndGenerateRequest,
    ) -> Result<RetrieveAndGenerateResponse, bedrock_core::Error> {
        let configured = self.configured(request)?;
        // The service gives every answer a session. Without a store nothing is kept under the id; it is only of the right form.
        let session = match (&request.session_id, &self.sessions) {
            (Some(id), _) => id.clone(),
            (None, Some(_)) => self.begin_session().await?,
            (None, None) => session_id(&self.knowledge_base),
        };
        let kept = self.sessions.as_ref().map(|_| session.as_str());
        let answer = last(configured.stream(&request.input.text, kept)).await?;
        Ok(answer.to_response(session))
    }

    /// Answers a request of the service as a stream: text first, then citations. An error is the last item. A conversation is continued if
    /// the request names one ([`Answerer::begin_session`]).
    pub fn retrieve_and_generate_stream<'a>(
        &'a self,
        request: &'a RetrieveAndGenerateRequest,
    ) -> RetrieveAndGenerateStream<'a> {
        let configured = match self.configured(request) {
            Ok(configured) => configured,
            Err(error) => return futures::stream::once(async { Err(error) }).boxed(),
        };
        let (mut sender, receiver) = mpsc::channel(1);
        let work = async move {
            let mut events = configured.stream(&request.input.text, request.session_id.as_deref());
            let mut passages = Vec::new();
            let mut text = String::new();
            while let Some(event) = events.next().await {
                let event = match event {
                    Err(error) => Err(error.into()),
                    Ok(AnswerEvent::Passages(found)) => {
                        passages = found;
                        continue;
                    }
                    Ok(AnswerEvent::Text(piece)) => {
                        text.push_str(&piece);
                        Ok(RetrieveAndGenerateStreamEvent::Output(RetrieveAndGenerateOutput { text: piece }))
                    }
                    Ok(AnswerEvent::Citation(part)) => {
                        let citation = part.to_citation(&text, &passages);
                        Ok(RetrieveAndGenerateStreamEvent::Citation(CitationEvent {
                            generated_response_part: citation.generated_response_part.clone(),
                            retrieved_references: citation.retrieved_references.clone(),
                            citation: Some(citation),
                        }))
                    }
                    Ok(AnswerEvent::Finished(answer)) if answer.guardrail_intervened() => {
                        let action = Some(KnowledgeBaseGuardrailAction::Intervened);
                        Ok(RetrieveAndGenerateStreamEvent::Guardrail(GuardrailEvent { action }))
                    }
                    Ok(AnswerEvent::Finished(_)) => continue,
                };
                if sender.send(event).await.is_err() {
                    break;
                }
            }
        };
        let work = futures::stream::once(work).filter_map(|()| async { None });
        futures::stream::select(receiver, work).boxed()
    }

    /// This answerer with what a request says in place of its options.
    fn configured(&self, request: &RetrieveAndGenerateRequest) -> Result<Self, bedrock_core::Error> {
        request.validate()?;
        let refuse = |what: &str| Err(bedrock_core::Error::validation(what));
        if request.session_configuration.is_some() {
            return refuse(
                "sessionConfiguration: sessions are kept as their store keeps them, under no key of the request's",
            );
        }
        if request.session_id.is_some() && self.sessions.is_none() {
            return refuse("sessionId: this answerer keeps no sessions");
        }
        if request.user_context.is_some() {
            return refuse("userContext: this knowledge base keeps no access lists, so it can't honour one");
        }
        let mut configured = self.clone();
        let options = &mut configured.options;
        let Some(configuration) = &request.retrieve_and_generate_configuration else { return Ok(configured) };
        if configuration.kind == RetrieveAndGenerateType::ExternalSources {
            let Some(external) = &configuration.external_sources_configuration else {
                return refuse("retrieveAndGenerateConfiguration.externalSourcesConfiguration is missing");
            };
            options.model_id.clone_from(&external.model_arn);
            let Some(document) = external.sources.first().and_then(|source| source.byte_content.as_ref()) else {
                return refuse("externalSourcesConfiguration.sources.0: only byteContent is read; nothing is fetched");
            };
            configured.document = Some((document.identifier.clone(), Arc::from(document.data.as_bytes())));
            if let Some(generation) = &external.generation_configuration {
                options.generate(generation)?;
            }
            return Ok(configured);
        }
        if configuration.kind != RetrieveAndGenerateType::KnowledgeBase
            || configuration.external_sources_configuration.is_some()
        {
            return refuse("retrieveAndGenerateConfiguration.type contradicts what is configured");
        }
        let Some(configuration) = &configuration.knowledge_base_configuration else {
            return refuse("retrieveAndGenerateConfiguration.knowledgeBaseConfiguration is missing");
        };
        self.knowledge_base.check_id(&configuration.knowledge_base_id)?;
        if let Some(orchestration) = &configuration.orchestration_configuration {
            if orchestration.inference_config.is_some()
                || orchestration.performance_config.is_some()
                || !orchestration.additional_model_request_fields.is_empty()
            {
                return refuse("orchestrationConfiguration: only the template and the transformation can be set");
            }
            options.decompose = orchestration.query_transformation_configuration.is_some();
            let template = orchestration.prompt_template.as_ref().and_then(|t| t.text_prompt_template.as_ref());
            if template.is_some_and(|template| !template.contains(QUERY)) {
                return refuse("orchestrationConfiguration.promptTemplate.textPromptTemplate has no $query$");
            }
            options.decompose_template = template.cloned();
        }
        options.model_id.clone_from(&configuration.model_arn);
        if let Some(retrieval) = &configuration.retrieval_configuration {
            self.knowledge_base.configure(&mut options.search, retrieval)?;
        }
        if let Some(generation) = &configuration.generation_configuration {
            options.generate(generation)?;
        }
        Ok(configured)
    }
}

impl AnswerOptions {
    /// Takes over what a request says about the generation.
    fn generate(&mut self, generation: &GenerationConfiguration) -> Result<(), bedrock_core::Error> {
        let (refuse, options) = (|what: &str| Err(bedrock_core::Error::validation(what)), self);
        if generation.guardrail_configuration.is_some() {
            return refuse("guardrailConfiguration: wrap the chat model in the guardrail instead");
        }
        if generation.performance_config.is_some() {
            return refuse("performanceConfig: not supported");
        }
        if let Some(template) = generation.prompt_template.as_ref().and_then(|t| t.text_prompt_template.as_ref()) {
            if !template.contains(RESULTS) {
                return refuse("promptTemplate.textPromptTemplate has no $search_results$");
            }
            options.prompt_template = Some(template.clone());
        }
        if let Some(inference) = generation.inference_config.as_ref().and_then(|c| c.text_inference_config.as_ref()) {
            let set = &mut options.inference;
            set.max_tokens = inference.max_tokens.or(set.max_tokens);
            set.temperature = inference.temperature.or(set.temperature);
            set.top_p = inference.top_p.or(set.top_p);
            if !inference.stop_sequences.is_empty() {
                set.stop_sequences.clone_from(&inference.stop_sequences);
            }
        }
        if !generation.additional_model_request_fields.is_empty() {
            let fields = generation.additional_model_request_fields.clone();
            options.additional_model_request_fields = Some(Value::Object(fields.into_iter().collect()));
        }
        Ok(())
    }
}

/// An id that no other session has, of the service's form. It can't be guessed from outside, and is no key.
fn session_id(knowledge_base: &KnowledgeBase) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let count = SESSIONS.fetch_add(1, Ordering::Relaxed);
    // Where the system puts things, and the seeds of its hash maps, differ from run to run.
    let chance = std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), count);
    let hash =
        blake3::hash(format!("{} {now:?} {count} {chance} {}", knowledge_base.id(), std::process::id()).as_bytes());
    let hex = &hash.to_hex()[..32];
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_after_sentences_then_words() {
        let text = "One is short. Two is a longer sentence that goes on.";
        assert_eq!(shortened(text, 0.6), Some("One is short.".len()));
        assert_eq!(shortened("no sentence ends here at all", 0.5), Some("no sentence".len()));
        assert_eq!(shortened("x", 0.5), None);
        assert_eq!(shortened("", 0.5), None);
    }

    #[test]
    fn neighbours_with_the_same_source_are_one_part() {
        let text = "A. B. C. D.";
        let spans = vec![0..2, 3..5, 6..8, 9..11];
        let parts = join_parts(text, &spans, vec![vec![0], vec![0], vec![], vec![0]]);
        let found: Vec<_> = parts.iter().map(|part| part.text.as_str()).collect();
        assert_eq!(found, ["A. B.", "D."]);
    }
}
