//! The feed-forward part of most decoders.

use burn::Tensor;

use super::activation::{Activation, gated};
use super::{Bias, Linear, Loader, Run, project};
use crate::error::Error;

/// Gated feed-forward (Shazeer 2020): `down(activation(gate(x)) · up(x))`.
pub(crate) struct GatedMlp {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
    activation: Activation,
}

impl GatedMlp {
    /// From `{name}.gate_proj`, `{name}.up_proj` and `{name}.down_proj`.
    pub(crate) fn load(
        loader: &mut Loader,
        name: &str,
        [hidden, inner]: [usize; 2],
        activation: Activation,
        bias: Bias,
    ) -> Result<Self, Error> {
        let names = ["gate_proj", "up_proj", "down_proj"].map(|part| format!("{name}.{part}"));
        Self::load_named(loader, names, [hidden, inner], activation, bias)
    }

    /// From layers of other names: gate, up, down.
    pub(crate) fn load_named(
        loader: &mut Loader,
        [gate, up, down]: [String; 3],
        [hidden, inner]: [usize; 2],
        activation: Activation,
        bias: Bias,
    ) -> Result<Self, Error> {
        Ok(Self {
            gate_proj: loader.linear(&gate, inner, hidden, bias)?,
            up_proj: loader.linear(&up, inner, hidden, bias)?,
            down_proj: loader.linear(&down, hidden, inner, bias)?,
            activation,
        })
    }

    /// # Shapes
    /// - `x`: `[rows, hidden]`; returns the same
    pub(crate) fn forward(&self, run: Run<'_>, x: Tensor<2>) -> Tensor<2> {
        #[cfg(feature = "tune")]
        if let (Some(tape), Activation::Silu) = (run.tape(), self.activation) {
            return tape.gated(
                x,
                [&self.gate_proj, &self.up_proj, &self.down_proj].map(|layer| layer.product(tape.precision())),
            );
        }
        let [gate, up] = project(run, [&self.gate_proj, &self.up_proj], x);
        self.down_proj.forward(run, gated(run, self.activation, gate, up))
    }
}
