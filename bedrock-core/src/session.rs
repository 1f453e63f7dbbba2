//! Sessions: what a conversation needs to go on another day, in another process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures::executor::block_on;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::Error;
use crate::message::Message;
use crate::model::BoxFuture;

/// A conversation that is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Its name: 2–100 ASCII letters, digits, `_`, `.`, `:` or `-`.
    pub session_id: String,
    /// Which state of the session this is; 0 for one that was never saved. The store's to set.
    pub version: u64,
    /// When it was first saved, in milliseconds since 1970, UTC. The store's to set.
    pub created_at: u64,
    /// When it was last saved, in milliseconds since 1970, UTC. The store's to set.
    pub updated_at: u64,
    /// What was said, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Message>,
    /// What the application says about the session, such as who asks: tools are told, the model may be.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// What else whoever runs the conversation must remember: summaries, calls that wait for their result.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub state: Map<String, Value>,
}

impl Session {
    /// A session in which nothing was said.
    pub fn new(session_id: impl Into<String>) -> Self {
        Self { session_id: session_id.into(), ..Self::default() }
    }

    /// Checks the characters and the length of the name, for a store before it makes a file name or a query of it.
    ///
    /// # Errors
    /// [`Error::Validation`].
    pub fn validate_id(session_id: &str) -> Result<(), Error> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
        if let Some(byte) = session_id.bytes().find(|&byte| !allowed(byte)) {
            return Err(Error::validation(format!(
                "sessionId has the byte {byte:#04x}; allowed are ASCII letters, digits, _ . : and -"
            )));
        }
        if !(2..=100).contains(&session_id.len()) {
            return Err(Error::validation(format!(
                "sessionId has {} characters; it must have 2 to 100",
                session_id.len()
            )));
        }
        if session_id.bytes().all(|byte| byte == b'.') {
            return Err(Error::validation("sessionId has dots alone"));
        }
        Ok(())
    }

    /// Whether nothing was saved for this many milliseconds, by this machine's clock.
    pub fn is_idle_for(&self, milliseconds: u64) -> bool {
        unix_milliseconds().saturating_sub(self.updated_at) >= milliseconds
    }
}

/// Milliseconds since 1970, UTC; 0 for a clock before that.
pub(crate) fn unix_milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What a list says about a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionSummary {
    /// Its name.
    pub session_id: String,
    /// Its state.
    pub version: u64,
    /// When it was first saved, in milliseconds since 1970, UTC.
    pub created_at: u64,
    /// When it was last saved, in milliseconds since 1970, UTC.
    pub updated_at: u64,
}

impl From<&Session> for SessionSummary {
    fn from(session: &Session) -> Self {
        Self {
            session_id: session.session_id.clone(),
            version: session.version,
            created_at: session.created_at,
            updated_at: session.updated_at,
        }
    }
}

/// Which part of the list of sessions is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListSessionsRequest {
    /// At most this many, 1–1,000. Default: 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_results: Option<u32>,
    /// Continues an earlier list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

impl ListSessionsRequest {
    /// How many sessions a page has at most.
    ///
    /// # Errors
    /// [`Error::Validation`] for a number outside 1–1,000.
    pub fn page_size(&self) -> Result<usize, Error> {
        match self.max_results.unwrap_or(100) {
            size @ 1..=1000 => Ok(size as usize),
            size => Err(Error::validation(format!("maxResults is {size}; it must be from 1 to 1000"))),
        }
    }
}

/// A part of the list of sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListSessionsResponse {
    /// The sessions, in the order of their names (of the bytes).
    pub session_summaries: Vec<SessionSummary>,
    /// Asks for more; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// Where sessions are kept.
///
/// # Contract
/// - *No write is lost.* A session is saved only over the version that it was loaded as; whoever comes second gets
///   [`Error::Conflict`], loads again and decides. Versions rise, and none is given twice for one name, not even after the
///   session was deleted and made anew.
/// - What was saved is there for every later [`load`](Self::load), after a crash too, if the store says that it is durable.
/// - A store is bounded: what is too large or too much is [`Error::ServiceQuotaExceeded`], and nothing is forgotten for it.
///
/// `testing::check_session_store` (feature `testing`) checks what can be checked from outside.
pub trait SessionStore: Send + Sync {
    /// The session of this name as it was last saved; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Validation`] for what is no name; [`Error::Backend`] if the store can't be read.
    fn load<'a>(&'a self, session_id: &'a str) -> BoxFuture<'a, Result<Option<Session>, Error>>;

    /// Saves a session and sets its version and times. If that fails, `session` is as it was, and so is what is stored.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the version stored is not `session.version`, or if the session was deleted; [`Error::Validation`]
    /// for what is no name; [`Error::ServiceQuotaExceeded`] if it does not fit; [`Error::Backend`] if it can't be written.
    fn save<'a>(&'a self, session: &'a mut Session) -> BoxFuture<'a, Result<(), Error>>;

    /// Deletes a session. One that is not there is no error.
    ///
    /// # Errors
    /// [`Error::Validation`] for what is no name; [`Error::Backend`] if the store can't be written.
    fn delete<'a>(&'a self, session_id: &'a str) -> BoxFuture<'a, Result<(), Error>>;

    /// The sessions, page by page. Pages do not overlap; what is saved or deleted meanwhile may be on one or not.
    ///
    /// # Errors
    /// [`Error::Validation`] for a size of the page outside 1–1,000; [`Error::Backend`] if the store can't be read.
    fn list<'a>(&'a self, request: &'a ListSessionsRequest) -> BoxFuture<'a, Result<ListSessionsResponse, Error>>;

    /// [`SessionStore::load`] for callers without an async runtime: blocks the thread until the session is there.
    ///
    /// # Errors
    /// As [`SessionStore::load`].
    fn load_blocking(&self, session_id: &str) -> Result<Option<Session>, Error> {
        block_on(self.load(session_id))
    }

    /// [`SessionStore::save`] for callers without an async runtime: blocks the thread until the session is saved.
    ///
    /// # Errors
    /// As [`SessionStore::save`].
    fn save_blocking(&self, session: &mut Session) -> Result<(), Error> {
        block_on(self.save(session))
    }

    /// [`SessionStore::delete`] for callers without an async runtime: blocks the thread until the session is gone.
    ///
    /// # Errors
    /// As [`SessionStore::delete`].
    fn delete_blocking(&self, session_id: &str) -> Result<(), Error> {
        block_on(self.delete(session_id))
    }

    /// [`SessionStore::list`] for callers without an async runtime: blocks the thread until the page is there.
    ///
    /// # Errors
    /// As [`SessionStore::list`].
    fn list_blocking(&self, request: &ListSessionsRequest) -> Result<ListSessionsResponse, Error> {
        block_on(self.list(request))
    }
}

macro_rules! forward {
    ($($pointer:ident),*) => {$(
        impl<T: SessionStore + ?Sized> SessionStore for $pointer<T> {
            fn load<'a>(&'a self, session_id: &'a str) -> BoxFuture<'a, Result<Option<Session>, Error>> {
                (**self).load(session_id)
            }
            fn save<'a>(&'a self, session: &'a mut Session) -> BoxFuture<'a, Result<(), Error>> {
                (**self).save(session)
            }
            fn delete<'a>(&'a self, session_id: &'a str) -> BoxFuture<'a, Result<(), Error>> {
                (**self).delete(session_id)
            }
            fn list<'a>(
                &'a self,
                request: &'a ListSessionsRequest,
            ) -> BoxFuture<'a, Result<ListSessionsResponse, Error>> {
                (**self).list(request)
            }
        }
    )*};
}
forward!(Arc, Box);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_a_folder_are_refused() {
        for bad in ["", "a", "..", "...", "../etc", "a/b", "a\\b", "a b", "a\0b", "ä!", &"x".repeat(101)] {
            assert!(matches!(Session::validate_id(bad), Err(Error::Validation { .. })), "{bad:?}");
        }
        for good in ["ab", "a.b", "A_1:2-3", "7f3c2a10-0000-4000-8000-000000000000", &"x".repeat(100)] {
            Session::validate_id(good).unwrap();
        }
    }

    #[test]
    fn a_session_survives_json() {
        let mut session = Session::new("s1");
        session.messages.push(Message::user("hi"));
        session.attributes.insert("user".into(), "ann".into());
        session.state.insert("summary".into(), "none yet".into());
        let json = serde_json::to_string(&session).unwrap();
        assert_eq!(serde_json::from_str::<Session>(&json).unwrap(), session);
        assert!(json.contains("\"sessionId\":\"s1\""), "{json}");
    }

    #[test]
    fn idle_is_counted_from_the_last_save() {
        let mut session = Session::new("s1");
        session.updated_at = unix_milliseconds();
        assert!(session.is_idle_for(0) && !session.is_idle_for(60_000));
        session.updated_at -= 60_000;
        assert!(session.is_idle_for(60_000));
        session.updated_at = u64::MAX;
        assert!(!session.is_idle_for(1), "a clock that was set back is no reason to forget");
    }
}
