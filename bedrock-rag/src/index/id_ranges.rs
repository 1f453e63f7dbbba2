//! Sets of chunk ids: a document's chunks are a range.

use std::ops::Range;
use std::sync::Arc;

/// Ids that a search may return, as ranges that rise.
#[derive(Clone, Debug, Default)]
pub(crate) struct IdRanges(Arc<Vec<Range<u64>>>);

impl IdRanges {
    pub(crate) fn new(mut ranges: Vec<Range<u64>>) -> Self {
        ranges.sort_by_key(|range| range.start);
        Self(Arc::new(ranges))
    }

    pub(crate) fn contains(&self, id: u64) -> bool {
        let after = self.0.partition_point(|range| range.start <= id);
        after > 0 && self.0[after - 1].end > id
    }

    /// Ids in all ranges together.
    pub(crate) fn len(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_contain_what_they_hold() {
        let ranges = IdRanges::new(vec![10..12, 2..3]);
        let contained: Vec<u64> = (0..15).filter(|&id| ranges.contains(id)).collect();
        assert_eq!(contained, [2, 10, 11]);
        assert!(!IdRanges::default().contains(0));
    }
}
