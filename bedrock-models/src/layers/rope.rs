//! Rotary position embedding (Su et al. 2021) and the ways in which checkpoints stretch it to longer contexts.
//!
//! Parameters are read as `config.json` has them: `rope_scaling` with `rope_theta` beside it, or the newer `rope_parameters` that holds both.
//! Formulas: HF `modeling_rope_utils` (transformers 4.44 to 5).

use std::f64::consts::{PI, TAU};

use serde::Deserialize;

/// `rope_scaling` or `rope_parameters` of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(crate) struct RopeParameters {
    pub(crate) rope_type: Option<String>,
    /// The older name of the same field. Some files have both.
    #[serde(rename = "type")]
    pub(crate) older_type: Option<String>,
    pub(crate) rope_theta: Option<f64>,
    pub(crate) factor: Option<f64>,
    pub(crate) original_max_position_embeddings: Option<f64>,
    pub(crate) attention_factor: Option<f64>,
    pub(crate) beta_fast: Option<f64>,
    pub(crate) beta_slow: Option<f64>,
    pub(crate) mscale: Option<f64>,
    pub(crate) mscale_all_dim: Option<f64>,
    pub(crate) truncate: Option<bool>,
    pub(crate) low_freq_factor: Option<f64>,
    pub(crate) high_freq_factor: Option<f64>,
    pub(crate) short_factor: Option<Vec<f64>>,
    pub(crate) long_factor: Option<Vec<f64>>,
    pub(crate) partial_rotary_factor: Option<f64>,
}

impl RopeParameters {
    /// The type of scaling.
    pub(crate) fn kind(&self) -> &str {
        self.rope_type.as_deref().or(self.older_type.as_deref()).unwrap_or("default")
    }

    /// The most positions of a model with that `max_position_embeddings`: `dynamic` scaling stretches them, all other types
    /// have the stretched length there already.
    pub(crate) fn context(&self, max: usize) -> usize {
        let stretch = if self.kind() == "dynamic" { self.factor.unwrap_or(1.0).max(1.0) } else { 1.0 };
        (max as f64 * stretch) as usize
    }
}

/// Where a configuration can have its rope parameters; to be flattened into it.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct RopeFields {
    rope_theta: Option<f64>,
    rope_scaling: Option<RopeParameters>,
    rope_parameters: Option<RopeParameters>,
    /// Some files have these two beside the parameters instead of in them.
    pub(crate) original_max_position_embeddings: Option<f64>,
    partial_rotary_factor: Option<f64>,
}

impl RopeFields {
    /// The parameters, wherever they are, with `theta` where no base is given.
    pub(crate) fn parameters(&self, theta: f64) -> RopeParameters {
        let mut rope = self.rope_scaling.as_ref().or(self.rope_parameters.as_ref()).cloned().unwrap_or_default();
        rope.rope_theta = rope.rope_theta.or(self.rope_theta).or(Some(theta));
        rope.original_max_position_embeddings =
            self.original_max_position_embeddings.or(rope.original_max_position_embeddings);
        rope.partial_rotary_factor = rope.partial_rotary_factor.or(self.partial_rotary_factor);
        rope
    }

    /// Calls a type of scaling by another name.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        for parameters in [&mut self.rope_scaling, &mut self.rope_parameters].into_iter().flatten() {
            if parameters.kind() == from {
                parameters.rope_type = Some(to.to_string());
            }
        }
    }
}

impl From<RopeParameters> for RopeFields {
    fn from(parameters: RopeParameters) -> Self {
        Self { rope_parameters: Some(parameters), ..Self::default() }
    }
}

/// What is wrong with a model's rope parameters.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum RopeProblem {
    /// The type of scaling is none that we know.
    #[error("rope type {0:?} is not one of default, linear, dynamic, yarn, longrope, llama3")]
    UnknownType(String),
    /// The type needs a parameter that is missing or out of range.
    #[error("rope type {rope_type} needs {parameter}")]
    Parameter {
        /// The type.
        rope_type: String,
        /// What it needs.
        parameter: &'static str,
    },
}

/// The frequencies of one kind of layer.
#[derive(Debug, Clone)]
pub(crate) struct Rotary {
    frequencies: Frequencies,
    /// Multiplies cosines and sines.
    attention_factor: f64,
    /// Whether pairs are neighbours (GGUF) rather than halves (Hugging Face).
    pub(crate) pairs: bool,
}

#[derive(Debug, Clone)]
enum Frequencies {
    Fixed(Vec<f32>),
    /// NTK-aware: the base grows with the sequence once it is longer than `max`.
    Dynamic {
        base: f64,
        dim: usize,
        factor: f64,
        max: f64,
    },
    /// One of two tables, by the length of the sequence.
    Long {
        short: Vec<f32>,
        long: Vec<f32>,
        original: f64,
    },
}

/// As many as pairs of `dim` features; of an odd number the last is a pair too.
fn inverse(base: f64, dim: usize) -> impl Iterator<Item = f64> {
    (0..dim.div_ceil(2)).map(move |i| base.powf(-((2 * i) as f64) / dim as f64))
}

impl Rotary {
    /// `head_dim` features a head, of which `partial_rotary_factor` are rotated; `theta` where the parameters name none;
    /// `max` is `max_position_embeddings`.
    pub(crate) fn new(parameters: &RopeParameters, head_dim: usize, theta: f64, max: f64) -> Result<Self, RopeProblem> {
        let rope_type = parameters.kind();
        let need = |value: Option<f64>, parameter: &'static str| {
            value
                .filter(|value| value.is_finite() && *value > 0.0)
                .ok_or_else(|| RopeProblem::Parameter { rope_type: rope_type.to_string(), parameter })
        };
        let base = need(Some(parameters.rope_theta.unwrap_or(theta)), "a positive rope_theta")?;
        let partial = need(Some(parameters.partial_rotary_factor.unwrap_or(1.0)), "a positive partial_rotary_factor")?;
        let dim = (head_dim as f64 * partial.min(1.0)) as usize;
        if dim == 0 || dim.next_multiple_of(2) > head_dim {
            let parameter = "rotated features that are pairs inside a head";
            return Err(RopeProblem::Parameter { rope_type: rope_type.to_string(), parameter });
        }
        let factor = || need(parameters.factor, "a positive factor");
        let original = parameters.original_max_position_embeddings.or(Some(max));
        let mut attention_factor = 1.0;
        let frequencies = match rope_type {
            "default" => Frequencies::Fixed(inverse(base, dim).map(|f| f as f32).collect()),
            "linear" => {
                let factor = factor()?;
                Frequencies::Fixed(inverse(base, dim).map(|f| (f / factor) as f32).collect())
            }
            "dynamic" => {
                let max = need(Some(max), "a positive max_position_embeddings")?;
                // The exponent below is infinite for a single frequency.
                need(Some(dim as f64 - 2.0), "more than two rotated features")?;
                Frequencies::Dynamic { base, dim, factor: factor()?, max }
            }
            "yarn" => {
                let original = need(original, "a positive original_max_position_embeddings")?;
                let factor = parameters.factor.unwrap_or(max / original);
                let factor = need(Some(factor), "a positive factor")?;
                attention_factor = parameters.attention_factor.unwrap_or_else(|| {
                    let mscale = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
                    match (parameters.mscale, parameters.mscale_all_dim) {
                        (Some(m), Some(all)) if m != 0.0 && all != 0.0 => mscale(m) / mscale(all),
                        _ => mscale(1.0),
                    }
                });
                let correction = |rotations: f64| dim as f64 * (original / (rotations * TAU)).ln() / (2.0 * base.ln());
                let mut low = correction(parameters.beta_fast.unwrap_or(32.0));
                let mut high = correction(parameters.beta_slow.unwrap_or(1.0));
                if parameters.truncate.unwrap_or(true) {
                    (low, high) = (low.floor(), high.ceil());
                }
                let (low, mut high) = (low.max(0.0), high.min(dim as f64 - 1.0));
                if low == high {
                    high += 0.001;
                }
                let blend = inverse(base, dim).enumerate().map(|(i, f)| {
                    let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    (f / factor * ramp + f * (1.0 - ramp)) as f32
                });
                Frequencies::Fixed(blend.collect())
            }
            "longrope" | "su" => {
                let original = need(original, "a positive original_max_position_embeddings")?;
                let factor = parameters.factor.unwrap_or(max / original);
                attention_factor = parameters
                    .attention_factor
                    .unwrap_or_else(|| if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original.ln()).sqrt() });
                let table = |list: &Option<Vec<f64>>, parameter: &'static str| {
                    let list = list.as_ref().filter(|l| l.len() == dim.div_ceil(2) && l.iter().all(|f| *f > 0.0));
                    let list =
                        list.ok_or_else(|| RopeProblem::Parameter { rope_type: rope_type.to_string(), parameter })?;
                    Ok(inverse(base, dim).zip(list).map(|(f, by)| (f / by) as f32).collect())
                };
                Frequencies::Long {
                    short: table(&parameters.short_factor, "head_dim / 2 positive short_factor")?,
                    long: table(&parameters.long_factor, "head_dim / 2 positive long_factor")?,
                    original,
                }
            }
            "llama3" => {
                let factor = factor()?;
                let low = need(parameters.low_freq_factor, "a positive low_freq_factor")?;
                let high = need(parameters.high_freq_factor, "a positive high_freq_factor")?;
                let original = need(original, "a positive original_max_position_embeddings")?;
                let scale = |f: f64| {
                    let wavelength = 2.0 * PI / f;
                    if wavelength > original / low {
                        f / factor
                    } else if wavelength < original / high {
                        f
                    } else {
                        let smooth = (original / wavelength - low) / (high - low);
                        (1.0 - smooth) * f / factor + smooth * f
                    }
                };
                Frequencies::Fixed(inverse(base, dim).map(|f| scale(f) as f32).collect())
            }
            other => return Err(RopeProblem::UnknownType(other.to_string())),
        };
        Ok(Self { frequencies, attention_factor, pairs: false })
    }

    /// The same, with each frequency divided by a factor of its own (GGUF's `rope_freqs.weight`).
    ///
    /// # Errors
    /// If there are not as many factors as frequencies, or one is not positive.
    pub(crate) fn divided(mut self, factors: &[f32]) -> Result<Self, RopeProblem> {
        match &mut self.frequencies {
            Frequencies::Fixed(list) if list.len() == factors.len() && factors.iter().all(|f| *f > 0.0) => {
                list.iter_mut().zip(factors).for_each(|(f, by)| *f /= by);
                Ok(self)
            }
            _ => Err(RopeProblem::Parameter {
                rope_type: "with rope_freqs".into(),
                parameter: "one positive factor for each of the fixed frequencies",
            }),
        }
    }

    /// The factors of [`Rotary::divided`] that turn frequencies of that base into these; none if these are not fixed.
    pub(crate) fn divisors(&self, base: f64) -> Option<Vec<f32>> {
        let Frequencies::Fixed(list) = &self.frequencies else { return None };
        Some(inverse(base, 2 * list.len()).zip(list).map(|(plain, own)| (plain / f64::from(*own)) as f32).collect())
    }

    /// The length that is the last with the frequencies of short sequences; none if they do not jump.
    pub(crate) fn change(&self) -> Option<usize> {
        match &self.frequencies {
            Frequencies::Long { original, .. } => Some(*original as usize),
            Frequencies::Fixed(_) | Frequencies::Dynamic { .. } => None,
        }
    }

    /// Whether a position's angles depend on the length of its sequence, too.
    pub(crate) fn depends_on_length(&self) -> bool {
        !matches!(self.frequencies, Frequencies::Fixed(_))
    }

    /// Cosines, then sines, of a position in a sequence of `len` tokens: `rotary_dim` values.
    pub(crate) fn angles(&self, position: usize, len: usize) -> Vec<f32> {
        let rotate = |list: &mut dyn Iterator<Item = f32>| -> Vec<f32> {
            // The product is rounded to single precision as the original does.
            let angles: Vec<f64> = list.map(|f| f64::from(f * position as f32)).collect();
            let cos = angles.iter().map(|a| (a.cos() * self.attention_factor) as f32);
            let sin = angles.iter().map(|a| (a.sin() * self.attention_factor) as f32);
            cos.chain(sin).collect()
        };
        match &self.frequencies {
            Frequencies::Fixed(list) => rotate(&mut list.iter().copied()),
            Frequencies::Dynamic { base, dim, factor, max } => {
                let stretch = factor * (len as f64).max(*max) / max - (factor - 1.0);
                let base = base * stretch.powf(*dim as f64 / (*dim as f64 - 2.0));
                rotate(&mut inverse(base, *dim).map(|f| f as f32))
            }
            Frequencies::Long { short, long, original } => {
                rotate(&mut if len as f64 > *original { long } else { short }.iter().copied())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> RopeParameters {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn default_rotates_by_the_position() {
        let rotary = Rotary::new(&RopeParameters::default(), 4, 10_000.0, 512.0).unwrap();
        let angles = rotary.angles(3, 4);
        for (got, want) in angles.iter().zip([3f64.cos(), 0.03f64.cos(), 3f64.sin(), 0.03f64.sin()]) {
            assert!((f64::from(*got) - want).abs() < 1e-6);
        }
    }

    #[test]
    fn scaled_types_reduce_to_the_default_at_factor_one() {
        let plain = Rotary::new(&RopeParameters::default(), 16, 5_000.0, 64.0).unwrap();
        for json in [
            r#"{"type": "linear", "factor": 1.0}"#,
            r#"{"rope_type": "dynamic", "factor": 1.0}"#,
            r#"{"rope_type": "yarn", "factor": 1.0, "original_max_position_embeddings": 64}"#,
            r#"{"rope_type": "llama3", "factor": 1.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}"#,
        ] {
            let scaled = Rotary::new(&parse(json), 16, 5_000.0, 64.0).unwrap();
            for (a, b) in scaled.angles(37, 60).iter().zip(plain.angles(37, 60)) {
                assert!((a - b).abs() < 2e-5, "{json}");
            }
        }
    }

    #[test]
    fn the_type_has_two_names_and_files_may_have_both() {
        assert_eq!(parse(r#"{"type": "linear"}"#).kind(), "linear");
        assert_eq!(parse(r#"{"rope_type": "llama3", "type": "llama3"}"#).kind(), "llama3");
        assert_eq!(parse("{}").kind(), "default");
    }

    #[test]
    fn an_odd_number_of_rotated_features_is_rounded_up_to_pairs() {
        let rotary = Rotary::new(&parse(r#"{"partial_rotary_factor": 0.5}"#), 6, 10_000.0, 64.0).unwrap();
        let angles = rotary.angles(2, 3);
        assert_eq!(angles.len(), 4);
        // The exponent is that of 3 features, not of 4.
        assert!((f64::from(angles[1]) - (2.0 * 10_000f64.powf(-2.0 / 3.0)).cos()).abs() < 1e-6);
    }

    #[test]
    fn fields_are_read_wherever_they_are() {
        let read = |json: &str| serde_json::from_str::<RopeFields>(json).unwrap().parameters(7.0);
        assert_eq!(read("{}").rope_theta, Some(7.0));
        assert_eq!(read(r#"{"rope_theta": 5}"#).rope_theta, Some(5.0));
        assert_eq!(read(r#"{"rope_parameters": {"rope_theta": 3.0}, "rope_theta": 5.0}"#).rope_theta, Some(3.0));
        let old = read(r#"{"rope_scaling": {"type": "linear", "factor": 2}, "rope_theta": 5.0}"#);
        assert_eq!((old.kind(), old.factor, old.rope_theta), ("linear", Some(2.0), Some(5.0)));
        let beside =
            read(r#"{"partial_rotary_factor": 0.5, "original_max_position_embeddings": 20, "rope_scaling": null}"#);
        assert_eq!(beside.partial_rotary_factor, Some(0.5));
        assert_eq!(beside.original_max_position_embeddings, Some(20.0));
    }

    #[test]
    fn wrong_parameters_are_named() {
        let error = |json: &str| Rotary::new(&parse(json), 16, 1e4, 64.0).unwrap_err();
        assert_eq!(error(r#"{"rope_type": "spiral"}"#), RopeProblem::UnknownType("spiral".into()));
        for json in [
            r#"{"rope_type": "linear"}"#,
            r#"{"rope_type": "linear", "factor": 0.0}"#,
            r#"{"rope_type": "longrope", "original_max_position_embeddings": 8, "short_factor": [1.0], "long_factor": [1.0]}"#,
            r#"{"rope_type": "llama3", "factor": 2.0}"#,
            r#"{"rope_theta": -1.0}"#,
            r#"{"partial_rotary_factor": 0.01}"#,
            r#"{"rope_type": "dynamic", "factor": 2.0, "partial_rotary_factor": 0.125}"#,
        ] {
            assert!(matches!(error(json), RopeProblem::Parameter { .. }), "{json}");
        }
    }
}
