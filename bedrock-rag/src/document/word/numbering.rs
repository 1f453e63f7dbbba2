//! Lists of a .docx: `numbering.xml`.

use std::collections::HashMap;

use super::super::compose::Fault;
use super::super::xml::{Node, Xml, attribute, is_on};
use super::label::{Counters, LEVELS, Level, Piece, Style};

/// A list that paragraphs name by its id.
#[derive(Debug, Default)]
struct List {
    definition: String,
    /// Levels that differ from the definition's, and starts that do.
    levels: HashMap<usize, Level>,
    starts: HashMap<usize, u32>,
}

#[derive(Debug, Default)]
pub(super) struct Numbering {
    definitions: HashMap<String, Vec<Level>>,
    lists: HashMap<String, List>,
    counters: HashMap<String, Counters>,
    /// Lists of which an item was seen.
    begun: std::collections::HashSet<String>,
}

impl Numbering {
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let mut numbering = Self::default();
        let mut xml = Xml::new(text);
        xml.each(|xml, name, element| {
            match name {
                "abstractNum" => {
                    let id = attribute(element, "abstractNumId").unwrap_or_default();
                    let levels = read_levels(xml)?;
                    numbering.definitions.insert(id, levels);
                }
                "num" => {
                    let id = attribute(element, "numId").unwrap_or_default();
                    let list = read_list(xml)?;
                    numbering.lists.insert(id, list);
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(numbering)
    }

    /// Counts an item of a list and writes its label.
    pub(super) fn label(&mut self, list_id: &str, level: usize) -> String {
        let Some(list) = self.lists.get(list_id) else { return String::new() };
        let Some(definition) = self.definitions.get(&list.definition) else { return String::new() };
        // Lists of one definition count on together; a start of its own sets the count when the list begins.
        let counters = self.counters.entry(list.definition.clone()).or_default();
        if self.begun.insert(list_id.to_owned()) {
            for (&level, &start) in &list.starts {
                counters.set(level, start);
            }
        }
        if list.levels.is_empty() {
            return counters.label(definition, level);
        }
        let mut levels = definition.clone();
        for (&index, own) in &list.levels {
            if let Some(slot) = levels.get_mut(index) {
                slot.clone_from(own);
            }
        }
        counters.label(&levels, level)
    }
}

fn read_levels(xml: &mut Xml<'_>) -> Result<Vec<Level>, Fault> {
    let mut levels = vec![Level::default(); LEVELS];
    let mut depth = 1;
    while depth > 0 {
        match xml.next()? {
            Node::Open(element) if element.local_name().as_ref() == "lvl" => {
                let index = attribute(&element, "ilvl").and_then(|index| index.parse().ok()).unwrap_or(LEVELS);
                let level = read_level(xml)?;
                if let Some(slot) = levels.get_mut(index) {
                    *slot = level;
                }
            }
            Node::Open(_) => depth += 1,
            Node::Close => depth -= 1,
            Node::End => break,
            Node::Text(_) => {}
        }
    }
    Ok(levels)
}

fn read_list(xml: &mut Xml<'_>) -> Result<List, Fault> {
    let mut list = List::default();
    let mut depth = 1;
    let mut level = LEVELS;
    while depth > 0 {
        match xml.next()? {
            Node::Open(element) => {
                depth += 1;
                match element.local_name().as_ref() {
                    "abstractNumId" => list.definition = attribute(&element, "val").unwrap_or_default(),
                    "lvlOverride" => {
                        level = attribute(&element, "ilvl").and_then(|level| level.parse().ok()).unwrap_or(LEVELS);
                    }
                    "startOverride" => {
                        if let Some(start) = attribute(&element, "val").and_then(|start| start.parse().ok()) {
                            list.starts.insert(level, start);
                        }
                    }
                    "lvl" => {
                        depth -= 1;
                        list.levels.insert(level, read_level(xml)?);
                    }
                    _ => {}
                }
            }
            Node::Close => depth -= 1,
            Node::End => break,
            Node::Text(_) => {}
        }
    }
    Ok(list)
}

fn read_level(xml: &mut Xml<'_>) -> Result<Level, Fault> {
    let mut level = Level { start: 1, ..Level::default() };
    let mut depth = 1;
    while depth > 0 {
        match xml.next()? {
            Node::Open(element) => {
                depth += 1;
                let value = attribute(&element, "val");
                match (element.local_name().as_ref(), value) {
                    ("start", Some(start)) => level.start = start.parse().unwrap_or(1),
                    ("numFmt", Some(format)) => level.style = style_of(&format),
                    ("lvlText", Some(text)) => level.label = pieces(&text),
                    ("lvlRestart", Some(levels)) => level.restart = levels.parse().ok(),
                    ("isLgl", _) => level.legal = is_on(&element),
                    _ => {}
                }
            }
            Node::Close => depth -= 1,
            Node::End => break,
            Node::Text(_) => {}
        }
    }
    Ok(level)
}

fn style_of(name: &str) -> Style {
    match name {
        "bullet" => Style::Bullet,
        "none" => Style::Nothing,
        "decimalZero" => Style::DecimalZero,
        "lowerLetter" => Style::LowerLetter,
        "upperLetter" => Style::UpperLetter,
        "lowerRoman" => Style::LowerRoman,
        "upperRoman" => Style::UpperRoman,
        "ordinal" => Style::Ordinal,
        _ => Style::Decimal,
    }
}

/// Reads `%1.%2)`.
fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut words = String::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, characters.peek().and_then(|next| next.to_digit(10))) {
            ('%', Some(level @ 1..=9)) => {
                characters.next();
                if !words.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut words)));
                }
                pieces.push(Piece::Number(level as usize - 1));
            }
            _ => words.push(character),
        }
    }
    if !words.is_empty() {
        pieces.push(Piece::Text(words));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_share_a_definition_and_may_start_anew() {
        let mut numbering = Numbering::parse(
            r#"<numbering><abstractNum abstractNumId="7"><lvl ilvl="0"><start val="1"/><numFmt val="decimal"/><lvlText val="%1."/></lvl>
            <lvl ilvl="1"><start val="1"/><numFmt val="lowerRoman"/><lvlText val="(%1.%2)"/></lvl></abstractNum>
            <num numId="1"><abstractNumId val="7"/></num>
            <num numId="2"><abstractNumId val="7"/><lvlOverride ilvl="0"><startOverride val="10"/></lvlOverride></num></numbering>"#,
        )
        .unwrap();
        let labels: Vec<_> = [("1", 0), ("1", 1), ("1", 1), ("1", 0), ("2", 0), ("2", 1), ("1", 0), ("3", 0)]
            .map(|(list, level)| numbering.label(list, level))
            .into();
        assert_eq!(labels, ["1. ", "(1.i) ", "(1.ii) ", "2. ", "10. ", "(10.i) ", "11. ", ""]);
    }
}
