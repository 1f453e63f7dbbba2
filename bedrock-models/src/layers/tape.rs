//! What training records: the operations of our kernels, each with gradients that kernels compute.
//!
//! On the CPU, layers that train run the kernels that answer, and note for the way back only what it needs. Gradients of parameters go straight into the
//! [`Parameter`]'s sums; the graph carries those of activations. Layers without such an operation are composed of burn's,
//! which record themselves.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use burn::Tensor;
use burn::tensor::{Device, TensorData};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn_flex::{Flex, FlexTensor};

use super::parameter::Parameter;
use super::product::Product;
use super::run::{self, memory, values};
use crate::kernels::attention::{Heads, Mask};
use crate::kernels::attention_gradient::{self, Inputs, Whole};
use crate::kernels::disentangled::{self, Disentangled, Positions};
use crate::kernels::disentangled_gradient;
use crate::kernels::{Pool, Precision, elementwise, gradient};

/// The kernels of a model that is trained, and what its operations share.
#[derive(Debug, Clone)]
pub(crate) struct Tape {
    pub(crate) pool: Arc<Pool>,
    /// Whether gradients are wanted; otherwise nothing is kept.
    recording: Arc<AtomicBool>,
    /// Whether products are of numbers of [`Precision::Bf16`].
    rounded: Arc<AtomicBool>,
}

/// Gradients of `N` inputs, given that of the result.
type Gradient<const N: usize> = dyn Fn(FlexTensor) -> [FlexTensor; N] + Send + Sync;

#[derive(Clone)]
struct Way<const N: usize>(Arc<Gradient<N>>);

impl<const N: usize> std::fmt::Debug for Way<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Way")
    }
}

#[derive(Debug)]
struct Recorded<const N: usize>;

impl<const N: usize> Backward<Flex, N> for Recorded<N> {
    type State = Way<N>;

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node);
        let gradient = if gradient.as_slice::<f32>().is_some() { gradient } else { gradient.to_contiguous() };
        for (parent, found) in ops.parents.into_iter().zip((ops.state.0)(gradient)) {
            if let Some(parent) = parent {
                gradients.register::<Flex>(parent.id, found);
            }
        }
    }
}

/// The memory of a tensor, and its place in the graph.
fn open(x: Tensor<2>) -> (FlexTensor, NodeGuard) {
    let x = x.try_into_primitive::<Autodiff<Flex>>().expect("a tape is used on the device it was made for");
    let (memory, node) = x.into_parts();
    (if memory.as_slice::<f32>().is_some() { memory } else { memory.to_contiguous() }, node)
}

/// A result that knows its way back to what the nodes stand for.
fn record<const N: usize>(
    nodes: [NodeGuard; N],
    out: FlexTensor,
    back: impl Fn(FlexTensor) -> [FlexTensor; N] + Send + Sync + 'static,
) -> Tensor<2> {
    let out = match Recorded::<N>.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(way) => way.finish(Way(Arc::new(back)), out),
        OpsKind::UnTracked(way) => way.finish(out),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(out)
}

/// The same values once more.
fn copied(pool: &Pool, values: &[f32]) -> Vec<f32> {
    let mut copy = pool.memory.take(values.len());
    copy.copy_from_slice(values);
    copy
}

/// Something that a way back may use up: a graph is gone through once.
struct Once(Mutex<Option<FlexTensor>>);

impl Once {
    fn new(memory: FlexTensor) -> Self {
        Self(Mutex::new(Some(memory)))
    }

    fn take(&self) -> FlexTensor {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().expect("a graph is gone through once")
    }
}

impl Tape {
    pub(crate) fn new(pool: Arc<Pool>) -> Self {
        Self { pool, recording: Arc::default(), rounded: Arc::default() }
    }

    /// What follows is for gradients, or not.
    pub(crate) fn record(&self, recording: bool) {
        self.recording.store(recording, Relaxed);
    }

    /// What the numbers are that layers multiply from now on.
    pub(crate) fn set_precision(&self, precision: Precision) {
        self.rounded.store(precision == Precision::Bf16, Relaxed);
    }

    pub(crate) fn precision(&self) -> Precision {
        if self.rounded.load(Relaxed) { Precision::Bf16 } else { Precision::F32 }
    }

    /// Rows of a table. If it is trained, that of one index may be left as it is.
    ///
    /// # Shapes
    /// - `out`: the rows, `[indices.len(), width]`; returns the same
    pub(crate) fn embedding(
        &self,
        device: &Device,
        out: Vec<f32>,
        indices: Vec<usize>,
        table: Option<(&Parameter, Option<usize>)>,
    ) -> Tensor<2> {
        let shape = [indices.len(), out.len() / indices.len().max(1)];
        if !self.recording.load(Relaxed) {
            return Tensor::from_data(TensorData::new(out, shape), device);
        }
        // Nothing before this has a gradient, but what comes after is to be recorded.
        let (_, spark) = open(Tensor::<2>::zeros([1, 1], device).require_grad());
        let (table, width) = (table.map(|(table, padding)| (table.clone(), padding)), shape[1]);
        let pool = self.pool.clone();
        record([spark], memory(&self.pool, out, shape), move |dy| {
            if let Some((table, padding)) = &table {
                table.accumulate(|sums| {
                    let rows = indices.iter().zip(values(&dy).chunks_exact(width));
                    for (index, dy) in rows.filter(|(index, _)| Some(**index) != *padding) {
                        sums[index * width..][..width].iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
                    }
                });
            }
            [memory(&pool, vec![0.0], [1, 1])]
        })
    }

    /// A fully connected layer with its adapter.
    ///
    /// # Shapes
    /// - `x`: `[rows, in]`; returns `[rows, out]`
    pub(crate) fn linear(&self, x: Tensor<2>, layer: Product) -> Tensor<2> {
        let ([rows, width], pool) = (x.dims(), self.pool.clone());
        let (x, node) = open(x);
        let (y, inner) = layer.forward(&pool, values(&x), rows);
        record([node], memory(&self.pool, y, [rows, layer.rows()]), move |dy| {
            let mut dx = pool.memory.take(rows * width);
            layer.backward(&pool, values(&x), &inner, values(&dy), &mut dx, false);
            [memory(&pool, dx, [rows, width])]
        })
    }

    /// Gated feed-forward: `down(silu(gate(x)) · up(x))`. What is between the layers is computed again on the way back.
    ///
    /// # Shapes
    /// - `x`: `[rows, hidden]`; returns the same
    pub(crate) fn gated(&self, x: Tensor<2>, [gate, up, down]: [Product; 3]) -> Tensor<2> {
        let ([rows, width], pool) = (x.dims(), self.pool.clone());
        let (x, node) = open(x);
        let (gated, gate_inner) = gate.forward(&pool, values(&x), rows);
        let (raised, up_inner) = up.forward(&pool, values(&x), rows);
        let middle = gate.rows();
        let between = move |pool: &Pool, gated: &[f32], raised: &[f32]| {
            let mut between = copied(pool, gated);
            elementwise::silu_mul(pool, &mut between, raised, middle);
            between
        };
        let inner = between(&pool, &gated, &raised);
        let (y, down_inner) = down.forward(&pool, &inner, rows);
        pool.memory.give(inner);
        let kept = [gated, raised].map(|values| Once::new(memory(&pool, values, [rows, middle])));
        record([node], memory(&self.pool, y, [rows, down.rows()]), move |dy| {
            let [mut gated, mut raised] = kept.each_ref().map(Once::take);
            let between = between(&pool, values(&gated), values(&raised));
            let mut wanted = pool.memory.take(between.len());
            down.backward(&pool, &between, &down_inner, values(&dy), &mut wanted, false);
            pool.memory.give(between);
            let [for_gate, for_up] = [run::values_mut(&mut gated), run::values_mut(&mut raised)];
            gradient::silu_mul(&pool, for_gate, for_up, &wanted, middle);
            pool.memory.give(wanted);
            let mut dx = pool.memory.take(rows * width);
            gate.backward(&pool, values(&x), &gate_inner, for_gate, &mut dx, false);
            up.backward(&pool, values(&x), &up_inner, for_up, &mut dx, true);
            [memory(&pool, dx, [rows, width])]
        })
    }

    /// Root-mean-square normalisation.
    ///
    /// # Shapes
    /// - `x`: `[rows, features]`; returns the same
    pub(crate) fn rms_norm(&self, x: Tensor<2>, weight: Vec<f32>, eps: f32, trained: Option<&Parameter>) -> Tensor<2> {
        let (shape, pool) = (x.dims(), self.pool.clone());
        let (x, node) = open(x);
        let mut out = pool.memory.take(shape[0] * shape[1]);
        elementwise::rms_norm(&pool, values(&x), &weight, eps, &mut out);
        let trained = trained.cloned();
        record([node], memory(&self.pool, out, shape), move |dy| {
            let back = |sums: &mut [f32]| gradient::rms_norm(&pool, values(&x), &weight, eps, values(&dy), sums);
            let dx = match &trained {
                Some(parameter) => parameter.accumulate(back),
                None => back(&mut vec![0.0; weight.len()]),
            };
            [memory(&pool, dx, shape)]
        })
    }

    /// `x + y`.
    ///
    /// # Shapes
    /// - `x`, `y`: `[rows, features]`; returns the same
    pub(crate) fn add(&self, x: Tensor<2>, y: Tensor<2>) -> Tensor<2> {
        let [_, width] = x.dims();
        let ((mut x, first), (y, second)) = (open(x), open(y));
        elementwise::add(&self.pool, run::values_mut(&mut x), values(&y), width);
        record([first, second], x, |dy| [dy.clone(), dy])
    }

    /// SwiGLU: `silu(gate) · up`.
    ///
    /// # Shapes
    /// - `gate`, `up`: `[rows, features]`; returns the same
    pub(crate) fn silu_mul(&self, gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
        let (shape, pool) = (gate.dims(), self.pool.clone());
        let ((gate, first), (up, second)) = (open(gate), open(up));
        let mut out = copied(&pool, values(&gate));
        elementwise::silu_mul(&pool, &mut out, values(&up), shape[1]);
        let kept = [gate, up].map(Once::new);
        record([first, second], memory(&self.pool, out, shape), move |dy| {
            let [mut gate, mut up] = kept.each_ref().map(Once::take);
            let [for_gate, for_up] = [run::values_mut(&mut gate), run::values_mut(&mut up)];
            gradient::silu_mul(&pool, for_gate, for_up, values(&dy), shape[1]);
            [gate, up]
        })
    }

    /// Rotation of every head of each row: see [`rotate`](super::attention::rotate).
    pub(crate) fn rotate(&self, x: Tensor<2>, head_dim: usize, angles: &[&[f32]], pairs: bool) -> Tensor<2> {
        let ([_, width], pool) = (x.dims(), self.pool.clone());
        let (mut x, node) = open(x);
        elementwise::rotate(&pool, run::values_mut(&mut x), head_dim, width, angles, pairs);
        // Back by the same angles: what the transpose of a rotation is, scaled or not.
        let back: Vec<Vec<f32>> = angles
            .iter()
            .map(|angles| {
                let (cos, sin) = angles.split_at(angles.len() / 2);
                cos.iter().copied().chain(sin.iter().map(|sin| -sin)).collect()
            })
            .collect();
        record([node], x, move |mut dy| {
            let angles: Vec<&[f32]> = back.iter().map(Vec::as_slice).collect();
            elementwise::rotate(&pool, run::values_mut(&mut dy), head_dim, width, &angles, pairs);
            [dy]
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
        let (shape, key_shape, pool) = (qkv[0].dims(), qkv[1].dims(), self.pool.clone());
        let [(queries, first), (keys, second), (values, third)] = qkv.map(open);
        let tensors = [queries, keys, values];
        let (out, logs) = attention_gradient::forward(&pool, heads, mask, inputs(&tensors), &spans);
        let out = memory(&pool, out, shape);
        record([first, second, third], out.clone(), move |dy| {
            let (out, dy) = (run::values(&out), run::values(&dy));
            let found = attention_gradient::backward(&pool, heads, mask, inputs(&tensors), &spans, out, &logs, dy);
            let [queries, keys, values] = found;
            [(queries, shape), (keys, key_shape), (values, key_shape)]
                .map(|(values, shape)| memory(&pool, values, shape))
        })
    }

    /// Disentangled attention inside each sequence (first row, rows). `heads` are their number, features and scale, `buckets` as
    /// [`Disentangled::buckets`].
    ///
    /// # Shapes
    /// - queries, keys, values: `[rows, heads · dim]`; returns the same
    /// - `positions`: what queries meet and what keys meet, `[buckets, heads · dim]` each
    pub(crate) fn disentangled(
        &self,
        heads: (usize, usize, f32),
        buckets: Vec<usize>,
        qkv: [Tensor<2>; 3],
        positions: [Option<Tensor<2>>; 2],
        sequences: Vec<(usize, usize)>,
    ) -> Tensor<2> {
        fn layer_of<'a>(
            (heads, dim, scale): (usize, usize, f32),
            buckets: &'a [usize],
            tables: &'a [Option<Positions>; 2],
        ) -> Disentangled<'a> {
            let [keys, queries] = tables.each_ref().map(Option::as_ref);
            Disentangled { heads, dim, scale, keys, queries, buckets }
        }
        let (shape, device, pool) = (qkv[0].dims(), qkv[0].device(), self.pool.clone());
        let [(queries, first), (keys, second), (values, third)] = qkv.map(open);
        let tensors = [queries, keys, values];
        let table = |x: &Tensor<2>| {
            let ([rows, _], (x, _)) = (x.dims(), open(x.clone()));
            Positions::new(run::values(&x), rows, heads.0, heads.1)
        };
        let tables = positions.each_ref().map(|positions| positions.as_ref().map(table));
        // What is not there is a number that nothing depends on.
        let positions = positions.map(|x| x.unwrap_or_else(|| Tensor::zeros([1, 1], &device)));
        let shapes = positions.each_ref().map(Tensor::dims);
        let [(_, fourth), (_, fifth)] = positions.map(open);
        let mut out = pool.memory.take(shape[0] * shape[1]);
        let layer = layer_of(heads, &buckets, &tables);
        disentangled::attend(&pool, layer, tensors.each_ref().map(run::values), &sequences, &mut out);
        let out = memory(&pool, out, shape);
        record([first, second, third, fourth, fifth], out.clone(), move |dy| {
            let [queries, keys, values] = tensors.each_ref().map(run::values);
            let (inputs, layer) = (Inputs { queries, keys, values }, layer_of(heads, &buckets, &tables));
            let (out, dy) = (run::values(&out), run::values(&dy));
            let (rows, learnt) = disentangled_gradient::backward(&pool, layer, inputs, &sequences, out, dy);
            let [queries, keys, values] = rows;
            let [first, second] = learnt.map(|learnt| if learnt.is_empty() { vec![0.0] } else { learnt });
            [(queries, shape), (keys, shape), (values, shape), (first, shapes[0]), (second, shapes[1])]
                .map(|(values, shape)| memory(&pool, values, shape))
        })
    }

    /// The rows' cross-entropies, natural logarithm, and their sum, each times its weight, as a tensor with a way back.
    ///
    /// # Shapes
    /// - `logits`: `[rows, vocabulary]`; returns `[1, 1]`
    pub(crate) fn cross_entropy(
        &self,
        logits: Tensor<2>,
        labels: Vec<u32>,
        weights: Vec<f32>,
    ) -> (Vec<f64>, Tensor<2>) {
        let (logits, node) = open(logits);
        let rows = gradient::cross_entropy(&self.pool, values(&logits), &labels);
        let losses: Vec<f64> = rows.iter().map(|[loss, _]| f64::from(*loss)).collect();
        let sum: f64 = losses.iter().zip(&weights).map(|(loss, weight)| loss * f64::from(*weight)).sum();
        let logs: Vec<f32> = rows.iter().map(|[_, log]| *log).collect();
        let (pool, logits) = (self.pool.clone(), Once::new(logits));
        let out = record([node], memory(&self.pool, vec![sum as f32], [1, 1]), move |dy| {
            let (mut logits, scale) = (logits.take(), values(&dy)[0]);
            let weights: Vec<f32> = weights.iter().map(|weight| weight * scale).collect();
            gradient::cross_entropy_gradient(&pool, run::values_mut(&mut logits), &labels, &logs, &weights);
            [logits]
        });
        (losses, out)
    }
}
