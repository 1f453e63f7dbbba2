//! Customization jobs: what the files say becomes what a model has learnt, whatever happens in between.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bedrock_models::quantize::quantize;
use bedrock_models::tune::{
    AdamW, CustomizationType, HyperParameters, Job, JobEvent, JobLora, JobMethod, JobOptions, JobStatus, Lora, Method,
    Precision, Schedule, Sequence, Stop, TooLong, Trained, Trainer, adapter_to_gguf, merge,
};
use bedrock_models::weights::{Dtype, GgufFile};
use bedrock_models::{Error, LanguageModel, LoadOptions};
use serde_json::Value;

mod bench;

use bench::{Bench, base, load, options};

impl Bench {
    fn new(name: &str, lines: &str) -> Self {
        let mut bench = Self::of(name, lines);
        bench.job.hyper_parameters = HyperParameters {
            epoch_count: 3,
            batch_size: 2,
            learning_rate: 1e-2,
            learning_rate_warmup_steps: 2,
            schedule: Schedule::Cosine,
            max_sequence_length: 64,
            weight_decay: 0.01,
            seed: 5,
            ..HyperParameters::default()
        };
        bench.job.method = JobMethod::Lora(JobLora { r: 4, alpha: 8.0, dropout: 0.1, ..JobLora::default() });
        bench
    }

    fn pairs(name: &str) -> Self {
        let lines = (0..7).map(|n| format!("{{\"prompt\": \"the {n}\", \"completion\": \"end of {n}\"}}\n"));
        Self::new(name, &lines.collect::<String>())
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn rows(&self, name: &str) -> Vec<Vec<String>> {
        let text = String::from_utf8(self.out(name)).unwrap();
        text.lines().map(|line| line.split(',').map(String::from).collect()).collect()
    }

    fn trained(&self) -> (Trained, Vec<JobEvent>) {
        let (trained, events) = self.run(&options());
        (trained.unwrap(), events)
    }

    /// The file and line that are wrong, and why.
    fn refused(&self) -> (Option<usize>, String) {
        let (result, events) = self.run(&options());
        assert!(matches!(&events[..], [JobEvent::Failed { .. }]), "{events:?}");
        assert!(!self.job.output_dir.exists(), "something was written");
        match result {
            Err(Error::TrainingData { line, reason, .. }) => (line, reason),
            other => panic!("{other:?}"),
        }
    }
}

fn losses(events: &[JobEvent]) -> Vec<f64> {
    events.iter().filter_map(|event| if let JobEvent::Step { loss, .. } = event { Some(*loss) } else { None }).collect()
}

fn validations(events: &[JobEvent]) -> Vec<(u64, u64, f64)> {
    let validation = |event: &JobEvent| match event {
        JobEvent::Validation { step, epoch, loss, .. } => Some((*step, *epoch, *loss)),
        _ => None,
    };
    events.iter().filter_map(validation).collect()
}

#[test]
fn an_adapter_learns_and_is_what_was_trained() {
    let mut bench = Bench::pairs("llama_default");
    bench.job.validation_data =
        vec![bench.file("valid.jsonl", "{\"prompt\": \"the 9\", \"completion\": \"end of 9\"}\n")];
    let (trained, events) = bench.trained();
    // Seven items, two at a time, three times.
    let (losses, validations) = (losses(&events), validations(&events));
    assert_eq!((trained.steps, trained.status, losses.len()), (12, JobStatus::Completed, 12));
    assert_eq!(
        validations.iter().map(|(step, epoch, _)| (*step, *epoch)).collect::<Vec<_>>(),
        [(0, 0), (4, 1), (8, 2), (12, 3)]
    );
    assert!(validations[3].2 < validations[0].2 - 0.1, "{validations:?}");
    assert_eq!(trained.validation_loss, Some(validations[3].2));
    assert_eq!(trained.train_loss, Some(losses[8..].iter().sum::<f64>() / 4.0));
    assert!(matches!(events.first(), Some(JobEvent::Started { items: 7, validation_items: 1, steps: 12, .. })));
    assert!(matches!(events.last(), Some(JobEvent::Completed(end)) if *end == trained));

    let rows = bench.rows("step_wise_training_metrics.csv");
    assert_eq!(rows[0], ["step_number", "epoch_number", "training_loss", "perplexity"]);
    assert_eq!(rows.len(), 13);
    for (step, (row, loss)) in rows[1..].iter().zip(&losses).enumerate() {
        assert_eq!(row[..3], [step.to_string(), (step / 4).to_string(), loss.to_string()]);
        assert_eq!(row[3].parse::<f64>().unwrap(), loss.exp());
    }
    let rows = bench.rows("validation_metrics.csv");
    assert_eq!(rows[0], ["step_number", "epoch_number", "validation_loss", "perplexity"]);
    assert_eq!(rows[4][..3], ["12".to_string(), "3".into(), validations[3].2.to_string()]);

    let status: Value = serde_json::from_slice(&bench.out("job.json")).unwrap();
    assert_eq!((&status["status"], &status["hyperParameters"]["epochCount"]), (&"Completed".into(), &"3".into()));
    assert_eq!(status["trainingMetrics"]["trainingLoss"].as_f64(), trained.train_loss);
    assert!(!bench.job.output_dir.join("checkpoints").exists());

    // What is served with the adapter has the loss that was reported.
    let with = LoadOptions { adapter: Some(bench.job.output_dir.clone()), ..load() };
    let served = LanguageModel::load(base("llama_default"), &with).unwrap();
    let again = Trainer::load(base("llama_default"), &load(), Method::Adapter(bench.job.output_dir.clone())).unwrap();
    let prompt = [1, 2, 3, 4];
    let (a, b) = (served.logits(&prompt).unwrap(), again.model().logits(&prompt).unwrap());
    assert!(a.concat().iter().zip(b.concat()).all(|(a, b)| (a - b).abs() < 1e-4));
    let config: Value = serde_json::from_slice(&bench.out("adapter_config.json")).unwrap();
    assert_eq!(config["target_modules"], serde_json::json!(["q_proj", "v_proj"]));
}

#[test]
fn the_base_is_not_changed_and_a_second_run_is_the_same() {
    let before = fs::read(base("llama_default").join("model.safetensors")).unwrap();
    let (first, second) = (Bench::pairs("llama_default"), Bench::pairs("llama_default"));
    let (a, b) = (losses(&first.trained().1), losses(&second.trained().1));
    assert_eq!(a, b);
    assert_eq!(first.out("adapter_model.safetensors"), second.out("adapter_model.safetensors"));
    assert_eq!(fs::read(base("llama_default").join("model.safetensors")).unwrap(), before);
}

#[test]
fn a_stopped_job_goes_on_as_if_it_had_not_been() {
    let lora = Bench::pairs("llama_default").job.method;
    for (method, precision) in
        [(JobMethod::Full, Precision::F32), (lora.clone(), Precision::F32), (lora, Precision::Bf16)]
    {
        let weights = if method == JobMethod::Full { "model.safetensors" } else { "adapter_model.safetensors" };
        let bench = || {
            let mut bench = Bench::pairs("llama_default");
            bench.job.method = method.clone();
            bench.job.hyper_parameters.precision = precision;
            bench.job.validation_data =
                vec![bench.file("valid.jsonl", "{\"prompt\": \"the 9\", \"completion\": \"end of 9\"}\n")];
            bench
        };
        let whole = bench();
        if let Err(Error::InvalidParameter { name: "precision", .. }) = whole.job.run(&options(), |_| ()) {
            // Not on this processor: said before anything is written.
            assert!(precision == Precision::Bf16 && !whole.job.output_dir.exists());
            continue;
        }
        let (undisturbed, all) = whole.trained();
        // In the middle of an epoch, and between two.
        for stops in [vec![5], vec![4, 8, 11], vec![1]] {
            let broken = bench();
            let mut options = options();
            for at in &stops {
                options.stop = Stop::default();
                let stop = options.stop.clone();
                let stopped = broken.job.run(&options, |event| {
                    if matches!(event, JobEvent::Step { step, .. } if step == at) {
                        stop.stop();
                    }
                });
                let stopped = stopped.unwrap();
                assert_eq!((stopped.status, stopped.steps), (JobStatus::Stopped, *at));
                let status: Value = serde_json::from_slice(&broken.out("job.json")).unwrap();
                assert_eq!(status["status"], "Stopped");
                assert!(!broken.job.output_dir.join(weights).exists());
                options.resume = true;
            }
            options.stop = Stop::default();
            let (resumed, events) = broken.run(&options);
            let resumed = resumed.unwrap();
            assert!(
                events.iter().any(|event| matches!(event, JobEvent::Resumed { step } if Some(step) == stops.last()))
            );
            assert_eq!(broken.out(weights), whole.out(weights), "{method:?} stopped after {stops:?}");
            for name in ["step_wise_training_metrics.csv", "validation_metrics.csv"] {
                assert_eq!(broken.out(name), whole.out(name), "{name}");
            }
            assert_eq!(resumed.train_loss, undisturbed.train_loss);
            assert_eq!(resumed.base_validation_loss, Some(validations(&all)[0].2));
        }
    }
}

#[test]
fn a_checkpoint_of_another_job_is_refused() {
    let mut bench = Bench::pairs("llama_default");
    let stopped = options();
    stopped.stop.stop();
    bench.job.run(&stopped, |_| ()).unwrap();
    let resume = JobOptions { resume: true, ..options() };
    let refused = |bench: &Bench| match bench.job.run(&resume, |_| ()) {
        Err(Error::OtherJob { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    let settings = bench.job.hyper_parameters.clone();
    bench.job.hyper_parameters.learning_rate = 1e-3;
    assert_eq!(refused(&bench), "settings: hyperParameters");
    bench.job.hyper_parameters = settings;
    let data = fs::read(&bench.job.training_data).unwrap();
    fs::write(&bench.job.training_data, [&data[..], b"{\"prompt\": \"a\", \"completion\": \"b\"}\n"].concat()).unwrap();
    assert_eq!(refused(&bench), "training data");
    fs::write(&bench.job.training_data, data).unwrap();
    // A damaged one is an error too, not a start from the beginning.
    let folder = bench.job.output_dir.join("checkpoints");
    let path = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(matches!(bench.job.run(&resume, |_| ()), Err(Error::Safetensors { .. })));
    fs::write(&path, bytes).unwrap();
    assert_eq!(bench.job.run(&resume, |_| ()).unwrap().status, JobStatus::Completed);
}

#[test]
fn wrong_data_are_named_by_line_and_nothing_is_written() {
    let good = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
    let with = |line: &[u8]| {
        let bench = Bench::pairs("llama_default");
        fs::write(&bench.job.training_data, [good.as_bytes(), b"\n", line, b"\n", good.as_bytes()].concat()).unwrap();
        bench.refused()
    };
    for (line, reason) in [
        (&b"{\"prompt\": \"a\", \"completion\": \"\"}"[..], "completion is empty"),
        (b"{\"prompt\": \"a\"}", "should have prompt and completion"),
        (b"{\"prompt\": \"a\", ", "no JSON object"),
        (b"{\"prompt\": \"\xff\", \"completion\": \"b\"}", "not UTF-8"),
        (b"{\"messages\": [{\"role\": \"system\", \"content\": \"a\"}]}", "messages[0] has the role \"system\""),
        (&vec![b'x'; 10 << 20], "longer than 4194304 bytes"),
    ] {
        let (number, got) = with(line);
        assert!(number == Some(3) && got.contains(reason), "{number:?} {got}, not {reason}");
    }
    for empty in ["", "\n \n"] {
        assert_eq!(Bench::new("llama_default", empty).refused(), (None, "nothing can be learnt".into()));
    }
    let mut bench = Bench::pairs("llama_default");
    bench.job.training_data = bench.folder.path().join("none");
    assert!(matches!(bench.job.run(&options(), |_| ()), Err(Error::Read { .. })));
    bench.job.training_data = bench.folder.path().into();
    assert!(matches!(bench.job.run(&options(), |_| ()), Err(Error::NotAFile { .. })));
    // Wrong validation data are found before anything starts, too.
    let mut bench = Bench::pairs("llama_default");
    bench.job.validation_data = vec![bench.file("valid.jsonl", "{\"prompt\": 1}")];
    assert_eq!(bench.refused().0, Some(1));
}

#[test]
fn too_long_items_are_refused_cut_or_left_out() {
    let long = "a ".repeat(100);
    let short = "{\"prompt\": \"a\", \"completion\": \"b\"}";
    let lines = format!(
        "{short}\n{{\"prompt\": \"a\", \"completion\": \"{long}\"}}\n{{\"prompt\": \"{long}\", \"completion\": \"b\"}}\n"
    );
    let mut bench = Bench::new("llama_default", &lines);
    bench.job.hyper_parameters.epoch_count = 1;
    bench.job.too_long = TooLong::Error;
    let (line, reason) = bench.refused();
    assert!(line == Some(2) && reason.contains("more than the 64"), "{line:?} {reason}");
    for (too_long, counts) in [(TooLong::Truncate, (2, 1, 1)), (TooLong::Skip, (1, 0, 2))] {
        bench.job.too_long = too_long;
        let (_, events) = bench.trained();
        let JobEvent::Started { items, truncated, skipped, tokens, .. } = events[0] else { panic!("{events:?}") };
        assert_eq!((items, truncated, skipped), counts);
        assert!(tokens < 100, "{tokens}");
    }
}

#[test]
fn text_and_documents_are_learnt_whole() {
    for (name, content) in [
        ("train.txt", "the quick end of the text. ".repeat(20)),
        ("train.jsonl", "{\"input\": \"the quick end of the text.\"}\n".repeat(20)),
    ] {
        let mut bench = Bench::pairs("llama_default");
        bench.job.training_data = bench.file(name, &content);
        bench.job.customization_type = CustomizationType::ContinuedPreTraining;
        bench.job.method = JobMethod::Full;
        let (trained, events) = bench.trained();
        let losses = losses(&events);
        assert!(losses.last().unwrap() + 0.5 < losses[0], "{losses:?}");
        assert_eq!(trained.status, JobStatus::Completed);
        // All weights are written, and answer.
        let tuned = LanguageModel::load(&bench.job.output_dir, &load()).unwrap();
        let before = LanguageModel::load(base("llama_default"), &load()).unwrap();
        assert_ne!(tuned.logits(&[1, 2, 3]).unwrap(), before.logits(&[1, 2, 3]).unwrap());
        assert_eq!(
            tuned.tokenizer().unwrap().encode("the end", true).unwrap(),
            before.tokenizer().unwrap().encode("the end", true).unwrap()
        );
    }
    let mut bench = Bench::new("llama_default", "{\"input\": \"a\"}\n{\"text\": \"a\"}\n");
    bench.job.customization_type = CustomizationType::ContinuedPreTraining;
    assert_eq!(bench.refused(), (Some(2), "there is no input".into()));
    bench.job.training_data = bench.file("train.txt", b"one\ntwo\n\xffthree\n");
    assert_eq!(bench.refused(), (Some(3), "the line is not UTF-8".into()));
}

#[test]
fn a_loss_without_bounds_fails_the_job() {
    let mut bench = Bench::pairs("llama_default");
    // Each step multiplies the weights by -99.
    bench.job.hyper_parameters.learning_rate = 10.0;
    bench.job.hyper_parameters.weight_decay = 10.0;
    bench.job.hyper_parameters.schedule = Schedule::Constant;
    bench.job.hyper_parameters.max_gradient_norm = 0.0;
    bench.job.hyper_parameters.epoch_count = 200;
    bench.job.method = JobMethod::Full;
    let (result, events) = bench.run(&options());
    assert!(matches!(result, Err(Error::Diverged { .. })), "{result:?}");
    let Some(JobEvent::Failed { message }) = events.last() else { panic!("{:?}", events.last()) };
    let status: Value = serde_json::from_slice(&bench.out("job.json")).unwrap();
    assert_eq!((status["status"].as_str(), status["failureMessage"].as_str()), (Some("Failed"), Some(&**message)));
    assert!(!bench.job.output_dir.join("model.safetensors").exists());
}

/// Adapters, and the names of their bases.
fn adapters() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/training");
    let folders = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let case = |folder: &Path| {
        let expected: Value = serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
        expected["case"].as_str().unwrap().to_string()
    };
    folders.map(|folder| (folder.clone(), case(&folder))).collect()
}

#[test]
fn what_is_written_as_a_model_is_the_model() {
    let names: BTreeSet<String> = adapters().into_iter().map(|(_, name)| name).collect();
    assert_eq!(names.len(), 10);
    for name in names {
        let prompt = [3, 1, 4];
        let mut trainer = Trainer::load(base(&name), &load(), Method::Full).unwrap();
        let written = |trainer: &Trainer| {
            let folder = tempfile::tempdir().unwrap();
            trainer.save_model(folder.path()).unwrap();
            LanguageModel::load(folder.path(), &load()).unwrap().logits(&prompt).unwrap().concat()
        };
        let before = LanguageModel::load(base(&name), &load()).unwrap().logits(&prompt).unwrap().concat();
        assert_eq!(before, written(&trainer), "{name}");
        // And what was learnt is all there, in whatever pieces the files have it.
        let settings = AdamW { learning_rate: 1e-2, ..AdamW::default() };
        let text: Vec<u32> = (3..23).collect();
        for _ in 0..2 {
            trainer.step(&[Sequence::text(text.clone())], &settings).unwrap();
        }
        let (trained, after) = (trainer.model().logits(&prompt).unwrap().concat(), written(&trainer));
        let far = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        let largest = trained.iter().fold(0f32, |a, b| a.max(b.abs()));
        assert!(far(&trained, &after) <= 1e-4 * largest, "{name}: {} of {largest}", far(&trained, &after));
        assert!(far(&trained, &before) > 1e-2 * largest, "{name}");
    }
}

#[test]
fn a_killed_job_goes_on_as_if_it_had_not_been() {
    const CHILD: &str = "BEDROCK_TEST_KILLED_JOB";
    // The test runs itself as the process that is killed.
    if let Some(job) = env::var_os(CHILD) {
        let job = Job::from_file(job).unwrap();
        let ran = job.run(&options(), |event| {
            if matches!(event, JobEvent::Step { step: 7, .. }) {
                writeln!(io::stdout(), "\nseven steps").unwrap();
                loop {
                    std::thread::park();
                }
            }
        });
        panic!("nobody killed {ran:?}");
    }
    let whole = Bench::pairs("llama_default");
    whole.trained();
    let mut killed = Bench::pairs("llama_default");
    killed.job.checkpoint_steps = Some(3);
    let file = killed.file("job.json", serde_json::to_vec(&killed.job).unwrap());
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
    let resumed = JobOptions { resume: true, ..options() };
    let (trained, events) = killed.run(&resumed);
    assert_eq!(trained.unwrap().steps, 12);
    assert!(events.contains(&JobEvent::Resumed { step: 6 }), "{events:?}");
    assert_eq!(killed.out("adapter_model.safetensors"), whole.out("adapter_model.safetensors"));
    assert_eq!(killed.out("step_wise_training_metrics.csv"), whole.out("step_wise_training_metrics.csv"));
}

#[test]
fn a_merged_adapter_answers_as_beside_its_base() {
    for (adapter, name) in adapters() {
        let folder = tempfile::tempdir().unwrap();
        merge(base(&name), &adapter, folder.path()).unwrap();
        let with = LoadOptions { adapter: Some(adapter.clone()), ..load() };
        let beside = LanguageModel::load(base(&name), &with).unwrap().logits(&[3, 1, 4]).unwrap().concat();
        let merged = LanguageModel::load(folder.path(), &load()).unwrap().logits(&[3, 1, 4]).unwrap().concat();
        let largest = beside.iter().fold(0f32, |a, b| a.max(b.abs()));
        let far = beside.iter().zip(&merged).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(far < 1e-4 * largest, "{name}: {far} of {largest}");
        // Of another model.
        let other = if name == "gpt2" { "qwen2" } else { "gpt2" };
        assert!(merge(base(other), &adapter, folder.path().join("none")).is_err(), "{name}");
        assert!(!folder.path().join("none").exists());
    }
}

/// A file gets what was added, whatever the order of its rows, and is a model for everyone who reads such files.
#[test]
fn an_adapter_is_merged_into_a_file() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/conformance/gguf");
    let base = fixtures.join("scaled.gguf");
    let folder = tempfile::tempdir().unwrap();
    let adapter = folder.path().join("adapter");
    let mut trainer = Trainer::load(&base, &load(), Method::Lora(Lora { rank: 4, ..Lora::default() })).unwrap();
    let tokens = vec![1, 5, 9, 2, 40, 7, 5, 9, 2];
    for _ in 0..10 {
        trainer.step(&[Sequence::text(tokens.clone())], &AdamW { learning_rate: 1e-2, ..AdamW::default() }).unwrap();
    }
    trainer.save_adapter(&adapter).unwrap();
    let merged = folder.path().join("merged.gguf");
    merge(&base, &adapter, &merged).unwrap();
    let logits = |file: &Path, adapter: Option<&Path>| {
        let options = LoadOptions { adapter: adapter.map(Path::to_path_buf), ..load() };
        LanguageModel::load(file, &options).unwrap().logits(&tokens).unwrap().concat()
    };
    let far = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    let (plain, beside, inside) = (logits(&base, None), logits(&base, Some(&adapter)), logits(&merged, None));
    let largest = beside.iter().fold(0f32, |a, b| a.max(b.abs()));
    assert!(far(&plain, &beside) > 0.2 * largest, "the adapter does nothing");
    assert!(far(&beside, &inside) < 0.02 * largest, "{} of {largest}", far(&beside, &inside));
    // Of another shape, and of another family.
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf_families/qwen2.gguf");
    let none = folder.path().join("none.gguf");
    assert!(matches!(merge(&other, &adapter, &none), Err(Error::ConfigValue { .. })));
    let foreign = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/training/llama_llama3");
    assert!(merge(&base, &foreign, &none).is_err());
    assert!(!none.exists());
}

/// Row by row, what llama.cpp adds to a file of the base is what merging adds to the base.
#[test]
fn an_adapter_is_a_file_too() {
    let (base, folder) = (base("llama_default"), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name);
    let adapter = path("adapter");
    let lora = Lora { rank: 4, rank_stabilised: true, ..Lora::default() };
    let mut trainer = Trainer::load(&base, &load(), Method::Lora(lora)).unwrap();
    for _ in 0..5 {
        let text = Sequence::text(vec![1, 5, 9, 2, 40, 7, 5, 9, 2]);
        trainer.step(&[text], &AdamW { learning_rate: 1e-2, ..AdamW::default() }).unwrap();
    }
    trainer.save_adapter(&adapter).unwrap();
    merge(&base, &adapter, path("merged")).unwrap();
    quantize(&base, path("base.gguf"), Dtype::F32, |_| true).unwrap();
    quantize(path("merged"), path("merged.gguf"), Dtype::F32, |_| true).unwrap();
    adapter_to_gguf(&base, &adapter, path("adapter.gguf")).unwrap();
    adapter_to_gguf(path("base.gguf"), &adapter, path("same.gguf")).unwrap();
    assert_eq!(fs::read(path("adapter.gguf")).unwrap(), fs::read(path("same.gguf")).unwrap());

    let open = |name: &str| GgufFile::open(path(name)).unwrap();
    let (factors, before, after) = (open("adapter.gguf"), open("base.gguf"), open("merged.gguf"));
    for (key, value) in [("general.type", "adapter"), ("adapter.type", "lora"), ("general.architecture", "llama")] {
        assert_eq!(factors.metadata.required::<&str>(key).unwrap(), value);
    }
    let alpha: f32 = factors.metadata.required("adapter.lora.alpha").unwrap();
    assert!((alpha - 32.0).abs() < 1e-4, "16 / √4 · 4: {alpha}");
    let mut changed = 0;
    for tensor in after.checkpoint.iter() {
        let mut expected = before.checkpoint.get(&tensor.name).unwrap().to_f32().unwrap();
        let factor = |name: &str| factors.checkpoint.get(&format!("{}.{name}", tensor.name));
        if let (Some(a), Some(b)) = (factor("lora_a"), factor("lora_b")) {
            changed += 1;
            assert_eq!((&a.shape[..], &b.shape[..]), (&[4, tensor.shape[1]][..], &[tensor.shape[0], 4][..]));
            let (columns, a, b) = (tensor.shape[1], a.to_f32().unwrap(), b.to_f32().unwrap());
            assert!(b.iter().any(|value| *value != 0.0));
            for (at, value) in expected.iter_mut().enumerate() {
                let (row, column) = (at / columns, at % columns);
                *value += (0..4).map(|r| alpha / 4.0 * b[row * 4 + r] * a[r * columns + column]).sum::<f32>();
            }
        }
        let far = tensor.to_f32().unwrap().iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(far < 1e-5, "{}: {far}", tensor.name);
    }
    assert_eq!((changed * 2, changed % 7), (factors.checkpoint.len(), 0));
    // Of another model.
    assert!(adapter_to_gguf(self::base("llama_linear"), &adapter, path("none.gguf")).is_err());
    assert!(adapter_to_gguf(self::base("qwen2"), &adapter, path("none.gguf")).is_err());
    assert!(!path("none.gguf").exists());
}

#[test]
fn the_result_says_what_it_is() {
    let mut bench = Bench::pairs("llama_default");
    bench.job.custom_model_name = Some("ends".into());
    bench.job.merge = true;
    let (trained, _) = bench.trained();
    let card = String::from_utf8(bench.out("README.md")).unwrap();
    let hash = "87e3dd28cc7de91f61dc573b4126ea08cec970d8ade0eb2957445e8f0e06ce50";
    let loss = format!("| {:.4} |", trained.train_loss.unwrap());
    for part in ["# ends\n", "base_model: \"llama_default\"", hash, &loss, "\"epochCount\": 3", "| steps | 12 |"] {
        assert!(card.contains(part), "no {part} in {card}");
    }
    assert!(String::from_utf8(bench.out("loss.svg")).unwrap().starts_with("<svg"));
    LanguageModel::load(bench.job.output_dir.join("merged"), &load()).unwrap();
}
