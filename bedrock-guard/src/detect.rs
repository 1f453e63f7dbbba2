//! From candidates to findings: what overlaps is decided, nothing else.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::policy::pii::marks::{Marks, Wanted};
use crate::scan::{Candidate, Label, Recognizer, Window};

/// A set of recognisers that is run together.
#[derive(Debug)]
pub(crate) struct Detector {
    recognizers: Vec<Box<dyn Recognizer>>,
}

impl Detector {
    pub(crate) fn new(recognizers: Vec<Box<dyn Recognizer>>) -> Self {
        Self { recognizers }
    }

    pub(crate) fn len(&self) -> usize {
        self.recognizers.len()
    }

    /// Findings of a complete text, in its order.
    pub(crate) fn detect(&self, window: Window<'_>) -> Vec<Candidate> {
        let wanted = self.recognizers.iter().map(|recognizer| recognizer.wanted()).max();
        let wanted = wanted.filter(|wanted| *wanted != Wanted::Nothing);
        let marks = wanted.and_then(|wanted| Marks::of(window.text, wanted));
        let window = Window { marks: marks.as_ref(), ..window };
        let mut found = Vec::new();
        for recognizer in &self.recognizers {
            recognizer.scan(window, 0, &mut found);
        }
        resolve(found)
    }

    /// Continues the scan of a growing text: `frontiers` holds one position for each recogniser. Returns the least.
    pub(crate) fn advance(&self, window: Window<'_>, frontiers: &mut [usize], found: &mut Vec<Candidate>) -> usize {
        for (recognizer, frontier) in self.recognizers.iter().zip(frontiers.iter_mut()) {
            *frontier = recognizer.scan(window, *frontier, found);
        }
        frontiers.iter().copied().min().unwrap_or(window.text.len())
    }
}

/// Which findings compete: personal data among themselves and with masks that are there already; everything else stands
/// for itself.
fn competes(label: Label) -> bool {
    matches!(label, Label::Pii(_) | Label::Mask)
}

/// Drops what overlaps something better, and sorts by position.
///
/// Order of preference: score, length, label, start.
pub(crate) fn resolve(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    // A stable order, as all sorting here: of the same span and label the better comes first.
    candidates.sort_by(|a, b| by_place(a, b).then_with(|| b.score.total_cmp(&a.score)));
    let mut kept = Vec::with_capacity(candidates.len());
    let mut rest = candidates.into_iter().peekable();
    let mut together = Vec::new();
    while let Some(first) = rest.next() {
        // What overlaps, or overlaps what overlaps.
        let mut end = first.span.end;
        together.push(first);
        while let Some(next) = rest.next_if(|next| next.span.start < end) {
            end = end.max(next.span.end);
            together.push(next);
        }
        if together.len() > 1 {
            settle(&mut together);
        }
        kept.append(&mut together);
    }
    kept.dedup_by(|a, b| a.span == b.span && a.label == b.label);
    kept
}

fn by_place(a: &Candidate, b: &Candidate) -> Ordering {
    a.span.start.cmp(&b.span.start).then(a.span.end.cmp(&b.span.end)).then(a.label.cmp(&b.label))
}

/// Drops what overlaps something better.
fn settle(candidates: &mut Vec<Candidate>) {
    candidates.sort_by(|a, b| {
        b.score
            .total_cmp(&a.score)
            .then_with(|| b.span.len().cmp(&a.span.len()))
            .then_with(|| a.label.cmp(&b.label))
            .then_with(|| a.span.start.cmp(&b.span.start))
    });
    // The spans that are taken, by start; they do not overlap, so one look to each side is enough.
    let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
    candidates.retain(|candidate| {
        let span = &candidate.span;
        if competes(candidate.label) {
            let left = taken.range(..span.end).next_back();
            if left.is_some_and(|(_, end)| *end > span.start) {
                return false;
            }
            taken.insert(span.start, span.end);
        }
        true
    });
    candidates.sort_by(by_place);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(start: usize, end: usize, kind: u8, score: f32) -> Candidate {
        Candidate { span: start..end, label: Label::Pii(kind), score }
    }

    #[test]
    fn the_best_score_stays_then_the_longest_then_the_first_kind() {
        let kept = resolve(vec![candidate(0, 9, 3, 0.5), candidate(4, 12, 1, 0.9), candidate(12, 15, 2, 0.6)]);
        assert_eq!(kept, [candidate(4, 12, 1, 0.9), candidate(12, 15, 2, 0.6)]);
        let kept = resolve(vec![candidate(0, 4, 0, 0.5), candidate(2, 9, 1, 0.5)]);
        assert_eq!(kept, [candidate(2, 9, 1, 0.5)]);
        let kept = resolve(vec![candidate(0, 4, 1, 0.5), candidate(0, 4, 0, 0.5)]);
        assert_eq!(kept, [candidate(0, 4, 0, 0.5)]);
    }

    /// All at once, by what is better.
    fn resolve_slowly(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
        settle(&mut candidates);
        candidates.dedup_by(|a, b| a.span == b.span && a.label == b.label);
        candidates
    }

    proptest::proptest! {
        #[test]
        fn what_does_not_overlap_is_settled_apart(
            candidates in proptest::collection::vec((0usize..40, 1usize..9, 0u8..6, 0u8..4), 0..24),
        ) {
            let candidates: Vec<Candidate> = candidates
                .into_iter()
                .map(|(start, length, label, score)| {
                    let label = match label {
                        0 => Label::Mask,
                        1 => Label::Word(0),
                        kind => Label::Pii(kind),
                    };
                    Candidate { span: start..start + length, label, score: f32::from(score) / 4.0 }
                })
                .collect();
            proptest::prop_assert_eq!(resolve(candidates.clone()), resolve_slowly(candidates));
        }
    }

    #[test]
    fn a_finding_inside_a_mask_is_dropped_and_a_pattern_is_not() {
        let mask = Candidate { span: 0..6, label: Label::Mask, score: 1.0 };
        let regex = Candidate { span: 1..3, label: Label::Regex(0), score: 1.0 };
        let kept = resolve(vec![candidate(1, 5, 0, 1.0), mask.clone(), regex.clone()]);
        assert_eq!(kept, [mask, regex]);
    }
}
