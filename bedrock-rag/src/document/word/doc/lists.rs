//! Lists of a Word 97 document: definitions, and the formats that paragraphs name.

use std::collections::{HashMap, HashSet};

use super::super::super::compound::{u16_at, u32_at};
use super::super::label::{Counters, LEVELS, Level, Piece, Style};
use super::fib::{Fib, LIST_FORMATS, LISTS};

/// A list format: which definition, and what it starts or writes differently.
#[derive(Debug)]
struct Format {
    definition: u32,
    starts: Vec<(usize, u32)>,
    levels: Vec<(usize, Level)>,
}

#[derive(Debug, Default)]
pub(super) struct Lists {
    definitions: HashMap<u32, Vec<Level>>,
    formats: Vec<Format>,
    counters: HashMap<u32, Counters>,
    begun: HashSet<u16>,
}

impl Lists {
    pub(super) fn read(fib: &Fib, word: &[u8], tables: &[u8]) -> Self {
        let mut lists = Self::default();
        // The levels of all lists come after the table of lists, outside of what it counts as its own.
        let place = fib.place(word, LISTS);
        let (table, levels) = (tables.get(place.clone()), tables.get(place.end..));
        let _ = lists.read_definitions(table.unwrap_or_default(), levels.unwrap_or_default());
        let _ = lists.read_formats(fib.table(word, tables, LIST_FORMATS));
        lists
    }

    fn read_definitions(&mut self, table: &[u8], mut levels: &[u8]) -> Option<()> {
        let count = usize::from(u16_at(table, 0)?);
        for list in table.get(2..)?.chunks_exact(28).take(count) {
            let simple = list[26] & 1 != 0;
            let mut own = Vec::new();
            for _ in 0..if simple { 1 } else { LEVELS } {
                let (level, length) = read_level(levels)?;
                levels = levels.get(length..)?;
                own.push(level);
            }
            self.definitions.insert(u32_at(list, 0)?, own);
        }
        Some(())
    }

    fn read_formats(&mut self, table: &[u8]) -> Option<()> {
        let count = u32_at(table, 0)? as usize;
        let heads = table.get(4..)?;
        let heads = &heads[..heads.len().min(count.saturating_mul(16))];
        let mut data = table.get(4 + heads.len()..)?;
        for head in heads.chunks_exact(16) {
            self.formats.push(Format { definition: u32_at(head, 0)?, starts: Vec::new(), levels: Vec::new() });
        }
        for (format, head) in self.formats.iter_mut().zip(heads.chunks_exact(16)) {
            data = data.get(4..)?;
            for _ in 0..head[12] {
                let (start, flags) = (u32_at(data, 0)?, u32_at(data, 4)?);
                data = data.get(8..)?;
                let level = (flags & 15) as usize;
                let (starts, formats) = (flags & 0x10 != 0, flags & 0x20 != 0);
                if starts && !formats {
                    format.starts.push((level, start));
                }
                if formats {
                    let (own, length) = read_level(data)?;
                    data = data.get(length..)?;
                    if starts {
                        format.starts.push((level, own.start));
                    }
                    format.levels.push((level, own));
                }
            }
        }
        Some(())
    }

    /// Counts an item of a list and writes its label.
    pub(super) fn label(&mut self, list: u16, level: usize) -> String {
        let Some(format) = usize::from(list).checked_sub(1).and_then(|index| self.formats.get(index)) else {
            return String::new();
        };
        let Some(definition) = self.definitions.get(&format.definition) else { return String::new() };
        let counters = self.counters.entry(format.definition).or_default();
        if self.begun.insert(list) {
            for &(level, start) in &format.starts {
                counters.set(level, start);
            }
        }
        if format.levels.is_empty() {
            return counters.label(definition, level);
        }
        let mut levels = definition.clone();
        for (index, own) in &format.levels {
            if let Some(slot) = levels.get_mut(*index) {
                slot.clone_from(own);
            }
        }
        counters.label(&levels, level)
    }
}

/// A level and its length in bytes.
fn read_level(bytes: &[u8]) -> Option<(Level, usize)> {
    let start = u32_at(bytes, 0)?.min(0x7FFF);
    let flags = *bytes.get(5)?;
    let formats = usize::from(*bytes.get(24)?) + usize::from(*bytes.get(25)?);
    let restart = usize::from(*bytes.get(26)?);
    let at = 28 + formats;
    let count = usize::from(u16_at(bytes, at)?);
    let text = bytes.get(at + 2..at + 2 + count * 2)?;
    let mut label = Vec::new();
    for pair in text.chunks_exact(2) {
        match u16::from_le_bytes([pair[0], pair[1]]) {
            level @ 0..=8 => label.push(Piece::Number(usize::from(level))),
            unit => {
                let character = char::from_u32(u32::from(unit)).unwrap_or('\u{fffd}');
                match label.last_mut() {
                    Some(Piece::Text(text)) => text.push(character),
                    _ => label.push(Piece::Text(character.to_string())),
                }
            }
        }
    }
    let style = match bytes[4] {
        1 => Style::UpperRoman,
        2 => Style::LowerRoman,
        3 => Style::UpperLetter,
        4 => Style::LowerLetter,
        5 => Style::Ordinal,
        22 => Style::DecimalZero,
        23 => Style::Bullet,
        255 => Style::Nothing,
        _ => Style::Decimal,
    };
    let restart = (flags & 8 != 0).then_some(restart);
    Some((Level { style, label, start, restart, legal: flags & 4 != 0 }, at + 2 + count * 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_read_with_its_label() {
        let mut bytes = vec![0; 28];
        bytes[0] = 3;
        bytes[4] = 4;
        bytes[24] = 1;
        bytes.push(99);
        for unit in [3_u16, 0, 46, 41] {
            bytes.extend(unit.to_le_bytes());
        }
        let (level, length) = read_level(&bytes).unwrap();
        assert_eq!(length, bytes.len());
        assert_eq!((level.start, level.style), (3, Style::LowerLetter));
        assert_eq!(level.label, [Piece::Number(0), Piece::Text(".)".to_owned())]);
        assert!(read_level(&bytes[..20]).is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_tables_return(table: Vec<u8>, levels: Vec<u8>) {
            let mut lists = Lists::default();
            let _ = lists.read_definitions(&table, &levels);
            let _ = lists.read_formats(&table);
            for list in 0..4 {
                let _ = lists.label(list, usize::from(list));
            }
        }
    }
}
