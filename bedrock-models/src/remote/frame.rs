//! Frames of `application/vnd.amazon.eventstream`, out of bytes that are cut anywhere.
//!
//! A frame is, big-endian: its length, the length of its headers, the CRC-32 of these two; headers (a name, a type and a value each); the
//! payload; the CRC-32 of all before it.

use super::failure::Malformed;

/// Bytes of a frame besides headers and payload.
const OVERHEAD: usize = 16;

/// Most bytes of the headers of a frame, as the format says: 128 KiB.
const HEADERS: usize = 128 << 10;

/// One frame: the headers that are texts, and its payload.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Frame {
    headers: Vec<(String, String)>,
    /// What it carries.
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// The value of a header that is a text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Reads frames.
#[derive(Debug)]
pub(super) struct FrameParser {
    bytes: Vec<u8>,
    limit: usize,
}

impl FrameParser {
    /// A parser of frames of at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit }
    }

    /// Takes bytes; gives the frames that they complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, Malformed> {
        self.bytes.extend_from_slice(bytes);
        let (mut frames, mut from) = (Vec::new(), 0);
        while let Some(length) = self.frame_length(from)? {
            frames.push(frame(&self.bytes[from..from + length])?);
            from += length;
        }
        self.bytes.drain(..from);
        Ok(frames)
    }

    /// Length of the frame that begins at `from`, if all of it is there. The lengths are checked before any memory is taken for them.
    fn frame_length(&self, from: usize) -> Result<Option<usize>, Malformed> {
        let rest = &self.bytes[from..];
        let Some(prelude) = rest.first_chunk::<12>() else { return Ok(None) };
        let [length, headers, crc] = [word(&prelude[..4]), word(&prelude[4..8]), word(&prelude[8..])];
        if crc32fast::hash(&prelude[..8]) != crc {
            return Err(Malformed::Checksum);
        }
        let (length, headers) = (length as usize, headers as usize);
        if headers > HEADERS || length < OVERHEAD || headers > length - OVERHEAD {
            return Err(Malformed::Frame { what: "lengths that contradict each other" });
        }
        if length > self.limit {
            return Err(Malformed::EventTooLarge { limit: self.limit });
        }
        Ok((rest.len() >= length).then_some(length))
    }
}

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// A whole frame, whose lengths are checked.
fn frame(bytes: &[u8]) -> Result<Frame, Malformed> {
    let (content, crc) = bytes.split_at(bytes.len() - 4);
    if crc32fast::hash(content) != word(crc) {
        return Err(Malformed::Checksum);
    }
    let (mut headers, payload) = content[12..].split_at(word(&content[4..8]) as usize);
    let mut frame = Frame { headers: Vec::new(), payload: payload.to_vec() };
    while !headers.is_empty() {
        let length = take(&mut headers, 1)?[0];
        let name = take(&mut headers, length.into())?;
        let kind = take(&mut headers, 1)?[0];
        let size = match kind {
            0 | 1 => 0,
            2 => 1,
            3 => 2,
            4 => 4,
            5 | 8 => 8,
            6 | 7 => word(take(&mut headers, 2)?) as usize,
            9 => 16,
            _ => return Err(Malformed::Frame { what: "a header of an unknown type" }),
        };
        let value = take(&mut headers, size)?;
        if kind == 7 {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            frame.headers.push((text(name), text(value)));
        }
    }
    Ok(frame)
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], Malformed> {
    let (taken, rest) = bytes.split_at_checked(count).ok_or(Malformed::Frame { what: "a header that is cut off" })?;
    *bytes = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in headers {
            block.push(name.len() as u8);
            block.extend(name.as_bytes());
            block.push(7);
            block.extend((value.len() as u16).to_be_bytes());
            block.extend(value.as_bytes());
        }
        raw(&block, payload)
    }

    fn raw(headers: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut bytes = ((headers.len() + payload.len() + OVERHEAD) as u32).to_be_bytes().to_vec();
        bytes.extend((headers.len() as u32).to_be_bytes());
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        bytes.extend(headers);
        bytes.extend(payload);
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    #[test]
    fn every_type_of_header_is_stepped_over() {
        let mut block = Vec::new();
        for (kind, size) in [(0_u8, 0_usize), (1, 0), (2, 1), (3, 2), (4, 4), (5, 8), (8, 8), (9, 16)] {
            block.extend([1, b'a', kind]);
            block.extend(vec![7; size]);
        }
        block.extend([1, b'b', 6, 0, 2, 9, 9, 1, b'c', 7, 0, 2, b'o', b'k']);
        let frames = FrameParser::new(1 << 10).push(&raw(&block, b"x")).unwrap();
        assert_eq!((frames[0].header("c"), frames[0].header("a")), (Some("ok"), None));
        for broken in [&[1_u8, b'a', 10][..], &[1, b'a', 7, 0, 9, 1], &[9, b'a'], &[1, b'a']] {
            let result = FrameParser::new(1 << 10).push(&raw(broken, b""));
            assert!(matches!(result, Err(Malformed::Frame { .. })), "{broken:?}");
        }
    }

    #[test]
    fn what_is_damaged_or_too_large_is_refused() {
        let good = encoded(&[(":event-type", "metadata")], b"{}");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(FrameParser::new(1 << 10).push(&bad).is_err(), "byte {at}");
        }
        let result = FrameParser::new(20).push(&encoded(&[], &[0; 5]));
        assert!(matches!(result, Err(Malformed::EventTooLarge { limit: 20 })));
        // A length beyond all memory is refused after the prelude, as is one that has no room for itself.
        for (length, headers) in [(u32::MAX, 0_u32), (15, 0), (0, 0), (32, 17), (300_000, 200_000)] {
            let mut prelude = [length.to_be_bytes(), headers.to_be_bytes()].concat();
            prelude.extend(crc32fast::hash(&prelude).to_be_bytes());
            assert!(FrameParser::new(1 << 20).push(&prelude).is_err(), "{length} {headers}");
        }
    }

    proptest! {
        #[test]
        fn where_bytes_are_cut_does_not_matter(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6),
            cut in 1_usize..50,
        ) {
            let bytes: Vec<u8> = payloads.iter().flat_map(|payload| encoded(&[("n", "v")], payload)).collect();
            let mut parser = FrameParser::new(1 << 10);
            let mut found = Vec::new();
            for piece in bytes.chunks(cut) {
                found.extend(parser.push(piece).unwrap());
            }
            prop_assert!(parser.bytes.is_empty());
            prop_assert_eq!(found.into_iter().map(|frame| frame.payload).collect::<Vec<_>>(), payloads);
        }

        #[test]
        fn no_bytes_panic(headers in proptest::collection::vec(any::<u8>(), 0..60), bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = FrameParser::new(1 << 10).push(&bytes);
            let _ = FrameParser::new(1 << 10).push(&raw(&headers, &bytes));
        }
    }
}
