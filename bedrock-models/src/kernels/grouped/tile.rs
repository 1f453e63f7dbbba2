//! Five rows of activations by three strips of weights, whose sums fit in the registers of AVX-512 beside what they are made of.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::atomic::{Ordering, compiler_fence};

use super::rows::{Group, GroupedRows};
use super::{STRIPS, registers};
use crate::kernels::panels::Line;
use crate::kernels::prefetch::{ask_near, lines_near};
use crate::kernels::tile::COLUMNS;

/// Groups of columns that some rows meet before they meet the next: 20 KiB of three strips, so that these stay in a first-level cache meanwhile.
const NEAR: usize = 6;

/// Rows of one call, whose sums take 17 KiB.
pub(super) const ROWS: usize = 90;

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

/// Products of some rows with some groups of strips that were laid out side by side, which have `lanes` rows of weights, from the sums in `start` on, or else from those at `to`.
///
/// # Safety
/// Of each row so many floats can be written at `to`, and read if there is no `start`.
///
/// # Panics
/// If there are too many rows or strips, or not these groups, or too few sums.
#[allow(clippy::too_many_arguments)]
pub(super) unsafe fn products(
    strips: usize,
    weights: &[Line],
    x: &GroupedRows<'_>,
    rows: Range<usize>,
    groups: Range<usize>,
    start: Option<&[f32]>,
    to: Place,
    lanes: usize,
) {
    assert!((1..=STRIPS).contains(&strips) && weights.len() >= groups.len() * registers(strips));
    assert!(rows.len() <= ROWS && rows.end <= x.rows() && !groups.is_empty() && groups.end <= x.groups());
    assert!(lanes <= strips * COLUMNS && start.is_none_or(|start| start.len() >= strips * COLUMNS));
    // SAFETY: rows on which AVX-512 has worked; weights and sums that are there; `to` by the contract.
    unsafe {
        match strips {
            1 => strips_side_by_side::<1>(weights, x, rows, groups, start, to, lanes),
            2 => strips_side_by_side::<2>(weights, x, rows, groups, start, to, lanes),
            _ => strips_side_by_side::<STRIPS>(weights, x, rows, groups, start, to, lanes),
        }
    }
}

/// # Safety
/// As [`products`], of `S` strips, whose assertions hold; AVX-512 VNNI must be there.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn strips_side_by_side<const S: usize>(
    weights: &[Line],
    x: &GroupedRows<'_>,
    rows: Range<usize>,
    groups: Range<usize>,
    start: Option<&[f32]>,
    out: Place,
    lanes: usize,
) {
    // Beside each other: to add to sums where they go, rows far apart, is slower.
    let mut sums = MaybeUninit::<[[Line; S]; ROWS]>::uninit();
    let sums = sums.as_mut_ptr().cast::<[Line; S]>();
    for row in 0..rows.len() {
        let from = start.map_or(out.row(row).at.cast_const(), <[f32]>::as_ptr);
        // SAFETY: by the contract; there are so many rows of sums.
        unsafe {
            if lanes < S * COLUMNS {
                sums.add(row).write([Line([0.0; COLUMNS]); S]);
            }
            sums.add(row).cast::<f32>().copy_from_nonoverlapping(from, lanes);
        }
    }
    for first in groups.clone().step_by(NEAR) {
        let near = first..groups.end.min(first + NEAR);
        let weights = &weights[(first - groups.start) * registers(S)..];
        let mut row = 0;
        // As many rows as fit in the registers, then those that are left.
        macro_rules! tiles {
            ($R:literal) => {
                while rows.len() - row >= $R {
                    let is_last = near.end == groups.end;
                    if is_last {
                        // Where the sums of the rows that come next go, which may be as far as memory, and those of the strips beside.
                        (row + $R..row + 2 * $R)
                            .for_each(|row| lines_near(out.row(row).at.cast(), 2 * size_of::<f32>() * lanes));
                    }
                    let at = x.at(rows.start + row, first);
                    // SAFETY: by the contract; the assertions say that there are these rows and groups.
                    unsafe { tile::<S, $R>(weights, near.len(), at, x.groups(), sums.add(row)) };
                    if is_last {
                        for row in row..row + $R {
                            // SAFETY: by the contract; rows that were written.
                            unsafe { out.row(row).at.copy_from_nonoverlapping(sums.add(row).cast::<f32>(), lanes) };
                        }
                    }
                    row += $R;
                }
            };
        }
        tiles!(5);
        tiles!(2);
        tiles!(1);
    }
}

/// Adds the products of `R` rows with `S` strips of some groups to sums.
///
/// # Safety
/// AVX-512 VNNI must be there, and these groups of the weights and of the rows, which lie `width` groups apart from `x` on, and so must the sums.
#[allow(clippy::needless_range_loop)]
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn tile<const S: usize, const R: usize>(
    weights: &[Line],
    groups: usize,
    x: *const Group,
    width: usize,
    sums: *mut [Line; S],
) {
    for group in 0..groups {
        // SAFETY: by the contract.
        unsafe {
            let register = |at: usize| weights.as_ptr().add(group * registers(S) + at);
            let line = x.add(group).cast::<u8>();
            let stride = width * size_of::<Group>();
            let x = |r: usize| line.add(r * stride).cast::<Group>();
            let mut dots = [[_mm512_setzero_si512(); S]; R];
            for r in 0..R {
                // Of the rows that come next, which need not be there.
                ask_near(x(0).wrapping_add((R + r) * width).cast());
                dots[r] = [_mm512_set1_epi32((*x(r)).raise); S];
            }
            // A loop: of twice as many products in a row the compiler would keep sums in memory.
            for half in 0..2 {
                if half == 1 {
                    for r in 0..R {
                        // Row by row, or the compiler begins them all and runs out of registers.
                        compiler_fence(Ordering::SeqCst);
                        let shift = _mm512_set1_epi32((*x(r)).shift);
                        for s in 0..S {
                            dots[r][s] = _mm512_sllv_epi32(dots[r][s], shift);
                        }
                    }
                }
                let w_at = register(8 * S * half).cast::<u8>();
                let x_at = line.add(32 * half);
                for step in 0..8 {
                    let mut w = [_mm512_setzero_si512(); S];
                    for s in 0..S {
                        w[s] = _mm512_load_si512(w_at.add((step * S + s) * 64).cast());
                    }
                    for r in 0..R {
                        let four = x_at.add(r * stride + 4 * step).cast::<i32>().read_unaligned();
                        let four = _mm512_set1_epi32(four);
                        for s in 0..S {
                            dots[r][s] = _mm512_dpbusd_epi32(dots[r][s], w[s], four);
                        }
                    }
                }
            }
            let mut scales = [_mm512_setzero_ps(); S];
            for s in 0..S {
                scales[s] = _mm512_load_ps(register(16 * S + s).cast());
            }
            for r in 0..R {
                compiler_fence(Ordering::SeqCst);
                let scale = _mm512_set1_ps((*x(r)).scale);
                for s in 0..S {
                    let (sum, scale) = (sums.add(r).cast::<f32>().add(s * COLUMNS), _mm512_mul_ps(scales[s], scale));
                    let dots = _mm512_cvtepi32_ps(dots[r][s]);
                    _mm512_store_ps(sum, _mm512_fmadd_ps(dots, scale, _mm512_load_ps(sum)));
                }
            }
        }
    }
}
