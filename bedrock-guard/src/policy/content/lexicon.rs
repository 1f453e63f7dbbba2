//! What words do in a sentence: hand-written classes, so that a filter has learned something about words it never met.

use std::collections::HashMap;
use std::sync::LazyLock;

const LEXICON: &str = include_str!("../../../data/lexicon.txt");

/// Classes of a word, one bit each.
pub(crate) type Classes = u32;

static WORDS: LazyLock<HashMap<&'static str, Classes>> = LazyLock::new(|| {
    let mut words: HashMap<&str, Classes> = HashMap::new();
    for (class, line) in LEXICON.lines().filter(|line| !line.starts_with('#')).enumerate() {
        for word in line.split_ascii_whitespace().skip(1) {
            *words.entry(word).or_default() |= 1 << class;
        }
    }
    words
});

/// The bit of a class; 0 if there is no such class.
pub(crate) fn class(name: &str) -> Classes {
    let mut lines = LEXICON.lines().filter(|line| !line.starts_with('#'));
    lines.position(|line| line.split(' ').next() == Some(name)).map_or(0, |class| 1 << class)
}

/// The classes of a word in lower case; 0 for a word of none.
pub(crate) fn classes(word: &str) -> Classes {
    if let Some(known) = WORDS.get(word) {
        return *known;
    }
    ["ers", "ing", "er", "ed", "es", "ly", "s", "d"]
        .iter()
        .find_map(|ending| {
            let stem = word.strip_suffix(ending).filter(|stem| stem.len() > 2)?;
            WORDS.get(stem).or_else(|| {
                // "stabbing", "stealing" but also "hating".
                let bytes = stem.as_bytes();
                let doubled = bytes[bytes.len() - 1] == bytes[bytes.len() - 2];
                if doubled { WORDS.get(&stem[..stem.len() - 1]) } else { None }
            })
        })
        .copied()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_do_not_hide_a_word() {
        for word in ["kill", "kills", "killed", "killing", "killer", "stabbing", "idiots"] {
            assert_ne!(classes(word), 0, "{word}");
        }
        assert_eq!(classes("table"), 0);
    }

    #[test]
    fn classes_have_names() {
        assert_ne!(classes("never") & class("negation"), 0);
        assert_eq!(class("nothing of the kind"), 0);
    }

    #[test]
    fn there_are_bits_for_all_classes() {
        let classes = LEXICON.lines().filter(|line| !line.starts_with('#')).count();
        assert!(classes <= Classes::BITS as usize);
    }
}
