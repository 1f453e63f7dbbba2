//! What kind of file this is: by its content first, by its name second.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Error;

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
    /// A table with separators.
    Csv,
    /// A PDF document.
    Pdf,
    /// A Word document (Office Open XML).
    Docx,
    /// A Word 97 to 2003 document.
    Doc,
    /// A Rich Text document.
    Rtf,
    /// An Excel workbook (Office Open XML).
    Xlsx,
    /// An Excel 97 to 2003 workbook.
    Xls,
}

impl Format {
    /// The usual file suffix, which is also the name in outputs: `txt`, `md`, `html` …
    pub fn name(self) -> &'static str {
        match self {
            Self::Txt => "txt",
            Self::Md => "md",
            Self::Html => "html",
            Self::Csv => "csv",
            Self::Pdf => "pdf",
            Self::Docx => "docx",
            Self::Doc => "doc",
            Self::Rtf => "rtf",
            Self::Xlsx => "xlsx",
            Self::Xls => "xls",
        }
    }

    /// The format in words, for errors.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Txt => "a text",
            Self::Md => "a Markdown text",
            Self::Html => "an HTML page",
            Self::Csv => "a CSV table",
            Self::Pdf => "a PDF document",
            Self::Docx => "a Word document",
            Self::Doc => "a Word 97 document",
            Self::Rtf => "a Rich Text document",
            Self::Xlsx => "an Excel workbook",
            Self::Xls => "an Excel 97 workbook",
        }
    }
}

/// What the first look at the bytes says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Known(Format),
    /// A format that is known and not read.
    Other(&'static str),
    /// An Office file under a password.
    Encrypted,
    /// Nothing of the above: text, or bytes of no known kind.
    Plain,
}

/// Finds out the format of a file.
///
/// What is read as text may be named as it likes. A name that promises a packed format is held to it, but for what is
/// common in the wild: programs that save HTML, RTF or the newer format under the older suffix, and the other way round.
pub(super) fn identify(name: &str, bytes: &[u8]) -> Result<Format, Error> {
    let suffix = Path::new(name).extension().map(|s| s.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let claim = claimed(&suffix);
    let content = look(bytes, claim);
    let mismatch = |claimed, found| Err(Error::FormatMismatch { name: name.to_owned(), claimed, found });
    let unsupported = |format| Err(Error::UnsupportedFormat { name: name.to_owned(), format });
    match (claim, content) {
        (Claim::Read(format), Content::Encrypted) => {
            Err(Error::EncryptedDocument { name: name.to_owned(), format: format.words() })
        }
        (_, Content::Encrypted) => {
            Err(Error::EncryptedDocument { name: name.to_owned(), format: "an Office document" })
        }
        (Claim::Read(claimed), Content::Known(found)) if stands_for(claimed, found) => Ok(found),
        (Claim::Read(claimed), Content::Known(found)) => mismatch(claimed.words(), found.words()),
        (Claim::Read(claimed), Content::Other(found)) => mismatch(claimed.words(), found),
        (Claim::Read(Format::Csv), Content::Plain) => Ok(Format::Csv),
        (Claim::Read(claimed), Content::Plain) => {
            let found = if bytes.is_empty() { "empty" } else { "of no known kind" };
            mismatch(claimed.words(), found)
        }
        (Claim::Refuse(claimed), Content::Plain) => {
            let found = if bytes.is_empty() { "empty" } else { "of no known kind" };
            mismatch(claimed, found)
        }
        (Claim::Refuse(claimed), Content::Known(found)) => mismatch(claimed, found.words()),
        (Claim::Refuse(claimed), Content::Other(found)) if found == claimed || is_container_of(found, claimed) => {
            unsupported(claimed)
        }
        (Claim::Refuse(claimed), Content::Other(found)) => mismatch(claimed, found),
        (Claim::Text(_), Content::Other(found)) => unsupported(found),
        (Claim::Text(_), Content::Known(found)) => Ok(found),
        (Claim::Text(format), Content::Plain) => Ok(format),
    }
}

/// What a suffix promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// Text, which any content may turn out not to be.
    Text(Format),
    /// A format with a look of its own.
    Read(Format),
    /// A format that is not read.
    Refuse(&'static str),
}

fn claimed(suffix: &str) -> Claim {
    match suffix {
        "pdf" => Claim::Read(Format::Pdf),
        "doc" | "dot" => Claim::Read(Format::Doc),
        "docx" | "docm" | "dotx" | "dotm" => Claim::Read(Format::Docx),
        "xls" | "xlt" => Claim::Read(Format::Xls),
        "xlsx" | "xlsm" | "xltx" | "xltm" => Claim::Read(Format::Xlsx),
        "rtf" => Claim::Read(Format::Rtf),
        "csv" | "tsv" => Claim::Read(Format::Csv),
        "md" | "markdown" | "mdown" | "mkd" => Claim::Text(Format::Md),
        "html" | "htm" | "xhtml" => Claim::Text(Format::Html),
        "ppt" => Claim::Refuse(POWERPOINT_97),
        "pptx" => Claim::Refuse(POWERPOINT),
        "xlsb" => Claim::Refuse(EXCEL_BINARY),
        "odt" | "ods" | "odp" => Claim::Refuse(OPEN_DOCUMENT),
        "epub" => Claim::Refuse("an EPUB book"),
        "zip" => Claim::Refuse(ZIP),
        "gz" => Claim::Refuse("gzip data"),
        "png" => Claim::Refuse("a PNG image"),
        "jpg" | "jpeg" => Claim::Refuse("a JPEG image"),
        "gif" => Claim::Refuse("a GIF image"),
        _ => Claim::Text(Format::Txt),
    }
}

/// Whether a file that is named as one format may be the other.
fn stands_for(claimed: Format, found: Format) -> bool {
    use Format::{Csv, Doc, Docx, Html, Rtf, Xls, Xlsx};
    claimed == found
        || matches!(
            (claimed, found),
            (Doc, Docx | Rtf | Html) | (Docx, Doc) | (Rtf, Doc | Docx) | (Xls, Xlsx | Html) | (Xlsx, Xls) | (Csv, Html)
        )
}

const ZIP: &str = "a ZIP archive";
const OLE: &str = "an OLE compound file";
const POWERPOINT: &str = "a PowerPoint presentation";
const POWERPOINT_97: &str = "a PowerPoint 97 presentation";
const EXCEL_BINARY: &str = "an Excel binary workbook";
const OPEN_DOCUMENT: &str = "an OpenDocument file";

/// Whether a file of the claimed format is, from outside, a file of the found one.
fn is_container_of(found: &str, claimed: &str) -> bool {
    found == ZIP && matches!(claimed, POWERPOINT | EXCEL_BINARY | OPEN_DOCUMENT | "an EPUB book")
        || found == OLE && claimed == POWERPOINT_97
}

fn look(bytes: &[u8], claim: Claim) -> Content {
    const TABLE: &[(&[u8], Content)] = &[
        (b"%PDF-", Content::Known(Format::Pdf)),
        (b"{\\rtf", Content::Known(Format::Rtf)),
        (b"\x1F\x8B", Content::Other("gzip data")),
        (b"\x89PNG\r\n\x1A\n", Content::Other("a PNG image")),
        (b"\xFF\xD8\xFF", Content::Other("a JPEG image")),
        (b"GIF8", Content::Other("a GIF image")),
        (b"\x7FELF", Content::Other("an ELF program")),
        (b"SQLite format 3\0", Content::Other("an SQLite database")),
    ];
    if let Some(&(_, content)) = TABLE.iter().find(|(start, _)| bytes.starts_with(start)) {
        return content;
    }
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        return look_into_archive(bytes, claim);
    }
    if bytes.starts_with(b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1") {
        return look_into_compound(bytes, claim);
    }
    // The saying is that the header is within the first kibibyte; only a name that promises a PDF makes us believe it.
    let head = &bytes[..bytes.len().min(1024)];
    if claim == Claim::Read(Format::Pdf) && head.windows(5).any(|window| window == b"%PDF-") {
        return Content::Known(Format::Pdf);
    }
    if looks_like_html(bytes) { Content::Known(Format::Html) } else { Content::Plain }
}

/// The kind of a ZIP archive by the names in its directory; the claim, when the directory can't be found.
fn look_into_archive(bytes: &[u8], claim: Claim) -> Content {
    let Some(names) = archive_names(bytes) else {
        return match claim {
            Claim::Read(format @ (Format::Docx | Format::Xlsx)) => Content::Known(format),
            Claim::Read(Format::Doc) => Content::Known(Format::Docx),
            Claim::Read(Format::Xls) => Content::Known(Format::Xlsx),
            _ => Content::Other(ZIP),
        };
    };
    let mut kind = Content::Other(ZIP);
    for name in names {
        kind = match name {
            b"word/document.xml" | b"word/document2.xml" => return Content::Known(Format::Docx),
            b"xl/workbook.xml" => return Content::Known(Format::Xlsx),
            b"xl/workbook.bin" => return Content::Other(EXCEL_BINARY),
            b"ppt/presentation.xml" => return Content::Other(POWERPOINT),
            b"META-INF/manifest.xml" => Content::Other(OPEN_DOCUMENT),
            b"META-INF/container.xml" => Content::Other("an EPUB book"),
            // An Office package whose main part has a name of its own: believe the suffix.
            b"[Content_Types].xml" if kind == Content::Other(ZIP) => match claim {
                Claim::Read(Format::Docx | Format::Doc) => Content::Known(Format::Docx),
                Claim::Read(Format::Xlsx | Format::Xls) => Content::Known(Format::Xlsx),
                _ => kind,
            },
            _ => kind,
        };
    }
    kind
}

/// The names in an archive's central directory; `None` if that is not where it should be.
fn archive_names(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    const END: &[u8] = b"PK\x05\x06";
    const MOST: usize = 10_000;
    let tail = bytes.len().saturating_sub(65_557);
    let end = tail + bytes[tail..].windows(4).rposition(|window| window == END)?;
    let number = |at: usize, width: usize| -> Option<usize> {
        let field = bytes.get(at..at.checked_add(width)?)?;
        Some(field.iter().rev().fold(0, |value, &byte| value << 8 | usize::from(byte)))
    };
    // Counted back from its end: an archive with something before it still opens.
    let mut at = end.checked_sub(number(end + 12, 4)?)?;
    let mut names = Vec::new();
    while names.len() < MOST && bytes.get(at..at + 4) == Some(b"PK\x01\x02") {
        let (name, extra, comment) = (number(at + 28, 2)?, number(at + 30, 2)?, number(at + 32, 2)?);
        names.push(bytes.get(at + 46..at + 46 + name)?);
        at += 46 + name + extra + comment;
    }
    (!names.is_empty()).then_some(names)
}

/// The kind of a compound file by the streams in its directory, whose entries are 128 bytes at multiples of 128.
fn look_into_compound(bytes: &[u8], claim: Claim) -> Content {
    let (mut word, mut excel, mut power_point) = (false, false, false);
    for entry in bytes.chunks_exact(128).skip(4) {
        if entry[66] != 2 {
            continue;
        }
        let length = usize::from(entry[64]).saturating_sub(2).min(62);
        let is = |name: &str| {
            length == name.len() * 2
                && name.bytes().enumerate().all(|(i, b)| entry[2 * i].eq_ignore_ascii_case(&b) && entry[2 * i + 1] == 0)
        };
        word |= is("WordDocument");
        excel |= is("Workbook") || is("Book");
        power_point |= is("PowerPoint Document");
        if is("EncryptedPackage") {
            return Content::Encrypted;
        }
    }
    // Documents hold others: the name says which one is meant.
    let wants_excel = matches!(claim, Claim::Read(Format::Xls | Format::Xlsx));
    match (word, excel) {
        (true, true) if wants_excel => Content::Known(Format::Xls),
        (true, _) if !power_point => Content::Known(Format::Doc),
        (_, true) if !power_point => Content::Known(Format::Xls),
        _ if power_point => Content::Other(POWERPOINT_97),
        _ => Content::Other(OLE),
    }
}

/// Whether the first words of a file are those of an HTML page.
pub(super) fn looks_like_html(bytes: &[u8]) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_decides_and_some_suffixes_are_held_to_their_word() {
        assert_eq!(identify("a.txt", b"  <!DOCTYPE HTML><p>x").unwrap(), Format::Html);
        assert_eq!(identify("noextension", b"plain words").unwrap(), Format::Txt);
        assert_eq!(identify("a.md", b"# <html>").unwrap(), Format::Md);
        assert_eq!(identify("a.txt", b"%PDF-1.7 ...").unwrap(), Format::Pdf);
        assert_eq!(identify("a.pdf", b"\n%PDF-1.7 ...").unwrap(), Format::Pdf);
        assert_eq!(identify("a.doc", b"{\\rtf1 x}").unwrap(), Format::Rtf);
        assert_eq!(identify("a.xls", b"<html><table>").unwrap(), Format::Html);
        assert_eq!(identify("a.csv", b"").unwrap(), Format::Csv);
        for (name, bytes) in [
            ("a.pdf", b"PK\x03\x04...".as_slice()),
            ("a.doc", b"plain words"),
            ("a.pdf", b"{\\rtf1"),
            ("a.zip", b"%PDF-1.7"),
            ("a.docx", b"\x89PNG\r\n\x1A\n"),
        ] {
            assert!(matches!(identify(name, bytes), Err(Error::FormatMismatch { .. })), "{name}");
        }
        assert!(matches!(identify("a.xlsx", b""), Err(Error::FormatMismatch { found: "empty", .. })));
        assert!(matches!(identify("a.bin", b"\x7FELF..."), Err(Error::UnsupportedFormat { .. })));
        assert!(matches!(identify("a.epub", b"PK\x03\x04..."), Err(Error::UnsupportedFormat { .. })));
    }

    proptest::proptest! {
        #[test]
        fn any_archive_or_compound_header_is_survived(bytes: Vec<u8>, suffix in "(doc|docx|xls|xlsx|zip|)") {
            for magic in [b"PK\x03\x04".as_slice(), b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1"] {
                let _ = identify(&format!("a.{suffix}"), &[magic, &bytes, b"PK\x05\x06", &bytes].concat());
            }
        }
    }
}
