//! Adam with decoupled weight decay (Loshchilov and Hutter 2017).

use serde::{Deserialize, Serialize};

/// Settings of AdamW.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AdamW {
    /// Step size.
    pub learning_rate: f64,
    /// What each value loses of itself in a step, times the step size. Of every trained parameter.
    pub weight_decay: f64,
    /// Decay of the mean gradient, and of its mean square.
    pub betas: [f64; 2],
    /// Added to the root of the mean square.
    pub eps: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { learning_rate: 1e-4, weight_decay: 0.0, betas: [0.9, 0.999], eps: 1e-8 }
    }
}

/// Running means of a parameter's gradients.
pub(super) struct Moments {
    mean: Vec<f32>,
    square: Vec<f32>,
}

impl Moments {
    pub(super) fn new(len: usize) -> Self {
        Self { mean: vec![0.0; len], square: vec![0.0; len] }
    }

    /// Step number `step`, from 1 on.
    pub(super) fn step(&mut self, settings: &AdamW, step: u64, values: &mut [f32], gradients: &[f32]) {
        let [beta1, beta2] = settings.betas;
        let correct = |beta: f64| 1.0 - beta.powf(step as f64);
        let size = (settings.learning_rate / correct(beta1)) as f32;
        let root = correct(beta2).sqrt() as f32;
        let keep = (1.0 - settings.learning_rate * settings.weight_decay) as f32;
        let (beta1, beta2, eps) = (beta1 as f32, beta2 as f32, settings.eps as f32);
        let moments = self.mean.iter_mut().zip(&mut self.square);
        for ((value, gradient), (mean, square)) in values.iter_mut().zip(gradients).zip(moments) {
            *mean = beta1 * *mean + (1.0 - beta1) * gradient;
            *square = beta2 * *square + (1.0 - beta2) * gradient * gradient;
            *value = *value * keep - size * *mean / (square.sqrt() / root + eps);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first step moves every value by the learning rate against its gradient's sign, after the decay.
    #[test]
    fn the_first_steps_by_hand() {
        let settings = AdamW { learning_rate: 0.1, weight_decay: 0.5, ..AdamW::default() };
        let (mut values, mut moments) = ([2.0, -1.0], Moments::new(2));
        moments.step(&settings, 1, &mut values, &[3.0, -0.5]);
        assert!((values[0] - (2.0 * 0.95 - 0.1)).abs() < 1e-6 && (values[1] - (-0.95 + 0.1)).abs() < 1e-6);
        // Second step with no gradient: mean 0.9 · 0.1 · 3 / (1 - 0.81), square 0.999 · 0.001 · 9 / (1 - 0.998001).
        let before = values[0];
        moments.step(&settings, 2, &mut values, &[0.0, 0.0]);
        let (mean, square) = (0.27 / 0.19, 0.008_991f64 / 0.001_999);
        let want = f64::from(before) * 0.95 - 0.1 * mean / square.sqrt();
        assert!((f64::from(values[0]) - want).abs() < 1e-5, "{} {want}", values[0]);
    }
}
