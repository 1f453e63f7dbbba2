//! Word 97 to 2003 documents, and those of Word 6 and 95.
//!
//! There is no library to take for these, so this is our own reader over a compound file: the table of pieces gives the
//! characters in the order of the text, whatever order saving left them in, and the tables of formatting tell headings,
//! lists, tables, and what is deleted or hidden. Pictures, and what a field is computed from, are passed over.

mod fib;
mod formatting;
mod lists;

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use encoding_rs::WINDOWS_1252;

use super::super::compose::{Composer, Fault};
use super::super::compound::Compound;
use super::super::{Document, ExtractOptions};
use super::block::{Block, Paragraph, Row};
use super::symbol::symbol;
use fib::{Fib, Piece, plc};
use formatting::{Character, Runs, Styles};
use lists::Lists;

pub(in super::super) fn parse(bytes: Vec<u8>, options: &ExtractOptions) -> Result<Document, Fault> {
    let mut composer = Composer::new(options);
    let mut compound = Compound::open(bytes)?;
    let Some(word) = compound.stream(&["WordDocument"])? else {
        return Err(Fault::Holds("an OLE file without a Word document"));
    };
    let fib = Fib::read(&word)?;
    let tables = if fib.modern { compound.stream(&[fib.table])?.unwrap_or_default() } else { Vec::new() };
    compound.properties(&mut composer);
    read(&fib, &word, &tables, composer)
}

fn read(fib: &Fib, word: &[u8], tables: &[u8], mut composer: Composer) -> Result<Document, Fault> {
    let mut reader = Reader {
        word,
        pieces: fib::pieces(fib, word, tables)?,
        characters: formatting::characters(word, fib.table(word, tables, fib::CHARACTER_PAGES)),
        paragraphs: formatting::paragraphs(word, fib.table(word, tables, fib::PARAGRAPH_PAGES)),
        styles: Styles::read(fib.table(word, tables, fib::STYLES)),
        fonts: formatting::fonts(fib.table(word, tables, fib::FONTS)),
        lists: Lists::read(fib, word, tables),
        western: western(),
        notes: HashMap::new(),
        aside: Vec::new(),
    };
    let lengths = fib.lengths;
    // The parts follow one another; a length that is wrong only cuts a part off.
    let mut parts = [0_u32; 8];
    let all = [
        lengths.main,
        lengths.footnotes,
        lengths.headers,
        lengths.macros,
        lengths.comments,
        lengths.endnotes,
        lengths.boxes,
    ];
    for (index, length) in all.into_iter().enumerate() {
        parts[index + 1] = parts[index].saturating_add(length);
    }
    for (references, places, part) in
        [(fib::FOOTNOTE_REFERENCES, fib::FOOTNOTES, 1), (fib::ENDNOTE_REFERENCES, fib::ENDNOTES, 5)]
    {
        let (references, _) = plc(fib.table(word, tables, references), 2);
        let (places, _) = plc(fib.table(word, tables, places), 0);
        let within = |place: u32| parts[part].saturating_add(place).min(parts[part + 1]);
        for (reference, place) in references.iter().zip(places.windows(2)) {
            let lines = reader.lines(within(place[0])..within(place[1]), &mut composer)?;
            reader.notes.insert(*reference, lines.join(" "));
        }
    }
    reader.story(parts[0]..parts[1], &mut composer, &mut |composer, block, aside| {
        block.write(composer)?;
        aside.into_iter().try_for_each(|note| composer.paragraph(&note))
    })?;
    reader.story(parts[6]..parts[7], &mut composer, &mut |composer, block, _| block.write(composer))?;

    // Six stories say how notes are separated; then come six of each section: headers and footers of left, right and
    // first pages.
    let (places, _) = plc(fib.table(word, tables, fib::HEADERS), 0);
    let mut said = BTreeSet::new();
    for place in places.windows(2).skip(6) {
        let within = |place: u32| parts[2].saturating_add(place).min(parts[3]);
        let text = reader.lines(within(place[0])..within(place[1]), &mut composer)?.join("\n");
        // A page's number alone says nothing.
        if text.chars().any(char::is_alphabetic) && said.insert(text.clone()) {
            composer.paragraph(&text)?;
        }
    }
    Ok(composer.finish())
}

/// The characters of the Western code page, which text of one byte a character is in.
fn western() -> Vec<char> {
    let bytes: Vec<u8> = (0..=255).collect();
    WINDOWS_1252.decode_without_bom_handling(&bytes).0.chars().collect()
}

struct Reader<'w> {
    word: &'w [u8],
    pieces: Vec<Piece>,
    characters: Runs<Character>,
    paragraphs: Runs<formatting::Paragraph>,
    styles: Styles,
    fonts: Vec<String>,
    lists: Lists,
    western: Vec<char>,
    /// Notes by the character that refers to them.
    notes: HashMap<u32, String>,
    /// Notes that wait for the end of their paragraph or table.
    aside: Vec<String>,
}

type Each<'e> = dyn FnMut(&mut Composer, Block, Vec<String>) -> Result<(), Fault> + 'e;

/// What a story has come to.
#[derive(Default)]
struct Open {
    text: String,
    /// First half of a character of two.
    surrogate: Option<u16>,
    /// Fields that are open: whether their result has begun.
    fields: Vec<bool>,
    rows: Vec<Row>,
    cells: Vec<Vec<String>>,
    /// Paragraphs of the cell.
    lines: Vec<String>,
    /// The last character ended a cell.
    after_cell: bool,
}

impl Reader<'_> {
    fn lines(&mut self, range: Range<u32>, composer: &mut Composer) -> Result<Vec<String>, Fault> {
        let mut lines = Vec::new();
        self.story(range, composer, &mut |_, block, aside| {
            lines.extend(block.lines());
            lines.extend(aside);
            Ok(())
        })?;
        lines.retain(|line| !line.trim().is_empty());
        Ok(lines)
    }

    /// Reads some characters of the document as blocks, with the notes that each refers to.
    fn story(&mut self, range: Range<u32>, composer: &mut Composer, each: &mut Each<'_>) -> Result<(), Fault> {
        let mut open = Open::default();
        let first = self.pieces.partition_point(|piece| piece.characters.end <= range.start);
        for index in first..self.pieces.len() {
            let piece = self.pieces[index].clone();
            if piece.characters.start >= range.end {
                break;
            }
            let start = piece.characters.start.max(range.start);
            for place in start..piece.characters.end.min(range.end) {
                let at = piece.start + (place - piece.characters.start) as usize * piece.width();
                self.character(place, at, piece.wide, &mut open, composer, each)?;
            }
        }
        self.end_paragraph(None, &mut open, composer, each)?;
        self.close_table(&mut open, composer, each)
    }

    fn character(
        &mut self,
        place: u32,
        at: usize,
        wide: bool,
        open: &mut Open,
        composer: &mut Composer,
        each: &mut Each<'_>,
    ) -> Result<(), Fault> {
        let word = self.word;
        let unit = match word.get(at..at + if wide { 2 } else { 1 }) {
            Some(&[low, high]) => u16::from_le_bytes([low, high]),
            Some(&[byte]) => u16::from(byte),
            _ => return Ok(()),
        };
        let format = self.characters.at(at);
        let deleted = format.is_some_and(|format| format.deleted);
        let gone = deleted || format.is_some_and(|format| format.hidden);
        let visible = !gone && open.fields.iter().all(|&result| result);
        let after_cell = std::mem::take(&mut open.after_cell);
        match unit {
            // A deleted end of a paragraph joins it with the next one.
            0x0D if deleted => {}
            0x0D | 0x0C => self.end_paragraph(Some(at), open, composer, each)?,
            0x07 => {
                let ends_row = match self.paragraphs.at(at) {
                    Some(paragraph) => paragraph.ends_row,
                    None => after_cell,
                };
                let line = std::mem::take(&mut open.text);
                if ends_row {
                    let cells = std::mem::take(&mut open.cells);
                    open.rows.push(Row { cells, head: false });
                } else {
                    open.lines.push(line);
                    let mut lines = std::mem::take(&mut open.lines);
                    lines.retain(|line| !line.trim().is_empty());
                    open.cells.push(lines);
                    open.after_cell = true;
                }
            }
            0x13 => open.fields.push(false),
            0x14 => {
                if let Some(result) = open.fields.last_mut() {
                    *result = true;
                }
            }
            0x15 => drop(open.fields.pop()),
            0x02 => {
                if let Some(note) = self.notes.remove(&place).filter(|note| visible && !note.is_empty()) {
                    self.aside.push(note);
                }
            }
            _ if !visible => {}
            0x09 => open.text.push('\t'),
            0x0B | 0x0E => open.text.push('\n'),
            0x1E => open.text.push('-'),
            0x28 if format.is_some_and(|format| format.symbol.is_some()) => {
                if let Some((font, code)) = format.and_then(|format| format.symbol) {
                    let font = self.fonts.get(usize::from(font)).map_or("", String::as_str);
                    open.text.extend(symbol(font, u32::from(code)));
                }
            }
            // Marks of pictures, notes, page numbers; optional hyphens.
            0x00..=0x1F => {}
            // A place in a font of symbols: the usual one.
            0xF020..=0xF0FF => open.text.extend(symbol("Symbol", u32::from(unit))),
            byte if !wide => open.text.extend(self.western.get(usize::from(byte))),
            first @ 0xD800..=0xDBFF => open.surrogate = Some(first),
            unit => {
                let units = [open.surrogate.take().unwrap_or(unit), unit];
                let units = if units[0] == unit { &units[1..] } else { &units[..] };
                open.text.extend(char::decode_utf16(units.iter().copied()).map(|c| c.unwrap_or('\u{fffd}')));
            }
        }
        Ok(())
    }

    /// Ends a paragraph whose end is at a place of the stream.
    fn end_paragraph(
        &mut self,
        at: Option<usize>,
        open: &mut Open,
        composer: &mut Composer,
        each: &mut Each<'_>,
    ) -> Result<(), Fault> {
        composer.step()?;
        let format = at.and_then(|at| self.paragraphs.at(at)).cloned().unwrap_or_default();
        let text = std::mem::take(&mut open.text);
        // A field whose result has not begun where its paragraph ends is none that hides the rest of the document.
        open.fields.iter_mut().for_each(|result| *result = true);
        let in_table = format.in_table;
        let (format, is_title) = self.styles.complete(format);
        let mut paragraph = Paragraph { text, is_title, ..Paragraph::default() };
        if let Some(list) = format.list.filter(|&list| list != 0)
            && !paragraph.text.trim().is_empty()
        {
            let level = usize::from(format.level.unwrap_or(0)).min(8);
            paragraph.label = Some((self.lists.label(list, level), level));
        }
        if in_table {
            open.lines.push(paragraph.line());
            return Ok(());
        }
        self.close_table(open, composer, each)?;
        paragraph.heading = format.outline.filter(|&level| level < 9).map(|level| usize::from(level) + 1);
        if is_title {
            paragraph.heading = Some(1);
        }
        each(composer, Block::Paragraph(paragraph), std::mem::take(&mut self.aside))
    }

    fn close_table(&mut self, open: &mut Open, composer: &mut Composer, each: &mut Each<'_>) -> Result<(), Fault> {
        // Cells without an end of their row are those of a file that was cut off.
        if !open.lines.is_empty() {
            let lines = std::mem::take(&mut open.lines);
            open.cells.push(lines);
        }
        if !open.cells.is_empty() {
            let cells = std::mem::take(&mut open.cells);
            open.rows.push(Row { cells, head: false });
        }
        if open.rows.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut open.rows);
        each(composer, Block::Table(rows), std::mem::take(&mut self.aside))
    }
}
