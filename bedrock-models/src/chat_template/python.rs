//! Python's way of doing things, where templates depend on it and minijinja has its own.
//!
//! One thing is missing: there are no tuples, so a pair that is printed as a whole looks like a list.

use std::fmt::Write as _;

use minijinja::value::{Kwargs, Rest, ValueKind, from_args};
use minijinja::{Error, ErrorKind, FormatStyle, State, Value, format_filter};

use super::sandbox::Meter;

/// `str(value)`.
pub(super) fn to_str(value: &Value) -> String {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => repr(value),
        ValueKind::Number => number(value),
        _ => value.to_string(),
    }
}

/// `repr(value)`.
fn repr(value: &Value) -> String {
    let mut out = String::new();
    write_repr(value, &mut out);
    out
}

fn write_repr(value: &Value, out: &mut String) {
    match value.kind() {
        ValueKind::String => quote(value.as_str().unwrap_or_default(), out),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            for (index, item) in value.try_iter().into_iter().flatten().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_repr(&item, out);
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (index, (key, item)) in pairs(value).enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_repr(&key, out);
                out.push_str(": ");
                write_repr(&item, out);
            }
            out.push('}');
        }
        _ => out.push_str(&value.to_string()),
    }
}

fn pairs(map: &Value) -> impl Iterator<Item = (Value, Value)> {
    let object = map.as_object().cloned();
    object.into_iter().flat_map(|object| object.try_iter_pairs().into_iter().flatten().collect::<Vec<_>>())
}

/// A Python string literal: single quotes, unless the text has those and no double ones.
fn quote(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            character if character == quote => {
                out.push('\\');
                out.push(character);
            }
            character
                if (character as u32) < 0x20 || (0x7f..0xa1).contains(&(character as u32)) || character == '\u{ad}' =>
            {
                let _ = write!(out, "\\x{:02x}", character as u32);
            }
            character => out.push(character),
        }
    }
    out.push(quote);
}

/// A number as Python writes it: floats always with a point or an exponent.
fn number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() => float_repr(float),
        _ => value.to_string(),
    }
}

fn float_repr(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    // The shortest digits that read back, as in Python; only the layout differs.
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..16).contains(&exponent) {
        let plain = value.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// `json.dumps` as transformers sets it up: no HTML escapes, all characters kept, keys in their order.
pub(super) fn tojson(meter: &Meter, value: &Value, options: &Kwargs) -> Result<Value, Error> {
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let indent = match options.get::<Option<Value>>("indent")? {
        None => None,
        Some(indent) if indent.is_none() || indent.is_undefined() => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_string(),
            None => " ".repeat(meter.width(i64::try_from(indent)?)?),
        }),
    };
    let separators = options.get::<Option<Vec<String>>>("separators")?;
    options.assert_all_used()?;
    let (item, key) = match separators.as_deref() {
        None if indent.is_some() => (",", ": "),
        None => (", ", ": "),
        Some([item, key]) => (item.as_str(), key.as_str()),
        Some(_) => return Err(invalid("separators must be two strings")),
    };
    let mut json = Json { meter, ascii, sort_keys, indent: indent.as_deref(), item, key, out: String::new() };
    json.write(value, 0)?;
    Ok(Value::from(json.out))
}

struct Json<'a> {
    meter: &'a Meter,
    ascii: bool,
    sort_keys: bool,
    indent: Option<&'a str>,
    item: &'a str,
    key: &'a str,
    out: String,
}

impl Json<'_> {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.meter.fits(self.out.len())?;
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => {
                let text = number(value);
                self.out.push_str(match text.as_str() {
                    "nan" => "NaN",
                    "inf" => "Infinity",
                    "-inf" => "-Infinity",
                    text => text,
                });
            }
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let mut empty = true;
                self.out.push('[');
                for item in value.try_iter()? {
                    self.separate(&mut empty, depth + 1);
                    self.write(&item, depth + 1)?;
                }
                self.close(empty, depth);
                self.out.push(']');
            }
            ValueKind::Map => {
                let mut entries: Vec<(Value, Value)> = pairs(value).collect();
                if self.sort_keys {
                    entries.sort_by(|a, b| a.0.cmp(&b.0));
                }
                let mut empty = true;
                self.out.push('{');
                for (key, item) in &entries {
                    self.separate(&mut empty, depth + 1);
                    match key.kind() {
                        ValueKind::String => self.string(key.as_str().unwrap_or_default()),
                        ValueKind::Bool | ValueKind::None | ValueKind::Number => {
                            self.out.push('"');
                            self.write(key, depth)?;
                            self.out.push('"');
                        }
                        kind => return Err(invalid(format!("a key of JSON cannot be {kind}"))),
                    }
                    self.out.push_str(self.key);
                    self.write(item, depth + 1)?;
                }
                self.close(empty, depth);
                self.out.push('}');
            }
            kind => return Err(invalid(format!("{kind} is not JSON serializable"))),
        }
        Ok(())
    }

    fn separate(&mut self, empty: &mut bool, depth: usize) {
        if !std::mem::replace(empty, false) {
            self.out.push_str(self.item);
        }
        self.line(depth);
    }

    fn close(&mut self, empty: bool, depth: usize) {
        if !empty {
            self.line(depth);
        }
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            (0..depth).for_each(|_| self.out.push_str(indent));
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            match character {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                character if (character as u32) < 0x20 || self.ascii && !character.is_ascii() => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                character => self.out.push(character),
            }
        }
        self.out.push('"');
    }
}

/// The filter `join`, with items as `str` shows them.
pub(super) fn join(meter: &Meter, values: &Value, separator: &str) -> Result<String, Error> {
    let mut out = String::new();
    for (index, value) in values.try_iter()?.enumerate() {
        if index > 0 {
            out.push_str(separator);
        }
        match value.as_str() {
            Some(text) => out.push_str(text),
            None => out.push_str(&to_str(&value)),
        }
        meter.fits(out.len())?;
    }
    Ok(out)
}

/// `str.replace`; a negative count replaces all.
pub(super) fn replace(meter: &Meter, text: &str, from: &str, to: &str, count: Option<i64>) -> Result<String, Error> {
    let limit = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
    let times = text.matches(from).take(limit).count();
    meter.fits(text.len().saturating_add(times.saturating_mul(to.len())))?;
    Ok(text.replacen(from, to, limit))
}

/// The filter `indent`.
pub(super) fn indent(meter: &Meter, text: &str, indent: &str, first: bool, blank: bool) -> Result<String, Error> {
    let lines = text.matches('\n').count() + 1;
    meter.fits(text.len().saturating_add(lines.saturating_mul(indent.len())))?;
    let mut out = String::new();
    // As Jinja: a final line break is a line of its own, which is empty.
    for (index, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if index > 0 {
            out.push('\n');
        }
        if if index == 0 { first } else { blank || !line.is_empty() } {
            out.push_str(indent);
        }
        out.push_str(line);
    }
    Ok(out)
}

/// `str.format` and the filter `format`, without widths that make something out of nothing.
pub(super) fn format(meter: &Meter, style: FormatStyle, text: &str, args: &[Value]) -> Result<String, Error> {
    let longest_number = text.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or_default();
    if longest_number > 3 || (style == FormatStyle::Printf && text.contains('*')) {
        return Err(invalid("format strings with such widths are not supported"));
    }
    let size = args.iter().map(|arg| arg.as_str().map_or(64, str::len)).fold(0usize, usize::saturating_add);
    meter.fits(text.len().saturating_add(size.saturating_mul(text.matches(['{', '%']).count().max(1))))?;
    format_filter(style, text, args)
}

/// Methods of Python's strings, dictionaries and lists.
pub(super) fn method(meter: &Meter, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => string_method(meter, value.as_str().unwrap_or_default(), name, args),
        ValueKind::Map => map_method(value, name, args),
        ValueKind::Seq | ValueKind::Iterable => list_method(value, name, args),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn string_method(meter: &Meter, text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let none = |value: &str| -> Result<Value, Error> {
        let () = from_args(args)?;
        Ok(Value::from(value))
    };
    let all = |test: fn(char) -> bool| -> Result<Value, Error> {
        let () = from_args(args)?;
        Ok(Value::from(!text.is_empty() && text.chars().all(test)))
    };
    // Cased letters are all of one case, and there are some.
    let cased = |test: fn(char) -> bool, other: fn(char) -> bool| -> Result<Value, Error> {
        let () = from_args(args)?;
        Ok(Value::from(text.chars().any(test) && !text.chars().any(other)))
    };
    let chars = || -> Result<Option<Vec<char>>, Error> {
        let (chars,): (Option<Value>,) = from_args(args)?;
        Ok(chars.as_ref().and_then(Value::as_str).map(|chars| chars.chars().collect()))
    };
    let affix = |test: &dyn Fn(&str) -> bool| -> Result<Value, Error> {
        let (affix,): (&Value,) = from_args(args)?;
        if let Some(affix) = affix.as_str() {
            return Ok(Value::from(test(affix)));
        }
        for affix in affix.try_iter()? {
            let affix = affix.as_str().ok_or_else(|| invalid("expected a string or a tuple of strings"))?;
            if test(affix) {
                return Ok(Value::from(true));
            }
        }
        Ok(Value::from(false))
    };
    let characters_before = |found: Option<usize>| found.map_or(-1, |at| text[..at].chars().count() as i64);
    Ok(match name {
        "upper" => return none(&text.to_uppercase()),
        "lower" | "casefold" => return none(&text.to_lowercase()),
        "title" => return none(&title(text)),
        "capitalize" => {
            let mut rest = text.chars();
            let first = rest.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
            return none(&(first + &rest.as_str().to_lowercase()));
        }
        "strip" => match chars()? {
            Some(chars) => text.trim_matches(&chars[..]).into(),
            None => text.trim().into(),
        },
        "lstrip" => match chars()? {
            Some(chars) => text.trim_start_matches(&chars[..]).into(),
            None => text.trim_start().into(),
        },
        "rstrip" => match chars()? {
            Some(chars) => text.trim_end_matches(&chars[..]).into(),
            None => text.trim_end().into(),
        },
        "startswith" => return affix(&|affix| text.starts_with(affix)),
        "endswith" => return affix(&|affix| text.ends_with(affix)),
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            text.strip_prefix(prefix).unwrap_or(text).into()
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            text.strip_suffix(suffix).unwrap_or(text).into()
        }
        "replace" => {
            let (from, to, count): (&str, &str, Option<i64>) = from_args(args)?;
            replace(meter, text, from, to, count)?.into()
        }
        "split" | "rsplit" => {
            let (separator, limit, named): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
            let separator = named.get::<Option<Value>>("sep")?.or(separator);
            let limit = named.get::<Option<i64>>("maxsplit")?.or(limit);
            named.assert_all_used()?;
            let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
            let from_end = name == "rsplit";
            meter.fits(text.len())?;
            split(text, separator.as_ref().and_then(Value::as_str), limit, from_end)?.into()
        }
        "splitlines" => {
            let (keep,): (Option<bool>,) = from_args(args)?;
            let lines = text.split_inclusive('\n');
            let cut = |line: &str| {
                let bare = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
                Value::from(if keep.unwrap_or(false) { line.to_string() } else { bare.to_string() })
            };
            lines.map(cut).collect::<Vec<_>>().into()
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            if separator.is_empty() {
                return Err(invalid("empty separator"));
            }
            let from_end = name == "rpartition";
            let parts = if from_end { text.rsplit_once(separator) } else { text.split_once(separator) };
            let parts = match (parts, from_end) {
                (Some((before, after)), _) => [before, separator, after],
                (None, false) => [text, "", ""],
                (None, true) => ["", "", text],
            };
            parts.map(Value::from).to_vec().into()
        }
        "join" => {
            let (values,): (&Value,) = from_args(args)?;
            join(meter, values, text)?.into()
        }
        "find" => {
            let (what,): (&str,) = from_args(args)?;
            characters_before(text.find(what)).into()
        }
        "rfind" => {
            let (what,): (&str,) = from_args(args)?;
            characters_before(text.rfind(what)).into()
        }
        "index" => {
            let (what,): (&str,) = from_args(args)?;
            let at = text.find(what).ok_or_else(|| invalid("substring not found"))?;
            characters_before(Some(at)).into()
        }
        "count" => {
            let (what,): (&str,) = from_args(args)?;
            // An empty text is found between all characters.
            if what.is_empty() { text.chars().count() + 1 } else { text.matches(what).count() }.into()
        }
        "format" => format(meter, FormatStyle::StrFormat, text, args)?.into(),
        "zfill" | "ljust" | "rjust" | "center" => {
            let (width, fill): (i64, Option<&str>) = from_args(args)?;
            let missing = meter.width(width)?.saturating_sub(text.chars().count());
            let fill = fill.unwrap_or(if name == "zfill" { "0" } else { " " });
            meter.fits(text.len().saturating_add(missing.saturating_mul(fill.len())))?;
            let (left, right) = match name {
                "ljust" => (0, missing),
                "center" => (missing / 2, missing - missing / 2),
                _ => (missing, 0),
            };
            let (sign, digits) = match text.strip_prefix(['+', '-']) {
                Some(digits) if name == "zfill" => text.split_at(text.len() - digits.len()),
                _ => ("", text),
            };
            format!("{sign}{}{digits}{}", fill.repeat(left), fill.repeat(right)).into()
        }
        "isdigit" | "isdecimal" | "isnumeric" => return all(char::is_numeric),
        "isalpha" => return all(char::is_alphabetic),
        "isalnum" => return all(char::is_alphanumeric),
        "isspace" => return all(char::is_whitespace),
        "isascii" => Value::from(text.is_ascii()),
        "isupper" => return cased(char::is_uppercase, char::is_lowercase),
        "islower" => return cased(char::is_lowercase, char::is_uppercase),
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    })
}

/// `str.split`: at a separator, or at runs of white space without empty pieces.
fn split(text: &str, separator: Option<&str>, limit: usize, from_end: bool) -> Result<Vec<Value>, Error> {
    let mut pieces: Vec<&str> = Vec::new();
    match separator {
        Some("") => return Err(invalid("empty separator")),
        Some(separator) if from_end => {
            pieces.extend(text.rsplitn(limit.saturating_add(1), separator));
            pieces.reverse();
        }
        Some(separator) => pieces.extend(text.splitn(limit.saturating_add(1), separator)),
        None if from_end => {
            let mut rest = text.trim_end();
            while !rest.is_empty() {
                match rest.rfind(char::is_whitespace).filter(|_| pieces.len() < limit) {
                    Some(at) => {
                        let after = rest[at..].chars().next().map_or(at, |space| at + space.len_utf8());
                        pieces.push(&rest[after..]);
                        rest = rest[..at].trim_end();
                    }
                    None => {
                        pieces.push(if pieces.len() < limit { rest } else { rest.trim_end() });
                        rest = "";
                    }
                }
            }
            pieces.reverse();
        }
        None => {
            let mut rest = text.trim_start();
            while !rest.is_empty() {
                match rest.find(char::is_whitespace).filter(|_| pieces.len() < limit) {
                    Some(at) => {
                        pieces.push(&rest[..at]);
                        rest = rest[at..].trim_start();
                    }
                    None => {
                        pieces.push(rest);
                        rest = "";
                    }
                }
            }
        }
    }
    Ok(pieces.into_iter().map(Value::from).collect())
}

fn title(text: &str) -> String {
    let mut out = String::new();
    let mut in_word = false;
    for character in text.chars() {
        match in_word {
            true => out.extend(character.to_lowercase()),
            false => out.extend(character.to_uppercase()),
        }
        in_word = character.is_alphabetic();
    }
    out
}

fn map_method(map: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let Some(object) = map.as_object() else { return Err(Error::from(ErrorKind::UnknownMethod)) };
    Ok(match name {
        "get" => {
            let (key, default): (&Value, Option<Value>) = from_args(args)?;
            object.get_value(key).unwrap_or_else(|| default.unwrap_or(Value::from(())))
        }
        "items" => {
            let () = from_args(args)?;
            pairs(map).map(|(key, value)| Value::from(vec![key, value])).collect::<Vec<_>>().into()
        }
        "keys" => {
            let () = from_args(args)?;
            pairs(map).map(|(key, _)| key).collect::<Vec<_>>().into()
        }
        "values" => {
            let () = from_args(args)?;
            pairs(map).map(|(_, value)| value).collect::<Vec<_>>().into()
        }
        "copy" => {
            let () = from_args(args)?;
            map.clone()
        }
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    })
}

fn list_method(list: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    Ok(match name {
        "count" => {
            let (what,): (&Value,) = from_args(args)?;
            list.try_iter()?.filter(|item| item == what).count().into()
        }
        "index" => {
            let (what,): (&Value,) = from_args(args)?;
            let found = list.try_iter()?.position(|item| &item == what);
            found.ok_or_else(|| invalid("value is not in the list"))?.into()
        }
        "copy" => {
            let () = from_args(args)?;
            list.clone()
        }
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    })
}

/// `dict(other, key=value)`.
pub(super) fn dict(_: &State, first: Option<Value>, rest: Rest<Value>) -> Result<Value, Error> {
    let mut entries: Vec<(Value, Value)> = Vec::new();
    for map in first.iter().chain(rest.iter()) {
        match map.kind() {
            ValueKind::Map => entries.extend(pairs(map)),
            _ => {
                for pair in map.try_iter()? {
                    entries.push((pair.get_item(&Value::from(0))?, pair.get_item(&Value::from(1))?));
                }
            }
        }
    }
    Ok(Value::from_iter(entries))
}

pub(super) fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_laid_out_as_in_python() {
        for (value, text) in [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (-2.5, "-2.5"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (0.1, "0.1"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(float_repr(value), text);
        }
    }

    #[test]
    fn values_are_shown_as_in_python() {
        let value = Value::from_serialize(serde_json::json!({"a": [1, 2.0, true, null], "it's": "\"\n"}));
        assert_eq!(to_str(&value), r#"{'a': [1, 2.0, True, None], "it's": '"\n'}"#);
        assert_eq!(to_str(&Value::from("plain 'text'")), "plain 'text'");
    }

    fn call(text: &str, name: &str, args: &[Value]) -> String {
        match method(&Meter::for_input(1000), &Value::from(text), name, args) {
            Ok(value) => repr(&value),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn strings_have_their_methods() {
        let text = |text: &str| Value::from(text);
        assert_eq!(call(" a  b ", "split", &[]), "['a', 'b']");
        assert_eq!(call(" a  b c", "split", &[Value::from(()), Value::from(1)]), "['a', 'b c']");
        assert_eq!(
            call(" a  b c ", "rsplit", &[Value::from(()), Value::from(1)]),
            "['a  b', 'c']".replace("'a  b'", "' a  b'")
        );
        assert_eq!(call("a,b,,c", "split", &[text(",")]), "['a', 'b', '', 'c']");
        assert_eq!(call("a,b,c", "rsplit", &[text(","), Value::from(1)]), "['a,b', 'c']");
        assert_eq!(call("ab", "split", &[text("")]), "error: invalid operation: empty separator");
        assert_eq!(call("a</think>b</think>c", "partition", &[text("</think>")]), "['a', '</think>', 'b</think>c']");
        assert_eq!(call("xxhixx", "strip", &[text("x")]), "'hi'");
        assert_eq!(call("\n hi \n", "lstrip", &[text("\n")]), "' hi \\n'");
        assert_eq!(call("abc", "startswith", &[Value::from(vec!["x", "ab"])]), "True");
        assert_eq!(call("aXbX", "replace", &[text("X"), text("-"), Value::from(1)]), "'a-bX'");
        assert_eq!(call("aé🍯b", "find", &[text("b")]), "3");
        assert_eq!(call("abc", "count", &[text("")]), "4");
        assert_eq!(call("they're here", "title", &[]), "\"They'Re Here\"");
        assert_eq!(call("a\r\nb\n", "splitlines", &[]), "['a', 'b']");
        assert_eq!(call("-7", "zfill", &[Value::from(4)]), "'-007'");
        assert_eq!(call("{} {}", "format", &[Value::from(1), text("b")]), "'1 b'");
        assert!(call("{:9999}", "format", &[Value::from(1)]).starts_with("error"));
        assert!(call("a", "center", &[Value::from(i64::MAX)]).starts_with("error"));
        assert_eq!(call("a", "upper", &[]), "'A'");
        assert_eq!(call("A1", "isupper", &[]), "True");
    }

    #[test]
    fn json_is_that_of_json_dumps() {
        let dump = |value: serde_json::Value, options: Vec<(&str, Value)>| {
            let meter = Meter::for_input(1000);
            let options: Kwargs = options.into_iter().collect();
            tojson(&meter, &Value::from_serialize(value), &options).unwrap().to_string()
        };
        let value = serde_json::json!({"b": [1, 2.5, {}], "a": "é<\"\u{1}🍯"});
        assert_eq!(dump(value.clone(), vec![]), "{\"b\": [1, 2.5, {}], \"a\": \"é<\\\"\\u0001🍯\"}");
        assert_eq!(
            dump(value.clone(), vec![("indent", Value::from(2))]),
            "{\n  \"b\": [\n    1,\n    2.5,\n    {}\n  ],\n  \"a\": \"é<\\\"\\u0001🍯\"\n}"
        );
        assert_eq!(
            dump(
                value,
                vec![
                    ("ensure_ascii", Value::from(true)),
                    ("sort_keys", Value::from(true)),
                    ("separators", Value::from(vec![",", ":"]))
                ]
            ),
            "{\"a\":\"\\u00e9<\\\"\\u0001\\ud83c\\udf6f\",\"b\":[1,2.5,{}]}"
        );
    }
}
