//! From the bytes of a file to readable text with its structure.
//!
//! Nothing here fetches, follows or runs anything that a document mentions. Every function is total: a file it can't
//! read gives a typed error for that file.
//!
//! The text of a UTF-8 text or Markdown file is the file itself, byte for byte, so that offsets into the text are
//! offsets into the file. Text of other encodings and of HTML is made, and offsets refer to what was made.

mod encoding;
mod folder;
mod html;
mod markdown;
mod sidecar;

pub use encoding::{Decoded, decode};
pub use folder::{Folder, FolderFile, FolderLimits};
pub(crate) use sidecar::MAX_SIDECAR_BYTES;
pub use sidecar::{SIDECAR_SUFFIX, parse_sidecar};

use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Error;

/// Attributes of a document: names to strings, numbers, booleans or lists of strings.
pub type Metadata = Map<String, Value>;

/// A document's format, judged by its content first and its name second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Format {
    /// Plain text.
    Txt,
    /// Markdown (CommonMark with tables and front matter).
    Md,
    /// HTML.
    Html,
}

impl Format {
    /// The usual file suffix, which is also the name in outputs: `txt`, `md` or `html`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Txt => "txt",
            Self::Md => "md",
            Self::Html => "html",
        }
    }
}

/// A heading and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heading {
    /// 1 (outermost) to 6.
    pub level: u8,
    /// Byte offset into [`Document::text`] where the heading starts.
    pub start: usize,
    /// The heading's words, without markup.
    pub text: String,
}

/// What a line end in [`Document::text`] means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineEnds {
    /// A line may end inside a sentence (hard-wrapped text, Markdown).
    #[default]
    Soft,
    /// A line end separates blocks, rows or items.
    Hard,
}

/// The text of a document and what is known about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// Readable text.
    pub text: String,
    /// Format it was read from; `None` for text that never was a file.
    pub format: Option<Format>,
    /// Title, when the document names one.
    pub title: Option<String>,
    /// Headings in the order of the text.
    pub headings: Vec<Heading>,
    /// How line ends are to be read.
    pub line_ends: LineEnds,
    /// What the document says about itself (author, description, language …) and how it was read (`encoding`).
    pub metadata: Metadata,
}

impl Document {
    /// A document of plain text that is in memory already.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// The headings that a byte offset stands under, outermost first; the heading it stands in is included.
    pub fn heading_path(&self, offset: usize) -> Vec<&str> {
        let before = self.headings.partition_point(|heading| heading.start <= offset);
        let mut path = Vec::new();
        let mut level = u8::MAX;
        for heading in self.headings[..before].iter().rev() {
            if heading.level < level {
                path.push(heading.text.as_str());
                level = heading.level;
                if level == 1 {
                    break;
                }
            }
        }
        path.reverse();
        path
    }
}

/// Limits of reading one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtractOptions {
    /// Largest file read, in bytes. Default 50 MB (50,000,000), the service's limit.
    pub max_bytes: u64,
}

impl Default for ExtractOptions {
    fn default() -> Self {
        Self { max_bytes: 50_000_000 }
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

/// Reads a document that is in memory. `name` is used for its suffix and in errors. Empty input gives an empty document.
///
/// # Errors
/// - [`Error::DocumentTooLarge`] beyond `options.max_bytes`;
/// - [`Error::UnsupportedFormat`] for a format that is known but not read (PDF, office formats, images, archives …);
/// - [`Error::FormatMismatch`] when the suffix promises such a format but the content is another;
/// - [`Error::NotText`] for binary data of no known format;
/// - [`Error::ParserFailed`] should a parser give up.
pub fn extract(name: &str, bytes: &[u8], options: &ExtractOptions) -> Result<Document, Error> {
    if bytes.len() as u64 > options.max_bytes {
        return Err(Error::DocumentTooLarge {
            name: name.to_owned(),
            bytes: bytes.len() as u64,
            limit: options.max_bytes,
        });
    }
    let suffix = Path::new(name).extension().map(|s| s.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let claimed = unreadable_suffix(&suffix);
    match (magic(bytes), claimed) {
        (Some(found), Some(claimed)) if found != claimed && !is_container_of(found, claimed) => {
            return Err(Error::FormatMismatch { name: name.to_owned(), claimed, found });
        }
        (Some(_), Some(format)) | (Some(format), None) => {
            return Err(Error::UnsupportedFormat { name: name.to_owned(), format });
        }
        (None, Some("a CSV table")) => {
            return Err(Error::UnsupportedFormat { name: name.to_owned(), format: "a CSV table" });
        }
        (None, Some(claimed)) => {
            let found = if bytes.is_empty() { "empty" } else { "of no known kind" };
            return Err(Error::FormatMismatch { name: name.to_owned(), claimed, found });
        }
        (None, None) => {}
    }
    let html_suffix = matches!(suffix.as_str(), "html" | "htm" | "xhtml");
    let decoded =
        if html_suffix || looks_like_html(bytes) { encoding::decode_html(bytes) } else { encoding::decode(bytes) };
    refuse_binary(name, &decoded.text)?;
    let format = match suffix.as_str() {
        "md" | "markdown" | "mdown" | "mkd" => Format::Md,
        _ if html_suffix || looks_like_html(decoded.text.as_bytes()) => Format::Html,
        _ => Format::Txt,
    };
    let encoding = decoded.encoding;
    let lossy = decoded.replaced;
    let text = decoded.text;
    // The parsers are fuzzed upstream, but they are code that we did not write meeting files that nobody vetted: should
    // one panic, that costs this one document and nothing else.
    let parsed = catch_unwind(AssertUnwindSafe(|| match format {
        Format::Txt => Document::from_text(text),
        Format::Md => markdown::parse(text),
        Format::Html => html::parse(&text),
    }));
    let mut document = parsed.map_err(|panic| Error::ParserFailed {
        name: name.to_owned(),
        format: format.name(),
        message: panic_message(&*panic),
    })?;
    document.format = Some(format);
    document.metadata.insert("encoding".to_owned(), Value::from(encoding));
    if lossy {
        document.metadata.insert("undecodable".to_owned(), Value::from(true));
    }
    Ok(document)
}

/// The words of a caught panic.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panicked".to_owned())
}

const ZIP: &str = "a ZIP archive";
const OLE: &str = "an OLE compound file";

/// Known formats that are not text, by their first bytes.
fn magic(bytes: &[u8]) -> Option<&'static str> {
    const TABLE: &[(&[u8], &str)] = &[
        (b"%PDF-", "a PDF document"),
        (b"PK\x03\x04", ZIP),
        (b"PK\x05\x06", ZIP),
        (b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", OLE),
        (b"{\\rtf", "a Rich Text document"),
        (b"\x1F\x8B", "gzip data"),
        (b"\x89PNG\r\n\x1A\n", "a PNG image"),
        (b"\xFF\xD8\xFF", "a JPEG image"),
        (b"GIF8", "a GIF image"),
        (b"\x7FELF", "an ELF program"),
        (b"SQLite format 3\0", "an SQLite database"),
    ];
    TABLE.iter().find(|(start, _)| bytes.starts_with(start)).map(|&(_, format)| format)
}

/// Formats that a suffix promises and that are not read as text.
fn unreadable_suffix(suffix: &str) -> Option<&'static str> {
    Some(match suffix {
        "pdf" => "a PDF document",
        "doc" => "a Word 97 document",
        "docx" => "a Word document",
        "xls" => "an Excel 97 workbook",
        "xlsx" => "an Excel workbook",
        "ppt" => "a PowerPoint 97 presentation",
        "pptx" => "a PowerPoint presentation",
        "odt" => "an OpenDocument text",
        "rtf" => "a Rich Text document",
        "csv" => "a CSV table",
        "epub" => "an EPUB book",
        "zip" => ZIP,
        "gz" => "gzip data",
        "png" => "a PNG image",
        "jpg" | "jpeg" => "a JPEG image",
        "gif" => "a GIF image",
        _ => return None,
    })
}

/// Whether a file of the claimed format is, from outside, a file of the found one.
fn is_container_of(found: &str, claimed: &str) -> bool {
    match found {
        ZIP => matches!(
            claimed,
            "a Word document"
                | "an Excel workbook"
                | "a PowerPoint presentation"
                | "an OpenDocument text"
                | "an EPUB book"
        ),
        OLE => claimed.ends_with("97 document") || claimed.contains("97 "),
        _ => false,
    }
}

/// Whether the first words of a file are those of an HTML page.
fn looks_like_html(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let start = bytes.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(bytes.len());
    let head = &bytes[start..bytes.len().min(start + 1024)];
    let starts = |word: &[u8]| head.len() >= word.len() && head[..word.len()].eq_ignore_ascii_case(word);
    if starts(b"<!doctype html") || starts(b"<html") {
        return true;
    }
    // XHTML: an XML declaration first, and then the html element somewhere near.
    starts(b"<?xml")
        && (head.windows(5).any(|window| window.eq_ignore_ascii_case(b"<html"))
            || head.windows(14).any(|window| window.eq_ignore_ascii_case(b"<!doctype html")))
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
    fn content_decides_over_the_suffix() {
        assert_eq!(read("a.txt", b"  <!DOCTYPE HTML><p>x").unwrap().format, Some(Format::Html));
        assert_eq!(read("noextension", b"plain words").unwrap().format, Some(Format::Txt));
        assert_eq!(read("a.md", b"# <html>").unwrap().format, Some(Format::Md));
        assert!(matches!(
            read("a.txt", b"%PDF-1.7 ..."),
            Err(Error::UnsupportedFormat { format: "a PDF document", .. })
        ));
        assert!(matches!(read("a.pdf", b"%PDF-1.7 ..."), Err(Error::UnsupportedFormat { .. })));
        assert!(matches!(
            read("a.docx", b"PK\x03\x04..."),
            Err(Error::UnsupportedFormat { format: "a Word document", .. })
        ));
        assert!(matches!(read("a.pdf", b"PK\x03\x04..."), Err(Error::FormatMismatch { .. })));
        assert!(matches!(read("a.doc", b"plain words"), Err(Error::FormatMismatch { .. })));
        assert!(matches!(read("a.xlsx", b""), Err(Error::FormatMismatch { found: "empty", .. })));
    }

    #[test]
    fn binary_data_and_too_large_files_are_refused() {
        assert!(matches!(read("a.txt", b"start\0\0middle\0end\n"), Err(Error::NotText { .. })));
        let tight = ExtractOptions { max_bytes: 3 };
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
    fn heading_path_follows_the_levels() {
        let heading = |level, start, text: &str| Heading { level, start, text: text.to_owned() };
        let document = Document {
            headings: vec![heading(1, 10, "A"), heading(3, 20, "deep"), heading(2, 30, "B"), heading(1, 40, "C")],
            ..Document::default()
        };
        assert!(document.heading_path(5).is_empty());
        assert_eq!(document.heading_path(10), ["A"]);
        assert_eq!(document.heading_path(25), ["A", "deep"]);
        assert_eq!(document.heading_path(35), ["A", "B"]);
        assert_eq!(document.heading_path(99), ["C"]);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_under_any_name_return(bytes: Vec<u8>, suffix in "(txt|md|html|htm|pdf|doc|)") {
            let _ = read(&format!("a.{suffix}"), &bytes);
        }

        #[test]
        fn any_tag_soup_returns(text in "(<|>|/|div|script|table|td|li|ol|title|meta content=\"|[a-z ]|&amp|&#x|;|\"|!--|\n|é){0,60}") {
            let document = read("a.html", text.as_bytes()).unwrap();
            for heading in &document.headings {
                proptest::prop_assert!(document.text.is_char_boundary(heading.start));
            }
        }
    }
}
