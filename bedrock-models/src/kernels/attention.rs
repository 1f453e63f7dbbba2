//! Scaled dot-product attention (Vaswani et al. 2017) over keys and values in pages, without materialising the scores.
//!
//! Scores are of one [page](super::page) at a time; softmax runs online (Milakov and Gimelshein 2018). Query heads that share a key head are rows of one
//! tile (GQA).

use std::cell::RefCell;
use std::cmp::Reverse;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::elementwise::{compiled, exp_negative, halve, soft_cap};
use super::isa::{Isa, isa};
use super::page::{Numbers, PAGE, Page, Side};
use super::pool::{Disjoint, Pool};
use super::tile::{COLUMNS, Number, ROWS, WIDE, has_wide, tile, wide_at};

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

    /// Query heads that share a key head.
    fn group(self) -> usize {
        self.queries / self.keys
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

/// Positions of which a softmax is computed on its own, so that threads share a long context. The parts are joined in their order, so that it
/// makes no difference who computed which.
const PART: usize = 4 * PAGE;

/// Rows of queries of one key head: `count` from `first` on, where a row is a query head of a token.
struct Chunk<'a> {
    span: &'a Span<'a>,
    key_head: usize,
    first: usize,
    count: usize,
}

/// Parts of a chunk that one thread computes. If they are not all of them, where they wait for the others.
struct Task<'a> {
    chunk: Chunk<'a>,
    parts: Range<usize>,
    joint: Option<Arc<Joint>>,
}

/// What several threads computed of a chunk, part by part; who is last joins them.
struct Joint {
    missing: AtomicUsize,
    parts: Vec<Mutex<Option<Sums>>>,
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
    let call = Call { isa: isa(), heads, mask, adjust, queries };
    let mut chunks = Vec::new();
    for span in spans {
        assert!((span.first_row + span.tokens) * width <= queries.len());
        assert!(span.pages.len() * PAGE >= span.len, "pages end before the last position");
        let last = if mask == Mask::Full { span.tokens.min(1) } else { span.position + span.tokens };
        assert!(span.len >= last, "queries without keys");
        let rows = span.tokens * heads.group();
        // Enough rows a chunk to be worth handing out, few enough for an even load.
        let size = (rows.div_ceil(pool.threads() * 2).clamp(ROWS, 16 * ROWS)).next_multiple_of(ROWS);
        for key_head in 0..heads.keys {
            let chunk = |first| Chunk { span, key_head, first, count: size.min(rows - first) };
            chunks.extend((0..rows).step_by(size).map(chunk));
        }
    }
    let mut tasks = call.tasks(chunks, pool.threads());
    // The longest first, so that no thread ends with one.
    tasks.sort_by_key(|task| Reverse(task.chunk.count * task.parts.len()));
    let out = Disjoint::new(out);
    pool.run(tasks.len(), &|index| {
        let Task { chunk, parts, joint } = &tasks[index];
        let mut work = Work::new(call, chunk);
        let mut all = Sums::new(heads, chunk.count);
        for part in parts.clone() {
            work.part(call, chunk, part);
            all.join(call.isa, &mut work.sums);
        }
        if let Some(joint) = joint {
            let lock = |part: usize| joint.parts[part].lock().unwrap_or_else(PoisonError::into_inner);
            *lock(parts.start) = Some(all);
            if joint.missing.fetch_sub(1, Ordering::AcqRel) > 1 {
                return;
            }
            all = Sums::new(heads, chunk.count);
            let parts = (0..joint.parts.len()).filter_map(|part| lock(part).take());
            parts.for_each(|mut part| all.join(call.isa, &mut part));
        }
        // SAFETY: who has all parts of a chunk alone writes its rows, and no other chunk has them.
        unsafe { all.finish(call, chunk, &out) };
    });
}

/// What all chunks of a call have in common.
#[derive(Clone, Copy)]
struct Call<'a> {
    isa: Isa,
    heads: Heads,
    mask: Mask,
    adjust: Adjust<'a>,
    queries: &'a [f32],
}

impl Call<'_> {
    /// A task for each chunk or, where those are too few for the threads to share evenly, for each of its parts.
    fn tasks<'a>(self, chunks: Vec<Chunk<'a>>, threads: usize) -> Vec<Task<'a>> {
        let share = threads > 1 && chunks.len() < 4 * threads;
        let mut tasks = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let seen = (0..chunk.count).map(|row| self.visible(&chunk, row));
            let (begin, end) = seen.fold((usize::MAX, 0), |(a, b), (from, to)| (a.min(from), b.max(to)));
            let parts = begin / PART..end.div_ceil(PART);
            if !share || parts.len() < 2 {
                tasks.push(Task { chunk, parts, joint: None });
                continue;
            }
            let waiting = (0..parts.end).map(|_| Mutex::new(None)).collect();
            let joint = Arc::new(Joint { missing: AtomicUsize::new(parts.len()), parts: waiting });
            let Chunk { span, key_head, first, count } = chunk;
            tasks.extend(parts.map(|part| Task {
                chunk: Chunk { span, key_head, first, count },
                parts: part..part + 1,
                joint: Some(joint.clone()),
            }));
        }
        tasks
    }

    /// First and one past the last position that a row of a chunk sees.
    fn visible(self, chunk: &Chunk<'_>, row: usize) -> (usize, usize) {
        self.mask.visible(chunk.span.position + (chunk.first + row) / self.heads.group(), chunk.span.len)
    }

    /// Where a row of a chunk begins in `queries` and the result.
    fn offset(self, chunk: &Chunk<'_>, row: usize) -> usize {
        let (Heads { queries, dim, .. }, group) = (self.heads, self.heads.group());
        let (token, head) = ((chunk.first + row) / group, (chunk.first + row) % group);
        (chunk.span.first_row + token) * queries * dim + (chunk.key_head * group + head) * dim
    }
}

/// The four sides of a wide tile's right operand whose rows are contiguous.
fn sides<T>(b: &[T]) -> [&[T]; 4] {
    [b, &b[COLUMNS..], &b[2 * COLUMNS..], &b[3 * COLUMNS..]]
}

/// The softmax of some rows over a part of the positions, or some: of each row the largest score, the sum of the weights relative to it, and that of the values times those.
struct Sums {
    rows: Vec<Total>,
    /// `[rows][padded]`, and rows that fill up the last tile.
    values: Vec<f32>,
}

#[derive(Clone, Copy)]
struct Total {
    largest: f32,
    weights: f32,
}

/// Of no position.
const NOTHING: Total = Total { largest: f32::NEG_INFINITY, weights: 0.0 };

impl Sums {
    fn new(heads: Heads, count: usize) -> Self {
        Self { rows: vec![NOTHING; count], values: vec![0.0; count.next_multiple_of(ROWS) * heads.padded()] }
    }

    /// Takes in those of the positions that follow, and leaves them empty.
    fn join(&mut self, isa: Isa, next: &mut Self) {
        if self.rows.iter().all(|row| row.weights == 0.0) {
            std::mem::swap(self, next);
        } else {
            let padded = self.values.len() / self.rows.len().next_multiple_of(ROWS);
            let (all, more) = (self.values.chunks_exact_mut(padded), next.values.chunks_exact(padded));
            for (((row, next), all), more) in self.rows.iter_mut().zip(&next.rows).zip(all).zip(more) {
                if next.weights == 0.0 {
                    continue;
                }
                join_row(isa, row, next, all, more);
            }
        }
        next.rows.fill(NOTHING);
        next.values.fill(0.0);
    }

    /// Writes the results of the rows.
    ///
    /// # Safety
    /// Nobody else may have these rows of `out` meanwhile.
    unsafe fn finish(&self, call: Call<'_>, chunk: &Chunk<'_>, out: &Disjoint<'_>) {
        for (r, (row, sums)) in self.rows.iter().zip(self.values.chunks_exact(call.heads.padded())).enumerate() {
            // SAFETY: by the contract.
            let out = unsafe { out.slice(call.offset(chunk, r), call.heads.dim) };
            // A query always sees a position, so the total is at least 1 (or NaN, which then shows).
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum / row.weights);
        }
    }
}

compiled! {
    fn join_row<FMA>(isa, row: &mut Total, next: &Total, all: &mut [f32], more: &[f32]) {
        let largest = row.largest.max(next.largest);
        let shrink = [row.largest, next.largest].map(|of| exp_negative::<FMA>(of - largest));
        *row = Total { largest, weights: row.weights * shrink[0] + next.weights * shrink[1] };
        all.iter_mut().zip(more).for_each(|(all, more)| *all = *all * shrink[0] + more * shrink[1]);
    }
}

/// Buffers for some rows of queries that meet each page together, six of them at a time.
struct Work {
    /// First and one past the last position that each row sees.
    visible: Vec<(usize, usize)>,
    /// `[rows][dim]`
    queries: Vec<f32>,
    /// `[6][64]`
    scores: Vec<f32>,
    /// Of the part that was computed last.
    sums: Sums,
}

thread_local! {
    /// Keys and values of a page and head, where they have to be widened.
    static WIDENED: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

impl Work {
    fn new(call: Call<'_>, chunk: &Chunk<'_>) -> Self {
        let dim = call.heads.dim;
        let mut queries = vec![0.0; chunk.count.next_multiple_of(ROWS) * dim];
        for (row, scaled) in queries.chunks_exact_mut(dim).take(chunk.count).enumerate() {
            let query = &call.queries[call.offset(chunk, row)..][..dim];
            scaled.iter_mut().zip(query).for_each(|(to, from)| *to = from * call.heads.scale);
        }
        Self {
            visible: (0..chunk.count).map(|row| call.visible(chunk, row)).collect(),
            queries,
            scores: vec![0.0; ROWS * PAGE],
            sums: Sums::new(call.heads, chunk.count),
        }
    }

    /// Computes the sums of a part, from nothing.
    fn part(&mut self, call: Call<'_>, chunk: &Chunk<'_>, part: usize) {
        WIDENED.with_borrow_mut(|wide| self.pages(call, chunk, part, wide));
    }

    fn pages(&mut self, call: Call<'_>, chunk: &Chunk<'_>, part: usize, wide: &mut [Vec<f32>; 2]) {
        let [wide_keys, wide_values] = wide;
        let Call { isa, heads, adjust, .. } = call;
        let Chunk { span, key_head, .. } = *chunk;
        let (dim, padded) = (heads.dim, heads.padded());
        let (begin, end) = seen(&self.visible);
        let (begin, end) = (begin.max(part * PART), end.min((part + 1) * PART));
        let few = self.visible.len() <= ROWS;
        if few && begin < end {
            span.pages[begin / PAGE].ask_for_keys(heads, key_head);
            span.pages[begin / PAGE].ask_for_values(heads, key_head);
        }
        for page_start in (begin / PAGE * PAGE..end).step_by(PAGE) {
            let page = &span.pages[page_start / PAGE];
            let (mut keys, mut values) = (page.keys(heads, key_head), page.values(heads, key_head));
            // Many rows share what it costs to make floats of them. A few read them as they are, where wide tiles can.
            if !few || !has_wide(isa) || !padded.is_multiple_of(WIDE) {
                keys.numbers = Numbers::Floats(keys.numbers.widened(isa, dim * PAGE, wide_keys));
                values.numbers = Numbers::Floats(values.numbers.widened(isa, PAGE * padded, wide_values));
            }
            // A few rows are done with a page before the next arrives, many go through it in the cache.
            let next = span.pages.get(page_start / PAGE + 1);
            let next = next.filter(|_| page_start + PAGE < end && few);
            let tiles = self.visible.chunks(ROWS).zip(self.queries.chunks_exact(ROWS * dim));
            let sums = self.sums.rows.chunks_mut(ROWS).zip(self.sums.values.chunks_exact_mut(ROWS * padded));
            for (tile, ((visible, queries), (rows, sums))) in tiles.zip(sums).enumerate() {
                let (begin, end) = seen(visible);
                if page_start + PAGE <= begin || page_start >= end {
                    continue;
                }
                scores_of(isa, rows.len(), dim, queries, keys, (end - page_start).min(PAGE), &mut self.scores);
                if let Some(next) = next {
                    next.ask_for_keys(heads, key_head);
                }
                let here = |at: usize| at.saturating_sub(page_start).min(PAGE);
                let mut parts = [(0, 0); ROWS];
                parts.iter_mut().zip(visible).for_each(|(part, visible)| *part = (here(visible.0), here(visible.1)));
                for (r, (scores, &(from, to))) in self.scores.chunks_exact_mut(PAGE).zip(&parts).enumerate() {
                    match adjust {
                        _ if from >= to => {}
                        Adjust::Nothing => {}
                        Adjust::Cap(cap) => soft_cap(isa, &mut scores[from..to], cap),
                        Adjust::Bias(bias) => {
                            let row = chunk.first + tile * ROWS + r;
                            let query = span.position + row / heads.group();
                            let distance = (page_start + from) as isize - query as isize;
                            let head = key_head * heads.group() + row % heads.group();
                            bias.add(head, distance, &mut scores[from..to]);
                        }
                    }
                }
                soften(isa, rows, &mut self.scores, &parts, sums);
                if let Some(scales) = values.scales {
                    for (scores, &(from, to)) in self.scores.chunks_exact_mut(PAGE).zip(&parts) {
                        let scores = scores.iter_mut().zip(scales).take(to).skip(from);
                        scores.for_each(|(score, scale)| *score *= scale);
                    }
                }
                if let Some(next) = next {
                    next.ask_for_values(heads, key_head);
                }
                let depth = (end - page_start).min(PAGE);
                add_values(isa, rows.len(), depth, padded, &self.scores, values.numbers, sums);
            }
        }
    }
}

/// First and one past the last position that some of the rows see.
fn seen(visible: &[(usize, usize)]) -> (usize, usize) {
    let begin = visible.iter().map(|visible| visible.0).min().unwrap_or(0);
    (begin, visible.iter().map(|visible| visible.1).max().unwrap_or(0))
}

compiled! {
    /// Turns each row's scores of a page into weights relative to its largest score so far; if that is one of these, what was summed up shrinks. A row sees a part of the page, and
    /// the other weights are zeros. Whole pages, so that there are no lanes that are left, and all rows at once, so that none waits for another's largest.
    fn soften<FMA>(isa, rows: &mut [Total], scores: &mut [f32], parts: &[(usize, usize)], sums: &mut [f32]) {
        let (scores, _) = scores.as_chunks_mut::<PAGE>();
        let sums = sums.chunks_exact_mut(sums.len() / ROWS);
        for (((row, scores), &(from, to)), sums) in rows.iter_mut().zip(scores).zip(parts).zip(sums) {
            if from >= to {
                scores.fill(0.0);
                continue;
            }
            if from > 0 || to < PAGE {
                for (at, score) in scores.iter_mut().enumerate() {
                    *score = if at < from || at >= to { f32::NEG_INFINITY } else { *score };
                }
            }
            let wider = |a: f32, b: f32| if b > a { b } else { a };
            let (chunks, _) = scores.as_chunks_mut::<COLUMNS>();
            let mut lanes = [f32::NEG_INFINITY; COLUMNS];
            for chunk in chunks.iter() {
                lanes.iter_mut().zip(chunk).for_each(|(lane, score)| *lane = wider(*lane, *score));
            }
            let new = wider(row.largest, halve(lanes, wider));
            if new > row.largest {
                if row.weights != 0.0 {
                    let shrink = exp_negative::<FMA>(row.largest - new);
                    row.weights *= shrink;
                    sums.iter_mut().for_each(|sum| *sum *= shrink);
                }
                row.largest = new;
            }
            let mut lanes = [0.0f32; COLUMNS];
            for chunk in chunks.iter_mut() {
                for (score, lane) in chunk.iter_mut().zip(&mut lanes) {
                    *score = exp_negative::<FMA>(*score - row.largest);
                    *lane += *score;
                }
            }
            row.weights += halve(lanes, |a, b| a + b);
        }
    }
}

/// Scores of at most six queries and the keys of a page: `[6][64]`, of which the first `depth` of each count.
fn scores_of(isa: Isa, count: usize, dim: usize, queries: &[f32], keys: Side<'_>, depth: usize, scores: &mut [f32]) {
    assert!(count <= ROWS && queries.len() == ROWS * dim && scores.len() == ROWS * PAGE);
    match keys.numbers {
        Numbers::Floats(keys) if !has_wide(isa) => {
            let mut block = [[0.0f32; COLUMNS]; ROWS];
            for column in (0..depth).step_by(COLUMNS) {
                tile(isa, count, dim, queries, dim, &keys[column..], PAGE, &mut block);
                for (r, block) in block.iter().enumerate().take(count) {
                    scores[r * PAGE + column..][..COLUMNS].copy_from_slice(block);
                }
            }
        }
        Numbers::Floats(keys) => wide_scores(isa, count, dim, queries, keys, scores),
        Numbers::Halves(keys) => wide_scores(isa, count, dim, queries, keys, scores),
        Numbers::Bytes(keys) => wide_scores(isa, count, dim, queries, keys, scores),
    }
    if let Some(scales) = keys.scales {
        for scores in scores.chunks_exact_mut(PAGE).take(count) {
            scores.iter_mut().zip(scales).for_each(|(score, scale)| *score *= scale);
        }
    }
}

fn wide_scores<T: Number>(isa: Isa, count: usize, dim: usize, queries: &[f32], keys: &[T], scores: &mut [f32]) {
    assert!(scores.len() == ROWS * PAGE);
    let zeros = Some(&[0.0; WIDE]);
    // SAFETY: a page has as many positions as a wide tile columns, and `scores` has six rows of them.
    unsafe { wide_at(isa, count, dim, queries, dim, sides(keys), PAGE, zeros, scores.as_mut_ptr(), PAGE) };
}

/// Adds the values of the first `depth` positions of a page, times their weights, to the sums of at most six queries.
fn add_values(
    isa: Isa,
    count: usize,
    depth: usize,
    padded: usize,
    weights: &[f32],
    values: Numbers<'_>,
    sums: &mut [f32],
) {
    assert!(count <= ROWS && weights.len() == ROWS * PAGE && sums.len() == ROWS * padded);
    let values = match values {
        Numbers::Floats(values) => values,
        Numbers::Halves(values) => return add_wide(isa, count, depth, padded, weights, values, sums),
        Numbers::Bytes(values) => return add_wide(isa, count, depth, padded, weights, values, sums),
    };
    let wide = if has_wide(isa) { padded / WIDE * WIDE } else { 0 };
    if wide > 0 {
        add_wide(isa, count, depth, padded, weights, values, sums);
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

/// [`add_values`] of as many columns as are whole wide tiles.
fn add_wide<T: Number>(
    isa: Isa,
    count: usize,
    depth: usize,
    padded: usize,
    weights: &[f32],
    values: &[T],
    sums: &mut [f32],
) {
    assert!(sums.len() == ROWS * padded);
    for column in (0..padded / WIDE * WIDE).step_by(WIDE) {
        let out = sums[column..].as_mut_ptr();
        // SAFETY: `sums` has six rows of `padded` floats, of which 64 from `column` on are there.
        unsafe { wide_at(isa, count, depth, weights, PAGE, sides(&values[column..]), padded, None, out, padded) };
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
                let sides = [page.keys(heads, head), page.values(heads, head)].into_iter().zip(&mut room);
                for (kept, ((side, room), at)) in
                    kept.iter_mut().zip(sides.zip([i * PAGE + slot, slot * heads.padded() + i]))
                {
                    let scale = side.scales.map_or(1.0, |scales| scales[slot]);
                    let numbers = side.numbers.widened(isa(), PAGE * heads.padded(), room);
                    kept[t * width + head * heads.dim + i] = numbers[at] * scale;
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
        let (pool, alone) = (Pool::new(3), Pool::new(1));
        for ((queries, keys, dim), kind) in [
            ((4, 4, 8), CacheType::F32),
            ((6, 2, 20), CacheType::F32),
            ((9, 3, 64), CacheType::F32),
            ((8, 1, 7), CacheType::F32),
            ((6, 2, 20), CacheType::F16),
            ((9, 3, 64), CacheType::F16),
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
                for (len, tokens) in [(1, 1), (3, 3), (64, 64), (65, 1), (150, 150), (200, 31), (585, 8), (700, 1)] {
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
                        // One thread, which shares nothing, and one token at a time give the same bits.
                        let mut unshared = vec![0.0; q.len()];
                        attend(&alone, heads, mask, bias, &q, &[span(tokens, len - tokens)], &mut unshared);
                        assert_eq!(unshared, out);
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
