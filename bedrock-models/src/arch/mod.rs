//! One file an architecture, in the order of the paper and of the Hugging Face module.

mod bert;
pub(crate) mod cohere;
mod deberta_v2;
pub(crate) mod decoder;
pub(crate) mod family;
pub(crate) mod gemma2;
pub(crate) mod gemma3;
pub(crate) mod gguf;
pub(crate) mod gpt2;
pub(crate) mod llama;
pub(crate) mod mistral;
pub(crate) mod mixtral;
mod modernbert;
mod mpnet;
mod nomic_bert;
pub(crate) mod phi3;
pub(crate) mod qwen2;
pub(crate) mod qwen3;
mod t5;
pub(crate) mod text_encoder;

use burn::Tensor;
use burn::tensor::{Int, TensorData};

use crate::layers::{Compute, LayerCache, Phase, Rotary, Run, Sequence};

/// Keys and values of all layers of one sequence.
pub(crate) struct Cache {
    pub(crate) layers: Vec<LayerCache>,
    /// Positions stored so far.
    pub(crate) len: usize,
    /// Those of them that belong to a prompt which an encoder has read.
    pub(crate) prompt: usize,
    /// Their tokens, and those of the step under way: see [`Step::renew`].
    tokens: Vec<u32>,
}

impl Cache {
    pub(crate) fn new(layers: usize) -> Self {
        let layers = (0..layers).map(|_| LayerCache::default()).collect();
        Self { layers, len: 0, prompt: 0, tokens: Vec::new() }
    }

    /// Forgets all positions from `len` on, if there are as many.
    pub(crate) fn truncate(&mut self, len: usize) {
        if len < self.len {
            self.layers.iter_mut().for_each(|layer| layer.truncate(len));
            self.len = len;
        }
    }
}

/// Which rows of a step get logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outputs {
    /// None: a part of a prompt whose end is still to come.
    Nothing,
    /// The last row of each sequence.
    Last,
    /// Every row.
    All,
}

/// New tokens of several sequences, to be run through the model at once.
pub(crate) struct Step<'a> {
    pub(crate) tokens: Vec<u32>,
    pub(crate) sequences: Vec<Sequence>,
    pub(crate) caches: Vec<&'a mut Cache>,
    pub(crate) phase: Phase,
    pub(crate) outputs: Outputs,
    /// Asked between layers; `true` abandons the step.
    pub(crate) cancelled: &'a dyn Fn() -> bool,
    /// Sequences count as at least this long where their length matters.
    at_least: usize,
    /// Which part of the network is run.
    #[cfg(feature = "tune")]
    pub(crate) segment: Segment,
}

/// A part of a network that training runs by itself. What the layers before and after it do is not done then, or in vain.
#[cfg(feature = "tune")]
#[derive(Default)]
pub(crate) enum Segment {
    #[default]
    All,
    /// All, keeping what goes into each layer, and what comes out of the last, without their history.
    Keep(Vec<Tensor<2>>),
    /// What is before the first layer, which comes to stand here.
    Before(Option<Tensor<2>>),
    /// One layer: its input, in whose place comes its result.
    Layer { index: usize, x: Option<Tensor<2>> },
    /// What is after the last layer, of which this is the result.
    After(Tensor<2>),
}

impl<'a> Step<'a> {
    pub(crate) fn new(phase: Phase, outputs: Outputs, cancelled: &'a dyn Fn() -> bool) -> Self {
        Self {
            tokens: Vec::new(),
            sequences: Vec::new(),
            caches: Vec::new(),
            phase,
            outputs,
            cancelled,
            at_least: 0,
            #[cfg(feature = "tune")]
            segment: Segment::All,
        }
    }

    /// Adds the next `tokens` of a sequence.
    pub(crate) fn push(&mut self, tokens: &[u32], cache: &'a mut Cache) {
        self.sequences.push(Sequence { first_row: self.tokens.len(), tokens: tokens.len(), position: cache.len });
        self.tokens.extend_from_slice(tokens);
        cache.tokens.truncate(cache.len);
        cache.tokens.extend_from_slice(tokens);
        self.caches.push(cache);
    }

    pub(crate) fn run<'c>(&self, compute: &'c Compute) -> Run<'c> {
        Run { compute, phase: self.phase }
    }

    /// The step's tokens as indices into an embedding table.
    pub(crate) fn indices(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.tokens.iter().map(|token| *token as usize)
    }

    /// The position of each row in its sequence.
    pub(crate) fn positions(&self) -> Vec<usize> {
        self.sequences.iter().flat_map(|s| s.position..s.position + s.tokens).collect()
    }

    /// Cosines and sines of each row's position: see [`Rotary::angles`].
    pub(crate) fn angles(&self, rotary: &Rotary) -> Vec<Vec<f32>> {
        let of = |s: &Sequence| {
            let (position, len) = (s.position, s.position + s.tokens);
            (position..len).map(move |position| rotary.angles(position, len.max(self.at_least)))
        };
        self.sequences.iter().flat_map(of).collect()
    }

    /// Computes anew what is cached of sequences that grow past the length at which `longrope` changes its frequencies: all their
    /// keys are to be rotated by the same ones. Once a sequence, as in HF's `Phi3ForCausalLM`.
    pub(crate) fn renew(&mut self, rotary: &Rotary, network: &dyn CausalLm, compute: &Compute) {
        let Some(limit) = rotary.change() else { return };
        for (sequence, cache) in self.sequences.iter().zip(&mut self.caches) {
            let (position, len) = (sequence.position, sequence.position + sequence.tokens);
            if position == 0 || position > limit || len <= limit {
                continue;
            }
            let tokens = cache.tokens.get(..position).expect("a cache knows its tokens");
            let mut renewed = Cache::new(cache.layers.len());
            let mut step = Step::new(Phase::Prompt, Outputs::Nothing, self.cancelled);
            step.push(tokens, &mut renewed);
            step.at_least = len;
            match &compute.chosen {
                Some(chosen) => {
                    let its = vec![chosen.of(sequence.first_row); position];
                    network.hidden(&compute.with_chosen(its), &mut step);
                }
                None => {
                    network.hidden(compute, &mut step);
                }
            }
            cache.layers = renewed.layers;
        }
    }

    /// Runs all rows through the layers of a decoder and notes that the caches are longer now. Returns the rows that want
    /// logits; `None` if there are none, or the step was cancelled.
    ///
    /// # Shapes
    /// - `x`: `[rows, hidden]`, which `forward` maps to the same with a layer, the sequences and their caches of that layer
    /// - returns `[selected rows, hidden]`
    pub(crate) fn through<L>(
        &mut self,
        layers: &[L],
        mut x: Tensor<2>,
        forward: impl Fn(&L, Tensor<2>, &[Sequence], &mut [&mut LayerCache]) -> Tensor<2>,
    ) -> Option<Tensor<2>> {
        #[cfg(feature = "tune")]
        match &mut self.segment {
            Segment::All | Segment::Keep(_) => {}
            Segment::Before(out) => {
                *out = Some(x);
                return None;
            }
            Segment::Layer { index, x } => {
                let input = x.take()?;
                let caches = self.caches.iter_mut().map(|cache| &mut cache.layers[*index]);
                *x = Some(forward(&layers[*index], input, &self.sequences, &mut caches.collect::<Vec<_>>()));
                return None;
            }
            Segment::After(out) => return Some(out.clone()),
        }
        for (i, layer) in layers.iter().enumerate() {
            if (self.cancelled)() {
                return None;
            }
            #[cfg(feature = "tune")]
            if let Segment::Keep(inputs) = &mut self.segment {
                x = x.detach();
                inputs.push(x.clone());
            }
            let mut caches: Vec<&mut LayerCache> = self.caches.iter_mut().map(|cache| &mut cache.layers[i]).collect();
            x = forward(layer, x, &self.sequences, &mut caches);
        }
        #[cfg(feature = "tune")]
        if let Segment::Keep(inputs) = &mut self.segment {
            x = x.detach();
            inputs.push(x.clone());
        }
        for (cache, sequence) in self.caches.iter_mut().zip(&self.sequences) {
            cache.len += sequence.tokens;
        }
        (self.outputs != Outputs::Nothing).then(|| self.select(x))
    }

    /// The rows of `x` that [`Outputs`] names.
    ///
    /// # Shapes
    /// - `x`: `[rows, features]`; returns `[selected, features]`
    fn select(&self, x: Tensor<2>) -> Tensor<2> {
        if self.outputs == Outputs::All || (self.sequences.len() == self.tokens.len()) {
            return x;
        }
        let last: Vec<i64> = self.sequences.iter().map(|s| (s.first_row + s.tokens) as i64 - 1).collect();
        let count = last.len();
        let last = Tensor::<1, Int>::from_data(TensorData::new(last, [count]), &x.device());
        x.select(0, last)
    }
}

/// A language model that writes token after token.
pub(crate) trait CausalLm: Send + Sync {
    /// Appends the step's tokens to their caches and returns what the output layer reads, `[selected rows, features]`; `None` if
    /// the step wants no rows or was cancelled (the caches are then unusable).
    fn hidden(&self, compute: &Compute, step: &mut Step<'_>) -> Option<Tensor<2>>;

    /// The output layer.
    ///
    /// # Shapes
    /// - `hidden`: `[rows, features]`; returns `[rows, vocabulary]`
    fn logits(&self, run: Run<'_>, hidden: Tensor<2>) -> Tensor<2>;

    /// [`CausalLm::hidden`], then [`CausalLm::logits`].
    fn forward(&self, compute: &Compute, step: &mut Step<'_>) -> Option<Tensor<2>> {
        let hidden = self.hidden(compute, step)?;
        Some(self.logits(step.run(compute), hidden))
    }

    /// Layers, for [`Cache::new`].
    fn layers(&self) -> usize;

    /// Bytes of cache that 64 positions take.
    fn page_bytes(&self) -> usize;

    /// Whether the keys and values of a position depend on nothing but the tokens up to it. Then sequences that begin alike may
    /// share them, and several tokens of one sequence may be decoded in one step. Not so where positions are encoded by
    /// the length of the sequence. An architecture has to say so, or nothing is shared.
    fn is_causal_by_token(&self) -> bool {
        false
    }

    /// Whether an encoder reads the prompt. Then the first step of a sequence is its whole prompt, which gives one row of
    /// logits; no two sequences can share a part of it; and prompt and answer have pages of their own, so one more.
    fn has_encoder(&self) -> bool {
        false
    }

    /// What the encoder makes of a prompt, `[tokens, features]`; `None` without one.
    fn encoder_state(&self, _compute: &Compute, _tokens: &[u32]) -> Option<Tensor<2>> {
        None
    }
}
