//! Amazon Bedrock.

use bedrock_core::testing::check_chat_model;
use bedrock_core::{
    ChatModel, ConverseRequest, EmbedPurpose, EmbedRequest, EmbeddingModel, EncodedImage, Error, ImageFormat,
    ImageModel, ImageRequest,
};
use bedrock_models::remote::{AwsAuthorization, AwsCredentials, Bedrock, RemoteEmbedderSpec};
use futures::executor::block_on;
use serde_json::{Value, json};

use crate::clock::stopped;
use crate::play::{cases, compare_sent, play, reply};
use crate::server::{Reply, Server};

const CASES: &str = include_str!("../fixtures/remote/bedrock.json");

fn keys() -> AwsAuthorization {
    AwsAuthorization::Credentials(AwsCredentials {
        access_key_id: "AKIDEXAMPLE".into(),
        secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
        session_token: None,
    })
}

/// The service at a time that stands still, so that what throttles is tried again without a wait.
fn service(address: &str) -> Bedrock {
    Bedrock::at(address, "eu-north-1", keys(), &stopped(1_440_938_160).0).expect("an address")
}

fn case(name: &str) -> Value {
    cases(CASES).into_iter().find(|case| case["name"] == name).expect(name)
}

#[test]
fn it_sends_what_the_sdk_sends_and_reads_what_the_service_answers() {
    let mut played = 0;
    for family in [None, Some("titan"), Some("jurassic")] {
        let some = cases(CASES).into_iter().filter(|case| case["family"].as_str() == family);
        let text = Value::Array(some.collect()).to_string();
        played += play(&text, |address, model| -> Box<dyn ChatModel> {
            let service = service(address);
            match family {
                None => Box::new(service.chat(model)),
                Some("titan") => Box::new(service.titan_text(model)),
                Some(_) => Box::new(service.jurassic(model)),
            }
        })
        .len();
    }
    assert_eq!(played, 10);
}

#[test]
fn each_attempt_is_signed_or_carries_the_key() {
    let case = case("Converse");
    let request: ConverseRequest = serde_json::from_value(case["converse"].clone()).expect("a request");
    let answer = reply(&case);
    let server = Server::start(move |count, _| if count == 0 { Reply::json(503, &json!({})) } else { answer.clone() });
    service(&server.address("")).chat("m").converse_blocking(&request).expect("answered");
    for sent in server.requests() {
        let signature = sent.header("authorization").expect("signed");
        let expected = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/eu-north-1/bedrock/aws4_request, \
                        SignedHeaders=content-type;host;x-amz-date, Signature=";
        assert!(signature.starts_with(expected), "{signature}");
        assert_eq!(sent.header("x-amz-date"), Some("20150830T123600Z"));
    }

    let server = Server::always(reply(&case));
    let key = AwsAuthorization::ApiKey("bedrock-key".into());
    let service = Bedrock::at(&server.address(""), "eu-north-1", key, &stopped(0).0).expect("an address");
    service.chat("m").converse_blocking(&request).expect("answered");
    assert_eq!(server.requests()[0].header("authorization"), Some("Bearer bedrock-key"));
    for region in ["", "eu north", "x.example.com/", "EU"] {
        let result = Bedrock::new(region, keys(), &stopped(0).0);
        assert!(matches!(result, Err(Error::Validation { .. })), "{region}");
    }
}

#[test]
fn it_keeps_the_contract() {
    let (stream, whole, count) = (reply(&case("ConverseStream")), reply(&case("Converse")), reply(&case("a count")));
    // Five tokens are counted, as the recorded answers say.
    let count = Reply { body: br#"{"inputTokens": 5}"#.to_vec(), ..count };
    let server = Server::start(move |_, request| match request.path.rsplit('/').next() {
        Some("converse-stream") => stream.clone().cut(17),
        Some("converse") => whole.clone(),
        _ => count.clone(),
    });
    let request = ConverseRequest::new("any").user("Weather?").max_tokens(9);
    block_on(check_chat_model(&service(&server.address("")).chat("m"), &request));
}

#[test]
fn tokens_are_counted_by_the_service() {
    let case = case("a count");
    let server = Server::always(reply(&case));
    let request: ConverseRequest = serde_json::from_value(case["count"].clone()).expect("a request");
    let model = service(&server.address("")).chat(case["model"].as_str().expect("a model"));
    assert_eq!(block_on(model.count_tokens(&request)).expect("counted"), 41);
    compare_sent("a count", &case, &server.requests());
}

#[test]
fn a_damaged_frame_is_an_error() {
    let good = reply(&case("ConverseStream"));
    let request = ConverseRequest::new("any").user("Weather?");
    for at in [0, 9, 40, good.body.len() - 1] {
        let mut bad = good.clone();
        bad.body[at] ^= 0x10;
        let server = Server::always(bad);
        let result = block_on(async {
            bedrock_core::collect(service(&server.address("")).chat("m").converse_stream(&request).await?).await
        });
        let Err(Error::ModelStreamError { message, .. }) = result else { panic!("{at}: {result:?}") };
        assert!(message.contains("checksum"), "{message}");
    }
    let mut cut = good.clone();
    cut.body.truncate(good.body.len() - 5);
    let server = Server::always(cut);
    let result = block_on(async {
        bedrock_core::collect(service(&server.address("")).chat("m").converse_stream(&request).await?).await
    });
    assert!(matches!(result, Err(Error::ModelStreamError { .. })), "{result:?}");
}

#[test]
fn vectors_of_titan_and_cohere() {
    let request = |purpose, inputs: &[&str]| EmbedRequest {
        dimensions: Some(2),
        normalize: Some(true),
        ..EmbedRequest::new(purpose, inputs.iter().copied())
    };
    for (name, titan, request, vectors, tokens) in [
        ("Titan vectors", true, request(EmbedPurpose::Document, &["a"]), vec![[0.6, 0.8]], 3),
        ("Titan G1 vectors", true, request(EmbedPurpose::Document, &["a"]), vec![[0.6, 0.8]], 3),
        (
            "Cohere vectors",
            false,
            EmbedRequest { dimensions: None, ..request(EmbedPurpose::Query, &["a", "b"]) },
            vec![[0.6, 0.8], [1.0, 0.0]],
            4,
        ),
    ] {
        let case = case(name);
        let server = Server::always(reply(&case));
        let (service, spec) = (service(&server.address("")), RemoteEmbedderSpec::new(2, 100));
        let model = case["model"].as_str().expect("a model");
        let model = if titan { service.titan_embedder(model, spec) } else { service.cohere_embedder(model, spec) };
        let response = model.embed_blocking(&request).expect("embedded");
        compare_sent(name, &case, &server.requests());
        assert_eq!(response.input_tokens, tokens, "{name}");
        assert_eq!(response.embeddings, vectors, "{name}");
    }
    // A text each call; the order is that of the inputs, whichever is answered first.
    let server = Server::start(|_, request| {
        let text = request.json()["inputText"].as_str().expect("a text").to_owned();
        Reply::json(200, &json!({"embedding": [text.len(), 0], "inputTextTokenCount": 1}))
    });
    let model =
        service(&server.address("")).titan_embedder("amazon.titan-embed-text-v2:0", RemoteEmbedderSpec::new(2, 100));
    let texts: Vec<String> = (1..30).map(|length| "x".repeat(length)).collect();
    let response = model.embed_blocking(&EmbedRequest::documents(texts)).expect("embedded");
    assert!((1_u8..30).zip(&response.embeddings).all(|(length, vector)| vector[0] == f32::from(length)));
    assert_eq!(response.input_tokens, 29);
    let g1 =
        service("http://127.0.0.1:9").titan_embedder("amazon.titan-embed-text-v1", RemoteEmbedderSpec::new(4, 100));
    assert!(matches!(g1.embed_blocking(&request(EmbedPurpose::Query, &["a"])), Err(Error::Validation { .. })));
}

#[test]
fn pictures_of_titan_and_stable_diffusion() {
    let picture = |bytes: &[u8]| EncodedImage::new(ImageFormat::Png, bytes);
    let plain = ImageRequest::new("a cat").negative_prompt("dogs").guidance_scale(8.0).seed(7);
    let sdxl = plain.clone().steps(30).init_image(picture(&[1, 2, 3]), 0.75).mask(picture(&[4, 5, 6]));
    for (name, request) in [("Titan picture", plain.clone().size(512, 256)), ("SDXL picture", sdxl)] {
        let case = case(name);
        let server = Server::always(reply(&case));
        let (service, model) = (service(&server.address("")), case["model"].as_str().expect("a model"));
        let titan = name.starts_with("Titan");
        let model = if titan { service.titan_painter(model) } else { service.stable_diffusion_xl(model) };
        let made = model.generate_blocking(&request).expect("painted");
        compare_sent(name, &case, &server.requests());
        assert!(made.images.len() == 1 && made.images[0].seed == 7);
        assert!(made.images[0].image.bytes.as_bytes().starts_with(b"\x89PNG"));

        let both = model.generate_blocking(&request.clone().seed(u32::MAX).count(2)).expect("painted");
        assert_eq!(both.images.iter().map(|image| image.seed).collect::<Vec<_>>(), [u32::MAX, 0]);
        if titan {
            for refused in [request.clone().steps(3), request.init_image(picture(&[1]), 0.5)] {
                assert!(matches!(model.generate_blocking(&refused), Err(Error::Validation { .. })));
            }
        }
    }
    for (titan, body) in [
        (true, json!({"images": [], "error": "blocked"})),
        (true, json!({"images": ["AQID"]})),
        (true, json!({"images": ["?"]})),
        (false, json!({"result": "success", "artifacts": [{"base64": "", "finishReason": "CONTENT_FILTERED"}]})),
        (false, json!({"result": "success", "artifacts": []})),
    ] {
        let server = Server::always(Reply::json(200, &body));
        let service = service(&server.address(""));
        let model = if titan { service.titan_painter("m") } else { service.stable_diffusion_xl("m") };
        let error = model.generate_blocking(&plain).expect_err("no picture");
        assert!(matches!(error, Error::ModelError { .. } | Error::BadGateway { .. }), "{body}: {error:?}");
    }
}
