//! Next-token cross-entropy and its gradients.

use burn::Tensor;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Gradients, Int, TensorData};

use super::learner;
use crate::arch::{Cache, CausalLm, Outputs, Segment, Step};
use crate::encoder::host;
use crate::layers::{Compute, Parameter, Phase, Run};

/// Rows whose logits are in memory at once: over a vocabulary of 50 000 they take 50 MB, and as much again while they
/// are differentiated.
const ROWS: usize = 256;

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

    /// Only the completion is to be learnt. Of a model with an encoder, that reads the prompt: what is before the first token that is to be
    /// learnt.
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

    /// The first `length` tokens.
    pub(super) fn cut(mut self, length: usize) -> Self {
        self.tokens.truncate(length);
        self.labels.truncate(length);
        self
    }

    /// The tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How many positions count.
    pub fn counted(&self) -> usize {
        self.targets().count()
    }

    /// What an encoder reads, and what is written then.
    fn parts(&self) -> (&[u32], &[u32]) {
        self.tokens.split_at(self.labels.iter().position(Option::is_some).unwrap_or(self.tokens.len()))
    }

    /// Whether there is something for an encoder to read, and something to learn.
    pub(super) fn is_answer(&self) -> bool {
        let (prompt, answer) = self.parts();
        !prompt.is_empty() && !answer.is_empty()
    }

    /// Rows whose logits count, and what they are compared with.
    fn targets(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        self.labels.iter().skip(1).enumerate().filter_map(|(row, label)| Some((row, (*label)?)))
    }

    pub(super) fn labels(&self) -> impl Iterator<Item = u32> + '_ {
        self.labels.iter().flatten().copied()
    }
}

/// By what the cross-entropy of each sequence, summed over its counted positions, is multiplied where gradients are computed.
#[derive(Clone, Copy)]
pub(super) enum Weights<'a> {
    /// All by the same.
    Same(f64),
    /// By what follows from those of a pass, given the number of its first sequence.
    Each(&'a dyn Fn(usize, &[f64]) -> Vec<f64>),
}

/// How a pass over sequences is made.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub(super) network: &'a dyn CausalLm,
    pub(super) compute: &'a Compute,
    /// Parameters whose gradients are wanted, and of what; otherwise only the losses are.
    pub(super) learn: Option<(&'a [Parameter], Weights<'a>)>,
    /// Whether the layers' activations are computed again on the way back, a layer at a time, instead of kept.
    pub(super) again: bool,
    /// Number of the first sequence: see [`Weights::Each`].
    pub(super) first: usize,
}

/// A row whose logits count.
struct Target {
    row: usize,
    label: u32,
    /// Its sequence in the pass.
    sequence: usize,
}

/// The rows of a pass whose logits count, in the order of its sequences.
struct Targets {
    rows: Vec<Target>,
    sequences: usize,
}

impl Pass<'_> {
    /// The cross-entropies of the sequences, run at once, each the sum over its counted positions. To the parameters, the gradients of their
    /// weighted sum are added.
    ///
    /// Logits exist for [`ROWS`] rows at a time, forwards and backwards; the layers are differentiated once, from what all rows want of them.
    pub(super) fn cross_entropies(self, sequences: &[&Sequence]) -> Vec<f64> {
        let (has_encoder, mut targets) = (self.network.has_encoder(), Vec::new());
        let mut first = if has_encoder { sequences.len() } else { 0 };
        for (index, sequence) in sequences.iter().enumerate() {
            let target = |row, label| Target { row, label, sequence: index };
            if has_encoder {
                // First the rows after each start token, then those after the tokens of each answer but the last.
                let start = sequence.tokens.len() - sequence.parts().1.len();
                let row = |at: usize| if at == start { index } else { first + at - start - 1 };
                let labels = sequence.labels.iter().enumerate();
                targets.extend(labels.filter_map(|(at, label)| Some(target(row(at), (*label)?))));
                first += sequence.tokens.len() - start - 1;
                continue;
            }
            targets.extend(sequence.targets().map(|(row, label)| target(first + row, label)));
            first += sequence.tokens.len();
        }
        let targets = Targets { rows: targets, sequences: sequences.len() };
        let again = self.again && !has_encoder;
        self.compute.record(self.learn.is_some() && !again);
        if self.learn.is_none() || !again {
            let hidden = match has_encoder {
                true => self.answers(sequences),
                false => self.hidden(sequences, Segment::All).0.expect("wants rows and is not cancelled"),
            };
            let (losses, wanted) = self.output(hidden.clone(), &targets);
            if self.learn.is_some() && hidden.is_tracked() {
                self.backward(hidden, wanted, None);
            }
            return losses;
        }
        let Segment::Keep(mut inputs) = self.hidden(sequences, Segment::Keep(Vec::new())).1 else {
            unreachable!("a segment stays what it is")
        };
        self.compute.track(true);
        let last = inputs.pop().expect("what the last layer said").require_grad();
        let hidden = self.hidden(sequences, Segment::After(last.clone())).0.expect("wants rows and is not cancelled");
        let (losses, wanted) = self.output(hidden.clone(), &targets);
        let mut wanted = self.backward(hidden, wanted, Some(&last));
        while let Some(input) = inputs.pop() {
            let input = input.require_grad();
            let layer = Segment::Layer { index: inputs.len(), x: Some(input.clone()) };
            let Segment::Layer { x: Some(out), .. } = self.hidden(sequences, layer).1 else {
                unreachable!("a layer has a result")
            };
            wanted = self.backward(out, wanted, Some(&input));
        }
        self.compute.record(true);
        let Segment::Before(Some(out)) = self.hidden(sequences, Segment::Before(None)).1 else {
            unreachable!("there is something before the layers")
        };
        if out.is_tracked() {
            self.backward(out, wanted, None);
        }
        losses
    }

    /// Runs a segment of the network.
    fn hidden(&self, sequences: &[&Sequence], segment: Segment) -> (Option<Tensor<2>>, Segment) {
        let mut caches: Vec<Cache> = sequences.iter().map(|_| Cache::new(self.network.layers())).collect();
        let mut step = Step::new(Phase::Prompt, Outputs::All, &|| false);
        step.segment = segment;
        for (sequence, cache) in sequences.iter().zip(&mut caches) {
            step.push(&sequence.tokens, cache);
        }
        let hidden = self.network.hidden(self.compute, &mut step);
        (hidden, step.segment)
    }

    /// Runs a network with an encoder: prompts, then answers, whose rows come after those of the start tokens.
    fn answers(&self, sequences: &[&Sequence]) -> Tensor<2> {
        let mut caches: Vec<Cache> = sequences.iter().map(|_| Cache::new(self.network.layers())).collect();
        let mut rows = Vec::new();
        for is_prompt in [true, false] {
            let mut step = Step::new(Phase::Prompt, Outputs::All, &|| false);
            for (sequence, cache) in sequences.iter().zip(&mut caches) {
                let (prompt, answer) = sequence.parts();
                let tokens = if is_prompt { prompt } else { &answer[..answer.len() - 1] };
                if !tokens.is_empty() {
                    step.push(tokens, cache);
                }
            }
            if !step.tokens.is_empty() {
                rows.push(self.network.hidden(self.compute, &mut step).expect("wants rows and is not cancelled"));
            }
        }
        Tensor::cat(rows, 0)
    }

    /// Adds the gradients of all parameters that `out` depends on, given that for `out`, row-major; returns that for `input`.
    fn backward(&self, out: Tensor<2>, wanted: Vec<f32>, input: Option<&Tensor<2>>) -> Vec<f32> {
        let shape = out.dims();
        let wanted = Tensor::<2>::from_data(TensorData::new(wanted, shape), &self.compute.device);
        let mut gradients = (out * wanted).sum().backward();
        self.take(&mut gradients);
        let found = input.map(|input| input.grad_remove(&mut gradients).expect("the result depends on it"));
        found.map(host).unwrap_or_default()
    }

    fn take(&self, gradients: &mut Gradients) {
        learner::take(self.learn.map(|(parameters, _)| parameters).unwrap_or_default(), gradients);
    }

    /// The cross-entropies of the sequences and, if gradients are wanted, that for `hidden`.
    fn output(&self, hidden: Tensor<2>, targets: &Targets) -> (Vec<f64>, Vec<f32>) {
        let [rows, width] = hidden.dims();
        let hidden = host(hidden.inner());
        let weights = match self.learn {
            None => None,
            Some((_, Weights::Same(weight))) => Some(vec![weight; targets.sequences]),
            // The logits are computed a second time then; the layers are not.
            Some((_, Weights::Each(of))) => Some(of(self.first, &self.scored(&hidden, width, targets, None).0)),
        };
        let wanted = weights.map(|weights| (weights, vec![0.0f32; rows * width]));
        self.scored(&hidden, width, targets, wanted)
    }

    /// The cross-entropies of the sequences and, given weights and room, the gradient for `hidden` `[rows, width]`.
    fn scored(
        &self,
        hidden: &[f32],
        width: usize,
        targets: &Targets,
        mut learn: Option<(Vec<f64>, Vec<f32>)>,
    ) -> (Vec<f64>, Vec<f32>) {
        let run = Run { compute: self.compute, phase: Phase::Prompt };
        let mut losses = vec![0.0; targets.sequences];
        for part in targets.rows.chunks(ROWS) {
            let values: Vec<f32> = part.iter().flat_map(|at| &hidden[at.row * width..][..width]).copied().collect();
            let input = Tensor::<2>::from_data(TensorData::new(values, [part.len(), width]), &self.compute.device);
            let input = if learn.is_some() { input.require_grad() } else { input };
            let logits = self.network.logits(run, input.clone());
            let weight = |at: &Target| learn.as_ref().map_or(0.0, |(weights, _)| weights[at.sequence] as f32);
            let weights: Vec<f32> = part.iter().map(weight).collect();
            let (rows, weighed) = match run.tape() {
                Some(tape) => tape.cross_entropy(logits, part.iter().map(|at| at.label).collect(), weights),
                None => {
                    let device = &self.compute.device;
                    let labels: Vec<i64> = part.iter().map(|at| i64::from(at.label)).collect();
                    let labels = Tensor::<2, Int>::from_data(TensorData::new(labels, [part.len(), 1]), device);
                    let scores = log_softmax(logits, 1).gather(1, labels).neg();
                    let rows = host(scores.clone().inner()).into_iter().map(f64::from).collect();
                    let weights = Tensor::<2>::from_data(TensorData::new(weights, [part.len(), 1]), device);
                    (rows, (scores * weights).sum().unsqueeze())
                }
            };
            part.iter().zip(rows).for_each(|(at, loss)| losses[at.sequence] += loss);
            if let Some((_, wanted)) = &mut learn {
                let mut gradients = weighed.backward();
                self.take(&mut gradients);
                let gradient = host(input.grad_remove(&mut gradients).expect("logits depend on their input"));
                for (at, gradient) in part.iter().zip(gradient.chunks_exact(width)) {
                    wanted[at.row * width..][..width].copy_from_slice(gradient);
                }
            }
        }
        (losses, learn.map(|(_, wanted)| wanted).unwrap_or_default())
    }
}
