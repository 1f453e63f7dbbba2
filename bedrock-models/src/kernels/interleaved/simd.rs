//! Products and decoding of strips: written once, compiled for four kinds of registers.

use std::ops::Range;

use super::{Format, Isa, Out};
use crate::kernels::activation::{At, BLOCK, Block, QuantizedRows};
use crate::kernels::prefetch::{AHEAD, ask_near};
use crate::kernels::tile::COLUMNS;

const Q8: u8 = Format::Q8 as u8;
const Q4: u8 = Format::Q4 as u8;
const Q4_MIN: u8 = Format::Q4Min as u8;
const Q5: u8 = Format::Q5 as u8;
const Q5_MIN: u8 = Format::Q5Min as u8;
const Q4_K: u8 = Format::Q4K as u8;
const Q5_K: u8 = Format::Q5K as u8;
const Q6_K: u8 = Format::Q6K as u8;

/// The format of a constant, of which the constants below are made.
const fn format(f: u8) -> Format {
    match f {
        Q8 => Format::Q8,
        Q4 => Format::Q4,
        Q4_MIN => Format::Q4Min,
        Q5 => Format::Q5,
        Q5_MIN => Format::Q5Min,
        Q4_K => Format::Q4K,
        Q5_K => Format::Q5K,
        _ => Format::Q6K,
    }
}

/// Calls a function of a module with the format, and the bytes an activation, as constants.
macro_rules! with_format {
    ($format:expr, $module:ident :: $function:ident $(<$planes:literal>)? ( $($arg:expr),* )) => {
        match $format {
            Format::Q8 => $module::$function::<Q8 $(, $planes)?>($($arg),*),
            Format::Q4 => $module::$function::<Q4 $(, $planes)?>($($arg),*),
            Format::Q4Min => $module::$function::<Q4_MIN $(, $planes)?>($($arg),*),
            Format::Q5 => $module::$function::<Q5 $(, $planes)?>($($arg),*),
            Format::Q5Min => $module::$function::<Q5_MIN $(, $planes)?>($($arg),*),
            Format::Q4K => $module::$function::<Q4_K $(, $planes)?>($($arg),*),
            Format::Q5K => $module::$function::<Q5_K $(, $planes)?>($($arg),*),
            Format::Q6K => $module::$function::<Q6_K $(, $planes)?>($($arg),*),
        }
    };
}

/// Products of a strip with rows of activations.
///
/// # Safety
/// The instructions of `isa` must be there; `heads` and `quants` are a strip of `isa.lanes()` rows as long as those of `x`, which has no more
/// bytes an activation than `isa.planes()`; the rows are in `x`, and `out` as [`Out`] says.
pub(super) unsafe fn dot(
    isa: Isa,
    format: Format,
    heads: &[u8],
    quants: &[u8],
    x: &QuantizedRows<'_>,
    rows: Range<usize>,
    out: Out<'_>,
) {
    // SAFETY: by the contract.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 if x.planes() == 2 => with_format!(format, avx512::dot<2>(heads, quants, x, rows, out)),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => with_format!(format, avx512::dot<1>(heads, quants, x, rows, out)),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni if x.planes() == 2 => with_format!(format, avxvnni::dot<2>(heads, quants, x, rows, out)),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => with_format!(format, avxvnni::dot<1>(heads, quants, x, rows, out)),
            #[cfg(target_arch = "x86_64")]
            _ => with_format!(format, avx2::dot<1>(heads, quants, x, rows, out)),
            #[cfg(target_arch = "aarch64")]
            _ if x.planes() == 2 => with_format!(format, neon::dot<2>(heads, quants, x, rows, out)),
            #[cfg(target_arch = "aarch64")]
            _ => with_format!(format, neon::dot<1>(heads, quants, x, rows, out)),
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use avx512::pairs::REGISTERS as PAIR_REGISTERS;

/// Unpacks some blocks of two strips.
///
/// # Safety
/// AVX-512 VNNI must be there; the format has no minima; the strips have these blocks, and `out` has [`PAIR_REGISTERS`] for each.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn unpack_pair(format: Format, strips: [(&[u8], &[u8]); 2], blocks: Range<usize>, out: *mut u8) {
    // SAFETY: by the contract.
    unsafe {
        match format {
            Format::Q8 => pairs::unpack_pair::<Q8>(strips, blocks, out),
            Format::Q4 => pairs::unpack_pair::<Q4>(strips, blocks, out),
            Format::Q5 => pairs::unpack_pair::<Q5>(strips, blocks, out),
            Format::Q6K => pairs::unpack_pair::<Q6_K>(strips, blocks, out),
            Format::Q4Min | Format::Q5Min | Format::Q4K | Format::Q5K => unreachable!("pairs have no minima"),
        }
    }
}

/// What [`dot`] is for two strips, of blocks that were unpacked. The sums are the same.
///
/// # Safety
/// As [`unpack_pair`], which made the `blocks` of `pair`, which `x` has; `out` as [`Out`] says, of twice the lanes; its sums go on from what is there, unless the
/// blocks are the first.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn dot_pair(
    format: Format,
    pair: *const u8,
    blocks: Range<usize>,
    x: &QuantizedRows<'_>,
    rows: Range<usize>,
    out: Out<'_>,
) {
    // SAFETY: by the contract.
    unsafe {
        match (format, x.planes()) {
            (Format::Q6K, 2) => pairs::dot_pair::<true, 2>(pair, blocks, x, rows, out),
            (Format::Q6K, _) => pairs::dot_pair::<true, 1>(pair, blocks, x, rows, out),
            (_, 2) => pairs::dot_pair::<false, 2>(pair, blocks, x, rows, out),
            _ => pairs::dot_pair::<false, 1>(pair, blocks, x, rows, out),
        }
    }
}

/// Lays out some strips side by side as bytes of one scale for 32 columns: see [`bytewise`](crate::kernels::bytewise).
///
/// # Safety
/// AVX-512 VNNI must be there; the strips have these blocks, and `out` has [`registers`](crate::kernels::bytewise::registers) for each.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn layout(format: Format, strips: &[(&[u8], &[u8])], blocks: Range<usize>, out: *mut u8) {
    // SAFETY: by the contract.
    unsafe { with_format!(format, layout::layout(strips, blocks, out)) }
}

/// Decodes whole blocks of a strip into `out[k · 16 + lane]`.
///
/// # Safety
/// The instructions of `isa` must be there; `heads` covers the units of `quants`; `out` holds the lanes of the last column.
pub(super) unsafe fn panel(isa: Isa, format: Format, heads: &[u8], quants: &[u8], out: &mut [f32]) {
    // SAFETY: by the contract.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => with_format!(format, avx512::panel(heads, quants, out)),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => with_format!(format, avxvnni::panel(heads, quants, out)),
            #[cfg(target_arch = "x86_64")]
            _ => with_format!(format, avx2::panel(heads, quants, out)),
            #[cfg(target_arch = "aarch64")]
            _ => with_format!(format, neon::panel(heads, quants, out)),
        }
    }
}

/// The kernels of a module that defines registers and the functions on them. `$rows` are the numbers of rows of activations that are
/// multiplied at once, falling, the last 1: as many as fit in the registers, so that weights are unpacked once for all of them. A row's sums are the
/// same operations in the same order whatever their number.
macro_rules! kernels {
    ($features:literal, $lanes:literal, [$($rows:literal),*]) => {
        const LANES: usize = $lanes;
        /// Bytes of a register.
        const WIDTH: usize = 4 * LANES;

        /// The quants of a block, four columns of each lane in a register; unsigned, but for Q8 where it is signed.
        ///
        /// # Safety
        /// The features; `at` points to a block.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn unpack<const F: u8>(at: *const u8) -> [Bytes; 8] {
            // SAFETY: a block has `Format::registers` registers.
            unsafe {
                let mut w = [zero(); 8];
                if F == Q8 {
                    for (g, w) in w.iter_mut().enumerate() {
                        *w = quant8(load(at.add(g * WIDTH)));
                    }
                    return w;
                }
                let low = splat(15);
                for g in 0..4 {
                    let both = load(at.add(g * WIDTH));
                    w[g] = and(both, low);
                    w[4 + g] = and(right::<4>(both), low);
                }
                if F == Q5 || F == Q5_MIN || F == Q5_K {
                    let (bits, mask) = (load(at.add(4 * WIDTH)), splat(16));
                    w[0] = or(w[0], and(left::<4>(bits), mask));
                    w[1] = or(w[1], and(left::<3>(bits), mask));
                    w[2] = or(w[2], and(left::<2>(bits), mask));
                    w[3] = or(w[3], and(left::<1>(bits), mask));
                    w[4] = or(w[4], and(bits, mask));
                    w[5] = or(w[5], and(right::<1>(bits), mask));
                    w[6] = or(w[6], and(right::<2>(bits), mask));
                    w[7] = or(w[7], and(right::<3>(bits), mask));
                }
                if F == Q6_K {
                    let mask = splat(48);
                    for half in 0..2 {
                        let bits = load(at.add((4 + half) * WIDTH));
                        w[4 * half] = or(w[4 * half], and(left::<4>(bits), mask));
                        w[4 * half + 1] = or(w[4 * half + 1], and(left::<2>(bits), mask));
                        w[4 * half + 2] = or(w[4 * half + 2], and(bits, mask));
                        w[4 * half + 3] = or(w[4 * half + 3], and(right::<2>(bits), mask));
                    }
                }
                w
            }
        }

        /// `d` and `m` of a unit, where it is a block; otherwise what the scales of its blocks are multiplied by.
        ///
        /// # Safety
        /// The features; `head` points to the head of a unit.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn unit<const F: u8>(head: *const u8) -> [Floats; 2] {
            // SAFETY: `Format::floats` arrays of `f16` are there.
            unsafe {
                let d = halves(head);
                let m = match F {
                    Q8 => mul(d, splat_float(if Q8_IS_SIGNED { 0.0 } else { -128.0 })),
                    Q4 => mul(d, splat_float(-8.0)),
                    Q5 => mul(d, splat_float(-16.0)),
                    Q6_K => d,
                    Q4_K | Q5_K => mul(halves(head.add(2 * LANES)), splat_float(-1.0)),
                    _ => halves(head.add(2 * LANES)),
                };
                [d, m]
            }
        }

        /// `d` and `m` of the two halves of block `b` of a unit.
        ///
        /// # Safety
        /// As [`unit`].
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn scales<const F: u8>(head: *const u8, b: usize, [d, m]: [Floats; 2]) -> [[Floats; 2]; 2] {
            // SAFETY: the arrays of the scales of eight blocks follow the floats.
            unsafe {
                let array = |array: usize| head.add((2 * const { format(F).floats() } + 2 * b + array) * LANES);
                if F == Q4_K || F == Q5_K {
                    let (d, m) = (mul(d, unsigned(array(0))), mul(m, unsigned(array(1))));
                    return [[d, m]; 2];
                }
                if F == Q6_K {
                    let (first, second) = (mul(d, signed(array(0))), mul(d, signed(array(1))));
                    let offset = splat_float(-32.0);
                    return [[first, mul(first, offset)], [second, mul(second, offset)]];
                }
                [[d, m]; 2]
            }
        }

        /// What takes back a raise of a block's quants by 128, in each lane.
        ///
        /// # Safety
        /// The features.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn raise(x: &Block) -> Bytes {
            // SAFETY: four bytes of the block.
            unsafe { four(x.raise.as_ptr().cast()) }
        }

        /// As [`raise`], of the first half.
        ///
        /// # Safety
        /// The features.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn first_raise(x: &Block) -> Bytes {
            // SAFETY: four bytes of the block.
            unsafe { four(x.raise.as_ptr().add(1).cast()) }
        }

        /// As [`raise`], of the second half.
        ///
        /// # Safety
        /// The features.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn last_raise(x: &Block) -> Bytes {
            // SAFETY: by the contract.
            unsafe { less(raise(x), first_raise(x)) }
        }

        /// What takes back the offset of a format's quants from their products, by what does so for one of 128.
        ///
        /// # Safety
        /// The features.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn offset<const F: u8>(raise: Bytes) -> Bytes {
            // SAFETY: by the contract.
            unsafe {
                match F {
                    Q8 if !Q8_IS_SIGNED => raise,
                    Q4 => part::<4>(raise),
                    Q5 => part::<3>(raise),
                    Q6_K => part::<2>(raise),
                    _ => zero(),
                }
            }
        }

        /// `sum` and what a block's products of integers, without the quants' offset, are with its scale and minimum.
        ///
        /// # Safety
        /// The features.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn add<const F: u8>(sum: Floats, dots: Bytes, [d, m]: [Floats; 2], x: &Block) -> Floats {
            // SAFETY: two floats of the block.
            unsafe {
                let scale = mul(d, broadcast_float(&x.scale));
                if const { format(F).has_minimum() } {
                    add_float(sum, fma(to_float(dots), scale, mul(m, broadcast_float(&x.sum))))
                } else {
                    fma(to_float(dots), scale, sum)
                }
            }
        }

        /// # Safety
        /// The features; `heads` and `quants` are a strip as long as the `R` rows of `x`, of `P` bytes an activation, which lie `width` blocks apart; `start` holds `LANES` floats, and so does each of the
        /// rows of `out`, `stride` floats apart.
        #[target_feature(enable = $features)]
        unsafe fn dot_rows<const F: u8, const P: usize, const R: usize>(
            heads: &[u8],
            quants: &[u8],
            x: At<P>,
            width: usize,
            start: *const f32,
            out: *mut f32,
            stride: usize,
        ) {
            let (head_bytes, block_bytes) =
                (const { format(F).head() * LANES }, const { format(F).registers() * WIDTH });
            let blocks = const { format(F).blocks() };
            let mut block = 0;
            // SAFETY: heads and quants have as many units, and a row of activations as many blocks.
            unsafe {
                let mut sums = [load_float(start); R];
                for unit_index in 0..heads.len() / head_bytes {
                    let head = heads.as_ptr().add(unit_index * head_bytes);
                    let unit = unit::<F>(head);
                    for b in 0..blocks {
                        let quants = quants.as_ptr().add(block * block_bytes);
                        for line in 0..block_bytes.div_ceil(64) {
                            ask_near(quants.wrapping_add(AHEAD + 64 * line));
                        }
                        let w = unpack::<F>(quants);
                        let [first, second] = scales::<F>(head, b, unit);
                        let x = x.add(block);
                        // `sums` and the products of some registers of quants from a column on, with their scale and minimum, and what takes back their offset.
                        macro_rules! add {
                            ($n:literal, $w:expr, $from:literal, $scales:expr, $raise:ident) => {
                                let dots = dots::<F, P, $n, R>($w, x, width, $from);
                                for r in 0..R {
                                    let x = x.add(r * width).block();
                                    let dots = plus(dots[r], offset::<F>($raise(x)));
                                    sums[r] = add::<F>(sums[r], dots, $scales, x);
                                }
                            };
                        }
                        if F == Q6_K {
                            add!(4, [w[0], w[1], w[2], w[3]], 0, first, first_raise);
                            add!(4, [w[4], w[5], w[6], w[7]], 16, second, last_raise);
                        } else {
                            add!(8, w, 0, first, raise);
                        }
                        block += 1;
                    }
                }
                for r in 0..R {
                    store(out.add(r * stride), sums[r]);
                }
            }
        }

        /// # Safety
        /// As [`super::dot`].
        pub(in crate::kernels::interleaved) unsafe fn dot<const F: u8, const P: usize>(
            heads: &[u8],
            quants: &[u8],
            x: &QuantizedRows<'_>,
            rows: Range<usize>,
            out: Out<'_>,
        ) {
            let Out { at, stride, lanes, start } = out;
            let mut row = rows.start;
            $(
                while rows.end - row >= $rows {
                    let (at_row, width) = (x.at::<P>(row), x.stride());
                    let at = at.wrapping_add((row - rows.start) * stride);
                    // SAFETY: by the contract; a strip that is not whole goes through a copy.
                    unsafe {
                        if lanes == LANES {
                            dot_rows::<F, P, $rows>(heads, quants, at_row, width, start.as_ptr(), at, stride);
                        } else {
                            let mut whole = [[0.0f32; LANES]; $rows];
                            dot_rows::<F, P, $rows>(heads, quants, at_row, width, start.as_ptr(), whole.as_mut_ptr().cast(), LANES);
                            for (r, whole) in whole.iter().enumerate() {
                                at.add(r * stride).copy_from_nonoverlapping(whole.as_ptr(), lanes);
                            }
                        }
                    }
                    row += $rows;
                }
            )*
        }

        /// # Safety
        /// As [`super::panel`].
        #[target_feature(enable = $features)]
        pub(in crate::kernels::interleaved) unsafe fn panel<const F: u8>(heads: &[u8], quants: &[u8], out: &mut [f32]) {
            let (head_bytes, block_bytes) =
                (const { format(F).head() * LANES }, const { format(F).registers() * WIDTH });
            let blocks = const { format(F).blocks() };
            // SAFETY: by the contract.
            unsafe {
                for block in 0..quants.len() / block_bytes {
                    let head = heads.as_ptr().add(block / blocks * head_bytes);
                    let w = unpack::<F>(quants.as_ptr().add(block * block_bytes));
                    let scales = scales::<F>(head, block % blocks, unit::<F>(head));
                    let out = out.as_mut_ptr().add(block * BLOCK * COLUMNS);
                    for g in 0..8 {
                        let ([d, m], out) = (scales[g / 4], out.add(4 * g * COLUMNS));
                        store(out, fma(column::<0, F>(w[g]), d, m));
                        store(out.add(COLUMNS), fma(column::<1, F>(w[g]), d, m));
                        store(out.add(2 * COLUMNS), fma(column::<2, F>(w[g]), d, m));
                        store(out.add(3 * COLUMNS), fma(column::<3, F>(w[g]), d, m));
                    }
                }
            }
        }
    };
}

// After the macros, which they use.
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "x86_64")]
use x86::avx512::{layout, pairs};
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) use x86::tiles;
#[cfg(target_arch = "x86_64")]
use x86::{avx2, avx512, avxvnni};
