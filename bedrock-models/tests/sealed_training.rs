//! Customization with a sealer: the same result, of which nobody without the key can read anything.

use std::collections::HashSet;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bedrock_core::testing::{Reply, ScriptedModel};
use bedrock_core::{
    AesGcmSealer, ContentBlock, ConverseRequest, EmbedPurpose, EmbedRequest, EmbeddingModel, KeyRing, Sealer, SecretKey,
};
use bedrock_models::import::{ImportOptions, ModelStore};
use bedrock_models::tune::{
    CustomizationConfig, CustomizationType, DistillationConfig, Job, JobEvent, JobLora, JobMethod, JobOptions,
    JobStatus, Stop, Teacher, TeacherModelConfig, merge, merge_with, reseal,
};
use bedrock_models::weights::Checkpoint;
use bedrock_models::{Embedder, Error, LanguageModel, LoadOptions, SequenceClassifier};

mod bench;

use bench::{Bench, base, load as plain};

/// With a key of this name and bytes.
fn keyed(name: &str, byte: u8) -> LoadOptions {
    let ring = KeyRing::new(name, SecretKey::from_bytes([byte; 32])).unwrap();
    LoadOptions { sealer: Some(Arc::new(AesGcmSealer::new(ring))), ..plain() }
}

fn sealed() -> LoadOptions {
    keyed("one", 1)
}

fn options(load: LoadOptions) -> JobOptions {
    JobOptions { load, ..JobOptions::default() }
}

impl Bench {
    fn new(name: &str, lines: &str) -> Self {
        let mut bench = Self::of(name, lines);
        let job = &mut bench.job;
        job.hyper_parameters.epoch_count = 3;
        job.hyper_parameters.batch_size = 2;
        job.hyper_parameters.learning_rate = 1e-2;
        job.hyper_parameters.max_sequence_length = 64;
        job.method = JobMethod::Lora(JobLora { r: 4, alpha: 8.0, dropout: 0.1, ..JobLora::default() });
        bench
    }

    fn pairs() -> Self {
        let lines = (0..7).map(|n| format!("{{\"prompt\": \"the {n}\", \"completion\": \"end of {n}\"}}\n"));
        Self::new("llama_default", &lines.collect::<String>())
    }

    fn full(kind: CustomizationType, name: &str, line: impl Fn(usize) -> String) -> Self {
        let mut bench = Self::new(name, &(0..6).map(line).collect::<String>());
        bench.job.customization_type = kind;
        bench.job.method = JobMethod::Full;
        bench
    }

    fn complete(&self, load: LoadOptions) {
        assert_eq!(self.job.run(&options(load), |_| ()).unwrap().status, JobStatus::Completed);
    }

    /// Runs until so many steps were made, and looks at the files whenever something has happened.
    fn stopped_after(&self, steps: u64, load: LoadOptions, resume: bool, mut look: impl FnMut()) {
        let stop = Stop::default();
        let options = JobOptions { stop: stop.clone(), resume, ..options(load) };
        let stopped = self.job.run(&options, |event| {
            look();
            if matches!(event, JobEvent::Step { step, .. } if *step == steps) {
                stop.stop();
            }
        });
        assert_eq!(stopped.unwrap().status, JobStatus::Stopped);
    }
}

/// Names, shapes and bytes.
type Tensors = Vec<(String, Vec<usize>, Vec<u8>)>;

fn tensors(path: &Path, load: &LoadOptions) -> Tensors {
    let checkpoint = Checkpoint::open_with(path, load.sealer.as_deref()).unwrap();
    checkpoint.iter().map(|tensor| (tensor.name.clone(), tensor.shape.clone(), tensor.data.to_vec())).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// That no file of a folder has a number of these tensors, a header, or one of the texts.
fn hides(folder: &Path, secret: &Tensors, texts: &[&str]) {
    let numbers = secret.iter().flat_map(|(_, _, bytes)| bytes.as_chunks::<8>().0);
    let numbers: HashSet<[u8; 8]> = numbers.filter(|pair| **pair != [0; 8]).copied().collect();
    assert!(numbers.len() > 50);
    let texts: Vec<&str> = texts.iter().copied().chain(["data_offsets", "lora_A"]).collect();
    for path in files(folder) {
        let file = fs::read(&path).unwrap();
        let told = file.windows(8).find(|window| numbers.contains(*window));
        assert!(told.is_none(), "{path:?} holds numbers");
        for text in &texts {
            assert!(!file.windows(text.len()).any(|window| window == text.as_bytes()), "{path:?} holds {text:?}");
        }
        assert!(path.extension().is_none_or(|end| end != "safetensors"), "{path:?}");
    }
}

#[test]
fn the_sealed_result_is_the_result() {
    for method in [JobMethod::Full, Bench::pairs().job.method] {
        let name = if method == JobMethod::Full { "model.safetensors" } else { "adapter_model.safetensors" };
        let [readable, secret, broken] = [0; 3].map(|_| {
            let mut bench = Bench::pairs();
            bench.job.method = method.clone();
            bench.job.checkpoint_steps = Some(2);
            bench
        });
        readable.complete(plain());
        let expected = tensors(&readable.path(name), &plain());
        secret.complete(sealed());
        assert_eq!(tensors(&secret.path(name), &sealed()), expected);
        hides(&secret.job.output_dir, &expected, &["end of"]);
        for name in ["step_wise_training_metrics.csv", "loss.svg"] {
            assert_eq!(fs::read(secret.path(name)).unwrap(), fs::read(readable.path(name)).unwrap(), "{name}");
        }
        // Stopped twice, with checkpoints in between of which nothing can be read either.
        let mut looks = 0;
        for (steps, resume) in [(5, false), (8, true)] {
            broken.stopped_after(steps, sealed(), resume, || {
                looks += files(&broken.path("checkpoints")).len();
                hides(&broken.job.output_dir, &expected, &["end of", "\"losses\":", "parameter."]);
            });
        }
        assert!(looks > 3);
        let checkpoint = files(&broken.path("checkpoints"));
        assert_eq!(checkpoint, [broken.path("checkpoints/step-000000008.safetensors.sealed")]);
        let state = tensors(&checkpoint[0], &sealed());
        assert_eq!(state.iter().filter(|(name, ..)| name.starts_with("mean.")).count() * 3 + 1, state.len());
        let moments = state.into_iter().filter(|(name, ..)| name != "state").collect();
        hides(&broken.job.output_dir, &moments, &[]);
        let resumed = JobOptions { resume: true, ..options(sealed()) };
        broken.job.run(&resumed, |_| ()).unwrap();
        assert_eq!(tensors(&broken.path(name), &sealed()), expected);
    }
}

#[test]
fn a_job_goes_on_with_its_key_alone() {
    let bench = Bench::pairs();
    bench.stopped_after(4, sealed(), false, || ());
    let resume = |load: LoadOptions| bench.job.run(&JobOptions { resume: true, ..options(load) }, |_| ());
    assert!(matches!(resume(plain()), Err(Error::SealMismatch { sealed: true, .. })));
    for load in [keyed("one", 2), keyed("two", 1)] {
        assert!(matches!(resume(load), Err(Error::Seal { .. })));
    }
    let path = bench.path("checkpoints/step-000000004.safetensors.sealed");
    let file = fs::read(&path).unwrap();
    for at in (0..file.len()).step_by(file.len() / 23) {
        let mut changed = file.clone();
        changed[at] ^= 4;
        for changed in [&changed[..], &file[..at]] {
            fs::write(&path, changed).unwrap();
            let result = resume(sealed());
            assert!(matches!(result, Err(Error::Seal { .. } | Error::Malformed { .. })), "{at}: {result:?}");
        }
    }
    // A checkpoint of another step under this name, and one that is not sealed.
    fs::write(bench.path("checkpoints/step-000000005.safetensors.sealed"), &file).unwrap();
    assert!(matches!(resume(sealed()), Err(Error::Seal { .. })));
    fs::remove_file(bench.path("checkpoints/step-000000005.safetensors.sealed")).unwrap();
    fs::remove_file(&path).unwrap();
    let readable = Bench::pairs();
    readable.stopped_after(4, plain(), false, || ());
    let name = "checkpoints/step-000000004.safetensors";
    fs::copy(readable.path(name), bench.path(name)).unwrap();
    assert!(matches!(resume(sealed()), Err(Error::SealMismatch { sealed: false, .. })));
    fs::remove_file(bench.path(name)).unwrap();
    fs::write(&path, &file).unwrap();
    assert_eq!(resume(sealed()).unwrap().status, JobStatus::Completed);
    // What a run without the key wrote there goes when one with it writes.
    readable.complete(plain());
    let data = fs::read(&readable.job.training_data).unwrap();
    fs::write(&readable.job.training_data, data).unwrap();
    readable.complete(sealed());
    hides(&readable.job.output_dir, &tensors(&readable.path("adapter_model.safetensors"), &sealed()), &["end of"]);
}

#[test]
fn a_killed_job_goes_on_as_if_it_had_not_been() {
    const CHILD: &str = "BEDROCK_TEST_KILLED_SEALED_JOB";
    // The test runs itself as the process that is killed.
    if let Some(job) = env::var_os(CHILD) {
        let job = Job::from_file(job).unwrap();
        let ran = job.run(&options(sealed()), |event| {
            if matches!(event, JobEvent::Step { step: 7, .. }) {
                writeln!(io::stdout(), "\nseven steps").unwrap();
                loop {
                    std::thread::park();
                }
            }
        });
        panic!("nobody killed {ran:?}");
    }
    let whole = Bench::pairs();
    whole.complete(plain());
    let mut killed = Bench::pairs();
    killed.job.checkpoint_steps = Some(3);
    let file = killed.folder.path().join("job.json");
    fs::write(&file, serde_json::to_vec(&killed.job).unwrap()).unwrap();
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "a_killed_job_goes_on_as_if_it_had_not_been"])
        .env(CHILD, file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "seven steps"));
    child.kill().unwrap();
    child.wait().unwrap();
    let mut events = Vec::new();
    let resumed = JobOptions { resume: true, ..options(sealed()) };
    killed.job.run(&resumed, |event| events.push(event.clone())).unwrap();
    assert!(events.contains(&JobEvent::Resumed { step: 6 }), "{events:?}");
    let name = "adapter_model.safetensors";
    assert_eq!(tensors(&killed.path(name), &sealed()), tensors(&whole.path(name), &plain()));
}

/// A sealer whose process ends, as if it was killed, instead of sealing once more than this.
struct Killed(Arc<dyn Sealer>, AtomicUsize);

impl Sealer for Killed {
    fn seal(&self, plaintext: &[u8], context: &[u8]) -> Result<Vec<u8>, bedrock_core::Error> {
        if self.1.fetch_sub(1, Ordering::Relaxed) == 0 {
            process::abort();
        }
        self.0.seal(plaintext, context)
    }

    fn open(&self, sealed: &[u8], context: &[u8]) -> Result<Vec<u8>, bedrock_core::Error> {
        self.0.open(sealed, context)
    }
}

/// Wherever a change of keys is killed, each file has one of both keys, and the next call does the rest.
#[test]
fn a_killed_change_of_keys_goes_on() {
    const CHILD: &str = "BEDROCK_TEST_KILLED_RESEAL";
    let (old, new) = (sealed().sealer.unwrap(), keyed("two", 2).sealer.unwrap());
    if let Some(folder) = env::var_os(CHILD) {
        let seals = env::var("BEDROCK_TEST_SEALS").unwrap().parse().unwrap();
        let ended = reseal(folder, &*old, &Killed(new, AtomicUsize::new(seals)));
        panic!("nobody killed {ended:?}");
    }
    let mut bench = Bench::pairs();
    bench.job.merge = true;
    bench.complete(sealed());
    // What a stopped job keeps too.
    let stopped = Bench::pairs();
    stopped.stopped_after(4, sealed(), false, || ());
    let checkpoints = bench.path("checkpoints");
    fs::create_dir(&checkpoints).unwrap();
    let name = "step-000000004.safetensors.sealed";
    fs::copy(stopped.path("checkpoints").join(name), checkpoints.join(name)).unwrap();
    let names = ["adapter_model.safetensors", "merged/model.safetensors", "checkpoints/step-000000004.safetensors"];
    let want = names.map(|name| tensors(&bench.path(name), &sealed()));
    let moved = |name: &str| Checkpoint::open_with(bench.path(name), Some(&*new)).is_ok();
    // A head and a piece of each of three files.
    for seals in 0..6 {
        let mut child = Command::new(env::current_exe().unwrap());
        child.args(["--exact", "--nocapture", "a_killed_change_of_keys_goes_on"]).stderr(Stdio::null());
        child.env(CHILD, &bench.job.output_dir).env("BEDROCK_TEST_SEALS", seals.to_string()).stdout(Stdio::null());
        let status = child.status().unwrap();
        // What was moved before is not moved again, so that a child may have no more to do than it may seal.
        let all = names.iter().all(|name| moved(name));
        assert!(!status.success() && (all || status.code().is_none()), "{seals}: {status:?}");
        for (name, want) in names.iter().zip(&want) {
            let load = if moved(name) { keyed("two", 2) } else { sealed() };
            assert_eq!(&tensors(&bench.path(name), &load), want, "{seals} {name}");
        }
    }
    reseal(&bench.job.output_dir, &*old, &*new).unwrap();
    for (name, want) in names.iter().zip(&want) {
        assert_eq!(&tensors(&bench.path(name), &keyed("two", 2)), want, "{name}");
        assert!(matches!(Checkpoint::open_with(bench.path(name), Some(&*old)), Err(Error::Seal { .. })));
    }
    assert_eq!(reseal(&bench.job.output_dir, &*old, &*new).unwrap(), 0);
    assert!(files(&bench.job.output_dir).iter().all(|path| path.extension().is_none_or(|end| end != "part")));

    // A stopped job goes on with the new key.
    assert_eq!(reseal(&stopped.job.output_dir, &*old, &*new).unwrap(), 1);
    let resume = |load: LoadOptions| stopped.job.run(&JobOptions { resume: true, ..options(load) }, |_| ());
    assert!(matches!(resume(sealed()), Err(Error::Seal { .. })));
    assert_eq!(resume(keyed("two", 2)).unwrap().status, JobStatus::Completed);
    assert_eq!(tensors(&stopped.path("adapter_model.safetensors"), &keyed("two", 2)), want[0]);
}

#[test]
fn what_is_sealed_is_served_to_who_has_the_key() {
    let mut bench = Bench::pairs();
    bench.job.merge = true;
    bench.complete(sealed());
    let mut readable = Bench::pairs();
    readable.job.merge = true;
    readable.complete(plain());
    let llama = base("llama_default");
    let logits =
        |path: &Path, load: &LoadOptions| LanguageModel::load(path, load).map(|it| it.logits(&[3, 1, 4]).unwrap());
    let beside = |bench: &Bench, load: LoadOptions| LoadOptions { adapter: Some(bench.job.output_dir.clone()), ..load };
    let expected = logits(&llama, &beside(&readable, plain())).unwrap();
    assert_eq!(logits(&llama, &beside(&bench, sealed())).unwrap(), expected);
    let missing = logits(&llama, &beside(&bench, plain()));
    assert!(matches!(&missing, Err(Error::SealMismatch { sealed: true, .. })), "{missing:?}");
    let wrong = logits(&llama, &beside(&bench, keyed("one", 2)));
    assert!(matches!(&wrong, Err(Error::Seal { .. })), "{wrong:?}");
    let named = |load| LoadOptions { adapters: [("own".into(), bench.job.output_dir.clone())].into(), ..load };
    LanguageModel::load(&llama, &named(sealed())).unwrap();
    assert!(matches!(LanguageModel::load(&llama, &named(plain())), Err(Error::SealMismatch { .. })));

    // Merged, by the job and later; a sealed model is a base, too.
    let merged = logits(&readable.path("merged"), &plain()).unwrap();
    assert_eq!(logits(&bench.path("merged"), &sealed()).unwrap(), merged);
    assert!(matches!(logits(&bench.path("merged"), &plain()), Err(Error::SealMismatch { .. })));
    let later = bench.folder.path().join("later");
    assert!(matches!(merge(&llama, &bench.job.output_dir, &later), Err(Error::SealMismatch { .. })));
    assert!(!later.exists());
    merge_with(&llama, &bench.job.output_dir, &later, sealed().sealer.as_deref()).unwrap();
    assert_eq!(logits(&later, &sealed()).unwrap(), merged);
    hides(&bench.job.output_dir, &tensors(&readable.path("merged"), &plain()), &["end of"]);
    let mut further = Bench::pairs();
    further.job.base_model = bench.path("merged").display().to_string();
    further.job.method = JobMethod::Full;
    further.complete(sealed());
    logits(&further.job.output_dir, &sealed()).unwrap();

    // What cannot be sealed is refused before anything is done.
    let file = base("gguf").join("scaled.gguf");
    let into_file = merge_with(&file, &bench.job.output_dir, &later, sealed().sealer.as_deref());
    assert!(matches!(&into_file, Err(Error::ConfigValue { .. })), "{into_file:?}");
    further.job.base_model = file.display().to_string();
    further.job.method = bench.job.method.clone();
    further.job.merge = true;
    assert!(matches!(further.job.run(&options(sealed()), |_| ()), Err(Error::Job { what, .. }) if what == "merge"));
    let store = ModelStore::open(Some(bench.folder.path().join("store").as_path())).unwrap();
    let imported = store.import(bench.path("merged"), "mine", &ImportOptions::default(), |_| true);
    assert!(matches!(&imported, Err(Error::SealMismatch { sealed: true, .. })), "{imported:?}");
}

#[test]
fn encoders_are_sealed_too() {
    let pair = |n| format!("{{\"query\": \"where is {n}\", \"positive\": \"it is at {n}\"}}\n");
    let [readable, secret] = [0; 2].map(|_| Bench::full(CustomizationType::EmbeddingTuning, "bert_mean", pair));
    readable.complete(plain());
    secret.complete(sealed());
    let weights = tensors(&readable.path("model.safetensors"), &plain());
    assert_eq!(tensors(&secret.job.output_dir, &sealed()), weights);
    hides(&secret.job.output_dir, &weights, &["where is", "it is at"]);
    let request = EmbedRequest::new(EmbedPurpose::Query, ["where is it?"]);
    let vectors = |bench: &Bench, load: LoadOptions| {
        let model = Embedder::load(&bench.job.output_dir, &load)?;
        Ok::<_, Error>(model.embed_blocking(&request).unwrap().embeddings)
    };
    assert_eq!(vectors(&secret, sealed()).unwrap(), vectors(&readable, plain()).unwrap());
    assert!(matches!(vectors(&secret, plain()), Err(Error::SealMismatch { .. })));

    let labelled = |n| format!("{{\"text\": \"where is {n}\", \"label\": \"kind {}\"}}\n", n % 2);
    let secret = Bench::full(CustomizationType::ClassifierTuning, "bert_mean", labelled);
    secret.complete(sealed());
    hides(&secret.job.output_dir, &tensors(&secret.job.output_dir, &sealed()), &["where is"]);
    SequenceClassifier::load(&secret.job.output_dir, &sealed()).unwrap();
    assert!(matches!(SequenceClassifier::load(&secret.job.output_dir, &plain()), Err(Error::SealMismatch { .. })));
}

#[test]
fn what_the_teacher_says_is_sealed() {
    let teacher = || {
        let answer = |request: &ConverseRequest| {
            let Some(ContentBlock::Text(text)) = request.messages.last().and_then(|message| message.content.first())
            else {
                panic!("{request:?}")
            };
            Reply::text(format!("end of {}", text.trim_start_matches("the ")))
        };
        Arc::new(ScriptedModel::answering(answer))
    };
    let distillation = || {
        let mut bench =
            Bench::new("llama_default", &(0..6).map(|n| format!("{{\"prompt\": \"the {n}\"}}\n")).collect::<String>());
        bench.job.customization_type = CustomizationType::Distillation;
        let teacher_model_config =
            TeacherModelConfig { teacher_model_identifier: "wise".into(), max_response_length_for_inference: 9 };
        let distillation_config = DistillationConfig { teacher_model_config };
        bench.job.customization_config = Some(CustomizationConfig { distillation_config });
        bench
    };
    let taught = |bench: &Bench, load, teacher: &Arc<ScriptedModel>, resume, until: usize| {
        let stop = Stop::default();
        let teacher = Some(Teacher::new(teacher.clone()).at_once(1));
        let options = JobOptions { teacher, stop: stop.clone(), resume, ..options(load) };
        bench.job.run(&options, |event| {
            if matches!(event, JobEvent::Answered { answered, .. } if *answered == until) {
                stop.stop();
            }
        })
    };
    let (readable, secret) = (distillation(), distillation());
    taught(&readable, plain(), &teacher(), false, usize::MAX).unwrap();
    let expected = tensors(&readable.path("adapter_model.safetensors"), &plain());

    let stopped = taught(&secret, sealed(), &teacher(), false, 2).unwrap();
    assert_eq!(stopped.status, JobStatus::Stopped);
    hides(&secret.job.output_dir, &expected, &["end of", "the 0", "the 1"]);
    assert_eq!(files(&secret.job.output_dir).iter().filter(|path| path.ends_with("responses.jsonl.sealed")).count(), 1);
    let resumed = |load, teacher: &_| taught(&secret, load, teacher, true, usize::MAX);
    assert!(matches!(resumed(plain(), &teacher()), Err(Error::SealMismatch { sealed: true, .. })));
    assert!(matches!(resumed(keyed("one", 2), &teacher()), Err(Error::Seal { .. })));
    let path = secret.path("responses.jsonl.sealed");
    let file = fs::read(&path).unwrap();
    let mut changed = file.clone();
    changed[file.len() / 2] ^= 1;
    fs::write(&path, changed).unwrap();
    let refused = resumed(sealed(), &teacher());
    assert!(matches!(&refused, Err(Error::Seal { .. } | Error::Malformed { .. })), "{refused:?}");
    fs::write(&path, file).unwrap();
    // The two are not asked again.
    let wise = teacher();
    assert_eq!(resumed(sealed(), &wise).unwrap().status, JobStatus::Completed);
    assert_eq!(wise.requests().len(), 4);
    assert_eq!(tensors(&secret.path("adapter_model.safetensors"), &sealed()), expected);
    hides(&secret.job.output_dir, &expected, &["end of", "the 0"]);
    // Without the key from the beginning: what was sealed goes.
    assert!(taught(&secret, plain(), &teacher(), false, usize::MAX).is_ok());
    assert!(!path.exists() && secret.path("responses.jsonl").exists());
}

#[test]
fn what_preferences_are_measured_against_is_sealed() {
    let line = |n| format!("{{\"prompt\": \"the {n}\", \"chosen\": \"end of {n}\", \"rejected\": \"not {n}\"}}\n");
    let bench = || {
        let mut bench = Bench::full(CustomizationType::PreferenceTuning, "llama_default", line);
        bench.job.method = Bench::pairs().job.method;
        bench
    };
    let (readable, secret) = (bench(), bench());
    readable.complete(plain());
    secret.stopped_after(4, sealed(), false, || {
        for path in files(&secret.path("checkpoints")) {
            assert_eq!(path.extension().unwrap(), "sealed");
        }
    });
    assert!(secret.path("checkpoints/reference.safetensors.sealed").exists());
    let resumed = |load| secret.job.run(&JobOptions { resume: true, ..options(load) }, |_| ());
    assert!(matches!(resumed(plain()), Err(Error::SealMismatch { .. })));
    resumed(sealed()).unwrap();
    let name = "adapter_model.safetensors";
    assert_eq!(tensors(&secret.path(name), &sealed()), tensors(&readable.path(name), &plain()));
    assert!(!secret.path("checkpoints").exists());
}
