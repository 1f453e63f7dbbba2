//! What a job learns, item by item, whatever it is.

use std::ops::Range;
use std::path::Path;

use super::checkpoint::Fingerprint;
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

    /// Measures items of the validation files, and says how much they weigh.
    fn validate(&self, items: Range<usize>) -> Result<(Measure, usize), Error>;

    /// Writes what was learnt into a folder.
    fn save(&self, folder: &Path) -> Result<(), Error>;
}
