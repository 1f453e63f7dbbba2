//! Weight files that are cut short, damaged or lying: an error or a model, never a panic, and never more memory than a
//! small multiple of the file, whatever the file claims.

use std::path::{Path, PathBuf};

use bedrock_models::Error;
use bedrock_models::weights::{Checkpoint, GgufFile};
use bytes::Bytes;
use proptest::prelude::*;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(folder("tests/fixtures/gguf").join(name)).unwrap()
}

/// Most memory that opening may hold at a time, in bytes. The densest texts of a header are two bytes of JSON for a
/// parser's value of 32, in a list that grows by doubling; in GGUF, tensors of 24 bytes for a description of 200.
fn allowance(file: usize) -> u64 {
    64 * file as u64 + (16 << 10)
}

/// Opens a file under the allowance and decodes what is in it; returns whether it opened.
fn opens(kind: &str, content: &[u8]) -> bool {
    let bytes = Bytes::copy_from_slice(content);
    let mut opened = None;
    let used = allocation_counter::measure(|| {
        opened = Some(match kind {
            "gguf" => GgufFile::from_bytes(bytes, "hostile").map(|file| file.checkpoint),
            _ => Checkpoint::from_safetensors(bytes, "hostile"),
        });
    });
    assert!(
        used.bytes_max <= allowance(content.len()),
        "{} bytes for a {kind} file of {}",
        used.bytes_max,
        content.len()
    );
    match opened.unwrap() {
        Ok(checkpoint) => {
            // What opened is usable: every tensor is as long as its shape says, so it decodes.
            for tensor in checkpoint.iter() {
                if tensor.elements() < 1 << 20 {
                    assert_eq!(tensor.to_f32().unwrap().len(), tensor.elements());
                }
            }
            true
        }
        Err(Error::Gguf { path, source }) => {
            assert_eq!((kind, path), ("gguf", PathBuf::from("hostile")));
            assert!(!source.to_string().is_empty());
            false
        }
        Err(Error::Safetensors { path, source }) => {
            assert_eq!((kind, path), ("safetensors", PathBuf::from("hostile")));
            assert!(!source.to_string().is_empty());
            false
        }
        Err(other) => panic!("an error that does not say what is wrong with the file: {other:?}"),
    }
}

/// The files that the tests damage, and how many bytes they need.
fn victims() -> [(&'static str, Vec<u8>, usize); 4] {
    let [blocks, v2, v3] = ["blocks.gguf", "v2.gguf", "v3.gguf"].map(fixture);
    let needed = |content: &[u8]| {
        let bytes = Bytes::copy_from_slice(content);
        let file = GgufFile::from_bytes(bytes.clone(), "victim").unwrap();
        let end = |data: &Bytes| data.as_ptr() as usize + data.len() - bytes.as_ptr() as usize;
        file.checkpoint.iter().map(|tensor| end(&tensor.data)).max().unwrap()
    };
    let safetensors = fixture("v3.safetensors");
    let whole = safetensors.len();
    [
        ("gguf", blocks.clone(), needed(&blocks)),
        ("gguf", v2.clone(), needed(&v2)),
        ("gguf", v3.clone(), needed(&v3)),
        ("safetensors", safetensors, whole),
    ]
}

/// Where the damage is done: the header, which is all that is parsed.
const HEADER: usize = 1800;

#[test]
fn every_truncation_is_an_error() {
    for (kind, content, needed) in victims() {
        assert!(opens(kind, &content));
        for length in 0..content.len() {
            assert_eq!(opens(kind, &content[..length]), length >= needed, "{kind} cut to {length} of {needed}");
        }
    }
}

#[test]
fn every_flipped_bit_of_a_header_is_survived() {
    for (kind, mut content, _) in victims() {
        for position in 0..content.len().min(HEADER) {
            for bit in 0..8 {
                content[position] ^= 1 << bit;
                opens(kind, &content);
                content[position] ^= 1 << bit;
            }
        }
    }
}

/// Every place of a header that might be a count, a length, a size or an offset claims every kind of wrong number.
#[test]
fn every_lying_number_is_survived() {
    for (kind, content, _) in victims() {
        let length = content.len() as u64;
        let lies = [
            0,
            1,
            7,
            33,
            length - 1,
            length,
            length + 1,
            1 << 31,
            (1 << 32) - 1,
            1 << 32,
            1 << 61,
            1 << 62,
            (1 << 63) - 1,
            1 << 63,
            u64::MAX - 31,
            u64::MAX,
        ];
        for position in 0..content.len().min(HEADER) - 8 {
            for lie in lies {
                let mut lying = content.clone();
                lying[position..][..8].copy_from_slice(&lie.to_le_bytes());
                opens(kind, &lying);
                let mut lying = content.clone();
                lying[position..][..4].copy_from_slice(&(lie as u32).to_le_bytes());
                opens(kind, &lying);
            }
        }
    }
}

fn gguf_header(tensors: u64, keys: u64) -> Vec<u8> {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend(tensors.to_le_bytes());
    file.extend(keys.to_le_bytes());
    file
}

fn gguf_string(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// Files whose every byte makes the parser hold as much as it can be made to.
#[test]
fn the_densest_files_stay_within_the_allowance() {
    let count = 20_000u64;
    let mut keys = gguf_header(0, count);
    let mut tensors = gguf_header(count, 0);
    for i in 0..count {
        keys.extend([gguf_string(&format!("{i:x}")), vec![0; 5]].concat());
        // No dimensions (a scalar), type 24 (one byte), at offset 0.
        tensors.extend([gguf_string(&format!("{i:x}")), vec![0, 0, 0, 0, 24, 0, 0, 0], vec![0; 8]].concat());
    }
    tensors.extend([0; 64]);

    let array = |kind: u32, length: u64| [&kind.to_le_bytes()[..], &length.to_le_bytes()].concat();
    let one_key =
        |kind: u32, array: Vec<u8>| [gguf_header(0, 1), gguf_string("k"), kind.to_le_bytes().to_vec(), array].concat();
    let texts = one_key(9, [array(8, count), vec![0; 8 * count as usize]].concat());
    let arrays = one_key(9, [array(9, count), array(0, 0).repeat(count as usize)].concat());

    for file in [&keys, &tensors, &texts, &arrays] {
        assert!(opens("gguf", file));
    }

    let json = |text: String| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let none = "0,".repeat(count as usize) + "0";
    for text in [
        format!(r#"{{"a":[{none}]}}"#),
        format!(r#"{{"a":{{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":[{none}]}}}}"#),
        format!(r#"{{"a":{{"dtype":"U8","shape":[{none}],"data_offsets":[0,0]}}}}"#),
        format!(r#"{{"__metadata__":{{{}"z":""}}}}"#, (0..count).map(|i| format!(r#""{i}":"","#)).collect::<String>()),
    ] {
        opens("safetensors", &json(text));
    }
    let empty = |i| format!(r#""{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
    let many = (0..count).map(empty).collect::<Vec<_>>().join(",");
    assert!(opens("safetensors", &json(format!("{{{many}}}"))));
}

#[test]
fn arrays_nested_without_end_are_refused() {
    let level = [&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat();
    let start = [gguf_header(0, 1), gguf_string("k"), 9u32.to_le_bytes().to_vec()].concat();
    let file = [start, level.repeat(100_000)].concat();
    let error = GgufFile::from_bytes(Bytes::from(file), "deep").unwrap_err();
    let Error::Gguf { source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source.to_string(), "metadata key k has arrays nested more than 4 deep");
}

/// What the fuzzers started from and what they found is replayed on every run of the tests.
#[test]
fn the_fuzz_corpora_are_survived() {
    for kind in ["gguf", "safetensors"] {
        let mut files = 0;
        for entry in std::fs::read_dir(folder("fuzz/corpus").join(kind)).unwrap() {
            opens(kind, &std::fs::read(entry.unwrap().path()).unwrap());
            files += 1;
        }
        assert!(files >= 8, "the {kind} corpus has {files} files");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_in_several_places_is_survived(
        victim in 0..4usize,
        edits in prop::collection::vec((0..HEADER, any::<u8>()), 1..12),
        cut in prop::option::of(0..4000usize),
    ) {
        let (kind, mut content, _) = victims()[victim].clone();
        for (position, byte) in edits {
            let position = position % content.len();
            content[position] = byte;
        }
        if let Some(cut) = cut {
            content.truncate(cut);
        }
        opens(kind, &content);
    }

    #[test]
    fn bytes_of_no_meaning_are_survived(content in prop::collection::vec(any::<u8>(), 0..300)) {
        opens("gguf", &content);
        opens("gguf", &[b"GGUF\x03\0\0\0", &content[..]].concat());
        opens("safetensors", &content);
        opens("safetensors", &[&(content.len() as u64 / 2).to_le_bytes()[..], &content].concat());
    }

    /// Headers of the right form whose numbers are arbitrary.
    #[test]
    fn safetensors_with_arbitrary_numbers_are_survived(
        tensors in prop::collection::vec((prop::collection::vec(any::<u64>(), 0..4), any::<u64>(), any::<u64>()), 0..4),
        data in 0..64usize,
    ) {
        let describe = |(i, (shape, start, end)): (usize, &(Vec<u64>, u64, u64))| {
            format!(r#""{i}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{start},{end}]}}"#)
        };
        let header = format!("{{{}}}", tensors.iter().enumerate().map(describe).collect::<Vec<_>>().join(","));
        let mut content = (header.len() as u64).to_le_bytes().to_vec();
        content.extend(header.as_bytes());
        content.resize(content.len() + data, 0);
        opens("safetensors", &content);
    }
}
