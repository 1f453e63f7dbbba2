//! What a job learns, item by item, whatever it is.

use std::ops::Range;
use std::path::Path;

use super::checkpoint::Fingerprint;
use super::data::DataSet;
use super::event::Stop;
use super::learner::Learner;
use super::metrics::{Measure, Metrics};
use super::optimizer::AdamW;
use super::trainer::Step;
use crate::error::Error;

/// A model that is trained, with its data. Items are known by their numbers.
pub(super) trait Task {
    fn learner(&self) -> &Learner;

    fn learner_mut(&mut self) -> &mut Learner;

    /// Tokens of items that are learnt from.
    fn tokens(&self, items: &[usize]) -> u64;

    /// Computes what has to be known before the first step and does not change; `false` if it was stopped. The folder is the job's.
    fn prepare(&mut self, _folder: &Path, _job: &Fingerprint, _stop: &Stop) -> Result<bool, Error> {
        Ok(true)
    }

    /// What [`Task::prepare`] was for, if it was for anything: pairs.
    fn referenced(&self) -> Option<usize> {
        None
    }

    /// A step of what is learnt from the items, and what was measured before it.
    fn step(&mut self, items: &[usize], settings: &AdamW) -> Result<(Step, Option<Metrics>), Error>;

    /// Items of the validation files that are measured at once.
    fn measured_at_once(&self) -> usize {
        16
    }

    /// Measures items of the validation files, and says how much they weigh.
    fn validate(&self, items: Range<usize>) -> Result<(Measure, usize), Error>;

    /// Writes what was learnt into a folder.
    fn save(&self, folder: &Path) -> Result<(), Error>;
}

/// A task, and what was read for it.
pub(super) struct Ready {
    pub(super) task: Box<dyn Task>,
    /// Of the training file; instead of items, how many there are.
    pub(super) data: Facts,
    /// Hashes of the validation files, and their items.
    pub(super) validation_data: Vec<String>,
    pub(super) validation: usize,
    /// The most tokens of an item.
    pub(super) limit: usize,
}

/// What is known of a file that was read.
pub(super) struct Facts {
    pub(super) items: usize,
    pub(super) tokens: u64,
    pub(super) truncated: usize,
    pub(super) skipped: usize,
    pub(super) sha256: String,
}

impl Ready {
    /// Puts the data into the task that `task` makes of the items of the training file and of the validation files.
    pub(super) fn new<T>(
        data: DataSet<T>,
        validation: Vec<DataSet<T>>,
        limit: usize,
        task: impl FnOnce(Vec<T>, Vec<T>) -> Box<dyn Task>,
    ) -> Self {
        let validation_data = validation.iter().map(|data| data.sha256.clone()).collect();
        let validation: Vec<T> = validation.into_iter().flat_map(|data| data.items).collect();
        let DataSet { items, tokens, truncated, skipped, sha256 } = data;
        let facts = Facts { items: items.len(), tokens, truncated, skipped, sha256 };
        let count = validation.len();
        Self { task: task(items, validation), data: facts, validation_data, validation: count, limit }
    }
}
