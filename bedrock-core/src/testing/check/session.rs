//! The laws of session stores.

use std::collections::BTreeSet;

use serde_json::json;

use super::is_validation;
use crate::error::Error;
use crate::message::Message;
use crate::session::{ListSessionsRequest, Session, SessionStore};

fn is_conflict(result: &Result<(), Error>) -> bool {
    matches!(result, Err(Error::Conflict { .. }))
}

/// Checks a store of sessions. It may hold sessions already; those that are called `check-session-…` are deleted.
///
/// Laws: what was saved is loaded; of two writers from one version one is refused, and nothing changes by that, also if
/// both write at once; versions rise and never come again after a deletion; times do not go back; a list has each session
/// once, in order, whatever the size of its pages; to delete twice is no error; what is no name is refused.
///
/// # Panics
/// If a law is broken.
pub async fn check_session_store(store: &dyn SessionStore) {
    let names: Vec<String> = (0..5).map(|n| format!("check-session-{n}")).collect();
    for name in &names {
        store.delete(name).await.expect("to delete what is not there is no error");
        assert_eq!(store.load(name).await.expect("a session that is not there is no error"), None, "it is not there");
    }
    let load = async |name: &str| store.load(name).await.expect("a session is loaded").expect("the session is there");

    let mut first = Session::new(&names[0]);
    first.messages = vec![Message::user("Grüße, 🦀"), Message::assistant("Hello.")];
    first.attributes.insert("user".into(), "ann".into());
    first.state = json!({"deep": [{"er": null}]}).as_object().cloned().unwrap_or_default();
    let fresh = first.clone();
    store.save(&mut first).await.expect("a session is saved");
    assert!(first.version > 0, "a session that was saved has a version");
    assert!(first.created_at > 0 && first.created_at <= first.updated_at, "the times are set: {first:?}");
    let unchanged = Session { version: 0, created_at: fresh.created_at, updated_at: fresh.updated_at, ..first.clone() };
    assert_eq!(unchanged, fresh, "nothing but version and times is changed");
    assert_eq!(load(&names[0]).await, first, "what was saved is loaded");

    let mut twin = fresh.clone();
    assert!(is_conflict(&store.save(&mut twin).await), "a new session of a name that is taken is refused");
    assert_eq!(twin, fresh, "a refused session is as it was");

    let (mut a, mut b) = (load(&names[0]).await, load(&names[0]).await);
    a.messages.push(Message::user("a"));
    b.messages.push(Message::user("b"));
    store.save(&mut a).await.expect("the first of two writers succeeds");
    assert!(a.version > first.version, "versions rise: {} after {}", a.version, first.version);
    assert!(a.created_at == first.created_at && a.updated_at >= first.updated_at, "times do not go back");
    assert!(is_conflict(&store.save(&mut b).await), "the second of two writers is refused");
    assert_eq!(load(&names[0]).await, a, "a refused write changes nothing");

    let (mut a, mut b) = (a.clone(), a);
    let (one, other) = futures::join!(store.save(&mut a), store.save(&mut b));
    assert!(one.is_ok() != other.is_ok(), "of two writers at once one succeeds: {one:?}, {other:?}");
    assert!(is_conflict(&one) || is_conflict(&other), "of two writers at once one is refused: {one:?}, {other:?}");
    let last = if one.is_ok() { a } else { b };

    store.delete(&names[0]).await.expect("a session is deleted");
    store.delete(&names[0]).await.expect("to delete twice is no error");
    assert_eq!(store.load(&names[0]).await.expect("no error"), None, "what was deleted is gone");
    assert!(is_conflict(&store.save(&mut last.clone()).await), "a session that was deleted does not come back");
    let mut again = Session::new(&names[0]);
    store.save(&mut again).await.expect("a name can be used again");
    assert!(again.version > last.version, "no version is given twice: {} after {}", again.version, last.version);
    assert!(is_conflict(&store.save(&mut last.clone()).await), "an earlier session of the name is refused");

    // Not in their order.
    for name in names[1..].iter().rev() {
        store.save(&mut Session::new(name)).await.expect("a session is saved");
    }
    for max_results in [Some(1), Some(2), Some(3), None] {
        let mut request = ListSessionsRequest { max_results, next_token: None };
        let mut found = Vec::new();
        loop {
            let page = store.list(&request).await.expect("sessions are listed");
            let most = request.page_size().expect("a valid size");
            assert!(page.session_summaries.len() <= most, "a page has at most {most} sessions");
            found.extend(page.session_summaries);
            match page.next_token {
                Some(token) => request.next_token = Some(token),
                None => break,
            }
            assert!(found.len() < 100_000, "a list ends");
        }
        assert!(found.windows(2).all(|pair| pair[0].session_id < pair[1].session_id), "each once, in order: {found:?}");
        let listed: BTreeSet<&str> = found.iter().map(|summary| summary.session_id.as_str()).collect();
        assert!(names.iter().all(|name| listed.contains(name.as_str())), "all are listed: {found:?}");
        let summary = found.iter().find(|summary| summary.session_id == names[0]);
        assert_eq!(summary, Some(&(&again).into()), "a list says what is saved");
    }
    for size in [0, 1001] {
        let request = ListSessionsRequest { max_results: Some(size), next_token: None };
        assert!(is_validation(&store.list(&request).await), "a page of {size} is refused");
    }

    for name in ["", "x", "..", "../check", "check session", "check\0", &"x".repeat(101)] {
        assert!(is_validation(&store.load(name).await), "{name:?} is no name to load");
        assert!(is_validation(&store.delete(name).await), "{name:?} is no name to delete");
        assert!(is_validation(&store.save(&mut Session::new(name)).await), "{name:?} is no name to save");
    }
    for name in &names {
        store.delete(name).await.expect("a session is deleted");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::executor::block_on;

    use super::super::tests::fails;
    use super::*;
    use crate::model::BoxFuture;
    use crate::session::ListSessionsResponse;
    use crate::testing::MemorySessionStore;

    #[test]
    fn the_double_keeps_to_the_laws() {
        let store = Arc::new(MemorySessionStore::default());
        block_on(check_session_store(&store));
        store.save_blocking(&mut Session::new("somebody-else")).unwrap();
        let boxed: Box<dyn SessionStore> = Box::new(store);
        block_on(check_session_store(&boxed));
        assert_eq!(boxed.list_blocking(&ListSessionsRequest::default()).unwrap().session_summaries.len(), 1);
    }

    /// A store that writes whatever comes over what is there.
    struct Careless(MemorySessionStore);

    impl SessionStore for Careless {
        fn load<'a>(&'a self, session_id: &'a str) -> BoxFuture<'a, Result<Option<Session>, Error>> {
            self.0.load(session_id)
        }
        fn save<'a>(&'a self, session: &'a mut Session) -> BoxFuture<'a, Result<(), Error>> {
            Box::pin(async move {
                let stored = self.0.load(&session.session_id).await?;
                session.version = stored.map_or(0, |stored| stored.version);
                self.0.save(session).await
            })
        }
        fn delete<'a>(&'a self, session_id: &'a str) -> BoxFuture<'a, Result<(), Error>> {
            self.0.delete(session_id)
        }
        fn list<'a>(&'a self, request: &'a ListSessionsRequest) -> BoxFuture<'a, Result<ListSessionsResponse, Error>> {
            self.0.list(request)
        }
    }

    #[test]
    fn a_store_that_loses_writes_is_found() {
        fails(
            || block_on(check_session_store(&Careless(MemorySessionStore::default()))),
            "a name that is taken is refused",
        );
    }
}
