//! Cases of kind `tokenizers`: texts to ids and back.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::case::Case;
use super::findings::{Findings, Stop};
use crate::error::Error;
use crate::tokenizer::{EncodeOptions, Tokenizer, TruncationStrategy};

#[derive(Deserialize)]
struct Expected {
    tokenizers: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Entry {
    path: String,
    vocab_size: usize,
    cases: Vec<Text>,
    pair: Option<Pair>,
    truncation: Option<Truncation>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
    ids_no_special: Vec<u32>,
    offsets: Vec<(usize, usize)>,
    decoded: String,
    decoded_skip_special: String,
}

#[derive(Deserialize)]
struct Pair {
    text: String,
    text_pair: String,
    ids: Vec<u32>,
    type_ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Truncation {
    max_length: usize,
    strategy: String,
    single: Vec<u32>,
    pair: Vec<u32>,
    pair_type_ids: Vec<u32>,
}

pub(super) fn check(case: &Case, findings: &mut Findings) -> Result<(), Stop> {
    let expected: Expected = case.expected()?;
    for (name, entry) in expected.tokenizers {
        // The producer of the case could not record this one.
        if entry.get("skip").is_some() {
            continue;
        }
        let wrong = |source| Error::Config { path: case.folder.join(super::case::EXPECTED), source };
        let entry: Entry = serde_json::from_value(entry).map_err(wrong)?;
        check_one(case, &name, &entry, findings)?;
    }
    Ok(())
}

fn check_one(case: &Case, name: &str, entry: &Entry, findings: &mut Findings) -> Result<(), Stop> {
    let tokenizer = Tokenizer::from_file(case.folder.join(&entry.path))?;
    findings.same(format!("{name}: size of the vocabulary"), &tokenizer.vocab_size(), &entry.vocab_size);
    for Text { text, ids, ids_no_special, offsets, decoded, decoded_skip_special } in &entry.cases {
        let what = |what: &str| format!("{name}: {what} of {text:?}");
        let encoding = tokenizer.encode_with(text, None, &EncodeOptions::default())?;
        findings.same(what("ids"), &encoding.ids, ids);
        let got: Vec<_> = encoding.char_offsets(text, None).into_iter().map(|range| (range.start, range.end)).collect();
        findings.same(what("offsets"), &got, offsets);
        findings.same(what("ids alone"), &tokenizer.encode(text, true)?, ids);
        findings.same(what("ids without special tokens"), &tokenizer.encode(text, false)?, ids_no_special);
        findings.same(what("count"), &tokenizer.count(text)?, &ids_no_special.len());
        findings.same(what("decoding"), &tokenizer.decode(ids_no_special, false)?, decoded);
        findings.same(what("decoding without special tokens"), &tokenizer.decode(ids, true)?, decoded_skip_special);
        let mut stream = tokenizer.stream_decoder(true);
        let mut streamed = String::new();
        for id in ids {
            streamed.push_str(&stream.push(*id)?);
        }
        streamed.push_str(&stream.finish()?);
        findings.same(what("streamed decoding"), &streamed, decoded_skip_special);
    }
    let Some(pair) = &entry.pair else { return Ok(()) };
    let encoding = tokenizer.encode_pair(&pair.text, &pair.text_pair, true)?;
    findings.same(format!("{name}: ids of the pair"), &encoding.ids, &pair.ids);
    findings.same(format!("{name}: segments of the pair"), &encoding.type_ids, &pair.type_ids);
    let Some(truncation) = &entry.truncation else { return Ok(()) };
    let strategy = match truncation.strategy.as_str() {
        "longest_first" => TruncationStrategy::LongestFirst,
        "only_first" => TruncationStrategy::OnlyFirst,
        "only_second" => TruncationStrategy::OnlySecond,
        other => return Err(Stop::Unsupported(format!("truncation strategy {other:?}"))),
    };
    let options = EncodeOptions { max_tokens: Some(truncation.max_length), strategy, ..EncodeOptions::default() };
    let single = tokenizer.encode_with(&pair.text, None, &options)?;
    findings.same(format!("{name}: ids of the shortened text"), &single.ids, &truncation.single);
    let both = tokenizer.encode_with(&pair.text, Some(&pair.text_pair), &options)?;
    findings.same(format!("{name}: ids of the shortened pair"), &both.ids, &truncation.pair);
    findings.same(format!("{name}: segments of the shortened pair"), &both.type_ids, &truncation.pair_type_ids);
    Ok(())
}
