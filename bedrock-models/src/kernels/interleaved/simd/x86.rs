//! Registers of x86-64: AVX2, AVX-VNNI and AVX-512.

use super::*;
#[cfg(target_os = "linux")]
use crate::kernels::panels::Line;
#[cfg(target_os = "linux")]
use crate::kernels::prefetch::ask_for;
#[cfg(target_os = "linux")]
use crate::kernels::split::split_pairs;

/// Decodes blocks of two strips of 16 lanes into tiles: see [`Interleaved::tiles`](super::Interleaved::tiles).
///
/// # Safety
/// AVX-512 with VNNI and BF16 must be there; the heads and quants are of strips with these blocks, each 32 lines of `out`.
#[cfg(target_os = "linux")]
pub(in crate::kernels::interleaved) unsafe fn tiles(
    format: Format,
    strips: [(&[u8], &[u8]); 2],
    blocks: Range<usize>,
    out: [*mut Line; 2],
    meanwhile: impl Fn(usize, usize, [*const Line; 2]),
) {
    // SAFETY: by the contract.
    unsafe { with_format!(format, avx512::tiles(strips, blocks, out, meanwhile)) }
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
            fn splat(byte: i8) -> Bytes { _mm256_set1_epi8(byte) }
            fn splat_float(value: f32) -> Floats { _mm256_set1_ps(value) }
            fn and(a: Bytes, b: Bytes) -> Bytes { _mm256_and_si256(a, b) }
            fn or(a: Bytes, b: Bytes) -> Bytes { _mm256_or_si256(a, b) }
            fn mul(a: Floats, b: Floats) -> Floats { _mm256_mul_ps(a, b) }
            fn add_float(a: Floats, b: Floats) -> Floats { _mm256_add_ps(a, b) }
            fn fma(a: Floats, b: Floats, c: Floats) -> Floats { _mm256_fmadd_ps(a, b, c) }
            fn to_float(a: Bytes) -> Floats { _mm256_cvtepi32_ps(a) }
            fn load(at: *const u8) -> Bytes { _mm256_loadu_si256(at.cast()) }
            fn less(a: Bytes, b: Bytes) -> Bytes { _mm256_sub_epi32(a, b) }
            fn plus(a: Bytes, b: Bytes) -> Bytes { _mm256_add_epi32(a, b) }
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

        /// Integers of 32 bits over `1 << N`.
        #[inline]
        #[target_feature(enable = $features)]
        fn part<const N: i32>(a: Bytes) -> Bytes {
            _mm256_srai_epi32::<N>(a)
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

pub(super) mod avx2 {
    eight_lanes!("avx2,fma,f16c");

    /// Quants of Q8 stay signed: unsigned ones would overflow the pairs of `maddubs`.
    const Q8_IS_SIGNED: bool = true;

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

    /// # Safety
    /// The features; the row has such a block, and that `4 N` activations from `from` on.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn dots<const F: u8, const P: usize, const N: usize, const R: usize>(
        w: [Bytes; N],
        x: At<P>,
        width: usize,
        from: usize,
    ) -> [Bytes; R] {
        let mut sums = [_mm256_setzero_si256(); R];
        for (r, sum) in sums.iter_mut().enumerate() {
            // SAFETY: by the contract.
            *sum = unsafe {
                let x = x.add(r * width).block();
                match (w.first_chunk::<8>(), w.first_chunk::<4>()) {
                    (Some(w), _) => dot32::<F>(*w, x),
                    (None, Some(w)) => dot16(*w, x, from),
                    (None, None) => unreachable!("four or eight registers"),
                }
            };
        }
        sums
    }

    kernels!("avx2,fma,f16c", 8, [2, 1]);
}

/// What AVX-VNNI and AVX-512 share: products of bytes are summed in one instruction, without overflow for unsigned quants of 8 bits.
macro_rules! vnni {
    ($features:literal, $sum:ident, $add:ident) => {
        /// Quants of Q8 become unsigned.
        const Q8_IS_SIGNED: bool = false;

        /// The products of `N` registers of quants with the activations from `from` on of each of `R` rows, which lie `width` blocks apart.
        ///
        /// # Safety
        /// The features; the rows have such a block, and that `4 N` activations from there on.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn dots<const F: u8, const P: usize, const N: usize, const R: usize>(
            w: [Bytes; N],
            x: At<P>,
            width: usize,
            from: usize,
        ) -> [Bytes; R] {
            // Of each row two sums at least: as many as keep the processor from waiting for one of them. Integers, so that their order changes nothing.
            // SAFETY: by the contract.
            let zero = unsafe { zero() };
            let mut high = [[zero; 2]; R];
            let mut low = [[zero; 2]; R];
            // Steps spelled out: the compiler gives up unrolling both loops, and then keeps the sums in memory.
            macro_rules! step {
                ($g:literal) => {
                    if $g < N {
                        let (w, chain) = (w[$g % N], if R <= 2 { $g % 2 } else { 0 });
                        for r in 0..R {
                            // SAFETY: by the contract; the sums of 32 products of at most 255 · 32,640 fit.
                            unsafe {
                                let x = x.add(r * width);
                                high[r][chain] = $sum(high[r][chain], w, four(x.block().q.as_ptr().add(from + 4 * $g)));
                                if P == 2 {
                                    low[r][chain] = $sum(low[r][chain], w, four(x.low(from + 4 * $g)));
                                }
                            }
                        }
                    }
                };
            }
            step!(0);
            step!(1);
            step!(2);
            step!(3);
            step!(4);
            step!(5);
            step!(6);
            step!(7);
            let mut sums = [zero; R];
            for r in 0..R {
                let [[high, more_high], [low, more_low]] = [high[r], low[r]];
                sums[r] = match (P, R) {
                    (1, ..=2) => $add(high, more_high),
                    (1, _) => high,
                    (_, ..=2) => $add(times::<8>($add(high, more_high)), $add(low, more_low)),
                    _ => $add(times::<8>(high), low),
                };
            }
            sums
        }
    };
}

pub(super) mod avxvnni {
    eight_lanes!("avx2,fma,f16c,avxvnni");
    vnni!("avx2,fma,f16c,avxvnni", _mm256_dpbusd_avx_epi32, _mm256_add_epi32);

    /// Integers of 32 bits times `1 << N`.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
    fn times<const N: i32>(a: Bytes) -> Bytes {
        _mm256_slli_epi32::<N>(a)
    }

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

    kernels!("avx2,fma,f16c,avxvnni", 8, [4, 2, 1]);
}

pub(super) mod avx512 {
    use std::arch::x86_64::*;

    use super::*;

    pub(in crate::kernels::interleaved) mod layout;
    pub(in crate::kernels::interleaved) mod pairs;

    type Bytes = __m512i;
    type Floats = __m512;

    eight_lanes!(@ "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"
        fn zero() -> Bytes { _mm512_setzero_si512() }
        fn splat(byte: i8) -> Bytes { _mm512_set1_epi8(byte) }
        fn splat_float(value: f32) -> Floats { _mm512_set1_ps(value) }
        fn and(a: Bytes, b: Bytes) -> Bytes { _mm512_and_si512(a, b) }
        fn or(a: Bytes, b: Bytes) -> Bytes { _mm512_or_si512(a, b) }
        fn mul(a: Floats, b: Floats) -> Floats { _mm512_mul_ps(a, b) }
        fn add_float(a: Floats, b: Floats) -> Floats { _mm512_add_ps(a, b) }
        fn fma(a: Floats, b: Floats, c: Floats) -> Floats { _mm512_fmadd_ps(a, b, c) }
        fn to_float(a: Bytes) -> Floats { _mm512_cvtepi32_ps(a) }
        fn load(at: *const u8) -> Bytes { _mm512_loadu_si512(at.cast()) }
        fn less(a: Bytes, b: Bytes) -> Bytes { _mm512_sub_epi32(a, b) }
        fn plus(a: Bytes, b: Bytes) -> Bytes { _mm512_add_epi32(a, b) }
        fn four(at: *const i8) -> Bytes { _mm512_set1_epi32(at.cast::<i32>().read_unaligned()) }
        fn broadcast_float(at: *const f32) -> Floats { _mm512_set1_ps(*at) }
        fn load_float(at: *const f32) -> Floats { _mm512_loadu_ps(at) }
        fn halves(at: *const u8) -> Floats { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
        fn unsigned(at: *const u8) -> Floats { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast()))) }
        fn signed(at: *const u8) -> Floats { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at.cast()))) }
        fn store(at: *mut f32, value: Floats) -> () { _mm512_storeu_ps(at, value) }
        fn quant8(w: Bytes) -> Bytes { _mm512_xor_si512(w, _mm512_set1_epi8(-128)) }
    );
    vnni!("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni", _mm512_dpbusd_epi32, _mm512_add_epi32);

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn left<const N: u32>(a: Bytes) -> Bytes {
        _mm512_slli_epi16::<N>(a)
    }

    /// Integers of 32 bits times `1 << N`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn times<const N: u32>(a: Bytes) -> Bytes {
        _mm512_slli_epi32::<N>(a)
    }

    /// Integers of 32 bits over `1 << N`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn part<const N: u32>(a: Bytes) -> Bytes {
        _mm512_srai_epi32::<N>(a)
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

    kernels!("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni", 16, [8, 4, 2, 1]);

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
