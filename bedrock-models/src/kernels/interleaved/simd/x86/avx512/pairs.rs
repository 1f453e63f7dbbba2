//! Two strips side by side, unpacked once for many rows of activations.
//!
//! A strip alone meets eight rows at a time, and each four activations are read for one product: reading them is as much work as multiplying. Of a pair they are read for two
//! products, and the sums of four rows by two strips fit in the registers with what else is needed; so products, and what is done with them once a block, are what is left.
//! Sums are the same, bit for bit: the same integers, which become numbers in the same order.

use std::ops::Range;
use std::sync::atomic::{Ordering, compiler_fence};

use super::*;

/// What is added to quants as they are unpacked: 128 is in them then, whatever their format.
const fn middle(f: u8) -> i8 {
    match format(f) {
        Format::Q8 => 0,
        Format::Q4 => 120,
        Format::Q5 => 112,
        Format::Q6K => 96,
        _ => panic!("pairs have no minima"),
    }
}

/// Registers of a block of a pair: `[four columns][strip]` quants, `[half][strip]` scales.
pub(in crate::kernels::interleaved) const REGISTERS: usize = 2 * 10;

/// # Safety
/// The features; the strips have these blocks, and `out` has [`REGISTERS`] for each.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(in crate::kernels::interleaved) unsafe fn unpack_pair<const F: u8>(
    strips: [(&[u8], &[u8]); 2],
    blocks: Range<usize>,
    out: *mut u8,
) {
    let (head_bytes, block_bytes) = (const { format(F).head() * LANES }, const { format(F).registers() * WIDTH });
    let units = const { format(F).blocks() };
    for (index, block) in blocks.enumerate() {
        for (strip, (heads, quants)) in strips.iter().enumerate() {
            // SAFETY: by the contract.
            unsafe {
                let register = |at: usize| out.add((index * REGISTERS + at + strip) * WIDTH);
                let quants = quants.as_ptr().add(block * block_bytes);
                for line in 0..block_bytes.div_ceil(WIDTH) {
                    ask_near(quants.wrapping_add(AHEAD + WIDTH * line));
                }
                for (g, w) in unpack::<F>(quants).into_iter().enumerate() {
                    _mm512_store_si512(register(2 * g).cast(), _mm512_add_epi8(w, splat(const { middle(F) })));
                }
                let head = heads.as_ptr().add(block / units * head_bytes);
                let [[first, _], [second, _]] = scales::<F>(head, block % units, unit::<F>(head));
                store(register(16).cast(), first);
                store(register(18).cast(), second);
            }
        }
    }
}

/// # Safety
/// The features; `pair` holds so many `blocks`, and so do the `R` rows of `x`, which lie `width` blocks apart; `start` and `out` hold the lanes of two
/// strips for each of the rows, which are `step` and `stride` floats apart.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[allow(clippy::too_many_arguments)]
unsafe fn pair_rows<const HALVES: bool, const P: usize, const R: usize>(
    pair: *const u8,
    blocks: usize,
    x: At<P>,
    width: usize,
    start: *const f32,
    step: usize,
    out: *mut f32,
    stride: usize,
) {
    // SAFETY: by the contract.
    unsafe {
        let mut sums = [[zero_float(); 2]; R];
        for (r, sums) in sums.iter_mut().enumerate() {
            *sums = [load_float(start.add(r * step)), load_float(start.add(r * step + LANES))];
        }
        for block in 0..blocks {
            let x = x.add(block);
            for r in 0..R {
                // Of the rows that come next, which need not be there.
                ask_near(x.add((R + r) * width).address());
            }
            let register = |at: usize| pair.add((block * REGISTERS + at) * WIDTH);
            let mut dots;
            // What the offset of the quants adds is taken back first; the high bytes count 256 times, and so come before it.
            macro_rules! begin {
                ($raise:ident) => {
                    for r in 0..R {
                        let start = $raise(x.add(r * width).block());
                        for strip in 0..2 {
                            dots[r][strip] =
                                if P == 2 { _mm512_add_epi32(times::<8>(dots[r][strip]), start) } else { start };
                        }
                    }
                };
            }
            // Steps spelled out: the compiler gives up unrolling both loops, and then keeps the sums in memory.
            macro_rules! step {
                ($g:literal, $plane:ident) => {
                    let w = [load(register(2 * $g)), load(register(2 * $g + 1))];
                    for r in 0..R {
                        let four = four($plane(x.add(r * width), 4 * $g));
                        for strip in 0..2 {
                            dots[r][strip] = _mm512_dpbusd_epi32(dots[r][strip], w[strip], four);
                        }
                    }
                };
            }
            macro_rules! end {
                ($d:literal) => {
                    let d = [load_float(register($d).cast()), load_float(register($d + 1).cast())];
                    for r in 0..R {
                        // Row by row, or the compiler begins them all and runs out of registers.
                        compiler_fence(Ordering::SeqCst);
                        let x = x.add(r * width).block();
                        for strip in 0..2 {
                            sums[r][strip] = add::<Q8>(sums[r][strip], dots[r][strip], [d[strip]; 2], x);
                        }
                    }
                };
            }
            macro_rules! half {
                ($raise:ident, [$($g:literal),*]) => {
                    dots = [[zero(); 2]; R];
                    if P == 2 {
                        $(step!($g, high);)*
                    }
                    begin!($raise);
                    $(if P == 2 { step!($g, low); } else { step!($g, high); })*
                };
            }
            if HALVES {
                half!(first_raise, [0, 1, 2, 3]);
                end!(16);
                half!(last_raise, [4, 5, 6, 7]);
                end!(18);
            } else {
                half!(raise, [0, 1, 2, 3, 4, 5, 6, 7]);
                end!(16);
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            store(out.add(r * stride), sums[0]);
            store(out.add(r * stride + LANES), sums[1]);
        }
    }
}

/// The high bytes of a block, or its only ones.
#[inline(always)]
fn high<const P: usize>(x: At<P>, from: usize) -> *const i8 {
    x.address().wrapping_add(from).cast()
}

#[inline(always)]
fn low<const P: usize>(x: At<P>, from: usize) -> *const i8 {
    x.low(from)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn zero_float() -> Floats {
    _mm512_setzero_ps()
}

/// # Safety
/// As [`super::super::super::dot_pair`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(in crate::kernels::interleaved) unsafe fn dot_pair<const HALVES: bool, const P: usize>(
    pair: *const u8,
    blocks: Range<usize>,
    x: &QuantizedRows<'_>,
    rows: Range<usize>,
    out: Out<'_>,
) {
    let Out { at, stride, lanes, start } = out;
    let width = x.stride();
    let mut row = rows.start;
    // As many rows as fit in the registers, then those that are left.
    macro_rules! rows {
        ($R:literal) => {
            while rows.end - row >= $R {
                let x = x.at::<P>(row).add(blocks.start);
                let at = at.wrapping_add((row - rows.start) * stride);
                // SAFETY: by the contract; a pair that is not whole goes through a copy.
                unsafe {
                    if lanes == 2 * LANES {
                        let (start, step) =
                            if blocks.start == 0 { (start.as_ptr(), 0) } else { (at.cast_const(), stride) };
                        pair_rows::<HALVES, P, $R>(pair, blocks.len(), x, width, start, step, at, stride);
                    } else {
                        let mut whole = [[0.0f32; 2 * LANES]; $R];
                        for (r, whole) in whole.iter_mut().enumerate() {
                            let start =
                                if blocks.start == 0 { start.as_ptr() } else { at.add(r * stride).cast_const() };
                            start.copy_to_nonoverlapping(whole.as_mut_ptr(), lanes);
                        }
                        let sums = whole.as_mut_ptr().cast::<f32>();
                        pair_rows::<HALVES, P, $R>(pair, blocks.len(), x, width, sums, 2 * LANES, sums, 2 * LANES);
                        for (r, whole) in whole.iter().enumerate() {
                            at.add(r * stride).copy_from_nonoverlapping(whole.as_ptr(), lanes);
                        }
                    }
                }
                row += $R;
            }
        };
    }
    rows!(4);
    rows!(2);
    rows!(1);
}
