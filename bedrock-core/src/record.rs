//! The log of invocations: what was asked of which model, what it cost and how it ended.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;
use crate::inference::{ConverseRequest, ConverseResponse};
use crate::model::{BoxFuture, ChatModel, EventStream};
use crate::stream::{Collector, StreamEvent};
use crate::usage::TokenUsage;
use crate::watch::{Armed, Ending, Watch};

/// One invocation, in the shape of the service's model invocation log (`schemaType` `ModelInvocationLog`, version 1.0).
///
/// `status`, `latencyMs` and `cancelled` are ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelInvocationLog {
    /// `ModelInvocationLog`.
    pub schema_type: String,
    /// `1.0`.
    pub schema_version: String,
    /// When the call began, in ISO 8601, UTC.
    pub timestamp: String,
    /// Whose account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
    /// Who called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<InvocationIdentity>,
    /// Where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Where the model ran, if elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inference_region: Option<String>,
    /// Names this call: a random UUID.
    pub request_id: String,
    /// `Converse` or `ConverseStream`.
    pub operation: String,
    /// The model.
    pub model_id: String,
    /// What went in.
    pub input: InvocationInput,
    /// What came out. Absent if the call failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<InvocationOutput>,
    /// The pairs of the request's `requestMetadata`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub request_metadata: BTreeMap<String, String>,
    /// HTTP code of the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Name of the exception. Its message is left out: it may quote the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// Milliseconds from the request to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    /// True if the caller gave up before the end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
}

/// Who called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InvocationIdentity {
    /// Name of the user or role.
    pub arn: String,
}

/// What went into a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InvocationInput {
    /// Media type of the body.
    pub input_content_type: String,
    /// The request, if the sink asks for bodies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_body_json: Option<Value>,
    /// Tokens of the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_token_count: Option<u32>,
    /// Tokens of the prompt that came from the prompt cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_read_input_token_count: Option<u32>,
    /// Tokens of the prompt that were put in the prompt cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_input_token_count: Option<u32>,
}

/// What came out of a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InvocationOutput {
    /// Media type of the body.
    pub output_content_type: String,
    /// The response, if the sink asks for bodies. A stream is logged as the response that it collects to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_body_json: Option<Value>,
    /// Tokens of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_token_count: Option<u32>,
}

/// Where the records of invocations go.
pub trait InvocationSink: Send + Sync {
    /// Takes a record. Called where the answer ends or is dropped, in async code too: a sink that is slow hands the record
    /// to a thread of its own.
    ///
    /// # Errors
    /// Whatever keeps the record from being stored. [`Logged`] counts it; the answer is not withheld.
    fn record(&self, record: ModelInvocationLog) -> Result<(), Error>;

    /// Whether requests and responses shall be in the records. No, unless a sink says otherwise: they hold what people
    /// wrote.
    fn wants_bodies(&self) -> bool {
        false
    }
}

macro_rules! forward {
    ($($pointer:ident),*) => {$(
        impl<T: InvocationSink + ?Sized> InvocationSink for $pointer<T> {
            fn record(&self, record: ModelInvocationLog) -> Result<(), Error> {
                (**self).record(record)
            }
            fn wants_bodies(&self) -> bool {
                (**self).wants_bodies()
            }
        }
    )*};
}
forward!(Arc, Box);

/// A chat model whose calls are recorded, each exactly once, when it ends, fails or is dropped.
pub struct Logged<M> {
    model: M,
    sink: Arc<dyn InvocationSink>,
    identity: Option<InvocationIdentity>,
    lost: Arc<AtomicU64>,
}

impl<M> Logged<M> {
    /// Records the calls of `model`.
    pub fn new(model: M, sink: Arc<dyn InvocationSink>) -> Self {
        Self { model, sink, identity: None, lost: Arc::default() }
    }

    /// Names the caller in the records.
    pub fn identity(mut self, arn: impl Into<String>) -> Self {
        self.identity = Some(InvocationIdentity { arn: arn.into() });
        self
    }

    /// Records that the sink could not store.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn watch(&self, operation: &str, request: &ConverseRequest) -> Armed<Writer> {
        let bodies = self.sink.wants_bodies();
        let begin = SystemTime::now();
        let input_body_json = if bodies { request.to_body().ok() } else { None };
        Armed::new(Writer {
            sink: self.sink.clone(),
            lost: self.lost.clone(),
            begin,
            usage: None,
            collector: bodies.then(Collector::new),
            body: None,
            record: ModelInvocationLog {
                schema_type: "ModelInvocationLog".into(),
                schema_version: "1.0".into(),
                timestamp: iso_8601(begin),
                account_id: None,
                identity: self.identity.clone(),
                region: None,
                inference_region: None,
                request_id: random_uuid(),
                operation: operation.into(),
                model_id: request.model_id.clone(),
                input: InvocationInput {
                    input_content_type: JSON.into(),
                    input_body_json,
                    ..InvocationInput::default()
                },
                output: None,
                request_metadata: request.request_metadata.clone(),
                status: None,
                error_code: None,
                latency_ms: None,
                cancelled: false,
            },
        })
    }
}

impl<M> fmt::Debug for Logged<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logged").field("identity", &self.identity).field("lost", &self.lost).finish_non_exhaustive()
    }
}

const JSON: &str = "application/json";

struct Writer {
    sink: Arc<dyn InvocationSink>,
    lost: Arc<AtomicU64>,
    begin: SystemTime,
    usage: Option<TokenUsage>,
    /// Gathers the body of a stream; gone when the events break the protocol, which whoever reads them will see.
    collector: Option<Collector>,
    body: Option<Value>,
    record: ModelInvocationLog,
}

impl Writer {
    fn answered(&mut self, response: &ConverseResponse) {
        self.usage = Some(response.usage.clone());
        if self.sink.wants_bodies() {
            self.body = serde_json::to_value(response).ok();
        }
    }
}

impl Watch for Writer {
    fn event(&mut self, event: &StreamEvent) {
        if let StreamEvent::Metadata(event) = event {
            self.usage = Some(event.usage.clone());
        }
        if let Some(mut collector) = self.collector.take()
            && collector.push(event.clone()).is_ok()
        {
            self.collector = Some(collector);
        }
    }

    fn end(mut self, ending: Ending<'_>) {
        let record = &mut self.record;
        record.latency_ms = self.begin.elapsed().ok().map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        if let Some(usage) = &self.usage {
            record.input.input_token_count = Some(usage.input_tokens);
            record.input.cache_read_input_token_count = usage.cache_read_input_tokens;
            record.input.cache_write_input_token_count = usage.cache_write_input_tokens;
        }
        match ending {
            Ending::Done => {
                record.status = Some(200);
                let collected = self.collector.and_then(|collector| collector.finish().ok());
                let collected = collected.and_then(|response| serde_json::to_value(response).ok());
                record.output = Some(InvocationOutput {
                    output_content_type: JSON.into(),
                    output_body_json: self.body.or(collected),
                    output_token_count: self.usage.as_ref().map(|usage| usage.output_tokens),
                });
            }
            Ending::Failed(error) => {
                record.status = Some(error.http_status());
                record.error_code = Some(error.exception_name().into());
            }
            Ending::Cancelled => record.cancelled = true,
        }
        if self.sink.record(self.record).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<M: ChatModel> ChatModel for Logged<M> {
    fn converse_stream<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<EventStream<'a>, Error>> {
        Box::pin(async move {
            let watch = self.watch("ConverseStream", request);
            let began = self.model.converse_stream(request).await;
            watch.follow(began)
        })
    }

    fn converse<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<ConverseResponse, Error>> {
        Box::pin(async move {
            let mut watch = self.watch("Converse", request);
            let result = self.model.converse(request).await;
            match &result {
                Ok(response) => {
                    if let Some(writer) = watch.watch() {
                        writer.answered(response);
                    }
                    watch.end(Ending::Done);
                }
                Err(error) => watch.end(Ending::Failed(error)),
            }
            result
        })
    }

    fn count_tokens<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<u32, Error>> {
        self.model.count_tokens(request)
    }
}

/// A sink that appends to a file, one JSON object a line.
///
/// A line has a greatest length; a record that is longer is written without bodies. When the file has reached its greatest
/// size it is renamed to `<path>.1`, that to `<path>.2` and so on; the oldest is deleted.
#[derive(Debug)]
pub struct JsonlSink {
    path: PathBuf,
    bodies: bool,
    line_bytes: usize,
    file_bytes: u64,
    keep: usize,
    file: Mutex<Option<(File, u64)>>,
}

impl JsonlSink {
    /// Appends to `path`, without bodies. Lines of at most 100 KiB, files of at most 64 MiB, four old files kept.
    ///
    /// # Errors
    /// [`Error::Backend`] if the file can't be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref().to_owned();
        let file = Self::append(&path).map_err(Error::backend)?;
        Ok(Self {
            path,
            bodies: false,
            line_bytes: 100 << 10,
            file_bytes: 64 << 20,
            keep: 4,
            file: Mutex::new(Some(file)),
        })
    }

    /// Puts requests and responses in the records, or not.
    pub fn bodies(mut self, bodies: bool) -> Self {
        self.bodies = bodies;
        self
    }

    /// Another greatest length of a line in bytes.
    pub fn line_bytes(mut self, bytes: usize) -> Self {
        self.line_bytes = bytes;
        self
    }

    /// Another greatest size of a file in bytes, and another number of old files.
    pub fn rotation(mut self, file_bytes: u64, keep: usize) -> Self {
        (self.file_bytes, self.keep) = (file_bytes, keep);
        self
    }

    /// Appends any record as a line: what a guardrail did, what an agent stepped through.
    ///
    /// # Errors
    /// [`Error::ServiceQuotaExceeded`] if the line is longer than a line may be; [`Error::Backend`] if the file can't be written.
    pub fn line(&self, record: &impl Serialize) -> Result<(), Error> {
        let mut line = serde_json::to_vec(record).map_err(Error::backend)?;
        if line.len() >= self.line_bytes {
            let (bytes, most) = (line.len(), self.line_bytes);
            return Err(Error::service_quota_exceeded(format!(
                "a record of {bytes} bytes exceeds the {most} of a line"
            )));
        }
        line.push(b'\n');
        self.write(&line).map_err(Error::backend)
    }

    fn append(path: &Path) -> io::Result<(File, u64)> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    }

    fn old(&self, number: usize) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    fn rotate(&self) -> io::Result<()> {
        if self.keep == 0 {
            return std::fs::remove_file(&self.path);
        }
        for number in (1..self.keep).rev() {
            match std::fs::rename(self.old(number), self.old(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&self.path, self.old(1))
    }

    fn write(&self, line: &[u8]) -> io::Result<()> {
        let mut slot = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut file, mut size) = match slot.take() {
            Some(open) => open,
            None => Self::append(&self.path)?,
        };
        if size > 0 && size + line.len() as u64 > self.file_bytes {
            drop(file);
            self.rotate()?;
            (file, size) = Self::append(&self.path)?;
        }
        // One call, so that lines of several processes do not mix.
        file.write_all(line)?;
        *slot = Some((file, size + line.len() as u64));
        Ok(())
    }
}

impl InvocationSink for JsonlSink {
    fn record(&self, mut record: ModelInvocationLog) -> Result<(), Error> {
        let mut line = serde_json::to_vec(&record).map_err(Error::backend)?;
        if line.len() >= self.line_bytes {
            record.input.input_body_json = None;
            if let Some(output) = &mut record.output {
                output.output_body_json = None;
            }
            line = serde_json::to_vec(&record).map_err(Error::backend)?;
            if line.len() >= self.line_bytes {
                return Err(Error::service_quota_exceeded(format!(
                    "a record of {} bytes exceeds the {} of a line",
                    line.len(),
                    self.line_bytes
                )));
            }
        }
        line.push(b'\n');
        self.write(&line).map_err(Error::backend)
    }

    fn wants_bodies(&self) -> bool {
        self.bodies
    }
}

/// A time as the service writes it: ISO 8601, UTC, with milliseconds.
///
/// Seconds since 1970 as a date and time of the Gregorian calendar (H. Hinnant, "chrono-compatible low-level date
/// algorithms", `civil_from_days`).
pub fn iso_8601(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = ((since.as_secs() / 86_400) as i64, since.as_secs() % 86_400);
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// A version 4 UUID from the standard library's hasher keys, which are random: unique, not secret.
fn random_uuid() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let (a, b) = (RandomState::new().hash_one((count, 0)), RandomState::new().hash_one((count, 1)));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xfff,
        b >> 48 & 0x3fff | 0x8000,
        b & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{RecordingSink, Reply, ScriptedModel, check_chat_model};
    use futures::StreamExt;
    use futures::executor::block_on;
    use std::time::Duration;

    fn request() -> ConverseRequest {
        let mut request = ConverseRequest::new("m").user("a secret question");
        request.request_metadata.insert("team".into(), "blue".into());
        request
    }

    #[test]
    fn each_way_to_end_is_one_record() {
        let sink = Arc::new(RecordingSink::default());
        let model = Logged::new(
            ScriptedModel::new([
                Reply::text("one two"),
                Reply::text("one two"),
                Reply::refusal(Error::throttling("a secret question")),
                Reply::text("a").fail_at(1, Error::model_stream_error("gone")),
                Reply::text("a").pend_at(2),
            ]),
            sink.clone(),
        )
        .identity("arn:aws:iam::123456789012:user/ann");
        let request = request();
        block_on(async {
            model.converse(&request).await.expect("answered");
            let _: Vec<_> = model.converse_stream(&request).await.expect("begins").collect().await;
            model.converse(&request).await.expect_err("throttled");
            let _: Vec<_> = model.converse_stream(&request).await.expect("begins").collect().await;
            drop(model.converse_stream(&request).await.expect("begins"));
        });
        let records = sink.records();
        let statuses: Vec<_> = records.iter().map(|record| (record.status, record.cancelled)).collect();
        assert_eq!(
            statuses,
            [(Some(200), false), (Some(200), false), (Some(429), false), (Some(424), false), (None, true)]
        );
        assert_eq!(records[2].error_code.as_deref(), Some("ThrottlingException"));
        assert_eq!(records[1].operation, "ConverseStream");
        for record in &records[..2] {
            assert_eq!(record.input.input_token_count, Some(3));
            assert_eq!(record.output.as_ref().and_then(|output| output.output_token_count), Some(2));
            assert_eq!(record.request_metadata["team"], "blue");
        }
        let text = serde_json::to_string(&records).expect("records serialise");
        assert!(!text.contains("secret") && !text.contains("one two"), "no text without being asked: {text}");
    }

    #[test]
    fn bodies_are_recorded_if_the_sink_asks() {
        let sink = Arc::new(RecordingSink::with_bodies());
        let model = Logged::new(ScriptedModel::new(["one two", "one two"]), sink.clone());
        let request = request();
        block_on(async {
            model.converse(&request).await.expect("answered");
            let _: Vec<_> = model.converse_stream(&request).await.expect("begins").collect().await;
        });
        for record in sink.records() {
            let body = record.input.input_body_json.expect("a request");
            assert_eq!(body["messages"][0]["content"][0]["text"], "a secret question");
            let body = record.output.expect("an answer").output_body_json.expect("a response");
            assert_eq!(body["output"]["message"]["content"][0]["text"], "one two");
        }
    }

    #[test]
    fn it_is_a_chat_model() {
        let model =
            Logged::new(ScriptedModel::answering(|_| Reply::text("fine")), Arc::new(RecordingSink::with_bodies()));
        block_on(check_chat_model(&model, &ConverseRequest::new("m").user("hi")));
        assert_eq!(model.lost(), 0);
    }

    #[test]
    fn any_record_is_a_line() {
        let folder = std::env::temp_dir().join(format!("bedrock-any-record-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("lines.jsonl");
        let sink = JsonlSink::open(&path).expect("a file").line_bytes(40);
        sink.line(&serde_json::json!({"a": "b\n"})).expect("a short line");
        assert!(matches!(sink.line(&"x".repeat(40)), Err(Error::ServiceQuotaExceeded { .. })));
        assert_eq!(std::fs::read_to_string(&path).expect("the file"), "{\"a\":\"b\\n\"}\n");
        std::fs::remove_dir_all(&folder).expect("it goes");
    }

    #[test]
    fn files_are_rotated_and_lines_are_bounded() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log.jsonl");
        let sink = JsonlSink::open(&path).expect("a file").bodies(true).line_bytes(2000).rotation(1500, 2);
        let model = Logged::new(ScriptedModel::answering(|_| Reply::text("fine")), Arc::new(sink));
        for length in [10, 5000, 10, 10, 10, 10, 10] {
            let request = ConverseRequest::new("m").user("x".repeat(length));
            model.converse_blocking(&request).expect("answered");
        }
        assert_eq!(model.lost(), 0);
        let names = ["log.jsonl", "log.jsonl.1", "log.jsonl.2"];
        let files: Vec<_> =
            names.iter().map(|name| std::fs::read_to_string(folder.path().join(name)).expect("a file")).collect();
        assert!(!folder.path().join("log.jsonl.3").exists());
        for line in files.iter().flat_map(|file| file.lines()) {
            let record: ModelInvocationLog = serde_json::from_str(line).expect("a record");
            assert!(line.len() < 2000);
            assert_eq!(record.schema_type, "ModelInvocationLog");
        }
        assert!(files.iter().all(|file| file.len() <= 1500), "{:?}", files.iter().map(String::len).collect::<Vec<_>>());
    }

    #[test]
    fn a_record_that_can_t_be_stored_is_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let sink = JsonlSink::open(folder.path().join("log")).expect("a file").line_bytes(10);
        let model = Logged::new(ScriptedModel::new(["fine"]), Arc::new(sink));
        model.converse_blocking(&request()).expect("the answer is not withheld");
        assert_eq!(model.lost(), 1);
    }

    #[test]
    fn times_and_ids_are_well_formed() {
        let at = |seconds: u64, millis: u64| iso_8601(UNIX_EPOCH + Duration::from_millis(seconds * 1000 + millis));
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_827_696, 7), "2000-02-29T12:34:56.007Z");
        assert_eq!(at(4_102_444_799, 999), "2099-12-31T23:59:59.999Z");
        let id = random_uuid();
        assert_eq!((id.len(), id.as_bytes()[14]), (36, b'4'), "{id}");
        assert_ne!(id, random_uuid());
    }
}
