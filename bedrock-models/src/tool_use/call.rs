//! One call: a JSON object with a name and arguments, as it comes.

use super::scan::{NotJson, Part, Scanner};

/// What is known of a call that was not known before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// The tool's name.
    Name(String),
    /// More of its input, as JSON text.
    Input(char),
    /// Input that came before the name, or as a text with JSON in it.
    WholeInput(String),
    /// The object is complete.
    End,
}

/// What a field is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Name,
    Input,
    /// Holds the call itself.
    Wrapper,
    /// `type`, `id` and the like.
    Other,
}

/// Reads the object of a call.
#[derive(Debug, Clone)]
pub(super) struct CallObject {
    scanner: Scanner,
    /// Depth of the object whose fields count: 1, or more inside of wrappers.
    level: usize,
    key: String,
    field: Option<Field>,
    /// The value of the field so far.
    value: String,
    name: Option<String>,
    /// Input that waits for the name.
    waiting: Option<String>,
    has_input: bool,
    /// See [`CallObject::is_unlike_a_call`].
    unknown_first: bool,
}

impl CallObject {
    /// Before its `{`.
    pub(super) fn new() -> Self {
        Self {
            scanner: Scanner::new(),
            level: 1,
            key: String::new(),
            field: None,
            value: String::new(),
            name: None,
            waiting: None,
            has_input: false,
            unknown_first: false,
        }
    }

    /// Whether a field has come that no call has, while the name was not known.
    pub(super) fn is_unlike_a_call(&self) -> bool {
        self.unknown_first
    }

    /// Takes the next character.
    pub(super) fn push(&mut self, character: char) -> Result<Vec<Found>, NotJson> {
        let part = self.scanner.push(character)?;
        let depth = self.scanner.depth();
        let mut found = Vec::new();
        match (part, self.field) {
            (Part::Key, None) if depth == self.level => self.key.push(character),
            (Part::Colon, None) if depth == self.level => {
                let key: String = serde_json::from_str(&self.key).unwrap_or_default();
                self.key.clear();
                self.value.clear();
                self.field = Some(self.classify(&key));
            }
            // The first level, and the end of a wrapper.
            (Part::Open, None) | (Part::Comma | Part::Space, None) => {}
            (Part::Close, None) => {
                if depth == 0 {
                    self.finish(&mut found)?;
                } else if depth < self.level {
                    self.level = depth;
                }
            }
            // The wrapper's own fields count from here on.
            (Part::Open, Some(Field::Wrapper)) if self.value.is_empty() && character == '{' => {
                self.level = depth;
                self.field = None;
            }
            (Part::Space, Some(_)) if depth == self.level => {}
            // What follows a number or word.
            (Part::Comma, Some(field)) if depth == self.level => self.end_field(field, &mut found)?,
            (Part::Close, Some(field)) if depth + 1 == self.level => {
                self.end_field(field, &mut found)?;
                self.level = depth.max(1);
                if depth == 0 {
                    self.finish(&mut found)?;
                }
            }
            (_, Some(field)) => {
                let streams = field == Field::Input
                    && self.name.is_some()
                    && (self.value.starts_with('{') || self.value.is_empty() && character == '{');
                if streams {
                    found.push(Found::Input(character));
                }
                // Of what streams, only that it began matters.
                if !streams || self.value.is_empty() {
                    self.value.push(character);
                }
            }
            (Part::Key | Part::Colon | Part::Scalar, None) => return Err(NotJson),
        }
        Ok(found)
    }

    fn classify(&mut self, key: &str) -> Field {
        match key {
            "name" | "tool_name" => Field::Name,
            "arguments" | "parameters" | "input" => Field::Input,
            "function" => Field::Wrapper,
            "type" | "id" | "tool_call_id" => Field::Other,
            _ => {
                self.unknown_first |= self.name.is_none();
                Field::Other
            }
        }
    }

    /// A field is complete.
    fn end_field(&mut self, field: Field, found: &mut Vec<Found>) -> Result<(), NotJson> {
        self.field = None;
        let value = std::mem::take(&mut self.value);
        match field {
            // `{"function": "name"}` is a name too.
            Field::Name | Field::Wrapper => {
                if self.name.is_some() {
                    return Err(NotJson);
                }
                let name: String = serde_json::from_str(&value).map_err(|_| NotJson)?;
                found.push(Found::Name(name.clone()));
                self.name = Some(name);
                if let Some(input) = self.waiting.take() {
                    found.push(Found::WholeInput(input));
                }
            }
            Field::Input => {
                if std::mem::replace(&mut self.has_input, true) {
                    return Err(NotJson);
                }
                // What began with a brace and has a name before it has been given out.
                if !(value.starts_with('{') && self.name.is_some()) {
                    let input = unpacked(value)?;
                    match self.name {
                        Some(_) => found.push(Found::WholeInput(input)),
                        None => self.waiting = Some(input),
                    }
                }
            }
            Field::Other => {}
        }
        Ok(())
    }

    fn finish(&mut self, found: &mut Vec<Found>) -> Result<(), NotJson> {
        if self.name.is_none() {
            return Err(NotJson);
        }
        found.push(Found::End);
        Ok(())
    }
}

/// Input as an object's text: some models write it as a text with JSON in it, and none as `null`.
fn unpacked(value: String) -> Result<String, NotJson> {
    if value.starts_with('{') {
        return Ok(value);
    }
    if value == "null" {
        return Ok("{}".into());
    }
    serde_json::from_str::<String>(&value).ok().filter(|inner| inner.trim_start().starts_with('{')).ok_or(NotJson)
}
