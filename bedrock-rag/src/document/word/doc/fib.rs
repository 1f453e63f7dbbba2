//! The file information block of a Word document, and its table of pieces: where each run of characters is ([MS-DOC]).

use std::ops::Range;

use super::super::super::compose::Fault;
use super::super::super::compound::{u16_at, u32_at};

/// What the stream `WordDocument` says first.
#[derive(Debug)]
pub(super) struct Fib {
    /// Word 97 or later, with its tables in a stream of their own.
    pub(super) modern: bool,
    /// Which of the two streams of tables is the one.
    pub(super) table: &'static str,
    /// Characters of the document's parts, which follow one another.
    pub(super) lengths: Lengths,
    /// First byte of the pairs of place and length.
    pairs: usize,
    pair_count: usize,
    /// Text of an old document that is in one piece.
    plain: Range<usize>,
    complex: bool,
}

/// Characters of each part.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lengths {
    pub(super) main: u32,
    pub(super) footnotes: u32,
    pub(super) headers: u32,
    pub(super) macros: u32,
    pub(super) comments: u32,
    pub(super) endnotes: u32,
    pub(super) boxes: u32,
}

// Numbers of pairs.
pub(super) const STYLES: usize = 1;
pub(super) const FOOTNOTE_REFERENCES: usize = 2;
pub(super) const FOOTNOTES: usize = 3;
pub(super) const HEADERS: usize = 11;
pub(super) const CHARACTER_PAGES: usize = 12;
pub(super) const PARAGRAPH_PAGES: usize = 13;
pub(super) const FONTS: usize = 15;
const PIECES: usize = 33;
pub(super) const ENDNOTE_REFERENCES: usize = 46;
pub(super) const ENDNOTES: usize = 47;
pub(super) const LISTS: usize = 73;
pub(super) const LIST_FORMATS: usize = 74;

impl Fib {
    pub(super) fn read(word: &[u8]) -> Result<Self, Fault> {
        let early = || Fault::malformed("its head ends too early");
        let number = |at: usize| u32_at(word, at).ok_or_else(early);
        let short = |at: usize| u16_at(word, at).map(usize::from).ok_or_else(early);
        let flags = short(10)?;
        match short(0)? {
            0xA5EC | 0xA5DC => {}
            _ => return Err(Fault::malformed("its stream does not begin a Word document")),
        }
        if flags & 0x0100 != 0 {
            return Err(Fault::Encrypted);
        }
        let complex = flags & 4 != 0;
        let table = if flags & 0x0200 != 0 { "1Table" } else { "0Table" };
        let modern = short(2)? >= 0x00C1;
        if !modern {
            // Word 6 and 95: fixed places.
            let lengths = Lengths {
                main: number(0x34)?,
                footnotes: number(0x38)?,
                headers: number(0x3C)?,
                macros: number(0x40)?,
                comments: number(0x44)?,
                endnotes: number(0x48)?,
                boxes: number(0x4C)?,
            };
            let plain = number(0x18)? as usize..number(0x1C)? as usize;
            return Ok(Self { modern, table, lengths, pairs: 0, pair_count: 0, plain, complex });
        }
        let longs = 32 + 2 + short(32)? * 2 + 2;
        let pairs = longs + short(longs - 2)? * 4 + 2;
        let length = |index: usize| number(longs + index * 4);
        let lengths = Lengths {
            main: length(3)?,
            footnotes: length(4)?,
            headers: length(5)?,
            macros: length(6)?,
            comments: length(7)?,
            endnotes: length(8)?,
            boxes: length(9)?,
        };
        Ok(Self { modern, table, lengths, pairs, pair_count: short(pairs - 2)?, plain: 0..0, complex })
    }

    /// The bytes of a table, in the stream of tables; nothing when they are not there.
    pub(super) fn table<'t>(&self, word: &[u8], tables: &'t [u8], number: usize) -> &'t [u8] {
        tables.get(self.place(word, number)).unwrap_or_default()
    }

    /// Where a table is, in the stream of tables.
    pub(super) fn place(&self, word: &[u8], number: usize) -> Range<usize> {
        if number >= self.pair_count {
            return 0..0;
        }
        let at = self.pairs + number * 8;
        let (start, length) = (u32_at(word, at).unwrap_or(0) as usize, u32_at(word, at + 4).unwrap_or(0) as usize);
        start..start + length
    }
}

/// A run of characters that lie together in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Which characters of the document.
    pub(super) characters: Range<u32>,
    /// Where the first one is.
    pub(super) start: usize,
    /// Two bytes a character (UTF-16), rather than one of a code page.
    pub(super) wide: bool,
}

impl Piece {
    pub(super) fn width(&self) -> usize {
        if self.wide { 2 } else { 1 }
    }
}

/// The pieces of the document in the order of its text, all within the stream.
pub(super) fn pieces(fib: &Fib, word: &[u8], tables: &[u8]) -> Result<Vec<Piece>, Fault> {
    if !fib.modern && !fib.complex {
        let start = fib.plain.start.min(word.len());
        let end = fib.plain.end.clamp(start, word.len());
        return Ok(vec![Piece { characters: 0..(end - start) as u32, start, wide: false }]);
    }
    let table = if fib.modern {
        fib.table(word, tables, PIECES)
    } else {
        let place = |at: usize| u32_at(word, at).unwrap_or(0) as usize;
        word.get(place(0x160)..place(0x160) + place(0x164)).unwrap_or_default()
    };
    let pieces =
        read_pieces(table, word.len(), fib.modern).ok_or_else(|| Fault::malformed("it has no table of pieces"))?;
    if pieces.is_empty() { Err(Fault::malformed("its table of pieces is damaged")) } else { Ok(pieces) }
}

fn read_pieces(table: &[u8], length: usize, modern: bool) -> Option<Vec<Piece>> {
    let mut at = 0;
    // Formats that fast saving left come before the pieces.
    while table.get(at) == Some(&1) {
        at += 3 + usize::from(u16_at(table, at + 1)?);
    }
    if table.get(at) != Some(&2) {
        return None;
    }
    let size = u32_at(table, at + 1)? as usize;
    let table = table.get(at + 5..)?;
    let table = &table[..size.min(table.len())];
    let count = table.len().checked_sub(4)? / 12;
    let mut pieces: Vec<Piece> = Vec::new();
    for index in 0..count {
        let characters = u32_at(table, index * 4)?..u32_at(table, index * 4 + 4)?;
        let place = u32_at(table, (count + 1) * 4 + index * 8 + 2)?;
        let narrow = !modern || place & 0x4000_0000 != 0;
        let start = if modern && narrow { (place & 0x3FFF_FFFF) as usize / 2 } else { (place & 0x3FFF_FFFF) as usize };
        let follows = pieces.last().map_or(0, |last| last.characters.end) == characters.start;
        let count = characters.end.checked_sub(characters.start);
        let piece = Piece { characters, start, wide: !narrow };
        let end = count.and_then(|count| start.checked_add(count as usize * piece.width()));
        // A document that was cut off still has its first pieces.
        if !follows || end.is_none_or(|end| end > length) {
            break;
        }
        pieces.push(piece);
    }
    Some(pieces)
}

/// A table of positions, with so many bytes for each: the positions (one more than entries) and the bytes.
pub(super) fn plc(table: &[u8], width: usize) -> (Vec<u32>, &[u8]) {
    let Some(count) = table.len().checked_sub(4).map(|length| length / (4 + width)) else { return (Vec::new(), &[]) };
    let positions = (0..=count).filter_map(|index| u32_at(table, index * 4)).collect();
    (positions, table.get((count + 1) * 4..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_read_past_what_fast_saving_left() {
        let mut table = vec![1, 2, 0, 9, 9, 2, 28, 0, 0, 0];
        for position in [0_u32, 3, 5] {
            table.extend(position.to_le_bytes());
        }
        for place in [0x4000_0000_u32 | 20, 30] {
            table.extend([0, 0]);
            table.extend(place.to_le_bytes());
            table.extend([0, 0]);
        }
        let pieces = read_pieces(&table, 100, true).unwrap();
        assert_eq!(
            pieces,
            [Piece { characters: 0..3, start: 10, wide: false }, Piece { characters: 3..5, start: 30, wide: true }]
        );
        assert_eq!(read_pieces(&table, 33, true).unwrap().len(), 1, "what is cut off is left out");
        assert!(read_pieces(&table[..4], 100, true).is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_table_of_pieces_stays_in_the_stream(table: Vec<u8>, length in 0_usize..5_000) {
            for piece in read_pieces(&[&[2, 255, 0, 0, 0], table.as_slice()].concat(), length, true).unwrap_or_default() {
                let bytes = piece.characters.len() * piece.width();
                proptest::prop_assert!(piece.start + bytes <= length);
            }
        }
    }
}
