//! Server-sent events, out of bytes that are cut anywhere.

use super::failure::Malformed;

/// One event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SseEvent {
    /// Its name; empty if it has none.
    pub(super) name: String,
    /// Its data, lines joined by line feeds.
    pub(super) data: String,
}

/// Reads events as the HTML standard (9.2.6) says. Bytes that are not UTF-8 are replaced.
#[derive(Debug)]
pub(super) struct SseParser {
    line: Vec<u8>,
    event: SseEvent,
    has_data: bool,
    after_return: bool,
    begun: bool,
    limit: usize,
}

impl SseParser {
    /// A parser of events of at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { line: Vec::new(), event: SseEvent::default(), has_data: false, after_return: false, begun: false, limit }
    }

    /// Takes bytes; gives the events that they complete.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<SseEvent>, Malformed> {
        let mut events = Vec::new();
        // The other half of a line end of two, unless nothing came at all.
        if !bytes.is_empty() && std::mem::take(&mut self.after_return) {
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.add(&bytes[..end])?;
            let line = std::mem::take(&mut self.line);
            self.line(&line, &mut events);
            let rest = &bytes[end + 1..];
            bytes = if bytes[end] == b'\r' {
                self.after_return = rest.is_empty();
                rest.strip_prefix(b"\n").unwrap_or(rest)
            } else {
                rest
            };
        }
        self.add(bytes)?;
        Ok(events)
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if self.line.len() + self.event.data.len() + bytes.len() > self.limit {
            return Err(Malformed::EventTooLarge { limit: self.limit });
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn line(&mut self, line: &[u8], events: &mut Vec<SseEvent>) {
        let line = if std::mem::replace(&mut self.begun, true) {
            line
        } else {
            line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)
        };
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            if std::mem::take(&mut self.has_data) {
                events.push(event);
            }
            return;
        }
        let line = String::from_utf8_lossy(line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "event" => value.clone_into(&mut self.event.name),
            // A comment, `id` and `retry`, which are for connections that are taken up again.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(bytes: &[u8]) -> Vec<SseEvent> {
        SseParser::new(1 << 16).push(bytes).unwrap()
    }

    #[test]
    fn fields_lines_and_comments() {
        let text =
            "\u{feff}: hello\nevent: a\r\ndata: {\"x\":\rdata:1}\r\r\nid: 7\n\ndata\n\nevent: lost\n\ndata: unfinished";
        let event = |name: &str, data: &str| SseEvent { name: name.into(), data: data.into() };
        assert_eq!(whole(text.as_bytes()), [event("a", "{\"x\":\n1}"), event("", "")]);
    }

    #[test]
    fn an_event_is_bounded() {
        let mut parser = SseParser::new(10);
        assert!(parser.push(b"data: 1234").is_ok());
        assert!(matches!(parser.push(b"5"), Err(Malformed::EventTooLarge { limit: 10 })));
        // The name alone can't grow either, and many lines of data are one event.
        let mut parser = SseParser::new(10);
        let result = (0..100).try_for_each(|_| parser.push(b"data:a\n").map(drop));
        assert!(matches!(result, Err(Malformed::EventTooLarge { limit: 10 })));
    }

    proptest! {
        #[test]
        fn where_bytes_are_cut_does_not_matter(
            pieces in proptest::collection::vec("(data: ?|event:|:|id:)?[a-zü:]{0,4}(\n|\r|\r\n|)", 0..20),
            cuts in proptest::collection::vec(0_usize..5, 1..60),
        ) {
            let text = pieces.concat();
            let mut rest = text.as_bytes();
            let (mut parser, mut events) = (SseParser::new(1 << 16), Vec::new());
            for cut in cuts.iter().cycle().take(1000) {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                events.extend(parser.push(now).unwrap());
                rest = later;
            }
            events.extend(parser.push(rest).unwrap());
            prop_assert_eq!(events, whole(text.as_bytes()));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let _ = SseParser::new(64).push(&bytes);
        }
    }
}
