//! Read-only memory mapping of model files.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use memmap2::Mmap;

use crate::error::Error;

/// Maps a regular file into memory and hands it out as shared bytes.
///
/// Slices of the result (`Bytes::slice`) keep the mapping alive and copy nothing; pages are read from disk when they
/// are first touched, and the operating system may drop them again under memory pressure.
///
/// # Errors
/// [`Error::Read`] if the file cannot be opened or mapped, [`Error::NotAFile`] for folders, pipes and devices (opening a
/// pipe would wait for a writer for ever).
pub(crate) fn map_file(path: &Path) -> Result<Bytes, Error> {
    let read = |source| Error::Read { path: path.to_path_buf(), source };
    // Asked by path before opening, because opening a pipe blocks; asked again of what was opened, because it counts.
    if !std::fs::metadata(path).map_err(read)?.is_file() {
        return Err(Error::NotAFile { path: path.to_path_buf() });
    }
    let file = File::open(path).map_err(read)?;
    let metadata = file.metadata().map_err(read)?;
    if !metadata.is_file() {
        return Err(Error::NotAFile { path: path.to_path_buf() });
    }
    if metadata.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the mapping is private to this process and read-only, and lives as long as any `Bytes` made from it.
    // What the type system cannot exclude is another process changing the file meanwhile: changed bytes would be read
    // as other weights (every bit pattern is a valid `u8`, and all structure is parsed into owned values at opening),
    // and a file cut short raises SIGBUS in the reader, as for every program that maps its input. Our own fetch only
    // ever places finished files by renaming, which leaves an existing mapping on the old file.
    let map = Arc::new(unsafe { Mmap::map(&file) }.map_err(read)?);
    let mut maps = MAPS.lock().unwrap_or_else(PoisonError::into_inner);
    maps.retain(|map| map.strong_count() > 0);
    maps.push(Arc::downgrade(&map));
    Ok(Bytes::from_owner(Shared(map)))
}

/// The mappings that are alive.
static MAPS: Mutex<Vec<Weak<Mmap>>> = Mutex::new(Vec::new());

struct Shared(Arc<Mmap>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Takes the pages of `bytes` out of the process's memory, if they are a part of a mapped file; whoever reads them again has them
/// read from it again. For weights that were copied into another order.
pub(crate) fn release(bytes: &[u8]) {
    /// At least as large as any processor's pages, of which only whole ones can be taken out.
    const PAGE: usize = 1 << 16;
    let maps = MAPS.lock().unwrap_or_else(PoisonError::into_inner);
    let start = bytes.as_ptr().addr();
    for map in maps.iter().filter_map(Weak::upgrade) {
        let Some(offset) = start.checked_sub(map.as_ptr().addr()) else { continue };
        let (from, to) = (offset.next_multiple_of(PAGE), (offset + bytes.len()) / PAGE * PAGE);
        if offset + bytes.len() > map.len() || from >= to {
            continue;
        }
        // SAFETY: the range lies in a mapping of a file that nobody writes to through it, so what is read there afterwards is what the
        // file holds, as before. Failure only means that the pages stay.
        #[cfg(unix)]
        let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, from, to - from) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_what_was_written_and_slices_share_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"0123456789").unwrap();
        let bytes = map_file(&path).unwrap();
        let slice = bytes.slice(3..6);
        assert_eq!(slice.as_ptr(), bytes[3..].as_ptr());
        drop(bytes);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(&slice[..], b"345");
    }

    #[test]
    fn what_was_released_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let content: Vec<u8> = (0..1 << 20).map(|i: u32| ((i * 31) >> 3) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let bytes = map_file(&path).unwrap();
        assert_eq!(bytes, content);
        let part = bytes.slice(70_001..900_003);
        release(&part);
        assert_eq!(bytes, content);
        // Memory of other kinds stays as it is.
        release(&content);
        assert_eq!(bytes, content);
        drop((bytes, part));
        release(&content);
    }

    #[test]
    fn an_empty_file_is_empty_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty");
        std::fs::write(&path, b"").unwrap();
        assert!(map_file(&path).unwrap().is_empty());
    }

    #[test]
    fn folders_and_missing_files_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(map_file(folder.path()), Err(Error::NotAFile { path }) if path == folder.path()));
        let missing = folder.path().join("missing");
        assert!(matches!(map_file(&missing), Err(Error::Read { path, .. }) if path == missing));
    }
}
