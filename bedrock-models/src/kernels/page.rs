//! Keys and values of 64 positions of one layer: what a cache is made of.
//!
//! Keys are transposed, `[kv head][head_dim][64]`, so that a row of queries meets 16 of them at a time in a tile; values are `[kv head][64][head_dim]`, so that
//! their weighted sum is a tile as well. Of bytes, the key and the value of a position and head have a scale each: it belongs to a column of
//! the one product and to a row of the other, and so to a score or a weight, and the numbers themselves need none.

use std::str::FromStr;
use std::sync::Arc;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::attention::Heads;
use super::elementwise::compiled;
use super::isa::{Isa, isa};
use super::prefetch::ask_for;
use crate::error::Error;

/// Positions a page.
pub(crate) const PAGE: usize = 64;

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheType {
    /// In single precision.
    #[default]
    F32,
    /// In half precision: half the memory, and half of what a token reads after a long context. Numbers beyond its range become the largest of it.
    F16,
    /// In 8 bits with a scale for each position and head: little more than a quarter of the memory, and of what a token reads after a long context. Logits differ by
    /// about as much as those of Q8_0 weights.
    Q8,
}

impl FromStr for CacheType {
    type Err = Error;

    /// `f32`, `f16` or `q8`.
    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "q8" => Ok(Self::Q8),
            other => Err(Error::InvalidParameter {
                name: "cache_type",
                got: other.to_string(),
                expected: "f32, f16 or q8".into(),
            }),
        }
    }
}

/// Keys and values of 64 positions of one layer. A clone shares them, until one of the two is written to.
#[derive(Clone)]
pub(crate) struct Page(Arc<Stored>);

#[derive(Clone)]
enum Stored {
    Floats { keys: Box<[f32]>, values: Box<[f32]> },
    Halves { keys: Box<[f16]>, values: Box<[f16]> },
    Bytes { keys: Box<[i8]>, values: Box<[i8]>, scales: Box<[Scales]> },
}

/// Those of a head.
#[derive(Clone, Copy)]
struct Scales {
    keys: [f32; PAGE],
    values: [f32; PAGE],
}

/// The keys or the values of a head, and what each position's are to be multiplied by.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) numbers: Numbers<'a>,
    pub(super) scales: Option<&'a [f32; PAGE]>,
}

/// Numbers as they are kept.
#[derive(Clone, Copy)]
pub(super) enum Numbers<'a> {
    Floats(&'a [f32]),
    Halves(&'a [f16]),
    Bytes(&'a [i8]),
}

impl<'a> Numbers<'a> {
    /// The same as floats: where they lie, or written to `to`, which has room for `all` from the first time on.
    pub(super) fn widened(self, isa: Isa, all: usize, to: &'a mut Vec<f32>) -> &'a [f32] {
        let len = match self {
            Self::Floats(numbers) => return numbers,
            Self::Halves(numbers) => numbers.len(),
            Self::Bytes(numbers) => numbers.len(),
        };
        to.resize(all, 0.0);
        let to = &mut to[..len];
        match self {
            Self::Floats(_) => {}
            Self::Halves(numbers) => numbers.convert_to_f32_slice(to),
            Self::Bytes(numbers) => widen(isa, numbers, to),
        }
        to
    }
}

impl Page {
    pub(crate) fn new(heads: Heads, kind: CacheType) -> Self {
        let (keys, values) = (heads.keys * heads.dim * PAGE, heads.keys * heads.padded() * PAGE);
        Self(Arc::new(match kind {
            CacheType::F32 => Stored::Floats { keys: vec![0.0; keys].into(), values: vec![0.0; values].into() },
            CacheType::F16 => {
                Stored::Halves { keys: vec![f16::ZERO; keys].into(), values: vec![f16::ZERO; values].into() }
            }
            CacheType::Q8 => Stored::Bytes {
                keys: vec![0; keys].into(),
                values: vec![0; values].into(),
                scales: vec![Scales { keys: [0.0; PAGE], values: [0.0; PAGE] }; heads.keys].into(),
            },
        }))
    }

    /// Whether a clone of it exists.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Whether both are the same memory.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The first number of the first head's key at a slot.
    #[cfg(test)]
    pub(crate) fn key(&self, slot: usize) -> f32 {
        match &*self.0 {
            Stored::Floats { keys, .. } => keys[slot],
            Stored::Halves { keys, .. } => keys[slot].to_f32(),
            Stored::Bytes { keys, scales, .. } => f32::from(keys[slot]) * scales[0].keys[slot],
        }
    }

    /// Bytes of a page of such heads.
    pub(crate) fn bytes(heads: Heads, kind: CacheType) -> usize {
        let numbers = heads.keys * (heads.dim + heads.padded()) * PAGE;
        match kind {
            CacheType::F32 => numbers * size_of::<f32>(),
            CacheType::F16 => numbers * size_of::<f16>(),
            CacheType::Q8 => numbers + heads.keys * size_of::<Scales>(),
        }
    }

    /// Stores keys and values (`[keys · dim]` each) of the position `slot` of the page.
    ///
    /// # Panics
    /// If there is no such slot, or the lengths are others.
    pub(crate) fn write(&mut self, heads: Heads, slot: usize, key: &[f32], value: &[f32]) {
        let (dim, padded) = (heads.dim, heads.padded());
        assert!(slot < PAGE && key.len() == heads.keys * dim && value.len() == key.len());
        let rows = key.chunks_exact(dim).zip(value.chunks_exact(dim)).enumerate();
        match Arc::make_mut(&mut self.0) {
            Stored::Floats { keys, values } => rows.for_each(|(head, (key, value))| {
                let keys = &mut keys[head * dim * PAGE..][..dim * PAGE];
                key.iter().enumerate().for_each(|(i, key)| keys[i * PAGE + slot] = *key);
                values[(head * PAGE + slot) * padded..][..dim].copy_from_slice(value);
            }),
            Stored::Halves { keys, values } => {
                let mut halves = vec![f16::ZERO; dim];
                let mut near = vec![0.0; dim];
                let largest = f16::MAX.to_f32();
                let mut narrow = |numbers: &[f32], halves: &mut [f16]| {
                    near.iter_mut().zip(numbers).for_each(|(to, x)| *to = x.clamp(-largest, largest));
                    halves.convert_from_f32_slice(&near);
                };
                rows.for_each(|(head, (key, value))| {
                    let keys = &mut keys[head * dim * PAGE..][..dim * PAGE];
                    narrow(key, &mut halves);
                    halves.iter().enumerate().for_each(|(i, key)| keys[i * PAGE + slot] = *key);
                    narrow(value, &mut values[(head * PAGE + slot) * padded..][..dim]);
                });
            }
            Stored::Bytes { keys, values, scales } => {
                let mut bytes = vec![0; dim];
                rows.for_each(|(head, (key, value))| {
                    let keys = &mut keys[head * dim * PAGE..][..dim * PAGE];
                    scales[head].keys[slot] = narrow(isa(), key, &mut bytes);
                    bytes.iter().enumerate().for_each(|(i, key)| keys[i * PAGE + slot] = *key);
                    let values = &mut values[(head * PAGE + slot) * padded..][..dim];
                    scales[head].values[slot] = narrow(isa(), value, values);
                });
            }
        }
    }

    /// The keys of a head, `[dim][64]`.
    pub(super) fn keys(&self, heads: Heads, head: usize) -> Side<'_> {
        let part = head * heads.dim * PAGE..(head + 1) * heads.dim * PAGE;
        match &*self.0 {
            Stored::Floats { keys, .. } => Side { numbers: Numbers::Floats(&keys[part]), scales: None },
            Stored::Halves { keys, .. } => Side { numbers: Numbers::Halves(&keys[part]), scales: None },
            Stored::Bytes { keys, scales, .. } => {
                Side { numbers: Numbers::Bytes(&keys[part]), scales: Some(&scales[head].keys) }
            }
        }
    }

    /// The values of a head, `[64][padded]`.
    pub(super) fn values(&self, heads: Heads, head: usize) -> Side<'_> {
        let part = head * PAGE * heads.padded()..(head + 1) * PAGE * heads.padded();
        match &*self.0 {
            Stored::Floats { values, .. } => Side { numbers: Numbers::Floats(&values[part]), scales: None },
            Stored::Halves { values, .. } => Side { numbers: Numbers::Halves(&values[part]), scales: None },
            Stored::Bytes { values, scales, .. } => {
                Side { numbers: Numbers::Bytes(&values[part]), scales: Some(&scales[head].values) }
            }
        }
    }

    /// Asks for the keys of a head to be brought near.
    pub(super) fn ask_for_keys(&self, heads: Heads, head: usize) {
        let (first, count) = (head * heads.dim * PAGE, heads.dim * PAGE);
        match &*self.0 {
            Stored::Floats { keys, .. } => ask_for(keys[first..].as_ptr().cast(), count * size_of::<f32>()),
            Stored::Halves { keys, .. } => ask_for(keys[first..].as_ptr().cast(), count * size_of::<f16>()),
            Stored::Bytes { keys, .. } => ask_for(keys[first..].as_ptr().cast(), count),
        }
    }

    /// Asks for the values of a head to be brought near.
    pub(super) fn ask_for_values(&self, heads: Heads, head: usize) {
        let (first, count) = (head * PAGE * heads.padded(), PAGE * heads.padded());
        match &*self.0 {
            Stored::Floats { values, .. } => ask_for(values[first..].as_ptr().cast(), count * size_of::<f32>()),
            Stored::Halves { values, .. } => ask_for(values[first..].as_ptr().cast(), count * size_of::<f16>()),
            Stored::Bytes { values, .. } => ask_for(values[first..].as_ptr().cast(), count),
        }
    }
}

compiled! {
    /// Makes bytes of numbers, as many, and returns what they are to be multiplied by. Where a number is not finite this is not either, so that it shows.
    fn narrow<FMA>(isa, numbers: &[f32], bytes: &mut [i8]) -> f32 {
        // Adding 1.5·2²³ rounds to the nearest integer and leaves it in the last bits.
        const ROUND: f32 = 12_582_912.0;
        let (mut largest, mut odd) = ([0.0f32; 16], [0.0f32; 16]);
        for numbers in numbers.chunks(16) {
            for ((x, largest), odd) in numbers.iter().zip(&mut largest).zip(&mut odd) {
                let size = x.abs();
                *largest = if size > *largest { size } else { *largest };
                // Zero for a finite number, NaN otherwise.
                *odd += x * 0.0;
            }
        }
        let largest = largest.iter().fold(0.0f32, |a, b| a.max(*b));
        let factor = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        for (byte, x) in bytes.iter_mut().zip(numbers) {
            *byte = (x * factor + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i8;
        }
        largest / 127.0 + odd.iter().sum::<f32>()
    }
}

compiled! {
    fn widen<FMA>(isa, bytes: &[i8], out: &mut [f32]) {
        for (out, byte) in out.iter_mut().zip(bytes) {
            *out = f32::from(*byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: Heads = Heads { queries: 4, keys: 2, dim: 20, scale: 1.0 };

    #[test]
    fn numbers_come_back_as_exact_as_their_type() {
        for (kind, bound) in [(CacheType::F32, 0.0), (CacheType::F16, 0.5 / 1024.0), (CacheType::Q8, 0.5 / 127.0)] {
            let mut page = Page::new(HEADS, kind);
            let row = |slot: usize, salt: usize| -> Vec<f32> {
                (0..40).map(|i| (((slot * 40 + i) * 31 + salt) % 201) as f32 * (slot as f32 - 30.0) * 1e-3).collect()
            };
            (0..PAGE).for_each(|slot| page.write(HEADS, slot, &row(slot, 1), &row(slot, 7)));
            let shared = page.clone();
            page.write(HEADS, 5, &row(9, 3), &row(9, 4));
            for (head, slot) in (0..2).flat_map(|head| (0..PAGE).map(move |slot| (head, slot))) {
                let (keys, values) = (shared.keys(HEADS, head), shared.values(HEADS, head));
                let check = |side: Side<'_>, at: &dyn Fn(usize) -> usize, row: Vec<f32>| {
                    let row = &row[head * 20..][..20];
                    let largest = row.iter().fold(0.0f32, |a, b| a.max(b.abs()));
                    let scale = side.scales.map_or(1.0, |scales| scales[slot]);
                    let mut room = Vec::new();
                    let numbers = side.numbers.widened(isa(), PAGE * HEADS.padded(), &mut room);
                    for (i, want) in row.iter().enumerate() {
                        let got = numbers[at(i)] * scale;
                        assert!(
                            (got - want).abs() <= bound * 1.001 * largest,
                            "{kind:?} {head} {slot} {i}: {got} {want}"
                        );
                    }
                };
                check(keys, &|i| i * PAGE + slot, row(slot, 1));
                check(values, &|i| slot * HEADS.padded() + i, row(slot, 7));
            }
        }
    }

    #[test]
    fn what_is_not_finite_shows() {
        let first = |page: &Page, head: usize, i: usize| {
            let side = page.values(HEADS, head);
            let mut room = Vec::new();
            let number = side.numbers.widened(isa(), PAGE * HEADS.padded(), &mut room)[i];
            number * side.scales.map_or(1.0, |scales| scales[0])
        };
        for (odd, kind) in [(f32::NAN, CacheType::F16), (f32::NAN, CacheType::Q8), (f32::INFINITY, CacheType::Q8)] {
            let mut page = Page::new(HEADS, kind);
            let row: Vec<f32> = (0..40).map(|i| if i == 3 { odd } else { 1.0 }).collect();
            page.write(HEADS, 0, &row, &row);
            assert!(!first(&page, 0, 3).is_finite());
            assert_eq!(first(&page, 1, 0), 1.0);
        }
        // What is too large for half precision is not: it is the largest of it.
        let mut page = Page::new(HEADS, CacheType::F16);
        page.write(HEADS, 0, &[-1e30; 40], &[-1e30; 40]);
        assert_eq!(first(&page, 0, 0), f16::MIN.to_f32());
    }

    #[test]
    fn bytes_are_what_a_page_takes() {
        assert_eq!(Page::bytes(HEADS, CacheType::F32), 2 * (20 + 32) * 64 * 4);
        assert_eq!(Page::bytes(HEADS, CacheType::Q8), 2 * (20 + 32) * 64 + 2 * 2 * 64 * 4);
        assert_eq!(Page::bytes(HEADS, CacheType::F16), 2 * (20 + 32) * 64 * 2);
        assert_eq!("f16".parse::<CacheType>().unwrap(), CacheType::F16);
        assert_eq!("q8".parse::<CacheType>().unwrap(), CacheType::Q8);
        assert!("q4".parse::<CacheType>().is_err());
    }
}
