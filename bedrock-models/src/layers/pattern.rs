//! Values that some modules have for themselves, as PEFT's configurations give them: by patterns of their names.

use std::collections::BTreeMap;
use std::fmt;

use regex::{Regex, RegexBuilder};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::adapter::is_named;

/// Most patterns that are read.
const MOST: usize = 4096;
/// Most of them that are more than names, and the most bytes of each, compiled and while it searches: 64 MiB together.
const MOST_EXPRESSIONS: usize = 256;
const EXPRESSION_BYTES: usize = 128 << 10;

/// Patterns and values, in the order in which they are tried.
#[derive(Debug, Clone, Default)]
pub(crate) struct Patterns(Vec<(Pattern, f64)>);

#[derive(Debug, Clone)]
enum Pattern {
    /// The last names of a module.
    Name(String),
    Expression(Regex),
}

impl Patterns {
    /// Of modules by their names.
    pub(crate) fn names(values: BTreeMap<String, f64>) -> Self {
        Self(values.into_iter().map(|(name, value)| (Pattern::Name(name), value)).collect())
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = f64> + '_ {
        self.0.iter().map(|(_, value)| *value)
    }

    /// The value of a module: that of the first pattern which its last names are.
    pub(crate) fn of(&self, module: &str) -> Option<f64> {
        let fits = |pattern: &Pattern| match pattern {
            Pattern::Name(name) => is_named(module, name),
            Pattern::Expression(expression) => expression.is_match(module),
        };
        self.0.iter().find(|(pattern, _)| fits(pattern)).map(|(_, value)| *value)
    }
}

impl Pattern {
    fn read(text: String) -> Result<Self, regex::Error> {
        if text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
            return Ok(Self::Name(text));
        }
        // PEFT's `get_pattern_key`.
        let mut expression = RegexBuilder::new(&format!(r"\A(?:.*\.)?(?:{text})\z"));
        expression.size_limit(EXPRESSION_BYTES).dfa_size_limit(EXPRESSION_BYTES);
        Ok(Self::Expression(expression.build()?))
    }
}

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// The first that fits counts, so that the order of the file is kept.
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Patterns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("patterns of module names with numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Patterns, A::Error> {
                let (mut patterns, mut expressions) = (Vec::new(), 0);
                while let Some((pattern, value)) = map.next_entry::<String, f64>()? {
                    if patterns.len() == MOST {
                        return Err(A::Error::custom(format!("more than {MOST} patterns")));
                    }
                    let pattern = Pattern::read(pattern).map_err(A::Error::custom)?;
                    expressions += usize::from(matches!(pattern, Pattern::Expression(_)));
                    if expressions > MOST_EXPRESSIONS {
                        return Err(A::Error::custom(format!("more than {MOST_EXPRESSIONS} patterns beyond names")));
                    }
                    patterns.push((pattern, value));
                }
                Ok(Patterns(patterns))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pattern_that_fits_counts() {
        let text =
            r#"{"layers\\.[01]\\..*q_proj": 1, "q_proj": 2.5, "mlp.down_proj": 3, "self_attn\\.[kv]_proj|o_proj": 4}"#;
        let patterns: Patterns = serde_json::from_str(text).unwrap();
        let of = |module: &str| patterns.of(&format!("model.layers.{module}"));
        assert_eq!(of("0.self_attn.q_proj"), Some(1.0));
        assert_eq!(of("2.self_attn.q_proj"), Some(2.5));
        assert_eq!(of("2.mlp.down_proj"), Some(3.0));
        assert_eq!((of("2.self_attn.v_proj"), of("2.self_attn.o_proj")), (Some(4.0), Some(4.0)));
        assert_eq!((of("2.self_attn.o_proj.x"), of("2.self_attn.xq_proj")), (None, None));
        assert_eq!(patterns.values().sum::<f64>(), 10.5);
        for wrong in [r#"{"(": 1}"#, r#"{"a": "b"}"#, "[1]", r#"{"(?=a)b": 1}"#, r#"{"(?:a{999}){999}": 1}"#] {
            assert!(serde_json::from_str::<Patterns>(wrong).is_err(), "{wrong}");
        }
        let many = |count: usize, pattern: &str| {
            let entries: Vec<String> = (0..count).map(|i| format!(r#""{pattern}{i}": 1"#)).collect();
            serde_json::from_str::<Patterns>(&format!("{{{}}}", entries.join(","))).is_ok()
        };
        assert!(many(MOST, "a") && !many(MOST + 1, "a"));
        assert!(many(MOST_EXPRESSIONS, "a|b") && !many(MOST_EXPRESSIONS + 1, "a|b"));
    }
}
