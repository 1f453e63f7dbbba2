//! How good a ranking is, given which documents are relevant.

use std::collections::HashMap;

/// Relevance of documents to one query: above 0 is relevant, more is better.
pub type Relevance = HashMap<String, f64>;

/// Normalised discounted cumulative gain of the first `k`: the sum of relevance / log₂(rank + 1), divided by what the
/// best possible ranking has (Järvelin & Kekäläinen 2002, with linear gain as trec_eval has it). 0 to 1.
pub fn ndcg(ranking: &[String], relevance: &Relevance, k: usize) -> f64 {
    let gain = |values: &mut dyn Iterator<Item = f64>| -> f64 {
        values.take(k).enumerate().map(|(index, value)| value / (index as f64 + 2.0).log2()).sum()
    };
    let mut ideal: Vec<f64> = relevance.values().copied().filter(|&value| value > 0.0).collect();
    ideal.sort_by(|a, b| b.total_cmp(a));
    let best = gain(&mut ideal.into_iter());
    let got = gain(&mut ranking.iter().map(|id| relevance.get(id).copied().unwrap_or(0.0).max(0.0)));
    if best > 0.0 { got / best } else { 0.0 }
}

/// Share of the relevant documents that are among the first `k`. 0 to 1.
pub fn recall(ranking: &[String], relevance: &Relevance, k: usize) -> f64 {
    let relevant = relevance.values().filter(|&&value| value > 0.0).count();
    let found = ranking.iter().take(k).filter(|id| relevance.get(*id).is_some_and(|&value| value > 0.0)).count();
    if relevant > 0 { found as f64 / relevant as f64 } else { 0.0 }
}

/// One divided by the rank of the first relevant document, if it is among the first `k`; else 0.
pub fn reciprocal_rank(ranking: &[String], relevance: &Relevance, k: usize) -> f64 {
    let first = ranking.iter().take(k).position(|id| relevance.get(id).is_some_and(|&value| value > 0.0));
    first.map_or(0.0, |index| 1.0 / (index as f64 + 1.0))
}

/// The percentile of values by the nearest rank; 0 of none. Sorts them.
pub fn percentile(values: &mut [f64], percent: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (percent / 100.0 * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    /// Computed by hand: gains 3/1 + 0 + 2/2 of an ideal 3/1 + 2/log₂3 + 1/2.
    #[test]
    fn graded_relevance() {
        let relevance = Relevance::from([("a".into(), 3.0), ("b".into(), 2.0), ("c".into(), 1.0), ("d".into(), 0.0)]);
        let ranking = ids(&["a", "d", "b", "x"]);
        let expected = (3.0 + 1.0) / (3.0 + 2.0 / 3f64.log2() + 0.5);
        assert!((ndcg(&ranking, &relevance, 10) - expected).abs() < 1e-12);
        assert!((ndcg(&ranking, &relevance, 10) - 0.840_008).abs() < 1e-6);
        assert_eq!(ndcg(&ids(&["a", "b", "c"]), &relevance, 10), 1.0);
        assert_eq!(recall(&ranking, &relevance, 10), 2.0 / 3.0);
        assert_eq!(recall(&ranking, &relevance, 1), 1.0 / 3.0);
    }

    /// One relevant document in the third place: 1 / log₂4, 1/3; and beyond the cut nothing.
    #[test]
    fn known_item() {
        let relevance = Relevance::from([("r".into(), 1.0)]);
        let ranking = ids(&["x", "y", "r"]);
        assert_eq!(ndcg(&ranking, &relevance, 10), 0.5);
        assert_eq!(reciprocal_rank(&ranking, &relevance, 10), 1.0 / 3.0);
        assert_eq!(ndcg(&ranking, &relevance, 2), 0.0);
        assert_eq!(reciprocal_rank(&ranking, &relevance, 2), 0.0);
        assert_eq!(ndcg(&[], &Relevance::new(), 10), 0.0);
    }

    #[test]
    fn percentiles_by_nearest_rank() {
        let mut values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(percentile(&mut values, 50.0), 3.0);
        assert_eq!(percentile(&mut values, 95.0), 5.0);
        assert_eq!(percentile(&mut [], 50.0), 0.0);
    }
}
