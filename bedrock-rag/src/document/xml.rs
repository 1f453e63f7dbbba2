//! XML of Office documents: events, with depth bounded, without entities of the document's own.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8};
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::compose::Fault;

/// Deepest nesting of elements.
const MAX_DEPTH: usize = 512;

/// The text of a part: UTF-8, or whatever its byte-order mark says.
pub(super) fn decode(bytes: &[u8]) -> Cow<'_, str> {
    let encoding = Encoding::for_bom(bytes).map_or(UTF_8, |(encoding, _)| encoding);
    encoding.decode_with_bom_removal(bytes).0
}

/// What comes next in a part. Names are without prefix: parts of the strict and of the usual kind differ only there.
#[derive(Debug)]
pub(super) enum Node<'a> {
    Open(BytesStart<'a>),
    Close,
    Text(Cow<'a, str>),
    End,
}

pub(super) struct Xml<'a> {
    reader: Reader<&'a [u8]>,
    depth: usize,
}

impl<'a> Xml<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let mut reader = Reader::from_str(text);
        reader.config_mut().expand_empty_elements = true;
        Self { reader, depth: 0 }
    }

    pub(super) fn next(&mut self) -> Result<Node<'a>, Fault> {
        loop {
            return Ok(match self.reader.read_event().map_err(Fault::malformed)? {
                Event::Start(element) => {
                    self.depth += 1;
                    if self.depth > MAX_DEPTH {
                        return Err(Fault::TooLarge { what: "levels of nesting", limit: MAX_DEPTH as u64 });
                    }
                    Node::Open(element)
                }
                Event::End(_) => {
                    self.depth = self.depth.saturating_sub(1);
                    Node::Close
                }
                Event::Text(text) => Node::Text(text.into_inner()),
                Event::CData(text) => Node::Text(text.into_inner()),
                Event::GeneralRef(reference) => {
                    let character = reference.resolve_char_ref().map_err(Fault::malformed)?;
                    match (character, &*reference.into_inner()) {
                        (Some(character), _) => Node::Text(Cow::Owned(character.to_string())),
                        (None, "amp") => Node::Text(Cow::Borrowed("&")),
                        (None, "lt") => Node::Text(Cow::Borrowed("<")),
                        (None, "gt") => Node::Text(Cow::Borrowed(">")),
                        (None, "quot") => Node::Text(Cow::Borrowed("\"")),
                        (None, "apos") => Node::Text(Cow::Borrowed("'")),
                        (None, other) => return Err(Fault::Malformed(format!("the entity {other} is not XML's own"))),
                    }
                }
                // Office parts have none. What comes with one is entities that grow, or that name files.
                Event::DocType(_) => return Err(Fault::malformed("it has a document type definition")),
                Event::Eof if self.depth > 0 => return Err(Fault::malformed("its XML ends too early")),
                Event::Eof => Node::End,
                _ => continue,
            });
        }
    }

    /// Passes over the rest of the element that was opened last.
    pub(super) fn skip(&mut self) -> Result<(), Fault> {
        let outside = self.depth.saturating_sub(1);
        while self.depth > outside {
            if matches!(self.next()?, Node::End) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The text in the rest of the element that was opened last.
    pub(super) fn text(&mut self) -> Result<String, Fault> {
        let outside = self.depth.saturating_sub(1);
        let mut words = String::new();
        while self.depth > outside {
            match self.next()? {
                Node::Text(text) => words.push_str(&text),
                Node::End => break,
                Node::Open(_) | Node::Close => {}
            }
        }
        Ok(words)
    }

    /// Calls `each` for every element, at any depth, with its name; elements that it reads itself are not entered.
    pub(super) fn each(
        &mut self,
        mut each: impl FnMut(&mut Self, &str, &BytesStart<'a>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        loop {
            match self.next()? {
                Node::Open(element) => each(self, element.local_name().as_ref(), &element)?,
                Node::End => return Ok(()),
                Node::Close | Node::Text(_) => {}
            }
        }
    }
}

/// An attribute by its name without prefix.
pub(super) fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let mut attributes = element.attributes();
    // Without the check for doubles, which takes quadratic time.
    attributes.with_checks(false);
    let found = attributes.flatten().find(|attribute| attribute.key.local_name().as_ref() == name)?;
    let value = found.normalized_value(XmlVersion::Implicit1_0).ok()?;
    Some(value.into_owned())
}

/// Whether an element like `<w:vanish/>` or `<w:vanish w:val="0"/>` says yes.
#[cfg(feature = "word")]
pub(super) fn is_on(element: &BytesStart<'_>) -> bool {
    !matches!(attribute(element, "val").as_deref(), Some("0" | "false" | "off"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved_and_definitions_refused() {
        let mut xml = Xml::new("<a b:c='1&amp;2'>x &lt; &#x41;<![CDATA[&]]></a>");
        let Ok(Node::Open(element)) = xml.next() else { panic!("no element") };
        assert_eq!(attribute(&element, "c").as_deref(), Some("1&2"));
        assert_eq!(xml.text().unwrap(), "x < A&");
        let mut xml = Xml::new("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>");
        assert!(matches!(xml.next(), Err(Fault::Malformed(_))));
        let mut xml = Xml::new("<a>&b;</a>");
        assert!(xml.next().is_ok() && matches!(xml.text(), Err(Fault::Malformed(_))));
    }

    #[test]
    fn depth_is_bounded_and_early_ends_are_noticed() {
        let deep = "<a>".repeat(MAX_DEPTH + 1);
        let mut xml = Xml::new(&deep);
        assert!(matches!((0..=MAX_DEPTH).find_map(|_| xml.next().err()), Some(Fault::TooLarge { .. })));
        let mut xml = Xml::new("<a><b>");
        assert!(xml.next().is_ok() && matches!(xml.skip(), Err(Fault::Malformed(_))));
    }
}
