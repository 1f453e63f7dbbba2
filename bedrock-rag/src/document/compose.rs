//! Putting the text of a made document together, within its limits.

use std::time::{Duration, Instant};

use super::{Document, ExtractOptions, Heading, LineEnds, Metadata, Table};

/// Why a parser gives a document up. Gets the document's name, and so becomes an [`crate::Error`], one level up.
#[derive(Debug)]
#[cfg_attr(
    not(all(feature = "word", feature = "spreadsheet", feature = "pdf", feature = "csv")),
    allow(dead_code, reason = "each format has its own ways to fail")
)]
pub(super) enum Fault {
    /// It does not follow its format.
    Malformed(String),
    /// It needs a password.
    Encrypted,
    /// The container is right and what it holds is another format.
    Holds(&'static str),
    /// Something in it grows beyond a limit.
    TooLarge { what: &'static str, limit: u64 },
    /// Its time is up.
    TimedOut,
    /// Too many parsers were left behind and still run.
    Busy,
    /// A parser panicked.
    Panicked(String),
}

#[cfg(any(feature = "word", feature = "spreadsheet", feature = "pdf"))]
impl Fault {
    pub(super) fn malformed(reason: impl ToString) -> Self {
        Self::Malformed(reason.to_string())
    }
}

/// Longest heading, title or attribute kept, in bytes.
const MAX_VALUE_BYTES: usize = 2048;

/// Writes the text of a document: paragraphs, headings, lists, tables.
///
/// Paragraphs and tables are separated by an empty line, rows and list items by a line end, cells by tabs. Every method
/// that adds text also looks at the limits.
#[derive(Debug)]
pub(super) struct Composer {
    document: Document,
    /// Line ends due before the next text.
    gap: usize,
    page_due: bool,
    table: Option<OpenTable>,
    max_text_bytes: u64,
    deadline: Instant,
    steps: u32,
}

#[derive(Debug, Default)]
struct OpenTable {
    start: Option<usize>,
    /// End of the last row that is known to be part of the head.
    head: Option<usize>,
    head_rows: usize,
    /// End of the row that is the head when nothing else is said.
    first: Option<usize>,
    /// Rows of one cell at the start.
    titles: usize,
    rows: usize,
}

#[cfg_attr(
    not(all(feature = "word", feature = "spreadsheet", feature = "pdf", feature = "csv")),
    allow(dead_code, reason = "each format uses what it has")
)]
impl Composer {
    pub(super) fn new(options: &ExtractOptions) -> Self {
        Self {
            document: Document { line_ends: LineEnds::Hard, ..Document::default() },
            gap: 0,
            page_due: false,
            table: None,
            max_text_bytes: options.max_text_bytes,
            deadline: Instant::now() + options.max_time.min(Duration::from_secs(86_400)),
            steps: 0,
        }
    }

    /// Looks at the clock. Cheap: most calls only count.
    pub(super) fn step(&mut self) -> Result<(), Fault> {
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(64) { self.check_time() } else { Ok(()) }
    }

    pub(super) fn check_time(&self) -> Result<(), Fault> {
        if Instant::now() > self.deadline { Err(Fault::TimedOut) } else { Ok(()) }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn metadata(&mut self) -> &mut Metadata {
        &mut self.document.metadata
    }

    /// Keeps an attribute, unless it is empty or there already.
    pub(super) fn remember(&mut self, key: &str, value: &str) {
        let value = value.trim();
        if !value.is_empty() && !self.document.metadata.contains_key(key) {
            let value = &value[..value.floor_char_boundary(MAX_VALUE_BYTES)];
            self.document.metadata.insert(key.to_owned(), value.into());
        }
    }

    /// Sets the title, unless it is empty or there already.
    pub(super) fn title(&mut self, title: &str) {
        let title = title.trim();
        if !title.is_empty() && self.document.title.is_none() {
            self.document.title = Some(title[..title.floor_char_boundary(MAX_VALUE_BYTES)].to_owned());
        }
    }

    /// Lines end where they were set, not where a block ends.
    pub(super) fn soft_line_ends(&mut self) {
        self.document.line_ends = LineEnds::Soft;
    }

    /// The next text starts a page.
    pub(super) fn page(&mut self) {
        // A page without text starts where the one after it does.
        if self.page_due {
            self.document.pages.push(self.document.text.len());
        }
        self.page_due = true;
    }

    /// Text after an empty line.
    pub(super) fn paragraph(&mut self, text: &str) -> Result<(), Fault> {
        self.block(text, 2)?;
        self.gap = 2;
        Ok(())
    }

    /// An item of a list, with its label: its indentation stays.
    pub(super) fn item(&mut self, text: &str) -> Result<(), Fault> {
        self.step()?;
        if !text.trim().is_empty() {
            self.append(text.trim_end(), 1)?;
            self.gap = 1;
        }
        Ok(())
    }

    /// A heading of a level from 1; deeper ones than 6 are of level 6.
    pub(super) fn heading(&mut self, level: usize, text: &str) -> Result<(), Fault> {
        let Some(start) = self.block(text, 2)? else { return Ok(()) };
        let end = self.document.text.len();
        let words = self.document.text[start..end].split_whitespace().collect::<Vec<_>>().join(" ");
        let text = words[..words.floor_char_boundary(MAX_VALUE_BYTES)].to_owned();
        self.document.headings.push(Heading { level: level.clamp(1, 6) as u8, start, text });
        self.gap = 2;
        Ok(())
    }

    /// The next rows are a table.
    pub(super) fn open_table(&mut self) {
        self.gap = self.gap.max(2);
        self.table = Some(OpenTable::default());
    }

    /// A row of the open table; `head` says that it names the columns. Empty cells at its end are left out, and so are
    /// rows without words.
    pub(super) fn row<S: AsRef<str>>(&mut self, cells: &[S], head: bool) -> Result<(), Fault> {
        self.step()?;
        let filled = cells.iter().rposition(|cell| !cell.as_ref().trim().is_empty()).map_or(0, |last| last + 1);
        if filled == 0 {
            return Ok(());
        }
        let mut line = String::new();
        for (index, cell) in cells[..filled].iter().enumerate() {
            if index > 0 {
                line.push('\t');
            }
            let mut words = cell.as_ref().split_whitespace();
            if let Some(word) = words.next() {
                line.push_str(word);
            }
            for word in words {
                line.push(' ');
                line.push_str(word);
            }
        }
        let start = self.append(&line, 1)?;
        self.gap = 1;
        let end = self.document.text.len();
        if let Some(table) = &mut self.table {
            table.start.get_or_insert(start);
            if head && table.head_rows == table.rows {
                table.head_rows += 1;
                table.head = Some(end);
            }
            // Without word from the format: names of columns are words, and there are at least two.
            let filled_cells = cells[..filled].iter().filter(|cell| !cell.as_ref().trim().is_empty()).count();
            let named = filled_cells >= 2
                && cells[..filled].iter().all(|cell| {
                    let cell = cell.as_ref().trim();
                    cell.is_empty() || cell.chars().any(char::is_alphabetic)
                });
            // Before them, there may be lines of one cell that say what the table is.
            if table.rows <= table.titles && table.first.is_none() {
                if named {
                    table.first = Some(end);
                } else if filled_cells == 1 {
                    table.titles += 1;
                }
            }
            table.rows += 1;
        }
        Ok(())
    }

    /// Ends the open table.
    pub(super) fn close_table(&mut self) {
        self.gap = self.gap.max(2);
        let Some(OpenTable { start: Some(start), head, first, rows, .. }) = self.table.take() else { return };
        let end = self.document.text.len();
        let head = head.or(first).filter(|&head| rows > 1 && head < end).unwrap_or(start);
        self.document.tables.push(Table { range: start..end, head: start..head });
    }

    /// Appends a block's words after at least so many line ends; says where they start, unless there are none.
    fn block(&mut self, text: &str, gap: usize) -> Result<Option<usize>, Fault> {
        self.step()?;
        let text = text.trim_matches(|character: char| character.is_whitespace() && character != '\u{a0}');
        if text.is_empty() {
            return Ok(None);
        }
        self.append(text, gap).map(Some)
    }

    fn append(&mut self, text: &str, gap: usize) -> Result<usize, Fault> {
        let out = &mut self.document.text;
        if (out.len() + text.len()) as u64 > self.max_text_bytes {
            return Err(Fault::TooLarge { what: "bytes of text", limit: self.max_text_bytes });
        }
        if !out.is_empty() {
            for _ in 0..gap.max(self.gap) {
                out.push('\n');
            }
        }
        let start = out.len();
        if std::mem::take(&mut self.page_due) {
            // The first page starts where the text does, whatever comes before its first word.
            self.document.pages.push(start);
        }
        out.push_str(text);
        Ok(start)
    }

    /// The document as far as it has come.
    pub(super) fn finish(mut self) -> Document {
        self.close_table();
        if self.page_due {
            self.document.pages.push(self.document.text.len());
        }
        if self.document.title.is_none() {
            let first = self.document.headings.iter().find(|heading| heading.level == 1);
            self.document.title = first.map(|heading| heading.text.clone());
        }
        self.document
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_rows_and_pages() {
        let mut composer = Composer::new(&ExtractOptions::default());
        composer.page();
        composer.heading(1, " Prices \n of 2024 ").unwrap();
        composer.paragraph("").unwrap();
        composer.paragraph("All in euro.").unwrap();
        composer.item("- one").unwrap();
        composer.page();
        composer.page();
        composer.open_table();
        composer.row(&["Item", "Price", ""], false).unwrap();
        composer.row(&["", "", ""], false).unwrap();
        composer.row(&["Tea\n(black)", "", "3"], false).unwrap();
        composer.close_table();
        composer.item("after").unwrap();
        let document = composer.finish();
        assert_eq!(
            document.text,
            "Prices \n of 2024\n\nAll in euro.\n\n- one\n\nItem\tPrice\nTea (black)\t\t3\n\nafter"
        );
        assert_eq!(document.title.as_deref(), Some("Prices of 2024"));
        let table = &document.tables[0];
        assert_eq!(&document.text[table.head.clone()], "Item\tPrice");
        assert_eq!(&document.text[table.range.clone()], "Item\tPrice\nTea (black)\t\t3");
        assert_eq!(document.page(document.text.find("Item").unwrap()), Some(3));
        assert_eq!(document.page(0), Some(1));
    }

    #[test]
    fn limits_hold() {
        let options = ExtractOptions { max_text_bytes: 10, ..ExtractOptions::default() };
        let mut composer = Composer::new(&options);
        composer.paragraph("123456").unwrap();
        assert!(matches!(composer.paragraph("123456"), Err(Fault::TooLarge { what: "bytes of text", limit: 10 })));
        let options = ExtractOptions { max_time: Duration::ZERO, ..ExtractOptions::default() };
        let mut composer = Composer::new(&options);
        assert!((0..200).any(|_| matches!(composer.paragraph("x"), Err(Fault::TimedOut))));
    }
}
