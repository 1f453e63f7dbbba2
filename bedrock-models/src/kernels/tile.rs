//! The inner loop of every dense product here: a tile of at most 6 rows by 16 columns.
//!
//! `out[r][c] = start[r][c] + Σ_k a[r·lda + k] · b[k·ldb + c]`, summed in the order of `k` with one rounding per step (fused
//! multiply-add), whatever the number of rows: so a row's result does not depend on its neighbours in the tile.

use half::f16;

use super::isa::Isa;

/// Rows of a tile: 6 × 2 accumulators of eight floats, plus two of `b` and one of `a`, fill AVX2's 16 registers.
pub(crate) const ROWS: usize = 6;
/// Columns of a tile.
pub(crate) const COLUMNS: usize = 16;

pub(crate) type Tile = [[f32; COLUMNS]; ROWS];

/// What a tile adds to.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    /// The same for each row: zeros, or a bias.
    Row(&'a [f32; COLUMNS]),
    /// What `out` holds.
    Out,
}

/// A tile from zero: rows `0..rows` of `out`; the others are left as they are.
///
/// # Panics
/// If `rows > 6`, or `a` or `b` is too short for `rows`, `depth` and the strides.
#[inline]
#[allow(clippy::too_many_arguments)]
pub(crate) fn tile(isa: Isa, rows: usize, depth: usize, a: &[f32], lda: usize, b: &[f32], ldb: usize, out: &mut Tile) {
    // SAFETY: a `Tile` holds 6 rows of 16 floats, initialised.
    unsafe { tile_at(isa, rows, depth, a, lda, b, ldb, Start::Row(&[0.0; COLUMNS]), out.as_mut_ptr().cast(), COLUMNS) }
}

/// A tile in place: row `r` is the 16 floats from `out + r · ldo`.
///
/// # Safety
/// Those floats of rows `0..rows` must be valid for writing by this thread alone, and initialised if `start` is [`Start::Out`].
///
/// # Panics
/// If `rows > 6`, or `a` or `b` is too short for `rows`, `depth` and the strides.
#[inline]
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn tile_at(
    isa: Isa,
    rows: usize,
    depth: usize,
    a: &[f32],
    lda: usize,
    b: &[f32],
    ldb: usize,
    start: Start<'_>,
    out: *mut f32,
    ldo: usize,
) {
    assert!(rows <= ROWS);
    if rows == 0 {
        return;
    }
    if depth > 0 {
        assert!(a.len() >= (rows - 1) * lda + depth, "left operand too short");
        assert!(b.len() >= (depth - 1) * ldb + COLUMNS, "right operand too short");
    }
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: such an `Isa` is only made where AVX2 and FMA were detected; the lengths were checked above, `out` by the contract.
        _ if isa.avx2() => unsafe {
            match rows {
                1 => avx2::<1>(depth, a, lda, b, ldb, start, out, ldo),
                2 => avx2::<2>(depth, a, lda, b, ldb, start, out, ldo),
                3 => avx2::<3>(depth, a, lda, b, ldb, start, out, ldo),
                4 => avx2::<4>(depth, a, lda, b, ldb, start, out, ldo),
                5 => avx2::<5>(depth, a, lda, b, ldb, start, out, ldo),
                _ => avx2::<6>(depth, a, lda, b, ldb, start, out, ldo),
            }
        },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: such an `Isa` is only made where NEON was detected; the rest as above.
        Isa::Neon => unsafe {
            match rows {
                1 => neon::<1>(depth, a, lda, b, ldb, start, out, ldo),
                2 => neon::<2>(depth, a, lda, b, ldb, start, out, ldo),
                3 => neon::<3>(depth, a, lda, b, ldb, start, out, ldo),
                4 => neon::<4>(depth, a, lda, b, ldb, start, out, ldo),
                5 => neon::<5>(depth, a, lda, b, ldb, start, out, ldo),
                _ => neon::<6>(depth, a, lda, b, ldb, start, out, ldo),
            }
        },
        // SAFETY: by the contract.
        _ => unsafe { portable(rows, depth, a, lda, b, ldb, start, out, ldo) },
    }
}

/// Columns of a wide tile: with AVX-512, 6 × 4 accumulators of 16 floats hide the latency of the sums that 6 × 1 would wait for.
pub(crate) const WIDE: usize = 4 * COLUMNS;

/// Whether [`wide_at`] may be called.
#[inline]
pub(crate) const fn has_wide(isa: Isa) -> bool {
    matches!(isa, Isa::Avx512)
}

/// What the right operand of a wide tile may be made of; its numbers are multiplied as the floats that they are.
pub(crate) trait Number: Copy {
    /// 16 of them.
    ///
    /// # Safety
    /// AVX-512 F must be there, and so the numbers.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load(at: *const Self) -> std::arch::x86_64::__m512;
}

/// [`Number::load`] as an instruction or two.
macro_rules! numbers {
    ($($type:ty: $at:ident => $load:expr;)*) => {
        $(
            impl Number for $type {
                #[cfg(target_arch = "x86_64")]
                #[inline]
                #[target_feature(enable = "avx512f")]
                unsafe fn load($at: *const Self) -> std::arch::x86_64::__m512 {
                    use std::arch::x86_64::*;
                    // SAFETY: by the contract.
                    unsafe { $load }
                }
            }
        )*
    };
}

numbers! {
    f32: at => _mm512_loadu_ps(at);
    f16: at => _mm512_cvtph_ps(_mm256_loadu_si256(at.cast()));
    i8: at => _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at.cast())));
}

/// Four tiles side by side, in place: row `r` is the 64 floats from `out + r · ldo`, and columns `16 j..16 j + 16` meet `b[j]`. Each value is
/// the one that [`tile_at`] computes, bit for bit.
///
/// `start` is what each row adds to, or `None` for what `out` holds.
///
/// # Safety
/// Those floats of rows `0..rows` must be valid for writing by this thread alone, and initialised if `start` is `None`.
///
/// # Panics
/// If there is no [`has_wide`], `rows > 6`, or `a` or `b` is too short for `rows`, `depth` and the strides.
#[inline]
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn wide_at<T: Number>(
    isa: Isa,
    rows: usize,
    depth: usize,
    a: &[f32],
    lda: usize,
    b: [&[T]; 4],
    ldb: usize,
    start: Option<&[f32; WIDE]>,
    out: *mut f32,
    ldo: usize,
) {
    assert!(has_wide(isa) && (1..=ROWS).contains(&rows));
    if depth > 0 {
        assert!(a.len() >= (rows - 1) * lda + depth, "left operand too short");
        assert!(b.iter().all(|b| b.len() >= (depth - 1) * ldb + COLUMNS), "right operand too short");
    }
    #[cfg(target_arch = "x86_64")]
    // SAFETY: `Isa::Avx512` is only made where it was detected; the lengths were checked above, `out` by the contract.
    unsafe {
        let b = b.map(<[T]>::as_ptr);
        match ldb {
            COLUMNS => wide_rows::<T, COLUMNS>(rows, depth, a, lda, b, ldb, start, out, ldo),
            WIDE => wide_rows::<T, WIDE>(rows, depth, a, lda, b, ldb, start, out, ldo),
            TWICE => wide_rows::<T, TWICE>(rows, depth, a, lda, b, ldb, start, out, ldo),
            _ => wide_rows::<T, 0>(rows, depth, a, lda, b, ldb, start, out, ldo),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!("there are no wide tiles: {start:?} {out:?} {ldo}");
}

/// The distance of rows where heads have 128 features.
#[cfg(target_arch = "x86_64")]
const TWICE: usize = 2 * WIDE;

/// # Safety
/// As [`avx512`].
#[cfg(target_arch = "x86_64")]
#[inline]
#[allow(clippy::too_many_arguments)]
unsafe fn wide_rows<T: Number, const LDB: usize>(
    rows: usize,
    depth: usize,
    a: &[f32],
    lda: usize,
    b: [*const T; 4],
    ldb: usize,
    start: Option<&[f32; WIDE]>,
    out: *mut f32,
    ldo: usize,
) {
    // SAFETY: by the contract.
    unsafe {
        match rows {
            1 => avx512::<T, 1, LDB>(depth, a, lda, b, ldb, start, out, ldo),
            2 => avx512::<T, 2, LDB>(depth, a, lda, b, ldb, start, out, ldo),
            3 => avx512::<T, 3, LDB>(depth, a, lda, b, ldb, start, out, ldo),
            4 => avx512::<T, 4, LDB>(depth, a, lda, b, ldb, start, out, ldo),
            5 => avx512::<T, 5, LDB>(depth, a, lda, b, ldb, start, out, ldo),
            _ => avx512::<T, 6, LDB>(depth, a, lda, b, ldb, start, out, ldo),
        }
    }
}

/// `LDB` is `ldb` as a constant, or 0.
///
/// # Safety
/// AVX-512 F must be there, `a` and `b` long enough, and `out` as [`wide_at`] says.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[allow(clippy::too_many_arguments)]
unsafe fn avx512<T: Number, const R: usize, const LDB: usize>(
    depth: usize,
    a: &[f32],
    lda: usize,
    b: [*const T; 4],
    ldb: usize,
    start: Option<&[f32; WIDE]>,
    out: *mut f32,
    ldo: usize,
) {
    use std::arch::x86_64::*;
    let (mut a, mut b) = (a.as_ptr(), b);
    let ldb = if LDB == 0 { ldb } else { LDB };
    let mut sum = [[_mm512_setzero_ps(); 4]; R];
    // As in `avx2`.
    for r in 0..R {
        for j in 0..4 {
            _mm_prefetch::<_MM_HINT_T0>(out.wrapping_add(r * ldo + 16 * j).cast());
        }
    }
    macro_rules! advance {
        ($steps:literal) => {
            [
                b[0].wrapping_add($steps * ldb),
                b[1].wrapping_add($steps * ldb),
                b[2].wrapping_add($steps * ldb),
                b[3].wrapping_add($steps * ldb),
            ]
        };
    }
    macro_rules! step {
        ($k:literal) => {
            let b = [
                T::load(b[0].add($k * ldb)),
                T::load(b[1].add($k * ldb)),
                T::load(b[2].add($k * ldb)),
                T::load(b[3].add($k * ldb)),
            ];
            for (r, sum) in sum.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*a.add(r * lda + $k));
                for (sum, b) in sum.iter_mut().zip(b) {
                    *sum = _mm512_fmadd_ps(x, b, *sum);
                }
            }
        };
    }
    // Four steps a turn: what counts and computes addresses takes turns with the products on the same ports of the processor. With an unknown
    // distance the compiler would rather run out of registers.
    let fours = if LDB == 0 { 0 } else { depth / 4 };
    for _ in 0..fours {
        // SAFETY: four steps are left, so every address is inside what `wide_at` checked.
        unsafe {
            step!(0);
            step!(1);
            step!(2);
            step!(3);
        }
        a = a.wrapping_add(4);
        // No `map`: where it is not inlined, all sums go through memory for the call.
        b = advance!(4);
    }
    for _ in 4 * fours..depth {
        // SAFETY: as above, for one step.
        unsafe {
            step!(0);
        }
        a = a.wrapping_add(1);
        b = advance!(1);
    }
    for (r, sum) in sum.iter().enumerate() {
        // SAFETY: a row of `out` and `start` hold 64 floats, by the contract.
        unsafe {
            let out = out.add(r * ldo);
            let from = start.map_or(out.cast_const(), |start| start.as_ptr());
            for (j, sum) in sum.iter().enumerate() {
                _mm512_storeu_ps(out.add(16 * j), _mm512_add_ps(_mm512_loadu_ps(from.add(16 * j)), *sum));
            }
        }
    }
}

/// The plain version. Rounds twice per step: `f32::mul_add` without hardware support is a library call.
///
/// # Safety
/// As [`tile_at`] on `out`.
#[allow(clippy::too_many_arguments)]
unsafe fn portable(
    rows: usize,
    depth: usize,
    a: &[f32],
    lda: usize,
    b: &[f32],
    ldb: usize,
    start: Start<'_>,
    out: *mut f32,
    ldo: usize,
) {
    for r in 0..rows {
        // SAFETY: by the contract.
        let out = unsafe { out.add(r * ldo) }.cast::<[f32; COLUMNS]>();
        let mut sum = match start {
            Start::Row(row) => *row,
            // SAFETY: by the contract, initialised; aligned as floats are.
            Start::Out => unsafe { out.read() },
        };
        for k in 0..depth {
            let (x, b) = (a[r * lda + k], &b[k * ldb..k * ldb + COLUMNS]);
            for (sum, b) in sum.iter_mut().zip(b) {
                *sum += x * b;
            }
        }
        // SAFETY: by the contract.
        unsafe { out.write(sum) };
    }
}

/// # Safety
/// AVX2 and FMA must be there, `a` and `b` long enough, and `out` as [`tile_at`] says.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[allow(clippy::too_many_arguments)]
unsafe fn avx2<const R: usize>(
    depth: usize,
    a: &[f32],
    lda: usize,
    b: &[f32],
    ldb: usize,
    start: Start<'_>,
    out: *mut f32,
    ldo: usize,
) {
    use std::arch::x86_64::*;
    let (a, mut b) = (a.as_ptr(), b.as_ptr());
    let mut sum = [[_mm256_setzero_ps(); 2]; R];
    // Asked for now, needed after the loop: a tile of a large result is in no near cache.
    for r in 0..R {
        _mm_prefetch::<_MM_HINT_T0>(out.wrapping_add(r * ldo).cast());
    }
    for k in 0..depth {
        // SAFETY: `k < depth`, so every address is inside what `tile_at` checked; the last step of `b` may point past
        // the end but is not read.
        unsafe {
            let (b0, b1) = (_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8)));
            for (r, sum) in sum.iter_mut().enumerate() {
                let x = _mm256_broadcast_ss(&*a.add(r * lda + k));
                sum[0] = _mm256_fmadd_ps(x, b0, sum[0]);
                sum[1] = _mm256_fmadd_ps(x, b1, sum[1]);
            }
            b = b.wrapping_add(ldb);
        }
    }
    for (r, sum) in sum.iter().enumerate() {
        // SAFETY: a row of `out` holds 16 floats, by the contract.
        unsafe {
            let out = out.add(r * ldo);
            let from = match start {
                Start::Row(row) => row.as_ptr(),
                Start::Out => out.cast_const(),
            };
            _mm256_storeu_ps(out, _mm256_add_ps(_mm256_loadu_ps(from), sum[0]));
            _mm256_storeu_ps(out.add(8), _mm256_add_ps(_mm256_loadu_ps(from.add(8)), sum[1]));
        }
    }
}

/// 6 × 4 accumulators of four floats, with four of `b` and what is left for `a`, fill the 32 registers.
///
/// # Safety
/// NEON must be there, `a` and `b` long enough, and `out` as [`tile_at`] says.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
#[allow(clippy::too_many_arguments)]
unsafe fn neon<const R: usize>(
    depth: usize,
    a: &[f32],
    lda: usize,
    b: &[f32],
    ldb: usize,
    start: Start<'_>,
    out: *mut f32,
    ldo: usize,
) {
    use std::arch::aarch64::*;
    let (a, mut b) = (a.as_ptr(), b.as_ptr());
    let mut sum = [[vdupq_n_f32(0.0); 4]; R];
    for k in 0..depth {
        // SAFETY: `k < depth`, so every address is inside what `tile_at` checked; the last step of `b` may point past
        // the end but is not read.
        unsafe {
            let columns = [vld1q_f32(b), vld1q_f32(b.add(4)), vld1q_f32(b.add(8)), vld1q_f32(b.add(12))];
            for (r, sum) in sum.iter_mut().enumerate() {
                let x = *a.add(r * lda + k);
                for (sum, b) in sum.iter_mut().zip(columns) {
                    *sum = vfmaq_n_f32(*sum, b, x);
                }
            }
        }
        b = b.wrapping_add(ldb);
    }
    for (r, sum) in sum.iter().enumerate() {
        // SAFETY: a row of `out` holds 16 floats, by the contract.
        unsafe {
            let out = out.add(r * ldo);
            let from = match start {
                Start::Row(row) => row.as_ptr(),
                Start::Out => out.cast_const(),
            };
            for (j, sum) in sum.iter().enumerate() {
                vst1q_f32(out.add(4 * j), vaddq_f32(vld1q_f32(from.add(4 * j)), *sum));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::isa::isa;
    use super::*;

    #[test]
    fn fast_equals_plain_for_every_row_count() {
        let a: Vec<f32> = (0..6 * 50).map(|i| ((i * 37 % 101) as f32 - 50.0) / 17.0).collect();
        let b: Vec<f32> = (0..40 * 20).map(|i| ((i * 53 % 97) as f32 - 48.0) / 13.0).collect();
        for depth in [0, 1, 2, 7, 40] {
            for rows in 0..=ROWS {
                let (mut fast, mut plain) = ([[9.0; COLUMNS]; ROWS], [[9.0; COLUMNS]; ROWS]);
                tile(isa(), rows, depth, &a, 50, &b, 20, &mut fast);
                tile(Isa::Portable, rows, depth, &a, 50, &b, 20, &mut plain);
                for (fast, plain) in fast.as_flattened().iter().zip(plain.as_flattened()) {
                    assert!((fast - plain).abs() <= 1e-4 * plain.abs().max(1.0), "{fast} {plain}");
                }
            }
        }
    }

    #[test]
    fn starts_from_a_row_or_from_what_is_there() {
        let a: Vec<f32> = (0..6 * 8).map(|i| (i as f32).sin()).collect();
        let b: Vec<f32> = (0..8 * 16).map(|i| (i as f32).cos()).collect();
        let bias: [f32; COLUMNS] = std::array::from_fn(|i| i as f32);
        for isa in [isa(), Isa::Portable] {
            let mut plain = [[0.0; COLUMNS]; ROWS];
            tile(isa, 4, 8, &a, 8, &b, 16, &mut plain);
            // Rows of 20 floats, of which the tile has the first 16.
            let mut out = vec![7.0; 6 * 20];
            // SAFETY: four rows of 20 floats.
            unsafe {
                tile_at(isa, 4, 8, &a, 8, &b, 16, Start::Row(&bias), out.as_mut_ptr(), 20);
                tile_at(isa, 4, 8, &a, 8, &b, 16, Start::Out, out.as_mut_ptr(), 20);
            }
            for r in 0..4 {
                for c in 0..COLUMNS {
                    assert!((out[r * 20 + c] - (2.0 * plain[r][c] + bias[c])).abs() < 1e-4);
                }
                assert_eq!(out[r * 20 + 16..][..4], [7.0; 4]);
            }
            assert_eq!(out[80..], [7.0; 40]);
        }
    }

    #[test]
    fn wide_equals_narrow() {
        if !has_wide(isa()) {
            return; // There is no wide tile here that could be wrong.
        }
        let a: Vec<f32> = (0..6 * 50).map(|i| ((i * 37 % 101) as f32 - 50.0) / 17.0).collect();
        let b: Vec<f32> = (0..40 * 70).map(|i| ((i * 53 % 97) as f32 - 48.0) / 13.0).collect();
        let start: [f32; WIDE] = std::array::from_fn(|i| i as f32 / 7.0);
        for (depth, rows) in [0, 1, 7, 40].into_iter().flat_map(|depth| (1..=ROWS).map(move |rows| (depth, rows))) {
            let (mut wide, mut narrow) = (vec![3.0; ROWS * 80], vec![3.0; ROWS * 80]);
            let parts = [&b[..], &b[16..], &b[32..], &b[48..]];
            // SAFETY: six rows of 80 floats.
            unsafe {
                wide_at(isa(), rows, depth, &a, 50, parts, 70, Some(&start), wide.as_mut_ptr(), 80);
                wide_at(isa(), rows, depth, &a, 50, parts, 70, None, wide.as_mut_ptr(), 80);
                for (j, b) in parts.into_iter().enumerate() {
                    let (start, out) = (start[16 * j..][..16].try_into().unwrap(), narrow.as_mut_ptr().add(16 * j));
                    tile_at(isa(), rows, depth, &a, 50, b, 70, Start::Row(&start), out, 80);
                    tile_at(isa(), rows, depth, &a, 50, b, 70, Start::Out, out, 80);
                }
            }
            assert_eq!(wide, narrow);
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours() {
        let a: Vec<f32> = (0..6 * 33).map(|i| (i as f32).sin()).collect();
        let b: Vec<f32> = (0..33 * 16).map(|i| (i as f32).cos()).collect();
        let mut all = [[0.0; COLUMNS]; ROWS];
        tile(isa(), 6, 33, &a, 33, &b, 16, &mut all);
        for r in 0..6 {
            let mut one = [[0.0; COLUMNS]; ROWS];
            tile(isa(), 1, 33, &a[r * 33..], 33, &b, 16, &mut one);
            assert_eq!(one[0], all[r]);
        }
    }
}
