//! What speaks for a response being supported by a source, and answering a query: numbers between 0 and 1 that need no model of language.
//!
//! Lengths are no evidence here: short right answers and long wrong ones are an accident of data sets.

use std::collections::HashSet;
use std::ops::Range;

/// Numbers about support.
pub(crate) const SUPPORT: usize = 20;
/// Numbers about relevance.
pub(crate) const RELEVANCE: usize = 5;

/// A word of a text, as it is compared.
#[derive(Debug)]
pub(super) struct Word {
    /// Its bytes.
    pub(super) span: Range<usize>,
    /// Lower case, without endings.
    pub(super) stem: String,
    /// Stands for an answer where it opens a response.
    reply: bool,
    /// Says something by itself.
    pub(super) content: bool,
    pub(super) number: bool,
    /// Written with a capital letter inside a sentence.
    pub(super) name: bool,
    /// Turns what is said into its opposite.
    pub(super) negates: bool,
    /// Says how far something holds.
    pub(super) bounds: bool,
    /// Of talk about oneself.
    pub(super) personal: bool,
}

pub(super) struct Sentence {
    pub(super) words: Vec<Word>,
    negated: bool,
}

#[rustfmt::skip]
const COMMON: &[&str] = &[
    "a", "about", "after", "also", "am", "an", "and", "are", "as", "at", "be", "been", "before", "being", "but", "by", "can", "could", "did", "do",
    "does", "for", "from", "had", "has", "have", "he", "her", "him", "his", "how", "i", "if", "in", "into", "is", "it", "its", "just", "many", "me",
    "more", "most", "much", "my", "no", "not", "of", "on", "one", "or", "other", "our", "out", "over", "she", "so", "some", "such", "than", "that",
    "the", "their", "them", "then", "there", "these", "they", "this", "to", "too", "up", "very", "was", "we", "were", "what", "when", "where",
    "which", "while", "who", "why", "will", "with", "would", "you", "your",
];
const NEGATIONS: &[&str] = &[
    "not", "no", "never", "none", "nor", "neither", "without", "cannot", "nobody", "nothing", "unable", "failed",
    "refused", "false", "denied", "lack", "lacked", "lacks", "isnt", "wasnt", "dont", "didnt", "doesnt", "cant",
    "couldnt", "wont", "wouldnt", "hasnt", "hadnt", "arent", "werent",
];
#[rustfmt::skip]
const PERSONAL: &[&str] = &[
    "i", "im", "ive", "my", "me", "you", "your", "we", "think", "guess", "wow", "yeah", "yes", "oh", "sure", "lol", "maybe", "probably", "know",
    "haha", "hi", "hello", "thanks", "heard", "wonder", "agree", "true", "really", "personally",
];
#[rustfmt::skip]
const BOUNDS: &[&str] = &[
    "only", "never", "always", "all", "none", "every", "first", "last", "most", "least", "before", "after", "more", "less", "same", "both",
    "different", "earlier", "later", "older", "younger", "larger", "smaller", "best", "worst", "sole", "entirely", "exactly", "twice", "once", "single",
];
/// Words that answer the speaker before: what follows them says yes or no to something that the source need not have.
#[rustfmt::skip]
const REPLIES: &[&str] = &["yes", "yeah", "yea", "ya", "yep", "no", "nope", "nah", "oh", "well", "sure", "ok", "okay"];
/// Words in which a strange part of a response stands out.
const WINDOW: usize = 6;
const NUMBERS: &[&str] =
    &["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];

fn stem(word: &str) -> &str {
    let word = word.strip_suffix("'s").unwrap_or(word);
    for ending in ["ingly", "edly", "ing", "ied", "ies", "ed", "es", "ly", "s", "e", "y"] {
        if let Some(stem) = word.strip_suffix(ending)
            && stem.len() > 2
        {
            return stem;
        }
    }
    word
}

pub(super) fn sentences(text: &str) -> Vec<Sentence> {
    let mut out = Vec::new();
    let mut sentence = Sentence { words: Vec::new(), negated: false };
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_alphanumeric()) {
        let inner = |c: char| c.is_alphanumeric() || matches!(c, '\'' | '\u{2019}');
        let tail = &rest[start..];
        let mut end = tail.find(|c: char| !inner(c)).unwrap_or(tail.len());
        let number = tail.starts_with(|c: char| c.is_ascii_digit());
        if number {
            end = tail.find(|c: char| !(inner(c) || matches!(c, ',' | '.'))).unwrap_or(tail.len());
        }
        let raw = tail[..end].trim_end_matches([',', '.', '\'', '\u{2019}']);
        end = raw.len().max(1);
        let lower: String = raw.to_lowercase().chars().filter(|c| !matches!(c, ',' | '\u{2019}' | '\'')).collect();
        let lower = NUMBERS.iter().position(|name| *name == lower).map_or(lower, |value| value.to_string());
        let number = number || lower.bytes().all(|byte| byte.is_ascii_digit());
        let common = COMMON.binary_search(&lower.as_str()).is_ok();
        let negates = NEGATIONS.contains(&lower.as_str());
        sentence.negated |= negates;
        let from = text.len() - tail.len();
        sentence.words.push(Word {
            span: from..from + end.min(tail.len()),
            negates,
            bounds: BOUNDS.contains(&lower.as_str()),
            personal: PERSONAL.contains(&lower.as_str()),
            reply: REPLIES.contains(&lower.as_str()),
            stem: if number { lower } else { stem(&lower).to_owned() },
            content: !common,
            number,
            name: !sentence.words.is_empty() && !common && raw.starts_with(char::is_uppercase),
        });
        rest = &tail[end.min(tail.len())..];
        let mut signs = rest.chars().take_while(|c| !c.is_alphanumeric());
        if signs.any(|c| matches!(c, '.' | '!' | '?' | '\n')) && !rest.starts_with(char::is_alphanumeric) {
            out.push(std::mem::replace(&mut sentence, Sentence { words: Vec::new(), negated: false }));
        }
    }
    if !sentence.words.is_empty() {
        out.push(sentence);
    }
    out
}

fn share(part: usize, whole: usize, of_nothing: f32) -> f32 {
    if whole == 0 { of_nothing } else { part as f32 / whole as f32 }
}

fn known<'w>(words: impl Iterator<Item = &'w Word>, in_source: &HashSet<&str>) -> (usize, usize) {
    words.fold((0, 0), |(known, all), word| (known + usize::from(in_source.contains(word.stem.as_str())), all + 1))
}

/// How a response stands to a source. What has nothing to be compared is fully supported.
pub(crate) fn support(source: &str, query: &str, response: &str) -> [f32; SUPPORT] {
    let (source_sentences, query_sentences, claims) = (sentences(source), sentences(query), sentences(response));
    let source_words: Vec<&Word> = source_sentences.iter().flat_map(|sentence| &sentence.words).collect();
    let words: Vec<&Word> = claims.iter().flat_map(|claim| &claim.words).collect();
    let in_source: HashSet<&str> = source_words.iter().map(|word| word.stem.as_str()).collect();
    let in_query: HashSet<&str> =
        query_sentences.iter().flat_map(|sentence| &sentence.words).map(|word| word.stem.as_str()).collect();
    let content = || words.iter().copied().filter(|word| word.content);

    let (found, all) = known(content(), &in_source);
    let missing = all - found;
    let mut least = 1.0f32;
    let (mut best_sum, mut opposed) = (0.0, 0usize);
    for claim in &claims {
        let content = || claim.words.iter().filter(|word| word.content);
        let (found, all) = known(content(), &in_source);
        least = least.min(share(found, all, 1.0));
        let (mut best, mut negated) = (0.0, false);
        for sentence in &source_sentences {
            let there: HashSet<&str> = sentence.words.iter().map(|word| word.stem.as_str()).collect();
            let (found, all) = known(content(), &there);
            let recall = share(found, all, 1.0);
            if recall > best {
                (best, negated) = (recall, sentence.negated);
            }
        }
        best_sum += best;
        opposed += usize::from(claim.negated != negated);
    }
    let runs = |length: usize| {
        let there: HashSet<Vec<&str>> =
            source_words.windows(length).map(|run| run.iter().map(|word| word.stem.as_str()).collect()).collect();
        let here = words.windows(length).map(|run| run.iter().map(|word| word.stem.as_str()).collect::<Vec<_>>());
        here.fold((0, 0), |(found, all), run| (found + usize::from(there.contains(&run)), all + 1))
    };
    let (two, three) = (runs(2), runs(3));
    let numbers = || words.iter().copied().filter(|word| word.number);
    let names = || words.iter().copied().filter(|word| word.name);
    let (numbers_found, numbers_all) = known(numbers(), &in_source);
    let (names_found, names_all) = known(names(), &in_source);
    let personal = words.iter().filter(|word| word.personal).count();
    let strange_bounds = words.iter().filter(|word| word.bounds && !in_source.contains(word.stem.as_str())).count();
    let missing_words = || content().filter(|word| !in_source.contains(word.stem.as_str()));
    let echoed = missing_words().filter(|word| in_query.contains(word.stem.as_str())).count();
    let asked = content().filter(|word| in_query.contains(word.stem.as_str())).count();
    [
        share(found, all, 1.0),
        least,
        share(two.0, two.1, 1.0),
        share(three.0, three.1, 1.0),
        share(longest_run(&words, &source_words), words.len(), 1.0),
        if claims.is_empty() { 1.0 } else { best_sum / claims.len() as f32 },
        share(numbers_all - numbers_found, numbers_all, 0.0),
        f32::from(u8::from(numbers_found < numbers_all)),
        share(names_all - names_found, names_all, 0.0),
        share(opposed, claims.len(), 0.0),
        share(personal, words.len(), 0.0).min(0.3) / 0.3,
        f32::from(u8::from(response.contains('?'))),
        missing.min(5) as f32 / 5.0,
        fragments(source, response),
        share(echoed, missing, 0.0),
        strange_bounds.min(2) as f32 / 2.0,
        share(asked, all, 0.0),
        f32::from(u8::from(response.contains('!'))),
        strangest(&words, &in_source),
        f32::from(u8::from(words.first().is_some_and(|word| word.reply))),
    ]
}

/// How a response stands to a query, through the source if there is one.
pub(crate) fn relevance(source: &str, query: &str, response: &str) -> [f32; RELEVANCE] {
    let (source, asked, claims) = (sentences(source), sentences(query), sentences(response));
    let stems = |sentences: &[Sentence]| -> HashSet<String> {
        let words = sentences.iter().flat_map(|sentence| &sentence.words);
        words.filter(|word| word.content).map(|word| word.stem.clone()).collect()
    };
    let (query_stems, response_stems) = (stems(&asked), stems(&claims));
    let in_response = query_stems.intersection(&response_stems).count();
    // The sentences of the source that the response draws on, weighed by how much.
    let (mut through, mut best) = (0.0f32, 0.0f32);
    for sentence in source {
        let there = stems(std::slice::from_ref(&sentence));
        let drawn = share(there.intersection(&response_stems).count(), response_stems.len(), 0.0);
        let about = share(there.intersection(&query_stems).count(), query_stems.len(), 0.0);
        through = through.max(drawn * about);
        if drawn > best {
            best = drawn;
        }
    }
    let lower = query.to_lowercase();
    let wants_number =
        ["how many", "how much", "when", "what year", "how old", "how long"].iter().any(|cue| lower.contains(cue));
    let has_number = claims.iter().flat_map(|claim| &claim.words).any(|word| word.number);
    [
        share(in_response, query_stems.len(), 1.0),
        share(in_response, response_stems.len(), 0.0),
        through,
        best,
        f32::from(u8::from(wants_number && !has_number)),
    ]
}

/// Share of known words in the run of words that has the fewest.
fn strangest(words: &[&Word], in_source: &HashSet<&str>) -> f32 {
    let of = |run: &[&Word]| known(run.iter().copied(), in_source).0;
    let length = words.len().min(WINDOW);
    share(words.windows(length.max(1)).map(of).min().unwrap_or(0), length, 1.0)
}

/// Words of the longest run that both have.
fn longest_run(words: &[&Word], source: &[&Word]) -> usize {
    let mut ends = vec![0usize; source.len() + 1];
    let mut longest = 0;
    for word in words {
        // From the right, so that the diagonal before is still that of the word before.
        for at in (0..source.len()).rev() {
            ends[at + 1] = if source[at].stem == word.stem { ends[at] + 1 } else { 0 };
            longest = longest.max(ends[at + 1]);
        }
    }
    longest
}

/// Share of the runs of five characters of the response that the source has.
fn fragments(source: &str, response: &str) -> f32 {
    let plain = |text: &str| -> Vec<char> { text.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect() };
    let (source, response) = (plain(source), plain(response));
    let there: HashSet<&[char]> = source.windows(5).collect();
    let found = response.windows(5).filter(|run| there.contains(run)).count();
    share(found, response.len().saturating_sub(4), 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "Crayola began as a pigment company in 1885. It did not make crayons until 1903.";

    #[test]
    fn lists_are_sorted_where_they_are_searched() {
        assert!(COMMON.is_sorted());
    }

    #[test]
    fn a_copy_is_supported_and_a_stranger_is_not() {
        let copy = support(SOURCE, "", "It did not make crayons until 1903.");
        assert!(copy[..6].iter().all(|share| *share > 0.99), "{copy:?}");
        assert_eq!((copy[6], copy[9]), (0.0, 0.0));
        let strange = support(SOURCE, "", "Lego opened a theme park in Denmark during 1968!");
        assert!(strange[0] < 0.2 && strange[7] == 1.0 && strange[8] == 1.0, "{strange:?}");
    }

    #[test]
    fn a_denial_is_noticed() {
        assert_eq!(support(SOURCE, "", "Crayola did not begin as a pigment company in 1885.")[9], 1.0);
    }

    #[test]
    fn a_strange_part_of_a_long_copy_stands_out() {
        let copy = "Crayola began as a pigment company in 1885.";
        let longer = format!("{copy} It did not make crayons until 1903");
        let strange = format!("{longer}, when our dear uncle Bob bought shares.");
        assert_eq!(support(SOURCE, "", &longer)[18], 1.0);
        assert_eq!(support(SOURCE, "", &strange)[18], 0.0);
    }

    #[test]
    fn listed_words_are_known_in_full() {
        let only = support(SOURCE, "", "Crayola made only crayons, maybe.");
        assert_eq!((only[15], only[10] > 0.0), (0.5, true));
        let of = |text: &str| sentences(text).remove(0).words.remove(0);
        assert!(["Only", "always", "before", "never"].iter().all(|word| of(word).bounds));
        assert!(["I'm", "guess", "really", "true"].iter().all(|word| of(word).personal));
        assert!(!of("crayon").bounds && !of("crayon").personal);
    }

    #[test]
    fn a_reply_is_told_from_a_statement() {
        assert_eq!(support(SOURCE, "Did it?", "Yes, crayola began as a pigment company.")[19], 1.0);
        assert_eq!(support(SOURCE, "Did it?", "It said yes.")[19], 0.0);
    }

    #[test]
    fn nothing_is_supported_by_anything() {
        for (source, response) in [("", ""), (SOURCE, ""), ("", "Something."), ("...", "?!"), ("1,", "1,.")] {
            assert!(support(source, "", response).iter().all(|number| (0.0..=1.0).contains(number)));
            assert!(relevance(source, "", response).iter().all(|number| (0.0..=1.0).contains(number)));
        }
    }
}
