//! Writing sealed files.

use std::io::Write;
use std::path::Path;

use bedrock_core::{SealError, Sealer};
use sha2::{Digest, Sha256};

use super::{HEAD_BYTES, Head, LENGTH_BYTES, MAGIC, OVERHEAD_BYTES, PIECE_BYTES, VERSION};
use crate::error::Error;

impl Head {
    /// Of a new file.
    pub(super) fn new(path: &Path, sealer: &dyn Sealer, pieces: u64) -> Result<Self, Error> {
        // Sealing draws a nonce, so the hash of a seal is a number that no other file has, and takes no other source of chance.
        let seal = sealer.seal(b"", b"identity").map_err(|source| Error::Seal { path: path.to_path_buf(), source })?;
        let hash = Sha256::digest(&seal);
        Ok(Self { pieces, identity: std::array::from_fn(|at| hash[at]) })
    }

    pub(super) fn bytes(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.pieces.to_le_bytes());
        bytes[20..].copy_from_slice(&self.identity);
        bytes
    }

    /// A piece of at most `most` bytes as it stands in the file: its length, and its bytes sealed.
    pub(super) fn seal(
        &self,
        path: &Path,
        sealer: &dyn Sealer,
        number: u64,
        piece: &[u8],
        most: usize,
    ) -> Result<([u8; LENGTH_BYTES], Vec<u8>), Error> {
        let failed = |source| Error::Seal { path: path.to_path_buf(), source };
        let sealed = sealer.seal(piece, &self.context(path, number)).map_err(failed)?;
        if sealed.len() > most + OVERHEAD_BYTES {
            return Err(failed(SealError::TooLarge { length: sealed.len() }.into()));
        }
        let length = sealed.len() as u32;
        let (mut bytes, turned) = ([0; LENGTH_BYTES], !length);
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[4..].copy_from_slice(&turned.to_le_bytes());
        Ok((bytes, sealed))
    }
}

/// A file that is written from its beginning to its end, a piece of it in memory.
pub(crate) struct Writer<'a, W> {
    /// The file that it will be.
    path: &'a Path,
    out: W,
    sealer: &'a dyn Sealer,
    head: Head,
    number: u64,
    piece: Vec<u8>,
    piece_bytes: usize,
}

impl<'a, W: Write> Writer<'a, W> {
    /// Begins a file that will hold `length` bytes.
    ///
    /// # Errors
    /// [`Error::Seal`], [`Error::Write`].
    pub(crate) fn begin(path: &'a Path, out: W, sealer: &'a dyn Sealer, length: u64) -> Result<Self, Error> {
        Self::in_pieces(path, out, sealer, length, PIECE_BYTES)
    }

    fn in_pieces(
        path: &'a Path,
        mut out: W,
        sealer: &'a dyn Sealer,
        length: u64,
        piece_bytes: usize,
    ) -> Result<Self, Error> {
        let head = Head::new(path, sealer, length.div_ceil(piece_bytes as u64).max(1))?;
        out.write_all(&head.bytes()).map_err(|source| Error::Write { path: path.to_path_buf(), source })?;
        let piece = Vec::with_capacity(piece_bytes.min(usize::try_from(length).unwrap_or(piece_bytes)));
        Ok(Self { path, out, sealer, head, number: 0, piece, piece_bytes })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// [`Error::Seal`], [`Error::Write`].
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            // The last piece is sealed at the end, full or not.
            if self.piece.len() == self.piece_bytes {
                self.seal()?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(self.piece_bytes - self.piece.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    fn seal(&mut self) -> Result<(), Error> {
        let (length, sealed) = self.head.seal(self.path, self.sealer, self.number, &self.piece, self.piece_bytes)?;
        let failed = |source| Error::Write { path: self.path.to_path_buf(), source };
        self.out.write_all(&length).and_then(|()| self.out.write_all(&sealed)).map_err(failed)?;
        self.number += 1;
        self.piece.clear();
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// As [`Writer::write`].
    ///
    /// # Panics
    /// If it got another number of bytes than was said: nobody could open it.
    pub(crate) fn end(mut self) -> Result<W, Error> {
        self.seal()?;
        assert_eq!(self.number, self.head.pieces, "as many bytes as were promised");
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bedrock_core::{AesGcmSealer, KeyRing, SecretKey};

    use super::super::*;
    use super::*;

    fn sealer(key: u8) -> AesGcmSealer<KeyRing> {
        AesGcmSealer::new(KeyRing::new("one", SecretKey::from_bytes([key; 32])).unwrap())
    }

    fn content() -> Vec<u8> {
        (0..100u8).collect()
    }

    /// Seven pieces, the last of four bytes.
    fn written(path: &Path) -> Vec<u8> {
        let (content, sealer) = (content(), sealer(1));
        let mut writer = Writer::in_pieces(path, Vec::new(), &sealer, content.len() as u64, 16).unwrap();
        content.chunks(7).for_each(|part| writer.write(part).unwrap());
        writer.end().unwrap()
    }

    /// Where the pieces of a file lie, with their lengths.
    fn pieces(file: &[u8]) -> Vec<std::ops::Range<usize>> {
        let (mut at, mut pieces) = (HEAD_BYTES, Vec::new());
        while at < file.len() {
            let length = piece_length(std::array::from_fn(|byte| file[at + byte]), 16).unwrap();
            pieces.push(at..at + LENGTH_BYTES + length);
            at += LENGTH_BYTES + length;
        }
        pieces
    }

    struct Place(tempfile::TempDir);

    impl Place {
        fn path(&self) -> PathBuf {
            self.0.path().join("model.safetensors.sealed")
        }

        fn open(&self, file: &[u8]) -> Result<Bytes, Error> {
            fs::write(self.path(), file).unwrap();
            read(&self.0.path().join("model.safetensors"), Some(&sealer(1)))
        }

        fn refuses(&self, file: &[u8], what: &str) {
            let result = self.open(file);
            assert!(matches!(result, Err(Error::Seal { .. } | Error::Malformed { .. })), "{what}: {result:?}");
        }
    }

    #[test]
    fn what_was_sealed_is_opened_whole_or_not_at_all() {
        let place = Place(tempfile::tempdir().unwrap());
        let path = place.path();
        let file = written(&path);
        assert_eq!(pieces(&file).len(), 7);
        assert_eq!(place.open(&file).unwrap(), content());
        assert!(!file.windows(4).any(|window| content().windows(4).any(|part| part == window)));
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1 << (at % 8);
            place.refuses(&changed, &format!("byte {at} changed"));
            place.refuses(&file[..at], &format!("cut after {at} bytes"));
        }
        place.refuses(&[&file[..], b"\0"].concat(), "one byte more");
        let pieces = pieces(&file);
        for (a, b) in [(0, 1), (2, 5)] {
            let order = (0..pieces.len()).map(|at| {
                if at == a {
                    b
                } else if at == b {
                    a
                } else {
                    at
                }
            });
            let parts: Vec<&[u8]> = order.map(|at| &file[pieces[at].clone()]).collect();
            place.refuses(&[&file[..HEAD_BYTES], &parts.concat()].concat(), &format!("pieces {a} and {b} swapped"));
        }
        place.refuses(&[&file[..pieces[2].start], &file[pieces[2].end..]].concat(), "a piece less");
        // Fewer pieces that are said to be all.
        let mut fewer = file[..pieces[2].end].to_vec();
        fewer[12..20].copy_from_slice(&3u64.to_le_bytes());
        place.refuses(&fewer, "three pieces of seven");
        let mut log = file.clone();
        log[12..20].copy_from_slice(&0u64.to_le_bytes());
        place.refuses(&log, "said to have no end");
        // A piece of another file of the same name, at the same place.
        let other = written(&path);
        assert_eq!(self::pieces(&other), pieces);
        let mut mixed = file.clone();
        mixed[pieces[3].clone()].copy_from_slice(&other[pieces[3].clone()]);
        place.refuses(&mixed, "a piece of another file");
        // The whole file under another name.
        let elsewhere = place.0.path().join("other.safetensors.sealed");
        fs::write(&elsewhere, &file).unwrap();
        assert!(matches!(read(&elsewhere, Some(&sealer(1))), Err(Error::Seal { .. })));
        assert_eq!(place.open(&file).unwrap(), content());
    }

    #[test]
    fn whose_key_it_is_not_is_told_so() {
        let place = Place(tempfile::tempdir().unwrap());
        let path = place.path();
        fs::write(&path, written(&path)).unwrap();
        let plain = place.0.path().join("model.safetensors");
        for asked in [&plain, &path] {
            assert!(matches!(read(asked, Some(&sealer(2))), Err(Error::Seal { .. })));
            assert!(matches!(read(asked, None), Err(Error::SealMismatch { sealed: true, .. })));
            assert_eq!(read(asked, Some(&sealer(1))).unwrap(), content());
        }
        // With both there, each is for whom it is.
        fs::write(&plain, b"plain").unwrap();
        assert_eq!(read(&plain, None).unwrap(), b"plain"[..]);
        assert_eq!(read(&plain, Some(&sealer(1))).unwrap(), content());
        fs::remove_file(&path).unwrap();
        assert_eq!(read(&plain, Some(&sealer(1))).unwrap(), b"plain"[..]);
    }

    #[test]
    fn any_length_is_written() {
        let place = Place(tempfile::tempdir().unwrap());
        let (path, sealer) = (place.path(), sealer(1));
        for length in [0, 1, 15, 16, 17, 32] {
            let content = vec![7; length];
            let mut writer = Writer::in_pieces(&path, Vec::new(), &sealer, length as u64, 16).unwrap();
            writer.write(&content).unwrap();
            let file = writer.end().unwrap();
            assert_eq!(pieces(&file).len(), length.div_ceil(16).max(1));
            assert_eq!(place.open(&file).unwrap(), content);
        }
    }
}
