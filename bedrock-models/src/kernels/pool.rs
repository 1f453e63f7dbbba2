//! A fork-join pool for regions of a few microseconds.
//!
//! A decode step enters about 150 parallel regions. `rayon::join` from outside its pool costs 14 µs each, more than
//! the second core gains, so the workers here spin for a short while between regions and then park. The caller
//! takes part itself and claims whatever chunks nobody else has, so a worker that the operating system does not
//! run delays nothing.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, Thread};
use std::{fmt, hint, thread};

use super::memory::Memory;
use super::panels::{Line, lines, lines_mut};
use super::scratch::Scratch;
use super::tile::COLUMNS;

/// Turns of the spin loop before a worker parks: about 20 µs, several times the gap between two regions of a step.
const SPINS: usize = 1_500;

type Job = *const (dyn Fn(usize) + Sync);

struct Shared {
    /// The running region's closure; valid to call while `open` is set and the reader is counted in `active`.
    job: Mutex<Option<JobPointer>>,
    chunks: AtomicUsize,
    /// How many ranges the chunks are in, at most one a thread.
    ranges: AtomicUsize,
    /// Of each range, the first chunk that nobody has taken.
    next: Box<[Next]>,
    /// Number of the open region; 0 while none is open.
    open: AtomicUsize,
    active: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
}

/// On a cache line of its own, since its thread takes most of a range.
#[derive(Default)]
#[repr(align(64))]
struct Next(AtomicUsize);

#[derive(Clone, Copy)]
struct JobPointer(Job);
// SAFETY: the pointee is `Sync`, and `Pool::run` keeps it alive until no worker is counted in `active`.
unsafe impl Send for JobPointer {}

/// Worker threads that run parallel regions for one caller at a time.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<(JoinHandle<()>, Arc<AtomicBool>)>,
    /// Held during a region; counts them. A second caller meanwhile runs its region alone.
    region: Mutex<usize>,
    /// Of the results that regions compute.
    pub(crate) memory: Memory,
    pub(crate) scratch: Scratch,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish()
    }
}

impl Pool {
    /// A pool in which `threads` threads work, the caller included; 0 means one per core.
    pub fn new(threads: usize) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = if threads == 0 { cores } else { threads }.clamp(1, 256);
        let shared = Arc::new(Shared {
            job: Mutex::new(None),
            chunks: AtomicUsize::new(0),
            ranges: AtomicUsize::new(1),
            next: (0..threads).map(|_| Next::default()).collect(),
            open: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let workers = (1..threads)
            .map_while(|index| {
                let (shared, parked) = (shared.clone(), Arc::new(AtomicBool::new(false)));
                let flag = parked.clone();
                // A refused thread only makes the pool smaller: the caller does the work.
                let handle = thread::Builder::new()
                    .name(format!("bedrock-kernel-{index}"))
                    .spawn(move || work(&shared, index, &flag))
                    .ok()?;
                Some((handle, parked))
            })
            .collect();
        Self { shared, workers, region: Mutex::new(0), memory: Memory::default(), scratch: Scratch::default() }
    }

    /// Number of threads that work in a region, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `job(0)`, …, `job(chunks - 1)`, each once, on any of the threads, and returns when all are done.
    ///
    /// # Panics
    /// If a call panics; the other chunks that had started are finished first.
    pub(crate) fn run(&self, chunks: usize, job: &(dyn Fn(usize) + Sync)) {
        self.run_ranges(1, chunks, job);
    }

    /// As [`run`](Self::run), but each thread takes chunks that follow one another, before it takes those that others have not come to: for those that read
    /// memory in order, which a processor foresees.
    ///
    /// # Panics
    /// As [`run`](Self::run).
    pub(crate) fn run_in_order(&self, chunks: usize, job: &(dyn Fn(usize) + Sync)) {
        self.run_ranges(self.threads(), chunks, job);
    }

    fn run_ranges(&self, ranges: usize, chunks: usize, job: &(dyn Fn(usize) + Sync)) {
        if chunks == 0 {
            return;
        }
        let Ok(mut region) = self.region.try_lock() else { return (0..chunks).for_each(job) };
        if chunks == 1 || self.workers.is_empty() {
            drop(region);
            return (0..chunks).for_each(job);
        }
        *region = region.wrapping_add(1).max(1);
        let shared = &*self.shared;
        // SAFETY: only the lifetime is erased; `close` below waits until no worker can still use it.
        let pointer: Job = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Job>(job) };
        *shared.job.lock().unwrap_or_else(|e| e.into_inner()) = Some(JobPointer(pointer));
        shared.chunks.store(chunks, Relaxed);
        shared.ranges.store(ranges, Relaxed);
        for (range, next) in shared.next.iter().enumerate().take(ranges) {
            next.0.store(first(range, ranges, chunks), Relaxed);
        }
        shared.panicked.store(false, Relaxed);
        shared.open.store(*region, SeqCst);
        for (handle, parked) in self.workers.iter().take(chunks - 1) {
            if parked.swap(false, SeqCst) {
                handle.thread().unpark();
            }
        }
        let own = catch_unwind(AssertUnwindSafe(|| claim(shared, 0, job)));
        // Close the region, then wait for the workers that saw it open: they entered `active` before looking.
        shared.open.store(0, SeqCst);
        let mut turns = 0usize;
        while shared.active.load(SeqCst) != 0 {
            turns += 1;
            if turns < SPINS { hint::spin_loop() } else { thread::yield_now() }
        }
        drop(region);
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        assert!(!shared.panicked.load(SeqCst), "a chunk of a parallel region panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        for (handle, _) in self.workers.drain(..) {
            Thread::unpark(handle.thread());
            let _ = handle.join();
        }
    }
}

/// The first chunk of a range; of the one after the last, the number of chunks.
fn first(range: usize, ranges: usize, chunks: usize) -> usize {
    range * chunks / ranges
}

/// Runs chunks of a thread's own range, then those of the others' that are left.
fn claim(shared: &Shared, thread: usize, job: &(dyn Fn(usize) + Sync)) {
    let (chunks, ranges) = (shared.chunks.load(Relaxed), shared.ranges.load(Relaxed));
    for range in (thread..thread + ranges).map(|range| range % ranges) {
        let end = first(range + 1, ranges, chunks);
        loop {
            let chunk = shared.next[range].0.fetch_add(1, Relaxed);
            if chunk >= end {
                break;
            }
            job(chunk);
        }
    }
}

fn work(shared: &Shared, thread: usize, parked: &AtomicBool) {
    let mut done = 0;
    let mut turns = 0;
    while !shared.stop.load(Relaxed) {
        let open = shared.open.load(Relaxed);
        if open == 0 || open == done {
            turns += 1;
            if turns < SPINS {
                hint::spin_loop();
                continue;
            }
            parked.store(true, SeqCst);
            // Look once more after saying so: the caller may have opened a region in between.
            let open = shared.open.load(SeqCst);
            if (open == 0 || open == done) && !shared.stop.load(SeqCst) {
                thread::park();
            }
            parked.store(false, SeqCst);
            turns = 0;
            continue;
        }
        turns = 0;
        shared.active.fetch_add(1, SeqCst);
        let open = shared.open.load(SeqCst);
        if open != 0 && open != done {
            done = open;
            let job = *shared.job.lock().unwrap_or_else(|e| e.into_inner());
            if let Some(JobPointer(job)) = job {
                // SAFETY: the region was open after this thread entered `active`, and `run` does not return, so
                // the closure lives, until `active` is zero again.
                let job = unsafe { &*job };
                if catch_unwind(AssertUnwindSafe(|| claim(shared, thread, job))).is_err() {
                    shared.panicked.store(true, SeqCst);
                }
            }
        }
        shared.active.fetch_sub(1, SeqCst);
    }
}

/// A mutable slice that several threads write at places that do not overlap.
pub(crate) struct Disjoint<'a> {
    pointer: *mut f32,
    len: usize,
    _slice: std::marker::PhantomData<&'a mut [f32]>,
}
// SAFETY: access goes through `slice`, whose contract forbids overlap between threads.
unsafe impl Sync for Disjoint<'_> {}
// SAFETY: as above; the slice itself is `Send`.
unsafe impl Send for Disjoint<'_> {}

impl<'a> Disjoint<'a> {
    pub(crate) fn new(slice: &'a mut [f32]) -> Self {
        Self { pointer: slice.as_mut_ptr(), len: slice.len(), _slice: std::marker::PhantomData }
    }

    /// Memory that is not initialised: only [`Disjoint::pointer`] may touch it before it was written.
    pub(crate) fn unwritten(slice: &'a mut [std::mem::MaybeUninit<f32>]) -> Self {
        Self { pointer: slice.as_mut_ptr().cast(), len: slice.len(), _slice: std::marker::PhantomData }
    }

    /// Where `len` values from `start` on lie, which no reference covers yet.
    ///
    /// # Panics
    /// If they are outside the slice.
    pub(crate) fn pointer(&self, start: usize, len: usize) -> *mut f32 {
        assert!(start <= self.len && len <= self.len - start, "part outside the slice");
        self.pointer.wrapping_add(start)
    }

    /// `count` lines of a cache from line `first` on, where the slice begins with one.
    ///
    /// # Safety
    /// As [`Disjoint::slice`].
    ///
    /// # Panics
    /// As [`lines_mut`].
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn lines(&self, first: usize, count: usize) -> &mut [Line] {
        // SAFETY: by the contract.
        lines_mut(unsafe { self.slice(first * COLUMNS, count * COLUMNS) })
    }

    /// As [`Disjoint::lines`], for several readers.
    ///
    /// # Safety
    /// The part must be initialised, and nobody may write to it meanwhile.
    ///
    /// # Panics
    /// As [`Disjoint::lines`].
    pub(crate) unsafe fn shared_lines(&self, first: usize, count: usize) -> &[Line] {
        let start = self.pointer(first * COLUMNS, count * COLUMNS);
        // SAFETY: in bounds, as was checked; initialised and not written by the contract.
        lines(unsafe { std::slice::from_raw_parts(start, count * COLUMNS) })
    }

    /// The part `start..start + len`.
    ///
    /// # Safety
    /// No two parts that are alive at once may overlap, and the part must be initialised.
    ///
    /// # Panics
    /// If the part is outside the slice.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn slice(&self, start: usize, len: usize) -> &mut [f32] {
        assert!(start <= self.len && len <= self.len - start, "part outside the slice");
        // SAFETY: in bounds by the assertion, unaliased by the contract.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.add(start), len) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn every_chunk_runs_once() {
        for threads in [1, 2, 3, 5] {
            let pool = Pool::new(threads);
            for chunks in [0, 1, 2, 3, 17, 1000] {
                let seen: Vec<AtomicUsize> = (0..chunks).map(|_| AtomicUsize::new(0)).collect();
                let count = |i: usize| {
                    seen[i].fetch_add(1, Relaxed);
                };
                for _ in 0..10 {
                    pool.run(chunks, &count);
                    pool.run_in_order(chunks, &count);
                }
                assert!(seen.iter().all(|n| n.load(Relaxed) == 20), "{threads} threads, {chunks} chunks");
            }
        }
    }

    #[test]
    fn in_order_each_thread_goes_through_a_range_of_its_own() {
        // Two chunks at a time, one a thread: nobody can take another's before all have come to the end.
        let (pool, both) = (Pool::new(2), Barrier::new(2));
        let turns = Mutex::new(Vec::new());
        let count = |chunk: usize| {
            both.wait();
            turns.lock().unwrap().push(chunk);
            both.wait();
        };
        pool.run_in_order(6, &count);
        let mut turns = turns.into_inner().unwrap();
        turns.chunks_exact_mut(2).for_each(<[usize]>::sort_unstable);
        assert_eq!(turns, [0, 3, 1, 4, 2, 5]);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives() {
        let pool = Pool::new(3);
        for bad in 0..8 {
            let result = catch_unwind(AssertUnwindSafe(|| pool.run(8, &|i| assert!(i != bad))));
            assert!(result.is_err());
        }
        let sum = AtomicUsize::new(0);
        pool.run(10, &|i| {
            sum.fetch_add(i, Relaxed);
        });
        assert_eq!(sum.into_inner(), 45);
    }

    #[test]
    fn regions_nest_and_compete_without_loss() {
        let pool = Pool::new(2);
        let sum = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        pool.run(4, &|_| {
                            pool.run(2, &|_| {
                                sum.fetch_add(1, Relaxed);
                            })
                        });
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), 4 * 200 * 8);
    }
}
