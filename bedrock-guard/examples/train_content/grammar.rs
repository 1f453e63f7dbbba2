//! Sentences that the data lack, made from `sentences.txt`, `requests.txt` and `attacks.txt`, and plain texts, made from `records.txt`.

use std::collections::BTreeMap;

use crate::items::Labels;
use crate::noise::Random;

/// Sections that [`Grammar::sentences`] needs.
const NEEDED: [&str; 8] = ["hate", "threat", "counter", "quote", "neutral", "positive", "thing", "person"];

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);

/// Sections of `requests.txt` and `attacks.txt`, what is known of their texts, and how many of them come in a hundred rounds. Foul texts and harmful requests
/// say nothing of other categories: sets that ask for harm have sexual harm among it.
#[rustfmt::skip]
const REQUESTS: [(&str, Labels, usize); 14] = [
    ("jailbreak", [None, None, None, None, None, YES], 25),
    ("direct",    [None, NO,   NO,   NO,   None, YES], 25),
    ("indirect",  [None, NO,   NO,   NO,   None, YES], 25),
    ("leakage",   [None, NO,   NO,   NO,   None, YES], 25),
    ("trade",     [NO,   NO,   NO,   NO,   NO,   NO], 100),
    ("harm",      [None, None, None, None, YES,  NO], 100),
    ("slay",      [None, None, None, YES,  YES,  NO], 25),
    ("gore",      [None, None, None, YES,  None, NO], 100),
    ("scene",     [NO,   NO,   NO,   NO,   NO,   NO], 50),
    ("erotic",    [None, None, YES,  NO,   None, NO], 50),
    ("health",    [NO,   NO,   NO,   NO,   NO,   NO], 25),
    ("slur",      [YES,  None, None, None, None, NO], 25),
    ("swear",     [NO,   None, None, NO,   None, NO], 25),
    ("small",     [NO,   NO,   NO,   NO,   NO,   NO], 50),
];

/// Sections of `records.txt`, harmless in every way, and how many of them come in a hundred rounds.
const RECORDS: [(&str, usize); 2] = [("record", 250), ("note", 225)];

/// The place of what an attack stands in.
const CARRIER: &str = "{body}";

/// What may be said, and with which words.
pub(crate) struct Grammar {
    /// For each file places such as `{G}` and their fillings, in the order of the file.
    fillings: Vec<Vec<(String, Vec<String>)>>,
    /// Kinds of sentences, and the file that they are of.
    sections: BTreeMap<String, (usize, Vec<String>)>,
}

/// A line of the file is one line; `\\n` stands for a break, `\\t` for a tab, `\\|` for what would part fillings.
fn unescaped(line: &str) -> String {
    line.replace("\\n", "\n").replace("\\t", "\t").replace("\\|", "|")
}

impl Grammar {
    /// The grammar that filters are taught by, of the folder's files.
    pub(crate) fn all(folder: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let read = |file: &str, needed: &[&str]| -> Result<Self, Box<dyn std::error::Error>> {
            Ok(Self::read(&std::fs::read_to_string(format!("{folder}/{file}"))?, needed)?)
        };
        let requests = REQUESTS.map(|(section, ..)| section);
        Ok(read("sentences.txt", &NEEDED)?
            .and(read("attacks.txt", &requests[..4])?)
            .and(read("requests.txt", &requests[4..])?)
            .and(read("records.txt", &RECORDS.map(|(section, _)| section))?))
    }

    /// A grammar that has the sections `needed`.
    fn read(text: &str, needed: &[&str]) -> Result<Self, String> {
        let (mut fillings, mut sections, mut section) =
            (Vec::new(), BTreeMap::<String, (usize, Vec<String>)>::new(), None);
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix('[') {
                section = Some(name.trim_end_matches(']').to_owned());
            } else if let Some(name) = &section {
                sections.entry(name.clone()).or_default().1.push(unescaped(line));
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
        Ok(Self { fillings: vec![fillings], sections })
    }

    /// A grammar that has the sections of another, too.
    fn and(mut self, other: Self) -> Self {
        let files = self.fillings.len();
        self.fillings.extend(other.fillings);
        self.sections
            .extend(other.sections.into_iter().map(|(name, (file, patterns))| (name, (files + file, patterns))));
        self
    }

    /// The grammar with every second of its kinds of sentences alone: two halves that say different things.
    pub(crate) fn half(&self, second: bool) -> Self {
        let half = |patterns: &Vec<String>| patterns.iter().skip(usize::from(second)).step_by(2).cloned().collect();
        let sections =
            self.sections.iter().map(|(name, (file, patterns))| (name.clone(), (*file, half(patterns)))).collect();
        Self { fillings: self.fillings.clone(), sections }
    }

    /// A sentence of a section, which the grammar has.
    pub(crate) fn say(&self, section: &str, random: &mut Random) -> String {
        let (file, patterns) = &self.sections[section];
        let mut text = patterns[random.below(patterns.len())].clone();
        // What carries an attack is often what is harmless without it.
        if text.contains(CARRIER) && random.chance(0.5) {
            let (section, _) = RECORDS[random.below(RECORDS.len())];
            text = text.replacen(CARRIER, &self.say(section, random), 1);
        }
        for (place, words) in &self.fillings[*file] {
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
            made.extend((0..rounds).map(|_| (self.say("denounce", &mut apart), harmless)));
        }
        made
    }

    /// Rounds of texts of the sections of `requests.txt` and `attacks.txt`; those of each section are drawn apart.
    pub(crate) fn requests(&self, rounds: usize, drawing: u64) -> Vec<(String, Labels)> {
        let mut made = Vec::new();
        for (index, (section, labels, share)) in REQUESTS.into_iter().enumerate() {
            let mut apart = Random(13 + index as u64 + (drawing << 32));
            made.extend((0..rounds * share / 100).map(|_| (self.say(section, &mut apart), labels)));
        }
        made
    }

    /// Rounds of texts of the sections of `records.txt`.
    pub(crate) fn records(&self, rounds: usize, drawing: u64) -> Vec<(String, Labels)> {
        let mut made = Vec::new();
        for (index, (section, share)) in RECORDS.into_iter().enumerate() {
            let mut apart = Random(40 + index as u64 + (drawing << 32));
            made.extend((0..rounds * share / 100).map(|_| (self.say(section, &mut apart), [NO; 6])));
        }
        made
    }
}
