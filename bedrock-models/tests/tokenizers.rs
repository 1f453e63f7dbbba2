//! Tokenizers against the reference implementations, from both kinds of file, and their laws.
//!
//! The fixtures are made by `scripts/reference/tokenizers.py` with tokenizers 0.23.3, sentencepiece 0.2.3 and gguf 0.19.0.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use bedrock_models::Error;
use bedrock_models::generate::{FinishReason, TextStream, TextStreamOptions};
use bedrock_models::tokenizer::{EncodeOptions, Tokenizer};
use bedrock_models::weights::{GgufFile, Metadata, Value as MetadataValue};
use proptest::prelude::*;
use serde_json::Value;

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers");
    let mut fixtures: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    fixtures.sort();
    assert_eq!(fixtures.len(), 12);
    fixtures
}

fn fixture(name: &str) -> PathBuf {
    fixtures().into_iter().find(|path| path.ends_with(name)).unwrap()
}

fn gguf(folder: &Path) -> Metadata {
    GgufFile::open(folder.join("tokenizer.gguf")).unwrap().metadata
}

fn both(folder: &Path) -> [Tokenizer; 2] {
    [Tokenizer::from_file(folder).unwrap(), Tokenizer::from_gguf(&gguf(folder)).unwrap()]
}

/// All tokenizers of both kinds, read once.
fn loaded(name: &str) -> &'static [Tokenizer; 2] {
    static LOADED: LazyLock<Vec<(PathBuf, [Tokenizer; 2])>> =
        LazyLock::new(|| fixtures().into_iter().map(|folder| (folder.clone(), both(&folder))).collect());
    &LOADED.iter().find(|(folder, _)| folder.ends_with(name)).unwrap().1
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

#[test]
fn ids_offsets_and_texts_are_those_of_the_reference() {
    for folder in fixtures() {
        let expected: Value = serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
        for (source, tokenizer) in ["json", "gguf"].iter().zip(both(&folder)) {
            let at = |what: &str, text: &str| format!("{} ({source}), {what} of {text:?}", folder.display());
            assert_eq!(tokenizer.vocab_size() as u64, expected["vocab_size"].as_u64().unwrap());
            let cases = expected["cases"].as_array().unwrap();
            assert!(cases.len() > 30);
            for case in cases {
                let input = text(case, "text");
                let encoding = tokenizer.encode_with(input, None, &EncodeOptions::default()).unwrap();
                assert_eq!(encoding.ids, ids(&case["ids"]), "{}", at("ids", input));
                assert_eq!(tokenizer.encode(input, true).unwrap(), encoding.ids);
                let plain = tokenizer.encode(input, false).unwrap();
                assert_eq!(plain, ids(&case["ids_no_special"]), "{}", at("plain ids", input));
                assert_eq!(tokenizer.count(input).unwrap(), plain.len());
                let offsets: Vec<[usize; 2]> =
                    encoding.char_offsets(input, None).into_iter().map(|range| [range.start, range.end]).collect();
                let wanted: Vec<[usize; 2]> = serde_json::from_value(case["offsets"].clone()).unwrap();
                assert_eq!(offsets, wanted, "{}", at("offsets", input));
                for (range, added) in encoding.offsets.iter().zip(&encoding.added) {
                    assert!(range.start <= range.end && range.end <= input.len());
                    assert!(!added || *range == (0..0));
                }
                assert_eq!(tokenizer.decode(&plain, false).unwrap(), text(case, "decoded"), "{}", at("text", input));
                let skipped = tokenizer.decode(&encoding.ids, true).unwrap();
                assert_eq!(skipped, text(case, "decoded_skip_special"), "{}", at("text without special tokens", input));
            }
        }
    }
}

#[test]
fn the_bytes_of_the_tokens_are_the_text() {
    // Encoders' vocabularies change texts, so their tokens are no bytes of them.
    for folder in fixtures().iter().filter(|folder| !folder.to_string_lossy().contains("wordpiece")) {
        let expected: Value = serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
        for tokenizer in both(folder) {
            let bytes = tokenizer.token_bytes().unwrap().expect("a decoder that runs token by token");
            assert_eq!(bytes.len(), tokenizer.id_limit());
            for case in expected["cases"].as_array().unwrap() {
                let tokens = ids(&case["ids_no_special"]);
                let joined: Vec<u8> = tokens.iter().flat_map(|id| bytes[*id as usize].clone()).collect();
                let (joined, decoded) = (String::from_utf8_lossy(&joined), text(case, "decoded"));
                // The space before a text is the tokenizer's.
                let same = joined == decoded || joined.strip_prefix(' ') == Some(decoded);
                assert!(same, "{}: {joined:?}, {decoded:?}", folder.display());
            }
        }
    }
}

#[test]
fn pairs_and_truncation_are_those_of_the_reference() {
    for folder in fixtures() {
        let expected: Value = serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
        let pair = &expected["pair"];
        let (first, second) = (text(pair, "text"), text(pair, "text_pair"));
        for tokenizer in both(&folder) {
            let encoding = tokenizer.encode_pair(first, second, true).unwrap();
            assert_eq!(encoding.ids, ids(&pair["ids"]), "{}", folder.display());
            assert_eq!(encoding.type_ids, ids(&pair["type_ids"]), "{}", folder.display());
            assert_eq!(encoding.truncated, 0);
            let added = encoding.added.iter().filter(|&&added| added).count();
            assert_eq!(added, tokenizer.special_tokens_added(true));
            let count = |sequence| encoding.sequence.iter().filter(|&&of| of == Some(sequence)).count();
            assert_eq!((count(0), count(1)), (tokenizer.count(first).unwrap(), tokenizer.count(second).unwrap()));

            for case in expected["truncation"].as_array().unwrap() {
                let max = case["max_length"].as_u64().unwrap() as usize;
                let options = EncodeOptions { max_tokens: Some(max), ..EncodeOptions::default() };
                let single = tokenizer.encode_with(first, None, &options).unwrap();
                assert_eq!(single.ids, ids(&case["single"]), "{} {max}", folder.display());
                assert_eq!(single.truncated, tokenizer.encode(first, true).unwrap().len() - max);
                let both = tokenizer.encode_with(first, Some(second), &options).unwrap();
                assert_eq!(both.ids, ids(&case["pair"]), "{} {max}", folder.display());
                assert_eq!(both.type_ids, ids(&case["pair_type_ids"]));
            }
            let options = EncodeOptions { max_tokens: Some(0), ..EncodeOptions::default() };
            match tokenizer.encode_with(first, None, &options) {
                Ok(encoding) => assert!(encoding.is_empty() && tokenizer.special_tokens_added(false) == 0),
                Err(error) => assert!(matches!(error, Error::InvalidParameter { name: "max_tokens", .. })),
            }
        }
    }
}

#[test]
fn both_files_give_the_same_roles() {
    for folder in fixtures() {
        let [json, gguf] = both(&folder);
        let (json, gguf) = (json.special_tokens(), gguf.special_tokens());
        let is_bert = folder.to_string_lossy().contains("wordpiece");
        if !is_bert {
            // BERT's files call their first token [CLS] here and begin-of-text there.
            assert_eq!((json.bos, json.add_bos, json.add_eos), (gguf.bos, gguf.add_bos, gguf.add_eos), "{folder:?}");
        }
        assert_eq!(
            (json.eos, json.unk, json.cls),
            (gguf.eos, gguf.unk.filter(|_| json.unk.is_some()), gguf.cls.filter(|_| is_bert))
        );
        assert!(json.ends.iter().all(|&id| gguf.is_end(id)), "{folder:?}");
    }
}

#[test]
fn flags_and_files_beside_the_tokenizer_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| fs::write(folder.path().join(name), content).unwrap();
    fs::copy(fixture("bpe-llama-bpe").join("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    let open = || Tokenizer::from_file(folder.path()).unwrap();

    assert_eq!(open().special_tokens().bos, None);
    file("config.json", r#"{"bos_token_id": 340, "eos_token_id": 341}"#);
    let (bos, eos) = (340, 341);
    assert_eq!((open().special_tokens().bos, open().special_tokens().add_bos), (Some(bos), true));
    assert_eq!(open().special_tokens().ends, [eos]);

    file("generation_config.json", r#"{"eos_token_id": [343, 341], "pad_token_id": null}"#);
    assert_eq!(open().special_tokens().ends, [341, 343]);
    file("special_tokens_map.json", r#"{"pad_token": {"content": "<|im_end|>"}, "eos_token": "<nowhere>"}"#);
    assert_eq!((open().special_tokens().pad, open().special_tokens().eos), (Some(343), Some(343)));

    let plain = open().encode("honey", false).unwrap();
    assert_eq!(open().encode("honey", true).unwrap(), [vec![bos], plain.clone()].concat());
    file(
        "tokenizer_config.json",
        r#"{"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": false, "add_eos_token": true}"#,
    );
    assert_eq!(open().encode("honey", true).unwrap(), [plain, vec![eos]].concat());

    for (name, content) in [
        ("tokenizer_config.json", "{"),
        ("special_tokens_map.json", "[]"),
        ("config.json", "nonsense"),
        ("generation_config.json", "\u{0}"),
    ] {
        let before = fs::read(folder.path().join(name)).unwrap();
        file(name, content);
        let error = Tokenizer::from_file(folder.path()).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }) && error.to_string().contains(name), "{error}");
        fs::write(folder.path().join(name), before).unwrap();
    }
    let error = Tokenizer::from_file(folder.path().join("nothing")).unwrap_err();
    assert!(matches!(error, Error::Read { .. }) && error.to_string().contains("nothing"));
}

#[test]
fn damaged_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    for fixture in fixtures() {
        let whole = fs::read(fixture.join("tokenizer.json")).unwrap();
        for cut in (0..whole.len()).step_by(whole.len() / 23) {
            fs::write(&path, &whole[..cut]).unwrap();
            let error = Tokenizer::from_file(&path).unwrap_err();
            assert!(matches!(error, Error::TokenizerFile { .. }), "{error:?}");
            assert!(error.to_string().contains("tokenizer.json"));
        }
        // Damage inside may go unnoticed, but must not bring anything down, now or when it is used.
        for place in (0..whole.len()).step_by(whole.len() / 101) {
            let mut damaged = whole.clone();
            damaged[place] ^= 1 << (place % 7);
            fs::write(&path, &damaged).unwrap();
            if let Ok(tokenizer) = Tokenizer::from_file(&path)
                && let Ok(ids) = tokenizer.encode("The keeper's 42 hives 🍯 天", true)
            {
                let _ = tokenizer.decode(&ids, true);
            }
        }
    }
}

#[test]
fn files_that_are_too_large_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    // Sparse: takes no space.
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let error = Tokenizer::from_file(&path).unwrap_err();
    assert!(matches!(error, Error::FileTooLarge { bytes, .. } if bytes == 1 << 40), "{error:?}");
}

#[test]
fn damaged_metadata_are_errors() {
    for folder in fixtures() {
        let whole = gguf(&folder);
        let keys: Vec<String> =
            whole.iter().map(|(key, _)| key.to_string()).filter(|key| key.starts_with("tokenizer")).collect();
        let values: Vec<MetadataValue> = keys.iter().map(|key| whole.get(key).unwrap().clone()).collect();
        for key in &keys {
            // Any key with the value of any other one.
            for value in &values {
                let mut lie = whole.clone();
                lie.insert(key.clone(), value.clone());
                if let Ok(tokenizer) = Tokenizer::from_gguf(&lie) {
                    let _ = tokenizer.encode("The keeper's 42 hives 🍯 天", true);
                }
            }
        }
    }
}

#[test]
fn threads_share_a_tokenizer() {
    let tokenizer = Tokenizer::from_file(fixture("sentencepiece-bpe")).unwrap();
    let expected = tokenizer.encode("counting the frames of honey", true).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(tokenizer.encode("counting the frames of honey", true).unwrap(), expected);
                }
            });
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn streamed_text_is_whole_text(seeds in prop::collection::vec(any::<u32>(), 0..40), skip in any::<bool>()) {
        for folder in fixtures() {
            let [tokenizer, _] = loaded(folder.file_name().unwrap().to_str().unwrap());
            // Ids without a token, too.
            let ids: Vec<u32> = seeds.iter().map(|seed| seed % (tokenizer.vocab_size() as u32 + 3)).collect();
            let mut stream = tokenizer.stream_decoder(skip);
            let mut text = String::new();
            for &id in &ids {
                text.push_str(&stream.push(id).unwrap());
            }
            text.push_str(&stream.finish().unwrap());
            prop_assert!(!stream.is_holding());
            prop_assert_eq!(text, tokenizer.decode(&ids, skip).unwrap(), "{} {:?}", folder.display(), ids);
        }
    }

    #[test]
    fn characters_are_never_torn(text in "\\PC{0,12}") {
        for name in ["bpe-llama-bpe", "sentencepiece-bpe", "sentencepiece-bpe-no-prefix"] {
            let [tokenizer, _] = loaded(name);
            let mut stream = tokenizer.stream_decoder(false);
            for id in tokenizer.encode(&text, false).unwrap() {
                let piece = stream.push(id).unwrap();
                prop_assert!(!piece.contains(char::REPLACEMENT_CHARACTER) || text.contains(char::REPLACEMENT_CHARACTER));
            }
        }
    }

    #[test]
    fn bytes_make_a_round_trip(text in "\\PC{0,40}") {
        for name in ["bpe-llama-bpe", "bpe-gpt-2", "bpe-tekken", "bpe-deepseek-v3", "sentencepiece-bpe", "sentencepiece-bpe-no-prefix"] {
            // A visible space is a space in SentencePiece.
            if text.contains('▁') && name.starts_with("sentencepiece") {
                continue;
            }
            for tokenizer in loaded(name) {
                let ids = tokenizer.encode(&text, false).unwrap();
                prop_assert_eq!(&tokenizer.decode(&ids, false).unwrap(), &text);
            }
        }
    }

    #[test]
    fn a_text_stream_gives_the_text_before_the_stop(
        words in prop::collection::vec(prop_oneof!["[a-e ]{1,6}", Just("🍯".to_string()), Just("\n".to_string())], 1..12),
        stop in "[a-e ]{1,4}",
    ) {
        for name in ["bpe-smollm", "sentencepiece-bpe"] {
            let [tokenizer, _] = loaded(name);
            let text = words.concat();
            let ids = tokenizer.encode(&text, false).unwrap();
            let whole = tokenizer.decode(&ids, true).unwrap();
            let options = TextStreamOptions { stop_sequences: vec![stop.clone()], ..TextStreamOptions::default() };
            let mut stream = TextStream::new(tokenizer, &options).unwrap();
            let mut out = String::new();
            let mut finish = None;
            for id in ids {
                let delta = stream.push(id).unwrap();
                out.push_str(&delta.text);
                finish = finish.or(delta.finish);
            }
            if finish.is_none() {
                let end = tokenizer.special_tokens().eos.unwrap();
                let delta = stream.push(end).unwrap();
                out.push_str(&delta.text);
                finish = delta.finish;
            }
            match whole.find(&stop) {
                Some(at) => {
                    prop_assert_eq!(out, &whole[..at]);
                    prop_assert_eq!(finish, Some(FinishReason::StopSequence(stop.clone())));
                }
                None => {
                    prop_assert_eq!(out, whole);
                    prop_assert!(matches!(finish, Some(FinishReason::EndOfText(_))));
                }
            }
        }
    }
}

#[test]
fn a_text_stream_ends_where_it_should() {
    let tokenizer = Tokenizer::from_file(fixture("bpe-smollm")).unwrap();
    let end = tokenizer.special_tokens().eos.unwrap();
    let ids = tokenizer.encode("the hive 🍯", false).unwrap();
    let run = |options: &TextStreamOptions, ids: &[u32]| {
        let mut stream = TextStream::new(&tokenizer, options).unwrap();
        let mut text = String::new();
        for &id in ids {
            let delta = stream.push(id).unwrap();
            text.push_str(&delta.text);
            if delta.finish.is_some() {
                assert!(stream.is_finished());
                return (text, delta.finish, stream.tokens());
            }
        }
        (text + &stream.finish().unwrap(), None, stream.tokens())
    };
    let options = TextStreamOptions::default();
    let with_end = [&ids[..], &[end], &ids[..]].concat();
    assert_eq!(run(&options, &with_end), ("the hive 🍯".into(), Some(FinishReason::EndOfText(end)), ids.len() + 1));
    let ignoring = TextStreamOptions { ignore_end: true, ..TextStreamOptions::default() };
    assert_eq!(run(&ignoring, &with_end).0, "the hive 🍯the hive 🍯");
    let showing = TextStreamOptions { keep_special: true, ..ignoring };
    assert_eq!(run(&showing, &with_end).0, "the hive 🍯</s>the hive 🍯");
    // The last token is cut inside the emoji: what is there is given out, marked as broken.
    let short = TextStreamOptions { max_tokens: Some(ids.len() - 1), ..TextStreamOptions::default() };
    let (text, finish, tokens) = run(&short, &ids);
    assert_eq!((text.as_str(), finish, tokens), ("the hive \u{fffd}", Some(FinishReason::MaxTokens), ids.len() - 1));
    assert!(
        TextStream::new(&tokenizer, &TextStreamOptions { max_tokens: Some(0), ..TextStreamOptions::default() })
            .is_err()
    );
}
