//! The inner loop of every dense product here: a tile of at most 6 rows by 16 columns.
//!
//! `out[r][c] = Σ_k a[r·lda + k] · b[k·ldb + c]`, summed in the order of `k` with one rounding per step (fused
//! multiply-add), whatever the number of rows: so a row's result does not depend on its neighbours in the tile.

use super::isa::Isa;

/// Rows of a tile: 6 × 2 accumulators of eight floats, plus two of `b` and one of `a`, fill AVX2's 16 registers.
pub(crate) const ROWS: usize = 6;
/// Columns of a tile.
pub(crate) const COLUMNS: usize = 16;

pub(crate) type Tile = [[f32; COLUMNS]; ROWS];

/// Computes rows `0..rows` of `out`; the others are left as they are.
///
/// # Panics
/// If `rows > 6`, or `a` or `b` is too short for `rows`, `depth` and the strides.
#[inline]
#[allow(clippy::too_many_arguments)]
pub(crate) fn tile(isa: Isa, rows: usize, depth: usize, a: &[f32], lda: usize, b: &[f32], ldb: usize, out: &mut Tile) {
    assert!(rows <= ROWS);
    if rows == 0 || depth == 0 {
        out[..rows].fill([0.0; COLUMNS]);
        return;
    }
    assert!(a.len() >= (rows - 1) * lda + depth, "left operand too short");
    assert!(b.len() >= (depth - 1) * ldb + COLUMNS, "right operand too short");
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Isa::Avx2` is only made where AVX2 and FMA were detected; the lengths were checked above.
        Isa::Avx2 => unsafe {
            match rows {
                1 => avx2::<1>(depth, a, lda, b, ldb, out),
                2 => avx2::<2>(depth, a, lda, b, ldb, out),
                3 => avx2::<3>(depth, a, lda, b, ldb, out),
                4 => avx2::<4>(depth, a, lda, b, ldb, out),
                5 => avx2::<5>(depth, a, lda, b, ldb, out),
                _ => avx2::<6>(depth, a, lda, b, ldb, out),
            }
        },
        _ => portable(rows, depth, a, lda, b, ldb, out),
    }
}

/// The plain version. Rounds twice per step: `f32::mul_add` without hardware support is a library call.
fn portable(rows: usize, depth: usize, a: &[f32], lda: usize, b: &[f32], ldb: usize, out: &mut Tile) {
    for (r, out) in out.iter_mut().enumerate().take(rows) {
        let mut sum = [0.0f32; COLUMNS];
        for k in 0..depth {
            let (x, b) = (a[r * lda + k], &b[k * ldb..k * ldb + COLUMNS]);
            for (sum, b) in sum.iter_mut().zip(b) {
                *sum += x * b;
            }
        }
        *out = sum;
    }
}

/// # Safety
/// AVX2 and FMA must be there, and `a`, `b` long enough (see [`tile`]).
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const R: usize>(depth: usize, a: &[f32], lda: usize, b: &[f32], ldb: usize, out: &mut Tile) {
    use std::arch::x86_64::*;
    let (a, mut b) = (a.as_ptr(), b.as_ptr());
    let mut sum = [[_mm256_setzero_ps(); 2]; R];
    for k in 0..depth {
        // SAFETY: `k < depth`, so every address is inside what `tile` checked; the last step of `b` may point past
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
    for (sum, out) in sum.iter().zip(out) {
        // SAFETY: a row of `out` holds 16 floats.
        unsafe {
            _mm256_storeu_ps(out.as_mut_ptr(), sum[0]);
            _mm256_storeu_ps(out.as_mut_ptr().add(8), sum[1]);
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
