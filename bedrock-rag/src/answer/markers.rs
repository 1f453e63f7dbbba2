//! Citation markers in a model's answer: `[1]`, `[2, 3]`.

/// A marker that was taken out of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    /// Byte of the clean text that it stood before.
    pub(super) at: usize,
    /// Positions of the passages it names, from 0.
    pub(super) passages: Vec<usize>,
}

/// Takes markers out of a text that arrives in pieces.
///
/// It holds back only what could still become a marker: an open bracket with digits, commas and spaces, and the spaces
/// before it. A bracket that names no passage of ours (a year, a list index) is text like any other.
#[derive(Debug)]
pub(super) struct MarkerFilter {
    passages: usize,
    held: String,
    clean_bytes: usize,
    markers: Vec<Marker>,
}

/// Longest marker waited for, in bytes.
const MAX_MARKER_BYTES: usize = 32;

impl MarkerFilter {
    pub(super) fn new(passages: usize) -> Self {
        Self { passages, held: String::new(), clean_bytes: 0, markers: Vec::new() }
    }

    /// Takes more of the answer; returns what of it is text for certain.
    pub(super) fn push(&mut self, piece: &str) -> String {
        let mut clean = String::new();
        for character in piece.chars() {
            let open = self.held.contains('[');
            match character {
                '[' => {
                    if open {
                        clean.push_str(&std::mem::take(&mut self.held));
                    }
                    self.held.push('[');
                }
                ']' if open => {
                    let bracket = self.held.find('[').unwrap_or_default();
                    match self.named(&self.held[bracket + 1..]) {
                        Some(passages) => {
                            let at = self.clean_bytes + clean.len();
                            self.markers.push(Marker { at, passages });
                            self.held.clear();
                        }
                        None => {
                            clean.push_str(&std::mem::take(&mut self.held));
                            clean.push(']');
                        }
                    }
                }
                ' ' if !open => self.held.push(' '),
                '0'..='9' | ',' | ' ' if open && self.held.len() < MAX_MARKER_BYTES => self.held.push(character),
                _ => {
                    clean.push_str(&std::mem::take(&mut self.held));
                    clean.push(character);
                }
            }
            // Spaces are held in case a marker follows; a run of them is not worth that.
            if self.held.len() > 2 * MAX_MARKER_BYTES {
                clean.push_str(&std::mem::take(&mut self.held));
            }
        }
        self.clean_bytes += clean.len();
        clean
    }

    /// The end of the answer: what was held back, and every marker.
    pub(super) fn finish(mut self) -> (String, Vec<Marker>) {
        (std::mem::take(&mut self.held), self.markers)
    }

    fn named(&self, inside: &str) -> Option<Vec<usize>> {
        let mut passages = Vec::new();
        for number in inside.split(',') {
            let number: usize = number.trim().parse().ok()?;
            if number == 0 || number > self.passages {
                return None;
            }
            if !passages.contains(&(number - 1)) {
                passages.push(number - 1);
            }
        }
        Some(passages)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(pieces: &[&str]) -> (String, Vec<Marker>) {
        let mut filter = MarkerFilter::new(3);
        let mut text: String = pieces.iter().map(|piece| filter.push(piece)).collect();
        let (rest, markers) = filter.finish();
        text.push_str(&rest);
        (text, markers)
    }

    #[test]
    fn markers_are_taken_out_and_other_brackets_stay() {
        let (text, markers) = run(&["Thirty days [1]. Since [2024] and a[0], ", "see [2", ", 3] end [", "x] [1"]);
        assert_eq!(text, "Thirty days. Since [2024] and a[0], see end [x] [1");
        assert_eq!(markers.len(), 2);
        assert_eq!((markers[0].at, markers[0].passages.as_slice()), ("Thirty days".len(), [0].as_slice()));
        assert_eq!(markers[1].passages, [1, 2]);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "(\\[|\\]|[0-9]|, | |a|é|\\.){0,60}", cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
            let mut at: Vec<usize> = cuts.iter().map(|cut| text.floor_char_boundary(cut.index(text.len() + 1))).collect();
            at.extend([0, text.len()]);
            at.sort_unstable();
            let pieces: Vec<&str> = at.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            let whole = run(&[&text]);
            prop_assert_eq!(run(&pieces), whole.clone());
            for marker in whole.1 {
                prop_assert!(whole.0.is_char_boundary(marker.at));
            }
        }
    }
}
