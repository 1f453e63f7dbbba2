//! Content filters of pictures, with a classifier that really looks at pixels: what it judges, on which side, and what happens if it can't.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bedrock_core::testing::{Reply, ScriptedModel};
use bedrock_core::{
    ApplyGuardrailRequest, ApplyGuardrailResponse, Blob, BoxFuture, ChatModel, ContentBlock, ConverseRequest, Error,
    Guardrail as _, GuardrailAction, GuardrailContentBlock, GuardrailContentFilterType, GuardrailContentSource,
    GuardrailImageBlock, GuardrailImageFormat, GuardrailImageSource, GuardrailOutputScope, GuardrailPolicyAction,
    GuardrailStrength, GuardrailTrace, ImageBlock, ImageFormat, InputImage, KnowledgeBaseGuardrailAction,
    KnowledgeBaseQuery, KnowledgeBaseQueryType, KnowledgeBaseRetrievalResult, LabelScore, Message,
    RetrievalResultContent, RetrieveRequest, RetrieveResponse, Retriever, StopReason, StreamEvent, ToolResultBlock,
    ToolResultContentBlock, ToolUseBlock,
};
use bedrock_guard::{Guarded, Guardrail, GuardrailBuilder, ImageClassifier, ImageContentClassifier, OnFailure};
use futures::TryStreamExt;
use futures::executor::block_on;
use serde_json::{Value, json};

/// A PNG of one pixel (RGB, 8 bits, not compressed).
fn png(red: u8, green: u8, blue: u8) -> Vec<u8> {
    let row = [0, red, green, blue];
    let mut zlib = vec![0x78, 0x01, 1, 4, 0, 0xfb, 0xff];
    zlib.extend(row);
    let (a, b) = row.iter().fold((1u32, 0u32), |(a, b), byte| (a + u32::from(*byte), b + a + u32::from(*byte)));
    zlib.extend((b << 16 | a).to_be_bytes());
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let header = vec![0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0];
    for (name, data) in [(b"IHDR", header), (b"IDAT", zlib), (b"IEND", Vec::new())] {
        file.extend((data.len() as u32).to_be_bytes());
        let chunk = [name.as_slice(), &data].concat();
        let crc = !chunk.iter().fold(!0u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
        });
        file.extend(chunk);
        file.extend(crc.to_be_bytes());
    }
    file
}

/// Decodes what [`png`] writes: red is violence, green is hate. Counts the pictures; anything else is an error.
#[derive(Clone, Default)]
struct Colours(Arc<AtomicUsize>);

impl Colours {
    fn asked(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl ImageClassifier for Colours {
    fn classify<'a>(
        &'a self,
        format: &'a GuardrailImageFormat,
        bytes: &'a [u8],
    ) -> BoxFuture<'a, Result<Vec<LabelScore>, Error>> {
        Box::pin(async move {
            self.0.fetch_add(1, Ordering::Relaxed);
            let at = bytes.windows(4).position(|name| name == b"IDAT").map(|at| at + 4 + 7 + 1);
            let pixel = at.filter(|_| *format == GuardrailImageFormat::Png).and_then(|at| bytes.get(at..at + 3));
            let Some(pixel) = pixel else { return Err(Error::backend("can't decode")) };
            let label = |label: &str, byte: u8| LabelScore { label: label.to_owned(), score: f32::from(byte) / 255.0 };
            Ok(vec![label("violence", pixel[0]), label("HATE", pixel[1]), label("landscape", pixel[2])])
        })
    }
}

fn builder(filters: Value) -> GuardrailBuilder {
    let json = json!({
        "name": "g", "blockedInputMessaging": "no in", "blockedOutputsMessaging": "no out",
        "contentPolicyConfig": {"filtersConfig": filters},
    });
    Guardrail::builder_from_json(&json.to_string()).unwrap()
}

/// Violence: of pictures on both sides, on the way out only if it is sure. Hate: of texts, and in answers of pictures, which it reports.
fn guardrail(model: &Colours) -> Guardrail {
    builder(json!([
        {"type": "VIOLENCE", "inputStrength": "HIGH", "outputStrength": "LOW", "inputModalities": ["IMAGE"], "outputModalities": ["TEXT", "IMAGE"]},
        {"type": "HATE", "inputStrength": "HIGH", "outputStrength": "HIGH", "outputAction": "NONE", "outputModalities": ["IMAGE"]},
    ]))
    .image_classifier(ImageContentClassifier::new(model.clone()))
    .build_blocking()
    .unwrap()
}

fn block(format: &str, bytes: Vec<u8>) -> GuardrailContentBlock {
    let source = GuardrailImageSource::Bytes(Blob(bytes));
    GuardrailContentBlock::Image(GuardrailImageBlock { format: format.into(), source })
}

fn apply(guardrail: &Guardrail, source: GuardrailContentSource, bytes: Vec<u8>) -> ApplyGuardrailResponse {
    guardrail.apply_blocking(&ApplyGuardrailRequest::new(source, [block("png", bytes)])).unwrap()
}

fn refused(result: Result<impl std::fmt::Debug, Error>) -> String {
    match result {
        Err(Error::Validation { message }) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_filter_of_pictures_needs_a_classifier_that_knows_its_category() {
    let filters =
        json!([{"type": "SEXUAL", "inputStrength": "LOW", "outputStrength": "LOW", "outputModalities": ["IMAGE"]}]);
    let message = refused(builder(filters.clone()).build_blocking());
    assert!(message.starts_with("contentPolicyConfig.filtersConfig.0: filters of pictures"), "{message}");
    let violence = ImageContentClassifier::new(Colours::default()).label("gore", GuardrailContentFilterType::Violence);
    let message = refused(builder(filters.clone()).image_classifier(violence.clone()).build_blocking());
    assert!(message.contains("filtersConfig.0") && message.contains("SEXUAL"), "{message}");
    let falling = ImageContentClassifier::new(Colours::default()).confidence([0.9, 0.5, 0.3]);
    assert!(refused(builder(filters.clone()).image_classifier(falling).build_blocking()).contains("steps"));
    // A model that has no such label would pass everything in silence.
    let guardrail =
        builder(filters).image_classifier(ImageContentClassifier::new(Colours::default())).build_blocking().unwrap();
    let request = ApplyGuardrailRequest::new(GuardrailContentSource::Output, [block("png", png(0, 0, 0))]);
    assert!(refused(guardrail.apply_blocking(&request)).contains("no label of SEXUAL"));
}

#[test]
fn labels_of_a_model_may_stand_for_categories() {
    let classifier = ImageContentClassifier::new(Colours::default())
        .label("Landscape", GuardrailContentFilterType::Insults)
        .label("hate", GuardrailContentFilterType::Insults)
        .confidence([0.1, 0.2, 0.3]);
    let filters =
        json!([{"type": "INSULTS", "inputStrength": "LOW", "outputStrength": "LOW", "inputModalities": ["IMAGE"]}]);
    let guardrail = builder(filters).image_classifier(classifier).build_blocking().unwrap();
    for (colour, blocked) in [((255, 0, 0), false), ((0, 90, 0), true), ((0, 0, 90), true), ((0, 70, 70), false)] {
        let verdict = apply(&guardrail, GuardrailContentSource::Input, png(colour.0, colour.1, colour.2));
        assert_eq!(verdict.blocked(), blocked, "{colour:?}");
    }
}

#[test]
fn each_side_has_its_own_strengths_actions_and_modalities() {
    use GuardrailContentSource::{Input, Output};
    let model = Colours::default();
    let guardrail = guardrail(&model);
    let reddish = apply(&guardrail, Input, png(100, 0, 0));
    assert_eq!(reddish.outputs[0].text.as_deref(), Some("no in"));
    let filter = &reddish.assessments[0].content_policy.as_ref().unwrap().filters;
    assert_eq!(filter.len(), 1);
    assert_eq!(
        serde_json::to_value(&filter[0]).unwrap(),
        json!({"type": "VIOLENCE", "confidence": "LOW", "filterStrength": "HIGH", "action": "BLOCKED", "detected": true})
    );
    let images = reddish.guardrail_coverage.as_ref().unwrap().images.as_ref().unwrap();
    assert_eq!((images.guarded, images.total), (Some(1), Some(1)));
    assert_eq!((reddish.usage.content_policy_image_units, reddish.usage.content_policy_units), (Some(1), 0));
    // On the way out only high confidence acts.
    assert!(!apply(&guardrail, Output, png(100, 0, 0)).intervened());
    assert_eq!(apply(&guardrail, Output, png(250, 0, 0)).outputs[0].text.as_deref(), Some("no out"));
    // Hate is looked for in answers only, and reported.
    assert!(apply(&guardrail, Input, png(0, 255, 0)).assessments[0].content_policy.is_none());
    let hate = apply(&guardrail, Output, png(0, 255, 0));
    assert_eq!(hate.action, GuardrailAction::None);
    let filters = &hate.assessments[0].content_policy.as_ref().unwrap().filters;
    assert_eq!(
        (&filters[0].kind, &filters[0].action),
        (&GuardrailContentFilterType::Hate, &GuardrailPolicyAction::None)
    );
    // A filter whose modalities lack TEXT leaves texts alone; HATE on the way in has no modalities, which is TEXT.
    let text =
        |source, text: &str| guardrail.apply_blocking(&ApplyGuardrailRequest::new(source, [text])).unwrap().blocked();
    let (violent, hateful) = (
        "I will stab you to death, cut your throat and watch you bleed.",
        "All immigrants are vermin and should be shot.",
    );
    assert!(!text(Input, violent) && text(Output, violent) && text(Input, hateful));
    let mut full = ApplyGuardrailRequest::new(Input, [block("png", png(0, 0, 0))]);
    full.output_scope = Some(GuardrailOutputScope::Full);
    let listed = guardrail.apply_blocking(&full).unwrap().assessments[0].content_policy.clone().unwrap().filters;
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|filter| filter.detected == Some(false) && filter.confidence == GuardrailStrength::None));
    assert_eq!(model.asked(), 6);
}

#[test]
fn a_filter_of_texts_alone_does_not_look_at_pictures() {
    let model = Colours::default();
    let filters =
        json!([{"type": "VIOLENCE", "inputStrength": "HIGH", "outputStrength": "HIGH", "inputModalities": ["TEXT"]}]);
    let guardrail =
        builder(filters).image_classifier(ImageContentClassifier::new(model.clone())).build_blocking().unwrap();
    // Not even a picture that could not be judged is refused.
    for bytes in [png(255, 0, 0), b"no picture".to_vec()] {
        let verdict = apply(&guardrail, GuardrailContentSource::Input, bytes);
        assert!(!verdict.intervened());
        let images = verdict.guardrail_coverage.unwrap().images.unwrap();
        assert_eq!((images.guarded, images.total), (Some(0), Some(1)));
        assert_eq!(verdict.usage.content_policy_image_units, None);
    }
    assert_eq!(model.asked(), 0);
}

#[test]
fn what_the_service_refuses_is_refused_before_the_model_is_asked() {
    let model = Colours::default();
    let guardrail = guardrail(&model);
    let try_all = |blocks: Vec<GuardrailContentBlock>| {
        guardrail.apply_blocking(&ApplyGuardrailRequest::new(GuardrailContentSource::Input, blocks))
    };
    let mut large = png(0, 0, 0);
    large.resize((4 << 20) + 1, 0);
    let good = || block("png", png(0, 0, 0));
    assert!(
        refused(try_all(vec![good(), block("png", large)])).contains("content.1.image: the picture has 4194305 bytes")
    );
    assert!(refused(try_all(vec![good(), block("jpeg", png(0, 0, 0))])).contains("content.1.image"));
    assert!(refused(try_all(vec![block("gif", b"GIF89a".to_vec())])).contains("content.0.image"));
    assert!(refused(try_all((0..21).map(|_| good()).collect())).contains("at most 20 pictures"));
    assert_eq!(model.asked(), 0);
    assert!(try_all((0..20).map(|_| good()).collect()).is_ok());
    assert_eq!(model.asked(), 20);
    // A file that the model can't decode is its failure.
    assert!(matches!(try_all(vec![block("png", b"\x89PNG\r\n\x1a\n".to_vec())]), Err(Error::Backend { .. })));
}

#[test]
fn pictures_are_counted_and_recorded() {
    let records = Arc::new(Mutex::new(Vec::new()));
    let keep = records.clone();
    let guardrail = guardrail(&Colours::default())
        .record_matches(true)
        .on_intervention(move |record| keep.lock().unwrap().push(serde_json::to_value(record).unwrap()));
    let red = block("png", png(255, 0, 0));
    let blocks = vec![red.clone(), red, GuardrailContentBlock::from("All immigrants are vermin.")];
    guardrail.apply_blocking(&ApplyGuardrailRequest::new(GuardrailContentSource::Input, blocks)).unwrap();
    let metrics = guardrail.metrics();
    assert_eq!((metrics.pictures, metrics.characters, metrics.blocked), (2, 26, 1));
    let record = &records.lock().unwrap()[0];
    assert_eq!((&record["pictures"], &record["characters"]), (&json!(2), &json!(26)));
    assert!(
        record["findings"]
            .as_array()
            .unwrap()
            .contains(&json!({"policy": "contentPolicy", "kind": "VIOLENCE", "action": "BLOCKED", "count": 1}))
    );
    assert_eq!(record["matches"], json!(["All immigrants are vermin."]));
}

fn picture(format: ImageFormat, bytes: Vec<u8>) -> ImageBlock {
    ImageBlock::new(format, bytes)
}

fn red() -> ImageBlock {
    picture(ImageFormat::Png, png(255, 0, 0))
}

fn blue() -> ImageBlock {
    picture(ImageFormat::Png, png(0, 0, 255))
}

fn ask(block: impl Into<ContentBlock>) -> ConverseRequest {
    ConverseRequest::new("m").message(Message::user("What is this?").with(block))
}

fn tool_result(image: ImageBlock) -> ConverseRequest {
    let call = ToolUseBlock { tool_use_id: "t".into(), name: "look".into(), input: json!({}), kind: None };
    let mut result = ToolResultBlock::new("t", "here");
    result.content.push(ToolResultContentBlock::Image(image));
    let mut request =
        ConverseRequest::new("m").user("Look.").message(Message::assistant(call)).message(Message::user(result));
    let tools = json!({"tools": [{"toolSpec": {"name": "look", "inputSchema": {"json": {"type": "object"}}}}]});
    request.tool_config = serde_json::from_value(tools).unwrap();
    request
}

#[test]
fn pictures_of_a_conversation_are_judged_wherever_they_stand() {
    let model = Colours::default();
    let guarded = |red_is_blocked: bool, request: &ConverseRequest, images: (u32, u32)| {
        let chat =
            Guarded::new(ScriptedModel::new([Reply::text("ok")]), guardrail(&model)).trace(GuardrailTrace::Enabled);
        let answer = chat.converse_blocking(request).unwrap();
        assert_eq!(answer.text(), if red_is_blocked { "no in" } else { "ok" }, "{request:?}");
        assert_eq!(chat.model().requests().len(), usize::from(!red_is_blocked));
        let trace = answer.trace.unwrap().guardrail.unwrap();
        let assessment = trace.input_assessment.values().next().unwrap();
        let metrics = assessment.invocation_metrics.as_ref().unwrap();
        let covered = metrics.guardrail_coverage.as_ref().unwrap().images.as_ref().unwrap();
        assert_eq!((covered.guarded, covered.total), (Some(images.0), Some(images.1)));
    };
    guarded(true, &ask(red()), (1, 1));
    guarded(false, &ask(blue()), (1, 1));
    guarded(true, &tool_result(red()), (1, 1));
    guarded(false, &tool_result(blue()), (1, 1));
    let tagged = |image: &ImageBlock| {
        let bedrock_core::ImageSource::Bytes(bytes) = &image.source else { panic!("no bytes") };
        block("png", bytes.0.clone())
    };
    guarded(true, &ask(tagged(&red())), (1, 1));
    // Guarded content alone is judged where there is some, but what a tool answered always is.
    let mut request = ask(red());
    request.messages[0].content.push(ContentBlock::GuardContent(tagged(&blue())));
    guarded(false, &request, (1, 2));
    let mut request = tool_result(red());
    request.messages[0].content.push(ContentBlock::GuardContent(tagged(&blue())));
    guarded(true, &request, (2, 2));
}

#[test]
fn a_picture_that_can_not_be_judged_is_the_policy_of_failures() {
    let answer = |request: &ConverseRequest, on_failure| {
        let model = ScriptedModel::new([Reply::text("ok")]);
        Guarded::new(model, guardrail(&Colours::default())).on_failure(on_failure).converse_blocking(request)
    };
    let damaged = || picture(ImageFormat::Png, b"\x89PNG\r\n\x1a\n".to_vec());
    let mut many = tool_result(blue());
    for message in &mut many.messages {
        for block in &mut message.content {
            if let ContentBlock::ToolResult(result) = block {
                result.content = (0..21).map(|_| ToolResultContentBlock::Image(blue())).collect();
            }
        }
    }
    for request in [
        ask(picture(ImageFormat::Gif, b"GIF89a".to_vec())),
        tool_result(picture(ImageFormat::Jpeg, png(0, 0, 0))),
        many,
    ] {
        let message = refused(answer(&request, OnFailure::Closed));
        assert!(message.contains("the guardrail can't judge a picture, which"), "{message}");
        assert_eq!(answer(&request, OnFailure::Open).unwrap().text(), "ok");
    }
    // What the classifier fails with.
    for request in [ask(damaged()), tool_result(damaged())] {
        assert!(matches!(answer(&request, OnFailure::Closed), Err(Error::Backend { .. })));
        assert_eq!(answer(&request, OnFailure::Open).unwrap().text(), "ok");
    }
    // That one can't be judged does not let another one pass.
    let mut request = ask(damaged());
    request.messages[0].content.push(red().into());
    assert_eq!(answer(&request, OnFailure::Open).unwrap().text(), "no in");
}

#[test]
fn pictures_of_an_answer_are_judged_before_they_are_given_out() {
    let stream = |image: ImageBlock, on_failure| {
        let reply = Reply::blocks([ContentBlock::from("Here: "), image.into()], StopReason::EndTurn);
        let model = Guarded::new(ScriptedModel::new([reply]), guardrail(&Colours::default())).on_failure(on_failure);
        let request = ConverseRequest::new("m").user("Paint.");
        let events = model.converse_stream(&request);
        let events: Vec<StreamEvent> = block_on(async { events.await.unwrap().try_collect().await.unwrap() });
        block_on(bedrock_core::collect(futures::stream::iter(events.into_iter().map(Ok)))).unwrap()
    };
    let images = |answer: &bedrock_core::ConverseResponse| {
        let bedrock_core::ConverseOutput::Message(message) = &answer.output else { panic!("no message") };
        message.content.iter().filter(|block| matches!(block, ContentBlock::Image(image) if !matches!(&image.source, bedrock_core::ImageSource::Bytes(bytes) if bytes.0.is_empty()))).count()
    };
    let shown = stream(blue(), OnFailure::Closed);
    assert_eq!((images(&shown), shown.stop_reason), (1, StopReason::EndTurn));
    let damaged = picture(ImageFormat::Png, b"\x89PNG\r\n\x1a\n".to_vec());
    for image in [red(), damaged.clone(), picture(ImageFormat::Webp, b"RIFF".to_vec())] {
        let shown = stream(image, OnFailure::Closed);
        assert_eq!((images(&shown), shown.stop_reason), (0, StopReason::GuardrailIntervened));
    }
    for image in [damaged, picture(ImageFormat::Webp, b"RIFF".to_vec())] {
        assert_eq!(images(&stream(image, OnFailure::Open)), 1);
    }
    assert_eq!(images(&stream(red(), OnFailure::Open)), 0);
}

/// Finds these, whatever it is asked.
struct Shelf(Vec<KnowledgeBaseRetrievalResult>);

impl Retriever for Shelf {
    fn retrieve<'a>(&'a self, _: &'a RetrieveRequest) -> BoxFuture<'a, Result<RetrieveResponse, Error>> {
        let retrieval_results = self.0.clone();
        Box::pin(async move { Ok(RetrieveResponse { retrieval_results, ..RetrieveResponse::default() }) })
    }
}

#[test]
fn pictures_of_passages_are_judged_one_by_one() {
    let colours = Colours::default();
    let passage = |uri: String| KnowledgeBaseRetrievalResult {
        content: RetrievalResultContent { byte_content: Some(uri), ..RetrievalResultContent::default() },
        ..KnowledgeBaseRetrievalResult::default()
    };
    let drawn = |file: Vec<u8>| passage(format!("data:image/png;base64,{}", STANDARD.encode(file)));
    let (blue, red, odd) = (drawn(png(0, 0, 255)), drawn(png(255, 0, 0)), passage("https://example.org/p.png".into()));
    let shelf = || Shelf(vec![blue.clone(), red.clone(), odd.clone(), drawn(b"GIF89a".to_vec())]);
    let request = RetrieveRequest::new("", "Which colour?");
    let retriever = Guarded::new(shelf(), guardrail(&colours));
    let found = retriever.retrieve_blocking(&request).unwrap();
    assert_eq!(found.retrieval_results, std::slice::from_ref(&blue));
    assert_eq!(found.guardrail_action, Some(KnowledgeBaseGuardrailAction::Intervened));
    assert_eq!(colours.asked(), 2, "what can't be judged is not asked about");
    let open = Guarded::new(shelf(), guardrail(&colours)).on_failure(OnFailure::Open);
    let found = open.retrieve_blocking(&request).unwrap().retrieval_results;
    assert_eq!(found, [blue, odd, drawn(b"GIF89a".to_vec())]);

    let mut pictured = RetrieveRequest::new("", "");
    pictured.retrieval_query = KnowledgeBaseQuery {
        kind: Some(KnowledgeBaseQueryType::Image),
        text: None,
        image: Some(InputImage { format: ImageFormat::Png, inline_content: Blob(png(255, 0, 0)) }),
    };
    let found = retriever.retrieve_blocking(&pictured).unwrap();
    assert!(found.retrieval_results.is_empty(), "a picture that is looked for is judged, too");
}
