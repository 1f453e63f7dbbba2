//! Paragraph styles of a .docx: which are headings, which are lists.

use std::collections::HashMap;

use super::super::compose::Fault;
use super::super::xml::{Node, Xml, attribute};

#[derive(Clone, Debug, Default)]
struct Style {
    name: String,
    based_on: Option<String>,
    /// Outline level from 0; 9 says text.
    outline: Option<usize>,
    list: Option<String>,
    level: Option<usize>,
}

/// What a paragraph is by its style.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kind {
    /// Level of the heading, from 1.
    pub(super) heading: Option<usize>,
    pub(super) is_title: bool,
    pub(super) list: Option<String>,
    pub(super) level: Option<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Styles(HashMap<String, Style>);

/// Longest chain of styles that are based on one another.
const MAX_CHAIN: usize = 32;

impl Styles {
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let mut styles = HashMap::new();
        let mut xml = Xml::new(text);
        xml.each(|xml, name, element| {
            if name == "style" {
                let id = attribute(element, "styleId").unwrap_or_default();
                let style = read_style(xml)?;
                styles.insert(id, style);
            }
            Ok(())
        })?;
        Ok(Self(styles))
    }

    pub(super) fn kind(&self, id: &str) -> Kind {
        let mut kind = Kind::default();
        let mut outline = None;
        let mut next = Some(id);
        for _ in 0..MAX_CHAIN {
            let Some(style) = next.and_then(|id| self.0.get(id)) else { break };
            kind.is_title |= style.name == "title";
            outline = outline.or(style.outline).or_else(|| {
                let level = style.name.strip_prefix("heading ")?.parse::<usize>().ok()?;
                level.checked_sub(1).filter(|&level| level < 9)
            });
            kind.list = kind.list.or_else(|| style.list.clone());
            kind.level = kind.level.or(style.level);
            next = style.based_on.as_deref();
        }
        // Documents without a style sheet that names them still use the usual ids.
        if !self.0.contains_key(id) {
            let level = id.strip_prefix("Heading").and_then(|level| level.parse::<usize>().ok());
            outline = level.and_then(|level| level.checked_sub(1));
            kind.is_title = id == "Title";
        }
        kind.heading = outline.filter(|&level| level < 9).map(|level| level + 1);
        if kind.is_title {
            kind.heading = Some(1);
        }
        kind
    }
}

fn read_style(xml: &mut Xml<'_>) -> Result<Style, Fault> {
    let mut style = Style::default();
    let mut depth = 1;
    while depth > 0 {
        match xml.next()? {
            Node::Open(element) => {
                depth += 1;
                let value = attribute(&element, "val");
                match element.local_name().as_ref() {
                    "name" if depth == 2 => style.name = value.unwrap_or_default().to_lowercase(),
                    "basedOn" => style.based_on = value,
                    "outlineLvl" => style.outline = value.and_then(|value| value.parse().ok()),
                    "numId" => style.list = value,
                    "ilvl" => style.level = value.and_then(|value| value.parse().ok()),
                    _ => {}
                }
            }
            Node::Close => depth -= 1,
            Node::End => break,
            Node::Text(_) => {}
        }
    }
    Ok(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_are_found_by_name_level_and_descent() {
        let styles = Styles::parse(
            r#"<styles><style styleId="a"><name val="Heading 2"/></style>
            <style styleId="b"><name val="Mine"/><basedOn val="a"/></style>
            <style styleId="c"><name val="Chapter"/><pPr><outlineLvl val="0"/><numPr><ilvl val="1"/><numId val="4"/></numPr></pPr></style>
            <style styleId="loop"><name val="x"/><basedOn val="loop"/></style></styles>"#,
        )
        .unwrap();
        assert_eq!(styles.kind("b").heading, Some(2));
        let chapter = styles.kind("c");
        assert_eq!((chapter.heading, chapter.list.as_deref(), chapter.level), (Some(1), Some("4"), Some(1)));
        assert_eq!(styles.kind("loop"), Kind::default());
        assert_eq!(styles.kind("Heading3").heading, Some(3));
    }
}
