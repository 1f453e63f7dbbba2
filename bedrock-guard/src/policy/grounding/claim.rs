//! What a judge from outside is asked: the sentences of a response, each with passages of the source.

use std::collections::HashSet;

use crate::policy::content::window;

/// The sentences of a response. What has no letter or digit is none.
pub(crate) fn sentences(text: &str) -> Vec<&str> {
    let (mut start, mut out) = (0, Vec::new());
    let bytes = text.as_bytes();
    for at in 1..=text.len() {
        let ends = at == text.len()
            || bytes[at - 1] == b'\n'
            || (matches!(bytes[at - 1], b'.' | b'!' | b'?') && bytes[at].is_ascii_whitespace());
        if ends {
            // All places where a sentence ends are behind an ASCII character or the end.
            let sentence = text[start..at].trim();
            start = at;
            if sentence.contains(char::is_alphanumeric) {
                out.push(sentence);
            }
        }
    }
    out
}

/// A source in passages of at most `most` bytes that end, if they can, with a sentence.
pub(crate) fn passages(source: &str, most: usize) -> Vec<&str> {
    let (mut start, mut out) = (0, Vec::new());
    while start < source.len() {
        let end = window::end_within(source, start, true, most).unwrap_or(source.len());
        out.push(&source[start..end]);
        start = end;
    }
    out
}

/// How many words of more than three bytes two texts share.
pub(crate) fn shared(one: &str, other: &str) -> usize {
    let words = |text: &str| -> HashSet<String> {
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() > 3).map(str::to_lowercase).collect()
    };
    words(one).intersection(&words(other)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_end_with_their_signs() {
        assert_eq!(sentences("One is 1.5. Two!\nThree? ... é"), ["One is 1.5.", "Two!", "Three?", "é"]);
        assert!(sentences(" .. ").is_empty());
    }

    #[test]
    fn passages_cover_the_source() {
        let source = "The tower is 330 metres tall. It was built in 1889. ".repeat(40);
        let passages = passages(&source, 200);
        assert!(passages.iter().all(|passage| passage.len() <= 200));
        assert_eq!(passages.concat(), source);
        assert_eq!(shared("The Tower was built", "a built tower"), 2);
    }
}
