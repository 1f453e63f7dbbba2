//! Keys and tokens.

use std::fmt;

use bedrock_core::Error;
use zeroize::Zeroizing;

/// What nobody may read in a log: a key, a token. Neither `Debug` nor an error shows it, and its memory is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a key; blanks around it, which copying leaves behind, are cut off.
    pub fn new(key: impl Into<String>) -> Self {
        let key = Zeroizing::new(key.into());
        Self(Zeroizing::new(key.trim().to_owned()))
    }

    /// The key itself.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }

    /// The text without the key, should somebody have written it there.
    pub(super) fn redact(&self, text: String) -> String {
        // Keys are long; a short word is no key of anybody and may stand anywhere.
        if self.0.len() < 4 || !text.contains(self.0.as_str()) {
            return text;
        }
        text.replace(self.0.as_str(), "[redacted]")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl From<&str> for Secret {
    fn from(key: &str) -> Self {
        Self::new(key)
    }
}

impl From<String> for Secret {
    fn from(key: String) -> Self {
        Self::new(key)
    }
}

/// The key in a variable of the environment.
pub(super) fn variable(name: &str) -> Result<Secret, Error> {
    match std::env::var(name) {
        Ok(key) if !key.trim().is_empty() => Ok(Secret::new(key)),
        _ => Err(Error::access_denied(format!("the environment variable {name} is not set"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::new(" sk-123456\n");
        assert_eq!(secret.expose(), "sk-123456");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(secret.redact("wrong key sk-123456!".into()), "wrong key [redacted]!");
    }
}
