//! Products and decoding of strips on x86-64: written once, compiled for three kinds of registers.

use std::ops::Range;

use super::{Format, Isa, Out};
use crate::kernels::activation::{BLOCK, Block, QuantizedRows};
#[cfg(target_os = "linux")]
use crate::kernels::panels::Line;
#[cfg(target_os = "linux")]
use crate::kernels::prefetch::ask_for;
#[cfg(target_os = "linux")]
use crate::kernels::split::split_pairs;
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

/// Calls a function of a module with the format as a constant.
macro_rules! with_format {
    ($format:expr, $module:ident :: $function:ident ( $($arg:expr),* )) => {
        match $format {
            Format::Q8 => $module::$function::<Q8>($($arg),*),
            Format::Q4 => $module::$function::<Q4>($($arg),*),
            Format::Q4Min => $module::$function::<Q4_MIN>($($arg),*),
            Format::Q5 => $module::$function::<Q5>($($arg),*),
            Format::Q5Min => $module::$function::<Q5_MIN>($($arg),*),
            Format::Q4K => $module::$function::<Q4_K>($($arg),*),
            Format::Q5K => $module::$function::<Q5_K>($($arg),*),
            Format::Q6K => $module::$function::<Q6_K>($($arg),*),
        }
    };
}

/// Products of a strip with rows of activations.
///
/// # Safety
/// The instructions of `isa` must be there; `heads` and `quants` are a strip of `isa.lanes()` rows as long as those of `x`; the
/// rows are in `x`, and `out` as [`Out`] says.
pub(super) unsafe fn dot(
    isa: Isa,
    format: Format,
    heads: &[u8],
    quants: &[u8],
    x: &QuantizedRows,
    rows: Range<usize>,
    out: Out<'_>,
) {
    // SAFETY: by the contract.
    unsafe {
        match isa {
            Isa::Avx512 => with_format!(format, avx512::dot(heads, quants, x, rows, out)),
            Isa::AvxVnni => with_format!(format, avxvnni::dot(heads, quants, x, rows, out)),
            _ => with_format!(format, avx2::dot(heads, quants, x, rows, out)),
        }
    }
}

/// Decodes whole blocks of a strip into `out[k · 16 + lane]`.
///
/// # Safety
/// The instructions of `isa` must be there; `heads` covers the units of `quants`; `out` holds the lanes of the last column.
pub(super) unsafe fn panel(isa: Isa, format: Format, heads: &[u8], quants: &[u8], out: &mut [f32]) {
    // SAFETY: by the contract.
    unsafe {
        match isa {
            Isa::Avx512 => with_format!(format, avx512::panel(heads, quants, out)),
            Isa::AvxVnni => with_format!(format, avxvnni::panel(heads, quants, out)),
            _ => with_format!(format, avx2::panel(heads, quants, out)),
        }
    }
}

/// Decodes blocks of two strips of 16 lanes into tiles: see [`Interleaved::tiles`](super::Interleaved::tiles).
///
/// # Safety
/// AVX-512 with VNNI and BF16 must be there; the heads and quants are of strips with these blocks, each 32 lines of `out`.
#[cfg(target_os = "linux")]
pub(super) unsafe fn tiles(
    format: Format,
    strips: [(&[u8], &[u8]); 2],
    blocks: Range<usize>,
    out: [*mut Line; 2],
    meanwhile: impl Fn(usize, usize, [*const Line; 2]),
) {
    // SAFETY: by the contract.
    unsafe { with_format!(format, avx512::tiles(strips, blocks, out, meanwhile)) }
}

/// Bytes ahead of what is multiplied that are asked for: the processor's own prefetching ends with each page of memory.
const AHEAD: usize = 2048;

/// The kernels of a module that defines registers and the functions on them. `$rows` are the numbers of rows of activations that are
/// multiplied at once, falling, the last 1: as many as fit in the registers, so that weights are unpacked once for all of them. A row's sums are the
/// same operations in the same order whatever their number.
macro_rules! kernels {
    ($features:literal, $lanes:literal, [$($rows:literal),*]) => {
        const LANES: usize = $lanes;
        /// Bytes of a register.
        const WIDTH: usize = 4 * LANES;

        /// The quants of a block, four columns of each lane in a register; unsigned, but for Q8 where [`Q8_OFFSET`] is 0.
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
                    Q8 => mul(d, splat_float(Q8_OFFSET)),
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

        /// # Safety
        /// The features; `heads` and `quants` are a strip as long as the `R` rows of `x`, which lie one after another; `start` holds `LANES` floats, and so does each of the
        /// rows of `out`, `stride` floats apart.
        #[target_feature(enable = $features)]
        unsafe fn dot_rows<const F: u8, const R: usize>(
            heads: &[u8],
            quants: &[u8],
            x: *const Block,
            start: *const f32,
            out: *mut f32,
            stride: usize,
        ) {
            let (head_bytes, block_bytes) =
                (const { format(F).head() * LANES }, const { format(F).registers() * WIDTH });
            let blocks = const { format(F).blocks() };
            let width = quants.len() / block_bytes;
            let mut block = 0;
            // SAFETY: heads and quants have as many units, and a row of activations as many blocks.
            unsafe {
                let mut sums = [zero_float(); R];
                let mut offsets = [load_float(start); R];
                for unit_index in 0..heads.len() / head_bytes {
                    let head = heads.as_ptr().add(unit_index * head_bytes);
                    let unit = unit::<F>(head);
                    for b in 0..blocks {
                        let quants = quants.as_ptr().add(block * block_bytes);
                        if R == 1 {
                            for line in 0..block_bytes.div_ceil(64) {
                                _mm_prefetch::<_MM_HINT_T0>(quants.wrapping_add(AHEAD + 64 * line).cast());
                            }
                        }
                        let w = unpack::<F>(quants);
                        let [[d, m], [d2, m2]] = scales::<F>(head, b, unit);
                        for r in 0..R {
                            let x = &*x.add(r * width + block);
                            let scale = broadcast_float(&x.scale);
                            if F == Q6_K {
                                let [first, second] = [dot16([w[0], w[1], w[2], w[3]], x, 0), dot16([w[4], w[5], w[6], w[7]], x, 16)];
                                sums[r] = fma(to_float(first), mul(d, scale), sums[r]);
                                sums[r] = fma(to_float(second), mul(d2, scale), sums[r]);
                                offsets[r] = fma(m, broadcast_float(&x.half_sums[0]), offsets[r]);
                                offsets[r] = fma(m2, broadcast_float(&x.half_sums[1]), offsets[r]);
                            } else {
                                sums[r] = fma(to_float(dot32::<F>(w, x)), mul(d, scale), sums[r]);
                                if F != Q8 || Q8_OFFSET != 0.0 {
                                    offsets[r] = fma(m, broadcast_float(&x.sum), offsets[r]);
                                }
                            }
                        }
                        block += 1;
                    }
                }
                for r in 0..R {
                    store(out.add(r * stride), add_float(sums[r], offsets[r]));
                }
            }
        }

        /// # Safety
        /// As [`super::dot`].
        pub(super) unsafe fn dot<const F: u8>(
            heads: &[u8],
            quants: &[u8],
            x: &QuantizedRows,
            rows: Range<usize>,
            out: Out<'_>,
        ) {
            let Out { at, stride, lanes, start } = out;
            let mut row = rows.start;
            $(
                while rows.end - row >= $rows {
                    let x = x.from(row).as_ptr();
                    let at = at.wrapping_add((row - rows.start) * stride);
                    // SAFETY: by the contract; a strip that is not whole goes through a copy.
                    unsafe {
                        if lanes == LANES {
                            dot_rows::<F, $rows>(heads, quants, x, start.as_ptr(), at, stride);
                        } else {
                            let mut whole = [[0.0f32; LANES]; $rows];
                            dot_rows::<F, $rows>(heads, quants, x, start.as_ptr(), whole.as_mut_ptr().cast(), LANES);
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
        pub(super) unsafe fn panel<const F: u8>(heads: &[u8], quants: &[u8], out: &mut [f32]) {
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

/// Registers of eight lanes. `dot` of bytes in three instructions, or with `$dot` in one.
macro_rules! eight_lanes {
    ($features:literal) => {
        use std::arch::x86_64::*;

        use super::*;

        type Bytes = __m256i;
        type Floats = __m256;

        eight_lanes!(@ $features
            fn zero() -> Bytes { _mm256_setzero_si256() }
            fn zero_float() -> Floats { _mm256_setzero_ps() }
            fn splat(byte: i8) -> Bytes { _mm256_set1_epi8(byte) }
            fn splat_float(value: f32) -> Floats { _mm256_set1_ps(value) }
            fn and(a: Bytes, b: Bytes) -> Bytes { _mm256_and_si256(a, b) }
            fn or(a: Bytes, b: Bytes) -> Bytes { _mm256_or_si256(a, b) }
            fn mul(a: Floats, b: Floats) -> Floats { _mm256_mul_ps(a, b) }
            fn add_float(a: Floats, b: Floats) -> Floats { _mm256_add_ps(a, b) }
            fn fma(a: Floats, b: Floats, c: Floats) -> Floats { _mm256_fmadd_ps(a, b, c) }
            fn to_float(a: Bytes) -> Floats { _mm256_cvtepi32_ps(a) }
            fn load(at: *const u8) -> Bytes { _mm256_loadu_si256(at.cast()) }
            fn four(at: *const i8) -> Bytes { _mm256_set1_epi32(at.cast::<i32>().read_unaligned()) }
            fn broadcast_float(at: *const f32) -> Floats { _mm256_set1_ps(*at) }
            fn load_float(at: *const f32) -> Floats { _mm256_loadu_ps(at) }
            fn halves(at: *const u8) -> Floats { _mm256_cvtph_ps(_mm_loadu_si128(at.cast())) }
            fn unsigned(at: *const u8) -> Floats { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(at.cast()))) }
            fn signed(at: *const u8) -> Floats { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(at.cast()))) }
            fn store(at: *mut f32, value: Floats) -> () { _mm256_storeu_ps(at, value) }
        );

        #[inline]
        #[target_feature(enable = $features)]
        fn left<const N: i32>(a: Bytes) -> Bytes {
            _mm256_slli_epi16::<N>(a)
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn right<const N: i32>(a: Bytes) -> Bytes {
            _mm256_srli_epi16::<N>(a)
        }
    };
    (@ $features:literal $(fn $name:ident($($arg:ident: $type:ty),*) -> $ret:ty { $body:expr })*) => {
        $(
            /// # Safety
            /// The features, and what is read or written is there.
            #[inline]
            #[target_feature(enable = $features)]
            #[allow(unused_unsafe)]
            unsafe fn $name($($arg: $type),*) -> $ret {
                // SAFETY: by the contract.
                unsafe { $body }
            }
        )*
    };
}

mod avx2 {
    eight_lanes!("avx2,fma,f16c");

    /// Quants of Q8 stay signed: unsigned ones would overflow the pairs of `maddubs`.
    const Q8_OFFSET: f32 = 0.0;

    fn quant8(w: Bytes) -> Bytes {
        w
    }

    /// Byte `J` of each lane.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn column<const J: i32, const F: u8>(w: Bytes) -> Floats {
        if F == Q8 {
            let top = match J {
                0 => _mm256_slli_epi32::<24>(w),
                1 => _mm256_slli_epi32::<16>(w),
                2 => _mm256_slli_epi32::<8>(w),
                _ => w,
            };
            return _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(top));
        }
        let bottom = match J {
            0 => w,
            1 => _mm256_srli_epi32::<8>(w),
            2 => _mm256_srli_epi32::<16>(w),
            _ => _mm256_srli_epi32::<24>(w),
        };
        _mm256_cvtepi32_ps(_mm256_and_si256(bottom, _mm256_set1_epi32(255)))
    }

    /// # Safety
    /// The features; `from` is 0 or 16.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn dot16(w: [Bytes; 4], x: &Block, from: usize) -> Bytes {
        let (q, ones) = (x.q.as_ptr().wrapping_add(from), _mm256_set1_epi16(1));
        // SAFETY: by the contract.
        unsafe {
            // Two sums of at most 2 · 63 · 127 fit an i16.
            let first =
                _mm256_add_epi16(_mm256_maddubs_epi16(w[0], four(q)), _mm256_maddubs_epi16(w[1], four(q.add(4))));
            let second = _mm256_add_epi16(
                _mm256_maddubs_epi16(w[2], four(q.add(8))),
                _mm256_maddubs_epi16(w[3], four(q.add(12))),
            );
            _mm256_add_epi32(_mm256_madd_epi16(first, ones), _mm256_madd_epi16(second, ones))
        }
    }

    /// # Safety
    /// The features.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn dot32<const F: u8>(w: [Bytes; 8], x: &Block) -> Bytes {
        let (q, ones) = (x.q.as_ptr(), _mm256_set1_epi16(1));
        // SAFETY: by the contract.
        unsafe {
            let mut dots = [_mm256_setzero_si256(); 2];
            if F == Q8 {
                for (g, w) in w.iter().enumerate() {
                    // maddubs takes unsigned × signed: |w| × sign(w)·x. 128 · 127 · 2 fits an i16.
                    let signed = _mm256_sign_epi8(four(q.add(4 * g)), *w);
                    let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(*w), signed);
                    dots[g % 2] = _mm256_add_epi32(dots[g % 2], _mm256_madd_epi16(pairs, ones));
                }
                return _mm256_add_epi32(dots[0], dots[1]);
            }
            for g in 0..4 {
                dots[0] = _mm256_add_epi16(dots[0], _mm256_maddubs_epi16(w[g], four(q.add(4 * g))));
                dots[1] = _mm256_add_epi16(dots[1], _mm256_maddubs_epi16(w[4 + g], four(q.add(16 + 4 * g))));
            }
            // Eight sums of at most 2 · 15 · 127 fit an i16, four of 2 · 31 · 127 as well.
            if F == Q5 || F == Q5_MIN || F == Q5_K {
                return _mm256_add_epi32(_mm256_madd_epi16(dots[0], ones), _mm256_madd_epi16(dots[1], ones));
            }
            _mm256_madd_epi16(_mm256_add_epi16(dots[0], dots[1]), ones)
        }
    }

    kernels!("avx2,fma,f16c", 8, [1]);
}

/// What AVX-VNNI and AVX-512 share: products of bytes are summed in one instruction, without overflow for unsigned quants of 8 bits, and
/// activations have two bytes.
macro_rules! vnni {
    ($features:literal, $sum:ident, $shift:ident) => {
        /// Quants of Q8 become unsigned.
        const Q8_OFFSET: f32 = -128.0;

        /// # Safety
        /// The features; `from` is 0 or 16.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn dot16(w: [Bytes; 4], x: &Block, from: usize) -> Bytes {
            // SAFETY: 16 activations from `from` on; the sums of 32 products of at most 255 · 32,640 fit.
            unsafe {
                let mut sum = zero();
                for (g, w) in w.iter().enumerate() {
                    sum = $sum(sum, *w, four(x.q.as_ptr().add(from + 4 * g)));
                }
                sum = $shift::<8>(sum);
                for (g, w) in w.iter().enumerate() {
                    sum = $sum(sum, *w, four(x.low.as_ptr().add(from + 4 * g)));
                }
                sum
            }
        }

        /// # Safety
        /// The features.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn dot32<const F: u8>(w: [Bytes; 8], x: &Block) -> Bytes {
            // SAFETY: as in `dot16`.
            unsafe {
                let mut sum = zero();
                for (g, w) in w.iter().enumerate() {
                    sum = $sum(sum, *w, four(x.q.as_ptr().add(4 * g)));
                }
                sum = $shift::<8>(sum);
                for (g, w) in w.iter().enumerate() {
                    sum = $sum(sum, *w, four(x.low.as_ptr().add(4 * g)));
                }
                sum
            }
        }
    };
}

mod avxvnni {
    eight_lanes!("avx2,fma,f16c,avxvnni");
    vnni!("avx2,fma,f16c,avxvnni", _mm256_dpbusd_avx_epi32, _mm256_slli_epi32);

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
    fn quant8(w: Bytes) -> Bytes {
        _mm256_xor_si256(w, _mm256_set1_epi8(-128))
    }

    /// Byte `J` of each lane.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
    fn column<const J: i32, const F: u8>(w: Bytes) -> Floats {
        let bottom = match J {
            0 => w,
            1 => _mm256_srli_epi32::<8>(w),
            2 => _mm256_srli_epi32::<16>(w),
            _ => _mm256_srli_epi32::<24>(w),
        };
        _mm256_cvtepi32_ps(_mm256_and_si256(bottom, _mm256_set1_epi32(255)))
    }

    kernels!("avx2,fma,f16c,avxvnni", 8, [2, 1]);
}

mod avx512 {
    use std::arch::x86_64::*;

    use super::*;

    type Bytes = __m512i;
    type Floats = __m512;

    eight_lanes!(@ "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"
        fn zero() -> Bytes { _mm512_setzero_si512() }
        fn zero_float() -> Floats { _mm512_setzero_ps() }
        fn splat(byte: i8) -> Bytes { _mm512_set1_epi8(byte) }
        fn splat_float(value: f32) -> Floats { _mm512_set1_ps(value) }
        fn and(a: Bytes, b: Bytes) -> Bytes { _mm512_and_si512(a, b) }
        fn or(a: Bytes, b: Bytes) -> Bytes { _mm512_or_si512(a, b) }
        fn mul(a: Floats, b: Floats) -> Floats { _mm512_mul_ps(a, b) }
        fn add_float(a: Floats, b: Floats) -> Floats { _mm512_add_ps(a, b) }
        fn fma(a: Floats, b: Floats, c: Floats) -> Floats { _mm512_fmadd_ps(a, b, c) }
        fn to_float(a: Bytes) -> Floats { _mm512_cvtepi32_ps(a) }
        fn load(at: *const u8) -> Bytes { _mm512_loadu_si512(at.cast()) }
        fn four(at: *const i8) -> Bytes { _mm512_set1_epi32(at.cast::<i32>().read_unaligned()) }
        fn broadcast_float(at: *const f32) -> Floats { _mm512_set1_ps(*at) }
        fn load_float(at: *const f32) -> Floats { _mm512_loadu_ps(at) }
        fn halves(at: *const u8) -> Floats { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
        fn unsigned(at: *const u8) -> Floats { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast()))) }
        fn signed(at: *const u8) -> Floats { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at.cast()))) }
        fn store(at: *mut f32, value: Floats) -> () { _mm512_storeu_ps(at, value) }
        fn quant8(w: Bytes) -> Bytes { _mm512_xor_si512(w, _mm512_set1_epi8(-128)) }
    );
    vnni!("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni", _mm512_dpbusd_epi32, _mm512_slli_epi32);

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn left<const N: u32>(a: Bytes) -> Bytes {
        _mm512_slli_epi16::<N>(a)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn right<const N: u32>(a: Bytes) -> Bytes {
        _mm512_srli_epi16::<N>(a)
    }

    /// Byte `J` of each lane.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn column<const J: i32, const F: u8>(w: Bytes) -> Floats {
        let bottom = match J {
            0 => w,
            1 => _mm512_srli_epi32::<8>(w),
            2 => _mm512_srli_epi32::<16>(w),
            _ => _mm512_srli_epi32::<24>(w),
        };
        _mm512_cvtepi32_ps(_mm512_and_si512(bottom, _mm512_set1_epi32(255)))
    }

    kernels!("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni", 16, [6, 4, 2, 1]);

    /// # Safety
    /// As [`super::tiles`].
    #[cfg(target_os = "linux")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
    pub(super) unsafe fn tiles<const F: u8>(
        strips: [(&[u8], &[u8]); 2],
        blocks: Range<usize>,
        out: [*mut Line; 2],
        meanwhile: impl Fn(usize, usize, [*const Line; 2]),
    ) {
        let (head_bytes, block_bytes) = (const { format(F).head() * LANES }, const { format(F).registers() * WIDTH });
        let units = const { format(F).blocks() };
        for (tile, block) in blocks.enumerate() {
            let now = out.map(|out| out.wrapping_add(tile * BLOCK));
            let before = now.map(|tile| tile.wrapping_sub(BLOCK).cast_const());
            for (side, ((heads, quants), out)) in strips.iter().zip(now).enumerate() {
                // SAFETY: a block of the strip, and the head of its unit, by the contract.
                let (w, scales) = unsafe {
                    let all = quants.len();
                    let head = heads.as_ptr().add(block / units * head_bytes);
                    let quants = quants.as_ptr().add(block * block_bytes);
                    // The same of the next two strips, which need not be there.
                    if block % units == 0 {
                        ask_for(head.wrapping_add(2 * heads.len()), head_bytes);
                    }
                    ask_for(quants.wrapping_add(2 * all), block_bytes);
                    (unpack::<F>(quants), scales::<F>(head, block % units, unit::<F>(head)))
                };
                for (g, w) in w.into_iter().enumerate() {
                    let [d, m] = scales[g / 4];
                    let value = |quants| _mm512_fmadd_ps(quants, d, m);
                    let first = split_pairs(value(column::<0, F>(w)), value(column::<1, F>(w)));
                    let second = split_pairs(value(column::<2, F>(w)), value(column::<3, F>(w)));
                    for (pair, [high, low]) in [first, second].into_iter().enumerate() {
                        // SAFETY: two of the 32 lines of this block.
                        unsafe {
                            _mm512_store_si512(out.add(2 * g + pair).cast(), high);
                            _mm512_store_si512(out.add(BLOCK / 2 + 2 * g + pair).cast(), low);
                        }
                    }
                    if tile > 0 {
                        meanwhile(tile - 1, 8 * side + g, before);
                    }
                }
            }
        }
    }
}
