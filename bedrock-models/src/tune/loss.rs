//! Next-token cross-entropy and its gradients.

use burn::Tensor;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Gradients, Int, TensorData};

use crate::arch::{Cache, CausalLm, Outputs, Step};
use crate::layers::{Compute, Parameter, Phase, Run};

/// Rows whose logits are in memory at once: over a vocabulary of 50 000 they take 25 MB, and as much again a few times while they
/// are differentiated.
const ROWS: usize = 128;

/// The tokens of one sequence, and which of them are to be learnt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    tokens: Vec<u32>,
    /// What is expected at each position, given those before it; `None`: not counted. The first is never counted.
    labels: Vec<Option<u32>>,
}

impl Sequence {
    /// All tokens but the first, which has nothing before it, are to be learnt.
    pub fn text(tokens: Vec<u32>) -> Self {
        let labels = tokens.iter().copied().map(Some).collect();
        Self { tokens, labels }
    }

    /// Only the completion is to be learnt.
    pub fn completion(prompt: &[u32], completion: &[u32]) -> Self {
        let hidden = prompt.iter().map(|_| None);
        let labels = hidden.chain(completion.iter().copied().map(Some)).collect();
        Self { tokens: [prompt, completion].concat(), labels }
    }

    /// Labels as transformers has them: at each position the token that is expected there, negative where it does not count. What is
    /// missing at the end does not count.
    pub fn labelled(tokens: Vec<u32>, labels: &[i64]) -> Self {
        let mut labels: Vec<_> = labels.iter().map(|label| u32::try_from(*label).ok()).collect();
        labels.resize(tokens.len(), None);
        Self { tokens, labels }
    }

    /// The tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How many positions count.
    pub fn counted(&self) -> usize {
        self.targets().count()
    }

    /// Rows whose logits count, and what they are compared with.
    fn targets(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        self.labels.iter().skip(1).enumerate().filter_map(|(row, label)| Some((row, (*label)?)))
    }

    pub(super) fn labels(&self) -> impl Iterator<Item = u32> + '_ {
        self.labels.iter().flatten().copied()
    }
}

/// Sums of the gradients of all parameters, in their order.
pub(super) struct Sums {
    parameters: Vec<Parameter>,
    pub(super) values: Vec<Vec<f32>>,
}

impl Sums {
    pub(super) fn new(parameters: Vec<Parameter>) -> Self {
        let values = parameters.iter().map(|parameter| vec![0.0; parameter.len()]).collect();
        Self { parameters, values }
    }

    fn add(&mut self, gradients: &mut Gradients) {
        for (parameter, sum) in self.parameters.iter().zip(&mut self.values) {
            let Some(gradient) = parameter.vector().grad_remove(gradients) else { continue };
            sum.iter_mut().zip(host(gradient)).for_each(|(sum, value)| *sum += value);
        }
    }

    /// The length of all gradients as one vector.
    pub(super) fn norm(&self) -> f64 {
        self.values.iter().flatten().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
    }
}

/// The values of a tensor on the host.
fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec::<f32>().expect("all devices compute in f32")
}

/// The sum of the cross-entropies of the sequences, run at once. To `sums`, the gradients of that sum divided by `count` are added.
///
/// Logits exist for [`ROWS`] rows at a time, forwards and backwards; the layers are differentiated once, from what all rows want of them.
pub(super) fn cross_entropy(
    network: &dyn CausalLm,
    compute: &Compute,
    sequences: &[&Sequence],
    count: usize,
    mut sums: Option<&mut Sums>,
) -> f64 {
    let mut caches: Vec<Cache> = sequences.iter().map(|_| Cache::new(network.layers())).collect();
    let mut step = Step::new(Phase::Prompt, Outputs::All, &|| false);
    let mut targets = Vec::new();
    for (sequence, cache) in sequences.iter().zip(&mut caches) {
        let first = step.tokens.len();
        targets.extend(sequence.targets().map(|(row, label)| (first + row, label)));
        step.push(&sequence.tokens, cache);
    }
    let hidden = network.hidden(compute, &mut step).expect("wants rows and is not cancelled");
    let run = Run { compute, phase: Phase::Prompt };
    let [rows, width] = hidden.dims();
    let mut wanted = vec![0.0f32; rows * width];
    let mut loss = 0.0;
    for part in targets.chunks(ROWS) {
        let index =
            |values: Vec<i64>| Tensor::<1, Int>::from_data(TensorData::new(values, [part.len()]), &compute.device);
        let at = index(part.iter().map(|(row, _)| *row as i64).collect());
        let labels = index(part.iter().map(|(_, label)| i64::from(*label)).collect());
        let input = hidden.clone().inner().select(0, at).inner().autodiff().require_grad();
        let logits = network.logits(run, input.clone());
        let scores = log_softmax(logits, 1).gather(1, labels.reshape([part.len(), 1]));
        loss -= host(scores.clone().inner()).into_iter().map(f64::from).sum::<f64>();
        if let Some(sums) = sums.as_deref_mut() {
            let mut gradients = (scores.sum() * (-1.0 / count as f64)).backward();
            sums.add(&mut gradients);
            let gradient = host(input.grad_remove(&mut gradients).expect("logits depend on their input"));
            for ((row, _), gradient) in part.iter().zip(gradient.chunks_exact(width)) {
                wanted[row * width..][..width].copy_from_slice(gradient);
            }
        }
    }
    if let Some(sums) = sums
        && hidden.is_tracked()
    {
        let wanted = Tensor::<2>::from_data(TensorData::new(wanted, [rows, width]), &compute.device);
        sums.add(&mut (hidden * wanted).sum().backward());
    }
    loss
}
