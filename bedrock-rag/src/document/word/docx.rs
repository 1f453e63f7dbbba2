//! Word documents of the Office Open XML kind.
//!
//! What a reader sees comes out: text, headings, list labels, tables, text boxes, footnotes (after the paragraph that
//! refers to them), and, once at the end, page headers and footers. What is deleted, moved away or hidden does not.

use std::collections::{BTreeMap, BTreeSet};

use quick_xml::events::BytesStart;

use super::super::compose::{Composer, Fault};
use super::super::package::Package;
use super::super::xml::{Node, Xml, attribute, decode, is_on};
use super::super::{Document, ExtractOptions};
use super::block::{Block, Paragraph, Row};
use super::numbering::Numbering;
use super::styles::Styles;
use super::symbol::symbol;

pub(in super::super) fn parse(bytes: Vec<u8>, options: &ExtractOptions) -> Result<Document, Fault> {
    let mut composer = Composer::new(options);
    let mut package = Package::open(bytes, options)?;
    let top = package.relationships("")?;
    let main = top.iter().find(|relationship| relationship.kind == "officeDocument");
    let main = main.map_or_else(|| "word/document.xml".to_owned(), |relationship| relationship.target.clone());
    let Some(body) = package.part(&main)? else {
        return Err(Fault::Malformed(format!("it has no part {main}")));
    };
    let related = package.relationships(&main)?;
    // Some writers forget to say where these are; they are where they always are.
    let mut part = |kind: &str| match related.iter().find(|relationship| relationship.kind == kind) {
        Some(relationship) => package.part(&relationship.target),
        None => package.part(&format!("word/{kind}.xml")),
    };
    let styles = part("styles")?.map(|styles| Styles::parse(&decode(&styles))).transpose()?.unwrap_or_default();
    let numbering = part("numbering")?.map(|lists| Numbering::parse(&decode(&lists))).transpose()?.unwrap_or_default();
    let (footnotes, endnotes) = (part("footnotes")?, part("endnotes")?);
    let mut reader = Reader { styles, numbering, ..Reader::default() };
    if let Some(notes) = &footnotes {
        reader.footnotes = reader.notes(&decode(notes), "footnote", &mut composer)?;
    }
    if let Some(notes) = &endnotes {
        reader.endnotes = reader.notes(&decode(notes), "endnote", &mut composer)?;
    }

    package.properties(&top, &mut composer)?;
    let text = decode(&body);
    let mut xml = Xml::new(&text);
    let mut found = false;
    loop {
        match xml.next()? {
            Node::Open(element) if element.local_name().as_ref() == "body" => {
                found = true;
                reader.body(&mut xml, &mut composer)?;
            }
            Node::End => break,
            _ => {}
        }
    }
    if !found {
        return Err(Fault::malformed("its main part has no body"));
    }
    for kind in ["header", "footer"] {
        let mut said = BTreeSet::new();
        for relationship in related.iter().filter(|relationship| relationship.kind == kind) {
            let Some(part) = package.part(&relationship.target)? else { continue };
            let lines = reader.lines_of_part(&decode(&part), &mut composer)?;
            let text = lines.join("\n");
            // A page's number alone says nothing.
            if text.chars().any(char::is_alphabetic) && said.insert(text.clone()) {
                composer.paragraph(&text)?;
            }
        }
    }
    Ok(composer.finish())
}

#[derive(Debug, Default)]
struct Reader {
    styles: Styles,
    numbering: Numbering,
    footnotes: BTreeMap<String, String>,
    endnotes: BTreeMap<String, String>,
    /// Fields that are open: whether their result has begun.
    fields: Vec<bool>,
    /// Text boxes and notes that wait for the end of their paragraph or table.
    aside: Vec<String>,
    /// Start of a paragraph whose end is deleted.
    unfinished: String,
}

impl Reader {
    fn body(&mut self, xml: &mut Xml<'_>, composer: &mut Composer) -> Result<(), Fault> {
        self.blocks(xml, composer, &mut |reader, composer, block| {
            block.write(composer)?;
            for aside in std::mem::take(&mut reader.aside) {
                composer.paragraph(&aside)?;
            }
            Ok(())
        })
    }

    /// The content of the element that was opened last, as blocks.
    fn blocks(
        &mut self,
        xml: &mut Xml<'_>,
        composer: &mut Composer,
        each: &mut dyn FnMut(&mut Self, &mut Composer, Block) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut chosen = false;
        loop {
            match xml.next()? {
                Node::Open(element) => match element.local_name().as_ref() {
                    "p" => {
                        let paragraph = self.paragraph(xml, composer)?;
                        if paragraph.goes_on {
                            self.unfinished = paragraph.text;
                        } else {
                            each(self, composer, Block::Paragraph(paragraph))?;
                        }
                    }
                    "tbl" => {
                        let rows = self.table(xml, composer)?;
                        each(self, composer, Block::Table(rows))?;
                    }
                    // Of an alternative, the first choice; the fallback only says the same again.
                    "Choice" if !chosen => {
                        chosen = true;
                        self.blocks(xml, composer, each)?;
                    }
                    "Fallback" if !chosen => self.blocks(xml, composer, each)?,
                    "sdt" | "sdtContent" | "customXml" | "smartTag" | "ins" | "moveTo" | "AlternateContent"
                    | "footnote" | "endnote" => self.blocks(xml, composer, each)?,
                    _ => xml.skip()?,
                },
                Node::Close | Node::End => return Ok(()),
                Node::Text(_) => {}
            }
        }
    }

    /// The content of the element that was opened last, as lines.
    fn lines(&mut self, xml: &mut Xml<'_>, composer: &mut Composer) -> Result<Vec<String>, Fault> {
        let mut lines = Vec::new();
        self.blocks(xml, composer, &mut |_, _, block| {
            lines.extend(block.lines());
            Ok(())
        })?;
        lines.retain(|line| !line.trim().is_empty());
        Ok(lines)
    }

    /// A header or footer.
    fn lines_of_part(&mut self, text: &str, composer: &mut Composer) -> Result<Vec<String>, Fault> {
        let mut xml = Xml::new(text);
        let mut lines = match xml.next()? {
            Node::Open(_) => self.lines(&mut xml, composer)?,
            _ => loop {
                match xml.next()? {
                    Node::Open(_) => break self.lines(&mut xml, composer)?,
                    Node::End => return Ok(Vec::new()),
                    _ => {}
                }
            },
        };
        lines.append(&mut self.aside);
        Ok(lines)
    }

    /// Footnotes or endnotes by their ids, without the lines that separate them from the text.
    fn notes(&mut self, text: &str, kind: &str, composer: &mut Composer) -> Result<BTreeMap<String, String>, Fault> {
        let mut notes = BTreeMap::new();
        let mut xml = Xml::new(text);
        loop {
            match xml.next()? {
                Node::Open(element) if element.local_name().as_ref() == kind => {
                    let lines = self.lines(&mut xml, composer)?;
                    if attribute(&element, "type").is_none_or(|kind| kind == "normal") {
                        notes.insert(attribute(&element, "id").unwrap_or_default(), lines.join(" "));
                    }
                }
                Node::End => return Ok(notes),
                _ => {}
            }
        }
    }

    fn table(&mut self, xml: &mut Xml<'_>, composer: &mut Composer) -> Result<Vec<Row>, Fault> {
        let mut rows = Vec::new();
        // Rows and cells may lie in content controls and in what was inserted; these are looked through.
        let mut inside = 0_usize;
        loop {
            match xml.next()? {
                Node::Open(element) => match element.local_name().as_ref() {
                    "tr" => {
                        composer.step()?;
                        rows.extend(self.row(xml, composer)?);
                    }
                    "sdt" | "sdtContent" | "customXml" | "ins" | "moveTo" => inside += 1,
                    _ => xml.skip()?,
                },
                Node::Close if inside > 0 => inside -= 1,
                Node::Close | Node::End => return Ok(rows),
                Node::Text(_) => {}
            }
        }
    }

    /// A row, unless it is deleted.
    fn row(&mut self, xml: &mut Xml<'_>, composer: &mut Composer) -> Result<Option<Row>, Fault> {
        let mut row = Row::default();
        let mut deleted = false;
        let mut inside = 0_usize;
        loop {
            match xml.next()? {
                Node::Open(element) => match element.local_name().as_ref() {
                    "trPr" => properties(xml, |name, element| match name {
                        "tblHeader" => row.head = is_on(element),
                        "del" => deleted = true,
                        _ => {}
                    })?,
                    "tc" => {
                        let cell = self.cell(xml, composer)?;
                        row.cells.push(cell);
                    }
                    "sdt" | "sdtContent" | "customXml" | "ins" | "moveTo" => inside += 1,
                    _ => xml.skip()?,
                },
                Node::Close if inside > 0 => inside -= 1,
                Node::Close | Node::End => return Ok((!deleted).then_some(row)),
                Node::Text(_) => {}
            }
        }
    }

    fn cell(&mut self, xml: &mut Xml<'_>, composer: &mut Composer) -> Result<Vec<String>, Fault> {
        // The cell's properties come first and are passed over with all that is no block; what a merged cell goes on
        // with is empty by itself.
        self.lines(xml, composer)
    }

    fn paragraph(&mut self, xml: &mut Xml<'_>, composer: &mut Composer) -> Result<Paragraph, Fault> {
        composer.step()?;
        let mut paragraph = Paragraph { text: std::mem::take(&mut self.unfinished), ..Paragraph::default() };
        let mut style = None;
        let (mut list, mut level, mut outline) = (None, None, None);
        self.inline(xml, composer, &mut paragraph.text, &mut |xml, _| {
            let mut goes_on = false;
            properties(xml, |name, element| match name {
                "pStyle" => style = attribute(element, "val"),
                "numId" => list = attribute(element, "val"),
                "ilvl" => level = attribute(element, "val").and_then(|level| level.parse::<usize>().ok()),
                "outlineLvl" => outline = attribute(element, "val").and_then(|level| level.parse::<usize>().ok()),
                "rPr/del" | "rPr/moveFrom" => goes_on = true,
                _ => {}
            })?;
            paragraph.goes_on = goes_on;
            Ok(())
        })?;
        // A field whose result has not begun where its paragraph ends is none that hides the rest of the document.
        self.fields.iter_mut().for_each(|result| *result = true);
        let kind = style.map(|style| self.styles.kind(&style)).unwrap_or_default();
        paragraph.is_title = kind.is_title;
        paragraph.heading = match outline {
            Some(level) => Some(level + 1).filter(|&level| level < 10),
            None => kind.heading,
        };
        if let Some(list) = list.or(kind.list).filter(|list| list != "0")
            && !paragraph.text.trim().is_empty()
        {
            let level = level.or(kind.level).unwrap_or(0).min(8);
            paragraph.label = Some((self.numbering.label(&list, level), level));
        }
        Ok(paragraph)
    }

    /// The runs of a paragraph, and of what stands in it. `own` reads the paragraph's properties.
    fn inline(
        &mut self,
        xml: &mut Xml<'_>,
        composer: &mut Composer,
        text: &mut String,
        own: &mut dyn FnMut(&mut Xml<'_>, &BytesStart<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut chosen = false;
        loop {
            match xml.next()? {
                Node::Open(element) => match element.local_name().as_ref() {
                    "pPr" => own(xml, &element)?,
                    "r" => self.run(xml, composer, text)?,
                    "Choice" if !chosen => {
                        chosen = true;
                        self.inline(xml, composer, text, own)?;
                    }
                    "Fallback" if chosen => xml.skip()?,
                    // What is deleted or moved away, and what only describes.
                    "del" | "moveFrom" | "rPr" | "sdtPr" | "sdtEndPr" | "customXmlPr" | "smartTagPr" | "rt"
                    | "rubyPr" | "ctrlPr" | "oMathParaPr" => xml.skip()?,
                    "t" => self.words(xml, text)?,
                    _ => self.inline(xml, composer, text, &mut |xml, _| xml.skip())?,
                },
                Node::Close | Node::End => return Ok(()),
                Node::Text(_) => {}
            }
        }
    }

    fn is_visible(&self) -> bool {
        self.fields.iter().all(|&result| result)
    }

    fn words(&self, xml: &mut Xml<'_>, text: &mut String) -> Result<(), Fault> {
        let words = xml.text()?;
        if self.is_visible() {
            text.push_str(&words);
        }
        Ok(())
    }

    fn run(&mut self, xml: &mut Xml<'_>, composer: &mut Composer, text: &mut String) -> Result<(), Fault> {
        let mut hidden = false;
        let mut chosen = false;
        let mut inside = 0_usize;
        loop {
            let element = match xml.next()? {
                Node::Open(element) => element,
                Node::Close if inside > 0 => {
                    inside -= 1;
                    continue;
                }
                Node::Close | Node::End => return Ok(()),
                Node::Text(_) => continue,
            };
            let name = element.local_name();
            let shown = !hidden && self.is_visible();
            match name.as_ref() {
                "rPr" => properties(xml, |name, element| {
                    if matches!(name, "vanish" | "specVanish") {
                        hidden = is_on(element);
                    }
                })?,
                "t" if shown => text.push_str(&xml.text()?),
                "tab" | "ptab" => {
                    if shown {
                        text.push('\t');
                    }
                    xml.skip()?;
                }
                "br" | "cr" => {
                    if shown {
                        text.push('\n');
                    }
                    xml.skip()?;
                }
                "noBreakHyphen" => {
                    if shown {
                        text.push('-');
                    }
                    xml.skip()?;
                }
                "sym" => {
                    let code = attribute(&element, "char").and_then(|code| u32::from_str_radix(&code, 16).ok());
                    let font = attribute(&element, "font").unwrap_or_default();
                    if shown {
                        text.extend(code.and_then(|code| symbol(&font, code)));
                    }
                    xml.skip()?;
                }
                "fldChar" => {
                    match attribute(&element, "fldCharType").as_deref() {
                        Some("begin") => self.fields.push(false),
                        Some("separate") => {
                            if let Some(result) = self.fields.last_mut() {
                                *result = true;
                            }
                        }
                        Some("end") => drop(self.fields.pop()),
                        _ => {}
                    }
                    xml.skip()?;
                }
                "footnoteReference" | "endnoteReference" => {
                    let id = attribute(&element, "id").unwrap_or_default();
                    let notes =
                        if name.as_ref() == "footnoteReference" { &mut self.footnotes } else { &mut self.endnotes };
                    if shown {
                        self.aside.extend(notes.remove(&id).filter(|note| !note.is_empty()));
                    }
                    xml.skip()?;
                }
                "Choice" if !chosen => {
                    chosen = true;
                    inside += 1;
                }
                "Fallback" if chosen => xml.skip()?,
                "AlternateContent" | "Fallback" => inside += 1,
                "drawing" | "pict" | "object" if shown => self.drawing(xml, composer)?,
                "ruby" | "rubyBase" => self.inline(xml, composer, text, &mut |xml, _| xml.skip())?,
                _ => xml.skip()?,
            }
        }
    }

    /// The text boxes of a drawing.
    fn drawing(&mut self, xml: &mut Xml<'_>, composer: &mut Composer) -> Result<(), Fault> {
        let mut chosen = false;
        loop {
            match xml.next()? {
                Node::Open(element) => match element.local_name().as_ref() {
                    "txbxContent" => {
                        let lines = self.lines(xml, composer)?;
                        if !lines.is_empty() {
                            self.aside.push(lines.join("\n"));
                        }
                    }
                    "Fallback" if chosen => xml.skip()?,
                    name => {
                        chosen |= name == "Choice";
                        self.drawing(xml, composer)?;
                    }
                },
                Node::Close | Node::End => return Ok(()),
                Node::Text(_) => {}
            }
        }
    }
}

/// The properties in the element that was opened last, without those of earlier versions of it; a run's properties in a
/// paragraph's are `rPr/…`.
fn properties(xml: &mut Xml<'_>, mut each: impl FnMut(&str, &BytesStart<'_>)) -> Result<(), Fault> {
    let mut depth = 1;
    let mut in_run = false;
    while depth > 0 {
        match xml.next()? {
            Node::Open(element) => {
                let name = element.local_name();
                match name.as_ref() {
                    "pPrChange" | "rPrChange" | "trPrChange" | "tcPrChange" | "sectPr" => {
                        xml.skip()?;
                        continue;
                    }
                    "rPr" => in_run = true,
                    "del" if in_run => each("rPr/del", &element),
                    "moveFrom" if in_run => each("rPr/moveFrom", &element),
                    _ if in_run => {}
                    name => each(name, &element),
                }
                depth += 1;
            }
            Node::Close => depth -= 1,
            Node::End => return Ok(()),
            Node::Text(_) => {}
        }
    }
    Ok(())
}
