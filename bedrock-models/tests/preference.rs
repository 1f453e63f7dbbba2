//! Preference tuning against PyTorch and PEFT, see `fixtures/preference/SOURCE.md`, and as a job.

use std::fs;
use std::path::PathBuf;

use bedrock_models::tune::{
    AdamW, CustomizationType, HyperParameters, JobEvent, JobLora, JobMethod, JobStatus, Method, Metrics, Preference,
    Sequence, Stop, Trainer,
};
use bedrock_models::{Error, LanguageModel, LoadOptions};
use serde::Deserialize;
use serde_json::Value;

mod bench;

use bench::{Bench, fixtures, load, options};

#[derive(Deserialize)]
struct Expected {
    case: String,
    beta: f64,
    settings: Settings,
    pairs: Vec<Pair>,
    reference: Vec<[f64; 2]>,
    full: Figures,
    lora: Figures,
}

#[derive(Deserialize)]
struct Settings {
    lr: Rates,
    weight_decay: f64,
    betas: [f64; 2],
    eps: f64,
}

#[derive(Deserialize)]
struct Rates {
    full: f64,
    lora: f64,
}

#[derive(Deserialize)]
struct Pair {
    prompt: Vec<u32>,
    chosen: Vec<u32>,
    rejected: Vec<u32>,
}

#[derive(Deserialize)]
struct Figures {
    losses: Vec<f64>,
    margins: Vec<f64>,
    accuracies: Vec<f64>,
    gradient_norm: f64,
}

impl Expected {
    fn base(&self) -> PathBuf {
        fixtures().join("conformance").join(&self.case)
    }

    fn sequences(&self) -> Vec<Sequence> {
        let of = |pair: &Pair| [&pair.chosen, &pair.rejected].map(|answer| Sequence::completion(&pair.prompt, answer));
        self.pairs.iter().flat_map(of).collect()
    }

    /// With what the base says here.
    fn preferences(&self) -> Vec<Preference> {
        let base = Trainer::load(self.base(), &load(), Method::Full).unwrap();
        let sequences = self.sequences();
        let reference = base.log_probabilities(&sequences).unwrap();
        for (got, want) in reference.iter().zip(self.reference.concat()) {
            assert!((got - want).abs() <= 1e-5 * want.abs(), "{}: {got}, not {want}", self.case);
        }
        let pair = |(pair, reference): (&[Sequence], &[f64])| Preference {
            chosen: pair[0].clone(),
            rejected: pair[1].clone(),
            reference: [reference[0], reference[1]],
        };
        sequences.chunks(2).zip(reference.chunks(2)).map(pair).collect()
    }
}

fn cases() -> Vec<Expected> {
    serde_json::from_slice(&fs::read(fixtures().join("preference/expected.json")).unwrap()).unwrap()
}

fn follows(what: &str, mut trainer: Trainer, expected: &Expected, figures: &Figures, learning_rate: f64) {
    let (pairs, Settings { weight_decay, betas, eps, .. }) = (expected.preferences(), &expected.settings);
    let settings = AdamW { learning_rate, weight_decay: *weight_decay, betas: *betas, eps: *eps, ..AdamW::default() };
    let last = figures.losses.len() - 1;
    for (index, want) in figures.losses.iter().enumerate() {
        let (loss, metrics) = if index == last {
            trainer.preference_loss(&pairs, expected.beta).unwrap()
        } else {
            let (step, metrics) = trainer.preference_step(&pairs, expected.beta, &settings).unwrap();
            if index == 0 {
                let (got, want) = (step.gradient_norm, figures.gradient_norm);
                assert!((got - want).abs() <= 1e-4 * want, "{} {what}: norm {got}, not {want}", expected.case);
            }
            (step.loss, metrics)
        };
        let Metrics::Preference { reward_margin, reward_accuracy } = metrics else { panic!("{metrics:?}") };
        let margin = figures.margins[index];
        // A loss near zero is as far off as the margin that it is the exponential of.
        let near = if index == 0 { 1e-5 } else { 1e-3 };
        assert!(
            (loss - want).abs() <= near * want.abs() * margin.abs().max(1.0),
            "{} {what}: {loss} {want}",
            expected.case
        );
        assert!(
            (reward_margin - margin).abs() <= near * margin.abs() + 1e-6,
            "{} {what}: {reward_margin} {margin}",
            expected.case
        );
        if index > 0 {
            // Before the first step of all weights the margins are zero but for rounding.
            assert!((reward_accuracy - figures.accuracies[index]).abs() < 1e-6, "{} {what}", expected.case);
        }
    }
}

#[test]
fn preferences_are_learnt_as_in_pytorch() {
    assert_eq!(cases().len(), 4);
    for expected in cases() {
        let trainer = |method| Trainer::load(expected.base(), &load(), method).unwrap();
        follows("all weights", trainer(Method::Full), &expected, &expected.full, expected.settings.lr.full);
        let adapter = Method::Adapter(fixtures().join("training").join(&expected.case));
        follows("adapter", trainer(adapter), &expected, &expected.lora, expected.settings.lr.lora);
    }
}

#[test]
fn activations_computed_again_and_threads_make_no_difference() {
    let expected = cases().remove(0);
    let (pairs, settings) = (expected.preferences(), AdamW { learning_rate: 3e-4, ..AdamW::default() });
    let run = |threads, again| {
        let options = LoadOptions { threads, ..LoadOptions::default() };
        let mut trainer = Trainer::load(expected.base(), &options, Method::Full).unwrap();
        trainer.set_checkpointing(again);
        (0..3).map(|_| trainer.preference_step(&pairs, 0.3, &settings).unwrap()).collect::<Vec<_>>()
    };
    let once = run(1, false);
    assert_eq!(once, run(3, false));
    assert_eq!(once, run(2, true));
}

#[test]
fn what_cannot_be_compared_changes_nothing() {
    let expected = cases().remove(0);
    let mut trainer = Trainer::load(expected.base(), &load(), Method::Full).unwrap();
    let mut pairs = expected.preferences();
    let before = trainer.preference_loss(&pairs, 0.1).unwrap();
    let step = |trainer: &mut Trainer, pairs: &[Preference]| {
        trainer.preference_step(pairs, 0.1, &AdamW::default()).unwrap_err()
    };
    assert!(matches!(step(&mut trainer, &[]), Error::NoTokens));
    let (whole, unknown) = (pairs.clone(), f64::NAN);
    pairs[1].rejected = Sequence::completion(&[3, 4], &[]);
    assert!(matches!(step(&mut trainer, &pairs), Error::NoTokens));
    pairs = whole.clone();
    pairs[2].reference[0] = unknown;
    assert!(matches!(step(&mut trainer, &pairs), Error::Diverged { .. }));
    assert_eq!((trainer.preference_loss(&whole, 0.1).unwrap(), trainer.steps()), (before, 0));
}

impl Bench {
    fn new() -> Self {
        let line = |n: usize| {
            format!("{{\"prompt\": \"the {n}\", \"chosen\": \"end of {n}\", \"rejected\": \"a word {n} more\"}}\n")
        };
        let mut bench = Self::of("llama_default", &(0..7).map(line).collect::<String>());
        let validation = bench.folder.path().join("valid.jsonl");
        fs::write(&validation, (7..9).map(line).collect::<String>()).unwrap();
        let job = &mut bench.job;
        job.customization_type = CustomizationType::PreferenceTuning;
        job.validation_data = vec![validation];
        job.hyper_parameters = HyperParameters {
            epoch_count: 3,
            batch_size: 2,
            learning_rate: 5e-3,
            max_sequence_length: 64,
            seed: 5,
            ..HyperParameters::default()
        };
        job.method = JobMethod::Lora(JobLora { r: 4, alpha: 8.0, ..JobLora::default() });
        bench
    }
}

#[test]
fn a_job_learns_what_to_prefer() {
    let bench = Bench::new();
    let (trained, events) = bench.run(&options());
    let trained = trained.unwrap();
    let measures: Vec<(f64, f64, f64)> = events
        .iter()
        .filter_map(|event| match event {
            JobEvent::Validation {
                loss,
                perplexity: None,
                metrics: Some(Metrics::Preference { reward_margin, reward_accuracy }),
                ..
            } => Some((*loss, *reward_margin, *reward_accuracy)),
            _ => None,
        })
        .collect();
    let (first, last) = (measures[0], *measures.last().unwrap());
    // A new adapter changes nothing: no answer has become more probable.
    assert_eq!((measures.len(), first), (4, (2f64.ln(), 0.0, 0.0)));
    assert!(last.0 < 0.6 && last.1 > 0.1 && last.2 == 1.0, "{measures:?}");
    assert_eq!((trained.steps, trained.validation_loss), (12, Some(last.0)));
    assert!(matches!(
        events[..2],
        [JobEvent::Started { items: 7, validation_items: 2, .. }, JobEvent::Referenced { items: 9 }]
    ));
    let step =
        serde_json::to_value(events.iter().find(|event| matches!(event, JobEvent::Step { .. })).unwrap()).unwrap();
    assert_eq!((&step["type"], &step["reward_margin"]), (&"step".into(), &0.0.into()));

    let rows = String::from_utf8(bench.out("validation_metrics.csv")).unwrap();
    let rows: Vec<&str> = rows.lines().collect();
    assert_eq!(rows[0], "step_number,epoch_number,validation_loss,reward_margin,reward_accuracy");
    assert_eq!(rows[4], format!("12,3,{},{},{}", last.0, last.1, last.2));
    assert_eq!(String::from_utf8(bench.out("step_wise_training_metrics.csv")).unwrap().lines().count(), 13);
    let status: Value = serde_json::from_slice(&bench.out("job.json")).unwrap();
    assert_eq!(
        (&status["customizationType"], &status["hyperParameters"]["beta"]),
        (&"PREFERENCE_TUNING".into(), &"0.1".into())
    );
    assert!(String::from_utf8(bench.out("README.md")).unwrap().contains("| reward accuracy of validation | 1.0000 |"));
    assert!(!bench.job.output_dir.join("checkpoints").exists());

    // What is served prefers it too: against the base, by the answers alone.
    let with = LoadOptions { adapter: Some(bench.job.output_dir.clone()), ..load() };
    let [base, tuned] = [load(), with].map(|options| LanguageModel::load(&bench.job.base_model, &options).unwrap());
    let score = |model: &LanguageModel, answer: &str| {
        let tokens = |text: &str, whole| model.tokenizer().unwrap().encode(text, whole).unwrap();
        let scores = model.score(&tokens("the 7", true), &tokens(answer, false), 0).unwrap();
        scores.iter().map(|token| f64::from(token.log_prob)).sum::<f64>()
    };
    let gain = |answer: &str| score(&tuned, answer) - score(&base, answer);
    assert!(gain("end of 7") > gain("a word 7 more") + 0.5);
}

#[test]
fn a_stopped_job_goes_on_as_if_it_had_not_been() {
    for (method, weights) in
        [(JobMethod::Full, "model.safetensors"), (Bench::new().job.method, "adapter_model.safetensors")]
    {
        let bench = || {
            let mut bench = Bench::new();
            bench.job.hyper_parameters.learning_rate = 1e-3;
            bench.job.method = method.clone();
            bench
        };
        let whole = bench();
        whole.run(&options()).0.unwrap();
        // Before the base was asked, after it, and in the middle of an epoch.
        for stops in [vec![None], vec![None, Some(1), Some(6)]] {
            let broken = bench();
            let mut options = options();
            for at in &stops {
                options.stop = Stop::default();
                let stop = options.stop.clone();
                let stopped = broken.job.run(&options, |event| match event {
                    JobEvent::Started { .. } if at.is_none() => stop.stop(),
                    JobEvent::Step { step, .. } if Some(*step) == *at => stop.stop(),
                    _ => {}
                });
                let stopped = stopped.unwrap();
                assert_eq!((stopped.status, stopped.steps), (JobStatus::Stopped, at.unwrap_or(0)));
                assert!(broken.job.output_dir.join("checkpoints/reference.safetensors").exists());
                options.resume = true;
            }
            options.stop = Stop::default();
            broken.run(&options).0.unwrap();
            assert_eq!(broken.out(weights), whole.out(weights), "{method:?} stopped after {stops:?}");
            for name in ["step_wise_training_metrics.csv", "validation_metrics.csv"] {
                assert_eq!(broken.out(name), whole.out(name), "{name}");
            }
        }
    }
}

#[test]
fn the_base_is_not_forgotten_on_the_way() {
    let bench = Bench::new();
    let mut options = options();
    let stop = options.stop.clone();
    let stopped = bench.job.run(&options, |event| {
        if matches!(event, JobEvent::Step { step: 5, .. }) {
            stop.stop();
        }
    });
    assert_eq!(stopped.unwrap().steps, 5);
    (options.stop, options.resume) = (Stop::default(), true);
    let path = bench.job.output_dir.join("checkpoints/reference.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(matches!(bench.run(&options).0, Err(Error::Safetensors { .. })));
    // The base cannot be asked any more by a model that has learnt.
    fs::remove_file(&path).unwrap();
    assert!(matches!(bench.run(&options).0, Err(Error::Malformed { .. })));
    fs::write(&path, bytes).unwrap();
    assert_eq!(bench.run(&options).0.unwrap().status, JobStatus::Completed);
}

#[test]
fn wrong_data_are_named_by_line_and_nothing_is_written() {
    let good = "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}\n";
    for (line, reason) in [
        ("{\"prompt\": \"a\", \"chosen\": \"b\"}", "should have prompt or messages, chosen and rejected"),
        ("{\"prompt\": \"a\", \"completion\": \"b\"}", "should have prompt or messages, chosen and rejected"),
        ("{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"b\"}", "chosen and rejected are the same"),
        ("{\"prompt\": \"a\", \"chosen\": \"\", \"rejected\": \"b\"}", "chosen is empty"),
        ("[]", "no JSON object"),
    ] {
        let bench = Bench::new();
        fs::write(&bench.job.training_data, format!("{good}\n{line}\n{good}")).unwrap();
        match bench.run(&options()).0 {
            Err(Error::TrainingData { line: Some(3), reason: got, .. }) => assert!(got.contains(reason), "{got}"),
            other => panic!("{other:?}"),
        }
        assert!(!bench.job.output_dir.exists(), "something was written");
    }
    // Answers that differ only where they are cut off teach nothing.
    let bench = Bench::new();
    let long = "a ".repeat(100);
    let alike = format!("{{\"prompt\": \"a\", \"chosen\": \"{long}b\", \"rejected\": \"{long}c\"}}\n");
    fs::write(&bench.job.training_data, format!("{good}{alike}")).unwrap();
    let (trained, events) = bench.run(&options());
    trained.unwrap();
    assert!(matches!(events[0], JobEvent::Started { items: 1, skipped: 1, .. }), "{:?}", events[0]);
    assert!(bench.folder.path().join("out").exists());
}
