//! How far the streams of a PDF unpack, found out before the parser unpacks them.
//!
//! The parser has no limit of its own, and a stream may unpack to a thousand times its size, and that again. So every
//! stream is unpacked here first, a little at a time, and one that goes beyond its limit is overwritten where it lies:
//! the parser finds it damaged and goes on without it. Where streams are encrypted that shows nothing; those are
//! measured after the parser has the key.

use std::borrow::Cow;
use std::io::Read;
use std::ops::Range;
use std::time::Instant;

use flate2::read::{DeflateDecoder, ZlibDecoder};
use weezl::BitOrder;
use weezl::decode::Configuration;

use super::super::compose::Fault;
use super::content::is_reasonable;

/// A way in which a stream is packed, and may grow when it is unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Flate,
    Lzw,
    RunLength,
    Ascii85,
    AsciiHex,
}

/// More ways one after another than this are no real file's.
const MAX_PACKINGS: usize = 8;

/// Longest dictionary that is looked through before its stream.
const MAX_DICTIONARY: usize = 8192;

/// Overwrites the streams that unpack to more than `most` bytes, and, once all but the pictures together are more than
/// `total`, the rest of those. Says how many there were.
pub(super) fn blank_what_grows(bytes: &mut [u8], most: u64, total: u64, deadline: Instant) -> Result<usize, Fault> {
    let mut blanked = 0;
    let mut sum = 0;
    let mut at = 0;
    while let Some(stream) = next_stream(bytes, at) {
        at = stream.end.max(stream.start + 1);
        let dictionary = dictionary_before(bytes, stream.start);
        let mut packings = packings_in(&dictionary);
        if packings.is_empty() {
            // Named in another place, if at all: the usual one.
            packings.push(Packing::Flate);
        }
        // Forms are drawn; what a page draws itself is looked at when its turn comes. A kind that is named in another place
        // may be any.
        let is_form = contains(&dictionary, b"/Form") || has_indirect_kind(&dictionary);
        let unpacked = unpacked(&bytes[stream.clone()], &packings, most, is_form, deadline)?;
        let is_picture = contains(&dictionary, b"/Image");
        if let Some((size, _)) = unpacked.as_ref().filter(|_| !is_picture) {
            sum += size;
        }
        let grows = unpacked.is_none_or(|(_, content)| is_form && !is_reasonable(&content));
        if grows || (!is_picture && sum > total) {
            // No way of packing begins with this.
            bytes[stream].fill(0xFF);
            blanked += 1;
        }
    }
    Ok(blanked)
}

/// The content of the next stream from a place on, to its end or that of the file.
fn next_stream(bytes: &[u8], from: usize) -> Option<Range<usize>> {
    let mut at = from;
    loop {
        at += find(bytes.get(at..)?, b"stream")?;
        let mut start = at + 6;
        let is_end = bytes[..at].ends_with(b"end");
        at = start;
        if is_end {
            continue;
        }
        start += usize::from(bytes.get(start) == Some(&b'\r'));
        start += usize::from(bytes.get(start) == Some(&b'\n'));
        let end = find(bytes.get(start..)?, b"endstream").map_or(bytes.len(), |end| start + end);
        return Some(start..end);
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    loop {
        let at = from + haystack.get(from..)?.iter().position(|&byte| byte == first)?;
        if haystack[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    find(haystack, needle).is_some()
}

/// Whether a dictionary says `/Subtype 7 0 R`.
fn has_indirect_kind(dictionary: &[u8]) -> bool {
    let Some(at) = find(dictionary, b"/Subtype") else { return false };
    dictionary[at + 8..].trim_ascii_start().first().is_some_and(u8::is_ascii_digit)
}

/// What stands between the object's beginning and its stream, with names as they read (`#46` is `F`).
fn dictionary_before(bytes: &[u8], stream: usize) -> Vec<u8> {
    let before = &bytes[stream.saturating_sub(MAX_DICTIONARY)..stream];
    let start = before.windows(3).rposition(|window| window == b"obj").unwrap_or(0);
    let mut names = Vec::with_capacity(before.len() - start);
    let mut rest = &before[start..];
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        match code.filter(|_| byte == b'#') {
            Some(code) => {
                names.push(code);
                rest = &after[2..];
            }
            None => {
                names.push(byte);
                rest = after;
            }
        }
    }
    names
}

/// The packings that a dictionary names, in its order.
fn packings_in(dictionary: &[u8]) -> Vec<Packing> {
    const NAMES: &[(&[u8], Packing)] = &[
        (b"/FlateDecode", Packing::Flate),
        (b"/Fl", Packing::Flate),
        (b"/LZWDecode", Packing::Lzw),
        (b"/LZW", Packing::Lzw),
        (b"/RunLengthDecode", Packing::RunLength),
        (b"/RL", Packing::RunLength),
        (b"/ASCII85Decode", Packing::Ascii85),
        (b"/A85", Packing::Ascii85),
        (b"/ASCIIHexDecode", Packing::AsciiHex),
        (b"/AHx", Packing::AsciiHex),
    ];
    let mut found = Vec::new();
    for (at, _) in dictionary.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
        let name = &dictionary[at..];
        let ends = |length: usize| name.get(length).is_none_or(|byte| !byte.is_ascii_alphanumeric());
        let named = NAMES.iter().find(|(known, _)| name.starts_with(known) && ends(known.len()));
        found.extend(named.map(|named| named.1));
    }
    found.truncate(MAX_PACKINGS);
    found
}

/// How many bytes a stream unpacks to, and which if they are to be kept; `None` if more than `most` at any step.
pub(super) fn unpacked(
    packed: &[u8],
    packings: &[Packing],
    most: u64,
    keep: bool,
    deadline: Instant,
) -> Result<Option<(u64, Vec<u8>)>, Fault> {
    let mut content = Cow::Borrowed(packed);
    let mut size = packed.len() as u64;
    for (index, packing) in packings.iter().enumerate() {
        let last = index + 1 == packings.len();
        let mut kept = Vec::new();
        let mut grown = 0;
        let mut take = |bytes: &[u8]| -> Result<bool, Fault> {
            grown += bytes.len() as u64;
            if keep || !last {
                kept.extend_from_slice(bytes);
            }
            if Instant::now() > deadline { Err(Fault::TimedOut) } else { Ok(grown <= most) }
        };
        let within = match packing {
            Packing::Flate => {
                let mut within = drain(ZlibDecoder::new(&*content), &mut take)?;
                // Some writers leave the head out, and readers know it.
                if within == Drained::Nothing {
                    within = drain(DeflateDecoder::new(&*content), &mut take)?;
                }
                within != Drained::TooMuch
            }
            Packing::Lzw => drain_lzw(&content, &mut take)?,
            Packing::RunLength => drain_runs(&content, &mut take)?,
            // These never grow to more than four times; only what they hold may.
            Packing::Ascii85 => take(&ascii_85(&content))?,
            Packing::AsciiHex => take(&ascii_hex(&content))?,
        };
        if !within {
            return Ok(None);
        }
        size = grown;
        content = Cow::Owned(kept);
    }
    Ok(Some((size, if keep { content.into_owned() } else { Vec::new() })))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drained {
    Nothing,
    Something,
    TooMuch,
}

/// Reads to the end, or to where the packing is damaged.
fn drain(mut reader: impl Read, take: &mut dyn FnMut(&[u8]) -> Result<bool, Fault>) -> Result<Drained, Fault> {
    let mut buffer = vec![0; 1 << 16];
    let mut drained = Drained::Nothing;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) | Err(_) => return Ok(drained),
            Ok(read) if take(&buffer[..read])? => drained = Drained::Something,
            Ok(_) => return Ok(Drained::TooMuch),
        }
    }
}

fn drain_lzw(packed: &[u8], take: &mut dyn FnMut(&[u8]) -> Result<bool, Fault>) -> Result<bool, Fault> {
    // Widths change one code earlier or later; either way the size is about the same, so the usual one is taken.
    let mut decoder = Configuration::with_tiff_size_switch(BitOrder::Msb, 8).build();
    let mut buffer = vec![0; 1 << 16];
    let mut rest = packed;
    loop {
        let result = decoder.decode_bytes(rest, &mut buffer);
        rest = &rest[result.consumed_in..];
        if result.consumed_out > 0 && !take(&buffer[..result.consumed_out])? {
            return Ok(false);
        }
        match result.status {
            Ok(weezl::LzwStatus::Ok) if result.consumed_in > 0 || result.consumed_out > 0 => {}
            _ => return Ok(true),
        }
    }
}

fn drain_runs(packed: &[u8], take: &mut dyn FnMut(&[u8]) -> Result<bool, Fault>) -> Result<bool, Fault> {
    let mut rest = packed;
    let mut out = Vec::new();
    while let Some((&length, after)) = rest.split_first() {
        match usize::from(length) {
            128 => break,
            length @ 0..=127 => {
                let count = (length + 1).min(after.len());
                out.extend_from_slice(&after[..count]);
                rest = &after[count..];
            }
            length => {
                let Some((&byte, after)) = after.split_first() else { break };
                out.extend(std::iter::repeat_n(byte, 257 - length));
                rest = after;
            }
        }
        if out.len() >= 1 << 16 && !take(&std::mem::take(&mut out))? {
            return Ok(false);
        }
    }
    take(&out)
}

fn ascii_85(packed: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut group = Vec::new();
    for &byte in packed {
        match byte {
            b'z' if group.is_empty() => out.extend([0; 4]),
            b'!'..=b'u' => group.push(u32::from(byte - b'!')),
            b'~' => break,
            _ => {}
        }
        if group.len() == 5 {
            let value = group.drain(..).fold(0_u32, |value, digit| value.wrapping_mul(85).wrapping_add(digit));
            out.extend(value.to_be_bytes());
        }
    }
    if group.len() > 1 {
        let length = group.len() - 1;
        group.resize(5, 84);
        let value = group.iter().fold(0_u32, |value, digit| value.wrapping_mul(85).wrapping_add(*digit));
        out.extend(&value.to_be_bytes()[..length]);
    }
    out
}

fn ascii_hex(packed: &[u8]) -> Vec<u8> {
    let digits = packed.iter().take_while(|byte| **byte != b'>').filter_map(|byte| char::from(*byte).to_digit(16));
    let digits: Vec<u32> = digits.collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair.get(1).copied().unwrap_or(0)) as u8).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::*;

    fn flate(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn object(dictionary: &str, content: &[u8]) -> Vec<u8> {
        [format!("1 0 obj\n<<{dictionary}>>\nstream\r\n").as_bytes(), content, b"\nendstream\nendobj\n"].concat()
    }

    fn blank(bytes: &mut [u8]) -> usize {
        blank_what_grows(bytes, 10_000, 15_000, Instant::now() + Duration::from_secs(60)).unwrap()
    }

    #[test]
    fn bombs_are_blanked_and_others_are_not() {
        let zeros = vec![0; 100_000];
        let lzw = weezl::encode::Encoder::with_tiff_size_switch(BitOrder::Msb, 8).encode(&zeros).unwrap();
        let runs = [129_u8, 0].repeat(1000);
        for (dictionary, content) in [
            ("/Filter /FlateDecode", flate(&zeros)),
            ("/Filter 7 0 R", flate(&zeros)),
            ("/Filter /#46lateDecode", flate(&zeros)),
            ("/Filter [/FlateDecode/FlateDecode]", flate(&flate(&zeros))),
            ("/Filter /LZWDecode", lzw),
            ("/F /RL", runs),
            ("/Subtype /Image /Filter /Fl", flate(&zeros)),
        ] {
            let mut bytes = object(dictionary, &content);
            assert_eq!(blank(&mut bytes), 1, "{dictionary}");
            assert!(contains(&bytes, &vec![0xFF; content.len()]));
        }
        let small = object("/Filter /FlateDecode", &flate(&[7; 9_000]));
        let mut bytes = small.clone();
        assert_eq!(blank(&mut bytes), 0);
        assert_eq!(bytes, small);
        let form = object("/Subtype/Form/Filter/FlateDecode", &flate("q ".repeat(20_000).as_bytes()));
        let most = |bytes: &mut [u8]| {
            blank_what_grows(bytes, 1 << 20, 1 << 20, Instant::now() + Duration::from_secs(60)).unwrap()
        };
        assert_eq!(most(&mut form.clone()), 1);
        assert_eq!(most(&mut object("/Subtype 7 0 R/Filter/FlateDecode", &flate("q ".repeat(20_000).as_bytes()))), 1);
        // Each is small enough, but not all of them together.
        assert_eq!(blank(&mut small.repeat(3)), 2);
        assert_eq!(blank(&mut object("/Subtype/Image/Filter/FlateDecode", &flate(&[7; 9_000])).repeat(3)), 0);
    }

    #[test]
    fn chains_are_unpacked_in_their_order() {
        let deadline = Instant::now() + Duration::from_secs(60);
        let hex: Vec<u8> = flate(b"content").iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect();
        let chain = [Packing::AsciiHex, Packing::Flate];
        assert_eq!(unpacked(&hex, &chain, 100, true, deadline).unwrap(), Some((7, b"content".to_vec())));
        assert_eq!(ascii_85(b"87cURD]i,\"Ebo80~>"), b"Hello World!");
        assert_eq!(packings_in(b"<</Filter[/A85 /LZW]/Flags 3>>"), [Packing::Ascii85, Packing::Lzw]);
        let late =
            unpacked(&flate(&[0; 1000]), &[Packing::Flate], 10_000, false, Instant::now() - Duration::from_secs(1));
        assert!(matches!(late, Err(Fault::TimedOut)));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, dictionary in "(/Filter|/LZWDecode|/RL|/A85|/AHx|#4|/Fl| |endobj|obj|stream\n|endstream){0,8}") {
            let mut bytes = [dictionary.as_bytes(), b"stream\n", &bytes].concat();
            blank(&mut bytes);
        }
    }
}
