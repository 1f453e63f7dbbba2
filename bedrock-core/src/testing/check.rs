//! The laws of the traits, checked from outside.

mod image;
mod seal;
mod session;
mod store;
mod tool;

pub use image::check_image_model;
#[cfg(feature = "seal")]
pub use seal::check_key_provider;
pub use seal::check_sealer;
pub use session::check_session_store;
pub use store::check_vector_store;
pub use tool::check_tool;

use std::collections::BTreeSet;

use futures::StreamExt;

use crate::classify::{ClassifyRequest, TextClassifier};
use crate::embed::{EmbedRequest, EmbeddingModel};
use crate::error::Error;
use crate::guardrail::{ApplyGuardrailRequest, GuardrailContentSource};
use crate::inference::{ConverseRequest, ConverseResponse};
use crate::message::Role;
use crate::model::{ChatModel, Guardrail, Retriever};
use crate::rerank::{RerankRequest, Reranker};
use crate::retrieve::RetrieveRequest;
use crate::stream::{Collector, StreamEvent};

fn is_validation<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Validation { .. }))
}

/// What two answers to one request must share: all but the time they took and what was in a cache by then.
fn timeless(mut response: ConverseResponse) -> ConverseResponse {
    response.metrics.latency_ms = 0;
    // How much of a prompt is in a cache depends on what was asked before.
    let usage = &mut response.usage;
    let cached = [usage.cache_read_input_tokens.take(), usage.cache_write_input_tokens.take()];
    usage.input_tokens += cached.into_iter().flatten().sum::<u32>();
    usage.cache_details.clear();
    response
}

async fn stream(model: &dyn ChatModel, request: &ConverseRequest) -> ConverseResponse {
    let mut stream = model.converse_stream(request).await.expect("a stream begins");
    let mut collector = Collector::new();
    let (mut next, mut open) = (0, None);
    while let Some(event) = stream.next().await {
        let event = event.expect("a stream that began goes on");
        match &event {
            StreamEvent::MessageStart(start) => assert_eq!(start.role, Role::Assistant, "the model speaks"),
            StreamEvent::ContentBlockStart(event) => {
                assert_eq!(event.content_block_index, next, "blocks are numbered from 0 without gaps");
                (open, next) = (Some(next), next + 1);
            }
            StreamEvent::ContentBlockDelta(event) if open.is_none() => {
                assert_eq!(event.content_block_index, next, "blocks are numbered from 0 without gaps");
                (open, next) = (Some(next), next + 1);
            }
            StreamEvent::ContentBlockStop(_) => open = None,
            _ => {}
        }
        collector.push(event).expect("the events keep to the protocol");
    }
    assert!(stream.next().await.is_none(), "a stream that ended stays ended");
    collector.finish().expect("the stream is complete")
}

/// Checks a chat model with a request whose answer is the same each time (temperature 0, or a seed).
///
/// Laws: streamed = whole; the events keep to the protocol and are numbered without gaps; the same request has the same
/// answer, also while another stream is open and after streams were dropped early; usage adds up and keeps to
/// `maxTokens`; tokens are counted as they are charged, or the model says that it can't count; what breaks the limits of
/// the service is a validation error before any event.
///
/// # Panics
/// If a law is broken.
pub async fn check_chat_model(model: &dyn ChatModel, request: &ConverseRequest) {
    let whole = timeless(model.converse(request).await.expect("the request is answered"));
    assert_eq!(timeless(stream(model, request).await), whole, "streamed = whole");
    assert!(whole.stop_reason.is_known(), "the stop reason {:?} is the service's", whole.stop_reason);
    assert_eq!(whole.message().role, Role::Assistant, "the model speaks");

    let usage = &whole.usage;
    let cached = usage.cache_read_input_tokens.unwrap_or(0) + usage.cache_write_input_tokens.unwrap_or(0);
    let prompt = usage.input_tokens + cached;
    assert_eq!(usage.total_tokens, prompt + usage.output_tokens, "usage adds up");
    assert!(prompt > 0, "a prompt has tokens");
    if let Some(most) = request.inference_config.as_ref().and_then(|config| config.max_tokens) {
        assert!(usage.output_tokens <= most, "{} tokens, maxTokens is {most}", usage.output_tokens);
    }
    match model.count_tokens(request).await {
        Ok(count) => assert_eq!(count, prompt, "tokens are counted as they are charged"),
        error => assert!(is_validation(&error), "a model that can't count says so: {error:?}"),
    }

    // Dropped before the first poll, after the first event, and while another one runs.
    drop(model.converse_stream(request));
    drop(model.converse_stream(request).await.expect("a stream begins"));
    let mut first = model.converse_stream(request).await.expect("a stream begins");
    first.next().await.expect("a first event").expect("a stream begins with an event");
    assert_eq!(timeless(stream(model, request).await), whole, "a second stream beside the first");
    drop(first);
    let (a, b) = futures::join!(model.converse(request), model.converse(request));
    for response in [a, b] {
        assert_eq!(timeless(response.expect("the request is answered")), whole, "two requests at once");
    }

    for (what, broken) in [
        ("a temperature of 2", request.clone().temperature(2.0)),
        ("maxTokens of 0", request.clone().max_tokens(0)),
        ("a blank turn", ConverseRequest { messages: Vec::new(), ..request.clone() }.user(" ")),
        ("no turn of the user first", ConverseRequest { messages: Vec::new(), ..request.clone() }.assistant("hi")),
    ] {
        let result = model.converse_stream(&broken).await;
        assert!(is_validation(&result), "{what} is a validation error before any event");
    }
    assert_eq!(timeless(model.converse(request).await.expect("the request is answered")), whole, "nothing lingers");
}

/// Checks an embedding model.
///
/// Laws: one finite vector an input, in the order of the inputs and of the length that `info` says; batched = single;
/// length 1 where asked for; no inputs give no vectors, an empty text gives one; too long inputs are cut and reported or
/// refused; shorter vectors are offered or refused, longer ones refused.
///
/// # Panics
/// If a law is broken.
pub async fn check_embedding_model(model: &dyn EmbeddingModel) {
    let info = model.info();
    assert!(info.dimensions > 0 && info.max_input_tokens > 0 && !info.identity.is_empty(), "{info:?}");
    assert_eq!(info, model.info(), "info does not change");

    let texts =
        ["A cat sleeps on the mat.", "", "Steuererklärung für 2026", "🦀 猫が好き", "a", "A cat sleeps on the mat."];
    let request = EmbedRequest { normalize: Some(true), ..EmbedRequest::documents(texts) };
    let batch = model.embed(&request).await.expect("texts are embedded");
    assert_eq!(batch.embeddings.len(), texts.len(), "one vector an input");
    assert!(batch.truncated.is_empty(), "short texts are not cut: {:?}", batch.truncated);
    assert!(batch.input_tokens > 0, "texts have tokens");
    let mut tokens = 0;
    for (index, (text, vector)) in texts.iter().zip(&batch.embeddings).enumerate() {
        assert_eq!(vector.len(), info.dimensions, "text {index} has the length that info says");
        let norm = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        assert!((norm - 1.0).abs() < 1e-3, "text {index} has length {norm}, not 1");
        let single = EmbedRequest { inputs: vec![(*text).into()], ..request.clone() };
        let single = model.embed(&single).await.expect("a text is embedded");
        tokens += single.input_tokens;
        let worst = vector.iter().zip(&single.embeddings[0]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-3, "text {index}: batched differs from single by {worst}");
    }
    assert_eq!(tokens, batch.input_tokens, "batched counts tokens as single does");
    assert_eq!(batch.embeddings[0], batch.embeddings[5], "equal texts have equal vectors");

    let none = model.embed(&EmbedRequest::documents([""; 0])).await.expect("no inputs are no error");
    assert!(none.embeddings.is_empty() && none.input_tokens == 0, "no inputs give no vectors");

    let counted = model.count_tokens(texts[0]).expect("tokens are counted");
    assert!(counted > 0, "a text has tokens");
    assert_eq!(model.count_tokens("").expect("tokens are counted"), 0, "special tokens are not counted");

    if info.max_input_tokens <= 32_768 {
        let long = "word ".repeat(info.max_input_tokens + 1);
        let request = EmbedRequest::documents(["short", &long]);
        let cut = model.embed(&request).await.expect("a long text is cut");
        assert_eq!(cut.truncated, [1], "what is cut is reported");
        let refused = model.embed(&EmbedRequest { truncate: false, ..request }).await;
        assert!(is_validation(&refused), "a text that is too long and may not be cut is refused");
    }

    for (dimensions, must_fail) in [(0, true), (info.dimensions + 1, true), (info.dimensions.div_ceil(2), false)] {
        let request =
            EmbedRequest { dimensions: Some(dimensions), normalize: Some(true), ..EmbedRequest::query(texts[0]) };
        match model.embed(&request).await {
            Ok(response) => {
                assert!(!must_fail, "{dimensions} dimensions are refused");
                assert_eq!(response.embeddings[0].len(), dimensions, "the length asked for");
                let norm = response.embeddings[0].iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
                assert!((norm - 1.0).abs() < 1e-3, "a cut vector has length {norm}, not 1");
            }
            error => assert!(is_validation(&error), "{dimensions} dimensions: {error:?}"),
        }
    }
}

/// Checks a reranker.
///
/// Laws: best first, ties in the order of the request; each document once; `top_n` keeps the best; no documents give no
/// results; equal documents have equal scores; batched = single.
///
/// # Panics
/// If a law is broken.
pub async fn check_reranker(model: &dyn Reranker) {
    let documents = ["The cat sleeps.", "Paris is the capital of France.", "", "The cat sleeps.", "Bread needs yeast."];
    let request = RerankRequest::new("What is the capital of France?", documents);
    let all = model.rerank(&request).await.expect("documents are ranked");
    let indices: BTreeSet<_> = all.results.iter().map(|result| result.index).collect();
    assert_eq!(indices.len(), documents.len(), "each document once: {:?}", all.results);
    assert!(indices.iter().all(|&index| index < documents.len()), "documents of the request: {:?}", all.results);
    for pair in all.results.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        let sorted =
            a.relevance_score > b.relevance_score || (a.relevance_score == b.relevance_score && a.index < b.index);
        assert!(sorted, "best first, ties by index: {a:?} before {b:?}");
    }
    let score = |index| all.results.iter().find(|result| result.index == index).map(|result| result.relevance_score);
    assert_eq!(score(0), score(3), "equal documents have equal scores");
    assert_eq!(all.results[0].index, 1, "the document that answers the query is best: {:?}", all.results);

    let two = model.rerank(&RerankRequest { top_n: Some(2), ..request.clone() }).await.expect("documents are ranked");
    assert_eq!(two.results, all.results[..2], "top_n keeps the best");
    let many = model.rerank(&RerankRequest { top_n: Some(99), ..request.clone() }).await.expect("documents are ranked");
    assert_eq!(many.results, all.results, "top_n above the number of documents keeps all");
    for (index, document) in documents.iter().enumerate() {
        let single = RerankRequest::new(request.query.clone(), [*document]);
        let single = model.rerank(&single).await.expect("a document is ranked").results[0].relevance_score;
        let batched = score(index).expect("each document once");
        let tolerance = 1e-3 * single.abs().max(1.0);
        assert!((single - batched).abs() < tolerance, "document {index}: {single} alone, {batched} batched");
    }
    let none = model.rerank(&RerankRequest::new("query", [""; 0])).await.expect("no documents are no error");
    assert!(none.results.is_empty(), "no documents give no results");
}

/// Checks a classifier of single texts (or of pairs: give it pairs).
///
/// Laws: one list an input, in the order of the inputs; the same labels in the same order for each; scores in 0–1;
/// batched = single; no inputs give no results.
///
/// # Panics
/// If a law is broken.
pub async fn check_classifier(model: &dyn TextClassifier, request: &ClassifyRequest) {
    let batch = model.classify(request).await.expect("texts are classified");
    assert_eq!(batch.results.len(), request.inputs.len(), "one list an input");
    let labels = |scores: &[crate::LabelScore]| scores.iter().map(|score| score.label.clone()).collect::<Vec<_>>();
    for (input, scores) in request.inputs.iter().zip(&batch.results) {
        assert!(!scores.is_empty(), "a model has labels");
        assert_eq!(labels(scores), labels(&batch.results[0]), "the same labels in the same order");
        let single = model.classify(&ClassifyRequest { inputs: vec![input.clone()] }).await;
        let single = single.expect("a text is classified");
        for (a, b) in scores.iter().zip(&single.results[0]) {
            assert!((0.0..=1.0).contains(&a.score), "{a:?} is in 0–1");
            assert!((a.score - b.score).abs() < 1e-3, "{input:?}: {a:?} batched, {b:?} alone");
        }
    }
    let none = model.classify(&ClassifyRequest::default()).await.expect("no inputs are no error");
    assert!(none.results.is_empty(), "no inputs give no results");
}

/// Checks a guardrail with a text that passes and one that does not, on the side of `source`.
///
/// Laws: the action, the outputs and the assessments agree; the same text has the same verdict; what passes has no
/// outputs; what is masked has one output for each content, in order; what is blocked or masked is not in the outputs
/// word for word; one bad content among good ones is found; no content passes.
///
/// # Panics
/// If a law is broken.
pub async fn check_guardrail(guardrail: &dyn Guardrail, source: GuardrailContentSource, passes: &str, stops: &str) {
    let request = |texts: &[&str]| ApplyGuardrailRequest::new(source.clone(), texts.iter().copied());
    let fine = guardrail.apply(&request(&[passes])).await.expect("content is judged");
    assert!(!fine.intervened(), "{passes:?} passes: {fine:?}");
    assert!(fine.outputs.is_empty(), "what passes has no outputs: {:?}", fine.outputs);
    assert!(!fine.assessments.iter().any(|found| found.intervenes()), "no finding acts: {:?}", fine.assessments);

    for texts in [&[stops][..], &[passes, stops], &[stops, passes]] {
        let verdict = guardrail.apply(&request(texts)).await.expect("content is judged");
        assert!(verdict.intervened(), "{texts:?} does not pass: {verdict:?}");
        assert!(verdict.assessments.iter().any(|found| found.intervenes()), "a finding acts: {verdict:?}");
        assert!(!verdict.outputs.is_empty(), "there is something to show instead");
        if !verdict.blocked() {
            assert_eq!(verdict.outputs.len(), texts.len(), "one output for each content that is masked");
            for (output, text) in verdict.outputs.iter().zip(texts) {
                let same = output.text.as_deref() == Some(*text);
                assert_eq!(same, *text == passes, "{output:?} instead of {text:?}");
            }
        }
        for output in verdict.outputs.iter().filter_map(|output| output.text.as_deref()) {
            assert!(!output.contains(stops), "{output:?} shows what is stopped");
        }
        let mut again = guardrail.apply(&request(texts)).await.expect("content is judged");
        let mut verdict = verdict;
        for found in again.assessments.iter_mut().chain(&mut verdict.assessments) {
            if let Some(metrics) = &mut found.invocation_metrics {
                metrics.guardrail_processing_latency = None;
            }
        }
        assert_eq!(verdict, again, "the same content has the same verdict");
    }
    let nothing = guardrail.apply(&request(&[])).await.expect("no content is no error");
    assert!(!nothing.intervened(), "no content passes");
}

/// Checks a retriever with a query that finds something.
///
/// Laws: best first; no more than asked for; the same query finds the same; a number of results outside 1–100 and a
/// blank query are refused.
///
/// # Panics
/// If a law is broken.
pub async fn check_retriever(retriever: &dyn Retriever, request: &RetrieveRequest) {
    let found = retriever.retrieve(request).await.expect("passages are found");
    assert!(!found.retrieval_results.is_empty(), "the query finds something");
    assert_eq!(retriever.retrieve(request).await.expect("passages are found"), found, "the same query finds the same");
    let scores: Vec<f64> = found.retrieval_results.iter().filter_map(|result| result.score).collect();
    assert!(scores.windows(2).all(|pair| pair[0] >= pair[1]), "best first: {scores:?}");
    assert!(scores.iter().all(|score| score.is_finite()), "scores are numbers: {scores:?}");
    let one = retriever.retrieve(&request.clone().number_of_results(1)).await.expect("a passage is found");
    assert_eq!(one.retrieval_results.len(), 1, "no more than asked for");
    for number in [0, 101] {
        let result = retriever.retrieve(&request.clone().number_of_results(number)).await;
        assert!(is_validation(&result), "{number} results are refused");
    }
    let mut blank = request.clone();
    blank.retrieval_query.text = Some(" ".into());
    assert!(is_validation(&retriever.retrieve(&blank).await), "a blank query is refused");
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;
    use crate::guardrail::GuardrailContentSource;
    use futures::executor::block_on;

    #[test]
    fn the_doubles_keep_to_the_laws() {
        block_on(async {
            let model = ScriptedModel::answering(|_| Reply::text("A fine day.").chunking(Chunking::Characters(3)));
            check_chat_model(&model, &ConverseRequest::new("m").system("Be brief.").user("How is it?")).await;
            assert_eq!(model.cancelled(), 2);
            let model = ScriptedModel::answering(|_| {
                Reply::tool_use("t1", "clock", serde_json::json!({"zone": "UTC"})).chunking(Chunking::Sizes(vec![0, 1]))
            });
            check_chat_model(&model, &ConverseRequest::new("m").user("What time is it?").max_tokens(20)).await;

            check_embedding_model(&HashEmbedder::default()).await;
            check_embedding_model(&HashEmbedder::new(1).max_input_tokens(10)).await;
            check_reranker(&OverlapReranker).await;
            let classifier = KeywordClassifier::new([("animal", "cat dog"), ("city", "paris rome")]);
            check_classifier(&classifier, &ClassifyRequest::new(["The cat of Paris", "", "Rome"])).await;
            for guardrail in [WordGuardrail::blocking("secret"), WordGuardrail::masking("Secret")] {
                check_guardrail(&guardrail, GuardrailContentSource::Output, "All clear.", "My secret: none.").await;
            }
            let retriever = ListRetriever::new([
                ("a.md", "Espresso needs pressure."),
                ("b.md", "Tea needs time."),
                ("c.md", "Espresso and tea both need water."),
            ]);
            check_retriever(&retriever, &RetrieveRequest::new("kb", "espresso pressure")).await;
        });
    }

    /// Runs a check that must find the law broken.
    pub(super) fn fails(check: impl FnOnce() + std::panic::UnwindSafe, law: &str) {
        let panic = std::panic::catch_unwind(check).expect_err(law);
        let message = panic.downcast_ref::<String>().cloned();
        let message =
            message.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
        assert!(message.contains(law), "{message:?} does not name the law {law:?}");
    }

    #[test]
    fn a_broken_chat_model_is_found() {
        let request = || ConverseRequest::new("m").user("How is it?");
        fails(
            || {
                let count = std::sync::atomic::AtomicU32::new(0);
                let model = ScriptedModel::answering(move |_| {
                    let n = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    Reply::text(format!("answer {n}"))
                });
                block_on(check_chat_model(&model, &request()));
            },
            "streamed = whole",
        );
        fails(
            || {
                let model = ScriptedModel::answering(|_| Reply::text("one two three"));
                block_on(check_chat_model(&model, &request().max_tokens(2)));
            },
            "maxTokens is 2",
        );
    }
}
