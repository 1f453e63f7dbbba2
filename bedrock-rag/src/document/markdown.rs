//! Markdown: the source stays as it is, readable by people and models alike; pulldown-cmark tells where the headings are.

use pulldown_cmark::{Event, HeadingLevel, MetadataBlockKind, Options, Parser, Tag, TagEnd};
use serde_json::Value;

use super::{Document, Heading, LineEnds, Table};

/// Longest heading kept, in bytes; what comes after is cut off the heading path (not off the text).
const MAX_HEADING_BYTES: usize = 512;

pub(super) fn parse(text: String) -> Document {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_HEADING_ATTRIBUTES
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS;
    let mut document = Document { line_ends: LineEnds::Soft, ..Document::default() };
    let mark = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut open: Option<Heading> = None;
    let mut front_matter = false;
    let mut table: Option<Table> = None;
    for (event, range) in Parser::new_ext(&text[mark..], options).into_offset_iter() {
        match event {
            Event::Start(Tag::Heading { level, .. }) => {
                open = Some(Heading { level: level_number(level), start: mark + range.start, text: String::new() });
            }
            Event::End(TagEnd::Heading(_)) => {
                if let Some(mut heading) = open.take() {
                    heading.text = heading.text.trim().to_owned();
                    if !heading.text.is_empty() {
                        document.headings.push(heading);
                    }
                }
            }
            Event::Start(Tag::Table(_)) => {
                let start = mark + range.start;
                let end = mark + range.start + text[mark..][range].trim_end().len();
                table = Some(Table { range: start..end, head: start..start });
            }
            Event::Start(Tag::TableHead) => {
                if let Some(table) = &mut table {
                    // The names, and the line of dashes under them.
                    let lines = text[table.range.clone()].split_inclusive('\n').take(2).map(str::len).sum::<usize>();
                    let head = &text[table.range.start..table.range.start + lines];
                    table.head.end = table.range.start + head.trim_end().len();
                }
            }
            Event::End(TagEnd::Table) => {
                if let Some(table) = table.take()
                    && document.tables.last().is_none_or(|last| last.range.end <= table.range.start)
                {
                    document.tables.push(table);
                }
            }
            Event::Start(Tag::MetadataBlock(MetadataBlockKind::YamlStyle)) => front_matter = true,
            Event::End(TagEnd::MetadataBlock(_)) => front_matter = false,
            Event::Text(words) if front_matter => read_front_matter(&words, &mut document),
            Event::Text(words) | Event::Code(words) => append(&mut open, &words),
            Event::SoftBreak | Event::HardBreak => append(&mut open, " "),
            _ => {}
        }
    }
    if document.title.is_none() {
        let first = document.headings.iter().find(|heading| heading.level == 1);
        document.title = first.map(|heading| heading.text.clone());
    }
    document.text = text;
    document
}

fn append(open: &mut Option<Heading>, words: &str) {
    if let Some(heading) = open {
        let room = MAX_HEADING_BYTES.saturating_sub(heading.text.len());
        heading.text.push_str(&words[..words.floor_char_boundary(room)]);
    }
}

fn level_number(level: HeadingLevel) -> u8 {
    level as u8
}

/// Takes the plain `key: value` lines of YAML front matter that say what the document is. Anything deeper (lists, nested
/// maps) is left in the text, where it can still be found.
fn read_front_matter(block: &str, document: &mut Document) {
    for line in block.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        let quoted = |mark: char| value.strip_prefix(mark).and_then(|value| value.strip_suffix(mark));
        let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
        if value.is_empty() || value.len() > 2048 {
            continue;
        }
        match key {
            "title" => document.title = Some(value.to_owned()),
            "author" | "date" | "description" | "lang" | "language" | "keywords" => {
                let key = if key == "lang" { "language" } else { key };
                document.metadata.insert(key.to_owned(), Value::from(value));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_is_kept_and_headings_are_found() {
        let source = "\u{feff}# Guide to `x`\n\nText with *marks*.\n\nSetext\nheading\n---\n\n```\n# not a heading\n```\n\n[ref]: a.html\n";
        let document = parse(source.to_owned());
        assert_eq!(document.text, source);
        assert_eq!(document.title.as_deref(), Some("Guide to x"));
        let headings: Vec<_> = document.headings.iter().map(|h| (h.level, h.text.as_str())).collect();
        assert_eq!(headings, [(1, "Guide to x"), (2, "Setext heading")]);
        assert!(source[document.headings[1].start..].starts_with("Setext"));
        assert_eq!(document.heading_path(source.find("not a").unwrap()), ["Guide to x", "Setext heading"]);
    }

    #[test]
    fn front_matter_gives_title_and_metadata() {
        let document = parse("---\ntitle: \"The Book\"\nauthor: A. Writer\ntags:\n  - x\n---\n\n# Other\n".to_owned());
        assert_eq!(document.title.as_deref(), Some("The Book"));
        assert_eq!(document.metadata["author"], "A. Writer");
        assert!(!document.metadata.contains_key("tags"));
    }

    #[test]
    fn tables_are_found_with_their_heads() {
        let source = "Text\n\n| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\nafter\n";
        let document = parse(source.to_owned());
        let table = &document.tables[0];
        assert_eq!(&source[table.head.clone()], "| a | b |\n|---|---|");
        assert_eq!(&source[table.range.clone()], "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |");
    }

    #[test]
    fn deep_nesting_and_long_headings_are_survived() {
        parse(">".repeat(50_000));
        parse("[".repeat(50_000));
        parse("*a_".repeat(30_000));
        let long = parse(format!("# {}", "é".repeat(5_000)));
        assert!(long.headings[0].text.len() <= MAX_HEADING_BYTES);
    }
}
