//! What the way to a server does when something is wrong with it. Seen through the provider with the simplest answers.

use std::time::Duration;

use bedrock_core::{ChatModel, ConverseRequest, Error, StreamEvent};
use bedrock_models::remote::{OpenAi, OpenAiChat, Proxy, RemoteOptions, Secret};
use futures::StreamExt;
use futures::executor::block_on;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::clock::stopped;
use crate::server::{Ending, Reply, Server};

const KEY: &str = "sk-loopback-1234";

fn model(server: &Server, options: &RemoteOptions) -> OpenAiChat {
    OpenAi::new(&server.address("/v1"), Some(Secret::new(KEY)), options).expect("an address").chat("m")
}

fn request() -> ConverseRequest {
    ConverseRequest::new("any").user("hi")
}

fn whole() -> Value {
    json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}})
}

/// `text` in a piece each character, and the end.
fn events(text: &str) -> String {
    let chunk =
        |delta: Value, reason: Value| json!({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]});
    let mut out: String =
        text.chars().map(|c| format!("data: {}\n\n", chunk(json!({"content": c}), Value::Null))).collect();
    out += &format!("data: {}\n\ndata: [DONE]\n\n", chunk(json!({}), json!("stop")));
    out
}

fn refused(status: u16) -> Reply {
    Reply::json(status, &json!({"error": {"message": format!("no, {KEY}")}}))
}

/// All items of a stream.
fn items(model: &OpenAiChat) -> Vec<Result<StreamEvent, Error>> {
    let request = request();
    block_on(async { model.converse_stream(&request).await.expect("begins").collect().await })
}

#[test]
fn what_passes_is_tried_again_after_the_wait_asked_for() {
    let server = Server::start(|count, _| match count {
        0 => refused(429).header("retry-after", "7"),
        1 => refused(503),
        _ => Reply::json(200, &whole()),
    });
    let (options, clock) = stopped(0);
    assert_eq!(model(&server, &options).converse_blocking(&request()).expect("answered").text(), "ok");
    // 7 s as the server says; then the second wait, of at most 1 s, by chance (0.5) three quarters of it.
    assert_eq!(*clock.waits.lock().unwrap(), [Duration::from_secs(7), Duration::from_millis(750)]);
    assert_eq!(server.requests().len(), 3);
    assert_eq!(server.requests()[2].header("authorization"), Some("Bearer sk-loopback-1234"));
}

#[test]
fn attempts_and_waits_are_bounded() {
    let server = Server::always(refused(429));
    let (options, clock) = stopped(0);
    let error = model(&server, &options).converse_blocking(&request()).unwrap_err();
    assert!(matches!(&error, Error::Throttling { message } if message.contains("no, [redacted]")), "{error:?}");
    assert_eq!((server.requests().len(), clock.waits.lock().unwrap().len()), (3, 2));

    // A date an hour away: not waited for, but told.
    let server = Server::always(refused(429).header("retry-after", "Thu, 01 Jan 1970 01:00:00 GMT"));
    let error = model(&server, &options).converse_blocking(&request()).unwrap_err();
    assert!(error.message().contains("try again in 3600 s"), "{error}");
    assert_eq!(server.requests().len(), 1);

    for (status, name) in
        [(400, "ValidationException"), (401, "AccessDeniedException"), (404, "ResourceNotFoundException")]
    {
        let server = Server::always(refused(status));
        let error = model(&server, &options).converse_blocking(&request()).unwrap_err();
        assert_eq!((error.exception_name(), server.requests().len()), (name, 1));
        assert!(!format!("{error:?}").contains(KEY));
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = Server::always(Reply::json(200, &whole()));
    let server = Server::always(Reply::json(307, &json!({})).header("location", &elsewhere.address("/")));
    let error = model(&server, &RemoteOptions::default()).converse_blocking(&request()).unwrap_err();
    assert!(matches!(error, Error::ModelError { original_status_code: Some(307), .. }), "{error:?}");
    assert!(elsewhere.requests().is_empty());
}

#[test]
fn a_server_that_is_gone_is_named_so() {
    let address = Server::always(Reply::json(200, &whole())).address("/v1");
    let (options, clock) = stopped(0);
    // The port of a server that has ended.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let model = OpenAi::new(&format!("http://127.0.0.1:{port}/v1"), None, &options).unwrap().chat("m");
    let error = model.converse_blocking(&request()).unwrap_err();
    assert!(
        matches!(&error, Error::ServiceUnavailable { message } if message.contains("can't be reached")),
        "{error:?}"
    );
    assert_eq!(clock.waits.lock().unwrap().len(), 2, "{address}");
}

#[test]
fn a_stream_that_breaks_ends_in_a_typed_error() {
    for ending in [Ending::Killed, Ending::Silent] {
        let text = events("ab").replace("data: [DONE]\n\n", "");
        let text = text.rsplit_once("data:").unwrap().0.to_owned();
        let server = Server::always(Reply::events(text).cut(9).ending(ending));
        let options = RemoteOptions { idle_timeout: Duration::from_millis(300), ..RemoteOptions::default() };
        let items = items(&model(&server, &options));
        let text: String = items.iter().flatten().filter_map(|event| event.as_text()).collect();
        assert_eq!(text, "ab", "what was complete is given out");
        match items.last() {
            Some(Err(Error::ModelStreamError { message, .. })) if ending == Ending::Killed => {
                assert!(message.contains("broke"), "{message}");
            }
            Some(Err(Error::ModelStreamError { message, .. })) => assert!(message.contains("silent"), "{message}"),
            other => panic!("{ending:?}: {other:?}"),
        }
    }
    // An end without a reason to stop is no end.
    let server = Server::always(Reply::events("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"));
    let items = items(&model(&server, &RemoteOptions::default()));
    assert!(matches!(items.last(), Some(Err(Error::ModelStreamError { .. }))), "{items:?}");
}

#[test]
fn a_whole_answer_that_breaks_is_no_answer() {
    let server = Server::always(Reply::json(200, &whole()).ending(Ending::Killed));
    let error = model(&server, &RemoteOptions::default()).converse_blocking(&request()).unwrap_err();
    assert!(matches!(error, Error::BadGateway { .. }), "{error:?}");
}

#[test]
fn a_server_that_does_not_begin_is_given_up() {
    // Accepts connections and says nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let options = RemoteOptions { first_byte_timeout: Duration::from_millis(200), ..RemoteOptions::default() };
    let model = OpenAi::new(&address, None, &options).unwrap().chat("m");
    for result in [model.converse_blocking(&request()).map(drop), block_on(model.converse_stream(&request())).map(drop)]
    {
        assert!(matches!(result, Err(Error::ModelTimeout { .. })), "{result:?}");
    }
}

#[test]
fn a_dropped_stream_or_future_closes_its_connection() {
    let server = Server::always(Reply::events(events("abc")).cut(5).ending(Ending::Silent));
    let model = model(&server, &RemoteOptions::default());
    let request = request();
    block_on(async {
        let mut stream = model.converse_stream(&request).await.expect("begins");
        stream.next().await.expect("an event").expect("no error");
    });
    server.wait_for_closed(1);

    let server = Server::always(Reply::new(200, "application/json", "{").ending(Ending::Silent));
    let model = self::model(&server, &RemoteOptions::default());
    block_on(async {
        let mut answer = model.converse(&request);
        assert!(futures::poll!(&mut answer).is_pending());
        while server.requests().is_empty() {
            std::thread::yield_now();
        }
        drop(answer);
    });
    server.wait_for_closed(1);
}

#[test]
fn a_complete_answer_does_not_wait_for_the_connection() {
    let server = Server::always(Reply::events(events("abc")).ending(Ending::Open));
    let items = items(&model(&server, &RemoteOptions::default()));
    assert!(matches!(items.last(), Some(Ok(StreamEvent::Metadata(_)))), "{items:?}");
}

#[test]
fn bodies_and_events_are_bounded() {
    let options = RemoteOptions { max_body_bytes: 2000, max_event_bytes: 500, ..RemoteOptions::default() };
    let server = Server::always(Reply::new(200, "application/json", vec![b' '; 3000]));
    let error = model(&server, &options).converse_blocking(&request()).unwrap_err();
    assert!(matches!(&error, Error::BadGateway { message, .. } if message.contains("2000")), "{error:?}");

    for (body, limit) in [(vec![b'x'; 900], "500"), (events(&"a".repeat(99)).into_bytes(), "2000")] {
        let server = Server::always(Reply::events(body).cut(100));
        let items = items(&model(&server, &options));
        let Some(Err(Error::ModelStreamError { message, .. })) = items.last() else { panic!("{items:?}") };
        assert!(message.contains(limit), "{message}");
    }
    let server = Server::always(Reply::new(400, "text/html", vec![b'x'; 1 << 20]));
    let error = model(&server, &options).converse_blocking(&request()).unwrap_err();
    assert_eq!(error.message(), "the server answered 400");
}

#[test]
fn an_answer_of_another_kind_is_quoted() {
    let server = Server::always(Reply::json(200, &json!({"error": {"message": format!("quota of {KEY}")}})));
    let error = block_on(model(&server, &RemoteOptions::default()).converse_stream(&request())).map(drop).unwrap_err();
    assert!(
        matches!(&error, Error::BadGateway { message, .. } if message.contains("quota of [redacted]")),
        "{error:?}"
    );
}

#[test]
fn keys_go_over_https_or_loopback_alone() {
    let options = RemoteOptions::default();
    let new = |address: &str| OpenAi::new(address, Some(Secret::new(KEY)), &options);
    for address in [
        "http://example.com/v1",
        "http://10.0.0.1",
        "ftp://localhost",
        "https://a:b@example.com",
        "https://x/?k=1",
        "none",
        "",
    ] {
        let error = new(address).map(drop).unwrap_err();
        assert!(matches!(error, Error::Validation { .. }), "{address}: {error:?}");
        assert!(!error.message().contains("a:b"), "{error}");
    }
    for address in ["https://example.com", "http://localhost:1/v1/", "http://[::1]:80", "http://127.0.0.9"] {
        new(address).expect(address);
    }
    let open = RemoteOptions { allow_plain_http: true, ..options };
    let server = OpenAi::new("http://10.0.0.1", Some(Secret::new(KEY)), &open).expect("allowed by name");
    assert!(!format!("{server:?} {:?}", server.chat("m")).contains(KEY));
}

#[test]
fn requests_go_through_the_proxy_that_is_named() {
    let proxy = Server::always(Reply::json(200, &whole()));
    let options = RemoteOptions {
        proxy: Proxy::Through(Secret::new(proxy.address("").replace("http://", "http://user:word@"))),
        allow_plain_http: true,
        headers: vec![("x-team".into(), Secret::new("blue"))],
        ..RemoteOptions::default()
    };
    let model = OpenAi::new("http://models.invalid/v1", None, &options).unwrap().chat("m");
    assert_eq!(model.converse_blocking(&request()).expect("answered").text(), "ok");
    let sent = &proxy.requests()[0];
    assert_eq!(sent.path, "http://models.invalid/v1/chat/completions");
    assert_eq!(sent.header("proxy-authorization"), Some("Basic dXNlcjp3b3Jk"));
    assert_eq!(sent.header("x-team"), Some("blue"));
    assert!(!format!("{options:?}").contains("word") && !format!("{options:?}").contains("blue"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_answer_panics_or_hangs(
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..300),
            "(data: [{}\\[\\]\":a-z0-9,]{0,20}\n{0,2}){0,8}".prop_map(String::into_bytes),
            Just(events("héllo").into_bytes()).prop_flat_map(|body| (Just(body), any::<proptest::sample::Index>(), any::<u8>()))
                .prop_map(|(mut body, at, byte)| { let at = at.index(body.len()); body[at] = byte; body }),
        ],
        stream in any::<bool>(),
        cut in 1_usize..40,
    ) {
        let kind = if stream { "text/event-stream" } else { "application/json" };
        let server = Server::always(Reply::new(200, kind, body).cut(cut));
        let model = model(&server, &RemoteOptions::default());
        if stream {
            let items = items(&model);
            let failures = items.iter().filter(|item| item.is_err()).count();
            prop_assert!(failures <= 1 && items.iter().position(Result::is_err).is_none_or(|at| at + 1 == items.len()));
            prop_assert!(failures == 1 || matches!(items.last(), Some(Ok(StreamEvent::Metadata(_)))));
        } else {
            let _ = model.converse_blocking(&request());
        }
    }
}
