//! Where a text is cut into the pieces that a learned filter judges.
//!
//! A piece is at most [`MOST`] bytes and ends, if it can, with a sentence; the next begins in the middle of it, so that nothing
//! hides on a cut. Both decisions look at the piece alone, which makes them the same in a whole text and in a growing one, and
//! bounds what a stream holds back.

/// Bytes of the longest piece.
pub(crate) const MOST: usize = 600;
/// Bytes of the longest part of a piece.
pub(crate) const PART: usize = 100;

/// End of the piece that begins at `start`; `None` if more text may still belong to it.
pub(crate) fn end(text: &str, start: usize, complete: bool) -> Option<usize> {
    end_within(text, start, complete, MOST)
}

/// The same for pieces of at most `most` bytes, which is at least 8.
pub(crate) fn end_within(text: &str, start: usize, complete: bool, most: usize) -> Option<usize> {
    if text.len() - start <= most {
        return complete.then_some(text.len());
    }
    let limit = text.floor_char_boundary(start + most);
    Some(cut(text, text.ceil_char_boundary(start + most / 2), limit, true).unwrap_or(limit))
}

/// Start of the piece after the one from `start` to `end`.
pub(crate) fn next(text: &str, start: usize, end: usize) -> usize {
    let middle = text.ceil_char_boundary(start + (end - start) / 2);
    cut(text, middle, end, false).unwrap_or(middle)
}

/// The last or first place in a range of bytes where a sentence begins, or else a word.
fn cut(text: &str, from: usize, to: usize, last: bool) -> Option<usize> {
    let bytes = text.as_bytes();
    let sentence = |at: usize| {
        bytes[at - 1] == b'\n' || (bytes[at - 1] == b' ' && at > 1 && matches!(bytes[at - 2], b'.' | b'!' | b'?'))
    };
    let word = |at: usize| bytes[at - 1].is_ascii_whitespace();
    let mut places = from.max(1)..to;
    let find = |places: &mut std::ops::Range<usize>, wanted: &dyn Fn(usize) -> bool| match last {
        true => places.rev().find(|at| wanted(*at)),
        false => places.find(|at| wanted(*at)),
    };
    find(&mut places.clone(), &sentence).or_else(|| find(&mut places, &word))
}

/// All pieces of a whole text, in order.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut start = Some(0);
    std::iter::from_fn(move || {
        let from = start.take().filter(|from| *from < text.len())?;
        let end = end(text, from, true)?;
        start = (end < text.len()).then(|| next(text, from, end));
        Some(&text[from..end])
    })
}

/// A piece in parts, which end with a sentence if they can and do not overlap. A short piece is the only part of itself.
pub(crate) fn parts(piece: &str) -> Vec<&str> {
    let (mut start, mut parts) = (0, Vec::new());
    while start < piece.len() {
        let end = end_within(piece, start, true, PART).unwrap_or(piece.len());
        parts.push(&piece[start..end]);
        start = end;
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_texts_are_one_piece() {
        assert_eq!(pieces("One. Two.").collect::<Vec<_>>(), ["One. Two."]);
        assert_eq!(pieces("").count(), 0);
    }

    proptest! {
        #[test]
        fn parts_are_the_piece_without_overlap(text in "([a-z]{1,9}[.!?]? |\\PC|\n){0,200}") {
            let parts = parts(&text);
            prop_assert_eq!(parts.concat(), text.as_str());
            prop_assert!(parts.iter().all(|part| (1..=PART).contains(&part.len())));
            prop_assert!(text.len() > PART || parts.len() <= 1);
        }

        #[test]
        fn pieces_are_bounded_overlap_and_cover(text in "([a-z]{1,9}[.!?]? |\\PC|\n){0,900}") {
            let mut covered = 0;
            for piece in pieces(&text) {
                let start = piece.as_ptr() as usize - text.as_ptr() as usize;
                prop_assert!(piece.len() <= MOST && !piece.is_empty() && start <= covered);
                prop_assert!(start + piece.len() > covered);
                covered = start + piece.len();
            }
            prop_assert_eq!(covered, text.len());
        }
    }
}
