//! What the JSON form of every shape shares: labels that may be unknown, and bytes.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bytes that travel as base64 (standard alphabet, padded): the service's `blob`.
///
/// `Debug` shows the length alone, so that a logged request does not carry pictures.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Blob(pub Vec<u8>);

impl Blob {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Blob;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes in base64")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Blob, E> {
                STANDARD.decode(text).map(Blob).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// Declares a string enum of the service. A label that this version does not know is kept word for word in
/// `Unknown`, so that a response or a log record of a newer service survives a round trip; requests that carry one are
/// refused by `validate()`.
macro_rules! label {
    ($($(#[$doc:meta])* pub enum $name:ident { $($(#[$vdoc:meta])* $variant:ident = $wire:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
            /// A label that this version does not know, as it was written.
            Unknown(String),
        }

        impl $name {
            /// Every label that is known, in the service's order.
            pub const KNOWN: &'static [Self] = &[$(Self::$variant),*];

            /// The label as it is written on the wire.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $wire,)*
                    Self::Unknown(label) => label,
                }
            }

            /// Whether this version knows the label.
            pub fn is_known(&self) -> bool {
                !matches!(self, Self::Unknown(_))
            }
        }

        impl From<&str> for $name {
            fn from(label: &str) -> Self {
                match label {
                    $($wire => Self::$variant,)*
                    _ => Self::Unknown(label.to_owned()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("a string: ", $("`", $wire, "` ",)*))
                    }
                    fn visit_str<E: serde::de::Error>(self, label: &str) -> Result<$name, E> {
                        Ok($name::from(label))
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }
    )*};
}
pub(crate) use label;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StopReason;

    #[test]
    fn bytes_travel_as_base64() {
        let blob: Blob = serde_json::from_str("\"AAEC/w==\"").unwrap();
        assert_eq!(blob.as_bytes(), [0, 1, 2, 255]);
        assert_eq!(serde_json::to_string(&blob).unwrap(), "\"AAEC/w==\"");
        assert_eq!(format!("{blob:?}"), "Blob(4 bytes)");
        for wrong in ["\"AAEC/w\"", "\"**\"", "7", "[0,1]"] {
            assert!(serde_json::from_str::<Blob>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_unknown_label_is_kept() {
        let reason: StopReason = serde_json::from_str("\"bored\"").unwrap();
        assert_eq!(reason, StopReason::Unknown("bored".into()));
        assert!(!reason.is_known());
        assert_eq!(serde_json::to_string(&reason).unwrap(), "\"bored\"");
        assert!(serde_json::from_str::<StopReason>("3").is_err());
    }
}
