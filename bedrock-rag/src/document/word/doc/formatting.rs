//! What of the formatting of characters and paragraphs says what their text is: deleted, hidden, heading, list, table.

use std::collections::{HashMap, HashSet};

use super::super::super::compound::{u16_at, u32_at};
use super::fib::plc;

const PAGE: usize = 512;

/// Modifications of properties ("sprm"): code and operand.
fn modifications(mut list: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let code = u16_at(list, 0)?;
        let (skip, length) = match code >> 13 {
            0 | 1 => (2, 1),
            2 | 4 | 5 => (2, 2),
            3 => (2, 4),
            7 => (2, 3),
            // Of variable length, which is said first.
            _ if code == 0xD608 => (4, usize::from(u16_at(list, 2)?).saturating_sub(1)),
            _ => (3, usize::from(*list.get(2)?)),
        };
        let operand = list.get(skip..skip + length)?;
        list = &list[skip + length..];
        Some((code, operand))
    })
}

/// Formatting of a run of characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Character {
    pub(super) deleted: bool,
    pub(super) hidden: bool,
    /// A character of a font, by the font's number.
    pub(super) symbol: Option<(u16, u16)>,
}

impl Character {
    fn read(list: &[u8]) -> Self {
        let mut character = Self::default();
        for (code, operand) in modifications(list) {
            match (code, operand) {
                (0x0800, [value]) => character.deleted = *value & 1 != 0,
                (0x083C, [value]) => character.hidden = *value & 1 != 0,
                (0x6A09, [a, b, c, d]) => {
                    character.symbol = Some((u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d])));
                }
                _ => {}
            }
        }
        character
    }
}

/// Formatting of a paragraph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Paragraph {
    pub(super) style: u16,
    pub(super) in_table: bool,
    /// Ends a row of a table.
    pub(super) ends_row: bool,
    /// Which list, from 1; 0 says none.
    pub(super) list: Option<u16>,
    pub(super) level: Option<u8>,
    /// Outline level from 0; 9 says text.
    pub(super) outline: Option<u8>,
}

impl Paragraph {
    fn apply(&mut self, list: &[u8]) {
        for (code, operand) in modifications(list) {
            match (code, operand) {
                (0x2416, [value]) => self.in_table = *value != 0,
                (0x2417, [value]) => self.ends_row = *value != 0,
                (0x6649, [depth, ..]) => self.in_table |= *depth != 0,
                (0x260A, [level]) => self.level = Some(*level),
                (0x460B, [a, b]) => self.list = Some(u16::from_le_bytes([*a, *b])),
                (0x2640, [level]) => self.outline = Some(*level),
                _ => {}
            }
        }
    }
}

/// Runs of bytes of the stream in rising order, and what their formatting is.
#[derive(Debug)]
pub(super) struct Runs<F>(Vec<(u32, u32, F)>);

impl<F> Runs<F> {
    /// The formatting at a place of the stream.
    pub(super) fn at(&self, place: usize) -> Option<&F> {
        let place = u32::try_from(place).ok()?;
        let after = self.0.partition_point(|run| run.0 <= place);
        let run = self.0.get(after.checked_sub(1)?)?;
        (place < run.1).then_some(&run.2)
    }
}

/// Reads the pages of a table of runs. `entry` finds a run's formatting in its page.
fn runs<F>(word: &[u8], table: &[u8], entry: impl Fn(&[u8], usize, usize) -> Option<F>) -> Runs<F> {
    let (_, pages) = plc(table, 4);
    let mut runs = Vec::new();
    let mut seen = HashSet::new();
    for page in pages.chunks_exact(4) {
        let number = u32_at(page, 0).unwrap_or(0) as usize & 0x003F_FFFF;
        // A page that is named twice would only say the same again, a million times over in a hostile file.
        let Some(page) = word.get(number * PAGE..(number + 1) * PAGE).filter(|_| seen.insert(number)) else { continue };
        let count = usize::from(page[PAGE - 1]);
        for index in 0..count {
            let (Some(start), Some(end)) = (u32_at(page, index * 4), u32_at(page, index * 4 + 4)) else { break };
            if let Some(format) = entry(page, count, index).filter(|_| start < end) {
                runs.push((start, end, format));
            }
        }
    }
    runs.sort_by_key(|run| run.0);
    Runs(runs)
}

pub(super) fn characters(word: &[u8], table: &[u8]) -> Runs<Character> {
    runs(word, table, |page, count, index| {
        let at = usize::from(*page.get((count + 1) * 4 + index)?) * 2;
        if at == 0 {
            return None;
        }
        let length = usize::from(*page.get(at)?);
        let character = Character::read(page.get(at + 1..at + 1 + length)?);
        (character != Character::default()).then_some(character)
    })
}

pub(super) fn paragraphs(word: &[u8], table: &[u8]) -> Runs<Paragraph> {
    runs(word, table, |page, count, index| {
        let at = usize::from(*page.get((count + 1) * 4 + index * 13)?) * 2;
        if at == 0 {
            return Some(Paragraph::default());
        }
        let list = match usize::from(*page.get(at)?) {
            0 => page.get(at + 2..at + 2 + usize::from(*page.get(at + 1)?) * 2)?,
            words => page.get(at + 1..at + words * 2)?,
        };
        let mut paragraph = Paragraph { style: u16_at(list, 0)?, ..Paragraph::default() };
        paragraph.apply(list.get(2..)?);
        Some(paragraph)
    })
}

/// Paragraph styles: what each adds to the one it is based on.
#[derive(Debug, Default)]
pub(super) struct Styles(HashMap<u16, Style>);

#[derive(Debug)]
struct Style {
    /// Number among Word's own styles: 1 to 9 are headings.
    own: u16,
    base: u16,
    format: Paragraph,
}

const TITLE: u16 = 62;

/// Longest chain of styles that are based on one another.
const MAX_CHAIN: usize = 32;

impl Styles {
    pub(super) fn read(table: &[u8]) -> Self {
        let mut styles = HashMap::new();
        let head = usize::from(u16_at(table, 0).unwrap_or(0));
        let base_bytes = usize::from(u16_at(table, 4).unwrap_or(10));
        let count = u16_at(table, 2).unwrap_or(0);
        let mut at = 2 + head;
        for number in 0..count {
            let Some(length) = u16_at(table, at).map(usize::from) else { break };
            let Some(style) = table.get(at + 2..at + 2 + length) else { break };
            at += 2 + length;
            if let Some(style) = read_style(style, base_bytes) {
                styles.insert(number, style);
            }
        }
        Self(styles)
    }

    /// A paragraph's formatting with what its style says where it says nothing itself, and whether it is the title.
    pub(super) fn complete(&self, mut paragraph: Paragraph) -> (Paragraph, bool) {
        let mut number = paragraph.style;
        let mut is_title = false;
        for _ in 0..MAX_CHAIN {
            let Some(style) = self.0.get(&number) else { break };
            is_title |= style.own == TITLE;
            paragraph.list = paragraph.list.or(style.format.list);
            paragraph.level = paragraph.level.or(style.format.level);
            let heading = (1..=9).contains(&style.own).then(|| (style.own - 1) as u8);
            paragraph.outline = paragraph.outline.or(style.format.outline).or(heading);
            number = style.base;
        }
        if self.0.is_empty() && (1..=9).contains(&paragraph.style) {
            paragraph.outline = paragraph.outline.or(Some((paragraph.style - 1) as u8));
        }
        (paragraph, is_title)
    }
}

fn read_style(style: &[u8], base_bytes: usize) -> Option<Style> {
    let own = u16_at(style, 0)? & 0x0FFF;
    let second = u16_at(style, 2)?;
    // 1 says paragraph style.
    if second & 0x000F != 1 {
        return None;
    }
    let mut format = Paragraph::default();
    // After the name come the formatting of the paragraph and then that of its characters.
    let name = usize::from(u16_at(style, base_bytes)?);
    let at = base_bytes + 2 + name * 2 + 2;
    if let Some(length) = u16_at(style, at).map(usize::from)
        && let Some(list) = style.get(at + 4..at + 2 + length)
    {
        format.apply(list);
    }
    Some(Style { own, base: second >> 4, format })
}

/// Names of the document's fonts, by number.
pub(super) fn fonts(table: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut at = 4;
    while let Some(&length) = table.get(at) {
        let Some(font) = table.get(at + 1..at + 1 + usize::from(length)) else { break };
        at += 1 + usize::from(length);
        let units: Vec<u16> = font
            .get(39..)
            .unwrap_or_default()
            .chunks_exact(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
            .take_while(|&unit| unit != 0)
            .collect();
        names.push(String::from_utf16_lossy(&units));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modifications_have_the_length_that_their_code_says() {
        let list = [
            0x00, 0x08, 1, // deleted
            0x15, 0xC6, 3, 9, 9, 9, // tabs, of variable length
            0x09, 0x6A, 2, 0, 0x61, 0xF0, // symbol
            0x08, 0xD6, 4, 0, 7, 7, 7, // a table's columns, whose length counts one too many
            0x3C, 0x08, 1,    // hidden
            0x3C, // cut off
        ];
        let character = Character::read(&list);
        assert_eq!(character, Character { deleted: true, hidden: true, symbol: Some((2, 0xF061)) });
    }

    proptest::proptest! {
        #[test]
        fn any_tables_return(word: Vec<u8>, table: Vec<u8>) {
            let word = word.repeat(40);
            let characters = characters(&word, &table);
            let paragraphs = paragraphs(&word, &table);
            let styles = Styles::read(&table);
            for place in [0, 100, 511, 100_000] {
                let _ = characters.at(place);
                if let Some(paragraph) = paragraphs.at(place) {
                    let _ = styles.complete(paragraph.clone());
                }
            }
            let _ = fonts(&table);
        }
    }
}
