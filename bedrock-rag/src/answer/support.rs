//! Which passage a sentence rests on, when the model does not say.

use std::collections::HashSet;

use unicode_segmentation::UnicodeSegmentation;

/// English words that say nothing about what a sentence is about.
const STOP_WORDS: &[&str] = &[
    "a", "about", "after", "all", "also", "an", "and", "any", "are", "as", "at", "be", "been", "before", "but", "by",
    "can", "could", "did", "do", "does", "for", "from", "had", "has", "have", "he", "her", "his", "how", "if", "in",
    "into", "is", "it", "its", "may", "more", "most", "must", "no", "not", "of", "on", "or", "other", "our", "she",
    "should", "so", "some", "such", "than", "that", "the", "their", "them", "then", "there", "these", "they", "this",
    "those", "to", "up", "was", "we", "were", "what", "when", "where", "which", "who", "will", "with", "would", "you",
    "your",
];

/// What a number weighs against a word: a sentence with another number says another thing.
const NUMBER_WEIGHT: f32 = 3.0;

/// Words that carry meaning, crudely stemmed: the first six letters, so that "approval" and "approved" meet.
fn content_words(text: &str) -> HashSet<String> {
    text.unicode_words()
        .map(str::to_lowercase)
        .filter(|word| !STOP_WORDS.contains(&word.as_str()))
        .map(|word| {
            if word.contains(|character: char| character.is_ascii_digit()) {
                return word;
            }
            let word = word.strip_suffix("'s").unwrap_or(&word);
            let word = word.strip_suffix('s').filter(|stem| stem.len() > 2).unwrap_or(word);
            word.chars().take(6).collect()
        })
        .collect()
}

/// The weighted share of a sentence's content words that a passage has too, 0 to 1; numbers weigh three times as much.
/// A sentence without content words is supported by nothing.
pub(super) fn lexical(sentence: &str, passage: &str) -> f32 {
    let wanted = content_words(sentence);
    let found = content_words(passage);
    let weight = |word: &String| {
        if word.contains(|character: char| character.is_ascii_digit()) { NUMBER_WEIGHT } else { 1.0 }
    };
    let total: f32 = wanted.iter().map(weight).sum();
    if total == 0.0 {
        return 0.0;
    }
    wanted.iter().filter(|word| found.contains(*word)).map(weight).sum::<f32>() / total
}

/// How well a passage supports a sentence: the mean of [`lexical`] and the cosine of their embeddings (only the former
/// where there is no embedding).
pub(super) fn support(sentence: &str, passage: &str, cosine: Option<f32>) -> f32 {
    let lexical = lexical(sentence, passage);
    cosine.map_or(lexical, |cosine| (lexical + cosine.clamp(0.0, 1.0)) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_words_by_hand() {
        let passage = "Employees get 30 days of holiday a year; managers approve it.";
        assert_eq!(lexical("Employees get 30 days.", passage), 1.0);
        // get, days: 1 each, found; 25: weight 3, not found; employ: found.
        assert_eq!(lexical("Employees get 25 days.", passage), 3.0 / 6.0);
        assert_eq!(lexical("Approval by the manager", passage), 0.5 + 0.5);
        assert_eq!(lexical("It is so.", passage), 0.0);
        assert_eq!(support("Employees get 30 days.", passage, Some(0.5)), 0.75);
    }
}
