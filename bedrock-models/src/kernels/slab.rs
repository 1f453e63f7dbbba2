//! Memory of weights, in huge pages where the system has them.
//!
//! A decode step reads every page of a model's weights once. Where pages are of 4 KiB that is an address to look up each 160 ns, and the processor's own prefetching ends
//! with each of them. Most matrices are smaller than a page of 2 MiB, so many of them lie in one slab.

use std::mem::take;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;

use super::panels::Line;

/// Bytes of a huge page.
const HUGE: usize = 2 << 20;

/// Bytes of a slab. No page is used before something lies there.
const SLAB: usize = 64 << 20;

/// What is larger has memory of its own, so that little of a slab is left over.
const LARGE: usize = SLAB / 4;

/// The slab that is being filled.
#[derive(Default)]
struct Slab {
    left: BytesMut,
    /// Held by all lines of it.
    used: Arc<()>,
}

static FILLING: LazyLock<Mutex<Slab>> = LazyLock::new(Mutex::default);

/// Lines of weights, which nothing is added to.
pub(crate) struct Lines {
    bytes: BytesMut,
    /// Of the slab, if it is one.
    used: Option<Arc<()>>,
}

impl Slab {
    fn lines(&mut self, bytes: usize) -> Lines {
        if self.left.len() < bytes {
            *self = Self { left: zeros(SLAB), used: Arc::default() };
        }
        Lines { bytes: self.left.split_to(bytes), used: Some(self.used.clone()) }
    }

    /// Lets go what is left where nobody uses the rest: it would keep all of it.
    fn tidy(&mut self) {
        if Arc::strong_count(&self.used) == 1 {
            *self = Self::default();
        }
    }
}

fn filling() -> MutexGuard<'static, Slab> {
    FILLING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lines {
    /// So many lines of zeros.
    pub(crate) fn zeros(count: usize) -> Self {
        let bytes = count.checked_mul(size_of::<Line>()).expect("weights that fit in memory");
        if bytes > LARGE { Self { bytes: zeros(bytes), used: None } } else { filling().lines(bytes) }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        drop((take(&mut self.bytes), self.used.take()));
        filling().tidy();
    }
}

/// Memory that nobody has touched, from the beginning of a huge page on.
fn zeros(bytes: usize) -> BytesMut {
    let mut memory = BytesMut::zeroed(bytes + HUGE);
    let before = memory.as_ptr().align_offset(HUGE);
    drop(memory.split_to(before));
    memory.truncate(bytes);
    #[cfg(target_os = "linux")]
    // SAFETY: whole pages of this memory; advice about their size does not change what is in them. The end that does not fill a huge page
    // stays in small ones, so that no more memory is used. Failure only means that all are small.
    unsafe {
        libc::madvise(memory.as_mut_ptr().cast(), bytes / HUGE * HUGE, libc::MADV_HUGEPAGE);
    }
    memory
}

impl Deref for Lines {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        // No bytes may lie anywhere.
        if self.bytes.is_empty() {
            return &[];
        }
        // SAFETY: whole lines, the first of which begins where one does; all bytes are initialised, and any are floats.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr().cast(), self.bytes.len() / size_of::<Line>()) }
    }
}

impl DerefMut for Lines {
    fn deref_mut(&mut self) -> &mut [Line] {
        if self.bytes.is_empty() {
            return &mut [];
        }
        // SAFETY: as in `deref`; the bytes are these lines' alone.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.as_mut_ptr().cast(), self.bytes.len() / size_of::<Line>()) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tile::COLUMNS;
    use super::*;

    #[test]
    fn lines_are_zeros_on_lines_and_nobody_elses() {
        let line = size_of::<Line>();
        let sizes =
            [0, 1, 3, 70_000, LARGE / line, LARGE / line + 1, 7, SLAB / line + 5, 60_000, 65_000, 1, HUGE / line];
        let mut all: Vec<Lines> = Vec::new();
        // Twice, the second time in place of what is gone.
        for round in 0..2 {
            for (i, &size) in sizes.iter().enumerate() {
                let mut lines = Lines::zeros(size);
                assert_eq!(lines.len(), size);
                assert!(lines.iter().all(|line| line.0 == [0.0; COLUMNS]));
                assert!(lines.as_ptr().is_aligned());
                lines.fill(Line([i as f32; COLUMNS]));
                if round == 0 { all.push(lines) } else { all[i] = lines }
            }
            for (i, (lines, &size)) in all.iter().zip(&sizes).enumerate() {
                assert!(lines.len() == size && lines.iter().all(|line| line.0 == [i as f32; COLUMNS]));
            }
        }
    }

    #[test]
    fn a_slab_is_kept_as_long_as_its_lines() {
        let mut slab = Slab::default();
        let (first, second) = (slab.lines(64), slab.lines(128));
        let left = slab.left.len();
        assert_eq!(left, SLAB - 64 - 128);
        drop(first);
        slab.tidy();
        assert_eq!(slab.left.len(), left);
        // A new one, while the lines of the old one live.
        let third = slab.lines(left + 64);
        assert_eq!(slab.left.len(), SLAB - left - 64);
        drop(second);
        slab.tidy();
        assert!(!slab.left.is_empty());
        drop(third);
        slab.tidy();
        assert!(slab.left.is_empty());
    }
}
