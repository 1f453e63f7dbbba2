//! Imported models: checked before they are used, placed whole or not at all, found by name, and honest about what was wrong.
#![cfg(unix)]

mod tiny;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bedrock_core::{ChatModel, ConverseRequest, EmbedRequest, EmbeddingModel, ModelImportJobStatus};
use bedrock_models::fetch::{FetchOptions, resolve};
use bedrock_models::import::{ImportOptions, ImportStep, ImportedModel, ImportedTask, ModelStore, Placement};
use bedrock_models::weights::Dtype;
use bedrock_models::{Embedder, Error, LanguageModel, LoadOptions, LocalChatModel, SequenceClassifier};
use serde_json::{Value, json};
use tempfile::TempDir;

struct Place {
    home: TempDir,
    source: TempDir,
    store: ModelStore,
}

impl Place {
    /// An empty store, and the tiny model to import.
    fn new() -> Self {
        let (home, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        tiny::write(source.path());
        let store = ModelStore::open(Some(home.path())).unwrap();
        Self { home, source, store }
    }

    fn import(&self, name: &str, options: &ImportOptions) -> Result<ImportedModel, Error> {
        self.store.import(self.source.path(), name, options, |_| true)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.source.path().join(name)
    }

    fn resolve(&self, name: &str) -> Result<PathBuf, Error> {
        let mut options = FetchOptions::default();
        (options.cache_folder, options.offline) = (Some(self.home.path().to_path_buf()), true);
        resolve(name, &options)
    }

    /// Everything in the store but locks and records of jobs.
    fn content(&self) -> Vec<String> {
        let entries = fs::read_dir(self.store.folder()).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name != ".jobs" && !name.ends_with(".lock")).collect();
        names.sort();
        names
    }

    /// Imports, expects an error, and expects the store to be empty.
    fn refused(&self) -> Error {
        let error = self.import("model", &options()).unwrap_err();
        assert!(self.content().is_empty(), "{:?} is left after {error}", self.content());
        error
    }
}

fn options() -> ImportOptions {
    let mut options = ImportOptions::default();
    options.threads = 1;
    options
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Reads a safetensors file, changes its tensors, and writes it again.
fn change_tensors(path: &Path, change: impl FnOnce(&mut BTreeMap<String, (Value, Vec<u8>)>)) {
    let file = fs::read(path).unwrap();
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: BTreeMap<String, Value> = serde_json::from_slice(&file[8..8 + length]).unwrap();
    let data = &file[8 + length..];
    let mut tensors: BTreeMap<String, (Value, Vec<u8>)> = header
        .into_iter()
        .filter(|(name, _)| name != "__metadata__")
        .map(|(name, info)| {
            let [start, end] = [0, 1].map(|i| info["data_offsets"][i].as_u64().unwrap() as usize);
            (name, (info, data[start..end].to_vec()))
        })
        .collect();
    change(&mut tensors);
    let (mut header, mut data) = (BTreeMap::new(), Vec::new());
    for (name, (mut info, bytes)) in tensors {
        info["data_offsets"] = json!([data.len(), data.len() + bytes.len()]);
        data.extend(bytes);
        header.insert(name, info);
    }
    let header = serde_json::to_vec(&header).unwrap();
    fs::write(path, [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()).unwrap();
}

fn change_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
}

#[test]
fn an_imported_model_is_served_by_its_name_until_it_is_deleted() {
    let place = Place::new();
    fs::write(place.file("README.md"), "---\nlicense: apache-2.0\n---\n# Tiny").unwrap();
    fs::write(place.file("training.log"), "step 1").unwrap();
    let mut steps = Vec::new();
    let model = place
        .store
        .import(place.source.path(), "tiny-model", &options(), |progress| {
            steps.push(format!("{:?}", progress.step));
            assert!(progress.done <= progress.total);
            true
        })
        .unwrap();
    assert_eq!(steps.first().map(String::as_str), Some("Looking"));
    assert_eq!(steps.last().map(String::as_str), Some("Done"));
    assert!(steps.iter().any(|step| step.contains("model.safetensors")) && steps.contains(&"Trying".to_string()));

    assert_eq!((model.task, model.model.instruct_supported), (ImportedTask::Text, Some(true)));
    assert_eq!(model.licence.as_deref(), Some("apache-2.0"));
    assert_eq!(model.model.model_architecture.as_deref(), Some("llama"));
    assert_eq!(model.max_tokens, tiny::CONTEXT);
    assert_eq!(model.ignored, ["training.log"]);
    let names: Vec<&str> = model.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names, ["config.json", "tokenizer.json", "tokenizer_config.json", "README.md", "model.safetensors"]);

    assert_eq!(place.store.list().unwrap(), std::slice::from_ref(&model));
    let arn = model.model.model_arn.clone().unwrap();
    assert_eq!(place.store.get(&arn).unwrap(), model);
    assert_eq!(place.store.summaries().unwrap().model_summaries, [model.summary()]);
    let path = place.resolve("tiny-model").unwrap();
    assert_eq!(place.resolve(&arn).unwrap(), path);
    let chat = LocalChatModel::load(&path, &LoadOptions::default()).unwrap();
    let request = ConverseRequest::new("tiny-model").user("Hi").max_tokens(4);
    let original = LocalChatModel::load(place.source.path(), &LoadOptions::default()).unwrap();
    let answer = chat.converse_blocking(&request).unwrap().text();
    assert_eq!(answer, original.converse_blocking(&request).unwrap().text());

    let jobs = place.store.jobs();
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].status, Some(ModelImportJobStatus::Completed));
    assert_eq!(jobs[0].imported_model_arn, Some(arn));

    place.store.delete("tiny-model").unwrap();
    assert!(place.content().is_empty());
    assert!(matches!(place.store.delete("tiny-model"), Err(Error::NotImported { .. })));
    assert!(matches!(place.resolve("tiny-model"), Err(Error::UnknownModel { .. })));
}

#[test]
fn a_name_is_taken_once_unless_it_is_replaced() {
    let place = Place::new();
    let first = place.import("model", &options()).unwrap();
    assert!(matches!(place.import("model", &options()), Err(Error::ModelExists { name }) if name == "model"));
    change_json(&place.file("config.json"), |config| config["max_position_embeddings"] = 128.into());
    let mut replacing = options();
    replacing.replace = true;
    let second = place.import("model", &replacing).unwrap();
    assert_ne!(first.content_hash, second.content_hash);
    assert_eq!(place.store.get("model").unwrap(), second);
    // What fails leaves the former in place.
    fs::remove_file(place.file("tokenizer.json")).unwrap();
    assert!(place.import("model", &replacing).is_err());
    assert_eq!(place.store.get("model").unwrap(), second);
    place.resolve("model").unwrap();
    assert!(matches!(
        place.import("smollm2-135m-instruct", &options()),
        Err(Error::InvalidParameter { .. }) | Err(Error::ModelExists { .. })
    ));
    assert!(matches!(
        place.import("../model", &options()),
        Err(Error::InvalidParameter { name: "importedModelName", .. })
    ));
}

#[test]
fn every_tensor_that_is_missing_unknown_or_wrong_is_named() {
    let place = Place::new();
    change_tensors(&place.file("model.safetensors"), |tensors| {
        let (info, data) = tensors.remove("model.layers.0.mlp.up_proj.weight").unwrap();
        tensors.insert("model.layers.0.mlp.upward.weight".into(), (info, data));
        tensors.remove("model.norm.weight").unwrap();
        let (info, _) = tensors.get_mut("model.layers.1.self_attn.k_proj.weight").unwrap();
        info["shape"] = json!([64, 32]);
        let (info, _) = tensors.get_mut("model.layers.1.mlp.down_proj.weight").unwrap();
        info["dtype"] = json!("I32");
    });
    let Error::Tensors { path, missing, unknown, wrong } = place.refused() else { panic!("another error") };
    assert_eq!(path, place.source.path());
    assert_eq!(missing, ["model.layers.0.mlp.up_proj.weight", "model.norm.weight"]);
    assert_eq!(unknown, ["model.layers.0.mlp.upward.weight"]);
    let wrong: Vec<(&str, &str)> = wrong.iter().map(|tensor| (tensor.name.as_str(), tensor.got.as_str())).collect();
    let expected = [
        ("model.layers.1.self_attn.k_proj.weight", "[64, 32] of f32"),
        ("model.layers.1.mlp.down_proj.weight", "[64, 96] of i32"),
    ];
    assert_eq!(
        wrong.iter().map(|(name, got)| (*name, got.to_lowercase())).collect::<Vec<_>>(),
        expected.map(|(name, got)| (name, got.to_string()))
    );
}

#[test]
fn other_architectures_are_told_what_there_is() {
    let place = Place::new();
    change_json(&place.file("config.json"), |config| {
        config["model_type"] = "mamba".into();
        config["architectures"] = json!(["MambaForCausalLM"]);
    });
    let error = place.refused().to_string();
    assert!(
        error.contains("mamba (MambaForCausalLM)") && error.contains("llama") && error.contains("modernbert"),
        "{error}"
    );
    let failed = place.store.jobs();
    assert_eq!(failed[0].status, Some(ModelImportJobStatus::Failed));
    assert!(failed[0].failure_message.as_ref().unwrap().contains("mamba"));
}

#[test]
fn a_model_that_cannot_chat_is_taken_only_by_option() {
    let place = Place::new();
    change_json(&place.file("tokenizer_config.json"), |config| {
        config.as_object_mut().unwrap().remove("chat_template");
    });
    assert!(matches!(place.refused(), Error::NoChatTemplate { path, .. } if path == place.source.path()));
    let mut without = options();
    without.without_template = true;
    let model = place.import("base", &without).unwrap();
    assert_eq!(model.model.instruct_supported, Some(false));
    fs::remove_file(place.file("tokenizer.json")).unwrap();
    assert!(matches!(place.import("other", &without), Err(Error::NoTokenizer { .. })));
}

#[test]
fn a_model_of_broken_numbers_is_refused() {
    let place = Place::new();
    change_tensors(&place.file("model.safetensors"), |tensors| {
        tensors.get_mut("model.norm.weight").unwrap().1[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    assert!(matches!(place.refused(), Error::NonFiniteLogit { .. }));
}

#[test]
fn pickles_are_refused_with_the_way_to_convert_them() {
    let place = Place::new();
    fs::rename(place.file("model.safetensors"), place.file("pytorch_model.bin")).unwrap();
    let error = place.refused();
    assert!(matches!(&error, Error::Pickled { files, .. } if files == &["pytorch_model.bin"]));
    assert!(error.to_string().contains("safe_serialization=True"), "{error}");
    let pickle = place.file("pytorch_model.bin");
    assert!(matches!(place.store.import(pickle, "model", &options(), |_| true), Err(Error::Pickled { .. })));
    // Beside safetensors they are only left behind.
    tiny::write(place.source.path());
    assert_eq!(place.import("model", &options()).unwrap().ignored, ["pytorch_model.bin"]);
}

/// The layout of the Hugging Face cache: a snapshot of links to blobs that lie beside it.
#[test]
fn a_snapshot_of_the_cache_is_read_through_its_links() {
    let place = Place::new();
    let cache = tempfile::tempdir().unwrap();
    let model = cache.path().join("models--org--tiny");
    let (blobs, snapshot) = (model.join("blobs"), model.join("snapshots/0123abcd"));
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    for (number, name) in
        ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"].iter().enumerate()
    {
        fs::rename(place.file(name), blobs.join(number.to_string())).unwrap();
        symlink(format!("../../blobs/{number}"), snapshot.join(name)).unwrap();
    }
    let imported = place.store.import(&snapshot, "model", &options(), |_| true).unwrap();
    assert_eq!(imported.files.len(), 4);
    let path = place.resolve("model").unwrap();
    assert!(fs::symlink_metadata(path.join("config.json")).unwrap().is_file(), "a file of its own, not a link");

    // The same links in a folder that is no snapshot lead outside.
    let other = cache.path().join("other/snapshots/0123abcd");
    fs::create_dir_all(&other).unwrap();
    for (number, name) in ["config.json", "model.safetensors"].iter().enumerate() {
        symlink(blobs.join(number.to_string()), other.join(name)).unwrap();
    }
    let error = place.store.import(&other, "other", &options(), |_| true).unwrap_err();
    assert!(matches!(error, Error::LeadsOutside { .. }), "{error}");
}

#[test]
fn links_pipes_and_paths_that_lead_elsewhere_are_refused() {
    let place = Place::new();
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "{}").unwrap();
    let trick = |make: &dyn Fn(&Path)| {
        let place = Place::new();
        make(place.source.path());
        place.refused()
    };
    let replace = |folder: &Path, name: &str, target: &Path| {
        fs::remove_file(folder.join(name)).unwrap();
        symlink(target, folder.join(name)).unwrap();
    };
    assert!(matches!(
        trick(&|folder| replace(folder, "tokenizer_config.json", secret.path())),
        Error::LeadsOutside { target, .. } if target == fs::canonicalize(secret.path()).unwrap()
    ));
    assert!(matches!(
        trick(&|folder| replace(folder, "model.safetensors", Path::new("/dev/zero"))),
        Error::LeadsOutside { .. }
    ));
    assert!(matches!(trick(&|folder| replace(folder, "config.json", Path::new("nowhere"))), Error::Read { .. }));
    assert!(matches!(trick(&|folder| replace(folder, "config.json", Path::new("config.json"))), Error::Read { .. }));
    // A pipe that nobody writes to: opening it would wait for ever.
    assert!(matches!(
        trick(&|folder| {
            fs::remove_file(folder.join("config.json")).unwrap();
            let made = std::process::Command::new("mkfifo").arg(folder.join("config.json")).status().unwrap();
            assert!(made.success());
        }),
        Error::NotAFile { .. }
    ));
    assert!(matches!(
        trick(&|folder| {
            fs::remove_file(folder.join("config.json")).unwrap();
            fs::create_dir(folder.join("config.json")).unwrap();
        }),
        Error::NotAFile { .. }
    ));
    for shard in ["../../etc/passwd", "/etc/passwd", "a/b.safetensors", "..", ""] {
        let error = trick(&|folder| {
            fs::remove_file(folder.join("model.safetensors")).unwrap();
            let index = json!({ "weight_map": { "a": shard } });
            fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
        });
        assert!(
            matches!(&error, Error::ConfigValue { what, .. } if what.contains("plain file name")),
            "{shard}: {error}"
        );
    }
    for module in ["../outside", "/etc", "a/b"] {
        let error = trick(&|folder| {
            fs::write(folder.join("modules.json"), json!([{ "path": module, "type": "x.Dense" }]).to_string()).unwrap();
        });
        assert!(
            matches!(&error, Error::ConfigValue { what, .. } if what.contains("no folder inside")),
            "{module}: {error}"
        );
    }
    // A link inside the folder is as good as a file.
    fs::rename(place.file("config.json"), place.file("real.json")).unwrap();
    symlink("real.json", place.file("config.json")).unwrap();
    place.import("model", &options()).unwrap();
}

#[test]
fn sizes_that_are_claimed_are_not_believed() {
    let place = Place::new();
    // A file of four tebibytes that takes no room.
    fs::File::options().write(true).open(place.file("model.safetensors")).unwrap().set_len(4 << 40).unwrap();
    assert!(matches!(place.refused(), Error::FileTooLarge { bytes, .. } if bytes > 4 << 40));
    tiny::write(place.source.path());
    fs::File::options().write(true).open(place.file("tokenizer.json")).unwrap().set_len(1 << 40).unwrap();
    assert!(matches!(place.refused(), Error::FileTooLarge { limit, .. } if limit == 256 << 20));
    tiny::write(place.source.path());
    for (field, value) in [("num_hidden_layers", 1u64 << 30), ("hidden_size", 1 << 40), ("num_hidden_layers", 1000)] {
        tiny::write(place.source.path());
        change_json(&place.file("config.json"), |config| config[field] = value.into());
        let error = place.refused();
        assert!(matches!(error, Error::ConfigValue { .. } | Error::Tensors { .. }), "{error}");
    }
    tiny::write(place.source.path());
    for number in 0..10_001 {
        fs::write(place.file(&format!("{number}.txt")), "").unwrap();
    }
    assert!(matches!(place.refused(), Error::TooManyFiles { .. }));
}

#[test]
fn an_import_can_be_cancelled_at_every_step() {
    let place = Place::new();
    // How often a trial asks depends on how long it takes: its first time alone is counted.
    let counted = |call: &mut usize, last: &mut Option<String>, step: ImportStep<'_>| {
        let step = format!("{step:?}");
        let again = step == "Trying" && last.as_ref() == Some(&step);
        *call += usize::from(!again);
        *last = Some(step);
        again
    };
    let (mut calls, mut last) = (0, None);
    place
        .store
        .import(place.source.path(), "model", &options(), |progress| {
            counted(&mut calls, &mut last, progress.step);
            true
        })
        .unwrap();
    place.store.delete("model").unwrap();
    // The last call says that it is done, which nothing can undo.
    for stop in 0..calls - 1 {
        let (mut call, mut last) = (0, None);
        let error = place
            .store
            .import(place.source.path(), "model", &options(), |progress| {
                counted(&mut call, &mut last, progress.step) || call <= stop
            })
            .unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{error}");
        assert_eq!(call, stop + 1);
        assert!(place.content().is_empty());
    }
}

/// What a process leaves that is killed while it imports is removed by the next import, and its job has failed.
#[test]
fn what_a_crash_leaves_is_no_model() {
    let place = Place::new();
    let staging = place.store.folder().join(".staging-model");
    fs::create_dir_all(&staging).unwrap();
    fs::write(staging.join("config.json"), "{").unwrap();
    let jobs = place.store.folder().join(".jobs");
    fs::create_dir_all(&jobs).unwrap();
    fs::write(jobs.join("0.json"), json!({ "importedModelName": "model", "status": "InProgress" }).to_string())
        .unwrap();
    assert!(place.store.list().unwrap().is_empty());
    assert!(matches!(place.resolve("model"), Err(Error::UnknownModel { .. })));
    assert_eq!(place.store.jobs()[0].status, Some(ModelImportJobStatus::Failed));
    place.import("model", &options()).unwrap();
    assert_eq!(place.content(), ["model"]);
}

#[test]
fn two_imports_of_one_name_do_not_mix() {
    let place = Place::new();
    let waited = AtomicBool::new(false);
    let outcomes: Vec<Result<ImportedModel, Error>> = std::thread::scope(|scope| {
        let import = || {
            place.store.import(place.source.path(), "model", &options(), |progress| {
                if progress.step == ImportStep::Waiting {
                    waited.store(true, Ordering::Relaxed);
                }
                true
            })
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(import)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(_) | Err(Error::ModelExists { .. }))));
    assert_eq!(place.content(), ["model"]);
}

#[test]
fn linked_files_are_shared_and_a_change_is_noticed() {
    let place = Place::new();
    // On another file system there is nothing to link.
    let home = tempfile::tempdir_in(place.source.path().parent().unwrap()).unwrap();
    let store = ModelStore::open(Some(home.path())).unwrap();
    let mut linking = options();
    linking.placement = Placement::HardLink;
    store.import(place.source.path(), "model", &linking, |_| true).unwrap();
    let path = store.path("model", true).unwrap();
    let mut config = fs::read(place.file("config.json")).unwrap();
    config.push(b' ');
    fs::write(place.file("config.json"), config).unwrap();
    assert_eq!(fs::read(path.join("config.json")).unwrap(), fs::read(place.file("config.json")).unwrap());
    assert!(matches!(store.path("model", false), Err(Error::WrongContent { .. })));
}

#[test]
fn encoders_are_imported_for_what_they_are_for() {
    let place = Place::new();
    for (name, task) in [
        ("bert_max", ImportedTask::Embedding),
        ("bert_labels", ImportedTask::Classification),
        ("bert_cross_encoder", ImportedTask::Reranking),
        ("bert_entities", ImportedTask::TokenClassification),
        ("deberta_v2_conv", ImportedTask::Classification),
        ("nomic_embed", ImportedTask::Embedding),
    ] {
        let source = fixture("conformance").join(name);
        let model =
            place.store.import(&source, name, &options(), |_| true).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(model.task, task, "{name}");
    }
    let request = EmbedRequest::documents(["A text."]);
    let [a, b] = [place.resolve("bert_max").unwrap(), fixture("conformance/bert_max")].map(|path| {
        Embedder::load(path, &LoadOptions::default()).unwrap().embed_blocking(&request).unwrap().embeddings
    });
    assert_eq!(a, b);
}

/// Every family's fixture passes the same checks, from folders and from GGUF.
#[test]
fn every_family_is_imported() {
    let place = Place::new();
    let mut without = options();
    without.without_template = true;
    for name in [
        "llama_biases_sharded",
        "mistral_sliding",
        "mixtral",
        "qwen2",
        "qwen3",
        "gemma2",
        "gemma3_text",
        "phi3_longrope",
        "cohere_qknorm",
        "gpt2",
        "t5_v11",
        "mt5_silu",
    ] {
        let source = fixture("conformance").join(name);
        let model =
            place.store.import(&source, name, &without, |_| true).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(model.parameters > 0 && model.task == ImportedTask::Text);
    }
    // The files have no tokenizers; T5's vocabularies are too small for this one.
    for entry in fs::read_dir(fixture("gguf_families")).unwrap() {
        let source = entry.unwrap().path();
        if source.extension().is_some_and(|end| end == "gguf") {
            let name = format!("gguf_{}", source.file_stem().unwrap().to_str().unwrap());
            let error = place.store.import(&source, &name, &without, |_| true).unwrap_err();
            assert!(matches!(error, Error::NoTokenizer { .. }), "{name}: {error}");
            if name.contains("t5") {
                continue;
            }
            let file = place.file(&format!("{name}.gguf"));
            fs::write(&file, tiny::with_tokenizer(&fs::read(&source).unwrap())).unwrap();
            let outcome = place.store.import(&file, &name, &options(), |_| true);
            let model = outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(model.model.instruct_supported, Some(true));
            let path = place.resolve(&name).unwrap();
            assert!(path.extension().is_some_and(|end| end == "gguf"));
            let chat = LocalChatModel::load(path, &LoadOptions::default()).unwrap();
            chat.converse_blocking(&ConverseRequest::new("").user("Hi").max_tokens(3)).unwrap();
        }
    }
}

#[test]
fn weights_are_put_into_fewer_bits() {
    let place = Place::new();
    let mut smaller = options();
    smaller.quantize = Some(Dtype::Q8_0);
    let folder = place.import("folder", &smaller).unwrap();
    assert_eq!(folder.quantization.as_deref().map(str::to_lowercase).as_deref(), Some("q8_0"));
    let plain = place.import("plain", &options()).unwrap();
    assert!(folder.bytes < plain.bytes * 2 / 3, "{} bytes of {}", folder.bytes, plain.bytes);
    let names: Vec<&str> = folder.files.iter().map(|file| file.path.as_str()).collect();
    assert!(names.contains(&"model.quantized") && !names.contains(&"model.safetensors"), "{names:?}");
    // What is kept is a folder like any other, but not a GGUF model.
    let again = place.store.import(place.resolve("folder").unwrap(), "again", &smaller, |_| true).unwrap();
    assert_eq!((again.bytes, again.parameters), (folder.bytes, plain.parameters));
    let inside = place.resolve("folder").unwrap().join("model.quantized");
    assert!(matches!(
        LocalChatModel::load(inside, &LoadOptions::default()),
        Err(Error::UnsupportedArchitecture { .. })
    ));
    let [a, b] = [(place.resolve("folder").unwrap(), None), (place.source.path().to_path_buf(), Some(Dtype::Q8_0))]
        .map(|(path, quantize)| {
            let model = LocalChatModel::load(path, &LoadOptions { quantize, ..LoadOptions::default() }).unwrap();
            model.model().logits(&[1, 2, 3]).unwrap()
        });
    assert_eq!(a, b, "as if it were asked for at each load");

    let file = place.file("model.gguf");
    tiny::write_gguf(&file);
    fs::write(&file, tiny::with_tokenizer(&fs::read(&file).unwrap())).unwrap();
    smaller.quantize = Some(Dtype::Q4_0);
    let model = place.store.import(&file, "file", &smaller, |_| true).unwrap();
    assert_eq!(model.files.len(), 1);
    assert!(model.bytes < fs::metadata(&file).unwrap().len(), "{} bytes", model.bytes);
    let path = place.resolve("file").unwrap();
    LocalChatModel::load(path, &LoadOptions::default()).unwrap();
}

/// Where weights are put into fewer bits once, answers are those of a model that does it at each load, to the bit: in every family, with
/// matrices that lie whole, in parts or turned.
#[test]
fn folders_are_quantised_as_loading_does() {
    let place = Place::new();
    for to in [Dtype::Q8_0, Dtype::F16] {
        let mut smaller = options();
        (smaller.quantize, smaller.without_template, smaller.replace) = (Some(to), true, true);
        let at_load = LoadOptions { quantize: Some(to), ..LoadOptions::default() };
        let imported = |name: &str| {
            let source = fixture("conformance").join(name);
            let outcome = place.store.import(&source, name, &smaller, |_| true);
            let model = outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
            // What sentence-transformers puts behind an encoder has a folder of its own, and stays.
            let is_left = |path: &str| !path.contains('/') && path.ends_with(".safetensors");
            assert!(!model.files.iter().any(|file| is_left(&file.path)), "{name}");
            [(place.resolve(name).unwrap(), LoadOptions::default()), (source, at_load.clone())]
        };
        for name in
            ["llama_biases_sharded", "mixtral", "gemma3_text", "phi3_longrope", "cohere_qknorm", "gpt2", "t5_v11"]
        {
            let [a, b] = imported(name).map(|(path, options)| {
                let model = LanguageModel::load(path, &options).unwrap();
                if model.has_encoder() { model.answer_logits(&[1, 2], &[3]) } else { model.logits(&[1, 2, 3]) }.unwrap()
            });
            assert_eq!(a, b, "{name}");
        }
        let request = EmbedRequest::documents(["A text."]);
        for name in ["bert_max", "nomic_embed", "modernbert_embed", "mpnet_embed"] {
            let [a, b] = imported(name).map(|(path, options)| {
                Embedder::load(path, &options).unwrap().embed_blocking(&request).unwrap().embeddings
            });
            assert_eq!(a, b, "{name}");
        }
        let [a, b] = imported("deberta_v2_conv").map(|(path, options)| {
            SequenceClassifier::load(path, &options).unwrap().logits(&[("A text.".to_string(), None)]).unwrap()
        });
        assert_eq!(a, b);
    }
}

#[test]
fn loading_ends_when_it_is_cancelled() {
    let place = Place::new();
    let load = |cancelled: bool| {
        let cancel = Some(AtomicBool::new(cancelled).into());
        LocalChatModel::load(place.source.path(), &LoadOptions { cancel, ..LoadOptions::default() })
    };
    load(false).unwrap();
    assert!(matches!(load(true), Err(Error::Cancelled)));
}
