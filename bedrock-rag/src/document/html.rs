//! HTML to readable text, in one pass over the tokens of the WHATWG tokenizer (html5gum).
//!
//! No tree is built: what a reader sees of a page depends on which tags are blocks, rows or hidden, not on the exact
//! tree, and a stream of tokens costs the same whether ten or a million elements are nested or left open. Attributes
//! are looked at one by one as they come by and never collected, so neither their number nor their length matters.

use html5gum::emitters::callback::{CallbackEmitter, CallbackEvent};
use html5gum::{Span, Tokenizer};
use serde_json::Value;

use super::{Document, Heading, LineEnds, Table};

/// Longest attribute value, title or heading kept, in bytes.
const MAX_VALUE_BYTES: usize = 2048;

pub(super) fn parse(source: &str) -> Document {
    let mut page = Page::default();
    let mut emitter = CallbackEmitter::new(|event: CallbackEvent<'_>, _: Span<()>| -> Option<()> {
        page.event(event);
        None
    });
    // Script, style and title content is not markup; the tokenizer has to be told.
    emitter.naively_switch_states(true);
    for token in Tokenizer::new_with_emitter(source, emitter) {
        match token {
            Ok(()) => {}
            Err(never) => match never {},
        }
    }
    page.finish()
}

/// What separates the text that comes next from the text before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Gap {
    #[default]
    None,
    Space,
    Tab,
    Line,
    Paragraph,
}

#[derive(Clone, Copy, Debug)]
enum List {
    Bullets,
    Numbers(u32),
}

#[derive(Debug, Default)]
struct Page {
    text: String,
    gap: Gap,
    /// Marker of a list item whose first word has not come yet.
    marker: Option<String>,
    lists: Vec<List>,
    /// Lists opened beyond the depth that is tracked.
    deeper_lists: usize,
    /// Name of the element whose content is dropped, and how often it is open.
    hidden: Option<(Vec<u8>, usize)>,
    preformatted: usize,
    in_title: bool,
    title: String,
    heading: Option<Heading>,
    headings: Vec<Heading>,
    metadata: super::Metadata,
    /// The start tag whose attributes are coming by, and whether one of them hides its element.
    tag: Vec<u8>,
    tag_hides: bool,
    attribute: Vec<u8>,
    meta_name: String,
    meta_content: String,
    /// Cells seen in the current row, to put tabs between cells.
    cells: usize,
    /// Tables that are open, one in another.
    table_depth: usize,
    /// The outermost of them, once it has words.
    table: Option<OpenTable>,
    tables: Vec<Table>,
}

const MAX_LIST_DEPTH: usize = 32;

#[derive(Debug, Default)]
struct OpenTable {
    start: Option<usize>,
    /// End of the rows so far whose cells all name columns.
    head: Option<usize>,
    /// The current row: whether it has cells, and whether all of them name columns.
    row: Option<bool>,
    /// A row of other cells was seen.
    has_body: bool,
}

/// Elements that a reader does not see, or sees something else in place of.
fn is_hidden(name: &[u8]) -> bool {
    matches!(name, b"script" | b"style" | b"template" | b"iframe" | b"noembed" | b"noframes" | b"object" | b"applet")
}

/// Elements that are hidden when an attribute says so: those that end where they say, and paragraphs. Of the others (list items,
/// cells, the page itself) the end is often left out, and hiding to the end of the page would lose too much.
fn needs_end(name: &[u8]) -> bool {
    matches!(
        name,
        b"p" | b"div"
            | b"span"
            | b"section"
            | b"article"
            | b"aside"
            | b"nav"
            | b"header"
            | b"footer"
            | b"main"
            | b"figure"
            | b"form"
            | b"details"
            | b"dialog"
            | b"table"
            | b"ul"
            | b"ol"
            | b"dl"
            | b"pre"
            | b"blockquote"
            | b"a"
            | b"b"
            | b"i"
            | b"em"
            | b"strong"
            | b"small"
            | b"label"
            | b"button"
            | b"h1"
            | b"h2"
            | b"h3"
            | b"h4"
            | b"h5"
            | b"h6"
    )
}

fn gap_around(name: &[u8]) -> Option<Gap> {
    Some(match name {
        b"p" | b"h1" | b"h2" | b"h3" | b"h4" | b"h5" | b"h6" | b"ul" | b"ol" | b"dl" | b"table" | b"pre"
        | b"blockquote" | b"section" | b"article" | b"header" | b"footer" | b"main" | b"aside" | b"nav" | b"figure"
        | b"hr" | b"form" | b"fieldset" | b"details" | b"body" | b"head" | b"listing" | b"xmp" => Gap::Paragraph,
        b"div" | b"address" | b"li" | b"dt" | b"dd" | b"tr" | b"caption" | b"thead" | b"tbody" | b"tfoot"
        | b"figcaption" | b"summary" | b"legend" | b"option" | b"optgroup" | b"select" | b"center" | b"dialog"
        | b"search" | b"hgroup" | b"menu" | b"dir" => Gap::Line,
        _ => return None,
    })
}

impl Page {
    fn event(&mut self, event: CallbackEvent<'_>) {
        match event {
            CallbackEvent::OpenStartTag { name } => self.open(name),
            CallbackEvent::AttributeName { name } => {
                self.attribute.clear();
                self.attribute.extend_from_slice(&name[..name.len().min(64)]);
                self.tag_hides |= name == b"hidden";
            }
            CallbackEvent::AttributeValue { value } => self.attribute_value(value),
            CallbackEvent::CloseStartTag { .. } => self.start_tag_done(),
            CallbackEvent::EndTag { name } => self.close(name),
            CallbackEvent::String { value } => self.words(&String::from_utf8_lossy(value)),
            CallbackEvent::Comment { .. } | CallbackEvent::Doctype { .. } | CallbackEvent::Error(_) => {}
        }
    }

    fn open(&mut self, name: &[u8]) {
        self.tag.clear();
        self.tag.extend_from_slice(&name[..name.len().min(64)]);
        self.tag_hides = false;
        // A paragraph ends where a block begins, and what it hides ends with it.
        if self.hidden.as_ref().is_some_and(|(hidden, _)| hidden == b"p") && gap_around(name).is_some() {
            self.hidden = None;
        }
        if let Some((hidden, depth)) = &mut self.hidden {
            if hidden == name {
                *depth += 1;
            }
            return;
        }
        if is_hidden(name) {
            self.hidden = Some((name.to_vec(), 1));
            return;
        }
        if let Some(gap) = gap_around(name) {
            self.separate(gap);
        }
        match name {
            b"title" => self.in_title = self.title.is_empty(),
            b"br" => self.separate(Gap::Line),
            b"pre" | b"listing" | b"xmp" | b"textarea" => self.preformatted += 1,
            b"ul" | b"menu" | b"dir" => self.open_list(List::Bullets),
            b"ol" => self.open_list(List::Numbers(1)),
            b"li" => {
                self.marker = Some(match self.lists.last_mut() {
                    Some(List::Numbers(next)) => {
                        let marker = format!("{next}. ");
                        *next = next.saturating_add(1);
                        marker
                    }
                    _ => "- ".to_owned(),
                });
            }
            b"table" => {
                self.table_depth += 1;
                if self.table_depth == 1 {
                    self.table = Some(OpenTable::default());
                }
            }
            b"tr" => {
                self.end_row();
                self.cells = 0;
            }
            b"td" | b"th" => {
                if self.table_depth == 1
                    && let Some(table) = &mut self.table
                {
                    table.row = Some(table.row.unwrap_or(true) && name == b"th");
                }
                if self.cells > 0 {
                    self.separate(Gap::Tab);
                }
                self.cells += 1;
            }
            b"meta" => {
                self.meta_name.clear();
                self.meta_content.clear();
            }
            [b'h', digit @ b'1'..=b'6'] => {
                self.heading = Some(Heading { level: digit - b'0', start: 0, text: String::new() });
            }
            _ => {}
        }
    }

    /// Ends a row of the outermost table: rows at its start whose cells all name columns are its head.
    fn end_row(&mut self) {
        if self.table_depth != 1 {
            return;
        }
        if let Some(table) = &mut self.table {
            match table.row.take() {
                Some(true) if !table.has_body => table.head = Some(self.text.len()),
                Some(_) => table.has_body = true,
                None => {}
            }
        }
    }

    fn end_table(&mut self) {
        self.end_row();
        if let Some(OpenTable { start: Some(start), head, has_body, .. }) = self.table.take() {
            let head = head.filter(|&head| has_body && head > start).unwrap_or(start);
            self.tables.push(Table { range: start..self.text.len(), head: start..head });
        }
    }

    fn open_list(&mut self, list: List) {
        // A list inside an item starts its own lines; its first marker is its own.
        self.marker = None;
        if self.lists.len() < MAX_LIST_DEPTH {
            self.lists.push(list);
        } else {
            self.deeper_lists += 1;
        }
    }

    fn attribute_value(&mut self, value: &[u8]) {
        if self.hidden.is_some() {
            return;
        }
        let value = || {
            let value = String::from_utf8_lossy(&value[..value.len().min(MAX_VALUE_BYTES)]);
            value.trim().to_owned()
        };
        match (self.tag.as_slice(), self.attribute.as_slice()) {
            (_, b"style") => {
                let style: String = value().to_ascii_lowercase().split_ascii_whitespace().collect();
                self.tag_hides |= style.contains("display:none") || style.contains("visibility:hidden");
            }
            (b"meta", b"name" | b"property") => self.meta_name = value().to_ascii_lowercase(),
            (b"meta", b"content") => self.meta_content = value(),
            (b"html", b"lang") => self.remember("language", &value()),
            (b"ol", b"start") => {
                if let (Some(List::Numbers(next)), Ok(start)) = (self.lists.last_mut(), value().parse()) {
                    *next = start;
                }
            }
            _ => {}
        }
    }

    fn start_tag_done(&mut self) {
        if std::mem::take(&mut self.tag_hides) && self.hidden.is_none() && needs_end(&self.tag) {
            // As if it had been opened and closed again: what it holds is passed over to its end.
            let tag = std::mem::take(&mut self.tag);
            self.close(&tag);
            self.hidden = Some((tag, 1));
            return;
        }
        if self.hidden.is_none() && self.tag == b"meta" {
            let key = match self.meta_name.as_str() {
                "author" | "article:author" => "author",
                "description" | "og:description" => "description",
                "keywords" => "keywords",
                "date" | "article:published_time" | "dcterms.date" | "dc.date" => "date",
                _ => return,
            };
            let content = std::mem::take(&mut self.meta_content);
            self.remember(key, &content);
        }
    }

    fn remember(&mut self, key: &str, value: &str) {
        if !value.is_empty() && !self.metadata.contains_key(key) {
            self.metadata.insert(key.to_owned(), Value::from(value));
        }
    }

    fn close(&mut self, name: &[u8]) {
        if let Some((hidden, depth)) = &mut self.hidden {
            if hidden == name {
                *depth -= 1;
                if *depth == 0 {
                    self.hidden = None;
                }
            }
            return;
        }
        match name {
            b"title" => self.in_title = false,
            b"pre" | b"listing" | b"xmp" | b"textarea" => self.preformatted = self.preformatted.saturating_sub(1),
            b"ul" | b"menu" | b"dir" | b"ol" => {
                self.marker = None;
                if self.deeper_lists > 0 {
                    self.deeper_lists -= 1;
                } else {
                    self.lists.pop();
                }
            }
            b"li" => self.marker = None,
            b"tr" => self.end_row(),
            b"table" => {
                if self.table_depth == 1 {
                    self.end_table();
                }
                self.table_depth = self.table_depth.saturating_sub(1);
            }
            [b'h', b'1'..=b'6'] => self.end_heading(),
            _ => {}
        }
        if let Some(gap) = gap_around(name) {
            self.separate(gap);
        }
    }

    fn end_heading(&mut self) {
        if let Some(mut heading) = self.heading.take() {
            heading.text = heading.text.trim().to_owned();
            if !heading.text.is_empty() {
                self.headings.push(heading);
            }
        }
    }

    fn separate(&mut self, gap: Gap) {
        self.gap = self.gap.max(gap);
    }

    fn words(&mut self, text: &str) {
        if self.hidden.is_some() {
            return;
        }
        if self.in_title {
            let room = MAX_VALUE_BYTES.saturating_sub(self.title.len());
            self.title.push_str(&text[..text.floor_char_boundary(room)]);
            return;
        }
        if self.preformatted > 0 {
            self.preformatted_words(text);
            return;
        }
        // HTML white space is ASCII; a no-break space is a character like any other.
        let space = |character: char| matches!(character, ' ' | '\t' | '\n' | '\r' | '\x0C');
        let mut rest = text;
        loop {
            let trimmed = rest.trim_start_matches(space);
            if trimmed.len() < rest.len() {
                self.separate(Gap::Space);
            }
            if trimmed.is_empty() {
                return;
            }
            let end = trimmed.find(space).unwrap_or(trimmed.len());
            self.word(&trimmed[..end]);
            rest = &trimmed[end..];
        }
    }

    fn preformatted_words(&mut self, text: &str) {
        for (index, line) in text.split('\n').enumerate() {
            let line = line.strip_suffix('\r').unwrap_or(line);
            if index > 0 {
                self.separate(Gap::None);
                self.text.push('\n');
            }
            if !line.is_empty() {
                self.word(line);
            }
        }
    }

    /// Appends text after whatever separation is due.
    fn word(&mut self, word: &str) {
        let gap = std::mem::take(&mut self.gap);
        if !self.text.is_empty() {
            self.text.push_str(match gap {
                Gap::None => "",
                Gap::Space => " ",
                Gap::Tab => "\t",
                Gap::Line => "\n",
                Gap::Paragraph => "\n\n",
            });
        }
        if let Some(marker) = self.marker.take() {
            let indent = self.lists.len().saturating_sub(1);
            for _ in 0..indent {
                self.text.push_str("  ");
            }
            self.text.push_str(&marker);
        }
        if let Some(table) = &mut self.table {
            // A caption before the first row belongs to what is around the table.
            if table.row.is_some() || table.start.is_some() {
                table.start.get_or_insert(self.text.len());
            }
        }
        if let Some(heading) = &mut self.heading {
            if heading.text.is_empty() {
                heading.start = self.text.len();
            } else if gap != Gap::None {
                heading.text.push(' ');
            }
            let room = MAX_VALUE_BYTES.saturating_sub(heading.text.len());
            heading.text.push_str(&word[..word.floor_char_boundary(room)]);
        }
        self.text.push_str(word);
    }

    fn finish(mut self) -> Document {
        self.end_heading();
        self.end_table();
        let title = self.title.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let mut text = self.text;
        let mut headings = self.headings;
        let mut tables = self.tables;
        // A page's title is often said nowhere else; put it first unless the page opens with it.
        if !title.is_empty() && !text.starts_with(&title) {
            let separator = if text.is_empty() { "" } else { "\n\n" };
            let shift = title.len() + separator.len();
            text.insert_str(0, separator);
            text.insert_str(0, &title);
            for heading in &mut headings {
                heading.start += shift;
            }
            for place in tables.iter_mut().flat_map(|table| [&mut table.range, &mut table.head]) {
                *place = place.start + shift..place.end + shift;
            }
        }
        let title = Some(title).filter(|title| !title.is_empty());
        let title = title.or_else(|| headings.iter().find(|heading| heading.level == 1).map(|h| h.text.clone()));
        Document {
            text,
            title,
            headings,
            tables,
            line_ends: LineEnds::Hard,
            metadata: self.metadata,
            ..Document::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_lists_tables_and_entities() {
        let page = r#"<!DOCTYPE html><html lang="en"><head><title>Leave &amp; pay</title>
            <meta name="author" content="HR"><style>p { color: red }</style></head>
            <body><h1>Leave</h1><p>You get <b>25</b>
            days.</p><script>var x = "<p>no</p>";</script>
            <ul><li>one<li>two<ol start=3><li>deep</ol></ul>
            <table><tr><th>Grade<th>Days<tr><td>A<td>25&nbsp;d</table>
            a<br>b<pre>x  y
  z</pre>&lt;end&gt;"#;
        let document = parse(page);
        assert_eq!(
            document.text,
            "Leave & pay\n\nLeave\n\nYou get 25 days.\n\n- one\n- two\n\n  3. deep\n\nGrade\tDays\nA\t25\u{a0}d\n\na\nb\n\nx  y\n  z\n\n<end>"
        );
        assert_eq!(document.title.as_deref(), Some("Leave & pay"));
        assert_eq!(document.metadata["author"], "HR");
        assert_eq!(document.metadata["language"], "en");
        assert_eq!(document.headings.len(), 1);
        assert!(document.text[document.headings[0].start..].starts_with("Leave\n\nYou"));
    }

    #[test]
    fn tables_have_their_heads() {
        let document = parse(
            "<title>T</title>a<table><caption>Days</caption><thead><tr><th>Grade<th>Days</thead><tr><th>A<td>25<tr><td>B<td>30</table>b
             <table><tr><td>x<table><tr><th>in</table></table>",
        );
        let heads: Vec<_> = document.tables.iter().map(|table| &document.text[table.head.clone()]).collect();
        let tables: Vec<_> = document.tables.iter().map(|table| &document.text[table.range.clone()]).collect();
        assert_eq!(heads, ["Grade\tDays", ""]);
        assert_eq!(tables[0], "Grade\tDays\nA\t25\nB\t30");
    }

    #[test]
    fn unclosed_tags_and_hidden_content() {
        let page = "<html><head><title>Broken page</title><body><p>First para<p>Second <b>bold<table><tr><td>cell one<td>cell two<script>var hidden=\"no\";</script><!-- comment ";
        let document = parse(page);
        assert_eq!(document.text, "Broken page\n\nFirst para\n\nSecond bold\n\ncell one\tcell two");
        assert_eq!(parse("<p>seen<script>never closed <p>x").text, "seen");
        assert_eq!(parse("<template><p>no<template>no</template>no</template>yes").text, "yes");
    }

    #[test]
    fn what_an_attribute_hides_is_passed_over() {
        let page = "<p>a<p hidden>no<p>b<div style=\"color: red; display : NONE\">no<div>no</div>no</div>c
            <ul hidden><li>no</ul><span hidden=''>no</span><table style='visibility:hidden'><tr><td>no</table>d<input hidden>e<p hidden>no";
        assert_eq!(parse(page).text, "a\n\nb\nc\n\nde");
    }

    #[test]
    fn hostile_nesting_and_attributes_cost_linear_time() {
        let deep = format!("{}bottom text", "<div><ul><li><table><tr><td><b>".repeat(100_000));
        assert!(parse(&deep).text.ends_with("bottom text"));
        let attributes: String = (0..200_000).map(|n| format!(" a{n}=v")).collect();
        assert_eq!(parse(&format!("<p{attributes}>text")).text, "text");
    }

    #[test]
    fn title_is_not_said_twice() {
        assert_eq!(parse("<title>Rules</title><h1>Rules</h1>text").text, "Rules\n\ntext");
        assert_eq!(parse("<title>Only</title>").text, "Only");
    }
}
