//! What training records: the operations of our kernels, each with gradients that kernels compute.
//!
//! On the CPU, layers that train run the kernels that answer, and note for the way back only what it needs. Gradients of parameters go straight into the
//! [`Parameter`]'s sums; the graph carries those of activations. Layers without such an operation are composed of burn's,
//! which record themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use burn::Tensor;
use burn::tensor::{Device, TensorData};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::{Flex, FlexTensor};

use super::adapter::Trained;
use super::parameter::Parameter;
use super::run::{self, values};
use crate::kernels::attention::{Heads, Mask};
use crate::kernels::attention_gradient::{self, Inputs, Whole};
use crate::kernels::dense::{self, Left, Right};
use crate::kernels::gemm::{self, Product};
use crate::kernels::{Matrix, Pool, elementwise, gradient};

/// The kernels of a model that is trained, and what its operations share.
#[derive(Debug, Clone)]
pub(crate) struct Tape {
    pub(crate) pool: Arc<Pool>,
    /// Whether gradients are wanted; otherwise nothing is kept.
    recording: Arc<AtomicBool>,
}

/// What a layer is multiplied with.
#[derive(Clone)]
pub(crate) enum Weights {
    Frozen(Arc<Matrix>),
    /// `[rows, columns]`, and a bias
    Trained(Parameter, Option<Parameter>),
}

/// Gradients of `N` inputs, given that of the result.
type Gradient<const N: usize> = dyn Fn(&[f32]) -> [Vec<f32>; N] + Send + Sync;

#[derive(Clone)]
struct Way<const N: usize> {
    back: Arc<Gradient<N>>,
    shapes: [[usize; 2]; N],
}

impl<const N: usize> std::fmt::Debug for Way<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Way({:?})", self.shapes)
    }
}

#[derive(Debug)]
struct Recorded<const N: usize>;

impl<const N: usize> Backward<Flex, N> for Recorded<N> {
    type State = Way<N>;

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node);
        let gradient = if gradient.as_slice::<f32>().is_some() { gradient } else { gradient.to_contiguous() };
        let found = (ops.state.back)(values(&gradient));
        for ((parent, found), shape) in ops.parents.into_iter().zip(found).zip(ops.state.shapes) {
            if let Some(parent) = parent {
                gradients.register::<Flex>(parent.id, FlexTensor::from_data(TensorData::new(found, shape)));
            }
        }
    }
}

/// A result that knows its way back to `inputs`.
fn record<const N: usize>(
    inputs: [Tensor<2>; N],
    out: Vec<f32>,
    shape: [usize; 2],
    back: impl Fn(&[f32]) -> [Vec<f32>; N] + Send + Sync + 'static,
) -> Tensor<2> {
    let shapes = inputs.each_ref().map(Tensor::dims);
    let nodes = inputs.map(|input| {
        let input = input.try_into_primitive::<Autodiff<Flex>>().expect("a tape is used on the device it was made for");
        input.node()
    });
    let out = FlexTensor::from_data(TensorData::new(out, shape));
    let out = match Recorded::<N>.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(way) => way.finish(Way { back: Arc::new(back), shapes }, out),
        OpsKind::UnTracked(way) => way.finish(out),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(out)
}

/// The memory of a tensor, without its history.
fn plain(x: &Tensor<2>) -> FlexTensor {
    run::flex(x.clone().inner())
}

impl Tape {
    pub(crate) fn new(pool: Arc<Pool>) -> Self {
        Self { pool, recording: Arc::default() }
    }

    /// What follows is for gradients, or not.
    pub(crate) fn record(&self, recording: bool) {
        self.recording.store(recording, Relaxed);
    }

    /// Rows of a table.
    ///
    /// # Shapes
    /// - `out`: the rows, `[indices.len(), width]`; returns the same
    pub(crate) fn embedding(
        &self,
        device: &Device,
        out: Vec<f32>,
        indices: Vec<usize>,
        table: Option<&Parameter>,
    ) -> Tensor<2> {
        let shape = [indices.len(), out.len() / indices.len().max(1)];
        if !self.recording.load(Relaxed) {
            return Tensor::from_data(TensorData::new(out, shape), device);
        }
        // Nothing before this has a gradient, but what comes after is to be recorded.
        let spark = Tensor::<2>::zeros([1, 1], device).require_grad();
        let (table, width) = (table.cloned(), shape[1]);
        record([spark], out, shape, move |dy| {
            if let Some(table) = &table {
                table.accumulate(|sums| {
                    for (index, dy) in indices.iter().zip(dy.chunks_exact(width)) {
                        sums[index * width..][..width].iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
                    }
                });
            }
            [vec![0.0]]
        })
    }

    /// A fully connected layer with its adapter.
    ///
    /// # Shapes
    /// - `x`: `[rows, in]`; returns `[rows, out]`
    pub(crate) fn linear(
        &self,
        x: Tensor<2>,
        weights: &Weights,
        bias: Option<&[f32]>,
        lora: Option<&Trained>,
    ) -> Tensor<2> {
        let pool = &*self.pool;
        let [rows, width] = x.dims();
        let input = plain(&x);
        let left = Left { values: values(&input), stride: width };
        let mut y = match weights {
            Weights::Frozen(weights) => {
                let [y] = gemm::products(pool, values(&input), rows, &[Product { weights, bias, then: None }]);
                y
            }
            Weights::Trained(weights, _) => {
                let n = weights.shape()[0];
                let mut y = vec![0.0; rows * n];
                let weights = weights.memory();
                dense::multiply(pool, left, Right::Transposed(values(&weights)), [rows, width, n], &mut y, false);
                y
            }
        };
        let n = y.len() / rows.max(1);
        if let Weights::Trained(_, Some(bias)) = weights {
            let bias = bias.memory();
            for y in y.chunks_exact_mut(n) {
                y.iter_mut().zip(values(&bias)).for_each(|(y, bias)| *y += bias);
            }
        }
        let beside = lora.map(|lora| {
            let dropped = lora.dropout.of(values(&input));
            let left = Left { values: dropped.as_deref().unwrap_or(left.values), stride: width };
            let [a, b] = lora.factors.each_ref().map(Parameter::memory);
            let r = lora.factors[0].shape()[0];
            let mut inner = vec![0.0; rows * r];
            dense::multiply(pool, left, Right::Transposed(values(&a)), [rows, width, r], &mut inner, false);
            inner.iter_mut().for_each(|value| *value *= lora.scale);
            let b = &values(&b)[lora.rows.start * r..lora.rows.end * r];
            let left = Left { values: &inner, stride: r };
            dense::multiply(pool, left, Right::Transposed(b), [rows, r, n], &mut y, true);
            (lora.clone(), inner)
        });
        let (tape, weights) = (self.clone(), weights.clone());
        record([x], y, [rows, n], move |dy| {
            let pool = &*tape.pool;
            let left = Left { values: dy, stride: n };
            let mut dx = vec![0.0; rows * width];
            match &weights {
                Weights::Frozen(weights) => dense::times_weights(pool, dy, rows, weights, &mut dx),
                Weights::Trained(weights, bias) => {
                    let memory = weights.memory();
                    dense::multiply(pool, left, Right::Plain(values(&memory)), [rows, n, width], &mut dx, false);
                    weights.accumulate(|sums| dense::times_input(pool, dy, values(&input), rows, sums));
                    if let Some(bias) = bias {
                        bias.accumulate(|sums| {
                            dy.chunks_exact(n).for_each(|dy| sums.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy));
                        });
                    }
                }
            }
            if let Some((lora, inner)) = &beside {
                let [a, b] = lora.factors.each_ref().map(Parameter::memory);
                let r = inner.len() / rows.max(1);
                let part = lora.rows.start * r..lora.rows.end * r;
                let mut di = vec![0.0; rows * r];
                dense::multiply(pool, left, Right::Plain(&values(&b)[part.clone()]), [rows, n, r], &mut di, false);
                di.iter_mut().for_each(|value| *value *= lora.scale);
                let mut turned = vec![0.0; r * n];
                dense::times_input(pool, inner, dy, rows, &mut turned);
                lora.factors[1].accumulate(|sums| {
                    for (at, sum) in sums[part].iter_mut().enumerate() {
                        *sum += turned[at % r * n + at / r];
                    }
                });
                let dropped = lora.dropout.of(values(&input));
                let x = dropped.as_deref().unwrap_or(values(&input));
                lora.factors[0].accumulate(|sums| dense::times_input(pool, &di, x, rows, sums));
                let left = Left { values: &di, stride: r };
                if dropped.is_none() {
                    dense::multiply(pool, left, Right::Plain(values(&a)), [rows, r, width], &mut dx, true);
                } else {
                    let mut more = vec![0.0; rows * width];
                    dense::multiply(pool, left, Right::Plain(values(&a)), [rows, r, width], &mut more, false);
                    let more = lora.dropout.of(&more).unwrap_or(more);
                    dx.iter_mut().zip(more).for_each(|(dx, more)| *dx += more);
                }
            }
            [dx]
        })
    }

    /// Root-mean-square normalisation.
    ///
    /// # Shapes
    /// - `x`: `[rows, features]`; returns the same
    pub(crate) fn rms_norm(&self, x: Tensor<2>, weight: &[f32], eps: f32, trained: Option<&Parameter>) -> Tensor<2> {
        let (shape, input) = (x.dims(), plain(&x));
        let mut out = vec![0.0; shape[0] * shape[1]];
        elementwise::rms_norm(&self.pool, values(&input), weight, eps, &mut out);
        let (pool, weight, trained) = (self.pool.clone(), weight.to_vec(), trained.cloned());
        record([x], out, shape, move |dy| {
            let mut own = Vec::new();
            let back = |sums: &mut [f32]| gradient::rms_norm(&pool, values(&input), &weight, eps, dy, sums);
            [match &trained {
                Some(parameter) => parameter.accumulate(back),
                None => {
                    own.resize(weight.len(), 0.0);
                    back(&mut own)
                }
            }]
        })
    }

    /// SwiGLU: `silu(gate) · up`.
    ///
    /// # Shapes
    /// - `gate`, `up`: `[rows, features]`; returns the same
    pub(crate) fn silu_mul(&self, gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
        let (shape, inputs) = (gate.dims(), [plain(&gate), plain(&up)]);
        let mut out = values(&inputs[0]).to_vec();
        elementwise::silu_mul(&self.pool, &mut out, values(&inputs[1]), shape[1]);
        let pool = self.pool.clone();
        record([gate, up], out, shape, move |dy| {
            let [mut gate, mut up] = inputs.each_ref().map(|input| values(input).to_vec());
            gradient::silu_mul(&pool, &mut gate, &mut up, dy, shape[1]);
            [gate, up]
        })
    }

    /// Rotation of every head of each row: see [`rotate`](super::attention::rotate).
    pub(crate) fn rotate(&self, x: Tensor<2>, head_dim: usize, angles: &[&[f32]], pairs: bool) -> Tensor<2> {
        let shape = x.dims();
        let mut out = values(&plain(&x)).to_vec();
        elementwise::rotate(&self.pool, &mut out, head_dim, shape[1], angles, pairs);
        // Back by the same angles: what the transpose of a rotation is, scaled or not.
        let back: Vec<Vec<f32>> = angles
            .iter()
            .map(|angles| {
                let (cos, sin) = angles.split_at(angles.len() / 2);
                cos.iter().copied().chain(sin.iter().map(|sin| -sin)).collect()
            })
            .collect();
        let pool = self.pool.clone();
        record([x], out, shape, move |dy| {
            let mut dx = dy.to_vec();
            let angles: Vec<&[f32]> = back.iter().map(Vec::as_slice).collect();
            elementwise::rotate(&pool, &mut dx, head_dim, shape[1], &angles, pairs);
            [dx]
        })
    }

    /// Attention inside each sequence, of which all rows are here.
    ///
    /// # Shapes
    /// - queries: `[rows, heads · head_dim]`; keys, values: `[rows, key heads · head_dim]`; returns as queries
    pub(crate) fn attention(&self, heads: Heads, mask: Mask, qkv: [Tensor<2>; 3], spans: Vec<Whole>) -> Tensor<2> {
        fn inputs(tensors: &[FlexTensor; 3]) -> Inputs<'_> {
            let [queries, keys, values] = tensors.each_ref().map(run::values);
            Inputs { queries, keys, values }
        }
        let (shape, tensors) = (qkv[0].dims(), qkv.each_ref().map(plain));
        let (out, logs) = attention_gradient::forward(&self.pool, heads, mask, inputs(&tensors), &spans);
        let (pool, kept) = (self.pool.clone(), out.clone());
        record(qkv, out, shape, move |dy| {
            attention_gradient::backward(&pool, heads, mask, inputs(&tensors), &spans, &kept, &logs, dy)
        })
    }

    /// The sum of the rows' cross-entropies, natural logarithm, and that sum times `scale` as a tensor with a way back.
    ///
    /// # Shapes
    /// - `logits`: `[rows, vocabulary]`; returns `[1, 1]`
    pub(crate) fn cross_entropy(&self, logits: Tensor<2>, labels: Vec<u32>, scale: f32) -> (f64, Tensor<2>) {
        let input = plain(&logits);
        let rows = gradient::cross_entropy(&self.pool, values(&input), &labels);
        let sum: f64 = rows.iter().map(|[loss, _]| f64::from(*loss)).sum();
        let logs: Vec<f32> = rows.iter().map(|[_, log]| *log).collect();
        let pool = self.pool.clone();
        let out = record([logits], vec![sum as f32 * scale], [1, 1], move |dy| {
            [gradient::cross_entropy_gradient(&pool, values(&input), &labels, &logs, scale * dy[0])]
        });
        (sum, out)
    }
}
