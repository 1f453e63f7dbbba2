//! PDF: text in the order of the pages' content.
//!
//! The parser and interpreter is hayro's: it rebuilds lost tables of references, reads object streams and all kinds of
//! encryption, bounds its recursion, and tells for every glyph where it is and what it says. What a page's pictures show
//! is not read.

mod content;
mod expansion;
mod layout;

use std::collections::BTreeMap;

use hayro_interpret::hayro_syntax::content::TypedIter;
use hayro_interpret::hayro_syntax::object::{Array, DateTime, Name, Object, Stream};
use hayro_interpret::hayro_syntax::page::Page as PdfPage;
use hayro_interpret::hayro_syntax::{DecryptionError, Filter, LoadPdfError, Pdf};
use hayro_interpret::kurbo::{Affine, Rect};
use hayro_interpret::{Context, InterpreterCache, InterpreterSettings, RenderContent, interpret, interpret_page};

use super::compose::{Composer, Fault};
use super::{Document, ExtractOptions};
use expansion::Packing;
use layout::{Line, Page, text_of};

/// Pages whose fonts are kept together. A cache of all pages' fonts would grow with the document.
const PAGES_A_CACHE: usize = 32;

/// Coordinates of any page.
const EVERYWHERE: Rect = Rect::new(-1e9, -1e9, 1e9, 1e9);

pub(super) fn parse(mut bytes: Vec<u8>, options: &ExtractOptions) -> Result<Document, Fault> {
    let mut composer = Composer::new(options);
    let (most, total) = (options.max_expanded_bytes / 4, options.max_expanded_bytes);
    let blanked = expansion::blank_what_grows(&mut bytes, most, total, composer.deadline())?;
    let is_encrypted = bytes.windows(8).any(|window| window == b"/Encrypt");
    let pdf = Pdf::new(bytes).map_err(|error| match error {
        LoadPdfError::Decryption(DecryptionError::PasswordProtected) => Fault::Encrypted,
        LoadPdfError::Decryption(error) => Fault::Malformed(format!("its encryption is not readable: {error:?}")),
        LoadPdfError::Invalid => Fault::malformed("it has no pages that can be found"),
    })?;
    if is_encrypted {
        measure_decrypted(&pdf, most, &composer)?;
    }
    let pages = pdf.pages();
    if pages.is_empty() {
        return Err(Fault::malformed("it has no pages"));
    }
    if pages.len() > options.max_pages {
        return Err(Fault::TooLarge { what: "pages", limit: options.max_pages as u64 });
    }
    properties(&pdf, &mut composer);
    composer.metadata().insert("pages".to_owned(), pages.len().into());
    if blanked > 0 {
        composer.metadata().insert("limited".to_owned(), true.into());
    }
    let mut lines: Vec<Vec<Line>> = Vec::new();
    let (mut glyphs, mut unknown, mut bytes) = (0, 0, 0_u64);
    for group in pages.chunks(PAGES_A_CACHE) {
        let cache = InterpreterCache::new();
        for page in group {
            composer.check_time()?;
            let mut drawn = Page::new(composer.deadline());
            draw(page, &pdf, &cache, most, &mut drawn)?;
            glyphs += drawn.glyph_count();
            unknown += drawn.unknown;
            let page_lines = drawn.finish();
            bytes += page_lines.iter().map(|line| line.text.len() as u64).sum::<u64>();
            if bytes > options.max_text_bytes {
                return Err(Fault::TooLarge { what: "bytes of text", limit: options.max_text_bytes });
            }
            lines.push(page_lines);
        }
    }
    // Fonts that don't say what their glyphs mean.
    if let Some(share) = (unknown * 100).checked_div(glyphs).filter(|&share| share > 5) {
        composer.metadata().insert("undecodablePercent".to_owned(), share.into());
    }
    write(&lines, &mut composer)?;
    if blanked > 0 && lines.iter().all(Vec::is_empty) {
        return Err(Fault::TooLarge { what: "bytes unpacked", limit: most });
    }
    Ok(composer.finish())
}

/// Draws a page and what is noted on it.
fn draw<'p>(
    page: &PdfPage<'p>,
    pdf: &'p Pdf,
    cache: &InterpreterCache<'p>,
    most: u64,
    drawn: &mut Page,
) -> Result<(), Fault> {
    // The page would keep its content as long as the document lives, and pages may share it.
    let mut content = Vec::new();
    let mut append = |stream: Stream<'_>| {
        if let Ok(data) = stream.decoded_data() {
            content.extend_from_slice(&data);
            content.push(b'\n');
        }
        if content.len() as u64 > most { Err(Fault::TooLarge { what: "bytes unpacked", limit: most }) } else { Ok(()) }
    };
    let dictionary = page.raw();
    if let Some(stream) = dictionary.get::<Stream<'_>>(b"Contents".as_slice()) {
        append(stream)?;
    } else if let Some(streams) = dictionary.get::<Array<'_>>(b"Contents".as_slice()) {
        for stream in streams.iter::<Stream<'_>>() {
            append(stream)?;
        }
    }
    if !content::is_reasonable(&content) {
        return Err(Fault::TooLarge { what: "bytes of text shown at once", limit: content::MAX_SHOWN as u64 });
    }
    let settings = InterpreterSettings { render_content: RenderContent::ANNOTATIONS, ..InterpreterSettings::default() };
    let mut context = Context::new(Affine::IDENTITY, EVERYWHERE, cache, pdf.xref(), settings);
    interpret(TypedIter::new(&content), page.resources(), &mut context, drawn);
    interpret_page(page, &mut context, drawn);
    Ok(())
}

/// Measures the streams of an encrypted document, of which nothing could be seen before.
fn measure_decrypted(pdf: &Pdf, most: u64, composer: &Composer) -> Result<(), Fault> {
    for object in pdf.objects() {
        composer.check_time()?;
        let Object::Stream(stream) = object else { continue };
        let packings: Vec<Packing> = stream
            .filters()
            .iter()
            .filter_map(|filter| match filter {
                Filter::FlateDecode => Some(Packing::Flate),
                Filter::LzwDecode => Some(Packing::Lzw),
                Filter::RunLengthDecode => Some(Packing::RunLength),
                Filter::Ascii85Decode => Some(Packing::Ascii85),
                Filter::AsciiHexDecode => Some(Packing::AsciiHex),
                _ => None,
            })
            .collect();
        let unpacked = expansion::unpacked(&stream.raw_data(), &packings, most, true, composer.deadline())?;
        let is_form = stream.dict().get::<Name<'_>>(b"Subtype".as_slice()).is_some_and(|name| name.as_ref() == b"Form");
        if unpacked.is_none_or(|(_, content)| is_form && !content::is_reasonable(&content)) {
            return Err(Fault::TooLarge { what: "bytes unpacked", limit: most });
        }
    }
    Ok(())
}

fn properties(pdf: &Pdf, composer: &mut Composer) {
    let metadata = pdf.metadata();
    if let Some(title) = &metadata.title {
        composer.title(&text_of(title));
    }
    for (key, value) in [("author", &metadata.author), ("subject", &metadata.subject), ("keywords", &metadata.keywords)]
    {
        if let Some(value) = value {
            composer.remember(key, &text_of(value));
        }
    }
    for (key, date) in [("created", metadata.creation_date), ("modified", metadata.modification_date)] {
        if let Some(date) = date {
            composer.remember(key, &moment(date));
        }
    }
}

fn moment(date: DateTime) -> String {
    let DateTime { year, month, day, hour, minute, second, .. } = date;
    let zone = match (date.utc_offset_hour, date.utc_offset_minute) {
        (0, 0) => "Z".to_owned(),
        (hours, minutes) => format!("{hours:+03}:{minutes:02}"),
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{zone}")
}

/// Longest line that may be a heading, in characters.
const MAX_HEADING: usize = 150;

/// A heading is this much larger than the text.
const LARGER: f64 = 1.15;

/// Writes lines as paragraphs; lines in larger letters than most are headings.
fn write(pages: &[Vec<Line>], composer: &mut Composer) -> Result<(), Fault> {
    composer.soft_line_ends();
    let levels = heading_levels(pages);
    let level = |line: &Line| {
        let size = half_points(line.size);
        let words = line.text.chars().count() <= MAX_HEADING && line.text.chars().any(char::is_alphabetic);
        levels.iter().position(|&other| other == size).filter(|_| words)
    };
    for lines in pages {
        composer.page();
        let mut rest = lines.as_slice();
        while let Some((first, after)) = rest.split_first() {
            // A paragraph, or the lines of a heading.
            let own = level(first);
            let more = after.iter().take_while(|line| level(line) == own && !(own.is_none() && line.apart)).count();
            let more = if own.is_some() { more.min(3) } else { more };
            let (lines, after) = rest.split_at(1 + more);
            let text = lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join("\n");
            match own {
                Some(level) => composer.heading(level + 1, &text)?,
                None => composer.paragraph(&text)?,
            }
            rest = after;
        }
    }
    Ok(())
}

/// Sizes of letters of headings, in half points, the largest first. Of more than six, the smallest are none.
fn heading_levels(pages: &[Vec<Line>]) -> Vec<u32> {
    let mut characters: BTreeMap<u32, usize> = BTreeMap::new();
    for line in pages.iter().flatten() {
        *characters.entry(half_points(line.size)).or_default() += line.text.len();
    }
    // The size of the text is the one that most of it has.
    let Some(body) = characters.iter().max_by_key(|(_, count)| **count).map(|(&size, _)| size) else {
        return Vec::new();
    };
    let all: usize = characters.values().sum();
    let larger = characters
        .into_iter()
        .rev()
        .filter(|&(size, count)| f64::from(size) >= f64::from(body) * LARGER && count * 4 < all);
    larger.map(|(size, _)| size).take(6).collect()
}

fn half_points(size: f64) -> u32 {
    (size * 2.0).round().clamp(0.0, 20_000.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_lines_are_headings_and_apart_lines_begin_paragraphs() {
        let line = |text: &str, size: f64, apart| Line { text: text.to_owned(), size, apart };
        let text = "words of the text that go on and on until there are enough of them";
        let pages = [
            vec![
                line("Report", 20.0, false),
                line("Intro", 14.0, true),
                line(text, 10.0, true),
                line(text, 10.1, false),
            ],
            vec![line(text, 10.0, false), line("next", 10.0, true)],
        ];
        let mut composer = Composer::new(&ExtractOptions::default());
        write(&pages, &mut composer).unwrap();
        let document = composer.finish();
        assert_eq!(document.text, format!("Report\n\nIntro\n\n{text}\n{text}\n\n{text}\n\nnext"));
        assert_eq!(document.heading_path(document.text.len()), ["Report", "Intro"]);
        assert_eq!((document.page(0), document.page(document.text.len() - 1)), (Some(1), Some(2)));
    }

    #[test]
    fn moments_have_their_zone() {
        let date = DateTime {
            year: 2024,
            month: 5,
            day: 1,
            hour: 9,
            minute: 30,
            second: 0,
            utc_offset_hour: -5,
            utc_offset_minute: 30,
        };
        assert_eq!(moment(date), "2024-05-01T09:30:00-05:30");
    }
}
