//! Another key for what is sealed already.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use bedrock_core::Sealer;

use super::{Head, LENGTH_BYTES, PIECE_BYTES, is_sealed, piece_length};
use crate::error::Error;
use crate::kernels::map::{map_file, release};

/// Folders in folders that are looked into: a job has two.
const DEEPEST: usize = 8;

/// Seals every sealed file of a folder, and of the folders in it, for another key: what a job or a trainer wrote with
/// [`LoadOptions::sealer`](crate::LoadOptions::sealer), adapter or weights, merged ones, checkpoints, answers of a teacher. `from` opens them, `to` seals them; both may know
/// several keys. Gives the number of files that were sealed anew.
///
/// Each file is replaced as a whole, after each of its pieces was opened again with `to`. Where this ends early, killed or with an error, every file can be opened with either `from` or
/// `to`, and a second call does the rest: what `from` does not open, but `to` does, is passed over. Nothing else may write into the folder meanwhile. Of a base of a job that
/// is to be resumed the names of both keys should be as long: a job knows its base by the lengths of its files.
///
/// # Errors
/// [`Error::Seal`] for a file that neither opens, or that `to` does not open again; [`Error::Malformed`] for one that was changed or cut; [`Error::Read`], [`Error::Write`]. The
/// file is as it was then.
pub fn reseal(folder: impl AsRef<Path>, from: &dyn Sealer, to: &dyn Sealer) -> Result<u64, Error> {
    let mut files = Vec::new();
    sealed_files(folder.as_ref(), DEEPEST, &mut files)?;
    let mut count = 0;
    for path in files {
        count += u64::from(reseal_file(&path, from, to)?);
    }
    Ok(count)
}

/// The sealed files of a folder and of those in it, by name. Links are not followed.
fn sealed_files(folder: &Path, deepest: usize, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    let failed = |source| Error::Read { path: folder.to_path_buf(), source };
    let entries = fs::read_dir(folder).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let mut paths = Vec::with_capacity(entries.len());
    for entry in entries {
        paths.push((entry.path(), entry.file_type().map_err(failed)?));
    }
    paths.sort_by(|(path, _), (other, _)| path.cmp(other));
    for (path, kind) in paths {
        if kind.is_dir() && deepest > 0 {
            sealed_files(&path, deepest - 1, files)?;
        } else if kind.is_file() && is_sealed(&path) {
            files.push(path);
        }
    }
    Ok(())
}

/// Whether a file was sealed anew: `false` if it had been before, or if there is nothing in it.
fn reseal_file(path: &Path, from: &dyn Sealer, to: &dyn Sealer) -> Result<bool, Error> {
    let file = map_file(path)?;
    let malformed = |reason: &str| Error::Malformed { path: path.to_path_buf(), reason: reason.into() };
    let (old, pieces) = Head::read(path, &file)?;
    let is_log = old.pieces == 0;
    let mut pieces = Pieces { path, rest: pieces };
    let first = match pieces.next() {
        Some(piece) => piece?,
        None if is_log => return Ok(false),
        None => return Err(malformed("pieces of it are missing")),
    };
    if let Err(error) = old.open(path, from, 0, first) {
        return old.open(path, to, 0, first).map(|_| false).map_err(|_| error);
    }
    let beside = path.with_extension("part");
    let failed = |source| Error::Write { path: path.to_path_buf(), source };
    let written = (|| {
        let new = Head::new(path, to, old.pieces)?;
        let out = File::create(&beside).map_err(failed)?;
        out.set_permissions(fs::metadata(path).map_err(failed)?.permissions()).map_err(failed)?;
        let mut out = BufWriter::with_capacity(1 << 20, out);
        out.write_all(&new.bytes()).map_err(failed)?;
        let mut number = 0;
        for piece in [Ok(first)].into_iter().chain(pieces.by_ref()) {
            let piece = piece?;
            let content = old.open(path, from, number, piece)?;
            let (length, sealed) = new.seal(path, to, number, &content, PIECE_BYTES)?;
            // Some keys are allowed to seal, and not to open.
            if new.open(path, to, number, &sealed)? != content {
                return Err(malformed("what was sealed is not opened as it was"));
            }
            out.write_all(&length).and_then(|()| out.write_all(&sealed)).map_err(failed)?;
            release(piece);
            number += 1;
        }
        if !is_log && (number != old.pieces || !pieces.rest.is_empty()) {
            return Err(malformed("there are more or fewer pieces than were written"));
        }
        let out = out.into_inner().map_err(|error| failed(error.into_error()))?;
        out.sync_all().map_err(failed)?;
        fs::rename(&beside, path).map_err(failed)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written.map(|()| true)
}

/// The pieces of a file. A part of an entry at the end of a log is no piece.
struct Pieces<'a> {
    path: &'a Path,
    rest: &'a [u8],
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Result<&'a [u8], Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let malformed = |reason: &str| Error::Malformed { path: self.path.to_path_buf(), reason: reason.into() };
        let (length, after) = self.rest.split_first_chunk::<LENGTH_BYTES>()?;
        let Some(length) = piece_length(*length, PIECE_BYTES) else {
            self.rest = &[];
            return Some(Err(malformed("the length of a piece was changed")));
        };
        let (piece, after) = after.split_at_checked(length)?;
        self.rest = after;
        Some(Ok(piece))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bedrock_core::{AesGcmSealer, Error as CoreError, KeyRing, SecretKey};

    use super::super::{HEAD_BYTES, Log, Writer, read};
    use super::*;

    fn ring(name: &str, key: u8) -> KeyRing {
        KeyRing::new(name, SecretKey::from_bytes([key; 32])).unwrap()
    }

    fn sealer(name: &str, key: u8) -> AesGcmSealer<KeyRing> {
        AesGcmSealer::new(ring(name, key))
    }

    fn write(path: &Path, content: &[u8], sealer: &dyn Sealer) {
        let mut writer = Writer::begin(path, Vec::new(), sealer, content.len() as u64).unwrap();
        writer.write(content).unwrap();
        fs::write(path, writer.end().unwrap()).unwrap();
    }

    /// Two files of pieces, one of them deeper, and a log with half an entry at its end.
    fn folder() -> (tempfile::TempDir, [PathBuf; 3], Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("merged/deep")).unwrap();
        let names = ["a.safetensors.sealed", "merged/deep/b.sealed", "responses.jsonl.sealed"];
        let paths = names.map(|name| folder.path().join(name));
        let content: Vec<u8> = (0..PIECE_BYTES + 1000).map(|at| (at * 7 % 251) as u8).collect();
        let old = sealer("old", 1);
        write(&paths[0], &content, &old);
        write(&paths[1], b"", &old);
        let mut log = Log::open(&paths[2], Arc::new(sealer("old", 1)), false, |_| Ok(())).unwrap();
        ["one", "two", "half"].iter().for_each(|entry| log.add(entry.as_bytes()).unwrap());
        drop(log);
        let file = fs::read(&paths[2]).unwrap();
        fs::write(&paths[2], &file[..file.len() - 3]).unwrap();
        fs::write(folder.path().join("README.md"), "plain").unwrap();
        (folder, paths, content)
    }

    fn entries(path: &Path, sealer: AesGcmSealer<KeyRing>) -> Result<Vec<Vec<u8>>, Error> {
        let mut entries = Vec::new();
        Log::open(path, Arc::new(sealer), false, |entry| {
            entries.push(entry.to_vec());
            Ok(())
        })?;
        Ok(entries)
    }

    #[test]
    fn every_file_gets_the_new_key_once() {
        let (folder, paths, content) = folder();
        let (old, new) = (sealer("old", 1), sealer("new", 2));
        assert_eq!(reseal(folder.path(), &old, &new).unwrap(), 3);
        for key in [&old as &dyn Sealer, &sealer("new", 1), &sealer("old", 2)] {
            assert!(matches!(read(&paths[0], Some(key)), Err(Error::Seal { .. })));
        }
        assert_eq!(read(&paths[0], Some(&new)).unwrap(), content);
        assert_eq!(read(&paths[1], Some(&new)).unwrap(), b""[..]);
        assert_eq!(entries(&paths[2], sealer("new", 2)).unwrap(), [b"one".to_vec(), b"two".to_vec()]);
        let files: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
        assert_eq!(reseal(folder.path(), &old, &new).unwrap(), 0);
        assert!(paths.iter().zip(&files).all(|(path, file)| &fs::read(path).unwrap() == file));
        assert_eq!(fs::read(folder.path().join("README.md")).unwrap(), b"plain");
        // Back with a ring that knows both: it is the key that seals now that counts.
        let both = AesGcmSealer::new(ring("old", 1).retired("new", SecretKey::from_bytes([2; 32])).unwrap());
        assert_eq!(reseal(folder.path(), &both, &both).unwrap(), 3);
        assert_eq!(read(&paths[0], Some(&old)).unwrap(), content);
    }

    #[test]
    fn what_cannot_be_moved_stays() {
        let (folder, paths, content) = folder();
        let before: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
        let result = reseal(folder.path(), &sealer("other", 3), &sealer("new", 2));
        assert!(matches!(result, Err(Error::Seal { .. })), "{result:?}");
        assert!(paths.iter().zip(&before).all(|(path, file)| &fs::read(path).unwrap() == file));
        let (old, new) = (sealer("old", 1), sealer("new", 2));
        for at in [5, 20, HEAD_BYTES + 2, HEAD_BYTES + 500, before[0].len() - 1] {
            let mut changed = before[0].clone();
            changed[at] ^= 1;
            for changed in [&changed[..], &before[0][..at]] {
                fs::write(&paths[0], changed).unwrap();
                let result = reseal(folder.path(), &old, &new);
                assert!(matches!(result, Err(Error::Seal { .. } | Error::Malformed { .. })), "{at}: {result:?}");
                assert_eq!(fs::read(&paths[0]).unwrap(), changed);
                assert!(!paths[0].with_extension("part").exists());
            }
        }
        fs::write(&paths[0], &before[0]).unwrap();
        assert_eq!(read(&paths[0], Some(&old)).unwrap(), content);
    }

    /// Fails from a call on, as a key server that goes away, or cannot open what it seals.
    struct Failing(AesGcmSealer<KeyRing>, AtomicUsize, bool);

    impl Sealer for Failing {
        fn seal(&self, plaintext: &[u8], context: &[u8]) -> Result<Vec<u8>, CoreError> {
            let left = self.1.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            left.map_err(|_| CoreError::validation("gone"))?;
            self.0.seal(plaintext, context)
        }

        fn open(&self, sealed: &[u8], context: &[u8]) -> Result<Vec<u8>, CoreError> {
            if self.2 { self.0.open(sealed, context) } else { Err(CoreError::validation("not allowed")) }
        }
    }

    #[test]
    fn each_end_in_the_middle_can_be_gone_on_from() {
        let (folder, paths, content) = folder();
        let (old, new) = (sealer("old", 1), sealer("new", 2));
        let blind = Failing(sealer("new", 2), AtomicUsize::new(usize::MAX), false);
        assert!(matches!(reseal(folder.path(), &old, &blind), Err(Error::Seal { .. })));
        assert_eq!(read(&paths[0], Some(&old)).unwrap(), content);
        let mut ends = 0;
        loop {
            // Each time one call more.
            let failing = Failing(sealer("new", 2), AtomicUsize::new(ends), true);
            match reseal(folder.path(), &old, &failing) {
                Ok(_) => break,
                Err(error) => assert!(matches!(error, Error::Seal { .. }), "{error:?}"),
            }
            ends += 1;
            assert!(ends < 20, "it never ends");
            assert!(read(&paths[0], Some(&old)).or_else(|_| read(&paths[0], Some(&new))).unwrap() == content[..]);
        }
        // A head and a piece each at least; those that were done are not done again.
        assert!(ends >= 3, "{ends}");
        assert_eq!(reseal(folder.path(), &old, &new).unwrap(), 0);
        assert_eq!(read(&paths[0], Some(&new)).unwrap(), content);
        assert_eq!(entries(&paths[2], sealer("new", 2)).unwrap().len(), 2);
    }
}
