//! Attention over the cached keys and values of each sequence of a step.

use burn::Tensor;
use burn::tensor::activation::{softmax, tanh};
use burn::tensor::{Int, TensorData};

use super::relative::RelativeBias;
use super::run::{self, Run};
use crate::kernels::attention::{self as kernel, Adjust, Heads, Mask, Span};
#[cfg(feature = "tune")]
use crate::kernels::attention_gradient::Whole;
use crate::kernels::elementwise;
use crate::kernels::page::{PAGE, Page};

/// The heads of a layer and what their queries see.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attention {
    pub(crate) heads: Heads,
    pub(crate) mask: Mask,
}

/// One layer's keys and values of one sequence.
#[derive(Default)]
// There are as many as layers: their size is nothing beside what they point to.
#[allow(clippy::large_enum_variant)]
pub(crate) enum LayerCache {
    #[default]
    Empty,
    /// For the kernels.
    Pages(Vec<Page>),
    /// `[positions, keys · dim]` each, on a device without kernels.
    Tensors(Tensor<2>, Tensor<2>),
}

impl LayerCache {
    /// Forgets all positions from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        match self {
            Self::Pages(pages) => pages.truncate(len.div_ceil(PAGE)),
            Self::Tensors(keys, values) => {
                *keys = keys.clone().narrow(0, 0, len);
                *values = values.clone().narrow(0, 0, len);
            }
            _ => {}
        }
    }
}

/// The rows of one sequence in a step: `tokens` rows from `first_row`, at positions from `position` on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sequence {
    pub(crate) first_row: usize,
    pub(crate) tokens: usize,
    pub(crate) position: usize,
}

/// Rotates every head of each row by its position.
///
/// # Shapes
/// - `x`: `[rows, heads · head_dim]`, `angles`: one slice per row, see [`super::Rotary::angles`]
/// - returns `[rows, heads · head_dim]`
pub(crate) fn rotate(run: Run<'_>, x: Tensor<2>, head_dim: usize, angles: &[&[f32]], pairs: bool) -> Tensor<2> {
    let [rows, width] = x.dims();
    if let Some(pool) = run.pool() {
        let mut x = run::flex(x);
        elementwise::rotate(pool, run::values_mut(&mut x), head_dim, width, angles, pairs);
        return run::from_flex(x);
    }
    #[cfg(feature = "tune")]
    if let Some(tape) = run.tape() {
        return tape.rotate(x, head_dim, angles, pairs);
    }
    let half = angles.first().map_or(0, |angles| angles.len() / 2);
    let table = |part: usize| {
        let values: Vec<f32> = angles.iter().flat_map(|a| a[part * half..][..half].iter().copied()).collect();
        Tensor::<3>::from_data(TensorData::new(values, [rows, 1, half]), &run.compute.device)
    };
    let (cos, sin) = (table(0), table(1));
    let heads = width / head_dim;
    let x = x.reshape([rows, heads, head_dim]);
    let (rotated, rest) = (x.clone().narrow(2, 0, 2 * half), 2 * half < head_dim);
    let rotated = if pairs {
        let x = rotated.reshape([rows, heads, half, 2]);
        let even = x.clone().narrow(3, 0, 1).reshape([rows, heads, half]);
        let odd = x.narrow(3, 1, 1).reshape([rows, heads, half]);
        let first = even.clone() * cos.clone() - odd.clone() * sin.clone();
        let second = even * sin + odd * cos;
        let pair = |x: Tensor<3>| x.reshape([rows, heads, half, 1]);
        Tensor::cat(vec![pair(first), pair(second)], 3).reshape([rows, heads, 2 * half])
    } else {
        let low = rotated.clone().narrow(2, 0, half);
        let high = rotated.narrow(2, half, half);
        let first = low.clone() * cos.clone() - high.clone() * sin.clone();
        Tensor::cat(vec![first, low * sin + high * cos], 2)
    };
    let x = if rest {
        let rest = x.narrow(2, 2 * half, head_dim - 2 * half);
        Tensor::cat(vec![rotated, rest], 2)
    } else {
        rotated
    };
    x.reshape([rows, width])
}

/// Keys and values of a batch in an encoder, where each layer overwrites those of the one before.
pub(crate) struct Scratch {
    caches: Vec<LayerCache>,
}

impl Scratch {
    pub(crate) fn new(sequences: &[Sequence]) -> Self {
        Self { caches: sequences.iter().map(|_| LayerCache::default()).collect() }
    }

    /// Caches for the next layer, in the order of the sequences.
    pub(crate) fn next(&mut self) -> Vec<&mut LayerCache> {
        for cache in &mut self.caches {
            // Pages are written anew from the start; tensors would grow.
            if matches!(cache, LayerCache::Tensors(..)) {
                *cache = LayerCache::Empty;
            }
        }
        self.caches.iter_mut().collect()
    }
}

impl Attention {
    /// Appends the step's keys and values to the caches and attends.
    ///
    /// # Shapes
    /// - `queries`: `[rows, heads · head_dim]`; `keys`, `values`: `[rows, key heads · head_dim]`
    /// - `caches`: this layer's cache of each sequence, in the order of `sequences`
    /// - returns `[rows, heads · head_dim]`
    ///
    /// # Panics
    /// If the shapes disagree, or a cache does not end where its sequence's rows start.
    pub(crate) fn forward(
        &self,
        run: Run<'_>,
        queries: Tensor<2>,
        keys: Tensor<2>,
        values: Tensor<2>,
        sequences: &[Sequence],
        caches: &mut [&mut LayerCache],
    ) -> Tensor<2> {
        self.forward_adjusted(run, [queries, keys, values], Adjust::Nothing, sequences, caches)
    }

    /// [`Attention::forward`] of `[queries, keys, values]` with scores kept inside `±cap`: see [`soft_cap`](super::activation::soft_cap).
    pub(crate) fn forward_capped(
        &self,
        run: Run<'_>,
        qkv: [Tensor<2>; 3],
        cap: Option<f32>,
        sequences: &[Sequence],
        caches: &mut [&mut LayerCache],
    ) -> Tensor<2> {
        self.forward_adjusted(run, qkv, cap.map_or(Adjust::Nothing, Adjust::Cap), sequences, caches)
    }

    /// [`Attention::forward`] of `[queries, keys, values]` with something added to each score.
    pub(crate) fn forward_biased(
        &self,
        run: Run<'_>,
        qkv: [Tensor<2>; 3],
        bias: &RelativeBias,
        sequences: &[Sequence],
        caches: &mut [&mut LayerCache],
    ) -> Tensor<2> {
        let [queries, keys, values] = qkv;
        self.store(run, keys, values, sequences, caches);
        let lens: Vec<usize> = sequences.iter().map(|sequence| sequence.position + sequence.tokens).collect();
        self.attend_biased(run, queries, (Adjust::Bias(&bias.kernel), Some(bias)), sequences, &lens, caches)
    }

    fn forward_adjusted(
        &self,
        run: Run<'_>,
        [queries, keys, values]: [Tensor<2>; 3],
        adjust: Adjust<'_>,
        sequences: &[Sequence],
        caches: &mut [&mut LayerCache],
    ) -> Tensor<2> {
        #[cfg(feature = "tune")]
        if let (Some(tape), Adjust::Nothing) = (run.tape(), adjust)
            && sequences.iter().all(|sequence| sequence.position == 0)
        {
            let whole = |s: &Sequence| Whole { first_row: s.first_row, tokens: s.tokens };
            let spans = sequences.iter().map(whole).collect();
            return tape.attention(self.heads, self.mask, [queries, keys, values], spans);
        }
        self.store(run, keys, values, sequences, caches);
        let lens: Vec<usize> = sequences.iter().map(|sequence| sequence.position + sequence.tokens).collect();
        self.attend(run, queries, adjust, sequences, &lens, caches)
    }

    /// Appends keys and values of the rows of `sequences` to the caches.
    ///
    /// # Shapes
    /// - `keys`, `values`: `[rows, key heads · head_dim]`
    ///
    /// # Panics
    /// As [`Attention::forward`].
    pub(crate) fn store(
        &self,
        run: Run<'_>,
        keys: Tensor<2>,
        values: Tensor<2>,
        sequences: &[Sequence],
        caches: &mut [&mut LayerCache],
    ) {
        assert_eq!(sequences.len(), caches.len());
        let Some(pool) = run.pool() else {
            for (sequence, cache) in sequences.iter().zip(caches) {
                let part = |x: &Tensor<2>| x.clone().narrow(0, sequence.first_row, sequence.tokens);
                **cache = match std::mem::take(&mut **cache) {
                    LayerCache::Empty => LayerCache::Tensors(part(&keys), part(&values)),
                    LayerCache::Tensors(old_k, old_v) => LayerCache::Tensors(
                        Tensor::cat(vec![old_k, part(&keys)], 0),
                        Tensor::cat(vec![old_v, part(&values)], 0),
                    ),
                    LayerCache::Pages(_) => panic!("a cache of another device"),
                };
            }
            return;
        };
        let (keys, values) = (run::flex(keys), run::flex(values));
        let mut writes = Vec::new();
        for (sequence, cache) in sequences.iter().zip(caches.iter_mut()) {
            if matches!(cache, LayerCache::Empty) {
                **cache = LayerCache::Pages(Vec::new());
            }
            let LayerCache::Pages(pages) = &mut **cache else { panic!("a cache of another device") };
            let end = sequence.position + sequence.tokens;
            while pages.len() * PAGE < end {
                pages.push(Page::new(self.heads, run.compute.cache_type));
            }
            for (index, page) in pages.iter_mut().enumerate().skip(sequence.position / PAGE) {
                let positions = sequence.position.max(index * PAGE)..end.min((index + 1) * PAGE);
                writes.push(kernel::Write {
                    page,
                    slot: positions.start % PAGE,
                    row: sequence.first_row + positions.start - sequence.position,
                    rows: positions.len(),
                });
            }
        }
        kernel::write(pool, self.heads, run::values(&keys), run::values(&values), writes);
    }

    /// Attends to the first `lens[i]` stored positions of sequence `i`, as far as the mask shows them.
    ///
    /// # Shapes
    /// - `queries`: `[rows, heads · head_dim]`; returns the same
    ///
    /// # Panics
    /// If the shapes disagree, or a cache holds less than its length.
    pub(crate) fn attend(
        &self,
        run: Run<'_>,
        queries: Tensor<2>,
        adjust: Adjust<'_>,
        sequences: &[Sequence],
        lens: &[usize],
        caches: &[&mut LayerCache],
    ) -> Tensor<2> {
        self.attend_biased(run, queries, (adjust, None), sequences, lens, caches)
    }

    /// [`Attention::attend`], with what the bias of `adjust` is made of.
    fn attend_biased(
        &self,
        run: Run<'_>,
        queries: Tensor<2>,
        (adjust, bias): (Adjust<'_>, Option<&RelativeBias>),
        sequences: &[Sequence],
        lens: &[usize],
        caches: &[&mut LayerCache],
    ) -> Tensor<2> {
        assert!(sequences.len() == caches.len() && sequences.len() == lens.len());
        let shape = queries.dims();
        let Some(pool) = run.pool() else {
            let rows = sequences.iter().zip(lens).zip(caches).map(|((sequence, len), cache)| {
                let LayerCache::Tensors(keys, values) = &**cache else { panic!("keys and values are stored first") };
                let queries = queries.clone().narrow(0, sequence.first_row, sequence.tokens);
                let part = |x: &Tensor<2>| x.clone().narrow(0, 0, *len);
                self.compose([queries, part(keys), part(values)], (adjust, bias), sequence.position)
            });
            return Tensor::cat(rows.collect(), 0);
        };
        let queries = run::flex(queries);
        let spans: Vec<Span<'_>> = sequences
            .iter()
            .zip(lens)
            .zip(caches.iter())
            .map(|((sequence, len), cache)| {
                let LayerCache::Pages(pages) = &**cache else { panic!("keys and values are stored first") };
                let Sequence { first_row, tokens, position } = *sequence;
                Span { pages, first_row, tokens, position, len: *len }
            })
            .collect();
        let mut out = pool.memory.take(shape[0] * shape[1]);
        kernel::attend(pool, self.heads, self.mask, adjust, run::values(&queries), &spans, &mut out);
        run::from_vec(pool, out, shape)
    }

    /// One sequence by burn's operations.
    fn compose(
        &self,
        [q, k, v]: [Tensor<2>; 3],
        (adjust, bias): (Adjust<'_>, Option<&RelativeBias>),
        position: usize,
    ) -> Tensor<2> {
        let Heads { queries, keys, dim, scale } = self.heads;
        let ([tokens, _], [len, _]) = (q.dims(), k.dims());
        let group = queries / keys;
        // [key heads, group · tokens, dim] against [key heads, len, dim]: no copy of keys for the grouped heads.
        let q = q.reshape([tokens, keys, group, dim]).permute([1, 2, 0, 3]).reshape([keys, group * tokens, dim]);
        let heads = |x: Tensor<2>| x.reshape([len, keys, dim]).swap_dims(0, 1);
        let mut scores = q.matmul(heads(k).swap_dims(1, 2)) * scale;
        if let Adjust::Cap(cap) = adjust {
            scores = tanh(scores / cap) * cap;
        }
        if let Some(bias) = bias {
            let more = bias.scores(queries, [tokens, len], position, &scores.device());
            scores = scores + more.reshape([keys, group * tokens, len]);
        }
        // Distance of each key behind each query, where not every one is seen.
        let behind = |scores: &Tensor<3>| {
            let device = scores.device();
            let column = Tensor::<1, Int>::arange(0..len as i64, &device).unsqueeze::<2>();
            let row = Tensor::<1, Int>::arange(position as i64..(position + tokens) as i64, &device);
            row.reshape([tokens, 1]) - column
        };
        let hidden = match self.mask {
            Mask::Full => None,
            Mask::Causal { window: None } => Some(behind(&scores).lower_elem(0)),
            Mask::Causal { window: Some(window) } => {
                let behind = behind(&scores);
                Some(behind.clone().lower_elem(0).bool_or(behind.greater_equal_elem(window as i64)))
            }
            Mask::Around(reach) => Some(behind(&scores).abs().greater_elem(reach as i64)),
        };
        if let Some(hidden) = hidden {
            let hidden = hidden.unsqueeze::<3>().repeat(&[keys, group, 1]);
            scores = scores.mask_fill(hidden, f32::MIN);
        }
        let out = softmax(scores, 2).matmul(heads(v));
        out.reshape([keys, group, tokens, dim]).permute([2, 0, 1, 3]).reshape([tokens, queries * dim])
    }
}
