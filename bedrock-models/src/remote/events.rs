//! Answers that come as server-sent events or as frames.

use bedrock_core::{Error, StreamEvent};

use super::frame::{Frame, FrameParser};
use super::runtime::Reader;
use super::sse::{SseEvent, SseParser};

/// An answer in server-sent events.
pub(super) trait SseAnswer: Send + 'static {
    /// Takes an event. True if the answer is complete.
    fn event(&mut self, event: SseEvent, events: &mut Vec<StreamEvent>) -> Result<bool, Error>;

    /// The body ended before the answer was complete.
    fn end(&mut self, events: &mut Vec<StreamEvent>) -> Result<(), Error>;
}

/// Reads an answer in server-sent events.
pub(super) struct SseReader<A> {
    parser: SseParser,
    answer: A,
}

impl<A: SseAnswer> SseReader<A> {
    pub(super) fn new(limit: usize, answer: A) -> Self {
        Self { parser: SseParser::new(limit), answer }
    }
}

impl<A: SseAnswer> Reader for SseReader<A> {
    fn read(&mut self, bytes: &[u8], events: &mut Vec<StreamEvent>) -> Result<bool, Error> {
        for event in self.parser.push(bytes)? {
            if self.answer.event(event, events)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn end(&mut self, events: &mut Vec<StreamEvent>) -> Result<(), Error> {
        self.answer.end(events)
    }
}

/// An answer in frames.
pub(super) trait FrameAnswer: Send + 'static {
    /// Takes a frame. True if the answer is complete.
    fn frame(&mut self, frame: Frame, events: &mut Vec<StreamEvent>) -> Result<bool, Error>;
}

/// Reads an answer in frames.
pub(super) struct FrameReader<A> {
    parser: FrameParser,
    answer: A,
}

impl<A: FrameAnswer> FrameReader<A> {
    pub(super) fn new(limit: usize, answer: A) -> Self {
        Self { parser: FrameParser::new(limit), answer }
    }
}

impl<A: FrameAnswer> Reader for FrameReader<A> {
    fn read(&mut self, bytes: &[u8], events: &mut Vec<StreamEvent>) -> Result<bool, Error> {
        for frame in self.parser.push(bytes)? {
            if self.answer.frame(frame, events)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn end(&mut self, _events: &mut Vec<StreamEvent>) -> Result<(), Error> {
        Err(super::failure::Malformed::Truncated.into())
    }
}
