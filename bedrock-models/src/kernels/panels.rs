//! Weights in `f32`, in the order in which tiles read them.

use super::slab::Lines;
use super::tile::COLUMNS;

/// 16 rows' weights of one column: a line of the cache, so that no load of a tile crosses two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [f32; COLUMNS]);

/// The floats of lines, one line after another.
pub(crate) fn floats(lines: &[Line]) -> &[f32] {
    // SAFETY: a line is 16 floats without padding, and aligned more strictly than they are.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * COLUMNS) }
}

/// [`floats`], for writing.
pub(crate) fn floats_mut(lines: &mut [Line]) -> &mut [f32] {
    // SAFETY: as in `floats`.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * COLUMNS) }
}

/// Lines of floats.
///
/// # Panics
/// If they are not on lines of a cache, or not whole ones.
pub(crate) fn lines(floats: &[f32]) -> &[Line] {
    assert!(floats.as_ptr().cast::<Line>().is_aligned() && floats.len().is_multiple_of(COLUMNS));
    // SAFETY: aligned, as was checked; a line is 16 floats without padding.
    unsafe { std::slice::from_raw_parts(floats.as_ptr().cast(), floats.len() / COLUMNS) }
}

/// [`lines`], for writing.
pub(crate) fn lines_mut(floats: &mut [f32]) -> &mut [Line] {
    assert!(floats.as_ptr().cast::<Line>().is_aligned() && floats.len().is_multiple_of(COLUMNS));
    // SAFETY: as in `lines`.
    unsafe { std::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), floats.len() / COLUMNS) }
}

/// The bytes of lines that hold anything else.
pub(crate) fn bytes(lines: &[Line]) -> &[u8] {
    // SAFETY: as in `floats`; every byte of a line is initialised.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), size_of_val(lines)) }
}

/// [`bytes`], for writing.
pub(crate) fn bytes_mut(lines: &mut [Line]) -> &mut [u8] {
    // SAFETY: as in `bytes`; every bit pattern is a float.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), size_of_val(lines)) }
}

/// `[panel][column]` lines of 16 rows each; rows past the end are zeros. As large as the weights themselves.
pub(crate) struct Panels {
    lines: Lines,
    columns: usize,
}

impl Panels {
    /// `decode(first, out)` writes rows `first..first + 16` in this order.
    pub(crate) fn new(rows: usize, columns: usize, mut decode: impl FnMut(usize, &mut [f32])) -> Self {
        let mut lines = Lines::zeros(rows.div_ceil(COLUMNS) * columns);
        for (panel, lines) in lines.chunks_exact_mut(columns).enumerate() {
            decode(panel * COLUMNS, floats_mut(lines));
        }
        Self { lines, columns }
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.lines)
    }

    /// Rows `first..first + 16` from column `start` on, `first` a multiple of 16.
    pub(crate) fn part(&self, first: usize, start: usize) -> &[f32] {
        let from = first / COLUMNS * self.columns;
        floats(&self.lines[from + start..from + self.columns])
    }

    /// One row.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) {
        let lines = &self.lines[row / COLUMNS * self.columns..];
        out.iter_mut().zip(lines).for_each(|(out, line)| *out = line.0[row % COLUMNS]);
    }
}
