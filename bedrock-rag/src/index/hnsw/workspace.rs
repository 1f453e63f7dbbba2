//! What searches write on, handed from one to the next.

use std::sync::{Mutex, PoisonError};

use super::walk::Scratch;

/// As many as have ever been in use at once.
#[derive(Debug, Default)]
pub(super) struct Workspace(Mutex<Vec<Scratch>>);

impl Workspace {
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        // What a search that panicked held is gone with it; the rest is whole.
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = lock().pop().unwrap_or_default();
        let result = work(&mut scratch);
        lock().push(scratch);
        result
    }
}
