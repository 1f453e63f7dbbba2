//! GGUF files made by the reference implementation of the format read as it reads them.
//!
//! Fixtures: `tests/fixtures/gguf`, made by `scripts/reference/gguf_blocks.py`.

use std::path::{Path, PathBuf};

use bedrock_models::Error;
use bedrock_models::weights::{Array, Checkpoint, Dtype, GgufFile, GgufProblem, Metadata, Value, block};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf").join(name)
}

fn open(name: &str) -> GgufFile {
    GgufFile::open(fixture(name)).unwrap()
}

/// Bit for bit, so that zeros keep their sign and nothing hides behind a tolerance.
fn assert_same_bits(name: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{name}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!(got.to_bits() == want.to_bits() || got == want, "{name}[{i}]: {got} is not {want}");
    }
}

#[test]
fn every_storage_type_decodes_to_the_reference_values() {
    let mut expected = Checkpoint::open(fixture("blocks.safetensors")).unwrap();
    let blocks = open("blocks.gguf").checkpoint;
    let mut seen = Vec::new();
    for tensor in blocks.iter() {
        assert_eq!(tensor.dtype.to_string(), tensor.name);
        tensor.expect_shape(&[3, 256]).unwrap();
        let want = expected.take(&format!("decoded.{}", tensor.name)).unwrap().to_f32().unwrap();
        assert_same_bits(&tensor.name, &tensor.to_f32().unwrap(), &want);
        seen.push(tensor.dtype);
    }
    seen.sort_unstable();
    let types = [
        Dtype::F32,
        Dtype::F16,
        Dtype::BF16,
        Dtype::F64,
        Dtype::I8,
        Dtype::I16,
        Dtype::I32,
        Dtype::I64,
        Dtype::Q4_0,
        Dtype::Q4_1,
        Dtype::Q5_0,
        Dtype::Q5_1,
        Dtype::Q8_0,
        Dtype::Q2K,
        Dtype::Q3K,
        Dtype::Q4K,
        Dtype::Q5K,
        Dtype::Q6K,
        Dtype::Iq4Nl,
        Dtype::Iq4Xs,
        Dtype::Tq1_0,
        Dtype::Tq2_0,
        Dtype::Mxfp4,
    ];
    assert_eq!(seen, types);
    expected.finish(&["values", "encoded.*"]).unwrap();
}

#[test]
fn the_encoders_give_the_reference_bytes() {
    let mut expected = Checkpoint::open(fixture("blocks.safetensors")).unwrap();
    let values = expected.take("values").unwrap().to_f32().unwrap();
    for dtype in [Dtype::Q8_0, Dtype::Q4_0, Dtype::Q4_1] {
        let want = expected.take(&format!("encoded.{dtype}")).unwrap();
        assert_eq!(block::quantize(dtype, &values).unwrap(), want.data, "{dtype}");
    }
}

#[test]
fn what_is_encoded_decodes_to_about_the_same() {
    let values: Vec<f32> = (0..256).map(|i| (i as f32 * 0.37).sin() * 5.0).collect();
    // Half a step of the type's grid over the values' range, and the rounding of the scale to half precision.
    let steps =
        [(Dtype::F32, 0.0), (Dtype::F16, 0.003), (Dtype::BF16, 0.02), (Dtype::Q8_0, 0.025), (Dtype::Q4_1, 0.35)];
    for (dtype, allowed) in steps {
        let bytes = block::quantize(dtype, &values).unwrap();
        let mut back = vec![0.0; values.len()];
        block::dequantize(dtype, &bytes, &mut back).unwrap();
        for (value, back) in values.iter().zip(back) {
            assert!((value - back).abs() <= allowed, "{dtype}: {value} became {back}");
        }
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let error = block::dequantize(Dtype::Q4_0, &[0; 18], &mut [0.0; 31]).unwrap_err();
    assert_eq!(error.to_string(), "18 bytes of Q4_0 cannot be decoded to 31 elements");
    assert!(block::dequantize(Dtype::Q4_0, &[0; 17], &mut [0.0; 32]).is_err());
    assert!(matches!(block::quantize(Dtype::Q4_0, &[0.0; 33]), Err(Error::Encode { elements: 33, .. })));
    assert!(matches!(block::quantize(Dtype::Q6K, &[0.0; 256]), Err(Error::Encode { dtype: Dtype::Q6K, .. })));
}

fn assert_test_metadata(metadata: &Metadata) {
    let values = [
        ("general.architecture", Value::String("test".into())),
        ("test.bool", Value::Bool(true)),
        ("test.bools", Value::Array(Array::Bool(vec![true, false]))),
        ("test.f32", Value::F32(0.5)),
        ("test.f64", Value::F64(1e300)),
        ("test.floats", Value::Array(Array::F32(vec![0.25, -2.0]))),
        ("test.i16", Value::I16(-30_000)),
        ("test.i32", Value::I32(-2_000_000_000)),
        ("test.i64", Value::I64(-(1 << 62))),
        ("test.i8", Value::I8(-100)),
        ("test.ints", Value::Array(Array::I32(vec![-1, 0, 1]))),
        ("test.string", Value::String("naïve 文 🦀".into())),
        ("test.strings", Value::Array(Array::String(vec!["a".into(), String::new(), "ü".into()]))),
        ("test.u16", Value::U16(60_000)),
        ("test.u32", Value::U32(4_000_000_000)),
        ("test.u64", Value::U64(1 << 63)),
        ("test.u8", Value::U8(200)),
    ];
    for (key, value) in &values {
        assert_eq!(metadata.get(key), Some(value), "{key}");
    }
}

fn assert_test_tensors(checkpoint: &Checkpoint) {
    let mut expected = Checkpoint::open(fixture("v3.safetensors")).unwrap();
    assert_eq!(checkpoint.len(), expected.len());
    for tensor in checkpoint.iter() {
        let want = expected.take(&tensor.name).unwrap();
        tensor.expect_shape(&want.shape).unwrap();
        assert_same_bits(&tensor.name, &tensor.to_f32().unwrap(), &want.to_f32().unwrap());
    }
}

#[test]
fn versions_two_and_three_read_alike() {
    let (v2, v3) = (open("v2.gguf"), open("v3.gguf"));
    for file in [&v2, &v3] {
        assert_test_metadata(&file.metadata);
        assert_eq!(file.metadata.required::<u32>("general.alignment").unwrap(), 64);
        assert_test_tensors(&file.checkpoint);
        assert_eq!(file.checkpoint.get("blk.0.ffn.weight").unwrap().shape, [2, 3, 4]);
    }
    assert!(v2.metadata.iter().eq(v3.metadata.iter()));
}

#[test]
fn tensors_are_slices_of_the_file() {
    let file = open("v3.gguf");
    let data = |name: &str| file.checkpoint.get(name).unwrap().data.as_ptr() as usize;
    // Distances in the file, to the alignment of 64: nothing was copied out.
    assert_eq!(data("blk.0.ffn.weight") - data("token_embd.weight"), 192);
    assert_eq!(data("output_norm.weight") - data("blk.0.ffn.weight"), 64);
}

#[test]
fn any_part_of_a_split_model_opens_all_of_it() {
    for number in 1..=3 {
        let file = open(&format!("split-0000{number}-of-00003.gguf"));
        assert_test_metadata(&file.metadata);
        assert_test_tensors(&file.checkpoint);
    }
}

#[test]
fn an_incomplete_or_misnamed_split_model_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let part = |number: u32| format!("split-0000{number}-of-00003.gguf");
    let copy = |from: &str, to: &str| std::fs::copy(fixture(from), folder.path().join(to)).unwrap();

    copy(&part(1), &part(1));
    copy(&part(2), &part(2));
    let missing = folder.path().join(part(3));
    assert!(matches!(GgufFile::open(folder.path().join(part(1))), Err(Error::Read { path, .. }) if path == missing));

    copy(&part(2), &part(3));
    let error = GgufFile::open(folder.path().join(part(1))).unwrap_err();
    assert!(
        matches!(&error, Error::Gguf { path, source: GgufProblem::SplitNumber { expected: 3, got: 2 } } if *path == missing)
    );

    copy(&part(1), "model.gguf");
    let error = GgufFile::open(folder.path().join("model.gguf")).unwrap_err();
    assert!(matches!(error, Error::Gguf { source: GgufProblem::SplitName { number: 1, count: 3 }, .. }));
}
