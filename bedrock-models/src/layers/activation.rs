//! Activation functions.

use burn::Tensor;
use burn::tensor::activation::{gelu, relu, silu, tanh};
use serde::Deserialize;

use super::linear::{Linear, project};
use super::run::{self, Run};
use crate::kernels::gemm::Then;
use crate::kernels::{Pool, elementwise};

/// The functions that `hidden_act` of a configuration can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Activation {
    /// GELU with the error function (Hendrycks and Gimpel 2016).
    #[serde(rename = "gelu")]
    Gelu,
    /// GELU in its `tanh` form.
    #[serde(rename = "gelu_new", alias = "gelu_pytorch_tanh", alias = "gelu_fast")]
    GeluTanh,
    #[serde(rename = "silu", alias = "swish")]
    Silu,
    #[serde(rename = "relu")]
    Relu,
    #[serde(rename = "tanh")]
    Tanh,
}

impl Activation {
    /// The function over a slice, where there is one of our own.
    pub(crate) fn kernel(self) -> Option<Then> {
        match self {
            Activation::Gelu => Some(elementwise::gelu),
            Activation::GeluTanh => Some(elementwise::gelu_tanh),
            Activation::Silu | Activation::Relu | Activation::Tanh => None,
        }
    }

    /// By burn's operations, on any device.
    ///
    /// # Shapes
    /// - `x`: `[rows, features]`; returns the same
    pub(crate) fn forward(self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Activation::Gelu => gelu(x),
            Activation::GeluTanh => {
                let inner = (x.clone() + x.clone().powf_scalar(3.0) * 0.044_715) * 0.797_884_560_802_865_4;
                x * (tanh(inner) + 1.0) * 0.5
            }
            Activation::Silu => silu(x),
            Activation::Relu => relu(x),
            Activation::Tanh => tanh(x),
        }
    }
}

/// A gated unit (Shazeer 2020): `activation(gate) · up`.
///
/// # Shapes
/// - `gate`, `up`: `[rows, features]`; returns the same
pub(crate) fn gated(run: Run<'_>, activation: Activation, gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    let [_, width] = gate.dims();
    #[cfg(feature = "tune")]
    if let (Some(tape), Activation::Silu) = (run.tape(), activation) {
        return tape.silu_mul(gate, up);
    }
    let kernel = match (run.pool(), activation) {
        (Some(pool), Activation::Silu) => Some((pool, elementwise::silu_mul as Gate)),
        (Some(pool), Activation::GeluTanh) => Some((pool, elementwise::gelu_tanh_mul as Gate)),
        _ => None,
    };
    let Some((pool, kernel)) = kernel else { return activation.forward(gate) * up };
    let (mut gate, up) = (run::flex(gate), run::flex(up));
    kernel(pool, run::values_mut(&mut gate), run::values(&up), width);
    run::from_flex(gate)
}

type Gate = fn(&Pool, &mut [f32], &[f32], usize);

/// Keeps values inside `±cap` smoothly: `cap · tanh(x / cap)`.
///
/// # Shapes
/// - `x`: `[rows, features]`; returns the same
pub(crate) fn soft_cap(run: Run<'_>, x: Tensor<2>, cap: f32) -> Tensor<2> {
    let [_, width] = x.dims();
    let Some(pool) = run.pool() else { return tanh(x / cap) * cap };
    let mut x = run::flex(x);
    elementwise::soft_cap_rows(pool, run::values_mut(&mut x), width, cap);
    run::from_flex(x)
}

/// [`gated`] of two layers on the same input.
///
/// # Shapes
/// - `x`: `[rows, in]`; returns `[rows, features]`
pub(crate) fn project_gated(run: Run<'_>, [gate, up]: [&Linear; 2], x: Tensor<2>, activation: Activation) -> Tensor<2> {
    let Some(pool) = run.pool().filter(|_| activation.kernel().is_some()) else {
        let [gate, up] = project(run, [gate, up], x);
        return gated(run, activation, gate, up);
    };
    let gate = gate.forward_activated(run, x.clone(), activation);
    let up = up.forward(run, x);
    let [_, width] = gate.dims();
    let (mut gate, up) = (run::flex(gate), run::flex(up));
    elementwise::mul(pool, run::values_mut(&mut gate), run::values(&up), width);
    run::from_flex(gate)
}
