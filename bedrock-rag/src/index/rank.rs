//! Joining rankings.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::Error;

/// How hybrid search joins what it finds by meaning and by words.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fusion {
    /// Reciprocal rank fusion (Cormack, Clarke & Büttcher 2009): each ranking gives `1 / (k + rank)`, ranks from 1. The score is
    /// the share of what first place in both rankings gives.
    ReciprocalRank {
        /// Damps the first ranks; 60 is usual.
        k: f32,
    },
    /// A weighted mean of scores: cosines (negative ones count as 0) and BM25 scores, each as a share of the highest. Unlike
    /// ranks, scores tell a clear winner from a narrow one; and what is found does not depend on how many candidates there were.
    Weighted {
        /// Share of the cosine, 0 to 1; the rest is that of BM25.
        vector: f32,
    },
}

impl Default for Fusion {
    /// Weighted, with four tenths for the cosine: of the weights tried on the developer parts of two public sets (0.35, 0.4, 0.5,
    /// 0.65) it leaves neither set behind its better single ranking. Ranks (k = 60) do on one of them.
    fn default() -> Self {
        Self::Weighted { vector: 0.4 }
    }
}

impl std::str::FromStr for Fusion {
    type Err = Error;

    /// `rrf:60` or `weighted:0.7`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let fusion = text.split_once(':').and_then(|(kind, number)| {
            let number = number.parse().ok()?;
            match kind {
                "rrf" => Some(Self::ReciprocalRank { k: number }),
                "weighted" => Some(Self::Weighted { vector: number }),
                _ => None,
            }
        });
        let valid = fusion.filter(|fusion| fusion.is_valid());
        valid.ok_or_else(|| Error::InvalidRequest(format!("`{text}` is no fusion such as rrf:60 or weighted:0.7")))
    }
}

/// A candidate of hybrid search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fused {
    pub(crate) id: u64,
    pub(crate) score: f32,
    pub(crate) similarity: f32,
}

impl Fusion {
    pub(crate) fn is_valid(self) -> bool {
        match self {
            Self::ReciprocalRank { k } => k.is_finite() && k >= 0.0,
            Self::Weighted { vector } => (0.0..=1.0).contains(&vector),
        }
    }
}

impl Fusion {
    /// Joins two rankings, each best first: by cosine and by BM25. `cosine` is asked about what words alone have found. Scores are
    /// 0 to 1. Best first; ties by id.
    pub(crate) fn fuse<E>(
        self,
        by_meaning: &[(u64, f32)],
        by_words: &[(u64, f32)],
        cosine: impl Fn(u64) -> Result<f32, E>,
    ) -> Result<Vec<Fused>, E> {
        let mut places: HashMap<u64, usize> = HashMap::new();
        let mut fused = Vec::new();
        let most = match self {
            Self::ReciprocalRank { k } => 2.0 / (k + 1.0),
            Self::Weighted { .. } => 1.0,
        };
        let rank = |rank: usize| match self {
            Self::ReciprocalRank { k } => 1.0 / (k + (rank + 1) as f32) / most,
            Self::Weighted { .. } => 0.0,
        };
        for (index, &(id, similarity)) in by_meaning.iter().enumerate() {
            places.insert(id, fused.len());
            fused.push(Fused { id, score: rank(index), similarity });
        }
        let highest = by_words.first().map_or(1.0, |&(_, score)| score).max(f32::MIN_POSITIVE);
        for (index, &(id, bm25)) in by_words.iter().enumerate() {
            let score = match self {
                Self::ReciprocalRank { .. } => rank(index),
                Self::Weighted { vector } => (1.0 - vector) * bm25 / highest,
            };
            match places.get(&id) {
                Some(&place) => fused[place].score += score,
                None => fused.push(Fused { id, score, similarity: cosine(id)? }),
            }
        }
        if let Self::Weighted { vector } = self {
            let highest = fused.iter().map(|candidate| candidate.similarity).fold(f32::MIN_POSITIVE, f32::max);
            for candidate in &mut fused {
                candidate.score += vector * (candidate.similarity / highest).max(0.0);
            }
        }
        for candidate in &mut fused {
            candidate.score = candidate.score.clamp(0.0, 1.0);
        }
        fused.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
        Ok(fused)
    }
}

/// Maximal marginal relevance (Carbonell & Goldstein 1998): positions of the `count` candidates to take, in order. Each one is
/// that with the greatest `(1 − diversity) × relevance − diversity × similarity to the nearest one taken`; ties go to the first.
pub(crate) fn diversify(
    relevances: &[f32],
    count: usize,
    diversity: f32,
    similarity: impl Fn(usize, usize) -> f32,
) -> Vec<usize> {
    let mut left: Vec<(usize, f32)> = (0..relevances.len()).map(|candidate| (candidate, f32::NEG_INFINITY)).collect();
    let mut taken = Vec::new();
    while taken.len() < count {
        let worth = |&(candidate, nearest): &(usize, f32)| {
            let repeated = if nearest.is_finite() { diversity * nearest } else { 0.0 };
            (1.0 - diversity) * relevances[candidate] - repeated
        };
        let mut best = None;
        for (place, candidate) in left.iter().enumerate() {
            let worth = worth(candidate);
            if best.is_none_or(|(_, most)| worth > most) {
                best = Some((place, worth));
            }
        }
        let Some((place, _)) = best else { break };
        let (chosen, _) = left.remove(place);
        taken.push(chosen);
        for (candidate, nearest) in &mut left {
            *nearest = nearest.max(similarity(chosen, *candidate));
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANKS: Fusion = Fusion::ReciprocalRank { k: 60.0 };

    #[test]
    fn fusions_are_read_from_text() {
        assert!(Fusion::default().is_valid());
        assert_eq!("rrf:60".parse::<Fusion>().unwrap(), RANKS);
        assert_eq!("weighted:0.25".parse::<Fusion>().unwrap(), Fusion::Weighted { vector: 0.25 });
        for bad in ["", "rrf", "rrf:x", "rrf:-1", "weighted:2", "mean:0.5"] {
            assert!(bad.parse::<Fusion>().is_err(), "{bad}");
        }
    }

    fn fuse(fusion: Fusion, by_meaning: &[(u64, f32)], by_words: &[(u64, f32)]) -> Vec<(u64, f32)> {
        let fused = fusion.fuse(by_meaning, by_words, |id| if id < 9 { Ok(0.2) } else { Err(id) }).unwrap();
        fused.into_iter().map(|candidate| (candidate.id, candidate.score)).collect()
    }

    #[test]
    fn reciprocal_ranks_by_hand() {
        let fused = fuse(RANKS, &[(1, 0.9), (2, 0.8), (3, 0.7)], &[(2, 5.0), (4, 1.0)]);
        let order: Vec<u64> = fused.iter().map(|&(id, _)| id).collect();
        // 2: 1/62 + 1/61; 1: 1/61; 4: 1/62; 3: 1/63
        assert_eq!(order, [2, 1, 4, 3]);
        let expected = (1.0 / 62.0 + 1.0 / 61.0) / (2.0 / 61.0);
        assert!((fused[0].1 - expected).abs() < 1e-6);
        assert_eq!(fuse(RANKS, &[(9, 0.5)], &[(9, 0.1)]), [(9, 1.0)]);
        assert!(fuse(RANKS, &[], &[]).is_empty());
        assert_eq!(RANKS.fuse(&[], &[(9, 1.0)], Err::<f32, u64>), Err(9));
    }

    #[test]
    fn weighted_scores_by_hand() {
        let fused = fuse(Fusion::Weighted { vector: 0.75 }, &[(1, 0.6), (2, 0.5)], &[(2, 8.0), (4, 4.0)]);
        // Cosines 0.6, 0.5, 0.2 become 1, 5/6, 1/3; BM25 0, 1, 0.5.
        let expected = [(2, 0.75 * 5.0 / 6.0 + 0.25), (1, 0.75), (4, 0.25 + 0.125)];
        assert_eq!(fused.len(), 3);
        for ((id, score), (expected_id, expected_score)) in fused.iter().zip(expected) {
            assert!(*id == expected_id && (score - expected_score).abs() < 1e-6, "{fused:?}");
        }
        assert!(!Fusion::Weighted { vector: 1.5 }.is_valid() && !Fusion::ReciprocalRank { k: f32::NAN }.is_valid());
    }

    #[test]
    fn what_repeats_comes_later() {
        // 0 and 1 are the same, 2 is something else.
        let similarity = |a: usize, b: usize| if a + b == 1 { 1.0 } else { 0.1 };
        let relevances = [0.9, 0.89, 0.5];
        assert_eq!(diversify(&relevances, 3, 0.0, similarity), [0, 1, 2]);
        assert_eq!(diversify(&relevances, 3, 0.5, similarity), [0, 2, 1]);
        assert_eq!(diversify(&relevances, 2, 0.5, similarity), [0, 2]);
        assert!(diversify(&[], 2, 0.5, similarity).is_empty());
    }
}
