//! What is known about the tokens of a text, and cutting them to length.

use std::ops::Range;

use tokenizers::utils::truncation::TruncationDirection;

/// How to encode: see [`Tokenizer::encode_with`](super::Tokenizer::encode_with).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Add the special tokens that the model expects. Default: yes.
    pub add_special: bool,
    /// Cut to this many tokens, added special tokens included. Default: no limit.
    pub max_tokens: Option<usize>,
    /// Which text of a pair is cut. Default: the longest first.
    pub strategy: TruncationStrategy,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        Self { add_special: true, max_tokens: None, strategy: TruncationStrategy::LongestFirst }
    }
}

/// Which text of a pair loses tokens when the pair is too long. Tokens are always cut from the end of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TruncationStrategy {
    /// Tokens are taken from the longer text until both are equally long, then from both.
    #[default]
    LongestFirst,
    /// Only the first text is cut. If it is used up, the second text follows.
    OnlyFirst,
    /// Only the second text is cut. If it is used up, the first text follows.
    OnlySecond,
}

/// Tokens of one text or of a pair of texts. All vectors have one entry a token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Encoding {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Segment ids, which some encoders take as an input: 0 for the first text, mostly 1 for the second.
    pub type_ids: Vec<u32>,
    /// The range of the token in its own text, in bytes. Empty at 0 for added special tokens.
    pub offsets: Vec<Range<usize>>,
    /// Whether the token was added, so stands for no part of a text.
    pub added: Vec<bool>,
    /// The text that the token comes from (0 or 1), `None` for added tokens.
    pub sequence: Vec<Option<u8>>,
    /// Number of tokens that truncation removed.
    pub truncated: usize,
}

impl Encoding {
    pub(super) fn new(encoding: &tokenizers::Encoding, truncated: usize) -> Self {
        let added: Vec<bool> = encoding.get_special_tokens_mask().iter().map(|&mask| mask == 1).collect();
        // Without any sequence range (no post-processor, one text) everything belongs to the first text.
        let sequences = encoding.get_sequence_ids();
        let sequence = sequences
            .into_iter()
            .zip(&added)
            .map(|(sequence, &added)| if added { None } else { Some(sequence.unwrap_or(0) as u8) })
            .collect();
        Self {
            ids: encoding.get_ids().to_vec(),
            type_ids: encoding.get_type_ids().to_vec(),
            offsets: encoding.get_offsets().iter().map(|&(start, end)| start..end).collect(),
            added,
            sequence,
            truncated,
        }
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The offsets in Unicode code points instead of bytes. The texts must be those that were encoded.
    pub fn char_offsets(&self, first: &str, second: Option<&str>) -> Vec<Range<usize>> {
        let maps = [CharMap::new(first), CharMap::new(second.unwrap_or_default())];
        self.offsets
            .iter()
            .zip(&self.sequence)
            .map(|(range, sequence)| sequence.map_or(0..0, |sequence| maps[usize::from(sequence.min(1))].chars(range)))
            .collect()
    }
}

/// Converts byte positions in a text to code point positions.
struct CharMap {
    /// The code point that each byte belongs to, and one entry for the end. Empty if all bytes are characters.
    char_of_byte: Vec<usize>,
}

impl CharMap {
    fn new(text: &str) -> Self {
        if text.is_ascii() {
            return Self { char_of_byte: Vec::new() };
        }
        let mut char_of_byte = Vec::with_capacity(text.len() + 1);
        let mut chars = 0;
        for character in text.chars() {
            char_of_byte.extend(std::iter::repeat_n(chars, character.len_utf8()));
            chars += 1;
        }
        char_of_byte.push(chars);
        Self { char_of_byte }
    }

    fn chars(&self, bytes: &Range<usize>) -> Range<usize> {
        if self.char_of_byte.is_empty() {
            return bytes.clone();
        }
        let last = self.char_of_byte.len() - 1;
        let start = self.char_of_byte[bytes.start.min(last)];
        // A token may end inside a character (byte-level vocabularies); it then covers that character.
        let end = match bytes.end.min(last) {
            0 => 0,
            end if end <= bytes.start => start,
            end => {
                let at = self.char_of_byte[end];
                if self.char_of_byte[end - 1] == at { at + 1 } else { at }
            }
        };
        start..end
    }
}

/// Cuts a text or a pair to `room` tokens, from the end.
pub(super) fn truncate(
    first: &mut tokenizers::Encoding,
    second: Option<&mut tokenizers::Encoding>,
    room: usize,
    strategy: TruncationStrategy,
) {
    let cut = |encoding: &mut tokenizers::Encoding, len: usize| {
        if encoding.len() > len {
            encoding.truncate(len, 0, TruncationDirection::Right);
            encoding.take_overflowing();
        }
    };
    let Some(second) = second else { return cut(first, room) };
    let (keep_first, keep_second) = kept(first.len(), second.len(), room, strategy);
    cut(first, keep_first);
    cut(second, keep_second);
}

/// How many tokens of each text stay.
fn kept(first: usize, second: usize, room: usize, strategy: TruncationStrategy) -> (usize, usize) {
    if first + second <= room {
        return (first, second);
    }
    match strategy {
        TruncationStrategy::LongestFirst => {
            let (short, long) = (first.min(second), first.max(second));
            // Either cutting the longer text is enough, or both end up with half; the odd token is the longer one's.
            let (short, long) =
                if short + short <= room { (short, (room - short).min(long)) } else { (room / 2, room - room / 2) };
            if first <= second { (short, long) } else { (long, short) }
        }
        TruncationStrategy::OnlyFirst => {
            let second = second.min(room);
            (room - second, second)
        }
        TruncationStrategy::OnlySecond => {
            let first = first.min(room);
            (first, room - first)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_first_evens_the_lengths_out() {
        let kept = |a, b, room| super::kept(a, b, room, TruncationStrategy::LongestFirst);
        assert_eq!(kept(3, 4, 10), (3, 4));
        assert_eq!(kept(3, 9, 10), (3, 7));
        assert_eq!(kept(9, 3, 10), (7, 3));
        assert_eq!(kept(9, 9, 7), (3, 4));
        assert_eq!(kept(10, 9, 7), (4, 3));
        assert_eq!(kept(9, 9, 0), (0, 0));
        assert_eq!(kept(1, 9, 1), (0, 1));
    }

    #[test]
    fn one_sided_strategies_cut_one_side_while_it_lasts() {
        assert_eq!(kept(5, 4, 6, TruncationStrategy::OnlyFirst), (2, 4));
        assert_eq!(kept(5, 9, 6, TruncationStrategy::OnlyFirst), (0, 6));
        assert_eq!(kept(5, 4, 6, TruncationStrategy::OnlySecond), (5, 1));
        assert_eq!(kept(8, 4, 6, TruncationStrategy::OnlySecond), (6, 0));
    }

    #[test]
    fn byte_ranges_become_character_ranges() {
        let text = "aé🍯b";
        let map = CharMap::new(text);
        assert_eq!(map.chars(&(0..1)), 0..1);
        assert_eq!(map.chars(&(1..3)), 1..2);
        assert_eq!(map.chars(&(3..7)), 2..3);
        assert_eq!(map.chars(&(3..5)), 2..3, "part of a character counts as the character");
        assert_eq!(map.chars(&(7..8)), 3..4);
        assert_eq!(map.chars(&(8..8)), 4..4);
        assert_eq!(CharMap::new("abc").chars(&(1..2)), 1..2);
    }
}
