//! What can be set about sampling.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// How the next token is chosen.
///
/// Names and meaning are those of transformers' `GenerationConfig`, so `generation_config.json` can be read as this
/// (fields of other purpose are ignored). The default samples from the model's distribution as it is. Steps are applied in the
/// order of the fields; each works on what the one before left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SamplingParams {
    /// Added to the logits of single tokens. `-inf` bans a token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logit_bias: Vec<(u32, f32)>,
    /// Divides positive and multiplies negative logits of all tokens in the context, prompt included (Keskar et al.
    /// 2019). Above 1 discourages repetition. 1 is off.
    pub repetition_penalty: f32,
    /// Subtracted from the logit of a token for each time it was generated. 0 is off.
    pub frequency_penalty: f32,
    /// Subtracted from the logit of a token if it was generated at all. 0 is off.
    pub presence_penalty: f32,
    /// No sequence of this many tokens may occur twice in the context. 0 is off.
    pub no_repeat_ngram_size: usize,
    /// Divides the logits. 0 takes the most likely token (the lowest id among equals), 1 is neutral.
    pub temperature: f32,
    /// Keeps the `k` most likely tokens, and those that are equally likely as the last of them. 0 or none is off.
    pub top_k: Option<usize>,
    /// Keeps the smallest set of most likely tokens whose probabilities add up to this much; at least one token. 1 or
    /// none is off.
    pub top_p: Option<f32>,
    /// Keeps tokens at least this fraction as likely as the most likely one. 0 or none is off.
    pub min_p: Option<f32>,
    /// Keeps tokens whose information content is closest to the entropy, up to this much probability (Meister et al.
    /// 2022). 1 or none is off.
    pub typical_p: Option<f32>,
    /// Keeps tokens with at least this probability, and the most likely one. 0 is off.
    pub epsilon_cutoff: f32,
    /// Like `epsilon_cutoff`, with a bound that falls with the entropy (Hewitt et al. 2022). 0 is off.
    pub eta_cutoff: f32,
    /// Same seed, logits and context: same tokens, on every platform and in every version. None takes a new seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            logit_bias: Vec::new(),
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            no_repeat_ngram_size: 0,
            temperature: 1.0,
            top_k: None,
            top_p: None,
            min_p: None,
            typical_p: None,
            epsilon_cutoff: 0.0,
            eta_cutoff: 0.0,
            seed: None,
        }
    }
}

impl SamplingParams {
    /// Takes the most likely token each time.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for the first value out of its range.
    pub fn validate(&self) -> Result<(), Error> {
        let check = |name, value: f32, ok: bool, expected: &str| match ok {
            true => Ok(()),
            false => Err(Error::InvalidParameter { name, got: value.to_string(), expected: expected.to_string() }),
        };
        let fraction = |name, value: Option<f32>| {
            let value = value.unwrap_or(1.0);
            check(name, value, (0.0..=1.0).contains(&value), "between 0 and 1")
        };
        check("temperature", self.temperature, self.temperature.is_finite() && self.temperature >= 0.0, "0 or more")?;
        fraction("top_p", self.top_p)?;
        fraction("min_p", self.min_p)?;
        fraction("typical_p", self.typical_p)?;
        if let Some(mass) = self.typical_p {
            check("typical_p", mass, mass > 0.0, "more than 0")?;
        }
        check("epsilon_cutoff", self.epsilon_cutoff, (0.0..1.0).contains(&self.epsilon_cutoff), "0 or more, below 1")?;
        check("eta_cutoff", self.eta_cutoff, (0.0..1.0).contains(&self.eta_cutoff), "0 or more, below 1")?;
        let repetition = self.repetition_penalty;
        check("repetition_penalty", repetition, repetition.is_finite() && repetition > 0.0, "more than 0")?;
        check("frequency_penalty", self.frequency_penalty, self.frequency_penalty.is_finite(), "a finite number")?;
        check("presence_penalty", self.presence_penalty, self.presence_penalty.is_finite(), "a finite number")?;
        for &(_, bias) in &self.logit_bias {
            check("logit_bias", bias, bias < f32::INFINITY, "a number or -inf")?;
        }
        Ok(())
    }

    /// Whether any step needs to know the context or changes single logits.
    pub(super) fn changes_logits(&self) -> bool {
        !self.logit_bias.is_empty()
            || self.repetition_penalty != 1.0
            || self.frequency_penalty != 0.0
            || self.presence_penalty != 0.0
            || self.no_repeat_ngram_size > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_named() {
        let error = |change: fn(&mut SamplingParams)| {
            let mut params = SamplingParams::default();
            change(&mut params);
            params.validate().unwrap_err().to_string()
        };
        assert_eq!(error(|p| p.temperature = -1.0), "temperature is -1, but should be 0 or more");
        assert_eq!(error(|p| p.top_p = Some(1.5)), "top_p is 1.5, but should be between 0 and 1");
        assert_eq!(error(|p| p.top_p = Some(f32::NAN)), "top_p is NaN, but should be between 0 and 1");
        assert_eq!(error(|p| p.typical_p = Some(0.0)), "typical_p is 0, but should be more than 0");
        assert_eq!(error(|p| p.repetition_penalty = 0.0), "repetition_penalty is 0, but should be more than 0");
        assert_eq!(error(|p| p.logit_bias = vec![(0, f32::NAN)]), "logit_bias is NaN, but should be a number or -inf");
        assert!(SamplingParams::default().validate().is_ok());
        assert!(SamplingParams::greedy().validate().is_ok());
    }

    #[test]
    fn generation_config_is_read_as_it_is() {
        let config =
            r#"{"_from_model_config": true, "bos_token_id": 1, "do_sample": true, "top_k": 20, "temperature": 0.6}"#;
        let params: SamplingParams = serde_json::from_str(config).unwrap();
        assert_eq!(params, SamplingParams { top_k: Some(20), temperature: 0.6, ..SamplingParams::default() });
    }
}
