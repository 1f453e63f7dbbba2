//! What a job tells while it runs, and how it is stopped.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

use super::metrics::Metrics;

/// How far a job is, by the service's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobStatus {
    /// It runs.
    InProgress,
    /// It was stopped, but not yet ended.
    Stopping,
    /// It ended before its last step, and can go on from there.
    Stopped,
    /// Its result is there.
    Completed,
    /// It cannot go on.
    Failed,
}

/// What happens while a job runs, in order. Losses are means over all that is to be learnt, natural logarithm, or over pairs that are preferred;
/// steps and epochs are counted from 1 on.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum JobEvent {
    /// A teacher answered one prompt more.
    Answered {
        /// Prompts that have its answer now.
        answered: usize,
        /// Those that are to have one.
        items: usize,
    },
    /// Everything was read and checked.
    Started {
        /// Items to learn from: examples, or sequences full of documents.
        items: usize,
        /// Tokens in them.
        tokens: u64,
        /// Examples that were cut to the longest length allowed.
        truncated: usize,
        /// Examples that were left out.
        skipped: usize,
        /// Items of the validation files.
        validation_items: usize,
        /// The most tokens of an item.
        max_sequence_length: usize,
        /// Numbers that are trained.
        parameters: u64,
        /// Steps of the whole job.
        steps: u64,
    },
    /// The job goes on from a checkpoint.
    Resumed {
        /// Steps made before.
        step: u64,
    },
    /// What the base says of all preferences is known: what they are measured against.
    Referenced {
        /// Pairs, of the training file and the validation files.
        items: usize,
    },
    /// A step was made.
    Step {
        /// Its number.
        step: u64,
        /// Its epoch.
        epoch: u64,
        /// Mean loss before the step.
        loss: f64,
        /// Length of the gradients of all parameters as one vector, before they were scaled.
        gradient_norm: f64,
        /// Step size.
        learning_rate: f64,
        /// Tokens of its items.
        tokens: u64,
        /// Seconds until the end at the present speed.
        eta_s: f64,
        /// What else was measured before the step.
        #[serde(flatten)]
        metrics: Option<Metrics>,
    },
    /// The loss of the validation files was computed.
    Validation {
        /// Steps made before.
        step: u64,
        /// Epochs made before: 0 is the base model.
        epoch: u64,
        /// Mean loss.
        loss: f64,
        /// Its exponential, where text is learnt.
        #[serde(skip_serializing_if = "Option::is_none")]
        perplexity: Option<f64>,
        /// What else was measured.
        #[serde(flatten)]
        metrics: Option<Metrics>,
    },
    /// What the job needs to go on from here was written.
    Checkpoint {
        /// Steps made before.
        step: u64,
        /// The file.
        path: PathBuf,
    },
    /// The job was stopped, and will end.
    Stopping,
    /// The job ended because it was stopped.
    Stopped(Trained),
    /// The job cannot go on.
    Failed {
        /// Why, with causes.
        message: String,
    },
    /// The result is there.
    Completed(Trained),
}

/// What came out of a job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trained {
    /// Completed or stopped.
    pub status: JobStatus,
    /// Where the result is.
    pub output_dir: PathBuf,
    /// Mean loss of the steps of the last epoch; none if there was no step.
    pub train_loss: Option<f64>,
    /// Loss of the validation files at the last, if there are any.
    pub validation_loss: Option<f64>,
    /// Loss of the validation files before the first step.
    pub base_validation_loss: Option<f64>,
    /// Steps made.
    pub steps: u64,
    /// Tokens that were learnt from, a second of steps.
    pub tokens_s: f64,
}

/// Stops a job from another thread. Clones stop the same jobs.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Lets the job end after its present step, with a checkpoint from which it can go on.
    pub fn stop(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Relaxed)
    }
}
