//! Preferences as what a job learns.

use std::ops::Range;
use std::path::Path;

use super::checkpoint::Fingerprint;
use super::event::Stop;
use super::learner::Learner;
use super::loss::Sequence;
use super::metrics::{Measure, Metrics};
use super::optimizer::AdamW;
use super::preference::Preference;
use super::reference;
use super::task::Task;
use super::texts::tokens;
use super::trainer::{Step, Trainer};
use crate::error::Error;

/// Pairs that are run before it is asked again whether the job was stopped.
const ASKED: usize = 8;

/// Items are the sequences with the chosen and with the rejected answer.
pub(super) struct Preferences {
    pub(super) trainer: Trainer,
    pub(super) items: Vec<Vec<Sequence>>,
    pub(super) validation: Vec<Vec<Sequence>>,
    pub(super) beta: f64,
    /// What the base says of all items, then of those of the validation files.
    pub(super) reference: Vec<[f64; 2]>,
}

impl Preferences {
    fn preference(&self, number: usize) -> Preference {
        let pair = self.pair(number);
        Preference { chosen: pair[0].clone(), rejected: pair[1].clone(), reference: self.reference[number] }
    }

    fn pair(&self, number: usize) -> &[Sequence] {
        self.items.get(number).unwrap_or_else(|| &self.validation[number - self.items.len()])
    }
}

impl Task for Preferences {
    fn learner(&self) -> &Learner {
        self.trainer.learner()
    }

    fn learner_mut(&mut self) -> &mut Learner {
        self.trainer.learner_mut()
    }

    fn tokens(&self, items: &[usize]) -> u64 {
        tokens(&self.items, items)
    }

    fn prepare(&mut self, folder: &Path, job: &Fingerprint, stop: &Stop) -> Result<bool, Error> {
        let count = self.items.len() + self.validation.len();
        self.reference = reference::read(folder, job, self.trainer.learner().sealer())?;
        if self.reference.len() > count || (self.reference.len() < count && self.trainer.steps() > 0) {
            let reason = format!("{} pairs instead of {count}, after the first step", self.reference.len());
            return Err(Error::Malformed {
                path: folder.join(super::checkpoint::FOLDER).join(reference::FILE),
                reason,
            });
        }
        // Stored ten times, however many there are.
        let every = count.div_ceil(10);
        let mut stored = self.reference.len();
        while self.reference.len() < count {
            if stop.is_stopped() {
                reference::write(folder, job, &self.reference, self.trainer.learner().sealer())?;
                return Ok(false);
            }
            let first = self.reference.len();
            let pairs = (first..count.min(first + ASKED)).flat_map(|number| self.pair(number).iter().cloned());
            let found = self.trainer.log_probabilities(&pairs.collect::<Vec<_>>())?;
            self.reference.extend(found.chunks_exact(2).map(|pair| [pair[0], pair[1]]));
            if self.reference.len() >= stored + every || self.reference.len() == count {
                reference::write(folder, job, &self.reference, self.trainer.learner().sealer())?;
                stored = self.reference.len();
            }
        }
        Ok(true)
    }

    fn referenced(&self) -> Option<usize> {
        Some(self.reference.len())
    }

    fn step(&mut self, items: &[usize], settings: &AdamW) -> Result<(Step, Option<Metrics>), Error> {
        let pairs: Vec<Preference> = items.iter().map(|item| self.preference(*item)).collect();
        let (step, metrics) = self.trainer.preference_step(&pairs, self.beta, settings)?;
        Ok((step, Some(metrics)))
    }

    fn validate(&self, items: Range<usize>) -> Result<(Measure, usize), Error> {
        let pairs: Vec<Preference> = items.map(|item| self.preference(self.items.len() + item)).collect();
        let (loss, metrics) = self.trainer.preference_loss(&pairs, self.beta)?;
        Ok((Measure { loss, metrics: Some(metrics) }, pairs.len()))
    }

    fn save(&self, folder: &Path) -> Result<(), Error> {
        self.trainer.save(folder)
    }
}
