//! Losses over steps of AdamW against PyTorch and PEFT: see `fixtures/training/SOURCE.md`. And laws of training.

use std::fs;
use std::path::{Path, PathBuf};

use bedrock_models::tune::{AdamW, Lora, Method, Precision, Sequence, Trainer};
use bedrock_models::{Error, LanguageModel, LoadOptions};
use serde::Deserialize;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn options() -> LoadOptions {
    LoadOptions { threads: 2, ..LoadOptions::default() }
}

#[derive(Deserialize)]
struct Expected {
    case: String,
    settings: Settings,
    sequences: Vec<Labelled>,
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
struct Labelled {
    input_ids: Vec<u32>,
    labels: Vec<i64>,
}

#[derive(Deserialize)]
struct Figures {
    losses: Vec<f64>,
    gradient_norm: f64,
}

impl Expected {
    fn base(&self) -> PathBuf {
        fixtures().join("conformance").join(&self.case)
    }

    fn batch(&self) -> Vec<Sequence> {
        self.sequences.iter().map(|row| Sequence::labelled(row.input_ids.clone(), &row.labels)).collect()
    }

    fn settings(&self) -> AdamW {
        let Settings { lr, weight_decay, betas, eps } = self.settings;
        AdamW { learning_rate: lr, weight_decay, betas, eps, ..AdamW::default() }
    }
}

fn cases() -> Vec<(PathBuf, Expected)> {
    let folders = fs::read_dir(fixtures().join("training")).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = folders.filter(|folder| folder.is_dir()).collect();
    folders.sort();
    let read = |folder: &PathBuf| serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
    folders.into_iter().map(|folder| (folder.clone(), read(&folder))).collect()
}

fn case(name: &str) -> (PathBuf, Expected) {
    cases().into_iter().find(|(_, expected)| expected.case == name).unwrap()
}

fn follows(what: &str, mut trainer: Trainer, expected: &Expected, figures: &Figures) {
    let (batch, settings) = (expected.batch(), expected.settings());
    let (last, losses) = figures.losses.split_last().unwrap();
    let near = |got: f64, want: f64, bound: f64| {
        assert!((got - want).abs() <= bound * want.abs(), "{} {what}: {got}, not {want}", expected.case);
    };
    for (index, want) in losses.iter().enumerate() {
        let step = trainer.step(&batch, &settings).unwrap();
        near(step.loss, *want, if index == 0 { 1e-5 } else { 5e-4 });
        if index == 0 {
            near(step.gradient_norm, figures.gradient_norm, 1e-4);
        }
    }
    near(trainer.loss(&batch).unwrap(), *last, 5e-4);
    assert_eq!(trainer.steps(), losses.len() as u64);
}

#[test]
fn every_family_trains_as_in_pytorch() {
    // Ten families, and three adapters with more than factors.
    assert_eq!(cases().len(), 13);
    for (folder, expected) in cases() {
        let load = |method| Trainer::load(expected.base(), &options(), method).unwrap();
        follows("all weights", load(Method::Full), &expected, &expected.full);
        follows("adapter", load(Method::Adapter(folder)), &expected, &expected.lora);
    }
}

#[test]
fn every_family_answers_with_an_adapter() {
    for (folder, expected) in cases() {
        let with = LoadOptions { adapter: Some(folder), ..options() };
        let model = LanguageModel::load(expected.base(), &with).unwrap();
        let got = model.logits(&expected.sequences[0].input_ids).unwrap().pop().unwrap();
        let largest = expected.logits.iter().fold(0f32, |a, b| a.max(b.abs()));
        assert_eq!(got.len(), expected.logits.len());
        for (got, want) in got.iter().zip(&expected.logits) {
            assert!((got - want).abs() <= 1e-4 * largest, "{}: {got}, not {want}", expected.case);
        }
    }
}

#[test]
fn what_is_saved_is_what_was_trained() {
    let (_, expected) = case("phi3");
    let targets = ["qkv_proj", "down_proj"].map(String::from).to_vec();
    let lora = Lora { rank: 4, alpha: 6.0, rank_stabilised: true, targets, dropout: 0.0, seed: 3 };
    let load = || Trainer::load(expected.base(), &options(), Method::Lora(lora.clone())).unwrap();
    let (mut trainer, mut again) = (load(), load());
    let base = LanguageModel::load(expected.base(), &options()).unwrap();
    let (batch, settings, prompt) = (expected.batch(), expected.settings(), &expected.sequences[0].input_ids);
    // A new adapter changes nothing yet.
    let far = |a: &[Vec<f32>], b: &[Vec<f32>]| {
        a.concat().iter().zip(b.concat()).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max)
    };
    assert!(far(&trainer.model().logits(prompt).unwrap(), &base.logits(prompt).unwrap()) < 1e-5);
    for _ in 0..3 {
        let step = trainer.step(&batch, &settings).unwrap();
        // The same seed, the same bits.
        assert_eq!(step, again.step(&batch, &settings).unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    trainer.save_adapter(folder.path()).unwrap();
    let with = LoadOptions { adapter: Some(folder.path().to_path_buf()), ..options() };
    let served = LanguageModel::load(expected.base(), &with).unwrap();
    let (trained, served) = (trainer.model().logits(prompt).unwrap(), served.logits(prompt).unwrap());
    assert!(far(&trained, &served) < 1e-4);
    assert!(far(&trained, &base.logits(prompt).unwrap()) > 1e-2);
    let kept: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
}

#[test]
fn gradients_are_slopes() {
    let (_, expected) = case("llama_llama3");
    let batch = expected.batch();
    // A step without momentum or decay moves each value by the learning rate against the sign of its gradient; so the loss falls by the
    // learning rate times the sum of their absolute values, which is at least their norm.
    let mut trainer = Trainer::load(expected.base(), &options(), Method::Full).unwrap();
    let settings = AdamW { learning_rate: 1e-5, weight_decay: 0.0, ..AdamW::default() };
    let step = trainer.step(&batch, &settings).unwrap();
    let fall = step.loss - trainer.loss(&batch).unwrap();
    assert!(fall >= 0.9 * 1e-5 * step.gradient_norm, "{fall} {}", step.gradient_norm);
}

#[test]
fn wrong_input_is_refused_and_changes_nothing() {
    let (folder, expected) = case("llama_llama3");
    let mut trainer = Trainer::load(expected.base(), &options(), Method::Full).unwrap();
    let settings = AdamW::default();
    let loss = trainer.loss(&expected.batch()).unwrap();
    let refused = |trainer: &mut Trainer, sequence| trainer.step(&[sequence], &settings).unwrap_err();
    assert!(matches!(refused(&mut trainer, Sequence::text(vec![])), Error::NoTokens));
    assert!(matches!(refused(&mut trainer, Sequence::text(vec![1])), Error::NoTokens));
    assert!(matches!(refused(&mut trainer, Sequence::completion(&[1, 2, 3], &[])), Error::NoTokens));
    assert!(matches!(refused(&mut trainer, Sequence::text(vec![1, u32::MAX])), Error::TokenOutOfRange { .. }));
    let label = Sequence::labelled(vec![1, 2], &[1, 1 << 31]);
    assert!(matches!(refused(&mut trainer, label), Error::TokenOutOfRange { .. }));
    assert_eq!((trainer.loss(&expected.batch()).unwrap(), trainer.steps()), (loss, 0));
    assert!(matches!(trainer.save_adapter(tempfile::tempdir().unwrap().path()), Err(Error::InvalidParameter { .. })));
    let nowhere = Lora { targets: vec!["nothing".into()], ..Lora::default() };
    let error = Trainer::load(expected.base(), &options(), Method::Lora(nowhere)).unwrap_err();
    assert!(matches!(error, Error::UnusedTensors { .. }));
    let zero = Method::Lora(Lora { rank: 0, ..Lora::default() });
    assert!(matches!(Trainer::load(expected.base(), &options(), zero), Err(Error::InvalidParameter { .. })));
    // An adapter of another model.
    let (_, other) = case("gpt2");
    let with = LoadOptions { adapter: Some(folder), ..options() };
    assert!(LanguageModel::load(other.base(), &with).is_err());
}

#[test]
fn a_damaged_adapter_is_refused() {
    let (folder, expected) = case("qwen2");
    let copy = tempfile::tempdir().unwrap();
    let weights = "adapter_model.safetensors";
    let load = |config: &str| {
        fs::write(copy.path().join("adapter_config.json"), config).unwrap();
        LanguageModel::load(expected.base(), &LoadOptions { adapter: Some(copy.path().into()), ..options() })
    };
    fs::copy(folder.join(weights), copy.path().join(weights)).unwrap();
    load(r#"{"peft_type": "LORA", "r": 3, "lora_alpha": 5}"#).unwrap();
    assert!(matches!(load("{}"), Err(Error::Config { .. })));
    for config in [
        r#"{"peft_type": "IA3", "r": 3, "lora_alpha": 5}"#,
        r#"{"peft_type": "LORA", "r": 0, "lora_alpha": 5}"#,
        r#"{"peft_type": "LORA", "r": 3, "lora_alpha": 5, "use_dora": true}"#,
    ] {
        assert!(matches!(load(config), Err(Error::ConfigValue { .. })), "{config}");
    }
    fs::write(copy.path().join(weights), &fs::read(folder.join(weights)).unwrap()[..500]).unwrap();
    assert!(matches!(load(r#"{"peft_type": "LORA", "r": 3, "lora_alpha": 5}"#), Err(Error::Safetensors { .. })));
}

#[test]
fn activations_computed_again_give_the_same_bits() {
    for (folder, expected) in cases() {
        for method in [Method::Full, Method::Adapter(folder)] {
            let load = || Trainer::load(expected.base(), &options(), method.clone()).unwrap();
            let (mut kept, mut again) = (load(), load());
            again.set_checkpointing(true);
            let (batch, settings) = (expected.batch(), expected.settings());
            for _ in 0..3 {
                let (kept, again) = (kept.step(&batch, &settings).unwrap(), again.step(&batch, &settings).unwrap());
                assert_eq!(kept, again, "{} {method:?}", expected.case);
            }
            let values = |trainer: &Trainer| trainer.parameters().flat_map(|(_, _, values)| values).collect::<Vec<_>>();
            assert_eq!(values(&kept), values(&again), "{} {method:?}", expected.case);
        }
    }
}

#[test]
fn steps_do_not_depend_on_the_number_of_threads() {
    let (_, expected) = case("llama_llama3");
    let (batch, settings) = (expected.batch(), expected.settings());
    let run = |threads| {
        let options = LoadOptions { threads, ..LoadOptions::default() };
        let mut trainer = Trainer::load(expected.base(), &options, Method::Full).unwrap();
        (0..3).map(|_| trainer.step(&batch, &settings).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn dropout_is_drawn_anew_each_step_and_the_same_by_the_seed() {
    let (_, expected) = case("llama_llama3");
    let (batch, settings) = (expected.batch(), expected.settings());
    let still = AdamW { learning_rate: 0.0, ..settings };
    let lora = |dropout| Method::Lora(Lora { dropout, ..Lora::default() });
    let run = |dropout, again| {
        let mut trainer = Trainer::load(expected.base(), &options(), lora(dropout)).unwrap();
        trainer.set_checkpointing(again);
        // From the second step on there is something to drop.
        trainer.step(&batch, &settings).unwrap();
        let steps: Vec<_> = (0..3).map(|_| trainer.step(&batch, &still).unwrap()).collect();
        (steps, trainer.loss(&batch).unwrap())
    };
    let (plain, dropped) = (run(0.0, false), run(0.4, false));
    assert!(plain.0.windows(2).all(|steps| steps[0] == steps[1]));
    assert!(dropped.0.windows(2).all(|steps| steps[0].loss != steps[1].loss));
    assert_eq!(dropped, run(0.4, false));
    assert_eq!(dropped, run(0.4, true));
    // A loss without a step drops nothing.
    assert_ne!(dropped.0[0].loss, dropped.1);
    assert!(Trainer::load(expected.base(), &options(), lora(1.0)).is_err());
}

#[test]
fn gradients_are_cut_to_a_length() {
    let (_, expected) = case("llama_llama3");
    let (batch, settings) = (expected.batch(), expected.settings());
    let load = || Trainer::load(expected.base(), &options(), Method::Full).unwrap();
    // Adam does not see the scale of gradients, but for eps.
    let settings = AdamW { eps: 1.0, ..settings };
    let moved = |max_gradient_norm| {
        let mut trainer = load();
        let before: Vec<f32> = trainer.parameters().flat_map(|(_, _, values)| values).collect();
        let norm = trainer.step(&batch, &AdamW { max_gradient_norm, ..settings }).unwrap().gradient_norm;
        let after = trainer.parameters().flat_map(|(_, _, values)| values);
        (norm, after.zip(&before).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>())
    };
    let (norm, free) = moved(None);
    assert_eq!(moved(Some(norm * 2.0)), (norm, free));
    let (same, cut) = moved(Some(norm / 10.0));
    assert!(same == norm && cut < 0.2 * free && cut > 0.05 * free, "{cut} {free}");
}

/// The modules of the file are those of the Hugging Face checkpoint, also where their rows lie in another order.
#[test]
fn an_adapter_is_trained_beside_a_quantised_file() {
    let file = fixtures().join("conformance/gguf/scaled.gguf");
    let tokens: Vec<u32> = vec![1, 5, 9, 2, 40, 7, 5, 9, 2];
    let logits = |adapter: Option<PathBuf>| {
        LanguageModel::load(&file, &LoadOptions { adapter, ..options() }).unwrap().logits(&tokens).unwrap()
    };
    let far = |a: &[Vec<f32>], b: &[Vec<f32>]| {
        a.concat().iter().zip(b.concat()).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max)
    };
    let lora = Lora { rank: 4, ..Lora::default() };
    let mut trainer = Trainer::load(&file, &options(), Method::Lora(lora)).unwrap();
    let (plain, new) = (logits(None), trainer.model().logits(&tokens).unwrap());
    let largest = plain.iter().flatten().fold(0f32, |a, b| a.max(b.abs()));
    assert!(far(&plain, &new) <= 1e-4 * largest, "{} of {largest}", far(&plain, &new));
    let settings = AdamW { learning_rate: 1e-2, ..AdamW::default() };
    let text = [Sequence::text(tokens.clone())];
    let losses: Vec<f64> = (0..20).map(|_| trainer.step(&text, &settings).unwrap().loss).collect();
    assert!(losses[19] < 0.7 * losses[0], "{losses:?}");
    let folder = tempfile::tempdir().unwrap();
    trainer.save_adapter(folder.path()).unwrap();
    let served = logits(Some(folder.path().to_path_buf()));
    assert!(far(&served, &trainer.model().logits(&tokens).unwrap()) <= 1e-4 * largest);
    assert!(Trainer::load(&file, &options(), Method::Full).is_err());
}

#[test]
fn moments_in_eight_bits_train_nearly_as_well() {
    let (_, expected) = case("llama_llama3");
    let (batch, settings) = (expected.batch(), AdamW { learning_rate: 2e-3, ..expected.settings() });
    let run = |compact| {
        let mut trainer = Trainer::load(expected.base(), &options(), Method::Full).unwrap();
        trainer.set_compact_moments(compact);
        for _ in 0..30 {
            trainer.step(&batch, &settings).unwrap();
        }
        trainer.loss(&batch).unwrap()
    };
    let start = Trainer::load(expected.base(), &options(), Method::Full).unwrap().loss(&batch).unwrap();
    let (exact, compact) = (run(false), run(true));
    assert!(exact < 0.8 * start && (compact - exact).abs() < 0.1 * (start - exact), "{start} {exact} {compact}");
    assert_eq!(compact, run(true));
}

/// Whether this processor has products of rounded numbers. Where it has none, they are refused and nothing changes.
fn rounds(trainer: &mut Trainer) -> bool {
    match trainer.set_precision(Precision::Bf16) {
        Ok(()) => true,
        Err(Error::InvalidParameter { name: "precision", .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn products_of_rounded_numbers_train_nearly_as_well() {
    for (folder, expected) in cases() {
        let (batch, settings) = (expected.batch(), AdamW { learning_rate: 1e-3, ..expected.settings() });
        for method in [Method::Full, Method::Adapter(folder)] {
            let run = |rounded: bool, threads, checkpointing| {
                let options = LoadOptions { threads, ..options() };
                let mut trainer = Trainer::load(expected.base(), &options, method.clone()).unwrap();
                trainer.set_checkpointing(checkpointing);
                let rounds = rounded && rounds(&mut trainer);
                let mut losses: Vec<f64> = (0..5).map(|_| trainer.step(&batch, &settings).unwrap().loss).collect();
                losses.push(trainer.loss(&batch).unwrap());
                (rounds, losses)
            };
            let ((_, exact), (rounds, losses)) = (run(false, 2, false), run(true, 2, false));
            let fall = exact[0] - exact[5];
            let off = losses.iter().zip(&exact).map(|(loss, exact)| (loss - exact).abs()).fold(0.0, f64::max);
            assert!(off < 0.1 * fall && (off > 0.0) == rounds, "{}: {off} of {fall}", expected.case);
            // As exact products: the same bits on any number of threads, and computed again.
            assert_eq!((rounds, losses), run(true, 3, true), "{}", expected.case);
        }
    }
}
