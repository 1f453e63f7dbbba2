//! A store of sessions in memory.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Error;
use crate::model::BoxFuture;
use crate::session::{
    ListSessionsRequest, ListSessionsResponse, Session, SessionStore, SessionSummary, unix_milliseconds,
};

/// Keeps sessions in memory: at most 1,000, each of at most 1 MiB of JSON, unless told otherwise.
#[derive(Debug)]
pub struct MemorySessionStore {
    max_sessions: usize,
    max_bytes: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    sessions: BTreeMap<String, Session>,
    /// The last version given to any session, so that none comes twice.
    version: u64,
}

impl MemorySessionStore {
    /// An empty store of at most this many sessions, each of at most this many bytes of JSON.
    pub fn with_limits(max_sessions: usize, max_bytes: usize) -> Self {
        Self { max_sessions, max_bytes, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save_now(&self, session: &mut Session) -> Result<(), Error> {
        Session::validate_id(&session.session_id)?;
        let bytes = serde_json::to_vec(session).map_err(Error::backend)?.len();
        if bytes > self.max_bytes {
            return Err(Error::service_quota_exceeded(format!(
                "session {:?} has {bytes} bytes; at most {} are kept",
                session.session_id, self.max_bytes
            )));
        }
        let mut inner = self.lock();
        let stored = inner.sessions.get(&session.session_id).map_or(0, |stored| stored.version);
        if stored != session.version {
            return Err(Error::conflict(format!(
                "session {:?} is at version {stored}, not {}",
                session.session_id, session.version
            )));
        }
        if stored == 0 && inner.sessions.len() >= self.max_sessions {
            return Err(Error::service_quota_exceeded(format!("{} sessions are kept at most", self.max_sessions)));
        }
        inner.version += 1;
        let now = unix_milliseconds();
        session.version = inner.version;
        session.created_at = if stored == 0 { now } else { session.created_at };
        session.updated_at = now.max(session.updated_at);
        inner.sessions.insert(session.session_id.clone(), session.clone());
        Ok(())
    }
}

impl Default for MemorySessionStore {
    fn default() -> Self {
        Self::with_limits(1000, 1024 * 1024)
    }
}

impl SessionStore for MemorySessionStore {
    fn load<'a>(&'a self, session_id: &'a str) -> BoxFuture<'a, Result<Option<Session>, Error>> {
        Box::pin(async move {
            Session::validate_id(session_id)?;
            Ok(self.lock().sessions.get(session_id).cloned())
        })
    }

    fn save<'a>(&'a self, session: &'a mut Session) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move { self.save_now(session) })
    }

    fn delete<'a>(&'a self, session_id: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            Session::validate_id(session_id)?;
            self.lock().sessions.remove(session_id);
            Ok(())
        })
    }

    fn list<'a>(&'a self, request: &'a ListSessionsRequest) -> BoxFuture<'a, Result<ListSessionsResponse, Error>> {
        Box::pin(async move {
            let size = request.page_size()?;
            let inner = self.lock();
            let after = request.next_token.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut rest = inner.sessions.range::<str, _>((after, Bound::Unbounded)).map(|(_, session)| session);
            let session_summaries: Vec<SessionSummary> = rest.by_ref().take(size).map(Into::into).collect();
            let more = rest.next().is_some();
            let last = session_summaries.last().map(|last| last.session_id.clone());
            Ok(ListSessionsResponse { session_summaries, next_token: last.filter(|_| more) })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_nothing_is_forgotten() {
        let store = MemorySessionStore::with_limits(2, 200);
        let (mut a, mut b, mut c) = (Session::new("s-a"), Session::new("s-b"), Session::new("s-c"));
        store.save_blocking(&mut a).unwrap();
        store.save_blocking(&mut b).unwrap();
        assert!(matches!(store.save_blocking(&mut c), Err(Error::ServiceQuotaExceeded { .. })));
        store.save_blocking(&mut a).unwrap();
        let before = b.clone();
        b.attributes.insert("long".into(), "x".repeat(200));
        assert!(matches!(store.save_blocking(&mut b), Err(Error::ServiceQuotaExceeded { .. })));
        assert_eq!(store.load_blocking("s-b").unwrap(), Some(before));
        store.delete_blocking("s-b").unwrap();
        store.save_blocking(&mut c).unwrap();
    }

    #[test]
    fn no_count_is_lost_between_threads() {
        let store = MemorySessionStore::default();
        store.save_blocking(&mut Session::new("counter")).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        loop {
                            let mut session = store.load_blocking("counter").unwrap().unwrap();
                            let count = session.state.get("count").and_then(|count| count.as_u64()).unwrap_or(0);
                            session.state.insert("count".into(), (count + 1).into());
                            match store.save_blocking(&mut session) {
                                Ok(()) => break,
                                Err(Error::Conflict { .. }) => {}
                                Err(error) => panic!("{error}"),
                            }
                        }
                    }
                });
            }
        });
        assert_eq!(store.load_blocking("counter").unwrap().unwrap().state["count"], 200);
    }
}
