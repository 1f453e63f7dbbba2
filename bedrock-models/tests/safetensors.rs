//! Safetensors folders in the layouts that are found on hubs, and the ways in which they can be wrong.

use std::path::Path;

use bedrock_models::Error;
use bedrock_models::weights::{Checkpoint, Dtype, SafetensorsProblem};
use bytes::Bytes;

/// A file of the given header and data bytes.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// A file with one F32 tensor of two elements.
fn one_tensor(name: &str) -> Vec<u8> {
    file(&format!(r#"{{"{name}":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}}}"#), &[0, 0, 128, 63, 0, 0, 0, 192])
}

fn problem(bytes: Vec<u8>) -> SafetensorsProblem {
    match Checkpoint::from_safetensors(Bytes::from(bytes), "model.safetensors") {
        Err(Error::Safetensors { path, source }) if path == Path::new("model.safetensors") => source,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

#[test]
fn all_number_types_are_read() {
    let types = [
        ("BOOL", 1, Dtype::Bool),
        ("U8", 1, Dtype::U8),
        ("I8", 1, Dtype::I8),
        ("U16", 2, Dtype::U16),
        ("I16", 2, Dtype::I16),
        ("F16", 2, Dtype::F16),
        ("BF16", 2, Dtype::BF16),
        ("U32", 4, Dtype::U32),
        ("I32", 4, Dtype::I32),
        ("F32", 4, Dtype::F32),
        ("U64", 8, Dtype::U64),
        ("I64", 8, Dtype::I64),
        ("F64", 8, Dtype::F64),
    ];
    for (name, size, dtype) in types {
        let header = format!(
            r#"{{"__metadata__":{{"format":"pt"}},"t":{{"dtype":"{name}","shape":[1,1],"data_offsets":[0,{size}]}}}}"#
        );
        let mut tensors = Checkpoint::from_safetensors(file(&header, &vec![0; size]).into(), "f").unwrap();
        let tensor = tensors.take("t").unwrap();
        assert_eq!(tensor.dtype, dtype);
        assert_eq!(tensor.to_f32().unwrap(), [0.0]);
        tensors.finish(&[]).unwrap();
    }
}

#[test]
fn empty_and_scalar_tensors_are_tensors() {
    let header = r#"{"none":{"dtype":"F32","shape":[0,7],"data_offsets":[0,0]},"one":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}"#;
    let mut tensors = Checkpoint::from_safetensors(file(header, &[0, 0, 128, 63]).into(), "f").unwrap();
    assert!(tensors.take("none").unwrap().to_f32().unwrap().is_empty());
    assert_eq!(tensors.take("one").unwrap().to_f32().unwrap(), [1.0]);
}

#[test]
fn a_folder_a_file_and_shards_give_the_same() {
    let index = br#"{"metadata":{"total_size":16},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#;
    let sharded = folder(&[
        ("model-00001-of-00002.safetensors", &one_tensor("a")),
        ("model-00002-of-00002.safetensors", &one_tensor("b")),
        ("model.safetensors.index.json", index),
    ]);
    let both = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#;
    let data = [0, 0, 128, 63, 0, 0, 0, 192, 0, 0, 128, 63, 0, 0, 0, 192];
    let single = folder(&[("model.safetensors", &file(both, &data))]);
    let paths = [
        sharded.path().to_path_buf(),
        sharded.path().join("model.safetensors.index.json"),
        single.path().to_path_buf(),
        single.path().join("model.safetensors"),
    ];
    for path in paths {
        let mut tensors = Checkpoint::open(&path).unwrap();
        assert_eq!(tensors.take("a").unwrap().to_f32().unwrap(), [1.0, -2.0]);
        assert_eq!(tensors.take("b").unwrap().to_f32().unwrap(), [1.0, -2.0]);
        tensors.finish(&[]).unwrap();
    }
}

#[test]
fn a_folder_without_safetensors_says_what_it_looked_for() {
    let pickled = folder(&[("pytorch_model.bin", b"")]);
    let error = Checkpoint::open(pickled.path()).unwrap_err();
    assert!(error.to_string().ends_with("holds none of: model.safetensors, model.safetensors.index.json"), "{error}");
}

#[test]
fn an_index_cannot_lead_out_of_its_folder() {
    for name in ["../secret.safetensors", "/secret.safetensors", "sub/secret.safetensors", "..", "", "a\\\\b"] {
        let index = format!(r#"{{"weight_map":{{"a":"{name}"}}}}"#);
        let folder = folder(&[("model.safetensors.index.json", index.as_bytes())]);
        let error = Checkpoint::open(folder.path()).unwrap_err();
        assert!(
            matches!(error, Error::Safetensors { source: SafetensorsProblem::ShardName { .. }, .. }),
            "{name:?}: {error:?}"
        );
    }
}

#[test]
fn an_index_that_disagrees_with_its_files_is_refused() {
    let open = |files: &[(&str, &[u8])]| match Checkpoint::open(folder(files).path()) {
        Err(Error::Safetensors { source, .. }) => source.to_string(),
        other => panic!("expected a refusal, got {other:?}"),
    };
    let index = |text: &'static str| ("model.safetensors.index.json", text.as_bytes());
    let a = one_tensor("a");

    let absent = open(&[("1.safetensors", &a), index(r#"{"weight_map":{"a":"1.safetensors","b":"1.safetensors"}}"#)]);
    assert_eq!(absent, "the index says that tensor b is in 1.safetensors, which does not hold it");
    let twice = open(&[
        ("1.safetensors", &a),
        ("2.safetensors", &a),
        index(r#"{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#),
    ]);
    assert_eq!(twice, "tensor a is in 1.safetensors and again in 2.safetensors");
    assert_eq!(open(&[index(r#"{"weight_map":[]}"#)]), "the index does not map tensors to files");

    let missing = folder(&[index(r#"{"weight_map":{"a":"1.safetensors"}}"#)]);
    let shard = missing.path().join("1.safetensors");
    assert!(matches!(Checkpoint::open(missing.path()), Err(Error::Read { path, .. }) if path == shard));
}

#[test]
fn headers_that_lie_are_refused() {
    assert!(matches!(problem(vec![0; 7]), SafetensorsProblem::TooShort { file: 7 }));
    for length in [1u64, 1 << 20, u64::MAX, u64::MAX - 7, i64::MAX as u64] {
        let problem = problem(length.to_le_bytes().to_vec());
        assert!(matches!(problem, SafetensorsProblem::HeaderLength { header, file: 8 } if header == length));
    }
    let tensor = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"t":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let headers = [
        String::new(),
        "[]".to_string(),
        "{".to_string(),
        "[".repeat(100_000),
        tensor("F32", "[2]", "[0,4]"),
        tensor("F32", "[2]", "[4,12]"),
        tensor("F32", "[2]", "[8,0]"),
        tensor("F32", "[-1]", "[0,8]"),
        tensor("F32", "[18446744073709551615,18446744073709551615]", "[0,8]"),
        tensor("F32", "[4611686018427387904]", "[0,0]"),
        tensor("Q9", "[2]", "[0,8]"),
    ];
    for header in headers {
        let problem = problem(file(&header, &[0; 8]));
        assert!(matches!(problem, SafetensorsProblem::Header { .. }), "{header:.80}: {problem:?}");
    }
}

#[test]
fn data_that_is_cut_or_too_long_is_refused() {
    let whole = one_tensor("t");
    let cut = whole[..whole.len() - 1].to_vec();
    assert_eq!(problem(cut).to_string(), "the tensors end at byte 8 of the data, which has 7 bytes");
    let mut long = whole;
    long.push(0);
    assert_eq!(problem(long).to_string(), "the tensors end at byte 8 of the data, which has 9 bytes");
}

/// The declared sizes sum to 2^64: the end of the data, added to the header's length, would wrap around to the real
/// length of the file.
#[test]
fn sizes_that_wrap_around_are_refused() {
    let eighth = 1u64 << 61;
    let mut tensors = Vec::new();
    for i in 0..8u64 {
        let end = if i == 7 { u64::MAX } else { (i + 1) * eighth };
        let size = end - i * eighth;
        tensors.push(format!(r#""t{i}":{{"dtype":"U8","shape":[{size}],"data_offsets":[{},{end}]}}"#, i * eighth));
    }
    let problem = problem(file(&format!("{{{}}}", tensors.join(",")), &[0; 8]));
    assert!(
        matches!(problem, SafetensorsProblem::DataLength { .. } | SafetensorsProblem::Header { .. }),
        "{problem:?}"
    );
}

#[test]
fn types_that_need_scales_from_elsewhere_are_refused_by_name() {
    let header = r#"{"w.weight":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}}"#;
    assert_eq!(
        problem(file(header, &[0; 8])).to_string(),
        "tensor w.weight has the type F8_E4M3, which is not supported"
    );
}
