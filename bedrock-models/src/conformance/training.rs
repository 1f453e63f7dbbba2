//! Cases of kinds `causal_lm_train` and `causal_lm_lora`: losses and gradients, adapters.

use serde::Deserialize;

use super::case::{Case, TensorRef};
use super::causal_lm::check_greedy;
use super::findings::{Findings, Stop, Tolerance};
use crate::language_model::LanguageModel;
use crate::options::LoadOptions;
#[cfg(feature = "tune")]
use crate::tune::{AdamW, Layout, Method, Sequence, Trainer, transpose};

#[derive(Deserialize)]
struct Expected {
    prompts: Vec<Prompt>,
    #[serde(default)]
    adapters: Vec<Adapter>,
    train: Option<Train>,
    #[serde(default)]
    tolerance: LogitTolerance,
}

#[derive(Deserialize)]
struct LogitTolerance {
    logits_rel_to_max_abs: f64,
}

impl Default for LogitTolerance {
    fn default() -> Self {
        Self { logits_rel_to_max_abs: 1e-4 }
    }
}

#[derive(Deserialize)]
struct Prompt {
    input_ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Adapter {
    path: String,
    prompt: usize,
    logits: TensorRef,
    greedy: Option<Greedy>,
    train: Option<Train>,
}

#[derive(Deserialize)]
struct Greedy {
    tokens: Vec<u32>,
}

/// Full-batch steps of AdamW.
#[derive(Deserialize)]
#[cfg_attr(not(feature = "tune"), allow(dead_code))]
struct Train {
    input_ids: Vec<Vec<u32>>,
    attention_mask: Vec<Vec<u8>>,
    labels: Vec<Vec<i64>>,
    optimizer: Optimizer,
    losses: Vec<f64>,
    initial_grad_norm: f64,
    #[serde(default)]
    final_params: std::collections::BTreeMap<String, TensorRef>,
    tolerance: Tolerances,
}

#[derive(Deserialize)]
#[cfg_attr(not(feature = "tune"), allow(dead_code))]
struct Optimizer {
    lr: f64,
    weight_decay: f64,
    betas: [f64; 2],
    eps: f64,
}

#[derive(Deserialize)]
#[cfg_attr(not(feature = "tune"), allow(dead_code))]
struct Tolerances {
    loss_initial_rel: f64,
    loss_rel: f64,
    grad_norm_rel: f64,
}

pub(super) fn check(case: &Case, options: &LoadOptions, findings: &mut Findings) -> Result<(), Stop> {
    let expected: Expected = case.expected()?;
    for adapter in &expected.adapters {
        // The path is a name inside the case.
        let plain = std::path::Path::new(&adapter.path).file_name().is_some_and(|name| *name == *adapter.path);
        let prompt = expected.prompts.get(adapter.prompt).filter(|_| plain);
        let Some(Prompt { input_ids: prompt }) = prompt else {
            return Err(Stop::Failed(format!("adapter {:?} or its prompt is outside the case", adapter.path).into()));
        };
        let folder = case.folder.join(&adapter.path);
        let options = LoadOptions { adapter: Some(folder.clone()), ..options.clone() };
        let model = LanguageModel::load(&case.folder, &options)?;
        let tolerance = Tolerance::Relative(expected.tolerance.logits_rel_to_max_abs);
        let (got, want) = (model.logits(prompt)?, case.rows(&adapter.logits)?);
        findings.close_rows(format!("logits with {}", adapter.path), &got, &want, tolerance);
        if let Some(greedy) = &adapter.greedy {
            let what = format!("continuation with {}", adapter.path);
            check_greedy(&model, prompt, &greedy.tokens, &what, findings)?;
        }
        if let Some(train) = &adapter.train {
            check_training(case, train, &options, Some(folder), findings)?;
        }
    }
    match &expected.train {
        Some(train) => check_training(case, train, options, None, findings),
        None => Ok(()),
    }
}

#[cfg(not(feature = "tune"))]
fn check_training(
    _: &Case,
    _: &Train,
    _: &LoadOptions,
    _: Option<std::path::PathBuf>,
    findings: &mut Findings,
) -> Result<(), Stop> {
    findings.verdict()?;
    Err(Stop::Unsupported("training, without the feature `tune`; inference agrees".into()))
}

#[cfg(feature = "tune")]
fn check_training(
    case: &Case,
    train: &Train,
    options: &LoadOptions,
    adapter: Option<std::path::PathBuf>,
    findings: &mut Findings,
) -> Result<(), Stop> {
    let what = adapter.as_ref().map_or("training".into(), |adapter| format!("training {}", adapter.display()));
    let method = adapter.map_or(Method::Full, Method::Adapter);
    let mut trainer = Trainer::load(&case.folder, options, method)?;
    let rows = train.input_ids.iter().zip(&train.attention_mask).zip(&train.labels);
    let batch: Vec<Sequence> = rows
        .map(|((ids, mask), labels)| {
            let len = mask.iter().filter(|seen| **seen == 1).count().min(ids.len());
            Sequence::labelled(ids[..len].to_vec(), &labels[..len.min(labels.len())])
        })
        .collect();
    let Optimizer { lr, weight_decay, betas, eps } = train.optimizer;
    let settings = AdamW { learning_rate: lr, weight_decay, betas, eps, ..AdamW::default() };
    let relative = |got: f64, want: f64| (got - want).abs() / want.abs();
    let mut losses = train.losses.iter().enumerate();
    for (index, want) in losses.by_ref() {
        let got = if index + 1 == train.losses.len() {
            trainer.loss(&batch)?
        } else {
            let step = trainer.step(&batch, &settings)?;
            if index == 0 {
                let error = relative(step.gradient_norm, train.initial_grad_norm);
                findings.measured(format!("{what}: gradient norm"), error, train.tolerance.grad_norm_rel);
            }
            step.loss
        };
        let limit = if index == 0 { train.tolerance.loss_initial_rel } else { train.tolerance.loss_rel };
        findings.measured(format!("{what}: loss {index} ({got}, not {want})"), relative(got, *want), limit);
    }
    let layout = Layout::of(&case.folder)?;
    for (name, reference) in &train.final_params {
        let Some((_, shape, mut got)) = trainer.parameters().find(|(own, ..)| own == name) else { continue };
        let want = case.tensor(reference)?;
        if let (true, &[rows, columns]) = (layout.is_transposed(name), shape) {
            got = transpose(&got, columns, rows);
        }
        let mean = got.iter().zip(&want).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>() / want.len() as f64;
        if got.len() != want.len() || mean.is_nan() || mean > 1e-3 {
            findings.differs(format!("{what}: {name} differs by {mean:.1e} on average"));
        }
    }
    Ok(())
}
