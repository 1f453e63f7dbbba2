//! The labelled texts.

use bedrock_guard::train::CATEGORIES;
use serde_json::Value;

pub(crate) const NAMES: [&str; CATEGORIES] = ["HATE", "INSULTS", "SEXUAL", "VIOLENCE", "MISCONDUCT", "PROMPT_ATTACK"];
pub(crate) const FOLDS: u64 = 5;

const FOLDERS: [&str; 8] = [
    "safety-bias-templates",
    "safety-davidson",
    "safety-hatecheck",
    "safety-openai-moderation",
    "safety-requests",
    "safety-rtp",
    "safety-surge-toxicity",
    "safety-toxic-spans",
];

/// What is known of a text: for each category whether it is one, or nothing.
pub(crate) type Labels = [Option<bool>; CATEGORIES];

pub(crate) struct Item {
    pub(crate) text: String,
    pub(crate) labels: Labels,
    pub(crate) source: &'static str,
    /// Which function of HateCheck the text tests.
    pub(crate) function: String,
    /// Whom the text is about, as far as the source says.
    pub(crate) identity: String,
    pub(crate) fold: u64,
    /// Whether its licence lets us train on it.
    pub(crate) trained: bool,
    /// Whether it is one of the harmless texts that thresholds are set by.
    pub(crate) harmless: bool,
}

pub(crate) fn load(data: &str) -> Result<Vec<Item>, Box<dyn std::error::Error>> {
    let mut items = Vec::new();
    for source in FOLDERS {
        for line in std::fs::read_to_string(format!("{data}/{source}/items.jsonl"))?.lines() {
            items.push(labelled(source, &serde_json::from_str(line)?));
        }
    }
    for (file, attack) in [("attacks", true), ("benign", false)] {
        for line in std::fs::read_to_string(format!("{data}/prompt-attack/{file}.jsonl"))?.lines() {
            items.push(prompt(if attack { "attacks" } else { "benign" }, attack, &serde_json::from_str(line)?));
        }
    }
    Ok(items)
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn labelled(source: &'static str, item: &Value) -> Item {
    let text = string(&item["text"]);
    let has = |list: &str, name: &str| item[list].as_array().is_some_and(|list| list.iter().any(|known| known == name));
    let labels: Labels = NAMES.map(|name| has("labelled_categories", name).then(|| has("categories", name)));
    let notes = &item["source_labels"];
    // The groups of the sources' own split, so that variants of a text are in one fold.
    let first = text.split(' ').next().unwrap_or_default();
    let key = match source {
        "safety-bias-templates" => format!("{} {first}", notes["template"]),
        _ => item["group"].as_str().map_or_else(|| text.to_lowercase(), str::to_owned),
    };
    let synthetic =
        ["safety-bias-templates", "safety-hatecheck", "safety-requests", "safety-davidson"].contains(&source);
    Item {
        harmless: !synthetic && labels[0] == Some(false) && labels.iter().all(|label| *label != Some(true)),
        function: string(&notes["functionality"]),
        identity: match source {
            "safety-bias-templates" => string(&Value::from(text.rsplit(' ').next().unwrap_or_default())),
            _ => string(&notes["target_ident"]),
        },
        fold: fold(&key),
        text,
        labels,
        source,
        trained: true,
    }
}

fn prompt(source: &'static str, attack: bool, item: &Value) -> Item {
    let licence = item["licence"].as_str().unwrap_or_default();
    let mut labels = [(!attack).then_some(false); CATEGORIES];
    labels[CATEGORIES - 1] = Some(attack);
    Item {
        text: string(&item["text"]),
        labels,
        source,
        function: String::new(),
        identity: String::new(),
        fold: fold(item["group"].as_str().unwrap_or_default()),
        // Share-alike and copyleft texts are for measuring alone.
        trained: !licence.contains("GPL") && !licence.contains("SA"),
        harmless: !attack,
    }
}

fn fold(key: &str) -> u64 {
    let hash =
        key.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    ((hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % FOLDS
}
