//! Judging JSON: inputs of tools and what tools answer.

use std::collections::HashMap;

use bedrock_core::{BoxFuture, Error};
use serde_json::{Map, Value};

use crate::assess::{Action, Finding, Side};

/// Bytes of a key that are context for its value, which it is judged with again for each value of a list.
const CONTEXT: usize = 64;

/// Judges every string, number and key of a value and puts the masks in. A key is context for its value: `{"phone": 5550132}`
/// has a cue word.
///
/// # Errors
/// Those of the models that are asked; the value is then changed in part.
pub(crate) async fn judge(side: &Side, value: &mut Value, lenient: bool) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    leaf(Eye { side, lenient }, value, None, &mut findings).await?;
    Ok(findings)
}

/// Judges a text that has a name, such as the column it stands in, as [`judge`] does the value of a key.
///
/// # Errors
/// Those of the models that are asked.
pub(crate) async fn judge_named(
    side: &Side,
    name: &str,
    text: &mut String,
    lenient: bool,
) -> Result<Vec<Finding>, Error> {
    let found = with_context(Eye { side, lenient }, text, Some(name)).await?;
    if found.iter().any(|finding| finding.action == Action::Mask) {
        *text = side.mask(text, 0..text.len(), &found);
    }
    Ok(found)
}

/// A side, and whether what a model fails to judge passes.
#[derive(Clone, Copy)]
struct Eye<'a> {
    side: &'a Side,
    lenient: bool,
}

impl Eye<'_> {
    async fn find(self, text: &str) -> Result<Vec<Finding>, Error> {
        match self.side.judge(text).await {
            Err(_) if self.lenient => Ok(self.side.judge_at_once(text)),
            found => found,
        }
    }
}

fn leaf<'a>(
    eye: Eye<'a>,
    value: &'a mut Value,
    key: Option<&'a str>,
    findings: &'a mut Vec<Finding>,
) -> BoxFuture<'a, Result<(), Error>> {
    // JSON that was read is at most 128 levels deep.
    Box::pin(async move {
        match value {
            Value::String(text) => {
                let found = with_context(eye, text, key).await?;
                if found.iter().any(|finding| finding.action == Action::Mask) {
                    *text = eye.side.mask(text, 0..text.len(), &found);
                }
                findings.extend(found);
            }
            Value::Number(number) => {
                let text = number.to_string();
                let found = with_context(eye, &text, key).await?;
                // Part of a number can't be masked: the whole becomes a text.
                if found.iter().any(|finding| finding.action == Action::Mask) {
                    *value = Value::String(eye.side.mask(&text, 0..text.len(), &found));
                }
                findings.extend(found);
            }
            Value::Array(items) => {
                for item in items {
                    leaf(eye, item, key, findings).await?;
                }
            }
            Value::Object(members) => {
                let mut judged = Map::new();
                // The last number of keys that are alike with their masks: searched for from one each time, many would take for ever.
                let mut alike = HashMap::<String, usize>::new();
                for (name, mut member) in std::mem::take(members) {
                    leaf(eye, &mut member, Some(&name), findings).await?;
                    let found = eye.find(&name).await?;
                    let masked = eye.side.mask(&name, 0..name.len(), &found);
                    findings.extend(found);
                    let mut free = masked.clone();
                    while judged.contains_key(&free) {
                        let number = alike.entry(masked.clone()).or_insert(1);
                        *number += 1;
                        free = format!("{masked}_{number}");
                    }
                    judged.insert(free, member);
                }
                *members = judged;
            }
            Value::Null | Value::Bool(_) => {}
        }
        Ok(())
    })
}

/// Findings of a value as it stands, and those that its key makes likely.
async fn with_context(eye: Eye<'_>, text: &str, key: Option<&str>) -> Result<Vec<Finding>, Error> {
    let mut found = eye.find(text).await?;
    let Some(key) = key else { return Ok(found) };
    let prefix = context(key);
    for mut finding in eye.side.judge_at_once(&format!("{prefix}{text}")) {
        if finding.span.start < prefix.len() {
            continue;
        }
        finding.span = finding.span.start - prefix.len()..finding.span.end - prefix.len();
        if found.iter().all(|known| known.span.end <= finding.span.start || finding.span.end <= known.span.start) {
            found.push(finding);
        }
    }
    found.sort_by_key(|finding| (finding.span.start, finding.span.end));
    Ok(found)
}

/// What a value is judged behind: the end of its key.
fn context(key: &str) -> String {
    words(&key[key.ceil_char_boundary(key.len().saturating_sub(CONTEXT))..]) + ": "
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_key_is_context() {
        assert_eq!(context("userPhone_number"), "user Phone number: ");
        let long = context(&("key ".repeat(1 << 15) + "userPhone"));
        assert!(long.ends_with("key user Phone: ") && long.len() < 2 * CONTEXT);
        // A character that the limit cuts in two is left out.
        assert_eq!(context(&"é".repeat(33)), "é".repeat(32) + ": ");
        assert_eq!(context(&("é".repeat(32) + "x")), "é".repeat(31) + "x: ");
    }
}
