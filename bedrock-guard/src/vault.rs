//! Pseudonyms instead of masks, and the way back.
//!
//! Texts come from users, tools and web pages, and any of them may have braces in it. So a pseudonym ends with characters that are
//! drawn by chance ([`TAG`]): who was not shown one can't write it, and what looks like a pseudonym and is none stays as it is. To escape what looks like one would keep
//! them shorter, but a model can be talked into spelling `{EMAIL_1}`; to skip numbers that a text has in it does not help against the texts that come later. The tag is drawn
//! for each pseudonym, not once for a vault: to be shown one tells nothing of the others.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// Characters of the tag: 30 bits.
pub(crate) const TAG: usize = 6;
/// The characters of tags: none is taken for another.
const ALPHABET: &[u8; 32] = b"23456789abcdefghijkmnpqrstuvwxyz";
/// Digits of the largest number of a pseudonym.
pub(crate) const DIGITS: usize = 7;
/// Bytes of the longest value that is kept. Without a limit, a short text that names a long value many times would be unmasked into a huge one.
const LONGEST: usize = 1024;

/// The values behind the masks of one conversation: with one ([`Guardrail::with_vault`](crate::Guardrail::with_vault)), sensitive information is not masked as
/// `{PHONE}` but as a numbered pseudonym, `{PHONE_1_k3x9q2}`, which can be taken back.
///
/// The same characters of the same kind have the same pseudonym within a vault, so that a model sees who is who; custom patterns lend their names (braces in them
/// become `_`). The last six characters of a pseudonym are drawn by chance, and it must stand in a text exactly: a text that has `{PHONE_1}` in it, or a guess at the
/// rest, names nothing and stays as it is. Whoever was *shown* a pseudonym can write it, and a model can be talked into that: let an agent unmask only what
/// goes to tools that may have the values.
///
/// A vault is for one conversation: whoever shares it can name its values. It lives in memory alone, is in no log, and overwrites its values when it is dropped (copies
/// that were handed out are the caller's).
///
/// # Bounds
/// A vault that is full, and a value of more than 1,024 bytes, falls back to the plain mask `{PHONE}`: nothing is shown that would not be without a vault, but it
/// can't be taken back. Pseudonyms that were given out stay good.
///
/// ```
/// use std::sync::Arc;
///
/// use bedrock_core::testing::{Reply, ScriptedModel};
/// use bedrock_core::{ChatModel, ConverseRequest};
/// use bedrock_guard::{Guarded, Guardrail, Vault};
///
/// let guardrail = Guardrail::from_json(include_str!("../../examples/data/guardrail.json"))?;
/// let vault = Arc::new(Vault::new());
/// // A model that repeats what it is told.
/// let echo = ScriptedModel::answering(|request| Reply::text(request.messages[0].text()));
/// let model = Guarded::new(echo, guardrail.with_vault(vault.clone()));
/// let question = "Call (415) 555-0132, not (415) 555-0199. I repeat: (415) 555-0132.";
/// let answer = model.converse_blocking(&ConverseRequest::new("any").user(question))?.text();
/// assert!(answer.starts_with("Call {PHONE_1_") && answer.contains("not {PHONE_2_") && !answer.contains("555"));
/// assert_eq!(vault.unmask(&answer), question);
/// # Ok::<(), bedrock_core::Error>(())
/// ```
pub struct Vault {
    values: usize,
    bytes: usize,
    chance: RandomState,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    entries: Vec<Secret>,
    /// Bytes of the values.
    bytes: usize,
    /// By the hash of name and value, so that no value is kept twice.
    by_value: HashMap<u64, Vec<usize>>,
    by_pseudonym: HashMap<String, usize>,
    /// The last number of each name.
    numbers: HashMap<String, usize>,
    /// Bytes of the longest pseudonym.
    longest: usize,
}

struct Secret {
    name: String,
    value: Zeroizing<String>,
    pseudonym: String,
}

impl Default for Vault {
    fn default() -> Self {
        Self::bounded(10_000, 1 << 20)
    }
}

impl fmt::Debug for Vault {
    /// Counts alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Vault {
    /// A vault of at most 10,000 values and 1 MiB.
    pub fn new() -> Self {
        Self::default()
    }

    /// A vault of at most so many values, which have at most so many bytes together.
    pub fn bounded(values: usize, bytes: usize) -> Self {
        Self { values, bytes, chance: RandomState::new(), kept: Mutex::default() }
    }

    /// How many values it keeps.
    pub fn len(&self) -> usize {
        self.kept().entries.len()
    }

    /// Whether it keeps none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing that panics is done under the lock between two changes that belong together.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What stands in place of `value`.
    pub(crate) fn pseudonym(&self, name: &str, value: &str) -> String {
        let mask = format!("{{{name}}}");
        let name = plain(name);
        let mut kept = self.kept();
        let hash = self.chance.hash_one((&name, value));
        let same = |index: &&usize| kept.entries[**index].name == name && *kept.entries[**index].value == value;
        if let Some(index) = kept.by_value.get(&hash).and_then(|indices| indices.iter().find(same)) {
            return kept.entries[*index].pseudonym.clone();
        }
        let number = kept.numbers.get(&name).map_or(1, |last| last + 1);
        let full = kept.entries.len() >= self.values || value.len() > self.bytes - kept.bytes;
        if full || value.len() > LONGEST || number >= 10usize.pow(DIGITS as u32) {
            return mask;
        }
        let pseudonym = format!("{{{name}_{number}_{}}}", self.tag(&name, number));
        let index = kept.entries.len();
        // Read from its end, a pseudonym has one tag, one number and one name: no other has the same.
        kept.by_pseudonym.insert(pseudonym.clone(), index);
        kept.by_value.entry(hash).or_default().push(index);
        kept.bytes += value.len();
        kept.longest = kept.longest.max(pseudonym.len());
        kept.numbers.insert(name.clone(), number);
        kept.entries.push(Secret { name, value: Zeroizing::new(value.to_owned()), pseudonym: pseudonym.clone() });
        pseudonym
    }

    fn tag(&self, name: &str, number: usize) -> String {
        let mut bits = self.chance.hash_one((name, number, "tag"));
        let mut tag = String::with_capacity(TAG);
        for _ in 0..TAG {
            tag.push(char::from(ALPHABET[(bits % 32) as usize]));
            bits /= 32;
        }
        tag
    }

    /// The text with the values in place of the pseudonyms of this vault; everything else stays as it is, and a value that looks like a pseudonym is not looked up
    /// again. Linear in what goes in and comes out. Of a text that comes in pieces a pseudonym may lie in two: see [`unmasker`](Self::unmasker).
    pub fn unmask(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let rest = self.unmask_most(text, &mut out);
        out.push_str(rest);
        out
    }

    /// Unmasks a text but for its end, which is given back, if that may be the beginning of a pseudonym.
    pub(crate) fn unmask_most<'t>(&self, text: &'t str, out: &mut String) -> &'t str {
        let kept = self.kept();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            out.push_str(&rest[..open]);
            rest = &rest[open..];
            // Names have no braces, so of a row of opening ones only the last may begin a pseudonym.
            let Some(end) = rest[1..].find(['{', '}']).map(|at| at + 1) else {
                if rest.len() < kept.longest {
                    return rest;
                }
                break;
            };
            if rest[end..].starts_with('{') {
                out.push_str(&rest[..end]);
                rest = &rest[end..];
                continue;
            }
            let (pseudonym, after) = rest.split_at(end + 1);
            out.push_str(match kept.by_pseudonym.get(pseudonym) {
                Some(index) => &kept.entries[*index].value,
                None => pseudonym,
            });
            rest = after;
        }
        out.push_str(rest);
        ""
    }

    /// The same in every text and key of a JSON value, such as the input of a tool. What was a number before it was masked is a text afterwards. Of keys that would
    /// become alike all but the first keep their pseudonyms.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use bedrock_core::{ApplyGuardrailRequest, Guardrail as _};
    /// # use bedrock_guard::{Guardrail, Vault};
    /// # let guardrail = Guardrail::from_json(include_str!("../../examples/data/guardrail.json"))?;
    /// let vault = Arc::new(Vault::new());
    /// let verdict = guardrail.with_vault(vault.clone()).apply_blocking(&ApplyGuardrailRequest::input("ada@example.org"))?;
    /// let mut input = serde_json::json!({"to": [verdict.outputs[0].text], "subject": "{EMAIL_1}"});
    /// vault.unmask_json(&mut input);
    /// assert_eq!(input, serde_json::json!({"to": ["ada@example.org"], "subject": "{EMAIL_1}"}));
    /// # Ok::<(), bedrock_core::Error>(())
    /// ```
    pub fn unmask_json(&self, value: &mut Value) {
        // JSON that was read is at most 128 levels deep.
        match value {
            Value::String(text) => *text = self.unmask(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.unmask_json(item)),
            Value::Object(members) => {
                let mut unmasked = Map::new();
                for (key, mut member) in std::mem::take(members) {
                    self.unmask_json(&mut member);
                    let plain = self.unmask(&key);
                    unmasked.insert(if unmasked.contains_key(&plain) { key } else { plain }, member);
                }
                *members = unmasked;
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// A name as it stands in pseudonyms.
pub(crate) fn plain(name: &str) -> String {
    name.replace(['{', '}'], "_")
}

/// What ends with the inside of a pseudonym, without its number and tag; any other text as it is.
pub(crate) fn without_tag(text: &str) -> &str {
    let tagged = |(_, tag): &(&str, &str)| tag.len() == TAG && tag.bytes().all(|byte| ALPHABET.contains(&byte));
    let numbered = |(_, number): &(&str, &str)| {
        (1..=DIGITS).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    let untagged = text.rsplit_once('_').filter(tagged).and_then(|(rest, _)| rest.rsplit_once('_').filter(numbered));
    untagged.map_or(text, |(rest, _)| rest)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_inside_of_a_pseudonym_is_its_name() {
        for (text, name) in [
            ("a {PHONE_1_k3x9q2", "a {PHONE"),
            ("{US_PASSPORT_NUMBER_1234567_222222", "{US_PASSPORT_NUMBER"),
            ("{PHONE_12345678_k3x9q2", "{PHONE_12345678_k3x9q2"),
            ("{PHONE_1_k3x9q", "{PHONE_1_k3x9q"),
            ("{PHONE__k3x9q2", "{PHONE__k3x9q2"),
            ("{US_BANK", "{US_BANK"),
            ("", ""),
        ] {
            assert_eq!(without_tag(text), name);
        }
    }

    #[test]
    fn values_are_not_in_the_debug_output() {
        let vault = Vault::new();
        vault.pseudonym("PHONE", "5550132");
        assert_eq!(format!("{vault:?}"), "Vault { len: 1, .. }");
    }

    #[test]
    fn a_text_can_not_name_what_it_was_not_shown() {
        let vault = Vault::new();
        let shown = vault.pseudonym("EMAIL", "ada@example.org");
        let (head, tag) = shown.trim_end_matches('}').rsplit_once('_').unwrap();
        let other = if tag == "222222" { "333333" } else { "222222" };
        for text in [
            "{EMAIL}".to_owned(),
            "{EMAIL_1}".to_owned(),
            format!("{head}}}"),
            format!("{head}_}}"),
            format!("{head}_{other}}}"),
            format!("{head}_{tag}x}}"),
            // The tag of one pseudonym is that of no other.
            format!("{{EMAIL_2_{tag}}}"),
            format!("{{PHONE_1_{tag}}}"),
            shown.to_lowercase(),
            shown.trim_end_matches('}').to_owned(),
        ] {
            vault.pseudonym("EMAIL", "eve@example.org");
            vault.pseudonym("PHONE", "5550132");
            assert_eq!(vault.unmask(&text), text);
        }
        assert_eq!(vault.unmask(&format!("{{{{{shown}}}")), "{{ada@example.org}");
        assert_ne!(Vault::new().pseudonym("EMAIL", "ada@example.org"), shown, "each vault draws its own");
        assert_eq!(Vault::new().unmask(&shown), shown);
    }

    #[test]
    fn what_is_unmasked_is_not_looked_at_again() {
        let vault = Vault::new();
        let inner = vault.pseudonym("EMAIL", "ada@example.org");
        let outer = vault.pseudonym("quote", &inner);
        assert_eq!(vault.unmask(&outer), inner);
        let mut value = serde_json::json!({ outer.clone(): [outer, 7, null] });
        vault.unmask_json(&mut value);
        assert_eq!(value, serde_json::json!({ inner.clone(): [inner, 7, null] }));
    }

    #[test]
    fn keys_that_become_alike_are_all_kept() {
        let vault = Vault::new();
        let (phone, pin) = (vault.pseudonym("PHONE", "5550132"), vault.pseudonym("PIN", "5550132"));
        assert_ne!(phone, pin, "kinds are apart");
        let mut value = serde_json::json!({ phone: 1, pin: 2 });
        vault.unmask_json(&mut value);
        assert_eq!(value.as_object().unwrap().len(), 2);
        assert_eq!(value["5550132"], 1);
    }

    #[test]
    fn a_full_vault_gives_plain_masks_and_keeps_what_it_has() {
        let vault = Vault::bounded(2, 10);
        let first = vault.pseudonym("PIN", "1234");
        assert_eq!(vault.pseudonym("PIN", "1234567"), "{PIN}", "11 bytes");
        let second = vault.pseudonym("PIN", "123456");
        assert_eq!(vault.pseudonym("PIN", "1"), "{PIN}");
        assert_eq!(vault.pseudonym("PIN", "1234"), first);
        assert_eq!((vault.len(), vault.unmask(&(first + &second))), (2, "1234123456".to_owned()));
        let vault = Vault::new();
        assert_eq!(vault.pseudonym("quote", &"é".repeat(513)), "{quote}");
        assert_ne!(vault.pseudonym("quote", &"é".repeat(512)), "{quote}");
    }

    proptest! {
        #[test]
        fn never_two_values_under_one_pseudonym(
            drawn in prop::collection::vec(("[ab{}_1-2]{1,3}", "\\PC{0,4}|[{}_a-b]{1,2}"), 0..40), values in 0usize..30, bytes in 0usize..90,
        ) {
            let vault = Vault::bounded(values, bytes);
            let (mut seen, mut pseudonyms) = (HashMap::new(), HashSet::new());
            for (name, value) in &drawn {
                let given = vault.pseudonym(name, value);
                if given == format!("{{{name}}}") {
                    prop_assert_eq!(vault.unmask(&given), given);
                    continue;
                }
                prop_assert_eq!(&vault.unmask(&given), value);
                let key = (plain(name), value);
                prop_assert_eq!(seen.entry(key).or_insert_with(|| given.clone()), &given);
                pseudonyms.insert(given);
            }
            prop_assert_eq!(pseudonyms.len(), seen.len());
            prop_assert_eq!(vault.len(), seen.len());
            prop_assert!(seen.len() <= values && seen.keys().map(|(_, value)| value.len()).sum::<usize>() <= bytes);
        }

        #[test]
        fn text_without_pseudonyms_stays(text in "[{}a_1]{0,30}|\\PC{0,30}") {
            let vault = Vault::new();
            vault.pseudonym("a", "value");
            prop_assert_eq!(vault.unmask(&text), text);
        }

        #[test]
        fn pseudonyms_are_found_between_anything(before in "[{}a_1]{0,9}", after in "[{}a_1]{0,9}", value in "[{}a_]{1,9}") {
            let vault = Vault::new();
            let given = vault.pseudonym("a", &value);
            prop_assert_eq!(vault.unmask(&format!("{before}{given}{after}{given}")), format!("{before}{value}{after}{value}"));
        }
    }
}
