//! What the metadata of a GGUF file say about a decoder, in the terms of `config.json`.
//!
//! Keys: llama.cpp's `src/llama-arch.cpp`, meanings: `src/llama-model.cpp` and `conversion/`.

use super::decoder::LayerType;
use crate::error::Error;
use crate::layers::RopeParameters;
use crate::weights::{Checkpoint, Metadata, Value};

/// Names of the tensors that decoders with separate projections share: the module's and GGUF's.
pub(crate) const DECODER_NAMES: &[(&str, &str)] = &[
    ("model.embed_tokens", "token_embd"),
    ("model.norm", "output_norm"),
    ("lm_head", "output"),
    ("model.layers", "blk"),
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// A GGUF file that is being read: keys are those of its architecture, `llama.block_count` as `block_count`.
pub(crate) struct Gguf<'a> {
    architecture: &'a str,
    metadata: &'a Metadata,
    checkpoint: &'a Checkpoint,
}

impl<'a> Gguf<'a> {
    /// # Errors
    /// [`Error::MissingMetadata`] if the file does not name its architecture.
    pub(crate) fn new(metadata: &'a Metadata, checkpoint: &'a Checkpoint) -> Result<Self, Error> {
        let architecture = metadata.required::<&str>("general.architecture")?;
        Ok(Self { architecture, metadata, checkpoint })
    }

    pub(crate) fn architecture(&self) -> &'a str {
        self.architecture
    }

    /// The architecture in words, for errors.
    pub(crate) fn description(&self) -> Result<String, Error> {
        Ok(match self.experts()? {
            0 => self.architecture.to_string(),
            experts => format!("{} with {experts} experts", self.architecture),
        })
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    pub(crate) fn size(&self, key: &str) -> Result<usize, Error> {
        self.metadata.required::<u32>(&self.key(key)).map(|value| value as usize)
    }

    pub(crate) fn optional_size(&self, key: &str) -> Result<Option<usize>, Error> {
        Ok(self.metadata.optional::<u32>(&self.key(key))?.map(|value| value as usize))
    }

    pub(crate) fn float(&self, key: &str) -> Result<Option<f64>, Error> {
        Ok(self.metadata.optional::<f32>(&self.key(key))?.map(f64::from))
    }

    /// Experts a layer; 0 for a dense model.
    pub(crate) fn experts(&self) -> Result<usize, Error> {
        Ok(self.optional_size("expert_count")?.unwrap_or(0))
    }

    /// Rows of the embedding table.
    pub(crate) fn vocab_size(&self) -> usize {
        self.checkpoint.get("token_embd.weight").and_then(|table| table.shape.first().copied()).unwrap_or(0)
    }

    /// Whether the output layer is the embedding table.
    pub(crate) fn is_tied(&self) -> bool {
        !self.contains("output.weight")
    }

    /// Whether there is such a tensor, by GGUF's name.
    pub(crate) fn contains(&self, tensor: &str) -> bool {
        self.checkpoint.contains(tensor)
    }

    pub(crate) fn head_dim(&self) -> Result<usize, Error> {
        let (hidden, heads) = (self.size("embedding_length")?, self.size("attention.head_count")?);
        Ok(self.optional_size("attention.key_length")?.unwrap_or(hidden / heads.max(1)))
    }

    pub(crate) fn sliding_window(&self) -> Result<Option<usize>, Error> {
        Ok(self.optional_size("attention.sliding_window")?.filter(|window| *window > 0))
    }

    /// Which layers have a window: as the file lists them, or all but the last of each `pattern` layers.
    pub(crate) fn layer_types(&self, layers: usize, pattern: usize) -> Result<Vec<LayerType>, Error> {
        let key = "attention.sliding_window_pattern";
        if let Some(Value::Array(_)) = self.metadata.get(&self.key(key)) {
            let listed = self.metadata.required::<Vec<bool>>(&self.key(key))?;
            return Ok(listed.into_iter().take(layers).map(LayerType::sliding).collect());
        }
        let pattern = self.optional_size(key)?.unwrap_or(pattern).max(1);
        // More layers than any model has are refused later, by their number.
        Ok((1..=layers.min(1 << 10)).map(|layer| LayerType::sliding(!layer.is_multiple_of(pattern))).collect())
    }

    /// Frequencies, scaling and the two tables of `longrope`; `rope_freqs` are left to the family that has them.
    pub(crate) fn rope(&self) -> Result<RopeParameters, Error> {
        let head_dim = self.head_dim()?;
        let rotary_dim = self.optional_size("rope.dimension_count")?.unwrap_or(head_dim);
        let table = |name: &str| self.checkpoint.get(name).map(|tensor| tensor.to_f32()).transpose();
        let wide = |table: Option<Vec<f32>>| table.map(|table| table.into_iter().map(f64::from).collect());
        let (short, long) = (table("rope_factors_short.weight")?, table("rope_factors_long.weight")?);
        let scaling = self.metadata.optional::<&str>(&self.key("rope.scaling.type"))?.filter(|name| *name != "none");
        // Files of Phi-3 have the tables, but do not always say what they are.
        let rope_type = if long.is_some() { "longrope" } else { scaling.unwrap_or("default") };
        let factor = self.float("rope.scaling.factor")?;
        let mut attention_factor = self.float("rope.scaling.attn_factor")?;
        if let ("yarn", Some(by), Some(factor)) = (rope_type, attention_factor, factor) {
            // Of this type the key is a factor on top of what follows from the scaling.
            attention_factor = Some(by * (1.0 + 0.1 * factor.max(1.0).ln()));
        }
        Ok(RopeParameters {
            rope_type: Some(rope_type.to_string()),
            rope_theta: Some(self.float("rope.freq_base")?.unwrap_or(10_000.0)),
            factor,
            original_max_position_embeddings: self
                .optional_size("rope.scaling.original_context_length")?
                .map(|length| length as f64),
            attention_factor,
            beta_fast: self.float("rope.scaling.yarn_beta_fast")?,
            beta_slow: self.float("rope.scaling.yarn_beta_slow")?,
            short_factor: wide(short),
            long_factor: wide(long),
            partial_rotary_factor: Some(rotary_dim as f64 / head_dim.max(1) as f64),
            ..RopeParameters::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::weights::Array;

    fn check(keys: &[(&str, Value)], test: impl Fn(&Gguf<'_>)) {
        let mut metadata = Metadata::new("m.gguf");
        metadata.insert("general.architecture", Value::String("gemma3".into()));
        metadata.insert("gemma3.embedding_length", Value::U32(64));
        metadata.insert("gemma3.attention.head_count", Value::U32(8));
        keys.iter().for_each(|(key, value)| drop(metadata.insert(format!("gemma3.{key}"), value.clone())));
        let header = b"{}";
        let file = [&(header.len() as u64).to_le_bytes()[..], header].concat();
        let checkpoint = Checkpoint::from_safetensors(Bytes::from(file), "m.gguf").unwrap();
        test(&Gguf::new(&metadata, &checkpoint).unwrap());
    }

    #[test]
    fn windows_are_listed_or_follow_a_pattern() {
        let (full, sliding) = (LayerType::Full, LayerType::Sliding);
        check(&[], |file| assert_eq!(file.layer_types(3, 2).unwrap(), [sliding, full, sliding]));
        let three = [("attention.sliding_window_pattern", Value::U32(3))];
        check(&three, |file| assert_eq!(file.layer_types(3, 2).unwrap(), [sliding, sliding, full]));
        let listed = Value::Array(Array::Bool(vec![false, true, true]));
        let listed = [("attention.sliding_window_pattern", listed)];
        check(&listed, |file| assert_eq!(file.layer_types(3, 2).unwrap(), [full, sliding, sliding]));
    }

    #[test]
    fn rope_is_that_of_the_configuration() {
        check(&[], |file| {
            let rope = file.rope().unwrap();
            assert_eq!((rope.kind(), rope.rope_theta, rope.partial_rotary_factor), ("default", Some(1e4), Some(1.0)));
        });
        let yarn = [
            ("rope.scaling.type", Value::String("yarn".into())),
            ("rope.scaling.factor", Value::F32(4.0)),
            ("rope.scaling.original_context_length", Value::U32(128)),
            ("rope.scaling.attn_factor", Value::F32(2.0)),
            ("rope.dimension_count", Value::U32(4)),
        ];
        check(&yarn, |file| {
            let rope = file.rope().unwrap();
            assert_eq!((rope.kind(), rope.factor, rope.partial_rotary_factor), ("yarn", Some(4.0), Some(0.5)));
            assert_eq!(rope.original_max_position_embeddings, Some(128.0));
            assert!((rope.attention_factor.unwrap() - 2.0 * (1.0 + 0.1 * 4f64.ln())).abs() < 1e-6);
        });
    }
}
