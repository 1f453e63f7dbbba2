//! The requests that wait: bounded, in the order in which they are to be taken.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::request::Waiting;
use crate::error::Error;

/// A queue between callers and the thread of an engine.
///
/// A request goes before all that came later than it by [`aging`](crate::EngineOptions::aging) for each step that their
/// priorities are apart. So a request waits for more important ones, but not for ever: this order is fixed when it comes,
/// and only finitely many others can be before it.
pub(super) struct Queue {
    state: Mutex<State>,
    /// A request came, or the queue was closed.
    changed: Condvar,
    limit: usize,
    aging: Duration,
    since: Instant,
}

/// Nanoseconds from the start of the queue, shifted by priority; then the number of the request.
pub(super) type Place = (u128, u64);

struct State {
    waiting: BTreeMap<Place, Waiting>,
    open: bool,
    count: u64,
    rejected: u64,
}

impl Queue {
    pub(super) fn new(limit: usize, aging: Duration) -> Self {
        let state = State { waiting: BTreeMap::new(), open: true, count: 0, rejected: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new(), limit: limit.max(1), aging, since: Instant::now() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing below leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a request.
    ///
    /// # Errors
    /// [`Error::Busy`] if the queue is full, [`Error::EngineStopped`] if it is closed.
    pub(super) fn push(&self, mut request: Waiting) -> Result<(), Error> {
        let mut state = self.lock();
        if !state.open {
            return Err(Error::EngineStopped);
        }
        if state.waiting.len() >= self.limit {
            state.rejected += 1;
            return Err(Error::Busy);
        }
        state.count += 1;
        let came = request.since.saturating_duration_since(self.since).as_nanos();
        request.place = (came + request.priority.steps_down() * self.aging.as_nanos(), state.count);
        state.waiting.insert(request.place, request);
        self.changed.notify_all();
        Ok(())
    }

    /// The next request, if its turn comes before a place.
    pub(super) fn take_before(&self, place: Option<Place>) -> Option<Waiting> {
        let mut state = self.lock();
        let first = state.waiting.first_entry()?;
        place.is_none_or(|place| *first.key() < place).then(|| first.remove())
    }

    /// Puts a request back to its place.
    pub(super) fn restore(&self, request: Waiting) {
        self.lock().waiting.insert(request.place, request);
    }

    /// Takes out the requests that are not to be answered any more.
    pub(super) fn take_gone(&self, now: Instant) -> Vec<Waiting> {
        self.lock().waiting.extract_if(.., |_, request| request.gone.at(now)).map(|(_, request)| request).collect()
    }

    /// Waits until there is a request; false if there will be none any more.
    pub(super) fn wait(&self) -> bool {
        let unready = |state: &mut State| state.waiting.is_empty() && state.open;
        let state = self.changed.wait_while(self.lock(), unready).unwrap_or_else(PoisonError::into_inner);
        !state.waiting.is_empty()
    }

    /// Lets no further request in.
    pub(super) fn close(&self) {
        self.lock().open = false;
        self.changed.notify_all();
    }

    /// Requests that wait, and how many were refused.
    pub(super) fn counts(&self) -> (usize, u64) {
        let state = self.lock();
        (state.waiting.len(), state.rejected)
    }
}
