//! A fully connected layer in training, both ways, by kernels: weights that are frozen or trained, and an adapter beside them.

use std::sync::Arc;

use super::adapter::Trained;
use super::parameter::Parameter;
use super::run::values;
use crate::kernels::dense::{self, Left, Right};
use crate::kernels::gemm;
use crate::kernels::{Matrix, Pool, Precision};

/// `y = x · Wᵀ + b + scale · (drop(x) · Aᵀ) · Bᵀ`.
#[derive(Clone)]
pub(crate) struct Product {
    pub(crate) weights: Weights,
    pub(crate) bias: Option<Bias>,
    pub(crate) lora: Option<Trained>,
    /// What the numbers are that are multiplied, both ways.
    pub(crate) precision: Precision,
}

#[derive(Clone)]
pub(crate) enum Weights {
    Frozen(Arc<Matrix>),
    /// `[rows, columns]`
    Trained(Parameter),
}

#[derive(Clone)]
pub(crate) enum Bias {
    Frozen(Arc<[f32]>),
    Trained(Parameter),
}

impl Product {
    /// Features of the result.
    pub(crate) fn rows(&self) -> usize {
        match &self.weights {
            Weights::Frozen(weights) => weights.rows(),
            Weights::Trained(weights) => weights.shape()[0],
        }
    }

    /// The result `[rows, out]`, and what the way back needs of the adapter: `scale · (drop(x) · Aᵀ)`.
    pub(crate) fn forward(&self, pool: &Pool, x: &[f32], rows: usize) -> (Vec<f32>, Vec<f32>) {
        let (n, width, precision) = (self.rows(), x.len() / rows.max(1), self.precision);
        let left = Left { values: x, stride: width };
        let mut y = match &self.weights {
            Weights::Frozen(weights) => {
                let product = gemm::Product { weights, bias: None, then: None };
                let [y] = gemm::products_of(pool, precision, x, rows, &[product]);
                y
            }
            Weights::Trained(weights) => {
                let mut y = pool.memory.take(rows * n);
                let weights = weights.memory();
                dense::multiply(
                    pool,
                    precision,
                    left,
                    Right::Transposed(values(&weights)),
                    [rows, width, n],
                    &mut y,
                    false,
                );
                y
            }
        };
        let mut add = |bias: &[f32]| {
            y.chunks_exact_mut(n).for_each(|y| y.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias));
        };
        match &self.bias {
            Some(Bias::Frozen(bias)) => add(bias),
            Some(Bias::Trained(bias)) => add(values(&bias.memory())),
            None => (),
        }
        let Some(lora) = &self.lora else { return (y, Vec::new()) };
        let dropped = lora.dropout.of(x);
        let left = Left { values: dropped.as_deref().unwrap_or(x), stride: width };
        let [a, b] = lora.factors.each_ref().map(Parameter::memory);
        let r = lora.factors[0].shape()[0];
        let mut inner = vec![0.0; rows * r];
        dense::multiply(pool, precision, left, Right::Transposed(values(&a)), [rows, width, r], &mut inner, false);
        inner.iter_mut().for_each(|value| *value *= lora.scale);
        let b = &values(&b)[lora.rows.start * r..lora.rows.end * r];
        let left = Left { values: &inner, stride: r };
        dense::multiply(pool, precision, left, Right::Transposed(b), [rows, r, n], &mut y, true);
        (y, inner)
    }

    /// From the gradient for the result, `[rows, out]`, those for the parameters, which are added to their sums, and that for the input, which is
    /// put into `dx` or, with `add`, added to it. `inner` is what [`Product::forward`] said second.
    pub(crate) fn backward(&self, pool: &Pool, x: &[f32], inner: &[f32], dy: &[f32], dx: &mut [f32], add: bool) {
        let (n, precision) = (self.rows(), self.precision);
        let rows = dy.len() / n;
        let width = x.len() / rows.max(1);
        let left = Left { values: dy, stride: n };
        match &self.weights {
            Weights::Frozen(weights) => dense::times_weights(pool, precision, dy, rows, weights, dx, add),
            Weights::Trained(weights) => {
                let memory = weights.memory();
                dense::multiply(pool, precision, left, Right::Plain(values(&memory)), [rows, n, width], dx, add);
                weights.accumulate(|sums| dense::times_input(pool, precision, dy, x, rows, sums));
            }
        }
        if let Some(Bias::Trained(bias)) = &self.bias {
            bias.accumulate(|sums| {
                dy.chunks_exact(n).for_each(|dy| sums.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy));
            });
        }
        let Some(lora) = &self.lora else { return };
        let [a, b] = lora.factors.each_ref().map(Parameter::memory);
        let r = lora.factors[0].shape()[0];
        let part = lora.rows.start * r..lora.rows.end * r;
        let mut for_inner = vec![0.0; rows * r];
        let factor = Right::Plain(&values(&b)[part.clone()]);
        dense::multiply(pool, precision, left, factor, [rows, n, r], &mut for_inner, false);
        for_inner.iter_mut().for_each(|value| *value *= lora.scale);
        let mut turned = vec![0.0; r * n];
        dense::times_input(pool, precision, inner, dy, rows, &mut turned);
        lora.factors[1].accumulate(|sums| {
            for (at, sum) in sums[part].iter_mut().enumerate() {
                *sum += turned[at % r * n + at / r];
            }
        });
        let dropped = lora.dropout.of(x);
        let seen = dropped.as_deref().unwrap_or(x);
        lora.factors[0].accumulate(|sums| dense::times_input(pool, precision, &for_inner, seen, rows, sums));
        let (left, factor, size) = (Left { values: &for_inner, stride: r }, Right::Plain(values(&a)), [rows, r, width]);
        if dropped.is_none() {
            return dense::multiply(pool, precision, left, factor, size, dx, true);
        }
        let mut more = vec![0.0; rows * width];
        dense::multiply(pool, precision, left, factor, size, &mut more, false);
        let more = lora.dropout.of(&more).unwrap_or(more);
        dx.iter_mut().zip(more).for_each(|(dx, more)| *dx += more);
    }
}
