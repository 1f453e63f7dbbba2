//! Scaled dot-product attention (Vaswani et al. 2017) over keys and values in pages, without materialising the scores.
//!
//! A page holds 64 positions of one layer: keys transposed, `[kv head][head_dim][64]`, so that a row of queries
//! meets 16 keys at a time in a tile; values `[kv head][64][head_dim]`, so that the weighted sum is a tile as well. Scores of one page live on
//! the stack; softmax runs online (Milakov and Gimelshein 2018). Query heads that share a key head are rows of one tile (GQA).

use std::sync::{Arc, Mutex, PoisonError};

use super::elementwise::{exp_sum, highest, soft_cap};
use super::isa::{Isa, isa};
use super::pool::{Disjoint, Pool};
use super::tile::{COLUMNS, ROWS, WIDE, has_wide, tile, wide_at};

/// Positions a page.
pub(crate) const PAGE: usize = 64;

/// What the heads of a layer look like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Heads {
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) dim: usize,
    /// What scores are multiplied by, usually `1 / √dim`.
    pub(crate) scale: f32,
}

impl Heads {
    fn padded(self) -> usize {
        self.dim.next_multiple_of(COLUMNS)
    }
}

/// Keys and values of 64 positions of one layer. A clone shares them, until one of the two is written to.
#[derive(Clone)]
pub(crate) struct Page(Arc<Stored>);

#[derive(Clone)]
struct Stored {
    keys: Box<[f32]>,
    values: Box<[f32]>,
}

impl Page {
    pub(crate) fn new(heads: Heads) -> Self {
        let zeros = |n: usize| vec![0.0; n].into_boxed_slice();
        let (keys, values) = (heads.keys * heads.dim * PAGE, heads.keys * heads.padded() * PAGE);
        Self(Arc::new(Stored { keys: zeros(keys), values: zeros(values) }))
    }

    /// Whether a clone of it exists.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Whether both are the same memory.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The first number of the first head's key at a slot.
    #[cfg(test)]
    pub(crate) fn key(&self, slot: usize) -> f32 {
        self.0.keys[slot]
    }

    /// Bytes of a page of such heads.
    pub(crate) fn bytes(heads: Heads) -> usize {
        heads.keys * (heads.dim + heads.padded()) * PAGE * size_of::<f32>()
    }

    /// Stores keys and values (`[keys · dim]` each) of the position `slot` of the page.
    pub(crate) fn write(&mut self, heads: Heads, slot: usize, key: &[f32], value: &[f32]) {
        let (dim, padded) = (heads.dim, heads.padded());
        assert!(slot < PAGE && key.len() == heads.keys * dim && value.len() == key.len());
        let stored = Arc::make_mut(&mut self.0);
        for (head, (key, value)) in key.chunks_exact(dim).zip(value.chunks_exact(dim)).enumerate() {
            let keys = &mut stored.keys[head * dim * PAGE..][..dim * PAGE];
            key.iter().enumerate().for_each(|(i, key)| keys[i * PAGE + slot] = *key);
            stored.values[(head * PAGE + slot) * padded..][..dim].copy_from_slice(value);
        }
    }
}

/// Rows of new keys and values, and the page and first slot they go to.
pub(crate) struct Write<'a> {
    pub(crate) page: &'a mut Page,
    pub(crate) slot: usize,
    pub(crate) row: usize,
    pub(crate) rows: usize,
}

/// Stores rows of `keys` and `values`, both `[rows, heads.keys · heads.dim]`.
///
/// # Panics
/// If a write leaves its page or the rows.
pub(crate) fn write(pool: &Pool, heads: Heads, keys: &[f32], values: &[f32], writes: Vec<Write<'_>>) {
    let width = heads.keys * heads.dim;
    let store = |Write { page, slot, row, rows }: Write<'_>| {
        let part = row * width..(row + rows) * width;
        let rows = keys[part.clone()].chunks_exact(width).zip(values[part].chunks_exact(width));
        rows.enumerate().for_each(|(i, (key, value))| page.write(heads, slot + i, key, value));
    };
    if writes.iter().map(|write| write.rows).sum::<usize>() < 16 {
        return writes.into_iter().for_each(store);
    }
    // Each lock is taken once, by the thread that does the write.
    let writes: Vec<_> = writes.into_iter().map(|write| Mutex::new(Some(write))).collect();
    pool.run(writes.len(), &|index| {
        let write = writes[index].lock().unwrap_or_else(PoisonError::into_inner).take();
        write.into_iter().for_each(store);
    });
}

/// The queries of one sequence: `tokens` rows of the batch from row `first_row`, at positions from `position` on.
pub(crate) struct Span<'a> {
    pub(crate) pages: &'a [Page],
    pub(crate) first_row: usize,
    pub(crate) tokens: usize,
    pub(crate) position: usize,
    /// Positions that have keys: in self-attention `position + tokens`.
    pub(crate) len: usize,
}

/// Which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mask {
    /// Its own position and those before; with a window, only the last `window` of them, itself included.
    Causal { window: Option<usize> },
    /// Every position that has a key.
    Full,
    /// Positions at most this far from its own, before and after.
    Around(usize),
}

impl Mask {
    /// First and one past the last visible position for the query at `position` of a sequence of `len`.
    pub(super) fn visible(self, position: usize, len: usize) -> (usize, usize) {
        match self {
            Mask::Full => (0, len),
            Mask::Causal { window } => (window.map_or(0, |window| (position + 1).saturating_sub(window)), position + 1),
            Mask::Around(reach) => {
                (position.saturating_sub(reach), position.saturating_add(reach).saturating_add(1).min(len))
            }
        }
    }
}

/// What is added to the scores of a head by how far the key is from the query (Raffel et al. 2019). Beyond its reach, on both
/// sides, it is that at the reach.
#[derive(Debug)]
pub(crate) struct DistanceBias {
    /// `[heads][2 · reach + 1]`: of keys from `reach` before the query to `reach` after it.
    values: Vec<f32>,
    reach: usize,
}

impl DistanceBias {
    /// `value(head, distance)`, where a distance below 0 is that of a key before the query.
    pub(crate) fn new(heads: usize, reach: usize, value: impl Fn(usize, isize) -> f32) -> Self {
        let far = reach as isize;
        let all = (0..heads).flat_map(|head| (-far..=far).map(move |distance| (head, distance)));
        Self { values: all.map(|(head, distance)| value(head, distance)).collect(), reach }
    }

    pub(crate) fn at(&self, head: usize, distance: isize) -> f32 {
        let reach = self.reach as isize;
        self.values[head * (2 * self.reach + 1) + (distance.clamp(-reach, reach) + reach) as usize]
    }

    /// Adds to the scores of keys at `first`, `first + 1` … from the query.
    fn add(&self, head: usize, first: isize, scores: &mut [f32]) {
        let (reach, len) = (self.reach as isize, scores.len() as isize);
        let row = &self.values[head * (2 * self.reach + 1)..][..2 * self.reach + 1];
        // Before the reach, in it, after it.
        let begin = (-reach - first).clamp(0, len);
        let end = (reach + 1 - first).clamp(begin, len);
        let (before, rest) = scores.split_at_mut(begin as usize);
        let (inside, after) = rest.split_at_mut((end - begin) as usize);
        before.iter_mut().for_each(|score| *score += row[0]);
        after.iter_mut().for_each(|score| *score += row[2 * self.reach]);
        if !inside.is_empty() {
            let values = &row[(first + begin + reach) as usize..];
            inside.iter_mut().zip(values).for_each(|(score, value)| *score += value);
        }
    }
}

/// What happens to a score before the softmax.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Adjust<'a> {
    Nothing,
    /// It is kept inside `±cap`: see [`soft_cap`].
    Cap(f32),
    /// Something is added to it.
    Bias(&'a DistanceBias),
}

/// Attention of the queries of several sequences, each over its own pages.
///
/// `queries` and `out` are `[rows, heads.queries · heads.dim]`.
///
/// # Panics
/// If the shapes disagree, or a span's pages do not reach its last position.
pub(crate) fn attend(
    pool: &Pool,
    heads: Heads,
    mask: Mask,
    adjust: Adjust<'_>,
    queries: &[f32],
    spans: &[Span<'_>],
    out: &mut [f32],
) {
    let width = heads.queries * heads.dim;
    assert!(heads.keys > 0 && heads.queries.is_multiple_of(heads.keys) && queries.len() == out.len());
    let group = heads.queries / heads.keys;
    let mut chunks = Vec::new();
    for (index, span) in spans.iter().enumerate() {
        assert!((span.first_row + span.tokens) * width <= queries.len());
        assert!(span.pages.len() * PAGE >= span.len, "pages end before the last position");
        let last = if mask == Mask::Full { span.tokens.min(1) } else { span.position + span.tokens };
        assert!(span.len >= last, "queries without keys");
        let rows = span.tokens * group;
        // Enough rows a chunk to be worth handing out, few enough for an even load.
        let size = (rows.div_ceil(pool.threads() * 2).clamp(ROWS, 16 * ROWS)).next_multiple_of(ROWS);
        for key_head in 0..heads.keys {
            chunks.extend((0..rows).step_by(size).map(|row| (index, key_head, row, size.min(rows - row))));
        }
    }
    // The rows of late positions see more keys: start with them, so that no thread ends with the longest.
    chunks.reverse();
    let isa = isa();
    let out = Disjoint::new(out);
    pool.run(chunks.len(), &|chunk| {
        let (index, key_head, first, count) = chunks[chunk];
        let mut work = Work::new(heads);
        for row in (first..first + count).step_by(ROWS) {
            work.rows(
                isa,
                heads,
                mask,
                adjust,
                queries,
                &spans[index],
                key_head,
                row,
                ROWS.min(first + count - row),
                &out,
            );
        }
    });
}

/// The four sides of a wide tile's right operand whose rows are contiguous.
fn sides(b: &[f32]) -> [&[f32]; 4] {
    [b, &b[COLUMNS..], &b[2 * COLUMNS..], &b[3 * COLUMNS..]]
}

/// Buffers for one tile of rows.
struct Work {
    /// `[6][dim]`
    queries: Vec<f32>,
    /// `[6][64]`
    scores: Vec<f32>,
    /// `[6][padded]`
    sums: Vec<f32>,
}

impl Work {
    fn new(heads: Heads) -> Self {
        Self {
            queries: vec![0.0; ROWS * heads.dim],
            scores: vec![0.0; ROWS * PAGE],
            sums: vec![0.0; ROWS * heads.padded()],
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn rows(
        &mut self,
        isa: Isa,
        heads: Heads,
        mask: Mask,
        adjust: Adjust<'_>,
        queries: &[f32],
        span: &Span<'_>,
        key_head: usize,
        first: usize,
        count: usize,
        out: &Disjoint<'_>,
    ) {
        let (dim, padded, group) = (heads.dim, heads.padded(), heads.queries / heads.keys);
        let offset = |row: usize| {
            let head = key_head * group + row % group;
            (span.first_row + row / group) * heads.queries * dim + head * dim
        };
        let mut visible = [(0, 0); ROWS];
        for r in 0..count {
            visible[r] = mask.visible(span.position + (first + r) / group, span.len);
            let query = &queries[offset(first + r)..][..dim];
            let scaled = &mut self.queries[r * dim..][..dim];
            scaled.iter_mut().zip(query).for_each(|(to, from)| *to = from * heads.scale);
        }
        let mut largest = [f32::NEG_INFINITY; ROWS];
        let mut total = [0.0f32; ROWS];
        self.sums.fill(0.0);
        let begin = visible[..count].iter().map(|v| v.0).min().unwrap_or(0);
        let end = visible[..count].iter().map(|v| v.1).max().unwrap_or(0);
        let mut block = [[0.0f32; COLUMNS]; ROWS];
        for page_start in (begin / PAGE * PAGE..end).step_by(PAGE) {
            let page = &span.pages[page_start / PAGE].0;
            let depth = (end - page_start).min(PAGE);
            let keys = &page.keys[key_head * dim * PAGE..][..dim * PAGE];
            if has_wide(isa) {
                let zeros = Some(&[0.0; WIDE]);
                // SAFETY: a page has as many positions as a wide tile columns, and `scores` has six rows of them.
                unsafe {
                    let out = self.scores.as_mut_ptr();
                    wide_at(isa, count, dim, &self.queries, dim, sides(keys), PAGE, zeros, out, PAGE);
                }
            } else {
                for column in (0..depth).step_by(COLUMNS) {
                    tile(isa, count, dim, &self.queries, dim, &keys[column..], PAGE, &mut block);
                    for (r, block) in block.iter().enumerate().take(count) {
                        self.scores[r * PAGE + column..][..COLUMNS].copy_from_slice(block);
                    }
                }
            }
            for r in 0..count {
                let scores = &mut self.scores[r * PAGE..][..PAGE];
                let from = visible[r].0.saturating_sub(page_start).min(PAGE);
                let to = visible[r].1.saturating_sub(page_start).min(PAGE);
                if from >= to {
                    scores.fill(0.0);
                    continue;
                }
                match adjust {
                    Adjust::Nothing => {}
                    Adjust::Cap(cap) => soft_cap(isa, &mut scores[from..to], cap),
                    Adjust::Bias(bias) => {
                        let (row, head) = ((first + r) / group, key_head * group + (first + r) % group);
                        let distance = (page_start + from) as isize - (span.position + row) as isize;
                        bias.add(head, distance, &mut scores[from..to]);
                    }
                }
                let here = highest(isa, &scores[from..to]);
                let new = largest[r].max(here);
                if new > largest[r] {
                    if total[r] != 0.0 {
                        let mut shrink = [largest[r]];
                        exp_sum(isa, &mut shrink, new);
                        total[r] *= shrink[0];
                        self.sums[r * padded..][..padded].iter_mut().for_each(|sum| *sum *= shrink[0]);
                    }
                    largest[r] = new;
                }
                scores[..from].fill(0.0);
                scores[to..].fill(0.0);
                total[r] += exp_sum(isa, &mut scores[from..to], largest[r]);
            }
            let values = &page.values[key_head * PAGE * padded..][..PAGE * padded];
            let wide = if has_wide(isa) { padded / WIDE * WIDE } else { 0 };
            for column in (0..wide).step_by(WIDE) {
                let out = self.sums[column..].as_mut_ptr();
                // SAFETY: `sums` has six rows of `padded` floats, of which 64 from `column` on are there.
                unsafe {
                    wide_at(isa, count, depth, &self.scores, PAGE, sides(&values[column..]), padded, None, out, padded);
                }
            }
            for column in (wide..padded).step_by(COLUMNS) {
                tile(isa, count, depth, &self.scores, PAGE, &values[column..], padded, &mut block);
                for (r, block) in block.iter().enumerate().take(count) {
                    let sums = &mut self.sums[r * padded + column..][..COLUMNS];
                    sums.iter_mut().zip(block).for_each(|(sum, block)| *sum += block);
                }
            }
        }
        for (r, total) in total.iter().enumerate().take(count) {
            // SAFETY: this head of this row belongs to this chunk alone.
            let out = unsafe { out.slice(offset(first + r), dim) };
            // A query always sees a position, so the total is at least 1 (or NaN, which then shows).
            out.iter_mut().zip(&self.sums[r * padded..]).for_each(|(out, sum)| *out = sum / total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(n: usize, seed: u32) -> Vec<f32> {
        (0..n)
            .map(|i| {
                (((i as u32 + 1).wrapping_mul(2654435761) ^ seed.wrapping_mul(40503)) >> 8) as f32 / 8388608.0 - 1.0
            })
            .collect()
    }

    fn pages(heads: Heads, keys: &[f32], values: &[f32]) -> Vec<Page> {
        let width = heads.keys * heads.dim;
        let len = keys.len() / width;
        let mut pages: Vec<Page> = (0..len.div_ceil(PAGE)).map(|_| Page::new(heads)).collect();
        for t in 0..len {
            pages[t / PAGE].write(heads, t % PAGE, &keys[t * width..][..width], &values[t * width..][..width]);
        }
        pages
    }

    fn plain(heads: Heads, mask: Mask, adjust: Adjust<'_>, [q, k, v]: [&[f32]; 3], position: usize) -> Vec<f64> {
        let (qw, kw, d) = (heads.queries * heads.dim, heads.keys * heads.dim, heads.dim);
        let (tokens, len) = (q.len() / qw, k.len() / kw);
        let mut out = vec![0.0; q.len()];
        for t in 0..tokens {
            let (from, to) = mask.visible(position + t, len);
            for h in 0..heads.queries {
                let kh = h / (heads.queries / heads.keys);
                let score = |j: usize| -> f64 {
                    let products = (0..d).map(|i| f64::from(q[t * qw + h * d + i]) * f64::from(k[j * kw + kh * d + i]));
                    let score = products.sum::<f64>() * f64::from(heads.scale);
                    match adjust {
                        Adjust::Nothing => score,
                        Adjust::Cap(cap) => f64::from(cap) * (score / f64::from(cap)).tanh(),
                        Adjust::Bias(bias) => score + f64::from(bias.at(h, j as isize - (position + t) as isize)),
                    }
                };
                let e: Vec<f64> = (from..to).map(|j| score(j).exp()).collect();
                let total: f64 = e.iter().sum();
                for i in 0..d {
                    out[t * qw + h * d + i] =
                        e.iter().zip(from..to).map(|(e, j)| e / total * f64::from(v[j * kw + kh * d + i])).sum();
                }
            }
        }
        out
    }

    #[test]
    fn queries_of_another_sequence_see_all_keys() {
        let (pool, heads) = (Pool::new(2), Heads { queries: 4, keys: 2, dim: 12, scale: 0.4 });
        for (len, tokens) in [(1, 9), (70, 3), (5, 80)] {
            let (q, k, v) = (random(tokens * 48, 4), random(len * 24, 5), random(len * 24, 6));
            let pages = pages(heads, &k, &v);
            let mut out = vec![0.0; q.len()];
            let span = Span { pages: &pages, first_row: 0, tokens, position: 0, len };
            attend(&pool, heads, Mask::Full, Adjust::Nothing, &q, &[span], &mut out);
            for (got, want) in out.iter().zip(plain(heads, Mask::Full, Adjust::Nothing, [&q, &k, &v], 0)) {
                assert!((f64::from(*got) - want).abs() < 2e-5, "{len} {tokens}: {got} {want}");
            }
        }
    }

    #[test]
    fn equals_the_definition_and_is_free_of_company() {
        let pool = Pool::new(2);
        for (queries, keys, dim) in [(4, 4, 8), (6, 2, 20), (9, 3, 64), (8, 1, 7)] {
            let heads = Heads { queries, keys, dim, scale: 1.3 / (dim as f32).sqrt() };
            for mask in [
                Mask::Causal { window: None },
                Mask::Causal { window: Some(5) },
                Mask::Causal { window: Some(70) },
                Mask::Around(3),
                Mask::Around(66),
                Mask::Full,
            ] {
                for (len, tokens) in [(1, 1), (3, 3), (64, 64), (65, 1), (150, 150), (200, 31)] {
                    let (qw, kw) = (queries * dim, keys * dim);
                    let (q, k, v) = (random(tokens * qw, 1), random(len * kw, 2), random(len * kw, 3));
                    let pages = pages(heads, &k, &v);
                    let span = |tokens, position| Span { pages: &pages, first_row: 0, tokens, position, len };
                    for reach in [None, Some(0), Some(4), Some(100)] {
                        let value = |head: usize, distance: isize| (head as f32 + distance as f32 * 0.7).sin();
                        let bias = reach.map(|reach| DistanceBias::new(queries, reach, value));
                        let bias = bias.as_ref().map_or(Adjust::Nothing, Adjust::Bias);
                        let mut out = vec![0.0; q.len()];
                        attend(&pool, heads, mask, bias, &q, &[span(tokens, len - tokens)], &mut out);
                        let want = plain(heads, mask, bias, [&q, &k, &v], len - tokens);
                        for (got, want) in out.iter().zip(want) {
                            assert!(
                                (f64::from(*got) - want).abs() < 3e-5,
                                "{heads:?} {mask:?} {reach:?} {len} {tokens}: {got} {want}"
                            );
                        }
                        // One token at a time gives the same bits.
                        for t in 0..tokens {
                            let mut one = vec![0.0; qw];
                            let span = span(1, len - tokens + t);
                            attend(&pool, heads, mask, bias, &q[t * qw..][..qw], &[span], &mut one);
                            assert_eq!(one, out[t * qw..][..qw]);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn scores_are_capped_before_the_mask() {
        let pool = Pool::new(2);
        let heads = Heads { queries: 4, keys: 2, dim: 12, scale: 1.5 };
        let (len, tokens) = (90, 20);
        let (q, k, v) = (random(tokens * 48, 4), random(len * 24, 5), random(len * 24, 6));
        let pages = pages(heads, &k, &v);
        let spans = [Span { pages: &pages, first_row: 0, tokens, position: len - tokens, len }];
        for mask in [Mask::Causal { window: None }, Mask::Causal { window: Some(9) }] {
            let mut out = vec![0.0; q.len()];
            attend(&pool, heads, mask, Adjust::Cap(2.0), &q, &spans, &mut out);
            let want = plain(heads, mask, Adjust::Cap(2.0), [&q, &k, &v], len - tokens);
            assert!(out.iter().zip(&want).all(|(got, want)| (f64::from(*got) - want).abs() < 2e-5));
            let uncapped = plain(heads, mask, Adjust::Nothing, [&q, &k, &v], len - tokens);
            assert!(want.iter().zip(uncapped).any(|(capped, free)| (capped - free).abs() > 1e-2));
        }
    }
}
