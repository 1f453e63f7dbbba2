//! Memory of results that is used again.
//!
//! A pass makes the same large results again and again. Memory that goes back to the operating system each time comes back page by page,
//! zeroed, on first touch: a sixth of a prompt's time, a tenth of a training step's. So results go back to the pool that computed them, and
//! the next of about their size is written over them.

use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty, Bytes};

/// Values from which on a result is worth the trouble: 64 KiB, below which allocators keep memory themselves.
const LEAST: usize = 16 * 1024;

/// What waits to be used again.
#[derive(Debug, Default)]
pub(crate) struct Memory(Arc<Mutex<Shelf>>);

#[derive(Debug, Default)]
struct Shelf {
    idle: Vec<Vec<f32>>,
    /// Values that `idle` has room for.
    waiting: usize,
    /// Values of the tensors that are alive.
    live: usize,
    /// The most that were alive at once. No more than these wait and live together.
    most: usize,
}

impl Memory {
    /// So many values of any content, zeros or what was computed before. Whoever takes them writes them all.
    pub(crate) fn take(&self, len: usize) -> Vec<f32> {
        let Some(mut values) = self.again(len) else { return vec![0.0; len] };
        values.resize(len, 0.0);
        // What is read before it was written shows in tests.
        #[cfg(any(test, debug_assertions))]
        values.fill(f32::NAN);
        values
    }

    /// Room for so many values, none of them there.
    pub(crate) fn room(&self, len: usize) -> Vec<f32> {
        let Some(mut values) = self.again(len) else { return Vec::with_capacity(len) };
        values.clear();
        values
    }

    fn again(&self, len: usize) -> Option<Vec<f32>> {
        if len < LEAST { None } else { self.with(|shelf| shelf.take(len)) }
    }

    /// Values that are needed no more.
    pub(crate) fn give(&self, values: Vec<f32>) {
        self.with(|shelf| shelf.give(values));
    }

    /// The memory of a tensor, which comes back when the tensor is dropped.
    pub(crate) fn bytes(&self, values: Vec<f32>) -> Bytes {
        if values.capacity() < LEAST {
            return Bytes::from_elems(values);
        }
        self.with(|shelf| shelf.lend(values.capacity()));
        let len = size_of_val(values.as_slice());
        let lent = Lent { values: ManuallyDrop::new(values), home: Some(Self(self.0.clone())) };
        // SAFETY: all of the vector's values are initialised, and its length is `len` bytes.
        unsafe { Bytes::from_controller(Box::new(lent), len) }
    }

    fn with<R>(&self, act: impl FnOnce(&mut Shelf) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shelf {
    /// The smallest that is large enough, and not much larger.
    fn take(&mut self, len: usize) -> Option<Vec<f32>> {
        let fits = |values: &Vec<f32>| (len..=len + len / 4).contains(&values.capacity());
        let fitting = self.idle.iter().enumerate().filter(|(_, values)| fits(values));
        let (at, _) = fitting.min_by_key(|(_, values)| values.capacity())?;
        let values = self.idle.remove(at);
        self.waiting -= values.capacity();
        Some(values)
    }

    fn lend(&mut self, size: usize) {
        self.live += size;
        self.most = self.most.max(self.live);
        self.shrink();
    }

    fn give(&mut self, values: Vec<f32>) {
        if values.capacity() >= LEAST {
            self.waiting += values.capacity();
            self.idle.push(values);
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        while self.waiting + self.live > self.most {
            // What has waited longest was of a size that is not asked for.
            let Some(oldest) = (!self.idle.is_empty()).then(|| self.idle.remove(0)) else { return };
            self.waiting -= oldest.capacity();
        }
    }
}

/// A tensor's memory.
struct Lent {
    values: ManuallyDrop<Vec<f32>>,
    /// Where it goes back to; none once somebody else owns it.
    home: Option<Memory>,
}

impl Lent {
    /// Ends the loan: where the values go back to, if they are still here.
    fn end(&mut self) -> Option<Memory> {
        let home = self.home.take()?;
        home.with(|shelf| shelf.live -= self.values.capacity());
        Some(home)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(home) = self.end() {
            // SAFETY: taken here alone, once, as `end` says so only once.
            home.give(unsafe { ManuallyDrop::take(&mut self.values) });
        }
    }
}

impl AllocationController for Lent {
    fn alloc_align(&self) -> usize {
        align_of::<f32>()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Native
    }

    unsafe fn memory_mut(&mut self, _: AccessPolicy) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let len = size_of_val(self.values.as_slice());
        // SAFETY: that many bytes of this vector, which is borrowed as long; the caller writes none that are not initialised.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.values.as_mut_ptr().cast(), len) })
    }

    fn memory(&self, _: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        // SAFETY: as in `memory_mut`, for reading.
        Ok(unsafe { std::slice::from_raw_parts(self.values.as_ptr().cast(), size_of_val(self.values.as_slice())) })
    }

    fn capacity(&self) -> usize {
        self.values.capacity() * size_of::<f32>()
    }

    fn try_detach(&mut self) -> Option<NonNull<u8>> {
        self.end()?;
        // What a vector of floats has allocated with this capacity and alignment, and will not free: `home` is gone.
        NonNull::new(self.values.as_mut_ptr().cast())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(memory: &Memory) -> [usize; 4] {
        memory.with(|shelf| [shelf.idle.len(), shelf.waiting, shelf.live, shelf.most])
    }

    #[test]
    fn a_result_is_written_over_the_one_before() {
        let memory = Memory::default();
        let first = memory.take(LEAST);
        let at = first.as_ptr();
        let bytes = memory.bytes(first);
        assert_eq!((bytes.len(), counts(&memory)), (4 * LEAST, [0, 0, LEAST, LEAST]));
        // A copy is memory of its own.
        let copy = bytes.clone();
        drop(bytes);
        assert_eq!((copy.len(), counts(&memory)), (4 * LEAST, [1, LEAST, 0, LEAST]));
        // One of another size is not written there, one that is a little smaller is.
        let (larger, small) = (memory.take(LEAST * 2), memory.take(10));
        assert!(larger.as_ptr() != at && small.len() == 10);
        assert_eq!(counts(&memory)[0], 1);
        let second = memory.take(LEAST);
        assert_eq!((second.as_ptr(), second.len(), counts(&memory)), (at, LEAST, [0, 0, 0, LEAST]));
    }

    #[test]
    fn no_more_waits_than_ever_lived() {
        let memory = Memory::default();
        for size in [1, 2, 3, 2, 5, 1].map(|size| size * LEAST) {
            let lent = [memory.bytes(memory.take(size)), memory.bytes(memory.take(size))];
            let [_, waiting, live, most] = counts(&memory);
            assert!(live == 2 * size && waiting + live <= most, "{size}");
            drop(lent);
            let [_, waiting, live, most] = counts(&memory);
            assert!(live == 0 && waiting <= most);
        }
        // What was never a tensor waits too, but no longer than there is room.
        (0..20).for_each(|_| memory.give(vec![0.0; LEAST]));
        assert_eq!(counts(&memory)[1..], [10 * LEAST, 0, 10 * LEAST]);
    }

    #[test]
    fn a_vector_that_leaves_does_not_come_back() {
        let memory = Memory::default();
        let mut values = memory.take(LEAST + 3);
        values.iter_mut().enumerate().for_each(|(i, value)| *value = i as f32);
        let (at, bytes) = (values.as_ptr(), memory.bytes(values));
        let Ok(back) = bytes.try_into_vec::<f32>() else { panic!("it is a vector") };
        assert!(back.as_ptr() == at && back.iter().enumerate().all(|(i, value)| *value == i as f32));
        assert_eq!(counts(&memory)[..3], [0, 0, 0]);
        let mut bytes = memory.bytes(back);
        bytes[..4].copy_from_slice(&7.0f32.to_le_bytes());
        assert_eq!(bytes[..8], [7.0f32.to_le_bytes(), 1.0f32.to_le_bytes()].concat());
        assert_eq!(memory.bytes(vec![1.0; 3]).try_into_vec::<f32>().ok(), Some(vec![1.0; 3]));
    }
}
