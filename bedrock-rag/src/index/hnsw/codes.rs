//! Vectors in whole numbers.
//!
//! A normalised vector is its largest value (in amount) and, for each value, a number of 16 bits in relation to that. The numbers
//! are kept as two rows of bytes: the high ones alone are the vector in 8 bits, which is what a walk through the graph reads (a
//! quarter of the memory traffic of `f32`); with the low ones the cosine is exact to a few hundred-thousandths, which is what results are
//! ranked by. Half the memory of `f32` for both.

use std::io;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::memory::Memory;
use crate::index::distance::{Kernel, LINE};

/// How exactly vectors are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 16 bits a value: similarities are exact to a few hundred-thousandths. The walk through the graph reads 8 of them.
    #[default]
    Sixteen,
    /// 8 bits a value: half the memory, similarities exact to about a thousandth.
    Eight,
}

/// The largest number in 16 bits: one whose high byte, rounded, still is one.
const LARGEST: f32 = 127.0 * 256.0;

/// Rows of numbers, each padded with zeros to whole lines.
#[derive(Debug)]
pub(super) struct Codes {
    /// Bytes of a row.
    pub(super) stride: usize,
    pub(super) high: Memory<i8>,
    pub(super) low: Option<Memory<i8>>,
    /// What one unit of the 16 bits is worth.
    pub(super) scales: Vec<f32>,
}

/// A vector to compare with, in the same numbers, always with all 16 bits.
#[derive(Clone, Debug, Default)]
pub(super) struct Query {
    pub(super) high: Vec<i8>,
    low: Vec<i8>,
    scale: f32,
}

pub(super) fn stride_of(dimensions: usize) -> usize {
    dimensions.next_multiple_of(LINE)
}

/// Splits a normalised vector; returns its scale.
fn encode(vector: &[f32], high: &mut [i8], mut low: Option<&mut [i8]>) -> f32 {
    let largest = vector.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let units = LARGEST / largest;
    for (index, value) in vector.iter().enumerate() {
        let number = (value * units).round() as i32;
        let rounded = ((number + 128) >> 8).clamp(-127, 127);
        high[index] = rounded as i8;
        if let Some(low) = &mut low {
            // −128 becomes −127, because kernels want the amount of a byte to be one: one unit in 65,024 off, now and then.
            low[index] = (number - rounded * 256).clamp(-127, 127) as i8;
        }
    }
    largest / LARGEST
}

impl Query {
    /// `vector` is normalised.
    pub(super) fn new(vector: &[f32]) -> Self {
        let stride = stride_of(vector.len());
        let (mut high, mut low) = (vec![0; stride], vec![0; stride]);
        let scale = encode(vector, &mut high, Some(&mut low));
        Self { high, low, scale }
    }
}

impl Codes {
    /// Room for `rows` vectors.
    pub(super) fn zeroed(precision: Precision, dimensions: usize, rows: usize) -> io::Result<Self> {
        let stride = stride_of(dimensions);
        let bytes = rows.checked_mul(stride).ok_or(io::ErrorKind::OutOfMemory)?;
        let low = if precision == Precision::Sixteen { Some(Memory::zeroed(bytes)?) } else { None };
        Ok(Self { stride, high: Memory::zeroed(bytes)?, low, scales: vec![0.0; rows] })
    }

    /// Takes rows over from `other` (which has the same stride and precision) to the places from 0 on.
    pub(super) fn copy_rows(&mut self, other: &Self, rows: &[u32]) {
        let stride = self.stride;
        for (to, &from) in rows.iter().enumerate() {
            let (to_bytes, from_bytes) = (to * stride..(to + 1) * stride, from as usize * stride);
            let from_bytes = from_bytes..from_bytes + stride;
            self.high.as_mut()[to_bytes.clone()].copy_from_slice(&other.high.as_ref()[from_bytes.clone()]);
            if let (Some(low), Some(other)) = (&mut self.low, &other.low) {
                low.as_mut()[to_bytes].copy_from_slice(&other.as_ref()[from_bytes]);
            }
            self.scales[to] = other.scales[from as usize];
        }
    }

    /// Puts normalised vectors into the places from `first` on.
    pub(super) fn encode_rows(&mut self, first: usize, dimensions: usize, vectors: &[f32]) {
        let stride = self.stride;
        let rows = vectors.par_chunks_exact(dimensions);
        let high = self.high.as_mut()[first * stride..].par_chunks_exact_mut(stride);
        let scales = self.scales[first..].par_iter_mut();
        match &mut self.low {
            Some(low) => {
                let low = low.as_mut()[first * stride..].par_chunks_exact_mut(stride);
                rows.zip(high).zip(low).zip(scales).for_each(|(((vector, high), low), scale)| {
                    *scale = encode(vector, high, Some(low));
                });
            }
            None => rows.zip(high).zip(scales).for_each(|((vector, high), scale)| *scale = encode(vector, high, None)),
        }
    }

    /// The 8 bits of a row.
    #[inline(always)]
    pub(super) fn high(&self, row: u32) -> &[i8] {
        row_of(self.high.as_ref(), self.stride, row)
    }

    /// What a walk compares: proportional to the cosine to `query`, from 8 bits.
    #[inline(always)]
    pub(super) fn rough<K: Kernel>(&self, kernel: K, query: &[i8], row: u32) -> f32 {
        kernel.dot_bytes(query, self.high(row)) as f32 * self.scales[row as usize]
    }

    /// The cosine of two rows, from 8 bits.
    #[inline(always)]
    pub(super) fn between<K: Kernel>(&self, kernel: K, a: u32, b: u32) -> f32 {
        self.rough(kernel, self.high(a), b) * self.scales[a as usize]
    }

    /// The cosine from all bits there are. In whole numbers, so that it is the same on every processor.
    #[inline(always)]
    pub(super) fn cosine<K: Kernel>(&self, kernel: K, query: &Query, row: u32) -> f32 {
        let high = self.high(row);
        let mut sum = i64::from(kernel.dot_bytes(&query.high, high)) << 16;
        sum += i64::from(kernel.dot_bytes(&query.low, high)) << 8;
        if let Some(low) = &self.low {
            let low = row_of(low.as_ref(), self.stride, row);
            sum += i64::from(kernel.dot_bytes(&query.high, low)) << 8;
            sum += i64::from(kernel.dot_bytes(&query.low, low));
        }
        (sum as f64 * f64::from(query.scale) * f64::from(self.scales[row as usize])) as f32
    }
}

#[inline(always)]
fn row_of(bytes: &[i8], stride: usize, row: u32) -> &[i8] {
    let start = row as usize * stride;
    &bytes[start..start + stride]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::distance::{Job, dot, with_kernel};
    use crate::index::normalize;

    struct Compare<'a>(&'a Codes, &'a Query);
    impl Job for Compare<'_> {
        type Output = (f32, f32);
        #[inline(always)]
        fn run<K: Kernel>(self, kernel: K) -> (f32, f32) {
            let Self(codes, query) = self;
            let unit = 256.0 * 256.0 * query.scale;
            (codes.cosine(kernel, query, 1), codes.rough(kernel, &query.high, 1) * unit)
        }
    }

    /// How far rounding may move a product of a row, off by at most `off` units of its scale a value, from what it stands for.
    fn rounding(a: (&[f32], f32), b: (&[f32], f32)) -> f32 {
        let units =
            |vector: &[f32], off| off * vector.iter().fold(0.0f32, |largest, value| largest.max(value.abs())) / LARGEST;
        let amount = |vector: &[f32]| vector.iter().map(|value| value.abs()).sum::<f32>();
        let (off_a, off_b) = (units(a.0, a.1), units(b.0, b.1));
        let dimensions = a.0.len() as f32;
        // The rest is of sums in `f32`: of the exact product, and of the result.
        amount(a.0) * off_b + amount(b.0) * off_a + dimensions * off_a * off_b + (dimensions + 2.0) * f32::EPSILON
    }

    /// Units that a number of 16 bits is off by: half a one, one more where its low byte is cut, and what `f32` loses.
    const FINE: f32 = 1.51;
    /// Units that a number's high byte is off by.
    const COARSE: f32 = 128.51;

    proptest! {
        #[test]
        fn bytes_are_near_and_both_bytes_are_nearer(pairs in prop::collection::vec((-1.0f32..1.0, -1.0f32..1.0), 1..200)) {
            let (mut a, mut b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            prop_assume!(normalize(&mut a, 0).is_ok() && normalize(&mut b, 0).is_ok());
            let exact = dot(&a, &b);
            for (precision, off) in [(Precision::Sixteen, FINE), (Precision::Eight, COARSE)] {
                let mut codes = Codes::zeroed(precision, a.len(), 2).unwrap();
                codes.encode_rows(1, a.len(), &b);
                let (fine, rough) = with_kernel(Compare(&codes, &Query::new(&a)));
                prop_assert!((fine - exact).abs() <= rounding((&a, FINE), (&b, off)), "{fine} is not {exact}");
                prop_assert!((rough - exact).abs() <= rounding((&a, COARSE), (&b, COARSE)), "{rough} is not {exact}");
                let mut copied = Codes::zeroed(precision, a.len(), 2).unwrap();
                copied.copy_rows(&codes, &[0, 1]);
                prop_assert_eq!(with_kernel(Compare(&copied, &Query::new(&a))), (fine, rough));
            }
        }
    }
}
