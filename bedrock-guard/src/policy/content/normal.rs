//! Text as the content filters read it: what people do to a word so that a machine misses it is undone.
//!
//! Case, accents, full-width and mathematical letters, Cyrillic and Greek look-alikes, characters that cannot be seen, digits and
//! signs in place of letters (`h4te`), letters set apart (`h a t e`, `h.a.t.e`) and drawn out (`haaate`). What comes out is
//! words and signs with single blanks between; it is for counting, not for showing.

use unicode_normalization::UnicodeNormalization;

use super::identity::{GROUP, is_identity};

/// The text as words and signs in lower case, a blank before, between and after.
pub(crate) fn normal(text: &str) -> String {
    let folded = fold(text);
    let mut out = String::with_capacity(folded.len() + 16);
    out.push(' ');
    let mut rest = folded.as_str();
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() {
            rest = &rest[first.len_utf8()..];
        } else if let Some((joined, after)) = spelled(rest) {
            out.push_str(&joined);
            out.push(' ');
            rest = after;
        } else if first.is_alphanumeric() || is_leet_sign(first) {
            let end = rest.find(|c: char| !in_word(c)).unwrap_or(rest.len());
            // A sign at the end of a word is punctuation, not a letter in disguise.
            let word = rest[..end].trim_end_matches(|c: char| !c.is_alphanumeric());
            if word.is_empty() {
                push_sign(&mut out, first);
                rest = &rest[first.len_utf8()..];
            } else {
                push_word(&mut out, word);
                rest = &rest[word.len()..];
            }
        } else {
            push_sign(&mut out, first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// Lower case, plain letters, nothing invisible.
fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let mut out = String::with_capacity(text.len());
    for character in text.nfkd() {
        match character {
            '\u{300}'..='\u{36f}' => {}
            c if is_invisible(c) => {}
            '\u{2018}' | '\u{2019}' | '\u{201b}' | '\u{2bc}' => out.push('\''),
            '\u{201c}'..='\u{201f}' | '\u{ab}' | '\u{bb}' => out.push('"'),
            '\u{2010}'..='\u{2015}' => out.push('-'),
            c => out.extend(c.to_lowercase().map(look_alike)),
        }
    }
    out
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180b}'..='\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0000}'..='\u{e01ef}')
}

/// The Latin letter that a small letter of another script looks like.
#[rustfmt::skip]
pub(crate) fn look_alike(c: char) -> char {
    match c {
        'а' | 'α' | 'ɑ' => 'a', 'в' | 'β' => 'b', 'с' | 'ϲ' | 'ᴄ' => 'c', 'ԁ' | 'ɗ' => 'd', 'е' | 'ё' | 'ε' | 'є' => 'e', 'ɡ' => 'g',
        'һ' | 'н' => 'h', 'і' | 'ι' | 'ı' | 'ɪ' | 'ї' => 'i', 'ј' => 'j', 'к' | 'κ' => 'k', 'ӏ' | 'ⅼ' => 'l', 'м' => 'm', 'п' | 'η' | 'ո' => 'n',
        'о' | 'ο' | 'σ' | 'օ' | 'ø' => 'o', 'р' | 'ρ' => 'p', 'ԛ' => 'q', 'ѕ' => 's', 'т' | 'τ' => 't', 'υ' | 'ս' | 'μ' => 'u',
        'ν' | 'ѵ' => 'v', 'ԝ' | 'ω' | 'ш' => 'w', 'х' | 'χ' => 'x', 'у' | 'γ' => 'y', 'ᴢ' => 'z',
        other => other,
    }
}

fn is_leet_sign(c: char) -> bool {
    matches!(c, '@' | '$' | '!' | '|')
}

fn in_word(c: char) -> bool {
    c.is_alphanumeric() || is_leet_sign(c) || c == '\'' || c == '_'
}

fn push_sign(out: &mut String, sign: char) {
    out.push(sign);
    out.push(' ');
}

fn push_word(out: &mut String, word: &str) {
    let mut previous = ('\0', 0usize);
    let begin = out.len();
    let disguised = disguised(word);
    let at_user = word.starts_with('@');
    for (at, c) in word.char_indices() {
        let c = match c {
            '\'' | '_' => continue,
            c if disguised && !(at == 0 && at_user) => revealed(c),
            c => c,
        };
        previous = if c == previous.0 { (c, previous.1 + 1) } else { (c, 1) };
        // More than two of a letter are as good as one; of digits all count.
        match previous.1 {
            3 if c.is_alphabetic() => drop(out.pop()),
            n if n > 3 && c.is_alphabetic() => {}
            _ => out.push(c),
        }
    }
    if is_identity(&out[begin..]) {
        out.truncate(begin);
        out.push_str(GROUP);
    }
    out.push(' ');
}

/// Whether digits or signs stand for letters in the word: one of them is followed by a letter, and it does not begin with a number.
fn disguised(word: &str) -> bool {
    let substitutes = |c: char| revealed(c) != c;
    let mut characters = word.chars().peekable();
    let (mut letters, mut found, mut leading_digits) = (0, false, 0);
    while let Some(c) = characters.next() {
        if c.is_alphabetic() {
            letters += 1;
        } else if letters == 0 && c.is_ascii_digit() {
            leading_digits += 1;
        }
        if substitutes(c) && characters.peek().is_some_and(|next| next.is_alphabetic()) {
            found = true;
        }
    }
    found && letters > 0 && leading_digits < 2
}

/// The letter that a digit or sign stands for.
pub(crate) fn revealed(c: char) -> char {
    match c {
        '0' => 'o',
        '1' | '!' | '|' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        '8' => 'b',
        '9' => 'g',
        other => other,
    }
}

/// A word whose letters are set apart, at the start of `rest`: at least four single letters with the same one or two signs between.
fn spelled(rest: &str) -> Option<(String, &str)> {
    let mut characters = rest.char_indices();
    let (_, first) = characters.next()?;
    if !first.is_alphanumeric() {
        return None;
    }
    let (_, gap) = characters.next()?;
    if !matches!(gap, ' ' | '.' | '-' | '_' | '*') {
        return None;
    }
    let mut word = String::from(first);
    let mut end = first.len_utf8();
    loop {
        let mut next = rest[end..].char_indices();
        if next.next().is_none_or(|(_, c)| c != gap) {
            break;
        }
        let Some((at, letter)) = next.next() else { break };
        let alone = next.next().is_none_or(|(_, c)| !in_word(c));
        if !(letter.is_alphanumeric() || is_leet_sign(letter)) || !alone {
            break;
        }
        word.push(revealed(letter));
        end += at + letter.len_utf8();
    }
    (word.chars().count() >= 4 && !word.chars().all(|c| c.is_ascii_digit())).then(|| (word, &rest[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disguises_are_taken_off() {
        for (text, plain) in [
            ("I HATE You!", " i hate you ! "),
            ("h4te sp1d3rs", " hate spiders "),
            ("h4te w0m3n", " hate Groupof "),
            ("sh!t, $tupid", " shit , stupid "),
            ("ｈａｔｅ 𝐡𝐚𝐭𝐞 hаtе há\u{200b}te", " hate hate hate hate "),
            ("h a t e them", " hate them "),
            ("i h.a.t.e it", " i hate it "),
            ("haaaate coool", " hate col "),
            ("don’t", " dont "),
            ("call 4111 now, mp3 and gpt4", " call 4111 now , mp3 and gpt4 "),
            ("@user says", " @user says "),
            ("in 24h or 10x", " in 24h or 10x "),
            ("a b c", " a b c "),
            ("", " "),
        ] {
            assert_eq!(normal(text), plain, "{text}");
        }
    }
}
