//! Sentence embeddings and classifiers in training against PyTorch, see `fixtures/encoder_training/SOURCE.md`, and as jobs.

use std::fs;

use bedrock_core::{EmbedPurpose, EmbedRequest, EmbeddingModel};
use bedrock_models::tune::{
    AdamW, ClassifierTrainer, Contrast, CustomizationType, EmbeddingTrainer, HyperParameters, JobEvent, JobLora,
    JobMethod, JobStatus, Labelled, Lora, Method, Metrics, Stop,
};
use bedrock_models::weights::Checkpoint;
use bedrock_models::{Embedder, Error, LoadOptions, SequenceClassifier};
use serde::Deserialize;
use serde_json::Value;

mod bench;

use bench::{Bench, base, fixtures, load, options, without};

#[derive(Deserialize)]
struct Expected {
    settings: Settings,
    scale: f64,
    embedders: Vec<Case<Texts>>,
    adapters: Vec<Case<Texts>>,
    classifiers: Vec<Case<Line>>,
    classifier_adapters: Vec<Case<Line>>,
}

#[derive(Deserialize)]
struct Settings {
    lr: f64,
    weight_decay: f64,
    betas: [f64; 2],
    eps: f64,
}

#[derive(Deserialize)]
struct Case<T> {
    case: String,
    rows: Vec<T>,
    losses: Vec<f64>,
    accuracies: Vec<f64>,
    gradient_norm: f64,
}

#[derive(Deserialize)]
struct Texts {
    anchor: String,
    positive: String,
    negative: Option<String>,
}

#[derive(Deserialize)]
struct Line {
    text: String,
    label: String,
}

fn expected() -> Expected {
    serde_json::from_slice(&fs::read(fixtures().join("encoder_training/expected.json")).unwrap()).unwrap()
}

impl Settings {
    fn adamw(&self) -> AdamW {
        let Self { lr, weight_decay, betas, eps } = *self;
        AdamW { learning_rate: lr, weight_decay, betas, eps, ..AdamW::default() }
    }
}

impl Case<Texts> {
    fn items(&self, trainer: &EmbeddingTrainer) -> Vec<Contrast> {
        let item = |row: &Texts| trainer.encode(&row.anchor, &row.positive, row.negative.as_deref()).unwrap();
        self.rows.iter().map(item).collect()
    }
}

impl Case<Line> {
    fn items(&self, trainer: &ClassifierTrainer) -> Vec<Labelled> {
        self.rows.iter().map(|row| trainer.encode(&row.text, None, &row.label).unwrap()).collect()
    }
}

/// `measure(true)` makes a step and gives its gradient's length too.
fn follows<T>(case: &Case<T>, mut measure: impl FnMut(bool) -> (f64, Option<f64>, Metrics)) {
    let last = case.losses.len() - 1;
    for (index, (want, accuracy)) in case.losses.iter().zip(&case.accuracies).enumerate() {
        let (loss, norm, metrics) = measure(index < last);
        let near = if index == 0 { 2e-5 } else { 1e-3 };
        assert!((loss - want).abs() <= near * want, "{} after {index}: {loss}, not {want}", case.case);
        if let (0, Some(norm)) = (index, norm) {
            let want = case.gradient_norm;
            assert!((norm - want).abs() <= 1e-4 * want, "{}: norm {norm}, not {want}", case.case);
        }
        let Metrics::Accuracy { accuracy: got } = metrics else { panic!("{metrics:?}") };
        assert!((got - accuracy).abs() < 1e-6, "{} after {index}: {got}, not {accuracy}", case.case);
    }
}

#[test]
fn embeddings_are_learnt_as_in_pytorch_and_peft() {
    let expected = expected();
    assert_eq!((expected.embedders.len(), expected.adapters.len()), (7, 6));
    let all =
        expected.embedders.iter().map(|case| (case, false)).chain(expected.adapters.iter().map(|case| (case, true)));
    for (case, adapts) in all {
        let folder = fixtures().join("encoder_training").join(&case.case);
        let method = if adapts { Method::Adapter(folder) } else { Method::Full };
        let bare = tempfile::tempdir().unwrap();
        // Of a classifier the encoder.
        let base = if case.case == "deberta_v2_entities" {
            without(&case.case, &["classifier."], bare.path())
        } else {
            base(&case.case)
        };
        let mut trainer = EmbeddingTrainer::load_with(base, &load(), method).unwrap();
        let (items, settings, scale) = (case.items(&trainer), expected.settings.adamw(), expected.scale);
        follows(case, |step| match step {
            true => {
                let (step, metrics) = trainer.step(&items, 16, scale, &settings).unwrap();
                (step.loss, Some(step.gradient_norm), metrics)
            }
            false => {
                let (loss, metrics) = trainer.loss(&items, 16, scale).unwrap();
                (loss, None, metrics)
            }
        });
    }
}

#[test]
fn labels_are_learnt_as_in_pytorch_and_peft() {
    let expected = expected();
    assert_eq!((expected.classifiers.len(), expected.classifier_adapters.len()), (4, 4));
    let adapters = expected.classifier_adapters.iter().map(|case| (case, true));
    for (case, adapts) in expected.classifiers.iter().map(|case| (case, false)).chain(adapters) {
        let folder = fixtures().join("encoder_training").join(&case.case);
        let method = if adapts { Method::Adapter(folder) } else { Method::Full };
        let mut labels: Vec<String> = case.rows.iter().map(|row| row.label.clone()).collect();
        labels.sort();
        labels.dedup();
        let mut trainer = ClassifierTrainer::load_with(base(&case.case), &load(), &labels, 0, method).unwrap();
        let (items, settings) = (case.items(&trainer), expected.settings.adamw());
        follows(case, |step| match step {
            true => {
                let (step, metrics) = trainer.step(&items, &settings).unwrap();
                (step.loss, Some(step.gradient_norm), metrics)
            }
            false => {
                let (loss, metrics) = trainer.loss(&items).unwrap();
                (loss, None, metrics)
            }
        });
        // The base's own labels are kept, in their order.
        let own = SequenceClassifier::load(base(&case.case), &load()).unwrap();
        assert_eq!(trainer.labels(), own.labels());
    }
}

/// With a large epsilon the first step is the gradient times a number, so that the loss falls by its length squared times that: also of a batch
/// that is run in parts, and of several batches.
#[test]
fn gradients_are_slopes_in_parts_too() {
    let words = ["storm", "boat", "light", "map", "sea", "wind", "wave", "keeper"];
    let long = |word: &str, n: usize| format!("{word} {} {word}", words[n % words.len()]).repeat(1 + n % 3);
    for (count, in_batch) in [(90, 90), (12, 4)] {
        let load = || EmbeddingTrainer::load(base("bert_mean"), &load()).unwrap();
        let (mut still, mut trainer) = (load(), load());
        let item = |n: usize| {
            let (a, b) = (words[n % words.len()], words[n / words.len() % words.len()]);
            still.encode(&long(a, n), &long(b, n + 1), n.is_multiple_of(5).then_some("a calm day")).unwrap()
        };
        let items: Vec<Contrast> = (0..count).map(item).collect();
        let before = still.loss(&items, in_batch, 20.0).unwrap();
        let settings = AdamW { learning_rate: 0.0, eps: 1e4, weight_decay: 0.0, ..AdamW::default() };
        let norm = still.step(&items, in_batch, 20.0, &settings).unwrap().0.gradient_norm;
        let settings = AdamW { learning_rate: 1e-3 * settings.eps / norm.powi(2), ..settings };
        let (step, metrics) = trainer.step(&items, in_batch, 20.0, &settings).unwrap();
        assert!((step.loss - before.0).abs() < 1e-5 && metrics == before.1);
        let fall = step.loss - trainer.loss(&items, in_batch, 20.0).unwrap().0;
        assert!((fall - 1e-3).abs() < 5e-5, "{count} items: {fall}");
    }
}

impl Bench {
    fn new(kind: CustomizationType, base_model: &str, lines: &str) -> Self {
        let mut bench = Self::of(base_model, lines);
        let job = &mut bench.job;
        job.customization_type = kind;
        job.method = JobMethod::Full;
        job.hyper_parameters =
            HyperParameters { epoch_count: 6, batch_size: 3, learning_rate: 5e-3, ..HyperParameters::default() };
        bench
    }

    fn pairs(base_model: &str) -> Self {
        let line = |row: &[&str; 2]| format!("{{\"query\": \"{}\", \"positive\": \"{}\"}}\n", row[0], row[1]);
        Self::new(CustomizationType::EmbeddingTuning, base_model, &PAIRS.iter().map(line).collect::<String>())
    }

    fn labels(base_model: &str) -> Self {
        let line = |row: &[&str; 2]| format!("{{\"text\": \"{}\", \"label\": \"{}\"}}\n", row[0], row[1]);
        Self::new(CustomizationType::ClassifierTuning, base_model, &LABELS.iter().map(line).collect::<String>())
    }

    fn refused(&self) -> (Option<usize>, String) {
        let result = self.run(&options()).0;
        assert!(!self.job.output_dir.exists(), "something was written");
        match result {
            Err(Error::TrainingData { line, reason, .. }) => (line, reason),
            other => panic!("{other:?}"),
        }
    }
}

const PAIRS: [[&str; 2]; 5] =
    [["the storm", "wind"], ["a boat", "the ship"], ["the light", "a lamp"], ["maps", "the coast"], ["bread", "a dog"]];
const LABELS: [[&str; 2]; 6] = [
    ["the storm", "loud"],
    ["wind and rain", "loud"],
    ["a calm day", "still"],
    ["the sea is calm", "still"],
    ["a map", "thing"],
    ["a lamp", "thing"],
];

fn accuracies(events: &[JobEvent]) -> Vec<f64> {
    let accuracy = |event: &JobEvent| match event {
        JobEvent::Validation { perplexity: None, metrics: Some(Metrics::Accuracy { accuracy }), .. } => Some(*accuracy),
        _ => None,
    };
    events.iter().filter_map(accuracy).collect()
}

/// The loss of [`PAIRS`], a batch, by the vectors that are served.
fn served_loss(embedder: &Embedder) -> f64 {
    let vectors = |index: usize, purpose| {
        let request = EmbedRequest::new(purpose, PAIRS.map(|pair| pair[index]));
        embedder.embed_blocking(&request).unwrap().embeddings
    };
    let (queries, documents) = (vectors(0, EmbedPurpose::Query), vectors(1, EmbedPurpose::Document));
    let cosine = |a: &[f32], b: &[f32]| {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    let losses = queries.iter().zip(&documents).map(|(query, own)| {
        let sum: f64 = documents.iter().map(|other| (20.0 * cosine(query, other)).exp()).sum();
        sum.ln() - 20.0 * cosine(query, own)
    });
    losses.sum::<f64>() / PAIRS.len() as f64
}

#[test]
fn a_job_brings_together_what_belongs_together() {
    for name in ["bert_mean", "xlm_roberta_mean", "modernbert_embed"] {
        let mut bench = Bench::pairs(name);
        bench.job.hyper_parameters.batch_size = 5;
        bench.job.hyper_parameters.epoch_count = 40;
        bench.job.validation_data = vec![bench.job.training_data.clone()];
        let (trained, events) = bench.run(&options());
        let trained = trained.unwrap();
        assert_eq!((trained.status, trained.steps), (JobStatus::Completed, 40), "{name}");
        assert_eq!(accuracies(&events).last(), Some(&1.0), "{name}: {:?}", accuracies(&events));
        // What is served has the loss that was reported.
        let embedder = Embedder::load(&bench.job.output_dir, &load()).unwrap();
        assert_eq!(embedder.pooling(), Embedder::load(base(name), &load()).unwrap().pooling());
        let (loss, want) = (served_loss(&embedder), trained.validation_loss.unwrap());
        assert!((loss - want).abs() < 1e-3 * want.max(0.1), "{name}: {loss} {want}");
        let card = String::from_utf8(bench.out("README.md")).unwrap();
        assert!(
            card.contains("library_name: sentence-transformers")
                && card.contains("| accuracy of validation | 1.0000 |")
        );
    }
    // A base without the files of sentence-transformers gets them.
    let mut bench = Bench::pairs("bert_mean");
    bench.job.hyper_parameters.epoch_count = 1;
    let bare = bench.folder.path().join("bare");
    fs::create_dir(&bare).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(base("bert_mean").join(name), bare.join(name)).unwrap();
    }
    bench.job.base_model = bare.display().to_string();
    bench.run(&options()).0.unwrap();
    for name in ["modules.json", "1_Pooling/config.json", "tokenizer.json", "config.json"] {
        assert!(bench.job.output_dir.join(name).is_file(), "{name}");
    }
    Embedder::load(&bench.job.output_dir, &load()).unwrap();
}

/// An adapter is served beside the base, which is not changed, and named as PEFT does for a model without a head.
#[test]
fn a_job_learns_an_adapter_of_an_encoder() {
    for name in
        ["bert_cls", "xlm_roberta_mean", "mpnet_embed", "modernbert_embed", "nomic_embed", "deberta_v2_entities"]
    {
        let mut bench = Bench::pairs(name);
        let bare = tempfile::tempdir().unwrap();
        let model =
            if name == "deberta_v2_entities" { without(name, &["classifier."], bare.path()) } else { base(name) };
        bench.job.base_model = model.display().to_string();
        bench.job.method = JobMethod::Lora(JobLora { dropout: 0.1, ..JobLora::default() });
        bench.job.hyper_parameters.batch_size = 5;
        bench.job.hyper_parameters.epoch_count = 20;
        bench.job.hyper_parameters.learning_rate = 1e-2;
        bench.job.validation_data = vec![bench.job.training_data.clone()];
        let (trained, _) = bench.run(&options());
        let trained = trained.unwrap();
        let (before, after) = (trained.base_validation_loss.unwrap(), trained.validation_loss.unwrap());
        assert!(after < 0.7 * before, "{name}: {before}, {after}");
        let serve = |adapter| Embedder::load(&model, &LoadOptions { adapter, ..load() }).unwrap();
        let (adapted, bare) = (serve(Some(bench.job.output_dir.clone())), serve(None));
        for (embedder, want) in [(&adapted, after), (&bare, before)] {
            let loss = served_loss(embedder);
            assert!((loss - want).abs() < 1e-3 * want.max(0.1), "{name}: {loss}, not {want}");
        }
        assert_ne!(adapted.info().identity, bare.info().identity);
        let stored = Checkpoint::open(bench.job.output_dir.join("adapter_model.safetensors")).unwrap();
        let inner = |name: &str| {
            ["base_model.model.encoder.", "base_model.model.layers."].iter().any(|outer| name.starts_with(outer))
        };
        assert!(stored.len() > 3 && stored.iter().all(|tensor| inner(&tensor.name)), "{name}");
        let config: Value = serde_json::from_slice(&bench.out("adapter_config.json")).unwrap();
        assert_eq!(config["task_type"], "FEATURE_EXTRACTION");
        assert!(!bench.job.output_dir.join("model.safetensors").exists());
    }
    let none = Lora { targets: vec!["q_proj".into()], ..Lora::default() };
    let none = EmbeddingTrainer::load_with(base("bert_mean"), &load(), Method::Lora(none));
    assert!(matches!(none, Err(Error::UnusedTensors { .. })));
}

/// What a classifier's own labels cost it, on average.
fn loss_of(served: &SequenceClassifier) -> f64 {
    let logits = served.logits(&LABELS.map(|row| (row[0].to_string(), None))).unwrap();
    let losses = logits.iter().zip(LABELS).map(|(logits, row)| {
        let own = served.labels().iter().position(|label| label == row[1]).unwrap();
        let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        sum.ln() - f64::from(logits[own])
    });
    losses.sum::<f64>() / LABELS.len() as f64
}

#[test]
fn a_job_learns_labels_with_a_new_head() {
    for (name, class) in [
        ("bert_mean", "BertForSequenceClassification"),
        ("bert_labels", "BertForSequenceClassification"),
        ("xlm_roberta_mean", "XLMRobertaForSequenceClassification"),
        ("deberta_v2_nli", "DebertaV2ForSequenceClassification"),
        ("deberta_v2_conv", "DebertaV2ForSequenceClassification"),
    ] {
        let mut bench = Bench::labels(name);
        bench.job.hyper_parameters.epoch_count = 40;
        bench.job.validation_data = vec![bench.job.training_data.clone()];
        let (trained, events) = bench.run(&options());
        let trained = trained.unwrap();
        assert_eq!(accuracies(&events).last(), Some(&1.0), "{name}: {:?}", accuracies(&events));
        let served = SequenceClassifier::load(&bench.job.output_dir, &load()).unwrap();
        assert_eq!(served.labels(), ["loud", "still", "thing"], "{name}");
        let (loss, want) = (loss_of(&served), trained.validation_loss.unwrap());
        assert!((loss - want).abs() < 1e-3 * want.max(0.1), "{name}: {loss} {want}");
        let config: Value = serde_json::from_slice(&bench.out("config.json")).unwrap();
        assert_eq!(config["architectures"], serde_json::json!([class]));
        assert_eq!((&config["id2label"]["1"], &config["label2id"]["thing"]), (&"still".into(), &2.into()));
        let rows = String::from_utf8(bench.out("validation_metrics.csv")).unwrap();
        assert!(rows.starts_with("step_number,epoch_number,validation_loss,accuracy\n"));
    }
}

/// A new head is trained whole beside an adapter, and comes with it; so does a pooler that the base has not.
#[test]
fn a_job_learns_labels_with_an_adapter() {
    for (name, is_bare) in [
        ("bert_mean", false),
        ("bert_mean", true),
        ("bert_labels", false),
        ("xlm_roberta_mean", false),
        ("deberta_v2_conv", false),
        ("deberta_v2_nli", true),
    ] {
        let mut bench = Bench::labels(name);
        let (mut model, bare) = (base(name), tempfile::tempdir().unwrap());
        if is_bare {
            model = without(name, &["pooler."], bare.path());
            bench.job.base_model = model.display().to_string();
        }
        bench.job.method = JobMethod::Lora(JobLora { dropout: 0.1, ..JobLora::default() });
        bench.job.hyper_parameters.epoch_count = 40;
        bench.job.hyper_parameters.learning_rate = 1e-2;
        bench.job.validation_data = vec![bench.job.training_data.clone()];
        let (trained, events) = bench.run(&options());
        let trained = trained.unwrap();
        assert_eq!(accuracies(&events).last(), Some(&1.0), "{name}: {:?}", accuracies(&events));
        let with = LoadOptions { adapter: Some(bench.job.output_dir.clone()), ..load() };
        let served = SequenceClassifier::load(&model, &with).unwrap();
        assert_eq!(served.labels(), ["loud", "still", "thing"], "{name}");
        let (loss, want) = (loss_of(&served), trained.validation_loss.unwrap());
        assert!((loss - want).abs() < 1e-3 * want.max(0.1), "{name}: {loss} {want}");
        let stored = Checkpoint::open(bench.job.output_dir.join("adapter_model.safetensors")).unwrap();
        let has = |part: &str| stored.iter().any(|tensor| tensor.name.contains(part));
        assert!(has("base_model.model.classifier.") && has(".lora_A.weight"), "{name}");
        assert_eq!(has("pooler.dense.weight"), is_bare, "{name}");
        let config: Value = serde_json::from_slice(&bench.out("adapter_config.json")).unwrap();
        let whole = if is_bare { vec!["classifier", "pooler"] } else { vec!["classifier"] };
        assert_eq!((&config["task_type"], &config["modules_to_save"]), (&"SEQ_CLS".into(), &whole.into()), "{name}");
    }
}

#[test]
fn a_stopped_job_goes_on_as_if_it_had_not_been() {
    let adapter = || {
        let mut bench = Bench::pairs("bert_mean");
        bench.job.method = JobMethod::Lora(JobLora { dropout: 0.2, ..JobLora::default() });
        bench
    };
    let classifier = || {
        let mut bench = Bench::labels("bert_mean");
        bench.job.method = JobMethod::default();
        bench
    };
    for bench in [adapter, classifier, || Bench::pairs("bert_mean"), || Bench::labels("bert_mean")] {
        let (whole, broken) = (bench(), bench());
        whole.run(&options()).0.unwrap();
        let mut options = options();
        let stop = options.stop.clone();
        let stopped = broken.job.run(&options, |event| {
            if matches!(event, JobEvent::Step { step: 5, .. }) {
                stop.stop();
            }
        });
        assert_eq!(stopped.unwrap().status, JobStatus::Stopped);
        (options.stop, options.resume) = (Stop::default(), true);
        broken.run(&options).0.unwrap();
        let weights =
            if whole.job.method == JobMethod::Full { "model.safetensors" } else { "adapter_model.safetensors" };
        for name in [weights, "step_wise_training_metrics.csv"] {
            assert_eq!(broken.out(name), whole.out(name), "{name}");
        }
    }
}

#[test]
fn wrong_data_are_named_by_line_and_nothing_is_written() {
    let (pairs, labels) = (CustomizationType::EmbeddingTuning, CustomizationType::ClassifierTuning);
    let good = "{\"query\": \"a\", \"positive\": \"b\", \"text\": \"a\", \"label\": \"c\"}\n";
    for (kind, line, reason) in [
        (pairs, "{\"query\": \"a\"}", "should have anchor (or query) and positive"),
        (pairs, "{\"query\": \"a\", \"positive\": \" \"}", "positive is empty"),
        (pairs, "{\"query\": \"a\", \"positive\": \"b\", \"negative\": 1}", "negative is no text"),
        (labels, "{\"text\": \"a\"}", "should have text and label"),
        (labels, "{\"label\": \"a\", \"text\": {}}", "text is no text"),
        (labels, "{", "no JSON object"),
    ] {
        let (line, got) = Bench::new(kind, "bert_mean", &format!("{good}\n{line}\n")).refused();
        assert!(line == Some(3) && got.contains(reason), "{line:?} {got}, not {reason}");
    }
    assert_eq!(Bench::new(labels, "bert_mean", good).refused(), (None, "all lines have the same label".into()));
    // A label that only the validation file has.
    let mut bench = Bench::labels("bert_mean");
    let other = bench.folder.path().join("valid.jsonl");
    fs::write(&other, "{\"text\": \"a\", \"label\": \"new\"}\n").unwrap();
    bench.job.validation_data = vec![other];
    let (line, reason) = bench.refused();
    assert!(line == Some(1) && reason.contains("label is new, but should be one of loud, still, thing"), "{reason}");
    // Nothing that an anchor could be told from; encoders that are not trained.
    let mut bench = Bench::pairs("bert_mean");
    bench.job.hyper_parameters.batch_size = 1;
    assert!(matches!(bench.run(&options()).0, Err(Error::Job { what, .. }) if what == "batchSize"));
    for (bench, is_data) in [
        (Bench::labels("mpnet_embed"), false),
        (Bench::pairs("bert_max"), true),
        (Bench::labels("modernbert_embed"), false),
    ] {
        match bench.run(&options()).0 {
            Err(Error::UnsupportedArchitecture { .. }) => assert!(!is_data),
            Err(Error::ConfigValue { .. }) => assert!(is_data),
            other => panic!("{other:?}"),
        }
    }
    let trainer = EmbeddingTrainer::load(base("bert_mean"), &load()).unwrap();
    assert!(matches!(trainer.loss(&[], 2, 20.0), Err(Error::NoTokens)));
}

#[test]
fn too_long_texts_are_refused_cut_or_left_out() {
    use bedrock_models::tune::TooLong;
    let long = "the storm ".repeat(60);
    let lines = format!(
        "{{\"query\": \"a\", \"positive\": \"b\"}}\n{{\"query\": \"{long}\", \"positive\": \"b\"}}\n{{\"query\": \"c\", \"positive\": \"d\"}}\n"
    );
    let mut bench = Bench::new(CustomizationType::EmbeddingTuning, "bert_mean", &lines);
    bench.job.too_long = TooLong::Error;
    let (line, reason) = bench.refused();
    assert!(line == Some(2) && reason.contains("tokens more than maxSequenceLength"), "{line:?} {reason}");
    for (too_long, counts) in [(TooLong::Truncate, (3, 1, 0)), (TooLong::Skip, (2, 0, 1))] {
        bench.job.too_long = too_long;
        let (trained, events) = bench.run(&options());
        trained.unwrap();
        let JobEvent::Started { items, truncated, skipped, max_sequence_length, .. } = events[0] else { panic!() };
        assert_eq!((items, truncated, skipped), counts);
        assert_eq!(max_sequence_length, 24);
    }
}
