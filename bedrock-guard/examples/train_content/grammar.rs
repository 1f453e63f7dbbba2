//! Sentences that the data lack, made from `sentences.txt` and `attacks.txt`.

use std::collections::BTreeMap;

use crate::items::Labels;
use crate::noise::Random;

/// Sections that [`Grammar::sentences`] needs.
pub(crate) const NEEDED: [&str; 8] = ["hate", "threat", "counter", "quote", "neutral", "positive", "thing", "person"];

/// What may be said, and with which words.
pub(crate) struct Grammar {
    /// Places such as `{G}` and their fillings, in the order of the file.
    fillings: Vec<(String, Vec<String>)>,
    sections: BTreeMap<String, Vec<String>>,
}

/// A line of the file is one line; `\\n` stands for a break.
fn unescaped(line: &str) -> String {
    line.replace("\\n", "\n")
}

impl Grammar {
    /// A grammar that has the sections `needed`.
    pub(crate) fn read(text: &str, needed: &[&str]) -> Result<Self, String> {
        let (mut fillings, mut sections, mut section) = (Vec::new(), BTreeMap::<String, Vec<String>>::new(), None);
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix('[') {
                section = Some(name.trim_end_matches(']').to_owned());
            } else if let Some(name) = &section {
                sections.entry(name.clone()).or_default().push(unescaped(line));
            } else {
                let (place, words) = line.split_once(" = ").ok_or_else(|| format!("no list: {line}"))?;
                fillings.push((place.to_owned(), words.split(" | ").map(unescaped).collect()));
            }
        }
        for name in needed {
            if !sections.contains_key(*name) {
                return Err(format!("no section [{name}]"));
            }
        }
        Ok(Self { fillings, sections })
    }

    /// The grammar with every second of its kinds of sentences alone: two halves that say different things.
    pub(crate) fn half(&self, second: bool) -> Self {
        let half = |patterns: &Vec<String>| patterns.iter().skip(usize::from(second)).step_by(2).cloned().collect();
        let sections = self.sections.iter().map(|(name, patterns)| (name.clone(), half(patterns))).collect();
        Self { fillings: self.fillings.clone(), sections }
    }

    /// A sentence of a section, which the grammar has.
    pub(crate) fn say(&self, section: &str, random: &mut Random) -> String {
        let patterns = &self.sections[section];
        let mut text = patterns[random.below(patterns.len())].clone();
        for (place, words) in &self.fillings {
            while text.contains(place.as_str()) {
                text = text.replacen(place.as_str(), &words[random.below(words.len())], 1);
            }
        }
        let mut rest = text.chars();
        match rest.next() {
            Some(first) if random.chance(0.7) => first.to_uppercase().chain(rest).collect(),
            _ => text,
        }
    }

    /// Rounds of sentences, a few of each kind a round; what is drawn apart is another for each drawing. Labels: hate, insults, sexual, violence, misconduct, attack.
    pub(crate) fn sentences(&self, random: &mut Random, rounds: usize, drawing: u64) -> Vec<(String, Labels)> {
        let hateful = [Some(true), None, Some(false), None, None, Some(false)];
        let threat = [Some(true), None, Some(false), Some(true), None, Some(false)];
        let harmless = [Some(false), None, Some(false), None, None, Some(false)];
        let kind = [Some(false); 6];
        let personal = [Some(false), Some(true), Some(false), None, None, Some(false)];
        let mut made = Vec::new();
        for _ in 0..rounds {
            for _ in 0..2 {
                made.push((self.say("hate", random), hateful));
                made.push((self.say("counter", random), harmless));
                made.push((self.say("positive", random), kind));
            }
            made.push((self.say("neutral", random), kind));
            made.push((self.say("thing", random), harmless));
            let said = self.say(if random.chance(0.8) { "hate" } else { "threat" }, random);
            made.push((self.say("quote", random).replace("{q}", said.trim_end_matches('.')), harmless));
            if random.chance(0.4) {
                made.push((self.say("threat", random), threat));
                made.push((self.say("person", random), personal));
            }
        }
        // Sections of other categories, each a list of positives.
        for (name, category) in [("sexual", 2), ("violence", 3), ("misconduct", 4)] {
            for _ in 0..if self.sections.contains_key(name) { rounds / 2 } else { 0 } {
                let mut labels = [None; 6];
                labels[category] = Some(true);
                made.push((self.say(name, random), labels));
            }
        }
        if self.sections.contains_key("calm") {
            made.extend((0..rounds / 2).map(|_| (self.say("calm", random), kind)));
        }
        // Drawn apart, so that the others stay as they were.
        let mut apart = Random(11 + (drawing << 32));
        let attack = [None, Some(false), Some(false), Some(false), None, Some(true)];
        let order = [None, Some(false), Some(false), Some(false), Some(false), Some(false)];
        for (name, labels) in [("attack", attack), ("order", order)] {
            if self.sections.contains_key(name) {
                made.extend((0..rounds / 2).map(|_| (self.say(name, &mut apart), labels)));
            }
        }
        if self.sections.contains_key("denounce") {
            let mut apart = Random(12 + (drawing << 32));
            made.extend((0..rounds / 2).map(|_| (self.say("denounce", &mut apart), harmless)));
        }
        made
    }
}
