//! The kernels as the benchmark program `kernels` calls them. No interface for anybody else: it changes without notice.

use std::fmt;

use burn_std::Bytes;

use super::activation::QuantizedRows;
use super::attention::{self, Adjust, Heads, Mask, Span, Write};
use super::elementwise;
use super::gemm::{self, Product};
use super::isa::isa;
use super::matrix::{Activations, Matrix};
use super::page::{CacheType, PAGE, Page};
use super::pool::{Disjoint, Pool};

pub use super::limit::{Memory, byte_operations, float_operations, tile_operations};

/// The instruction set that the kernels use here.
pub fn instructions() -> String {
    format!("{:?}", isa())
}

/// A parallel region with nothing to do.
pub fn fork(pool: &Pool) {
    pool.run(pool.threads(), &|_| {});
}

/// The product of a decode step, of `rows` rows. Its memory goes back to the pool, as that of a tensor.
pub fn decode(pool: &Pool, x: &[f32], rows: usize, activations: Activations, weights: &Matrix) -> Bytes {
    let [out] = gemm::stream(pool, x, rows, activations, &[Product { weights, bias: None, then: None }]);
    pool.memory.bytes(out)
}

/// The product of a prompt, of `rows` rows, likewise.
pub fn prompt(pool: &Pool, x: &[f32], rows: usize, activations: Activations, weights: &Matrix) -> Bytes {
    let product = [Product { weights, bias: None, then: None }];
    let [out] = gemm::prompt(pool, x, rows, activations, &product);
    pool.memory.bytes(out)
}

/// Weights of `f32` in the order of an encoder's.
pub fn in_panels(weights: Matrix) -> Matrix {
    weights.into_panels()
}

/// Quantises rows of activations.
pub fn quantize(pool: &Pool, x: &[f32], columns: usize) -> usize {
    QuantizedRows::new(pool, isa(), isa().planes(), x, columns).rows()
}

/// Attention of one layer over a cache.
pub struct Attention {
    heads: Heads,
    pages: Vec<Page>,
    cache_type: CacheType,
}

impl fmt::Debug for Attention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attention({:?}, {} pages)", self.heads, self.pages.len())
    }
}

impl Attention {
    /// A cache of zeros.
    pub fn new([queries, keys, dim]: [usize; 3], positions: usize, cache_type: CacheType) -> Self {
        let heads = Heads { queries, keys, dim, scale: 1.0 / (dim as f32).sqrt() };
        let pages = (0..positions.div_ceil(PAGE)).map(|_| Page::new(heads, cache_type)).collect();
        Self { heads, pages, cache_type }
    }

    /// Bytes of the cache.
    pub fn bytes(&self) -> usize {
        self.pages.len() * Page::bytes(self.heads, self.cache_type)
    }

    /// Stores keys and values, `[rows, keys · dim]` each, at the positions from 0 on.
    pub fn write(&mut self, pool: &Pool, keys: &[f32], values: &[f32]) {
        let rows = keys.len() / (self.heads.keys * self.heads.dim);
        let part = |(index, page)| Write { page, slot: 0, row: index * PAGE, rows: PAGE.min(rows - index * PAGE) };
        let writes = self.pages.iter_mut().take(rows.div_ceil(PAGE)).enumerate().map(part).collect();
        attention::write(pool, self.heads, keys, values, writes);
    }

    /// Causal attention of `tokens` queries, the last of which is at the last position.
    pub fn attend(&self, pool: &Pool, queries: &[f32], tokens: usize, out: &mut [f32]) {
        let len = self.pages.len() * PAGE;
        let span = Span { pages: &self.pages, first_row: 0, tokens, position: len - tokens, len };
        let mask = Mask::Causal { window: None };
        attention::attend(pool, self.heads, mask, Adjust::Nothing, queries, &[span], out);
    }
}

/// Softmax of each row, without the division, which attention does at its end.
pub fn softmax(pool: &Pool, x: &mut [f32], width: usize) {
    let (isa, count) = (isa(), x.len() / width);
    let rows = Disjoint::new(x);
    pool.run(count, &|row| {
        // SAFETY: each row belongs to one chunk.
        let row = unsafe { rows.slice(row * width, width) };
        let largest = elementwise::highest(isa, row);
        elementwise::exp_sum(isa, row, largest);
    });
}

/// Root-mean-square normalisation of each row.
pub fn rms_norm(pool: &Pool, x: &[f32], weight: &[f32], out: &mut [f32]) {
    elementwise::rms_norm(pool, x, weight, 1e-5, out);
}

/// Layer normalisation of each row, in place.
pub fn layer_norm(pool: &Pool, x: &mut [f32], weight: &[f32], bias: &[f32]) {
    elementwise::layer_norm(pool, x, weight.len(), weight, bias, 1e-5);
}

/// SwiGLU in place of `gate`.
pub fn silu_mul(pool: &Pool, gate: &mut [f32], up: &[f32], width: usize) {
    elementwise::silu_mul(pool, gate, up, width);
}

/// `x += y`.
pub fn add(pool: &Pool, x: &mut [f32], y: &[f32], width: usize) {
    elementwise::add(pool, x, y, width);
}

/// Rotary position embedding of each head of each row, in place, all rows by the same angles.
pub fn rotate(pool: &Pool, x: &mut [f32], head_dim: usize, width: usize, angles: &[f32]) {
    elementwise::rotate(pool, x, head_dim, width, &vec![angles; x.len() / width], false);
}
