//! Cited answers, with a scripted model in place of a language model.

use std::sync::Arc;

use bedrock_core::retrieve_and_generate::{RetrieveAndGenerateRequest, RetrieveAndGenerateStreamEvent};
use bedrock_core::testing::{Chunking, HashEmbedder, Reply, ScriptedModel, WordGuardrail};
use bedrock_core::{BoxFuture, ChatModel, ConverseRequest, EventStream, KnowledgeBaseGuardrailAction};
use bedrock_rag::{AnswerEvent, AnswerOptions, Answerer, Error, IngestOptions, KnowledgeBase, Search, Source};
use futures::StreamExt;

fn knowledge_base(folder: &std::path::Path) -> Arc<KnowledgeBase> {
    let knowledge_base = KnowledgeBase::create(folder, Arc::new(HashEmbedder::new(256))).unwrap();
    let sources = [
        Source::text("leave.md", "Employees get thirty days of holiday a year. Unused holiday expires in March."),
        Source::text("travel.md", "Trains are booked through the travel desk. Flights need approval by a manager."),
    ];
    knowledge_base.ingest_blocking(sources, &IngestOptions::default()).unwrap();
    Arc::new(knowledge_base)
}

/// A model that counts a prompt's tokens as its words.
struct Counting(ScriptedModel);

impl ChatModel for Counting {
    fn converse_stream<'a>(
        &'a self,
        request: &'a ConverseRequest,
    ) -> BoxFuture<'a, Result<EventStream<'a>, bedrock_core::Error>> {
        self.0.converse_stream(request)
    }

    fn count_tokens<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<u32, bedrock_core::Error>> {
        Box::pin(async move { Ok(request.messages[0].text().split_whitespace().count() as u32) })
    }
}

#[test]
fn sentences_are_matched_to_passages_when_the_model_marks_none() {
    let folder = tempfile::tempdir().unwrap();
    let reply =
        "Employees get thirty days of holiday a year. I like bananas very much. Flights need approval by a manager.";
    let model = Arc::new(ScriptedModel::new([reply]));
    let answerer = Answerer::new(knowledge_base(folder.path()), model.clone());
    let answer = answerer
        .ask_blocking("How many days of holiday do employees get, and who must give approval of flights?")
        .unwrap();
    assert_eq!(answer.text, reply);
    assert!(answer.found);
    let cited: Vec<(&str, &str)> = answer
        .citations
        .iter()
        .map(|part| (part.text.as_str(), answer.passages[part.passages[0]].uri.as_str()))
        .collect();
    assert_eq!(
        cited,
        [
            ("Employees get thirty days of holiday a year.", "leave.md"),
            ("Flights need approval by a manager.", "travel.md")
        ]
    );
    for part in &answer.citations {
        assert_eq!(&answer.text[part.start..part.end], part.text);
    }
    let prompt = model.requests()[0].messages[0].text();
    assert!(prompt.contains("[1] leave.md\nEmployees get"), "{prompt}");
    assert!(
        prompt.ends_with("Question: How many days of holiday do employees get, and who must give approval of flights?")
    );
}

#[test]
fn markers_are_believed_and_taken_out_of_the_stream() {
    let folder = tempfile::tempdir().unwrap();
    for (run, chunking) in [Chunking::Characters(1), Chunking::Whole].into_iter().enumerate() {
        let reply = Reply::text("Übrigens: yes [2]. No source here. As of [1999], both. [1, 2]").chunking(chunking);
        let model = Arc::new(ScriptedModel::new([reply]));
        let options = AnswerOptions { ask_for_markers: true, min_similarity: -1.0, ..AnswerOptions::default() };
        let answerer =
            Answerer::new(knowledge_base(&folder.path().join(run.to_string())), model.clone()).with_options(options);
        let events: Vec<AnswerEvent> =
            futures::executor::block_on(answerer.ask_stream("holiday").map(Result::unwrap).collect());
        assert!(matches!(&events[0], AnswerEvent::Passages(passages) if passages.len() == 2));
        let streamed: String = events
            .iter()
            .filter_map(|event| if let AnswerEvent::Text(text) = event { Some(text.as_str()) } else { None })
            .collect();
        let Some(AnswerEvent::Finished(answer)) = events.last() else { panic!("the last event is the whole") };
        assert_eq!(streamed, "Übrigens: yes. No source here. As of [1999], both.");
        assert_eq!(answer.text, streamed);
        let cited: Vec<(&str, &[usize])> =
            answer.citations.iter().map(|part| (part.text.as_str(), part.passages.as_slice())).collect();
        assert_eq!(cited, [("Übrigens: yes.", [1].as_slice()), ("As of [1999], both.", [0, 1].as_slice())]);
        // The service's spans are characters, the end inclusive.
        let response = answer.to_response("session");
        let part = response.citations[0].generated_response_part.as_ref().unwrap().text_response_part.as_ref().unwrap();
        let span = part.span.as_ref().unwrap();
        assert_eq!((span.start, span.end), (Some(0), Some(13)));
        assert!(model.requests()[0].messages[0].text().contains("like [1]"));
    }
}

#[test]
fn nothing_relevant_means_the_model_is_not_asked() {
    let folder = tempfile::tempdir().unwrap();
    let model = Arc::new(ScriptedModel::new(["never said"]));
    let answerer = Answerer::new(knowledge_base(folder.path()), model.clone());
    let answer = answerer.ask_blocking("zyxwv qqqqq kkkkk").unwrap();
    assert!(!answer.found);
    assert!(answer.text.starts_with("I could not find"));
    assert!(answer.citations.is_empty() && model.requests().is_empty());
}

#[test]
fn the_prompt_fits_the_context() {
    let folder = tempfile::tempdir().unwrap();
    let knowledge_base = knowledge_base(folder.path());
    let ask = |max_context_tokens| {
        let model = Arc::new(Counting(ScriptedModel::answering(|_| Reply::text("Fine."))));
        let options = AnswerOptions { max_context_tokens, min_similarity: -1.0, ..AnswerOptions::default() };
        let answerer = Answerer::new(knowledge_base.clone(), model.clone()).with_options(options);
        let answer = answerer.ask_blocking("How many days of holiday?")?;
        let words = model.0.requests()[0].messages[0].text().split_whitespace().count();
        assert!(words <= max_context_tokens as usize, "{words}");
        Ok::<_, Error>((answer, words as u32))
    };
    let (all, words_of_all) = ask(1000).unwrap();
    assert_eq!(all.passages.len(), 2);
    let (one, words_of_one) = ask(words_of_all - 1).unwrap();
    assert_eq!(one.passages.len(), 1);
    assert_eq!(one.passages[0], all.passages[0]);
    let (cut, _) = ask(words_of_one - 1).unwrap();
    assert_eq!(cut.passages.len(), 1);
    assert_eq!(cut.passages[0].text, "Employees get thirty days of holiday a year.");
    assert_eq!(cut.passages[0].end - cut.passages[0].start, cut.passages[0].text.len());
    assert!(matches!(ask(10), Err(Error::InvalidRequest(_))));
}

/// A guardrail is told what the answer must rest on and what was asked; the model reads the same text.
#[test]
fn source_and_question_are_marked_when_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let knowledge_base = knowledge_base(folder.path());
    let ask = |mark_grounding, prompt_template: Option<&str>| {
        let model = Arc::new(ScriptedModel::answering(|_| Reply::text("Fine.")));
        let prompt_template = prompt_template.map(str::to_owned);
        let options =
            AnswerOptions { mark_grounding, prompt_template, min_similarity: -1.0, ..AnswerOptions::default() };
        let answerer = Answerer::new(knowledge_base.clone(), model.clone()).with_options(options);
        answerer.ask_blocking("How many days of holiday?").unwrap();
        serde_json::to_value(&model.requests()[0]).unwrap()
    };
    for template in [None, Some("Only from this: $search_results$")] {
        let (plain, marked) = (ask(false, template), ask(true, template));
        let texts = |request: &serde_json::Value, of: &str| -> String {
            let blocks = request.pointer(of).and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
            let text = |block: &serde_json::Value| {
                let text = block.get("text").or_else(|| block.pointer("/guardContent/text/text"));
                text.unwrap().as_str().unwrap().to_owned()
            };
            blocks.iter().map(text).collect()
        };
        for part in ["/messages/0/content", "/system"] {
            assert_eq!(texts(&marked, part), texts(&plain, part), "{template:?}");
        }
        assert!(!plain.to_string().contains("guardContent"));
        let guarded: Vec<&serde_json::Value> = ["/system", "/messages/0/content"]
            .iter()
            .flat_map(|part| marked.pointer(part).and_then(serde_json::Value::as_array).into_iter().flatten())
            .filter_map(|block| block.pointer("/guardContent/text"))
            .collect();
        assert_eq!(guarded.len(), 2, "{marked}");
        assert!(guarded[0]["text"].as_str().unwrap().contains("thirty days of holiday"));
        assert_eq!(guarded[0]["qualifiers"], serde_json::json!(["grounding_source"]));
        let question =
            serde_json::json!({"text": "How many days of holiday?", "qualifiers": ["query", "guard_content"]});
        assert_eq!(guarded[1], &question);
    }
}

#[test]
fn failures_of_the_model_are_the_last_item() {
    let folder = tempfile::tempdir().unwrap();
    let reply = Reply::text("Employees get thirty days.")
        .chunking(Chunking::Characters(4))
        .fail_at(3, bedrock_core::Error::throttling("busy"));
    let model = Arc::new(ScriptedModel::new([reply]));
    let answerer = Answerer::new(knowledge_base(folder.path()), model);
    let events: Vec<_> = futures::executor::block_on(answerer.ask_stream("days of holiday").collect());
    assert!(matches!(events.last(), Some(Err(Error::Model { role: "chat", .. }))));
    let error: bedrock_core::Error = events.into_iter().next_back().unwrap().unwrap_err().into();
    assert_eq!(error.exception_name(), "ThrottlingException");
}

#[test]
fn dropping_the_stream_stops_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let model =
        Arc::new(ScriptedModel::new([Reply::text("Employees get thirty days.").chunking(Chunking::Characters(1))]));
    let answerer = Answerer::new(knowledge_base(folder.path()), model.clone());
    let mut stream = answerer.ask_stream("days of holiday");
    futures::executor::block_on(async {
        stream.next().await.unwrap().unwrap();
        stream.next().await.unwrap().unwrap();
    });
    drop(stream);
    assert_eq!(model.cancelled(), 1);
}

#[test]
fn the_service_shape_is_honoured_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let knowledge_base = knowledge_base(folder.path());
    let id = knowledge_base.id().to_owned();
    let model = Arc::new(ScriptedModel::answering(|_| Reply::text("Employees get thirty days of holiday a year.")));
    let answerer = Answerer::new(knowledge_base, model.clone());
    let question = "How many days of holiday do employees get?";
    let mut request = RetrieveAndGenerateRequest::new(&id, "scripted", question);
    let response = futures::executor::block_on(answerer.retrieve_and_generate(&request)).unwrap();
    assert_eq!(response.citations.len(), 1);
    assert_eq!(
        response.citations[0].retrieved_references[0]
            .location
            .as_ref()
            .unwrap()
            .custom_document_location
            .as_ref()
            .unwrap()
            .id
            .as_deref(),
        Some("leave.md")
    );
    let configuration = request.retrieve_and_generate_configuration.as_mut().unwrap();
    let configuration = configuration.knowledge_base_configuration.as_mut().unwrap();
    configuration.generation_configuration = Some(
        serde_json::from_str(
            r#"{"promptTemplate": {"textPromptTemplate": "Facts: $search_results$"},
                "inferenceConfig": {"textInferenceConfig": {"maxTokens": 7, "temperature": 0.5}}}"#,
        )
        .unwrap(),
    );
    let events: Vec<_> =
        futures::executor::block_on(answerer.retrieve_and_generate_stream(&request).map(Result::unwrap).collect());
    let text: String = events
        .iter()
        .filter_map(|event| {
            if let RetrieveAndGenerateStreamEvent::Output(output) = event { Some(output.text.as_str()) } else { None }
        })
        .collect();
    assert_eq!(text, response.output.text);
    assert!(matches!(events.last(), Some(RetrieveAndGenerateStreamEvent::Citation(_))));
    let asked = model.requests().pop().unwrap();
    assert_eq!(asked.model_id, "scripted");
    assert_eq!(asked.messages[0].text(), question);
    assert_eq!(asked.system.len(), 1, "a template without $query$ is the system prompt");
    let inference = asked.inference_config.unwrap();
    assert_eq!((inference.max_tokens, inference.temperature), (Some(7), Some(0.5)));

    let refused = |request: &RetrieveAndGenerateRequest| {
        futures::executor::block_on(answerer.retrieve_and_generate(request)).unwrap_err().exception_name()
    };
    assert_eq!(refused(&request.clone().session("abcdef")), "ValidationException");
    assert_eq!(refused(&RetrieveAndGenerateRequest::new("WRONGWRONG", "m", "x")), "ResourceNotFoundException");
    let options =
        AnswerOptions { search: Search::default(), prompt_template: Some("none".into()), ..AnswerOptions::default() };
    let answerer = answerer.clone().with_options(options);
    assert!(matches!(answerer.ask_blocking(question), Err(Error::InvalidRequest(_))));
}

#[test]
fn a_guardrail_leaves_out_passages_or_masks_them() {
    let folder = tempfile::tempdir().unwrap();
    let knowledge_base = knowledge_base(folder.path());
    let question = "How many days of holiday do employees get, and who must give approval of flights?";
    let ask = |guardrail: WordGuardrail| {
        let model = Arc::new(ScriptedModel::answering(|_| Reply::text("Thirty days of holiday a year.")));
        let answerer = Answerer::new(knowledge_base.clone(), model.clone()).with_passage_guardrail(Arc::new(guardrail));
        let answer = answerer.ask_blocking(question).unwrap();
        let prompt = model.requests().first().map(|request| request.messages[0].text());
        (answer, prompt.unwrap_or_default())
    };
    let (untouched, prompt) = ask(WordGuardrail::blocking("nightingale"));
    assert!(!untouched.screened && prompt.contains("thirty days") && prompt.contains("travel desk"), "{prompt}");
    let action = |answer: &bedrock_rag::Answer| answer.to_response("s").guardrail_action.unwrap();
    assert_eq!(action(&untouched), KnowledgeBaseGuardrailAction::None);

    let (blocked, prompt) = ask(WordGuardrail::blocking("trains"));
    let uris = |answer: &bedrock_rag::Answer| answer.passages.iter().map(|p| p.uri.clone()).collect::<Vec<_>>();
    assert_eq!(uris(&blocked), ["leave.md"], "one passage does not end the answer");
    assert!(blocked.found && blocked.screened && !prompt.contains("travel desk"), "{prompt}");
    assert_eq!(action(&blocked), KnowledgeBaseGuardrailAction::Intervened);

    let (masked, prompt) = ask(WordGuardrail::masking("thirty"));
    assert_eq!(uris(&masked).len(), 2);
    assert!(masked.screened && !prompt.contains("thirty") && prompt.contains("travel desk"), "{prompt}");
    assert!(masked.passages.iter().all(|passage| !passage.text.contains("thirty")), "nor do citations show it");

    // Nothing is left: the model is not asked.
    let answerer = Answerer::new(knowledge_base.clone(), Arc::new(ScriptedModel::new(["never"])))
        .with_passage_guardrail(Arc::new(WordGuardrail::blocking("a")));
    let request = RetrieveAndGenerateRequest::new(knowledge_base.id(), "scripted", question);
    let events: Vec<_> = futures::executor::block_on(answerer.retrieve_and_generate_stream(&request).collect());
    let events: Vec<_> = events.into_iter().map(Result::unwrap).collect();
    assert!(
        matches!(&events[0], RetrieveAndGenerateStreamEvent::Output(output) if output.text.starts_with("I could not"))
    );
    assert!(matches!(&events[1], RetrieveAndGenerateStreamEvent::Guardrail(_)) && events.len() == 2, "{events:?}");
}
