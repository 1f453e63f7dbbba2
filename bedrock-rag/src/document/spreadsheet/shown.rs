//! Numbers as a sheet shows them.

use std::collections::HashMap;

use ssfmt::{DateSystem, FormatOptions, NumberFormat, format_code_from_id};

/// Writes the numbers of one workbook.
///
/// Dates, times, percentages and what has a currency or other words in its format come out as shown: their number alone
/// says something else. Other numbers come out as they are, so that no digit is lost to a narrow format.
#[derive(Debug, Default)]
pub(super) struct Shown {
    options: FormatOptions,
    codes: HashMap<u32, String>,
    ready: HashMap<u32, Option<NumberFormat>>,
}

impl Shown {
    /// Days are counted from 1904 rather than 1900.
    pub(super) fn count_from_1904(&mut self) {
        self.options.date_system = DateSystem::Date1904;
    }

    /// Gives a format its code; ids without one are Excel's own.
    pub(super) fn define(&mut self, id: u32, code: String) {
        self.codes.insert(id, code);
    }

    pub(super) fn write(&mut self, value: f64, id: u32) -> String {
        if !value.is_finite() {
            return String::new();
        }
        let codes = &self.codes;
        let format = self.ready.entry(id).or_insert_with(|| {
            let code = match codes.get(&id) {
                Some(code) => code.as_str(),
                // Excel shows these by the reader's own country; everybody can read this.
                None if matches!(id, 14 | 27..=31 | 36 | 50..=54 | 57 | 58) => "yyyy-mm-dd",
                None if id == 22 => "yyyy-mm-dd hh:mm",
                None => format_code_from_id(id)?,
            };
            // The readers of formats take time by their length, and Excel has none longer than this.
            if code.len() > 255 || !is_telling(code) { None } else { NumberFormat::parse(code).ok() }
        });
        match format {
            Some(format) => format.format(value, &self.options).trim().to_owned(),
            None => plain(value),
        }
    }
}

/// Whether a format code shows more than digits: a date, a percentage, words.
fn is_telling(code: &str) -> bool {
    let mut characters = code.chars();
    let mut general = String::new();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                let words: String = characters.by_ref().take_while(|&character| character != '"').collect();
                if words.chars().any(char::is_alphanumeric) || words.contains(['€', '$', '£', '¥']) {
                    return true;
                }
            }
            '[' => {
                let inside: String = characters.by_ref().take_while(|&character| character != ']').collect();
                let lower = inside.to_ascii_lowercase();
                // A currency, or a count of hours; a colour or a condition is neither.
                if inside.strip_prefix('$').is_some_and(|currency| !currency.starts_with('-') && !currency.is_empty())
                    || matches!(lower.as_str(), "h" | "hh" | "m" | "mm" | "s" | "ss")
                {
                    return true;
                }
            }
            // Space as wide as the next character, repeated characters, single characters as they are.
            '_' | '*' | '\\' => drop(characters.next()),
            '%' | '€' | '$' | '£' | '¥' => return true,
            other => general.push(other.to_ascii_lowercase()),
        }
    }
    general.replace("general", "").contains(['y', 'm', 'd', 'h', 's'])
}

/// A number with the fifteen digits that Excel keeps, without zeros at its end.
fn plain(value: f64) -> String {
    let rounded: f64 = format!("{value:.14e}").parse().unwrap_or(value);
    if rounded != 0.0 && !(1e-9..1e21).contains(&rounded.abs()) { format!("{rounded:e}") } else { format!("{rounded}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_that_tell_more_than_digits_are_kept() {
        let mut shown = Shown::default();
        for (id, code) in [
            (200, "yyyy-mm-dd"),
            (201, "#,##0.00 [$€-407]"),
            (202, "#,##0"),
            (203, "0.0\" kg\""),
            (204, "[Red]0.00;[Blue]-0.00"),
            (205, "[h]:mm"),
            (206, "\\d0"),
        ] {
            shown.define(id, code.to_owned());
        }
        assert_eq!(shown.write(45413.0, 200), "2024-05-01");
        assert_eq!(shown.write(45413.0, 14), "2024-05-01");
        assert_eq!(shown.write(45413.5, 22), "2024-05-01 12:00");
        assert_eq!(shown.write(1234.5, 201), "1,234.50 €");
        assert_eq!(shown.write(75077.0, 202), "75077");
        assert_eq!(shown.write(2.5, 203), "2.5 kg");
        assert_eq!(shown.write(-0.125, 204), "-0.125");
        assert_eq!(shown.write(1.5, 205), "36:00");
        assert_eq!(shown.write(7.0, 206), "7");
        assert_eq!(shown.write(0.125, 10), "12.50%");
        assert_eq!(shown.write(0.25, 9), "25%");
        assert_eq!(shown.write(0.1 + 0.2, 0), "0.3");
        assert_eq!(shown.write(3_333_333_333.0, 0), "3333333333");
        assert_eq!(shown.write(1e300, 0), "1e300");
        shown.count_from_1904();
        assert_eq!(shown.write(43951.0, 200), "2024-05-01");
    }

    proptest::proptest! {
        #[test]
        fn any_format_of_any_number_returns(value: f64, code in "[0#?.,;%/ymdhsEe+@\\[\\]$€\"*_\\\\ AaPpGgRrn-]{0,30}") {
            let mut shown = Shown::default();
            shown.define(200, code);
            // A format that can't be written panics in its thread at worst; here it should not even do that.
            let _ = shown.write(value, 200);
        }
    }
}
