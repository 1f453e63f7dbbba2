//! Joining rankings.

use std::collections::HashMap;

/// The constant of reciprocal rank fusion (Cormack, Clarke & Büttcher 2009), which damps the first ranks.
const RRF_K: f32 = 60.0;

/// Reciprocal rank fusion: each ranking gives an id `1 / (60 + rank)`, ranks from 1. Scores are divided by the most an
/// id can get, so that 1 is the first place in every ranking. Best first; ties by id.
pub(crate) fn fuse(rankings: &[Vec<u64>]) -> Vec<(u64, f32)> {
    let mut scores: HashMap<u64, f32> = HashMap::new();
    for ranking in rankings {
        for (rank, &id) in ranking.iter().enumerate() {
            *scores.entry(id).or_default() += 1.0 / (RRF_K + (rank + 1) as f32);
        }
    }
    let most = rankings.len().max(1) as f32 / (RRF_K + 1.0);
    let mut fused: Vec<(u64, f32)> = scores.into_iter().map(|(id, score)| (id, (score / most).min(1.0))).collect();
    fused.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    fused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fusion_by_hand() {
        let fused = fuse(&[vec![1, 2, 3], vec![2, 4]]);
        let order: Vec<u64> = fused.iter().map(|&(id, _)| id).collect();
        // 2: 1/62 + 1/61; 1: 1/61; 4: 1/62; 3: 1/63
        assert_eq!(order, [2, 1, 4, 3]);
        let expected = (1.0 / 62.0 + 1.0 / 61.0) / (2.0 / 61.0);
        assert!((fused[0].1 - expected).abs() < 1e-6);
        assert_eq!(fuse(&[vec![9], vec![9]]), [(9, 1.0)]);
        assert!(fuse(&[]).is_empty());
    }
}
