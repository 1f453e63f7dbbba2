//! Counters of what a guardrail judged, and of what it did.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::assess::Action;
use crate::guardrail::Judged;
use crate::policy::content::attack::{ATTACKS, AttackKind};

/// Counters that any number of judgements add to at once.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    judgements: AtomicU64,
    blocked: AtomicU64,
    masked: AtomicU64,
    reported: AtomicU64,
    attacks: [AtomicU64; ATTACKS],
    characters: AtomicU64,
    pictures: AtomicU64,
    latency_us: AtomicU64,
}

/// What a guardrail judged and did so far: [`Guardrail::metrics`](crate::Guardrail::metrics).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct GuardrailMetrics {
    /// Judgements: one for each request to `ApplyGuardrail`, for the input of a guarded call, and for its answer once that has ended,
    /// failed or been given up. Counting tokens is none.
    pub judgements: u64,
    /// Of these, those that blocked.
    pub blocked: u64,
    /// Those that masked and did not block; of streams in mode `async`, which cannot mask, those that would have.
    pub masked: u64,
    /// Those that found something and let it pass, because they were told only to report.
    pub reported: u64,
    /// Those that found a prompt attack and acted on it or reported it, by its kind.
    pub attacks: AttackCounts,
    /// Characters (Unicode code points) that were judged.
    pub characters: u64,
    /// Pictures that were judged.
    pub pictures: u64,
    /// How long all of it took, in microseconds. Of a guarded answer that is from the beginning of the call to its end, the model's own time included.
    pub latency_us: u64,
}

/// Judgements that found a prompt attack, by the kind of its worst piece.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct AttackCounts {
    /// Of [`AttackKind::Jailbreak`].
    pub jailbreak: u64,
    /// Of [`AttackKind::DirectInjection`].
    pub direct_injection: u64,
    /// Of [`AttackKind::IndirectInjection`].
    pub indirect_injection: u64,
    /// Of [`AttackKind::PromptLeakage`].
    pub prompt_leakage: u64,
}

impl Counters {
    /// Counts one judgement by the strongest thing that was done, and by the kind of attack it found.
    pub(crate) fn add(&self, strongest: Action, attack: Option<AttackKind>, judged: Judged, took: Duration) {
        let add = |counter: &AtomicU64, n: u64| counter.fetch_add(n, Ordering::Relaxed);
        add(&self.judgements, 1);
        match strongest {
            Action::Block => add(&self.blocked, 1),
            Action::Mask => add(&self.masked, 1),
            Action::Report => add(&self.reported, 1),
            Action::Ignore => 0,
        };
        if let Some(kind) = attack {
            add(&self.attacks[kind as usize], 1);
        }
        add(&self.characters, judged.characters as u64);
        add(&self.pictures, u64::from(judged.pictures));
        add(&self.latency_us, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// Judgements that end meanwhile may be in one counter and not yet in another.
    pub(crate) fn read(&self) -> GuardrailMetrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let [jailbreak, direct_injection, indirect_injection, prompt_leakage] = self.attacks.each_ref().map(read);
        GuardrailMetrics {
            attacks: AttackCounts { jailbreak, direct_injection, indirect_injection, prompt_leakage },
            judgements: read(&self.judgements),
            blocked: read(&self.blocked),
            masked: read(&self.masked),
            reported: read(&self.reported),
            characters: read(&self.characters),
            pictures: read(&self.pictures),
            latency_us: read(&self.latency_us),
        }
    }
}
