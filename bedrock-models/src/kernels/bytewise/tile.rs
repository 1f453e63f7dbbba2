//! Four rows of activations by three strips of weights, whose products and sums are all in the registers of AVX-512.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::atomic::{Ordering, compiler_fence};

use super::rows::{Block, Rows};
use super::{STRIPS, registers};
use crate::kernels::panels::Line;
use crate::kernels::prefetch::{ask_near, lines_near};
use crate::kernels::quarters::STEPS;
use crate::kernels::tile::COLUMNS;

/// Blocks of columns that some rows meet before they meet the next: 18 KiB of three strips, so that these stay in a first-level cache meanwhile.
const NEAR: usize = 8;

/// Rows of one call, whose sums take 17 KiB.
pub(super) const ROWS: usize = 88;

/// Where floats of each row lie, rows `stride` floats apart.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Place {
    pub(in crate::kernels) at: *mut f32,
    pub(in crate::kernels) stride: usize,
}

impl Place {
    pub(super) fn row(self, row: usize) -> Self {
        Self { at: self.at.wrapping_add(row * self.stride), ..self }
    }
}

/// Products of some rows with some blocks of strips that were laid out side by side, which have `lanes` rows of weights, from the sums in `start` on, or else from those at `to`.
///
/// # Safety
/// Of each row so many floats can be written at `to`, and read if there is no `start`.
///
/// # Panics
/// If there are too many rows or strips, or not these blocks, or too few sums.
#[allow(clippy::too_many_arguments)]
pub(super) unsafe fn products(
    strips: usize,
    weights: &[Line],
    x: &Rows<'_>,
    rows: Range<usize>,
    blocks: Range<usize>,
    start: Option<&[f32]>,
    to: Place,
    lanes: usize,
) {
    assert!((1..=STRIPS).contains(&strips) && weights.len() >= blocks.len() * registers(strips));
    assert!(rows.len() <= ROWS && rows.end <= x.rows() && !blocks.is_empty() && blocks.end <= x.blocks());
    assert!(lanes <= strips * COLUMNS && start.is_none_or(|start| start.len() >= strips * COLUMNS));
    // SAFETY: rows on which AVX-512 has worked; weights and sums that are there; `to` by the contract.
    unsafe {
        match strips {
            1 => strips_side_by_side::<1>(weights, x, rows, blocks, start, to, lanes),
            2 => strips_side_by_side::<2>(weights, x, rows, blocks, start, to, lanes),
            _ => strips_side_by_side::<STRIPS>(weights, x, rows, blocks, start, to, lanes),
        }
    }
}

/// # Safety
/// As [`products`], of `S` strips, whose assertions hold; AVX-512 VNNI must be there.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn strips_side_by_side<const S: usize>(
    weights: &[Line],
    x: &Rows<'_>,
    rows: Range<usize>,
    blocks: Range<usize>,
    start: Option<&[f32]>,
    out: Place,
    lanes: usize,
) {
    // Between passes sums lie beside each other: to add to them where they go, rows far apart, is slower. Where lanes are missing they do so before and after as well.
    let mut sums = MaybeUninit::<[[Line; S]; ROWS]>::uninit();
    let beside = Place { at: sums.as_mut_ptr().cast::<f32>(), stride: S * COLUMNS };
    let start = start.map_or(out, |start| Place { at: start.as_ptr().cast_mut(), stride: 0 });
    let is_whole = lanes == S * COLUMNS;
    if !is_whole {
        for row in 0..rows.len() {
            // SAFETY: by the contract; there are so many rows of sums.
            unsafe {
                beside.row(row).at.cast::<[Line; S]>().write([Line([0.0; COLUMNS]); S]);
                beside.row(row).at.copy_from_nonoverlapping(start.row(row).at, lanes);
            }
        }
    }
    for first in blocks.clone().step_by(NEAR) {
        let near = first..blocks.end.min(first + NEAR);
        let weights = &weights[(first - blocks.start) * registers(S)..];
        let from = if is_whole && near.start == blocks.start { start } else { beside };
        let to = if is_whole && near.end == blocks.end { out } else { beside };
        let mut row = 0;
        // As many rows as fit in the registers, then those that are left.
        macro_rules! tiles {
            ($R:literal) => {
                while rows.len() - row >= $R {
                    if near.end == blocks.end {
                        // Where the sums of the rows that come next go, which may be as far as memory, and those of the strips beside.
                        (row + $R..row + 2 * $R)
                            .for_each(|row| lines_near(out.row(row).at.cast(), 2 * size_of::<f32>() * lanes));
                    }
                    let at = x.at(rows.start + row, first);
                    // SAFETY: by the contract; the assertions say that there are these rows and blocks.
                    unsafe { tile::<S, $R>(weights, near.len(), at, x.stride(), from.row(row), to.row(row)) };
                    row += $R;
                }
            };
        }
        tiles!(4);
        tiles!(2);
        tiles!(1);
    }
    if !is_whole {
        for row in 0..rows.len() {
            // SAFETY: by the contract; rows that were written.
            unsafe { out.row(row).at.copy_from_nonoverlapping(beside.row(row).at, lanes) };
        }
    }
}

/// Adds the products of `R` rows with `S` strips of some blocks to the sums in `from`, and writes them to `to`.
///
/// # Safety
/// AVX-512 VNNI must be there, and these blocks of the weights and of the rows, which lie `stride` blocks apart from `x` on, and so must the sums of all lanes.
#[allow(clippy::needless_range_loop)]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn tile<const S: usize, const R: usize>(
    weights: &[Line],
    blocks: usize,
    x: *const Block,
    stride: usize,
    from: Place,
    to: Place,
) {
    // SAFETY: by the contract.
    unsafe {
        let mut all = [[_mm512_setzero_ps(); S]; R];
        for r in 0..R {
            for s in 0..S {
                all[r][s] = _mm512_loadu_ps(from.row(r).at.add(s * COLUMNS));
            }
        }
        for block in 0..blocks {
            let register = weights.as_ptr().add(block * registers(S)).cast::<u8>();
            let line = x.add(block).cast::<u8>();
            let stride = stride * size_of::<Block>();
            let x = |r: usize| line.add(r * stride).cast::<Block>();
            let mut dots = [[_mm512_setzero_si512(); S]; R];
            for r in 0..R {
                // Of the rows that come next, which need not be there.
                ask_near(line.wrapping_add((R + r) * stride).cast());
                dots[r] = [_mm512_set1_epi32((*x(r)).start); S];
            }
            for four in 0..8 {
                let mut w = [_mm512_setzero_si512(); S];
                for s in 0..S {
                    w[s] = _mm512_load_si512(register.add((four * S + s) * 64).cast());
                }
                for r in 0..R {
                    let x = line.add(r * stride + 4 * four).cast::<i32>().read_unaligned();
                    let x = _mm512_set1_epi32(x);
                    for s in 0..S {
                        dots[r][s] = _mm512_dpbusd_epi32(dots[r][s], w[s], x);
                    }
                }
            }
            for r in 0..R {
                // Row by row, or the compiler begins them all and runs out of registers.
                compiler_fence(Ordering::SeqCst);
                // Powers of two are free beside products, multiplications are not: the step is in the weights' scale.
                let (exponent, step) = (_mm512_set1_ps((*x(r)).exponent), (*x(r)).step as usize);
                let scales = register.add(8 * S * 64 + step);
                for s in 0..S {
                    let dots = _mm512_scalef_ps(_mm512_cvtepi32_ps(dots[r][s]), exponent);
                    let scale = _mm512_load_ps(scales.add(s * STEPS.len() * 64).cast());
                    all[r][s] = _mm512_fmadd_ps(dots, scale, all[r][s]);
                }
            }
        }
        for r in 0..R {
            for s in 0..S {
                _mm512_storeu_ps(to.row(r).at.add(s * COLUMNS), all[r][s]);
            }
        }
    }
}
