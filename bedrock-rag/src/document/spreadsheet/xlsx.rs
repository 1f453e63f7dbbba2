//! Excel workbooks of the Office Open XML kind.

use std::ops::Range;

use serde_json::Value;

use super::super::compose::{Composer, Fault};
use super::super::package::Package;
use super::super::xml::{Node, Xml, attribute, decode};
use super::super::{Document, ExtractOptions};
use super::grid::Grid;
use super::shown::Shown;

pub(in super::super) fn parse(bytes: Vec<u8>, options: &ExtractOptions) -> Result<Document, Fault> {
    let mut composer = Composer::new(options);
    let mut package = Package::open(bytes, options)?;
    let top = package.relationships("")?;
    let main = top.iter().find(|relationship| relationship.kind == "officeDocument");
    let main = main.map_or_else(|| "xl/workbook.xml".to_owned(), |relationship| relationship.target.clone());
    let Some(workbook) = package.part(&main)? else { return Err(Fault::Malformed(format!("it has no part {main}"))) };
    let related = package.relationships(&main)?;
    // Some writers forget to say where these are; they are where they always are.
    let target = |kind: &str| {
        let named = related.iter().find(|other| other.kind == kind).map(|other| other.target.clone());
        named.unwrap_or_else(|| format!("xl/{kind}.xml"))
    };
    package.properties(&top, &mut composer)?;

    let mut shown = Shown::default();
    let sheets = read_workbook(&decode(&workbook), &mut shown)?;
    drop(workbook);
    let mut formats = Vec::new();
    if let Some(styles) = package.part(&target("styles"))? {
        formats = read_styles(&decode(&styles), &mut shown)?;
    }
    let mut strings = Strings::default();
    if let Some(part) = package.part(&target("sharedStrings"))? {
        strings.read(&decode(&part), &mut composer)?;
    }
    let hidden: Vec<Value> = sheets.iter().filter(|sheet| sheet.hidden).map(|s| Value::from(s.name.as_str())).collect();
    if !hidden.is_empty() {
        composer.metadata().insert("hiddenSheets".to_owned(), Value::from(hidden));
    }
    let names: Vec<Value> = sheets.iter().map(|sheet| Value::from(sheet.name.as_str())).collect();
    composer.metadata().insert("sheets".to_owned(), Value::from(names));
    for sheet in &sheets {
        let Some(relationship) = related.iter().find(|other| other.id == sheet.relationship) else { continue };
        if relationship.kind != "worksheet" {
            continue;
        }
        let Some(part) = package.part(&relationship.target)? else {
            return Err(Fault::Malformed(format!("it has no part {}", relationship.target)));
        };
        let mut grid = Grid::new(&mut composer, &sheet.name);
        read_sheet(&decode(&part), &strings, &formats, &mut shown, &mut grid)?;
        grid.finish()?;
    }
    Ok(composer.finish())
}

struct Sheet {
    name: String,
    relationship: String,
    hidden: bool,
}

fn read_workbook(text: &str, shown: &mut Shown) -> Result<Vec<Sheet>, Fault> {
    let mut sheets = Vec::new();
    let mut is_workbook = false;
    Xml::new(text).each(|_, name, element| {
        match name {
            "workbook" => is_workbook = true,
            "workbookPr" => {
                if matches!(attribute(element, "date1904").as_deref(), Some("1" | "true")) {
                    shown.count_from_1904();
                }
            }
            "sheet" => sheets.push(Sheet {
                name: attribute(element, "name").unwrap_or_default(),
                relationship: attribute(element, "id").unwrap_or_default(),
                hidden: attribute(element, "state").is_some_and(|state| state != "visible"),
            }),
            _ => {}
        }
        Ok(())
    })?;
    if is_workbook { Ok(sheets) } else { Err(Fault::malformed("its main part is no workbook")) }
}

/// The number format of each cell style.
fn read_styles(text: &str, shown: &mut Shown) -> Result<Vec<u32>, Fault> {
    let mut formats = Vec::new();
    let mut xml = Xml::new(text);
    let mut in_cells = 0_usize;
    loop {
        match xml.next()? {
            Node::Open(element) => {
                let number = |name: &str| attribute(&element, name).and_then(|id| id.parse::<u32>().ok());
                match element.local_name().as_ref() {
                    "numFmt" => {
                        if let (Some(id), Some(code)) = (number("numFmtId"), attribute(&element, "formatCode")) {
                            shown.define(id, code);
                        }
                    }
                    "xf" if in_cells == 1 => formats.push(number("numFmtId").unwrap_or(0)),
                    "cellXfs" => {
                        in_cells = 1;
                        continue;
                    }
                    _ => {}
                }
                in_cells += usize::from(in_cells > 0);
            }
            Node::Close => in_cells = in_cells.saturating_sub(1),
            Node::End => return Ok(formats),
            Node::Text(_) => {}
        }
    }
}

/// The strings that cells refer to by number, one after another in one text.
#[derive(Debug, Default)]
struct Strings {
    text: String,
    ends: Vec<u32>,
}

impl Strings {
    fn read(&mut self, text: &str, composer: &mut Composer) -> Result<(), Fault> {
        Xml::new(text).each(|xml, name, _| {
            if name == "si" {
                composer.step()?;
                read_rich(xml, &mut self.text)?;
                // Parts are bounded well below this.
                self.ends.push(self.text.len() as u32);
            }
            Ok(())
        })
    }

    fn get(&self, index: usize) -> Option<&str> {
        let range = Range {
            start: index.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).map(|&end| end as usize))?,
            end: *self.ends.get(index)? as usize,
        };
        self.text.get(range)
    }
}

/// The words of an `si` or `is`, without how they are pronounced.
fn read_rich(xml: &mut Xml<'_>, out: &mut String) -> Result<(), Fault> {
    let mut depth = 1;
    while depth > 0 {
        match xml.next()? {
            Node::Open(element) => match element.local_name().as_ref() {
                "t" => out.push_str(&xml.text()?),
                "rPh" => xml.skip()?,
                _ => depth += 1,
            },
            Node::Close => depth -= 1,
            Node::End => break,
            Node::Text(_) => {}
        }
    }
    Ok(())
}

fn read_sheet(
    text: &str,
    strings: &Strings,
    formats: &[u32],
    shown: &mut Shown,
    grid: &mut Grid<'_>,
) -> Result<(), Fault> {
    // Where rows and cells don't say where they are, they follow one another.
    let (mut row, mut column) = (0_u32, 0_u32);
    Xml::new(text).each(|xml, name, element| {
        match name {
            "row" => {
                row = match attribute(element, "r").and_then(|row| row.parse::<u32>().ok()) {
                    Some(number) => number,
                    None => row.saturating_add(1),
                };
                column = 0;
            }
            "c" => {
                let place = attribute(element, "r").and_then(|place| column_of(&place));
                let at = place.unwrap_or(column);
                column = at.saturating_add(1);
                let kind = attribute(element, "t").unwrap_or_default();
                let style = attribute(element, "s").and_then(|style| style.parse::<usize>().ok());
                let (value, words) = read_cell(xml)?;
                let text = match kind.as_str() {
                    "s" => {
                        let index = value.trim().parse::<usize>().ok();
                        let Some(text) = index.and_then(|index| strings.get(index)) else {
                            return Err(Fault::Malformed(format!("it has no shared string {}", value.trim())));
                        };
                        text.to_owned()
                    }
                    "inlineStr" => words,
                    "b" => if value.trim() == "1" { "TRUE" } else { "FALSE" }.to_owned(),
                    // A date in ISO 8601, an error, the text of a formula.
                    "d" | "e" | "str" => value,
                    _ => match value.trim().parse::<f64>() {
                        Ok(number) => {
                            shown.write(number, style.and_then(|style| formats.get(style)).copied().unwrap_or(0))
                        }
                        Err(_) => value,
                    },
                };
                grid.cell(row, at, unescape(text))?;
            }
            _ => {}
        }
        Ok(())
    })
}

/// A cell's value and its own words.
fn read_cell(xml: &mut Xml<'_>) -> Result<(String, String), Fault> {
    let (mut value, mut words) = (String::new(), String::new());
    let mut depth = 1;
    while depth > 0 {
        match xml.next()? {
            Node::Open(element) => match element.local_name().as_ref() {
                "v" => value = xml.text()?,
                "is" => read_rich(xml, &mut words)?,
                _ => depth += 1,
            },
            Node::Close => depth -= 1,
            Node::End => break,
            Node::Text(_) => {}
        }
    }
    Ok((value, words))
}

/// The column of `BC23`, from 0; nothing beyond the last one, XFD.
fn column_of(place: &str) -> Option<u32> {
    let letters = place.bytes().take_while(u8::is_ascii_alphabetic).take(4);
    let column = letters.fold(0_u32, |column, letter| column * 26 + u32::from(letter.to_ascii_uppercase() - b'A') + 1);
    column.checked_sub(1).filter(|&column| column < 16_384)
}

/// Excel writes characters that XML can't hold as `_x000D_`.
fn unescape(text: String) -> String {
    if !text.contains("_x") {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find("_x") {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 2..at + 6).filter(|_| rest.as_bytes().get(at + 6) == Some(&b'_'));
        match code.and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32) {
            Some(character) => {
                out.push(if character.is_control() { ' ' } else { character });
                rest = &rest[at + 7..];
            }
            None => {
                out.push_str("_x");
                rest = &rest[at + 2..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_escapes() {
        assert_eq!(column_of("A1"), Some(0));
        assert_eq!(column_of("XFD1048576"), Some(16_383));
        assert_eq!((column_of("XFE1"), column_of("7")), (None, None));
        assert_eq!(unescape("a_x000D_b_x_c_x00_é".to_owned()), "a b_x_c_x00_é");
    }

    #[test]
    fn strings_are_found_by_number() {
        let mut strings = Strings::default();
        let mut composer = Composer::new(&ExtractOptions::default());
        let part = "<sst><si><t>one</t></si><si/><si><r><t>t</t></r><r><t>wo</t></r><rPh><t>x</t></rPh></si></sst>";
        strings.read(part, &mut composer).unwrap();
        assert_eq!([0, 1, 2].map(|index| strings.get(index)), [Some("one"), Some(""), Some("two")]);
        assert_eq!(strings.get(3), None);
    }
}
