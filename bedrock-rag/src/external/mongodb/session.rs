//! The driver, and the thread that its connections live on.

use std::sync::Arc;
use std::time::Duration;

use bedrock_core::Error;
use futures::TryStreamExt;
use futures::channel::oneshot;
use mongodb::bson::RawDocumentBuf;
use mongodb::error::ErrorKind;
use mongodb::options::{ClientOptions, ServerAddress, ServerApi, ServerApiVersion, Tls};
use mongodb::{Client, Collection, Cursor, Database};
use tokio::runtime::{Builder, Handle};

use super::super::secret::Secret;

/// Largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 << 20;

/// Calls that are under way at once, each with a thread and a connection.
pub(super) const CONNECTIONS: usize = 4;

/// A collection, asked from a thread of a store while the driver's connections live on one of their own.
#[derive(Clone)]
pub(super) struct Session {
    io: Arc<Io>,
    pub(super) database: Database,
    pub(super) collection: Collection<RawDocumentBuf>,
    secrets: Arc<[Secret]>,
    timeout: Duration,
}

/// A thread that drives connections and timers until this is dropped.
struct Io {
    handle: Handle,
    _running: oneshot::Sender<()>,
}

/// Why a call failed.
pub(super) enum Failed {
    Driver(mongodb::error::Error),
    Refused(Error),
}

impl From<mongodb::error::Error> for Failed {
    fn from(error: mongodb::error::Error) -> Self {
        Self::Driver(error)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl Io {
    fn start() -> Result<Self, Error> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(Error::backend)?;
        let (handle, (running, ended)) = (runtime.handle().clone(), oneshot::channel::<()>());
        let work = move || {
            let _ = runtime.block_on(ended);
        };
        std::thread::Builder::new().name("mongodb-io".to_owned()).spawn(work).map_err(Error::backend)?;
        Ok(Self { handle, _running: running })
    }
}

/// A password may leave this machine encrypted, and only so.
fn keeps_passwords(options: &ClientOptions) -> bool {
    let local = |host: &ServerAddress| match host {
        ServerAddress::Tcp { host, .. } => ["localhost", "127.0.0.1", "::1", "[::1]"].contains(&host.as_str()),
        _ => true,
    };
    options.credential.is_none() || matches!(options.tls, Some(Tls::Enabled(_))) || options.hosts.iter().all(local)
}

impl Session {
    /// Reads the address, which may mean to look up names; nothing is connected yet.
    ///
    /// # Errors
    /// [`Error::Validation`] for an address that can't be read, or by which a password would leave this machine unencrypted;
    /// [`Error::ServiceUnavailable`] if the names of its servers are not found.
    pub(super) async fn open(
        address: &Secret,
        (database, collection): (&str, &str),
        timeout: Duration,
    ) -> Result<Self, Error> {
        if address.expose().starts_with("mongodb+srv:") && !cfg!(feature = "mongodb-srv") {
            return Err(Error::validation("an address that begins with mongodb+srv needs the feature mongodb-srv"));
        }
        let (io, text) = (Io::start()?, address.expose().to_owned());
        let read = async move {
            let Ok(parsed) = tokio::time::timeout(timeout, ClientOptions::parse(text)).await else {
                return Err(Error::service_unavailable("the names of MongoDB's servers were not found in time"));
            };
            let mut options = parsed.map_err(|error| match &*error.kind {
                ErrorKind::DnsResolve { .. } => {
                    Error::service_unavailable("the names of MongoDB's servers were not found")
                }
                // What the driver says may quote the password.
                _ => Error::validation("the address of MongoDB can't be read"),
            })?;
            if !keeps_passwords(&options) {
                return Err(Error::validation("the address of MongoDB has a password; it must say tls=true as well"));
            }
            options.app_name = Some("bedrock-rag".to_owned());
            options.connect_timeout = Some(timeout);
            options.server_selection_timeout = Some(timeout);
            options.max_pool_size = Some(CONNECTIONS as u32);
            // What is said here means the same to later servers.
            options.server_api.get_or_insert_with(|| ServerApi::builder().version(ServerApiVersion::V1).build());
            let password = options.credential.as_ref().and_then(|credential| credential.password.clone());
            let client =
                Client::with_options(options).map_err(|_| Error::validation("the address of MongoDB can't be used"))?;
            Ok((client, password))
        };
        let (client, password) = io.handle.spawn(read).await.map_err(Error::backend)??;
        let secrets = [Some(address.clone()), password.map(Secret::new)].into_iter().flatten().collect();
        let database = client.database(database);
        Ok(Self { io: Arc::new(io), collection: database.collection(collection), database, secrets, timeout })
    }

    /// Does work within the longest time of a call. Should the connection turn out to be lost, it is tried once more: everything done
    /// here can be done twice.
    pub(super) fn run<T>(&self, work: impl AsyncFn(&Self) -> Result<T, Failed>) -> Result<T, Error> {
        self.io.handle.block_on(async {
            let tries = async {
                match work(self).await {
                    Err(Failed::Driver(error)) if is_lost(&error) => work(self).await,
                    result => result,
                }
            };
            match tokio::time::timeout(self.timeout, tries).await {
                Ok(result) => result.map_err(|failed| match failed {
                    Failed::Refused(error) => error,
                    Failed::Driver(error) => self.explain(&error),
                }),
                // The driver closes the connection with what it was at.
                Err(_) => Err(Error::service_unavailable(format!("MongoDB did not answer within {:?}", self.timeout))),
            }
        })
    }

    /// Looks again and again until there is something, at most for so long.
    pub(super) fn poll<T>(
        &self,
        longest: Duration,
        look: impl AsyncFn(&Self) -> Result<Option<T>, Failed>,
    ) -> Result<Option<T>, Error> {
        let begun = std::time::Instant::now();
        let mut pause = Duration::from_millis(50);
        loop {
            let found = self.run(&look)?;
            if found.is_some() || begun.elapsed() + pause > longest {
                return Ok(found);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    fn explain(&self, error: &mongodb::error::Error) -> Error {
        let message = format!("MongoDB: {}", error.kind);
        let message = self.secrets.iter().fold(message, |message, secret| secret.redact(&message));
        match &*error.kind {
            ErrorKind::Authentication { .. } => Error::access_denied(message),
            ErrorKind::Command(refused) => match refused.code {
                // Unauthorized, AuthenticationFailed; NamespaceNotFound; MaxTimeMSExpired.
                13 | 18 => Error::access_denied(message),
                26 => Error::resource_not_found(message),
                50 => Error::service_unavailable(message),
                _ => Error::dependency_failed(message),
            },
            ErrorKind::Io(_)
            | ErrorKind::ServerSelection { .. }
            | ErrorKind::ConnectionPoolCleared { .. }
            | ErrorKind::DnsResolve { .. } => Error::service_unavailable(message),
            ErrorKind::InvalidResponse { .. } | ErrorKind::Bson(_) => Error::bad_gateway(message),
            ErrorKind::InvalidTlsConfig { .. } => Error::validation(message),
            // `InvalidArgument` too: what is given to the driver here are none of the caller's arguments; it calls lengths of the server so.
            _ => Error::dependency_failed(message),
        }
    }
}

fn is_lost(error: &mongodb::error::Error) -> bool {
    matches!(&*error.kind, ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. })
        || ["RetryableWriteError", "RetryableError"].iter().any(|label| error.contains_label(label))
}

/// All documents of an answer, of which no more than `most` are expected.
pub(super) async fn documents(mut cursor: Cursor<RawDocumentBuf>, most: usize) -> Result<Vec<RawDocumentBuf>, Failed> {
    let (mut all, mut bytes) = (Vec::new(), 0);
    while let Some(document) = cursor.try_next().await? {
        bytes += document.as_bytes().len();
        if all.len() == most || bytes > MAX_ANSWER {
            return Err(Error::bad_gateway("MongoDB answered with more than was asked for").into());
        }
        all.push(document);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocking::wait;

    #[test]
    fn passwords_do_not_leave_unencrypted_and_are_not_told() {
        let open =
            |address: &str| wait(Session::open(&Secret::new(address), ("d", "c"), Duration::from_secs(5))).map(drop);
        for address in [
            "mongodb://127.0.0.1:1/",
            "mongodb://me:hunter2@localhost:1/",
            "mongodb://me:hunter2@db.example.org/?tls=true",
            "mongodb://db.example.org",
        ] {
            open(address).unwrap();
        }
        for address in [
            "mongodb://me:hunter2@db.example.org",
            "mongodb://me:hunter2@localhost,db.example.org/",
            "mongodb://me:hunter2@db.example.org/?tls=false",
            "mongodb://me:hunter2/@localhost",
            "hunter2",
            "",
        ] {
            let error = open(address).unwrap_err();
            assert!(
                matches!(error, Error::Validation { .. }) && !format!("{error:?}").contains("hunter2"),
                "{address}"
            );
        }
        #[cfg(not(feature = "mongodb-srv"))]
        assert!(open("mongodb+srv://db.example.org").unwrap_err().to_string().contains("mongodb-srv"));
    }
}
