//! What a GGUF file says of the tokenizer of a Hugging Face folder: byte-level BPE, and BPE made of SentencePiece.
//!
//! The way back is [`super::gguf`]; both are compared on texts before anything is written.

use std::collections::HashSet;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value as Json;

use super::folder::{MAX_TOKENIZER_BYTES, read_bounded};
use super::gguf::{Kind, MERGES, MODEL, PRE, SCORES, SPACE, TOKENS, TYPES, merges_by_score};
use super::pre::PreTokenizer;
use super::{SpecialTokens, Tokenizer};
use crate::error::Error;
use crate::weights::{Array, Metadata, Value};

/// Texts that tokenizers cut differently if they differ at all.
const PROBES: [&str; 6] = [
    "Hello, world! It's 12345 o'clock; they'LL say I've  two   spaces.",
    "fn main() {\n\tlet x = [0x1F, -3.25e-7];\r\n\n    println!(\"{x:?}\");\n}\n",
    "Ünïcödé, ñandú, e\u{301}, naïve café — “quoted” … ½ ² Ⅷ",
    "日本語のテキスト、中文，한국어 텍스트. Привет, мир! مرحبا שלום नमस्ते",
    " leading and trailing \u{a0}\u{2003} 🙂👩‍👩‍👧 $€£ #tag @name https://example.org/a?b=c&d=%20 ",
    "1 22 333 4444 55555 abcABCabc ABCdef camelCaseWord snake_case_word",
];

/// The part of `tokenizer.json` that is read.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    normalizer: Json,
    #[serde(default)]
    pre_tokenizer: Json,
    #[serde(default)]
    added_tokens: Vec<Added>,
    model: Json,
}

#[derive(Deserialize)]
struct Added {
    id: usize,
    content: String,
    #[serde(default)]
    special: bool,
}

/// Writes the keys of a folder's tokenizer into the metadata of a file with `vocabulary` embeddings.
///
/// # Errors
/// [`Error::UnknownTokenizer`] for one that GGUF has no name for; [`Error::ConfigValue`] if what the file says would be another; unreadable files.
pub(crate) fn describe(folder: &Path, vocabulary: usize, metadata: &mut Metadata) -> Result<(), Error> {
    let tokenizer = Tokenizer::from_file(folder)?;
    let path = folder.join("tokenizer.json");
    let file: File = serde_json::from_slice(&read_bounded(&path, MAX_TOKENIZER_BYTES)?)
        .map_err(|error| Error::TokenizerFile { path: path.clone(), source: error.into() })?;
    let wrong = |what: String| Error::ConfigValue { path: path.clone(), what };
    let unknown = |key: &str, value: &Json| {
        let name = value.to_string().chars().take(200).collect();
        Error::UnknownTokenizer { path: path.clone(), key: key.into(), name }
    };
    if file.model["type"] != "BPE" {
        return Err(unknown("model.type", &file.model["type"]));
    }
    let special = tokenizer.special_tokens();
    if special.eos.is_none() {
        // Readers would take a token of their own choice for it.
        return Err(wrong("there is no end-of-text token, which a GGUF file must have".into()));
    }
    let (texts, mut kinds) = vocabulary_of(&file, vocabulary).map_err(wrong)?;
    let merges = merges_of(&file.model["merges"]).map_err(wrong)?;
    let mut probes = Vec::new();
    match file.model["byte_fallback"].as_bool().unwrap_or(false) {
        false => {
            let pre = named(&file).ok_or_else(|| unknown("pre_tokenizer", &file.pre_tokenizer))?;
            metadata.insert(MODEL, Value::String("gpt2".into()));
            metadata.insert(PRE, Value::String(pre.into()));
            let line = |(left, right): (String, String)| match left.contains(' ') || right.contains(' ') {
                true => Err(wrong(format!("the merge of {left:?} and {right:?} has a space"))),
                false => Ok(format!("{left} {right}")),
            };
            let lines: Vec<String> = merges.into_iter().map(line).collect::<Result<_, _>>()?;
            metadata.insert(MERGES, Value::Array(Array::String(lines)));
        }
        true => {
            let prefix = prefix(&file).ok_or_else(|| unknown("normalizer", &file.normalizer))?;
            for (text, kind) in texts.iter().zip(&mut kinds) {
                let hex = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
                if hex.is_some_and(|hex| hex.len() == 2 && u8::from_str_radix(hex, 16).is_ok()) {
                    *kind = Kind::Byte;
                }
            }
            if let Some(kind) = special.unk.and_then(|unk| kinds.get_mut(unk as usize)) {
                *kind = Kind::Unknown;
            }
            let scores = scores(&texts, &merges, &kinds)
                .ok_or_else(|| wrong("its merges do not follow from scores of the pieces".into()))?;
            probes = doubtful(&texts, &merges, &scores, &kinds)
                .ok_or_else(|| wrong("its merges are not all ways to make its pieces".into()))?;
            metadata.insert(MODEL, Value::String("llama".into()));
            metadata.insert(SCORES, Value::Array(Array::F32(scores)));
            metadata.insert("tokenizer.ggml.add_space_prefix", Value::Bool(prefix));
        }
    }
    metadata.insert(TOKENS, Value::Array(Array::String(texts)));
    metadata.insert(TYPES, Value::Array(Array::I32(kinds.into_iter().map(Kind::number).collect())));
    roles(special, metadata);
    // Of the ends of a generation readers know the end of text and some by their texts; two more have keys.
    let read = Tokenizer::from_gguf(metadata)?;
    let unnamed: Vec<u32> = special.ends.iter().copied().filter(|end| !read.special_tokens().is_end(*end)).collect();
    if unnamed.len() > 2 {
        return Err(wrong(format!("it has {} ends of a generation that a GGUF file has no key for", unnamed.len())));
    }
    for (end, key) in unnamed.iter().zip(["tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"]) {
        metadata.insert(key, Value::U32(*end));
    }
    let read = Tokenizer::from_gguf(metadata)?;
    let marked = special.ends.iter().filter_map(|end| tokenizer.id_to_token(*end)).map(|end| format!("one{end}two"));
    for text in PROBES.iter().map(ToString::to_string).chain(marked).chain(probes) {
        if read.encode(&text, true)? != tokenizer.encode(&text, true)? {
            return Err(wrong(format!("a GGUF file cannot say that {text:?} has these tokens")));
        }
    }
    Ok(())
}

/// Texts and kinds of as many tokens as there are embeddings.
fn vocabulary_of(file: &File, vocabulary: usize) -> Result<(Vec<String>, Vec<Kind>), String> {
    let mut tokens: Vec<Option<(String, Kind)>> = vec![None; vocabulary];
    let listed = file.model["vocab"].as_object().ok_or("there is no model.vocab")?;
    let listed = listed.iter().map(|(text, id)| (text, id.as_u64(), Kind::Normal));
    let kind = |added: &Added| if added.special { Kind::Control } else { Kind::UserDefined };
    let added = file.added_tokens.iter().map(|added| (&added.content, Some(added.id as u64), kind(added)));
    for (text, id, kind) in listed.chain(added) {
        let place = id.and_then(|id| usize::try_from(id).ok()).and_then(|id| tokens.get_mut(id));
        *place.ok_or_else(|| format!("the id of {text:?} is not below {vocabulary}"))? = Some((text.clone(), kind));
    }
    let filled = |(id, token): (usize, Option<(String, Kind)>)| {
        // Embeddings without a token.
        token.unwrap_or_else(|| (format!("[PAD{id}]"), Kind::Unused))
    };
    Ok(tokens.into_iter().enumerate().map(filled).unzip())
}

/// Pairs, written as a list of two or with a space between.
fn merges_of(merges: &Json) -> Result<Vec<(String, String)>, String> {
    let merges = merges.as_array().ok_or("there are no model.merges")?;
    let pair = |merge: &Json| match (merge.as_str().and_then(|line| line.split_once(' ')), merge.as_array()) {
        (Some((left, right)), _) => Some((left.to_string(), right.to_string())),
        (None, Some(pair)) => match &pair[..] {
            [Json::String(left), Json::String(right)] => Some((left.clone(), right.clone())),
            _ => None,
        },
        _ => None,
    };
    merges.iter().map(|merge| pair(merge).ok_or_else(|| format!("{merge} is no merge"))).collect()
}

/// The name of a byte-level tokenizer's way of cutting.
fn named(file: &File) -> Option<&'static str> {
    let nfc = match file.normalizer["type"].as_str() {
        None if file.normalizer.is_null() => false,
        Some("NFC") => true,
        _ => return None,
    };
    let mut splits: Vec<String> = Vec::new();
    let steps = match file.pre_tokenizer["type"].as_str()? {
        "Sequence" => file.pre_tokenizer["pretokenizers"].as_array()?.as_slice(),
        _ => std::slice::from_ref(&file.pre_tokenizer),
    };
    let (last, before) = steps.split_last()?;
    for step in before {
        splits.push(match step["type"].as_str()? {
            "Split" if step["behavior"] == "Isolated" && step["invert"] != true => {
                step["pattern"]["Regex"].as_str()?.to_string()
            }
            "Digits" if step["individual_digits"] == true => super::pre::DIGIT.to_string(),
            _ => return None,
        });
    }
    if last["type"] != "ByteLevel" || last["add_prefix_space"] == true {
        return None;
    }
    if last["use_regex"].as_bool().unwrap_or(true) {
        splits.push(super::pre::GPT2.to_string());
    }
    let ignore_merges = file.model["ignore_merges"].as_bool().unwrap_or(false);
    PreTokenizer::like(&splits.iter().map(String::as_str).collect::<Vec<_>>(), ignore_merges, nfc)
}

/// Whether a space is put before a text; `None` for what is no tokenizer made of SentencePiece.
fn prefix(file: &File) -> Option<bool> {
    let space = SPACE.to_string();
    let is_replace =
        |step: &Json| step["type"] == "Replace" && step["pattern"]["String"] == " " && step["content"] == *space;
    let is_prepend = |step: &Json| step["type"] == "Prepend" && step["prepend"] == *space;
    let steps = match file.normalizer["type"].as_str() {
        Some("Sequence") => file.normalizer["normalizers"].as_array()?.as_slice(),
        Some(_) => std::slice::from_ref(&file.normalizer),
        None => &[],
    };
    match (steps, file.pre_tokenizer["type"].as_str()) {
        ([first, second], None) if is_prepend(first) && is_replace(second) => Some(true),
        ([only], None) if is_replace(only) => Some(false),
        ([], Some("Metaspace")) if file.pre_tokenizer["split"] == false => {
            Some(file.pre_tokenizer["prepend_scheme"] != "never")
        }
        _ => None,
    }
}

/// Scores from which the merges follow: pieces that are made earlier have larger ones.
fn scores(texts: &[String], merges: &[(String, String)], kinds: &[Kind]) -> Option<Vec<f32>> {
    let mut ranks = std::collections::HashMap::new();
    let mut last = String::new();
    for (rank, (left, right)) in merges.iter().enumerate() {
        let piece = format!("{left}{right}");
        if piece != last && ranks.insert(piece.clone(), rank).is_some() {
            return None;
        }
        last = piece;
    }
    let score = |(id, (text, kind)): (usize, (&String, &Kind))| match (kind, ranks.get(text)) {
        (Kind::Normal, Some(rank)) => -(*rank as f32),
        (Kind::Normal, None) => -((merges.len() + id) as f32),
        _ => 0.0,
    };
    Some(texts.iter().zip(kinds).enumerate().map(score).collect())
}

/// Scores make a piece of any two whose text it is; a list of merges may leave some of them out, mostly because they never meet. Texts that tell
/// whether they do: each such piece alone and beside every character. `None` if it has other merges, or too many such pieces.
fn doubtful(texts: &[String], merges: &[(String, String)], scores: &[f32], kinds: &[Kind]) -> Option<Vec<String>> {
    /// Of more the list would be another one.
    const MOST: usize = 64;
    /// Neighbours; a vocabulary with more has no such pieces.
    const CHARACTERS: usize = 512;
    let mut derived: HashSet<(String, String)> = merges_by_score(texts, scores, kinds).into_iter().collect();
    if !merges.iter().all(|merge| derived.remove(merge)) || derived.len() > MOST {
        return None;
    }
    let characters = texts.iter().filter(|text| text.chars().count() == 1).take(CHARACTERS);
    let characters: Vec<&str> = characters.map(String::as_str).chain([""]).collect();
    let mut probes: Vec<String> = derived.into_iter().map(|(left, right)| format!("{left}{right}")).collect();
    probes.sort();
    let around = probes.iter().flat_map(|piece| {
        characters.iter().flat_map(move |other| [format!("{other}{piece}"), format!("{piece}{other}")])
    });
    Some(around.map(|text| text.replace(SPACE, " ")).collect())
}

/// Ids of tokens that have a role, and which of them are added.
fn roles(special: &SpecialTokens, metadata: &mut Metadata) {
    for (role, id) in [
        ("bos", special.bos),
        ("eos", special.eos),
        ("unknown", special.unk),
        ("padding", special.pad),
        ("seperator", special.sep),
        ("cls", special.cls),
        ("mask", special.mask),
    ] {
        if let Some(id) = id {
            metadata.insert(format!("tokenizer.ggml.{role}_token_id"), Value::U32(id));
        }
    }
    metadata.insert("tokenizer.ggml.add_bos_token", Value::Bool(special.add_bos));
    metadata.insert("tokenizer.ggml.add_eos_token", Value::Bool(special.add_eos));
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn described(tokenizer: &Json, vocabulary: usize) -> Result<Metadata, Error> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        let config = json!({ "eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>" });
        fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        let mut metadata = Metadata::new("m.gguf");
        describe(folder.path(), vocabulary, &mut metadata)?;
        Ok(metadata)
    }

    fn special(id: u32, content: &str) -> Json {
        json!({ "id": id, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false })
    }

    /// All bytes, and pieces that are made of them in this order.
    fn sentencepiece(merges: &[[&str; 2]]) -> Json {
        let mut vocab: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
        vocab.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
        vocab.extend(["\u{2581}", "a", "b", "c"].map(String::from));
        for [left, right] in merges {
            let piece = format!("{left}{right}");
            if !vocab.contains(&piece) {
                vocab.push(piece);
            }
        }
        let vocab: serde_json::Map<String, Json> =
            vocab.into_iter().enumerate().map(|(id, text)| (text, id.into())).collect();
        json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
            "normalizer": { "type": "Sequence", "normalizers": [
                { "type": "Prepend", "prepend": "\u{2581}" },
                { "type": "Replace", "pattern": { "String": " " }, "content": "\u{2581}" },
            ]},
            "pre_tokenizer": null, "post_processor": null, "decoder": null,
            "model": { "type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true, "vocab": vocab,
                "merges": merges },
        })
    }

    #[test]
    fn sentencepiece_is_told_by_scores() {
        let merges = [["b", "c"], ["\u{2581}", "a"], ["a", "b"], ["ab", "c"], ["a", "bc"]];
        let metadata = described(&sentencepiece(&merges), 300).unwrap();
        assert_eq!(metadata.required::<&str>(MODEL).unwrap(), "llama");
        let types: Vec<i32> = metadata.required(TYPES).unwrap();
        assert_eq!((types.len(), &types[..5], types[299]), (300, &[2, 3, 3, 6, 6][..], 5));
        let read = Tokenizer::from_gguf(&metadata).unwrap();
        let texts: Vec<String> =
            read.encode("a abc", false).unwrap().iter().map(|id| read.id_to_token(*id).unwrap()).collect();
        assert_eq!(texts, ["\u{2581}a", "\u{2581}a", "bc"]);
        // "a" and "bc" never meet where "ab" is made first.
        described(&sentencepiece(&[["a", "b"], ["b", "c"], ["ab", "c"]]), 300).unwrap();
        // A piece that is made in two places of the list, and one that could be made of what does meet.
        for merges in [&[["b", "c"], ["ab", "c"], ["a", "b"], ["a", "bc"]][..], &[["b", "c"], ["a", "b"], ["ab", "c"]]]
        {
            let refused = described(&sentencepiece(merges), 300);
            assert!(matches!(refused, Err(Error::ConfigValue { .. })), "{merges:?}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        let good = sentencepiece(&[["a", "b"]]);
        described(&good, 270).unwrap();
        for (pointer, value) in [
            ("/model/type", json!("Unigram")),
            ("/normalizer", json!({ "type": "Lowercase" })),
            ("/pre_tokenizer", json!({ "type": "Whitespace" })),
        ] {
            let mut file = good.clone();
            *file.pointer_mut(pointer).unwrap() = value;
            let result = described(&file, 270);
            assert!(matches!(result, Err(Error::UnknownTokenizer { .. } | Error::TokenizerFile { .. })), "{result:?}");
        }
        assert!(matches!(described(&good, 200), Err(Error::ConfigValue { .. })));
        let mut byte_level = good;
        byte_level["model"]["byte_fallback"] = false.into();
        assert!(matches!(described(&byte_level, 270), Err(Error::UnknownTokenizer { .. })));
    }
}
