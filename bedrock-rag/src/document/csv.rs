//! CSV: a table of any separator and encoding, a line a row.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use serde_json::Value;

use super::compose::{Composer, Fault};
use super::{Document, ExtractOptions, encoding};

const SEPARATORS: &[u8] = b",;\t|";

/// Lines looked at to find the separator.
const INSPECTED_LINES: usize = 50;

pub(super) fn parse(bytes: Vec<u8>, options: &ExtractOptions) -> Result<Document, Fault> {
    let decoded = encoding::decode(&bytes);
    drop(bytes);
    let mut text = decoded.text.strip_prefix('\u{feff}').unwrap_or(&decoded.text);
    // Excel's way to say what the separator is.
    let mut said = None;
    if let Some(rest) = text.strip_prefix("sep=")
        && let Some(&separator) = rest.as_bytes().first().filter(|byte| byte.is_ascii())
        && let Some(rest) = rest[1..].strip_prefix("\r\n").or_else(|| rest[1..].strip_prefix('\n'))
    {
        said = Some(separator);
        text = rest;
    }
    let separator = said.unwrap_or_else(|| separator_of(text));
    let mut records = Records::new(text, separator);
    let mut composer = Composer::new(options);
    composer.metadata().insert("encoding".to_owned(), Value::from(decoded.encoding));
    composer.metadata().insert("separator".to_owned(), Value::from(char::from(separator).to_string()));
    if decoded.replaced {
        composer.metadata().insert("undecodable".to_owned(), Value::from(true));
    }
    composer.open_table();
    let (mut rows, mut columns) = (0_u64, 0);
    while let Some(cells) = records.next() {
        composer.row(&cells, false)?;
        rows += 1;
        columns = columns.max(cells.len() as u64);
    }
    composer.close_table();
    composer.metadata().insert("rows".to_owned(), Value::from(rows));
    composer.metadata().insert("columns".to_owned(), Value::from(columns));
    Ok(composer.finish())
}

/// The records of a text. (The crate above this reader brings a feature of serde with which everything that uses serde is
/// built anew.)
struct Records<'t> {
    reader: Reader,
    rest: &'t [u8],
    output: Vec<u8>,
    ends: Vec<usize>,
}

impl<'t> Records<'t> {
    fn new(text: &'t str, separator: u8) -> Self {
        let reader = ReaderBuilder::new().delimiter(separator).build();
        Self { reader, rest: text.as_bytes(), output: vec![0; 1024], ends: vec![0; 32] }
    }

    fn next(&mut self) -> Option<Vec<String>> {
        let (mut written, mut ended) = (0, 0);
        loop {
            let (output, ends) = (&mut self.output[written..], &mut self.ends[ended..]);
            let (result, read, wrote, ends) = self.reader.read_record(self.rest, output, ends);
            self.rest = &self.rest[read..];
            written += wrote;
            ended += ends;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.output.resize(self.output.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::End => return None,
                ReadRecordResult::Record => break,
            }
        }
        let mut start = 0;
        let cells = self.ends[..ended].iter().map(|&end| {
            let cell = String::from_utf8_lossy(&self.output[start..end]).into_owned();
            start = end;
            cell
        });
        Some(cells.collect())
    }
}

/// The separator that the most lines have, and have equally often; a comma when none is there.
fn separator_of(text: &str) -> u8 {
    let mut best = (0, b',');
    for &separator in SEPARATORS {
        let mut quoted = false;
        let mut counts = Vec::new();
        let mut count = 0_usize;
        for &byte in text.as_bytes() {
            match byte {
                b'"' => quoted = !quoted,
                b'\n' if !quoted => {
                    counts.push(std::mem::take(&mut count));
                    if counts.len() == INSPECTED_LINES {
                        break;
                    }
                }
                _ if byte == separator && !quoted => count += 1,
                _ => {}
            }
        }
        if count > 0 {
            counts.push(count);
        }
        let filled = counts.iter().filter(|&&count| count > 0).count();
        // How many lines have the number of separators that is the most common.
        let agreeing = counts
            .iter()
            .filter(|&&count| count > 0)
            .map(|count| counts.iter().filter(|other| *other == count).count())
            .max()
            .unwrap_or(0);
        let score = agreeing * 4 + filled;
        if score > best.0 {
            best = (score, separator);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Document {
        parse(bytes.to_vec(), &ExtractOptions::default()).unwrap()
    }

    #[test]
    fn separators_quotes_and_encodings() {
        let document =
            read(b"\xEF\xBB\xBFname;price\r\n\"Tea; \"\"black\"\"\r\nloose\";3,50\r\n;\r\nCaf\xC3\xA9;2,00\r\n");
        assert_eq!(document.text, "name\tprice\nTea; \"black\" loose\t3,50\nCafé\t2,00");
        assert_eq!(document.metadata["rows"], 4);
        assert_eq!(&document.text[document.tables[0].head.clone()], "name\tprice");
        let utf16: Vec<u8> = "\u{feff}a\tb\n1\t2\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(read(&utf16).text, "a\tb\n1\t2");
        assert_eq!(read(b"sep=|\na,b|c\n").text, "a,b\tc");
        assert_eq!(read(b"Gr\xfc\xdfe aus K\xf6ln,1\n").text, "Grüße aus Köln\t1");
    }

    #[test]
    fn what_is_odd_is_survived() {
        assert_eq!(read(b"a,b\n1\n1,2,3\n").text, "a\tb\n1\n1\t2\t3");
        let long = format!("a,\"{}\"\n{}", "é, ".repeat(5_000), "x,".repeat(500));
        assert_eq!(read(long.as_bytes()).metadata["columns"], 501);
        assert!(read(b"a,b\n\"never closed,1\n2,3\n").text.contains("never closed"));
        assert_eq!(read(b"").text, "");
        assert_eq!(read(b"one word\n").text, "one word");
    }
}
