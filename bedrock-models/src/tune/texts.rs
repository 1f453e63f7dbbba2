//! Text, and answers to it, as what a job learns: completions, conversations, documents.

use std::ops::Range;
use std::path::Path;

use super::learner::Learner;
use super::loss::Sequence;
use super::metrics::{Measure, Metrics};
use super::optimizer::AdamW;
use super::task::Task;
use super::trainer::{Step, Trainer};
use crate::error::Error;

/// Items are sequences that are learnt together.
pub(super) struct Texts {
    pub(super) trainer: Trainer,
    pub(super) items: Vec<Vec<Sequence>>,
    pub(super) validation: Vec<Vec<Sequence>>,
}

impl Task for Texts {
    fn learner(&self) -> &Learner {
        self.trainer.learner()
    }

    fn learner_mut(&mut self) -> &mut Learner {
        self.trainer.learner_mut()
    }

    fn tokens(&self, items: &[usize]) -> u64 {
        tokens(&self.items, items)
    }

    fn step(&mut self, items: &[usize], settings: &AdamW) -> Result<(Step, Option<Metrics>), Error> {
        let batch: Vec<Sequence> = items.iter().flat_map(|item| self.items[*item].iter().cloned()).collect();
        Ok((self.trainer.step(&batch, settings)?, None))
    }

    fn validate(&self, items: Range<usize>) -> Result<(Measure, usize), Error> {
        let batch: Vec<Sequence> = self.validation[items].iter().flatten().cloned().collect();
        let loss = self.trainer.loss(&batch)?;
        Ok((Measure { loss, metrics: None }, batch.iter().map(Sequence::counted).sum()))
    }

    fn save(&self, folder: &Path) -> Result<(), Error> {
        self.trainer.save(folder)
    }
}

/// Tokens of some of the items.
pub(super) fn tokens(all: &[Vec<Sequence>], items: &[usize]) -> u64 {
    items.iter().flat_map(|item| &all[*item]).map(|sequence| sequence.tokens().len() as u64).sum()
}
