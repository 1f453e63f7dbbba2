//! Judges texts with a guardrail: JSONL in, JSONL out.
//!
//! ```text
//! echo '{"id": 1, "text": "Mail ada@example.org"}' |
//!     cargo run --release --example assess -- --guardrail examples/data/guardrail.json
//! ```
//!
//! A guardrail whose `tierConfig` says STANDARD, or that denies topics, asks a sentence encoder, `--embedder`.
//!
//! Each line of standard input is `{id, text, grounding_source?, query?}`; each line of standard output has the verdict on one. A line that is no such object
//! gives `{id, line, error}`, and the status is 1 when all others are done.

use std::io::{BufRead as _, Read as _};
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use bedrock_core::{
    ApplyGuardrailRequest, Guardrail as _, GuardrailContentBlock, GuardrailContentQualifier, GuardrailContentSource,
};
use bedrock_examples::{Failure, ModelArguments, failure, print_json, run, with_encoder};
use bedrock_guard::{FindingKind, Guardrail, TextFinding};
use clap::{Parser, ValueEnum};
use serde_json::{Map, Value, json};

/// Judge texts with a guardrail: JSONL on standard input, JSONL on standard output.
#[derive(Parser)]
struct Arguments {
    /// The guardrail: the body of the service's CreateGuardrail.
    #[arg(long)]
    guardrail: PathBuf,
    /// Whether the texts go to a model or come from one.
    #[arg(long, value_enum, default_value = "INPUT")]
    source: Source,
    /// Add raw scores, and as "attacks" those of the kinds of prompt attacks, which add up to that of PROMPT_ATTACK
    #[arg(long)]
    scores: bool,
    /// Sentence encoder for filters of tier STANDARD, denied topics and the grounding check, loaded only if the guardrail has any: a folder, or a name of the
    /// catalogue; default: all-minilm-l6-v2, without which the grounding check goes by shared words
    #[arg(long, value_name = "M")]
    embedder: Option<String>,
    #[command(flatten)]
    models: ModelArguments,
}

#[derive(Clone, Copy, ValueEnum)]
enum Source {
    #[value(name = "INPUT", alias = "input")]
    Input,
    #[value(name = "OUTPUT", alias = "output")]
    Output,
}

/// Bytes of the longest line that is read.
const LINE_LIMIT: u64 = 64 << 20;

fn main() -> ExitCode {
    run(|arguments: Arguments| {
        let json = std::fs::read_to_string(&arguments.guardrail)
            .map_err(|error| failure(format!("cannot read {}: {error}", arguments.guardrail.display())))?;
        let named = |error| failure(format!("{}: {error}", arguments.guardrail.display()));
        let mut builder = Guardrail::builder_from_json(&json).map_err(named)?;
        builder = with_encoder(builder, arguments.embedder.as_deref(), &arguments.models)?;
        let guardrail = builder.build_blocking().map_err(named)?;
        let source = match arguments.source {
            Source::Input => GuardrailContentSource::Input,
            Source::Output => GuardrailContentSource::Output,
        };
        let (mut failed, mut number) = (0, 0);
        let mut input = std::io::stdin().lock();
        let mut line = Vec::new();
        loop {
            line.clear();
            if input.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            number += 1;
            let whole = line.len() < LINE_LIMIT as usize || line.ends_with(b"\n");
            if !whole {
                input.skip_until(b'\n')?;
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let item = match serde_json::from_slice::<Value>(&line) {
                _ if !whole => Err(failure(format!("longer than {LINE_LIMIT} bytes"))),
                item => item.map_err(Failure::from),
            };
            let id = item.as_ref().map_or(Value::Null, |item| item["id"].clone());
            match item.and_then(|item| assess(&guardrail, &source, &item, arguments.scores)) {
                Ok(verdict) => print_json(&verdict)?,
                Err(error) => {
                    failed += 1;
                    print_json(&json!({"id": id, "line": number, "error": error.to_string()}))?;
                }
            }
        }
        if failed > 0 { Err(failure(format!("{failed} of {number} lines failed"))) } else { Ok(()) }
    })
}

fn assess(
    guardrail: &Guardrail,
    source: &GuardrailContentSource,
    item: &Value,
    scores: bool,
) -> Result<Value, Failure> {
    let text = item["text"].as_str().ok_or_else(|| failure("no string \"text\""))?;
    let mut request = ApplyGuardrailRequest::new(source.clone(), [text]);
    for (field, qualifier) in
        [("grounding_source", GuardrailContentQualifier::GroundingSource), ("query", GuardrailContentQualifier::Query)]
    {
        if let Some(text) = item[field].as_str() {
            request.content.push(GuardrailContentBlock::text(text, [qualifier]));
        }
    }
    let started = Instant::now();
    let verdict = guardrail.apply_blocking(&request)?;
    let latency = started.elapsed();
    let mut assessments = serde_json::to_value(&verdict.assessments)?;
    // The service's answer has no positions; the finder has.
    let found = guardrail.find_blocking(text, source)?;
    let policy = &mut assessments[0]["sensitiveInformationPolicy"];
    locate(text, &mut policy["piiEntities"], scores, found.iter().filter(|f| matches!(f.kind, FindingKind::Pii(_))));
    locate(text, &mut policy["regexes"], scores, found.iter().filter(|f| matches!(f.kind, FindingKind::Regex(_))));
    if policy.as_object().is_some_and(|policy| policy.values().all(Value::is_null)) || policy.is_null() {
        assessments[0].as_object_mut().map(|assessment| assessment.shift_remove("sensitiveInformationPolicy"));
    }
    let outputs: Vec<_> = verdict.outputs.iter().map(|output| output.text.as_deref().unwrap_or_default()).collect();
    let mut out = json!({
        "id": item["id"], "action": verdict.action, "outputs": outputs, "assessments": assessments,
        "latency_us": latency.as_micros() as u64,
    });
    if scores {
        let (mut scores, mut attacks) = (Map::new(), Map::new());
        for score in guardrail.scores_blocking(&request)? {
            match score.label.strip_prefix("PROMPT_ATTACK/") {
                Some(kind) => attacks.insert(kind.to_owned(), json!(score.score)),
                None => scores.insert(score.label, json!(score.score)),
            };
        }
        out["scores"] = Value::Object(scores);
        if !attacks.is_empty() {
            out["attacks"] = Value::Object(attacks);
        }
    }
    Ok(out)
}

/// Adds code-point offsets to entries that stand in the order of the findings.
fn locate<'f>(text: &str, entries: &mut Value, scores: bool, found: impl Iterator<Item = &'f TextFinding>) {
    let Some(entries) = entries.as_array_mut() else { return };
    let (mut bytes, mut points) = (0, 0);
    for (entry, finding) in entries.iter_mut().zip(found) {
        let Range { start, end } = finding.span;
        // Findings come by start; a pattern's match may still begin before the end of the one before.
        if start < bytes {
            (bytes, points) = (0, 0);
        }
        points += text[bytes..start].chars().count();
        bytes = start;
        entry["beginOffset"] = json!(points);
        entry["endOffset"] = json!(points + text[start..end].chars().count());
        if scores {
            entry["score"] = json!((f64::from(finding.score) * 1e4).round() / 1e4);
        }
    }
}
