//! Judging JSON: inputs of tools and what tools answer.

use serde_json::{Map, Value};

use crate::assess::{Action, Finding, Side};

/// Judges every string, number and key of a value and puts the masks in. A key is context for its value: `{"phone": 5550132}`
/// has a cue word.
pub(crate) fn judge(side: &Side, value: &mut Value, findings: &mut Vec<Finding>) {
    leaf(side, value, None, findings);
}

fn leaf(side: &Side, value: &mut Value, key: Option<&str>, findings: &mut Vec<Finding>) {
    match value {
        Value::String(text) => {
            let found = with_context(side, text, key);
            if found.iter().any(|finding| finding.action == Action::Mask) {
                *text = side.mask(text, 0..text.len(), &found);
            }
            findings.extend(found);
        }
        Value::Number(number) => {
            let text = number.to_string();
            let found = with_context(side, &text, key);
            // Part of a number can't be masked: the whole becomes a text.
            if found.iter().any(|finding| finding.action == Action::Mask) {
                *value = Value::String(side.mask(&text, 0..text.len(), &found));
            }
            findings.extend(found);
        }
        Value::Array(items) => items.iter_mut().for_each(|item| leaf(side, item, key, findings)),
        Value::Object(members) => {
            let mut judged = Map::new();
            for (name, mut member) in std::mem::take(members) {
                leaf(side, &mut member, Some(&name), findings);
                let found = side.judge(&name);
                let mut masked = side.mask(&name, 0..name.len(), &found);
                findings.extend(found);
                while judged.contains_key(&masked) {
                    masked.push('_');
                }
                judged.insert(masked, member);
            }
            *members = judged;
        }
        Value::Null | Value::Bool(_) => {}
    }
}

/// Findings of a value as it stands, and those that its key makes likely.
fn with_context(side: &Side, text: &str, key: Option<&str>) -> Vec<Finding> {
    let mut found = side.judge(text);
    let Some(key) = key else { return found };
    let prefix = words(key) + ": ";
    for mut finding in side.judge(&format!("{prefix}{text}")) {
        if finding.span.start < prefix.len() {
            continue;
        }
        finding.span = finding.span.start - prefix.len()..finding.span.end - prefix.len();
        if found.iter().all(|known| known.span.end <= finding.span.start || finding.span.end <= known.span.start) {
            found.push(finding);
        }
    }
    found.sort_by_key(|finding| (finding.span.start, finding.span.end));
    found
}

/// `userPhone_number` as words: "user Phone number".
fn words(key: &str) -> String {
    let mut out = String::with_capacity(key.len() + 4);
    let mut lower = false;
    for character in key.chars() {
        if lower && character.is_uppercase() {
            out.push(' ');
        }
        lower = character.is_lowercase();
        out.push(if matches!(character, '_' | '-' | '.') { ' ' } else { character });
    }
    out
}
