//! Activations in groups of 64, bytes of one scale.

use std::arch::x86_64::*;
use std::sync::{Mutex, PoisonError};

use super::GROUP;
use crate::kernels::isa::Isa;
use crate::kernels::panels::Line;
use crate::kernels::pool::Pool;
use crate::kernels::prefetch::lines_near;
use crate::kernels::scratch::Room;

/// Activations a block: half a group.
const BLOCK: usize = GROUP / 2;

/// The most that the second block of a group is finer than the first.
const FINEST: i32 = 7;

/// 64 activations: `x[i] ≈ scale · 2^shift · q[i]` of the first half and `scale · q[i]` of the second, which is finer where its values are less than half as large: a value far
/// larger than the others costs its own half their bits, not both. `q` in -127..=127.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(16))]
pub(super) struct Group {
    pub(super) q: [i8; GROUP],
    pub(super) scale: f32,
    pub(super) shift: i32,
    /// -128 times the sums of the integers, of the first half and the `2^shift`-th part of that of the second: what takes back that 128 is added to weights.
    pub(super) raise: i32,
}

/// Rows of activations, quantised group by group.
pub(super) struct GroupedRows<'a> {
    groups: usize,
    rows: usize,
    /// `[row][group]`
    room: Room<'a>,
}

/// Groups below which the calling thread quantises alone.
const ALONE: usize = 128;

/// Values ahead of what is quantised that are asked for: two pages.
const AHEAD: usize = 2048;

/// Groups that are quantised together: their 16 blocks are a register of largest sizes, and one of sums.
const TOGETHER: usize = 8;

impl<'a> GroupedRows<'a> {
    /// Quantises rows of `columns` values, a multiple of 32. Values that are not finite make their group's scale not finite, so that they reach the result.
    ///
    /// # Panics
    /// If `x` is not whole rows, or there are no grouped products.
    pub(super) fn new(pool: &'a Pool, isa: Isa, x: &[f32], columns: usize) -> Self {
        assert!(columns > 0 && columns.is_multiple_of(BLOCK) && x.len().is_multiple_of(columns) && super::is_here(isa));
        let (groups, rows) = (columns.div_ceil(GROUP), x.len() / columns);
        let mut room = pool.scratch.lines((rows * groups * size_of::<Group>()).div_ceil(size_of::<Line>()));
        // SAFETY: a line is aligned more strictly than a group, the room has as many bytes, and any bytes that were written once are groups.
        let all = unsafe { std::slice::from_raw_parts_mut(room.as_mut_ptr().cast::<Group>(), rows * groups) };
        let quantize = |x: &[f32], to: &mut [Group]| {
            // Rows of whole groups are one long row.
            let run = if columns.is_multiple_of(GROUP) { x.len() } else { columns };
            for (x, to) in x.chunks_exact(run).zip(to.chunks_exact_mut(run.div_ceil(GROUP))) {
                // SAFETY: AVX-512 was detected where its `Isa` was made.
                unsafe { quantize(x, to) };
            }
        };
        if all.len() < ALONE {
            quantize(x, all);
        } else {
            let some = rows.div_ceil(4 * pool.threads());
            // Each lock is taken once, by the thread that has the part.
            let parts: Vec<_> = all.chunks_mut(some * groups).map(Mutex::new).collect();
            pool.run(parts.len(), &|part| {
                let mut to = parts[part].lock().unwrap_or_else(PoisonError::into_inner);
                quantize(&x[part * some * columns..][..to.len() / groups * columns], &mut to);
            });
        }
        Self { groups, rows, room }
    }

    /// Groups of a row.
    pub(super) fn groups(&self) -> usize {
        self.groups
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Where a group of a row lies: after it the others, and those of the next rows.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn at(&self, row: usize, group: usize) -> *const Group {
        assert!(row < self.rows && group < self.groups);
        self.room.as_ptr().cast::<Group>().wrapping_add(row * self.groups + group)
    }

    #[cfg(test)]
    pub(super) fn row(&self, row: usize) -> &[Group] {
        // SAFETY: a row has so many groups, which were written.
        unsafe { std::slice::from_raw_parts(self.at(row, 0), self.groups) }
    }
}

/// Joins the lanes of each of sixteen registers into one lane of a register, in their order: by halves, of two registers at a time.
macro_rules! joined {
    ($all:ident, $join:ident) => {{
        let mut all = $all;
        for i in 0..8 {
            let (a, b) = (all[2 * i], all[2 * i + 1]);
            all[i] = $join(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        }
        for i in 0..4 {
            let (a, b) = (all[2 * i], all[2 * i + 1]);
            all[i] = $join(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
        }
        for i in 0..2 {
            let (a, b) = (all[2 * i], all[2 * i + 1]);
            all[i] = $join(_mm512_shuffle_i32x4::<0b10_00_10_00>(a, b), _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b));
        }
        let (a, b) = (all[0], all[1]);
        $join(_mm512_shuffle_i32x4::<0b10_00_10_00>(a, b), _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b))
    }};
}

/// Quantises groups, of which the last may have one block.
///
/// # Safety
/// AVX-512 F, BW, DQ and VL must be there.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn quantize(x: &[f32], to: &mut [Group]) {
    let ((x, x_rest), (to, rest)) = (x.as_chunks(), to.as_chunks_mut());
    for (x, to) in x.iter().zip(to) {
        lines_near(x.as_ptr().wrapping_add(AHEAD).cast(), size_of_val(x));
        together(x, to);
    }
    if !rest.is_empty() {
        let (mut x, mut to) =
            ([0.0; TOGETHER * GROUP], [Group { q: [0; GROUP], scale: 0.0, shift: 0, raise: 0 }; TOGETHER]);
        x[..x_rest.len()].copy_from_slice(x_rest);
        together(&x, &mut to);
        rest.copy_from_slice(&to[..rest.len()]);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn together(x: &[f32; TOGETHER * GROUP], to: &mut [Group; TOGETHER]) {
    let halves = x.as_chunks::<16>().0;
    let zero = _mm512_setzero_si512();
    // SAFETY: 16 floats.
    let half = |at: usize| unsafe { _mm512_loadu_ps(halves[at].as_ptr()) };
    let mut sizes = [zero; 2 * TOGETHER];
    for (block, size) in sizes.iter_mut().enumerate() {
        // The bits of sizes are in their order, and those of numbers that are none, or not finite, above the others.
        let bits = [half(2 * block), half(2 * block + 1)].map(|x| _mm512_castps_si512(_mm512_abs_ps(x)));
        *size = _mm512_max_epi32(bits[0], bits[1]);
    }
    let size = joined!(sizes, _mm512_max_epi32);
    let largest = _mm512_max_epi32(size, _mm512_shuffle_epi32::<0b10_11_00_01>(size));
    // As many powers of two as lie between; none for a first block, or where the second is the larger.
    let shift = _mm512_srli_epi32::<23>(_mm512_sub_epi32(largest, size));
    let shift = _mm512_maskz_min_epi32(0xaaaa, shift, _mm512_set1_epi32(FINEST));
    let exponent =
        |power| _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(power, _mm512_set1_epi32(127))));
    let (top, finite) = (
        _mm512_castsi512_ps(largest),
        _mm512_cmplt_epi32_mask(largest, _mm512_set1_epi32(f32::INFINITY.to_bits().cast_signed())),
    );
    let scale = _mm512_div_ps(top, _mm512_set1_ps(127.0));
    let scale = _mm512_mul_ps(scale, exponent(_mm512_sub_epi32(zero, shift)));
    let scale = _mm512_mask_blend_ps(finite, _mm512_set1_ps(f32::NAN), scale);
    // Of a group of nothing, or so little that this would not be finite, all integers are zero.
    let some = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(top, _mm512_set1_ps(1e-30));
    let inverse = _mm512_maskz_div_ps(some, _mm512_set1_ps(127.0), top);
    let inverse = floats(_mm512_mul_ps(inverse, exponent(shift)));
    let mut sums = [zero; 2 * TOGETHER];
    for (block, sum) in sums.iter_mut().enumerate() {
        let inverse = _mm512_set1_ps(inverse[block]);
        // To the nearest, ties to even.
        let q = [half(2 * block), half(2 * block + 1)].map(|x| _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse)));
        *sum = _mm512_madd_epi16(_mm512_packs_epi32(q[0], q[1]), _mm512_set1_epi16(1));
        let bytes = &mut to[block / 2].q.as_chunks_mut::<16>().0[block % 2 * 2..];
        for (q, bytes) in q.into_iter().zip(bytes) {
            // SAFETY: 16 bytes.
            unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(q)) };
        }
    }
    let sum = joined!(sums, _mm512_add_epi32);
    // Times 128 over the power of two, which divides it.
    let part = _mm512_sllv_epi32(sum, _mm512_sub_epi32(_mm512_set1_epi32(FINEST), shift));
    let raise = _mm512_sub_epi32(zero, _mm512_add_epi32(part, _mm512_shuffle_epi32::<0b10_11_00_01>(part)));
    let (scale, shift, raise) = (floats(scale), integers(shift), integers(raise));
    for (group, to) in to.iter_mut().enumerate() {
        let second = 2 * group + 1;
        (to.scale, to.shift, to.raise) = (scale[second], shift[second], raise[second]);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn floats(value: __m512) -> [f32; 16] {
    let mut out = [0.0; 16];
    // SAFETY: 16 floats.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), value) };
    out
}

#[inline]
#[target_feature(enable = "avx512f")]
fn integers(value: __m512i) -> [i32; 16] {
    let mut out = [0; 16];
    // SAFETY: 16 integers.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), value) };
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::isa::isa;

    /// A group, by the definition.
    fn plain(x: &[f32]) -> Group {
        let (first, second) = x.split_at(BLOCK.min(x.len()));
        let size = |x: &[f32]| x.iter().fold(0.0f32, |a, b| a.max(b.abs()));
        let largest = size(first).max(size(second));
        let finer = |shift: &i32| largest >= size(second) * 2f32.powi(*shift) && size(first) > size(second);
        let shift = (0..=FINEST).rev().find(finer).unwrap_or(0);
        let inverse = if largest >= 1e-30 { 127.0 / largest } else { 0.0 };
        let integers = |x: &[f32], inverse: f32| -> Vec<i32> {
            x.iter().map(|x| (x * inverse).round_ties_even() as i32).collect()
        };
        let (first, second) = (integers(first, inverse), integers(second, inverse * 2f32.powi(shift)));
        let mut q = [0; GROUP];
        q.iter_mut().zip(first.iter().chain(&second)).for_each(|(q, integer)| *q = *integer as i8);
        let raise = -128 * first.iter().sum::<i32>() - (128 >> shift) * second.iter().sum::<i32>();
        let scale = largest / 127.0 * 2f32.powi(-shift);
        Group { q, scale: if largest.is_finite() { scale } else { f32::NAN }, shift, raise }
    }

    #[test]
    fn groups_are_those_of_the_definition() {
        if !super::super::is_here(isa()) {
            return; // Nothing makes groups here.
        }
        // Sizes that differ by more than what a block can be finer than another, either way, by powers of two and by nothing; zeros; halves of a step.
        let value = |i: usize| {
            let size = [1.0, 1e-3, 0.25, 8.0, 1.0, 0.0, 300.0, 1e-33][i / BLOCK % 8];
            size * if i.is_multiple_of(BLOCK) { 1.0 } else { ((i * 7919 % 1009) as f32 - 504.0) / 508.0 }
        };
        for columns in [32, 64, 96, 512, 544, 608, 1120] {
            for (rows, threads) in [(1, 1), (40, 3)] {
                let mut x: Vec<f32> = (0..rows * columns).map(value).collect();
                let pool = Pool::new(threads);
                let groups = GroupedRows::new(&pool, isa(), &x, columns);
                for (row, x) in x.chunks_exact(columns).enumerate() {
                    for (group, x) in groups.row(row).iter().zip(x.chunks(GROUP)) {
                        assert_eq!(*group, plain(x), "{columns} {row}");
                        for (at, (q, x)) in group.q.iter().zip(x).enumerate() {
                            let step = group.scale * if at < BLOCK { 2f32.powi(group.shift) } else { 1.0 };
                            assert!((f32::from(*q) * step - x).abs() <= 0.5001 * step + 1e-30);
                        }
                    }
                }
                drop(groups);
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    x[rows * columns - 1] = bad;
                    let groups = GroupedRows::new(&pool, isa(), &x, columns);
                    let last = groups.row(rows - 1);
                    assert!(last[last.len() - 1].scale.is_nan());
                    assert!(last[..last.len() - 1].iter().all(|group| group.scale.is_finite()));
                }
            }
        }
    }
}
