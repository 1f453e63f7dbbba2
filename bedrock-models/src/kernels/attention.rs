//! Scaled dot-product attention (Vaswani et al. 2017) over keys and values in pages, without materialising the scores.
//!
//! Scores are of one [page](super::page) at a time; softmax runs online (Milakov and Gimelshein 2018). Query heads that share a key head are rows of one
//! tile (GQA).

use std::sync::{Mutex, PoisonError};

use super::elementwise::{exp_sum, highest, soft_cap};
use super::isa::{Isa, isa};
use super::page::{PAGE, Page, Side};
use super::pool::{Disjoint, Pool};
use super::tile::{COLUMNS, ROWS, WIDE, has_wide, tile, wide_at};

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
    pub(super) fn padded(self) -> usize {
        self.dim.next_multiple_of(COLUMNS)
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
        Work::new(heads, count).rows(isa, heads, mask, adjust, queries, &spans[index], key_head, first, &out);
    });
}

/// The four sides of a wide tile's right operand whose rows are contiguous.
fn sides(b: &[f32]) -> [&[f32]; 4] {
    [b, &b[COLUMNS..], &b[2 * COLUMNS..], &b[3 * COLUMNS..]]
}

/// Buffers for some rows of queries that meet each page together, six of them at a time.
struct Work {
    rows: Vec<Row>,
    /// `[rows][dim]`
    queries: Vec<f32>,
    /// `[6][64]`
    scores: Vec<f32>,
    /// `[rows][padded]`
    sums: Vec<f32>,
    /// Keys and values of a page and head, where they have to be widened.
    wide: [Vec<f32>; 2],
}

/// What is known of a row's softmax so far.
#[derive(Clone)]
struct Row {
    /// First and one past the last position that it sees.
    visible: (usize, usize),
    largest: f32,
    total: f32,
}

impl Work {
    fn new(heads: Heads, count: usize) -> Self {
        let rows = count.next_multiple_of(ROWS);
        Self {
            rows: vec![Row { visible: (0, 0), largest: f32::NEG_INFINITY, total: 0.0 }; count],
            queries: vec![0.0; rows * heads.dim],
            scores: vec![0.0; ROWS * PAGE],
            sums: vec![0.0; rows * heads.padded()],
            wide: [Vec::new(), Vec::new()],
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
        out: &Disjoint<'_>,
    ) {
        let (dim, padded, group) = (heads.dim, heads.padded(), heads.queries / heads.keys);
        let offset = |row: usize| {
            let head = key_head * group + row % group;
            (span.first_row + row / group) * heads.queries * dim + head * dim
        };
        for (r, (row, scaled)) in self.rows.iter_mut().zip(self.queries.chunks_exact_mut(dim)).enumerate() {
            row.visible = mask.visible(span.position + (first + r) / group, span.len);
            let query = &queries[offset(first + r)..][..dim];
            scaled.iter_mut().zip(query).for_each(|(to, from)| *to = from * heads.scale);
        }
        let (begin, end) = seen(&self.rows);
        for page_start in (begin / PAGE * PAGE..end).step_by(PAGE) {
            let page = &span.pages[page_start / PAGE];
            let [wide_keys, wide_values] = &mut self.wide;
            let keys = page.keys(isa, heads, key_head, wide_keys);
            // A few rows are done with a page before the next arrives, many go through it in the cache.
            let next = span.pages.get(page_start / PAGE + 1);
            let next = next.filter(|_| page_start + PAGE < end && self.rows.len() <= ROWS);
            let values = page.values(isa, heads, key_head, (end - page_start).min(PAGE), wide_values);
            let tiles = self.rows.chunks_mut(ROWS).zip(self.queries.chunks_exact(ROWS * dim));
            let tiles = tiles.zip(self.sums.chunks_exact_mut(ROWS * padded)).enumerate();
            for (tile, ((rows, queries), sums)) in tiles {
                let (begin, end) = seen(rows);
                if page_start + PAGE <= begin || page_start >= end {
                    continue;
                }
                scores_of(isa, rows.len(), dim, queries, keys, (end - page_start).min(PAGE), &mut self.scores);
                if let Some(next) = next {
                    next.ask_for_keys(heads, key_head);
                }
                for (r, (row, scores)) in rows.iter_mut().zip(self.scores.chunks_exact_mut(PAGE)).enumerate() {
                    let from = row.visible.0.saturating_sub(page_start).min(PAGE);
                    let to = row.visible.1.saturating_sub(page_start).min(PAGE);
                    if from >= to {
                        scores.fill(0.0);
                        continue;
                    }
                    match adjust {
                        Adjust::Nothing => {}
                        Adjust::Cap(cap) => soft_cap(isa, &mut scores[from..to], cap),
                        Adjust::Bias(bias) => {
                            let row = first + tile * ROWS + r;
                            let distance = (page_start + from) as isize - (span.position + row / group) as isize;
                            bias.add(key_head * group + row % group, distance, &mut scores[from..to]);
                        }
                    }
                    row.meet(isa, &mut scores[from..to], &mut sums[r * padded..][..padded]);
                    scores[..from].fill(0.0);
                    scores[to..].fill(0.0);
                    if let Some(scales) = values.scales {
                        scores[from..to].iter_mut().zip(&scales[from..to]).for_each(|(score, scale)| *score *= scale);
                    }
                }
                if let Some(next) = next {
                    next.ask_for_values(heads, key_head);
                }
                let depth = (end - page_start).min(PAGE);
                add_values(isa, rows.len(), depth, padded, &self.scores, values.numbers, sums);
            }
        }
        for (r, (row, sums)) in self.rows.iter().zip(self.sums.chunks_exact(padded)).enumerate() {
            // SAFETY: this head of this row belongs to this chunk alone.
            let out = unsafe { out.slice(offset(first + r), dim) };
            // A query always sees a position, so the total is at least 1 (or NaN, which then shows).
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum / row.total);
        }
    }
}

/// First and one past the last position that some of the rows see.
fn seen(rows: &[Row]) -> (usize, usize) {
    let begin = rows.iter().map(|row| row.visible.0).min().unwrap_or(0);
    (begin, rows.iter().map(|row| row.visible.1).max().unwrap_or(0))
}

impl Row {
    /// Turns scores into weights relative to the largest score so far; if that is one of these, what was summed up shrinks.
    fn meet(&mut self, isa: Isa, scores: &mut [f32], sums: &mut [f32]) {
        let new = self.largest.max(highest(isa, scores));
        if new > self.largest {
            if self.total != 0.0 {
                let mut shrink = [self.largest];
                exp_sum(isa, &mut shrink, new);
                self.total *= shrink[0];
                sums.iter_mut().for_each(|sum| *sum *= shrink[0]);
            }
            self.largest = new;
        }
        self.total += exp_sum(isa, scores, self.largest);
    }
}

/// Scores of at most six queries and the keys of a page: `[6][64]`, of which the first `depth` of each count.
fn scores_of(isa: Isa, count: usize, dim: usize, queries: &[f32], keys: Side<'_>, depth: usize, scores: &mut [f32]) {
    assert!(count <= ROWS && queries.len() == ROWS * dim && scores.len() == ROWS * PAGE);
    if has_wide(isa) {
        let zeros = Some(&[0.0; WIDE]);
        // SAFETY: a page has as many positions as a wide tile columns, and `scores` has six rows of them.
        unsafe { wide_at(isa, count, dim, queries, dim, sides(keys.numbers), PAGE, zeros, scores.as_mut_ptr(), PAGE) };
    } else {
        let mut block = [[0.0f32; COLUMNS]; ROWS];
        for column in (0..depth).step_by(COLUMNS) {
            tile(isa, count, dim, queries, dim, &keys.numbers[column..], PAGE, &mut block);
            for (r, block) in block.iter().enumerate().take(count) {
                scores[r * PAGE + column..][..COLUMNS].copy_from_slice(block);
            }
        }
    }
    if let Some(scales) = keys.scales {
        for scores in scores.chunks_exact_mut(PAGE).take(count) {
            scores.iter_mut().zip(scales).for_each(|(score, scale)| *score *= scale);
        }
    }
}

/// Adds the values of the first `depth` positions of a page, times their weights, to the sums of at most six queries.
fn add_values(isa: Isa, count: usize, depth: usize, padded: usize, weights: &[f32], values: &[f32], sums: &mut [f32]) {
    assert!(count <= ROWS && weights.len() == ROWS * PAGE && sums.len() == ROWS * padded);
    let wide = if has_wide(isa) { padded / WIDE * WIDE } else { 0 };
    for column in (0..wide).step_by(WIDE) {
        let out = sums[column..].as_mut_ptr();
        // SAFETY: `sums` has six rows of `padded` floats, of which 64 from `column` on are there.
        unsafe { wide_at(isa, count, depth, weights, PAGE, sides(&values[column..]), padded, None, out, padded) };
    }
    let mut block = [[0.0f32; COLUMNS]; ROWS];
    for column in (wide..padded).step_by(COLUMNS) {
        tile(isa, count, depth, weights, PAGE, &values[column..], padded, &mut block);
        for (r, block) in block.iter().enumerate().take(count) {
            let sums = &mut sums[r * padded + column..][..COLUMNS];
            sums.iter_mut().zip(block).for_each(|(sum, block)| *sum += block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::page::CacheType;
    use super::*;

    fn random(n: usize, seed: u32) -> Vec<f32> {
        (0..n)
            .map(|i| {
                (((i as u32 + 1).wrapping_mul(2654435761) ^ seed.wrapping_mul(40503)) >> 8) as f32 / 8388608.0 - 1.0
            })
            .collect()
    }

    fn pages(heads: Heads, kind: CacheType, keys: &[f32], values: &[f32]) -> Vec<Page> {
        let width = heads.keys * heads.dim;
        let len = keys.len() / width;
        let mut pages: Vec<Page> = (0..len.div_ceil(PAGE)).map(|_| Page::new(heads, kind)).collect();
        for t in 0..len {
            pages[t / PAGE].write(heads, t % PAGE, &keys[t * width..][..width], &values[t * width..][..width]);
        }
        pages
    }

    /// Keys and values as pages of this kind hold them.
    fn kept(heads: Heads, kind: CacheType, [keys, values]: [&[f32]; 2]) -> [Vec<f32>; 2] {
        let pages = pages(heads, kind, keys, values);
        let (width, mut kept) = (heads.keys * heads.dim, [keys.to_vec(), values.to_vec()]);
        for t in 0..keys.len() / width {
            for (head, i) in (0..heads.keys).flat_map(|head| (0..heads.dim).map(move |i| (head, i))) {
                let (page, slot, mut room) = (&pages[t / PAGE], t % PAGE, [Vec::new(), Vec::new()]);
                let [first, second] = &mut room;
                let sides = [page.keys(isa(), heads, head, first), page.values(isa(), heads, head, PAGE, second)];
                for (kept, (side, at)) in
                    kept.iter_mut().zip(sides.iter().zip([i * PAGE + slot, slot * heads.padded() + i]))
                {
                    let scale = side.scales.map_or(1.0, |scales| scales[slot]);
                    kept[t * width + head * heads.dim + i] = side.numbers[at] * scale;
                }
            }
        }
        kept
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
            let pages = pages(heads, CacheType::F32, &k, &v);
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
        for ((queries, keys, dim), kind) in [
            ((4, 4, 8), CacheType::F32),
            ((6, 2, 20), CacheType::F32),
            ((9, 3, 64), CacheType::F32),
            ((8, 1, 7), CacheType::F32),
            ((6, 2, 20), CacheType::Q8),
            ((9, 3, 64), CacheType::Q8),
        ] {
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
                    let pages = pages(heads, kind, &k, &v);
                    let [k, v] = kept(heads, kind, [&k, &v]);
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
                                "{heads:?} {kind:?} {mask:?} {reach:?} {len} {tokens}: {got} {want}"
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
        let pages = pages(heads, CacheType::F32, &k, &v);
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
