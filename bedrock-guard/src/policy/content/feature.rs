//! What a linear filter counts in a normal text: words, runs of words and runs of letters, hashed, and runs of classes of words.

use std::sync::LazyLock;

use super::identity::GROUP;
use super::lexicon::{Classes, class, classes};

/// Rows of the table of weights, as a power of two.
pub(crate) const BITS: u32 = 18;

/// What a feature is a run of; each kind is averaged by itself, so that none drowns the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One to three words.
    Words = 0,
    /// Three to five bytes.
    Letters = 1,
    /// One to four classes of words.
    Classes = 2,
    /// A word or a class together with what else the text has: a group of people, a denial, a quotation, a condemnation. "Vermin"
    /// is hate of a group, a matter of taste of mice, and neither in a quotation that is condemned.
    Context = 3,
}

/// How many kinds there are.
pub(crate) const KINDS: usize = 4;

/// Features that are remembered in order not to be counted twice, as a power of two.
const SEEN_BITS: u32 = 13;

const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

fn bucket(key: u64) -> u32 {
    let key = (key ^ key >> 29).wrapping_mul(MIX);
    ((key ^ key >> 32).wrapping_mul(MIX) >> (64 - BITS)) as u32
}

fn hash(word: &[u8]) -> u64 {
    word.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// Classes that make the context of a text.
static CONTEXT: LazyLock<[Classes; 3]> = LazyLock::new(|| [class("negation"), class("wrong"), class("slur")]);

/// What else a text has, as bits.
fn context(words: &[(&str, Classes)]) -> u64 {
    let [negation, wrong, slur] = *CONTEXT;
    words.iter().fold(0, |context, (word, found)| {
        context
            | u64::from(*word == GROUP || found & slur != 0)
            | u64::from(found & negation != 0) << 1
            | u64::from(found & wrong != 0) << 2
            | u64::from(*word == "\"") << 3
    })
}

/// Calls `sink` for the features of a text made by [`normal`](super::normal::normal), for nearly all once: to say a thing twice
/// is not to say it twice as much. "Nearly", because what was seen is kept in a table in which the later feature wins.
pub(crate) fn features(normal: &str, mut sink: impl FnMut(Kind, u32)) {
    let mut seen = [u32::MAX; 1 << SEEN_BITS];
    let mut once = |kind: Kind, row: u32| {
        let place = &mut seen[(row & ((1 << SEEN_BITS) - 1)) as usize];
        if std::mem::replace(place, row) != row {
            sink(kind, row);
        }
    };
    let bytes = normal.as_bytes();
    for at in 0..bytes.len().saturating_sub(2) {
        let mut run = u64::from(bytes[at]) | u64::from(bytes[at + 1]) << 8;
        for length in 2..(bytes.len() - at).min(5) {
            run |= u64::from(bytes[at + length]) << (8 * length);
            once(Kind::Letters, bucket(run | (length as u64) << 56));
        }
    }
    let words: Vec<(&str, Classes)> = normal.split_ascii_whitespace().map(|word| (word, classes(word))).collect();
    let context = context(&words).wrapping_add(1).wrapping_mul(0x9e6d_1f35);
    let (mut before, mut last, mut run) = (0u64, 0u64, [0u64; 4]);
    for (text, classes) in words {
        let word = hash(text.as_bytes());
        once(Kind::Words, bucket(word));
        once(Kind::Words, bucket(last.rotate_left(17) ^ word.wrapping_mul(3)));
        let three = before.rotate_left(31) ^ last.rotate_left(17).wrapping_mul(5) ^ word.wrapping_mul(7);
        once(Kind::Words, bucket(three));
        once(Kind::Words, bucket(before.rotate_left(41) ^ word.wrapping_mul(11)));
        once(Kind::Context, bucket(word.rotate_left(7) ^ context));
        (before, last) = (last, word);

        // A word is the name of its classes, or itself if it is short (most short words are grammar), or any word.
        let name = match classes {
            0 if text.len() <= 3 || text == GROUP => word,
            0 => 1,
            classes => u64::from(classes).wrapping_mul(MIX) | 1,
        };
        for class in (0..u32::BITS).filter(|class| classes >> class & 1 == 1) {
            once(Kind::Classes, bucket(0xc1a5_5000 + u64::from(class)));
            once(Kind::Context, bucket((0xc1a5_5000 + u64::from(class)).rotate_left(7) ^ context));
        }
        run.rotate_right(1);
        run[0] = name;
        let mut key = 0x0c1a_55e5u64;
        for name in run {
            key = (key.rotate_left(23) ^ name).wrapping_mul(MIX);
            once(Kind::Classes, bucket(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<u32> {
        let mut rows = Vec::new();
        features(text, |_, row| rows.push(row));
        rows
    }

    #[test]
    fn what_is_said_twice_counts_once() {
        let rows = rows(" ab cd ab cd ab cd ");
        let mut unique = rows.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), rows.len());
    }

    #[test]
    fn the_shortest_texts_have_few_features() {
        assert!(rows(" ").is_empty());
        assert!(!rows(" a ").is_empty());
    }
}
