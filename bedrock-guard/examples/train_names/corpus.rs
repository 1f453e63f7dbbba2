//! Texts with the spans of names in them.

use std::ops::Range;

use serde_json::Value;

/// What a name names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Person,
    Place,
    Organization,
    Thing,
}

#[derive(Debug, Clone)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) spans: Vec<(Range<usize>, Kind)>,
    /// Everything in it that is personal data, if that is known.
    pub(crate) personal: Option<Vec<Range<usize>>>,
    /// Where it is from.
    pub(crate) set: &'static str,
    pub(crate) fold: u64,
}

/// Parts that the labelled texts are cut into.
pub(crate) const FOLDS: u64 = 5;

impl Text {
    fn new(text: String, spans: Vec<(Range<usize>, Kind)>, set: &'static str, key: &str) -> Self {
        let hash = key
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self { text, spans, personal: None, set, fold: (hash >> 20) % FOLDS }
    }

    /// A made-up text, in which `\n` is the end of a line.
    pub(crate) fn unescape(raw: String, spans: Vec<(Range<usize>, Kind)>) -> Self {
        let moved = |at: usize| at - raw[..at].matches("\\n").count();
        let spans = spans.into_iter().map(|(span, kind)| (moved(span.start)..moved(span.end), kind)).collect();
        Self { text: raw.replace("\\n", "\n"), spans, personal: None, set: "made up", fold: FOLDS }
    }

    pub(crate) fn persons(&self) -> impl Iterator<Item = &Range<usize>> {
        self.spans.iter().filter(|(_, kind)| *kind == Kind::Person).map(|(span, _)| span)
    }
}

/// The labelled texts of a folder.
pub(crate) fn read(data: &str) -> Result<Vec<Text>, Box<dyn std::error::Error>> {
    let mut texts = Vec::new();
    for set in ["ner-wikigold", "ner-wnut17"] {
        let content = std::fs::read_to_string(format!("{data}/{set}/sentences.bio"))?;
        texts.extend(content.split("\n\n").filter(|sentence| !sentence.trim().is_empty()).map(|s| bio(s, set)));
    }
    for line in std::fs::read_to_string(format!("{data}/pii-synth/items.jsonl"))?.lines() {
        texts.push(synth(&serde_json::from_str(line)?).ok_or("pii-synth: no text with spans")?);
    }
    Ok(texts)
}

/// A token and its tag a line.
fn bio(sentence: &str, set: &'static str) -> Text {
    let (mut text, mut spans) = (String::new(), Vec::<(Range<usize>, Kind)>::new());
    for line in sentence.lines() {
        let Some((token, tag)) = line.split_once('\t') else { continue };
        let glued = matches!(token, "," | "." | "!" | "?" | ")" | ":" | ";" | "'s" | "n't" | "'")
            || text.ends_with(['(', '@', '#']);
        if !text.is_empty() && !glued {
            text.push(' ');
        }
        let start = text.len();
        text.push_str(token);
        let kind = match tag.get(2..) {
            Some("PER" | "person") => Kind::Person,
            Some("LOC" | "location") => Kind::Place,
            Some("ORG" | "corporation" | "group") => Kind::Organization,
            Some(_) => Kind::Thing,
            None => continue,
        };
        match spans.last_mut() {
            Some((span, last)) if tag.starts_with("I-") && *last == kind => span.end = text.len(),
            _ => spans.push((start..text.len(), kind)),
        }
    }
    let key = text.clone();
    Text::new(text, spans, set, &key)
}

fn synth(item: &Value) -> Option<Text> {
    let text = item["text"].as_str()?.to_owned();
    let mut places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    places.push(text.len());
    let (mut spans, mut personal) = (Vec::new(), Vec::new());
    for span in item["spans"].as_array()? {
        let at = |key: &str| places.get(span[key].as_u64()? as usize).copied();
        if span["bedrock_type"].is_string() {
            personal.push(at("start")?..at("end")?);
        }
        let kind = match span["type"].as_str()? {
            "PERSON" => Kind::Person,
            "STREET_ADDRESS" | "GPE" => Kind::Place,
            "ORGANIZATION" => Kind::Organization,
            "NRP" => Kind::Thing,
            _ => continue,
        };
        spans.push((at("start")?..at("end")?, kind));
    }
    // The parts share no pattern of a sentence.
    let text = Text::new(text, spans, "pii-synth", &item["template_id"].to_string());
    Some(Text { personal: Some(personal), ..text })
}
