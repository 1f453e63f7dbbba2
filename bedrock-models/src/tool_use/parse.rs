//! Calls in an answer, found while it is generated.

use serde_json::{Map, Value};

use super::call::{CallObject, Found};
use super::scan::{Part, Scanner};
use super::{ARGS, CALL_ID, CallSyntax, Words};

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CallPiece {
    /// Text outside of calls.
    Text(String),
    /// A call of the tool of this name begins.
    Begin(String),
    /// More of its input; joined, the pieces of a well-formed call are a JSON object. None: an empty one.
    Input(String),
    /// The call is over.
    End,
}

/// What an answer was, at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallOutcome {
    /// Text alone.
    Text,
    /// At least one call, all of them complete.
    Calls,
    /// The answer ended in the middle of a call.
    Unfinished,
    /// A call cannot be read.
    Malformed,
}

/// Cuts an answer into text and calls.
///
/// Text is given out as it comes, but for white space and the beginning of what may become the mark of a call. The name of a
/// bare call ([`Words::bare`]) must be one of the request's tools, since JSON may be an answer too. Law: however the answer is cut
/// into pieces, the joined result is the same; and of an answer without calls nothing is lost.
#[derive(Debug, Clone)]
pub(crate) struct CallParser {
    syntax: CallSyntax,
    words: Words,
    tools: Vec<String>,
    state: State,
    /// White space that belongs to the text if more text follows.
    space: String,
    /// The beginning of a mark.
    partial: String,
    /// What was said since the mark, as long as no call has begun.
    raw: String,
    /// Input of the call that has begun.
    input: String,
    /// Whether a call has begun and not ended.
    begun: bool,
    /// A call that means "no call".
    silent: bool,
    /// Nothing has come but white space and bare calls.
    beginning: bool,
    calls: usize,
    malformed: bool,
    out: Vec<CallPiece>,
}

#[derive(Debug, Clone)]
enum State {
    Text,
    /// A `[` that may begin a list of bare calls.
    MaybeList,
    /// After the mark.
    Opened,
    /// The name in `[TOOL_CALLS]name[ARGS]`.
    Name(String),
    /// The input after it.
    Input(Scanner),
    /// A call's object. `tentative`: it may still be no call.
    Object {
        object: Box<CallObject>,
        listed: bool,
        tentative: bool,
    },
    /// Inside a list, before an item or after one.
    List {
        after_item: bool,
    },
    /// Before the closing mark.
    Closing,
    /// After what no call has: the rest of the answer.
    Broken,
}

/// Command R's tool for answering without a tool.
const NO_CALL: &str = "directly_answer";

/// Characters of a name before `[ARGS]`, an id included.
const MAX_NAME: usize = 256;

impl CallParser {
    /// Before the first character of an answer to a request with `tools`.
    pub(crate) fn new(syntax: CallSyntax, tools: Vec<String>) -> Self {
        Self {
            syntax,
            words: syntax.words(),
            tools,
            state: State::Text,
            space: String::new(),
            partial: String::new(),
            raw: String::new(),
            input: String::new(),
            begun: false,
            silent: false,
            beginning: true,
            calls: 0,
            malformed: false,
            out: Vec::new(),
        }
    }

    /// Takes the next piece of the answer.
    pub(crate) fn push(&mut self, text: &str) -> Vec<CallPiece> {
        text.chars().for_each(|character| self.step(character));
        std::mem::take(&mut self.out)
    }

    /// Ends the answer.
    pub(crate) fn finish(&mut self) -> (Vec<CallPiece>, CallOutcome) {
        let mut unfinished = false;
        match &self.state {
            // White space at the end of text is text; between calls and the end it is nothing.
            State::Text if self.calls == 0 || !self.partial.is_empty() => {
                let held = std::mem::take(&mut self.space) + &std::mem::take(&mut self.partial);
                self.text(&held);
            }
            State::Text | State::Closing | State::Broken => {}
            State::MaybeList | State::Object { tentative: true, .. } => self.release(),
            _ => {
                unfinished = true;
                let raw = std::mem::take(&mut self.raw);
                if !self.begun {
                    self.text(&raw);
                }
            }
        }
        if std::mem::take(&mut self.begun) {
            self.emit(CallPiece::End);
        }
        let outcome = match (self.malformed, unfinished, self.calls) {
            (true, ..) => CallOutcome::Malformed,
            (_, true, _) => CallOutcome::Unfinished,
            (_, _, 0) => CallOutcome::Text,
            _ => CallOutcome::Calls,
        };
        (std::mem::take(&mut self.out), outcome)
    }

    fn step(&mut self, character: char) {
        let space = character.is_whitespace();
        match &mut self.state {
            State::Text => self.in_text(character),
            State::MaybeList => match character {
                '{' => {
                    self.raw.push(character);
                    self.object(true, true, character);
                }
                _ => {
                    self.raw.push(character);
                    if !space {
                        self.release();
                    }
                }
            },
            State::Opened => {
                self.raw.push(character);
                let names = matches!(self.syntax, CallSyntax::Mistral | CallSyntax::MistralArgs);
                match character {
                    '[' => self.state = State::List { after_item: false },
                    '{' => self.object(false, false, character),
                    _ if space => {}
                    _ if names => self.state = State::Name(character.to_string()),
                    _ => self.broken(),
                }
            }
            State::Name(name) => {
                self.raw.push(character);
                name.push(character);
                let end = name.strip_suffix(ARGS).or_else(|| name.strip_suffix('{'));
                match end.map(|end| end.split(CALL_ID).next().unwrap_or_default().trim().to_string()) {
                    Some(name) => {
                        self.state = State::Input(Scanner::new());
                        if self.begin(name) && character == '{' {
                            self.step(character);
                        }
                    }
                    None if name.len() > MAX_NAME => self.broken(),
                    None => {}
                }
            }
            State::Input(scanner) => {
                let before = scanner.depth();
                match scanner.push(character) {
                    Ok(Part::Space) if before == 0 => {}
                    Ok(part) if before > 0 || part == Part::Open && character == '{' => {
                        let done = scanner.is_done();
                        self.add_input(character);
                        if done {
                            self.end();
                            self.state = State::Text;
                        }
                    }
                    _ => {
                        self.add_input(character);
                        self.broken();
                    }
                }
            }
            State::Object { .. } => {
                if !self.begun {
                    self.raw.push(character);
                }
                self.in_object(character);
            }
            State::List { after_item } => {
                self.raw.push(character);
                match (character, *after_item) {
                    ('{', false) => self.object(true, false, character),
                    (',', true) => *after_item = false,
                    // No call at all: only Command R says so that it needs none.
                    (']', false) if self.calls == 0 && !self.commands() => self.release(),
                    (']', _) => self.after_calls(),
                    _ if space => {}
                    _ => self.broken(),
                }
            }
            State::Closing => self.in_closing(character),
            State::Broken if self.begun => self.add_input(character),
            State::Broken => self.text(character.encode_utf8(&mut [0; 4])),
        }
    }

    fn in_text(&mut self, character: char) {
        if self.partial.is_empty() {
            let bare = self.words.bare && self.beginning;
            if bare && matches!(character, '{' | '[') {
                self.raw = std::mem::take(&mut self.space);
                self.raw.push(character);
                match character {
                    '{' => self.object(false, true, character),
                    _ => self.state = State::MaybeList,
                }
                return;
            }
            // Llama puts semicolons between calls.
            if character.is_whitespace() || bare && self.calls > 0 && character == ';' {
                self.space.push(character);
                return;
            }
        }
        self.partial.push(character);
        let open = self.words.open;
        if open.is_empty() || !open.starts_with(&self.partial) {
            // The first character is text; the others may begin a mark of their own.
            let held = std::mem::take(&mut self.partial);
            let mut characters = held.chars();
            let first = characters.next().unwrap_or(character);
            let text = std::mem::take(&mut self.space) + first.encode_utf8(&mut [0; 4]);
            self.text(&text);
            characters.for_each(|character| self.step(character));
        } else if self.partial == open {
            self.raw = std::mem::take(&mut self.space) + &std::mem::take(&mut self.partial);
            self.state = State::Opened;
        }
    }

    fn object(&mut self, listed: bool, tentative: bool, character: char) {
        self.state = State::Object { object: Box::new(CallObject::new()), listed, tentative };
        self.in_object(character);
    }

    fn in_object(&mut self, character: char) {
        let State::Object { object, listed, tentative } = &mut self.state else { return };
        let (listed, tentative) = (*listed, *tentative);
        let Ok(found) = object.push(character) else {
            if self.begun {
                self.add_input(character);
            }
            return if tentative { self.release() } else { self.broken() };
        };
        if tentative && object.is_unlike_a_call() {
            return self.release();
        }
        for found in found {
            match found {
                Found::Name(name) => {
                    if tentative && !self.tools.contains(&name) {
                        return self.release();
                    }
                    if let State::Object { tentative, .. } = &mut self.state {
                        *tentative = false;
                    }
                    if !self.begin(name) {
                        return;
                    }
                }
                Found::Input(character) => self.add_input(character),
                Found::WholeInput(input) => input.chars().for_each(|character| self.add_input(character)),
                Found::End => {
                    self.end();
                    if listed {
                        self.state = State::List { after_item: true };
                    } else {
                        self.after_calls();
                    }
                }
            }
        }
    }

    fn in_closing(&mut self, character: char) {
        if self.partial.is_empty() && character.is_whitespace() {
            return;
        }
        self.partial.push(character);
        let close = self.words.close;
        if self.partial == close {
            self.partial.clear();
            self.state = State::Text;
        } else if !close.starts_with(&self.partial) {
            // Some models leave the closing mark out.
            let held = std::mem::take(&mut self.partial);
            if held == "{" {
                self.raw = held;
                return self.object(false, false, character);
            }
            self.state = State::Text;
            held.chars().for_each(|character| self.step(character));
        }
    }

    /// After an object or a list of them.
    fn after_calls(&mut self) {
        self.raw.clear();
        self.state = if self.words.close.is_empty() { State::Text } else { State::Closing };
    }

    /// Begins a call, unless no tool can have this name.
    fn begin(&mut self, name: String) -> bool {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if !(1..=64).contains(&name.len()) || !name.bytes().all(allowed) {
            self.broken();
            return false;
        }
        self.silent = self.commands() && name == NO_CALL && !self.tools.contains(&name);
        self.begun = true;
        self.raw.clear();
        self.input.clear();
        self.emit(CallPiece::Begin(name));
        true
    }

    /// Whether these are the calls of Command R.
    fn commands(&self) -> bool {
        matches!(self.syntax, CallSyntax::CommandR | CallSyntax::CommandA)
    }

    fn add_input(&mut self, character: char) {
        self.input.push(character);
        match self.out.last_mut() {
            Some(CallPiece::Input(input)) => input.push(character),
            _ => self.emit(CallPiece::Input(character.to_string())),
        }
    }

    fn end(&mut self) {
        // What no reader of JSON takes, such as a number beyond all bounds, is not well-formed for the caller either.
        let input = std::mem::take(&mut self.input);
        self.malformed |= !input.is_empty() && serde_json::from_str::<Map<String, Value>>(&input).is_err();
        self.calls += usize::from(!self.silent);
        self.emit(CallPiece::End);
        self.begun = false;
        self.silent = false;
    }

    /// What was held for a call was none.
    fn release(&mut self) {
        self.state = State::Text;
        let raw = std::mem::take(&mut self.raw);
        self.text(&raw);
    }

    /// What was said is no call and pretends to be one: it is shown as it is.
    fn broken(&mut self) {
        self.malformed = true;
        self.state = State::Broken;
        let raw = std::mem::take(&mut self.raw);
        if !self.begun {
            self.text(&raw);
        }
    }

    fn text(&mut self, text: &str) {
        self.beginning &= text.is_empty();
        match self.out.last_mut() {
            Some(CallPiece::Text(last)) => last.push_str(text),
            _ if text.is_empty() => {}
            _ => self.out.push(CallPiece::Text(text.to_string())),
        }
    }

    fn emit(&mut self, piece: CallPiece) {
        if !self.silent {
            self.out.push(piece);
        }
    }
}

#[cfg(test)]
mod tests;
