//! LoRA adapters in GGUF files: what is read is what was written, and a hostile file is an error that says what is wrong with it.

use std::fs;
use std::path::{Path, PathBuf};

use bedrock_models::quantize::quantize;
use bedrock_models::tune::{AdamW, Lora, Method, Sequence, Trainer, adapter_to_gguf, merge};
use bedrock_models::weights::{Dtype, GgufFile};
use bedrock_models::{Error, LanguageModel, LoadOptions};
use proptest::prelude::*;

const TOKENS: [u32; 6] = [7, 1, 40, 3, 99, 12];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Groups of heads, whose rows of queries and keys lie in another order in a GGUF file.
fn base() -> PathBuf {
    fixtures().join("conformance/llama_llama3")
}

/// Written by PEFT.
fn peft() -> PathBuf {
    fixtures().join("training/llama_llama3")
}

fn options(adapter: &Path) -> LoadOptions {
    LoadOptions { threads: 1, adapter: Some(adapter.to_path_buf()), ..LoadOptions::default() }
}

fn logits(base: &Path, adapter: &Path) -> Vec<Vec<f32>> {
    LanguageModel::load(base, &options(adapter)).unwrap().logits(&TOKENS).unwrap()
}

/// The names and values of an adapter's factors, as they are trained further.
fn factors(base: &Path, adapter: &Path) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let plain = LoadOptions { threads: 1, ..LoadOptions::default() };
    let trainer = Trainer::load(base, &plain, Method::Adapter(adapter.to_path_buf())).unwrap();
    trainer.parameters().map(|(name, shape, values)| (name.to_string(), shape.to_vec(), values)).collect()
}

/// The adapter as a file, in a folder of its own.
fn written() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("adapter.gguf");
    adapter_to_gguf(base(), peft(), &file).unwrap();
    (folder, file)
}

#[test]
fn what_was_written_is_read_on_a_folder_and_on_a_file() {
    let (folder, file) = written();
    let want = factors(&base(), &peft());
    assert!(want.len() > 3 && want.iter().any(|(name, ..)| name.contains("q_proj")));
    assert_eq!(factors(&base(), &file), want);
    let answers = logits(&base(), &peft());
    assert_eq!(logits(&base(), &file), answers);
    let bare = LanguageModel::load(base(), &LoadOptions::default()).unwrap().logits(&TOKENS).unwrap();
    assert!(bare != answers, "the adapter does nothing");
    // Beside a file: the same factors, and the same answers as the folder's adapter there.
    let model = folder.path().join("base.gguf");
    quantize(base(), &model, Dtype::F32, |_| true).unwrap();
    assert_eq!(factors(&model, &file), want);
    assert_eq!(logits(&model, &file), logits(&model, &peft()));
    // Written once more, and merged.
    let again = folder.path().join("again.gguf");
    adapter_to_gguf(&model, &file, &again).unwrap();
    assert_eq!(fs::read(&again).unwrap(), fs::read(&file).unwrap());
    let merged = [folder.path().join("by file"), folder.path().join("by folder")];
    merge(base(), &file, &merged[0]).unwrap();
    merge(base(), peft(), &merged[1]).unwrap();
    let weights = |folder: &PathBuf| fs::read(folder.join("model.safetensors")).unwrap();
    assert_eq!(weights(&merged[0]), weights(&merged[1]));
    // Chosen by request, and a step of training.
    let adapters = [("tuned".to_string(), file.clone())].into();
    let model = LanguageModel::load(base(), &LoadOptions { adapters, ..LoadOptions::default() }).unwrap();
    assert_eq!(model.adapters(), ["tuned"]);
    let plain = LoadOptions { threads: 1, ..LoadOptions::default() };
    let loss = |adapter: &Path| {
        let trainer = Trainer::load(base(), &plain, Method::Adapter(adapter.to_path_buf())).unwrap();
        trainer.loss(&[Sequence::text(TOKENS.to_vec())]).unwrap()
    };
    assert_eq!(loss(&file), loss(&peft()));
}

/// The same factors by llama.cpp's names: see `fixtures/gguf_adapters/SOURCE.md`.
#[test]
fn other_families_read_them_too() {
    let near = |got: &[Vec<f32>], want: &[Vec<f32>]| {
        let largest = want.iter().flatten().fold(0f32, |a, b| a.max(b.abs()));
        got.len() == want.len()
            && got.iter().flatten().zip(want.iter().flatten()).all(|(got, want)| (got - want).abs() <= 1e-5 * largest)
    };
    for case in ["qwen2", "qwen3", "gemma2", "gemma3_text", "phi3"] {
        let (folder, model) =
            (fixtures().join("conformance").join(case), fixtures().join(format!("gguf_families/{case}.gguf")));
        let (by_peft, by_file) =
            (fixtures().join("training").join(case), fixtures().join(format!("gguf_adapters/{case}.gguf")));
        for base in [&folder, &model] {
            let bare = LoadOptions { threads: 1, ..LoadOptions::default() };
            let bare = LanguageModel::load(base, &bare).unwrap().logits(&TOKENS).unwrap();
            let (want, got) = (logits(base, &by_peft), logits(base, &by_file));
            assert!(near(&got, &want) && !near(&bare, &want), "{case} {}", base.display());
            assert_eq!(factors(base, &by_file), factors(base, &by_peft), "{case}");
        }
        // What such a file cannot say of the gemmas is something else in theirs: see gguf_families.rs.
        if !case.starts_with("gemma") {
            assert!(near(&logits(&model, &by_file), &logits(&folder, &by_peft)), "{case}");
        }
        let merged = tempfile::tempdir().unwrap();
        merge(&folder, &by_file, merged.path()).unwrap();
        let plain = LoadOptions { threads: 1, ..LoadOptions::default() };
        let merged = LanguageModel::load(merged.path(), &plain).unwrap().logits(&TOKENS).unwrap();
        assert!(near(&merged, &logits(&folder, &by_peft)), "{case}");
        // Of another family.
        let other = fixtures().join("conformance").join(if case == "qwen2" { "qwen3" } else { "qwen2" });
        let error = LanguageModel::load(other, &options(&by_file)).unwrap_err().to_string();
        assert!(error.contains("it is for"), "{error}");
        // Without an alpha, and with a factor that no layer has.
        let bytes = fs::read(&by_file).unwrap();
        let changed = |from: &[u8], to: &[u8]| {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("changed.gguf");
            fs::write(&file, replaced(&bytes, from, to)).unwrap();
            LanguageModel::load(fixtures().join("conformance").join(case), &options(&file)).unwrap_err()
        };
        let down = if case == "qwen3" { "blk.0.attn_k" } else { "blk.0.ffn_down" };
        let [a, b] = ["a", "b"].map(|factor| format!("{down}.weight.lora_{factor}"));
        assert!(matches!(changed(&text(&a), &text(&a.replace("blk", "bla"))), Error::UnusedTensors { .. }), "{case}");
        let error = changed(&text(&b), &text(&b.replace("blk", "bla")));
        assert!(matches!(error, Error::MissingTensor { name, .. } if name == b), "{case}");
    }
}

/// What is trained beside a folder is the same beside its file, and the other way round.
#[test]
fn adapters_are_of_folders_and_their_files() {
    let near = |got: &[Vec<f32>], want: &[Vec<f32>]| {
        let largest = want.iter().flatten().fold(0f32, |a, b| a.max(b.abs()));
        got.iter().flatten().zip(want.iter().flatten()).all(|(got, want)| (got - want).abs() <= 1e-4 * largest)
    };
    for (case, targets) in [
        ("gpt2", ["c_attn", "c_fc", "c_proj"]),
        ("cohere", ["q_proj", "v_proj", "down_proj"]),
        ("phi3", ["qkv_proj", "o_proj", "gate_up_proj"]),
    ] {
        let bases = [fixtures().join("conformance").join(case), fixtures().join(format!("gguf_families/{case}.gguf"))];
        let plain = LoadOptions { threads: 1, ..LoadOptions::default() };
        let bare = LanguageModel::load(&bases[0], &plain).unwrap().logits(&TOKENS).unwrap();
        for base in &bases {
            let lora = Lora { rank: 3, targets: targets.map(String::from).to_vec(), ..Lora::default() };
            let mut trainer = Trainer::load(base, &plain, Method::Lora(lora)).unwrap();
            let settings = AdamW { learning_rate: 1e-2, ..AdamW::default() };
            for _ in 0..5 {
                trainer.step(&[Sequence::text(TOKENS.to_vec())], &settings).unwrap();
            }
            let folder = tempfile::tempdir().unwrap();
            trainer.save_adapter(folder.path()).unwrap();
            let want = trainer.model().logits(&TOKENS).unwrap();
            assert!(!near(&bare, &want), "{case}");
            assert!(bases.iter().all(|base| near(&logits(base, folder.path()), &want)), "{case} {}", base.display());
        }
    }
}

/// Bytes of a GGUF string.
fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// The file with the only place of some bytes changed to as many others.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let places: Vec<usize> = (0..=bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert!(places.len() == 1 && from.len() == to.len(), "{places:?}");
    [&bytes[..places[0]], to, &bytes[places[0] + from.len()..]].concat()
}

fn loaded(folder: &Path, bytes: &[u8]) -> Result<LanguageModel, Error> {
    let file = folder.join("changed.gguf");
    fs::write(&file, bytes).unwrap();
    LanguageModel::load(base(), &options(&file))
}

#[test]
fn what_is_no_adapter_of_the_model_is_refused_by_name() {
    let (folder, file) = written();
    let bytes = fs::read(&file).unwrap();
    loaded(folder.path(), &bytes).unwrap();
    let alpha: f32 = GgufFile::open(&file).unwrap().metadata.required("adapter.lora.alpha").unwrap();
    let with_alpha = |value: f32| {
        let key = |value: f32| [text("adapter.lora.alpha"), 6u32.to_le_bytes().to_vec(), value.to_le_bytes().to_vec()];
        replaced(&bytes, &key(alpha).concat(), &key(value).concat())
    };
    let said = |bytes: &[u8]| match loaded(folder.path(), bytes) {
        Err(error @ (Error::ConfigValue { .. } | Error::MissingMetadata { .. } | Error::MetadataType { .. })) => {
            error.to_string()
        }
        other => panic!("{other:?}"),
    };
    for (bytes, reason) in [
        (replaced(&bytes, &text("adapter"), &text("adopter")), "general.type is \"adopter\""),
        (replaced(&bytes, &text("lora"), &text("dora")), "adapter.type is \"dora\""),
        (replaced(&bytes, &text("llama"), &text("gemma")), "general.architecture is \"gemma\""),
        (replaced(&bytes, b"adapter.lora.alpha", b"adapter.lora.omega"), "adapter.lora.alpha"),
        (with_alpha(f32::NAN), "adapter.lora.alpha is NaN"),
        (with_alpha(f32::INFINITY), "adapter.lora.alpha is inf"),
    ] {
        let got = said(&bytes);
        assert!(got.contains(reason), "{got}, not {reason}");
    }
    // Nothing is multiplied: as if alpha were the rank.
    let rank = GgufFile::open(&file).unwrap().checkpoint.iter().find(|t| t.name.ends_with("lora_a")).unwrap().shape[0];
    let answers = |value: f32| loaded(folder.path(), &with_alpha(value)).unwrap().logits(&TOKENS).unwrap();
    assert_eq!(answers(0.0), answers(rank as f32));
    let name = "blk.0.attn_q.weight.lora_";
    for (from, to) in [("a", "x"), ("b", "x")] {
        let bytes = replaced(&bytes, &text(&format!("{name}{from}")), &text(&format!("{name}{to}")));
        match (from, loaded(folder.path(), &bytes)) {
            ("a", Err(Error::UnusedTensors { names, .. })) => assert_eq!(names.len(), 2),
            ("b", Err(Error::MissingTensor { name, .. })) => assert!(name.ends_with("attn_q.weight.lora_b")),
            (_, other) => panic!("{other:?}"),
        }
    }
    // Of another model, of a model of another family, and a model for an adapter.
    let other = LanguageModel::load(fixtures().join("conformance/llama_linear"), &options(&file));
    assert!(matches!(other, Err(Error::TensorShape { .. } | Error::UnusedTensors { .. })), "{other:?}");
    let error = said(&replaced(&bytes, &text("llama"), &text("qwen2")));
    assert!(error.contains("it is for qwen2, not for llama"), "{error}");
    let other = LanguageModel::load(fixtures().join("conformance/qwen2"), &options(&file));
    assert!(matches!(other, Err(Error::UnsupportedArchitecture { .. })), "{other:?}");
    let model = folder.path().join("base.gguf");
    quantize(base(), &model, Dtype::F32, |_| true).unwrap();
    let error = LanguageModel::load(base(), &options(&model)).unwrap_err();
    assert!(error.to_string().contains("general.type is \"model\""), "{error}");
}

#[test]
fn every_cut_and_damaged_byte_of_a_header_is_survived() {
    let (folder, file) = written();
    let bytes = fs::read(&file).unwrap();
    let data = GgufFile::open(&file).unwrap().checkpoint.iter().map(|tensor| tensor.data.len()).sum::<usize>();
    let header = bytes.len() - data;
    let mut refused = 0;
    for at in (0..header).step_by(7) {
        assert!(loaded(folder.path(), &bytes[..at]).is_err());
    }
    for at in 0..header {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        refused += usize::from(loaded(folder.path(), &bytes).is_err());
    }
    assert!(refused > header / 2, "{refused} of {header}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Several wrong bytes at once, in numbers and names.
    #[test]
    fn damaged_files_are_survived(damage in prop::collection::vec((0usize..1 << 16, any::<u8>()), 1..6)) {
        let (folder, file) = written();
        let mut bytes = fs::read(&file).unwrap();
        let header = bytes.len().min(6000);
        damage.iter().for_each(|(at, value)| bytes[at % header] = *value);
        if let Ok(model) = loaded(folder.path(), &bytes) {
            prop_assert_eq!(model.logits(&TOKENS).unwrap().len(), TOKENS.len());
        }
    }
}
