//! Fully connected layers on stored weights.

use std::sync::Arc;

use burn::Tensor;
use burn::tensor::TensorData;

use super::activation::Activation;
use super::adapter::Lora;
use super::parameter::Parameter;
#[cfg(feature = "tune")]
use super::product::{self, Weights};
use super::run::{self, Compute, Phase, Run};
#[cfg(feature = "tune")]
use crate::kernels::Precision;
use crate::kernels::gemm::{self, Product, Then};
use crate::kernels::{Matrix, elementwise};

/// `y = x · Wᵀ + b`.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Weight,
    bias: Option<Vec<f32>>,
    /// The bias in training, in place of the other.
    trained_bias: Option<Parameter>,
    rows: usize,
    lora: Option<Lora>,
    /// Adapters of which a request chooses one, with their numbers.
    choices: Vec<(usize, Lora)>,
}

#[derive(Debug)]
// One a layer: its size is nothing beside the weights.
#[allow(clippy::large_enum_variant)]
enum Weight {
    /// As stored, for our kernels.
    Stored(Arc<Matrix>),
    /// `[columns, rows]` in `f32` on a device without kernels, and the bias there.
    Dense(Tensor<2>, Option<Tensor<1>>),
    /// `[rows, columns]`, in training.
    Trained(Parameter),
}

impl Linear {
    /// # Panics
    /// If the bias has another length than the matrix has rows (the loader checks it).
    pub(crate) fn new(compute: &Compute, matrix: Arc<Matrix>, bias: Option<Vec<f32>>) -> Self {
        let rows = matrix.rows();
        assert!(bias.as_ref().is_none_or(|bias| bias.len() == rows));
        let weight = if compute.has_kernels() {
            Weight::Stored(matrix)
        } else {
            let device = &compute.device;
            let data = TensorData::new(matrix.to_f32(), [rows, matrix.columns()]);
            let bias = bias.as_ref().map(|bias| Tensor::from_data(TensorData::new(bias.clone(), [rows]), device));
            Weight::Dense(Tensor::<2>::from_data(data, device).transpose(), bias)
        };
        Self { weight, bias, trained_bias: None, rows, lora: None, choices: Vec::new() }
    }

    /// A layer whose weights are trained.
    pub(crate) fn trained(weight: Parameter, bias: Option<Vec<f32>>) -> Self {
        let rows = weight.shape()[0];
        Self { weight: Weight::Trained(weight), bias, trained_bias: None, rows, lora: None, choices: Vec::new() }
    }

    /// The same layer with a bias that is trained, where there is one.
    pub(crate) fn with_trained_bias(self, trained_bias: Option<Parameter>) -> Self {
        Self { trained_bias, ..self }
    }

    /// The same layer with an adapter beside it.
    pub(crate) fn with_lora(self, lora: Option<Lora>) -> Self {
        Self { lora, ..self }
    }

    /// The same layer with adapters beside it of which each row has one or none.
    pub(crate) fn with_choices(self, choices: Vec<(usize, Lora)>) -> Self {
        Self { choices, ..self }
    }

    /// The numbers of adapters that requests choose from and that are beside this layer.
    pub(crate) fn chosen_by(&self) -> impl Iterator<Item = usize> + '_ {
        self.choices.iter().map(|(number, _)| *number)
    }

    /// A result without adapters, with theirs added.
    fn adapted(&self, run: Run<'_>, x: &Tensor<2>, y: Tensor<2>) -> Tensor<2> {
        let y = match &self.lora {
            Some(lora) => lora.add(run, x.clone(), y),
            None => y,
        };
        match &run.compute.chosen {
            Some(chosen) => {
                self.choices.iter().fold(y, |y, (number, lora)| lora.add_chosen(run, x, y, chosen, *number))
            }
            None => y,
        }
    }

    /// # Shapes
    /// - `x`: `[rows, in]`
    /// - returns `[rows, out]`
    pub(crate) fn forward(&self, run: Run<'_>, x: Tensor<2>) -> Tensor<2> {
        let [y] = project(run, [self], x);
        y
    }

    /// The layer, then an activation function.
    ///
    /// # Shapes
    /// - `x`: `[rows, in]`
    /// - returns `[rows, out]`
    pub(crate) fn forward_activated(&self, run: Run<'_>, x: Tensor<2>, activation: Activation) -> Tensor<2> {
        let (Some(pool), Some(kernel)) = (run.pool(), activation.kernel()) else {
            return activation.forward(self.forward(run, x));
        };
        if self.lora.is_none() && self.choices.is_empty() {
            let [y] = project_then(run, [self], x, Some(kernel));
            return y;
        }
        // The same function, so that rows without an adapter are the same to the bit as where there is none.
        let mut y = run::flex(self.forward(run, x));
        elementwise::apply(pool, run::values_mut(&mut y), self.rows, kernel);
        run::from_flex(y)
    }
}

#[cfg(feature = "tune")]
impl Linear {
    /// What is trained, for kernels that record.
    pub(crate) fn product(&self, precision: Precision) -> product::Product {
        let weights = match &self.weight {
            Weight::Stored(matrix) => Weights::Frozen(matrix.clone()),
            Weight::Trained(weight) => Weights::Trained(weight.clone()),
            Weight::Dense(..) => unreachable!("dense weights are kept only where there are no kernels"),
        };
        let lora = self.lora.as_ref().map(|lora| match lora {
            Lora::Trained(trained) => trained.clone(),
            Lora::Stored(..) | Lora::Dense(..) => unreachable!("adapters are trained where there is a tape"),
        });
        let bias = match (&self.trained_bias, &self.bias) {
            (Some(bias), _) => Some(product::Bias::Trained(bias.clone())),
            (None, bias) => bias.as_deref().map(|bias| product::Bias::Frozen(bias.into())),
        };
        product::Product { weights, bias, lora, precision }
    }
}

/// Several layers on the same input, in one parallel region.
///
/// # Shapes
/// - `x`: `[rows, in]`
/// - returns `[rows, out]` of each layer
pub(crate) fn project<const N: usize>(run: Run<'_>, layers: [&Linear; N], x: Tensor<2>) -> [Tensor<2>; N] {
    project_then(run, layers, x, None)
}

/// [`project`]; `then` is applied to the results where there are kernels.
fn project_then<const N: usize>(
    run: Run<'_>,
    layers: [&Linear; N],
    x: Tensor<2>,
    then: Option<Then>,
) -> [Tensor<2>; N] {
    #[cfg(feature = "tune")]
    if let Some(tape) = run.tape() {
        return layers.map(|layer| tape.linear(x.clone(), layer.product(tape.precision())));
    }
    let results = project_bare(run, layers, x.clone(), then);
    let mut layers = layers.iter();
    results.map(|y| layers.next().expect("one layer a result").adapted(run, &x, y))
}

/// [`project_then`] without adapters.
fn project_bare<const N: usize>(
    run: Run<'_>,
    layers: [&Linear; N],
    x: Tensor<2>,
    then: Option<Then>,
) -> [Tensor<2>; N] {
    let [rows, _] = x.dims();
    let Some(pool) = run.pool() else {
        return layers.map(|layer| {
            let y = match &layer.weight {
                Weight::Dense(weight, _) => x.clone().matmul(weight.clone()),
                Weight::Trained(weight) => x.clone().matmul(weight.matrix().transpose()),
                Weight::Stored(_) => unreachable!("stored weights are kept only where there are kernels"),
            };
            let bias = match (&layer.trained_bias, &layer.weight, &layer.bias) {
                (Some(bias), ..) => bias.vector(),
                (None, Weight::Dense(_, Some(bias)), _) => bias.clone(),
                (None, _, Some(bias)) => {
                    Tensor::from_data(TensorData::new(bias.clone(), [layer.rows]), &run.compute.device)
                }
                (None, _, None) => return y,
            };
            y + bias.unsqueeze()
        });
    };
    let x = run::flex(x);
    let products = layers.map(|layer| match &layer.weight {
        Weight::Stored(weights) => Product { weights, bias: layer.bias.as_deref(), then },
        Weight::Dense(..) | Weight::Trained(..) => {
            unreachable!("dense weights are kept only where there are no kernels")
        }
    });
    let outs = match run.phase {
        Phase::Prompt => gemm::prompt(pool, run::values(&x), rows, run.compute.activations, &products),
        Phase::Decode => gemm::stream(pool, run::values(&x), rows, run.compute.activations, &products),
    };
    let mut layers = layers.iter();
    outs.map(|out| run::from_vec(pool, out, [rows, layers.next().expect("one layer an output").rows]))
}
