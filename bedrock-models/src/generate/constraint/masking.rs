//! Which tokens may come next, computed while the model computes how likely they are.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;

use super::closing::Closer;
use super::{STACK, first_line};
use crate::error::Error;

/// A token to take in, and where the mask for the next one goes. There is at most one for each running generation.
pub(super) struct Job {
    matcher: Box<Matcher>,
    id: u32,
    done: SyncSender<Done>,
}

type Done = (Box<Matcher>, Result<SimpleVob, String>);

/// Starts the thread that computes masks. It ends when the last sender is dropped.
pub(super) fn start() -> Result<Sender<Job>, Error> {
    let (jobs, queue) = channel::<Job>();
    thread::Builder::new()
        .name("bedrock-masks".into())
        .stack_size(STACK)
        .spawn(move || {
            for Job { mut matcher, id, done } in queue {
                // A panic inside is caught by the matcher and is an error like any other.
                let mask = matcher.consume_token(id).and_then(|()| matcher.compute_mask_or_eos());
                // The generation may have ended meanwhile.
                let _ = done.send((matcher, mask.map_err(|error| first_line(&error))));
            }
        })
        .map_err(|source| Error::Thread { source })?;
    Ok(jobs)
}

/// The masks of one generation, one after the other.
pub(crate) struct Masking {
    state: State,
    jobs: Sender<Job>,
    /// Logits after masking; kept, so that no memory is allocated from the second token on.
    masked: Vec<f32>,
    closer: Closer,
}

enum State {
    Ready(Box<Matcher>, SimpleVob),
    Computing(Receiver<Done>),
    Failed,
}

impl Masking {
    pub(super) fn new(matcher: Matcher, mask: SimpleVob, jobs: Sender<Job>, closer: Closer) -> Self {
        Self { state: State::Ready(Box::new(matcher), mask), jobs, masked: Vec::new(), closer }
    }

    /// The token to take where `id` was chosen and `left` more may follow it: another one if after `id` the text could
    /// not be completed any more.
    pub(crate) fn settle(&mut self, id: u32, left: usize) -> u32 {
        self.closer.settle(id, left)
    }

    /// The logits, with `-inf` for every token that may not come next. Waits for the mask if it is not there yet.
    ///
    /// # Errors
    /// [`Error::ConstraintFailed`] if following the constraint has become too much work, or the vocabulary has no token for what must
    /// come next.
    pub(crate) fn apply(&mut self, logits: &[f32]) -> Result<&[f32], Error> {
        if let State::Computing(done) = &self.state {
            let (matcher, mask) = done.recv().map_err(|_| Error::EngineFailed)?;
            self.state = State::Failed;
            let mask = mask.map_err(|reason| Error::ConstraintFailed { reason })?;
            self.state = State::Ready(matcher, mask);
        }
        let State::Ready(_, mask) = &self.state else { return Err(Error::EngineFailed) };
        self.masked.clear();
        self.masked.resize(logits.len(), f32::NEG_INFINITY);
        let words = mask.as_slice().iter().zip(logits.chunks(32).zip(self.masked.chunks_mut(32)));
        for (&word, (from, to)) in words {
            match word {
                0 => {}
                u32::MAX => to.copy_from_slice(from),
                _ => {
                    let bits = from.iter().zip(to).enumerate();
                    bits.filter(|(bit, _)| word >> bit & 1 == 1).for_each(|(_, (from, to))| *to = *from);
                }
            }
        }
        Ok(&self.masked)
    }

    /// Takes the chosen token in and begins to compute the next mask.
    pub(crate) fn advance(&mut self, id: u32) {
        if let State::Ready(matcher, _) = std::mem::replace(&mut self.state, State::Failed) {
            let (done, result) = sync_channel(1);
            // If the thread is gone, so is the sender in the job, which the next mask reports.
            let _ = self.jobs.send(Job { matcher, id, done });
            self.state = State::Computing(result);
        }
    }
}
