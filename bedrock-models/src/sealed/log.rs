//! Sealed files to which entries are added, each a piece.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bedrock_core::Sealer;

use super::{HEAD_BYTES, Head, LENGTH_BYTES, PIECE_BYTES, piece_length};
use crate::error::Error;

/// Most bytes of a file that is read.
const MAX_FILE: u64 = 1 << 30;

/// A file of entries of at most [`PIECE_BYTES`]. If entries are cut off at its end, it is what it was before them.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    sealer: Arc<dyn Sealer>,
    head: Head,
    entries: u64,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("path", &self.path).field("entries", &self.entries).finish_non_exhaustive()
    }
}

impl Log {
    /// Opens a file, which is made if it is not there or `anew`, and gives each entry to `each`. A part of an entry at the end, which a process
    /// that was killed may have left, is forgotten.
    ///
    /// # Errors
    /// [`Error::Seal`] and [`Error::Malformed`] for a file of another key or that was changed; [`Error::FileTooLarge`], [`Error::Read`], [`Error::Write`]; what
    /// `each` fails with.
    pub(crate) fn open(
        path: &Path,
        sealer: Arc<dyn Sealer>,
        anew: bool,
        mut each: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Write { path: path.to_path_buf(), source };
        let malformed = |reason: &str| Error::Malformed { path: path.to_path_buf(), reason: reason.into() };
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        if anew || bytes < HEAD_BYTES as u64 {
            let head = Head::new(path, &*sealer, 0)?;
            let begun = file.set_len(0).and_then(|()| file.write_all(&head.bytes())).and_then(|()| file.sync_all());
            begun.map_err(failed)?;
            return Ok(Self { path: path.to_path_buf(), file, sealer, head, entries: 0 });
        }
        if bytes > MAX_FILE {
            return Err(Error::FileTooLarge { path: path.to_path_buf(), bytes, limit: MAX_FILE });
        }
        let unread = |source| Error::Read { path: path.to_path_buf(), source };
        let mut reader = BufReader::new(&file);
        let mut head = [0; HEAD_BYTES];
        reader.read_exact(&mut head).map_err(unread)?;
        let (head, _) = Head::read(path, &head)?;
        if head.pieces != 0 {
            return Err(malformed("it is no file to which pieces are added"));
        }
        let (mut entries, mut end, mut piece) = (0, HEAD_BYTES as u64, Vec::new());
        loop {
            let mut length = [0; LENGTH_BYTES];
            if !filled(&mut reader, &mut length).map_err(unread)? {
                break;
            }
            let length =
                piece_length(length, PIECE_BYTES).ok_or_else(|| malformed("the length of an entry was changed"))?;
            piece.resize(length, 0);
            if !filled(&mut reader, &mut piece).map_err(unread)? {
                break;
            }
            each(&head.open(path, &*sealer, entries, &piece)?)?;
            entries += 1;
            end += (LENGTH_BYTES + length) as u64;
        }
        drop(reader);
        file.set_len(end).map_err(failed)?;
        Ok(Self { path: path.to_path_buf(), file, sealer, head, entries })
    }

    /// Adds an entry, so that it stays.
    ///
    /// # Errors
    /// [`Error::Malformed`] for one that is too long; [`Error::Seal`], [`Error::Write`].
    pub(crate) fn add(&mut self, entry: &[u8]) -> Result<(), Error> {
        if entry.len() > PIECE_BYTES {
            let reason = format!("an entry is longer than {PIECE_BYTES} bytes");
            return Err(Error::Malformed { path: self.path.clone(), reason });
        }
        let (length, sealed) = self.head.seal(&self.path, &*self.sealer, self.entries, entry, PIECE_BYTES)?;
        // As one piece: of a half the length would have to be told from one that was changed.
        let written = self.file.write_all(&[&length[..], &sealed].concat()).and_then(|()| self.file.sync_data());
        written.map_err(|source| Error::Write { path: self.path.clone(), source })?;
        self.entries += 1;
        Ok(())
    }
}

/// Fills `bytes`; `false` if there are not as many.
fn filled(reader: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bedrock_core::{AesGcmSealer, KeyRing, SecretKey};

    use super::*;

    fn sealer(key: u8) -> Arc<dyn Sealer> {
        Arc::new(AesGcmSealer::new(KeyRing::new("one", SecretKey::from_bytes([key; 32])).unwrap()))
    }

    fn entries(path: &Path, key: u8) -> Result<(Log, Vec<Vec<u8>>), Error> {
        let mut entries = Vec::new();
        let log = Log::open(path, sealer(key), false, |entry| {
            entries.push(entry.to_vec());
            Ok(())
        })?;
        Ok((log, entries))
    }

    #[test]
    fn entries_stay_and_a_part_of_one_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("responses.jsonl.sealed");
        let (mut log, none) = entries(&path, 1).unwrap();
        assert!(none.is_empty());
        let all: Vec<Vec<u8>> = (0..4u8).map(|n| vec![n; 20]).collect();
        all.iter().for_each(|entry| log.add(entry).unwrap());
        assert_eq!(entries(&path, 1).unwrap().1, all);
        let file = fs::read(&path).unwrap();
        let size = (file.len() - HEAD_BYTES) / 4;
        for cut in HEAD_BYTES..file.len() {
            fs::write(&path, &file[..cut]).unwrap();
            let whole = (cut - HEAD_BYTES) / size;
            assert_eq!(entries(&path, 1).unwrap().1, all[..whole], "cut after {cut} bytes");
            // What is added next is read too.
            let (mut log, _) = entries(&path, 1).unwrap();
            log.add(b"next").unwrap();
            assert_eq!(entries(&path, 1).unwrap().1.last().unwrap(), b"next");
        }
    }

    #[test]
    fn what_was_changed_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("responses.jsonl.sealed");
        let (mut log, _) = entries(&path, 1).unwrap();
        (0..3u8).for_each(|n| log.add(&[n; 20]).unwrap());
        let file = fs::read(&path).unwrap();
        let size = (file.len() - HEAD_BYTES) / 3;
        let refuses = |changed: &[u8], what: &str| {
            fs::write(&path, changed).unwrap();
            let result = entries(&path, 1);
            assert!(matches!(result, Err(Error::Seal { .. } | Error::Malformed { .. })), "{what}: {result:?}");
            assert_eq!(fs::read(&path).unwrap(), changed, "{what}");
        };
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1 << (at % 8);
            refuses(&changed, &format!("byte {at} changed"));
        }
        let (first, rest) = file[HEAD_BYTES..].split_at(size);
        let swapped = [&file[..HEAD_BYTES], &rest[..size], first, &rest[size..]].concat();
        refuses(&swapped, "two entries swapped");
        refuses(&[&file[..HEAD_BYTES], rest].concat(), "the first left out");
        fs::write(&path, &file).unwrap();
        assert!(matches!(entries(&path, 2), Err(Error::Seal { .. })));
        assert_eq!(fs::read(&path).unwrap(), file);
    }
}
