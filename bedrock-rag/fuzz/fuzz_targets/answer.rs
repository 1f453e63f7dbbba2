//! Whatever a model answers, in pieces of any size: the text streamed is the text of the whole, and what is cited stands in it. The
//! first byte is the size of the pieces.
#![no_main]

use std::sync::{Arc, LazyLock};

use bedrock_core::testing::{Chunking, HashEmbedder, Reply, ScriptedModel};
use bedrock_rag::{AnswerEvent, AnswerOptions, Answerer, IngestOptions, KnowledgeBase, Source};
use futures::StreamExt;

static KNOWLEDGE_BASE: LazyLock<Arc<KnowledgeBase>> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("bedrock-fuzz-answer-{}", std::process::id()));
    let knowledge_base = KnowledgeBase::create(&folder, Arc::new(HashEmbedder::new(64))).expect("it is new");
    let sources = [
        Source::text("leave.md", "Employees get thirty days of holiday a year. Unused holiday expires in March."),
        Source::text("travel.md", "Trains are booked through the travel desk. Flights need approval by a manager."),
    ];
    knowledge_base.ingest_blocking(sources, &IngestOptions::default()).expect("two texts");
    Arc::new(knowledge_base)
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((size, said)) = bytes.split_first() else { return };
    let Ok(said) = std::str::from_utf8(said) else { return };
    let reply = Reply::text(said).chunking(Chunking::Characters(usize::from(*size)));
    let options = AnswerOptions { ask_for_markers: size % 2 == 0, min_similarity: -1.0, ..AnswerOptions::default() };
    let answerer = Answerer::new(KNOWLEDGE_BASE.clone(), Arc::new(ScriptedModel::new([reply]))).with_options(options);
    let events: Vec<AnswerEvent> = futures::executor::block_on(
        answerer.ask_stream("holiday").map(|event| event.expect("the script answers")).collect(),
    );
    let text = |event: &AnswerEvent| if let AnswerEvent::Text(text) = event { Some(text.clone()) } else { None };
    let streamed: String = events.iter().filter_map(text).collect();
    let Some(AnswerEvent::Finished(answer)) = events.last() else { panic!("the last event is the whole") };
    assert_eq!(answer.text, streamed);
    let mut end = 0;
    for part in &answer.citations {
        assert!(part.start >= end && answer.text[part.start..part.end] == part.text, "{part:?} of {:?}", answer.text);
        assert!(!part.passages.is_empty() && part.passages.iter().all(|passage| *passage < answer.passages.len()));
        end = part.end;
    }
});
