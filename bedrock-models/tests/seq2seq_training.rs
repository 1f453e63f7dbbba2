//! T5 and mT5 in training against PyTorch and PEFT, see `fixtures/seq2seq_training/SOURCE.md`, and as jobs.

use std::fs;
use std::path::{Path, PathBuf};

use bedrock_models::tune::{
    AdamW, CustomizationType, HyperParameters, Job, JobEvent, JobLora, JobMethod, JobOptions, JobStatus, Lora, Method,
    Sequence, Stop, Trained, Trainer, merge,
};
use bedrock_models::{Error, LanguageModel, LoadOptions};
use serde::Deserialize;
use serde_json::Value;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn base(name: &str) -> PathBuf {
    fixtures().join("conformance").join(name)
}

fn load() -> LoadOptions {
    LoadOptions { threads: 2, ..LoadOptions::default() }
}

#[derive(Deserialize)]
struct Expected {
    case: String,
    settings: Settings,
    sequences: Vec<Row>,
    full: Figures,
    lora: Figures,
    logits: Vec<f32>,
}

#[derive(Deserialize)]
struct Settings {
    lr: f64,
    weight_decay: f64,
    betas: [f64; 2],
    eps: f64,
}

#[derive(Deserialize)]
struct Row {
    prompt: Vec<u32>,
    answer: Vec<u32>,
}

#[derive(Deserialize)]
struct Figures {
    losses: Vec<f64>,
    gradient_norm: f64,
}

impl Expected {
    fn folder(&self) -> PathBuf {
        fixtures().join("seq2seq_training").join(&self.case)
    }

    fn batch(&self) -> Vec<Sequence> {
        self.sequences.iter().map(|row| Sequence::completion(&row.prompt, &row.answer)).collect()
    }

    fn settings(&self) -> AdamW {
        let Settings { lr, weight_decay, betas, eps } = self.settings;
        AdamW { learning_rate: lr, weight_decay, betas, eps, ..AdamW::default() }
    }
}

fn cases() -> Vec<Expected> {
    ["t5_original", "t5_v11", "mt5_silu"]
        .map(|case| {
            let file = fixtures().join("seq2seq_training").join(case).join("expected.json");
            serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
        })
        .into()
}

fn far(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = a.iter().fold(0f32, |a, b| a.max(b.abs()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max) / largest
}

fn follows(what: &str, mut trainer: Trainer, expected: &Expected, figures: &Figures) {
    let (batch, settings) = (expected.batch(), expected.settings());
    let near = |got: f64, want: f64, bound: f64| {
        assert!((got - want).abs() <= bound * want.abs(), "{} {what}: {got}, not {want}", expected.case);
    };
    let (last, losses) = figures.losses.split_last().unwrap();
    for (index, want) in losses.iter().enumerate() {
        let step = trainer.step(&batch, &settings).unwrap();
        near(step.loss, *want, if index == 0 { 1e-5 } else { 5e-4 });
        if index == 0 {
            near(step.gradient_norm, figures.gradient_norm, 1e-4);
        }
    }
    near(trainer.loss(&batch).unwrap(), *last, 5e-4);
}

#[test]
fn answers_are_learnt_as_in_pytorch() {
    for expected in cases() {
        let trainer = |method| Trainer::load(base(&expected.case), &load(), method).unwrap();
        follows("all weights", trainer(Method::Full), &expected, &expected.full);
        follows("adapter", trainer(Method::Adapter(expected.folder())), &expected, &expected.lora);
    }
}

#[test]
fn answers_with_an_adapter_beside_and_merged() {
    for expected in cases() {
        let Row { prompt, answer } = &expected.sequences[0];
        let with = LoadOptions { adapter: Some(expected.folder()), ..load() };
        let beside = LanguageModel::load(base(&expected.case), &with).unwrap();
        let folder = tempfile::tempdir().unwrap();
        merge(base(&expected.case), expected.folder(), folder.path()).unwrap();
        let merged = LanguageModel::load(folder.path(), &load()).unwrap();
        for model in [beside, merged] {
            let logits = model.answer_logits(prompt, &answer[..answer.len() - 1]).unwrap().pop().unwrap();
            assert!(far(&expected.logits, &logits) < 1e-4, "{}: {}", expected.case, far(&expected.logits, &logits));
        }
    }
}

#[test]
fn what_is_saved_is_what_was_trained() {
    for expected in cases() {
        let targets = ["q", "wo"].map(String::from).to_vec();
        for method in [Method::Full, Method::Lora(Lora { rank: 3, targets, ..Lora::default() })] {
            let mut trainer = Trainer::load(base(&expected.case), &load(), method.clone()).unwrap();
            (0..3).for_each(|_| assert!(trainer.step(&expected.batch(), &expected.settings()).is_ok()));
            let folder = tempfile::tempdir().unwrap();
            let served = if let Method::Full = method {
                trainer.save_model(folder.path()).unwrap();
                LanguageModel::load(folder.path(), &load())
            } else {
                trainer.save_adapter(folder.path()).unwrap();
                let config = fs::read(folder.path().join("adapter_config.json")).unwrap();
                let config: Value = serde_json::from_slice(&config).unwrap();
                assert_eq!(config["task_type"], "SEQ_2_SEQ_LM");
                let adapter = Some(folder.path().to_path_buf());
                LanguageModel::load(base(&expected.case), &LoadOptions { adapter, ..load() })
            };
            let Row { prompt, answer } = &expected.sequences[1];
            let logits = |model: &LanguageModel| model.answer_logits(prompt, answer).unwrap().concat();
            let (trained, served) = (logits(trainer.model()), logits(&served.unwrap()));
            assert!(far(&trained, &served) < 1e-4, "{} {method:?}", expected.case);
            let before = logits(&LanguageModel::load(base(&expected.case), &load()).unwrap());
            assert!(far(&trained, &before) > 1e-3, "{} {method:?}", expected.case);
        }
    }
}

#[test]
fn what_has_no_prompt_is_refused_and_threads_make_no_difference() {
    let expected = cases().remove(1);
    let run = |threads| {
        let options = LoadOptions { threads, ..LoadOptions::default() };
        let mut trainer = Trainer::load(base(&expected.case), &options, Method::Full).unwrap();
        (0..3).map(|_| trainer.step(&expected.batch(), &expected.settings()).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(3));
    let mut trainer = Trainer::load(base(&expected.case), &load(), Method::Full).unwrap();
    let before = trainer.loss(&expected.batch()).unwrap();
    for sequence in [Sequence::text(vec![3, 4, 5]), Sequence::completion(&[3, 4], &[]), Sequence::text(vec![])] {
        let batch = [expected.batch(), vec![sequence]].concat();
        assert!(matches!(trainer.step(&batch, &expected.settings()), Err(Error::NoTokens)));
    }
    assert_eq!((trainer.loss(&expected.batch()).unwrap(), trainer.steps()), (before, 0));
}

fn job(folder: &Path, lines: &str) -> Job {
    let data = folder.join("train.jsonl");
    fs::write(&data, lines).unwrap();
    let mut job = Job::new(base("t5_v11").display().to_string(), data, folder.join("out"));
    job.hyper_parameters = HyperParameters { epoch_count: 8, batch_size: 3, learning_rate: 1e-2, ..Default::default() };
    job.method = JobMethod::Lora(JobLora { r: 4, dropout: 0.1, ..JobLora::default() });
    job
}

fn run(job: &Job, options: &JobOptions) -> (Result<Trained, Error>, Vec<JobEvent>) {
    let mut events = Vec::new();
    let trained = job.run(options, |event| events.push(event.clone()));
    (trained, events)
}

#[test]
fn jobs_learn_answers_and_go_on_after_a_stop() {
    let lines: String =
        (0..6).map(|n| format!("{{\"prompt\": \"the {n}\", \"completion\": \"end of {n}\"}}\n")).collect();
    let options = JobOptions { load: load(), ..JobOptions::default() };
    for method in [JobMethod::Full, JobMethod::Lora(JobLora { r: 4, dropout: 0.1, ..JobLora::default() })] {
        let weights = if method == JobMethod::Full { "model.safetensors" } else { "adapter_model.safetensors" };
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [mut whole, mut broken] = folders.each_ref().map(|folder| job(folder.path(), &lines));
        (whole.method, broken.method) = (method.clone(), method.clone());
        whole.validation_data = vec![whole.training_data.clone()];
        broken.validation_data = vec![broken.training_data.clone()];
        let trained = run(&whole, &options).0.unwrap();
        assert_eq!((trained.status, trained.steps), (JobStatus::Completed, 16));
        assert!(trained.validation_loss.unwrap() < trained.base_validation_loss.unwrap() - 0.3, "{trained:?}");
        let mut options = JobOptions { stop: Stop::default(), ..options.clone() };
        let stop = options.stop.clone();
        let stopped = broken.run(&options, |event| {
            if matches!(event, JobEvent::Step { step: 7, .. }) {
                stop.stop();
            }
        });
        assert_eq!(stopped.unwrap().steps, 7);
        (options.stop, options.resume) = (Stop::default(), true);
        run(&broken, &options).0.unwrap();
        let out = |job: &Job| fs::read(job.output_dir.join(weights)).unwrap();
        assert_eq!(out(&whole), out(&broken), "{method:?}");
        if weights.starts_with("adapter") {
            let config = fs::read(whole.output_dir.join("adapter_config.json")).unwrap();
            let config: Value = serde_json::from_slice(&config).unwrap();
            assert_eq!(config["target_modules"], serde_json::json!(["q", "v"]));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mut other = job(folder.path(), "{\"input\": \"some text\"}\n");
    other.customization_type = CustomizationType::ContinuedPreTraining;
    assert!(matches!(run(&other, &options).0, Err(Error::Job { what, .. }) if what == "customizationType"));
    assert!(!other.output_dir.exists());
    // What to prefer is learnt too.
    let mut other = job(folder.path(), "{\"prompt\": \"the\", \"chosen\": \"end\", \"rejected\": \"a word\"}\n");
    other.customization_type = CustomizationType::PreferenceTuning;
    let (trained, events) = run(&other, &options);
    let losses: Vec<f64> = events
        .iter()
        .filter_map(|event| if let JobEvent::Step { loss, .. } = event { Some(*loss) } else { None })
        .collect();
    assert!(trained.is_ok() && losses[7] < losses[0] - 0.1, "{losses:?}");
}
