//! How fast are words and personal data found?
//!
//! `cargo run --release -p bedrock-guard --example guard_speed -- [--seconds S] [--only LINE] FILE…`
//!
//! Each file is taken as one text and looked through on one thread, again and again for S seconds (1 by itself) and for each line (or the one of this name alone): the
//! kinds with a written form, names, addresses, all kinds, the word filter (profanity and 200 words), and words and all kinds together, for
//! which 50 MB/s are asked.

use std::io::Write as _;
use std::time::Instant;

use bedrock_core::{GuardrailContentSource, GuardrailPiiEntityType as Kind};
use bedrock_guard::{Guardrail, KINDS, PiiRecognizer};
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (mut seconds, mut only, mut files) = (1.0, None, Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => seconds = arguments.next().ok_or("--seconds needs a number")?.parse()?,
            "--only" => only = arguments.next(),
            _ => files.push(argument),
        }
    }
    let written = PiiRecognizer::new(KINDS.into_iter().filter(|kind| !matches!(kind, Kind::Name | Kind::Address)));
    let (names, addresses, all) =
        (PiiRecognizer::new([Kind::Name]), PiiRecognizer::new([Kind::Address]), PiiRecognizer::all());
    // Words that no text has, so that none is faster for the findings.
    let list: Vec<_> = (0..200).map(|index| json!({"text": format!("quor{index} zelth")})).collect();
    let words = json!({"wordsConfig": list, "managedWordListsConfig": [{"type": "PROFANITY"}]});
    let entities: Vec<_> = KINDS.iter().map(|kind| json!({"type": kind, "action": "ANONYMIZE"})).collect();
    let guardrail = |more: serde_json::Value| {
        let mut config = json!({"name": "speed", "blockedInputMessaging": "no", "blockedOutputsMessaging": "no"});
        config.as_object_mut().zip(more.as_object()).into_iter().for_each(|(all, more)| all.extend(more.clone()));
        Guardrail::from_json(&config.to_string())
    };
    let word_filter = guardrail(json!({"wordPolicyConfig": words}))?;
    let together = guardrail(json!({
        "wordPolicyConfig": words,
        "sensitiveInformationPolicyConfig": {"piiEntitiesConfig": entities},
    }))?;
    let ask = |guardrail: &Guardrail, text: &str| {
        guardrail.find_blocking(text, &GuardrailContentSource::Input).map(|found| found.len())
    };
    let mut out = std::io::stdout().lock();
    for file in files {
        let text = String::from_utf8_lossy(&std::fs::read(&file)?).into_owned();
        writeln!(out, "{file}: {:.2} MB", text.len() as f64 / 1e6)?;
        let mut measure = |name: &str, run: &dyn Fn() -> Result<usize, bedrock_core::Error>| {
            if only.as_deref().is_some_and(|only| only != name) {
                return Ok(());
            }
            let (mut best, begin, mut found) = (f64::INFINITY, Instant::now(), 0);
            while begin.elapsed().as_secs_f64() < seconds || best.is_infinite() {
                let start = Instant::now();
                found = run()?;
                best = best.min(start.elapsed().as_secs_f64());
            }
            writeln!(out, "  {name:<22} {:>8.1} MB/s {found:>7} found", text.len() as f64 / 1e6 / best)?;
            Ok::<(), Box<dyn std::error::Error>>(())
        };
        measure("kinds with a form", &|| Ok(written.find(&text).len()))?;
        measure("names", &|| Ok(names.find(&text).len()))?;
        measure("addresses", &|| Ok(addresses.find(&text).len()))?;
        measure("all kinds", &|| Ok(all.find(&text).len()))?;
        measure("words", &|| ask(&word_filter, &text))?;
        measure("words and all kinds", &|| ask(&together, &text))?;
    }
    Ok(())
}
