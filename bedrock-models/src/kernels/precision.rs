//! How exact the products of training are.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What products are made of, in training. Sums are of 32 bits in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(not(feature = "tune"), allow(dead_code))]
pub enum Precision {
    /// Numbers of 32 bits.
    #[default]
    F32,
    /// Numbers rounded to 8 significant bits (`bf16`), for processors that multiply such faster.
    Bf16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err("should be f32 or bf16".into()),
        }
    }
}
