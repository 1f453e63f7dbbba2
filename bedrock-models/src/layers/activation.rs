//! Activation functions.

use burn::Tensor;
use burn::tensor::activation::{gelu, relu, silu, tanh};
use serde::Deserialize;

use super::run::{self, Run};
use crate::kernels::elementwise;

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
    /// # Shapes
    /// - `x`: `[rows, features]`; returns the same
    pub(crate) fn forward(self, run: Run<'_>, x: Tensor<2>) -> Tensor<2> {
        let [_, width] = x.dims();
        match (self, run.pool()) {
            (Activation::Gelu | Activation::GeluTanh, Some(pool)) => {
                let mut x = run::flex(x);
                elementwise::gelu(pool, run::values_mut(&mut x), width, self == Activation::GeluTanh);
                run::from_flex(x)
            }
            (Activation::Gelu, None) => gelu(x),
            (Activation::GeluTanh, None) => {
                let inner = (x.clone() + x.clone().powf_scalar(3.0) * 0.044_715) * 0.797_884_560_802_865_4;
                x * (tanh(inner) + 1.0) * 0.5
            }
            (Activation::Silu, _) => silu(x),
            (Activation::Relu, _) => relu(x),
            (Activation::Tanh, _) => tanh(x),
        }
    }
}

/// SwiGLU (Shazeer 2020): `silu(gate) · up`.
///
/// # Shapes
/// - `gate`, `up`: `[rows, features]`; returns the same
pub(crate) fn swiglu(run: Run<'_>, gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    let [_, width] = gate.dims();
    let Some(pool) = run.pool() else { return silu(gate) * up };
    let (mut gate, up) = (run::flex(gate), run::flex(up));
    elementwise::silu_mul(pool, run::values_mut(&mut gate), run::values(&up), width);
    run::from_flex(gate)
}
