//! Stop sequences in streamed text.

use crate::error::Error;

/// Cuts text at the first stop sequence, however the text is cut into pieces.
///
/// The first stop sequence is the one that is complete first; of several complete at once, the longest. Law: the pieces
/// given out are together the text before that sequence, or all of it if none occurs. To keep it, the end of a piece is
/// held back while it may be the beginning of a stop sequence, and no more than that.
#[derive(Debug, Clone)]
pub struct StopMatcher {
    stops: Vec<Pattern>,
    /// Text not given out: the longest end of the text so far that begins a stop sequence.
    held: String,
    matched: Option<usize>,
}

/// A stop sequence as an automaton (Knuth, Morris, Pratt 1977).
#[derive(Debug, Clone)]
struct Pattern {
    text: String,
    /// For each length of a matched beginning: the longest shorter beginning that also ends there.
    fallback: Vec<usize>,
    /// How many bytes of the pattern end the text so far.
    matched: usize,
}

impl Pattern {
    fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut fallback = vec![0; bytes.len() + 1];
        let mut border = 0;
        for end in 1..bytes.len() {
            while border > 0 && bytes[border] != bytes[end] {
                border = fallback[border];
            }
            border += usize::from(bytes[border] == bytes[end]);
            fallback[end + 1] = border;
        }
        Self { text: text.to_string(), fallback, matched: 0 }
    }

    fn advance(&mut self, byte: u8) -> bool {
        let bytes = self.text.as_bytes();
        while self.matched > 0 && bytes[self.matched] != byte {
            self.matched = self.fallback[self.matched];
        }
        self.matched += usize::from(bytes[self.matched] == byte);
        self.matched == bytes.len()
    }
}

impl StopMatcher {
    /// A matcher at the beginning of a text. Without stop sequences it gives out everything at once.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] if a stop sequence is empty.
    pub fn new<S: AsRef<str>>(stops: &[S]) -> Result<Self, Error> {
        if stops.iter().any(|stop| stop.as_ref().is_empty()) {
            return Err(Error::InvalidParameter {
                name: "stop_sequences",
                got: "an empty string".into(),
                expected: "texts of at least one character".into(),
            });
        }
        let stops = stops.iter().map(|stop| Pattern::new(stop.as_ref())).collect();
        Ok(Self { stops, held: String::new(), matched: None })
    }

    /// Takes the next piece of text and returns what can be given out. After a match this is always empty.
    pub fn push(&mut self, text: &str) -> String {
        if self.matched.is_some() {
            return String::new();
        }
        if self.stops.is_empty() {
            return text.to_string();
        }
        let before = self.held.len();
        self.held.push_str(text);
        for (offset, byte) in text.bytes().enumerate() {
            let mut complete = false;
            for stop in &mut self.stops {
                complete |= stop.advance(byte);
            }
            if complete {
                let stops = self.stops.iter().enumerate();
                let longest =
                    stops.filter(|(_, stop)| stop.matched == stop.text.len()).max_by_key(|(_, stop)| stop.matched);
                self.matched = longest.map(|(index, _)| index);
                let length = longest.map_or(0, |(_, stop)| stop.matched);
                let mut out = std::mem::take(&mut self.held);
                out.truncate(before + offset + 1 - length);
                return out;
            }
        }
        let keep = self.stops.iter().map(|stop| stop.matched).max().unwrap_or_default();
        // A stop sequence begins with a whole character, so this is a character boundary.
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }

    /// Ends the text and returns what was held back.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// The stop sequence that was found.
    pub fn matched(&self) -> Option<&str> {
        self.matched.map(|index| self.stops[index].text.as_str())
    }

    /// The text that is being held back.
    pub fn held(&self) -> &str {
        &self.held
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The obvious way: look for every stop sequence at every end.
    fn naive<'a>(text: &'a str, stops: &[String]) -> (&'a str, Option<String>) {
        for end in (0..=text.len()).filter(|&end| text.is_char_boundary(end)) {
            let ending = stops.iter().filter(|stop| text[..end].ends_with(stop.as_str()));
            if let Some(stop) = ending.max_by_key(|stop| stop.len()) {
                return (&text[..end - stop.len()], Some(stop.clone()));
            }
        }
        (text, None)
    }

    fn run<'a>(pieces: impl IntoIterator<Item = &'a str>, stops: &[String]) -> (String, Option<String>) {
        let mut matcher = StopMatcher::new(stops).unwrap();
        let mut out = String::new();
        for piece in pieces {
            out.push_str(&matcher.push(piece));
        }
        out.push_str(&matcher.finish());
        (out, matcher.matched().map(str::to_string))
    }

    proptest! {
        #[test]
        fn streamed_is_whole(
            pieces in prop::collection::vec("[abé🍯]{0,4}", 0..12),
            stops in prop::collection::vec("[abé🍯]{1,5}", 0..4),
        ) {
            let text = pieces.concat();
            let (expected, stop) = naive(&text, &stops);
            let streamed = run(pieces.iter().map(String::as_str), &stops);
            prop_assert_eq!(&streamed, &run([text.as_str()], &stops));
            prop_assert_eq!(streamed, (expected.to_string(), stop));
        }

        #[test]
        fn no_more_is_held_back_than_may_be_a_stop(pieces in prop::collection::vec("[ab]{0,3}", 0..12), stop in "[ab]{1,5}") {
            let mut matcher = StopMatcher::new(&[&stop]).unwrap();
            let mut text = String::new();
            for piece in &pieces {
                matcher.push(piece);
                text.push_str(piece);
                if matcher.matched().is_some() {
                    break;
                }
                let longest = (0..stop.len()).rev().find(|&len| text.ends_with(&stop[..len])).unwrap();
                prop_assert_eq!(matcher.held(), &stop[..longest]);
            }
        }
    }

    #[test]
    fn a_stop_across_pieces_is_never_given_out() {
        let mut matcher = StopMatcher::new(&["</answer>", "\n\n"]).unwrap();
        assert_eq!(matcher.push("42</ans"), "42");
        assert_eq!(matcher.push("ert\n"), "</ansert");
        assert_eq!(matcher.push("\nmore"), "");
        assert_eq!(matcher.matched(), Some("\n\n"));
        assert_eq!(matcher.push("after"), "");
        assert_eq!(matcher.finish(), "");
    }

    #[test]
    fn empty_stops_are_refused() {
        assert!(StopMatcher::new(&["a", ""]).is_err());
        assert_eq!(run(["a", "b"], &[]), ("ab".into(), None));
    }
}
