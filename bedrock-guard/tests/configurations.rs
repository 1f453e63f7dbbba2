//! Whatever patterns and words a guardrail is made of: it is refused or it works.

mod random;

use std::time::{Duration, Instant};

use bedrock_core::GuardrailContentSource;
use bedrock_guard::Guardrail;
use random::Random;
use serde_json::json;

/// Configurations of a run; `BEDROCK_GUARD_CONFIGURATIONS` asks for more.
const CONFIGURATIONS: u64 = 300;

fn choose<'c>(random: &mut Random, from: &[&'c str]) -> &'c str {
    from[random.below(from.len())]
}

#[rustfmt::skip]
const ATOMS: &[&str] = &[
    "a", "b", "ab", "1", " ", ".", "\\d", "\\w", "\\s", "\\W", "\\pL", "\\p{Greek}", "[a-c]", "[^a]", "[0-9a-f]", "(?i)a", "é", "日本", "\\b", "\\B", "^", "$", "\\A",
    "\\z", "-", "@", "\\.", "x*", "(?s).", "(?m)^", "[[:alpha:]]", "\\x{1F600}", "\\u00e9", "[ab&&[^b]]",
];

/// What a pattern may not have, or has by accident.
#[rustfmt::skip]
const BROKEN: &[&str] = &["(", ")", "[", "\\", "*", "{", "(?=a)", "(?<!a)", "\\1", "(?P<n>", "{2,1}", "[z-a]", "\\p{Nothing}", "(?<a>x)(?<a>y)", "\u{0}", "((((((((((", "a{1000}{1000}"];

#[rustfmt::skip]
const REPEATS: &[&str] = &["", "", "", "*", "+", "?", "*?", "+?", "{2}", "{1,3}", "{2,}", "{0,40}", "{30,60}"];

fn pattern(random: &mut Random, depth: usize) -> String {
    let mut pattern = String::new();
    for _ in 0..1 + random.below(5) {
        match random.below(if depth < 4 { 12 } else { 8 }) {
            8 | 9 => {
                let inner = self::pattern(random, depth + 1);
                pattern.push_str(&format!("({}{inner})", choose(random, &["", "?:", "?i:", "?P<v>"])));
            }
            10 => pattern.push_str(&format!(
                "(?:{}|{})",
                self::pattern(random, depth + 1),
                self::pattern(random, depth + 1)
            )),
            11 if random.below(6) == 0 => pattern.push_str(choose(random, BROKEN)),
            _ => pattern.push_str(choose(random, ATOMS)),
        }
        pattern.push_str(choose(random, REPEATS));
    }
    pattern
}

/// A text of about so many bytes: pieces, the same again and again, or anything.
fn text(random: &mut Random, bytes: usize) -> String {
    #[rustfmt::skip]
    const PIECES: &[&str] = &[
        "a", "ab", "aab", "b", "1", "12", " ", "\n", "é", "日本", "😀", "x", "-", "@", ".", "abc def ", "A", "\u{0}", "\u{200b}", "\u{301}", "ǅ", "İ", "{MASK}", "s e c r e t", "word",
    ];
    let repeated = (random.below(3) == 0).then(|| choose(random, PIECES).to_owned() + choose(random, PIECES));
    let mut text = String::new();
    while text.len() < bytes {
        match &repeated {
            Some(piece) => text.push_str(piece),
            None if random.below(20) == 0 => text.extend(char::from_u32(random.next() as u32 % 0x11_0000)),
            None => text.push_str(choose(random, PIECES)),
        }
    }
    text
}

#[test]
fn any_patterns_and_words_are_refused_or_work() {
    let asked = std::env::var("BEDROCK_GUARD_CONFIGURATIONS").ok().and_then(|count| count.parse().ok());
    let configurations = asked.unwrap_or(CONFIGURATIONS);
    let (mut works, mut found) = (0, 0);
    for seed in 0..configurations {
        let mut random = Random(seed);
        let regexes: Vec<_> = (0..1 + random.below(3))
            .map(|index| {
                let action = choose(&mut random, &["BLOCK", "ANONYMIZE", "NONE"]);
                json!({"name": format!("pattern {index}"), "pattern": pattern(&mut random, 0), "action": action})
            })
            .collect();
        let words: Vec<_> = (0..1 + random.below(4))
            .map(|_| {
                let bytes = 1 + random.below(12);
                json!({"text": text(&mut random, bytes)})
            })
            .collect();
        let config = json!({
            "name": "any", "blockedInputMessaging": "no", "blockedOutputsMessaging": "no",
            "sensitiveInformationPolicyConfig": {"regexesConfig": regexes}, "wordPolicyConfig": {"wordsConfig": words},
        });
        let Ok(guardrail) = Guardrail::from_json(&config.to_string()) else { continue };
        works += 1;
        let bytes = match seed {
            _ if seed % 500 == 0 => 40_000,
            _ if seed % 50 == 0 => 4000,
            _ => 300,
        };
        let text = text(&mut random, bytes);
        let begin = Instant::now();
        for finding in guardrail.find_blocking(&text, &GuardrailContentSource::Input).unwrap() {
            assert!(!text[finding.span].is_empty(), "seed {seed}");
            found += 1;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "seed {seed} took {:?}: {config}", begin.elapsed());
    }
    assert!(works * 4 > configurations && found > works, "{works} of {configurations} work, {found} findings");
}
