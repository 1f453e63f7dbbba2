//! What an engine has done and is doing, in numbers.

use std::time::Duration;

/// A snapshot of an engine. Counts are from its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineMetrics {
    /// Requests that wait.
    pub queued: usize,
    /// Requests under way, including those whose prompts are being computed and those that were set back.
    pub running: usize,
    /// Requests refused because the queue was full.
    pub rejected: u64,
    /// Requests answered to their end.
    pub finished: u64,
    /// Requests whose callers gave up.
    pub cancelled: u64,
    /// Requests that missed their deadline, waiting or running.
    pub timed_out: u64,
    /// Requests that ended with any other error.
    pub failed: u64,

    /// Passes through the model.
    pub steps: u64,
    /// Those that computed prompts.
    pub prefill_steps: u64,
    /// Tokens of prompts that were computed.
    pub prefill_tokens: u64,
    /// Tokens of prompts that were not computed, because they were remembered.
    pub cached_tokens: u64,
    /// Those that decoded.
    pub decode_steps: u64,
    /// Sequences of all decoding steps together: divided by `decode_steps`, the mean size of a batch.
    pub decode_sequences: u64,
    /// Most sequences that one decoding step had.
    pub largest_batch: usize,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Those that a constraint chose in the model's place, so that an answer ends within what it may have.
    pub closing_tokens: u64,
    /// Tokens that were guessed ahead.
    pub guessed_tokens: u64,
    /// Those that were right.
    pub accepted_tokens: u64,
    /// Most steps between two tokens of one answer: 2 is a chunk of a prompt and the token itself. Those between which it was set
    /// back do not count.
    pub longest_gap: u64,
    /// How often a running request had to give its memory to an earlier one: see
    /// [`max_tokens`](crate::GenerationRequest::max_tokens).
    pub set_back: u64,
    /// Tokens of answers that were computed again after that.
    pub replayed_tokens: u64,

    /// Pages of the cache, 64 positions of every layer each: what [`cache_bytes`](crate::EngineOptions::cache_bytes) holds.
    pub pages: usize,
    /// Pages set aside for running requests.
    pub reserved_pages: usize,
    /// Pages of remembered prompts, shared by running requests or not.
    pub remembered_pages: usize,
    /// Whole pages that requests took from remembered prompts.
    pub page_hits: u64,
    /// Remembered pages that made room for others.
    pub evicted_pages: u64,

    /// From a request to its first token.
    pub first_token: Latencies,
    /// From each token to the next of the same answer.
    pub next_token: Latencies,
}

impl EngineMetrics {
    /// Pages that are neither set aside nor remembered.
    pub fn free_pages(&self) -> usize {
        self.pages.saturating_sub(self.reserved_pages + self.remembered_pages)
    }
}

/// Durations, counted in buckets each √2 as wide as the one before, from 100 µs to 100 s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latencies {
    buckets: [u64; Latencies::BUCKETS],
    count: u64,
    total: Duration,
    longest: Duration,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: [0; Self::BUCKETS], count: 0, total: Duration::ZERO, longest: Duration::ZERO }
    }
}

impl Latencies {
    const BUCKETS: usize = 41;

    /// The upper bound of a bucket. The last has none.
    fn bound(bucket: usize) -> Duration {
        Duration::from_secs_f64(1e-4 * 2f64.powf(bucket as f64 / 2.0))
    }

    pub(super) fn record(&mut self, duration: Duration) {
        let bucket = (0..Self::BUCKETS - 1).find(|bucket| duration <= Self::bound(*bucket));
        self.buckets[bucket.unwrap_or(Self::BUCKETS - 1)] += 1;
        self.count += 1;
        self.total += duration;
        self.longest = self.longest.max(duration);
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their mean; none of none.
    pub fn mean(&self) -> Option<Duration> {
        (self.count > 0).then(|| self.total.div_f64(self.count as f64))
    }

    /// The longest.
    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// What this share of them (0 to 1) did not exceed, rounded up to the bound of a bucket, at most the longest; none of none.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = (share.clamp(0.0, 1.0) * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(if bucket + 1 < Self::BUCKETS { Self::bound(bucket).min(self.longest) } else { self.longest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_at_most_a_bucket_too_high() {
        let mut latencies = Latencies::default();
        assert_eq!((latencies.quantile(0.5), latencies.mean()), (None, None));
        (1..=1000).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        for share in [0.01, 0.5, 0.95, 1.0] {
            let (got, exact) = (latencies.quantile(share).unwrap().as_secs_f64(), share);
            assert!(got >= exact && got <= exact * 1.4143, "{share}: {got}");
        }
        assert_eq!(latencies.longest(), Duration::from_secs(1));
        assert_eq!(latencies.mean().unwrap(), Duration::from_micros(500_500));
        latencies.record(Duration::from_secs(1000));
        assert_eq!(latencies.quantile(1.0), Some(Duration::from_secs(1000)));
        latencies.record(Duration::ZERO);
        assert_eq!(latencies.quantile(0.0), Some(Duration::from_micros(100)));
    }
}
