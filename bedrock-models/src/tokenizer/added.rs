//! What it costs to find added tokens in texts, before it is paid.
//!
//! The dependency makes one automaton of them. Of up to a hundred texts it makes a table (`aho-corasick`'s DFA), and fills it by going from suffix
//! to suffix of what was read: of one text of 16 KiB that repeats a letter that takes seven seconds, and four times as long for twice the length.
//! Of more texts it makes no table.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

use crate::error::Error;

/// The most texts that a table is made of.
const TABLE_TEXTS: usize = 100;
/// Steps from suffix to suffix at most: about three seconds. The hundred longest tokens of published models make some millions.
const MOST_STEPS: usize = 1 << 26;

/// The part of a `tokenizer.json` that is looked at here.
#[derive(Deserialize)]
pub(super) struct AddedTokens {
    #[serde(default)]
    added_tokens: Vec<AddedText>,
}

#[derive(Deserialize)]
struct AddedText {
    content: String,
    #[serde(default)]
    normalized: bool,
}

impl AddedTokens {
    /// # Errors
    /// [`Error::Malformed`] if they would take too long. Those that are normalised have a table of their own.
    pub(super) fn check(&self, path: &Path) -> Result<(), Error> {
        [false, true].into_iter().try_for_each(|normalized| {
            let texts = self.added_tokens.iter().filter(|added| added.normalized == normalized);
            check(texts.map(|added| added.content.as_str()), path)
        })
    }
}

/// Refuses texts whose table would take too long.
///
/// # Errors
/// [`Error::Malformed`].
pub(super) fn check<'a>(texts: impl Iterator<Item = &'a str> + Clone, path: &Path) -> Result<(), Error> {
    if texts.clone().count() > TABLE_TEXTS {
        return Ok(());
    }
    let bytes: BTreeSet<u8> = texts.clone().flat_map(str::bytes).collect();
    // Every byte that occurs, and what lies between.
    let classes = 2 * bytes.len() + 1;
    // After n bytes there are less than n suffixes.
    let squares = texts.fold(0usize, |sum, text| sum.saturating_add(text.len().saturating_mul(text.len())));
    if squares.saturating_mul(classes) / 2 <= MOST_STEPS {
        return Ok(());
    }
    Err(Error::Malformed { path: path.to_path_buf(), reason: "its added tokens are too long".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_refused_and_many_are_not() {
        let check = |texts: &[String]| check(texts.iter().map(String::as_str), Path::new("tokenizer.json"));
        let reserved: Vec<String> =
            (0..100).map(|n| format!("<|reserved_special_token_with_a_long_name_{n}|>")).collect();
        check(&reserved).unwrap();
        // Runs of spaces, as models of code have them.
        check(&(1..100).map(|n| " ".repeat(n)).collect::<Vec<_>>()).unwrap();
        check(&["x".repeat(4096)]).unwrap();
        assert!(matches!(check(&["x".repeat(16_384)]), Err(Error::Malformed { .. })));
        let varied: String = ('!'..='~').cycle().take(800).collect();
        assert!(check(std::slice::from_ref(&varied)).is_ok_and(|()| check(&vec![varied; 2]).is_err()));
        check(&vec!["x".repeat(16_384); 101]).unwrap();
    }
}
