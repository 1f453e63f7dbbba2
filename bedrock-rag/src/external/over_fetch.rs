//! Results that are right where a server can only be asked for more than that.

use bedrock_core::{BoxFuture, Error, RetrievalFilter, ScoredRecord};

/// More than `k`, so that which of equally near records is returned does not depend on the server.
const SLACK: usize = 16;

/// The `k` best of what passes the filter, checked here once more. `fetch` gives the so many best by the server's own filter,
/// fewer only if there are no more; if it lets too much pass, more is asked for, up to `most`.
///
/// # Errors
/// [`Error::Validation`] if not even the `most` best hold `k` that pass; what `fetch` fails with.
pub(crate) async fn passing<'f>(
    k: usize,
    filter: Option<&RetrievalFilter>,
    most: usize,
    fetch: &(dyn Fn(usize) -> BoxFuture<'f, Result<Vec<ScoredRecord>, Error>> + Sync),
) -> Result<Vec<ScoredRecord>, Error> {
    let mut limit = (k + SLACK).min(most);
    loop {
        let mut found = fetch(limit).await?;
        let all = found.len() < limit;
        if let Some(filter) = filter {
            found.retain(|found| filter.passes(&|key| found.record.metadata.get(key)));
        }
        if found.len() >= k || all {
            found.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.record.id.cmp(&b.record.id)));
            found.truncate(k);
            return Ok(found);
        }
        if limit == most {
            return Err(Error::validation(format!(
                "the store can't express this filter, and of the {most} best records too few pass it"
            )));
        }
        limit = limit.saturating_mul(4).min(most);
    }
}

#[cfg(test)]
mod tests {
    use bedrock_core::VectorRecord;
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn more_is_asked_for_until_enough_pass() {
        let records: Vec<ScoredRecord> = (0..500)
            .map(|n| ScoredRecord {
                record: VectorRecord::new(format!("r{n:03}"), [], "").attribute("rare", n % 100 == 99),
                score: 1.0 - n as f32 / 1000.0,
            })
            .collect();
        let asked = std::sync::Mutex::new(Vec::new());
        let fetch = |limit: usize| -> BoxFuture<'_, Result<Vec<ScoredRecord>, Error>> {
            asked.lock().unwrap().push(limit);
            let found = records[..limit.min(records.len())].to_vec();
            Box::pin(async { Ok(found) })
        };
        let rare = RetrievalFilter::equals("rare", true);
        let found = block_on(passing(3, Some(&rare), 10_000, &fetch)).unwrap();
        let ids: Vec<_> = found.iter().map(|found| found.record.id.as_str()).collect();
        assert_eq!(ids, ["r099", "r199", "r299"]);
        assert_eq!(*asked.lock().unwrap(), [19, 76, 304]);
        assert_eq!(block_on(passing(9, Some(&rare), 10_000, &fetch)).unwrap().len(), 5, "all there are");
        assert!(matches!(block_on(passing(9, Some(&rare), 400, &fetch)), Err(Error::Validation { .. })));
        assert_eq!(block_on(passing(7, None, 10_000, &fetch)).unwrap().len(), 7);
    }
}
