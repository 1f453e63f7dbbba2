//! Sentences, and the pieces of a sentence that is too long to stay whole.

use std::borrow::Cow;
use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use crate::document::{Document, LineEnds};

/// Byte ranges of a document's sentences, in order, without white space around them.
///
/// Boundaries are those of UAX #29 with some additions. A line end inside a paragraph is white space rather than an end
/// (text is often wrapped), while headings, list items and lines of code stand alone, and so does each row of a table,
/// however many full stops it has. A full stop ends nothing after an initial, after an abbreviation that is common in one
/// of eight European languages and stands before words ("Dr.", "e.g.", "z.B.", "p. ex."), or after the number of a day before the
/// name of a month. And what was said in quotes, or ends in an exclamation mark, goes on where a small letter follows.
pub fn sentences(document: &Document) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut tables = document.tables.iter().peekable();
    for block in blocks(document) {
        let source = &document.text[block.clone()];
        while tables.next_if(|table| table.range.end <= block.start).is_some() {}
        if tables.peek().is_some_and(|table| table.range.start < block.end && block.start < table.range.end) {
            let row = trim(&document.text, block);
            if !row.is_empty() {
                found.push(row);
            }
            continue;
        }
        for (offset, piece) in flatten(source).split_sentence_bound_indices() {
            let start = block.start + offset;
            let range = trim(&document.text, start..start + piece.len());
            if range.is_empty() {
                continue;
            }
            match found.last_mut() {
                Some(last)
                    if last.start >= block.start
                        && goes_on(&document.text[last.clone()], &document.text[range.clone()]) =>
                {
                    last.end = range.end;
                }
                _ => found.push(range),
            }
        }
    }
    found
}

/// Line ends as spaces, byte for byte, so that offsets stay.
fn flatten(text: &str) -> Cow<'_, str> {
    if text.contains(['\n', '\r']) { Cow::Owned(text.replace(['\n', '\r'], " ")) } else { Cow::Borrowed(text) }
}

/// White space, or a byte-order mark.
pub(super) fn blank(character: char) -> bool {
    character.is_whitespace() || character == '\u{feff}'
}

/// Narrows a range to what is not white space.
pub(super) fn trim(text: &str, range: Range<usize>) -> Range<usize> {
    let slice = &text[range.clone()];
    let kept = slice.trim_start_matches(blank);
    let start = range.start + (slice.len() - kept.len());
    start..start + kept.trim_end_matches(blank).len()
}

/// Whether what looks like the end of a sentence is none, by what comes next.
fn goes_on(sentence: &str, next: &str) -> bool {
    ends_in_abbreviation(sentence) || is_day_of_month(sentence, next) || is_quote_within(sentence, next)
}

/// Abbreviations whose full stop is no end, in lower case without it. Those that mostly end what they stand in ("etc.",
/// "usw.", "т.д.") are not here.
#[rustfmt::skip]
const ABBREVIATIONS: &[&str] = &[
    // English
    "approx", "art", "capt", "cf", "co", "col", "corp", "dept", "dr", "e.g", "ed", "eq", "est", "fig", "figs", "gen", "gov", "hon",
    "i.e", "inc", "jr", "lt", "ltd", "mr", "mrs", "ms", "mt", "no", "nos", "p", "pp", "prof", "rep", "rev", "sec", "sen", "sgt", "sr",
    "st", "u.s", "v", "viz", "vol", "vs",
    // German
    "abb", "abs", "allg", "anm", "bd", "bzgl", "bzw", "ca", "d.h", "dipl", "evtl", "fr", "ggf", "hr", "hrsg", "i.d.r", "ing", "inkl",
    "kap", "lfd", "nr", "o.ä", "sog", "str", "tel", "u.a", "vgl", "z.b", "z.t", "zzgl",
    // French
    "av", "bd", "boul", "env", "mlle", "mme", "mm", "p.ex", "réf", "tél", "vs",
    // Spanish and Portuguese
    "av", "avda", "dra", "ej", "excmo", "núm", "núms", "pág", "págs", "p.ej", "p.ex", "profa", "ref", "sra", "srta", "tel",
    "ud", "uds", "vd",
    // Italian
    "avv", "dott", "ing", "pag", "pagg", "sig", "sigg", "sig.ra",
    // Dutch
    "bijv", "blz", "d.w.z", "dhr", "drs", "mevr", "mr", "o.a", "t.a.v", "zgn",
    // Russian
    "г", "гр", "долл", "др", "кн", "обл", "проф", "рис", "руб", "см", "ср", "стр", "т.е", "табл", "тел", "тыс", "ул",
];

fn ends_in_abbreviation(sentence: &str) -> bool {
    let Some(stem) = sentence.strip_suffix('.') else { return false };
    let word = last_word(stem);
    // "no." also ends sentences; joining two of them does less harm than cutting "No. 5" in half.
    let mut letters = word.chars();
    let initial = letters.next().is_some_and(char::is_uppercase) && letters.next().is_none() && word != "I";
    initial || (word.len() <= 12 && ABBREVIATIONS.contains(&word.to_lowercase().as_str()))
}

/// The last word, without what opens before it.
fn last_word(text: &str) -> &str {
    let start = text
        .rfind(|c: char| c.is_whitespace() || matches!(c, '(' | '[' | '"' | '“' | '„' | '«' | '‘' | '\''))
        .map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
    &text[start..]
}

/// "am 3. Oktober": in German, and in the north and east of Europe, a full stop makes a number the day of a month.
fn is_day_of_month(sentence: &str, next: &str) -> bool {
    #[rustfmt::skip]
    const MONTHS: &[&str] = &[
        "Januar", "Jänner", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober", "November", "Dezember",
        "Januara", "Januari", "Leden", "Maj", "Mars",
    ];
    let Some(number) = sentence.strip_suffix('.').map(last_word) else { return false };
    (1..=2).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && MONTHS.contains(&next.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default())
}

/// `"Stop!" he said`, `Yahoo! is`, `「行く。」と言った`: the end was of what is quoted.
fn is_quote_within(sentence: &str, next: &str) -> bool {
    let Some(first) = next.chars().next() else { return false };
    let stem = sentence.trim_end_matches(['"', '\'', '”', '’', '»', '“', '」', '』', ')']);
    let quoted = stem.len() < sentence.len();
    match stem.chars().next_back() {
        Some('!' | '?' | '…') => first.is_lowercase() || (quoted && matches!(first, ',' | '–' | '—')),
        Some('。' | '！' | '？') => quoted && matches!(first, 'と' | '、' | 'っ' | '，'),
        _ => false,
    }
}

/// Runs of lines whose line ends are mere wrapping.
fn blocks(document: &Document) -> Vec<Range<usize>> {
    let text = &document.text;
    let mut blocks = Vec::new();
    let mut start = 0;
    let mut open = false;
    let mut previous = Line::Blank;
    let mut in_fence = false;
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let at = offset;
        offset += line.len();
        let mut kind = classify(line);
        if kind == Line::Fence {
            in_fence = !in_fence;
        } else if in_fence && kind != Line::Blank {
            kind = Line::Alone;
        }
        if document.line_ends == LineEnds::Hard && kind != Line::Blank {
            kind = Line::Alone;
        }
        let starts = match kind {
            Line::Blank | Line::Alone | Line::Item | Line::Fence => true,
            Line::Quote => previous != Line::Quote,
            // Under a heading or a row, words start anew; after an item or in a paragraph they go on.
            Line::Words => matches!(previous, Line::Blank | Line::Alone | Line::Fence),
            // The underline of a Setext heading belongs to the heading and ends it.
            Line::Underline => false,
        };
        if starts && open {
            blocks.push(start..at);
            open = false;
        }
        if kind != Line::Blank && !open {
            start = at;
            open = true;
        }
        previous = if kind == Line::Underline { Line::Alone } else { kind };
    }
    if open {
        blocks.push(start..text.len());
    }
    blocks
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Blank,
    Words,
    Item,
    Quote,
    Alone,
    Fence,
    Underline,
}

fn classify(line: &str) -> Line {
    let line = line.trim_matches(blank);
    let mut characters = line.chars();
    let Some(first) = characters.next() else { return Line::Blank };
    let second = characters.next();
    match first {
        '`' | '~' if line.starts_with("```") || line.starts_with("~~~") => Line::Fence,
        '=' | '-' if line.len() >= 3 && line.chars().all(|character| character == first) => Line::Underline,
        '#' => {
            let rest = line.trim_start_matches('#');
            if rest.is_empty() || rest.starts_with([' ', '\t']) { Line::Alone } else { Line::Words }
        }
        '|' => Line::Alone,
        '>' => Line::Quote,
        '-' | '*' | '+' | '•' if second.is_some_and(char::is_whitespace) => Line::Item,
        '0'..='9' => {
            let rest = line.trim_start_matches(|character: char| character.is_ascii_digit());
            let item = line.len() - rest.len() <= 9 && (rest.starts_with(". ") || rest.starts_with(") "));
            if item { Line::Item } else { Line::Words }
        }
        _ => Line::Words,
    }
}

/// Longest word, in bytes, that is handed to a tokenizer whole. What is longer is no word of any language, and some
/// tokenizers take quadratic time for it or call it one unknown token.
const MAX_WORD_BYTES: usize = 256;

/// Cuts a range into words; a word ends at white space, or, where it is longer than [`MAX_WORD_BYTES`] (and in scripts
/// without spaces), at a word boundary of UAX #29 or at last between characters.
pub(super) fn words(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = range.start;
    for piece in text[range].split_inclusive(char::is_whitespace) {
        let word = trim(text, at..at + piece.len());
        at += piece.len();
        if word.len() <= MAX_WORD_BYTES {
            if !word.is_empty() {
                found.push(word);
            }
            continue;
        }
        let mut run: Option<Range<usize>> = None;
        for (offset, part) in text[word.clone()].split_word_bound_indices() {
            let part = word.start + offset..word.start + offset + part.len();
            match &mut run {
                // Punctuation stays with the word before it.
                Some(run) if run.len() + part.len() <= MAX_WORD_BYTES && !starts_word(&text[part.clone()]) => {
                    run.end = part.end;
                }
                _ => {
                    found.extend(run.take().into_iter().flat_map(|run| characters(text, run, MAX_WORD_BYTES)));
                    run = Some(part);
                }
            }
        }
        found.extend(run.into_iter().flat_map(|run| characters(text, run, MAX_WORD_BYTES)));
    }
    found
}

fn starts_word(part: &str) -> bool {
    part.chars().next().is_some_and(char::is_alphanumeric)
}

/// Cuts a range into pieces of at most `limit` bytes (but at least a character), between characters.
pub(super) fn characters(text: &str, range: Range<usize>, limit: usize) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = range.start;
    while start < range.end {
        let mut end = text.floor_char_boundary(start.saturating_add(limit).min(range.end));
        if end <= start {
            end = start + text[start..].chars().next().map_or(1, char::len_utf8);
        }
        found.push(start..end);
        start = end;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<String> {
        let document = Document::from_text(text);
        sentences(&document).into_iter().map(|range| text[range].to_owned()).collect()
    }

    #[test]
    fn wrapped_lines_do_not_end_sentences() {
        assert_eq!(
            split("\u{feff}A sentence that\r\nis wrapped. Another\none!\n\nNew paragraph\n"),
            ["A sentence that\r\nis wrapped.", "Another\none!", "New paragraph"]
        );
    }

    #[test]
    fn structure_stands_alone() {
        assert_eq!(
            split(
                "# Title\nText under\nit.\n- one\n  goes on\n- two\n1. first\n| a | b |\n| c | d |\nafter\n===\nx\n> q1\n> q2\n"
            ),
            [
                "# Title",
                "Text under\nit.",
                "- one\n  goes on",
                "- two",
                "1. first",
                "| a | b |",
                "| c | d |",
                "after\n===",
                "x",
                "> q1\n> q2"
            ]
        );
        assert_eq!(split("```\nlet a = 1;\nlet b;\n```\nText"), ["```", "let a = 1;", "let b;", "```", "Text"]);
    }

    #[test]
    fn hard_line_ends_separate() {
        let document = Document { line_ends: LineEnds::Hard, ..Document::from_text("a b\nc d. E") };
        assert_eq!(sentences(&document).len(), 3);
    }

    #[test]
    fn abbreviations_and_initials_do_not_end() {
        assert_eq!(split("Dr. Smith met J. Doe. They spoke."), ["Dr. Smith met J. Doe.", "They spoke."]);
        assert_eq!(split("See e.g. Fig. 5 here. So do I. Good."), ["See e.g. Fig. 5 here.", "So do I.", "Good."]);
    }

    #[test]
    fn abbreviations_of_other_languages_do_not_end() {
        for text in [
            "Siehe z.B. Abb. Fünf und Nr. Sechs.",
            "Das Fest ist am 3. Oktober in Bonn.",
            "Voir p.ex. Mme. Dupont, av. Foch.",
            "La Sra. García vive en la avda. Sol.",
            "Il dott. Rossi e la sig. Verdi.",
            "Zie bijv. Dhr. Jansen.",
            "Живёт на ул. Ленина с проф. Ивановым.",
            "\"Stop!\" he said, and Yahoo! is a name.",
            "「行く。」と彼は言った。",
        ] {
            assert_eq!(split(text), [text]);
        }
        assert_eq!(split("Es kostet 3. Oktavia geht.").len(), 2);
        assert_eq!(split("\"Stop!\" He went.").len(), 2);
        assert_eq!(split("Äpfel usw. Danach Birnen.").len(), 2);
        assert_eq!(split("「行く。」彼は言った。").len(), 2);
    }

    #[test]
    fn rows_of_tables_stand_alone_and_stay_whole() {
        let text = "Name. Age\nAda. Lovelace. Dr. X\t36\nafter. More.";
        let end = text.find("\nafter").unwrap();
        let tables = vec![crate::document::Table { range: 0..end, head: 0..9 }];
        let document = Document { line_ends: LineEnds::Hard, tables, ..Document::from_text(text) };
        let found: Vec<_> = sentences(&document).into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, ["Name. Age", "Ada. Lovelace. Dr. X\t36", "after.", "More."]);
    }

    #[test]
    fn many_languages() {
        assert_eq!(split("これは文です。次の文です。"), ["これは文です。", "次の文です。"]);
        assert_eq!(split("هذه جملة؟ وهذه أخرى."), ["هذه جملة؟", "وهذه أخرى."]);
        assert_eq!(split("यह वाक्य है। दूसरा वाक्य।"), ["यह वाक्य है।", "दूसरा वाक्य।"]);
    }

    #[test]
    fn long_words_are_cut_and_nothing_is_lost() {
        let text = format!("short {} {} end", "x".repeat(1000), "漢字、".repeat(300));
        let pieces = words(&text, 0..text.len());
        assert!(pieces.iter().all(|piece| piece.len() <= MAX_WORD_BYTES));
        let kept: String = pieces.iter().map(|piece| &text[piece.clone()]).collect();
        assert_eq!(kept, text.replace(' ', ""));
    }
}
