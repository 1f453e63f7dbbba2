//! Compound files (OLE): the container of the older Office formats.

use std::io::{Cursor, Read};

use cfb::CompoundFile;
use encoding_rs::{Encoding, WINDOWS_1252};

use super::compose::{Composer, Fault};

pub(super) struct Compound {
    file: CompoundFile<Cursor<Vec<u8>>>,
    length: u64,
}

impl Compound {
    pub(super) fn open(bytes: Vec<u8>) -> Result<Self, Fault> {
        check_tables(&bytes)?;
        let length = bytes.len() as u64;
        let file = CompoundFile::open(Cursor::new(bytes)).map_err(Fault::malformed)?;
        Ok(Self { file, length })
    }

    /// The first of these streams that is there.
    pub(super) fn stream(&mut self, names: &[&str]) -> Result<Option<Vec<u8>>, Fault> {
        for name in names {
            if !self.file.is_stream(name) {
                continue;
            }
            let stream = self.file.open_stream(name).map_err(Fault::malformed)?;
            // Sectors may be used twice only in a damaged file: no stream is longer than the file.
            let mut bytes = Vec::new();
            stream.take(self.length).read_to_end(&mut bytes).map_err(Fault::malformed)?;
            return Ok(Some(bytes));
        }
        Ok(None)
    }

    /// Reads title, author, dates and so on, if the file has them. A damaged table of them is none.
    pub(super) fn properties(&mut self, composer: &mut Composer) {
        if let Ok(Some(bytes)) = self.stream(&["\u{5}SummaryInformation"]) {
            read_properties(&bytes, composer);
        }
    }
}

/// Checks that the tables of sectors have no more entries than the file has sectors for: the reader would build them all.
fn check_tables(bytes: &[u8]) -> Result<(), Fault> {
    let number = |at: usize| u32_at(bytes, at).map(|number| number as usize);
    let early = || Fault::malformed("its header ends too early");
    let sector = match bytes.get(30..32).ok_or_else(early)? {
        [9, 0] => 512,
        [12, 0] => 4096,
        _ => return Err(Fault::malformed("its sectors have no usual size")),
    };
    let sectors = bytes.len() / sector;
    let per_table = sector / 4;
    let most = sectors.div_ceil(per_table) + 2;
    let used = |from: usize, entries: usize| {
        (0..entries)
            .filter_map(|entry| number(from + entry * 4))
            .filter(|&table| table != 0xFFFF_FFFF && table != 0)
            .count()
    };
    let mut tables = used(76, 109);
    let mut next = number(68).ok_or_else(early)?;
    for _ in 0..=sectors {
        if next >= sectors {
            break;
        }
        let start = (next + 1) * sector;
        tables += used(start, per_table - 1);
        if tables > most {
            return Err(Fault::malformed("it has more tables of sectors than sectors"));
        }
        next = number(start + sector - 4).unwrap_or(usize::MAX);
    }
    if tables > most { Err(Fault::malformed("it has more tables of sectors than sectors")) } else { Ok(()) }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes([field[0], field[1]]))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes([field[0], field[1], field[2], field[3]]))
}

/// A code page of Windows as an encoding; Western European when it is not known.
pub(super) fn code_page(number: u16) -> &'static Encoding {
    let label = match number {
        65001 => "utf-8".to_owned(),
        932 => "shift_jis".to_owned(),
        936 => "gbk".to_owned(),
        949 => "euc-kr".to_owned(),
        950 => "big5".to_owned(),
        10000 => "macintosh".to_owned(),
        20866 => "koi8-r".to_owned(),
        28591..=28606 => format!("iso-8859-{}", number - 28590),
        866 => "ibm866".to_owned(),
        other => format!("windows-{other}"),
    };
    Encoding::for_label(label.as_bytes()).unwrap_or(WINDOWS_1252)
}

/// The first section of a property set stream (MS-OLEPS): ids of properties and where their values are.
fn read_properties(bytes: &[u8], composer: &mut Composer) -> Option<()> {
    let section = u32_at(bytes, 44)? as usize;
    let count = u32_at(bytes, section + 4)?.min(256) as usize;
    let entries: Vec<(u32, usize)> = (0..count)
        .filter_map(|index| {
            let at = section + 8 + index * 8;
            Some((u32_at(bytes, at)?, section.checked_add(u32_at(bytes, at + 4)? as usize)?))
        })
        .collect();
    let page = entries.iter().find(|entry| entry.0 == 1).and_then(|entry| u16_at(bytes, entry.1 + 4));
    let encoding = code_page(page.unwrap_or(1252));
    for (id, at) in entries {
        let key = match id {
            2 => "title",
            3 => "subject",
            4 => "author",
            5 => "keywords",
            6 => "description",
            12 => "created",
            13 => "modified",
            _ => continue,
        };
        let Some(value) = property(bytes, at, encoding) else { continue };
        if key == "title" { composer.title(&value) } else { composer.remember(key, &value) }
    }
    Some(())
}

fn property(bytes: &[u8], at: usize, encoding: &'static Encoding) -> Option<String> {
    match u16_at(bytes, at)? {
        // A string in the code page, a string in UTF-16.
        0x1E => {
            let length = u32_at(bytes, at + 4)? as usize;
            let text = bytes.get(at + 8..(at + 8).checked_add(length)?)?;
            Some(encoding.decode_without_bom_handling(text).0.trim_end_matches('\0').to_owned())
        }
        0x1F => {
            let length = u32_at(bytes, at + 4)? as usize;
            let text = bytes.get(at + 8..(at + 8).checked_add(length.checked_mul(2)?)?)?;
            Some(encoding_rs::UTF_16LE.decode_without_bom_handling(text).0.trim_end_matches('\0').to_owned())
        }
        0x40 => {
            let ticks = u64::from(u32_at(bytes, at + 4)?) | u64::from(u32_at(bytes, at + 8)?) << 32;
            moment(ticks)
        }
        _ => None,
    }
}

/// A count of 100 nanoseconds since 1601 as `2024-05-01T12:00:00Z`.
fn moment(ticks: u64) -> Option<String> {
    let seconds = (ticks / 10_000_000).checked_sub(11_644_473_600)?;
    let (days, rest) = ((seconds / 86_400) as i64, seconds % 86_400);
    // Howard Hinnant's civil calendar from a count of days.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year < 10_000)
        .then(|| format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::document::ExtractOptions;

    #[test]
    fn moments_and_pages() {
        assert_eq!(moment(133_592_544_000_000_000).as_deref(), Some("2024-05-04T00:00:00Z"));
        assert_eq!(moment(116_444_736_000_000_000).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(moment(5), None);
        assert_eq!(code_page(1251).name(), "windows-1251");
        assert_eq!(code_page(28592).name(), "ISO-8859-2");
        assert_eq!(code_page(4711).name(), "windows-1252");
    }

    #[test]
    fn streams_and_properties_are_read() {
        let mut file = CompoundFile::create(Cursor::new(Vec::new())).unwrap();
        let mut set = vec![0; 48];
        set[44..48].copy_from_slice(&48_u32.to_le_bytes());
        set.extend([0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 16, 0, 0, 0, 0x1E, 0, 0, 0, 5, 0, 0, 0]);
        set.extend(b"Title");
        file.create_stream("\u{5}SummaryInformation").unwrap().write_all(&set).unwrap();
        file.create_stream("Data").unwrap().write_all(b"content").unwrap();
        let bytes = file.into_inner().into_inner();
        let mut compound = Compound::open(bytes).unwrap();
        assert_eq!(compound.stream(&["missing", "Data"]).unwrap().unwrap(), b"content");
        let mut composer = Composer::new(&ExtractOptions::default());
        compound.properties(&mut composer);
        assert_eq!(composer.finish().title.as_deref(), Some("Title"));
    }

    #[test]
    fn more_tables_than_sectors_are_refused() {
        let mut bytes = vec![0; 4096];
        bytes[30] = 9;
        bytes[68..72].copy_from_slice(&u32::MAX.to_le_bytes());
        bytes[76..512].fill(1);
        assert!(matches!(check_tables(&bytes), Err(Fault::Malformed(_))));
        assert!(Compound::open(b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1".to_vec()).is_err());
    }
}
