//! AI21's interface.

use bedrock_core::{ChatModel, ConverseRequest, Error, ImageBlock, ImageFormat, Message};
use bedrock_models::remote::{Ai21, RemoteOptions};

use crate::play::play;

const CASES: &str = include_str!("../fixtures/remote/ai21.json");

fn model(address: &str, model: &str) -> Ai21 {
    let address = format!("{address}/studio/v1");
    Ai21::new(&address, "sk-loopback-1234".into(), model, &RemoteOptions::default()).expect("an address")
}

#[test]
fn it_sends_what_the_sdk_sends_and_reads_what_the_server_answers() {
    assert_eq!(play(CASES, model).len(), 2);
}

#[test]
fn what_has_no_place_is_refused_by_its_name() {
    let picture = Message::user("what?").with(ImageBlock::new(ImageFormat::Png, vec![1]));
    let mut effort = ConverseRequest::new("m").user("x");
    effort.output_config = Some(bedrock_core::OutputConfig { effort: Some("low".into()), text_format: None });
    for (field, request) in
        [("messages.0.content.1.image", ConverseRequest::new("m").message(picture)), ("outputConfig.effort", effort)]
    {
        match model("http://127.0.0.1:9", "m").converse_blocking(&request) {
            Err(Error::Validation { message }) => assert!(message.starts_with(field), "{message}"),
            other => panic!("{field}: {other:?}"),
        }
    }
}
