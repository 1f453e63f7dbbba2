//! Postal addresses: a grammar over tokens.
//!
//! An address has a **core** that gives it away (a number with a street, a street with a number, a street corner) and
//! a **tail** of what may follow: unit, city, state, postcode, country, in any order and over line breaks. The core alone decides
//! whether there is an address; a tail with a unit or a postcode makes a weak core sure. Parts that are telling without
//! a street (post boxes, postcodes with a state, units) are rows of the table in `rules.rs`.

use std::cell::Cell;

use bedrock_core::GuardrailPiiEntityType as Kind;

use super::marks::Wanted;
use super::rule::Cues;
use super::rules::ADDRESS_CUES;
use super::{kind_index, lists};
use crate::scan::{Candidate, Cursor, Label, Recognizer, Token, TokenKind, Window, next_letter, plain_word};

/// Words between a house number and the word that makes it a street.
const MAX_STREET_WORDS: usize = 5;
/// Elements of a tail.
const MAX_TAIL: usize = 14;

#[rustfmt::skip]
const UNITS: &[&str] = &[
    "apt", "apartment", "suite", "ste", "unit", "flat", "room", "rm", "floor", "fl", "bldg", "building", "block",
    "lot", "box", "no", "dept", "level", "wing", "tower", "penthouse",
];

/// Finds addresses.
#[derive(Debug)]
pub(crate) struct AddressRecognizer {
    threshold: f32,
    kind: u8,
    cues: Cues,
}

impl AddressRecognizer {
    pub(crate) fn new(threshold: f32) -> Self {
        lists::prepare();
        Self { threshold, kind: kind_index(&Kind::Address), cues: Cues::new(ADDRESS_CUES) }
    }
}

impl Recognizer for AddressRecognizer {
    fn scan(&self, window: Window<'_>, from: usize, found: &mut Vec<Candidate>) -> usize {
        let touched = Cell::new(false);
        let mut at = from;
        // Tokens were noted from the start of the text on.
        let marks = window.marks.filter(|_| window.complete && from == 0);
        let mut streets = marks.map(|marks| marks.streets.iter().map(|start| *start as usize));
        loop {
            at = match &mut streets {
                Some(streets) => match streets.find(|start| *start >= at) {
                    Some(start) => start,
                    None => return window.text.len(),
                },
                None => next_letter(window.text, at),
            };
            if streets.is_none()
                && let Some(end) = plain_word(window.text, at)
                && !(may_be_street(&window, end) && may_reach_number(window.text, end))
                && !is_corner(&window.text[at..end])
            {
                at = end;
                continue;
            }
            let Some(token) = Cursor::new(&window, at, &touched).peek() else { return at };
            let address = if touched.get() { None } else { parse(&window, token, &touched) };
            if touched.get() {
                return at;
            }
            at = token.end();
            let Some((end, mut score)) = address else { continue };
            // As sure as the cue makes a unit inside it, so that the whole is found.
            if score < 1.0 && self.cues.precede(window, token.start) {
                score = (score + 0.25).min(1.0);
            }
            if score >= self.threshold {
                found.push(Candidate { span: token.start..end, label: Label::Pii(self.kind), score });
                at = end;
            }
        }
    }

    fn wanted(&self) -> Wanted {
        Wanted::Tokens
    }
}

/// For the byte behind a blank, which row of [`THIRDS`] tells the bytes behind it with which [`may_be_street`] goes on.
static SECONDS: [u8; 256] = {
    let mut rows = [1; 256];
    let mut byte = 0;
    while byte < 128 {
        rows[byte] = match byte as u8 {
            b'd' => 2,
            b't' => 3,
            b'u' => 4,
            b'k' | b'l' => 5,
            other if other.is_ascii_lowercase() || other.is_ascii_punctuation() => 0,
            _ => 1,
        };
        byte += 1;
    }
    rows
};

/// None, all, and what makes a small word of `street_first` with the letter before, as bits.
static THIRDS: [[u64; 4]; 6] = {
    let mut rows = [[0; 4]; 6];
    rows[1] = [u64::MAX; 4];
    let mut byte = 0;
    while byte < 256 {
        let after = byte as u8;
        let may = [
            matches!(after, b'a' | b'e' | b'o'),
            !after.is_ascii(),
            after == b't' || !after.is_ascii_lowercase(),
            after == b'a',
        ];
        let mut row = 0;
        while row < may.len() {
            rows[2 + row][byte >> 6] |= (may[row] as u64) << (byte & 63);
            row += 1;
        }
        byte += 1;
    }
    rows
};

/// Whether three bytes may stand behind a word that is of a street: a blank, a point or no sign, and no small word but those that streets have.
#[inline]
pub(super) fn may_follow([first, second, third]: [u8; 3]) -> bool {
    let behind_blank = THIRDS[usize::from(SECONDS[usize::from(second)])][usize::from(third >> 6)] >> (third & 63) & 1;
    if first == b' ' { behind_blank != 0 } else { first == b'.' || !first.is_ascii_punctuation() }
}

/// Whether an address may begin with a word of ASCII letters alone.
#[inline]
pub(super) fn may_begin(window: &Window<'_>, start: usize, end: usize, reach: &mut Reach) -> bool {
    let bytes = window.text.as_bytes();
    // Most words have a small one behind them, or a sign.
    let may = bytes[end..].first_chunk().is_none_or(|next| may_follow(*next));
    let word = &window.text[start..end];
    may && may_be_street(window, end)
        && reach.of(window.text, end)
        && (!bytes[start].is_ascii_lowercase() || lists::is_street_prefix(word))
        || is_corner(word)
}

/// Whether an address may begin with a number, as far as the bytes around it say.
#[inline]
pub(super) fn may_begin_with(bytes: &[u8], start: usize, end: usize) -> bool {
    let joined = |byte: u8| byte.is_ascii_alphanumeric() || b".,$#/:-+=".contains(&byte);
    matches!(bytes.get(end), Some(b' ' | b'\t' | 0x80..)) && !start.checked_sub(1).is_some_and(|at| joined(bytes[at]))
}

/// The words in small letters that an address may begin with.
pub(super) fn small_words() -> impl Iterator<Item = &'static str> {
    lists::STREET_PREFIXES.iter().copied().chain([CORNER])
}

const CORNER: &str = "corner";

fn is_corner(word: &str) -> bool {
    word.eq_ignore_ascii_case(CORNER)
}

/// Reads an address that begins with `first`: its end and its score.
fn parse(window: &Window<'_>, first: Token<'_>, touched: &Cell<bool>) -> Option<(usize, f32)> {
    let cursor = Cursor::new(window, first.end(), touched);
    let (core, score) = match first.kind {
        TokenKind::Number => {
            let before = window.before(first.start);
            if before.is_some_and(|c| {
                matches!(c, '.' | ',' | '$' | '€' | '£' | '#' | '/' | ':' | '-' | '+' | '=') || c.is_alphanumeric()
            }) || !is_house_number(first.text)
            {
                return None;
            }
            number_first(cursor)?
        }
        TokenKind::Word => {
            if is_corner(first.text) {
                corner(cursor)?
            } else if !may_be_street(window, first.end()) {
                return None;
            } else if first.is_capitalized() || lists::is_street_prefix(first.text) {
                street_first(first, cursor)?
            } else {
                return None;
            }
        }
        _ => return None,
    };
    let mut tail = Cursor::new(window, core, touched);
    let (end, strong) = read_tail(&mut tail, score >= 0.5);
    Some((end, if strong { (score + 0.25_f32).min(0.95) } else { score }))
}

/// Whether what stands behind a word can belong to a street with it: most words of a text are followed by a small one or a sign.
fn may_be_street(window: &Window<'_>, end: usize) -> bool {
    let rest = &window.text.as_bytes()[end..];
    match rest.strip_prefix(b".").unwrap_or(rest) {
        [b' ', next, rest @ ..] => match (next, rest.first()) {
            // The small words of `street_first`: de, la, u, utca, kapu, tér.
            (b'd', Some(b'a' | b'e' | b'o') | None) | (b'l' | b'k', Some(b'a') | None) => true,
            (b'u', after) => after.is_none_or(|byte| *byte == b't' || !byte.is_ascii_lowercase()),
            (b't', after) => after.is_none_or(|byte| !byte.is_ascii()),
            (next, _) => {
                !next.is_ascii()
                    || next.is_ascii_alphanumeric() && !next.is_ascii_lowercase()
                    || next.is_ascii_whitespace()
            }
        },
        [next, ..] => !next.is_ascii() || next.is_ascii_whitespace(),
        [] => true,
    }
}

/// Whether a house number can stand behind a word that ends at `end`, after what `street_first` reads: most sentences have none.
fn may_reach_number(text: &str, end: usize) -> bool {
    reach_number(text, end).0
}

/// The same, and the end of the places before which the answer is that of all words that end between here and there.
fn reach_number(text: &str, end: usize) -> (bool, usize) {
    let (mut blanks, mut blank) = (0, false);
    for (at, byte) in text.as_bytes().iter().enumerate().skip(end) {
        match byte {
            b'0'..=b'9' | 0x80.. => return (true, at),
            b' ' | b'\t' => {
                blanks += usize::from(!blank);
                if blanks > MAX_STREET_WORDS + 2 {
                    // Words further on may yet reach one.
                    return (false, end);
                }
                blank = true;
            }
            // Small words other than these end a street.
            b'a'..=b'z' if blank && !matches!(byte, b'd' | b'l' | b'u' | b'k' | b't') => return (false, at),
            b'a'..=b'z' | b'A'..=b'Z' | b'.' | b'\'' | b'-' => blank = false,
            _ => return (false, at),
        }
    }
    (true, text.len())
}

/// What [`may_reach_number`] said last, which holds for the words up to where it looked.
#[derive(Debug, Default)]
pub(super) struct Reach {
    reaches: bool,
    until: usize,
}

impl Reach {
    /// The same as [`may_reach_number`] of one text, asked for from left to right.
    fn of(&mut self, text: &str, end: usize) -> bool {
        if end >= self.until {
            (self.reaches, self.until) = reach_number(text, end);
        }
        self.reaches
    }
}

/// One to six digits, maybe with a letter: `6`, `221B`.
fn is_house_number(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    (1..=6).contains(&digits) && text.len() <= digits + 1
}

/// `25615 Tawastintie 72`, `12 rue de la Paix`, `221B Baker Street`, `123 main street`.
fn number_first(mut cursor: Cursor<'_, '_>) -> Option<(usize, f32)> {
    if !cursor.skip_space(false) {
        return None;
    }
    let mut best: Option<(usize, f32)> = None;
    let (mut words, mut capitals, mut small) = (0, 0, 0);
    let mut street = false;
    // A second number: "370 3911 Fourth Avenue".
    let mut second = cursor.clone();
    if second.take(|token| token.kind == TokenKind::Number && is_house_number(token.text)).is_some()
        && second.skip_space(false)
    {
        cursor = second;
    }
    while words < MAX_STREET_WORDS {
        let mut ahead = cursor.clone();
        let Some(token) = ahead.take(|token| matches!(token.kind, TokenKind::Word | TokenKind::Number)) else { break };
        if token.kind == TokenKind::Number {
            let ordinal = token.text.ends_with("st")
                || token.text.ends_with("nd")
                || token.text.ends_with("rd")
                || token.text.ends_with("th");
            if ordinal && words == 0 {
                capitals += 1;
            } else {
                // A house number behind the street.
                if capitals > 0 && small == 0 && is_house_number(token.text) {
                    best = Some((token.end(), if street { 0.85 } else { 0.4 }));
                }
                break;
            }
        } else {
            let lower = token.text.to_lowercase();
            let capital = token.is_capitalized();
            let suffix = lists::is_street_suffix(&lower);
            if words == 0 && lists::is_street_prefix(&lower) && !suffix {
                street = true;
            } else if (suffix && (capital || is_plain_suffix(&lower)) && words > 0)
                || (lists::is_street_shape(&lower) && (capital || small == 0))
            {
                let mut end = token.end();
                // The dot of an abbreviation, if something follows it on the line.
                let mut dotted = ahead.clone();
                if token.text.len() <= 5 && dotted.take(|token| token.is(".")).is_some() {
                    end = dotted.at;
                    ahead = dotted;
                }
                let score = if capitals > 0 || lists::is_street_shape(&lower) { 0.85 } else { 0.7 };
                if best.is_none_or(|(_, known)| score >= known) {
                    best = Some((end, score));
                }
                street = true;
                capitals += 1;
            } else if capitals > 0 && is_hungarian_street(&lower) {
                street = true;
            } else if capital {
                capitals += 1;
                if street && best.is_none() {
                    best = Some((token.end(), 0.75));
                }
            } else {
                if street
                    && matches!(
                        lower.as_str(),
                        "de" | "la" | "du" | "des" | "le" | "do" | "da" | "dos" | "del" | "di" | "der"
                    )
                {
                    words += 1;
                    cursor = ahead;
                    if !cursor.skip_space(false) {
                        break;
                    }
                    continue;
                }
                small += 1;
                if small > 3 || lists::is_common(&lower) && small > 1 {
                    break;
                }
            }
        }
        words += 1;
        cursor = ahead;
        let mut blank = cursor.clone();
        blank.take(|token| token.is("."));
        if !blank.skip_space(false) {
            break;
        }
        cursor = blank;
    }
    if best.is_none() && capitals >= 1 && small == 0 {
        // A number and capitalised words: an address only with a tail or a cue that says so.
        return Some((cursor.trimmed_end(), 0.3));
    }
    best
}

/// What Hungarians write in small letters behind a street's own name.
fn is_hungarian_street(lower: &str) -> bool {
    matches!(lower, "u" | "kapu" | "út" | "tér" | "utca")
}

/// Suffixes that are streets in small letters too.
fn is_plain_suffix(lower: &str) -> bool {
    matches!(
        lower,
        "street"
            | "st"
            | "avenue"
            | "ave"
            | "road"
            | "rd"
            | "boulevard"
            | "blvd"
            | "lane"
            | "drive"
            | "highway"
            | "parkway"
            | "terrace"
            | "crescent"
    )
}

/// `Rua do Arenque 1634`, `ul. Miła 53`, `Brucker Bundesstrasse 31`, `Dalbraut 99`.
fn street_first(first: Token<'_>, mut cursor: Cursor<'_, '_>) -> Option<(usize, f32)> {
    let lower = first.text.to_lowercase();
    let prefix = lists::is_street_prefix(&lower);
    let mut street = lists::is_street_shape(&lower) || prefix;
    let mut words = 1;
    let mut capitals = usize::from(!prefix);
    cursor.take(|token| token.is("."));
    while words < MAX_STREET_WORDS {
        let mut ahead = cursor.clone();
        if !ahead.skip_space(false) {
            return None;
        }
        let token = ahead.next()?;
        match token.kind {
            TokenKind::Number => {
                let plain = token.text.bytes().all(|byte| byte.is_ascii_digit()) || is_house_number(token.text);
                if !is_house_number(token.text) || !plain || capitals == 0 {
                    return None;
                }
                return Some((token.end(), if street { 0.75 } else { 0.25 }));
            }
            TokenKind::Word => {
                let lower = token.text.to_lowercase();
                let small = matches!(
                    lower.as_str(),
                    "do" | "da" | "de" | "del" | "la" | "der" | "den" | "u" | "kapu" | "út" | "tér" | "utca" | "és"
                );
                if token.is_capitalized() {
                    capitals += 1;
                } else if !small {
                    return None;
                }
                street |= lists::is_street_shape(&lower)
                    || is_hungarian_street(&lower)
                    || (lists::is_street_suffix(&lower) && capitals > 1);
                ahead.take(|token| token.is("."));
            }
            _ => return None,
        }
        words += 1;
        cursor = ahead;
    }
    None
}

/// `corner of 5th and Main`, `corner of Dalbraut 99 and Frederikke Coves`.
fn corner(mut cursor: Cursor<'_, '_>) -> Option<(usize, f32)> {
    cursor.take(|token| token.text == " ")?;
    cursor.take(|token| token.text.eq_ignore_ascii_case("of"))?;
    let mut end = None;
    let mut joined = false;
    for _ in 0..12 {
        if !cursor.skip_space(false) {
            break;
        }
        let mut ahead = cursor.clone();
        let Some(token) = ahead.take(|token| matches!(token.kind, TokenKind::Word | TokenKind::Number)) else { break };
        if matches!(token.text, "and" | "&") {
            joined = true;
        } else if joined
            && token.kind == TokenKind::Word
            && !token.is_capitalized()
            && !lists::is_street_suffix(&token.text.to_lowercase())
        {
            if end.is_some_and(|end| end > token.start) || lists::is_common(&token.text.to_lowercase()) {
                break;
            }
            end = Some(token.end());
        } else {
            end = Some(token.end());
        }
        ahead.take(|token| token.is(".") && !joined);
        cursor = ahead;
    }
    end.filter(|_| joined).map(|end| (end, 0.8))
}

/// Reads what may follow a street, which may be `sure`. Returns the end and whether there was a unit or a postcode.
fn read_tail(cursor: &mut Cursor<'_, '_>, sure: bool) -> (usize, bool) {
    let mut end = cursor.at;
    let mut strong = false;
    // A state or a place that is known, after which a bare postcode may stand.
    let mut placed = false;
    // Capitalised words that belong to the address only if something surer follows.
    let mut open = 0;
    let mut open_after_comma = None;
    // A house number's dot, as Hungarians write it: `Fő u. 12.`
    let mut ordinal = sure && cursor.before().is_some_and(|c| c.is_ascii_digit());
    for _ in 0..MAX_TAIL {
        let mut ahead = cursor.clone();
        let (mut comma, mut line, mut any) = (false, false, false);
        let dotted = std::mem::take(&mut ordinal) && ahead.take(|token| token.is(".")).is_some();
        for _ in 0..8 {
            match ahead.peek() {
                Some(token) if token.kind == TokenKind::Blank => {}
                Some(token) if token.kind == TokenKind::Break && token.text.matches('\n').count() <= 2 => line = true,
                Some(token) if token.is(",") => comma = true,
                // Quoted mail.
                Some(token) if line && matches!(token.text, ">" | "|" | "*" | "?") => {}
                _ => break,
            }
            any = true;
            ahead.next();
        }
        if !any {
            break;
        }
        let Some(token) = ahead.next() else { break };
        let lower = token.text.to_lowercase();
        // What follows a full stop on its line is another sentence, unless it says where in the house.
        let inside = floor(&token, &ahead, dotted);
        if dotted && !line && inside.is_none() && !UNITS.contains(&lower.as_str()) {
            break;
        }
        match token.kind {
            _ if inside.is_some() => {
                ahead.at = inside.unwrap_or(end);
                (end, strong, open) = (ahead.at, true, 0);
            }
            TokenKind::Word if UNITS.contains(&lower.as_str()) => {
                ahead.take(|token| token.is("."));
                ahead.skip_space(false);
                ahead.take(|token| token.is("#"));
                let Some(number) = ahead.take(|token| {
                    token.kind == TokenKind::Number || (token.kind == TokenKind::Word && token.text.len() <= 2)
                }) else {
                    break;
                };
                (end, strong, open) = (number.end(), true, 0);
            }
            TokenKind::Word
                if token.text.len() <= 3 && lists::is_state_code(token.text) && (comma || line || open > 0) =>
            {
                (end, open, placed) = (token.end(), 0, true);
            }
            TokenKind::Word
                if lists::is_place(&lower) && token.is_capitalized() && (comma || line || open > 0 || strong) =>
            {
                (end, open, placed) = (token.end(), 0, true);
            }
            TokenKind::Word if token.is_capitalized() => {
                let goes_on = if open == 0 { comma } else { open_after_comma.is_some() };
                if goes_on && !lists::is_common(&lower) {
                    open_after_comma = Some(token.end());
                }
                open += 1;
                if open > 4 {
                    break;
                }
            }
            TokenKind::Number => {
                let digits = token.text.len();
                if !(3..=6).contains(&digits)
                    || !token.text.bytes().all(|b| b.is_ascii_digit())
                    || !(open > 0 || comma || line || strong || placed)
                {
                    break;
                }
                end = token.end();
                let mut extension = ahead.clone();
                if extension.take(|token| token.is("-")).is_some()
                    && let Some(more) = extension.take(|token| token.kind == TokenKind::Number && token.text.len() == 4)
                {
                    end = more.end();
                    ahead = extension;
                }
                (strong, open, open_after_comma) = (true, 0, None);
            }
            _ => break,
        }
        *cursor = ahead;
    }
    if let Some(city) = open_after_comma
        && open > 0
        && city > end
    {
        end = city;
    }
    (end, strong)
}

/// The end of floor and door behind a house number: `II/3`, `II. em. 3`, and behind a house number's dot `2/14`.
fn floor(first: &Token<'_>, behind: &Cursor<'_, '_>, dotted: bool) -> Option<usize> {
    let roman = first.text.len() <= 4 && first.text.bytes().all(|byte| matches!(byte, b'I' | b'V' | b'X'));
    let number =
        |token: &Token<'_>| token.kind == TokenKind::Number && is_house_number(token.text) && token.text.len() <= 3;
    if !(roman || dotted && number(first)) {
        return None;
    }
    let mut cursor = behind.clone();
    if cursor.take(|token| token.is("/")).is_some() {
        return cursor.take(|token| number(token)).map(|door| door.end());
    }
    cursor.take(|token| token.is("."))?;
    cursor.skip_space(false);
    cursor.take(|token| matches!(token.text, "em" | "emelet" | "Em"))?;
    let mut end = cursor.at;
    let dot = cursor.take(|token| token.is(".")).map(|dot| dot.end());
    cursor.skip_space(false);
    if let Some(door) = cursor.take(|token| number(token)) {
        end = door.end();
    } else if let Some(dot) = dot {
        end = dot;
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &str) -> Vec<&str> {
        let mut found = Vec::new();
        AddressRecognizer::new(super::super::THRESHOLD).scan(Window::whole(text), 0, &mut found);
        found.into_iter().map(|candidate| &text[candidate.span]).collect()
    }

    #[test]
    fn floor_and_door_behind_a_house_number_with_a_dot_are_part_of_the_address() {
        for (text, whole) in [
            ("Send it to Fő u. 12.\nII/3\nBudapest 1011 please", "Fő u. 12.\nII/3\nBudapest 1011"),
            ("Send it to Fő u. 12. II/3 please", "Fő u. 12. II/3"),
            ("Lakcím: Kossuth utca 7. II. em. 5 ajtó", "Kossuth utca 7. II. em. 5"),
            (
                "808 Kálmán Imre u. 12.\n Apt. 762\n Zalakaros\n Hungary 06554",
                "808 Kálmán Imre u. 12.\n Apt. 762\n Zalakaros\n Hungary 06554",
            ),
            ("It is Rákóczi út 5. 2/14 on the bell", "Rákóczi út 5. 2/14"),
            ("He lives at Rákóczi út 5. Then Suzy came 2 days later.", "Rákóczi út 5"),
            ("We met at Hauptstraße 17, 3/4 of us were late", "Hauptstraße 17"),
        ] {
            assert_eq!(found(text), [whole], "{text}");
        }
        assert!(found("There are 80 boys in Grade 5.\nSo, 200 are not. See Chapter 3. Room 12 is full.").is_empty());
    }

    #[rustfmt::skip]
    const PIECES: &[&str] = &[
        "Rua", "do", "Arenque", "1634", "ul.", "Miła", "53", "Hauptstraße", "17", "Main", "Street", "St.", "5th", "word", "utca", "u", "kapu", "tér", "és", "de la",
        "O'Brien", "Saint-Paul", ",", ";", "\n", "\t", "  ", ".", "(", "é", "12B", "a", "A", "Avenue", "of", "the", "Lane", "Calle", "Mayor", "9",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn what_was_said_of_a_word_is_said_again_of_those_behind_it(text in "([ab][ab]?|[dk][ab]|A|é|1|[.,]| |\t){0,30}") {
            let mut reach = Reach::default();
            let mut asked = 0;
            for end in (0..=text.len()).filter(|at| text.is_char_boundary(*at)) {
                // Only where words end.
                if end == 0 || text.as_bytes()[end - 1].is_ascii_alphabetic() && !text[end..].starts_with(|c: char| c.is_ascii_alphabetic()) {
                    prop_assert_eq!(reach.of(&text, end), may_reach_number(&text, end), "{:?} at {}", text, end);
                    asked += 1;
                }
            }
            prop_assert!(asked > 0);
        }

        #[test]
        fn words_that_are_passed_over_begin_no_address(
            pieces in prop::collection::vec((prop::sample::select(PIECES), prop_oneof![5 => Just(" "), 1 => Just("")]), 1..12),
            complete in prop::bool::ANY,
        ) {
            let text: String = pieces.iter().flat_map(|(piece, glue)| [*piece, *glue]).collect();
            let (window, touched) = (Window { complete, ..Window::growing(&text) }, Cell::new(false));
            let mut cursor = Cursor::new(&window, 0, &touched);
            while let Some(token) = cursor.next() {
                let touched = Cell::new(false);
                if complete && token.kind == TokenKind::Number && !may_begin_with(text.as_bytes(), token.start, token.end()) {
                    prop_assert_eq!(parse(&window, token, &touched), None, "{:?} in {:?}", token.text, text);
                }
                if token.kind == TokenKind::Word && !token.text.eq_ignore_ascii_case("corner") && !may_reach_number(&text, token.end()) {
                    prop_assert_eq!(parse(&window, token, &touched), None, "{:?} in {:?}", token.text, text);
                }
            }
        }
    }
}
