//! Parsing on a thread of its own: its stack is of a known size, its panic is an error, its time is limited.
//!
//! Rust can't stop a thread. So the time limit has two halves: the code of this crate looks at the clock between rows,
//! paragraphs and drawing operations and gives up by itself; and should a library below it be lost in something of its own,
//! the caller stops waiting a little later and the thread is left to end by itself. How many may be left behind is limited.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::compose::Fault;
use super::panic_message;

/// Stack of a parsing thread. Libraries recurse a few hundred levels at most; this is several times what that takes.
const STACK_BYTES: usize = 16 << 20;

/// How much longer than its own limit a parser is waited for.
const GRACE: Duration = Duration::from_millis(500);

/// Threads that may be left behind at the same time.
const MAX_LEFT_BEHIND: usize = 4;

static LEFT_BEHIND: AtomicUsize = AtomicUsize::new(0);

const RUNNING: u8 = 0;
const ENDED: u8 = 1;
const LEFT: u8 = 2;

/// Runs `work` on a thread of its own and waits for it for at most `limit` and a little.
pub(super) fn confined<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    if LEFT_BEHIND.load(Ordering::Acquire) >= MAX_LEFT_BEHIND {
        return Err(Fault::Busy);
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    let state = Arc::new(AtomicU8::new(RUNNING));
    let its_state = state.clone();
    let thread = thread::Builder::new().name("document".to_owned()).stack_size(STACK_BYTES).spawn(move || {
        let done = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            Err(panic.downcast::<Fault>().map_or_else(|panic| Fault::Panicked(panic_message(&*panic)), |fault| *fault))
        });
        let _ = sender.send(done);
        if its_state.swap(ENDED, Ordering::AcqRel) == LEFT {
            LEFT_BEHIND.fetch_sub(1, Ordering::AcqRel);
        }
    });
    let thread = thread.map_err(|error| Fault::Panicked(format!("no thread could be started: {error}")))?;
    match receiver.recv_timeout(limit.saturating_add(GRACE)) {
        Ok(done) => {
            // It has nothing left to do; waiting keeps the number of threads what the caller expects.
            let _ = thread.join();
            done
        }
        Err(_) => {
            // Counted before it is said, so that the thread never subtracts what was not added.
            LEFT_BEHIND.fetch_add(1, Ordering::AcqRel);
            if state.compare_exchange(RUNNING, LEFT, Ordering::AcqRel, Ordering::Acquire).is_err() {
                LEFT_BEHIND.fetch_sub(1, Ordering::AcqRel);
            }
            Err(Fault::TimedOut)
        }
    }
}

/// Gives up from inside a library's callback that can't return an error. Caught by [`confined`]; the panic hook is not
/// called, so nothing is printed.
#[cfg(feature = "pdf")]
pub(super) fn abandon(fault: Fault) -> ! {
    std::panic::resume_unwind(Box::new(fault))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn overflow(depth: usize) -> usize {
        let page = std::hint::black_box([depth as u8; 512]);
        if depth == 0 { usize::from(page[0]) } else { overflow(depth - 1) + usize::from(page[1] & 1) }
    }

    #[test]
    fn panics_depth_and_time_are_confined() {
        let long = Duration::from_secs(600);
        assert_eq!(confined(long, || Ok(1)).unwrap(), 1);
        let panicked = confined(long, || -> Result<(), Fault> { panic!("lost") });
        assert!(matches!(panicked, Err(Fault::Panicked(message)) if message == "lost"));
        // Four megabytes of frames and more.
        assert!(confined(long, || Ok(overflow(8_000))).is_ok());
        // A parser that only comes back when it is told to.
        let (release, released) = mpsc::channel::<()>();
        let late = confined(Duration::from_millis(1), move || {
            let _ = released.recv();
            Ok(())
        });
        assert!(matches!(late, Err(Fault::TimedOut)));
        assert!(LEFT_BEHIND.load(Ordering::Acquire) >= 1);
        drop(release);
        let deadline = Instant::now() + Duration::from_secs(600);
        while LEFT_BEHIND.load(Ordering::Acquire) > 0 {
            assert!(Instant::now() < deadline, "a thread that ended is still counted");
            thread::sleep(Duration::from_millis(20));
        }
    }
}
