//! Excel 97 to 2003 workbooks, and those of Excel 5 and 95: records of the BIFF format in a compound file ([MS-XLS]).

use serde_json::Value;

use super::super::compose::{Composer, Fault};
use super::super::compound::{Compound, code_page, u16_at, u32_at};
use super::super::{Document, ExtractOptions};
use super::grid::Grid;
use super::shown::Shown;
use encoding_rs::{Encoding, WINDOWS_1252};

// Types of records.
const EOF: u16 = 0x000A;
const DATE_MODE: u16 = 0x0022;
const FILE_PASS: u16 = 0x002F;
const CONTINUE: u16 = 0x003C;
const CODE_PAGE: u16 = 0x0042;
const BOUND_SHEET: u16 = 0x0085;
const MUL_RK: u16 = 0x00BD;
const RICH_STRING: u16 = 0x00D6;
const XF: u16 = 0x00E0;
const SST: u16 = 0x00FC;
const LABEL_SST: u16 = 0x00FD;
const NUMBER: u16 = 0x0203;
const LABEL: u16 = 0x0204;
const BOOL_ERR: u16 = 0x0205;
const STRING: u16 = 0x0207;
const RK: u16 = 0x027E;
const FORMAT: u16 = 0x041E;
const BOF: u16 = 0x0809;
const FORMULA: [u16; 3] = [0x0006, 0x0206, 0x0406];

pub(in super::super) fn parse(bytes: Vec<u8>, options: &ExtractOptions) -> Result<Document, Fault> {
    let mut composer = Composer::new(options);
    let mut compound = Compound::open(bytes)?;
    let Some(stream) = compound.stream(&["Workbook", "Book"])? else {
        return Err(Fault::Holds("an OLE file without a workbook"));
    };
    compound.properties(&mut composer);
    read(&stream, composer)
}

/// Reads the workbook's stream.
fn read(stream: &[u8], mut composer: Composer) -> Result<Document, Fault> {
    let mut book = Book::read(stream, &mut composer)?;
    let names = |hidden: bool| -> Vec<Value> {
        let sheets = book.sheets.iter().filter(|sheet| !hidden || sheet.hidden);
        sheets.map(|sheet| Value::from(sheet.name.as_str())).collect()
    };
    let (all, hidden) = (names(false), names(true));
    composer.metadata().insert("sheets".to_owned(), Value::from(all));
    if !hidden.is_empty() {
        composer.metadata().insert("hiddenSheets".to_owned(), Value::from(hidden));
    }
    for sheet in std::mem::take(&mut book.sheets) {
        if sheet.is_worksheet {
            let mut grid = Grid::new(&mut composer, &sheet.name);
            book.read_sheet(stream, sheet.position, &mut grid)?;
            grid.finish()?;
        }
    }
    Ok(composer.finish())
}

/// A record and those that continue it.
struct Record<'s> {
    kind: u16,
    data: &'s [u8],
    more: Vec<&'s [u8]>,
}

/// The records from a position on; ends where the stream does.
struct Records<'s> {
    stream: &'s [u8],
    at: usize,
}

impl<'s> Records<'s> {
    fn one(&self) -> Option<(u16, &'s [u8], usize)> {
        let kind = u16_at(self.stream, self.at)?;
        let length = usize::from(u16_at(self.stream, self.at + 2)?);
        let end = self.at + 4 + length;
        Some((kind, self.stream.get(self.at + 4..end)?, end))
    }
}

impl<'s> Iterator for Records<'s> {
    type Item = Record<'s>;

    fn next(&mut self) -> Option<Record<'s>> {
        let (kind, data, end) = self.one()?;
        self.at = end;
        let mut more = Vec::new();
        while let Some((CONTINUE, data, end)) = self.one() {
            more.push(data);
            self.at = end;
        }
        Some(Record { kind, data, more })
    }
}

#[derive(Debug)]
struct Sheet {
    name: String,
    position: usize,
    hidden: bool,
    is_worksheet: bool,
}

#[derive(Debug)]
struct Book {
    /// Excel 97 and later: strings are UTF-16, in one table.
    unicode: bool,
    encoding: &'static Encoding,
    sheets: Vec<Sheet>,
    strings: Vec<String>,
    /// Number format of each cell style.
    formats: Vec<u32>,
    shown: Shown,
}

impl Book {
    fn read(stream: &[u8], composer: &mut Composer) -> Result<Self, Fault> {
        let mut book = Self {
            unicode: true,
            encoding: WINDOWS_1252,
            sheets: Vec::new(),
            strings: Vec::new(),
            formats: Vec::new(),
            shown: Shown::default(),
        };
        let mut ended = false;
        for (index, record) in (Records { stream, at: 0 }).enumerate() {
            composer.step()?;
            let data = record.data;
            let early = || Fault::Malformed(format!("a record of kind {:#06x} ends too early", record.kind));
            match record.kind {
                BOF if index == 0 => match u16_at(data, 0) {
                    Some(0x0600) => {}
                    Some(0x0500) => book.unicode = false,
                    _ => return Err(Fault::malformed("it is of a version before Excel 5")),
                },
                _ if index == 0 => return Err(Fault::malformed("its stream does not begin a workbook")),
                FILE_PASS => return Err(Fault::Encrypted),
                CODE_PAGE => book.encoding = code_page(u16_at(data, 0).ok_or_else(early)?),
                DATE_MODE if u16_at(data, 0) == Some(1) => book.shown.count_from_1904(),
                XF => book.formats.push(u32::from(u16_at(data, 2).ok_or_else(early)?)),
                FORMAT => {
                    let id = u16_at(data, 0).ok_or_else(early)?;
                    let code = if book.unicode { book.string(data, 2, 2) } else { book.string(data, 2, 1) };
                    book.shown.define(u32::from(id), code.ok_or_else(early)?);
                }
                BOUND_SHEET => {
                    let position = u32_at(data, 0).ok_or_else(early)? as usize;
                    let (&[state, kind], name) =
                        (data.get(4..6).ok_or_else(early)?, book.string(data, 6, 1).ok_or_else(early)?)
                    else {
                        return Err(early());
                    };
                    book.sheets.push(Sheet { name, position, hidden: state & 3 != 0, is_worksheet: kind == 0 });
                }
                SST => book.strings = read_strings(&record, composer)?,
                EOF => {
                    ended = true;
                    break;
                }
                _ => {}
            }
        }
        if ended { Ok(book) } else { Err(Fault::malformed("its stream ends too early")) }
    }

    /// A string in a record: its length in as many bytes as `width`, then its characters.
    fn string(&self, data: &[u8], at: usize, width: usize) -> Option<String> {
        let count = if width == 1 { usize::from(*data.get(at)?) } else { usize::from(u16_at(data, at)?) };
        let at = at + width;
        if self.unicode {
            let mut reader = Pieces { piece: data.get(at..)?, rest: &[] };
            return reader.characters(count);
        }
        let bytes = data.get(at..at + count)?;
        Some(self.encoding.decode_without_bom_handling(bytes).0.into_owned())
    }

    fn read_sheet(&mut self, stream: &[u8], position: usize, grid: &mut Grid<'_>) -> Result<(), Fault> {
        let mut depth = 0_usize;
        // Where the text goes that the next record has for a formula.
        let mut formula = None;
        for record in (Records { stream, at: position }) {
            let data = record.data;
            match record.kind {
                BOF => depth += 1,
                EOF if depth <= 1 => return Ok(()),
                EOF => depth -= 1,
                // Charts within the sheet have records that look like cells.
                _ if depth != 1 => {}
                STRING => {
                    if let Some((row, column)) = formula.take() {
                        let text = if self.unicode {
                            let count = usize::from(u16_at(data, 0).unwrap_or(0));
                            Pieces { piece: data.get(2..).unwrap_or_default(), rest: &record.more }.characters(count)
                        } else {
                            self.string(data, 0, 2)
                        };
                        grid.cell(row, column, text.unwrap_or_default())?;
                    }
                }
                kind => {
                    if let Some(next) = self.read_cells(kind, &record, grid)? {
                        formula = next;
                    }
                }
            }
        }
        Err(Fault::malformed("a sheet ends too early"))
    }

    /// The cells of a record, if it is one of cells; says where the text of a formula belongs that follows.
    #[allow(clippy::type_complexity, reason = "a place, if there is one, if the record was one of cells")]
    fn read_cells(
        &mut self,
        kind: u16,
        record: &Record<'_>,
        grid: &mut Grid<'_>,
    ) -> Result<Option<Option<(u32, u32)>>, Fault> {
        let data = record.data;
        let (Some(row), Some(column)) = (u16_at(data, 0), u16_at(data, 2)) else { return Ok(None) };
        let (row, column) = (u32::from(row), u32::from(column));
        let style = usize::from(u16_at(data, 4).unwrap_or(0));
        let damaged = || Fault::Malformed(format!("a record of kind {kind:#06x} is damaged"));
        let text = match kind {
            NUMBER => self.number(f64_at(data, 6).ok_or_else(damaged)?, style),
            RK => self.number(rk(u32_at(data, 6).ok_or_else(damaged)?), style),
            MUL_RK => {
                let cells = data.get(4..data.len().saturating_sub(2)).unwrap_or_default().chunks_exact(6);
                for (index, cell) in cells.enumerate() {
                    let (Some(style), Some(value)) = (u16_at(cell, 0), u32_at(cell, 2)) else { break };
                    let text = self.number(rk(value), usize::from(style));
                    grid.cell(row, column + index as u32, text)?;
                }
                return Ok(Some(None));
            }
            LABEL_SST => {
                let index = u32_at(data, 6).ok_or_else(damaged)? as usize;
                self.strings.get(index).ok_or_else(|| Fault::Malformed(format!("it has no string {index}")))?.clone()
            }
            LABEL | RICH_STRING => {
                let count = usize::from(u16_at(data, 6).ok_or_else(damaged)?);
                if self.unicode {
                    let mut pieces = Pieces { piece: data.get(8..).unwrap_or_default(), rest: &record.more };
                    pieces.characters(count).ok_or_else(damaged)?
                } else {
                    self.string(data, 6, 2).ok_or_else(damaged)?
                }
            }
            BOOL_ERR => match data.get(6..8) {
                Some(&[value, 0]) => truth(value).to_owned(),
                Some(&[code, _]) => error(code).to_owned(),
                _ => return Err(damaged()),
            },
            _ if FORMULA.contains(&kind) => match data.get(6..14).ok_or_else(damaged)? {
                [0, .., 0xFF, 0xFF] => return Ok(Some(Some((row, column)))),
                [1, _, value, .., 0xFF, 0xFF] => truth(*value).to_owned(),
                [2, _, code, .., 0xFF, 0xFF] => error(*code).to_owned(),
                [_, .., 0xFF, 0xFF] => String::new(),
                _ => self.number(f64_at(data, 6).ok_or_else(damaged)?, style),
            },
            _ => return Ok(None),
        };
        grid.cell(row, column, text)?;
        Ok(Some(None))
    }

    fn number(&mut self, value: f64, style: usize) -> String {
        self.shown.write(value, self.formats.get(style).copied().unwrap_or(0))
    }
}

fn f64_at(data: &[u8], at: usize) -> Option<f64> {
    Some(f64::from_bits(u64::from(u32_at(data, at)?) | u64::from(u32_at(data, at + 4)?) << 32))
}

/// A number in 30 bits: the upper ones of a float or an integer, perhaps of hundredths.
fn rk(bits: u32) -> f64 {
    let value =
        if bits & 2 == 0 { f64::from_bits(u64::from(bits & !3) << 32) } else { f64::from(bits.cast_signed() >> 2) };
    if bits & 1 == 0 { value } else { value / 100.0 }
}

fn truth(value: u8) -> &'static str {
    if value == 0 { "FALSE" } else { "TRUE" }
}

fn error(code: u8) -> &'static str {
    match code {
        0x00 => "#NULL!",
        0x07 => "#DIV/0!",
        0x0F => "#VALUE!",
        0x17 => "#REF!",
        0x1D => "#NAME?",
        0x24 => "#NUM!",
        _ => "#N/A",
    }
}

/// The table of strings. Their number is in the file, but what counts is how many there are.
fn read_strings(record: &Record<'_>, composer: &mut Composer) -> Result<Vec<String>, Fault> {
    let mut reader = Pieces { piece: record.data.get(8..).unwrap_or_default(), rest: &record.more };
    let mut strings = Vec::new();
    while !reader.is_empty() {
        composer.step()?;
        match reader.rich_string() {
            Some(string) => strings.push(string),
            None => break,
        }
    }
    Ok(strings)
}

/// Bytes that are spread over a record and those that continue it.
struct Pieces<'s, 'r> {
    piece: &'s [u8],
    rest: &'r [&'s [u8]],
}

impl Pieces<'_, '_> {
    fn is_empty(&self) -> bool {
        self.piece.is_empty() && self.rest.iter().all(|piece| piece.is_empty())
    }

    /// Goes on to the next piece when this one is read.
    fn refill(&mut self) -> Option<()> {
        while self.piece.is_empty() {
            let (first, rest) = self.rest.split_first()?;
            self.piece = first;
            self.rest = rest;
        }
        Some(())
    }

    fn byte(&mut self) -> Option<u8> {
        self.refill()?;
        let (&first, rest) = self.piece.split_first()?;
        self.piece = rest;
        Some(first)
    }

    fn number(&mut self, bytes: u32) -> Option<usize> {
        (0..bytes).try_fold(0_usize, |number, index| Some(number | usize::from(self.byte()?) << (8 * index)))
    }

    fn skip(&mut self, mut bytes: usize) -> Option<()> {
        while bytes > 0 {
            self.refill()?;
            let step = bytes.min(self.piece.len());
            self.piece = &self.piece[step..];
            bytes -= step;
        }
        Some(())
    }

    /// A string of the table: with runs of formats and phonetics after its characters.
    fn rich_string(&mut self) -> Option<String> {
        let count = self.number(2)?;
        let flags = self.byte()?;
        let runs = if flags & 8 != 0 { self.number(2)? } else { 0 };
        let phonetic = if flags & 4 != 0 { self.number(4)? } else { 0 };
        let text = self.flagged(count, flags)?;
        // What comes after the last string may be cut off.
        let _ = self.skip(runs * 4 + phonetic);
        Some(text)
    }

    /// A flag byte and so many characters.
    fn characters(&mut self, count: usize) -> Option<String> {
        let flags = self.byte()?;
        if flags & 8 != 0 {
            self.skip(2)?;
        }
        if flags & 4 != 0 {
            self.skip(4)?;
        }
        self.flagged(count, flags)
    }

    /// Characters of one byte or two; where they go on in the next piece, it begins with a flag byte of its own.
    fn flagged(&mut self, count: usize, mut flags: u8) -> Option<String> {
        let mut units: Vec<u16> = Vec::new();
        while units.len() < count {
            if self.piece.is_empty() {
                self.refill()?;
                flags = self.byte()?;
                continue;
            }
            let wide = flags & 1 != 0;
            if wide && self.piece.len() == 1 {
                return None;
            }
            let available = if wide { self.piece.len() / 2 } else { self.piece.len() };
            let take = available.min(count - units.len());
            let (bytes, rest) = self.piece.split_at(if wide { take * 2 } else { take });
            self.piece = rest;
            if wide {
                units.extend(bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])));
            } else {
                units.extend(bytes.iter().map(|&byte| u16::from(byte)));
            }
        }
        Some(String::from_utf16_lossy(&units))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_thirty_bits() {
        assert_eq!(rk(0x3FF0_0000), 1.0);
        assert_eq!(rk(0x004B_5646), 1_234_321.0);
        assert_eq!(rk(0x004B_5647), 12_343.21);
        assert_eq!(rk((-12_i32 << 2).cast_unsigned() | 2), -12.0);
    }

    #[test]
    fn strings_go_on_in_the_next_record() {
        let first = [5, 0, 0, b'a', b'b'];
        let second = [1, b'c', 0, 0xAC, 0x20, b'e', 0, 1, 0, 8, 2, 0, b'z', 9, 9, 9, 9];
        let third = [9, 9, 9, 9, 0, 0, 0];
        let mut pieces = Pieces { piece: &first, rest: &[&second, &third] };
        assert_eq!(pieces.rich_string().as_deref(), Some("abc€e"));
        assert_eq!(pieces.rich_string().as_deref(), Some("z"));
        assert_eq!(pieces.rich_string().as_deref(), Some(""));
        assert!(pieces.is_empty() && pieces.rich_string().is_none());
    }

    proptest::proptest! {
        /// Records in any order, of any content, never panic and end.
        #[test]
        fn any_records_return(records in proptest::collection::vec((0_usize..24, proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40)), 0..60)) {
            const KINDS: [u16; 24] = [
                EOF, DATE_MODE, CONTINUE, CODE_PAGE, BOUND_SHEET, MUL_RK, RICH_STRING, XF, SST, LABEL_SST, NUMBER, LABEL,
                BOOL_ERR, STRING, RK, FORMAT, BOF, 6, 0x0206, 0x0406, 0, 1, 2, 3,
            ];
            let mut stream = vec![0x09, 0x08, 4, 0, 0, 6, 5, 0];
            for (kind, data) in records {
                stream.extend(KINDS[kind].to_le_bytes());
                stream.extend((data.len() as u16).to_le_bytes());
                stream.extend(data);
            }
            let _ = read(&stream, Composer::new(&ExtractOptions::default()));
        }
    }
}
