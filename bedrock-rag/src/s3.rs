//! A bucket of Amazon S3, or of a server that speaks as it does (MinIO, Ceph, R2), as a source of documents.
//!
//! Lists and gets, nothing else: requests are signed by AWS Signature Version 4. Objects are told apart by their entity tags, so what has
//! not changed is not read again. Sidecars (`name.ext.metadata.json`) are read with the list.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, Mac};
use quick_xml::Reader;
use quick_xml::events::Event;
use sha2::{Digest, Sha256};
use ureq::Agent;
use ureq::http::{Request, Uri};

use crate::data_source::DataSource;
use crate::document::{MAX_SIDECAR_BYTES, SIDECAR_SUFFIX, parse_sidecar};
use crate::external::secret::Secret;
use crate::sync::{Content, Source};
use crate::{Error, document::Metadata};

/// Most objects of a list.
const MAX_OBJECTS: usize = 1_000_000;
/// Pages of a list that name no object: a server could give such for ever.
const MAX_EMPTY_PAGES: usize = 100;

/// Largest page of a list, in bytes. A page has a thousand objects, each with a key of at most 1,024 bytes, escaped.
const MAX_PAGE: u64 = 16 << 20;

/// A bucket, or a part of one.
#[derive(Clone)]
#[must_use]
pub struct S3Bucket {
    bucket: String,
    prefix: String,
    region: String,
    endpoint: Option<String>,
    credentials: Option<Credentials>,
    timeout: Duration,
}

#[derive(Clone)]
struct Credentials {
    key_id: String,
    secret: Secret,
    token: Option<Secret>,
}

impl fmt::Debug for S3Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Bucket")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

impl S3Bucket {
    /// The objects of a bucket in a region, read without credentials unless there are some.
    pub fn new(bucket: impl Into<String>, region: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            prefix: String::new(),
            region: region.into(),
            endpoint: None,
            credentials: None,
            timeout: Duration::from_secs(60),
        }
    }

    /// Only objects whose keys begin so.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Another server than Amazon's, such as `https://minio.example.org`. Buckets are part of the path.
    pub fn endpoint(mut self, address: impl Into<String>) -> Self {
        self.endpoint = Some(address.into());
        self
    }

    /// Signs requests. They are never taken from the environment.
    pub fn credentials(mut self, access_key_id: impl Into<String>, secret_access_key: impl Into<String>) -> Self {
        let secret = Secret::new(secret_access_key);
        self.credentials = Some(Credentials { key_id: access_key_id.into(), secret, token: None });
        self
    }

    /// The token of credentials that are for a time.
    pub fn session_token(mut self, token: impl Into<String>) -> Self {
        if let Some(credentials) = &mut self.credentials {
            credentials.token = Some(Secret::new(token));
        }
        self
    }

    /// Longest time that a request may take. Default 60 seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn address(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket)
    }

    fn failed(&self, what: &str, source: bedrock_core::Error) -> Error {
        Error::DataSource { place: self.address(what), source }
    }

    fn host(&self) -> String {
        self.endpoint.clone().unwrap_or_else(|| format!("https://s3.{}.amazonaws.com", self.region))
    }

    /// Gets an object (`key`), or a list (no key, a query). No more than `limit` bytes are read.
    fn get(&self, key: &str, query: &BTreeMap<&str, String>, limit: u64) -> Result<Vec<u8>, Error> {
        let refuse = |what: &str| self.failed(key, bedrock_core::Error::validation(what));
        let base = self.host();
        let base = base.trim_end_matches('/');
        let uri: Uri = base.parse().map_err(|_| refuse("the endpoint can't be read"))?;
        let authority = uri.authority().ok_or_else(|| refuse("the endpoint names no server"))?.as_str().to_owned();
        let local = uri.host().is_some_and(|host| ["localhost", "127.0.0.1", "[::1]"].contains(&host));
        if authority.contains('@') || uri.scheme_str() != Some("https") && !local {
            return Err(refuse("the endpoint must be https:// and hold no password"));
        }
        let path = match key {
            "" => format!("/{}", escaped(&self.bucket, false)),
            key => format!("/{}/{}", escaped(&self.bucket, false), escaped(key, true)),
        };
        let query: Vec<String> =
            query.iter().map(|(name, value)| format!("{}={}", escaped(name, false), escaped(value, false))).collect();
        let query = query.join("&");
        let separator = if query.is_empty() { "" } else { "?" };
        let mut request = Request::get(format!("{base}{path}{separator}{query}"));
        if let Some(credentials) = &self.credentials {
            let now = timestamp(SystemTime::now());
            let mut headers =
                BTreeMap::from([("host", authority.as_str()), ("x-amz-content-sha256", EMPTY), ("x-amz-date", &now)]);
            if let Some(token) = &credentials.token {
                headers.insert("x-amz-security-token", token.expose());
            }
            let authorization = sign(credentials, &self.region, &now, &path, &query, &headers);
            for (name, value) in headers.into_iter().filter(|(name, _)| *name != "host") {
                request = request.header(name, value);
            }
            request = request.header("authorization", authorization);
        }
        let config = Agent::config_builder()
            .timeout_global(Some(self.timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent("bedrock-rag");
        let config = if local { config.proxy(None) } else { config };
        let request = request.body(()).map_err(|error| self.failed(key, bedrock_core::Error::backend(error)))?;
        let sent = config.build().new_agent().run(request);
        let mut answer = sent.map_err(|error| {
            self.failed(key, bedrock_core::Error::service_unavailable(format!("the server did not answer: {error}")))
        })?;
        let status = answer.status().as_u16();
        let limit = if status == 200 { limit } else { 4096 };
        let bytes = answer.body_mut().with_config().limit(limit.saturating_add(1)).read_to_vec();
        let bytes = match bytes {
            Ok(bytes) if bytes.len() as u64 <= limit => bytes,
            Err(ureq::Error::BodyExceedsLimit(_)) | Ok(_) if status == 200 => {
                return Err(Error::DocumentTooLarge { name: self.address(key), bytes: limit + 1, limit });
            }
            Ok(bytes) => bytes,
            Err(error) => {
                return Err(
                    self.failed(key, bedrock_core::Error::bad_gateway(format!("the answer broke off: {error}")))
                );
            }
        };
        if status == 200 {
            return Ok(bytes);
        }
        let shown: String = String::from_utf8_lossy(&bytes).chars().take(300).collect();
        let message = match &self.credentials {
            Some(credentials) => credentials.secret.redact(&format!("{status} {shown}")),
            None => format!("{status} {shown}"),
        };
        Err(self.failed(
            key,
            match status {
                401 | 403 => bedrock_core::Error::access_denied(message),
                404 => bedrock_core::Error::resource_not_found(message),
                429 | 503 => bedrock_core::Error::throttling(message),
                _ => bedrock_core::Error::dependency_failed(message),
            },
        ))
    }

    fn list(&self) -> Result<Vec<Object>, Error> {
        let mut objects = Vec::new();
        let mut token: Option<String> = None;
        let mut empty_pages = 0;
        loop {
            let mut query = BTreeMap::from([("list-type", "2".to_owned()), ("encoding-type", "url".to_owned())]);
            query.insert("prefix", self.prefix.clone());
            if let Some(token) = &token {
                query.insert("continuation-token", token.clone());
            }
            let bytes = self.get("", &query, MAX_PAGE)?;
            let nonsense = || self.failed("", bedrock_core::Error::bad_gateway("the list can't be read"));
            let page = Page::read(&bytes).ok_or_else(nonsense)?;
            empty_pages += usize::from(page.objects.is_empty());
            objects.extend(page.objects);
            if objects.len() > MAX_OBJECTS {
                let message = format!("there are more than {MAX_OBJECTS} objects");
                return Err(self.failed("", bedrock_core::Error::service_quota_exceeded(message)));
            }
            match page.next {
                Some(next) if empty_pages <= MAX_EMPTY_PAGES && token.as_ref() != Some(&next) => token = Some(next),
                Some(_) => return Err(nonsense()),
                None => return Ok(objects),
            }
        }
    }
}

impl DataSource for S3Bucket {
    fn documents(&self) -> Result<Vec<Source>, Error> {
        let objects = self.list()?;
        let keys: std::collections::HashSet<&str> = objects.iter().map(|object| object.key.as_str()).collect();
        let shared = Arc::new(self.clone());
        let mut sources = Vec::new();
        for object in &objects {
            // Folders that a console made are objects whose keys end so.
            if object.key.ends_with('/') || object.key.ends_with(SIDECAR_SUFFIX) {
                continue;
            }
            let sidecar = format!("{}{SIDECAR_SUFFIX}", object.key);
            let metadata = match keys.contains(sidecar.as_str()) {
                false => Ok(Metadata::new()),
                true => self
                    .get(&sidecar, &BTreeMap::new(), MAX_SIDECAR_BYTES)
                    .and_then(|bytes| parse_sidecar(&self.address(&sidecar), &bytes)),
            };
            let uri = self.address(&object.key);
            let (bucket, key) = (shared.clone(), object.key.clone());
            sources.push(match metadata {
                Ok(metadata) => {
                    let read = move |limit: u64| bucket.get(&key, &BTreeMap::new(), limit);
                    let version = Some(object.tag.clone()).filter(|tag| !tag.is_empty());
                    Source { metadata, version, ..Source::new(uri, Content::reader(read)) }
                }
                // That document's failure, not the list's.
                Err(error) => {
                    let error = std::sync::Mutex::new(Some(error));
                    let read = move |_| {
                        let error = error.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
                        Err(error.unwrap_or(Error::InvalidRequest("its sidecar could not be read".to_owned())))
                    };
                    Source::new(uri, Content::reader(read))
                }
            });
        }
        Ok(sources)
    }
}

#[derive(Debug, PartialEq)]
struct Object {
    key: String,
    tag: String,
}

/// A page of a list.
#[derive(Debug, Default, PartialEq)]
struct Page {
    objects: Vec<Object>,
    next: Option<String>,
}

impl Page {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::from_str(std::str::from_utf8(bytes).ok()?);
        reader.config_mut().expand_empty_elements = true;
        let (mut page, mut path, mut text) = (Self::default(), Vec::<String>::new(), String::new());
        let (mut key, mut tag, mut truncated, mut next, mut is_list) = (None, String::new(), false, None, false);
        loop {
            match reader.read_event().ok()? {
                Event::Start(start) => {
                    // Deeper than any list is.
                    if path.len() == 16 {
                        return None;
                    }
                    path.push(start.local_name().as_ref().to_owned());
                    text.clear();
                }
                Event::Text(part) => text.push_str(&part.into_inner()),
                // The five of XML and characters by number; there is no document type to define others in.
                Event::GeneralRef(part) => text.push(match (part.resolve_char_ref().ok()?, &*part.into_inner()) {
                    (Some(character), _) => character,
                    (None, "amp") => '&',
                    (None, "lt") => '<',
                    (None, "gt") => '>',
                    (None, "quot") => '"',
                    (None, "apos") => '\'',
                    (None, _) => return None,
                }),
                Event::End(_) => {
                    let names: Vec<&str> = path.iter().map(String::as_str).collect();
                    match names.as_slice() {
                        ["ListBucketResult"] => is_list = true,
                        ["ListBucketResult", "IsTruncated"] => truncated = text == "true",
                        ["ListBucketResult", "NextContinuationToken"] => next = Some(text.clone()),
                        ["ListBucketResult", "Contents", "Key"] => key = Some(unescaped(&text)?),
                        ["ListBucketResult", "Contents", "ETag"] => tag = text.clone(),
                        ["ListBucketResult", "Contents"] => {
                            page.objects.push(Object { key: key.take()?, tag: std::mem::take(&mut tag) });
                        }
                        _ => {}
                    }
                    path.pop();
                    text.clear();
                }
                Event::DocType(_) => return None,
                Event::Eof => break,
                _ => {}
            }
        }
        page.next = next.filter(|_| truncated);
        (is_list && path.is_empty() && (page.next.is_some() || !truncated)).then_some(page)
    }
}

/// SHA-256 of nothing, which is what a request to get has for a body.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Percent-encoding as signatures have it; slashes of keys stay.
fn escaped(text: &str, slashes: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(char::from(byte)),
            b'/' if slashes => escaped.push('/'),
            _ => drop(write!(escaped, "%{byte:02X}")),
        }
    }
    escaped
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                (digit(rest.next()?)? * 16 + digit(rest.next()?)?) as u8
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// `20130524T000000Z`.
fn timestamp(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since the first of March of the year 0, in eras of 400 years (Hinnant, "chrono-compatible low-level date algorithms").
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}{month:02}{day_of_month:02}T{:02}{:02}{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

fn keyed(key: &[u8], message: &str) -> Vec<u8> {
    // Keys of HMAC may have any length, so this does not fail.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The `authorization` of a request to get, by AWS Signature Version 4.
fn sign(
    credentials: &Credentials,
    region: &str,
    now: &str,
    path: &str,
    query: &str,
    headers: &BTreeMap<&str, &str>,
) -> String {
    let listed: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let names: Vec<&str> = headers.keys().copied().collect();
    let names = names.join(";");
    let canonical = format!("GET\n{path}\n{query}\n{listed}\n{names}\n{EMPTY}");
    let day = &now[..8];
    let scope = format!("{day}/{region}/s3/aws4_request");
    let signed = format!("AWS4-HMAC-SHA256\n{now}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let first = format!("AWS4{}", credentials.secret.expose()).into_bytes();
    let key = [day, region, "s3", "aws4_request"].into_iter().fold(first, |key, part| keyed(&key, part));
    let signature = hex(&keyed(&key, &signed));
    let id = &credentials.key_id;
    format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Credentials {
        let secret = Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
        Credentials { key_id: "AKIAIOSFODNN7EXAMPLE".into(), secret, token: None }
    }

    /// The examples of the signature's description.
    #[test]
    fn signatures_are_those_of_the_description() {
        let now = "20130524T000000Z";
        let host = "examplebucket.s3.amazonaws.com";
        let mut headers = BTreeMap::from([("host", host), ("x-amz-content-sha256", EMPTY), ("x-amz-date", now)]);
        let list = sign(&example(), "us-east-1", now, "/", "max-keys=2&prefix=J", &headers);
        assert!(list.ends_with("34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"), "{list}");
        headers.insert("range", "bytes=0-9");
        let get = sign(&example(), "us-east-1", now, "/test.txt", "", &headers);
        assert!(get.ends_with("f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"), "{get}");
        assert!(get.contains("SignedHeaders=host;range;x-amz-content-sha256;x-amz-date"));
    }

    #[test]
    fn times_are_dates() {
        for (seconds, expected) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_369_353_600, "20130524T000000Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn lists_are_read_or_refused() {
        let page = Page::read(
            br#"<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>true</IsTruncated>
            <Contents><Key>a+b%2Fc%C3%A4.md</Key><ETag>&quot;1f&#x22;</ETag><Size>3</Size></Contents>
            <NextContinuationToken>t&amp;1</NextContinuationToken></ListBucketResult>"#,
        );
        let object = Object { key: "a b/cä.md".into(), tag: "\"1f\"".into() };
        assert_eq!(page, Some(Page { objects: vec![object], next: Some("t&1".into()) }));
        for bad in [
            "",
            "<html></html>",
            "<ListBucketResult>",
            "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
            "<!DOCTYPE x [<!ENTITY a 'b'>]><ListBucketResult></ListBucketResult>",
            "<ListBucketResult><Contents><ETag>x</ETag></Contents></ListBucketResult>",
            "<ListBucketResult><Contents><Key>%F</Key></Contents></ListBucketResult>",
            &"<a>".repeat(100_000),
        ] {
            assert_eq!(Page::read(bad.as_bytes()), None, "{bad:.60}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let bucket = S3Bucket::new("b", "us-east-1").credentials("AKIA", "hunter2").session_token("hunter3");
        assert!(!format!("{bucket:?}").contains("hunter"));
        let error = bucket.endpoint("http://minio.example.org").documents().unwrap_err();
        assert!(matches!(&error, Error::DataSource { .. }) && !format!("{error:?}").contains("hunter"), "{error:?}");
    }
}
