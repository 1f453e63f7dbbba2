//! What the configurations of decoders have in common: sizes to check, and which layers see all positions.

use std::path::Path;

use serde::Deserialize;

use crate::error::Error;
use crate::kernels::attention::{Heads, Mask};

/// The sizes that layers rely on.
pub(crate) struct Sizes {
    pub(crate) hidden: usize,
    pub(crate) inner: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) key_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) vocabulary: usize,
    pub(crate) positions: usize,
    pub(crate) window: Option<usize>,
    pub(crate) eps: f64,
}

impl Sizes {
    /// Checks them, so that nothing that follows can overflow, divide by zero or panic.
    ///
    /// # Errors
    /// [`Error::ConfigValue`] with the field's name in `config.json`.
    pub(crate) fn check(&self, path: &Path) -> Result<(), Error> {
        for (name, value, most) in [
            ("hidden_size", self.hidden, 1 << 17),
            ("intermediate_size", self.inner, 1 << 20),
            ("num_hidden_layers", self.layers, 1 << 10),
            ("num_attention_heads", self.heads, 1 << 12),
            ("num_key_value_heads", self.key_heads, 1 << 12),
            ("head_dim", self.head_dim, 1 << 12),
            ("vocab_size", self.vocabulary, 1 << 24),
            ("max_position_embeddings", self.positions, 1 << 28),
            ("sliding_window", self.window.unwrap_or(1), 1 << 28),
        ] {
            if value == 0 || value > most {
                return wrong(path, format!("{name} is {value}, outside 1..={most}"));
            }
        }
        if !self.heads.is_multiple_of(self.key_heads) {
            let (heads, keys) = (self.heads, self.key_heads);
            return wrong(
                path,
                format!("num_attention_heads ({heads}) is no multiple of num_key_value_heads ({keys})"),
            );
        }
        if !(self.eps.is_finite() && self.eps >= 0.0) {
            return wrong(path, format!("the epsilon of the norms is {}", self.eps));
        }
        Ok(())
    }

    /// The heads of attention, with scores multiplied by `1 / √head_dim`.
    pub(crate) fn attention_heads(&self) -> Heads {
        let scale = 1.0 / (self.head_dim as f32).sqrt();
        Heads { queries: self.heads, keys: self.key_heads, dim: self.head_dim, scale }
    }
}

/// A value that is not supported.
pub(crate) fn wrong<T>(path: &Path, what: String) -> Result<T, Error> {
    Err(Error::ConfigValue { path: path.to_path_buf(), what })
}

/// An entry of `layer_types`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum LayerType {
    #[serde(rename = "full_attention")]
    Full,
    #[serde(rename = "sliding_attention")]
    Sliding,
}

impl LayerType {
    pub(crate) fn sliding(is_sliding: bool) -> Self {
        if is_sliding { Self::Sliding } else { Self::Full }
    }

    /// What queries of such a layer see.
    ///
    /// # Errors
    /// [`Error::ConfigValue`] for a sliding layer without a window.
    pub(crate) fn mask(self, window: Option<usize>, path: &Path) -> Result<Mask, Error> {
        match (self, window) {
            (Self::Full, _) => Ok(Mask::Causal { window: None }),
            (Self::Sliding, Some(_)) => Ok(Mask::Causal { window }),
            (Self::Sliding, None) => wrong(path, "layer_types has sliding_attention, but there is no window".into()),
        }
    }
}

/// The types of all layers: as given, otherwise by `rule` of the layer's index.
///
/// # Errors
/// [`Error::ConfigValue`] if there are not as many as layers.
pub(crate) fn layer_types(
    given: Option<&[LayerType]>,
    layers: usize,
    rule: impl Fn(usize) -> bool,
    path: &Path,
) -> Result<Vec<LayerType>, Error> {
    match given {
        None => Ok((0..layers).map(|layer| LayerType::sliding(rule(layer))).collect()),
        Some(given) if given.len() == layers => Ok(given.to_vec()),
        Some(given) => wrong(path, format!("layer_types has {} entries for {layers} layers", given.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_as_many_as_layers() {
        let path = Path::new("config.json");
        let given = [LayerType::Full, LayerType::Sliding];
        assert_eq!(layer_types(Some(&given), 2, |_| false, path).unwrap(), given);
        assert_eq!(layer_types(None, 2, |layer| layer == 1, path).unwrap(), given);
        let error = layer_types(Some(&given), 3, |_| false, path).unwrap_err();
        assert_eq!(error.to_string(), "config.json: layer_types has 2 entries for 3 layers");
        assert!(LayerType::Sliding.mask(None, path).is_err());
        assert_eq!(LayerType::Full.mask(Some(3), path).unwrap(), Mask::Causal { window: None });
    }
}
