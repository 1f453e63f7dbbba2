//! Scanning a text that may still be growing.
//!
//! Every recogniser is written once and serves both whole texts and streams. It is asked to scan a [`Window`] from a
//! position on, reports what it found, and answers with its **frontier**: the position before which everything is
//! decided, whatever text may still come. On a complete text the frontier is the end. On a growing one it is the start
//! of the earliest match that more text could begin, prolong or undo; the next scan goes on from there.
//!
//! That makes *streamed = whole* a property of construction: a stream scan consists of the same searches from the same
//! positions over the same characters, only later. The one obligation of a recogniser is not to look further than it
//! may:
//! - to the left of a match at most [`LOOK_BEHIND`] bytes, which a window always keeps;
//! - to the right as far as it likes, but if a decision touches the end of a window that is not complete, the start of
//!   that decision is the frontier.

use std::cell::Cell;
use std::fmt;
use std::ops::Range;

use crate::policy::pii::marks::{Marks, Wanted};

/// Bytes to the left of a position that stay visible in a window, and so the furthest a recogniser may look back.
pub(crate) const LOOK_BEHIND: usize = 256;

/// A text, or the part of a growing text that is still undecided with its left context.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window<'t> {
    /// The characters. Position 0 is the start of the whole text as long as no scan starts further than [`LOOK_BEHIND`].
    pub(crate) text: &'t str,
    /// Whether no more text will come.
    pub(crate) complete: bool,
    /// Where personal data can be, for whole texts.
    pub(crate) marks: Option<&'t Marks>,
}

impl<'t> Window<'t> {
    /// A whole text.
    pub(crate) fn whole(text: &'t str) -> Self {
        Self { text, complete: true, marks: None }
    }

    /// A text that may go on.
    pub(crate) fn growing(text: &'t str) -> Self {
        Self { text, complete: false, marks: None }
    }

    /// The character before byte `at`.
    pub(crate) fn before(&self, at: usize) -> Option<char> {
        self.text[..at].chars().next_back()
    }

    /// The character that begins at byte `at`. A caller on a growing text makes sure that there is one.
    pub(crate) fn after(&self, at: usize) -> Option<char> {
        self.text[at..].chars().next()
    }

    /// At most `bytes` bytes before `at`, cut at a character.
    pub(crate) fn look_behind(&self, at: usize, bytes: usize) -> &'t str {
        let from = self.text.ceil_char_boundary(at.saturating_sub(bytes.min(LOOK_BEHIND)));
        &self.text[from..at]
    }
}

/// What a recogniser found: a span of bytes, what it takes it for, and how sure it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Candidate {
    /// Bytes of the window; both ends lie between characters.
    pub(crate) span: Range<usize>,
    /// What it is.
    pub(crate) label: Label,
    /// 0..=1.
    pub(crate) score: f32,
}

/// What a span is taken for. The order is the last tie-breaker between overlapping findings of one policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Label {
    /// A mask that stands in the text already; it protects its span from being taken for anything else.
    Mask,
    /// A kind of personal data: index into [`pii::KINDS`](crate::policy::pii::KINDS).
    Pii(u8),
    /// One of the guardrail's patterns: index into its configuration.
    Regex(u16),
    /// One of the guardrail's words: index into its configuration.
    Word(u16),
    /// A word of the profanity list.
    Profanity,
    /// A piece of text that a content filter judged: index into [`content::TYPES`](crate::policy::content::TYPES).
    Content(u8),
    /// A piece of text about a denied topic: index into the guardrail's configuration.
    Topic(u8),
    /// A check of the whole text against its source or query: index into
    /// [`grounding::TYPES`](crate::policy::grounding::TYPES).
    Grounding(u8),
    /// A whole picture that a content filter judged: index into [`content::TYPES`](crate::policy::content::TYPES).
    Picture(u8),
}

impl Label {
    /// Whether it is the judgement of a model on a whole piece of text, which has no place of its own: it is never a mask and
    /// displaces nothing.
    pub(crate) fn is_learned(self) -> bool {
        matches!(self, Self::Content(_) | Self::Topic(_) | Self::Grounding(_) | Self::Picture(_))
    }
}

/// Finds one kind of thing.
pub(crate) trait Recognizer: Send + Sync + fmt::Debug {
    /// Appends what begins at or after byte `from` and before the frontier; returns the frontier (see the module).
    ///
    /// `from` is 0 or an earlier answer for the same text.
    fn scan(&self, window: Window<'_>, from: usize, found: &mut Vec<Candidate>) -> usize;

    /// The [`Marks`] that make it faster.
    fn wanted(&self) -> Wanted {
        Wanted::Nothing
    }
}

/// What a token is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// Letters and combining marks, with single inner apostrophes and hyphens.
    Word,
    /// Begins with a digit; may have letters in it (`12B`).
    Number,
    /// One other character.
    Sign,
    /// A run of blanks without a line break.
    Blank,
    /// A run of white space with at least one line break.
    Break,
}

/// A piece of text between byte positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'t> {
    pub(crate) kind: TokenKind,
    pub(crate) start: usize,
    pub(crate) text: &'t str,
}

impl Token<'_> {
    pub(crate) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    pub(crate) fn is_capitalized(&self) -> bool {
        self.kind == TokenKind::Word && self.text.chars().next().is_some_and(char::is_uppercase)
    }

    pub(crate) fn is(&self, sign: &str) -> bool {
        self.text == sign
    }
}

/// Longest token in bytes: a longer run is cut, so that no token is unbounded.
const MAX_TOKEN: usize = 128;

/// Reads tokens of a window and remembers whether it came to the end of a text that may go on.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'w, 't> {
    window: &'w Window<'t>,
    /// Byte position of the next token.
    pub(crate) at: usize,
    touched_end: &'w Cell<bool>,
}

impl<'w, 't> Cursor<'w, 't> {
    /// Begins at byte `at`; `touched_end` is set as soon as a token could still change.
    pub(crate) fn new(window: &'w Window<'t>, at: usize, touched_end: &'w Cell<bool>) -> Self {
        Self { window, at, touched_end }
    }

    /// The next token, which stays the next.
    pub(crate) fn peek(&self) -> Option<Token<'t>> {
        match self.peek_ascii() {
            Some(token) => Some(token),
            None => self.peek_any(),
        }
    }

    /// The next token, if it and what stands behind it are ASCII and more text would not change it: nearly all of them.
    #[inline]
    fn peek_ascii(&self) -> Option<Token<'t>> {
        let rest = &self.window.text.as_bytes()[self.at..];
        let class = |at: usize| rest.get(at).map_or(Ascii::None, |byte| ASCII[usize::from(*byte)]);
        let mut end = 1;
        let kind = match class(0) {
            Ascii::Word => {
                loop {
                    match class(end) {
                        Ascii::Word => end += 1,
                        Ascii::Link => match class(end + 1) {
                            Ascii::Word => end += 2,
                            Ascii::None => return None,
                            _ => break,
                        },
                        Ascii::None => return None,
                        _ => break,
                    }
                }
                TokenKind::Word
            }
            Ascii::Number => {
                loop {
                    match class(end) {
                        Ascii::Word | Ascii::Number => end += 1,
                        Ascii::None => return None,
                        _ => break,
                    }
                }
                TokenKind::Number
            }
            first @ (Ascii::Blank | Ascii::Break) => {
                let mut lines = first == Ascii::Break;
                loop {
                    match class(end) {
                        Ascii::Blank => end += 1,
                        Ascii::Break => (end, lines) = (end + 1, true),
                        Ascii::None => return None,
                        _ => break,
                    }
                }
                if lines { TokenKind::Break } else { TokenKind::Blank }
            }
            Ascii::Sign | Ascii::Link => TokenKind::Sign,
            Ascii::None => return None,
        };
        // A longer run is cut, which the other way does.
        (end <= MAX_TOKEN).then(|| Token { kind, start: self.at, text: &self.window.text[self.at..self.at + end] })
    }

    fn peek_any(&self) -> Option<Token<'t>> {
        let rest = &self.window.text[self.at..];
        let mut characters = rest.char_indices().peekable();
        let Some((_, first)) = characters.next() else {
            self.touched_end.set(self.touched_end.get() || !self.window.complete);
            return None;
        };
        let mut kind = classify(first);
        let mut end = first.len_utf8();
        if kind != TokenKind::Sign {
            let mut may_go_on = true;
            while let Some((at, character)) = characters.next() {
                let class = classify(character);
                let link = kind == TokenKind::Word && matches!(character, '\'' | '’' | '-');
                let joins = match kind {
                    TokenKind::Word => {
                        class == TokenKind::Word
                            || (link && characters.peek().is_some_and(|(_, next)| classify(*next) == TokenKind::Word))
                    }
                    TokenKind::Number => matches!(class, TokenKind::Word | TokenKind::Number),
                    TokenKind::Blank | TokenKind::Break => matches!(class, TokenKind::Blank | TokenKind::Break),
                    TokenKind::Sign => false,
                };
                if !joins || at >= MAX_TOKEN {
                    // An apostrophe as the last known character may yet turn out to be inside the word.
                    may_go_on = link && characters.peek().is_none() && at < MAX_TOKEN;
                    break;
                }
                if class == TokenKind::Break {
                    kind = TokenKind::Break;
                }
                end = at + character.len_utf8();
            }
            if !self.window.complete && may_go_on {
                self.touched_end.set(true);
            }
        }
        Some(Token { kind, start: self.at, text: &rest[..end] })
    }

    /// The next token, consumed.
    pub(crate) fn next(&mut self) -> Option<Token<'t>> {
        let token = self.peek()?;
        self.at = token.end();
        Some(token)
    }

    /// Consumes the next token if `wanted` says so.
    pub(crate) fn take(&mut self, wanted: impl FnOnce(&Token<'t>) -> bool) -> Option<Token<'t>> {
        let token = self.peek()?;
        if !wanted(&token) {
            return None;
        }
        self.at = token.end();
        Some(token)
    }

    /// The character before the next token.
    pub(crate) fn before(&self) -> Option<char> {
        self.window.before(self.at)
    }

    /// End of what was read so far, blanks behind it left out.
    pub(crate) fn trimmed_end(&self) -> usize {
        self.window.text[..self.at].trim_end().len()
    }

    /// Consumes blanks, and line breaks too if `lines`. Returns whether there were any.
    pub(crate) fn skip_space(&mut self, lines: bool) -> bool {
        self.take(|token| token.kind == TokenKind::Blank || (lines && token.kind == TokenKind::Break)).is_some()
    }
}

/// What an ASCII character makes of a token; `None` for other bytes and for the end of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ascii {
    Word,
    Number,
    /// Joins words.
    Link,
    Sign,
    Blank,
    Break,
    None,
}

static ASCII: [Ascii; 256] = {
    let mut classes = [Ascii::None; 256];
    let mut byte = 0;
    while byte < 128 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' => Ascii::Word,
            b'0'..=b'9' => Ascii::Number,
            b'\'' | b'-' => Ascii::Link,
            b' ' | b'\t' => Ascii::Blank,
            b'\n' | b'\r' | b'\x0b' | b'\x0c' => Ascii::Break,
            _ => Ascii::Sign,
        };
        byte += 1;
    }
    classes
};

/// Where the next token that is no blank, break or ASCII sign begins, from a token's start on.
pub(crate) fn next_letter(text: &str, at: usize) -> usize {
    let signs =
        |byte: &&u8| matches!(ASCII[usize::from(**byte)], Ascii::Blank | Ascii::Break | Ascii::Sign | Ascii::Link);
    at + text.as_bytes()[at..].iter().take_while(signs).count()
}

/// The end of the word that begins at `at`, if it is ASCII letters alone, no more text would change it, and it is not long.
pub(crate) fn plain_word(text: &str, at: usize) -> Option<usize> {
    let rest = &text.as_bytes()[at..];
    let length = rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    (length > 0 && ends_plainly(text, at, at + length)).then_some(at + length)
}

/// Whether letters of ASCII in a row are a whole word that no more text would change.
pub(crate) fn ends_plainly(text: &str, start: usize, end: usize) -> bool {
    let ends = |byte: &u8| !matches!(ASCII[usize::from(*byte)], Ascii::Link | Ascii::None);
    end - start <= MAX_TOKEN && text.as_bytes().get(end).is_some_and(ends)
}

fn classify(character: char) -> TokenKind {
    match character {
        '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => TokenKind::Break,
        '0'..='9' => TokenKind::Number,
        'a'..='z' | 'A'..='Z' => TokenKind::Word,
        _ if character.is_ascii() && !character.is_whitespace() => TokenKind::Sign,
        _ if character.is_whitespace() => TokenKind::Blank,
        _ if character.is_alphabetic() || is_mark(character) => TokenKind::Word,
        _ if character.is_numeric() => TokenKind::Number,
        _ => TokenKind::Sign,
    }
}

/// Combining marks of the blocks that letters are commonly decomposed into.
pub(crate) fn is_mark(character: char) -> bool {
    matches!(character, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<(TokenKind, &str)> {
        let (window, touched) = (Window::whole(text), Cell::new(false));
        let mut cursor = Cursor::new(&window, 0, &touched);
        std::iter::from_fn(|| cursor.next()).map(|token| (token.kind, token.text)).collect()
    }

    #[test]
    fn words_keep_inner_apostrophes_and_hyphens_only() {
        use TokenKind::*;
        assert_eq!(
            tokens("Anne-Marie O'Brien's 12B, ok'"),
            [
                (Word, "Anne-Marie"),
                (Blank, " "),
                (Word, "O'Brien's"),
                (Blank, " "),
                (Number, "12B"),
                (Sign, ","),
                (Blank, " "),
                (Word, "ok"),
                (Sign, "'")
            ]
        );
        assert_eq!(tokens(" \n a"), [(Break, " \n "), (Word, "a")]);
    }

    proptest::proptest! {
        #[test]
        fn the_short_way_reads_the_same_tokens(text in "[a-zA-Z0-9 '’.\\-\t\n\x0béÄ½\u{a0}]{0,40}|[a-b' 1-]{100,300}", complete in proptest::bool::ANY) {
            let window = Window { complete, ..Window::growing(&text) };
            for at in (0..=text.len()).filter(|at| text.is_char_boundary(*at)) {
                let (short, long) = (Cell::new(false), Cell::new(false));
                let token = Cursor::new(&window, at, &short).peek();
                proptest::prop_assert_eq!(token, Cursor::new(&window, at, &long).peek_any());
                proptest::prop_assert_eq!(short.get(), long.get());
            }
        }
    }

    #[test]
    fn the_end_of_a_growing_text_is_noticed_and_of_a_whole_one_is_not() {
        for (text, complete, touches) in
            [("ab", false, true), ("ab", true, false), ("ab c", false, false), ("ab'", false, true), ("", false, true)]
        {
            let (window, touched) = (Window { complete, ..Window::growing(text) }, Cell::new(false));
            Cursor::new(&window, 0, &touched).peek();
            assert_eq!(touched.get(), touches, "{text:?} {complete}");
        }
    }
}
