//! A look at a content stream before it is drawn: the interpreter holds all glyphs of one showing of text, and all saved
//! states, at the same time, however many there are.

/// Most bytes shown by one operator. Adobe's readers allow 32,767 a string.
pub(super) const MAX_SHOWN: usize = 1 << 20;

/// Most states saved at the same time. The specification says 28.
const MAX_SAVED: usize = 10_000;

/// Whether a content stream can be drawn within reason.
pub(super) fn is_reasonable(content: &[u8]) -> bool {
    let (mut shown, mut saved) = (0_usize, 0_usize);
    let mut at = 0;
    while let Some(&byte) = content.get(at) {
        at += 1;
        match byte {
            b'%' => at = end_of(content, at, |byte| matches!(byte, b'\n' | b'\r')),
            b'(' => {
                let start = at;
                let mut depth = 1;
                while depth > 0 && at < content.len() {
                    match content[at] {
                        b'\\' => at += 1,
                        b'(' => depth += 1,
                        b')' => depth -= 1,
                        _ => {}
                    }
                    at += 1;
                }
                shown += at.min(content.len()) - start;
            }
            b'<' if content.get(at) != Some(&b'<') => {
                let end = end_of(content, at, |byte| byte == b'>');
                shown += (end - at) / 2;
                at = end;
            }
            b'/' => at = end_of(content, at, is_end),
            byte if byte.is_ascii_alphabetic() || matches!(byte, b'\'' | b'"') => {
                let start = at - 1;
                at = end_of(content, at, is_end);
                shown = 0;
                match &content[start..at] {
                    b"q" => saved += 1,
                    b"Q" => saved = saved.saturating_sub(1),
                    // The bytes of a picture, up to its end.
                    b"ID" => {
                        let end = content[at..]
                            .windows(3)
                            .position(|window| window[0].is_ascii_whitespace() && &window[1..] == b"EI");
                        at = end.map_or(content.len(), |end| at + end + 3);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        if shown > MAX_SHOWN || saved > MAX_SAVED {
            return false;
        }
    }
    true
}

fn is_end(byte: u8) -> bool {
    byte.is_ascii_whitespace()
        || matches!(byte, 0 | b'(' | b')' | b'<' | b'>' | b'[' | b']' | b'{' | b'}' | b'/' | b'%')
}

fn end_of(content: &[u8], from: usize, ends: impl Fn(u8) -> bool) -> usize {
    content[from..].iter().position(|&byte| ends(byte)).map_or(content.len(), |length| from + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_and_many_states_are_noticed() {
        let long = "x".repeat(MAX_SHOWN / 2 + 1);
        for content in [
            format!("BT ({long}{long}) Tj ET"),
            format!("BT [({long}) 5 ({long})] TJ ET"),
            format!("BT <{long}{long}{long}{long}> Tj ET"),
            format!("(\\){long}(nested){long}"),
            "q ".repeat(MAX_SAVED + 1),
        ] {
            assert!(!is_reasonable(content.as_bytes()));
        }
        for content in [
            format!("BT ({long}) Tj ({long}) Tj ET"),
            "q Q ".repeat(MAX_SAVED * 2),
            format!("BI /W 1 ID ({long}{long} EI (a) Tj"),
            "(a) Tj % (never closed\n(b) Tj".to_owned(),
        ] {
            assert!(is_reasonable(content.as_bytes()));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_return(content in "(\\(|\\)|\\\\|<|>|q|Q|ID|EI|BI| |/|%|\n|[a-z]){0,60}") {
            proptest::prop_assert!(is_reasonable(content.as_bytes()));
        }
    }
}
