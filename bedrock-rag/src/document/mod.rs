//! From the bytes of a file to readable text with its structure.
//!
//! Nothing here fetches, follows, writes or runs anything that a document mentions: archives are read in memory,
//! external entities and document type definitions are refused, links and pictures stay where they are. Every
//! function is total: a file that can't be read gives a typed error for that file.
//!
//! The text of a UTF-8 text or Markdown file is the file itself, byte for byte, so that offsets into the text are
//! offsets into the file. Text of other encodings and formats is made, and offsets refer to what was made.
//!
//! | format | feature | what comes out |
//! | --- | --- | --- |
//! | `.txt`, `.md`, `.html` | | text, headings, tables; encodings found out |
//! | `.csv` | `csv` | a table, a line a row; separator and encoding found out |
//! | `.docx`, `.doc`, `.rtf` | `word` | paragraphs, headings, lists with their labels, tables, notes, text boxes, page headers and footers; neither deleted nor hidden text |
//! | `.xlsx`, `.xls` | `spreadsheet` | each sheet under its name, a line a row; values of formulas; dates, percentages and currencies as shown |
//! | `.pdf` | `pdf` | lines in the order of the page's content, with the pages' places |
//!
//! # Limits
//!
//! Formats that come packed are read on a thread of their own with a stack of a fixed size, so that neither deep nesting
//! nor a parser's panic reaches the caller. The limits of [`ExtractOptions`] bound the size of the file, what it may
//! unpack to, the text that comes out, and the time. Our own code looks at the clock all the time; should a library below it
//! not come back, the thread is left behind and its file reported. At most four such threads are left at once; with
//! four of them still running, packed formats are refused until one ends.

#[cfg(any(feature = "word", feature = "spreadsheet", feature = "pdf", feature = "csv"))]
mod compose;
#[cfg(any(feature = "word", feature = "spreadsheet"))]
mod compound;
#[cfg(any(feature = "word", feature = "spreadsheet", feature = "pdf", feature = "csv"))]
mod confine;
#[cfg(feature = "csv")]
mod csv;
mod encoding;
mod extract;
mod folder;
mod format;
mod html;
mod markdown;
#[cfg(any(feature = "word", feature = "spreadsheet"))]
mod package;
#[cfg(feature = "pdf")]
mod pdf;
mod sidecar;
#[cfg(feature = "spreadsheet")]
mod spreadsheet;
#[cfg(feature = "word")]
mod word;
#[cfg(any(feature = "word", feature = "spreadsheet"))]
mod xml;

pub use encoding::{Decoded, decode};
pub use extract::{ExtractOptions, extract, extract_file};
pub(crate) use extract::{panic_message, read_bounded};
pub use folder::{Folder, FolderFile, FolderLimits};
pub use format::Format;
pub(crate) use sidecar::MAX_SIDECAR_BYTES;
pub use sidecar::{SIDECAR_SUFFIX, parse_sidecar};

use std::ops::Range;

use serde_json::{Map, Value};

/// Attributes of a document: names to strings, numbers, booleans or lists of strings.
pub type Metadata = Map<String, Value>;

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

/// A table and where it stands: lines of [`Document::text`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Bytes of the whole table.
    pub range: Range<usize>,
    /// Bytes of its head, from the table's first byte to the end of the last line that says what the columns are. Empty
    /// when the table has none.
    pub head: Range<usize>,
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
    /// Tables in the order of the text; none lies in another.
    pub tables: Vec<Table>,
    /// Where each page starts, rising, when the format has pages: the first page at 0.
    pub pages: Vec<usize>,
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

    /// The page that a byte offset stands on, counted from 1, when the format has pages.
    pub fn page(&self, offset: usize) -> Option<usize> {
        match self.pages.partition_point(|&start| start <= offset) {
            0 if self.pages.is_empty() => None,
            page => Some(page.max(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn pages_are_counted_from_one() {
        let document = Document { pages: vec![0, 10, 10, 20], ..Document::default() };
        assert_eq!([0, 9, 10, 25].map(|offset| document.page(offset)), [Some(1), Some(1), Some(3), Some(4)]);
        assert_eq!(Document::default().page(0), None);
    }
}
