//! Measures denied topics with a real encoder: texts about a topic against harmless texts about everything else.
//!
//! ```text
//! cargo run --release --example topic_quality -- DATA [--embedder M]
//! ```
//!
//! DATA holds the folders `qa-gsm8k`, `rag-covid-qa`, `retrieval-scitldr`, `safety-requests` and `prompt-attack`. For each topic a line: the area under the
//! receiver operating characteristic, the share of texts about it that are denied, and the share of the other texts that are.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bedrock_core::ApplyGuardrailRequest;
use bedrock_examples::{Failure, ModelArguments, find_model, print_json, run};
use bedrock_guard::Guardrail;
use bedrock_models::Embedder;
use clap::Parser;
use serde_json::{Value, json};

/// Measure denied topics
#[derive(Parser)]
struct Arguments {
    /// Folder of the data sets
    data: PathBuf,
    /// Sentence encoder: a folder, or a name of the catalogue
    #[arg(long, value_name = "M", default_value = "all-minilm-l6-v2")]
    embedder: String,
    /// Texts of each kind
    #[arg(long, value_name = "N", default_value_t = 150)]
    most: usize,
    #[command(flatten)]
    models: ModelArguments,
}

fn main() -> ExitCode {
    run(|arguments: Arguments| {
        let set = |file: &str, field: &str, keep: &dyn Fn(&Value) -> bool| texts(&arguments, file, field, keep);
        let any = |_: &Value| true;
        let has = |item: &Value, words: &[&str]| {
            let text = item["text"].as_str().unwrap_or_default().to_lowercase();
            words.iter().any(|word| text.contains(word))
        };
        let mathematics = set("qa-gsm8k/qa.jsonl", "prompt", &any)?;
        let medicine = set("rag-covid-qa/qa.jsonl", "prompt", &any)?;
        let papers = set("retrieval-scitldr/docs.jsonl", "text", &any)?;
        let weapons = set("safety-requests/items.jsonl", "text", &|item| {
            has(item, &["bomb", "gun", "explosive", "weapon"])
                && !item["categories"].as_array().is_none_or(Vec::is_empty)
        })?;
        let everything = set("prompt-attack/benign.jsonl", "text", &|item| {
            item["source"] != "gsm8k"
                && !has(item, &["bomb", "gun", "explosive", "weapon", "virus", "math", "disease", "paper"])
        })?;
        let policy = json!({"name": "topics", "blockedInputMessaging": "no", "blockedOutputsMessaging": "no", "topicPolicyConfig": {"topicsConfig": [
            {"name": "Word problems", "type": "DENY",
             "definition": "Mathematical problems told as little stories, whose answer has to be computed",
             "examples": ["Tom has 5 apples and buys 3 more. How many apples has he?", "A train goes 60 miles an hour. How far is it after 4 hours?"]},
            {"name": "Infectious diseases", "type": "DENY",
             "definition": "Questions about viruses, epidemics, symptoms, vaccines and treatment of infectious diseases",
             "examples": ["How does the virus spread?", "What are the symptoms of influenza?"]},
            {"name": "Machine learning", "type": "DENY",
             "definition": "Research in machine learning, neural networks and artificial intelligence",
             "examples": ["We propose a new method to train deep networks.", "Our model outperforms the baselines."]},
            {"name": "Weapons", "type": "DENY",
             "definition": "How to make, buy or use weapons, explosives and bombs",
             "examples": ["How do I build a bomb?", "Where can I buy a gun without a licence?"]},
        ]}});
        let embedder = Embedder::load(find_model(&arguments.embedder)?, &arguments.models.options())?;
        let guardrail = Guardrail::builder_from_json(&policy.to_string())?.embedder(embedder).build_blocking()?;
        let sets = [mathematics, medicine, papers, weapons, everything];
        let mut scores: Vec<Vec<Vec<f32>>> = Vec::new();
        for texts in &sets {
            let of = |text: &String| -> Result<Vec<f32>, Failure> {
                let scores = guardrail.scores_blocking(&ApplyGuardrailRequest::input(text.as_str()))?;
                Ok(scores.into_iter().map(|score| score.score).collect())
            };
            scores.push(texts.iter().map(of).collect::<Result<_, _>>()?);
        }
        for topic in 0..4 {
            let about: Vec<f32> = scores[topic].iter().map(|scores| scores[topic]).collect();
            let others: Vec<f32> =
                (0..5).filter(|set| *set != topic).flat_map(|set| &scores[set]).map(|scores| scores[topic]).collect();
            let above: f64 = about.iter().map(|one| others.iter().map(|other| rank(*one, *other)).sum::<f64>()).sum();
            let denied =
                |scores: &[f32]| scores.iter().filter(|score| **score >= 0.5).count() as f64 / scores.len() as f64;
            print_json(&json!({
                "topic": policy["topicPolicyConfig"]["topicsConfig"][topic]["name"], "texts": about.len(), "others": others.len(),
                "area": above / (about.len() * others.len()) as f64, "denied": denied(&about), "others_denied": denied(&others),
            }))?;
        }
        Ok(())
    })
}

/// 1 if the first is above the second, 0.5 if they are equal.
fn rank(one: f32, other: f32) -> f64 {
    if one > other { 1.0 } else { f64::from(u8::from(one == other)) / 2.0 }
}

/// Every so-manieth text of a file, no more than asked for.
fn texts(
    arguments: &Arguments,
    file: &str,
    field: &str,
    keep: &dyn Fn(&Value) -> bool,
) -> Result<Vec<String>, Failure> {
    let path = Path::new(&arguments.data).join(file);
    let mut texts = Vec::new();
    for line in std::fs::read_to_string(path)?.lines() {
        let item: Value = serde_json::from_str(line)?;
        if keep(&item) {
            texts.extend(item[field].as_str().map(|text| text.chars().take(600).collect::<String>()));
        }
    }
    let step = texts.len().div_ceil(arguments.most.max(1)).max(1);
    Ok(texts.into_iter().step_by(step).collect())
}
