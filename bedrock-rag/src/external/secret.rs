//! What must not be seen.

use std::fmt;

/// A password, key or address with one in it: given to the server, and to nobody else.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// A server's message without the secret, should it repeat it, and without its end if it is long.
    pub(crate) fn redact(&self, message: &str) -> String {
        let shown = if self.0.is_empty() { message.to_owned() } else { message.replace(&self.0, "[redacted]") };
        shown.chars().take(300).collect()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "[redacted]");
        assert_eq!(secret.redact("no user with hunter2"), "no user with [redacted]");
        assert_eq!(secret.redact(&"x".repeat(1000)).len(), 300);
        assert_eq!(Secret::new("").redact("abc"), "abc");
    }
}
