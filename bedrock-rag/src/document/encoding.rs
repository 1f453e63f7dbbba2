//! Which encoding a text is in, and its decoding.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

/// A decoded text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The text.
    pub text: String,
    /// Name of the encoding in the Encoding Standard (`UTF-8`, `windows-1252` …).
    pub encoding: &'static str,
    /// Whether some bytes had no meaning in that encoding and became U+FFFD.
    pub replaced: bool,
}

/// Decodes text of unknown encoding: by byte-order mark, else as UTF-8 when valid, else as UTF-16 when the zero bytes
/// of one are there, else by the guess of [`chardetng`].
///
/// A UTF-8 byte-order mark stays in the text (as U+FEFF), so that offsets keep meaning bytes of the file.
pub fn decode(bytes: &[u8]) -> Decoded {
    if let Some((encoding, mark)) = Encoding::for_bom(bytes)
        && encoding != UTF_8
    {
        return with(encoding, &bytes[mark..]);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        // ASCII text of UTF-16 is valid UTF-8 with zeros between.
        return match utf16_without_mark(bytes) {
            Some(encoding) => with(encoding, bytes),
            None => Decoded { text: text.to_owned(), encoding: UTF_8.name(), replaced: false },
        };
    }
    if bytes.starts_with(b"\xEF\xBB\xBF") {
        let (text, replaced) = UTF_8.decode_without_bom_handling(bytes);
        return Decoded { text: text.into_owned(), encoding: UTF_8.name(), replaced };
    }
    with(utf16_without_mark(bytes).unwrap_or_else(|| guess(bytes)), bytes)
}

/// As [`decode`], but a page's own `<meta charset>` is believed before a guess is made.
pub(super) fn decode_html(bytes: &[u8]) -> Decoded {
    if Encoding::for_bom(bytes).is_some() || std::str::from_utf8(bytes).is_ok() {
        return decode(bytes);
    }
    match declared_charset(bytes) {
        // A page that declares UTF-16 in ASCII letters is not UTF-16 (the Encoding Standard says UTF-8).
        Some(encoding) if encoding == UTF_16LE || encoding == UTF_16BE => with(UTF_8, bytes),
        Some(encoding) => with(encoding, bytes),
        None => decode(bytes),
    }
}

fn with(encoding: &'static Encoding, bytes: &[u8]) -> Decoded {
    let (text, replaced) = encoding.decode_without_bom_handling(bytes);
    Decoded { text: text.into_owned(), encoding: encoding.name(), replaced }
}

/// UTF-16 text of any European language has a zero in nearly every second byte.
fn utf16_without_mark(bytes: &[u8]) -> Option<&'static Encoding> {
    let head = &bytes[..bytes.len().min(4096) & !1];
    let pairs = head.len() / 2;
    if pairs < 4 || !bytes.len().is_multiple_of(2) {
        return None;
    }
    let high_zero = head.chunks_exact(2).filter(|pair| pair[1] == 0 && pair[0] != 0).count();
    let low_zero = head.chunks_exact(2).filter(|pair| pair[0] == 0 && pair[1] != 0).count();
    if high_zero * 10 >= pairs * 7 && low_zero == 0 {
        Some(UTF_16LE)
    } else if low_zero * 10 >= pairs * 7 && high_zero == 0 {
        Some(UTF_16BE)
    } else {
        None
    }
}

/// Guesses from at most a mebibyte around the first byte that is not ASCII: the rest adds time, not certainty.
fn guess(bytes: &[u8]) -> &'static Encoding {
    const INSPECTED: usize = 1 << 20;
    let first = bytes.iter().position(|byte| !byte.is_ascii()).unwrap_or(0);
    let start = first.saturating_sub(1024);
    let end = bytes.len().min(start + INSPECTED);
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(&bytes[start..end], end == bytes.len());
    detector.guess(None, Utf8Detection::Deny)
}

/// The charset that a `<meta>` in the first 4 KiB declares, in either of its two forms.
fn declared_charset(bytes: &[u8]) -> Option<&'static Encoding> {
    let head = bytes[..bytes.len().min(4096)].to_ascii_lowercase();
    let mut rest = head.as_slice();
    while let Some(at) = find(rest, b"<meta") {
        rest = &rest[at + 5..];
        let end = find(rest, b">").unwrap_or(rest.len());
        let tag = &rest[..end];
        if let Some(at) = find(tag, b"charset") {
            let value = tag[at + 7..].trim_ascii_start();
            if let Some(value) = value.strip_prefix(b"=") {
                let value = value.trim_ascii_start();
                let value = value.strip_prefix(b"\"").or(value.strip_prefix(b"'")).unwrap_or(value);
                let end = value
                    .iter()
                    .position(|byte| matches!(byte, b'"' | b'\'' | b';' | b'/') || byte.is_ascii_whitespace())
                    .unwrap_or(value.len());
                return Encoding::for_label(&value[..end]);
            }
        }
        rest = &rest[end..];
    }
    None
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_validity_decide_before_guesses() {
        let utf16: Vec<u8> = "\u{feff}Grüße".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(decode(&utf16), Decoded { text: "Grüße".into(), encoding: "UTF-16LE", replaced: false });
        let bare: Vec<u8> = "plain words".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(decode(&bare), Decoded { text: "plain words".into(), encoding: "UTF-16BE", replaced: false });
        assert_eq!(decode("日本語".as_bytes()).encoding, "UTF-8");
        assert_eq!(decode(b"\xEF\xBB\xBFbad \xFF byte").text, "\u{feff}bad \u{fffd} byte");
    }

    #[test]
    fn legacy_encodings_are_guessed() {
        let latin = b"Port ABC contrata\xe7\xe3o de sucesso. Espa\xf1ol: pr\xe1cticas y donaci\xf3n.";
        let decoded = decode(latin);
        assert_eq!(decoded.encoding, "windows-1252");
        assert!(decoded.text.contains("contratação"));
        let (cyrillic, ..) =
            encoding_rs::WINDOWS_1251.encode("Съешь же ещё этих мягких французских булок, да выпей чаю");
        assert_eq!(decode(&cyrillic).encoding, "windows-1251");
        let (japanese, ..) = encoding_rs::SHIFT_JIS.encode("これは日本語の文章です。文字コードを判定します。");
        assert_eq!(decode(&japanese).encoding, "Shift_JIS");
    }

    #[test]
    fn a_page_is_believed_about_its_charset() {
        let page = b"<html><meta http-equiv=Content-Type content='text/html; charset=iso-8859-2'><p>\xb1\xe6";
        assert_eq!(decode_html(page).encoding, "ISO-8859-2");
        assert_eq!(decode_html(b"<meta charset=utf-16><p>\xff").encoding, "UTF-8");
    }
}
