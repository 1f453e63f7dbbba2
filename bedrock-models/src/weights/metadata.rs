//! The typed keys and values of a GGUF file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// One value of a GGUF file's metadata.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Unsigned byte.
    U8(u8),
    /// Signed byte.
    I8(i8),
    /// Unsigned 16-bit integer.
    U16(u16),
    /// Signed 16-bit integer.
    I16(i16),
    /// Unsigned 32-bit integer.
    U32(u32),
    /// Signed 32-bit integer.
    I32(i32),
    /// Unsigned 64-bit integer.
    U64(u64),
    /// Signed 64-bit integer.
    I64(i64),
    /// Single precision number.
    F32(f32),
    /// Double precision number.
    F64(f64),
    /// Truth value.
    Bool(bool),
    /// Text.
    String(String),
    /// Several values of one type.
    Array(Array),
}

/// Several metadata values of one type: a vocabulary of 150,000 tokens is one of these.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// Unsigned bytes.
    U8(Vec<u8>),
    /// Signed bytes.
    I8(Vec<i8>),
    /// Unsigned 16-bit integers.
    U16(Vec<u16>),
    /// Signed 16-bit integers.
    I16(Vec<i16>),
    /// Unsigned 32-bit integers.
    U32(Vec<u32>),
    /// Signed 32-bit integers.
    I32(Vec<i32>),
    /// Unsigned 64-bit integers.
    U64(Vec<u64>),
    /// Signed 64-bit integers.
    I64(Vec<i64>),
    /// Single precision numbers.
    F32(Vec<f32>),
    /// Double precision numbers.
    F64(Vec<f64>),
    /// Truth values.
    Bool(Vec<bool>),
    /// Texts.
    String(Vec<String>),
    /// Arrays, each of its own type.
    Array(Vec<Array>),
}

impl Array {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::I8(values) => values.len(),
            Self::U16(values) => values.len(),
            Self::I16(values) => values.len(),
            Self::U32(values) => values.len(),
            Self::I32(values) => values.len(),
            Self::U64(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
            Self::Bool(values) => values.len(),
            Self::String(values) => values.len(),
            Self::Array(values) => values.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn type_name(&self) -> &'static str {
        match self {
            Self::U8(_) => "u8",
            Self::I8(_) => "i8",
            Self::U16(_) => "u16",
            Self::I16(_) => "i16",
            Self::U32(_) => "u32",
            Self::I32(_) => "i32",
            Self::U64(_) => "u64",
            Self::I64(_) => "i64",
            Self::F32(_) => "f32",
            Self::F64(_) => "f64",
            Self::Bool(_) => "bool",
            Self::String(_) => "string",
            Self::Array(_) => "array",
        }
    }

    /// The elements as integers, if they are.
    fn integers(&self) -> Option<Vec<i128>> {
        Some(match self {
            Self::U8(values) => values.iter().map(|&value| value.into()).collect(),
            Self::I8(values) => values.iter().map(|&value| value.into()).collect(),
            Self::U16(values) => values.iter().map(|&value| value.into()).collect(),
            Self::I16(values) => values.iter().map(|&value| value.into()).collect(),
            Self::U32(values) => values.iter().map(|&value| value.into()).collect(),
            Self::I32(values) => values.iter().map(|&value| value.into()).collect(),
            Self::U64(values) => values.iter().map(|&value| value.into()).collect(),
            Self::I64(values) => values.iter().map(|&value| value.into()).collect(),
            _ => return None,
        })
    }
}

impl Value {
    /// The type, and for what fits a line the value too: for messages.
    fn describe(&self) -> String {
        match self {
            Self::U8(value) => format!("{value} (u8)"),
            Self::I8(value) => format!("{value} (i8)"),
            Self::U16(value) => format!("{value} (u16)"),
            Self::I16(value) => format!("{value} (i16)"),
            Self::U32(value) => format!("{value} (u32)"),
            Self::I32(value) => format!("{value} (i32)"),
            Self::U64(value) => format!("{value} (u64)"),
            Self::I64(value) => format!("{value} (i64)"),
            Self::F32(value) => format!("{value} (f32)"),
            Self::F64(value) => format!("{value} (f64)"),
            Self::Bool(value) => format!("{value} (bool)"),
            Self::String(_) => "a string".to_string(),
            Self::Array(array) => format!("an array of {} {}", array.len(), array.type_name()),
        }
    }

    fn integer(&self) -> Option<i128> {
        Some(match *self {
            Self::U8(value) => value.into(),
            Self::I8(value) => value.into(),
            Self::U16(value) => value.into(),
            Self::I16(value) => value.into(),
            Self::U32(value) => value.into(),
            Self::I32(value) => value.into(),
            Self::U64(value) => value.into(),
            Self::I64(value) => value.into(),
            _ => return None,
        })
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that a metadata [`Value`] can be read as.
///
/// Writers of GGUF disagree about widths, so integers of any width are read as any other that can hold the value, and
/// both float types as either. Nothing else is converted.
pub trait FromValue<'a>: sealed::Sealed + Sized {
    /// What the type is called in an error.
    const EXPECTED: &'static str;

    /// The value as this type, or `None` if it is of another one or out of range.
    fn from_value(value: &'a Value) -> Option<Self>;
}

macro_rules! integers {
    ($($type:ty: $one:literal, $many:literal;)*) => {$(
        impl sealed::Sealed for $type {}
        impl FromValue<'_> for $type {
            const EXPECTED: &'static str = $one;
            fn from_value(value: &Value) -> Option<Self> {
                value.integer()?.try_into().ok()
            }
        }
        impl sealed::Sealed for Vec<$type> {}
        impl FromValue<'_> for Vec<$type> {
            const EXPECTED: &'static str = $many;
            fn from_value(value: &Value) -> Option<Self> {
                let Value::Array(array) = value else { return None };
                array.integers()?.into_iter().map(|value| value.try_into().ok()).collect()
            }
        }
    )*};
}

integers! {
    u32: "a 32-bit unsigned integer", "an array of 32-bit unsigned integers";
    i32: "a 32-bit integer", "an array of 32-bit integers";
    u64: "a 64-bit unsigned integer", "an array of 64-bit unsigned integers";
    i64: "a 64-bit integer", "an array of 64-bit integers";
    usize: "a size", "an array of sizes";
}

impl sealed::Sealed for f32 {}
impl FromValue<'_> for f32 {
    const EXPECTED: &'static str = "a floating point number";
    fn from_value(value: &Value) -> Option<Self> {
        match *value {
            Value::F32(value) => Some(value),
            Value::F64(value) => Some(value as f32),
            _ => None,
        }
    }
}

impl sealed::Sealed for f64 {}
impl FromValue<'_> for f64 {
    const EXPECTED: &'static str = "a floating point number";
    fn from_value(value: &Value) -> Option<Self> {
        match *value {
            Value::F32(value) => Some(value.into()),
            Value::F64(value) => Some(value),
            _ => None,
        }
    }
}

impl sealed::Sealed for Vec<f32> {}
impl FromValue<'_> for Vec<f32> {
    const EXPECTED: &'static str = "an array of floating point numbers";
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Array(Array::F32(values)) => Some(values.clone()),
            Value::Array(Array::F64(values)) => Some(values.iter().map(|&value| value as f32).collect()),
            _ => None,
        }
    }
}

impl sealed::Sealed for bool {}
impl FromValue<'_> for bool {
    const EXPECTED: &'static str = "a truth value";
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Bool(value) = value { Some(*value) } else { None }
    }
}

impl sealed::Sealed for Vec<bool> {}
impl FromValue<'_> for Vec<bool> {
    const EXPECTED: &'static str = "an array of truth values";
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Array(Array::Bool(values)) = value { Some(values.clone()) } else { None }
    }
}

impl sealed::Sealed for &str {}
impl<'a> FromValue<'a> for &'a str {
    const EXPECTED: &'static str = "a string";
    fn from_value(value: &'a Value) -> Option<Self> {
        if let Value::String(value) = value { Some(value) } else { None }
    }
}

impl sealed::Sealed for &[String] {}
impl<'a> FromValue<'a> for &'a [String] {
    const EXPECTED: &'static str = "an array of strings";
    fn from_value(value: &'a Value) -> Option<Self> {
        if let Value::Array(Array::String(values)) = value { Some(values) } else { None }
    }
}

/// The metadata of a GGUF file: architecture, hyperparameters, tokenizer, chat template.
///
/// ```
/// use bedrock_models::weights::{Metadata, Value};
///
/// let mut metadata = Metadata::new("model.gguf");
/// metadata.insert("general.architecture", Value::String("llama".into()));
/// metadata.insert("llama.block_count", Value::U32(30));
/// assert_eq!(metadata.required::<&str>("general.architecture")?, "llama");
/// assert_eq!(metadata.required::<usize>("llama.block_count")?, 30);
/// assert_eq!(metadata.optional::<f32>("llama.rope.freq_base")?, None);
/// # Ok::<(), bedrock_models::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Metadata {
    path: PathBuf,
    values: BTreeMap<String, Value>,
}

impl Metadata {
    /// Empty metadata; `path` is the file that errors name.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), values: BTreeMap::new() }
    }

    /// Sets a key and returns what it held before.
    pub fn insert(&mut self, key: impl Into<String>, value: Value) -> Option<Value> {
        self.values.insert(key.into(), value)
    }

    /// The file that the metadata came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// All keys and values, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The value of a key as a Rust type, or `None` if the key is absent.
    ///
    /// # Errors
    /// [`Error::MetadataType`] if the key is there with another type, or with a number out of range.
    pub fn optional<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, Error> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        match T::from_value(value) {
            Some(value) => Ok(Some(value)),
            None => Err(Error::MetadataType {
                path: self.path.clone(),
                key: key.to_string(),
                expected: T::EXPECTED,
                got: value.describe(),
            }),
        }
    }

    /// The value of a key as a Rust type.
    ///
    /// # Errors
    /// [`Error::MissingMetadata`] if the key is absent, [`Error::MetadataType`] as for [`optional`](Self::optional).
    pub fn required<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, Error> {
        self.optional(key)?.ok_or_else(|| Error::MissingMetadata { path: self.path.clone(), key: key.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(value: Value) -> Metadata {
        let mut metadata = Metadata::new("m.gguf");
        metadata.insert("k", value);
        metadata
    }

    #[test]
    fn integers_of_any_width_are_read_if_they_fit() {
        for value in [Value::U8(7), Value::I8(7), Value::U16(7), Value::I32(7), Value::U64(7), Value::I64(7)] {
            let metadata = metadata(value);
            assert_eq!(metadata.required::<u32>("k").unwrap(), 7);
            assert_eq!(metadata.required::<i64>("k").unwrap(), 7);
        }
        let error = metadata(Value::I32(-1)).required::<u32>("k").unwrap_err();
        assert_eq!(error.to_string(), "m.gguf: metadata key k should be a 32-bit unsigned integer, but is -1 (i32)");
        assert!(metadata(Value::U64(1 << 40)).required::<u32>("k").is_err());
    }

    #[test]
    fn types_are_not_guessed() {
        assert!(metadata(Value::Bool(true)).required::<u32>("k").is_err());
        assert!(metadata(Value::U32(1)).required::<bool>("k").is_err());
        assert!(metadata(Value::U32(1)).required::<f32>("k").is_err());
        let error = metadata(Value::Array(Array::String(vec!["a".into()]))).required::<&str>("k").unwrap_err();
        assert_eq!(error.to_string(), "m.gguf: metadata key k should be a string, but is an array of 1 string");
    }

    #[test]
    fn absent_is_not_wrong() {
        let metadata = Metadata::new("m.gguf");
        assert_eq!(metadata.optional::<&[String]>("k").unwrap(), None);
        assert_eq!(metadata.required::<&str>("k").unwrap_err().to_string(), "m.gguf has no metadata key k");
    }

    #[test]
    fn arrays_convert_as_their_elements_do() {
        let metadata = metadata(Value::Array(Array::I32(vec![1, 3])));
        assert_eq!(metadata.required::<Vec<u32>>("k").unwrap(), [1, 3]);
        assert!(metadata.required::<Vec<f32>>("k").is_err());
        assert!(super::Metadata::new("").optional::<Vec<u32>>("k").unwrap().is_none());
    }
}
