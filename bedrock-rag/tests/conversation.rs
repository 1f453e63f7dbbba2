//! Questions that a model works on before the search: follow-ups, several in one, filters that are implied; and documents of a request.

use std::sync::Arc;

use bedrock_core::retrieve_and_generate::{RetrieveAndGenerateRequest, RetrieveAndGenerateResponse};
use bedrock_core::testing::{HashEmbedder, MemorySessionStore, Reply, ScriptedModel};
use bedrock_core::{Error as CoreError, RetrieveRequest, Retriever, SessionStore};
use bedrock_rag::{AnswerOptions, Answerer, Error, IngestOptions, KnowledgeBase, KnowledgeBaseBuilder, Search, Source};
use futures::FutureExt;
use futures::executor::block_on;

fn builder(folder: &std::path::Path) -> KnowledgeBaseBuilder {
    KnowledgeBase::builder(folder, Arc::new(HashEmbedder::new(256)))
}

fn filled(builder: KnowledgeBaseBuilder) -> Arc<KnowledgeBase> {
    let knowledge_base = builder.create().unwrap();
    let sources = [
        Source::text("leave.md", "Parental leave takes sixteen weeks. It is paid in full.").attribute("year", 2024),
        Source::text("leave-old.md", "Parental leave takes eight weeks. It is paid in part.").attribute("year", 2010),
        Source::text("travel.md", "Flights need approval by a manager.").attribute("year", 2024),
        Source::text("lunch.md", "The canteen opens at noon.").attribute("year", 2024),
    ];
    knowledge_base.ingest_blocking(sources, &IngestOptions::default()).unwrap();
    Arc::new(knowledge_base)
}

fn ask(answerer: &Answerer, request: &RetrieveAndGenerateRequest) -> Result<RetrieveAndGenerateResponse, CoreError> {
    block_on(answerer.retrieve_and_generate(request))
}

/// The last message of a request.
fn prompt(model: &ScriptedModel, index: usize) -> String {
    model.requests()[index].messages.last().unwrap().text()
}

#[test]
fn follow_up_questions_are_understood_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let knowledge_base = filled(builder(folder.path()));
    let id = knowledge_base.id().to_owned();
    let model = Arc::new(ScriptedModel::new([
        "Parental leave takes sixteen weeks.",
        "Is parental leave paid in full?",
        "It is paid in full.",
    ]));
    let sessions = Arc::new(MemorySessionStore::default());
    let answerer = Answerer::new(knowledge_base, model.clone()).with_sessions(sessions.clone());
    let first = RetrieveAndGenerateRequest::new(&id, "m", "How many weeks does parental leave take?");
    let response = ask(&answerer, &first).unwrap();
    let session = response.session_id;
    let second = RetrieveAndGenerateRequest::new(&id, "m", "Is it paid?").session(&session);
    let response = ask(&answerer, &second).unwrap();
    assert_eq!(
        (response.session_id.as_str(), response.output.text.as_str()),
        (session.as_str(), "It is paid in full.")
    );
    assert_eq!(response.citations.len(), 1, "the question that stands alone is what was searched for");
    // The model saw the first turn when it made the question, and when it answered.
    assert!(prompt(&model, 1).contains("Assistant: Parental leave takes sixteen weeks."));
    let asked = &model.requests()[2];
    let said: Vec<String> = asked.messages.iter().map(|message| message.text()).collect();
    assert_eq!(said[..2], ["How many weeks does parental leave take?", "Parental leave takes sixteen weeks."]);
    assert!(said[2].contains("leave.md") && said[2].ends_with("Question: Is it paid?"), "{}", said[2]);
    let kept = block_on(sessions.load(&session)).unwrap().unwrap();
    assert_eq!(kept.messages.len(), 4);

    let unknown = RetrieveAndGenerateRequest::new(&id, "m", "What?").session("no-such-session");
    assert_eq!(ask(&answerer, &unknown).unwrap_err().exception_name(), "ResourceNotFoundException");
    assert_ne!(block_on(answerer.begin_session()).unwrap(), block_on(answerer.begin_session()).unwrap());
}

#[test]
fn history_gives_way_to_passages_and_may_have_a_place_in_the_template() {
    let folder = tempfile::tempdir().unwrap();
    let knowledge_base = filled(builder(folder.path()));
    let long = "word ".repeat(3000);
    let model = Arc::new(ScriptedModel::answering(move |request| {
        let asked = request.messages.last().unwrap().text();
        let first =
            asked.contains("Question: How many weeks does parental leave take?") && !asked.contains("conversation");
        Reply::text(if first { long.clone() } else { "How many weeks does parental leave take?".to_owned() })
    }));
    let answerer = Answerer::new(knowledge_base, model.clone()).with_sessions(Arc::new(MemorySessionStore::default()));
    let session = block_on(answerer.begin_session()).unwrap();
    block_on(answerer.ask_in_session(&session, "How many weeks does parental leave take?")).unwrap();
    block_on(answerer.ask_in_session(&session, "And now?")).unwrap();
    let last = model.requests().pop().unwrap();
    assert_eq!(last.messages.len(), 1, "the turn is too long for the prompt");
    assert!(last.messages[0].text().contains("sixteen weeks"));

    let template = "$conversation_history$| $search_results$ | $query$".to_owned();
    let options =
        AnswerOptions { prompt_template: Some(template), max_context_tokens: 50_000, ..AnswerOptions::default() };
    let answerer = answerer.with_options(options);
    block_on(answerer.ask_in_session(&session, "And then?")).unwrap();
    let last = model.requests().pop().unwrap();
    assert!(last.messages.len() == 1 && last.messages[0].text().starts_with("User: How many weeks"));
    assert!(last.messages[0].text().ends_with("| And then?"));
    let without = Answerer::new(filled(builder(&folder.path().join("b"))), model);
    assert!(matches!(block_on(without.ask_in_session("ab", "x")), Err(Error::InvalidRequest(_))));
}

#[test]
fn a_session_that_was_changed_meanwhile_is_a_conflict() {
    let folder = tempfile::tempdir().unwrap();
    let sessions = Arc::new(MemorySessionStore::default());
    let (other, name) = (sessions.clone(), Arc::new(std::sync::Mutex::new(String::new())));
    let named = name.clone();
    // While the model answers, somebody else saves.
    let model = ScriptedModel::answering(move |_| {
        let id = named.lock().unwrap().clone();
        let mut session = other.load(&id).now_or_never().unwrap().unwrap().unwrap();
        other.save(&mut session).now_or_never().unwrap().unwrap();
        Reply::text("Sixteen weeks.")
    });
    let answerer = Answerer::new(filled(builder(folder.path())), Arc::new(model)).with_sessions(sessions);
    *name.lock().unwrap() = block_on(answerer.begin_session()).unwrap();
    let session = name.lock().unwrap().clone();
    let result = block_on(answerer.ask_in_session(&session, "How many weeks does parental leave take?"));
    assert!(matches!(result, Err(Error::Session { source: CoreError::Conflict { .. } })), "{result:?}");
}

#[test]
fn questions_are_taken_apart_when_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let knowledge_base = filled(builder(folder.path()));
    let id = knowledge_base.id().to_owned();
    let model = Arc::new(ScriptedModel::new([
        "1. Who must give approval of flights?\n2. When does the canteen open?",
        "Flights need approval by a manager. The canteen opens at noon.",
    ]));
    let answerer = Answerer::new(knowledge_base, model.clone());
    let mut request = RetrieveAndGenerateRequest::new(&id, "m", "Who approves my trip and when can I eat?");
    let configuration = request.retrieve_and_generate_configuration.as_mut().unwrap();
    let configuration = configuration.knowledge_base_configuration.as_mut().unwrap();
    configuration.orchestration_configuration = Some(
        serde_json::from_str(
            r#"{"queryTransformationConfiguration": {"type": "QUERY_DECOMPOSITION"}, "promptTemplate": {"textPromptTemplate": "Split: $query$"}}"#,
        )
        .unwrap(),
    );
    configuration.retrieval_configuration =
        Some(serde_json::from_str(r#"{"vectorSearchConfiguration": {"numberOfResults": 1}}"#).unwrap());
    let response = ask(&answerer, &request).unwrap();
    assert_eq!(prompt(&model, 0), "Split: Who approves my trip and when can I eat?");
    let answered = prompt(&model, 1);
    assert!(
        answered.contains("travel.md") && answered.contains("lunch.md") && !answered.contains("leave"),
        "{answered}"
    );
    assert_eq!(response.citations.len(), 2);
}

const IMPLICIT: &str = r#"{"vectorSearchConfiguration": {"implicitFilterConfiguration": {"modelArn": "m",
    "metadataAttributes": [{"key": "year", "type": "NUMBER", "description": "When it was written"}]}}}"#;

#[test]
fn filters_are_derived_from_questions() {
    let folder = tempfile::tempdir().unwrap();
    let old = r#"{"lessThan": {"key": "year", "value": 2020}}"#;
    let query_model = Arc::new(ScriptedModel::new([old, "I do not know."]));
    let knowledge_base = filled(builder(&folder.path().join("a")).query_model(query_model.clone()));
    let mut request = RetrieveRequest::new(knowledge_base.id(), "How long was parental leave before 2020?");
    request.retrieval_configuration = Some(serde_json::from_str(IMPLICIT).unwrap());
    let found = |results: usize| {
        let response = block_on(knowledge_base.retrieve(&request)).unwrap();
        assert_eq!(response.retrieval_results.len(), results);
        response.retrieval_results[0].document_id.clone().unwrap()
    };
    assert_eq!(found(1), "leave-old.md");
    assert!(query_model.requests()[0].messages[0].text().contains("- year (NUMBER): When it was written"));
    found(4);

    // The answerer's own model does it there.
    let knowledge_base = filled(builder(&folder.path().join("b")));
    let refused = block_on(knowledge_base.retrieve(&request));
    assert_eq!(refused.unwrap_err().exception_name(), "ResourceNotFoundException");
    request.knowledge_base_id.clear();
    assert_eq!(block_on(knowledge_base.retrieve(&request)).unwrap_err().exception_name(), "ValidationException");
    let model = Arc::new(ScriptedModel::new([old, "Parental leave takes eight weeks."]));
    let id = knowledge_base.id().to_owned();
    let answerer = Answerer::new(knowledge_base, model.clone());
    let mut request = RetrieveAndGenerateRequest::new(&id, "m", "How long was parental leave before 2020?");
    let configuration = request.retrieve_and_generate_configuration.as_mut().unwrap();
    configuration.knowledge_base_configuration.as_mut().unwrap().retrieval_configuration =
        Some(serde_json::from_str(IMPLICIT).unwrap());
    ask(&answerer, &request).unwrap();
    assert!(prompt(&model, 1).contains("eight weeks") && !prompt(&model, 1).contains("sixteen weeks"));
}

#[test]
fn answers_may_come_from_a_document_of_the_request() {
    let folder = tempfile::tempdir().unwrap();
    let model = Arc::new(ScriptedModel::answering(|_| Reply::text("The blue key opens the archive.")));
    let knowledge_base = filled(builder(folder.path()));
    let answerer = Answerer::new(knowledge_base.clone(), model.clone());
    let request = |source: &str| -> RetrieveAndGenerateRequest {
        serde_json::from_str(&format!(
            r#"{{"input": {{"text": "Which key opens the archive?"}}, "retrieveAndGenerateConfiguration": {{"type": "EXTERNAL_SOURCES",
                "externalSourcesConfiguration": {{"modelArn": "m", "sources": [{source}]}}}}}}"#
        ))
        .unwrap()
    };
    // "The blue key opens the archive."
    let bytes = r#"{"sourceType": "BYTE_CONTENT", "byteContent": {"identifier": "keys.txt", "contentType": "text/plain",
        "data": "VGhlIGJsdWUga2V5IG9wZW5zIHRoZSBhcmNoaXZlLg=="}}"#;
    let response = ask(&answerer, &request(bytes)).unwrap();
    let reference = &response.citations[0].retrieved_references[0];
    assert_eq!(reference.location.as_ref().unwrap().address(), Some("keys.txt"));
    assert!(prompt(&model, 0).contains("[1] keys.txt\nThe blue key opens the archive."));
    assert_eq!(knowledge_base.document_count(), 4, "nothing of it is kept");
    let remote = r#"{"sourceType": "S3", "s3Location": {"uri": "s3://bucket/keys.txt"}}"#;
    assert_eq!(ask(&answerer, &request(remote)).unwrap_err().exception_name(), "ValidationException");
    let broken = Answerer::new(knowledge_base, model).with_document("x.txt", vec![0u8, 1, 2, 3, 4, 5, 6, 7]);
    assert!(matches!(broken.ask_blocking("What?"), Err(Error::NotText { .. } | Error::UnsupportedFormat { .. })));
}

#[test]
fn thresholds_hold() {
    let folder = tempfile::tempdir().unwrap();
    let knowledge_base = filled(builder(folder.path()));
    let all = knowledge_base.search_blocking(&Search::new("parental leave takes sixteen weeks")).unwrap();
    let some = Search::new("parental leave takes sixteen weeks").min_score(all[1].score);
    assert_eq!(knowledge_base.search_blocking(&some).unwrap().len(), 2);
}
