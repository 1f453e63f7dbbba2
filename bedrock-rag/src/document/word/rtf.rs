//! Rich Text: control words, groups, text in code pages and as `\u`.

use encoding_rs::{Encoding, WINDOWS_1252};

use super::super::compose::{Composer, Fault};
use super::super::compound::code_page;
use super::super::{Document, ExtractOptions};
use super::block::{Block, Paragraph, Row};

/// Deepest nesting of groups.
const MAX_DEPTH: usize = 1024;

/// What holds until the end of a group.
#[derive(Clone, Copy, Debug)]
struct State {
    /// Where the words go.
    target: Target,
    hidden: bool,
    /// Characters in place of a `\u`, to be passed over.
    substitutes: usize,
    encoding: &'static Encoding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Text,
    Nothing,
    Title,
    Author,
    Subject,
    Keywords,
}

pub(in super::super) fn parse(bytes: Vec<u8>, options: &ExtractOptions) -> Result<Document, Fault> {
    let mut reader = Reader {
        composer: Composer::new(options),
        stack: Vec::new(),
        state: State { target: Target::Text, hidden: false, substitutes: 1, encoding: WINDOWS_1252 },
        page: WINDOWS_1252,
        fonts: Vec::new(),
        font: None,
        in_fonts: None,
        bytes: Vec::new(),
        surrogate: None,
        skip: 0,
        text: String::new(),
        heading: None,
        in_table: false,
        cells: Vec::new(),
        lines: Vec::new(),
        rows: Vec::new(),
    };
    reader.read(&bytes)?;
    reader.end_paragraph()?;
    reader.close_table()?;
    Ok(reader.composer.finish())
}

struct Reader {
    composer: Composer,
    stack: Vec<State>,
    state: State,
    /// The document's code page.
    page: &'static Encoding,
    /// Fonts' code pages by their numbers.
    fonts: Vec<(i32, &'static Encoding)>,
    font: Option<i32>,
    /// Depth of the table of fonts, while it is read.
    in_fonts: Option<usize>,
    /// Bytes that are not decoded yet: characters may have two.
    bytes: Vec<u8>,
    surrogate: Option<u16>,
    /// Characters still to be passed over after a `\u`.
    skip: usize,
    text: String,
    heading: Option<usize>,
    in_table: bool,
    cells: Vec<Vec<String>>,
    lines: Vec<String>,
    rows: Vec<Row>,
}

impl Reader {
    fn read(&mut self, source: &[u8]) -> Result<(), Fault> {
        let mut at = 0;
        while let Some(&byte) = source.get(at) {
            at += 1;
            match byte {
                b'{' => {
                    self.composer.step()?;
                    self.flush();
                    self.skip = 0;
                    if self.stack.len() >= MAX_DEPTH {
                        return Err(Fault::TooLarge { what: "levels of nesting", limit: MAX_DEPTH as u64 });
                    }
                    self.stack.push(self.state);
                }
                b'}' => {
                    self.flush();
                    self.skip = 0;
                    if self.in_fonts.is_some_and(|depth| self.stack.len() <= depth) {
                        self.in_fonts = None;
                    }
                    match self.stack.pop() {
                        Some(state) => self.state = state,
                        None => break,
                    }
                    if self.stack.is_empty() {
                        break;
                    }
                }
                b'\\' => at = self.control(source, at)?,
                b'\r' | b'\n' | 0 => {}
                byte => self.byte(byte),
            }
        }
        self.flush();
        Ok(())
    }

    /// A control word or symbol after its backslash; says where the next thing is.
    fn control(&mut self, source: &[u8], at: usize) -> Result<usize, Fault> {
        let Some(&first) = source.get(at) else { return Ok(at) };
        if !first.is_ascii_alphabetic() {
            match first {
                b'\'' => {
                    let digits = source.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
                    if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                        self.byte(byte);
                    }
                    return Ok(at + 3);
                }
                b'*' => self.state.target = Target::Nothing,
                b'~' => self.word("\u{a0}"),
                b'_' => self.word("-"),
                b'\\' | b'{' | b'}' => self.byte(first),
                b'\r' | b'\n' => self.end_paragraph()?,
                _ => {}
            }
            return Ok(at + 1);
        }
        let rest = &source[at..];
        let letters = rest.iter().take(32).take_while(|byte| byte.is_ascii_alphabetic()).count();
        let signed = usize::from(rest.get(letters) == Some(&b'-'));
        let digits = rest[letters + signed..].iter().take(10).take_while(|byte| byte.is_ascii_digit()).count();
        let end = if digits == 0 { letters } else { letters + signed + digits };
        let word = std::str::from_utf8(&rest[..letters]).unwrap_or_default();
        let number = std::str::from_utf8(&rest[letters..end]).ok().and_then(|number| number.parse::<i32>().ok());
        let mut next = at + end + usize::from(rest.get(end) == Some(&b' '));
        if word == "bin" {
            next += usize::try_from(number.unwrap_or(0)).unwrap_or(0);
        }
        self.execute(word, number)?;
        Ok(next)
    }

    fn execute(&mut self, word: &str, number: Option<i32>) -> Result<(), Fault> {
        let on = number != Some(0);
        match word {
            "u" => {
                self.flush();
                // Negative for those above 0x7FFF.
                self.unit(number.unwrap_or(0) as u16);
                self.skip = self.state.substitutes;
                return Ok(());
            }
            "uc" => self.state.substitutes = usize::try_from(number.unwrap_or(1)).unwrap_or(1).min(16),
            "ansicpg" => {
                self.page = code_page(u16::try_from(number.unwrap_or(1252)).unwrap_or(1252));
                self.state.encoding = self.page;
            }
            "mac" => {
                self.page = code_page(10_000);
                self.state.encoding = self.page;
            }
            "fonttbl" => {
                self.in_fonts = Some(self.stack.len());
                self.state.target = Target::Nothing;
            }
            "f" if self.in_fonts.is_some() => self.font = number,
            "f" => {
                self.flush();
                let font = self.fonts.iter().rev().find(|font| Some(font.0) == number);
                self.state.encoding = font.map_or(self.page, |font| font.1);
            }
            "plain" => {
                self.flush();
                self.state.encoding = self.page;
                self.state.hidden = false;
            }
            "fcharset" if self.in_fonts.is_some() => {
                if let (Some(font), Some(page)) = (self.font, page_of_charset(number.unwrap_or(0)))
                    && self.fonts.len() < 4096
                {
                    self.fonts.push((font, code_page(page)));
                }
            }
            "colortbl" | "stylesheet" | "pict" | "header" | "headerl" | "headerr" | "headerf" | "footer"
            | "footerl" | "footerr" | "footerf" | "fldinst" | "listtable" | "listoverridetable" | "info" | "object"
            | "themedata" | "datastore" | "filetbl" | "revtbl" | "generator" | "xmlnstbl" | "nonshppict"
            | "private" | "tc" | "xe" | "ftnsep" | "ftnsepc" | "aftnsep" | "aftnsepc" | "annotation" | "atnid"
            | "atnauthor" => {
                self.flush();
                self.state.target = Target::Nothing;
            }
            // In groups that are passed over by those who don't know them, text that a reader sees.
            "shptxt" | "ud" | "shppict" => self.state.target = Target::Text,
            "title" => self.state.target = Target::Title,
            "author" => self.state.target = Target::Author,
            "subject" => self.state.target = Target::Subject,
            "keywords" => self.state.target = Target::Keywords,
            "v" | "deleted" => {
                self.flush();
                self.state.hidden = on;
            }
            "par" | "sect" | "page" => self.end_paragraph()?,
            "pard" => {
                self.flush();
                self.heading = None;
                self.in_table = false;
            }
            "outlinelevel" => {
                self.heading = number.and_then(|level| usize::try_from(level).ok()).map(|level| level + 1)
            }
            "intbl" => self.in_table = true,
            "cell" | "nestcell" => {
                self.flush();
                self.lines.push(std::mem::take(&mut self.text));
                let lines = std::mem::take(&mut self.lines);
                self.cells.push(lines.into_iter().filter(|line| !line.trim().is_empty()).collect());
            }
            "row" | "nestrow" => {
                self.flush();
                let cells = std::mem::take(&mut self.cells);
                self.rows.push(Row { cells, head: false });
            }
            "tab" => self.word("\t"),
            "line" => self.word("\n"),
            "emdash" => self.word("—"),
            "endash" => self.word("–"),
            "lquote" => self.word("‘"),
            "rquote" => self.word("’"),
            "ldblquote" => self.word("“"),
            "rdblquote" => self.word("”"),
            "bullet" => self.word("•"),
            "emspace" | "enspace" | "qmspace" => self.word(" "),
            _ => {}
        }
        Ok(())
    }

    fn byte(&mut self, byte: u8) {
        if self.skip > 0 {
            self.skip -= 1;
        } else {
            self.bytes.push(byte);
        }
    }

    fn word(&mut self, word: &str) {
        self.flush();
        if self.skip > 0 {
            self.skip -= 1;
        } else {
            self.say(word);
        }
    }

    fn unit(&mut self, unit: u16) {
        if (0xD800..0xDC00).contains(&unit) {
            self.surrogate = Some(unit);
            return;
        }
        let first = self.surrogate.take();
        let units = first.into_iter().chain(Some(unit));
        let text: String = char::decode_utf16(units).map(|character| character.unwrap_or('\u{fffd}')).collect();
        self.say(&text);
    }

    fn flush(&mut self) {
        if !self.bytes.is_empty() {
            let bytes = std::mem::take(&mut self.bytes);
            let text = self.state.encoding.decode_without_bom_handling(&bytes).0;
            self.say(&text);
        }
    }

    fn say(&mut self, text: &str) {
        match self.state.target {
            Target::Text if !self.state.hidden => self.text.push_str(text),
            Target::Text | Target::Nothing => {}
            Target::Title => self.composer.title(text),
            Target::Author => self.composer.remember("author", text),
            Target::Subject => self.composer.remember("subject", text),
            Target::Keywords => self.composer.remember("keywords", text),
        }
    }

    fn end_paragraph(&mut self) -> Result<(), Fault> {
        self.flush();
        // An end within what is passed over ends nothing.
        if self.state.target != Target::Text || self.state.hidden {
            return Ok(());
        }
        let text = std::mem::take(&mut self.text);
        if self.in_table {
            self.lines.push(text);
            return Ok(());
        }
        self.close_table()?;
        let heading = self.heading.filter(|&level| level < 10);
        Block::Paragraph(Paragraph { text, heading, ..Paragraph::default() }).write(&mut self.composer)
    }

    fn close_table(&mut self) -> Result<(), Fault> {
        if !self.lines.is_empty() {
            let lines = std::mem::take(&mut self.lines);
            self.cells.push(lines);
        }
        if !self.cells.is_empty() {
            let cells = std::mem::take(&mut self.cells);
            self.rows.push(Row { cells, head: false });
        }
        if self.rows.is_empty() {
            return Ok(());
        }
        Block::Table(std::mem::take(&mut self.rows)).write(&mut self.composer)
    }
}

/// The code page of a font's character set.
fn page_of_charset(charset: i32) -> Option<u16> {
    Some(match charset {
        0 | 1 => return None,
        77 => 10_000,
        128 => 932,
        129 => 949,
        134 => 936,
        136 => 950,
        161 => 1253,
        162 => 1254,
        163 => 1258,
        177 => 1255,
        178 => 1256,
        186 => 1257,
        204 => 1251,
        222 => 874,
        238 => 1250,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Document {
        parse(text.as_bytes().to_vec(), &ExtractOptions::default()).unwrap()
    }

    #[test]
    fn words_groups_and_characters() {
        let document = read(
            r"{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0\fnil\fcharset0 Arial;}{\f1\fcharset204 Times;}}{\info{\title Caf\'e9}}
{\colortbl;\red0;}\pard\outlinelevel0 Head\par\pard Plain {\b bold} and \{braces\}\par
\u8364?uro \u-10179?\u-8704? {\f1\'cf\'f0}{\v hidden} {\field{\*\fldinst HYPERLINK x}{\fldrslt link}}{\deleted gone}\par
\trowd\intbl A\cell B\cell\row\intbl 1\cell 2\cell\row\pard end}",
        );
        assert_eq!(document.text, "Head\n\nPlain bold and {braces}\n\n€uro 😀 Пр link\n\nA\tB\n1\t2\n\nend");
        assert_eq!(document.title.as_deref(), Some("Café"));
        assert_eq!(document.headings[0].text, "Head");
        assert_eq!(document.tables.len(), 1);
    }

    #[test]
    fn what_is_odd_is_survived() {
        assert_eq!(read(r"{\rtf1 cut off {\b here").text, "cut off here");
        assert_eq!(read(r"{\rtf1 a}} after").text, "a");
        assert_eq!(read(r"{\rtf1\bin99999 x}").text, "");
        let deep = format!(r"{{\rtf1 {}", "{".repeat(5000));
        assert!(matches!(parse(deep.into_bytes(), &ExtractOptions::default()), Err(Fault::TooLarge { .. })));
    }

    proptest::proptest! {
        #[test]
        fn any_rich_text_returns(text in r"(\\|\{|\}|u-?[0-9]{1,6}|'[0-9a-f]{2}|[a-z ]{1,8}|\*|cell|row|par|fonttbl|f1|bin[0-9]|é){0,80}") {
            let _ = parse(format!(r"{{\rtf1 {text}").into_bytes(), &ExtractOptions::default());
        }
    }
}
