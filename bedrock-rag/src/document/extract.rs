//! Reading a document whatever its format, within limits.

use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::{Document, Format, encoding, format, html, markdown};
use crate::Error;

/// Limits of reading one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtractOptions {
    /// Largest file read, in bytes. Default 50 MB (50,000,000), the service's limit.
    pub max_bytes: u64,
    /// Most bytes that what is packed in a file may unpack to: the parts of an Office document that hold text, and each
    /// of a PDF's streams and all of them together. Default 256 MiB (a single stream or table of strings: a quarter).
    pub max_expanded_bytes: u64,
    /// Most bytes of text that a packed document may give. Default 64 MiB.
    pub max_text_bytes: u64,
    /// Most pages read of one document; there may be no more. Default 20,000.
    pub max_pages: usize,
    /// Longest time spent on one packed document. Default 8 seconds.
    pub max_time: Duration,
}

impl Default for ExtractOptions {
    fn default() -> Self {
        Self {
            max_bytes: 50_000_000,
            max_expanded_bytes: 256 << 20,
            max_text_bytes: 64 << 20,
            max_pages: 20_000,
            max_time: Duration::from_secs(8),
        }
    }
}

/// Reads one file.
///
/// # Errors
/// [`Error::Read`], [`Error::DocumentTooLarge`], and those of [`extract`].
pub fn extract_file(path: &Path, options: &ExtractOptions) -> Result<Document, Error> {
    let name = path.to_string_lossy();
    extract(&name, &read_bounded(path, options.max_bytes)?, options)
}

/// Reads a file whole unless it is larger than `limit`, also when it grows while being read.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let too_large = |bytes| Error::DocumentTooLarge { name: path.to_string_lossy().into_owned(), bytes, limit };
    let file = File::open(path).map_err(|source| Error::read(path, source))?;
    let facts = file.metadata().map_err(|source| Error::read(path, source))?;
    if !facts.is_file() {
        return Err(Error::read(path, std::io::Error::other("not a regular file")));
    }
    if facts.len() > limit {
        return Err(too_large(facts.len()));
    }
    let mut bytes = Vec::with_capacity(facts.len() as usize);
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|source| Error::read(path, source))?;
    if bytes.len() as u64 > limit {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

/// Reads a document that is in memory. `name` is used for its suffix and in errors. Empty text gives an empty document.
///
/// # Errors
/// - [`Error::DocumentTooLarge`] beyond `options.max_bytes`;
/// - [`Error::UnsupportedFormat`] for a format that is known but not read, by this build or at all (images, archives …);
/// - [`Error::FormatMismatch`] when the suffix promises such a format but the content is another;
/// - [`Error::NotText`] for binary data of no known format;
/// - [`Error::EncryptedDocument`] when a password is needed;
/// - [`Error::MalformedDocument`] when the file does not follow its format (cut off, damaged, hostile);
/// - [`Error::DocumentGrows`] and [`Error::DocumentTimedOut`] beyond the other limits;
/// - [`Error::ParserFailed`] should a parser give up; [`Error::ParsersBusy`] when too many never came back.
pub fn extract(name: &str, bytes: &[u8], options: &ExtractOptions) -> Result<Document, Error> {
    if bytes.len() as u64 > options.max_bytes {
        return Err(Error::DocumentTooLarge {
            name: name.to_owned(),
            bytes: bytes.len() as u64,
            limit: options.max_bytes,
        });
    }
    match format::identify(name, bytes)? {
        format @ (Format::Txt | Format::Md | Format::Html) => text(name, bytes, format),
        format => packed(name, bytes, format, options),
    }
}

/// Text, which is parsed where it is: these parsers take time and memory in proportion to their input.
fn text(name: &str, bytes: &[u8], format: Format) -> Result<Document, Error> {
    let decoded = if format == Format::Html { encoding::decode_html(bytes) } else { encoding::decode(bytes) };
    refuse_binary(name, &decoded.text)?;
    let format = match format {
        Format::Txt if format::looks_like_html(decoded.text.as_bytes()) => Format::Html,
        format => format,
    };
    let text = decoded.text;
    // The parsers are fuzzed upstream, but they are code that we did not write meeting files that nobody vetted: should
    // one panic, that costs this one document and nothing else.
    let parsed = catch_unwind(AssertUnwindSafe(|| match format {
        Format::Md => markdown::parse(text),
        Format::Html => html::parse(&text),
        _ => Document::from_text(text),
    }));
    let mut document = parsed.map_err(|panic| Error::ParserFailed {
        name: name.to_owned(),
        format: format.name(),
        message: panic_message(&*panic),
    })?;
    document.format = Some(format);
    document.metadata.insert("encoding".to_owned(), Value::from(decoded.encoding));
    if decoded.replaced {
        document.metadata.insert("undecodable".to_owned(), Value::from(true));
    }
    Ok(document)
}

/// A format whose parser is confined to a thread.
#[cfg(any(feature = "word", feature = "spreadsheet", feature = "pdf", feature = "csv"))]
fn packed(name: &str, bytes: &[u8], format: Format, options: &ExtractOptions) -> Result<Document, Error> {
    use super::compose::Fault;

    type Parser = fn(Vec<u8>, &ExtractOptions) -> Result<Document, Fault>;
    let parser: Parser = match format {
        #[cfg(feature = "csv")]
        Format::Csv => {
            let decoded = encoding::decode(&bytes[..bytes.len().min(1 << 16)]);
            refuse_binary(name, &decoded.text)?;
            super::csv::parse
        }
        #[cfg(feature = "word")]
        Format::Docx => super::word::docx::parse,
        #[cfg(feature = "word")]
        Format::Doc => super::word::doc::parse,
        #[cfg(feature = "word")]
        Format::Rtf => super::word::rtf::parse,
        #[cfg(feature = "spreadsheet")]
        Format::Xlsx => super::spreadsheet::xlsx::parse,
        #[cfg(feature = "spreadsheet")]
        Format::Xls => super::spreadsheet::xls::parse,
        #[cfg(feature = "pdf")]
        Format::Pdf => super::pdf::parse,
        _ => return Err(Error::UnsupportedFormat { name: name.to_owned(), format: format.words() }),
    };
    let name = name.to_owned();
    let (content, limits) = (bytes.to_vec(), options.clone());
    match super::confine::confined(options.max_time, move || parser(content, &limits)) {
        Ok(mut document) => {
            document.format = Some(format);
            Ok(document)
        }
        Err(fault) => Err(match fault {
            Fault::Malformed(reason) => Error::MalformedDocument { name, format: format.words(), reason },
            Fault::Encrypted => Error::EncryptedDocument { name, format: format.words() },
            Fault::Holds(found) => Error::FormatMismatch { name, claimed: format.words(), found },
            Fault::TooLarge { what, limit } => Error::DocumentGrows { name, what, limit },
            Fault::TimedOut => Error::DocumentTimedOut { name, limit: options.max_time },
            Fault::Busy => Error::ParsersBusy { name },
            Fault::Panicked(message) => Error::ParserFailed { name, format: format.name(), message },
        }),
    }
}

#[cfg(not(any(feature = "word", feature = "spreadsheet", feature = "pdf", feature = "csv")))]
fn packed(name: &str, _: &[u8], format: Format, _: &ExtractOptions) -> Result<Document, Error> {
    Err(Error::UnsupportedFormat { name: name.to_owned(), format: format.words() })
}

/// The words of a caught panic.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panicked".to_owned())
}

/// Text has few control characters; anything else that comes by under a text's name is refused.
fn refuse_binary(name: &str, text: &str) -> Result<(), Error> {
    const INSPECTED: usize = 65_536;
    let mut inspected = 0;
    let mut control = 0;
    for character in text.chars().take(INSPECTED) {
        inspected += 1;
        if character.is_control() && !matches!(character, '\t' | '\n' | '\r' | '\x0B' | '\x0C' | '\x1B' | '\u{85}') {
            control += 1;
        }
    }
    if control * 20 > inspected {
        return Err(Error::NotText { name: name.to_owned(), control, inspected });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, bytes: &[u8]) -> Result<Document, Error> {
        extract(name, bytes, &ExtractOptions::default())
    }

    #[test]
    fn utf8_text_is_the_file_byte_for_byte() {
        let text = "\u{feff}First line.\r\nSecond: naïve café\n";
        let document = read("a.txt", text.as_bytes()).unwrap();
        assert_eq!(document.text, text);
        assert_eq!(document.format, Some(Format::Txt));
        assert_eq!(document.metadata["encoding"], "UTF-8");
    }

    #[test]
    fn binary_data_and_too_large_files_are_refused() {
        assert!(matches!(read("a.txt", b"start\0\0middle\0end\n"), Err(Error::NotText { .. })));
        let tight = ExtractOptions { max_bytes: 3, ..ExtractOptions::default() };
        assert!(matches!(extract("a.txt", b"four", &tight), Err(Error::DocumentTooLarge { bytes: 4, limit: 3, .. })));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, "four").unwrap();
        assert!(matches!(extract_file(&path, &tight), Err(Error::DocumentTooLarge { .. })));
        assert!(matches!(extract_file(folder.path(), &tight), Err(Error::Read { .. })));
    }

    #[test]
    fn empty_files_are_empty_documents() {
        for name in ["a.txt", "a.md", "a.html"] {
            assert_eq!(read(name, b"").unwrap().text, "");
        }
    }

    #[test]
    fn utf16_pages_are_pages() {
        let page: Vec<u8> = "\u{feff}<html><p>Grüße".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let document = read("a.txt", &page).unwrap();
        assert_eq!((document.format, document.text.as_str()), (Some(Format::Html), "Grüße"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_under_any_name_return(bytes: Vec<u8>, suffix in "(txt|md|html|htm|pdf|doc|docx|xls|xlsx|rtf|csv|)") {
            let _ = read(&format!("a.{suffix}"), &bytes);
        }

        #[test]
        fn any_tag_soup_returns(text in "(<|>|/|div|script|table|td|tr|th|li|ol|title|meta content=\"|[a-z ]|&amp|&#x|;|\"|!--|\n|é){0,60}") {
            let document = read("a.html", text.as_bytes()).unwrap();
            for heading in &document.headings {
                proptest::prop_assert!(document.text.is_char_boundary(heading.start));
            }
            for table in &document.tables {
                proptest::prop_assert!(table.range.start <= table.head.end && table.head.end <= table.range.end);
                proptest::prop_assert!(document.text.get(table.range.clone()).is_some());
                proptest::prop_assert!(document.text.get(table.head.clone()).is_some());
            }
        }
    }
}
