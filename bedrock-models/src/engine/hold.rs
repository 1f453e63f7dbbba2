//! Keeping an engine still between two turns.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Shared;

/// Keeps an [`Engine`](crate::Engine) from computing until it is dropped: see [`Engine::hold`](crate::Engine::hold).
#[must_use = "the engine goes on when it is dropped"]
pub struct Hold(Arc<Shared>);

impl Hold {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        shared.gate.close();
        Self(shared)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.gate.open();
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").finish_non_exhaustive()
    }
}

/// Through which the engine's thread goes into each turn.
#[derive(Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    holds: usize,
    in_turn: bool,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing below leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a turn when nobody holds the engine.
    pub(super) fn pass<T>(&self, turn: impl FnOnce() -> T) -> T {
        let open = self.changed.wait_while(self.lock(), |state| state.holds > 0);
        open.unwrap_or_else(PoisonError::into_inner).in_turn = true;
        let result = turn();
        self.lock().in_turn = false;
        self.changed.notify_all();
        result
    }

    /// Returns when the turn that is under way, if any, is over.
    fn close(&self) {
        let mut state = self.lock();
        state.holds += 1;
        drop(self.changed.wait_while(state, |state| state.in_turn).unwrap_or_else(PoisonError::into_inner));
    }

    fn open(&self) {
        self.lock().holds -= 1;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// Lets other threads do what they can.
    fn pause() {
        (0..2000).for_each(|_| thread::yield_now());
    }

    #[test]
    fn no_turn_begins_while_any_hold_is_alive() {
        let (gate, order) = (Gate::default(), Mutex::new(Vec::new()));
        let (about, is_about) = mpsc::channel();
        gate.close();
        gate.close();
        thread::scope(|scope| {
            scope.spawn(|| {
                about.send(()).unwrap();
                gate.pass(|| order.lock().unwrap().push("turn"));
            });
            is_about.recv().unwrap();
            gate.open();
            pause();
            order.lock().unwrap().push("held");
            gate.open();
        });
        assert_eq!(*order.lock().unwrap(), ["held", "turn"]);
    }

    #[test]
    fn a_hold_waits_for_the_turn_under_way() {
        let (gate, order) = (Gate::default(), Mutex::new(Vec::new()));
        let (begin, begun) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                gate.pass(|| {
                    begin.send(()).unwrap();
                    pause();
                    order.lock().unwrap().push("turn");
                });
            });
            begun.recv().unwrap();
            gate.close();
            order.lock().unwrap().push("held");
            gate.open();
        });
        assert_eq!(*order.lock().unwrap(), ["turn", "held"]);
    }
}
