//! From glyphs at their places to lines of text.
//!
//! The order is that of the page's content, which writers nearly always emit as it is read, column by column. A line
//! ends where the next glyph is elsewhere than right after the one before; a gap within it is a space, a wide one a tab.

use std::time::Instant;

use hayro_interpret::font::{Glyph, GlyphRun};
use hayro_interpret::hayro_cmap::{BfString, WritingMode};
use hayro_interpret::hayro_syntax::object::{Dict, String as PdfString};
use hayro_interpret::kurbo::{BezPath, Point, Rect, Vec2};
use hayro_interpret::{BlendMode, ClipPath, Device, DrawMode, DrawProps, Image, ImageDrawProps, SoftMask};

use super::super::compose::Fault;
use super::super::confine::abandon;

/// Units of a glyph's own coordinates to its font's size.
const UNITS: f64 = 1000.0;

/// A gap of this part of the font's size is a space.
const SPACE: f64 = 0.17;

/// And one of this part separates columns.
const TAB: f64 = 2.0;

/// Glyphs of one page.
const MAX_GLYPHS: usize = 4_000_000;

/// Glyphs of a line in which one that is drawn twice, to look bold, is looked for.
const RECENT: usize = 48;

/// A line of text on a page.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) text: String,
    /// Size of its font on the page.
    pub(super) size: f64,
    /// It begins a paragraph: it is further from the line before than lines are, or elsewhere.
    pub(super) apart: bool,
}

/// A line that is being written.
#[derive(Debug)]
struct Open {
    text: String,
    /// Direction of writing, of length 1.
    direction: Vec2,
    start: Point,
    /// Where the last glyph ended.
    end: Point,
    size: f64,
    /// The largest font in it.
    largest: f64,
    recent: Vec<(String, Point)>,
}

/// Text that stands for glyphs, whatever they look like.
#[derive(Debug)]
struct Stand {
    text: Option<String>,
}

/// Collects the lines of a page.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) lines: Vec<Line>,
    open: Option<Open>,
    /// Start and size of the line before.
    before: Option<(Point, Vec2, f64)>,
    stands: Vec<Option<Stand>>,
    glyphs: usize,
    pub(super) unknown: usize,
    deadline: Instant,
}

impl Page {
    pub(super) fn new(deadline: Instant) -> Self {
        Self { lines: Vec::new(), open: None, before: None, stands: Vec::new(), glyphs: 0, unknown: 0, deadline }
    }

    pub(super) fn glyph_count(&self) -> usize {
        self.glyphs
    }

    /// The page's lines, when all is drawn.
    pub(super) fn finish(mut self) -> Vec<Line> {
        self.end_line();
        self.lines
    }

    fn check(&self) {
        if Instant::now() > self.deadline {
            abandon(Fault::TimedOut);
        }
    }

    fn end_line(&mut self) {
        let Some(open) = self.open.take() else { return };
        let text = open.text.trim_end();
        if text.trim().is_empty() {
            return;
        }
        let apart = match self.before {
            None => false,
            Some((start, direction, size)) => {
                let step = open.start - start;
                let down = direction.cross(step).abs();
                let turned = direction.dot(open.direction) < 0.95;
                let larger = open.largest > size * 1.15 || open.largest < size / 1.15;
                // Further than lines are set, or back to another column.
                turned || larger || down > open.largest.max(size) * 1.75 || down < open.largest * 0.3
            }
        };
        self.before = Some((open.start, open.direction, open.largest));
        self.lines.push(Line { text: text.to_owned(), size: open.largest, apart });
    }

    fn glyph(&mut self, text: &str, origin: Point, end: Point, direction: Vec2, size: f64) {
        if !(origin.is_finite() && end.is_finite() && size.is_finite()) || size <= 0.0 {
            return;
        }
        let blank = text.trim().is_empty();
        if let Some(open) = &mut self.open {
            let step = origin - open.end;
            let along = open.direction.dot(step);
            let across = open.direction.cross(step).abs();
            let unit = open.size.max(size);
            if open.direction.dot(direction) > 0.95 && across < unit * 0.5 {
                // Drawn twice, a little aside, to look bold.
                let twice = open
                    .recent
                    .iter()
                    .any(|(other, at)| other == text && !blank && (*at - origin).hypot() < size * 0.12);
                if twice {
                    return;
                }
                if along > -unit * 0.6 {
                    let spaced = open.text.ends_with([' ', '\t', '\u{a0}']);
                    if along > unit * TAB {
                        open.text.truncate(open.text.trim_end_matches(' ').len());
                        open.text.push('\t');
                    } else if along > unit * SPACE && !spaced && !text.starts_with(' ') {
                        open.text.push(' ');
                    }
                    if !(blank && open.text.ends_with([' ', '\t'])) {
                        open.text.push_str(text);
                    }
                    open.end = end;
                    open.size = size;
                    open.largest = open.largest.max(if blank { 0.0 } else { size });
                    if open.recent.len() == RECENT {
                        open.recent.remove(0);
                    }
                    open.recent.push((text.to_owned(), origin));
                    return;
                }
            }
        }
        if blank {
            return;
        }
        self.end_line();
        let recent = vec![(text.to_owned(), origin)];
        self.open = Some(Open { text: text.to_owned(), direction, start: origin, end, size, largest: size, recent });
    }

    /// What a glyph says: the text that stands for it once, then nothing; or its own.
    fn words(&mut self, glyph: &Glyph<'_>) -> String {
        if let Some(stand) = self.stands.iter_mut().flatten().next() {
            return stand.text.take().unwrap_or_default();
        }
        match glyph.as_unicode() {
            Some(BfString::Char(character)) => plain(&character.to_string()),
            Some(BfString::String(text)) => plain(&text),
            None => {
                self.unknown += 1;
                // A code of a font that says nothing of its characters: of those that are read, most are ASCII.
                match glyph.char_code() {
                    code @ 0x20..=0x7E => char::from(code as u8).to_string(),
                    _ => String::new(),
                }
            }
        }
    }
}

/// Text with ligatures as letters and without control characters.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            'ﬀ' => out.push_str("ff"),
            'ﬁ' => out.push_str("fi"),
            'ﬂ' => out.push_str("fl"),
            'ﬃ' => out.push_str("ffi"),
            'ﬄ' => out.push_str("ffl"),
            'ﬅ' | 'ﬆ' => out.push_str("st"),
            '\t' | '\n' | '\r' => out.push(' '),
            character if character.is_control() => {}
            character => out.push(character),
        }
    }
    out
}

/// A text string of PDF: UTF-16 or UTF-8 by its mark, else nearly Latin-1.
pub(super) fn text_of(bytes: &[u8]) -> String {
    match bytes {
        [0xFE, 0xFF, rest @ ..] => encoding_rs::UTF_16BE.decode_without_bom_handling(rest).0.into_owned(),
        [0xFF, 0xFE, rest @ ..] => encoding_rs::UTF_16LE.decode_without_bom_handling(rest).0.into_owned(),
        [0xEF, 0xBB, 0xBF, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        _ => bytes.iter().map(|&byte| document_encoding(byte)).collect(),
    }
}

/// PDFDocEncoding.
fn document_encoding(byte: u8) -> char {
    const ACCENTS: &str = "˘ˇˆ˙˝˛˚˜";
    const MIDDLE: &str = "•†‡…—–ƒ⁄‹›−‰„“”‘’‚™ﬁﬂŁŒŠŸŽıłœšž\u{fffd}€";
    match byte {
        0x18..=0x1F => ACCENTS.chars().nth(usize::from(byte - 0x18)).unwrap_or(' '),
        0x80..=0xA0 => MIDDLE.chars().nth(usize::from(byte - 0x80)).unwrap_or(' '),
        byte => char::from(byte),
    }
}

impl<'a> Device<'a> for Page {
    fn draw_path(&mut self, _: &BezPath, _: DrawProps<'a>, _: &DrawMode) {
        self.check();
    }

    fn draw_rect(&mut self, _: &Rect, _: DrawProps<'a>, _: &DrawMode) {
        self.check();
    }

    fn push_clip_path(&mut self, _: &ClipPath) {
        self.check();
    }

    fn push_clip_rect(&mut self, _: &Rect) {
        self.check();
    }

    fn push_transparency_group(&mut self, _: f32, _: Option<SoftMask<'a>>, _: BlendMode) {
        self.check();
    }

    fn draw_glyph_run(&mut self, run: &GlyphRun<'_, 'a>, props: DrawProps<'a>, _: &DrawMode) {
        self.check();
        self.glyphs += run.glyphs().len();
        if self.glyphs > MAX_GLYPHS {
            abandon(Fault::TooLarge { what: "characters on a page", limit: MAX_GLYPHS as u64 });
        }
        let vertical = run.writing_mode() == WritingMode::Vertical;
        for glyph in run.glyphs() {
            let words = self.words(glyph);
            let transform = props.transform * glyph.transform();
            let origin = transform * Point::ZERO;
            let advance = match &**glyph {
                Glyph::Outline(outline) => outline.advance_width(),
                Glyph::Type3(glyph) => glyph.advance_width(),
            };
            let size = (transform * Point::new(0.0, UNITS) - origin).hypot();
            let step = if vertical { Point::new(0.0, -UNITS) } else { Point::new(UNITS, 0.0) };
            let along = transform * step - origin;
            let direction = if along.hypot() > 0.0 { along / along.hypot() } else { Vec2::new(1.0, 0.0) };
            let advance = if vertical { 1.0 } else { f64::from(advance.unwrap_or(500.0)) / UNITS };
            self.glyph(&words, origin, origin + along * advance, direction, size);
        }
    }

    fn draw_image(&mut self, _: Image<'a, '_>, _: ImageDrawProps<'a>) {
        self.check();
    }

    fn pop_clip(&mut self) {}

    fn pop_transparency_group(&mut self) {}

    fn begin_marked_content(&mut self, _: &[u8], properties: Option<&Dict<'_>>) {
        self.check();
        let text = properties.and_then(|properties| properties.get::<PdfString<'_>>(b"ActualText".as_slice()));
        self.stands.push(text.map(|text| Stand { text: Some(plain(&text_of(text.as_bytes()))) }));
    }

    fn end_marked_content(&mut self) {
        self.stands.pop();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Draws words with glyphs half as wide as high.
    fn draw(page: &mut Page, text: &str, x: f64, y: f64, size: f64, direction: Vec2) {
        let mut at = Point::new(x, y);
        for character in text.chars() {
            let end = at + direction * (size * 0.5);
            page.glyph(&character.to_string(), at, end, direction, size);
            at = end;
        }
    }

    fn lines(page: Page) -> Vec<(String, bool)> {
        page.finish().into_iter().map(|line| (line.text, line.apart)).collect()
    }

    #[test]
    fn gaps_lines_and_columns() {
        let mut page = Page::new(Instant::now() + Duration::from_secs(60));
        let right = Vec2::new(1.0, 0.0);
        draw(&mut page, "First", 0.0, 100.0, 10.0, right);
        draw(&mut page, "line", 28.0, 100.0, 10.0, right);
        draw(&mut page, "far", 100.0, 100.0, 10.0, right);
        draw(&mut page, "second", 0.0, 88.0, 10.0, right);
        draw(&mut page, "Bold", 0.0, 60.0, 10.0, right);
        draw(&mut page, "Bold", 0.4, 60.0, 10.0, right);
        draw(&mut page, "2", 20.5, 63.0, 6.0, right);
        draw(&mut page, "column", 300.0, 100.0, 10.0, right);
        draw(&mut page, "up", 400.0, 0.0, 10.0, Vec2::new(0.0, 1.0));
        let expected = [("First line\tfar", false), ("second", false), ("Bold2", true), ("column", true), ("up", true)];
        assert_eq!(lines(page), expected.map(|(text, apart)| (text.to_owned(), apart)));
    }

    #[test]
    fn strings_are_decoded_and_ligatures_are_letters() {
        assert_eq!(text_of(b"\xFE\xFF\x00\xE9\x20\xAC"), "é€");
        assert_eq!(text_of(b"caf\xE9 \x84 \xA0"), "café — €");
        assert_eq!(plain("eﬃcient\u{7}"), "efficient");
    }
}
