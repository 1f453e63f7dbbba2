//! JSON, character by character, as it comes.

/// Levels of arrays and objects that are followed; the parser that reads the whole text afterwards takes no more either.
const MAX_DEPTH: usize = 120;

/// What a character was in the JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// White space between parts.
    Space,
    /// The beginning of an array or object.
    Open,
    /// The end of an array or object.
    Close,
    /// A character of a key, quotes included.
    Key,
    /// Between a key and its value.
    Colon,
    /// Between items or fields.
    Comma,
    /// A character of a text, number or word.
    Scalar,
}

/// The text is not JSON, or nested too deeply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotJson;

/// Follows one JSON value and refuses the first character that cannot belong to it.
#[derive(Debug, Clone)]
pub(super) struct Scanner {
    state: State,
    /// Whether each open level is an object.
    objects: Vec<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Value,
    FirstItem,
    FirstKey,
    NextKey,
    Text { key: bool },
    Escape { key: bool },
    Unicode { key: bool, left: u8 },
    Colon,
    Word(&'static str),
    Number(Number),
    After,
}

/// How far a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    Exponent,
    Sign,
    Power,
}

impl Number {
    fn next(self, character: char) -> Option<Self> {
        Some(match (self, character) {
            (Self::Minus, '0') => Self::Zero,
            (Self::Minus, '1'..='9') | (Self::Whole, '0'..='9') => Self::Whole,
            (Self::Zero | Self::Whole, '.') => Self::Point,
            (Self::Point | Self::Fraction, '0'..='9') => Self::Fraction,
            (Self::Zero | Self::Whole | Self::Fraction, 'e' | 'E') => Self::Exponent,
            (Self::Exponent, '+' | '-') => Self::Sign,
            (Self::Exponent | Self::Sign | Self::Power, '0'..='9') => Self::Power,
            _ => return None,
        })
    }

    fn is_whole(self) -> bool {
        matches!(self, Self::Zero | Self::Whole | Self::Fraction | Self::Power)
    }
}

impl Scanner {
    pub(super) fn new() -> Self {
        Self { state: State::Value, objects: Vec::new() }
    }

    /// Arrays and objects that are open.
    pub(super) fn depth(&self) -> usize {
        self.objects.len()
    }

    /// Whether an array or object has been closed as the last one. Of a value that is a number nobody can say so.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::After && self.objects.is_empty()
    }

    /// Takes the next character.
    pub(super) fn push(&mut self, character: char) -> Result<Part, NotJson> {
        let space = matches!(character, ' ' | '\t' | '\n' | '\r');
        let (state, part) = match (self.state, character) {
            (State::Text { key }, _) => {
                let part = if key { Part::Key } else { Part::Scalar };
                match character {
                    '"' if key => (State::Colon, part),
                    '"' => (State::After, part),
                    '\\' => (State::Escape { key }, part),
                    '\0'..='\x1f' => return Err(NotJson),
                    _ => (self.state, part),
                }
            }
            (State::Escape { key }, _) => {
                let part = if key { Part::Key } else { Part::Scalar };
                match character {
                    'u' => (State::Unicode { key, left: 4 }, part),
                    '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' => (State::Text { key }, part),
                    _ => return Err(NotJson),
                }
            }
            (State::Unicode { key, left }, digit) if digit.is_ascii_hexdigit() => {
                let part = if key { Part::Key } else { Part::Scalar };
                (if left == 1 { State::Text { key } } else { State::Unicode { key, left: left - 1 } }, part)
            }
            (State::Word(rest), _) => match rest.strip_prefix(character) {
                Some("") => (State::After, Part::Scalar),
                Some(rest) => (State::Word(rest), Part::Scalar),
                None => return Err(NotJson),
            },
            (State::Number(number), _) => match number.next(character) {
                Some(number) => (State::Number(number), Part::Scalar),
                None if number.is_whole() => {
                    self.state = State::After;
                    return self.push(character);
                }
                None => return Err(NotJson),
            },
            (_, _) if space => (self.state, Part::Space),
            (State::Value | State::FirstItem, '"') => (State::Text { key: false }, Part::Scalar),
            (State::Value | State::FirstItem, '{') => (self.open(true)?, Part::Open),
            (State::Value | State::FirstItem, '[') => (self.open(false)?, Part::Open),
            (State::Value | State::FirstItem, 't') => (State::Word("rue"), Part::Scalar),
            (State::Value | State::FirstItem, 'f') => (State::Word("alse"), Part::Scalar),
            (State::Value | State::FirstItem, 'n') => (State::Word("ull"), Part::Scalar),
            (State::Value | State::FirstItem, '-') => (State::Number(Number::Minus), Part::Scalar),
            (State::Value | State::FirstItem, '0'..='9') => {
                (State::Number(Number::Minus.next(character).ok_or(NotJson)?), Part::Scalar)
            }
            (State::FirstKey | State::NextKey, '"') => (State::Text { key: true }, Part::Key),
            (State::Colon, ':') => (State::Value, Part::Colon),
            (State::After, ',') => match self.objects.last() {
                Some(true) => (State::NextKey, Part::Comma),
                Some(false) => (State::Value, Part::Comma),
                None => return Err(NotJson),
            },
            (State::FirstKey | State::After, '}') if self.objects.last() == Some(&true) => (self.close(), Part::Close),
            (State::FirstItem | State::After, ']') if self.objects.last() == Some(&false) => {
                (self.close(), Part::Close)
            }
            _ => return Err(NotJson),
        };
        self.state = state;
        Ok(part)
    }

    fn open(&mut self, object: bool) -> Result<State, NotJson> {
        if self.objects.len() == MAX_DEPTH {
            return Err(NotJson);
        }
        self.objects.push(object);
        Ok(if object { State::FirstKey } else { State::FirstItem })
    }

    fn close(&mut self) -> State {
        self.objects.pop();
        State::After
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    fn scan(text: &str) -> Result<bool, NotJson> {
        let mut scanner = Scanner::new();
        text.chars().try_for_each(|character| scanner.push(character).map(drop))?;
        // A space ends a number.
        scanner.push(' ')?;
        Ok(scanner.is_done())
    }

    fn agrees(text: &str) {
        match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => assert_eq!(scan(text), Ok(true), "{text}"),
            Err(_) => assert_ne!(scan(text), Ok(true), "{text}"),
        }
    }

    proptest! {
        #[test]
        fn what_is_json_is_what_the_parser_takes(pieces in prop::collection::vec(prop::sample::select(&[
            "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\\", "\\n", "\\u00e9", "0", "12", "-", ".", "e", "E+", "true", "null", "false", " ", "\n", "é", "tru",
        ][..]), 0..12)) {
            agrees(&pieces.concat());
        }
    }

    #[test]
    fn values_end_where_they_end() {
        for text in ["{}", "[1, -0.5e+3, {\"a\": [null]}]", "\"\\\"\"", "[[], {}]", "{\"a\":{},\"b\":0}"] {
            agrees(text);
            assert_eq!(scan(text), Ok(true), "{text}");
        }
        for text in ["01", "{\"a\"}", "[1,]", "{,}", "nul1", "\"\t\"", "1.e", "[1}", "{} {}", "'a'"] {
            agrees(text);
            assert!(scan(text).is_err() || scan(text) == Ok(false), "{text}");
        }
        assert_eq!(scan(&"[".repeat(MAX_DEPTH + 1)), Err(NotJson));
    }
}
