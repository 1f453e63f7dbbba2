//! A weight matrix as it is stored: float or block-quantised, mapped from the file or interleaved, never expanded.

use std::ops::Range;
use std::str::FromStr;

use bytes::Bytes;

use super::amx;
use super::interleaved::Interleaved;
use super::isa::{Isa, isa};
use super::map::release;
use super::panels::Panels;
use super::plain::{self, widen};
use super::precision::Precision;
use super::tile::COLUMNS;
use crate::error::Error;
use crate::weights::{Dtype, StoredTensor, block};

/// How activations meet quantised weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activations {
    /// Quantised per block of 32, on the fly, where the weights have an integer kernel: while generating, and in prompts where integers are as exact as what the processor has
    /// for `f32`. To 16 bits on processors that sum products of bytes in one instruction (AVX-VNNI, AVX-512 VNNI, NEON). To 8 bits on others, where logits differ
    /// from [`Activations::Float`] by about 1% of their range, as in llama.cpp.
    #[default]
    Quantized,
    /// Quantised to 8 bits per block of 32 on any processor, in prompts too, unless it has matrix tiles: faster prompts, and more tokens a second where many
    /// answers are generated at once; logits differ from [`Activations::Float`] by about 1% of their range. With AVX-512 VNNI prompts meet weights of
    /// six bits or fewer in blocks of 64, both as bytes of one scale: faster from some 100 tokens on, slower for less.
    Int8,
    /// Kept in `f32`: slower, and as exact as the stored weights are.
    Float,
}

impl Activations {
    /// Bytes of a quantised activation.
    pub(crate) const fn planes(self, isa: Isa) -> usize {
        match self {
            Self::Int8 => 1,
            Self::Quantized | Self::Float => isa.planes(),
        }
    }
}

impl FromStr for Activations {
    type Err = Error;

    /// `quantized`, `int8` or `float`.
    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "quantized" => Ok(Self::Quantized),
            "int8" => Ok(Self::Int8),
            "float" => Ok(Self::Float),
            other => Err(Error::InvalidParameter {
                name: "activations",
                got: other.to_string(),
                expected: "quantized, int8 or float".into(),
            }),
        }
    }
}

/// `rows` × `columns` weights (output × input features, as in Hugging Face checkpoints).
pub struct Matrix {
    rows: usize,
    columns: usize,
    dtype: Dtype,
    storage: Storage,
}

pub(crate) enum Storage {
    /// Row-major, as in the file; a slice of the mapping where nothing had to change.
    File(Bytes),
    Interleaved(Interleaved),
    /// For products of many rows only: see [`Matrix::into_panels`].
    Panels(Panels),
    /// As these, where products are made by matrix tiles.
    Tiles(amx::Stored),
}

impl std::fmt::Debug for Matrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Matrix({} × {}, {:?})", self.rows, self.columns, self.dtype)
    }
}

impl Matrix {
    /// Takes a tensor of two dimensions; formats with an integer kernel are interleaved now, once.
    ///
    /// # Errors
    /// [`Error::NotAMatrix`] unless it has two dimensions, none zero, and rows of whole blocks.
    pub fn new(tensor: StoredTensor) -> Result<Self, Error> {
        // Every row must be whole blocks; the checkpoint readers check the total length only.
        let shape = match *tensor.shape.as_slice() {
            [rows, columns] if rows > 0 && columns > 0 && columns % tensor.dtype.block_len() == 0 => {
                let bytes = tensor.dtype.bytes_for(columns).and_then(|row| row.checked_mul(rows));
                (bytes == Some(tensor.data.len())).then_some((rows, columns))
            }
            _ => None,
        };
        let Some((rows, columns)) = shape else {
            return Err(Error::NotAMatrix { name: tensor.name, shape: tensor.shape, dtype: tensor.dtype });
        };
        let storage = if Interleaved::supports(tensor.dtype, columns) {
            let weights = Interleaved::new(tensor.dtype, rows, columns, &tensor.data);
            release(&tensor.data);
            Storage::Interleaved(weights)
        } else {
            Storage::File(tensor.data)
        };
        Ok(Self { rows, columns, dtype: tensor.dtype, storage })
    }

    /// Repacks `f32` weights into the order of the tiles, which then read them where they lie. For models that only
    /// ever multiply many rows at once; the rows of a decode step would find them out of order. Other types stay as they are.
    ///
    /// Where the products are made by matrix tiles, the weights keep 16 significant bits: those that such a product takes.
    #[must_use]
    pub(crate) fn into_panels(mut self) -> Self {
        if self.dtype == Dtype::F32 && matches!(self.storage, Storage::File(_)) {
            let panels = if amx::suits(self.columns, Precision::F32) {
                Storage::Tiles(amx::Stored::new(isa(), self.rows, self.columns, &self))
            } else {
                Storage::Panels(Panels::new(self.rows, self.columns, |first, out| {
                    for start in (0..self.columns).step_by(256) {
                        let depth = (self.columns - start).min(256);
                        self.panel(isa(), first, start, depth, &mut out[start * COLUMNS..]);
                    }
                }))
            };
            if let Storage::File(bytes) = &self.storage {
                release(bytes);
            }
            self.storage = panels;
        }
        self
    }

    /// Rows: output features.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: input features.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The type of the stored weights.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Bytes of the weights, in memory or mapped.
    pub fn bytes(&self) -> usize {
        match &self.storage {
            Storage::File(bytes) => bytes.len(),
            Storage::Interleaved(weights) => weights.bytes(),
            Storage::Panels(weights) => weights.bytes(),
            Storage::Tiles(weights) => weights.bytes(),
        }
    }

    /// Rows that are streamed together.
    pub(crate) fn strip(&self) -> usize {
        match &self.storage {
            Storage::Interleaved(weights) => weights.lanes(),
            _ => 8,
        }
    }

    /// Decodes one row.
    ///
    /// # Panics
    /// If there is no such row, or `out` is not as long as a row.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.columns);
        match &self.storage {
            Storage::Interleaved(weights) => weights.row(row, out),
            Storage::Panels(weights) => weights.row(row, out),
            Storage::Tiles(weights) => weights.column(row, 0, out),
            Storage::File(_) => self.decode(row, 0, out),
        }
    }

    /// The inner products of some rows with each row of `x`, put one by one; or false, where they have to be decoded first. See [`plain::dots`].
    pub(crate) fn dots(&self, isa: Isa, rows: Range<usize>, x: &[f32], put: impl FnMut(usize, usize, f32)) -> bool {
        let Storage::File(bytes) = &self.storage else { return false };
        let size = self.columns / self.dtype.block_len() * self.dtype.block_bytes();
        plain::dots(isa, self.dtype, &bytes[rows.start * size..rows.end * size], x, self.columns, put)
    }

    /// All weights as `f32`, row-major: for devices without kernels of ours.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.rows * self.columns];
        out.chunks_exact_mut(self.columns).enumerate().for_each(|(row, out)| self.row(row, out));
        out
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Decodes columns `start..start + out.len()` of a row in file order; both whole blocks.
    fn decode(&self, row: usize, start: usize, out: &mut [f32]) {
        let Storage::File(bytes) = &self.storage else { unreachable!("file order") };
        let (len, size) = (self.dtype.block_len(), self.dtype.block_bytes());
        let from = (row * self.columns + start) / len * size;
        let bytes = &bytes[from..from + out.len() / len * size];
        if widen(isa(), self.dtype, bytes, out) {
            return;
        }
        block::dequantize(self.dtype, bytes, out).expect("type and lengths were checked when the matrix was made");
    }

    /// Decodes rows `first..first + 16`, columns `start..start + depth`, into `out[k·16 + row]`; rows past the end
    /// are zeros. `start` is a multiple of 256, and `depth` too unless it ends the row.
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, unused_mut))]
    pub(crate) fn panel(&self, isa: Isa, first: usize, start: usize, depth: usize, out: &mut [f32]) {
        let out = &mut out[..depth * COLUMNS];
        if first + COLUMNS > self.rows {
            out.fill(0.0);
        }
        match &self.storage {
            Storage::Interleaved(weights) => weights.panel(isa, first, start, depth, out),
            Storage::Panels(weights) => out.copy_from_slice(&weights.part(first, start)[..depth * COLUMNS]),
            Storage::Tiles(weights) => {
                let mut column = [0.0; 256];
                for (lane, row) in (first..self.rows.min(first + COLUMNS)).enumerate() {
                    for begin in (0..depth).step_by(256) {
                        let column = &mut column[..(depth - begin).min(256)];
                        weights.column(row, start + begin, column);
                        let out = out[begin * COLUMNS + lane..].iter_mut().step_by(COLUMNS);
                        out.zip(column).for_each(|(out, value)| *out = *value);
                    }
                }
            }
            Storage::File(bytes) => {
                let mut rows = [[0.0f32; 256]; 8];
                for half in (0..COLUMNS).step_by(8) {
                    let count = self.rows.saturating_sub(first + half).min(8);
                    #[cfg(target_arch = "x86_64")]
                    if isa.avx2() && self.dtype == Dtype::F32 && count == 8 && depth.is_multiple_of(8) {
                        let row = |r: usize| {
                            let from = ((first + half + r) * self.columns + start) * size_of::<f32>();
                            bytes[from..from + depth * size_of::<f32>()].as_ptr().cast::<f32>()
                        };
                        let rows: [*const f32; 8] = std::array::from_fn(row);
                        assert!(out.len() >= depth * COLUMNS);
                        for k in (0..depth).step_by(8) {
                            // SAFETY: AVX2 was detected; eight columns from `k` are inside the rows and inside `out`.
                            unsafe { transpose8(rows, k, out.as_mut_ptr().add(k * COLUMNS + half), COLUMNS) };
                        }
                        continue;
                    }
                    for (begin, end) in (0..depth).step_by(256).map(|k| (k, (k + 256).min(depth))) {
                        for (r, row) in rows.iter_mut().enumerate().take(count) {
                            self.decode(first + half + r, start + begin, &mut row[..end - begin]);
                        }
                        rows[count..].iter_mut().for_each(|row| row.fill(0.0));
                        transpose(isa, &rows, end - begin, &mut out[begin * COLUMNS + half..]);
                    }
                }
            }
        }
    }
}

#[cfg(feature = "tune")]
impl Matrix {
    /// The values, row-major, where they lie as floats of this machine.
    pub(super) fn floats(&self) -> Option<&[f32]> {
        let Storage::File(bytes) = &self.storage else { return None };
        if self.dtype != Dtype::F32 || cfg!(target_endian = "big") {
            return None;
        }
        // SAFETY: any bits are floats.
        let (before, values, after) = unsafe { bytes.align_to::<f32>() };
        (before.is_empty() && after.is_empty()).then_some(values)
    }
}

impl amx::Panels for Matrix {
    fn panel<'a>(&'a self, isa: Isa, first: usize, rows: Range<usize>, to: &'a mut [f32]) -> amx::Panel<'a> {
        Matrix::panel(self, isa, first, rows.start, rows.len(), to);
        amx::Panel { values: to, stride: COLUMNS }
    }

    fn interleaved(&self) -> Option<&Interleaved> {
        match &self.storage {
            Storage::Interleaved(weights) => Some(weights),
            _ => None,
        }
    }
}

/// `out[k·16 + r] = row(r)[k]` for `k < depth` and `r < count`, at most 16, zeros where `r` is more.
///
/// # Panics
/// If a row or `out` is shorter.
#[cfg(feature = "tune")]
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, unused_mut))]
pub(super) fn pack_rows<'a>(isa: Isa, count: usize, depth: usize, row: impl Fn(usize) -> &'a [f32], out: &mut [f32]) {
    assert!(count <= COLUMNS && out.len() >= depth * COLUMNS);
    if count < COLUMNS {
        out[..depth * COLUMNS].fill(0.0);
    }
    for half in (0..count).step_by(8) {
        let mut from = 0;
        #[cfg(target_arch = "x86_64")]
        if isa.avx2() && count >= half + 8 {
            let rows: [*const f32; 8] = std::array::from_fn(|r| row(half + r)[..depth].as_ptr());
            while from + 8 <= depth {
                // SAFETY: AVX2 was detected; eight columns from `from` are inside the rows and inside `out`.
                unsafe { transpose8(rows, from, out.as_mut_ptr().add(from * COLUMNS + half), COLUMNS) };
                from += 8;
            }
        }
        for r in half..count.min(half + 8) {
            let row = row(r);
            (from..depth).for_each(|k| out[k * COLUMNS + r] = row[k]);
        }
    }
}

/// `out[k · count + r] = row(r)[k]` for `r < count`, where `out` has as many values as the rows together.
///
/// # Panics
/// If a row is shorter than `out` says.
#[cfg(feature = "tune")]
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, unused_mut))]
pub(super) fn turn_rows<'a>(isa: Isa, count: usize, row: impl Fn(usize) -> &'a [f32], out: &mut [f32]) {
    let depth = out.len() / count.max(1);
    assert_eq!(out.len(), count * depth);
    let mut first = 0;
    #[cfg(target_arch = "x86_64")]
    if isa.avx2() {
        while first + 8 <= count {
            let rows: [*const f32; 8] = std::array::from_fn(|r| row(first + r)[..depth].as_ptr());
            let whole = depth / 8 * 8;
            for k in (0..whole).step_by(8) {
                // SAFETY: AVX2 was detected; eight columns from `k` are inside the rows, and eight rows from `first` inside `out`.
                unsafe { transpose8(rows, k, out.as_mut_ptr().add(k * count + first), count) };
            }
            for r in first..first + 8 {
                let row = row(r);
                (whole..depth).for_each(|k| out[k * count + r] = row[k]);
            }
            first += 8;
        }
    }
    for r in first..count {
        let row = row(r);
        (0..depth).for_each(|k| out[k * count + r] = row[k]);
    }
}

/// `out[k·16 + r] = rows[r][k]` for `k < depth`.
fn transpose(isa: Isa, rows: &[[f32; 256]; 8], depth: usize, out: &mut [f32]) {
    assert!(depth <= 256 && (depth == 0 || out.len() >= (depth - 1) * COLUMNS + 8));
    // AVX2 does eight columns at a time.
    let fast = if isa.avx2() { depth / 8 * 8 } else { 0 };
    #[cfg(target_arch = "x86_64")]
    for k in (0..fast).step_by(8) {
        // SAFETY: AVX2 was detected; eight columns from `k` are inside the rows and inside `out`.
        unsafe { transpose8(rows.each_ref().map(|row| row.as_ptr()), k, out.as_mut_ptr().add(k * COLUMNS), COLUMNS) };
    }
    for k in fast..depth {
        for (r, row) in rows.iter().enumerate() {
            out[k * COLUMNS + r] = row[k];
        }
    }
}

/// # Safety
/// AVX2; eight floats from `k` on in each row, aligned or not; `out` holds `7 · stride + 8` floats.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn transpose8(rows: [*const f32; 8], k: usize, out: *mut f32, stride: usize) {
    use std::arch::x86_64::*;
    // SAFETY: by the contract.
    let r: [__m256; 8] = std::array::from_fn(|i| unsafe { _mm256_loadu_ps(rows[i].wrapping_add(k)) });
    let lo = |i: usize| _mm256_unpacklo_ps(r[i], r[i + 1]);
    let hi = |i: usize| _mm256_unpackhi_ps(r[i], r[i + 1]);
    let (a, b, c, d) = ((lo(0), hi(0)), (lo(2), hi(2)), (lo(4), hi(4)), (lo(6), hi(6)));
    let top = [
        _mm256_shuffle_ps::<0x44>(a.0, b.0),
        _mm256_shuffle_ps::<0xEE>(a.0, b.0),
        _mm256_shuffle_ps::<0x44>(a.1, b.1),
        _mm256_shuffle_ps::<0xEE>(a.1, b.1),
    ];
    let bottom = [
        _mm256_shuffle_ps::<0x44>(c.0, d.0),
        _mm256_shuffle_ps::<0xEE>(c.0, d.0),
        _mm256_shuffle_ps::<0x44>(c.1, d.1),
        _mm256_shuffle_ps::<0xEE>(c.1, d.1),
    ];
    for i in 0..4 {
        // SAFETY: by the contract.
        unsafe {
            _mm256_storeu_ps(out.add(i * stride), _mm256_permute2f128_ps::<0x20>(top[i], bottom[i]));
            _mm256_storeu_ps(out.add((i + 4) * stride), _mm256_permute2f128_ps::<0x31>(top[i], bottom[i]));
        }
    }
}

/// The inner product of two slices of equal length.
pub(crate) fn dot(isa: Isa, a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: AVX2 and FMA were detected; the lengths are equal.
        _ if isa.avx2() => unsafe { dot_avx2(a, b) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: NEON was detected; the lengths are equal.
        Isa::Neon => unsafe { dot_neon(a, b) },
        _ => a.iter().zip(b).map(|(a, b)| a * b).sum(),
    }
}

/// # Safety
/// AVX2 and FMA; equal lengths.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn dot_avx2(a: &[f32], b: &[f32]) -> f32 {
    use std::arch::x86_64::*;
    let mut sums = [_mm256_setzero_ps(); 4];
    let whole = a.len() / 32 * 32;
    for k in (0..whole).step_by(32) {
        for (i, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `k + 32 <= whole`.
            unsafe {
                let (a, b) = (_mm256_loadu_ps(a.as_ptr().add(k + 8 * i)), _mm256_loadu_ps(b.as_ptr().add(k + 8 * i)));
                *sum = _mm256_fmadd_ps(a, b, *sum);
            }
        }
    }
    let sum = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
    let mut lanes = [0.0f32; 8];
    // SAFETY: eight floats.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sum) };
    lanes.iter().sum::<f32>() + a[whole..].iter().zip(&b[whole..]).map(|(a, b)| a * b).sum::<f32>()
}

/// # Safety
/// NEON; equal lengths.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
unsafe fn dot_neon(a: &[f32], b: &[f32]) -> f32 {
    use std::arch::aarch64::*;
    let mut sums = [vdupq_n_f32(0.0); 8];
    let whole = a.len() / 32 * 32;
    for k in (0..whole).step_by(32) {
        for (i, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `k + 32 <= whole`.
            unsafe {
                *sum = vfmaq_f32(*sum, vld1q_f32(a.as_ptr().add(k + 4 * i)), vld1q_f32(b.as_ptr().add(k + 4 * i)))
            };
        }
    }
    let sum = sums.into_iter().fold(vdupq_n_f32(0.0), |sum, part| vaddq_f32(sum, part));
    vaddvq_f32(sum) + a[whole..].iter().zip(&b[whole..]).map(|(a, b)| a * b).sum::<f32>()
}
