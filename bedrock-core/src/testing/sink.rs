//! A sink that remembers.

use std::sync::{Mutex, PoisonError};

use crate::error::Error;
use crate::record::{InvocationSink, ModelInvocationLog};

/// Keeps records in memory.
#[derive(Debug, Default)]
pub struct RecordingSink {
    bodies: bool,
    records: Mutex<Vec<ModelInvocationLog>>,
}

impl RecordingSink {
    /// A sink that asks for bodies.
    pub fn with_bodies() -> Self {
        Self { bodies: true, ..Self::default() }
    }

    /// The records so far, in the order in which the calls ended.
    pub fn records(&self) -> Vec<ModelInvocationLog> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl InvocationSink for RecordingSink {
    fn record(&self, record: ModelInvocationLog) -> Result<(), Error> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
        Ok(())
    }

    fn wants_bodies(&self) -> bool {
        self.bodies
    }
}
