//! The labels of list items: "1.", "b)", "iv", "2.1.3".

/// How a number is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Style {
    #[default]
    Decimal,
    /// Two digits at least.
    DecimalZero,
    LowerLetter,
    UpperLetter,
    LowerRoman,
    UpperRoman,
    Ordinal,
    Bullet,
    Nothing,
}

impl Style {
    pub(super) fn write(self, number: u32) -> String {
        match self {
            Self::Decimal => number.to_string(),
            Self::DecimalZero => format!("{number:02}"),
            Self::LowerLetter => letters(number),
            Self::UpperLetter => letters(number).to_uppercase(),
            Self::LowerRoman => roman(number),
            Self::UpperRoman => roman(number).to_uppercase(),
            Self::Ordinal => {
                let suffix = match (number % 10, number % 100) {
                    (1, rest) if rest != 11 => "st",
                    (2, rest) if rest != 12 => "nd",
                    (3, rest) if rest != 13 => "rd",
                    _ => "th",
                };
                format!("{number}{suffix}")
            }
            Self::Bullet | Self::Nothing => String::new(),
        }
    }
}

/// a … z, aa, bb …, as Word counts.
fn letters(number: u32) -> String {
    let Some(index) = number.checked_sub(1) else { return String::new() };
    let letter = char::from(b'a' + (index % 26) as u8);
    letter.to_string().repeat((index / 26 + 1).min(30) as usize)
}

fn roman(number: u32) -> String {
    const STEPS: &[(u32, &str)] = &[
        (1000, "m"),
        (900, "cm"),
        (500, "d"),
        (400, "cd"),
        (100, "c"),
        (90, "xc"),
        (50, "l"),
        (40, "xl"),
        (10, "x"),
        (9, "ix"),
        (5, "v"),
        (4, "iv"),
        (1, "i"),
    ];
    if number > 9999 {
        return number.to_string();
    }
    let mut left = number;
    let mut written = String::new();
    for &(value, sign) in STEPS {
        while left >= value {
            written.push_str(sign);
            left -= value;
        }
    }
    written
}

/// Levels of a list.
pub(super) const LEVELS: usize = 9;

/// One level of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) style: Style,
    /// The label with the numbers of levels in it as `Piece::Number`.
    pub(super) label: Vec<Piece>,
    pub(super) start: u32,
    /// How many levels, from the outermost, start this one anew with each of their items; `None` says all above it.
    pub(super) restart: Option<usize>,
    /// Numbers of the levels above are written in digits.
    pub(super) legal: bool,
}

/// A part of a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    /// The number of a level, from 0.
    Number(usize),
}

/// Where a list stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters([Option<u32>; LEVELS]);

impl Counters {
    /// Sets a level so that its next item has this number.
    pub(super) fn set(&mut self, level: usize, number: u32) {
        if let Some(counter) = self.0.get_mut(level) {
            *counter = number.checked_sub(1);
        }
    }

    /// Counts an item and writes its label, with a space after it. Bullets are "- ", whatever their picture.
    pub(super) fn label(&mut self, levels: &[Level], level: usize) -> String {
        let Some(own) = levels.get(level) else { return String::new() };
        if level >= LEVELS {
            return String::new();
        }
        self.0[level] = Some(self.0[level].map_or(own.start, |number| number.saturating_add(1)));
        for (below, counter) in self.0.iter_mut().enumerate().skip(level + 1) {
            let restart = levels.get(below).and_then(|below| below.restart);
            if restart.is_none_or(|restart| level < restart) {
                *counter = None;
            }
        }
        if own.style == Style::Bullet {
            return "- ".to_owned();
        }
        let mut label = String::new();
        for piece in &own.label {
            match piece {
                Piece::Text(text) => label.push_str(text),
                Piece::Number(of) => {
                    let Some(other) = levels.get(*of) else { continue };
                    // A level that was jumped over stands at its start.
                    let number = *self.0.get(*of).and_then(Option::as_ref).unwrap_or(&other.start);
                    let style = if own.legal { Style::Decimal } else { other.style };
                    label.push_str(&style.write(number));
                }
            }
        }
        let label = label.trim();
        if label.is_empty() { String::new() } else { format!("{label} ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_word_does() {
        assert_eq!([1, 26, 27, 53].map(|n| Style::LowerLetter.write(n)), ["a", "z", "aa", "aaa"]);
        assert_eq!([4, 9, 1987].map(|n| Style::UpperRoman.write(n)), ["IV", "IX", "MCMLXXXVII"]);
        assert_eq!([1, 2, 3, 11, 112, 121].map(|n| Style::Ordinal.write(n)).concat(), "1st2nd3rd11th112th121st");
    }

    #[test]
    fn levels_count_and_start_anew() {
        let level = |label: Vec<Piece>, style| Level { style, label, start: 1, ..Level::default() };
        let levels = [
            level(vec![Piece::Number(0), Piece::Text(".".into())], Style::Decimal),
            level(
                vec![Piece::Number(0), Piece::Text(".".into()), Piece::Number(1), Piece::Text(")".into())],
                Style::LowerLetter,
            ),
        ];
        let mut counters = Counters::default();
        let labels: Vec<_> = [0, 1, 1, 0, 1].map(|at| counters.label(&levels, at)).into();
        assert_eq!(labels, ["1. ", "1.a) ", "1.b) ", "2. ", "2.a) "]);
        counters.set(0, 10);
        assert_eq!(counters.label(&levels, 0), "10. ");
        assert_eq!(Counters::default().label(&levels, 1), "1.a) ");
        assert_eq!(counters.label(&levels, 5), "");
    }
}
