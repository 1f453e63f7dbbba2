//! Settings of a job's training.

use std::f64::consts::PI;
use std::fmt::Display;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::optimizer::AdamW;
use crate::error::Error;
use crate::kernels::Precision;

/// How the learning rate goes on after it has risen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// In a line to zero.
    #[default]
    Linear,
    /// Along half a wave of the cosine to zero.
    Cosine,
    /// As it is.
    Constant,
}

/// Settings of a job's training, by the service's names. Values are read as numbers or as texts, which the service has.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HyperParameters {
    /// Times that all data are gone through. 1 to 1,000; default 1.
    pub epoch_count: usize,
    /// Items that are run before gradients are used or accumulated. 1 to 65,536; default 1.
    pub batch_size: usize,
    /// Batches whose gradients make one step: a mean over all that is to be learnt in them. 1 to 65,536; default 1.
    pub gradient_accumulation: usize,
    /// Step size at its largest. 0 to 10; default 1e-4.
    pub learning_rate: f64,
    /// Steps in which the step size rises from zero. Default 0.
    pub learning_rate_warmup_steps: u64,
    /// How it goes on. Default: linear.
    pub schedule: Schedule,
    /// The most tokens of an item, at most those that the model can take. 2 to 1,048,576; default 512.
    pub max_sequence_length: usize,
    /// See [`AdamW::weight_decay`]. 0 to 10; default 0.
    pub weight_decay: f64,
    /// See [`AdamW::max_gradient_norm`]; 0 is none. Default 1.
    pub max_gradient_norm: f64,
    /// Of preferences: how dear it is to leave the base, see [`Trainer::preference_loss`](super::Trainer::preference_loss). Above 0, at most
    /// 100; default 0.1.
    pub beta: f64,
    /// Of embeddings: what cosines are multiplied by, see [`EmbeddingTrainer::loss`](super::EmbeddingTrainer::loss). Above 0, at most 1,000;
    /// default 20.
    pub scale: f64,
    /// See [`Trainer::set_checkpointing`](super::Trainer::set_checkpointing). Default: not.
    pub activation_checkpointing: bool,
    /// See [`Trainer::set_compact_moments`](super::Trainer::set_compact_moments). Default: not.
    pub compact_moments: bool,
    /// See [`Trainer::set_precision`](super::Trainer::set_precision): `f32` or `bf16`. Default `f32`.
    pub precision: Precision,
    /// Of an adapter's first numbers, of dropout and of the order of the items. Default 0.
    pub seed: u64,
}

impl Default for HyperParameters {
    fn default() -> Self {
        Self {
            epoch_count: 1,
            batch_size: 1,
            gradient_accumulation: 1,
            learning_rate: 1e-4,
            learning_rate_warmup_steps: 0,
            schedule: Schedule::Linear,
            max_sequence_length: 512,
            weight_decay: 0.0,
            max_gradient_norm: 1.0,
            beta: 0.1,
            scale: 20.0,
            activation_checkpointing: false,
            compact_moments: false,
            precision: Precision::F32,
            seed: 0,
        }
    }
}

impl<'de> Deserialize<'de> for HyperParameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut all = Self::default();
        for (name, value) in Map::<String, Value>::deserialize(deserializer)? {
            all.set(&name, &value).map_err(D::Error::custom)?;
        }
        Ok(all)
    }
}

impl HyperParameters {
    fn set(&mut self, name: &str, value: &Value) -> Result<(), String> {
        fn read<T: FromStr<Err: Display>>(name: &str, value: &Value) -> Result<T, String> {
            let text = match value {
                Value::String(text) => text.trim().to_string(),
                Value::Number(number) => number.to_string(),
                other => return Err(format!("hyper-parameter {name} is {other}, but should be a number or a text")),
            };
            text.parse().map_err(|error| format!("hyper-parameter {name} is {text:?}: {error}"))
        }
        fn flag(name: &str, value: &Value) -> Result<bool, String> {
            match value {
                Value::Bool(flag) => Ok(*flag),
                value => read(name, value),
            }
        }
        match name {
            "epochCount" => self.epoch_count = read(name, value)?,
            "batchSize" => self.batch_size = read(name, value)?,
            "gradientAccumulation" => self.gradient_accumulation = read(name, value)?,
            "learningRate" => self.learning_rate = read(name, value)?,
            "learningRateWarmupSteps" => self.learning_rate_warmup_steps = read(name, value)?,
            "schedule" => self.schedule = read(name, value)?,
            "maxSequenceLength" => self.max_sequence_length = read(name, value)?,
            "weightDecay" => self.weight_decay = read(name, value)?,
            "maxGradientNorm" => self.max_gradient_norm = read(name, value)?,
            "beta" => self.beta = read(name, value)?,
            "scale" => self.scale = read(name, value)?,
            "activationCheckpointing" => self.activation_checkpointing = flag(name, value)?,
            "compactMoments" => self.compact_moments = flag(name, value)?,
            "precision" => self.precision = read(name, value)?,
            "seed" => self.seed = read(name, value)?,
            _ => {
                return Err(format!(
                    "unknown hyper-parameter {name}; known are epochCount, batchSize, gradientAccumulation, learningRate, \
                     learningRateWarmupSteps, schedule, maxSequenceLength, weightDecay, maxGradientNorm, beta, scale, \
                     activationCheckpointing, compactMoments, precision and seed"
                ));
            }
        }
        Ok(())
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`].
    pub(super) fn check(&self) -> Result<(), Error> {
        let wrong =
            |name, got: String, expected: &str| Error::InvalidParameter { name, got, expected: expected.into() };
        for (name, value, bounds, expected) in [
            ("epochCount", self.epoch_count, 1..=1000, "1 to 1000"),
            ("batchSize", self.batch_size, 1..=65536, "1 to 65536"),
            ("gradientAccumulation", self.gradient_accumulation, 1..=65536, "1 to 65536"),
            ("maxSequenceLength", self.max_sequence_length, 2..=1 << 20, "2 to 1048576"),
        ] {
            if !bounds.contains(&value) {
                return Err(wrong(name, value.to_string(), expected));
            }
        }
        for (name, value, most, expected) in [
            ("learningRate", self.learning_rate, 10.0, "0 to 10"),
            ("weightDecay", self.weight_decay, 10.0, "0 to 10"),
            ("maxGradientNorm", self.max_gradient_norm, 1e9, "0 to 1e9"),
        ] {
            if !(0.0..=most).contains(&value) {
                return Err(wrong(name, value.to_string(), expected));
            }
        }
        for (name, value, most, expected) in
            [("beta", self.beta, 100.0, "above 0, at most 100"), ("scale", self.scale, 1000.0, "above 0, at most 1000")]
        {
            if !(value > 0.0 && value <= most) {
                return Err(wrong(name, value.to_string(), expected));
            }
        }
        Ok(())
    }

    /// Items of a step.
    pub(super) fn step_items(&self) -> usize {
        self.batch_size * self.gradient_accumulation
    }

    /// Settings of the step after `done` of `steps` steps.
    pub(super) fn adamw(&self, done: u64, steps: u64) -> AdamW {
        let max_gradient_norm = Some(self.max_gradient_norm).filter(|norm| *norm > 0.0);
        let learning_rate = self.learning_rate * self.share(done, steps);
        AdamW { learning_rate, weight_decay: self.weight_decay, max_gradient_norm, ..AdamW::default() }
    }

    /// The share of the learning rate that the step after `done` of `steps` steps has. The first has some, the last too.
    fn share(&self, done: u64, steps: u64) -> f64 {
        let warmup = self.learning_rate_warmup_steps.min(steps);
        if done < warmup {
            return (done + 1) as f64 / warmup as f64;
        }
        let left = (steps - done.min(steps)) as f64 / (steps - warmup).max(1) as f64;
        match self.schedule {
            Schedule::Linear => left,
            Schedule::Cosine => (1.0 - (PI * left).cos()) / 2.0,
            Schedule::Constant => 1.0,
        }
    }
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "linear" => Ok(Self::Linear),
            "cosine" => Ok(Self::Cosine),
            "constant" => Ok(Self::Constant),
            _ => Err("should be linear, cosine or constant".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(warmup: u64, schedule: Schedule, steps: u64) -> Vec<f64> {
        let settings = HyperParameters { learning_rate_warmup_steps: warmup, schedule, ..Default::default() };
        (0..steps).map(|done| settings.share(done, steps)).collect()
    }

    #[test]
    fn the_step_size_rises_and_falls() {
        assert_eq!(shares(2, Schedule::Linear, 6), [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]);
        assert_eq!(shares(2, Schedule::Constant, 4), [0.5, 1.0, 1.0, 1.0]);
        assert_eq!(shares(9, Schedule::Linear, 2), [0.5, 1.0]);
        let cosine = shares(0, Schedule::Cosine, 4);
        let want = [1.0, (1.0 + 0.5f64.sqrt()) / 2.0, 0.5, (1.0 - 0.5f64.sqrt()) / 2.0];
        assert!(cosine.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-12), "{cosine:?}");
    }

    #[test]
    fn values_are_numbers_or_texts() {
        let read = |text: &str| serde_json::from_str::<HyperParameters>(text);
        let got =
            read(r#"{"epochCount": "3", "learningRate": "0.00001", "batchSize": 4, "schedule": "cosine", "precision": "bf16"}"#).unwrap();
        let want = HyperParameters {
            epoch_count: 3,
            learning_rate: 1e-5,
            batch_size: 4,
            schedule: Schedule::Cosine,
            precision: Precision::Bf16,
            ..HyperParameters::default()
        };
        assert_eq!(got, want);
        for (text, reason) in [
            (r#"{"epochs": 3}"#, "unknown hyper-parameter epochs"),
            (r#"{"epochCount": 1.5}"#, "epochCount is \"1.5\""),
            (r#"{"epochCount": -1}"#, "epochCount is \"-1\""),
            (r#"{"schedule": "steep"}"#, "schedule is \"steep\": should be linear"),
            (r#"{"precision": "f16"}"#, "precision is \"f16\": should be f32 or bf16"),
            (r#"{"seed": null}"#, "seed is null"),
        ] {
            assert!(read(text).unwrap_err().to_string().contains(reason), "{text}");
        }
        for wrong in [
            HyperParameters { epoch_count: 0, ..want.clone() },
            HyperParameters { learning_rate: f64::NAN, ..want.clone() },
            HyperParameters { weight_decay: -1.0, ..want.clone() },
            HyperParameters { max_sequence_length: 1, ..want.clone() },
            HyperParameters { beta: 0.0, ..want.clone() },
            HyperParameters { scale: f64::INFINITY, ..want.clone() },
        ] {
            assert!(matches!(wrong.check(), Err(Error::InvalidParameter { .. })));
        }
        want.check().unwrap();
    }
}
