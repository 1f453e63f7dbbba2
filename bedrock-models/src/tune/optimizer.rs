//! Adam with decoupled weight decay (Loshchilov and Hutter 2017).

use serde::{Deserialize, Serialize};

use super::compact::Compact;
use crate::kernels::Pool;
use crate::kernels::gradient::{AdamStep, adamw};

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
    /// The longest that the gradients of all parameters may be as one vector; longer ones are scaled to it. None: as they are.
    pub max_gradient_norm: Option<f64>,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { learning_rate: 1e-4, weight_decay: 0.0, betas: [0.9, 0.999], eps: 1e-8, max_gradient_norm: None }
    }
}

/// Running means of a parameter's gradients.
pub(super) enum Moments {
    Exact { mean: Vec<f32>, square: Vec<f32> },
    Compact(Compact),
}

impl Moments {
    pub(super) fn new(len: usize) -> Self {
        // Written, not only reserved: what is read first is mapped twice.
        let zeros = || std::iter::repeat_n(0.0, len).collect();
        Self::Exact { mean: zeros(), square: zeros() }
    }

    /// Mean gradients.
    pub(super) fn mean(&self) -> Vec<f32> {
        match self {
            Self::Exact { mean, .. } => mean.clone(),
            Self::Compact(compact) => compact.values()[0].clone(),
        }
    }

    /// Means of squared gradients.
    pub(super) fn square(&self) -> Vec<f32> {
        match self {
            Self::Exact { square, .. } => square.clone(),
            Self::Compact(compact) => compact.values()[1].clone(),
        }
    }

    /// The same in eight bits a value, or, not `compact`, in 32.
    pub(super) fn compacted(self, compact: bool) -> Self {
        match (self, compact) {
            (Self::Exact { mean, square }, true) => Self::Compact(Compact::new(&mean, &square)),
            (Self::Compact(compact), false) => {
                let [mean, square] = compact.values();
                Self::Exact { mean, square }
            }
            (same, _) => same,
        }
    }

    /// Replaces the values, of which there are as many.
    pub(super) fn set(&mut self, mean: Vec<f32>, square: Vec<f32>) {
        *self = match self {
            Self::Exact { .. } => Self::Exact { mean, square },
            Self::Compact(_) => Self::Compact(Compact::new(&mean, &square)),
        };
    }

    /// Step number `step`, from 1 on, by gradients times `scale`.
    pub(super) fn step(
        &mut self,
        pool: &Pool,
        settings: &AdamW,
        step: u64,
        scale: f64,
        values: &mut [f32],
        gradients: &mut [f32],
    ) {
        let ([beta1, beta2], number) = (settings.betas, step);
        let correct = |beta: f64| 1.0 - beta.powf(step as f64);
        let step = AdamStep {
            size: (settings.learning_rate / correct(beta1)) as f32,
            root: correct(beta2).sqrt() as f32,
            keep: (1.0 - settings.learning_rate * settings.weight_decay) as f32,
            betas: [beta1 as f32, beta2 as f32],
            eps: settings.eps as f32,
            scale: scale as f32,
        };
        match self {
            Self::Exact { mean, square } => adamw(pool, step, values, gradients, mean, square),
            Self::Compact(compact) => compact.step(pool, step, number, values, gradients),
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
        let (pool, mut values, mut moments) = (Pool::new(1), [2.0, -1.0], Moments::new(2));
        moments.step(&pool, &settings, 1, 0.5, &mut values, &mut [6.0, -1.0]);
        assert!((values[0] - (2.0 * 0.95 - 0.1)).abs() < 1e-6 && (values[1] - (-0.95 + 0.1)).abs() < 1e-6);
        // Second step with no gradient: mean 0.9 · 0.1 · 3 / (1 - 0.81), square 0.999 · 0.001 · 9 / (1 - 0.998001).
        let before = values[0];
        moments.step(&pool, &settings, 2, 1.0, &mut values, &mut [0.0, 0.0]);
        let (mean, square) = (0.27 / 0.19, 0.008_991f64 / 0.001_999);
        let want = f64::from(before) * 0.95 - 0.1 * mean / square.sqrt();
        assert!((f64::from(values[0]) - want).abs() < 1e-5, "{} {want}", values[0]);
    }
}
