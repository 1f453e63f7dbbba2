//! A small HTTP server on loopback that plays a script.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

/// A request as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As it should.
    Complete,
    /// The connection is closed in the middle of the body.
    Killed,
    /// Nothing more comes, and the connection stays open until the client closes it.
    Silent,
    /// The answer is complete, and the connection stays open.
    Open,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Bytes of a chunk; the body is cut into such.
    pub(crate) cut: usize,
    pub(crate) ending: Ending,
}

impl Reply {
    pub(crate) fn new(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("content-type".to_owned(), kind.to_owned())];
        Self { status, headers, body: body.into(), cut: usize::MAX, ending: Ending::Complete }
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    /// Server-sent events.
    pub(crate) fn events(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, "text/event-stream; charset=utf-8", body)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn cut(mut self, cut: usize) -> Self {
        self.cut = cut;
        self
    }

    pub(crate) fn ending(mut self, ending: Ending) -> Self {
        self.ending = ending;
        self
    }
}

/// The server. It ends when it is dropped.
pub(crate) struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    closed: Arc<Mutex<Vec<bool>>>,
    over: Arc<AtomicBool>,
}

impl Server {
    /// Answers each request as `answer` says, given how many there were before it.
    pub(crate) fn start(answer: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let server = Self {
            port: listener.local_addr().expect("an address").port(),
            requests: Arc::default(),
            closed: Arc::default(),
            over: Arc::default(),
        };
        let (requests, closed, over) = (server.requests.clone(), server.closed.clone(), server.over.clone());
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let (requests, closed, answer) = (requests.clone(), closed.clone(), answer.clone());
                thread::spawn(move || {
                    let Ok(stream) = stream else { return };
                    let Some(request) = read(&stream) else { return };
                    let count = {
                        let mut requests = requests.lock().expect("no panic");
                        requests.push(request.clone());
                        requests.len() - 1
                    };
                    let closed_by_client = write(stream, &answer(count, &request));
                    closed.lock().expect("no panic").push(closed_by_client);
                });
            }
        });
        server
    }

    /// Answers all requests alike.
    pub(crate) fn always(reply: Reply) -> Self {
        Self::start(move |_, _| reply.clone())
    }

    pub(crate) fn address(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no panic").clone()
    }

    /// Waits until `count` silent or open answers were closed by the client.
    pub(crate) fn wait_for_closed(&self, count: usize) {
        for _ in 0..1_000_000 {
            if self.closed.lock().expect("no panic").iter().filter(|closed| **closed).count() >= count {
                return;
            }
            thread::yield_now();
            thread::park_timeout(std::time::Duration::from_micros(50));
        }
        panic!("the client did not close {count} connections");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut parts = line.split_whitespace();
    let mut request = Request { method: parts.next()?.into(), path: parts.next()?.into(), ..Request::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        request.headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    request.body = vec![0; length];
    reader.read_exact(&mut request.body).ok()?;
    Some(request)
}

/// Sends an answer; whether it was the client who closed the connection.
fn write(mut stream: TcpStream, reply: &Reply) -> bool {
    let mut send = || -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut head = format!("HTTP/1.1 {} Scripted\r\ntransfer-encoding: chunked\r\n", reply.status);
        if reply.ending == Ending::Complete {
            head.push_str("connection: close\r\n");
        }
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        for piece in reply.body.chunks(reply.cut.max(1)) {
            stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
            stream.write_all(piece)?;
            stream.write_all(b"\r\n")?;
            stream.flush()?;
        }
        match reply.ending {
            Ending::Complete => stream.write_all(b"0\r\n\r\n"),
            // A chunk that is announced and does not come.
            Ending::Killed => stream.write_all(b"ff\r\nx"),
            Ending::Silent | Ending::Open => stream.flush(),
        }
    };
    if send().is_err() {
        return true;
    }
    if matches!(reply.ending, Ending::Silent | Ending::Open) {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        return true;
    }
    false
}
