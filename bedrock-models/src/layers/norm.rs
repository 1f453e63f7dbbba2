//! Normalisation of each row.

use burn::Tensor;
use burn::tensor::TensorData;

use super::parameter::Parameter;
use super::run::{self, Compute, Run};
use crate::kernels::elementwise;

/// A vector of parameters, on the host for the kernels and on the device for burn.
#[derive(Debug)]
struct Vector {
    host: Vec<f32>,
    device: Option<Tensor<1>>,
    /// In training: the parameter, and what is added to it.
    trained: Option<(Parameter, f32)>,
}

impl Vector {
    fn new(compute: &Compute, values: Vec<f32>) -> Self {
        let len = values.len();
        let device =
            compute.pool.is_none().then(|| Tensor::from_data(TensorData::new(values.clone(), [len]), &compute.device));
        Self { host: values, device, trained: None }
    }

    /// The values as they are now, on the CPU, and the parameter that they belong to.
    #[cfg(feature = "tune")]
    fn current(&self) -> (Vec<f32>, Option<&Parameter>) {
        match &self.trained {
            Some((parameter, offset)) => {
                let memory = parameter.memory();
                (run::values(&memory).iter().map(|value| value + offset).collect(), Some(parameter))
            }
            None => (self.host.clone(), None),
        }
    }

    fn tensor(&self) -> Tensor<2> {
        if let Some((parameter, offset)) = &self.trained {
            let values = parameter.vector().unsqueeze();
            return if *offset == 0.0 { values } else { values + *offset };
        }
        self.device.clone().expect("kept where there are no kernels").unsqueeze()
    }
}

/// Root-mean-square normalisation (Zhang and Sennrich 2019): `x / √(mean(x²) + ε) · w`.
#[derive(Debug)]
pub(crate) struct RmsNorm {
    weight: Vector,
    eps: f64,
}

impl RmsNorm {
    pub(crate) fn new(compute: &Compute, weight: Vec<f32>, eps: f64) -> Self {
        Self { weight: Vector::new(compute, weight), eps }
    }

    /// The same with a trained weight, to which `offset` is added.
    pub(crate) fn trained(mut self, weight: Parameter, offset: f32) -> Self {
        self.weight.trained = Some((weight, offset));
        self
    }

    /// # Shapes
    /// - `x`: `[rows, features]`; returns the same
    pub(crate) fn forward(&self, run: Run<'_>, x: Tensor<2>) -> Tensor<2> {
        let shape = x.dims();
        if let Some(pool) = run.pool() {
            let x = run::flex(x);
            let mut out = pool.memory.take(shape[0] * shape[1]);
            elementwise::rms_norm(pool, run::values(&x), &self.weight.host, self.eps as f32, &mut out);
            return run::from_vec(pool, out, shape);
        }
        #[cfg(feature = "tune")]
        if let Some(tape) = run.tape() {
            let (weight, trained) = self.weight.current();
            return tape.rms_norm(x, weight, self.eps as f32, trained);
        }
        let square = x.clone().powf_scalar(2.0).mean_dim(1);
        x / (square + self.eps).sqrt() * self.weight.tensor()
    }

    /// Each head by itself, all with the same weight, whose length is a head's.
    ///
    /// # Shapes
    /// - `x`: `[rows, heads · head_dim]`; returns the same
    pub(crate) fn forward_heads(&self, run: Run<'_>, x: Tensor<2>) -> Tensor<2> {
        let [rows, width] = x.dims();
        let dim = self.weight.host.len();
        self.forward(run, x.reshape([rows * width / dim, dim])).reshape([rows, width])
    }
}

/// Layer normalisation (Ba et al. 2016): `(x - mean) / √(variance + ε) · w + b`.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Vector,
    bias: Vector,
    eps: f64,
    /// Values that are normalised together: all of a row, or a head.
    dim: usize,
}

impl LayerNorm {
    /// # Panics
    /// If weight and bias differ in length (the loader checks both).
    pub(crate) fn new(compute: &Compute, weight: Vec<f32>, bias: Vec<f32>, eps: f64) -> Self {
        let dim = weight.len();
        Self::heads(compute, dim, weight, bias, eps)
    }

    /// Each head by itself, with weights of its own: weight and bias have `heads · dim` values.
    ///
    /// # Panics
    /// If weight and bias differ in length, or are not whole heads.
    pub(crate) fn heads(compute: &Compute, dim: usize, weight: Vec<f32>, bias: Vec<f32>, eps: f64) -> Self {
        assert!(weight.len() == bias.len() && weight.len().is_multiple_of(dim));
        Self { weight: Vector::new(compute, weight), bias: Vector::new(compute, bias), eps, dim }
    }

    /// The same with a trained weight and bias, where they are.
    pub(crate) fn trained(mut self, weight: Option<Parameter>, bias: Option<Parameter>) -> Self {
        self.weight.trained = weight.map(|weight| (weight, 0.0));
        self.bias.trained = bias.map(|bias| (bias, 0.0));
        self
    }

    /// # Shapes
    /// - `x`: `[rows, features]`; returns the same
    pub(crate) fn forward(&self, run: Run<'_>, x: Tensor<2>) -> Tensor<2> {
        if let Some(pool) = run.pool() {
            let mut x = run::flex(x);
            let (weight, bias) = (&self.weight.host, &self.bias.host);
            elementwise::layer_norm(pool, run::values_mut(&mut x), self.dim, weight, bias, self.eps as f32);
            return run::from_flex(x);
        }
        let [rows, width] = x.dims();
        let x = x.reshape([rows * width / self.dim, self.dim]);
        let x = x.clone() - x.mean_dim(1);
        let variance = x.clone().powf_scalar(2.0).mean_dim(1);
        let x = (x / (variance + self.eps).sqrt()).reshape([rows, width]);
        x * self.weight.tensor() + self.bias.tensor()
    }
}

/// `x + y`, in the memory of `x` where it can be.
///
/// # Shapes
/// - `x`, `y`: `[rows, features]`; returns the same
pub(crate) fn add(run: Run<'_>, x: Tensor<2>, y: Tensor<2>) -> Tensor<2> {
    let [_, width] = x.dims();
    #[cfg(feature = "tune")]
    if let Some(tape) = run.tape() {
        return tape.add(x, y);
    }
    let Some(pool) = run.pool() else { return x + y };
    let (mut x, y) = (run::flex(x), run::flex(y));
    elementwise::add(pool, run::values_mut(&mut x), run::values(&y), width);
    run::from_flex(x)
}
