//! An answer that comes in any pieces is shown as it would be whole, or ends with the message in its place. The first bytes are
//! the sizes of the pieces, up to the first of zero.
#![no_main]

use std::sync::LazyLock;

use bedrock_core::testing::{Chunking, Reply, ScriptedModel};
use bedrock_core::{ChatModel, ConverseRequest, StopReason, StreamEvent};
use bedrock_guard::{Guarded, Guardrail};
use futures::TryStreamExt;
use futures::executor::block_on;

static GUARDRAIL: LazyLock<Guardrail> = LazyLock::new(|| {
    Guardrail::from_json(include_str!("../../../examples/data/guardrail.json")).expect("the sample is valid")
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some(end) = bytes.iter().position(|byte| *byte == 0).filter(|end| *end > 0) else { return };
    let Ok(text) = std::str::from_utf8(&bytes[end + 1..]) else { return };
    let sizes = bytes[..end].iter().map(|byte| usize::from(*byte)).collect();
    let replies = [Reply::text(text), Reply::text(text).chunking(Chunking::Sizes(sizes))];
    let model = Guarded::new(ScriptedModel::new(replies), GUARDRAIL.clone());
    let request = ConverseRequest::new("m").user("Hi");
    let whole = model.converse_blocking(&request).expect("the script answers");
    let streamed: Vec<StreamEvent> = block_on(async {
        let stream = model.converse_stream(&request).await.expect("the script answers");
        stream.try_collect().await.expect("the script answers")
    });
    let streamed: String = streamed.iter().filter_map(StreamEvent::as_text).collect();
    match whole.stop_reason {
        StopReason::GuardrailIntervened => assert!(streamed.ends_with(&whole.text()), "{streamed:?}"),
        _ => assert_eq!(streamed, whole.text()),
    }
});
