//! Measures the recognisers of personal data on labelled texts.
//!
//! `cargo run --release -p bedrock-guard --example pii_quality -- [--errors KIND] [--threshold T] FILE…`
//!
//! A file is JSONL, either `{text, spans: [{start, end, bedrock_type}]}` (all kinds are looked for at once; offsets in code
//! points; a finding is right if it overlaps a span of its kind) or `{text, bedrock_type, expect_found, expected_spans}` (one
//! value for one kind; only that kind is looked for), or `.bio`: a token and its tag a line (PER and person are NAME).

use std::collections::BTreeMap;
use std::io::Write as _;
use std::ops::Range;

use bedrock_core::GuardrailPiiEntityType as Kind;
use bedrock_guard::{KINDS, PiiRecognizer, THRESHOLD};
use serde_json::Value;

#[derive(Default)]
struct Counts {
    right: usize,
    exact: usize,
    wrong: usize,
    missed: usize,
}

struct Sample {
    text: String,
    spans: Vec<(Range<usize>, String)>,
    /// Only this kind is looked for.
    only: Option<String>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (mut errors, mut threshold, mut files) = (None, THRESHOLD, Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--errors" => errors = arguments.next(),
            "--threshold" => threshold = arguments.next().ok_or("--threshold needs a number")?.parse()?,
            _ => files.push(argument),
        }
    }
    let mut out = std::io::stdout().lock();
    for file in files {
        let content = std::fs::read_to_string(&file)?;
        let samples = if file.ends_with(".bio") { bio(&content) } else { jsonl(&content)? };
        let kinds: Vec<Kind> = if file.ends_with(".bio") { vec![Kind::Name] } else { KINDS.to_vec() };
        let all = PiiRecognizer::with_threshold(kinds, threshold);
        let mut counts: BTreeMap<String, Counts> = BTreeMap::new();
        // Whatever kind it is taken for.
        let mut blind = Counts::default();
        let (mut bytes, start) = (0, std::time::Instant::now());
        for sample in &samples {
            bytes += sample.text.len();
            let single;
            let recognizer = match &sample.only {
                None => &all,
                Some(kind) => {
                    single = PiiRecognizer::with_threshold(
                        KINDS.iter().filter(|known| known.as_str() == kind).cloned(),
                        threshold,
                    );
                    &single
                }
            };
            let found = recognizer.find(&sample.text);
            let overlaps = |a: &Range<usize>, b: &Range<usize>| a.start < b.end && b.start < a.end;
            for (span, kind) in &sample.spans {
                let hits = || found.iter().filter(|f| f.kind.as_str() == kind && overlaps(&f.span, span));
                let entry = counts.entry(kind.clone()).or_default();
                if hits().next().is_some() {
                    entry.right += 1;
                    entry.exact += usize::from(hits().any(|f| f.span == *span));
                } else {
                    entry.missed += 1;
                    if errors.as_deref() == Some(kind) {
                        let other: Vec<_> =
                            found.iter().filter(|f| overlaps(&f.span, span)).map(|f| f.kind.as_str()).collect();
                        writeln!(out, "MISSED {:?} {other:?} in {:?}", &sample.text[span.clone()], sample.text)?;
                    }
                }
            }
            for (span, _) in &sample.spans {
                let hit = found.iter().any(|finding| overlaps(&finding.span, span));
                *(if hit { &mut blind.right } else { &mut blind.missed }) += 1;
            }
            let stray = |span: &Range<usize>| !sample.spans.iter().any(|(known, _)| overlaps(span, known));
            blind.wrong += found.iter().filter(|finding| stray(&finding.span)).count();
            for finding in &found {
                let kind = finding.kind.as_str();
                if !sample.spans.iter().any(|(span, label)| label == kind && overlaps(&finding.span, span)) {
                    counts.entry(kind.to_owned()).or_default().wrong += 1;
                    if errors.as_deref() == Some(kind) {
                        writeln!(
                            out,
                            "WRONG {:?} {:.2} in {:?}",
                            &sample.text[finding.span.clone()],
                            finding.score,
                            sample.text
                        )?;
                    }
                }
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        writeln!(out, "{file}: {} texts, {:.1} MB/s", samples.len(), bytes as f64 / 1e6 / seconds)?;
        writeln!(
            out,
            "{:<42} {:>6} {:>6} {:>6} {:>6} {:>9} {:>7}",
            "kind", "right", "exact", "wrong", "missed", "precision", "recall"
        )?;
        // Recall weighs four times as much as precision.
        let (right, wrong, missed) = (blind.right as f64, blind.wrong as f64, blind.missed as f64);
        let f2 = 5.0 * right / (5.0 * right + 4.0 * missed + wrong);
        writeln!(
            out,
            "whatever the kind: F2 {f2:.4}, {} right, {} wrong, {} missed",
            blind.right, blind.wrong, blind.missed
        )?;
        for (kind, c) in &counts {
            let ratio = |part: usize, whole: usize| if whole == 0 { f64::NAN } else { part as f64 / whole as f64 };
            let (p, r) = (ratio(c.right, c.right + c.wrong), ratio(c.right, c.right + c.missed));
            writeln!(out, "{kind:<42} {:>6} {:>6} {:>6} {:>6} {p:>9.3} {r:>7.3}", c.right, c.exact, c.wrong, c.missed)?;
        }
    }
    Ok(())
}

fn jsonl(content: &str) -> Result<Vec<Sample>, Box<dyn std::error::Error>> {
    let mut samples = Vec::new();
    for line in content.lines() {
        let item: Value = serde_json::from_str(line)?;
        let text = item["text"].as_str().ok_or("no text")?.to_owned();
        let mut places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        places.push(text.len());
        let range = |start: &Value, end: &Value| -> Option<Range<usize>> {
            Some(*places.get(start.as_u64()? as usize)?..*places.get(end.as_u64()? as usize)?)
        };
        if let Some(spans) = item["spans"].as_array() {
            let spans = spans
                .iter()
                .filter_map(|span| {
                    Some((range(&span["start"], &span["end"])?, span["bedrock_type"].as_str()?.to_owned()))
                })
                .collect();
            samples.push(Sample { text, spans, only: None });
        } else if let Some(kind) = item["bedrock_type"].as_str() {
            let mut spans: Vec<_> = item["expected_spans"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|span| range(&span[0], &span[1]))
                .collect();
            if spans.is_empty() && item["expect_found"] == Value::Bool(true) {
                spans.push(0..text.len());
            }
            let spans = spans.into_iter().map(|span| (span, kind.to_owned())).collect();
            samples.push(Sample { text, spans, only: Some(kind.to_owned()) });
        }
    }
    Ok(samples)
}

fn bio(content: &str) -> Vec<Sample> {
    content
        .split("\n\n")
        .filter(|sentence| !sentence.trim().is_empty())
        .map(|sentence| {
            let (mut text, mut spans): (String, Vec<(Range<usize>, String)>) = Default::default();
            for line in sentence.lines() {
                let Some((token, tag)) = line.split_once('\t') else { continue };
                if !text.is_empty() && !matches!(token, "," | "." | "!" | "?" | ")" | ":" | ";" | "'s") {
                    text.push(' ');
                }
                let start = text.len();
                text.push_str(token);
                let person = tag.ends_with("PER") || tag.ends_with("person");
                if person && tag.starts_with("B-") {
                    spans.push((start..text.len(), "NAME".to_owned()));
                } else if person && let Some((span, _)) = spans.last_mut() {
                    span.end = text.len();
                }
            }
            Sample { text, spans, only: None }
        })
        .collect()
}
