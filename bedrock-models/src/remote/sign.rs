//! Signatures of requests: AWS Signature Version 4.

use std::fmt;
use std::time::SystemTime;

use bedrock_core::Error;
use hmac::{Hmac, Mac};
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

use super::clock::stamp;
use super::secret::Secret;

/// The keys of an AWS account or role.
#[derive(Debug, Clone)]
pub struct AwsCredentials {
    /// Which key: not a secret.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: Secret,
    /// Of keys that expire, the token that goes with them.
    pub session_token: Option<Secret>,
}

/// Signs requests to one service in one region.
#[derive(Clone)]
pub(super) struct Signer {
    credentials: AwsCredentials,
    region: String,
    service: &'static str,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("region", &self.region).field("service", &self.service).finish_non_exhaustive()
    }
}

impl Signer {
    pub(super) fn new(credentials: AwsCredentials, region: String, service: &'static str) -> Self {
        Self { credentials, region, service }
    }

    /// What must not be shown.
    pub(super) fn secrets(&self) -> impl Iterator<Item = Secret> + '_ {
        [Some(&self.credentials.secret_access_key), self.credentials.session_token.as_ref()]
            .into_iter()
            .flatten()
            .cloned()
    }

    /// Adds the headers that sign a request, whose other headers are complete. `accept` and `user-agent`, which proxies change, are not
    /// signed.
    pub(super) fn sign(
        &self,
        method: &str,
        url: &Url,
        headers: &mut HeaderMap,
        body: &[u8],
        now: SystemTime,
    ) -> Result<(), Error> {
        let refused = |_| Error::validation("the AWS credentials have characters that no header may have");
        let stamp = stamp(now);
        headers.insert(HeaderName::from_static("x-amz-date"), HeaderValue::from_str(&stamp).map_err(refused)?);
        if let Some(token) = &self.credentials.session_token {
            let mut value = HeaderValue::from_str(token.expose()).map_err(refused)?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static("x-amz-security-token"), value);
        }
        let host = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or_default().to_owned(),
        };
        let mut signed = vec![("host".to_owned(), host)];
        for (name, value) in headers.iter() {
            let name = name.as_str();
            if name == "content-type" || name.starts_with("x-amz") {
                let value = value.to_str().map_err(|_| Error::validation(format!("{name} can't be signed")))?;
                signed.push((name.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" ")));
            }
        }
        signed.sort();
        let signature = self.signature(method, url, &signed, &hex(&Sha256::digest(body)), &stamp);
        let mut value = HeaderValue::from_str(&signature).map_err(refused)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
        Ok(())
    }

    /// The `Authorization` header. `signed` are the headers to sign, sorted by name.
    fn signature(&self, method: &str, url: &Url, signed: &[(String, String)], body: &str, stamp: &str) -> String {
        let names = signed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
        let lines: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let path = encoded(url.path());
        let canonical = format!("{method}\n{path}\n{}\n{lines}\n{names}\n{body}", query(url));
        let day = stamp.get(..8).unwrap_or_default();
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        let key = format!("AWS4{}", self.credentials.secret_access_key.expose());
        let key = [day, &self.region, self.service, "aws4_request"]
            .iter()
            .fold(zeroize::Zeroizing::new(key.into_bytes()), |key, part| {
                zeroize::Zeroizing::new(mac(&key, part.as_bytes()))
            });
        let signature = hex(&mac(&key, text.as_bytes()));
        let id = &self.credentials.access_key_id;
        format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}")
    }
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    // HMAC takes keys of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes any key"));
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A path that is encoded once more, as all services but S3 want it. What is encoded already has its `%` encoded.
fn encoded(path: &str) -> String {
    path.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

/// The query, sorted by name and value.
fn query(url: &Url) -> String {
    let mut pairs: Vec<String> = url
        .query_pairs()
        .map(|(name, value)| {
            let part = |text: &str| encoded(text).replace('/', "%2F");
            format!("{}={}", part(&name), part(&value))
        })
        .collect();
    pairs.sort();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::time::Duration;

    /// Computed by botocore; two of them are published by AWS. See `scripts/reference/remote_signatures.py`.
    const CASES: &str = include_str!("../../tests/fixtures/remote/signatures.json");

    #[test]
    fn signatures_are_those_of_aws() {
        let cases: Vec<Value> = serde_json::from_str(CASES).unwrap();
        for case in &cases {
            let text = |name: &str| case[name].as_str().unwrap();
            let credentials = AwsCredentials {
                access_key_id: "AKIDEXAMPLE".into(),
                secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
                session_token: case["token"].as_str().map(Secret::from),
            };
            let service = if text("service") == "bedrock" { "bedrock" } else { "service" };
            let signer = Signer::new(credentials, text("region").into(), service);
            let mut headers = HeaderMap::new();
            headers.insert("accept", HeaderValue::from_static("not signed"));
            for (name, value) in case["headers"].as_object().unwrap() {
                let name = HeaderName::try_from(name.as_str()).unwrap();
                headers.insert(name, HeaderValue::from_str(value.as_str().unwrap()).unwrap());
            }
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160);
            let url = Url::parse(text("url")).unwrap();
            signer.sign(text("method"), &url, &mut headers, text("body").as_bytes(), now).unwrap();
            assert_eq!(headers[AUTHORIZATION].to_str().unwrap(), text("authorization"), "{}", text("url"));
            assert!(headers[AUTHORIZATION].is_sensitive());
            assert!(!format!("{signer:?}").contains("wJalr"));
        }
        assert_eq!(cases.len(), 5);
    }
}
