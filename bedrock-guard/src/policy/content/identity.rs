//! Words that say what people are. To the filters they are all one word: a sentence about Muslims and the same sentence about
//! Christians have the same score, because the filter can't tell them apart.

/// What stands in place of such a word. The blank-free sign can't come from a text: normal text has no letter in upper case.
pub(crate) const GROUP: &str = "Groupof";

/// Nouns and adjectives, no slurs, sorted. Plurals in `s` are found by their singular.
#[rustfmt::skip]
const WORDS: &[&str] = &[
    "aboriginal", "african", "aged", "albanian", "algerian", "american", "amputee", "arab", "arabic", "argentinian", "armenian",
    "asexual", "asian", "atheist", "australian", "austrian", "autistic", "baptist", "bengali", "bi", "bisexual", "black", "blind",
    "brazilian", "british", "buddhist", "bulgarian", "cambodian", "canadian", "catholic", "chilean", "chinese", "christian",
    "colombian", "croatian", "cuban", "czech", "deaf", "disabled", "dominican", "dutch", "dyslexic", "eastern", "egyptian",
    "elderly", "ethiopian", "european", "female", "feminist", "filipina", "filipino", "foreigner", "french", "gay", "german",
    "ghanaian", "girl", "greek", "gypsy", "haitian", "heterosexual", "hindu", "hispanic", "homosexual", "hungarian", "immigrant",
    "indian", "indigenous", "indonesian", "intersex", "iranian", "iraqi", "irish", "israeli", "italian", "jamaican", "japanese",
    "jew", "jewish", "jordanian", "kenyan", "korean", "kurd", "kurdish", "lady", "latina", "latino", "latinx", "lebanese",
    "lesbian", "lgbt", "lgbtq", "lgbtqia", "libyan", "lutheran", "male", "man", "men", "mexican", "middleaged", "migrant",
    "millenial", "millennial", "mormon", "moroccan", "muslim", "native", "nigerian", "nonbinary", "norwegian", "old", "older",
    "pakistani", "palestinian", "paralysed", "paralyzed", "persian", "peruvian", "polish", "portuguese", "protestant",
    "quadriplegic", "queer", "refugee", "roma", "romani", "romanian", "russian", "saudi", "scottish", "senior", "serbian", "sikh",
    "somali", "spanish", "straight", "swedish", "syrian", "taiwanese", "taoist", "teenage", "teenager", "thai", "trans",
    "transgender", "transgendered", "transsexual", "transwoman", "transwomen", "tunisian", "turk", "turkish", "ukrainian",
    "vietnamese", "white", "woman", "women", "yemeni", "young", "younger", "zulu",
];

/// Whether the word (lower case, no signs) is one of them.
pub(crate) fn is_identity(word: &str) -> bool {
    let known = |word: &str| WORDS.binary_search(&word).is_ok();
    known(word)
        || word.strip_suffix('s').is_some_and(known)
        || word.strip_suffix("ies").is_some_and(|stem| stem == "lad" || stem == "gyps")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_plurals_are_found() {
        assert!(WORDS.is_sorted());
        for word in ["muslims", "women", "jews", "gypsies", "black", "chinese"] {
            assert!(is_identity(word), "{word}");
        }
        assert!(!is_identity("people") && !is_identity("s"));
    }
}
