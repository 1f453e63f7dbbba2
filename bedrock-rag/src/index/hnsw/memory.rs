//! Large arrays in pages of their own.
//!
//! Anonymous mappings instead of `Vec` for two reasons: rows then begin on lines of the cache, and the system is asked for huge
//! pages, without which nearly every row that a search jumps to costs a walk through the page tables. A file is read into such
//! memory instead of being mapped itself: mapping is `unsafe` (another process may change or cut the file under the reader),
//! file pages are small ones, and every byte has to be read for its checksum anyway.

use std::io;

use memmap2::MmapMut;
use pulp::bytemuck::{Pod, cast_slice, cast_slice_mut};

/// An array of zeros to begin with.
#[derive(Debug)]
pub(super) struct Memory<T> {
    map: Option<MmapMut>,
    length: usize,
    of: std::marker::PhantomData<T>,
}

impl<T: Pod> Memory<T> {
    /// # Errors
    /// What the system gives when there is not as much memory.
    pub(super) fn zeroed(length: usize) -> io::Result<Self> {
        let bytes = length.checked_mul(size_of::<T>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let map = if bytes == 0 { None } else { Some(MmapMut::map_anon(bytes)?) };
        #[cfg(target_os = "linux")]
        if let Some(map) = map.as_ref().filter(|_| bytes >= 2 << 20) {
            // Only a wish: some systems have no huge pages.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        Ok(Self { map, length, of: std::marker::PhantomData })
    }

    /// The first values of `other` in an array of `length`, which is no shorter; zeros after them.
    pub(super) fn grown(other: &[T], length: usize) -> io::Result<Self> {
        let mut grown = Self::zeroed(length)?;
        grown.as_mut()[..other.len()].copy_from_slice(other);
        Ok(grown)
    }
}

impl<T: Pod> AsRef<[T]> for Memory<T> {
    #[inline(always)]
    fn as_ref(&self) -> &[T] {
        self.map.as_ref().map_or(&[], |map| &cast_slice(&map[..self.length * size_of::<T>()])[..self.length])
    }
}

impl<T: Pod> AsMut<[T]> for Memory<T> {
    fn as_mut(&mut self) -> &mut [T] {
        let bytes = self.length * size_of::<T>();
        self.map.as_mut().map_or(&mut [], |map| cast_slice_mut(&mut map[..bytes]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_begins_with_zeros_on_a_line_of_the_cache() {
        let mut memory = Memory::<u32>::zeroed(1 << 20).unwrap();
        assert!(memory.as_ref().iter().all(|&value| value == 0));
        assert_eq!(memory.as_ref().as_ptr() as usize % 64, 0);
        memory.as_mut()[3] = 7;
        let grown = Memory::grown(&memory.as_ref()[..4], 6).unwrap();
        assert_eq!(grown.as_ref(), [0, 0, 0, 7, 0, 0]);
        assert_eq!(Memory::<i8>::zeroed(0).unwrap().as_ref(), [0i8; 0]);
        assert!(Memory::<u32>::zeroed(usize::MAX / 4).is_err());
    }
}
